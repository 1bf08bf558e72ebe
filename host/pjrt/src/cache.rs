//! Compiled programs on disk: compiling for a GPU takes seconds to minutes.
//!
//! An entry begins with the digest of what follows, so one that was cut short or damaged
//! is as if it were not there. It appears under its name only when it is whole. Nothing
//! here fails: without the cache a program is compiled.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use crate::client::Client;

/// Bytes of a SHA-256 digest.
const DIGEST: usize = 32;

/// More entries than this, and the oldest go: a program takes 0.1 to 10 MB.
const MOST_ENTRIES: usize = 500;

/// A folder of compiled programs of one client.
#[derive(Debug)]
pub(crate) struct Cache {
    folder: PathBuf,
    /// Everything but the program that what is compiled depends on.
    client: Vec<u8>,
}

impl Cache {
    pub(crate) fn new(folder: PathBuf, client: &Client) -> Self {
        let mut hash = Sha256::new();
        let device = client.devices().into_iter().next();
        for part in [
            client.platform(),
            client.platform_version(),
            &client.plugin_identity(),
            &device.map_or_else(String::new, |device| device.kind),
        ] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hash.update(client.options());
        Self {
            folder,
            client: hash.finalize().to_vec(),
        }
    }

    fn path(&self, text: &str) -> PathBuf {
        let mut hash = Sha256::new();
        hash.update(&self.client);
        hash.update(text);
        self.folder.join(hex::encode(hash.finalize()))
    }

    pub(crate) fn get(&self, text: &str) -> Option<Vec<u8>> {
        let mut content = fs::read(self.path(text)).ok()?;
        if content.len() < DIGEST {
            return None;
        }
        let bytes = content.split_off(DIGEST);
        (Sha256::digest(&bytes).as_slice() == content).then_some(bytes)
    }

    pub(crate) fn put(&self, text: &str, bytes: &[u8]) {
        let write = || -> std::io::Result<()> {
            fs::create_dir_all(&self.folder)?;
            let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
            file.write_all(&Sha256::digest(bytes))?;
            file.write_all(bytes)?;
            file.persist(self.path(text))?;
            Ok(())
        };
        if write().is_ok() {
            self.remove_oldest();
        }
    }

    fn remove_oldest(&self) {
        let Ok(entries) = fs::read_dir(&self.folder) else {
            return;
        };
        let mut entries: Vec<(SystemTime, PathBuf)> = entries
            .flatten()
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        entries.sort_unstable();
        let surplus = entries.len().saturating_sub(MOST_ENTRIES);
        for (_, path) in &entries[..surplus] {
            let _ = fs::remove_file(path);
        }
    }
}
