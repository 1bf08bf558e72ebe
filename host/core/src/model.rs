//! Models: named weights that a task saved.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::digest::Digest;

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
