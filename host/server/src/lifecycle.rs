//! Making, editing, moving and deleting tasks.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::Value;
use trainshed_core::draft::{CloneRequest, NewDraft, TaskEdit};
use trainshed_core::task::Verb;
use trainshed_core::view::TaskView;
use trainshed_engine::{Engine, Move, QueueName, Workspace, beside_request};
use trainshed_wire::{Alive, FailedMove, ManyTasks, MoveRequest, MoveTo, MovedMany, NewProgress};
use utoipa::IntoParams;

use crate::auth::{Caller, User};
use crate::error::ApiError;
use crate::extract::{IfMatch, Json, Path, Query, read, task_id};
use crate::tasks::no_task;

/// Most tasks of one call.
const MAX_MANY: usize = 1_000;

/// `POST /tasks`: makes a draft; 201 with the task, its address in `Location`.
#[utoipa::path(post, path = "/tasks", tag = "tasks", responses((status = 201, body = TaskView)))]
pub(crate) async fn create(
    State(engine): State<Engine>,
    User(holder): User,
    Json(mut draft): Json<NewDraft>,
) -> Result<impl IntoResponse, ApiError> {
    if draft.creator.is_empty() {
        draft.creator = holder.name.to_string();
    }
    let task = engine.create_draft(&holder.workspace, draft).await?;
    Ok(created(task))
}

fn created(task: TaskView) -> impl IntoResponse {
    let location = [(header::LOCATION, format!("/api/v1/tasks/{}", task.id))];
    (StatusCode::CREATED, location, Json(task))
}

/// `PATCH /tasks/{id}`: edits a task; with `If-Match`, only if it is what the caller has read.
#[utoipa::path(patch, path = "/tasks/{id}", tag = "tasks", request_body = TaskEdit, params(("If-Match" = Option<String>, Header, description = "The `ETag` of what the caller has read.")), responses((status = 200, body = TaskView)))]
pub(crate) async fn edit(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(id): Path<String>,
    expected: IfMatch,
    Json(body): Json<Value>,
) -> Result<Json<TaskView>, ApiError> {
    let task = task_id(&id)?;
    if body.get("id").is_some() {
        return Err(ApiError::invalid(
            "/id",
            "the id of a task never changes: leave it out",
        ));
    }
    let edit: TaskEdit = read(body)?;
    let edited = engine
        .edit_task(&workspace, &task, edit, expected.tag())
        .await?;
    Ok(Json(edited))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct NameQuery {
    project: String,
    name: String,
}

/// `GET /tasks/by-name?project=&name=`: the one that was last changed; what is archived comes
/// last.
#[utoipa::path(get, path = "/tasks/by-name", tag = "tasks", params(NameQuery), responses((status = 200, body = TaskView)))]
pub(crate) async fn by_name(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Query(query): Query<NameQuery>,
) -> Result<Json<TaskView>, ApiError> {
    let task = engine
        .task_named(&workspace, &query.project, &query.name)
        .await?;
    let missing = || no_task(&format!("{}/{}", query.project, query.name));
    Ok(Json(task.ok_or_else(missing)?))
}

/// What is done to a task without more than a reason.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Deed {
    Step(Verb),
    Archive(bool),
}

/// What is done to each of many tasks.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ManyDeed {
    Move(Deed),
    Delete,
}

/// `POST /tasks/{id}/{verb}`: moves a task to another state, into the archive or out of it.
pub(crate) async fn one(
    deed: Deed,
    engine: &Engine,
    workspace: &Workspace,
    id: &str,
    request: &MoveRequest,
) -> Result<TaskView, ApiError> {
    let task = task_id(id)?;
    let verb = match deed {
        Deed::Step(verb) => verb,
        Deed::Archive(archived) => {
            return Ok(engine.archive_task(workspace, &task, archived).await?);
        }
    };
    let default = match verb {
        Verb::Stop => "stopped by the user",
        _ => "",
    };
    let wanted = Move {
        verb,
        force: request.force,
        reason: text("/reason", request.reason.as_deref().unwrap_or(default))?,
        message: text("/message", request.message.as_deref().unwrap_or_default())?,
        queue: queue(verb, request)?,
    };
    Ok(engine.move_task(workspace, &task, &wanted).await?)
}

/// A sentence that becomes part of a task's status.
fn text<'a>(pointer: &str, text: &'a str) -> Result<&'a str, ApiError> {
    if text.len() <= 65_536 && !text.contains('\0') {
        return Ok(text);
    }
    Err(ApiError::invalid(
        pointer,
        "a reason or message has at most 65536 bytes and no zero byte",
    ))
}

fn queue(verb: Verb, request: &MoveRequest) -> Result<Option<QueueName<'_>>, ApiError> {
    if verb != Verb::Enqueue {
        return Ok(None);
    }
    match (&request.queue, &request.queue_name) {
        (Some(id), None) => Ok(Some(QueueName::Id(id))),
        (None, Some(name)) => Ok(Some(QueueName::Name(name))),
        (given, _) => {
            let found = if given.is_some() { "both" } else { "neither" };
            let detail =
                format!("either queue (an id) or queue_name must be given, but there is {found}");
            Err(ApiError::invalid("/queue", detail))
        }
    }
}

/// `POST /tasks/{id}/clone`: an editable copy; 201 with it.
#[utoipa::path(post, path = "/tasks/{id}/clone", tag = "tasks", request_body = Option<CloneRequest>, responses((status = 201, body = TaskView)))]
pub(crate) async fn clone(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(id): Path<String>,
    body: Option<Json<CloneRequest>>,
) -> Result<impl IntoResponse, ApiError> {
    let request = body.map(|body| body.0).unwrap_or_default();
    let clone = engine
        .clone_task(&workspace, &task_id(&id)?, request)
        .await?;
    Ok(created(clone))
}

/// `POST /tasks/{id}/move`: to another project.
#[utoipa::path(post, path = "/tasks/{id}/move", tag = "tasks", responses((status = 200, body = TaskView)))]
pub(crate) async fn move_to(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(id): Path<String>,
    Json(target): Json<MoveTo>,
) -> Result<Json<TaskView>, ApiError> {
    let task = task_id(&id)?;
    Ok(Json(
        engine
            .move_to_project(&workspace, &task, &target.project)
            .await?,
    ))
}

/// `POST /tasks/{id}/ping`: the task is still at work.
#[utoipa::path(post, path = "/tasks/{id}/ping", tag = "tasks", responses((status = 200, body = Alive)))]
pub(crate) async fn ping(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(id): Path<String>,
) -> Result<Json<Alive>, ApiError> {
    let running = engine.ping(&workspace, &task_id(&id)?).await?;
    Ok(Json(Alive { running }))
}

/// `PUT /tasks/{id}/progress`: how far it has come, in percent.
#[utoipa::path(put, path = "/tasks/{id}/progress", tag = "tasks", responses((status = 200, body = TaskView)))]
pub(crate) async fn progress(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(id): Path<String>,
    Json(progress): Json<NewProgress>,
) -> Result<Json<TaskView>, ApiError> {
    let task = task_id(&id)?;
    Ok(Json(
        engine
            .set_progress(&workspace, &task, progress.progress)
            .await?,
    ))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct Forced {
    #[serde(default)]
    pub(crate) force: bool,
}

/// `DELETE /tasks/{id}`: with what it reported and made; 204.
#[utoipa::path(delete, path = "/tasks/{id}", tag = "tasks", params(Forced), responses((status = 204)))]
pub(crate) async fn delete(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(id): Path<String>,
    Query(query): Query<Forced>,
) -> Result<StatusCode, ApiError> {
    delete_one(&engine, &workspace, &id, query.force).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn delete_one(
    engine: &Engine,
    workspace: &Workspace,
    id: &str,
    force: bool,
) -> Result<(), ApiError> {
    Ok(engine.delete_task(workspace, &task_id(id)?, force).await?)
}

/// `POST /tasks/{verb}`: the same with each of many tasks; what was refused is listed.
pub(crate) async fn many(
    deed: ManyDeed,
    engine: &Engine,
    workspace: &Workspace,
    request: ManyTasks,
) -> Result<MovedMany, ApiError> {
    let (ids, request) = request.into_parts();
    if ids.is_empty() || ids.len() > MAX_MANY {
        let detail = format!(
            "ids must have 1 to {MAX_MANY} ids, but it has {}",
            ids.len()
        );
        return Err(ApiError::invalid("/ids", detail));
    }
    if let ManyDeed::Move(Deed::Step(verb)) = deed {
        queue(verb, &request)?;
    }
    let mut moved = MovedMany::default();
    for id in ids {
        // Each of them is no more than a part of the request.
        let done = beside_request(async {
            match deed {
                ManyDeed::Move(deed) => one(deed, engine, workspace, &id, &request)
                    .await
                    .map(|_| ()),
                ManyDeed::Delete => delete_one(engine, workspace, &id, request.force).await,
            }
        });
        let done = done.await;
        match done {
            Ok(()) => moved.succeeded.push(id),
            Err(error) => moved.failed.push(FailedMove {
                id,
                error: error.into_problem(),
            }),
        }
    }
    Ok(moved)
}
