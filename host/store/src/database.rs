//! Opening the data folder: lock, database, migrations, file store.

use std::fmt::Write as _;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use object_store::local::LocalFileSystem;
use sqlx::any::AnyPoolOptions;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{Any, AnyConnection, AnyPool, Connection as _, Executor as _, Transaction};

use crate::error::StoreError;
use crate::file;

/// Schema changes, oldest first. A released one is never edited.
static SQLITE_MIGRATIONS: Migrator = sqlx::migrate!("./migrations/sqlite");

/// Readers beside the one writer: as many as requests that are likely to read at once on a
/// small machine; more would only hold memory.
const READERS: u32 = 4;

/// The open data folder. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    /// One connection, so that transactions follow each other.
    writer: AnyPool,
    pub(crate) reader: AnyPool,
    pub(crate) files: Arc<LocalFileSystem>,
    pub(crate) files_folder: PathBuf,
    /// Held for as long as the store is open; the operating system lets go of it when the
    /// process ends, however that happens.
    _lock: Arc<File>,
}

impl Store {
    /// Opens the data in `folder`, which is made if it is missing, and brings its schema up
    /// to date. Parts of uploads that a killed process left behind are removed.
    ///
    /// # Errors
    /// [`StoreError::Locked`] while another process has it open;
    /// [`StoreError::NewerSchema`] when a newer trainshed wrote it.
    pub async fn open(folder: &Path) -> Result<Self, StoreError> {
        let action = "open the data folder";
        let files_folder = folder.join("files");
        std::fs::create_dir_all(&files_folder).map_err(StoreError::io(action))?;
        let folder = folder.canonicalize().map_err(StoreError::io(action))?;
        let lock = lock(&folder)?;

        let files_folder = folder.join("files");
        file::remove_partial_uploads(&files_folder)?;
        let files = LocalFileSystem::new_with_prefix(&files_folder)
            .map_err(StoreError::files(action))?
            .with_fsync(true);

        sqlx::any::install_default_drivers();
        let url = sqlite_url(&folder.join("trainshed.db"))?;
        migrate(&url).await?;
        let writer = AnyPoolOptions::new()
            .max_connections(1)
            .after_connect(|connection, _| {
                Box::pin(async move {
                    for pragma in [
                        "pragma journal_mode = wal",
                        "pragma synchronous = full",
                        "pragma foreign_keys = on",
                        "pragma busy_timeout = 10000",
                    ] {
                        connection.execute(pragma).await?;
                    }
                    Ok(())
                })
            })
            .connect(&url)
            .await
            .map_err(StoreError::database("open the database"))?;
        let reader = AnyPoolOptions::new()
            .max_connections(READERS)
            .after_connect(|connection, _| {
                Box::pin(async move {
                    connection.execute("pragma busy_timeout = 10000").await?;
                    connection.execute("pragma query_only = on").await?;
                    Ok(())
                })
            })
            .connect(&url)
            .await
            .map_err(StoreError::database("open the database"))?;
        Ok(Self {
            writer,
            reader,
            files: Arc::new(files),
            files_folder,
            _lock: Arc::new(lock),
        })
    }

    /// Waits until the database is closed. Later calls fail; without it, dropping the last
    /// clone closes the database soon.
    pub async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
    }

    /// Begins a transaction that may write. It waits for the one before it; dropped without
    /// a commit, it leaves nothing.
    pub(crate) async fn begin(
        &self,
        action: &'static str,
    ) -> Result<Transaction<'static, Any>, StoreError> {
        self.writer
            .begin()
            .await
            .map_err(StoreError::database(action))
    }
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

/// Brings the schema up to date, on a connection of its own: a pool would try a file that is
/// no database again and again, and not say why.
async fn migrate(url: &str) -> Result<(), StoreError> {
    let connection = AnyConnection::connect(url).await;
    let mut connection = connection.map_err(StoreError::database("open the database"))?;
    let migrated = SQLITE_MIGRATIONS.run(&mut connection).await;
    let closed = connection.close().await;
    match migrated {
        Ok(()) => closed.map_err(StoreError::database("open the database")),
        Err(MigrateError::VersionMissing(found)) => Err(StoreError::NewerSchema {
            found,
            known: SQLITE_MIGRATIONS
                .iter()
                .map(|migration| migration.version)
                .max()
                .unwrap_or(0),
        }),
        Err(MigrateError::Execute(error)) => {
            Err(StoreError::database("migrate the database")(error))
        }
        Err(other) => Err(StoreError::damaged("migrate the database")(other)),
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
