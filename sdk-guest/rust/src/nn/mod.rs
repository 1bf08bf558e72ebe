//! Layers, losses and optimizers.
//!
//! A layer is a [`Module`]: plain data that asks its [`Scope`] for parameters while it
//! records itself. The names of scopes make those of the parameters, as they stand in
//! the saved file: `hidden.0.weight`.

mod layers;
mod loss;
mod optimizer;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::rc::Rc;

use crate::DType;
use crate::graph::{Graph, Var};
use crate::rng::Rng;

pub use layers::{Activation, Linear, Mlp, Sequential};
pub use loss::{Measured, classification, cross_entropy, mean_squared_error, regression};
pub use optimizer::{Adam, AdamW, Moments, Optimizer, RmsProp, Sgd, Step, Updated};

/// A part of a model: what it computes of one value.
pub trait Module {
    /// Records itself, with the parameters that `scope` holds for it.
    fn forward(&self, scope: &Scope, x: &Var) -> Var;
}

/// Where a part of a model keeps its parameters: a name, and the program being recorded.
#[derive(Debug, Clone)]
pub struct Scope {
    graph: Graph,
    path: Vec<String>,
    parameters: Rc<RefCell<Parameters>>,
}

/// A parameter that a model asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct ParameterSpec {
    /// Its name in the saved file.
    pub name: String,
    /// Its shape; the elements are `f32`.
    pub shape: Vec<usize>,
    /// What it holds before training.
    pub initial: Initial,
}

/// What a parameter holds before training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Initial {
    /// The same number everywhere.
    Constant(f32),
    /// Numbers in `-bound..bound`, uniformly.
    Uniform {
        /// The bound.
        bound: f32,
    },
}

/// How parameters come into the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Residence {
    /// As state, updated in place: for training.
    State,
    /// As inputs of a run: for judging and predicting.
    Input,
}

#[derive(Debug)]
struct Parameters {
    residence: Residence,
    specs: Vec<ParameterSpec>,
    values: Vec<Var>,
}

impl Scope {
    pub(crate) fn new(graph: &Graph, residence: Residence) -> Self {
        Self {
            graph: graph.clone(),
            path: Vec::new(),
            parameters: Rc::new(RefCell::new(Parameters {
                residence,
                specs: Vec::new(),
                values: Vec::new(),
            })),
        }
    }

    /// The program being recorded.
    pub fn graph(&self) -> &Graph {
        &self.graph
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
        let name = match self.path.as_slice() {
            [] => name.to_owned(),
            path => format!("{}.{name}", path.join(".")),
        };
        let mut parameters = self.parameters.borrow_mut();
        let mut specs = parameters.specs.iter();
        if let Some(index) = specs.position(|spec| spec.name == name) {
            let value = parameters.values[index].clone();
            if value.shape() != shape {
                let known = value.shape();
                self.graph.fail(format!(
                    "parameter `{name}` has shape {known:?}, but {shape:?} is asked for"
                ));
            }
            return value;
        }
        let value = match parameters.residence {
            Residence::State => self.graph.state(&name, DType::F32, shape),
            Residence::Input => self.graph.input(&name, DType::F32, shape),
        };
        parameters.specs.push(ParameterSpec {
            name,
            shape: shape.to_vec(),
            initial,
        });
        parameters.values.push(value.clone());
        value
    }

    /// What was asked for so far, in order.
    pub(crate) fn parameters(&self) -> (Vec<ParameterSpec>, Vec<Var>) {
        let parameters = self.parameters.borrow();
        (parameters.specs.clone(), parameters.values.clone())
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

    /// The elements of a parameter of this many.
    pub(crate) fn elements(self, count: usize, rng: &mut Rng) -> Vec<f32> {
        match self {
            Self::Constant(number) => vec![number; count],
            Self::Uniform { bound } => (0..count).map(|_| rng.uniform(-bound, bound)).collect(),
        }
    }
}
