//! Operations that put elements to other places.

use super::text::{Element, Text, Val};
use crate::ir::{Padding, Slice};

impl Text {
    pub(super) fn concatenated(&mut self, parts: &[&Val], axis: usize) -> Val {
        let parts = parts.iter().filter(|part| part.elements() > 0);
        let parts: Vec<Val> = parts.map(|&part| part.clone()).collect();
        match parts.as_slice() {
            [only] => only.clone(),
            parts => self.concatenate(parts, axis),
        }
    }

    /// The elements of a slice whose shape is known and has elements.
    pub(super) fn strided(&mut self, x: &Val, slice: &Slice, shape: &[usize]) -> Val {
        let axes = shape
            .iter()
            .zip(slice.starts.iter().zip(slice.strides.iter()));
        let limits: Vec<usize> = axes
            .map(|(size, (start, stride))| start + (size - 1) * stride + 1)
            .collect();
        self.slice(x, &slice.starts, &limits, &slice.strides)
    }

    pub(super) fn padded(
        &mut self,
        x: &Val,
        value: &Val,
        padding: &Padding,
        shape: &[usize],
    ) -> Val {
        if x.elements() == 0 {
            return self.broadcast(value, shape, &[]);
        }
        let Padding {
            low,
            high,
            interior,
        } = padding;
        self.pad(x, value, low, high, interior, shape)
    }

    pub(super) fn dynamic_slice_at(&mut self, x: &Val, starts: &Val, sizes: &[usize]) -> Val {
        if x.rank() == 0 {
            return x.clone();
        }
        let starts = self.starts(starts, &x.shape, sizes);
        self.dynamic_slice(x, &starts, sizes)
    }

    pub(super) fn dynamic_update_at(&mut self, x: &Val, update: &Val, starts: &Val) -> Val {
        if x.rank() == 0 {
            return update.clone();
        }
        if update.elements() == 0 {
            return x.clone();
        }
        let starts = self.starts(starts, &x.shape, &update.shape);
        self.dynamic_update_slice(x, update, &starts)
    }

    /// One index per axis, clamped so that so many elements fit behind it.
    fn starts(&mut self, starts: &Val, shape: &[usize], sizes: &[usize]) -> Vec<Val> {
        let mut list = Vec::with_capacity(shape.len());
        for (axis, (whole, size)) in shape.iter().zip(sizes).enumerate() {
            let start = self.slice_axis(starts, 0, axis, axis + 1);
            let start = self.reshape(&start, &[]);
            // In their own type: as a signed number, a large index could be negative.
            let start = self.clamped(&start, whole - size + 1);
            list.push(self.convert(&start, Element::I64));
        }
        list
    }
}
