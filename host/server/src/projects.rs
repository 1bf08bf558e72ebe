//! Projects.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde::Deserialize;
use trainshed_core::ProjectId;
use trainshed_core::view::{NewProject, Page, ProjectEdit, ProjectQuery, ProjectView};
use trainshed_engine::{Engine, Workspace};
use trainshed_wire::{DeletedProject, MergeInto};
use utoipa::IntoParams;

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{IfMatch, Json, Path, Query};

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListQuery {
    parent: Option<String>,
    #[serde(default)]
    children: bool,
    #[serde(default)]
    archived: bool,
    limit: Option<u32>,
    after: Option<String>,
}

/// `GET /projects`: a page of projects by path.
#[utoipa::path(get, path = "/projects", tag = "projects", params(ListQuery), responses((status = 200, body = Page<ProjectView>)))]
pub(crate) async fn list(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<ProjectView>>, ApiError> {
    let query = ProjectQuery {
        parent: query.parent,
        children: query.children,
        archived: query.archived,
        limit: query.limit.unwrap_or(100).clamp(1, 500),
        after: query.after,
    };
    Ok(Json(engine.projects(&workspace, &query).await?))
}

/// `POST /projects`: makes a project and those it is in; 201.
#[utoipa::path(post, path = "/projects", tag = "projects", responses((status = 201, body = ProjectView)))]
pub(crate) async fn create(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Json(project): Json<NewProject>,
) -> Result<impl IntoResponse, ApiError> {
    let project = engine.create_project(&workspace, project).await?;
    let location = [(header::LOCATION, format!("/api/v1/projects/{}", project.id))];
    Ok((StatusCode::CREATED, location, Json(project)))
}

/// `GET /projects/{id}`: one project, by its id or, with each `/` as `%2F`, by its path.
#[utoipa::path(get, path = "/projects/{id}", tag = "projects", responses((status = 200, body = ProjectView)))]
pub(crate) async fn show(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(reference): Path<String>,
) -> Result<Json<ProjectView>, ApiError> {
    Ok(Json(named(&engine, &workspace, &reference).await?))
}

/// `PATCH /projects/{id}`: changes, renames or moves it.
#[utoipa::path(patch, path = "/projects/{id}", tag = "projects", params(("If-Match" = Option<String>, Header, description = "The `ETag` of what the caller has read.")), responses((status = 200, body = ProjectView)))]
pub(crate) async fn edit(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(reference): Path<String>,
    expected: IfMatch,
    Json(edit): Json<ProjectEdit>,
) -> Result<Json<ProjectView>, ApiError> {
    let project = named(&engine, &workspace, &reference).await?;
    Ok(Json(
        engine
            .edit_project(&workspace, &project.id, edit, expected.tag())
            .await?,
    ))
}

/// `POST /projects/{id}/merge`: puts all that is in it into another, and deletes it.
#[utoipa::path(post, path = "/projects/{id}/merge", tag = "projects", responses((status = 200, body = ProjectView)))]
pub(crate) async fn merge(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(reference): Path<String>,
    Json(target): Json<MergeInto>,
) -> Result<Json<ProjectView>, ApiError> {
    let from = named(&engine, &workspace, &reference).await?;
    let into = known(&engine, &workspace, &target.into).await?;
    Ok(Json(
        engine.merge_projects(&workspace, &from.id, &into).await?,
    ))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeleteQuery {
    #[serde(default)]
    force: bool,
    move_to: Option<String>,
}

/// `DELETE /projects/{id}?force=&move_to=`: with all projects below it.
#[utoipa::path(delete, path = "/projects/{id}", tag = "projects", params(DeleteQuery), responses((status = 200, body = DeletedProject)))]
pub(crate) async fn delete(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(reference): Path<String>,
    Query(query): Query<DeleteQuery>,
) -> Result<Json<DeletedProject>, ApiError> {
    let project = named(&engine, &workspace, &reference).await?;
    let target = match &query.move_to {
        Some(target) => Some(known(&engine, &workspace, target).await?),
        None => None,
    };
    let tasks = engine
        .delete_project(&workspace, &project.id, target.as_ref(), query.force)
        .await?;
    let moved = target.is_some();
    Ok(Json(DeletedProject {
        tasks_moved: if moved { tasks } else { 0 },
        tasks_deleted: if moved { 0 } else { tasks },
    }))
}

async fn named(
    engine: &Engine,
    workspace: &Workspace,
    reference: &str,
) -> Result<ProjectView, ApiError> {
    let project = engine.project(workspace, reference).await?;
    project.ok_or_else(|| {
        ApiError::missing("project", reference).hint(Some(
            "`trainshed project ls --children` lists them.".to_owned(),
        ))
    })
}

async fn known(
    engine: &Engine,
    workspace: &Workspace,
    reference: &str,
) -> Result<ProjectId, ApiError> {
    Ok(named(engine, workspace, reference).await?.id)
}
