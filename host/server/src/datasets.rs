//! Data sets.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use trainshed_core::view::{DatasetView, NewDataset};
use trainshed_engine::Engine;

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Json, Path};
use crate::files;

/// `POST /datasets`: makes a version of files that were uploaded before; 201.
#[utoipa::path(post, path = "/datasets", tag = "data sets", responses((status = 201, body = DatasetView)))]
pub(crate) async fn create(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Json(new): Json<NewDataset>,
) -> Result<impl IntoResponse, ApiError> {
    let dataset = engine.create_dataset(&workspace, new).await?;
    Ok((StatusCode::CREATED, Json(dataset)))
}

/// `GET /datasets`: every version, newest first, without files.
#[utoipa::path(get, path = "/datasets", tag = "data sets", responses((status = 200, body = Vec<DatasetView>)))]
pub(crate) async fn list(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
) -> Result<Json<Vec<DatasetView>>, ApiError> {
    Ok(Json(engine.datasets(&workspace).await?))
}

/// `GET /datasets/{id}`: one version with its files.
#[utoipa::path(get, path = "/datasets/{id}", tag = "data sets", responses((status = 200, body = DatasetView)))]
pub(crate) async fn show(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(id): Path<u64>,
) -> Result<Json<DatasetView>, ApiError> {
    let dataset = engine.dataset(&workspace, id).await?;
    Ok(Json(dataset.ok_or_else(|| no_dataset(id))?))
}

/// `GET /datasets/{id}/files/{path}`: the content of one file.
#[utoipa::path(get, path = "/datasets/{id}/files/{*path}", tag = "data sets", responses((status = 200, content_type = "application/octet-stream", body = Vec<u8>), (status = 206, description = "The range that was asked for.")))]
pub(crate) async fn file(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path((id, path)): Path<(u64, String)>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let dataset = engine
        .dataset(&workspace, id)
        .await?
        .ok_or_else(|| no_dataset(id))?;
    let files = dataset.files.unwrap_or_default();
    let entry = files
        .iter()
        .find(|file| file.path == path)
        .ok_or_else(|| ApiError::missing("file", &path))?;
    files::answer(&engine, &workspace, &entry.sha256, &headers).await
}

fn no_dataset(id: u64) -> ApiError {
    ApiError::missing("data set", &id.to_string())
        .hint(Some("`trainshed dataset ls` lists them.".to_owned()))
}
