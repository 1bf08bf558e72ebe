//! Models: what tasks saved.

use std::collections::HashMap;

use sqlx::{Any, Transaction};
use trainshed_core::model::SavedModel;
use trainshed_core::view::ModelView;
use trainshed_core::{TaskId, Timestamp};

use crate::database::{Store, fresh_id};
use crate::error::StoreError;
use crate::file::{bigint, unsigned};
use crate::workspace::Workspace;

#[derive(sqlx::FromRow)]
struct ModelRow {
    id: i64,
    uuid: String,
    name: String,
    task: Option<String>,
    task_name: Option<String>,
    parent: Option<i64>,
    iteration: i64,
    sha256: String,
    size_bytes: i64,
    labels: String,
    created: i64,
}

impl Store {
    /// The visible models, of one task or of all, the newest first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn models(
        &self,
        workspace: &Workspace,
        task: Option<&TaskId>,
    ) -> Result<Vec<ModelView>, StoreError> {
        let rows: Vec<ModelRow> = sqlx::query_as(
            "select model.id, model.uuid, model.name, model.task, task.name as task_name,
                    model.parent, model.iteration, model.sha256, model.size_bytes,
                    model.labels, model.created
               from model
               left join task on task.workspace = model.workspace and task.id = model.task
              where model.workspace = $1 and model.state = 'visible'
                and ($2 = '' or model.task = $2)
              order by model.id desc",
        )
        .bind(workspace.as_str())
        .bind(task.map_or("", TaskId::as_str))
        .fetch_all(&self.reader)
        .await
        .map_err(StoreError::database("list models"))?;
        let mut metadata = self.metadata(workspace, task, None).await?;
        let views = rows.into_iter().map(|row| {
            let metadata = metadata.remove(&row.id).unwrap_or_default();
            row.view(metadata)
        });
        views.collect()
    }

    /// A visible model.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn model(
        &self,
        workspace: &Workspace,
        id: u64,
    ) -> Result<Option<ModelView>, StoreError> {
        let row: Option<ModelRow> = sqlx::query_as(
            "select model.id, model.uuid, model.name, model.task, task.name as task_name,
                    model.parent, model.iteration, model.sha256, model.size_bytes,
                    model.labels, model.created
               from model
               left join task on task.workspace = model.workspace and task.id = model.task
              where model.workspace = $1 and model.id = $2 and model.state = 'visible'",
        )
        .bind(workspace.as_str())
        .bind(bigint(id))
        .fetch_optional(&self.reader)
        .await
        .map_err(StoreError::database("read a model"))?;
        let Some(row) = row else { return Ok(None) };
        let mut metadata = self.metadata(workspace, None, Some(row.id)).await?;
        let metadata = metadata.remove(&row.id).unwrap_or_default();
        row.view(metadata).map(Some)
    }

    /// What is kept with each model: of one task, of one model, or of all.
    async fn metadata(
        &self,
        workspace: &Workspace,
        task: Option<&TaskId>,
        model: Option<i64>,
    ) -> Result<HashMap<i64, Vec<(String, String)>>, StoreError> {
        let rows: Vec<(i64, String, String)> = sqlx::query_as(
            "select model_metadata.model, model_metadata.key, model_metadata.value
               from model_metadata
               join model on model.id = model_metadata.model
              where model_metadata.workspace = $1 and ($2 = '' or model.task = $2)
                and ($3 = 0 or model.id = $3)
              order by model_metadata.model, model_metadata.key",
        )
        .bind(workspace.as_str())
        .bind(task.map_or("", TaskId::as_str))
        .bind(model.unwrap_or(0))
        .fetch_all(&self.reader)
        .await
        .map_err(StoreError::database("read what is kept with models"))?;
        let mut kept: HashMap<i64, Vec<(String, String)>> = HashMap::new();
        for (model, key, value) in rows {
            kept.entry(model).or_default().push((key, value));
        }
        Ok(kept)
    }
}

/// Stages a model of a running task; one of the same name is replaced and keeps its id.
/// Returns whether it did, which is false when its file was not uploaded with this length.
pub(crate) async fn stage_model(
    transaction: &mut Transaction<'static, Any>,
    workspace: &Workspace,
    task: &TaskId,
    parent: Option<i64>,
    model: &SavedModel,
    now: Timestamp,
) -> Result<bool, sqlx::Error> {
    let staged: Option<(i64,)> = sqlx::query_as(
        "insert into model (workspace, uuid, task, slot, project, creator, name, comment, parent,
                            iteration, sha256, size_bytes, framework, design, labels, tags,
                            system_tags, state, created, last_update)
         select task.workspace, $1, task.id, $2, task.project, task.creator, $2, '', $3, $4,
                file.sha256, file.size_bytes, 'trainshed', '', $5, '[]', '[]', 'staged', $6, $6
           from task join file on file.workspace = task.workspace
          where task.workspace = $7 and task.id = $8 and file.sha256 = $9
            and file.size_bytes = $10
         on conflict (workspace, task, slot) do update
            set iteration = excluded.iteration, sha256 = excluded.sha256,
                size_bytes = excluded.size_bytes, labels = excluded.labels,
                created = excluded.created, last_update = excluded.last_update
         returning id",
    )
    .bind(format!("{:032x}", fresh_id()))
    .bind(&model.name)
    .bind(parent)
    .bind(bigint(model.iteration))
    .bind(serde_json::json!(model.labels).to_string())
    .bind(now.as_millis())
    .bind(workspace.as_str())
    .bind(task.as_str())
    .bind(model.sha256.to_string())
    .bind(bigint(model.size_bytes))
    .fetch_optional(&mut **transaction)
    .await?;
    let Some((id,)) = staged else {
        return Ok(false);
    };
    sqlx::query("delete from model_metadata where workspace = $1 and model = $2")
        .bind(workspace.as_str())
        .bind(id)
        .execute(&mut **transaction)
        .await?;
    for (key, value) in &model.metadata {
        sqlx::query(
            "insert into model_metadata (workspace, model, key, type, value)
             values ($1, $2, $3, 'str', $4)
             on conflict (workspace, model, key) do update set value = excluded.value",
        )
        .bind(workspace.as_str())
        .bind(id)
        .bind(key)
        .bind(value)
        .execute(&mut **transaction)
        .await?;
    }
    Ok(true)
}

/// Shows all models of a task that ends, and lists them as what it made; returns the id of its result: the model called
/// `output`, and without such a name or model the one that was saved last.
pub(crate) async fn show_models(
    transaction: &mut Transaction<'static, Any>,
    workspace: &str,
    task: &TaskId,
    output: Option<&str>,
) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query("update model set state = 'visible' where workspace = $1 and task = $2")
        .bind(workspace)
        .bind(task.as_str())
        .execute(&mut **transaction)
        .await?;
    sqlx::query(
        "insert into task_model (workspace, task, role, name, model, position)
         select workspace, task, 'output', slot, id, id
           from model where workspace = $1 and task = $2 and slot is not null
         on conflict do nothing",
    )
    .bind(workspace)
    .bind(task.as_str())
    .execute(&mut **transaction)
    .await?;
    let result: Option<(i64,)> = sqlx::query_as(
        "select id from model where workspace = $1 and task = $2 and slot is not null
          order by case when slot = $3 then 0 else 1 end,
                   created desc, iteration desc, id desc limit 1",
    )
    .bind(workspace)
    .bind(task.as_str())
    .bind(output.unwrap_or_default())
    .fetch_optional(&mut **transaction)
    .await?;
    Ok(result.map(|(id,)| id))
}

impl ModelRow {
    fn view(self, metadata: Vec<(String, String)>) -> Result<ModelView, StoreError> {
        let action = "read a model";
        Ok(ModelView {
            id: unsigned(self.id),
            uuid: self.uuid,
            name: self.name,
            task: self
                .task
                .map(|task| task.parse())
                .transpose()
                .map_err(StoreError::damaged(action))?,
            task_name: self.task_name,
            parent: self.parent.map(unsigned),
            iteration: unsigned(self.iteration),
            sha256: self.sha256.parse().map_err(StoreError::damaged(action))?,
            size_bytes: unsigned(self.size_bytes),
            labels: serde_json::from_str(&self.labels).map_err(StoreError::damaged(action))?,
            metadata,
            created: Timestamp(self.created),
        })
    }
}
