//! Times a task of `cargo xtask bench compute` without a plugin around it.
//!
//! `compute_step RESULT.json FOLDER THREADS STEPS` takes what the test guest `measure`
//! returned for the task, and `batch.safetensors` and `parameters.safetensors` in FOLDER. It
//! trains in the same way and prints `{"us_per_step": …, "losses": […], "peak_bytes": …}`:
//! the fastest of four times STEPS steps, the losses of the first steps, and the memory that
//! training added to the process at its peak.

#![expect(clippy::print_stdout, reason = "prints its result")]

mod guest;

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use guest::{ProgramJson, declared};
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use trainshed_tensor::{Budget, Context, DType, Executable, Tensor};

/// As in the guest.
const ROUNDS: usize = 4;

/// What the guest returned.
#[derive(Deserialize)]
struct Measured {
    losses: Vec<f64>,
    /// The tensors of the file that make a batch.
    columns: Vec<String>,
    /// What the program's first states begin as.
    states: Vec<Initial>,
    learning_rate: f32,
    program: ProgramJson,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Initial {
    /// A tensor of the file.
    Parameter(String),
    /// This number everywhere.
    Constant(f32),
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [result, folder, threads, steps] = &arguments[..] else {
        return Err("RESULT.json, FOLDER, THREADS and STEPS must be given".into());
    };
    let measured: Measured = serde_json::from_slice(&fs::read(result)?)?;
    let steps: u32 = steps.parse()?;
    let budget = Budget::new(8 << 30);
    let stop = Arc::new(AtomicBool::new(false));
    let context = Context::new(budget.clone(), threads.parse()?, stop)?;

    let mut tensors = BTreeMap::new();
    for file in ["batch.safetensors", "parameters.safetensors"] {
        load(&Path::new(folder).join(file), &budget, &mut tensors)?;
    }
    let mut take = |name: &String| {
        let tensor = tensors.remove(name);
        tensor.ok_or_else(|| format!("there is no tensor `{name}`"))
    };
    let columns = measured.columns.iter();
    let mut inputs: Vec<Tensor> = columns.map(&mut take).collect::<Result<_, _>>()?;
    let flag = Tensor::from_bytes(DType::Bool, &[], &[1], &budget)?;
    inputs.extend([
        Tensor::from_f32(&[], &[measured.learning_rate], &budget)?,
        flag,
    ]);
    let program = measured.program.into_program();
    let mut parameters: BTreeMap<&String, Tensor> = measured
        .states
        .iter()
        .filter_map(|state| match state {
            Initial::Parameter(name) => Some(take(name).map(|tensor| (name, tensor))),
            Initial::Constant(_) => None,
        })
        .collect::<Result<_, _>>()?;
    forget_peak()?;
    let before = resident("VmRSS")?;

    let mut state = Vec::new();
    for (index, (dtype, shape)) in declared(&program, "state")?.into_iter().enumerate() {
        state.push(match measured.states.get(index) {
            Some(Initial::Parameter(name)) => parameters
                .remove(name)
                .ok_or_else(|| format!("`{name}` is the name of two states"))?,
            Some(&Initial::Constant(number)) if number != 0.0 => {
                let elements = usize::try_from(shape.iter().product::<u64>())?;
                Tensor::from_f32(&shape, &vec![number; elements], &budget)?
            }
            _ => Tensor::zeros(dtype, &shape, &budget)?,
        });
    }
    let loss = u32::try_from(measured.states.len())?;
    let mut session = Executable::compile(&program, &budget)?.bind(state, &context)?;
    let mut losses = Vec::new();
    for _ in &measured.losses {
        session.run(&inputs)?;
        losses.push(session.state(loss)?.item());
    }
    let mut fastest = f64::INFINITY;
    for _ in 0..ROUNDS {
        let started = Instant::now();
        for _ in 0..steps {
            session.run(&inputs)?;
        }
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

/// Adds the tensors of `f32` and `i32` of a file.
fn load(
    path: &Path,
    budget: &Budget,
    into: &mut BTreeMap<String, Tensor>,
) -> Result<(), Box<dyn Error>> {
    let bytes = fs::read(path)?;
    for (name, view) in SafeTensors::deserialize(&bytes)?.iter() {
        let dtype = match view.dtype() {
            Dtype::F32 => DType::F32,
            Dtype::I32 => DType::I32,
            _ => continue,
        };
        let shape: Vec<u64> = view.shape().iter().map(|&size| size as u64).collect();
        let tensor = Tensor::from_bytes(dtype, &shape, view.data(), budget)?;
        into.insert(name.to_owned(), tensor);
    }
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
