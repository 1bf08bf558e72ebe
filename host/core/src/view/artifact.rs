//! Artifacts, uploads and files in stores.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::artifact::{ArtifactMode, ArtifactType};
use crate::digest::Digest;
use crate::id::TaskId;
use crate::time::Timestamp;

/// What a task keeps, or reads, beside metrics and models.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ArtifactView {
    /// Unique in the task, for each mode.
    pub name: String,
    /// Whether the task reads or made it.
    pub mode: ArtifactMode,
    /// Counts from 1; a name that comes again gets the next.
    pub version: u32,
    /// What its content is.
    #[serde(rename = "type")]
    pub kind: ArtifactType,
    /// Of its content; absent for one that is only recorded.
    pub sha256: Option<Digest>,
    /// Where its content is, when that is not the server's own store.
    pub uri: Option<String>,
    /// The length of its content; 0 for one that is only recorded.
    pub size_bytes: u64,
    /// As it was uploaded, e.g. `text/csv`.
    pub content_type: String,
    /// The beginning of a text, the shapes of arrays; empty where nothing is known.
    pub preview: String,
    /// Names and texts to show beside it.
    pub display: Vec<(String, String)>,
    /// When it was recorded.
    pub created: Timestamp,
    /// When a later version took its place.
    pub replaced: Option<Timestamp>,
}

/// A stored file of a task, whatever it is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TaskFile {
    /// What it is for.
    pub role: FileRole,
    /// The name of the model or artifact; `category/group/index` of a sample.
    pub name: String,
    /// Of its content.
    pub sha256: Digest,
    /// The length of its content.
    pub size_bytes: u64,
}

/// What a file of a task is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum FileRole {
    /// The weights of a model.
    Model,
    /// A reported image.
    Sample,
    /// Attached to the task.
    Artifact,
}

/// What nobody refers to, and was or would be removed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GarbageView {
    /// Files that no task, model, data set or plugin refers to.
    pub files: u64,
    /// Bytes of their contents.
    pub file_bytes: u64,
    /// Uploads in parts that were abandoned.
    pub uploads: u64,
    /// Bytes of their parts.
    pub upload_bytes: u64,
    /// Objects that are still to be removed, because their store did not answer.
    pub left_over: u64,
}

/// An upload that comes in parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UploadView {
    /// For its later calls.
    pub id: String,
    /// The task it is for, whose output destination it goes to.
    pub task: Option<TaskId>,
    /// The length of the whole.
    pub size_bytes: u64,
    /// The digest of the whole, as announced.
    pub sha256: Option<Digest>,
    /// The digest under which it can be read, once it is complete.
    pub stored: Option<Digest>,
    /// When it began.
    pub created: Timestamp,
    /// When its last part came.
    pub last_update: Timestamp,
    /// The parts that are there, in their order in the whole.
    pub parts: Vec<UploadPartView>,
}

/// A part of an upload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UploadPartView {
    /// As it was sent.
    pub number: u32,
    /// Where it begins in the whole.
    pub offset: u64,
    /// Its length.
    pub size_bytes: u64,
    /// Of its content: 8 hexadecimal digits.
    pub crc32c: String,
}

/// An object in an object store or folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ListedObject {
    /// Its address.
    pub uri: String,
    /// Where it lies below the address that was listed.
    pub path: String,
    /// Its length.
    pub size_bytes: u64,
}

/// A file that was made of an object elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImportedFile {
    /// Of its content.
    pub sha256: Digest,
    /// The length of its content.
    pub size_bytes: u64,
}

/// An artifact to be recorded: of an uploaded file, of another task's artifact, or of an
/// address elsewhere. Exactly one of `sha256`, `from` and `uri` is given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ArtifactRequest {
    /// One of the same name and mode becomes a former version.
    pub name: String,
    /// `output` unless given.
    #[serde(default)]
    pub mode: ArtifactMode,
    /// What its content is; by the end of the name unless given.
    #[serde(default, rename = "type")]
    pub kind: Option<ArtifactType>,
    /// Of a file that was uploaded before.
    #[serde(default)]
    pub sha256: Option<Digest>,
    /// Whose content it shares.
    #[serde(default)]
    pub from: Option<ArtifactReference>,
    /// An address that is only recorded.
    #[serde(default)]
    pub uri: Option<String>,
    /// A media type.
    #[serde(default)]
    pub content_type: Option<String>,
    /// What people see of the content where the server makes no preview of its own, as of
    /// Parquet; at most 4 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview: Option<String>,
    /// Names and texts to show beside it.
    #[serde(default)]
    pub display: Vec<(String, String)>,
}

/// Names an artifact of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ArtifactReference {
    /// Whose it is.
    pub task: TaskId,
    /// Its name there.
    pub name: String,
}
