//! The registry of models: registering, changing, publishing, deleting, and who made what of
//! which.

use sqlx::{Any, Transaction};
use trainshed_core::model::{ModelEdit, ModelRole, Registration};
use trainshed_core::view::{LineageView, MetadataItem, ModelUse, ModelUses};
use trainshed_core::{TaskId, Timestamp};

use crate::change::is_as_read;
use crate::database::{Store, fresh_id};
use crate::error::StoreError;
use crate::file::{bigint, unsigned};
use crate::idempotency::note_made;
use crate::workspace::Workspace;

/// The system tag of what is hidden until it is asked for.
const ARCHIVED: &str = "archived";
/// Most models and tasks of one lineage.
const MAX_LINEAGE: usize = 1000;

/// Why the registry was not changed.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// There is no such model.
    #[error("there is no model {0}")]
    Unknown(u64),
    /// There is no such task.
    #[error("there is no task {0}")]
    UnknownTask(TaskId),
    /// The file was not uploaded.
    #[error("the file {0} has not been uploaded")]
    MissingFile(String),
    /// It is published.
    #[error("model {0} is published and read-only")]
    Published(u64),
    /// Somebody else changed it since the caller read it.
    #[error("model {0} is not what `If-Match` says: it was changed since")]
    ChangedSince(u64),
    /// Somebody needs it.
    #[error("model {model} is in use: {by}")]
    InUse {
        /// Which one.
        model: u64,
        /// By whom.
        by: String,
    },
    /// The task that made it runs.
    #[error("model {0} is of a task that runs: it is published when the task has ended")]
    TaskRuns(u64),
    /// A task that is no draft.
    #[error("task {task} is {state}: input models are those of a draft, `created`")]
    NoDraft {
        /// Which one.
        task: TaskId,
        /// Where it stands.
        state: String,
    },
    /// A task has no input model of that name.
    #[error("task {task} has no input model `{name}`")]
    NoInput {
        /// Which one.
        task: TaskId,
        /// As asked for.
        name: String,
    },
    /// The store failed.
    #[error("the model could not be changed")]
    Store(#[from] StoreError),
}

impl ModelError {
    /// What the user can do about it, in one sentence.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::InUse { .. } => Some("With `force` it is deleted all the same.".into()),
            Self::Published(_) => {
                Some("Only archiving, or deleting with `force`, changes it.".into())
            }
            Self::Unknown(_) => Some("`trainshed model ls` lists them.".into()),
            Self::Store(error) => error.hint(),
            _ => None,
        }
    }
}

fn failed(action: &'static str) -> impl FnOnce(sqlx::Error) -> ModelError {
    move |error| ModelError::Store(StoreError::database(action)(error))
}

impl Store {
    /// Registers a model, as an output of its task if it has one; returns its id.
    ///
    /// # Errors
    /// When its file, task or parent is not there.
    pub async fn register_model(
        &self,
        workspace: &Workspace,
        new: &Registration,
        now: Timestamp,
    ) -> Result<u64, ModelError> {
        let action = "register a model";
        let mut transaction = self.begin(action).await?;
        let project = match &new.task {
            Some(task) => {
                let found: Option<(String, String)> = sqlx::query_as(
                    "select project, state from task where workspace = $1 and id = $2",
                )
                .bind(workspace.as_str())
                .bind(task.as_str())
                .fetch_optional(&mut *transaction)
                .await
                .map_err(failed(action))?;
                let (project, state) =
                    found.ok_or_else(|| ModelError::UnknownTask(task.clone()))?;
                if state == "published" {
                    let (task, state) = (task.clone(), state);
                    return Err(ModelError::NoDraft { task, state });
                }
                Some(project)
            }
            None => None,
        };
        if let Some(parent) = new.parent {
            visible(&mut transaction, workspace, parent).await?;
        }
        let size: i64 = match &new.sha256 {
            Some(digest) => {
                let found: Option<(i64,)> = sqlx::query_as(
                    "select size_bytes from file where workspace = $1 and sha256 = $2",
                )
                .bind(workspace.as_str())
                .bind(digest.to_string())
                .fetch_optional(&mut *transaction)
                .await
                .map_err(failed(action))?;
                let missing = || ModelError::MissingFile(digest.to_string());
                found.ok_or_else(missing)?.0
            }
            None => 0,
        };
        let (id,): (i64,) = sqlx::query_as(
            "insert into model (workspace, uuid, task, slot, project, creator, name, comment,
                                parent, iteration, sha256, uri, size_bytes, framework, design,
                                labels, tags, system_tags, state, created, last_update)
             values ($1, $2, $3, null, $4, '', $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15,
                     '[]', 'visible', $16, $16)
          returning id",
        )
        .bind(workspace.as_str())
        .bind(format!("{:032x}", fresh_id()))
        .bind(new.task.as_ref().map(TaskId::as_str))
        .bind(project)
        .bind(&new.name)
        .bind(&new.comment)
        .bind(new.parent.map(bigint))
        .bind(bigint(new.iteration))
        .bind(new.sha256.map(|digest| digest.to_string()))
        .bind(new.uri.as_deref())
        .bind(size)
        .bind(&new.framework)
        .bind(&new.design)
        .bind(serde_json::json!(new.labels).to_string())
        .bind(serde_json::json!(new.tags).to_string())
        .bind(now.as_millis())
        .fetch_one(&mut *transaction)
        .await
        .map_err(failed(action))?;
        write_tags(&mut transaction, workspace, id, 0, &new.tags).await?;
        write_metadata(&mut transaction, workspace, id, &new.metadata).await?;
        if let Some(task) = &new.task {
            sqlx::query(
                "insert into task_model (workspace, task, role, name, model, position)
                 values ($1, $2, 'output', $3, $4, $4)
                 on conflict (workspace, task, role, name) do update
                    set model = excluded.model, position = excluded.position",
            )
            .bind(workspace.as_str())
            .bind(task.as_str())
            .bind(&new.name)
            .bind(id)
            .execute(&mut *transaction)
            .await
            .map_err(failed(action))?;
        }
        note_made(&mut transaction, || format!("/api/v1/models/{id}"))
            .await
            .map_err(failed(action))?;
        transaction.commit().await.map_err(failed(action))?;
        Ok(unsigned(id))
    }

    /// Changes what is said of a model.
    ///
    /// # Errors
    /// [`ModelError::Published`] for one that is read-only.
    pub async fn edit_model(
        &self,
        workspace: &Workspace,
        id: u64,
        edit: &ModelEdit,
        expected: Option<&str>,
        now: Timestamp,
    ) -> Result<(), ModelError> {
        let action = "change a model";
        let mut transaction = self.begin(action).await?;
        // Nobody else writes while this transaction is open, so what is read beside it holds.
        let read = match expected {
            Some(_) => self.model(workspace, id).await?,
            None => None,
        };
        if let Some(read) = read
            && !is_as_read(&read, expected)?
        {
            return Err(ModelError::ChangedSince(id));
        }
        unpublished(&mut transaction, workspace, id).await?;
        sqlx::query(
            "update model
                set name = coalesce($1, name), comment = coalesce($2, comment),
                    framework = coalesce($3, framework), design = coalesce($4, design),
                    labels = coalesce($5, labels), tags = coalesce($6, tags),
                    iteration = coalesce($7, iteration), uri = coalesce($8, uri),
                    last_update = $9
              where workspace = $10 and id = $11",
        )
        .bind(edit.name.as_deref())
        .bind(edit.comment.as_deref())
        .bind(edit.framework.as_deref())
        .bind(edit.design.as_deref())
        .bind(
            edit.labels
                .as_ref()
                .map(|labels| serde_json::json!(labels).to_string()),
        )
        .bind(
            edit.tags
                .as_ref()
                .map(|tags| serde_json::json!(tags).to_string()),
        )
        .bind(edit.iteration.map(bigint))
        .bind(edit.uri.as_deref())
        .bind(now.as_millis())
        .bind(workspace.as_str())
        .bind(bigint(id))
        .execute(&mut *transaction)
        .await
        .map_err(failed(action))?;
        if let Some(tags) = &edit.tags {
            write_tags(&mut transaction, workspace, bigint(id), 0, tags).await?;
        }
        transaction.commit().await.map_err(failed(action))
    }

    /// Publishes a model: it is read-only from then on. With `with_task` the task that made it
    /// is published too, if it has ended.
    ///
    /// # Errors
    /// [`ModelError::TaskRuns`] while its task has not ended and is to be published.
    pub async fn publish_model(
        &self,
        workspace: &Workspace,
        id: u64,
        with_task: bool,
        now: Timestamp,
    ) -> Result<(), ModelError> {
        let action = "publish a model";
        let mut transaction = self.begin(action).await?;
        visible(&mut transaction, workspace, id).await?;
        let (task,): (Option<String>,) = sqlx::query_as(
            "update model set ready = coalesce(ready, $1), last_update = $1
              where workspace = $2 and id = $3 returning task",
        )
        .bind(now.as_millis())
        .bind(workspace.as_str())
        .bind(bigint(id))
        .fetch_one(&mut *transaction)
        .await
        .map_err(failed(action))?;
        if let Some(task) = task.filter(|_| with_task) {
            let published = sqlx::query(
                "update task set state = 'published', published = coalesce(published, $1),
                                 state_changed = $1, last_update = $1
                  where workspace = $2 and id = $3
                    and state in ('completed', 'stopped', 'failed', 'published')",
            )
            .bind(now.as_millis())
            .bind(workspace.as_str())
            .bind(task)
            .execute(&mut *transaction)
            .await
            .map_err(failed(action))?;
            if published.rows_affected() == 0 {
                return Err(ModelError::TaskRuns(id));
            }
        }
        note_made(&mut transaction, || format!("/api/v1/models/{id}"))
            .await
            .map_err(failed(action))?;
        transaction.commit().await.map_err(failed(action))
    }

    /// Hides a model from lists, or shows it again.
    ///
    /// # Errors
    /// When there is no such model.
    pub async fn archive_model(
        &self,
        workspace: &Workspace,
        id: u64,
        archived: bool,
        now: Timestamp,
    ) -> Result<(), ModelError> {
        let action = "archive a model";
        let mut transaction = self.begin(action).await?;
        visible(&mut transaction, workspace, id).await?;
        let (tags,): (String,) =
            sqlx::query_as("select system_tags from model where workspace = $1 and id = $2")
                .bind(workspace.as_str())
                .bind(bigint(id))
                .fetch_one(&mut *transaction)
                .await
                .map_err(failed(action))?;
        let tags: Vec<String> = serde_json::from_str(&tags).map_err(StoreError::damaged(action))?;
        let mut tags: Vec<String> = tags.into_iter().filter(|tag| tag != ARCHIVED).collect();
        if archived {
            tags.push(ARCHIVED.to_owned());
        }
        sqlx::query(
            "update model set system_tags = $1, last_update = $2 where workspace = $3 and id = $4",
        )
        .bind(serde_json::json!(tags).to_string())
        .bind(now.as_millis())
        .bind(workspace.as_str())
        .bind(bigint(id))
        .execute(&mut *transaction)
        .await
        .map_err(failed(action))?;
        write_tags(&mut transaction, workspace, bigint(id), 1, &tags).await?;
        note_made(&mut transaction, || format!("/api/v1/models/{id}"))
            .await
            .map_err(failed(action))?;
        transaction.commit().await.map_err(failed(action))
    }

    /// Deletes a model; its file goes with the garbage once nobody else refers to it.
    ///
    /// # Errors
    /// Without `force`, [`ModelError::InUse`] when a task goes on from it or a model was made
    /// of it, and [`ModelError::Published`].
    pub async fn delete_model(
        &self,
        workspace: &Workspace,
        id: u64,
        force: bool,
    ) -> Result<(), ModelError> {
        let action = "delete a model";
        let mut transaction = self.begin(action).await?;
        if force {
            visible(&mut transaction, workspace, id).await?;
        } else {
            unpublished(&mut transaction, workspace, id).await?;
            let (tasks, models): (i64, i64) = sqlx::query_as(
                "select (select count(*) from task
                          where task.workspace = $1 and task.checkpoint = $2)
                        + (select count(*) from task_model
                            where task_model.workspace = $1 and task_model.model = $2
                              and task_model.role = 'input'
                              and not exists (select 1 from task
                                               where task.workspace = $1
                                                 and task.id = task_model.task
                                                 and task.checkpoint = $2)),
                        (select count(*) from model
                          where model.workspace = $1 and model.parent = $2)",
            )
            .bind(workspace.as_str())
            .bind(bigint(id))
            .fetch_one(&mut *transaction)
            .await
            .map_err(failed(action))?;
            if tasks + models > 0 {
                let by = format!("{tasks} tasks read it, and {models} models were made of it");
                return Err(ModelError::InUse { model: id, by });
            }
        }
        for statement in [
            "delete from task_model where workspace = $1 and model = $2",
            "update task set checkpoint = null where workspace = $1 and checkpoint = $2",
            "update model set parent = null where workspace = $1 and parent = $2",
            "delete from model_metadata where workspace = $1 and model = $2",
            "delete from tag where workspace = $1 and kind = 'model'
                and owner = cast($2 as text)",
            "delete from model where workspace = $1 and id = $2",
        ] {
            sqlx::query(statement)
                .bind(workspace.as_str())
                .bind(bigint(id))
                .execute(&mut *transaction)
                .await
                .map_err(failed(action))?;
        }
        transaction.commit().await.map_err(failed(action))
    }

    /// What is kept with a model, by key.
    ///
    /// # Errors
    /// When there is no such model.
    pub async fn model_metadata(
        &self,
        workspace: &Workspace,
        id: u64,
    ) -> Result<Vec<MetadataItem>, ModelError> {
        let action = "read what is kept with a model";
        if self.model(workspace, id).await?.is_none() {
            return Err(ModelError::Unknown(id));
        }
        let rows: Vec<(String, String, String)> = sqlx::query_as(
            "select key, type, value from model_metadata
              where workspace = $1 and model = $2 order by key",
        )
        .bind(workspace.as_str())
        .bind(bigint(id))
        .fetch_all(&self.reader)
        .await
        .map_err(failed(action))?;
        let item = |(key, kind, value)| MetadataItem { key, kind, value };
        Ok(rows.into_iter().map(item).collect())
    }

    /// Adds to what is kept with a model; with `replace` there is nothing else afterwards.
    ///
    /// # Errors
    /// [`ModelError::Published`] for one that is read-only.
    pub async fn put_metadata(
        &self,
        workspace: &Workspace,
        id: u64,
        items: &[MetadataItem],
        replace: bool,
        now: Timestamp,
    ) -> Result<(), ModelError> {
        let action = "keep something with a model";
        let mut transaction = self.begin(action).await?;
        unpublished(&mut transaction, workspace, id).await?;
        if replace {
            sqlx::query("delete from model_metadata where workspace = $1 and model = $2")
                .bind(workspace.as_str())
                .bind(bigint(id))
                .execute(&mut *transaction)
                .await
                .map_err(failed(action))?;
        }
        write_metadata(&mut transaction, workspace, bigint(id), items).await?;
        touch(&mut transaction, workspace, id, now).await?;
        transaction.commit().await.map_err(failed(action))
    }

    /// Forgets some of what is kept with a model; how many of `keys` there were.
    ///
    /// # Errors
    /// [`ModelError::Published`] for one that is read-only.
    pub async fn delete_metadata(
        &self,
        workspace: &Workspace,
        id: u64,
        keys: &[String],
        now: Timestamp,
    ) -> Result<u64, ModelError> {
        let action = "forget what is kept with a model";
        let mut transaction = self.begin(action).await?;
        unpublished(&mut transaction, workspace, id).await?;
        let mut gone = 0;
        for key in keys {
            let deleted = sqlx::query(
                "delete from model_metadata where workspace = $1 and model = $2 and key = $3",
            )
            .bind(workspace.as_str())
            .bind(bigint(id))
            .bind(key)
            .execute(&mut *transaction)
            .await
            .map_err(failed(action))?;
            gone += deleted.rows_affected();
        }
        touch(&mut transaction, workspace, id, now).await?;
        transaction.commit().await.map_err(failed(action))?;
        Ok(gone)
    }

    /// The models that a task reads and made, each in the order in which they came.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn task_models(
        &self,
        workspace: &Workspace,
        task: &TaskId,
    ) -> Result<ModelUses, StoreError> {
        let rows: Vec<(String, String, i64)> = sqlx::query_as(
            "select task_model.role, task_model.name, task_model.model from task_model
               join model on model.id = task_model.model
              where task_model.workspace = $1 and task_model.task = $2
                and model.state = 'visible'
              order by task_model.position, task_model.model",
        )
        .bind(workspace.as_str())
        .bind(task.as_str())
        .fetch_all(&self.reader)
        .await
        .map_err(StoreError::database("list a task's models"))?;
        let mut models = ModelUses::default();
        for (role, name, id) in rows {
            let Some(model) = self.model(workspace, unsigned(id)).await? else {
                continue;
            };
            let list = match role.as_str() {
                "input" => &mut models.input,
                _ => &mut models.output,
            };
            list.push(ModelUse { name, model });
        }
        Ok(models)
    }

    /// Makes a model an input of a draft, in the place of one of the same name.
    ///
    /// # Errors
    /// [`ModelError::NoDraft`] for a task in any other state.
    pub async fn set_input_model(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        name: &str,
        model: u64,
        now: Timestamp,
    ) -> Result<(), ModelError> {
        let action = "set an input model";
        let mut transaction = self.begin(action).await?;
        draft(&mut transaction, workspace, task, now).await?;
        visible(&mut transaction, workspace, model).await?;
        sqlx::query(
            "insert into task_model (workspace, task, role, name, model, position)
             select $1, $2, 'input', $3, $4, coalesce(max(position), -1) + 1 from task_model
              where workspace = $1 and task = $2 and role = 'input'
             on conflict (workspace, task, role, name) do update set model = excluded.model",
        )
        .bind(workspace.as_str())
        .bind(task.as_str())
        .bind(name)
        .bind(bigint(model))
        .execute(&mut *transaction)
        .await
        .map_err(failed(action))?;
        transaction.commit().await.map_err(failed(action))
    }

    /// Takes an input model from a draft.
    ///
    /// # Errors
    /// When it has none of that name, or is no draft.
    pub async fn remove_input_model(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        name: &str,
        now: Timestamp,
    ) -> Result<(), ModelError> {
        let action = "take an input model away";
        let mut transaction = self.begin(action).await?;
        draft(&mut transaction, workspace, task, now).await?;
        let removed = sqlx::query(
            "delete from task_model
              where workspace = $1 and task = $2 and role = 'input' and name = $3",
        )
        .bind(workspace.as_str())
        .bind(task.as_str())
        .bind(name)
        .execute(&mut *transaction)
        .await
        .map_err(failed(action))?;
        if removed.rows_affected() == 0 {
            let (task, name) = (task.clone(), name.to_owned());
            return Err(ModelError::NoInput { task, name });
        }
        transaction.commit().await.map_err(failed(action))
    }

    /// From a model in both directions: the task that made it, the models which that task
    /// read, their tasks, and so on; and the tasks that read it, what they made, and so on.
    /// At most a thousand steps, the nearest first.
    ///
    /// # Errors
    /// When there is no such model.
    pub async fn lineage(&self, workspace: &Workspace, id: u64) -> Result<LineageView, ModelError> {
        if self.model(workspace, id).await?.is_none() {
            return Err(ModelError::Unknown(id));
        }
        let mut lineage = LineageView {
            model: id,
            ancestors: Vec::new(),
            descendants: Vec::new(),
        };
        for (made, read, steps) in [
            (ModelRole::Output, ModelRole::Input, &mut lineage.ancestors),
            (
                ModelRole::Input,
                ModelRole::Output,
                &mut lineage.descendants,
            ),
        ] {
            let mut waiting = vec![id];
            let mut seen = std::collections::HashSet::from([id]);
            while let Some(model) = waiting.pop() {
                if steps.len() >= MAX_LINEAGE {
                    break;
                }
                for step in self.steps(workspace, model, made, read).await? {
                    for next in &step.models {
                        if seen.insert(*next) {
                            waiting.insert(0, *next);
                        }
                    }
                    steps.push(step);
                }
            }
        }
        Ok(lineage)
    }

    /// The tasks that have `model` in the role `from`, with their models in the role `to`.
    async fn steps(
        &self,
        workspace: &Workspace,
        model: u64,
        from: ModelRole,
        to: ModelRole,
    ) -> Result<Vec<trainshed_core::view::LineageStep>, ModelError> {
        let action = "follow a model's lineage";
        let rows: Vec<(String, String, Option<i64>)> = sqlx::query_as(
            "select task.id, task.name, other.model from task_model as one
               join task on task.workspace = one.workspace and task.id = one.task
               left join task_model as other on other.workspace = one.workspace
                    and other.task = one.task and other.role = $1
              where one.workspace = $2 and one.model = $3 and one.role = $4
              order by task.created, task.id, other.position",
        )
        .bind(to.as_str())
        .bind(workspace.as_str())
        .bind(bigint(model))
        .bind(from.as_str())
        .fetch_all(&self.reader)
        .await
        .map_err(failed(action))?;
        let mut steps: Vec<trainshed_core::view::LineageStep> = Vec::new();
        for (task, task_name, other) in rows {
            let task: TaskId = task.parse().map_err(StoreError::damaged(action))?;
            if steps.last().is_none_or(|step| step.task != task) {
                steps.push(trainshed_core::view::LineageStep {
                    of: model,
                    task,
                    task_name,
                    models: Vec::new(),
                });
            }
            if let (Some(step), Some(other)) = (steps.last_mut(), other) {
                step.models.push(unsigned(other));
            }
        }
        Ok(steps)
    }
}

/// Whether the model is published; an error when it is not there.
async fn visible(
    transaction: &mut Transaction<'static, Any>,
    workspace: &Workspace,
    id: u64,
) -> Result<bool, ModelError> {
    let found: Option<(Option<i64>,)> = sqlx::query_as(
        "select ready from model where workspace = $1 and id = $2 and state = 'visible'",
    )
    .bind(workspace.as_str())
    .bind(bigint(id))
    .fetch_optional(&mut **transaction)
    .await
    .map_err(failed("read a model"))?;
    let (ready,) = found.ok_or(ModelError::Unknown(id))?;
    Ok(ready.is_some())
}

async fn unpublished(
    transaction: &mut Transaction<'static, Any>,
    workspace: &Workspace,
    id: u64,
) -> Result<(), ModelError> {
    match visible(transaction, workspace, id).await? {
        true => Err(ModelError::Published(id)),
        false => Ok(()),
    }
}

async fn draft(
    transaction: &mut Transaction<'static, Any>,
    workspace: &Workspace,
    task: &TaskId,
    now: Timestamp,
) -> Result<(), ModelError> {
    let action = "read a task";
    let found: Option<(String,)> = sqlx::query_as(
        "update task set last_update = $1 where workspace = $2 and id = $3 returning state",
    )
    .bind(now.as_millis())
    .bind(workspace.as_str())
    .bind(task.as_str())
    .fetch_optional(&mut **transaction)
    .await
    .map_err(failed(action))?;
    let (state,) = found.ok_or_else(|| ModelError::UnknownTask(task.clone()))?;
    if state != "created" {
        let task = task.clone();
        return Err(ModelError::NoDraft { task, state });
    }
    Ok(())
}

async fn touch(
    transaction: &mut Transaction<'static, Any>,
    workspace: &Workspace,
    id: u64,
    now: Timestamp,
) -> Result<(), ModelError> {
    sqlx::query("update model set last_update = $1 where workspace = $2 and id = $3")
        .bind(now.as_millis())
        .bind(workspace.as_str())
        .bind(bigint(id))
        .execute(&mut **transaction)
        .await
        .map_err(failed("change a model"))?;
    Ok(())
}

async fn write_tags(
    transaction: &mut Transaction<'static, Any>,
    workspace: &Workspace,
    id: i64,
    is_system: i64,
    tags: &[String],
) -> Result<(), ModelError> {
    let action = "tag a model";
    sqlx::query(
        "delete from tag
          where workspace = $1 and kind = 'model' and owner = $2 and is_system = $3",
    )
    .bind(workspace.as_str())
    .bind(id.to_string())
    .bind(is_system)
    .execute(&mut **transaction)
    .await
    .map_err(failed(action))?;
    for tag in tags {
        sqlx::query(
            "insert into tag (workspace, kind, is_system, tag, owner)
             values ($1, 'model', $2, $3, $4) on conflict do nothing",
        )
        .bind(workspace.as_str())
        .bind(is_system)
        .bind(tag)
        .bind(id.to_string())
        .execute(&mut **transaction)
        .await
        .map_err(failed(action))?;
    }
    Ok(())
}

async fn write_metadata(
    transaction: &mut Transaction<'static, Any>,
    workspace: &Workspace,
    id: i64,
    items: &[MetadataItem],
) -> Result<(), ModelError> {
    for item in items {
        sqlx::query(
            "insert into model_metadata (workspace, model, key, type, value)
             values ($1, $2, $3, $4, $5)
             on conflict (workspace, model, key) do update
                set type = excluded.type, value = excluded.value",
        )
        .bind(workspace.as_str())
        .bind(id)
        .bind(&item.key)
        .bind(&item.kind)
        .bind(&item.value)
        .execute(&mut **transaction)
        .await
        .map_err(failed("keep something with a model"))?;
    }
    Ok(())
}
