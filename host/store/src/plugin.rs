//! Installed plugins: manifests of components, by digest.

use trainshed_core::draft::Script;
use trainshed_core::manifest::Manifest;
use trainshed_core::view::PluginView;
use trainshed_core::{Digest, Timestamp};

use crate::database::Store;
use crate::error::StoreError;
use crate::file::unsigned;
use crate::workspace::Workspace;

/// Why a plugin was not installed.
#[derive(Debug, thiserror::Error)]
pub enum InsertPluginError {
    /// The name and version belong to another component.
    #[error("`{name}@{version}` is installed already, with the digest {digest}")]
    VersionTaken {
        /// Of the manifest.
        name: String,
        /// Of the manifest.
        version: String,
        /// Of the component that has them.
        digest: Digest,
    },
    /// The store failed.
    #[error("the plugin could not be recorded")]
    Store(#[source] StoreError),
}

#[derive(sqlx::FromRow)]
struct PluginRow {
    digest: String,
    manifest: String,
    size_bytes: i64,
    created: i64,
}

impl Store {
    /// Installs the component `digest`, whose file the workspace has uploaded. A component
    /// that is installed already stays as it is.
    ///
    /// # Errors
    /// When another component has the same name and version.
    pub async fn insert_plugin(
        &self,
        workspace: &Workspace,
        digest: &Digest,
        manifest: &Manifest,
        now: Timestamp,
    ) -> Result<(), InsertPluginError> {
        let action = "install a plugin";
        let failed = InsertPluginError::Store;
        let json = serde_json::to_string(manifest)
            .map_err(|error| failed(StoreError::damaged(action)(error)))?;
        let mut transaction = self.begin(action).await.map_err(failed)?;
        sqlx::query(
            "insert into plugin (workspace, digest, name, version, manifest, size_bytes, created,
                                 contract)
             select workspace, sha256, $3, $4, $5, size_bytes, $6, $7
               from file where workspace = $1 and sha256 = $2
             on conflict do nothing",
        )
        .bind(workspace.as_str())
        .bind(digest.to_string())
        .bind(&manifest.name)
        .bind(&manifest.version)
        .bind(json)
        .bind(now.as_millis())
        .bind(&manifest.contract)
        .execute(&mut *transaction)
        .await
        .map_err(|error| failed(StoreError::database(action)(error)))?;
        let (owner,): (String,) = sqlx::query_as(
            "select digest from plugin
              where workspace = $1 and (digest = $2 or (name = $3 and version = $4))
              order by digest = $2 desc limit 1",
        )
        .bind(workspace.as_str())
        .bind(digest.to_string())
        .bind(&manifest.name)
        .bind(&manifest.version)
        .fetch_one(&mut *transaction)
        .await
        .map_err(|error| failed(StoreError::database(action)(error)))?;
        let owner: Digest = owner
            .parse()
            .map_err(|error| failed(StoreError::damaged(action)(error)))?;
        if owner != *digest {
            return Err(InsertPluginError::VersionTaken {
                name: manifest.name.clone(),
                version: manifest.version.clone(),
                digest: owner,
            });
        }
        let committed = transaction.commit().await;
        committed.map_err(|error| failed(StoreError::database(action)(error)))
    }

    /// Records where a component came from; returns whether it is installed.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn set_plugin_source(
        &self,
        workspace: &Workspace,
        digest: &Digest,
        source: &Script,
    ) -> Result<bool, StoreError> {
        let action = "record the source of a plugin";
        let json = serde_json::to_string(source).map_err(StoreError::damaged(action))?;
        let mut transaction = self.begin(action).await?;
        let updated =
            sqlx::query("update plugin set source = $1 where workspace = $2 and digest = $3")
                .bind(json)
                .bind(workspace.as_str())
                .bind(digest.to_string())
                .execute(&mut *transaction)
                .await
                .map_err(StoreError::database(action))?;
        let committed = transaction.commit().await;
        committed.map_err(StoreError::database(action))?;
        Ok(updated.rows_affected() > 0)
    }

    /// Where a component came from, if that was recorded.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn plugin_source(
        &self,
        workspace: &Workspace,
        digest: &Digest,
    ) -> Result<Option<Script>, StoreError> {
        let action = "read the source of a plugin";
        let row: Option<(Option<String>,)> =
            sqlx::query_as("select source from plugin where workspace = $1 and digest = $2")
                .bind(workspace.as_str())
                .bind(digest.to_string())
                .fetch_optional(&self.reader)
                .await
                .map_err(StoreError::database(action))?;
        let source = row.and_then(|(source,)| source);
        source
            .map(|source| serde_json::from_str(&source))
            .transpose()
            .map_err(StoreError::damaged(action))
    }

    /// An installed plugin, by the digest of its component; without its source.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn plugin(
        &self,
        workspace: &Workspace,
        digest: &Digest,
    ) -> Result<Option<PluginView>, StoreError> {
        let row: Option<PluginRow> = sqlx::query_as(
            "select digest, manifest, size_bytes, created from plugin
              where workspace = $1 and digest = $2",
        )
        .bind(workspace.as_str())
        .bind(digest.to_string())
        .fetch_optional(&self.reader)
        .await
        .map_err(StoreError::database("read a plugin"))?;
        row.map(PluginRow::view).transpose()
    }

    /// All installed plugins, by name, the last installed version first; without their sources,
    /// which are long.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn plugins(&self, workspace: &Workspace) -> Result<Vec<PluginView>, StoreError> {
        let rows: Vec<PluginRow> = sqlx::query_as(
            "select digest, manifest, size_bytes, created from plugin
              where workspace = $1 order by name, created desc, digest",
        )
        .bind(workspace.as_str())
        .fetch_all(&self.reader)
        .await
        .map_err(StoreError::database("list plugins"))?;
        rows.into_iter().map(PluginRow::view).collect()
    }
}

impl PluginRow {
    fn view(self) -> Result<PluginView, StoreError> {
        let action = "read a plugin";
        Ok(PluginView {
            digest: self.digest.parse().map_err(StoreError::damaged(action))?,
            size_bytes: unsigned(self.size_bytes),
            manifest: serde_json::from_str(&self.manifest).map_err(StoreError::damaged(action))?,
            source: None,
            created: Timestamp(self.created),
        })
    }
}
