//! What can be read of a task.

use trainshed_core::TaskId;
use trainshed_core::report::{Point, Sample};
use trainshed_core::task::TaskState;
use trainshed_core::view::{ConsolePage, Page, SeriesSummary, SingleValue, TaskQuery, TaskView};
use trainshed_store::{ParameterRow, QueryError, StoreError, Workspace};

use crate::engine::Engine;

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
    ) -> Result<Option<Vec<ParameterRow>>, StoreError> {
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

    /// The points of one curve by iteration; of several with one iteration the last
    /// reported. Empty when the task has no such curve.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn points(
        &self,
        workspace: &Workspace,
        id: &TaskId,
        title: &str,
        series: &str,
    ) -> Result<Option<Vec<Point>>, StoreError> {
        if !self.has_task(workspace, id).await? {
            return Ok(None);
        }
        let points = self.store.points(workspace, id, title, series).await;
        points.map(Some)
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

    /// At most `limit` lines of the console: from line number `first` on, or the last ones.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn console(
        &self,
        workspace: &Workspace,
        id: &TaskId,
        first: Option<u64>,
        limit: u64,
    ) -> Result<Option<ConsolePage>, StoreError> {
        if !self.has_task(workspace, id).await? {
            return Ok(None);
        }
        let page = match first {
            Some(first) => self.store.console(workspace, id, first, limit).await,
            None => self.store.console_tail(workspace, id, limit).await,
        };
        page.map(Some)
    }

    /// The samples of a task by category, group and index.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn samples(
        &self,
        workspace: &Workspace,
        id: &TaskId,
    ) -> Result<Option<Vec<Sample>>, StoreError> {
        if !self.has_task(workspace, id).await? {
            return Ok(None);
        }
        self.store.samples(workspace, id).await.map(Some)
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
