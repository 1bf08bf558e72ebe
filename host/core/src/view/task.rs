//! Tasks.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::PluginSummary;
use crate::digest::Digest;
use crate::draft::{Container, Script};
use crate::id::TaskId;
use crate::progress::Progress;
use crate::resource::Machine;
use crate::task::{TaskState, TaskType};
use crate::time::Timestamp;

/// A task, without what it reported.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TaskView {
    /// Never changes.
    pub id: TaskId,
    /// As submitted.
    pub name: String,
    /// The name as storage paths and filters have it.
    pub encoded_name: String,
    /// `/` separates a project from its sub-projects.
    pub project: String,
    /// What kind of work it is.
    #[serde(rename = "type")]
    pub task_type: TaskType,
    /// Where it stands.
    pub status: TaskState,
    /// Why it ended as it did; empty for a task that ended well or has not ended.
    pub status_reason: String,
    /// More about the reason, e.g. what a program said last.
    pub status_message: String,
    /// When its status last changed.
    pub status_changed: Timestamp,
    /// Whether it was asked to stop and has not ended yet.
    pub stopping: bool,
    /// The action's description.
    pub comment: String,
    /// Ordered.
    pub tags: Vec<String>,
    /// Tags with a meaning for programs, ordered: `archived`, `development`, `hidden`, `trial`.
    pub system_tags: Vec<String>,
    /// The task it came from, e.g. by cloning.
    pub parent: Option<TaskId>,
    /// Who made it, e.g. the name of a machine.
    pub creator: String,
    /// `train`, `tune` or `preprocess`; empty for a task that no plugin runs.
    pub action: String,
    /// The action's `params`, with the edited values of its draft.
    pub params: Map<String, Value>,
    /// The program of a task that no plugin runs.
    pub script: Option<Script>,
    /// The image in which it runs.
    pub container: Option<Container>,
    /// What its program keeps with it; emptied by a reset.
    pub runtime: Map<String, Value>,
    /// Where its files go; absent when they go where those of its project do.
    pub output_destination: Option<String>,
    /// What its run was made of; empty before an agent has begun it.
    pub run: RunRecord,
    /// What it read and made.
    pub models: TaskModels,
    /// Which component runs it; absent for a task that no plugin runs.
    pub plugin: Option<PluginSummary>,
    /// The data set version it reads.
    pub dataset: Option<u64>,
    /// The model it goes on from.
    pub checkpoint: Option<u64>,
    /// The seed of the run.
    pub seed: Option<u64>,
    /// What the action returned; absent before it completed.
    pub result: Option<Map<String, Value>>,
    /// Percent of the whole, 0 to 100.
    pub progress: f64,
    /// Percent of each phase.
    pub phases: Progress,
    /// Added to every iteration that its run reports.
    pub initial_iteration: u64,
    /// The greatest iteration of any point.
    pub last_iteration: u64,
    /// The queue in which it waits, or last waited.
    pub queue: Option<String>,
    /// The agent that runs or ran it.
    pub agent: Option<String>,
    /// When it was submitted.
    pub created: Timestamp,
    /// When its run began.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub completed: Option<Timestamp>,
    /// When it was published; it is read-only since.
    pub published: Option<Timestamp>,
    /// When anything of it last changed.
    pub last_update: Timestamp,
}

/// What a run was made of, beside its component, its parameters and its seed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct RunRecord {
    /// Where it ran.
    pub machine: Option<Machine>,
    /// Of the data set version that it read.
    pub dataset_digest: Option<Digest>,
    /// Of the model that it went on from.
    pub checkpoint_digest: Option<Digest>,
    /// The world of the contract that its component was built for, with the version of the
    /// contract, e.g. `trainshed:plugin/train-plugin@0.1.0`.
    pub world: Option<String>,
}

/// The models of a task, in the order in which they were linked to it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TaskModels {
    /// What it reads.
    pub input: Vec<ModelLink>,
    /// What it made.
    pub output: Vec<ModelLink>,
}

/// A model of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelLink {
    /// The task's own name for it.
    pub name: String,
    /// Its integer id.
    pub model: u64,
}

/// A configuration object of a task, without its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConfigurationView {
    /// Unique in the task.
    pub name: String,
    /// What its content is, e.g. `yaml`; nobody interprets it.
    #[serde(rename = "type")]
    pub kind: String,
    /// For people.
    pub description: String,
    /// The length of its content.
    pub size_bytes: u64,
    /// When it was last written.
    pub last_update: Timestamp,
}

/// Which tasks to list.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TaskQuery {
    /// In any of these states; any state when empty.
    pub state: Vec<TaskState>,
    /// In this project or one below it.
    pub project: Option<String>,
    /// Whose name has this text in it.
    pub name: Option<String>,
    /// The trials of tune actions, too.
    pub trials: bool,
    /// Archived tasks, too.
    pub archived: bool,
    /// At most so many, 1 to 500.
    pub limit: u32,
    /// Where the last page said that the list goes on.
    pub after: Option<String>,
}
