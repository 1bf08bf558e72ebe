//! What the machines of agents do.

use trainshed_core::resource::Reading;
use trainshed_core::view::AgentDetails;
use trainshed_core::{AgentId, TaskId, Timestamp};

use crate::database::Store;
use crate::error::StoreError;
use crate::workspace::Workspace;

/// How long readings are kept: a week of half minutes is 20,000 small rows for an agent.
const KEPT_MS: i64 = 7 * 24 * 60 * 60 * 1000;

#[derive(sqlx::FromRow)]
struct AgentRow {
    id: String,
    name: String,
    is_local: i64,
    last_seen: i64,
    task: Option<String>,
}

impl Store {
    /// Keeps a reading and forgets those that are older than a week; returns whether there
    /// is such an agent. A reading of the same time is replaced.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn insert_reading(
        &self,
        workspace: &Workspace,
        agent: &AgentId,
        reading: &Reading,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let action = "record what a machine does";
        let mut transaction = self.begin(action).await?;
        let inserted = sqlx::query(
            "insert into resource (workspace, agent, at, readings)
             select workspace, id, $1, $2 from agent where workspace = $3 and id = $4
             on conflict (workspace, agent, at) do update set readings = excluded.readings",
        )
        .bind(reading.at.as_millis())
        .bind(serde_json::json!(reading.values).to_string())
        .bind(workspace.as_str())
        .bind(agent.as_str())
        .execute(&mut *transaction)
        .await
        .map_err(StoreError::database(action))?;
        sqlx::query("delete from resource where workspace = $1 and agent = $2 and at < $3")
            .bind(workspace.as_str())
            .bind(agent.as_str())
            .bind(now.as_millis().saturating_sub(KEPT_MS))
            .execute(&mut *transaction)
            .await
            .map_err(StoreError::database(action))?;
        let committed = transaction.commit().await;
        committed.map_err(StoreError::database(action))?;
        Ok(inserted.rows_affected() == 1)
    }

    /// At most `limit` readings of an agent from `from` on, the oldest first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn readings(
        &self,
        workspace: &Workspace,
        agent: &AgentId,
        from: Timestamp,
        limit: u32,
    ) -> Result<Vec<Reading>, StoreError> {
        let action = "read what a machine does";
        let rows: Vec<(i64, String)> = sqlx::query_as(
            "select at, readings from resource
              where workspace = $1 and agent = $2 and at >= $3 order by at limit $4",
        )
        .bind(workspace.as_str())
        .bind(agent.as_str())
        .bind(from.as_millis())
        .bind(i64::from(limit))
        .fetch_all(&self.reader)
        .await
        .map_err(StoreError::database(action))?;
        rows.into_iter().map(reading).collect()
    }

    /// The agents that were seen since `since`, the last seen first; at most `limit`.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn agents(
        &self,
        workspace: &Workspace,
        since: Timestamp,
        limit: u32,
    ) -> Result<Vec<AgentDetails>, StoreError> {
        let action = "list agents";
        let rows: Vec<AgentRow> = sqlx::query_as(
            "select agent.id, agent.name, is_local, last_seen,
                    (select min(task.id) from task
                      where task.workspace = agent.workspace and task.agent = agent.id
                        and task.state = 'in_progress') as task
               from agent where agent.workspace = $1 and last_seen >= $2
              order by last_seen desc, agent.id limit $3",
        )
        .bind(workspace.as_str())
        .bind(since.as_millis())
        .bind(i64::from(limit))
        .fetch_all(&self.reader)
        .await
        .map_err(StoreError::database(action))?;
        let mut agents = Vec::with_capacity(rows.len());
        for row in rows {
            let newest: Option<(i64, String)> = sqlx::query_as(
                "select at, readings from resource
                  where workspace = $1 and agent = $2 order by at desc limit 1",
            )
            .bind(workspace.as_str())
            .bind(&row.id)
            .fetch_optional(&self.reader)
            .await
            .map_err(StoreError::database(action))?;
            let task: Option<Result<TaskId, _>> = row.task.map(|task| task.parse());
            agents.push(AgentDetails {
                id: row.id.parse().map_err(StoreError::damaged(action))?,
                name: row.name,
                local: row.is_local != 0,
                last_seen: Timestamp(row.last_seen),
                task: task.transpose().map_err(StoreError::damaged(action))?,
                resources: newest.map(reading).transpose()?,
            });
        }
        Ok(agents)
    }
}

fn reading((at, values): (i64, String)) -> Result<Reading, StoreError> {
    let values = serde_json::from_str(&values);
    Ok(Reading {
        at: Timestamp(at),
        values: values.map_err(StoreError::damaged("read what a machine does"))?,
    })
}
