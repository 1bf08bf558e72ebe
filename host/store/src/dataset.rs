//! Data sets: their versions and the files in them.

use sqlx::{Any, Transaction};
use trainshed_core::dataset::FileEntry;
use trainshed_core::view::DatasetView;
use trainshed_core::{Digest, TaskId, Timestamp};

use crate::database::{Store, fresh_id};
use crate::error::StoreError;
use crate::file::{bigint, unsigned};
use crate::workspace::Workspace;

/// A data set version to be recorded; its files are sealed, see
/// [`trainshed_core::dataset::seal`].
#[derive(Debug, Clone, Copy)]
pub struct NewVersion<'a> {
    /// Of the data set: a known one gets a new version, otherwise it is made.
    pub name: &'a str,
    /// The version it was made from.
    pub parent: Option<u64>,
    /// What its maker says of it.
    pub description: &'a str,
    /// Of all files together.
    pub digest: &'a Digest,
    /// Ordered by path.
    pub files: &'a [FileEntry],
}

/// Why a data set version was not recorded.
#[derive(Debug, thiserror::Error)]
pub enum InsertDatasetError {
    /// A file was not uploaded before, or has another length than the list says.
    #[error("the content of `{path}` ({sha256}, {size_bytes} bytes) has not been uploaded")]
    MissingFile {
        /// Where it would lie in the data set.
        path: String,
        /// As listed.
        sha256: Digest,
        /// As listed.
        size_bytes: u64,
    },
    /// The store failed.
    #[error("the data set could not be recorded")]
    Store(#[source] StoreError),
}

#[derive(sqlx::FromRow)]
struct DatasetRow {
    id: i64,
    uuid: String,
    name: String,
    number: i64,
    parent: Option<i64>,
    task: Option<String>,
    digest: String,
    description: String,
    file_count: i64,
    size_bytes: i64,
    created: i64,
}

#[derive(sqlx::FromRow)]
struct FileRow {
    path: String,
    sha256: String,
    size_bytes: i64,
}

impl Store {
    /// Records a version. When the newest version of that name has the same digest already,
    /// that one is returned and nothing is recorded.
    ///
    /// # Errors
    /// When a file is not there.
    pub async fn insert_dataset(
        &self,
        workspace: &Workspace,
        version: &NewVersion<'_>,
        now: Timestamp,
    ) -> Result<DatasetView, InsertDatasetError> {
        let action = "record a data set";
        let begun = self.begin(action).await;
        let mut transaction = begun.map_err(InsertDatasetError::Store)?;
        let newest: Option<(i64, String)> = sqlx::query_as(
            "select id, digest from dataset
              where workspace = $1 and name = $2 and state = 'visible'
              order by number desc limit 1",
        )
        .bind(workspace.as_str())
        .bind(version.name)
        .fetch_optional(&mut *transaction)
        .await
        .map_err(database_error)?;
        if let Some((id, digest)) = newest
            && digest == version.digest.to_string()
        {
            return read_version(&mut transaction, workspace, id)
                .await
                .map_err(database_error)?
                .ok_or(sqlx::Error::RowNotFound)
                .map_err(database_error)?
                .view()
                .map_err(InsertDatasetError::Store);
        }
        let row = insert_version(&mut transaction, workspace, version, None, now).await?;
        transaction.commit().await.map_err(database_error)?;
        row.view().map_err(InsertDatasetError::Store)
    }

    /// All visible versions, without their files, the newest first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn datasets(&self, workspace: &Workspace) -> Result<Vec<DatasetView>, StoreError> {
        let rows: Vec<DatasetRow> = sqlx::query_as(
            "select id, uuid, name, number, parent, task, digest, description,
                    file_count, size_bytes, created
               from dataset where workspace = $1 and state = 'visible' order by id desc",
        )
        .bind(workspace.as_str())
        .fetch_all(&self.reader)
        .await
        .map_err(StoreError::database("list data sets"))?;
        rows.into_iter().map(DatasetRow::view).collect()
    }

    /// A visible version with its files.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn dataset(
        &self,
        workspace: &Workspace,
        id: u64,
    ) -> Result<Option<DatasetView>, StoreError> {
        let action = "read a data set";
        let row: Option<DatasetRow> = sqlx::query_as(
            "select id, uuid, name, number, parent, task, digest, description,
                    file_count, size_bytes, created
               from dataset where workspace = $1 and id = $2 and state = 'visible'",
        )
        .bind(workspace.as_str())
        .bind(bigint(id))
        .fetch_optional(&self.reader)
        .await
        .map_err(StoreError::database(action))?;
        let Some(row) = row else { return Ok(None) };
        let files: Vec<FileRow> = sqlx::query_as(
            "select path, sha256, size_bytes from dataset_file
              where workspace = $1 and dataset = $2 order by path",
        )
        .bind(workspace.as_str())
        .bind(row.id)
        .fetch_all(&self.reader)
        .await
        .map_err(StoreError::database(action))?;
        let files: Result<Vec<FileEntry>, StoreError> =
            files.into_iter().map(FileRow::entry).collect();
        let mut view = row.view()?;
        view.files = Some(files?);
        Ok(Some(view))
    }

    /// Ids and names of all visible versions, for hints about a wrong id; at most `limit`,
    /// the newest first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn dataset_names(
        &self,
        workspace: &Workspace,
        limit: u32,
    ) -> Result<Vec<(u64, String)>, StoreError> {
        let rows: Vec<(i64, String)> = sqlx::query_as(
            "select id, name from dataset where workspace = $1 and state = 'visible'
              order by id desc limit $2",
        )
        .bind(workspace.as_str())
        .bind(i64::from(limit))
        .fetch_all(&self.reader)
        .await
        .map_err(StoreError::database("list data sets"))?;
        let named = |(id, name)| (unsigned(id), name);
        Ok(rows.into_iter().map(named).collect())
    }
}

/// Inserts a version with its files: staged when a running task makes it, else visible.
async fn insert_version(
    transaction: &mut Transaction<'static, Any>,
    workspace: &Workspace,
    version: &NewVersion<'_>,
    task: Option<&TaskId>,
    now: Timestamp,
) -> Result<DatasetRow, InsertDatasetError> {
    let last: Option<(String, i64)> = sqlx::query_as(
        "select uuid, number from dataset where workspace = $1 and name = $2
          order by number desc limit 1",
    )
    .bind(workspace.as_str())
    .bind(version.name)
    .fetch_optional(&mut **transaction)
    .await
    .map_err(database_error)?;
    let (uuid, number) = match last {
        Some((uuid, number)) => (uuid, number + 1),
        None => (format!("{:032x}", fresh_id()), 1),
    };
    let size_bytes = version.files.iter().map(|file| file.size_bytes);
    let size_bytes = size_bytes.fold(0, u64::saturating_add);
    let row: DatasetRow = sqlx::query_as(
        "insert into dataset (workspace, uuid, name, number, parent, task, digest, description,
                              file_count, size_bytes, state, created)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
         returning id, uuid, name, number, parent, task, digest, description,
                   file_count, size_bytes, created",
    )
    .bind(workspace.as_str())
    .bind(uuid)
    .bind(version.name)
    .bind(number)
    .bind(version.parent.map(bigint))
    .bind(task.map(TaskId::as_str))
    .bind(version.digest.to_string())
    .bind(version.description)
    .bind(bigint(version.files.len() as u64))
    .bind(bigint(size_bytes))
    .bind(if task.is_some() { "staged" } else { "visible" })
    .bind(now.as_millis())
    .fetch_one(&mut **transaction)
    .await
    .map_err(database_error)?;
    for file in version.files {
        let inserted = sqlx::query(
            "insert into dataset_file (workspace, dataset, path, sha256, size_bytes)
             select workspace, $1, $2, sha256, size_bytes
               from file where workspace = $3 and sha256 = $4 and size_bytes = $5",
        )
        .bind(row.id)
        .bind(&file.path)
        .bind(workspace.as_str())
        .bind(file.sha256.to_string())
        .bind(bigint(file.size_bytes))
        .execute(&mut **transaction)
        .await
        .map_err(database_error)?;
        if inserted.rows_affected() == 0 {
            return Err(InsertDatasetError::MissingFile {
                path: file.path.clone(),
                sha256: file.sha256,
                size_bytes: file.size_bytes,
            });
        }
    }
    Ok(row)
}

/// Stages the version that a running task makes of `base`. A task makes one version:
/// staging the same files again returns it, other files take its place.
pub(crate) async fn stage_version(
    transaction: &mut Transaction<'static, Any>,
    workspace: &Workspace,
    task: &TaskId,
    version: &NewVersion<'_>,
    now: Timestamp,
) -> Result<DatasetView, InsertDatasetError> {
    let staged: Option<(i64, String)> =
        sqlx::query_as("select id, digest from dataset where workspace = $1 and task = $2")
            .bind(workspace.as_str())
            .bind(task.as_str())
            .fetch_optional(&mut **transaction)
            .await
            .map_err(database_error)?;
    if let Some((id, digest)) = staged {
        if digest == version.digest.to_string() {
            let row = read_version(transaction, workspace, id).await;
            let row = row.and_then(|row| row.ok_or(sqlx::Error::RowNotFound));
            let view = row.map_err(database_error)?.view();
            return view.map_err(InsertDatasetError::Store);
        }
        delete_staged_version(transaction, workspace.as_str(), task)
            .await
            .map_err(database_error)?;
    }
    let row = insert_version(transaction, workspace, version, Some(task), now).await?;
    row.view().map_err(InsertDatasetError::Store)
}

/// Name of the data set that a version belongs to, visible or not.
pub(crate) async fn dataset_name(
    transaction: &mut Transaction<'static, Any>,
    workspace: &Workspace,
    id: i64,
) -> Result<String, sqlx::Error> {
    let (name,): (String,) =
        sqlx::query_as("select name from dataset where workspace = $1 and id = $2")
            .bind(workspace.as_str())
            .bind(id)
            .fetch_one(&mut **transaction)
            .await?;
    Ok(name)
}

/// Shows the version that `task` staged; returns its id if there is one.
pub(crate) async fn show_staged_version(
    transaction: &mut Transaction<'static, Any>,
    workspace: &str,
    task: &TaskId,
) -> Result<Option<i64>, sqlx::Error> {
    let shown: Option<(i64,)> = sqlx::query_as(
        "update dataset set state = 'visible' where workspace = $1 and task = $2 returning id",
    )
    .bind(workspace)
    .bind(task.as_str())
    .fetch_optional(&mut **transaction)
    .await?;
    Ok(shown.map(|(id,)| id))
}

/// Forgets the version that `task` staged.
pub(crate) async fn delete_staged_version(
    transaction: &mut Transaction<'static, Any>,
    workspace: &str,
    task: &TaskId,
) -> Result<(), sqlx::Error> {
    sqlx::query("delete from dataset where workspace = $1 and task = $2 and state = 'staged'")
        .bind(workspace)
        .bind(task.as_str())
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

async fn read_version(
    transaction: &mut Transaction<'static, Any>,
    workspace: &Workspace,
    id: i64,
) -> Result<Option<DatasetRow>, sqlx::Error> {
    sqlx::query_as(
        "select id, uuid, name, number, parent, task, digest, description,
                file_count, size_bytes, created
           from dataset where workspace = $1 and id = $2",
    )
    .bind(workspace.as_str())
    .bind(id)
    .fetch_optional(&mut **transaction)
    .await
}

fn database_error(error: sqlx::Error) -> InsertDatasetError {
    InsertDatasetError::Store(StoreError::database("record a data set")(error))
}

impl DatasetRow {
    fn view(self) -> Result<DatasetView, StoreError> {
        let action = "read a data set";
        Ok(DatasetView {
            id: unsigned(self.id),
            uuid: self.uuid,
            name: self.name,
            number: u32::try_from(self.number).map_err(StoreError::damaged(action))?,
            parent: self.parent.map(unsigned),
            task: self
                .task
                .map(|task| task.parse())
                .transpose()
                .map_err(StoreError::damaged(action))?,
            digest: self.digest.parse().map_err(StoreError::damaged(action))?,
            description: self.description,
            file_count: unsigned(self.file_count),
            size_bytes: unsigned(self.size_bytes),
            created: Timestamp(self.created),
            files: None,
        })
    }
}

impl FileRow {
    fn entry(self) -> Result<FileEntry, StoreError> {
        Ok(FileEntry {
            path: self.path,
            sha256: self
                .sha256
                .parse()
                .map_err(StoreError::damaged("read a data set"))?,
            size_bytes: unsigned(self.size_bytes),
        })
    }
}
