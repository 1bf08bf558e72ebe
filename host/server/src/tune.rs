//! What can be read of tune actions.

use axum::extract::State;
use axum::http::{HeaderName, HeaderValue};
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::{Value, json};
use trainshed_core::view::{BestTrial, Page, ResumeTune, TaskView, TrialView, TuneView};
use trainshed_engine::Engine;
use utoipa::IntoParams;

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Json, Path, Query, task_id};

/// What number of what happened a trial table stands for.
const SEQ: HeaderName = HeaderName::from_static("trials-seq");

/// `GET /tasks/{id}/tune`: how a tune action stands.
#[utoipa::path(get, path = "/tasks/{id}/tune", tag = "tuning", responses((status = 200, body = TuneView)))]
pub(crate) async fn show(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(id): Path<String>,
) -> Result<Json<TuneView>, ApiError> {
    Ok(Json(engine.tuning(&workspace, &task_id(&id)?).await?))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct TrialsQuery {
    limit: Option<usize>,
    /// The `next` of the page before.
    after: Option<u64>,
}

/// `GET /tasks/{id}/trials`: a page of the trials of a tune action, by number.
#[utoipa::path(get, path = "/tasks/{id}/trials", tag = "tuning", params(TrialsQuery), responses((status = 200, body = Page<TrialView>)))]
pub(crate) async fn trials(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(id): Path<String>,
    Query(query): Query<TrialsQuery>,
) -> Result<Json<Page<TrialView>>, ApiError> {
    let limit = query.limit.unwrap_or(100).clamp(1, 1000);
    let from = query.after.unwrap_or(0);
    let task = task_id(&id)?;
    let page = engine.trials(&workspace, &task, from, limit);
    Ok(Json(page.await?))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct TableQuery {
    /// The header `trials-seq` of an earlier answer: only rows that have changed since.
    after: Option<u64>,
}

/// `GET /tasks/{id}/trials/table`: the trial table as `log_trials` has it, rows as lists in the
/// order of the columns; the header `trials-seq` tells what it stands for.
#[utoipa::path(get, path = "/tasks/{id}/trials/table", tag = "tuning", params(TableQuery), responses((status = 200, body = serde_json::Value)))]
pub(crate) async fn table(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(id): Path<String>,
    Query(query): Query<TableQuery>,
) -> Result<impl IntoResponse, ApiError> {
    let task = task_id(&id)?;
    let table = engine.trial_table(&workspace, &task, query.after);
    let (table, seq) = table.await?;
    Ok(([(SEQ, HeaderValue::from(seq))], Json(table)))
}

/// `GET /tasks/{id}/tune/importance`: the share of the objective's variation that each
/// hyperparameter explains, the greatest first.
#[utoipa::path(get, path = "/tasks/{id}/tune/importance", tag = "tuning", responses((status = 200, body = serde_json::Value)))]
pub(crate) async fn importance(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let importance = engine.importance(&workspace, &task_id(&id)?).await?;
    Ok(Json(json!({ "importance": importance })))
}

/// `GET /tasks/{id}/tune/parallel`: the data of a parallel-coordinates chart.
#[utoipa::path(get, path = "/tasks/{id}/tune/parallel", tag = "tuning", responses((status = 200, body = serde_json::Value)))]
pub(crate) async fn parallel(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    Ok(Json(engine.parallel(&workspace, &task_id(&id)?).await?))
}

/// `PUT /tasks/{id}/best-trial`: says which trial of a tune action is the best, whatever the
/// metric says; with `null`, the metric says it again. The result of one that has ended names it
/// from then on.
#[utoipa::path(put, path = "/tasks/{id}/best-trial", tag = "tuning", responses((status = 200, body = TuneView)))]
pub(crate) async fn choose_best(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(id): Path<String>,
    Json(choice): Json<BestTrial>,
) -> Result<Json<TuneView>, ApiError> {
    let task = task_id(&id)?;
    Ok(Json(engine.choose_best(&workspace, &task, &choice).await?))
}

/// `POST /tasks/{id}/tune/resume`: a tune action that was stopped, or has failed, goes on where it
/// ended.
#[utoipa::path(post, path = "/tasks/{id}/tune/resume", tag = "tuning", responses((status = 200, body = TaskView)))]
pub(crate) async fn resume(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(id): Path<String>,
    Json(how): Json<ResumeTune>,
) -> Result<Json<TaskView>, ApiError> {
    let task = task_id(&id)?;
    let resumed = engine.resume_experiment(&workspace, &task, how.failed);
    Ok(Json(resumed.await?))
}
