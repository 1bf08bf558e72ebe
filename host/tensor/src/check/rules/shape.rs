//! Operations on shapes.

use smallvec::SmallVec;

use super::{Attributes, Checked, One, Operands, along, composite, need_indices};
use crate::composite::Composite;
use crate::ir::{Op, Padding, Slice};
use crate::shape::{Dims, MAX_DIMENSION, TensorType};

pub(super) fn concatenate(operands: Operands<'_>, attributes: &mut Attributes<'_>) -> One {
    let Some(&first) = operands.0.first() else {
        return Err("no operands are given, but it takes one or more".to_owned());
    };
    let axis = attributes.axis("axis", first.shape.len())?;
    let mut size: usize = 0;
    for operand in operands.0 {
        let same_rank = operand.shape.len() == first.shape.len();
        if operand.dtype != first.dtype
            || !same_rank
            || along(operand.shape, axis, 0) != along(first.shape, axis, 0)
        {
            return Err(format!(
                "the operands {first} and {operand} must have one type, and one size but \
                 along axis {axis}"
            ));
        }
        size = size.saturating_add(operand.shape[axis]);
    }
    let ty = TensorType::new(first.dtype, &along(first.shape, axis, size))?;
    Ok((Op::Concatenate { axis }, ty))
}

pub(super) fn split(
    operand: TensorType,
    attributes: &mut Attributes<'_>,
) -> Result<Checked, String> {
    let axis = attributes.axis("axis", operand.shape.len())?;
    let given = attributes.integers("sizes")?;
    let mut sizes = Vec::with_capacity(given.len());
    let mut total: usize = 0;
    for &size in given {
        let size = usize::try_from(size)
            .map_err(|_| format!("attribute `sizes` holds {size}, but it may not be negative"))?;
        total = total.saturating_add(size);
        sizes.push(size);
    }
    if total != operand.shape[axis] {
        return Err(format!(
            "attribute `sizes` sums up to {total}, but axis {axis} of {operand} has {}",
            operand.shape[axis]
        ));
    }
    let types = sizes.iter().map(|&size| TensorType {
        shape: along(operand.shape, axis, size),
        ..operand
    });
    let types = types.collect();
    let op = Op::Composite(Box::new(Composite::Split { axis, sizes }));
    Ok(Checked { op, types })
}

pub(super) fn slice(operand: TensorType, attributes: &mut Attributes<'_>) -> One {
    let rank = operand.shape.len();
    let starts = attributes.per_dimension("starts", rank)?;
    let limits = attributes.per_dimension("limits", rank)?;
    let strides = attributes.per_dimension("strides", rank)?;
    let mut shape = Dims::default();
    for axis in 0..rank {
        let (start, limit, size) = (starts[axis], limits[axis], operand.shape[axis]);
        if start > limit || limit > size {
            return Err(format!(
                "the slice from {start} to {limit} along axis {axis} of {operand} must lie \
                 in 0 to {size}"
            ));
        }
        if strides[axis] == 0 {
            return Err(format!(
                "attribute `strides` is {strides:?}, but strides must be at least 1"
            ));
        }
        shape.push((limit - start).div_ceil(strides[axis]));
    }
    let dtype = operand.dtype;
    let slice = Slice { starts, strides };
    Ok((Op::Slice(Box::new(slice)), TensorType { dtype, shape }))
}

/// A padding's size: what it may be keeps sums far from an overflow.
fn amount(name: &str, value: i64) -> Result<i64, String> {
    if usize::try_from(value.unsigned_abs()).is_ok_and(|size| size <= MAX_DIMENSION) {
        return Ok(value);
    }
    Err(format!(
        "attribute `{name}` holds {value}, but a dimension may be at most {MAX_DIMENSION}"
    ))
}

pub(super) fn pad([operand, fill]: [TensorType; 2], attributes: &mut Attributes<'_>) -> One {
    let scalar = TensorType::new(operand.dtype, &[])?;
    if fill != scalar {
        return Err(format!("the padding is {fill}, but it must be {scalar}"));
    }
    let rank = operand.shape.len();
    let low = attributes.signed_per_dimension("low", rank)?;
    let high = attributes.signed_per_dimension("high", rank)?;
    let interior = attributes.per_dimension("interior", rank)?;
    let mut shape = Dims::default();
    let mut padding = Padding {
        low: SmallVec::new(),
        high: SmallVec::new(),
        interior,
    };
    for axis in 0..rank {
        let (low, high) = (amount("low", low[axis])?, amount("high", high[axis])?);
        let gaps = operand.shape[axis].saturating_sub(1);
        let inside = operand.shape[axis].saturating_add(gaps.saturating_mul(interior[axis]));
        let size = i128::from(low) + i128::from(high) + inside as i128;
        let size = usize::try_from(size).map_err(|_| {
            format!(
                "axis {axis} of {operand} would have {size} elements: `low` and `high` \
                 remove more than there are"
            )
        })?;
        padding.low.push(low);
        padding.high.push(high);
        shape.push(size);
    }
    let ty = TensorType::new(operand.dtype, &shape)?;
    Ok((Op::Pad(Box::new(padding)), ty))
}

pub(super) fn pad_edge(operand: TensorType, attributes: &mut Attributes<'_>) -> One {
    let rank = operand.shape.len();
    let low = attributes.per_dimension("low", rank)?;
    let high = attributes.per_dimension("high", rank)?;
    let mut shape = Dims::default();
    for axis in 0..rank {
        let size = operand.shape[axis];
        let added = low[axis].saturating_add(high[axis]);
        if size == 0 && added > 0 {
            return Err(format!(
                "axis {axis} of {operand} has no elements to repeat"
            ));
        }
        shape.push(size.saturating_add(added));
    }
    let ty = TensorType::new(operand.dtype, &shape)?;
    composite(Composite::PadEdge { low, high }, ty)
}

pub(super) fn reverse(operand: TensorType, attributes: &mut Attributes<'_>) -> One {
    let axes = attributes.increasing_axes("axes", operand.shape.len())?;
    Ok((Op::Reverse(axes), operand))
}

/// The indexes at which a dynamic slice begins.
fn need_starts(starts: TensorType, operand: TensorType) -> Result<(), String> {
    need_indices(starts)?;
    let rank = operand.shape.len();
    if *starts.shape == [rank] {
        return Ok(());
    }
    Err(format!(
        "the starts are {starts}, but their shape must be [{rank}], the rank of {operand}"
    ))
}

pub(super) fn dynamic_slice(
    [operand, starts]: [TensorType; 2],
    attributes: &mut Attributes<'_>,
) -> One {
    need_starts(starts, operand)?;
    let shape = attributes.per_dimension("sizes", operand.shape.len())?;
    for (axis, (&size, &whole)) in shape.iter().zip(operand.shape.iter()).enumerate() {
        if size > whole {
            return Err(format!(
                "attribute `sizes` is {shape:?}, but axis {axis} of {operand} has {whole} \
                 elements"
            ));
        }
    }
    let dtype = operand.dtype;
    Ok((Op::DynamicSlice, TensorType { dtype, shape }))
}

pub(super) fn dynamic_update_slice([operand, update, starts]: [TensorType; 3]) -> One {
    need_starts(starts, operand)?;
    let fits = operand.dtype == update.dtype
        && operand.shape.len() == update.shape.len()
        && operand
            .shape
            .iter()
            .zip(update.shape.iter())
            .all(|(whole, part)| part <= whole);
    if !fits {
        return Err(format!(
            "the update is {update}, but it must fit into {operand}"
        ));
    }
    Ok((Op::DynamicUpdateSlice, operand))
}
