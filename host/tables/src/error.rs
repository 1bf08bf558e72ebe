use trainshed_core::text::shortened;
use trainshed_tensor::ProgramError;

/// Why a table, or a part of it, cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// No column has this name.
    #[error("the table has no column `{0}`")]
    UnknownColumn(String),
    /// The text names file, row and column.
    #[error("{0}")]
    Unreadable(String),
    /// It does not fit the task's memory.
    #[error("{needed} bytes are needed, but the task may hold {allowed}")]
    OutOfMemory {
        /// Bytes there would be.
        needed: u64,
        /// Bytes there may be.
        allowed: u64,
    },
}

impl From<ProgramError> for TableError {
    fn from(error: ProgramError) -> Self {
        match error {
            ProgramError::OutOfMemory { needed, allowed } => Self::OutOfMemory { needed, allowed },
            other => Self::Unreadable(other.to_string()),
        }
    }
}

/// The error that the file at `path` cannot be read for this reason.
pub(crate) fn unreadable(path: &str, message: &str) -> TableError {
    TableError::Unreadable(format!("`{}`: {message}", shortened(path, 200)))
}
