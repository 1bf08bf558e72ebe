//! The agent: leases tasks from a server, runs them in the sandbox, and reports.
//!
//! It speaks only the HTTP API, so that an agent on another machine and the one that
//! `trainshed serve` starts are the same program. It never touches the database. Start reading
//! at [`run`].

mod accelerator;
mod fetch;
mod folder;
mod inspect;
mod lease;
mod machine;
mod monitor;
mod retry;
mod spool;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use trainshed_core::AgentId;
use trainshed_core::limits::Limits;
use trainshed_core::resource::{Machine, Reading};
use trainshed_core::view::AgentInfo;
use trainshed_pjrt::Search;
use trainshed_runtime::{Runtime, RuntimeConfig, RuntimeError};
use trainshed_wire::{Client, ClientError};

pub use inspect::{Inspection, inspect};

use crate::accelerator::Accelerators;
use crate::fetch::Cache;
use crate::folder::Folders;

/// Longest wait of one request for a task.
const LEASE_WAIT: Duration = Duration::from_secs(20);

/// What an agent needs to know.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// The server and the key.
    pub client: Client,
    /// For people, e.g. the machine's name.
    pub name: String,
    /// Whether it is a child of the server and ends with it.
    pub local: bool,
    /// Compiled components, data sets and models are kept here.
    pub cache_dir: PathBuf,
    /// Tasks get their private folders here.
    pub work_dir: PathBuf,
    /// How many tasks run at once, at least 1.
    pub slots: u32,
    /// What one task may use at most.
    pub limits: Limits,
    /// Where plugins for accelerators are looked for.
    pub accelerators: Search,
    /// How often the machine's resources are reported; `None` for never.
    pub monitor: Option<Duration>,
    /// Environment variables that plugins may read, where their manifest names them.
    pub environment: BTreeMap<String, String>,
}

/// Why an agent could not start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The sandbox could not be set up.
    #[error("the sandbox could not be set up")]
    Runtime(#[from] RuntimeError),
    /// A folder of the agent could not be made.
    #[error("the folder `{path}` could not be made")]
    Folder {
        /// Which folder.
        path: PathBuf,
        /// What happened.
        #[source]
        source: std::io::Error,
    },
    /// The server refused the agent.
    #[error("the server refused the agent")]
    Refused(#[source] ClientError),
}

/// Longest wait of a request for a task while trials are paused: one that goes on must not wait
/// for its slot while the agent asks for work that there is not.
const SHORT_LEASE_WAIT: Duration = Duration::from_millis(250);
/// Trials that may be paused at a time, each with all its memory; further ones are ended, and
/// begin again from their checkpoints.
const MAX_PAUSED: u32 = 32;

/// What all slots share.
struct Agent {
    config: AgentConfig,
    runtime: Runtime,
    cache: Cache,
    folders: Folders,
    accelerators: Accelerators,
    /// What the machine is.
    machine: Machine,
    /// One permit for each task that may run.
    slots: Arc<Semaphore>,
    /// Processors of the machine, or slots where there are more.
    cpus: u32,
    /// GPUs that trials share.
    gpus: u32,
    /// A permit for each thousandth of a GPU.
    milli_gpus: Arc<Semaphore>,
    /// Trials that wait without a slot.
    paused: AtomicU32,
    /// What the machine does, where it is measured.
    readings: Option<watch::Receiver<Option<Arc<Reading>>>>,
}

/// Leases and runs tasks until `shutdown` is done; then the running tasks are stopped and
/// their ends reported.
///
/// Waits, without end, for a server that does not answer.
///
/// # Errors
/// When the agent cannot start, or the server does not know its key.
pub async fn run(
    config: AgentConfig,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), AgentError> {
    for path in [&config.cache_dir, &config.work_dir] {
        std::fs::create_dir_all(path).map_err(|source| AgentError::Folder {
            path: path.clone(),
            source,
        })?;
    }
    let runtime = Runtime::new(RuntimeConfig {
        cache_dir: config.cache_dir.join("compiled"),
        max_tasks: config.slots.saturating_add(MAX_PAUSED),
        max_memory_bytes: config.limits.memory_bytes,
    })?;
    let slots = config.slots.max(1);
    let cpus = std::thread::available_parallelism()
        .map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX));
    // One process opens one accelerator.
    let gpus = u32::from(config.accelerators.finds_any());
    let agent = Arc::new(Agent {
        cpus: cpus.max(slots),
        gpus,
        milli_gpus: Arc::new(Semaphore::new(1000 * gpus as usize)),
        accelerators: Accelerators::new(
            config.accelerators.clone(),
            config.cache_dir.join("programs"),
        ),
        cache: Cache::new(&config.cache_dir),
        folders: Folders::new(config.work_dir.clone()),
        machine: machine::machine(),
        readings: config
            .monitor
            .map(|period| monitor::start(&config.work_dir, period)),
        slots: Arc::new(Semaphore::new(slots as usize)),
        paused: AtomicU32::new(0),
        runtime,
        config,
    });
    let (stop, stopping) = watch::channel(false);
    let mut slots = JoinSet::new();
    for slot in 0..agent.config.slots.max(1) {
        // One slot speaks for the machine.
        let speaks = slot == 0;
        slots.spawn(serve_slot(agent.clone(), speaks, stopping.clone()));
    }
    let mut shutdown = std::pin::pin!(shutdown);
    let mut first_error = None;
    loop {
        tokio::select! {
            () = &mut shutdown, if !*stop.borrow() => stop.send_replace(true),
            ended = slots.join_next() => match ended {
                None => break,
                Some(Ok(Ok(()))) => continue,
                Some(Ok(Err(error))) => {
                    first_error.get_or_insert(error);
                    stop.send_replace(true)
                }
                Some(Err(panic)) => {
                    tracing::error!(%panic, "a slot of the agent panicked");
                    continue;
                }
            },
        };
    }
    first_error.map_or(Ok(()), Err)
}

/// Leases and runs one task after the other.
async fn serve_slot(
    agent: Arc<Agent>,
    speaks: bool,
    mut stopping: watch::Receiver<bool>,
) -> Result<(), AgentError> {
    let client = &agent.config.client;
    let info = AgentInfo {
        name: agent.config.name.clone(),
        local: agent.config.local,
        machine: Some(agent.machine.clone()),
        cpus: agent.cpus,
        gpus: agent.gpus,
    };
    let registered = tokio::select! {
        registered = retry::until_answered(|| client.register_agent(&info)) => registered,
        _ = stopping.wait_for(|stop| *stop) => return Ok(()),
    };
    let id = registered.map_err(AgentError::Refused)?.id;
    let tells = tell(&agent, speaks.then_some(&id));
    tokio::select! {
        served = lease_and_run(&agent, &id, stopping) => served,
        never = tells => match never {},
    }
}

/// Tells the server what the machine does, under the name of `id`; never returns.
async fn tell(agent: &Agent, id: Option<&AgentId>) -> Infallible {
    if let (Some(id), Some(readings)) = (id, &agent.readings) {
        let mut readings = readings.clone();
        while readings.changed().await.is_ok() {
            let Some(reading) = readings.borrow_and_update().clone() else {
                continue;
            };
            // The next one says as much; a server that does not answer is noticed elsewhere.
            if let Err(error) = agent.config.client.record_reading(id, &reading).await {
                tracing::debug!(%error, "what the machine does was not recorded");
            }
        }
    }
    std::future::pending().await
}

async fn lease_and_run(
    agent: &Arc<Agent>,
    id: &AgentId,
    mut stopping: watch::Receiver<bool>,
) -> Result<(), AgentError> {
    let client = &agent.config.client;
    let mut runs = JoinSet::new();
    let served = loop {
        let slot = tokio::select! {
            slot = agent.slots.clone().acquire_owned() => slot,
            _ = stopping.wait_for(|stop| *stop) => break Ok(()),
        };
        let slot = slot.expect("the slots are never closed");
        while runs.try_join_next().is_some() {}
        let wait = match agent.paused.load(Ordering::Relaxed) {
            0 => LEASE_WAIT,
            _ => SHORT_LEASE_WAIT,
        };
        let leased = tokio::select! {
            leased = retry::until_answered(|| client.lease(id, wait)) => leased,
            _ = stopping.wait_for(|stop| *stop) => break Ok(()),
        };
        match leased {
            Ok(None) => {}
            Ok(Some(lease)) => {
                let (agent, stopping) = (agent.clone(), stopping.clone());
                runs.spawn(async move { lease::run(&agent, lease, slot, stopping).await });
            }
            Err(error) => break Err(AgentError::Refused(error)),
        }
    };
    while let Some(ended) = runs.join_next().await {
        if let Err(panic) = ended {
            tracing::error!(%panic, "a run of the agent panicked");
        }
    }
    served
}
