//! Short ways to write operations, for derivatives and for definitions of composite ones.

use std::ops::Range;

use crate::ir::{NodeId, Nodes};
use crate::shape::{Dims, TensorType};
use crate::{Attribute, DType, ProgramError};

pub(crate) type Emitted = Result<NodeId, ProgramError>;

/// A graph that operations are appended to, each checked as if a program contained it.
pub(crate) trait Emit {
    /// The type of a node.
    fn ty(&self, node: NodeId) -> TensorType;

    /// Appends an operation; returns the nodes of its results.
    ///
    /// # Errors
    /// [`ProgramError::Invalid`] when the program becomes too large, or a result does.
    fn emit(
        &mut self,
        name: &str,
        operands: &[NodeId],
        attributes: &[(&str, Attribute)],
    ) -> Result<Nodes, ProgramError>;

    /// Appends an operation of one result, or whose first result is wanted.
    fn op_with(
        &mut self,
        name: &str,
        operands: &[NodeId],
        attributes: &[(&str, Attribute)],
    ) -> Emitted {
        Ok(self.emit(name, operands, attributes)?[0])
    }

    /// As [`Emit::op_with`], of an operation without attributes.
    fn op(&mut self, name: &str, operands: &[NodeId]) -> Emitted {
        self.op_with(name, operands, &[])
    }

    fn shape(&self, node: NodeId) -> Dims {
        self.ty(node).shape
    }

    /// A constant with one number everywhere.
    fn fill(&mut self, number: f64, ty: TensorType) -> Emitted {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "callers fill integers with small whole numbers"
        )]
        let value = if ty.dtype.is_float() {
            Attribute::Number(number)
        } else {
            Attribute::Integer(number as i64)
        };
        let attributes = [
            ("dtype", ty.dtype.name().into()),
            ("shape", list(ty.shape)),
            ("value", value),
        ];
        self.op_with("constant", &[], &attributes)
    }

    /// A constant of the type of `x` with one number everywhere.
    fn fill_like(&mut self, number: f64, x: NodeId) -> Emitted {
        let ty = self.ty(x);
        self.fill(number, ty)
    }

    fn zeros_like(&mut self, x: NodeId) -> Emitted {
        self.fill_like(0.0, x)
    }

    fn add(&mut self, a: NodeId, b: NodeId) -> Emitted {
        self.op("add", &[a, b])
    }

    fn subtract(&mut self, a: NodeId, b: NodeId) -> Emitted {
        self.op("subtract", &[a, b])
    }

    fn multiply(&mut self, a: NodeId, b: NodeId) -> Emitted {
        self.op("multiply", &[a, b])
    }

    fn divide(&mut self, a: NodeId, b: NodeId) -> Emitted {
        self.op("divide", &[a, b])
    }

    fn scale(&mut self, x: NodeId, factor: f64) -> Emitted {
        let factor = self.fill_like(factor, x)?;
        self.multiply(x, factor)
    }

    /// `x + number` everywhere.
    fn shift(&mut self, x: NodeId, number: f64) -> Emitted {
        let number = self.fill_like(number, x)?;
        self.add(x, number)
    }

    /// One of the reductions, over `axes` in increasing order; `x` itself when there are none.
    fn reduce(&mut self, name: &str, x: NodeId, axes: &[usize]) -> Emitted {
        let axes = Dims::collect(axes.iter().copied());
        self.op_with(name, &[x], &[("axes", list(axes))])
    }

    /// `x` in another element type.
    fn convert(&mut self, x: NodeId, dtype: DType) -> Emitted {
        if self.ty(x).dtype == dtype {
            return Ok(x);
        }
        self.op_with("convert", &[x], &[("dtype", dtype.name().into())])
    }

    /// Broadcasts `x`, which lacks `axes`, along them to `shape`.
    fn spread(&mut self, x: NodeId, shape: Dims, axes: &[usize]) -> Emitted {
        let kept = Dims::collect((0..shape.len()).filter(|axis| !axes.contains(axis)));
        let attributes = [("shape", list(shape)), ("axes", list(kept))];
        self.op_with("broadcast", &[x], &attributes)
    }

    /// `x`, whose axis `i` belongs at place `order[i]`.
    fn restore_order(&mut self, x: NodeId, order: &[usize]) -> Emitted {
        let mut permutation = vec![0; order.len()];
        for (place, &axis) in order.iter().enumerate() {
            permutation[axis] = place;
        }
        if permutation.is_sorted() {
            return Ok(x);
        }
        self.transpose(x, &permutation)
    }

    fn transpose(&mut self, x: NodeId, permutation: &[usize]) -> Emitted {
        let permutation = list(Dims::collect(permutation.iter().copied()));
        self.op_with("transpose", &[x], &[("permutation", permutation)])
    }

    /// Broadcasts axes of size 1 to those of a shape of the same rank.
    fn broadcast_in_place(&mut self, x: NodeId, shape: Dims) -> Emitted {
        let axes = list(Dims::collect(0..shape.len()));
        self.op_with("broadcast", &[x], &[("shape", list(shape)), ("axes", axes)])
    }

    /// The steps `range` along an axis.
    fn slice_along(&mut self, x: NodeId, axis: usize, range: Range<usize>) -> Emitted {
        let shape = self.shape(x);
        let along = |at: usize, other: fn(usize) -> usize| {
            let sizes = shape.iter().enumerate();
            list(Dims::collect(sizes.map(|(place, &size)| {
                if place == axis { at } else { other(size) }
            })))
        };
        let attributes = [
            ("starts", along(range.start, |_| 0)),
            ("limits", along(range.end, |size| size)),
            ("strides", along(1, |_| 1)),
        ];
        self.op_with("slice", &[x], &attributes)
    }

    fn reshape(&mut self, x: NodeId, shape: Dims) -> Emitted {
        if self.shape(x) == shape {
            return Ok(x);
        }
        self.op_with("reshape", &[x], &[("shape", list(shape))])
    }
}

/// Dimensions or axes as an attribute.
pub(crate) fn list(dims: Dims) -> Attribute {
    Attribute::Integers(dims.to_attribute())
}

/// A count as an attribute.
pub(crate) fn integer(value: usize) -> Attribute {
    Attribute::Integer(i64::try_from(value).unwrap_or(i64::MAX))
}
