//! Operations that compare or combine the elements along one axis.

use super::{Var, integer};
use crate::DType;
use crate::compute::Attribute;

/// Elements in order, and where each was.
#[derive(Debug, Clone)]
pub struct Ordered {
    /// The elements.
    pub values: Var,
    /// The index that each had along the axis, as `i32`.
    pub indices: Var,
}

impl Var {
    /// Where along `axis` the largest element is, as `i32`; the first of equals. A NaN
    /// wins over every number.
    pub fn arg_max(&self, axis: usize) -> Self {
        self.arg("arg-max", axis)
    }

    /// Where along `axis` the smallest element is, as `i32`; the first of equals. A NaN
    /// wins over every number.
    pub fn arg_min(&self, axis: usize) -> Self {
        self.arg("arg-min", axis)
    }

    /// The sum of the elements along `axis` up to and with each.
    pub fn cumulative_sum(&self, axis: usize) -> Self {
        self.cumulative("cumulative-sum", axis, false)
    }

    /// The sum of the elements along `axis` from each on.
    pub fn cumulative_sum_reversed(&self, axis: usize) -> Self {
        self.cumulative("cumulative-sum", axis, true)
    }

    /// The product of the elements along `axis` up to and with each.
    pub fn cumulative_product(&self, axis: usize) -> Self {
        self.cumulative("cumulative-product", axis, false)
    }

    /// The product of the elements along `axis` from each on.
    pub fn cumulative_product_reversed(&self, axis: usize) -> Self {
        self.cumulative("cumulative-product", axis, true)
    }

    /// The elements along `axis` from small to large, NaN last; equals keep their order.
    pub fn sort(&self, axis: usize) -> Ordered {
        self.sorted(axis, false)
    }

    /// The elements along `axis` from large to small, NaN first; equals keep their order.
    pub fn sort_descending(&self, axis: usize) -> Ordered {
        self.sorted(axis, true)
    }

    /// The `count` largest elements along `axis`, from large to small.
    pub fn top_k(&self, axis: usize, count: usize) -> Ordered {
        if self.shape.get(axis).is_none_or(|&size| size < count) {
            self.refused("top-k", &format!("at least {count} elements along {axis}"));
            return self.unordered();
        }
        let mut shape = self.shape.to_vec();
        shape[axis] = count;
        let attributes = vec![("axis", integer(axis)), ("k", integer(count))];
        self.ordered("top-k", attributes, &shape)
    }

    fn arg(&self, op: &str, axis: usize) -> Self {
        if self.dtype == DType::Bool {
            return self.refused(op, "numbers");
        }
        let Some(shape) = self.without(op, &[axis]) else {
            return self.clone();
        };
        let attributes = vec![("axis", integer(axis))];
        self.graph.emit(op, &[self], attributes, DType::I32, &shape)
    }

    fn cumulative(&self, op: &str, axis: usize, reverse: bool) -> Self {
        if self.dtype == DType::Bool {
            return self.refused(op, "numbers");
        }
        if self.without(op, &[axis]).is_none() {
            return self.clone();
        }
        let attributes = vec![
            ("axis", integer(axis)),
            ("reverse", Attribute::Flag(reverse)),
        ];
        self.graph
            .emit(op, &[self], attributes, self.dtype, &self.shape)
    }

    fn sorted(&self, axis: usize, descending: bool) -> Ordered {
        if self.without("sort", &[axis]).is_none() {
            return self.unordered();
        }
        let attributes = vec![
            ("axis", integer(axis)),
            ("descending", Attribute::Flag(descending)),
        ];
        self.ordered("sort", attributes, &self.shape)
    }

    fn ordered(&self, op: &str, attributes: Vec<(&str, Attribute)>, shape: &[usize]) -> Ordered {
        if self.dtype == DType::Bool {
            self.refused(op, "numbers");
            return self.unordered();
        }
        let types = [(self.dtype, shape), (DType::I32, shape)];
        let [values, indices] = self.graph.emit_all(op, &[self], attributes, types);
        Ordered { values, indices }
    }

    /// What stands for the answer after a mistake.
    fn unordered(&self) -> Ordered {
        Ordered {
            values: self.clone(),
            indices: self.clone(),
        }
    }
}
