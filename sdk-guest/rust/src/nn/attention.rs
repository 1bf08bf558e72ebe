//! Attention, and the encoder of a transformer.

use super::{Activation, Dropout, Initial, LayerNorm, Linear, Module, Scope};
use crate::graph::Var;

/// Attention of several heads, as PyTorch's `MultiheadAttention` with `batch_first`.
///
/// Parameters `in_proj_weight` `[3 size, size]` and `in_proj_bias` `[3 size]` (query, key
/// and value), `out_proj.weight` `[size, size]` and `out_proj.bias` `[size]`.
///
/// Source: A. Vaswani et al., "Attention is all you need", NIPS 2017, section 3.2.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MultiHeadAttention {
    /// How many numbers stand for an element.
    pub size: usize,
    /// How many heads there are; they divide the size.
    pub heads: usize,
    /// Whether an element sees only those before it, and itself.
    pub causal: bool,
    /// Whether there are biases.
    pub bias: bool,
    /// The rate of dropout of the weights. Other than 0, all of them are in memory at
    /// once while training.
    pub dropout: f64,
}

/// A layer of a transformer's encoder: attention and a network of two layers, each with a
/// residual connection and layer norm. PyTorch's `TransformerEncoderLayer` with
/// `batch_first`.
///
/// Takes and gives `[N, T, size]`. Its parts are `self_attn`, `linear1`, `linear2`,
/// `norm1` and `norm2`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TransformerEncoderLayer {
    /// How many numbers stand for an element.
    pub size: usize,
    /// How many heads the attention has; they divide the size.
    pub heads: usize,
    /// The size of the network's hidden layer.
    pub feedforward: usize,
    /// What stands behind the network's first layer.
    pub activation: Activation,
    /// The rate of each dropout.
    pub dropout: f64,
    /// Whether layer norm stands before attention and network instead of behind.
    pub norm_first: bool,
    /// Whether an element sees only those before it, and itself.
    pub causal: bool,
    /// Added to the variances.
    pub epsilon: f64,
}

/// Layers of a transformer's encoder, `layers.0` and so on. PyTorch's
/// `TransformerEncoder`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TransformerEncoder {
    /// What each layer is like.
    pub layer: TransformerEncoderLayer,
    /// How many there are.
    pub layers: usize,
    /// Whether a layer norm, `norm`, stands behind the last.
    pub norm: bool,
}

impl MultiHeadAttention {
    /// Attention without dropout that sees everything.
    pub fn new(size: usize, heads: usize) -> Self {
        Self {
            size,
            heads,
            causal: false,
            bias: true,
            dropout: 0.0,
        }
    }

    /// What `query` `[N, T, size]` finds among `key` and `value` `[N, S, size]`:
    /// `[N, T, size]`.
    ///
    /// Where `mask`, a `bool` of shape `[T, S]`, `[N, T, S]` or `[N, heads, T, S]`, is
    /// false, nothing is seen. PyTorch's masks mean the contrary.
    pub fn attend(
        &self,
        scope: &Scope,
        query: &Var,
        key: &Var,
        value: &Var,
        mask: Option<&Var>,
    ) -> Var {
        let size = self.size;
        let divided = self.heads > 0 && size.is_multiple_of(self.heads);
        let fits = |x: &Var| matches!(x.shape(), [_, _, width] if *width == size);
        if let Some(x) = [query, key, value].into_iter().find(|x| !fits(x)) {
            return x.refused("MultiHeadAttention", &format!("values [N, T, {size}]"));
        }
        if !divided {
            let heads = self.heads;
            scope
                .graph()
                .fail(format!("{heads} heads do not divide the size {size}"));
            return query.clone();
        }
        let [query, key, value] = self.projected(scope, [query, key, value]);
        let mask = mask.map(|mask| match *mask.shape() {
            [targets, sources] => mask.reshape(&[1, 1, targets, sources]),
            [rows, targets, sources] => mask.reshape(&[rows, 1, targets, sources]),
            _ => mask.clone(),
        });
        let found = self.found(scope, &query, &key, &value, mask.as_ref());
        let [rows, _, targets, _] = *found.shape() else {
            return found;
        };
        let joined = found.transpose(&[0, 2, 1, 3]);
        let joined = joined.reshape(&[rows, targets, size]);
        scope.child("out_proj", |scope| {
            let initial = Initial::of_layer(size);
            let weight = scope.parameter_for(&joined, "weight", &[size, size], initial);
            let product = joined.matmul_transposed(&weight);
            if !self.bias {
                return product;
            }
            product + scope.parameter_for(&joined, "bias", &[size], Initial::Constant(0.0))
        })
    }

    /// Query, key and value for each head: `[N, heads, T, size / heads]`.
    fn projected(&self, scope: &Scope, of: [&Var; 3]) -> [Var; 3] {
        let size = self.size;
        // PyTorch counts a parameter of [3 size, size] as one layer.
        let initial = Initial::xavier(size, 3 * size);
        let weight = scope.parameter_for(of[0], "in_proj_weight", &[3 * size, size], initial);
        let bias = self.bias.then(|| {
            let initial = Initial::Constant(0.0);
            scope.parameter_for(of[0], "in_proj_bias", &[3 * size], initial)
        });
        let one = |x: &Var, weight: &Var, bias: Option<&Var>| {
            let product = x.matmul_transposed(weight);
            match bias {
                Some(bias) => product + bias,
                None => product,
            }
        };
        let sizes = [size; 3];
        let projected = if of[0].is_same(of[1]) && of[0].is_same(of[2]) {
            one(of[0], &weight, bias.as_ref()).split(2, &sizes)
        } else {
            let weights = weight.split(0, &sizes);
            let biases = bias.map(|bias| bias.split(0, &sizes));
            let parts = of.iter().zip(&weights).enumerate();
            parts
                .map(|(place, (x, weight))| {
                    one(x, weight, biases.as_ref().map(|biases| &biases[place]))
                })
                .collect()
        };
        let split = |x: Var| {
            let (rows, length) = (x.shape()[0], x.shape()[1]);
            let apart = x.reshape(&[rows, length, self.heads, size / self.heads]);
            apart.transpose(&[0, 2, 1, 3])
        };
        let projected: [Var; 3] = projected.try_into().expect("query, key and value");
        projected.map(split)
    }

    fn found(&self, scope: &Scope, query: &Var, key: &Var, value: &Var, mask: Option<&Var>) -> Var {
        #[expect(clippy::cast_precision_loss, reason = "a factor need not be exact")]
        let scale = 1.0 / ((self.size / self.heads) as f64).sqrt();
        if self.dropout == 0.0 || !scope.is_training() {
            return query.attention(key, value, mask, scale, self.causal);
        }
        // Dropout acts on the weights, which `attention` does not show.
        let mut scores = query.matmul_transposed(key) * scale;
        let (targets, sources) = (scores.shape()[2], scores.shape()[3]);
        let mut seen = mask.cloned();
        if self.causal {
            let graph = scope.graph();
            let shape = [targets, sources];
            let place = |axis| graph.iota(crate::DType::I32, &shape, axis);
            // Query `t` sees keys up to `t + sources - targets`.
            #[expect(clippy::cast_precision_loss, reason = "lengths are below 2^31")]
            let [targets, sources] = [targets as f64, sources as f64];
            let before = (place(1) + targets).less_equal(&(place(0) + sources));
            seen = Some(match seen {
                Some(seen) => seen.and(&before),
                None => before,
            });
        }
        if let Some(seen) = &seen {
            let hidden = scores.full_like(f64::NEG_INFINITY);
            scores = seen.select(&scores, &hidden);
        }
        let mut weights = scores.softmax(3);
        if let Some(seen) = &seen {
            // A query that sees nothing has weights of NaN, and finds 0.
            weights = seen.select(&weights, &weights.full_like(0.0));
        }
        let rate = self.dropout;
        Dropout { rate }.forward(scope, &weights).matmul(value)
    }
}

/// Attention of a sequence to itself.
impl Module for MultiHeadAttention {
    fn forward(&self, scope: &Scope, x: &Var) -> Var {
        self.attend(scope, x, x, x, None)
    }
}

impl TransformerEncoderLayer {
    /// A layer with PyTorch's defaults: a hidden layer of 2048, ReLU and dropout of 0.1.
    pub fn new(size: usize, heads: usize) -> Self {
        Self {
            size,
            heads,
            feedforward: 2048,
            activation: Activation::Relu,
            dropout: 0.1,
            norm_first: false,
            causal: false,
            epsilon: 1e-5,
        }
    }

    /// Encodes `x` `[N, T, size]`; for `mask`, see [`MultiHeadAttention::attend`].
    pub fn encode(&self, scope: &Scope, x: &Var, mask: Option<&Var>) -> Var {
        let norm = |name: &str, x: &Var| {
            let norm = LayerNorm {
                epsilon: self.epsilon,
                ..LayerNorm::new(&[self.size])
            };
            scope.child(name, |scope| norm.forward(scope, x))
        };
        if self.norm_first {
            let x = x + self.attended(scope, &norm("norm1", x), mask);
            return &x + self.fed_forward(scope, &norm("norm2", &x));
        }
        let x = norm("norm1", &(x + self.attended(scope, x, mask)));
        norm("norm2", &(&x + self.fed_forward(scope, &x)))
    }

    fn attended(&self, scope: &Scope, x: &Var, mask: Option<&Var>) -> Var {
        let attention = MultiHeadAttention {
            causal: self.causal,
            dropout: self.dropout,
            ..MultiHeadAttention::new(self.size, self.heads)
        };
        let found = scope.child("self_attn", |scope| attention.attend(scope, x, x, x, mask));
        self.dropped(scope, &found)
    }

    fn fed_forward(&self, scope: &Scope, x: &Var) -> Var {
        let hidden = scope.child("linear1", |scope| {
            Linear::new(self.size, self.feedforward).forward(scope, x)
        });
        let hidden = self.activation.forward(scope, &hidden);
        let hidden = self.dropped(scope, &hidden);
        let outputs = scope.child("linear2", |scope| {
            Linear::new(self.feedforward, self.size).forward(scope, &hidden)
        });
        self.dropped(scope, &outputs)
    }

    fn dropped(&self, scope: &Scope, x: &Var) -> Var {
        let rate = self.dropout;
        Dropout { rate }.forward(scope, x)
    }
}

impl Module for TransformerEncoderLayer {
    fn forward(&self, scope: &Scope, x: &Var) -> Var {
        self.encode(scope, x, None)
    }
}

impl TransformerEncoder {
    /// So many layers like `layer`.
    pub fn new(layer: TransformerEncoderLayer, layers: usize) -> Self {
        Self {
            layer,
            layers,
            norm: false,
        }
    }

    /// Encodes `x` `[N, T, size]`; for `mask`, see [`MultiHeadAttention::attend`].
    pub fn encode(&self, scope: &Scope, x: &Var, mask: Option<&Var>) -> Var {
        let layers = 0..self.layers;
        let x = layers.fold(x.clone(), |x, position| {
            scope.child(&format!("layers.{position}"), |scope| {
                self.layer.encode(scope, &x, mask)
            })
        });
        if !self.norm {
            return x;
        }
        let norm = LayerNorm::new(&[self.layer.size]);
        scope.child("norm", |scope| norm.forward(scope, &x))
    }
}

impl Module for TransformerEncoder {
    fn forward(&self, scope: &Scope, x: &Var) -> Var {
        self.encode(scope, x, None)
    }
}
