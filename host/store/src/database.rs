//! Opening the data: folder, lock, database, migrations, file store.

use std::fmt::Write as _;
use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sqlx::any::AnyPoolOptions;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{Any, AnyConnection, AnyPool, Connection as _, Executor as _, Transaction};

use crate::error::StoreError;
use crate::experiment::StepQueue;
use crate::places::{FileSettings, Places};
use crate::points::Tables;
use crate::points::ingest::Ingest;

/// Schema changes, oldest first. A released one is never edited. The two databases have the
/// same versions, tables and columns.
static SQLITE_MIGRATIONS: Migrator = sqlx::migrate!("./migrations/sqlite");
static POSTGRES_MIGRATIONS: Migrator = sqlx::migrate!("./migrations/postgres");

/// Readers beside the one writer: as many as requests that are likely to read at once on a
/// small machine; more would only hold memory.
const READERS: u32 = 4;

/// How long a call waits for a connection: a database that has gone away is then reported
/// instead of holding requests.
const ACQUIRE_PATIENCE: Duration = Duration::from_secs(30);

/// The key of the advisory lock under which transactions write to PostgreSQL.
const WRITE_LOCK: &str = "select pg_advisory_xact_lock(8388101)";

/// Where the tables are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Database {
    /// SQLite, in the data folder.
    #[default]
    Folder,
    /// PostgreSQL 15 or later at this address, `postgres://user:password@host/database`. Any
    /// number of servers may share it.
    Postgres(String),
}

/// Which of the two databases the tables are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Sqlite,
    Postgres,
}

/// The open data. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) kind: Kind,
    /// One connection, so that transactions follow each other.
    writer: AnyPool,
    pub(crate) reader: AnyPool,
    /// Names the data folder: the agents that its server starts belong to it.
    pub(crate) home: Arc<str>,
    pub(crate) places: Arc<Places>,
    /// The way to the task that writes what is reported.
    pub(crate) ingest: Arc<Ingest>,
    /// The way to the task that writes steps of experiments.
    pub(crate) steps: Arc<StepQueue>,
    /// Held for as long as the store is open; the operating system lets go of it when the
    /// process ends, however that happens.
    _lock: Arc<File>,
}

impl Store {
    /// Opens the data in `folder` with its files in it too; see [`Store::open_with`].
    ///
    /// # Errors
    /// As [`Store::open_with`].
    pub async fn open(folder: &Path, database: &Database) -> Result<Self, StoreError> {
        Self::open_with(folder, database, FileSettings::default()).await
    }

    /// Opens the data in `folder`, which is made if it is missing, with its tables in
    /// `database` and its files as `files` says, and brings the schema up to date. Parts of
    /// uploads that a killed process left behind are removed.
    ///
    /// # Errors
    /// [`StoreError::Locked`] while another process has the folder open;
    /// [`StoreError::NewerSchema`] when a newer trainshed wrote the tables.
    pub async fn open_with(
        folder: &Path,
        database: &Database,
        files: FileSettings,
    ) -> Result<Self, StoreError> {
        let action = "open the data folder";
        let files_folder = folder.join("files");
        std::fs::create_dir_all(&files_folder).map_err(StoreError::io(action))?;
        let folder = folder.canonicalize().map_err(StoreError::io(action))?;
        let lock = lock(&folder)?;
        let home = home(&folder)?;

        let places = Places::open(folder.join("files"), files)?;

        sqlx::any::install_default_drivers();
        let (kind, url) = database_url(&folder, database)?;
        migrate_to(kind, &url, kind.newest_schema()).await?;
        let tables = Tables {
            kind,
            writer: pool(1, kind, &url, kind.writer_settings()).await?,
            reader: pool(READERS, kind, &url, kind.reader_settings()).await?,
        };
        let ingest = Ingest::start(tables.clone()).await?;
        let store = Self {
            kind,
            writer: tables.writer.clone(),
            reader: tables.reader.clone(),
            home,
            places: Arc::new(places),
            steps: Arc::new(StepQueue::start(tables, ingest.shared.clone())),
            ingest: Arc::new(ingest),
            _lock: Arc::new(lock),
        };
        store.disown_uploads().await?;
        Ok(store)
    }

    /// Waits until the database is closed. Later calls fail; without it, dropping the last
    /// clone closes the database soon.
    pub async fn close(&self) {
        self.steps.close().await;
        self.ingest.close().await;
        self.reader.close().await;
        self.writer.close().await;
    }

    /// Begins a transaction that may write. It waits for the one before it, of whichever
    /// server; dropped without a commit, it leaves nothing.
    ///
    /// So a transaction sees what all before it have written, in both databases: a check at
    /// its beginning holds until its end.
    pub(crate) async fn begin(
        &self,
        action: &'static str,
    ) -> Result<Transaction<'static, Any>, StoreError> {
        self.tables().begin(action).await
    }

    /// The database, without the rest.
    pub(crate) fn tables(&self) -> Tables {
        Tables {
            kind: self.kind,
            writer: self.writer.clone(),
            reader: self.reader.clone(),
        }
    }
}

impl Tables {
    /// See [`Store::begin`].
    pub(crate) async fn begin(
        &self,
        action: &'static str,
    ) -> Result<Transaction<'static, Any>, StoreError> {
        let begun = self.writer.begin().await;
        let mut transaction = begun.map_err(StoreError::database(action))?;
        if self.kind == Kind::Postgres {
            let locked = transaction.execute(WRITE_LOCK).await;
            locked.map_err(StoreError::database(action))?;
        }
        Ok(transaction)
    }
}

impl Kind {
    fn writer_settings(self) -> &'static [&'static str] {
        match self {
            Self::Sqlite => &[
                "pragma journal_mode = wal",
                "pragma synchronous = full",
                "pragma foreign_keys = on",
                "pragma busy_timeout = 10000",
                // Pages are then written back four times as seldom; they are mostly the same.
                "pragma wal_autocheckpoint = 4000",
            ],
            // A server that has stalled in the middle of a transaction holds the others up
            // no longer than this.
            Self::Postgres => &["set idle_in_transaction_session_timeout = '30s'"],
        }
    }

    fn reader_settings(self) -> &'static [&'static str] {
        match self {
            Self::Sqlite => &["pragma busy_timeout = 10000", "pragma query_only = on"],
            Self::Postgres => &["set default_transaction_read_only = on"],
        }
    }

    /// The version that the newest migration makes.
    pub(crate) fn newest_schema(self) -> i64 {
        let versions = self.migrations().iter();
        versions
            .map(|migration| migration.version)
            .max()
            .unwrap_or(0)
    }

    fn migrations(self) -> &'static Migrator {
        match self {
            Self::Sqlite => &SQLITE_MIGRATIONS,
            Self::Postgres => &POSTGRES_MIGRATIONS,
        }
    }
}

/// Connections that have each run `settings`.
async fn pool(
    connections: u32,
    kind: Kind,
    url: &str,
    settings: &'static [&'static str],
) -> Result<AnyPool, StoreError> {
    AnyPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(ACQUIRE_PATIENCE)
        // A file does not go away as a server does, and to ask costs as much as a statement.
        .test_before_acquire(kind == Kind::Postgres)
        .after_connect(move |connection, _| {
            Box::pin(async move {
                for setting in settings {
                    connection.execute(*setting).await?;
                }
                Ok(())
            })
        })
        .after_release(|connection, _| {
            Box::pin(async move {
                // When the disk is full, SQLite rolls back by itself. The driver's own attempt
                // then fails, and it takes the transaction for open for ever: what later ones
                // commit would never be written. Such a connection is not used again. Mostly
                // nothing is open, and then nothing has to be waited for.
                if connection.is_in_transaction() {
                    connection.ping().await?;
                }
                Ok(!connection.is_in_transaction())
            })
        })
        .connect(url)
        .await
        .map_err(StoreError::database("open the database"))
}

/// Takes the folder for this process.
fn lock(folder: &Path) -> Result<File, StoreError> {
    let action = "lock the data folder";
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(folder.join("lock"))
        .map_err(StoreError::io(action))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked {
            folder: folder.to_owned(),
        }),
        Err(TryLockError::Error(error)) => Err(StoreError::io(action)(error)),
    }
}

/// The name of the data folder, which is drawn when the folder is first opened.
fn home(folder: &Path) -> Result<Arc<str>, StoreError> {
    let action = "name the data folder";
    let path = folder.join("home");
    match std::fs::read_to_string(&path) {
        Ok(name) => Ok(name.trim().into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let name = format!("{:032x}", fresh_id());
            std::fs::write(&path, &name).map_err(StoreError::io(action))?;
            Ok(name.into())
        }
        Err(error) => Err(StoreError::io(action)(error)),
    }
}

/// Which database it is, and its address.
pub(crate) fn database_url(
    folder: &Path,
    database: &Database,
) -> Result<(Kind, String), StoreError> {
    match database {
        Database::Folder => Ok((Kind::Sqlite, sqlite_url(&folder.join("trainshed.db"))?)),
        Database::Postgres(url) => Ok((Kind::Postgres, url.clone())),
    }
}

/// Makes the data folder if it is missing, and takes it for as long as the answer lives.
pub(crate) fn prepare_folder(folder: &Path) -> Result<File, StoreError> {
    std::fs::create_dir_all(folder).map_err(StoreError::io("make the data folder"))?;
    lock(folder)
}

/// Brings the schema to `version`, on a connection of its own: a pool would try a file that is
/// no database again and again, and not say why. Servers that open one database at a time
/// wait for each other.
pub(crate) async fn migrate_to(kind: Kind, url: &str, version: i64) -> Result<(), StoreError> {
    let failed = StoreError::database;
    let connection = AnyConnection::connect(url).await;
    let mut connection = connection.map_err(failed("open the database"))?;
    if kind == Kind::Sqlite {
        // Tables that others refer to are built anew by some migrations.
        let switched = connection.execute("pragma foreign_keys = off").await;
        switched.map_err(failed("migrate the database"))?;
    }
    let migrated = kind.migrations().run_to(version, &mut connection).await;
    if kind == Kind::Sqlite && migrated.is_ok() {
        check_foreign_keys(&mut connection).await?;
    }
    let closed = connection.close().await;
    match migrated {
        Ok(()) => closed.map_err(failed("open the database")),
        Err(MigrateError::VersionMissing(found)) => Err(StoreError::NewerSchema {
            found,
            known: kind.newest_schema(),
        }),
        Err(MigrateError::Execute(error)) => Err(failed("migrate the database")(error)),
        Err(other) => Err(StoreError::damaged("migrate the database")(other)),
    }
}

/// Whether every reference leads somewhere: they were not checked while tables were built.
async fn check_foreign_keys(connection: &mut AnyConnection) -> Result<(), StoreError> {
    let action = "migrate the database";
    let broken: Vec<(String,)> =
        sqlx::query_as("select distinct \"table\" from pragma_foreign_key_check")
            .fetch_all(connection)
            .await
            .map_err(StoreError::database(action))?;
    match broken.first() {
        None => Ok(()),
        Some((table,)) => Err(StoreError::damaged(action)(format!(
            "rows of the table `{table}` refer to rows that are not there"
        ))),
    }
}

/// The address of a database file, with every byte escaped that means something in an address.
fn sqlite_url(path: &Path) -> Result<String, StoreError> {
    let path = path.to_str().ok_or_else(|| StoreError::Unavailable {
        action: "open the database",
        source: format!("the path {} is not UTF-8", path.display()).into(),
    })?;
    let mut url = String::from("sqlite://");
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"/-_.".contains(&byte) {
            url.push(char::from(byte));
        } else {
            write!(url, "%{byte:02X}").expect("writing to a text cannot fail");
        }
    }
    url.push_str("?mode=rwc");
    Ok(url)
}

/// Bits for a new id; ids that are made later are greater.
pub(crate) fn fresh_id() -> u128 {
    uuid::Uuid::now_v7().as_u128()
}

#[cfg(test)]
mod tests {
    use trainshed_core::{Timestamp, WorkspaceId};

    use super::*;

    #[tokio::test]
    async fn a_transaction_that_the_database_ends_by_itself_spoils_no_later_one() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), &Database::Folder).await.unwrap();
        for _ in 0..2 {
            let mut transaction = store.begin("write").await.unwrap();
            // As SQLite does when the disk is full.
            transaction.execute("rollback").await.unwrap();
            drop(transaction);
            // One that is given up.
            drop(store.begin("write").await.unwrap());
        }

        let id = WorkspaceId::from_u128(1);
        let made = store.create_workspace(&id, "made", "key", Timestamp(1));
        assert!(made.await.unwrap());

        let found = store.authenticate("key").await.unwrap();
        assert!(found.is_some(), "readers see what was committed");
        store.close().await;
        drop(store);
        let reopened = Store::open(folder.path(), &Database::Folder).await.unwrap();
        let found = reopened.authenticate("key").await.unwrap();
        assert!(found.is_some(), "and so does the next process");
    }
}
