//! Layers, losses, optimizers and schedules, with PyTorch's semantics and names.
//!
//! A layer is a [`Module`]: plain data that asks its [`Scope`] for parameters while it
//! records itself. The names of scopes make those of the parameters, as they stand in
//! the saved file: `hidden.0.weight`. Names, shapes, layouts and initial values are
//! PyTorch's, so that `load_state_dict` takes the tensors of a saved model as they are.
//!
//! Each layer has a function `new` with what PyTorch demands; the other fields have
//! PyTorch's defaults and are changed by struct update:
//!
//! ```
//! use trainshed_sdk::nn::{Activation, BatchNorm, Conv2d, Flatten, Linear, MaxPool2d, Sequential};
//!
//! let network = Sequential::new()
//!     .then(Conv2d { padding: [1, 1], bias: false, ..Conv2d::new(1, 16, 3) })
//!     .then(BatchNorm::new(16))
//!     .then(Activation::Relu)
//!     .then(MaxPool2d::new(2))
//!     .then(Flatten)
//!     .then(Linear::new(16 * 14 * 14, 10));
//! ```
//!
//! A layer computes in the type of what it is given: parameters are `f32` and converted
//! where they are used, so that [`InType`] makes a model of mixed precision.

mod attention;
mod convolution;
mod layers;
mod loss;
mod norm;
mod optimizer;
mod recurrent;
mod schedule;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::rc::Rc;

use crate::DType;
use crate::graph::{Graph, Var};
use crate::rng::Rng;

pub use attention::{MultiHeadAttention, TransformerEncoder, TransformerEncoderLayer};
pub use convolution::{
    AdaptiveAvgPool, AdaptiveAvgPool1d, AdaptiveAvgPool2d, AvgPool, AvgPool1d, AvgPool2d, Conv,
    Conv1d, Conv2d, ConvTranspose, ConvTranspose1d, ConvTranspose2d, MaxPool, MaxPool1d, MaxPool2d,
};
pub use layers::{
    Activation, Dropout, Embedding, Flatten, InType, Linear, Mlp, Residual, Sequential,
};
pub use loss::{
    CrossEntropy, Measured, Total, binary_cross_entropy_with_logits, classification, cross_entropy,
    huber, mean_absolute_error, mean_squared_error, negative_log_likelihood, regression,
};
pub use norm::{BatchNorm, LayerNorm, RmsNorm};
pub use optimizer::{Adagrad, Adam, AdamW, Lion, Moments, Optimizer, RmsProp, Sgd, Step, Updated};
pub use recurrent::{Gru, Lstm, Recurrent};
pub use schedule::{
    Cosine, Exponential, MultiStep, OneCycle, PerEpoch, Plateau, Schedule, StepDecay, WarmUp,
};

/// A part of a model: what it computes of one value.
pub trait Module {
    /// Records itself, with the parameters that `scope` holds for it.
    fn forward(&self, scope: &Scope, x: &Var) -> Var;
}

/// Parts that are chosen while the plugin runs.
impl Module for Box<dyn Module> {
    fn forward(&self, scope: &Scope, x: &Var) -> Var {
        self.as_ref().forward(scope, x)
    }
}

/// Where a part of a model keeps its parameters: a name, and the program being recorded.
#[derive(Debug, Clone)]
pub struct Scope {
    graph: Graph,
    path: Vec<String>,
    states: Rc<RefCell<States>>,
}

/// A tensor that a model asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct StateSpec {
    /// Its name in the saved file.
    pub name: String,
    /// Its element type.
    pub dtype: DType,
    /// Its shape.
    pub shape: Vec<usize>,
    /// What it is for.
    pub role: Role,
    /// What it holds before training.
    pub initial: Initial,
}

/// What a tensor of a model is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It is learnt, by its gradient.
    Parameter,
    /// The model replaces it while it trains, as running statistics.
    Buffer,
    /// The key of the model's random numbers, other at each step.
    Key,
}

/// What a tensor holds before training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Initial {
    /// The same number everywhere.
    Constant(f32),
    /// Numbers in `-bound..bound`, uniformly.
    Uniform {
        /// The bound.
        bound: f32,
    },
    /// Normally distributed numbers around 0.
    Normal {
        /// Their standard deviation.
        deviation: f32,
    },
}

/// What the program is for, which says how the model's tensors come into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// For training: they are state, updated in place.
    Train,
    /// For judging and predicting: they are inputs of a run.
    Judge,
    /// For predicting without the code of the model: they are state that no run changes,
    /// labelled with their names. See [`crate::Run::save_model_with_program`].
    Predict,
}

#[derive(Debug)]
struct States {
    purpose: Purpose,
    dtype: DType,
    specs: Vec<StateSpec>,
    values: Vec<Var>,
}

/// The name of the key of a model's random numbers in the saved file.
const KEY: &str = "random.key";

impl Scope {
    /// The root of a model in `graph`, whose parameters are of type `dtype`.
    ///
    /// A [`crate::trainer::Trainer`] makes its own; this is for programs it cannot make,
    /// as those of two models that learn from each other.
    pub fn new(graph: &Graph, purpose: Purpose, dtype: DType) -> Self {
        Self {
            graph: graph.clone(),
            path: Vec::new(),
            states: Rc::new(RefCell::new(States {
                purpose,
                dtype,
                specs: Vec::new(),
                values: Vec::new(),
            })),
        }
    }

    /// The program being recorded.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Whether the model learns in this program, and is not judged or used: dropout drops
    /// and batch norm takes the batch's statistics.
    pub fn is_training(&self) -> bool {
        self.states.borrow().purpose == Purpose::Train
    }

    /// Records a part of the model under `name`: its parameters are named
    /// `name.weight`, and errors say where they happened.
    pub fn child<R>(&self, name: &str, record: impl FnOnce(&Scope) -> R) -> R {
        let mut child = self.clone();
        child.path.push(name.to_owned());
        self.graph.scoped(name, || record(&child))
    }

    /// The parameter `name` of this part. Asking again for one name gives the same
    /// parameter, so that parts can share it.
    pub fn parameter(&self, name: &str, shape: &[usize], initial: Initial) -> Var {
        let dtype = self.states.borrow().dtype;
        self.state(StateSpec {
            name: self.full_name(name),
            dtype,
            shape: shape.to_vec(),
            role: Role::Parameter,
            initial,
        })
    }

    /// The parameter `name` of this part, converted to the type that `x` has.
    pub fn parameter_for(&self, x: &Var, name: &str, shape: &[usize], initial: Initial) -> Var {
        self.parameter(name, shape, initial).convert(x.dtype())
    }

    /// A tensor `name` of this part that is not learnt but replaced by
    /// [`Scope::update`]; it holds `value` before training. Saved with the parameters.
    pub fn buffer(&self, name: &str, dtype: DType, shape: &[usize], value: f32) -> Var {
        self.state(StateSpec {
            name: self.full_name(name),
            dtype,
            shape: shape.to_vec(),
            role: Role::Buffer,
            initial: Initial::Constant(value),
        })
    }

    /// Replaces a buffer by `value` after each step of training; does nothing in a program
    /// that judges.
    pub fn update(&self, buffer: &Var, value: &Var) {
        if self.is_training() {
            self.graph.update(buffer, &value.stop_gradient());
        }
    }

    /// The key of the model's random numbers (`u32` of shape `[2]`), other at each step of
    /// training and the same whenever it is judged. [`Graph::next_stream`] gives each use
    /// of it numbers of its own.
    pub fn key(&self) -> Var {
        if !self.is_training() {
            return self.graph.constant(&[2], &[0u32, 0]);
        }
        self.state(StateSpec {
            name: KEY.to_owned(),
            dtype: DType::U32,
            shape: vec![2],
            role: Role::Key,
            initial: Initial::Constant(0.0),
        })
    }

    /// What the model asked for so far, in order, and the values that stand for it: states
    /// of a program that trains or predicts, inputs of one that judges.
    pub fn states(&self) -> (Vec<StateSpec>, Vec<Var>) {
        let states = self.states.borrow();
        (states.specs.clone(), states.values.clone())
    }

    fn full_name(&self, name: &str) -> String {
        match self.path.as_slice() {
            [] => name.to_owned(),
            path => format!("{}.{name}", path.join(".")),
        }
    }

    fn state(&self, spec: StateSpec) -> Var {
        let mut states = self.states.borrow_mut();
        let mut specs = states.specs.iter();
        if let Some(index) = specs.position(|known| known.name == spec.name) {
            let value = states.values[index].clone();
            if value.shape() != spec.shape || value.dtype() != spec.dtype {
                let (name, known) = (&spec.name, value.shape());
                let (known_dtype, dtype, shape) = (value.dtype(), spec.dtype, &spec.shape);
                self.graph.fail(format!(
                    "`{name}` is {known_dtype} {known:?}, but {dtype} {shape:?} is asked for"
                ));
            }
            return value;
        }
        let value = match states.purpose {
            Purpose::Train | Purpose::Predict => {
                self.graph.state(&spec.name, spec.dtype, &spec.shape)
            }
            Purpose::Judge => self.graph.input(&spec.name, spec.dtype, &spec.shape),
        };
        states.specs.push(spec);
        states.values.push(value.clone());
        value
    }
}

impl Initial {
    /// PyTorch's default for the weight and the bias of a layer with `inputs` inputs:
    /// uniform within one divided by the root of their number.
    ///
    /// Source: K. He et al., "Delving deep into rectifiers", ICCV 2015, section 2.2, with
    /// the negative slope of sqrt(5) that PyTorch chose.
    pub fn of_layer(inputs: usize) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "a bound need not be exact")]
        let bound = 1.0 / (inputs.max(1) as f32).sqrt();
        Self::Uniform { bound }
    }

    /// Uniform within the root of 6 divided by the number of inputs and outputs.
    ///
    /// Source: X. Glorot, Y. Bengio, "Understanding the difficulty of training deep
    /// feedforward neural networks", AISTATS 2010, section 4.2.1.
    pub fn xavier(inputs: usize, outputs: usize) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "a bound need not be exact")]
        let bound = (6.0 / (inputs + outputs).max(1) as f32).sqrt();
        Self::Uniform { bound }
    }

    /// The elements of a parameter of this many.
    pub(crate) fn elements(self, count: usize, rng: &mut Rng) -> Vec<f32> {
        match self {
            Self::Constant(number) => vec![number; count],
            Self::Uniform { bound } => (0..count).map(|_| rng.uniform(-bound, bound)).collect(),
            Self::Normal { deviation } => (0..count).map(|_| deviation * rng.normal()).collect(),
        }
    }
}
