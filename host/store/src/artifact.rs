//! Artifacts: what tasks keep, or read, beside metrics and models.

use trainshed_core::artifact::{ArtifactContent, ArtifactMode, ArtifactType, NewArtifact};
use trainshed_core::view::ArtifactView;
use trainshed_core::{Digest, TaskId, Timestamp};

use crate::database::Store;
use crate::error::StoreError;
use crate::file::unsigned;
use crate::workspace::Workspace;

/// Former versions of an artifact that are kept, the newest.
const MAX_FORMER_VERSIONS: i64 = 100;

#[derive(sqlx::FromRow)]
struct ArtifactRow {
    name: String,
    mode: String,
    version: i64,
    r#type: String,
    sha256: Option<String>,
    uri: Option<String>,
    location: Option<String>,
    size_bytes: i64,
    content_type: String,
    preview: String,
    display: String,
    created: i64,
    replaced: Option<i64>,
}

impl Store {
    /// Records an artifact of a task; one of the same name and mode becomes a former version
    /// of it.
    ///
    /// Returns whether it did, which is false when there is no such task, it is published,
    /// or the file was not uploaded.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn put_artifact(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        artifact: &NewArtifact,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let action = "record an artifact";
        let mut transaction = self.begin(action).await?;
        let former: Option<(i64,)> = sqlx::query_as(
            "update artifact set replaced = $1
              where workspace = $2 and task = $3 and name = $4 and mode = $5
                and replaced is null
          returning version",
        )
        .bind(now.as_millis())
        .bind(workspace.as_str())
        .bind(task.as_str())
        .bind(&artifact.name)
        .bind(artifact.mode.as_str())
        .fetch_optional(&mut *transaction)
        .await
        .map_err(StoreError::database(action))?;
        let version = former.map_or(1, |(version,)| version + 1);
        let (from, sha256, uri) = match &artifact.content {
            ArtifactContent::Stored(digest) => (
                "select task.workspace, task.id, $1, $2, $3, $4, file.sha256, null,
                        file.size_bytes, $5, $6, $7, $8
                   from task join file on file.workspace = task.workspace
                        and file.sha256 = $11
                  where task.workspace = $9 and task.id = $10 and task.state <> 'published'",
                Some(digest.to_string()),
                None,
            ),
            ArtifactContent::Elsewhere(uri) => (
                "select task.workspace, task.id, $1, $2, $3, $4, null, $11, 0, $5, $6, $7, $8
                   from task
                  where task.workspace = $9 and task.id = $10 and task.state <> 'published'",
                None,
                Some(uri),
            ),
        };
        let insert = format!(
            "insert into artifact (workspace, task, name, mode, version, type, sha256, uri,
                                   size_bytes, content_type, preview, display, created) {from}"
        );
        let written = sqlx::query(sqlx::AssertSqlSafe(insert))
            .bind(&artifact.name)
            .bind(artifact.mode.as_str())
            .bind(version)
            .bind(artifact.kind.as_str())
            .bind(&artifact.content_type)
            .bind(&artifact.preview)
            .bind(serde_json::json!(artifact.display).to_string())
            .bind(now.as_millis())
            .bind(workspace.as_str())
            .bind(task.as_str())
            .bind(sha256.as_deref().or(uri.map(String::as_str)))
            .execute(&mut *transaction)
            .await
            .map_err(StoreError::database(action))?;
        if written.rows_affected() == 0 {
            return Ok(false);
        }
        sqlx::query(
            "delete from artifact where workspace = $1 and task = $2 and name = $3 and mode = $4
                and version < $5",
        )
        .bind(workspace.as_str())
        .bind(task.as_str())
        .bind(&artifact.name)
        .bind(artifact.mode.as_str())
        .bind(version - MAX_FORMER_VERSIONS)
        .execute(&mut *transaction)
        .await
        .map_err(StoreError::database(action))?;
        let committed = transaction.commit().await;
        committed.map_err(StoreError::database(action))?;
        Ok(true)
    }

    /// The artifacts of a task by name and mode; with `history`, former versions too, the
    /// newest first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn artifacts(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        history: bool,
    ) -> Result<Vec<ArtifactView>, StoreError> {
        let rows: Vec<ArtifactRow> = sqlx::query_as(
            "select artifact.name, artifact.mode, artifact.version, artifact.type,
                    artifact.sha256, artifact.uri, file.location, artifact.size_bytes,
                    artifact.content_type, artifact.preview, artifact.display, artifact.created,
                    artifact.replaced
               from artifact left join file on file.workspace = artifact.workspace
                    and file.sha256 = artifact.sha256
              where artifact.workspace = $1 and artifact.task = $2
                and (artifact.replaced is null or $3 = 1)
              order by artifact.name, artifact.mode, artifact.version desc",
        )
        .bind(workspace.as_str())
        .bind(task.as_str())
        .bind(i64::from(history))
        .fetch_all(&self.reader)
        .await
        .map_err(StoreError::database("list artifacts"))?;
        rows.into_iter().map(ArtifactRow::view).collect()
    }

    /// Forgets an artifact with all its versions; whether there was one that could go, which
    /// is false for a published task.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn delete_artifact(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        name: &str,
        mode: ArtifactMode,
    ) -> Result<bool, StoreError> {
        let action = "forget an artifact";
        let mut transaction = self.begin(action).await?;
        let gone = sqlx::query(
            "delete from artifact where workspace = $1 and task = $2 and name = $3 and mode = $4
                and exists (select 1 from task where task.workspace = $1 and task.id = $2
                                                 and task.state <> 'published')",
        )
        .bind(workspace.as_str())
        .bind(task.as_str())
        .bind(name)
        .bind(mode.as_str())
        .execute(&mut *transaction)
        .await
        .map_err(StoreError::database(action))?;
        let committed = transaction.commit().await;
        committed.map_err(StoreError::database(action))?;
        Ok(gone.rows_affected() > 0)
    }
}

impl ArtifactRow {
    fn view(self) -> Result<ArtifactView, StoreError> {
        let action = "list artifacts";
        let damaged = || StoreError::damaged(action)(format!("`{}` is no type", self.r#type));
        let sha256 = self.sha256.as_deref().map(str::parse::<Digest>).transpose();
        let elsewhere = self.location.filter(|location| location.contains("://"));
        Ok(ArtifactView {
            kind: ArtifactType::parse(&self.r#type).ok_or_else(damaged)?,
            name: self.name,
            mode: match self.mode.as_str() {
                "input" => ArtifactMode::Input,
                _ => ArtifactMode::Output,
            },
            version: u32::try_from(self.version).map_err(StoreError::damaged(action))?,
            sha256: sha256.map_err(StoreError::damaged(action))?,
            uri: self.uri.or(elsewhere),
            size_bytes: unsigned(self.size_bytes),
            content_type: self.content_type,
            preview: self.preview,
            display: serde_json::from_str(&self.display).map_err(StoreError::damaged(action))?,
            created: Timestamp(self.created),
            replaced: self.replaced.map(Timestamp),
        })
    }
}
