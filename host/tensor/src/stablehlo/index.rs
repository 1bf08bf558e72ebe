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
            vector: indices.rank(),
            ..slices(data.rank(), axis)
        };
        let indices = self.clamped(indices, data.shape[axis]);
        self.gather(data, &indices, &axes, &sizes, shape)
    }

    /// For each index, the element of its own line of `data` along `axis`.
    pub(super) fn take_along(&mut self, data: &Val, indices: &Val, axis: usize) -> Val {
        let axes = lines(data.rank(), axis);
        let indices = self.clamped(indices, data.shape[axis]);
        let sizes = vec![1; data.rank()];
        self.gather(data, &indices, &axes, &sizes, &indices.shape)
    }

    /// Adds slice `j` of `updates` to slice `indices[j]` of `data`.
    pub(super) fn scatter_add(&mut self, [data, indices, updates]: [&Val; 3], axis: usize) -> Val {
        let axes = slices(data.rank(), axis);
        self.add_at([data, indices, updates], axis, &axes)
    }

    /// Adds each element of `updates` to the one that its index names in its own line.
    pub(super) fn scatter_add_along(
        &mut self,
        [data, indices, updates]: [&Val; 3],
        axis: usize,
    ) -> Val {
        let axes = lines(data.rank(), axis);
        self.add_at([data, indices, updates], axis, &axes)
    }

    fn add_at(&mut self, [data, indices, updates]: [&Val; 3], axis: usize, axes: &Indexed) -> Val {
        if updates.elements() == 0 {
            return data.clone();
        }
        let indices = self.clamped(indices, data.shape[axis]);
        let [wide, added] = [self.widen(data), self.widen(updates)];
        let result = self.scatter(Some("add"), &wide, &indices, &added, axes);
        self.convert(&result, data.element)
    }

    /// Writes slice `j` of `updates` over slice `indices[j]` of `data`. StableHLO leaves
    /// open in which order, so only the last writer of a slice keeps its index, and the
    /// others get one out of range, which writes nothing.
    pub(super) fn scatter_set(&mut self, [data, indices, updates]: [&Val; 3], axis: usize) -> Val {
        if updates.elements() == 0 {
            return data.clone();
        }
        let rows = data.shape[axis];
        let indices = self.clamped(indices, rows);
        let indices = self.convert(&indices, Element::I32);
        let count = indices.shape.clone();
        let writer = self.iota(Element::I32, &count, 0);
        let nobody = self.integer(Element::I32, &[rows], -1);
        let line = slices(1, 0);
        let last = self.scatter(Some("maximum"), &nobody, &indices, &writer, &line);
        let last = self.take(&last, &indices, 0, &count);
        let writes = self.compare("EQ", &last, &writer);
        let nowhere = i64::try_from(rows).unwrap_or(i64::MAX);
        let nowhere = self.integer(Element::I32, &count, nowhere);
        let indices = self.select(&writes, &indices, &nowhere);
        let axes = slices(data.rank(), axis);
        self.scatter(None, data, &indices, updates, &axes)
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

/// A list of indices, each of a whole slice of the operand.
fn slices(rank: usize, axis: usize) -> Indexed {
    Indexed {
        offset: (0..rank).filter(|&other| other != axis).collect(),
        collapsed: vec![axis],
        map: vec![axis],
        vector: 1,
        ..Indexed::default()
    }
}

/// Indices of as many axes as the operand, each of one element of its own line.
fn lines(rank: usize, axis: usize) -> Indexed {
    let others: Vec<usize> = (0..rank).filter(|&other| other != axis).collect();
    Indexed {
        collapsed: vec![axis],
        operand_batch: others.clone(),
        index_batch: others,
        map: vec![axis],
        vector: rank,
        ..Indexed::default()
    }
}
