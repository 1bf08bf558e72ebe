//! The registry of models.

use trainshed_core::TaskId;
use trainshed_core::address::is_uri;
use trainshed_core::model::{MAX_DESIGN_BYTES, MAX_ITEMS, ModelEdit, Registration};
use trainshed_core::name::{MAX_NAME_BYTES, is_series_name};
use trainshed_core::view::{LineageView, MetadataItem, ModelUses, ModelView};
use trainshed_store::{ModelError, StoreError, Workspace};

use crate::engine::Engine;

/// Longest comment of a model, and longest value that is kept with it, in bytes.
const MAX_TEXT_BYTES: usize = 65_536;

/// Why the registry was not changed.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// A field that cannot be used; says what would be right.
    #[error("{field} {rule}")]
    Field {
        /// Which one.
        field: &'static str,
        /// What would be right.
        rule: String,
    },
    /// The store refused.
    #[error(transparent)]
    Model(#[from] ModelError),
}

impl From<StoreError> for RegistryError {
    fn from(error: StoreError) -> Self {
        Self::Model(error.into())
    }
}

type Result<T> = std::result::Result<T, RegistryError>;

impl Engine {
    /// Registers a model.
    ///
    /// # Errors
    /// When a field, its file, its task or its parent is not as it must be.
    pub async fn register_model(
        &self,
        workspace: &Workspace,
        new: &Registration,
    ) -> Result<ModelView> {
        check_name("name", &new.name)?;
        check_texts(&new.framework, &new.design, &new.comment)?;
        check_labels(&new.labels)?;
        check_tags(&new.tags)?;
        check_metadata(&new.metadata)?;
        check_uri(new.uri.as_deref())?;
        if new.sha256.is_some() == new.uri.is_some() {
            return Err(field("sha256", "or `uri` must be given, and not both"));
        }
        let id = self
            .store
            .register_model(workspace, new, self.now())
            .await?;
        if let Some(task) = &new.task {
            self.changes().task_changed(workspace.id(), task);
        }
        self.known_model(workspace, id).await
    }

    async fn known_model(&self, workspace: &Workspace, id: u64) -> Result<ModelView> {
        let model = self.store.model(workspace, id).await?;
        Ok(model.ok_or(ModelError::Unknown(id))?)
    }

    /// Changes what is said of a model.
    ///
    /// # Errors
    /// When a field is not as it must be, or the model is published.
    pub async fn edit_model(
        &self,
        workspace: &Workspace,
        id: u64,
        edit: &ModelEdit,
        expected: Option<&str>,
    ) -> Result<ModelView> {
        if let Some(name) = &edit.name {
            check_name("name", name)?;
        }
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        check_texts(
            &text(&edit.framework),
            &text(&edit.design),
            &text(&edit.comment),
        )?;
        check_labels(edit.labels.as_deref().unwrap_or_default())?;
        check_tags(edit.tags.as_deref().unwrap_or_default())?;
        check_uri(edit.uri.as_deref())?;
        if edit.uri.is_some() && self.known_model(workspace, id).await?.sha256.is_some() {
            return Err(field(
                "uri",
                "cannot be changed: the model's file is stored here",
            ));
        }
        self.store
            .edit_model(workspace, id, edit, expected, self.now())
            .await?;
        self.known_model(workspace, id).await
    }

    /// Publishes a model, and with `with_task` the task that made it.
    ///
    /// # Errors
    /// When there is no such model, or its task has not ended.
    pub async fn publish_model(
        &self,
        workspace: &Workspace,
        id: u64,
        with_task: bool,
    ) -> Result<ModelView> {
        self.store
            .publish_model(workspace, id, with_task, self.now())
            .await?;
        let model = self.known_model(workspace, id).await?;
        if let Some(task) = model.task.as_ref().filter(|_| with_task) {
            self.changes().task_changed(workspace.id(), task);
        }
        Ok(model)
    }

    /// Hides a model from lists, or shows it again.
    ///
    /// # Errors
    /// When there is no such model.
    pub async fn archive_model(
        &self,
        workspace: &Workspace,
        id: u64,
        archived: bool,
    ) -> Result<ModelView> {
        self.store
            .archive_model(workspace, id, archived, self.now())
            .await?;
        self.known_model(workspace, id).await
    }

    /// Deletes a model.
    ///
    /// # Errors
    /// Without `force`, when somebody needs it or it is published.
    pub async fn delete_model(&self, workspace: &Workspace, id: u64, force: bool) -> Result<()> {
        Ok(self.store.delete_model(workspace, id, force).await?)
    }

    /// What is kept with a model.
    ///
    /// # Errors
    /// When there is no such model.
    pub async fn model_metadata(
        &self,
        workspace: &Workspace,
        id: u64,
    ) -> Result<Vec<MetadataItem>> {
        Ok(self.store.model_metadata(workspace, id).await?)
    }

    /// Adds to what is kept with a model, or replaces it.
    ///
    /// # Errors
    /// When a key or value is not as it must be, or the model is published.
    pub async fn put_metadata(
        &self,
        workspace: &Workspace,
        id: u64,
        items: &[MetadataItem],
        replace: bool,
    ) -> Result<Vec<MetadataItem>> {
        check_metadata(items)?;
        self.store
            .put_metadata(workspace, id, items, replace, self.now())
            .await?;
        self.model_metadata(workspace, id).await
    }

    /// Forgets what is kept with a model under `key`; how many things that were.
    ///
    /// # Errors
    /// When there is no such model, or it is published.
    pub async fn delete_metadata(&self, workspace: &Workspace, id: u64, key: &str) -> Result<u64> {
        let keys = [key.to_owned()];
        let gone = self.store.delete_metadata(workspace, id, &keys, self.now());
        Ok(gone.await?)
    }

    /// Who made a model of what, and what was made of it.
    ///
    /// # Errors
    /// When there is no such model.
    pub async fn lineage(&self, workspace: &Workspace, id: u64) -> Result<LineageView> {
        Ok(self.store.lineage(workspace, id).await?)
    }

    /// The models that a task reads and made.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn task_models(
        &self,
        workspace: &Workspace,
        task: &TaskId,
    ) -> std::result::Result<ModelUses, StoreError> {
        self.store.task_models(workspace, task).await
    }

    /// Makes a model an input of a draft.
    ///
    /// # Errors
    /// When the task is no draft, or one of them is not there.
    pub async fn set_input_model(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        name: &str,
        model: u64,
    ) -> Result<ModelUses> {
        check_name("name", name)?;
        self.store
            .set_input_model(workspace, task, name, model, self.now())
            .await?;
        self.changes().task_changed(workspace.id(), task);
        Ok(self.task_models(workspace, task).await?)
    }

    /// Takes an input model from a draft.
    ///
    /// # Errors
    /// When the task is no draft, or has none of that name.
    pub async fn remove_input_model(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        name: &str,
    ) -> Result<()> {
        self.store
            .remove_input_model(workspace, task, name, self.now())
            .await?;
        self.changes().task_changed(workspace.id(), task);
        Ok(())
    }
}

impl RegistryError {
    /// What the user can do about it, in one sentence.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Field { .. } => None,
            Self::Model(error) => error.hint(),
        }
    }
}

fn field(field: &'static str, rule: impl Into<String>) -> RegistryError {
    let rule = rule.into();
    RegistryError::Field { field, rule }
}

fn check_name(what: &'static str, name: &str) -> Result<()> {
    if is_series_name(name) {
        return Ok(());
    }
    let rule = format!(
        "must have 1 to {MAX_NAME_BYTES} bytes and no control characters, but it has {} bytes",
        name.len()
    );
    Err(field(what, rule))
}

fn check_texts(framework: &str, design: &str, comment: &str) -> Result<()> {
    for (what, text, most) in [
        ("framework", framework, MAX_NAME_BYTES),
        ("design", design, MAX_DESIGN_BYTES),
        ("comment", comment, MAX_TEXT_BYTES),
    ] {
        if text.len() > most || text.contains('\0') {
            let rule = format!("must have at most {most} bytes and no zero among them");
            return Err(field(what, rule));
        }
    }
    Ok(())
}

fn check_labels(labels: &[(String, i64)]) -> Result<()> {
    if labels.len() > MAX_ITEMS {
        let rule = format!(
            "must be at most {MAX_ITEMS}, but there are {}",
            labels.len()
        );
        return Err(field("labels", rule));
    }
    labels
        .iter()
        .try_for_each(|(label, _)| check_name("labels", label))
}

fn check_tags(tags: &[String]) -> Result<()> {
    if tags.len() > 1000 {
        let rule = format!("must be at most 1000, but there are {}", tags.len());
        return Err(field("tags", rule));
    }
    tags.iter().try_for_each(|tag| check_name("tags", tag))
}

fn check_metadata(items: &[MetadataItem]) -> Result<()> {
    if items.len() > MAX_ITEMS {
        let rule = format!("must be at most {MAX_ITEMS}, but there are {}", items.len());
        return Err(field("metadata", rule));
    }
    for item in items {
        check_name("metadata", &item.key)?;
        check_name("metadata", &item.kind)?;
        if item.value.len() > MAX_TEXT_BYTES || item.value.contains('\0') {
            let rule =
                format!("must have values of at most {MAX_TEXT_BYTES} bytes, no zero among them");
            return Err(field("metadata", rule));
        }
    }
    Ok(())
}

fn check_uri(uri: Option<&str>) -> Result<()> {
    match uri {
        Some(uri) if !is_uri(uri) => Err(field(
            "uri",
            "must begin with a scheme, e.g. `https://`, that no browser runs, or be an absolute path, and have no white space",
        )),
        _ => Ok(()),
    }
}
