//! Artifacts of tasks, and all files of tasks together.

use trainshed_core::address::is_uri;
use trainshed_core::artifact::{
    ArtifactContent, ArtifactMode, ArtifactType, MAX_PREVIEW_BYTES, NewArtifact,
};
use trainshed_core::name::{InvalidName, MAX_NAME_BYTES, is_series_name};
use trainshed_core::view::{ArtifactRequest, ArtifactView, FileRole, TaskFile};
use trainshed_core::{Digest, TaskId};
use trainshed_store::{LeaseError, StoreError, Workspace};

use crate::engine::Engine;
use crate::preview::preview;

/// Files up to this length are looked into for a preview where that needs all of them.
const MAX_PREVIEWED_BYTES: u64 = 64 << 20;
/// Most names and texts beside an artifact, and most bytes of each.
const MAX_DISPLAY: usize = 100;
const MAX_DISPLAY_BYTES: usize = 4096;

/// Why an artifact was not recorded, or not forgotten.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// The name breaks a rule.
    #[error("the artifact's name {0}")]
    Name(#[source] InvalidName),
    /// The content type is too long or has characters that a header cannot have.
    #[error("the content type must be at most {MAX_NAME_BYTES} visible ASCII characters")]
    ContentType,
    /// None, or more than one, of the three.
    #[error("exactly one of `sha256`, `from` and `uri` must say where the content is")]
    Source,
    /// Not an address.
    #[error(
        "`{0}` is no address: it must begin with a scheme, e.g. `https://`, or be an absolute path"
    )]
    Uri(String),
    /// A link with a stored file, or an address that is no link.
    #[error("the type `link` is for `uri`, and only for it")]
    Link,
    /// Too much beside it.
    #[error("display must have at most {MAX_DISPLAY} pairs of at most {MAX_DISPLAY_BYTES} bytes")]
    Display,
    /// Too long a preview.
    #[error("preview must have at most {MAX_PREVIEW_BYTES} bytes, but it has {0}")]
    Preview(usize),
    /// There is no such task.
    #[error("there is no task {0}")]
    UnknownTask(TaskId),
    /// There is no such artifact.
    #[error("task {task} has no artifact `{name}`")]
    UnknownArtifact {
        /// Where it was looked for.
        task: TaskId,
        /// As asked for.
        name: String,
    },
    /// The file was not uploaded.
    #[error("the file {0} has not been uploaded")]
    MissingFile(Digest),
    /// The task is published.
    #[error("task {0} is published: its artifacts are read-only")]
    Refused(TaskId),
    /// The lease is over.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// The store failed.
    #[error("the artifact could not be recorded")]
    Store(#[from] StoreError),
}

impl ArtifactError {
    /// JSON pointer of the field at fault in an [`ArtifactRequest`].
    pub fn pointer(&self) -> Option<&'static str> {
        match self {
            Self::Name(_) => Some("/name"),
            Self::ContentType => Some("/content_type"),
            Self::Uri(_) => Some("/uri"),
            Self::Link => Some("/type"),
            Self::Display => Some("/display"),
            Self::Preview(_) => Some("/preview"),
            Self::UnknownArtifact { .. } => Some("/from"),
            Self::MissingFile(_) => Some("/sha256"),
            _ => None,
        }
    }
}

impl Engine {
    /// Records an artifact of a task. One of the same name and mode becomes a former version,
    /// unless it is the same: then nothing changes.
    ///
    /// # Errors
    /// See [`ArtifactError`]; nothing was recorded.
    pub async fn put_artifact(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        asked: ArtifactRequest,
    ) -> Result<ArtifactView, ArtifactError> {
        check_request(&asked)?;
        if self.store.task(workspace, task).await?.is_none() {
            return Err(ArtifactError::UnknownTask(task.clone()));
        }
        let artifact = self.resolve(workspace, asked).await?;
        let put = self
            .store
            .put_artifact(workspace, task, &artifact, self.now());
        let is_there = put.await?;
        self.recorded(workspace, task, &artifact, is_there).await
    }

    /// As [`Engine::put_artifact`], of a running task under its lease.
    ///
    /// # Errors
    /// See [`ArtifactError`]; nothing was recorded.
    pub async fn put_leased_artifact(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        fence: i64,
        asked: ArtifactRequest,
    ) -> Result<ArtifactView, ArtifactError> {
        check_request(&asked)?;
        let artifact = self.resolve(workspace, asked).await?;
        let (until, now) = (self.lease_until(), self.now());
        let lease = (task, fence);
        let put = self
            .store
            .put_leased_artifact(workspace, lease, &artifact, until, now);
        let is_there = put.await?;
        self.recorded(workspace, task, &artifact, is_there).await
    }

    /// The artifact that was recorded, or why it was not.
    async fn recorded(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        artifact: &NewArtifact,
        is_there: bool,
    ) -> Result<ArtifactView, ArtifactError> {
        if !is_there {
            let ArtifactContent::Stored(digest) = &artifact.content else {
                return Err(ArtifactError::Refused(task.clone()));
            };
            let size = self.store.file_size(workspace, digest).await?;
            return Err(match size {
                None => ArtifactError::MissingFile(*digest),
                Some(_) => ArtifactError::Refused(task.clone()),
            });
        }
        self.changes().task_changed(workspace.id(), task);
        self.artifact(workspace, task, &artifact.name, artifact.mode, None)
            .await
    }

    /// Finds out what is asked for: content, type and preview.
    async fn resolve(
        &self,
        workspace: &Workspace,
        asked: ArtifactRequest,
    ) -> Result<NewArtifact, ArtifactError> {
        let mut artifact = NewArtifact {
            kind: asked
                .kind
                .unwrap_or_else(|| ArtifactType::of_name(&asked.name)),
            name: asked.name,
            mode: asked.mode,
            content: ArtifactContent::Elsewhere(String::new()),
            content_type: asked
                .content_type
                .unwrap_or_else(|| "application/octet-stream".to_owned()),
            preview: String::new(),
            display: asked.display,
        };
        if let Some(uri) = asked.uri {
            artifact.kind = ArtifactType::Link;
            artifact.preview.clone_from(&uri);
            artifact.content = ArtifactContent::Elsewhere(uri);
            return Ok(artifact);
        }
        if let Some(from) = asked.from {
            let other = self
                .artifact(
                    workspace,
                    &from.task,
                    &from.name,
                    ArtifactMode::Output,
                    None,
                )
                .await?;
            artifact.kind = other.kind;
            artifact.content_type = other.content_type;
            artifact.preview = other.preview;
            artifact.content = match (other.sha256, other.uri) {
                (Some(digest), _) => ArtifactContent::Stored(digest),
                (None, uri) => ArtifactContent::Elsewhere(uri.unwrap_or_default()),
            };
            return Ok(artifact);
        }
        let digest = asked.sha256.ok_or(ArtifactError::Source)?;
        let size = self.store.file_size(workspace, &digest).await?;
        let size = size.ok_or(ArtifactError::MissingFile(digest))?;
        if size <= MAX_PREVIEWED_BYTES
            && let Some(file) = self.store.local_file(workspace, &digest).await?
        {
            let (kind, content_type) = (artifact.kind, artifact.content_type.clone());
            let made =
                tokio::task::spawn_blocking(move || preview(kind, &content_type, file.path()));
            // A preview that could not be made is none.
            artifact.preview = made.await.unwrap_or_default();
        }
        if artifact.preview.is_empty() {
            artifact.preview = asked.preview.unwrap_or_default();
        }
        artifact.content = ArtifactContent::Stored(digest);
        Ok(artifact)
    }

    /// An artifact of a task: its last version, or the one that is asked for.
    ///
    /// # Errors
    /// When there is no such task or artifact.
    pub async fn artifact(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        name: &str,
        mode: ArtifactMode,
        version: Option<u32>,
    ) -> Result<ArtifactView, ArtifactError> {
        let all = self.artifacts(workspace, task, version.is_some()).await?;
        let all = all.ok_or_else(|| ArtifactError::UnknownTask(task.clone()))?;
        let wanted = |artifact: &ArtifactView| {
            artifact.name == name
                && artifact.mode == mode
                && version.is_none_or(|version| artifact.version == version)
        };
        let found = all.into_iter().find(wanted);
        found.ok_or_else(|| ArtifactError::UnknownArtifact {
            task: task.clone(),
            name: name.chars().take(MAX_NAME_BYTES).collect(),
        })
    }

    /// Forgets an artifact with its former versions.
    ///
    /// # Errors
    /// When there is none, or the task is published.
    pub async fn delete_artifact(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        name: &str,
        mode: ArtifactMode,
    ) -> Result<(), ArtifactError> {
        self.artifact(workspace, task, name, mode, None).await?;
        let gone = self.store.delete_artifact(workspace, task, name, mode);
        if !gone.await? {
            return Err(ArtifactError::Refused(task.clone()));
        }
        self.changes().task_changed(workspace.id(), task);
        Ok(())
    }

    /// The artifacts of a task by name; with `history`, former versions too.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn artifacts(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        history: bool,
    ) -> Result<Option<Vec<ArtifactView>>, StoreError> {
        if self.store.task(workspace, task).await?.is_none() {
            return Ok(None);
        }
        self.store
            .artifacts(workspace, task, history)
            .await
            .map(Some)
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
        let Some(artifacts) = self.artifacts(workspace, task, false).await? else {
            return Ok(None);
        };
        let models = self.store.models(workspace, Some(task)).await?;
        let samples = self.store.samples(workspace, task).await?;
        let models = models.into_iter().filter_map(|model| {
            Some(TaskFile {
                role: FileRole::Model,
                sha256: model.sha256?,
                name: model.name,
                size_bytes: model.size_bytes,
            })
        });
        let samples = samples.into_iter().filter_map(|sample| {
            Some(TaskFile {
                role: FileRole::Sample,
                name: format!("{}/{}/{}", sample.category, sample.group, sample.index),
                sha256: sample.sha256?,
                size_bytes: sample.size_bytes,
            })
        });
        let artifacts = artifacts.into_iter().filter_map(|artifact| {
            Some(TaskFile {
                role: FileRole::Artifact,
                sha256: artifact.sha256?,
                name: artifact.name,
                size_bytes: artifact.size_bytes,
            })
        });
        Ok(Some(models.chain(samples).chain(artifacts).collect()))
    }
}

fn check_request(asked: &ArtifactRequest) -> Result<(), ArtifactError> {
    if !is_series_name(&asked.name) {
        return Err(ArtifactError::Name(match asked.name.len() {
            0 => InvalidName::Blank,
            length if length > MAX_NAME_BYTES => InvalidName::TooLong(length),
            _ => InvalidName::ControlCharacter,
        }));
    }
    let content_type = asked.content_type.as_deref().unwrap_or_default();
    let visible = content_type
        .bytes()
        .all(|byte| (b' '..=b'~').contains(&byte));
    if content_type.len() > MAX_NAME_BYTES || !visible {
        return Err(ArtifactError::ContentType);
    }
    let sources = [
        asked.sha256.is_some(),
        asked.from.is_some(),
        asked.uri.is_some(),
    ];
    if sources.iter().filter(|given| **given).count() != 1 {
        return Err(ArtifactError::Source);
    }
    if let Some(uri) = asked.uri.as_ref().filter(|uri| !is_uri(uri)) {
        return Err(ArtifactError::Uri(
            uri.chars().take(MAX_NAME_BYTES).collect(),
        ));
    }
    let is_link = asked.kind == Some(ArtifactType::Link);
    if asked.kind.is_some() && asked.from.is_none() && is_link != asked.uri.is_some() {
        return Err(ArtifactError::Link);
    }
    let too_long = |(name, text): &(String, String)| {
        name.len() > MAX_DISPLAY_BYTES || text.len() > MAX_DISPLAY_BYTES
    };
    let preview = asked.preview.as_ref().map_or(0, String::len);
    if preview > MAX_PREVIEW_BYTES {
        return Err(ArtifactError::Preview(preview));
    }
    if asked.display.len() > MAX_DISPLAY || asked.display.iter().any(too_long) {
        return Err(ArtifactError::Display);
    }
    Ok(())
}
