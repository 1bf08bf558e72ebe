//! Other programs, run to their end, with errors that quote the command line.

use std::io;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

/// A program that did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It could not be started, most often because it is not installed.
    #[error("`{program}` could not be started")]
    NotStarted {
        /// Its name or path.
        program: String,
        /// What the system says.
        source: io::Error,
    },
    /// It ended with an error, which it has written to the terminal itself.
    #[error("`{command}` failed ({status})")]
    Failed {
        /// The command line.
        command: String,
        /// How it ended.
        status: ExitStatus,
    },
    /// It ended with an error, and this is what it wrote.
    #[error("`{command}` failed: {message}")]
    FailedSaying {
        /// The command line.
        command: String,
        /// The end of its standard error.
        message: String,
    },
}

/// Cargo, without what an outer cargo, clippy or shell has set for another build.
///
/// Cargo hands its own settings to the programs it runs, and this is one of them: flags
/// and wrappers meant for the host would change or break the compilation of guests. What it
/// says of this package would make build scripts that look at it, as ring's does, run again,
/// and with them everything behind them, whenever cargo is called in the other way.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(cargo_path());
    for name in [
        "RUSTC",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_BUILD_RUSTFLAGS",
        "CARGO_BUILD_TARGET",
        "CARGO_MANIFEST_DIR",
        "CARGO_MANIFEST_PATH",
    ] {
        command.env_remove(name);
    }
    for name in PACKAGE {
        command.env_remove(format!("CARGO_PKG_{name}"));
    }
    command
}

/// What cargo tells a program of its package, behind `CARGO_PKG_`.
const PACKAGE: [&str; 14] = [
    "NAME",
    "VERSION",
    "VERSION_MAJOR",
    "VERSION_MINOR",
    "VERSION_PATCH",
    "VERSION_PRE",
    "AUTHORS",
    "DESCRIPTION",
    "HOMEPAGE",
    "REPOSITORY",
    "LICENSE",
    "LICENSE_FILE",
    "RUST_VERSION",
    "README",
];

/// Runs a command whose output goes to the user's terminal.
pub(crate) fn run(command: &mut Command) -> Result<(), CommandError> {
    let status = command
        .status()
        .map_err(|source| not_started(command, source))?;
    if status.success() {
        return Ok(());
    }
    let command = command_line(command);
    Err(CommandError::Failed { command, status })
}

/// Runs a command for its standard output.
pub(crate) fn output(command: &mut Command) -> Result<String, CommandError> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|source| not_started(command, source))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = said.trim().lines().collect();
    let message = lines[lines.len().saturating_sub(MAX_QUOTED_LINES)..].join("\n");
    let command = command_line(command);
    Err(CommandError::FailedSaying { command, message })
}

/// Enough for a compiler's last error, and no wall of text.
const MAX_QUOTED_LINES: usize = 20;

/// The command as one would type it, without its environment.
pub(crate) fn command_line(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str());
    let words = std::iter::once(name).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}

#[expect(
    clippy::disallowed_methods,
    reason = "cargo says through the environment which cargo runs this"
)]
fn cargo_path() -> std::ffi::OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

fn not_started(command: &Command, source: io::Error) -> CommandError {
    let program = command.get_program().to_string_lossy().into_owned();
    CommandError::NotStarted { program, source }
}
