//! What programs report beside points, and reading consoles, samples and plots.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Map, Value};
use trainshed_core::media::MAX_MEDIA_BYTES;
use trainshed_core::query::Pattern;
use trainshed_core::report::{Level, NewReports, NewSample, Purpose, Sample};
use trainshed_core::view::{ConsolePage, Page, PlotView};
use trainshed_engine::{ConsoleQuery, Engine, ShownQuery};
use trainshed_wire::{ReportedAll, Samples};
use utoipa::IntoParams;

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Json, Path, Query, task_id};
use crate::files::stream_of;
use crate::tasks::no_task;

/// Most lines of one page of a console.
const MAX_LINES: u64 = 10_000;
/// Most samples, and most plots, of one page.
const MAX_SHOWN_PAGE: u64 = 5_000;
/// Longest pattern to look for, in bytes.
const MAX_SEARCH_BYTES: usize = 1_000;

/// `POST /tasks/{id}/reports`: records lines of the console, plots, samples and single values
/// of a task that the caller runs, all or none.
///
/// With `key` in the body, reports that are sent again within a day are not recorded again.
/// The content of a sample is uploaded before: `PUT /files/{sha256}`.
#[utoipa::path(post, path = "/tasks/{id}/reports", tag = "reports", responses((status = 200, body = ReportedAll)))]
pub(crate) async fn append(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(id): Path<String>,
    Json(reports): Json<NewReports>,
) -> Result<Json<ReportedAll>, ApiError> {
    let task = task_id(&id)?;
    let reported = engine.append_reports(&workspace, &task, reports).await?;
    Ok(Json(ReportedAll {
        repeated: reported.repeated,
    }))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewSampleQuery {
    title: String,
    series: String,
    #[serde(default)]
    iteration: u64,
    /// Tells samples of one place apart.
    #[serde(default)]
    name: String,
    /// `media` unless told otherwise, or `visualization`.
    purpose: Option<String>,
}

/// `POST /tasks/{id}/samples?title=&series=&iteration=`: keeps the body as a sample; 201.
///
/// Its type is that of the header `Content-Type`, if the content fits, or without one (or with
/// `application/octet-stream`) what the content looks like.
#[utoipa::path(post, path = "/tasks/{id}/samples", tag = "reports", params(NewSampleQuery), request_body(content = Vec<u8>, content_type = "application/octet-stream"), responses((status = 201, body = Sample)))]
pub(crate) async fn put_sample(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(id): Path<String>,
    Query(query): Query<NewSampleQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<impl IntoResponse, ApiError> {
    let task = task_id(&id)?;
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let announced = text(header::CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
    if let Some(length) = announced.filter(|length| *length > MAX_MEDIA_BYTES) {
        let detail = format!("a sample has at most {MAX_MEDIA_BYTES} bytes, but it has {length}");
        let status = StatusCode::PAYLOAD_TOO_LARGE;
        return Err(ApiError::new(status, "body-too-large", detail));
    }
    let declared = text(header::CONTENT_TYPE).filter(|name| *name != "application/octet-stream");
    let sample = NewSample {
        purpose: purpose(query.purpose.as_deref())?.unwrap_or(Purpose::Media),
        title: query.title,
        series: query.series,
        iteration: query.iteration,
        name: query.name,
        sha256: None,
        uri: None,
        content_type: declared.map(str::to_owned),
        extra: None,
        at: None,
    };
    let content = stream_of(body);
    let made = engine
        .put_sample(&workspace, &task, sample, content)
        .await?;
    Ok((StatusCode::CREATED, Json(made)))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConsoleParams {
    /// Forward: the first line wanted.
    after: Option<u64>,
    /// Backward: the line after the first one wanted.
    before: Option<u64>,
    /// Most lines, 1 to 10,000; 1,000 unless told otherwise.
    limit: Option<u64>,
    /// `asc` or `desc`. Without it, `after`, `before`, `search` and `level` the last lines
    /// come, the last at the end.
    order: Option<String>,
    /// Only lines in which this is found: a regular expression, or where it is none a text.
    search: Option<String>,
    /// Only lines of this level or a higher one: `debug`, `info`, `warning` or `error`.
    /// Standard output is `info`, standard error `warning`.
    level: Option<String>,
}

/// `GET /tasks/{id}/console`: lines from either end, all or those that are looked for.
///
/// `next` of a page is the `after`, or with `order=desc` the `before`, of the next one.
#[utoipa::path(get, path = "/tasks/{id}/console", tag = "reports", params(ConsoleParams), responses((status = 200, body = ConsolePage)))]
pub(crate) async fn console(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(id): Path<String>,
    Query(params): Query<ConsoleParams>,
) -> Result<Json<ConsolePage>, ApiError> {
    let task = task_id(&id)?;
    let is_tail = params.after.is_none()
        && params.before.is_none()
        && params.order.is_none()
        && params.search.is_none()
        && params.level.is_none();
    let query = console_query(params, is_tail)?;
    let page = engine.console(&workspace, &task, &query).await?;
    let mut page = page.ok_or_else(|| no_task(&id))?;
    if is_tail {
        page.lines.reverse();
    }
    Ok(Json(page))
}

fn console_query(params: ConsoleParams, is_tail: bool) -> Result<ConsoleQuery, ApiError> {
    let backward = match params.order.as_deref() {
        None => is_tail || params.before.is_some(),
        Some("asc") => false,
        Some("desc") => true,
        Some(other) => return Err(unknown("order", "asc or desc", other)),
    };
    let (from, ignored) = if backward {
        (params.before, params.after.map(|_| ("after", "asc")))
    } else {
        (params.after, params.before.map(|_| ("before", "desc")))
    };
    if let Some((field, order)) = ignored {
        let wrong = format!("{field} is for order={order}");
        return Err(ApiError::invalid(field, wrong));
    }
    let level = match params.level.as_deref() {
        None | Some("debug") => Level::Debug,
        Some("info") => Level::Info,
        Some("warning") => Level::Warning,
        Some("error") => Level::Error,
        Some(other) => return Err(unknown("level", "debug, info, warning or error", other)),
    };
    let search = params.search.as_deref();
    if let Some(long) = search.filter(|search| search.len() > MAX_SEARCH_BYTES) {
        let wrong = format!(
            "search must have at most {MAX_SEARCH_BYTES} bytes, but it has {}",
            long.len()
        );
        return Err(ApiError::invalid("search", wrong));
    }
    Ok(ConsoleQuery {
        backward,
        from,
        limit: params.limit.unwrap_or(1000).clamp(1, MAX_LINES),
        level,
        search: search.map(Pattern::lenient),
    })
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct ShownParams {
    /// Of samples: `media` or `visualization`.
    purpose: Option<String>,
    /// Only those of this title (of samples: category).
    title: Option<String>,
    /// Only those of this series (of samples: group).
    series: Option<String>,
    /// Only those of this iteration (of samples: index).
    iteration: Option<u64>,
    /// Only those of the last so many iterations of their series.
    last: Option<u64>,
    /// Most of them, 1 to 5,000; 1,000 unless told otherwise.
    limit: Option<u64>,
    /// The `next` of the page before.
    after: Option<String>,
}

/// `GET /tasks/{id}/samples`: a page of the samples, by category, group and index; their
/// content is at `/files/{sha256}`.
#[utoipa::path(get, path = "/tasks/{id}/samples", tag = "reports", params(ShownParams), responses((status = 200, body = Samples)))]
pub(crate) async fn samples(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(id): Path<String>,
    Query(params): Query<ShownParams>,
) -> Result<Json<Samples>, ApiError> {
    let task = task_id(&id)?;
    let query = shown_query(params)?;
    let page = engine.samples(&workspace, &task, &query).await?;
    let page = page.ok_or_else(|| no_task(&id))?;
    Ok(Json(Samples {
        samples: page.items,
        next: page.next,
    }))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct PlotsParams {
    /// Only those of this title.
    title: Option<String>,
    /// Only those of this series.
    series: Option<String>,
    /// Only those of this iteration.
    iteration: Option<u64>,
    /// Only those of the last so many iterations of their series.
    last: Option<u64>,
    /// Most of them, 1 to 5,000; 1,000 unless told otherwise. With figures, a page ends also
    /// after 16 MiB.
    limit: Option<u64>,
    /// The `next` of the page before.
    after: Option<String>,
    /// Whether the figures come along, as texts.
    #[serde(default)]
    figures: bool,
}

/// `GET /tasks/{id}/plots`: a page of the plots, by title, series and iteration.
#[utoipa::path(get, path = "/tasks/{id}/plots", tag = "reports", params(PlotsParams), responses((status = 200, body = Page<PlotView>)))]
pub(crate) async fn plots(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(id): Path<String>,
    Query(params): Query<PlotsParams>,
) -> Result<Json<Page<PlotView>>, ApiError> {
    let task = task_id(&id)?;
    let figures = params.figures;
    let query = shown_query(ShownParams {
        purpose: None,
        title: params.title,
        series: params.series,
        iteration: params.iteration,
        last: params.last,
        limit: params.limit,
        after: params.after,
    })?;
    let page = engine.plots(&workspace, &task, &query, figures).await?;
    Ok(Json(page.ok_or_else(|| no_task(&id))?))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct FigureParams {
    title: String,
    series: String,
    /// The last one when absent.
    iteration: Option<u64>,
}

/// `GET /tasks/{id}/plots/figure?title=&series=&iteration=`: the Plotly figure of one plot, as
/// it was reported.
#[utoipa::path(get, path = "/tasks/{id}/plots/figure", tag = "reports", params(FigureParams), responses((status = 200, body = serde_json::Value)))]
pub(crate) async fn figure(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(id): Path<String>,
    Query(params): Query<FigureParams>,
) -> Result<Response, ApiError> {
    let task = task_id(&id)?;
    let names = (params.title.as_str(), params.series.as_str());
    let plot = engine
        .plot(&workspace, &task, names, params.iteration)
        .await?;
    let figure = plot.and_then(|plot| plot.figure);
    let figure =
        figure.ok_or_else(|| ApiError::missing("plot", &format!("{}/{}", names.0, names.1)))?;
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    Ok((headers, figure).into_response())
}

/// `GET /tasks/{id}/trials/reported`: the table of trials that the task's own program reported
/// last (`log_trials`).
#[utoipa::path(get, path = "/tasks/{id}/trials/reported", tag = "reports", responses((status = 200, body = serde_json::Value)))]
pub(crate) async fn trials(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(id): Path<String>,
) -> Result<Json<Map<String, Value>>, ApiError> {
    let task = task_id(&id)?;
    let trials = engine.reported_trials(&workspace, &task).await?;
    let missing = || ApiError::missing("table of trials of the task", &id);
    Ok(Json(trials.ok_or_else(missing)?))
}

fn shown_query(params: ShownParams) -> Result<ShownQuery, ApiError> {
    Ok(ShownQuery {
        purpose: purpose(params.purpose.as_deref())?,
        title: name("title", params.title)?,
        series: name("series", params.series)?,
        iteration: params.iteration,
        last: params.last,
        limit: params.limit.unwrap_or(1000).clamp(1, MAX_SHOWN_PAGE),
        after: params.after,
    })
}

/// A text that a database can look for; an empty one asks for anything.
fn name(field: &str, text: Option<String>) -> Result<Option<String>, ApiError> {
    match text {
        Some(text) if text.contains('\0') => {
            let wrong = format!("{field} must not have a zero byte");
            Err(ApiError::invalid(field, wrong))
        }
        text => Ok(text),
    }
}

fn purpose(name: Option<&str>) -> Result<Option<Purpose>, ApiError> {
    name.map(|name| {
        Purpose::parse(name).ok_or_else(|| unknown("purpose", "media or visualization", name))
    })
    .transpose()
}

fn unknown(field: &str, known: &str, found: &str) -> ApiError {
    let short: String = found.chars().take(80).collect();
    let wrong = format!("{field} must be {known}, but it is `{short}`");
    ApiError::invalid(field, wrong)
}
