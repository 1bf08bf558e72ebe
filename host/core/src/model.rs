//! Models: named weights that a task saved.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::digest::Digest;
use crate::id::TaskId;
use crate::view::MetadataItem;

/// Longest design of a model, in bytes.
pub const MAX_DESIGN_BYTES: usize = 1 << 20;
/// Most labels, tags or metadata of a model.
pub const MAX_ITEMS: usize = 100_000;

/// What a task does with a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelRole {
    /// Reads it.
    Input,
    /// Made it.
    Output,
}

impl ModelRole {
    /// As the database has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Output => "output",
        }
    }
}

/// A model to be registered: a file that was uploaded, or an address that is only recorded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Registration {
    /// For people.
    pub name: String,
    /// The task that made it.
    #[serde(default)]
    pub task: Option<TaskId>,
    /// Of its file. Exactly one of this and `uri` is given.
    #[serde(default)]
    pub sha256: Option<Digest>,
    /// Where it is.
    #[serde(default)]
    pub uri: Option<String>,
    /// What it is for, e.g. `PyTorch`.
    #[serde(default)]
    pub framework: String,
    /// How the network is built.
    #[serde(default)]
    pub design: String,
    /// Class names with their numbers.
    #[serde(default)]
    pub labels: Vec<(String, i64)>,
    /// For filters.
    #[serde(default)]
    pub tags: Vec<String>,
    /// For people.
    #[serde(default)]
    pub comment: String,
    /// The iteration at which it was saved.
    #[serde(default)]
    pub iteration: u64,
    /// The model it was made from.
    #[serde(default)]
    pub parent: Option<u64>,
    /// What is kept with it.
    #[serde(default)]
    pub metadata: Vec<MetadataItem>,
}

/// What of a model is to be changed; what is absent stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelEdit {
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub framework: Option<String>,
    /// How the network is built.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub design: Option<String>,
    /// Class names with their numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Vec<(String, i64)>>,
    /// For filters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
    /// The iteration at which it was saved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iteration: Option<u64>,
    /// Where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
}

/// A model as a running task hands it over; its file has been uploaded before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SavedModel {
    /// The task's own name for it; saving again under one name replaces the former.
    pub name: String,
    /// The iteration (usually the epoch) at which it was saved.
    pub iteration: u64,
    /// Of its safetensors file.
    pub sha256: Digest,
    /// The length of that file.
    pub size_bytes: u64,
    /// Class names with their numbers.
    #[serde(default)]
    pub labels: Vec<(String, i64)>,
    /// What the plugin wants back when it goes on from this model.
    #[serde(default)]
    pub metadata: Vec<(String, String)>,
}
