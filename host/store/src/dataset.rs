//! Data sets: their versions and the files in them.

use sqlx::{Any, Transaction};
use trainshed_core::dataset::FileEntry;
use trainshed_core::view::{DatasetEdit, DatasetView, TableView};
use trainshed_core::{Digest, TaskId, Timestamp};

use crate::change::is_as_read;
use crate::database::{Store, fresh_id};
use crate::error::StoreError;
use crate::file::{bigint, unsigned};
use crate::idempotency::note_made;
use crate::model::ListPart;
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
    /// For filters.
    pub tags: &'a [String],
    /// What its tables are, where that is known.
    pub tables: Option<&'a [TableView]>,
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

/// Why a version was not changed.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// There is no such version.
    #[error("there is no data set {0}")]
    Unknown(u64),
    /// It is published.
    #[error("data set {0} is published and read-only")]
    Published(u64),
    /// Somebody else changed it since the caller read it.
    #[error("data set {0} is not what `If-Match` says: it was changed since")]
    ChangedSince(u64),
    /// Something needs it.
    #[error("data set {id} is in use: {by}")]
    InUse {
        /// Which version.
        id: u64,
        /// By what.
        by: String,
    },
    /// The store failed.
    #[error("the data set could not be changed")]
    Store(#[from] StoreError),
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
    tags: String,
    system_tags: String,
    published: Option<i64>,
    created: i64,
    last_update: i64,
    schema: Option<String>,
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
        note_made(&mut transaction, || format!("/api/v1/datasets/{}", row.id))
            .await
            .map_err(database_error)?;
        transaction.commit().await.map_err(database_error)?;
        row.view().map_err(InsertDatasetError::Store)
    }

    /// Some of the visible versions, without their files, the newest first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn datasets(
        &self,
        workspace: &Workspace,
        part: ListPart,
    ) -> Result<Vec<DatasetView>, StoreError> {
        let rows: Vec<DatasetRow> = sqlx::query_as(
            "select id, uuid, name, number, parent, task, digest, description,
                    file_count, size_bytes, tags, system_tags, published, created,
                    last_update, schema
               from dataset
              where workspace = $1 and state = 'visible'
                and ($2 = 1 or not exists (
                     select 1 from tag
                      where tag.workspace = dataset.workspace and tag.kind = 'dataset'
                        and tag.is_system = 1 and tag.tag = 'archived'
                        and tag.owner = cast(dataset.id as text)))
                and ($3 = 0 or id < $3)
              order by id desc limit $4",
        )
        .bind(workspace.as_str())
        .bind(i64::from(part.archived))
        .bind(bigint(part.after.unwrap_or(0)))
        .bind(bigint(part.limit))
        .fetch_all(&self.reader)
        .await
        .map_err(StoreError::database("list data sets"))?;
        let view = |row: DatasetRow| {
            let mut view = row.view()?;
            view.tables = None;
            Ok(view)
        };
        rows.into_iter().map(view).collect()
    }

    /// The version of the same name that was made before this one, if there is one.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn version_before(
        &self,
        workspace: &Workspace,
        id: u64,
    ) -> Result<Option<u64>, StoreError> {
        let found: Option<(i64,)> = sqlx::query_as(
            "select other.id from dataset
               join dataset as other
                 on other.workspace = dataset.workspace and other.name = dataset.name
                    and other.number < dataset.number and other.state = 'visible'
              where dataset.workspace = $1 and dataset.id = $2
              order by other.number desc limit 1",
        )
        .bind(workspace.as_str())
        .bind(bigint(id))
        .fetch_optional(&self.reader)
        .await
        .map_err(StoreError::database("look a version up"))?;
        Ok(found.map(|(id,)| unsigned(id)))
    }

    /// Changes what is said of a version.
    ///
    /// # Errors
    /// [`DatasetError::Published`] for one that is read-only.
    pub async fn edit_dataset(
        &self,
        workspace: &Workspace,
        id: u64,
        edit: &DatasetEdit,
        expected: Option<&str>,
        now: Timestamp,
    ) -> Result<(), DatasetError> {
        let action = "change a data set";
        let mut transaction = self.begin(action).await?;
        // Nobody else writes while this transaction is open, so what is read beside it holds.
        let read = match expected {
            Some(_) => self.dataset(workspace, id).await?,
            None => None,
        };
        if let Some(read) = read
            && !is_as_read(&read, expected)?
        {
            return Err(DatasetError::ChangedSince(id));
        }
        let (published, _) = state_of(&mut transaction, workspace, id).await?;
        if published {
            return Err(DatasetError::Published(id));
        }
        sqlx::query(
            "update dataset set description = coalesce($1, description),
                                tags = coalesce($2, tags), last_update = $3
              where workspace = $4 and id = $5",
        )
        .bind(edit.description.as_deref())
        .bind(
            edit.tags
                .as_ref()
                .map(|tags| serde_json::json!(tags).to_string()),
        )
        .bind(now.as_millis())
        .bind(workspace.as_str())
        .bind(bigint(id))
        .execute(&mut *transaction)
        .await
        .map_err(StoreError::database(action))?;
        if let Some(tags) = &edit.tags {
            write_tags(&mut transaction, workspace, bigint(id), 0, tags)
                .await
                .map_err(StoreError::database(action))?;
        }
        let committed = transaction.commit().await;
        Ok(committed.map_err(StoreError::database(action))?)
    }

    /// Makes a version read-only for good.
    ///
    /// # Errors
    /// When there is no such version.
    pub async fn publish_dataset(
        &self,
        workspace: &Workspace,
        id: u64,
        now: Timestamp,
    ) -> Result<(), DatasetError> {
        let action = "publish a data set";
        let mut transaction = self.begin(action).await?;
        state_of(&mut transaction, workspace, id).await?;
        sqlx::query(
            "update dataset set published = coalesce(published, $1), last_update = $1
              where workspace = $2 and id = $3",
        )
        .bind(now.as_millis())
        .bind(workspace.as_str())
        .bind(bigint(id))
        .execute(&mut *transaction)
        .await
        .map_err(StoreError::database(action))?;
        note_made(&mut transaction, || format!("/api/v1/datasets/{id}"))
            .await
            .map_err(StoreError::database(action))?;
        let committed = transaction.commit().await;
        Ok(committed.map_err(StoreError::database(action))?)
    }

    /// Hides a version from lists, or shows it again.
    ///
    /// # Errors
    /// When there is no such version.
    pub async fn archive_dataset(
        &self,
        workspace: &Workspace,
        id: u64,
        archived: bool,
        now: Timestamp,
    ) -> Result<(), DatasetError> {
        let action = "archive a data set";
        let mut transaction = self.begin(action).await?;
        let (_, tags) = state_of(&mut transaction, workspace, id).await?;
        let tags: Vec<String> = serde_json::from_str(&tags).map_err(StoreError::damaged(action))?;
        let mut tags: Vec<String> = tags.into_iter().filter(|tag| tag != "archived").collect();
        if archived {
            tags.push("archived".to_owned());
        }
        sqlx::query(
            "update dataset set system_tags = $1, last_update = $2
              where workspace = $3 and id = $4",
        )
        .bind(serde_json::json!(tags).to_string())
        .bind(now.as_millis())
        .bind(workspace.as_str())
        .bind(bigint(id))
        .execute(&mut *transaction)
        .await
        .map_err(StoreError::database(action))?;
        write_tags(&mut transaction, workspace, bigint(id), 1, &tags)
            .await
            .map_err(StoreError::database(action))?;
        note_made(&mut transaction, || format!("/api/v1/datasets/{id}"))
            .await
            .map_err(StoreError::database(action))?;
        let committed = transaction.commit().await;
        Ok(committed.map_err(StoreError::database(action))?)
    }

    /// Deletes a version; its files go with the garbage once nothing else refers to them.
    ///
    /// # Errors
    /// Without `force`, when a task reads it, a version was made of it, or it is published.
    pub async fn delete_dataset(
        &self,
        workspace: &Workspace,
        id: u64,
        force: bool,
    ) -> Result<(), DatasetError> {
        let action = "delete a data set";
        let mut transaction = self.begin(action).await?;
        let (published, _) = state_of(&mut transaction, workspace, id).await?;
        let (active, tasks, versions): (i64, i64, i64) = sqlx::query_as(
            "select (select count(*) from task where workspace = $1 and dataset = $2
                        and state in ('queued', 'in_progress')),
                    (select count(*) from task where workspace = $1 and dataset = $2),
                    (select count(*) from dataset where workspace = $1 and parent = $2)",
        )
        .bind(workspace.as_str())
        .bind(bigint(id))
        .fetch_one(&mut *transaction)
        .await
        .map_err(StoreError::database(action))?;
        if active > 0 {
            let by = format!("{active} tasks wait or run with it");
            return Err(DatasetError::InUse { id, by });
        }
        if !force && published {
            return Err(DatasetError::Published(id));
        }
        if !force && tasks + versions > 0 {
            let by = format!("{tasks} tasks read it, and {versions} versions were made of it");
            return Err(DatasetError::InUse { id, by });
        }
        for statement in [
            "update task set dataset = null where workspace = $1 and dataset = $2",
            "update dataset set parent = null where workspace = $1 and parent = $2",
            "delete from dataset_file where workspace = $1 and dataset = $2",
            "delete from tag where workspace = $1 and kind = 'dataset'
                and owner = cast($2 as text)",
            "delete from dataset where workspace = $1 and id = $2",
        ] {
            sqlx::query(statement)
                .bind(workspace.as_str())
                .bind(bigint(id))
                .execute(&mut *transaction)
                .await
                .map_err(StoreError::database(action))?;
        }
        let committed = transaction.commit().await;
        Ok(committed.map_err(StoreError::database(action))?)
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
                    file_count, size_bytes, tags, system_tags, published, created,
                    last_update, schema
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

/// Whether a version is published, and its system tags.
async fn state_of(
    transaction: &mut Transaction<'static, Any>,
    workspace: &Workspace,
    id: u64,
) -> Result<(bool, String), DatasetError> {
    let found: Option<(Option<i64>, String)> = sqlx::query_as(
        "select published, system_tags from dataset
          where workspace = $1 and id = $2 and state = 'visible'",
    )
    .bind(workspace.as_str())
    .bind(bigint(id))
    .fetch_optional(&mut **transaction)
    .await
    .map_err(StoreError::database("read a data set"))?;
    let (published, tags) = found.ok_or(DatasetError::Unknown(id))?;
    Ok((published.is_some(), tags))
}

/// The tags of a version once more, to find it by.
async fn write_tags(
    transaction: &mut Transaction<'static, Any>,
    workspace: &Workspace,
    id: i64,
    is_system: i64,
    tags: &[String],
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "delete from tag
          where workspace = $1 and kind = 'dataset' and owner = $2 and is_system = $3",
    )
    .bind(workspace.as_str())
    .bind(id.to_string())
    .bind(is_system)
    .execute(&mut **transaction)
    .await?;
    for tag in tags {
        sqlx::query(
            "insert into tag (workspace, kind, is_system, tag, owner)
             values ($1, 'dataset', $2, $3, $4) on conflict do nothing",
        )
        .bind(workspace.as_str())
        .bind(is_system)
        .bind(tag)
        .bind(id.to_string())
        .execute(&mut **transaction)
        .await?;
    }
    Ok(())
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
                              file_count, size_bytes, state, created, last_update, tags,
                              system_tags, schema)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $12, $13, '[]', $14)
         returning id, uuid, name, number, parent, task, digest, description,
                   file_count, size_bytes, tags, system_tags, published, created,
                   last_update, schema",
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
    .bind(serde_json::json!(version.tags).to_string())
    .bind(
        version
            .tables
            .map(|tables| serde_json::json!(tables).to_string()),
    )
    .fetch_one(&mut **transaction)
    .await
    .map_err(database_error)?;
    write_tags(transaction, workspace, row.id, 0, version.tags)
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
                file_count, size_bytes, tags, system_tags, published, created,
                    last_update, schema
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
            tags: serde_json::from_str(&self.tags).map_err(StoreError::damaged(action))?,
            system_tags: serde_json::from_str(&self.system_tags)
                .map_err(StoreError::damaged(action))?,
            published: self.published.map(Timestamp),
            created: Timestamp(self.created),
            last_update: Timestamp(self.last_update),
            tables: self
                .schema
                .map(|tables| serde_json::from_str(&tables))
                .transpose()
                .map_err(StoreError::damaged(action))?,
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
