//! Derivatives of operations on shapes.

use super::Backward;
use crate::emit::{Emit, Emitted, integer, list};
use crate::ir::{NodeId, Padding, Slice};
use crate::shape::{Dims, TensorType};
use crate::{Attribute, DType, ProgramError};

impl Backward {
    /// The adjoints of all parts one after another; zeros where there is none.
    pub(super) fn split(
        &mut self,
        axis: usize,
        node: NodeId,
        x: NodeId,
        ups: &[Option<NodeId>],
    ) -> Result<(), ProgramError> {
        self.add_to(x, |this| {
            let mut parts = Vec::with_capacity(ups.len());
            for (place, up) in ups.iter().enumerate() {
                parts.push(match up {
                    Some(up) => *up,
                    None => this.zeros_like(node + place)?,
                });
            }
            this.op_with("concatenate", &parts, &[("axis", integer(axis))])
        })
    }

    pub(super) fn concatenate(
        &mut self,
        axis: usize,
        operands: &[NodeId],
        up: NodeId,
    ) -> Result<(), ProgramError> {
        let sizes: Vec<usize> = operands
            .iter()
            .map(|&node| self.shape(node)[axis])
            .collect();
        let mut start = 0;
        for (&operand, &size) in operands.iter().zip(&sizes) {
            let range = start..start + size;
            self.add_to(operand, |this| this.slice_along(up, axis, range))?;
            start += size;
        }
        Ok(())
    }

    /// The adjoint put back between zeros.
    pub(super) fn slice(
        &mut self,
        slice: &Slice,
        x: NodeId,
        up: NodeId,
    ) -> Result<(), ProgramError> {
        self.add_to(x, |this| {
            let (shape, part) = (this.shape(x), this.shape(up));
            let (mut low, mut high, mut interior) =
                (Dims::default(), Dims::default(), Dims::default());
            for axis in 0..shape.len() {
                let (start, stride) = (slice.starts[axis], slice.strides[axis]);
                let covered = match part[axis] {
                    0 => 0,
                    count => (count - 1) * stride + 1,
                };
                low.push(start);
                high.push(shape[axis] - start - covered);
                interior.push(if part[axis] > 1 { stride - 1 } else { 0 });
            }
            let zero = this.scalar(0.0, up)?;
            let attributes = [
                ("low", list(low)),
                ("high", list(high)),
                ("interior", list(interior)),
            ];
            this.op_with("pad", &[up, zero], &attributes)
        })
    }

    pub(super) fn pad(
        &mut self,
        padding: &Padding,
        [x, fill]: [NodeId; 2],
        up: NodeId,
    ) -> Result<(), ProgramError> {
        self.add_to(x, |this| {
            // What was put around is removed, what was removed is 0; then every gap is
            // stepped over.
            let zero = this.scalar(0.0, up)?;
            let negated = |amounts: &[i64]| {
                Attribute::Integers(amounts.iter().map(|amount| -amount).collect())
            };
            let shape = this.shape(x);
            let none = Dims::collect(shape.iter().map(|_| 0));
            let attributes = [
                ("low", negated(&padding.low)),
                ("high", negated(&padding.high)),
                ("interior", list(none)),
            ];
            let spread = this.op_with("pad", &[up, zero], &attributes)?;
            let strides = padding.interior.iter().zip(shape.iter());
            let strides = strides.map(|(&gap, &size)| if size > 1 { gap + 1 } else { 1 });
            let attributes = [
                ("starts", list(none)),
                ("limits", list(this.shape(spread))),
                ("strides", list(Dims::collect(strides))),
            ];
            this.op_with("slice", &[spread], &attributes)
        })?;
        self.add_to(fill, |this| {
            // The sum over all places that no element of x came to.
            let bools = |shape: Dims| TensorType {
                dtype: DType::Bool,
                shape,
            };
            let elsewhere = this.flag(false, bools(this.shape(x)))?;
            let yes = this.flag(true, bools(Dims::default()))?;
            let attributes = [
                ("low", Attribute::Integers(padding.low.to_vec())),
                ("high", Attribute::Integers(padding.high.to_vec())),
                ("interior", list(padding.interior)),
            ];
            let padded = this.op_with("pad", &[elsewhere, yes], &attributes)?;
            let zero = this.zeros_like(up)?;
            let flow = this.op("select", &[padded, up, zero])?;
            let axes = list(Dims::collect(0..this.shape(up).len()));
            this.op_with("reduce-sum", &[flow], &[("axes", axes)])
        })
    }

    pub(super) fn reverse(&mut self, x: NodeId, axes: &[usize]) -> Emitted {
        let axes = Dims::collect(axes.iter().copied());
        self.op_with("reverse", &[x], &[("axes", list(axes))])
    }

    pub(super) fn dynamic_slice(
        &mut self,
        [x, starts]: [NodeId; 2],
        up: NodeId,
    ) -> Result<(), ProgramError> {
        self.add_to(x, |this| {
            let zeros = this.zeros_like(x)?;
            this.op("dynamic-update-slice", &[zeros, up, starts])
        })
    }

    pub(super) fn dynamic_update_slice(
        &mut self,
        [x, update, starts]: [NodeId; 3],
        up: NodeId,
    ) -> Result<(), ProgramError> {
        self.add_to(x, |this| {
            let zeros = this.zeros_like(update)?;
            this.op("dynamic-update-slice", &[up, zeros, starts])
        })?;
        self.add_to(update, |this| {
            let sizes = list(this.shape(update));
            this.op_with("dynamic-slice", &[up, starts], &[("sizes", sizes)])
        })
    }

    /// One number of the type of `like`.
    pub(super) fn scalar(&mut self, number: f64, like: NodeId) -> Emitted {
        let ty = TensorType {
            shape: Dims::default(),
            ..self.ty(like)
        };
        self.fill(number, ty)
    }

    fn flag(&mut self, flag: bool, ty: TensorType) -> Emitted {
        let attributes = [
            ("dtype", ty.dtype.name().into()),
            ("shape", list(ty.shape)),
            ("value", flag.into()),
        ];
        self.op_with("constant", &[], &attributes)
    }
}
