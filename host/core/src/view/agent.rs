//! Plugins, agents and what they lease.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{DatasetView, ModelView};
use crate::action::PluginRef;
use crate::digest::Digest;
use crate::draft::Script;
use crate::id::{AgentId, TaskId};
use crate::limits::LimitRequest;
use crate::manifest::Manifest;
use crate::resource::{Machine, Reading};
use crate::time::Timestamp;

/// Which component runs a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PluginSummary {
    /// Of its manifest.
    pub name: String,
    /// Of its manifest.
    pub version: String,
    /// Of the component.
    pub digest: Digest,
}

/// An installed plugin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PluginView {
    /// Of the component.
    pub digest: Digest,
    /// Length of the component.
    pub size_bytes: u64,
    /// What it says of itself.
    pub manifest: Manifest,
    /// Where it came from, as far as was known when it was pushed; left out of lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Script>,
    /// When it was pushed.
    pub created: Timestamp,
}

/// A task handed to an agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LeaseView {
    /// The task.
    pub task: TaskId,
    /// Its name, for logs.
    pub name: String,
    /// Every later call carries it; a stale one is refused.
    pub fence: i64,
    /// The lease ends unless it is renewed within this time.
    pub ttl_ms: u64,
    /// `train` or `preprocess`.
    pub action: String,
    /// The action's `params`, unchanged.
    pub params: Map<String, Value>,
    /// The settings of the action itself: `hyperparameter` or `parameters`.
    pub settings: Map<String, Value>,
    /// The seed of the run.
    pub seed: u64,
    /// Added to every iteration that the run reports.
    #[serde(default)]
    pub initial_iteration: u64,
    /// Added to the seconds of what is measured of the machine: a task that is run again goes
    /// on behind its last one.
    #[serde(default)]
    pub initial_second: u64,
    /// What the action asks for.
    pub limits: LimitRequest,
    /// Which component to run.
    pub plugin: PluginSummary,
    /// Environment variables that the plugin reads, where the agent grants them.
    pub environment: Vec<String>,
    /// The data set version, with its files and without its tables.
    pub dataset: DatasetView,
    /// The model to go on from.
    pub checkpoint: Option<ModelView>,
    /// The trial that it is, of a tune action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial: Option<TrialLease>,
}

/// A trial handed to an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TrialLease {
    /// Unique in its experiment, e.g. `2f1e9_00000`.
    pub id: String,
    /// The iteration behind which this attempt goes on; 0 unless it goes on from a checkpoint
    /// of the trial.
    pub iteration: u64,
    /// How long its former attempts ran.
    pub elapsed_ms: u64,
    /// What it takes of its agent's processors, in thousandths of one.
    pub milli_cpus: u64,
    /// What it takes of its agent's GPUs, in thousandths of one.
    pub milli_gpus: u64,
}

/// What an agent hears when it renews or reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LeaseState {
    /// Why the task is to stop; absent while it is to go on.
    pub stop: Option<String>,
}

/// An agent that registers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AgentInfo {
    /// For people, e.g. the machine's name.
    pub name: String,
    /// Whether it is a child of the server and ends with it.
    pub local: bool,
    /// What it runs on.
    #[serde(default)]
    pub machine: Option<Machine>,
    /// Processors of its machine; 0 when it does not tell.
    #[serde(default)]
    pub cpus: u32,
    /// GPUs that it can give to tasks.
    #[serde(default)]
    pub gpus: u32,
}

/// A registered agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AgentView {
    /// For its later calls.
    pub id: AgentId,
    /// As it registered.
    pub name: String,
}

/// An agent, what it does, and what its machine does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AgentDetails {
    /// As it calls itself towards the server.
    pub id: AgentId,
    /// As it registered.
    pub name: String,
    /// Whether it is a child of a server and ends with it.
    pub local: bool,
    /// When it last asked for work or registered.
    pub last_seen: Timestamp,
    /// The task that it runs.
    pub task: Option<TaskId>,
    /// What its machine did last; absent for an agent that does not measure.
    pub resources: Option<Reading>,
}

impl PluginView {
    /// The reference that names exactly this plugin.
    pub fn reference(&self) -> PluginRef {
        PluginRef::Digest(self.digest)
    }
}
