//! Killed processes: nothing is half-written, and what was interrupted says so.

use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
use trainshed_core::task::TaskState;

use crate::shed::{Shed, digits, eventually, plugin, trainshed};

#[tokio::test]
async fn a_killed_run_leaves_a_store_that_opens_and_a_task_that_was_interrupted() {
    let folder = tempfile::tempdir().unwrap();
    let action = folder.path().join("action.json");
    let content = json!({"action": "train", "params": {"name": "for ever", "dataset": 1, "hyperparameter": {"do": "obey-stop"}}});
    std::fs::write(&action, content.to_string()).unwrap();
    let data_dir = folder.path().join("data");
    let mut run = trainshed(&data_dir);
    run.arg("run")
        .arg(&action)
        .arg("--plugin")
        .arg(plugin("misbehave"))
        .arg("--dataset")
        .arg(digits());
    let mut run = run
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let list = || {
        let output = trainshed(&data_dir)
            .args(["--json", "task", "ls"])
            .output()
            .unwrap();
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap_or_default()
    };
    eventually("the task runs", async || {
        (list()[0]["status"] == "in_progress").then_some(())
    })
    .await;

    let agent = child_of(run.id());
    run.kill().unwrap();
    run.wait().unwrap();

    eventually("the agent ends too", async || {
        (!std::path::Path::new("/proc").join(&agent).exists()).then_some(())
    })
    .await;
    let tasks = list();
    assert_eq!(tasks[0]["status"], "stopped");
    let reason = tasks[0]["status_reason"].as_str().unwrap();
    assert!(reason.starts_with("interrupted"), "{reason}");
}

#[tokio::test]
async fn a_server_that_was_killed_starts_again_with_everything_that_was_reported() {
    let shed = Shed::start().await;
    let (mlp, misbehave) = (shed.push("digits-mlp").await, shed.push("misbehave").await);
    let dataset = shed.import("digits", &digits());
    let done = shed
        .train(
            "done before",
            &mlp,
            dataset,
            json!({"hyperparameter": {"epochs": 2}}),
        )
        .await;
    let done = shed.ended(&done).await;
    let loss = shed.bits(&done, "train", "loss").await;
    let running = shed
        .train(
            "running",
            &misbehave,
            dataset,
            json!({"hyperparameter": {"do": "obey-stop"}}),
        )
        .await;
    shed.has_begun(&running).await;

    let shed = Shed::start_in(shed.kill(), &["--slots", "1"]).await;

    assert_eq!(shed.bits(&done, "train", "loss").await, loss);
    let running = shed.client.task(running.id.as_str()).await.unwrap();
    assert_eq!(running.status, TaskState::Stopped);
    assert!(
        running.status_reason.starts_with("interrupted"),
        "{}",
        running.status_reason
    );
    let again = shed
        .train(
            "running",
            &mlp,
            dataset,
            json!({"hyperparameter": {"epochs": 1}}),
        )
        .await;
    assert_eq!(shed.ended(&again).await.status, TaskState::Completed);
}

#[tokio::test]
async fn a_server_that_is_asked_to_end_hears_from_its_agent_how_the_tasks_ended() {
    let shed = Shed::start().await;
    let misbehave = shed.push("misbehave").await;
    let dataset = shed.import("digits", &digits());
    let polite = json!({"hyperparameter": {"do": "obey-stop"}});
    let running = shed.train("running", &misbehave, dataset, polite).await;
    shed.has_begun(&running).await;

    let shed = Shed::start_in(shed.stop(), &["--slots", "1"]).await;

    let running = shed.client.task(running.id.as_str()).await.unwrap();
    assert_eq!(
        (running.status, running.status_reason.as_str()),
        (TaskState::Stopped, "the agent was stopped")
    );
}

#[tokio::test]
async fn a_killed_agent_costs_its_tasks_and_not_the_server() {
    let shed = Shed::start_in(tempfile::tempdir().unwrap(), &["--slots", "1"]).await;
    let (mlp, misbehave) = (shed.push("digits-mlp").await, shed.push("misbehave").await);
    let dataset = shed.import("digits", &digits());
    let running = shed
        .train(
            "running",
            &misbehave,
            dataset,
            json!({"hyperparameter": {"do": "obey-stop"}}),
        )
        .await;
    shed.has_begun(&running).await;

    kill_child_of(shed.server_process());

    let running = shed.ended(&running).await;
    assert_eq!(running.status, TaskState::Stopped);
    assert!(
        running.status_reason.starts_with("interrupted"),
        "{}",
        running.status_reason
    );
    let next = shed
        .train(
            "next",
            &mlp,
            dataset,
            json!({"hyperparameter": {"epochs": 1}}),
        )
        .await;
    assert_eq!(shed.ended(&next).await.status, TaskState::Completed);
}

/// Kills the agent that the server started.
pub(crate) fn kill_child_of(server: u32) {
    let killed = std::process::Command::new("kill")
        .args(["-9", &child_of(server)])
        .status()
        .unwrap();
    assert!(killed.success());
}

/// The process id of the agent that a process started: its only child.
fn child_of(parent: u32) -> String {
    let threads = std::fs::read_dir(format!("/proc/{parent}/task")).unwrap();
    let children = threads.map(|thread| {
        std::fs::read_to_string(thread.unwrap().path().join("children")).unwrap_or_default()
    });
    let all: String = children.collect::<Vec<_>>().join(" ");
    let child = all.split_whitespace().next();
    child.expect("the process has a child").to_owned()
}

#[tokio::test]
async fn a_waiting_task_is_stopped_at_once_and_a_running_one_within_its_grace() {
    let shed = Shed::start_in(tempfile::tempdir().unwrap(), &["--slots", "1"]).await;
    let misbehave = shed.push("misbehave").await;
    let dataset = shed.import("digits", &digits());
    let deaf = json!({"hyperparameter": {"do": "loop"}, "limits": {"grace_ms": 300}});
    let running = shed.train("deaf", &misbehave, dataset, deaf).await;
    shed.has_begun(&running).await;
    let waiting = shed
        .train(
            "waiting",
            &misbehave,
            dataset,
            json!({"hyperparameter": {"do": "obey-stop"}}),
        )
        .await;

    let waiting = shed.client.stop(waiting.id.as_str(), None).await.unwrap();
    assert_eq!(
        (waiting.status, waiting.status_reason.as_str()),
        (TaskState::Stopped, "stopped by the user")
    );

    let output = shed.cli(&["task", "stop", running.id.as_str(), "--reason", "enough"]);
    assert!(output.status.success());
    let running = tokio::time::timeout(Duration::from_secs(20), shed.ended(&running))
        .await
        .unwrap();
    assert_eq!(running.status, TaskState::Stopped);
    assert!(
        running.status_reason.starts_with("enough"),
        "{}",
        running.status_reason
    );
    assert!(
        !shed.console(&running).await.is_empty(),
        "what it had written is kept"
    );

    let polite = shed
        .train(
            "polite",
            &misbehave,
            dataset,
            json!({"hyperparameter": {"do": "obey-stop"}}),
        )
        .await;
    shed.has_begun(&polite).await;
    shed.client
        .stop(polite.id.as_str(), Some("thank you".to_owned()))
        .await
        .unwrap();
    let polite = shed.ended(&polite).await;
    assert_eq!(
        (polite.status, polite.status_reason.as_str()),
        (TaskState::Stopped, "thank you")
    );
}
