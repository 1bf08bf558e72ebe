//! What trainshed shows of its state: made by the engine, carried by the HTTP API, read by
//! clients and agents. One set of types, so that nothing is copied between three of them.

mod agent;
mod artifact;
mod dataset;
mod key;
mod model;
mod project;
mod report;
mod task;
mod tune;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::digest::Digest;

pub use agent::{
    AgentDetails, AgentInfo, AgentView, LeaseState, LeaseView, PluginSummary, PluginView,
    TrialLease,
};
pub use artifact::{
    ArtifactReference, ArtifactRequest, ArtifactView, FileRole, GarbageView, ImportedFile,
    ListedObject, TaskFile, UploadPartView, UploadView,
};
pub use dataset::{ColumnView, DatasetEdit, DatasetView, NewDataset, Statistics, TableView};
pub use key::{KeyView, MadeKey, NewKey, key_id};
pub use model::{LineageStep, LineageView, MetadataItem, ModelUse, ModelUses, ModelView};
pub use project::{NewProject, ProjectEdit, ProjectQuery, ProjectView, Retention};
pub use report::{ConsoleLine, ConsolePage, PlotView, SeriesSummary, SingleValue};
pub use task::{ConfigurationView, ModelLink, RunRecord, TaskModels, TaskQuery, TaskView};
pub use tune::{
    Asked, AskedTrial, BestTrial, NewExperiment, ResumeTune, ToldTrial, TrialReported, TrialView,
    TuneView,
};

/// The tag by which a client knows whether a document has changed: of the bytes of `body`.
pub fn entity_tag(body: &[u8]) -> String {
    format!("\"{}\"", &Digest::of(body).to_string()[..32])
}

/// Some of a list, and where the rest begins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// In the order of the list.
    pub items: Vec<T>,
    /// Given back as `after`, it continues the list; absent at its end.
    pub next: Option<String>,
}

/// A page of what a query found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Results {
    /// In the order of the query: whole views, or objects of the fields that were asked for.
    #[schema(value_type = Vec<Object>)]
    pub items: Vec<Value>,
    /// Given back as `after`, it continues the list; absent at its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// All that fit the query, if that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
}
