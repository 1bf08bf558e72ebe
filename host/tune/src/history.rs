//! What is known of the trials so far, as the searchers see it.

use std::collections::BTreeMap;

use crate::space::Point;

/// The outcome of one trial. Lower scores are better: a maximised metric is negated.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// The trial's number.
    pub trial: u64,
    /// Its configuration.
    pub point: Point,
    /// Its last value of the metric; finite.
    pub score: f64,
    /// The last step that it reported.
    pub step: u64,
    /// Whether it ran to its end, instead of being stopped by the scheduler.
    pub complete: bool,
}

/// The trials that ended, in the order they ended in, and those that have not.
///
/// Trials without a finite score teach nothing and are left out.
#[derive(Debug, Clone, Default)]
pub struct History {
    pub(crate) finished: Vec<Observation>,
    pub(crate) pending: BTreeMap<u64, Point>,
    pub(crate) rungs: BTreeMap<u64, Vec<Observation>>,
}

impl History {
    /// A history in which nothing has happened.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes that a trial was created.
    pub fn begin(&mut self, trial: u64, point: Point) {
        self.pending.insert(trial, point);
    }

    /// Notes that a trial goes on with another configuration.
    pub(crate) fn change(&mut self, trial: u64, point: Point) {
        if let Some(pending) = self.pending.get_mut(&trial) {
            *pending = point;
        }
    }

    /// Notes how a trial ended; without a finite score nothing is learnt.
    pub fn end(&mut self, trial: u64, score: Option<f64>, step: u64, complete: bool) {
        let Some(point) = self.pending.remove(&trial) else {
            return;
        };
        if let Some(score) = score.filter(|score| score.is_finite()) {
            self.finished.push(Observation {
                trial,
                point,
                score,
                step,
                complete,
            });
        }
    }

    /// Notes the score of a trial when it reached a milestone of its scheduler.
    pub(crate) fn reach(&mut self, milestone: u64, trial: u64, score: f64) {
        let Some(point) = self.pending.get(&trial) else {
            return;
        };
        if score.is_finite() {
            self.rungs.entry(milestone).or_default().push(Observation {
                trial,
                point: point.clone(),
                score,
                step: milestone,
                complete: false,
            });
        }
    }

    /// The outcomes, in the order they came in.
    pub fn finished(&self) -> &[Observation] {
        &self.finished
    }

    /// How many trials have not ended.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }
}

impl Observation {
    /// Better observations first: complete before pruned ones, and of pruned ones those that
    /// got further first, as Optuna ranks them.
    pub(crate) fn rank(&self, other: &Self) -> std::cmp::Ordering {
        let completeness = other.complete.cmp(&self.complete);
        let progress = if self.complete {
            std::cmp::Ordering::Equal
        } else {
            other.step.cmp(&self.step)
        };
        completeness
            .then(progress)
            .then(self.score.total_cmp(&other.score))
            .then(self.trial.cmp(&other.trial))
    }
}
