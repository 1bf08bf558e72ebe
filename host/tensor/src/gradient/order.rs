//! Derivatives of operations that depend on the order of elements along an axis.

use super::Backward;
use crate::emit::{Emit, Emitted, integer, list};
use crate::ir::{Cumulative, NodeId};
use crate::shape::Dims;
use crate::{Attribute, ProgramError};

impl Backward {
    /// Each element's adjoint goes back to where it was.
    pub(super) fn order(
        &mut self,
        axis: usize,
        node: NodeId,
        x: NodeId,
        up: NodeId,
    ) -> Result<(), ProgramError> {
        self.add_to(x, |this| {
            let zeros = this.zeros_like(x)?;
            let positions = node + 1;
            let axis = [("axis", integer(axis))];
            this.op_with("scatter-add-along-axis", &[zeros, positions, up], &axis)
        })
    }

    pub(super) fn cumulative(
        &mut self,
        cumulative: Cumulative,
        y: NodeId,
        x: NodeId,
        up: NodeId,
    ) -> Result<(), ProgramError> {
        let Cumulative {
            product,
            axis,
            reverse,
        } = cumulative;
        self.add_to(x, |this| {
            if !product {
                let attributes = [("axis", integer(axis)), ("reverse", (!reverse).into())];
                return this.op_with("cumulative-sum", &[up], &attributes);
            }
            if !reverse {
                return this.running_product(axis, [x, y], up);
            }
            let x = this.reverse(x, &[axis])?;
            let y = this.reverse(y, &[axis])?;
            let up = this.reverse(up, &[axis])?;
            let flow = this.running_product(axis, [x, y], up)?;
            this.reverse(flow, &[axis])
        })
    }

    /// The product before each element, times what the products from it on make of the
    /// adjoint: `s[i] = up[i] + x[i + 1] * s[i + 1]`. No element is divided by, so zeros
    /// do no harm. The recurrence is solved by doubling: the step from `s[i + n]` to
    /// `s[i]` is one multiplication and one addition for any `n`.
    ///
    /// Source: Hillis and Steele, "Data parallel algorithms", Communications of the ACM
    /// 29(12), 1986, on the pairs of Blelloch, "Prefix sums and their applications", 1990,
    /// section 1.4.1 (first-order recurrences).
    fn running_product(&mut self, axis: usize, [x, y]: [NodeId; 2], up: NodeId) -> Emitted {
        let size = self.shape(x)[axis];
        let mut factor = self.moved(x, axis, -1, 0.0)?;
        let mut sum = up;
        let mut steps: i64 = 1;
        while usize::try_from(steps).is_ok_and(|steps| steps < size) {
            let next = self.moved(sum, axis, -steps, 0.0)?;
            let next = self.multiply(factor, next)?;
            sum = self.add(sum, next)?;
            let next = self.moved(factor, axis, -steps, 0.0)?;
            factor = self.multiply(factor, next)?;
            steps *= 2;
        }
        let before = self.moved(y, axis, 1, 1.0)?;
        self.multiply(before, sum)
    }

    /// The derivative of a `reduce-product`.
    pub(super) fn product(&mut self, x: NodeId, axes: &[usize], up: NodeId) -> Emitted {
        let dtype = self.ty(x).dtype;
        let x = self.convert(x, dtype.wide())?;
        let up = self.convert(up, dtype.wide())?;
        let flow = self.products_of_others(x, axes, up)?;
        self.convert(flow, dtype)
    }

    /// Axis by axis, from the last: the product of the elements before each one, times that
    /// of those behind it. No element is divided by, so this is exact where elements are 0,
    /// and so are its own derivatives.
    fn products_of_others(&mut self, x: NodeId, axes: &[usize], up: NodeId) -> Emitted {
        let Some((&axis, rest)) = axes.split_last() else {
            return Ok(up);
        };
        let mut up = up;
        if !rest.is_empty() {
            let products = self.reduce("reduce-product", x, &[axis])?;
            up = self.products_of_others(products, rest, up)?;
        }
        let shape = self.shape(x);
        let mut flow = self.spread(up, shape, &[axis])?;
        for (reverse, steps) in [(false, 1), (true, -1)] {
            let attributes = [("axis", integer(axis)), ("reverse", reverse.into())];
            let products = self.op_with("cumulative-product", &[x], &attributes)?;
            let beside = self.moved(products, axis, steps, 1.0)?;
            flow = self.multiply(flow, beside)?;
        }
        Ok(flow)
    }

    /// The elements moved along an axis, with `number` where none comes to.
    fn moved(&mut self, x: NodeId, axis: usize, steps: i64, number: f64) -> Emitted {
        let shape = self.shape(x);
        if shape[axis] == 0 {
            return Ok(x);
        }
        let fill = self.scalar(number, x)?;
        let amounts = |steps: i64| {
            let places = 0..shape.len();
            Attribute::Integers(
                places
                    .map(|place| if place == axis { steps } else { 0 })
                    .collect(),
            )
        };
        let attributes = [
            ("low", amounts(steps)),
            ("high", amounts(-steps)),
            ("interior", list(Dims::collect(shape.iter().map(|_| 0)))),
        ];
        self.op_with("pad", &[x, fill], &attributes)
    }
}
