//! Calls about projects.

use reqwest::Method;
use trainshed_core::view::{NewProject, Page, ProjectEdit, ProjectQuery, ProjectView};

use super::{Client, Result, part};
use crate::{DeletedProject, MergeInto};

#[expect(
    clippy::missing_errors_doc,
    reason = "every call fails as `ClientError` says, and as the server's page of the API says"
)]
impl Client {
    /// One page of projects, by path.
    pub async fn projects(&self, query: &ProjectQuery) -> Result<Page<ProjectView>> {
        self.json(self.request(Method::GET, "/projects").query(query))
            .await
    }

    /// A project, by its id or path.
    pub async fn project(&self, reference: &str) -> Result<ProjectView> {
        self.get(&format!("/projects/{}", part(reference))).await
    }

    /// Makes a project.
    pub async fn create_project(&self, project: &NewProject) -> Result<ProjectView> {
        self.send(Method::POST, "/projects", project).await
    }

    /// Changes, renames or moves a project.
    pub async fn edit_project(&self, reference: &str, edit: &ProjectEdit) -> Result<ProjectView> {
        let path = format!("/projects/{}", part(reference));
        self.send(Method::PATCH, &path, edit).await
    }

    /// Puts all that is in a project into another.
    pub async fn merge_projects(&self, reference: &str, into: &str) -> Result<ProjectView> {
        let path = format!("/projects/{}/merge", part(reference));
        let into = into.to_owned();
        self.send(Method::POST, &path, &MergeInto { into }).await
    }

    /// Deletes a project; its tasks move to another, or are deleted by `force`.
    pub async fn delete_project(
        &self,
        reference: &str,
        move_to: Option<&str>,
        force: bool,
    ) -> Result<DeletedProject> {
        let request = self.request(Method::DELETE, &format!("/projects/{}", part(reference)));
        let mut request = request.query(&[("force", force)]);
        if let Some(target) = move_to {
            request = request.query(&[("move_to", target)]);
        }
        self.json(request).await
    }
}
