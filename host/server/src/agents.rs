//! What agents call: register, lease, renew, report, finish.

use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Deserialize;
use trainshed_core::report::{Batch, TrialAnswer, TrialReport};
use trainshed_core::resource::Reading;
use trainshed_core::view::{
    AgentDetails, AgentInfo, AgentView, ArtifactRequest, ArtifactView, DatasetView, LeaseState,
};
use trainshed_core::{AgentId, TaskId, Timestamp};
use trainshed_engine::{EndOfRun, Engine, NewConfiguration};
use trainshed_wire::{
    CommitVersion, Connect, ConnectText, Connected, ConnectedText, Finish, Wait, read_reports,
};
use utoipa::IntoParams;

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Json, Path, Query, task_id};

/// Longest wait that a call may ask for.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// `POST /agents`: registers an agent.
#[utoipa::path(post, path = "/agents", tag = "agents", responses((status = 200, body = AgentView)))]
pub(crate) async fn register(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Json(agent): Json<AgentInfo>,
) -> Result<Json<AgentView>, ApiError> {
    Ok(Json(engine.register_agent(&workspace, agent).await?))
}

/// `POST /agents/{id}/lease`: the oldest queued task, or 204 when none came within the wait.
#[utoipa::path(post, path = "/agents/{id}/lease", tag = "agents", responses((status = 200, body = trainshed_core::view::LeaseView), (status = 204, description = "No task came within the wait.")))]
pub(crate) async fn lease(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(agent): Path<String>,
    Json(wait): Json<Wait>,
) -> Result<Response, ApiError> {
    let agent = agent_id(&agent)?;
    match engine.lease(&workspace, &agent, bounded(wait)).await? {
        Some(lease) => Ok(Json(lease).into_response()),
        None => Ok(StatusCode::NO_CONTENT.into_response()),
    }
}

/// `POST /leases/{task}/{fence}/renew`: keeps the lease; answers early when the task is to stop.
#[utoipa::path(post, path = "/leases/{task}/{fence}/renew", tag = "agents", responses((status = 200, body = LeaseState)))]
pub(crate) async fn renew(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    lease: Path<(String, i64)>,
    Json(wait): Json<Wait>,
) -> Result<Json<LeaseState>, ApiError> {
    let (task, fence) = held(lease)?;
    Ok(Json(
        engine
            .renew(&workspace, &task, fence, bounded(wait))
            .await?,
    ))
}

/// `POST /leases/{task}/{fence}/report`: what the task told. Sending a batch again is harmless.
///
/// The body is JSON or `application/vnd.trainshed.reports`, in which points are frames.
#[utoipa::path(post, path = "/leases/{task}/{fence}/report", tag = "agents", request_body(content = Batch, description = "Reports: docs/points.md"), responses((status = 200, body = LeaseState)))]
pub(crate) async fn report(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    lease: Path<(String, i64)>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<LeaseState>, ApiError> {
    let (task, fence) = held(lease)?;
    let media_type = headers.get(header::CONTENT_TYPE);
    let media_type = media_type.and_then(|value| value.to_str().ok());
    let read = read_reports(media_type.unwrap_or_default(), &body);
    let (batch, frames) = read.map_err(|bad| {
        ApiError::new(StatusCode::BAD_REQUEST, "invalid-body", bad.message).at(&bad.pointer)
    })?;
    let reported = engine.report(&workspace, &task, fence, (batch, &frames));
    Ok(Json(reported.await?))
}

/// `POST /leases/{task}/{fence}/parameters`: connects values of the plugin with a section of the
/// task's parameters; answers them as the task had them before.
#[utoipa::path(post, path = "/leases/{task}/{fence}/parameters", tag = "agents", responses((status = 200, body = Connected)))]
pub(crate) async fn connect(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    lease: Path<(String, i64)>,
    Json(body): Json<Connect>,
) -> Result<Json<Connected>, ApiError> {
    let (task, fence) = held(lease)?;
    let given = (body.section.as_str(), &body.values);
    let values = engine.connect(&workspace, &task, fence, given).await?;
    Ok(Json(Connected { values }))
}

/// `POST /leases/{task}/{fence}/configuration`: connects a text of the plugin with a
/// configuration object; answers the one that the task had before.
#[utoipa::path(post, path = "/leases/{task}/{fence}/configuration", tag = "agents", responses((status = 200, body = ConnectedText)))]
pub(crate) async fn connect_text(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    lease: Path<(String, i64)>,
    Json(body): Json<ConnectText>,
) -> Result<Json<ConnectedText>, ApiError> {
    let (task, fence) = held(lease)?;
    let configuration = NewConfiguration {
        name: body.name,
        kind: body.format,
        description: String::new(),
        content: body.text.into_bytes(),
    };
    let text = engine
        .connect_text(&workspace, &task, fence, configuration)
        .await?;
    Ok(Json(ConnectedText { text }))
}

/// `POST /leases/{task}/{fence}/dataset-version`: the version that a preprocess task made.
#[utoipa::path(post, path = "/leases/{task}/{fence}/dataset-version", tag = "agents", responses((status = 200, body = DatasetView)))]
pub(crate) async fn commit_version(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    lease: Path<(String, i64)>,
    Json(version): Json<CommitVersion>,
) -> Result<Json<DatasetView>, ApiError> {
    let (task, fence) = held(lease)?;
    let dataset = engine
        .commit_version(&workspace, &task, fence, version.files, version.description)
        .await?;
    Ok(Json(dataset))
}

/// `POST /leases/{task}/{fence}/artifacts`: records an uploaded file, another task's artifact or
/// an address as an artifact of the running task; the same as the last of its name changes
/// nothing.
#[utoipa::path(post, path = "/leases/{task}/{fence}/artifacts", tag = "agents", responses((status = 200, body = ArtifactView)))]
pub(crate) async fn put_artifact(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    lease: Path<(String, i64)>,
    Json(asked): Json<ArtifactRequest>,
) -> Result<Json<ArtifactView>, ApiError> {
    let (task, fence) = held(lease)?;
    let put = engine.put_leased_artifact(&workspace, &task, fence, asked);
    Ok(Json(put.await?))
}

/// `POST /leases/{task}/{fence}/finish`: ends the task, and records what it reported last, which
/// has no points. Saying it again is harmless.
#[utoipa::path(post, path = "/leases/{task}/{fence}/finish", tag = "agents", responses((status = 204, description = "It has ended.")))]
pub(crate) async fn finish(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    lease: Path<(String, i64)>,
    Json(finish): Json<Finish>,
) -> Result<StatusCode, ApiError> {
    let (task, fence) = held(lease)?;
    let end = EndOfRun {
        outcome: finish.outcome,
        reports: finish.reports,
    };
    engine.finish(&workspace, &task, fence, end).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /leases/{task}/{fence}/trial-report`: what a trial of a tune action reports of itself;
/// answers what it is to do. Sending a report again is harmless. 425 while a model that it names
/// as its checkpoint has not been reported.
#[utoipa::path(post, path = "/leases/{task}/{fence}/trial-report", tag = "agents", responses((status = 200, body = TrialAnswer)))]
pub(crate) async fn report_trial(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    lease: Path<(String, i64)>,
    Json(report): Json<TrialReport>,
) -> Result<Json<TrialAnswer>, ApiError> {
    let (task, fence) = held(lease)?;
    let answer = engine.report_trial(&workspace, &task, fence, report);
    Ok(Json(answer.await?))
}

/// `POST /leases/{task}/{fence}/trial-wait`: what a paused trial is to do; answers early when it
/// may go on or is to stop.
#[utoipa::path(post, path = "/leases/{task}/{fence}/trial-wait", tag = "agents", responses((status = 200, body = TrialAnswer)))]
pub(crate) async fn await_decision(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    lease: Path<(String, i64)>,
    Json(wait): Json<Wait>,
) -> Result<Json<TrialAnswer>, ApiError> {
    let (task, fence) = held(lease)?;
    let answer = engine.await_decision(&workspace, &task, fence, bounded(wait));
    Ok(Json(answer.await?))
}

/// `GET /agents`: the agents of the last day, the last seen first.
#[utoipa::path(get, path = "/agents", tag = "agents", responses((status = 200, body = Vec<AgentDetails>)))]
pub(crate) async fn list(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
) -> Result<Json<Vec<AgentDetails>>, ApiError> {
    Ok(Json(engine.agents(&workspace).await?))
}

/// `POST /agents/{id}/resources`: what the agent's machine did; kept for a week. 204.
#[utoipa::path(post, path = "/agents/{id}/resources", tag = "agents", responses((status = 204, description = "It is kept.")))]
pub(crate) async fn record(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(agent): Path<String>,
    Json(reading): Json<Reading>,
) -> Result<StatusCode, ApiError> {
    let agent = agent_id(&agent)?;
    engine.record_reading(&workspace, &agent, &reading).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReadingsQuery {
    /// The earliest wanted, in milliseconds since 1970; absent for all that are kept.
    from: Option<i64>,
}

/// `GET /agents/{id}/resources`: what the agent's machine did, the oldest first; at most 5000
/// readings.
#[utoipa::path(get, path = "/agents/{id}/resources", tag = "agents", params(ReadingsQuery), responses((status = 200, body = Vec<Reading>)))]
pub(crate) async fn readings(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(agent): Path<String>,
    Query(query): Query<ReadingsQuery>,
) -> Result<Json<Vec<Reading>>, ApiError> {
    let from = Timestamp(query.from.unwrap_or(i64::MIN));
    Ok(Json(
        engine
            .readings(&workspace, &agent_id(&agent)?, from)
            .await?,
    ))
}

fn agent_id(text: &str) -> Result<AgentId, ApiError> {
    text.parse()
        .map_err(|error: trainshed_core::id::InvalidId| ApiError::invalid("id", error.to_string()))
}

fn held(Path((task, fence)): Path<(String, i64)>) -> Result<(TaskId, i64), ApiError> {
    Ok((task_id(&task)?, fence))
}

fn bounded(wait: Wait) -> Duration {
    Duration::from_millis(wait.wait_ms).min(MAX_WAIT)
}
