//! Bodies, paths and queries that answer problem details when they cannot be read.

use std::convert::Infallible;
use std::error::Error;

use axum::extract::path::ErrorKind;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, OptionalFromRequest, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use trainshed_core::TaskId;
use trainshed_engine::ChangeRules;

use crate::MAX_JSON_BYTES;
use crate::error::ApiError;

/// A JSON body, in and out.
#[derive(FromRequest)]
#[from_request(via(axum::Json), rejection(ApiError))]
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> OptionalFromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Option<Self>, ApiError> {
        let body = <axum::Json<T> as OptionalFromRequest<S>>::from_request(request, state).await?;
        Ok(body.map(|body| Self(body.0)))
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

/// The header `If-Match`: which version of what it changes the caller has read.
pub(crate) struct IfMatch(Option<String>);

impl IfMatch {
    pub(crate) fn tag(&self) -> Option<&str> {
        self.0.as_deref()
    }

    /// For what is changed of a task; with `force`, while it waits or runs.
    pub(crate) fn rules(&self, force: bool) -> ChangeRules<'_> {
        ChangeRules {
            force,
            expected: self.tag(),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let given = parts.headers.get(header::IF_MATCH);
        // What is no text is no tag that we gave.
        let given = given.map(|value| value.to_str().unwrap_or_default().to_owned());
        Ok(Self(given))
    }
}

/// The variable parts of the path.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(ApiError))]
pub(crate) struct Path<T>(pub(crate) T);

/// What follows the `?`.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(ApiError))]
pub(crate) struct Query<T>(pub(crate) T);

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> Self {
        let place = source::<serde_path_to_error::Error<serde_json::Error>>(&rejection);
        if let Some(error) = place.filter(|error| error.inner().is_data()) {
            return unreadable("invalid-body", json_pointer(error.path()), error.inner());
        }
        let status = rejection.status();
        if status == StatusCode::PAYLOAD_TOO_LARGE {
            let detail = format!("a JSON body has at most {MAX_JSON_BYTES} bytes");
            return Self::new(status, "body-too-large", detail);
        }
        let detail = match (place, status) {
            (Some(error), _) => format!("the body is no JSON document: {}", error.inner()),
            (None, StatusCode::UNSUPPORTED_MEDIA_TYPE) => {
                "the header `Content-Type` must be `application/json`".to_owned()
            }
            (None, _) => rejection.body_text(),
        };
        Self::new(status, "invalid-body", detail).hint(Some(
            "Send one JSON document with the header `Content-Type: application/json`.".to_owned(),
        ))
    }
}

impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> Self {
        let detail = rejection.body_text();
        let kind = match &rejection {
            PathRejection::FailedToDeserializePathParams(error) => Some(error.kind()),
            _ => None,
        };
        let (pointer, detail) = match kind {
            Some(
                ErrorKind::ParseError { value, .. } | ErrorKind::ParseErrorAtIndex { value, .. },
            ) => ("id", not_a_number(value)),
            Some(ErrorKind::ParseErrorAtKey { key, value, .. }) => {
                (key.as_str(), not_a_number(value))
            }
            Some(ErrorKind::InvalidUtf8InPathParam { key }) => {
                (key.as_str(), "the path must be UTF-8".to_owned())
            }
            _ => ("", detail),
        };
        let error = Self::new(StatusCode::BAD_REQUEST, "invalid-path", detail);
        if pointer.is_empty() {
            error
        } else {
            error.at(pointer)
        }
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        let place = source::<serde_path_to_error::Error<serde::de::value::Error>>(&rejection);
        let Some(error) = place else {
            let detail = rejection.body_text();
            return Self::new(StatusCode::BAD_REQUEST, "invalid-query", detail);
        };
        let pointer = json_pointer(error.path());
        let pointer = pointer.trim_start_matches('/').to_owned();
        unreadable("invalid-query", pointer, error.inner())
    }
}

/// Parts of paths are texts and numbers, and every text can be read.
fn not_a_number(value: &str) -> String {
    let value: String = value.chars().take(100).collect();
    format!("`{value}` is not a whole number from 0 on")
}

/// What of `error` lies below the words that axum puts around it.
fn source<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut error = Some(error);
    while let Some(outer) = error {
        if let Some(found) = outer.downcast_ref() {
            return Some(found);
        }
        error = outer.source();
    }
    None
}

/// A document whose value at `pointer` is not what its field takes.
fn unreadable(kind: &str, mut pointer: String, error: &impl std::fmt::Display) -> ApiError {
    // Where in the text it stands means little to whose program wrote the text.
    let error = error.to_string();
    let message = match error.rsplit_once(" at line ") {
        Some((message, _)) => message,
        // What the standard library says of numbers in queries.
        None if error.contains("digit found in string") => "expected a whole number from 0 on",
        None => &error,
    };
    // What is missing is named itself, rather than what it is missing from.
    let field = message
        .strip_prefix("missing field `")
        .and_then(|rest| rest.strip_suffix('`'));
    if let Some(field) = field {
        let slash = if kind == "invalid-query" { "" } else { "/" };
        pointer = format!("{pointer}{slash}{field}");
    }
    let detail = match (field, &*pointer) {
        (Some(_), place) => format!("{place} must be given"),
        (None, "") if kind == "invalid-query" => format!("the query cannot be read: {message}"),
        (None, "") => format!("the body cannot be read: {message}"),
        (None, place) => format!("{place} cannot be read: {message}"),
    };
    ApiError::new(StatusCode::BAD_REQUEST, kind, detail).at(&pointer)
}

fn json_pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut pointer = String::new();
    for segment in path {
        pointer.push('/');
        match segment {
            Segment::Seq { index } => pointer.push_str(&index.to_string()),
            Segment::Map { key } | Segment::Enum { variant: key } => {
                pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
            }
            Segment::Unknown => pointer.push('?'),
        }
    }
    pointer
}

/// A document that was read as JSON before, and is now read as what it must be.
///
/// # Errors
/// When it is something else; names the place.
pub(crate) fn read<T: DeserializeOwned>(document: serde_json::Value) -> Result<T, ApiError> {
    serde_path_to_error::deserialize(document)
        .map_err(|error| unreadable("invalid-body", json_pointer(error.path()), error.inner()))
}

/// The id of a task out of a path.
pub(crate) fn task_id(text: &str) -> Result<TaskId, ApiError> {
    text.parse()
        .map_err(|error: trainshed_core::id::InvalidId| ApiError::invalid("id", error.to_string()))
}
