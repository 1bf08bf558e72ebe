//! Measures what a training step costs a plugin; `cargo xtask bench` runs it.
//!
//! It trains the network of `digits-mlp` as that plugin does, but neither judges nor logs,
//! and returns the time of a step together with the step's program, so that the same
//! program can be timed without a plugin around it.

mod program;

use std::time::Instant;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use trainshed_sdk::graph::{Graph, Var};
use trainshed_sdk::nn::{Activation, Adam, Measured, Mlp, Role, Scope, classification};
use trainshed_sdk::rng::Rng;
use trainshed_sdk::trainer::{Column, Start, Trainer, TrainingStep};
use trainshed_sdk::{About, Category, Checkpoint, DType, Dataset, Failure, Run, Train};

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
}

impl Default for Settings {
    fn default() -> Self {
        Self { steps: 20_000 }
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
        println!("started");
        if settings.steps == 0 {
            return Ok(Value::Null);
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
