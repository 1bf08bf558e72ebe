//! Files of tasks: what was attached, and everything together.

use trainshed_core::name::{InvalidName, MAX_NAME_BYTES, is_series_name};
use trainshed_core::view::{ArtifactView, FileRole, TaskFile};
use trainshed_core::{Digest, TaskId};
use trainshed_store::{StoreError, Workspace};

use crate::engine::Engine;

/// Why a file was not attached to a task.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// The name breaks a rule.
    #[error("the artifact's name {0}")]
    Name(#[source] InvalidName),
    /// The content type is too long or has characters that a header cannot have.
    #[error("the content type must be at most {MAX_NAME_BYTES} visible ASCII characters")]
    ContentType,
    /// There is no such task.
    #[error("there is no task {0}")]
    UnknownTask(TaskId),
    /// The task is published, or the file was not uploaded.
    #[error("nothing can be attached to task {0}: it is published, or the file is gone")]
    Refused(TaskId),
    /// The store failed.
    #[error("the artifact could not be recorded")]
    Store(#[source] StoreError),
}

impl Engine {
    /// Attaches the file `digest`, which was uploaded before, to a task. An artifact of the
    /// same name is replaced.
    ///
    /// # Errors
    /// See [`ArtifactError`]; nothing was attached.
    pub async fn put_artifact(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        name: &str,
        content: (&Digest, &str),
    ) -> Result<ArtifactView, ArtifactError> {
        if !is_series_name(name) {
            let error = match name.len() {
                0 => InvalidName::Blank,
                length if length > MAX_NAME_BYTES => InvalidName::TooLong(length),
                _ => InvalidName::ControlCharacter,
            };
            return Err(ArtifactError::Name(error));
        }
        let visible = content.1.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if content.1.len() > MAX_NAME_BYTES || !visible {
            return Err(ArtifactError::ContentType);
        }
        let store = ArtifactError::Store;
        let known = self.store.task(workspace, task).await.map_err(store)?;
        if known.is_none() {
            return Err(ArtifactError::UnknownTask(task.clone()));
        }
        let put = self
            .store
            .put_artifact(workspace, task, name, content, self.now());
        if !put.await.map_err(store)? {
            return Err(ArtifactError::Refused(task.clone()));
        }
        self.changes().task_changed(workspace.id(), task);
        let artifacts = self.store.artifacts(workspace, task).await.map_err(store)?;
        let made = artifacts.into_iter().find(|artifact| artifact.name == name);
        made.ok_or_else(|| ArtifactError::Refused(task.clone()))
    }

    /// The artifacts of a task, ordered by name.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn artifacts(
        &self,
        workspace: &Workspace,
        task: &TaskId,
    ) -> Result<Option<Vec<ArtifactView>>, StoreError> {
        if self.store.task(workspace, task).await?.is_none() {
            return Ok(None);
        }
        self.store.artifacts(workspace, task).await.map(Some)
    }

    /// Every stored file of a task: its models, samples and artifacts.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn task_files(
        &self,
        workspace: &Workspace,
        task: &TaskId,
    ) -> Result<Option<Vec<TaskFile>>, StoreError> {
        let Some(artifacts) = self.artifacts(workspace, task).await? else {
            return Ok(None);
        };
        let models = self.store.models(workspace, Some(task)).await?;
        let samples = self.store.samples(workspace, task).await?;
        let models = models.into_iter().map(|model| TaskFile {
            role: FileRole::Model,
            name: model.name,
            sha256: model.sha256,
            size_bytes: model.size_bytes,
        });
        let samples = samples.into_iter().map(|sample| TaskFile {
            role: FileRole::Sample,
            name: format!("{}/{}/{}", sample.category, sample.group, sample.index),
            sha256: sample.sha256,
            size_bytes: sample.size_bytes,
        });
        let artifacts = artifacts.into_iter().map(|artifact| TaskFile {
            role: FileRole::Artifact,
            name: artifact.name,
            sha256: artifact.sha256,
            size_bytes: artifact.size_bytes,
        });
        Ok(Some(models.chain(samples).chain(artifacts).collect()))
    }
}
