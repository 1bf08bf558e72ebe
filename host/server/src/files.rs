//! Files, named by their content.

use std::io;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::{Stream, TryStreamExt};
use trainshed_core::Digest;
use trainshed_engine::{Engine, Workspace};
use trainshed_wire::{FileQuery, MissingFiles};

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Json, Path};

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

/// `PUT /files/{sha256}`: stores the body, which must have that digest; 204.
#[utoipa::path(put, path = "/files/{sha256}", tag = "files", request_body(content = Vec<u8>, content_type = "application/octet-stream"), responses((status = 204, description = "It is stored.")))]
pub(crate) async fn store(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(digest): Path<String>,
    body: Body,
) -> Result<StatusCode, ApiError> {
    engine
        .put_file(&workspace, parsed(&digest)?, stream_of(body))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /files/{sha256}`: the content, or the range of it that the header `Range` asks for.
#[utoipa::path(get, path = "/files/{sha256}", tag = "files", responses((status = 200, content_type = "application/octet-stream", body = Vec<u8>), (status = 206, description = "The range that was asked for.")))]
pub(crate) async fn content(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(digest): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    answer(&engine, &workspace, &parsed(&digest)?, &headers).await
}

/// The body of a request, piece by piece.
pub(crate) fn stream_of(
    body: Body,
) -> impl Stream<Item = io::Result<Bytes>> + Send + Unpin + 'static {
    Box::pin(body.into_data_stream().map_err(io::Error::other))
}

/// Answers with a file, or with a range of it.
pub(crate) async fn answer(
    engine: &Engine,
    workspace: &Workspace,
    digest: &Digest,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let whole = engine.file_size(workspace, digest).await?;
    let size = whole.ok_or_else(|| ApiError::missing("file", &digest.to_string()))?;
    let asked = headers
        .get(header::RANGE)
        .and_then(|value| value.to_str().ok());
    let range = match asked.map(|text| parse_range(text, size)) {
        Some(Ok(range)) => range,
        Some(Err(Unsatisfiable)) => {
            let detail = format!("the file has {size} bytes, and the range lies beyond them");
            return Err(ApiError::new(
                StatusCode::RANGE_NOT_SATISFIABLE,
                "range-not-satisfiable",
                detail,
            ));
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
        set(
            &mut response,
            header::CONTENT_RANGE,
            format!("bytes {from}-{}/{size}", to.saturating_sub(1)),
        );
    }
    set(
        &mut response,
        header::CONTENT_LENGTH,
        (to - from).to_string(),
    );
    set(&mut response, header::ETAG, format!("\"{digest}\""));
    set(&mut response, header::ACCEPT_RANGES, "bytes".to_owned());
    // What a plugin wrote must never run as a page of this server.
    set(
        &mut response,
        header::CONTENT_TYPE,
        "application/octet-stream".to_owned(),
    );
    set(
        &mut response,
        header::CONTENT_DISPOSITION,
        "attachment".to_owned(),
    );
    set(
        &mut response,
        header::X_CONTENT_TYPE_OPTIONS,
        "nosniff".to_owned(),
    );
    Ok(response)
}

fn set(response: &mut Response, name: header::HeaderName, value: String) {
    let value = HeaderValue::from_str(&value).expect("digests and numbers are visible ASCII");
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
