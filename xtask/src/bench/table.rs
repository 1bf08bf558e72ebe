//! The table of results, in Markdown.

use std::fs;
use std::process::Command;

use crate::process;

/// One thing that was measured.
pub(super) struct Row {
    measure: String,
    value: f64,
    unit: &'static str,
    target: Option<Target>,
}

/// What a value should be.
#[derive(Debug, Clone, Copy)]
pub(super) enum Target {
    AtLeast(f64),
    AtMost(f64),
    Below(f64),
}

impl Row {
    /// A row without a target; an empty unit is that of a ratio.
    pub(super) fn new(measure: &str, value: f64, unit: &'static str) -> Self {
        Self {
            measure: measure.to_owned(),
            value,
            unit,
            target: None,
        }
    }

    pub(super) fn with(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }

    fn line(&self) -> String {
        let unit = if self.unit.is_empty() {
            "×".to_owned()
        } else {
            format!(" {}", self.unit)
        };
        // Times and sizes to a tenth; ratios to a hundredth, as their targets are.
        let digits = if self.unit.is_empty() { 2 } else { 1 };
        let (target, verdict) = match self.target {
            None => (String::new(), ""),
            Some(target) => {
                let (words, bound, met) = match target {
                    Target::AtLeast(bound) => ("at least", bound, self.value >= bound),
                    Target::AtMost(bound) => ("at most", bound, self.value <= bound),
                    Target::Below(bound) => ("below", bound, self.value < bound),
                };
                let verdict = if met { "met" } else { "missed" };
                (format!("{words} {bound:.digits$}{unit}"), verdict)
            }
        };
        let Self { measure, value, .. } = self;
        format!("| {measure} | {value:.digits$}{unit} | {target} | {verdict} |")
    }
}

/// Prints the machine and the rows.
pub(super) fn print(rows: &[Row]) {
    print_line(&format!("{}\n", machine()));
    print_line("| measure | value | target | |\n|---|---:|---:|---|");
    for row in rows {
        print_line(&row.line());
    }
}

/// Prints a line of what a benchmark found.
#[expect(clippy::print_stdout, reason = "the table is the benchmark's result")]
pub(super) fn print_line(line: &str) {
    println!("{line}");
}

/// The processor and the compiler.
pub(super) fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let rustc = process::output(Command::new("rustc").arg("--version"));
    let rustc = rustc.unwrap_or_else(|_| "unknown rustc".to_owned());
    format!(
        "{}, {cores} cores, {}; {}",
        cpu_model(),
        vector_instructions(),
        rustc.trim()
    )
}

fn cpu_model() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == "model name").then(|| value.trim().to_owned())
    });
    model.unwrap_or_else(|| format!("unknown {} processor", std::env::consts::ARCH))
}

#[cfg(target_arch = "x86_64")]
fn vector_instructions() -> &'static str {
    if std::is_x86_feature_detected!("avx512f") {
        "with AVX-512"
    } else if std::is_x86_feature_detected!("avx2") {
        "AVX2 without AVX-512"
    } else {
        "without AVX2"
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn vector_instructions() -> &'static str {
    "no x86"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_whether_the_target_is_met() {
        check(
            Row::new("plugin / without", 1.104, "").with(Target::AtMost(1.1)),
            "| plugin / without | 1.10× | at most 1.10× | missed |",
        );
        check(
            Row::new("idle server", 59.96, "MiB").with(Target::Below(60.0)),
            "| idle server | 60.0 MiB | below 60.0 MiB | met |",
        );
        check(
            Row::new("PyTorch / plugin", 8.0, "").with(Target::AtLeast(8.0)),
            "| PyTorch / plugin | 8.00× | at least 8.00× | met |",
        );
        check(Row::new("step", 24.0, "µs"), "| step | 24.0 µs |  |  |");
    }

    #[track_caller]
    fn check(row: Row, expected: &str) {
        assert_eq!(row.line(), expected);
    }
}
