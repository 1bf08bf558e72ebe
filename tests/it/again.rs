//! Doing it again: a run that is repeated, a shed that is restored from its backup.

use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};
use trainshed_postgres::Cluster;

use crate::shed::{Shed, digits, trainshed};

#[track_caller]
fn printed(output: &Output) -> Value {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Trains the digits once, with a server that says what the machine does every second.
async fn trained() -> (Shed, String) {
    let folder = tempfile::tempdir().unwrap();
    let shed = Shed::start_in(folder, &["--monitor-seconds", "1"]).await;
    let plugin = shed.push("digits-mlp").await;
    let dataset = shed.import("digits", &digits());
    let settings = json!({"hyperparameter": {"epochs": 2}});
    let task = shed.train("to repeat", &plugin, dataset, settings).await;
    let ended = shed.ended(&task).await;
    (shed, ended.id.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_repeated_is_equal_to_the_bit() {
    let (shed, task) = trained().await;
    let verdict = printed(&shed.cli(&["--json", "task", "reproduce", &task]));
    assert_eq!(verdict["equal"], true, "{verdict}");
    assert_eq!(verdict["original"], task.as_str());
    assert!(verdict["compared"].as_u64().unwrap() >= 5, "{verdict}");
    assert_eq!(verdict["different"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_taken_beside_a_server_and_moves_it_to_postgres() {
    let (shed, task) = trained().await;
    let archive = shed.data_dir().join("all.tar.zst");
    let archive = archive.to_str().unwrap();
    let saved = printed(&shed.cli(&["--json", "backup", archive]));
    assert!(saved["files"].as_u64().unwrap() >= 3, "{saved}");
    let again = shed.cli(&["backup", archive]);
    assert_eq!(
        again.status.code(),
        Some(2),
        "a backup is never overwritten"
    );

    let there = tempfile::tempdir().unwrap();
    let database = Cluster::shared().database();
    let run = |folder: &Path, arguments: &[&str]| {
        let mut command = trainshed(folder);
        command.env("TRAINSHED_DATABASE", &database).arg("--json");
        command.args(arguments).output().unwrap()
    };
    assert_eq!(printed(&run(there.path(), &["restore", archive])), saved);
    let restored = printed(&run(there.path(), &["task", "show", &task]));
    assert_eq!(restored["status"], "completed");
    // It goes on there: the component and the data are all there.
    let verdict = printed(&run(there.path(), &["task", "reproduce", &task]));
    assert_eq!(verdict["equal"], true, "{verdict}");

    let twice = run(there.path(), &["restore", archive]);
    assert_eq!(twice.status.code(), Some(5), "there is data already");
}
