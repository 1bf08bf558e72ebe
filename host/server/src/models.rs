//! Models.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;
use trainshed_core::model::{ModelEdit, Registration};
use trainshed_core::view::{LineageView, MetadataItem, ModelUses, ModelView};
use trainshed_engine::{Engine, ListPart, ModelList};
use trainshed_wire::{InputModel, Models, ModelsOfTask, PublishModel};
use utoipa::IntoParams;

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{IfMatch, Json, Path, Query, task_id};
use crate::files;
use crate::tasks::no_task;

/// Most models or data set versions of one page.
const MAX_LISTED: u64 = 1_000;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListQuery {
    /// Archived models too.
    #[serde(default)]
    archived: bool,
    /// Only models with this under `metadata_key`.
    metadata_value: Option<String>,
    /// Only models that keep something under this key.
    metadata_key: Option<String>,
    /// At most so many, 1 to 1000; 1000 without it.
    limit: Option<u64>,
    /// Only models that are older than the one of this id: the `next` of the page before.
    after: Option<u64>,
}

/// `GET /models?archived=&metadata_key=&metadata_value=&limit=&after=`: a page of models,
/// newest first.
#[utoipa::path(get, path = "/models", tag = "models", params(ListQuery), responses((status = 200, body = Models)))]
pub(crate) async fn list(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Query(query): Query<ListQuery>,
) -> Result<Json<Models>, ApiError> {
    let limit = page_size(query.limit);
    let value = query.metadata_value.as_deref();
    let list = ModelList {
        part: ListPart {
            archived: query.archived,
            after: query.after,
            limit: limit + 1,
        },
        metadata: query.metadata_key.as_deref().map(|key| (key, value)),
    };
    let mut models = engine.listed_models(&workspace, &list).await?;
    let next = cut(&mut models, limit, |model| model.id);
    Ok(Json(Models { models, next }))
}

/// How many items of a list of models or data set versions are wanted.
pub(crate) fn page_size(limit: Option<u64>) -> u64 {
    limit.unwrap_or(MAX_LISTED).clamp(1, MAX_LISTED)
}

/// Cuts a page off at `limit`; returns where the next one begins, if there is one.
pub(crate) fn cut<T>(items: &mut Vec<T>, limit: u64, id: impl Fn(&T) -> u64) -> Option<u64> {
    let limit = usize::try_from(limit).expect("a page is small");
    if items.len() <= limit {
        return None;
    }
    items.truncate(limit);
    items.last().map(id)
}

/// `POST /models`: registers an uploaded file or an address as a model; 201.
#[utoipa::path(post, path = "/models", tag = "models", responses((status = 201, body = ModelView)))]
pub(crate) async fn register(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Json(new): Json<Registration>,
) -> Result<impl IntoResponse, ApiError> {
    let model = engine.register_model(&workspace, &new).await?;
    let location = [(header::LOCATION, format!("/api/v1/models/{}", model.id))];
    Ok((StatusCode::CREATED, location, Json(model)))
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

/// `PATCH /models/{id}`: changes what is said of a model that is not published.
#[utoipa::path(patch, path = "/models/{id}", tag = "models", params(("If-Match" = Option<String>, Header, description = "The `ETag` of what the caller has read.")), responses((status = 200, body = ModelView)))]
pub(crate) async fn edit(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(id): Path<u64>,
    expected: IfMatch,
    Json(edit): Json<ModelEdit>,
) -> Result<Json<ModelView>, ApiError> {
    Ok(Json(
        engine
            .edit_model(&workspace, id, &edit, expected.tag())
            .await?,
    ))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeleteQuery {
    /// Although somebody needs it, or it is published.
    #[serde(default)]
    force: bool,
}

/// `DELETE /models/{id}?force=`: deletes a model that nobody needs; 204.
#[utoipa::path(delete, path = "/models/{id}", tag = "models", params(DeleteQuery), responses((status = 204, description = "It is gone.")))]
pub(crate) async fn delete(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(id): Path<u64>,
    Query(query): Query<DeleteQuery>,
) -> Result<StatusCode, ApiError> {
    engine.delete_model(&workspace, id, query.force).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /models/{id}/content`: its file. One that is only recorded answers with its address.
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
    let Some(digest) = model.sha256 else {
        let uri = model.uri.unwrap_or_default();
        if uri.starts_with("http://") || uri.starts_with("https://") {
            return Ok(Redirect::to(&uri).into_response());
        }
        let detail = format!("the model is only recorded here: its content is at `{uri}`");
        return Err(ApiError::new(
            StatusCode::CONFLICT,
            "content-elsewhere",
            detail,
        ));
    };
    let ending = match model.slot {
        Some(_) => ".safetensors",
        None => "",
    };
    let name = format!("{}-{id}{ending}", model.name);
    files::answer(&engine, &workspace, &digest, &name, &headers).await
}

/// `POST /models/{id}/publish`: makes a model read-only for good.
#[utoipa::path(post, path = "/models/{id}/publish", tag = "models", responses((status = 200, body = ModelView)))]
pub(crate) async fn publish(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(id): Path<u64>,
    body: Option<Json<PublishModel>>,
) -> Result<Json<ModelView>, ApiError> {
    let with_task = body.is_some_and(|body| body.0.with_task);
    Ok(Json(engine.publish_model(&workspace, id, with_task).await?))
}

/// `POST /models/{id}/archive`: hides a model from lists.
#[utoipa::path(post, path = "/models/{id}/archive", tag = "models", responses((status = 200, body = ModelView)))]
pub(crate) async fn archive(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(id): Path<u64>,
) -> Result<Json<ModelView>, ApiError> {
    Ok(Json(engine.archive_model(&workspace, id, true).await?))
}

/// `POST /models/{id}/unarchive`: shows a model in lists again.
#[utoipa::path(post, path = "/models/{id}/unarchive", tag = "models", responses((status = 200, body = ModelView)))]
pub(crate) async fn unarchive(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(id): Path<u64>,
) -> Result<Json<ModelView>, ApiError> {
    Ok(Json(engine.archive_model(&workspace, id, false).await?))
}

/// `GET /models/{id}/metadata`: what is kept with a model, with its types.
#[utoipa::path(get, path = "/models/{id}/metadata", tag = "models", responses((status = 200, body = Vec<MetadataItem>)))]
pub(crate) async fn metadata(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(id): Path<u64>,
) -> Result<Json<Vec<MetadataItem>>, ApiError> {
    Ok(Json(engine.model_metadata(&workspace, id).await?))
}

/// `PATCH /models/{id}/metadata`: adds to what is kept with a model.
#[utoipa::path(patch, path = "/models/{id}/metadata", tag = "models", responses((status = 200, body = Vec<MetadataItem>)))]
pub(crate) async fn add_metadata(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(id): Path<u64>,
    Json(items): Json<Vec<MetadataItem>>,
) -> Result<Json<Vec<MetadataItem>>, ApiError> {
    let kept = engine.put_metadata(&workspace, id, &items, false).await?;
    Ok(Json(kept))
}

/// `PUT /models/{id}/metadata`: replaces all that is kept with a model.
#[utoipa::path(put, path = "/models/{id}/metadata", tag = "models", responses((status = 200, body = Vec<MetadataItem>)))]
pub(crate) async fn replace_metadata(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(id): Path<u64>,
    Json(items): Json<Vec<MetadataItem>>,
) -> Result<Json<Vec<MetadataItem>>, ApiError> {
    let kept = engine.put_metadata(&workspace, id, &items, true).await?;
    Ok(Json(kept))
}

/// `DELETE /models/{id}/metadata/{key}`: forgets one thing that is kept with a model; 204.
#[utoipa::path(delete, path = "/models/{id}/metadata/{key}", tag = "models", responses((status = 204, description = "It is gone.")))]
pub(crate) async fn delete_metadata(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path((id, key)): Path<(u64, String)>,
) -> Result<StatusCode, ApiError> {
    let gone = engine.delete_metadata(&workspace, id, &key).await?;
    if gone == 0 {
        return Err(ApiError::missing("metadata", &key));
    }
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /models/{id}/lineage`: who made it of what, and what was made of it.
#[utoipa::path(get, path = "/models/{id}/lineage", tag = "models", responses((status = 200, body = LineageView)))]
pub(crate) async fn lineage(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(id): Path<u64>,
) -> Result<Json<LineageView>, ApiError> {
    Ok(Json(engine.lineage(&workspace, id).await?))
}

/// `GET /tasks/{id}/models`: the models that a task reads and made.
#[utoipa::path(get, path = "/tasks/{id}/models", tag = "models", responses((status = 200, body = ModelsOfTask)))]
pub(crate) async fn of_task(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(id): Path<String>,
) -> Result<Json<ModelsOfTask>, ApiError> {
    let task = task_id(&id)?;
    engine
        .task(&workspace, &task)
        .await?
        .ok_or_else(|| no_task(&id))?;
    let ModelUses { input, output } = engine.task_models(&workspace, &task).await?;
    Ok(Json(ModelsOfTask {
        models: engine.models(&workspace, Some(&task)).await?,
        input,
        output,
    }))
}

/// `PUT /tasks/{id}/models/input/{name}`: makes a model an input of a draft.
#[utoipa::path(put, path = "/tasks/{id}/models/input/{name}", tag = "models", responses((status = 200, body = ModelUses)))]
pub(crate) async fn set_input(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path((id, name)): Path<(String, String)>,
    Json(input): Json<InputModel>,
) -> Result<Json<ModelUses>, ApiError> {
    let task = task_id(&id)?;
    let models = engine.set_input_model(&workspace, &task, &name, input.model);
    Ok(Json(models.await?))
}

/// `DELETE /tasks/{id}/models/input/{name}`: takes an input model from a draft; 204.
#[utoipa::path(delete, path = "/tasks/{id}/models/input/{name}", tag = "models", responses((status = 204, description = "It is gone.")))]
pub(crate) async fn remove_input(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path((id, name)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let task = task_id(&id)?;
    engine.remove_input_model(&workspace, &task, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn no_model(id: u64) -> ApiError {
    ApiError::missing("model", &id.to_string())
        .hint(Some("`trainshed model ls` lists them.".to_owned()))
}
