//! Plugins.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use trainshed_core::action::PluginRef;
use trainshed_core::draft::Script;
use trainshed_core::view::PluginView;
use trainshed_engine::{Engine, NewUpload};

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Json, Path};
use crate::files::{length_of, stream_of};

/// `POST /plugins`: installs the component in the body; 201 with what it says of itself.
///
/// Pushing the same component again answers the same. The body is streamed to the store.
#[utoipa::path(post, path = "/plugins", tag = "plugins", request_body(content = Vec<u8>, content_type = "application/octet-stream"), responses((status = 201, body = PluginView)))]
pub(crate) async fn push(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<impl IntoResponse, ApiError> {
    let new = NewUpload {
        size_bytes: length_of(&headers),
        ..NewUpload::default()
    };
    let digest = engine.take_file(&workspace, &new, stream_of(body)).await?;
    let plugin = engine.push_plugin(&workspace, digest).await?;
    Ok((StatusCode::CREATED, Json(plugin)))
}

/// `PUT /plugins/{reference}/source`: records where a component came from; what was recorded
/// before is replaced.
#[utoipa::path(put, path = "/plugins/{reference}/source", tag = "plugins", responses((status = 200, body = PluginView)))]
pub(crate) async fn set_source(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(reference): Path<String>,
    Json(source): Json<Script>,
) -> Result<Json<PluginView>, ApiError> {
    let parsed = parsed(&reference)?;
    let plugin = engine
        .set_plugin_source(&workspace, &parsed, &source)
        .await?;
    Ok(Json(
        plugin.ok_or_else(|| ApiError::missing("plugin", &reference))?,
    ))
}

/// `GET /plugins`: every installed plugin, ordered by name, newest version first.
#[utoipa::path(get, path = "/plugins", tag = "plugins", responses((status = 200, body = Vec<PluginView>)))]
pub(crate) async fn list(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
) -> Result<Json<Vec<PluginView>>, ApiError> {
    Ok(Json(engine.plugins(&workspace).await?))
}

/// `GET /plugins/{reference}`: one plugin, by `name`, `name@version` or `sha256:…`.
#[utoipa::path(get, path = "/plugins/{reference}", tag = "plugins", responses((status = 200, body = PluginView)))]
pub(crate) async fn show(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(reference): Path<String>,
) -> Result<Json<PluginView>, ApiError> {
    let parsed = parsed(&reference)?;
    let plugin = engine.plugin(&workspace, &parsed).await?;
    Ok(Json(
        plugin.ok_or_else(|| ApiError::missing("plugin", &reference))?,
    ))
}

fn parsed(reference: &str) -> Result<PluginRef, ApiError> {
    PluginRef::parse(reference)
        .map_err(|message| ApiError::invalid("reference", format!("the reference {message}")))
}
