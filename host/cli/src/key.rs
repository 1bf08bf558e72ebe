//! `trainshed key`.

use std::process::ExitCode;

use crate::args::{Global, KeyCommand};
use crate::connect::Connection;
use crate::error::CliError;
use crate::output::{Output, time};

pub(crate) async fn key(
    global: &Global,
    command: KeyCommand,
    output: &Output,
) -> Result<ExitCode, CliError> {
    let connection = Connection::open(global).await?;
    let done = execute(&connection.client, command, output).await;
    connection.close().await;
    done.map(|()| ExitCode::SUCCESS)
}

async fn execute(
    client: &trainshed_wire::Client,
    command: KeyCommand,
    output: &Output,
) -> Result<(), CliError> {
    match command {
        KeyCommand::Ls => {
            let keys = client.keys().await?;
            let rows = keys.iter().map(|key| {
                let current = if key.current { "this one" } else { "" };
                vec![
                    key.id.clone(),
                    key.name.clone(),
                    time(key.created),
                    current.to_owned(),
                ]
            });
            output.list(&keys, &["ID", "NAME", "CREATED", ""], rows.collect());
        }
        KeyCommand::Create { name } => {
            let made = client.make_key(&name).await?;
            if output.is_json() {
                output.document(&made);
            } else {
                output.line(&made.key);
            }
        }
        KeyCommand::Revoke { id } => client.revoke_key(&id).await?,
    }
    Ok(())
}
