//! `trainshed model`.

use std::path::PathBuf;
use std::process::ExitCode;

use trainshed_core::view::ModelView;

use crate::args::{Global, ModelCommand};
use crate::connect::Connection;
use crate::error::CliError;
use crate::output::{Output, size, time};

pub(crate) async fn model(
    global: &Global,
    command: ModelCommand,
    output: &Output,
) -> Result<ExitCode, CliError> {
    let connection = Connection::open(global).await?;
    let done = execute(&connection, command, output).await;
    connection.close().await;
    done.map(|()| ExitCode::SUCCESS)
}

async fn execute(
    connection: &Connection,
    command: ModelCommand,
    output: &Output,
) -> Result<(), CliError> {
    let client = &connection.client;
    match command {
        ModelCommand::Ls { task } => {
            let models = match task {
                Some(task) => client.task_models(&task).await?,
                None => client.models().await?,
            };
            let header = [
                "ID",
                "NAME",
                "ITERATION",
                "SIZE",
                "TASK",
                "TASK ID",
                "CREATED",
            ];
            output.list(
                &models.models,
                &header,
                models.models.iter().map(row).collect(),
            );
        }
        ModelCommand::Download { id, output: file } => {
            let model = client.model(id).await?;
            let file =
                file.unwrap_or_else(|| PathBuf::from(format!("{}-{id}.safetensors", model.name)));
            client.download(&model.sha256, &file).await?;
            if output.is_json() {
                output.document(&model);
            } else {
                output.line(&file.display().to_string());
            }
        }
    }
    Ok(())
}

fn row(model: &ModelView) -> Vec<String> {
    vec![
        model.id.to_string(),
        model.name.clone(),
        model.iteration.to_string(),
        size(model.size_bytes),
        model.task_name.clone().unwrap_or_else(|| "-".to_owned()),
        model
            .task
            .as_ref()
            .map_or_else(|| "-".to_owned(), ToString::to_string),
        time(model.created),
    ]
}
