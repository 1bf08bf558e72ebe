//! The account of what a run keeps under `/scratch`.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use crate::watch::lock;

/// Most files and folders under `/scratch` at one time.
const MAX_ENTRIES: usize = 10_000;
/// Most files and folders that a run may have open at one time, the data set's included: they
/// come out of one number for the whole process.
const MAX_OPEN: usize = 256;
/// Most listings of folders at one time: each holds the whole folder.
const MAX_LISTINGS: usize = 8;

/// The scratch folder of one run. Clones share the account.
#[derive(Clone)]
pub(crate) struct Scratch {
    folder: Arc<PathBuf>,
    account: Arc<Mutex<Account>>,
}

/// Something is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// Bytes, or files and folders.
    Space,
    /// Open files, or listings.
    Handles,
}

/// Bytes are those of the files' lengths, holes included. The folder is empty at first and
/// only this run writes there, so every length is known without asking the system. A file that
/// is removed while it is open costs what it did until it is closed.
pub(crate) struct Account {
    limit_bytes: u64,
    used_bytes: u64,
    files: HashMap<u64, Share>,
    folders: usize,
    open: Vec<Weak<File>>,
    listings: usize,
}

/// What one file costs; by its inode.
#[derive(Default)]
struct Share {
    bytes: u64,
    removed: bool,
    open: Vec<Weak<File>>,
}

impl Scratch {
    pub(crate) fn new(folder: PathBuf, limit_bytes: u64) -> Self {
        let account = Account {
            limit_bytes,
            used_bytes: 0,
            files: HashMap::new(),
            folders: 0,
            open: Vec::new(),
            listings: 0,
        };
        Self {
            folder: Arc::new(folder),
            account: Arc::new(Mutex::new(account)),
        }
    }

    /// The folder on the host.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn account(&self) -> MutexGuard<'_, Account> {
        lock(&self.account)
    }

    /// Writes all of `bytes` at `offset`, if there is room.
    ///
    /// # Errors
    /// `ENOSPC` when the quota does not allow it, `EFBIG` when the end is no length of a file,
    /// or what the system says.
    pub(crate) fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        let end = offset
            .checked_add(bytes.len() as u64)
            .filter(|end| i64::try_from(*end).is_ok())
            .ok_or(rustix::io::Errno::FBIG)?;
        let inode = file.metadata()?.ino();
        let mut account = self.account();
        account
            .reserve(inode, end)
            .map_err(|_| rustix::io::Errno::NOSPC)?;
        let written = std::os::unix::fs::FileExt::write_all_at(file, bytes, offset);
        if written.is_err() {
            // Some of it may have been written.
            account.set_length(inode, file.metadata()?.len());
        }
        written
    }
}

impl Account {
    /// Whether one more file or folder can be made.
    pub(crate) fn check_entries(&mut self) -> Result<(), Full> {
        if self.files.len() + self.folders >= MAX_ENTRIES {
            self.sweep();
        }
        if self.files.len() + self.folders >= MAX_ENTRIES {
            return Err(Full::Space);
        }
        Ok(())
    }

    /// Whether one more file can be opened.
    pub(crate) fn check_open(&mut self) -> Result<(), Full> {
        if self.open.len() >= MAX_OPEN {
            self.open.retain(|file| file.strong_count() > 0);
        }
        if self.open.len() >= MAX_OPEN {
            return Err(Full::Handles);
        }
        Ok(())
    }

    /// Counts an open file or folder, wherever it lies.
    pub(crate) fn opened(&mut self, file: &Arc<File>) {
        self.open.push(Arc::downgrade(file));
    }

    /// Notes an open file under `/scratch`, which may be new or have lost its content.
    pub(crate) fn opened_here(&mut self, file: &Arc<File>) -> io::Result<()> {
        let metadata = file.metadata()?;
        let inode = metadata.ino();
        // A removed file's inode comes back only when nobody has the file open any more.
        if self.files.get(&inode).is_some_and(|share| share.removed) {
            self.forget(inode);
        }
        self.set_length(inode, metadata.len());
        let share = self.files.entry(inode).or_default();
        share.open.retain(|file| file.strong_count() > 0);
        share.open.push(Arc::downgrade(file));
        Ok(())
    }

    /// Takes room for a file to grow to `length`; none is given back when it is longer.
    pub(crate) fn reserve(&mut self, inode: u64, length: u64) -> Result<(), Full> {
        let known = self.files.get(&inode).map_or(0, |share| share.bytes);
        let growth = length.saturating_sub(known);
        let room = |account: &Self| account.limit_bytes.saturating_sub(account.used_bytes);
        if growth > room(self) {
            self.sweep();
        }
        if growth > room(self) {
            return Err(Full::Space);
        }
        self.set_length(inode, known.max(length));
        Ok(())
    }

    /// Notes the length of a file.
    pub(crate) fn set_length(&mut self, inode: u64, length: u64) {
        let share = self.files.entry(inode).or_default();
        self.used_bytes = self.used_bytes - share.bytes + length;
        share.bytes = length;
    }

    /// Notes that the last name of a file is gone.
    pub(crate) fn removed(&mut self, inode: u64) {
        if let Some(share) = self.files.get_mut(&inode) {
            share.removed = true;
            if share.is_gone() {
                self.forget(inode);
            }
        }
    }

    pub(crate) fn made_folder(&mut self) {
        self.folders += 1;
    }

    pub(crate) fn removed_folder(&mut self) {
        self.folders = self.folders.saturating_sub(1);
    }

    /// Counts a listing that is to be made.
    pub(crate) fn begin_listing(&mut self) -> Result<(), Full> {
        if self.listings >= MAX_LISTINGS {
            return Err(Full::Handles);
        }
        self.listings += 1;
        Ok(())
    }

    pub(crate) fn end_listing(&mut self) {
        self.listings = self.listings.saturating_sub(1);
    }

    /// Forgets removed files that have been closed.
    fn sweep(&mut self) {
        let gone: Vec<u64> = self
            .files
            .iter()
            .filter(|(_, share)| share.is_gone())
            .map(|(inode, _)| *inode)
            .collect();
        for inode in gone {
            self.forget(inode);
        }
    }

    fn forget(&mut self, inode: u64) {
        if let Some(share) = self.files.remove(&inode) {
            self.used_bytes -= share.bytes;
        }
    }
}

impl Share {
    fn is_gone(&self) -> bool {
        self.removed && self.open.iter().all(|file| file.strong_count() == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(scratch: &Scratch, name: &str) -> Arc<File> {
        let file = Arc::new(File::create(scratch.folder().join(name)).unwrap());
        scratch.account().opened_here(&file).unwrap();
        file
    }

    fn remove(scratch: &Scratch, name: &str, file: &File) {
        std::fs::remove_file(scratch.folder().join(name)).unwrap();
        scratch.account().removed(file.metadata().unwrap().ino());
    }

    #[test]
    fn a_write_beyond_the_quota_fails_and_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let scratch = Scratch::new(folder.path().to_owned(), 100);
        let file = made(&scratch, "a");
        scratch.write_at(&file, &[1; 60], 0).unwrap();
        scratch.write_at(&file, &[2; 60], 20).unwrap();
        let error = scratch.write_at(&file, &[3; 60], 60).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(file.metadata().unwrap().len(), 80);
        let error = scratch.write_at(&file, &[3], u64::MAX - 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn a_removed_file_costs_until_it_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let scratch = Scratch::new(folder.path().to_owned(), 100);
        let first = made(&scratch, "a");
        scratch.write_at(&first, &[1; 80], 0).unwrap();
        remove(&scratch, "a", &first);
        let second = made(&scratch, "b");
        assert!(scratch.write_at(&second, &[1; 80], 0).is_err());
        drop(first);
        scratch.write_at(&second, &[1; 80], 0).unwrap();
    }

    #[test]
    fn files_and_open_files_are_limited_in_number() {
        let scratch = Scratch::new(PathBuf::new(), 100);
        let file = Arc::new(tempfile::tempfile().unwrap());
        let mut account = scratch.account();
        for _ in 0..MAX_ENTRIES {
            account.check_entries().unwrap();
            account.made_folder();
        }
        assert_eq!(account.check_entries(), Err(Full::Space));
        for _ in 0..MAX_OPEN {
            account.check_open().unwrap();
            account.opened(&file);
        }
        assert_eq!(account.check_open(), Err(Full::Handles));
        drop(file);
        assert_eq!(account.check_open(), Ok(()));
    }
}
