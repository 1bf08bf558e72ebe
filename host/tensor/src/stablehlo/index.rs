//! Operations that look elements up by index.

use super::text::{Element, Indexed, Text, Val};

impl Text {
    /// Replaces `axis` of `data` by the shape of `indices`, which are clamped.
    pub(super) fn take(&mut self, data: &Val, indices: &Val, axis: usize, shape: &[usize]) -> Val {
        let mut sizes = data.shape.clone();
        sizes[axis] = 1;
        let behind = axis + indices.rank()..shape.len();
        let axes = Indexed {
            offset: (0..axis).chain(behind).collect(),
            collapsed: vec![axis],
            map: vec![axis],
            vector: indices.rank(),
            ..Indexed::default()
        };
        let indices = self.clamped(indices, data.shape[axis]);
        self.gather(data, &indices, &axes, &sizes, shape)
    }

    /// Combines slice `j` of `updates` into slice `indices[j]` of `data`.
    pub(super) fn scatter_slices(
        &mut self,
        name: &str,
        data: &Val,
        indices: &Val,
        updates: &Val,
        axis: usize,
    ) -> Val {
        if updates.elements() == 0 {
            return data.clone();
        }
        let axes = Indexed {
            offset: (0..data.rank()).filter(|&other| other != axis).collect(),
            collapsed: vec![axis],
            map: vec![axis],
            vector: 1,
            ..Indexed::default()
        };
        let indices = self.clamped(indices, data.shape[axis]);
        let [wide, added] = [self.widen(data), self.widen(updates)];
        let result = self.scatter(name, &wide, &indices, &added, &axes);
        self.convert(&result, data.element)
    }

    /// A new last axis that is 1 at the index and otherwise 0.
    pub(super) fn one_hot(&mut self, indices: &Val, element: Element, shape: &[usize]) -> Val {
        // In its own type, an index could equal a class modulo the type's range.
        let indices = self.convert(indices, Element::I64);
        let axes: Vec<usize> = (0..indices.rank()).collect();
        let indices = self.broadcast(&indices, shape, &axes);
        let classes = self.iota(Element::I64, shape, indices.rank() - 1);
        let hot = self.compare("EQ", &indices, &classes);
        self.convert(&hot, element)
    }

    /// The nearest valid indices of an axis of this size, which is not 0.
    pub(super) fn clamped(&mut self, indices: &Val, size: usize) -> Val {
        let last = i64::try_from(size - 1).unwrap_or(i64::MAX);
        let zero = self.integer(indices.element, &[], 0);
        let last = self.integer(indices.element, &[], last);
        let [zero, last] = [zero, last].map(|bound| self.broadcast(&bound, &indices.shape, &[]));
        self.map("clamp", &[&zero, indices, &last])
    }
}
