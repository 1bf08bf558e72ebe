//! Operations that depend on the order of elements along an axis.

use super::text::{Element, Text, Val};
use crate::ir::Cumulative;

impl Text {
    /// Combines each element with the one 1, 2, 4, … before it, so the number of steps
    /// grows with the logarithm of the axis.
    ///
    /// Source: Hillis and Steele, "Data parallel algorithms", Communications of the ACM
    /// 29(12), 1986.
    pub(super) fn running(&mut self, x: &Val, cumulative: Cumulative) -> Val {
        let Cumulative {
            product,
            axis,
            reverse,
        } = cumulative;
        let (name, identity) = if product { ("multiply", 1) } else { ("add", 0) };
        let mut result = self.widen(x);
        let identity = self.integer(result.element, &[], identity);
        let (size, rank) = (x.shape[axis], x.rank());
        let mut distance = 1;
        while distance < size {
            let (mut low, mut high) = (vec![0; rank], vec![0; rank]);
            let away = i64::try_from(distance).unwrap_or(i64::MAX);
            let (start, limit) = if reverse {
                high[axis] = away;
                (distance, size)
            } else {
                low[axis] = away;
                (0, size - distance)
            };
            let before = self.slice_axis(&result, axis, start, limit);
            let before = self.pad(&before, &identity, &low, &high, &vec![0; rank], &x.shape);
            result = self.map(name, &[&before, &result]);
            distance *= 2;
        }
        self.convert(&result, x.element)
    }

    /// The elements in order, NaN as the greatest, and where they were.
    pub(super) fn sorted(&mut self, x: &Val, axis: usize, descending: bool) -> [Val; 2] {
        let positions = self.iota(Element::I32, &x.shape, axis);
        self.sort_pairs(x, &positions, axis, |text, a, b| {
            let (first, second) = if descending { (b, a) } else { (a, b) };
            let less = text.compare("LT", first, second);
            if !x.element.is_float() {
                return less;
            }
            let number = text.compare("EQ", first, first);
            let nan = text.compare("NE", second, second);
            let below_nan = text.map("and", &[&number, &nan]);
            text.map("or", &[&less, &below_nan])
        })
    }

    /// The first `k` of both results of a descending sort.
    pub(super) fn top_k(&mut self, x: &Val, axis: usize, k: usize) -> [Val; 2] {
        let sorted = self.sorted(x, axis, true);
        sorted.map(|result| self.slice_axis(&result, axis, 0, k))
    }
}
