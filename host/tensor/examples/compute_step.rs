//! Times a task of `cargo xtask bench compute` without a plugin around it.
//!
//! `compute_step RESULT.json FOLDER THREADS STEPS` takes what the test guest `measure`
//! returned for the task, and `batch.safetensors` and `parameters.safetensors` in FOLDER. It
//! trains in the same way and prints `{"us_per_step": …, "losses": […], "peak_bytes": …}`:
//! the fastest of four times STEPS steps, the losses of the first steps, and the memory that
//! training added to the process at its peak.

#![expect(clippy::print_stdout, reason = "prints its result")]

mod guest;
#[path = "guest/task.rs"]
mod task;

use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use task::Task;
use trainshed_tensor::{Budget, Context};

/// As in the guest.
const ROUNDS: usize = 4;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [result, folder, threads, steps] = &arguments[..] else {
        return Err("RESULT.json, FOLDER, THREADS and STEPS must be given".into());
    };
    let steps: u32 = steps.parse()?;
    let budget = Budget::new(8 << 30);
    let stop = Arc::new(AtomicBool::new(false));
    let context = Context::new(budget.clone(), threads.parse()?, stop)?;
    let mut task = Task::read(Path::new(result), Path::new(folder), &budget)?;
    forget_peak()?;
    let before = resident("VmRSS")?;

    let mut session = task.bind(&context)?;
    let losses = task.begin(&mut session)?;
    let mut fastest = f64::INFINITY;
    for _ in 0..ROUNDS {
        let started = Instant::now();
        task.steps(&mut session, steps)?;
        fastest = fastest.min(started.elapsed().as_secs_f64());
    }
    let printed = serde_json::json!({
        "us_per_step": fastest * 1e6 / f64::from(steps),
        "losses": losses,
        "peak_bytes": resident("VmHWM")?.saturating_sub(before),
    });
    println!("{printed}");
    Ok(())
}

/// A size of this process in bytes, as the kernel counts it.
fn resident(field: &str) -> Result<u64, Box<dyn Error>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let mut lines = status.lines();
    let line = lines.find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let line = line.ok_or_else(|| format!("/proc/self/status has no {field}"))?;
    let kib = line.split_whitespace().next().unwrap_or_default();
    Ok(kib.parse::<u64>()? * 1024)
}

/// Lets `VmHWM` begin anew: reading the files is not part of the training.
fn forget_peak() -> Result<(), Box<dyn Error>> {
    Ok(fs::write("/proc/self/clear_refs", "5")?)
}
