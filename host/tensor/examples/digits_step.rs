//! Times a training step without a plugin around it, on one thread.
//!
//! `digits_step RESULT.json DIGITS.csv` takes what the test guest `measure` returned for the
//! same data: `program`, the step, how many of its states are `parameters`, and how many
//! `steps` on how many `rows` it did. It trains in the same way for as many steps and prints
//! `{"us_per_step": …}`. `cargo xtask bench` compares the two times.

#![expect(
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "prints its result, and the numbers are small"
)]

mod guest;

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use guest::{ProgramJson, declared};
use serde::Deserialize;
use trainshed_tensor::{Batches, Budget, Context, DType, Executable, Session, Tensor};

/// As many as the guest does before it measures.
const WARM_UP_STEPS: u64 = 200;

fn main() -> Result<(), Box<dyn Error>> {
    let mut paths = std::env::args_os().skip(1);
    let (Some(result), Some(digits)) = (paths.next(), paths.next()) else {
        return Err("the guest's result and the digits must be given".into());
    };
    let measured: Measured = serde_json::from_slice(&std::fs::read(result)?)?;
    let program = measured.program.into_program();

    let budget = Budget::new(1 << 30);
    let context = Context::new(budget.clone(), 1, Arc::new(AtomicBool::new(false)))?;
    let mut noise = Noise(1);
    let state = declared(&program, "state")?.into_iter().enumerate();
    let state: Result<Vec<Tensor>, _> = state
        .map(|(index, (_, shape))| {
            let count = shape.iter().product::<u64>();
            // Biases may start at random too; what the optimizer keeps may not.
            let scale = if index < measured.parameters {
                0.2
            } else {
                0.0
            };
            let numbers: Vec<f32> = (0..count).map(|_| scale * noise.number()).collect();
            Tensor::from_f32(&shape, &numbers, &budget)
        })
        .collect();
    let inputs = declared(&program, "input")?;
    let batch = inputs.first().ok_or("the program has no inputs")?.1[0];
    let mut training = Training {
        session: Executable::compile(&program, &budget)?.bind(state?, &context)?,
        columns: columns(&std::fs::read_to_string(digits)?, &budget)?,
        order: noise.order(measured.rows),
        batch: u32::try_from(batch)?,
        learning_rate: Tensor::from_f32(&[], &[0.001], &budget)?,
        fresh: [1, 0]
            .map(|flag| Tensor::from_bytes(DType::Bool, &[], &[flag], &budget))
            .into_iter()
            .collect::<Result<_, _>>()?,
        context,
    };

    training.run(WARM_UP_STEPS)?;
    let started = Instant::now();
    let steps = training.run(measured.steps)?;
    let us_per_step = started.elapsed().as_secs_f64() * 1e6 / steps as f64;
    println!("{}", serde_json::json!({ "us_per_step": us_per_step }));
    Ok(())
}

struct Training {
    session: Session,
    columns: Vec<Tensor>,
    order: Vec<u32>,
    batch: u32,
    learning_rate: Tensor,
    /// For the first step of an epoch, and for the others.
    fresh: Vec<Tensor>,
    context: Context,
}

impl Training {
    /// Runs whole epochs until at least `steps` steps are done; returns how many were.
    fn run(&mut self, steps: u64) -> Result<u64, Box<dyn Error>> {
        let mut done = 0;
        while done < steps {
            let (columns, order) = (self.columns.clone(), self.order.clone());
            let mut batches = Batches::new(columns, order, self.batch, true, &self.context)?;
            let mut fresh = &self.fresh[0];
            if batches.remaining() == 0 {
                return Err("there are fewer rows than a batch has".into());
            }
            while let Some(mut inputs) = batches.next()? {
                inputs.extend([self.learning_rate.clone(), fresh.clone()]);
                self.session.run(&inputs)?;
                fresh = &self.fresh[1];
                done += 1;
            }
        }
        Ok(done)
    }
}

/// What the guest returned.
#[derive(Deserialize)]
struct Measured {
    steps: u64,
    rows: usize,
    parameters: usize,
    program: ProgramJson,
}

/// The pixels and the labels of a CSV file whose last column is the label.
fn columns(csv: &str, budget: &Budget) -> Result<Vec<Tensor>, Box<dyn Error>> {
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    for line in csv.lines().skip(1) {
        let (row, label) = line.rsplit_once(',').ok_or("a row has no label")?;
        for pixel in row.split(',') {
            pixels.push(pixel.parse::<f32>()?);
        }
        labels.push(label.parse::<i32>()?);
    }
    let rows = labels.len() as u64;
    let width = pixels.len() as u64 / rows.max(1);
    let labels: Vec<u8> = labels.into_iter().flat_map(i32::to_le_bytes).collect();
    Ok(vec![
        Tensor::from_f32(&[rows, width], &pixels, budget)?,
        Tensor::from_bytes(DType::I32, &[rows, 1], &labels, budget)?,
    ])
}

/// A small linear congruential generator: the same numbers on every machine.
struct Noise(u64);

impl Noise {
    /// A number from -1 to 1.
    fn number(&mut self) -> f32 {
        self.below(2001) as f32 / 1000.0 - 1.0
    }

    /// The row numbers `0..rows` in a random order.
    fn order(&mut self, rows: usize) -> Vec<u32> {
        let mut order: Vec<u32> = (0..rows as u32).collect();
        for last in (1..order.len()).rev() {
            order.swap(last, self.below(last as u64 + 1) as usize);
        }
        order
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % bound
    }
}
