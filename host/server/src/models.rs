//! Models.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use trainshed_core::view::ModelView;
use trainshed_engine::Engine;
use trainshed_wire::Models;

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Json, Path};
use crate::files;

/// `GET /models`: every model, newest first.
#[utoipa::path(get, path = "/models", tag = "models", responses((status = 200, body = Models)))]
pub(crate) async fn list(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
) -> Result<Json<Models>, ApiError> {
    Ok(Json(Models {
        models: engine.models(&workspace, None).await?,
    }))
}

/// `GET /models/{id}`: one model.
#[utoipa::path(get, path = "/models/{id}", tag = "models", responses((status = 200, body = ModelView)))]
pub(crate) async fn show(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(id): Path<u64>,
) -> Result<Json<ModelView>, ApiError> {
    let model = engine.model(&workspace, id).await?;
    Ok(Json(model.ok_or_else(|| no_model(id))?))
}

/// `GET /models/{id}/content`: its safetensors file.
#[utoipa::path(get, path = "/models/{id}/content", tag = "models", responses((status = 200, content_type = "application/octet-stream", body = Vec<u8>), (status = 206, description = "The range that was asked for.")))]
pub(crate) async fn content(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(id): Path<u64>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let model = engine
        .model(&workspace, id)
        .await?
        .ok_or_else(|| no_model(id))?;
    files::answer(&engine, &workspace, &model.sha256, &headers).await
}

fn no_model(id: u64) -> ApiError {
    ApiError::missing("model", &id.to_string())
        .hint(Some("`trainshed model ls` lists them.".to_owned()))
}
