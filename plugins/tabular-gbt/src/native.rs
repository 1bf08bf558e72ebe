//! The same boosting outside the sandbox, to be compared with it; `examples/native.rs` is
//! the program.

use std::time::Instant;

use trainshed_sdk::rng::Rng;

use crate::bins::Feature;
use crate::boost::{Booster, Examples, Targets, base};
use crate::settings::Settings;

/// What boosting took, and what came of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// Of all rounds, as the plugin reports it.
    pub ms: f64,
    /// The loss of the held-back rows after the last round.
    pub loss: f64,
}

/// Boosts `rounds` rounds that predict the classes of `rows` of values, as the plugin does
/// with its defaults for the table, this seed, and no end before the last round.
///
/// The columns must be as long as `classes`, and there must be at least two classes, counted
/// from 0.
#[must_use]
pub fn boost(columns: &[Vec<f32>], classes: &[u32], rounds: u32, seed: u64) -> Measured {
    let settings = Settings::default();
    let rows = u32::try_from(classes.len()).unwrap_or(u32::MAX);
    let split = Rng::new(seed, "split").split(rows, settings.validation_fraction);
    let learning = split.train.len();
    let order = [split.train, split.validation].concat();
    let features = columns.iter().map(|values| {
        let values: Vec<f32> = order.iter().map(|&row| values[row as usize]).collect();
        Feature::new(&values, learning, settings.bins as usize)
    });
    let features = features.collect();
    let ordered = order.iter().map(|&row| classes[row as usize]);
    let count = classes.iter().max().map_or(2, |&greatest| greatest + 1);
    let examples = Examples {
        features,
        targets: Targets::Classes(ordered.collect(), count.max(2) as usize),
        rows: classes.len(),
        learning,
    };
    let scores = base(&examples.targets, learning).into_iter();
    let scores = scores.map(|base| vec![base; examples.rows]).collect();
    let mut booster = Booster::new(&examples, settings.boosting(seed), scores);
    let started = Instant::now();
    let mut loss = f64::NAN;
    for round in 0..u64::from(rounds) {
        if booster.round(round, || false).is_some() {
            loss = booster.fits()[1].loss;
        }
    }
    Measured {
        ms: started.elapsed().as_secs_f64() * 1e3,
        loss,
    }
}
