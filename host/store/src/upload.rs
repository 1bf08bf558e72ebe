//! Uploads that come in parts, and go on after whatever interrupts them.

use std::io;

use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use trainshed_core::view::{UploadPartView, UploadView};
use trainshed_core::{Digest, TaskId, Timestamp};

use crate::database::{Store, fresh_id};
use crate::error::StoreError;
use crate::file::{Kept, PutError, Upload, bigint, insert_written, throw_away, unsigned};
use crate::idempotency::note_made;
use crate::workspace::Workspace;

/// Most parts of one upload.
const MAX_PARTS: u32 = 10_000;

/// A part as it is announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UploadPart {
    /// 1 to 10,000; a number that comes again replaces its part.
    pub number: u32,
    /// Where it begins in the whole.
    pub offset: u64,
    /// Of its content.
    pub crc32c: u32,
}

/// Why an upload did not go on.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// There is no such upload, or no longer.
    #[error("there is no upload {0}: it was given up, or nothing came for a week")]
    Unknown(String),
    /// It has ended.
    #[error("upload {0} is complete: it takes no more parts")]
    Complete(String),
    /// The number of a part.
    #[error("the number of a part must be 1 to {MAX_PARTS}, but it is {0}")]
    Number(u32),
    /// A part that lies beyond the end.
    #[error("the part ends at byte {end}, but the upload was announced with {size_bytes} bytes")]
    Beyond {
        /// Its end.
        end: u64,
        /// Of the whole.
        size_bytes: u64,
    },
    /// The content of a part is not what was announced.
    #[error("the part has the CRC-32C {found:08x}, but {expected:08x} was announced")]
    WrongChecksum {
        /// As announced.
        expected: u32,
        /// Of the content.
        found: u32,
    },
    /// Not all of it is there.
    #[error("byte {0} has not come yet, or has come twice")]
    Gap(u64),
    /// The content was not taken.
    #[error(transparent)]
    Put(#[from] PutError),
}

impl From<StoreError> for UploadError {
    fn from(error: StoreError) -> Self {
        Self::Put(PutError::Store(error))
    }
}

impl UploadError {
    /// What the user can do about it, in one sentence.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown(_) => Some("Begin a new one with `POST /api/v1/uploads`.".into()),
            Self::WrongChecksum { .. } => Some("Send the part again.".into()),
            Self::Gap(_) => {
                Some("`GET /api/v1/uploads/{id}` lists the parts that are there.".into())
            }
            Self::Put(error) => error.hint(),
            _ => None,
        }
    }
}

#[derive(sqlx::FromRow)]
struct UploadRow {
    id: String,
    task: Option<String>,
    size_bytes: i64,
    sha256: Option<String>,
    result: Option<String>,
    created: i64,
    last_update: i64,
}

#[derive(sqlx::FromRow)]
struct PartRow {
    number: i64,
    first_byte: i64,
    size_bytes: i64,
    crc32c: i64,
    location: String,
}

impl Store {
    /// Begins an upload of `size_bytes` bytes, for a task or for none.
    ///
    /// # Errors
    /// [`PutError::TooLarge`], or when the database does not answer.
    pub async fn begin_upload(
        &self,
        workspace: &Workspace,
        upload: (u64, Option<&Digest>),
        task: Option<&TaskId>,
        now: Timestamp,
    ) -> Result<UploadView, UploadError> {
        let limit = self.max_upload_bytes();
        if upload.0 > limit {
            return Err(PutError::TooLarge { limit }.into());
        }
        let action = "begin an upload";
        let id = format!("{:032x}", fresh_id());
        let mut transaction = self.begin(action).await?;
        sqlx::query(
            "insert into upload (workspace, id, task, size_bytes, sha256, created, last_update)
             values ($1, $2, $3, $4, $5, $6, $6)",
        )
        .bind(workspace.as_str())
        .bind(&id)
        .bind(task.map(TaskId::as_str))
        .bind(bigint(upload.0))
        .bind(upload.1.map(Digest::to_string))
        .bind(now.as_millis())
        .execute(&mut *transaction)
        .await
        .map_err(StoreError::database(action))?;
        note_made(&mut transaction, || format!("/api/v1/uploads/{id}"))
            .await
            .map_err(StoreError::database(action))?;
        let committed = transaction.commit().await;
        committed.map_err(StoreError::database(action))?;
        self.upload(workspace, &id).await
    }

    /// An upload and its parts.
    ///
    /// # Errors
    /// [`UploadError::Unknown`], or when the database does not answer.
    pub async fn upload(&self, workspace: &Workspace, id: &str) -> Result<UploadView, UploadError> {
        let (row, parts) = self.upload_rows(workspace, id).await?;
        let action = "read an upload";
        let parsed = |text: Option<String>| {
            let digest = text.map(|text| text.parse::<Digest>()).transpose();
            digest.map_err(StoreError::damaged(action))
        };
        let view = |part: &PartRow| UploadPartView {
            number: u32::try_from(part.number).unwrap_or(u32::MAX),
            offset: unsigned(part.first_byte),
            size_bytes: unsigned(part.size_bytes),
            crc32c: format!("{:08x}", part.crc32c),
        };
        Ok(UploadView {
            id: row.id,
            task: row
                .task
                .map(|task| task.parse())
                .transpose()
                .map_err(StoreError::damaged(action))?,
            size_bytes: unsigned(row.size_bytes),
            sha256: parsed(row.sha256)?,
            stored: parsed(row.result)?,
            created: Timestamp(row.created),
            last_update: Timestamp(row.last_update),
            parts: parts.iter().map(view).collect(),
        })
    }

    async fn upload_rows(
        &self,
        workspace: &Workspace,
        id: &str,
    ) -> Result<(UploadRow, Vec<PartRow>), UploadError> {
        let action = "read an upload";
        let row: Option<UploadRow> = sqlx::query_as(
            "select id, task, size_bytes, sha256, result, created, last_update from upload
              where workspace = $1 and id = $2",
        )
        .bind(workspace.as_str())
        .bind(id)
        .fetch_optional(&self.reader)
        .await
        .map_err(StoreError::database(action))?;
        let row = row.ok_or_else(|| UploadError::Unknown(shown(id)))?;
        let parts: Vec<PartRow> = sqlx::query_as(
            "select number, first_byte, size_bytes, crc32c, location from upload_part
              where workspace = $1 and upload = $2 order by first_byte, number",
        )
        .bind(workspace.as_str())
        .bind(id)
        .fetch_all(&self.reader)
        .await
        .map_err(StoreError::database(action))?;
        Ok((row, parts))
    }

    /// Keeps one part. It is durable when this returns, and replaces one of its number.
    ///
    /// # Errors
    /// See [`UploadError`]; nothing of the part was kept then.
    pub async fn put_part(
        &self,
        workspace: &Workspace,
        id: &str,
        part: UploadPart,
        content: impl Stream<Item = io::Result<Bytes>> + Send,
        now: Timestamp,
    ) -> Result<(), UploadError> {
        if !(1..=MAX_PARTS).contains(&part.number) {
            return Err(UploadError::Number(part.number));
        }
        let (row, _) = self.upload_rows(workspace, id).await?;
        if row.result.is_some() {
            return Err(UploadError::Complete(row.id));
        }
        let size_bytes = unsigned(row.size_bytes);
        let room = size_bytes.saturating_sub(part.offset);
        let mut checksum = 0_u32;
        let mut received = 0_u64;
        let content = content.map(|piece| {
            let piece = piece?;
            received = received.saturating_add(piece.len() as u64);
            if received > room {
                return Err(io::Error::new(
                    io::ErrorKind::FileTooLarge,
                    "beyond the end",
                ));
            }
            checksum = crc32c::crc32c_append(checksum, &piece);
            Ok(piece)
        });
        let written = self.write_object(&Upload::default(), content, now).await;
        if received > room {
            let end = part.offset.saturating_add(received);
            return Err(UploadError::Beyond { end, size_bytes });
        }
        let written = written?;
        if checksum != part.crc32c {
            self.discard(&written.location).await;
            let (expected, found) = (part.crc32c, checksum);
            return Err(UploadError::WrongChecksum { expected, found });
        }
        let action = "keep a part";
        let mut transaction = self.begin(action).await?;
        let open = sqlx::query(
            "update upload set last_update = $1
              where workspace = $2 and id = $3 and result is null",
        )
        .bind(now.as_millis())
        .bind(workspace.as_str())
        .bind(id)
        .execute(&mut *transaction)
        .await
        .map_err(StoreError::database(action))?;
        let known = sqlx::query("delete from stray where location = $1 and state = 'incoming'")
            .bind(&written.location)
            .execute(&mut *transaction)
            .await
            .map_err(StoreError::database(action))?;
        if open.rows_affected() == 0 || known.rows_affected() == 0 {
            drop(transaction);
            self.discard(&written.location).await;
            return Err(UploadError::Unknown(shown(id)));
        }
        let former: Option<(String,)> = sqlx::query_as(
            "delete from upload_part where workspace = $1 and upload = $2 and number = $3
          returning location",
        )
        .bind(workspace.as_str())
        .bind(id)
        .bind(i64::from(part.number))
        .fetch_optional(&mut *transaction)
        .await
        .map_err(StoreError::database(action))?;
        if let Some((former,)) = &former {
            throw_away(&mut transaction, former, now)
                .await
                .map_err(StoreError::database(action))?;
        }
        sqlx::query(
            "insert into upload_part (workspace, upload, number, first_byte, size_bytes, crc32c,
                                      location)
             values ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(workspace.as_str())
        .bind(id)
        .bind(i64::from(part.number))
        .bind(bigint(part.offset))
        .bind(bigint(written.size_bytes))
        .bind(i64::from(checksum))
        .bind(&written.location)
        .execute(&mut *transaction)
        .await
        .map_err(StoreError::database(action))?;
        let committed = transaction.commit().await;
        committed.map_err(StoreError::database(action))?;
        if let Some((former,)) = former {
            self.discard(&former).await;
        }
        Ok(())
    }

    /// Makes a file of all parts, which must cover the whole exactly once. Completing it
    /// again answers the same.
    ///
    /// # Errors
    /// See [`UploadError`]; the parts are still there then.
    pub async fn complete_upload(
        &self,
        workspace: &Workspace,
        id: &str,
        destination: Option<&trainshed_core::Address>,
        now: Timestamp,
    ) -> Result<Digest, UploadError> {
        let action = "complete an upload";
        let damaged = |text: &str| text.parse::<Digest>().map_err(StoreError::damaged(action));
        let (row, parts) = self.upload_rows(workspace, id).await?;
        if let Some(result) = &row.result {
            return Ok(damaged(result)?);
        }
        let mut next = 0;
        for part in &parts {
            if unsigned(part.first_byte) != next {
                return Err(UploadError::Gap(next.min(unsigned(part.first_byte))));
            }
            next += unsigned(part.size_bytes);
        }
        let size_bytes = unsigned(row.size_bytes);
        if next != size_bytes {
            return Err(UploadError::Gap(next));
        }
        let expected = row.sha256.as_deref().map(damaged).transpose()?;
        let upload = Upload {
            sha256: expected.as_ref(),
            size_bytes: Some(size_bytes),
            destination,
        };
        let locations: Vec<String> = parts.into_iter().map(|part| part.location).collect();
        let content = self.joined(locations.clone());
        let written = self.write_object(&upload, content, now).await?;
        let mut transaction = self.begin(action).await?;
        let kept = insert_written(&mut transaction, workspace, &written, now)
            .await
            .map_err(StoreError::database(action))?;
        let open = sqlx::query(
            "update upload set result = $1, last_update = $2
              where workspace = $3 and id = $4 and result is null",
        )
        .bind(written.digest.to_string())
        .bind(now.as_millis())
        .bind(workspace.as_str())
        .bind(id)
        .execute(&mut *transaction)
        .await
        .map_err(StoreError::database(action))?;
        if open.rows_affected() == 0 || matches!(kept, Kept::Lost) {
            drop(transaction);
            self.discard(&written.location).await;
            // Somebody else completed it or gave it up meanwhile.
            let (row, _) = self.upload_rows(workspace, id).await?;
            let result = row.result.ok_or_else(|| UploadError::Unknown(shown(id)))?;
            return Ok(damaged(&result)?);
        }
        remove_parts(&mut transaction, workspace.as_str(), id, now)
            .await
            .map_err(StoreError::database(action))?;
        let committed = transaction.commit().await;
        committed.map_err(StoreError::database(action))?;
        if matches!(kept, Kept::Former) {
            self.discard(&written.location).await;
        }
        for location in &locations {
            self.discard(location).await;
        }
        Ok(written.digest)
    }

    /// The content of all parts, one after the other.
    fn joined(&self, locations: Vec<String>) -> impl Stream<Item = io::Result<Bytes>> + Send {
        use object_store::ObjectStoreExt as _;
        let store = self.clone();
        let parts = futures::stream::iter(locations).then(move |location| {
            let store = store.clone();
            async move {
                let object = store
                    .places
                    .object(Some(&location), "")
                    .map_err(io::Error::other)?;
                let opened = object.store.get(&object.path);
                let opened = store.places.in_time("read a part", opened).await;
                let content = opened.map_err(io::Error::other)?.into_stream();
                Ok::<_, io::Error>(content.map_err(io::Error::other))
            }
        });
        parts.try_flatten()
    }

    /// Gives an upload up and removes its parts.
    ///
    /// # Errors
    /// [`UploadError::Unknown`], or when the database does not answer.
    pub async fn abort_upload(
        &self,
        workspace: &Workspace,
        id: &str,
        now: Timestamp,
    ) -> Result<(), UploadError> {
        let action = "give an upload up";
        let (_, parts) = self.upload_rows(workspace, id).await?;
        let mut transaction = self.begin(action).await?;
        remove_parts(&mut transaction, workspace.as_str(), id, now)
            .await
            .map_err(StoreError::database(action))?;
        sqlx::query("delete from upload where workspace = $1 and id = $2")
            .bind(workspace.as_str())
            .bind(id)
            .execute(&mut *transaction)
            .await
            .map_err(StoreError::database(action))?;
        let committed = transaction.commit().await;
        committed.map_err(StoreError::database(action))?;
        for part in parts {
            self.discard(&part.location).await;
        }
        Ok(())
    }

    /// Forgets the uploads of one workspace or of all for which nothing came since `before`; how many,
    /// and the bytes of their parts. The parts are garbage then.
    pub(crate) async fn remove_uploads(
        &self,
        workspace: Option<&Workspace>,
        before: Timestamp,
        now: Timestamp,
    ) -> Result<(u64, u64), StoreError> {
        let action = "give uploads up";
        let mut transaction = self.begin(action).await?;
        let uploads: Vec<(String, String)> = sqlx::query_as(
            "select workspace, id from upload
                  where last_update <= $1 and ($2 = '' or workspace = $2)",
        )
        .bind(before.as_millis())
        .bind(workspace.map_or("", Workspace::as_str))
        .fetch_all(&mut *transaction)
        .await
        .map_err(StoreError::database(action))?;
        let mut bytes = 0_u64;
        for (workspace, id) in &uploads {
            let removed = remove_parts(&mut transaction, workspace, id, now).await;
            bytes = bytes.saturating_add(removed.map_err(StoreError::database(action))?);
            sqlx::query("delete from upload where workspace = $1 and id = $2")
                .bind(workspace)
                .bind(id)
                .execute(&mut *transaction)
                .await
                .map_err(StoreError::database(action))?;
        }
        let committed = transaction.commit().await;
        committed.map_err(StoreError::database(action))?;
        Ok((uploads.len() as u64, bytes))
    }
}

/// Notes the parts of an upload as garbage; how many bytes they have.
async fn remove_parts(
    transaction: &mut sqlx::Transaction<'static, sqlx::Any>,
    workspace: &str,
    id: &str,
    now: Timestamp,
) -> Result<u64, sqlx::Error> {
    let parts: Vec<(String, i64)> = sqlx::query_as(
        "delete from upload_part where workspace = $1 and upload = $2
      returning location, size_bytes",
    )
    .bind(workspace)
    .bind(id)
    .fetch_all(&mut **transaction)
    .await?;
    let mut bytes = 0_u64;
    for (location, size_bytes) in parts {
        throw_away(transaction, &location, now).await?;
        bytes = bytes.saturating_add(unsigned(size_bytes));
    }
    Ok(bytes)
}

fn shown(id: &str) -> String {
    id.chars().take(40).collect()
}
