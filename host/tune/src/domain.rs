//! The set of values of one parameter, with its distribution.
//!
//! Two maps belong to a domain. [`Domain::quantile`] is the prior: it turns a uniform number
//! into a value, exactly as the table of `docs/tuning.md` says. [`Domain::coordinate`] and
//! [`Domain::value_at`] are the view of the models: numbers become positions in `0..=1` (even
//! in the logarithm, cells of equal width for steps), options become their index.

use serde_json::{Number, Value};

use crate::math::{exp, index, ln, normal_cdf, normal_quantile, round_half_even, whole};

/// Numbers of larger magnitude are not exact in a double, so they are no bounds of integers.
pub(crate) const LARGEST_WHOLE: f64 = 9_007_199_254_740_992.0;

/// The values that a parameter can take, and how likely each is before anything is known.
#[derive(Debug, Clone, PartialEq)]
pub enum Domain {
    /// Real numbers, `low` included and `high` excluded.
    Real {
        /// The smallest value.
        low: f64,
        /// No value reaches it.
        high: f64,
        /// Whether the logarithm is uniform, instead of the value.
        log: bool,
    },
    /// The multiples `first * q ..= last * q` of a real step. Each end has half the
    /// probability of its neighbour, because the prior rounds a uniform number.
    Stepped {
        /// The smallest value is this many steps from 0.
        first: i64,
        /// The largest value is this many steps from 0.
        last: i64,
        /// The step.
        q: f64,
        /// Whether the logarithm is uniform before rounding.
        log: bool,
    },
    /// The integers `first * q ..= last * q`.
    Whole {
        /// The smallest value is this many steps from 0.
        first: i64,
        /// The largest value is this many steps from 0.
        last: i64,
        /// The step, 1 or more.
        q: i64,
        /// Whether the logarithm is uniform, over `first..last + 1`, before it is cut down.
        log: bool,
    },
    /// A normal distribution, rounded to multiples of `q` if there is one.
    Normal {
        /// Its mean.
        mean: f64,
        /// Its standard deviation, more than 0.
        sd: f64,
        /// The step.
        q: Option<f64>,
    },
    /// One of the options, all equally likely; one that stands there twice counts twice.
    Choice {
        /// Any JSON values, at least one.
        options: Vec<Value>,
    },
    /// Every one of the options.
    Grid {
        /// Any JSON values, at least one.
        options: Vec<Value>,
    },
    /// Always the same value.
    Constant {
        /// Any JSON value.
        value: Value,
    },
}

/// What a model sees of a domain.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Axis {
    /// Every position in `0..=1` is a value.
    Continuous,
    /// This many ordered values, each with a cell of `0..=1`.
    Levels(usize),
    /// This many values without an order: the coordinate is the index.
    Categories(usize),
    /// One value: nothing to search.
    Fixed,
}

impl Domain {
    /// What a model sees of the domain.
    pub fn axis(&self) -> Axis {
        match self {
            Self::Real { .. } | Self::Normal { .. } => Axis::Continuous,
            Self::Stepped { first, last, .. } | Self::Whole { first, last, .. } => {
                match usize::try_from(last - first + 1) {
                    Ok(0 | 1) | Err(_) => Axis::Fixed,
                    Ok(levels) => Axis::Levels(levels),
                }
            }
            Self::Choice { options } | Self::Grid { options } => match options.len() {
                0 | 1 => Axis::Fixed,
                count => Axis::Categories(count),
            },
            Self::Constant { .. } => Axis::Fixed,
        }
    }

    /// The value below which the share `u` of the prior lies, for `u` in `0..1`.
    pub fn quantile(&self, u: f64) -> Value {
        let between = |low: f64, high: f64, log: bool| {
            if log && u > 0.0 {
                exp(ln(low) + u * (ln(high) - ln(low))).clamp(low, high)
            } else {
                low + u * (high - low)
            }
        };
        match self {
            Self::Real { low, high, log } => real(between(*low, *high, *log).min(high.next_down())),
            Self::Stepped {
                first,
                last,
                q,
                log,
            } => multiple(
                whole(round_half_even(between(*first as f64, *last as f64, *log))),
                *q,
            ),
            Self::Whole {
                first,
                last,
                q,
                log,
            } => {
                let step = between(*first as f64, (*last + 1) as f64, *log);
                Value::from(whole(step.floor()).clamp(*first, *last) * q)
            }
            Self::Normal { mean, sd, q } => {
                const HALF_STEP: f64 = 1.0 / 18_014_398_509_481_984.0;
                let z = normal_quantile(u.clamp(HALF_STEP, 1.0 - 2.0 * HALF_STEP));
                stepped(mean + sd * z, *q)
            }
            Self::Choice { options } | Self::Grid { options } => {
                options[index(u * options.len() as f64).min(options.len() - 1)].clone()
            }
            Self::Constant { value } => value.clone(),
        }
    }

    /// Where a model sees `value`; nothing if it is not of the domain's kind.
    ///
    /// Numbers out of range get the position of the nearest end.
    pub fn coordinate(&self, value: &Value) -> Option<f64> {
        match self {
            Self::Real { low, high, log } => {
                let x = value.as_f64()?.clamp(*low, *high);
                Some(share(x, *low, *high, *log))
            }
            Self::Stepped {
                first,
                last,
                q,
                log,
            } => {
                let step = round_half_even(value.as_f64()? / q);
                Some(self.cell_centre(step.clamp(*first as f64, *last as f64), *log))
            }
            Self::Whole {
                first,
                last,
                q,
                log,
            } => {
                let step = round_half_even(value.as_f64()? / *q as f64);
                Some(self.cell_centre(step.clamp(*first as f64, *last as f64), *log))
            }
            Self::Normal { mean, sd, .. } => Some(normal_cdf((value.as_f64()? - mean) / sd)),
            Self::Choice { options } | Self::Grid { options } => options
                .iter()
                .position(|option| same_value(option, value))
                .map(|position| position as f64),
            Self::Constant { .. } => Some(0.0),
        }
    }

    /// The value at a position of [`Self::coordinate`]; positions out of range are moved into it.
    pub fn value_at(&self, coordinate: f64) -> Value {
        let t = if coordinate.is_nan() { 0.5 } else { coordinate };
        match self {
            Self::Real { low, high, log } => {
                let t = t.clamp(0.0, 1.0);
                let x = if *log && t > 0.0 {
                    exp(ln(*low) + t * (ln(*high) - ln(*low)))
                } else {
                    low + t * (high - low)
                };
                real(x.clamp(*low, high.next_down()))
            }
            Self::Stepped { q, log, .. } => multiple(self.step_at(t, *log), *q),
            Self::Whole { q, log, .. } => Value::from(self.step_at(t, *log) * q),
            Self::Normal { mean, sd, q } => {
                stepped(mean + sd * normal_quantile(t.clamp(1e-12, 1.0 - 1e-12)), *q)
            }
            Self::Choice { options } | Self::Grid { options } => {
                options[index(t.max(0.0)).min(options.len() - 1)].clone()
            }
            Self::Constant { value } => value.clone(),
        }
    }

    /// The value of the domain nearest to a number; a number unchanged where it is one.
    pub(crate) fn nearest(&self, x: f64) -> Value {
        match self {
            Self::Real { low, high, .. } => real(x.clamp(*low, high.next_down())),
            Self::Normal { q, .. } => stepped(x, *q),
            _ => {
                let here = self.coordinate(&real(x)).unwrap_or(0.5);
                self.value_at(here)
            }
        }
    }

    /// The number itself, inside the range or not, but on the domain's steps and finite.
    pub(crate) fn on_steps(&self, x: f64) -> Value {
        let x = x.clamp(f64::MIN, f64::MAX);
        match self {
            Self::Stepped { q, .. } => stepped(x, Some(*q)),
            Self::Normal { q, .. } => stepped(x, *q),
            Self::Whole { q, .. } => {
                Value::from(whole(round_half_even(x / *q as f64)).saturating_mul(*q))
            }
            _ => real(x),
        }
    }

    /// The position of the level `level`, counted from 0.
    pub(crate) fn level(&self, level: usize) -> f64 {
        match self {
            Self::Stepped { first, log, .. } | Self::Whole { first, log, .. } => {
                self.cell_centre(*first as f64 + level as f64, *log)
            }
            _ => level as f64,
        }
    }

    /// The level at position `t`, counted from 0.
    pub(crate) fn level_at(&self, t: f64) -> usize {
        match self {
            Self::Stepped { first, log, .. } | Self::Whole { first, log, .. } => {
                usize::try_from(self.step_at(t, *log) - first).unwrap_or(0)
            }
            _ => index(t),
        }
    }

    fn cell_centre(&self, step: f64, log: bool) -> f64 {
        let (low, high) = self.outer_edges();
        share(step, low, high, log)
    }

    fn step_at(&self, t: f64, log: bool) -> i64 {
        let (low, high) = self.outer_edges();
        let step = if log {
            exp(ln(low) + t * (ln(high) - ln(low)))
        } else {
            low + t * (high - low)
        };
        let (first, last) = self.steps();
        whole(round_half_even(step)).clamp(first, last)
    }

    fn steps(&self) -> (i64, i64) {
        match self {
            Self::Stepped { first, last, .. } | Self::Whole { first, last, .. } => (*first, *last),
            _ => (0, 0),
        }
    }

    /// Half a step beyond the first and the last value, in steps.
    fn outer_edges(&self) -> (f64, f64) {
        let (first, last) = self.steps();
        (first as f64 - 0.5, last as f64 + 0.5)
    }
}

/// Which share of the way from `low` to `high` lies behind `x`.
fn share(x: f64, low: f64, high: f64, log: bool) -> f64 {
    let share = if log {
        (ln(x) - ln(low)) / (ln(high) - ln(low))
    } else {
        (x - low) / (high - low)
    };
    share.clamp(0.0, 1.0)
}

/// Whether two JSON values are the same option: numbers by value, so that 1 is 1.0.
pub(crate) fn same_value(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => {
            left == right || left.as_f64() == right.as_f64()
        }
        _ => left == right,
    }
}

fn real(x: f64) -> Value {
    Number::from_f64(x).map_or(Value::Null, Value::Number)
}

fn stepped(x: f64, q: Option<f64>) -> Value {
    match q {
        Some(q) => multiple(whole(round_half_even(x / q)), q),
        None => real(x),
    }
}

/// `steps * q` without the noise of binary fractions: 3 * 0.1 is 0.3.
fn multiple(steps: i64, q: f64) -> Value {
    let product = steps as f64 * q;
    let digits = q.to_string();
    let decimals = digits.split_once('.').map_or(0, |(_, after)| after.len());
    real(format!("{product:.decimals$}").parse().unwrap_or(product))
}
