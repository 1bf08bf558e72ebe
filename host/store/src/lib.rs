//! Everything durable: the tables of the database and the content-addressed files.
//!
//! One function is one statement or one transaction, and its documentation says what races
//! it decides. Nothing here knows HTTP, plugins or what an action means. Start reading at
//! [`Store::open`], then `lease.rs` for what a running task may write.
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
mod frame;
mod garbage;
mod health;
mod import;
mod interrupt;
mod lease;
mod model;
mod places;
mod plugin;
mod query;
mod registry;
mod report;
mod resource;
mod results;
mod task;
mod upload;
mod workspace;

pub use backup::{BackupCounts, BackupError, BackupInfo, backup, restore};
pub use database::{Database, Store};
pub use dataset::{DatasetError, InsertDatasetError, NewVersion};
pub use error::StoreError;
pub use file::{FileContent, LocalFile, PutError, Upload};
pub use frame::{DamagedFrame, decode_frame, encode_frame};
pub use garbage::{FILE_REFERENCES, Garbage, GarbageRules};
pub use interrupt::EndedTask;
pub use lease::{ClaimedTask, LeaseError, StopError};
pub use places::{Allowed, FileSettings};
pub use plugin::InsertPluginError;
pub use query::{Found, Part};
pub use registry::ModelError;
pub use report::MAX_SERIES;
pub use task::{BadCursor, InsertTaskError, NewTask, ParameterRow, QueryError};
pub use upload::{UploadError, UploadPart};
pub use workspace::Workspace;
