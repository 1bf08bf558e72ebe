//! Models: what tasks saved.

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
    task: String,
    task_name: String,
    parent: Option<i64>,
    iteration: i64,
    sha256: String,
    size_bytes: i64,
    labels: String,
    metadata: String,
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
                    model.labels, model.metadata, model.created
               from model join task on task.workspace = model.workspace and task.id = model.task
              where model.workspace = $1 and model.state = 'visible'
                and ($2 = '' or model.task = $2)
              order by model.id desc",
        )
        .bind(workspace.as_str())
        .bind(task.map_or("", TaskId::as_str))
        .fetch_all(&self.reader)
        .await
        .map_err(StoreError::database("list models"))?;
        rows.into_iter().map(ModelRow::view).collect()
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
                    model.labels, model.metadata, model.created
               from model join task on task.workspace = model.workspace and task.id = model.task
              where model.workspace = $1 and model.id = $2 and model.state = 'visible'",
        )
        .bind(workspace.as_str())
        .bind(bigint(id))
        .fetch_optional(&self.reader)
        .await
        .map_err(StoreError::database("read a model"))?;
        row.map(ModelRow::view).transpose()
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
    let staged = sqlx::query(
        "insert into model (workspace, uuid, task, name, parent, iteration, sha256, size_bytes,
                            labels, metadata, state, created)
         select workspace, $1, $2, $3, $4, $5, sha256, size_bytes, $6, $7, 'staged', $8
           from file where workspace = $9 and sha256 = $10 and size_bytes = $11
         on conflict (workspace, task, name) do update
            set iteration = excluded.iteration, sha256 = excluded.sha256,
                size_bytes = excluded.size_bytes, labels = excluded.labels,
                metadata = excluded.metadata, created = excluded.created",
    )
    .bind(format!("{:032x}", fresh_id()))
    .bind(task.as_str())
    .bind(&model.name)
    .bind(parent)
    .bind(bigint(model.iteration))
    .bind(serde_json::json!(model.labels).to_string())
    .bind(serde_json::json!(model.metadata).to_string())
    .bind(now.as_millis())
    .bind(workspace.as_str())
    .bind(model.sha256.to_string())
    .bind(bigint(model.size_bytes))
    .execute(&mut **transaction)
    .await?;
    Ok(staged.rows_affected() == 1)
}

/// Shows all models of a task that ends; returns the id of its result: the model called
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
    let result: Option<(i64,)> = sqlx::query_as(
        "select id from model where workspace = $1 and task = $2
          order by case when name = $3 then 0 else 1 end,
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
    fn view(self) -> Result<ModelView, StoreError> {
        let action = "read a model";
        Ok(ModelView {
            id: unsigned(self.id),
            uuid: self.uuid,
            name: self.name,
            task: self.task.parse().map_err(StoreError::damaged(action))?,
            task_name: self.task_name,
            parent: self.parent.map(unsigned),
            iteration: unsigned(self.iteration),
            sha256: self.sha256.parse().map_err(StoreError::damaged(action))?,
            size_bytes: unsigned(self.size_bytes),
            labels: serde_json::from_str(&self.labels).map_err(StoreError::damaged(action))?,
            metadata: serde_json::from_str(&self.metadata).map_err(StoreError::damaged(action))?,
            created: Timestamp(self.created),
        })
    }
}
