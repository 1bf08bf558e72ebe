//! What the host knows of one run while its plugin is called.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use serde_json::{Map, Value};
use trainshed_core::autolog::Autolog;
use trainshed_core::dataset::FileEntry;
use trainshed_core::limits::Limits;
use trainshed_core::model::Keep;
use trainshed_core::report::{LineSource, Report};
use trainshed_core::view::{ArtifactRequest, ArtifactView};
use trainshed_core::{Digest, TaskId, Timestamp};
use trainshed_tensor::{Budget, Context, Device};
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::engine::Shared;
use crate::imports::compute::LiveInstructions;
use crate::job::{CommittedVersion, Job, Refused, Services, TrialVerdict};
use crate::limits::{Limiter, Quota};
use crate::wasi::{self, Console, Scratch};
use crate::watch::Watch;

/// Most handles that a plugin may hold: tensors, files, streams, programs.
pub(crate) const MAX_HANDLES: usize = 100_000;

/// The host's side of one run.
pub(crate) struct TaskState {
    pub(crate) table: ResourceTable,
    pub(crate) wasi: WasiCtx,
    pub(crate) limiter: Limiter,
    pub(crate) watch: Arc<Watch>,
    pub(crate) services: Arc<dyn Services>,
    pub(crate) console: Console,
    pub(crate) scratch: Scratch,
    /// Memory, threads and the stop flag of tensor programs.
    pub(crate) tensors: Context,
    /// Where programs run.
    pub(crate) device: Device,
    /// Programs that this run or another one has compiled.
    pub(crate) shared: Arc<Shared>,
    /// Threads that a tensor program may use.
    pub(crate) threads: u32,
    pub(crate) live_instructions: LiveInstructions,
    pub(crate) facts: Facts,
    pub(crate) points: Quota,
    pub(crate) media: Quota,
    pub(crate) output: Quota,
    /// Bytes of the artifacts that the run opened.
    pub(crate) opened: Quota,
    pub(crate) curves: Curves,
    /// How far each phase has come, in thousandths.
    pub(crate) progress: BTreeMap<String, u64>,
    pub(crate) saved_models: HashSet<String>,
    /// Models that the plugin saved but the action keeps from being registered.
    pub(crate) unregistered: HashSet<String>,
    /// How often a model was saved, so that no file is written twice.
    pub(crate) saves: u64,
    pub(crate) committed: bool,
    /// How often an artifact was put.
    pub(crate) puts: u64,
    /// How often one was opened.
    pub(crate) openings: u64,
    /// Why the task fails when its plugin returns: the first quota that it used up.
    pub(crate) quota_exceeded: Option<String>,
}

/// The points that each curve has had without an iteration of their own; by title and series.
#[derive(Debug, Default)]
pub(crate) struct Curves {
    titles: HashMap<String, HashMap<String, u64>>,
    count: usize,
}

impl Curves {
    /// The number of a curve's points without an iteration; `None` when it is unknown. A look
    /// does not allocate: every measurement begins with one.
    pub(crate) fn get_mut(&mut self, title: &str, series: &str) -> Option<&mut u64> {
        self.titles.get_mut(title)?.get_mut(series)
    }

    /// Knows the curve from now on.
    pub(crate) fn insert(&mut self, title: &str, series: &str) {
        let of_title = self.titles.entry(title.to_owned()).or_default();
        if of_title.insert(series.to_owned(), 0).is_none() {
            self.count += 1;
        }
    }

    /// How many curves are known.
    pub(crate) fn len(&self) -> usize {
        self.count
    }
}

/// What the plugin can ask about its run.
pub(crate) struct Facts {
    pub(crate) task: TaskId,
    pub(crate) trial: Option<String>,
    pub(crate) seed: u64,
    /// The action's whole `params` object, as JSON.
    pub(crate) params: String,
    /// The environment variables that the plugin was granted.
    pub(crate) environment: BTreeMap<String, String>,
    /// What is recorded without being asked for.
    pub(crate) autolog: Autolog,
    /// Which snapshots stay, when the action says it.
    pub(crate) keep: Option<Keep>,
    /// What is added to every iteration that is reported.
    pub(crate) initial_iteration: u64,
    /// Where files wait for their upload.
    pub(crate) outgoing: PathBuf,
    /// Where the files of opened artifacts lie.
    pub(crate) incoming: PathBuf,
}

/// An error of the host that ends the run; the text is the task's status reason.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Fatal(pub(crate) String);

impl TaskState {
    /// The state of a run of `job`. Makes the folders of the run.
    ///
    /// # Errors
    /// One sentence when the folders cannot be made or opened.
    pub(crate) fn for_task(
        job: &Job,
        services: Arc<dyn Services>,
        watch: Arc<Watch>,
        shared: Arc<Shared>,
    ) -> Result<Self, String> {
        let scratch_dir = job.work_dir.join("scratch");
        let outgoing = job.work_dir.join("outgoing");
        let incoming = job.work_dir.join("incoming");
        for folder in [&scratch_dir, &outgoing, &incoming] {
            std::fs::create_dir_all(folder)
                .map_err(|error| format!("the host cannot make the task's folder: {error}"))?;
        }
        let facts = Facts {
            task: job.task.clone(),
            trial: job.trial.clone(),
            seed: job.seed,
            params: Value::Object(job.params.clone()).to_string(),
            environment: job.environment.clone(),
            autolog: Autolog::of(&job.params),
            // It was parsed when the action was submitted.
            keep: Keep::parse(&job.params).unwrap_or_default(),
            initial_iteration: job.initial_iteration,
            outgoing,
            incoming,
        };
        let console = Console::new(job.limits.log_bytes, Arc::clone(&services));
        if let Some(notice) = &job.notice {
            // A console that takes nothing does not keep the task from running.
            let _ = console.text(LineSource::Host, notice.clone());
        }
        let wasi = wasi::for_task(job, &scratch_dir, &console)
            .map_err(|error| format!("the host cannot open the task's folders: {error:#}"))?;
        let scratch = Scratch::new(scratch_dir, job.limits.scratch_bytes);
        let mut state = Self::new(&job.limits, facts, services, console, wasi, scratch, watch)?;
        state.device = job.device.clone();
        state.shared = shared;
        Ok(state)
    }

    /// The state outside any task: nothing is granted, and what is reported is dropped.
    ///
    /// # Errors
    /// One sentence when the host has no threads to give.
    pub(crate) fn for_describe(limits: &Limits, watch: Arc<Watch>) -> Result<Self, String> {
        let services: Arc<dyn Services> = Arc::new(NoTask);
        let console = Console::new(limits.log_bytes, Arc::clone(&services));
        let wasi = wasi::for_describe(&console);
        let facts = Facts {
            task: TaskId::from_u128(0),
            trial: None,
            seed: 0,
            params: "{}".to_owned(),
            environment: BTreeMap::new(),
            autolog: Autolog::default(),
            keep: None,
            initial_iteration: 0,
            outgoing: PathBuf::new(),
            incoming: PathBuf::new(),
        };
        let scratch = Scratch::new(PathBuf::new(), 0);
        Self::new(limits, facts, services, console, wasi, scratch, watch)
    }

    fn new(
        limits: &Limits,
        facts: Facts,
        services: Arc<dyn Services>,
        console: Console,
        wasi: WasiCtx,
        scratch: Scratch,
        watch: Arc<Watch>,
    ) -> Result<Self, String> {
        let threads = usize::try_from(limits.threads).unwrap_or(usize::MAX);
        let budget = Budget::new(limits.tensor_bytes);
        let tensors = Context::new(budget, threads, watch.interrupt_flag())
            .map_err(|error| format!("the host cannot start the task: {error}"))?;
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_HANDLES);
        Ok(Self {
            table,
            wasi,
            limiter: Limiter::new(limits),
            tensors,
            device: Device::Cpu,
            shared: Arc::default(),
            threads: limits.threads.max(1),
            live_instructions: LiveInstructions::default(),
            watch,
            services,
            console,
            scratch,
            facts,
            points: Quota::new(limits.points),
            media: Quota::new(limits.media_bytes),
            output: Quota::new(limits.output_bytes),
            opened: Quota::new(limits.scratch_bytes),
            curves: Curves::default(),
            progress: BTreeMap::new(),
            saved_models: HashSet::new(),
            unregistered: HashSet::new(),
            saves: 0,
            committed: false,
            puts: 0,
            openings: 0,
            quota_exceeded: None,
        })
    }
}

impl WasiView for TaskState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

/// The time of a report.
pub(crate) fn now() -> Timestamp {
    Timestamp(i64::try_from(since_epoch().as_millis()).unwrap_or(i64::MAX))
}

/// The time since 1970. A clock before it is taken for 1970: reports matter more than their time.
#[expect(
    clippy::disallowed_methods,
    reason = "this is where the runtime takes the time: of reports, and for the plugin's clock"
)]
pub(crate) fn since_epoch() -> Duration {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    since_epoch.unwrap_or_default()
}

/// What a plugin that describes itself talks to.
pub(crate) struct NoTask;

#[async_trait]
impl Services for NoTask {
    async fn report(&self, _report: Report) -> Result<(), Refused> {
        Ok(())
    }

    async fn report_trial(
        &self,
        _metrics: Map<String, Value>,
        _checkpoint: Option<String>,
    ) -> Result<TrialVerdict, Refused> {
        Err(Refused::Stopped)
    }

    async fn upload(
        &self,
        _file: &std::path::Path,
        _digest: Digest,
        _size_bytes: u64,
    ) -> Result<(), Refused> {
        Err(Refused::Stopped)
    }

    async fn connect(
        &self,
        _: String,
        values: Map<String, Value>,
    ) -> Result<Map<String, Value>, Refused> {
        Ok(values)
    }

    async fn connect_text(&self, _: String, text: String, _: String) -> Result<String, Refused> {
        Ok(text)
    }

    async fn put_artifact(&self, _artifact: ArtifactRequest) -> Result<ArtifactView, Refused> {
        Err(Refused::Stopped)
    }

    async fn artifacts(&self, _task: Option<TaskId>) -> Result<Option<Vec<ArtifactView>>, Refused> {
        Err(Refused::Stopped)
    }

    async fn fetch(&self, _digest: Digest) -> Result<PathBuf, Refused> {
        Err(Refused::Stopped)
    }

    async fn commit_version(
        &self,
        _files: Vec<FileEntry>,
        _description: String,
    ) -> Result<CommittedVersion, Refused> {
        Err(Refused::Stopped)
    }
}
