//! Does what a plugin must not do, to test that the host stands it.
//!
//! `{"do": "…"}` names the deed; see [`Deed`]. A deed that the host refuses in time comes
//! back as a result with the host's answers, so that a test can read them.

mod compute;
mod files;
mod floods;
mod settings;
mod tables;

use std::hint::black_box;
use std::io::Write as _;
use std::time::{Duration, Instant, UNIX_EPOCH};

use serde_json::{Value, json};
use trainshed_sdk::bindings::imports::trainshed::plugin as raw;
use trainshed_sdk::bindings::train_plugin::exports::trainshed::plugin as exports;
use trainshed_sdk::compute::{Attribute, deserialize, serialize};
use trainshed_sdk::plugin::TrainPlugin;
use trainshed_sdk::{About, Category, Checkpoint, Dataset, Failure, Run, Tensor, Train};

use settings::{Deed, Settings};

struct Misbehave;

impl Train for Misbehave {
    const ABOUT: About = trainshed_sdk::about!(Category::Other, environment: ["GRANTED"]);
    const SUMMARY: &'static str = "Does what `do` names.";
    type Hyperparameters = Settings;

    fn train(
        run: &Run,
        dataset: &Dataset,
        settings: Settings,
        checkpoint: Option<&Checkpoint>,
    ) -> Result<Value, Failure> {
        let count = settings.count;
        match settings.deed {
            Deed::Return => Ok(settings.value),
            Deed::Fail => Err(Failure::failed("asked to fail")),
            Deed::InvalidParameter => {
                Err(Failure::invalid_parameter("/do", "must be something else"))
            }
            Deed::SayStopped => Err(Failure::Stopped),
            Deed::HugeResult => Ok(json!("x".repeat(16 << 20))),
            // Answered by `Raw`, below the SDK.
            Deed::InvalidJson => Ok(Value::Null),
            Deed::Panic => panic!("asked to panic"),
            Deed::PanicInALine => {
                print!("half a line");
                std::io::stdout().flush()?;
                panic!("asked to panic")
            }
            Deed::Exit => std::process::exit(3),
            Deed::Loop => {
                println!("started");
                loop {
                    black_box(());
                }
            }
            Deed::LoopWithHostCalls => {
                println!("started");
                loop {
                    black_box(run.stopping());
                }
            }
            Deed::Sleep => {
                println!("started");
                std::thread::sleep(Duration::from_secs(3600));
                Ok(Value::Null)
            }
            Deed::ObeyStop => obey_stop(run),
            Deed::SlowSteps => slow_steps(run, count, settings.milliseconds),
            Deed::Recursion => Ok(json!(recursion(count))),
            Deed::Memory => Ok(json!(floods::memory())),
            Deed::FloodConsole => floods::console(),
            Deed::FloodMetrics => floods::metrics(run),
            Deed::FloodMetricsAndIgnoreErrors => floods::metrics_for_ever(run),
            Deed::BadArguments => Ok(floods::bad_arguments(run, dataset)),
            Deed::FillScratch => files::fill_scratch(),
            Deed::ManyFiles => files::many_files(),
            Deed::Escape => Ok(files::escape()),
            Deed::Environment => {
                let variables: std::collections::BTreeMap<_, _> = std::env::vars().collect();
                let arguments: Vec<_> = std::env::args().collect();
                Ok(json!({ "variables": variables, "arguments": arguments }))
            }
            Deed::Random => Ok(json!(random_numbers(run))),
            Deed::Clock => clock(),
            Deed::Describe => describe(run, dataset, checkpoint),
            Deed::LoadTables => tables::load(dataset),
            Deed::LargeTensors => compute::large_tensors(),
            Deed::ManyTensors => compute::many_tensors(count),
            Deed::MalformedPrograms => Ok(compute::malformed_programs()),
            Deed::RandomPrograms => Ok(compute::random_programs(run.seed(), count)),
            Deed::HeavyProgram => compute::heavy_program(settings.count),
        }
    }
}

fn obey_stop(run: &Run) -> Result<Value, Failure> {
    println!("started");
    while !run.stopping() {
        std::thread::sleep(Duration::from_millis(5));
    }
    println!("was asked to stop");
    Err(Failure::Stopped)
}

fn slow_steps(run: &Run, count: u64, milliseconds: u64) -> Result<Value, Failure> {
    for step in 0..count {
        if run.stopping() {
            return Err(Failure::Stopped);
        }
        #[expect(clippy::cast_precision_loss, reason = "a test takes few steps")]
        run.log_metric(
            "train",
            "loss",
            1.0 / (step + 1) as f64,
            json!({ "step": step }),
        )?;
        run.set_progress("train", step + 1, count)?;
        std::thread::sleep(Duration::from_millis(milliseconds));
    }
    Ok(json!({ "steps": count }))
}

fn recursion(depth: u64) -> u64 {
    if black_box(depth) == 0 {
        return 0;
    }
    black_box(recursion(depth - 1)) + 1
}

/// Everything that could differ between two runs: hash keys come from `wasi:random`.
fn random_numbers(run: &Run) -> Vec<u64> {
    use std::hash::{BuildHasher as _, RandomState};
    let hashes = (0..4u64).map(|number| RandomState::new().hash_one(number));
    hashes.chain([run.seed()]).collect()
}

fn clock() -> Result<Value, Failure> {
    let start = Instant::now();
    let seconds = UNIX_EPOCH.elapsed()?.as_secs();
    while start.elapsed() < Duration::from_millis(20) {
        black_box(());
    }
    Ok(json!({ "seconds_since_1970": seconds }))
}

fn describe(
    run: &Run,
    dataset: &Dataset,
    checkpoint: Option<&Checkpoint>,
) -> Result<Value, Failure> {
    let tables = dataset.tables()?.into_iter();
    let tables: Vec<_> = tables
        .map(|table| json!({ "path": table.path, "rows": table.rows, "columns": table.column_names() }))
        .collect();
    let checkpoint = match checkpoint {
        Some(checkpoint) => {
            let entries = checkpoint.entries()?.into_iter();
            let names: Vec<String> = entries.map(|entry| entry.name).collect();
            json!({
                "model": checkpoint.model_id(),
                "iteration": checkpoint.iteration(),
                "tensors": names,
                "predicted": predicted(checkpoint)?,
                "unknown": checkpoint.load("no such tensor").map(drop).map_err(|e| e.to_string()),
            })
        }
        None => Value::Null,
    };
    Ok(json!({
        "task": run.task_id(),
        "trial": run.trial_id(),
        "params": run.params(),
        "dataset": { "id": dataset.id(), "name": dataset.name(), "version": dataset.version(), "digest": dataset.digest() },
        "tables": tables,
        "checkpoint": checkpoint,
    }))
}

/// What the program beside a model makes of inputs that are 0.5 everywhere; null without one.
/// Nothing is known of the model but its file.
fn predicted(checkpoint: &Checkpoint) -> Result<Value, Failure> {
    let (Some(program), Some(session)) = (checkpoint.program()?, checkpoint.session()?) else {
        return Ok(Value::Null);
    };
    let copy = deserialize(&serialize(&program))?;
    let inputs = copy.instructions.iter().filter(|one| one.op == "input");
    let inputs = inputs.map(|input| {
        let shapes = input
            .attributes
            .iter()
            .filter_map(|(_, value)| match value {
                Attribute::Integers(shape) => Some(shape),
                _ => None,
            });
        let shape: Vec<usize> = shapes
            .flatten()
            .map(|&size| usize::try_from(size))
            .collect::<Result<_, _>>()?;
        let elements = vec![0.5f32; shape.iter().product()];
        Ok(Tensor::from_slice(&shape, &elements)?)
    });
    let inputs: Vec<Tensor> = inputs.collect::<Result<_, Failure>>()?;
    let inputs: Vec<&Tensor> = inputs.iter().collect();
    let outputs = session.run(&inputs)?;
    let outputs = outputs.iter().map(Tensor::to_vec::<f32>);
    Ok(json!(outputs.collect::<Result<Vec<_>, _>>()?))
}

/// The exports, with answers below the SDK that the SDK would not let through.
pub struct Raw;

impl exports::manifest::Guest for Raw {
    fn describe() -> exports::manifest::Manifest {
        TrainPlugin::<Misbehave>::describe()
    }
}

impl exports::train::Guest for Raw {
    fn train(
        run: &raw::run::Run,
        dataset: &raw::dataset::Dataset,
        hyperparameter: String,
        checkpoint: Option<&raw::checkpoint::Checkpoint>,
    ) -> Result<String, raw::types::Failure> {
        if hyperparameter.contains("\"invalid-json\"") {
            return Ok("{ this is no JSON".to_owned());
        }
        TrainPlugin::<Misbehave>::train(run, dataset, hyperparameter, checkpoint)
    }
}

#[cfg(target_family = "wasm")]
trainshed_sdk::bindings::train_plugin::export_train_plugin!(
    Raw with_types_in trainshed_sdk::bindings::train_plugin
);
