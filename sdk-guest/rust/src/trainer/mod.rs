//! Training a model: steps, epochs, judging, saving and going on.
//!
//! A [`Trainer`] records a model, its loss and its optimizer into one program, so that a
//! step is one crossing into the host and no tensor passes through the plugin:
//!
//! ```no_run
//! use trainshed_sdk::nn::{Adam, Mlp, classification};
//! use trainshed_sdk::trainer::{Column, Start, Trainer};
//! # use trainshed_sdk::{Failure, Run, Tensor};
//!
//! # fn example(run: &Run, x: &Tensor, labels: &Tensor, rows: &[u32]) -> Result<(), Failure> {
//! let network = Mlp { inputs: 64, hidden: vec![128], outputs: 10, activation: Default::default() };
//! let mut trainer = Trainer::new(
//!     &[Column::of(x), Column::of(labels)],
//!     32,
//!     |scope, batch| classification(&network, scope, &batch[0], &batch[1]),
//!     &Adam::default(),
//!     &Start::Seed(run.seed()),
//! )?;
//! let epoch = trainer.epoch(&[x, labels], rows, 0.001, || run.stopping())?;
//! # Ok(())
//! # }
//! ```

mod step;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::checkpoint::{Checkpoint, ModelDetails};
use crate::compute::{Batches, Executable, Session};
use crate::graph::{Graph, Var};
use crate::nn::{Measured, Optimizer, Scope};
use crate::rng::Rng;
use crate::{CheckpointError, DType, Failure, ProgramError, Run, Tensor};

pub use step::{Column, JudgingStep, SavedState, TrainingStep};

/// What becomes of one batch, whose columns it is given.
type Model<'m> = dyn Fn(&Scope, &[Var]) -> Measured + 'm;

/// A model in training.
///
/// Its `model` records what becomes of one batch: it is given the batch's columns, in the
/// order of the columns that the trainer was made with.
pub struct Trainer<'m> {
    model: Box<Model<'m>>,
    columns: Vec<Column>,
    batch: u32,
    step: TrainingStep,
    session: Session,
    /// For the first step of an epoch, and for the others.
    fresh: [Tensor; 2],
    judges: BTreeMap<u32, Judge>,
}

/// Where a model's parameters come from.
#[derive(Debug)]
pub enum Start<'c> {
    /// From random numbers of this seed; the optimizer starts anew.
    Seed(u64),
    /// From a model that [`Trainer::save`] wrote. A checkpoint that holds no state of
    /// this optimizer gives the parameters alone.
    Checkpoint(&'c Checkpoint<'c>),
}

/// How a model did on some rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// The mean loss; NaN when there were no rows.
    pub loss: f64,
    /// The share of rows that were right, 0 to 1, for classifications.
    pub accuracy: Option<f64>,
    /// How many rows.
    pub rows: u64,
}

struct Judge {
    executable: Executable,
    start: Vec<Tensor>,
}

/// How many rows are judged at once: enough to fill matrix products, little memory.
const JUDGED_ROWS: u32 = 256;

impl<'m> Trainer<'m> {
    /// Records, compiles and binds the training step for batches of `batch` rows.
    ///
    /// # Errors
    /// The first mistake in the model, with the part in which it was made; a checkpoint
    /// that does not fit the model; memory that is used up.
    pub fn new(
        columns: &[Column],
        batch: u32,
        model: impl Fn(&Scope, &[Var]) -> Measured + 'm,
        optimizer: &dyn Optimizer,
        start: &Start,
    ) -> Result<Self, Failure> {
        let step = TrainingStep::record(&Graph::new(), columns, batch, &model, optimizer)?;
        let state = match start {
            Start::Seed(seed) => initial_state(&step, *seed)?,
            Start::Checkpoint(checkpoint) => restored_state(&step, checkpoint)?,
        };
        let mut bound: Vec<&Tensor> = state.iter().collect();
        let zero = Tensor::scalar(0.0f32)?;
        bound.extend(std::iter::repeat_n(&zero, TrainingStep::SUMS));
        let session = Executable::compile(&step.program)?.bind(&bound)?;
        Ok(Self {
            model: Box::new(model),
            columns: columns.to_vec(),
            batch,
            step,
            session,
            fresh: [Tensor::scalar(true)?, Tensor::scalar(false)?],
            judges: BTreeMap::new(),
        })
    }

    /// Trains on `rows` of `columns` once, in that order; a last batch that is too small
    /// is left out.
    ///
    /// None when `stopping` said so, which is asked before each step; what was learnt
    /// until then is kept. The summary is of the parameters as they were at each step.
    ///
    /// # Errors
    /// When there are fewer rows than a batch has, columns do not fit, or memory is used
    /// up.
    pub fn epoch(
        &mut self,
        columns: &[&Tensor],
        rows: &[u32],
        learning_rate: f64,
        mut stopping: impl FnMut() -> bool,
    ) -> Result<Option<Summary>, ProgramError> {
        let batches = Batches::new(columns, rows, self.batch, true)?;
        let steps = batches.remaining();
        if steps == 0 {
            let (batch, found) = (self.batch, rows.len());
            return Err(ProgramError::InvalidArgument(format!(
                "a batch has {batch} rows, but there are only {found} to train on"
            )));
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the host computes in f32; rounding is meant"
        )]
        let learning_rate = Tensor::scalar(learning_rate as f32)?;
        let [first, others] = &self.fresh;
        let mut fresh = first;
        loop {
            if stopping() {
                return Ok(None);
            }
            let inputs = [&learning_rate, fresh];
            if self.session.run_batch(&batches, &inputs)?.is_none() {
                break;
            }
            fresh = others;
        }
        let rows = u64::from(steps) * u64::from(self.batch);
        let sum = |index| Ok::<f64, ProgramError>(self.session.state(index)?.item());
        let loss = sum(self.step.loss_sum)? / f64::from(steps);
        let correct = sum(self.step.correct_sum)?;
        Ok(Some(Summary {
            loss,
            accuracy: self.accuracy(correct, rows),
            rows,
        }))
    }

    /// Judges the model, as it is now, by `rows` of `columns`.
    ///
    /// # Errors
    /// When columns do not fit, or memory is used up.
    pub fn evaluate(&mut self, columns: &[&Tensor], rows: &[u32]) -> Result<Summary, ProgramError> {
        let (loss, correct) = self.judge(columns, rows, |_| ())?;
        let rows = rows.len() as u64;
        #[expect(clippy::cast_precision_loss, reason = "fewer than 2^32 rows")]
        let loss = loss / rows as f64;
        Ok(Summary {
            loss,
            accuracy: self.accuracy(correct, rows),
            rows,
        })
    }

    /// The model's predictions for `rows` of `columns`: tensors that follow each other,
    /// each of some rows.
    ///
    /// # Errors
    /// As [`Trainer::evaluate`].
    pub fn predict(
        &mut self,
        columns: &[&Tensor],
        rows: &[u32],
    ) -> Result<Vec<Tensor>, ProgramError> {
        let mut predictions = Vec::new();
        self.judge(columns, rows, |prediction| predictions.push(prediction))?;
        Ok(predictions)
    }

    /// Saves the parameters, under their names, and the optimizer's state, under names
    /// that begin with `optimizer.`, as the model `name`.
    ///
    /// # Errors
    /// When an argument breaks a rule, a quota is used up, or the host cannot store it.
    pub fn save(&self, run: &Run, name: &str, details: &ModelDetails) -> Result<(), Failure> {
        let tensors = (0..).zip(&self.step.saved).map(|(index, saved)| {
            let tensor = self.session.state(index)?;
            Ok((saved.name.clone(), tensor))
        });
        let tensors: Vec<(String, Tensor)> = tensors.collect::<Result<_, ProgramError>>()?;
        Ok(run.save_model(name, &tensors, details)?)
    }

    /// How many numbers the model learns.
    pub fn parameter_count(&self) -> u64 {
        let parameters = self.step.saved.iter().take(self.step.parameters);
        parameters
            .map(|saved| saved.shape.iter().map(|&size| size as u64).product::<u64>())
            .sum()
    }

    fn accuracy(&self, correct: f64, rows: u64) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "a share need not be exact")]
        let share = correct / rows as f64;
        self.step.counts_correct.then_some(share)
    }

    /// Sums the loss of each row and the rows that are right.
    fn judge(
        &mut self,
        columns: &[&Tensor],
        rows: &[u32],
        mut take: impl FnMut(Tensor),
    ) -> Result<(f64, f64), ProgramError> {
        let parameters = u32::try_from(self.step.parameters).unwrap_or(u32::MAX);
        let parameters = (0..parameters).map(|index| self.session.state(index));
        let parameters: Vec<Tensor> = parameters.collect::<Result<_, _>>()?;
        let inputs: Vec<&Tensor> = parameters.iter().collect();

        let (mut loss, mut correct) = (0.0, 0.0);
        let whole = rows.len() - rows.len() % JUDGED_ROWS as usize;
        let (whole, rest) = rows.split_at(whole);
        for part in [whole, rest] {
            let size = u32::try_from(part.len()).unwrap_or(JUDGED_ROWS);
            let size = size.min(JUDGED_ROWS);
            if size == 0 {
                continue;
            }
            let judge = self.judge_of(size)?;
            let start: Vec<&Tensor> = judge.start.iter().collect();
            let session = judge.executable.bind(&start)?;
            let batches = Batches::new(columns, part, size, false)?;
            while let Some(outputs) = session.run_batch(&batches, &inputs)? {
                outputs.into_iter().for_each(&mut take);
            }
            loss += session.state(JudgingStep::LOSS_SUM)?.item();
            correct += session.state(JudgingStep::CORRECT_SUM)?.item();
        }
        Ok((loss, correct))
    }

    /// The compiled program that judges `size` rows at once.
    fn judge_of(&mut self, size: u32) -> Result<&Judge, ProgramError> {
        if !self.judges.contains_key(&size) {
            let step = JudgingStep::record(&Graph::new(), &self.columns, size, &self.model)?;
            let judge = Judge {
                executable: Executable::compile(&step.program)?,
                start: vec![Tensor::scalar(0.0f32)?, Tensor::scalar(0.0f32)?],
            };
            self.judges.insert(size, judge);
        }
        Ok(&self.judges[&size])
    }
}

impl Summary {
    /// Whether more rows were right or, if as many were, the loss is smaller; NaN is
    /// larger than every number.
    pub fn is_better_than(&self, other: &Self) -> bool {
        let smaller = |left: f64, right: f64| left < right || (right.is_nan() && !left.is_nan());
        let wrong = |summary: &Self| 1.0 - summary.accuracy.unwrap_or(0.0);
        smaller(wrong(self), wrong(other))
            || (wrong(self) == wrong(other) && smaller(self.loss, other.loss))
    }
}

fn initial_state(step: &TrainingStep, seed: u64) -> Result<Vec<Tensor>, ProgramError> {
    let states = step.saved.iter();
    states
        .map(|saved| {
            let mut rng = Rng::new(seed, &saved.name);
            let count = saved.element_count()?;
            Tensor::from_slice(&saved.shape, &saved.initial.elements(count, &mut rng))
        })
        .collect()
}

fn restored_state(step: &TrainingStep, checkpoint: &Checkpoint) -> Result<Vec<Tensor>, Failure> {
    let entries = checkpoint.entries()?;
    let shape_of = |name: &str| {
        let mut entries = entries.iter();
        let entry = entries.find(|entry| entry.name == name);
        entry.map(|entry| (entry.dtype, entry.shape.as_slice()))
    };
    let holds =
        |saved: &SavedState| shape_of(&saved.name) == Some((DType::F32, saved.shape.as_slice()));
    let (parameters, optimizer) = step.saved.split_at(step.parameters);
    for parameter in parameters {
        let SavedState { name, shape, .. } = parameter;
        match shape_of(name) {
            None => return Err(CheckpointError::UnknownTensor(name.clone()).into()),
            Some((dtype, found)) if !holds(parameter) => {
                let message = format!(
                    "the checkpoint's `{name}` is {dtype} {found:?}, but the model needs f32 {shape:?}"
                );
                return Err(CheckpointError::Mismatch(message).into());
            }
            Some(_) => {}
        }
    }
    let goes_on = optimizer.iter().all(holds);
    let states = step.saved.iter().enumerate();
    states
        .map(|(index, saved)| {
            if index < step.parameters || goes_on {
                return Ok(checkpoint.load(&saved.name)?);
            }
            let zeros: Vec<f32> = vec![0.0; saved.element_count()?];
            Ok(Tensor::from_slice(&saved.shape, &zeros)?)
        })
        .collect()
}
