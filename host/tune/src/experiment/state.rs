//! What is known of an experiment.

use std::collections::BTreeMap;

use super::event::{Definition, Status};
use super::{Experiment, Trial};
use crate::settings::Scope;
use crate::space::Space;

/// Reading.
impl Experiment {
    /// One trial.
    pub fn trial(&self, trial: u64) -> Option<&Trial> {
        self.trials.get(usize::try_from(trial).ok()?)
    }

    /// All trials, by number.
    pub fn trials(&self) -> &[Trial] {
        &self.trials
    }

    /// The space, with the steps that were chosen for it.
    pub fn space(&self) -> &Space {
        &self.space
    }

    /// What the experiment was created from.
    pub fn definition(&self) -> &Definition {
        &self.definition
    }

    /// The method by which configurations are chosen.
    pub fn searcher(&self) -> &'static str {
        self.settings.searcher.name
    }

    /// The method by which trials are held back or ended early.
    pub fn scheduler(&self) -> &'static str {
        self.settings.scheduler.name
    }

    /// The objective's name.
    pub fn metric(&self) -> &str {
        &self.settings.metric
    }

    /// Whether larger values of the objective are better.
    pub fn is_maximised(&self) -> bool {
        self.settings.maximise
    }

    /// What was accepted but is likely a mistake, one sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = self.settings.warnings.clone();
        let samples = self.settings.num_samples;
        if self.space.is_only_grid()
            && !self.settings.repeat_grid
            && self.settings.points.is_empty()
        {
            let total = self.plan.total(&self.space);
            if samples != Some(1) && samples != total {
                let (total, samples) = (
                    total.unwrap_or(0),
                    samples.map_or(-1, |samples| samples as i64),
                );
                warnings.push(format!(
                    "the grid has {total} points, which are run once each, although num_samples is {samples}"
                ));
            }
        }
        warnings
    }

    /// How many trials there will be, if that is limited.
    pub fn total(&self) -> Option<u64> {
        self.plan.total(&self.space)
    }

    /// How many trials have a slot.
    pub fn running(&self) -> usize {
        self.running
    }

    /// How many trials have ended.
    pub fn ended(&self) -> u64 {
        self.closed
    }

    /// Why no more trials are started, if they are not.
    pub fn stopped(&self) -> Option<&str> {
        self.stopped.as_deref()
    }

    /// Whether it was stopped because a trial failed.
    pub fn has_failed_fast(&self) -> bool {
        self.settings.fail_fast
            && self.stopped.is_some()
            && self
                .trials
                .iter()
                .any(|trial| trial.status == Status::Error)
    }

    /// Whether every trial has ended and none will be created.
    pub fn is_finished(&self) -> bool {
        self.closed == self.trials.len() as u64 && !self.has_more()
    }

    /// The share of trials that have ended, from 0 to 1; `None` where their number is not limited.
    pub fn progress(&self) -> Option<f64> {
        if self.is_finished() {
            return Some(1.0);
        }
        let total = self.total()?.max(1);
        Some((self.closed as f64 / total as f64).min(1.0))
    }

    /// The best trial so far: the one with the best last value (or best value, by `scope`).
    ///
    /// Values that are not finite are never best; of equals the first trial is. A trial that
    /// was chosen by [`Self::choose_best`] is, whatever its value.
    pub fn best(&self) -> Option<&Trial> {
        if let Some(chosen) = self.chosen {
            return self.trial(chosen);
        }
        let mut best: Option<(f64, &Trial)> = None;
        for trial in &self.trials {
            let value = match self.settings.scope {
                Scope::Last => trial.last(),
                Scope::Best => trial
                    .curve
                    .iter()
                    .map(|(_, value)| *value)
                    .filter(|value| value.is_finite())
                    .min_by(|left, right| {
                        self.settings
                            .score(*left)
                            .total_cmp(&self.settings.score(*right))
                    }),
            };
            let Some(score) = value.map(|value| self.settings.score(value)) else {
                continue;
            };
            if best.is_none_or(|(least, _)| score < least) {
                best = Some((score, trial));
            }
        }
        best.map(|(_, trial)| trial)
    }

    /// Whether somebody said which trial is the best.
    pub fn is_best_chosen(&self) -> bool {
        self.chosen.is_some()
    }

    /// How many trials there are of each status.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        let mut counts = BTreeMap::new();
        for trial in &self.trials {
            *counts.entry(trial.status.as_str()).or_insert(0) += 1;
        }
        counts
    }
}
