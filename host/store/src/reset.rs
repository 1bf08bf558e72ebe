//! Emptying and deleting tasks.

use sqlx::{Any, Transaction};
use trainshed_core::draft::ARCHIVED;
use trainshed_core::progress::Progress;
use trainshed_core::task::TaskState;
use trainshed_core::{TaskId, Timestamp};

use crate::change::{ChangeError, change_error, find};
use crate::database::Store;
use crate::dataset::delete_staged_version;
use crate::points::{TaskKey, delete_points};
use crate::tag::delete_tags;
use crate::workspace::Workspace;

type Tx = Transaction<'static, Any>;

/// What a run reports beside points: each statement empties one table of what a task has in it.
const REPORTS: [&str; 5] = [
    // Its events and what is known of its trials go with it; the tasks of the trials stay.
    "delete from experiment where workspace = $1 and task = $2",
    "delete from console where workspace = $1 and task = $2",
    "delete from sample where workspace = $1 and task = $2",
    "delete from plot where workspace = $1 and task = $2",
    "delete from trial_report where workspace = $1 and task = $2",
];

/// What a run makes. Models that are published or in use elsewhere stay, and belong to no task
/// any more; data set versions that are visible stay, too.
const OUTPUTS: [&str; 5] = [
    "delete from artifact where workspace = $1 and task = $2 and mode = 'output'",
    "delete from task_model where workspace = $1 and task = $2 and role = 'output'",
    "delete from model
      where workspace = $1 and task = $2 and ready is null
        and not exists (select 1 from task_model
                         where task_model.workspace = model.workspace
                           and task_model.model = model.id)
        and not exists (select 1 from task
                         where task.workspace = model.workspace and task.checkpoint = model.id)",
    "update model set task = null, slot = null where workspace = $1 and task = $2",
    "update dataset set task = null where workspace = $1 and task = $2",
];

/// What somebody has given a task.
const INPUTS: [&str; 5] = [
    "delete from artifact where workspace = $1 and task = $2",
    "delete from task_model where workspace = $1 and task = $2",
    "delete from parameter where workspace = $1 and task = $2",
    "delete from configuration where workspace = $1 and task = $2",
    "update task set parent = null where workspace = $1 and parent = $2",
];

impl Store {
    /// Deletes a task with its reports, artifacts, parameters and those of its models that
    /// nothing else uses. Tasks that came from it stay.
    ///
    /// # Errors
    /// When it is neither a draft nor archived, and `force` is not given.
    pub async fn delete_task(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        force: bool,
    ) -> Result<(), ChangeError> {
        let action = "delete a task";
        let mut transaction = self.begin(action).await?;
        let found = find(&mut transaction, workspace, task).await?;
        let state = found.state()?;
        let archived = found.system_tags()?.iter().any(|tag| tag == ARCHIVED);
        let idle = archived && !matches!(state, TaskState::Queued | TaskState::InProgress);
        let unprotected = state == TaskState::Created || (idle && state != TaskState::Published);
        if !force && !unprotected {
            return Err(ChangeError::NotDeletable {
                task: task.clone(),
                state,
            });
        }
        remove(&mut transaction, workspace, task).await?;
        transaction.commit().await.map_err(change_error(action))?;
        self.forget_points(workspace, task);
        Ok(())
    }
}

/// Deletes the rows of a task.
pub(crate) async fn remove(
    transaction: &mut Tx,
    workspace: &Workspace,
    task: &TaskId,
) -> Result<(), ChangeError> {
    let action = "delete a task";
    delete_staged_version(transaction, workspace.as_str(), task)
        .await
        .map_err(change_error(action))?;
    delete_points(transaction, &TaskKey::new(workspace, task))
        .await
        .map_err(change_error(action))?;
    // The task's own checkpoint must not keep a model that the task made.
    let row = "update task set checkpoint = null where workspace = $1 and id = $2";
    let task_row = "delete from task where workspace = $1 and id = $2";
    let statements = [row]
        .into_iter()
        .chain(REPORTS)
        .chain(OUTPUTS)
        .chain(INPUTS)
        .chain([task_row]);
    for statement in statements {
        sqlx::query(statement)
            .bind(workspace.as_str())
            .bind(task.as_str())
            .execute(&mut **transaction)
            .await
            .map_err(change_error(action))?;
    }
    delete_tags(transaction, workspace, "task", task.as_str())
        .await
        .map_err(change_error(action))
}

/// Makes a draft of a task: what its run reported and made is gone; parameters,
/// configuration, script and what it reads stay. An agent that runs it is refused from now on.
pub(crate) async fn clear_run(
    transaction: &mut Tx,
    workspace: &Workspace,
    task: &TaskId,
    now: Timestamp,
) -> Result<(), ChangeError> {
    let action = "reset a task";
    delete_staged_version(transaction, workspace.as_str(), task)
        .await
        .map_err(change_error(action))?;
    delete_points(transaction, &TaskKey::new(workspace, task))
        .await
        .map_err(change_error(action))?;
    for statement in REPORTS.into_iter().chain(OUTPUTS) {
        sqlx::query(statement)
            .bind(workspace.as_str())
            .bind(task.as_str())
            .execute(&mut **transaction)
            .await
            .map_err(change_error(action))?;
    }
    sqlx::query(
        "update task
            set state = 'created', state_reason = '', state_message = '', state_changed = $1,
                last_update = $1, runtime = '{}', record = '{}', result = null, progress = $2,
                output_model = null, initial_iteration = 0, last_iteration = 0, queue = null,
                queued = null, started = null, ended = null, stop_requested = null,
                stop_reason = null, agent = null, fence = fence + 1, ended_fence = null,
                lease_until = null, attempts = 0
          where workspace = $3 and id = $4",
    )
    .bind(now.as_millis())
    .bind(serde_json::json!(Progress::default()).to_string())
    .bind(workspace.as_str())
    .bind(task.as_str())
    .execute(&mut **transaction)
    .await
    .map_err(change_error(action))?;
    Ok(())
}
