//! Preprocessing: a plugin makes a version of a data set, and training takes it.

use serde_json::json;
use trainshed_core::task::TaskState;

use crate::shed::{Shed, digits};

#[tokio::test]
async fn a_standardised_version_is_made_and_trained_on() {
    let shed = Shed::start().await;
    let (standardize, mlp) = (
        shed.push("standardize").await,
        shed.push("digits-mlp").await,
    );
    let raw = shed.import("digits", &digits());

    let action = json!({
        "action": "preprocess", "plugin": standardize,
        "params": {"name": "standardize digits", "dataset": raw, "parameters": {"exclude": ["label"]}},
    });
    let task = shed.client.submit(&action).await.unwrap().task;
    let task = shed.ended(&task).await;
    assert_eq!(task.status, TaskState::Completed, "{}", task.status_reason);

    let made = task.result.as_ref().unwrap()["dataset_id"]
        .as_u64()
        .unwrap();
    let version = shed.client.dataset(made).await.unwrap();
    assert_eq!(
        (version.name.as_str(), version.number, version.parent),
        ("digits", 2, Some(raw))
    );
    assert_eq!(version.task, Some(task.id));
    assert_ne!(
        version.digest,
        shed.client.dataset(raw).await.unwrap().digest
    );

    let task = shed.train("on version 2", &mlp, made, json!({})).await;
    let task = shed.ended(&task).await;
    assert_eq!(task.status, TaskState::Completed, "{}", task.status_reason);
    let metrics = shed.client.metrics(task.id.as_str()).await.unwrap();
    let accuracy = metrics
        .scalars
        .iter()
        .find(|curve| curve.title == "validation" && curve.series == "accuracy");
    assert!(accuracy.unwrap().last.0 >= 0.95);
}

#[tokio::test]
async fn one_plugin_may_have_both_actions() {
    let shed = Shed::start().await;
    let plugin = shed.push("conformance").await;
    let dataset = shed.import("digits", &digits());
    let manifest = shed.client.plugin(&plugin).await.unwrap().manifest;
    let actions: Vec<&str> = manifest.actions.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(actions, ["train", "preprocess"]);

    let action = json!({
        "action": "preprocess", "plugin": plugin,
        "params": {"name": "a text", "dataset": dataset, "parameters": {"text": "made here"}},
    });
    let task = shed.client.submit(&action).await.unwrap().task;
    let task = shed.ended(&task).await;
    assert_eq!(task.status, TaskState::Completed, "{}", task.status_reason);
    assert_eq!(task.result.unwrap()["number"], 2);
    let settings = json!({"hyperparameter": {"train": 1}});
    let task = shed.train("a model", &plugin, dataset, settings).await;
    let task = shed.ended(&task).await;
    assert_eq!(task.status, TaskState::Completed, "{}", task.status_reason);
}
