//! What can go wrong on the command line, what to do about it, and with which exit code.

use std::io;
use std::path::PathBuf;

use trainshed_engine::{BackupError, OpenError, StoreError};
use trainshed_wire::ClientError;

/// Why a command did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The process could not be set up.
    #[error("trainshed could not start")]
    Start(#[source] io::Error),
    /// A file of the user's.
    #[error("`{}` could not be {verb}", path.display())]
    File {
        path: PathBuf,
        verb: &'static str,
        #[source]
        source: io::Error,
    },
    /// A file that is not JSON, or not the JSON that is wanted.
    #[error("`{}` is not {expected}", path.display())]
    Json {
        path: PathBuf,
        expected: &'static str,
        #[source]
        source: serde_json::Error,
    },
    /// An argument that only the command itself can judge.
    #[error("{0}")]
    Usage(String),
    /// Something that was asked for is not there.
    #[error("{0}")]
    Missing(String),
    /// There is no home folder to put the data in.
    #[error("no data folder: neither --data-dir nor HOME is set")]
    NoDataDir,
    /// The data folder could not be opened.
    #[error("the data folder `{}` could not be opened", path.display())]
    Open {
        path: PathBuf,
        #[source]
        source: Box<OpenError>,
    },
    /// The data folder was opened, and then the store failed.
    #[error("the data folder `{}` could not be used", path.display())]
    Store {
        path: PathBuf,
        #[source]
        source: StoreError,
    },
    /// Another process has the data folder and does not serve it.
    #[error("the data folder `{}` is in use by another trainshed process", .0.display())]
    InUse(PathBuf),
    /// No key was given for a server.
    #[error("no key for the server")]
    NoKey,
    /// The address could not be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        address: String,
        #[source]
        source: io::Error,
    },
    /// The server's words, or its silence.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A backup was not written or not restored.
    #[error(transparent)]
    Backup(#[from] trainshed_engine::BackupError),
    /// The agent.
    #[error(transparent)]
    Agent(#[from] trainshed_agent::AgentError),
}

impl CliError {
    /// See the help text of the program.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Json { .. } | Self::NoDataDir => 2,
            Self::Missing(_) => 3,
            Self::NoKey => 4,
            Self::InUse(_) | Self::Backup(BackupError::NotEmpty) => 5,
            Self::Client(ClientError::Unreachable { .. }) => 6,
            Self::Client(error) => match error.status() {
                Some(404) => 3,
                Some(401 | 403) => 4,
                _ if error.is_about_status() => 5,
                Some(409 | 412) => 5,
                Some(400 | 422) => 2,
                _ => 1,
            },
            _ => 1,
        }
    }

    /// What the user can do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Client(error) => error.hint(),
            Self::Json { .. } => Some("Check the file with `python3 -m json.tool`.".to_owned()),
            Self::NoDataDir => Some("Give a folder with --data-dir.".to_owned()),
            Self::InUse(_) => Some("Wait for it to end, or give another folder with --data-dir.".to_owned()),
            Self::NoKey => Some("Give it with --key or TRAINSHED_KEY; the server wrote it to the file `key` in its data folder.".to_owned()),
            Self::Backup(error) => error.hint(),
            Self::Open { source, .. } => source.hint(),
            Self::Store { source, .. } => source.hint(),
            _ => None,
        }
    }
}
