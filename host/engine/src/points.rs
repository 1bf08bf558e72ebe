//! Points that clients report, without a lease.

use trainshed_core::TaskId;
use trainshed_store::{AppendError, Appended, PointBatch, StoreError, Workspace};

use crate::engine::Engine;

impl Engine {
    /// Records points and single values of a task, all or none. A batch with a key that was
    /// recorded in the last day is not recorded again. Names and numbers of the batch have
    /// been checked.
    ///
    /// # Errors
    /// When there is no such task, it is published, it has too many curves, or more comes in
    /// than can be written.
    pub async fn append_points(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        batch: &PointBatch<'_>,
    ) -> Result<Appended, AppendError> {
        let appended = self
            .store
            .append_points(workspace, task, batch, self.now())
            .await?;
        if !appended.repeated {
            self.changes().task_changed(workspace.id(), task);
        }
        Ok(appended)
    }

    /// Deletes all points, single values and summaries of a task; returns whether there is
    /// such a task.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn delete_points(
        &self,
        workspace: &Workspace,
        task: &TaskId,
    ) -> Result<bool, StoreError> {
        let deleted = self.store.delete_points(workspace, task).await?;
        if deleted {
            self.changes().task_changed(workspace.id(), task);
        }
        Ok(deleted)
    }

    /// Deletes the points of tasks that ended longer ago than their project keeps them;
    /// summaries stay. Returns how many tasks that were.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn expire_points(&self) -> Result<usize, StoreError> {
        let expired = self.store.expire_points(self.now()).await?;
        for (workspace, task) in &expired {
            tracing::info!(%task, "the points of a task were deleted: they are too old");
            self.changes().task_changed(workspace, task);
        }
        Ok(expired.len())
    }
}
