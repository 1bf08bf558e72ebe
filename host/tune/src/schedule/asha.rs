//! Asynchronous successive halving, in the stopping form that Ray has.
//!
//! Source: Li, Jamieson, Rostamizadeh, Gonina, Ben-Tzur, Hardt, Recht, Talwalkar, "A System for
//! Massively Parallel Hyperparameter Tuning", MLSys 2020, section 3; the paper promotes paused
//! trials, this rule stops running ones.

use std::collections::BTreeMap;

use trainshed_core::action::ActionError;

use super::{Decision, Seen, Verdict};
use crate::math::{exp, index};
use crate::options::Options;
use crate::stream::{Purpose, Stream};

/// The rule, with the scores at every rung.
#[derive(Debug, Clone)]
pub(super) struct Asha {
    max_t: f64,
    reduction_factor: f64,
    stop_last_trials: bool,
    brackets: Vec<Vec<Rung>>,
    bracket_of: BTreeMap<u64, usize>,
}

#[derive(Debug, Clone)]
struct Rung {
    milestone: f64,
    /// Values, larger is better.
    recorded: BTreeMap<u64, f64>,
}

impl Asha {
    pub(super) fn parse(
        options: &mut Options<'_>,
        epochs: Option<f64>,
    ) -> Result<Self, ActionError> {
        let max_t = options.number("max_t", epochs.unwrap_or(100.0), 1.0, f64::MAX)?;
        let grace_period = options.number("grace_period", 1.0, 1e-9, max_t)?;
        let reduction_factor = options.number("reduction_factor", 4.0, 1.001, 1e6)?;
        let brackets = options.whole("brackets", 1, 1, 64)?;
        let stop_last_trials = options.flag("stop_last_trials", true)?;
        let bracket = |shift: usize| {
            let milestone = |level| grace_period * libm::pow(reduction_factor, level as f64);
            let mut rungs: Vec<Rung> = (shift..1000)
                .map(milestone)
                .take_while(|milestone| *milestone <= max_t * (1.0 + 1e-12))
                .map(|milestone| Rung {
                    milestone,
                    recorded: BTreeMap::new(),
                })
                .collect();
            rungs.reverse();
            rungs
        };
        Ok(Self {
            max_t,
            reduction_factor,
            stop_last_trials,
            brackets: (0..brackets).map(bracket).collect(),
            bracket_of: BTreeMap::new(),
        })
    }

    /// Puts a trial into a bracket, by chance: brackets with more rungs are likelier.
    pub(super) fn add(&mut self, trial: u64, seed: u64) {
        let most = self.brackets.iter().map(Vec::len).max().unwrap_or(0);
        let shares: Vec<f64> = self
            .brackets
            .iter()
            .map(|rungs| exp(rungs.len() as f64 - most as f64))
            .collect();
        let mut stream = Stream::new(seed, trial, Purpose::Schedule);
        let mut left = stream.uniform() * shares.iter().sum::<f64>();
        let mut bracket = 0;
        while bracket + 1 < shares.len() && left >= shares[bracket] {
            left -= shares[bracket];
            bracket += 1;
        }
        self.bracket_of.insert(trial, bracket);
    }

    pub(super) fn report(&mut self, seen: Seen) -> Verdict {
        if seen.time >= self.max_t && self.stop_last_trials {
            return Verdict {
                complete: true,
                ..Verdict::new(Decision::Stop)
            };
        }
        match self.record(seen) {
            true => Verdict::new(Decision::Stop),
            false => Verdict::go_on(),
        }
    }

    pub(super) fn end(&mut self, trial: u64, last: Option<Seen>) {
        if let Some(seen) = last {
            self.record(seen);
        }
        self.bracket_of.remove(&trial);
    }

    /// Records a score at the highest rung that the trial has passed and was not recorded at;
    /// says whether it is worse than the cutoff there.
    fn record(&mut self, seen: Seen) -> bool {
        let Some(bracket) = self.bracket_of.get(&seen.trial) else {
            return false;
        };
        let value = -seen.score;
        for rung in &mut self.brackets[*bracket] {
            if seen.time < rung.milestone {
                continue;
            }
            if rung.recorded.contains_key(&seen.trial) {
                if self.stop_last_trials {
                    continue;
                }
                return false;
            }
            let cutoff = cutoff(rung.recorded.values(), self.reduction_factor);
            rung.recorded.insert(seen.trial, value);
            return cutoff.is_some_and(|cutoff| value.is_nan() || value < cutoff);
        }
        false
    }
}

/// The value that the best of every `reduction_factor` trials have at least, between two ranks
/// by linear interpolation. NaN is left out.
fn cutoff<'a>(values: impl Iterator<Item = &'a f64>, reduction_factor: f64) -> Option<f64> {
    let mut sorted: Vec<f64> = values.copied().filter(|value| !value.is_nan()).collect();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    let position = (1.0 - 1.0 / reduction_factor) * last as f64;
    let below = index(position.floor()).min(last);
    let above = (below + 1).min(last);
    let (share, distance) = (position - position.floor(), sorted[above] - sorted[below]);
    Some(if !distance.is_finite() {
        sorted[below]
    } else if share >= 0.5 {
        sorted[above] - distance * (1.0 - share)
    } else {
        sorted[below] + distance * share
    })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn brackets_have_the_milestones_of_rays_class() {
        let file = include_str!("../../tests/golden/ray.json");
        let file: Value = serde_json::from_str(file).unwrap();
        for case in file["rungs"].as_array().unwrap() {
            let given = case["options"].as_object().unwrap();
            let mut options = Options::new(given, "scheduler asha", String::new());
            let asha = Asha::parse(&mut options, None).unwrap();
            // At `max_t` every trial stops, so a milestone there decides nothing; whether Ray has
            // one depends on how the logarithm is rounded.
            let below = |milestones: Vec<f64>| -> Vec<f64> {
                let is_below = |milestone: &f64| *milestone < asha.max_t;
                milestones.into_iter().filter(is_below).collect()
            };
            let milestones = |bracket: &Vec<Rung>| -> Vec<f64> {
                below(bracket.iter().map(|rung| rung.milestone).collect())
            };
            let ours: Vec<Vec<f64>> = asha.brackets.iter().map(milestones).collect();
            let theirs: Vec<Vec<f64>> = serde_json::from_value(case["milestones"].clone()).unwrap();
            let theirs: Vec<Vec<f64>> = theirs.into_iter().map(below).collect();
            assert_eq!(ours, theirs, "{given:?}");
        }
    }
}
