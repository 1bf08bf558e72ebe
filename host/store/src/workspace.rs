//! Workspaces and the keys that open them.

use trainshed_core::{Digest, Timestamp, WorkspaceId};

use crate::database::{Store, fresh_id};
use crate::error::StoreError;

/// The queue that every workspace has.
pub(crate) const DEFAULT_QUEUE: &str = "default";

/// Permission to see and change one workspace. Only [`Store::authenticate`] makes one, so
/// no function can be asked for data of a workspace whose key was not shown; the work that a
/// store finds waiting comes with one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Workspace(WorkspaceId);

impl Workspace {
    /// Which workspace it is.
    pub fn id(&self) -> &WorkspaceId {
        &self.0
    }

    pub(crate) fn of(id: WorkspaceId) -> Self {
        Self(id)
    }

    pub(crate) fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl Store {
    /// Makes a workspace with a queue called `default` and a key for it; returns whether it did, which is false when the
    /// name is taken.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn create_workspace(
        &self,
        id: &WorkspaceId,
        name: &str,
        key: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let action = "make a workspace";
        let mut transaction = self.begin(action).await?;
        let made = sqlx::query(
            "insert into workspace (id, name, created) values ($1, $2, $3)
             on conflict do nothing",
        )
        .bind(id.as_str())
        .bind(name)
        .bind(now.as_millis())
        .execute(&mut *transaction)
        .await
        .map_err(StoreError::database(action))?;
        if made.rows_affected() == 0 {
            return Ok(false);
        }
        sqlx::query("insert into queue (workspace, id, name, created) values ($1, $2, $3, $4)")
            .bind(id.as_str())
            .bind(format!("{:032x}", fresh_id()))
            .bind(DEFAULT_QUEUE)
            .bind(now.as_millis())
            .execute(&mut *transaction)
            .await
            .map_err(StoreError::database(action))?;
        sqlx::query("insert into api_key (sha256, workspace, created) values ($1, $2, $3)")
            .bind(Digest::of(key.as_bytes()).to_string())
            .bind(id.as_str())
            .bind(now.as_millis())
            .execute(&mut *transaction)
            .await
            .map_err(StoreError::database(action))?;
        transaction
            .commit()
            .await
            .map_err(StoreError::database(action))?;
        Ok(true)
    }

    /// Adds a key to the workspace called `name`; returns whether there is such a workspace.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn add_key(&self, name: &str, key: &str, now: Timestamp) -> Result<bool, StoreError> {
        let action = "add a key";
        let mut transaction = self.begin(action).await?;
        let added = sqlx::query(
            "insert into api_key (sha256, workspace, created)
             select $1, id, $2 from workspace where name = $3",
        )
        .bind(Digest::of(key.as_bytes()).to_string())
        .bind(now.as_millis())
        .bind(name)
        .execute(&mut *transaction)
        .await
        .map_err(StoreError::database(action))?;
        transaction
            .commit()
            .await
            .map_err(StoreError::database(action))?;
        Ok(added.rows_affected() == 1)
    }

    /// The workspace that `key` opens. Only digests of keys are stored and compared.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn authenticate(&self, key: &str) -> Result<Option<Workspace>, StoreError> {
        let action = "check a key";
        let found: Option<(String,)> =
            sqlx::query_as("select workspace from api_key where sha256 = $1")
                .bind(Digest::of(key.as_bytes()).to_string())
                .fetch_optional(&self.reader)
                .await
                .map_err(StoreError::database(action))?;
        found
            .map(|(id,)| {
                id.parse()
                    .map(Workspace)
                    .map_err(StoreError::damaged(action))
            })
            .transpose()
    }
}
