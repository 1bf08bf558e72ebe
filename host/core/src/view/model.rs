//! Models and their lineage.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::digest::Digest;
use crate::id::TaskId;
use crate::labels;
use crate::time::Timestamp;

/// A model that is visible.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelView {
    /// The integer by which actions name it.
    pub id: u64,
    /// 32 hexadecimal digits.
    pub uuid: String,
    /// For people; of one that a plugin saved, the plugin's name for it until it is changed.
    pub name: String,
    /// The name under which a plugin saves it; absent for one that was registered.
    pub slot: Option<String>,
    /// The task that made it; absent when that was deleted or reset.
    pub task: Option<TaskId>,
    /// That task's name.
    pub task_name: Option<String>,
    /// The project it belongs to.
    pub project: Option<String>,
    /// The model that it was made from.
    pub parent: Option<u64>,
    /// The iteration at which it was saved.
    pub iteration: u64,
    /// Of its file; absent for one that is only recorded.
    pub sha256: Option<Digest>,
    /// Where its file is, when that is not the server's own store.
    pub uri: Option<String>,
    /// Length of its file; 0 for one that is only recorded.
    pub size_bytes: u64,
    /// What it is for, e.g. `PyTorch`; `trainshed` for one that a plugin saved, and
    /// `folder` where that is a zip archive of a folder.
    pub framework: String,
    /// How the network is built, in words or in a language of the framework's; left out of
    /// lists.
    pub design: String,
    /// Class names with their numbers.
    #[serde(with = "labels")]
    #[schema(value_type = HashMap<String, i64>)]
    pub labels: Vec<(String, i64)>,
    /// What is kept with it.
    pub metadata: Vec<(String, String)>,
    /// For people.
    pub comment: String,
    /// Ordered.
    pub tags: Vec<String>,
    /// `archived`, for one that is hidden.
    pub system_tags: Vec<String>,
    /// When it was published; read-only since.
    pub published: Option<Timestamp>,
    /// When it was saved or registered.
    pub created: Timestamp,
    /// When anything of it last changed.
    pub last_update: Timestamp,
}

/// Something that is kept with a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MetadataItem {
    /// Unique with the model.
    pub key: String,
    /// What the value is, e.g. `str`, `float`.
    #[serde(rename = "type", default = "text_type")]
    pub kind: String,
    /// As a text.
    pub value: String,
}

fn text_type() -> String {
    "str".to_owned()
}

/// The models of a task.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelUses {
    /// Those it reads, in the order in which they were set.
    pub input: Vec<ModelUse>,
    /// Those it made, in the order in which it made them.
    pub output: Vec<ModelUse>,
}

/// A model as a task knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelUse {
    /// The task's name for it.
    pub name: String,
    /// The model.
    pub model: ModelView,
}

/// Who made a model of what, and what was made of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LineageView {
    /// The model that was asked for.
    pub model: u64,
    /// The task that made it, with the models which that task read, and so on backwards.
    pub ancestors: Vec<LineageStep>,
    /// The tasks that read it, with the models which they made, and so on forwards.
    pub descendants: Vec<LineageStep>,
}

/// A task between models.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LineageStep {
    /// The model from which the step was taken.
    pub of: u64,
    /// The task that made it, or read it.
    pub task: TaskId,
    /// That task's name.
    pub task_name: String,
    /// The models that the task read, or made.
    pub models: Vec<u64>,
}
