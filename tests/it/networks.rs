//! Plugins that train networks of convolutions and of attention.

use serde_json::{Value, json};
use trainshed_core::task::TaskState;
use trainshed_core::view::TaskView;

use crate::shed::{Shed, digits, root};

/// Trains to the end, from a checkpoint if one is given.
async fn trained(
    shed: &Shed,
    plugin: &str,
    dataset: u64,
    hyperparameter: Value,
    checkpoint: Option<u64>,
) -> TaskView {
    let more = json!({"hyperparameter": hyperparameter, "checkpoint": checkpoint});
    let task = shed.train("network", plugin, dataset, more).await;
    let task = shed.ended(&task).await;
    assert_eq!(task.status, TaskState::Completed, "{}", task.status_reason);
    task
}

/// The model that a task saved as `last`.
async fn last(shed: &Shed, task: &TaskView) -> u64 {
    let saved = shed.client.task_models(task.id.as_str()).await.unwrap();
    let mut saved = saved.models.iter();
    saved.find(|model| model.name == "last").unwrap().id
}

#[tokio::test]
async fn a_convolutional_network_reads_digits_and_goes_on_from_a_checkpoint_to_the_bit() {
    let shed = Shed::start().await;
    let plugin = shed.push("digits-cnn").await;
    let dataset = shed.import("digits", &digits());
    let epochs = |epochs: u32| json!({"epochs": epochs, "decay_epochs": 4, "channels": [8, 16]});

    let whole = trained(&shed, &plugin, dataset, epochs(4), None).await;
    let half = trained(&shed, &plugin, dataset, epochs(2), None).await;
    let checkpoint = Some(last(&shed, &half).await);
    let rest = trained(&shed, &plugin, dataset, epochs(2), checkpoint).await;

    let result = whole.result.as_ref().unwrap();
    assert!(result["accuracy"].as_f64() > Some(0.95), "{result:?}");
    for title in ["train", "validation"] {
        let expected = shed.bits(&whole, title, "loss").await;
        assert_eq!(expected[2..], shed.bits(&rest, title, "loss").await[..]);
    }
}

#[tokio::test]
async fn a_transformer_learns_a_text_and_goes_on_from_a_checkpoint_to_the_bit() {
    let shed = Shed::start().await;
    let plugin = shed.push("char-transformer").await;
    let guide = root().join("plugins/char-transformer/data/guide.txt");
    let dataset = shed.import("guide", &guide);
    let epochs = |epochs: u32| {
        json!({
            "epochs": epochs, "decay_epochs": 4, "steps_per_epoch": 25, "warm_up_steps": 10,
            "context": 32, "layers": 1, "heads": 2, "size": 32, "learning_rate": 0.01,
            "sample_length": 20,
        })
    };

    let whole = trained(&shed, &plugin, dataset, epochs(4), None).await;
    let half = trained(&shed, &plugin, dataset, epochs(2), None).await;
    let checkpoint = Some(last(&shed, &half).await);
    let rest = trained(&shed, &plugin, dataset, epochs(2), checkpoint).await;

    // Characters that were drawn blindly would surprise it by ln(64), 4.2.
    let result = whole.result.as_ref().unwrap();
    assert!(result["loss"].as_f64() < Some(3.2), "{result:?}");
    for title in ["train", "validation"] {
        let expected = shed.bits(&whole, title, "loss").await;
        assert_eq!(expected[2..], shed.bits(&rest, title, "loss").await[..]);
    }
    let console = shed.console(&rest).await;
    let written = console
        .iter()
        .filter(|line| line.starts_with("epoch 4 writes: "));
    assert_eq!(written.count(), 1, "{console:?}");
}
