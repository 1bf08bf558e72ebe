//! The engine itself: opening, keys, events, the sweeper.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::broadcast;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use trainshed_core::view::{KeyView, MadeKey, key_id};
use trainshed_core::{AgentId, Digest, TaskId, Timestamp, WorkspaceId};
use trainshed_store::{
    Database, EndedTask, FileSettings, GarbageRules, KeyError, KeyedRequest, Store, StoreError,
    StoredAnswer, Workspace,
};
use uuid::Uuid;

use crate::catalog::Inspector;
use crate::event::{Changes, Event};
use crate::tune::Experiments;

/// The workspace that is made when a data folder is opened for the first time.
const FIRST_WORKSPACE: &str = "default";
/// How often the sweeper looks: short against any lease, long against the cost of a look.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// How often files are removed that nobody refers to.
const SWEEP_FILES_EVERY: Duration = Duration::from_secs(3600);
/// How often the keys of old batches are looked for.
const FORGET_EVERY: Duration = Duration::from_secs(600);
/// How long the key of a batch is known: a client that comes again after a day off the
/// network must not be recorded twice.
const REMEMBER_BATCHES_MS: i64 = 24 * 3_600_000;
/// How long a key that was found good is good without another look: every call brings one,
/// and one that is taken back must not be good for long.
const TRUST_KEY: Duration = Duration::from_secs(5);
/// Keys that are known to be good.
const MAX_TRUSTED_KEYS: usize = 10_000;
/// How often it is written down that an agent was seen: short against the time after which it
/// counts as gone. Those of trials ask for work hundreds of times a second.
const NOTE_AGENT_EVERY_MS: i64 = 5_000;
/// Agents of which is known when they were written down.
const MAX_NOTED_AGENTS: usize = 10_000;

/// All use cases. Cheap to clone; the clones are one engine.
#[derive(Clone)]
pub struct Engine {
    pub(crate) store: Store,
    shared: Arc<Shared>,
}

struct Shared {
    lease_ttl_ms: u32,
    task_watchdog_s: u32,
    reuse_window_h: u32,
    inspector: Arc<dyn Inspector>,
    files: FileSettings,
    /// Holds archives on their way, and nothing that outlives a start.
    scratch: PathBuf,
    clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    changes: Changes,
    keys: Mutex<TrustedKeys>,
    /// Agents that are registered, and when it was last written down that they were seen.
    agents: Mutex<HashMap<(WorkspaceId, AgentId), Timestamp>>,
    experiments: Experiments,
}

/// Keys that were found good a moment ago.
#[derive(Default)]
struct TrustedKeys {
    /// By their digests, with when that was.
    known: HashMap<Digest, (Holder, Instant)>,
    /// How often a key was taken back: what was read before that is not trusted after it.
    revocations: u64,
}

/// Who holds a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The workspace that it opens.
    pub workspace: Workspace,
    /// Whose it is.
    pub name: Arc<str>,
    /// The key's id.
    pub key: Arc<str>,
}

/// What an engine is made of.
pub struct EngineConfig {
    /// Made if it is missing.
    pub data_dir: PathBuf,
    /// Where the tables are.
    pub database: Database,
    /// Where files are kept.
    pub files: FileSettings,
    /// A lease ends this long after it was last renewed; 60,000 is a good value.
    pub lease_ttl_ms: u32,
    /// A task that runs without an agent is stopped when nothing was heard of it for so long;
    /// 7,200 is a good value.
    pub task_watchdog_s: u32,
    /// A run by hand takes the place of the last one only within so many hours; 24 is a good
    /// value.
    pub reuse_window_h: u32,
    /// Looks into pushed components.
    pub inspector: Arc<dyn Inspector>,
    /// Tells the time.
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

/// What opening a data folder brought to light.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenedStore {
    /// The first key, when the folder was opened for the first time. It is not stored and
    /// cannot be had again; see [`Engine::add_key`].
    pub admin_key: Option<String>,
    /// Tasks that ran when the former process ended; they are stopped now.
    pub interrupted: Vec<TaskId>,
}

/// Why a data folder was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("the data folder is in use by another trainshed")]
    Locked,
    /// The store failed.
    #[error("the data could not be opened")]
    Store(#[source] StoreError),
}

impl OpenError {
    /// What the user can do about it, in one sentence.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Locked => {
                Some("Wait for it to end, or give another folder with --data-dir.".into())
            }
            Self::Store(error) => error.hint(),
        }
    }
}

impl From<StoreError> for OpenError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Locked { .. } => Self::Locked,
            other => Self::Store(other),
        }
    }
}

impl Engine {
    /// Opens the data folder. Tasks of local agents of a former process are stopped; agents
    /// elsewhere get time to renew their leases.
    ///
    /// # Errors
    /// When another process has the folder open, or its data cannot be used.
    pub async fn open(config: EngineConfig) -> Result<(Self, OpenedStore), OpenError> {
        let files = config.files.clone();
        let store = Store::open_with(&config.data_dir, &config.database, files).await?;
        let scratch = config.data_dir.join("scratch");
        // What a killed process left is of no use to anyone.
        let _ = std::fs::remove_dir_all(&scratch);
        let engine = Self {
            store,
            shared: Arc::new(Shared {
                lease_ttl_ms: config.lease_ttl_ms,
                task_watchdog_s: config.task_watchdog_s,
                reuse_window_h: config.reuse_window_h,
                inspector: config.inspector,
                files: config.files,
                scratch,
                clock: config.clock,
                changes: Changes::new(),
                keys: Mutex::default(),
                agents: Mutex::default(),
                experiments: Experiments::default(),
            }),
        };
        let admin_key = engine.create_workspace(FIRST_WORKSPACE).await?;
        let store = &engine.store;
        let reason = "interrupted: trainshed ended while the task ran";
        let ended = store.end_local_leases(reason, engine.now()).await?;
        store.extend_leases(engine.lease_until()).await?;
        engine.hear_of_lost_trials().await?;
        let opened = OpenedStore {
            admin_key,
            interrupted: ended.into_iter().map(|ended| ended.task).collect(),
        };
        Ok((engine, opened))
    }

    /// Waits until the store is closed, so that another process can open it. Later calls
    /// of any clone fail.
    pub async fn close(&self) {
        self.store.close().await;
    }

    /// The workspace that a key opens.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn authenticate(&self, key: &str) -> Result<Option<Workspace>, StoreError> {
        let holder = self.key_holder(key).await?;
        Ok(holder.map(|holder| holder.workspace))
    }

    /// The workspace that a key opens, and whose the key is. A key that this server took back
    /// opens nothing at once; one that another server on the same database took back, within
    /// five seconds.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn key_holder(&self, key: &str) -> Result<Option<Holder>, StoreError> {
        let digest = Digest::of(key.as_bytes());
        let now = Instant::now();
        let revocations = {
            let keys = self.trusted_keys();
            if let Some((holder, since)) = keys.known.get(&digest)
                && now.duration_since(*since) < TRUST_KEY
            {
                return Ok(Some(holder.clone()));
            }
            keys.revocations
        };
        let found = self.store.key_holder(key).await?;
        let found = found.map(|(workspace, name)| Holder {
            workspace,
            name: name.into(),
            key: key_id(&digest).into(),
        });
        let mut keys = self.trusted_keys();
        if keys.known.len() >= MAX_TRUSTED_KEYS {
            keys.known.clear();
        }
        match &found {
            Some(holder) if keys.revocations == revocations => {
                keys.known.insert(digest, (holder.clone(), now));
            }
            _ => {
                keys.known.remove(&digest);
            }
        }
        Ok(found)
    }

    /// The keys of a workspace, the oldest first.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn keys(&self, holder: &Holder) -> Result<Vec<KeyView>, StoreError> {
        let mut keys = self.store.keys(&holder.workspace).await?;
        for key in &mut keys {
            key.current = *key.id == *holder.key;
        }
        Ok(keys)
    }

    /// Makes a key of `name`, which is 1 to 200 bytes without control characters.
    ///
    /// # Errors
    /// When there are as many as there may be.
    pub async fn make_key(&self, workspace: &Workspace, name: &str) -> Result<MadeKey, KeyError> {
        let key = fresh_key();
        let about = self.store.make_key(workspace, name, &key, self.now());
        let about = about.await?;
        Ok(MadeKey { key, about })
    }

    /// Takes a key back: no call with it is answered from now on.
    ///
    /// # Errors
    /// When there is no such key, or it is the last one.
    pub async fn revoke_key(&self, workspace: &Workspace, id: &str) -> Result<(), KeyError> {
        let revoked = self.store.revoke_key(workspace, id).await;
        let mut keys = self.trusted_keys();
        keys.revocations += 1;
        keys.known.clear();
        revoked
    }

    /// Makes a workspace and returns its first key; `None` when the name is taken.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn create_workspace(&self, name: &str) -> Result<Option<String>, StoreError> {
        let id = WorkspaceId::from_u128(Uuid::now_v7().as_u128());
        let key = fresh_key();
        let made = self.store.create_workspace(&id, name, &key, self.now());
        Ok(made.await?.then_some(key))
    }

    /// Makes another key for the first workspace. Whoever has the data folder open may do
    /// so: it is the way back in when all keys are lost.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn add_key(&self) -> Result<String, StoreError> {
        let key = fresh_key();
        self.store
            .add_key(FIRST_WORKSPACE, &key, self.now())
            .await?;
        Ok(key)
    }

    /// A stream that says whenever a task changed, from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.changes().subscribe()
    }

    /// Stops the tasks whose lease has run out, and those that run without an agent and have
    /// been silent for too long; forgets old answers. Returns how many tasks it stopped.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn sweep(&self) -> Result<usize, StoreError> {
        let ended = self.store.end_expired_leases(self.now()).await?;
        for EndedTask { workspace, task } in &ended {
            tracing::warn!(%task, "the lease of a task ran out");
            self.changes().task_changed(workspace, task);
        }
        let silent = self.end_silent_tasks().await?;
        self.hear_of_lost_trials().await?;
        self.store.forget_answers(self.now()).await?;
        Ok(ended.len() + silent)
    }

    /// Takes an idempotency key for a request; see [`trainshed_store::Store::begin_request`].
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn begin_request(
        &self,
        workspace: &Workspace,
        key: &str,
        request: &str,
    ) -> Result<KeyedRequest, StoreError> {
        let now = self.now();
        self.store.begin_request(workspace, key, request, now).await
    }

    /// Keeps the answer to a request with a key, or lets go of the key.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn end_request(
        &self,
        workspace: &Workspace,
        key: &str,
        answer: Option<&StoredAnswer>,
    ) -> Result<(), StoreError> {
        self.store.end_request(workspace, key, answer).await
    }

    /// Stops the running tasks of all local agents, for `reason`: their process has ended.
    /// Returns how many there were.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn interrupt_local(&self, reason: &str) -> Result<usize, StoreError> {
        let ended = self.store.end_local_leases(reason, self.now()).await?;
        for EndedTask { workspace, task } in &ended {
            self.changes().task_changed(workspace, task);
        }
        self.hear_of_lost_trials().await?;
        Ok(ended.len())
    }

    /// Sweeps every few seconds, and removes what nobody refers to every hour, until the
    /// returned handle is aborted.
    pub fn spawn_sweeper(&self) -> JoinHandle<()> {
        let engine = self.clone();
        tokio::spawn(async move {
            // An object store that stalls must not hold leases up.
            tokio::join!(engine.sweep_leases(), engine.sweep_files());
        })
    }

    async fn sweep_leases(&self) {
        let mut forgot = Instant::now();
        loop {
            tokio::time::sleep(SWEEP_EVERY).await;
            if forgot.elapsed() >= FORGET_EVERY {
                forgot = Instant::now();
                let before = self.now().plus_millis(-REMEMBER_BATCHES_MS);
                if let Err(error) = self.store.forget_batches(before).await {
                    let error: &dyn std::error::Error = &error;
                    tracing::error!(error, "keys of old batches could not be forgotten");
                }
                if let Err(error) = self.expire_points().await {
                    let error: &dyn std::error::Error = &error;
                    tracing::error!(error, "points could not be deleted that are too old");
                }
            }
            if let Err(error) = self.sweep().await {
                let error: &dyn std::error::Error = &error;
                tracing::error!(error, "expired leases could not be ended");
            }
        }
    }

    async fn sweep_files(&self) {
        loop {
            tokio::time::sleep(SWEEP_FILES_EVERY).await;
            let rules = GarbageRules::default();
            if let Err(error) = self.collect_garbage(None, rules, false).await {
                let error: &dyn std::error::Error = &error;
                tracing::error!(error, "what nobody refers to could not be removed");
            }
        }
    }

    fn trusted_keys(&self) -> MutexGuard<'_, TrustedKeys> {
        let keys = self.shared.keys.lock();
        keys.unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether `agent` is registered. That it was seen is written down now and then.
    ///
    /// # Errors
    /// When the store does not answer.
    pub(crate) async fn see_agent(
        &self,
        workspace: &Workspace,
        agent: &AgentId,
    ) -> Result<bool, StoreError> {
        let now = self.now();
        let key = (workspace.id().clone(), agent.clone());
        let noted = self.noted_agents().get(&key).copied();
        // A clock that was set back says nothing.
        let is_recent = |noted: Timestamp| {
            (0..NOTE_AGENT_EVERY_MS).contains(&(now.as_millis() - noted.as_millis()))
        };
        if noted.is_some_and(is_recent) {
            return Ok(true);
        }
        let seen = self.store.see_agent(workspace, agent, now).await?;
        if seen {
            let mut agents = self.noted_agents();
            if agents.len() >= MAX_NOTED_AGENTS {
                agents.clear();
            }
            agents.insert(key, now);
        }
        Ok(seen)
    }

    fn noted_agents(&self) -> MutexGuard<'_, HashMap<(WorkspaceId, AgentId), Timestamp>> {
        let agents = self.shared.agents.lock();
        agents.unwrap_or_else(PoisonError::into_inner)
    }

    /// The time as the engine's clock tells it.
    pub fn moment(&self) -> Timestamp {
        self.now()
    }

    pub(crate) fn now(&self) -> Timestamp {
        (self.shared.clock)()
    }

    pub(crate) fn lease_ttl(&self) -> Duration {
        Duration::from_millis(u64::from(self.shared.lease_ttl_ms))
    }

    pub(crate) fn watchdog_s(&self) -> u32 {
        self.shared.task_watchdog_s
    }

    pub(crate) fn reuse_window_h(&self) -> u32 {
        self.shared.reuse_window_h
    }

    /// When a lease that is renewed now ends.
    pub(crate) fn lease_until(&self) -> Timestamp {
        self.now().plus_millis(i64::from(self.shared.lease_ttl_ms))
    }

    pub(crate) fn inspector(&self) -> &dyn Inspector {
        &*self.shared.inspector
    }

    pub(crate) fn experiments(&self) -> &Experiments {
        &self.shared.experiments
    }

    pub(crate) fn file_settings(&self) -> &FileSettings {
        &self.shared.files
    }

    pub(crate) fn scratch(&self) -> &Path {
        &self.shared.scratch
    }

    pub(crate) fn changes(&self) -> &Changes {
        &self.shared.changes
    }
}

/// A key that nobody can guess: 244 random bits.
fn fresh_key() -> String {
    format!(
        "tsk_{:032x}{:032x}",
        Uuid::new_v4().as_u128(),
        Uuid::new_v4().as_u128()
    )
}
