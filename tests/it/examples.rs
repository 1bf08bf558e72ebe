//! The documented examples of the train action, as they stand: only the ids of data sets and
//! checkpoints are those of the test.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Map, Value, json};
use trainshed_core::task::TaskState;
use trainshed_core::view::{TaskQuery, TaskView};

use crate::accelerators::shed_with_accelerator;
use crate::shed::{Shed, digits};

/// A server with the plugin that reads digits, and its data.
async fn with_digits() -> (Shed, u64) {
    ready(Shed::start().await).await
}

async fn ready(shed: Shed) -> (Shed, u64) {
    shed.push("digits-mlp").await;
    let dataset = shed.import("digits", &digits());
    (shed, dataset)
}

/// The example, with the data set of the test.
fn on(dataset: u64, example: &str) -> Value {
    let mut action: Value = serde_json::from_str(example).unwrap();
    action["params"]["dataset"] = json!(dataset);
    action
}

/// A tune action that the documentation gives in parts.
fn parts(dataset: u64, name: &str, hyperparameters: &str, tune_config: &str) -> Value {
    let spaces: Value = serde_json::from_str(hyperparameters).unwrap();
    let tune_config: Value = serde_json::from_str(tune_config).unwrap();
    json!({"action": "train", "params": {
        "name": name, "dataset": dataset, "is_tune": true,
        "hyperparameters": spaces, "tune_config": tune_config,
    }})
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

impl Shed {
    /// Submits the action and waits until it has completed.
    async fn completed(&self, action: &Value) -> TaskView {
        let task = self.client.submit(action).await.unwrap().task;
        let task = self.ended(&task).await;
        assert_eq!(
            (task.status, task.status_reason.as_str()),
            (TaskState::Completed, ""),
            "{}",
            task.status_message
        );
        task
    }

    /// The configurations that were tried, in order.
    async fn configs(&self, task: &TaskView) -> Vec<Map<String, Value>> {
        let page = self.client.trials(task.id.as_str(), 0).await.unwrap();
        for trial in &page.items {
            assert_eq!(trial.status, "TERMINATED", "{trial:?}");
        }
        page.items.into_iter().map(|trial| trial.config).collect()
    }

    async fn read_tune(&self, task: &TaskView, path: &str) -> Value {
        let path = format!("/api/v1/tasks/{}/{path}", task.id);
        let (status, answer) = self.raw(Method::GET, &path, "").await;
        assert_eq!(status, 200, "{answer}");
        answer
    }
}

/// The default mode.
const TRAINING: &str = r#"{
  "action": "train",
  "params": {
    "name": "my_model",
    "dataset": 123,
    "checkpoint": null,
    "is_tune": false,
    "hyperparameter": {
      "epochs": 100,
      "batch_size": 32,
      "learning_rate": 0.001,
      "optimizer": "adam"
    }
  }
}"#;

const SIMPLE_TRAINING: &str = r#"{
  "action": "train",
  "params": {
    "name": "resnet50_training",
    "dataset": 456,
    "checkpoint": null,
    "hyperparameter": {
      "epochs": 100,
      "batch_size": 32,
      "learning_rate": 0.001,
      "optimizer": "adam",
      "weight_decay": 0.0001
    }
  }
}"#;

const RESUME: &str = r#"{
  "action": "train",
  "params": {
    "name": "resnet50_continued",
    "dataset": 456,
    "checkpoint": 789,
    "hyperparameter": {
      "epochs": 50,
      "batch_size": 32,
      "learning_rate": 0.0001,
      "optimizer": "adam"
    }
  }
}"#;

#[tokio::test]
async fn training_and_going_on_from_what_was_trained() {
    let (shed, dataset) = with_digits().await;
    let plain = shed.completed(&on(dataset, TRAINING)).await;
    let result = Value::Object(plain.result.clone().unwrap());
    assert!(result["model_id"].is_u64(), "{result}");
    assert_eq!(plain.progress, 100.0);
    let curve = shed
        .client
        .curve(plain.id.as_str(), "validation", "loss", 0);
    assert_eq!(curve.await.unwrap().iterations.len(), 100);

    let simple = shed.completed(&on(dataset, SIMPLE_TRAINING)).await;
    let model = simple.result.unwrap()["model_id"].as_u64().unwrap();
    let saved = shed.client.model(model).await.unwrap();
    let mut action = on(dataset, RESUME);
    action["params"]["checkpoint"] = json!(model);
    let continued = shed.completed(&action).await;
    assert_eq!(continued.checkpoint, Some(model));
    let curve = shed
        .client
        .curve(continued.id.as_str(), "validation", "loss", 0);
    let expected: Vec<u64> = (saved.iteration + 1..=saved.iteration + 50).collect();
    assert_eq!(curve.await.unwrap().iterations, expected);
    assert_ne!(continued.result.unwrap()["model_id"], model);

    let named = json!({"action": "train", "params": {
        "name": "experiment:v1,batch:32",
        "dataset": dataset,
        "is_tune": false,
        "hyperparameter": {"epochs": 1},
    }});
    let named = shed.completed(&named).await;
    assert_eq!(named.name, "experiment:v1,batch:32");
    assert_eq!(named.encoded_name, "experiment%3Av1%2Cbatch%3A32");
}

const TUNING: &str = r#"{
  "action": "train",
  "params": {
    "name": "my_tuning_job",
    "dataset": 123,
    "checkpoint": null,
    "is_tune": true,
    "hyperparameters": [
      {
        "name": "batch_size",
        "type": "choice",
        "options": [16, 32, 64]
      },
      {
        "name": "learning_rate",
        "type": "loguniform",
        "min": 0.0001,
        "max": 0.01,
        "base": 10
      },
      {
        "name": "optimizer",
        "type": "choice",
        "options": ["adam", "sgd"]
      }
    ],
    "tune_config": {
      "mode": "max",
      "metric": "accuracy",
      "num_samples": 10,
      "max_concurrent_trials": 2
    }
  }
}"#;

#[tokio::test]
async fn tuning_gives_a_best_trial_a_model_of_each_and_a_table() {
    let (shed, dataset) = with_digits().await;
    let task = shed.completed(&on(dataset, TUNING)).await;
    assert_eq!(task.progress, 100.0);
    let result = Value::Object(task.result.clone().unwrap());
    assert_eq!(
        keys(&result),
        BTreeSet::from(["best_result", "best_trial", "model_id", "trial_models"])
    );
    let best = &result["best_trial"];
    assert_eq!(
        keys(best),
        BTreeSet::from(["config", "metrics", "trial_id", "trial_logdir"])
    );
    assert_eq!(best["config"], result["best_result"]);
    assert!(
        best["metrics"]["accuracy"].as_f64().unwrap() > 0.9,
        "{best}"
    );

    let models = result["trial_models"].as_array().unwrap();
    assert_eq!(models.len(), 10);
    let mut names = BTreeSet::new();
    for model in models {
        assert_eq!(
            keys(model),
            BTreeSet::from(["config", "metrics", "model_id", "trial_id", "trial_logdir"])
        );
        let saved = shed.client.model(model["model_id"].as_u64().unwrap());
        let saved = saved.await.unwrap();
        let trial = model["trial_id"].as_str().unwrap();
        assert_eq!(saved.name, format!("my_tuning_job_{trial}"));
        names.insert(saved.name);
        let is_best = model["trial_id"] == best["trial_id"];
        assert_eq!(model["model_id"] == result["model_id"], is_best);
    }
    assert_eq!(names.len(), 10, "every model has a name of its own");

    let table = shed.read_tune(&task, "trials/table").await;
    assert_eq!(
        keys(&table),
        BTreeSet::from(["base", "best_trial", "hyperparameters", "metrics", "trials"])
    );
    assert_eq!(table["base"], json!(["trial_id", "status"]));
    assert_eq!(
        table["hyperparameters"],
        json!(["batch_size", "learning_rate", "optimizer"])
    );
    assert_eq!(table["metrics"].as_array().unwrap().len(), 4);
    assert_eq!(table["metrics"][0], "accuracy");
    assert_eq!(table["best_trial"], best["trial_id"]);
    for (id, row) in table["trials"].as_object().unwrap() {
        assert_eq!(row["base"], json!([id, "TERMINATED"]));
        assert!(row["metrics"][0].is_f64(), "{row}");
    }

    // Everything that a trial reports says which trial it was.
    let trials = shed.client.trials(task.id.as_str(), 0).await.unwrap().items;
    let one = &trials[0];
    let trial_task = one.task.as_ref().unwrap();
    let samples = shed.client.samples(trial_task.as_str()).await.unwrap();
    for sample in &samples.samples {
        let extra = sample.extra.as_ref().unwrap();
        assert_eq!(extra["trial_id"], json!(one.id));
    }
    assert!(!samples.samples.is_empty());

    // Somebody prefers another trial.
    let other = trials.iter().find(|trial| !trial.best).unwrap();
    let path = format!("/api/v1/tasks/{}/best-trial", task.id);
    let mut choice = other.config.clone();
    choice.insert("trial_id".to_owned(), json!(other.id));
    let (status, answer) = shed
        .raw(Method::PUT, &path, json!(choice).to_string())
        .await;
    assert_eq!((status, &answer["best"]["id"]), (200, &json!(other.id)));
    let mut expected = table.clone();
    expected["best_trial"] = json!(other.id);
    assert_eq!(shed.read_tune(&task, "trials/table").await, expected);
    let task = shed.client.task(task.id.as_str()).await.unwrap();
    assert_eq!(task.result.unwrap()["model_id"], json!(other.model));
    let (status, _) = shed
        .raw(Method::PUT, &path, r#"{"trial_id": "nobody"}"#)
        .await;
    assert_eq!(status, 422);
    let by_metric = shed.cli(&["tune", "best", task.id.as_str(), "--by-metric"]);
    let by_metric: Value = serde_json::from_slice(&by_metric.stdout).unwrap();
    assert_eq!(by_metric["id"], best["trial_id"]);
}

const GRID: &str = r#"{
  "action": "train",
  "params": {
    "name": "resnet50_tuning",
    "dataset": 456,
    "is_tune": true,
    "hyperparameters": [
      {
        "name": "batch_size",
        "type": "grid_search",
        "options": [16, 32, 64]
      },
      {
        "name": "learning_rate",
        "type": "grid_search",
        "options": [0.001, 0.0001]
      },
      {
        "name": "optimizer",
        "type": "grid_search",
        "options": ["adam", "sgd"]
      }
    ],
    "tune_config": {
      "mode": "max",
      "metric": "validation_accuracy",
      "num_samples": 12,
      "max_concurrent_trials": 4
    }
  }
}"#;

#[tokio::test]
async fn a_grid_is_walked_once() {
    let (shed, dataset) = with_digits().await;
    let task = shed.completed(&on(dataset, GRID)).await;
    let configs = shed.configs(&task).await;
    let different: BTreeSet<String> = configs
        .iter()
        .map(|config| json!(config).to_string())
        .collect();
    assert_eq!((configs.len(), different.len()), (12, 12));
    let best = &task.result.unwrap()["best_trial"]["metrics"]["validation_accuracy"];
    assert!(best.as_f64().unwrap() > 0.9, "{best}");
}

const HYPEROPT_AND_HYPERBAND: &str = r#"{
  "action": "train",
  "params": {
    "name": "resnet50_hyperopt_tuning",
    "dataset": 456,
    "is_tune": true,
    "num_cpus": 2,
    "num_gpus": 0.5,
    "hyperparameters": [
      {
        "name": "batch_size",
        "type": "choice",
        "options": [16, 32, 64, 128]
      },
      {
        "name": "learning_rate",
        "type": "loguniform",
        "min": 0.00001,
        "max": 0.01,
        "base": 10
      },
      {
        "name": "weight_decay",
        "type": "loguniform",
        "min": 0.00001,
        "max": 0.001,
        "base": 10
      },
      {
        "name": "optimizer",
        "type": "choice",
        "options": ["adam", "sgd", "rmsprop"]
      }
    ],
    "tune_config": {
      "mode": "max",
      "metric": "validation_accuracy",
      "num_samples": 50,
      "max_concurrent_trials": 8,
      "search_alg": {
        "name": "hyperoptsearch"
      },
      "scheduler": {
        "name": "hyperband",
        "options": {
          "max_t": 100
        }
      }
    }
  }
}"#;

#[tokio::test]
async fn a_share_of_a_gpu_is_refused_where_there_is_none() {
    let (shed, dataset) = with_digits().await;
    let action = on(dataset, HYPEROPT_AND_HYPERBAND);
    let (status, problem) = shed
        .raw(Method::POST, "/api/v1/actions", action.to_string())
        .await;
    assert_eq!(
        (status, &problem["pointer"]),
        (422, &json!("/params/num_gpus"))
    );
    assert_eq!(
        problem["detail"],
        "num_gpus is 0.5, but the agents here have at most 0 each"
    );
    assert!(
        shed.client
            .tasks(&TaskQuery::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );
}

#[tokio::test]
async fn hyperopt_and_hyperband_share_an_accelerator() {
    let (shed, dataset) = ready(shed_with_accelerator().await).await;
    let task = shed.completed(&on(dataset, HYPEROPT_AND_HYPERBAND)).await;
    let tuning = shed.client.tuning(task.id.as_str()).await.unwrap();
    assert_eq!(
        (tuning.searcher.as_str(), tuning.scheduler.as_str()),
        ("hyperoptsearch", "hyperband")
    );
    assert_eq!(shed.configs(&task).await.len(), 50);
    let trials = shed.client.trials(task.id.as_str(), 0).await.unwrap().items;
    let stopped = |reason: &Option<String>| reason.as_deref() == Some("stopped by the scheduler");
    let early = trials.iter().filter(|trial| stopped(&trial.reason)).count();
    assert!(early > 20, "most trials end early, but {early} did");
}

/// The former action and what becomes of it; the documentation leaves its lists out.
#[tokio::test]
async fn the_former_action_is_the_new_one_with_a_warning() {
    let (shed, dataset) = with_digits().await;
    let spaces = json!([
        {"name": "learning_rate", "type": "loguniform", "min": 0.0001, "max": 0.01, "base": 10},
        {"name": "epochs", "type": "randint", "min": 1, "max": 3},
    ]);
    let tune_config = json!({"mode": "max", "metric": "accuracy", "num_samples": 3});
    let before = json!({"action": "tune", "params": {
        "name": "my_tuning_job", "dataset": dataset,
        "hyperparameter": spaces, "tune_config": tune_config,
    }});
    let after = json!({"action": "train", "params": {
        "name": "my_tuning_job", "dataset": dataset, "is_tune": true,
        "hyperparameters": spaces, "tune_config": tune_config,
    }});
    let submitted = shed.client.submit(&before).await.unwrap();
    assert_eq!(
        submitted.warnings,
        [
            r#"the action "tune" is deprecated: use "train" with "is_tune": true and "hyperparameters""#
        ]
    );
    let former = shed.ended(&submitted.task).await;
    assert_eq!(former.status, TaskState::Completed);
    let submitted = shed.client.submit(&after).await.unwrap();
    assert_eq!(submitted.warnings, [""; 0]);
    let new = shed.ended(&submitted.task).await;
    assert_eq!(shed.configs(&former).await, shed.configs(&new).await);
    let best = |task: &TaskView| task.result.as_ref().unwrap()["best_trial"]["metrics"].clone();
    assert_eq!(best(&former), best(&new), "the same to the bit");
    assert_eq!(former.action, new.action);
}

#[tokio::test]
async fn spaces_of_every_kind_and_settings_that_are_given_in_parts() {
    let (shed, dataset) = with_digits().await;
    let continuous = r#"[
      {
        "name": "learning_rate",
        "type": "uniform",
        "min": 0.0001,
        "max": 0.01
      },
      {
        "name": "dropout_rate",
        "type": "loguniform",
        "min": 0.0001,
        "max": 0.1,
        "base": 10
      }
    ]"#;
    let discrete = r#"[
      {
        "name": "batch_size",
        "type": "choice",
        "options": [16, 32, 64, 128]
      },
      {
        "name": "optimizer",
        "type": "choice",
        "options": ["adam", "sgd", "rmsprop"]
      }
    ]"#;
    let quantized = r#"[
      {
        "name": "learning_rate",
        "type": "quniform",
        "min": 0.0001,
        "max": 0.01,
        "q": 0.0001
      }
    ]"#;
    let basic = r#"{
      "mode": "max",
      "metric": "accuracy",
      "num_samples": 10,
      "max_concurrent_trials": 2
    }"#;
    for (name, space) in [
        ("continuous", continuous),
        ("discrete", discrete),
        ("quantized", quantized),
    ] {
        let task = shed.completed(&parts(dataset, name, space, basic)).await;
        assert_eq!(shed.configs(&task).await.len(), 10);
    }

    let both = r#"[
      {"name": "learning_rate", "type": "loguniform", "min": 0.0001, "max": 0.01, "base": 10},
      {"name": "batch_size", "type": "choice", "options": [16, 32, 64]},
      {"name": "optimizer", "type": "choice", "options": ["adam", "sgd"]}
    ]"#;
    let search_alg = r#"{
      "mode": "max",
      "metric": "accuracy",
      "num_samples": 20,
      "max_concurrent_trials": 4,
      "search_alg": {
        "name": "hyperoptsearch",
        "points_to_evaluate": [
          {
            "learning_rate": 0.001,
            "batch_size": 32
          }
        ]
      }
    }"#;
    let task = shed
        .completed(&parts(dataset, "points", both, search_alg))
        .await;
    let configs = shed.configs(&task).await;
    assert_eq!(configs.len(), 20);
    let first = (&configs[0]["learning_rate"], &configs[0]["batch_size"]);
    assert_eq!(first, (&json!(0.001), &json!(32)));
    assert!(
        configs[0]["optimizer"].is_string(),
        "what the point leaves out is drawn"
    );

    let scheduler = r#"{
      "mode": "max",
      "metric": "accuracy",
      "num_samples": 50,
      "max_concurrent_trials": 8,
      "scheduler": {
        "name": "hyperband",
        "options": {
          "max_t": 100
        }
      }
    }"#;
    let task = shed
        .completed(&parts(dataset, "bands", both, scheduler))
        .await;
    assert_eq!(shed.configs(&task).await.len(), 50);
}

/// The table of types: its examples in one job, under names of their own.
#[tokio::test]
async fn all_twelve_types_in_one_job() {
    let (shed, dataset) = with_digits().await;
    let spaces = r#"[
      {"name": "momentum", "type": "uniform", "min": 0.0001, "max": 0.01},
      {"name": "dropout_rate", "type": "quniform", "min": 0.0001, "max": 0.01},
      {"name": "learning_rate", "type": "loguniform", "min": 0.0001, "max": 0.01, "base": 10},
      {"name": "weight_decay", "type": "qloguniform", "min": 0.0001, "max": 0.01, "base": 10},
      {"name": "noise", "type": "randn", "mean": 0.0, "sd": 1.0},
      {"name": "more noise", "type": "qrandn", "mean": 0.0, "sd": 1.0},
      {"name": "epochs", "type": "randint", "min": 5, "max": 15},
      {"name": "save_every", "type": "qrandint", "min": 5, "max": 15},
      {"name": "units", "type": "lograndint", "min": 16, "max": 256, "base": 2},
      {"name": "more units", "type": "qlograndint", "min": 16, "max": 256, "base": 2},
      {"name": "optimizer", "type": "choice", "options": ["adam", "sgd"]},
      {"name": "batch_size", "type": "grid_search", "options": [16, 32, 64]}
    ]"#;
    let basic =
        r#"{"mode": "max", "metric": "accuracy", "num_samples": 2, "max_concurrent_trials": 2}"#;
    let task = shed
        .completed(&parts(dataset, "twelve", spaces, basic))
        .await;
    let configs = shed.configs(&task).await;
    assert_eq!(configs.len(), 6, "the grid is walked for each sample");
    for config in &configs {
        assert_eq!(config.len(), 12);
        let whole = |name: &str| config[name].as_u64().unwrap();
        assert!((5..15).contains(&whole("epochs")), "{config:?}");
        assert!((16..256).contains(&whole("units")), "{config:?}");
        let tenth = config["more noise"].as_f64().unwrap() * 10.0;
        assert!((tenth - tenth.round()).abs() < 1e-9, "{config:?}");
    }
    let batches: Vec<&Value> = configs.iter().map(|config| &config["batch_size"]).collect();
    assert_eq!(batches, [16, 32, 64, 16, 32, 64]);
}
