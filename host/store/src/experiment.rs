//! Experiments: their logs, and what a step of one does to its trials.
//!
//! What the events mean is not known here. Whoever drives an experiment reads the tail of its
//! log, decides, and hands over one [`Step`]: the events, and what they do to tasks. It is
//! written whole, together with the report or the end that caused it, or not at all; of two
//! steps from one place in the log, one is refused and decided anew.

mod queue;
mod step;

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use trainshed_core::draft::CloneRequest;
use trainshed_core::parameter::Parameter;
use trainshed_core::task::{Outcome, TaskState};
use trainshed_core::{AgentId, Digest, TaskId, Timestamp};

use crate::change::ChangeError;
use crate::database::{Store, fresh_id};
use crate::error::StoreError;
use crate::file::{bigint, unsigned};
use crate::idempotency::{NotedAnswer, note_made};
use crate::lease::{EndOfRun, LeaseError};
use crate::lifecycle::active_namesake;
use crate::task::{InsertTaskError, NewTask, insert_parts};
use crate::workspace::Workspace;

pub use queue::QueuedStep;
pub(crate) use queue::StepQueue;

/// Where a task is in an experiment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrialOf {
    /// The task of the experiment.
    pub experiment: TaskId,
    /// The trial's number.
    pub number: u64,
    /// The last attempt that was handed out.
    pub attempt: u64,
}

/// A trial whose task does not run although the log says that it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostTrial {
    /// Where it is.
    pub workspace: Workspace,
    /// Which trial.
    pub trial: TrialOf,
    /// Whether its agent is gone; otherwise somebody moved its task by hand.
    pub interrupted: bool,
    /// Where its task stands.
    pub state: TaskState,
    /// Why.
    pub reason: String,
}

/// A place in the log of an experiment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// Which run of its task; empty before the first event.
    pub run: String,
    /// The number of the last event; 0 before the first.
    pub seq: i64,
}

impl Place {
    /// The place behind so many events more; a log begins under a name that is drawn.
    pub fn behind(&self, events: usize) -> Self {
        Self {
            run: match self.run.as_str() {
                "" => format!("{:032x}", fresh_id()),
                known => known.to_owned(),
            },
            seq: self.seq + i64::try_from(events).unwrap_or(i64::MAX),
        }
    }
}

/// What one step of an experiment writes.
pub struct Step {
    /// The task of the experiment.
    pub experiment: TaskId,
    /// The place in the log that the step follows.
    pub after: Place,
    /// The place behind the step: [`Place::behind`].
    pub behind: Place,
    /// As JSON.
    pub events: Vec<String>,
    /// Whether a trial waits for an agent afterwards.
    pub ready: bool,
    /// The share of trials that have ended, from 0 to 1, where it is another than before.
    pub progress: Option<f64>,
    /// What becomes of trials, in order.
    pub trials: Vec<TrialChange>,
    /// How the experiment ends, where it does: made of the models of its trials, by number.
    pub end: Option<EndOfExperiment>,
    /// What whoever wants the step is answered, where a request with a key has to be answered so
    /// again.
    pub answer: Option<NotedAnswer>,
}

/// Says how an experiment ends, given the models of its trials by number, and why the user
/// wanted it to stop, if he did.
pub type EndOfExperiment =
    Box<dyn Fn(&BTreeMap<u64, u64>, Option<String>) -> ExperimentEnd + Send + Sync>;

/// What becomes of a trial's task.
pub enum TrialChange {
    /// An attempt is handed to an agent.
    Start(Box<StartedTrial>),
    /// An attempt is handed to a program elsewhere, with a task of its own.
    Clone(Box<TrialClone>),
    /// It waits, and its agent's slot is free.
    Paused(u64),
    /// It goes on.
    Resumed(u64),
    /// The attempt is over.
    Over(u64),
    /// It reported, and named what it has saved: from then on it goes on from that.
    Checkpointed(Box<TrialCheckpoint>),
    /// It becomes a copy of another.
    Copied {
        /// The trial's number.
        trial: u64,
        /// Of the trial whose checkpoint it goes on from.
        from: u64,
    },
    /// Agents that run trials of the experiment are asked to stop.
    StopAll(String),
}

/// What a trial goes on from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrialCheckpoint {
    /// The trial's number.
    pub trial: u64,
    /// What it has saved.
    pub saved: Checkpoint,
}

/// A model as it was at some time. The same model may be saved again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The model's id.
    pub model: u64,
    /// The iteration after which it was saved.
    pub iteration: u64,
    /// Of its file.
    pub sha256: Digest,
    /// Length of its file.
    pub size_bytes: u64,
    /// What is kept with it, by key.
    pub metadata: Vec<(String, String)>,
}

/// A model, with one of the things that are kept with it.
#[derive(sqlx::FromRow)]
struct SavedRow {
    id: i64,
    iteration: i64,
    sha256: String,
    size_bytes: i64,
    key: Option<String>,
    value: Option<String>,
}

/// An attempt at a trial.
pub struct StartedTrial {
    /// The trial's number.
    pub number: u64,
    /// Counts from 1.
    pub attempt: u64,
    /// Its task, to be made if this is the first attempt.
    pub task: NewTask,
    /// Who runs it.
    pub agent: AgentId,
    /// When the lease ends.
    pub lease_until: Timestamp,
}

/// A clone of the base task of an experiment, which an attempt at a trial is to run.
pub struct TrialClone {
    /// What is cloned.
    pub base: TaskId,
    /// Fresh.
    pub clone: TaskId,
    /// Of the clone.
    pub name: String,
    /// Its project and parent.
    pub request: CloneRequest,
    /// In place of those of the base task.
    pub parameters: Vec<Parameter>,
}

/// How an experiment ends.
pub struct ExperimentEnd {
    /// The state, and the result or the reason.
    pub outcome: Outcome,
    /// More about the reason.
    pub message: String,
    /// The result that is kept although it did not complete.
    pub result: Option<Map<String, Value>>,
}

/// What a step goes together with.
#[derive(Debug, Clone, PartialEq)]
pub enum Cause {
    /// Nothing but itself.
    Alone,
    /// A trial reported: its lease holds, and is kept until then.
    Report {
        /// The trial's task.
        task: TaskId,
        /// Of its lease.
        fence: i64,
        /// When the lease ends.
        lease_until: Timestamp,
    },
    /// A trial's task ends.
    Finish {
        /// The trial's task.
        task: TaskId,
        /// Of its lease.
        fence: i64,
        /// How.
        end: EndOfRun,
    },
    /// The user wants the experiment to stop.
    Stop {
        /// Why.
        reason: String,
    },
    /// The experiment, which has ended, goes on.
    GoOn,
    /// Somebody says which trial is the best; the result of an experiment that has ended is
    /// written anew.
    Choice,
}

/// Why a step was not written.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// Another step came first: read the log again.
    #[error("the experiment has gone on meanwhile")]
    Overtaken,
    /// The lease of the trial is over, or what was reported breaks a rule.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// The base task of the experiment cannot be cloned.
    #[error(transparent)]
    Clone(ChangeError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A task or an experiment that waits for an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waiting {
    /// A task.
    Task,
    /// A task of trials, one of which could be started.
    Experiment(TaskId),
}

impl Store {
    /// Inserts the task of an experiment whose trials run elsewhere; it runs from now on.
    ///
    /// # Errors
    /// When a waiting or running task has the same encoded name.
    pub async fn insert_experiment(
        &self,
        workspace: &Workspace,
        task: &NewTask,
        params: &Map<String, Value>,
        seed: u64,
        now: Timestamp,
    ) -> Result<(), InsertTaskError> {
        let action = "record an experiment";
        let failed = |error| InsertTaskError::Store(StoreError::database(action)(error));
        let begun = self.begin(action).await;
        let mut transaction = begun.map_err(InsertTaskError::Store)?;
        let other = active_namesake(&mut transaction, workspace, &task.encoded_name);
        if let Some((other, state)) = other.await.map_err(InsertTaskError::Store)? {
            return Err(InsertTaskError::NameTaken {
                name: task.name.clone(),
                task: other,
                state,
            });
        }
        insert_parts(&mut transaction, workspace, task, now)
            .await
            .map_err(failed)?;
        sqlx::query(
            "update task
                set action = 'tune', params = $1, seed = $2, state = 'in_progress', started = $3
              where workspace = $4 and id = $5",
        )
        .bind(Value::Object(params.clone()).to_string())
        .bind(seed.to_string())
        .bind(now.as_millis())
        .bind(workspace.as_str())
        .bind(task.id.as_str())
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        note_made(&mut transaction, || format!("/api/v1/tasks/{}", task.id))
            .await
            .map_err(failed)?;
        transaction.commit().await.map_err(failed)
    }

    /// The end of the log of an experiment; the place before it when there is no log.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn end_of_log(
        &self,
        workspace: &Workspace,
        experiment: &TaskId,
    ) -> Result<Place, StoreError> {
        let row: Option<(String, i64)> =
            sqlx::query_as("select run, seq from experiment where workspace = $1 and task = $2")
                .bind(workspace.as_str())
                .bind(experiment.as_str())
                .fetch_optional(&self.reader)
                .await
                .map_err(StoreError::database("read the log of an experiment"))?;
        Ok(row.map_or_else(Place::default, |(run, seq)| Place { run, seq }))
    }

    /// Events of an experiment behind number `after` up to number `last`.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn experiment_events(
        &self,
        workspace: &Workspace,
        experiment: &TaskId,
        after: i64,
        last: i64,
    ) -> Result<Vec<String>, StoreError> {
        let rows: Vec<(String,)> = sqlx::query_as(
            "select event from experiment_event
              where workspace = $1 and task = $2 and seq > $3 and seq <= $4 order by seq",
        )
        .bind(workspace.as_str())
        .bind(experiment.as_str())
        .bind(after)
        .bind(last)
        .fetch_all(&self.reader)
        .await
        .map_err(StoreError::database("read the log of an experiment"))?;
        Ok(rows.into_iter().map(|(event,)| event).collect())
    }

    /// Which trial a task is; `None` for a task that is none.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn trial_of(
        &self,
        workspace: &Workspace,
        task: &TaskId,
    ) -> Result<Option<TrialOf>, StoreError> {
        let action = "look a trial up";
        let row: Option<(String, i64, i64)> = sqlx::query_as(
            "select experiment, number, attempt from trial where workspace = $1 and task = $2",
        )
        .bind(workspace.as_str())
        .bind(task.as_str())
        .fetch_optional(&self.reader)
        .await
        .map_err(StoreError::database(action))?;
        row.map(|(experiment, number, attempt)| {
            Ok(TrialOf {
                experiment: experiment.parse().map_err(StoreError::damaged(action))?,
                number: unsigned(number),
                attempt: unsigned(attempt),
            })
        })
        .transpose()
    }

    /// The task and the model of each trial of an experiment that was ever started, by number.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn trial_tasks(
        &self,
        workspace: &Workspace,
        experiment: &TaskId,
    ) -> Result<BTreeMap<u64, (TaskId, Option<u64>)>, StoreError> {
        let action = "list the trials of an experiment";
        let rows: Vec<(i64, String, Option<i64>)> = sqlx::query_as(
            "select number, task, model from trial where workspace = $1 and experiment = $2",
        )
        .bind(workspace.as_str())
        .bind(experiment.as_str())
        .fetch_all(&self.reader)
        .await
        .map_err(StoreError::database(action))?;
        let parsed = rows.into_iter().map(|(number, task, model)| {
            let task = task.parse().map_err(StoreError::damaged(action))?;
            Ok((unsigned(number), (task, model.map(unsigned))))
        });
        parsed.collect()
    }

    /// The model that a task has saved under a name of its own, as it is now.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn saved_model(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        name: &str,
    ) -> Result<Option<Checkpoint>, StoreError> {
        let action = "look a model up";
        // A row for each key that is kept with it, and one where there is none.
        let rows: Vec<SavedRow> = sqlx::query_as(
            "select model.id, model.iteration, model.sha256, model.size_bytes, kept.key,
                    kept.value
               from model
               left join model_metadata as kept
                      on kept.workspace = model.workspace and kept.model = model.id
              where model.workspace = $1 and model.task = $2 and model.slot = $3
                and model.sha256 is not null
              order by kept.key",
        )
        .bind(workspace.as_str())
        .bind(task.as_str())
        .bind(name)
        .fetch_all(&self.reader)
        .await
        .map_err(StoreError::database(action))?;
        let Some(saved) = rows.first() else {
            return Ok(None);
        };
        Ok(Some(Checkpoint {
            model: unsigned(saved.id),
            iteration: unsigned(saved.iteration),
            sha256: saved.sha256.parse().map_err(StoreError::damaged(action))?,
            size_bytes: unsigned(saved.size_bytes),
            metadata: rows
                .into_iter()
                .filter_map(|row| row.key.zip(row.value))
                .collect(),
        }))
    }

    /// What the next attempt at a trial goes on from; `None` where it has reported no checkpoint.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn checkpoint_of_trial(
        &self,
        workspace: &Workspace,
        task: &TaskId,
    ) -> Result<Option<Checkpoint>, StoreError> {
        let action = "look up what a trial goes on from";
        let row: Option<(i64, i64, String, i64, String)> = sqlx::query_as(
            "select model, iteration, sha256, size_bytes, metadata from trial_checkpoint
              where workspace = $1 and task = $2",
        )
        .bind(workspace.as_str())
        .bind(task.as_str())
        .fetch_optional(&self.reader)
        .await
        .map_err(StoreError::database(action))?;
        row.map(|(model, iteration, sha256, size_bytes, metadata)| {
            Ok(Checkpoint {
                model: unsigned(model),
                iteration: unsigned(iteration),
                sha256: sha256.parse().map_err(StoreError::damaged(action))?,
                size_bytes: unsigned(size_bytes),
                metadata: serde_json::from_str(&metadata).map_err(StoreError::damaged(action))?,
            })
        })
        .transpose()
    }

    /// Trials of every workspace whose tasks do not run although their logs say so.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn lost_trials(&self) -> Result<Vec<LostTrial>, StoreError> {
        let action = "look for lost trials";
        let rows: Vec<(String, String, i64, i64, String, String, String)> = sqlx::query_as(
            "select trial.workspace, trial.experiment, trial.number, trial.attempt, trial.state,
                    task.state, task.state_reason
               from trial
               join task on task.workspace = trial.workspace and task.id = trial.task
              where trial.state in ('running', 'paused', 'lost') and task.state <> 'in_progress'
              order by trial.workspace, trial.experiment, trial.number",
        )
        .fetch_all(&self.reader)
        .await
        .map_err(StoreError::database(action))?;
        let lost = rows.into_iter().map(|row| {
            let (workspace, experiment, number, attempt, known, state, reason) = row;
            Ok(LostTrial {
                workspace: Workspace::of(workspace.parse().map_err(StoreError::damaged(action))?),
                trial: TrialOf {
                    experiment: experiment.parse().map_err(StoreError::damaged(action))?,
                    number: unsigned(number),
                    attempt: unsigned(attempt),
                },
                interrupted: known == "lost",
                state: TaskState::parse(&state).unwrap_or(TaskState::Stopped),
                reason,
            })
        });
        lost.collect()
    }

    /// What waits longest for an agent, leaving out the experiments in `tried`; `None` when
    /// nothing waits. Costs no write.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn waiting(
        &self,
        workspace: &Workspace,
        tried: &[TaskId],
    ) -> Result<Option<Waiting>, StoreError> {
        let action = "look for a waiting task";
        // SQLite would plan anew for each value of a limit that is nothing but a placeholder.
        let rows: Vec<(String, String, i64)> = sqlx::query_as(
            "select id, action, queued from (
               select id, action, queued from task
                where workspace = $1 and state = 'queued' and plugin_digest is not null
                  and not exists (select 1 from trial where trial.workspace = task.workspace
                                     and trial.task = task.id)
                order by queued, id limit $2 + 0) as fresh
             union all
             select id, action, queued from (
               select task.id, task.action, task.queued
                 from experiment
                 join task on task.workspace = experiment.workspace and task.id = experiment.task
                where experiment.ready = 1 and experiment.workspace = $1
                  and task.state = 'in_progress' and task.plugin_digest is not null
                order by task.queued, task.id limit $2 + 0) as begun
             order by 3, 1",
        )
        .bind(workspace.as_str())
        .bind(bigint(tried.len() as u64 + 1))
        .fetch_all(&self.reader)
        .await
        .map_err(StoreError::database(action))?;
        for (id, task_action, _) in rows {
            if task_action != trainshed_core::action::TUNE {
                return Ok(Some(Waiting::Task));
            }
            let id: TaskId = id.parse().map_err(StoreError::damaged(action))?;
            if !tried.contains(&id) {
                return Ok(Some(Waiting::Experiment(id)));
            }
        }
        Ok(None)
    }
}
