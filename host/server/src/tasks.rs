//! Actions and tasks.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::Value;
use trainshed_core::action::Action;
use trainshed_core::query::Entity;
use trainshed_core::task::TaskState;
use trainshed_core::view::{Page, TaskQuery, TaskView};
use trainshed_engine::Engine;
use trainshed_wire::{Metrics, Submitted};
use utoipa::IntoParams;

use crate::auth::{Caller, User};
use crate::error::ApiError;
use crate::extract::{Json, Path, Query, task_id};

/// `POST /actions`: submits an action; 202 with its task, whose address is in `Location`.
///
/// Answers before the work begins; `GET /tasks/{id}/events` tells the rest.
#[utoipa::path(post, path = "/actions", tag = "tasks", request_body(content = serde_json::Value, description = "An action: docs/api.md"), responses((status = 202, body = Submitted)))]
pub(crate) async fn submit(
    State(engine): State<Engine>,
    User(holder): User,
    Json(mut submitted): Json<Value>,
) -> Result<impl IntoResponse, ApiError> {
    if let Some(fields) = submitted
        .as_object_mut()
        .filter(|_| !holder.name.is_empty())
    {
        let creator = || Value::from(&*holder.name);
        fields.entry("creator").or_insert_with(creator);
    }
    let action = Action::parse(&submitted)?;
    let warnings = trainshed_engine::warnings(&action);
    let task = engine.submit(&holder.workspace, action).await?;
    let location = [(header::LOCATION, format!("/api/v1/tasks/{}", task.id))];
    Ok((
        StatusCode::ACCEPTED,
        location,
        Json(Submitted { task, warnings }),
    ))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListQuery {
    /// States with commas between them.
    #[serde(default)]
    status: String,
    project: Option<String>,
    name: Option<String>,
    /// Whether the trials of tune actions are listed, too; a query in `q` finds them in any case.
    #[serde(default)]
    trials: bool,
    /// Whether archived tasks are listed, too; a query in `q` finds them in any case.
    #[serde(default)]
    archived: bool,
    limit: Option<u32>,
    after: Option<String>,
    /// A query as text (docs/queries.md), in whose order the tasks then come.
    q: Option<String>,
}

/// `GET /tasks`: a page of tasks, newest first.
#[utoipa::path(get, path = "/tasks", tag = "tasks", params(ListQuery), responses((status = 200, body = Page<TaskView>)))]
pub(crate) async fn list(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<TaskView>>, ApiError> {
    let names = query.status.split(',').filter(|name| !name.is_empty());
    let asked = query.q.as_deref();
    let asked = asked.map(|text| engine.read_query(Entity::Task, text, "q"));
    let asked = asked.transpose()?;
    let query = TaskQuery {
        state: names.map(state).collect::<Result<_, _>>()?,
        project: query.project,
        name: query.name,
        trials: query.trials,
        archived: query.archived,
        limit: query.limit.unwrap_or(100).clamp(1, 500),
        after: query.after,
    };
    Ok(Json(match asked {
        Some(asked) => engine.tasks_by(&workspace, asked.query, query).await?,
        None => engine.tasks(&workspace, query).await?,
    }))
}

fn state(name: &str) -> Result<TaskState, ApiError> {
    TaskState::parse(name).ok_or_else(|| {
        let known = TaskState::ALL.map(TaskState::as_str).join(", ");
        ApiError::invalid(
            "status",
            format!("status must be of {known}, but one is `{name}`"),
        )
    })
}

/// `GET /tasks/{id}`: one task.
#[utoipa::path(get, path = "/tasks/{id}", tag = "tasks", responses((status = 200, body = TaskView)))]
pub(crate) async fn show(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(id): Path<String>,
) -> Result<Json<TaskView>, ApiError> {
    let task = engine.task(&workspace, &task_id(&id)?).await?;
    Ok(Json(task.ok_or_else(|| no_task(&id))?))
}

/// `GET /tasks/{id}/scalars`: every curve without its points, and every single value.
#[utoipa::path(get, path = "/tasks/{id}/scalars", tag = "reports", responses((status = 200, body = Metrics)))]
pub(crate) async fn metrics(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(id): Path<String>,
) -> Result<Json<Metrics>, ApiError> {
    let task = task_id(&id)?;
    let scalars = engine
        .scalars(&workspace, &task)
        .await?
        .ok_or_else(|| no_task(&id))?;
    let singles = engine
        .singles(&workspace, &task)
        .await?
        .ok_or_else(|| no_task(&id))?;
    Ok(Json(Metrics { scalars, singles }))
}

pub(crate) fn no_task(id: &str) -> ApiError {
    ApiError::missing("task", id).hint(Some("`trainshed task ls` lists them.".to_owned()))
}
