//! The hyperparameters and their rules.

use schemars::JsonSchema;
use serde::Deserialize;
use trainshed_sdk::Failure;
use trainshed_sdk::nn::{AdamW, Cosine, WarmUp};
use trainshed_sdk::trainer::Recipe;

/// How the network looks, how it learns, and what it writes.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Settings {
    /// How often the model is judged; a resumed run adds as many.
    #[schemars(range(min = 1, max = 100_000))]
    pub(crate) epochs: u32,
    /// How many steps lie between.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(crate) steps_per_epoch: u32,
    /// How many windows of text a step learns from.
    #[schemars(range(min = 1, max = 4096))]
    pub(crate) batch_size: u32,
    /// How many characters the network sees at once.
    #[schemars(range(min = 1, max = 4096))]
    pub(crate) context: u32,
    /// How many blocks the network has.
    #[schemars(range(min = 1, max = 64))]
    pub(crate) layers: u32,
    /// How many heads the attention has; they divide `size`.
    #[schemars(range(min = 1, max = 64))]
    pub(crate) heads: u32,
    /// How many numbers stand for a character.
    #[schemars(range(min = 1, max = 4096))]
    pub(crate) size: u32,
    /// The share of numbers that are set to 0 while training.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(crate) dropout: f64,
    /// Whether characters go out by the same table by which they come in.
    pub(crate) tied: bool,
    /// The greatest learning rate.
    #[schemars(range(min = 0.0))]
    pub(crate) learning_rate: f64,
    /// In how many steps the learning rate rises.
    #[schemars(range(max = 1_000_000))]
    pub(crate) warm_up_steps: u32,
    /// After how many epochs, those before a checkpoint included, the learning rate has
    /// fallen to a tenth; without it, after `epochs`.
    #[schemars(range(min = 1, max = 100_000))]
    pub(crate) decay_epochs: Option<u32>,
    /// How strongly matrices are drawn to 0.
    #[schemars(range(min = 0.0))]
    pub(crate) weight_decay: f64,
    /// The greatest common norm of a step's gradients.
    #[schemars(range(min = 0.0))]
    pub(crate) clip_norm: f64,
    /// The share of the text, from its end, that is held back to judge by.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(crate) validation_fraction: f64,
    /// How many characters it writes after each epoch.
    #[schemars(range(max = 10_000))]
    pub(crate) sample_length: u32,
    /// How boldly it writes: 0 always takes the likeliest character.
    #[schemars(range(min = 0.0))]
    pub(crate) temperature: f64,
    /// Every how many epochs the model is saved as `last`; 0 means at the end only.
    pub(crate) save_every: u32,
}

/// An epoch's windows are in memory at once.
const MAX_EPOCH_CHARACTERS: u64 = 1 << 24;

impl Default for Settings {
    fn default() -> Self {
        Self {
            epochs: 20,
            steps_per_epoch: 50,
            batch_size: 16,
            context: 64,
            layers: 2,
            heads: 4,
            size: 64,
            dropout: 0.1,
            tied: true,
            learning_rate: 0.003,
            warm_up_steps: 50,
            decay_epochs: None,
            weight_decay: 0.1,
            clip_norm: 1.0,
            validation_fraction: 0.1,
            sample_length: 200,
            temperature: 0.8,
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
        whole("/steps_per_epoch", 1..=1_000_000, self.steps_per_epoch)?;
        whole("/batch_size", 1..=4096, self.batch_size)?;
        whole("/context", 1..=4096, self.context)?;
        let windows = u64::from(self.steps_per_epoch) * u64::from(self.batch_size);
        let characters = windows * (u64::from(self.context) + 1);
        rule(
            characters <= MAX_EPOCH_CHARACTERS,
            "/steps_per_epoch",
            &format!("so few that an epoch has at most {MAX_EPOCH_CHARACTERS} characters"),
            self.steps_per_epoch.to_string(),
        )?;
        whole("/layers", 1..=64, self.layers)?;
        whole("/heads", 1..=64, self.heads)?;
        whole("/size", 1..=4096, self.size)?;
        rule(
            self.size.is_multiple_of(self.heads),
            "/heads",
            &format!("a divisor of `size`, {}", self.size),
            self.heads.to_string(),
        )?;
        rule(
            (0.0..1.0).contains(&self.dropout),
            "/dropout",
            "at least 0 and less than 1",
            self.dropout.to_string(),
        )?;
        positive("/learning_rate", self.learning_rate)?;
        whole("/warm_up_steps", 0..=1_000_000, self.warm_up_steps)?;
        whole("/decay_epochs", 1..=100_000, self.decay_epochs.unwrap_or(1))?;
        positive("/weight_decay", self.weight_decay)?;
        positive("/clip_norm", self.clip_norm)?;
        let fraction = self.validation_fraction;
        rule(
            fraction > 0.0 && fraction < 1.0,
            "/validation_fraction",
            "more than 0 and less than 1",
            fraction.to_string(),
        )?;
        whole("/sample_length", 0..=10_000, self.sample_length)?;
        positive("/temperature", self.temperature)
    }

    /// Only matrices are drawn to 0, not biases and the parameters of norms.
    pub(crate) fn recipe(&self) -> Recipe {
        let adam = |weight_decay| AdamW {
            weight_decay,
            ..AdamW::default()
        };
        Recipe::new(adam(self.weight_decay))
            .group(|spec| spec.shape.len() < 2, adam(0.0), 1.0)
            .clip_norm(self.clip_norm)
    }

    /// The learning rate of each step: up in a straight line, down along a cosine.
    pub(crate) fn rates(&self) -> WarmUp<Cosine> {
        let epochs = self.decay_epochs.unwrap_or(self.epochs);
        let steps = u64::from(epochs) * u64::from(self.steps_per_epoch);
        let warm_up = u64::from(self.warm_up_steps);
        WarmUp {
            steps: warm_up,
            start: 0.01,
            then: Cosine {
                base: self.learning_rate,
                steps: steps.saturating_sub(warm_up).max(1),
                minimum: self.learning_rate / 10.0,
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
        assert_eq!(properties.len(), 18);
        let mut defaults = properties.iter();
        let missing = defaults.find(|(_, property)| property.get("default").is_none());
        assert_eq!(missing, None);
    }

    #[test]
    fn the_rate_rises_and_falls_to_a_tenth() {
        let settings = Settings {
            epochs: 3,
            steps_per_epoch: 50,
            learning_rate: 1.0,
            ..Settings::default()
        };
        let rates = settings.rates();
        let at = [0, 50, 100, 150, 999].map(|step| (rates.rate(step) * 100.0).round());
        assert_eq!(at, [1.0, 100.0, 55.0, 10.0, 10.0]);
    }

    #[test]
    fn a_value_out_of_range_is_named_with_what_would_be_right() {
        check(
            r#"{"heads": 3}"#,
            "/heads must be a divisor of `size`, 64, but it is 3",
        );
        check(
            r#"{"context": 0}"#,
            "/context must be 1 to 4096, but it is 0",
        );
        check(
            r#"{"temperature": -1}"#,
            "/temperature must be a number that is at least 0, but it is -1",
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
