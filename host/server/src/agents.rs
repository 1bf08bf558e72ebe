//! What agents call: register, lease, renew, report, finish.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use trainshed_core::report::Batch;
use trainshed_core::task::Outcome;
use trainshed_core::view::{AgentInfo, AgentView, DatasetView, LeaseState, TaskView};
use trainshed_core::{AgentId, TaskId};
use trainshed_engine::Engine;
use trainshed_wire::{CommitVersion, Wait};

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Json, Path, task_id};

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
    let agent: AgentId = agent
        .parse()
        .map_err(|error: trainshed_core::id::InvalidId| {
            ApiError::invalid("id", error.to_string())
        })?;
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
#[utoipa::path(post, path = "/leases/{task}/{fence}/report", tag = "agents", responses((status = 200, body = LeaseState)))]
pub(crate) async fn report(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    lease: Path<(String, i64)>,
    Json(batch): Json<Batch>,
) -> Result<Json<LeaseState>, ApiError> {
    let (task, fence) = held(lease)?;
    Ok(Json(engine.report(&workspace, &task, fence, batch).await?))
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

/// `POST /leases/{task}/{fence}/finish`: ends the task. Saying it again is harmless.
#[utoipa::path(post, path = "/leases/{task}/{fence}/finish", tag = "agents", responses((status = 200, body = TaskView)))]
pub(crate) async fn finish(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    lease: Path<(String, i64)>,
    Json(outcome): Json<Outcome>,
) -> Result<Json<TaskView>, ApiError> {
    let (task, fence) = held(lease)?;
    Ok(Json(
        engine.finish(&workspace, &task, fence, outcome).await?,
    ))
}

fn held(Path((task, fence)): Path<(String, i64)>) -> Result<(TaskId, i64), ApiError> {
    Ok((task_id(&task)?, fence))
}

fn bounded(wait: Wait) -> Duration {
    Duration::from_millis(wait.wait_ms).min(MAX_WAIT)
}
