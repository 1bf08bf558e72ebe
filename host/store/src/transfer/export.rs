//! Writing tasks, and all that they need, to an archive.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;

use futures::TryStreamExt as _;
use serde_json::{Map, Value};
use sqlx::{AnyConnection, AssertSqlSafe, Executor as _};
use trainshed_core::digest::Hasher;
use trainshed_core::task::TaskState;
use trainshed_core::{Digest, TaskId, Timestamp};

use crate::database::{Kind, Store};
use crate::error::StoreError;
use crate::rows::{columns, to_json};
use crate::transfer::archive::Writer;
use crate::transfer::closure::Closure;
use crate::transfer::{FORMAT, Key, Manifest, TABLES, TransferError, failed, read};
use crate::workspace::Workspace;

const ACTION: &str = "export tasks";

/// What an archive has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExportCounts {
    /// Tasks, with the trials of experiments.
    pub tasks: u64,
    /// Contents.
    pub files: u64,
    /// Bytes of all contents.
    pub file_bytes: u64,
}

impl Store {
    /// Writes tasks to `target`, with all that is known of them and all that they need: trials,
    /// models and data sets with those that they came from, components, contents. Rows are read
    /// as of one moment, while the server goes on. With `without_linked`, contents that are
    /// only linked are not written, but where they are.
    ///
    /// # Errors
    /// When one of them is not there, waits or runs, or a content cannot be read.
    pub async fn export_tasks(
        &self,
        workspace: &Workspace,
        tasks: &[TaskId],
        without_linked: bool,
        target: File,
        now: Timestamp,
    ) -> Result<ExportCounts, TransferError> {
        if tasks.is_empty() {
            return Err(TransferError::Nothing);
        }
        let tasks: BTreeSet<String> = tasks.iter().map(|id| id.as_str().to_owned()).collect();
        let connection = self.reader.acquire().await.map_err(failed(ACTION))?;
        // It is closed with its transaction, whatever happens.
        let mut connection = connection.detach();
        let with_trials = Closure::of(&mut connection, workspace.as_str(), tasks.clone()).await;
        for task in with_trials.map_err(failed(ACTION))?.tasks {
            let task: TaskId = task.parse().map_err(StoreError::damaged(ACTION))?;
            // Chunks take a fraction of the room of the log.
            self.compact_points(workspace, &task).await?;
        }
        let begin = match self.kind {
            Kind::Sqlite => "begin",
            Kind::Postgres => "begin isolation level repeatable read read only",
        };
        connection.execute(begin).await.map_err(failed(ACTION))?;
        let closure = Closure::of(&mut connection, workspace.as_str(), tasks).await;
        let closure = closure.map_err(failed(ACTION))?;
        check_states(&mut connection, workspace, &closure).await?;

        let mut archive = Writer::new(target);
        let mut left_out = BTreeSet::new();
        for (table, column, key) in TABLES {
            let known = columns(&mut connection, self.kind, table).await;
            let known = known.map_err(failed(ACTION))?;
            let mut rows = archive.table(table)?;
            for keys in closure.keys(key) {
                // The names are those of the table above.
                let statement = AssertSqlSafe(keys.statement(table, column));
                let query = sqlx::query(statement).bind(workspace.as_str().to_owned());
                let query = keys.bind(query);
                let mut found = query.fetch(&mut connection);
                while let Some(row) = found.try_next().await.map_err(failed(ACTION))? {
                    let mut row = to_json(&row, &known).map_err(failed(ACTION))?;
                    if key == Key::File {
                        let digest = row.get("sha256").and_then(Value::as_str);
                        let digest = digest.unwrap_or_default().to_owned();
                        if without_linked && is_linked(&row) {
                            left_out.insert(digest);
                        } else {
                            forget_place(&mut row);
                        }
                    }
                    if let Some(row) = fit(table, key, row, &closure) {
                        rows.row(&row)?;
                    }
                }
            }
            rows.finish();
        }
        drop(connection);

        for digest in closure.files.difference(&left_out) {
            let digest: Digest = digest.parse().map_err(StoreError::damaged(ACTION))?;
            self.write_content(workspace, &digest, &mut archive).await?;
        }
        let manifest = archive.finish(Manifest {
            format: FORMAT,
            schema: self.kind.newest_schema(),
            written: now,
            tables: BTreeMap::new(),
            files: 0,
            file_bytes: 0,
        })?;
        Ok(ExportCounts {
            tasks: closure.tasks.len() as u64,
            files: manifest.files,
            file_bytes: manifest.file_bytes,
        })
    }

    async fn write_content(
        &self,
        workspace: &Workspace,
        digest: &Digest,
        archive: &mut Writer,
    ) -> Result<(), TransferError> {
        let content = self.open_file(workspace, digest, None).await?;
        let mut content = content.ok_or(TransferError::DamagedFile(*digest))?;
        let mut hasher = Hasher::default();
        archive.file(digest)?;
        loop {
            let piece = content.try_next().await.map_err(read)?;
            let Some(piece) = piece else { break };
            hasher.update(&piece);
            archive.piece(&piece)?;
        }
        if hasher.finish() == *digest {
            Ok(())
        } else {
            Err(TransferError::DamagedFile(*digest))
        }
    }
}

/// Refuses tasks that are not there, and those that still change.
async fn check_states(
    connection: &mut AnyConnection,
    workspace: &Workspace,
    closure: &Closure,
) -> Result<(), TransferError> {
    for id in &closure.tasks {
        let task: TaskId = id.parse().map_err(StoreError::damaged(ACTION))?;
        let state: Option<(String,)> =
            sqlx::query_as("select state from task where workspace = $1 and id = $2")
                .bind(workspace.as_str())
                .bind(id)
                .fetch_optional(&mut *connection)
                .await
                .map_err(failed(ACTION))?;
        match state.map(|(state,)| TaskState::parse(&state)) {
            None => return Err(TransferError::Unknown(task)),
            Some(Some(state @ (TaskState::Queued | TaskState::InProgress))) => {
                return Err(TransferError::Busy { task, state });
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// A row without what means something only where it was, or `None` when it does not belong to
/// what is exported.
fn fit(
    table: &str,
    key: Key,
    mut row: Map<String, Value>,
    closure: &Closure,
) -> Option<Map<String, Value>> {
    let text = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default();
    let number = |name: &str| row.get(name).and_then(Value::as_i64);
    let is_ours = match table {
        "tag" => closure.has_owner(text("kind"), text("owner")),
        "task_model" => number("model").is_some_and(|id| closure.models.contains(&id)),
        _ => true,
    };
    if !is_ours {
        return None;
    }
    row.remove("workspace");
    let here_only: &[&str] = match key {
        Key::Project => &["default_output"],
        Key::Task if table == "task" => &[
            "queue",
            "agent",
            "lease_until",
            "stop_requested",
            "stop_reason",
        ],
        _ => &[],
    };
    for name in here_only {
        row.insert((*name).to_owned(), Value::Null);
    }
    Some(row)
}

fn is_linked(file: &Map<String, Value>) -> bool {
    file.get("linked").and_then(Value::as_i64) == Some(1)
}

/// Makes the row of a file that of a content which is in the archive.
fn forget_place(file: &mut Map<String, Value>) {
    for name in ["location", "etag"] {
        file.insert(name.to_owned(), Value::Null);
    }
    file.insert("linked".to_owned(), 0.into());
}
