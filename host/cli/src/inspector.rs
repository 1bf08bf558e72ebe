//! Looking at a component in a process of its own, because plugins never run in the server.

use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use async_trait::async_trait;
use tokio::process::Command;
use trainshed_agent::Inspection;
use trainshed_core::manifest::Manifest;
use trainshed_engine::{InspectError, Inspector};

use crate::args::InspectArgs;
use crate::error::CliError;
use crate::output::Output;

/// Compiling a large component takes a while; a small one well under a second.
const PATIENCE: Duration = Duration::from_secs(120);

/// Starts this program with the hidden command `inspect-plugin`.
pub(crate) struct ProcessInspector {
    cache_dir: PathBuf,
}

impl ProcessInspector {
    pub(crate) fn new(cache_dir: &Path) -> Self {
        Self {
            cache_dir: cache_dir.to_owned(),
        }
    }
}

#[async_trait]
impl Inspector for ProcessInspector {
    async fn inspect(&self, component: &Path) -> Result<Manifest, InspectError> {
        let failed = |text: String| InspectError::Failed(text);
        let program = std::env::current_exe().map_err(|error| failed(error.to_string()))?;
        let mut command = Command::new(program);
        command
            .arg("inspect-plugin")
            .arg(component)
            .arg("--cache-dir")
            .arg(&self.cache_dir);
        // The environment may hold a key, and nothing of it is needed.
        command
            .env_clear()
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .kill_on_drop(true);
        let finished = tokio::time::timeout(PATIENCE, command.output()).await;
        let output = match finished {
            Err(_) => {
                return Err(InspectError::Refused(format!(
                    "the plugin could not be compiled within {} s",
                    PATIENCE.as_secs()
                )));
            }
            Ok(output) => output.map_err(|error| failed(error.to_string()))?,
        };
        match serde_json::from_slice(&output.stdout) {
            Ok(Inspection::Plugin(manifest)) => Ok(*manifest),
            Ok(Inspection::Refused(reason)) => Err(InspectError::Refused(reason)),
            Ok(Inspection::Failed(reason)) => Err(failed(reason)),
            Err(_) => Err(InspectError::Refused(format!(
                "the process that looked at the plugin ended with {}",
                output.status
            ))),
        }
    }
}

/// The hidden command: prints an [`Inspection`] as JSON.
pub(crate) async fn inspect(arguments: InspectArgs, output: &Output) -> Result<ExitCode, CliError> {
    output.document(&trainshed_agent::inspect(&arguments.file, &arguments.cache_dir).await);
    Ok(ExitCode::SUCCESS)
}
