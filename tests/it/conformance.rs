//! What a plugin builds of the SDK's layers, losses, optimizers, schedules, metrics
//! and augmentation computes what PyTorch does; `fixtures/nn.py` made the cases.

use serde_json::json;
use trainshed_core::task::TaskState;

use crate::shed::{Shed, root};

#[tokio::test]
async fn the_sdk_computes_what_pytorch_does() {
    let shed = Shed::start().await;
    let plugin = shed.push("conformance").await;
    let dataset = shed.import("fixtures", &root().join("tests/it/fixtures/nn.json"));

    let mut found = Vec::new();
    let groups = [
        "layers",
        "losses",
        "optimizers",
        "schedules",
        "metrics",
        "augment",
    ];
    for group in groups {
        let more = json!({"hyperparameter": {"check": group}});
        let task = shed.train(group, &plugin, dataset, more).await;
        let task = shed.ended(&task).await;
        assert_eq!(task.status, TaskState::Completed, "{}", task.status_reason);
        let result = task.result.unwrap();
        found.push((group, result["checked"].clone(), result["failures"].clone()));
    }

    let none = || json!([]);
    assert_eq!(
        found,
        [
            ("layers", json!(46), none()),
            ("losses", json!(12), none()),
            ("optimizers", json!(13), none()),
            ("schedules", json!(7), none()),
            ("metrics", json!(3), none()),
            ("augment", json!(4), none()),
        ]
    );
}

#[tokio::test]
async fn a_model_saved_with_its_program_predicts_in_a_plugin_that_knows_nothing_of_it() {
    let shed = Shed::start().await;
    let trainer = shed.push("conformance").await;
    let other = shed.push("misbehave").await;
    let dataset = shed.import("fixtures", &root().join("tests/it/fixtures/nn.json"));

    let training = json!({"hyperparameter": {"train": 2}});
    let trained = shed.train("trained", &trainer, dataset, training).await;
    let trained = shed.ended(&trained).await.result.unwrap();
    let describing = json!({
        "hyperparameter": {"do": "describe"},
        "checkpoint": trained["model_id"],
    });
    let used = shed.train("used", &other, dataset, describing).await;
    let used = shed.ended(&used).await;
    assert_eq!(used.status, TaskState::Completed, "{}", used.status_reason);

    let predicted = &used.result.unwrap()["checkpoint"]["predicted"];
    assert_eq!(predicted, &json!([trained["predicted"]]));
    assert_eq!(trained["predicted"].as_array().unwrap().len(), 6);
}

#[tokio::test]
async fn dropout_averages_and_accumulated_gradients_go_on_from_a_checkpoint_to_the_bit() {
    let shed = Shed::start().await;
    let plugin = shed.push("conformance").await;
    let dataset = shed.import("fixtures", &root().join("tests/it/fixtures/nn.json"));
    let epochs = |count: u64| json!({"hyperparameter": {"train": count}});

    let whole = shed.train("whole", &plugin, dataset, epochs(4)).await;
    let half = shed.train("half", &plugin, dataset, epochs(2)).await;
    let half = shed.ended(&half).await;
    assert_eq!(half.status, TaskState::Completed, "{}", half.status_reason);
    let mut more = epochs(2);
    more["checkpoint"] = half.result.unwrap()["model_id"].clone();
    let rest = shed.train("rest", &plugin, dataset, more).await;
    let (whole, rest) = (shed.ended(&whole).await, shed.ended(&rest).await);

    for title in ["train", "judged"] {
        let expected = shed.bits(&whole, title, "loss").await;
        assert_eq!(expected[2..], shed.bits(&rest, title, "loss").await[..]);
    }
    assert_eq!(
        whole.result.unwrap()["steps"],
        rest.result.unwrap()["steps"]
    );
}
