//! Calls about plugins and data sets.

use std::path::Path;

use reqwest::{Method, header};
use trainshed_core::dataset::Difference;
use trainshed_core::draft::Script;
use trainshed_core::view::{DatasetEdit, DatasetView, NewDataset, PluginView};

use super::{Client, Result, file_body, part};

/// Versions of data sets that are asked for at once.
const PAGE: u64 = 1_000;

#[expect(
    clippy::missing_errors_doc,
    reason = "every call fails as `ClientError` says, and as the server's page of the API says"
)]
impl Client {
    /// All plugins.
    pub async fn plugins(&self) -> Result<Vec<PluginView>> {
        self.get("/plugins").await
    }

    /// The plugin that `reference` (`name`, `name@version`, `sha256:…`) names.
    pub async fn plugin(&self, reference: &str) -> Result<PluginView> {
        self.get(&format!("/plugins/{}", part(reference))).await
    }

    /// Installs the component in a file.
    pub async fn push_plugin(&self, component: &Path) -> Result<PluginView> {
        let body = file_body(component).await?;
        self.json(
            self.request(Method::POST, "/plugins")
                .header(header::CONTENT_TYPE, "application/wasm")
                .body(body),
        )
        .await
    }

    /// Records where a component came from.
    pub async fn set_plugin_source(&self, reference: &str, source: &Script) -> Result<PluginView> {
        let path = format!("/plugins/{}/source", part(reference));
        self.send(Method::PUT, &path, source).await
    }

    /// All data set versions, newest first; archived ones where asked for.
    pub async fn datasets(&self, archived: bool) -> Result<Vec<DatasetView>> {
        let mut datasets: Vec<DatasetView> = Vec::new();
        loop {
            let after = datasets.last().map(|dataset| dataset.id);
            let page: Vec<DatasetView> = self
                .json(
                    self.request(Method::GET, "/datasets")
                        .query(&[("archived", archived)])
                        .query(&[("after", after), ("limit", Some(PAGE))]),
                )
                .await?;
            let more = page.len() as u64 == PAGE;
            datasets.extend(page);
            if !more {
                return Ok(datasets);
            }
        }
    }

    /// One data set version with its files.
    pub async fn dataset(&self, id: u64) -> Result<DatasetView> {
        self.get(&format!("/datasets/{id}")).await
    }

    /// Makes a data set version of files that were uploaded.
    pub async fn create_dataset(&self, new: &NewDataset) -> Result<DatasetView> {
        self.send(Method::POST, "/datasets", new).await
    }

    /// How a version differs from another, or from its parent.
    pub async fn dataset_difference(&self, id: u64, with: Option<u64>) -> Result<Difference> {
        self.json(
            self.request(Method::GET, &format!("/datasets/{id}/diff"))
                .query(&[("with", with)]),
        )
        .await
    }

    /// Changes what is said of a version.
    pub async fn edit_dataset(&self, id: u64, edit: &DatasetEdit) -> Result<DatasetView> {
        self.send(Method::PATCH, &format!("/datasets/{id}"), edit)
            .await
    }

    /// Makes a version read-only for good.
    pub async fn publish_dataset(&self, id: u64) -> Result<DatasetView> {
        let path = format!("/datasets/{id}/publish");
        self.json(self.request(Method::POST, &path)).await
    }

    /// Hides a version from lists, or shows it again.
    pub async fn archive_dataset(&self, id: u64, archived: bool) -> Result<DatasetView> {
        let verb = if archived { "archive" } else { "unarchive" };
        let path = format!("/datasets/{id}/{verb}");
        self.json(self.request(Method::POST, &path)).await
    }

    /// Deletes a version, with `force` although something needs it.
    pub async fn delete_dataset(&self, id: u64, force: bool) -> Result<()> {
        let path = format!("/datasets/{id}");
        self.checked(
            self.request(Method::DELETE, &path)
                .query(&[("force", force)]),
        )
        .await?;
        Ok(())
    }
}
