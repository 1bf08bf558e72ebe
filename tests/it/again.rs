//! Doing it again: a run that is repeated, a shed that is restored from its backup.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use trainshed_postgres::Cluster;

use crate::shed::{Shed, digits, plugin, trainshed};

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
async fn a_run_is_recorded_with_what_it_was_made_of() {
    let shed = Shed::start().await;
    let folder = tempfile::tempdir().unwrap();
    let git = |arguments: &[&str]| {
        let done = Command::new("git")
            .arg("-C")
            .arg(folder.path())
            .args(["-c", "user.name=a", "-c", "user.email=a@b"])
            .args(arguments)
            .output()
            .unwrap();
        assert!(done.status.success(), "{arguments:?}: {done:?}");
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    };
    let component = folder.path().join("digits-mlp.wasm");
    std::fs::copy(plugin("digits-mlp"), &component).unwrap();
    let lock = "version = 4\n\n[[package]]\nname = \"digits-mlp\"\nversion = \"0.1.0\"\n";
    std::fs::write(folder.path().join("Cargo.lock"), lock).unwrap();
    let dataset = shed.import("digits", &digits());
    let action = json!({"action": "train", "params": {
        "name": "recorded", "dataset": dataset, "hyperparameter": {"epochs": 1}}});
    let file = folder.path().join("train.json");
    std::fs::write(&file, action.to_string()).unwrap();
    git(&["init", "--quiet", "--initial-branch=trunk"]);
    git(&["add", "train.json", "Cargo.lock"]);
    git(&["commit", "--quiet", "--message=first"]);
    let commit = git(&["rev-parse", "HEAD"]);

    let pushed = shed.cli(&["--json", "plugin", "push", component.to_str().unwrap()]);
    let source = &printed(&pushed)["source"];
    assert_eq!(source["version_num"], commit.as_str());
    assert_eq!(source["entry_point"], "digits-mlp.wasm");
    assert_eq!(source["requirements"]["cargo"], "digits-mlp==0.1.0\n");
    let submitted = shed.cli(&["--json", "submit", "--follow", file.to_str().unwrap()]);
    let task = printed(&submitted);
    let script = (&task["script"]["version_num"], &task["script"]["branch"]);
    assert_eq!(script, (&json!(commit), &json!("trunk")));
    let data = shed.client.dataset(dataset).await.unwrap();
    assert_eq!(task["run"]["dataset_digest"], json!(data.digest));
    let machine = &task["run"]["machine"];
    assert!(machine["cores"].as_u64().unwrap() >= 1, "{machine}");
    assert_eq!(machine["trainshed"], env!("CARGO_PKG_VERSION"));
    let world = "trainshed:plugin/train-plugin@0.1.0";
    assert_eq!(task["run"]["world"], world);
    let shown = shed.cli(&["task", "show", task["id"].as_str().unwrap()]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains(world), "{shown}");
    let reference = task["plugin"]["digest"].as_str().unwrap();
    let installed = shed.client.plugin(&format!("sha256:{reference}")).await;
    assert_eq!(
        installed.unwrap().manifest.contract,
        "trainshed:plugin@0.1.0"
    );
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
