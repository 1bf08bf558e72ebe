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

mod again;
mod artifact;
mod backup;
mod batch;
mod change;
mod configuration;
mod console;
mod database;
mod dataset;
mod edit;
mod error;
mod experiment;
mod file;
mod garbage;
mod health;
mod idempotency;
mod import;
mod interrupt;
mod lease;
mod lifecycle;
mod media;
mod model;
mod parameter;
mod places;
mod plugin;
mod points;
mod project;
mod query;
mod registry;
mod report;
mod reset;
mod resource;
mod results;
mod rows;
mod tag;
mod task;
mod transfer;
mod upload;
mod workspace;

pub use again::ContinueError;
pub use backup::{BackupCounts, BackupError, BackupInfo, backup, restore};
pub use change::{ChangeError, ChangeRules};
pub use configuration::NewConfiguration;
pub use console::ConsoleQuery;
pub use database::{Database, Store};
pub use dataset::{DatasetError, InsertDatasetError, NewVersion};
pub use error::StoreError;
pub use experiment::{
    Cause, Checkpoint, EndOfExperiment, ExperimentEnd, LostTrial, Place, QueuedStep, StartedTrial,
    Step, StepError, TrialChange, TrialCheckpoint, TrialClone, TrialOf, Waiting,
};
pub use file::{FileContent, LocalFile, PutError, Upload};
pub use garbage::{FILE_REFERENCES, Garbage, GarbageRules};
pub use idempotency::{KeyedRequest, NotedAnswer, StoredAnswer, beside_request, within_request};
pub use interrupt::EndedTask;
pub use lease::{ClaimedTask, EndOfRun, LeaseError};
pub use lifecycle::{Move, QueueName};
pub use media::{MAX_SHOWN, ShownQuery};
pub use model::{ListPart, ModelList};
pub use parameter::WriteMode;
pub use places::{Allowed, FileSettings};
pub use plugin::InsertPluginError;
pub use points::MAX_SERIES;
pub use points::curves::{CurvePage, SampleQuery};
pub use points::ingest::{AppendError, Appended};
pub use project::ProjectError;
pub use query::{Found, Part};
pub use registry::ModelError;
pub use report::{ProgramReports, ReportError, Reported};
pub use task::{BadCursor, InsertTaskError, NewTask, NewWork, QueryError};
pub use trainshed_series::{
    Axis, Batch as PointBatch, Frame, MAX_EXTRA_BYTES, MAX_FRAME_POINTS, Sampled, Sampling,
};
pub use transfer::{ExportCounts, Staged, TransferError};
pub use upload::{UploadError, UploadPart};
pub use workspace::{KeyError, Workspace};
