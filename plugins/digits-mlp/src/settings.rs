//! The hyperparameters and their rules.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trainshed_sdk::Failure;
use trainshed_sdk::nn::{Activation, Adam, AdamW, Moments, Optimizer, RmsProp, Sgd};

/// How the network looks and how it learns.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Settings {
    /// How often to go through the training rows; a resumed run adds as many.
    #[schemars(range(min = 1, max = 100_000))]
    pub(crate) epochs: u32,
    /// How many rows a step learns from.
    #[schemars(range(min = 1, max = 65_536))]
    pub(crate) batch_size: u32,
    /// How far a step goes.
    #[schemars(range(min = 0.0))]
    pub(crate) learning_rate: f64,
    /// The rule by which a step goes.
    pub(crate) optimizer: OptimizerName,
    /// The share of the last step that `sgd` keeps.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(crate) momentum: f64,
    /// How strongly weights are drawn to 0.
    #[schemars(range(min = 0.0))]
    pub(crate) weight_decay: f64,
    /// The sizes of the hidden layers.
    #[schemars(length(max = 16), inner(range(min = 1, max = 65_536)))]
    pub(crate) hidden: Vec<usize>,
    /// What stands behind each hidden layer.
    pub(crate) activation: Activation,
    /// The share of what comes out of each hidden layer that training leaves out by chance.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(crate) dropout_rate: f64,
    /// The share of rows that are held back to judge by.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(crate) validation_fraction: f64,
    /// Every how many epochs the model is saved as `last`; 0 means at the end only.
    pub(crate) save_every: u32,
}

/// The rule by which a step goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OptimizerName {
    /// Adaptive moments.
    Adam,
    /// Adam whose weight decay stands by itself.
    AdamW,
    /// Stochastic gradient descent.
    Sgd,
    /// Gradients divided by the root of their recent mean square.
    RmsProp,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            epochs: 20,
            batch_size: 32,
            learning_rate: 0.001,
            optimizer: OptimizerName::Adam,
            momentum: 0.0,
            weight_decay: 0.0,
            hidden: vec![128],
            activation: Activation::Relu,
            dropout_rate: 0.0,
            validation_fraction: 0.2,
            save_every: 5,
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
        let whole = |range: std::ops::RangeInclusive<u32>, pointer, value: u32| {
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
        whole(1..=100_000, "/epochs", self.epochs)?;
        whole(1..=65_536, "/batch_size", self.batch_size)?;
        positive("/learning_rate", self.learning_rate)?;
        positive("/weight_decay", self.weight_decay)?;
        let (momentum, fraction) = (self.momentum, self.validation_fraction);
        rule(
            (0.0..1.0).contains(&momentum),
            "/momentum",
            "at least 0 and less than 1",
            momentum.to_string(),
        )?;
        rule(
            (0.0..1.0).contains(&self.dropout_rate),
            "/dropout_rate",
            "at least 0 and less than 1",
            self.dropout_rate.to_string(),
        )?;
        rule(
            fraction > 0.0 && fraction < 1.0,
            "/validation_fraction",
            "more than 0 and less than 1",
            fraction.to_string(),
        )?;
        rule(
            self.hidden.len() <= 16 && self.hidden.iter().all(|size| (1..=65_536).contains(size)),
            "/hidden",
            "at most 16 sizes of 1 to 65536",
            format!("{:?}", self.hidden),
        )
    }

    pub(crate) fn optimizer(&self) -> Box<dyn Optimizer> {
        let weight_decay = self.weight_decay;
        let moments = Moments::default();
        match self.optimizer {
            OptimizerName::Adam => Box::new(Adam {
                moments,
                weight_decay,
            }),
            OptimizerName::AdamW => Box::new(AdamW {
                moments,
                weight_decay,
            }),
            OptimizerName::Sgd => Box::new(Sgd {
                momentum: self.momentum,
                nesterov: false,
                weight_decay,
            }),
            OptimizerName::RmsProp => Box::new(RmsProp {
                weight_decay,
                ..RmsProp::default()
            }),
        }
    }

    /// Whether the model is saved as `last` after so many epochs of this run.
    pub(crate) fn saves_after(&self, epochs: u64) -> bool {
        let every = u64::from(self.save_every);
        epochs == u64::from(self.epochs) || epochs.checked_rem(every) == Some(0)
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
        assert_eq!(properties.len(), 11);
        let mut defaults = properties.iter();
        let missing = defaults.find(|(_, property)| property.get("default").is_none());
        assert_eq!(missing, None);
        assert_eq!(properties["optimizer"]["default"], "adam");
    }

    #[test]
    fn a_value_out_of_range_is_named_with_what_would_be_right() {
        check(
            r#"{"batch_size": 0}"#,
            "/batch_size must be 1 to 65536, but it is 0",
        );
        check(
            r#"{"momentum": 1}"#,
            "/momentum must be at least 0 and less than 1, but it is 1",
        );
        check(
            r#"{"dropout_rate": 1.5}"#,
            "/dropout_rate must be at least 0 and less than 1, but it is 1.5",
        );
        check(
            r#"{"hidden": [8, 0]}"#,
            "/hidden must be at most 16 sizes of 1 to 65536, but it is [8, 0]",
        );
        check(
            r#"{"learning_rate": -0.5}"#,
            "/learning_rate must be a number that is at least 0, but it is -0.5",
        );
    }

    #[test]
    fn the_last_model_is_saved_every_few_epochs_and_at_the_end() {
        let saved = |save_every, epochs| {
            let settings = Settings {
                save_every,
                epochs,
                ..Settings::default()
            };
            (1..=u64::from(epochs))
                .filter(|&epoch| settings.saves_after(epoch))
                .collect::<Vec<_>>()
        };
        assert_eq!(saved(5, 12), [5, 10, 12]);
        assert_eq!(saved(0, 3), [3]);
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
