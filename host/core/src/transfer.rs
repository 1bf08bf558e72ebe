//! Tasks that move between servers: what is asked for, and what became of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::id::TaskId;

/// Which tasks an archive is to have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ExportRequest {
    /// A query as text, with the language of `GET /tasks`; the tasks that fit it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// These tasks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<TaskId>,
    /// Leaves out the contents of files that are only linked: the archive says where they are,
    /// and whoever takes it in has to reach them there.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub without_linked: bool,
}

/// What became of an archive that was imported.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImportedTasks {
    /// The tasks that are new, or the one that was added to.
    pub tasks: Vec<TaskId>,
    /// Tasks of the archive that were there already, and are left as they are.
    pub skipped: Vec<TaskId>,
    /// The ids that models of the archive have here, by the ids that they had.
    pub models: BTreeMap<u64, u64>,
    /// The ids that versions of data sets of the archive have here, by the ids that they had.
    pub datasets: BTreeMap<u64, u64>,
    /// Contents that were not here before.
    pub files: u64,
    /// Bytes of those contents.
    pub file_bytes: u64,
    /// What is not as it was, for people.
    pub notes: Vec<String>,
}
