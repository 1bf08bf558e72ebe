//! The twelve distributions: ends to the bit, shapes by 100,000 draws.
//!
//! The shapes are compared with the formulas of `docs/tuning.md`, written down here a second time.

use libm::{erfc, log};
use serde_json::{Value, json};
use trainshed_tune::history::History;
use trainshed_tune::search::{Request, Searcher};
use trainshed_tune::{Config, Domain};

use crate::space;

const DRAWS: u32 = 100_000;
/// The largest number that a uniform draw can be.
const LAST: f64 = 1.0 - f64::EPSILON / 2.0;

fn draws(parameter: &Value) -> Vec<Value> {
    let space = space(parameter.clone());
    let mut random = Searcher::parse("random", &serde_json::Map::new(), "").unwrap();
    let (history, fixed) = (History::new(), Config::new());
    (0..u64::from(DRAWS))
        .map(|trial| {
            let request = Request {
                seed: 42,
                trial,
                fixed: &fixed,
            };
            random.suggest(&space, &history, &request)["x"].clone()
        })
        .collect()
}

/// The values are those of `expected`, and as frequent as it says, by Pearson's test at 0.1 %.
#[track_caller]
fn check_values(parameter: Value, expected: &[(Value, f64)]) {
    let total: f64 = expected.iter().map(|(_, share)| share).sum();
    assert!((total - 1.0).abs() < 1e-9, "the shares add up to {total}");
    let mut counts = vec![0.0; expected.len()];
    for value in draws(&parameter) {
        let Some(at) = expected.iter().position(|(known, _)| *known == value) else {
            panic!("{value} was drawn from {parameter}");
        };
        counts[at] += 1.0;
    }
    let draws = f64::from(DRAWS);
    let statistic: f64 = counts
        .iter()
        .zip(expected)
        .map(|(count, (_, share))| (count - draws * share).powi(2) / (draws * share))
        .sum();
    // Wilson and Hilferty's approximation of the quantile.
    let freedom = (expected.len() - 1) as f64;
    let limit =
        freedom * (1.0 - 2.0 / (9.0 * freedom) + 3.09 * (2.0 / (9.0 * freedom)).sqrt()).powi(3);
    assert!(
        statistic < limit,
        "{parameter}: chi-square is {statistic:.1}, more than {limit:.1}"
    );
}

/// The draws follow a distribution function, by Kolmogorov's and Smirnov's test at 0.1 %.
#[track_caller]
fn check_curve(parameter: Value, distribution: impl Fn(f64) -> f64) {
    let mut values: Vec<f64> = draws(&parameter)
        .iter()
        .map(|value| value.as_f64().unwrap())
        .collect();
    values.sort_by(f64::total_cmp);
    let draws = f64::from(DRAWS);
    let gap = |(rank, value): (u32, &f64)| {
        let (share, rank) = (distribution(*value), f64::from(rank));
        (share - rank / draws).max((rank + 1.0) / draws - share)
    };
    let largest = (0..).zip(&values).map(gap).fold(0.0, f64::max);
    let statistic = largest * draws.sqrt();
    assert!(
        statistic < 1.95,
        "{parameter}: the statistic is {statistic:.2}"
    );
}

/// The smallest and the largest value.
#[track_caller]
fn check_ends(parameter: Value, first: Value, last: Value) {
    let space = space(parameter);
    let domain = &space.parameters()[0].domain;
    assert_eq!(domain.quantile(0.0), first);
    assert_eq!(domain.quantile(LAST), last);
    assert_eq!(domain.value_at(0.0), first);
    assert_eq!(domain.value_at(1.0), last);
}

/// The smallest value, and a bound that every value is below.
#[track_caller]
fn check_open_end(parameter: Value, first: f64, bound: f64) {
    let space = space(parameter);
    let domain = &space.parameters()[0].domain;
    assert_eq!(domain.quantile(0.0), json!(first));
    assert_eq!(domain.value_at(0.0), json!(first));
    for largest in [domain.quantile(LAST), domain.value_at(1.0)] {
        let largest = largest.as_f64().unwrap();
        assert!(largest < bound && bound - largest < 1e-14, "{largest}");
    }
}

fn normal(z: f64) -> f64 {
    0.5 * erfc(-z / std::f64::consts::SQRT_2)
}

fn parameter(fields: Value) -> Value {
    let mut fields = crate::dict(fields);
    fields.insert("name".into(), "x".into());
    fields.into()
}

#[test]
fn uniform_has_its_minimum_and_not_its_maximum() {
    let one = parameter(json!({"type": "uniform", "min": -2, "max": 6}));
    check_open_end(one.clone(), -2.0, 6.0);
    check_curve(one, |x| (x + 2.0) / 8.0);
    let narrow = parameter(json!({"type": "uniform", "min": 1.0, "max": 1.0_f64.next_up()}));
    check_ends(narrow, json!(1.0), json!(1.0));
}

#[test]
fn loguniform_is_even_in_the_logarithm_whatever_the_base() {
    for base in [2, 10] {
        let one = parameter(json!({"type": "loguniform", "min": 1e-4, "max": 1, "base": base}));
        check_open_end(one.clone(), 1e-4, 1.0);
        check_curve(one, |x| 1.0 + log(x) / log(1e4));
    }
    let stream = |base: f64| {
        let one = parameter(json!({"type": "loguniform", "min": 1e-4, "max": 1, "base": base}));
        draws(&one)[..100].to_vec()
    };
    assert_eq!(stream(2.0), stream(10.0));
}

#[test]
fn quniform_has_both_ends_with_half_the_weight() {
    let one = parameter(json!({"type": "quniform", "min": 0, "max": 1, "q": 0.25}));
    check_ends(one.clone(), json!(0.0), json!(1.0));
    let shares = [0.125, 0.25, 0.25, 0.25, 0.125];
    let expected: Vec<(Value, f64)> = (0..5)
        .map(|step| json!(f64::from(step) * 0.25))
        .zip(shares)
        .collect();
    check_values(one, &expected);
}

#[test]
fn steps_of_a_tenth_are_written_without_noise() {
    let one = parameter(json!({"type": "quniform", "min": 0.1, "max": 0.9, "q": 0.1}));
    let mut seen: Vec<String> = draws(&one)[..1000].iter().map(Value::to_string).collect();
    seen.sort();
    seen.dedup();
    assert_eq!(
        seen,
        [
            "0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9"
        ]
    );
}

#[test]
fn qloguniform_rounds_a_loguniform_number() {
    let one = parameter(json!({"type": "qloguniform", "min": 0.5, "max": 4, "base": 10, "q": 0.5}));
    check_ends(one.clone(), json!(0.5), json!(4.0));
    let share = |step: f64| {
        let (low, high) = ((step - 0.5).max(1.0), (step + 0.5).min(8.0));
        log(high / low) / log(8.0)
    };
    let expected: Vec<(Value, f64)> = (1..=8)
        .map(|step| (json!(f64::from(step) * 0.5), share(f64::from(step))))
        .collect();
    check_values(one, &expected);
}

#[test]
fn randn_is_normal() {
    let one = parameter(json!({"type": "randn", "mean": 3, "sd": 0.5}));
    check_curve(one, |x| normal((x - 3.0) / 0.5));
}

#[test]
fn qrandn_rounds_a_normal_number() {
    let one = parameter(json!({"type": "qrandn", "mean": 1, "sd": 1, "q": 0.5}));
    let share = |step: f64| normal(0.5 * (step + 0.5) - 1.0) - normal(0.5 * (step - 0.5) - 1.0);
    // Beyond four deviations there is less than one draw to be expected in each cell.
    let values = draws(&one);
    let inside: Vec<f64> = values.iter().map(|value| value.as_f64().unwrap()).collect();
    assert!(inside.iter().all(|x| (x * 2.0).fract() == 0.0));
    for step in -4..=8 {
        let x = f64::from(step) * 0.5;
        let found = inside.iter().filter(|value| **value == x).count() as f64;
        let expected = f64::from(DRAWS) * share(f64::from(step));
        assert!(
            (found - expected).abs() < 4.0 * expected.sqrt(),
            "{x} was drawn {found} times instead of {expected:.0}"
        );
    }
}

#[test]
fn randint_leaves_its_maximum_out() {
    let one = parameter(json!({"type": "randint", "min": 5, "max": 15}));
    check_ends(one.clone(), json!(5), json!(14));
    let expected: Vec<(Value, f64)> = (5..15).map(|value| (json!(value), 0.1)).collect();
    check_values(one, &expected);
}

#[test]
fn qrandint_has_its_maximum_when_the_step_is_more_than_one() {
    let one = parameter(json!({"type": "qrandint", "min": 5, "max": 15, "q": 3}));
    check_ends(one.clone(), json!(6), json!(15));
    let expected: Vec<(Value, f64)> = [6, 9, 12, 15].map(|value| (json!(value), 0.25)).into();
    check_values(one, &expected);
    let by_one = json!({"type": "qrandint", "min": 5, "max": 15});
    check_ends(parameter(by_one), json!(5), json!(14));
    let single = json!({"type": "qrandint", "min": 1, "max": 4, "q": 3});
    check_ends(parameter(single), json!(3), json!(3));
}

#[test]
fn lograndint_makes_octaves_equally_likely() {
    let one = parameter(json!({"type": "lograndint", "min": 16, "max": 256, "base": 2}));
    check_ends(one.clone(), json!(16), json!(255));
    let expected: Vec<(Value, f64)> = (16..256)
        .map(|value| {
            let k = f64::from(value);
            (json!(value), log((k + 1.0) / k) / log(16.0))
        })
        .collect();
    check_values(one, &expected);
}

#[test]
fn qlograndint_draws_the_number_of_the_step() {
    let one = parameter(json!({"type": "qlograndint", "min": 16, "max": 256, "base": 2, "q": 16}));
    check_ends(one.clone(), json!(16), json!(256));
    let expected: Vec<(Value, f64)> = (1..=16)
        .map(|step| {
            let k = f64::from(step);
            (json!(16 * step), log((k + 1.0) / k) / log(17.0))
        })
        .collect();
    check_values(one, &expected);
}

#[test]
fn choice_keeps_types_and_counts_doubles_twice() {
    let options = json!([1, "1", true, null, [1], {"a": 1}, "1"]);
    let one = parameter(json!({"type": "choice", "options": options}));
    let share = 1.0 / 7.0;
    let expected = [
        (json!(1), share),
        (json!("1"), 2.0 * share),
        (json!(true), share),
        (Value::Null, share),
        (json!([1]), share),
        (json!({"a": 1}), share),
    ];
    check_values(one, &expected);
}

#[test]
fn a_grid_outside_of_a_grid_search_is_drawn_from_like_a_choice() {
    let one = parameter(json!({"type": "grid_search", "options": [3, 1, 2]}));
    check_values(one, &[3, 1, 2].map(|value| (json!(value), 1.0 / 3.0)));
}

#[test]
fn a_constant_is_always_the_same() {
    let one = parameter(json!({"type": "constant", "value": {"layers": [1, 2]}}));
    assert!(
        draws(&one)[..10]
            .iter()
            .all(|value| *value == json!({"layers": [1, 2]}))
    );
}

#[test]
fn coordinates_and_values_are_inverse() {
    let parameters = [
        json!({"type": "uniform", "min": -3, "max": 9}),
        json!({"type": "loguniform", "min": 1e-8, "max": 1e3, "base": 10}),
        json!({"type": "quniform", "min": -0.3, "max": 0.6, "q": 0.1}),
        json!({"type": "qloguniform", "min": 0.01, "max": 1, "q": 0.01, "base": 10}),
        json!({"type": "randn", "mean": 5, "sd": 2}),
        json!({"type": "qrandn", "mean": 5, "sd": 2, "q": 0.25}),
        json!({"type": "randint", "min": -7, "max": 100}),
        json!({"type": "qrandint", "min": 0, "max": 100, "q": 10}),
        json!({"type": "lograndint", "min": 1, "max": 1000, "base": 2}),
        json!({"type": "qlograndint", "min": 8, "max": 512, "q": 8, "base": 2}),
        json!({"type": "choice", "options": ["a", 1, null]}),
    ];
    for fields in parameters {
        let space = space(parameter(fields.clone()));
        let domain = &space.parameters()[0].domain;
        for step in 1..=1000 {
            let value = domain.quantile(f64::from(step) / 1001.0);
            let back = domain.value_at(domain.coordinate(&value).unwrap());
            let is_close = match (value.as_f64(), back.as_f64()) {
                (Some(value), Some(back)) => (value - back).abs() <= 1e-9 * value.abs().max(1e-6),
                _ => value == back,
            };
            assert!(is_close, "{fields}: {value} became {back}");
            if !matches!(domain, Domain::Real { .. } | Domain::Normal { .. }) {
                assert_eq!(value, back, "{fields}");
            }
        }
    }
}

#[test]
fn steps_that_are_not_given_are_chosen_and_told() {
    let chosen = |fields: Value| {
        let told = space(parameter(fields)).to_json();
        told[0]["q"].clone()
    };
    assert_eq!(
        chosen(json!({"type": "quniform", "min": 0.25, "max": 1})),
        json!(0.25)
    );
    assert_eq!(
        chosen(json!({"type": "quniform", "min": 0, "max": 5})),
        json!(0.05)
    );
    assert_eq!(
        chosen(json!({"type": "qloguniform", "min": 1e-4, "max": 1e-1, "base": 10})),
        json!(1e-4)
    );
    assert_eq!(
        chosen(json!({"type": "qrandn", "mean": 0, "sd": 3})),
        json!(0.3)
    );
    assert_eq!(
        chosen(json!({"type": "qrandint", "min": 0, "max": 5})),
        json!(1)
    );
    assert_eq!(
        chosen(json!({"type": "qlograndint", "min": 1, "max": 5, "base": 2})),
        json!(1)
    );
}
