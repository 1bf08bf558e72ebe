//! A tree, and which leaf of it a row reaches.

use crate::bins::{BLOCK, Feature};
use crate::lanes::U8x16;

/// A tree; a node stands before its children, the root first.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Tree {
    pub(crate) nodes: Vec<Node>,
}

/// A node of a tree.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Node {
    /// What rows that arrive get.
    Leaf(f32),
    /// Where rows go on.
    Split(Split),
}

/// A question to a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Split {
    pub(crate) feature: u32,
    /// Rows whose value is at most this go left.
    pub(crate) threshold: f32,
    /// Those in this bin or one before it, in the bins that the tree was grown on.
    pub(crate) bin: u8,
    /// Whether rows without a value go left.
    pub(crate) missing_left: bool,
    pub(crate) left: u32,
    pub(crate) right: u32,
    /// By how much it made the loss smaller, with its regularisation.
    pub(crate) gain: f32,
}

/// A node's place in a tree is a byte: a tree has fewer than 256 nodes.
pub(crate) const MAX_LEAVES: u32 = 128;

impl Tree {
    /// Adds to each of `scores` what the tree gives the row, in the bins of `features`.
    ///
    /// 16 rows at a time ask all questions, each row heeding those on its own way, without a
    /// branch.
    pub(crate) fn add_by_bins(&self, features: &[Feature], scores: &mut [f32]) {
        let splits = (0u8..).zip(&self.nodes).filter_map(|(place, node)| {
            let &Node::Split(split) = node else {
                return None;
            };
            let feature = &features[split.feature as usize];
            let byte = |place: u32| U8x16::splat(u8::try_from(place).unwrap_or(u8::MAX));
            Some(Question {
                feature,
                here: U8x16::splat(place),
                bin: U8x16::splat(split.bin),
                missing: U8x16::splat(feature.missing()),
                missing_left: U8x16::splat(if split.missing_left { 255 } else { 0 }),
                left: byte(split.left),
                right: byte(split.right),
            })
        });
        let splits: Vec<Question> = splits.collect();
        let mut values = [0.0; 256];
        for (value, node) in values.iter_mut().zip(&self.nodes) {
            if let Node::Leaf(leaf) = node {
                *value = *leaf;
            }
        }
        for (block, scores) in scores.chunks_mut(BLOCK).enumerate() {
            let mut places = U8x16::splat(0);
            for split in &splits {
                let codes = U8x16::from_array(split.feature.block(block));
                let left = codes.at_most(split.bin);
                let left = codes.equal(split.missing).select(split.missing_left, left);
                let next = left.select(split.left, split.right);
                places = places.equal(split.here).select(next, places);
            }
            for (score, place) in scores.iter_mut().zip(places.to_array()) {
                *score += values[usize::from(place)];
            }
        }
    }

    /// What the tree gives a row of values.
    pub(crate) fn value(&self, row: &[f32]) -> f32 {
        let mut place = 0;
        // A node stands before its children, so there are no more steps than nodes.
        for _ in 0..self.nodes.len() {
            match &self.nodes[place] {
                Node::Leaf(value) => return *value,
                Node::Split(split) => {
                    let value = row[split.feature as usize];
                    let left = if value.is_nan() {
                        split.missing_left
                    } else {
                        value <= split.threshold
                    };
                    place = if left { split.left } else { split.right } as usize;
                }
            }
        }
        0.0
    }
}

/// A split, sixteen times beside itself.
struct Question<'f> {
    feature: &'f Feature,
    here: U8x16,
    bin: U8x16,
    missing: U8x16,
    missing_left: U8x16,
    left: U8x16,
    right: U8x16,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_and_values_lead_to_the_same_leaf() {
        let columns: [Vec<f32>; 2] = [
            (0..40u8).map(|row| f32::from(row % 7)).collect(),
            (0..40u8)
                .map(|row| {
                    if row % 5 == 0 {
                        f32::NAN
                    } else {
                        f32::from(row)
                    }
                })
                .collect(),
        ];
        let features = columns.clone().map(|values| Feature::new(&values, 40, 255));
        let split = |feature: u32, bin: u8, missing_left, left, right| {
            Node::Split(Split {
                feature,
                threshold: features[feature as usize].threshold(bin),
                bin,
                missing_left,
                left,
                right,
                gain: 1.0,
            })
        };
        let tree = Tree {
            nodes: vec![
                split(1, 10, false, 1, 2),
                split(0, 3, false, 3, 4),
                split(1, 25, true, 5, 6),
                Node::Leaf(1.0),
                Node::Leaf(2.0),
                Node::Leaf(3.0),
                Node::Leaf(4.0),
            ],
        };
        let mut scores = vec![0.5; 40];
        tree.add_by_bins(&features, &mut scores);
        for (row, score) in scores.iter().enumerate() {
            let values = [columns[0][row], columns[1][row]];
            assert_eq!(*score, 0.5 + tree.value(&values), "row {row}");
        }
    }
}
