//! What users see: the trial table, the result, importances, parallel coordinates.

use expect_test::{Expect, expect};
use serde_json::{Value, json};
use trainshed_tune::Experiment;
use trainshed_tune::experiment::Report;
use trainshed_tune::importance::{importances, parallel_coordinates};
use trainshed_tune::payload::{self, TrialTable, normalised};

use crate::{completed, dict, end, experiment, failed, run_all, started, x};

/// Reports several metrics at once.
fn tell(experiment: &mut Experiment, trial: u64, iteration: u64, metrics: Value) {
    let report = Report {
        trial,
        attempt: 1,
        iteration,
        metrics: dict(metrics),
        elapsed_ms: 10,
    };
    experiment.report(report, 10).unwrap();
}

fn nested() -> Value {
    json!([
        {"name": "opt", "type": "choice", "options": [{"kind": "sgd", "m": {"beta": 1}}]},
        {"name": "layers", "type": "choice", "options": [[1, 2]]},
        {"name": "flag", "type": "choice", "options": [true]},
        {"name": "depth", "type": "qrandint", "min": 4, "max": 4, "q": 4}
    ])
}

#[test]
fn the_table_has_the_objective_first_and_at_most_four_metrics() {
    let mut experiment = experiment(nested(), json!({"num_samples": 3}));
    assert_eq!(TrialTable::of(&experiment).payload()["metrics"], json!([]));
    started(&mut experiment);
    started(&mut experiment);
    tell(
        &mut experiment,
        0,
        1,
        json!({
            "accuracy": 1, "f1": 0.5, "training_iteration": 1, "date": "today", "note": "text",
            "loss": 0.25, "metrics": {"top": {"five": 2}}, "other": {"x": 1}, "zeta": 3
        }),
    );
    tell(&mut experiment, 1, 1, json!({"loss": "nan", "zeta": 4}));
    end(&mut experiment, 0, completed());
    end(&mut experiment, 1, failed());
    let table = TrialTable::of(&experiment);
    let text = serde_json::to_string_pretty(&table.payload()).unwrap();
    expect![[r#"
        {
          "base": [
            "trial_id",
            "status"
          ],
          "best_trial": "",
          "hyperparameters": [
            "layers",
            "flag",
            "depth",
            "opt/kind",
            "opt/m/beta"
          ],
          "metrics": [
            "loss",
            "accuracy",
            "f1",
            "metrics/top/five"
          ],
          "trials": {
            "01527_00000": {
              "base": [
                "01527_00000",
                "TERMINATED"
              ],
              "hyperparameters": [
                "[1,2]",
                true,
                4.0,
                "sgd",
                1.0
              ],
              "metrics": [
                0.25,
                1.0,
                0.5,
                2.0
              ]
            },
            "01527_00001": {
              "base": [
                "01527_00001",
                "ERROR"
              ],
              "hyperparameters": [
                "[1,2]",
                true,
                4.0,
                "sgd",
                1.0
              ],
              "metrics": [
                null,
                null,
                null,
                null
              ]
            }
          }
        }"#]]
    .assert_eq(&text);

    started(&mut experiment);
    let later = TrialTable::of(&experiment);
    let changed = later.delta(&table).unwrap();
    assert_eq!(changed["trials"].as_object().unwrap().len(), 1, "{changed}");
    assert_eq!(later.delta(&later), None);
    tell(&mut experiment, 2, 1, json!({"loss": 0.1}));
    end(&mut experiment, 2, completed());
    let last = TrialTable::of(&experiment);
    assert_eq!(last.best_trial, experiment.trial(2).unwrap().id);
}

#[track_caller]
fn check_return(returned: Value, reported: Value, expected: &Expect) {
    let metrics = normalised(&returned, "accuracy", &dict(reported));
    expected.assert_eq(&Value::Object(metrics).to_string());
}

#[test]
fn what_a_trial_returns_becomes_metrics() {
    let reported = json!({"accuracy": 0.5, "loss": 1});
    check_return(
        json!({"accuracy": 0.9}),
        reported.clone(),
        &expect![[r#"{"accuracy":0.9,"loss":1}"#]],
    );
    check_return(
        json!(0.9),
        reported.clone(),
        &expect![[r#"{"accuracy":0.9,"loss":1}"#]],
    );
    check_return(json!(0.9), json!({}), &expect![[r#"{"accuracy":0.9}"#]]);
    check_return(
        json!("x"),
        reported.clone(),
        &expect![[r#"{"accuracy":0.5,"loss":1,"result":"x"}"#]],
    );
    check_return(json!(true), json!({}), &expect![[r#"{"result":true}"#]]);
    check_return(
        Value::Null,
        reported,
        &expect![[r#"{"accuracy":0.5,"loss":1}"#]],
    );
    let unnamed = normalised(&json!(3), "", &dict(json!({})));
    assert_eq!(Value::Object(unnamed), json!({"result": 3}));
}

#[test]
fn the_result_names_the_best_trial_and_all_models() {
    let mut experiment = experiment(x(), json!({"num_samples": 3, "mode": "max"}));
    for (trial, value) in [(0, 0.5), (1, 0.75)] {
        started(&mut experiment);
        tell(&mut experiment, trial, 1, json!({"loss": value}));
        end(&mut experiment, trial, completed());
    }
    started(&mut experiment);
    tell(&mut experiment, 2, 1, json!({"loss": 0.7}));
    end(&mut experiment, 2, failed());
    let model = |trial: &trainshed_tune::experiment::Trial| Some(40 + trial.number);
    let logdir = |trial: &trainshed_tune::experiment::Trial| format!("trials/{}", trial.id);
    let result = payload::result(&experiment, model, logdir).unwrap();
    let config = experiment.trial(1).unwrap().config().into_owned();
    assert_eq!(result["model_id"], 41);
    assert_eq!(result["best_result"], Value::Object(config.clone()));
    assert_eq!(result["best_trial"]["config"], Value::Object(config));
    assert_eq!(result["best_trial"]["metrics"], json!({"loss": 0.75}));
    let id = experiment.trial(1).unwrap().id.clone();
    assert_eq!(result["best_trial"]["trial_logdir"], format!("trials/{id}"));
    let models: Vec<&Value> = result["trial_models"].as_array().unwrap().iter().collect();
    assert_eq!(models.len(), 2, "failed trials have none");
    assert_eq!(
        (&models[0]["model_id"], &models[1]["model_id"]),
        (&json!(40), &json!(41))
    );
}

#[test]
fn without_a_value_there_is_no_result() {
    let mut experiment = experiment(x(), json!({"num_samples": 1}));
    started(&mut experiment);
    end(&mut experiment, 0, failed());
    let error = payload::result(&experiment, |_| None, |_| String::new()).unwrap_err();
    expect!["No best trial found for the given metric: loss. None of 1 trials reported a finite value of it"].assert_eq(&error.to_string());
}

fn three() -> Value {
    json!([
        {"name": "noise", "type": "uniform", "min": 0, "max": 1},
        {"name": "lr", "type": "loguniform", "min": 1e-4, "max": 1, "base": 10},
        {"name": "kind", "type": "choice", "options": ["a", "b"]}
    ])
}

#[test]
fn importances_are_the_shares_of_the_variance() {
    let mut experiment = experiment(three(), json!({"num_samples": 200}));
    run_all(&mut experiment, |config| {
        let exponent = config["lr"].as_f64().unwrap().log10();
        3.0 * exponent + if config["kind"] == "a" { 2.0 } else { 0.0 }
    });
    let found = importances(&experiment);
    let names: Vec<&str> = found.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["lr", "kind", "noise"]);
    // The variances are 9 * 16/12 = 12 and 1.
    assert!((found[0].share - 12.0 / 13.0).abs() < 0.08, "{found:?}");
    assert!((found[1].share - 1.0 / 13.0).abs() < 0.04, "{found:?}");
    assert!(found[2].share < 0.02, "{found:?}");
    assert_eq!(importances(&experiment), found);
}

#[test]
fn too_few_or_equal_trials_have_no_importances() {
    for (samples, value) in [(3, 1.0), (20, 0.0)] {
        let mut experiment = experiment(three(), json!({"num_samples": samples}));
        run_all(&mut experiment, |config| {
            value * config["noise"].as_f64().unwrap()
        });
        assert_eq!(importances(&experiment), []);
    }
}

#[test]
fn parallel_coordinates_lie_between_zero_and_one() {
    let mut experiment = experiment(
        three(),
        json!({
            "num_samples": 2,
            "points_to_evaluate": [{"noise": 0.25, "lr": 0.01, "kind": "b"}, {"noise": 0, "lr": 1, "kind": "a"}],
        }),
    );
    run_all(&mut experiment, |config| config["noise"].as_f64().unwrap());
    let chart = parallel_coordinates(&experiment);
    assert_eq!(chart.objective, "loss");
    let scales: Vec<&str> = chart.axes.iter().map(|axis| axis.scale).collect();
    assert_eq!(scales, ["linear", "log", "options"]);
    let positions: Vec<Vec<f64>> = chart
        .lines
        .iter()
        .map(|line| line.positions.iter().map(|at| at.unwrap()).collect())
        .collect();
    let near = |left: &[f64], right: [f64; 3]| {
        left.iter()
            .zip(right)
            .all(|(left, right)| (left - right).abs() < 1e-9)
    };
    assert!(near(&positions[0], [0.25, 0.5, 1.0]), "{positions:?}");
    assert!(near(&positions[1], [0.0, 1.0, 0.0]), "{positions:?}");
    assert_eq!(
        chart.lines[0].values,
        [json!(0.25), json!(0.01), json!("b")]
    );
}
