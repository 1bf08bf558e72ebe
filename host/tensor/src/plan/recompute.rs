//! Values that a group computes anew instead of reading what another group has computed.
//!
//! A gradient needs much of what the forward pass has computed. Where that is a product or a
//! sum of what has to be in memory anyway, reading it takes longer than computing it again,
//! and keeping it takes memory. So a cheap member that only other groups of the same shape
//! read, element by element, is given to these groups, if the operands they must then read
//! instead, beside those that they read already, are not more bytes than the member's own.

use std::collections::HashSet;

use super::group::{Group, MemberKind};
use super::lower::{MOST_MEMBERS, Origin, Source, ValueInfo};
use crate::cpu::{Kernel, TileOp, ValueId};
use crate::ir::{Binary, Element, Unary};

/// The most groups that compute a value anew.
const MOST_READERS: usize = 4;

/// Gives cheap members to the groups that read them; `kept` are the values that are results
/// of the program, and `kernels` those that are not groups.
pub(super) fn recompute<'a>(
    groups: &mut [Group],
    values: &mut Vec<ValueInfo>,
    kernels: impl Iterator<Item = &'a Kernel>,
    kept: impl Iterator<Item = ValueId>,
) {
    let mut users = Users::new(groups, values.len());
    for value in kernels.flat_map(Kernel::reads).chain(kept) {
        users.is_pinned[value] = true;
    }
    // The newest first: the operands of what is computed anew may be computed anew, too.
    for value in (0..values.len()).rev() {
        if let Some(operands) = users.operands_to_read(groups, values, value) {
            users.give_away(groups, values, value, &operands);
        }
    }
}

/// Who uses which value.
struct Users {
    /// The group of each value.
    groups: Vec<Option<usize>>,
    /// The other groups of the same shape that read each value element by element.
    readers: Vec<Vec<usize>>,
    /// The same, to look up.
    is_read_by: HashSet<(ValueId, usize)>,
    /// Whether something else reads it.
    is_pinned: Vec<bool>,
}

impl Users {
    fn new(groups: &[Group], values: usize) -> Self {
        let mut users = Self {
            groups: vec![None; values],
            readers: vec![Vec::new(); values],
            is_read_by: HashSet::new(),
            is_pinned: vec![false; values],
        };
        for (number, group) in groups.iter().enumerate() {
            for member in &group.members {
                users.groups[member.value] = Some(number);
            }
        }
        for (number, group) in groups.iter().enumerate() {
            for member in &group.members {
                let is_elementwise = matches!(member.kind, MemberKind::Operation { .. });
                for source in member.operands() {
                    let Source::View(view) = source else {
                        continue;
                    };
                    let is_own = users.groups[view.value] == Some(number);
                    if !is_elementwise || !view.is_whole(&group.shape) {
                        users.is_pinned[view.value] = true;
                    } else if !is_own {
                        users.add_reader(view.value, number);
                    }
                }
            }
        }
        users
    }

    fn add_reader(&mut self, value: ValueId, group: usize) {
        if self.is_read_by.insert((value, group)) {
            self.readers[value].push(group);
        }
    }

    /// What the readers of a value read if they compute it; none where they should not.
    fn operands_to_read(
        &self,
        groups: &[Group],
        values: &[ValueInfo],
        value: ValueId,
    ) -> Option<Vec<ValueId>> {
        let own = self.groups[value]?;
        let readers = &self.readers[value];
        let shape = &groups[own].shape;
        let is_candidate = values[value].stored
            && !self.is_pinned[value]
            && (1..=MOST_READERS).contains(&readers.len())
            && readers.iter().all(|&reader| {
                groups[reader].shape == *shape && groups[reader].len() < MOST_MEMBERS
            });
        if !is_candidate {
            return None;
        }
        let place = groups[own].place(value)?;
        let MemberKind::Operation { op, operands, .. } = &groups[own].members[place].kind else {
            return None;
        };
        if !is_cheap(*op) {
            return None;
        }
        let mut read = Vec::new();
        for operand in operands {
            let Source::View(view) = operand else {
                continue;
            };
            // A state may be written over before the readers run.
            if matches!(values[view.value].origin, Origin::State(_)) {
                return None;
            }
            if view.is_whole(shape) {
                read.push(view.value);
            } else if !view.is_scalar(shape) {
                return None;
            }
        }
        read.sort_unstable();
        read.dedup();
        let is_new = |operand: &&ValueId| {
            let mut readers = readers.iter();
            !readers.all(|&reader| self.is_read_by.contains(&(**operand, reader)))
        };
        let size = |value: ValueId| values[value].ty.dtype.size();
        let new: usize = read.iter().filter(is_new).map(|&value| size(value)).sum();
        (new <= size(value)).then_some(read)
    }

    /// Lets the readers of a value compute it from these operands.
    fn give_away(
        &mut self,
        groups: &mut [Group],
        values: &mut Vec<ValueInfo>,
        value: ValueId,
        operands: &[ValueId],
    ) {
        let own = self.groups[value];
        let Some(member) =
            own.and_then(|own| Some(groups[own].members[groups[own].place(value)?].clone()))
        else {
            return;
        };
        values[value].stored = false;
        for reader in std::mem::take(&mut self.readers[value]) {
            for &operand in operands {
                values[operand].stored = true;
                self.add_reader(operand, reader);
            }
            let anew = values.len();
            values.push(ValueInfo {
                group: Some(reader),
                ..values[value]
            });
            self.groups.push(Some(reader));
            self.readers.push(Vec::new());
            self.is_pinned.push(false);
            groups[reader].compute(&member, anew);
        }
    }
}

/// Whether an operation takes no longer than reading its result.
fn is_cheap(op: TileOp) -> bool {
    let TileOp::Element(element) = op else {
        return false;
    };
    match element {
        Element::Unary(kind) => matches!(
            kind,
            Unary::Negate | Unary::Abs | Unary::Sign | Unary::Square
        ),
        Element::Binary(kind) => matches!(
            kind,
            Binary::Add | Binary::Subtract | Binary::Multiply | Binary::Maximum | Binary::Minimum
        ),
        Element::Compare(_) | Element::Logic(_) | Element::Not | Element::Select => true,
        Element::IsFinite | Element::Convert => false,
    }
}
