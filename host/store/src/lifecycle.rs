//! The states of tasks: every move of a task that no lease makes.
//!
//! A move reads the state, decides and writes within one transaction, and transactions that
//! write follow each other; of any number of callers who want the same move, one makes it.

use sqlx::{Any, AnyConnection, Transaction};
use trainshed_core::task::{TaskState, Verb};
use trainshed_core::{TaskId, Timestamp};

use crate::change::{ChangeError, Found, change_error, find};
use crate::database::Store;
use crate::dataset::{delete_staged_version, show_staged_version};
use crate::error::StoreError;
use crate::idempotency::note_made;
use crate::interrupt::EndedTask;
use crate::model::show_models;
use crate::reset::clear_run;
use crate::workspace::Workspace;

/// A move of a task, with what is to be known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move<'a> {
    /// Which.
    pub verb: Verb,
    /// Lifts the rules, but not those of published tasks.
    pub force: bool,
    /// One sentence.
    pub reason: &'a str,
    /// More about it.
    pub message: &'a str,
    /// For `enqueue`, and nothing else.
    pub queue: Option<QueueName<'a>>,
}

/// How a queue is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueName<'a> {
    /// By its id.
    Id(&'a str),
    /// By its name.
    Name(&'a str),
}

impl<'a> Move<'a> {
    /// A move without a reason.
    pub fn new(verb: Verb) -> Self {
        Self {
            verb,
            force: false,
            reason: "",
            message: "",
            queue: None,
        }
    }

    /// The same move, with the rules lifted.
    pub fn forced(self) -> Self {
        Self {
            force: true,
            ..self
        }
    }

    /// The same move, into a queue.
    pub fn into_queue(self, queue: QueueName<'a>) -> Self {
        Self {
            queue: Some(queue),
            ..self
        }
    }
}

impl Store {
    /// Moves a task to another state; returns whether its state changed, which is false when
    /// it was there already, and when an agent runs it and was asked to stop.
    ///
    /// Of several who move a task at once, one changes it.
    ///
    /// # Errors
    /// When its state does not lead there; nothing was changed.
    pub async fn move_task(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        wanted: &Move<'_>,
        now: Timestamp,
    ) -> Result<bool, ChangeError> {
        let action = "move a task";
        let mut transaction = self.begin(action).await?;
        let found = find(&mut transaction, workspace, task).await?;
        let state = found.state()?;
        if !wanted.verb.is_allowed(state, wanted.force) {
            return Err(ChangeError::State {
                task: task.clone(),
                state,
                verb: wanted.verb,
            });
        }
        let stays = state == wanted.verb.target() && wanted.verb != Verb::Reset;
        let mover = Mover {
            workspace,
            task,
            wanted,
            found: &found,
            state,
            now,
        };
        let changed = match wanted.verb {
            Verb::Stop if mover.is_leased() && !wanted.force => {
                mover.ask_to_stop(&mut transaction).await?;
                false
            }
            Verb::Enqueue if stays => {
                mover.queue(&mut transaction).await?;
                false
            }
            _ if stays => false,
            Verb::Enqueue => mover.enqueue(&mut transaction).await?,
            Verb::Dequeue => mover.dequeue(&mut transaction).await?,
            Verb::Start => mover.start(&mut transaction).await?,
            Verb::Stop | Verb::Complete | Verb::Fail => mover.end(&mut transaction).await?,
            Verb::Publish => mover.publish(&mut transaction).await?,
            Verb::Reset => {
                clear_run(&mut transaction, workspace, task, now).await?;
                true
            }
        };
        note_made(&mut transaction, || format!("/api/v1/tasks/{task}"))
            .await
            .map_err(change_error(action))?;
        transaction.commit().await.map_err(change_error(action))?;
        if wanted.verb == Verb::Reset {
            self.forget_points(workspace, task);
        }
        Ok(changed)
    }

    /// Notes that a task which no agent runs is still at work; returns whether it is running.
    ///
    /// # Errors
    /// When there is no such task.
    pub async fn ping_task(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        now: Timestamp,
    ) -> Result<bool, ChangeError> {
        let action = "note that a task is at work";
        let mut transaction = self.begin(action).await?;
        let found = find(&mut transaction, workspace, task).await?;
        let seen = sqlx::query(
            "update task set last_update = $1
              where workspace = $2 and id = $3 and state = 'in_progress'",
        )
        .bind(now.as_millis())
        .bind(workspace.as_str())
        .bind(task.as_str())
        .execute(&mut *transaction)
        .await
        .map_err(change_error(action))?;
        transaction.commit().await.map_err(change_error(action))?;
        Ok(seen.rows_affected() == 1 && found.state()? == TaskState::InProgress)
    }

    /// Stops the tasks of every workspace that run without an agent and of which nothing was
    /// heard since `silent_since`, for `reason`.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn end_silent_tasks(
        &self,
        silent_since: Timestamp,
        reason: &str,
        now: Timestamp,
    ) -> Result<Vec<EndedTask>, StoreError> {
        let action = "stop silent tasks";
        // Looking costs no write.
        let (silent,): (i64,) = sqlx::query_as(
            "select count(*) from task
              where state = 'in_progress' and lease_until is null and action <> 'tune'
                and last_update < $1",
        )
        .bind(silent_since.as_millis())
        .fetch_one(&self.reader)
        .await
        .map_err(StoreError::database(action))?;
        if silent == 0 {
            return Ok(Vec::new());
        }
        let mut transaction = self.begin(action).await?;
        let rows: Vec<(String, String)> = sqlx::query_as(
            "update task
                set state = 'stopped', state_reason = $1, state_message = '', ended = $2,
                    state_changed = $2, last_update = $2
              where state = 'in_progress' and lease_until is null and action <> 'tune'
                and last_update < $3
          returning workspace, id",
        )
        .bind(reason)
        .bind(now.as_millis())
        .bind(silent_since.as_millis())
        .fetch_all(&mut *transaction)
        .await
        .map_err(StoreError::database(action))?;
        let mut ended = Vec::with_capacity(rows.len());
        for (workspace, task) in rows {
            let task: TaskId = task.parse().map_err(StoreError::damaged(action))?;
            show_models(&mut transaction, &workspace, &task, None)
                .await
                .map_err(StoreError::database(action))?;
            let workspace = workspace.parse().map_err(StoreError::damaged(action))?;
            ended.push(EndedTask { workspace, task });
        }
        let committed = transaction.commit().await;
        committed.map_err(StoreError::database(action))?;
        Ok(ended)
    }
}

type Tx = Transaction<'static, Any>;

/// One move, within its transaction.
struct Mover<'a> {
    workspace: &'a Workspace,
    task: &'a TaskId,
    wanted: &'a Move<'a>,
    found: &'a Found,
    state: TaskState,
    now: Timestamp,
}

impl Mover<'_> {
    /// Whether an agent runs the task.
    fn is_leased(&self) -> bool {
        self.state == TaskState::InProgress && self.found.lease_until.is_some()
    }

    /// The queue that is named.
    async fn queue(&self, transaction: &mut Tx) -> Result<String, ChangeError> {
        match self.wanted.queue {
            Some(queue) => find_queue(transaction, self.workspace, queue).await,
            None => Err(ChangeError::UnknownQueue(String::new())),
        }
    }

    async fn enqueue(&self, transaction: &mut Tx) -> Result<bool, ChangeError> {
        let queue = self.queue(transaction).await?;
        self.check_name(transaction).await?;
        // An experiment that is run again begins anew.
        sqlx::query("delete from experiment where workspace = $1 and task = $2")
            .bind(self.workspace.as_str())
            .bind(self.task.as_str())
            .execute(&mut **transaction)
            .await
            .map_err(change_error("enqueue a task"))?;
        // Whoever comes later waits behind, also within one millisecond.
        let changed = sqlx::query(
            "update task
                set state = 'queued', state_reason = $1, state_message = $2, state_changed = $3,
                    last_update = $3, queue = $4,
                    queued = (select case when coalesce(max(queued), 0) >= $3
                                          then max(queued) + 1 else $3 end
                                from task where workspace = $5 and state = 'queued'),
                    started = null, ended = null, result = null, stop_requested = null,
                    stop_reason = null, lease_until = null, fence = fence + 1
              where workspace = $5 and id = $6 and state = $7",
        )
        .bind(self.wanted.reason)
        .bind(self.wanted.message)
        .bind(self.now.as_millis())
        .bind(queue)
        .bind(self.workspace.as_str())
        .bind(self.task.as_str())
        .bind(self.state.as_str())
        .execute(&mut **transaction)
        .await
        .map_err(change_error("enqueue a task"))?;
        Ok(changed.rows_affected() == 1)
    }

    async fn dequeue(&self, transaction: &mut Tx) -> Result<bool, ChangeError> {
        let changed = sqlx::query(
            "update task
                set state = 'created', state_reason = $1, state_message = $2, state_changed = $3,
                    last_update = $3, queue = null, queued = null
              where workspace = $4 and id = $5 and state = $6",
        );
        self.changed(transaction, changed).await
    }

    async fn start(&self, transaction: &mut Tx) -> Result<bool, ChangeError> {
        self.check_name(transaction).await?;
        let changed = sqlx::query(
            "update task
                set state = 'in_progress', state_reason = $1, state_message = $2,
                    state_changed = $3, last_update = $3, started = $3, ended = null,
                    result = null, stop_requested = null, stop_reason = null, agent = null,
                    lease_until = null, ended_fence = null, fence = fence + 1,
                    attempts = attempts + 1
              where workspace = $4 and id = $5 and state = $6",
        );
        self.changed(transaction, changed).await
    }

    /// Asks the agent that runs the task; of several requests the first one's reason stays.
    async fn ask_to_stop(&self, transaction: &mut Tx) -> Result<(), ChangeError> {
        sqlx::query(
            "update task
                set stop_requested = coalesce(stop_requested, $1),
                    stop_reason = coalesce(stop_reason, $2), last_update = $1
              where workspace = $3 and id = $4",
        )
        .bind(self.now.as_millis())
        .bind(self.wanted.reason)
        .bind(self.workspace.as_str())
        .bind(self.task.as_str())
        .execute(&mut **transaction)
        .await
        .map_err(change_error("stop a task"))?;
        Ok(())
    }

    /// Ends the run, if there is one; an agent that runs the task is refused from now on.
    async fn end(&self, transaction: &mut Tx) -> Result<bool, ChangeError> {
        let changed = sqlx::query(
            "update task
                set state = $7, state_reason = $1, state_message = $2, state_changed = $3,
                    last_update = $3, queued = null, lease_until = null, fence = fence + 1,
                    ended = case when state in ('queued', 'in_progress', 'created') then $3
                                 else coalesce(ended, $3) end
              where workspace = $4 and id = $5 and state = $6",
        );
        let target = self.wanted.verb.target().as_str();
        let changed = self.bound(changed).bind(target);
        let changed = changed.execute(&mut **transaction).await;
        let changed = changed.map_err(change_error("end a task"))?;
        let workspace = self.workspace.as_str();
        let output = self.found.output_model.as_deref();
        let shown = show_models(transaction, workspace, self.task, output).await;
        shown.map_err(change_error("end a task"))?;
        let version = if self.wanted.verb == Verb::Complete {
            let shown = show_staged_version(transaction, workspace, self.task).await;
            shown.map(|_| ())
        } else {
            delete_staged_version(transaction, workspace, self.task).await
        };
        version.map_err(change_error("end a task"))?;
        Ok(changed.rows_affected() == 1)
    }

    /// Makes the task and the models it made read-only.
    async fn publish(&self, transaction: &mut Tx) -> Result<bool, ChangeError> {
        let changed = sqlx::query(
            "update task
                set state = 'published', state_reason = $1, state_message = $2,
                    state_changed = $3, last_update = $3, published = $3, queued = null,
                    lease_until = null, fence = fence + 1,
                    ended = coalesce(ended, $3)
              where workspace = $4 and id = $5 and state = $6",
        );
        let changed = self.changed(transaction, changed).await?;
        let action = "publish a task";
        let output = self.found.output_model.as_deref();
        show_models(transaction, self.workspace.as_str(), self.task, output)
            .await
            .map_err(change_error(action))?;
        sqlx::query(
            "update model set ready = coalesce(ready, $1), last_update = $1
              where workspace = $2 and task = $3",
        )
        .bind(self.now.as_millis())
        .bind(self.workspace.as_str())
        .bind(self.task.as_str())
        .execute(&mut **transaction)
        .await
        .map_err(change_error(action))?;
        Ok(changed)
    }

    /// Refuses to let two tasks of agents with one name wait or run at once.
    async fn check_name(&self, transaction: &mut Tx) -> Result<(), ChangeError> {
        let active = matches!(self.state, TaskState::Queued | TaskState::InProgress);
        if self.found.action.is_empty() || active {
            return Ok(());
        }
        let name = &self.found.encoded_name;
        match active_namesake(transaction, self.workspace, name).await? {
            None => Ok(()),
            Some((task, state)) => Err(ChangeError::NameTaken {
                name: self.found.name.clone(),
                task,
                state,
            }),
        }
    }

    /// Runs an update whose first six places are those of [`Mover::bound`].
    async fn changed<'q>(
        &self,
        transaction: &mut Tx,
        update: Update<'q>,
    ) -> Result<bool, ChangeError>
    where
        Self: 'q,
    {
        let changed = self.bound(update).execute(&mut **transaction).await;
        let changed = changed.map_err(change_error("move a task"))?;
        Ok(changed.rows_affected() == 1)
    }

    /// Binds reason, message, time, workspace, task and the state it was found in.
    fn bound<'q>(&self, update: Update<'q>) -> Update<'q> {
        update
            .bind(self.wanted.reason.to_owned())
            .bind(self.wanted.message.to_owned())
            .bind(self.now.as_millis())
            .bind(self.workspace.as_str().to_owned())
            .bind(self.task.as_str().to_owned())
            .bind(self.state.as_str())
    }
}

type Update<'q> = sqlx::query::Query<'q, Any, sqlx::any::AnyArguments>;

/// The task of an agent that waits or runs and has this encoded name.
pub(crate) async fn active_namesake(
    connection: &mut AnyConnection,
    workspace: &Workspace,
    encoded_name: &str,
) -> Result<Option<(TaskId, TaskState)>, StoreError> {
    let action = "look for a task of the same name";
    let other: Option<(String, String)> = sqlx::query_as(
        "select id, state from task
          where workspace = $1 and encoded_name = $2 and state in ('queued', 'in_progress')
            and action <> ''",
    )
    .bind(workspace.as_str())
    .bind(encoded_name)
    .fetch_optional(connection)
    .await
    .map_err(StoreError::database(action))?;
    let Some((task, state)) = other else {
        return Ok(None);
    };
    let task = task.parse().map_err(StoreError::damaged(action))?;
    Ok(Some((
        task,
        TaskState::parse(&state).unwrap_or(TaskState::Queued),
    )))
}

/// The id of a queue.
async fn find_queue(
    connection: &mut AnyConnection,
    workspace: &Workspace,
    queue: QueueName<'_>,
) -> Result<String, ChangeError> {
    let (statement, given) = match queue {
        QueueName::Id(id) => ("select id from queue where workspace = $1 and id = $2", id),
        QueueName::Name(name) => (
            "select id from queue where workspace = $1 and name = $2",
            name,
        ),
    };
    let found: Option<(String,)> = sqlx::query_as(statement)
        .bind(workspace.as_str())
        .bind(given)
        .fetch_optional(connection)
        .await
        .map_err(change_error("look a queue up"))?;
    let (id,) = found
        .ok_or_else(|| ChangeError::UnknownQueue(trainshed_core::text::shortened(given, 100)))?;
    Ok(id)
}
