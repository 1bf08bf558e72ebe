//! `trainshed plugin`.

use std::path::Path;
use std::process::ExitCode;

use trainshed_core::view::PluginView;
use trainshed_wire::Client;

use crate::args::{Global, PluginCommand};
use crate::connect::Connection;
use crate::error::CliError;
use crate::output::{Output, printable, size, time};
use crate::source::{source_of, told};

pub(crate) async fn plugin(
    global: &Global,
    command: PluginCommand,
    output: &Output,
) -> Result<ExitCode, CliError> {
    let connection = Connection::open(global).await?;
    let done = execute(&connection, command, output).await;
    connection.close().await;
    done.map(|()| ExitCode::SUCCESS)
}

async fn execute(
    connection: &Connection,
    command: PluginCommand,
    output: &Output,
) -> Result<(), CliError> {
    let client = &connection.client;
    match command {
        PluginCommand::Push { file } => {
            let plugin = push(client, &file).await?;
            if output.is_json() {
                output.document(&plugin);
            } else {
                output.line(&format!(
                    "{}@{}",
                    plugin.manifest.name, plugin.manifest.version
                ));
            }
        }
        PluginCommand::Ls => {
            let plugins = client.plugins().await?;
            output.list(
                &plugins,
                &["NAME", "VERSION", "ACTIONS", "SIZE", "DIGEST", "PUSHED"],
                plugins.iter().map(row).collect(),
            );
        }
        PluginCommand::Show { plugin } => {
            let plugin = client.plugin(&plugin).await?;
            if output.is_json() {
                output.document(&plugin);
            } else {
                show(&plugin, output);
            }
        }
    }
    Ok(())
}

/// Installs a component and records where it came from, as far as this machine knows.
pub(crate) async fn push(client: &Client, component: &Path) -> Result<PluginView, CliError> {
    let plugin = client.push_plugin(component).await?;
    let Some(source) = source_of(component) else {
        return Ok(plugin);
    };
    let reference = format!("sha256:{}", plugin.digest);
    Ok(client.set_plugin_source(&reference, &source).await?)
}

fn row(plugin: &PluginView) -> Vec<String> {
    let actions: Vec<&str> = plugin
        .manifest
        .actions
        .iter()
        .map(|action| action.name.as_str())
        .collect();
    vec![
        plugin.manifest.name.clone(),
        plugin.manifest.version.clone(),
        actions.join(","),
        size(plugin.size_bytes),
        plugin.digest.short(),
        time(plugin.created),
    ]
}

fn show(plugin: &PluginView, output: &Output) {
    let manifest = &plugin.manifest;
    output.line(&printable(&format!(
        "{} {}  {}",
        manifest.name, manifest.version, manifest.summary
    )));
    output.line(&format!("sha256:{}", plugin.digest));
    output.line(&printable(&format!("contract {}", manifest.contract)));
    if let Some(source) = &plugin.source {
        output.line(&printable(&told(source)));
    }
    for action in &manifest.actions {
        output.line("");
        output.line(&printable(&format!(
            "action {}  {}",
            action.name, action.summary
        )));
        let properties = action
            .schema
            .get("properties")
            .and_then(serde_json::Value::as_object);
        for (name, schema) in properties.into_iter().flatten() {
            let text = |key: &str| {
                schema.get(key).map(|value| {
                    value
                        .as_str()
                        .map_or_else(|| value.to_string(), str::to_owned)
                })
            };
            let default = text("default")
                .map(|value| format!(" = {value}"))
                .unwrap_or_default();
            let kind = text("type").unwrap_or_default();
            let about = text("description").unwrap_or_default().replace('\n', " ");
            output.line(&printable(&format!(
                "  {:<32} {about}",
                format!("{name}: {kind}{default}")
            )));
        }
    }
}
