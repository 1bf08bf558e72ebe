//! Definitions of norms and of attention.

use crate::ProgramError;
use crate::emit::{Emit, Emitted, integer, list};
use crate::ir::{NodeId, Nodes};
use crate::shape::{Dims, TensorType};
use crate::{Attribute, DType};

type Results = Result<Nodes, ProgramError>;

/// Which axes are normalised over, and along which scale and shift are repeated.
pub(super) struct Over {
    pub(super) axes: Vec<usize>,
    pub(super) others: Vec<usize>,
    pub(super) epsilon: f64,
    /// Whether the mean is subtracted first.
    pub(super) centred: bool,
}

impl Over {
    /// All axes from `axis` on.
    pub(super) fn last(rank: usize, axis: usize, epsilon: f64, centred: bool) -> Self {
        Self {
            axes: (axis..rank).collect(),
            others: (0..axis).collect(),
            epsilon,
            centred,
        }
    }

    /// All axes but that of the channels; parameters are repeated along the same ones.
    pub(super) fn channels(rank: usize, epsilon: f64) -> Self {
        let axes: Vec<usize> = (0..rank).filter(|&axis| axis != 1).collect();
        Self {
            others: axes.clone(),
            axes,
            epsilon,
            centred: true,
        }
    }
}

/// What a norm computes of its operand.
struct Statistics {
    mean: Option<NodeId>,
    variance: NodeId,
    /// `1 / sqrt(variance + epsilon)`, of the operand's shape.
    factor: NodeId,
    normalised: NodeId,
}

fn statistics(to: &mut impl Emit, x: NodeId, over: &Over) -> Result<Statistics, ProgramError> {
    let shape = to.shape(x);
    let (mean, distance) = if over.centred {
        let mean = to.reduce("reduce-mean", x, &over.axes)?;
        let wide = to.spread(mean, shape, &over.axes)?;
        (Some(mean), to.subtract(x, wide)?)
    } else {
        (None, x)
    };
    let square = to.op("square", &[distance])?;
    let variance = to.reduce("reduce-mean", square, &over.axes)?;
    let shifted = to.shift(variance, over.epsilon)?;
    let factor = to.op("rsqrt", &[shifted])?;
    let factor = to.spread(factor, shape, &over.axes)?;
    Ok(Statistics {
        mean,
        variance,
        factor,
        normalised: to.multiply(distance, factor)?,
    })
}

/// The normalised operand; for a batch norm also mean and variance.
pub(super) fn norm(
    to: &mut impl Emit,
    operands: &[NodeId],
    over: &Over,
    with_statistics: bool,
) -> Results {
    let shape = to.shape(operands[0]);
    let found = statistics(to, operands[0], over)?;
    let scale = to.spread(operands[1], shape, &over.others)?;
    let mut y = to.multiply(found.normalised, scale)?;
    if let Some(&shift) = operands.get(2) {
        let shift = to.spread(shift, shape, &over.others)?;
        y = to.add(y, shift)?;
    }
    let mut results = Nodes::from_slice(&[y]);
    if with_statistics {
        results.extend(found.mean);
        results.push(found.variance);
    }
    Ok(results)
}

/// The derivatives by x, scale and, of a centred norm, shift.
pub(super) fn norm_gradient(to: &mut impl Emit, operands: &[NodeId], over: &Over) -> Results {
    let &[x, scale, up] = operands else {
        unreachable!("the rule asks for three operands");
    };
    let shape = to.shape(x);
    let found = statistics(to, x, over)?;
    let scale = to.spread(scale, shape, &over.others)?;
    let flow = to.multiply(up, scale)?;
    let along = to.multiply(flow, found.normalised)?;
    let along = to.reduce("reduce-mean", along, &over.axes)?;
    let along = to.spread(along, shape, &over.axes)?;
    let along = to.multiply(found.normalised, along)?;
    let mut rest = to.subtract(flow, along)?;
    if over.centred {
        let mean = to.reduce("reduce-mean", flow, &over.axes)?;
        let mean = to.spread(mean, shape, &over.axes)?;
        rest = to.subtract(rest, mean)?;
    }
    let by_x = to.multiply(rest, found.factor)?;
    let by_scale = to.multiply(up, found.normalised)?;
    let by_scale = to.reduce("reduce-sum", by_scale, &over.others)?;
    let mut results = Nodes::from_slice(&[by_x, by_scale]);
    if over.centred {
        results.push(to.reduce("reduce-sum", up, &over.others)?);
    }
    Ok(results)
}

/// The attributes of attention.
#[derive(Clone, Copy)]
pub(super) struct Seeing {
    pub(super) scale: f64,
    pub(super) causal: bool,
}

/// The result, and the logarithm of each row's sum of exponentials.
pub(super) fn attention(to: &mut impl Emit, operands: &[NodeId], seeing: Seeing) -> Results {
    let (q, k, v) = (operands[0], operands[1], operands[2]);
    let rank = to.shape(q).len();
    if to.shape(k)[rank - 2] == 0 {
        let mut shape = to.shape(q).to_vec();
        shape[rank - 1] = to.shape(v)[rank - 1];
        let dtype = to.ty(q).dtype;
        let empty = |shape: &[usize]| TensorType {
            dtype,
            shape: Dims::collect(shape.iter().copied()),
        };
        let y = to.fill(0.0, empty(&shape))?;
        let log = to.fill(f64::NEG_INFINITY, empty(&shape[..rank - 1]))?;
        return Ok(Nodes::from_slice(&[y, log]));
    }
    let (powers, sum, base) = powers(to, [q, k], operands.get(3).copied(), seeing)?;
    let log = to.op("log", &[sum])?;
    let log = to.add(base, log)?;
    let shares = shares(to, powers, sum)?;
    let y = product(to, [shares, v], [rank - 1, rank - 2])?;
    Ok(Nodes::from_slice(&[y, log]))
}

/// The derivatives by q, k and v, from the operands of `attention` and the adjoint alone:
/// the results of `attention` follow from them, and so do further derivatives.
pub(super) fn attention_gradient(
    to: &mut impl Emit,
    operands: &[NodeId],
    seeing: Seeing,
) -> Results {
    let (q, k, v) = (operands[0], operands[1], operands[2]);
    let up = operands[operands.len() - 1];
    let rank = to.shape(q).len();
    if to.shape(k)[rank - 2] == 0 {
        let by_q = to.zeros_like(q)?;
        return Ok(Nodes::from_slice(&[by_q, k, v]));
    }
    let mask = (operands.len() == 7).then(|| operands[3]);
    let (powers, sum, _) = powers(to, [q, k], mask, seeing)?;
    let shares = shares(to, powers, sum)?;
    let shape = to.shape(shares);
    let by_shares = product(to, [up, v], [rank - 1, rank - 1])?;
    let flow = to.multiply(shares, by_shares)?;
    let total = to.reduce("reduce-sum", flow, &[rank - 1])?;
    let total = to.spread(total, shape, &[rank - 1])?;
    let rest = to.subtract(by_shares, total)?;
    let by_scores = to.multiply(shares, rest)?;
    let by_scores = to.scale(by_scores, seeing.scale)?;
    let by_q = product(to, [by_scores, k], [rank - 1, rank - 2])?;
    let by_k = product(to, [by_scores, q], [rank - 2, rank - 2])?;
    let by_v = product(to, [shares, up], [rank - 2, rank - 2])?;
    Ok(Nodes::from_slice(&[by_q, by_k, by_v]))
}

/// `exp(score - base)` where a key may be seen and 0 elsewhere, the sum of each row, and
/// the base: its greatest score, or 0 when it sees nothing.
fn powers(
    to: &mut impl Emit,
    [q, k]: [NodeId; 2],
    mask: Option<NodeId>,
    seeing: Seeing,
) -> Result<(NodeId, NodeId, NodeId), ProgramError> {
    let rank = to.shape(q).len();
    let scores = product(to, [q, k], [rank - 1, rank - 1])?;
    let mut scores = to.scale(scores, seeing.scale)?;
    let shape = to.shape(scores);
    let hidden = to.fill_like(f64::NEG_INFINITY, scores)?;
    if let Some(mask) = mask {
        let attributes = [
            ("shape", list(shape)),
            ("axes", list(Dims::collect(0..rank))),
        ];
        let mask = to.op_with("broadcast", &[mask], &attributes)?;
        scores = to.op("select", &[mask, scores, hidden])?;
    }
    if seeing.causal {
        let seen = causal(to, shape)?;
        scores = to.op("select", &[seen, scores, hidden])?;
    }
    let greatest = to.reduce("reduce-max", scores, &[rank - 1])?;
    let greatest = to.op("stop-gradient", &[greatest])?;
    let infinity = to.fill_like(f64::NEG_INFINITY, greatest)?;
    let sees = to.op("not-equal", &[greatest, infinity])?;
    let zero = to.zeros_like(greatest)?;
    let base = to.op("select", &[sees, greatest, zero])?;
    let wide = to.spread(base, shape, &[rank - 1])?;
    let below = to.subtract(scores, wide)?;
    let powers = to.op("exp", &[below])?;
    let sum = to.reduce("reduce-sum", powers, &[rank - 1])?;
    Ok((powers, sum, base))
}

/// Powers divided by their sum; 0 where there are none.
fn shares(to: &mut impl Emit, powers: NodeId, sum: NodeId) -> Emitted {
    let shape = to.shape(powers);
    let zero = to.zeros_like(sum)?;
    let one = to.fill_like(1.0, sum)?;
    let none = to.op("equal", &[sum, zero])?;
    let divisor = to.op("select", &[none, one, sum])?;
    let divisor = to.spread(divisor, shape, &[shape.len() - 1])?;
    to.divide(powers, divisor)
}

/// Whether query `t` sees key `s`: `s <= t + S - T`.
fn causal(to: &mut impl Emit, shape: Dims) -> Emitted {
    let rank = shape.len();
    let (queries, keys) = (shape[rank - 2], shape[rank - 1]);
    let ty = TensorType {
        dtype: DType::I64,
        shape: Dims::collect([queries, keys]),
    };
    let mut count = |axis| {
        let attributes = [
            ("dtype", "i64".into()),
            ("shape", list(ty.shape)),
            ("axis", integer(axis)),
        ];
        to.op_with("iota", &[], &attributes)
    };
    let (query, key) = (count(0)?, count(1)?);
    // The same on both sides, so that nothing is negative.
    let all_keys = to.fill(keys as f64, ty)?;
    let all_queries = to.fill(queries as f64, ty)?;
    let last = to.add(query, all_keys)?;
    let place = to.add(key, all_queries)?;
    let seen = to.op("less-equal", &[place, last])?;
    let batch: Vec<usize> = (0..rank - 2).collect();
    to.spread(seen, shape, &batch)
}

/// The product of two batches of matrices over these axes.
fn product(to: &mut impl Emit, operands: [NodeId; 2], contracted: [usize; 2]) -> Emitted {
    let batch = list(Dims::collect(0..to.shape(operands[0]).len() - 2));
    let [lhs, rhs] = contracted.map(|axis| list(Dims::collect([axis])));
    let attributes: [(&str, Attribute); 4] = [
        ("lhs-batch", batch.clone()),
        ("rhs-batch", batch),
        ("lhs-contract", lhs),
        ("rhs-contract", rhs),
    ];
    to.op_with("dot-general", &operands, &attributes)
}
