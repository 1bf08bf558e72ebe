//! The PJRT plugin that tensor programs are compared with: XLA for host processors.
//!
//! It comes from PyPI, where the OpenXLA project publishes it, and is used by tests alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::files::{self, FileError};
use crate::process::{self, CommandError};
use crate::say;

const PACKAGE: &str = "xla-cpu-pjrt";
const VERSION: &str = "0.0.1";
/// What pip may install, and the SHA-256 digest of its file for Linux on x86-64.
const REQUIREMENT: &str = "xla-cpu-pjrt==0.0.1 \
    --hash=sha256:55837b6b7b47daa717f2d9a5a03563ea0ceaa338d06a81a1e2d3f060d960decc\n";
/// Where the package puts it, below `site-packages`.
const LIBRARY: &str = "xla_plugins/xla_cpu_pjrt/xla_cpu_pjrt.so";

/// Why there is no plugin.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// Python or the package registry failed.
    #[error(
        "the PJRT plugin `{PACKAGE}` {VERSION} could not be fetched: that takes `python3` with \
         `venv` and a package registry; or set TRAINSHED_PJRT_PLUGIN to a plugin"
    )]
    Fetch(#[source] CommandError),
    /// The package is not as expected.
    #[error("the package `{PACKAGE}` {VERSION} has no file `{LIBRARY}`")]
    Missing,
    /// A file could not be moved.
    #[error(transparent)]
    File(#[from] FileError),
}

/// The plugin from the cache folder, put there first when it is missing: a download of
/// 63 MB.
///
/// # Errors
/// See [`PluginError`].
pub fn plugin(cache: &Path) -> Result<PathBuf, PluginError> {
    let place = cache.join(format!("{PACKAGE}-{VERSION}.so"));
    if place.is_file() {
        return Ok(place);
    }
    files::create_folder(cache)?;
    let _lock = files::lock(&cache.join("lock"))?;
    // Another process may have been faster.
    if place.is_file() {
        return Ok(place);
    }
    say("Fetching XLA for host processors from PyPI (once, 63 MB)");
    let environment = cache.join("pjrt-environment");
    let mut venv = Command::new("python3");
    venv.args(["-m", "venv", "--clear"]).arg(&environment);
    process::output(&mut venv).map_err(PluginError::Fetch)?;
    let requirements = environment.join("requirements.txt");
    files::write(&requirements, REQUIREMENT.as_bytes())?;
    let mut pip = Command::new(environment.join("bin/python"));
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--retries=2",
        "--no-deps",
    ])
    .args(["--only-binary=:all:", "--require-hashes", "-r"])
    .arg(&requirements);
    process::output(&mut pip).map_err(PluginError::Fetch)?;
    let pythons = files::list(&environment.join("lib"))?.into_iter();
    let library = pythons
        .map(|python| python.join("site-packages").join(LIBRARY))
        .find(|library| library.is_file())
        .ok_or(PluginError::Missing)?;
    fs::rename(&library, &place).map_err(|error| FileError::new(&place, "put in place", error))?;
    fs::remove_dir_all(&environment)
        .map_err(|error| FileError::new(&environment, "removed", error))?;
    Ok(place)
}
