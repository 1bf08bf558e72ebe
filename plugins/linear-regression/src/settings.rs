//! The hyperparameters and their rules.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trainshed_sdk::Failure;

/// What is fitted, and how.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Settings {
    /// The table; without it, the only one.
    pub(crate) table: Option<String>,
    /// The column to predict; without it, the last column of numbers.
    pub(crate) target: Option<String>,
    /// The columns to predict from; without them, all other columns of numbers.
    pub(crate) features: Option<Vec<String>>,
    /// How the coefficients are found.
    pub(crate) method: Method,
    /// How strongly coefficients, of standardised columns, are drawn to 0.
    #[schemars(range(min = 0.0))]
    pub(crate) ridge: f64,
    /// How often `gradient` goes through the training rows; a resumed run adds as many.
    #[schemars(range(min = 1, max = 100_000))]
    pub(crate) epochs: u32,
    /// How many rows a step of `gradient` learns from.
    #[schemars(range(min = 1, max = 65_536))]
    pub(crate) batch_size: u32,
    /// How far a step of `gradient` goes.
    #[schemars(range(min = 0.0))]
    pub(crate) learning_rate: f64,
    /// The share of the last step that `gradient` keeps.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(crate) momentum: f64,
    /// The share of rows that are held back to judge by.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(crate) validation_fraction: f64,
}

/// How the coefficients are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Method {
    /// By the normal equations: exact, for up to 1000 features.
    Exact,
    /// By stochastic gradient descent.
    Gradient,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            table: None,
            target: None,
            features: None,
            method: Method::Exact,
            ridge: 0.0,
            epochs: 100,
            batch_size: 32,
            learning_rate: 0.01,
            momentum: 0.9,
            validation_fraction: 0.2,
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
        let positive = |pointer, value: f64| {
            let expected = "a number that is at least 0";
            let holds = value.is_finite() && value >= 0.0;
            rule(holds, pointer, expected, value.to_string())
        };
        positive("/ridge", self.ridge)?;
        positive("/learning_rate", self.learning_rate)?;
        rule(
            (1..=100_000).contains(&self.epochs),
            "/epochs",
            "1 to 100000",
            self.epochs.to_string(),
        )?;
        rule(
            (1..=65_536).contains(&self.batch_size),
            "/batch_size",
            "1 to 65536",
            self.batch_size.to_string(),
        )?;
        rule(
            (0.0..1.0).contains(&self.momentum),
            "/momentum",
            "at least 0 and less than 1",
            self.momentum.to_string(),
        )?;
        rule(
            self.validation_fraction > 0.0 && self.validation_fraction < 1.0,
            "/validation_fraction",
            "more than 0 and less than 1",
            self.validation_fraction.to_string(),
        )
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
        assert_eq!(properties.len(), 10);
        let mut defaults = properties.iter();
        let missing = defaults.find(|(_, property)| property.get("default").is_none());
        assert_eq!(missing, None);
        assert_eq!(properties["method"]["default"], "exact");
    }

    #[test]
    fn a_value_out_of_range_is_named_with_what_would_be_right() {
        check(
            r#"{"ridge": -1}"#,
            "/ridge must be a number that is at least 0, but it is -1",
        );
        check(
            r#"{"validation_fraction": 1}"#,
            "/validation_fraction must be more than 0 and less than 1, but it is 1",
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
