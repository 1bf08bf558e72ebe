//! Chance: numbered streams of random numbers, all derived from the experiment's seed.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::math;

/// What a stream is for, so that two uses never share numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Values drawn from the prior.
    Prior = 0,
    /// What a searcher draws.
    Search = 1,
    /// What a scheduler draws.
    Schedule = 2,
    /// The trees of the importance estimate.
    Forest = 3,
}

/// Random numbers that depend on the seed, the number and the purpose alone.
///
/// No stream is shared: the order in which calls arrive changes no number of any trial.
#[derive(Debug, Clone)]
pub(crate) struct Stream(ChaCha8Rng);

impl Stream {
    /// Opens the stream of trial (or round) `number` of an experiment.
    pub(crate) fn new(seed: u64, number: u64, purpose: Purpose) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..24].copy_from_slice(b"trainshed-tune-1");
        let mut generator = ChaCha8Rng::from_seed(key);
        generator.set_stream(number.wrapping_mul(4).wrapping_add(purpose as u64));
        Self(generator)
    }

    /// Draws from `0..1`, with 53 bits.
    pub(crate) fn uniform(&mut self) -> f64 {
        const SCALE: f64 = 1.0 / 9_007_199_254_740_992.0; // 2^-53
        (self.0.next_u64() >> 11) as f64 * SCALE
    }

    /// Draws an index below `count`, which is 1 or more.
    pub(crate) fn below(&mut self, count: usize) -> usize {
        math::index(self.uniform() * count as f64).min(count - 1)
    }

    /// Draws from the standard normal distribution.
    pub(crate) fn normal(&mut self) -> f64 {
        const HALF_STEP: f64 = 1.0 / 18_014_398_509_481_984.0; // 2^-54: keeps away from 0
        math::normal_quantile(self.uniform() + HALF_STEP)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_depends_on_seed_number_and_purpose() {
        let first = |seed, number, purpose| Stream::new(seed, number, purpose).uniform();
        let all = [
            first(1, 0, Purpose::Prior),
            first(2, 0, Purpose::Prior),
            first(1, 1, Purpose::Prior),
            first(1, 0, Purpose::Search),
        ];
        for (index, one) in all.iter().enumerate() {
            assert!(all[..index].iter().all(|other| other != one));
        }
        assert_eq!(first(1, 0, Purpose::Prior), all[0]);
    }
}
