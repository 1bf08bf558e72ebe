//! How far a task has come.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The phases of a train action and the share of the whole that each makes up, in percent.
pub const TRAIN_PHASES: [(&str, f64); 3] =
    [("dataset", 20.0), ("train", 75.0), ("model_upload", 5.0)];

/// The phase of a tune action in which its trials run; it takes the place of `train`.
pub const TRIALS_PHASE: &str = "trials";

/// How far each phase has come. No phase ever goes back.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct Progress(BTreeMap<String, f64>);

impl Progress {
    /// Notes that `phase` is at `current` of `total`; less than what is known is ignored.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a share in percent needs no more than the 53 bits of a float"
    )]
    pub fn advance(&mut self, phase: &str, current: u64, total: u64) {
        let share = if total == 0 {
            0.0
        } else {
            (current.min(total) as f64) / (total as f64)
        };
        let known = self.0.entry(phase.to_owned()).or_insert(0.0);
        *known = known.max(share * 100.0);
    }

    /// Marks every phase of a train action as done.
    pub fn finish(&mut self) {
        for (phase, _) in TRAIN_PHASES {
            self.0.insert(phase.to_owned(), 100.0);
        }
    }

    /// Percent of each phase that was heard of.
    pub fn phases(&self) -> &BTreeMap<String, f64> {
        &self.0
    }

    /// Percent of the whole: 20 % data set, 75 % training (or the trials of a tune action), 5 %
    /// upload of the model.
    pub fn overall(&self) -> f64 {
        let heard = |phase: &str| self.0.get(phase).copied();
        let done = |phase: &str| match phase {
            "train" => heard(TRIALS_PHASE).or_else(|| heard(phase)).unwrap_or(0.0),
            _ => heard(phase).unwrap_or(0.0),
        };
        TRAIN_PHASES
            .iter()
            .map(|(phase, share)| done(phase) * share / 100.0)
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_is_a_fifth_data_set_three_quarters_training_and_a_twentieth_upload() {
        let mut progress = Progress::default();
        progress.advance("dataset", 1, 1);
        progress.advance("train", 5, 20);
        assert_eq!(progress.overall(), 20.0 + 0.75 * 25.0);
        progress.finish();
        assert_eq!(progress.overall(), 100.0);
    }

    #[test]
    fn the_trials_of_a_tune_action_make_up_three_quarters() {
        let mut progress = Progress::default();
        progress.advance("dataset", 1, 1);
        progress.advance(TRIALS_PHASE, 3, 10);
        assert_eq!(progress.overall(), 20.0 + 0.75 * 30.0);
        progress.advance(TRIALS_PHASE, 10, 10);
        progress.advance("model_upload", 1, 1);
        assert_eq!(progress.overall(), 100.0);
    }

    #[test]
    fn progress_never_goes_back_and_never_passes_the_end() {
        let mut progress = Progress::default();
        progress.advance("train", 3, 4);
        progress.advance("train", 1, 4);
        assert_eq!(progress.phases()["train"], 75.0);
        progress.advance("train", 9, 4);
        assert_eq!(progress.phases()["train"], 100.0);
        progress.advance("custom", 1, 0);
        assert_eq!(progress.phases()["custom"], 0.0);
    }
}
