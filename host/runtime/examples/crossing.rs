//! How many times as long a training step takes from a plugin as without one.
//!
//! `crossing COMPONENT RESULT.json FOLDER THREADS STEPS TURNS` takes the component of the test
//! guest `measure`, what it returned for a task of `cargo xtask bench compute`, and the task's
//! `batch.safetensors` and `parameters.safetensors` in FOLDER. The plugin does STEPS steps and
//! reports a point; before that call returns, two sessions of the same program do as many
//! steps each on the plugin's thread. So it goes TURNS times. A machine that is shared changes
//! its speed by several percent within a tenth of a second, and turns this short meet that
//! alike.
//!
//! Prints `{"turns": [[plugin, first, second], …]}`: the times of the plugin and of the two
//! sessions in seconds, of which there are two so that chance can be told from the plugin.

#![expect(clippy::print_stdout, reason = "prints its result")]

#[path = "../../tensor/examples/guest/mod.rs"]
mod guest;
#[path = "../../tensor/examples/guest/task.rs"]
mod task;

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use serde_json::{Map, Value, json};
use task::Task;
use trainshed_core::dataset::FileEntry;
use trainshed_core::limits::Limits;
use trainshed_core::report::Report;
use trainshed_core::task::Outcome;
use trainshed_core::view::{ArtifactRequest, ArtifactView};
use trainshed_core::{Digest, TaskId};
use trainshed_runtime::{
    CommittedVersion, DatasetFiles, Device, Job, JobWork, Refused, Runtime, RuntimeConfig,
    Services, TrialVerdict, stop_pair,
};
use trainshed_tensor::{Budget, Context, ProgramError, Session};

const MEMORY_BYTES: u64 = 8 << 30;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [component, result, folder, threads, steps, turns] = &arguments[..] else {
        let wanted = "COMPONENT, RESULT.json, FOLDER, THREADS, STEPS and TURNS must be given";
        return Err(wanted.into());
    };
    let (result, folder) = (Path::new(result), Path::new(folder));
    let (threads, steps, turns): (u32, u32, u32) =
        (threads.parse()?, steps.parse()?, turns.parse()?);
    let letter = &serde_json::from_slice::<Value>(&fs::read(result)?)?["task"];

    let work = tempfile::tempdir()?;
    let runtime = Runtime::new(RuntimeConfig {
        cache_dir: work.path().join("cache"),
        max_tasks: 1,
        max_memory_bytes: MEMORY_BYTES,
    })?;
    let bytes = fs::read(component)?;
    let plugin = runtime.load(Digest::of(&bytes), Path::new(component))?;
    let job = Job {
        task: TaskId::from_u128(1),
        trial: None,
        initial_iteration: 0,
        seed: 1,
        params: Map::new(),
        work: JobWork::Train {
            hyperparameter: object(json!({ "task": letter, "steps": steps, "turns": turns })),
            checkpoint: None,
        },
        dataset: DatasetFiles {
            id: 1,
            name: "task".to_owned(),
            version: 1,
            digest: Digest::of(b""),
            dir: folder.to_owned(),
        },
        work_dir: work.path().to_owned(),
        limits: Limits {
            threads,
            tensor_bytes: MEMORY_BYTES,
            ..Limits::default()
        },
        device: Device::Cpu,
        notice: None,
        environment: BTreeMap::new(),
    };
    let natives = [
        Native::start(result, folder, threads, steps)?,
        Native::start(result, folder, threads, steps)?,
    ];
    let beside = Arc::new(Beside(Mutex::new(Turns {
        natives,
        resumed: Instant::now(),
        taken: Vec::new(),
    })));
    let (_never, stop) = stop_pair();
    let waiting = tokio::runtime::Builder::new_current_thread().build()?;
    match waiting.block_on(runtime.run(&plugin, job, beside.clone(), stop)) {
        Outcome::Completed { .. } => {}
        ended => return Err(format!("the plugin: {ended:?}").into()),
    }
    // The first turn has the plugin's start in it.
    let taken = &beside.turns().taken;
    let printed = json!({ "turns": taken.get(1..) });
    println!("{printed}");
    Ok(())
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

/// The program of the plugin without the plugin.
struct Native {
    task: Task,
    session: Session,
    steps: u32,
}

impl Native {
    fn start(
        result: &Path,
        folder: &Path,
        threads: u32,
        steps: u32,
    ) -> Result<Self, Box<dyn Error>> {
        let budget = Budget::new(MEMORY_BYTES);
        let stop = Arc::new(AtomicBool::new(false));
        let context = Context::new(budget.clone(), threads.try_into()?, stop)?;
        let mut task = Task::read(result, folder, &budget)?;
        let mut session = task.bind(&context)?;
        task.begin(&mut session)?;
        Ok(Self {
            task,
            session,
            steps,
        })
    }

    fn turn(&mut self) -> Result<f64, ProgramError> {
        let started = Instant::now();
        self.task.steps(&mut self.session, self.steps)?;
        Ok(started.elapsed().as_secs_f64())
    }
}

/// Takes the times of the plugin and of the sessions beside it.
struct Beside(Mutex<Turns>);

struct Turns {
    natives: [Native; 2],
    /// When the plugin began its steps.
    resumed: Instant,
    /// Seconds of the plugin, the first and the second session.
    taken: Vec<[f64; 3]>,
}

impl Beside {
    fn turns(&self) -> MutexGuard<'_, Turns> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Services for Beside {
    async fn report(&self, report: Report) -> Result<(), Refused> {
        if !matches!(report, Report::Point(_)) {
            return Ok(());
        }
        let turns = &mut *self.turns();
        let plugin = turns.resumed.elapsed().as_secs_f64();
        let failed = |error: ProgramError| Refused::Failed(error.to_string());
        let [first, second] = &mut turns.natives;
        let (first, second) = (
            first.turn().map_err(failed)?,
            second.turn().map_err(failed)?,
        );
        turns.taken.push([plugin, first, second]);
        turns.resumed = Instant::now();
        Ok(())
    }

    async fn report_trial(
        &self,
        _metrics: Map<String, Value>,
        _checkpoint: Option<String>,
    ) -> Result<TrialVerdict, Refused> {
        Err(unused())
    }

    async fn upload(&self, _file: &Path, _digest: Digest, _bytes: u64) -> Result<(), Refused> {
        Err(unused())
    }

    async fn connect(
        &self,
        _section: String,
        _values: Map<String, Value>,
    ) -> Result<Map<String, Value>, Refused> {
        Err(unused())
    }

    async fn connect_text(
        &self,
        _name: String,
        _text: String,
        _format: String,
    ) -> Result<String, Refused> {
        Err(unused())
    }

    async fn put_artifact(&self, _artifact: ArtifactRequest) -> Result<ArtifactView, Refused> {
        Err(unused())
    }

    async fn artifacts(&self, _task: Option<TaskId>) -> Result<Option<Vec<ArtifactView>>, Refused> {
        Err(unused())
    }

    async fn fetch(&self, _digest: Digest) -> Result<PathBuf, Refused> {
        Err(unused())
    }

    async fn commit_version(
        &self,
        _files: Vec<FileEntry>,
        _description: String,
    ) -> Result<CommittedVersion, Refused> {
        Err(unused())
    }
}

/// `measure` reports points and lines alone.
fn unused() -> Refused {
    Refused::Failed("only steps are measured here".to_owned())
}
