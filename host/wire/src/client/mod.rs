//! The typed client of the API.

mod agent;
mod catalog;
mod file;
mod key;
mod model;
mod parameter;
mod project;
mod report;
mod task;
mod transfer;

use std::path::Path;
use std::time::Duration;

use futures::StreamExt;
use reqwest::{Method, RequestBuilder, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use trainshed_core::Digest;
use trainshed_core::view::{Page, TaskQuery, TaskView};

use crate::Problem;

/// Calls one server with one key. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    url: String,
    key: String,
}

/// Why a call did not give what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server refused; its answer says why.
    #[error(transparent)]
    Refused(Box<Problem>),
    /// The server did not answer, or the connection broke.
    #[error("the server at {url} did not answer")]
    Unreachable {
        /// Where it was looked for.
        url: String,
        /// What happened.
        #[source]
        source: reqwest::Error,
    },
    /// Something answered that does not speak this API.
    #[error("{url} answered with status {status}, but not as a trainshed server does")]
    NotUnderstood {
        /// What was called.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// A file of ours could not be read or written.
    #[error("`{path}` could not be read or written")]
    File {
        /// Which file.
        path: String,
        /// What happened.
        #[source]
        source: std::io::Error,
    },
    /// What was downloaded is not what its digest says.
    #[error("the file {0} arrived damaged")]
    Damaged(Digest),
}

impl ClientError {
    /// The HTTP status of a refusal.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused(problem) => Some(problem.status),
            _ => None,
        }
    }

    /// Whether the same call may succeed later: the server was away, busy, ailing or full.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused(problem) => matches!(problem.status, 429 | 502 | 503 | 504 | 507),
            Self::NotUnderstood { status, .. } => matches!(status, 502..=504),
            Self::File { .. } | Self::Damaged(_) => false,
        }
    }

    /// Whether the state of a task forbids what was asked for.
    pub fn is_about_status(&self) -> bool {
        matches!(self, Self::Refused(problem) if problem.kind == "invalid-task-status")
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Refused(problem) => problem.hint.clone(),
            Self::Unreachable { .. } => {
                Some("Is the server running? `trainshed serve` starts one.".to_owned())
            }
            _ => None,
        }
    }
}

type Result<T> = std::result::Result<T, ClientError>;

/// Longest time between two pieces of an answer; long polls stay well below it.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

impl Client {
    /// A client of the server at `url`, e.g. `http://127.0.0.1:8080`.
    pub fn new(url: &str, key: &str) -> Self {
        // The library of cryptography is chosen once for the process; another choice stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(10))
            .read_timeout(READ_TIMEOUT)
            .tcp_nodelay(true)
            .build()
            .expect("with its cryptography chosen, a client has nothing that can fail");
        Self {
            http,
            url: url.trim_end_matches('/').to_owned(),
            key: key.to_owned(),
        }
    }

    /// The server's address.
    pub fn url(&self) -> &str {
        &self.url
    }

    async fn task_page(&self, text: Option<String>, query: &TaskQuery) -> Result<Page<TaskView>> {
        let states: Vec<&str> = query.state.iter().map(|state| state.as_str()).collect();
        let mut parameters = vec![
            ("limit", query.limit.to_string()),
            ("status", states.join(",")),
        ];
        let optional = [
            ("project", &query.project),
            ("name", &query.name),
            ("after", &query.after),
            ("q", &text),
        ];
        parameters.extend(
            optional
                .into_iter()
                .filter_map(|(name, value)| Some((name, value.clone()?))),
        );
        if query.trials {
            parameters.push(("trials", "true".to_owned()));
        }
        if query.archived {
            parameters.push(("archived", "true".to_owned()));
        }
        parameters.retain(|(_, value)| !value.is_empty());
        self.json(self.request(Method::GET, "/tasks").query(&parameters))
            .await
    }

    async fn download_to(&self, digest: &Digest, path: &Path) -> Result<()> {
        use tokio::io::AsyncWriteExt;
        let failed = |source| ClientError::File {
            path: path.display().to_string(),
            source,
        };
        let mut content = std::pin::pin!(self.open_file(digest).await?);
        let mut file = tokio::fs::File::create(path).await.map_err(failed)?;
        let mut hasher = trainshed_core::digest::Hasher::default();
        while let Some(piece) = content.next().await {
            let piece = piece?;
            hasher.update(&piece);
            file.write_all(&piece).await.map_err(failed)?;
        }
        file.sync_all().await.map_err(failed)?;
        if hasher.finish() == *digest {
            Ok(())
        } else {
            Err(ClientError::Damaged(*digest))
        }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http
            .request(method, format!("{}/api/v1{path}", self.url))
            .bearer_auth(&self.key)
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.json(self.request(Method::GET, path)).await
    }

    async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T> {
        self.json(self.request(method, path).json(body)).await
    }

    async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T> {
        let response = self.checked(request).await?;
        self.understood(response).await
    }

    async fn understood<T: DeserializeOwned>(&self, response: Response) -> Result<T> {
        let (url, status) = (response.url().to_string(), response.status().as_u16());
        let body = response
            .bytes()
            .await
            .map_err(|source| self.unreachable(source))?;
        serde_json::from_slice(&body).map_err(|_| ClientError::NotUnderstood { url, status })
    }

    /// Sends the request and turns an error status into the server's own words.
    async fn checked(&self, request: RequestBuilder) -> Result<Response> {
        let response = request
            .send()
            .await
            .map_err(|source| self.unreachable(source))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let (url, status) = (response.url().to_string(), response.status().as_u16());
        let body = response
            .bytes()
            .await
            .map_err(|source| self.unreachable(source))?;
        match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => Err(ClientError::Refused(Box::new(problem))),
            Err(_) => Err(ClientError::NotUnderstood { url, status }),
        }
    }

    fn unreachable(&self, source: reqwest::Error) -> ClientError {
        ClientError::Unreachable {
            url: self.url.clone(),
            source,
        }
    }
}

/// A file as a request body that is streamed.
async fn file_body(path: &Path) -> Result<reqwest::Body> {
    let file = tokio::fs::File::open(path).await;
    let file = file.map_err(|source| ClientError::File {
        path: path.display().to_string(),
        source,
    })?;
    Ok(reqwest::Body::wrap_stream(
        tokio_util::io::ReaderStream::with_capacity(file, 1 << 16),
    ))
}

/// Escapes one part of a path, so that no text from outside can change which call it is.
fn part(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'~' | b'@' | b':' => {
                escaped.push(char::from(byte));
            }
            b'.' if text != "." && text != ".." => escaped.push('.'),
            other => escaped.push_str(&format!("%{other:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_can_leave_its_part_of_the_path() {
        assert_eq!(part("digits-mlp@0.1.0"), "digits-mlp@0.1.0");
        assert_eq!(part("../tasks?x=1"), "..%2Ftasks%3Fx%3D1");
        assert_eq!(part(".."), "%2E%2E");
    }
}
