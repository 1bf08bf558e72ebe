//! Tasks on an accelerator: the plugin is XLA for host processors, behind the interface
//! that every accelerator has.

use std::path::PathBuf;

use serde_json::{Value, json};
use trainshed_core::task::TaskState;
use xtask::plugins::Settings;

use crate::shed::{Shed, digits, root, trainshed};

/// The plugin that the environment names, or the one that `cargo xtask test` fetches.
#[expect(
    clippy::disallowed_methods,
    reason = "a test is configured by its environment"
)]
fn plugin() -> PathBuf {
    match std::env::var_os("TRAINSHED_PJRT_PLUGIN") {
        Some(path) => path.into(),
        None => {
            let settings = Settings::from_environment(root()).unwrap();
            xtask::pjrt::plugin(&settings.cache).unwrap()
        }
    }
}

/// A server whose agent has the accelerator.
pub(crate) async fn shed_with_accelerator() -> Shed {
    let plugin = plugin();
    let arguments = ["--slots", "2", "--pjrt-plugin", plugin.to_str().unwrap()];
    Shed::start_in(tempfile::tempdir().unwrap(), &arguments).await
}

#[tokio::test]
async fn training_on_an_accelerator_gives_what_the_processors_give() {
    let shed = shed_with_accelerator().await;
    let plugin = shed.push("digits-mlp").await;
    let dataset = shed.import("digits", &digits());
    let mut tasks = Vec::new();
    for gpus in [0, 1] {
        let name = format!("{gpus} accelerators");
        let more = json!({"num_gpus": gpus, "seed": 7, "hyperparameter": {"epochs": 5}});
        tasks.push(shed.train(&name, &plugin, dataset, more).await);
    }
    let mut curves = Vec::new();
    for task in &tasks {
        let task = shed.ended(task).await;
        assert_eq!(task.status, TaskState::Completed, "{}", task.status_reason);
        let mut points = Vec::new();
        for series in ["loss", "accuracy"] {
            let bits = shed.bits(&task, "validation", series).await;
            points.extend(bits.into_iter().map(f64::from_bits));
        }
        curves.push(points);
    }
    assert_eq!(curves[0].len(), 10);
    for (expected, found) in curves[0].iter().zip(&curves[1]) {
        let distance = (expected - found).abs();
        assert!(distance <= 1e-3 * expected, "{curves:?}");
    }

    let notices = [&tasks[0], &tasks[1]].map(|task| shed.console(task));
    let [processors, accelerator] = notices;
    let says = "tensor programs run on";
    assert!(processors.await.iter().all(|line| !line.contains(says)));
    let lines = accelerator.await;
    let line = lines.first().unwrap();
    assert!(line.starts_with("tensor programs run on an accelerator: "));
    let programs = shed.data_dir().join("agent/cache/programs");
    assert!(std::fs::read_dir(programs).unwrap().count() > 0);
}

#[tokio::test]
async fn layers_and_optimizers_compute_on_an_accelerator_what_pytorch_does() {
    let shed = shed_with_accelerator().await;
    let plugin = shed.push("conformance").await;
    let dataset = shed.import("fixtures", &root().join("tests/it/fixtures/nn.json"));
    for group in ["layers", "losses", "optimizers", "metrics"] {
        let more = json!({"num_gpus": 1, "hyperparameter": {"check": group}});
        let task = shed.train(group, &plugin, dataset, more).await;
        let task = shed.ended(&task).await;
        assert_eq!(task.status, TaskState::Completed, "{}", task.status_reason);
        let result = task.result.unwrap();
        assert_ne!(result["checked"], json!(0), "{group}");
        assert_eq!(result["failures"], json!([]), "{group}");
    }
}

#[tokio::test]
async fn a_task_that_wants_an_accelerator_runs_without_one_and_is_told_why() {
    let arguments = ["--slots", "1", "--pjrt-plugin", "/nowhere/plugin.so"];
    let shed = Shed::start_in(tempfile::tempdir().unwrap(), &arguments).await;
    let plugin = shed.push("digits-mlp").await;
    let dataset = shed.import("digits", &digits());
    let more = json!({"num_gpus": 1, "hyperparameter": {"epochs": 1}});
    let task = shed.train("no accelerator", &plugin, dataset, more).await;
    let task = shed.ended(&task).await;
    assert_eq!(task.status, TaskState::Completed, "{}", task.status_reason);
    let lines = shed.console(&task).await;
    let line = lines.first().unwrap();
    let expected =
        "tensor programs run on the processors: `/nowhere/plugin.so` could not be loaded";
    assert!(line.starts_with(expected), "{line}");
}

#[test]
fn devices_are_listed_with_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let list = |variable: &str, value: &str| {
        let mut command = trainshed(folder.path());
        command.args(["devices", "--json"]).env(variable, value);
        let output = command.output().unwrap();
        assert!(output.status.success());
        let devices: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(devices[0]["platform"], "cpu");
        assert_eq!(devices[0]["problem"], Value::Null);
        let said = String::from_utf8(output.stderr).unwrap();
        (devices, said)
    };

    let (devices, said) = list("VIRTUAL_ENV", "/nowhere");
    assert_eq!(devices.len(), 1);
    assert_eq!(
        said,
        "no accelerator: there is no plugin in `/nowhere/lib/python3*/site-packages/jax_plugins`, \
         `/nowhere/lib/python3*/site-packages/libtpu`; install one, e.g. `pip install \
         \"jax-cuda13-plugin[with-cuda]\"`, or name one with --pjrt-plugin\n"
    );

    let (devices, _) = list("TRAINSHED_PJRT_PLUGIN", "/nowhere/plugin.so");
    let problem = devices[1]["problem"].as_str().unwrap();
    let expected = "`/nowhere/plugin.so` could not be loaded: ";
    assert!(problem.starts_with(expected), "{problem}");

    let plugin = plugin();
    let (devices, said) = list("TRAINSHED_PJRT_PLUGIN", plugin.to_str().unwrap());
    assert_eq!(said, "");
    assert!(devices.len() > 1);
    for device in &devices[1..] {
        assert_eq!(device["plugin"].as_str(), plugin.to_str());
        assert_eq!(device["problem"], Value::Null);
        assert!(device["version"].as_str().unwrap().starts_with("0."));
    }
}
