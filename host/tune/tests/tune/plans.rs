//! Which trials there are: grids, samples, points to evaluate.

use serde_json::{Value, json};
use trainshed_tune::Config;
use trainshed_tune::experiment::event::{Event, Origin};

use crate::{experiment, run_all, started, x};

fn grid() -> Value {
    json!([
        {"name": "lr", "type": "grid_search", "options": [0.1, 0.01, 0.001]},
        {"name": "batch", "type": "grid_search", "options": [16, 32]},
        {"name": "seed", "type": "constant", "value": 4}
    ])
}

fn configs(parameters: Value, settings: Value) -> (Vec<Config>, Vec<String>) {
    let mut experiment = experiment(parameters, settings);
    let total = experiment.total();
    let configs = run_all(&mut experiment, |_| 1.0);
    assert_eq!(total, Some(configs.len() as u64));
    (configs, experiment.warnings())
}

#[test]
fn a_space_of_nothing_but_a_grid_is_walked_once_whatever_num_samples_says() {
    for samples in [1, 6, 100] {
        let (configs, warnings) = configs(grid(), json!({"num_samples": samples}));
        let cells: Vec<(f64, u64)> = configs
            .iter()
            .map(|config| {
                (
                    config["lr"].as_f64().unwrap(),
                    config["batch"].as_u64().unwrap(),
                )
            })
            .collect();
        let expected = [
            (0.1, 16),
            (0.1, 32),
            (0.01, 16),
            (0.01, 32),
            (0.001, 16),
            (0.001, 32),
        ];
        assert_eq!(cells, expected);
        assert!(configs.iter().all(|config| config["seed"] == 4));
        let told = match samples {
            100 => vec![String::from(
                "the grid has 6 points, which are run once each, although num_samples is 100",
            )],
            _ => vec![],
        };
        assert_eq!(warnings, told);
    }
}

#[test]
fn a_grid_is_repeated_when_that_is_asked_for() {
    let (configs, _) = configs(grid(), json!({"num_samples": 3, "repeat_grid": true}));
    assert_eq!(configs.len(), 18);
    assert_eq!(configs[..6], configs[6..12]);
}

#[test]
fn a_mixed_space_is_the_grid_times_the_samples() {
    let parameters = json!([
        {"name": "g", "type": "grid_search", "options": ["a", "b"]},
        {"name": "x", "type": "uniform", "min": 0, "max": 1}
    ]);
    let (configs, _) = configs(parameters, json!({"num_samples": 3}));
    assert_eq!(configs.len(), 6);
    let mut drawn: Vec<String> = configs
        .iter()
        .map(|config| config["x"].to_string())
        .collect();
    drawn.sort();
    drawn.dedup();
    assert_eq!(drawn.len(), 6, "every cell has its own draw");
}

#[test]
fn points_come_first_and_are_completed_by_every_searcher() {
    let parameters = json!([
        {"name": "lr", "type": "loguniform", "min": 1e-4, "max": 1, "base": 10},
        {"name": "batch", "type": "choice", "options": [16, 32, 64]},
        {"name": "depth", "type": "randint", "min": 1, "max": 5}
    ]);
    for searcher in [
        "basicvariantgenerator",
        "sobol",
        "hyperoptsearch",
        "tpe",
        "gp",
        "cmaes",
        "auto",
    ] {
        let settings = json!({
            "num_samples": 5,
            "search_alg": {
                "name": searcher,
                "points_to_evaluate": [{"lr": 0.01, "batch": 32}, {"depth": 2}],
            },
        });
        let mut experiment = experiment(parameters.clone(), settings);
        let (_, log) = experiment.next(0);
        let Event::TrialCreated { config, origin, .. } = &log[0] else {
            panic!("{log:?}");
        };
        assert_eq!(*origin, Origin::Point);
        assert_eq!(
            (&config["lr"], &config["batch"]),
            (&json!(0.01), &json!(32))
        );
        assert!(
            (1..5).contains(&config["depth"].as_i64().unwrap()),
            "{searcher}: {config:?}"
        );
        assert_eq!(started(&mut experiment).config["depth"], 2);
        let mut rest = 0;
        while let trainshed_tune::experiment::Next::Start(_) = experiment.next(0).0 {
            rest += 1;
        }
        assert_eq!(
            rest, 3,
            "{searcher}: each point takes the place of one sample"
        );
    }
}

#[test]
fn one_point_may_stand_alone_and_may_be_out_of_range() {
    let settings = json!({"points_to_evaluate": {"x": 7}});
    let mut experiment = experiment(x(), settings);
    assert_eq!(started(&mut experiment).config["x"], 7);
    assert_eq!(
        experiment.warnings(),
        ["points_to_evaluate gives `x` the value 7, which is outside its range"]
    );
}

#[test]
fn without_a_number_of_samples_there_is_one_and_with_minus_one_no_end() {
    let mut one = experiment(x(), json!({}));
    assert_eq!(run_all(&mut one, |_| 1.0).len(), 1);
    let mut endless = experiment(x(), json!({"num_samples": -1}));
    assert_eq!((endless.total(), endless.progress()), (None, None));
    for trial in 0..500 {
        assert_eq!(started(&mut endless).trial, trial);
    }
}

#[test]
fn the_same_seed_gives_the_same_trials_in_whatever_order_they_end() {
    let run = |backwards: bool| {
        let mut experiment = experiment(x(), json!({"num_samples": 8, "max_concurrent_trials": 2}));
        let mut configs = Vec::new();
        let mut open = Vec::new();
        loop {
            while let trainshed_tune::experiment::Next::Start(start) = experiment.next(0).0 {
                configs.push(start.config);
                open.push(start.trial);
            }
            if open.is_empty() {
                return configs;
            }
            let trial = if backwards {
                open.pop().unwrap()
            } else {
                open.remove(0)
            };
            crate::report(&mut experiment, trial, 1, "loss", 0.5);
            crate::end(&mut experiment, trial, crate::completed());
        }
    };
    assert_eq!(run(false), run(true));
}
