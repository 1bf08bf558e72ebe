//! One value that changes when a plugin would compile to something else.

use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::Guest;
use crate::files::{self, FileError};
use crate::toolchain::Toolchain;

/// Shared by all plugins: the SDK, the contract, and the workspace with the versions of
/// all dependencies. A build that changes the lock file makes the next one start again,
/// which cargo then finds nothing to do for.
const SHARED: [&str; 4] = [
    "sdk-guest/rust",
    "wit",
    "plugins/Cargo.toml",
    "plugins/Cargo.lock",
];

/// Folders of a plugin that are not compiled.
const NOT_SOURCES: [&str; 3] = ["actions", "data", "target"];

/// The fingerprint of everything that `guest` is made from, 64 hexadecimal digits.
pub(super) fn of(root: &Path, guest: &Guest, toolchain: &Toolchain) -> Result<String, FileError> {
    let mut hash = Sha256::new();
    // How this program makes components is part of what they are made from.
    add(&mut hash, "how", include_bytes!("component.rs"));
    add(&mut hash, "how", include_bytes!("../toolchain.rs"));
    add(&mut hash, "route", toolchain.target().as_bytes());
    add(&mut hash, "compiler", toolchain.compiler.as_bytes());
    for path in SHARED {
        add_tree(&mut hash, path, &root.join(path))?;
    }
    add_tree(&mut hash, "plugin", &guest.folder)?;
    Ok(hex::encode(hash.finalize()))
}

/// Adds a file, or all that a folder holds, in an order that is the same everywhere.
fn add_tree(hash: &mut Sha256, name: &str, path: &Path) -> Result<(), FileError> {
    if !path.is_dir() {
        if let Some(content) = files::read_if_present(path)? {
            add(hash, name, &content);
        }
        return Ok(());
    }
    for entry in files::list(path)? {
        let entry_name = entry.file_name().unwrap_or_default().to_string_lossy();
        let is_skipped = NOT_SOURCES.contains(&&*entry_name) || entry_name.starts_with('.');
        if !is_skipped {
            add_tree(hash, &format!("{name}/{entry_name}"), &entry)?;
        }
    }
    Ok(())
}

/// Adds a part with its lengths, so that no two lists of parts look the same.
fn add(hash: &mut Sha256, name: &str, content: &[u8]) {
    for bytes in [name.as_bytes(), content] {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fingerprint_changes_with_names_and_contents_of_sources() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            files::write(&folder.path().join(path), text.as_bytes()).unwrap();
        };
        write("src/lib.rs", "one");
        let first = hash_of(folder.path());
        assert_eq!(hash_of(folder.path()), first);

        write("src/lib.rs", "two");
        let second = hash_of(folder.path());
        assert_ne!(second, first);

        write("src/more.rs", "");
        assert_ne!(hash_of(folder.path()), second);
    }

    #[test]
    fn data_and_actions_are_not_sources() {
        let folder = tempfile::tempdir().unwrap();
        files::write(&folder.path().join("src/lib.rs"), b"one").unwrap();
        let before = hash_of(folder.path());
        files::write(&folder.path().join("data/digits.csv"), b"1,2").unwrap();
        files::write(&folder.path().join("actions/train.json"), b"{}").unwrap();
        assert_eq!(hash_of(folder.path()), before);
    }

    fn hash_of(folder: &Path) -> String {
        let mut hash = Sha256::new();
        add_tree(&mut hash, "plugin", folder).unwrap();
        hex::encode(hash.finalize())
    }
}
