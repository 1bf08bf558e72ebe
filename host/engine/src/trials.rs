//! What can be read of a tune action, and what can be said of one that has ended.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use trainshed_core::action::TUNE;
use trainshed_core::task::TaskState;
use trainshed_core::view::{BestTrial, Page, TaskView, TrialView, TuneView};
use trainshed_core::{TaskId, Timestamp};
use trainshed_store::{Cause, LeaseError, NotedAnswer, StoreError, Workspace};
use trainshed_tune::Experiment;
use trainshed_tune::experiment::Trial;
use trainshed_tune::experiment::event::{Event, Status};
use trainshed_tune::importance::{Importance, importances, parallel_coordinates};
use trainshed_tune::payload::TrialTable;

use crate::engine::Engine;
use crate::tune::{Deed, ReadError};

/// Why a tune action could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum TuneError {
    /// There is no such task.
    #[error("there is no task {0}")]
    UnknownTask(TaskId),
    /// The task is none.
    #[error("the task {0} does not tune")]
    NotTune(TaskId),
    /// It was edited and makes no sense any more.
    #[error("the task cannot be run as it is: {0}")]
    Definition(String),
    /// It has no such trial.
    #[error("the task has no trial `{0}`")]
    UnknownTrial(String),
    /// The trial has another configuration than the caller says.
    #[error("the trial `{trial}` has {}, not {wanted}", .found.as_ref().map_or_else(|| format!("no `{name}`"), |found| format!("`{name}` {found}")))]
    OtherConfig {
        /// The trial's id.
        trial: String,
        /// Of a hyperparameter.
        name: String,
        /// As submitted.
        wanted: Value,
        /// As the trial has it.
        found: Option<Value>,
    },
    /// It is published, and so read-only.
    #[error("the task {0} is published: nothing of it is changed any more")]
    Published(TaskId),
    /// It does not go on.
    #[error("{0}")]
    NotResumable(String),
    /// Others come first all the time.
    #[error("more is told than can be written at the moment")]
    Busy,
    /// The store failed.
    #[error("the trials could not be read")]
    Store(#[source] StoreError),
}

impl TuneError {
    /// What the user can do about it, in one sentence.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownTrial(_) => {
                Some("`trainshed tune show` lists the trials with their ids.".into())
            }
            Self::Busy => Some("Send it again after a second.".into()),
            Self::Store(error) => error.hint(),
            _ => None,
        }
    }
}

/// The task and the model of each trial, by number.
type Tasks = BTreeMap<u64, (TaskId, Option<u64>)>;

impl Engine {
    /// How a tune action stands.
    ///
    /// # Errors
    /// When the task is not there or is none.
    pub async fn tuning(
        &self,
        workspace: &Workspace,
        task: &TaskId,
    ) -> Result<TuneView, TuneError> {
        let tasks = self.tasks_of_trials(workspace, task).await?;
        let view = |experiment: &Experiment, seq: i64| {
            let best = experiment.best().map(|best| best.number);
            let shown = experiment.best().map(|trial| view(trial, &tasks, best));
            let counts = experiment.counts().into_iter();
            TuneView {
                metric: experiment.metric().to_owned(),
                mode: if experiment.is_maximised() {
                    "max"
                } else {
                    "min"
                }
                .to_owned(),
                searcher: experiment.searcher().to_owned(),
                scheduler: experiment.scheduler().to_owned(),
                hyperparameters: experiment.space().to_json(),
                total: experiment.total(),
                counts: counts
                    .map(|(status, count)| (status.to_owned(), count))
                    .collect(),
                best: shown,
                stopped: experiment.stopped().map(str::to_owned),
                warnings: experiment.warnings(),
                seq: u64::try_from(seq).unwrap_or(0),
            }
        };
        self.seen(workspace, task, view).await
    }

    /// A page of the trials of a tune action by number, from number `from` on.
    ///
    /// # Errors
    /// When the task is not there or is none.
    pub async fn trials(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        from: u64,
        limit: usize,
    ) -> Result<Page<TrialView>, TuneError> {
        let tasks = self.tasks_of_trials(workspace, task).await?;
        let page = |experiment: &Experiment, _: i64| {
            let best = experiment.best().map(|best| best.number);
            let start = usize::try_from(from).unwrap_or(usize::MAX);
            let rest = experiment.trials().get(start..).unwrap_or_default();
            let shown = rest.iter().take(limit);
            Page {
                items: shown.map(|trial| view(trial, &tasks, best)).collect(),
                next: rest.get(limit).map(|trial| trial.number.to_string()),
            }
        };
        self.seen(workspace, task, page).await
    }

    /// The trial table, as `log_trials` has it: of all trials, or of those to which anything
    /// happened behind number `after` of what happened. With it the number that it stands for.
    ///
    /// # Errors
    /// When the task is not there or is none.
    pub async fn trial_table(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        after: Option<u64>,
    ) -> Result<(Value, u64), TuneError> {
        self.tasks_of_trials(workspace, task).await?;
        let (table, ids, seq) = self
            .seen(workspace, task, |experiment, seq| {
                let trials = experiment.trials().iter();
                let ids: Vec<String> = trials.map(|trial| trial.id.clone()).collect();
                (TrialTable::of(experiment), ids, seq)
            })
            .await?;
        let shown = u64::try_from(seq).unwrap_or(0);
        let Some(after) = after.and_then(|after| i64::try_from(after).ok()) else {
            return Ok((table.payload(), shown));
        };
        let events = self.store.experiment_events(workspace, task, after, seq);
        let mut changed = BTreeSet::new();
        for event in events.await.map_err(TuneError::Store)? {
            let event: Event = serde_json::from_str(&event).map_err(|error| {
                TuneError::Store(StoreError::Damaged {
                    action: "read the log of an experiment",
                    source: error.into(),
                })
            })?;
            let number = event
                .trial()
                .and_then(|number| usize::try_from(number).ok());
            changed.extend(number.and_then(|number| ids.get(number)).cloned());
        }
        Ok((table.payload_of_trials(&changed), shown))
    }

    /// The number of the last thing that happened to the trials of a tune action.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn trials_seq(
        &self,
        workspace: &Workspace,
        task: &TaskId,
    ) -> Result<u64, StoreError> {
        let end = self.store.end_of_log(workspace, task).await?;
        Ok(u64::try_from(end.seq).unwrap_or(0))
    }

    /// How much each hyperparameter mattered, most important first; empty with fewer than four
    /// trials that have ended.
    ///
    /// # Errors
    /// When the task is not there or is none.
    pub async fn importance(
        &self,
        workspace: &Workspace,
        task: &TaskId,
    ) -> Result<Vec<Importance>, TuneError> {
        self.tasks_of_trials(workspace, task).await?;
        let experiment = self.seen(workspace, task, |experiment, _| experiment.clone());
        let experiment = experiment.await?;
        // A forest of many trials takes its time.
        let estimated = tokio::task::spawn_blocking(move || importances(&experiment)).await;
        Ok(estimated.unwrap_or_default())
    }

    /// The data of a parallel-coordinates chart.
    ///
    /// # Errors
    /// When the task is not there or is none.
    pub async fn parallel(&self, workspace: &Workspace, task: &TaskId) -> Result<Value, TuneError> {
        self.tasks_of_trials(workspace, task).await?;
        let chart = |experiment: &Experiment, _: i64| {
            serde_json::to_value(parallel_coordinates(experiment)).unwrap_or_default()
        };
        self.seen(workspace, task, chart).await
    }

    /// Says which trial of a tune action is the best, whatever the metric says; with no
    /// trial, the metric says it again. The result of one that has ended names it from then
    /// on. What `choice` has of the configuration has to be the trial's.
    ///
    /// # Errors
    /// When the task or the trial is not there, or the task is published.
    pub async fn choose_best(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        choice: &BestTrial,
    ) -> Result<TuneView, TuneError> {
        let view = self.tuned(workspace, task).await?;
        if view.status == TaskState::Published {
            return Err(TuneError::Published(task.clone()));
        }
        let mut refusal = None;
        let chosen = self.drive(workspace, task, |known| {
            let number = match chosen_trial(&known.experiment, choice) {
                Ok(number) => number,
                Err(error) => {
                    refusal = Some(error);
                    return Ok(Deed::of((), Vec::new()));
                }
            };
            let events = known.experiment.choose_best(number).unwrap_or_default();
            Ok(Deed::because(Cause::Choice, (), events))
        });
        chosen.await.map_err(|error| driven(error, task))?;
        match refusal {
            Some(error) => Err(error),
            None => self.tuning(workspace, task).await,
        }
    }

    /// Lets a tune action that was stopped, or has failed, go on where it ended: trials that
    /// were stopped go on from their checkpoints, and those that were never begun are. With
    /// `failed`, trials that failed are tried again.
    ///
    /// # Errors
    /// When the task is not there, has not ended, or has nothing left to do.
    pub async fn resume_experiment(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        failed: bool,
    ) -> Result<TaskView, TuneError> {
        let view = self.tuned(workspace, task).await?;
        match view.status {
            TaskState::Stopped | TaskState::Failed | TaskState::Completed => {}
            TaskState::Published => return Err(TuneError::Published(task.clone())),
            state @ (TaskState::Created | TaskState::Queued | TaskState::InProgress) => {
                let why = format!("the task is {state}: only a search that has ended goes on");
                return Err(TuneError::NotResumable(why));
            }
        }
        if view.plugin.is_some() && view.dataset.is_none() {
            let why = "the data set that its trials would read was deleted".to_owned();
            return Err(TuneError::NotResumable(why));
        }
        let resumed = self.drive(workspace, task, |known| {
            let experiment = &mut known.experiment;
            let is_over = experiment.is_finished();
            if experiment.running() > 0 {
                let why = "trials of it still run: wait until they have stopped".to_owned();
                return Err(LeaseError::Invalid(why));
            }
            let events = experiment.go_on(failed, self.now_ms());
            if is_over && events.is_empty() {
                let has_failed = |trial: &Trial| trial.status == Status::Error;
                let advice = match experiment.trials().iter().any(has_failed) {
                    true => "; `failed` tries those again that failed",
                    false => "",
                };
                let why = format!("nothing is left of it: every trial has ended{advice}");
                return Err(LeaseError::Invalid(why));
            }
            let address = NotedAnswer::Address(format!("/api/v1/tasks/{task}"));
            Ok(Deed::because(Cause::GoOn, (), events).with_replay(address))
        });
        resumed.await.map_err(|error| driven(error, task))?;
        let view = self.changed(workspace, task).await;
        view.map_err(|_| TuneError::UnknownTask(task.clone()))
    }

    async fn tasks_of_trials(
        &self,
        workspace: &Workspace,
        task: &TaskId,
    ) -> Result<Tasks, TuneError> {
        self.tuned(workspace, task).await?;
        let tasks = self.store.trial_tasks(workspace, task).await;
        tasks.map_err(TuneError::Store)
    }

    /// The task, which is a tune action.
    async fn tuned(&self, workspace: &Workspace, task: &TaskId) -> Result<TaskView, TuneError> {
        let view = self.store.task(workspace, task).await;
        let view = view.map_err(TuneError::Store)?;
        let view = view.ok_or_else(|| TuneError::UnknownTask(task.clone()))?;
        if view.action != TUNE {
            return Err(TuneError::NotTune(task.clone()));
        }
        Ok(view)
    }

    async fn seen<T>(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        look: impl FnOnce(&Experiment, i64) -> T,
    ) -> Result<T, TuneError> {
        self.look(workspace, task, look)
            .await
            .map_err(|error| match error {
                ReadError::Definition(error) => TuneError::Definition(error.to_string()),
                ReadError::Lease(LeaseError::Store(error)) => TuneError::Store(error),
                ReadError::Lease(_) => TuneError::UnknownTask(task.clone()),
            })
    }
}

/// The number of the trial that is chosen, unless what is said of it is wrong.
fn chosen_trial(experiment: &Experiment, choice: &BestTrial) -> Result<Option<u64>, TuneError> {
    let Some(id) = &choice.trial_id else {
        return Ok(None);
    };
    let mut trials = experiment.trials().iter();
    let trial = trials
        .find(|trial| trial.id == *id)
        .ok_or_else(|| TuneError::UnknownTrial(id.chars().take(80).collect()))?;
    let config = trial.config();
    for (name, wanted) in &choice.config {
        let found = config.get(name);
        if found != Some(wanted) {
            return Err(TuneError::OtherConfig {
                trial: id.clone(),
                name: name.clone(),
                wanted: wanted.clone(),
                found: found.cloned(),
            });
        }
    }
    Ok(Some(trial.number))
}

fn driven(error: LeaseError, task: &TaskId) -> TuneError {
    match error {
        LeaseError::Store(error) => TuneError::Store(error),
        LeaseError::Busy => TuneError::Busy,
        LeaseError::UnknownTask(_) => TuneError::UnknownTask(task.clone()),
        other => TuneError::NotResumable(other.to_string()),
    }
}

fn view(trial: &Trial, tasks: &Tasks, best: Option<u64>) -> TrialView {
    let task = tasks.get(&trial.number);
    let time = |at: Option<u64>| at.and_then(|at| i64::try_from(at).ok()).map(Timestamp);
    TrialView {
        number: trial.number,
        id: trial.id.clone(),
        task: task.map(|(task, _)| task.clone()),
        status: trial.status.as_str().to_owned(),
        config: trial.config().into_owned(),
        metrics: trial.metrics().into_owned(),
        iteration: trial.iteration,
        attempt: trial.attempt,
        failures: trial.failures,
        elapsed_ms: trial.elapsed_ms,
        started: time(trial.started_ms),
        ended: time(trial.ended_ms),
        model: task.and_then(|(_, model)| *model),
        reason: trial.reason.clone(),
        best: best == Some(trial.number),
    }
}
