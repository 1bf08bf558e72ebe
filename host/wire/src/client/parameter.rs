//! Calls about what tasks are run with.

use bytes::Bytes;
use reqwest::Method;
use serde_json::Value;
use trainshed_core::parameter::Parameter;
use trainshed_core::view::{ConfigurationView, TaskView};

use super::{Client, Result, part};

#[expect(
    clippy::missing_errors_doc,
    reason = "every call fails as `ClientError` says, and as the server's page of the API says"
)]
impl Client {
    /// The parameters of a task, with their types.
    pub async fn parameters(&self, id: &str) -> Result<Vec<Parameter>> {
        let request = self.request(Method::GET, &format!("/tasks/{}/params", part(id)));
        self.json(request.query(&[("form", "list")])).await
    }

    /// Writes parameters of a task, in place of all former ones or beside them.
    pub async fn set_parameters(
        &self,
        id: &str,
        parameters: &[Parameter],
        replace: bool,
        force: bool,
    ) -> Result<TaskView> {
        let method = if replace { Method::PUT } else { Method::PATCH };
        let request = self.request(method, &format!("/tasks/{}/params", part(id)));
        let query = [
            ("form", "list"),
            ("force", if force { "true" } else { "false" }),
        ];
        self.json(request.query(&query).json(parameters)).await
    }

    /// Removes a parameter of a task.
    pub async fn delete_parameter(
        &self,
        id: &str,
        section: &str,
        name: &str,
        force: bool,
    ) -> Result<()> {
        let path = format!(
            "/tasks/{}/params/{}/{}",
            part(id),
            part(section),
            part(name)
        );
        let request = self.request(Method::DELETE, &path);
        self.checked(request.query(&[("force", force)])).await?;
        Ok(())
    }

    /// The user properties of a task.
    pub async fn properties(&self, id: &str) -> Result<Vec<Parameter>> {
        self.get(&format!("/tasks/{}/properties", part(id))).await
    }

    /// Writes user properties of a task, by name.
    pub async fn set_properties(&self, id: &str, properties: &Value) -> Result<Vec<Parameter>> {
        let path = format!("/tasks/{}/properties", part(id));
        self.send(Method::PATCH, &path, properties).await
    }

    /// Removes a user property of a task.
    pub async fn delete_property(&self, id: &str, name: &str) -> Result<()> {
        let path = format!("/tasks/{}/properties/{}", part(id), part(name));
        self.checked(self.request(Method::DELETE, &path)).await?;
        Ok(())
    }

    /// The configuration objects of a task, without their contents.
    pub async fn configurations(&self, id: &str) -> Result<Vec<ConfigurationView>> {
        self.get(&format!("/tasks/{}/configuration", part(id)))
            .await
    }

    /// The content of a configuration object.
    pub async fn configuration(&self, id: &str, name: &str) -> Result<Bytes> {
        let path = format!("/tasks/{}/configuration/{}", part(id), part(name));
        let response = self.checked(self.request(Method::GET, &path)).await?;
        response
            .bytes()
            .await
            .map_err(|source| self.unreachable(source))
    }

    /// Writes a configuration object of a task.
    pub async fn put_configuration(
        &self,
        id: &str,
        name: &str,
        kind: &str,
        content: Vec<u8>,
        force: bool,
    ) -> Result<()> {
        let path = format!("/tasks/{}/configuration/{}", part(id), part(name));
        let request = self.request(Method::PUT, &path);
        let query = [
            ("type", kind),
            ("force", if force { "true" } else { "false" }),
        ];
        self.checked(request.query(&query).body(content)).await?;
        Ok(())
    }

    /// Removes a configuration object of a task.
    pub async fn delete_configuration(&self, id: &str, name: &str, force: bool) -> Result<()> {
        let path = format!("/tasks/{}/configuration/{}", part(id), part(name));
        let request = self.request(Method::DELETE, &path);
        self.checked(request.query(&[("force", force)])).await?;
        Ok(())
    }
}
