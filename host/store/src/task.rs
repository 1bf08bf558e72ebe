//! Tasks and their parameters: inserting, reading, listing.

use std::collections::HashMap;

use serde_json::{Map, Value};
use sqlx::{Any, Transaction};
use trainshed_core::limits::LimitRequest;
use trainshed_core::name::MAX_NAME_BYTES;
use trainshed_core::progress::Progress;
use trainshed_core::task::{TaskState, TaskType};
use trainshed_core::view::{Page, PluginSummary, TaskQuery, TaskView};
use trainshed_core::{ProjectId, TaskId, Timestamp};

use crate::database::{Kind, Store, fresh_id};
use crate::error::StoreError;
use crate::file::{bigint, unsigned};
use crate::workspace::{DEFAULT_QUEUE, Workspace};

/// A task to be inserted and queued.
#[derive(Debug, Clone, PartialEq)]
pub struct NewTask {
    /// Fresh.
    pub id: TaskId,
    /// Path of the project; it and its parents are made on the fly.
    pub project: String,
    /// As submitted.
    pub name: String,
    /// No other waiting or running task has it.
    pub encoded_name: String,
    /// What kind of work it is.
    pub task_type: TaskType,
    /// The action's description.
    pub comment: String,
    /// Ordered.
    pub tags: Vec<String>,
    /// `train` or `preprocess`.
    pub action: &'static str,
    /// The action's `params`, unchanged.
    pub params: Map<String, Value>,
    /// The settings of the action itself: `hyperparameter` or `parameters`.
    pub settings: Map<String, Value>,
    /// Rows to find the task by.
    pub parameters: Vec<ParameterRow>,
    /// Which component runs it.
    pub plugin: PluginSummary,
    /// A visible data set version.
    pub dataset: u64,
    /// A visible model.
    pub checkpoint: Option<u64>,
    /// The seed of the run.
    pub seed: u64,
    /// What the action asks for.
    pub limits: LimitRequest,
}

/// One parameter of a task, typed.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct ParameterRow {
    /// `General` for the plugin's settings, `Args` for the action's own.
    pub section: String,
    /// Keys of nested objects are joined by `/`.
    pub name: String,
    /// `integer`, `float`, `text`, `boolean`, `null`, `list` or `object`.
    pub r#type: String,
    /// As JSON, except that a text stands for itself.
    pub value: String,
}

/// Why a task was not inserted.
#[derive(Debug, thiserror::Error)]
pub enum InsertTaskError {
    /// A waiting or running task has the name.
    #[error("the task {task} is called `{name}` too and is {state}")]
    NameTaken {
        /// As submitted.
        name: String,
        /// The other task.
        task: TaskId,
        /// Where it stands.
        state: TaskState,
    },
    /// The store failed.
    #[error("the task could not be recorded")]
    Store(#[source] StoreError),
}

/// A text that should have been the `next` of a page and is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not where a list goes on: use the `next` of the page before")]
pub struct BadCursor(pub String);

/// Why tasks were not listed.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// See [`BadCursor`].
    #[error(transparent)]
    Cursor(#[from] BadCursor),
    /// The store failed.
    #[error("the tasks could not be listed")]
    Store(#[source] StoreError),
}

impl QueryError {
    /// What the user can do about it, in one sentence.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Cursor(_) => Some("Leave `after` out to begin with the newest task.".into()),
            Self::Store(error) => error.hint(),
        }
    }
}

/// Reads a [`TaskRow`]; a condition follows.
macro_rules! select_tasks {
    () => {
        "select task.id, task.name, encoded_name, project.path as project, type, state,
                state_reason, comment, task.tags, action, params, plugin_digest, plugin_name,
                plugin_version, dataset, checkpoint, seed, result, progress, last_iteration,
                task.created, started, ended, task.last_update, stop_requested,
                agent.name as agent
           from task
           join project on project.workspace = task.workspace and project.id = task.project
           left join agent on agent.workspace = task.workspace and agent.id = task.agent "
    };
}

/// A task as the database has it, with the names it refers to.
#[derive(sqlx::FromRow)]
struct TaskRow {
    id: String,
    name: String,
    encoded_name: String,
    project: String,
    r#type: String,
    state: String,
    state_reason: String,
    comment: String,
    tags: String,
    action: String,
    params: String,
    plugin_digest: Option<String>,
    plugin_name: Option<String>,
    plugin_version: Option<String>,
    dataset: Option<i64>,
    checkpoint: Option<i64>,
    seed: Option<String>,
    result: Option<String>,
    progress: String,
    last_iteration: i64,
    created: i64,
    started: Option<i64>,
    ended: Option<i64>,
    last_update: i64,
    stop_requested: Option<i64>,
    agent: Option<String>,
}

impl Store {
    /// Inserts a task that waits for an agent, with its parameters and its project.
    ///
    /// # Errors
    /// When a waiting or running task has the same encoded name.
    pub async fn insert_task(
        &self,
        workspace: &Workspace,
        task: &NewTask,
        now: Timestamp,
    ) -> Result<(), InsertTaskError> {
        let failed = |error| InsertTaskError::Store(StoreError::database("record a task")(error));
        let begun = self.begin("record a task").await;
        let mut transaction = begun.map_err(InsertTaskError::Store)?;
        let other: Option<(String, String)> = sqlx::query_as(
            "select id, state from task
              where workspace = $1 and encoded_name = $2 and state in ('queued', 'in_progress')",
        )
        .bind(workspace.as_str())
        .bind(&task.encoded_name)
        .fetch_optional(&mut *transaction)
        .await
        .map_err(failed)?;
        if let Some((other, state)) = other {
            let damaged = StoreError::damaged("read a task");
            return Err(InsertTaskError::NameTaken {
                name: task.name.clone(),
                task: other
                    .parse()
                    .map_err(|error| InsertTaskError::Store(damaged(error)))?,
                state: TaskState::parse(&state).unwrap_or(TaskState::Queued),
            });
        }
        let project = ensure_project(&mut transaction, workspace, &task.project, now)
            .await
            .map_err(failed)?;
        insert_row(&mut transaction, workspace, task, &project, now)
            .await
            .map_err(failed)?;
        write_tags(
            &mut transaction,
            workspace,
            "task",
            task.id.as_str(),
            &task.tags,
        )
        .await
        .map_err(failed)?;
        if let Some(checkpoint) = task.checkpoint {
            sqlx::query(
                "insert into task_model (workspace, task, role, name, model, position)
                 values ($1, $2, 'input', 'checkpoint', $3, 0)",
            )
            .bind(workspace.as_str())
            .bind(task.id.as_str())
            .bind(bigint(checkpoint))
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        }
        for parameter in &task.parameters {
            sqlx::query(
                "insert into parameter (workspace, task, section, name, type, value)
                 values ($1, $2, $3, $4, $5, $6)",
            )
            .bind(workspace.as_str())
            .bind(task.id.as_str())
            .bind(&parameter.section)
            .bind(&parameter.name)
            .bind(&parameter.r#type)
            .bind(&parameter.value)
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        }
        transaction.commit().await.map_err(failed)
    }

    /// A task.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn task(
        &self,
        workspace: &Workspace,
        id: &TaskId,
    ) -> Result<Option<TaskView>, StoreError> {
        let row: Option<TaskRow> = sqlx::query_as(concat!(
            select_tasks!(),
            " where task.workspace = $1 and task.id = $2"
        ))
        .bind(workspace.as_str())
        .bind(id.as_str())
        .fetch_optional(&self.reader)
        .await
        .map_err(StoreError::database("read a task"))?;
        row.map(TaskRow::view).transpose()
    }

    /// The tasks with these ids, in their order. What is not there is left out.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn tasks_of(
        &self,
        workspace: &Workspace,
        ids: &[String],
    ) -> Result<Vec<TaskView>, StoreError> {
        let statement = match self.kind {
            Kind::Sqlite => concat!(
                select_tasks!(),
                "where task.workspace = $1 and task.id in (select value from json_each($2))"
            ),
            Kind::Postgres => concat!(
                select_tasks!(),
                "where task.workspace = $1
                   and task.id in (select json_array_elements_text($2::json))"
            ),
        };
        let rows: Vec<TaskRow> = sqlx::query_as(statement)
            .bind(workspace.as_str())
            .bind(serde_json::json!(ids).to_string())
            .fetch_all(&self.reader)
            .await
            .map_err(StoreError::database("read tasks"))?;
        let mut tasks = HashMap::new();
        for row in rows {
            let task = row.view()?;
            tasks.insert(task.id.as_str().to_owned(), task);
        }
        Ok(ids.iter().filter_map(|id| tasks.remove(id)).collect())
    }

    /// A page of the tasks that fit `query`, the newest first.
    ///
    /// # Errors
    /// When `query.after` is not the `next` of a page.
    pub async fn tasks(
        &self,
        workspace: &Workspace,
        query: &TaskQuery,
    ) -> Result<Page<TaskView>, QueryError> {
        let after = match &query.after {
            Some(cursor) => parse_cursor(cursor)?,
            None => (i64::MAX, String::new()),
        };
        let name = query.name.as_deref().unwrap_or_default();
        if name.len() > MAX_NAME_BYTES {
            let (items, next) = (Vec::new(), None);
            return Ok(Page { items, next });
        }
        let limit = usize::try_from(query.limit.clamp(1, 500)).expect("500 fits");
        let mut statement = sqlx::query_as(concat!(
            select_tasks!(),
            "where task.workspace = $1
                and (task.created < $2 or (task.created = $2 and task.id < $3))
                and ($4 = '' or project.path = $4
                     or substr(project.path, 1, length($4) + 1) = $4 || '/')
                and lower(task.name) like $5 escape '\\'
                and state in ($7, $8, $9, $10, $11, $12, $13)
              order by task.created desc, task.id desc limit $6"
        ))
        .bind(workspace.as_str())
        .bind(after.0)
        .bind(after.1)
        .bind(query.project.as_deref().unwrap_or_default())
        .bind(containing(name))
        .bind(bigint(limit as u64 + 1));
        // A statement has a fixed number of places: as many as there are states.
        for state in TaskState::ALL {
            let wanted = query.state.is_empty() || query.state.contains(&state);
            statement = statement.bind(if wanted { state.as_str() } else { "" });
        }
        let rows: Vec<TaskRow> = statement
            .fetch_all(&self.reader)
            .await
            .map_err(|error| QueryError::Store(StoreError::database("list tasks")(error)))?;
        let more = rows.len() > limit;
        let items: Result<Vec<TaskView>, StoreError> =
            rows.into_iter().take(limit).map(TaskRow::view).collect();
        let items = items.map_err(QueryError::Store)?;
        let last = items.last().filter(|_| more);
        let next = last.map(|task| format!("{}.{}", task.created.as_millis(), task.id));
        Ok(Page { items, next })
    }

    /// The parameters of a task, by section and name.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn parameters(
        &self,
        workspace: &Workspace,
        id: &TaskId,
    ) -> Result<Vec<ParameterRow>, StoreError> {
        sqlx::query_as(
            "select section, name, type, value from parameter
              where workspace = $1 and task = $2 order by section, name",
        )
        .bind(workspace.as_str())
        .bind(id.as_str())
        .fetch_all(&self.reader)
        .await
        .map_err(StoreError::database("read parameters"))
    }
}

/// The id of the project at `path`, which is made with all its parents if it is not there.
async fn ensure_project(
    transaction: &mut Transaction<'static, Any>,
    workspace: &Workspace,
    path: &str,
    now: Timestamp,
) -> Result<String, sqlx::Error> {
    let parents = path.match_indices('/').map(|(end, _)| &path[..end]);
    for path in parents.chain([path]) {
        sqlx::query(
            "insert into project (workspace, id, path, created, last_update)
             values ($1, $2, $3, $4, $4) on conflict do nothing",
        )
        .bind(workspace.as_str())
        .bind(ProjectId::from_u128(fresh_id()).as_str())
        .bind(path)
        .bind(now.as_millis())
        .execute(&mut **transaction)
        .await?;
    }
    let (id,): (String,) =
        sqlx::query_as("select id from project where workspace = $1 and path = $2")
            .bind(workspace.as_str())
            .bind(path)
            .fetch_one(&mut **transaction)
            .await?;
    Ok(id)
}

/// Writes the tags by which `owner` is found: of a task, model, data set or project.
pub(crate) async fn write_tags(
    transaction: &mut Transaction<'static, Any>,
    workspace: &Workspace,
    kind: &'static str,
    owner: &str,
    tags: &[String],
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "delete from tag where workspace = $1 and kind = $2 and owner = $3 and is_system = 0",
    )
    .bind(workspace.as_str())
    .bind(kind)
    .bind(owner)
    .execute(&mut **transaction)
    .await?;
    for tag in tags {
        sqlx::query(
            "insert into tag (workspace, kind, is_system, tag, owner) values ($1, $2, 0, $3, $4)
             on conflict do nothing",
        )
        .bind(workspace.as_str())
        .bind(kind)
        .bind(tag)
        .bind(owner)
        .execute(&mut **transaction)
        .await?;
    }
    Ok(())
}

async fn insert_row(
    transaction: &mut Transaction<'static, Any>,
    workspace: &Workspace,
    task: &NewTask,
    project: &str,
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into task (workspace, id, project, name, encoded_name, type, creator, state,
                           state_reason, state_message, state_changed, comment, tags,
                           system_tags, action, params, settings, plugin_digest, plugin_name,
                           plugin_version, dataset, checkpoint, seed, limits, runtime, record,
                           progress, initial_iteration, last_iteration, created, queue, queued,
                           last_update, fence, attempts)
         select $1, $2, $3, $4, $5, $6, '', 'queued', '', '', $7, $8, $9, '[]', $10, $11, $12,
                $13, $14, $15, $16, $17, $18, $19, '{}', '{}', $20, 0, 0, $7, id, $7, $7, 0, 0
           from queue where workspace = $1 and name = $21",
    )
    .bind(workspace.as_str())
    .bind(task.id.as_str())
    .bind(project)
    .bind(&task.name)
    .bind(&task.encoded_name)
    .bind(task.task_type.as_str())
    .bind(now.as_millis())
    .bind(&task.comment)
    .bind(serde_json::json!(task.tags).to_string())
    .bind(task.action)
    .bind(serde_json::json!(task.params).to_string())
    .bind(serde_json::json!(task.settings).to_string())
    .bind(task.plugin.digest.to_string())
    .bind(&task.plugin.name)
    .bind(&task.plugin.version)
    .bind(bigint(task.dataset))
    .bind(task.checkpoint.map(bigint))
    .bind(task.seed.to_string())
    .bind(serde_json::json!(task.limits).to_string())
    .bind(serde_json::json!(Progress::default()).to_string())
    .bind(DEFAULT_QUEUE)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// A pattern for `like … escape '\'` that fits every lower-case text with `part` in it.
fn containing(part: &str) -> String {
    let mut pattern = String::from("%");
    for character in part.to_ascii_lowercase().chars() {
        if matches!(character, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern.push('%');
    pattern
}

/// Creation time and id of the last task of the page before.
fn parse_cursor(cursor: &str) -> Result<(i64, String), BadCursor> {
    let refusal = || BadCursor(cursor.chars().take(80).collect());
    let (created, id) = cursor.split_once('.').ok_or_else(refusal)?;
    let created = created.parse().map_err(|_| refusal())?;
    let id: TaskId = id.parse().map_err(|_| refusal())?;
    Ok((created, id.into()))
}

impl TaskRow {
    fn view(self) -> Result<TaskView, StoreError> {
        let action = "read a task";
        let unknown = |what: &str, name: &str| {
            StoreError::damaged(action)(format!("there is no {what} `{name}`"))
        };
        let status = TaskState::parse(&self.state).ok_or_else(|| unknown("state", &self.state))?;
        let task_type =
            TaskType::parse(&self.r#type).ok_or_else(|| unknown("type", &self.r#type))?;
        let phases: Progress =
            serde_json::from_str(&self.progress).map_err(StoreError::damaged(action))?;
        let completed_well = matches!(status, TaskState::Completed | TaskState::Published);
        Ok(TaskView {
            id: self.id.parse().map_err(StoreError::damaged(action))?,
            name: self.name,
            encoded_name: self.encoded_name,
            project: self.project,
            task_type,
            status,
            status_reason: self.state_reason,
            stopping: self.stop_requested.is_some() && !status.has_ended(),
            comment: self.comment,
            tags: serde_json::from_str(&self.tags).map_err(StoreError::damaged(action))?,
            action: self.action,
            params: serde_json::from_str(&self.params).map_err(StoreError::damaged(action))?,
            plugin: match self.plugin_digest {
                Some(digest) => Some(PluginSummary {
                    name: self.plugin_name.unwrap_or_default(),
                    version: self.plugin_version.unwrap_or_default(),
                    digest: digest.parse().map_err(StoreError::damaged(action))?,
                }),
                None => None,
            },
            dataset: self.dataset.map(unsigned),
            checkpoint: self.checkpoint.map(unsigned),
            seed: self
                .seed
                .map(|seed| seed.parse())
                .transpose()
                .map_err(StoreError::damaged(action))?,
            result: self
                .result
                .map(|result| serde_json::from_str(&result))
                .transpose()
                .map_err(StoreError::damaged(action))?,
            progress: if completed_well {
                100.0
            } else {
                phases.overall()
            },
            phases,
            last_iteration: unsigned(self.last_iteration),
            agent: self.agent,
            created: Timestamp(self.created),
            started: self.started.map(Timestamp),
            completed: self.ended.map(Timestamp),
            last_update: Timestamp(self.last_update),
        })
    }
}
