//! Ending the leases of agents that are gone.

use sqlx::{Any, Transaction};
use trainshed_core::{TaskId, Timestamp, WorkspaceId};

use crate::database::Store;
use crate::dataset::delete_staged_version;
use crate::error::StoreError;
use crate::model::show_models;

/// A task whose lease was ended by somebody else than its agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedTask {
    /// Where the task is.
    pub workspace: WorkspaceId,
    /// Which task.
    pub task: TaskId,
}

#[derive(sqlx::FromRow)]
struct LeasedRow {
    workspace: String,
    id: String,
    agent_name: String,
    output_model: Option<String>,
}

impl Store {
    /// Gives every running task until `lease_until`, for agents that could not renew while no
    /// server ran.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn extend_leases(&self, lease_until: Timestamp) -> Result<(), StoreError> {
        let action = "extend leases";
        let mut transaction = self.begin(action).await?;
        sqlx::query(
            "update task set lease_until = $1 where state = 'in_progress' and lease_until < $1",
        )
        .bind(lease_until.as_millis())
        .execute(&mut *transaction)
        .await
        .map_err(StoreError::database(action))?;
        let committed = transaction.commit().await;
        committed.map_err(StoreError::database(action))
    }

    /// Stops the tasks of every workspace whose lease has run out.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn end_expired_leases(&self, now: Timestamp) -> Result<Vec<EndedTask>, StoreError> {
        let action = "end expired leases";
        let mut transaction = self.begin(action).await?;
        let expired: Vec<LeasedRow> = sqlx::query_as(
            "select task.workspace, task.id, agent.name as agent_name, output_model
               from task join agent on agent.workspace = task.workspace and agent.id = task.agent
              where state = 'in_progress' and lease_until < $1",
        )
        .bind(now.as_millis())
        .fetch_all(&mut *transaction)
        .await
        .map_err(StoreError::database(action))?;
        let reason = |row: &LeasedRow| {
            format!(
                "interrupted: the agent `{}` stopped answering",
                row.agent_name
            )
        };
        interrupt(transaction, action, expired, reason, now).await
    }

    /// Stops the tasks of every workspace that agents of this data folder's server run, for
    /// `reason`: those agents have ended.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn end_local_leases(
        &self,
        reason: &str,
        now: Timestamp,
    ) -> Result<Vec<EndedTask>, StoreError> {
        let action = "end the leases of local agents";
        let mut transaction = self.begin(action).await?;
        let left: Vec<LeasedRow> = sqlx::query_as(
            "select task.workspace, task.id, agent.name as agent_name, output_model
               from task join agent on agent.workspace = task.workspace and agent.id = task.agent
              where state = 'in_progress' and is_local = 1 and home in ('', $1)",
        )
        .bind(&*self.home)
        .fetch_all(&mut *transaction)
        .await
        .map_err(StoreError::database(action))?;
        let reason = |_: &LeasedRow| reason.to_owned();
        interrupt(transaction, action, left, reason, now).await
    }
}

/// Stops tasks whose agents are gone. Their fences grow, so that an agent that was only
/// slow is refused. What they had reported stays, their models with it: a model is how one
/// goes on from there.
async fn interrupt(
    mut transaction: Transaction<'static, Any>,
    action: &'static str,
    rows: Vec<LeasedRow>,
    reason: impl Fn(&LeasedRow) -> String,
    now: Timestamp,
) -> Result<Vec<EndedTask>, StoreError> {
    let mut ended = Vec::with_capacity(rows.len());
    for row in rows {
        let task: TaskId = row.id.parse().map_err(StoreError::damaged(action))?;
        sqlx::query(
            "update task
                set state = 'stopped', state_reason = $1, ended = $2, state_changed = $2,
                    last_update = $2,
                    lease_until = null, fence = fence + 1
              where workspace = $3 and id = $4 and state = 'in_progress'",
        )
        .bind(reason(&row))
        .bind(now.as_millis())
        .bind(&row.workspace)
        .bind(&row.id)
        .execute(&mut *transaction)
        .await
        .map_err(StoreError::database(action))?;
        let output = row.output_model.as_deref();
        show_models(&mut transaction, &row.workspace, &task, output)
            .await
            .map_err(StoreError::database(action))?;
        // Its experiment goes on once it hears of this.
        sqlx::query("update trial set state = 'lost' where workspace = $1 and task = $2")
            .bind(&row.workspace)
            .bind(&row.id)
            .execute(&mut *transaction)
            .await
            .map_err(StoreError::database(action))?;
        delete_staged_version(&mut transaction, &row.workspace, &task)
            .await
            .map_err(StoreError::database(action))?;
        let workspace = row.workspace.parse();
        ended.push(EndedTask {
            workspace: workspace.map_err(StoreError::damaged(action))?,
            task,
        });
    }
    let committed = transaction.commit().await;
    committed.map_err(StoreError::database(action))?;
    Ok(ended)
}
