//! What holds for many calls at once: tags of documents, and requests with a key.

use axum::body::{Body, to_bytes};
use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use trainshed_core::digest::Hasher;
use trainshed_core::view::entity_tag;
use trainshed_engine::{Engine, KeyedRequest, StoredAnswer, Workspace, within_request};

use crate::MAX_JSON_BYTES;
use crate::auth::Caller;
use crate::error::ApiError;

/// Most bytes of a document that is tagged.
const MAX_TAGGED_BYTES: u64 = 16 << 20;
/// The header that names a request.
const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Longest key.
const MAX_KEY_BYTES: usize = 200;
/// Headers of an answer that are kept with it.
const KEPT_HEADERS: [HeaderName; 3] = [header::CONTENT_TYPE, header::LOCATION, header::ETAG];

/// Tags JSON documents with `ETag`, and answers 304 to whoever has that one already.
pub(crate) async fn tag(request: Request, next: Next) -> Response {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let known = request.headers().get(header::IF_NONE_MATCH).cloned();
    let response = next.run(request).await;
    if !reads || response.status() != StatusCode::OK || !is_tagged(&response) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let Ok(body) = to_bytes(body, usize::MAX).await else {
        let broken = "the answer could not be made";
        return ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", broken)
            .into_response();
    };
    let tag = entity_tag(&body);
    let value = HeaderValue::from_str(&tag).expect("a tag is hexadecimal digits in quotes");
    parts.headers.insert(header::ETAG, value);
    let given = known.as_ref().and_then(|known| known.to_str().ok());
    let same = |given: &str| given == "*" || given.trim_start_matches("W/") == tag;
    if given.is_some_and(|given| given.split(',').map(str::trim).any(same)) {
        parts.status = StatusCode::NOT_MODIFIED;
        parts.headers.remove(header::CONTENT_TYPE);
        parts.headers.remove(header::CONTENT_LENGTH);
        return Response::from_parts(parts, Body::empty());
    }
    Response::from_parts(parts, Body::from(body))
}

/// Calls that look at `If-Match`.
const VERSIONED: [(Method, &str); 9] = [
    (Method::PATCH, "/tasks/{id}"),
    (Method::PATCH, "/models/{id}"),
    (Method::PATCH, "/datasets/{id}"),
    (Method::PATCH, "/projects/{id}"),
    (Method::PUT, "/tasks/{id}/params"),
    (Method::PATCH, "/tasks/{id}/params"),
    (Method::DELETE, "/tasks/{id}/params/{section}/{*name}"),
    (Method::PUT, "/tasks/{id}/configuration/{*name}"),
    (Method::DELETE, "/tasks/{id}/configuration/{*name}"),
];

/// Refuses a write with `If-Match` that does not look at it: better not done than done although
/// the condition may not hold.
pub(crate) async fn refuse_ignored_conditions(
    path: Option<MatchedPath>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let method = request.method();
    let reads = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    let known = |path: &MatchedPath| {
        let path = path.as_str();
        let path = path.strip_prefix("/api/v1").unwrap_or(path);
        VERSIONED.iter().any(|(of, at)| of == method && *at == path)
    };
    if reads
        || !request.headers().contains_key(header::IF_MATCH)
        || path.as_ref().is_some_and(known)
    {
        return Ok(next.run(request).await);
    }
    let detail = "this call does not look at the header `If-Match`, and is not done with it";
    let error = ApiError::new(StatusCode::BAD_REQUEST, "condition-ignored", detail);
    Err(error.hint(Some(
        "docs/api.md says which calls do; leave it out of others.".to_owned(),
    )))
}

/// Refuses a body that is compressed: taken as it is, it would be stored as what it is not.
pub(crate) async fn refuse_encoded_bodies(request: Request, next: Next) -> Response {
    let encoding = request.headers().get(header::CONTENT_ENCODING);
    let Some(encoding) = encoding.filter(|encoding| *encoding != "identity") else {
        return next.run(request).await;
    };
    let encoding = String::from_utf8_lossy(encoding.as_bytes());
    let shown: String = encoding.chars().take(80).collect();
    let detail =
        format!("the header `Content-Encoding` is `{shown}`, but bodies are taken as they are");
    let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    let refused = ApiError::new(status, "unsupported-encoding", detail).hint(Some(
        "Send the body as it is, without the header.".to_owned(),
    ));
    ([(header::ACCEPT_ENCODING, "identity")], refused).into_response()
}

/// Whether an answer is one JSON document that is in memory whole, and has no tag of its own.
fn is_tagged(response: &Response) -> bool {
    let headers = response.headers();
    let content_type = headers.get(header::CONTENT_TYPE);
    let size = axum::body::HttpBody::size_hint(response.body()).exact();
    !headers.contains_key(header::ETAG)
        && content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/json"))
        && size.is_some_and(|size| size <= MAX_TAGGED_BYTES)
}

/// Does a `POST` with the header `Idempotency-Key` once: sent again within a day, it is
/// answered with the first answer. Uploads, whose body is no JSON, are left alone: they are
/// named by their content. So are batches of points, which the store knows by task and key.
pub(crate) async fn once(
    State(engine): State<Engine>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let Some(key) = request.headers().get(&KEY) else {
        return Ok(next.run(request).await);
    };
    let is_points = request.uri().path().ends_with("/metrics");
    if request.method() != Method::POST || !is_json(request.headers()) || is_points {
        return Ok(next.run(request).await);
    }
    let key = checked_key(key)?;
    let (mut parts, body) = request.into_parts();
    let Caller(workspace) = Caller::from_request_parts(&mut parts, &engine).await?;
    let body = to_bytes(body, MAX_JSON_BYTES).await.map_err(|_| {
        let detail = format!("a body with an idempotency key has at most {MAX_JSON_BYTES} bytes");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", detail)
    })?;
    let digest = digest(&parts.uri.to_string(), &body);
    match engine.begin_request(&workspace, &key, &digest).await? {
        KeyedRequest::New => {}
        KeyedRequest::Answered(answer) => return Ok(replayed(answer)),
        KeyedRequest::Begun => {
            let detail = format!("the request with the key `{key}` is being done");
            return Err(ApiError::new(StatusCode::CONFLICT, "request-begun", detail)
                .hint(Some("Ask again in a moment.".to_owned())));
        }
        KeyedRequest::Other => {
            let detail = format!("another request has the key `{key}`");
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            return Err(ApiError::new(status, "key-reused", detail)
                .hint(Some("Send each new request with a new key.".to_owned())));
        }
    }
    // The work goes on, and its answer is kept, when the caller goes away in the middle.
    let work = tokio::spawn(async move {
        let request = Request::from_parts(parts, Body::from(body));
        let response = within_request(&workspace, &key, next.run(request)).await;
        keep(&engine, &workspace, &key, response).await
    });
    work.await.map_err(|_| {
        let detail = "the request ended in an internal error";
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    })?
}

/// Keeps an answer with its key. An answer that says that trying again may help is not kept.
async fn keep(
    engine: &Engine,
    workspace: &Workspace,
    key: &str,
    response: Response,
) -> Result<Response, ApiError> {
    let (parts, body) = response.into_parts();
    let status = parts.status;
    let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
    let is_secret = |value: &HeaderValue| value == "no-store";
    let passing = status.is_server_error()
        || status == StatusCode::TOO_MANY_REQUESTS
        || parts
            .headers
            .get(header::CACHE_CONTROL)
            .is_some_and(is_secret);
    let answer = (!passing).then(|| StoredAnswer {
        status: status.as_u16(),
        headers: kept_headers(&parts.headers),
        body: body.to_vec(),
    });
    engine.end_request(workspace, key, answer.as_ref()).await?;
    Ok(Response::from_parts(parts, Body::from(body)))
}

fn kept_headers(headers: &HeaderMap) -> Vec<(String, String)> {
    let kept = KEPT_HEADERS.iter().filter_map(|name| {
        let value = headers.get(name)?.to_str().ok()?;
        Some((name.to_string(), value.to_owned()))
    });
    kept.collect()
}

fn replayed(answer: StoredAnswer) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    let mut response = (status, answer.body).into_response();
    response.headers_mut().remove(header::CONTENT_TYPE);
    for (name, value) in answer.headers {
        if let (Ok(name), Ok(value)) = (
            HeaderName::try_from(name.as_str()),
            HeaderValue::try_from(value.as_str()),
        ) {
            response.headers_mut().insert(name, value);
        }
    }
    let name = HeaderName::from_static("idempotency-replayed");
    let value = HeaderValue::from_static("true");
    response.headers_mut().insert(name, value);
    response
}

fn checked_key(key: &HeaderValue) -> Result<String, ApiError> {
    let text = key.to_str().unwrap_or_default();
    let valid = !text.is_empty()
        && text.len() <= MAX_KEY_BYTES
        && text.bytes().all(|byte| (b'!'..=b'~').contains(&byte));
    if valid {
        return Ok(text.to_owned());
    }
    let detail =
        format!("the header `Idempotency-Key` has 1 to {MAX_KEY_BYTES} visible ASCII characters");
    Err(ApiError::new(
        StatusCode::BAD_REQUEST,
        "invalid-key",
        detail,
    ))
}

/// Whether a request has a JSON body, or none.
fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE);
    content_type.is_none_or(|value| value.as_bytes().starts_with(b"application/json"))
}

/// What makes a request the same as another: where it goes and what it says.
fn digest(uri: &str, body: &Bytes) -> String {
    let mut hasher = Hasher::default();
    hasher.update(uri.as_bytes());
    hasher.update(b"\n");
    hasher.update(body);
    hasher.finish().to_string()
}
