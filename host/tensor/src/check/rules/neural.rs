//! Rules of norms and attention.

use super::{channels, need_float, same_type};
use crate::DType;
use crate::check::Attributes;
use crate::composite::Composite;
use crate::ir::{Op, Real};
use crate::shape::TensorType;

use smallvec::SmallVec;

/// An operation and the types of its results, or a sentence on what is wrong.
type Several = Result<(Op, SmallVec<[TensorType; 3]>), String>;

fn several(composite: Composite, types: &[TensorType]) -> Several {
    Ok((
        Op::Composite(Box::new(composite)),
        SmallVec::from_slice(types),
    ))
}

fn epsilon(attributes: &mut Attributes<'_>) -> Result<Real, String> {
    let epsilon = attributes.number("epsilon")?;
    if epsilon < 0.0 {
        return Err(format!(
            "attribute `epsilon` is {epsilon}, but it may not be negative"
        ));
    }
    Ok(Real::new(epsilon))
}

/// `layer-norm` and `rms-norm`, which have as many parameters: x, then those.
pub(super) fn norm(
    operands: &[TensorType],
    attributes: &mut Attributes<'_>,
    centred: bool,
) -> Several {
    let x = operands[0];
    need_float(x)?;
    let axis = attributes.axis("axis", x.shape.len())?;
    let expected = TensorType::new(x.dtype, &x.shape[axis..])?;
    for &parameter in &operands[1..] {
        same_parameter(parameter, expected)?;
    }
    let epsilon = epsilon(attributes)?;
    let norm = Composite::Norm {
        axis,
        epsilon,
        centred,
    };
    several(norm, &[x])
}

/// `layer-norm-gradient` and `rms-norm-gradient`.
pub(super) fn norm_gradient(
    [x, scale, up]: [TensorType; 3],
    attributes: &mut Attributes<'_>,
    centred: bool,
) -> Several {
    need_float(x)?;
    same_type(x, up)?;
    let axis = attributes.axis("axis", x.shape.len())?;
    let expected = TensorType::new(x.dtype, &x.shape[axis..])?;
    same_parameter(scale, expected)?;
    let epsilon = epsilon(attributes)?;
    let gradient = Composite::NormGradient {
        axis,
        epsilon,
        centred,
    };
    if centred {
        several(gradient, &[x, scale, scale])
    } else {
        several(gradient, &[x, scale])
    }
}

fn same_parameter(parameter: TensorType, expected: TensorType) -> Result<(), String> {
    if parameter == expected {
        return Ok(());
    }
    Err(format!(
        "an operand is {parameter}, but it must be {expected}"
    ))
}

pub(super) fn batch_norm(
    [x, scale, shift]: [TensorType; 3],
    attributes: &mut Attributes<'_>,
) -> Several {
    need_float(x)?;
    let expected = TensorType::new(x.dtype, &[channels(x)?])?;
    same_parameter(scale, expected)?;
    same_parameter(shift, expected)?;
    let epsilon = epsilon(attributes)?;
    several(Composite::BatchNorm { epsilon }, &[x, scale, scale])
}

pub(super) fn batch_norm_gradient(
    [x, scale, up]: [TensorType; 3],
    attributes: &mut Attributes<'_>,
) -> Several {
    need_float(x)?;
    same_type(x, up)?;
    same_parameter(scale, TensorType::new(x.dtype, &[channels(x)?])?)?;
    let epsilon = epsilon(attributes)?;
    several(Composite::BatchNormGradient { epsilon }, &[x, scale, scale])
}

/// `[B…, T, D]`, `[B…, S, D]`, `[B…, S, E]` and perhaps a mask; the results' types.
fn attention_types(operands: &[TensorType]) -> Result<[TensorType; 2], String> {
    let &[q, k, v, ..] = operands else {
        return Err(format!(
            "{} operands are given, but queries, keys and values are needed",
            operands.len()
        ));
    };
    for operand in [q, k, v] {
        need_float(operand)?;
        if operand.dtype != q.dtype || operand.shape.len() != q.shape.len() {
            return Err(format!(
                "the operands are {q}, {k} and {v}, but they must have one element type and rank"
            ));
        }
    }
    let Some(batch) = q.shape.len().checked_sub(2) else {
        return Err(format!(
            "an operand is {q}, but its rank must be at least 2"
        ));
    };
    let fits = q.shape[..batch] == k.shape[..batch]
        && q.shape[..batch] == v.shape[..batch]
        && q.shape[batch + 1] == k.shape[batch + 1]
        && k.shape[batch] == v.shape[batch];
    if !fits {
        return Err(format!(
            "the operands are {q}, {k} and {v}, but they must be [B…, T, D], [B…, S, D] and \
             [B…, S, E]"
        ));
    }
    if let Some(&mask) = operands.get(3) {
        let sees = [q.shape[batch], k.shape[batch]];
        let batches = |axis: usize| mask.shape[axis] == q.shape[axis] || mask.shape[axis] == 1;
        let fits = mask.dtype == DType::Bool
            && mask.shape.len() == q.shape.len()
            && (0..batch).all(batches)
            && mask.shape[batch..] == sees;
        if !fits {
            let shape = [&q.shape[..batch], &sees].concat();
            return Err(format!(
                "the mask is {mask}, but it must be bool{shape:?}, or 1 in a batch dimension"
            ));
        }
    }
    let mut shape = q.shape.to_vec();
    shape[batch + 1] = v.shape[batch + 1];
    Ok([
        TensorType::new(q.dtype, &shape)?,
        TensorType::new(q.dtype, &shape[..=batch])?,
    ])
}

pub(super) fn attention(operands: &[TensorType], attributes: &mut Attributes<'_>) -> Several {
    if operands.len() > 4 {
        return Err(format!(
            "{} operands are given, but it takes 3 or 4",
            operands.len()
        ));
    }
    let types = attention_types(operands)?;
    let attention = Composite::Attention {
        scale: Real::new(attributes.number("scale")?),
        causal: attributes.flag("causal")?,
    };
    several(attention, &types)
}

pub(super) fn attention_gradient(
    operands: &[TensorType],
    attributes: &mut Attributes<'_>,
) -> Several {
    let (given, results) = match operands.len() {
        6 => operands.split_at(3),
        7 => operands.split_at(4),
        count => {
            return Err(format!("{count} operands are given, but it takes 6 or 7"));
        }
    };
    let types = attention_types(given)?;
    for (&found, expected) in results.iter().zip([types[0], types[1], types[0]]) {
        same_parameter(found, expected)?;
    }
    let attention = Composite::AttentionGradient {
        scale: Real::new(attributes.number("scale")?),
        causal: attributes.flag("causal")?,
    };
    several(attention, &given[..3])
}
