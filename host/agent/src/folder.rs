//! The private folders of runs.
//!
//! To make a folder and its sub-folders and to remove them again takes a file system longer than
//! a short run takes for all the rest, so one that a run has left empty is the next run's.

use std::fs::{File, FileTimes};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use tempfile::TempDir;

/// The folder of all runs' folders.
pub(crate) struct Folders {
    path: PathBuf,
    /// Folders with nothing but empty folders in them; as many as runs there were at a time.
    empty: Mutex<Vec<TempDir>>,
}

/// The folder of one run; removed when this is dropped.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Folders {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path,
            empty: Mutex::default(),
        }
    }

    /// A folder in which nothing is but, maybe, empty folders.
    pub(crate) fn take(&self) -> io::Result<Folder> {
        let empty = self.empty().pop();
        let folder = match empty {
            Some(empty) => empty,
            None => tempfile::Builder::new()
                .prefix("task-")
                .tempdir_in(&self.path)?,
        };
        Ok(Folder(folder))
    }

    /// Takes back the folder of a run that has ended, and of which no thread works any more.
    pub(crate) fn give_back(&self, folder: Folder) {
        // One that cannot be looked at is removed as any other.
        if let Ok(true) = tidy(folder.path()) {
            self.empty().push(folder.0);
        }
    }

    fn empty(&self) -> std::sync::MutexGuard<'_, Vec<TempDir>> {
        self.empty.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether there are but empty folders in a folder. Their times, which the run could set, then
/// tell the next run nothing.
fn tidy(folder: &Path) -> io::Result<bool> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() || std::fs::read_dir(entry.path())?.next().is_some() {
            return Ok(false);
        }
        let times = FileTimes::new()
            .set_accessed(SystemTime::UNIX_EPOCH)
            .set_modified(SystemTime::UNIX_EPOCH);
        File::open(entry.path())?.set_times(times)?;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_was_left_empty_is_used_again_and_no_other() {
        let base = tempfile::tempdir().unwrap();
        let folders = Folders::new(base.path().to_owned());
        let first = folders.take().unwrap();
        let other = folders.take().unwrap();
        let (kept, removed) = (first.path().to_owned(), other.path().to_owned());
        assert_ne!(kept, removed);
        for folder in [&first, &other] {
            std::fs::create_dir(folder.path().join("scratch")).unwrap();
        }
        std::fs::write(other.path().join("scratch/left"), "secret").unwrap();
        folders.give_back(other);
        folders.give_back(first);
        assert!(!removed.exists());

        let again = folders.take().unwrap();
        assert_eq!(again.path(), kept);
        let modified = kept.join("scratch").metadata().unwrap().modified();
        assert_eq!(modified.unwrap(), SystemTime::UNIX_EPOCH);
        assert_ne!(folders.take().unwrap().path(), kept);
        drop(again);
        assert!(!kept.exists());
    }
}
