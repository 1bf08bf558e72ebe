//! Agents, and the leases under which they run tasks.
//!
//! A lease is a task's row with an agent, a fence and a deadline. Every write of a running
//! task begins with [`hold_lease`], which is also what keeps two writers of one task apart:
//! whoever carries an old fence writes nothing.

use serde_json::{Map, Value, json};
use sqlx::{Any, Transaction};
use trainshed_core::limits::LimitRequest;
use trainshed_core::manifest::world_of;
use trainshed_core::report::Report;
use trainshed_core::task::Outcome;
use trainshed_core::view::{AgentInfo, DatasetView, RunRecord};
use trainshed_core::{AgentId, Digest, TaskId, Timestamp};

use crate::batch::{Answers, Batch, Ticket};
use crate::console::{ChunkRow, ask_last_chunk};
use crate::database::{Store, fresh_id};
use crate::dataset::{
    InsertDatasetError, NewVersion, dataset_name, delete_staged_version, show_staged_version,
    stage_version,
};
use crate::error::StoreError;
use crate::file::{bigint, unsigned};
use crate::model::show_models;
use crate::points::TaskKey;
use crate::report::{Told, have_lines, write_last_reports};
use crate::workspace::Workspace;

/// Why a write of a running task was refused. Nothing of it was kept.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// There is no such task.
    #[error("there is no task {0}")]
    UnknownTask(TaskId),
    /// The agent has not registered here.
    #[error("there is no agent {0}")]
    UnknownAgent(AgentId),
    /// The task has ended or runs under another lease; the caller must stop its run.
    #[error("the lease {fence} of task {task} is over")]
    Stale {
        /// The task.
        task: TaskId,
        /// As the caller has it.
        fence: i64,
    },
    /// A report breaks a rule.
    #[error("{0}")]
    Invalid(String),
    /// A file that a report names was not uploaded before, or has another length.
    #[error("the file {sha256} of {size_bytes} bytes, {role}, has not been uploaded")]
    MissingFile {
        /// As reported.
        sha256: Digest,
        /// As reported.
        size_bytes: u64,
        /// Of what it is the content.
        role: String,
    },
    /// A model that a report names has not been reported yet.
    #[error("the model `{0}` has not been reported yet")]
    NotYet(String),
    /// More comes in than can be written.
    #[error("more is reported than can be written at the moment")]
    Busy,
    /// The store failed.
    #[error("the report could not be recorded")]
    Store(#[source] StoreError),
}

impl LeaseError {
    /// What the caller can do about it, in one sentence.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownAgent(_) => Some("Register the agent again.".into()),
            Self::Stale { .. } => Some("Stop the run: its task was ended or handed on.".into()),
            Self::MissingFile { .. } => Some("Upload the file first, then report it.".into()),
            Self::NotYet(_) => Some("Report the model, then send it again.".into()),
            Self::Busy => Some("Send it again after a second.".into()),
            Self::UnknownTask(_) | Self::Invalid(_) => None,
            Self::Store(error) => error.hint(),
        }
    }
}

/// A task that was handed to an agent, beside what [`Store::task`] tells.
#[derive(Debug, Clone, PartialEq)]
pub struct ClaimedTask {
    /// Which task.
    pub task: TaskId,
    /// Every later write carries it.
    pub fence: i64,
    /// The settings of the action itself: `hyperparameter` or `parameters`.
    pub settings: Map<String, Value>,
    /// What the action asks for.
    pub limits: LimitRequest,
}

/// How the run of a task ended.
#[derive(Debug, Clone, PartialEq)]
pub struct EndOfRun {
    /// The state, and the result or the reason.
    pub outcome: Outcome,
    /// What it reported last, without points: recorded with its end, and not again when the
    /// end is told again. Names and numbers have been checked.
    pub reports: Vec<Report>,
}

/// What a writer learns of its task when it holds the lease.
#[derive(sqlx::FromRow)]
pub(crate) struct Held {
    pub(crate) progress: String,
    pub(crate) checkpoint: Option<i64>,
    pub(crate) dataset: Option<i64>,
    pub(crate) stop_requested: Option<i64>,
    pub(crate) stop_reason: Option<String>,
}

impl Held {
    /// Why the task is to stop, if it is.
    pub(crate) fn stop(&self) -> Option<String> {
        self.stop_requested?;
        Some(self.stop_reason.clone().unwrap_or_default())
    }
}

#[derive(sqlx::FromRow)]
struct ClaimedRow {
    id: String,
    fence: i64,
    settings: String,
    limits: String,
}

impl Store {
    /// Registers an agent under a new id.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn register_agent(
        &self,
        workspace: &Workspace,
        info: &AgentInfo,
        now: Timestamp,
    ) -> Result<AgentId, StoreError> {
        let action = "register an agent";
        let id = AgentId::from_u128(fresh_id());
        let mut transaction = self.begin(action).await?;
        sqlx::query(
            "insert into agent (workspace, id, name, is_local, last_seen, home, machine, cpus,
                                gpus)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .bind(workspace.as_str())
        .bind(id.as_str())
        .bind(&info.name)
        .bind(i64::from(info.local))
        .bind(now.as_millis())
        .bind(if info.local { &*self.home } else { "" })
        .bind(
            info.machine
                .as_ref()
                .map(|machine| json!(machine).to_string()),
        )
        .bind(i64::from(info.cpus))
        .bind(i64::from(info.gpus))
        .execute(&mut *transaction)
        .await
        .map_err(StoreError::database(action))?;
        let committed = transaction.commit().await;
        committed.map_err(StoreError::database(action))?;
        Ok(id)
    }

    /// The most processors and the most GPUs that an agent seen since `since` has; `None` when
    /// none was seen.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn greatest_agent(
        &self,
        workspace: &Workspace,
        since: Timestamp,
    ) -> Result<Option<(u64, u64)>, StoreError> {
        let (cpus, gpus): (Option<i64>, Option<i64>) = sqlx::query_as(
            "select max(cpus), max(gpus) from agent where workspace = $1 and last_seen >= $2",
        )
        .bind(workspace.as_str())
        .bind(since.as_millis())
        .fetch_one(&self.reader)
        .await
        .map_err(StoreError::database("look for agents"))?;
        Ok(cpus.map(unsigned).zip(gpus.map(unsigned)))
    }

    /// Whether `agent` is registered; notes that it was seen.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn see_agent(
        &self,
        workspace: &Workspace,
        agent: &AgentId,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let action = "note an agent";
        let mut transaction = self.begin(action).await?;
        let seen = sqlx::query("update agent set last_seen = $1 where workspace = $2 and id = $3")
            .bind(now.as_millis())
            .bind(workspace.as_str())
            .bind(agent.as_str())
            .execute(&mut *transaction)
            .await
            .map_err(StoreError::database(action))?;
        let committed = transaction.commit().await;
        committed.map_err(StoreError::database(action))?;
        Ok(seen.rows_affected() == 1)
    }

    /// Hands the task that waits longest to `agent` until `lease_until`; `None` when none
    /// waits.
    ///
    /// No task is handed out twice: the row changes only while it is still queued.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn claim_task(
        &self,
        workspace: &Workspace,
        agent: &AgentId,
        now: Timestamp,
        lease_until: Timestamp,
    ) -> Result<Option<ClaimedTask>, StoreError> {
        let action = "claim a task";
        let mut transaction = self.begin(action).await?;
        let row: Option<ClaimedRow> = sqlx::query_as(
            "update task
                set state = 'in_progress', agent = $1, fence = fence + 1, ended_fence = null,
                    attempts = attempts + 1,
                    lease_until = $2, started = $3, state_changed = $3, last_update = $3
              where workspace = $4 and state = 'queued'
                and id = (select id from task
                           where workspace = $4 and state = 'queued'
                             and plugin_digest is not null and action <> 'tune'
                             and not exists (select 1 from trial
                                              where trial.workspace = task.workspace
                                                and trial.task = task.id)
                           order by queued, id limit 1)
          returning id, fence, settings, limits",
        )
        .bind(agent.as_str())
        .bind(lease_until.as_millis())
        .bind(now.as_millis())
        .bind(workspace.as_str())
        .fetch_optional(&mut *transaction)
        .await
        .map_err(StoreError::database(action))?;
        if let Some(row) = &row {
            record_run(&mut transaction, workspace, &row.id).await?;
        }
        let committed = transaction.commit().await;
        committed.map_err(StoreError::database(action))?;
        row.map(|row| {
            Ok(ClaimedTask {
                task: row.id.parse().map_err(StoreError::damaged(action))?,
                fence: row.fence,
                settings: serde_json::from_str(&row.settings)
                    .map_err(StoreError::damaged(action))?,
                limits: serde_json::from_str(&row.limits).map_err(StoreError::damaged(action))?,
            })
        })
        .transpose()
    }

    /// Moves the deadline of a lease to `lease_until`; returns why the task is to stop, if
    /// it is.
    ///
    /// # Errors
    /// [`LeaseError::Stale`] when the lease is over.
    pub async fn renew_lease(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        fence: i64,
        lease_until: Timestamp,
    ) -> Result<Option<String>, LeaseError> {
        let begun = self.begin("renew a lease").await;
        let mut transaction = begun.map_err(LeaseError::Store)?;
        let held = hold_lease(&mut transaction, workspace, task, fence, lease_until).await?;
        let committed = transaction.commit().await;
        committed.map_err(lease_error("renew a lease"))?;
        Ok(held.stop())
    }

    /// Why a running task is to stop, if it is. Unlike [`Store::renew_lease`], writes nothing.
    ///
    /// # Errors
    /// [`LeaseError::Stale`] when the lease is over.
    pub async fn stop_request(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        fence: i64,
    ) -> Result<Option<String>, LeaseError> {
        let row: Option<(Option<i64>, Option<String>)> = sqlx::query_as(
            "select stop_requested, stop_reason from task
              where workspace = $1 and id = $2 and fence = $3 and state = 'in_progress'",
        )
        .bind(workspace.as_str())
        .bind(task.as_str())
        .bind(fence)
        .fetch_optional(&self.reader)
        .await
        .map_err(lease_error("look for a request to stop"))?;
        let (requested, reason) = row.ok_or_else(|| stale(task, fence))?;
        Ok(requested.map(|_| reason.unwrap_or_default()))
    }

    /// Stages the version that a task makes of its data set; see [`NewVersion`], of which
    /// name and parent are taken from that data set.
    ///
    /// # Errors
    /// When the lease is over or a file is not there.
    pub async fn stage_dataset(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        fence: i64,
        version: &NewVersion<'_>,
        lease_until: Timestamp,
        now: Timestamp,
    ) -> Result<DatasetView, LeaseError> {
        let action = "record a data set";
        let mut transaction = self.begin(action).await.map_err(LeaseError::Store)?;
        let held = hold_lease(&mut transaction, workspace, task, fence, lease_until).await?;
        let Some(base) = held.dataset else {
            let refusal = "the task reads no data set of which it could make a version";
            return Err(LeaseError::Invalid(refusal.into()));
        };
        let name = dataset_name(&mut transaction, workspace, base).await;
        let name = name.map_err(lease_error(action))?;
        let version = NewVersion {
            name: &name,
            parent: u64::try_from(base).ok(),
            ..*version
        };
        let staged = stage_version(&mut transaction, workspace, task, &version, now).await;
        let staged = staged.map_err(|error| match error {
            InsertDatasetError::MissingFile {
                path,
                sha256,
                size_bytes,
            } => LeaseError::MissingFile {
                sha256,
                size_bytes,
                role: format!("`{path}` of the data set"),
            },
            InsertDatasetError::Store(error) => LeaseError::Store(error),
        })?;
        let committed = transaction.commit().await;
        committed.map_err(lease_error(action))?;
        Ok(staged)
    }

    /// Ends a running task. One transaction writes what it reported last and the state, and
    /// shows what the task made: its models whatever the outcome, its data set version when it
    /// completed. Ending it again under the same lease changes nothing and is no error.
    ///
    /// # Errors
    /// [`LeaseError::Stale`] when the lease is over and did not end the task itself; as
    /// [`Store::append_batch`] for the reports.
    pub async fn finish_task(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        fence: i64,
        end: &EndOfRun,
        now: Timestamp,
    ) -> Result<(), LeaseError> {
        let action = "finish a task";
        let mut transaction = self.begin(action).await.map_err(LeaseError::Store)?;
        let mut batch = Batch::default();
        let asked = ask_end(&mut batch, workspace, task, fence, end);
        let answers = batch.run(&mut transaction).await;
        let found = asked.found(&answers.map_err(lease_error(action))?);
        let found = found.map_err(lease_error(action))?;
        let both = (&mut transaction, &mut batch);
        write_end(both, (workspace, task, fence), found, end, now).await?;
        let written = batch.run(&mut transaction).await;
        written.map_err(lease_error(action))?;
        let committed = transaction.commit().await;
        committed.map_err(lease_error(action))?;
        self.ingest.shared.settle(&TaskKey::new(workspace, task));
        Ok(())
    }
}

/// What is to be known of a task that ends.
#[derive(sqlx::FromRow)]
struct Ending {
    action: String,
    output_model: Option<String>,
    progress: String,
    checkpoint: Option<i64>,
    models: i64,
    versions: i64,
}

/// What is asked before a running task is ended.
pub(crate) struct AskedEnd {
    ending: Ticket,
    last_chunk: Option<Ticket>,
}

/// What was answered to that: nothing of a task that does not run under the lease.
pub(crate) struct FoundEnd {
    ending: Option<Ending>,
    last_chunk: Option<ChunkRow>,
}

impl AskedEnd {
    /// What was answered.
    pub(crate) fn found(&self, answers: &Answers) -> Result<FoundEnd, sqlx::Error> {
        let last_chunk = self.last_chunk.map(|chunk| answers.first(chunk));
        Ok(FoundEnd {
            ending: answers.first(self.ending)?,
            last_chunk: last_chunk.transpose()?.flatten(),
        })
    }
}

/// Asks what has to be known to end a running task.
pub(crate) fn ask_end(
    batch: &mut Batch,
    workspace: &Workspace,
    task: &TaskId,
    fence: i64,
    end: &EndOfRun,
) -> AskedEnd {
    let select = sqlx::query(
        "select action, output_model, progress, checkpoint,
                (select count(*) from model where workspace = $1 and task = $2) as models,
                (select count(*) from dataset
                  where workspace = $1 and task = $2 and state = 'staged') as versions
           from task
          where workspace = $1 and id = $2 and fence = $3 and state = 'in_progress'",
    )
    .bind(workspace.as_str())
    .bind(task.as_str())
    .bind(fence);
    let ending = batch.add(select);
    let has_lines = have_lines(&end.reports);
    AskedEnd {
        ending,
        last_chunk: has_lines.then(|| ask_last_chunk(batch, workspace, task)),
    }
}

/// Ends a running task within a transaction, once `batch` is run; the model that is its result.
///
/// Ending it again under the same lease changes nothing and is no error.
pub(crate) async fn write_end(
    (transaction, batch): (&mut Transaction<'static, Any>, &mut Batch),
    (workspace, task, fence): (&Workspace, &TaskId, i64),
    found: FoundEnd,
    end: &EndOfRun,
    now: Timestamp,
) -> Result<Option<i64>, LeaseError> {
    let action = "finish a task";
    let (result, reason) = match &end.outcome {
        Outcome::Completed { result } => (Some(result), ""),
        Outcome::Failed { reason } | Outcome::Stopped { reason } => (None, reason.as_str()),
    };
    let Some(ending) = found.ending else {
        check_finished(transaction, workspace, task, fence).await?;
        return Ok(None);
    };
    let last = Told {
        progress: &ending.progress,
        checkpoint: ending.checkpoint,
        last_chunk: found.last_chunk,
    };
    let both = (&mut *transaction, &mut *batch);
    let told = write_last_reports(both, (workspace, task), last, &end.reports, now).await?;
    let (mut progress, output) = (told.progress, told.output.or(ending.output_model));

    let model = if ending.models > 0 || told.models > 0 {
        let shown = show_models(transaction, workspace.as_str(), task, output.as_deref());
        shown.await.map_err(lease_error(action))?
    } else {
        None
    };
    let dataset = match (result, ending.versions) {
        (_, 0) => None,
        (Some(_), _) => show_staged_version(transaction, workspace.as_str(), task)
            .await
            .map_err(lease_error(action))?,
        (None, _) => {
            let deleted = delete_staged_version(transaction, workspace.as_str(), task).await;
            deleted.map_err(lease_error(action))?;
            None
        }
    };
    let result = result.map(|result| {
        let mut result = result.clone();
        match ending.action.as_str() {
            "preprocess" => result.insert("dataset_id".into(), dataset.into()),
            _ => result.insert("model_id".into(), model.into()),
        };
        progress.finish();
        Value::Object(result).to_string()
    });
    let update = sqlx::query(
        "update task
            set state = $1, state_reason = $2, ended = $3, state_changed = $3,
                last_update = $3, lease_until = null, ended_fence = fence,
                result = coalesce($4, result), progress = $5, output_model = $6,
                last_iteration = case when last_iteration < $7 then $7 else last_iteration end
          where workspace = $8 and id = $9",
    )
    .bind(end.outcome.state().as_str())
    .bind(reason)
    .bind(now.as_millis())
    .bind(result)
    .bind(json!(progress).to_string())
    .bind(output)
    .bind(bigint(told.last_iteration.unwrap_or(0)))
    .bind(workspace.as_str())
    .bind(task.as_str());
    batch.add(update);
    Ok(model)
}

/// Takes part in a task under its lease and moves the deadline. The row stays locked until
/// the transaction ends.
pub(crate) async fn hold_lease(
    transaction: &mut Transaction<'static, Any>,
    workspace: &Workspace,
    task: &TaskId,
    fence: i64,
    lease_until: Timestamp,
) -> Result<Held, LeaseError> {
    let mut batch = Batch::default();
    let held = ask_lease(&mut batch, workspace, task, fence, lease_until);
    let answers = batch.run(transaction).await;
    let answers = answers.map_err(lease_error("hold a lease"))?;
    check_lease(transaction, (workspace, task, fence), &answers, held).await
}

/// Takes part in a task, as [`hold_lease`] does; [`check_lease`] says whether the lease holds.
pub(crate) fn ask_lease(
    batch: &mut Batch,
    workspace: &Workspace,
    task: &TaskId,
    fence: i64,
    lease_until: Timestamp,
) -> Ticket {
    let update = sqlx::query(
        "update task set lease_until = $1
          where workspace = $2 and id = $3 and fence = $4 and state = 'in_progress'
      returning progress, checkpoint, dataset, stop_requested, stop_reason",
    )
    .bind(lease_until.as_millis())
    .bind(workspace.as_str())
    .bind(task.as_str())
    .bind(fence);
    batch.add(update)
}

/// What [`ask_lease`] found.
pub(crate) async fn check_lease(
    transaction: &mut Transaction<'static, Any>,
    (workspace, task, fence): (&Workspace, &TaskId, i64),
    answers: &Answers,
    held: Ticket,
) -> Result<Held, LeaseError> {
    match answers.first(held).map_err(lease_error("hold a lease"))? {
        Some(held) => Ok(held),
        None => Err(lost_lease(transaction, workspace, task, fence).await?),
    }
}

pub(crate) fn lease_error(action: &'static str) -> impl FnOnce(sqlx::Error) -> LeaseError {
    move |error| LeaseError::Store(StoreError::database(action)(error))
}

fn stale(task: &TaskId, fence: i64) -> LeaseError {
    LeaseError::Stale {
        task: task.clone(),
        fence,
    }
}

/// Says why a lease does not hold.
async fn lost_lease(
    transaction: &mut Transaction<'static, Any>,
    workspace: &Workspace,
    task: &TaskId,
    fence: i64,
) -> Result<LeaseError, LeaseError> {
    let known: Option<(i64,)> =
        sqlx::query_as("select fence from task where workspace = $1 and id = $2")
            .bind(workspace.as_str())
            .bind(task.as_str())
            .fetch_optional(&mut **transaction)
            .await
            .map_err(lease_error("hold a lease"))?;
    Ok(match known {
        Some(_) => stale(task, fence),
        None => LeaseError::UnknownTask(task.clone()),
    })
}

/// Accepts the end of a task that has ended under this very lease: the answer was lost.
async fn check_finished(
    transaction: &mut Transaction<'static, Any>,
    workspace: &Workspace,
    task: &TaskId,
    fence: i64,
) -> Result<(), LeaseError> {
    let ended: Option<(i64,)> = sqlx::query_as(
        "select fence from task where workspace = $1 and id = $2 and ended_fence = $3",
    )
    .bind(workspace.as_str())
    .bind(task.as_str())
    .bind(fence)
    .fetch_optional(&mut **transaction)
    .await
    .map_err(lease_error("finish a task"))?;
    match ended {
        Some(_) => Ok(()),
        None => Err(lost_lease(transaction, workspace, task, fence).await?),
    }
}

/// Records what the run of a task that was just claimed is made of.
pub(crate) async fn record_run(
    transaction: &mut Transaction<'static, Any>,
    workspace: &Workspace,
    task: &str,
) -> Result<(), StoreError> {
    let action = "record what a run is made of";
    let failed = || StoreError::database(action);
    let parts: RunParts = sqlx::query_as(
        "select agent.machine, dataset.digest, model.sha256, plugin.contract, task.action
           from task
           left join plugin on plugin.workspace = task.workspace
                           and plugin.digest = task.plugin_digest
           left join agent on agent.workspace = task.workspace and agent.id = task.agent
           left join dataset on dataset.id = task.dataset
           left join model on model.id = task.checkpoint
          where task.workspace = $1 and task.id = $2",
    )
    .bind(workspace.as_str())
    .bind(task)
    .fetch_one(&mut **transaction)
    .await
    .map_err(failed())?;
    sqlx::query("update task set record = $1 where workspace = $2 and id = $3")
        .bind(parts.record()?)
        .bind(workspace.as_str())
        .bind(task)
        .execute(&mut **transaction)
        .await
        .map_err(failed())?;
    Ok(())
}

/// What a run is made of, as the tables have it.
#[derive(sqlx::FromRow)]
pub(crate) struct RunParts {
    /// Of the agent, as JSON.
    pub(crate) machine: Option<String>,
    /// Of the data set.
    pub(crate) digest: Option<String>,
    /// Of the checkpoint.
    pub(crate) sha256: Option<String>,
    /// Of the component.
    pub(crate) contract: Option<String>,
    /// Which export of the component is called.
    pub(crate) action: String,
}

impl RunParts {
    /// The record of the run, as JSON.
    pub(crate) fn record(self) -> Result<String, StoreError> {
        let action = "record what a run is made of";
        let digest = |text: Option<String>| text.map(|text| text.parse()).transpose();
        let machine = self.machine.map(|machine| serde_json::from_str(&machine));
        let contract = self.contract.unwrap_or_default();
        let record = RunRecord {
            world: world_of(&contract, &self.action),
            machine: machine.transpose().map_err(StoreError::damaged(action))?,
            dataset_digest: digest(self.digest).map_err(StoreError::damaged(action))?,
            checkpoint_digest: digest(self.sha256).map_err(StoreError::damaged(action))?,
        };
        Ok(json!(record).to_string())
    }
}
