//! Searches whose trials run elsewhere: ask for a trial, report, tell how it ended.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use trainshed_core::report::TrialAnswer;
use trainshed_core::view::{Asked, NewExperiment, TaskView, ToldTrial, TrialReported, TuneView};
use trainshed_engine::Engine;

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Json, Path, task_id};

/// `POST /experiments`: makes a search whose trials run elsewhere; 201 with its task, which runs
/// until all trials have ended, or it is stopped.
#[utoipa::path(post, path = "/experiments", tag = "tuning", responses((status = 201, body = TaskView)))]
pub(crate) async fn create(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Json(new): Json<NewExperiment>,
) -> Result<impl IntoResponse, ApiError> {
    let task = engine.create_experiment(&workspace, new).await?;
    let location = [(header::LOCATION, format!("/api/v1/tasks/{}", task.id))];
    Ok((StatusCode::CREATED, location, Json(task)))
}

/// `POST /experiments/{id}/ask`: the next trial to be run. With an `Idempotency-Key`, an answer
/// that was lost is given again.
#[utoipa::path(post, path = "/experiments/{id}/ask", tag = "tuning", responses((status = 200, body = Asked)))]
pub(crate) async fn ask(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(id): Path<String>,
) -> Result<Json<Asked>, ApiError> {
    Ok(Json(engine.ask(&workspace, &task_id(&id)?).await?))
}

/// `POST /experiments/{id}/report`: what a trial reports; answers what it is to do. The same
/// report gets the present answer: a paused trial sends it again until it may go on.
#[utoipa::path(post, path = "/experiments/{id}/report", tag = "tuning", responses((status = 200, body = TrialAnswer)))]
pub(crate) async fn report(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(id): Path<String>,
    Json(told): Json<TrialReported>,
) -> Result<Json<TrialAnswer>, ApiError> {
    let decision = engine.tell_report(&workspace, &task_id(&id)?, told).await?;
    Ok(Json(TrialAnswer { decision }))
}

/// `POST /experiments/{id}/tell`: how a trial ended; answers how the search stands. Telling it
/// again is harmless.
#[utoipa::path(post, path = "/experiments/{id}/tell", tag = "tuning", responses((status = 200, body = TuneView)))]
pub(crate) async fn tell(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(id): Path<String>,
    Json(told): Json<ToldTrial>,
) -> Result<Json<TuneView>, ApiError> {
    let task = task_id(&id)?;
    engine.tell_end(&workspace, &task, told).await?;
    Ok(Json(engine.tuning(&workspace, &task).await?))
}
