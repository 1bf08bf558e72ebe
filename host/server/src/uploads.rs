//! Uploads in parts, and what nobody refers to.

use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde::Deserialize;
use trainshed_core::view::{GarbageView, UploadView};
use trainshed_engine::{Engine, GarbageRules, UploadPart};
use trainshed_wire::{GarbageRequest, NewUpload, Stored};
use utoipa::IntoParams;

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Json, Path, Query};
use crate::files::stream_of;

/// `POST /uploads`: begins an upload in parts; 201.
#[utoipa::path(post, path = "/uploads", tag = "files", responses((status = 201, body = UploadView)))]
pub(crate) async fn begin(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Json(new): Json<NewUpload>,
) -> Result<impl IntoResponse, ApiError> {
    let begun = engine.begin_upload(
        &workspace,
        new.size_bytes,
        new.sha256.as_ref(),
        new.task.as_ref(),
    );
    let upload = begun.await?;
    let location = [(header::LOCATION, format!("/api/v1/uploads/{}", upload.id))];
    Ok((StatusCode::CREATED, location, Json(upload)))
}

/// `GET /uploads/{id}`: an upload and the parts that are there.
#[utoipa::path(get, path = "/uploads/{id}", tag = "files", responses((status = 200, body = UploadView)))]
pub(crate) async fn show(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(id): Path<String>,
) -> Result<Json<UploadView>, ApiError> {
    Ok(Json(engine.upload(&workspace, &id).await?))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct PartQuery {
    /// Where the part begins in the whole.
    offset: u64,
    /// Of the part: 8 hexadecimal digits.
    crc32c: String,
}

/// `PUT /uploads/{id}/parts/{number}?offset=&crc32c=`: keeps the body as a part; 204.
#[utoipa::path(put, path = "/uploads/{id}/parts/{number}", tag = "files", params(PartQuery), request_body(content = Vec<u8>, content_type = "application/octet-stream"), responses((status = 204, description = "It is kept.")))]
pub(crate) async fn put_part(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path((id, number)): Path<(String, u32)>,
    Query(query): Query<PartQuery>,
    body: Body,
) -> Result<StatusCode, ApiError> {
    let digits = Some(query.crc32c.as_str()).filter(|digits| digits.len() == 8);
    let crc32c = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
    let crc32c = crc32c.ok_or_else(|| {
        let shown: String = query.crc32c.chars().take(20).collect();
        let detail = format!("crc32c must be 8 hexadecimal digits, but it is `{shown}`");
        ApiError::invalid("crc32c", detail)
    })?;
    let part = UploadPart {
        number,
        offset: query.offset,
        crc32c,
    };
    engine
        .put_part(&workspace, &id, part, stream_of(body))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /uploads/{id}/complete`: makes a file of the parts; again answers the same.
#[utoipa::path(post, path = "/uploads/{id}/complete", tag = "files", responses((status = 200, body = Stored)))]
pub(crate) async fn complete(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(id): Path<String>,
) -> Result<Json<Stored>, ApiError> {
    let sha256 = engine.complete_upload(&workspace, &id).await?;
    let size_bytes = engine.upload(&workspace, &id).await?.size_bytes;
    Ok(Json(Stored { sha256, size_bytes }))
}

/// `DELETE /uploads/{id}`: gives an upload up; 204.
#[utoipa::path(delete, path = "/uploads/{id}", tag = "files", responses((status = 204, description = "It is gone.")))]
pub(crate) async fn abort(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    engine.abort_upload(&workspace, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /gc`: removes what nobody refers to in the workspace, or with `dry_run` counts it.
#[utoipa::path(post, path = "/gc", tag = "files", responses((status = 200, body = GarbageView)))]
pub(crate) async fn collect(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Json(request): Json<GarbageRequest>,
) -> Result<Json<GarbageView>, ApiError> {
    let default = GarbageRules::default();
    let milliseconds = |asked: Option<u64>, default: i64| match asked {
        Some(asked) => i64::try_from(asked)
            .unwrap_or(i64::MAX / 2)
            .min(i64::MAX / 2),
        None => default,
    };
    let rules = GarbageRules {
        keep_ms: milliseconds(request.keep_ms, default.keep_ms),
        keep_uploads_ms: milliseconds(request.keep_uploads_ms, default.keep_uploads_ms),
    };
    let garbage = engine.collect_garbage(Some(&workspace), rules, request.dry_run);
    Ok(Json(garbage.await?))
}
