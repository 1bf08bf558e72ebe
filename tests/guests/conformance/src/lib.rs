//! Compares the SDK's layers, losses, optimizers, schedules, metrics and augmentation, run by
//! the host, with fixtures that PyTorch made (`tests/it/fixtures/nn.py`), and trains a model with
//! everything in it for tests of resumed runs. It also reports everything that there is to
//! report, and has a second action.

mod arrays;
mod artifacts;
mod changes;
mod layers;
mod reports;
mod resume;
mod training;
mod values;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use trainshed_sdk::{About, Category, Checkpoint, Dataset, Failure, Preprocess, Run, Train};

struct Conformance;

trainshed_sdk::export_train!(Conformance, preprocess);

/// What to do.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Settings {
    /// Checks the cases of this group in `nn.json`.
    Check(String),
    /// Trains a small model of all sorts of layers for so many epochs.
    Train(u64),
    /// Reports everything that can be reported.
    Report {},
    /// Saves a snapshot with each of these scores, of which the best two and the last stay, and a
    /// folder; or says what the folder holds that it goes on from.
    Snapshots(Vec<f64>),
    /// Puts artifacts of every kind, with this number in them, and reads them again.
    Artifacts(i64),
    /// Reads the artifacts that `Artifacts` made in the task of this id.
    ReadArtifacts(String),
}

impl Train for Conformance {
    const ABOUT: About = trainshed_sdk::about!(
        Category::Other, environment: ["GRANTED", "HIDDEN"], log_env: ["GRANTED", "ABSENT"]
    );
    const SUMMARY: &'static str =
        "Checks the SDK against fixtures, trains a small model, reports, or keeps artifacts.";
    type Hyperparameters = Settings;

    fn train(
        run: &Run,
        _dataset: &Dataset,
        settings: Settings,
        checkpoint: Option<&Checkpoint>,
    ) -> Result<Value, Failure> {
        match settings {
            Settings::Check(group) => check(&group),
            Settings::Train(epochs) => resume::train(run, checkpoint, epochs),
            Settings::Report {} => reports::report(run),
            Settings::Snapshots(scores) => artifacts::snapshots(run, checkpoint, &scores),
            Settings::Artifacts(number) => artifacts::put(run, number),
            Settings::ReadArtifacts(task) => artifacts::read(run, Some(&task)),
        }
    }
}

/// What the file of the new version holds.
#[derive(Debug, Deserialize, JsonSchema)]
struct Content {
    text: String,
}

impl Preprocess for Conformance {
    const ABOUT: About = <Self as Train>::ABOUT;
    const SUMMARY: &'static str = "Makes a version of one file.";
    type Parameters = Content;

    fn preprocess(_run: &Run, dataset: &Dataset, content: Content) -> Result<Value, Failure> {
        std::fs::create_dir("/scratch/made")?;
        std::fs::write("/scratch/made/text.txt", content.text)?;
        let made = dataset.commit_version("made", "one file")?;
        Ok(json!({ "number": made.number }))
    }
}

/// How many cases there are, and a sentence for each that failed.
fn check(group: &str) -> Result<Value, Failure> {
    let text = std::fs::read_to_string("/dataset/nn.json")?;
    let cases: Value = serde_json::from_str(&text)?;
    let cases = cases[group]
        .as_array()
        .ok_or_else(|| Failure::failed(format!("there is no group `{group}`")))?;
    let check = match group {
        "layers" => layers::check,
        "losses" => values::check_loss,
        "optimizers" => training::check,
        "schedules" => values::check_schedule,
        "augment" => changes::check,
        _ => values::check_metric,
    };
    let mut failures = Vec::new();
    for case in cases {
        let name = case["name"].as_str().unwrap_or_default();
        match check(case) {
            Ok(()) => {}
            Err(Failure::Failed(reason)) => failures.push(format!("{name}: {reason}")),
            Err(failure) => return Err(failure),
        }
    }
    Ok(json!({ "checked": cases.len(), "failures": failures }))
}
