//! Queries about tasks, models, data sets and projects, and their results as files.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::{StreamExt as _, stream};
use serde::Deserialize;
use serde_json::Value;
use trainshed_core::error::with_causes;
use trainshed_core::query::{Entity, Field, Request, fields};
use trainshed_core::view::Results;
use trainshed_engine::{Engine, Export, ExportContent, Format, Workspace, default_fields};
use utoipa::IntoParams;

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Json, Query};

/// `POST /tasks/query`: a page of the tasks that fit a query.
#[utoipa::path(post, path = "/tasks/query", tag = "tasks", request_body(content = serde_json::Value, description = "A query: docs/queries.md"), responses((status = 200, body = Results)))]
pub(crate) async fn query_tasks(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Json(body): Json<Value>,
) -> Result<Json<Results>, ApiError> {
    search(&engine, &workspace, Entity::Task, &body).await
}

/// `POST /models/query`: a page of the models that fit a query.
#[utoipa::path(post, path = "/models/query", tag = "models", request_body(content = serde_json::Value, description = "A query: docs/queries.md"), responses((status = 200, body = Results)))]
pub(crate) async fn query_models(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Json(body): Json<Value>,
) -> Result<Json<Results>, ApiError> {
    search(&engine, &workspace, Entity::Model, &body).await
}

/// `POST /datasets/query`: a page of the versions of data sets that fit a query.
#[utoipa::path(post, path = "/datasets/query", tag = "data sets", request_body(content = serde_json::Value, description = "A query: docs/queries.md"), responses((status = 200, body = Results)))]
pub(crate) async fn query_datasets(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Json(body): Json<Value>,
) -> Result<Json<Results>, ApiError> {
    search(&engine, &workspace, Entity::Dataset, &body).await
}

/// `POST /projects/query`: a page of the projects that fit a query.
#[utoipa::path(post, path = "/projects/query", tag = "projects", request_body(content = serde_json::Value, description = "A query: docs/queries.md"), responses((status = 200, body = Results)))]
pub(crate) async fn query_projects(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Json(body): Json<Value>,
) -> Result<Json<Results>, ApiError> {
    search(&engine, &workspace, Entity::Project, &body).await
}

async fn search(
    engine: &Engine,
    workspace: &Workspace,
    entity: Entity,
    body: &Value,
) -> Result<Json<Results>, ApiError> {
    let request = engine.read_request(entity, body)?;
    Ok(Json(engine.search(workspace, entity, &request).await?))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExportQuery {
    /// A query as text; everything without it.
    #[serde(default)]
    q: String,
    /// `csv`, `jsonl` or `parquet`.
    format: String,
    /// Fields with commas between them, `*` for the usual ones.
    fields: Option<String>,
    /// Curves `TITLE/SERIES` with commas between them, or `*` for all: the file then has their
    /// points.
    points: Option<String>,
}

/// `GET /tasks/export`: the tasks that fit a query, or the points of their curves, as a file.
#[utoipa::path(get, path = "/tasks/export", tag = "tasks", params(ExportQuery), responses((status = 200, content_type = "application/octet-stream", body = Vec<u8>)))]
pub(crate) async fn export_tasks(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Query(query): Query<ExportQuery>,
) -> Result<Response, ApiError> {
    export(&engine, workspace, Entity::Task, &query).await
}

/// `GET /models/export`: the models that fit a query, as a file.
#[utoipa::path(get, path = "/models/export", tag = "models", params(ExportQuery), responses((status = 200, content_type = "application/octet-stream", body = Vec<u8>)))]
pub(crate) async fn export_models(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Query(query): Query<ExportQuery>,
) -> Result<Response, ApiError> {
    export(&engine, workspace, Entity::Model, &query).await
}

/// `GET /datasets/export`: the versions of data sets that fit a query, as a file.
#[utoipa::path(get, path = "/datasets/export", tag = "data sets", params(ExportQuery), responses((status = 200, content_type = "application/octet-stream", body = Vec<u8>)))]
pub(crate) async fn export_datasets(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Query(query): Query<ExportQuery>,
) -> Result<Response, ApiError> {
    export(&engine, workspace, Entity::Dataset, &query).await
}

/// `GET /projects/export`: the projects that fit a query, as a file.
#[utoipa::path(get, path = "/projects/export", tag = "projects", params(ExportQuery), responses((status = 200, content_type = "application/octet-stream", body = Vec<u8>)))]
pub(crate) async fn export_projects(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Query(query): Query<ExportQuery>,
) -> Result<Response, ApiError> {
    export(&engine, workspace, Entity::Project, &query).await
}

async fn export(
    engine: &Engine,
    workspace: Workspace,
    entity: Entity,
    query: &ExportQuery,
) -> Result<Response, ApiError> {
    let Request { query: asked, .. } = engine.read_query(entity, &query.q, "q")?;
    let format = Format::parse(&query.format).ok_or_else(|| {
        let known = Format::ALL.map(Format::as_str).join(", ");
        let found: String = query.format.chars().take(40).collect();
        let message = format!("format must be one of {known}, but it is `{found}`");
        ApiError::invalid("format", message)
    })?;
    let content = match (&query.points, entity) {
        (None, _) => ExportContent::Fields(export_fields(entity, query.fields.as_deref())?),
        (Some(_), _) if query.fields.is_some() => {
            let message = "fields and points cannot both be given: a file has one or the other";
            return Err(ApiError::invalid("points", message));
        }
        (Some(points), Entity::Task) => ExportContent::Points(curves(points)?),
        (Some(_), _) => return Err(ApiError::invalid("points", "only tasks have points")),
    };
    let export = Export {
        entity,
        query: asked,
        content,
        format,
    };
    let mut pieces = Box::pin(engine.export(workspace, export));
    // What is wrong with the query is known with the first piece, before anything is sent.
    let first = pieces.next().await.transpose()?;
    let rest = pieces.map(|piece| {
        // The client sees that the answer broke off.
        piece.inspect_err(|error| {
            tracing::error!(error = %with_causes(error), "an export broke off");
        })
    });
    let body = Body::from_stream(stream::iter(first.map(Ok)).chain(rest));
    let name = format!(
        "attachment; filename=\"{}.{}\"",
        entity.plural().replace(' ', "-"),
        format.as_str()
    );
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static(format.content_type()),
        ),
        (
            header::CONTENT_DISPOSITION,
            HeaderValue::from_str(&name).expect("the name is made of our own words"),
        ),
        (
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ),
    ];
    Ok((StatusCode::OK, headers, body).into_response())
}

fn export_fields(entity: Entity, names: Option<&str>) -> Result<Vec<Field>, ApiError> {
    let Some(names) = names else {
        return Ok(default_fields(entity));
    };
    let mut wanted = Vec::new();
    for name in split(names) {
        match name.as_str() {
            "*" => wanted.extend(default_fields(entity).iter().map(Field::to_string)),
            _ => wanted.push(name),
        }
    }
    let mut fields = fields(entity, &wanted, "fields")
        .map_err(|error| ApiError::invalid(&error.pointer, error.to_string()))?;
    fields.retain(|field| *field != Field::column(entity, "id"));
    Ok(fields)
}

fn curves(points: &str) -> Result<Vec<(String, String)>, ApiError> {
    if points == "*" {
        return Ok(Vec::new());
    }
    let mut curves = Vec::new();
    for name in split(points) {
        let field = Field::parse(Entity::Task, &format!("metrics.{name}"));
        match field {
            Ok(Field::Metric { title, series, .. }) => curves.push((title, series)),
            _ => {
                let name: String = name.chars().take(80).collect();
                let message = format!(
                    "points must be TITLE/SERIES with commas between them, or `*`, but one is `{name}`"
                );
                return Err(ApiError::invalid("points", message));
            }
        }
    }
    Ok(curves)
}

/// The parts of a list with commas, of which those in quotation marks separate nothing.
fn split(list: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let (mut quoted, mut escaped) = (false, false);
    for character in list.chars() {
        if character == ',' && !quoted {
            parts.push(String::new());
            continue;
        }
        if character == '"' && !escaped {
            quoted = !quoted;
        }
        escaped = character == '\\' && !escaped;
        parts.last_mut().expect("there is one").push(character);
    }
    let parts = parts.iter().map(|part| part.trim().to_owned());
    parts.filter(|part| !part.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_in_quotation_marks_separate_nothing() {
        assert_eq!(
            split("name, params.\"a,\\\"b\"/c,,metrics.x/y"),
            ["name", "params.\"a,\\\"b\"/c", "metrics.x/y"]
        );
        assert_eq!(split(""), [""; 0]);
    }
}
