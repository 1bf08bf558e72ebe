//! Files, named by their content.

use std::io;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::{Stream, TryStreamExt};
use serde::Deserialize;
use trainshed_core::view::{ImportedFile, ListedObject};
use trainshed_core::{Digest, TaskId};
use trainshed_engine::{Engine, NewUpload, Workspace};
use trainshed_wire::{FileQuery, ImportRequest, MissingFiles};
use utoipa::IntoParams;

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Json, Path, Query};

/// Most digests of one question.
const MAX_QUERY: usize = 100_000;

/// `POST /files/missing`: which of the named files the server does not have.
#[utoipa::path(post, path = "/files/missing", tag = "files", responses((status = 200, body = MissingFiles)))]
pub(crate) async fn missing(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Json(query): Json<FileQuery>,
) -> Result<Json<MissingFiles>, ApiError> {
    if query.sha256.len() > MAX_QUERY {
        let detail = format!(
            "sha256 must have at most {MAX_QUERY} digests, but it has {}",
            query.sha256.len()
        );
        return Err(ApiError::invalid("/sha256", detail));
    }
    Ok(Json(MissingFiles {
        missing: engine.missing_files(&workspace, &query.sha256).await?,
    }))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct StoreQuery {
    /// Whose output it is.
    task: Option<TaskId>,
}

/// `PUT /files/{sha256}?task=`: stores the body, which must have that digest; 204. The output
/// of a task goes where that task's files go.
#[utoipa::path(put, path = "/files/{sha256}", tag = "files", params(StoreQuery), request_body(content = Vec<u8>, content_type = "application/octet-stream"), responses((status = 204, description = "It is stored.")))]
pub(crate) async fn store(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(digest): Path<String>,
    Query(query): Query<StoreQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, ApiError> {
    let new = NewUpload {
        sha256: Some(parsed(&digest)?),
        size_bytes: length_of(&headers),
        task: query.task,
    };
    engine.take_file(&workspace, &new, stream_of(body)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The length that a request announces.
pub(crate) fn length_of(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse().ok())
}

/// `GET /files/{sha256}`: the content, or the range of it that the header `Range` asks for.
#[utoipa::path(get, path = "/files/{sha256}", tag = "files", responses((status = 200, content_type = "application/octet-stream", body = Vec<u8>), (status = 206, description = "The range that was asked for.")))]
pub(crate) async fn content(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(digest): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let digest = parsed(&digest)?;
    let name = digest.to_string();
    answer(&engine, &workspace, &digest, &name, &headers).await
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListQuery {
    /// The address to look at and below.
    uri: String,
}

/// `GET /files/listing?uri=`: the objects at and below an address that the server may read.
#[utoipa::path(get, path = "/files/listing", tag = "files", params(ListQuery), responses((status = 200, body = Vec<ListedObject>)))]
pub(crate) async fn listing(
    State(engine): State<Engine>,
    Caller(_workspace): Caller,
    Query(query): Query<ListQuery>,
) -> Result<Json<Vec<ListedObject>>, ApiError> {
    Ok(Json(engine.list_objects(&query.uri).await?))
}

/// `POST /files/import`: makes a file of an object elsewhere, by copy or by link.
#[utoipa::path(post, path = "/files/import", tag = "files", responses((status = 200, body = ImportedFile)))]
pub(crate) async fn import(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Json(request): Json<ImportRequest>,
) -> Result<Json<ImportedFile>, ApiError> {
    let made = engine.import_object(&workspace, &request.uri, request.link);
    Ok(Json(made.await?))
}

/// The body of a request, piece by piece.
pub(crate) fn stream_of(
    body: Body,
) -> impl Stream<Item = io::Result<Bytes>> + Send + Unpin + 'static {
    Box::pin(body.into_data_stream().map_err(io::Error::other))
}

/// Answers with a file, or with a range of it, which a browser saves under `name`.
pub(crate) async fn answer(
    engine: &Engine,
    workspace: &Workspace,
    digest: &Digest,
    name: &str,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let whole = engine.file_size(workspace, digest).await?;
    let size = whole.ok_or_else(|| ApiError::missing("file", &digest.to_string()))?;
    let tag = format!("\"{digest}\"");
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if text(header::IF_NONE_MATCH).is_some_and(|known| has_tag(known, &tag)) {
        let mut response = StatusCode::NOT_MODIFIED.into_response();
        set(&mut response, header::ETAG, &tag);
        return Ok(response);
    }
    // A range of another content is of no use to whoever has the beginning of this one.
    let asked = text(header::RANGE)
        .filter(|_| text(header::IF_RANGE).is_none_or(|if_range| if_range == tag));
    let range = match asked.map(|text| parse_range(text, size)) {
        Some(Ok(range)) => range,
        Some(Err(Unsatisfiable)) => {
            let detail = format!("the file has {size} bytes, and the range lies beyond them");
            let error = ApiError::new(
                StatusCode::RANGE_NOT_SATISFIABLE,
                "range-not-satisfiable",
                detail,
            );
            let mut response = error.into_response();
            let said = format!("bytes */{size}");
            set(&mut response, header::CONTENT_RANGE, &said);
            return Ok(response);
        }
        None => None,
    };
    let stream = engine.open_file(workspace, digest, range.clone()).await?;
    let stream = stream.ok_or_else(|| ApiError::missing("file", &digest.to_string()))?;
    let mut response = Body::from_stream(stream).into_response();
    let (from, to) = range
        .as_ref()
        .map_or((0, size), |range| (range.start, range.end));
    if range.is_some() {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let said = format!("bytes {from}-{}/{size}", to.saturating_sub(1));
        set(&mut response, header::CONTENT_RANGE, &said);
    }
    let length = (to - from).to_string();
    let disposition = format!("attachment; filename*=UTF-8''{}", escaped(name));
    for (name, value) in [
        (header::CONTENT_LENGTH, length.as_str()),
        (header::ETAG, &tag),
        (header::ACCEPT_RANGES, "bytes"),
        // What a plugin wrote must never run as a page of this server.
        (header::CONTENT_TYPE, "application/octet-stream"),
        (header::CONTENT_DISPOSITION, &disposition),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; sandbox",
        ),
    ] {
        set(&mut response, name, value);
    }
    Ok(response)
}

/// Whether a list of tags has this one; weak ones are as good, because the content has one form.
fn has_tag(list: &str, tag: &str) -> bool {
    let same = |known: &str| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag;
    list.split(',').any(|known| same(known.trim()))
}

/// A name as RFC 8187 has it in a header.
fn escaped(name: &str) -> String {
    let mut escaped = String::new();
    for byte in name.bytes().take(600) {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

fn set(response: &mut Response, name: header::HeaderName, value: &str) {
    let value = HeaderValue::from_str(value).expect("digests, numbers and escaped names are ASCII");
    response.headers_mut().insert(name, value);
}

fn parsed(digest: &str) -> Result<Digest, ApiError> {
    digest
        .parse()
        .map_err(|error: trainshed_core::digest::InvalidDigest| {
            ApiError::invalid("sha256", error.to_string())
        })
}

struct Unsatisfiable;

/// The one range that a `Range` header asks for; `None`, and so the whole file, for anything
/// that is not one range of bytes, as RFC 9110 allows.
fn parse_range(text: &str, size: u64) -> Result<Option<std::ops::Range<u64>>, Unsatisfiable> {
    let Some((first, last)) = text
        .strip_prefix("bytes=")
        .and_then(|range| range.split_once('-'))
    else {
        return Ok(None);
    };
    let range = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last => first..last.saturating_add(1).min(size),
        (Ok(first), Err(_)) if last.is_empty() => first..size,
        (Err(_), Ok(count)) if first.is_empty() => size.saturating_sub(count)..size,
        _ => return Ok(None),
    };
    if range.start < range.end {
        Ok(Some(range))
    } else {
        Err(Unsatisfiable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<Option<std::ops::Range<u64>>>) {
        assert_eq!(parse_range(text, 10).ok(), expected, "{text}");
    }

    #[test]
    fn a_tag_is_found_in_a_list() {
        for list in ["*", "\"a\"", "\"b\", W/\"a\""] {
            assert!(has_tag(list, "\"a\""), "{list}");
        }
        assert!(!has_tag("\"b\", a", "\"a\""));
    }

    #[test]
    fn no_name_leaves_its_header() {
        assert_eq!(escaped("a\"; x=\nä.csv"), "a%22%3B%20x%3D%0A%C3%A4.csv");
    }

    #[test]
    fn ranges_are_cut_to_the_file_and_nonsense_gives_the_whole() {
        check("bytes=0-3", Some(Some(0..4)));
        check("bytes=4-", Some(Some(4..10)));
        check("bytes=-3", Some(Some(7..10)));
        check("bytes=8-99", Some(Some(8..10)));
        check("bytes=10-", None);
        check("bytes=-0", None);
        check("bytes=3-1", Some(None));
        check("bytes=0-1,3-4", Some(None));
        check("lines=1-2", Some(None));
        check("bytes=0-18446744073709551615", Some(Some(0..10)));
    }
}
