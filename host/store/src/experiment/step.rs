//! One step, as statements: what is to be known is asked together with the events, and what
//! follows is written together.

use std::collections::BTreeMap;

use serde_json::Value;
use sqlx::{Any, Transaction};
use trainshed_core::progress::{Progress, TRIALS_PHASE};
use trainshed_core::task::Outcome;
use trainshed_core::{TaskId, Timestamp};

use super::{
    Cause, EndOfExperiment, StartedTrial, Step, StepError, TrialChange, TrialCheckpoint, TrialClone,
};
use crate::batch::{Answers, Batch, Ticket};
use crate::change::ChangeError;
use crate::edit::clone_within;
use crate::error::StoreError;
use crate::file::{bigint, unsigned};
use crate::lease::{
    AskedEnd, LeaseError, RunParts, ask_end, ask_lease, check_lease, record_run, write_end,
};
use crate::lifecycle::active_namesake;
use crate::parameter::{merge_within, write_parameters};
use crate::project::ensure_project;
use crate::task::{NewRun, NewTask, insert_into, link_checkpoint};
use crate::workspace::Workspace;

/// Events that one statement writes; most steps have one or two.
const EVENTS_AT_ONCE: usize = 16;
/// The fence of the first lease of a task.
const FIRST_FENCE: i64 = 1;
/// What a step is called where it fails.
pub(super) const STEP: &str = "record a step of an experiment";

/// What there is around the task of a trial that is made.
#[derive(Default, sqlx::FromRow)]
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
    /// Whether there is the model that it goes on from.
    models: i64,
    contract: Option<String>,
}

/// Writes one step within a transaction, in which other steps may come before and behind it.
struct StepWriter<'a> {
    workspace: &'a Workspace,
    experiment: &'a TaskId,
    now: Timestamp,
    transaction: &'a mut Transaction<'static, Any>,
    /// What nothing has been asked of yet; it goes to the database with what is asked next.
    batch: &'a mut Batch,
}

/// What a step has to know before it goes on.
struct Asked {
    /// Whether the log has grown.
    moved: Ticket,
    lease: Option<Ticket>,
    end: Option<AskedEnd>,
    /// Of the trial that is started.
    around: Option<Ticket>,
}

fn failed(error: sqlx::Error) -> StepError {
    StepError::Store(StoreError::database(STEP)(error))
}

/// Writes a step together with its cause, once `batch` is run. Returns the task and the fence of
/// the trial that the step starts, if it starts one.
pub(super) async fn write_step(
    (transaction, batch): (&mut Transaction<'static, Any>, &mut Batch),
    workspace: &Workspace,
    (cause, step): (&Cause, &Step),
    now: Timestamp,
) -> Result<Option<(TaskId, i64)>, StepError> {
    let mut writer = StepWriter {
        workspace,
        experiment: &step.experiment,
        now,
        transaction,
        batch,
    };
    let asked = writer.ask(cause, step);
    let answers = writer.run().await?;
    if answers.changed(asked.moved) == 0 {
        return Err(StepError::Overtaken);
    }
    writer.write_cause(cause, &asked, &answers).await?;
    let mut started = None;
    for change in &step.trials {
        if let Some(lease) = writer.change(change, &asked, &answers).await? {
            started = Some(lease);
        }
    }
    if let Some(share) = step.progress {
        writer.show_progress(share);
    }
    if let Some(end) = &step.end {
        writer.run().await?;
        match cause {
            Cause::Choice => writer.rewrite_result(end).await?,
            _ => writer.end(end).await?,
        }
    }
    Ok(started)
}

impl StepWriter<'_> {
    /// Runs what has been gathered.
    async fn run(&mut self) -> Result<Answers, StepError> {
        self.batch.run(self.transaction).await.map_err(failed)
    }

    /// Appends the events, and asks all that is to be known.
    fn ask(&mut self, cause: &Cause, step: &Step) -> Asked {
        let moved = self.append(step);
        let (mut lease, mut end) = (None, None);
        match cause {
            Cause::Report {
                task,
                fence,
                lease_until,
            } => {
                let asked = ask_lease(self.batch, self.workspace, task, *fence, *lease_until);
                lease = Some(asked);
            }
            Cause::Finish {
                task,
                fence,
                end: told,
            } => end = Some(ask_end(self.batch, self.workspace, task, *fence, told)),
            Cause::Alone | Cause::Stop { .. } | Cause::GoOn | Cause::Choice => {}
        }
        let started = step.trials.iter().find_map(|change| match change {
            TrialChange::Start(started) => Some(started),
            _ => None,
        });
        Asked {
            moved,
            lease,
            end,
            around: started.map(|started| self.ask_around(started)),
        }
    }

    async fn write_cause(
        &mut self,
        cause: &Cause,
        asked: &Asked,
        answers: &Answers,
    ) -> Result<(), StepError> {
        match cause {
            Cause::Alone | Cause::Choice => {}
            Cause::Report { task, fence, .. } => {
                if let Some(lease) = asked.lease {
                    let held = (self.workspace, task, *fence);
                    check_lease(self.transaction, held, answers, lease).await?;
                }
            }
            Cause::Finish { task, fence, end } => {
                if let Some(asked) = &asked.end {
                    let found = asked.found(answers).map_err(failed)?;
                    let both = (&mut *self.transaction, &mut *self.batch);
                    let lease = (self.workspace, task, *fence);
                    let model = write_end(both, lease, found, end, self.now).await?;
                    self.keep_model(task, model);
                }
            }
            Cause::Stop { reason } => self.note_stop(reason),
            Cause::GoOn => self.reopen().await?,
        }
        Ok(())
    }

    /// Appends events, unless others came first: then the log does not move. Nothing is asked
    /// of it before what follows runs, so that must not fail where the log did not move.
    fn append(&mut self, step: &Step) -> Ticket {
        let (after, behind) = (&step.after, &step.behind);
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
            .bind(&behind.run)
            .bind(behind.seq)
            .bind(i64::from(step.ready))
            .bind(after.seq);
        let moved = self.batch.add(moved);
        let mut seq = after.seq;
        for some in step.events.chunks(EVENTS_AT_ONCE) {
            let rows: Vec<String> = (0..some.len())
                .map(|row| format!("select ${} as seq, ${} as event", 2 * row + 3, 2 * row + 4))
                .collect();
            let statement = format!(
                "insert into experiment_event (workspace, task, seq, event)
                 select workspace, task, told.seq, told.event from experiment, ({}) as told
                  where workspace = $1 and task = $2
                 on conflict do nothing",
                rows.join(" union all ")
            );
            let mut insert = sqlx::query(sqlx::AssertSqlSafe(statement))
                .bind(self.workspace.as_str())
                .bind(self.experiment.as_str());
            for event in some {
                seq += 1;
                insert = insert.bind(seq).bind(event.as_str());
            }
            self.batch.add(insert);
        }
        moved
    }

    /// Notes the model that a trial made, under the name of the trial, as one of the
    /// experiment's.
    fn keep_model(&mut self, task: &TaskId, model: Option<i64>) {
        let Some(model) = model else { return };
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
            let keep = sqlx::query(statement)
                .bind(self.workspace.as_str())
                .bind(task.as_str())
                .bind(model);
            self.batch.add(keep);
        }
    }

    /// Notes on the experiment's task that the user wants it to stop.
    fn note_stop(&mut self, reason: &str) {
        let update = sqlx::query(
            "update task
                set stop_requested = coalesce(stop_requested, $1),
                    stop_reason = coalesce(stop_reason, $2), last_update = $1
              where workspace = $3 and id = $4",
        )
        .bind(self.now.as_millis())
        .bind(reason)
        .bind(self.workspace.as_str())
        .bind(self.experiment.as_str());
        self.batch.add(update);
    }

    /// Applies a change; the task and the fence of a trial that is started.
    async fn change(
        &mut self,
        change: &TrialChange,
        asked: &Asked,
        answers: &Answers,
    ) -> Result<Option<(TaskId, i64)>, StepError> {
        let (number, state) = match change {
            TrialChange::Start(started) => {
                let around = asked.around.map(|around| answers.first(around));
                let around = around.transpose().map_err(failed)?.flatten();
                let around = around.unwrap_or_default();
                return self.start(started, around).await.map(Some);
            }
            TrialChange::Clone(clone) => {
                self.clone(clone).await?;
                return Ok(None);
            }
            TrialChange::StopAll(reason) => {
                self.stop_all(reason);
                return Ok(None);
            }
            TrialChange::Checkpointed(reported) => {
                self.note_checkpoint(reported);
                return Ok(None);
            }
            TrialChange::Copied { trial, from } => {
                self.copy_checkpoint(*trial, *from);
                return Ok(None);
            }
            TrialChange::Paused(number) => (number, "paused"),
            TrialChange::Resumed(number) => (number, "running"),
            TrialChange::Over(number) => (number, "ended"),
        };
        let update = sqlx::query(
            "update trial set state = $1
              where workspace = $2 and experiment = $3 and number = $4",
        )
        .bind(state)
        .bind(self.workspace.as_str())
        .bind(self.experiment.as_str())
        .bind(bigint(*number));
        self.batch.add(update);
        Ok(None)
    }

    /// Notes what a trial goes on from, whatever becomes of the model. Nothing where its file is
    /// gone, which others that are written with it must not suffer from.
    fn note_checkpoint(&mut self, TrialCheckpoint { trial, saved }: &TrialCheckpoint) {
        let insert = sqlx::query(
            "insert into trial_checkpoint
                    (workspace, task, model, iteration, sha256, size_bytes, metadata)
             select trial.workspace, trial.task, $1, $2, file.sha256, file.size_bytes, $3
               from trial
               join file on file.workspace = trial.workspace and file.sha256 = $4
              where trial.workspace = $5 and trial.experiment = $6 and trial.number = $7
             on conflict (workspace, task) do update
                set model = excluded.model, iteration = excluded.iteration,
                    sha256 = excluded.sha256, size_bytes = excluded.size_bytes,
                    metadata = excluded.metadata",
        )
        .bind(bigint(saved.model))
        .bind(bigint(saved.iteration))
        .bind(serde_json::json!(saved.metadata).to_string())
        .bind(saved.sha256.to_string())
        .bind(self.workspace.as_str())
        .bind(self.experiment.as_str())
        .bind(bigint(*trial));
        self.batch.add(insert);
    }

    /// Lets a trial go on from what another goes on from.
    fn copy_checkpoint(&mut self, trial: u64, from: u64) {
        let insert = sqlx::query(
            "insert into trial_checkpoint
                    (workspace, task, model, iteration, sha256, size_bytes, metadata)
             select copy.workspace, copy.task, kept.model, kept.iteration, kept.sha256,
                    kept.size_bytes, kept.metadata
               from trial as copy
               join trial as original
                    on original.workspace = copy.workspace
                   and original.experiment = copy.experiment and original.number = $1
               join trial_checkpoint as kept
                    on kept.workspace = original.workspace and kept.task = original.task
              where copy.workspace = $2 and copy.experiment = $3 and copy.number = $4
             on conflict (workspace, task) do update
                set model = excluded.model, iteration = excluded.iteration,
                    sha256 = excluded.sha256, size_bytes = excluded.size_bytes,
                    metadata = excluded.metadata",
        )
        .bind(bigint(from))
        .bind(self.workspace.as_str())
        .bind(self.experiment.as_str())
        .bind(bigint(trial));
        self.batch.add(insert);
    }

    /// Makes the task that an attempt elsewhere is to run.
    async fn clone(&mut self, trial: &TrialClone) -> Result<(), StepError> {
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
    async fn start(
        &mut self,
        started: &StartedTrial,
        around: Surroundings,
    ) -> Result<(TaskId, i64), StepError> {
        let mut task = started.task.clone();
        if around.models == 0
            && let Some(work) = &mut task.work
        {
            // The model that it would go on from was deleted.
            work.checkpoint = None;
        }
        // A trial has no task before its first attempt, because both are written together.
        let lease = match started.attempt {
            ..=1 => self.start_first(started, task, around).await?,
            _ => self.start_again(started, task, around).await?,
        };
        let insert = sqlx::query(
            "insert into trial (workspace, task, experiment, number, attempt, state)
             values ($1, $2, $3, $4, $5, 'running')
             on conflict (workspace, task) do update
                set attempt = excluded.attempt, state = excluded.state",
        )
        .bind(self.workspace.as_str())
        .bind(lease.0.as_str())
        .bind(self.experiment.as_str())
        .bind(bigint(started.number))
        .bind(bigint(started.attempt));
        self.batch.add(insert);
        Ok(lease)
    }

    /// Asks what there is around the task of a trial.
    fn ask_around(&mut self, started: &StartedTrial) -> Ticket {
        let work = started.task.work.as_ref();
        let select = sqlx::query(
            "select (select id from project where workspace = $1 and path = $2) as project,
                    (select count(*) from task
                      where workspace = $1 and encoded_name = $3
                        and state in ('queued', 'in_progress') and action <> '') as namesakes,
                    (select count(*) from task
                      where workspace = $1 and id = $4 and state = 'queued') as waits,
                    (select machine from agent where workspace = $1 and id = $5) as machine,
                    (select digest from dataset where id = $6) as digest,
                    (select sha256 from model where id = $7) as sha256,
                    (select count(*) from model where id = $7) as models,
                    (select contract from plugin where workspace = $1 and digest = $8) as contract",
        )
        .bind(self.workspace.as_str())
        .bind(&started.task.project)
        .bind(&started.task.encoded_name)
        .bind(self.experiment.as_str())
        .bind(started.agent.as_str())
        .bind(work.map(|work| bigint(work.dataset)))
        .bind(work.and_then(|work| work.checkpoint).map(bigint))
        .bind(work.map(|work| work.plugin.digest.to_string()));
        self.batch.add(select)
    }

    /// Makes the task of a trial, which runs at once.
    async fn start_first(
        &mut self,
        started: &StartedTrial,
        mut task: NewTask,
        around: Surroundings,
    ) -> Result<(TaskId, i64), StepError> {
        if around.waits > 0 {
            self.begin();
        }
        let project = match around.project {
            Some(project) => project,
            None => {
                let path = &task.project;
                let made = ensure_project(self.transaction, self.workspace, path, self.now);
                made.await.map_err(failed)?
            }
        };
        let work = task.work.as_ref();
        let action = work.map_or("", |work| work.action);
        let parts = RunParts {
            machine: around.machine,
            digest: around.digest,
            sha256: around.sha256,
            contract: around.contract,
            action: action.to_owned(),
        };
        let run = NewRun {
            agent: &started.agent,
            lease_until: started.lease_until,
            record: parts.record()?,
        };
        if around.namesakes > 0 {
            // Somebody took the name of a trial; trials go on all the same.
            task.encoded_name = format!("{}_{}", task.encoded_name, task.id);
        }
        let place = (project.as_str(), Some(&run));
        insert_into(self.batch, self.workspace, &task, place, self.now);
        Ok((task.id, FIRST_FENCE))
    }

    /// Makes the task of a trial run once more.
    async fn start_again(
        &mut self,
        started: &StartedTrial,
        task: NewTask,
        around: Surroundings,
    ) -> Result<(TaskId, i64), StepError> {
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
            return self.start_first(started, task, around).await;
        };
        let id: TaskId = id.parse().map_err(StoreError::damaged(STEP))?;
        self.renew(&id, &task);
        self.run().await?;
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
        self.begin();
        Ok((id, fence))
    }

    /// The experiment itself runs from its first trial on.
    fn begin(&mut self) {
        let update = sqlx::query(
            "update task
                set state = 'in_progress', started = $1, state_changed = $1, last_update = $1
              where workspace = $2 and id = $3 and state = 'queued'",
        )
        .bind(self.now.as_millis())
        .bind(self.workspace.as_str())
        .bind(self.experiment.as_str());
        self.batch.add(update);
    }

    /// Another attempt may have another configuration, and goes on from another model.
    fn renew(&mut self, id: &TaskId, task: &NewTask) {
        let Some(work) = &task.work else {
            return;
        };
        let update = sqlx::query(
            "update task set params = $1, settings = $2, checkpoint = $3
              where workspace = $4 and id = $5",
        )
        .bind(Value::Object(work.params.clone()).to_string())
        .bind(Value::Object(work.settings.clone()).to_string())
        .bind(work.checkpoint.map(bigint))
        .bind(self.workspace.as_str())
        .bind(id.as_str());
        self.batch.add(update);
        link_checkpoint(self.batch, self.workspace, id, work.checkpoint);
        write_parameters(self.batch, self.workspace, id, &task.parameters);
    }

    fn stop_all(&mut self, reason: &str) {
        let update = sqlx::query(
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
        .bind(self.experiment.as_str());
        self.batch.add(update);
    }

    /// Shows the share of trials that have ended. It is less than before when the experiment
    /// was continued.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share from 0 to 1"
    )]
    fn show_progress(&mut self, share: f64) {
        let thousandths = (share.clamp(0.0, 1.0) * 1000.0).round() as u64;
        let mut progress = Progress::default();
        progress.advance("dataset", 1, 1);
        progress.advance(TRIALS_PHASE, thousandths, 1000);
        let update = sqlx::query(
            "update task set progress = $1, last_update = $2 where workspace = $3 and id = $4",
        )
        .bind(serde_json::json!(progress).to_string())
        .bind(self.now.as_millis())
        .bind(self.workspace.as_str())
        .bind(self.experiment.as_str());
        self.batch.add(update);
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
    async fn rewrite_result(&mut self, end: &EndOfExperiment) -> Result<(), StepError> {
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
    async fn end(&mut self, end: &EndOfExperiment) -> Result<(), StepError> {
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
