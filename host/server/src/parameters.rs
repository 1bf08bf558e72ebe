//! Parameters, user properties and configuration objects of tasks.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value};
use trainshed_core::draft::InvalidField;
use trainshed_core::parameter::{
    PROPERTIES, Parameter, check_count, flat_view, from_flat, from_nested, nested_view,
};
use trainshed_core::view::{ConfigurationView, TaskView};
use trainshed_engine::{ChangeRules, Engine, NewConfiguration, Workspace, WriteMode};
use utoipa::{IntoParams, ToSchema};

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{IfMatch, Json, Path, Query, read, task_id};
use crate::lifecycle::Forced;
use crate::tasks::no_task;

/// In which form parameters are written down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Form {
    /// `{section: {name: value}}`, nested at each `/`.
    #[default]
    Nested,
    /// `{"section/name": value}`.
    Flat,
    /// A list of parameters with their types.
    List,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct FormQuery {
    #[serde(default)]
    #[param(inline)]
    form: Form,
    #[serde(default)]
    force: bool,
}

/// `GET /tasks/{id}/params?form=`: the parameters, in one of three forms.
#[utoipa::path(get, path = "/tasks/{id}/params", tag = "parameters", params(FormQuery), responses((status = 200, body = Value)))]
pub(crate) async fn show(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(id): Path<String>,
    Query(query): Query<FormQuery>,
) -> Result<Json<Value>, ApiError> {
    let parameters = engine.parameters(&workspace, &task_id(&id)?).await?;
    let parameters = parameters.ok_or_else(|| no_task(&id))?;
    Ok(Json(match query.form {
        Form::Nested => Value::Object(nested_view(&parameters)),
        Form::Flat => Value::Object(flat_view(&parameters)),
        Form::List => serde_json::json!(parameters),
    }))
}

/// `PUT /tasks/{id}/params?form=&force=`: these in place of the former ones.
#[utoipa::path(put, path = "/tasks/{id}/params", tag = "parameters", params(FormQuery, ("If-Match" = Option<String>, Header, description = "The `ETag` of the task as the caller has read it.")), responses((status = 200, body = TaskView)))]
pub(crate) async fn replace(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(id): Path<String>,
    Query(query): Query<FormQuery>,
    expected: IfMatch,
    Json(body): Json<Value>,
) -> Result<Json<TaskView>, ApiError> {
    let rules = expected.rules(query.force);
    write(
        &engine,
        &workspace,
        &id,
        (query.form, rules),
        body,
        WriteMode::Replace,
    )
    .await
}

/// `PATCH /tasks/{id}/params?form=&force=`: these beside the others.
#[utoipa::path(patch, path = "/tasks/{id}/params", tag = "parameters", params(FormQuery, ("If-Match" = Option<String>, Header, description = "The `ETag` of the task as the caller has read it.")), responses((status = 200, body = TaskView)))]
pub(crate) async fn merge(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(id): Path<String>,
    Query(query): Query<FormQuery>,
    expected: IfMatch,
    Json(body): Json<Value>,
) -> Result<Json<TaskView>, ApiError> {
    let rules = expected.rules(query.force);
    write(
        &engine,
        &workspace,
        &id,
        (query.form, rules),
        body,
        WriteMode::Merge,
    )
    .await
}

async fn write(
    engine: &Engine,
    workspace: &Workspace,
    id: &str,
    (form, rules): (Form, ChangeRules<'_>),
    body: Value,
    mode: WriteMode,
) -> Result<Json<TaskView>, ApiError> {
    let task = task_id(id)?;
    let parameters = parse(form, body)?;
    let written = engine
        .set_parameters(workspace, &task, &parameters, mode, rules)
        .await?;
    Ok(Json(written))
}

fn parse(form: Form, body: Value) -> Result<Vec<Parameter>, ApiError> {
    let parsed = match (form, body) {
        (Form::Nested, Value::Object(sections)) => from_nested(&sections)?,
        (Form::Flat, Value::Object(values)) => from_flat(&values)?,
        (Form::List, list @ Value::Array(_)) => {
            let list: Vec<Parameter> = read(list)?;
            let checked: Result<_, InvalidField> =
                list.into_iter().map(Parameter::checked).collect();
            check_count(checked?)?
        }
        (Form::List, _) => {
            return Err(ApiError::invalid(
                "",
                "form=list takes a list of parameters",
            ));
        }
        _ => {
            return Err(ApiError::invalid("", "parameters are a JSON object"));
        }
    };
    Ok(parsed)
}

/// `DELETE /tasks/{id}/params/{section}/{name}`: 204.
#[utoipa::path(delete, path = "/tasks/{id}/params/{section}/{*name}", tag = "parameters", params(Forced, ("If-Match" = Option<String>, Header, description = "The `ETag` of the task as the caller has read it.")), responses((status = 204)))]
pub(crate) async fn remove(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path((id, section, name)): Path<(String, String, String)>,
    Query(query): Query<Forced>,
    expected: IfMatch,
) -> Result<StatusCode, ApiError> {
    let task = task_id(&id)?;
    let removed = engine
        .delete_parameter(
            &workspace,
            &task,
            &section,
            &name,
            expected.rules(query.force),
        )
        .await?;
    if removed && section != PROPERTIES {
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(ApiError::missing("parameter", &format!("{section}/{name}")))
}

/// `GET /tasks/{id}/properties`: the user properties, a list.
#[utoipa::path(get, path = "/tasks/{id}/properties", tag = "parameters", responses((status = 200, body = Vec<Parameter>)))]
pub(crate) async fn properties(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(id): Path<String>,
) -> Result<Json<Vec<Parameter>>, ApiError> {
    let properties = engine.properties(&workspace, &task_id(&id)?).await?;
    Ok(Json(properties.ok_or_else(|| no_task(&id))?))
}

/// `PATCH /tasks/{id}/properties`: values by name, or `{"value", "description"}` by name.
/// Allowed in every state.
#[utoipa::path(patch, path = "/tasks/{id}/properties", tag = "parameters", request_body = Value, responses((status = 200, body = Vec<Parameter>)))]
pub(crate) async fn set_properties(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(id): Path<String>,
    Json(body): Json<Map<String, Value>>,
) -> Result<Json<Vec<Parameter>>, ApiError> {
    let task = task_id(&id)?;
    let given = body.into_iter().map(|(name, value)| property(&name, value));
    let given = check_count(given.collect::<Result<_, _>>()?)?;
    engine.set_properties(&workspace, &task, &given).await?;
    let properties = engine.properties(&workspace, &task).await?;
    Ok(Json(properties.ok_or_else(|| no_task(&id))?))
}

fn property(name: &str, value: Value) -> Result<Parameter, InvalidField> {
    let (value, description) = match value {
        Value::Object(mut fields) if fields.contains_key("value") => {
            let value = fields.remove("value").unwrap_or_default();
            match fields.remove("description") {
                None => (value, String::new()),
                Some(Value::String(description)) => (value, description),
                Some(_) => {
                    let pointer = format!("/{name}/description");
                    return Err(InvalidField::new(pointer, "description must be a text"));
                }
            }
        }
        value => (value, String::new()),
    };
    let property = Parameter {
        description,
        ..Parameter::new(PROPERTIES, name, value)
    };
    property.checked()
}

/// `DELETE /tasks/{id}/properties/{name}`: 204.
#[utoipa::path(delete, path = "/tasks/{id}/properties/{*name}", tag = "parameters", responses((status = 204)))]
pub(crate) async fn remove_property(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path((id, name)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let task = task_id(&id)?;
    if engine.delete_property(&workspace, &task, &name).await? {
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(ApiError::missing("property", &name))
}

/// `GET /tasks/{id}/configuration`: the configuration objects, without their contents.
#[utoipa::path(get, path = "/tasks/{id}/configuration", tag = "parameters", responses((status = 200, body = Vec<ConfigurationView>)))]
pub(crate) async fn configurations(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(id): Path<String>,
) -> Result<Json<Vec<ConfigurationView>>, ApiError> {
    let listed = engine.configurations(&workspace, &task_id(&id)?).await?;
    Ok(Json(listed.ok_or_else(|| no_task(&id))?))
}

/// `GET /tasks/{id}/configuration/{name}`: its content, byte for byte.
#[utoipa::path(get, path = "/tasks/{id}/configuration/{*name}", tag = "parameters", responses((status = 200, content_type = "application/octet-stream", body = Vec<u8>)))]
pub(crate) async fn configuration(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path((id, name)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    let content = engine
        .configuration(&workspace, &task_id(&id)?, &name)
        .await?;
    let content = content.ok_or_else(|| ApiError::missing("configuration object", &name))?;
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream"),
        (header::CONTENT_DISPOSITION, "attachment"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    Ok((headers, content).into_response())
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConfigurationQuery {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    force: bool,
}

/// `PUT /tasks/{id}/configuration/{name}?type=&description=&force=`: keeps the body byte for
/// byte; 204.
#[utoipa::path(put, path = "/tasks/{id}/configuration/{*name}", tag = "parameters", params(ConfigurationQuery, ("If-Match" = Option<String>, Header, description = "The `ETag` of the task as the caller has read it.")), request_body(content = Vec<u8>, content_type = "application/octet-stream"), responses((status = 204)))]
pub(crate) async fn put_configuration(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path((id, name)): Path<(String, String)>,
    Query(query): Query<ConfigurationQuery>,
    expected: IfMatch,
    body: Bytes,
) -> Result<StatusCode, ApiError> {
    let task = task_id(&id)?;
    let configuration = NewConfiguration {
        name,
        kind: query.kind,
        description: query.description,
        content: body.to_vec(),
    };
    engine
        .put_configuration(
            &workspace,
            &task,
            configuration,
            expected.rules(query.force),
        )
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE /tasks/{id}/configuration/{name}`: 204.
#[utoipa::path(delete, path = "/tasks/{id}/configuration/{*name}", tag = "parameters", params(Forced, ("If-Match" = Option<String>, Header, description = "The `ETag` of the task as the caller has read it.")), responses((status = 204)))]
pub(crate) async fn remove_configuration(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path((id, name)): Path<(String, String)>,
    Query(query): Query<Forced>,
    expected: IfMatch,
) -> Result<StatusCode, ApiError> {
    let task = task_id(&id)?;
    let removed = engine
        .delete_configuration(&workspace, &task, &name, expected.rules(query.force))
        .await?;
    if removed {
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(ApiError::missing("configuration object", &name))
}
