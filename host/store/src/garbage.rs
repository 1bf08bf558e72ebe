//! What nobody refers to any more, and how it goes.

use std::fmt::Write as _;

use trainshed_core::Timestamp;
use trainshed_core::view::GarbageView;

use crate::database::Store;
use crate::error::StoreError;
use crate::file::{throw_away, unsigned};
use crate::workspace::Workspace;

/// The columns that refer to files. Every foreign key to the table `file` is one; a test
/// compares them, and the database refuses to remove a file that another one refers to.
pub const FILE_REFERENCES: &[(&str, &str)] = &[
    ("plugin", "digest"),
    ("dataset_file", "sha256"),
    ("model", "sha256"),
    ("trial_checkpoint", "sha256"),
    ("plot", "sha256"),
    ("sample", "sha256"),
    ("artifact", "sha256"),
];

/// Files of one transaction: others wait for it.
const FILES_AT_ONCE: i64 = 500;

/// An object that has been written for so long is written by nobody any more. It does not
/// depend on what a caller asks for: uploads are also other people's.
const WRITTEN_FOR_MS: i64 = 7 * 86_400_000;

/// What may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GarbageRules {
    /// A file that nobody refers to stays for this long after it was last uploaded or asked
    /// for: whoever uploads refers to it only afterwards.
    pub keep_ms: i64,
    /// An upload in parts stays for this long after its last part.
    pub keep_uploads_ms: i64,
}

impl Default for GarbageRules {
    /// A day, a week.
    fn default() -> Self {
        Self {
            keep_ms: 86_400_000,
            keep_uploads_ms: 7 * 86_400_000,
        }
    }
}

/// What was or would be removed.
pub type Garbage = GarbageView;

#[derive(sqlx::FromRow)]
struct FileRow {
    workspace: String,
    sha256: String,
    size_bytes: i64,
    location: Option<String>,
    linked: i64,
}

impl Store {
    /// Removes files that nobody refers to, uploads that were abandoned, and what was left of
    /// both, of one workspace or of all. Objects that are not ours stay. Safe while others upload and
    /// refer: a file that somebody refers to by the time that it would be removed stays.
    ///
    /// Removing is tried again later where a store does not answer; the answer counts what
    /// was found, and what is still there.
    ///
    /// # Errors
    /// When the database does not answer. What was found until then is removed later.
    pub async fn collect_garbage(
        &self,
        workspace: Option<&Workspace>,
        rules: GarbageRules,
        now: Timestamp,
    ) -> Result<Garbage, StoreError> {
        let mut garbage = Garbage::default();
        self.abandon_uploads(workspace, &rules, now, &mut garbage)
            .await?;
        loop {
            let found = self
                .forget_files(workspace, &rules, now, &mut garbage)
                .await?;
            self.remove_strays(now, &mut garbage).await?;
            if found < FILES_AT_ONCE {
                return Ok(garbage);
            }
        }
    }

    /// What [`Store::collect_garbage`] would remove now.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn find_garbage(
        &self,
        workspace: Option<&Workspace>,
        rules: GarbageRules,
        now: Timestamp,
    ) -> Result<Garbage, StoreError> {
        let action = "count what nobody refers to";
        let count = format!(
            "select count(*), cast(coalesce(sum(size_bytes), 0) as bigint) from file
              where touched <= $1 and ($2 = '' or workspace = $2) and {}",
            unreferenced()
        );
        let (files, bytes): (i64, i64) = sqlx::query_as(sqlx::AssertSqlSafe(count))
            .bind(now.plus_millis(-rules.keep_ms).as_millis())
            .bind(workspace.map_or("", Workspace::as_str))
            .fetch_one(&self.reader)
            .await
            .map_err(StoreError::database(action))?;
        let (uploads, upload_bytes): (i64, i64) = sqlx::query_as(
            "select count(distinct upload.id),
                    cast(coalesce(sum(upload_part.size_bytes), 0) as bigint)
               from upload left join upload_part on upload_part.workspace = upload.workspace
                    and upload_part.upload = upload.id
              where upload.last_update <= $1 and ($2 = '' or upload.workspace = $2)",
        )
        .bind(now.plus_millis(-rules.keep_uploads_ms).as_millis())
        .bind(workspace.map_or("", Workspace::as_str))
        .fetch_one(&self.reader)
        .await
        .map_err(StoreError::database(action))?;
        let (strays,): (i64,) =
            sqlx::query_as("select count(*) from stray where state = 'garbage' or at <= $1")
                .bind(now.plus_millis(-WRITTEN_FOR_MS).as_millis())
                .fetch_one(&self.reader)
                .await
                .map_err(StoreError::database(action))?;
        Ok(Garbage {
            files: unsigned(files),
            file_bytes: unsigned(bytes),
            uploads: unsigned(uploads),
            upload_bytes: unsigned(upload_bytes),
            left_over: unsigned(strays),
        })
    }

    /// Forgets some files that nobody refers to, and notes their objects as garbage, in one
    /// transaction; returns how many.
    async fn forget_files(
        &self,
        workspace: Option<&Workspace>,
        rules: &GarbageRules,
        now: Timestamp,
        garbage: &mut Garbage,
    ) -> Result<i64, StoreError> {
        let action = "forget files";
        let select = format!(
            "select workspace, sha256, size_bytes, location, linked from file
              where touched <= $1 and ($2 = '' or workspace = $2) and {}
              order by touched limit {FILES_AT_ONCE}",
            unreferenced()
        );
        let mut transaction = self.begin(action).await?;
        let rows: Vec<FileRow> = sqlx::query_as(sqlx::AssertSqlSafe(select))
            .bind(now.plus_millis(-rules.keep_ms).as_millis())
            .bind(workspace.map_or("", Workspace::as_str))
            .fetch_all(&mut *transaction)
            .await
            .map_err(StoreError::database(action))?;
        for row in &rows {
            sqlx::query("delete from file where workspace = $1 and sha256 = $2")
                .bind(&row.workspace)
                .bind(&row.sha256)
                .execute(&mut *transaction)
                .await
                .map_err(StoreError::database(action))?;
            garbage.files += 1;
            garbage.file_bytes += unsigned(row.size_bytes);
            if row.linked != 0 {
                continue;
            }
            let location = match &row.location {
                Some(location) => location.clone(),
                // Before objects had names of their own, workspaces shared them by digest.
                None => {
                    let (others,): (i64,) = sqlx::query_as(
                        "select count(*) from file where sha256 = $1 and location is null",
                    )
                    .bind(&row.sha256)
                    .fetch_one(&mut *transaction)
                    .await
                    .map_err(StoreError::database(action))?;
                    if others > 0 {
                        continue;
                    }
                    format!("sha256/{}/{}", &row.sha256[..2], row.sha256)
                }
            };
            throw_away(&mut transaction, &location, now)
                .await
                .map_err(StoreError::database(action))?;
        }
        let committed = transaction.commit().await;
        committed.map_err(StoreError::database(action))?;
        Ok(i64::try_from(rows.len()).unwrap_or(i64::MAX))
    }

    /// Removes the objects that are garbage, and those that were being written so long ago
    /// that nobody writes them any more.
    async fn remove_strays(&self, now: Timestamp, garbage: &mut Garbage) -> Result<(), StoreError> {
        let action = "remove files";
        let mut transaction = self.begin(action).await?;
        sqlx::query("update stray set state = 'garbage' where state = 'incoming' and at <= $1")
            .bind(now.plus_millis(-WRITTEN_FOR_MS).as_millis())
            .execute(&mut *transaction)
            .await
            .map_err(StoreError::database(action))?;
        let committed = transaction.commit().await;
        committed.map_err(StoreError::database(action))?;
        let strays: Vec<(String,)> =
            sqlx::query_as("select location from stray where state = 'garbage' order by at")
                .fetch_all(&self.reader)
                .await
                .map_err(StoreError::database(action))?;
        garbage.left_over = 0;
        let mut silent: Vec<String> = Vec::new();
        for (location,) in strays {
            // A store that does not answer is asked once.
            let place = location
                .split_once("://")
                .map_or("", |(_, rest)| rest.split('/').next().unwrap_or_default());
            if silent.iter().any(|known| known == place) {
                garbage.left_over += 1;
                continue;
            }
            if let Err(error) = self.remove_stray(&location).await {
                tracing::warn!(%error, location, "a file that nobody refers to is still there");
                garbage.left_over += 1;
                silent.push(place.to_owned());
            }
        }
        Ok(())
    }

    /// Removes an object that is in the table `stray`, and then its row.
    pub(crate) async fn remove_stray(&self, location: &str) -> Result<(), StoreError> {
        let action = "remove a file";
        let object = self.places.object(Some(location), "")?;
        self.places.remove(&object).await?;
        let mut transaction = self.begin(action).await?;
        sqlx::query("delete from stray where location = $1")
            .bind(location)
            .execute(&mut *transaction)
            .await
            .map_err(StoreError::database(action))?;
        let committed = transaction.commit().await;
        committed.map_err(StoreError::database(action))
    }

    /// Nobody writes any more what a former process of this data folder was writing.
    pub(crate) async fn disown_uploads(&self) -> Result<(), StoreError> {
        let action = "look for unfinished uploads";
        let mut transaction = self.begin(action).await?;
        let disowned = sqlx::query(
            "update stray set state = 'garbage' where state = 'incoming' and home = $1",
        )
        .bind(&*self.home)
        .execute(&mut *transaction)
        .await
        .map_err(StoreError::database(action))?;
        let committed = transaction.commit().await;
        committed.map_err(StoreError::database(action))?;
        if disowned.rows_affected() == 0 {
            return Ok(());
        }
        let left: Vec<(String,)> =
            sqlx::query_as("select location from stray where state = 'garbage' and home = $1")
                .bind(&*self.home)
                .fetch_all(&self.reader)
                .await
                .map_err(StoreError::database(action))?;
        for (location,) in left {
            self.discard(&location).await;
        }
        Ok(())
    }

    async fn abandon_uploads(
        &self,
        workspace: Option<&Workspace>,
        rules: &GarbageRules,
        now: Timestamp,
        garbage: &mut Garbage,
    ) -> Result<(), StoreError> {
        let before = now.plus_millis(-rules.keep_uploads_ms);
        let (uploads, bytes) = self.remove_uploads(workspace, before, now).await?;
        garbage.uploads += uploads;
        garbage.upload_bytes += bytes;
        Ok(())
    }
}

/// The condition that no row refers to a row of `file`.
fn unreferenced() -> String {
    let mut condition = String::from("true");
    for (table, column) in FILE_REFERENCES {
        write!(
            condition,
            " and not exists (select 1 from {table} where {table}.workspace = file.workspace
                                 and {table}.{column} = file.sha256)"
        )
        .expect("writing to a text cannot fail");
    }
    condition
}
