//! The tests of the tensor kernels on processors that this machine is not: kernels choose their
//! instructions when they run, so a machine's own tests reach one choice only.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::process::{self, CommandError};
use crate::say;

/// QEMU's emulator of single programs, in Debian's package `qemu-user`.
const EMULATOR: &str = "qemu-x86_64";

/// Processors by QEMU's names: all that it can do, which is AVX2 and fused multiply-add but no
/// AVX-512, and one without any of them.
const PROCESSORS: [&str; 2] = ["max", "Nehalem"];

/// The folder of the package that has the kernels.
const PACKAGE: &str = "host/tensor";

/// Tests of how soon a program stops, which an emulator does not.
const OF_TIME: &str = "stops";

/// Runs the tensor tests of a host that is built for Linux on x86-64, on each emulated
/// processor. Without the emulator it only says so.
///
/// # Errors
/// The first test program that fails.
pub(crate) fn test(root: &Path) -> Result<(), CommandError> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Ok(());
    }
    if process::output(Command::new(EMULATOR).arg("--version")).is_err() {
        say(&format!(
            "the tensor tests on other processors are left out: {EMULATOR} is not installed"
        ));
        return Ok(());
    }
    let mut listing = listing(root);
    let tests = tests_of_kernels(&process::output(&mut listing)?);
    if tests.is_empty() {
        // What cargo says has another form than expected: to go on would look like passing.
        return Err(CommandError::FailedSaying {
            command: process::command_line(&listing),
            message: format!("it names no test program of {PACKAGE}"),
        });
    }
    let folder = root.join(PACKAGE);
    for processor in PROCESSORS {
        say(&format!("The tensor tests on the processor `{processor}`"));
        for test in &tests {
            let mut command = Command::new(EMULATOR);
            command.args(["-cpu", processor]).arg(test).arg("--quiet");
            process::run(command.current_dir(&folder))?;
        }
    }
    Ok(())
}

/// Lists the tests of the workspace, a JSON object a line.
fn listing(root: &Path) -> Command {
    let mut command = process::cargo();
    command.current_dir(root);
    command.args([
        "test",
        "--workspace",
        "--no-run",
        "--message-format",
        "json",
    ]);
    command
}

/// The test programs of the kernels' package, but for those of time.
fn tests_of_kernels(messages: &str) -> Vec<PathBuf> {
    let manifest = Path::new(PACKAGE).join("Cargo.toml");
    let messages = messages
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    let programs = messages.filter_map(|message: Value| {
        let is_test = message["profile"]["test"] == true
            && message["target"]["kind"][0] != "example"
            && message["target"]["name"] != OF_TIME
            && Path::new(message["manifest_path"].as_str()?).ends_with(&manifest);
        message["executable"]
            .as_str()
            .filter(|_| is_test)
            .map(PathBuf::from)
    });
    programs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_test_programs_of_the_package_are_taken() {
        let message = |package: &str, name: &str, kind: &str, is_test: bool| {
            serde_json::json!({
                "reason": "compiler-artifact",
                "manifest_path": format!("/nowhere/host/{package}/Cargo.toml"),
                "target": { "name": name, "kind": [kind] },
                "profile": { "test": is_test },
                "executable": format!("/target/{name}"),
            })
            .to_string()
        };
        let messages = [
            message("tensor", "values", "test", true),
            message("tensor", "trainshed_tensor", "lib", true),
            message("tensor", "stops", "test", true),
            message("tensor", "compute_step", "example", true),
            message("tensor", "tool", "bin", false),
            message("agent", "agent", "lib", true),
            r#"{"reason":"build-finished","success":true}"#.to_owned(),
            "not JSON".to_owned(),
        ];
        let found = tests_of_kernels(&messages.join("\n"));
        let expected = ["/target/values", "/target/trainshed_tensor"].map(PathBuf::from);
        assert_eq!(found, expected);
    }
}
