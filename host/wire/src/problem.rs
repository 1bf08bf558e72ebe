//! Errors of the API: RFC 9457 problem details.

use serde::{Deserialize, Serialize};
use trainshed_core::task::TaskState;
use utoipa::ToSchema;

/// An error of the API, as RFC 9457 has it; its media type is `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema, thiserror::Error)]
#[error("{detail}")]
pub struct Problem {
    /// A stable name for programs, e.g. `unknown-plugin`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What the HTTP status says.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong with which value, and what would be right.
    pub detail: String,
    /// JSON pointer of the field at fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// The character of the field's text at which it is wrong, counting from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
    /// What the user can do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Where the task stands, of `invalid-task-status`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<TaskState>,
    /// Where the task should have gone or been, of `invalid-task-status`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted: Option<TaskState>,
}
