//! Data sets.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use trainshed_core::dataset::Difference;
use trainshed_core::view::{DatasetEdit, DatasetView, NewDataset};
use trainshed_engine::{Engine, ListPart};
use utoipa::IntoParams;

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{IfMatch, Json, Path, Query};
use crate::files;
use crate::models::{cut, page_size};

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

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListQuery {
    /// Archived versions too.
    #[serde(default)]
    archived: bool,
    /// At most so many, 1 to 1000; 1000 without it.
    limit: Option<u64>,
    /// Only versions that are older than the one of this id: the last of the page before.
    after: Option<u64>,
}

/// `GET /datasets?archived=&limit=&after=`: a page of versions, newest first, without files
/// and tables. While there are more, the header `Link` has the address of the next page.
#[utoipa::path(get, path = "/datasets", tag = "datasets", params(ListQuery), responses((status = 200, body = Vec<DatasetView>)))]
pub(crate) async fn list(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Query(query): Query<ListQuery>,
) -> Result<impl IntoResponse, ApiError> {
    let limit = page_size(query.limit);
    let part = ListPart {
        archived: query.archived,
        after: query.after,
        limit: limit + 1,
    };
    let mut datasets = engine.datasets(&workspace, part).await?;
    let next = cut(&mut datasets, limit, |dataset| dataset.id);
    let link = next.map(|after| {
        let archived = query.archived;
        let page = format!("/api/v1/datasets?archived={archived}&limit={limit}&after={after}");
        [(header::LINK, format!("<{page}>; rel=\"next\""))]
    });
    Ok((link, Json(datasets)))
}

/// `PATCH /datasets/{id}`: changes what is said of a version that is not published.
#[utoipa::path(patch, path = "/datasets/{id}", tag = "datasets", params(("If-Match" = Option<String>, Header, description = "The `ETag` of what the caller has read.")), responses((status = 200, body = DatasetView)))]
pub(crate) async fn edit(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(id): Path<u64>,
    expected: IfMatch,
    Json(edit): Json<DatasetEdit>,
) -> Result<Json<DatasetView>, ApiError> {
    Ok(Json(
        engine
            .edit_dataset(&workspace, id, &edit, expected.tag())
            .await?,
    ))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeleteQuery {
    /// Although something needs it, or it is published.
    #[serde(default)]
    force: bool,
}

/// `DELETE /datasets/{id}?force=`: deletes a version that nothing needs; 204.
#[utoipa::path(delete, path = "/datasets/{id}", tag = "datasets", params(DeleteQuery), responses((status = 204, description = "It is gone.")))]
pub(crate) async fn delete(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(id): Path<u64>,
    Query(query): Query<DeleteQuery>,
) -> Result<StatusCode, ApiError> {
    engine.delete_dataset(&workspace, id, query.force).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct DifferenceQuery {
    /// The version to compare with; unless given its parent, or the one of its name before it.
    with: Option<u64>,
}

/// `GET /datasets/{id}/diff?with=`: what came, went, changed and moved since another version.
#[utoipa::path(get, path = "/datasets/{id}/diff", tag = "datasets", params(DifferenceQuery), responses((status = 200, body = Difference)))]
pub(crate) async fn diff(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(id): Path<u64>,
    Query(query): Query<DifferenceQuery>,
) -> Result<Json<Difference>, ApiError> {
    let before = match query.with {
        Some(before) => before,
        None => {
            let before = engine.compared_with(&workspace, id).await?;
            let detail =
                format!("data set {id} is the first of its name: `with` must name another");
            before.ok_or_else(|| ApiError::invalid("with", detail))?
        }
    };
    let difference = engine.dataset_difference(&workspace, id, before);
    Ok(Json(difference.await?))
}

/// `POST /datasets/{id}/publish`: makes a version read-only for good.
#[utoipa::path(post, path = "/datasets/{id}/publish", tag = "datasets", responses((status = 200, body = DatasetView)))]
pub(crate) async fn publish(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(id): Path<u64>,
) -> Result<Json<DatasetView>, ApiError> {
    Ok(Json(engine.publish_dataset(&workspace, id).await?))
}

/// `POST /datasets/{id}/archive`: hides a version from lists.
#[utoipa::path(post, path = "/datasets/{id}/archive", tag = "datasets", responses((status = 200, body = DatasetView)))]
pub(crate) async fn archive(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(id): Path<u64>,
) -> Result<Json<DatasetView>, ApiError> {
    Ok(Json(engine.archive_dataset(&workspace, id, true).await?))
}

/// `POST /datasets/{id}/unarchive`: shows a version in lists again.
#[utoipa::path(post, path = "/datasets/{id}/unarchive", tag = "datasets", responses((status = 200, body = DatasetView)))]
pub(crate) async fn unarchive(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(id): Path<u64>,
) -> Result<Json<DatasetView>, ApiError> {
    Ok(Json(engine.archive_dataset(&workspace, id, false).await?))
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
    let name = path.rsplit('/').next().unwrap_or_default();
    files::answer(&engine, &workspace, &entry.sha256, name, &headers).await
}

fn no_dataset(id: u64) -> ApiError {
    ApiError::missing("data set", &id.to_string())
        .hint(Some("`trainshed dataset ls` lists them.".to_owned()))
}
