//! Training steps of the eight tasks beside PyTorch's.

use std::fmt::Display;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde::Deserialize;
use serde_json::json;

use super::{
    BenchError, Printed, Shed, build, fastest, median, median_error, prepare, python_with_torch,
    table,
};
use crate::files::{self, FileError};
use crate::say;

/// How often in a round a plugin and the same program without one are run, in turns.
const RUNS: usize = 3;

/// How often in a round what a plugin costs is measured, each time by a process of its own, and
/// in how many turns.
const CROSSINGS: usize = 2;
const TURNS: u32 = 100;

/// Numbers of threads.
const THREADS: [usize; 2] = [1, 2];

/// A kind of training, and what is wanted of it.
struct Task {
    letter: &'static str,
    /// Of which a time is taken four times a run; a quarter of a second or more.
    steps: u32,
    /// How many times as fast as PyTorch, with one thread and with two.
    speed: [f64; 2],
    /// How many times as long from a plugin as without, at most.
    crossing: f64,
    /// Whether memory is compared.
    memory: bool,
    /// Whether the loss of the last of some epochs is compared.
    parity: bool,
}

/// `xtask/bench/pytorch_compute.py` says what each is.
const TASKS: [Task; 8] = [
    Task::new("a", 16_000, [10.0, 10.0]).crossing(1.05).parity(),
    Task::new("b", 350, [3.5, 3.0]).memory().parity(),
    Task::new("c", 20, [1.8, 1.5]).memory().parity(),
    Task::new("d", 50, [1.3, 1.0]).memory().parity(),
    Task::new("e", 50, [1.0, 1.0]).memory(),
    Task::new("f", 50, [1.0, 1.0]).memory(),
    Task::new("g", 110, [1.0, 1.0]).memory(),
    Task::new("h", 40, [1.0, 1.0]),
];

impl Task {
    const fn new(letter: &'static str, steps: u32, speed: [f64; 2]) -> Self {
        Self {
            letter,
            steps,
            speed,
            crossing: 1.01,
            memory: false,
            parity: false,
        }
    }

    const fn crossing(self, crossing: f64) -> Self {
        Self { crossing, ..self }
    }

    const fn memory(self) -> Self {
        Self {
            memory: true,
            ..self
        }
    }

    /// Steps of a turn with and without a plugin: about 20 ms, in which the machine's speed
    /// changes little.
    const fn turn(&self) -> u32 {
        self.steps.div_ceil(16)
    }

    const fn parity(self) -> Self {
        Self {
            parity: true,
            ..self
        }
    }
}

/// Measures the tasks whose letters are given, or all, and prints a table. Everything is
/// measured `rounds` times, in turns, and the fastest counts.
///
/// # Errors
/// A letter that there is not, no PyTorch, and the first step that fails.
pub fn run(root: &Path, letters: &[String], rounds: u32) -> Result<(), BenchError> {
    let known = |letter: &&String| !TASKS.iter().any(|task| task.letter == **letter);
    if let Some(letter) = letters.iter().find(known) {
        return Err(BenchError::Task(letter.clone()));
    }
    let python = python_with_torch().ok_or(BenchError::PyTorch)?;
    let folder = tempfile::tempdir();
    let folder = folder.map_err(|error| FileError::new(Path::new("."), "made", error))?;
    let shed = prepare(root, folder.path(), "measure")?;
    for (package, example) in [("tensor", "compute_step"), ("runtime", "crossing")] {
        let package = format!("trainshed-{package}");
        build(root, &["--package", &package, "--example", example])?;
    }

    let bench = Bench {
        root,
        shed,
        python,
        rounds,
    };
    table::print_line(HEADER.trim_start());
    for task in &TASKS {
        if letters.is_empty() || letters.iter().any(|letter| letter == task.letter) {
            bench.task(task)?;
        }
    }
    table::print_line(&format!("\n{}", table::machine()));
    Ok(())
}

struct Bench<'a> {
    root: &'a Path,
    shed: Shed,
    python: String,
    rounds: u32,
}

/// The fastest times of a step in µs, the last loss that each way came to, and peaks in
/// bytes.
struct Measured {
    plugin: f64,
    native: f64,
    /// How many times as long a step takes from a plugin as without, in turns within one process:
    /// the median, because the speed of a machine drifts, and its standard error.
    crossing: [f64; 2],
    /// The same of two sessions without a plugin: how far chance goes.
    control: [f64; 2],
    eager: f64,
    /// Absent where PyTorch could not compile the model.
    compiled: Option<f64>,
    /// By how much the loss differs from PyTorch's, relative to it, after a few steps on one
    /// batch, and in the mean of the last epoch.
    loss: f64,
    epoch: Option<f64>,
    peak: f64,
    pytorch_peak: f64,
}

impl Bench<'_> {
    /// Prints one line of the table for each number of threads.
    fn task(&self, task: &Task) -> Result<(), BenchError> {
        let letter = task.letter;
        say(&format!("Task {letter}"));
        let folder = self.shed.folder.join(letter);
        self.pytorch(task, 1, "eager", Some(&folder))?;
        let folder_text = folder.to_string_lossy();
        let name = format!("task {letter}");
        let made = self
            .shed
            .json(&["dataset", "create", &name, &folder_text])?;
        let dataset = made.number("/id")?;
        for (threads, speed) in THREADS.into_iter().zip(task.speed) {
            let measured = self.measure(task, threads, &folder, dataset)?;
            table::print_line(&line(task, threads, speed, &measured));
        }
        // Some are 100 MB, and the next task has its own.
        fs::remove_dir_all(&folder).map_err(|error| FileError::new(&folder, "removed", error))?;
        Ok(())
    }

    fn measure(
        &self,
        task: &Task,
        threads: usize,
        folder: &Path,
        dataset: f64,
    ) -> Result<Measured, BenchError> {
        let letter = task.letter;
        let settings = json!({ "task": letter, "steps": task.steps });
        let name = format!("task {letter}, threads {threads}");
        let action = self.shed.action(&name, dataset, &settings, threads)?;
        let result = self.shed.folder.join("result.json");

        let (mut plugin, mut native, mut eager) = (Vec::new(), Vec::new(), Vec::new());
        let (mut crossings, mut controls) = (Vec::new(), Vec::new());
        let (mut peaks, mut pytorch_peaks) = (Vec::new(), Vec::new());
        let (mut loss, mut pytorch_loss) = (f64::NAN, f64::NAN);
        for round in 1..=self.rounds {
            say(&format!(
                "Task {letter}, threads {threads}: round {round} of {}",
                self.rounds
            ));
            for _ in 0..RUNS {
                let printed = self.shed.json(&["run", &action])?;
                files::write(&result, printed.value["result"].to_string().as_bytes())?;
                plugin.push(printed.number("/result/us_per_step")?);
                loss = printed.last("/result/losses")?;
                let without = self.without_plugin(task, threads, folder, &result)?;
                native.push(without.number("/us_per_step")?);
                peaks.push(without.number("/peak_bytes")?);
            }
            for _ in 0..CROSSINGS {
                for [plugin, first, second] in self.turns(task, threads, folder, &result)? {
                    crossings.push(2.0 * plugin / (first + second));
                    controls.push(second / first);
                }
            }
            let pytorch = self.pytorch(task, threads, "eager", None)?;
            eager.push(pytorch.number("/fastest_us")?);
            pytorch_peaks.push(pytorch.number("/peak_bytes")?);
            pytorch_loss = pytorch.last("/losses")?;
        }
        let compiled = self.pytorch(task, threads, "compile", None);
        if let Err(error) = &compiled {
            say(&format!("torch.compile: {error}"));
        }
        let epoch = task.parity.then(|| self.last_epoch(task, threads, dataset));
        Ok(Measured {
            plugin: fastest(&plugin),
            native: fastest(&native),
            crossing: [median(&mut crossings), median_error(&mut crossings)],
            control: [median(&mut controls), median_error(&mut controls)],
            eager: fastest(&eager),
            compiled: compiled.and_then(|it| it.number("/fastest_us")).ok(),
            loss: difference(loss, pytorch_loss),
            epoch: epoch.transpose()?,
            peak: fastest(&peaks),
            pytorch_peak: fastest(&pytorch_peaks),
        })
    }

    /// The program that a plugin left in `result`.
    fn without_plugin(
        &self,
        task: &Task,
        threads: usize,
        folder: &Path,
        result: &Path,
    ) -> Result<Printed, BenchError> {
        let mut example = Command::new(self.root.join("target/release/examples/compute_step"));
        example.arg(result).arg(folder);
        example.args([threads.to_string(), task.steps.to_string()]);
        Printed::by(&mut example)
    }

    /// By how much the mean loss of the last epoch differs from PyTorch's, when both learn from
    /// the same batches.
    fn last_epoch(&self, task: &Task, threads: usize, dataset: f64) -> Result<f64, BenchError> {
        let letter = task.letter;
        let pytorch = self.pytorch(task, threads, "epochs", None)?;
        let epochs = pytorch.value["losses"].as_array().map_or(0, Vec::len);
        let settings = json!({ "task": letter, "epochs": epochs });
        let name = format!("epochs of {letter}, threads {threads}");
        let action = self.shed.action(&name, dataset, &settings, threads)?;
        let printed = self.shed.json(&["run", &action])?;
        Ok(difference(
            printed.last("/result/losses")?,
            pytorch.last("/losses")?,
        ))
    }

    /// Times of turns of a plugin and of two sessions without one.
    fn turns(
        &self,
        task: &Task,
        threads: usize,
        folder: &Path,
        result: &Path,
    ) -> Result<Vec<[f64; 3]>, BenchError> {
        let program = self.root.join("target/release/examples/crossing");
        let mut example = Command::new(program);
        example.arg(&self.shed.plugin).arg(result).arg(folder);
        example.args([
            threads.to_string(),
            task.turn().to_string(),
            TURNS.to_string(),
        ]);
        let printed = Printed::by(&mut example)?;
        let turns = Vec::deserialize(&printed.value["turns"]);
        turns.map_err(|_| printed.without("three times of each turn at `/turns`"))
    }

    fn pytorch(
        &self,
        task: &Task,
        threads: usize,
        mode: &str,
        folder: Option<&Path>,
    ) -> Result<Printed, BenchError> {
        let script = self.root.join("xtask/bench/pytorch_compute.py");
        let mut command = Command::new(&self.python);
        command.arg(script).arg(task.letter);
        command.args([&threads.to_string(), mode]).args(folder);
        Printed::by(&mut command)
    }
}

const MIB: f64 = 1_048_576.0;

fn line(task: &Task, threads: usize, speed: f64, measured: &Measured) -> String {
    let Measured {
        plugin,
        native,
        crossing,
        control,
        eager,
        ..
    } = *measured;
    let with_error = |[ratio, error]: [f64; 2]| format!("{ratio:.3} ± {error:.3}");
    let control = with_error(control);
    let crossing = judged(
        with_error(crossing),
        crossing[0] <= task.crossing,
        format!("at most {}", task.crossing),
    );
    let faster = eager / plugin;
    let faster = judged(
        format!("{faster:.2}"),
        faster >= speed,
        format!("at least {speed}"),
    );
    let (peak, pytorch_peak) = (measured.peak / MIB, measured.pytorch_peak / MIB);
    let mut memory = format!("{peak:.1}");
    if task.memory {
        memory = judged(memory, peak <= pytorch_peak, "at most PyTorch's");
    }
    let loss = measured.loss;
    let epoch = measured.epoch.map_or_else(String::new, |difference| {
        let met = difference <= 1e-4;
        judged(format!("{difference:.0e}"), met, "at most 1e-4")
    });
    let compiled = measured.compiled;
    let compiled = compiled.map_or_else(|| "fails".to_owned(), |time| format!("{time:.1}"));
    format!(
        "| {} | {threads} | {plugin:.1} | {native:.1} | {crossing} | {control} | {eager:.1} \
         | {compiled} | {faster} | {memory} | {pytorch_peak:.1} | {loss:.0e} \
         | {epoch} |",
        task.letter
    )
}

/// How far a number is from another, relative to that.
fn difference(number: f64, from: f64) -> f64 {
    (number / from - 1.0).abs()
}

/// The value, whether it is as it should be, and how that is.
fn judged(value: String, met: bool, target: impl Display) -> String {
    let verdict = if met { "met" } else { "missed" };
    format!("{value} ({target}: {verdict})")
}

const HEADER: &str = "
| task | threads | plugin, µs | native, µs | plugin / native | native / native \
| PyTorch eager, µs | torch.compile, µs | eager / plugin | peak, MiB | PyTorch's, MiB | 20th loss differs \
| last epoch's differs |
|---|---:|---:|---:|---|---|---:|---:|---|---|---:|---:|---|";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_which_targets_are_met() {
        let measured = Measured {
            plugin: 30.0,
            native: 29.0,
            crossing: [1.0345, 0.0061],
            control: [0.9996, 0.0004],
            eager: 315.0,
            compiled: None,
            loss: 0.001,
            epoch: Some(0.00002),
            peak: 2.0 * MIB,
            pytorch_peak: MIB,
        };
        let task = Task::new("a", 1, [10.0, 10.0]).memory().parity();
        assert_eq!(
            line(&task, 2, 10.0, &measured),
            "| a | 2 | 30.0 | 29.0 | 1.034 ± 0.006 (at most 1.01: missed) \
             | 1.000 ± 0.000 | 315.0 | fails | 10.50 (at least 10: met) | 2.0 (at most PyTorch's: missed) | 1.0 \
             | 1e-3 | 2e-5 (at most 1e-4: met) |"
        );
    }
}
