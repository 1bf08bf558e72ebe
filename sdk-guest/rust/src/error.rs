//! What the host's functions answer when they refuse, as errors with a sentence each.

use std::fmt;

use crate::bindings::imports::trainshed::plugin as raw;

/// Why the host did not take a report. Nothing of the call was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReportError {
    /// An argument breaks its rule.
    InvalidArgument {
        /// The argument's name.
        name: String,
        /// Which rule.
        rule: String,
    },
    /// The task's quota of this kind is used up; the task fails with this reason.
    QuotaExceeded(String),
    /// The task was stopped and its grace time is over.
    Stopped,
}

/// Why the host could not read or write a data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatasetError {
    /// There is no table at this path.
    UnknownTable {
        /// The path asked for; empty when none was.
        path: String,
        /// The paths of the tables that there are.
        tables: Vec<String>,
    },
    /// More than one table, and none was named.
    AmbiguousTable(Vec<String>),
    /// A table has no column of the name, or none that begins so.
    UnknownColumn {
        /// What was looked for.
        column: String,
        /// The table's columns.
        columns: Vec<String>,
    },
    /// The text says which row and column of which file cannot be read as asked.
    Unreadable(String),
    /// Columns cannot be loaded as this element type.
    UnknownDType(String),
    /// The tensor would need more memory than the task may hold.
    OutOfMemory {
        /// Bytes it would need.
        needed: u64,
        /// Bytes that the task may hold.
        allowed: u64,
    },
    /// The version was not written; the text says why.
    NotWritten(String),
}

/// Why a checkpoint could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckpointError {
    /// No tensor has this name.
    UnknownTensor(String),
    /// The file is damaged, or its element type is not one of ours.
    Unreadable(String),
    /// The tensor would need more memory than the task may hold.
    OutOfMemory {
        /// Bytes it would need.
        needed: u64,
        /// Bytes that the task may hold.
        allowed: u64,
    },
    /// A tensor is there, but it does not fit the model.
    Mismatch(String),
}

/// Why a model was not saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelError {
    /// An argument breaks its rule.
    InvalidArgument {
        /// The argument's name.
        name: String,
        /// Which rule.
        rule: String,
    },
    /// The file is larger than what the task may still write.
    QuotaExceeded {
        /// Bytes of the file.
        needed: u64,
        /// Bytes that may still be written.
        allowed: u64,
    },
    /// The task was stopped and its grace time is over.
    Stopped,
    /// The host could not store it; trying again may help.
    NotStored(String),
}

/// Why an artifact was not put, listed or opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArtifactError {
    /// An argument breaks its rule.
    InvalidArgument {
        /// The argument's name.
        name: String,
        /// Which rule.
        rule: String,
    },
    /// There is no such task, or it may not be read from here.
    UnknownTask(String),
    /// The task has no artifact of this name.
    UnknownArtifact(String),
    /// The content is larger than what the task may still write, or read of other tasks.
    QuotaExceeded {
        /// Bytes of the content.
        needed: u64,
        /// Bytes that are left.
        allowed: u64,
    },
    /// The content is elsewhere, damaged, or no folder.
    Unreadable(String),
    /// The task was stopped and its grace time is over.
    Stopped,
    /// The host could not store or fetch it; trying again may help.
    NotStored(String),
}

/// Why a program could not be recorded, compiled or run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProgramError {
    /// The program breaks a rule.
    Invalid {
        /// The body of the program that it is in; absent outside bodies.
        body: Option<u32>,
        /// Position of the instruction; absent when the whole program is wrong.
        instruction: Option<u32>,
        /// The instruction's label, e.g. `hidden.0.weight`.
        label: Option<String>,
        /// One sentence with the shapes, types or attribute at fault.
        message: String,
    },
    /// An argument of the call does not fit; the text says which.
    InvalidArgument(String),
    /// It would need more memory than the task may hold.
    OutOfMemory {
        /// Bytes it would need.
        needed: u64,
        /// Bytes that the task may hold.
        allowed: u64,
    },
    /// The task was stopped while the call ran.
    Stopped,
}

impl fmt::Display for ReportError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidArgument { name, rule } => write!(formatter, "`{name}` {rule}"),
            Self::QuotaExceeded(kind) => write!(formatter, "the task's {kind} are used up"),
            Self::Stopped => formatter.write_str(STOPPED),
        }
    }
}

impl fmt::Display for DatasetError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownTable { tables, .. } if tables.is_empty() => {
                formatter.write_str("the data set has no table (a .csv, .jsonl, .parquet, .npy, .npz or .safetensors file, or images)")
            }
            Self::UnknownTable { path, tables } => write!(
                formatter,
                "the data set has no table `{path}`, but it has {}",
                listed(tables)
            ),
            Self::AmbiguousTable(tables) => write!(
                formatter,
                "the data set has several tables, so one must be named: {}",
                listed(tables)
            ),
            Self::UnknownColumn { column, columns } => write!(
                formatter,
                "the table has no column `{column}`; its columns are {}",
                listed(columns)
            ),
            Self::Unreadable(reason) | Self::NotWritten(reason) => formatter.write_str(reason),
            Self::UnknownDType(name) => {
                write!(formatter, "columns cannot be loaded as `{name}`")
            }
            Self::OutOfMemory { needed, allowed } => out_of_memory(formatter, *needed, *allowed),
        }
    }
}

impl fmt::Display for CheckpointError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownTensor(name) => {
                write!(formatter, "the checkpoint has no tensor `{name}`")
            }
            Self::Unreadable(reason) => {
                write!(formatter, "the checkpoint cannot be read: {reason}")
            }
            Self::OutOfMemory { needed, allowed } => out_of_memory(formatter, *needed, *allowed),
            Self::Mismatch(reason) => formatter.write_str(reason),
        }
    }
}

impl fmt::Display for ModelError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidArgument { name, rule } => write!(formatter, "`{name}` {rule}"),
            Self::QuotaExceeded { needed, allowed } => write!(
                formatter,
                "the model has {needed} bytes, but the task may write only {allowed} more"
            ),
            Self::Stopped => formatter.write_str(STOPPED),
            Self::NotStored(reason) => {
                write!(formatter, "the model could not be stored: {reason}")
            }
        }
    }
}

impl fmt::Display for ArtifactError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidArgument { name, rule } => write!(formatter, "`{name}` {rule}"),
            Self::UnknownTask(task) => write!(formatter, "there is no task `{task}`"),
            Self::UnknownArtifact(name) => {
                write!(formatter, "the task has no artifact `{name}`")
            }
            Self::QuotaExceeded { needed, allowed } => write!(
                formatter,
                "the artifact has {needed} bytes, but the task has room for only {allowed} more"
            ),
            Self::Unreadable(reason) => {
                write!(formatter, "the artifact cannot be read: {reason}")
            }
            Self::Stopped => formatter.write_str(STOPPED),
            Self::NotStored(reason) => {
                write!(
                    formatter,
                    "the artifact could not be stored or fetched: {reason}"
                )
            }
        }
    }
}

impl fmt::Display for ProgramError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid {
                label: Some(label),
                message,
                ..
            } => write!(formatter, "`{label}`: {message}"),
            Self::Invalid {
                body: Some(body),
                instruction: Some(instruction),
                message,
                ..
            } => write!(
                formatter,
                "body {body}, instruction {instruction}: {message}"
            ),
            Self::Invalid {
                instruction: Some(instruction),
                message,
                ..
            } => write!(formatter, "instruction {instruction}: {message}"),
            Self::Invalid { message, .. } => formatter.write_str(message),
            Self::InvalidArgument(reason) => formatter.write_str(reason),
            Self::OutOfMemory { needed, allowed } => out_of_memory(formatter, *needed, *allowed),
            Self::Stopped => formatter.write_str(STOPPED),
        }
    }
}

const STOPPED: &str = "the task was stopped";

/// Enough names to find a spelling mistake by, and no more.
const LISTED_NAMES: usize = 8;

fn listed(names: &[String]) -> String {
    let shown: Vec<String> = names
        .iter()
        .take(LISTED_NAMES)
        .map(|name| format!("`{name}`"))
        .collect();
    let rest = names.len() - shown.len();
    match rest {
        0 => shown.join(", "),
        _ => format!("{} and {rest} more", shown.join(", ")),
    }
}

fn out_of_memory(formatter: &mut fmt::Formatter<'_>, needed: u64, allowed: u64) -> fmt::Result {
    write!(
        formatter,
        "{needed} bytes of tensor memory are needed, but the task may hold {allowed}"
    )
}

impl std::error::Error for ReportError {}
impl std::error::Error for DatasetError {}
impl std::error::Error for CheckpointError {}
impl std::error::Error for ModelError {}
impl std::error::Error for ArtifactError {}
impl std::error::Error for ProgramError {}

impl From<raw::run::ReportError> for ReportError {
    fn from(error: raw::run::ReportError) -> Self {
        match error {
            raw::run::ReportError::InvalidArgument((name, rule)) => {
                Self::InvalidArgument { name, rule }
            }
            raw::run::ReportError::QuotaExceeded(kind) => Self::QuotaExceeded(kind),
            raw::run::ReportError::Stopped => Self::Stopped,
        }
    }
}

impl From<raw::checkpoint::CheckpointError> for CheckpointError {
    fn from(error: raw::checkpoint::CheckpointError) -> Self {
        use raw::checkpoint::CheckpointError as Raw;
        match error {
            Raw::UnknownTensor(name) => Self::UnknownTensor(name),
            Raw::Unreadable(reason) => Self::Unreadable(reason),
            Raw::OutOfMemory((needed, allowed)) => Self::OutOfMemory { needed, allowed },
        }
    }
}

impl From<raw::models::ModelError> for ModelError {
    fn from(error: raw::models::ModelError) -> Self {
        use raw::models::ModelError as Raw;
        match error {
            Raw::InvalidArgument((name, rule)) => Self::InvalidArgument { name, rule },
            Raw::QuotaExceeded((needed, allowed)) => Self::QuotaExceeded { needed, allowed },
            Raw::Stopped => Self::Stopped,
            Raw::NotStored(reason) => Self::NotStored(reason),
        }
    }
}

impl From<raw::artifacts::ArtifactError> for ArtifactError {
    fn from(error: raw::artifacts::ArtifactError) -> Self {
        use raw::artifacts::ArtifactError as Raw;
        match error {
            Raw::InvalidArgument((name, rule)) => Self::InvalidArgument { name, rule },
            Raw::UnknownTask(task) => Self::UnknownTask(task),
            Raw::UnknownArtifact(name) => Self::UnknownArtifact(name),
            Raw::QuotaExceeded((needed, allowed)) => Self::QuotaExceeded { needed, allowed },
            Raw::Unreadable(reason) => Self::Unreadable(reason),
            Raw::Stopped => Self::Stopped,
            Raw::NotStored(reason) => Self::NotStored(reason),
        }
    }
}

impl From<raw::compute::ProgramError> for ProgramError {
    fn from(error: raw::compute::ProgramError) -> Self {
        use raw::compute::ProgramError as Raw;
        match error {
            Raw::Invalid(problem) => Self::Invalid {
                body: problem.body,
                instruction: problem.instruction,
                label: problem.label,
                message: problem.message,
            },
            Raw::InvalidArgument(reason) => Self::InvalidArgument(reason),
            Raw::OutOfMemory((needed, allowed)) => Self::OutOfMemory { needed, allowed },
            Raw::Stopped => Self::Stopped,
        }
    }
}
