//! Grows one tree on gradients: histograms, and the best splits in them.
//!
//! Sources: J. H. Friedman, "Greedy function approximation: a gradient boosting machine",
//! Annals of Statistics 29 (2001), for boosting; T. Chen, C. Guestrin, "XGBoost: a scalable
//! tree boosting system", KDD 2016, equations 6 and 7 for the gain of a split, algorithm 3
//! for missing values; G. Ke et al., "LightGBM: a highly efficient gradient boosting
//! decision tree", NIPS 2017, for histograms and for growing where the gain is greatest. Of
//! two children only the smaller one's histogram is summed up; the other's is the rest.

use std::ops::Range;

use crate::bins::Feature;
use crate::lanes::F64x2;
use crate::tree::{Node, Split, Tree};

/// What trees may look like.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rules {
    pub(crate) leaves: u32,
    /// How many questions a row is asked at most; 0 means any number.
    pub(crate) depth: u32,
    /// The least sum of second derivatives in a leaf.
    pub(crate) min_child_weight: f64,
    /// Added to the sum of second derivatives of each leaf.
    pub(crate) lambda: f64,
    /// The least gain of a split.
    pub(crate) min_gain: f64,
    /// What leaves are multiplied by.
    pub(crate) learning_rate: f64,
}

/// First and second derivatives of the loss by each row's score.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Derivatives<'d> {
    pub(crate) first: &'d [f32],
    pub(crate) second: &'d [f32],
}

/// Grows trees, and keeps memory between them.
#[derive(Debug)]
pub(crate) struct Grower {
    /// Where the cells of each feature begin in a histogram.
    offsets: Vec<usize>,
    cells: usize,
    /// Histograms that are not in use.
    spare: Vec<Vec<F64x2>>,
    /// Derivatives of the rows of a leaf, in their order.
    ordered: Vec<F64x2>,
    right: Vec<u32>,
    tables: Tables,
}

/// Two tables of sums for one feature: rows take turns, so that two of one bin in a row need
/// not wait for each other.
#[derive(Debug)]
struct Tables([[F64x2; 256]; 2]);

/// A leaf that may yet be split.
struct Growing {
    node: usize,
    rows: Range<usize>,
    depth: u32,
    sum: F64x2,
    histogram: Vec<F64x2>,
    best: Option<Best>,
}

/// The best way to split a leaf.
#[derive(Debug, Clone, Copy)]
struct Best {
    feature: usize,
    bin: u8,
    missing_left: bool,
    gain: f64,
    left: F64x2,
}

impl Grower {
    pub(crate) fn new(features: &[Feature]) -> Self {
        let mut cells = 0;
        let offsets = features.iter().map(|feature| {
            let offset = cells;
            cells += feature.bins() + 1;
            offset
        });
        let offsets = offsets.collect();
        Self {
            offsets,
            cells,
            spare: Vec::new(),
            ordered: Vec::new(),
            right: Vec::new(),
            tables: Tables([[F64x2::splat(0.0); 256]; 2]),
        }
    }

    /// Grows a tree on `rows`, which it puts into another order, looking at the features of
    /// these numbers.
    pub(crate) fn grow(
        &mut self,
        features: &[Feature],
        chosen: &[usize],
        derivatives: Derivatives,
        rows: &mut [u32],
        rules: &Rules,
    ) -> Tree {
        let mut tree = Tree::default();
        let mut leaves = Vec::new();
        let histogram = self.histogram(features, chosen, derivatives, rows);
        let sum = self
            .ordered
            .iter()
            .fold(F64x2::splat(0.0), |sum, &row| sum + row);
        tree.nodes.push(Node::Leaf(rules.leaf(sum)));
        leaves.push(Growing {
            node: 0,
            rows: 0..rows.len(),
            depth: 0,
            sum,
            best: self.best(features, chosen, &histogram, sum, rules),
            histogram,
        });
        while leaves.len() < rules.leaves as usize {
            let Some((index, best)) = most_gaining(&leaves) else {
                break;
            };
            let feature = &features[best.feature];
            let leaf = &mut leaves[index];
            let middle = self.part(feature, &best, &mut rows[leaf.rows.clone()]);
            if middle == 0 || middle == leaf.rows.len() {
                // The gain was nothing but rounding.
                leaf.best = None;
                continue;
            }
            let leaf = leaves.swap_remove(index);
            let middle = leaf.rows.start + middle;
            let (left, right) = (leaf.rows.start..middle, middle..leaf.rows.end);
            let smaller = if left.len() <= right.len() {
                &left
            } else {
                &right
            };
            let of_smaller = self.histogram(features, chosen, derivatives, &rows[smaller.clone()]);
            let mut of_larger = leaf.histogram;
            for (larger, &smaller) in of_larger.iter_mut().zip(&of_smaller) {
                *larger = *larger - smaller;
            }
            let (of_left, of_right) = if left.len() <= right.len() {
                (of_smaller, of_larger)
            } else {
                (of_larger, of_smaller)
            };

            let first = tree.nodes.len();
            let place = |node: usize| u32::try_from(node).unwrap_or(u32::MAX);
            #[expect(clippy::cast_possible_truncation, reason = "rounding is meant")]
            let gain = best.gain as f32;
            tree.nodes[leaf.node] = Node::Split(Split {
                feature: place(best.feature),
                threshold: feature.threshold(best.bin),
                bin: best.bin,
                missing_left: best.missing_left,
                left: place(first),
                right: place(first + 1),
                gain,
            });
            let parts = [
                (left, best.left, of_left),
                (right, leaf.sum - best.left, of_right),
            ];
            for (node, (rows, sum, histogram)) in (first..).zip(parts) {
                tree.nodes.push(Node::Leaf(rules.leaf(sum)));
                let depth = leaf.depth + 1;
                let deep = rules.depth > 0 && depth >= rules.depth;
                let best = if deep {
                    None
                } else {
                    self.best(features, chosen, &histogram, sum, rules)
                };
                leaves.push(Growing {
                    node,
                    rows,
                    depth,
                    sum,
                    histogram,
                    best,
                });
            }
        }
        self.spare
            .extend(leaves.into_iter().map(|leaf| leaf.histogram));
        tree
    }

    /// Sums of derivatives by bin, of the chosen features.
    fn histogram(
        &mut self,
        features: &[Feature],
        chosen: &[usize],
        derivatives: Derivatives,
        rows: &[u32],
    ) -> Vec<F64x2> {
        let zero = F64x2::splat(0.0);
        let mut histogram = self.spare.pop().unwrap_or_default();
        histogram.clear();
        histogram.resize(self.cells, zero);
        self.ordered.clear();
        self.ordered.extend(rows.iter().map(|&row| {
            let row = row as usize;
            F64x2::new(
                derivatives.first[row].into(),
                derivatives.second[row].into(),
            )
        }));
        for &feature in chosen {
            let codes = features[feature].codes();
            let cells = features[feature].bins() + 1;
            let offset = self.offsets[feature];
            let cells = &mut histogram[offset..offset + cells];
            self.tables.sum(codes, rows, &self.ordered, cells);
        }
        histogram
    }

    /// Puts the rows that go left before the others, each in their order; how many.
    fn part(&mut self, feature: &Feature, best: &Best, rows: &mut [u32]) -> usize {
        let (codes, missing) = (feature.codes(), feature.missing());
        self.right.clear();
        let mut left = 0;
        for index in 0..rows.len() {
            let row = rows[index];
            let code = codes[row as usize];
            let goes_left = if code == missing {
                best.missing_left
            } else {
                code <= best.bin
            };
            if goes_left {
                rows[left] = row;
                left += 1;
            } else {
                self.right.push(row);
            }
        }
        rows[left..].copy_from_slice(&self.right);
        left
    }

    /// The best split of a leaf, the first of equals; none that gains enough.
    fn best(
        &self,
        features: &[Feature],
        chosen: &[usize],
        histogram: &[F64x2],
        sum: F64x2,
        rules: &Rules,
    ) -> Option<Best> {
        let mut best: Option<Best> = None;
        let mut highest = rules.score(sum) + 2.0 * rules.min_gain.max(1e-12);
        for &index in chosen {
            let feature = &features[index];
            let offset = self.offsets[index];
            let cells = &histogram[offset..=offset + feature.bins()];
            let (&missing, values) = cells.split_last().expect("one more cell than bins");
            // With all values left and none missing, nothing would be right.
            let mut ways = [
                None,
                Some((false, F64x2::splat(0.0), &values[..values.len() - 1])),
            ];
            if feature.misses {
                ways = [
                    Some((true, missing, &values[..values.len() - 1])),
                    Some((false, F64x2::splat(0.0), values)),
                ];
            }
            for (missing_left, start, cells) in ways.into_iter().flatten() {
                if let Some(found) = rules.scan(cells, start, sum, highest) {
                    highest = found.score;
                    let [_, weight] = found.left.to_array();
                    let [_, all] = sum.to_array();
                    best = Some(Best {
                        feature: index,
                        bin: found.bin,
                        // What was never missing goes where most rows go.
                        missing_left: missing_left || (!feature.misses && weight * 2.0 >= all),
                        gain: (found.score - rules.score(sum)) / 2.0,
                        left: found.left,
                    });
                }
            }
        }
        best
    }
}

fn most_gaining(leaves: &[Growing]) -> Option<(usize, Best)> {
    let mut most: Option<(usize, Best)> = None;
    for (index, leaf) in leaves.iter().enumerate() {
        if let Some(best) = leaf.best
            && most.is_none_or(|(_, most)| best.gain > most.gain)
        {
            most = Some((index, best));
        }
    }
    most
}

impl Tables {
    /// Adds the derivatives of rows to the cells of their codes.
    #[inline]
    fn sum(&mut self, codes: &[u8], rows: &[u32], ordered: &[F64x2], cells: &mut [F64x2]) {
        if rows.len() < 4 * cells.len() {
            for (&row, &pair) in rows.iter().zip(ordered) {
                let cell = &mut cells[usize::from(codes[row as usize])];
                *cell = *cell + pair;
            }
            return;
        }
        let [even, odd] = &mut self.0;
        let zero = F64x2::splat(0.0);
        even[..cells.len()].fill(zero);
        odd[..cells.len()].fill(zero);
        let (rows, last_rows) = rows.as_chunks::<4>();
        let (ordered, last_ordered) = ordered.as_chunks::<4>();
        for (rows, pairs) in rows.iter().zip(ordered) {
            let [a, b, c, d] = rows.map(|row| usize::from(codes[row as usize]));
            even[a] = even[a] + pairs[0];
            odd[b] = odd[b] + pairs[1];
            even[c] = even[c] + pairs[2];
            odd[d] = odd[d] + pairs[3];
        }
        for (&row, &pair) in last_rows.iter().zip(last_ordered) {
            let cell = usize::from(codes[row as usize]);
            even[cell] = even[cell] + pair;
        }
        for ((cell, &even), &odd) in cells.iter_mut().zip(&*even).zip(&*odd) {
            *cell = even + odd;
        }
    }
}

/// A split of one feature.
struct Found {
    bin: u8,
    score: f64,
    left: F64x2,
}

impl Rules {
    /// What a leaf gives its rows.
    fn leaf(&self, sum: F64x2) -> f32 {
        let [first, second] = sum.to_array();
        let weight = second + self.lambda;
        let value = if weight > 0.0 {
            -first / weight * self.learning_rate
        } else {
            0.0
        };
        #[expect(clippy::cast_possible_truncation, reason = "rounding is meant")]
        let value = value as f32;
        if value.is_finite() { value } else { 0.0 }
    }

    /// Twice by how much a leaf of this sum makes the loss smaller.
    fn score(&self, sum: F64x2) -> f64 {
        let [first, second] = sum.to_array();
        let weight = second + self.lambda;
        if weight > 0.0 {
            first * first / weight
        } else {
            0.0
        }
    }

    /// The first place in `cells` where a cut scores most, and more than `highest`: cells up
    /// to it go left, with `start`, all else of `sum` goes right. Two places at a time.
    #[inline]
    fn scan(&self, cells: &[F64x2], start: F64x2, sum: F64x2, highest: f64) -> Option<Found> {
        let lambda = F64x2::splat(self.lambda);
        let [all_first, all_second] = sum.to_array().map(F64x2::splat);
        let least = self.min_child_weight.max(f64::MIN_POSITIVE);
        let mut found = None;
        let mut highest = highest;
        let mut left = start;
        for (pair, cells) in cells.chunks(2).enumerate() {
            let one = left + cells[0];
            let two = match cells.get(1) {
                Some(&cell) => one + cell,
                None => one,
            };
            left = two;
            let (first, second) = one.transposed(two);
            let (rest_first, rest_second) = (all_first - first, all_second - second);
            let scores = first * first / (second + lambda)
                + rest_first * rest_first / (rest_second + lambda);
            let scores = scores.to_array();
            if !(scores[0] > highest || scores[1] > highest) {
                continue;
            }
            let weights = second.to_array().into_iter().zip(rest_second.to_array());
            let places = scores.into_iter().zip(weights).zip([one, two]).enumerate();
            for (place, ((score, (weight, rest)), left)) in places {
                if score > highest && weight >= least && rest >= least {
                    highest = score;
                    found = Some(Found {
                        bin: u8::try_from(pair * 2 + place).unwrap_or(u8::MAX),
                        score,
                        left,
                    });
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use trainshed_sdk::rng::Rng;

    use super::*;

    const RULES: Rules = Rules {
        leaves: 2,
        depth: 0,
        min_child_weight: 1.5,
        lambda: 1.0,
        min_gain: 0.0,
        learning_rate: 0.1,
    };

    /// Rows of random values, some of them missing, and random derivatives.
    struct Example {
        columns: Vec<Vec<f32>>,
        first: Vec<f32>,
        second: Vec<f32>,
    }

    impl Example {
        fn new(rng: &mut Rng, rows: usize, missing: f32) -> Self {
            let column = |rng: &mut Rng| {
                let values = (0..rows).map(|_| match rng.uniform(0.0, 1.0) < missing {
                    true => f32::NAN,
                    false => rng.uniform(0.0, 20.0).round(),
                });
                values.collect()
            };
            Self {
                columns: (0..3).map(|_| column(rng)).collect(),
                first: (0..rows).map(|_| rng.normal()).collect(),
                second: (0..rows).map(|_| rng.uniform(0.05, 1.0)).collect(),
            }
        }

        fn derivatives(&self) -> Derivatives<'_> {
            Derivatives {
                first: &self.first,
                second: &self.second,
            }
        }

        /// The greatest gain of any cut of any column, by trying all on the values.
        fn greatest_gain(&self) -> f64 {
            let rows = 0..self.first.len();
            let sum = |goes: &dyn Fn(usize) -> bool| {
                let rows = rows.clone().filter(|&row| goes(row));
                rows.fold([0.0, 0.0], |[first, second], row| {
                    [
                        first + f64::from(self.first[row]),
                        second + f64::from(self.second[row]),
                    ]
                })
            };
            let score = |[first, second]: [f64; 2]| first * first / (second + RULES.lambda);
            let mut greatest: f64 = 0.0;
            for values in &self.columns {
                for missing_left in [false, true] {
                    for threshold in 0..=20u8 {
                        let left = |row: usize| match values[row].is_nan() {
                            true => missing_left,
                            false => values[row] <= threshold.into(),
                        };
                        let (left, right) = (sum(&left), sum(&|row| !left(row)));
                        if left[1] >= RULES.min_child_weight && right[1] >= RULES.min_child_weight {
                            let gain = score(left) + score(right) - score(sum(&|_| true));
                            greatest = greatest.max(gain / 2.0);
                        }
                    }
                }
            }
            greatest
        }
    }

    #[test]
    fn the_best_split_is_that_of_a_search_of_all() {
        let mut rng = Rng::new(1, "test");
        for case in 0..24u8 {
            let rows = 5 + usize::from(case) * 13;
            let example = Example::new(&mut rng, rows, if case % 2 == 0 { 0.0 } else { 0.2 });
            let features: Vec<Feature> = example
                .columns
                .iter()
                .map(|values| Feature::new(values, rows, 255))
                .collect();
            let mut order: Vec<u32> = (0..).take(rows).collect();
            let mut grower = Grower::new(&features);
            let tree = grower.grow(
                &features,
                &[0, 1, 2],
                example.derivatives(),
                &mut order,
                &RULES,
            );
            let found = match tree.nodes[0] {
                Node::Split(split) => f64::from(split.gain),
                Node::Leaf(_) => 0.0,
            };
            let expected = example.greatest_gain();
            assert!(
                (found - expected).abs() < 1e-5 * (1.0 + expected),
                "{found} {expected}"
            );
        }
    }

    #[test]
    fn each_leaf_is_the_best_constant_for_its_rows() {
        let mut rng = Rng::new(2, "test");
        let example = Example::new(&mut rng, 700, 0.1);
        let columns = example.columns.iter();
        let features: Vec<Feature> = columns.map(|values| Feature::new(values, 700, 9)).collect();
        let rules = Rules {
            leaves: 12,
            depth: 4,
            ..RULES
        };
        let mut order: Vec<u32> = (0..700).collect();
        let mut grower = Grower::new(&features);
        let tree = grower.grow(
            &features,
            &[0, 2],
            example.derivatives(),
            &mut order,
            &rules,
        );

        let leaves = tree
            .nodes
            .iter()
            .filter(|node| matches!(node, Node::Leaf(_)));
        assert_eq!(leaves.count(), 12);
        let mut scores = vec![0.0; 700];
        tree.add_by_bins(&features, &mut scores);
        let mut sums = std::collections::BTreeMap::new();
        for (row, score) in scores.iter().enumerate() {
            let sum: &mut [f64; 2] = sums.entry(score.to_bits()).or_default();
            sum[0] += f64::from(example.first[row]);
            sum[1] += f64::from(example.second[row]);
        }
        assert_eq!(sums.len(), 12);
        for (value, [first, second]) in sums {
            let expected = -first / (second + 1.0) * 0.1;
            assert!((f64::from(f32::from_bits(value)) - expected).abs() < 1e-6);
            assert!(second >= 1.5);
        }
    }
}
