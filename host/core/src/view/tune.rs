//! Experiments and their trials.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::id::TaskId;
use crate::time::Timestamp;

/// A trial of a tune action.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TrialView {
    /// Counts from 0.
    pub number: u64,
    /// Unique in its experiment, e.g. `2f1e9_00000`.
    pub id: String,
    /// Its task; absent before it is first handed to an agent.
    pub task: Option<TaskId>,
    /// `PENDING`, `RUNNING`, `PAUSED`, `TERMINATED` or `ERROR`.
    pub status: String,
    /// Its configuration.
    pub config: Map<String, Value>,
    /// What it reported last, and what it returned.
    pub metrics: Map<String, Value>,
    /// The last iteration that it reported.
    pub iteration: u64,
    /// How many attempts were started.
    pub attempt: u64,
    /// How many of them failed.
    pub failures: u64,
    /// How long it has run, pauses apart.
    pub elapsed_ms: u64,
    /// When its first attempt started.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// The model that it made.
    pub model: Option<u64>,
    /// Why it ended, unless it simply ran through.
    pub reason: Option<String>,
    /// Whether it is the best so far.
    pub best: bool,
}

/// How a tune action stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TuneView {
    /// What is optimised.
    pub metric: String,
    /// `max` or `min`.
    pub mode: String,
    /// The method by which configurations are chosen.
    pub searcher: String,
    /// The method by which trials are held back or ended early.
    pub scheduler: String,
    /// The search spaces, with the steps that were chosen for them.
    #[schema(value_type = Vec<Object>)]
    pub hyperparameters: Vec<Value>,
    /// How many trials there will be, if that is limited.
    pub total: Option<u64>,
    /// How many trials there are of each status.
    pub counts: BTreeMap<String, u64>,
    /// The best trial so far.
    pub best: Option<TrialView>,
    /// Why no more trials are started, if they are not.
    pub stopped: Option<String>,
    /// What was accepted but is likely a mistake, one sentence each.
    pub warnings: Vec<String>,
    /// Grows with everything that happens to its trials.
    pub seq: u64,
}

/// Which trial of a tune action is the best.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BestTrial {
    /// The id of the trial; null where the metric is to say it again.
    pub trial_id: Option<String>,
    /// Values of the trial's configuration: they have to be what it has.
    #[serde(flatten)]
    #[schema(additional_properties)]
    pub config: Map<String, Value>,
}

/// How a tune action that has ended goes on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResumeTune {
    /// Whether trials that failed are tried again.
    #[serde(default)]
    pub failed: bool,
}

/// An experiment to be made whose trials run elsewhere.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewExperiment {
    /// Of the task; no other that waits or runs has it.
    pub name: String,
    /// For people.
    #[serde(default)]
    pub description: Option<String>,
    /// Path of its project, which is made on the fly.
    #[serde(default)]
    pub project: Option<String>,
    /// Texts to find it by.
    #[serde(default)]
    pub tags: Vec<String>,
    /// As in a tune action.
    #[schema(value_type = Vec<Object>)]
    pub hyperparameters: Vec<Value>,
    /// As in a tune action.
    pub tune_config: Map<String, Value>,
    /// All chance comes from it; drawn when absent.
    #[serde(default)]
    pub seed: Option<u64>,
    /// The task whose clones the trials are, with parameters of it overridden: the names of
    /// hyperparameters are then those of its parameters, e.g. `Args/lr` or `General/epochs`.
    /// Agents run the trials if a plugin runs that task.
    #[serde(default)]
    pub base_task: Option<TaskId>,
}

/// The answer to whoever asks for a trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Asked {
    /// What to run; absent when nothing can run before something else is told.
    pub trial: Option<AskedTrial>,
    /// Whether all trials have ended.
    pub finished: bool,
}

/// A trial to be run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AskedTrial {
    /// Counts from 0.
    pub number: u64,
    /// Unique in its experiment.
    pub id: String,
    /// Reports and the end carry it.
    pub attempt: u64,
    /// The clone of the experiment's base task that this attempt is to run, a draft with the
    /// configuration as its parameters; absent for an experiment without a base.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskId>,
    /// What to run it with.
    pub config: Map<String, Value>,
    /// The iteration behind which it goes on.
    pub iteration: u64,
    /// The checkpoint from which it goes on, as it was reported.
    pub checkpoint: Option<String>,
}

/// What a trial that runs elsewhere reports.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TrialReported {
    /// Its number.
    pub trial: u64,
    /// As it was asked.
    pub attempt: u64,
    /// Counts from 1.
    pub iteration: u64,
    /// What was measured.
    pub metrics: Map<String, Value>,
    /// What names its checkpoint, to whoever asks.
    #[serde(default)]
    pub checkpoint: Option<String>,
    /// How long it has run; since it was asked for when absent.
    #[serde(default)]
    pub elapsed_ms: Option<u64>,
}

/// How a trial that runs elsewhere ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ToldTrial {
    /// Its number.
    pub trial: u64,
    /// As it was asked.
    pub attempt: u64,
    /// `completed`, `failed` or `stopped`.
    pub state: String,
    /// What it found out; what was reported last fills in what is not there.
    #[serde(default)]
    pub metrics: Option<Map<String, Value>>,
    /// Why it failed.
    #[serde(default)]
    pub reason: Option<String>,
}
