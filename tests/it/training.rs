//! Training: from JSON to a saved model, the same to the bit every time.

use std::collections::BTreeSet;
use std::path::Path;

use reqwest::Method;
use safetensors::SafeTensors;
use serde_json::{Value, json};
use trainshed_core::task::TaskState;

use crate::shed::{Shed, digits, root};

/// The action that the plugin brings as an example.
fn example(name: &str) -> Value {
    let path = root().join("plugins/digits-mlp/actions").join(name);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[tokio::test]
async fn the_example_action_trains_a_model_that_reads_digits() {
    let shed = Shed::start().await;
    shed.push("digits-mlp").await;
    assert_eq!(shed.import("digits", &digits()), 1);

    let task = shed
        .client
        .submit(&example("train.json"))
        .await
        .unwrap()
        .task;
    assert!(!task.status.has_ended(), "it waits, or an agent has it");
    let task = shed.ended(&task).await;

    assert_eq!(
        (task.status, task.status_reason.as_str()),
        (TaskState::Completed, "")
    );
    assert_eq!(task.progress, 100.0);
    let model_id = task.result.as_ref().unwrap()["model_id"].as_u64().unwrap();
    let model = shed.client.model(model_id).await.unwrap();
    assert_eq!(model.task.as_ref(), Some(&task.id));

    let metrics = shed.client.metrics(task.id.as_str()).await.unwrap();
    let curves: Vec<String> = metrics
        .scalars
        .iter()
        .map(|curve| format!("{}/{} {}", curve.title, curve.series, curve.count))
        .collect();
    assert_eq!(
        curves,
        [
            "train/accuracy 20",
            "train/loss 20",
            "validation/accuracy 20",
            "validation/loss 20"
        ]
    );
    let accuracy = metrics.scalars[2].last.0;
    assert!(accuracy >= 0.96, "validation accuracy {accuracy}");

    let samples = shed.client.samples(task.id.as_str()).await.unwrap().samples;
    assert!(!samples.is_empty(), "misclassified digits are shown");
    assert!(
        samples
            .iter()
            .all(|sample| sample.content_type == "image/png")
    );

    let report = shed
        .raw(
            Method::PUT,
            &format!("/api/v1/tasks/{}/artifacts/report%201", task.id),
            "fine",
        )
        .await;
    assert_eq!((report.0, &report.1["size_bytes"]), (201, &json!(4)));
    let (_, files) = shed
        .raw(Method::GET, &format!("/api/v1/tasks/{}/files", task.id), "")
        .await;
    let roles: BTreeSet<&str> = files
        .as_array()
        .unwrap()
        .iter()
        .map(|file| file["role"].as_str().unwrap())
        .collect();
    assert_eq!(roles, BTreeSet::from(["artifact", "model", "sample"]));

    let file = shed.data_dir().join("model.safetensors");
    let output = shed.cli(&[
        "model",
        "download",
        &model_id.to_string(),
        "-o",
        file.to_str().unwrap(),
    ]);
    assert!(output.status.success());
    assert!(largest_weight(&file) > 0.0);
}

/// The greatest magnitude in any tensor of a safetensors file.
fn largest_weight(path: &Path) -> f32 {
    let bytes = std::fs::read(path).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let values = tensors
        .tensors()
        .into_iter()
        .filter(|(_, view)| view.dtype() == safetensors::Dtype::F32);
    let bytes: Vec<u8> = values.flat_map(|(_, view)| view.data().to_vec()).collect();
    bytes
        .chunks_exact(4)
        .map(|chunk| f32::from_le_bytes(chunk.try_into().unwrap()).abs())
        .fold(0.0, f32::max)
}

#[tokio::test]
async fn one_seed_gives_one_run_to_the_bit_and_another_seed_another() {
    let shed = Shed::start().await;
    let plugin = shed.push("digits-mlp").await;
    let dataset = shed.import("digits", &digits());
    let few = json!({"epochs": 3});

    let mut runs = Vec::new();
    for (name, seed) in [("first run", 7), ("second run", 7), ("other seed", 8)] {
        let task = shed
            .train(
                name,
                &plugin,
                dataset,
                json!({"seed": seed, "hyperparameter": few}),
            )
            .await;
        let task = shed.ended(&task).await;
        assert_eq!(task.status, TaskState::Completed, "{}", task.status_reason);
        let model = task.result.as_ref().unwrap()["model_id"].as_u64().unwrap();
        let digest = shed.client.model(model).await.unwrap().sha256;
        runs.push((
            shed.bits(&task, "train", "loss").await,
            shed.bits(&task, "validation", "loss").await,
            digest,
        ));
    }

    assert_eq!(runs[0], runs[1]);
    assert_ne!(runs[0].0, runs[2].0);
    assert_ne!(runs[0].2, runs[2].2);
}

#[tokio::test]
async fn training_goes_on_from_a_checkpoint_as_if_it_had_never_stopped() {
    let shed = Shed::start().await;
    let plugin = shed.push("digits-mlp").await;
    let dataset = shed.import("digits", &digits());

    let whole = shed
        .train(
            "whole",
            &plugin,
            dataset,
            json!({"hyperparameter": {"epochs": 6}}),
        )
        .await;
    let half = shed
        .train(
            "half",
            &plugin,
            dataset,
            json!({"hyperparameter": {"epochs": 3}}),
        )
        .await;
    let half = shed.ended(&half).await;
    let saved = shed
        .client
        .task_models(half.id.as_str())
        .await
        .unwrap()
        .models;
    let checkpoint = saved.iter().find(|model| model.name == "last").unwrap().id;
    let three_more = json!({"checkpoint": checkpoint, "hyperparameter": {"epochs": 3}});
    let rest = shed.train("rest", &plugin, dataset, three_more).await;
    let (whole, rest) = (shed.ended(&whole).await, shed.ended(&rest).await);

    assert_eq!(rest.status, TaskState::Completed, "{}", rest.status_reason);
    let whole_curve = shed.bits(&whole, "validation", "loss").await;
    let rest_curve = shed.bits(&rest, "validation", "loss").await;
    assert_eq!(whole_curve[3..], rest_curve[..]);
    let model = rest.result.unwrap()["model_id"].as_u64().unwrap();
    assert_eq!(
        shed.client.model(model).await.unwrap().parent,
        Some(checkpoint)
    );
}

#[tokio::test]
async fn a_hyperparameter_that_cannot_be_used_fails_the_task_and_names_it() {
    let shed = Shed::start().await;
    let plugin = shed.push("digits-mlp").await;
    let dataset = shed.import("digits", &digits());

    let task = shed
        .train(
            "bad batch",
            &plugin,
            dataset,
            json!({"hyperparameter": {"batch_size": "many"}}),
        )
        .await;
    let task = shed.ended(&task).await;

    assert_eq!(task.status, TaskState::Failed);
    assert!(
        task.status_reason.contains("batch_size"),
        "{}",
        task.status_reason
    );
}
