//! `trainshed export`, `trainshed import`, and runs without any server.

use std::path::Path;
use std::pin::pin;
use std::process::ExitCode;

use futures::StreamExt as _;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use trainshed_core::TaskId;
use trainshed_core::transfer::ExportRequest;
use trainshed_engine::{Allowed, Database, FileSettings};
use trainshed_wire::Client;

use crate::args::{ExportArgs, Global, ImportArgs, RunArgs};
use crate::connect::Connection;
use crate::error::CliError;
use crate::local::LocalServer;
use crate::output::{Output, size};
use crate::run::run_connected;

pub(crate) async fn export(
    global: &Global,
    arguments: ExportArgs,
    output: &Output,
) -> Result<ExitCode, CliError> {
    check_free(&arguments.file)?;
    if let Some(text) = &arguments.query {
        crate::query::check(trainshed_core::query::Entity::Task, text)?;
    }
    let request = ExportRequest {
        query: arguments.query,
        tasks: arguments.tasks,
        without_linked: arguments.no_linked,
    };
    let connection = Connection::open(global).await?;
    let saved = save(&connection.client, &request, &arguments.file).await;
    connection.close().await;
    output.say(&format!(
        "saved {} to `{}`",
        size(saved?),
        arguments.file.display()
    ));
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn import(
    global: &Global,
    arguments: ImportArgs,
    output: &Output,
) -> Result<ExitCode, CliError> {
    let connection = Connection::open(global).await?;
    let client = connection.client.clone();
    let imported = client
        .import_tasks(
            &arguments.file,
            arguments.into.as_ref(),
            arguments.iteration_offset,
        )
        .await;
    connection.close().await;
    let imported = imported?;
    for note in &imported.notes {
        output.say(note);
    }
    if output.is_json() {
        output.document(&imported);
        return Ok(ExitCode::SUCCESS);
    }
    for task in &imported.tasks {
        output.line(task.as_str());
        if global.server.is_some() {
            output.say(&format!("see {}/api/v1/tasks/{task}", client.url()));
        }
    }
    for task in &imported.skipped {
        output.say(&format!("the task {task} was there already"));
    }
    output.say(&format!(
        "imported: tasks {}, files {}, {}",
        imported.tasks.len(),
        imported.files,
        size(imported.file_bytes)
    ));
    Ok(ExitCode::SUCCESS)
}

/// Runs an action in a folder that is gone afterwards, and leaves its task as an archive.
pub(crate) async fn run_offline(
    global: &Global,
    action: Value,
    arguments: &RunArgs,
    archive: &Path,
    output: &Output,
) -> Result<ExitCode, CliError> {
    check_free(archive)?;
    if global.server.is_some() || global.database.is_some() {
        let what = "--offline runs without any server: leave out --server and --database";
        return Err(CliError::Usage(what.to_owned()));
    }
    if arguments.reuse {
        let what = "--reuse takes the place of a task, of which there is none with --offline";
        return Err(CliError::Usage(what.to_owned()));
    }
    let parent = archive
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let failed = |source| CliError::File {
        path: archive.to_owned(),
        verb: "written",
        source,
    };
    let folder = tempfile::Builder::new()
        .prefix(".trainshed-offline-")
        .tempdir_in(parent.unwrap_or(Path::new(".")))
        .map_err(failed)?;
    let files = FileSettings {
        allowed: Allowed::Any,
        ..FileSettings::default()
    };
    let accelerator = Some(arguments.accelerator.clone());
    let store = (Database::Folder, files);
    let server = LocalServer::start(folder.path(), store, accelerator).await?;
    let client = server.client().clone();
    let ran = run_connected(&client, action, arguments, output).await;
    let done = match ran {
        Ok((code, task)) => keep(&client, task, archive, output).await.map(|()| code),
        Err(error) => Err(error),
    };
    server.stop().await;
    done
}

async fn keep(
    client: &Client,
    task: TaskId,
    archive: &Path,
    output: &Output,
) -> Result<(), CliError> {
    let request = ExportRequest {
        query: None,
        tasks: vec![task.clone()],
        without_linked: false,
    };
    let bytes = save(client, &request, archive).await?;
    output.say(&format!(
        "saved    offline-{task}, {}: `trainshed import {}` brings it to a server",
        size(bytes),
        archive.display()
    ));
    Ok(())
}

fn check_free(path: &Path) -> Result<(), CliError> {
    if path.exists() {
        return Err(CliError::Usage(format!(
            "`{}` is there already: give another file, or remove it first",
            path.display()
        )));
    }
    Ok(())
}

/// Saves an archive, which has its name only when it is whole; returns its length.
async fn save(client: &Client, request: &ExportRequest, path: &Path) -> Result<u64, CliError> {
    let failed = |source| CliError::File {
        path: path.to_owned(),
        verb: "written",
        source,
    };
    let mut content = pin!(client.export_tasks(request).await?);
    let mut partial = path.as_os_str().to_owned();
    partial.push(".part");
    let partial = Path::new(&partial);
    let written = async {
        let mut file = tokio::fs::File::create(partial).await.map_err(failed)?;
        let mut bytes = 0;
        while let Some(piece) = content.next().await {
            let piece = piece?;
            bytes += piece.len() as u64;
            file.write_all(&piece).await.map_err(failed)?;
        }
        file.sync_all().await.map_err(failed)?;
        tokio::fs::rename(partial, path).await.map_err(failed)?;
        Ok(bytes)
    };
    let written = written.await;
    if written.is_err() {
        // What is there of it is of no use to anyone.
        let _ = std::fs::remove_file(partial);
    }
    written
}
