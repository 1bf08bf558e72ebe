//! Measures what a training step costs a plugin; `cargo xtask bench` runs it.
//!
//! It trains the network of `digits-mlp` as that plugin does, but neither judges nor logs,
//! and returns the time of a step together with the step's program, so that the same
//! program can be timed without a plugin around it.

mod program;
mod tasks;

use std::collections::BTreeMap;
use std::time::Instant;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use tasks::task;
use trainshed_sdk::compute::Executable;
use trainshed_sdk::graph::{Graph, Var};
use trainshed_sdk::nn::{
    Activation, Adam, Initial, Measured, Mlp, Role, Scope, StateSpec, classification,
};
use trainshed_sdk::rng::Rng;
use trainshed_sdk::trainer::{Column, SavedState, Start, Trainer, TrainingStep};
use trainshed_sdk::{About, Category, Checkpoint, DType, Dataset, Failure, Run, Tensor, Train};

struct Measure;

trainshed_sdk::export_train!(Measure);

const BATCH: u32 = 32;
const CLASSES: usize = 10;
const LEARNING_RATE: f64 = 0.001;
/// Steps before the measuring begins: caches fill, and the processor speeds up.
const WARM_UP_STEPS: u32 = 200;

/// How long to measure.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default)]
struct Settings {
    /// At least so many steps, rounded up to whole epochs; with 0 it says that it has
    /// started and returns.
    #[schemars(range(max = 10_000_000))]
    steps: u32,
    /// Instead of training, so many measurements are logged one by one, in each of two forms.
    #[schemars(range(max = 100_000_000))]
    reports: u32,
    /// Instead of training, this is reported as `accuracy`, as a trial's only result.
    trial: Option<f64>,
    /// One of the tasks a to h of `cargo xtask bench compute`, in place of the digits. The
    /// data set then holds `batch.safetensors` and `parameters.safetensors`.
    task: Option<String>,
    /// Of a task: instead of taking the time, `steps` steps are done so many times, with a point
    /// reported behind each, for whoever runs the plugin to take it.
    #[schemars(range(max = 1_000_000))]
    turns: u32,
    /// Of a task: instead of taking the time, it learns from the tensors of
    /// `batches.safetensors`, `x.0`, `x.1` and so on, so many times from all of them.
    #[schemars(range(max = 1_000))]
    epochs: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            steps: 20_000,
            reports: 0,
            trial: None,
            task: None,
            turns: 0,
            epochs: 0,
        }
    }
}

impl Train for Measure {
    const ABOUT: About = trainshed_sdk::about!(Category::Other);
    const SUMMARY: &'static str = "Times training steps on the columns `pixel_…` and `label`.";
    type Hyperparameters = Settings;

    fn train(
        run: &Run,
        dataset: &Dataset,
        settings: Settings,
        _checkpoint: Option<&Checkpoint>,
    ) -> Result<Value, Failure> {
        if let Some(accuracy) = settings.trial {
            run.report(&json!({"accuracy": accuracy}), None)?;
            return Ok(json!({"accuracy": accuracy}));
        }
        println!("started");
        if settings.reports > 0 {
            return log(run, settings.reports);
        }
        if settings.steps == 0 {
            return Ok(Value::Null);
        }
        if let Some(letter) = &settings.task {
            return measure(run, dataset, letter, &settings);
        }
        let table = dataset.table(None)?;
        let pixels = table.columns_with_prefix("pixel_")?;
        let x = table.load(&pixels, DType::F32)?;
        let labels = table.load(&["label"], DType::I32)?;
        let rows = u32::try_from(table.rows).map_err(|_| Failure::failed("too many rows"))?;
        // Four fifths, as many rows as digits-mlp trains on.
        let order = Rng::new(run.seed(), "split").split(rows, 0.2).train;

        let columns = [Column::of(&x), Column::of(&labels)];
        let network = Mlp {
            inputs: pixels.len(),
            hidden: vec![128],
            outputs: CLASSES,
            activation: Activation::Relu,
            dropout: 0.0,
        };
        let model = |scope: &Scope, batch: &[Var]| -> Measured {
            classification(&network, scope, &batch[0], &batch[1])
        };
        let adam = Adam::default();
        let step = TrainingStep::record(&Graph::new(), &columns, BATCH, &model, &adam.into())?;
        let start = Start::Seed(run.seed());
        let mut trainer = Trainer::new(&columns, BATCH, model, adam, &start)?;

        let mut train = |steps: u32| -> Result<u64, Failure> {
            let mut done = 0;
            while done < u64::from(steps) {
                let mut order = order.clone();
                Rng::new(run.seed(), &format!("step {done}")).shuffle(&mut order);
                let trained =
                    trainer.epoch(&[&x, &labels], &order, &LEARNING_RATE, || run.stopping())?;
                done += trained.ok_or(Failure::Stopped)?.rows / u64::from(BATCH);
            }
            Ok(done)
        };
        train(WARM_UP_STEPS)?;
        let started = Instant::now();
        let steps = train(settings.steps)?;
        let seconds = started.elapsed().as_secs_f64();

        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 steps")]
        let us_per_step = seconds * 1e6 / steps as f64;
        Ok(json!({
            "us_per_step": us_per_step,
            "steps": steps,
            "rows": order.len(),
            "parameters": step
                .saved
                .iter()
                .filter(|saved| saved.spec.role == Role::Parameter)
                .count(),
            "program": program::to_json(&step.program),
        }))
    }
}

/// How long a call takes that reports a measurement: a scalar, and a metric with its step.
fn log(run: &Run, count: u32) -> Result<Value, Failure> {
    let per_call = |started: Instant| started.elapsed().as_secs_f64() * 1e6 / f64::from(count);
    let started = Instant::now();
    for iteration in 0..count {
        run.report_scalar("train", "loss", 0.5, u64::from(iteration))?;
    }
    let us_per_scalar = per_call(started);
    let started = Instant::now();
    for _ in 0..count {
        run.log_metric("train", "accuracy", 0.5, Value::Null)?;
    }
    let us_per_metric = per_call(started);
    let started = Instant::now();
    for iteration in 0..count {
        run.log_metric("train", "f1", 0.5, json!({ "step": iteration }))?;
    }
    let us_per_metric_with_step = per_call(started);
    Ok(json!({
        "us_per_scalar": us_per_scalar,
        "us_per_metric": us_per_metric,
        "us_per_metric_with_step": us_per_metric_with_step,
    }))
}

/// Steps whose losses are told.
const LOSSES: usize = 20;

/// How often `steps` steps are timed; the fastest time counts.
const ROUNDS: usize = 4;

/// Trains a task from the given parameters on one batch, as PyTorch does beside it.
fn measure(
    run: &Run,
    dataset: &Dataset,
    letter: &str,
    settings: &Settings,
) -> Result<Value, Failure> {
    let task = task(letter)?;
    let mut tensors = BTreeMap::new();
    for table in dataset.tables()? {
        for column in &table.columns {
            let dtype = DType::parse(&column.element);
            if let Some(dtype @ (DType::F32 | DType::I32)) = dtype {
                let tensor = table.load_array(&column.name, dtype)?;
                tensors.insert(column.name.clone(), tensor);
            }
        }
    }
    let mut take = |name: &str| {
        let tensor = tensors.remove(name);
        tensor.ok_or_else(|| Failure::failed(format!("the data set has no tensor `{name}`")))
    };
    let names = task.columns.iter();
    let batch: Vec<Tensor> = names.map(|name| take(name)).collect::<Result<_, _>>()?;
    let columns: Vec<Column> = batch.iter().map(Column::of).collect();
    let rows = batch[0].shape()[0];
    let rows = u32::try_from(rows).map_err(|_| Failure::failed("too many rows"))?;
    let step = task.record(&columns, rows)?;

    let mut state = Vec::new();
    for SavedState { spec, .. } in &step.saved {
        state.push(match spec.role {
            Role::Parameter => take(&spec.name)?,
            _ => initial(spec)?,
        });
    }
    for _ in 0..TrainingStep::SUMS {
        state.push(Tensor::scalar(0.0_f32)?);
    }
    let executable = Executable::compile(&step.program)?;
    let session = executable.bind(&state.iter().collect::<Vec<_>>())?;
    drop(state);

    let rate = Tensor::scalar(task.learning_rate)?;
    let fresh = Tensor::scalar(true)?;
    let loss_of = |inputs: &[&Tensor]| -> Result<f64, Failure> {
        session.run(inputs)?;
        Ok(session.state(step.loss_sum())?.item())
    };
    if settings.epochs > 0 {
        let batches = batches(task.columns, &tensors);
        let mut means = Vec::new();
        for _ in 0..settings.epochs {
            let mut sum = 0.0;
            for batch in &batches {
                let inputs: Vec<&Tensor> = batch.iter().copied().chain([&rate, &fresh]).collect();
                sum += loss_of(&inputs)?;
            }
            #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 batches")]
            means.push(sum / batches.len() as f64);
        }
        return Ok(json!({ "losses": means }));
    }
    let mut inputs: Vec<&Tensor> = batch.iter().collect();
    inputs.extend([&rate, &fresh]);
    let losses = (0..LOSSES).map(|_| loss_of(&inputs));
    let losses: Vec<f64> = losses.collect::<Result<_, _>>()?;
    let steps = || (0..settings.steps).try_for_each(|_| session.run(&inputs).map(drop));
    for turn in 0..settings.turns {
        steps()?;
        run.report_scalar("measure", "turn", 0.0, u64::from(turn))?;
    }
    if settings.turns > 0 {
        return Ok(Value::Null);
    }
    let mut fastest = f64::INFINITY;
    for _ in 0..ROUNDS {
        let started = Instant::now();
        steps()?;
        fastest = fastest.min(started.elapsed().as_secs_f64());
    }
    let states = step
        .saved
        .iter()
        .map(|SavedState { spec, .. }| match spec.initial {
            Initial::Constant(number) if spec.role != Role::Parameter => json!(number),
            _ => json!(spec.name),
        });
    Ok(json!({
        "task": letter,
        "us_per_step": fastest * 1e6 / f64::from(settings.steps),
        "losses": losses,
        "columns": task.columns,
        "states": states.collect::<Vec<_>>(),
        "learning_rate": task.learning_rate,
        "program": program::to_json(&step.program),
    }))
}

/// The batches of an epoch: the tensors that have the columns' names and `.0`, then `.1`, and so
/// on.
fn batches<'a>(columns: &[&str], tensors: &'a BTreeMap<String, Tensor>) -> Vec<Vec<&'a Tensor>> {
    let batch = |place: u32| {
        let parts = columns.iter();
        let parts = parts.map(|name| tensors.get(&format!("{name}.{place}")));
        parts.collect::<Option<Vec<_>>>()
    };
    (0..).map_while(batch).collect()
}

/// What a state that is no parameter begins as.
fn initial(spec: &StateSpec) -> Result<Tensor, Failure> {
    let elements = spec.shape.iter().product();
    match spec.initial {
        Initial::Constant(0.0) => Ok(Tensor::zeros(spec.dtype, &spec.shape)?),
        Initial::Constant(number) if spec.dtype == DType::F32 => {
            Ok(Tensor::from_slice(&spec.shape, &vec![number; elements])?)
        }
        other => Err(Failure::failed(format!(
            "`{}` begins as {other:?}",
            spec.name
        ))),
    }
}
