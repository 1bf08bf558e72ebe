//! Operations on shapes: views where a view can tell it, and copies of boxes elsewhere.

use super::{Lowering, Source, View};
use crate::cpu::{Assemble, Part, PlainOp, Shift, Shifted, ValueId};
use crate::ir::{NodeId, Padding, Slice};
use crate::shape::{Dims, TensorType};

impl Lowering<'_> {
    pub(super) fn slice(&self, slice: &Slice, operand: NodeId) -> Source {
        self.moved_view(operand, |view| {
            for (&start, &stride) in slice.starts.iter().zip(view.strides.iter()) {
                let steps = start.wrapping_mul(stride);
                view.offset = view.offset.wrapping_add(steps);
            }
            let strides = view.strides.iter().zip(slice.strides.iter());
            view.strides = Dims::collect(strides.map(|(&step, &of)| step.wrapping_mul(of)));
        })
    }

    pub(super) fn reverse(&self, axes: &[usize], operand: NodeId) -> Source {
        let shape = self.graph.nodes[operand].ty.shape;
        self.moved_view(operand, |view| {
            let strides = view.strides;
            for &axis in axes {
                let last = shape[axis].saturating_sub(1);
                let steps = last.wrapping_mul(strides[axis]);
                view.offset = view.offset.wrapping_add(steps);
            }
            let strides = strides.iter().enumerate();
            view.strides = Dims::collect(strides.map(|(axis, &stride)| {
                if axes.contains(&axis) {
                    stride.wrapping_neg()
                } else {
                    stride
                }
            }));
        })
    }

    fn moved_view(&self, operand: NodeId, change: impl FnOnce(&mut View)) -> Source {
        match self.source(operand) {
            Source::View(mut view) => {
                change(&mut view);
                Source::View(view)
            }
            literal @ Source::Literal(_) => literal,
        }
    }

    pub(super) fn concatenate(
        &mut self,
        axis: usize,
        operands: &[NodeId],
        ty: TensorType,
    ) -> Source {
        let mut parts = Vec::with_capacity(operands.len());
        let mut values = Vec::with_capacity(operands.len());
        let mut first = origin(&ty.shape);
        for &operand in operands {
            let extent = self.graph.nodes[operand].ty.shape;
            let (part, value) = self.part(operand, first);
            parts.push(part);
            values.push(value);
            let next = first.iter().enumerate();
            first = Dims::collect(
                next.map(|(place, &index)| index + if place == axis { extent[axis] } else { 0 }),
            );
        }
        self.assemble(parts, values, ty)
    }

    pub(super) fn pad(
        &mut self,
        padding: &Padding,
        operands: [NodeId; 2],
        ty: TensorType,
    ) -> Source {
        let (mut part, value) = self.part(operands[0], origin(&ty.shape));
        let rank = ty.shape.len();
        let mut kept = [Dims::default(), Dims::default(), Dims::default()];
        for axis in 0..rank {
            let step = padding.interior[axis] + 1;
            let (low, size) = (padding.low[axis], ty.shape[axis]);
            // Elements below and above the result are left out.
            let skipped = amount(low.min(0)).div_ceil(step);
            let first = amount(low.max(0)) + skipped * step - amount(low.min(0));
            let room = size.saturating_sub(first).div_ceil(step);
            let extent = part.extent[axis].saturating_sub(skipped).min(room);
            let steps = skipped.wrapping_mul(part.strides[axis]);
            part.offset = part.offset.wrapping_add(steps);
            kept[0].push(extent);
            kept[1].push(first);
            kept[2].push(step);
        }
        [part.extent, part.first, part.steps] = kept;
        let fill = self.in_memory(operands[1]);
        let assemble = Assemble {
            size: ty.dtype.size(),
            shape: ty.shape,
            parts: vec![part],
            filled: true,
            shift: None,
        };
        self.plain_on(PlainOp::Assemble(assemble), vec![value, fill], ty)
    }

    pub(super) fn dynamic_slice(&mut self, operands: [NodeId; 2], ty: TensorType) -> Source {
        let shape = self.graph.nodes[operands[0]].ty.shape;
        let (mut part, value) = self.part(operands[0], origin(&ty.shape));
        part.extent = ty.shape;
        let shift = (Shifted::Source, operands[1], shape, ty.shape);
        self.assemble_shifted(vec![part], vec![value], shift, ty)
    }

    pub(super) fn dynamic_update_slice(&mut self, operands: [NodeId; 3], ty: TensorType) -> Source {
        let update = self.graph.nodes[operands[1]].ty.shape;
        let parts = [0, 1].map(|place: usize| self.part(operands[place], origin(&ty.shape)));
        let values = parts.iter().map(|(_, value)| *value).collect();
        let parts = parts.iter().map(|(part, _)| *part).collect();
        let shift = (Shifted::Target, operands[2], ty.shape, update);
        self.assemble_shifted(parts, values, shift, ty)
    }

    /// A copy of the elements of a view in their order.
    pub(super) fn copied_view(&mut self, view: View, ty: TensorType) -> ValueId {
        self.read(view.value);
        let part = whole_part(view, ty.shape);
        let assemble = Assemble {
            size: ty.dtype.size(),
            shape: ty.shape,
            parts: vec![part],
            filled: false,
            shift: None,
        };
        let results = self.kernel(PlainOp::Assemble(assemble), vec![view.value], &[ty]);
        results[0]
    }

    /// A node as a part of a result, with its first element there.
    fn part(&mut self, node: NodeId, first: Dims) -> (Part, ValueId) {
        let ty = self.graph.nodes[node].ty;
        let view = match self.source(node) {
            Source::View(view) => view,
            literal @ Source::Literal(_) => {
                let scalar = TensorType {
                    shape: Dims::default(),
                    ..ty
                };
                let value = self.copy(literal, scalar);
                View::whole(value, &scalar.shape).with_strides(origin(&ty.shape))
            }
        };
        self.read(view.value);
        let part = Part {
            first,
            ..whole_part(view, ty.shape)
        };
        (part, view.value)
    }

    fn assemble(&mut self, parts: Vec<Part>, values: Vec<ValueId>, ty: TensorType) -> Source {
        let assemble = Assemble {
            size: ty.dtype.size(),
            shape: ty.shape,
            parts,
            filled: false,
            shift: None,
        };
        self.plain_on(PlainOp::Assemble(assemble), values, ty)
    }

    /// With the last part moved by `starts`, at most so far that a box of the inner shape
    /// stays inside the outer.
    fn assemble_shifted(
        &mut self,
        parts: Vec<Part>,
        mut values: Vec<ValueId>,
        (of, starts, outer, inner): (Shifted, NodeId, Dims, Dims),
        ty: TensorType,
    ) -> Source {
        let limits = outer.iter().zip(inner.iter());
        let shift = Shift {
            dtype: self.graph.nodes[starts].ty.dtype,
            limits: Dims::collect(limits.map(|(outer, inner)| outer - inner)),
            of,
        };
        values.push(self.in_memory(starts));
        let assemble = Assemble {
            size: ty.dtype.size(),
            shape: ty.shape,
            parts,
            filled: false,
            shift: Some(shift),
        };
        self.plain_on(PlainOp::Assemble(assemble), values, ty)
    }
}

/// All elements of a view of that shape, from the result's first one on.
fn whole_part(view: View, shape: Dims) -> Part {
    Part {
        extent: shape,
        offset: view.offset,
        strides: view.strides,
        first: origin(&shape),
        steps: Dims::collect(shape.iter().map(|_| 1)),
    }
}

/// A zero per dimension.
fn origin(shape: &Dims) -> Dims {
    Dims::collect(shape.iter().map(|_| 0))
}

/// The size of a padding, which is below `2^32`.
fn amount(padding: i64) -> usize {
    usize::try_from(padding.unsigned_abs()).unwrap_or(usize::MAX)
}
