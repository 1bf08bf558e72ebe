//! What models are judged by, computed in programs.
//!
//! Counts add up over batches: give them to [`crate::nn::Measured::with_total`], and
//! [`crate::trainer::Trainer::totals`] sums them up. What needs all predictions at once, as
//! [`roc_auc`] does, is computed of [`crate::trainer::Trainer::predict_all`]:
//!
//! ```no_run
//! use trainshed_sdk::graph::evaluate;
//! use trainshed_sdk::metrics;
//! # use trainshed_sdk::{ProgramError, Tensor};
//!
//! # fn example(scores: &Tensor, labels: &Tensor) -> Result<f64, ProgramError> {
//! let measured = evaluate(&[scores, labels], |_, given| {
//!     vec![metrics::roc_auc(&given[0], &given[1])]
//! })?;
//! Ok(measured[0].item())
//! # }
//! ```

use crate::DType;
use crate::graph::Var;

/// How often each class was taken for each other: what [`confusion_matrix`] counted.
#[derive(Debug, Clone, PartialEq)]
pub struct Confusion {
    classes: usize,
    counts: Vec<f64>,
}

/// How well one class is told from the others. A ratio of nothing to nothing is 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClassScores {
    /// The share of what is taken for the class that is of it.
    pub precision: f64,
    /// The share of the class that is taken for it.
    pub recall: f64,
    /// The harmonic mean of the two.
    pub f1: f64,
    /// How many rows are of the class.
    pub support: f64,
}

/// How many rows of `logits` `[N, C]` are greatest at their label, of `[N]`: `f32 []`.
pub fn correct(logits: &Var, labels: &Var) -> Var {
    let Some(labels) = row_labels(logits, labels) else {
        return logits.clone();
    };
    let right = logits.arg_max(1).equal(&labels.convert(DType::I32));
    right.convert(DType::F32).sum_all()
}

/// How many rows of `logits` `[N, C]` have their label among the `k` greatest: `f32 []`.
pub fn top_k_correct(logits: &Var, labels: &Var, k: usize) -> Var {
    let Some(labels) = row_labels(logits, labels) else {
        return logits.clone();
    };
    let labels = labels.convert(DType::I32).unsqueeze(1);
    let right = logits.top_k(1, k).indices.equal(&labels).any(&[1]);
    right.convert(DType::F32).sum_all()
}

/// The share of rows of `logits` `[N, C]` that are greatest at their label: `f32 []`.
pub fn accuracy(logits: &Var, labels: &Var) -> Var {
    correct(logits, labels) / row_count(logits)
}

/// The share of rows of `logits` `[N, C]` that have their label among the `k` greatest:
/// `f32 []`.
pub fn top_k_accuracy(logits: &Var, labels: &Var, k: usize) -> Var {
    top_k_correct(logits, labels, k) / row_count(logits)
}

/// How many rows of each class (the first axis) were taken for each class (the second):
/// `f32 [classes, classes]`, exact below 2^24. Both are integers of one shape; a row with a
/// number out of range is not counted. [`Confusion`] reads it.
pub fn confusion_matrix(predicted: &Var, labels: &Var, classes: usize) -> Var {
    let hot = |numbers: &Var| {
        let count = numbers.shape().iter().product();
        numbers
            .reshape(&[count])
            .one_hot(classes, DType::F32)
            .transpose(&[1, 0])
    };
    hot(labels).matmul_transposed(&hot(predicted))
}

/// Precision, recall and F1 of each class, `[classes]` each and in this order, from the counts
/// of [`confusion_matrix`]: what [`Confusion::by_class`] computes in the plugin. A ratio of
/// nothing to nothing is 0.
pub fn precision_recall_f1(counts: &Var) -> [Var; 3] {
    if counts.shape().len() != 2 || counts.shape()[0] != counts.shape()[1] {
        let refused = counts.refused("precision_recall_f1", "counts [classes, classes]");
        return [(); 3].map(|()| refused.clone());
    }
    let class = |axis| counts.graph().iota(DType::I32, counts.shape(), axis);
    let is_right = class(0).equal(&class(1)).convert(counts.dtype());
    let right = (counts * is_right).sum(&[1]);
    let (taken, support) = (counts.sum(&[0]), counts.sum(&[1]));
    let share = |part: &Var, whole: &Var| part / whole.maximum(&whole.full_like(1.0));
    [
        share(&right, &taken),
        share(&right, &support),
        share(&(&right * 2.0), &(&taken + &support)),
    ]
}

/// The area under the receiver operating characteristic: the probability that a positive
/// row has a larger score than a negative one, where equals count half. `f64 []`; NaN when
/// all rows are of one kind.
///
/// `scores` are floats `[N]`; `labels` of as many elements are positive where they are not
/// 0.
///
/// Source: J. A. Hanley, B. J. McNeil, "The meaning and use of the area under a receiver
/// operating characteristic (ROC) curve", Radiology 143 (1982), section "meaning".
pub fn roc_auc(scores: &Var, labels: &Var) -> Var {
    let rows: usize = scores.shape().iter().product();
    let scores = scores.reshape(&[rows]);
    let positive = labels.reshape(&[rows]).convert(DType::Bool);
    if rows == 0 {
        return scores.graph().full(DType::F64, &[], f64::NAN);
    }
    let sorted = scores.sort(0);
    let positive = positive.convert(DType::F64).take(&sorted.indices, 0);
    let negative = 1.0 - &positive;
    // Rows of one score are a group; groups count from 0.
    let (values, last) = (&sorted.values, rows - 1);
    let begins = values
        .slice_axis(0, 1, rows)
        .not_equal(&values.slice_axis(0, 0, last))
        .convert(DType::I32);
    let first = begins.graph().full(DType::I32, &[1], 0.0);
    let group = first.concatenate(&[&begins], 0).cumulative_sum(0);
    let zeros = positive.full_like(0.0);
    let positives = zeros.scatter_add(&group, &positive, 0);
    let negatives = zeros.scatter_add(&group, &negative, 0);
    let below = negatives.cumulative_sum(0) - &negatives * 0.5;
    let pairs = positive.sum_all() * negative.sum_all();
    (positives * below).sum_all() / pairs
}

/// The coefficient of determination: 1 less the squared errors of `prediction` divided by
/// the squared distances of `targets` from their mean. `[]`, of their type.
pub fn r_squared(prediction: &Var, targets: &Var) -> Var {
    let errors = (targets - prediction).square().sum_all();
    let distances = (targets - targets.mean_all()).square().sum_all();
    1.0 - errors / distances
}

impl Confusion {
    /// From the counts that [`confusion_matrix`] made, in row-major order; none when they
    /// are not those of a square.
    pub fn new(counts: Vec<f64>) -> Option<Self> {
        let classes = counts.len().isqrt();
        (classes * classes == counts.len()).then_some(Self { classes, counts })
    }

    /// How many rows of class `actual` were taken for class `predicted`; both count from 0
    /// and are less than the number of classes.
    pub fn count(&self, actual: usize, predicted: usize) -> f64 {
        self.counts[actual * self.classes + predicted]
    }

    /// The share of rows that were taken for what they are.
    pub fn accuracy(&self) -> f64 {
        let right: f64 = (0..self.classes)
            .map(|class| self.count(class, class))
            .sum();
        ratio(right, self.counts.iter().sum())
    }

    /// The scores of each class.
    pub fn by_class(&self) -> Vec<ClassScores> {
        let classes = 0..self.classes;
        let scores = classes.clone().map(|class| {
            let right = self.count(class, class);
            let taken = classes
                .clone()
                .map(|actual| self.count(actual, class))
                .sum();
            let support = classes.clone().map(|other| self.count(class, other)).sum();
            ClassScores {
                precision: ratio(right, taken),
                recall: ratio(right, support),
                f1: ratio(2.0 * right, taken + support),
                support,
            }
        });
        scores.collect()
    }

    /// The means of the classes' scores, each class alike; `support` is that of all.
    pub fn macro_average(&self) -> ClassScores {
        #[expect(clippy::cast_precision_loss, reason = "few classes")]
        let share = 1.0 / self.classes.max(1) as f64;
        self.averaged(|_| share)
    }

    /// The means of the classes' scores, weighted by how many rows each has; `support` is
    /// that of all.
    pub fn weighted_average(&self) -> ClassScores {
        let all: f64 = self.counts.iter().sum();
        self.averaged(|support| ratio(support, all))
    }

    fn averaged(&self, weight: impl Fn(f64) -> f64) -> ClassScores {
        let start = ClassScores {
            precision: 0.0,
            recall: 0.0,
            f1: 0.0,
            support: 0.0,
        };
        let scores = self.by_class().into_iter();
        scores.fold(start, |sum, of| {
            let weight = weight(of.support);
            ClassScores {
                precision: sum.precision + weight * of.precision,
                recall: sum.recall + weight * of.recall,
                f1: sum.f1 + weight * of.f1,
                support: sum.support + of.support,
            }
        })
    }
}

fn ratio(part: f64, whole: f64) -> f64 {
    if whole == 0.0 { 0.0 } else { part / whole }
}

/// `labels` as `[N]` for logits `[N, C]`; none, and a mistake, when they do not fit.
fn row_labels(logits: &Var, labels: &Var) -> Option<Var> {
    let &[rows, _] = logits.shape() else {
        logits.refused("a metric of classes", "logits of shape [N, C]");
        return None;
    };
    if labels.shape().iter().product::<usize>() != rows || !labels.dtype().is_integer() {
        labels.refused("a metric of classes", &format!("{rows} integer labels"));
        return None;
    }
    Some(labels.reshape(&[rows]))
}

#[expect(clippy::cast_precision_loss, reason = "a divisor need not be exact")]
fn row_count(value: &Var) -> f64 {
    value.shape().first().copied().unwrap_or(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_come_from_the_counts() {
        // Two classes: 3 right and 1 wrong of the first, 2 wrong and 4 right of the second.
        let confusion = Confusion::new(vec![3.0, 1.0, 2.0, 4.0]).unwrap();
        let scores = confusion.by_class();
        assert_eq!((scores[0].precision, scores[0].recall), (0.6, 0.75));
        assert_eq!((scores[1].precision, scores[1].support), (0.8, 6.0));
        assert_eq!(confusion.accuracy(), 0.7);
        assert_eq!(confusion.macro_average().support, 10.0);
        let weighted = confusion.weighted_average();
        assert!((weighted.recall - confusion.accuracy()).abs() < 1e-12);
    }

    #[test]
    fn a_class_that_is_never_seen_scores_0() {
        let confusion = Confusion::new(vec![1.0, 0.0, 0.0, 0.0]).unwrap();
        let never = confusion.by_class()[1];
        assert_eq!((never.precision, never.recall, never.f1), (0.0, 0.0, 0.0));
        assert_eq!(Confusion::new(vec![1.0, 2.0]), None);
    }
}
