//! Deleting points that are too old to keep.

use std::collections::HashMap;

use trainshed_core::view::Retention;
use trainshed_core::{TaskId, Timestamp, WorkspaceId};

use crate::database::Store;
use crate::error::StoreError;
use crate::points::TaskKey;
use crate::points::upkeep::summarize_behind;

const DAY_MS: i64 = 24 * 3_600_000;
/// Tasks of one project of one look.
const MOST_TASKS: i64 = 1_000;
const ACTION: &str = "delete points that are too old";

impl Store {
    /// Deletes the points of tasks that ended longer ago than their project, or the next one
    /// above it that says so, keeps them, and
    /// returns these tasks, at most a thousand of each project. Summaries and single values
    /// stay, and so does everything of published tasks.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn expire_points(
        &self,
        now: Timestamp,
    ) -> Result<Vec<(WorkspaceId, TaskId)>, StoreError> {
        let projects: Vec<(String, String, String, String)> = sqlx::query_as(
            "select workspace, id, path, retention from project
              where workspace in (select workspace from project
                                   where retention like '%points_days%')",
        )
        .fetch_all(&self.reader)
        .await
        .map_err(StoreError::database(ACTION))?;
        let mut said = HashMap::new();
        for (workspace, _, path, retention) in &projects {
            let retention: Retention =
                serde_json::from_str(retention).map_err(StoreError::damaged(ACTION))?;
            if let Some(days) = retention.points_days {
                said.insert((workspace.as_str(), path.as_str()), days);
            }
        }
        let mut expired = Vec::new();
        for (workspace, project, path, _) in &projects {
            // The nearest project that says it, from this one upwards.
            let above = path.rmatch_indices('/').map(|(end, _)| &path[..end]);
            let mut paths = std::iter::once(path.as_str()).chain(above);
            let Some(days) = paths.find_map(|path| said.get(&(workspace.as_str(), path))) else {
                continue;
            };
            let days = *days;
            let before = now.plus_millis(-DAY_MS * i64::from(days));
            let tasks: Vec<(String,)> = sqlx::query_as(
                "select id from task
                  where workspace = $1 and project = $2 and ended < $3
                    and state not in ('queued', 'in_progress', 'published')
                    and (exists (select 1 from chunk where chunk.workspace = task.workspace
                                    and chunk.task = task.id)
                         or exists (select 1 from point_log
                                     where point_log.workspace = task.workspace
                                       and point_log.task = task.id))
                  limit $4",
            )
            .bind(workspace)
            .bind(project)
            .bind(before.as_millis())
            .bind(MOST_TASKS)
            .fetch_all(&self.reader)
            .await
            .map_err(StoreError::database(ACTION))?;
            for (task,) in tasks {
                let id: WorkspaceId = workspace.parse().map_err(StoreError::damaged(ACTION))?;
                let key = TaskKey {
                    workspace: workspace.clone(),
                    task,
                };
                self.expire_task(&key).await?;
                let task = key.task.parse().map_err(StoreError::damaged(ACTION))?;
                expired.push((id, task));
            }
        }
        Ok(expired)
    }

    /// Deletes the points of a task that are in its summaries.
    async fn expire_task(&self, key: &TaskKey) -> Result<(), StoreError> {
        summarize_behind(&self.tables(), &self.ingest.shared, Some(key)).await?;
        let mut transaction = self.begin(ACTION).await?;
        let summarized: Option<(i64,)> = sqlx::query_as(
            "update point_state set compacted = summarized, deleted = deleted + 1
              where workspace = $1 and task = $2 returning summarized",
        )
        .bind(&key.workspace)
        .bind(&key.task)
        .fetch_optional(&mut *transaction)
        .await
        .map_err(StoreError::database(ACTION))?;
        let Some((summarized,)) = summarized else {
            return Ok(());
        };
        // What is in the log beyond the summaries came just now; it goes the next time.
        for statement in [
            "delete from point_log where workspace = $1 and task = $2 and seq <= $3",
            "delete from chunk where workspace = $1 and task = $2 and $3 >= 0",
        ] {
            sqlx::query(statement)
                .bind(&key.workspace)
                .bind(&key.task)
                .bind(summarized)
                .execute(&mut *transaction)
                .await
                .map_err(StoreError::database(ACTION))?;
        }
        let committed = transaction.commit().await;
        committed.map_err(StoreError::database(ACTION))
    }
}
