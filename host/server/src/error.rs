//! Every error as problem details, in one place.

use axum::extract::OriginalUri;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use trainshed_engine::{
    LeaseError, PushError, PutError, QueryError, StopError, StoreError, SubmitError, VersionError,
};
use trainshed_wire::Problem;

/// An error on its way to the client.
#[derive(Debug)]
pub(crate) struct ApiError(Box<Problem>);

impl ApiError {
    pub(crate) fn new(status: StatusCode, kind: &str, detail: impl Into<String>) -> Self {
        Self(Box::new(Problem {
            kind: kind.to_owned(),
            title: status.canonical_reason().unwrap_or("Error").to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            pointer: None,
            hint: None,
        }))
    }

    /// A part of the request that cannot be used: where it is and what would be right.
    pub(crate) fn invalid(pointer: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid-request", detail).at(pointer)
    }

    /// Something that the path names and that is not there.
    pub(crate) fn missing(what: &str, name: &str) -> Self {
        let short: String = name.chars().take(100).collect();
        Self::new(
            StatusCode::NOT_FOUND,
            &format!("unknown-{}", what.replace(' ', "-")),
            format!("there is no {what} `{short}`"),
        )
    }

    pub(crate) fn at(mut self, pointer: &str) -> Self {
        self.0.pointer = Some(pointer.to_owned());
        self
    }

    pub(crate) fn hint(mut self, hint: Option<String>) -> Self {
        self.0.hint = hint;
        self
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let content_type = [(header::CONTENT_TYPE, "application/problem+json")];
        let body = serde_json::to_vec(&*self.0).expect("a problem is texts and numbers");
        (status, content_type, body).into_response()
    }
}

/// An error with everything that led to it, as one sentence.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

pub(crate) async fn not_found(OriginalUri(uri): OriginalUri) -> ApiError {
    let path: String = uri.path().chars().take(200).collect();
    ApiError::new(
        StatusCode::NOT_FOUND,
        "unknown-path",
        format!("there is nothing at `{path}`"),
    )
}

pub(crate) async fn method_not_allowed(method: Method, OriginalUri(uri): OriginalUri) -> ApiError {
    let path: String = uri.path().chars().take(200).collect();
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "unknown-method",
        format!("`{path}` does not answer {method}"),
    )
}
