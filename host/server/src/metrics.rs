//! Points of curves: reporting them, and reading them for charts.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Deserialize;
use trainshed_core::TaskId;
use trainshed_engine::{Engine, SampleQuery, Workspace};
use trainshed_wire::{
    AllSamples, Axis, Curve, CurveColumns, MetricSummary, Recorded, SampledCurve, Sampling,
    read_points,
};
use utoipa::IntoParams;

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Json, Path, Query, task_id};
use crate::tasks::no_task;

/// Most points of one page, and how many there are unless fewer are asked for.
const MAX_PAGE: usize = 100_000;
/// Most bytes of an idempotency key.
const MAX_KEY_BYTES: usize = 200;
const COLUMNS_TYPE: &str = "application/octet-stream";

/// `POST /tasks/{id}/metrics`: records points and single values; answers once they are
/// durable.
///
/// The body is JSON or `application/vnd.trainshed.points`. With `key` in the body or the
/// header `Idempotency-Key`, a batch that is sent again within a day is not recorded again.
#[utoipa::path(post, path = "/tasks/{id}/metrics", tag = "reports", request_body(content = serde_json::Value, description = "Points: docs/points.md"), responses((status = 200, body = Recorded)))]
pub(crate) async fn append_metrics(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Recorded>, ApiError> {
    let task = task_id(&id)?;
    let media_type = text(&headers, header::CONTENT_TYPE.as_str());
    let batch = read_points(media_type.unwrap_or_default(), &body, engine.moment());
    let mut batch = batch.map_err(|bad| {
        let error = ApiError::new(StatusCode::BAD_REQUEST, "invalid-points", bad.message);
        error
            .at(&bad.pointer)
            .hint(Some("docs/points.md describes both bodies.".to_owned()))
    })?;
    if let Some(key) = text(&headers, "idempotency-key") {
        if key.is_empty() || key.len() > MAX_KEY_BYTES {
            let wrong = format!(
                "the header Idempotency-Key has 1 to {MAX_KEY_BYTES} bytes, but this one has {}",
                key.len()
            );
            return Err(ApiError::invalid("idempotency-key", wrong));
        }
        batch.key = Some(key.to_owned().into());
    }
    let appended = engine.append_points(&workspace, &task, &batch).await?;
    Ok(Json(Recorded {
        points: appended.points,
        repeated: appended.repeated,
    }))
}

/// `DELETE /tasks/{id}/metrics`: deletes all points, single values and summaries of a task.
#[utoipa::path(delete, path = "/tasks/{id}/metrics", tag = "reports", responses((status = 204)))]
pub(crate) async fn delete_metrics(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    if engine.delete_points(&workspace, &task_id(&id)?).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(no_task(&id))
    }
}

/// `GET /tasks/{id}/metrics/summary`: last, least and greatest value of every curve, by title
/// and series.
#[utoipa::path(get, path = "/tasks/{id}/metrics/summary", tag = "reports", responses((status = 200, body = BTreeMap<String, BTreeMap<String, MetricSummary>>)))]
pub(crate) async fn metric_summary(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(id): Path<String>,
) -> Result<Json<BTreeMap<String, BTreeMap<String, MetricSummary>>>, ApiError> {
    let scalars = engine.scalars(&workspace, &task_id(&id)?).await?;
    let mut titles: BTreeMap<String, BTreeMap<String, MetricSummary>> = BTreeMap::new();
    for curve in scalars.ok_or_else(|| no_task(&id))? {
        let summary = MetricSummary {
            last: curve.last,
            min: curve.min,
            max: curve.max,
        };
        let series = titles.entry(curve.title).or_default();
        series.insert(curve.series, summary);
    }
    Ok(Json(titles))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct SamplesQuery {
    /// At most so many samples of each curve; 5000 unless fewer are asked for.
    max_samples: Option<u32>,
    /// `iter`, `timestamp` or `iso_time`.
    x: Option<String>,
}

/// `GET /tasks/{id}/metrics?max_samples=&x=`: samples of every curve, by title and series.
#[utoipa::path(get, path = "/tasks/{id}/metrics", tag = "reports", params(SamplesQuery), responses((status = 200, body = AllSamples)))]
pub(crate) async fn all_curves(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(id): Path<String>,
    Query(query): Query<SamplesQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let task = task_id(&id)?;
    let axis = axis(query.x.as_deref())?;
    let wanted = SampleQuery {
        most: most_samples(query.max_samples)?,
        ..SampleQuery::default()
    };
    let tag = match Known::of(&engine, (&workspace, &task), &headers).await? {
        Known::Current(answer) => return Ok(answer),
        Known::Stale(tag) => tag,
    };
    let sampled = engine.sample_all(&workspace, &task, wanted).await?;
    let mut titles = AllSamples::new();
    for ((title, series), sampled) in sampled.ok_or_else(|| no_task(&id))? {
        let curves = titles.entry(title).or_default();
        curves.insert(series, SampledCurve::new(sampled, axis));
    }
    Ok(tagged(tag, Json(titles).into_response()))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct CurveQuery {
    title: String,
    series: String,
    /// Asks for samples rather than for all points: at most so many, never more than 5000.
    max_samples: Option<u32>,
    /// How samples stand for points: `mean` (unless told otherwise) or `lttb`.
    sampling: Option<String>,
    /// The axis of samples: `iter`, `timestamp` or `iso_time`.
    x: Option<String>,
    /// The first iteration wanted.
    from: Option<u64>,
    /// The last iteration wanted, of samples.
    to: Option<u64>,
    /// Most points of a page, 1 to 100,000.
    limit: Option<u32>,
    /// Of values as `application/octet-stream`: `f32` or `f64`.
    dtype: Option<String>,
}

/// `GET /tasks/{id}/scalars/points?title=&series=`: the points of one curve, in pages, or with
/// `max_samples` samples of it.
///
/// With `Accept: application/octet-stream` both come as columns of floats.
#[utoipa::path(get, path = "/tasks/{id}/scalars/points", tag = "reports", params(CurveQuery), responses((status = 200, body = Curve)))]
pub(crate) async fn curve(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(id): Path<String>,
    Query(query): Query<CurveQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let task = task_id(&id)?;
    let axis = axis(query.x.as_deref())?;
    let is_single = is_single(query.dtype.as_deref())?;
    let names = (query.title.as_str(), query.series.as_str());
    let missing = || ApiError::missing("series", &format!("{}/{}", names.0, names.1));
    let from = query.from.unwrap_or(0);
    let limit = page_limit(query.limit)?;
    let wanted = SampleQuery {
        most: most_samples(query.max_samples)?,
        sampling: sampling(query.sampling.as_deref())?,
        steps: from..=query.to.unwrap_or(u64::MAX),
    };
    let tag = match Known::of(&engine, (&workspace, &task), &headers).await? {
        Known::Current(answer) => return Ok(answer),
        Known::Stale(tag) => tag,
    };
    if query.max_samples.is_some() {
        let sampled = engine.sample(&workspace, &task, names, &wanted).await?;
        let sampled = sampled.ok_or_else(|| no_task(&id))?;
        if sampled.steps.is_empty() && from == 0 && query.to.is_none() {
            return Err(missing());
        }
        return Ok(tagged(
            tag,
            if wants_columns(&headers) {
                columns(CurveColumns::of_samples(sampled, axis, is_single))
            } else {
                Json(SampledCurve::new(sampled, axis)).into_response()
            },
        ));
    }
    let page = engine.points(&workspace, &task, names, from, limit).await?;
    let page = page.ok_or_else(|| no_task(&id))?;
    if page.points.is_empty() && from == 0 {
        return Err(missing());
    }
    if wants_columns(&headers) {
        let bytes = CurveColumns::of_points(&page.points, is_single);
        return Ok(tagged(tag, columns(bytes)));
    }
    let curve = Curve::new((query.title, query.series), &page.points, page.next);
    Ok(tagged(tag, Json(curve).into_response()))
}

/// What the client knows of the points that it asks for.
enum Known {
    /// It has what is there.
    Current(Response),
    /// It has not; the answer carries this tag.
    Stale(String),
}

impl Known {
    /// To be asked before the points are read: what comes between is then sent again rather
    /// than missed.
    async fn of(
        engine: &Engine,
        (workspace, task): (&Workspace, &TaskId),
        headers: &HeaderMap,
    ) -> Result<Self, ApiError> {
        let version = engine.points_version(workspace, task).await?;
        let form = if wants_columns(headers) { "-b" } else { "" };
        let tag = format!("\"{version}{form}\"");
        let known = text(headers, header::IF_NONE_MATCH.as_str()).unwrap_or_default();
        Ok(if known.split(',').any(|known| known.trim() == tag) {
            let answer = (StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]);
            Self::Current(answer.into_response())
        } else {
            Self::Stale(tag)
        })
    }
}

fn tagged(tag: String, response: Response) -> Response {
    let headers = [(header::ETAG, tag), (header::VARY, "accept".to_owned())];
    (headers, response).into_response()
}

fn wants_columns(headers: &HeaderMap) -> bool {
    text(headers, "accept").is_some_and(|accepted| accepted.contains(COLUMNS_TYPE))
}

fn columns(bytes: Vec<u8>) -> Response {
    ([(header::CONTENT_TYPE, COLUMNS_TYPE)], bytes).into_response()
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn axis(name: Option<&str>) -> Result<Axis, ApiError> {
    let parsed = name.map_or(Ok(Axis::Iter), str::parse);
    parsed.map_err(|error: trainshed_wire::UnknownAxis| ApiError::invalid("x", error.to_string()))
}

fn sampling(name: Option<&str>) -> Result<Sampling, ApiError> {
    match name {
        None | Some("mean") => Ok(Sampling::Mean),
        Some("lttb") => Ok(Sampling::Lttb),
        Some(other) => {
            let short: String = other.chars().take(80).collect();
            let wrong = format!("sampling must be `mean` or `lttb`, but it is `{short}`");
            Err(ApiError::invalid("sampling", wrong))
        }
    }
}

fn is_single(name: Option<&str>) -> Result<bool, ApiError> {
    match name {
        None | Some("f64") => Ok(false),
        Some("f32") => Ok(true),
        Some(other) => {
            let short: String = other.chars().take(80).collect();
            let wrong = format!("dtype must be `f32` or `f64`, but it is `{short}`");
            Err(ApiError::invalid("dtype", wrong))
        }
    }
}

/// 0 asks for the most, as the ClearML protocol has it.
fn most_samples(asked: Option<u32>) -> Result<usize, ApiError> {
    match asked {
        None | Some(0) => Ok(usize::MAX),
        Some(most) => usize::try_from(most)
            .map_err(|_| ApiError::invalid("max_samples", "max_samples is too great")),
    }
}

fn page_limit(asked: Option<u32>) -> Result<usize, ApiError> {
    let limit = asked.map_or(Ok(MAX_PAGE), usize::try_from);
    match limit {
        Ok(limit @ 1..=MAX_PAGE) => Ok(limit),
        Ok(limit) => {
            let wrong = format!("limit must be 1 to {MAX_PAGE}, but it is {limit}");
            Err(ApiError::invalid("limit", wrong))
        }
        Err(_) => Err(ApiError::invalid("limit", "limit is too great")),
    }
}
