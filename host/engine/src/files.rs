//! Uploads, where files are kept, and what becomes of those that nobody refers to.

use std::io;

use bytes::Bytes;
use futures::Stream;
use trainshed_core::address::InvalidAddress;
use trainshed_core::view::{GarbageView, ImportedFile, ListedObject, UploadView};
use trainshed_core::{Address, Digest, TaskId};
use trainshed_store::{
    GarbageRules, PutError, StoreError, Upload, UploadError, UploadPart, Workspace,
};

use crate::engine::Engine;

/// Why an address that a caller names is not used.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// It is none.
    #[error(transparent)]
    Invalid(#[from] InvalidAddress),
    /// The server may not be sent there.
    #[error("this server does not read or write at `{0}` for its callers")]
    NotAllowed(Address),
    /// Nothing can be written there.
    #[error("nothing can be written to `{0}`: a web server is only read from")]
    ReadOnly(Address),
    /// There is no such task.
    #[error("there is no task {0}")]
    UnknownTask(TaskId),
    /// The store failed.
    #[error("the address could not be used")]
    Store(#[from] StoreError),
}

impl AddressError {
    /// What the user can do about it, in one sentence.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotAllowed(address) => Some(format!(
                "Whoever runs the server can allow it with `trainshed serve --allow {address}`."
            )),
            Self::Store(error) => error.hint(),
            _ => None,
        }
    }
}

/// Why an upload did not come to be a file.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// The place where it was to go.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The content.
    #[error(transparent)]
    Put(#[from] PutError),
    /// An upload in parts.
    #[error(transparent)]
    Upload(#[from] UploadError),
}

/// What is known of an upload before its content comes.
#[derive(Debug, Clone, Default)]
pub struct NewUpload {
    /// Its digest.
    pub sha256: Option<Digest>,
    /// Its length.
    pub size_bytes: Option<u64>,
    /// The task whose output it is: it goes where that task's files go.
    pub task: Option<TaskId>,
}

impl Engine {
    /// Stores `content` and returns its digest. Storing it again is harmless.
    ///
    /// # Errors
    /// When the content is not what was announced, breaks off, or cannot be written.
    pub async fn take_file(
        &self,
        workspace: &Workspace,
        new: &NewUpload,
        content: impl Stream<Item = io::Result<Bytes>> + Send,
    ) -> Result<Digest, TakeError> {
        let destination = match &new.task {
            Some(task) => self.destination(workspace, task).await?,
            None => None,
        };
        let upload = Upload {
            sha256: new.sha256.as_ref(),
            size_bytes: new.size_bytes,
            destination: destination.as_ref(),
        };
        let now = self.now();
        let stored = self.store.put_upload(workspace, &upload, content, now);
        Ok(stored.await?)
    }

    /// Where a task's files are written: its own destination, that of its project, the
    /// server's; `None` for the server's own store.
    ///
    /// # Errors
    /// When there is no such task, or the place cannot be written to.
    pub async fn destination(
        &self,
        workspace: &Workspace,
        task: &TaskId,
    ) -> Result<Option<Address>, AddressError> {
        let asked = self.store.output_destination(workspace, task).await?;
        let asked = asked.ok_or_else(|| AddressError::UnknownTask(task.clone()))?;
        match asked {
            Some(destination) => self.check_destination(&destination).map(Some),
            None => Ok(self.file_settings().default_output.clone()),
        }
    }

    /// A place that tasks may have their files written to.
    ///
    /// # Errors
    /// When it is no address, is not allowed, or is only read from.
    pub fn check_destination(&self, destination: &str) -> Result<Address, AddressError> {
        let address = self.check_address(destination)?;
        if !address.is_writable() {
            return Err(AddressError::ReadOnly(address));
        }
        Ok(address)
    }

    /// A place that the server may be sent to.
    ///
    /// # Errors
    /// When it is no address or is not allowed.
    pub fn check_address(&self, address: &str) -> Result<Address, AddressError> {
        let address: Address = address.parse()?;
        if !self.file_settings().allows(&address) {
            return Err(AddressError::NotAllowed(address));
        }
        Ok(address)
    }

    /// Begins an upload in parts.
    ///
    /// # Errors
    /// When it is too large, or its task is unknown.
    pub async fn begin_upload(
        &self,
        workspace: &Workspace,
        size_bytes: u64,
        sha256: Option<&Digest>,
        task: Option<&TaskId>,
    ) -> Result<UploadView, TakeError> {
        if let Some(task) = task {
            self.destination(workspace, task).await?;
        }
        let begun = self
            .store
            .begin_upload(workspace, (size_bytes, sha256), task, self.now());
        Ok(begun.await?)
    }

    /// An upload with the parts that are there.
    ///
    /// # Errors
    /// When it is unknown.
    pub async fn upload(&self, workspace: &Workspace, id: &str) -> Result<UploadView, TakeError> {
        Ok(self.store.upload(workspace, id).await?)
    }

    /// Keeps a part of an upload. It is durable when this returns.
    ///
    /// # Errors
    /// See [`UploadError`].
    pub async fn put_part(
        &self,
        workspace: &Workspace,
        id: &str,
        part: UploadPart,
        content: impl Stream<Item = io::Result<Bytes>> + Send,
    ) -> Result<(), TakeError> {
        let now = self.now();
        Ok(self
            .store
            .put_part(workspace, id, part, content, now)
            .await?)
    }

    /// Makes a file of the parts of an upload; again answers the same.
    ///
    /// # Errors
    /// See [`UploadError`].
    pub async fn complete_upload(
        &self,
        workspace: &Workspace,
        id: &str,
    ) -> Result<Digest, TakeError> {
        let upload = self.store.upload(workspace, id).await?;
        let destination = match &upload.task {
            Some(task) => self.destination(workspace, task).await?,
            None => None,
        };
        let completed = self
            .store
            .complete_upload(workspace, id, destination.as_ref(), self.now());
        Ok(completed.await?)
    }

    /// Gives an upload up.
    ///
    /// # Errors
    /// When it is unknown.
    pub async fn abort_upload(&self, workspace: &Workspace, id: &str) -> Result<(), TakeError> {
        Ok(self.store.abort_upload(workspace, id, self.now()).await?)
    }

    /// Removes what nobody refers to, of one workspace or of all, or says what that is.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn collect_garbage(
        &self,
        workspace: Option<&Workspace>,
        rules: GarbageRules,
        dry_run: bool,
    ) -> Result<GarbageView, StoreError> {
        if dry_run {
            return self.store.find_garbage(workspace, rules, self.now()).await;
        }
        let garbage = self
            .store
            .collect_garbage(workspace, rules, self.now())
            .await?;
        if garbage.files + garbage.uploads > 0 {
            tracing::info!(?garbage, "what nobody refers to was removed");
        }
        Ok(garbage)
    }

    /// The objects at or below an address.
    ///
    /// # Errors
    /// When the server may not be sent there, or the store there does not answer.
    pub async fn list_objects(&self, address: &str) -> Result<Vec<ListedObject>, AddressError> {
        let address = self.check_address(address)?;
        Ok(self.store.list_objects(&address).await?)
    }

    /// Makes a file of an object elsewhere: a copy of it, or with `link` a note of where it is
    /// and what it holds. Either way all of it is read once.
    ///
    /// # Errors
    /// When the server may not be sent there, or the object cannot be read.
    pub async fn import_object(
        &self,
        workspace: &Workspace,
        address: &str,
        link: bool,
    ) -> Result<ImportedFile, TakeError> {
        let address = self.check_address(address)?;
        let imported = if link {
            self.store
                .link_object(workspace, &address, self.now())
                .await
        } else {
            self.store
                .copy_object(workspace, &address, self.now())
                .await
        };
        let (sha256, size_bytes) = imported?;
        Ok(ImportedFile { sha256, size_bytes })
    }
}
