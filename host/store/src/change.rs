//! What every change of a task by people and programs begins with: who may change what.

use serde::Serialize;
use sqlx::{Any, AnyConnection, Transaction};
use trainshed_core::task::{TaskState, Verb};
use trainshed_core::view::entity_tag;
use trainshed_core::{TaskId, Timestamp};

use crate::error::StoreError;
use crate::task::read_task;
use crate::workspace::Workspace;

/// Why a task was not changed. Nothing of the change was kept.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// There is no such task.
    #[error("there is no task {0}")]
    UnknownTask(TaskId),
    /// Its state does not lead to the wanted one.
    #[error(
        "the task {task} cannot be moved by `{}`: it is {state}, and {state} does not become {}",
        verb.as_str(), verb.target()
    )]
    State {
        /// The task.
        task: TaskId,
        /// Where it stands.
        state: TaskState,
        /// What was wanted.
        verb: Verb,
    },
    /// In its state it cannot be edited.
    #[error("{what} of the task {task} cannot be changed: it is {state}, not created")]
    NotEditable {
        /// The task.
        task: TaskId,
        /// Where it stands.
        state: TaskState,
        /// What was to be changed.
        what: String,
    },
    /// In its state it cannot be deleted.
    #[error("the task {task} cannot be deleted: it is {state} and not archived")]
    NotDeletable {
        /// The task.
        task: TaskId,
        /// Where it stands.
        state: TaskState,
    },
    /// A waiting or running task has the name.
    #[error("the name `{name}` is in use: the task {task} has it and is {state}")]
    NameTaken {
        /// The name.
        name: String,
        /// The other task.
        task: TaskId,
        /// Where that stands.
        state: TaskState,
    },
    /// There is no such queue.
    #[error("there is no queue `{0}`")]
    UnknownQueue(String),
    /// There is no such parent.
    #[error("there is no task {0} that could be the parent")]
    UnknownParent(TaskId),
    /// The parent came from the task, or is the task.
    #[error("the task {parent} cannot be the parent of {task}: it is that task or came from it")]
    CircularParent {
        /// The task.
        task: TaskId,
        /// What was to be its parent.
        parent: TaskId,
    },
    /// Somebody else changed the task since the caller read it.
    #[error("the task {task} is not what `If-Match` says: it was changed since")]
    ChangedSince {
        /// The task.
        task: TaskId,
    },
    /// It would have more of something than it may.
    #[error("{0}")]
    TooMany(String),
    /// The store failed.
    #[error("the task could not be changed")]
    Store(#[source] StoreError),
}

impl ChangeError {
    /// What the user can do about it, in one sentence.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownTask(_) => Some("`trainshed task ls` lists them.".into()),
            Self::State {
                state: TaskState::Published,
                ..
            }
            | Self::NotEditable {
                state: TaskState::Published,
                ..
            } => Some("A published task is read-only; clone it to go on from there.".into()),
            Self::State {
                verb: Verb::Dequeue,
                ..
            } => Some("Only a task that waits in a queue can leave it.".into()),
            Self::State { .. } => {
                Some("`force` moves it all the same, and loses nothing but the check.".into())
            }
            Self::NotEditable {
                state: TaskState::Queued | TaskState::InProgress,
                ..
            } => Some("`force` edits it all the same.".into()),
            Self::NotEditable { .. } => {
                Some("Reset the task, or clone it and edit the clone.".into())
            }
            Self::NotDeletable { .. } => {
                Some("Archive it first, or delete it with `force`.".into())
            }
            Self::NameTaken { task, .. } => Some(format!(
                "Wait for it, stop it with `trainshed task stop {task}`, or rename one of the two."
            )),
            Self::ChangedSince { .. } => {
                Some("Read the task again and decide on what it is now.".into())
            }
            Self::UnknownQueue(_)
            | Self::UnknownParent(_)
            | Self::CircularParent { .. }
            | Self::TooMany(_) => None,
            Self::Store(error) => error.hint(),
        }
    }
}

impl From<StoreError> for ChangeError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Sorts what the database says while a task is changed.
pub(crate) fn change_error(action: &'static str) -> impl FnOnce(sqlx::Error) -> ChangeError {
    move |error| ChangeError::Store(StoreError::database(action)(error))
}

/// Where a task stands, as a change finds it.
#[derive(sqlx::FromRow)]
pub(crate) struct Found {
    pub(crate) state: String,
    pub(crate) name: String,
    pub(crate) encoded_name: String,
    pub(crate) action: String,
    pub(crate) output_model: Option<String>,
    /// Set while an agent runs it.
    pub(crate) lease_until: Option<i64>,
    pub(crate) system_tags: String,
    pub(crate) tags: String,
}

impl Found {
    pub(crate) fn state(&self) -> Result<TaskState, ChangeError> {
        TaskState::parse(&self.state).ok_or_else(|| {
            let unknown = format!("there is no state `{}`", self.state);
            ChangeError::Store(StoreError::damaged("change a task")(unknown))
        })
    }

    pub(crate) fn system_tags(&self) -> Result<Vec<String>, ChangeError> {
        let tags = serde_json::from_str(&self.system_tags);
        tags.map_err(|error| ChangeError::Store(StoreError::damaged("change a task")(error)))
    }

    pub(crate) fn tags(&self) -> Result<Vec<String>, ChangeError> {
        let tags = serde_json::from_str(&self.tags);
        tags.map_err(|error| ChangeError::Store(StoreError::damaged("change a task")(error)))
    }
}

/// Reads the task that a transaction is about to change. Transactions that write follow each
/// other, so that it stays like this until the end of this one.
pub(crate) async fn find(
    connection: &mut AnyConnection,
    workspace: &Workspace,
    task: &TaskId,
) -> Result<Found, ChangeError> {
    let found: Option<Found> = sqlx::query_as(
        "select state, name, encoded_name, action, output_model, lease_until, system_tags, tags
           from task where workspace = $1 and id = $2",
    )
    .bind(workspace.as_str())
    .bind(task.as_str())
    .fetch_optional(connection)
    .await
    .map_err(change_error("change a task"))?;
    found.ok_or_else(|| ChangeError::UnknownTask(task.clone()))
}

/// Under which conditions a task is changed. A flag alone is `force`.
#[derive(Debug, Clone, Copy, Default)]
pub struct ChangeRules<'a> {
    /// Also while the task waits or runs.
    pub force: bool,
    /// A header `If-Match`: the tag of the task as the caller has read it.
    pub expected: Option<&'a str>,
}

impl From<bool> for ChangeRules<'_> {
    fn from(force: bool) -> Self {
        Self {
            force,
            expected: None,
        }
    }
}

/// Finds a task whose parameters, script and so on are to be changed: a draft, or with `force`
/// also one that waits or runs. `what` is what is to be changed.
pub(crate) async fn find_editable(
    connection: &mut AnyConnection,
    workspace: &Workspace,
    task: &TaskId,
    what: &str,
    rules: ChangeRules<'_>,
) -> Result<Found, ChangeError> {
    let found = find(&mut *connection, workspace, task).await?;
    let state = found.state()?;
    let allowed = match state {
        TaskState::Created => true,
        TaskState::Queued | TaskState::InProgress => rules.force,
        _ => false,
    };
    if allowed {
        check_unchanged(connection, workspace, task, rules.expected).await?;
        return Ok(found);
    }
    Err(ChangeError::NotEditable {
        task: task.clone(),
        state,
        what: what.to_owned(),
    })
}

/// Refuses a change when the task is no longer what the caller has read; `expected` is a
/// header `If-Match`.
pub(crate) async fn check_unchanged(
    connection: &mut AnyConnection,
    workspace: &Workspace,
    task: &TaskId,
    expected: Option<&str>,
) -> Result<(), ChangeError> {
    if expected.is_none() {
        return Ok(());
    }
    let view = read_task(connection, workspace, task).await?;
    let view = view.ok_or_else(|| ChangeError::UnknownTask(task.clone()))?;
    if is_as_read(&view, expected)? {
        return Ok(());
    }
    Err(ChangeError::ChangedSince { task: task.clone() })
}

/// Whether `view` is what the caller has read; `expected` is a header `If-Match`.
pub(crate) fn is_as_read(
    view: &impl Serialize,
    expected: Option<&str>,
) -> Result<bool, StoreError> {
    let Some(expected) = expected.filter(|expected| *expected != "*") else {
        return Ok(true);
    };
    let body = serde_json::to_vec(view).map_err(StoreError::damaged("compare a document"))?;
    let tag = entity_tag(&body);
    Ok(expected.split(',').any(|given| given.trim() == tag))
}

/// Notes that something of a task changed.
pub(crate) async fn touch(
    transaction: &mut Transaction<'static, Any>,
    workspace: &Workspace,
    task: &TaskId,
    now: Timestamp,
) -> Result<(), ChangeError> {
    sqlx::query("update task set last_update = $1 where workspace = $2 and id = $3")
        .bind(now.as_millis())
        .bind(workspace.as_str())
        .bind(task.as_str())
        .execute(&mut **transaction)
        .await
        .map_err(change_error("change a task"))?;
    Ok(())
}
