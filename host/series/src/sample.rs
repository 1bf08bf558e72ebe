//! At most so many places of a curve, for charts.

use crate::bucket::Bucket;
use crate::points::PointsView;

/// Most samples of one curve, whatever is asked for.
pub const MAX_SAMPLES: usize = 5000;

/// What the x axis of a chart shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Axis {
    /// Steps.
    #[default]
    Iter,
    /// Milliseconds since the Unix epoch.
    Timestamp,
    /// Times as ISO 8601 has them.
    IsoTime,
}

/// A name that is none of an [`Axis`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the axis must be `iter`, `timestamp` or `iso_time`, but it is `{0}`")]
pub struct UnknownAxis(String);

impl std::str::FromStr for Axis {
    type Err = UnknownAxis;

    fn from_str(name: &str) -> Result<Self, UnknownAxis> {
        match name {
            "iter" => Ok(Self::Iter),
            "timestamp" => Ok(Self::Timestamp),
            "iso_time" => Ok(Self::IsoTime),
            other => Err(UnknownAxis(other.chars().take(80).collect())),
        }
    }
}

/// How samples stand for points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sampling {
    /// Each is a point, and all points are there.
    Exact,
    /// Each is the mean of the points of a window, with the least and the greatest value.
    #[default]
    Mean,
    /// Each is a point; those that shape the curve were chosen.
    Lttb,
}

impl Sampling {
    /// The name it has in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Mean => "mean",
            Self::Lttb => "lttb",
        }
    }
}

/// Samples of a curve, as columns of one length.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sampled {
    /// How they stand for the points.
    pub sampling: Sampling,
    /// The first step of each window.
    pub steps: Vec<u64>,
    /// The first time of each window.
    pub times: Vec<i64>,
    /// The mean of each window; see [`Bucket::value`].
    pub values: Vec<f64>,
    /// The least value of each window.
    pub min: Vec<f64>,
    /// The greatest value of each window.
    pub max: Vec<f64>,
    /// The points of each window.
    pub counts: Vec<u64>,
}

impl Sampled {
    fn push(&mut self, bucket: &Bucket) {
        self.steps.push(bucket.first_step);
        self.times.push(bucket.first_time);
        self.values.push(bucket.value());
        self.min.push(bucket.min);
        self.max.push(bucket.max);
        self.counts.push(bucket.count);
    }

    /// Each point as a sample of its own.
    fn exact(points: PointsView<'_>, sampling: Sampling) -> Self {
        let values = points.values().to_vec();
        Self {
            sampling,
            steps: points.steps().to_vec(),
            times: points.times().to_vec(),
            min: values.clone(),
            max: values.clone(),
            counts: vec![1; values.len()],
            values,
        }
    }

    /// The samples in the order of their times rather than of their steps.
    pub fn sort_by_time(&mut self) {
        if self.times.is_sorted() {
            return;
        }
        let mut order: Vec<usize> = (0..self.times.len()).collect();
        order.sort_by_key(|index| self.times[*index]);
        fn ordered<T: Copy>(order: &[usize], column: &mut Vec<T>) {
            *column = order.iter().map(|index| column[*index]).collect();
        }
        ordered(&order, &mut self.steps);
        ordered(&order, &mut self.times);
        ordered(&order, &mut self.values);
        ordered(&order, &mut self.min);
        ordered(&order, &mut self.max);
        ordered(&order, &mut self.counts);
    }
}

/// At most `most` samples of settled points: all of them if they are not more, otherwise what
/// `sampling` says. `most` is at least 1 and cut to [`MAX_SAMPLES`].
pub fn sample_points(points: PointsView<'_>, most: usize, sampling: Sampling) -> Sampled {
    let most = most.clamp(1, MAX_SAMPLES);
    if points.len() <= most {
        return Sampled::exact(points, Sampling::Exact);
    }
    if sampling == Sampling::Lttb && most >= 3 {
        return lttb(points, most);
    }
    let mut sampled = Sampled::default();
    for window in windows(points.len(), most) {
        if let Some(bucket) = Bucket::of(points.range(window)) {
            sampled.push(&bucket);
        }
    }
    sampled
}

/// At most `most` samples of the points that `buckets` summarise. `most` is at least 1 and
/// cut to [`MAX_SAMPLES`].
pub fn sample_buckets(buckets: &[Bucket], most: usize) -> Sampled {
    let most = most.clamp(1, MAX_SAMPLES).min(buckets.len());
    let mut sampled = Sampled::default();
    for window in windows(buckets.len(), most) {
        if let Some((first, rest)) = buckets[window].split_first() {
            sampled.push(&rest.iter().fold(*first, |all, next| all.and(next)));
        }
    }
    sampled
}

/// `count` things in windows that differ by at most one in length.
fn windows(count: usize, windows: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let edge =
        move |window: usize| window * (count / windows) + (window * (count % windows)) / windows;
    (0..windows).map(move |window| edge(window)..edge(window + 1))
}

/// Largest triangle, three buckets (S. Steinarsson, "Downsampling Time Series for Visual
/// Representation", 2013, section 4.2), with one addition: of a window with values that are
/// not finite, the first such value is taken, so that a run that diverges is seen to.
fn lttb(points: PointsView<'_>, most: usize) -> Sampled {
    #[expect(clippy::cast_precision_loss, reason = "a place on a chart")]
    let x = |index: usize| (points.steps()[index] - points.steps()[0]) as f64;
    let values = points.values();
    let last = points.len() - 1;
    let inner: Vec<_> = windows(last - 1, most - 2)
        .map(|window| window.start + 1..window.end + 1)
        .collect();
    let mut chosen = vec![0];
    let mut left = 0;
    for (place, window) in inner.iter().enumerate() {
        let next = inner.get(place + 1).cloned().unwrap_or(last..last + 1);
        let (mut sum_x, mut sum_y, mut count) = (0.0, 0.0, 0.0);
        for index in next.clone().filter(|index| values[*index].is_finite()) {
            sum_x += x(index);
            sum_y += values[index];
            count += 1.0;
        }
        let ahead = if count > 0.0 {
            (sum_x / count, sum_y / count)
        } else {
            (x(next.start), values[left])
        };
        let mut best = (window.start, -1.0);
        for index in window.clone() {
            if !values[index].is_finite() {
                best.0 = index;
                break;
            }
            let area = ((x(left) - ahead.0) * (values[index] - values[left])
                - (x(left) - x(index)) * (ahead.1 - values[left]))
                .abs();
            if area > best.1 {
                best = (index, area);
            }
        }
        chosen.push(best.0);
        if values[best.0].is_finite() {
            left = best.0;
        }
    }
    chosen.push(last);
    let column = |index: &usize| values[*index];
    let values: Vec<f64> = chosen.iter().map(column).collect();
    Sampled {
        sampling: Sampling::Lttb,
        steps: chosen.iter().map(|index| points.steps()[*index]).collect(),
        times: chosen.iter().map(|index| points.times()[*index]).collect(),
        min: values.clone(),
        max: values.clone(),
        counts: vec![1; values.len()],
        values,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::bucket::buckets_of;
    use crate::points::Points;
    use crate::points::tests::any_points;

    proptest! {
        #[test]
        fn samples_are_few_and_lose_no_spike(points in any_points(1..200), most in 1_usize..60) {
            let points = points.settle();
            let view = points.view();
            let sampled = sample_points(view, most, Sampling::Mean);
            prop_assert!(sampled.steps.len() <= most);
            prop_assert_eq!(sampled.counts.iter().sum::<u64>(), view.len() as u64);
            let whole = Bucket::of(view).unwrap();
            let least = sampled.min.iter().copied().reduce(f64::min).unwrap();
            let greatest = sampled.max.iter().copied().reduce(f64::max).unwrap();
            prop_assert!(least == whole.min || least.is_nan() && whole.min.is_nan());
            prop_assert!(greatest == whole.max || greatest.is_nan() && whole.max.is_nan());
            prop_assert!(sampled.steps.is_sorted());
        }

        #[test]
        fn chosen_points_are_points_with_first_and_last(points in any_points(4..200), most in 3_usize..60) {
            let points = points.settle();
            let view = points.view();
            let sampled = sample_points(view, most, Sampling::Lttb);
            prop_assert!(sampled.steps.len() <= most);
            prop_assert_eq!(sampled.steps.first(), view.steps().first());
            prop_assert_eq!(sampled.steps.last(), view.steps().last());
            prop_assert!(sampled.steps.is_sorted_by(|before, after| before < after));
            for (step, value) in sampled.steps.iter().zip(&sampled.values) {
                let place = view.steps().binary_search(step).unwrap();
                prop_assert_eq!(view.values()[place].to_bits(), value.to_bits());
            }
        }

        #[test]
        fn windows_are_of_one_size_and_leave_nothing_out(count in 1_usize..500, most in 1_usize..100) {
            let most = most.min(count);
            let all: Vec<_> = windows(count, most).collect();
            prop_assert_eq!(all.len(), most);
            prop_assert!(all.windows(2).all(|pair| pair[0].end == pair[1].start));
            prop_assert_eq!((all[0].start, all[most - 1].end), (0, count));
            let lengths = || all.iter().map(|window| window.len());
            prop_assert!(lengths().max().unwrap() - lengths().min().unwrap() <= 1);
        }
    }

    fn ramp(count: u32) -> Points {
        let mut points = Points::default();
        for step in 0..count {
            points.push(u64::from(step), i64::from(step) * 10, f64::from(step));
        }
        points
    }

    #[test]
    fn twenty_thousand_points_keep_their_mean() {
        let points = ramp(20_000);
        let all = sample_points(points.view(), usize::MAX, Sampling::Mean);
        assert_eq!(all.values.len(), 5000);
        assert_eq!(all.values[0], 1.5);
        let few = sample_points(points.view(), 10, Sampling::Mean);
        assert_eq!(few.values.len(), 10);
        let mean = few.values.iter().sum::<f64>() / 10.0;
        assert!((mean - 9999.5).abs() < 1e-9);
        assert_eq!(
            (few.steps[1], few.min[1], few.max[1]),
            (2000, 2000.0, 3999.0)
        );

        let mut buckets = Vec::new();
        buckets_of(points.view(), &mut buckets);
        let same = sample_buckets(&buckets, 10);
        let total: f64 = same
            .values
            .iter()
            .zip(&same.counts)
            .map(|(mean, count)| mean * *count as f64)
            .sum();
        assert!((total / 20_000.0 - 9999.5).abs() < 1e-9);
        assert_eq!(same.values.len(), 10);
    }

    #[test]
    fn a_spike_is_chosen_and_so_is_a_divergence() {
        let mut points = ramp(0);
        for step in 0..1000_u32 {
            let value = match step {
                500 => 100.0,
                700 => f64::NAN,
                _ => 0.0,
            };
            points.push(u64::from(step), 0, value);
        }
        let sampled = sample_points(points.view(), 20, Sampling::Lttb);
        assert!(sampled.steps.contains(&500) && sampled.steps.contains(&700));
    }

    #[test]
    fn an_unknown_axis_is_named() {
        let error = "steps".parse::<Axis>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "the axis must be `iter`, `timestamp` or `iso_time`, but it is `steps`"
        );
        assert_eq!("iso_time".parse(), Ok(Axis::IsoTime));
    }

    #[test]
    fn samples_can_follow_the_time() {
        let mut points = Points::default();
        for (step, time) in [(0, 30), (1, 10), (2, 20)] {
            points.push(step, time, step as f64);
        }
        let mut sampled = sample_points(points.view(), 10, Sampling::Mean);
        sampled.sort_by_time();
        assert_eq!(
            (sampled.times, sampled.steps),
            (vec![10, 20, 30], vec![1, 2, 0])
        );
    }
}
