//! Parameters, user properties and configuration objects of tasks.

use trainshed_core::TaskId;
use trainshed_core::draft::InvalidField;
use trainshed_core::name::is_series_name;
use trainshed_core::parameter::{PROPERTIES, Parameter};
use trainshed_core::text::shortened;
use trainshed_core::view::{ConfigurationView, TaskView};
use trainshed_store::{
    ChangeError, ChangeRules, NewConfiguration, StoreError, Workspace, WriteMode,
};

use crate::engine::Engine;
use crate::lifecycle::DraftError;

/// Longest content of a configuration object, in bytes.
const MAX_CONFIGURATION_BYTES: usize = 8 << 20;

impl Engine {
    /// The user properties of a task, by name; `None` when there is no such task.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn properties(
        &self,
        workspace: &Workspace,
        task: &TaskId,
    ) -> Result<Option<Vec<Parameter>>, StoreError> {
        if self.store.task(workspace, task).await?.is_none() {
            return Ok(None);
        }
        self.store.properties(workspace, task).await.map(Some)
    }

    /// Writes parameters of a task; those of the section `General` are what its plugin is
    /// given.
    ///
    /// # Errors
    /// When the task's state does not allow it, or there are user properties among them.
    pub async fn set_parameters(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        parameters: &[Parameter],
        mode: WriteMode,
        rules: impl Into<ChangeRules<'_>> + Send,
    ) -> Result<TaskView, DraftError> {
        if let Some(property) = parameters.iter().find(|one| one.section == PROPERTIES) {
            let message = format!(
                "`{}` is a user property, not a parameter",
                shortened(&property.path(), 100)
            );
            return Err(InvalidField::new("/properties", message).into());
        }
        let now = self.now();
        self.store
            .set_parameters(workspace, task, parameters, mode, rules, now)
            .await?;
        Ok(self.changed(workspace, task).await?)
    }

    /// Removes a parameter; returns whether it was there.
    ///
    /// # Errors
    /// When the task's state does not allow it.
    pub async fn delete_parameter(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        section: &str,
        name: &str,
        rules: impl Into<ChangeRules<'_>> + Send,
    ) -> Result<bool, ChangeError> {
        let names = [(section.to_owned(), name.to_owned())];
        let now = self.now();
        let deleted = self
            .store
            .delete_parameters(workspace, task, &names, rules, now)
            .await?;
        self.changes().task_changed(workspace.id(), task);
        Ok(deleted > 0)
    }

    /// Writes user properties, whatever the state of the task.
    ///
    /// # Errors
    /// When there is no such task.
    pub async fn set_properties(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        properties: &[Parameter],
    ) -> Result<(), ChangeError> {
        let now = self.now();
        self.store
            .set_properties(workspace, task, properties, now)
            .await?;
        self.changes().task_changed(workspace.id(), task);
        Ok(())
    }

    /// Removes a user property; returns whether it was there.
    ///
    /// # Errors
    /// When there is no such task.
    pub async fn delete_property(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        name: &str,
    ) -> Result<bool, ChangeError> {
        let now = self.now();
        let deleted = self.store.delete_property(workspace, task, name, now);
        let deleted = deleted.await?;
        self.changes().task_changed(workspace.id(), task);
        Ok(deleted)
    }

    /// The configuration objects of a task, without their contents; `None` when there is no
    /// such task.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn configurations(
        &self,
        workspace: &Workspace,
        task: &TaskId,
    ) -> Result<Option<Vec<ConfigurationView>>, StoreError> {
        if self.store.task(workspace, task).await?.is_none() {
            return Ok(None);
        }
        self.store.configurations(workspace, task).await.map(Some)
    }

    /// The content of a configuration object, byte for byte.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn configuration(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        name: &str,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        self.store.configuration(workspace, task, name).await
    }

    /// Writes a configuration object.
    ///
    /// # Errors
    /// When its name breaks a rule, it is too long, or the task's state does not allow it.
    pub async fn put_configuration(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        configuration: NewConfiguration,
        rules: impl Into<ChangeRules<'_>> + Send,
    ) -> Result<(), DraftError> {
        check_configuration(&configuration)?;
        let now = self.now();
        self.store
            .put_configuration(workspace, task, &configuration, rules, now)
            .await?;
        self.changes().task_changed(workspace.id(), task);
        Ok(())
    }

    /// Removes a configuration object; returns whether it was there.
    ///
    /// # Errors
    /// When the task's state does not allow it.
    pub async fn delete_configuration(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        name: &str,
        rules: impl Into<ChangeRules<'_>> + Send,
    ) -> Result<bool, ChangeError> {
        let now = self.now();
        let deleted = self
            .store
            .delete_configuration(workspace, task, name, rules, now)
            .await?;
        self.changes().task_changed(workspace.id(), task);
        Ok(deleted)
    }
}

/// Checks a configuration object to be written.
pub(crate) fn check_configuration(configuration: &NewConfiguration) -> Result<(), InvalidField> {
    check_configuration_name(&configuration.name)?;
    for (field, text) in [
        ("type", &configuration.kind),
        ("description", &configuration.description),
    ] {
        if text.len() > 1000 || text.contains('\0') {
            let message = format!("{field} must have at most 1000 bytes and no zero byte");
            return Err(InvalidField::new(format!("/{field}"), message));
        }
    }
    if configuration.content.len() > MAX_CONFIGURATION_BYTES {
        let message = format!(
            "a configuration object has at most {MAX_CONFIGURATION_BYTES} bytes, but this has \
             {}",
            configuration.content.len()
        );
        return Err(InvalidField::new("", message));
    }
    Ok(())
}

/// Checks the name of a configuration object.
pub(crate) fn check_configuration_name(name: &str) -> Result<(), InvalidField> {
    if is_series_name(name) {
        return Ok(());
    }
    let message = format!(
        "the name of a configuration object has 1 to 200 bytes and no control characters, but it \
         is `{}`",
        shortened(name, 80).escape_debug()
    );
    Err(InvalidField::new("/configuration", message))
}
