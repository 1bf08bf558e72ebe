//! The hyperparameters and their rules.

use schemars::JsonSchema;
use serde::Deserialize;
use trainshed_sdk::Failure;
use trainshed_sdk::nn::{AdamW, Cosine, PerEpoch};
use trainshed_sdk::trainer::Recipe;

/// How the network looks and how it learns.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Settings {
    /// How often to go through the training rows; a resumed run adds as many.
    #[schemars(range(min = 1, max = 100_000))]
    pub(crate) epochs: u32,
    /// How many rows a step learns from.
    #[schemars(range(min = 2, max = 65_536))]
    pub(crate) batch_size: u32,
    /// How far a step of the first epoch goes.
    #[schemars(range(min = 0.0))]
    pub(crate) learning_rate: f64,
    /// After how many epochs, those before a checkpoint included, the learning rate has
    /// fallen to a hundredth; without it, after `epochs`.
    #[schemars(range(min = 1, max = 100_000))]
    pub(crate) decay_epochs: Option<u32>,
    /// How strongly the weights of layers are drawn to 0.
    #[schemars(range(min = 0.0))]
    pub(crate) weight_decay: f64,
    /// How many channels each block of the network makes.
    #[schemars(length(min = 1, max = 16), inner(range(min = 1, max = 1024)))]
    pub(crate) channels: Vec<usize>,
    /// The share of numbers before the last layer that are set to 0 while training.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(crate) dropout: f64,
    /// By how many pixels pictures are moved at random while training.
    #[schemars(range(max = 16))]
    pub(crate) shift: u32,
    /// The share of rows that are held back to judge by.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(crate) validation_fraction: f64,
    /// Every how many epochs the model is saved as `last`; 0 means at the end only.
    pub(crate) save_every: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            epochs: 15,
            batch_size: 32,
            learning_rate: 0.003,
            decay_epochs: None,
            weight_decay: 0.01,
            channels: vec![16, 32, 64],
            dropout: 0.2,
            shift: 1,
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
        whole("/epochs", 1..=100_000, self.epochs)?;
        // Batch norm needs two rows to vary.
        whole("/batch_size", 2..=65_536, self.batch_size)?;
        positive("/learning_rate", self.learning_rate)?;
        whole("/decay_epochs", 1..=100_000, self.decay_epochs.unwrap_or(1))?;
        positive("/weight_decay", self.weight_decay)?;
        let channels = &self.channels;
        rule(
            (1..=16).contains(&channels.len())
                && channels.iter().all(|count| (1..=1024).contains(count)),
            "/channels",
            "1 to 16 counts of 1 to 1024",
            format!("{channels:?}"),
        )?;
        rule(
            (0.0..1.0).contains(&self.dropout),
            "/dropout",
            "at least 0 and less than 1",
            self.dropout.to_string(),
        )?;
        whole("/shift", 0..=16, self.shift)?;
        let fraction = self.validation_fraction;
        rule(
            fraction > 0.0 && fraction < 1.0,
            "/validation_fraction",
            "more than 0 and less than 1",
            fraction.to_string(),
        )
    }

    /// Biases and the parameters of norms are not drawn to 0.
    pub(crate) fn recipe(&self) -> Recipe {
        let adam = |weight_decay| AdamW {
            weight_decay,
            ..AdamW::default()
        };
        Recipe::new(adam(self.weight_decay)).group(|spec| spec.shape.len() < 2, adam(0.0), 1.0)
    }

    /// The learning rate of each step, of which an epoch has so many.
    pub(crate) fn rates(&self, steps: u64) -> PerEpoch<Cosine> {
        PerEpoch {
            steps,
            of: Cosine {
                base: self.learning_rate,
                steps: self.decay_epochs.unwrap_or(self.epochs).into(),
                minimum: self.learning_rate / 100.0,
            },
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
    use trainshed_sdk::nn::Schedule as _;

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
    }

    #[test]
    fn the_rate_falls_epoch_by_epoch_to_a_hundredth() {
        let settings = Settings {
            epochs: 2,
            decay_epochs: Some(4),
            learning_rate: 1.0,
            ..Settings::default()
        };
        let rates = settings.rates(10);
        let at = [0, 9, 20, 40, 99].map(|step| (rates.rate(step) * 1000.0).round());
        assert_eq!(at, [1000.0, 1000.0, 505.0, 10.0, 10.0]);
    }

    #[test]
    fn a_value_out_of_range_is_named_with_what_would_be_right() {
        check(
            r#"{"batch_size": 1}"#,
            "/batch_size must be 2 to 65536, but it is 1",
        );
        check(
            r#"{"channels": []}"#,
            "/channels must be 1 to 16 counts of 1 to 1024, but it is []",
        );
        check(
            r#"{"dropout": 1}"#,
            "/dropout must be at least 0 and less than 1, but it is 1",
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
