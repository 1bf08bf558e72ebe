//! What a run is asked to do, and whom it hands its results to.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use serde_json::{Map, Value};
use trainshed_core::dataset::FileEntry;
use trainshed_core::limits::Limits;
use trainshed_core::report::Report;
use trainshed_core::view::{ArtifactRequest, ArtifactView};
use trainshed_core::{Digest, TaskId};
use trainshed_tensor::Device;

/// One run of one action.
#[derive(Debug, Clone)]
pub struct Job {
    /// The task that it belongs to.
    pub task: TaskId,
    /// The trial that it is, of a tuning experiment.
    pub trial: Option<String>,
    /// What is added to every iteration that it reports.
    pub initial_iteration: u64,
    /// All chance that the plugin sees comes from it.
    pub seed: u64,
    /// The action's whole `params` object.
    pub params: Map<String, Value>,
    /// Which export is called, with what.
    pub work: JobWork,
    /// The data set version that the action names.
    pub dataset: DatasetFiles,
    /// A folder of this run alone; `scratch/`, `outgoing/` and `incoming/` are made in it. Whoever made it
    /// removes it after the run.
    pub work_dir: PathBuf,
    /// What the run may use.
    pub limits: Limits,
    /// Where its tensor programs run.
    pub device: Device,
    /// What the host says on the console before the plugin does.
    pub notice: Option<String>,
    /// The environment variables that the plugin sees.
    pub environment: BTreeMap<String, String>,
}

/// Which export is called, with what.
#[derive(Debug, Clone)]
pub enum JobWork {
    /// `train`; of a trial `tune`, where the plugin exports it.
    Train {
        /// Given to the plugin unchanged.
        hyperparameter: Map<String, Value>,
        /// The model to go on from.
        checkpoint: Option<CheckpointFile>,
    },
    /// `preprocess`.
    Preprocess {
        /// Given to the plugin unchanged.
        parameters: Map<String, Value>,
    },
}

/// A saved model on this machine's disk.
#[derive(Debug, Clone)]
pub struct CheckpointFile {
    /// The id by which actions name it.
    pub model_id: u64,
    /// The iteration at which it was saved.
    pub iteration: u64,
    /// What the plugin that saved it wants back.
    pub metadata: Vec<(String, String)>,
    /// Its safetensors file.
    pub path: PathBuf,
}

/// A data set version on this machine's disk. Nothing may change it during the run.
#[derive(Debug, Clone)]
pub struct DatasetFiles {
    /// The id by which actions name it.
    pub id: u64,
    /// The data set's name.
    pub name: String,
    /// Versions of one data set count from 1.
    pub version: u32,
    /// Over the paths and contents of its files.
    pub digest: Digest,
    /// The folder that holds its files.
    pub dir: PathBuf,
}

/// A data set version that a task has just made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedVersion {
    /// The id by which actions will name it.
    pub id: u64,
    /// Versions of one data set count from 1.
    pub number: u32,
    /// Over the paths and contents of its files.
    pub digest: Digest,
}

/// Why a service did not take what it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// The run is to end: nothing of it will be taken any more.
    Stopped,
    /// It could not be stored; one sentence says why.
    Failed(String),
}

/// What a trial is to do after a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrialVerdict {
    /// Go on.
    Continue,
    /// Return soon. Whoever says so also asks the run to stop, so that it does.
    Stop,
}

/// Where a run hands its results. Called from the run's own thread, one call at a time; a
/// call that is still waiting when a limit ends the run is dropped.
#[async_trait]
pub trait Services: Send + Sync {
    /// Takes over one report. Waits while the host is behind, never for the network alone.
    ///
    /// # Errors
    /// See [`Refused`]. A `Failed` report ends the run, because a report may not be lost.
    async fn report(&self, report: Report) -> Result<(), Refused>;

    /// Takes in how a trial does, and says what it is to do. Waits for as long as the trial is
    /// held back. `checkpoint` names a model that was reported before. Called for trials only.
    ///
    /// # Errors
    /// See [`Refused`].
    async fn report_trial(
        &self,
        metrics: Map<String, Value>,
        checkpoint: Option<String>,
    ) -> Result<TrialVerdict, Refused>;

    /// Takes over the content of a file: model weights, an artifact, an image, or a file of a
    /// data set version. Called before the report, the record or the commit that names it. The file is not
    /// changed before this returns; those of `outgoing/` stay until the end of the run.
    ///
    /// # Errors
    /// See [`Refused`].
    async fn upload(&self, file: &Path, digest: Digest, size_bytes: u64) -> Result<(), Refused>;

    /// Records values of the plugin as parameters of a section, and gives them as the task
    /// had them before. They have been checked.
    ///
    /// # Errors
    /// See [`Refused`].
    async fn connect(
        &self,
        section: String,
        values: Map<String, Value>,
    ) -> Result<Map<String, Value>, Refused>;

    /// Records a text as a configuration object, and gives the one that the task had under
    /// this name before.
    ///
    /// # Errors
    /// See [`Refused`].
    async fn connect_text(
        &self,
        name: String,
        text: String,
        format: String,
    ) -> Result<String, Refused>;

    /// Records an artifact, whose file was uploaded before or which is a link.
    ///
    /// # Errors
    /// See [`Refused`].
    async fn put_artifact(&self, artifact: ArtifactRequest) -> Result<ArtifactView, Refused>;

    /// The artifacts that a task made, by name; the run's own without a task, and `None` when
    /// there is no such task.
    ///
    /// # Errors
    /// See [`Refused`].
    async fn artifacts(&self, task: Option<TaskId>) -> Result<Option<Vec<ArtifactView>>, Refused>;

    /// Fetches a file of the server, and says where on this machine it lies. Nothing may change
    /// it.
    ///
    /// # Errors
    /// See [`Refused`].
    async fn fetch(&self, digest: Digest) -> Result<PathBuf, Refused>;

    /// Makes a version of the run's data set of files that were uploaded before, ordered by
    /// path. It becomes visible when the task has completed.
    ///
    /// # Errors
    /// See [`Refused`].
    async fn commit_version(
        &self,
        files: Vec<FileEntry>,
        description: String,
    ) -> Result<CommittedVersion, Refused>;
}
