//! What a trainshed plugin written in Rust is made of.
//!
//! A plugin is a `cdylib` with one type that implements [`Train`] or [`Preprocess`] and
//! one line that exports it:
//!
//! ```no_run
//! use trainshed_sdk::{About, Category, Checkpoint, Dataset, Failure, Run, Train};
//!
//! struct Constant;
//!
//! #[derive(serde::Deserialize, schemars::JsonSchema)]
//! struct Settings {
//!     /// The number to report.
//!     value: f64,
//! }
//!
//! impl Train for Constant {
//!     const ABOUT: About = trainshed_sdk::about!(Category::Other);
//!     const SUMMARY: &'static str = "Reports a number.";
//!     type Hyperparameters = Settings;
//!
//!     fn train(
//!         run: &Run,
//!         _dataset: &Dataset,
//!         settings: Settings,
//!         _checkpoint: Option<&Checkpoint>,
//!     ) -> Result<serde_json::Value, Failure> {
//!         run.report_single("value", settings.value)?;
//!         Ok(serde_json::json!({ "value": settings.value }))
//!     }
//! }
//!
//! trainshed_sdk::export_train!(Constant);
//! ```
//!
//! The plugin holds the control flow; tensors live in the host. Ordinary-looking code
//! over [`graph::Var`] records a program, which the host checks, compiles and runs:
//! [`trainer::Trainer`] makes a whole training step of a model, a loss and an optimizer,
//! one crossing into the host for each. [`nn`] holds the layers, losses,
//! optimizers and schedules, [`metrics`] what models are judged by.
//!
//! The SDK never opens a socket, starts a thread or reads a clock, and takes randomness
//! only from the run's seed ([`rng`]): the same action on the same data gives the same
//! result on every machine.
//!
//! Start reading at [`Train`], then [`trainer`]; `plugins/digits-mlp` is a whole plugin.

#![deny(missing_docs, unsafe_code)]

pub mod artifact;
pub mod augment;
#[doc(hidden)]
#[expect(unsafe_code, reason = "the canonical ABI is pointers and lengths")]
#[allow(
    unreachable_pub,
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::str_to_string,
    clippy::uninlined_format_args,
    clippy::unwrap_used,
    reason = "generated"
)]
pub mod bindings;
pub mod checkpoint;
pub mod compute;
pub mod dataset;
mod error;
pub mod failure;
pub mod graph;
pub mod image;
pub mod metrics;
pub mod nn;
pub mod plot;
pub mod plugin;
pub mod rng;
pub mod run;
pub mod tensor;
pub mod trainer;

pub use checkpoint::{Checkpoint, Keep, ModelDetails};
pub use dataset::{Dataset, Table};
pub use error::{
    ArtifactError, CheckpointError, DatasetError, ModelError, ProgramError, ReportError,
};
pub use failure::Failure;
pub use plugin::{About, Category, Preprocess, Train, Tune};
pub use run::Run;
pub use tensor::{DType, Tensor};
