//! What holds for every searcher.

use serde_json::{Map, Value, json};
use trainshed_tune::history::History;
use trainshed_tune::search::{Request, Searcher};
use trainshed_tune::{Config, Space};

use crate::{dict, experiment, run_all, space};

const SEARCHERS: [&str; 8] = [
    "random",
    "sobol",
    "tpe",
    "hyperoptsearch",
    "gp",
    "cmaes",
    "auto",
    "bohb",
];

fn searcher(name: &str) -> Searcher {
    Searcher::parse(name, &Map::new(), "").unwrap()
}

/// All types, among them one that is not always there.
fn everything() -> Space {
    space(json!([
        {"name": "a", "type": "uniform", "min": -1, "max": 1},
        {"name": "b", "type": "quniform", "min": 0, "max": 1, "q": 0.125},
        {"name": "c", "type": "loguniform", "min": 1e-5, "max": 1e-1, "base": 10},
        {"name": "d", "type": "qloguniform", "min": 0.5, "max": 8, "base": 2, "q": 0.5},
        {"name": "e", "type": "randn", "mean": 1, "sd": 2},
        {"name": "f", "type": "qrandn", "mean": 0, "sd": 1, "q": 0.5},
        {"name": "g", "type": "randint", "min": 0, "max": 7},
        {"name": "h", "type": "qrandint", "min": 0, "max": 12, "q": 3},
        {"name": "i", "type": "lograndint", "min": 1, "max": 300, "base": 2},
        {"name": "j", "type": "qlograndint", "min": 4, "max": 64, "base": 2, "q": 4},
        {"name": "k", "type": "choice", "options": ["p", "q", 3, null]},
        {"name": "l", "type": "constant", "value": [1]},
        {"name": "m", "type": "uniform", "min": 0, "max": 1, "when": {"k": ["p", 3]}}
    ]))
}

/// Something to minimise.
fn loss(config: &Config) -> f64 {
    let number = |name: &str| config.get(name).and_then(Value::as_f64).unwrap_or(0.7);
    let off = if config["k"] == "q" { 0.0 } else { 0.4 };
    (number("a") - 0.3).powi(2)
        + (number("c").log10() + 3.0).powi(2)
        + (number("g") - 4.0).powi(2) / 9.0
        + (number("e") - 2.0).powi(2) / 9.0
        + number("m")
        + off
}

fn suggest(searcher: &mut Searcher, space: &Space, history: &History, trial: u64) -> Config {
    let fixed = Config::new();
    let request = Request {
        seed: 11,
        trial,
        fixed: &fixed,
    };
    searcher.suggest(space, history, &request)
}

/// Trials that end, fail, are pruned, and end in another order than they began.
fn learn(history: &mut History, space: &Space, trial: u64, config: &Config) {
    history.begin(trial, space.encode(config));
    if trial < 3 {
        return;
    }
    let ended = trial - 3 + 2 * (trial % 2);
    let score = loss(config) + f64::from(u8::try_from(trial % 5).unwrap()) * 0.01;
    history.end(
        ended,
        (!trial.is_multiple_of(7)).then_some(score),
        trial % 4,
        !trial.is_multiple_of(3),
    );
}

#[test]
fn every_searcher_suggests_values_of_the_space() {
    let space = everything();
    for name in SEARCHERS {
        let mut searcher = searcher(name);
        let mut history = History::new();
        for trial in 0..60 {
            let config = suggest(&mut searcher, &space, &history, trial);
            let when = config["k"] == "p" || config["k"] == 3;
            assert_eq!(config.contains_key("m"), when, "{name}: {config:?}");
            assert_eq!(config.len(), 12 + usize::from(when), "{name}: {config:?}");
            for parameter in space.parameters() {
                let Some(value) = config.get(&parameter.name) else {
                    continue;
                };
                let at = parameter.domain.coordinate(value).unwrap();
                let back = parameter.domain.value_at(at);
                let same = match (back.as_f64(), value.as_f64()) {
                    (Some(back), Some(value)) => {
                        (back - value).abs() <= 1e-9 * value.abs().max(1e-3)
                    }
                    _ => back == *value,
                };
                assert!(
                    same,
                    "{name}: {} is {value}, nearest is {back}",
                    parameter.name
                );
            }
            learn(&mut history, &space, trial, &config);
        }
    }
}

#[test]
fn a_searcher_that_starts_over_from_the_same_history_suggests_the_same() {
    let space = everything();
    for name in SEARCHERS {
        let mut kept = searcher(name);
        let mut history = History::new();
        for trial in 0..70 {
            let config = suggest(&mut kept, &space, &history, trial);
            let again = suggest(&mut searcher(name), &space, &history, trial);
            assert_eq!(again, config, "{name}, trial {trial}");
            assert_eq!(
                suggest(&mut kept, &space, &history, trial),
                config,
                "{name} asked twice"
            );
            learn(&mut history, &space, trial, &config);
        }
    }
}

#[test]
fn other_seeds_and_other_trials_get_other_suggestions() {
    let space = everything();
    for name in SEARCHERS {
        let mut searcher = searcher(name);
        let history = History::new();
        let first = suggest(&mut searcher, &space, &history, 0);
        assert_ne!(suggest(&mut searcher, &space, &history, 1), first, "{name}");
        let fixed = Config::new();
        let request = Request {
            seed: 12,
            trial: 0,
            fixed: &fixed,
        };
        assert_ne!(
            searcher.suggest(&space, &history, &request),
            first,
            "{name}"
        );
    }
}

#[test]
fn values_that_are_given_are_kept() {
    let space = everything();
    for name in SEARCHERS {
        let mut searcher = searcher(name);
        let mut history = History::new();
        let fixed = dict(json!({"k": "p", "g": 2}));
        for trial in 0..40 {
            let request = Request {
                seed: 1,
                trial,
                fixed: &fixed,
            };
            let config = searcher.suggest(&space, &history, &request);
            assert_eq!(
                (&config["k"], &config["g"]),
                (&json!("p"), &json!(2)),
                "{name}"
            );
            learn(&mut history, &space, trial, &config);
        }
    }
}

/// The suggestions of trials that are asked for before any of them has ended.
fn outstanding(name: &str, count: u64) -> Vec<Vec<f64>> {
    let space = space(json!([
        {"name": "x", "type": "uniform", "min": 0, "max": 1},
        {"name": "y", "type": "uniform", "min": 0, "max": 1}
    ]));
    let mut searcher = searcher(name);
    let mut history = History::new();
    for trial in 0..30 {
        let config = suggest(&mut searcher, &space, &history, trial);
        let point = space.encode(&config);
        let score = (point[0] - 0.4).powi(2) + (point[1] - 0.6).powi(2);
        history.begin(trial, point);
        history.end(trial, Some(score), 1, true);
    }
    (30..30 + count)
        .map(|trial| {
            let config = suggest(&mut searcher, &space, &history, trial);
            let point = space.encode(&config);
            history.begin(trial, point.clone());
            point
        })
        .collect()
}

#[test]
fn trials_that_still_run_are_not_suggested_again() {
    for name in ["sobol", "tpe", "gp", "cmaes", "auto"] {
        let points = outstanding(name, 6);
        for (position, point) in points.iter().enumerate() {
            for other in &points[..position] {
                let distance = (point[0] - other[0]).hypot(point[1] - other[1]);
                assert!(distance > 1e-4, "{name}: {point:?} and {other:?}");
            }
        }
    }
}

#[test]
fn learning_searchers_beat_chance() {
    let best = |name: &str| {
        let parameters = json!([
            {"name": "x", "type": "uniform", "min": -5, "max": 5},
            {"name": "y", "type": "uniform", "min": -5, "max": 5}
        ]);
        let mut bests: Vec<f64> = (0..9)
            .map(|seed| {
                // The optimum is elsewhere for every seed; the experiment's own seed stays.
                let (cx, cy) = (f64::from(seed) - 4.0, 3.0 - 0.6 * f64::from(seed));
                let value = |config: &Config| {
                    let number = |name: &str| config[name].as_f64().unwrap();
                    (number("x") - cx).powi(2) + 3.0 * (number("y") - cy).powi(2)
                };
                let settings = json!({"num_samples": 60, "search_alg": name});
                let mut experiment = experiment(parameters.clone(), settings);
                run_all(&mut experiment, value);
                experiment.best().unwrap().last().unwrap()
            })
            .collect();
        bests.sort_by(f64::total_cmp);
        bests[4]
    };
    let chance = best("random");
    for name in ["tpe", "hyperoptsearch", "gp", "cmaes", "auto"] {
        let found = best(name);
        assert!(found < 0.5 * chance, "{name}: {found} against {chance}");
    }
}

#[test]
fn a_space_that_is_used_up_is_no_trouble() {
    for name in SEARCHERS {
        let parameters = json!([
            {"name": "x", "type": "choice", "options": [1, 2]},
            {"name": "y", "type": "randint", "min": 0, "max": 2},
            {"name": "z", "type": "constant", "value": null}
        ]);
        let settings = json!({"num_samples": 40, "search_alg": name});
        let mut experiment = experiment(parameters, settings);
        let configs = run_all(&mut experiment, |config| {
            config["x"].as_f64().unwrap() + config["y"].as_f64().unwrap()
        });
        assert_eq!(configs.len(), 40, "{name}");
        let best = experiment.best().unwrap().config();
        assert_eq!((&best["x"], &best["y"]), (&json!(1), &json!(0)), "{name}");
    }
}

#[test]
fn equal_and_enormous_values_are_no_trouble() {
    for value in [0.0, 1e300, -1e300, f64::MIN_POSITIVE, f64::MAX] {
        for name in SEARCHERS {
            let parameters = json!([
                {"name": "x", "type": "uniform", "min": 0, "max": 1},
                {"name": "k", "type": "choice", "options": ["a", "b"]}
            ]);
            let settings = json!({"num_samples": 30, "search_alg": name});
            let mut experiment = experiment(parameters, settings);
            let configs = run_all(&mut experiment, |config| {
                if config["k"] == "a" { value } else { -value }
            });
            assert_eq!(configs.len(), 30, "{name}");
        }
    }
}

#[test]
fn grid_cells_are_filled_by_the_searcher() {
    let parameters = json!([
        {"name": "g", "type": "grid_search", "options": [1, 2, 3]},
        {"name": "x", "type": "uniform", "min": 0, "max": 1}
    ]);
    for name in SEARCHERS {
        let settings = json!({"num_samples": 8, "search_alg": name});
        let mut experiment = experiment(parameters.clone(), settings);
        let configs = run_all(&mut experiment, |config| {
            (config["x"].as_f64().unwrap() - 0.5).powi(2) + config["g"].as_f64().unwrap()
        });
        let cells: Vec<u64> = configs.iter().map(|c| c["g"].as_u64().unwrap()).collect();
        assert_eq!(cells, [1, 2, 3].repeat(8), "{name}");
    }
}
