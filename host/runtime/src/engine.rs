//! The engine that all runs of a process share.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use trainshed_core::Digest;
use trainshed_core::limits::Limits;
use trainshed_core::manifest::Manifest;
use trainshed_core::task::Outcome;
use wasmtime::component::{Component, Linker};
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::cache::Cache;
use crate::imports;
use crate::job::{Job, Services};
use crate::limits::{MAX_INSTANCES, MAX_MEMORIES, MAX_TABLES};
use crate::load::{self, LoadError, Plugin};
use crate::programs::Programs;
use crate::readings::Readings;
use crate::state::TaskState;
use crate::task;
use crate::watch::{End, StopSignal, Watch, Watchman, lock, stop_pair};

/// How many loaded plugins stay in memory. A compiled plugin takes about three times the size
/// of its component.
const MAX_LOADED: usize = 32;
/// Beside the tasks, plugins may be described at the same time.
const SLOTS_FOR_DESCRIBE: u32 = 4;
/// Deepest stack of WebAssembly frames, in bytes.
const WASM_STACK_BYTES: usize = 1 << 20;
/// The whole stack of a task, on which the host's functions run too.
const STACK_BYTES: usize = 4 << 20;
/// The most that 32-bit linear memory can have.
const FOUR_GIB: u64 = 1 << 32;
/// Most elements of one table.
const TABLE_ELEMENTS: usize = 100_000;

/// What a [`Runtime`] is made for.
#[derive(Debug, Clone)]
pub struct RuntimeConfig {
    /// The folder of compiled plugins. It must belong to trainshed alone: whoever can write
    /// there can run native code in this process.
    pub cache_dir: PathBuf,
    /// Most runs at one time; the size of the memory pool.
    pub max_tasks: u32,
    /// Most linear memory of any run, in bytes; runs have limits of their own below it.
    pub max_memory_bytes: u64,
}

/// Why a [`Runtime`] could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The engine refused its settings, or this machine.
    #[error("the WebAssembly engine does not start")]
    Engine(#[source] wasmtime::Error),
    /// The folder of compiled plugins cannot be made.
    #[error("the compile cache `{path}` cannot be made", path = path.display())]
    Cache {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The machine has no thread to give.
    #[error("a thread for time limits does not start")]
    Thread(#[source] std::io::Error),
}

/// What the runs of a process share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) programs: Programs,
    pub(crate) readings: Readings,
}

/// Loads and runs plugins. One per process is enough.
pub struct Runtime {
    engine: Engine,
    linker: Linker<TaskState>,
    cache: Cache,
    loaded: Mutex<Loaded>,
    shared: Arc<Shared>,
    watchman: Watchman,
}

impl Runtime {
    /// Starts the engine and the thread that enforces time limits.
    ///
    /// Address space for the memory of all runs is reserved once; where there is too little,
    /// each run gets its own, which costs it some microseconds and some speed.
    ///
    /// # Errors
    /// See [`RuntimeError`].
    pub fn new(config: RuntimeConfig) -> Result<Self, RuntimeError> {
        let engine = Engine::new(&pooled(&config))
            .or_else(|error| {
                tracing::warn!(%error, "no address space for a memory pool: runs start slower");
                Engine::new(&on_demand())
            })
            .map_err(RuntimeError::Engine)?;
        let cache = Cache::open(config.cache_dir.clone(), &engine).map_err(|source| {
            let path = config.cache_dir;
            RuntimeError::Cache { path, source }
        })?;
        Ok(Self {
            linker: imports::linker(&engine).map_err(RuntimeError::Engine)?,
            watchman: Watchman::start(engine.clone()).map_err(RuntimeError::Thread)?,
            cache,
            loaded: Mutex::default(),
            shared: Arc::default(),
            engine,
        })
    }

    /// Makes the plugin of a component file ready to run.
    ///
    /// Compiles it unless that was done before: by this runtime (then it costs microseconds
    /// and the file is not read) or by one with the same cache folder (then about a
    /// millisecond). Compiling takes from a tenth of a second to ten. Blocks for so long.
    ///
    /// # Errors
    /// What is wrong with the component, in a sentence for the plugin's author.
    pub fn load(&self, digest: Digest, component: &Path) -> Result<Plugin, LoadError> {
        if let Some(plugin) = lock(&self.loaded).get(&digest) {
            return Ok(plugin);
        }
        let bytes = fs::read(component).map_err(LoadError::Read)?;
        let found = Digest::of(&bytes);
        if found != digest {
            return Err(LoadError::Digest {
                expected: digest,
                found,
            });
        }
        let compiled = match self.cache.get(&digest, &self.engine) {
            Some(compiled) => compiled,
            None => self.compile(&digest, &bytes)?,
        };
        let plugin = load::check(digest, &compiled, &self.linker)?;
        lock(&self.loaded).insert(digest, plugin.clone());
        Ok(plugin)
    }

    fn compile(&self, digest: &Digest, bytes: &[u8]) -> Result<Component, LoadError> {
        load::check_header(bytes)?;
        let compiled = Component::from_binary(&self.engine, bytes)
            .map_err(|error| LoadError::Malformed(load::sentence(&error)))?;
        if let Err(error) = self.cache.put(digest, &compiled) {
            tracing::warn!(%error, "a compiled plugin could not be kept");
        }
        Ok(compiled)
    }

    /// Asks the plugin what it is, outside any task: it sees no files, no environment, no
    /// data set, and has 64 MiB of memory and 2 seconds.
    ///
    /// # Errors
    /// [`LoadError::Describe`] when the plugin fails, [`LoadError::Manifest`] when its answer
    /// breaks a rule, [`LoadError::NotExported`] when it names an action it does not export.
    pub async fn describe(&self, plugin: &Plugin) -> Result<Manifest, LoadError> {
        let limits = Limits {
            memory_bytes: 64 << 20,
            tensor_bytes: 0,
            wall_ms: 2000,
            cpu_ms: 2000,
            log_bytes: 1 << 20,
            points: 0,
            media_bytes: 0,
            scratch_bytes: 0,
            output_bytes: 0,
            threads: 1,
            ..Limits::default()
        };
        let (_never_stopped, stop) = stop_pair();
        let watch = Watch::start(&limits, stop);
        self.watchman.look_after(&watch);
        let plugin = plugin.clone();
        let described = on_own_thread("describe", Arc::clone(&watch), move || {
            load::describe(&plugin, &limits, watch)
        });
        described
            .await
            .unwrap_or_else(|failure| Err(LoadError::Describe(failure)))
    }

    /// Runs one action of a plugin to its end, on a thread of its own.
    ///
    /// Every failure is an [`Outcome`] with one sentence for people: a trap, a limit, an
    /// error the plugin returned, even a fault of the host. All that was reported before has
    /// been handed to `services` by then. Dropping the future ends the run soon after.
    pub async fn run(
        &self,
        plugin: &Plugin,
        job: Job,
        services: Arc<dyn Services>,
        stop: StopSignal,
    ) -> Outcome {
        let watch = Watch::start(&job.limits, stop);
        self.watchman.look_after(&watch);
        let plugin = plugin.clone();
        let shared = Arc::clone(&self.shared);
        let outcome = on_own_thread("task", Arc::clone(&watch), move || {
            task::run(&plugin, job, services, watch, shared)
        });
        outcome
            .await
            .unwrap_or_else(|reason| Outcome::Failed { reason })
    }
}

/// Runs `work` on a new thread and waits for it; says what went wrong if it panics. When the
/// future is dropped, `watch` is told that nobody waits any more.
async fn on_own_thread<T: Send + 'static>(
    name: &str,
    watch: Arc<Watch>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    struct Waiting(Arc<Watch>);
    impl Drop for Waiting {
        fn drop(&mut self) {
            self.0.interrupt(End::Abandoned);
        }
    }
    let waiting = Waiting(Arc::clone(&watch));
    let (done, result) = tokio::sync::oneshot::channel();
    let thread = std::thread::Builder::new().name(name.to_owned());
    let spawned = thread.spawn(move || {
        watch.adopt_thread();
        // Nothing of `work` is looked at after a panic but its message.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        // The receiver is gone when nobody waits any more.
        let _ = done.send(result.map_err(|panic| panic_message(panic.as_ref())));
    });
    if let Err(error) = spawned {
        return Err(format!("the host has no thread to give: {error}"));
    }
    let result = result.await;
    drop(waiting);
    match result {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(message)) => {
            tracing::error!(%message, "the runtime panicked");
            Err(format!("internal error in the host: {message}"))
        }
        Err(_) => Err("internal error in the host: a task's thread ended early".to_owned()),
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned())
}

/// What holds for every engine of ours.
fn base() -> Config {
    let mut config = Config::new();
    config.epoch_interruption(true);
    config.concurrency_support(false);
    config.max_wasm_stack(WASM_STACK_BYTES);
    config.async_stack_size(STACK_BYTES);
    // What has no place in a plugin, or would make a run depend on the machine.
    config.wasm_memory64(false);
    config.relaxed_simd_deterministic(true);
    config
}

fn pooled(config: &RuntimeConfig) -> Config {
    let slots = config.max_tasks.saturating_add(SLOTS_FOR_DESCRIBE);
    let per_task = |count: u32| slots.saturating_mul(count);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(per_task(1));
    pool.total_stacks(per_task(1));
    pool.total_core_instances(per_task(MAX_INSTANCES));
    pool.total_memories(per_task(MAX_MEMORIES));
    pool.total_tables(per_task(MAX_TABLES));
    pool.max_core_instances_per_component(MAX_INSTANCES);
    pool.max_memories_per_component(MAX_MEMORIES);
    pool.max_tables_per_component(MAX_TABLES);
    pool.table_elements(TABLE_ELEMENTS);
    let max_memory = config.max_memory_bytes.min(FOUR_GIB);
    pool.max_memory_size(usize::try_from(max_memory).unwrap_or(usize::MAX));
    let mut config = base();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    config
}

fn on_demand() -> Config {
    let mut config = base();
    config.allocation_strategy(InstanceAllocationStrategy::OnDemand);
    config.memory_reservation(64 << 20);
    config.memory_reservation_for_growth(64 << 20);
    config.memory_guard_size(64 << 10);
    config
}

/// The plugins that were used last.
#[derive(Default)]
struct Loaded {
    plugins: HashMap<Digest, (Plugin, u64)>,
    uses: u64,
}

impl Loaded {
    fn get(&mut self, digest: &Digest) -> Option<Plugin> {
        self.uses += 1;
        let (plugin, last_used) = self.plugins.get_mut(digest)?;
        *last_used = self.uses;
        Some(plugin.clone())
    }

    fn insert(&mut self, digest: Digest, plugin: Plugin) {
        if self.plugins.len() >= MAX_LOADED {
            let oldest = self.plugins.iter().min_by_key(|(_, (_, used))| *used);
            if let Some(oldest) = oldest.map(|(digest, _)| *digest) {
                self.plugins.remove(&oldest);
            }
        }
        self.uses += 1;
        self.plugins.insert(digest, (plugin, self.uses));
    }
}
