//! The hyperparameters and their rules.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trainshed_sdk::Failure;

use crate::bins::MAX_BINS;
use crate::boost::Boosting;
use crate::grow::Rules;
use crate::tree::MAX_LEAVES;

/// What is predicted, and how trees learn it.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Settings {
    /// The table; without it, the only one.
    pub(crate) table: Option<String>,
    /// The column to predict; without it, the last one.
    pub(crate) target: Option<String>,
    /// The columns to predict from; without them, all other columns of numbers.
    pub(crate) features: Option<Vec<String>>,
    /// What the target is; without it, texts are classes and numbers are numbers.
    pub(crate) objective: Option<Objective>,
    /// How many rounds of trees; a resumed run adds as many.
    #[schemars(range(min = 1, max = 100_000))]
    pub(crate) rounds: u32,
    /// What each tree is multiplied by.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(crate) learning_rate: f64,
    /// How many leaves a tree has at most.
    #[schemars(range(min = 2, max = 128))]
    pub(crate) leaves: u32,
    /// How many questions a row is asked at most; 0 means any number.
    #[schemars(range(max = 127))]
    pub(crate) depth: u32,
    /// The least weight of a leaf: of numbers how many rows it has, of classes less, the
    /// surer they are.
    #[schemars(range(min = 0.0))]
    pub(crate) min_child_weight: f64,
    /// How strongly leaves are drawn to 0.
    #[schemars(range(min = 0.0))]
    pub(crate) lambda: f64,
    /// The least gain of a split.
    #[schemars(range(min = 0.0))]
    pub(crate) min_gain: f64,
    /// The share of rows that each round learns from.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(crate) subsample: f64,
    /// The share of features that each round looks at.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(crate) feature_fraction: f64,
    /// Into how many bins the values of a feature are cut at most.
    #[schemars(range(min = 2, max = 255))]
    pub(crate) bins: u32,
    /// The share of rows that are held back to judge by.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(crate) validation_fraction: f64,
    /// After how many rounds without a better one it ends early; 0 means never.
    pub(crate) patience: u32,
    /// Every how many rounds the model is saved as `last`; 0 means at the end only.
    pub(crate) save_every: u32,
}

/// What the target is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Objective {
    /// A number, by its squared error.
    Regression,
    /// One of several classes, by their probabilities.
    Classification,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            table: None,
            target: None,
            features: None,
            objective: None,
            rounds: 200,
            learning_rate: 0.1,
            leaves: 31,
            depth: 6,
            min_child_weight: 1.0,
            lambda: 1.0,
            min_gain: 0.0,
            subsample: 1.0,
            feature_fraction: 1.0,
            bins: 255,
            validation_fraction: 0.2,
            patience: 20,
            save_every: 50,
        }
    }
}

impl Settings {
    /// Checks what the types do not.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        let rule = |holds: bool, pointer: &str, expected: &str, found: String| {
            let message = || format!("must be {expected}, but it is {found}");
            holds
                .then_some(())
                .ok_or_else(|| Failure::invalid_parameter(pointer, message()))
        };
        let whole = |pointer: &str, range: std::ops::RangeInclusive<u32>, value: u32| {
            let expected = format!("{} to {}", range.start(), range.end());
            rule(
                range.contains(&value),
                pointer,
                &expected,
                value.to_string(),
            )
        };
        let positive = |pointer, value: f64| {
            let expected = "a number that is at least 0";
            let holds = value.is_finite() && value >= 0.0;
            rule(holds, pointer, expected, value.to_string())
        };
        let share = |pointer, value: f64| {
            let holds = value > 0.0 && value <= 1.0;
            rule(
                holds,
                pointer,
                "more than 0 and at most 1",
                value.to_string(),
            )
        };
        whole("/rounds", 1..=100_000, self.rounds)?;
        share("/learning_rate", self.learning_rate)?;
        whole("/leaves", 2..=MAX_LEAVES, self.leaves)?;
        whole("/depth", 0..=MAX_LEAVES - 1, self.depth)?;
        positive("/min_child_weight", self.min_child_weight)?;
        positive("/lambda", self.lambda)?;
        positive("/min_gain", self.min_gain)?;
        share("/subsample", self.subsample)?;
        share("/feature_fraction", self.feature_fraction)?;
        let bins = u32::try_from(MAX_BINS).unwrap_or(u32::MAX);
        whole("/bins", 2..=bins, self.bins)?;
        let fraction = self.validation_fraction;
        rule(
            fraction > 0.0 && fraction < 1.0,
            "/validation_fraction",
            "more than 0 and less than 1",
            fraction.to_string(),
        )
    }

    pub(crate) fn boosting(&self, seed: u64) -> Boosting {
        Boosting {
            rules: Rules {
                leaves: self.leaves,
                depth: self.depth,
                min_child_weight: self.min_child_weight,
                lambda: self.lambda,
                min_gain: self.min_gain,
                learning_rate: self.learning_rate,
            },
            row_share: self.subsample,
            feature_share: self.feature_fraction,
            seed,
        }
    }

    /// Whether the model is saved as `last` after so many rounds of this run, which are not
    /// the last ones.
    pub(crate) fn saves_after(&self, rounds: u64) -> bool {
        rounds.checked_rem(self.save_every.into()) == Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_keep_every_rule() {
        assert_eq!(Settings::default().check(), Ok(()));
    }

    #[test]
    fn the_schema_gives_every_default() {
        let schema = schemars::schema_for!(Settings).to_value();
        let properties = schema["properties"].as_object().unwrap();
        assert_eq!(properties.len(), 17);
        let mut defaults = properties.iter();
        let missing = defaults.find(|(_, property)| property.get("default").is_none());
        assert_eq!(missing, None);
    }

    #[test]
    fn a_value_out_of_range_is_named_with_what_would_be_right() {
        check(
            r#"{"leaves": 200}"#,
            "/leaves must be 2 to 128, but it is 200",
        );
        check(
            r#"{"subsample": 0}"#,
            "/subsample must be more than 0 and at most 1, but it is 0",
        );
        check(
            r#"{"lambda": -1}"#,
            "/lambda must be a number that is at least 0, but it is -1",
        );
    }

    #[track_caller]
    fn check(json: &str, expected: &str) {
        let settings: Settings = serde_json::from_str(json).unwrap();
        let Err(Failure::InvalidParameter { pointer, message }) = settings.check() else {
            panic!("{json} was taken");
        };
        assert_eq!(format!("{pointer} {message}"), expected);
    }
}
