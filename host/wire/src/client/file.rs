//! Calls about artifacts and files.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::{Stream, TryStreamExt};
use reqwest::Method;
use trainshed_core::artifact::ArtifactType;
use trainshed_core::view::{
    ArtifactRequest, ArtifactView, GarbageView, ImportedFile, ListedObject,
};
use trainshed_core::{Digest, TaskId};

use super::{Client, ClientError, Result, file_body, part};
use crate::{FileQuery, GarbageRequest, ImportRequest, MissingFiles};

#[expect(
    clippy::missing_errors_doc,
    reason = "every call fails as `ClientError` says, and as the server's page of the API says"
)]
impl Client {
    /// Which of `files` the server does not have.
    pub async fn missing_files(&self, files: &[Digest]) -> Result<Vec<Digest>> {
        let answer: MissingFiles = self
            .send(
                Method::POST,
                "/files/missing",
                &FileQuery {
                    sha256: files.to_vec(),
                },
            )
            .await?;
        Ok(answer.missing)
    }

    /// Uploads a file of known content. Uploading it again is harmless.
    pub async fn put_file(&self, digest: &Digest, path: &Path) -> Result<()> {
        let body = file_body(path).await?;
        self.checked(
            self.request(Method::PUT, &format!("/files/{digest}"))
                .body(body),
        )
        .await?;
        Ok(())
    }

    /// Uploads a file of known content that a task made; it goes where the task's files go.
    pub async fn put_output(&self, task: &TaskId, digest: &Digest, path: &Path) -> Result<()> {
        let body = file_body(path).await?;
        self.checked(
            self.request(Method::PUT, &format!("/files/{digest}"))
                .query(&[("task", task.as_str())])
                .body(body),
        )
        .await?;
        Ok(())
    }

    /// The artifacts of a task; with `history`, former versions too.
    pub async fn artifacts(&self, task: &str, history: bool) -> Result<Vec<ArtifactView>> {
        let path = format!("/tasks/{}/artifacts", part(task));
        self.json(
            self.request(Method::GET, &path)
                .query(&[("history", history)]),
        )
        .await
    }

    /// Keeps a file as an artifact of a task.
    pub async fn put_artifact(
        &self,
        task: &str,
        name: &str,
        kind: Option<ArtifactType>,
        path: &Path,
    ) -> Result<ArtifactView> {
        let address = format!("/tasks/{}/artifacts/{}", part(task), part(name));
        let kind = kind.map(ArtifactType::as_str);
        self.json(
            self.request(Method::PUT, &address)
                .query(&[("type", kind)])
                .body(file_body(path).await?),
        )
        .await
    }

    /// Records an artifact whose content is there already, or elsewhere.
    pub async fn register_artifact(
        &self,
        task: &str,
        artifact: &ArtifactRequest,
    ) -> Result<ArtifactView> {
        let path = format!("/tasks/{}/artifacts", part(task));
        self.send(Method::POST, &path, artifact).await
    }

    /// Forgets an artifact with its history.
    pub async fn delete_artifact(&self, task: &str, name: &str) -> Result<()> {
        let path = format!("/tasks/{}/artifacts/{}", part(task), part(name));
        self.checked(self.request(Method::DELETE, &path)).await?;
        Ok(())
    }

    /// Removes what nobody refers to, or counts it.
    pub async fn collect_garbage(&self, request: &GarbageRequest) -> Result<GarbageView> {
        self.send(Method::POST, "/gc", request).await
    }

    /// The objects at and below an address that the server may read.
    pub async fn list_objects(&self, uri: &str) -> Result<Vec<ListedObject>> {
        self.json(
            self.request(Method::GET, "/files/listing")
                .query(&[("uri", uri)]),
        )
        .await
    }

    /// Makes a file of an object elsewhere. Waits for as long as reading it takes.
    pub async fn import_object(&self, uri: &str, link: bool) -> Result<ImportedFile> {
        let uri = uri.to_owned();
        let request = self.patient(Method::POST, "/files/import");
        let request = request.json(&ImportRequest { uri, link });
        self.json(request).await
    }

    /// The content of a file.
    pub async fn open_file(
        &self,
        digest: &Digest,
    ) -> Result<impl Stream<Item = Result<Bytes>> + Send + use<>> {
        let response = self
            .checked(self.request(Method::GET, &format!("/files/{digest}")))
            .await?;
        let url = self.url.clone();
        Ok(response
            .bytes_stream()
            .map_err(move |source| ClientError::Unreachable {
                url: url.clone(),
                source,
            }))
    }

    /// Downloads a file and verifies it. `to` appears whole or not at all.
    pub async fn download(&self, digest: &Digest, to: &Path) -> Result<()> {
        let failed = |source| ClientError::File {
            path: to.display().to_string(),
            source,
        };
        // Two downloads of one file at a time must not write into each other's.
        static DOWNLOADS: AtomicU64 = AtomicU64::new(0);
        let number = DOWNLOADS.fetch_add(1, Ordering::Relaxed);
        let mut partial = to.as_os_str().to_owned();
        partial.push(format!(".{}-{number}.part", std::process::id()));
        let partial = PathBuf::from(partial);
        let done = self.download_to(digest, &partial).await;
        match done {
            Ok(()) => tokio::fs::rename(&partial, to).await.map_err(failed),
            Err(error) => {
                // What is left of a failed download is of no use, and neither is a second error.
                let _ = tokio::fs::remove_file(&partial).await;
                Err(error)
            }
        }
    }
}
