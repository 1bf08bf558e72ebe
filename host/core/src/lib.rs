//! The vocabulary of trainshed: plain types, identifiers, state machines, name rules, and
//! the action model with its validation.
//!
//! Nothing here does I/O, waits, or knows another crate of ours. Start reading at
//! [`action`] (what a user submits) and [`task`] (what becomes of it).
#![warn(missing_docs)]

pub mod action;
pub mod address;
pub mod artifact;
pub mod autolog;
pub mod dataset;
pub mod digest;
pub mod draft;
pub mod error;
pub mod figure;
pub mod id;
mod labels;
pub mod limits;
pub mod manifest;
pub mod media;
pub mod model;
pub mod name;
pub mod parameter;
pub mod progress;
pub mod query;
pub mod report;
pub mod resource;
pub mod task;
pub mod text;
pub mod time;
pub mod transfer;
pub mod view;

pub use address::Address;
pub use digest::Digest;
pub use id::{AgentId, ProjectId, TaskId, WorkspaceId};
pub use time::Timestamp;
