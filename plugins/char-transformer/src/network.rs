//! A decoder-only transformer: blocks of causal attention and a network of two layers, each
//! behind a layer norm and beside a residual connection.
//!
//! Source: A. Radford et al., "Language models are unsupervised multitask learners", 2019,
//! section 2.3, whose initial deviations these are too.

use trainshed_sdk::DType;
use trainshed_sdk::graph::Var;
use trainshed_sdk::nn::{
    Activation, Dropout, Initial, LayerNorm, Linear, Measured, Module, MultiHeadAttention, Scope,
    cross_entropy,
};

use crate::settings::Settings;

/// The network's sizes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Network {
    /// How many different characters there are.
    pub(crate) characters: usize,
    /// How many characters the network sees at once.
    pub(crate) context: usize,
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    /// How many numbers stand for a character.
    pub(crate) size: usize,
    pub(crate) dropout: f64,
    /// Whether characters go out by the same table by which they come in.
    pub(crate) tied: bool,
}

/// The standard deviation of the tables' initial numbers.
const DEVIATION: f32 = 0.02;

impl Network {
    pub(crate) fn new(characters: usize, settings: &Settings) -> Self {
        Self {
            characters,
            context: settings.context as usize,
            layers: settings.layers as usize,
            heads: settings.heads as usize,
            size: settings.size as usize,
            dropout: settings.dropout,
            tied: settings.tied,
        }
    }

    /// What becomes of windows `i32 [batch, context + 1]`: each character but the last is to
    /// tell the next one. The prediction is what follows the last but one, `[batch,
    /// characters]`, before a softmax.
    pub(crate) fn measured(&self, scope: &Scope, windows: &Var) -> Measured {
        let (rows, context) = (windows.shape()[0], self.context);
        let seen = windows.slice_axis(1, 0, context);
        let next = windows.slice_axis(1, 1, context + 1);
        let logits = self.logits(scope, &seen);
        let tokens = rows * context;
        let loss = cross_entropy(
            &logits.reshape(&[tokens, self.characters]),
            &next.reshape(&[tokens]),
        );
        let last = logits.slice_axis(1, context - 1, context);
        Measured::new(loss, last.reshape(&[rows, self.characters]))
    }

    /// `[batch, context, characters]` for characters `[batch, context]`.
    fn logits(&self, scope: &Scope, characters: &Var) -> Var {
        let size = self.size;
        let normal = Initial::Normal {
            deviation: DEVIATION,
        };
        let table = |name: &str, rows: usize| {
            scope.child(name, |scope| {
                scope.parameter("weight", &[rows, size], normal)
            })
        };
        let (token, position) = (
            table("token", self.characters),
            table("position", self.context),
        );
        let mut x = self.dropped(scope, &(token.take(characters, 0) + position));
        for block in 0..self.layers {
            x = scope.child(&format!("blocks.{block}"), |scope| self.block(scope, &x));
        }
        let x = self.normed(scope, "norm", &x);
        if self.tied {
            return x.matmul_transposed(&token);
        }
        scope.child("head", |scope| {
            let head = Linear {
                bias: false,
                ..Linear::new(size, self.characters)
            };
            head.forward(scope, &x)
        })
    }

    fn block(&self, scope: &Scope, x: &Var) -> Var {
        let attention = MultiHeadAttention {
            causal: true,
            ..MultiHeadAttention::new(self.size, self.heads)
        };
        let normed = self.normed(scope, "norm1", x);
        let found = scope.child("attention", |scope| attention.forward(scope, &normed));
        let x = x + self.dropped(scope, &found);

        let layer =
            |name: &str, layer: Linear, x: &Var| scope.child(name, |scope| layer.forward(scope, x));
        let (size, hidden) = (self.size, 4 * self.size);
        let normed = self.normed(scope, "norm2", &x);
        let grown = layer("grow", Linear::new(size, hidden), &normed);
        let active = Activation::Gelu.forward(scope, &grown);
        let shrunk = layer("shrink", Linear::new(hidden, size), &active);
        &x + self.dropped(scope, &shrunk)
    }

    fn normed(&self, scope: &Scope, name: &str, x: &Var) -> Var {
        scope.child(name, |scope| LayerNorm::new(&[self.size]).forward(scope, x))
    }

    fn dropped(&self, scope: &Scope, x: &Var) -> Var {
        let rate = self.dropout;
        Dropout { rate }.forward(scope, x)
    }

    /// The type and shape of a window of text.
    pub(crate) fn window(&self) -> trainshed_sdk::trainer::Column {
        trainshed_sdk::trainer::Column {
            dtype: DType::I32,
            shape: vec![self.context + 1],
        }
    }
}

#[cfg(test)]
mod tests {
    use trainshed_sdk::graph::Graph;
    use trainshed_sdk::nn::Purpose;

    use super::*;

    #[test]
    fn the_prediction_is_what_follows_each_window() {
        for tied in [true, false] {
            let network = Network {
                characters: 7,
                context: 5,
                layers: 2,
                heads: 2,
                size: 8,
                dropout: 0.1,
                tied,
            };
            let graph = Graph::new();
            let scope = Scope::new(&graph, Purpose::Train, DType::F32);
            let windows = graph.input("windows", DType::I32, &[3, 6]);

            let measured = network.measured(&scope, &windows);
            graph.output(&measured.loss);

            graph.finish().unwrap();
            assert_eq!(measured.prediction.shape(), [3, 7]);
            assert!(measured.loss.shape().is_empty());
            let (specs, _) = scope.states();
            let has_head = specs.iter().any(|spec| spec.name == "head.weight");
            assert_eq!(has_head, !tied);
            let names = specs.iter().map(|spec| spec.name.as_str());
            assert!(names.into_iter().any(|name| name == "blocks.1.shrink.bias"));
        }
    }
}
