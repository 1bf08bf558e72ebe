//! Tasks: inserting, reading, listing.

use std::collections::HashMap;

use serde_json::{Map, Value};
use sqlx::{Any, AnyConnection, Transaction};
use trainshed_core::draft::{Container, Script};
use trainshed_core::limits::LimitRequest;
use trainshed_core::name::MAX_NAME_BYTES;
use trainshed_core::parameter::Parameter;
use trainshed_core::progress::Progress;
use trainshed_core::task::{TaskState, TaskType};
use trainshed_core::view::{ModelLink, Page, PluginSummary, TaskModels, TaskQuery, TaskView};
use trainshed_core::{AgentId, TaskId, Timestamp};

use crate::batch::Batch;
use crate::configuration::{NewConfiguration, write_configuration};
use crate::database::{Kind, Store};
use crate::error::StoreError;
use crate::file::{bigint, unsigned};
use crate::idempotency::note_made;
use crate::lifecycle::active_namesake;
use crate::parameter::write_parameters;
use crate::project::ensure_project;
use crate::tag::insert_tags;
use crate::workspace::{DEFAULT_QUEUE, Workspace};

/// A task to be inserted.
#[derive(Debug, Clone, PartialEq)]
pub struct NewTask {
    /// Fresh.
    pub id: TaskId,
    /// Path of the project; it and its parents are made on the fly.
    pub project: String,
    /// As submitted.
    pub name: String,
    /// Of tasks that agents run, no other that waits or runs has it.
    pub encoded_name: String,
    /// What kind of work it is.
    pub task_type: TaskType,
    /// For people.
    pub comment: String,
    /// Ordered.
    pub tags: Vec<String>,
    /// Ordered.
    pub system_tags: Vec<String>,
    /// The task it came from.
    pub parent: Option<TaskId>,
    /// Who makes it.
    pub creator: String,
    /// The program, of a task that no plugin runs.
    pub script: Option<Script>,
    /// The image in which it runs.
    pub container: Option<Container>,
    /// Where its files go.
    pub output_destination: Option<String>,
    /// What an agent is to run.
    pub work: Option<NewWork>,
    /// Its parameters.
    pub parameters: Vec<Parameter>,
    /// Its configuration objects.
    pub configuration: Vec<NewConfiguration>,
    /// Whether it waits for an agent at once; otherwise it is a draft.
    pub queued: bool,
}

/// What an agent is to run: a plugin on a data set.
#[derive(Debug, Clone, PartialEq)]
pub struct NewWork {
    /// `train`, `tune` or `preprocess`.
    pub action: &'static str,
    /// The action's `params`, unchanged.
    pub params: Map<String, Value>,
    /// The settings of the action itself: `hyperparameter` or `parameters`.
    pub settings: Map<String, Value>,
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
    /// Added to every iteration that the run reports.
    pub initial_iteration: u64,
}

/// A run that begins with its task.
#[derive(Debug)]
pub(crate) struct NewRun<'a> {
    /// Who runs it.
    pub(crate) agent: &'a AgentId,
    /// When the lease ends.
    pub(crate) lease_until: Timestamp,
    /// What it is made of, as JSON.
    pub(crate) record: String,
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
/// The models come as one text: fields with U+001F between them, models with U+001E; names have
/// no control characters.
macro_rules! select_tasks {
    () => {
        "select task.id, task.name, encoded_name, project.path as project, type, state,
                state_reason, state_message, state_changed, comment, task.tags,
                task.system_tags, task.parent, task.creator, action, params, script, container,
                runtime, record, output_destination, plugin_digest, plugin_name,
                plugin_version, dataset, checkpoint, seed, result, progress, initial_iteration,
                last_iteration, task.created, queue.name as queue, started, ended, published,
                task.last_update, stop_requested, agent.name as agent,
                (select string_agg(role || '\u{1f}' || name || '\u{1f}' || model, '\u{1e}'
                                   order by role, position, name)
                   from task_model where task_model.workspace = task.workspace
                    and task_model.task = task.id) as models
           from task
           join project on project.workspace = task.workspace and project.id = task.project
           left join queue on queue.workspace = task.workspace and queue.id = task.queue
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
    state_message: String,
    state_changed: i64,
    comment: String,
    tags: String,
    system_tags: String,
    parent: Option<String>,
    creator: String,
    action: String,
    params: String,
    script: Option<String>,
    container: Option<String>,
    runtime: String,
    record: String,
    output_destination: Option<String>,
    plugin_digest: Option<String>,
    plugin_name: Option<String>,
    plugin_version: Option<String>,
    dataset: Option<i64>,
    checkpoint: Option<i64>,
    seed: Option<String>,
    result: Option<String>,
    progress: String,
    initial_iteration: i64,
    last_iteration: i64,
    created: i64,
    queue: Option<String>,
    started: Option<i64>,
    ended: Option<i64>,
    published: Option<i64>,
    last_update: i64,
    stop_requested: Option<i64>,
    agent: Option<String>,
    models: Option<String>,
}

impl Store {
    /// Inserts a task with its project, parameters, configuration and tags.
    ///
    /// # Errors
    /// When it is to wait, and a waiting or running task has the same encoded name.
    pub async fn insert_task(
        &self,
        workspace: &Workspace,
        task: &NewTask,
        now: Timestamp,
    ) -> Result<(), InsertTaskError> {
        let failed = |error| InsertTaskError::Store(StoreError::database("record a task")(error));
        let begun = self.begin("record a task").await;
        let mut transaction = begun.map_err(InsertTaskError::Store)?;
        if task.queued {
            let other = active_namesake(&mut transaction, workspace, &task.encoded_name);
            if let Some((other, state)) = other.await.map_err(InsertTaskError::Store)? {
                return Err(InsertTaskError::NameTaken {
                    name: task.name.clone(),
                    task: other,
                    state,
                });
            }
        }
        insert_parts(&mut transaction, workspace, task, now)
            .await
            .map_err(failed)?;
        note_made(&mut transaction, || format!("/api/v1/tasks/{}", task.id))
            .await
            .map_err(failed)?;
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
        let action = "read a task";
        let connection = self.reader.acquire().await;
        let mut connection = connection.map_err(StoreError::database(action))?;
        read_task(&mut connection, workspace, id).await
    }

    /// The task that was last changed of those called `name` in the project at the path
    /// `project`; one that is not archived comes first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn task_named(
        &self,
        workspace: &Workspace,
        project: &str,
        name: &str,
    ) -> Result<Option<TaskView>, StoreError> {
        let row: Option<TaskRow> = sqlx::query_as(concat!(
            select_tasks!(),
            " where task.workspace = $1 and task.name = $2 and project.path = $3
              order by case when exists (select 1 from tag
                                          where tag.workspace = task.workspace
                                            and tag.kind = 'task' and tag.is_system = 1
                                            and tag.tag = 'archived' and tag.owner = task.id)
                            then 1 else 0 end,
                       task.last_update desc, task.id desc limit 1"
        ))
        .bind(workspace.as_str())
        .bind(name)
        .bind(project)
        .fetch_optional(&self.reader)
        .await
        .map_err(StoreError::database("look a task up"))?;
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
                and ($14 = 1 or not exists (select 1 from trial
                                             where trial.workspace = task.workspace
                                               and trial.task = task.id))
                and ($15 = 1 or not exists (
                     select 1 from tag
                      where tag.workspace = task.workspace and tag.kind = 'task'
                        and tag.is_system = 1 and tag.tag = 'archived'
                        and tag.owner = task.id))
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
        statement = statement.bind(i64::from(query.trials));
        statement = statement.bind(i64::from(query.archived));
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
}

/// A task, as the transaction or connection sees it.
pub(crate) async fn read_task(
    connection: &mut AnyConnection,
    workspace: &Workspace,
    id: &TaskId,
) -> Result<Option<TaskView>, StoreError> {
    let row: Option<TaskRow> = sqlx::query_as(concat!(
        select_tasks!(),
        " where task.workspace = $1 and task.id = $2"
    ))
    .bind(workspace.as_str())
    .bind(id.as_str())
    .fetch_optional(connection)
    .await
    .map_err(StoreError::database("read a task"))?;
    row.map(TaskRow::view).transpose()
}

/// Writes everything of a task whose id is not in use.
pub(crate) async fn insert_parts(
    transaction: &mut Transaction<'static, Any>,
    workspace: &Workspace,
    task: &NewTask,
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    let project = ensure_project(transaction, workspace, &task.project, now).await?;
    let mut batch = Batch::default();
    insert_into(&mut batch, workspace, task, (&project, None), now);
    batch.run(transaction).await?;
    Ok(())
}

/// Writes everything of a task whose id is not in use into the project with the id `project`;
/// with `run`, an agent runs it from now on.
pub(crate) fn insert_into(
    batch: &mut Batch,
    workspace: &Workspace,
    task: &NewTask,
    (project, run): (&str, Option<&NewRun<'_>>),
    now: Timestamp,
) {
    insert_row(batch, workspace, task, (project, run), now);
    let (tags, system_tags) = (&task.tags, &task.system_tags);
    let owner = task.id.as_str();
    insert_tags(batch, workspace, "task", owner, (tags, system_tags));
    let checkpoint = task.work.as_ref().and_then(|work| work.checkpoint);
    insert_checkpoint(batch, workspace, &task.id, checkpoint);
    write_parameters(batch, workspace, &task.id, &task.parameters);
    for configuration in &task.configuration {
        write_configuration(batch, workspace, &task.id, configuration, now);
    }
}

/// Lists the model that a task goes on from as what it reads.
pub(crate) fn link_checkpoint(
    batch: &mut Batch,
    workspace: &Workspace,
    task: &TaskId,
    checkpoint: Option<u64>,
) {
    let delete = sqlx::query(
        "delete from task_model
          where workspace = $1 and task = $2 and role = 'input' and name = 'checkpoint'",
    );
    batch.add(delete.bind(workspace.as_str()).bind(task.as_str()));
    insert_checkpoint(batch, workspace, task, checkpoint);
}

fn insert_checkpoint(
    batch: &mut Batch,
    workspace: &Workspace,
    task: &TaskId,
    checkpoint: Option<u64>,
) {
    let Some(checkpoint) = checkpoint else {
        return;
    };
    let insert = sqlx::query(
        "insert into task_model (workspace, task, role, name, model, position)
         values ($1, $2, 'input', 'checkpoint', $3, 0)",
    );
    batch.add(
        insert
            .bind(workspace.as_str())
            .bind(task.as_str())
            .bind(bigint(checkpoint)),
    );
}

fn insert_row(
    batch: &mut Batch,
    workspace: &Workspace,
    task: &NewTask,
    (project, run): (&str, Option<&NewRun<'_>>),
    now: Timestamp,
) {
    let work = task.work.as_ref();
    let state = match run {
        Some(_) => TaskState::InProgress,
        None if task.queued => TaskState::Queued,
        None => TaskState::Created,
    };
    let json = |value: serde_json::Value| value.to_string();
    let none = LimitRequest::default();
    let insert = sqlx::query(
        "insert into task (workspace, id, project, name, encoded_name, type, parent, creator,
                           state, state_reason, state_message, state_changed, comment, tags,
                           system_tags, action, params, settings, plugin_digest, plugin_name,
                           plugin_version, dataset, checkpoint, seed, limits, script, container,
                           runtime, record, output_destination, progress, initial_iteration,
                           last_iteration, created, queue, queued, last_update, fence, attempts,
                           agent, lease_until, started)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, '', '', $10, $11, $12, $13, $14, $15, $16,
                 $17, $18, $19, $20, $21, $22, $23, $24, $25, '{}', $31, $26, $27, $30, 0, $10,
                 (select id from queue where workspace = $1 and name = $28), $29, $10, $32, $32,
                 $33, $34, $35)",
    )
    .bind(workspace.as_str())
    .bind(task.id.as_str())
    .bind(project)
    .bind(&task.name)
    .bind(&task.encoded_name)
    .bind(task.task_type.as_str())
    .bind(task.parent.as_ref().map(TaskId::as_str))
    .bind(&task.creator)
    .bind(state.as_str())
    .bind(now.as_millis())
    .bind(&task.comment)
    .bind(json(serde_json::json!(task.tags)))
    .bind(json(serde_json::json!(task.system_tags)))
    .bind(work.map_or("", |work| work.action))
    .bind(work.map_or_else(|| "{}".into(), |work| json(serde_json::json!(work.params))))
    .bind(work.map_or_else(
        || "{}".into(),
        |work| json(serde_json::json!(work.settings)),
    ))
    .bind(work.map(|work| work.plugin.digest.to_string()))
    .bind(work.map(|work| work.plugin.name.clone()))
    .bind(work.map(|work| work.plugin.version.clone()))
    .bind(work.map(|work| bigint(work.dataset)))
    .bind(work.and_then(|work| work.checkpoint).map(bigint))
    .bind(work.map(|work| work.seed.to_string()))
    .bind(json(serde_json::json!(
        work.map_or(&none, |work| &work.limits)
    )))
    .bind(
        task.script
            .as_ref()
            .map(|script| json(serde_json::json!(script))),
    )
    .bind(
        task.container
            .as_ref()
            .map(|container| json(serde_json::json!(container))),
    )
    .bind(task.output_destination.as_deref())
    .bind(json(serde_json::json!(Progress::default())))
    .bind(if task.queued { DEFAULT_QUEUE } else { "" })
    .bind(task.queued.then_some(now.as_millis()))
    .bind(work.map_or(0, |work| bigint(work.initial_iteration)))
    .bind(run.map_or("{}", |run| run.record.as_str()))
    .bind(i64::from(run.is_some()))
    .bind(run.map(|run| run.agent.as_str()))
    .bind(run.map(|run| run.lease_until.as_millis()))
    .bind(run.map(|_| now.as_millis()));
    batch.add(insert);
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

/// The progress that a program told, as a number or, as clients of the ClearML protocol do, as
/// a text.
fn percent(told: &Value) -> Option<f64> {
    let percent = told
        .as_f64()
        .or_else(|| told.as_str().and_then(|told| told.parse().ok()))?;
    (0.0..=100.0).contains(&percent).then_some(percent)
}

/// The models of a task out of the text that [`select_tasks`] makes of them.
fn parse_models(text: &str) -> Option<TaskModels> {
    let mut models = TaskModels::default();
    for row in text.split('\u{1e}').filter(|row| !row.is_empty()) {
        let (role, rest) = row.split_once('\u{1f}')?;
        let (name, model) = rest.rsplit_once('\u{1f}')?;
        let link = ModelLink {
            name: name.to_owned(),
            model: model.parse().ok()?,
        };
        match role {
            "input" => models.input.push(link),
            _ => models.output.push(link),
        }
    }
    Some(models)
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
        let runtime: Map<String, Value> =
            serde_json::from_str(&self.runtime).map_err(StoreError::damaged(action))?;
        let told = runtime.get("progress").and_then(percent);
        let models = parse_models(self.models.as_deref().unwrap_or_default())
            .ok_or_else(|| StoreError::damaged(action)("its models cannot be read"))?;
        Ok(TaskView {
            id: self.id.parse().map_err(StoreError::damaged(action))?,
            name: self.name,
            encoded_name: self.encoded_name,
            project: self.project,
            task_type,
            status,
            status_reason: self.state_reason,
            status_message: self.state_message,
            status_changed: Timestamp(self.state_changed),
            stopping: self.stop_requested.is_some() && !status.has_ended(),
            comment: self.comment,
            tags: serde_json::from_str(&self.tags).map_err(StoreError::damaged(action))?,
            system_tags: serde_json::from_str(&self.system_tags)
                .map_err(StoreError::damaged(action))?,
            parent: self
                .parent
                .map(|parent| parent.parse())
                .transpose()
                .map_err(StoreError::damaged(action))?,
            creator: self.creator,
            action: self.action,
            params: serde_json::from_str(&self.params).map_err(StoreError::damaged(action))?,
            script: self
                .script
                .map(|script| serde_json::from_str(&script))
                .transpose()
                .map_err(StoreError::damaged(action))?,
            container: self
                .container
                .map(|container| serde_json::from_str(&container))
                .transpose()
                .map_err(StoreError::damaged(action))?,
            runtime,
            run: serde_json::from_str(&self.record).map_err(StoreError::damaged(action))?,
            output_destination: self.output_destination,
            models,
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
                told.unwrap_or_else(|| phases.overall())
            },
            phases,
            initial_iteration: unsigned(self.initial_iteration),
            last_iteration: unsigned(self.last_iteration),
            queue: self.queue,
            agent: self.agent,
            created: Timestamp(self.created),
            started: self.started.map(Timestamp),
            completed: self.ended.map(Timestamp),
            published: self.published.map(Timestamp),
            last_update: Timestamp(self.last_update),
        })
    }
}
