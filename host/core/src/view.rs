//! What trainshed shows of its state: made by the engine, carried by the HTTP API, read by
//! clients and agents. One set of types, so that nothing is copied between three of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::action::PluginRef;
use crate::artifact::{ArtifactMode, ArtifactType};
use crate::dataset::FileEntry;
use crate::digest::Digest;
use crate::draft::{Container, Script};
use crate::id::{AgentId, ProjectId, TaskId};
use crate::limits::LimitRequest;
use crate::manifest::Manifest;
use crate::progress::Progress;
use crate::report::{LineSource, Real};
use crate::resource::{Machine, Reading};
use crate::task::{TaskState, TaskType};
use crate::time::Timestamp;

/// A task, without what it reported.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TaskView {
    /// Never changes.
    pub id: TaskId,
    /// As submitted.
    pub name: String,
    /// The name as storage paths and filters have it.
    pub encoded_name: String,
    /// `/` separates a project from its sub-projects.
    pub project: String,
    /// What kind of work it is.
    #[serde(rename = "type")]
    pub task_type: TaskType,
    /// Where it stands.
    pub status: TaskState,
    /// Why it ended as it did; empty for a task that ended well or has not ended.
    pub status_reason: String,
    /// More about the reason, e.g. what a program said last.
    pub status_message: String,
    /// When its status last changed.
    pub status_changed: Timestamp,
    /// Whether it was asked to stop and has not ended yet.
    pub stopping: bool,
    /// The action's description.
    pub comment: String,
    /// Ordered.
    pub tags: Vec<String>,
    /// Tags with a meaning for programs, ordered: `archived`, `development`, `hidden`, `trial`.
    pub system_tags: Vec<String>,
    /// The task it came from, e.g. by cloning.
    pub parent: Option<TaskId>,
    /// Who made it, e.g. the name of a machine.
    pub creator: String,
    /// `train`, `tune` or `preprocess`; empty for a task that no plugin runs.
    pub action: String,
    /// The action's `params`, with the edited values of its draft.
    pub params: Map<String, Value>,
    /// The program of a task that no plugin runs.
    pub script: Option<Script>,
    /// The image in which it runs.
    pub container: Option<Container>,
    /// What its program keeps with it; emptied by a reset.
    pub runtime: Map<String, Value>,
    /// Where its files go; absent when they go where those of its project do.
    pub output_destination: Option<String>,
    /// What its run was made of; empty before an agent has begun it.
    pub run: RunRecord,
    /// What it read and made.
    pub models: TaskModels,
    /// Which component runs it; absent for a task that no plugin runs.
    pub plugin: Option<PluginSummary>,
    /// The data set version it reads.
    pub dataset: Option<u64>,
    /// The model it goes on from.
    pub checkpoint: Option<u64>,
    /// The seed of the run.
    pub seed: Option<u64>,
    /// What the action returned; absent before it completed.
    pub result: Option<Map<String, Value>>,
    /// Percent of the whole, 0 to 100.
    pub progress: f64,
    /// Percent of each phase.
    pub phases: Progress,
    /// Added to every iteration that its run reports.
    pub initial_iteration: u64,
    /// The greatest iteration of any point.
    pub last_iteration: u64,
    /// The queue in which it waits, or last waited.
    pub queue: Option<String>,
    /// The agent that runs or ran it.
    pub agent: Option<String>,
    /// When it was submitted.
    pub created: Timestamp,
    /// When its run began.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub completed: Option<Timestamp>,
    /// When it was published; it is read-only since.
    pub published: Option<Timestamp>,
    /// When anything of it last changed.
    pub last_update: Timestamp,
}

/// What a run was made of, beside its component, its parameters and its seed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct RunRecord {
    /// Where it ran.
    pub machine: Option<Machine>,
    /// Of the data set version that it read.
    pub dataset_digest: Option<Digest>,
    /// Of the model that it went on from.
    pub checkpoint_digest: Option<Digest>,
}

/// The models of a task, in the order in which they were linked to it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TaskModels {
    /// What it reads.
    pub input: Vec<ModelLink>,
    /// What it made.
    pub output: Vec<ModelLink>,
}

/// A model of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelLink {
    /// The task's own name for it.
    pub name: String,
    /// Its integer id.
    pub model: u64,
}

/// A configuration object of a task, without its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConfigurationView {
    /// Unique in the task.
    pub name: String,
    /// What its content is, e.g. `yaml`; nobody interprets it.
    #[serde(rename = "type")]
    pub kind: String,
    /// For people.
    pub description: String,
    /// The length of its content.
    pub size_bytes: u64,
    /// When it was last written.
    pub last_update: Timestamp,
}

/// A project.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProjectView {
    /// Never changes.
    pub id: ProjectId,
    /// Its path: `/` separates it from the projects it is in.
    pub name: String,
    /// For people.
    pub description: String,
    /// Ordered.
    pub tags: Vec<String>,
    /// Tags with a meaning for programs, ordered.
    pub system_tags: Vec<String>,
    /// Where files of its tasks go; absent when they go to the server.
    pub default_output: Option<String>,
    /// How much is kept of what its tasks report.
    pub retention: Retention,
    /// Tasks in it, without those of the projects below it.
    pub task_count: u64,
    /// When it was made.
    pub created: Timestamp,
    /// When it last changed.
    pub last_update: Timestamp,
}

/// A project to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NewProject {
    /// Its path; the projects it is in are made, too.
    pub name: String,
    /// For people.
    pub description: String,
    /// Texts to find it by.
    pub tags: Vec<String>,
    /// Texts with a meaning for programs.
    pub system_tags: Vec<String>,
    /// Where files of its tasks go.
    pub default_output: Option<String>,
    /// How much is kept of what its tasks report.
    pub retention: Retention,
}

/// Changes of a project: what is absent stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ProjectEdit {
    /// Another path: renames it, moves it, or both, with all that is below it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// All tags.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
    /// All system tags.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system_tags: Option<Vec<String>>,
    /// Where files of its tasks go; an empty text is the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_output: Option<String>,
    /// How much is kept of what its tasks report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
}

/// Which projects to list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProjectQuery {
    /// In the project of this path; those that are in none when absent.
    pub parent: Option<String>,
    /// At any depth instead of directly.
    pub children: bool,
    /// Those with the system tag `archived`, too.
    pub archived: bool,
    /// At most so many, 1 to 500.
    pub limit: u32,
    /// Where the last page said that the list goes on.
    pub after: Option<String>,
}

/// The tag by which a client knows whether a document has changed: of the bytes of `body`.
pub fn entity_tag(body: &[u8]) -> String {
    format!("\"{}\"", &Digest::of(body).to_string()[..32])
}

/// Which component runs a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PluginSummary {
    /// Of its manifest.
    pub name: String,
    /// Of its manifest.
    pub version: String,
    /// Of the component.
    pub digest: Digest,
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

/// A curve, without its points.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SeriesSummary {
    /// The chart.
    pub title: String,
    /// The curve in it.
    pub series: String,
    /// How many points were reported.
    pub count: u64,
    /// The value at the greatest iteration; the later of two.
    pub last: Real,
    /// That iteration.
    pub last_iteration: u64,
    /// The least value that is not NaN.
    pub min: Real,
    /// The first iteration that has it.
    pub min_iteration: u64,
    /// The greatest value that is not NaN.
    pub max: Real,
    /// The first iteration that has it.
    pub max_iteration: u64,
}

/// A value without a curve.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SingleValue {
    /// Its name.
    pub name: String,
    /// The last value reported.
    pub value: Real,
}

/// A part of a task's console.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConsolePage {
    /// In the order that was asked for.
    pub lines: Vec<ConsoleLine>,
    /// Lines of the whole console.
    pub total: u64,
    /// Where the next page goes on: its first line, or going backwards the line after it.
    /// Absent when nothing is left. A search may come back with few lines, or none, before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// A plot of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlotView {
    /// E.g. `confusion`.
    pub title: String,
    /// E.g. `validation`.
    pub series: String,
    /// When in the run it was made.
    pub iteration: u64,
    /// When it was reported.
    pub at: Timestamp,
    /// The length of its figure.
    pub size_bytes: u64,
    /// The Plotly figure as JSON text, where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub figure: Option<String>,
}

/// How much is kept of what tasks report; absent values are the defaults.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// Points of curves are deleted so many days after their task ended, 1 to 36,500;
    /// summaries stay. Kept for ever when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub points_days: Option<u32>,
    /// Iterations of each series of samples that are kept, 1 to 100,000; 100 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub samples: Option<u32>,
    /// Iterations of each series of plots that are kept, 1 to 100,000; 100 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plots: Option<u32>,
}

impl Retention {
    /// Iterations of a series that are kept unless a project says otherwise, as ClearML has
    /// it (`sdk.metrics.file_history_size`).
    pub const DEFAULT_ITERATIONS: u32 = 100;

    /// Iterations of each series of samples that are kept.
    pub fn sample_iterations(&self) -> u32 {
        self.samples.unwrap_or(Self::DEFAULT_ITERATIONS).max(1)
    }

    /// Iterations of each series of plots that are kept.
    pub fn plot_iterations(&self) -> u32 {
        self.plots.unwrap_or(Self::DEFAULT_ITERATIONS).max(1)
    }
}

/// One line of a console.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConsoleLine {
    /// Counts from 0.
    pub number: u64,
    /// Where it came from.
    pub source: LineSource,
    /// Without its line break.
    pub text: String,
    /// When it was written.
    pub at: Timestamp,
}

/// What a task keeps, or reads, beside metrics and models.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ArtifactView {
    /// Unique in the task, for each mode.
    pub name: String,
    /// Whether the task reads or made it.
    pub mode: ArtifactMode,
    /// Counts from 1; a name that comes again gets the next.
    pub version: u32,
    /// What its content is.
    #[serde(rename = "type")]
    pub kind: ArtifactType,
    /// Of its content; absent for one that is only recorded.
    pub sha256: Option<Digest>,
    /// Where its content is, when that is not the server's own store.
    pub uri: Option<String>,
    /// The length of its content; 0 for one that is only recorded.
    pub size_bytes: u64,
    /// As it was uploaded, e.g. `text/csv`.
    pub content_type: String,
    /// The beginning of a text, the shapes of arrays; empty where nothing is known.
    pub preview: String,
    /// Names and texts to show beside it.
    pub display: Vec<(String, String)>,
    /// When it was recorded.
    pub created: Timestamp,
    /// When a later version took its place.
    pub replaced: Option<Timestamp>,
}

/// A stored file of a task, whatever it is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TaskFile {
    /// What it is for.
    pub role: FileRole,
    /// The name of the model or artifact; `category/group/index` of a sample.
    pub name: String,
    /// Of its content.
    pub sha256: Digest,
    /// The length of its content.
    pub size_bytes: u64,
}

/// What a file of a task is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum FileRole {
    /// The weights of a model.
    Model,
    /// A reported image.
    Sample,
    /// Attached to the task.
    Artifact,
}

/// A model that is visible.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelView {
    /// The integer by which actions name it.
    pub id: u64,
    /// 32 hexadecimal digits.
    pub uuid: String,
    /// For people; of one that a plugin saved, the plugin's name for it until it is changed.
    pub name: String,
    /// The name under which a plugin saves it; absent for one that was registered.
    pub slot: Option<String>,
    /// The task that made it; absent when that was deleted or reset.
    pub task: Option<TaskId>,
    /// That task's name.
    pub task_name: Option<String>,
    /// The project it belongs to.
    pub project: Option<String>,
    /// The model that it was made from.
    pub parent: Option<u64>,
    /// The iteration at which it was saved.
    pub iteration: u64,
    /// Of its file; absent for one that is only recorded.
    pub sha256: Option<Digest>,
    /// Where its file is, when that is not the server's own store.
    pub uri: Option<String>,
    /// Length of its file; 0 for one that is only recorded.
    pub size_bytes: u64,
    /// What it is for, e.g. `PyTorch`; `trainshed` for one that a plugin saved.
    pub framework: String,
    /// How the network is built, in words or in a language of the framework's; left out of
    /// lists.
    pub design: String,
    /// Class names with their numbers.
    pub labels: Vec<(String, i64)>,
    /// What is kept with it.
    pub metadata: Vec<(String, String)>,
    /// For people.
    pub comment: String,
    /// Ordered.
    pub tags: Vec<String>,
    /// `archived`, for one that is hidden.
    pub system_tags: Vec<String>,
    /// When it was published; read-only since.
    pub published: Option<Timestamp>,
    /// When it was saved or registered.
    pub created: Timestamp,
    /// When anything of it last changed.
    pub last_update: Timestamp,
}

/// Something that is kept with a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MetadataItem {
    /// Unique with the model.
    pub key: String,
    /// What the value is, e.g. `str`, `float`.
    #[serde(rename = "type", default = "text_type")]
    pub kind: String,
    /// As a text.
    pub value: String,
}

fn text_type() -> String {
    "str".to_owned()
}

/// The models of a task.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelUses {
    /// Those it reads, in the order in which they were set.
    pub input: Vec<ModelUse>,
    /// Those it made, in the order in which it made them.
    pub output: Vec<ModelUse>,
}

/// A model as a task knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelUse {
    /// The task's name for it.
    pub name: String,
    /// The model.
    pub model: ModelView,
}

/// Who made a model of what, and what was made of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LineageView {
    /// The model that was asked for.
    pub model: u64,
    /// The task that made it, with the models which that task read, and so on backwards.
    pub ancestors: Vec<LineageStep>,
    /// The tasks that read it, with the models which they made, and so on forwards.
    pub descendants: Vec<LineageStep>,
}

/// A task between models.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LineageStep {
    /// The model from which the step was taken.
    pub of: u64,
    /// The task that made it, or read it.
    pub task: TaskId,
    /// That task's name.
    pub task_name: String,
    /// The models that the task read, or made.
    pub models: Vec<u64>,
}

/// A version of a data set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DatasetView {
    /// The integer by which actions name this version.
    pub id: u64,
    /// Of the data set: 32 hexadecimal digits, the same for all its versions.
    pub uuid: String,
    /// Of the data set.
    pub name: String,
    /// Counts from 1.
    pub number: u32,
    /// The version it was made from.
    pub parent: Option<u64>,
    /// The task that made it.
    pub task: Option<TaskId>,
    /// Over the paths and contents of its files.
    pub digest: Digest,
    /// What its maker says of it.
    pub description: String,
    /// Files in it.
    pub file_count: u64,
    /// Bytes of all its files.
    pub size_bytes: u64,
    /// For filters; ordered.
    pub tags: Vec<String>,
    /// `archived`, for one that is hidden.
    pub system_tags: Vec<String>,
    /// When it was published; read-only since.
    pub published: Option<Timestamp>,
    /// When it was made.
    pub created: Timestamp,
    /// When anything of it last changed.
    pub last_update: Timestamp,
    /// What its tables are, as whoever imported it found; left out of lists, and absent where
    /// nobody looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tables: Option<Vec<TableView>>,
    /// Its files; left out of lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<Vec<FileEntry>>,
}

/// A table of a data set version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TableView {
    /// The path of its file or folder in the data set.
    pub path: String,
    /// How many rows it has.
    pub rows: u64,
    /// Its columns, in the order of the file.
    pub columns: Vec<ColumnView>,
    /// The first rows, as texts, of the columns that can be shown.
    pub preview: Vec<Vec<String>>,
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ColumnView {
    /// Unique in its table.
    pub name: String,
    /// `integer`, `number`, `text`, `array`, `image` or `other`.
    pub kind: String,
    /// What the file holds, e.g. `i16`.
    pub element: String,
    /// The shape of one row's value; empty for numbers and texts.
    pub shape: Vec<u64>,
    /// Of numbers, and of texts that are few.
    #[serde(default)]
    pub statistics: Option<Statistics>,
}

/// What the values of a column are like.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Statistics {
    /// Values that are there and not NaN.
    pub count: u64,
    /// Values that are missing or NaN.
    pub missing: u64,
    /// The least number.
    #[serde(default)]
    pub min: Option<Real>,
    /// The greatest number.
    #[serde(default)]
    pub max: Option<Real>,
    /// The mean of the numbers.
    #[serde(default)]
    pub mean: Option<Real>,
    /// The standard deviation of the numbers.
    #[serde(default)]
    pub deviation: Option<Real>,
    /// How many different texts there are.
    #[serde(default)]
    pub distinct: Option<u64>,
}

/// What of a data set version is to be changed; what is absent stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DatasetEdit {
    /// What is said of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// For filters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
}

/// An installed plugin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PluginView {
    /// Of the component.
    pub digest: Digest,
    /// Length of the component.
    pub size_bytes: u64,
    /// What it says of itself.
    pub manifest: Manifest,
    /// Where it came from, as far as was known when it was pushed; left out of lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Script>,
    /// When it was pushed.
    pub created: Timestamp,
}

/// A task handed to an agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LeaseView {
    /// The task.
    pub task: TaskId,
    /// Its name, for logs.
    pub name: String,
    /// Every later call carries it; a stale one is refused.
    pub fence: i64,
    /// The lease ends unless it is renewed within this time.
    pub ttl_ms: u64,
    /// `train` or `preprocess`.
    pub action: String,
    /// The action's `params`, unchanged.
    pub params: Map<String, Value>,
    /// The settings of the action itself: `hyperparameter` or `parameters`.
    pub settings: Map<String, Value>,
    /// The seed of the run.
    pub seed: u64,
    /// Added to every iteration that the run reports.
    #[serde(default)]
    pub initial_iteration: u64,
    /// What the action asks for.
    pub limits: LimitRequest,
    /// Which component to run.
    pub plugin: PluginSummary,
    /// Environment variables that the plugin reads, where the agent grants them.
    pub environment: Vec<String>,
    /// The data set version, with its files.
    pub dataset: DatasetView,
    /// The model to go on from.
    pub checkpoint: Option<ModelView>,
    /// The trial that it is, of a tune action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial: Option<TrialLease>,
}

/// A trial handed to an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TrialLease {
    /// Unique in its experiment, e.g. `2f1e9_00000`.
    pub id: String,
    /// The iteration behind which this attempt goes on; 0 unless it goes on from a checkpoint
    /// of the trial.
    pub iteration: u64,
    /// How long its former attempts ran.
    pub elapsed_ms: u64,
    /// What it takes of its agent's processors, in thousandths of one.
    pub milli_cpus: u64,
    /// What it takes of its agent's GPUs, in thousandths of one.
    pub milli_gpus: u64,
}

/// A trial of a tune action.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TrialView {
    /// Counts from 0.
    pub number: u64,
    /// Unique in its experiment, e.g. `2f1e9_00000`.
    pub id: String,
    /// Its task; absent before it is first handed to an agent.
    pub task: Option<TaskId>,
    /// `PENDING`, `RUNNING`, `PAUSED`, `TERMINATED` or `ERROR`.
    pub status: String,
    /// Its configuration.
    pub config: Map<String, Value>,
    /// What it reported last, and what it returned.
    pub metrics: Map<String, Value>,
    /// The last iteration that it reported.
    pub iteration: u64,
    /// How many attempts were started.
    pub attempt: u64,
    /// How many of them failed.
    pub failures: u64,
    /// How long it has run, pauses apart.
    pub elapsed_ms: u64,
    /// When its first attempt started.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// The model that it made.
    pub model: Option<u64>,
    /// Why it ended, unless it simply ran through.
    pub reason: Option<String>,
    /// Whether it is the best so far.
    pub best: bool,
}

/// How a tune action stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TuneView {
    /// What is optimised.
    pub metric: String,
    /// `max` or `min`.
    pub mode: String,
    /// The method by which configurations are chosen.
    pub searcher: String,
    /// The method by which trials are held back or ended early.
    pub scheduler: String,
    /// The search spaces, with the steps that were chosen for them.
    #[schema(value_type = Vec<Object>)]
    pub hyperparameters: Vec<Value>,
    /// How many trials there will be, if that is limited.
    pub total: Option<u64>,
    /// How many trials there are of each status.
    pub counts: BTreeMap<String, u64>,
    /// The best trial so far.
    pub best: Option<TrialView>,
    /// Why no more trials are started, if they are not.
    pub stopped: Option<String>,
    /// What was accepted but is likely a mistake, one sentence each.
    pub warnings: Vec<String>,
    /// Grows with everything that happens to its trials.
    pub seq: u64,
}

/// An experiment to be made whose trials run elsewhere.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewExperiment {
    /// Of the task; no other that waits or runs has it.
    pub name: String,
    /// For people.
    #[serde(default)]
    pub description: Option<String>,
    /// Path of its project, which is made on the fly.
    #[serde(default)]
    pub project: Option<String>,
    /// Texts to find it by.
    #[serde(default)]
    pub tags: Vec<String>,
    /// As in a tune action.
    #[schema(value_type = Vec<Object>)]
    pub hyperparameters: Vec<Value>,
    /// As in a tune action.
    pub tune_config: Map<String, Value>,
    /// All chance comes from it; drawn when absent.
    #[serde(default)]
    pub seed: Option<u64>,
}

/// The answer to whoever asks for a trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Asked {
    /// What to run; absent when nothing can run before something else is told.
    pub trial: Option<AskedTrial>,
    /// Whether all trials have ended.
    pub finished: bool,
}

/// A trial to be run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AskedTrial {
    /// Counts from 0.
    pub number: u64,
    /// Unique in its experiment.
    pub id: String,
    /// Reports and the end carry it.
    pub attempt: u64,
    /// What to run it with.
    pub config: Map<String, Value>,
    /// The iteration behind which it goes on.
    pub iteration: u64,
    /// The checkpoint from which it goes on, as it was reported.
    pub checkpoint: Option<String>,
}

/// What a trial that runs elsewhere reports.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TrialReported {
    /// Its number.
    pub trial: u64,
    /// As it was asked.
    pub attempt: u64,
    /// Counts from 1.
    pub iteration: u64,
    /// What was measured.
    pub metrics: Map<String, Value>,
    /// What names its checkpoint, to whoever asks.
    #[serde(default)]
    pub checkpoint: Option<String>,
    /// How long it has run; since it was asked for when absent.
    #[serde(default)]
    pub elapsed_ms: Option<u64>,
}

/// How a trial that runs elsewhere ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ToldTrial {
    /// Its number.
    pub trial: u64,
    /// As it was asked.
    pub attempt: u64,
    /// `completed`, `failed` or `stopped`.
    pub state: String,
    /// What it found out; what was reported last fills in what is not there.
    #[serde(default)]
    pub metrics: Option<Map<String, Value>>,
    /// Why it failed.
    #[serde(default)]
    pub reason: Option<String>,
}

/// What an agent hears when it renews or reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LeaseState {
    /// Why the task is to stop; absent while it is to go on.
    pub stop: Option<String>,
}

/// An agent that registers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AgentInfo {
    /// For people, e.g. the machine's name.
    pub name: String,
    /// Whether it is a child of the server and ends with it.
    pub local: bool,
    /// What it runs on.
    #[serde(default)]
    pub machine: Option<Machine>,
    /// Processors of its machine; 0 when it does not tell.
    #[serde(default)]
    pub cpus: u32,
    /// GPUs that it can give to tasks.
    #[serde(default)]
    pub gpus: u32,
}

/// A registered agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AgentView {
    /// For its later calls.
    pub id: AgentId,
    /// As it registered.
    pub name: String,
}

/// An agent, what it does, and what its machine does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AgentDetails {
    /// As it calls itself towards the server.
    pub id: AgentId,
    /// As it registered.
    pub name: String,
    /// Whether it is a child of a server and ends with it.
    pub local: bool,
    /// When it last asked for work or registered.
    pub last_seen: Timestamp,
    /// The task that it runs.
    pub task: Option<TaskId>,
    /// What its machine did last; absent for an agent that does not measure.
    pub resources: Option<Reading>,
}

/// A data set version to be made of files that were uploaded before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewDataset {
    /// A data set of this name gets a new version; otherwise it is made.
    pub name: String,
    /// What its maker says of it.
    #[serde(default)]
    pub description: String,
    /// The version it was made from.
    #[serde(default)]
    pub parent: Option<u64>,
    /// At least one.
    pub files: Vec<FileEntry>,
    /// For filters.
    #[serde(default)]
    pub tags: Vec<String>,
    /// What its tables are, where whoever makes it has looked.
    #[serde(default)]
    pub tables: Option<Vec<TableView>>,
}

/// Which tasks to list.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TaskQuery {
    /// In any of these states; any state when empty.
    pub state: Vec<TaskState>,
    /// In this project or one below it.
    pub project: Option<String>,
    /// Whose name has this text in it.
    pub name: Option<String>,
    /// The trials of tune actions, too.
    pub trials: bool,
    /// At most so many, 1 to 500.
    pub limit: u32,
    /// Where the last page said that the list goes on.
    pub after: Option<String>,
}

impl PluginView {
    /// The reference that names exactly this plugin.
    pub fn reference(&self) -> PluginRef {
        PluginRef::Digest(self.digest)
    }
}

/// What nobody refers to, and was or would be removed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GarbageView {
    /// Files that no task, model, data set or plugin refers to.
    pub files: u64,
    /// Bytes of their contents.
    pub file_bytes: u64,
    /// Uploads in parts that were abandoned.
    pub uploads: u64,
    /// Bytes of their parts.
    pub upload_bytes: u64,
    /// Objects that are still to be removed, because their store did not answer.
    pub left_over: u64,
}

/// An upload that comes in parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UploadView {
    /// For its later calls.
    pub id: String,
    /// The task it is for, whose output destination it goes to.
    pub task: Option<TaskId>,
    /// The length of the whole.
    pub size_bytes: u64,
    /// The digest of the whole, as announced.
    pub sha256: Option<Digest>,
    /// The digest under which it can be read, once it is complete.
    pub stored: Option<Digest>,
    /// When it began.
    pub created: Timestamp,
    /// When its last part came.
    pub last_update: Timestamp,
    /// The parts that are there, in their order in the whole.
    pub parts: Vec<UploadPartView>,
}

/// A part of an upload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UploadPartView {
    /// As it was sent.
    pub number: u32,
    /// Where it begins in the whole.
    pub offset: u64,
    /// Its length.
    pub size_bytes: u64,
    /// Of its content: 8 hexadecimal digits.
    pub crc32c: String,
}

/// An object in an object store or folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ListedObject {
    /// Its address.
    pub uri: String,
    /// Where it lies below the address that was listed.
    pub path: String,
    /// Its length.
    pub size_bytes: u64,
}

/// A file that was made of an object elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImportedFile {
    /// Of its content.
    pub sha256: Digest,
    /// The length of its content.
    pub size_bytes: u64,
}

/// An artifact to be recorded: of an uploaded file, of another task's artifact, or of an
/// address elsewhere. Exactly one of `sha256`, `from` and `uri` is given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ArtifactRequest {
    /// One of the same name and mode becomes a former version.
    pub name: String,
    /// `output` unless given.
    #[serde(default)]
    pub mode: ArtifactMode,
    /// What its content is; by the end of the name unless given.
    #[serde(default, rename = "type")]
    pub kind: Option<ArtifactType>,
    /// Of a file that was uploaded before.
    #[serde(default)]
    pub sha256: Option<Digest>,
    /// Whose content it shares.
    #[serde(default)]
    pub from: Option<ArtifactReference>,
    /// An address that is only recorded.
    #[serde(default)]
    pub uri: Option<String>,
    /// A media type.
    #[serde(default)]
    pub content_type: Option<String>,
    /// Names and texts to show beside it.
    #[serde(default)]
    pub display: Vec<(String, String)>,
}

/// Names an artifact of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ArtifactReference {
    /// Whose it is.
    pub task: TaskId,
    /// Its name there.
    pub name: String,
}
