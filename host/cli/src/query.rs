//! `trainshed query`.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitCode;

use futures::{Stream, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use trainshed_core::Timestamp;
use trainshed_core::query::{Entity, Field, Filter, Kind, MAX_LIMIT, Query, parse};
use trainshed_wire::{Client, ClientError};

use crate::args::{ExportFormat, Global, QueryArgs, QueryOf};
use crate::connect::Connection;
use crate::error::CliError;
use crate::output::{Output, number, time};

pub(crate) async fn query(
    global: &Global,
    args: QueryArgs,
    output: &Output,
) -> Result<ExitCode, CliError> {
    let asked = check(args.of.entity(), &args.text)?;
    let connection = Connection::open(global).await?;
    let done = execute(&connection.client, &args, &asked, output).await;
    connection.close().await;
    done.map(|()| ExitCode::SUCCESS)
}

/// Reads the text of a query; the error shows the place at fault.
pub(crate) fn check(entity: Entity, text: &str) -> Result<Query, CliError> {
    // The server says when now is; here it only matters whether the text can be read.
    parse(entity, text, Timestamp(0)).map_err(|error| {
        let caret = error.caret(text);
        CliError::Usage(format!(
            "the query cannot be read\n{caret}\n{}",
            error.message
        ))
    })
}

async fn execute(
    client: &Client,
    args: &QueryArgs,
    asked: &Query,
    output: &Output,
) -> Result<(), CliError> {
    let entity = args.of.entity();
    if let Some(format) = args.format {
        let mut parameters = vec![
            ("q", args.text.clone()),
            ("format", format.name().to_owned()),
        ];
        if !args.fields.is_empty() {
            parameters.push(("fields", args.fields.join(",")));
        }
        if !args.points.is_empty() {
            parameters.push(("points", args.points.join(",")));
        }
        let content = client.export(args.of.path(), &parameters).await?;
        return match &args.output {
            Some(file) => save(content, file).await,
            None => print(content).await,
        };
    }
    if !args.points.is_empty() || args.output.is_some() {
        let message = "--points and --output are for files: give --format too";
        return Err(CliError::Usage(message.to_owned()));
    }
    let fields = columns(entity, args, asked)?;
    // Programs get everything of each, unless they asked for less.
    let whole = output.is_json() && args.fields.is_empty();
    let mut rows: Vec<Vec<String>> = Vec::new();
    let (mut after, mut left) = (None, args.limit);
    loop {
        let mut body = json!({
            "filter": args.text, "limit": left.min(MAX_LIMIT), "after": after,
        });
        if !whole {
            body["fields"] = fields.iter().map(Field::to_string).collect();
        }
        let page = client.query(args.of.path(), &body).await?;
        left = left.saturating_sub(u32::try_from(page.items.len()).unwrap_or(u32::MAX));
        for item in &page.items {
            if output.is_json() {
                output.line(&item.to_string());
            } else {
                rows.push(row(item, &fields));
            }
        }
        after = page.next;
        if after.is_none() || left == 0 {
            break;
        }
    }
    if !output.is_json() {
        let names = fields.iter().map(header);
        let names: Vec<String> = std::iter::once("ID".to_owned()).chain(names).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        output.list(&Value::Null, &names, rows);
        if after.is_some() {
            output.say(&format!(
                "there are more than {}: give a greater --limit",
                args.limit
            ));
        }
    }
    Ok(())
}

/// The columns of the table: those that were asked for, or the usual ones and the parameters
/// and metrics that the query is about.
fn columns(entity: Entity, args: &QueryArgs, asked: &Query) -> Result<Vec<Field>, CliError> {
    let named = |name: &str| {
        Field::parse(entity, name)
            .map_err(|expected| CliError::Usage(format!("--fields must have {expected}")))
    };
    let mut fields: Vec<Field> = Vec::new();
    let mut add = |field: Field| {
        if !fields.contains(&field) && field != Field::column(entity, "id") {
            fields.push(field);
        }
    };
    if !args.fields.is_empty() {
        for name in &args.fields {
            add(named(name)?);
        }
        return Ok(fields);
    }
    let usual: &[&str] = match entity {
        Entity::Task => &["name", "status", "project.path", "created"],
        Entity::Model => &["name", "iteration", "size_bytes", "task", "created"],
        Entity::Dataset => &["name", "number", "file_count", "size_bytes", "created"],
        Entity::Project => &["path", "created"],
    };
    for name in usual {
        add(Field::column(entity, name));
    }
    let tested = tested(&asked.filter);
    for field in tested.chain(asked.order.iter().map(|order| &order.field)) {
        match field {
            // Their names are not known here.
            Field::Column(_) | Field::HashedMetric { .. } => {}
            own => add(own.clone()),
        }
    }
    Ok(fields)
}

fn tested(filter: &Filter) -> impl Iterator<Item = &Field> {
    filter.tests().into_iter().map(|test| test.field())
}

fn header(field: &Field) -> String {
    match field {
        Field::Column(column) => match column.name {
            "project.path" | "path" => "PROJECT".to_owned(),
            name => name.to_uppercase().replace('_', " "),
        },
        named => named.to_string(),
    }
}

fn row(item: &Value, fields: &[Field]) -> Vec<String> {
    let id = text(&item["id"]);
    let cells = fields.iter().map(|field| {
        let value = &item[field.to_string()];
        match (field.kind(), value) {
            (Kind::Time, Value::Number(at)) => {
                at.as_i64().map_or(String::new(), |at| time(Timestamp(at)))
            }
            (Kind::Real, Value::Number(real)) => real.as_f64().map_or(String::new(), number),
            _ => text(value),
        }
    });
    std::iter::once(id).chain(cells).collect()
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

type Piece = Result<bytes::Bytes, ClientError>;

/// Writes an export into a file, which appears whole or not at all.
async fn save(content: impl Stream<Item = Piece>, file: &Path) -> Result<(), CliError> {
    let mut partial = file.as_os_str().to_owned();
    partial.push(".part");
    let partial = PathBuf::from(partial);
    let done = write(content, &partial).await;
    let failed = |source| CliError::File {
        path: file.to_owned(),
        verb: "written",
        source,
    };
    match done {
        Ok(()) => tokio::fs::rename(&partial, file).await.map_err(failed),
        Err(error) => {
            // The part is of no use; that it may stay behind is not what went wrong.
            let _ = tokio::fs::remove_file(&partial).await;
            Err(error)
        }
    }
}

async fn write(content: impl Stream<Item = Piece>, path: &Path) -> Result<(), CliError> {
    let failed = |source| CliError::File {
        path: path.to_owned(),
        verb: "written",
        source,
    };
    let mut content = pin!(content);
    let mut file = tokio::fs::File::create(path).await.map_err(failed)?;
    while let Some(piece) = content.next().await {
        file.write_all(&piece?).await.map_err(failed)?;
    }
    file.sync_all().await.map_err(failed)
}

async fn print(content: impl Stream<Item = Piece>) -> Result<(), CliError> {
    let mut content = pin!(content);
    while let Some(piece) = content.next().await {
        // A reader that has gone away, as `| head` does, is no error.
        if std::io::stdout().lock().write_all(&piece?).is_err() {
            break;
        }
    }
    Ok(())
}

impl QueryOf {
    fn entity(self) -> Entity {
        match self {
            Self::Tasks => Entity::Task,
            Self::Models => Entity::Model,
            Self::Datasets => Entity::Dataset,
            Self::Projects => Entity::Project,
        }
    }

    fn path(self) -> &'static str {
        match self {
            Self::Tasks => "/tasks",
            Self::Models => "/models",
            Self::Datasets => "/datasets",
            Self::Projects => "/projects",
        }
    }
}

impl ExportFormat {
    fn name(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Jsonl => "jsonl",
            Self::Parquet => "parquet",
        }
    }
}
