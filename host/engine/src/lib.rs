//! The use cases: submit an action, lease a task, report, finish, stop, push a plugin, make a
//! data set, read what is there.
//!
//! Nothing here knows HTTP, SQL or WebAssembly. State lives in the store alone, so any number
//! of engines may come to share one; what an engine holds in memory are hints that wake those
//! who wait. Start reading at [`Engine::submit`], then [`Engine::lease`], [`Engine::report`]
//! and [`Engine::finish`].
#![warn(missing_docs)]

mod artifact;
mod ask;
mod base;
mod catalog;
mod engine;
mod event;
mod files;
mod lease;
mod lifecycle;
mod models;
mod parameters;
mod points;
mod preview;
mod projects;
mod query;
mod read;
mod reports;
mod resource;
mod submit;
mod transfer;
mod trials;
mod tune;
mod validate;
mod version;

pub use artifact::ArtifactError;
pub use ask::AskError;
pub use catalog::{EditError, InspectError, Inspector, PushError, VersionError};
pub use engine::{Engine, EngineConfig, Holder, OpenError, OpenedStore};
pub use event::Event;
pub use files::{AddressError, NewUpload, TakeError};
pub use lifecycle::DraftError;
pub use models::RegistryError;
pub use projects::ProjectChangeError;
pub use query::{Export, ExportContent, ExportFailure, default_fields};
pub use read::MAX_ALL_SAMPLES;
pub use reports::ReportsError;
pub use resource::ReadingError;
pub use submit::SubmitError;
pub use trainshed_export::Format;
pub use trainshed_store::{
    Allowed, AppendError, Appended, Axis, BackupCounts, BackupError, BadCursor, ChangeError,
    ChangeRules, ConsoleQuery, CurvePage, Database, DatasetError, EndOfRun, FileContent,
    FileSettings, GarbageRules, KeyError, KeyedRequest, LeaseError, ListPart, ModelError,
    ModelList, Move, NewConfiguration, PointBatch, ProjectError, PutError, QueryError, QueueName,
    ReportError, Reported, SampleQuery, Sampled, Sampling, ShownQuery, StoreError, StoredAnswer,
    TransferError, UploadError, UploadPart, Workspace, WriteMode, backup, beside_request, restore,
    within_request,
};
pub use trainshed_tune::experiment::Refusal;
pub use transfer::{AddTo, ExportTasksError};
pub use trials::TuneError;
pub use tune::warnings;
