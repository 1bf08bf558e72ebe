//! A second look at every plan, by other means than those that made it.
//!
//! Kernels read and write one arena through raw pointers; that this is sound follows from
//! the plan. So each plan is replayed once, value by value, before it may run.

use std::collections::BTreeMap;

use super::{Lowered, Place, can_take_over, last_uses};
use crate::cpu::{Kernel, ValueId};

/// Checks that no kernel writes to bytes that are still needed, or that it reads in
/// another order, and that only the commit phase writes to states.
///
/// # Panics
/// When the plan is wrong, which would be a mistake of the planner.
pub(super) fn check(lowered: &Lowered, places: &[Place], commit_from: usize) {
    let last_use = last_uses(lowered);
    let mut arena = Live::default();
    for (time, kernel) in lowered.kernels.iter().enumerate() {
        for value in kernel.reads() {
            match places[value] {
                Place::Arena(_) => {
                    let empty = lowered.values[value].ty.bytes() == 0;
                    assert!(empty || arena.holds(value), "read before it is written");
                }
                Place::Nowhere | Place::NextState(_) => panic!("not readable"),
                _ => {}
            }
        }
        for value in kernel.writes() {
            match places[value] {
                Place::Arena(offset) => {
                    let bytes = lowered.values[value].ty.bytes();
                    let may_replace = |other: ValueId, start: usize, length: usize| {
                        start == offset
                            && length == bytes
                            && last_use[other] == time
                            && kernel.reads().contains(&other)
                            && can_take_over(kernel, other)
                    };
                    arena.add(value, offset, bytes, may_replace);
                }
                Place::Output(_) => {}
                Place::NextState(_) => {
                    assert!(time >= commit_from && matches!(kernel, Kernel::Fused(_)));
                }
                _ => panic!("not writable"),
            }
        }
        arena.forget(|value| last_use[value] == time, kernel);
    }
}

/// The values that are needed at one time.
#[derive(Default)]
struct Live {
    /// Value and length by offset; parts do not overlap.
    parts: BTreeMap<usize, (ValueId, usize)>,
    offsets: BTreeMap<ValueId, usize>,
}

impl Live {
    fn holds(&self, value: ValueId) -> bool {
        self.offsets.contains_key(&value)
    }

    fn add(
        &mut self,
        value: ValueId,
        offset: usize,
        bytes: usize,
        may_replace: impl Fn(ValueId, usize, usize) -> bool,
    ) {
        let before = self.parts.range(..offset + bytes.max(1)).next_back();
        if let Some((&start, &(other, length))) = before
            && start + length > offset
        {
            assert!(may_replace(other, start, length), "two values overlap");
            self.offsets.remove(&other);
        }
        self.parts.insert(offset, (value, bytes));
        self.offsets.insert(value, offset);
    }

    fn forget(&mut self, ended: impl Fn(ValueId) -> bool, kernel: &Kernel) {
        for value in kernel.reads().into_iter().chain(kernel.writes()) {
            if ended(value)
                && let Some(offset) = self.offsets.remove(&value)
            {
                self.parts.remove(&offset);
            }
        }
    }
}
