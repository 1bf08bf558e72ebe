//! Random numbers inside a program.
//!
//! They follow from a key (`u32` of shape `[2]`), a stream and their position alone:
//! [`super::Graph::next_stream`] gives each use a stream of its own.

use super::{Var, dtype_attribute, shape_attribute};
use crate::DType;
use crate::compute::Attribute;

impl Var {
    /// With itself as the key: random bits, as `u32`.
    pub fn random_bits(&self, shape: &[usize], stream: u32) -> Self {
        self.random("random-bits", vec![], DType::U32, shape, stream)
    }

    /// With itself as the key: floats that are at least 0 and below 1.
    pub fn random_uniform(&self, dtype: DType, shape: &[usize], stream: u32) -> Self {
        let attributes = vec![dtype_attribute(dtype)];
        self.random("random-uniform", attributes, dtype, shape, stream)
    }

    /// With itself as the key: normally distributed floats of mean 0 and deviation 1.
    pub fn random_normal(&self, dtype: DType, shape: &[usize], stream: u32) -> Self {
        let attributes = vec![dtype_attribute(dtype)];
        self.random("random-normal", attributes, dtype, shape, stream)
    }

    /// With itself as the key: `bool`s that are true with this `probability`.
    pub fn random_bernoulli(&self, probability: f64, shape: &[usize], stream: u32) -> Self {
        if !(0.0..=1.0).contains(&probability) {
            let message = format!("a probability must be from 0 to 1, but it is {probability}");
            self.graph.fail(message);
        }
        let attributes = vec![("probability", Attribute::Number(probability))];
        self.random("random-bernoulli", attributes, DType::Bool, shape, stream)
    }

    /// With itself as the key: the numbers below `size` in random order, as `i32`.
    pub fn random_permutation(&self, size: usize, stream: u32) -> Self {
        if !self.is_key("random-permutation") {
            return self.clone();
        }
        let attributes = vec![("size", super::integer(size)), stream_attribute(stream)];
        self.graph.emit(
            "random-permutation",
            &[self],
            attributes,
            DType::I32,
            &[size],
        )
    }

    /// With itself as the key: a new key, which follows from this one and the `u32` scalar
    /// `number`.
    pub fn random_fold(&self, number: &Self) -> Self {
        if !self.is_key("random-fold") {
            return self.clone();
        }
        if number.dtype != DType::U32 || !number.shape.is_empty() {
            return number.refused("random-fold", "a u32 scalar");
        }
        self.graph
            .emit("random-fold", &[self, number], vec![], DType::U32, &[2])
    }

    /// Each element 0 with probability `rate`, and otherwise divided by `1 - rate`, as
    /// `key` and `stream` draw it.
    pub fn dropout(&self, key: &Self, rate: f64, stream: u32) -> Self {
        if !self.dtype.is_float() {
            return self.refused("dropout", "floats");
        }
        if !(0.0..1.0).contains(&rate) {
            let message =
                format!("a rate of dropout must be at least 0 and less than 1, but it is {rate}");
            self.graph.fail(message);
        }
        if !key.is_key("dropout") {
            return self.clone();
        }
        let attributes = vec![("rate", Attribute::Number(rate)), stream_attribute(stream)];
        self.graph
            .emit("dropout", &[self, key], attributes, self.dtype, &self.shape)
    }

    fn random(
        &self,
        op: &str,
        mut attributes: Vec<(&str, Attribute)>,
        dtype: DType,
        shape: &[usize],
        stream: u32,
    ) -> Self {
        if !self.is_key(op) {
            return self.clone();
        }
        attributes.push(shape_attribute(shape));
        attributes.push(stream_attribute(stream));
        self.graph.emit(op, &[self], attributes, dtype, shape)
    }

    fn is_key(&self, op: &str) -> bool {
        let holds = self.dtype == DType::U32 && *self.shape == [2];
        if !holds {
            self.refused(op, "a key of u32 [2]");
        }
        holds
    }
}

fn stream_attribute(stream: u32) -> (&'static str, Attribute) {
    ("stream", Attribute::Integer(stream.into()))
}
