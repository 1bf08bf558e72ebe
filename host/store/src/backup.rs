//! Backups: everything that is stored, of all workspaces, as one archive, and back.
//!
//! The archive is a tar file compressed with zstd: `backup.json` (see [`BackupInfo`]), then
//! for each table `tables/<name>.ndjson` with a JSON object for each row, then the content of
//! each file as `files/<sha256>`. It does not say which database it came from and is
//! restored into either.
//!
//! A backup reads one snapshot of the database, beside a server that goes on writing.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, BufWriter, Read, Write};
use std::path::Path;

use futures::TryStreamExt as _;
use object_store::ObjectStoreExt as _;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sqlx::{Any, AnyConnection, AssertSqlSafe, Connection as _, Executor as _, Transaction};
use trainshed_core::digest::Hasher;
use trainshed_core::{Digest, Timestamp};

use crate::database::{Database, Kind, database_url, migrate_to, prepare_folder};
use crate::error::StoreError;
use crate::file::file_in;
use crate::places::{FileSettings, Places};
use crate::rows::{RowError, columns, insert, to_json};

/// The layout of the archive itself.
const FORMAT: u32 = 1;
/// Level of compression: most of what is stored is compressed or random already.
const ZSTD_LEVEL: i32 = 3;
const INFO: &str = "backup.json";
/// The first schema that has the table `point_state`.
const SCHEMA_WITH_POINT_STATE: i64 = 6;

/// Every table, each after those that it refers to.
const TABLES: [&str; 32] = [
    "workspace",
    "api_key",
    "project",
    "queue",
    "file",
    "plugin",
    "dataset",
    "dataset_file",
    "model",
    "model_metadata",
    "agent",
    "resource",
    "task",
    "task_model",
    "experiment",
    "experiment_event",
    "trial",
    "trial_checkpoint",
    "tag",
    "parameter",
    "configuration",
    "point_state",
    "point_log",
    "batch_key",
    "chunk",
    "series",
    "single",
    "console",
    "plot",
    "sample",
    "trial_report",
    "artifact",
];

/// What an archive says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupInfo {
    /// Layout of the archive.
    pub format: u32,
    /// Version of the schema of its tables.
    pub schema: i64,
    /// When the snapshot was taken.
    pub taken: Timestamp,
}

/// What was written or read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct BackupCounts {
    /// Rows of all tables.
    pub rows: u64,
    /// Contents.
    pub files: u64,
    /// Bytes of all contents.
    pub file_bytes: u64,
}

/// Why there is no backup, or nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The archive could not be written or read.
    #[error("the archive cannot be {verb}")]
    Archive {
        /// `written` or `read`.
        verb: &'static str,
        /// What happened.
        source: io::Error,
    },
    /// The archive is not one of ours, or damaged.
    #[error("the archive is not usable: {0}")]
    Invalid(String),
    /// A content is gone or is not what its name says.
    #[error("the content of the file {0} is missing or damaged")]
    DamagedFile(Digest),
    /// There is data already where the backup was to be restored.
    #[error("there is data already: a backup is restored into an empty database")]
    NotEmpty,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl BackupError {
    /// What the user can do about it, in one sentence.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotEmpty => {
                Some("Give a new folder with --data-dir, or a new database with --database.".into())
            }
            Self::DamagedFile(_) => Some("Restore the file, then try again.".into()),
            Self::Invalid(_) => Some("Give a file that `trainshed backup` wrote.".into()),
            Self::Archive { .. } => None,
            Self::Store(error) => error.hint(),
        }
    }
}

/// Writes everything in `folder` and `database` to `target`, as of one moment, with the files
/// of the server's own store. What lies at a destination of tasks or is only linked stays where
/// it is, and only its address is written. Uploads that are under way are left out.
///
/// # Errors
/// When something cannot be read or written; `target` is of no use then.
pub async fn backup(
    folder: &Path,
    database: &Database,
    files: FileSettings,
    target: File,
    now: Timestamp,
) -> Result<BackupCounts, BackupError> {
    let (kind, url) = database_url(folder, database)?;
    let places = Places::open(folder.join("files"), files)?;
    sqlx::any::install_default_drivers();
    let mut connection = AnyConnection::connect(&url)
        .await
        .map_err(failed("open the database"))?;
    let begin = match kind {
        Kind::Sqlite => "begin",
        Kind::Postgres => "begin isolation level repeatable read read only",
    };
    connection
        .execute(begin)
        .await
        .map_err(failed("read the database"))?;
    let (schema,): (i64,) = sqlx::query_as("select max(version) from _sqlx_migrations")
        .fetch_one(&mut connection)
        .await
        .map_err(failed("read the database"))?;
    if schema != kind.newest_schema() {
        return Err(BackupError::Store(StoreError::NewerSchema {
            found: schema,
            known: kind.newest_schema(),
        }));
    }
    let info = BackupInfo {
        format: FORMAT,
        schema,
        taken: now,
    };
    let mut archive = Writer::new(target)?;
    let json = serde_json::to_vec_pretty(&info).expect("numbers are JSON");
    archive.append(INFO, json.len() as u64, &json[..])?;
    let mut counts = BackupCounts::default();
    let mut contents = BTreeMap::new();
    for table in TABLES {
        let columns = columns(&mut connection, kind, table).await;
        let columns = columns.map_err(failed("read the schema"))?;
        let mut spool = tempfile::tempfile().map_err(written)?;
        let mut lines = BufWriter::new(&mut spool);
        let statement = format!("select * from {table}");
        let mut rows = sqlx::query(AssertSqlSafe(statement)).fetch(&mut connection);
        while let Some(row) = rows.try_next().await.map_err(failed("read a table"))? {
            let mut row = to_json(&row, &columns).map_err(failed("read a table"))?;
            let location = row.get("location").and_then(Value::as_str);
            if table == "file" && location.is_none_or(|location| !location.contains("://")) {
                let digest = row["sha256"].as_str().and_then(|text| text.parse().ok());
                let place = (row["size_bytes"].as_u64(), location.map(str::to_owned));
                contents.extend(digest.zip(Some(place)));
                // The archive has it by its digest, and so has the store it is restored into.
                row.insert("location".to_owned(), Value::Null);
            }
            serde_json::to_writer(&mut lines, &row).map_err(|error| written(error.into()))?;
            lines.write_all(b"\n").map_err(written)?;
            counts.rows += 1;
        }
        lines.flush().map_err(written)?;
        drop(lines);
        drop(rows);
        archive.append_file(&format!("tables/{table}.ndjson"), spool)?;
    }
    for (digest, (size, location)) in contents {
        let digest: Digest = digest;
        let size = size.unwrap_or_default();
        let content = content(&places, location.as_deref(), &digest).await?;
        let length = content.metadata().map_err(written)?.len();
        if length != size {
            return Err(BackupError::DamagedFile(digest));
        }
        archive.append(&format!("files/{digest}"), size, content)?;
        counts.files += 1;
        counts.file_bytes += size;
    }
    archive.finish()?;
    Ok(counts)
}

/// A content of the server's own store, as a file of this machine.
async fn content(
    places: &Places,
    location: Option<&str>,
    digest: &Digest,
) -> Result<File, BackupError> {
    let damaged = || BackupError::DamagedFile(*digest);
    let object = places.object(location, &digest.to_string())?;
    if let Some(path) = &object.file {
        return File::open(path).map_err(|_| damaged());
    }
    let opened = object.store.get(&object.path);
    let opened = places.in_time("read a file", opened).await?;
    let mut pieces = opened.into_stream();
    let mut fetched = tempfile::tempfile().map_err(written)?;
    loop {
        let next = places.in_time("read a file", pieces.try_next());
        let Some(piece) = next.await? else { break };
        fetched.write_all(&piece).map_err(written)?;
    }
    io::Seek::rewind(&mut fetched).map_err(written)?;
    Ok(fetched)
}

/// Restores what [`backup`] wrote into `folder` and `database`, which must be empty. Nothing
/// can be seen of it before everything is there: the rows are one transaction, the last step.
///
/// An archive of an older schema is brought up to date.
///
/// # Errors
/// When there is data already, or the archive is damaged.
pub async fn restore(
    folder: &Path,
    database: &Database,
    source: File,
) -> Result<BackupCounts, BackupError> {
    let _lock = prepare_folder(folder)?;
    let (kind, url) = database_url(folder, database)?;
    sqlx::any::install_default_drivers();
    let mut archive = reader(source)?;
    let mut entries = archive.entries().map_err(read)?;
    let info = match entries.next() {
        Some(entry) => info(entry.map_err(read)?)?,
        None => return Err(BackupError::Invalid("it is empty".into())),
    };
    if info.format != FORMAT {
        let format = info.format;
        return Err(BackupError::Invalid(format!(
            "it has format {format}, but this trainshed reads format {FORMAT}"
        )));
    }
    migrate_to(kind, &url, info.schema).await?;
    let mut connection = AnyConnection::connect(&url)
        .await
        .map_err(failed("open the database"))?;
    let action = failed("restore the database");
    let mut transaction = connection.begin().await.map_err(action)?;
    let (known,): (i64,) = sqlx::query_as("select count(*) from workspace")
        .fetch_one(&mut *transaction)
        .await
        .map_err(failed("restore the database"))?;
    if known > 0 {
        return Err(BackupError::NotEmpty);
    }
    let mut counts = BackupCounts::default();
    for entry in entries {
        let entry = entry.map_err(read)?;
        let name = entry.path().map_err(read)?.to_string_lossy().into_owned();
        if let Some(table) = name
            .strip_prefix("tables/")
            .and_then(|name| name.strip_suffix(".ndjson"))
        {
            let Some(table) = TABLES.into_iter().find(|known| *known == table) else {
                return Err(BackupError::Invalid(format!("it has a table `{table}`")));
            };
            counts.rows += restore_table(&mut transaction, kind, table, entry).await?;
        } else if let Some(digest) = name.strip_prefix("files/") {
            let digest: Digest = digest.parse().map_err(|_| {
                BackupError::Invalid(format!("it has a file `{}`", name.escape_debug()))
            })?;
            counts.file_bytes += restore_file(folder, &digest, entry)?;
            counts.files += 1;
        } else {
            return Err(BackupError::Invalid(format!(
                "it has an entry `{}`",
                name.escape_debug()
            )));
        }
    }
    if info.schema >= SCHEMA_WITH_POINT_STATE {
        rewind_points(&mut transaction).await?;
    }
    if kind == Kind::Postgres {
        advance_counters(&mut transaction).await?;
    }
    transaction
        .commit()
        .await
        .map_err(failed("restore the database"))?;
    connection
        .close()
        .await
        .map_err(failed("restore the database"))?;
    migrate_to(kind, &url, kind.newest_schema()).await?;
    Ok(counts)
}

fn failed(action: &'static str) -> impl FnOnce(sqlx::Error) -> BackupError {
    move |error| BackupError::Store(StoreError::database(action)(error))
}

fn written(source: io::Error) -> BackupError {
    BackupError::Archive {
        verb: "written",
        source,
    }
}

fn read(source: io::Error) -> BackupError {
    BackupError::Archive {
        verb: "read",
        source,
    }
}

/// The archive that is written.
struct Writer(tar::Builder<zstd::Encoder<'static, BufWriter<File>>>);

impl Writer {
    fn new(target: File) -> Result<Self, BackupError> {
        let encoder = zstd::Encoder::new(BufWriter::new(target), ZSTD_LEVEL).map_err(written)?;
        Ok(Self(tar::Builder::new(encoder)))
    }

    fn append(&mut self, name: &str, size: u64, content: impl Read) -> Result<(), BackupError> {
        let mut header = tar::Header::new_gnu();
        header.set_size(size);
        header.set_mode(0o600);
        let content = content.take(size);
        self.0
            .append_data(&mut header, name, content)
            .map_err(written)
    }

    fn append_file(&mut self, name: &str, mut content: File) -> Result<(), BackupError> {
        io::Seek::rewind(&mut content).map_err(written)?;
        let size = content.metadata().map_err(written)?.len();
        self.append(name, size, BufReader::new(content))
    }

    /// Writes the end; the archive is on the disk then.
    fn finish(self) -> Result<(), BackupError> {
        let encoder = self.0.into_inner().map_err(written)?;
        let mut target = encoder.finish().map_err(written)?;
        target.flush().map_err(written)?;
        target.get_ref().sync_all().map_err(written)
    }
}

type Archive = tar::Archive<zstd::Decoder<'static, BufReader<File>>>;

fn reader(source: File) -> Result<Archive, BackupError> {
    Ok(tar::Archive::new(zstd::Decoder::new(source).map_err(read)?))
}

fn info(entry: tar::Entry<'_, impl Read>) -> Result<BackupInfo, BackupError> {
    /// Far longer than it ever is.
    const MAX_BYTES: u64 = 64 << 10;
    let foreign = || BackupError::Invalid(format!("it does not begin with `{INFO}`"));
    if entry.path().map_err(read)?.as_ref() != Path::new(INFO) {
        return Err(foreign());
    }
    serde_json::from_reader(entry.take(MAX_BYTES)).map_err(|_| foreign())
}

async fn restore_table(
    transaction: &mut Transaction<'_, Any>,
    kind: Kind,
    table: &'static str,
    rows: impl Read,
) -> Result<u64, BackupError> {
    let columns = columns(transaction, kind, table).await;
    let columns = columns.map_err(failed("read the schema"))?;
    let mut count = 0;
    for line in BufReader::new(rows).lines() {
        let line = line.map_err(read)?;
        let invalid = |what: String| BackupError::Invalid(format!("a row of `{table}` {what}"));
        let row: Map<String, Value> =
            serde_json::from_str(&line).map_err(|error| invalid(format!("is no JSON: {error}")))?;
        let inserted = insert(transaction, table, &columns, &row).await;
        inserted.map_err(|error| match error {
            RowError::Invalid(what) => invalid(what),
            RowError::Database(error) => failed("restore a table")(error),
        })?;
        count += 1;
    }
    Ok(count)
}

/// Writes a content under its name, where nothing is but a former try.
fn restore_file(
    folder: &Path,
    digest: &Digest,
    mut content: impl Read,
) -> Result<u64, BackupError> {
    let path = file_in(folder, digest);
    let parent = path.parent().expect("a file lies in a folder");
    std::fs::create_dir_all(parent).map_err(written)?;
    let mut partial = tempfile::NamedTempFile::new_in(parent).map_err(written)?;
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; 1 << 16];
    let mut length = 0;
    loop {
        let count = content.read(&mut buffer).map_err(read)?;
        if count == 0 {
            break;
        }
        hasher.update(&buffer[..count]);
        partial.write_all(&buffer[..count]).map_err(written)?;
        length += count as u64;
    }
    if hasher.finish() != *digest {
        return Err(BackupError::DamagedFile(*digest));
    }
    partial.as_file().sync_all().map_err(written)?;
    partial
        .persist(&path)
        .map_err(|error| written(error.error))?;
    Ok(length)
}

/// Brings how far points have come down to the rows of the log that are there: new rows may
/// get numbers that moved ones had, and must not be taken for those.
async fn rewind_points(transaction: &mut Transaction<'_, Any>) -> Result<(), BackupError> {
    transaction
        .execute(
            "update point_state
                set compacted = 0,
                    summarized = coalesce(
                        (select max(seq) from point_log
                          where point_log.workspace = point_state.workspace
                            and point_log.task = point_state.task
                            and seq <= summarized), 0)",
        )
        .await
        .map_err(failed("restore the database"))?;
    Ok(())
}

/// Makes the numbers that PostgreSQL draws go on after those that were restored.
async fn advance_counters(transaction: &mut Transaction<'_, Any>) -> Result<(), BackupError> {
    let counted: Vec<(String, String)> = sqlx::query_as(
        "select table_name::text, column_name::text from information_schema.columns
          where table_schema = current_schema() and is_identity = 'YES'",
    )
    .fetch_all(&mut **transaction)
    .await
    .map_err(failed("restore the database"))?;
    for (table, column) in counted {
        // The names come from the catalogue.
        let statement = format!(
            "select setval(pg_get_serial_sequence('{table}', '{column}'),
                           coalesce(max(\"{column}\"), 0) + 1, false) from \"{table}\""
        );
        transaction
            .execute(AssertSqlSafe(statement))
            .await
            .map_err(failed("restore the database"))?;
    }
    Ok(())
}
