//! Models: what tasks saved, and what was registered.

use std::collections::{HashMap, HashSet};

use sqlx::{Any, Transaction};
use trainshed_core::model::{SavedModel, ScoreMode, Snapshot, Taken};
use trainshed_core::view::ModelView;
use trainshed_core::{TaskId, Timestamp};

use crate::database::{Store, fresh_id};
use crate::error::StoreError;
use crate::file::{bigint, unsigned};
use crate::workspace::Workspace;

/// What a query for models selects; the design, which may be long, is not in lists.
macro_rules! select_models {
    ($design:literal, $rest:literal) => {
        concat!(
            "select model.id, model.uuid, model.name, model.slot, model.task,
                    task.name as task_name, project.path as project, model.parent,
                    model.iteration, model.sha256, model.uri, file.location, model.size_bytes,
                    model.framework, ",
            $design,
            " as design, model.labels, model.comment, model.tags, model.system_tags, model.ready,
                    model.created, model.last_update
               from model
               left join task on task.workspace = model.workspace and task.id = model.task
               left join project on project.workspace = model.workspace
                    and project.id = model.project
               left join file on file.workspace = model.workspace
                    and file.sha256 = model.sha256 ",
            $rest
        )
    };
}

#[derive(sqlx::FromRow)]
struct ModelRow {
    id: i64,
    uuid: String,
    name: String,
    slot: Option<String>,
    task: Option<String>,
    task_name: Option<String>,
    project: Option<String>,
    parent: Option<i64>,
    iteration: i64,
    sha256: Option<String>,
    uri: Option<String>,
    location: Option<String>,
    size_bytes: i64,
    framework: String,
    design: String,
    labels: String,
    comment: String,
    tags: String,
    system_tags: String,
    ready: Option<i64>,
    created: i64,
    last_update: i64,
}

/// A part of a list of models or data set versions, which begins with the newest.
#[derive(Debug, Clone, Copy)]
pub struct ListPart {
    /// Archived ones, too.
    pub archived: bool,
    /// Only those that are older than the one of this id.
    pub after: Option<u64>,
    /// At most so many.
    pub limit: u64,
}

/// Which models to list.
#[derive(Debug, Clone, Copy)]
pub struct ModelList<'a> {
    /// Which part.
    pub part: ListPart,
    /// Only those that keep something under this key, and this value if there is one.
    pub metadata: Option<(&'a str, Option<&'a str>)>,
}

impl Store {
    /// The visible models, of one task or of all, the newest first; without their designs.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn models(
        &self,
        workspace: &Workspace,
        task: Option<&TaskId>,
    ) -> Result<Vec<ModelView>, StoreError> {
        let rows: Vec<ModelRow> = sqlx::query_as(select_models!(
            "''",
            "where model.workspace = $1 and model.state = 'visible'
               and ($2 = '' or model.task = $2)
             order by model.id desc"
        ))
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

    /// Some of the visible models, newest first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn listed_models(
        &self,
        workspace: &Workspace,
        list: &ModelList<'_>,
    ) -> Result<Vec<ModelView>, StoreError> {
        let (key, value) = list.metadata.unwrap_or_default();
        let rows: Vec<ModelRow> = sqlx::query_as(select_models!(
            "''",
            "where model.workspace = $1 and model.state = 'visible'
               and ($2 = 1 or not exists (
                     select 1 from tag
                      where tag.workspace = model.workspace and tag.kind = 'model'
                        and tag.is_system = 1 and tag.tag = 'archived'
                        and tag.owner = cast(model.id as text)))
               and ($3 = 0 or model.id < $3)
               and ($4 = '' or exists (
                    select 1 from model_metadata kept
                     where kept.workspace = model.workspace and kept.model = model.id
                       and kept.key = $4 and ($5 = 0 or kept.value = $6)))
             order by model.id desc limit $7"
        ))
        .bind(workspace.as_str())
        .bind(i64::from(list.part.archived))
        .bind(bigint(list.part.after.unwrap_or(0)))
        .bind(key)
        .bind(i64::from(value.is_some()))
        .bind(value.unwrap_or_default())
        .bind(bigint(list.part.limit))
        .fetch_all(&self.reader)
        .await
        .map_err(StoreError::database("list models"))?;
        let ids = rows.last().zip(rows.first());
        let ids = ids.map(|(first, last)| (first.id, last.id));
        let Some(ids) = ids else {
            return Ok(Vec::new());
        };
        let mut metadata = self.metadata(workspace, None, Some(ids)).await?;
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
        let row: Option<ModelRow> = sqlx::query_as(select_models!(
            "model.design",
            "where model.workspace = $1 and model.id = $2 and model.state = 'visible'"
        ))
        .bind(workspace.as_str())
        .bind(bigint(id))
        .fetch_optional(&self.reader)
        .await
        .map_err(StoreError::database("read a model"))?;
        let Some(row) = row else { return Ok(None) };
        let mut metadata = self
            .metadata(workspace, None, Some((row.id, row.id)))
            .await?;
        let metadata = metadata.remove(&row.id).unwrap_or_default();
        row.view(metadata).map(Some)
    }

    /// A model, also of a task that has not ended.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn any_model(
        &self,
        workspace: &Workspace,
        id: u64,
    ) -> Result<Option<ModelView>, StoreError> {
        let row: Option<ModelRow> = sqlx::query_as(select_models!(
            "model.design",
            "where model.workspace = $1 and model.id = $2"
        ))
        .bind(workspace.as_str())
        .bind(bigint(id))
        .fetch_optional(&self.reader)
        .await
        .map_err(StoreError::database("read a model"))?;
        let Some(row) = row else { return Ok(None) };
        let mut metadata = self
            .metadata(workspace, None, Some((row.id, row.id)))
            .await?;
        let metadata = metadata.remove(&row.id).unwrap_or_default();
        row.view(metadata).map(Some)
    }

    /// What is kept with each model: of one task, of one model, or of all.
    async fn metadata(
        &self,
        workspace: &Workspace,
        task: Option<&TaskId>,
        models: Option<(i64, i64)>,
    ) -> Result<HashMap<i64, Vec<(String, String)>>, StoreError> {
        let rows: Vec<(i64, String, String)> = sqlx::query_as(
            "select model_metadata.model, model_metadata.key, model_metadata.value
               from model_metadata
               join model on model.id = model_metadata.model
              where model_metadata.workspace = $1 and ($2 = '' or model.task = $2)
                and ($3 = 0 or model.id between $3 and $4)
              order by model_metadata.model, model_metadata.key",
        )
        .bind(workspace.as_str())
        .bind(task.map_or("", TaskId::as_str))
        .bind(models.map_or(0, |(first, _)| first))
        .bind(models.map_or(0, |(_, last)| last))
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
                file.sha256, file.size_bytes, $11, '', $5, '[]', '[]', 'staged', $6, $6
           from task join file on file.workspace = task.workspace
          where task.workspace = $7 and task.id = $8 and file.sha256 = $9
            and file.size_bytes = $10
         on conflict (workspace, task, slot) do update
            set iteration = excluded.iteration, sha256 = excluded.sha256,
                size_bytes = excluded.size_bytes, framework = excluded.framework,
                labels = excluded.labels, created = excluded.created, last_update = excluded.last_update
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
    .bind(if model.is_folder { FOLDER } else { "trainshed" })
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
    let kept = model.metadata.iter();
    let mut kept: Vec<(&str, &str, String)> = kept
        .map(|(key, value)| (key.as_str(), "str", value.clone()))
        .collect();
    if let Some(snapshot) = &model.snapshot {
        kept.push((SNAPSHOT_OF, "str", snapshot.of.clone()));
        kept.push((SNAPSHOT_MODE, "str", snapshot.keep.mode.as_str().to_owned()));
        let score = snapshot.score.map(|score| format!("{:?}", score.0));
        kept.extend(score.map(|score| (SNAPSHOT_SCORE, "float", score)));
    }
    for (key, kind, value) in kept {
        sqlx::query(
            "insert into model_metadata (workspace, model, key, type, value)
             values ($1, $2, $3, $4, $5)
             on conflict (workspace, model, key) do update
                set type = excluded.type, value = excluded.value",
        )
        .bind(workspace.as_str())
        .bind(id)
        .bind(key)
        .bind(kind)
        .bind(value)
        .execute(&mut **transaction)
        .await?;
    }
    if let Some(snapshot) = &model.snapshot {
        drop_snapshots(transaction, workspace, task, snapshot).await?;
    }
    Ok(true)
}

/// What a model is kept with that is a snapshot.
const SNAPSHOT_OF: &str = "snapshot.of";
const SNAPSHOT_SCORE: &str = "snapshot.score";
const SNAPSHOT_MODE: &str = "snapshot.mode";
/// The framework of a model whose file is an archive of a folder.
const FOLDER: &str = "folder";

/// Forgets the snapshots of one name that do not stay, but none that somebody uses: that is
/// published, that a task goes on from or a model was made of. Trials keep all of theirs, since
/// their search may go on from any of them.
async fn drop_snapshots(
    transaction: &mut Transaction<'static, Any>,
    workspace: &Workspace,
    task: &TaskId,
    snapshot: &Snapshot,
) -> Result<(), sqlx::Error> {
    if snapshot.keep.is_all() {
        return Ok(());
    }
    // All at once: those that have to stay are looked at with every report.
    let free: Vec<(i64,)> = sqlx::query_as(
        "select id from model
          where workspace = $1 and task = $2 and slot is not null and ready is null
            and not exists (select 1 from trial
                             where trial.workspace = $1 and trial.task = $2)
            and not exists (select 1 from task
                             where task.workspace = $1 and task.checkpoint = model.id)
            and not exists (select 1 from model as made
                             where made.workspace = $1 and made.parent = model.id)
            and not exists (select 1 from task_model
                             where task_model.workspace = $1 and task_model.model = model.id
                               and task_model.role = 'input')",
    )
    .bind(workspace.as_str())
    .bind(task.as_str())
    .fetch_all(&mut **transaction)
    .await?;
    if free.is_empty() {
        return Ok(());
    }
    let free: HashSet<u64> = free.into_iter().map(|(id,)| unsigned(id)).collect();
    let taken = snapshots(transaction, workspace.as_str(), task, &snapshot.of).await?;
    let taken: Vec<Taken> = taken.into_iter().map(|(taken, _)| taken).collect();
    let dropped = snapshot.keep.dropped(&taken);
    for id in dropped.into_iter().filter(|id| free.contains(id)) {
        for statement in [
            "delete from task_model where workspace = $1 and model = $2",
            "delete from model_metadata where workspace = $1 and model = $2",
            "delete from tag where workspace = $1 and kind = 'model'
                and owner = cast($2 as text)",
            "delete from model where workspace = $1 and id = $2",
        ] {
            sqlx::query(statement)
                .bind(workspace.as_str())
                .bind(bigint(id))
                .execute(&mut **transaction)
                .await?;
        }
    }
    Ok(())
}

/// The snapshots of one name that a task has, and which of their scores are better.
async fn snapshots(
    transaction: &mut Transaction<'static, Any>,
    workspace: &str,
    task: &TaskId,
    of: &str,
) -> Result<Vec<(Taken, ScoreMode)>, sqlx::Error> {
    let rows: Vec<(i64, i64, Option<String>, Option<String>)> = sqlx::query_as(
        "select model.id, model.iteration, score.value as score, mode.value as mode
           from model
           join model_metadata as name on name.workspace = model.workspace
                and name.model = model.id and name.key = 'snapshot.of' and name.value = $1
           left join model_metadata as score on score.workspace = model.workspace
                and score.model = model.id and score.key = 'snapshot.score'
           left join model_metadata as mode on mode.workspace = model.workspace
                and mode.model = model.id and mode.key = 'snapshot.mode'
          where model.workspace = $2 and model.task = $3 and model.slot is not null
          order by model.iteration, model.id",
    )
    .bind(of)
    .bind(workspace)
    .bind(task.as_str())
    .fetch_all(&mut **transaction)
    .await?;
    let taken = |(id, iteration, score, mode): (i64, i64, Option<String>, Option<String>)| {
        let taken = Taken {
            id: unsigned(id),
            iteration: unsigned(iteration),
            score: score.and_then(|score| score.parse().ok()),
        };
        let mode = match mode.as_deref() {
            Some("min") => ScoreMode::Min,
            _ => ScoreMode::Max,
        };
        (taken, mode)
    };
    Ok(rows.into_iter().map(taken).collect())
}

/// The snapshot of one name that is worth most; of equal ones the last.
async fn best_snapshot(
    transaction: &mut Transaction<'static, Any>,
    workspace: &str,
    task: &TaskId,
    of: &str,
) -> Result<Option<i64>, sqlx::Error> {
    let taken = snapshots(transaction, workspace, task, of).await?;
    let better = |best: (Taken, ScoreMode), next: (Taken, ScoreMode)| match next
        .1
        .is_better(best.0.score, next.0.score)
    {
        true => best,
        false => next,
    };
    Ok(taken
        .into_iter()
        .reduce(better)
        .map(|(best, _)| bigint(best.id)))
}

/// Shows all models of a task that ends, and lists them as what it made; returns the id of its
/// result: the model called `output`, or the best of its snapshots of that name, and without
/// such a name or model the one that was saved last.
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
    let named: Option<(i64,)> =
        sqlx::query_as("select id from model where workspace = $1 and task = $2 and slot = $3")
            .bind(workspace)
            .bind(task.as_str())
            .bind(output.unwrap_or_default())
            .fetch_optional(&mut **transaction)
            .await?;
    if let (None, Some(output)) = (named, output)
        && let Some(best) = best_snapshot(transaction, workspace, task, output).await?
    {
        return Ok(Some(best));
    }
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
        let task = self.task.map(|task| task.parse()).transpose();
        let sha256 = self.sha256.map(|digest| digest.parse()).transpose();
        let elsewhere = self.location.filter(|location| location.contains("://"));
        Ok(ModelView {
            id: unsigned(self.id),
            uuid: self.uuid,
            name: self.name,
            slot: self.slot,
            task: task.map_err(StoreError::damaged(action))?,
            task_name: self.task_name,
            project: self.project,
            parent: self.parent.map(unsigned),
            iteration: unsigned(self.iteration),
            sha256: sha256.map_err(StoreError::damaged(action))?,
            uri: self.uri.or(elsewhere),
            size_bytes: unsigned(self.size_bytes),
            framework: self.framework,
            design: self.design,
            labels: serde_json::from_str(&self.labels).map_err(StoreError::damaged(action))?,
            metadata,
            comment: self.comment,
            tags: serde_json::from_str(&self.tags).map_err(StoreError::damaged(action))?,
            system_tags: serde_json::from_str(&self.system_tags)
                .map_err(StoreError::damaged(action))?,
            published: self.ready.map(Timestamp),
            created: Timestamp(self.created),
            last_update: Timestamp(self.last_update),
        })
    }
}
