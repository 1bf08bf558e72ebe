//! Whether the store can work, and how much is in it.

use sqlx::Executor as _;
use trainshed_core::task::TaskState;

use crate::database::Store;
use crate::error::StoreError;
use crate::file::unsigned;
use crate::workspace::Workspace;

impl Store {
    /// Whether the database answers and can be written to.
    ///
    /// # Errors
    /// When it does not or cannot, with the reason.
    pub async fn check(&self) -> Result<(), StoreError> {
        let action = "check the database";
        let read = self.reader.execute("select 1").await;
        read.map_err(StoreError::database(action))?;
        let mut transaction = self.begin(action).await?;
        // Takes the lock for writing, and changes nothing.
        let written = transaction
            .execute("update workspace set name = name where id = ''")
            .await;
        written.map_err(StoreError::database(action))?;
        let committed = transaction.commit().await;
        committed.map_err(StoreError::database(action))
    }

    /// How many tasks are in each state; a state without tasks is left out.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn count_tasks(
        &self,
        workspace: &Workspace,
    ) -> Result<Vec<(TaskState, u64)>, StoreError> {
        let action = "count tasks";
        let rows: Vec<(String, i64)> = sqlx::query_as(
            "select state, count(*) from task where workspace = $1 group by state order by state",
        )
        .bind(workspace.as_str())
        .fetch_all(&self.reader)
        .await
        .map_err(StoreError::database(action))?;
        let counts = rows.into_iter().map(|(state, count)| {
            let known = TaskState::parse(&state);
            let known = known.ok_or_else(|| format!("there is no state `{state}`"));
            Ok((known.map_err(StoreError::damaged(action))?, unsigned(count)))
        });
        counts.collect()
    }
}
