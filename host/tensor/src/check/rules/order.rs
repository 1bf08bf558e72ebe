//! Operations that depend on the order of elements along an axis.

use smallvec::SmallVec;

use super::{Attributes, Checked, One, along, need_number};
use crate::DType;
use crate::ir::{Cumulative, Op};
use crate::shape::TensorType;

pub(super) fn cumulative(
    operand: TensorType,
    attributes: &mut Attributes<'_>,
    product: bool,
) -> One {
    need_number(operand)?;
    let cumulative = Cumulative {
        product,
        axis: attributes.axis("axis", operand.shape.len())?,
        reverse: attributes.flag("reverse")?,
    };
    Ok((Op::Cumulative(cumulative), operand))
}

pub(super) fn sort(
    operand: TensorType,
    attributes: &mut Attributes<'_>,
) -> Result<Checked, String> {
    need_number(operand)?;
    let axis = attributes.axis("axis", operand.shape.len())?;
    let descending = attributes.flag("descending")?;
    let op = Op::Sort { axis, descending };
    with_positions(op, operand)
}

pub(super) fn top_k(
    operand: TensorType,
    attributes: &mut Attributes<'_>,
) -> Result<Checked, String> {
    need_number(operand)?;
    let axis = attributes.axis("axis", operand.shape.len())?;
    let k = attributes.natural("k")?;
    if k > operand.shape[axis] {
        return Err(format!(
            "attribute `k` is {k}, but axis {axis} of {operand} has {} elements",
            operand.shape[axis]
        ));
    }
    let shape = along(operand.shape, axis, k);
    with_positions(Op::TopK { axis, k }, TensorType { shape, ..operand })
}

/// Two results: values, and where they were.
fn with_positions(op: Op, values: TensorType) -> Result<Checked, String> {
    let positions = TensorType::new(DType::I32, &values.shape)?;
    let types = SmallVec::from_slice(&[values, positions]);
    Ok(Checked { op, types })
}
