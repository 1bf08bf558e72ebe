//! Rules that only ever stop a trial: the median rule, patience, and the plateau.

use std::collections::BTreeMap;

use trainshed_core::action::ActionError;

use super::{Decision, Seen, Verdict};
use crate::math::{median, sqrt};
use crate::options::Options;

/// Stops a trial whose best score is worse than the median of the others' mean scores.
///
/// Source: Golovin et al., "Google Vizier: A Service for Black-Box Optimization", KDD 2017,
/// "Median Stopping Rule". As in Ray, means begin at the grace period and the others are those
/// that got as far. Unlike there, a trial never pauses to let others catch up.
#[derive(Debug, Clone)]
pub(super) struct Median {
    grace_period: f64,
    min_samples_required: usize,
    curves: BTreeMap<u64, Vec<(f64, f64)>>,
}

impl Median {
    pub(super) fn parse(options: &mut Options<'_>) -> Result<Self, ActionError> {
        Ok(Self {
            grace_period: options.number("grace_period", 60.0, 0.0, f64::MAX)?,
            min_samples_required: options.whole("min_samples_required", 3, 1, 1_000_000)?,
            curves: BTreeMap::new(),
        })
    }

    pub(super) fn report(&mut self, seen: Seen) -> Verdict {
        let curve = self.curves.entry(seen.trial).or_default();
        curve.push((seen.time, seen.score));
        let best = curve.iter().map(|point| point.1).fold(f64::NAN, f64::min);
        if seen.time < self.grace_period {
            return Verdict::go_on();
        }
        let mut means: Vec<f64> = self
            .curves
            .iter()
            .filter(|(trial, _)| **trial != seen.trial)
            .filter(|(_, curve)| curve.last().is_some_and(|last| last.0 >= seen.time))
            .map(|(_, curve)| self.mean(curve, seen.time))
            .filter(|mean| mean.is_finite())
            .collect();
        if means.len() < self.min_samples_required {
            return Verdict::go_on();
        }
        if best.is_nan() || best > median(&mut means) {
            return Verdict::new(Decision::Stop);
        }
        Verdict::go_on()
    }

    fn mean(&self, curve: &[(f64, f64)], until: f64) -> f64 {
        let inside = |point: &&(f64, f64)| self.grace_period <= point.0 && point.0 <= until;
        let scores: Vec<f64> = curve.iter().filter(inside).map(|point| point.1).collect();
        scores.iter().sum::<f64>() / scores.len() as f64
    }
}

/// Stops a trial that has not become better for some reports.
#[derive(Debug, Clone)]
pub(super) struct Patience {
    patience: usize,
    min_delta: f64,
    grace_period: f64,
    best: BTreeMap<u64, (f64, usize)>,
}

impl Patience {
    pub(super) fn parse(options: &mut Options<'_>) -> Result<Self, ActionError> {
        Ok(Self {
            patience: options.whole("patience", 5, 1, 1_000_000)?,
            min_delta: options.number("min_delta", 0.0, 0.0, f64::MAX)?,
            grace_period: options.number("grace_period", 1.0, 0.0, f64::MAX)?,
            best: BTreeMap::new(),
        })
    }

    pub(super) fn report(&mut self, seen: Seen) -> Verdict {
        let (best, waited) = self.best.entry(seen.trial).or_insert((f64::INFINITY, 0));
        if seen.score < *best - self.min_delta {
            (*best, *waited) = (seen.score, 0);
        } else {
            *waited += 1;
        }
        if *waited >= self.patience && seen.time >= self.grace_period {
            return Verdict {
                complete: true,
                ..Verdict::new(Decision::Stop)
            };
        }
        Verdict::go_on()
    }
}

/// Stops a trial whose last scores hardly differ. As Ray's `TrialPlateauStopper`.
#[derive(Debug, Clone)]
pub(super) struct Plateau {
    std: f64,
    num_results: usize,
    grace_period: usize,
    curves: BTreeMap<u64, Vec<f64>>,
}

impl Plateau {
    pub(super) fn parse(options: &mut Options<'_>) -> Result<Self, ActionError> {
        Ok(Self {
            std: options.number("std", 0.01, 0.0, f64::MAX)?,
            num_results: options.whole("num_results", 4, 1, 1_000_000)?,
            grace_period: options.whole("grace_period", 4, 0, 1_000_000)?,
            curves: BTreeMap::new(),
        })
    }

    pub(super) fn report(&mut self, seen: Seen) -> Verdict {
        let curve = self.curves.entry(seen.trial).or_default();
        curve.push(seen.score);
        if curve.len() < self.grace_period.max(self.num_results) {
            return Verdict::go_on();
        }
        let last = &curve[curve.len() - self.num_results..];
        let count = last.len() as f64;
        let mean = last.iter().sum::<f64>() / count;
        let variance = last
            .iter()
            .map(|score| (score - mean) * (score - mean))
            .sum::<f64>();
        if sqrt(variance / count) <= self.std {
            return Verdict {
                complete: true,
                ..Verdict::new(Decision::Stop)
            };
        }
        Verdict::go_on()
    }
}
