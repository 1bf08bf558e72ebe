//! Operations that move elements, and those that combine along axes.

use super::{Var, integer, integers, shape_attribute};
use crate::DType;
use crate::tensor::element_count;

impl Var {
    /// Its elements, in row-major order, in another shape of as many elements.
    pub fn reshape(&self, shape: &[usize]) -> Self {
        let count = element_count(shape);
        if count.is_none() || count != element_count(&self.shape) {
            let from = &self.shape;
            self.graph
                .fail(format!("a shape of {from:?} cannot become {shape:?}"));
            return self.clone();
        }
        if *shape == *self.shape {
            return self.clone();
        }
        let attributes = vec![shape_attribute(shape)];
        self.graph
            .emit("reshape", &[self], attributes, self.dtype, shape)
    }

    /// Its axes in another order: axis `i` of the result is axis `permutation[i]`.
    pub fn transpose(&self, permutation: &[usize]) -> Self {
        let mut sorted = permutation.to_vec();
        sorted.sort_unstable();
        if !sorted.into_iter().eq(0..self.shape.len()) {
            let shape = &self.shape;
            self.graph.fail(format!(
                "the axes of {shape:?} cannot be put into the order {permutation:?}"
            ));
            return self.clone();
        }
        let shape: Vec<usize> = permutation.iter().map(|&axis| self.shape[axis]).collect();
        let attributes = vec![("permutation", integers(permutation))];
        self.graph
            .emit("transpose", &[self], attributes, self.dtype, &shape)
    }

    /// Repeats it to `shape`: axes are matched from the last, and an axis that is absent
    /// or 1 is repeated. Records nothing when it has the shape already.
    pub fn broadcast_to(&self, shape: &[usize]) -> Self {
        if *shape == *self.shape {
            return self.clone();
        }
        let fits = |(&from, &to): (&usize, &usize)| from == to || from == 1;
        let pairs = self.shape.iter().rev().zip(shape.iter().rev());
        if self.shape.len() > shape.len() || !pairs.into_iter().all(fits) {
            let from = &self.shape;
            self.graph.fail(format!(
                "a shape of {from:?} cannot be repeated to {shape:?}"
            ));
            return self.clone();
        }
        let axes: Vec<usize> = (shape.len() - self.shape.len()..shape.len()).collect();
        let attributes = vec![shape_attribute(shape), ("axes", integers(&axes))];
        self.graph
            .emit("broadcast", &[self], attributes, self.dtype, shape)
    }

    /// The matrix product of `[…, m, k]` and `[…, k, n]`; the axes before the last two are
    /// the same, or absent from `other`.
    pub fn matmul(&self, other: &Self) -> Self {
        self.dot("matmul", other, 1)
    }

    /// The matrix product of `[…, m, k]` and the transpose of `[…, n, k]`: what a layer
    /// does whose weight is stored as `[out, in]`.
    pub fn matmul_transposed(&self, other: &Self) -> Self {
        self.dot("matmul_transposed", other, 0)
    }

    /// The slices of `axis` that the integers `indices` name; the axis is replaced by
    /// their shape. An index out of range is clamped.
    pub fn take(&self, indices: &Self, axis: usize) -> Self {
        if !matches!(indices.dtype, DType::I32 | DType::I64 | DType::U32) {
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

    /// Itself with slice `j` of `updates` added at index `indices[j]` of `axis`.
    pub fn scatter_add(&self, indices: &Self, updates: &Self, axis: usize) -> Self {
        if !matches!(indices.dtype, DType::I32 | DType::I64 | DType::U32) {
            return indices.refused("scatter-add", "indices of i32, i64 or u32");
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
                "`scatter-add` along axis {axis} of {data} does not fit indices {indices} and updates {updates}"
            ));
            return self.clone();
        }
        let attributes = vec![("axis", integer(axis))];
        let operands = [self, indices, updates];
        self.graph.emit(
            "scatter-add",
            &operands,
            attributes,
            self.dtype,
            &self.shape,
        )
    }

    /// The shape both can be repeated to; none, and a mistake, when there is none.
    pub(super) fn common_shape(&self, other: &Self) -> Option<Vec<usize>> {
        let (left, right) = (&*self.shape, &*other.shape);
        let rank = left.len().max(right.len());
        let size = |shape: &[usize], axis: usize| {
            let absent = rank - shape.len();
            axis.checked_sub(absent).map_or(1, |axis| shape[axis])
        };
        let sizes = (0..rank).map(|axis| match (size(left, axis), size(right, axis)) {
            (left, right) if left == right => Some(left),
            (1, size) | (size, 1) => Some(size),
            _ => None,
        });
        let common: Option<Vec<usize>> = sizes.collect();
        if common.is_none() {
            self.graph.fail(format!(
                "shapes {left:?} and {right:?} cannot be broadcast together"
            ));
        }
        common
    }

    /// A matrix product that sums over the last axis of `self` and, of the last two axes
    /// of `other`, the first (`kept` 1) or the second (`kept` 0).
    fn dot(&self, name: &str, other: &Self, kept: usize) -> Self {
        let mistake = || {
            let (left, right) = (self.described(), other.described());
            self.graph
                .fail(format!("`{name}` of {left} and {right} does not fit"));
            self.clone()
        };
        let (left_rank, right_rank) = (self.shape.len(), other.shape.len());
        if !self.dtype.is_float() || other.dtype != self.dtype || left_rank < 1 || right_rank < 2 {
            return mistake();
        }
        let batch_rank = right_rank - 2;
        let (contracted, kept) = (batch_rank + 1 - kept, batch_rank + kept);
        let fits = left_rank > batch_rank
            && self.shape[..batch_rank] == other.shape[..batch_rank]
            && self.shape[left_rank - 1] == other.shape[contracted];
        if !fits {
            return mistake();
        }
        let batch: Vec<usize> = (0..batch_rank).collect();
        let attributes = vec![
            ("lhs-batch", integers(&batch)),
            ("rhs-batch", integers(&batch)),
            ("lhs-contract", integers(&[left_rank - 1])),
            ("rhs-contract", integers(&[contracted])),
        ];
        let shape = [&self.shape[..left_rank - 1], &[other.shape[kept]]].concat();
        self.graph.emit(
            "dot-general",
            &[self, other],
            attributes,
            self.dtype,
            &shape,
        )
    }
}
