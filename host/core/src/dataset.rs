//! Data sets: named, versioned sets of files.

use std::collections::{BTreeMap, VecDeque};

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

/// How one version differs from another, file by file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Difference {
    /// Files that only the later one has, and that were not moved there.
    pub added: Vec<FileEntry>,
    /// Files that only the earlier one has, and that were not moved away.
    pub removed: Vec<FileEntry>,
    /// Files with one path and two contents.
    pub changed: Vec<ChangedFile>,
    /// Contents that have another path.
    pub moved: Vec<MovedFile>,
    /// Files that are the same.
    pub unchanged: u64,
}

/// A file with another content than before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChangedFile {
    /// Where it lies.
    pub path: String,
    /// What it was.
    pub before: Digest,
    /// What it is.
    pub after: Digest,
    /// Its length before.
    pub bytes_before: u64,
    /// Its length now.
    pub bytes_after: u64,
}

/// A content at another path than before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MovedFile {
    /// Where it lay.
    pub from: String,
    /// Where it lies.
    pub to: String,
    /// Of its content.
    pub sha256: Digest,
    /// Its length.
    pub size_bytes: u64,
}

/// How `after` differs from `before`, ordered by path. Of several files with one content that
/// went away and came, the first of each are one that moved.
pub fn difference(before: &[FileEntry], after: &[FileEntry]) -> Difference {
    let by_path = |files: &'_ [FileEntry]| -> BTreeMap<String, FileEntry> {
        let pairs = files.iter().map(|file| (file.path.clone(), file.clone()));
        pairs.collect()
    };
    let (mut old, mut difference) = (by_path(before), Difference::default());
    let mut came = Vec::new();
    for (path, file) in by_path(after) {
        match old.remove(&path) {
            None => came.push(file),
            Some(former) if former.sha256 == file.sha256 => difference.unchanged += 1,
            Some(former) => difference.changed.push(ChangedFile {
                path,
                before: former.sha256,
                after: file.sha256,
                bytes_before: former.size_bytes,
                bytes_after: file.size_bytes,
            }),
        }
    }
    let mut went: BTreeMap<Digest, VecDeque<FileEntry>> = BTreeMap::new();
    for file in old.into_values() {
        went.entry(file.sha256).or_default().push_back(file);
    }
    for file in came {
        match went.get_mut(&file.sha256).and_then(VecDeque::pop_front) {
            Some(former) => difference.moved.push(MovedFile {
                from: former.path,
                to: file.path,
                sha256: file.sha256,
                size_bytes: file.size_bytes,
            }),
            None => difference.added.push(file),
        }
    }
    difference.removed = went.into_values().flatten().collect();
    difference.removed.sort_by(|a, b| a.path.cmp(&b.path));
    difference
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_names_what_came_went_changed_and_moved() {
        let holds = |path: &str, content: &str| FileEntry {
            path: path.to_owned(),
            sha256: Digest::of(content.as_bytes()),
            size_bytes: content.len() as u64,
        };
        let before = [
            holds("same", "1"),
            holds("gone", "2"),
            holds("old/name", "3"),
            holds("changed", "4"),
            holds("twin", "3"),
        ];
        let after = [
            holds("same", "1"),
            holds("new", "5"),
            holds("new/name", "3"),
            holds("changed", "44"),
            holds("twin", "3"),
        ];
        let found = difference(&before, &after);
        assert_eq!(found.unchanged, 2);
        assert_eq!(found.added, [holds("new", "5")]);
        assert_eq!(found.removed, [holds("gone", "2")]);
        let moved: Vec<_> = found.moved.iter().map(|m| (&*m.from, &*m.to)).collect();
        assert_eq!(moved, [("old/name", "new/name")]);
        let changed: Vec<_> = found
            .changed
            .iter()
            .map(|c| (&*c.path, c.bytes_after))
            .collect();
        assert_eq!(changed, [("changed", 2)]);
        let same = difference(&after, &after);
        assert_eq!(same.unchanged, 5);
        assert_eq!(
            Difference {
                unchanged: 0,
                ..same
            },
            Difference::default()
        );
    }

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
