//! Boosted trees in the sandbox and outside: code of the plugin's own, not the host's.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::table::{self, Row, Target};
use super::{BenchError, Printed, build, fastest, prepare};
use crate::files::{self, FileError};
use crate::say;

/// How often each is measured, in turns. The fastest counts.
const ROUNDS: usize = 9;
/// Rounds of boosting, of ten trees each.
const BOOSTING_ROUNDS: u32 = 100;

/// Boosts trees on the digits with the plugin `tabular-gbt` and with the same code built for
/// this processor, and prints a table.
///
/// # Errors
/// The first step that fails.
pub fn run(root: &Path) -> Result<(), BenchError> {
    let folder = tempfile::tempdir();
    let folder = folder.map_err(|error| FileError::new(Path::new("."), "made", error))?;
    let shed = prepare(root, folder.path(), "tabular-gbt")?;
    let example = ["--package", "tabular-gbt", "--example", "native"];
    let manifest = ["--manifest-path", "plugins/Cargo.toml"];
    build(root, &[&example[..], &manifest].concat())?;
    let digits = root.join("plugins/digits-mlp/data/digits.csv");
    let made = shed.json(&["dataset", "create", "digits", &digits.to_string_lossy()])?;
    let action = shed.folder.join("trees.json");
    let text = json!({
        "action": "train",
        "plugin": "tabular-gbt",
        "params": {
            "name": "boosted trees",
            "dataset": made.value["id"],
            "checkpoint": null,
            "is_tune": false,
            "hyperparameter": {
                "objective": "classification",
                "rounds": BOOSTING_ROUNDS,
                "patience": 0,
                "save_every": 0,
            },
        },
    });
    files::write(&action, text.to_string().as_bytes())?;

    let (mut plugin, mut native) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        say(&format!("Boosting, round {round} of {ROUNDS}"));
        let task = shed.json(&["run", &action.to_string_lossy()])?;
        let id = task.value["id"].as_str().unwrap_or_default();
        plugin.push(single(
            &shed.json(&["task", "metrics", id])?,
            "boosting ms",
        )?);
        let mut example = Command::new(root.join("target/release/examples/native"));
        let arguments = [&BOOSTING_ROUNDS.to_string(), "1"];
        let printed = Printed::by(example.arg(&digits).args(arguments))?;
        native.push(printed.number("/boosting_ms")?);
    }
    let (plugin, native) = (fastest(&plugin), fastest(&native));
    table::print(&[
        Row::new("1000 boosted trees, in the sandbox", plugin, "ms"),
        Row::new("1000 boosted trees, the same code outside", native, "ms"),
        Row::new("sandbox / outside", plugin / native, "").with(Target::AtMost(1.50)),
    ]);
    Ok(())
}

/// The value that a task reported under this name.
fn single(metrics: &Printed, name: &str) -> Result<f64, BenchError> {
    let singles = metrics.value["singles"].as_array();
    let mut singles = singles.into_iter().flatten();
    let found = singles.find(|single| single["name"] == name);
    let value = found.and_then(|single| single["value"].as_f64());
    value.ok_or_else(|| metrics.without(&format!("the value `{name}`")))
}
