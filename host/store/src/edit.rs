//! Editing tasks: names, tags, scripts; archiving, moving, cloning.

use serde_json::{Map, Value, json};
use sqlx::{Any, Transaction};
use trainshed_core::draft::{ARCHIVED, CloneRequest, DEVELOPMENT, TaskEdit};
use trainshed_core::name::encode_job_name;
use trainshed_core::parameter::Parameter;
use trainshed_core::progress::Progress;
use trainshed_core::task::TaskState;
use trainshed_core::{TaskId, Timestamp};

use crate::batch::Batch;
use crate::change::{
    ChangeError, Found, change_error, check_unchanged, find, find_editable, touch,
};
use crate::database::Store;
use crate::error::StoreError;
use crate::file::bigint;
use crate::idempotency::note_made;
use crate::lifecycle::active_namesake;
use crate::parameter::write_parameters;
use crate::project::ensure_project;
use crate::tag::write_tags;
use crate::task::{NewWork, link_checkpoint};
use crate::workspace::Workspace;

impl Store {
    /// Edits a task; `work` is what `edit.action` was resolved to, with its parameters.
    /// `expected` is a header `If-Match`: the tag of what the caller has read.
    ///
    /// # Errors
    /// When its state does not allow the edit, or it is no longer what the caller has read.
    pub async fn edit_task(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        edit: &TaskEdit,
        work: Option<&(NewWork, Vec<Parameter>)>,
        expected: Option<&str>,
        now: Timestamp,
    ) -> Result<(), ChangeError> {
        let action = "edit a task";
        let mut transaction = self.begin(action).await?;
        let found = match edit.of_drafts() {
            Some(what) => {
                find_editable(&mut transaction, workspace, task, what, edit.force.into()).await?
            }
            None => find(&mut transaction, workspace, task).await?,
        };
        let state = found.state()?;
        if state == TaskState::Published && !edit.is_of_people() {
            return Err(ChangeError::NotEditable {
                task: task.clone(),
                state,
                what: "what is recorded".to_owned(),
            });
        }
        check_unchanged(&mut transaction, workspace, task, expected).await?;
        if let Some(Some(parent)) = &edit.parent {
            check_parent(&mut transaction, workspace, parent).await?;
            check_no_circle(&mut transaction, workspace, task, parent).await?;
        }
        if let Some(name) = &edit.name {
            rename(&mut transaction, workspace, task, &found, name).await?;
        }
        if edit.tags.is_some() || edit.system_tags.is_some() {
            let tags = edit.tags.clone().map_or_else(|| found.tags(), Ok)?;
            let system = edit.system_tags.clone();
            let system_tags = system.map_or_else(|| found.system_tags(), Ok)?;
            set_tags(&mut transaction, workspace, task, &tags, &system_tags).await?;
        }
        if let Some((work, parameters)) = work {
            set_work(&mut transaction, workspace, task, work, parameters).await?;
        }
        write_fields(&mut transaction, workspace, task, edit)
            .await
            .map_err(change_error(action))?;
        touch(&mut transaction, workspace, task, now).await?;
        transaction.commit().await.map_err(change_error(action))
    }

    /// Archives a task, or takes it out of the archive, whatever its state.
    ///
    /// # Errors
    /// When there is no such task.
    pub async fn archive_task(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        archived: bool,
        now: Timestamp,
    ) -> Result<(), ChangeError> {
        let action = "archive a task";
        let mut transaction = self.begin(action).await?;
        let found = find(&mut transaction, workspace, task).await?;
        let mut system_tags = found.system_tags()?;
        system_tags.retain(|tag| tag != ARCHIVED);
        if archived {
            system_tags.push(ARCHIVED.to_owned());
            system_tags.sort();
        }
        let tags = found.tags()?;
        set_tags(&mut transaction, workspace, task, &tags, &system_tags).await?;
        touch(&mut transaction, workspace, task, now).await?;
        note_made(&mut transaction, || format!("/api/v1/tasks/{task}"))
            .await
            .map_err(change_error(action))?;
        transaction.commit().await.map_err(change_error(action))
    }

    /// Moves a task to the project at `path`, which is made if it is not there, whatever the
    /// task's state.
    ///
    /// # Errors
    /// When there is no such task.
    pub async fn move_to_project(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        path: &str,
        now: Timestamp,
    ) -> Result<(), ChangeError> {
        let action = "move a task";
        let mut transaction = self.begin(action).await?;
        find(&mut transaction, workspace, task).await?;
        let project = ensure_project(&mut transaction, workspace, path, now)
            .await
            .map_err(change_error(action))?;
        sqlx::query(
            "update task set project = $1, last_update = $2 where workspace = $3 and id = $4",
        )
        .bind(project)
        .bind(now.as_millis())
        .bind(workspace.as_str())
        .bind(task.as_str())
        .execute(&mut *transaction)
        .await
        .map_err(change_error(action))?;
        note_made(&mut transaction, || format!("/api/v1/tasks/{task}"))
            .await
            .map_err(change_error(action))?;
        transaction.commit().await.map_err(change_error(action))
    }

    /// Notes how far a task has come, in percent; it is kept until a reset.
    ///
    /// # Errors
    /// When there is no such task, or it is published.
    pub async fn set_progress(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        percent: f64,
        now: Timestamp,
    ) -> Result<(), ChangeError> {
        let action = "note the progress of a task";
        let mut transaction = self.begin(action).await?;
        let found = find(&mut transaction, workspace, task).await?;
        let state = found.state()?;
        if state == TaskState::Published {
            return Err(ChangeError::NotEditable {
                task: task.clone(),
                state,
                what: "the progress".to_owned(),
            });
        }
        let (runtime,): (String,) =
            sqlx::query_as("select runtime from task where workspace = $1 and id = $2")
                .bind(workspace.as_str())
                .bind(task.as_str())
                .fetch_one(&mut *transaction)
                .await
                .map_err(change_error(action))?;
        let mut runtime: Map<String, Value> =
            serde_json::from_str(&runtime).map_err(StoreError::damaged(action))?;
        runtime.insert("progress".to_owned(), json!(percent));
        sqlx::query("update task set runtime = $1 where workspace = $2 and id = $3")
            .bind(Value::Object(runtime).to_string())
            .bind(workspace.as_str())
            .bind(task.as_str())
            .execute(&mut *transaction)
            .await
            .map_err(change_error(action))?;
        touch(&mut transaction, workspace, task, now).await?;
        transaction.commit().await.map_err(change_error(action))
    }

    /// Makes a draft that is like the task `original`, whatever its state: with its script,
    /// container, action, parameters, configuration, and what it reads; without what its run
    /// reported and made. `request.name` is given.
    ///
    /// # Errors
    /// When there is no such task or parent.
    pub async fn clone_task(
        &self,
        workspace: &Workspace,
        original: &TaskId,
        clone: &TaskId,
        name: &str,
        request: &CloneRequest,
        now: Timestamp,
    ) -> Result<(), ChangeError> {
        let action = "clone a task";
        let mut transaction = self.begin(action).await?;
        let originals = (original, clone);
        clone_within(&mut transaction, workspace, originals, name, request, now).await?;
        note_made(&mut transaction, || format!("/api/v1/tasks/{clone}"))
            .await
            .map_err(change_error(action))?;
        transaction.commit().await.map_err(change_error(action))
    }
}

/// See [`Store::clone_task`]; `original` becomes `clone`.
pub(crate) async fn clone_within(
    transaction: &mut Transaction<'static, Any>,
    workspace: &Workspace,
    (original, clone): (&TaskId, &TaskId),
    name: &str,
    request: &CloneRequest,
    now: Timestamp,
) -> Result<(), ChangeError> {
    let action = "clone a task";
    let found = find(transaction, workspace, original).await?;
    let parent = request.parent.as_ref().unwrap_or(original);
    check_parent(transaction, workspace, parent).await?;
    let project = match &request.project {
        Some(path) => Some(
            ensure_project(transaction, workspace, path, now)
                .await
                .map_err(change_error(action))?,
        ),
        None => None,
    };
    let tags = request.tags.clone().map_or_else(|| found.tags(), Ok)?;
    let mut system_tags = found.system_tags()?;
    system_tags.retain(|tag| tag != ARCHIVED && tag != DEVELOPMENT);
    sqlx::query(
        "insert into task (workspace, id, project, name, encoded_name, type, parent, creator,
                           state, state_reason, state_message, state_changed, comment, tags,
                           system_tags, action, params, settings, plugin_digest, plugin_name,
                           plugin_version, dataset, checkpoint, seed, limits, script,
                           container, runtime, record, output_destination, progress,
                           initial_iteration, last_iteration, created, last_update, fence,
                           attempts)
         select workspace, $1, coalesce($2, project), $3, $4, type, $5, creator, 'created', '',
                '', $6, coalesce($7, comment), '[]', '[]', action, params, settings,
                plugin_digest, plugin_name, plugin_version, dataset, checkpoint, seed, limits,
                script, container, '{}', '{}', output_destination, $8, 0, 0, $6, $6, 0, 0
           from task where workspace = $9 and id = $10",
    )
    .bind(clone.as_str())
    .bind(project)
    .bind(name)
    .bind(encode_job_name(name))
    .bind(parent.as_str())
    .bind(now.as_millis())
    .bind(request.comment.as_deref())
    .bind(json!(Progress::default()).to_string())
    .bind(workspace.as_str())
    .bind(original.as_str())
    .execute(&mut **transaction)
    .await
    .map_err(change_error(action))?;
    set_tags(transaction, workspace, clone, &tags, &system_tags).await?;
    set_params_name(transaction, workspace, clone, name).await?;
    for statement in COPIES {
        sqlx::query(statement)
            .bind(clone.as_str())
            .bind(workspace.as_str())
            .bind(original.as_str())
            .execute(&mut **transaction)
            .await
            .map_err(change_error(action))?;
    }
    set_name_parameter(transaction, workspace, clone, name).await?;
    Ok(())
}

/// What a clone has of its original beside its row.
const COPIES: [&str; 4] = [
    "insert into parameter (workspace, task, section, name, type, value, description)
     select workspace, $1, section, name, type, value, description
       from parameter where workspace = $2 and task = $3",
    "insert into configuration (workspace, task, name, type, description, content, last_update)
     select workspace, $1, name, type, description, content, last_update
       from configuration where workspace = $2 and task = $3",
    "insert into artifact (workspace, task, name, mode, version, type, sha256, uri, size_bytes,
                           content_type, preview, display, created, replaced)
     select workspace, $1, name, mode, version, type, sha256, uri, size_bytes, content_type,
            preview, display, created, replaced
       from artifact where workspace = $2 and task = $3 and mode = 'input'",
    "insert into task_model (workspace, task, role, name, model, position)
     select workspace, $1, role, name, model, position
       from task_model where workspace = $2 and task = $3 and role = 'input'",
];

type Tx = Transaction<'static, Any>;

async fn check_parent(
    transaction: &mut Tx,
    workspace: &Workspace,
    parent: &TaskId,
) -> Result<(), ChangeError> {
    match find(transaction, workspace, parent).await {
        Err(ChangeError::UnknownTask(parent)) => Err(ChangeError::UnknownParent(parent)),
        found => found.map(|_| ()),
    }
}

/// Refuses a parent that came from the task, or is the task.
async fn check_no_circle(
    transaction: &mut Tx,
    workspace: &Workspace,
    task: &TaskId,
    parent: &TaskId,
) -> Result<(), ChangeError> {
    // `union` ends it where there is a circle already.
    let (circles,): (i64,) = sqlx::query_as(
        "with recursive above (id) as (
             select id from task where workspace = $1 and id = $2
              union
             select task.parent from above
               join task on task.workspace = $1 and task.id = above.id
              where task.parent is not null)
         select count(*) from above where id = $3",
    )
    .bind(workspace.as_str())
    .bind(parent.as_str())
    .bind(task.as_str())
    .fetch_one(&mut **transaction)
    .await
    .map_err(change_error("look the parents of a task up"))?;
    match circles {
        0 => Ok(()),
        _ => Err(ChangeError::CircularParent {
            task: task.clone(),
            parent: parent.clone(),
        }),
    }
}

/// Gives a task another name; one that waits or runs keeps away from the names of others.
async fn rename(
    transaction: &mut Tx,
    workspace: &Workspace,
    task: &TaskId,
    found: &Found,
    name: &str,
) -> Result<(), ChangeError> {
    let encoded = encode_job_name(name);
    let active = matches!(found.state()?, TaskState::Queued | TaskState::InProgress);
    if active && !found.action.is_empty() {
        let other = active_namesake(transaction, workspace, &encoded).await?;
        if let Some((other, state)) = other.filter(|(other, _)| other != task) {
            return Err(ChangeError::NameTaken {
                name: name.to_owned(),
                task: other,
                state,
            });
        }
    }
    sqlx::query("update task set name = $1, encoded_name = $2 where workspace = $3 and id = $4")
        .bind(name)
        .bind(encoded)
        .bind(workspace.as_str())
        .bind(task.as_str())
        .execute(&mut **transaction)
        .await
        .map_err(change_error("rename a task"))?;
    set_params_name(transaction, workspace, task, name).await?;
    set_name_parameter(transaction, workspace, task, name).await
}

/// Keeps the name in an action's `params` that of its task.
async fn set_params_name(
    transaction: &mut Tx,
    workspace: &Workspace,
    task: &TaskId,
    name: &str,
) -> Result<(), ChangeError> {
    let action = "rename a task";
    let (work, params): (String, String) =
        sqlx::query_as("select action, params from task where workspace = $1 and id = $2")
            .bind(workspace.as_str())
            .bind(task.as_str())
            .fetch_one(&mut **transaction)
            .await
            .map_err(change_error(action))?;
    if work.is_empty() {
        return Ok(());
    }
    let mut params: Map<String, Value> =
        serde_json::from_str(&params).map_err(StoreError::damaged(action))?;
    params.insert("name".to_owned(), json!(name));
    sqlx::query("update task set params = $1 where workspace = $2 and id = $3")
        .bind(Value::Object(params).to_string())
        .bind(workspace.as_str())
        .bind(task.as_str())
        .execute(&mut **transaction)
        .await
        .map_err(change_error(action))?;
    Ok(())
}

/// Keeps the parameter that repeats the name of an action that of its task.
async fn set_name_parameter(
    transaction: &mut Tx,
    workspace: &Workspace,
    task: &TaskId,
    name: &str,
) -> Result<(), ChangeError> {
    sqlx::query(
        "update parameter set value = $1
          where workspace = $2 and task = $3 and section = 'Args' and name = 'name'
            and exists (select 1 from task where task.workspace = parameter.workspace
                           and task.id = parameter.task and task.action <> '')",
    )
    .bind(name)
    .bind(workspace.as_str())
    .bind(task.as_str())
    .execute(&mut **transaction)
    .await
    .map_err(change_error("rename a task"))?;
    Ok(())
}

async fn set_tags(
    transaction: &mut Tx,
    workspace: &Workspace,
    task: &TaskId,
    tags: &[String],
    system_tags: &[String],
) -> Result<(), ChangeError> {
    let action = "tag a task";
    sqlx::query("update task set tags = $1, system_tags = $2 where workspace = $3 and id = $4")
        .bind(json!(tags).to_string())
        .bind(json!(system_tags).to_string())
        .bind(workspace.as_str())
        .bind(task.as_str())
        .execute(&mut **transaction)
        .await
        .map_err(change_error(action))?;
    let owner = task.as_str();
    let written = write_tags(transaction, workspace, "task", owner, (tags, system_tags));
    written.await.map_err(change_error(action))
}

/// Gives a task another action, with the parameters that it has.
pub(crate) async fn set_work(
    transaction: &mut Tx,
    workspace: &Workspace,
    task: &TaskId,
    work: &NewWork,
    parameters: &[Parameter],
) -> Result<(), ChangeError> {
    let action = "change the action of a task";
    sqlx::query(
        "update task
            set action = $1, params = $2, settings = $3, plugin_digest = $4, plugin_name = $5,
                plugin_version = $6, dataset = $7, checkpoint = $8, seed = $9, limits = $10,
                initial_iteration = $11
          where workspace = $12 and id = $13",
    )
    .bind(work.action)
    .bind(json!(work.params).to_string())
    .bind(json!(work.settings).to_string())
    .bind(work.plugin.digest.to_string())
    .bind(&work.plugin.name)
    .bind(&work.plugin.version)
    .bind(bigint(work.dataset))
    .bind(work.checkpoint.map(bigint))
    .bind(work.seed.to_string())
    .bind(json!(work.limits).to_string())
    .bind(bigint(work.initial_iteration))
    .bind(workspace.as_str())
    .bind(task.as_str())
    .execute(&mut **transaction)
    .await
    .map_err(change_error(action))?;
    sqlx::query(
        "delete from parameter
          where workspace = $1 and task = $2 and section in ('General', 'Args')",
    )
    .bind(workspace.as_str())
    .bind(task.as_str())
    .execute(&mut **transaction)
    .await
    .map_err(change_error(action))?;
    let mut batch = Batch::default();
    write_parameters(&mut batch, workspace, task, parameters);
    link_checkpoint(&mut batch, workspace, task, work.checkpoint);
    let written = batch.run(transaction).await;
    written.map(|_| ()).map_err(change_error(action))
}

/// Writes those fields of an edit that are columns and nothing else.
async fn write_fields(
    transaction: &mut Tx,
    workspace: &Workspace,
    task: &TaskId,
    edit: &TaskEdit,
) -> Result<(), sqlx::Error> {
    let nullable = |value: Option<Value>| value.map(|value| value.to_string());
    let script = edit.script.as_ref().map(|script| script.as_ref());
    let container = edit.container.as_ref().map(|container| container.as_ref());
    let columns = [
        (
            "update task set comment = $1 where workspace = $2 and id = $3",
            edit.comment.clone().map(Some),
        ),
        (
            "update task set type = $1 where workspace = $2 and id = $3",
            edit.task_type.map(|kind| Some(kind.as_str().to_owned())),
        ),
        (
            "update task set parent = $1 where workspace = $2 and id = $3",
            edit.parent
                .clone()
                .map(|parent| parent.map(|parent| parent.as_str().to_owned())),
        ),
        (
            "update task set script = $1 where workspace = $2 and id = $3",
            script.map(|script| nullable(script.map(|script| json!(script)))),
        ),
        (
            "update task set container = $1 where workspace = $2 and id = $3",
            container.map(|container| nullable(container.map(|container| json!(container)))),
        ),
        (
            "update task set output_destination = $1 where workspace = $2 and id = $3",
            edit.output_destination.clone(),
        ),
        (
            "update task set runtime = $1 where workspace = $2 and id = $3",
            edit.runtime
                .clone()
                .map(|runtime| Some(Value::Object(runtime).to_string())),
        ),
    ];
    for (statement, value) in columns {
        let Some(value) = value else { continue };
        sqlx::query(statement)
            .bind(value)
            .bind(workspace.as_str())
            .bind(task.as_str())
            .execute(&mut **transaction)
            .await?;
    }
    Ok(())
}
