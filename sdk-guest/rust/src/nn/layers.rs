use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Initial, Module, Scope};
use crate::DType;
use crate::graph::Var;

/// A layer that multiplies by a weight `[outputs, inputs]` and adds a bias `[outputs]`.
///
/// Takes `[…, inputs]`, gives `[…, outputs]`. Parameters `weight` and `bias`; PyTorch's
/// `Linear`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Linear {
    /// How many numbers a row has.
    pub inputs: usize,
    /// How many it gets.
    pub outputs: usize,
    /// Whether there is a bias.
    pub bias: bool,
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
    /// The Gaussian error linear unit by the error function: PyTorch's default.
    GeluExact,
    /// The number times its sigmoid.
    Silu,
    /// The hyperbolic tangent.
    Tanh,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// Nothing at all.
    Identity,
}

/// Sets each element to 0 with probability `rate` while training, and divides the others
/// by `1 - rate`. PyTorch's `Dropout`, with other random numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    /// At least 0 and less than 1.
    pub rate: f64,
}

/// Looks up rows of a table `weight` `[count, size]`: integers `[…]` become `[…, size]`.
/// A number out of range is clamped. PyTorch's `Embedding`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Embedding {
    /// How many rows the table has.
    pub count: usize,
    /// How many numbers a row has.
    pub size: usize,
}

/// All axes behind the first as one. PyTorch's `Flatten`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flatten;

/// Parts one after another, named by their position: `0`, `1`, …. PyTorch's `Sequential`.
#[derive(Default)]
pub struct Sequential {
    parts: Vec<(String, Box<dyn Module>)>,
}

/// What a part computes, added to what it is given.
///
/// The part's parameters keep their names, without a prefix.
pub struct Residual {
    part: Box<dyn Module>,
    shortcut: Option<(String, Box<dyn Module>)>,
}

/// A part that computes in another float type: mixed precision.
///
/// Converts floats to `dtype`, applies the part, whose parameters stay `f32` and are
/// converted where they are used, and converts its result to `f32`. Gradients and the
/// optimizer's steps are in `f32`.
pub struct InType {
    dtype: DType,
    part: Box<dyn Module>,
}

/// A multi-layer perceptron: `hidden.0`, `hidden.1`, … with an activation behind each,
/// and a linear `output`.
#[derive(Debug, Clone, PartialEq)]
pub struct Mlp {
    /// How many numbers a row has.
    pub inputs: usize,
    /// The sizes of the hidden layers; none make a linear model.
    pub hidden: Vec<usize>,
    /// How many numbers come out.
    pub outputs: usize,
    /// What stands behind each hidden layer.
    pub activation: Activation,
    /// The share of what comes out of each hidden layer that training leaves out by chance;
    /// 0 for none.
    pub dropout: f64,
}

impl Linear {
    /// A layer with a bias.
    pub fn new(inputs: usize, outputs: usize) -> Self {
        Self {
            inputs,
            outputs,
            bias: true,
        }
    }
}

impl Module for Linear {
    fn forward(&self, scope: &Scope, x: &Var) -> Var {
        let initial = Initial::of_layer(self.inputs);
        let shape = [self.outputs, self.inputs];
        let weight = scope.parameter_for(x, "weight", &shape, initial);
        let bias = self
            .bias
            .then(|| scope.parameter_for(x, "bias", &[self.outputs], initial));
        let product = x.matmul_transposed(&weight);
        match bias {
            Some(bias) => product + bias,
            None => product,
        }
    }
}

impl Module for Activation {
    fn forward(&self, _scope: &Scope, x: &Var) -> Var {
        match self {
            Self::Relu => x.relu(),
            Self::Gelu => x.gelu(),
            Self::GeluExact => x.gelu_exact(),
            Self::Silu => x.silu(),
            Self::Tanh => x.tanh(),
            Self::Sigmoid => x.sigmoid(),
            Self::Identity => x.clone(),
        }
    }
}

impl Module for Dropout {
    fn forward(&self, scope: &Scope, x: &Var) -> Var {
        if self.rate == 0.0 || !scope.is_training() {
            return x.clone();
        }
        x.dropout(&scope.key(), self.rate, scope.graph().next_stream())
    }
}

impl Embedding {
    /// A table of `count` rows of `size` numbers.
    pub fn new(count: usize, size: usize) -> Self {
        Self { count, size }
    }
}

impl Module for Embedding {
    fn forward(&self, scope: &Scope, x: &Var) -> Var {
        let initial = Initial::Normal { deviation: 1.0 };
        let table = scope.parameter("weight", &[self.count, self.size], initial);
        table.take(x, 0)
    }
}

impl Module for Flatten {
    fn forward(&self, _scope: &Scope, x: &Var) -> Var {
        x.flatten(1)
    }
}

impl Sequential {
    /// No parts: the value as it is.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a part behind the others, named by its position.
    #[must_use]
    pub fn then(self, part: impl Module + 'static) -> Self {
        let position = self.parts.len().to_string();
        self.named(&position, part)
    }

    /// Adds a part with a name of its own behind the others.
    #[must_use]
    pub fn named(mut self, name: &str, part: impl Module + 'static) -> Self {
        self.parts.push((name.to_owned(), Box::new(part)));
        self
    }
}

impl Module for Sequential {
    fn forward(&self, scope: &Scope, x: &Var) -> Var {
        let parts = self.parts.iter();
        parts.fold(x.clone(), |x, (name, part)| {
            scope.child(name, |scope| part.forward(scope, &x))
        })
    }
}

impl Residual {
    /// Adds what `part` computes to what it is given, which has the same shape.
    pub fn new(part: impl Module + 'static) -> Self {
        Self {
            part: Box::new(part),
            shortcut: None,
        }
    }

    /// Adds it to what the part `name` makes of what is given, where shapes differ.
    #[must_use]
    pub fn with_shortcut(mut self, name: &str, part: impl Module + 'static) -> Self {
        self.shortcut = Some((name.to_owned(), Box::new(part)));
        self
    }
}

impl Module for Residual {
    fn forward(&self, scope: &Scope, x: &Var) -> Var {
        let computed = self.part.forward(scope, x);
        match &self.shortcut {
            Some((name, part)) => computed + scope.child(name, |scope| part.forward(scope, x)),
            None => computed + x,
        }
    }
}

impl InType {
    /// Computes `part` in `dtype`, a float type.
    pub fn new(dtype: DType, part: impl Module + 'static) -> Self {
        Self {
            dtype,
            part: Box::new(part),
        }
    }
}

impl Module for InType {
    fn forward(&self, scope: &Scope, x: &Var) -> Var {
        if !self.dtype.is_float() {
            let dtype = self.dtype;
            scope.graph().fail(format!(
                "a model computes in a float type, but not in {dtype}"
            ));
        }
        let computed = if x.dtype().is_float() {
            self.part.forward(scope, &x.convert(self.dtype))
        } else {
            self.part.forward(scope, x)
        };
        computed.convert(DType::F32)
    }
}

impl Module for Mlp {
    fn forward(&self, scope: &Scope, x: &Var) -> Var {
        let mut x = x.clone();
        let mut inputs = self.inputs;
        for (position, &outputs) in self.hidden.iter().enumerate() {
            x = scope.child(&format!("hidden.{position}"), |scope| {
                let sum = Linear::new(inputs, outputs).forward(scope, &x);
                let rate = self.dropout;
                Dropout { rate }.forward(scope, &self.activation.forward(scope, &sum))
            });
            inputs = outputs;
        }
        scope.child("output", |scope| {
            Linear::new(inputs, self.outputs).forward(scope, &x)
        })
    }
}
