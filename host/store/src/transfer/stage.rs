//! Reading an archive into a database of its own, where it is looked at before anything of it
//! gets further.

use std::fs::File;
use std::path::Path;

use futures::stream;
use serde_json::{Map, Value};
use sqlx::{AnyConnection, Connection, Executor as _};
use tempfile::TempDir;
use trainshed_core::address::{Address, is_uri};
use trainshed_core::draft::Script;
use trainshed_core::figure::MAX_FIGURE_BYTES;
use trainshed_core::limits::LimitRequest;
use trainshed_core::name::MAX_NAME_BYTES;
use trainshed_core::task::TaskState;
use trainshed_core::{Digest, TaskId, Timestamp, WorkspaceId};

use crate::console::ConsoleQuery;
use crate::database::{Database, Kind, Store, database_url, migrate_to};
use crate::error::StoreError;
use crate::file::{Upload, bigint};
use crate::media::ShownQuery;
use crate::points::MAX_SERIES;
use crate::rows::{RowError, columns, insert};
use crate::task::QueryError;
use crate::transfer::archive::{Reader, Row, invalid, shortened};
use crate::transfer::closure::Closure;
use crate::transfer::{Manifest, TABLES, TransferError, failed, read, written};
use crate::workspace::Workspace;

const ACTION: &str = "read an archive";
/// Points and lines that are looked at together.
const PAGE: usize = 50_000;
/// Contents that are asked for at once.
const FILES: usize = 1000;

/// An archive that was read and found good, on its way into a store.
#[derive(Debug)]
pub struct Staged {
    pub(super) store: Store,
    pub(super) workspace: Workspace,
    pub(super) tasks: Vec<TaskId>,
    components: Vec<Digest>,
    files: Vec<Digest>,
    /// Contents that are not in the archive, and where they are.
    links: Vec<(Digest, Address)>,
    reader: Reader,
    /// Removed with all that is in it.
    _folder: TempDir,
}

impl Staged {
    /// Reads an archive; what is unpacked of it lies in `scratch` for as long as this lives.
    ///
    /// # Errors
    /// When the archive is not one of ours, is damaged, or holds what no server has.
    pub async fn open(archive: File, scratch: &Path) -> Result<Self, TransferError> {
        let scratch = scratch.to_owned();
        // Unpacking is long work, and a thread of its own may also run migrations.
        let runtime = tokio::runtime::Handle::current();
        let opened = move || runtime.block_on(Self::unpack(archive, &scratch));
        let opened = tokio::task::spawn_blocking(opened).await;
        opened.map_err(|error| read(error.into()))?
    }

    async fn unpack(archive: File, scratch: &Path) -> Result<Self, TransferError> {
        let (mut reader, manifest) = Reader::open(archive)?;
        let folder = TempDir::with_prefix_in("import-", scratch).map_err(written)?;
        let (kind, url) = database_url(folder.path(), &Database::Folder)?;
        if manifest.schema < 1 || manifest.schema > kind.newest_schema() {
            return Err(invalid(format!(
                "it has schema {}, but this trainshed knows schemas up to {}",
                manifest.schema,
                kind.newest_schema()
            )));
        }
        migrate_to(kind, &url, manifest.schema).await?;
        let workspace = Workspace::of(WorkspaceId::from_u128(1));
        fill(&url, &workspace, &reader, &manifest).await?;
        migrate_to(kind, &url, kind.newest_schema()).await?;
        let store = Store::open(folder.path(), &Database::Folder).await?;
        let mut staged = Self {
            store,
            workspace,
            tasks: Vec::new(),
            components: Vec::new(),
            files: Vec::new(),
            links: Vec::new(),
            reader: reader.clone(),
            _folder: folder,
        };
        staged.look().await.map_err(|error| match error {
            // It is not our data that is damaged.
            TransferError::Store(StoreError::Damaged { source, .. }) => invalid(source.to_string()),
            other => other,
        })?;
        let is_left_out = |link: &(Digest, Address)| reader.file_size(&link.0).is_none();
        staged.links.retain(is_left_out);
        for file in &staged.files {
            let is_link = staged.links.iter().any(|(link, _)| link == file);
            if reader.file_size(file).is_none() && !is_link {
                return Err(invalid(format!(
                    "the content of the file {file} is missing"
                )));
            }
        }
        Ok(staged)
    }

    /// The tasks of the archive.
    pub fn tasks(&self) -> &[TaskId] {
        &self.tasks
    }

    /// The components of the archive, whose contents are among its files.
    pub fn components(&self) -> &[Digest] {
        &self.components
    }

    /// Where a component of the archive came from, if that was recorded.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn source(&self, component: &Digest) -> Result<Option<Script>, StoreError> {
        self.store.plugin_source(&self.workspace, component).await
    }

    /// Lets go of what was unpacked.
    pub async fn close(self) {
        self.store.close().await;
    }

    /// Reads everything as a server would, so that none of it can be what no server can read.
    async fn look(&mut self) -> Result<(), TransferError> {
        let (store, workspace) = (&self.store, &self.workspace);
        let connection = store.reader.acquire().await;
        let mut connection = connection.map_err(failed(ACTION))?;
        let rows: Vec<(String, String, String, String, i64)> =
            sqlx::query_as("select id, state, settings, limits, initial_iteration from task")
                .fetch_all(&mut *connection)
                .await
                .map_err(failed(ACTION))?;
        for (id, state, settings, limits, initial_iteration) in rows {
            let task: TaskId = id.parse().map_err(StoreError::damaged(ACTION))?;
            match TaskState::parse(&state) {
                Some(TaskState::Queued | TaskState::InProgress) => {
                    return Err(invalid(format!("its task {task} is {state}")));
                }
                _ if id != task.as_str() || initial_iteration < 0 => {
                    return Err(invalid(format!("its task {task} is none")));
                }
                _ => {}
            }
            let _: Map<String, Value> =
                serde_json::from_str(&settings).map_err(StoreError::damaged(ACTION))?;
            let _: LimitRequest =
                serde_json::from_str(&limits).map_err(StoreError::damaged(ACTION))?;
            self.tasks.push(task);
        }
        if self.tasks.is_empty() {
            return Err(invalid("it has no task".to_owned()));
        }
        let (figures,): (i64,) = sqlx::query_as("select count(*) from plot where size_bytes > $1")
            .bind(bigint(MAX_FIGURE_BYTES as u64))
            .fetch_one(&mut *connection)
            .await
            .map_err(failed(ACTION))?;
        if figures > 0 {
            return Err(invalid("it has a figure that is too large".to_owned()));
        }
        for table in ["artifact", "model", "sample"] {
            let statement = format!("select uri from {table} where uri is not null");
            let uris: Vec<(String,)> = sqlx::query_as(sqlx::AssertSqlSafe(statement))
                .fetch_all(&mut *connection)
                .await
                .map_err(failed(ACTION))?;
            if let Some((uri,)) = uris.iter().find(|(uri,)| !is_uri(uri)) {
                let uri = shortened(uri);
                return Err(invalid(format!(
                    "`{uri}` of its table `{table}` is no address"
                )));
            }
        }
        let links: Vec<(String, String)> = sqlx::query_as(
            "select sha256, location from file where linked = 1 and location is not null",
        )
        .fetch_all(&mut *connection)
        .await
        .map_err(failed(ACTION))?;
        for (digest, address) in links {
            let digest = digest.parse().map_err(StoreError::damaged(ACTION))?;
            let address = address.parse().map_err(StoreError::damaged(ACTION))?;
            self.links.push((digest, address));
        }
        let ids = self.tasks.iter().map(|task| task.as_str().to_owned());
        let all = Closure::of(&mut connection, workspace.as_str(), ids.collect()).await;
        let all = all.map_err(failed(ACTION))?;
        drop(connection);
        for task in &self.tasks {
            look_at_task(store, workspace, task).await?;
        }
        for id in &all.models {
            let model = store
                .any_model(workspace, crate::file::unsigned(*id))
                .await?;
            if let Some(model) = model {
                check_name(&model.name)?;
            }
        }
        for id in &all.datasets {
            let version = store.dataset(workspace, crate::file::unsigned(*id)).await?;
            if let Some(version) = version {
                check_name(&version.name)?;
            }
        }
        let digests = |texts: &std::collections::BTreeSet<String>| {
            let digests = texts.iter().map(|text| text.parse::<Digest>());
            let digests: Result<Vec<Digest>, _> = digests.collect();
            digests.map_err(StoreError::damaged(ACTION))
        };
        self.components = digests(&all.plugins)?;
        self.files = digests(&all.files)?;
        Ok(())
    }
}

impl Store {
    /// Links the contents that an archive only says the place of, where they are not here yet.
    /// Each is read once. `allows` says where the server may be sent.
    ///
    /// # Errors
    /// When one is elsewhere than `allows` says, or is not what the archive says.
    pub async fn take_links(
        &self,
        workspace: &Workspace,
        staged: &Staged,
        allows: impl Fn(&Address) -> bool,
        now: Timestamp,
    ) -> Result<(), TransferError> {
        for (digest, address) in &staged.links {
            let missing = self.missing_files(workspace, &[*digest], now).await?;
            if missing.is_empty() {
                continue;
            }
            if !allows(address) {
                return Err(invalid(format!(
                    "the content of the file {digest} is not in it but at `{address}`, where this \
                     server does not read for its callers"
                )));
            }
            let linked = self.link_object(workspace, address, now).await;
            let (found, _) = linked.map_err(TransferError::Put)?;
            if found != *digest {
                return Err(invalid(format!(
                    "what is at `{address}` now is not the file {digest} any more"
                )));
            }
        }
        Ok(())
    }

    /// Takes in the contents of an archive that are not here yet; returns how many, and their
    /// bytes. Nothing refers to them yet.
    ///
    /// # Errors
    /// When one is not what its name says, or cannot be stored.
    pub async fn take_contents(
        &self,
        workspace: &Workspace,
        staged: &mut Staged,
        now: Timestamp,
    ) -> Result<(u64, u64), TransferError> {
        let (mut files, mut bytes) = (0, 0);
        for known in staged.files.chunks(FILES) {
            for digest in self.missing_files(workspace, known, now).await? {
                let size_bytes = staged.reader.file_size(&digest);
                let pieces = staged.reader.file(&digest);
                let content = stream::unfold(pieces, |mut pieces| async {
                    pieces.recv().await.map(|piece| (piece, pieces))
                });
                let upload = Upload {
                    sha256: Some(&digest),
                    size_bytes,
                    destination: None,
                };
                let stored = self.put_upload(workspace, &upload, content, now).await;
                stored.map_err(|error| match error {
                    crate::file::PutError::WrongDigest { .. }
                    | crate::file::PutError::WrongSize { .. }
                    | crate::file::PutError::BrokenOff { .. } => {
                        invalid(format!("the content of the file {digest} is damaged"))
                    }
                    other => TransferError::Put(other),
                })?;
                files += 1;
                bytes += size_bytes.unwrap_or_default();
            }
        }
        Ok((files, bytes))
    }
}

/// Fills the database at `url` with the rows of an archive, all or none.
async fn fill(
    url: &str,
    workspace: &Workspace,
    reader: &Reader,
    manifest: &Manifest,
) -> Result<(), TransferError> {
    let connection = AnyConnection::connect(url).await;
    let mut connection = connection.map_err(failed(ACTION))?;
    // It is thrown away when anything happens.
    for setting in ["pragma synchronous = off", "pragma foreign_keys = on"] {
        connection.execute(setting).await.map_err(failed(ACTION))?;
    }
    let begun = Connection::begin(&mut connection).await;
    let mut transaction = begun.map_err(failed(ACTION))?;
    sqlx::query("insert into workspace (id, name, created) values ($1, 'import', 0)")
        .bind(workspace.as_str())
        .execute(&mut *transaction)
        .await
        .map_err(failed(ACTION))?;
    let mut left = reader.row_bytes();
    for (table, ..) in TABLES {
        let Some(sum) = manifest.tables.get(table) else {
            continue;
        };
        let known = columns(&mut transaction, Kind::Sqlite, table).await;
        let known = known.map_err(failed(ACTION))?;
        let mut rows = reader.rows(table, sum.clone(), left);
        loop {
            let row = match rows.recv().await {
                Some(Ok(Row::Row(row))) => row,
                Some(Ok(Row::End(bytes))) => {
                    left = left.saturating_sub(bytes);
                    break;
                }
                Some(Err(error)) => return Err(error),
                None => return Err(invalid(format!("its table `{table}` cannot be read"))),
            };
            let row = in_workspace(row, workspace);
            let inserted = insert(&mut transaction, table, &known, &row).await;
            inserted.map_err(|error| refused(table, error))?;
        }
    }
    transaction.commit().await.map_err(failed(ACTION))?;
    connection.close().await.map_err(failed(ACTION))
}

/// A row as one of `workspace`.
pub(super) fn in_workspace(
    mut row: Map<String, Value>,
    workspace: &Workspace,
) -> Map<String, Value> {
    row.insert("workspace".to_owned(), workspace.as_str().into());
    row
}

/// Why a row was not taken: mostly because of what is in it.
pub(super) fn refused(table: &str, error: RowError) -> TransferError {
    match error {
        RowError::Invalid(what) => invalid(format!("a row of `{table}` {what}")),
        RowError::Database(error) => {
            let is_about_values = error.as_database_error().is_some_and(|error| {
                let is_of_data = error.code().is_some_and(|code| code.starts_with("22"));
                is_of_data || !matches!(error.kind(), sqlx::error::ErrorKind::Other)
            });
            if is_about_values {
                invalid(format!(
                    "a row of `{table}` breaks a rule of the database: {error}"
                ))
            } else {
                failed(ACTION)(error)
            }
        }
    }
}

fn check_name(name: &str) -> Result<(), TransferError> {
    if name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
        return Err(invalid(format!("`{}` cannot be a name", shortened(name))));
    }
    Ok(())
}

async fn look_at_task(
    store: &Store,
    workspace: &Workspace,
    task: &TaskId,
) -> Result<(), TransferError> {
    let view = store.task(workspace, task).await?;
    let view = view.ok_or_else(|| invalid(format!("its task {task} has no project")))?;
    check_name(&view.name)?;
    check_name(&view.project)?;
    store.parameters(workspace, task).await?;
    store.properties(workspace, task).await?;
    store.configurations(workspace, task).await?;
    store.compact_points(workspace, task).await?;
    store.singles(workspace, task).await?;
    let curves = store.series(workspace, task).await?;
    if curves.len() as u64 > MAX_SERIES {
        return Err(invalid(format!(
            "its task {task} has {} curves",
            curves.len()
        )));
    }
    for curve in curves {
        let names = (curve.title.as_str(), curve.series.as_str());
        let mut from = Some(0);
        while let Some(first) = from {
            from = store
                .points(workspace, task, names, first, PAGE)
                .await?
                .next;
        }
    }
    let mut line = Some(0);
    while let Some(first) = line {
        let page = ConsoleQuery::from(first, PAGE as u64);
        line = store.console(workspace, task, &page).await?.next;
    }
    let mut query = ShownQuery {
        limit: 1000,
        ..ShownQuery::default()
    };
    loop {
        let page = store.plots(workspace, task, &query, true).await;
        query.after = page.map_err(query_error)?.next;
        if query.after.is_none() {
            break;
        }
    }
    store.samples(workspace, task).await?;
    store.reported_trials(workspace, task).await?;
    store.artifacts(workspace, task, true).await?;
    Ok(())
}

fn query_error(error: QueryError) -> TransferError {
    match error {
        QueryError::Store(error) => error.into(),
        QueryError::Cursor(error) => invalid(error.to_string()),
    }
}
