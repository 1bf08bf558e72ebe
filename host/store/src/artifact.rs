//! Artifacts: files that users attach to tasks.

use trainshed_core::view::ArtifactView;
use trainshed_core::{Digest, TaskId, Timestamp};

use crate::database::Store;
use crate::error::StoreError;
use crate::file::unsigned;
use crate::workspace::Workspace;

#[derive(sqlx::FromRow)]
struct ArtifactRow {
    name: String,
    sha256: String,
    size_bytes: i64,
    content_type: String,
    created: i64,
}

impl Store {
    /// Attaches an uploaded file to a task; an artifact of the same name becomes a
    /// former version of it.
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
        name: &str,
        content: (&Digest, &str),
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let action = "attach an artifact";
        let mut transaction = self.begin(action).await?;
        let former: Option<(i64,)> = sqlx::query_as(
            "update artifact set replaced = $1
              where workspace = $2 and task = $3 and name = $4 and mode = 'output'
                and replaced is null
          returning version",
        )
        .bind(now.as_millis())
        .bind(workspace.as_str())
        .bind(task.as_str())
        .bind(name)
        .fetch_optional(&mut *transaction)
        .await
        .map_err(StoreError::database(action))?;
        let written = sqlx::query(
            "insert into artifact (workspace, task, name, mode, version, type, sha256, size_bytes,
                                   content_type, preview, display, created)
             select task.workspace, task.id, $1, 'output', $2, 'file', file.sha256,
                    file.size_bytes, $3, '', '[]', $4
               from task join file on file.workspace = task.workspace
              where task.workspace = $5 and task.id = $6 and task.state <> 'published'
                and file.sha256 = $7",
        )
        .bind(name)
        .bind(former.map_or(1, |(version,)| version + 1))
        .bind(content.1)
        .bind(now.as_millis())
        .bind(workspace.as_str())
        .bind(task.as_str())
        .bind(content.0.to_string())
        .execute(&mut *transaction)
        .await
        .map_err(StoreError::database(action))?;
        if written.rows_affected() == 0 {
            return Ok(false);
        }
        let committed = transaction.commit().await;
        committed.map_err(StoreError::database(action))?;
        Ok(true)
    }

    /// The artifacts of a task, ordered by name.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn artifacts(
        &self,
        workspace: &Workspace,
        task: &TaskId,
    ) -> Result<Vec<ArtifactView>, StoreError> {
        let rows: Vec<ArtifactRow> = sqlx::query_as(
            "select name, sha256, size_bytes, content_type, created from artifact
              where workspace = $1 and task = $2 and replaced is null order by name",
        )
        .bind(workspace.as_str())
        .bind(task.as_str())
        .fetch_all(&self.reader)
        .await
        .map_err(StoreError::database("list artifacts"))?;
        rows.into_iter().map(ArtifactRow::view).collect()
    }
}

impl ArtifactRow {
    fn view(self) -> Result<ArtifactView, StoreError> {
        let sha256 = self.sha256.parse();
        Ok(ArtifactView {
            name: self.name,
            sha256: sha256.map_err(StoreError::damaged("list artifacts"))?,
            size_bytes: unsigned(self.size_bytes),
            content_type: self.content_type,
            created: Timestamp(self.created),
        })
    }
}
