//! Measures speed and memory against their targets; `docs/performance.md` explains the rows.
//!
//! Everything runs on the release build and in a data folder of its own. The times of a
//! training step are taken in turns, so that a change of the machine's load meets all alike.

pub mod compute;
pub mod ingest;
pub mod search;
mod server;
mod table;
pub mod trees;
pub mod trials;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::files::{self, FileError};
use crate::plugins::{self, BuildError};
use crate::process::{self, CommandError};
use crate::say;
use server::Server;
use table::{Row, Target};

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The plugins could not be built.
    #[error("the plugins could not be built")]
    Plugins(#[from] BuildError),
    /// A program failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A file could not be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// A program printed something else.
    #[error("`{program}` must print {expected}, but it prints `{found}`")]
    Output {
        /// The program.
        program: String,
        /// What was looked for.
        expected: String,
        /// The beginning of what it printed.
        found: String,
    },
    /// There is no such task.
    #[error("there is no task `{0}`: the tasks are the letters a to h")]
    Task(String),
    /// What is compared with is missing.
    #[error(
        "the tasks are compared with PyTorch, which `python3` does not have: name a Python \
         that has it by TRAINSHED_PYTHON"
    )]
    PyTorch,
    /// The server that is measured went away or did not answer.
    #[error("the server {0}")]
    Server(String),
}

/// How often each time of a training step is taken. The fastest counts: what other programs
/// do at the same time only ever adds.
const ROUNDS: usize = 9;
/// Training steps of each time.
const STEPS: u32 = 10_000;
/// Measurements that are reported one by one, in each form, and how often.
const REPORTS: u32 = 200_000;
const REPORT_ROUNDS: usize = 3;
/// How many tasks are started warm, behind a first one that is not counted.
const WARM_STARTS: usize = 20;

/// Measures everything and prints one table on standard output.
///
/// Takes two minutes besides compiling. A missed target is a row of the table, no error.
///
/// # Errors
/// The first step that fails.
pub fn run(root: &Path) -> Result<(), BenchError> {
    let folder = tempfile::tempdir();
    let folder = folder.map_err(|error| FileError::new(Path::new("."), "made", error))?;
    let shed = prepare(root, folder.path(), "measure")?;
    let example = ["--package", "trainshed-tensor", "--example", "digits_step"];
    build(root, &example)?;
    let digits = root.join("plugins/digits-mlp/data/digits.csv");
    let made = shed.json(&["dataset", "create", "digits", &digits.to_string_lossy()])?;
    let dataset = made.number("/id")?;

    let python = python_with_torch();
    let mut rows = steps(root, &shed, dataset, &digits, python.as_deref())?;
    rows.extend(reports(&shed, dataset)?);
    rows.extend(idle_and_warm(&shed, dataset)?);
    table::print(&rows);
    Ok(())
}

/// The release binary on an empty data folder in `folder`, with `plugin` pushed.
fn prepare(root: &Path, folder: &Path, plugin: &str) -> Result<Shed, BenchError> {
    let plugins = plugins::build(root)?;
    build(root, &["--package", "trainshed-cli"])?;
    let plugin = plugins.path(plugin).ok_or_else(|| BenchError::Output {
        program: "cargo xtask plugins".to_owned(),
        expected: format!("the plugin `{plugin}`"),
        found: "others".to_owned(),
    })?;
    let shed = Shed {
        program: root.join("target/release/trainshed"),
        folder: folder.to_owned(),
        plugin: plugin.to_owned(),
    };
    shed.json(&["plugin", "push", &plugin.to_string_lossy()])?;
    Ok(shed)
}

/// Times of a training step: from a plugin, without one, and of PyTorch.
fn steps(
    root: &Path,
    shed: &Shed,
    dataset: f64,
    digits: &Path,
    python: Option<&str>,
) -> Result<Vec<Row>, BenchError> {
    let action = shed.action("training steps", dataset, &json!({ "steps": STEPS }), 1)?;
    let from_plugin = || shed.json(&["run", &action]);
    let result = shed.folder.join("result.json");
    let first = from_plugin()?;
    files::write(&result, first.value["result"].to_string().as_bytes())?;

    let (mut plugin, mut native, mut pytorch) = (Vec::new(), Vec::new(), Vec::new());
    let mut version = String::new();
    for round in 1..=ROUNDS {
        say(&format!("Training steps, round {round} of {ROUNDS}"));
        plugin.push(from_plugin()?.number("/result/us_per_step")?);
        let mut example = Command::new(root.join("target/release/examples/digits_step"));
        let printed = Printed::by(example.arg(&result).arg(digits))?;
        native.push(printed.number("/us_per_step")?);
        if let Some(python) = python {
            let script = root.join("xtask/bench/pytorch_digits.py");
            let printed = Printed::by(Command::new(python).arg(script).arg(digits))?;
            pytorch.push(printed.number("/us_per_step")?);
            version = printed.value["version"].as_str().unwrap_or("?").to_owned();
        }
    }

    let (plugin, native) = (fastest(&plugin), fastest(&native));
    let mut rows = vec![
        Row::new("digits step, from a plugin", plugin, "µs"),
        Row::new(
            "digits step, the same program without a plugin",
            native,
            "µs",
        ),
        Row::new("plugin / without", plugin / native, "").with(Target::AtMost(1.10)),
    ];
    if pytorch.is_empty() {
        say("PyTorch: not found (set TRAINSHED_PYTHON)");
        return Ok(rows);
    }
    let pytorch = fastest(&pytorch);
    let name = format!("digits step, PyTorch {version} eager, one thread");
    rows.push(Row::new(&name, pytorch, "µs"));
    rows.push(Row::new("PyTorch / plugin", pytorch / plugin, "").with(Target::AtLeast(8.0)));
    Ok(rows)
}

/// Memory of an idle server, and how soon a task's first line follows its lease.
fn idle_and_warm(shed: &Shed, dataset: f64) -> Result<Vec<Row>, BenchError> {
    say("Idle memory");
    let server = Server::start(shed, 1)?;
    let idle = server.usage_when_idle()?;
    say("Warm starts");
    let action = shed.action("warm start", dataset, &json!({ "steps": 0 }), 1)?;
    let mut waits = Vec::new();
    for _ in 0..=WARM_STARTS {
        let task = shed.json(&["submit", &action, "--follow"])?;
        let leased = task.number("/started")?;
        let id = task.value["id"].as_str().unwrap_or_default();
        let lines = shed.lines(&["task", "logs", id])?;
        let first = lines.iter().find(|line| line.value["text"] == "started");
        let first = first.ok_or_else(|| task.without("a task with the line `started`"))?;
        waits.push(first.number("/at")? - leased);
    }
    waits.remove(0);
    drop(server);

    let slowest = waits.iter().copied().fold(0.0, f64::max);
    let name = format!("warm start, the slowest of {WARM_STARTS}");
    Ok(vec![
        Row::new("warm start: lease to first line", median(&mut waits), "ms")
            .with(Target::Below(5.0)),
        Row::new(&name, slowest, "ms"),
        Row::new("idle server, resident", idle.server, "MiB").with(Target::Below(60.0)),
        Row::new("its agent, resident", idle.agent, "MiB"),
    ])
}

/// What it costs a plugin to report one measurement.
fn reports(shed: &Shed, dataset: f64) -> Result<Vec<Row>, BenchError> {
    say("Reports");
    let action = shed.action("reports", dataset, &json!({ "reports": REPORTS }), 1)?;
    let mut fastest = [f64::INFINITY; 3];
    let fields = ["scalar", "metric", "metric_with_step"];
    for _ in 0..REPORT_ROUNDS {
        let task = shed.json(&["run", &action])?;
        for (field, fastest) in fields.iter().zip(&mut fastest) {
            *fastest = fastest.min(task.number(&format!("/result/us_per_{field}"))?);
        }
    }
    let names = ["report-scalar", "log-metric", "log-metric with a step"];
    let row = |(name, us): (&str, f64)| {
        let name = format!("{name}, one call in the guest");
        Row::new(&name, us * 1000.0, "ns").with(Target::Below(1000.0))
    };
    Ok(names.into_iter().zip(fastest).map(row).collect())
}

/// The binary, the data folder it is used on, and the component that was pushed.
struct Shed {
    program: PathBuf,
    folder: PathBuf,
    plugin: PathBuf,
}

impl Shed {
    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--data-dir").arg(self.data_dir());
        command
    }

    fn data_dir(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// The JSON document that a command prints.
    fn json(&self, arguments: &[&str]) -> Result<Printed, BenchError> {
        Printed::by(self.command().arg("--json").args(arguments))
    }

    /// The JSON documents that a command prints, one a line.
    fn lines(&self, arguments: &[&str]) -> Result<Vec<Printed>, BenchError> {
        let mut command = self.command();
        let text = process::output(command.arg("--json").args(arguments))?;
        let program = process::command_line(&command);
        text.lines()
            .map(|line| Printed::parse(&program, line))
            .collect()
    }

    /// Writes the action that runs `measure` with these settings; the path of its file.
    fn action(
        &self,
        name: &str,
        dataset: f64,
        settings: &Value,
        threads: usize,
    ) -> Result<String, BenchError> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an id, which the program printed as a whole number"
        )]
        let dataset = dataset as u64;
        let action = json!({
            "action": "train",
            "plugin": "measure",
            "params": {
                "name": name,
                "dataset": dataset,
                "checkpoint": null,
                "is_tune": false,
                "hyperparameter": settings,
                "limits": { "threads": threads },
            },
        });
        let path = self.folder.join(format!("{name}.json"));
        files::write(&path, action.to_string().as_bytes())?;
        Ok(path.to_string_lossy().into_owned())
    }
}

/// A JSON document that a program printed.
struct Printed {
    program: String,
    value: Value,
}

impl Printed {
    fn by(command: &mut Command) -> Result<Self, BenchError> {
        let text = process::output(command)?;
        Self::parse(&process::command_line(command), &text)
    }

    fn parse(program: &str, text: &str) -> Result<Self, BenchError> {
        let value = serde_json::from_str(text).unwrap_or(Value::Null);
        let printed = Self {
            program: program.to_owned(),
            value,
        };
        if printed.value.is_null() {
            return Err(printed.without("JSON"));
        }
        Ok(printed)
    }

    /// The number at a JSON pointer.
    fn number(&self, pointer: &str) -> Result<f64, BenchError> {
        let number = self.value.pointer(pointer).and_then(Value::as_f64);
        number.ok_or_else(|| self.without(&format!("a number at `{pointer}`")))
    }

    /// The last of the numbers at a JSON pointer.
    fn last(&self, pointer: &str) -> Result<f64, BenchError> {
        let numbers = self.value.pointer(pointer).and_then(Value::as_array);
        let last = numbers.and_then(|numbers| numbers.last()?.as_f64());
        last.ok_or_else(|| self.without(&format!("numbers at `{pointer}`")))
    }

    /// The error that `expected` is not there.
    fn without(&self, expected: &str) -> BenchError {
        BenchError::Output {
            program: self.program.clone(),
            expected: expected.to_owned(),
            found: self.value.to_string().chars().take(500).collect(),
        }
    }
}

fn build(root: &Path, what: &[&str]) -> Result<(), CommandError> {
    let mut command = process::cargo();
    command
        .current_dir(root)
        .args(["build", "--release", "--target-dir", "target"])
        .args(what);
    say(&format!("$ {}", process::command_line(&command)));
    process::run(&mut command)
}

/// The Python that `TRAINSHED_PYTHON` names, or `python3`, if it has PyTorch.
#[expect(
    clippy::disallowed_methods,
    reason = "the benchmark is a command; nothing below it reads the environment"
)]
fn python_with_torch() -> Option<String> {
    let python = std::env::var("TRAINSHED_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let found = process::output(Command::new(&python).args(["-c", "import torch"]));
    found.is_ok().then_some(python)
}

fn fastest(times: &[f64]) -> f64 {
    times.iter().copied().fold(f64::INFINITY, f64::min)
}

/// The value that a `share` of the others is below, between the two nearest; NaN when there is
/// none.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a place among as many values as were measured"
)]
fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let Some(last) = values.len().checked_sub(1) else {
        return f64::NAN;
    };
    let place = share.clamp(0.0, 1.0) * last as f64;
    let (lower, upper) = (values[place as usize], values[place.ceil() as usize]);
    lower + (upper - lower) * place.fract()
}

/// The middle value, or the mean of the two in the middle; NaN when there is none.
fn median(values: &mut [f64]) -> f64 {
    quantile(values, 0.5)
}

/// The standard error of the median, whatever the distribution: a half of what lies between the
/// quantiles that are a standard deviation, 0.5 / sqrt(count), beside it.
#[expect(
    clippy::cast_precision_loss,
    reason = "as many values as were measured"
)]
fn median_error(values: &mut [f64]) -> f64 {
    let beside = 0.5 / (values.len() as f64).sqrt();
    (quantile(values, 0.5 + beside) - quantile(values, 0.5 - beside)) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_value() {
        assert_eq!(median(&mut [9.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&mut [3.0, 1.0]), 2.0);
        assert!(median(&mut []).is_nan());
    }

    #[test]
    fn the_error_of_a_median_is_half_of_what_its_neighbours_are_apart() {
        let mut sixteen: Vec<f64> = (0..16).rev().map(f64::from).collect();
        // From place 5.625 to 9.375.
        assert_eq!(median_error(&mut sixteen), 1.875);
        assert_eq!(median_error(&mut [4.0, 4.0]), 0.0);
        assert!(median_error(&mut []).is_nan());
    }

    #[test]
    fn a_program_that_prints_something_else_is_named() {
        let printed = Printed::parse("trainshed run", r#"{"id": "x"}"#).unwrap();
        assert_eq!(
            printed.number("/id").unwrap_err().to_string(),
            r#"`trainshed run` must print a number at `/id`, but it prints `{"id":"x"}`"#
        );
    }
}
