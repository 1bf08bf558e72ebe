//! Operations that take or put elements at positions which are operands.

use super::{
    Attributes, One, along, need_indices, need_number, need_rows, need_updates, scattered_axis,
};
use crate::ir::Op;
use crate::shape::TensorType;

pub(super) fn take_along([data, indices]: [TensorType; 2], attributes: &mut Attributes<'_>) -> One {
    let axis = axis_of_lines(data, indices, attributes)?;
    let ty = TensorType::new(data.dtype, &indices.shape)?;
    Ok((Op::TakeAlong { axis }, ty))
}

pub(super) fn scatter_set(operands: [TensorType; 3], attributes: &mut Attributes<'_>) -> One {
    let axis = scattered_axis(operands, attributes)?;
    Ok((Op::ScatterSet { axis }, operands[0]))
}

pub(super) fn scatter_add_along(
    [data, indices, updates]: [TensorType; 3],
    attributes: &mut Attributes<'_>,
) -> One {
    need_number(data)?;
    let axis = axis_of_lines(data, indices, attributes)?;
    need_updates(updates, data, indices.shape)?;
    Ok((Op::ScatterAddAlong { axis }, data))
}

/// The axis along which each index names an element of its own line of the data.
fn axis_of_lines(
    data: TensorType,
    indices: TensorType,
    attributes: &mut Attributes<'_>,
) -> Result<usize, String> {
    need_indices(indices)?;
    let axis = attributes.axis("axis", data.shape.len())?;
    let same_rank = data.shape.len() == indices.shape.len();
    if !same_rank || along(data.shape, axis, 0) != along(indices.shape, axis, 0) {
        return Err(format!(
            "the indices are {indices}, but their shape must be that of {data} but along \
             axis {axis}"
        ));
    }
    need_rows(data, axis, indices)?;
    Ok(axis)
}
