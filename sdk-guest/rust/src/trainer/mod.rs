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
//! let network = Mlp { inputs: 64, hidden: vec![128], outputs: 10, activation: Default::default(), dropout: 0.0 };
//! let mut trainer = Trainer::new(
//!     &[Column::of(x), Column::of(labels)],
//!     32,
//!     |scope, batch| classification(&network, scope, &batch[0], &batch[1]),
//!     Adam::default(),
//!     &Start::Seed(run.seed()),
//! )?;
//! let epoch = trainer.epoch(&[x, labels], rows, &0.001, || run.stopping())?;
//! # Ok(())
//! # }
//! ```

mod recipe;
mod start;
mod step;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::checkpoint::{Keep, ModelDetails};
use crate::compute::{Batches, Executable, Session};
use crate::graph::{Graph, Var, evaluate};
use crate::nn::{Measured, Purpose, Role, Schedule, Scope};
use crate::{DType, Failure, ProgramError, Run, Tensor};

pub use recipe::Recipe;
pub use start::Start;
pub use step::{Column, JudgingStep, Owner, SavedState, TrainingStep};

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
    accumulate: u32,
    dtype: DType,
    step: TrainingStep,
    session: Session,
    /// For the first step of an epoch, and for the others.
    fresh: [Tensor; 2],
    judges: BTreeMap<u32, Judge>,
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
    step: JudgingStep,
    executable: Executable,
    start: Vec<Tensor>,
}

/// What judging some rows gave: the sums over them.
struct Judged {
    loss: f64,
    correct: f64,
    totals: BTreeMap<String, Vec<f64>>,
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
        recipe: impl Into<Recipe>,
        start: &Start,
    ) -> Result<Self, Failure> {
        let recipe = recipe.into();
        let step = TrainingStep::record(&Graph::new(), columns, batch, &model, &recipe)?;
        let state = start.state(&step)?;
        let mut bound: Vec<&Tensor> = state.iter().map(start::Held::tensor).collect();
        let zero = Tensor::scalar(0.0f32)?;
        bound.extend(std::iter::repeat_n(&zero, TrainingStep::SUMS));
        let session = Executable::compile(&step.program)?.bind(&bound)?;
        Ok(Self {
            model: Box::new(model),
            columns: columns.to_vec(),
            batch,
            accumulate: recipe.accumulate,
            dtype: recipe.dtype,
            step,
            session,
            fresh: [Tensor::scalar(true)?, Tensor::scalar(false)?],
            judges: BTreeMap::new(),
        })
    }

    /// Trains on `rows` of `columns` once, in that order; a last batch that is too small
    /// is left out. `learning_rate` is asked for each step of the optimizer: a number, or
    /// a schedule over the steps from the beginning of training, checkpoints included.
    ///
    /// None when `stopping` said so, which is asked before each batch; what was learnt
    /// until then is kept. The summary is of the parameters as they were at each step.
    ///
    /// # Errors
    /// When there are fewer rows than a batch has, columns do not fit, or memory is used
    /// up.
    pub fn epoch(
        &mut self,
        columns: &[&Tensor],
        rows: &[u32],
        learning_rate: &dyn Schedule,
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
        let first_step = self.steps()?;
        let pending = self.count(step::PENDING)?;
        let mut rate = Rate::of(learning_rate, first_step)?;
        let [first, others] = &self.fresh;
        let mut fresh = first;
        for batch in 0.. {
            if stopping() {
                return Ok(None);
            }
            let step = first_step + (pending + batch) / u64::from(self.accumulate);
            rate.set(learning_rate, step)?;
            let inputs = [&rate.tensor, fresh];
            if self.session.run_batch(&batches, &inputs)?.is_none() {
                break;
            }
            fresh = others;
        }
        let rows = u64::from(steps) * u64::from(self.batch);
        let sum = |index| Ok::<f64, ProgramError>(self.session.state(index)?.item());
        let loss = sum(self.step.loss_sum())? / f64::from(steps);
        let correct = sum(self.step.correct_sum())?;
        Ok(Some(Summary {
            loss,
            accuracy: self.accuracy(correct, rows),
            rows,
        }))
    }

    /// How many steps the optimizer has taken, those before a checkpoint included.
    ///
    /// # Errors
    /// When the host cannot be asked.
    pub fn steps(&self) -> Result<u64, ProgramError> {
        self.count(step::STEP)
    }

    /// Judges the model, as it is now, by `rows` of `columns`.
    ///
    /// # Errors
    /// When columns do not fit, or memory is used up.
    pub fn evaluate(&mut self, columns: &[&Tensor], rows: &[u32]) -> Result<Summary, ProgramError> {
        Ok(self.totals(columns, rows)?.0)
    }

    /// Judges the model as [`Trainer::evaluate`] does, and sums up the totals that it
    /// measured, by name and in row-major order.
    ///
    /// # Errors
    /// As [`Trainer::evaluate`].
    pub fn totals(
        &mut self,
        columns: &[&Tensor],
        rows: &[u32],
    ) -> Result<(Summary, BTreeMap<String, Vec<f64>>), ProgramError> {
        let judged = self.judge(columns, rows, |_| ())?;
        let rows = rows.len() as u64;
        #[expect(clippy::cast_precision_loss, reason = "fewer than 2^32 rows")]
        let loss = judged.loss / rows as f64;
        let summary = Summary {
            loss,
            accuracy: self.accuracy(judged.correct, rows),
            rows,
        };
        Ok((summary, judged.totals))
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

    /// The model's predictions for `rows` of `columns`, in one tensor with a row for each.
    ///
    /// # Errors
    /// As [`Trainer::evaluate`], and when there are no rows.
    pub fn predict_all(
        &mut self,
        columns: &[&Tensor],
        rows: &[u32],
    ) -> Result<Tensor, ProgramError> {
        let parts = self.predict(columns, rows)?;
        let parts: Vec<&Tensor> = parts.iter().collect();
        let mut all = evaluate(&parts, |_, parts| {
            let others: Vec<&Var> = parts.iter().skip(1).collect();
            let first = parts.first();
            first
                .map(|first| first.concatenate(&others, 0))
                .into_iter()
                .collect()
        })?;
        all.pop()
            .ok_or_else(|| ProgramError::InvalidArgument("there are no rows".to_owned()))
    }

    /// Saves the model's tensors, under their names, and the optimizer's state, under names
    /// that begin with `optimizer.` (averages: `average.`), as the model `name`.
    ///
    /// # Errors
    /// When an argument breaks a rule, a quota is used up, or the host cannot store it.
    pub fn save(&self, run: &Run, name: &str, details: &ModelDetails) -> Result<(), Failure> {
        Ok(run.save_model(name, &self.saved()?, details)?)
    }

    /// As [`Trainer::save`], of a snapshot; see [`Run::save_snapshot`].
    ///
    /// # Errors
    /// As [`Trainer::save`].
    pub fn snapshot(
        &self,
        run: &Run,
        name: &str,
        details: &ModelDetails,
        score: Option<f64>,
        keep: Keep,
    ) -> Result<String, Failure> {
        Ok(run.save_snapshot(name, &self.saved()?, details, score, keep)?)
    }

    /// What belongs into a file.
    fn saved(&self) -> Result<Vec<(String, Tensor)>, ProgramError> {
        let tensors = (0..).zip(&self.step.saved).map(|(index, saved)| {
            let tensor = self.session.state(index)?;
            Ok((saved.spec.name.clone(), tensor))
        });
        tensors.collect()
    }

    /// As [`Trainer::save`], together with a program that predicts: `predict` is given its
    /// inputs, of these types and shapes, and records what it returns with the same parts
    /// of the model. Whoever has the file can then run it; see [`Checkpoint::session`].
    ///
    /// # Errors
    /// As [`Trainer::save`], and the first mistake in what `predict` records.
    ///
    /// [`Checkpoint::session`]: crate::Checkpoint::session
    pub fn save_with_program(
        &self,
        run: &Run,
        name: &str,
        details: &ModelDetails,
        inputs: &[(&str, DType, &[usize])],
        predict: impl FnOnce(&Scope, &[Var]) -> Vec<Var>,
    ) -> Result<(), Failure> {
        let graph = Graph::new();
        let inputs = inputs.iter();
        let inputs: Vec<Var> = inputs
            .map(|(name, dtype, shape)| graph.input(name, *dtype, shape))
            .collect();
        let scope = Scope::new(&graph, Purpose::Predict, self.dtype);
        for output in predict(&scope, &inputs) {
            graph.output(&output);
        }
        let mut program = graph.finish()?;
        let instructions = program.instructions.iter_mut();
        for state in instructions.filter(|instruction| instruction.op == "state") {
            // The tensor that the model is used with.
            let label = state.label.as_deref();
            let index = label.and_then(|label| self.step.index_of(label));
            let owner = index.map(|index| Owner::Average(index as usize));
            let mut saved = self.step.saved.iter();
            if let Some(average) = saved.find(|saved| Some(saved.owner) == owner) {
                state.label = Some(average.spec.name.clone());
            }
        }
        Ok(run.save_model_with_program(name, &self.saved()?, details, &program)?)
    }

    /// The tensor of this name as [`Trainer::save`] would save it now: a parameter, a
    /// buffer, or `optimizer.…`. None when there is no such name. Copies nothing.
    ///
    /// # Errors
    /// When the host cannot be asked.
    pub fn tensor(&self, name: &str) -> Result<Option<Tensor>, ProgramError> {
        let index = self.step.index_of(name);
        index.map(|index| self.session.state(index)).transpose()
    }

    /// How many numbers the model learns.
    pub fn parameter_count(&self) -> u64 {
        let saved = self.step.saved.iter();
        let parameters = saved.filter(|saved| saved.spec.role == Role::Parameter);
        parameters
            .map(|saved| {
                let sizes = saved.spec.shape.iter();
                sizes.map(|&size| size as u64).product::<u64>()
            })
            .sum()
    }

    /// A count that the program keeps; 0 when it does not.
    fn count(&self, name: &str) -> Result<u64, ProgramError> {
        let count = self.tensor(name)?.map_or(0.0, |tensor| tensor.item());
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it counts up from 0"
        )]
        let count = count as u64;
        Ok(count)
    }

    fn accuracy(&self, correct: f64, rows: u64) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "a share need not be exact")]
        let share = correct / rows as f64;
        self.step.counts_correct.then_some(share)
    }

    /// Sums the loss of each row, the rows that are right, and the totals.
    fn judge(
        &mut self,
        columns: &[&Tensor],
        rows: &[u32],
        mut take: impl FnMut(Tensor),
    ) -> Result<Judged, ProgramError> {
        let mut judged = Judged {
            loss: 0.0,
            correct: 0.0,
            totals: BTreeMap::new(),
        };
        let whole = rows.len() - rows.len() % JUDGED_ROWS as usize;
        let (whole, rest) = rows.split_at(whole);
        for part in [whole, rest] {
            let size = u32::try_from(part.len()).unwrap_or(JUDGED_ROWS);
            let size = size.min(JUDGED_ROWS);
            if size == 0 {
                continue;
            }
            self.prepare_judge(size)?;
            let judge = &self.judges[&size];
            let taken = judge.step.takes.iter().map(|name| self.used(name));
            let taken: Vec<Tensor> = taken.collect::<Result<_, _>>()?;
            let inputs: Vec<&Tensor> = taken.iter().collect();
            let start: Vec<&Tensor> = judge.start.iter().collect();
            let session = judge.executable.bind(&start)?;
            let batches = Batches::new(columns, part, size, false)?;
            while let Some(outputs) = session.run_batch(&batches, &inputs)? {
                outputs.into_iter().for_each(&mut take);
            }
            judged.loss += session.state(JudgingStep::LOSS_SUM)?.item();
            judged.correct += session.state(JudgingStep::CORRECT_SUM)?.item();
            for (index, (name, _, _)) in (JudgingStep::TOTALS..).zip(&judge.step.totals) {
                let more = session.state(index)?.to_f64s()?;
                let total = judged.totals.entry(name.clone());
                let total = total.or_insert_with(|| vec![0.0; more.len()]);
                for (total, more) in total.iter_mut().zip(more) {
                    *total += more;
                }
            }
        }
        Ok(judged)
    }

    /// The tensor that the model is used with: of a parameter, its average if there is
    /// one.
    fn used(&self, name: &str) -> Result<Tensor, ProgramError> {
        let Some(index) = self.step.index_of(name) else {
            return Err(ProgramError::InvalidArgument(format!(
                "the model asks for `{name}` when it is judged, but not when it learns"
            )));
        };
        let mut saved = self.step.saved.iter();
        let average = saved.position(|saved| saved.owner == Owner::Average(index as usize));
        let average = average.and_then(|index| u32::try_from(index).ok());
        self.session.state(average.unwrap_or(index))
    }

    /// Compiles the program that judges `size` rows at once, unless it is.
    fn prepare_judge(&mut self, size: u32) -> Result<(), ProgramError> {
        if self.judges.contains_key(&size) {
            return Ok(());
        }
        let (columns, model) = (&self.columns, &self.model);
        let step = JudgingStep::record(&Graph::new(), columns, size, model, self.dtype)?;
        let mut start = vec![Tensor::scalar(0.0f32)?, Tensor::scalar(0.0f32)?];
        for (_, dtype, shape) in &step.totals {
            start.push(Tensor::zeros(*dtype, shape)?);
        }
        let judge = Judge {
            executable: Executable::compile(&step.program)?,
            start,
            step,
        };
        self.judges.insert(size, judge);
        Ok(())
    }
}

/// The learning rate as the host has it.
struct Rate {
    number: f32,
    tensor: Tensor,
}

impl Rate {
    fn of(schedule: &dyn Schedule, step: u64) -> Result<Self, ProgramError> {
        let number = rounded(schedule.rate(step));
        let tensor = Tensor::scalar(number)?;
        Ok(Self { number, tensor })
    }

    /// Makes it the rate of `step`; crosses into the host only when it is another.
    fn set(&mut self, schedule: &dyn Schedule, step: u64) -> Result<(), ProgramError> {
        if self.number.to_bits() != rounded(schedule.rate(step)).to_bits() {
            *self = Self::of(schedule, step)?;
        }
        Ok(())
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the host computes in f32; rounding is meant"
)]
fn rounded(rate: f64) -> f32 {
    rate as f32
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
