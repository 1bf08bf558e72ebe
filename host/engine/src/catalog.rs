//! Files, plugins, data sets and models: what tasks are made of and what they make.

use std::io;
use std::ops::Range;
use std::path::Path;

use async_trait::async_trait;
use bytes::Bytes;
use futures::Stream;
use trainshed_core::Digest;
use trainshed_core::TaskId;
use trainshed_core::action::PluginRef;
use trainshed_core::dataset::{Difference, InvalidFiles, difference, seal};
use trainshed_core::draft::Script;
use trainshed_core::manifest::{InvalidManifest, Manifest};
use trainshed_core::name::{InvalidName, MAX_NAME_BYTES, check_name, is_series_name};
use trainshed_core::view::{
    DatasetEdit, DatasetView, ModelView, NewDataset, PluginView, TableView,
};
use trainshed_store::{
    DatasetError, FileContent, InsertDatasetError, InsertPluginError, ListPart, ModelList,
    NewVersion, PutError, StoreError, Workspace,
};

use crate::engine::Engine;
use crate::version::compare_versions;

/// Longest description of a data set version, in bytes.
const MAX_DESCRIPTION_BYTES: usize = 65_536;

/// Most tags of a data set version.
const MAX_TAGS: usize = 1000;
/// Longest description of a version's tables, as JSON.
const MAX_TABLES_BYTES: usize = 4 << 20;

/// Looks into components, so that the engine need not know how that is done safely.
#[async_trait]
pub trait Inspector: Send + Sync {
    /// Checks the component in the file `component` and asks it for its manifest.
    ///
    /// # Errors
    /// When it is not a plugin, or could not be asked.
    async fn inspect(&self, component: &Path) -> Result<Manifest, InspectError>;
}

/// Why a component has no manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InspectError {
    /// The component is not a plugin, or a broken one; says how.
    #[error("{0}")]
    Refused(String),
    /// It could not be looked into; says why.
    #[error("{0}")]
    Failed(String),
}

/// Why a plugin was not installed.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// The component was not uploaded before.
    #[error("the component {0} has not been uploaded")]
    MissingFile(Digest),
    /// The content is not a plugin, or a broken one.
    #[error("the component is not a plugin that can be used: {0}")]
    Refused(String),
    /// The component says something of itself that breaks a rule.
    #[error(transparent)]
    Manifest(#[from] InvalidManifest),
    /// The name and version belong to another component.
    #[error("`{name}@{version}` is installed already, with the digest {digest}")]
    VersionTaken {
        /// Of the manifest.
        name: String,
        /// Of the manifest.
        version: String,
        /// Of the component that has them.
        digest: Digest,
    },
    /// The component could not be looked into.
    #[error("the component could not be inspected: {0}")]
    Inspection(String),
    /// The store failed.
    #[error("the plugin could not be recorded")]
    Store(#[source] StoreError),
}

impl PushError {
    /// What the user can do about it, in one sentence.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::VersionTaken { .. } => {
                Some("Give the changed plugin a new version and push it again.".into())
            }
            Self::Store(error) => error.hint(),
            _ => None,
        }
    }
}

/// Why a data set version was not made.
#[derive(Debug, thiserror::Error)]
pub enum VersionError {
    /// The name breaks a rule.
    #[error("the data set's name {0}")]
    Name(#[source] InvalidName),
    /// The description is too long.
    #[error("description must have at most {MAX_DESCRIPTION_BYTES} bytes, but it has {0}")]
    Description(usize),
    /// A tag, or what is said of tables.
    #[error("{0}")]
    About(String),
    /// The list of files breaks a rule.
    #[error(transparent)]
    Files(#[from] InvalidFiles),
    /// There is no version with the id that is given as parent.
    #[error("there is no data set {0} to be the parent")]
    UnknownParent(u64),
    /// A file was not uploaded before, or has another length than the list says.
    #[error("the content of `{path}` ({sha256}, {size_bytes} bytes) has not been uploaded")]
    MissingFile {
        /// Where it would lie in the data set.
        path: String,
        /// As listed.
        sha256: Digest,
        /// As listed.
        size_bytes: u64,
    },
    /// The store failed.
    #[error("the data set could not be recorded")]
    Store(#[source] StoreError),
}

/// Why a data set version was not changed.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// A field that cannot be used.
    #[error(transparent)]
    Field(#[from] VersionError),
    /// The store refused.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
}

impl From<StoreError> for EditError {
    fn from(error: StoreError) -> Self {
        Self::Dataset(error.into())
    }
}

impl VersionError {
    /// What the user can do about it, in one sentence.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::MissingFile { .. } => {
                Some("Upload the file first, then make the version.".into())
            }
            Self::UnknownParent(_) => Some("`trainshed dataset ls` lists them.".into()),
            Self::Store(error) => error.hint(),
            _ => None,
        }
    }

    /// JSON pointer of the field at fault in [`NewDataset`].
    pub fn pointer(&self) -> Option<&'static str> {
        match self {
            Self::Name(_) => Some("/name"),
            Self::Description(_) => Some("/description"),
            Self::About(_) => Some("/tags"),
            Self::Files(_) | Self::MissingFile { .. } => Some("/files"),
            Self::UnknownParent(_) => Some("/parent"),
            Self::Store(_) => None,
        }
    }
}

impl Engine {
    /// Stores `content`, which must have the digest `digest`. Storing it again is harmless.
    ///
    /// # Errors
    /// When the content has another digest, breaks off, or cannot be written.
    pub async fn put_file(
        &self,
        workspace: &Workspace,
        digest: Digest,
        content: impl Stream<Item = io::Result<Bytes>> + Send,
    ) -> Result<(), PutError> {
        let now = self.now();
        let stored = self.store.put_file(workspace, Some(&digest), content, now);
        stored.await.map(|_| ())
    }

    /// Stores `content` and returns its digest.
    ///
    /// # Errors
    /// When the content breaks off or cannot be written.
    pub async fn put_unnamed_file(
        &self,
        workspace: &Workspace,
        content: impl Stream<Item = io::Result<Bytes>> + Send,
    ) -> Result<Digest, PutError> {
        let now = self.now();
        self.store.put_file(workspace, None, content, now).await
    }

    /// Those of `digests` that the workspace has not uploaded yet.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn missing_files(
        &self,
        workspace: &Workspace,
        digests: &[Digest],
    ) -> Result<Vec<Digest>, StoreError> {
        let now = self.now();
        self.store.missing_files(workspace, digests, now).await
    }

    /// The length of a file that the workspace has uploaded; `None` when it has not.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn file_size(
        &self,
        workspace: &Workspace,
        digest: &Digest,
    ) -> Result<Option<u64>, StoreError> {
        self.store.file_size(workspace, digest).await
    }

    /// The content of a file that the workspace has uploaded, or of that part of `range`
    /// that lies in it; `None` when it has not.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn open_file(
        &self,
        workspace: &Workspace,
        digest: &Digest,
        range: Option<Range<u64>>,
    ) -> Result<Option<FileContent>, StoreError> {
        self.store.open_file(workspace, digest, range).await
    }

    /// Installs the component `digest`, which was uploaded before. Pushing one again is
    /// harmless.
    ///
    /// # Errors
    /// When it is not a plugin, or another one has its name and version.
    pub async fn push_plugin(
        &self,
        workspace: &Workspace,
        digest: Digest,
    ) -> Result<PluginView, PushError> {
        let reference = PluginRef::Digest(digest);
        let installed = self.plugin(workspace, &reference).await;
        if let Some(plugin) = installed.map_err(PushError::Store)? {
            return Ok(plugin);
        }
        let component = self.store.local_file(workspace, &digest).await;
        let component = component.map_err(PushError::Store)?;
        let component = component.ok_or(PushError::MissingFile(digest))?;
        let manifest = self.inspector().inspect(component.path()).await;
        let manifest = manifest.map_err(|error| match error {
            InspectError::Refused(why) => PushError::Refused(why),
            InspectError::Failed(why) => PushError::Inspection(why),
        })?;
        manifest.check()?;
        let inserted = self
            .store
            .insert_plugin(workspace, &digest, &manifest, self.now())
            .await;
        inserted.map_err(|error| match error {
            InsertPluginError::VersionTaken {
                name,
                version,
                digest,
            } => PushError::VersionTaken {
                name,
                version,
                digest,
            },
            InsertPluginError::Store(error) => PushError::Store(error),
        })?;
        let installed = self.plugin(workspace, &reference).await;
        let installed = installed.map_err(PushError::Store)?;
        installed.ok_or(PushError::MissingFile(digest))
    }

    /// All installed plugins, by name, the newest version first.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn plugins(&self, workspace: &Workspace) -> Result<Vec<PluginView>, StoreError> {
        let mut plugins = self.store.plugins(workspace).await?;
        plugins.sort_by(|a, b| {
            let (a, b) = (&a.manifest, &b.manifest);
            let newest_first = || compare_versions(&b.version, &a.version);
            a.name.cmp(&b.name).then_with(newest_first)
        });
        Ok(plugins)
    }

    /// The plugin that `reference` names; of a name without a version the newest.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn plugin(
        &self,
        workspace: &Workspace,
        reference: &PluginRef,
    ) -> Result<Option<PluginView>, StoreError> {
        let plugins = self.plugins(workspace).await?;
        let found = plugins
            .into_iter()
            .find(|plugin| is_named(plugin, reference));
        let Some(plugin) = found else {
            return Ok(None);
        };
        let source = self.store.plugin_source(workspace, &plugin.digest).await?;
        Ok(Some(PluginView { source, ..plugin }))
    }

    /// Records where a component came from; returns the plugin, if there is one.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn set_plugin_source(
        &self,
        workspace: &Workspace,
        reference: &PluginRef,
        source: &Script,
    ) -> Result<Option<PluginView>, StoreError> {
        let Some(plugin) = self.plugin(workspace, reference).await? else {
            return Ok(None);
        };
        let written = self
            .store
            .set_plugin_source(workspace, &plugin.digest, source);
        written.await?;
        self.plugin(workspace, reference).await
    }

    /// Makes a data set version of files that were uploaded before. A known name gets a new
    /// version, unless the files are those of its newest one, which is then returned.
    ///
    /// # Errors
    /// When a name, path or file is not as it must be.
    pub async fn create_dataset(
        &self,
        workspace: &Workspace,
        new: NewDataset,
    ) -> Result<DatasetView, VersionError> {
        let name = check_name(&new.name).map_err(VersionError::Name)?;
        if new.description.len() > MAX_DESCRIPTION_BYTES {
            return Err(VersionError::Description(new.description.len()));
        }
        check_about(&new.tags, new.tables.as_deref())?;
        let (files, digest) = seal(new.files)?;
        if let Some(parent) = new.parent {
            let found = self.store.dataset(workspace, parent).await;
            let found = found.map_err(VersionError::Store)?;
            found.ok_or(VersionError::UnknownParent(parent))?;
        }
        let version = NewVersion {
            name,
            parent: new.parent,
            description: &new.description,
            digest: &digest,
            files: &files,
            tags: &new.tags,
            tables: new.tables.as_deref(),
        };
        let inserted = self
            .store
            .insert_dataset(workspace, &version, self.now())
            .await;
        inserted.map_err(|error| match error {
            InsertDatasetError::MissingFile {
                path,
                sha256,
                size_bytes,
            } => VersionError::MissingFile {
                path,
                sha256,
                size_bytes,
            },
            InsertDatasetError::Store(error) => VersionError::Store(error),
        })
    }

    /// All data set versions, the newest first, without their files.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn datasets(
        &self,
        workspace: &Workspace,
        part: ListPart,
    ) -> Result<Vec<DatasetView>, StoreError> {
        self.store.datasets(workspace, part).await
    }

    /// A data set version with its files.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn dataset(
        &self,
        workspace: &Workspace,
        id: u64,
    ) -> Result<Option<DatasetView>, StoreError> {
        self.store.dataset(workspace, id).await
    }

    /// The version that another is compared with unless somebody says otherwise: the one that
    /// it was made from, or the one of its name before it.
    ///
    /// # Errors
    /// When there is no such version.
    pub async fn compared_with(
        &self,
        workspace: &Workspace,
        id: u64,
    ) -> Result<Option<u64>, EditError> {
        let version = self.store.dataset(workspace, id).await?;
        let version = version.ok_or(DatasetError::Unknown(id))?;
        match version.parent {
            Some(parent) => Ok(Some(parent)),
            None => Ok(self.store.version_before(workspace, id).await?),
        }
    }

    /// How a version differs from another, which came before it.
    ///
    /// # Errors
    /// When one of them is not there.
    pub async fn dataset_difference(
        &self,
        workspace: &Workspace,
        id: u64,
        before: u64,
    ) -> Result<Difference, EditError> {
        let mut files = Vec::new();
        for id in [before, id] {
            let found = self.store.dataset(workspace, id).await?;
            let found = found.ok_or(DatasetError::Unknown(id))?;
            files.push(found.files.unwrap_or_default());
        }
        Ok(difference(&files[0], &files[1]))
    }

    /// Changes what is said of a version; `expected` is a header `If-Match`.
    ///
    /// # Errors
    /// When a field is not as it must be, or the version is published.
    pub async fn edit_dataset(
        &self,
        workspace: &Workspace,
        id: u64,
        edit: &DatasetEdit,
        expected: Option<&str>,
    ) -> Result<DatasetView, EditError> {
        if let Some(description) = &edit.description
            && description.len() > MAX_DESCRIPTION_BYTES
        {
            return Err(VersionError::Description(description.len()).into());
        }
        check_about(edit.tags.as_deref().unwrap_or_default(), None)?;
        self.store
            .edit_dataset(workspace, id, edit, expected, self.now())
            .await?;
        self.known_dataset(workspace, id).await
    }

    /// Makes a version read-only for good.
    ///
    /// # Errors
    /// When there is no such version.
    pub async fn publish_dataset(
        &self,
        workspace: &Workspace,
        id: u64,
    ) -> Result<DatasetView, EditError> {
        let now = self.now();
        self.store.publish_dataset(workspace, id, now).await?;
        self.known_dataset(workspace, id).await
    }

    /// Hides a version from lists, or shows it again.
    ///
    /// # Errors
    /// When there is no such version.
    pub async fn archive_dataset(
        &self,
        workspace: &Workspace,
        id: u64,
        archived: bool,
    ) -> Result<DatasetView, EditError> {
        self.store
            .archive_dataset(workspace, id, archived, self.now())
            .await?;
        self.known_dataset(workspace, id).await
    }

    /// Deletes a version.
    ///
    /// # Errors
    /// When something waits or runs with it; without `force` also when anything needs it.
    pub async fn delete_dataset(
        &self,
        workspace: &Workspace,
        id: u64,
        force: bool,
    ) -> Result<(), EditError> {
        Ok(self.store.delete_dataset(workspace, id, force).await?)
    }

    async fn known_dataset(
        &self,
        workspace: &Workspace,
        id: u64,
    ) -> Result<DatasetView, EditError> {
        let found = self.store.dataset(workspace, id).await?;
        Ok(found.ok_or(DatasetError::Unknown(id))?)
    }

    /// The visible models, of one task or of all, the newest first.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn models(
        &self,
        workspace: &Workspace,
        task: Option<&TaskId>,
    ) -> Result<Vec<ModelView>, StoreError> {
        self.store.models(workspace, task).await
    }

    /// Some of the visible models, newest first.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn listed_models(
        &self,
        workspace: &Workspace,
        list: &ModelList<'_>,
    ) -> Result<Vec<ModelView>, StoreError> {
        self.store.listed_models(workspace, list).await
    }

    /// A visible model.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn model(
        &self,
        workspace: &Workspace,
        id: u64,
    ) -> Result<Option<ModelView>, StoreError> {
        self.store.model(workspace, id).await
    }
}

/// Checks what is said of a version beside its files.
fn check_about(tags: &[String], tables: Option<&[TableView]>) -> Result<(), VersionError> {
    if tags.len() > MAX_TAGS || !tags.iter().all(|tag| is_series_name(tag)) {
        return Err(VersionError::About(format!(
            "tags must be at most {MAX_TAGS}, each of 1 to {MAX_NAME_BYTES} bytes without control characters"
        )));
    }
    let text = serde_json::to_vec(&tables).unwrap_or_default();
    if text.len() > MAX_TABLES_BYTES {
        return Err(VersionError::About(format!(
            "tables must have at most {MAX_TABLES_BYTES} bytes as JSON, but they have {}",
            text.len()
        )));
    }
    Ok(())
}

/// Whether `reference` names `plugin`, or its name with no version.
pub(crate) fn is_named(plugin: &PluginView, reference: &PluginRef) -> bool {
    match reference {
        PluginRef::Digest(digest) => plugin.digest == *digest,
        PluginRef::Named { name, version } => {
            let manifest = &plugin.manifest;
            manifest.name == *name && version.as_ref().is_none_or(|v| *v == manifest.version)
        }
    }
}
