//! Operations that look elements up by their index.

use super::{Var, dtype_attribute, integer};
use crate::DType;

impl Var {
    /// The slices of `axis` that the integers `indices` name; the axis is replaced by
    /// their shape. An index out of range is clamped.
    pub fn take(&self, indices: &Self, axis: usize) -> Self {
        if !indices.dtype.is_index() {
            return indices.refused("take", "indices of i32, i64 or u32");
        }
        if axis >= self.shape.len() {
            return self.refused("take", &format!("a value with an axis {axis}"));
        }
        let shape = [&self.shape[..axis], &indices.shape, &self.shape[axis + 1..]].concat();
        let attributes = vec![("axis", integer(axis))];
        self.graph
            .emit("take", &[self, indices], attributes, self.dtype, &shape)
    }

    /// In each line along `axis`, the elements that the integers `indices` name there;
    /// `indices` has its shape but along `axis`. An index out of range is clamped.
    ///
    /// PyTorch's `gather`.
    pub fn take_along_axis(&self, indices: &Self, axis: usize) -> Self {
        if !self.indexes_lines("take-along-axis", indices, axis) {
            return self.clone();
        }
        let attributes = vec![("axis", integer(axis))];
        let (operands, shape) = ([self, indices], &indices.shape);
        self.graph
            .emit("take-along-axis", &operands, attributes, self.dtype, shape)
    }

    /// Itself with slice `j` of `updates` added at index `indices[j]` of `axis`, in the
    /// order of `j`. An index out of range is clamped.
    ///
    /// PyTorch's `index_add`.
    pub fn scatter_add(&self, indices: &Self, updates: &Self, axis: usize) -> Self {
        if self.dtype == DType::Bool {
            return self.refused("scatter-add", "numbers");
        }
        self.scattered("scatter-add", indices, updates, axis)
    }

    /// Itself with slice `j` of `updates` written over that at index `indices[j]` of
    /// `axis`, in the order of `j`. An index out of range is clamped.
    ///
    /// PyTorch's `index_copy`.
    pub fn scatter_set(&self, indices: &Self, updates: &Self, axis: usize) -> Self {
        self.scattered("scatter-set", indices, updates, axis)
    }

    /// Itself with each of `updates` added in its own line along `axis`, at the index that
    /// `indices`, of the shape of `updates`, has there. An index out of range is clamped.
    ///
    /// PyTorch's `scatter_add`.
    pub fn scatter_add_along_axis(&self, indices: &Self, updates: &Self, axis: usize) -> Self {
        const OP: &str = "scatter-add-along-axis";
        if self.dtype == DType::Bool {
            return self.refused(OP, "numbers");
        }
        if !self.indexes_lines(OP, indices, axis) {
            return self.clone();
        }
        if updates.dtype != self.dtype || updates.shape != indices.shape {
            let (dtype, shape) = (self.dtype, &indices.shape);
            return updates.refused(OP, &format!("updates of {dtype} {shape:?}"));
        }
        let attributes = vec![("axis", integer(axis))];
        let operands = [self, indices, updates];
        self.graph
            .emit(OP, &operands, attributes, self.dtype, &self.shape)
    }

    /// A new last axis of `classes`, 1 at the element's number and 0 elsewhere; a number
    /// out of range gives zeros only. For integers.
    pub fn one_hot(&self, classes: usize, dtype: DType) -> Self {
        if !self.dtype.is_integer() {
            return self.refused("one-hot", "integers");
        }
        let shape = [&*self.shape, &[classes]].concat();
        let attributes = vec![("classes", integer(classes)), dtype_attribute(dtype)];
        self.graph
            .emit("one-hot", &[self], attributes, dtype, &shape)
    }

    /// Whether `indices` can index lines along `axis`; a mistake when not.
    fn indexes_lines(&self, op: &str, indices: &Self, axis: usize) -> bool {
        if !indices.dtype.is_index() {
            indices.refused(op, "indices of i32, i64 or u32");
            return false;
        }
        let same_rank = indices.shape.len() == self.shape.len() && axis < self.shape.len();
        let mut sizes = indices.shape.iter().zip(&*self.shape).enumerate();
        if !same_rank || !sizes.all(|(at, (left, right))| at == axis || left == right) {
            let [data, indices] = [self, indices].map(Self::described);
            self.graph.fail(format!(
                "`{op}` along axis {axis} of {data} does not fit indices {indices}"
            ));
            return false;
        }
        true
    }

    fn scattered(&self, op: &str, indices: &Self, updates: &Self, axis: usize) -> Self {
        if !indices.dtype.is_index() {
            return indices.refused(op, "indices of i32, i64 or u32");
        }
        let mut expected = self.shape.to_vec();
        let fits = match (expected.get_mut(axis), &*indices.shape) {
            (Some(size), [count]) => {
                *size = *count;
                updates.dtype == self.dtype && *updates.shape == *expected
            }
            _ => false,
        };
        if !fits {
            let [data, indices, updates] = [self, indices, updates].map(Self::described);
            self.graph.fail(format!(
                "`{op}` along axis {axis} of {data} does not fit indices {indices} and updates {updates}"
            ));
            return self.clone();
        }
        let attributes = vec![("axis", integer(axis))];
        let operands = [self, indices, updates];
        self.graph
            .emit(op, &operands, attributes, self.dtype, &self.shape)
    }
}
