//! Agents beside the server: the same protocol, another process, another folder.

use std::process::{Child, Command, Stdio};

use serde_json::json;
use trainshed_core::task::TaskState;

use crate::shed::{Shed, digits, trainshed};

/// An agent, ended with the test.
struct Agent(Child);

impl Agent {
    fn start(shed: &Shed, configure: impl FnOnce(&mut Command)) -> (Self, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let mut command = trainshed(folder.path());
        command.args([
            "--server",
            shed.client.url(),
            "agent",
            "--name",
            "elsewhere",
        ]);
        command
            .env("TRAINSHED_KEY", &shed.key)
            .stderr(Stdio::null());
        configure(&mut command);
        (Self(command.spawn().unwrap()), folder)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn commands_on_the_data_folder_find_a_server_without_an_agent() {
    let shed = Shed::start_in(tempfile::tempdir().unwrap(), &["--no-agent"]).await;
    shed.push("digits-mlp").await;
    let output = trainshed(shed.data_dir())
        .args(["plugin", "ls"])
        .output()
        .unwrap();
    let listed = String::from_utf8_lossy(&output.stdout);
    assert!(listed.contains("digits-mlp"), "{output:?}");
}

#[tokio::test]
async fn an_agent_on_another_machine_runs_the_tasks_of_a_server() {
    let shed = Shed::start_in(tempfile::tempdir().unwrap(), &["--no-agent"]).await;
    let plugin = shed.push("digits-mlp").await;
    let dataset = shed.import("digits", &digits());
    let task = shed
        .train(
            "far away",
            &plugin,
            dataset,
            json!({"hyperparameter": {"epochs": 2}}),
        )
        .await;
    assert_eq!(
        shed.client.task(task.id.as_str()).await.unwrap().status,
        TaskState::Queued
    );

    let (_agent, _folder) = Agent::start(&shed, |_| {});

    let task = shed.ended(&task).await;
    assert_eq!(task.status, TaskState::Completed, "{}", task.status_reason);
    assert_eq!(task.agent.as_deref(), Some("elsewhere"));
}

#[tokio::test]
async fn a_plugin_sees_only_the_variables_that_it_names_and_the_agent_grants() {
    let shed = Shed::start_in(tempfile::tempdir().unwrap(), &["--no-agent"]).await;
    let plugin = shed.push("misbehave").await;
    let dataset = shed.import("digits", &digits());
    let (_agent, _folder) = Agent::start(&shed, |command| {
        command.args(["--grant-env", "GRANTED", "--grant-env", "NOT_NAMED"]);
        command
            .env("GRANTED", "yes")
            .env("NOT_NAMED", "no")
            .env("NOT_GRANTED", "no");
    });

    let task = shed
        .train(
            "look around",
            &plugin,
            dataset,
            json!({"hyperparameter": {"do": "environment"}}),
        )
        .await;
    let task = shed.ended(&task).await;

    assert_eq!(task.result.unwrap()["variables"], json!({"GRANTED": "yes"}));

    // It names two, of which one is granted, and wants another one recorded that is not named.
    let recorder = shed.push("conformance").await;
    let more = json!({"hyperparameter": {"report": {}}});
    let task = shed.train("record", &recorder, dataset, more).await;
    let task = shed.ended(&task).await;
    assert_eq!(task.status, TaskState::Completed, "{}", task.status_reason);
    let path = format!("/api/v1/tasks/{}/params", task.id);
    let (_, parameters) = shed.raw(reqwest::Method::GET, &path, "").await;
    assert_eq!(parameters["Environment"], json!({"GRANTED": "yes"}));
}
