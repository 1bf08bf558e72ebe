//! Layers that normalise.

use super::{Initial, Module, Scope};
use crate::DType;
use crate::graph::Var;

/// Normalises each channel of `[N, channels, …]` by its statistics: of the batch while
/// training, running ones otherwise. PyTorch's `BatchNorm1d` and `BatchNorm2d`.
///
/// Parameters `weight` and `bias` `[channels]`; buffers `running_mean`, `running_var`
/// `[channels]` (unbiased) and `num_batches_tracked`.
///
/// Source: S. Ioffe, C. Szegedy, "Batch normalization", ICML 2015, algorithms 1 and 2.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BatchNorm {
    /// How many channels there are.
    pub channels: usize,
    /// Added to the variance.
    pub epsilon: f64,
    /// The share of a batch in the running statistics; none for the mean of all batches.
    pub momentum: Option<f64>,
    /// Whether there are a weight and a bias.
    pub affine: bool,
}

/// Normalises over the last axes, of this shape. PyTorch's `LayerNorm`.
///
/// Parameters `weight` and `bias` of that shape.
///
/// Source: J. L. Ba, J. R. Kiros, G. E. Hinton, "Layer normalization", 2016, section 3.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerNorm {
    /// The shape of the axes.
    pub shape: Vec<usize>,
    /// Added to the variance.
    pub epsilon: f64,
    /// Whether there is a weight.
    pub affine: bool,
    /// Whether there is a bias, when there is a weight.
    pub bias: bool,
}

/// Divides by the root of the mean square over the last axes, of this shape. PyTorch's
/// `RMSNorm`.
///
/// Parameter `weight` of that shape.
///
/// Source: B. Zhang, R. Sennrich, "Root mean square layer normalization", NeurIPS 2019,
/// section 4.
#[derive(Debug, Clone, PartialEq)]
pub struct RmsNorm {
    /// The shape of the axes.
    pub shape: Vec<usize>,
    /// Added to the mean square; none for the distance from 1 to the next `f32`.
    pub epsilon: Option<f64>,
    /// Whether there is a weight.
    pub affine: bool,
}

impl BatchNorm {
    /// Normalises so many channels, with PyTorch's defaults.
    pub fn new(channels: usize) -> Self {
        Self {
            channels,
            epsilon: 1e-5,
            momentum: Some(0.1),
            affine: true,
        }
    }

    /// Puts the statistics of a batch, of `count` elements per channel, into the running.
    fn track(&self, scope: &Scope, running: [&Var; 2], batch: [&Var; 2], count: usize) {
        let batches = scope.buffer("num_batches_tracked", DType::I64, &[], 0.0);
        let seen = batches.clone() + 1.0;
        scope.update(&batches, &seen);
        let share = match self.momentum {
            Some(momentum) => scope.graph().full(DType::F32, &[], momentum),
            None => 1.0 / seen.convert(DType::F32),
        };
        #[expect(clippy::cast_precision_loss, reason = "a factor need not be exact")]
        let unbiased = count as f64 / (count as f64 - 1.0);
        for ((running, batch), factor) in running.into_iter().zip(batch).zip([1.0, unbiased]) {
            let batch = batch.convert(DType::F32) * factor;
            scope.update(running, &(running * (1.0 - &share) + batch * &share));
        }
    }
}

impl Module for BatchNorm {
    fn forward(&self, scope: &Scope, x: &Var) -> Var {
        let shape = [self.channels];
        let (scale, shift) = scale_and_shift(scope, x, &shape, self.affine, true);
        let mean = scope.buffer("running_mean", DType::F32, &shape, 0.0);
        let variance = scope.buffer("running_var", DType::F32, &shape, 1.0);
        if !scope.is_training() {
            let [mean, variance] = [mean, variance].map(|running| running.convert(x.dtype()));
            return x.batch_norm_inference(&scale, &shift, &mean, &variance, self.epsilon);
        }
        let normed = x.batch_norm(&scale, &shift, self.epsilon);
        let elements: usize = x.shape().iter().product();
        let batch = [&normed.mean, &normed.variance];
        let count = elements / self.channels.max(1);
        if count < 2 {
            return x.refused("BatchNorm", "more than one value of each channel to learn");
        }
        self.track(scope, [&mean, &variance], batch, count);
        normed.value
    }
}

impl LayerNorm {
    /// Normalises over the last axes, with PyTorch's defaults.
    pub fn new(shape: &[usize]) -> Self {
        Self {
            shape: shape.to_vec(),
            epsilon: 1e-5,
            affine: true,
            bias: true,
        }
    }
}

impl Module for LayerNorm {
    fn forward(&self, scope: &Scope, x: &Var) -> Var {
        let (scale, shift) = scale_and_shift(scope, x, &self.shape, self.affine, self.bias);
        let axis = x.shape().len().saturating_sub(self.shape.len());
        x.layer_norm(&scale, &shift, axis, self.epsilon)
    }
}

impl RmsNorm {
    /// Normalises over the last axes, with PyTorch's defaults.
    pub fn new(shape: &[usize]) -> Self {
        Self {
            shape: shape.to_vec(),
            epsilon: None,
            affine: true,
        }
    }
}

impl Module for RmsNorm {
    fn forward(&self, scope: &Scope, x: &Var) -> Var {
        let scale = if self.affine {
            scope.parameter_for(x, "weight", &self.shape, Initial::Constant(1.0))
        } else {
            scope.graph().full(x.dtype(), &self.shape, 1.0)
        };
        let axis = x.shape().len().saturating_sub(self.shape.len());
        let epsilon = self.epsilon.unwrap_or(f32::EPSILON.into());
        x.rms_norm(&scale, axis, epsilon)
    }
}

/// `weight` and `bias`, or the constants 1 and 0 for those that are not there.
fn scale_and_shift(
    scope: &Scope,
    x: &Var,
    shape: &[usize],
    affine: bool,
    bias: bool,
) -> (Var, Var) {
    let part = |name: &str, value: f32, learnt: bool| {
        if learnt {
            scope.parameter_for(x, name, shape, Initial::Constant(value))
        } else {
            scope.graph().full(x.dtype(), shape, value.into())
        }
    };
    let scale = part("weight", 1.0, affine);
    let shift = part("bias", 0.0, affine && bias);
    (scale, shift)
}
