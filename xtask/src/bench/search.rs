//! What searchers find: by the library alone, or by the API of a server.

use std::path::Path;

use super::BenchError;
use crate::files::FileError;
use crate::process;

/// Prints what searchers find beside their peers; with a file of problems, what they find when
/// a server is asked over HTTP, beside the library.
///
/// # Errors
/// When it cannot be built or fails.
pub fn run(
    root: &Path,
    http: Option<&Path>,
    seeds: u32,
    searchers: &str,
) -> Result<(), BenchError> {
    let mut command = process::cargo();
    command
        .current_dir(root)
        .args(["run", "--release", "--quiet"]);
    match http {
        None => command.args(["--package", "trainshed-tune", "--example", "bench", "--"]),
        Some(problems) => {
            let path = std::path::absolute(problems);
            let path = path.map_err(|error| FileError::new(problems, "found", error))?;
            command
                .args(["--package", "trainshed-server", "--example", "search", "--"])
                .arg(path)
                .args(["--seeds", &seeds.to_string(), "--searchers", searchers])
        }
    };
    process::run(&mut command)?;
    Ok(())
}
