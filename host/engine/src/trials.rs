//! What can be read of a tune action: how it stands, its trials, their table and charts.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use trainshed_core::action::TUNE;
use trainshed_core::view::{Page, TrialView, TuneView};
use trainshed_core::{TaskId, Timestamp};
use trainshed_store::{LeaseError, StoreError, Workspace};
use trainshed_tune::Experiment;
use trainshed_tune::experiment::Trial;
use trainshed_tune::experiment::event::Event;
use trainshed_tune::importance::{Importance, importances, parallel_coordinates};
use trainshed_tune::payload::TrialTable;

use crate::engine::Engine;
use crate::tune::ReadError;

/// Why a tune action could not be read.
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
    /// The store failed.
    #[error("the trials could not be read")]
    Store(#[source] StoreError),
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

    async fn tasks_of_trials(
        &self,
        workspace: &Workspace,
        task: &TaskId,
    ) -> Result<Tasks, TuneError> {
        let view = self.store.task(workspace, task).await;
        let view = view.map_err(TuneError::Store)?;
        let view = view.ok_or_else(|| TuneError::UnknownTask(task.clone()))?;
        if view.action != TUNE {
            return Err(TuneError::NotTune(task.clone()));
        }
        let tasks = self.store.trial_tasks(workspace, task).await;
        tasks.map_err(TuneError::Store)
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

fn view(trial: &Trial, tasks: &Tasks, best: Option<u64>) -> TrialView {
    let task = tasks.get(&trial.number);
    let time = |at: Option<u64>| at.and_then(|at| i64::try_from(at).ok()).map(Timestamp);
    TrialView {
        number: trial.number,
        id: trial.id.clone(),
        task: task.map(|(task, _)| task.clone()),
        status: trial.status.as_str().to_owned(),
        config: trial.config.clone(),
        metrics: trial.metrics.clone(),
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
