//! What a plugin can call, beside WASI: one file per interface of `wit/`.

pub(crate) mod artifacts;
pub(crate) mod checkpoint;
pub(crate) mod compute;
pub(crate) mod dataset;
pub(crate) mod models;
mod reports;
pub(crate) mod run;
mod settings;

use wasmtime::Engine;
use wasmtime::component::{HasSelf, Linker};

use crate::bindings::trainshed::plugin;
use crate::state::TaskState;
use crate::wasi;

/// A linker that offers everything of the contract.
///
/// # Errors
/// When a name is defined twice, which is a fault of ours.
pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<TaskState>> {
    let mut linker = Linker::new(engine);
    wasi::add_to_linker(&mut linker)?;
    plugin::types::add_to_linker::<TaskState, HasSelf<TaskState>>(&mut linker, |state| state)?;
    plugin::run::add_to_linker::<TaskState, HasSelf<TaskState>>(&mut linker, |state| state)?;
    plugin::dataset::add_to_linker::<TaskState, HasSelf<TaskState>>(&mut linker, |state| state)?;
    plugin::checkpoint::add_to_linker::<TaskState, HasSelf<TaskState>>(&mut linker, |state| state)?;
    plugin::models::add_to_linker::<TaskState, HasSelf<TaskState>>(&mut linker, |state| state)?;
    plugin::artifacts::add_to_linker::<TaskState, HasSelf<TaskState>>(&mut linker, |state| state)?;
    plugin::reports::add_to_linker::<TaskState, HasSelf<TaskState>>(&mut linker, |state| state)?;
    plugin::settings::add_to_linker::<TaskState, HasSelf<TaskState>>(&mut linker, |state| state)?;
    plugin::compute::add_to_linker::<TaskState, HasSelf<TaskState>>(&mut linker, |state| state)?;
    compute::add_fast_paths(&mut linker)?;
    Ok(linker)
}

impl plugin::types::Host for TaskState {}
