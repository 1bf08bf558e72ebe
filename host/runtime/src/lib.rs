//! Loads, limits and runs plugins: WebAssembly components that do nothing but call the
//! interfaces of `wit/`, which this crate implements against the small trait [`Services`].
//!
//! It will never know that a database or a network exists, and nothing that a component or
//! one of its files contains can make it panic, wait for ever or take memory without bound.
//! Start reading at [`Runtime`]; `task.rs` tells the life of one run, `imports/` what a
//! plugin can call, `wasi/` what it sees of files, clocks and chance.

mod bindings;
mod cache;
mod engine;
mod imports;
mod job;
mod limits;
mod load;
mod outcome;
mod programs;
mod readings;
mod state;
mod task;
mod wasi;
mod watch;

pub use engine::{Runtime, RuntimeConfig, RuntimeError};
pub use job::{
    CheckpointFile, CommittedVersion, DatasetFiles, Job, JobWork, Refused, Services, TrialVerdict,
};
pub use load::{LoadError, Plugin};
pub use trainshed_tensor::{Accelerator, Device};
pub use watch::{StopHandle, StopSignal, stop_pair};
