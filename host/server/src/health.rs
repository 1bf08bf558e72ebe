//! What those who run a server watch: whether it lives, whether it can work, and what it does.

use std::time::Instant;

use axum::Extension;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use trainshed_engine::Engine;

use crate::auth::Caller;
use crate::error::ApiError;

/// Upper bounds of the buckets of durations, in seconds: from what an index lookup takes to
/// what a person gives up after.
const BUCKETS: [f64; 11] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0,
];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Call {
    method: String,
    /// The route, e.g. `/api/v1/tasks/{id}`, so that there are few.
    route: String,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    method: String,
    route: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Status {
    status: &'static str,
}

/// What the server counts of itself.
#[derive(Clone)]
pub(crate) struct Counters {
    calls: Family<Call, Counter>,
    seconds: Family<Route, Histogram>,
}

impl Counters {
    pub(crate) fn new() -> Self {
        Self {
            calls: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
        }
    }
}

/// Counts every call and how long it took until its answer began.
pub(crate) async fn count(
    State(counters): State<Counters>,
    path: Option<MatchedPath>,
    request: Request,
    next: Next,
) -> Response {
    let begun = Instant::now();
    let method = request.method().as_str().to_owned();
    let route = path.map_or_else(|| "unknown".to_owned(), |path| path.as_str().to_owned());
    let response = next.run(request).await;
    let call = Call {
        method: method.clone(),
        route: route.clone(),
        status: response.status().as_u16(),
    };
    counters.calls.get_or_create(&call).inc();
    let seconds = begun.elapsed().as_secs_f64();
    let (status, milliseconds) = (call.status, seconds * 1000.0);
    tracing::debug!(%method, %route, status, milliseconds, "call");
    let timed = counters.seconds.get_or_create(&Route { method, route });
    timed.observe(seconds);
    response
}

/// `GET /readyz`: 200 when the database answers and can be written to, else 503 with the reason.
pub(crate) async fn ready(State(engine): State<Engine>) -> Result<&'static str, ApiError> {
    engine.check_store().await?;
    Ok("ok\n")
}

/// `GET /metrics`: what the server counts, in the text format of Prometheus. Needs a key, and
/// tells of tasks only those of its workspace.
pub(crate) async fn metrics(
    State(engine): State<Engine>,
    Extension(counters): Extension<Counters>,
    Caller(workspace): Caller,
) -> Result<impl IntoResponse, ApiError> {
    let tasks: Family<Status, Gauge> = Family::default();
    for (state, count) in engine.count_tasks(&workspace).await? {
        let status = Status {
            status: state.as_str(),
        };
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        tasks.get_or_create(&status).set(count);
    }
    let mut registry = Registry::with_prefix("trainshed");
    registry.register(
        "http_requests",
        "Calls by method, route and status",
        counters.calls.clone(),
    );
    registry.register_with_unit(
        "http_request_duration",
        "Time until the answer began",
        Unit::Seconds,
        counters.seconds.clone(),
    );
    registry.register("tasks", "Tasks by status", tasks);
    let mut text = String::new();
    encode(&mut text, &registry).map_err(|error| {
        ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            error.to_string(),
        )
    })?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text))
}
