//! The tasks that run several programs in order: the tests, the demonstration, the checks.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::bindings::{self, BindingsError};
use crate::pjrt::{self, PluginError};
use crate::plugins::{self, BuildError, Settings};
use crate::process::{self, CommandError};
use crate::processors;
use crate::say;

/// Names the plugin that `host/pjrt`'s tests compare tensor programs with.
const PJRT_PLUGIN: &str = "TRAINSHED_PJRT_PLUGIN";

/// Why a task stopped.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// The plugins could not be built.
    #[error("the plugins could not be built")]
    Plugins(#[from] BuildError),
    /// The guest bindings are not what they should be.
    #[error(transparent)]
    Bindings(#[from] BindingsError),
    /// There is no plugin to compare tensor programs with.
    #[error(transparent)]
    Pjrt(#[from] PluginError),
    /// A program failed; it has said why on the terminal.
    #[error(transparent)]
    Command(#[from] CommandError),
}

/// Sets everything up and runs all tests, of the host and of the guests.
///
/// # Errors
/// The first step that fails.
#[expect(
    clippy::disallowed_methods,
    reason = "another plugin than the fetched one is named by the environment"
)]
pub fn test(root: &Path) -> Result<(), TaskError> {
    install_postgres()?;
    plugins::build(root)?;
    let settings = Settings::from_environment(root).map_err(BuildError::from)?;
    let mut tests = cargo(root);
    if std::env::var_os(PJRT_PLUGIN).is_none() {
        tests.env(PJRT_PLUGIN, pjrt::plugin(&settings.cache)?);
    }
    step(tests.args(["test", "--workspace"]))?;
    processors::test(root)?;
    step(guest_cargo(root, "test").arg("--workspace"))?;
    say("All tests passed.");
    Ok(())
}

/// Installs PostgreSQL where its programs are missing: tests start a cluster of their own.
fn install_postgres() -> Result<(), CommandError> {
    if trainshed_postgres::is_installed() {
        return Ok(());
    }
    step(Command::new("apt-get").args(["install", "-qy", "postgresql"]))
}

/// Trains the digits model from nothing and shows the task and the model it made.
///
/// # Errors
/// The first step that fails.
pub fn demo(root: &Path) -> Result<(), TaskError> {
    plugins::build(root)?;
    build_host(root)?;
    let train = [
        "run",
        "plugins/digits-mlp/actions/train.json",
        "--plugin",
        "target/plugins/digits-mlp.wasm",
        "--dataset",
        "plugins/digits-mlp/data/digits.csv",
    ];
    for arguments in [&train[..], &["task", "ls"], &["model", "ls"]] {
        let mut command = Command::new(host_binary(root, "trainshed"));
        command.args(["--data-dir", "target/demo"]).args(arguments);
        step(command.current_dir(root))?;
    }
    Ok(())
}

/// Breaks a server while it is written to, and counts what is lost.
///
/// # Errors
/// When it cannot be built, or something was lost.
pub fn faults(root: &Path, arguments: &[String]) -> Result<(), TaskError> {
    build_host(root)?;
    let mut command = Command::new(host_binary(root, "trainshed-faults"));
    command
        .arg("--binary")
        .arg(host_binary(root, "trainshed"))
        .args(arguments);
    step(command.current_dir(root))?;
    Ok(())
}

/// Runs what must hold before a change is taken: format, lints, bindings, tests.
///
/// # Errors
/// The first step that fails.
pub fn ci(root: &Path) -> Result<(), TaskError> {
    let deny_warnings = ["--workspace", "--all-targets", "--", "-D", "warnings"];
    step(cargo(root).args(["fmt", "--all", "--check"]))?;
    step(&mut format_check_of_guests(root))?;
    bindings::check(root)?;
    step(cargo(root).arg("clippy").args(deny_warnings))?;
    step(guest_cargo(root, "clippy").args(deny_warnings))?;
    if has_cargo_deny(root) {
        for workspace in ["Cargo.toml", "plugins/Cargo.toml"] {
            let options = ["--config", "deny.toml"];
            let mut command = cargo(root);
            command.args(["deny", "--manifest-path", workspace, "check"]);
            step(command.args(options))?;
        }
    } else {
        say("`cargo deny check` is left out: cargo-deny is not installed");
    }
    test(root)
}

/// Builds the binaries of the whole workspace: built alone, the command line's would have
/// dependencies with fewer features, and the tests would compile all of them again.
fn build_host(root: &Path) -> Result<(), CommandError> {
    step(cargo(root).args(["build", "--workspace", "--bins"]))
}

/// Says which command line comes, then runs it on the user's terminal.
fn step(command: &mut Command) -> Result<(), CommandError> {
    say(&format!("$ {}", process::command_line(command)));
    process::run(command)
}

fn cargo(root: &Path) -> Command {
    let mut command = process::cargo();
    command.current_dir(root);
    command
}

/// Cargo on the guest workspace, for the native target: what of a guest needs no host runs
/// there, and lints are the same.
fn guest_cargo(root: &Path, subcommand: &str) -> Command {
    let mut command = cargo(root);
    command
        .arg(subcommand)
        .args(["--manifest-path", "plugins/Cargo.toml"])
        .args(["--target-dir", "target/plugins-build"]);
    command
}

fn format_check_of_guests(root: &Path) -> Command {
    let mut command = cargo(root);
    command
        .args(["fmt", "--all", "--check"])
        .args(["--manifest-path", "plugins/Cargo.toml"]);
    command
}

fn has_cargo_deny(root: &Path) -> bool {
    process::output(cargo(root).args(["deny", "--version"])).is_ok()
}

/// Where cargo leaves the host, as seen from the root when it is below it.
#[expect(
    clippy::disallowed_methods,
    reason = "cargo takes its target folder from the environment, so this must look there too"
)]
fn host_binary(root: &Path, name: &str) -> PathBuf {
    let name = format!("{name}{}", std::env::consts::EXE_SUFFIX);
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target = root.join(target.unwrap_or_else(|| PathBuf::from("target")));
    target.join("debug").join(name)
}
