//! Data sets: named, versioned sets of files.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::digest::{Digest, Hasher};
use crate::name::is_file_path;

/// One file of a data set version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FileEntry {
    /// Where it lies in the data set, e.g. `train/0001.png`; see [`is_file_path`].
    pub path: String,
    /// Of its content.
    pub sha256: Digest,
    /// Its length.
    pub size_bytes: u64,
}

/// Most files of one data set version.
pub const MAX_FILES: usize = 1_000_000;

/// A list of files that cannot be a data set version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFiles {
    /// No file at all.
    #[error("a data set needs at least one file")]
    Empty,
    /// More than [`MAX_FILES`].
    #[error("a data set has at most {MAX_FILES} files, but this has {0}")]
    TooMany(usize),
    /// A path that breaks the rules of [`is_file_path`].
    #[error(
        "`{0}` is not a path inside a data set: it must be relative, with `/` between its parts and no `..`"
    )]
    Path(String),
    /// Two files with one path, or a file where another file needs a folder.
    #[error("`{0}` is there twice, or is a file and a folder at once")]
    Clash(String),
}

/// Checks `files`, orders them by path and computes the digest of the whole.
///
/// The digest is the SHA-256 of one line `<sha256>  <size>  <path>\n` per file, in the order of
/// their paths, so it depends on paths and contents alone.
///
/// # Errors
/// The first broken rule.
pub fn seal(mut files: Vec<FileEntry>) -> Result<(Vec<FileEntry>, Digest), InvalidFiles> {
    if files.is_empty() {
        return Err(InvalidFiles::Empty);
    }
    if files.len() > MAX_FILES {
        return Err(InvalidFiles::TooMany(files.len()));
    }
    if let Some(bad) = files.iter().find(|file| !is_file_path(&file.path)) {
        return Err(InvalidFiles::Path(bad.path.chars().take(200).collect()));
    }
    // Ordered by parts, so that a folder's files directly follow a file of the folder's name.
    files.sort_by(|a, b| a.path.split('/').cmp(b.path.split('/')));
    for pair in files.windows(2) {
        let (first, second) = (&pair[0].path, &pair[1].path);
        let inside = second.strip_prefix(first.as_str());
        if inside.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
            return Err(InvalidFiles::Clash(first.clone()));
        }
    }
    let mut hasher = Hasher::default();
    for file in &files {
        hasher.update(format!("{}  {}  {}\n", file.sha256, file.size_bytes, file.path).as_bytes());
    }
    Ok((files, hasher.finish()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> FileEntry {
        FileEntry {
            path: path.to_owned(),
            sha256: Digest::of(path.as_bytes()),
            size_bytes: 1,
        }
    }

    #[test]
    fn the_digest_does_not_depend_on_the_order_of_files() {
        let one = seal(vec![file("b"), file("a/x"), file("a.x")]).unwrap();
        let other = seal(vec![file("a.x"), file("b"), file("a/x")]).unwrap();
        assert_eq!(one, other);
    }

    #[test]
    fn clashes_and_escapes_are_refused() {
        assert_eq!(seal(vec![]), Err(InvalidFiles::Empty));
        let twice = vec![file("a"), file("a")];
        assert_eq!(seal(twice), Err(InvalidFiles::Clash("a".into())));
        let folder = vec![file("a/b"), file("a.b"), file("a")];
        assert_eq!(seal(folder), Err(InvalidFiles::Clash("a".into())));
        let escape = vec![file("../a")];
        assert_eq!(seal(escape), Err(InvalidFiles::Path("../a".into())));
    }
}
