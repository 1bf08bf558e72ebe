//! Definitions of operations on shapes.

use crate::ProgramError;
use crate::emit::{Emit, Emitted, integer};
use crate::ir::{NodeId, Nodes};
use crate::shape::Dims;

pub(super) fn split(
    to: &mut impl Emit,
    x: NodeId,
    axis: usize,
    sizes: &[usize],
) -> Result<Nodes, ProgramError> {
    let mut parts = Nodes::new();
    let mut start = 0;
    for size in sizes {
        parts.push(to.slice_along(x, axis, start..start + size)?);
        start += size;
    }
    Ok(parts)
}

/// Axis by axis: the first slice, x, the last slice, each as often as asked for.
pub(super) fn pad_edge(to: &mut impl Emit, x: NodeId, low: &[usize], high: &[usize]) -> Emitted {
    let mut padded = x;
    for axis in (0..low.len()).filter(|&axis| low[axis] + high[axis] > 0) {
        let shape = to.shape(padded);
        let first = to.slice_along(padded, axis, 0..1)?;
        let last = to.slice_along(padded, axis, shape[axis] - 1..shape[axis])?;
        let first = repeated(to, first, axis, low[axis])?;
        let last = repeated(to, last, axis, high[axis])?;
        let parts = [first, padded, last];
        padded = to.op_with("concatenate", &parts, &[("axis", integer(axis))])?;
    }
    Ok(padded)
}

/// A slice of size 1 as often as `count`.
fn repeated(to: &mut impl Emit, x: NodeId, axis: usize, count: usize) -> Emitted {
    let sizes = to.shape(x);
    let sizes = sizes.iter().enumerate();
    let shape = Dims::collect(sizes.map(|(place, &size)| if place == axis { count } else { size }));
    to.broadcast_in_place(x, shape)
}
