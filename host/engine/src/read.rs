//! What can be read of a task.

use trainshed_core::TaskId;
use trainshed_core::parameter::Parameter;
use trainshed_core::task::TaskState;
use trainshed_core::view::{Page, SeriesSummary, SingleValue, TaskQuery, TaskView};
use trainshed_store::{CurvePage, QueryError, SampleQuery, Sampled, StoreError, Workspace};

use crate::engine::Engine;

/// Most samples of all curves of a task together: an answer of some ten megabytes.
pub const MAX_ALL_SAMPLES: usize = 500_000;

impl Engine {
    /// A page of the tasks that fit `query`, the newest first.
    ///
    /// # Errors
    /// When `query.after` is not the `next` of a page.
    pub async fn tasks(
        &self,
        workspace: &Workspace,
        query: TaskQuery,
    ) -> Result<Page<TaskView>, QueryError> {
        self.store.tasks(workspace, &query).await
    }

    /// A task.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn task(
        &self,
        workspace: &Workspace,
        id: &TaskId,
    ) -> Result<Option<TaskView>, StoreError> {
        self.store.task(workspace, id).await
    }

    /// The parameters of a task, by section and name; `None` when there is no such task, as
    /// with all that follow.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn parameters(
        &self,
        workspace: &Workspace,
        id: &TaskId,
    ) -> Result<Option<Vec<Parameter>>, StoreError> {
        if !self.has_task(workspace, id).await? {
            return Ok(None);
        }
        self.store.parameters(workspace, id).await.map(Some)
    }

    /// The summaries of all curves of a task, by title and series.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn scalars(
        &self,
        workspace: &Workspace,
        id: &TaskId,
    ) -> Result<Option<Vec<SeriesSummary>>, StoreError> {
        if !self.has_task(workspace, id).await? {
            return Ok(None);
        }
        self.store.series(workspace, id).await.map(Some)
    }

    /// At most `most` points of one curve by iteration, from `from` on; of several with one
    /// iteration the last reported. Empty when the task has no such curve.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn points(
        &self,
        workspace: &Workspace,
        id: &TaskId,
        curve: (&str, &str),
        from: u64,
        most: usize,
    ) -> Result<Option<CurvePage>, StoreError> {
        if !self.has_task(workspace, id).await? {
            return Ok(None);
        }
        let page = self.store.points(workspace, id, curve, from, most).await;
        page.map(Some)
    }

    /// Samples of one curve for a chart. Empty when the task has no such curve.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn sample(
        &self,
        workspace: &Workspace,
        id: &TaskId,
        curve: (&str, &str),
        query: &SampleQuery,
    ) -> Result<Option<Sampled>, StoreError> {
        if !self.has_task(workspace, id).await? {
            return Ok(None);
        }
        let sampled = self.store.sample(workspace, id, curve, query).await;
        sampled.map(Some)
    }

    /// Samples of every curve of a task, by title and series. Of many curves each has fewer
    /// samples than `query` asks for, so that all together are at most [`MAX_ALL_SAMPLES`].
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn sample_all(
        &self,
        workspace: &Workspace,
        id: &TaskId,
        mut query: SampleQuery,
    ) -> Result<Option<Vec<((String, String), Sampled)>>, StoreError> {
        let Some(scalars) = self.scalars(workspace, id).await? else {
            return Ok(None);
        };
        let curves: Vec<(String, String)> = scalars
            .into_iter()
            .map(|curve| (curve.title, curve.series))
            .collect();
        query.most = query.most.min(MAX_ALL_SAMPLES / curves.len().max(1)).max(1);
        let sampled = self
            .store
            .sample_curves(workspace, id, &curves, &query)
            .await?;
        Ok(Some(curves.into_iter().zip(sampled).collect()))
    }

    /// A text that changes whenever the points of a task do.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn points_version(
        &self,
        workspace: &Workspace,
        id: &TaskId,
    ) -> Result<String, StoreError> {
        self.store.points_version(workspace, id).await
    }

    /// The single values of a task by name.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn singles(
        &self,
        workspace: &Workspace,
        id: &TaskId,
    ) -> Result<Option<Vec<SingleValue>>, StoreError> {
        if !self.has_task(workspace, id).await? {
            return Ok(None);
        }
        self.store.singles(workspace, id).await.map(Some)
    }

    /// Whether the database answers and can be written to.
    ///
    /// # Errors
    /// When it does not or cannot, with the reason.
    pub async fn check_store(&self) -> Result<(), StoreError> {
        self.store.check().await
    }

    /// How many tasks are in each state; a state without tasks is left out.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn count_tasks(
        &self,
        workspace: &Workspace,
    ) -> Result<Vec<(TaskState, u64)>, StoreError> {
        self.store.count_tasks(workspace).await
    }

    async fn has_task(&self, workspace: &Workspace, id: &TaskId) -> Result<bool, StoreError> {
        Ok(self.store.task(workspace, id).await?.is_some())
    }
}
