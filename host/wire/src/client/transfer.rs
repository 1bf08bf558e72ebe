//! Calls about archives of tasks.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, TryStreamExt};
use reqwest::{Method, RequestBuilder};
use trainshed_core::TaskId;
use trainshed_core::transfer::{ExportRequest, ImportedTasks};

use super::{Client, ClientError, Result, file_body};

/// Longest time that a server may work before it answers.
const WORK_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

#[expect(
    clippy::missing_errors_doc,
    reason = "every call fails as `ClientError` says, and as the server's page of the API says"
)]
impl Client {
    /// The bytes of an archive of tasks. Waits for as long as making it takes.
    pub async fn export_tasks(
        &self,
        request: &ExportRequest,
    ) -> Result<impl Stream<Item = Result<Bytes>> + Send + use<>> {
        let request = self.patient(Method::POST, "/export").json(request);
        let response = self.checked(request).await?;
        let url = self.url.clone();
        Ok(response
            .bytes_stream()
            .map_err(move |source| ClientError::Unreachable {
                url: url.clone(),
                source,
            }))
    }

    /// Takes in an archive of tasks; with `into`, adds its one task to that one.
    pub async fn import_tasks(
        &self,
        archive: &Path,
        into: Option<&TaskId>,
        iteration_offset: Option<u64>,
    ) -> Result<ImportedTasks> {
        let mut query = Vec::new();
        query.extend(into.map(|task| ("into", task.to_string())));
        query.extend(iteration_offset.map(|offset| ("iteration_offset", offset.to_string())));
        let body = file_body(archive).await?;
        let request = self.patient(Method::POST, "/import").query(&query);
        self.json(request.header("content-type", "application/zip").body(body))
            .await
    }

    /// A request that is answered only after long work, so that silence means nothing.
    pub(super) fn patient(&self, method: Method, path: &str) -> RequestBuilder {
        let patient = reqwest::Client::builder()
            .timeout(WORK_TIMEOUT)
            .build()
            .expect("with its cryptography chosen, a client has nothing that can fail");
        let url = format!("{}/api/v1{path}", self.url);
        patient.request(method, url).bearer_auth(&self.key)
    }
}
