//! Tasks on their way to another server, whatever database that has.
//!
//! An archive is a zip file: `tables/<name>.ndjson` with a JSON object for each row,
//! compressed, `files/<sha256>` with each content, stored as it is, and `trainshed.json` (see
//! [`Manifest`]), which says how long and what all of it is. `export.rs` writes one.
//!
//! Importing begins with a database of its own: the rows are read into one of the schema that
//! they were written with, which is then brought up to date, and all of it is read as a server
//! would, so that what cannot be read never gets any further (`stage.rs`). Then contents are
//! taken in, which changes nothing that can be seen, and last one transaction writes the rows,
//! with the ids that things have here (`merge.rs`), or adds them to one task (`append.rs`).

mod append;
mod archive;
mod closure;
mod export;
mod merge;
mod stage;

use std::collections::BTreeMap;
use std::io;

use serde::{Deserialize, Serialize};
use trainshed_core::task::TaskState;
use trainshed_core::{Digest, TaskId, Timestamp};

use crate::error::StoreError;
use crate::file::PutError;

pub use export::ExportCounts;
pub use stage::Staged;

/// The layout of the archive.
const FORMAT: u32 = 1;
const MANIFEST: &str = "trainshed.json";

/// What the rows of a table are chosen by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Project,
    File,
    Plugin,
    Dataset,
    Model,
    Task,
    Experiment,
    Owner,
}

/// Every table whose rows belong to tasks and to what they need, each after those that it
/// refers to, with the column that says whose a row is.
const TABLES: [(&str, &str, Key); 26] = [
    ("project", "id", Key::Project),
    ("file", "sha256", Key::File),
    ("plugin", "digest", Key::Plugin),
    ("dataset", "id", Key::Dataset),
    ("dataset_file", "dataset", Key::Dataset),
    ("model", "id", Key::Model),
    ("model_metadata", "model", Key::Model),
    ("task", "id", Key::Task),
    ("task_model", "task", Key::Task),
    ("experiment", "task", Key::Experiment),
    ("experiment_event", "task", Key::Experiment),
    ("trial", "experiment", Key::Experiment),
    ("trial_checkpoint", "task", Key::Task),
    ("tag", "owner", Key::Owner),
    ("parameter", "task", Key::Task),
    ("configuration", "task", Key::Task),
    ("point_state", "task", Key::Task),
    ("point_log", "task", Key::Task),
    ("chunk", "task", Key::Task),
    ("series", "task", Key::Task),
    ("single", "task", Key::Task),
    ("console", "task", Key::Task),
    ("plot", "task", Key::Task),
    ("sample", "task", Key::Task),
    ("trial_report", "task", Key::Task),
    ("artifact", "task", Key::Task),
];

/// What an archive says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Manifest {
    /// Layout of the archive.
    format: u32,
    /// Version of the schema of its tables.
    schema: i64,
    /// When it was written.
    written: Timestamp,
    /// Each table that has rows.
    tables: BTreeMap<String, TableSum>,
    /// Contents.
    files: u64,
    /// Bytes of all contents.
    file_bytes: u64,
}

/// How many rows a table has, and the digest of their text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct TableSum {
    rows: u64,
    sha256: Digest,
}

/// Why there is no archive, or nothing of one was imported.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// There is no such task.
    #[error("there is no task {0}")]
    Unknown(TaskId),
    /// A task is not at rest.
    #[error("the task {task} is {state}")]
    Busy {
        /// Which task.
        task: TaskId,
        /// Its state.
        state: TaskState,
    },
    /// No task was asked for, or none fits.
    #[error("there is no task to export")]
    Nothing,
    /// The archive is not one of ours, or damaged.
    #[error("the archive cannot be used: {0}")]
    Invalid(String),
    /// The archive is to be added to a task, but has not exactly one.
    #[error("the archive has {0} tasks, but one task can only be added to one")]
    NotOne(usize),
    /// The task that is added to may not change.
    #[error("the task {0} is published, and nothing of it changes any more")]
    Published(TaskId),
    /// Iterations would fall on those that are there.
    #[error(
        "the archive begins at iteration {first}, but the task has iterations up to {last} already"
    )]
    Overlap {
        /// The first iteration of the archive, moved as was asked for.
        first: u64,
        /// The last one of the task.
        last: u64,
        /// By how much the archive has to be moved at least.
        least: u64,
    },
    /// A content that the archive is to have is gone or is not what its name says.
    #[error("the content of the file {0} is missing or damaged")]
    DamagedFile(Digest),
    /// A content was not taken.
    #[error("a content of the archive could not be stored")]
    Put(#[source] PutError),
    /// The archive, or what is unpacked of it on the way, could not be written or read.
    #[error("the archive could not be {verb}")]
    Archive {
        /// `written` or `read`.
        verb: &'static str,
        /// What happened.
        #[source]
        source: io::Error,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl TransferError {
    /// What the user can do about it, in one sentence.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown(_) => Some("`trainshed task ls` lists them.".into()),
            Self::Busy { .. } => {
                Some("Stop the task or wait for its end, or ask for others.".into())
            }
            Self::Nothing => Some("`trainshed query tasks` says which tasks fit a query.".into()),
            Self::Invalid(_) => Some(
                "Give a file that `trainshed export` or `trainshed run --offline` wrote.".into(),
            ),
            Self::NotOne(_) => Some("Import it without a task to add it to.".into()),
            Self::Published(_) => Some("Add it to a clone of the task.".into()),
            Self::Overlap { least, .. } => Some(format!(
                "Give an iteration offset of at least {least}, or none to go on after the last."
            )),
            Self::DamagedFile(_) => Some("Upload the file again, then try again.".into()),
            Self::Put(error) => error.hint(),
            Self::Archive { .. } => None,
            Self::Store(error) => error.hint(),
        }
    }
}

fn failed(action: &'static str) -> impl FnOnce(sqlx::Error) -> TransferError {
    move |error| TransferError::Store(StoreError::database(action)(error))
}

fn written(source: io::Error) -> TransferError {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            TransferError::Store(StoreError::io("write an archive")(source))
        }
        _ => TransferError::Archive {
            verb: "written",
            source,
        },
    }
}

fn read(source: io::Error) -> TransferError {
    TransferError::Archive {
        verb: "read",
        source,
    }
}
