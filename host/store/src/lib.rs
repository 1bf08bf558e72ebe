//! Everything durable: the tables of the database and the content-addressed files.
//!
//! One function is one statement or one transaction, and its documentation says what races
//! it decides. Nothing here knows HTTP, plugins or what an action means. Start reading at
//! [`Store::open`], then `lease.rs` for what a running task may write and `points/` for what
//! becomes of measurements.
//!
//! Reads see what was committed before they began. There is one writing connection, so
//! writes wait for each other and never fail because another one is under way.
#![warn(missing_docs)]

mod artifact;
mod backup;
mod database;
mod dataset;
mod error;
mod file;
mod health;
mod interrupt;
mod lease;
mod model;
mod plugin;
mod points;
mod query;
mod report;
mod resource;
mod results;
mod task;
mod workspace;

pub use backup::{BackupCounts, BackupError, BackupInfo, backup, restore};
pub use database::{Database, Store};
pub use dataset::{InsertDatasetError, NewVersion};
pub use error::StoreError;
pub use file::{FileContent, PutError};
pub use interrupt::EndedTask;
pub use lease::{ClaimedTask, LeaseError, StopError};
pub use plugin::InsertPluginError;
pub use points::MAX_SERIES;
pub use points::curves::{CurvePage, SampleQuery};
pub use points::ingest::{AppendError, Appended};
pub use query::{Found, Part};
pub use task::{BadCursor, InsertTaskError, NewTask, ParameterRow, QueryError};
pub use trainshed_series::{Axis, Batch as PointBatch, MAX_EXTRA_BYTES, Sampled, Sampling};
pub use workspace::Workspace;
