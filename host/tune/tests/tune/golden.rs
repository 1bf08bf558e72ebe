//! The same decisions as Ray's own classes, on the same reports; `golden/record.py` wrote them down.

use serde_json::{Value, json};
use trainshed_tune::Decision;
use trainshed_tune::experiment::Next;
use trainshed_tune::experiment::event::{Ending, Event};

use crate::{completed, end, experiment, report, run_all, started, x};

fn recorded(part: &str) -> Vec<Value> {
    let file: Value = serde_json::from_str(include_str!("../golden/ray.json")).unwrap();
    file[part].as_array().unwrap().clone()
}

fn numbers(value: &Value) -> Vec<u64> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|number| number.as_u64().unwrap())
        .collect()
}

/// Replays one recorded sequence; the number of decisions that were compared.
#[track_caller]
fn check_scheduler(case: &Value) -> usize {
    let trials = case["trials"].as_u64().unwrap();
    let scheduler = json!({"name": case["scheduler"], "options": case["options"]});
    let settings = json!({
        "mode": case["mode"], "metric": "score", "num_samples": trials, "scheduler": scheduler,
    });
    let name = format!("{settings}");
    let mut experiment = experiment(x(), settings);
    for trial in 0..trials {
        assert_eq!(started(&mut experiment).trial, trial, "{name}");
    }
    let reports = case["reports"].as_array().unwrap();
    for (position, entry) in reports.iter().enumerate() {
        let (trial, time) = (entry[0].as_u64().unwrap(), entry[1].as_u64().unwrap());
        let (decision, log) = report(&mut experiment, trial, time, "score", entry[2].clone());
        let expected = match entry[3].as_str().unwrap() {
            "CONTINUE" | "END" => Decision::Continue,
            "PAUSE" => Decision::Pause,
            _ => Decision::Stop,
        };
        assert_eq!(decision, expected, "{name}: report {position}, {entry}");
        let mut stopped: Vec<u64> = Vec::new();
        let mut resumed: Vec<u64> = Vec::new();
        for event in &log {
            match event {
                Event::Closed { trial, .. } => stopped.push(*trial),
                Event::Unpaused { trial } => resumed.push(*trial),
                _ => {}
            }
        }
        stopped.sort_unstable();
        resumed.sort_unstable();
        assert_eq!(
            stopped,
            numbers(&entry[4]),
            "{name}: stopped by report {position}"
        );
        assert_eq!(
            resumed,
            numbers(&entry[5]),
            "{name}: resumed by report {position}"
        );
        if decision == Decision::Stop {
            end(&mut experiment, trial, Ending::Stopped);
        } else if entry[3] == "END" {
            end(&mut experiment, trial, completed());
        }
        for _ in &resumed {
            let next = experiment.next(0).0;
            assert!(matches!(next, Next::Resume { .. }), "{name}: {next:?}");
        }
    }
    assert!(experiment.is_finished(), "{name}");
    reports.len()
}

#[test]
fn asha_and_hyperband_decide_as_rays_classes_do() {
    let cases = recorded("schedulers");
    let compared: usize = cases.iter().map(check_scheduler).sum();
    assert!(cases.len() >= 18 && compared > 3000, "{compared} decisions");
}

#[test]
fn the_variants_are_those_of_rays_generator_in_its_order() {
    for case in recorded("plans") {
        let parameters: Vec<Value> = case["space"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, options)| match options {
                Value::Null => json!({"name": name, "type": "uniform", "min": 0, "max": 1}),
                options => json!({"name": name, "type": "grid_search", "options": options}),
            })
            .collect();
        let settings = json!({
            "num_samples": case["num_samples"],
            "repeat_grid": true,
            "points_to_evaluate": case["points"],
            "search_alg": {
                "name": "basicvariantgenerator",
                "options": {"constant_grid_search": case["constant_grid_search"]},
            },
        });
        let mut experiment = experiment(parameters.into(), settings);
        let configs = run_all(&mut experiment, |_| 0.0);
        let expected = case["configs"].as_array().unwrap();
        assert_eq!(configs.len(), expected.len(), "{case}");
        assert_eq!(experiment.total(), Some(expected.len() as u64));
        for (config, expected) in configs.iter().zip(expected) {
            for (name, value) in expected.as_object().unwrap() {
                let drawn = value.is_null() && !case["space"][name].is_array();
                assert!(
                    drawn || config[name] == *value,
                    "{config:?} instead of {expected}"
                );
            }
        }
        for (name, count) in case["distinct"].as_object().unwrap() {
            let mut values: Vec<String> = configs
                .iter()
                .zip(expected)
                .filter(|(_, expected)| expected[name].is_null())
                .map(|(config, _)| config[name].to_string())
                .collect();
            values.sort();
            values.dedup();
            assert_eq!(
                values.len() as u64,
                count.as_u64().unwrap(),
                "{name} of {case}"
            );
        }
    }
}
