//! Experiments: whatever happens to a trial drives its experiment.
//!
//! Nobody runs an experiment. An agent that asks for work is handed the trial that comes next;
//! a report, an end, a lease that was lost and a request to stop are each one step, written in
//! the transaction that records them. What is kept in memory is the log as far as it was read,
//! folded: a cache, so any number of servers may drive an experiment on one database.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout};
use trainshed_core::action::{Action, ActionError, Tune, Work};
use trainshed_core::limits::LimitRequest;
use trainshed_core::report::{Report, TrialAnswer, TrialDecision, TrialReport};
use trainshed_core::task::{Outcome, TaskState, TaskType, Verb};
use trainshed_core::view::{DatasetView, LeaseView, TaskView, TrialLease};
use trainshed_core::{AgentId, TaskId, WorkspaceId};
use trainshed_store::{
    Cause, ChangeError, ClaimedTask, EndOfExperiment, EndOfRun, ExperimentEnd, LeaseError,
    LostTrial, Move, NewTask, NewWork, Place, StartedTrial, Step, StepError, StoreError,
    TrialChange, TrialClone, TrialOf, Workspace,
};
use trainshed_tune::experiment::event::{Ending, Event, Status};
use trainshed_tune::experiment::{Next, Refusal, Report as TuneReport, Start, Upcoming};
use trainshed_tune::{Decision, Experiment, payload};
use uuid::Uuid;

use crate::base::not_cloned;
use crate::engine::Engine;
use crate::event::Event as Change;
use crate::lease::LOOK_EVERY;
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
/// How often a step that came too late is decided anew, before the caller has to come again.
const MAX_OVERTAKEN: usize = 100;

/// Leases of trials that are known in memory.
const MAX_LEASED: usize = 10_000;

/// Experiments whose logs have been read, and the leases of trials that were handed out.
#[derive(Default)]
pub(crate) struct Experiments {
    known: Mutex<HashMap<(WorkspaceId, TaskId), Slot>>,
    leased: Mutex<HashMap<Lease, Leased>>,
}

/// A lease: whose task, and its fence. It is always that of one attempt at one trial.
type Lease = (WorkspaceId, TaskId, i64);

/// A trial that runs.
#[derive(Clone)]
pub(crate) struct Leased {
    trial: TrialOf,
    /// What its experiment is judged by, where that is known.
    metric: Option<String>,
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
    /// What comes with the attempt that one of the events starts.
    start: Option<TrialChange>,
}

impl<T> Deed<T> {
    pub(crate) fn of(answer: T, events: Vec<Event>) -> Self {
        Self {
            answer,
            events,
            cause: Cause::Alone,
            start: None,
        }
    }

    pub(crate) fn with_clone(self, clone: Option<TrialClone>) -> Self {
        Self {
            start: clone.map(|clone| TrialChange::Clone(Box::new(clone))),
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

/// A trial that is handed to an agent.
struct HandedOut {
    number: u64,
    attempt: u64,
    settings: Map<String, Value>,
    /// The name of the checkpoint behind which it goes on.
    checkpoint: Option<String>,
    /// Of its task.
    name: String,
    work: Option<NewWork>,
    lease: TrialLease,
    metric: String,
    parent: Arc<Parent>,
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

    fn leased(&self) -> MutexGuard<'_, HashMap<Lease, Leased>> {
        let leased = self.leased.lock();
        leased.unwrap_or_else(PoisonError::into_inner)
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
    /// Hands the next trial of an experiment to an agent; `None` when none is to be run now.
    pub(crate) async fn start_trial(
        &self,
        workspace: &Workspace,
        experiment: &TaskId,
        agent: &AgentId,
    ) -> Result<Option<LeaseView>, StoreError> {
        let (agent, lease_until) = (agent.clone(), self.lease_until());
        let started = self
            .drive(workspace, experiment, |known| {
                let (next, events) = known.experiment.next(self.now_ms());
                let Next::Start(start) = next else {
                    return Ok(Deed::of(None, events));
                };
                let task = known.parent.trial(&start);
                let trial = known.experiment.trial(start.trial);
                let lease = TrialLease {
                    id: start.id,
                    iteration: start.checkpoint.as_ref().map_or(0, |known| known.1),
                    elapsed_ms: trial.map_or(0, |trial| trial.elapsed_ms),
                    milli_cpus: thousandths(known.parent.num_cpus.unwrap_or(1.0)),
                    milli_gpus: thousandths(known.parent.num_gpus.unwrap_or(0.0)),
                };
                let handed = HandedOut {
                    number: start.trial,
                    attempt: start.attempt,
                    settings: start.config,
                    checkpoint: start.checkpoint.map(|(name, _)| name),
                    name: task.name.clone(),
                    work: task.work.clone(),
                    lease,
                    metric: known.experiment.metric().to_owned(),
                    parent: known.parent.clone(),
                };
                Ok(Deed {
                    answer: Some(handed),
                    events,
                    cause: Cause::Alone,
                    start: Some(TrialChange::Start(Box::new(StartedTrial {
                        number: start.trial,
                        attempt: start.attempt,
                        task,
                        agent: agent.clone(),
                        lease_until,
                    }))),
                })
            })
            .await;
        let done = match started {
            Ok(done) => done,
            Err(LeaseError::Store(error)) => return Err(error),
            // Its definition does not hold any more; its task says so.
            Err(_) => return Ok(None),
        };
        let (Some(handed), Some((task, fence))) = (done.answer, done.started) else {
            return Ok(None);
        };
        self.changes().task_changed(workspace.id(), &task);
        let leased = Leased {
            trial: TrialOf {
                experiment: experiment.clone(),
                number: handed.number,
                attempt: handed.attempt,
            },
            metric: Some(handed.metric.clone()),
        };
        self.note_lease(workspace, &task, fence, leased);
        let view = self.describe_trial(workspace, (task, fence), handed);
        view.await.map(Some)
    }

    /// What an agent is told of a trial that it was handed.
    async fn describe_trial(
        &self,
        workspace: &Workspace,
        (task, fence): (TaskId, i64),
        handed: HandedOut,
    ) -> Result<LeaseView, StoreError> {
        let parent = &handed.parent;
        // A first attempt is what it was made of a moment ago, and has reported nothing.
        if let (1, None, Some(work)) = (handed.attempt, &handed.checkpoint, handed.work)
            && work.checkpoint.is_none()
        {
            let read = || self.read_supplies(workspace, &parent.task);
            let supplies = parent.supplies.get_or_try_init(read).await?;
            return Ok(LeaseView {
                task,
                name: handed.name,
                fence,
                ttl_ms: u64::try_from(self.lease_ttl().as_millis()).unwrap_or(u64::MAX),
                action: work.action.to_owned(),
                params: work.params,
                settings: handed.settings,
                seed: work.seed,
                initial_iteration: work.initial_iteration,
                initial_second: 0,
                limits: parent.limits,
                plugin: work.plugin,
                environment: supplies.environment.clone(),
                dataset: supplies.dataset.clone(),
                checkpoint: None,
                trial: Some(handed.lease),
            });
        }
        let claimed = ClaimedTask {
            task,
            fence,
            settings: handed.settings,
            limits: parent.limits,
        };
        let described = self.describe_lease(workspace, claimed, Some(handed.lease));
        let mut view = described.await?;
        if let (Some(name), Some(model), Some(lease)) =
            (&handed.checkpoint, &view.checkpoint, &mut view.trial)
        {
            lease.iteration = lease
                .iteration
                .saturating_add(saved_since(name, model.iteration));
        }
        Ok(view)
    }

    async fn read_supplies(
        &self,
        workspace: &Workspace,
        task: &TaskView,
    ) -> Result<Supplies, StoreError> {
        let gone = |what: &str| StoreError::Damaged {
            action: "describe a leased trial",
            source: format!("the {what} of task {} is gone", task.id).into(),
        };
        let dataset = task.dataset.ok_or_else(|| gone("data set"))?;
        let dataset = self.store.dataset(workspace, dataset).await?;
        let plugin = task.plugin.as_ref().ok_or_else(|| gone("plugin"))?;
        let plugin = self.store.plugin(workspace, &plugin.digest).await?;
        Ok(Supplies {
            dataset: dataset.ok_or_else(|| gone("data set"))?,
            environment: plugin.ok_or_else(|| gone("plugin"))?.manifest.environment,
        })
    }

    /// Takes in what a trial reports, and answers what it is to do. A report that was taken in
    /// before gets the same answer again.
    ///
    /// # Errors
    /// When the lease is over, the task is no trial, or the report breaks a rule.
    pub async fn report_trial(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        fence: i64,
        report: TrialReport,
    ) -> Result<TrialAnswer, LeaseError> {
        check_metrics(report.iteration, &report.metrics).map_err(LeaseError::Invalid)?;
        let Leased { trial, .. } = self.leased_trial(workspace, task, fence).await?;
        let checkpoint = match &report.checkpoint {
            None => None,
            Some(name) => {
                let saved = self.store.saved_model(workspace, task, name).await;
                let saved = saved.map_err(LeaseError::Store)?;
                let meant = |sha256: &String| {
                    let given = report.checkpoint_sha256.as_ref();
                    given.is_none_or(|given| given.to_string() == *sha256)
                };
                let saved = saved.filter(|(_, sha256, _)| meant(sha256));
                let (id, sha256, iteration) =
                    saved.ok_or_else(|| LeaseError::NotYet(name.clone()))?;
                Some(format!("{id}@{sha256}@{iteration}"))
            }
        };
        let lease_until = self.lease_until();
        let (number, attempt) = (trial.number, trial.attempt);
        let report = TuneReport {
            trial: number,
            attempt,
            iteration: report.iteration,
            metrics: report.metrics,
            elapsed_ms: report.elapsed_ms,
        };
        let reported = self.drive(workspace, &trial.experiment, |known| {
            let (experiment, at_ms) = (&mut known.experiment, self.now_ms());
            let refused = |refusal: Refusal| match refusal {
                Refusal::StaleAttempt { .. } | Refusal::UnknownTrial { .. } => LeaseError::Stale {
                    task: task.clone(),
                    fence,
                },
                Refusal::NoIteration { .. } => LeaseError::Invalid(refusal.to_string()),
            };
            // Before the report, so that whoever goes on from this trial has the newest.
            let mut events = match &checkpoint {
                Some(checkpoint) => experiment
                    .checkpoint(number, attempt, report.iteration, checkpoint)
                    .map_err(refused)?,
                None => Vec::new(),
            };
            let (decision, reported) = experiment.report(report.clone(), at_ms).map_err(refused)?;
            events.extend(reported);
            Ok(Deed {
                answer: decision,
                events,
                cause: Cause::Report {
                    task: task.clone(),
                    fence,
                    lease_until,
                },
                start: None,
            })
        });
        let decision = answer_of(reported.await?.answer);
        Ok(TrialAnswer { decision })
    }

    /// What a paused trial is to do; waits up to `wait` until that is something else than to
    /// wait.
    ///
    /// # Errors
    /// When the lease is over, or the task is no trial.
    pub async fn await_decision(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        fence: i64,
        wait: Duration,
    ) -> Result<TrialAnswer, LeaseError> {
        let deadline = Instant::now() + wait;
        let mut changes = self.subscribe();
        loop {
            let stop = self.store.stop_request(workspace, task, fence).await?;
            let Leased { trial, .. } = self.leased_trial(workspace, task, fence).await?;
            let decided = self.drive(workspace, &trial.experiment, |known| {
                let decision = known.experiment.decision(trial.number, trial.attempt);
                // Another attempt at it has begun, so this one is to end.
                Ok(Deed::of(decision.unwrap_or(Decision::Stop), Vec::new()))
            });
            let decision = match stop {
                Some(_) => TrialDecision::Stop,
                None => answer_of(decided.await?.answer),
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if decision != TrialDecision::Pause || left.is_zero() {
                return Ok(TrialAnswer { decision });
            }
            let change = async {
                // An error means that events were missed, which may have been this one's.
                while let Ok(Change { task: changed, .. }) = changes.recv().await {
                    if changed == trial.experiment || changed == *task {
                        break;
                    }
                }
            };
            let _ = timeout(left.min(LOOK_EVERY), change).await;
        }
    }

    async fn leased_trial(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        fence: i64,
    ) -> Result<Leased, LeaseError> {
        let trial = self.trial_of_lease(workspace, task, fence).await?;
        trial.ok_or_else(|| {
            LeaseError::Invalid("the task is no trial: it has no experiment to report to".into())
        })
    }

    /// The trial that is run under a lease; `None` when the task is no trial.
    pub(crate) async fn trial_of_lease(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        fence: i64,
    ) -> Result<Option<Leased>, LeaseError> {
        let lease = (workspace.id().clone(), task.clone(), fence);
        let known = self.experiments().leased().get(&lease).cloned();
        if known.is_some() {
            return Ok(known);
        }
        let trial = self.store.trial_of(workspace, task).await;
        let trial = trial.map_err(LeaseError::Store)?;
        Ok(trial.map(|trial| Leased {
            trial,
            metric: None,
        }))
    }

    fn note_lease(&self, workspace: &Workspace, task: &TaskId, fence: i64, leased: Leased) {
        let mut known = self.experiments().leased();
        if known.len() >= MAX_LEASED {
            known.clear();
        }
        known.insert((workspace.id().clone(), task.clone(), fence), leased);
    }

    /// Ends the task of a trial, and tells its experiment.
    pub(crate) async fn finish_trial(
        &self,
        workspace: &Workspace,
        leased: &Leased,
        (task, fence): (&TaskId, i64),
        end: EndOfRun,
    ) -> Result<(), LeaseError> {
        let was_asked = match &end.outcome {
            Outcome::Stopped { .. } => {
                let view = self.store.task(workspace, task).await;
                view.map_err(LeaseError::Store)?
                    .is_some_and(|view| view.stopping)
            }
            Outcome::Completed { .. } | Outcome::Failed { .. } => false,
        };
        let last = match &end.outcome {
            Outcome::Completed { result } if !leased.is_judged_by(result) => {
                self.last_values(workspace, task, &end.reports).await
            }
            _ => Ok(Map::new()),
        };
        let last = last.map_err(LeaseError::Store)?;
        let trial = &leased.trial;
        self.drive(workspace, &trial.experiment, |known| {
            let experiment = &mut known.experiment;
            let ending = ending(&end.outcome, was_asked, experiment.metric(), &last);
            // A trial that the log knows to have ended, or another attempt at it: its fence
            // tells the agent what there is to tell.
            let ended = experiment.end(trial.number, trial.attempt, ending, self.now_ms());
            let events = ended.unwrap_or_default();
            let end = EndOfRun {
                outcome: told(&end.outcome, trial.number, &events),
                reports: end.reports.clone(),
            };
            Ok(Deed {
                answer: (),
                events,
                cause: Cause::Finish {
                    task: task.clone(),
                    fence,
                    end,
                },
                start: None,
            })
        })
        .await?;
        let lease = (workspace.id().clone(), task.clone(), fence);
        self.experiments().leased().remove(&lease);
        Ok(())
    }

    /// The last values of curves and the single values of a task, by name; `reports` are those
    /// that come with its end.
    async fn last_values(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        reports: &[Report],
    ) -> Result<Map<String, Value>, StoreError> {
        let mut values = Map::new();
        for curve in self.store.series(workspace, task).await? {
            let value = json!(curve.last.0);
            values.insert(format!("{}/{}", curve.title, curve.series), value.clone());
            values.insert(curve.series, value);
        }
        for single in self.store.singles(workspace, task).await? {
            values.insert(single.name, json!(single.value.0));
        }
        for report in reports {
            if let Report::Single { name, value } = report {
                values.insert(name.clone(), json!(value.0));
            }
        }
        Ok(values)
    }

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
                start: None,
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
        for lost in self.store.lost_trials().await? {
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
            // Boxed, because callers hold this within futures of theirs.
            match Box::pin(told).await {
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
        mut act: impl FnMut(&mut Known) -> Result<Deed<T>, LeaseError>,
    ) -> Result<Done<T>, LeaseError> {
        let mut reads = false;
        for _ in 0..MAX_OVERTAKEN {
            let slot = self.experiments().slot(workspace, task);
            let mut slot = slot.lock().await;
            let held = slot.take();
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
            let deed = match act(&mut known) {
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
                *slot = Some(known);
                if !reads {
                    reads = true;
                    continue;
                }
                return Ok(Done {
                    answer: deed.answer,
                    started: None,
                });
            }
            let effects = match deed.cause {
                // What came since the stop is told once more, and has had its effects.
                Cause::GoOn => Vec::new(),
                _ => effects(&events, &known.experiment, deed.start),
            };
            let share = known.experiment.progress().unwrap_or(0.0);
            let share = (share * 1000.0).round() / 1000.0;
            let step = Step {
                experiment: task,
                after: &known.place,
                events: events
                    .iter()
                    .map(|event| json!(event).to_string())
                    .collect(),
                ready: known.experiment.upcoming() == Some(Upcoming::Start),
                progress: (known.shown != Some(share)).then_some(share),
                trials: effects,
                end: end_of(&known),
            };
            let now = self.now();
            match self.store.take_step(workspace, deed.cause, step, now).await {
                Ok((place, started)) => {
                    known.place = place;
                    known.shown = Some(share);
                    self.announce(workspace, task, &known, &events).await;
                    *slot = Some(known);
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
        *slot = Some(known);
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
        let events = if end.seq > after {
            let read = self
                .store
                .experiment_events(workspace, task, after, end.seq);
            let texts = read.await.map_err(LeaseError::Store)?;
            let parsed = texts.iter().map(|text| serde_json::from_str(text));
            let parsed: Result<Vec<Event>, _> = parsed.collect();
            parsed.map_err(|error| damaged(error.to_string()))?
        } else {
            Vec::new()
        };
        if let Some(mut known) = known {
            let position = usize::try_from(after).unwrap_or(usize::MAX);
            let advanced = known.experiment.advance(position, &events);
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
            let replayed = Experiment::replay(&events);
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

    /// Wakes whoever waits for what the events brought.
    async fn announce(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        known: &Known,
        events: &[Event],
    ) {
        self.changes().task_changed(workspace.id(), task);
        if known.experiment.upcoming() == Some(Upcoming::Start) {
            self.changes().task_queued();
        }
        let stops = |event: &Event| matches!(event, Event::Stopped { .. });
        if !events.iter().any(stops) {
            return;
        }
        // Agents hear of it within a second, also when this fails.
        if let Ok(trials) = self.store.trial_tasks(workspace, task).await {
            for (number, (trial, _)) in trials {
                let state = known.experiment.trial(number).map(|trial| trial.status);
                if state == Some(Status::Running) {
                    self.changes().task_changed(workspace.id(), &trial);
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

impl Leased {
    /// Whether a result says by itself what the experiment is judged by.
    fn is_judged_by(&self, result: &Map<String, Value>) -> bool {
        let metric = self.metric.as_deref();
        metric.is_some_and(|metric| result.contains_key(metric))
    }
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

/// How many iterations a model is ahead of the checkpoint that it is: what a trial saved again
/// after its last report, as when its machine died in between, is not done again.
fn saved_since(checkpoint: &str, iteration: u64) -> u64 {
    let then = checkpoint.split('@').nth(2);
    let then = then.and_then(|then| then.parse::<u64>().ok());
    then.map_or(0, |then| iteration.saturating_sub(then))
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

/// How an attempt ended, as its experiment has it.
fn ending(outcome: &Outcome, was_asked: bool, metric: &str, last: &Map<String, Value>) -> Ending {
    match outcome {
        Outcome::Completed { result } => Ending::Completed {
            returned: returned(result, metric, last),
        },
        Outcome::Failed { reason } => Ending::Failed {
            reason: reason.clone(),
        },
        Outcome::Stopped { .. } if was_asked => Ending::Stopped,
        // Its agent was stopped, and not the trial.
        Outcome::Stopped { .. } => Ending::Interrupted,
    }
}

/// What a trial returned. A value that is no object is the objective, and what was logged under
/// its name counts where the trial did not return it.
fn returned(result: &Map<String, Value>, metric: &str, last: &Map<String, Value>) -> Value {
    let mut result = result.clone();
    result.remove("model_id");
    if !result.contains_key(metric) {
        let alone = (result.len() == 1).then(|| result.get("result")).flatten();
        if let Some(number @ Value::Number(_)) = alone {
            return number.clone();
        }
        if let Some(logged) = last.get(metric) {
            result.insert(metric.to_owned(), logged.clone());
        }
    }
    Value::Object(result)
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

/// The outcome of a trial's task: what its experiment makes of what the agent tells.
fn told(outcome: &Outcome, number: u64, events: &[Event]) -> Outcome {
    let closed = events.iter().find_map(|event| match event {
        Event::Closed {
            trial,
            status,
            reason,
            ..
        } if *trial == number => Some((*status, reason.clone())),
        _ => None,
    });
    match (outcome, closed) {
        (Outcome::Completed { .. }, Some((Status::Error, reason))) => Outcome::Failed {
            reason: reason.unwrap_or_default(),
        },
        (Outcome::Stopped { .. }, Some((_, Some(reason)))) => Outcome::Stopped { reason },
        _ => outcome.clone(),
    }
}

/// What events do to the tasks of trials.
fn effects(
    events: &[Event],
    experiment: &Experiment,
    mut start: Option<TrialChange>,
) -> Vec<TrialChange> {
    let mut changes = Vec::new();
    for event in events {
        match event {
            Event::Started { .. } => changes.extend(start.take()),
            Event::Paused { trial } => changes.push(TrialChange::Paused(*trial)),
            Event::Resumed { trial, .. } => {
                let goes_on =
                    |trial: &trainshed_tune::experiment::Trial| trial.status == Status::Running;
                if experiment.trial(*trial).is_some_and(goes_on) {
                    changes.push(TrialChange::Resumed(*trial));
                }
            }
            Event::Ended { trial, .. }
            | Event::Exploited { trial, .. }
            | Event::Closed { trial, .. } => {
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
            | Event::Checkpointed { .. }
            | Event::Retried { .. }
            | Event::StopRequested { .. }
            | Event::Continued { .. }
            | Event::BestChosen { .. } => {}
        }
    }
    changes
}

/// How an experiment ends, if it has.
fn end_of(known: &Known) -> Option<EndOfExperiment<'_>> {
    let experiment = &known.experiment;
    if !experiment.is_finished() {
        return None;
    }
    Some(Box::new(move |models, stop| {
        let model = |trial: &trainshed_tune::experiment::Trial| models.get(&trial.number).copied();
        let place = |trial: &trainshed_tune::experiment::Trial| {
            format!("{}_{}", known.parent.task.encoded_name, trial.id)
        };
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
