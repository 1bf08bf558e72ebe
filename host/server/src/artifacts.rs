//! Files of tasks.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use trainshed_core::view::{ArtifactView, TaskFile};
use trainshed_engine::Engine;

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Json, Path, task_id};
use crate::files::{self, stream_of};
use crate::tasks::no_task;

/// `PUT /tasks/{id}/artifacts/{name}`: attaches the body to the task; 201. An artifact of the
/// same name is replaced.
#[utoipa::path(put, path = "/tasks/{id}/artifacts/{name}", tag = "artifacts", request_body(content = Vec<u8>, content_type = "application/octet-stream"), responses((status = 201, body = ArtifactView)))]
pub(crate) async fn put(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path((id, name)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<impl IntoResponse, ApiError> {
    let task = task_id(&id)?;
    let given = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let digest = engine.put_unnamed_file(&workspace, stream_of(body)).await?;
    let content = (&digest, given.unwrap_or("application/octet-stream"));
    let artifact = engine
        .put_artifact(&workspace, &task, &name, content)
        .await?;
    Ok((StatusCode::CREATED, Json(artifact)))
}

/// `GET /tasks/{id}/artifacts`: what was attached, ordered by name.
#[utoipa::path(get, path = "/tasks/{id}/artifacts", tag = "artifacts", responses((status = 200, body = Vec<ArtifactView>)))]
pub(crate) async fn list(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(id): Path<String>,
) -> Result<Json<Vec<ArtifactView>>, ApiError> {
    let artifacts = engine.artifacts(&workspace, &task_id(&id)?).await?;
    Ok(Json(artifacts.ok_or_else(|| no_task(&id))?))
}

/// `GET /tasks/{id}/artifacts/{name}`: the content of one artifact.
#[utoipa::path(get, path = "/tasks/{id}/artifacts/{name}", tag = "artifacts", responses((status = 200, content_type = "application/octet-stream", body = Vec<u8>), (status = 206, description = "The range that was asked for.")))]
pub(crate) async fn content(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path((id, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let artifacts = engine.artifacts(&workspace, &task_id(&id)?).await?;
    let artifacts = artifacts.ok_or_else(|| no_task(&id))?;
    let found = artifacts.iter().find(|artifact| artifact.name == name);
    let artifact = found.ok_or_else(|| ApiError::missing("artifact", &name))?;
    files::answer(&engine, &workspace, &artifact.sha256, &headers).await
}

/// `GET /tasks/{id}/files`: every stored file of the task; its content is at `/files/{sha256}`.
#[utoipa::path(get, path = "/tasks/{id}/files", tag = "artifacts", responses((status = 200, body = Vec<TaskFile>)))]
pub(crate) async fn files(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(id): Path<String>,
) -> Result<Json<Vec<TaskFile>>, ApiError> {
    let files = engine.task_files(&workspace, &task_id(&id)?).await?;
    Ok(Json(files.ok_or_else(|| no_task(&id))?))
}
