//! Trials of a search, from the suggestion to the recorded end: everything that the host does
//! around what a plugin computes.

use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use super::server::{Server, Usage};
use super::table::{self, Row, Target};
use super::{BenchError, Shed, prepare};
use crate::files::{self, FileError};
use crate::{plugins, say};

/// Trials that train at a time, as many as the machine of the targets has cores.
const SLOTS: u32 = 2;
/// Trivial trials at a time. One does not compute but waits, mostly for the disk, so the cores
/// serve several; steps that wait together share a commit.
const TRIVIAL_SLOTS: u32 = 8;
/// How often the search is looked at.
const POLL: Duration = Duration::from_millis(500);

/// Runs `count` trials that report once and end, eight and then two at a time, and as many that
/// train `digits-mlp` for an epoch, and prints a table.
///
/// # Errors
/// The first step that fails.
pub fn run(root: &Path, count: u32) -> Result<(), BenchError> {
    let folder = tempfile::tempdir();
    let folder = folder.map_err(|error| FileError::new(Path::new("."), "made", error))?;
    let shed = prepare(root, folder.path(), "measure")?;
    let digits = root.join("plugins/digits-mlp/data/digits.csv");
    let made = shed.json(&["dataset", "create", "digits", &digits.to_string_lossy()])?;
    let dataset = made.value["id"].clone();
    let plugins = plugins::build(root)?;
    let mlp = plugins.path("digits-mlp");
    let mlp = mlp.ok_or_else(|| made.without("the plugin `digits-mlp`"))?;
    shed.json(&["plugin", "push", &mlp.to_string_lossy()])?;

    let trivial = json!([{"name": "trial", "type": "uniform", "min": 0, "max": 1}]);
    let trivial = action("measure", &dataset, &trivial, count);
    let server = Server::start(&shed, TRIVIAL_SLOTS)?;
    // What the first trials compile and fetch is not counted.
    search(&shed, &server, "warm up", &with_samples(&trivial, 20))?;
    let many = search(&shed, &server, "trivial trials, 8 at a time", &trivial)?;
    drop(server);

    let server = Server::start(&shed, SLOTS)?;
    search(&shed, &server, "warm up", &with_samples(&trivial, 20))?;
    let two = search(&shed, &server, "trivial trials, 2 at a time", &trivial)?;
    let trained = json!([
        {"name": "learning_rate", "type": "loguniform", "min": 1e-4, "max": 0.1, "base": 10},
        {"name": "epochs", "type": "constant", "value": 1},
    ]);
    let trained = action("digits-mlp", &dataset, &trained, count);
    search(&shed, &server, "warm up", &with_samples(&trained, 20))?;
    let trained = search(&shed, &server, "trained trials", &trained)?;
    table::print(&[
        Row::new(
            "a trivial trial, 8 at a time: CPU of server and agent",
            many.cpu_ms,
            "ms",
        )
        .with(Target::AtMost(3.0)),
        Row::new("of it the server's", many.server_ms, "ms"),
        Row::new("trivial trials a second", many.per_second, "/s").with(Target::AtLeast(300.0)),
        Row::new(
            "a trivial trial, 2 at a time: CPU of server and agent",
            two.cpu_ms,
            "ms",
        ),
        Row::new("of it the server's", two.server_ms, "ms"),
        Row::new("trivial trials a second", two.per_second, "/s"),
        Row::new(
            "digits-mlp, one epoch: CPU of a trial",
            trained.cpu_ms,
            "ms",
        ),
        Row::new("trials of digits-mlp a second", trained.per_second, "/s"),
    ]);
    table::print_line(&format!(
        "\nResident while digits-mlp trains, in MiB:\n\n{}",
        memory_table(&trained.memory)
    ));
    Ok(())
}

/// The first look at the memory after each tenth of the trials.
fn memory_table(memory: &[(f64, Usage)]) -> String {
    let mut lines = String::from("| trials ended | server | agent |\n|---:|---:|---:|\n");
    let mut next = 0.0;
    for (percent, usage) in memory {
        if *percent >= next {
            lines += &format!(
                "| {percent:.0} % | {:.1} | {:.1} |\n",
                usage.server, usage.agent
            );
            next = 10.0 * ((percent / 10.0).floor() + 1.0);
        }
    }
    lines
}

/// A random search with the metric that both plugins report.
fn action(plugin: &str, dataset: &Value, space: &Value, count: u32) -> Value {
    json!({
        "action": "train",
        "plugin": plugin,
        "params": {
            "name": format!("trials of {plugin}"),
            "dataset": dataset,
            "is_tune": true,
            "hyperparameters": space,
            "tune_config": {"mode": "max", "metric": "accuracy", "num_samples": count},
        },
    })
}

fn with_samples(action: &Value, count: u32) -> Value {
    let mut action = action.clone();
    action["params"]["tune_config"]["num_samples"] = json!(count);
    action
}

/// What a search took.
struct Searched {
    cpu_ms: f64,
    server_ms: f64,
    per_second: f64,
    /// Percent of the trials that had ended, and the memory then.
    memory: Vec<(f64, Usage)>,
}

/// Runs a search to its end.
fn search(
    shed: &Shed,
    server: &Server,
    name: &str,
    action: &Value,
) -> Result<Searched, BenchError> {
    say(name);
    let path = shed.folder.join("search.json");
    files::write(&path, action.to_string().as_bytes())?;
    let before = server.usage()?;
    let task = shed.json(&["submit", &path.to_string_lossy()])?;
    let id = task.value["id"].as_str().unwrap_or_default().to_owned();
    let mut memory = Vec::new();
    let task = loop {
        sleep(POLL);
        let task = shed.json(&["task", "show", &id])?;
        if let Ok(percent) = task.number("/phases/trials") {
            memory.push((percent, server.usage()?));
        }
        match task.value["status"].as_str() {
            Some("queued" | "in_progress") => {}
            Some("completed") => break task,
            _ => return Err(task.without("a search that is completed")),
        }
    };
    let late = server.usage()?;
    let count = action["params"]["tune_config"]["num_samples"].as_f64();
    let count = count.unwrap_or(f64::NAN);
    let seconds = (task.number("/completed")? - task.number("/started")?) / 1000.0;
    Ok(Searched {
        cpu_ms: (late.cpu_ms - before.cpu_ms) / count,
        server_ms: (late.server_cpu_ms - before.server_cpu_ms) / count,
        per_second: count / seconds,
        memory,
    })
}
