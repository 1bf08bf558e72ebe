//! Workspaces and the keys that open them.

use sqlx::{Any, Transaction};
use trainshed_core::view::{KeyView, key_id};
use trainshed_core::{Digest, Timestamp, WorkspaceId};

use crate::database::{Store, fresh_id};
use crate::error::StoreError;
use crate::idempotency::note_made;

/// The queue that every workspace has.
pub(crate) const DEFAULT_QUEUE: &str = "default";
/// Most keys of a workspace.
const MAX_KEYS: i64 = 10_000;

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

/// Why a key was not made or taken back.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// There is no such key.
    #[error("there is no key `{0}`")]
    Unknown(String),
    /// Nobody could get in any more.
    #[error("it is the only key: without it nobody could get in")]
    Last,
    /// There are as many as there may be.
    #[error("there are {MAX_KEYS} keys already")]
    TooMany,
    /// The store failed.
    #[error("the keys could not be changed")]
    Store(#[from] StoreError),
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

    /// The workspace that `key` opens.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn authenticate(&self, key: &str) -> Result<Option<Workspace>, StoreError> {
        let holder = self.key_holder(key).await?;
        Ok(holder.map(|(workspace, _)| workspace))
    }

    /// The workspace that `key` opens, and whose the key is. Only digests of keys are stored
    /// and compared.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn key_holder(&self, key: &str) -> Result<Option<(Workspace, String)>, StoreError> {
        let action = "check a key";
        let found: Option<(String, String)> =
            sqlx::query_as("select workspace, name from api_key where sha256 = $1")
                .bind(Digest::of(key.as_bytes()).to_string())
                .fetch_optional(&self.reader)
                .await
                .map_err(StoreError::database(action))?;
        found
            .map(|(id, name)| {
                let id = id.parse().map_err(StoreError::damaged(action))?;
                Ok((Workspace(id), name))
            })
            .transpose()
    }

    /// The keys of a workspace, the oldest first; none is `current`.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn keys(&self, workspace: &Workspace) -> Result<Vec<KeyView>, StoreError> {
        let action = "list keys";
        let rows: Vec<(String, String, i64)> = sqlx::query_as(
            "select sha256, name, created from api_key
              where workspace = $1 order by created, sha256",
        )
        .bind(workspace.as_str())
        .fetch_all(&self.reader)
        .await
        .map_err(StoreError::database(action))?;
        let view = |(sha256, name, created): (String, String, i64)| {
            let digest: Digest = sha256.parse().map_err(StoreError::damaged(action))?;
            Ok(KeyView {
                id: key_id(&digest),
                name,
                created: Timestamp(created),
                current: false,
            })
        };
        rows.into_iter().map(view).collect()
    }

    /// Adds a key of `name` to a workspace.
    ///
    /// # Errors
    /// When the workspace has as many as it may have.
    pub async fn make_key(
        &self,
        workspace: &Workspace,
        name: &str,
        key: &str,
        now: Timestamp,
    ) -> Result<KeyView, KeyError> {
        let action = "make a key";
        let mut transaction = self.begin(action).await?;
        if count_keys(&mut transaction, workspace).await? >= MAX_KEYS {
            return Err(KeyError::TooMany);
        }
        let digest = Digest::of(key.as_bytes());
        sqlx::query(
            "insert into api_key (sha256, workspace, created, name) values ($1, $2, $3, $4)",
        )
        .bind(digest.to_string())
        .bind(workspace.as_str())
        .bind(now.as_millis())
        .bind(name)
        .execute(&mut *transaction)
        .await
        .map_err(StoreError::database(action))?;
        note_made(&mut transaction, || "/api/v1/keys".to_owned())
            .await
            .map_err(StoreError::database(action))?;
        let committed = transaction.commit().await;
        committed.map_err(StoreError::database(action))?;
        Ok(KeyView {
            id: key_id(&digest),
            name: name.to_owned(),
            created: now,
            current: false,
        })
    }

    /// Takes a key back for good.
    ///
    /// # Errors
    /// When there is no such key, or it is the last one.
    pub async fn revoke_key(&self, workspace: &Workspace, id: &str) -> Result<(), KeyError> {
        let action = "revoke a key";
        let mut transaction = self.begin(action).await?;
        let left = count_keys(&mut transaction, workspace).await?;
        let deleted =
            sqlx::query("delete from api_key where workspace = $1 and substr(sha256, 1, 16) = $2")
                .bind(workspace.as_str())
                .bind(id)
                .execute(&mut *transaction)
                .await
                .map_err(StoreError::database(action))?;
        if deleted.rows_affected() == 0 {
            return Err(KeyError::Unknown(id.to_owned()));
        }
        if left == 1 {
            return Err(KeyError::Last);
        }
        let committed = transaction.commit().await;
        Ok(committed.map_err(StoreError::database(action))?)
    }
}

async fn count_keys(
    transaction: &mut Transaction<'static, Any>,
    workspace: &Workspace,
) -> Result<i64, StoreError> {
    let (count,): (i64,) = sqlx::query_as("select count(*) from api_key where workspace = $1")
        .bind(workspace.as_str())
        .fetch_one(&mut **transaction)
        .await
        .map_err(StoreError::database("count keys"))?;
    Ok(count)
}
