//! Objects elsewhere: listed, copied, or recorded where they are.

use std::io;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path as ObjectPath;
use object_store::{ObjectMeta, ObjectStore as _, ObjectStoreExt as _};
use trainshed_core::digest::Hasher;
use trainshed_core::view::ListedObject;
use trainshed_core::{Address, Digest, TaskId, Timestamp};

use crate::database::Store;
use crate::error::StoreError;
use crate::file::{PutError, Upload, bigint, patient};
use crate::workspace::Workspace;

/// Most objects of one list.
const MAX_LISTED: usize = 1_000_000;

impl Store {
    /// Where a task wants its files, or its project does; `None` when there is no such task.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn output_destination(
        &self,
        workspace: &Workspace,
        task: &TaskId,
    ) -> Result<Option<Option<String>>, StoreError> {
        let row: Option<(Option<String>,)> = sqlx::query_as(
            "select coalesce(task.output_destination, project.default_output)
               from task join project on project.workspace = task.workspace
                    and project.id = task.project
              where task.workspace = $1 and task.id = $2",
        )
        .bind(workspace.as_str())
        .bind(task.as_str())
        .fetch_optional(&self.reader)
        .await
        .map_err(StoreError::database("look for a task's destination"))?;
        Ok(row.map(|(destination,)| destination.filter(|text| !text.is_empty())))
    }

    /// The objects at or below `address`, by path.
    ///
    /// # Errors
    /// When the store there does not answer, or has more than a million of them.
    pub async fn list_objects(&self, address: &Address) -> Result<Vec<ListedObject>, StoreError> {
        let action = "list objects";
        let place = self.places.at(address)?;
        let single = self.places.head(action, &place).await?;
        let mut found = Vec::new();
        if let Some(meta) = single {
            found.push(listed(address, &place.path, &meta));
        }
        let prefix = (!place.path.as_ref().is_empty()).then_some(&place.path);
        let mut listing = place.store.list(prefix);
        loop {
            let next = self.places.in_time(action, listing.try_next());
            let Some(meta) = next.await? else { break };
            if meta.location == place.path {
                continue;
            }
            if found.len() == MAX_LISTED {
                return Err(StoreError::misplaced(action)(format!(
                    "`{address}` holds more than {MAX_LISTED} objects"
                )));
            }
            found.push(listed(address, &place.path, &meta));
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    /// Copies an object into the server's own store.
    ///
    /// # Errors
    /// When it cannot be read or the copy cannot be written.
    pub async fn copy_object(
        &self,
        workspace: &Workspace,
        address: &Address,
        now: Timestamp,
    ) -> Result<(Digest, u64), PutError> {
        let (meta, content) = self.read_object(address).await.map_err(PutError::Store)?;
        let upload = Upload {
            size_bytes: Some(meta.size),
            ..Upload::default()
        };
        let digest = self.put_upload(workspace, &upload, content, now).await?;
        Ok((digest, meta.size))
    }

    /// Records an object as a file without copying it. A file of the same content that is
    /// there already stays where it is.
    ///
    /// # Errors
    /// When the object cannot be read.
    pub async fn link_object(
        &self,
        workspace: &Workspace,
        address: &Address,
        now: Timestamp,
    ) -> Result<(Digest, u64), PutError> {
        let (meta, content) = self.read_object(address).await.map_err(PutError::Store)?;
        let (digest, size_bytes) = digested(content).await?;
        if size_bytes != meta.size {
            return Err(PutError::Store(StoreError::Changed {
                address: address.to_string(),
            }));
        }
        let linked = self.insert_link(workspace, address, &meta, &digest, now);
        linked.await.map_err(PutError::Store)?;
        Ok((digest, size_bytes))
    }

    async fn insert_link(
        &self,
        workspace: &Workspace,
        address: &Address,
        meta: &ObjectMeta,
        digest: &Digest,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let action = "record an object";
        let mut transaction = self.begin(action).await?;
        sqlx::query(
            "insert into file (workspace, sha256, size_bytes, created, location, touched, linked,
                               etag)
             values ($1, $2, $3, $4, $5, $4, 1, $6)
             on conflict (workspace, sha256) do update
                set touched = excluded.touched,
                    location = case file.linked when 1 then excluded.location
                                                else file.location end,
                    etag = case file.linked when 1 then excluded.etag else file.etag end",
        )
        .bind(workspace.as_str())
        .bind(digest.to_string())
        .bind(bigint(meta.size))
        .bind(now.as_millis())
        .bind(address.to_string())
        .bind(meta.e_tag.as_deref())
        .execute(&mut *transaction)
        .await
        .map_err(StoreError::database(action))?;
        let committed = transaction.commit().await;
        committed.map_err(StoreError::database(action))
    }

    async fn read_object(
        &self,
        address: &Address,
    ) -> Result<(ObjectMeta, BoxStream<'static, io::Result<Bytes>>), StoreError> {
        let place = self.places.at(address)?;
        let action = "read an object";
        let opened = place.store.get(&place.path);
        let opened = self.places.in_time_at(action, address, opened).await?;
        let meta = opened.meta.clone();
        let content = patient(opened.into_stream(), self.places.settings.patience);
        Ok((meta, content))
    }
}

fn listed(address: &Address, root: &ObjectPath, meta: &ObjectMeta) -> ListedObject {
    let inside = meta.location.as_ref().strip_prefix(root.as_ref());
    let inside = inside.unwrap_or_default().trim_start_matches('/');
    let (uri, path) = match inside {
        "" => (Some(address.clone()), address.name()),
        inside => (address.join(inside), inside),
    };
    ListedObject {
        uri: uri.unwrap_or_else(|| address.clone()).to_string(),
        path: path.to_owned(),
        size_bytes: meta.size,
    }
}

async fn digested(
    mut content: BoxStream<'static, io::Result<Bytes>>,
) -> Result<(Digest, u64), PutError> {
    let mut hasher = Hasher::default();
    let mut received = 0_u64;
    while let Some(piece) = content.next().await {
        let piece = piece.map_err(|source| PutError::BrokenOff { received, source })?;
        received = received.saturating_add(piece.len() as u64);
        hasher.update(&piece);
    }
    Ok((hasher.finish(), received))
}
