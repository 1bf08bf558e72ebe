//! Boosting: each round's trees learn the derivatives of the loss where the rounds before
//! left it.
//!
//! Source: J. H. Friedman, "Greedy function approximation: a gradient boosting machine",
//! Annals of Statistics 29 (2001), algorithms 2, 5 and 6; "Stochastic gradient boosting",
//! Computational Statistics & Data Analysis 38 (2002), for rounds that see some rows only.

use std::ops::Range;

use trainshed_sdk::rng::Rng;

use crate::bins::{BLOCK, Feature};
use crate::grow::{Derivatives, Grower, Rules};
use crate::lanes::F32x4;
use crate::tree::Tree;

/// What trees learn from: rows to learn from first, then those to judge by.
#[derive(Debug)]
pub(crate) struct Examples {
    pub(crate) features: Vec<Feature>,
    pub(crate) targets: Targets,
    pub(crate) rows: usize,
    /// How many rows there are to learn from.
    pub(crate) learning: usize,
}

/// What is to be predicted of each row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Targets {
    /// Numbers, less their mean over the rows to learn from.
    Numbers(Vec<f32>),
    /// Classes below a count, which is 2 or more.
    Classes(Vec<u32>, usize),
}

/// How boosting goes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Boosting {
    pub(crate) rules: Rules,
    /// The share of rows that a round's trees learn from.
    pub(crate) row_share: f64,
    /// The share of features that a round's trees look at; at least one.
    pub(crate) feature_share: f64,
    pub(crate) seed: u64,
}

/// How well rows are predicted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Fit {
    /// The mean squared error, or the mean cross-entropy in nats.
    pub(crate) loss: f64,
    /// The share of rows that are right, for classes.
    pub(crate) accuracy: Option<f64>,
    /// The mean absolute error, for numbers.
    pub(crate) absolute: Option<f64>,
    /// The coefficient of determination, for numbers.
    pub(crate) r2: Option<f64>,
}

/// Trees in the making.
#[derive(Debug)]
pub(crate) struct Booster<'e> {
    examples: &'e Examples,
    how: Boosting,
    /// Of each row, for each number that trees add up to; rows are padded to whole blocks.
    scores: Vec<Vec<f32>>,
    first: Vec<Vec<f32>>,
    second: Vec<Vec<f32>>,
    grower: Grower,
    rows: Vec<u32>,
}

impl<'e> Booster<'e> {
    /// Begins with these scores: for each number that trees add up to, one for each row.
    pub(crate) fn new(examples: &'e Examples, how: Boosting, mut scores: Vec<Vec<f32>>) -> Self {
        let padded = examples.rows.next_multiple_of(BLOCK);
        for scores in &mut scores {
            scores.resize(padded, 0.0);
        }
        let zeros = vec![vec![0.0; padded]; scores.len()];
        Self {
            examples,
            how,
            scores,
            first: zeros.clone(),
            second: zeros,
            grower: Grower::new(&examples.features),
            rows: Vec::new(),
        }
    }

    /// Grows the trees of one round, which counts from 0 and whose chance is its own. None
    /// when `stopping` said so, which is asked before each tree.
    pub(crate) fn round(
        &mut self,
        round: u64,
        mut stopping: impl FnMut() -> bool,
    ) -> Option<Vec<Tree>> {
        let mut rng = Rng::new(self.how.seed, &format!("round {round}"));
        let chosen = self.choose(&mut rng);
        self.differentiate();
        let features = &self.examples.features;
        let mut trees = Vec::with_capacity(self.scores.len());
        for (first, second) in self.first.iter().zip(&self.second) {
            if stopping() {
                return None;
            }
            let mut rows = self.rows.clone();
            let derivatives = Derivatives { first, second };
            let rules = &self.how.rules;
            let tree = self
                .grower
                .grow(features, &chosen, derivatives, &mut rows, rules);
            trees.push(tree);
        }
        for (tree, scores) in trees.iter().zip(&mut self.scores) {
            tree.add_by_bins(features, &mut scores[..self.examples.rows]);
        }
        Some(trees)
    }

    /// How well the rows to learn from are predicted, and those to judge by.
    pub(crate) fn fits(&self) -> [Fit; 2] {
        let (learning, rows) = (self.examples.learning, self.examples.rows);
        [self.fit(0..learning), self.fit(learning..rows)]
    }

    /// Draws the rows that a round learns from, and the features that it looks at.
    fn choose(&mut self, rng: &mut Rng) -> Vec<usize> {
        let learning = 0u32..;
        let learning = learning.take(self.examples.learning);
        self.rows.clear();
        if self.how.row_share < 1.0 {
            let share = self.how.row_share;
            self.rows
                .extend(learning.filter(|_| f64::from(rng.uniform(0.0, 1.0)) < share));
        } else {
            self.rows.extend(learning);
        }
        let features = self.examples.features.len();
        if self.how.feature_share >= 1.0 {
            return (0..features).collect();
        }
        let mut order: Vec<usize> = (0..features).collect();
        rng.shuffle(&mut order);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a share of a small number"
        )]
        let count = (features as f64 * self.how.feature_share).round() as usize;
        order.truncate(count.max(1));
        order.sort_unstable();
        order
    }

    /// Writes the derivatives of the loss by each score, four rows at a time.
    fn differentiate(&mut self) {
        let one = F32x4::splat(1.0);
        let least = F32x4::splat(1e-16);
        let blocks = self.examples.learning.div_ceil(4);
        let mut probabilities = vec![one; self.scores.len()];
        for block in 0..blocks {
            let at = block * 4..block * 4 + 4;
            match &self.examples.targets {
                Targets::Numbers(targets) => {
                    let score = four(&self.scores[0], block);
                    put(&mut self.first[0][at.clone()], score - four(targets, block));
                    put(&mut self.second[0][at], one);
                }
                Targets::Classes(classes, 2) => {
                    let p = probability(four(&self.scores[0], block));
                    let is_second = flags(classes, block, 1);
                    put(&mut self.first[0][at.clone()], p - is_second);
                    put(&mut self.second[0][at], (p * (one - p)).max(least));
                }
                Targets::Classes(classes, count) => {
                    softmax(&self.scores, block, &mut probabilities);
                    // The factor that makes of steps for each class one for all.
                    #[expect(clippy::cast_precision_loss, reason = "few classes")]
                    let factor = F32x4::splat(*count as f32 / (*count as f32 - 1.0));
                    for (class, &p) in (0u32..).zip(&probabilities) {
                        let is_class = flags(classes, block, class);
                        let index = class as usize;
                        put(&mut self.first[index][at.clone()], p - is_class);
                        let second = (p * (one - p) * factor).max(least);
                        put(&mut self.second[index][at.clone()], second);
                    }
                }
            }
        }
    }

    fn fit(&self, rows: Range<usize>) -> Fit {
        #[expect(clippy::cast_precision_loss, reason = "fewer than 2^32 rows")]
        let count = rows.len() as f64;
        match &self.examples.targets {
            Targets::Numbers(targets) => {
                let [mut squares, mut absolutes, mut sum, mut all] = [0.0; 4];
                for row in rows {
                    let target = f64::from(targets[row]);
                    let distance = f64::from(self.scores[0][row]) - target;
                    squares += distance * distance;
                    absolutes += distance.abs();
                    sum += target;
                    all += target * target;
                }
                Fit {
                    loss: squares / count,
                    accuracy: None,
                    absolute: Some(absolutes / count),
                    r2: Some(1.0 - squares / (all - sum * sum / count)),
                }
            }
            Targets::Classes(classes, _) => {
                let (mut loss, mut right) = (0.0, 0.0);
                let mut probabilities = vec![F32x4::splat(1.0); self.scores.len()];
                for block in rows.start / 4..rows.end.div_ceil(4) {
                    let arrays = self.probabilities(block, &mut probabilities);
                    let range = rows.start.max(block * 4)..rows.end.min(block * 4 + 4);
                    for (row, &class) in range.clone().zip(&classes[range]) {
                        let class = class as usize;
                        let of = |class: usize| arrays(class)[row % 4];
                        loss -= f64::from(of(class).max(f32::MIN_POSITIVE)).ln();
                        let others = 0..self.scores.len().max(2);
                        let mut others = others.filter(|&other| other != class);
                        // Of equal probabilities, the first class is the prediction.
                        let best = others.all(|other| {
                            of(other) < of(class) || (of(other) == of(class) && class < other)
                        });
                        right += f64::from(u8::from(best));
                    }
                }
                Fit {
                    loss: loss / count,
                    accuracy: Some(right / count),
                    absolute: None,
                    r2: None,
                }
            }
        }
    }

    /// The probabilities of each class for four rows.
    fn probabilities(
        &self,
        block: usize,
        into: &mut [F32x4],
    ) -> impl Fn(usize) -> [f32; 4] + use<'_> {
        if let [scores] = self.scores.as_slice() {
            into[0] = probability(four(scores, block));
        } else {
            softmax(&self.scores, block, into);
        }
        let arrays: Vec<[f32; 4]> = into.iter().map(|p| p.to_array()).collect();
        move |class| match (arrays.as_slice(), class) {
            ([second], 0) => second.map(|p| 1.0 - p),
            ([second], _) => *second,
            (all, class) => all[class],
        }
    }
}

/// The scores that boosting begins with: of numbers 0, of classes the logarithms of how often
/// each is among the rows to learn from.
pub(crate) fn base(targets: &Targets, learning: usize) -> Vec<f32> {
    let &Targets::Classes(ref classes, count) = targets else {
        return vec![0.0];
    };
    // One more of each, so that none is impossible.
    let mut counts = vec![1.0f64; count];
    for &class in &classes[..learning] {
        counts[class as usize] += 1.0;
    }
    let total: f64 = counts.iter().sum();
    #[expect(clippy::cast_possible_truncation, reason = "rounding is meant")]
    let round = |number: f64| number as f32;
    match counts.as_slice() {
        [first, second] => vec![round((second / first).ln())],
        counts => counts.iter().map(|of| round((of / total).ln())).collect(),
    }
}

/// Four numbers of a list that is padded.
#[inline(always)]
fn four(list: &[f32], block: usize) -> F32x4 {
    let rest = &list[block * 4..];
    match rest.first_chunk() {
        Some(numbers) => F32x4::from_array(numbers),
        None => {
            let mut numbers = [0.0; 4];
            numbers[..rest.len()].copy_from_slice(rest);
            F32x4::from_array(&numbers)
        }
    }
}

/// 1 where a row is of `class`, else 0.
#[inline(always)]
fn flags(classes: &[u32], block: usize, class: u32) -> F32x4 {
    let mut numbers = [0.0; 4];
    for (number, &of) in numbers.iter_mut().zip(&classes[block * 4..]) {
        *number = f32::from(u8::from(of == class));
    }
    F32x4::from_array(&numbers)
}

#[inline(always)]
fn put(into: &mut [f32], four: F32x4) {
    into.copy_from_slice(&four.to_array());
}

/// The probability of the second of two classes.
#[inline(always)]
fn probability(score: F32x4) -> F32x4 {
    let one = F32x4::splat(1.0);
    one / (one + (F32x4::splat(0.0) - score).exp())
}

/// The probability of each class.
#[inline(always)]
fn softmax(scores: &[Vec<f32>], block: usize, into: &mut [F32x4]) {
    let mut greatest = F32x4::splat(f32::NEG_INFINITY);
    for (into, scores) in into.iter_mut().zip(scores) {
        *into = four(scores, block);
        greatest = greatest.max(*into);
    }
    let mut sum = F32x4::splat(0.0);
    for into in into.iter_mut() {
        *into = (*into - greatest).exp();
        sum = sum + *into;
    }
    for into in into {
        *into = *into / sum;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn how(row_share: f64) -> Boosting {
        Boosting {
            rules: Rules {
                leaves: 16,
                depth: 0,
                min_child_weight: 1.0,
                lambda: 1.0,
                min_gain: 0.0,
                learning_rate: 0.2,
            },
            row_share,
            feature_share: 1.0,
            seed: 1,
        }
    }

    /// Rows of two features, 400 to learn from and 100 to judge by.
    fn examples(targets: impl Fn(&[Vec<f32>]) -> Targets) -> Examples {
        let mut rng = Rng::new(5, "test");
        let mut column = || (0..500).map(|_| rng.uniform(-1.0, 1.0)).collect();
        let columns: Vec<Vec<f32>> = vec![column(), column()];
        Examples {
            features: columns
                .iter()
                .map(|values| Feature::new(values, 400, 64))
                .collect(),
            targets: targets(&columns),
            rows: 500,
            learning: 400,
        }
    }

    #[track_caller]
    fn trained(examples: &Examples, how: Boosting, rounds: u64) -> [Fit; 2] {
        let base = base(&examples.targets, examples.learning);
        let scores = base.iter().map(|&base| vec![base; examples.rows]).collect();
        let mut booster = Booster::new(examples, how, scores);
        for round in 0..rounds {
            booster.round(round, || false).unwrap();
        }
        booster.fits()
    }

    #[test]
    fn numbers_are_learnt() {
        let examples = examples(|columns| {
            let rows = columns[0].iter().zip(&columns[1]);
            Targets::Numbers(rows.map(|(a, b)| (3.0 * a).sin() + a * b).collect())
        });
        let [learnt, judged] = trained(&examples, how(1.0), 60);
        assert!(
            learnt.r2 > Some(0.98) && judged.r2 > Some(0.93),
            "{learnt:?} {judged:?}"
        );
        let [_, sampled] = trained(&examples, how(0.5), 60);
        assert!(sampled.r2 > Some(0.9) && sampled != judged, "{sampled:?}");
    }

    #[test]
    fn classes_are_learnt() {
        for count in [2u32, 4] {
            let examples = examples(|columns| {
                let rows = columns[0].iter().zip(&columns[1]);
                let class = |(a, b): (&f32, &f32)| match count {
                    2 => u32::from(a * b > 0.0),
                    _ => u32::from(*a > 0.0) + 2 * u32::from(*b > 0.1),
                };
                Targets::Classes(rows.map(class).collect(), count as usize)
            });
            let [learnt, judged] = trained(&examples, how(1.0), 40);
            let good = learnt.accuracy > Some(0.99) && judged.accuracy > Some(0.95);
            assert!(good && judged.loss < 0.2, "{count} {learnt:?} {judged:?}");
        }
    }

    #[test]
    fn derivatives_are_those_of_the_loss() {
        let classes = vec![0, 1, 2, 1, 0];
        let mut examples = examples(|_| Targets::Classes(classes.clone(), 3));
        (examples.rows, examples.learning) = (5, 5);
        let scores = [[0.3f32, -0.2, 0.5, 0.0, 1.0], [0.1; 5], [-0.7; 5]];
        let losses = |scores: &[[f32; 5]; 3]| {
            let scores = scores.iter().map(|scores| scores.to_vec()).collect();
            Booster::new(&examples, how(1.0), scores).fit(0..5).loss * 5.0
        };
        let start = scores.iter().map(|scores| scores.to_vec()).collect();
        let mut booster = Booster::new(&examples, how(1.0), start);
        booster.differentiate();
        for class in 0..3 {
            for row in 0..5 {
                let at = |distance: f32| {
                    let mut moved = scores;
                    moved[class][row] += distance;
                    losses(&moved)
                };
                let slope = (at(0.01) - at(-0.01)) / 0.02;
                let found = f64::from(booster.first[class][row]);
                assert!((found - slope).abs() < 1e-3, "{found} {slope}");
            }
        }
    }
}
