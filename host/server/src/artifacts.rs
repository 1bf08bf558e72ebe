//! Artifacts and other files of tasks.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;
use trainshed_core::artifact::{ArtifactMode, ArtifactType};
use trainshed_core::view::{ArtifactRequest, ArtifactView, TaskFile};
use trainshed_engine::{Engine, NewUpload};
use utoipa::IntoParams;

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Json, Path, Query, task_id};
use crate::files::{self, length_of, stream_of};
use crate::tasks::no_task;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct PutQuery {
    /// What the body is; by the end of the name unless given.
    r#type: Option<ArtifactType>,
    #[serde(default)]
    mode: ArtifactMode,
}

/// `PUT /tasks/{id}/artifacts/{name}?type=&mode=`: keeps the body as an artifact of the task;
/// 201. One of the same name becomes a former version.
#[utoipa::path(put, path = "/tasks/{id}/artifacts/{name}", tag = "artifacts", params(PutQuery), request_body(content = Vec<u8>, content_type = "application/octet-stream"), responses((status = 201, body = ArtifactView)))]
pub(crate) async fn put(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path((id, name)): Path<(String, String)>,
    Query(query): Query<PutQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<impl IntoResponse, ApiError> {
    let task = task_id(&id)?;
    let given = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let new = NewUpload {
        sha256: None,
        size_bytes: length_of(&headers),
        task: Some(task.clone()),
    };
    let digest = engine.take_file(&workspace, &new, stream_of(body)).await?;
    let asked = ArtifactRequest {
        name,
        mode: query.mode,
        kind: query.r#type,
        sha256: Some(digest),
        content_type: given.map(str::to_owned),
        ..ArtifactRequest::default()
    };
    let artifact = engine.put_artifact(&workspace, &task, asked).await?;
    Ok((StatusCode::CREATED, Json(artifact)))
}

/// `POST /tasks/{id}/artifacts`: records an uploaded file, another task's artifact or an
/// address as an artifact of the task; 201.
#[utoipa::path(post, path = "/tasks/{id}/artifacts", tag = "artifacts", responses((status = 201, body = ArtifactView)))]
pub(crate) async fn register(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(id): Path<String>,
    Json(asked): Json<ArtifactRequest>,
) -> Result<impl IntoResponse, ApiError> {
    let artifact = engine
        .put_artifact(&workspace, &task_id(&id)?, asked)
        .await?;
    Ok((StatusCode::CREATED, Json(artifact)))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListQuery {
    #[serde(default)]
    history: bool,
}

/// `GET /tasks/{id}/artifacts?history=`: the artifacts by name; with `history=true` former
/// versions too.
#[utoipa::path(get, path = "/tasks/{id}/artifacts", tag = "artifacts", params(ListQuery), responses((status = 200, body = Vec<ArtifactView>)))]
pub(crate) async fn list(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(id): Path<String>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Vec<ArtifactView>>, ApiError> {
    let artifacts = engine
        .artifacts(&workspace, &task_id(&id)?, query.history)
        .await?;
    Ok(Json(artifacts.ok_or_else(|| no_task(&id))?))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct OneQuery {
    #[serde(default)]
    mode: ArtifactMode,
    version: Option<u32>,
}

/// `GET /tasks/{id}/artifacts/{name}?mode=&version=`: the content of one artifact. One that is
/// only recorded answers with its address in `Location`.
#[utoipa::path(get, path = "/tasks/{id}/artifacts/{name}", tag = "artifacts", params(OneQuery), responses((status = 200, content_type = "application/octet-stream", body = Vec<u8>), (status = 206, description = "The range that was asked for.")))]
pub(crate) async fn content(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path((id, name)): Path<(String, String)>,
    Query(query): Query<OneQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let task = task_id(&id)?;
    let artifact = engine
        .artifact(&workspace, &task, &name, query.mode, query.version)
        .await?;
    let Some(digest) = artifact.sha256 else {
        return elsewhere(&artifact);
    };
    let ending = artifact.kind.ending();
    let file = match name.to_ascii_lowercase().ends_with(ending) {
        true => name,
        false => name + ending,
    };
    files::answer(&engine, &workspace, &digest, &file, &headers).await
}

/// Sends whoever asks to a web server, and tells the address of anything else.
fn elsewhere(artifact: &ArtifactView) -> Result<Response, ApiError> {
    let uri = artifact.uri.as_deref().unwrap_or_default();
    if uri.starts_with("http://") || uri.starts_with("https://") {
        return Ok(Redirect::to(uri).into_response());
    }
    let detail = format!("the artifact is only recorded here: its content is at `{uri}`");
    Err(ApiError::new(
        StatusCode::CONFLICT,
        "content-elsewhere",
        detail,
    ))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeleteQuery {
    #[serde(default)]
    mode: ArtifactMode,
}

/// `DELETE /tasks/{id}/artifacts/{name}?mode=`: forgets an artifact with its history; 204.
#[utoipa::path(delete, path = "/tasks/{id}/artifacts/{name}", tag = "artifacts", params(DeleteQuery), responses((status = 204, description = "It is gone.")))]
pub(crate) async fn delete(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path((id, name)): Path<(String, String)>,
    Query(query): Query<DeleteQuery>,
) -> Result<StatusCode, ApiError> {
    let task = task_id(&id)?;
    engine
        .delete_artifact(&workspace, &task, &name, query.mode)
        .await?;
    Ok(StatusCode::NO_CONTENT)
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
