//! Tuning: from JSON to the best of many trials.

use std::time::Instant;

use expect_test::expect;
use reqwest::Method;
use serde_json::{Value, json};
use trainshed_core::task::TaskState;
use trainshed_core::view::{TaskQuery, TaskView};

use crate::faults::kill_child_of;
use crate::shed::{Shed, digits, eventually, root, trainshed};

type Returned = serde_json::Map<String, Value>;

/// A tune action of `plugin` over learning rates.
fn tune(plugin: &str, name: &str, dataset: u64, config: Value) -> Value {
    let mut tune_config = json!({"mode": "max", "metric": "accuracy", "num_samples": 4});
    let given = config.as_object().unwrap().clone();
    tune_config.as_object_mut().unwrap().extend(given);
    json!({"action": "train", "plugin": plugin, "params": {
        "name": name, "dataset": dataset, "is_tune": true,
        "hyperparameters": [
            {"name": "learning_rate", "type": "loguniform", "min": 1e-4, "max": 0.1, "base": 10},
            {"name": "epochs", "type": "constant", "value": 1},
        ],
        "tune_config": tune_config,
    }})
}

impl Shed {
    /// The trials of a tune action, by name.
    pub(crate) async fn trials(&self, parent: &TaskView) -> Vec<TaskView> {
        let query = TaskQuery {
            limit: 500,
            trials: true,
            ..TaskQuery::default()
        };
        let page = self.client.tasks(&query).await.unwrap();
        let mut trials = page.items;
        trials.retain(|task| task.parent.as_ref() == Some(&parent.id));
        trials.sort_by(|one, other| one.name.cmp(&other.name));
        trials
    }
}

#[test]
fn the_example_of_the_plugin_runs_in_one_command() {
    let folder = tempfile::tempdir().unwrap();
    let output = trainshed(folder.path())
        .arg("run")
        .arg(root().join("plugins/digits-mlp/actions/tune.json"))
        .arg("--plugin")
        .arg(crate::shed::plugin("digits-mlp"))
        .arg("--dataset")
        .arg(digits())
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    let accuracy = result["best_trial"]["metrics"]["accuracy"].as_f64();
    assert!(accuracy.unwrap() > 0.9, "{result}");
    assert_eq!(result["trial_models"].as_array().unwrap().len(), 6);
    assert!(result["model_id"].is_u64());
}

#[tokio::test]
async fn trials_run_side_by_side_and_say_who_they_are() {
    let shed = Shed::start().await;
    let plugin = shed.push("digits-mlp").await;
    let dataset = shed.import("digits", &digits());
    let action = tune(&plugin, "side by side", dataset, json!({}));
    let task = shed.client.submit(&action).await.unwrap().task;
    let task = shed.ended(&task).await;
    assert_eq!(
        (task.status, task.status_reason.as_str()),
        (TaskState::Completed, "")
    );
    let trials = shed.trials(&task).await;
    assert_eq!(trials.len(), 4);
    for trial in &trials {
        let id = trial.name.strip_prefix("side by side_").unwrap();
        let curve = shed
            .client
            .curve(trial.id.as_str(), "validation", "loss", 0)
            .await
            .unwrap();
        assert_eq!(curve.iterations, [1], "trial {id}");
        let said: Value = serde_json::from_str(curve.extra[0].as_ref().unwrap().get()).unwrap();
        assert_eq!(said["trial_id"], id, "the host adds it");
        assert_eq!(trial.status, TaskState::Completed);
        assert_eq!(trial.system_tags, ["trial"]);
    }
    let ran = |trial: &TaskView| {
        (
            trial.started.unwrap().as_millis(),
            trial.completed.unwrap().as_millis(),
        )
    };
    let together = trials.iter().zip(trials.iter().skip(1));
    let together = together.filter(|(one, other)| ran(other).0 < ran(one).1);
    assert!(together.count() > 0, "two slots, two trials at a time");
}

#[tokio::test]
async fn a_stop_of_the_search_stops_its_trials() {
    let shed = Shed::start().await;
    let plugin = shed.push("digits-mlp").await;
    let dataset = shed.import("digits", &digits());
    let mut action = tune(&plugin, "endless", dataset, json!({"num_samples": 50}));
    action["params"]["hyperparameters"][1]["value"] = json!(100_000);
    let task = shed.client.submit(&action).await.unwrap().task;
    let trials = eventually("two trials have begun", || async {
        let trials = shed.trials(&task).await;
        (trials.len() == 2).then_some(trials)
    })
    .await;
    for trial in &trials {
        shed.has_begun(trial).await;
    }
    let asked = Instant::now();
    shed.client
        .stop(task.id.as_str(), Some("enough".to_owned()))
        .await
        .unwrap();
    let task = shed.ended(&task).await;
    eprintln!("stopped after {:?}", asked.elapsed());
    assert_eq!(
        (task.status, task.status_reason.as_str()),
        (TaskState::Stopped, "enough")
    );
    for trial in shed.trials(&task).await {
        assert_eq!(trial.status, TaskState::Stopped, "{}", trial.name);
    }
}

#[tokio::test]
async fn a_search_survives_the_death_of_its_server() {
    let shed = Shed::start().await;
    let plugin = shed.push("digits-mlp").await;
    let dataset = shed.import("digits", &digits());
    let action = tune(&plugin, "hardy", dataset, json!({"num_samples": 8}));
    let task = shed.client.submit(&action).await.unwrap().task;
    eventually("a trial has ended", || async {
        let trials = shed.trials(&task).await;
        let mut ended = trials.iter().filter(|trial| trial.status.has_ended());
        ended.next().map(|_| ())
    })
    .await;
    let shed = Shed::start_in(shed.kill(), &["--slots", "2"]).await;
    let task = shed.ended(&task).await;
    assert_eq!(
        (task.status, task.status_reason.as_str()),
        (TaskState::Completed, "")
    );
    let trials = shed.trials(&task).await;
    assert_eq!(trials.len(), 8);
    for trial in trials {
        assert_eq!(trial.status, TaskState::Completed, "{trial:?}");
        assert!(trial.run.machine.is_some(), "{trial:?}");
    }
}

#[tokio::test]
async fn a_plugin_that_exports_tune_runs_it_for_trials_and_for_nothing_else() {
    let shed = Shed::start().await;
    let plugin = shed.push("linear-regression").await;
    let table = root().join("plugins/linear-regression/data/diabetes.csv");
    let dataset = shed.import("diabetes", &table);
    let path = root().join("plugins/linear-regression/actions/tune.json");
    let mut action: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    action["params"]["dataset"] = json!(dataset);
    let task = shed.client.submit(&action).await.unwrap().task;
    let task = shed.ended(&task).await;
    assert_eq!(
        (task.status, task.status_reason.as_str()),
        (TaskState::Completed, "")
    );
    let result = Value::Object(task.result.clone().unwrap());
    let models = result["trial_models"].as_array().unwrap();
    assert_eq!(
        models.len(),
        12,
        "each saved the model that it had named before"
    );
    let trials = shed.client.trials(task.id.as_str(), 0).await.unwrap().items;
    for trial in &trials {
        // A trial judges by every row, so it judges once, and a run by a fifth of them.
        assert_eq!((trial.status.as_str(), trial.iteration), ("TERMINATED", 1));
    }

    let best = &result["best_trial"];
    let settings = json!({"hyperparameter": best["config"]});
    let alone = shed.train("alone", &plugin, dataset, settings).await;
    let alone = shed.ended(&alone).await.result.unwrap();
    assert_ne!(alone["mse"], best["metrics"]["mse"]);
    let mse = |value: &Value| value.as_f64().unwrap();
    assert!(
        (2500.0..3500.0).contains(&mse(&best["metrics"]["mse"])),
        "{best}"
    );
    assert!((2000.0..4000.0).contains(&mse(&alone["mse"])), "{alone:?}");
}

#[tokio::test]
async fn what_a_plugin_returns_is_its_last_word_or_an_error() {
    let shed = Shed::start().await;
    let plugin = shed.push("misbehave").await;
    let dataset = shed.import("digits", &digits());
    let action = json!({"action": "train", "plugin": plugin, "params": {
        "name": "last words", "dataset": dataset, "is_tune": true,
        "hyperparameters": [
            {"name": "do", "type": "constant", "value": "return"},
            {"name": "value", "type": "grid_search", "options": [
                {"accuracy": 0.9}, 0.5, "nice", null, true, {"accuracy": "nan"}, {"accuracy": [1]},
                {"loss": 1}, {"accuracy": null},
            ]},
        ],
        "tune_config": {"mode": "max", "metric": "accuracy"},
    }});
    let task = shed.client.submit(&action).await.unwrap().task;
    let task = shed.ended(&task).await;
    assert_eq!(task.status, TaskState::Completed, "{}", task.status_reason);
    let best = &task.result.unwrap()["best_trial"];
    assert_eq!(best["metrics"], json!({"accuracy": 0.9}));
    let trials = shed.client.trials(task.id.as_str(), 0).await.unwrap().items;
    let mut told = String::new();
    for trial in &trials {
        let (value, metrics) = (&trial.config["value"], json!(trial.metrics));
        let reason = trial.reason.as_deref().unwrap_or("-");
        told += &format!("{value} {} {metrics} {reason}\n", trial.status);
    }
    expect![[r#"
        {"accuracy":0.9} TERMINATED {"accuracy":0.9} -
        0.5 TERMINATED {"accuracy":0.5} -
        "nice" ERROR {"result":"nice"} never reported `accuracy`: call report with it, or return it
        null ERROR {"result":null} never reported `accuracy`: call report with it, or return it
        true ERROR {"result":true} never reported `accuracy`: call report with it, or return it
        {"accuracy":"nan"} TERMINATED {"accuracy":"nan"} -
        {"accuracy":[1]} TERMINATED {"accuracy":[1]} -
        {"loss":1} ERROR {"loss":1} never reported `accuracy`: call report with it, or return it
        {"accuracy":null} TERMINATED {"accuracy":null} -
    "#]]
    .assert_eq(&told);
    let task = trials[0].task.as_ref().unwrap();
    let task = shed.client.task(task.as_str()).await.unwrap();
    assert_eq!(
        shed.console(&task).await,
        [format!(
            "Skipping model registration: no checkpoint path for trial {}",
            trials[0].id
        )]
    );
}

#[tokio::test]
async fn a_search_over_a_task_is_started_from_the_command_line() {
    let shed = Shed::start().await;
    let plugin = shed.push("digits-mlp").await;
    let dataset = shed.import("digits", &digits());
    let base = json!({"action": "train", "plugin": plugin, "params": {
        "name": "base", "dataset": dataset, "hyperparameter": {"epochs": 1, "hidden": [16]},
    }});
    let base = shed.client.submit(&base).await.unwrap().task;
    shed.ended(&base).await;
    let search = json!({
        "name": "in the file",
        "hyperparameters": [
            {"name": "General/learning_rate", "type": "uniform", "min": 0.01, "max": 0.1},
        ],
        "tune_config": {"mode": "max", "metric": "accuracy", "num_samples": 2},
    });
    let file = shed.data_dir().join("search.json");
    std::fs::write(&file, search.to_string()).unwrap();
    let file = file.to_str().unwrap();
    let start = ["tune", "start", file, "--base", base.id.as_str()];
    let started = shed.cli(&[&start[..], &["--name", "over"]].concat());
    assert!(started.status.success(), "{started:?}");
    let id = String::from_utf8(started.stdout).unwrap();
    let task = shed.client.task(id.trim()).await.unwrap();
    let task = shed.ended(&task).await;
    assert_eq!(
        (task.name.as_str(), task.status),
        ("over", TaskState::Completed)
    );
    for trial in shed.trials(&task).await {
        let given = &trial.params["hyperparameter"];
        assert_eq!(
            (&given["epochs"], &given["hidden"]),
            (&json!(1), &json!([16]))
        );
        assert!(given["learning_rate"].as_f64().unwrap() >= 0.01);
    }
    let unknown = shed.cli(&["tune", "start", file, "--base", "0"]);
    assert!(!unknown.status.success(), "{unknown:?}");
}

#[tokio::test]
async fn what_is_wrong_with_a_search_is_said_before_anything_runs() {
    let shed = Shed::start().await;
    let plugin = shed.push("digits-mlp").await;
    let dataset = shed.import("digits", &digits());
    let refused = async |changes: Value| {
        let mut action = tune(&plugin, "a name", dataset, json!({}));
        let params = action["params"].as_object_mut().unwrap();
        params.extend(changes.as_object().unwrap().clone());
        let (status, problem) = shed
            .raw(Method::POST, "/api/v1/actions", action.to_string())
            .await;
        let text = |key: &str| problem[key].as_str().unwrap_or("-").to_owned();
        format!("{status} {}: {}\n", text("pointer"), text("detail"))
    };

    let mut told = String::new();
    for changes in [
        json!({"hyperparameters": null}),
        json!({"tune_config": null}),
        json!({"hyperparameters": null, "hyperparameter": {}}),
        json!({"hyperparameter": {}}),
        json!({"is_tune": false, "hyperparameter": {}}),
        json!({"is_tune": false, "hyperparameter": [1, 2], "hyperparameters": null}),
        json!({"is_tune": false, "hyperparameters": null}),
        json!({"hyperparameters": {}}),
        json!({"hyperparameters": []}),
        json!({"num_cpus": -1}),
        json!({"num_cpus": 3}),
        json!({"num_gpus": 0.5}),
        json!({"num_gpus": "one"}),
    ] {
        told += &refused(changes).await;
    }
    expect![[r#"
        422 /params/hyperparameters: hyperparameters is required when is_tune=True
        422 /params/tune_config: tune_config is required when is_tune=True
        422 /params/hyperparameter: hyperparameter should not be provided when is_tune=True, use hyperparameters instead
        422 /params/hyperparameter: Provide either hyperparameter or hyperparameters, but not both
        422 /params/hyperparameter: Provide either hyperparameter or hyperparameters, but not both
        422 /params/hyperparameter: hyperparameter must be a dict, not a list. If you want to use hyperparameter tuning, set "is_tune": true and use "hyperparameters" instead.
        422 /params/hyperparameter: hyperparameter is required when is_tune=False
        422 /params/hyperparameters: hyperparameters must be a list, not a dict. Give one search space per parameter, e.g. [{"name":"lr","type":"uniform","min":0,"max":1}].
        422 /params/hyperparameters: hyperparameters must name at least one search space
        422 /params/num_cpus: num_cpus must be a number, 0 or more, but it is -1
        422 /params/num_cpus: num_cpus is 3, but the agents here have at most 2 each
        422 /params/num_gpus: num_gpus is 0.5, but the agents here have at most 0 each
        422 /params/num_gpus: num_gpus must be a number, 0 or more, but it is "one"
    "#]].assert_eq(&told);

    let mut told = String::new();
    for space in [
        json!({"type": "uniform", "min": 0, "max": 1}),
        json!({"name": "lr", "min": 0, "max": 1}),
        json!({"name": "lr", "type": "cauchy"}),
        json!({"name": "lr", "type": "uniform", "lower": 0, "upper": 1}),
        json!({"name": "lr", "type": "uniform", "min": 1, "max": 1}),
        json!({"name": "lr", "type": "quniform", "min": 0.05, "max": 1, "q": 0.1}),
        json!({"name": "lr", "type": "quniform", "min": 0, "max": 0.25, "q": 0.1}),
        json!({"name": "lr", "type": "loguniform", "min": 0, "max": 1, "base": 10}),
        json!({"name": "lr", "type": "loguniform", "min": 0.1, "max": 1}),
        json!({"name": "noise", "type": "randn", "mean": 0, "sd": 0}),
        json!({"name": "n", "type": "randint", "min": 5, "max": 5}),
        json!({"name": "n", "type": "qrandint", "min": 1, "max": 2, "q": 3}),
        json!({"name": "n", "type": "lograndint", "min": 0, "max": 8, "base": 2}),
        json!({"name": "n", "type": "qlograndint", "min": 17, "max": 30, "base": 2, "q": 16}),
        json!({"name": "o", "type": "choice", "values": ["adam"]}),
        json!({"name": "o", "type": "choice", "options": []}),
        json!({"name": "o", "type": "grid_search", "options": "adam"}),
    ] {
        told += &refused(json!({"hyperparameters": [space]})).await;
    }
    expect![[r#"
        422 /params/hyperparameters/0/name: every hyperparameter must have a `name`, a text
        422 /params/hyperparameters/0/type: hyperparameter `lr` must have a `type`, a text
        422 /params/hyperparameters/0/type: Unknown parameter type: cauchy
        422 /params/hyperparameters/0/lower: hyperparameter `lr` of type uniform has the key `lower`: use `min`
        422 /params/hyperparameters/0/max: hyperparameter `lr` of type uniform: `min` must be less than `max`, but 1 is not less than 1
        422 /params/hyperparameters/0/min: hyperparameter `lr` of type quniform: Your lower variable bound 0.05 is not divisible by quantization factor 0.1.
        422 /params/hyperparameters/0/max: hyperparameter `lr` of type quniform: Your upper variable bound 0.25 is not divisible by quantization factor 0.1.
        422 /params/hyperparameters/0/min: hyperparameter `lr` of type loguniform: LogUniform requires a lower bound greater than 0, but it is 0
        422 /params/hyperparameters/0/base: hyperparameter `lr` of type loguniform must have the key `base`
        422 /params/hyperparameters/0/sd: hyperparameter `noise` of type randn: SD has to be strictly greater than 0, but it is 0
        422 /params/hyperparameters/0/max: hyperparameter `n` of type randint: `min` must be less than `max`, but 5 is not less than 5
        422 /params/hyperparameters/0/q: hyperparameter `n` of type qrandint: there is no value: no multiple of 3 lies in the range from 1 to 2
        422 /params/hyperparameters/0/min: hyperparameter `n` of type lograndint: LogUniform requires a lower bound greater than 0, but it is 0
        422 /params/hyperparameters/0/q: hyperparameter `n` of type qlograndint: there is no value: no multiple of 16 lies in the range from 17 to 30
        422 /params/hyperparameters/0/values: hyperparameter `o` of type choice has the key `values`: use `options`
        422 /params/hyperparameters/0/options: `options` of hyperparameter `o` must be a list with at least one value, but it is a list of 0
        422 /params/hyperparameters/0/options: `options` of hyperparameter `o` must be a list with at least one value, but it is "adam"
    "#]].assert_eq(&told);

    let mut told = String::new();
    for changes in [
        json!({"mode": "avg"}),
        json!({"mode": null}),
        json!({"metric": ""}),
        json!({"num_samples": 0}),
        json!({"num_samples": 1.5}),
        json!({"max_concurrent_trials": -1}),
        json!({"search_alg": {"name": "magic"}}),
        json!({"search_alg": {"name": "tpe", "options": {"n_startup": 3}}}),
        json!({"search_alg": {"name": "tpe", "points_to_evaluate": [{"rate": 1}]}}),
        json!({"scheduler": {"name": "magic"}}),
        json!({"scheduler": {"name": "hyperband", "options": {"max_time": 100}}}),
        json!({"scheduler": {"name": "hyperband", "options": {"max_t": 0}}}),
        json!({"scheduler": {"name": "asha", "options": {"grace_period": 200}}}),
        json!({"scheduler": "pbt", "search_alg": "tpe"}),
        json!({"max_failures": 1, "fail_fast": true}),
        json!({"nums_samples": 3}),
    ] {
        let mut config = json!({"mode": "max", "metric": "accuracy", "num_samples": 4});
        let changes = changes.as_object().unwrap().clone();
        config.as_object_mut().unwrap().extend(changes);
        told += &refused(json!({"tune_config": config})).await;
    }
    expect![[r#"
        422 /params/tune_config/mode: mode must be max or min, but it is `avg`
        422 /params/tune_config/mode: tune_config.mode is required: max or min
        422 /params/tune_config/metric: metric must not be empty
        422 /params/tune_config/num_samples: num_samples must be an integer, 1 or more, or -1 without a limit, but it is 0
        422 /params/tune_config/num_samples: num_samples must be an integer, 1 or more, or -1 without a limit, but it is 1.5
        422 /params/tune_config/max_concurrent_trials: max_concurrent_trials must be an integer, 0 or null for no limit, or more, but it is -1
        422 /params/tune_config/search_alg/name: Unsupported search algorithm: magic. Supported algorithms are: bayesoptsearch, hyperoptsearch, basicvariantgenerator, optunasearch, axsearch, random, grid, sobol, tpe, gp, cmaes, bohb, tunebohb, hyperopt, optuna, auto
        422 /params/tune_config/search_alg/options/n_startup: search_alg tpe has no option `n_startup`
        422 /params/tune_config/search_alg/points_to_evaluate/0/rate: points_to_evaluate names `rate`, which is no hyperparameter
        422 /params/tune_config/scheduler/name: Unsupported scheduler: 'magic'. Supported: fifo, asha, hyperband, bohb, median, pbt, pb2, patience, plateau
        422 /params/tune_config/scheduler/options/max_time: scheduler hyperband has no option `max_time`
        422 /params/tune_config/scheduler/options/max_t: `max_t` of scheduler hyperband must be a number from 1 to 1000000000, but it is 0
        422 /params/tune_config/scheduler/options/grace_period: `grace_period` of scheduler asha must be a number from 0.000000001 to 1, but it is 200
        422 /params/tune_config/search_alg: Search algorithms cannot be used with pbt schedulers. Please remove tpe.
        422 /params/tune_config/fail_fast: fail_fast and max_failures exclude each other
        422 /params/tune_config/nums_samples: tune_config has no field `nums_samples`
    "#]].assert_eq(&told);

    let tasks = shed.raw(Method::GET, "/api/v1/tasks", "").await;
    assert_eq!(tasks.1["items"], json!([]));
    // No limit is written in three ways.
    for (name, none) in [("null", json!(null)), ("zero", json!(0))] {
        let mut action = tune(
            &plugin,
            name,
            dataset,
            json!({"max_concurrent_trials": none}),
        );
        action["params"]["tune_config"]["num_samples"] = json!(1);
        let task = shed.client.submit(&action).await.unwrap().task;
        assert_eq!(shed.ended(&task).await.status, TaskState::Completed);
    }
}

impl Shed {
    /// Of each trial its configuration, its last report, where its curve has points, and what
    /// it returned.
    async fn told(&self, task: &TaskView) -> Vec<(String, u64, Vec<u64>, Returned)> {
        let trials = self.client.trials(task.id.as_str(), 0).await.unwrap().items;
        let mut told = Vec::new();
        for trial in trials {
            let id = trial.task.as_ref().unwrap().as_str();
            let curve = self
                .client
                .curve(id, "validation", "loss", 0)
                .await
                .unwrap();
            assert_eq!(trial.status, "TERMINATED", "{trial:?}");
            let mut returned = self.client.task(id).await.unwrap().result.unwrap();
            returned.remove("model_id").unwrap();
            told.push((
                json!(trial.config).to_string(),
                trial.iteration,
                curve.iterations,
                returned,
            ));
        }
        told
    }
}

#[tokio::test]
async fn the_death_of_an_agent_or_a_server_changes_nothing_of_what_is_tried() {
    let shed = Shed::start().await;
    let plugin = shed.push("digits-mlp").await;
    let dataset = shed.import("digits", &digits());
    let config = json!({"num_samples": 6, "max_concurrent_trials": 2});
    let action = |name: &str| {
        let mut action = tune(&plugin, name, dataset, config.clone());
        action["params"]["hyperparameters"][1]["value"] = json!(12);
        action["params"]["seed"] = json!(7);
        action
    };
    let task = shed
        .client
        .submit(&action("undisturbed"))
        .await
        .unwrap()
        .task;
    assert_eq!(shed.ended(&task).await.status, TaskState::Completed);
    let expected = shed.told(&task).await;
    assert_eq!(expected.len(), 6);

    let task = shed.client.submit(&action("disturbed")).await.unwrap().task;
    let reported = async |shed: &Shed, reports: u64| {
        eventually("trials have reported", || async {
            let trials = shed.client.trials(task.id.as_str(), 0).await.unwrap().items;
            let count: u64 = trials.iter().map(|trial| trial.iteration).sum();
            (count >= reports).then_some(())
        })
        .await;
    };
    reported(&shed, 5).await;
    kill_child_of(shed.server_process());
    reported(&shed, 30).await;
    let shed = Shed::start_in(shed.kill(), &["--slots", "2"]).await;
    let task = shed.ended(&task).await;
    assert_eq!(
        (task.status, task.status_reason.as_str()),
        (TaskState::Completed, "")
    );
    assert_eq!(shed.told(&task).await, expected);
}
