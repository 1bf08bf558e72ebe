//! The HTTP API as clients see it: bodies that are not views of `trainshed_core`, errors, and
//! the typed [`Client`] that the CLI and the agents use.
//!
//! It never knows how a server does what it promises. Start reading at [`Client`].

mod client;
mod points;
mod problem;
mod reports;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use trainshed_core::dataset::FileEntry;
use trainshed_core::report::{Report, Sample};
use trainshed_core::task::Outcome;
use trainshed_core::view::{ModelUse, ModelView, SeriesSummary, SingleValue, TaskView};
use trainshed_core::{Digest, TaskId};
use utoipa::ToSchema;

pub use client::{Client, ClientError};
pub use points::{
    AllSamples, Axis, AxisValues, BadBatch, Curve, CurveColumns, Frame, FrameBuilder, MAX_STEP,
    MetricSummary, POINTS_TYPE, PointBatch, Recorded, SampledCurve, Sampling, UnknownAxis,
    read_points,
};
pub use problem::Problem;
pub use reports::{REPORTS_TYPE, encode_reports, read_reports};

/// The answer to a submitted action.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Submitted {
    /// The task that was made of it.
    pub task: TaskView,
    /// Deprecated things that were accepted, one sentence each.
    pub warnings: Vec<String>,
}

/// Curves and single values of a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Metrics {
    /// Ordered by title and series.
    pub scalars: Vec<SeriesSummary>,
    /// Ordered by name.
    pub singles: Vec<SingleValue>,
}

/// Samples of a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Samples {
    /// Ordered by category, group and index.
    pub samples: Vec<Sample>,
    /// Where the list goes on; absent at its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Which lines of a console to read; absent values ask for anything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ConsoleFilter {
    /// Forward: the first line wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// Backward: the line after the first one wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// Most lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// `asc` or `desc`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<&'static str>,
    /// A regular expression, or a text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub search: Option<String>,
    /// `debug`, `info`, `warning` or `error`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
}

/// Which samples or plots of a task to list; absent values ask for anything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ShownFilter {
    /// Only those of this title.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Only those of this series.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub series: Option<String>,
    /// Only those of this iteration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iteration: Option<u64>,
    /// Only those of the last so many iterations of their series.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<u64>,
    /// Where the last page said that the list goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// What became of reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReportedAll {
    /// Whether they had been recorded before, and were not again.
    pub repeated: bool,
}

/// The models of a task or a workspace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Models {
    /// Newest first.
    pub models: Vec<ModelView>,
    /// Given back as `after`, it gives the models that follow; null when there are none.
    #[serde(default)]
    pub next: Option<u64>,
}

/// Asks which files the server does not have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FileQuery {
    /// At most 100,000.
    pub sha256: Vec<Digest>,
}

/// The files that the server does not have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MissingFiles {
    /// In the order in which they were asked for.
    pub missing: Vec<Digest>,
}

/// A call that may wait for something to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Wait {
    /// At most 30,000; 0 answers at once.
    pub wait_ms: u64,
}

/// Moves a task to another state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MoveRequest {
    /// Becomes the status reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// More about the reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Lifts the rules of states, but not those of published tasks.
    pub force: bool,
    /// For `enqueue`: the id of the queue, or else `queue_name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// For `enqueue`: the name of the queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_name: Option<String>,
}

/// Does the same with many tasks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ManyTasks {
    /// 1 to 1,000.
    pub ids: Vec<String>,
    /// Becomes the status reason of each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// More about the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Lifts the rules of states, but not those of published tasks.
    #[serde(default)]
    pub force: bool,
    /// For `enqueue`: the id of the queue, or else `queue_name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// For `enqueue`: the name of the queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_name: Option<String>,
}

impl ManyTasks {
    /// The same request for each of `ids`.
    pub fn new(ids: Vec<String>, request: MoveRequest) -> Self {
        let MoveRequest {
            reason,
            message,
            force,
            queue,
            queue_name,
        } = request;
        Self {
            ids,
            reason,
            message,
            force,
            queue,
            queue_name,
        }
    }

    /// The tasks, and what is asked of each.
    pub fn into_parts(self) -> (Vec<String>, MoveRequest) {
        let request = MoveRequest {
            reason: self.reason,
            message: self.message,
            force: self.force,
            queue: self.queue,
            queue_name: self.queue_name,
        };
        (self.ids, request)
    }
}

/// What became of each of many tasks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MovedMany {
    /// In the order in which they were asked for.
    pub succeeded: Vec<String>,
    /// In the order in which they were asked for.
    pub failed: Vec<FailedMove>,
}

/// A task of many with which something was wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FailedMove {
    /// As it was asked for.
    pub id: String,
    /// What the call for it alone would have answered.
    pub error: Problem,
}

/// Moves a task to a project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MoveTo {
    /// Path of the project; it is made if it is not there.
    pub project: String,
}

/// How far a task has come.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewProgress {
    /// 0 to 100.
    pub progress: f64,
}

/// Whether a task runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Alive {
    /// False tells its program to end.
    pub running: bool,
}

/// Puts all that is in a project into another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MergeInto {
    /// Id or path of the other project.
    pub into: String,
}

/// What became of the tasks of a deleted project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeletedProject {
    /// Now in the other project.
    pub tasks_moved: usize,
    /// Gone.
    pub tasks_deleted: usize,
}

/// Values of a plugin that are to be connected with parameters of its task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Connect {
    /// The section of the parameters.
    pub section: String,
    /// Keys of nested objects are joined by `/`.
    pub values: Map<String, Value>,
}

/// Connected values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Connected {
    /// As the task had them before, in the form in which they were given.
    pub values: Map<String, Value>,
}

/// A text of a plugin that is to be connected with a configuration object of its task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConnectText {
    /// Of the configuration object.
    pub name: String,
    /// What the task gets unless it has one of the name.
    pub text: String,
    /// What kind of text it is, e.g. `yaml`.
    pub format: String,
}

/// A connected text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConnectedText {
    /// As the task had it before.
    pub text: String,
}

/// The files of a data set version that a task makes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CommitVersion {
    /// They have been uploaded before.
    pub files: Vec<FileEntry>,
    /// What the plugin says of it.
    pub description: String,
}

/// The end of a task's run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Finish {
    /// How it ended.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// What it reported last, without points.
    #[serde(default)]
    pub reports: Vec<Report>,
}

/// Begins an upload in parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewUpload {
    /// The length of the whole.
    pub size_bytes: u64,
    /// The digest of the whole, where it is known.
    #[serde(default)]
    pub sha256: Option<Digest>,
    /// The task whose output it is.
    #[serde(default)]
    pub task: Option<TaskId>,
}

/// A file as it was stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Stored {
    /// Of its content.
    pub sha256: Digest,
    /// The length of its content.
    pub size_bytes: u64,
}

/// Asks to make a file of an object elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportRequest {
    /// Its address.
    pub uri: String,
    /// Whether it stays where it is and is only recorded.
    #[serde(default)]
    pub link: bool,
}

/// Asks to remove what nobody refers to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GarbageRequest {
    /// Only count it.
    #[serde(default)]
    pub dry_run: bool,
    /// Keep files that were uploaded or asked for within this time; a day unless given.
    #[serde(default)]
    pub keep_ms: Option<u64>,
    /// Keep uploads in parts for which something came within this time; a week unless given.
    #[serde(default)]
    pub keep_uploads_ms: Option<u64>,
}

/// The models of a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelsOfTask {
    /// Those that it made, newest first.
    pub models: Vec<ModelView>,
    /// Those that it reads, by the names that it has for them.
    pub input: Vec<ModelUse>,
    /// Those that it made, by the names that it has for them, in the order in which it made
    /// them.
    pub output: Vec<ModelUse>,
}

/// Makes a model an input of a draft.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InputModel {
    /// Its id.
    pub model: u64,
}

/// How a model is published.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PublishModel {
    /// Whether the task that made it is published too.
    #[serde(default)]
    pub with_task: bool,
}
