//! Calls about models.

use reqwest::Method;
use trainshed_core::model::{ModelEdit, Registration};
use trainshed_core::view::{LineageView, MetadataItem, ModelUses, ModelView};

use super::{Client, Result, part};
use crate::{InputModel, Models, ModelsOfTask, PublishModel};

#[expect(
    clippy::missing_errors_doc,
    reason = "every call fails as `ClientError` says, and as the server's page of the API says"
)]
impl Client {
    /// The models of a task.
    pub async fn task_models(&self, id: &str) -> Result<ModelsOfTask> {
        self.get(&format!("/tasks/{}/models", part(id))).await
    }

    /// All models, newest first; with `archived` also those.
    pub async fn models(&self, archived: bool) -> Result<Vec<ModelView>> {
        let (mut models, mut after) = (Vec::new(), None);
        loop {
            let page: Models = self
                .json(
                    self.request(Method::GET, "/models")
                        .query(&[("archived", archived)])
                        .query(&[("after", after)]),
                )
                .await?;
            models.extend(page.models);
            after = page.next;
            if after.is_none() {
                return Ok(models);
            }
        }
    }

    /// One model.
    pub async fn model(&self, id: u64) -> Result<ModelView> {
        self.get(&format!("/models/{id}")).await
    }

    /// Registers a model.
    pub async fn register_model(&self, model: &Registration) -> Result<ModelView> {
        self.send(Method::POST, "/models", model).await
    }

    /// Changes what is said of a model.
    pub async fn edit_model(&self, id: u64, edit: &ModelEdit) -> Result<ModelView> {
        self.send(Method::PATCH, &format!("/models/{id}"), edit)
            .await
    }

    /// Publishes a model, and with `with_task` the task that made it.
    pub async fn publish_model(&self, id: u64, with_task: bool) -> Result<ModelView> {
        let path = format!("/models/{id}/publish");
        self.send(Method::POST, &path, &PublishModel { with_task })
            .await
    }

    /// Hides a model from lists, or shows it again.
    pub async fn archive_model(&self, id: u64, archived: bool) -> Result<ModelView> {
        let verb = if archived { "archive" } else { "unarchive" };
        let path = format!("/models/{id}/{verb}");
        self.json(self.request(Method::POST, &path)).await
    }

    /// Deletes a model, with `force` although somebody needs it.
    pub async fn delete_model(&self, id: u64, force: bool) -> Result<()> {
        let path = format!("/models/{id}");
        self.checked(
            self.request(Method::DELETE, &path)
                .query(&[("force", force)]),
        )
        .await?;
        Ok(())
    }

    /// Adds to what is kept with a model.
    pub async fn add_metadata(&self, id: u64, items: &[MetadataItem]) -> Result<Vec<MetadataItem>> {
        self.send(Method::PATCH, &format!("/models/{id}/metadata"), &items)
            .await
    }

    /// Who made a model of what, and what was made of it.
    pub async fn lineage(&self, id: u64) -> Result<LineageView> {
        self.get(&format!("/models/{id}/lineage")).await
    }

    /// Makes a model an input of a draft.
    pub async fn set_input_model(&self, task: &str, name: &str, model: u64) -> Result<ModelUses> {
        let path = format!("/tasks/{}/models/input/{}", part(task), part(name));
        self.send(Method::PUT, &path, &InputModel { model }).await
    }
}
