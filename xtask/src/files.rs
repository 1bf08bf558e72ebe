//! Files with errors that name them, written so that nobody sees half of one.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// A file or folder that could not be used.
#[derive(Debug, thiserror::Error)]
#[error("`{path}` could not be {action}", path = .path.display())]
pub struct FileError {
    /// The file or folder.
    pub path: PathBuf,
    /// What should have been done to it, as a participle.
    pub action: &'static str,
    /// What the system says.
    pub source: io::Error,
}

impl FileError {
    pub(crate) fn new(path: &Path, action: &'static str, source: io::Error) -> Self {
        let path = path.to_owned();
        Self {
            path,
            action,
            source,
        }
    }
}

/// The content of a file; `None` when there is none.
pub(crate) fn read_if_present(path: &Path) -> Result<Option<Vec<u8>>, FileError> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(FileError::new(path, "read", error)),
    }
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    fs::read(path).map_err(|error| FileError::new(path, "read", error))
}

/// Puts a file in place with its whole content, or leaves what was there.
pub(crate) fn write(path: &Path, content: &[u8]) -> Result<(), FileError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    create_folder(folder)?;
    let written = tempfile::NamedTempFile::new_in(folder).and_then(|mut file| {
        file.write_all(content)?;
        // Temporary files are private to their user, but a plugin is for everyone.
        set_mode(file.as_file(), 0o644)?;
        file.persist(path).map_err(|error| error.error)
    });
    written.map_err(|error| FileError::new(path, "written", error))?;
    Ok(())
}

pub(crate) fn create_folder(path: &Path) -> Result<(), FileError> {
    fs::create_dir_all(path).map_err(|error| FileError::new(path, "created", error))
}

/// What lies directly in a folder, ordered by name; nothing when there is no folder.
pub(crate) fn list(folder: &Path) -> Result<Vec<PathBuf>, FileError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(FileError::new(folder, "listed", error)),
    };
    let paths: io::Result<Vec<PathBuf>> = entries.map(|entry| Ok(entry?.path())).collect();
    let mut paths = paths.map_err(|error| FileError::new(folder, "listed", error))?;
    paths.sort();
    Ok(paths)
}

/// Waits until no other process holds the lock file; holds it until the result is dropped.
pub(crate) fn lock(path: &Path) -> Result<File, FileError> {
    create_folder(path.parent().unwrap_or(Path::new(".")))?;
    let locked = File::create(path).and_then(|file| file.lock().map(|()| file));
    locked.map_err(|error| FileError::new(path, "locked", error))
}

/// Lets everyone run a file as a program.
pub(crate) fn make_executable(path: &Path) -> Result<(), FileError> {
    let changed = File::open(path).and_then(|file| set_mode(&file, 0o755));
    changed.map_err(|error| FileError::new(path, "made executable", error))
}

#[cfg(unix)]
fn set_mode(file: &File, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    file.set_permissions(fs::Permissions::from_mode(mode))
}

#[cfg(not(unix))]
fn set_mode(_file: &File, _mode: u32) -> io::Result<()> {
    Ok(())
}
