//! Operations that are defined by others.
//!
//! The definition is the operation's meaning: what has no kernel of its own is replaced by
//! it when a program is parsed, so it is fused and differentiated like anything else. What
//! has a kernel, for speed or memory, is replaced where only primitive operations are
//! understood, and tests compare the two.

mod neural;
mod random;
mod shape;

use crate::ProgramError;
use crate::check::Keep;
use crate::emit::Emit;
use crate::ir::{NodeId, Nodes, Real};
use crate::shape::{Dims, TensorType};
use neural::{Over, Seeing};

/// An operation with its attributes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Composite {
    Squeeze {
        shape: Dims,
    },
    Clamp,
    Variance {
        axes: Dims,
        correction: usize,
    },
    LogSumExp {
        axes: Dims,
    },
    Softmax {
        axis: usize,
        log: bool,
    },
    /// Stays where derivatives are taken: that of all results together is one operation.
    Split {
        axis: usize,
        sizes: Vec<usize>,
    },
    PadEdge {
        low: Dims,
        high: Dims,
    },
    RandomUniform {
        stream: u32,
        ty: TensorType,
    },
    RandomNormal {
        stream: u32,
        ty: TensorType,
    },
    RandomBernoulli {
        probability: Real,
        stream: u32,
        shape: Dims,
    },
    RandomPermutation {
        stream: u32,
        size: usize,
    },
    Dropout {
        rate: Real,
        stream: u32,
    },
    /// Operands: x, scale, shift, mean, variance; the channels are axis 1 of x.
    BatchNormInference {
        epsilon: Real,
    },
    /// A layer norm when it is centred, an RMS norm otherwise.
    Norm {
        axis: usize,
        epsilon: Real,
        centred: bool,
    },
    NormGradient {
        axis: usize,
        epsilon: Real,
        centred: bool,
    },
    BatchNorm {
        epsilon: Real,
    },
    BatchNormGradient {
        epsilon: Real,
    },
    /// Operands: q, k, v, and perhaps a mask.
    Attention {
        scale: Real,
        causal: bool,
    },
    /// Operands: those of the attention, its results, and the adjoint of the first.
    AttentionGradient {
        scale: Real,
        causal: bool,
    },
}

impl Composite {
    /// Whether it is a node of its own in such a graph.
    pub(crate) fn stays(&self, keep: Keep) -> bool {
        match self {
            Self::Softmax { .. }
            | Self::Norm { .. }
            | Self::BatchNorm { .. }
            | Self::Attention { .. } => keep != Keep::Primitives,
            Self::NormGradient { .. }
            | Self::BatchNormGradient { .. }
            | Self::AttentionGradient { .. } => keep == Keep::Kernels,
            Self::Split { .. } => keep == Keep::Derivatives,
            Self::Squeeze { .. }
            | Self::Clamp
            | Self::PadEdge { .. }
            | Self::RandomUniform { .. }
            | Self::RandomNormal { .. }
            | Self::RandomBernoulli { .. }
            | Self::RandomPermutation { .. }
            | Self::Dropout { .. }
            | Self::Variance { .. }
            | Self::LogSumExp { .. }
            | Self::BatchNormInference { .. } => false,
        }
    }

    /// Whether the definition computes numbers of its own on the way to the result, rather
    /// than only choosing and moving elements: half types must not round those.
    fn widens(&self) -> bool {
        match self {
            Self::Variance { .. }
            | Self::LogSumExp { .. }
            | Self::Softmax { .. }
            | Self::Dropout { .. }
            | Self::BatchNormInference { .. }
            | Self::Norm { .. }
            | Self::NormGradient { .. }
            | Self::BatchNorm { .. }
            | Self::BatchNormGradient { .. }
            | Self::Attention { .. }
            | Self::AttentionGradient { .. } => true,
            // Random numbers are made in single precision to begin with.
            Self::RandomUniform { .. }
            | Self::RandomNormal { .. }
            | Self::RandomBernoulli { .. }
            | Self::RandomPermutation { .. }
            | Self::Squeeze { .. }
            | Self::Clamp
            | Self::Split { .. }
            | Self::PadEdge { .. } => false,
        }
    }

    /// Writes the definition; returns the results. Half types are computed in single
    /// precision, and the results rounded once.
    pub(crate) fn expand(
        &self,
        to: &mut impl Emit,
        operands: &[NodeId],
    ) -> Result<Nodes, ProgramError> {
        let dtype = to.ty(operands[0]).dtype;
        if dtype == dtype.wide() || !self.widens() {
            return self.define(to, operands);
        }
        let mut wide = Nodes::new();
        for &operand in operands {
            let dtype = to.ty(operand).dtype.wide();
            wide.push(to.convert(operand, dtype)?);
        }
        let results = self.define(to, &wide)?;
        results
            .iter()
            .map(|&result| to.convert(result, dtype))
            .collect()
    }

    fn define(&self, to: &mut impl Emit, operands: &[NodeId]) -> Result<Nodes, ProgramError> {
        let x = operands[0];
        let result = match self {
            Self::Split { axis, sizes } => return shape::split(to, x, *axis, sizes),
            Self::PadEdge { low, high } => shape::pad_edge(to, x, low, high),
            Self::RandomUniform { stream, ty } => random::uniform(to, x, *stream, *ty),
            Self::RandomNormal { stream, ty } => random::normal(to, x, *stream, *ty),
            Self::RandomBernoulli {
                probability,
                stream,
                shape,
            } => random::bernoulli(to, x, probability.get(), *stream, *shape),
            Self::RandomPermutation { stream, size } => random::permutation(to, x, *stream, *size),
            Self::Dropout { rate, stream } => {
                random::dropout(to, x, operands[1], rate.get(), *stream)
            }
            Self::Squeeze { shape } => to.reshape(x, *shape),
            Self::Clamp => {
                let raised = to.op("maximum", &[x, operands[1]])?;
                to.op("minimum", &[raised, operands[2]])
            }
            Self::Variance { axes, correction } => variance(to, x, axes, *correction),
            Self::LogSumExp { axes } => log_sum_exp(to, x, axes),
            Self::Softmax { axis, log } => softmax(to, x, *axis, *log),
            Self::BatchNormInference { epsilon } => {
                batch_norm_inference(to, operands, epsilon.get())
            }
            _ => return self.define_neural(to, operands),
        };
        Ok(Nodes::from_slice(&[result?]))
    }

    fn define_neural(
        &self,
        to: &mut impl Emit,
        operands: &[NodeId],
    ) -> Result<Nodes, ProgramError> {
        let rank = to.shape(operands[0]).len();
        match *self {
            Self::Norm {
                axis,
                epsilon,
                centred,
            } => {
                let over = Over::last(rank, axis, epsilon.get(), centred);
                neural::norm(to, operands, &over, false)
            }
            Self::NormGradient {
                axis,
                epsilon,
                centred,
            } => {
                let over = Over::last(rank, axis, epsilon.get(), centred);
                neural::norm_gradient(to, operands, &over)
            }
            Self::BatchNorm { epsilon } => {
                neural::norm(to, operands, &Over::channels(rank, epsilon.get()), true)
            }
            Self::BatchNormGradient { epsilon } => {
                neural::norm_gradient(to, operands, &Over::channels(rank, epsilon.get()))
            }
            Self::Attention { scale, causal } => {
                let scale = scale.get();
                neural::attention(to, operands, Seeing { scale, causal })
            }
            Self::AttentionGradient { scale, causal } => {
                let scale = scale.get();
                neural::attention_gradient(to, operands, Seeing { scale, causal })
            }
            _ => unreachable!("has its definition above"),
        }
    }
}

fn variance(
    to: &mut impl Emit,
    x: NodeId,
    axes: &[usize],
    correction: usize,
) -> Result<NodeId, ProgramError> {
    let shape = to.shape(x);
    let count = Dims::collect(axes.iter().map(|&axis| shape[axis])).product();
    let mean = to.reduce("reduce-mean", x, axes)?;
    let mean = to.spread(mean, shape, axes)?;
    let distance = to.subtract(x, mean)?;
    let square = to.op("square", &[distance])?;
    let sum = to.reduce("reduce-sum", square, axes)?;
    let divisor = match count.checked_sub(correction) {
        None | Some(0) => f64::NAN,
        Some(divisor) => divisor as f64,
    };
    let divisor = to.fill_like(divisor, sum)?;
    to.divide(sum, divisor)
}

fn log_sum_exp(to: &mut impl Emit, x: NodeId, axes: &[usize]) -> Result<NodeId, ProgramError> {
    let shape = to.shape(x);
    if shape.product() == 0 {
        let sum = to.reduce("reduce-sum", x, axes)?;
        return to.fill_like(f64::NEG_INFINITY, sum);
    }
    let greatest = to.reduce("reduce-max", x, axes)?;
    // Where the maximum is infinite it is the result, and must not be subtracted from itself.
    let greatest = to.op("stop-gradient", &[greatest])?;
    let size = to.op("abs", &[greatest])?;
    let infinity = to.fill_like(f64::INFINITY, size)?;
    let finite = to.op("less", &[size, infinity])?;
    let zero = to.zeros_like(greatest)?;
    let base = to.op("select", &[finite, greatest, zero])?;
    let wide = to.spread(base, shape, axes)?;
    let below = to.subtract(x, wide)?;
    let power = to.op("exp", &[below])?;
    let sum = to.reduce("reduce-sum", power, axes)?;
    let log = to.op("log", &[sum])?;
    to.add(base, log)
}

fn softmax(to: &mut impl Emit, x: NodeId, axis: usize, log: bool) -> Result<NodeId, ProgramError> {
    let shape = to.shape(x);
    if shape.product() == 0 {
        return Ok(x);
    }
    let greatest = to.reduce("reduce-max", x, &[axis])?;
    let greatest = to.op("stop-gradient", &[greatest])?;
    let greatest = to.spread(greatest, shape, &[axis])?;
    let below = to.subtract(x, greatest)?;
    let power = to.op("exp", &[below])?;
    let sum = to.reduce("reduce-sum", power, &[axis])?;
    if log {
        let sum = to.op("log", &[sum])?;
        let sum = to.spread(sum, shape, &[axis])?;
        return to.subtract(below, sum);
    }
    let sum = to.spread(sum, shape, &[axis])?;
    to.divide(power, sum)
}

/// `(x - mean) / sqrt(variance + epsilon) * scale + shift`, per channel.
fn batch_norm_inference(
    to: &mut impl Emit,
    operands: &[NodeId],
    epsilon: f64,
) -> Result<NodeId, ProgramError> {
    let &[x, scale, shift, mean, variance] = operands else {
        unreachable!("the rule asks for five operands");
    };
    let shape = to.shape(x);
    let others: Vec<usize> = (0..shape.len()).filter(|&axis| axis != 1).collect();
    // Per channel first: x * slope + offset.
    let variance = to.shift(variance, epsilon)?;
    let deviation = to.op("rsqrt", &[variance])?;
    let slope = to.multiply(scale, deviation)?;
    let moved = to.multiply(mean, slope)?;
    let offset = to.subtract(shift, moved)?;
    let slope = to.spread(slope, shape, &others)?;
    let offset = to.spread(offset, shape, &others)?;
    let scaled = to.multiply(x, slope)?;
    to.add(scaled, offset)
}
