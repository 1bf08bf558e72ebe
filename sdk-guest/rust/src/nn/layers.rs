use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Initial, Module, Scope};
use crate::graph::Var;

/// A layer that multiplies by a weight `[outputs, inputs]` and adds a bias `[outputs]`.
///
/// Takes `[batch, inputs]`, gives `[batch, outputs]`. Starts as in PyTorch; see
/// [`Initial::of_layer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Linear {
    /// How many numbers a row has.
    pub inputs: usize,
    /// How many it gets.
    pub outputs: usize,
}

/// A function between two layers, for each element by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// The larger of the number and 0.
    #[default]
    Relu,
    /// The Gaussian error linear unit, in its tanh form.
    Gelu,
    /// The hyperbolic tangent.
    Tanh,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// Nothing at all.
    Identity,
}

/// Parts one after another, named by their position: `0`, `1`, ….
#[derive(Default)]
pub struct Sequential {
    parts: Vec<Box<dyn Module>>,
}

/// A multi-layer perceptron: `hidden.0`, `hidden.1`, … with an activation behind each,
/// and a linear `output`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mlp {
    /// How many numbers a row has.
    pub inputs: usize,
    /// The sizes of the hidden layers; none make a linear model.
    pub hidden: Vec<usize>,
    /// How many numbers come out.
    pub outputs: usize,
    /// What stands behind each hidden layer.
    pub activation: Activation,
}

impl Module for Linear {
    fn forward(&self, scope: &Scope, x: &Var) -> Var {
        let initial = Initial::of_layer(self.inputs);
        let weight = scope.parameter("weight", &[self.outputs, self.inputs], initial);
        let bias = scope.parameter("bias", &[self.outputs], initial);
        x.matmul_transposed(&weight) + bias
    }
}

impl Module for Activation {
    fn forward(&self, _scope: &Scope, x: &Var) -> Var {
        match self {
            Self::Relu => x.relu(),
            Self::Gelu => x.gelu(),
            Self::Tanh => x.tanh(),
            Self::Sigmoid => x.sigmoid(),
            Self::Identity => x.clone(),
        }
    }
}

impl Sequential {
    /// No parts: the value as it is.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a part behind the others.
    #[must_use]
    pub fn then(mut self, part: impl Module + 'static) -> Self {
        self.parts.push(Box::new(part));
        self
    }
}

impl Module for Sequential {
    fn forward(&self, scope: &Scope, x: &Var) -> Var {
        let parts = self.parts.iter().enumerate();
        parts.fold(x.clone(), |x, (position, part)| {
            scope.child(&position.to_string(), |scope| part.forward(scope, &x))
        })
    }
}

impl Module for Mlp {
    fn forward(&self, scope: &Scope, x: &Var) -> Var {
        let mut x = x.clone();
        let mut inputs = self.inputs;
        for (position, &outputs) in self.hidden.iter().enumerate() {
            x = scope.child(&format!("hidden.{position}"), |scope| {
                let sum = Linear { inputs, outputs }.forward(scope, &x);
                self.activation.forward(scope, &sum)
            });
            inputs = outputs;
        }
        let outputs = self.outputs;
        scope.child("output", |scope| {
            Linear { inputs, outputs }.forward(scope, &x)
        })
    }
}
