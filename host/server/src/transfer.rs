//! Tasks that move between servers, as archives.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::BytesMut;
use futures::stream;
use serde::Deserialize;
use tokio::io::AsyncReadExt as _;
use trainshed_core::TaskId;
use trainshed_core::transfer::{ExportRequest, ImportedTasks};
use trainshed_engine::{AddTo, Engine};
use utoipa::IntoParams;

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Json, Query};
use crate::files::stream_of;

/// Bytes of an archive that are read at once.
const PIECE: usize = 256 << 10;

/// `POST /export`: an archive of tasks with all that they need, for `POST /import` of any server.
#[utoipa::path(post, path = "/export", tag = "transfer", responses((status = 200, content_type = "application/zip", body = Vec<u8>)))]
pub(crate) async fn export(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Json(request): Json<ExportRequest>,
) -> Result<Response, ApiError> {
    let archive = engine.export_tasks(&workspace, &request).await?;
    let length = archive.metadata().ok().map(|metadata| metadata.len());
    let content = stream::try_unfold(tokio::fs::File::from_std(archive), |mut archive| async {
        let mut piece = BytesMut::with_capacity(PIECE);
        let count = archive.read_buf(&mut piece).await?;
        Ok::<_, std::io::Error>((count > 0).then(|| (piece.freeze(), archive)))
    });
    let mut response = Body::from_stream(content).into_response();
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, "application/zip"),
        (
            header::CONTENT_DISPOSITION,
            "attachment; filename=\"tasks.zip\"",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Some(length) = length {
        headers.insert(header::CONTENT_LENGTH, length.into());
    }
    Ok(response)
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct ImportQuery {
    /// Add the one task of the archive to this one.
    into: Option<TaskId>,
    /// With `into`: added to every iteration; without it, they go on after the last one.
    iteration_offset: Option<u64>,
}

/// `POST /import?into=&iteration_offset=`: takes in an archive of `POST /export`: the tasks that
/// are not there yet, all or none.
#[utoipa::path(post, path = "/import", tag = "transfer", params(ImportQuery), request_body(content = Vec<u8>, content_type = "application/zip"), responses((status = 200, body = ImportedTasks)))]
pub(crate) async fn import(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Query(query): Query<ImportQuery>,
    body: Body,
) -> Result<Json<ImportedTasks>, ApiError> {
    let add_to = match (query.into, query.iteration_offset) {
        (Some(task), iteration_offset) => Some(AddTo {
            task,
            iteration_offset,
        }),
        (None, None) => None,
        (None, Some(_)) => {
            let detail = "iteration_offset is for adding to a task: name it with `into`";
            return Err(ApiError::invalid("iteration_offset", detail));
        }
    };
    let archive = engine.receive_archive(stream_of(body)).await?;
    let imported = engine.import_tasks(&workspace, archive, add_to.as_ref());
    Ok(Json(imported.await?))
}
