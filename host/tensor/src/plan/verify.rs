//! A second look at every plan, by other means than those that made it.
//!
//! Kernels read and write one arena through raw pointers; that this is sound follows from
//! the plan. So each plan is replayed once, value by value, before it may run.

use std::collections::{BTreeMap, BTreeSet};

use super::{Lowered, Place, can_take_over, last_uses, reads_in_order};
use crate::cpu::{Kernel, ValueId};

/// Checks that no kernel writes to bytes that are still needed, or that it reads in
/// another order, that only the commit phase writes to states, and that nothing reads a
/// state after that.
///
/// # Panics
/// When the plan is wrong, which would be a mistake of the planner.
pub(super) fn check(lowered: &Lowered, places: &[Place], commit_from: usize) {
    let last_use = last_uses(lowered);
    let mut arena = Live::default();
    let mut replaced = BTreeSet::new();
    for (time, kernel) in lowered.kernels.iter().enumerate() {
        for value in kernel.reads() {
            match places[value] {
                Place::Arena(_) => {
                    let empty = lowered.values[value].ty.bytes() == 0;
                    assert!(empty || arena.holds(value), "read before it is written");
                }
                Place::State(state) => {
                    assert!(!replaced.contains(&state), "read after it is replaced");
                }
                Place::Nowhere | Place::NextState(_) => panic!("not readable"),
                _ => {}
            }
        }
        for value in kernel.writes() {
            match places[value] {
                // Nothing has no place that another could take.
                Place::Arena(_) if lowered.values[value].ty.bytes() == 0 => {}
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
                Place::NextState(state) => {
                    let Kernel::Fused(fused) = kernel else {
                        panic!("only fused kernels update in place");
                    };
                    assert!(time >= commit_from && reads_in_order(fused, state, lowered));
                    assert!(replaced.insert(state), "replaced twice");
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
        let before = self.parts.range(..offset + bytes).next_back();
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
