//! The programs of a trainer, as data: what is recorded does not depend on a host.

use super::Recipe;
use crate::compute::Program;
use crate::graph::{Graph, Var};
use crate::nn::{Initial, Measured, Purpose, Role, Scope, StateSpec, Step};
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
    /// The state tensors that belong into a checkpoint, in order: the model's first.
    pub saved: Vec<SavedState>,
    /// Whether the model says which rows are right.
    pub counts_correct: bool,
}

/// A state tensor that belongs into a checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct SavedState {
    /// What it is called in the file, what it looks like and how it begins.
    pub spec: StateSpec,
    /// Whose it is.
    pub owner: Owner,
}

/// Whose a state tensor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// The model's.
    Model,
    /// The optimizer's.
    Optimizer,
    /// It is the average of the saved state of this index.
    Average(usize),
}

/// Judging a batch: a program whose output is the prediction.
///
/// Its inputs are the batch's columns and then the model's tensors; its state are the sums
/// of loss, right rows and totals.
#[derive(Debug)]
pub struct JudgingStep {
    /// What the host runs.
    pub program: Program,
    /// The names of the model's tensors that it takes.
    pub takes: Vec<String>,
    /// Name, type and shape of each total.
    pub totals: Vec<(String, DType, Vec<usize>)>,
}

/// The name of the number of the step in the saved file.
pub(super) const STEP: &str = "optimizer.step";
/// The name of the number of batches since the last step.
pub(super) const PENDING: &str = "optimizer.pending";

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
    /// How many sums stand behind the saved states: the loss of each step, and the rows
    /// that were right.
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
        recipe: &Recipe,
    ) -> Result<Self, ProgramError> {
        let batch = batch_inputs(graph, columns, batch);
        let learning_rate = graph.input("learning rate", DType::F32, &[]);
        let fresh = graph.input("fresh", DType::Bool, &[]);

        let scope = Scope::new(graph, Purpose::Train, recipe.dtype);
        let measured = model(&scope, &batch);
        let (specs, values) = scope.states();
        let mut states = States {
            graph,
            saved: Vec::new(),
        };
        for (spec, value) in specs.iter().zip(&values) {
            states.saved.push(SavedState {
                spec: spec.clone(),
                owner: Owner::Model,
            });
            if spec.role == Role::Key {
                graph.update(value, &(value + graph.constant(&[2], &[0u32, 1])));
            }
        }
        graph.scoped("optimizer", || {
            let model = specs.iter().zip(values.iter().cloned()).enumerate();
            let learning = model.filter_map(|(index, (spec, value))| {
                let learns = spec.role == Role::Parameter;
                let rule = learns.then(|| recipe.rule(spec)).flatten()?;
                Some(Learning {
                    index,
                    spec,
                    value,
                    rule,
                })
            });
            let learning: Vec<Learning> = learning.collect();
            states.learn(&learning, &measured.loss, &learning_rate, recipe);
        });

        graph.scoped("sums", || {
            record_sums(graph, &measured, &measured.loss, Some(&fresh));
        });
        Ok(Self {
            program: graph.finish()?,
            saved: states.saved,
            counts_correct: measured.correct.is_some(),
        })
    }

    /// Index of the state that sums the loss of each step.
    pub fn loss_sum(&self) -> u32 {
        u32::try_from(self.saved.len()).unwrap_or(u32::MAX)
    }

    /// Index of the state that sums the rows that were right.
    pub fn correct_sum(&self) -> u32 {
        self.loss_sum().saturating_add(1)
    }

    /// Index of the saved state of this name.
    pub fn index_of(&self, name: &str) -> Option<u32> {
        let mut saved = self.saved.iter();
        let index = saved.position(|saved| saved.spec.name == name)?;
        u32::try_from(index).ok()
    }
}

/// A parameter that learns.
struct Learning<'l> {
    /// Its place among the saved states.
    index: usize,
    spec: &'l StateSpec,
    value: Var,
    rule: super::recipe::Rule<'l>,
}

/// The states of a training step, while it is recorded.
struct States<'g> {
    graph: &'g Graph,
    saved: Vec<SavedState>,
}

impl States<'_> {
    /// A state of the optimizer that is 0 before training.
    fn zeros(&mut self, name: &str, dtype: DType, shape: &[usize]) -> Var {
        self.saved.push(SavedState {
            spec: StateSpec {
                name: name.to_owned(),
                dtype,
                shape: shape.to_vec(),
                role: Role::Buffer,
                initial: Initial::Constant(0.0),
            },
            owner: Owner::Optimizer,
        });
        self.graph.state(name, dtype, shape)
    }

    /// Records gradients of `loss`, and what they do to the parameters.
    fn learn(&mut self, learning: &[Learning], loss: &Var, rate: &Var, recipe: &Recipe) {
        let graph = self.graph;
        let of: Vec<&Var> = learning.iter().map(|learning| &learning.value).collect();
        let gradients = graph.scoped("gradient", || graph.gradient(loss, &of));
        let (mut gradients, applies) = self.accumulated(learning, gradients, recipe.accumulate);
        if let Some(norm) = recipe.clip_norm {
            clip(&mut gradients, norm);
        }
        let update = |state: &Var, value: &Var| match &applies {
            Some(applies) => graph.update(state, &applies.select(value, state)),
            None => graph.update(state, value),
        };

        let count = self.zeros(STEP, DType::F32, &[]);
        let next = &count + 1.0;
        update(&count, &next);
        let (count, rate) = (next.convert(recipe.dtype), rate.convert(recipe.dtype));
        for (learning, gradient) in learning.iter().zip(&gradients) {
            let Learning { spec, rule, .. } = learning;
            let step = Step {
                count: count.clone(),
                learning_rate: match rule.rate {
                    1.0 => rate.clone(),
                    factor => &rate * factor,
                },
            };
            let slots = rule.optimizer.slots().into_iter();
            let slots = slots.map(|slot| {
                let name = format!("optimizer.{slot}.{}", spec.name);
                self.zeros(&name, spec.dtype, &spec.shape)
            });
            let slots: Vec<Var> = slots.collect();
            let optimizer = rule.optimizer;
            let updated = optimizer.update(&learning.value, gradient, &slots, &step);
            update(&learning.value, &updated.parameter);
            for (slot, value) in slots.iter().zip(&updated.slots) {
                update(slot, value);
            }
            if let Some(decay) = recipe.average {
                let average = self.average(learning);
                let kept = &average * decay;
                update(&average, &(kept + updated.parameter * (1.0 - decay)));
            }
        }
    }

    /// The gradients that a step learns from, and whether it does in this run; nothing
    /// when it does in each.
    fn accumulated(
        &mut self,
        learning: &[Learning],
        gradients: Vec<Var>,
        batches: u32,
    ) -> (Vec<Var>, Option<Var>) {
        if batches == 1 {
            return (gradients, None);
        }
        let graph = self.graph;
        let pending = self.zeros(PENDING, DType::I32, &[]);
        let seen = &pending + 1.0;
        let applies = seen.equal(&seen.full_like(batches.into()));
        graph.update(&pending, &applies.select(&seen.full_like(0.0), &seen));
        let sums = learning.iter().zip(gradients).map(|(learning, gradient)| {
            let spec = learning.spec;
            let name = format!("optimizer.gradient.{}", spec.name);
            let sum = self.zeros(&name, spec.dtype, &spec.shape);
            let next = &sum + gradient * (1.0 / f64::from(batches));
            graph.update(&sum, &applies.select(&next.full_like(0.0), &next));
            next
        });
        (sums.collect(), Some(applies))
    }

    /// The state that holds the average of a parameter.
    fn average(&mut self, learning: &Learning) -> Var {
        let spec = StateSpec {
            name: format!("average.{}", learning.spec.name),
            role: Role::Buffer,
            ..learning.spec.clone()
        };
        let state = self.graph.state(&spec.name, spec.dtype, &spec.shape);
        self.saved.push(SavedState {
            spec,
            owner: Owner::Average(learning.index),
        });
        state
    }
}

/// Scales gradients so that their common norm is at most `norm`.
fn clip(gradients: &mut [Var], norm: f64) {
    let squares = gradients.iter().map(|gradient| gradient.square().sum_all());
    let Some(square) = squares.reduce(|sum, square| sum + square) else {
        return;
    };
    let factor = norm / (square.sqrt() + 1e-6);
    let factor = factor.minimum(&factor.full_like(1.0));
    for gradient in gradients {
        *gradient = &*gradient * &factor;
    }
}

impl JudgingStep {
    /// Index of the state that sums the loss of each row.
    pub const LOSS_SUM: u32 = 0;
    /// Index of the state that sums the rows that were right.
    pub const CORRECT_SUM: u32 = 1;
    /// Index of the state of the first total.
    pub const TOTALS: u32 = 2;

    /// Records the judging of `rows` rows into an empty `graph`, by a model whose
    /// parameters are of type `dtype`.
    ///
    /// # Errors
    /// The first mistake in the model.
    pub fn record(
        graph: &Graph,
        columns: &[Column],
        rows: u32,
        model: &dyn Fn(&Scope, &[Var]) -> Measured,
        dtype: DType,
    ) -> Result<Self, ProgramError> {
        let batch = batch_inputs(graph, columns, rows);
        let scope = Scope::new(graph, Purpose::Judge, dtype);
        let measured = model(&scope, &batch);
        graph.scoped("sums", || {
            let loss = &measured.loss * f64::from(rows);
            record_sums(graph, &measured, &loss, None);
            for total in &measured.totals {
                let value = &total.value;
                let sum = graph.state(&total.name, value.dtype(), value.shape());
                graph.update(&sum, &(&sum + value));
            }
        });
        graph.output(&measured.prediction);
        let totals = measured.totals.into_iter().map(|total| {
            let shape = total.value.shape().to_vec();
            (total.name, total.value.dtype(), shape)
        });
        let (specs, _) = scope.states();
        Ok(Self {
            program: graph.finish()?,
            takes: specs.into_iter().map(|spec| spec.name).collect(),
            totals: totals.collect(),
        })
    }
}

impl SavedState {
    /// How many elements it has.
    ///
    /// # Errors
    /// When they cannot be counted.
    pub(super) fn element_count(&self) -> Result<usize, ProgramError> {
        let StateSpec { name, shape, .. } = &self.spec;
        element_count(shape).ok_or_else(|| {
            ProgramError::InvalidArgument(format!("`{name}` of shape {shape:?} is too large"))
        })
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
        graph.update(&sum, &(before + addend.convert(DType::F32)));
    }
}
