//! Experiments: whatever happens to a trial drives its experiment.
//!
//! Nobody runs an experiment. An agent that asks for work is handed the trial that comes next;
//! a report, an end, a lease that was lost and a request to stop are each one step, written in
//! the transaction that records them. What is kept in memory is the log as far as it was read,
//! folded: a cache, so any number of servers may drive an experiment on one database.

mod attempt;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::TryStreamExt as _;
use futures::stream::FuturesUnordered;
use serde_json::{Map, Value, json};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{OnceCell, OwnedRwLockReadGuard, Semaphore};
use tokio::task::block_in_place;
use trainshed_core::action::{Action, ActionError, Tune, Work};
use trainshed_core::limits::LimitRequest;
use trainshed_core::report::TrialDecision;
use trainshed_core::task::{Outcome, TaskState, TaskType, Verb};
use trainshed_core::view::{DatasetView, TaskView};
use trainshed_core::{TaskId, WorkspaceId};
use trainshed_store::{
    Cause, ChangeError, EndOfExperiment, ExperimentEnd, LeaseError, LostTrial, Move, NewTask,
    NewWork, NotedAnswer, Place, Step, StepError, StoreError, TrialChange, TrialClone, Workspace,
};
use trainshed_tune::experiment::event::{Ending, Event, Status};
use trainshed_tune::experiment::{Start, Trial, Upcoming};
use trainshed_tune::{Decision, Experiment, payload};
use uuid::Uuid;

use attempt::{Lease, Leased};

use crate::base::not_cloned;
use crate::engine::Engine;
use crate::submit::shown_settings;

/// The system tag of the task of a trial.
const TRIAL: &str = "trial";
/// Fields of a search's action that its trials have, too.
const PASSED_ON: [&str; 7] = [
    "project",
    "limits",
    "seed",
    "num_cpus",
    "num_gpus",
    "autolog",
    "log_params",
];
/// Experiments that are kept folded in memory.
const MAX_KNOWN: usize = 64;
/// Largest iteration of a report: every number up to it is a float without a rest.
const MAX_ITERATION: u64 = 1 << 53;
/// Most metrics of a report.
const MAX_METRICS: usize = 1000;
/// Longest metrics of a report, as JSON: each is kept for as long as the experiment.
const MAX_METRICS_BYTES: usize = 16 << 10;
/// Of an experiment that has ended, so many trials are kept in memory.
const KEPT_TRIALS: usize = 1000;
/// How often a step that came too late is decided anew, before the caller has to come again.
const MAX_OVERTAKEN: usize = 100;

/// More events than this are read aside: it takes some milliseconds.
const LONG_LOG: usize = 1000;
/// So many experiments of a workspace may think at a time, so that its others leave something
/// of the machine to the other workspaces.
const THINKING: usize = 2;

/// Experiments whose logs have been read, and the leases of trials that were handed out.
#[derive(Default)]
pub(crate) struct Experiments {
    known: Mutex<HashMap<(WorkspaceId, TaskId), Slot>>,
    leased: Mutex<HashMap<Lease, Leased>>,
    /// Of the workspaces in which somebody thinks or has thought.
    turns: Mutex<HashMap<WorkspaceId, Arc<Semaphore>>>,
}

/// One at a time drives an experiment within a process.
type Slot = Arc<tokio::sync::Mutex<Option<Known>>>;

/// An experiment as far as its log was read.
pub(crate) struct Known {
    place: Place,
    pub(crate) experiment: Experiment,
    /// What its trials have of its task.
    parent: Arc<Parent>,
    /// Events of a log that has yet to begin.
    unwritten: Vec<Event>,
    /// The share of ended trials that its task shows, where this process wrote it.
    shown: Option<f64>,
    /// The steps that were decided over it and are on their way into the log.
    flights: Arc<Flights>,
}

/// What trials have of the task of their experiment.
struct Parent {
    task: TaskView,
    limits: LimitRequest,
    num_cpus: Option<f64>,
    num_gpus: Option<f64>,
    /// Read for the first trial; it is the same for all.
    supplies: OnceCell<Supplies>,
}

/// What an agent needs for every trial.
struct Supplies {
    dataset: DatasetView,
    /// Environment variables that the plugin may read.
    environment: Vec<String>,
}

/// What a step is to be.
pub(crate) struct Deed<T> {
    pub(crate) answer: T,
    pub(crate) events: Vec<Event>,
    cause: Cause,
    /// What comes with the attempt that one of the events starts, or with the checkpoint that
    /// one of them names.
    own: Option<TrialChange>,
    /// What a request with a key is answered when it comes again.
    replay: Option<NotedAnswer>,
}

impl<T> Deed<T> {
    pub(crate) fn of(answer: T, events: Vec<Event>) -> Self {
        Self {
            answer,
            events,
            cause: Cause::Alone,
            own: None,
            replay: None,
        }
    }

    pub(crate) fn with_clone(self, clone: Option<TrialClone>) -> Self {
        Self {
            own: clone.map(|clone| TrialChange::Clone(Box::new(clone))),
            ..self
        }
    }

    pub(crate) fn with_replay(self, answer: NotedAnswer) -> Self {
        Self {
            replay: Some(answer),
            ..self
        }
    }

    pub(crate) fn because(cause: Cause, answer: T, events: Vec<Event>) -> Self {
        Self {
            cause,
            ..Self::of(answer, events)
        }
    }
}

/// Why an experiment could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// It was edited after it was checked, and makes no sense any more.
    #[error(transparent)]
    Definition(ActionError),
    /// It is not there, or the store failed.
    #[error(transparent)]
    Lease(#[from] LeaseError),
}

/// What a step did.
pub(crate) struct Done<T> {
    pub(crate) answer: T,
    /// The task that was started, and the fence of its lease.
    started: Option<(TaskId, i64)>,
}

/// The steps of an experiment that are on their way into its log.
#[derive(Default)]
struct Flights {
    /// Held by each step until it has arrived.
    under_way: Arc<tokio::sync::RwLock<()>>,
    /// Whether one of them may not have arrived: what was decided over it does not hold.
    is_lost: AtomicBool,
}

/// A step on its way; dropped before it has arrived, it is lost.
struct Flight {
    flights: Arc<Flights>,
    has_arrived: bool,
    _under_way: OwnedRwLockReadGuard<()>,
}

impl Flights {
    /// Waits until no step is on its way.
    async fn wait(&self) {
        let _ = self.under_way.write().await;
    }
}

impl Flight {
    async fn depart(flights: &Arc<Flights>) -> Self {
        Self {
            _under_way: flights.under_way.clone().read_owned().await,
            flights: flights.clone(),
            has_arrived: false,
        }
    }

    fn arrive(mut self) {
        self.has_arrived = true;
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if !self.has_arrived {
            self.flights.is_lost.store(true, Ordering::Release);
        }
    }
}

impl Known {
    /// Whether all that it was made of is in the log, or on its way there.
    fn holds(&self) -> bool {
        !self.flights.is_lost.load(Ordering::Acquire)
    }

    /// Whether it is worth its memory: what has ended is read again when somebody asks for it,
    /// unless that is little.
    fn is_kept(&self) -> bool {
        !self.experiment.is_finished() || self.experiment.trials().len() <= KEPT_TRIALS
    }
}

/// What others hear of a step.
struct News {
    /// Whether a trial waits for an agent.
    is_ready: bool,
    /// The running trials, where they are to stop.
    stopped: Vec<u64>,
}

impl News {
    fn of(experiment: &Experiment, events: &[Event]) -> Self {
        let stops = |event: &Event| matches!(event, Event::Stopped { .. });
        let running = |trial: &&Trial| trial.status == Status::Running;
        let stopped = match events.iter().any(stops) {
            true => experiment.trials().iter().filter(running).collect(),
            false => Vec::new(),
        };
        Self {
            is_ready: experiment.upcoming() == Some(Upcoming::Start),
            stopped: stopped.into_iter().map(|trial| trial.number).collect(),
        }
    }
}

impl Experiments {
    fn slot(&self, workspace: &Workspace, task: &TaskId) -> Slot {
        let known = self.known.lock();
        let mut known = known.unwrap_or_else(PoisonError::into_inner);
        let key = (workspace.id().clone(), task.clone());
        if known.len() >= MAX_KNOWN && !known.contains_key(&key) {
            // Those that somebody drives stay; the others are read again when they are needed.
            known.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        known.entry(key).or_default().clone()
    }

    /// Of which one is held by an experiment of the workspace that thinks.
    fn turns(&self, workspace: &Workspace) -> Arc<Semaphore> {
        let turns = self.turns.lock();
        let mut turns = turns.unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turns| Arc::strong_count(turns) > 1);
        let made = || Arc::new(Semaphore::new(THINKING));
        turns
            .entry(workspace.id().clone())
            .or_insert_with(made)
            .clone()
    }

    fn leased(&self) -> MutexGuard<'_, HashMap<Lease, Leased>> {
        let leased = self.leased.lock();
        leased.unwrap_or_else(PoisonError::into_inner)
    }
}

/// Computes for long: another thread takes over what else this one would have done meanwhile.
fn aside<T>(compute: impl FnOnce() -> T) -> T {
    let flavor = Handle::try_current().map(|runtime| runtime.runtime_flavor());
    match flavor {
        Ok(RuntimeFlavor::MultiThread) => block_in_place(compute),
        // There is but one thread.
        _ => compute(),
    }
}

/// Checks the search space and the settings of a tune action.
///
/// # Errors
/// The first thing that is wrong.
pub(crate) fn check_tune(tune: &Tune) -> Result<(), ActionError> {
    Experiment::create("", 0, &tune.hyperparameters, &tune.tune_config).map(|_| ())
}

/// What of an action was accepted although it is deprecated or likely a mistake, one sentence
/// each.
pub fn warnings(action: &Action) -> Vec<String> {
    let mut warnings = action.warnings.clone();
    if let Work::Tune(tune) = &action.work {
        let made = Experiment::create("", 0, &tune.hyperparameters, &tune.tune_config);
        warnings.extend(made.map_or_else(|_| Vec::new(), |(made, _)| made.warnings()));
    }
    warnings
}

impl Engine {
    /// Stops an experiment: waiting trials end now, running ones are asked to stop.
    pub(crate) async fn stop_experiment(
        &self,
        workspace: &Workspace,
        experiment: &TaskId,
        reason: &str,
    ) -> Result<(), ChangeError> {
        let told = if reason.is_empty() { "stopped" } else { reason };
        let stopped = self.drive(workspace, experiment, |known| {
            let mut events = known.experiment.stop(told, self.now_ms());
            if known.parent.task.plugin.is_none() {
                // Nobody can be asked to stop them, so they have ended.
                let running: Vec<(u64, u64)> = known
                    .experiment
                    .trials()
                    .iter()
                    .filter(|trial| trial.status == Status::Running)
                    .map(|trial| (trial.number, trial.attempt))
                    .collect();
                for (number, attempt) in running {
                    let ended =
                        known
                            .experiment
                            .end(number, attempt, Ending::Stopped, self.now_ms());
                    events.extend(ended.unwrap_or_default());
                }
            }
            Ok(Deed {
                answer: (),
                events,
                cause: Cause::Stop {
                    reason: reason.to_owned(),
                },
                own: None,
                replay: None,
            })
        });
        match stopped.await {
            Ok(_) => Ok(()),
            Err(LeaseError::Store(error)) => Err(ChangeError::Store(error)),
            Err(_) => Err(ChangeError::UnknownTask(experiment.clone())),
        }
    }

    /// Tells experiments of trials whose agents are gone, or whose tasks somebody has moved.
    pub(crate) async fn hear_of_lost_trials(&self) -> Result<(), StoreError> {
        let mut lost: HashMap<_, Vec<LostTrial>> = HashMap::new();
        for trial in self.store.lost_trials().await? {
            let experiment = (trial.workspace.id().clone(), trial.trial.experiment.clone());
            lost.entry(experiment).or_default().push(trial);
        }
        // Side by side, because an experiment that thinks lets whoever tells it anything wait.
        let told = lost.into_values().map(|trials| self.hear_of(trials));
        let told: FuturesUnordered<_> = told.map(Box::pin).collect();
        told.try_collect().await
    }

    /// Tells one experiment of trials that it has lost.
    async fn hear_of(&self, trials: Vec<LostTrial>) -> Result<(), StoreError> {
        for lost in trials {
            let LostTrial {
                workspace, trial, ..
            } = &lost;
            let ending = ending_of_lost(&lost);
            let told = self.drive(workspace, &trial.experiment, |known| {
                let (number, attempt) = (trial.number, trial.attempt);
                let ended = known
                    .experiment
                    .end(number, attempt, ending.clone(), self.now_ms());
                Ok(Deed::of((), ended.unwrap_or_default()))
            });
            match told.await {
                Ok(_) => {}
                Err(LeaseError::Store(error)) => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, "an experiment did not hear of a lost trial");
                }
            }
        }
        Ok(())
    }

    /// Takes one step of an experiment: asks `act` what happens, and writes that with all that
    /// follows from it. What came too late is decided anew.
    ///
    /// At first `act` sees the experiment as this process knows it, because the log refuses a
    /// step that does not follow its end. Where nothing would be written, or `act` refuses, that
    /// is decided over what the log has now.
    pub(crate) async fn drive<T>(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        act: impl FnMut(&mut Known) -> Result<Deed<T>, LeaseError>,
    ) -> Result<Done<T>, LeaseError> {
        let thinks = Experiment::weighs_long;
        self.drive_while(workspace, task, thinks, act).await
    }

    /// As [`Self::drive`], where `act` asks for the next trial.
    pub(crate) async fn drive_on<T>(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        act: impl FnMut(&mut Known) -> Result<Deed<T>, LeaseError>,
    ) -> Result<Done<T>, LeaseError> {
        let thinks = Experiment::suggests_long;
        self.drive_while(workspace, task, thinks, act).await
    }

    /// While `act` thinks for long, nobody waits but those who want something of the same
    /// experiment, or another thought in the same workspace. No transaction is open then.
    async fn drive_while<T>(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        thinks_long: fn(&Experiment) -> bool,
        mut act: impl FnMut(&mut Known) -> Result<Deed<T>, LeaseError>,
    ) -> Result<Done<T>, LeaseError> {
        let mut reads = false;
        for _ in 0..MAX_OVERTAKEN {
            let slot = self.experiments().slot(workspace, task);
            let mut slot = slot.lock().await;
            let held = slot.take().filter(Known::holds);
            reads |= held.is_none();
            let mut known = match held {
                Some(known) if !reads => known,
                held => match self.read(workspace, task, held).await {
                    Ok(known) => known,
                    Err(ReadError::Lease(error)) => return Err(error),
                    Err(ReadError::Definition(error)) => {
                        return Err(self.give_up(workspace, task, &error).await);
                    }
                },
            };
            let decided = match thinks_long(&known.experiment) {
                false => act(&mut known),
                true => {
                    let turn = self.experiments().turns(workspace).acquire_owned().await;
                    let decided = aside(|| act(&mut known));
                    drop(turn);
                    decided
                }
            };
            let deed = match decided {
                Ok(deed) => deed,
                Err(_) if !reads => {
                    reads = true;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let mut events = std::mem::take(&mut known.unwritten);
            events.extend(deed.events);
            // A paused trial that may go on does so at once.
            while let Some(Upcoming::Resume { .. }) = known.experiment.upcoming() {
                let (_, resumed) = known.experiment.next(self.now_ms());
                if resumed.is_empty() {
                    break;
                }
                events.extend(resumed);
            }
            if events.is_empty() && deed.cause == Cause::Alone {
                *slot = Some(known).filter(Known::is_kept);
                if !reads {
                    reads = true;
                    continue;
                }
                return Ok(Done {
                    answer: deed.answer,
                    started: None,
                });
            }
            let mut effects = effects(&events, &known.experiment, deed.own);
            if deed.cause == Cause::GoOn {
                // What came since the stop is told once more, and has had its effects, but that
                // whoever was to stop is a copy now.
                effects.retain(|effect| matches!(effect, TrialChange::Copied { .. }));
            }
            let share = known.experiment.progress().unwrap_or(0.0);
            let share = (share * 1000.0).round() / 1000.0;
            let behind = known.place.behind(events.len());
            let step = Step {
                experiment: task.clone(),
                after: std::mem::replace(&mut known.place, behind.clone()),
                behind,
                events: events
                    .iter()
                    .map(|event| json!(event).to_string())
                    .collect(),
                ready: known.experiment.upcoming() == Some(Upcoming::Start),
                progress: (known.shown != Some(share)).then_some(share),
                trials: effects,
                end: end_of(&known),
                answer: deed.replay,
            };
            known.shown = Some(share);
            let news = News::of(&known.experiment, &events);
            let flight = Flight::depart(&known.flights).await;
            let queued = self
                .store
                .queue_step(workspace, deed.cause, step, self.now());
            let queued = queued.await.map_err(LeaseError::Store)?;
            // Others decide over what this step makes of it while it is being written; where
            // it is not written, nothing of theirs is either.
            *slot = Some(known).filter(Known::is_kept);
            drop(slot);
            match queued.written().await {
                Ok(started) => {
                    flight.arrive();
                    self.announce(workspace, task, news).await;
                    return Ok(Done {
                        answer: deed.answer,
                        started,
                    });
                }
                Err(StepError::Overtaken) => reads = true,
                Err(StepError::Lease(error)) => return Err(error),
                Err(StepError::Clone(error)) => {
                    return Err(LeaseError::Invalid(not_cloned(&error)));
                }
                Err(StepError::Store(error)) => return Err(LeaseError::Store(error)),
            }
        }
        Err(LeaseError::Busy)
    }

    /// Looks at an experiment as it stands; nothing is written.
    pub(crate) async fn look<T>(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        look: impl FnOnce(&Experiment, i64) -> T,
    ) -> Result<T, ReadError> {
        let slot = self.experiments().slot(workspace, task);
        let mut slot = slot.lock().await;
        let known = self.read(workspace, task, slot.take()).await?;
        let seen = look(&known.experiment, known.place.seq);
        *slot = Some(known).filter(Known::is_kept);
        Ok(seen)
    }

    /// An experiment in the state that its log describes; one without a log is made of its task.
    async fn read(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        known: Option<Known>,
    ) -> Result<Known, ReadError> {
        let action = "read an experiment";
        if let Some(known) = &known {
            known.flights.wait().await;
        }
        let known = known.filter(Known::holds);
        let damaged = |error: String| {
            LeaseError::Store(StoreError::Damaged {
                action,
                source: error.into(),
            })
        };
        let end = self.store.end_of_log(workspace, task).await;
        let end = end.map_err(LeaseError::Store)?;
        let same_run = |known: &Known| known.place.run == end.run && known.place.seq <= end.seq;
        let known = known.filter(|known| same_run(known) && end.seq > 0);
        let after = known.as_ref().map_or(0, |known| known.place.seq);
        let texts = if end.seq > after {
            let read = self
                .store
                .experiment_events(workspace, task, after, end.seq);
            read.await.map_err(LeaseError::Store)?
        } else {
            Vec::new()
        };
        let is_long = texts.len() > LONG_LOG;
        let parse = || {
            let parsed = texts.iter().map(|text| serde_json::from_str(text));
            let parsed: Result<Vec<Event>, _> = parsed.collect();
            parsed.map_err(|error| damaged(error.to_string()))
        };
        let events = if is_long { aside(parse) } else { parse() }?;
        if let Some(mut known) = known {
            let position = usize::try_from(after).unwrap_or(usize::MAX);
            let mut advance = || known.experiment.advance(position, &events);
            let advanced = if is_long { aside(advance) } else { advance() };
            advanced.map_err(|error| damaged(error.to_string()))?;
            known.place = end;
            return Ok(known);
        }
        let view = self.store.task(workspace, task).await;
        let view = view.map_err(LeaseError::Store)?;
        let view = view.ok_or_else(|| LeaseError::UnknownTask(task.clone()))?;
        let (parent, tune) = definition(view).map_err(ReadError::Definition)?;
        let (experiment, unwritten) = if events.is_empty() {
            let seed = parent.task.seed.unwrap_or_default();
            let id = parent.task.id.as_str();
            let created = Experiment::create(id, seed, &tune.hyperparameters, &tune.tune_config);
            created.map_err(ReadError::Definition)?
        } else {
            let replay = || Experiment::replay(&events);
            let replayed = if is_long { aside(replay) } else { replay() };
            (
                replayed.map_err(|error| damaged(error.to_string()))?,
                Vec::new(),
            )
        };
        Ok(Known {
            place: end,
            experiment,
            parent: Arc::new(parent),
            unwritten,
            shown: None,
            flights: Arc::default(),
        })
    }

    /// Fails the task of an experiment that cannot be made: it was edited after it was checked.
    async fn give_up(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        error: &ActionError,
    ) -> LeaseError {
        let reason = error.to_string();
        let fail = Move {
            reason: &reason,
            ..Move::new(Verb::Fail).forced()
        };
        let moved = self.store.move_task(workspace, task, &fail, self.now());
        match moved.await {
            Err(ChangeError::Store(error)) => LeaseError::Store(error),
            _ => {
                self.changes().task_changed(workspace.id(), task);
                LeaseError::Invalid(reason)
            }
        }
    }

    /// Wakes whoever waits for what a step brought.
    async fn announce(&self, workspace: &Workspace, task: &TaskId, news: News) {
        self.changes().task_changed(workspace.id(), task);
        if news.is_ready {
            self.changes().task_queued();
        }
        if news.stopped.is_empty() {
            return;
        }
        // Agents hear of it within a second, also when this fails.
        if let Ok(trials) = self.store.trial_tasks(workspace, task).await {
            for number in news.stopped {
                if let Some((trial, _)) = trials.get(&number) {
                    self.changes().task_changed(workspace.id(), trial);
                }
            }
        }
    }

    pub(crate) fn now_ms(&self) -> u64 {
        u64::try_from(self.now().as_millis()).unwrap_or(0)
    }
}

/// What an experiment is made of, out of its task.
fn definition(task: TaskView) -> Result<(Parent, Tune), ActionError> {
    if task.plugin.is_none() {
        return Ok(asked_definition(task));
    }
    let mut params = task.params.clone();
    params.insert("name".to_owned(), json!(task.name));
    params.insert("is_tune".to_owned(), json!(true));
    let action = Action::parse(&json!({"action": "train", "params": params}))?;
    let Work::Tune(tune) = action.work else {
        return Err(ActionError::new("/action", "the task does not tune"));
    };
    let parent = Parent {
        task,
        limits: action.common.limits,
        num_cpus: tune.num_cpus,
        num_gpus: tune.num_gpus,
        supplies: OnceCell::new(),
    };
    Ok((parent, tune))
}

/// What an experiment is made of whose trials run elsewhere: its fields were checked.
fn asked_definition(task: TaskView) -> (Parent, Tune) {
    let list = task.params.get("hyperparameters").and_then(Value::as_array);
    let config = task.params.get("tune_config").and_then(Value::as_object);
    let tune = Tune {
        hyperparameters: list.cloned().unwrap_or_default(),
        tune_config: config.cloned().unwrap_or_default(),
        checkpoint: None,
        num_cpus: None,
        num_gpus: None,
    };
    let parent = Parent {
        task,
        limits: LimitRequest::default(),
        num_cpus: None,
        num_gpus: None,
        supplies: OnceCell::new(),
    };
    (parent, tune)
}

/// Thousandths of a number that is 0 or more; the least share is one.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "what is asked for is 0 or more, and more than a million is never there"
)]
fn thousandths(amount: f64) -> u64 {
    (amount.clamp(0.0, 1e6) * 1000.0).ceil() as u64
}

impl Parent {
    /// The task of a trial.
    fn trial(&self, start: &Start) -> NewTask {
        let task = &self.task;
        let checkpoint = match &start.checkpoint {
            Some((model, _)) => model_of(model),
            None => task.checkpoint,
        };
        let name = format!("{}_{}", task.name, start.id);
        let mut params = Map::new();
        params.insert("name".to_owned(), json!(name));
        params.insert("dataset".to_owned(), json!(task.dataset));
        params.insert("hyperparameter".to_owned(), json!(start.config));
        for field in PASSED_ON {
            if let Some(value) = task.params.get(field) {
                params.insert(field.to_owned(), value.clone());
            }
        }
        let parameters = shown_settings(&start.config, &task.params);
        NewTask {
            id: TaskId::from_u128(Uuid::now_v7().as_u128()),
            project: task.project.clone(),
            encoded_name: format!("{}_{}", task.encoded_name, start.id),
            name,
            task_type: TaskType::Training,
            comment: String::new(),
            tags: Vec::new(),
            system_tags: vec![TRIAL.to_owned()],
            parent: Some(task.id.clone()),
            creator: task.creator.clone(),
            script: None,
            container: None,
            output_destination: task.output_destination.clone(),
            work: task
                .plugin
                .clone()
                .zip(task.dataset)
                .map(|(plugin, dataset)| NewWork {
                    action: "train",
                    params,
                    settings: start.config.clone(),
                    plugin,
                    dataset,
                    checkpoint,
                    seed: task.seed.unwrap_or_default(),
                    limits: self.limits,
                    initial_iteration: 0,
                }),
            parameters,
            configuration: Vec::new(),
            queued: false,
        }
    }
}

/// The id of the model in the name of a checkpoint.
fn model_of(checkpoint: &str) -> Option<u64> {
    let (id, _) = checkpoint.split_once('@')?;
    id.parse().ok()
}

pub(crate) fn answer_of(decision: Decision) -> TrialDecision {
    match decision {
        Decision::Continue => TrialDecision::Continue,
        Decision::Pause => TrialDecision::Pause,
        // It goes on as another attempt, from another's checkpoint.
        Decision::Stop | Decision::Restart => TrialDecision::Stop,
    }
}

/// Checks what a trial reports of itself.
pub(crate) fn check_metrics(iteration: u64, metrics: &Map<String, Value>) -> Result<(), String> {
    if iteration > MAX_ITERATION {
        return Err(format!(
            "the iteration of a trial is at most {MAX_ITERATION}, but it is {iteration}"
        ));
    }
    if metrics.len() > MAX_METRICS {
        return Err(format!(
            "a trial reports at most {MAX_METRICS} metrics, but these are {}",
            metrics.len()
        ));
    }
    let bytes = json!(metrics).to_string().len();
    if bytes > MAX_METRICS_BYTES {
        return Err(format!(
            "the metrics of a trial have at most {MAX_METRICS_BYTES} bytes, but these have {bytes}"
        ));
    }
    Ok(())
}

fn ending_of_lost(lost: &LostTrial) -> Ending {
    match lost.state {
        _ if lost.interrupted => Ending::Interrupted,
        TaskState::Completed | TaskState::Published => Ending::Completed {
            returned: Value::Null,
        },
        TaskState::Failed => Ending::Failed {
            reason: lost.reason.clone(),
        },
        TaskState::Created | TaskState::Queued | TaskState::InProgress | TaskState::Stopped => {
            Ending::Stopped
        }
    }
}

/// What events do to the tasks of trials.
fn effects(
    events: &[Event],
    experiment: &Experiment,
    mut own: Option<TrialChange>,
) -> Vec<TrialChange> {
    let mut changes = Vec::new();
    for event in events {
        match event {
            Event::Started { .. } | Event::Checkpointed { .. } => changes.extend(own.take()),
            Event::Paused { trial } => changes.push(TrialChange::Paused(*trial)),
            Event::Resumed { trial, .. } => {
                let goes_on = |trial: &Trial| trial.status == Status::Running;
                if experiment.trial(*trial).is_some_and(goes_on) {
                    changes.push(TrialChange::Resumed(*trial));
                }
            }
            Event::Exploited { trial, from, .. } => {
                changes.push(TrialChange::Over(*trial));
                changes.push(TrialChange::Copied {
                    trial: *trial,
                    from: *from,
                });
            }
            Event::Ended { trial, .. } | Event::Closed { trial, .. } => {
                // An end is mostly two events.
                if !matches!(changes.last(), Some(TrialChange::Over(last)) if last == trial) {
                    changes.push(TrialChange::Over(*trial));
                }
            }
            Event::Stopped { reason } => changes.push(TrialChange::StopAll(reason.clone())),
            Event::Created { .. }
            | Event::TrialCreated { .. }
            | Event::Reported { .. }
            | Event::Decided { .. }
            | Event::Unpaused { .. }
            | Event::Retried { .. }
            | Event::StopRequested { .. }
            | Event::Continued { .. }
            | Event::BestChosen { .. } => {}
        }
    }
    changes
}

/// How an experiment ends, if it has.
fn end_of(known: &Known) -> Option<EndOfExperiment> {
    if !known.experiment.is_finished() {
        return None;
    }
    let (experiment, parent) = (known.experiment.clone(), known.parent.clone());
    Some(Box::new(move |models, stop| {
        let experiment = &experiment;
        let model = |trial: &Trial| models.get(&trial.number).copied();
        let place = |trial: &Trial| format!("{}_{}", parent.task.encoded_name, trial.id);
        let result = payload::result(experiment, model, place);
        let first_error = || {
            let failed = experiment
                .trials()
                .iter()
                .filter(|trial| trial.status == Status::Error);
            let told = failed.filter_map(|trial| Some((&trial.id, trial.reason.as_ref()?)));
            told.map(|(id, reason)| format!("trial {id}: {reason}"))
                .next()
        };
        let object = |result: Value| match result {
            Value::Object(result) => result,
            other => Map::from_iter([("result".to_owned(), other)]),
        };
        let best = result.as_ref().ok().map(|result| object(result.clone()));
        let outcome = match (result, stop) {
            (_, Some(reason)) => Outcome::Stopped { reason },
            _ if experiment.has_failed_fast() => Outcome::Failed {
                reason: experiment.stopped().unwrap_or_default().to_owned(),
            },
            (Ok(result), None) => Outcome::Completed {
                result: object(result),
            },
            (Err(none), None) => Outcome::Failed {
                reason: none.to_string(),
            },
        };
        let message = match (&outcome, experiment.stopped()) {
            (Outcome::Completed { .. }, Some(reason)) => reason.to_owned(),
            (Outcome::Failed { .. }, _) => first_error().unwrap_or_default(),
            _ => String::new(),
        };
        ExperimentEnd {
            outcome,
            message,
            result: best,
        }
    }))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::aside;

    /// With one thread of the runtime: who waits on it for another would wait for ever.
    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn others_go_on_while_somebody_computes() {
        let (tell, told) = mpsc::channel();
        let thinks = tokio::spawn(async move { aside(|| told.recv()) });
        let other = tokio::spawn(async move { tell.send("done") });
        other.await.unwrap().unwrap();
        assert_eq!(thinks.await.unwrap(), Ok("done"));
    }
}
