//! Files, known by the SHA-256 of their content, wherever they lie.
//!
//! An object gets a name that was never used before, so that removing garbage can never hit
//! something newer; before it is written, its name is in the table `stray`, so that one that
//! nobody knows of any more is found without listing a store.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _};
use object_store::{GetOptions, ObjectStoreExt as _, WriteMultipart};
use sqlx::{Any, Transaction};
use trainshed_core::digest::Hasher;
use trainshed_core::{Address, Digest, Timestamp};

use crate::database::{Store, fresh_id};
use crate::error::StoreError;
use crate::places::{Object, stalled};
use crate::workspace::Workspace;

/// Bytes collected before they are written. Object stores take at most 10,000 parts.
const PART_BYTES: usize = 8 << 20;
/// Parts on their way to the disk while the next one is collected.
const PARTS_IN_FLIGHT: usize = 2;
/// How long ago a file was last uploaded or asked for before that is noted again.
const TOUCH_AFTER_MS: i64 = 3_600_000;

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
    /// The content has another length than was announced.
    #[error("the content has {found} bytes, but {expected} were announced")]
    WrongSize {
        /// As announced.
        expected: u64,
        /// Of the content.
        found: u64,
    },
    /// The content is longer than this server takes.
    #[error("the content has more than {limit} bytes, which is the most that this server takes")]
    TooLarge {
        /// The setting.
        limit: u64,
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
            Self::WrongSize { .. } => Some("Announce the length of what is sent.".into()),
            Self::TooLarge { .. } => {
                Some("`trainshed serve --max-upload-bytes` raises the limit.".into())
            }
            Self::BrokenOff { .. } => Some("Send the whole file again.".into()),
            Self::Store(error) => error.hint(),
        }
    }
}

/// What is known of an upload before its content comes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Upload<'a> {
    /// Its digest.
    pub sha256: Option<&'a Digest>,
    /// Its length.
    pub size_bytes: Option<u64>,
    /// Where it is to be kept; among the server's own files when absent. Content that is
    /// there already, wherever, stays where it is.
    pub destination: Option<&'a Address>,
}

/// A file on this machine, for programs that need a path. It must not be written to.
#[derive(Debug)]
pub struct LocalFile {
    path: PathBuf,
    /// Holds what was fetched for the occasion.
    _fetched: Option<tempfile::TempPath>,
}

impl LocalFile {
    /// Where it lies for as long as this value lives.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The content of a file, or of a range of it, as it comes from the disk.
pub type FileContent = BoxStream<'static, io::Result<Bytes>>;

/// Where a file lies.
#[derive(Debug, sqlx::FromRow)]
struct PlaceRow {
    size_bytes: i64,
    location: Option<String>,
    linked: i64,
    etag: Option<String>,
}

/// What became of written content.
pub(crate) struct Written {
    pub(crate) location: String,
    pub(crate) digest: Digest,
    pub(crate) size_bytes: u64,
}

impl Store {
    /// Stores `content` under its digest, which it returns; see [`Store::put_upload`].
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
        let upload = Upload {
            sha256: expected,
            ..Upload::default()
        };
        self.put_upload(workspace, &upload, content, now).await
    }

    /// The most bytes that one upload may have.
    pub fn max_upload_bytes(&self) -> u64 {
        self.places.settings.max_upload_bytes
    }

    /// Stores `content` under its digest, which it returns. Holds a few MiB, however long
    /// the content is. A file can be read only when it is whole, verified and durable;
    /// storing the same content again is harmless.
    ///
    /// # Errors
    /// When the content is not what was announced, breaks off, or cannot be written.
    pub async fn put_upload(
        &self,
        workspace: &Workspace,
        upload: &Upload<'_>,
        content: impl Stream<Item = io::Result<Bytes>> + Send,
        now: Timestamp,
    ) -> Result<Digest, PutError> {
        let written = self.write_object(upload, content, now).await?;
        let action = "record a file";
        let begun = self.begin(action).await;
        let mut transaction = begun.map_err(PutError::Store)?;
        let kept = insert_written(&mut transaction, workspace, &written, now).await;
        let kept = kept.map_err(|error| PutError::Store(StoreError::database(action)(error)))?;
        let committed = transaction.commit().await;
        committed.map_err(|error| PutError::Store(StoreError::database(action)(error)))?;
        match kept {
            Kept::Ours => {}
            Kept::Former => self.discard(&written.location).await,
            Kept::Lost => {
                let why = "it took so long that its beginning was removed";
                let error = io::Error::other(why);
                return Err(PutError::Store(StoreError::io("store a file")(error)));
            }
        }
        Ok(written.digest)
    }

    /// Writes `content` to a new object, which is in the table `stray` until its writer
    /// refers to it. Of content that is refused, nothing is left.
    pub(crate) async fn write_object(
        &self,
        upload: &Upload<'_>,
        content: impl Stream<Item = io::Result<Bytes>> + Send,
        now: Timestamp,
    ) -> Result<Written, PutError> {
        let limit = self.max_upload_bytes();
        if upload.size_bytes.is_some_and(|size| size > limit) {
            return Err(PutError::TooLarge { limit });
        }
        let location = fresh_location(upload.destination);
        let object = self.places.object(Some(&location), "");
        let object = object.map_err(PutError::Store)?;
        self.note_stray(&location, now)
            .await
            .map_err(PutError::Store)?;
        match self.fill(&object, upload, content).await {
            Ok((digest, size_bytes)) => Ok(Written {
                location,
                digest,
                size_bytes,
            }),
            Err(error) => {
                self.discard(&location).await;
                Err(error)
            }
        }
    }

    async fn fill(
        &self,
        object: &Object,
        upload: &Upload<'_>,
        content: impl Stream<Item = io::Result<Bytes>> + Send,
    ) -> Result<(Digest, u64), PutError> {
        let action = "store a file";
        let begun = self
            .places
            .in_time(action, object.store.put_multipart(&object.path));
        let begun = begun.await.map_err(PutError::Store)?;
        let mut writer = WriteMultipart::new_with_chunk_size(begun, PART_BYTES);
        match self.receive(&mut writer, upload, content).await {
            Ok(received) => {
                // It sends the last part, puts all together, and where that fails takes it back.
                let patience = self.places.settings.patience * 3;
                let finished = tokio::time::timeout(patience, writer.finish()).await;
                let finished = finished.unwrap_or_else(|_| Err(stalled(patience)));
                finished.map_err(|error| PutError::Store(StoreError::files(action)(error)))?;
                Ok(received)
            }
            Err(error) => {
                let aborted = self.places.in_time(action, writer.abort());
                if let Err(abort) = aborted.await {
                    tracing::warn!(error = %abort, "a refused upload was not removed");
                }
                Err(error)
            }
        }
    }

    /// Hands the content on while it is digested; returns its digest and length.
    async fn receive(
        &self,
        writer: &mut WriteMultipart,
        upload: &Upload<'_>,
        content: impl Stream<Item = io::Result<Bytes>> + Send,
    ) -> Result<(Digest, u64), PutError> {
        let limit = self.max_upload_bytes();
        let mut content = std::pin::pin!(content);
        let mut hasher = Hasher::default();
        let mut received = 0_u64;
        while let Some(piece) = content.next().await {
            let piece = piece.map_err(|source| PutError::BrokenOff { received, source })?;
            received = received.saturating_add(piece.len() as u64);
            if received > limit {
                return Err(PutError::TooLarge { limit });
            }
            if upload
                .size_bytes
                .is_some_and(|expected| received > expected)
            {
                break;
            }
            hasher.update(&piece);
            let room = writer.wait_for_capacity(PARTS_IN_FLIGHT);
            let room = self.places.in_time("store a file", room);
            room.await.map_err(PutError::Store)?;
            writer.put(piece);
        }
        if let Some(expected) = upload.size_bytes
            && expected != received
        {
            let found = received;
            return Err(PutError::WrongSize { expected, found });
        }
        let found = hasher.finish();
        match upload.sha256 {
            Some(expected) if *expected != found => Err(PutError::WrongDigest {
                expected: *expected,
                found,
            }),
            _ => Ok((found, received)),
        }
    }

    /// Records an object that is about to be written.
    async fn note_stray(&self, location: &str, now: Timestamp) -> Result<(), StoreError> {
        let action = "begin a file";
        let mut transaction = self.begin(action).await?;
        sqlx::query(
            "insert into stray (location, state, home, at) values ($1, 'incoming', $2, $3)",
        )
        .bind(location)
        .bind(&*self.home)
        .bind(now.as_millis())
        .execute(&mut *transaction)
        .await
        .map_err(StoreError::database(action))?;
        let committed = transaction.commit().await;
        committed.map_err(StoreError::database(action))
    }

    /// Removes an object of ours that nobody refers to. What goes wrong is left to the
    /// sweeper.
    pub(crate) async fn discard(&self, location: &str) {
        if let Err(error) = self.remove_stray(location).await {
            tracing::warn!(%error, location, "a file that is not needed was not removed yet");
        }
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
        let found = self.place(workspace, digest).await?;
        Ok(found.map(|row| unsigned(row.size_bytes)))
    }

    /// The address of a file that lies elsewhere than among the server's own.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn file_address(
        &self,
        workspace: &Workspace,
        digest: &Digest,
    ) -> Result<Option<String>, StoreError> {
        let found = self.place(workspace, digest).await?;
        let location = found.and_then(|row| row.location);
        Ok(location.filter(|location| location.contains("://")))
    }

    async fn place(
        &self,
        workspace: &Workspace,
        digest: &Digest,
    ) -> Result<Option<PlaceRow>, StoreError> {
        sqlx::query_as(
            "select size_bytes, location, linked, etag from file
              where workspace = $1 and sha256 = $2",
        )
        .bind(workspace.as_str())
        .bind(digest.to_string())
        .fetch_optional(&self.reader)
        .await
        .map_err(StoreError::database("look a file up"))
    }

    /// Those of `digests` that `workspace` has not uploaded yet. The others stay for as long
    /// as if they had been uploaded now.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn missing_files(
        &self,
        workspace: &Workspace,
        digests: &[Digest],
        now: Timestamp,
    ) -> Result<Vec<Digest>, StoreError> {
        let action = "look files up";
        let mut missing = Vec::new();
        let mut faded = Vec::new();
        let faded_at = now.plus_millis(-TOUCH_AFTER_MS).as_millis();
        for digest in digests {
            let touched: Option<(i64,)> =
                sqlx::query_as("select touched from file where workspace = $1 and sha256 = $2")
                    .bind(workspace.as_str())
                    .bind(digest.to_string())
                    .fetch_optional(&self.reader)
                    .await
                    .map_err(StoreError::database(action))?;
            match touched {
                None => missing.push(*digest),
                Some((touched,)) if touched < faded_at => faded.push(*digest),
                Some(_) => {}
            }
        }
        if faded.is_empty() {
            return Ok(missing);
        }
        let mut transaction = self.begin(action).await?;
        for digest in faded {
            let touched =
                sqlx::query("update file set touched = $1 where workspace = $2 and sha256 = $3")
                    .bind(now.as_millis())
                    .bind(workspace.as_str())
                    .bind(digest.to_string())
                    .execute(&mut *transaction)
                    .await
                    .map_err(StoreError::database(action))?;
            if touched.rows_affected() == 0 {
                missing.push(digest);
            }
        }
        let committed = transaction.commit().await;
        committed.map_err(StoreError::database(action))?;
        Ok(missing)
    }

    /// The content of a file that `workspace` has uploaded, or of that part of `range` that
    /// lies in it; `None` when it has not.
    ///
    /// # Errors
    /// When the store does not answer; [`StoreError::Changed`] when the file is an object
    /// elsewhere that is not what it was.
    pub async fn open_file(
        &self,
        workspace: &Workspace,
        digest: &Digest,
        range: Option<Range<u64>>,
    ) -> Result<Option<FileContent>, StoreError> {
        let action = "read a file";
        let mut looked_at: Option<Option<String>> = None;
        loop {
            let Some(row) = self.place(workspace, digest).await? else {
                return Ok(None);
            };
            match self.open_place(&row, digest, range.clone()).await {
                // It may have been removed, or replaced, since the row was read.
                Err(StoreError::Missing { .. }) if looked_at != Some(row.location.clone()) => {
                    looked_at = Some(row.location);
                }
                Err(StoreError::Missing { source, .. }) => {
                    return Err(StoreError::damaged(action)(source));
                }
                opened => return opened.map(Some),
            }
        }
    }

    async fn open_place(
        &self,
        row: &PlaceRow,
        digest: &Digest,
        range: Option<Range<u64>>,
    ) -> Result<FileContent, StoreError> {
        let action = "read a file";
        let size_bytes = unsigned(row.size_bytes);
        let range = range.map(|range| range.start..range.end.min(size_bytes));
        if range.as_ref().is_some_and(Range::is_empty) {
            return Ok(futures::stream::empty().boxed());
        }
        let object = self
            .places
            .object(row.location.as_deref(), &digest.to_string())?;
        let linked = row.linked != 0;
        let changed = || StoreError::Changed {
            address: row.location.clone().unwrap_or_default(),
        };
        let is_whole = range.is_none();
        let options = GetOptions {
            range: range.filter(|_| size_bytes > 0).map(Into::into),
            if_match: row.etag.clone().filter(|_| linked),
            ..GetOptions::default()
        };
        let opened = object.store.get_opts(&object.path, options);
        let opened = tokio::time::timeout(self.places.settings.patience, opened).await;
        let opened = match opened {
            Ok(Ok(opened)) => opened,
            Ok(Err(
                object_store::Error::Precondition { .. } | object_store::Error::NotModified { .. },
            )) => return Err(changed()),
            Ok(Err(object_store::Error::NotFound { .. })) if linked => return Err(changed()),
            Ok(Err(error @ object_store::Error::NotFound { .. })) => {
                let source = error.into();
                return Err(StoreError::Missing { action, source });
            }
            Ok(Err(error)) => return Err(StoreError::files(action)(error)),
            Err(_) => {
                return Err(StoreError::files(action)(stalled(
                    self.places.settings.patience,
                )));
            }
        };
        if opened.meta.size != size_bytes {
            return Err(if linked {
                changed()
            } else {
                let found = opened.meta.size;
                StoreError::damaged(action)(format!("it has {found} bytes, not {size_bytes}"))
            });
        }
        let content = patient(opened.into_stream(), self.places.settings.patience);
        Ok(if linked && is_whole {
            verified(content, *digest, changed())
        } else {
            content
        })
    }

    /// A file that `workspace` has uploaded, on this machine; `None` when it has not.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn local_file(
        &self,
        workspace: &Workspace,
        digest: &Digest,
    ) -> Result<Option<LocalFile>, StoreError> {
        use tokio::io::AsyncWriteExt as _;
        let action = "read a file";
        let Some(row) = self.place(workspace, digest).await? else {
            return Ok(None);
        };
        let object = self
            .places
            .object(row.location.as_deref(), &digest.to_string())?;
        if let Some(path) = object.file {
            let _fetched = None;
            return Ok(Some(LocalFile { path, _fetched }));
        }
        let Some(mut content) = self.open_file(workspace, digest, None).await? else {
            return Ok(None);
        };
        let fetched = tempfile::NamedTempFile::new().map_err(StoreError::io(action))?;
        let (file, path) = fetched.into_parts();
        let mut file = tokio::fs::File::from_std(file);
        while let Some(piece) = content.next().await {
            let piece = piece.map_err(StoreError::io(action))?;
            file.write_all(&piece)
                .await
                .map_err(StoreError::io(action))?;
        }
        file.flush().await.map_err(StoreError::io(action))?;
        Ok(Some(LocalFile {
            path: path.to_path_buf(),
            _fetched: Some(path),
        }))
    }
}

/// What a file's row refers to after an upload of its content.
pub(crate) enum Kept {
    /// The object that was just written.
    Ours,
    /// The one that was there; ours is garbage.
    Former,
    /// Nothing: ours was removed before its row was written.
    Lost,
}

/// Makes a file of a written object. One that is there stays, unless it is not ours.
pub(crate) async fn insert_written(
    transaction: &mut Transaction<'static, Any>,
    workspace: &Workspace,
    written: &Written,
    now: Timestamp,
) -> Result<Kept, sqlx::Error> {
    let known = sqlx::query("delete from stray where location = $1 and state = 'incoming'")
        .bind(&written.location)
        .execute(&mut **transaction)
        .await?;
    if known.rows_affected() == 0 {
        return Ok(Kept::Lost);
    }
    let (location,): (Option<String>,) = sqlx::query_as(
        "insert into file (workspace, sha256, size_bytes, created, location, touched)
         values ($1, $2, $3, $4, $5, $4)
         on conflict (workspace, sha256) do update
            set touched = excluded.touched,
                location = case file.linked when 1 then excluded.location else file.location end,
                etag = null, linked = 0
      returning location",
    )
    .bind(workspace.as_str())
    .bind(written.digest.to_string())
    .bind(bigint(written.size_bytes))
    .bind(now.as_millis())
    .bind(&written.location)
    .fetch_one(&mut **transaction)
    .await?;
    if location.as_deref() == Some(&*written.location) {
        return Ok(Kept::Ours);
    }
    throw_away(transaction, &written.location, now).await?;
    Ok(Kept::Former)
}

/// Notes that an object of ours is to be removed.
pub(crate) async fn throw_away(
    transaction: &mut Transaction<'static, Any>,
    location: &str,
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into stray (location, state, home, at) values ($1, 'garbage', '', $2)
         on conflict (location) do update set state = 'garbage'",
    )
    .bind(location)
    .bind(now.as_millis())
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// A name that no object has had.
fn fresh_location(destination: Option<&Address>) -> String {
    let id = format!("{:032x}", fresh_id());
    // The last digits are drawn, the first ones are the time.
    let name = format!("{}/{id}", &id[30..]);
    let inside = destination.and_then(|destination| destination.join(&name));
    inside.map_or(name, |address| address.to_string())
}

/// Where a content lies by its digest when files are in the data folder `folder`.
pub(crate) fn file_in(folder: &Path, digest: &Digest) -> PathBuf {
    let hex = digest.to_string();
    folder.join("files/sha256").join(&hex[..2]).join(hex)
}

/// Ends with an error when the next piece does not come in time.
pub(crate) fn patient(
    content: BoxStream<'static, object_store::Result<Bytes>>,
    patience: std::time::Duration,
) -> FileContent {
    let next = move |content: Option<BoxStream<'static, object_store::Result<Bytes>>>| async move {
        let mut content = content?;
        match tokio::time::timeout(patience, content.next()).await {
            Ok(Some(piece)) => Some((piece.map_err(io::Error::other), Some(content))),
            Ok(None) => None,
            Err(_) => Some((Err(io::Error::other(stalled(patience))), None)),
        }
    };
    futures::stream::unfold(Some(content), next).boxed()
}

/// Ends with `otherwise` when the content has not this digest.
fn verified(content: FileContent, digest: Digest, otherwise: StoreError) -> FileContent {
    let state = Some((content, Hasher::default(), otherwise));
    let next = move |state: Option<(FileContent, Hasher, StoreError)>| async move {
        let (mut content, mut hasher, otherwise) = state?;
        match content.next().await {
            Some(Ok(piece)) => {
                hasher.update(&piece);
                Some((Ok(piece), Some((content, hasher, otherwise))))
            }
            Some(Err(error)) => Some((Err(error), None)),
            None if hasher.finish() == digest => None,
            None => Some((Err(io::Error::other(otherwise)), None)),
        }
    };
    futures::stream::unfold(state, next).boxed()
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
