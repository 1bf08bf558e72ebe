//! How the learning rate changes in the course of training.
//!
//! A [`Schedule`] is a function of the number of the step alone, so that a run that goes on
//! from a checkpoint goes on with the right one. [`Plateau`] depends on what was measured,
//! and is saved with the model.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The learning rate of each step.
pub trait Schedule {
    /// The rate of step `step`; counts from 0.
    fn rate(&self, step: u64) -> f64;
}

/// A number is the same rate at each step.
impl Schedule for f64 {
    fn rate(&self, _step: u64) -> f64 {
        *self
    }
}

/// Times `factor` each `every` steps. PyTorch's `StepLR`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StepDecay {
    /// The rate of the first step.
    pub base: f64,
    /// How many steps have one rate.
    pub every: u64,
    /// By what the rate is multiplied.
    pub factor: f64,
}

/// Times `factor` at each of some steps. PyTorch's `MultiStepLR`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MultiStep {
    /// The rate of the first step.
    pub base: f64,
    /// The steps from which the rate is smaller.
    pub milestones: Vec<u64>,
    /// By what the rate is multiplied.
    pub factor: f64,
}

/// Times `factor` at each step. PyTorch's `ExponentialLR`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Exponential {
    /// The rate of the first step.
    pub base: f64,
    /// By what the rate is multiplied.
    pub factor: f64,
}

/// Down along half a cosine within `steps`, and `minimum` from then on. PyTorch's
/// `CosineAnnealingLR`, which rises again where this stays.
///
/// Source: I. Loshchilov, F. Hutter, "SGDR: stochastic gradient descent with warm
/// restarts", ICLR 2017, equation 5, without restarts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cosine {
    /// The rate of the first step.
    pub base: f64,
    /// After how many steps the minimum is reached.
    pub steps: u64,
    /// The rate from then on.
    pub minimum: f64,
}

/// A share of another schedule that rises to 1 within `steps`; then that schedule from
/// its own first step on. PyTorch's `LinearLR` followed by another in a `SequentialLR`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WarmUp<S> {
    /// How many steps it takes.
    pub steps: u64,
    /// The share of the first step.
    pub start: f64,
    /// What comes after.
    pub then: S,
}

/// Up along half a cosine and down along another, within `steps`. PyTorch's `OneCycleLR`,
/// without its change of the momentum.
///
/// Source: L. N. Smith, N. Topin, "Super-convergence: very fast training of neural networks
/// using large learning rates", 2018, section 3, with PyTorch's two cosines.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OneCycle {
    /// The greatest rate.
    pub maximum: f64,
    /// How many steps the cycle has.
    pub steps: u64,
    /// The share of the steps in which the rate rises.
    pub rising: f64,
    /// The greatest rate divided by the first.
    pub divisor: f64,
    /// The first rate divided by the last.
    pub final_divisor: f64,
}

/// A schedule that counts epochs of so many steps.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PerEpoch<S> {
    /// How many steps an epoch has.
    pub steps: u64,
    /// The rate of each epoch.
    pub of: S,
}

/// Times `factor` when what was measured has not improved for a while. PyTorch's
/// `ReduceLROnPlateau` with its mode `min` and a relative threshold.
///
/// Its state goes through JSON: keep it in the model's metadata to go on with it.
///
/// ```
/// use trainshed_sdk::nn::{Plateau, Schedule};
///
/// let mut plateau = Plateau::new(0.1);
/// plateau.patience = 0;
/// for loss in [1.0, 0.9, 0.95] {
///     plateau.observe(loss);
/// }
/// assert!((plateau.rate(0) - 0.01).abs() < 1e-12);
/// let saved = serde_json::to_string(&plateau).unwrap();
/// assert_eq!(serde_json::from_str::<Plateau>(&saved).unwrap(), plateau);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Plateau {
    /// By what the rate is multiplied.
    pub factor: f64,
    /// How many measurements in a row may be no better.
    pub patience: u32,
    /// By which share of the best a better one is less.
    pub threshold: f64,
    /// How many measurements after a change do not count.
    pub cooldown: u32,
    /// The least rate.
    pub minimum: f64,
    rate: f64,
    /// None before the first; JSON has no infinity.
    best: Option<f64>,
    bad: u32,
    cooling: u32,
}

impl Schedule for StepDecay {
    fn rate(&self, step: u64) -> f64 {
        self.base * power(self.factor, step / self.every.max(1))
    }
}

impl Schedule for MultiStep {
    fn rate(&self, step: u64) -> f64 {
        let passed = self.milestones.iter().filter(|&&at| at <= step).count();
        self.base * power(self.factor, passed as u64)
    }
}

impl Schedule for Exponential {
    fn rate(&self, step: u64) -> f64 {
        self.base * power(self.factor, step)
    }
}

impl Schedule for Cosine {
    fn rate(&self, step: u64) -> f64 {
        along_cosine(self.base, self.minimum, share(step, self.steps))
    }
}

impl<S: Schedule> Schedule for WarmUp<S> {
    fn rate(&self, step: u64) -> f64 {
        match step.checked_sub(self.steps) {
            Some(step) => self.then.rate(step),
            None => {
                let risen = (1.0 - self.start) * share(step, self.steps);
                self.then.rate(0) * (self.start + risen)
            }
        }
    }
}

impl OneCycle {
    /// A cycle with PyTorch's defaults: it rises for three tenths, from a 25th, and ends
    /// at a ten-thousandth of where it began.
    pub fn new(maximum: f64, steps: u64) -> Self {
        Self {
            maximum,
            steps,
            rising: 0.3,
            divisor: 25.0,
            final_divisor: 1e4,
        }
    }
}

impl Schedule for OneCycle {
    fn rate(&self, step: u64) -> f64 {
        let first = self.maximum / self.divisor;
        let last = first / self.final_divisor;
        #[expect(clippy::cast_precision_loss, reason = "a share need not be exact")]
        let (step, steps) = (step as f64, self.steps as f64);
        let top = self.rising * steps - 1.0;
        if step <= top {
            return along_cosine(first, self.maximum, step / top.max(1.0));
        }
        let falling = (steps - 1.0 - top).max(1.0);
        along_cosine(self.maximum, last, ((step - top) / falling).min(1.0))
    }
}

impl<S: Schedule> Schedule for PerEpoch<S> {
    fn rate(&self, step: u64) -> f64 {
        self.of.rate(step / self.steps.max(1))
    }
}

impl Plateau {
    /// Begins with this rate and PyTorch's defaults: a tenth after ten measurements
    /// without one that is better by a ten-thousandth.
    pub fn new(rate: f64) -> Self {
        Self {
            factor: 0.1,
            patience: 10,
            threshold: 1e-4,
            cooldown: 0,
            minimum: 0.0,
            rate,
            best: None,
            bad: 0,
            cooling: 0,
        }
    }

    /// Takes a measurement that is to become small, e.g. the validation's loss.
    pub fn observe(&mut self, measured: f64) {
        let bound = self.best.map(|best| best * (1.0 - self.threshold));
        if measured.is_finite() && bound.is_none_or(|bound| measured < bound) {
            self.best = Some(measured);
            self.bad = 0;
        } else {
            self.bad += 1;
        }
        if self.cooling > 0 {
            self.cooling -= 1;
            self.bad = 0;
        }
        if self.bad > self.patience {
            self.rate = (self.rate * self.factor).max(self.minimum);
            self.cooling = self.cooldown;
            self.bad = 0;
        }
    }
}

impl Schedule for Plateau {
    fn rate(&self, _step: u64) -> f64 {
        self.rate
    }
}

fn power(factor: f64, times: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "steps are fewer than 2^52")]
    let times = times as f64;
    factor.powf(times)
}

/// How much of `steps` is over, at most 1.
fn share(step: u64, steps: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a share need not be exact")]
    let share = step as f64 / steps.max(1) as f64;
    share.min(1.0)
}

/// From `from` to `to` along half a cosine.
fn along_cosine(from: f64, to: f64, share: f64) -> f64 {
    to + (from - to) * (1.0 + (std::f64::consts::PI * share).cos()) / 2.0
}
