//! Keys: who may come in.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use trainshed_core::name::is_series_name;
use trainshed_core::view::{KeyView, MadeKey, NewKey};
use trainshed_engine::Engine;

use crate::auth::{Caller, User};
use crate::error::ApiError;
use crate::extract::{Json, Path};

/// `GET /keys`: the keys of the workspace, the oldest first, without the keys themselves.
#[utoipa::path(get, path = "/keys", tag = "keys", responses((status = 200, body = Vec<KeyView>)))]
pub(crate) async fn list(
    State(engine): State<Engine>,
    User(holder): User,
) -> Result<Json<Vec<KeyView>>, ApiError> {
    Ok(Json(engine.keys(&holder).await?))
}

/// `POST /keys`: makes a key; 201 with it. It is shown this once.
#[utoipa::path(post, path = "/keys", tag = "keys", responses((status = 201, body = MadeKey)))]
pub(crate) async fn make(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Json(new): Json<NewKey>,
) -> Result<impl IntoResponse, ApiError> {
    let name = new.name.trim();
    if !is_series_name(name) {
        let detail = "the name of a key must have 1 to 200 bytes and no control characters";
        return Err(ApiError::invalid("/name", detail));
    }
    let made = engine.make_key(&workspace, name).await?;
    // Whoever lost it makes another one: it is kept nowhere.
    let secret = [(header::CACHE_CONTROL, "no-store")];
    Ok((StatusCode::CREATED, secret, Json(made)))
}

/// `DELETE /keys/{id}`: takes a key back; 204. No call with it is answered from then on.
#[utoipa::path(delete, path = "/keys/{id}", tag = "keys", responses((status = 204, description = "It opens nothing any more.")))]
pub(crate) async fn revoke(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    engine.revoke_key(&workspace, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
