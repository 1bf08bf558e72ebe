//! What can go wrong with the store itself.

use std::error::Error;
use std::path::PathBuf;

type Source = Box<dyn Error + Send + Sync>;

/// The store failed. Nothing of the call was kept.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has the data folder open.
    #[error("the data folder {} is in use by another trainshed", .folder.display())]
    Locked {
        /// The folder.
        folder: PathBuf,
    },
    /// The data was written by a newer trainshed, whose schema this one does not know.
    #[error("the data has schema {found}, but this trainshed knows schemas up to {known}")]
    NewerSchema {
        /// The first unknown version.
        found: i64,
        /// The newest version this binary knows.
        known: i64,
    },
    /// The disk has no room.
    #[error("cannot {action}: the disk is full")]
    Full {
        /// What was tried.
        action: &'static str,
    },
    /// Something that was stored is not what was written.
    #[error("cannot {action}: the stored data is damaged")]
    Damaged {
        /// What was tried.
        action: &'static str,
        /// What was found.
        source: Source,
    },
    /// A file that is there by its row is not where it should be.
    #[error("cannot {action}: it is not where it was put")]
    Missing {
        /// What was tried.
        action: &'static str,
        /// What was said.
        source: Source,
    },
    /// An object elsewhere, which was recorded and not copied, is not what it was.
    #[error("`{address}` has changed or is gone since it was recorded")]
    Changed {
        /// Where it is or was.
        address: String,
    },
    /// An address that cannot be used.
    #[error("cannot {action}")]
    Misplaced {
        /// What was tried.
        action: &'static str,
        /// What is wrong with it.
        source: Source,
    },
    /// The database or the file store did not do its work; trying again may help.
    #[error("cannot {action}")]
    Unavailable {
        /// What was tried.
        action: &'static str,
        /// What it said.
        source: Source,
    },
}

impl StoreError {
    /// What the user can do about it, in one sentence.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Locked { .. } => {
                Some("Wait for it to end, or give another folder with --data-dir.".into())
            }
            Self::NewerSchema { .. } => Some("Install the newer trainshed again.".into()),
            Self::Full { .. } => Some("Make room on the disk and try again.".into()),
            Self::Damaged { .. } => Some("Restore the data folder from a backup.".into()),
            Self::Missing { .. } => Some("Upload it again.".into()),
            Self::Changed { .. } => {
                Some("Put the former object back, or import it again as a new version.".into())
            }
            Self::Misplaced { .. } => {
                Some("Are its keys, region and account in the server's environment?".into())
            }
            Self::Unavailable { .. } => None,
        }
    }

    /// The same error for another caller whose call failed with this one.
    pub(crate) fn again(&self) -> Self {
        let told = |source: &Source| -> Source {
            let mut text = source.to_string();
            let mut next = source.source();
            while let Some(cause) = next {
                text = format!("{text}: {cause}");
                next = cause.source();
            }
            text.into()
        };
        match self {
            Self::Locked { folder } => Self::Locked {
                folder: folder.clone(),
            },
            Self::NewerSchema { found, known } => Self::NewerSchema {
                found: *found,
                known: *known,
            },
            Self::Full { action } => Self::Full { action },
            Self::Damaged { action, source } => Self::Damaged {
                action,
                source: told(source),
            },
            Self::Missing { action, source } => Self::Missing {
                action,
                source: told(source),
            },
            Self::Changed { address } => Self::Changed {
                address: address.clone(),
            },
            Self::Misplaced { action, source } => Self::Misplaced {
                action,
                source: told(source),
            },
            Self::Unavailable { action, source } => Self::Unavailable {
                action,
                source: told(source),
            },
        }
    }

    /// Sorts what the database says by what can be done about it.
    pub(crate) fn database(action: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |error| {
            let code = error
                .as_database_error()
                .and_then(|error| error.code())
                .and_then(|code| code.parse::<i32>().ok());
            match (code.map(|code| code & 0xff), &error) {
                (Some(SQLITE_FULL), _) => Self::Full { action },
                (Some(SQLITE_CORRUPT | SQLITE_NOTADB), _)
                | (None, sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_)) => {
                    Self::damaged(action)(error)
                }
                _ => Self::Unavailable {
                    action,
                    source: error.into(),
                },
            }
        }
    }

    /// Sorts what the operating system says by what can be done about it.
    pub(crate) fn io(action: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |error| match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                Self::Full { action }
            }
            _ => Self::Unavailable {
                action,
                source: error.into(),
            },
        }
    }

    /// Sorts what the file store says by what can be done about it.
    pub(crate) fn files(action: &'static str) -> impl FnOnce(object_store::Error) -> Self {
        move |error| {
            if is_disk_full(&error) {
                Self::Full { action }
            } else {
                Self::Unavailable {
                    action,
                    source: error.into(),
                }
            }
        }
    }

    /// An address that no object store can be opened at.
    pub(crate) fn misplaced<E: Into<Source>>(action: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::Misplaced {
            action,
            source: error.into(),
        }
    }

    /// Something that was read cannot have been written by us.
    pub(crate) fn damaged<E: Into<Source>>(action: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::Damaged {
            action,
            source: error.into(),
        }
    }
}

const SQLITE_CORRUPT: i32 = 11;
const SQLITE_FULL: i32 = 13;
const SQLITE_NOTADB: i32 = 26;

/// Looks for the operating system's error below those of the file store.
fn is_disk_full(error: &object_store::Error) -> bool {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        let io = error.downcast_ref::<std::io::Error>();
        if io.is_some_and(|io| io.kind() == std::io::ErrorKind::StorageFull) {
            return true;
        }
        next = error.source();
    }
    false
}
