//! Derivatives of operations that take or put elements at given positions.

use super::Backward;
use crate::emit::{Emit, Emitted, integer, list};
use crate::ir::NodeId;
use crate::shape::{Dims, TensorType};
use crate::{DType, ProgramError};

impl Backward {
    pub(super) fn take_along(
        &mut self,
        axis: usize,
        [data, indices]: [NodeId; 2],
        up: NodeId,
    ) -> Result<(), ProgramError> {
        self.add_to(data, |this| {
            let zeros = this.zeros_like(data)?;
            let axis = [("axis", integer(axis))];
            this.op_with("scatter-add-along-axis", &[zeros, indices, up], &axis)
        })
    }

    pub(super) fn scatter_add_along(
        &mut self,
        axis: usize,
        [data, indices, updates]: [NodeId; 3],
        up: NodeId,
    ) -> Result<(), ProgramError> {
        self.add_to(data, |_| Ok(up))?;
        self.add_to(updates, |this| {
            this.op_with(
                "take-along-axis",
                &[up, indices],
                &[("axis", integer(axis))],
            )
        })
    }

    pub(super) fn scatter_set(
        &mut self,
        axis: usize,
        [data, indices, updates]: [NodeId; 3],
        up: NodeId,
    ) -> Result<(), ProgramError> {
        self.add_to(data, |this| {
            let zeros = this.zeros_like(updates)?;
            let axis = [("axis", integer(axis))];
            this.op_with("scatter-set", &[up, indices, zeros], &axis)
        })?;
        self.add_to(updates, |this| {
            let written = this.last_writers(this.shape(data)[axis], indices)?;
            let flow = this.op_with("take", &[up, indices], &[("axis", integer(axis))])?;
            let shape = list(this.shape(flow));
            let axes = list(Dims::collect([axis]));
            let attributes = [("shape", shape), ("axes", axes)];
            let written = this.op_with("broadcast", &[written], &attributes)?;
            let zero = this.zeros_like(flow)?;
            this.op("select", &[written, flow, zero])
        })
    }

    /// For each index, whether no later one names the same of `rows` slices.
    fn last_writers(&mut self, rows: usize, indices: NodeId) -> Emitted {
        let typed = |shape: Dims| TensorType {
            dtype: DType::I32,
            shape,
        };
        let shape = self.shape(indices);
        let attributes = [
            ("dtype", DType::I32.name().into()),
            ("shape", list(shape)),
            ("axis", integer(0)),
        ];
        let own = self.op_with("iota", &[], &attributes)?;
        let none = self.fill(-1.0, typed(Dims::collect([rows])))?;
        let axis = [("axis", integer(0))];
        let last = self.op_with("scatter-set", &[none, indices, own], &axis)?;
        let last = self.op_with("take", &[last, indices], &axis)?;
        self.op("equal", &[last, own])
    }
}
