//! Who calls: the key in the `Authorization` header names the workspace.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use trainshed_engine::{Engine, Holder, Workspace};

use crate::error::ApiError;

/// The workspace of the caller. A handler that takes it cannot be called without a key.
pub(crate) struct Caller(pub(crate) Workspace);

/// Whoever calls, by name, with the workspace.
pub(crate) struct User(pub(crate) Holder);

impl FromRequestParts<Engine> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, engine: &Engine) -> Result<Self, ApiError> {
        let User(holder) = User::from_request_parts(parts, engine).await?;
        Ok(Self(holder.workspace))
    }
}

impl FromRequestParts<Engine> for User {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, engine: &Engine) -> Result<Self, ApiError> {
        let given = parts.headers.get(header::AUTHORIZATION);
        let key = given
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "));
        let Some(key) = key else {
            return Err(refused(
                "the call needs a key in the header `Authorization: Bearer <key>`",
            ));
        };
        match engine.key_holder(key.trim()).await? {
            Some(holder) => Ok(Self(holder)),
            None => Err(refused(
                "the key in the header `Authorization` is not known",
            )),
        }
    }
}

fn refused(detail: &str) -> ApiError {
    let hint = "The server writes the first key to the file `key` in its data folder; `trainshed key create` makes others.".to_owned();
    ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", detail).hint(Some(hint))
}
