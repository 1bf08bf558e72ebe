//! Files, named by the SHA-256 of their content.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use object_store::path::Path as FilePath;
use object_store::{GetOptions, ObjectStore as _, ObjectStoreExt as _, WriteMultipart};
use trainshed_core::digest::Hasher;
use trainshed_core::{Digest, Timestamp};

use crate::database::{Store, fresh_id};
use crate::error::StoreError;
use crate::workspace::Workspace;

/// Bytes collected before they are written: the least part that every object store takes.
const PART_BYTES: usize = 5 << 20;
/// Parts on their way to the disk while the next one is collected.
const PARTS_IN_FLIGHT: usize = 2;

/// Folder of uploads that are under way.
const INCOMING: &str = "incoming";

/// Why a file was not taken. Nothing of it was kept.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// The content is not what it was announced as.
    #[error("the content has the SHA-256 {found}, but {expected} was announced")]
    WrongDigest {
        /// As announced.
        expected: Digest,
        /// Of the content.
        found: Digest,
    },
    /// The sender went away in the middle.
    #[error("the upload broke off after {received} bytes")]
    BrokenOff {
        /// Bytes that came before.
        received: u64,
        /// What was heard of it.
        source: io::Error,
    },
    /// The store failed.
    #[error("the file could not be stored")]
    Store(#[source] StoreError),
}

impl PutError {
    /// What the user can do about it, in one sentence.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::WrongDigest { .. } => {
                Some("Compute the SHA-256 of exactly the bytes that are sent.".into())
            }
            Self::BrokenOff { .. } => Some("Send the whole file again.".into()),
            Self::Store(error) => error.hint(),
        }
    }
}

/// The content of a file, or of a range of it, as it comes from the disk.
pub type FileContent = BoxStream<'static, io::Result<Bytes>>;

impl Store {
    /// Stores `content` under its digest, which it returns. Holds a few MiB, however long
    /// the content is. A file appears under its name only whole, verified and durable;
    /// storing the same content again is harmless.
    ///
    /// # Errors
    /// When the content has not the digest `expected`, breaks off, or cannot be written.
    pub async fn put_file(
        &self,
        workspace: &Workspace,
        expected: Option<&Digest>,
        content: impl Stream<Item = io::Result<Bytes>> + Send,
        now: Timestamp,
    ) -> Result<Digest, PutError> {
        let unstored = |error| PutError::Store(StoreError::files("store a file")(error));
        let incoming = FilePath::from(format!("{INCOMING}/{:032x}", fresh_id()));
        let upload = self
            .files
            .put_multipart(&incoming)
            .await
            .map_err(unstored)?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
        match receive(&mut upload, expected, content).await {
            Ok((digest, size_bytes)) => {
                upload.finish().await.map_err(unstored)?;
                let location = location(&digest);
                let renamed = self.files.rename(&incoming, &location);
                renamed.await.map_err(unstored)?;
                self.insert_file(workspace, &digest, size_bytes, now)
                    .await
                    .map_err(PutError::Store)?;
                Ok(digest)
            }
            Err(error) => {
                if let Err(abort) = upload.abort().await {
                    tracing::warn!(error = %abort, "a refused upload was not removed");
                }
                Err(error)
            }
        }
    }

    async fn insert_file(
        &self,
        workspace: &Workspace,
        digest: &Digest,
        size_bytes: u64,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let action = "record a file";
        let mut transaction = self.begin(action).await?;
        sqlx::query(
            "insert into file (workspace, sha256, size_bytes, created)
             values ($1, $2, $3, $4) on conflict do nothing",
        )
        .bind(workspace.as_str())
        .bind(digest.to_string())
        .bind(bigint(size_bytes))
        .bind(now.as_millis())
        .execute(&mut *transaction)
        .await
        .map_err(StoreError::database(action))?;
        transaction
            .commit()
            .await
            .map_err(StoreError::database(action))
    }

    /// The length of a file that `workspace` has uploaded; `None` when it has not.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn file_size(
        &self,
        workspace: &Workspace,
        digest: &Digest,
    ) -> Result<Option<u64>, StoreError> {
        let found: Option<(i64,)> =
            sqlx::query_as("select size_bytes from file where workspace = $1 and sha256 = $2")
                .bind(workspace.as_str())
                .bind(digest.to_string())
                .fetch_optional(&self.reader)
                .await
                .map_err(StoreError::database("look a file up"))?;
        Ok(found.map(|(size_bytes,)| unsigned(size_bytes)))
    }

    /// Those of `digests` that `workspace` has not uploaded yet.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn missing_files(
        &self,
        workspace: &Workspace,
        digests: &[Digest],
    ) -> Result<Vec<Digest>, StoreError> {
        let mut missing = Vec::new();
        for digest in digests {
            if self.file_size(workspace, digest).await?.is_none() {
                missing.push(*digest);
            }
        }
        Ok(missing)
    }

    /// The content of a file that `workspace` has uploaded, or of that part of `range` that
    /// lies in it; `None` when it has not.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn open_file(
        &self,
        workspace: &Workspace,
        digest: &Digest,
        range: Option<Range<u64>>,
    ) -> Result<Option<FileContent>, StoreError> {
        let action = "read a file";
        let Some(size_bytes) = self.file_size(workspace, digest).await? else {
            return Ok(None);
        };
        let range = range.map(|range| range.start..range.end.min(size_bytes));
        if range.as_ref().is_some_and(Range::is_empty) {
            return Ok(Some(futures::stream::empty().boxed()));
        }
        let options = GetOptions {
            range: range.map(Into::into),
            ..GetOptions::default()
        };
        let opened = self.files.get_opts(&location(digest), options).await;
        let opened = opened.map_err(|error| match error {
            object_store::Error::NotFound { .. } => StoreError::damaged(action)(error),
            other => StoreError::files(action)(other),
        })?;
        Ok(Some(opened.into_stream().map_err(io::Error::other).boxed()))
    }

    /// Where a stored file lies on this machine, for programs that need a path. It must not
    /// be written to.
    pub fn file_path(&self, digest: &Digest) -> PathBuf {
        self.files_folder.join(location(digest).as_ref())
    }
}

/// Hands the content on while it is digested; returns its digest and length.
async fn receive(
    upload: &mut WriteMultipart,
    expected: Option<&Digest>,
    content: impl Stream<Item = io::Result<Bytes>> + Send,
) -> Result<(Digest, u64), PutError> {
    let mut content = std::pin::pin!(content);
    let mut hasher = Hasher::default();
    let mut received = 0_u64;
    while let Some(piece) = content.next().await {
        let piece = piece.map_err(|source| PutError::BrokenOff { received, source })?;
        received = received.saturating_add(piece.len() as u64);
        hasher.update(&piece);
        upload
            .wait_for_capacity(PARTS_IN_FLIGHT)
            .await
            .map_err(|error| PutError::Store(StoreError::files("store a file")(error)))?;
        upload.put(piece);
    }
    let found = hasher.finish();
    match expected {
        Some(expected) if *expected != found => Err(PutError::WrongDigest {
            expected: *expected,
            found,
        }),
        _ => Ok((found, received)),
    }
}

/// Where a content lies when files are in the data folder `folder`.
pub(crate) fn file_in(folder: &Path, digest: &Digest) -> PathBuf {
    folder.join("files").join(location(digest).as_ref())
}

/// Two levels, because some file systems are slow with many files in one folder.
fn location(digest: &Digest) -> FilePath {
    let hex = digest.to_string();
    FilePath::from(format!("sha256/{}/{hex}", &hex[..2]))
}

/// Removes what uploads left behind that a killed process had begun.
pub(crate) fn remove_partial_uploads(files_folder: &Path) -> Result<(), StoreError> {
    match std::fs::remove_dir_all(files_folder.join(INCOMING)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(StoreError::io("remove unfinished uploads")(error))
        }
        _ => Ok(()),
    }
}

/// A count as the database has it. Counts beyond its range do not occur: they would be
/// exbibytes; the largest number stands for them.
pub(crate) fn bigint(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A count that the database holds; it never stores a negative one.
pub(crate) fn unsigned(stored: i64) -> u64 {
    u64::try_from(stored).unwrap_or(0)
}
