//! Tasks that move between servers, and runs without any.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use trainshed_postgres::Cluster;

use crate::shed::{Shed, digits, plugin, trainshed};

#[track_caller]
fn succeeded(output: &Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[track_caller]
fn printed(output: &Output) -> Value {
    serde_json::from_str(&succeeded(output)).unwrap()
}

/// What is the same wherever a task is.
fn known(command: impl Fn(&[&str]) -> Output, task: &str) -> Value {
    let mut view = printed(&command(&["--json", "task", "show", task]));
    for place in ["agent", "queue", "dataset", "models"] {
        view[place] = Value::Null;
    }
    view["params"]["dataset"] = Value::Null;
    view["result"]["model_id"] = Value::Null;
    let log = succeeded(&command(&["task", "log", task]));
    json!([view, log])
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_move_to_a_server_with_another_database_and_run_again_there() {
    let shed = Shed::start().await;
    let plugin = shed.push("digits-mlp").await;
    let dataset = shed.import("digits", &digits());
    let settings = json!({"hyperparameter": {"epochs": 2}, "project": "to move"});
    let task = shed.train("moved", &plugin, dataset, settings).await;
    let task = shed.ended(&task).await.id.to_string();
    let notes = shed.data_dir().join("notes.txt");
    std::fs::write(&notes, "worth keeping").unwrap();
    let notes = notes.to_str().unwrap();
    succeeded(&shed.cli(&["artifact", "put", &task, "notes", notes]));
    let archive = shed.data_dir().join("tasks.zip");
    let archive = archive.to_str().unwrap();
    let query = "project = \"to move\" and status = completed";
    succeeded(&shed.cli(&["export", archive, "--where", query]));

    let there = tempfile::tempdir().unwrap();
    let database = Cluster::shared().database();
    let run = |arguments: &[&str]| {
        let mut command = trainshed(there.path());
        command.env("TRAINSHED_DATABASE", &database);
        command.args(arguments).output().unwrap()
    };
    // Its ids are others there.
    succeeded(&run(&["dataset", "create", "notes", notes]));
    assert_eq!(succeeded(&run(&["import", archive])).trim(), task);
    assert_eq!(
        known(run, &task),
        known(|arguments| shed.cli(arguments), &task)
    );
    let again = run(&["import", archive]);
    assert_eq!(succeeded(&again), "");
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(said.contains("was there already"), "{said}");
    // The component and the data are all there.
    let verdict = printed(&run(&["--json", "task", "reproduce", &task]));
    assert_eq!(verdict["equal"], true, "{verdict}");

    let wrong = run(&["import", notes]);
    assert_eq!(wrong.status.code(), Some(2), "that is no archive");
    let unknown = "0".repeat(32);
    let missing = shed.cli(&["export", "/tmp/never-written.zip", "--task", &unknown]);
    assert_eq!(missing.status.code(), Some(3));
    assert!(!Path::new("/tmp/never-written.zip").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_moves_with_its_trials_and_goes_on_to_name_its_best() {
    let shed = Shed::start().await;
    let plugin = shed.push("digits-mlp").await;
    let dataset = shed.import("digits", &digits());
    let action = json!({"action": "train", "plugin": plugin, "params": {
        "name": "search", "dataset": dataset, "is_tune": true,
        "hyperparameters": [
            {"name": "learning_rate", "type": "loguniform", "min": 1e-4, "max": 0.1, "base": 10},
            {"name": "epochs", "type": "constant", "value": 1},
        ],
        "tune_config": {"mode": "max", "metric": "accuracy", "num_samples": 3},
    }});
    let task = shed.client.submit(&action).await.unwrap().task;
    let task = shed.ended(&task).await.id.to_string();
    let archive = shed.data_dir().join("search.zip");
    let archive = archive.to_str().unwrap();
    succeeded(&shed.cli(&["export", archive, "--task", &task]));

    let there = tempfile::tempdir().unwrap();
    let database = Cluster::shared().database();
    let run = |arguments: &[&str]| {
        let mut command = trainshed(there.path());
        command.env("TRAINSHED_DATABASE", &database);
        command.args(arguments).output().unwrap()
    };
    let imported = succeeded(&run(&["import", archive]));
    assert_eq!(imported.lines().count(), 4, "the search and its trials");
    let table = succeeded(&run(&["tune", "show", &task]));
    assert_eq!(table, succeeded(&shed.cli(&["tune", "show", &task])));
    assert_eq!(table.matches("TERMINATED").count(), 3, "{table}");
    let best = printed(&run(&["--json", "tune", "best", &task]));
    let model = best["model"].as_u64().unwrap().to_string();
    let shown = printed(&run(&["--json", "model", "show", &model]));
    assert_eq!(shown["task"], best["task"], "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_without_a_server_is_imported_and_added_to_a_task() {
    let folder = tempfile::tempdir().unwrap();
    let action = folder.path().join("train.json");
    let params = json!({"name": "offline", "dataset": 1, "hyperparameter": {"epochs": 2}});
    let text = json!({"action": "train", "params": params}).to_string();
    std::fs::write(&action, text).unwrap();
    let archive = folder.path().join("out.zip");
    let component = plugin("digits-mlp");
    let paths = [&action, &component, &digits(), &archive];
    let [action, component, data, archive] = paths.map(|path| path.to_str().unwrap());
    // Nothing else is needed, and nothing else is left.
    let never = folder.path().join("never");
    let offline = |archive: &str| -> Command {
        let mut command = trainshed(&never);
        command.args(["run", action, "--plugin", component, "--dataset", data]);
        command.args(["--offline", archive]);
        command
    };
    let ran = offline(archive).output().unwrap();
    succeeded(&ran);
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(said.contains("offline-"), "{said}");
    assert!(!never.exists());
    let mut left: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["out.zip", "train.json"]);
    let twice = offline(archive).output().unwrap();
    assert_eq!(
        twice.status.code(),
        Some(2),
        "an archive is never overwritten"
    );

    let shed = Shed::start().await;
    let imported = shed.cli(&["import", archive]);
    let task = succeeded(&imported).trim().to_owned();
    assert!(said.contains(&task), "{said}");
    let see = String::from_utf8_lossy(&imported.stderr).into_owned();
    assert!(
        see.contains(&format!("{}/api/v1/tasks/{task}", shed.client.url())),
        "{see}"
    );
    let before = shed.client.task(&task).await.unwrap();
    assert_eq!(before.status.as_str(), "completed");

    let second = folder.path().join("second.zip");
    let second = second.to_str().unwrap();
    succeeded(&offline(second).output().unwrap());
    let added = shed.cli(&[
        "import",
        second,
        "--into",
        &task,
        "--iteration-offset",
        "1500",
    ]);
    assert_eq!(succeeded(&added).trim(), task);
    let after = shed.client.task(&task).await.unwrap();
    assert_eq!(after.last_iteration, before.last_iteration + 1500);
    let summary = shed.client.metrics(&task).await.unwrap();
    let curve = &summary.scalars[0];
    let points = shed
        .client
        .curve(&task, &curve.title, &curve.series, 0)
        .await
        .unwrap();
    assert_eq!(points.values.len() as u64, curve.count);
    assert_eq!(after.models.output.len(), 2 * before.models.output.len());
}
