//! Experiments: their logs, and what a step of one does to its trials.
//!
//! What the events mean is not known here. Whoever drives an experiment reads the tail of its
//! log, decides, and hands over one [`Step`]: the events, and what they do to tasks. It is
//! written whole, together with the report or the end that caused it, or not at all; of two
//! steps from one place in the log, one is refused and decided anew.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use sqlx::{Any, Transaction};
use trainshed_core::draft::CloneRequest;
use trainshed_core::parameter::Parameter;
use trainshed_core::progress::{Progress, TRIALS_PHASE};
use trainshed_core::task::{Outcome, TaskState};
use trainshed_core::{AgentId, TaskId, Timestamp};

use crate::change::ChangeError;
use crate::database::{Store, fresh_id};
use crate::edit::clone_within;
use crate::error::StoreError;
use crate::file::{bigint, unsigned};
use crate::lease::{EndOfRun, LeaseError, RunParts, finish_within, hold_lease, record_run};
use crate::lifecycle::active_namesake;
use crate::parameter::merge_within;
use crate::points::TaskKey;
use crate::project::ensure_project;
use crate::task::{InsertTaskError, NewRun, NewTask, insert_into, insert_parts, link_checkpoint};
use crate::workspace::Workspace;

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

/// What one step of an experiment writes.
pub struct Step<'a> {
    /// The task of the experiment.
    pub experiment: &'a TaskId,
    /// The place in the log that the step follows.
    pub after: &'a Place,
    /// As JSON.
    pub events: Vec<String>,
    /// Whether a trial waits for an agent afterwards.
    pub ready: bool,
    /// The share of trials that have ended, from 0 to 1, where it is another than before.
    pub progress: Option<f64>,
    /// What becomes of trials, in order.
    pub trials: Vec<TrialChange>,
    /// How the experiment ends, where it does: made of the models of its trials, by number.
    pub end: Option<EndOfExperiment<'a>>,
}

/// Says how an experiment ends, given the models of its trials by number, and why the user
/// wanted it to stop, if he did.
pub type EndOfExperiment<'a> =
    Box<dyn FnOnce(&BTreeMap<u64, u64>, Option<String>) -> ExperimentEnd + Send + 'a>;

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
    /// Agents that run trials of the experiment are asked to stop.
    StopAll(String),
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

/// Events that one statement writes; most steps have one or two.
const EVENTS_AT_ONCE: usize = 16;
/// The fence of the first lease of a task.
const FIRST_FENCE: i64 = 1;
const STEP: &str = "record a step of an experiment";

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
        let rows: Vec<(String, String, i64)> = sqlx::query_as(
            "select id, action, queued from (
               select id, action, queued from task
                where workspace = $1 and state = 'queued' and plugin_digest is not null
                  and not exists (select 1 from trial where trial.workspace = task.workspace
                                     and trial.task = task.id)
                order by queued, id limit $2) as fresh
             union all
             select id, action, queued from (
               select task.id, task.action, task.queued
                 from experiment
                 join task on task.workspace = experiment.workspace and task.id = experiment.task
                where experiment.ready = 1 and experiment.workspace = $1
                  and task.state = 'in_progress' and task.plugin_digest is not null
                order by task.queued, task.id limit $2) as begun
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

    /// Writes a step of an experiment together with its cause. Returns the place behind it, and
    /// the task and the fence of the trial that the step starts, if it starts one.
    ///
    /// # Errors
    /// [`StepError::Overtaken`] when the log has grown since the caller read it.
    pub async fn take_step(
        &self,
        workspace: &Workspace,
        cause: Cause,
        step: Step<'_>,
        now: Timestamp,
    ) -> Result<(Place, Option<(TaskId, i64)>), StepError> {
        let mut transaction = self.begin(STEP).await?;
        let mut writer = StepWriter {
            workspace,
            experiment: step.experiment,
            now,
            transaction: &mut transaction,
        };
        let place = writer.append(step.after, &step.events, step.ready).await?;
        let mut settled = None;
        let mut is_choice = false;
        match cause {
            Cause::Alone => {}
            Cause::Report {
                task,
                fence,
                lease_until,
            } => {
                let transaction = &mut *writer.transaction;
                hold_lease(transaction, workspace, &task, fence, lease_until).await?;
            }
            Cause::Finish { task, fence, end } => {
                let transaction = &mut *writer.transaction;
                let model = finish_within(transaction, workspace, &task, fence, &end, now).await?;
                writer.keep_model(&task, model).await?;
                settled = Some(TaskKey::new(workspace, &task));
            }
            Cause::Stop { reason } => writer.note_stop(&reason).await?,
            Cause::GoOn => writer.reopen().await?,
            Cause::Choice => is_choice = true,
        }
        let mut started = None;
        for change in step.trials {
            if let Some(lease) = writer.change(change).await? {
                started = Some(lease);
            }
        }
        if let Some(share) = step.progress {
            writer.show_progress(share).await?;
        }
        if let Some(end) = step.end {
            if is_choice {
                writer.rewrite_result(end).await?;
            } else {
                writer.end(end).await?;
            }
        }
        let committed = transaction.commit().await;
        committed.map_err(StoreError::database(STEP))?;
        if let Some(task) = settled {
            self.ingest.shared.settle(&task);
        }
        Ok((place, started))
    }
}

/// What there is around the task of a trial that is made.
#[derive(sqlx::FromRow)]
struct Surroundings {
    /// The id of its project.
    project: Option<String>,
    /// Tasks that wait or run under its name.
    namesakes: i64,
    /// Whether the experiment waits for its first trial.
    waits: i64,
    machine: Option<String>,
    digest: Option<String>,
    sha256: Option<String>,
}

struct StepWriter<'a> {
    workspace: &'a Workspace,
    experiment: &'a TaskId,
    now: Timestamp,
    transaction: &'a mut Transaction<'static, Any>,
}

fn failed(error: sqlx::Error) -> StepError {
    StepError::Store(StoreError::database(STEP)(error))
}

impl StepWriter<'_> {
    /// Appends events, unless others came first; returns the place behind them.
    async fn append(
        &mut self,
        after: &Place,
        events: &[String],
        ready: bool,
    ) -> Result<Place, StepError> {
        let place = Place {
            run: match after.run.as_str() {
                "" => format!("{:032x}", fresh_id()),
                known => known.to_owned(),
            },
            seq: after.seq + i64::try_from(events.len()).unwrap_or(i64::MAX),
        };
        let statement = match after.run.as_str() {
            "" => {
                "insert into experiment (workspace, task, run, seq, ready)
                 select workspace, id, $3, $4, $5 from task
                  where workspace = $1 and id = $2 and $6 = 0
                 on conflict (workspace, task) do nothing"
            }
            _ => {
                "update experiment set seq = $4, ready = $5
                  where workspace = $1 and task = $2 and run = $3 and seq = $6"
            }
        };
        let moved = sqlx::query(statement)
            .bind(self.workspace.as_str())
            .bind(self.experiment.as_str())
            .bind(&place.run)
            .bind(place.seq)
            .bind(i64::from(ready))
            .bind(after.seq)
            .execute(&mut **self.transaction)
            .await
            .map_err(failed)?;
        if moved.rows_affected() == 0 {
            return Err(StepError::Overtaken);
        }
        let mut seq = after.seq;
        for some in events.chunks(EVENTS_AT_ONCE) {
            let rows: Vec<String> = (0..some.len())
                .map(|row| format!("($1, $2, ${}, ${})", 2 * row + 3, 2 * row + 4))
                .collect();
            let statement = format!(
                "insert into experiment_event (workspace, task, seq, event) values {}",
                rows.join(", ")
            );
            let mut insert = sqlx::query(sqlx::AssertSqlSafe(statement))
                .bind(self.workspace.as_str())
                .bind(self.experiment.as_str());
            for event in some {
                seq += 1;
                insert = insert.bind(seq).bind(event);
            }
            insert
                .execute(&mut **self.transaction)
                .await
                .map_err(failed)?;
        }
        Ok(place)
    }

    /// Notes the model that a trial made, under the name of the trial, as one of the
    /// experiment's.
    async fn keep_model(&mut self, task: &TaskId, model: Option<i64>) -> Result<(), StepError> {
        let Some(model) = model else { return Ok(()) };
        let statements = [
            "update trial set model = $3 where workspace = $1 and task = $2",
            "update model
                set name = (select name from task where workspace = $1 and id = $2)
              where workspace = $1 and id = $3 and task = $2",
            "insert into task_model (workspace, task, role, name, model, position)
             select task.workspace, parent.id, 'output', task.name, $3, $3
               from task
               join task as parent on parent.workspace = task.workspace
                                  and parent.id = task.parent
              where task.workspace = $1 and task.id = $2
             on conflict do nothing",
        ];
        for statement in statements {
            sqlx::query(statement)
                .bind(self.workspace.as_str())
                .bind(task.as_str())
                .bind(model)
                .execute(&mut **self.transaction)
                .await
                .map_err(failed)?;
        }
        Ok(())
    }

    /// Notes on the experiment's task that the user wants it to stop.
    async fn note_stop(&mut self, reason: &str) -> Result<(), StepError> {
        sqlx::query(
            "update task
                set stop_requested = coalesce(stop_requested, $1),
                    stop_reason = coalesce(stop_reason, $2), last_update = $1
              where workspace = $3 and id = $4",
        )
        .bind(self.now.as_millis())
        .bind(reason)
        .bind(self.workspace.as_str())
        .bind(self.experiment.as_str())
        .execute(&mut **self.transaction)
        .await
        .map_err(failed)?;
        Ok(())
    }

    /// Applies a change; the task and the fence of a trial that is started.
    async fn change(&mut self, change: TrialChange) -> Result<Option<(TaskId, i64)>, StepError> {
        let (number, state) = match change {
            TrialChange::Start(started) => return self.start(*started).await.map(Some),
            TrialChange::Clone(clone) => {
                self.clone(*clone).await?;
                return Ok(None);
            }
            TrialChange::StopAll(reason) => {
                self.stop_all(&reason).await?;
                return Ok(None);
            }
            TrialChange::Paused(number) => (number, "paused"),
            TrialChange::Resumed(number) => (number, "running"),
            TrialChange::Over(number) => (number, "ended"),
        };
        sqlx::query(
            "update trial set state = $1
              where workspace = $2 and experiment = $3 and number = $4",
        )
        .bind(state)
        .bind(self.workspace.as_str())
        .bind(self.experiment.as_str())
        .bind(bigint(number))
        .execute(&mut **self.transaction)
        .await
        .map_err(failed)?;
        Ok(None)
    }

    /// Makes the task that an attempt elsewhere is to run.
    async fn clone(&mut self, trial: TrialClone) -> Result<(), StepError> {
        let failed = |error| match error {
            ChangeError::Store(error) => StepError::Store(error),
            other => StepError::Clone(other),
        };
        let (workspace, now) = (self.workspace, self.now);
        let originals = (&trial.base, &trial.clone);
        let (name, request) = (trial.name.as_str(), &trial.request);
        clone_within(self.transaction, workspace, originals, name, request, now)
            .await
            .map_err(failed)?;
        let parameters = trial.parameters.as_slice();
        merge_within(self.transaction, workspace, &trial.clone, parameters, now)
            .await
            .map_err(failed)
    }

    /// Hands a trial to an agent: its task is made, or runs once more.
    async fn start(&mut self, started: StartedTrial) -> Result<(TaskId, i64), StepError> {
        // A trial has no task before its first attempt, because both are written together.
        let lease = match started.attempt {
            ..=1 => self.start_first(&started).await?,
            _ => self.start_again(&started).await?,
        };
        sqlx::query(
            "insert into trial (workspace, task, experiment, number, attempt, state)
             values ($1, $2, $3, $4, $5, 'running')
             on conflict (workspace, task) do update
                set attempt = excluded.attempt, state = excluded.state",
        )
        .bind(self.workspace.as_str())
        .bind(lease.0.as_str())
        .bind(self.experiment.as_str())
        .bind(bigint(started.number))
        .bind(bigint(started.attempt))
        .execute(&mut **self.transaction)
        .await
        .map_err(failed)?;
        Ok(lease)
    }

    /// Makes the task of a trial, which runs at once.
    async fn start_first(&mut self, started: &StartedTrial) -> Result<(TaskId, i64), StepError> {
        let work = started.task.work.as_ref();
        let around: Surroundings = sqlx::query_as(
            "select (select id from project where workspace = $1 and path = $2) as project,
                    (select count(*) from task
                      where workspace = $1 and encoded_name = $3
                        and state in ('queued', 'in_progress') and action <> '') as namesakes,
                    (select count(*) from task
                      where workspace = $1 and id = $4 and state = 'queued') as waits,
                    (select machine from agent where workspace = $1 and id = $5) as machine,
                    (select digest from dataset where id = $6) as digest,
                    (select sha256 from model where id = $7) as sha256",
        )
        .bind(self.workspace.as_str())
        .bind(&started.task.project)
        .bind(&started.task.encoded_name)
        .bind(self.experiment.as_str())
        .bind(started.agent.as_str())
        .bind(work.map(|work| bigint(work.dataset)))
        .bind(work.and_then(|work| work.checkpoint).map(bigint))
        .fetch_one(&mut **self.transaction)
        .await
        .map_err(failed)?;
        if around.waits > 0 {
            self.begin().await?;
        }
        let project = match around.project {
            Some(project) => project,
            None => {
                let path = &started.task.project;
                let made = ensure_project(self.transaction, self.workspace, path, self.now);
                made.await.map_err(failed)?
            }
        };
        let parts = RunParts {
            machine: around.machine,
            digest: around.digest,
            sha256: around.sha256,
        };
        let run = NewRun {
            agent: &started.agent,
            lease_until: started.lease_until,
            record: parts.record()?,
        };
        let mut task = started.task.clone();
        if around.namesakes > 0 {
            // Somebody took the name of a trial; trials go on all the same.
            task.encoded_name = format!("{}_{}", task.encoded_name, task.id);
        }
        let place = (project.as_str(), Some(&run));
        insert_into(self.transaction, self.workspace, &task, place, self.now)
            .await
            .map_err(failed)?;
        Ok((task.id, FIRST_FENCE))
    }

    /// Makes the task of a trial run once more.
    async fn start_again(&mut self, started: &StartedTrial) -> Result<(TaskId, i64), StepError> {
        let known: Option<(String,)> = sqlx::query_as(
            "select task from trial where workspace = $1 and experiment = $2 and number = $3",
        )
        .bind(self.workspace.as_str())
        .bind(self.experiment.as_str())
        .bind(bigint(started.number))
        .fetch_optional(&mut **self.transaction)
        .await
        .map_err(failed)?;
        let Some((id,)) = known else {
            // Its task was deleted.
            return self.start_first(started).await;
        };
        let id: TaskId = id.parse().map_err(StoreError::damaged(STEP))?;
        self.renew(&id, &started.task).await?;
        let (fence,): (i64,) = sqlx::query_as(
            "update task
                set state = 'in_progress', state_reason = '', state_message = '', agent = $1,
                    fence = fence + 1, ended_fence = null, attempts = attempts + 1,
                    lease_until = $2, started = coalesce(started, $3), ended = null,
                    result = null, state_changed = $3, last_update = $3
              where workspace = $4 and id = $5
          returning fence",
        )
        .bind(started.agent.as_str())
        .bind(started.lease_until.as_millis())
        .bind(self.now.as_millis())
        .bind(self.workspace.as_str())
        .bind(id.as_str())
        .fetch_one(&mut **self.transaction)
        .await
        .map_err(failed)?;
        record_run(self.transaction, self.workspace, id.as_str()).await?;
        self.begin().await?;
        Ok((id, fence))
    }

    /// The experiment itself runs from its first trial on.
    async fn begin(&mut self) -> Result<(), StepError> {
        sqlx::query(
            "update task
                set state = 'in_progress', started = $1, state_changed = $1, last_update = $1
              where workspace = $2 and id = $3 and state = 'queued'",
        )
        .bind(self.now.as_millis())
        .bind(self.workspace.as_str())
        .bind(self.experiment.as_str())
        .execute(&mut **self.transaction)
        .await
        .map_err(failed)?;
        Ok(())
    }

    /// Another attempt may have another configuration, and goes on from another model.
    async fn renew(&mut self, id: &TaskId, task: &NewTask) -> Result<(), StepError> {
        let Some(work) = &task.work else {
            return Ok(());
        };
        sqlx::query(
            "update task set params = $1, settings = $2, checkpoint = $3
              where workspace = $4 and id = $5",
        )
        .bind(Value::Object(work.params.clone()).to_string())
        .bind(Value::Object(work.settings.clone()).to_string())
        .bind(work.checkpoint.map(bigint))
        .bind(self.workspace.as_str())
        .bind(id.as_str())
        .execute(&mut **self.transaction)
        .await
        .map_err(failed)?;
        link_checkpoint(self.transaction, self.workspace, id, work.checkpoint)
            .await
            .map_err(failed)?;
        crate::parameter::write_parameters(self.transaction, self.workspace, id, &task.parameters)
            .await
            .map_err(failed)
    }

    async fn stop_all(&mut self, reason: &str) -> Result<(), StepError> {
        sqlx::query(
            "update task
                set stop_requested = coalesce(stop_requested, $1),
                    stop_reason = coalesce(stop_reason, $2), last_update = $1
              where workspace = $3 and state = 'in_progress'
                and id in (select task from trial
                            where workspace = $3 and experiment = $4
                              and state in ('running', 'paused'))",
        )
        .bind(self.now.as_millis())
        .bind(reason)
        .bind(self.workspace.as_str())
        .bind(self.experiment.as_str())
        .execute(&mut **self.transaction)
        .await
        .map_err(failed)?;
        Ok(())
    }

    /// Shows the share of trials that have ended. It is less than before when the experiment
    /// was continued.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share from 0 to 1"
    )]
    async fn show_progress(&mut self, share: f64) -> Result<(), StepError> {
        let thousandths = (share.clamp(0.0, 1.0) * 1000.0).round() as u64;
        let mut progress = Progress::default();
        progress.advance("dataset", 1, 1);
        progress.advance(TRIALS_PHASE, thousandths, 1000);
        sqlx::query(
            "update task set progress = $1, last_update = $2 where workspace = $3 and id = $4",
        )
        .bind(serde_json::json!(progress).to_string())
        .bind(self.now.as_millis())
        .bind(self.workspace.as_str())
        .bind(self.experiment.as_str())
        .execute(&mut **self.transaction)
        .await
        .map_err(failed)?;
        Ok(())
    }

    /// Makes the task of an experiment that has ended run again.
    async fn reopen(&mut self) -> Result<(), StepError> {
        let named: Option<(String, String)> =
            sqlx::query_as("select name, encoded_name from task where workspace = $1 and id = $2")
                .bind(self.workspace.as_str())
                .bind(self.experiment.as_str())
                .fetch_optional(&mut **self.transaction)
                .await
                .map_err(failed)?;
        let (name, encoded_name) = named
            .ok_or_else(|| StepError::Lease(LeaseError::UnknownTask(self.experiment.clone())))?;
        let other = active_namesake(self.transaction, self.workspace, &encoded_name);
        if let Some((other, state)) = other.await? {
            let why =
                format!("the name `{name}` is in use: the task {other} has it and is {state}");
            return Err(StepError::Lease(LeaseError::Invalid(why)));
        }
        let moved = sqlx::query(
            "update task
                set state = 'in_progress', state_reason = '', state_message = '', result = null,
                    ended = null, stop_requested = null, stop_reason = null, queued = $1,
                    started = coalesce(started, $1), state_changed = $1, last_update = $1
              where workspace = $2 and id = $3 and state in ('stopped', 'failed', 'completed')",
        )
        .bind(self.now.as_millis())
        .bind(self.workspace.as_str())
        .bind(self.experiment.as_str())
        .execute(&mut **self.transaction)
        .await
        .map_err(failed)?;
        if moved.rows_affected() == 0 {
            let why = "only a search that has ended, and is not published, goes on".to_owned();
            return Err(StepError::Lease(LeaseError::Invalid(why)));
        }
        // Who asked its trials to stop does not ask their next attempts.
        sqlx::query(
            "update task set stop_requested = null, stop_reason = null
              where workspace = $1 and stop_requested is not null
                and id in (select task from trial where workspace = $1 and experiment = $2)",
        )
        .bind(self.workspace.as_str())
        .bind(self.experiment.as_str())
        .execute(&mut **self.transaction)
        .await
        .map_err(failed)?;
        Ok(())
    }

    /// Gives the task of an experiment that has ended another result.
    async fn rewrite_result(&mut self, end: EndOfExperiment<'_>) -> Result<(), StepError> {
        let models = self.models().await?;
        let end = end(&models, None);
        let result = match end.outcome {
            Outcome::Completed { result } => Some(result),
            Outcome::Failed { .. } | Outcome::Stopped { .. } => end.result,
        };
        sqlx::query(
            "update task set result = $1, last_update = $2
              where workspace = $3 and id = $4 and state in ('stopped', 'failed', 'completed')",
        )
        .bind(result.map(|result| Value::Object(result).to_string()))
        .bind(self.now.as_millis())
        .bind(self.workspace.as_str())
        .bind(self.experiment.as_str())
        .execute(&mut **self.transaction)
        .await
        .map_err(failed)?;
        Ok(())
    }

    /// The models of the trials, by number.
    async fn models(&mut self) -> Result<BTreeMap<u64, u64>, StepError> {
        let models: Vec<(i64, i64)> = sqlx::query_as(
            "select number, model from trial
              where workspace = $1 and experiment = $2 and model is not null",
        )
        .bind(self.workspace.as_str())
        .bind(self.experiment.as_str())
        .fetch_all(&mut **self.transaction)
        .await
        .map_err(failed)?;
        Ok(models
            .into_iter()
            .map(|(number, model)| (unsigned(number), unsigned(model)))
            .collect())
    }

    /// Ends the experiment's task, unless somebody has done so before.
    async fn end(&mut self, end: EndOfExperiment<'_>) -> Result<(), StepError> {
        let models = self.models().await?;
        let asked: Option<(Option<i64>, Option<String>)> = sqlx::query_as(
            "select stop_requested, stop_reason from task where workspace = $1 and id = $2",
        )
        .bind(self.workspace.as_str())
        .bind(self.experiment.as_str())
        .fetch_optional(&mut **self.transaction)
        .await
        .map_err(failed)?;
        let asked = asked.and_then(|(at, reason)| at.map(|_| reason.unwrap_or_default()));
        let end = end(&models, asked);
        let (result, reason) = match end.outcome.clone() {
            Outcome::Completed { result } => (Some(result), String::new()),
            Outcome::Failed { reason } | Outcome::Stopped { reason } => (end.result, reason),
        };
        let mut progress = Progress::default();
        for phase in ["dataset", TRIALS_PHASE, "model_upload"] {
            progress.advance(phase, 1, 1);
        }
        let completed = matches!(end.outcome, Outcome::Completed { .. });
        sqlx::query(
            "update task
                set state = $1, state_reason = $2, state_message = $3, result = $4,
                    progress = coalesce($5, progress), ended = $6, state_changed = $6,
                    last_update = $6
              where workspace = $7 and id = $8 and state in ('queued', 'in_progress')",
        )
        .bind(end.outcome.state().as_str())
        .bind(reason)
        .bind(end.message)
        .bind(result.map(|result| Value::Object(result).to_string()))
        .bind(completed.then(|| serde_json::json!(progress).to_string()))
        .bind(self.now.as_millis())
        .bind(self.workspace.as_str())
        .bind(self.experiment.as_str())
        .execute(&mut **self.transaction)
        .await
        .map_err(failed)?;
        Ok(())
    }
}
