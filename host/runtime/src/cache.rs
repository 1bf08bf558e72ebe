//! Compiled components on disk, so that a component is compiled once per machine.

use std::hash::Hash;
use std::path::PathBuf;
use std::{fs, io};

use trainshed_core::Digest;
use trainshed_core::digest::Hasher;
use wasmtime::Engine;
use wasmtime::component::Component;

/// A folder of compiled components that only trainshed writes.
///
/// A file is named after the component and everything that the compiled code depends on: the
/// engine's version, settings and CPU features. It ends with the SHA-256 of what stands before,
/// so that a damaged file is noticed before a byte of it is taken for code.
pub(crate) struct Cache {
    folder: PathBuf,
    compatibility: Digest,
}

const CHECKSUM_BYTES: usize = 64;

impl Cache {
    /// Opens the folder, making it if need be.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub(crate) fn open(folder: PathBuf, engine: &Engine) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        let mut hasher = StableHasher::default();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Ok(Self {
            folder,
            compatibility: hasher.0.finish(),
        })
    }

    /// The compiled form of the component with this digest; `None` when there is none, or none
    /// that is whole.
    pub(crate) fn get(&self, digest: &Digest, engine: &Engine) -> Option<Component> {
        let path = self.path(digest);
        let file = fs::read(&path).ok()?;
        let (code, checksum) = file.split_at_checked(file.len().checked_sub(CHECKSUM_BYTES)?)?;
        if Digest::of(code).to_string().as_bytes() != checksum {
            tracing::warn!(path = %path.display(), "a damaged file in the compile cache is replaced");
            return None;
        }
        #[expect(
            unsafe_code,
            reason = "the file is whole, was written by `put`, and fits this engine by its name"
        )]
        // SAFETY: the bytes are what `Component::serialize` gave: the checksum matches, and the
        // folder belongs to trainshed alone, as its documentation demands.
        let component = unsafe { Component::deserialize(engine, code) };
        component
            .inspect_err(
                |error| tracing::warn!(%error, "a file in the compile cache does not load"),
            )
            .ok()
    }

    /// Keeps the compiled form of a component. Readers see the whole file or none.
    ///
    /// # Errors
    /// When the file cannot be written; nothing is kept then.
    pub(crate) fn put(&self, digest: &Digest, component: &Component) -> io::Result<()> {
        let mut file = component.serialize().map_err(io::Error::other)?;
        let checksum = Digest::of(&file).to_string();
        file.extend_from_slice(checksum.as_bytes());
        let path = self.path(digest);
        let unique = format!(
            "{}-{:?}.part",
            std::process::id(),
            std::thread::current().id()
        );
        let part = path.with_extension(unique);
        fs::write(&part, file)?;
        fs::rename(&part, path).inspect_err(|_| {
            // Nothing depends on the unfinished file; the next start may write another.
            let _ = fs::remove_file(&part);
        })
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        let compatibility = self.compatibility.short();
        self.folder.join(format!("{digest}-{compatibility}.cwasm"))
    }
}

/// Turns what implements `Hash` into a digest that is the same in every process.
#[derive(Default)]
struct StableHasher(Hasher);

impl std::hash::Hasher for StableHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Never asked for: the whole digest is taken instead.
    fn finish(&self) -> u64 {
        0
    }
}
