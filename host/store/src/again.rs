//! Using tasks again: a run by hand may take the place of the last one, and a task that ended
//! may be continued.

use sqlx::{Any, Transaction};
use trainshed_core::progress::Progress;
use trainshed_core::task::TaskState;
use trainshed_core::{TaskId, Timestamp};

use crate::change::{ChangeError, find};
use crate::database::Store;
use crate::edit::set_work;
use crate::error::StoreError;
use crate::file::bigint;
use crate::idempotency::note_made;
use crate::lifecycle::active_namesake;
use crate::reset::remove;
use crate::task::{InsertTaskError, NewTask, insert_parts};
use crate::workspace::{DEFAULT_QUEUE, Workspace};

/// Why a task was not continued. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ContinueError {
    /// There is no such task.
    #[error("there is no task {0}")]
    UnknownTask(TaskId),
    /// It has not ended, or is published.
    #[error("the task {task} cannot be continued: it is {state}")]
    State {
        /// The task.
        task: TaskId,
        /// Where it stands.
        state: TaskState,
    },
    /// A waiting or running task has the name.
    #[error("the name `{name}` is in use: the task {task} has it and is {state}")]
    NameTaken {
        /// As submitted.
        name: String,
        /// The other task.
        task: TaskId,
        /// Where that stands.
        state: TaskState,
    },
    /// The store failed.
    #[error("the task could not be continued")]
    Store(#[from] StoreError),
}

/// The last task that somebody ran by hand under a name.
#[derive(sqlx::FromRow)]
struct LastRun {
    id: String,
    state: String,
    created: i64,
    fence: i64,
    last_update: i64,
    archived: i64,
    development: i64,
    outputs: i64,
}

type Tx = Transaction<'static, Any>;

impl Store {
    /// Inserts a task in place of the last one of its project, name and creator, whose id it
    /// takes, if that was run by hand, has changed since `since`, has ended or is a draft, is
    /// neither published nor archived, and has neither artifacts nor models. Otherwise inserts
    /// it as a new one. Returns its id.
    ///
    /// # Errors
    /// When a waiting or running task has the same encoded name.
    pub async fn reuse_task(
        &self,
        workspace: &Workspace,
        task: &NewTask,
        since: Timestamp,
        now: Timestamp,
    ) -> Result<TaskId, InsertTaskError> {
        let action = "record a task";
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
        let last = last_run(&mut transaction, workspace, task).await;
        let last = last.map_err(failed)?;
        let Some(last) = last.filter(|last| last.is_reusable(since)) else {
            insert_parts(&mut transaction, workspace, task, now)
                .await
                .map_err(failed)?;
            note_made(&mut transaction, || format!("/api/v1/tasks/{}", task.id))
                .await
                .map_err(failed)?;
            transaction.commit().await.map_err(failed)?;
            return Ok(task.id.clone());
        };
        let damaged = StoreError::damaged(action);
        let id: TaskId = last
            .id
            .parse()
            .map_err(|error| InsertTaskError::Store(damaged(error)))?;
        let children: Vec<(String,)> =
            sqlx::query_as("select id from task where workspace = $1 and parent = $2")
                .bind(workspace.as_str())
                .bind(id.as_str())
                .fetch_all(&mut *transaction)
                .await
                .map_err(failed)?;
        let (newest, deleted): (i64, i64) = sqlx::query_as(
            "select (select coalesce(max(seq), 0) from point_log),
                    (select coalesce(max(deleted), 0) from point_state
                      where workspace = $1 and task = $2)",
        )
        .bind(workspace.as_str())
        .bind(id.as_str())
        .fetch_one(&mut *transaction)
        .await
        .map_err(failed)?;
        let removed = remove(&mut transaction, workspace, &id).await;
        removed.map_err(|error| match error {
            ChangeError::Store(error) => InsertTaskError::Store(error),
            other => InsertTaskError::Store(StoreError::damaged(action)(other)),
        })?;
        let reused = NewTask {
            id: id.clone(),
            ..task.clone()
        };
        insert_parts(&mut transaction, workspace, &reused, now)
            .await
            .map_err(failed)?;
        // What is being summed up of the former run at this moment must come to nothing.
        sqlx::query(
            "insert into point_state (workspace, task, summarized, compacted, deleted)
             values ($1, $2, $3, $3, $4)",
        )
        .bind(workspace.as_str())
        .bind(id.as_str())
        .bind(newest)
        .bind(deleted + 1)
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        // Its former agent must not be able to write to the new run.
        sqlx::query("update task set created = $1, fence = $2 where workspace = $3 and id = $4")
            .bind(last.created)
            .bind(last.fence + 1)
            .bind(workspace.as_str())
            .bind(id.as_str())
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        for (child,) in children {
            sqlx::query("update task set parent = $1 where workspace = $2 and id = $3")
                .bind(id.as_str())
                .bind(workspace.as_str())
                .bind(child)
                .execute(&mut *transaction)
                .await
                .map_err(failed)?;
        }
        note_made(&mut transaction, || format!("/api/v1/tasks/{id}"))
            .await
            .map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        self.forget_points(workspace, &id);
        Ok(id)
    }

    /// Queues a task that ended once more, with the work and the parameters of `task`. All
    /// that it reported and made stays. `initial_iteration` is added to every iteration of the
    /// new run; without it, the run goes on behind the last iteration.
    ///
    /// # Errors
    /// When it has not ended, is published, or a waiting or running task has the new name.
    pub async fn continue_task(
        &self,
        workspace: &Workspace,
        previous: &TaskId,
        task: &NewTask,
        initial_iteration: Option<u64>,
        now: Timestamp,
    ) -> Result<(), ContinueError> {
        let action = "continue a task";
        // The last iteration is that of what was acknowledged.
        self.settle_summaries(Some((workspace, previous))).await?;
        let mut transaction = self.begin(action).await?;
        let found = find(&mut transaction, workspace, previous).await;
        let found = found.map_err(|error| match error {
            ChangeError::UnknownTask(task) => ContinueError::UnknownTask(task),
            ChangeError::Store(error) => ContinueError::Store(error),
            other => ContinueError::Store(StoreError::damaged(action)(other)),
        })?;
        let state = TaskState::parse(&found.state).unwrap_or(TaskState::Published);
        if !state.has_ended() || state == TaskState::Published {
            return Err(ContinueError::State {
                task: previous.clone(),
                state,
            });
        }
        if let Some((other, state)) =
            active_namesake(&mut transaction, workspace, &task.encoded_name).await?
        {
            return Err(ContinueError::NameTaken {
                name: task.name.clone(),
                task: other,
                state,
            });
        }
        if let Some(work) = &task.work {
            let set = set_work(
                &mut transaction,
                workspace,
                previous,
                work,
                &task.parameters,
            );
            set.await.map_err(|error| match error {
                ChangeError::Store(error) => error,
                other => StoreError::damaged(action)(other),
            })?;
        }
        free_slots(&mut transaction, workspace, previous)
            .await
            .map_err(StoreError::database(action))?;
        sqlx::query(
            "update task
                set name = $1, encoded_name = $2, state = 'queued', state_reason = '',
                    state_message = '', state_changed = $3, last_update = $3, queued = $3,
                    queue = (select id from queue where workspace = $4 and name = $5),
                    started = null, ended = null, result = null, progress = $6,
                    stop_requested = null, stop_reason = null, lease_until = null,
                    fence = fence + 1,
                    initial_iteration = coalesce($7, case when exists
                        (select 1 from series where series.workspace = task.workspace
                            and series.task = task.id) then last_iteration + 1 else 0 end)
              where workspace = $4 and id = $8",
        )
        .bind(&task.name)
        .bind(&task.encoded_name)
        .bind(now.as_millis())
        .bind(workspace.as_str())
        .bind(DEFAULT_QUEUE)
        .bind(serde_json::json!(Progress::default()).to_string())
        .bind(initial_iteration.map(bigint))
        .bind(previous.as_str())
        .execute(&mut *transaction)
        .await
        .map_err(StoreError::database(action))?;
        note_made(&mut transaction, || format!("/api/v1/tasks/{previous}"))
            .await
            .map_err(StoreError::database(action))?;
        let committed = transaction.commit().await;
        Ok(committed.map_err(StoreError::database(action))?)
    }
}

/// The task of the same project, name and creator that was last changed.
async fn last_run(
    transaction: &mut Tx,
    workspace: &Workspace,
    task: &NewTask,
) -> Result<Option<LastRun>, sqlx::Error> {
    sqlx::query_as(
        "select task.id, task.state, task.created, task.fence, task.last_update,
                (select count(*) from tag where tag.workspace = task.workspace
                    and tag.kind = 'task' and tag.is_system = 1 and tag.tag = 'archived'
                    and tag.owner = task.id) as archived,
                (select count(*) from tag where tag.workspace = task.workspace
                    and tag.kind = 'task' and tag.is_system = 1 and tag.tag = 'development'
                    and tag.owner = task.id) as development,
                (select count(*) from artifact where artifact.workspace = task.workspace
                    and artifact.task = task.id and artifact.mode = 'output')
                + (select count(*) from model where model.workspace = task.workspace
                      and model.task = task.id)
                + (select count(*) from dataset where dataset.workspace = task.workspace
                      and dataset.task = task.id) as outputs
           from task
           join project on project.workspace = task.workspace and project.id = task.project
          where task.workspace = $1 and task.name = $2 and project.path = $3
            and task.creator = $4
          order by task.last_update desc, task.id desc limit 1",
    )
    .bind(workspace.as_str())
    .bind(&task.name)
    .bind(&task.project)
    .bind(&task.creator)
    .fetch_optional(&mut **transaction)
    .await
}

impl LastRun {
    fn is_reusable(&self, since: Timestamp) -> bool {
        let idle = matches!(
            TaskState::parse(&self.state),
            Some(
                TaskState::Created | TaskState::Completed | TaskState::Failed | TaskState::Stopped
            )
        );
        idle && self.last_update >= since.as_millis()
            && self.archived == 0
            && self.development == 1
            && self.outputs == 0
    }
}

/// Makes room for the models of the next run: those that are there keep their place in the
/// list of what the task made, under names that no run gives.
async fn free_slots(
    transaction: &mut Tx,
    workspace: &Workspace,
    task: &TaskId,
) -> Result<(), sqlx::Error> {
    for statement in [
        "update task_model set name = name || ' (model ' || model || ')'
          where workspace = $1 and task = $2 and role = 'output'
            and exists (select 1 from model where model.id = task_model.model
                           and model.slot is not null)",
        "update model set slot = null where workspace = $1 and task = $2",
    ] {
        sqlx::query(statement)
            .bind(workspace.as_str())
            .bind(task.as_str())
            .execute(&mut **transaction)
            .await?;
    }
    Ok(())
}
