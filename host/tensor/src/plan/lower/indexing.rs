//! Operations that take or put elements at positions which are operands.

use super::{Lowering, Source, after};
use crate::DType;
use crate::cpu::{
    PlainOp, ScatterAdd, ScatterAddAlong, ScatterSet, Slices, TakeAlong, TileOp, ValueId, evaluate,
};
use crate::ir::{Element, Literal, NodeId};
use crate::shape::TensorType;

impl Lowering<'_> {
    pub(super) fn take_along(
        &mut self,
        axis: usize,
        operands: &[NodeId],
        ty: TensorType,
    ) -> Source {
        let data = self.graph.nodes[operands[0]].ty;
        let take = TakeAlong {
            size: ty.dtype.size(),
            index_dtype: self.graph.nodes[operands[1]].ty.dtype,
            rows: data.shape[axis],
            taken: ty.shape[axis],
            row: after(&ty.shape, axis),
        };
        self.plain(PlainOp::TakeAlong(take), operands, ty)
    }

    pub(super) fn scatter_set(
        &mut self,
        axis: usize,
        operands: &[NodeId],
        ty: TensorType,
    ) -> Source {
        let fill = self.fill(operands[0]);
        let operands = &operands[usize::from(fill.is_some())..];
        let scatter = ScatterSet {
            size: ty.dtype.size(),
            slices: self.slices(fill, axis, ty, operands),
        };
        self.plain(PlainOp::ScatterSet(scatter), operands, ty)
    }

    pub(super) fn scatter_add(
        &mut self,
        axis: usize,
        operands: &[NodeId],
        ty: TensorType,
    ) -> Source {
        let kernel = |dtype, slices| PlainOp::ScatterAdd(ScatterAdd { dtype, slices });
        self.sums(axis, operands, ty, kernel)
    }

    pub(super) fn scatter_add_along(
        &mut self,
        axis: usize,
        operands: &[NodeId],
        ty: TensorType,
    ) -> Source {
        let kernel = |dtype, slices| PlainOp::ScatterAddAlong(ScatterAddAlong { dtype, slices });
        self.sums(axis, operands, ty, kernel)
    }

    /// A scatter that adds. The sums of half types are kept in single precision and
    /// rounded once.
    fn sums(
        &mut self,
        axis: usize,
        operands: &[NodeId],
        ty: TensorType,
        kernel: impl FnOnce(DType, Slices) -> PlainOp,
    ) -> Source {
        let wide = ty.widened();
        let fill = self.fill(operands[0]).map(|literal| {
            let convert = TileOp::Element(Element::Convert);
            evaluate(convert, ty.dtype, wide.dtype, [literal.element(), &[], &[]])
        });
        let mut values: Vec<ValueId> = Vec::with_capacity(3);
        if fill.is_none() {
            values.push(self.widened_in_memory(operands[0]));
        }
        values.push(self.in_memory(operands[1]));
        values.push(self.widened_in_memory(operands[2]));
        let slices = self.slices(fill, axis, ty, &operands[1..]);
        let sums = self.plain_on(kernel(wide.dtype, slices), values, wide);
        self.rounded(sums, ty)
    }

    /// What the data is everywhere, if it is a constant.
    fn fill(&self, data: NodeId) -> Option<Literal> {
        match self.source(data) {
            Source::Literal(literal) => Some(literal),
            Source::View(_) => None,
        }
    }

    /// What a scatter over data of type `ty` needs to know; the last two operands are the
    /// indices and the updates.
    fn slices(
        &self,
        fill: Option<Literal>,
        axis: usize,
        ty: TensorType,
        operands: &[NodeId],
    ) -> Slices {
        let [.., indices, updates] = *operands else {
            unreachable!("the rule asks for three operands");
        };
        Slices {
            fill,
            index_dtype: self.graph.nodes[indices].ty.dtype,
            rows: ty.shape[axis],
            updates: self.graph.nodes[updates].ty.shape[axis],
            row: after(&ty.shape, axis),
        }
    }
}
