//! What many points have in common, for charts of curves that are too long to be read whole.
//!
//! A bucket of level 0 summarises [`BUCKET_POINTS`] points that follow each other; a bucket of
//! level `k + 1` summarises [`FANOUT`] of level `k`. The last bucket of a level may summarise
//! fewer.
//!
//! NaN and infinities: `count` counts every point. `min` and `max` are those of the values
//! that are not NaN, infinities among them. `mean` is that of the `finite` values that are
//! finite, because one infinity would hide all others. Where there is no such value they are
//! NaN.

use crate::points::PointsView;

/// Points of a bucket of level 0.
pub const BUCKET_POINTS: usize = 512;
/// Buckets of which one of the next level is made.
pub const FANOUT: usize = 8;

const MAGIC: &[u8; 4] = b"TSB1";
const BUCKET_BYTES: usize = 80;

/// What points that follow each other have in common.
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    /// The step of the first point.
    pub first_step: u64,
    /// The step of the last point.
    pub last_step: u64,
    /// The time of the first point.
    pub first_time: i64,
    /// The time of the last point.
    pub last_time: i64,
    /// The value of the first point.
    pub first: f64,
    /// The least value that is not NaN.
    pub min: f64,
    /// The greatest value that is not NaN.
    pub max: f64,
    /// The mean of the finite values.
    pub mean: f64,
    /// How many points there are.
    pub count: u64,
    /// How many of them are finite.
    pub finite: u64,
}

/// Buckets are equal when their bits are: NaN equals NaN.
impl PartialEq for Bucket {
    fn eq(&self, other: &Self) -> bool {
        self.words() == other.words()
    }
}

impl Bucket {
    /// Of points; `None` of none.
    pub fn of(points: PointsView<'_>) -> Option<Self> {
        let (steps, times, values) = (points.steps(), points.times(), points.values());
        let (mut min, mut max) = (f64::NAN, f64::NAN);
        let (mut sum, mut finite) = (0.0, 0_u64);
        for value in values {
            // A NaN gives way to the other.
            min = lesser(*value, min);
            max = greater(*value, max);
            if value.is_finite() {
                sum += value;
                finite += 1;
            }
        }
        let mut mean = sum / real(finite);
        if !sum.is_finite() {
            // The sum of numbers near the greatest is infinite, their mean is not.
            let numbers = values.iter().filter(|value| value.is_finite());
            mean = numbers.map(|value| value / real(finite)).sum();
        }
        Some(Self {
            first_step: *steps.first()?,
            last_step: *steps.last()?,
            first_time: *times.first()?,
            last_time: *times.last()?,
            first: *values.first()?,
            min,
            max,
            mean,
            count: values.len() as u64,
            finite,
        })
    }

    /// This one and the one that follows it, as one.
    #[must_use]
    pub fn and(&self, next: &Self) -> Self {
        let finite = self.finite + next.finite;
        let share = |bucket: &Self| match bucket.finite {
            0 => 0.0,
            part => bucket.mean * (real(part) / real(finite)),
        };
        Self {
            last_step: next.last_step,
            last_time: next.last_time,
            min: lesser(self.min, next.min),
            max: greater(self.max, next.max),
            mean: if finite == 0 {
                f64::NAN
            } else {
                share(self) + share(next)
            },
            count: self.count + next.count,
            finite,
            ..*self
        }
    }

    /// The value that stands for all of them: the mean; of one point its value; where none is
    /// finite, the infinity, if they agree on one.
    pub fn value(&self) -> f64 {
        match (self.count, self.finite) {
            (1, _) => self.first,
            (_, 0) if self.min == self.max => self.min,
            _ => self.mean,
        }
    }

    fn words(&self) -> [u64; 10] {
        [
            self.first_step,
            self.last_step,
            self.first_time.cast_unsigned(),
            self.last_time.cast_unsigned(),
            bits(self.first),
            bits(self.min),
            bits(self.max),
            bits(self.mean),
            self.count,
            self.finite,
        ]
    }

    fn from_words(words: [u64; 10]) -> Self {
        Self {
            first_step: words[0],
            last_step: words[1],
            first_time: words[2].cast_signed(),
            last_time: words[3].cast_signed(),
            first: f64::from_bits(words[4]),
            min: f64::from_bits(words[5]),
            max: f64::from_bits(words[6]),
            mean: f64::from_bits(words[7]),
            count: words[8],
            finite: words[9],
        }
    }
}

/// Adds points to the buckets of level 0 of the points before them. The last bucket is filled
/// up first.
pub fn buckets_of(points: PointsView<'_>, buckets: &mut Vec<Bucket>) {
    let mut start = 0;
    while start < points.len() {
        let open = buckets
            .last_mut()
            .filter(|bucket| bucket.count < BUCKET_POINTS as u64);
        let room = open.as_ref().map_or(BUCKET_POINTS, |bucket| {
            BUCKET_POINTS - usize::try_from(bucket.count).unwrap_or(0)
        });
        let end = points.len().min(start + room);
        let Some(more) = Bucket::of(points.range(start..end)) else {
            return;
        };
        match open {
            Some(bucket) => *bucket = bucket.and(&more),
            None => buckets.push(more),
        }
        start = end;
    }
}

/// The next level of `buckets`.
pub fn fold_buckets(buckets: &[Bucket]) -> Vec<Bucket> {
    let folded = buckets.chunks(FANOUT).filter_map(|group| {
        let together = |all: Bucket, next: &Bucket| all.and(next);
        let (first, rest) = group.split_first()?;
        Some(rest.iter().fold(*first, together))
    });
    folded.collect()
}

/// Buckets as bytes: `TSB1`, ten 64-bit words for each bucket, and the CRC-32C of all before;
/// everything is little-endian.
pub fn encode_buckets(buckets: &[Bucket]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(8 + buckets.len() * BUCKET_BYTES);
    bytes.extend_from_slice(MAGIC);
    for word in buckets.iter().flat_map(Bucket::words) {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    let checksum = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}

/// The buckets that [`encode_buckets`] encoded; `None` when a byte was changed or they never
/// were buckets.
pub fn decode_buckets(bytes: &[u8]) -> Option<Vec<Bucket>> {
    let (content, checksum) = bytes.split_last_chunk::<4>()?;
    if crc32c::crc32c(content) != u32::from_le_bytes(*checksum) {
        return None;
    }
    let (buckets, rest) = content.strip_prefix(MAGIC)?.as_chunks::<BUCKET_BYTES>();
    let bucket = |bytes: &[u8; BUCKET_BYTES]| {
        let (words, _) = bytes.as_chunks::<8>();
        Bucket::from_words(std::array::from_fn(|index| {
            u64::from_le_bytes(words[index])
        }))
    };
    rest.is_empty()
        .then(|| buckets.iter().map(bucket).collect())
}

fn bits(value: f64) -> u64 {
    if value.is_nan() {
        f64::NAN.to_bits()
    } else {
        value.to_bits()
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn real(count: u64) -> f64 {
    count as f64
}

/// The lesser of two values of which neither or one is NaN; -0 is less than 0, so that the
/// answer does not depend on which came first.
fn lesser(one: f64, other: f64) -> f64 {
    let least = one.min(other);
    let negative_zero = |value: f64| value == 0.0 && value.is_sign_negative();
    if least == 0.0 && (negative_zero(one) || negative_zero(other)) {
        return -0.0;
    }
    least
}

/// The greater of two values of which neither or one is NaN; 0 is greater than -0.
fn greater(one: f64, other: f64) -> f64 {
    -lesser(-one, -other)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::points::Points;
    use crate::points::tests::any_points;

    fn near(left: f64, right: f64, scale: f64) -> bool {
        (left.is_nan() && right.is_nan()) || (left - right).abs() <= scale * 1e-12
    }

    proptest! {
        #[test]
        fn a_bucket_is_what_its_definition_says(points in any_points(1..60)) {
            let bucket = Bucket::of(points.view()).unwrap();
            let values = points.view().values().to_vec();
            let numbers: Vec<f64> = values.iter().copied().filter(|value| !value.is_nan()).collect();
            let finite: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
            let least = numbers.iter().copied().reduce(lesser);
            let greatest = numbers.iter().copied().reduce(greater);
            for (found, expected) in [(bucket.min, least), (bucket.max, greatest)] {
                let same = expected.map_or(found.is_nan(), |expected| found == expected);
                prop_assert!(same, "{} is not {:?}", found, expected);
            }
            prop_assert_eq!((bucket.count, bucket.finite), (values.len() as u64, finite.len() as u64));
            let scale = finite.iter().fold(1e-300, |scale: f64, value| scale.max(value.abs()));
            let count = finite.len() as f64;
            let mean: f64 = if finite.is_empty() { f64::NAN } else { finite.iter().map(|value| value / count).sum() };
            prop_assert!(near(bucket.mean, mean, scale), "{} {}", bucket.mean, mean);
        }

        #[test]
        fn buckets_are_the_same_however_the_points_come(points in any_points(1..1500), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..5)) {
            let mut whole = Vec::new();
            buckets_of(points.view(), &mut whole);
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(points.len())).collect();
            cuts.extend([0, points.len()]);
            cuts.sort_unstable();
            let mut parts = Vec::new();
            for pair in cuts.windows(2) {
                buckets_of(points.range(pair[0]..pair[1]), &mut parts);
            }
            prop_assert_eq!(whole.len(), points.len().div_ceil(BUCKET_POINTS));
            for (whole, part) in whole.iter().zip(&parts) {
                let scale = points.view().values().iter().filter(|value| value.is_finite()).fold(1e-300, |scale: f64, value| scale.max(value.abs()));
                prop_assert!(near(whole.mean, part.mean, scale));
                let same_mean = Bucket { mean: whole.mean, ..*part };
                prop_assert_eq!(*whole, same_mean);
            }
        }

        #[test]
        fn buckets_come_back_as_they_were(points in any_points(1..1500), place in any::<prop::sample::Index>(), bit in 0..8) {
            let mut buckets = Vec::new();
            buckets_of(points.view(), &mut buckets);
            let mut bytes = encode_buckets(&buckets);
            let back = decode_buckets(&bytes);
            prop_assert_eq!(back.as_ref(), Some(&buckets));
            let place = place.index(bytes.len());
            bytes[place] ^= 1_u8 << bit;
            prop_assert_eq!(decode_buckets(&bytes), None);
        }

        #[test]
        fn no_bytes_make_decoding_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode_buckets(&bytes);
            let mut sealed = [MAGIC.as_slice(), &bytes].concat();
            sealed.extend(crc32c::crc32c(&sealed).to_le_bytes());
            let _ = decode_buckets(&sealed);
        }
    }

    #[test]
    fn a_higher_level_says_the_same_of_more_points() {
        let mut points = Points::default();
        for step in 0..10_000_u32 {
            points.push(u64::from(step), i64::from(step), f64::from(step % 100));
        }
        let mut buckets = Vec::new();
        buckets_of(points.view(), &mut buckets);
        let folded = fold_buckets(&buckets);
        assert_eq!(folded.len(), 3);
        assert_eq!(
            folded.iter().map(|bucket| bucket.count).sum::<u64>(),
            10_000
        );
        let all = fold_buckets(&folded)[0];
        assert_eq!((all.first_step, all.last_step), (0, 9999));
        assert_eq!((all.min, all.max), (0.0, 99.0));
        assert!((all.mean - 49.5).abs() < 1e-9);
    }

    #[test]
    fn one_infinity_does_not_hide_the_others() {
        let mut points = Points::default();
        for value in [1.0, f64::INFINITY, f64::NAN, 3.0] {
            points.push(0, 0, value);
        }
        let bucket = Bucket::of(points.view()).unwrap();
        assert_eq!(
            (bucket.min, bucket.max, bucket.mean),
            (1.0, f64::INFINITY, 2.0)
        );
        assert_eq!((bucket.count, bucket.finite), (4, 2));
    }
}
