//! What the list of curves says of a curve.

use crate::points::PointsView;

/// Count, last, least and greatest value of everything that was reported to a curve; pairs of
/// step and value.
///
/// `last` is the one of the greatest step, and of several with that step the last reported.
/// NaN is never least or greatest; of several that are, the one of the least step is named.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// How many points were reported.
    pub count: u64,
    /// See above.
    pub last: (u64, f64),
    /// `None` while all values are NaN.
    pub min: Option<(u64, f64)>,
    /// `None` while all values are NaN.
    pub max: Option<(u64, f64)>,
}

impl Summary {
    /// Of points in the order in which they were reported; `None` of none.
    pub fn of(points: PointsView<'_>) -> Option<Self> {
        let mut all: Option<Self> = None;
        for (step, value) in points.steps().iter().zip(points.values()) {
            let here = (*step, *value);
            let number = Some(here).filter(|_| !value.is_nan());
            let one = Self {
                count: 1,
                last: here,
                min: number,
                max: number,
            };
            all = Some(all.map_or(one, |all| all.and(&one)));
        }
        all
    }

    /// Of these points and those that were reported after them.
    #[must_use]
    pub fn and(&self, later: &Self) -> Self {
        let best =
            |older: Option<(u64, f64)>, newer: Option<(u64, f64)>, better: fn(f64, f64) -> bool| {
                match (older, newer) {
                    (Some(old), Some(new))
                        if better(new.1, old.1) || (new.1 == old.1 && new.0 < old.0) =>
                    {
                        newer
                    }
                    (None, _) => newer,
                    _ => older,
                }
            };
        Self {
            count: self.count + later.count,
            last: if later.last.0 >= self.last.0 {
                later.last
            } else {
                self.last
            },
            min: best(self.min, later.min, |new, old| new < old),
            max: best(self.max, later.max, |new, old| new > old),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::points::Points;
    use crate::points::tests::any_points;

    proptest! {
        #[test]
        fn a_summary_is_the_same_however_the_points_come(older in any_points(1..20), newer in any_points(1..20)) {
            let mut all = older.clone();
            all.extend(newer.view());
            let parts = Summary::of(older.view()).unwrap().and(&Summary::of(newer.view()).unwrap());
            let whole = Summary::of(all.view()).unwrap();
            prop_assert_eq!(format!("{whole:?}"), format!("{parts:?}"));
        }
    }

    #[test]
    fn the_last_is_the_one_of_the_greatest_step() {
        let mut points = Points::default();
        for (step, value) in [(3, 1.0), (5, f64::NAN), (4, -2.0), (0, -2.0)] {
            points.push(step, 0, value);
        }
        let summary = Summary::of(points.view()).unwrap();
        assert_eq!(summary.count, 4);
        assert_eq!((summary.last.0, summary.last.1.is_nan()), (5, true));
        assert_eq!(
            (summary.min, summary.max),
            (Some((0, -2.0)), Some((3, 1.0)))
        );
    }
}
