//! Operations that move elements, and those that combine along axes.

use super::{Var, integer, integers, shape_attribute};
use crate::compute::Attribute;
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

    /// Without `axes`, which have the size 1.
    pub fn squeeze(&self, axes: &[usize]) -> Self {
        let Some(shape) = self.without("squeeze", axes) else {
            return self.clone();
        };
        if axes.iter().any(|&axis| self.shape[axis] != 1) {
            return self.refused("squeeze", &format!("a value whose axes {axes:?} are 1"));
        }
        let attributes = vec![("axes", integers(axes))];
        self.graph
            .emit("squeeze", &[self], attributes, self.dtype, &shape)
    }

    /// With a new axis of size 1 before `axis`, or behind the last.
    pub fn unsqueeze(&self, axis: usize) -> Self {
        if axis > self.shape.len() {
            return self.refused("unsqueeze", &format!("a value with {axis} axes or more"));
        }
        let (before, behind) = self.shape.split_at(axis);
        self.reshape(&[before, &[1], behind].concat())
    }

    /// All axes from `axis` on as one.
    pub fn flatten(&self, axis: usize) -> Self {
        let Some((before, behind)) = self.shape.split_at_checked(axis) else {
            return self.refused("flatten", &format!("a value with an axis {axis}"));
        };
        let count = element_count(behind).unwrap_or(usize::MAX);
        self.reshape(&[before, &[count]].concat())
    }

    /// Itself and `others` one after the other along `axis`; they are equal but for it.
    pub fn concatenate(&self, others: &[&Self], axis: usize) -> Self {
        let first = self;
        let parts = &[&[self], others].concat();
        let mut shape = first.shape.to_vec();
        let alike = |part: &&&Self| {
            let mut sizes = part.shape.iter().zip(&*first.shape).enumerate();
            part.dtype == first.dtype
                && part.shape.len() == first.shape.len()
                && sizes.all(|(at, (left, right))| at == axis || left == right)
        };
        if let Some(other) = parts.iter().find(|part| !alike(part)) {
            let expected = format!("parts like {} along axis {axis}", first.described());
            return other.refused("concatenate", &expected);
        }
        let Some(size) = shape.get_mut(axis) else {
            return first.refused("concatenate", &format!("parts with an axis {axis}"));
        };
        *size = parts.iter().map(|part| part.shape[axis]).sum();
        let attributes = vec![("axis", integer(axis))];
        let graph = &first.graph;
        graph.emit("concatenate", parts, attributes, first.dtype, &shape)
    }

    /// Parts of these `sizes` along `axis`, which sum up to it.
    pub fn split(&self, axis: usize, sizes: &[usize]) -> Vec<Self> {
        if self.shape.get(axis) != Some(&sizes.iter().sum()) {
            let found = self.described();
            self.graph.fail(format!(
                "`split` of {found} along axis {axis} does not fit the sizes {sizes:?}"
            ));
            return vec![self.clone(); sizes.len()];
        }
        let attributes = vec![("axis", integer(axis)), ("sizes", integers(sizes))];
        let (graph, instruction) = self.graph.record("split", &[self], attributes);
        let results = (0..).zip(sizes).map(|(output, &size)| {
            let mut shape = self.shape.to_vec();
            shape[axis] = size;
            graph.result(instruction, output, self.dtype, &shape)
        });
        results.collect()
    }

    /// The elements `starts`, `starts + strides`, … below `limits`, per axis.
    pub fn slice(&self, starts: &[usize], limits: &[usize], strides: &[usize]) -> Self {
        let rank = self.shape.len();
        let fits = [starts.len(), limits.len(), strides.len()] == [rank; 3]
            && (0..rank).all(|axis| {
                starts[axis] <= limits[axis]
                    && limits[axis] <= self.shape[axis]
                    && strides[axis] > 0
            });
        if !fits {
            let found = self.described();
            self.graph.fail(format!(
                "`slice` of {found} does not fit {starts:?} to {limits:?} by {strides:?}"
            ));
            return self.clone();
        }
        let sizes = (0..rank).map(|axis| (limits[axis] - starts[axis]).div_ceil(strides[axis]));
        let shape: Vec<usize> = sizes.collect();
        let attributes = vec![
            ("starts", integers(starts)),
            ("limits", integers(limits)),
            ("strides", integers(strides)),
        ];
        self.graph
            .emit("slice", &[self], attributes, self.dtype, &shape)
    }

    /// The elements from `start` to below `limit` along `axis`.
    pub fn slice_axis(&self, axis: usize, start: usize, limit: usize) -> Self {
        if axis >= self.shape.len() {
            return self.refused("slice", &format!("a value with an axis {axis}"));
        }
        let (mut starts, mut limits) = (vec![0; self.shape.len()], self.shape.to_vec());
        (starts[axis], limits[axis]) = (start, limit);
        self.slice(&starts, &limits, &vec![1; self.shape.len()])
    }

    /// `value` put `low` times before and `high` times behind the elements of each axis,
    /// and `interior` times between them; negative `low` and `high` remove elements.
    pub fn pad(&self, value: f64, low: &[i64], high: &[i64], interior: &[usize]) -> Self {
        let rank = self.shape.len();
        let padded = |axis: usize| {
            let size = i64::try_from(self.shape[axis]).ok()?;
            let between = i64::try_from(interior[axis]).ok()?;
            let between = between.checked_mul((size - 1).max(0))?;
            let sum = size.checked_add(between)?.checked_add(low[axis])?;
            usize::try_from(sum.checked_add(high[axis])?).ok()
        };
        let fits = [low.len(), high.len(), interior.len()] == [rank; 3];
        let shape = fits.then(|| (0..rank).map(padded).collect::<Option<Vec<usize>>>());
        let Some(shape) = shape.flatten() else {
            let found = self.described();
            self.graph.fail(format!(
                "`pad` of {found} does not fit {low:?}, {high:?} and {interior:?}"
            ));
            return self.clone();
        };
        let value = self.graph.full(self.dtype, &[], value);
        let attributes = vec![
            ("low", Attribute::Integers(low.to_vec())),
            ("high", Attribute::Integers(high.to_vec())),
            ("interior", integers(interior)),
        ];
        self.graph
            .emit("pad", &[self, &value], attributes, self.dtype, &shape)
    }

    /// Its first and last elements along each axis, repeated `low` times before and `high`
    /// times behind.
    pub fn pad_edge(&self, low: &[usize], high: &[usize]) -> Self {
        let rank = self.shape.len();
        if [low.len(), high.len()] != [rank; 2] {
            let found = self.described();
            self.graph.fail(format!(
                "`pad-edge` of {found} does not fit {low:?} and {high:?}"
            ));
            return self.clone();
        }
        let sizes = (0..rank).map(|axis| {
            let size = self.shape[axis].saturating_add(low[axis]);
            size.saturating_add(high[axis])
        });
        let shape: Vec<usize> = sizes.collect();
        let attributes = vec![("low", integers(low)), ("high", integers(high))];
        self.graph
            .emit("pad-edge", &[self], attributes, self.dtype, &shape)
    }

    /// Its elements along `axes`, which increase, in the reverse order.
    pub fn reverse(&self, axes: &[usize]) -> Self {
        if self.without("reverse", axes).is_none() {
            return self.clone();
        }
        let attributes = vec![("axes", integers(axes))];
        self.graph
            .emit("reverse", &[self], attributes, self.dtype, &self.shape)
    }

    /// A slice of `sizes` that begins at the integers `starts` `[rank]`, which are clamped
    /// so that it fits.
    pub fn dynamic_slice(&self, starts: &Self, sizes: &[usize]) -> Self {
        const OP: &str = "dynamic-slice";
        let fits = sizes.len() == self.shape.len()
            && sizes.iter().zip(&*self.shape).all(|(size, of)| size <= of);
        if !fits {
            return self.refused(OP, &format!("a value of at least {sizes:?}"));
        }
        if !self.is_started_by(OP, starts) {
            return self.clone();
        }
        let attributes = vec![("sizes", integers(sizes))];
        self.graph
            .emit(OP, &[self, starts], attributes, self.dtype, sizes)
    }

    /// Itself with `update` written over the place that begins at the integers `starts`
    /// `[rank]`, which are clamped so that it fits.
    pub fn dynamic_update_slice(&self, update: &Self, starts: &Self) -> Self {
        const OP: &str = "dynamic-update-slice";
        let (sizes, shape) = (&update.shape, &self.shape);
        let fits =
            sizes.len() == shape.len() && sizes.iter().zip(&**shape).all(|(size, of)| size <= of);
        if !fits || update.dtype != self.dtype {
            let expected = format!("an update of at most {}", self.described());
            return update.refused(OP, &expected);
        }
        if !self.is_started_by(OP, starts) {
            return self.clone();
        }
        let operands = [self, update, starts];
        self.graph
            .emit(OP, &operands, vec![], self.dtype, &self.shape)
    }

    fn is_started_by(&self, op: &str, starts: &Self) -> bool {
        let rank = self.shape.len();
        let holds = starts.dtype.is_index() && *starts.shape == [rank];
        if !holds {
            starts.refused(op, &format!("starts of i32, i64 or u32 [{rank}]"));
        }
        holds
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
        let one_type = self.dtype.is_float() && self.dtype == other.dtype;
        if !one_type || left_rank < 1 || right_rank < 2 {
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
