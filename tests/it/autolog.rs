//! What an action does not want recorded is not, and everything else is.

use reqwest::Method;
use serde_json::{Value, json};
use trainshed_core::task::TaskState;
use trainshed_core::view::{SeriesSummary, TaskView};

use crate::shed::{Shed, digits, eventually};

#[tokio::test]
async fn a_quiet_run_records_what_it_is_asked_for_and_no_more() {
    let shed = Shed::start_in(
        tempfile::tempdir().unwrap(),
        &["--slots", "2", "--monitor-seconds", "1"],
    )
    .await;
    let plugin = shed.push("digits-mlp").await;
    let dataset = shed.import("digits", &digits());
    let run = async |name: &str, more: Value| {
        let mut fields = json!({"hyperparameter": {"epochs": 2, "hidden": [4], "save_every": 1}});
        let given = more.as_object().unwrap().clone();
        fields.as_object_mut().unwrap().extend(given);
        let task = shed.train(name, &plugin, dataset, fields).await;
        let task = shed.ended(&task).await;
        assert_eq!(task.status, TaskState::Completed, "{}", task.status_reason);
        task
    };
    let loud = run("loud", json!({})).await;
    let quiet = json!({
        "autolog": {"stdout": false, "models": "be*", "resources": false},
        "log_params": {"hidden": false},
    });
    let quiet = run("quiet", quiet).await;

    assert!(shed.console(&loud).await.len() > 2);
    assert_eq!(
        shed.console(&quiet).await,
        ["the model `last` is not registered: `autolog.models` leaves it out"]
    );
    let names = |task: &trainshed_core::view::TaskView| {
        let models = task.models.output.iter();
        models.map(|model| model.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(&loud).len(), 2);
    assert_eq!(names(&quiet), ["best"]);
    assert_eq!(
        quiet.result.clone().unwrap()["model_id"],
        quiet.models.output[0].model
    );
    let path = format!("/api/v1/tasks/{}/params", quiet.id);
    let (_, params) = shed.raw(Method::GET, &path, "").await;
    let shown: Vec<&String> = params["General"].as_object().unwrap().keys().collect();
    assert_eq!(shown, ["epochs", "save_every"]);
    // What is not shown was given to the plugin: both computed the same.
    let loss = async |task| shed.bits(task, "validation", "loss").await;
    assert_eq!(loss(&loud).await, loss(&quiet).await);
}

#[tokio::test]
async fn what_the_machine_does_is_not_recorded_of_a_run_that_does_not_want_it() {
    let folder = tempfile::tempdir().unwrap();
    let shed = Shed::start_in(folder, &["--slots", "2", "--monitor-seconds", "1"]).await;
    let plugin = shed.push("misbehave").await;
    let dataset = shed.import("digits", &digits());
    let begin = async |name: &str, autolog: Value| {
        let fields = json!({"hyperparameter": {"do": "sleep"}, "autolog": autolog});
        let task = shed.train(name, &plugin, dataset, fields).await;
        shed.has_begun(&task).await;
        task
    };
    let measured = async |task: &TaskView| {
        let metrics = shed.client.metrics(task.id.as_str()).await.unwrap();
        let of_machine = |curve: &&SeriesSummary| curve.title == ":monitor:machine";
        let curves = metrics.scalars.iter().filter(of_machine);
        curves.map(|curve| curve.count).max().unwrap_or(0)
    };
    // The one that wants nothing is there first, and through every period of the other.
    let quiet = begin("quiet", json!({"resources": false})).await;
    let loud = begin("loud", json!({})).await;
    eventually("two periods of the machine", async || {
        (measured(&loud).await >= 2).then_some(())
    })
    .await;
    for task in [&loud, &quiet] {
        shed.client.stop(task.id.as_str(), None).await.unwrap();
        shed.ended(task).await;
    }
    assert_eq!(measured(&quiet).await, 0);
}

#[tokio::test]
async fn an_action_that_says_it_wrongly_is_refused() {
    let shed = Shed::start().await;
    let plugin = shed.push("digits-mlp").await;
    let dataset = shed.import("digits", &digits());
    let action = json!({"action": "train", "plugin": plugin, "params": {
        "name": "wrong", "dataset": dataset, "hyperparameter": {},
        "autolog": {"models": 7},
    }});
    let (status, problem) = shed
        .raw(Method::POST, "/api/v1/actions", action.to_string())
        .await;
    assert_eq!(
        (status, &problem["pointer"]),
        (422, &json!("/params/autolog/models"))
    );
}
