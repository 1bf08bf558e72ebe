//! Operations that depend on the order of elements along an axis.

use super::{Lowering, Source, View, after};
use crate::DType;
use crate::cpu::{Order, PlainOp, Running};
use crate::ir::{Cumulative, NodeId};
use crate::shape::{Dims, TensorType};

impl Lowering<'_> {
    pub(super) fn cumulative(
        &mut self,
        cumulative: Cumulative,
        operand: NodeId,
        ty: TensorType,
    ) -> Source {
        let Cumulative {
            product,
            axis,
            reverse,
        } = cumulative;
        // Half types are combined in single precision.
        let wide = ty.widened();
        let running = Running {
            dtype: wide.dtype,
            product,
            reverse,
            size: ty.shape[axis],
            inner: after(&ty.shape, axis),
        };
        let value = self.widened_in_memory(operand);
        let result = self.plain_on(PlainOp::Running(running), vec![value], wide);
        self.rounded(result, ty)
    }

    /// The first `kept` elements of an order, and their positions. The kernel works on
    /// rows, so the axis becomes the last one; the results are views of its results.
    pub(super) fn order(
        &mut self,
        (axis, kept, descending): (usize, usize, bool),
        operand: NodeId,
        node: NodeId,
    ) -> Source {
        let ty = self.graph.nodes[operand].ty;
        let rank = ty.shape.len();
        let others = (0..rank).filter(|&other| other != axis);
        let order: Vec<usize> = others.chain([axis]).collect();
        let value = if axis + 1 == rank {
            self.in_memory(operand)
        } else {
            let view = match self.source(operand) {
                Source::View(view) => view,
                Source::Literal(_) => View::whole(self.in_memory(operand), &ty.shape),
            };
            let copy = self.copy_in_order(view, &ty, &order);
            self.read(copy.value);
            copy.value
        };
        let kernel = Order {
            dtype: ty.dtype,
            size: ty.shape[axis],
            kept,
            descending,
        };
        let rows = ty.shape.without(&[axis]);
        let mut moved = rows;
        moved.push(kept);
        let mut types = self.graph.result_types(node);
        for ty in &mut types {
            ty.shape = moved;
        }
        let bytes = rows.product().saturating_mul(kernel.workspace());
        types.push(TensorType {
            dtype: DType::U8,
            shape: Dims::collect([bytes]),
        });
        let results = self.kernel(PlainOp::Order(kernel), vec![value], &types);
        let packed = moved.row_major_strides();
        let strides = Dims::collect((0..rank).map(|place| {
            let moved = order.iter().position(|&axis| axis == place);
            packed[moved.unwrap_or(place)]
        }));
        for (place, &result) in results[..2].iter().enumerate() {
            let view = View::whole(result, &moved).with_strides(strides);
            self.sources[node + place] = Some(Source::View(view));
        }
        self.source(node)
    }
}
