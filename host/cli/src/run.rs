//! `trainshed run` and `trainshed submit`.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Value, json};
use trainshed_core::TaskId;
use trainshed_core::task::TaskState;
use trainshed_core::view::TaskView;
use trainshed_wire::Client;

use crate::agent::machine_name;
use crate::args::{AcceleratorArgs, Global, RunArgs, SubmitArgs};
use crate::connect::Connection;
use crate::dataset;
use crate::error::CliError;
use crate::follow::{Followed, follow};
use crate::output::Output;
use crate::plugin::push;
use crate::source::source_of;
use crate::transfer::run_offline;

pub(crate) async fn run(
    global: &Global,
    arguments: RunArgs,
    output: &Output,
) -> Result<ExitCode, CliError> {
    let action = read_action(&arguments.action)?;
    if let Some(archive) = &arguments.offline {
        return run_offline(global, action, &arguments, archive, output).await;
    }
    let connection = Connection::open_with_agent(global, arguments.accelerator.clone()).await?;
    let done = run_connected(&connection.client, action, &arguments, output).await;
    connection.close().await;
    done.map(|(code, _)| code)
}

/// Runs an action to its end; the exit code, and which task it was.
pub(crate) async fn run_connected(
    client: &Client,
    mut action: Value,
    arguments: &RunArgs,
    output: &Output,
) -> Result<(ExitCode, TaskId), CliError> {
    if let Some(file) = &arguments.plugin {
        let plugin = push(client, file).await?;
        output.say(&format!(
            "plugin   {} {} ({})",
            plugin.manifest.name,
            plugin.manifest.version,
            plugin.digest.short()
        ));
        action["plugin"] = json!(plugin.reference().to_string());
    }
    if let Some(path) = &arguments.dataset {
        let made =
            dataset::import(client, &name_of(path), std::slice::from_ref(path), "", None).await?;
        output.say(&format!(
            "data set {} version {}, id {} ({})",
            made.name,
            made.number,
            made.id,
            made.digest.short()
        ));
        if let Some(params) = action.get_mut("params").and_then(Value::as_object_mut) {
            params.insert("dataset".to_owned(), json!(made.id));
        }
    }
    if arguments.reuse {
        action["creator"] = json!(machine_name());
        if let Some(params) = action.get_mut("params").and_then(Value::as_object_mut) {
            params.insert("reuse".to_owned(), json!(true));
        }
    }
    let task = submit_action(client, &action, output).await?;
    output.say(&format!("task     {}", task.id));
    let code = finish(client, &task, output).await?;
    Ok((code, task.id))
}

pub(crate) async fn submit(
    global: &Global,
    arguments: SubmitArgs,
    output: &Output,
) -> Result<ExitCode, CliError> {
    let action = read_action(&arguments.action)?;
    let connection = if arguments.follow {
        // An agent that a command starts finds its accelerator in the environment.
        Connection::open_with_agent(global, AcceleratorArgs::default()).await?
    } else {
        Connection::open(global).await?
    };
    let done = submit_connected(&connection.client, &action, arguments.follow, output).await;
    connection.close().await;
    done
}

async fn submit_connected(
    client: &Client,
    action: &Value,
    stay: bool,
    output: &Output,
) -> Result<ExitCode, CliError> {
    let task = submit_action(client, action, output).await?;
    if !stay {
        if output.is_json() {
            output.document(&task);
        } else {
            output.line(task.id.as_str());
        }
        return Ok(ExitCode::SUCCESS);
    }
    if !output.is_json() {
        output.line(task.id.as_str());
    }
    finish(client, &task, output).await
}

async fn submit_action(
    client: &Client,
    action: &Value,
    output: &Output,
) -> Result<TaskView, CliError> {
    let submitted = client.submit(action).await?;
    for warning in &submitted.warnings {
        output.say(&format!("warning: {warning}"));
    }
    Ok(submitted.task)
}

/// Follows the task to its end and prints what came of it.
async fn finish(client: &Client, task: &TaskView, output: &Output) -> Result<ExitCode, CliError> {
    let ended = match follow(client, task, output).await? {
        Followed::Ended(ended) => ended,
        Followed::Left => return Ok(ExitCode::from(130)),
    };
    if output.is_json() {
        output.document(&ended);
    } else if let Some(result) = &ended.result {
        output.line(&Value::Object(result.clone()).to_string());
    }
    Ok(if ended.status == TaskState::Completed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The action in a file, or in standard input for `-`.
pub(crate) fn read_action(path: &Path) -> Result<Value, CliError> {
    let mut action = read_json(path, "a JSON action")?;
    if let Some(fields) = action.as_object_mut()
        && !fields.contains_key("script")
        && let Some(source) = source_of(path)
    {
        fields.insert("script".to_owned(), json!(source));
    }
    Ok(action)
}

/// The document in a file, or in standard input for `-`.
pub(crate) fn read_json(path: &Path, expected: &'static str) -> Result<Value, CliError> {
    let failed = |source| CliError::File {
        path: path.to_owned(),
        verb: "read",
        source,
    };
    let content = if path == Path::new("-") {
        let mut content = Vec::new();
        std::io::stdin()
            .lock()
            .read_to_end(&mut content)
            .map_err(failed)?;
        content
    } else {
        std::fs::read(path).map_err(failed)?
    };
    serde_json::from_slice(&content).map_err(|source| CliError::Json {
        path: path.to_owned(),
        expected,
        source,
    })
}

/// A data set's name for a path: that of the file without its ending, or of the folder.
fn name_of(path: &PathBuf) -> String {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.clone());
    absolute.file_stem().map_or_else(
        || "dataset".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}
