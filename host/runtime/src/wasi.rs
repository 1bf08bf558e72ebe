//! What a plugin sees of the world through WASI 0.2: its console, the environment variables it
//! was granted, `/dataset` to read, `/scratch` to write, coarse clocks, and chance that comes
//! from the run's seed. No arguments, no standard input, no sockets.

mod clock;
mod console;
mod filesystem;
mod scratch;

use std::path::Path;

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use trainshed_core::autolog::Autolog;
use trainshed_core::report::LineSource;
use wasmtime::component::{HasData, Linker};
use wasmtime_wasi::p2::bindings::filesystem::types;
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder};

use crate::job::Job;
use crate::state::TaskState;

pub(crate) use console::{Console, MAX_LINE_BYTES, not_stored};
pub(crate) use filesystem::Filesystem;
pub(crate) use scratch::Scratch;

/// Most random bytes of one call.
const MAX_RANDOM_BYTES: u64 = 16 << 20;

/// What a task sees.
///
/// # Errors
/// When one of its folders cannot be opened.
pub(crate) fn for_task(
    job: &Job,
    scratch_dir: &Path,
    console: &Console,
) -> wasmtime::Result<WasiCtx> {
    let mut builder = outside_any_task(job.seed, console);
    let is_kept = Autolog::of(&job.params).stdout;
    builder
        .stdout(console.stream(LineSource::Stdout).kept_if(is_kept))
        .stderr(console.stream(LineSource::Stderr).kept_if(is_kept));
    for (name, value) in &job.environment {
        builder.env(name, value);
    }
    builder.preopened_dir(&job.dataset.dir, "/dataset", FsPerms::ReadOnly)?;
    builder.preopened_dir(scratch_dir, "/scratch", FsPerms::ReadWrite)?;
    Ok(builder.build())
}

/// What a plugin sees that is asked to describe itself.
pub(crate) fn for_describe(console: &Console) -> WasiCtx {
    outside_any_task(0, console).build()
}

fn outside_any_task(seed: u64, console: &Console) -> WasiCtxBuilder {
    let chance = |stream| {
        let mut generator = ChaCha12Rng::seed_from_u64(seed);
        generator.set_stream(stream);
        generator
    };
    let mut for_hash_maps = chance(2);
    let hash_seed =
        u128::from(for_hash_maps.next_u64()) << 64 | u128::from(for_hash_maps.next_u64());
    let mut builder = WasiCtxBuilder::new();
    builder
        // The run has a thread of its own.
        .allow_blocking_current_thread(true)
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false)
        .stdout(console.stream(LineSource::Stdout))
        .stderr(console.stream(LineSource::Stderr))
        .secure_random(chance(0))
        .insecure_random(chance(1))
        .insecure_random_seed(hash_seed)
        .max_random_size(MAX_RANDOM_BYTES)
        .wall_clock(clock::Wall)
        .monotonic_clock(clock::Monotonic::start());
    builder
}

/// Defines WASI in `linker`, with the file system under the scratch quota.
///
/// # Errors
/// When a name is defined twice, which is a fault of ours.
pub(crate) fn add_to_linker(linker: &mut Linker<TaskState>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    linker.allow_shadowing(true);
    types::add_to_linker::<TaskState, HasFilesystem>(linker, TaskState::filesystem)?;
    linker.allow_shadowing(false);
    Ok(())
}

struct HasFilesystem;

impl HasData for HasFilesystem {
    type Data<'a> = Filesystem<'a>;
}

impl TaskState {
    fn filesystem(&mut self) -> Filesystem<'_> {
        Filesystem::new(self.wasi.filesystem(), &mut self.table, &self.scratch)
    }
}
