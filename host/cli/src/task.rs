//! `trainshed task`.

use std::process::ExitCode;

use trainshed_core::query::Entity;
use trainshed_core::report::Real;
use trainshed_core::resource::Machine;
use trainshed_core::task::TaskState;
use trainshed_core::view::{TaskQuery, TaskView};
use trainshed_wire::{AxisValues, Client, Metrics, SampledCurve};

use crate::args::{Global, TaskCommand};
use crate::connect::Connection;
use crate::error::CliError;
use crate::output::{Output, number, size, time};
use crate::reproduce::reproduce;
use crate::source::told;
use crate::task_change;
use crate::task_reports;

pub(crate) async fn task(
    global: &Global,
    command: TaskCommand,
    output: &Output,
) -> Result<ExitCode, CliError> {
    if let TaskCommand::Reproduce { id } = &command {
        return reproduce(global, id, output).await;
    }
    let connection = Connection::open(global).await?;
    let done = execute(&connection.client, command, output).await;
    connection.close().await;
    done.map(|()| ExitCode::SUCCESS)
}

async fn execute(client: &Client, command: TaskCommand, output: &Output) -> Result<(), CliError> {
    match command {
        TaskCommand::Ls {
            status,
            project,
            name,
            filter,
            trials,
            archived,
            limit,
        } => {
            if let Some(filter) = &filter {
                crate::query::check(Entity::Task, filter)?;
            }
            let state = status
                .iter()
                .map(|name| state(name))
                .collect::<Result<_, _>>()?;
            let tasks = list(
                client,
                filter.as_deref(),
                TaskQuery {
                    state,
                    project,
                    name,
                    trials,
                    archived,
                    limit,
                    after: None,
                },
            )
            .await?;
            let header = [
                "ID", "NAME", "STATUS", "PROGRESS", "PLUGIN", "DATASET", "CREATED",
            ];
            output.list(&tasks, &header, tasks.iter().map(row).collect());
        }
        // It needs an agent, and began with one.
        TaskCommand::Reproduce { .. } => {}
        TaskCommand::Show { id } => {
            let task = client.task(&id).await?;
            let rows = details(&task)
                .into_iter()
                .map(|(field, value)| vec![field.to_owned(), value])
                .collect();
            output.list(&task, &["FIELD", "VALUE"], rows);
        }
        TaskCommand::Metrics {
            id, curve: None, ..
        } => {
            let metrics = client.metrics(&id).await?;
            let header = ["METRIC", "LAST", "AT", "MIN", "AT", "MAX", "AT", "POINTS"];
            output.list(&metrics, &header, metric_rows(&metrics));
        }
        TaskCommand::Metrics {
            id,
            curve: Some(curve),
            max_samples: None,
            ..
        } => points(client, &id, &curve, output).await?,
        TaskCommand::Metrics {
            id,
            curve: Some(curve),
            max_samples: Some(most),
            x,
        } => {
            let curve = client
                .sampled_curve(&id, curve_names(&curve)?, most, &x)
                .await?;
            output.list(&curve, &["X", "VALUE", "MIN", "MAX"], sample_rows(&curve));
        }
        TaskCommand::Logs(arguments) => task_reports::logs(client, arguments, output).await?,
        TaskCommand::Plots(arguments) => task_reports::plots(client, arguments, output).await?,
        TaskCommand::Samples(arguments) => {
            task_reports::samples(client, arguments, output).await?;
        }
        TaskCommand::Change(change) => task_change::change(client, *change, output).await?,
        TaskCommand::Stop { id, reason } => {
            let task = client.stop(&id, reason).await?;
            if output.is_json() {
                output.document(&task);
            } else {
                let stopping = if task.stopping {
                    "stopping"
                } else {
                    task.status.as_str()
                };
                output.line(stopping);
            }
        }
    }
    Ok(())
}

/// As many tasks as asked for, however many pages that takes.
async fn list(
    client: &Client,
    filter: Option<&str>,
    mut query: TaskQuery,
) -> Result<Vec<TaskView>, CliError> {
    let wanted = query.limit as usize;
    let mut tasks = Vec::new();
    loop {
        query.limit = u32::try_from(wanted - tasks.len())
            .unwrap_or(u32::MAX)
            .min(500);
        let page = match filter {
            Some(filter) => client.tasks_by(filter, &query).await?,
            None => client.tasks(&query).await?,
        };
        tasks.extend(page.items);
        query.after = page.next;
        if query.after.is_none() || tasks.len() >= wanted {
            return Ok(tasks);
        }
    }
}

fn state(name: &str) -> Result<TaskState, CliError> {
    let known = || TaskState::ALL.map(TaskState::as_str).join(", ");
    TaskState::parse(name).ok_or_else(|| {
        CliError::Usage(format!(
            "--status must be one of {}, but it is `{name}`",
            known()
        ))
    })
}

fn row(task: &TaskView) -> Vec<String> {
    vec![
        task.id.to_string(),
        task.name.clone(),
        task.status.to_string(),
        format!("{:.0}%", task.progress),
        plugin_name(task),
        dash(task.dataset),
        time(task.created),
    ]
}

/// Name and version of the plugin that runs a task.
fn plugin_name(task: &TaskView) -> String {
    dash(
        task.plugin
            .as_ref()
            .map(|plugin| format!("{}@{}", plugin.name, plugin.version)),
    )
}

/// What may be absent, which a dash stands for.
fn dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

fn details(task: &TaskView) -> Vec<(&'static str, String)> {
    let json = |map| serde_json::Value::Object(map).to_string();
    vec![
        ("id", task.id.to_string()),
        ("name", task.name.clone()),
        ("project", task.project.clone()),
        ("type", task.task_type.as_str().to_owned()),
        ("status", task.status.to_string()),
        ("status reason", task.status_reason.clone()),
        ("status message", task.status_message.clone()),
        ("comment", task.comment.clone()),
        ("tags", task.tags.join(", ")),
        ("system tags", task.system_tags.join(", ")),
        ("creator", task.creator.clone()),
        ("parent", dash(task.parent.as_ref())),
        ("action", task.action.clone()),
        ("params", json(task.params.clone())),
        ("result", dash(task.result.clone().map(json))),
        ("plugin", plugin_name(task)),
        (
            "component",
            dash(
                task.plugin
                    .as_ref()
                    .map(|plugin| format!("sha256:{}", plugin.digest)),
            ),
        ),
        ("contract", dash(task.run.world.as_ref())),
        ("source", dash(task.script.as_ref().map(told))),
        ("data set", dash(task.dataset)),
        ("checkpoint", dash(task.checkpoint)),
        ("seed", dash(task.seed)),
        ("progress", format!("{:.0}%", task.progress)),
        ("last iteration", task.last_iteration.to_string()),
        ("queue", dash(task.queue.as_ref())),
        ("agent", dash(task.agent.clone())),
        ("machine", dash(task.run.machine.as_ref().map(machine))),
        ("created", time(task.created)),
        ("started", dash(task.started.map(time))),
        ("completed", dash(task.completed.map(time))),
        ("published", dash(task.published.map(time))),
    ]
}

fn machine(machine: &Machine) -> String {
    let gpus = match machine.gpus.len() {
        0 => String::new(),
        count => format!(", {count} x {}", machine.gpus[0]),
    };
    format!(
        "{}, {} cores, {}{gpus}, {}, trainshed {}",
        machine.cpu,
        machine.cores,
        size(machine.memory_bytes),
        machine.os,
        machine.trainshed
    )
}

fn metric_rows(metrics: &Metrics) -> Vec<Vec<String>> {
    let curves = metrics.scalars.iter().map(|curve| {
        vec![
            format!("{}/{}", curve.title, curve.series),
            number(curve.last.0),
            curve.last_iteration.to_string(),
            number(curve.min.0),
            curve.min_iteration.to_string(),
            number(curve.max.0),
            curve.max_iteration.to_string(),
            curve.count.to_string(),
        ]
    });
    let singles = metrics.singles.iter().map(|single| {
        let mut row = vec![single.name.clone(), number(single.value.0)];
        row.resize(8, String::new());
        row
    });
    curves.chain(singles).collect()
}

fn curve_names(curve: &str) -> Result<(&str, &str), CliError> {
    curve.split_once('/').ok_or_else(|| {
        CliError::Usage(format!(
            "--curve must be TITLE/SERIES, e.g. train/loss, but it is `{curve}`"
        ))
    })
}

fn sample_rows(curve: &SampledCurve) -> Vec<Vec<String>> {
    let x: Vec<String> = match &curve.x {
        AxisValues::Numbers(numbers) => numbers.iter().map(i64::to_string).collect(),
        AxisValues::Times(times) => times.clone(),
    };
    let column = |column: &Option<Vec<Real>>, row: usize| {
        let value = column.as_ref().and_then(|column| column.get(row));
        value.map_or_else(String::new, |value| value.0.to_string())
    };
    let rows = x.into_iter().zip(&curve.y).enumerate();
    rows.map(|(row, (x, value))| {
        let (min, max) = (column(&curve.min, row), column(&curve.max, row));
        vec![x, value.0.to_string(), min, max]
    })
    .collect()
}

async fn points(client: &Client, id: &str, curve: &str, output: &Output) -> Result<(), CliError> {
    let (title, series) = curve_names(curve)?;
    let mut curve = client.curve(id, title, series, 0).await?;
    while let Some(next) = curve.next {
        let page = client.curve(id, title, series, next).await?;
        curve.iterations.extend(page.iterations);
        curve.values.extend(page.values);
        curve.times.extend(page.times);
        curve.next = page.next;
    }
    let rows = curve.iterations.iter().zip(&curve.values).zip(&curve.times);
    // All digits here: these numbers are for programs and spreadsheets as much as for people.
    let rows = rows.map(|((iteration, value), at)| {
        vec![iteration.to_string(), value.0.to_string(), time(*at)]
    });
    output.list(&curve, &["ITERATION", "VALUE", "TIME"], rows.collect());
    Ok(())
}
