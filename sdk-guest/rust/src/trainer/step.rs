//! The programs of a trainer, as data: what is recorded does not depend on a host.

use crate::compute::Program;
use crate::graph::{Graph, Var};
use crate::nn::{Initial, Measured, Optimizer, ParameterSpec, Residence, Scope, Step};
use crate::tensor::element_count;
use crate::{DType, ProgramError, Tensor};

/// The type and shape of one row of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// The type of its elements.
    pub dtype: DType,
    /// The shape of one row.
    pub shape: Vec<usize>,
}

/// A training step: forward, gradient, update and sums in one program without outputs.
///
/// Its inputs are the batch's columns, the learning rate (`f32 []`), and whether the sums
/// start anew (`bool []`). Its state are the `saved` tensors and, behind them, the sums.
#[derive(Debug)]
pub struct TrainingStep {
    /// What the host runs.
    pub program: Program,
    /// The state tensors that belong into a checkpoint, `f32`, in order: the parameters,
    /// then the optimizer's.
    pub saved: Vec<SavedState>,
    /// How many of `saved` are parameters.
    pub parameters: usize,
    /// Index of the state that sums the loss of each step.
    pub loss_sum: u32,
    /// Index of the state that sums the rows that were right.
    pub correct_sum: u32,
    /// Whether the model says which rows are right.
    pub counts_correct: bool,
}

/// A state tensor that belongs into a checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct SavedState {
    /// Its name in the file.
    pub name: String,
    /// Its shape; the elements are `f32`.
    pub shape: Vec<usize>,
    /// What it holds before training.
    pub initial: Initial,
}

/// Judging a batch: a program whose output is the prediction.
///
/// Its inputs are the batch's columns and then the parameters; its state are two sums.
#[derive(Debug)]
pub struct JudgingStep {
    /// What the host runs.
    pub program: Program,
}

impl Column {
    /// The column that a tensor of shape `[rows, …]` holds.
    pub fn of(tensor: &Tensor) -> Self {
        Self {
            dtype: tensor.dtype(),
            shape: tensor.shape().into_iter().skip(1).collect(),
        }
    }
}

impl TrainingStep {
    /// How many sums stand behind the saved states.
    pub const SUMS: usize = 2;

    /// Records the step of `model` for batches of `batch` rows into an empty `graph`.
    ///
    /// # Errors
    /// The first mistake in the model, or what the maker of gradients finds.
    pub fn record(
        graph: &Graph,
        columns: &[Column],
        batch: u32,
        model: &dyn Fn(&Scope, &[Var]) -> Measured,
        optimizer: &dyn Optimizer,
    ) -> Result<Self, ProgramError> {
        let batch = batch_inputs(graph, columns, batch);
        let learning_rate = graph.input("learning rate", DType::F32, &[]);
        let fresh = graph.input("fresh", DType::Bool, &[]);

        let scope = Scope::new(graph, Residence::State);
        let measured = model(&scope, &batch);
        let (specs, parameters) = scope.parameters();
        let of: Vec<&Var> = parameters.iter().collect();
        let gradients = graph.scoped("gradient", || graph.gradient(&measured.loss, &of));

        let mut saved: Vec<SavedState> = specs.iter().map(SavedState::of_parameter).collect();
        graph.scoped("optimizer", || {
            let count = graph.state("optimizer.step", DType::F32, &[]);
            saved.push(SavedState::zeros("optimizer.step".to_owned(), &[]));
            let step = Step {
                count: &count + 1.0,
                learning_rate,
            };
            graph.update(&count, &step.count);
            for ((spec, parameter), gradient) in specs.iter().zip(&parameters).zip(&gradients) {
                let slots = optimizer.slots().into_iter().map(|slot| {
                    let name = format!("optimizer.{slot}.{}", spec.name);
                    let state = graph.state(&name, DType::F32, &spec.shape);
                    saved.push(SavedState::zeros(name, &spec.shape));
                    state
                });
                let slots: Vec<Var> = slots.collect();
                let updated = optimizer.update(parameter, gradient, &slots, &step);
                graph.update(parameter, &updated.parameter);
                for (slot, value) in slots.iter().zip(&updated.slots) {
                    graph.update(slot, value);
                }
            }
        });

        let counts_correct = measured.correct.is_some();
        graph.scoped("sums", || {
            record_sums(graph, &measured, &measured.loss, Some(&fresh));
        });
        let first_sum = u32::try_from(saved.len()).unwrap_or(u32::MAX);
        Ok(Self {
            program: graph.finish()?,
            parameters: specs.len(),
            loss_sum: first_sum,
            correct_sum: first_sum.saturating_add(1),
            counts_correct,
            saved,
        })
    }
}

impl JudgingStep {
    /// Index of the state that sums the loss of each row.
    pub const LOSS_SUM: u32 = 0;
    /// Index of the state that sums the rows that were right.
    pub const CORRECT_SUM: u32 = 1;

    /// Records the judging of `rows` rows into an empty `graph`.
    ///
    /// # Errors
    /// The first mistake in the model.
    pub fn record(
        graph: &Graph,
        columns: &[Column],
        rows: u32,
        model: &dyn Fn(&Scope, &[Var]) -> Measured,
    ) -> Result<Self, ProgramError> {
        let batch = batch_inputs(graph, columns, rows);
        let scope = Scope::new(graph, Residence::Input);
        let measured = model(&scope, &batch);
        graph.scoped("sums", || {
            let loss = &measured.loss * f64::from(rows);
            record_sums(graph, &measured, &loss, None);
        });
        graph.output(&measured.prediction);
        Ok(Self {
            program: graph.finish()?,
        })
    }
}

impl SavedState {
    pub(super) fn element_count(&self) -> Result<usize, ProgramError> {
        element_count(&self.shape).ok_or_else(|| {
            let Self { name, shape, .. } = self;
            ProgramError::InvalidArgument(format!("`{name}` of shape {shape:?} is too large"))
        })
    }

    fn of_parameter(spec: &ParameterSpec) -> Self {
        Self {
            name: spec.name.clone(),
            shape: spec.shape.clone(),
            initial: spec.initial,
        }
    }

    fn zeros(name: String, shape: &[usize]) -> Self {
        Self {
            name,
            shape: shape.to_vec(),
            initial: Initial::Constant(0.0),
        }
    }
}

fn batch_inputs(graph: &Graph, columns: &[Column], rows: u32) -> Vec<Var> {
    let columns = columns.iter().enumerate();
    columns
        .map(|(position, column)| {
            let shape = [&[rows as usize], column.shape.as_slice()].concat();
            graph.input(&format!("column {position}"), column.dtype, &shape)
        })
        .collect()
}

/// Adds `loss` and the right rows of a batch to two states, which `fresh` empties first.
fn record_sums(graph: &Graph, measured: &Measured, loss: &Var, fresh: Option<&Var>) {
    let zero = graph.full(DType::F32, &[], 0.0);
    let correct = measured.correct.as_ref().unwrap_or(&zero);
    for (name, addend) in [("loss", loss), ("correct", correct)] {
        let sum = graph.state(&format!("sum of {name}"), DType::F32, &[]);
        let before = match fresh {
            Some(fresh) => fresh.select(&zero, &sum),
            None => sum.clone(),
        };
        graph.update(&sum, &(before + addend));
    }
}
