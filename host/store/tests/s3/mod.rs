//! As much of Amazon's object store protocol as a client needs, in memory, and the ways in
//! which such a store fails.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use trainshed_core::Digest;

/// What the store does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Mood {
    Well,
    /// Answers every call with 500.
    Failing,
    /// Answers no call.
    Silent,
    /// Takes the parts of uploads, and fails to put them together.
    Incomplete,
}

/// A store with one bucket, `box`.
#[derive(Clone, Default)]
pub(crate) struct S3 {
    port: u16,
    shelf: Arc<Shelf>,
}

#[derive(Default)]
struct Shelf {
    objects: Mutex<BTreeMap<String, Bytes>>,
    parts: Mutex<BTreeMap<(String, u32), Bytes>>,
    uploads: AtomicU64,
    mood: AtomicU8,
}

impl S3 {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let s3 = Self {
            port: listener.local_addr().unwrap().port(),
            shelf: Arc::default(),
        };
        let router = Router::new()
            .fallback(answer)
            .layer(DefaultBodyLimit::disable())
            .with_state(s3.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        s3
    }

    pub(crate) fn address(&self, below: &str) -> String {
        format!("s3://127.0.0.1:{}/box{below}", self.port)
    }

    pub(crate) fn set(&self, mood: Mood) {
        self.shelf.mood.store(mood as u8, Ordering::SeqCst);
    }

    fn is(&self, mood: Mood) -> bool {
        self.shelf.mood.load(Ordering::SeqCst) == mood as u8
    }

    pub(crate) fn put(&self, key: &str, content: &[u8]) {
        let content = Bytes::copy_from_slice(content);
        let mut objects = self.shelf.objects.lock().unwrap();
        objects.insert(key.to_owned(), content);
    }

    pub(crate) fn keys(&self) -> Vec<String> {
        let objects = self.shelf.objects.lock().unwrap();
        objects.keys().cloned().collect()
    }

    pub(crate) fn parts(&self) -> usize {
        self.shelf.parts.lock().unwrap().len()
    }
}

async fn answer(
    State(s3): State<S3>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if s3.is(Mood::Silent) {
        std::future::pending::<()>().await;
    }
    if s3.is(Mood::Failing) {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let signed = headers.get(header::AUTHORIZATION);
    let signed = signed.and_then(|value| value.to_str().ok());
    if !signed.is_some_and(|value| value.starts_with("AWS4-HMAC-SHA256 Credential=key/")) {
        return StatusCode::FORBIDDEN.into_response();
    }
    let query: BTreeMap<String, String> = uri
        .query()
        .unwrap_or_default()
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (name.to_owned(), value.replace("%2F", "/")))
        .collect();
    let Some(key) = uri.path().strip_prefix("/box") else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let key = key.trim_start_matches('/').replace("%20", " ");
    let upload = query.get("uploadId").cloned();
    match (method, upload) {
        (Method::POST, _) if query.contains_key("delete") => s3.delete(&body),
        (Method::POST, _) if query.contains_key("uploads") => {
            let id = s3.shelf.uploads.fetch_add(1, Ordering::SeqCst);
            xml(&format!(
                "<InitiateMultipartUploadResult><Bucket>box</Bucket><Key>{key}</Key><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
            ))
        }
        (Method::PUT, Some(id)) => {
            let number = query["partNumber"].parse().unwrap();
            let tag = etag(&body);
            s3.shelf.parts.lock().unwrap().insert((id, number), body);
            ([(header::ETAG, tag)], "").into_response()
        }
        (Method::POST, Some(_)) if s3.is(Mood::Incomplete) => {
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
        (Method::POST, Some(id)) => {
            let whole: Vec<u8> = s3.take_parts(&id).concat();
            s3.put(&key, &whole);
            xml(&format!(
                "<CompleteMultipartUploadResult><Key>{key}</Key><ETag>{}</ETag></CompleteMultipartUploadResult>",
                etag(&whole).replace('"', "&quot;")
            ))
        }
        (Method::DELETE, Some(id)) => {
            s3.take_parts(&id);
            StatusCode::NO_CONTENT.into_response()
        }
        (Method::PUT, None) => {
            let tag = etag(&body);
            s3.put(&key, &body);
            ([(header::ETAG, tag)], "").into_response()
        }
        (Method::DELETE, None) => {
            s3.shelf.objects.lock().unwrap().remove(&key);
            StatusCode::NO_CONTENT.into_response()
        }
        (Method::GET, None) if query.contains_key("list-type") => {
            s3.list(query.get("prefix").map_or("", String::as_str))
        }
        (Method::GET | Method::HEAD, None) => s3.get(&key, &headers),
        _ => StatusCode::METHOD_NOT_ALLOWED.into_response(),
    }
}

impl S3 {
    fn take_parts(&self, id: &str) -> Vec<Bytes> {
        let mut parts = self.shelf.parts.lock().unwrap();
        let all = std::mem::take(&mut *parts);
        let (taken, kept): (BTreeMap<_, _>, _) =
            all.into_iter().partition(|((upload, _), _)| upload == id);
        *parts = kept;
        taken.into_values().collect()
    }

    fn delete(&self, body: &[u8]) -> Response {
        let text = String::from_utf8_lossy(body).into_owned();
        let mut objects = self.shelf.objects.lock().unwrap();
        let mut deleted = String::new();
        let keys = text.split("<Key>").skip(1);
        for key in keys.filter_map(|rest| rest.split("</Key>").next()) {
            objects.remove(key);
            write!(deleted, "<Deleted><Key>{key}</Key></Deleted>").unwrap();
        }
        xml(&format!("<DeleteResult>{deleted}</DeleteResult>"))
    }

    fn list(&self, prefix: &str) -> Response {
        let objects = self.shelf.objects.lock().unwrap();
        let mut contents = String::new();
        for (key, content) in objects.iter().filter(|(key, _)| key.starts_with(prefix)) {
            write!(
                contents,
                "<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>{}</ETag><Size>{}</Size><StorageClass>STANDARD</StorageClass></Contents>",
                etag(content).replace('"', "&quot;"),
                content.len()
            )
            .unwrap();
        }
        xml(&format!(
            "<ListBucketResult><Name>box</Name><Prefix>{prefix}</Prefix><IsTruncated>false</IsTruncated>{contents}</ListBucketResult>"
        ))
    }

    fn get(&self, key: &str, headers: &HeaderMap) -> Response {
        let found = self.shelf.objects.lock().unwrap().get(key).cloned();
        let Some(content) = found else {
            return (
                StatusCode::NOT_FOUND,
                "<Error><Code>NoSuchKey</Code></Error>",
            )
                .into_response();
        };
        let tag = etag(&content);
        let wanted = headers.get(header::IF_MATCH);
        if wanted.is_some_and(|wanted| wanted.as_bytes() != tag.as_bytes()) {
            return StatusCode::PRECONDITION_FAILED.into_response();
        }
        let common = [
            (header::ETAG, tag),
            (
                header::LAST_MODIFIED,
                "Thu, 01 Jan 2026 00:00:00 GMT".to_owned(),
            ),
        ];
        let range = headers.get(header::RANGE).map(|range| {
            let text = range.to_str().unwrap().trim_start_matches("bytes=");
            let (first, last) = text.split_once('-').unwrap();
            (
                first.parse::<usize>().unwrap(),
                last.parse::<usize>().unwrap(),
            )
        });
        match range {
            Some((first, last)) => {
                let last = last.min(content.len() - 1);
                let said = format!("bytes {first}-{last}/{}", content.len());
                let part = Body::from(content.slice(first..=last));
                let range = [(header::CONTENT_RANGE, said)];
                (StatusCode::PARTIAL_CONTENT, common, range, part).into_response()
            }
            None => (common, content).into_response(),
        }
    }
}

fn etag(content: &[u8]) -> String {
    format!("\"{}\"", Digest::of(content).short())
}

fn xml(body: &str) -> Response {
    ([(header::CONTENT_TYPE, "application/xml")], body.to_owned()).into_response()
}
