//! Points as columns.

use std::ops::Range;

/// Points as columns: step, time, value, and for some of them extra data.
///
/// Every NaN in it has the same bits. The order is the caller's; see [`Points::settle`].
#[derive(Debug, Clone, Default)]
pub struct Points {
    steps: Vec<u64>,
    times: Vec<i64>,
    values: Vec<f64>,
    /// Index of the point, ascending, and a JSON object as text.
    extras: Vec<(usize, Box<str>)>,
}

/// Some of the points of [`Points`], one after the other.
#[derive(Debug, Clone, Copy)]
pub struct PointsView<'a> {
    steps: &'a [u64],
    times: &'a [i64],
    values: &'a [f64],
    extras: &'a [(usize, Box<str>)],
    /// What is taken from the indices in `extras`.
    offset: usize,
}

/// One point.
#[derive(Debug, Clone, Copy)]
pub struct Point<'a> {
    /// Its place on the curve.
    pub step: u64,
    /// Milliseconds since the Unix epoch.
    pub time: i64,
    /// What was measured; may be NaN or infinite.
    pub value: f64,
    /// A JSON object that came with it.
    pub extra: Option<&'a str>,
}

/// Points are equal when their bits are: NaN equals NaN, and 0 differs from -0.
impl PartialEq for Points {
    fn eq(&self, other: &Self) -> bool {
        let bits = |points: &Self| -> Vec<u64> {
            points.values.iter().map(|value| value.to_bits()).collect()
        };
        self.steps == other.steps
            && self.times == other.times
            && self.extras == other.extras
            && bits(self) == bits(other)
    }
}

impl Points {
    /// No points, with room for `capacity`.
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            steps: Vec::with_capacity(capacity),
            times: Vec::with_capacity(capacity),
            values: Vec::with_capacity(capacity),
            extras: Vec::new(),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Adds a point at the end.
    pub fn push(&mut self, step: u64, time: i64, value: f64) {
        self.steps.push(step);
        self.times.push(time);
        self.values.push(normal(value));
    }

    /// Adds a point with extra data, which must be a JSON object, at the end.
    pub fn push_with_extra(&mut self, step: u64, time: i64, value: f64, extra: Box<str>) {
        self.extras.push((self.len(), extra));
        self.push(step, time, value);
    }

    /// Adds points at the end.
    pub fn extend(&mut self, more: PointsView<'_>) {
        let base = self.len();
        let extras = more.extras.iter();
        let extras = extras.map(|(index, extra)| (index - more.offset + base, extra.clone()));
        self.extras.extend(extras);
        self.steps.extend_from_slice(more.steps);
        self.times.extend_from_slice(more.times);
        self.values.extend_from_slice(more.values);
    }

    /// Adds columns of one length at the end.
    ///
    /// # Panics
    /// When the columns differ in length.
    pub(crate) fn extend_columns(&mut self, steps: &[u64], times: &[i64], values: &[f64]) {
        assert!(
            steps.len() == times.len() && steps.len() == values.len(),
            "columns have one length"
        );
        self.steps.extend_from_slice(steps);
        self.times.extend_from_slice(times);
        self.values.extend(values.iter().copied().map(normal));
    }

    /// Gives the point at `index` extra data; indices must ascend.
    pub(crate) fn add_extra(&mut self, index: usize, extra: Box<str>) {
        debug_assert!(self.extras.last().is_none_or(|(last, _)| *last < index));
        self.extras.push((index, extra));
    }

    /// The points at the indices of `order`, each index once.
    pub(crate) fn reordered(&self, order: &[usize]) -> Self {
        let mut reordered = Self {
            steps: order.iter().map(|index| self.steps[*index]).collect(),
            times: order.iter().map(|index| self.times[*index]).collect(),
            values: order.iter().map(|index| self.values[*index]).collect(),
            extras: Vec::new(),
        };
        if !self.extras.is_empty() {
            for (place, index) in order.iter().enumerate() {
                let extra = self.extras.binary_search_by_key(index, |(index, _)| *index);
                if let Ok(extra) = extra {
                    reordered.add_extra(place, self.extras[extra].1.clone());
                }
            }
        }
        reordered
    }

    /// All of them.
    pub fn view(&self) -> PointsView<'_> {
        PointsView {
            steps: &self.steps,
            times: &self.times,
            values: &self.values,
            extras: &self.extras,
            offset: 0,
        }
    }

    /// The points at the indices `range`.
    ///
    /// # Panics
    /// When there are fewer.
    pub fn range(&self, range: Range<usize>) -> PointsView<'_> {
        self.view().range(range)
    }

    /// Whether every step is greater than the one before.
    pub fn is_settled(&self) -> bool {
        self.steps.is_sorted_by(|before, after| before < after)
    }

    /// The points in the order of their steps; of several with one step the last one.
    #[must_use]
    pub fn settle(self) -> Self {
        if self.is_settled() {
            return self;
        }
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.sort_by_key(|index| self.steps[*index]); // stable: the last reported stays last
        order.dedup_by(|later, kept| {
            let same = self.steps[*later] == self.steps[*kept];
            if same {
                *kept = *later;
            }
            same
        });
        self.reordered(&order)
    }

    /// Both together, settled. Both must be settled; where both have a step, the point of
    /// `newer` holds.
    #[must_use]
    pub fn merge(older: PointsView<'_>, newer: PointsView<'_>) -> Self {
        let mut merged = Self::with_capacity(older.len() + newer.len());
        let (mut old, mut new) = (0, 0);
        while old < older.len() && new < newer.len() {
            // Runs rather than points: mostly all of the new ones follow all of the old ones.
            let before = older.steps[old..].partition_point(|step| *step < newer.steps[new]);
            merged.extend(older.range(old..old + before));
            old += before;
            let Some(next) = older.steps.get(old) else {
                break;
            };
            let until = newer.steps[new..].partition_point(|step| step <= next);
            merged.extend(newer.range(new..new + until));
            new += until;
            if newer.steps[new - 1] == *next {
                old += 1;
            }
        }
        merged.extend(older.range(old..older.len()));
        merged.extend(newer.range(new..newer.len()));
        merged
    }

    /// Takes the first `count` points away and returns them.
    ///
    /// # Panics
    /// When there are fewer.
    #[must_use]
    pub fn split_front(&mut self, count: usize) -> Self {
        let mut front = Self::with_capacity(count);
        front.extend(self.range(0..count));
        self.steps.drain(..count);
        self.times.drain(..count);
        self.values.drain(..count);
        let extras = self.extras.partition_point(|(index, _)| *index < count);
        self.extras.drain(..extras);
        for (index, _) in &mut self.extras {
            *index -= count;
        }
        front
    }

    /// About how many bytes of memory they take.
    pub fn memory_bytes(&self) -> usize {
        let extras = self.extras.iter().map(|(_, extra)| extra.len() + 24);
        self.steps.capacity() * 24 + extras.sum::<usize>()
    }
}

impl<'a> PointsView<'a> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Their steps.
    pub fn steps(&self) -> &'a [u64] {
        self.steps
    }

    /// Their times, milliseconds since the Unix epoch.
    pub fn times(&self) -> &'a [i64] {
        self.times
    }

    /// Their values.
    pub fn values(&self) -> &'a [f64] {
        self.values
    }

    /// Index and extra data of those that have some.
    pub fn extras(&self) -> impl Iterator<Item = (usize, &'a str)> {
        let offset = self.offset;
        self.extras
            .iter()
            .map(move |(index, extra)| (index - offset, &**extra))
    }

    /// The point at `index`.
    pub fn get(&self, index: usize) -> Option<Point<'a>> {
        let wanted = index + self.offset;
        let extra = self
            .extras
            .binary_search_by_key(&wanted, |(index, _)| *index);
        Some(Point {
            step: *self.steps.get(index)?,
            time: self.times[index],
            value: self.values[index],
            extra: extra.ok().map(|place| &*self.extras[place].1),
        })
    }

    /// All of them in order.
    pub fn iter(&self) -> impl Iterator<Item = Point<'a>> {
        let view = *self;
        (0..self.len()).filter_map(move |index| view.get(index))
    }

    /// The points at the indices `range`.
    ///
    /// # Panics
    /// When there are fewer.
    #[must_use]
    pub fn range(&self, range: Range<usize>) -> Self {
        let place = |index: usize| {
            let wanted = index + self.offset;
            self.extras.partition_point(|(extra, _)| *extra < wanted)
        };
        Self {
            extras: &self.extras[place(range.start)..place(range.end)],
            offset: self.offset + range.start,
            steps: &self.steps[range.clone()],
            times: &self.times[range.clone()],
            values: &self.values[range],
        }
    }

    /// Of settled points, those with a step in `steps`.
    #[must_use]
    pub fn within(&self, steps: std::ops::RangeInclusive<u64>) -> Self {
        let start = self.steps.partition_point(|step| step < steps.start());
        let end = self.steps.partition_point(|step| step <= steps.end());
        self.range(start..end.max(start))
    }
}

/// The value with the one NaN that is kept.
fn normal(value: f64) -> f64 {
    if value.is_nan() { f64::NAN } else { value }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    pub(crate) fn any_value() -> impl Strategy<Value = f64> {
        prop_oneof![
            4 => any::<f64>(),
            2 => (-1000_i32..1000).prop_map(|value| f64::from(value) / 8.0),
            1 => Just(f64::NAN),
            1 => Just(f64::from_bits(0xfff8_0000_dead_beef)),
            1 => Just(f64::INFINITY),
            1 => Just(f64::NEG_INFINITY),
            1 => Just(-0.0),
        ]
    }

    /// Points in any order, with repeated steps, some with extra data.
    pub(crate) fn any_points(
        count: impl Into<prop::collection::SizeRange>,
    ) -> impl Strategy<Value = Points> {
        let step = prop_oneof![6 => 0_u64..40, 1 => 0..=i64::MAX.cast_unsigned()];
        let time = prop_oneof![6 => 1_700_000_000_000_i64..1_700_000_100_000, 1 => any::<i64>()];
        let extra = prop::option::weighted(0.1, "\\{\"[a-zü]{1,4}\":[1-9]\\}");
        let point = (step, time, any_value(), extra);
        prop::collection::vec(point, count).prop_map(|rows| {
            let mut points = Points::default();
            for (step, time, value, extra) in rows {
                match extra {
                    Some(extra) => points.push_with_extra(step, time, value, extra.into()),
                    None => points.push(step, time, value),
                }
            }
            points
        })
    }

    type Row = (i64, u64, Option<String>);

    /// What settling means, said slowly.
    fn map(points: &Points) -> BTreeMap<u64, Row> {
        let row = |point: Point<'_>| {
            let extra = point.extra.map(str::to_owned);
            (point.step, (point.time, point.value.to_bits(), extra))
        };
        points.view().iter().map(row).collect()
    }

    proptest! {
        #[test]
        fn settled_points_are_a_map_in_which_the_last_report_wins(points in any_points(0..60)) {
            let expected = map(&points);
            let settled = points.settle();
            prop_assert!(settled.is_settled());
            prop_assert_eq!(settled.len(), expected.len());
            prop_assert_eq!(map(&settled), expected);
        }

        #[test]
        fn merging_is_settling_one_after_the_other(older in any_points(0..60), newer in any_points(0..60)) {
            let mut all = older.clone();
            all.extend(newer.view());
            let merged = Points::merge(older.settle().view(), newer.settle().view());
            prop_assert!(merged == all.settle());
        }

        #[test]
        fn splitting_and_extending_give_back_the_same(points in any_points(1..60), place in any::<prop::sample::Index>()) {
            let mut rest = points.clone();
            let mut front = rest.split_front(place.index(points.len()));
            front.extend(rest.view());
            prop_assert!(front == points);
        }

        #[test]
        fn a_part_of_the_steps_has_all_points_of_those_steps(points in any_points(0..60), low in 0_u64..40, high in 0_u64..40) {
            let settled = points.settle();
            let expected: Vec<u64> = settled.view().steps().iter().copied().filter(|step| (low..=high).contains(step)).collect();
            let view = settled.view();
            let within = view.within(low..=high);
            prop_assert_eq!(within.steps(), expected);
            for point in within.iter() {
                let same = view.iter().find(|other| other.step == point.step).unwrap();
                prop_assert_eq!(same.extra, point.extra);
            }
        }
    }

    #[test]
    fn every_nan_becomes_the_same() {
        let mut points = Points::default();
        points.push(0, 0, f64::from_bits(0xfff8_0000_0000_0001));
        assert_eq!(points.view().values()[0].to_bits(), f64::NAN.to_bits());
    }
}
