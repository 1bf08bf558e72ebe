//! Tuning: from JSON to the best of many trials.

use std::time::Instant;

use serde_json::{Value, json};
use trainshed_core::task::TaskState;
use trainshed_core::view::{TaskQuery, TaskView};

use crate::shed::{Shed, digits, eventually, root, trainshed};

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
    async fn trials(&self, parent: &TaskView) -> Vec<TaskView> {
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
            .await;
        assert_eq!(curve.unwrap().iterations, [1], "trial {id}");
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
