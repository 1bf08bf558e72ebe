//! Rows of tables as JSON objects, out of either database and into either.

use std::collections::HashMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Number, Value};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row as _};

use crate::database::Kind;

/// Which kind of values a column has: what a null has to be bound as, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ColumnType {
    Text,
    Integer,
    Float,
    Bytes,
}

/// The columns of a table by name.
pub(crate) type Columns = HashMap<String, ColumnType>;

/// Why a row was not inserted.
#[derive(Debug)]
pub(crate) enum RowError {
    /// It is no row of the table; what about it, as the rest of a sentence.
    Invalid(String),
    /// The database refused it, or did not answer.
    Database(sqlx::Error),
}

/// Names and types of the columns of a table.
pub(crate) async fn columns(
    connection: &mut AnyConnection,
    kind: Kind,
    table: &'static str,
) -> Result<Columns, sqlx::Error> {
    let statement = match kind {
        Kind::Sqlite => "select name, lower(type) from pragma_table_info($1)",
        Kind::Postgres => {
            "select column_name::text, data_type::text from information_schema.columns
              where table_schema = current_schema() and table_name = $1"
        }
    };
    let columns: Vec<(String, String)> = sqlx::query_as(statement)
        .bind(table)
        .fetch_all(connection)
        .await?;
    let typed = columns.into_iter().map(|(name, r#type)| {
        let r#type = match r#type.as_str() {
            "bigint" | "integer" => ColumnType::Integer,
            "double precision" => ColumnType::Float,
            "blob" | "bytea" => ColumnType::Bytes,
            _ => ColumnType::Text,
        };
        (name, r#type)
    });
    Ok(typed.collect())
}

/// A row as a JSON object. Bytes are base64, infinities the texts that JSON has for them.
pub(crate) fn to_json(row: &AnyRow, columns: &Columns) -> Result<Map<String, Value>, sqlx::Error> {
    let mut json = Map::new();
    for (name, r#type) in columns {
        let name = name.as_str();
        let value = match r#type {
            ColumnType::Text => row.try_get::<Option<String>, _>(name)?.map(Value::from),
            ColumnType::Integer => row.try_get::<Option<i64>, _>(name)?.map(Value::from),
            ColumnType::Float => row.try_get::<Option<f64>, _>(name)?.map(|value| {
                Number::from_f64(value).map_or_else(|| value.to_string().into(), Value::Number)
            }),
            ColumnType::Bytes => row
                .try_get::<Option<Vec<u8>>, _>(name)?
                .map(|bytes| BASE64_STANDARD.encode(bytes).into()),
        };
        json.insert(name.to_owned(), value.unwrap_or(Value::Null));
    }
    Ok(json)
}

/// Inserts what [`to_json`] made of a row.
pub(crate) async fn insert(
    connection: &mut AnyConnection,
    table: &str,
    columns: &Columns,
    row: &Map<String, Value>,
) -> Result<(), RowError> {
    let returning = insert_returning(connection, (table, ""), columns, row);
    returning.await.map(|_| ())
}

/// Inserts a row where there is none with its key.
pub(crate) async fn insert_missing(
    connection: &mut AnyConnection,
    table: &str,
    columns: &Columns,
    row: &Map<String, Value>,
) -> Result<(), RowError> {
    let end = " on conflict do nothing";
    let returning = insert_returning(connection, (table, end), columns, row);
    returning.await.map(|_| ())
}

/// Inserts a row and returns the id that the database gave it.
pub(crate) async fn insert_numbered(
    connection: &mut AnyConnection,
    table: &str,
    columns: &Columns,
    row: &Map<String, Value>,
) -> Result<i64, RowError> {
    let returning = insert_returning(connection, (table, " returning id"), columns, row).await?;
    let row = returning.ok_or(RowError::Database(sqlx::Error::RowNotFound))?;
    row.try_get("id").map_err(RowError::Database)
}

async fn insert_returning(
    connection: &mut AnyConnection,
    (table, end): (&str, &str),
    columns: &Columns,
    row: &Map<String, Value>,
) -> Result<Option<AnyRow>, RowError> {
    let mut names = Vec::with_capacity(row.len());
    let mut places = Vec::with_capacity(row.len());
    for (index, name) in row.keys().enumerate() {
        if !columns.contains_key(name) {
            let what = format!("has a column `{}`", name.escape_debug());
            return Err(RowError::Invalid(what));
        }
        names.push(format!("\"{name}\""));
        places.push(format!("${}", index + 1));
    }
    // The names are those of columns that the table has.
    let statement = format!(
        "insert into {table} ({}) values ({}){end}",
        names.join(", "),
        places.join(", ")
    );
    let mut query = sqlx::query(AssertSqlSafe(statement));
    for (name, value) in row {
        let wrong = || RowError::Invalid(format!("has {} as `{name}`", shortened(value)));
        query = match columns[name] {
            ColumnType::Text => query.bind(text(value).map_err(|()| wrong())?),
            ColumnType::Integer => query.bind(integer(value).map_err(|()| wrong())?),
            // What a missing 64-bit float is bound as: see `bind_real`.
            ColumnType::Float => match float(value).map_err(|()| wrong())? {
                Some(value) => query.bind(value),
                None => query.bind(None::<f32>),
            },
            ColumnType::Bytes => query.bind(bytes(value).map_err(|()| wrong())?),
        };
    }
    query
        .fetch_optional(connection)
        .await
        .map_err(RowError::Database)
}

fn shortened(value: &Value) -> String {
    value.to_string().chars().take(80).collect()
}

fn text(value: &Value) -> Result<Option<String>, ()> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        _ => Err(()),
    }
}

fn integer(value: &Value) -> Result<Option<i64>, ()> {
    match value {
        Value::Null => Ok(None),
        value => value.as_i64().map(Some).ok_or(()),
    }
}

fn float(value: &Value) -> Result<Option<f64>, ()> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => text.parse().map(Some).map_err(|_| ()),
        value => value.as_f64().map(Some).ok_or(()),
    }
}

fn bytes(value: &Value) -> Result<Option<Vec<u8>>, ()> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => BASE64_STANDARD.decode(text).map(Some).map_err(|_| ()),
        _ => Err(()),
    }
}
