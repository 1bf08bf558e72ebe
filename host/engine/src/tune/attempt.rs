//! Attempts at trials, as the agents see them that run them: handed out, reporting, waiting and
//! ending, each a step of their experiment.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::time::{Instant, timeout};
use trainshed_core::report::{Report, TrialAnswer, TrialDecision, TrialReport};
use trainshed_core::task::Outcome;
use trainshed_core::view::{LeaseView, TaskView, TrialLease};
use trainshed_core::{AgentId, TaskId, WorkspaceId};
use trainshed_store::{
    Cause, Checkpoint, ClaimedTask, EndOfRun, LeaseError, NewWork, StartedTrial, StoreError,
    TrialChange, TrialCheckpoint, TrialOf, Workspace,
};
use trainshed_tune::Decision;
use trainshed_tune::experiment::event::{Ending, Event, Status};
use trainshed_tune::experiment::{Next, Refusal, Report as TuneReport};

use super::{Deed, Parent, Supplies, answer_of, check_metrics, thousandths};
use crate::engine::Engine;
use crate::event::Event as Change;
use crate::lease::LOOK_EVERY;

/// Leases of trials that are known in memory.
const MAX_LEASED: usize = 10_000;

/// A lease: whose task, and its fence. It is always that of one attempt at one trial.
pub(super) type Lease = (WorkspaceId, TaskId, i64);

/// A trial that runs.
#[derive(Clone)]
pub(crate) struct Leased {
    trial: TrialOf,
    /// What its experiment is judged by, where that is known.
    metric: Option<String>,
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
            .drive_on(workspace, experiment, |known| {
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
                    own: Some(TrialChange::Start(Box::new(StartedTrial {
                        number: start.trial,
                        attempt: start.attempt,
                        task,
                        agent: agent.clone(),
                        lease_until,
                    }))),
                    replay: None,
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
        match (&handed.checkpoint, &mut view.checkpoint, &mut view.trial) {
            (Some(name), Some(model), Some(lease)) => {
                let reported = self.store.checkpoint_of_trial(workspace, &view.task);
                if let Some(reported) = reported.await?.filter(|known| known.model == model.id) {
                    model.iteration = reported.iteration;
                    model.sha256 = Some(reported.sha256);
                    model.size_bytes = reported.size_bytes;
                    model.metadata = reported.metadata;
                }
                lease.iteration = lease
                    .iteration
                    .saturating_add(saved_since(name, model.iteration));
            }
            // Its model was deleted: the trial does again what it has reported.
            (Some(_), None, Some(lease)) => lease.iteration = 0,
            _ => {}
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
        let dataset = self.dataset_of_lease(workspace, dataset).await?;
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
                let given = report.checkpoint_sha256;
                let is_meant = |saved: &Checkpoint| given.is_none_or(|given| given == saved.sha256);
                let saved = saved.filter(is_meant);
                Some(saved.ok_or_else(|| LeaseError::NotYet(name.clone()))?)
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
                Some(saved) => experiment
                    .checkpoint(number, attempt, report.iteration, &name_of(saved))
                    .map_err(refused)?,
                None => Vec::new(),
            };
            let kept = checkpoint.as_ref().map(|saved| TrialCheckpoint {
                trial: number,
                saved: saved.clone(),
            });
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
                own: kept.map(|kept| TrialChange::Checkpointed(Box::new(kept))),
                replay: None,
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
                own: None,
                replay: None,
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
}

impl Leased {
    /// Whether a result says by itself what the experiment is judged by.
    fn is_judged_by(&self, result: &Map<String, Value>) -> bool {
        let metric = self.metric.as_deref();
        metric.is_some_and(|metric| result.contains_key(metric))
    }
}

/// The name of a checkpoint in the log.
fn name_of(saved: &Checkpoint) -> String {
    let Checkpoint {
        model,
        sha256,
        iteration,
        ..
    } = saved;
    format!("{model}@{sha256}@{iteration}")
}

/// How many iterations a model is ahead of the checkpoint that it is, where nothing but the model
/// itself is left of that.
fn saved_since(checkpoint: &str, iteration: u64) -> u64 {
    let then = checkpoint.split('@').nth(2);
    let then = then.and_then(|then| then.parse::<u64>().ok());
    then.map_or(0, |then| iteration.saturating_sub(then))
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
