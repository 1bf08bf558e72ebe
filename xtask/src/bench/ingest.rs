//! Recording and reading points over HTTP: an example of the server's crate, because it needs
//! no plugin and therefore none of what takes long to build.

use std::path::Path;

use super::BenchError;
use crate::process;

/// Measures how fast points are recorded and read, and prints tables.
///
/// # Errors
/// When it cannot be built or fails.
pub fn run(root: &Path, postgres: Option<&str>, seconds: u32) -> Result<(), BenchError> {
    let mut command = process::cargo();
    command
        .current_dir(root)
        .args(["run", "--release", "--quiet"])
        .args(["--package", "trainshed-server", "--example", "ingest", "--"])
        .args(["--seconds", &seconds.to_string()]);
    if let Some(url) = postgres {
        command.args(["--postgres", url]);
    }
    process::run(&mut command)?;
    Ok(())
}
