//! Random numbers that depend on nothing but a seed.

/// A stream of random numbers: the same seed gives the same numbers on every machine.
///
/// Source: G. L. Steele, D. Lea, C. H. Flood, "Fast splittable pseudorandom number
/// generators", OOPSLA 2014 (SplitMix64, with the fixed increment of its section 4). Good
/// for shuffling and initialising, never for secrets.
#[derive(Debug, Clone)]
pub struct Rng {
    state: u64,
}

/// Row numbers of a table, divided at random.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// Rows to learn from.
    pub train: Vec<u32>,
    /// Rows to judge by, never learnt from.
    pub validation: Vec<u32>,
}

impl Rng {
    /// The stream of `seed` for one `purpose`; streams of two purposes are unrelated, so
    /// that drawing more from one leaves the other as it is.
    pub fn new(seed: u64, purpose: &str) -> Self {
        let mut rng = Self { state: seed };
        for byte in purpose.bytes() {
            rng.state = rng.next_u64() ^ u64::from(byte);
        }
        rng
    }

    /// The next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    }

    /// A number in `low..high`, uniformly; `low` when the range is empty.
    pub fn uniform(&mut self, low: f32, high: f32) -> f32 {
        // 24 bits are what an f32 in 0..1 holds exactly.
        #[expect(
            clippy::cast_precision_loss,
            reason = "24 bits fit the mantissa of an f32"
        )]
        let unit = (self.next_u64() >> 40) as f32 / (1u32 << 24) as f32;
        low + unit * (high - low)
    }

    /// A normally distributed number of mean 0 and deviation 1.
    ///
    /// Source: G. E. P. Box, M. E. Muller, "A note on the generation of random normal
    /// deviates", Annals of Mathematical Statistics 29 (1958).
    pub fn normal(&mut self) -> f32 {
        // The first is above 0, so that its logarithm is finite.
        let radius = (-2.0 * (1.0 - self.uniform(0.0, 1.0)).ln()).sqrt();
        radius * (std::f32::consts::TAU * self.uniform(0.0, 1.0)).cos()
    }

    /// A whole number in `0..bound`, uniformly; 0 when `bound` is.
    ///
    /// Source: D. Lemire, "Fast random integer generation in an interval", ACM TOMACS 29
    /// (2019), section 4.
    pub fn below(&mut self, bound: u32) -> u32 {
        let (high, mut low) = self.widened(bound);
        let mut number = high;
        if low < bound {
            let threshold = bound.wrapping_neg().checked_rem(bound).unwrap_or(0);
            while low < threshold {
                (number, low) = self.widened(bound);
            }
        }
        number
    }

    /// Puts `items` into a random order, each order equally likely.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let bound = u32::try_from(last + 1).unwrap_or(u32::MAX);
            items.swap(last, self.below(bound) as usize);
        }
    }

    /// The numbers `0..count` in a random order.
    pub fn permutation(&mut self, count: u32) -> Vec<u32> {
        let mut numbers: Vec<u32> = (0..count).collect();
        self.shuffle(&mut numbers);
        numbers
    }

    /// Divides `rows` row numbers at random: a `validation` share (0 to 1, rounded to
    /// whole rows) to judge by, the others to learn from.
    pub fn split(&mut self, rows: u32, validation: f64) -> Split {
        let mut order = self.permutation(rows);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "rounded and clamped to the number of rows; NaN becomes 0"
        )]
        let held_out = (f64::from(rows) * validation)
            .round()
            .clamp(0.0, f64::from(rows)) as usize;
        let train = order.split_off(held_out);
        Split {
            train,
            validation: order,
        }
    }

    /// Divides `rows` row numbers at random into `folds` parts whose lengths differ by 1 at
    /// most: one split per part, which judges by it and learns from the others. At least 2
    /// folds; as many as rows at most.
    pub fn folds(&mut self, rows: u32, folds: u32) -> Vec<Split> {
        let folds = folds.min(rows).max(2) as usize;
        let order = self.permutation(rows);
        let part = |fold: usize| {
            let place = |fold: usize| order.len() * fold / folds;
            place(fold)..place(fold + 1)
        };
        let splits = (0..folds).map(|fold| {
            let held_out = part(fold);
            Split {
                train: [&order[..held_out.start], &order[held_out.end..]].concat(),
                validation: order[held_out].to_vec(),
            }
        });
        splits.collect()
    }

    /// 32 random bits times `bound`: its upper and lower half.
    fn widened(&mut self, bound: u32) -> (u32, u32) {
        let product = (self.next_u64() >> 32) * u64::from(bound);
        let low = u32::try_from(product & u64::from(u32::MAX)).expect("32 bits");
        let high = u32::try_from(product >> 32).expect("a product of two 32-bit numbers");
        (high, low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_for_ever() {
        let mut rng = Rng::new(0, "");
        // The first outputs of SplitMix64 from state 0, as its reference prints them.
        assert_eq!(rng.next_u64(), 0xE220_A839_7B1D_CDAF);
        assert_eq!(rng.next_u64(), 0x6E78_9E6A_A1B9_65F4);
    }

    #[test]
    fn two_purposes_give_unrelated_streams() {
        let mut shuffle = Rng::new(7, "shuffle");
        let mut split = Rng::new(7, "split");
        assert_ne!(shuffle.next_u64(), split.next_u64());
    }

    #[test]
    fn a_split_holds_every_row_once() {
        let split = Rng::new(1, "split").split(1797, 0.2);

        assert_eq!((split.train.len(), split.validation.len()), (1438, 359));
        let mut all = [split.train, split.validation].concat();
        all.sort_unstable();
        assert_eq!(all, (0..1797).collect::<Vec<_>>());
    }

    #[test]
    fn folds_judge_by_every_row_once_and_learn_from_the_others() {
        let splits = Rng::new(1, "folds").folds(11, 3);

        let lengths: Vec<usize> = splits.iter().map(|split| split.validation.len()).collect();
        assert_eq!(lengths, [3, 4, 4]);
        for split in &splits {
            let mut all = [&split.train[..], &split.validation].concat();
            all.sort_unstable();
            assert_eq!(all, (0..11).collect::<Vec<_>>());
        }
        let mut judged: Vec<u32> = splits
            .into_iter()
            .flat_map(|split| split.validation)
            .collect();
        judged.sort_unstable();
        assert_eq!(judged, (0..11).collect::<Vec<_>>());
    }

    #[test]
    fn shares_out_of_range_are_clamped() {
        let lengths = |share| {
            let split = Rng::new(1, "split").split(10, share);
            (split.train.len(), split.validation.len())
        };
        assert_eq!(lengths(-1.0), (10, 0));
        assert_eq!(lengths(f64::NAN), (10, 0));
        assert_eq!(lengths(7.0), (0, 10));
    }

    #[test]
    fn numbers_below_a_bound_are_uniform() {
        let mut rng = Rng::new(3, "test");
        let mut counts = [0; 5];
        for _ in 0..50_000 {
            counts[rng.below(5) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (9_700..10_300).contains(count)));
        assert_eq!(rng.below(0), 0);
    }

    #[test]
    fn normal_numbers_have_mean_0_and_deviation_1() {
        let mut rng = Rng::new(3, "test");
        let numbers: Vec<f32> = (0..10_000).map(|_| rng.normal()).collect();
        let mean = numbers.iter().sum::<f32>() / 10_000.0;
        let square = numbers.iter().map(|number| number * number).sum::<f32>() / 10_000.0;
        assert!(
            mean.abs() < 0.05 && (square - 1.0).abs() < 0.05,
            "{mean} {square}"
        );
    }

    #[test]
    fn uniform_numbers_fill_their_range() {
        let mut rng = Rng::new(3, "test");
        let numbers: Vec<f32> = (0..10_000).map(|_| rng.uniform(-2.0, 2.0)).collect();
        assert!(numbers.iter().all(|number| (-2.0..2.0).contains(number)));
        let mean = numbers.iter().sum::<f32>() / 10_000.0;
        assert!(mean.abs() < 0.05, "{mean}");
    }
}
