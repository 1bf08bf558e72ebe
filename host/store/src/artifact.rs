//! Artifacts: what tasks keep, or read, beside metrics and models.

use sqlx::{Any, Transaction};
use trainshed_core::artifact::{ArtifactContent, ArtifactMode, ArtifactType, NewArtifact};
use trainshed_core::view::ArtifactView;
use trainshed_core::{Digest, TaskId, Timestamp};

use crate::database::Store;
use crate::error::StoreError;
use crate::file::unsigned;
use crate::idempotency::note_made;
use crate::lease::{LeaseError, hold_lease, lease_error};
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
    /// of it, unless it is the same: then nothing changes.
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
        let written = write_artifact(&mut transaction, workspace, task, artifact, now).await?;
        if written {
            note_made(&mut transaction, || {
                format!("/api/v1/tasks/{task}/artifacts")
            })
            .await
            .map_err(StoreError::database(action))?;
            let committed = transaction.commit().await;
            committed.map_err(StoreError::database(action))?;
        }
        Ok(written)
    }

    /// As [`Store::put_artifact`], of a running task under its lease, whose deadline moves to
    /// `lease_until`.
    ///
    /// # Errors
    /// When the lease is over.
    pub async fn put_leased_artifact(
        &self,
        workspace: &Workspace,
        (task, fence): (&TaskId, i64),
        artifact: &NewArtifact,
        lease_until: Timestamp,
        now: Timestamp,
    ) -> Result<bool, LeaseError> {
        let action = "record an artifact";
        let mut transaction = self.begin(action).await.map_err(LeaseError::Store)?;
        hold_lease(&mut transaction, workspace, task, fence, lease_until).await?;
        let written = write_artifact(&mut transaction, workspace, task, artifact, now).await;
        let written = written.map_err(LeaseError::Store)?;
        if written {
            let committed = transaction.commit().await;
            committed.map_err(lease_error(action))?;
        }
        Ok(written)
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

/// Records an artifact, unless the last version of its name and mode is the same already;
/// whether it is there now.
async fn write_artifact(
    transaction: &mut Transaction<'static, Any>,
    workspace: &Workspace,
    task: &TaskId,
    artifact: &NewArtifact,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let action = "record an artifact";
    let (sha256, uri) = match &artifact.content {
        ArtifactContent::Stored(digest) => (digest.to_string(), ""),
        ArtifactContent::Elsewhere(uri) => (String::new(), uri.as_str()),
    };
    let display = serde_json::json!(artifact.display).to_string();
    let former: Option<(i64,)> = sqlx::query_as(
        "update artifact set replaced = $1
          where workspace = $2 and task = $3 and name = $4 and mode = $5
            and replaced is null
            and not (coalesce(sha256, '') = $6 and coalesce(uri, '') = $7 and type = $8
                     and content_type = $9 and display = $10)
      returning version",
    )
    .bind(now.as_millis())
    .bind(workspace.as_str())
    .bind(task.as_str())
    .bind(&artifact.name)
    .bind(artifact.mode.as_str())
    .bind(&sha256)
    .bind(uri)
    .bind(artifact.kind.as_str())
    .bind(&artifact.content_type)
    .bind(&display)
    .fetch_optional(&mut **transaction)
    .await
    .map_err(StoreError::database(action))?;
    if former.is_none() {
        let same: Option<(i64,)> = sqlx::query_as(
            "select version from artifact
              where workspace = $1 and task = $2 and name = $3 and mode = $4
                and replaced is null",
        )
        .bind(workspace.as_str())
        .bind(task.as_str())
        .bind(&artifact.name)
        .bind(artifact.mode.as_str())
        .fetch_optional(&mut **transaction)
        .await
        .map_err(StoreError::database(action))?;
        if same.is_some() {
            return Ok(true);
        }
    }
    let version = former.map_or(1, |(version,)| version + 1);
    let from = match &artifact.content {
        ArtifactContent::Stored(_) => {
            "select task.workspace, task.id, $1, $2, $3, $4, file.sha256, null,
                    file.size_bytes, $5, $6, $7, $8
               from task join file on file.workspace = task.workspace
                    and file.sha256 = $11
              where task.workspace = $9 and task.id = $10 and task.state <> 'published'"
        }
        ArtifactContent::Elsewhere(_) => {
            "select task.workspace, task.id, $1, $2, $3, $4, null, $11, 0, $5, $6, $7, $8
               from task
              where task.workspace = $9 and task.id = $10 and task.state <> 'published'"
        }
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
        .bind(display)
        .bind(now.as_millis())
        .bind(workspace.as_str())
        .bind(task.as_str())
        .bind(match uri {
            "" => &sha256,
            uri => uri,
        })
        .execute(&mut **transaction)
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
    .execute(&mut **transaction)
    .await
    .map_err(StoreError::database(action))?;
    Ok(true)
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
