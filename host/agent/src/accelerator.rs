//! The agent's accelerator, opened for the first task that wants one.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Map, Value};
use tokio::sync::OnceCell;
use trainshed_core::error::with_causes;
use trainshed_pjrt::{Client, Pjrt, Search, survey};
use trainshed_runtime::Device;

/// The accelerators of an agent. All its tasks share one process and one client, and an
/// agent serves one server, whose tasks all belong to one workspace.
pub(crate) struct Accelerators {
    search: Search,
    /// Where compiled programs are kept.
    programs: PathBuf,
    client: OnceCell<Option<Client>>,
}

impl Accelerators {
    pub(crate) fn new(search: Search, programs: PathBuf) -> Self {
        Self {
            search,
            programs,
            client: OnceCell::new(),
        }
    }

    /// Where a task with these `params` runs its programs: an accelerator if it asks for
    /// one (`num_gpus` above 0) and there is one, of which one program may take
    /// `memory_limit` bytes.
    pub(crate) async fn device(&self, params: &Map<String, Value>, memory_limit: u64) -> Device {
        let wanted = params.get("num_gpus").and_then(Value::as_f64);
        if wanted.is_none_or(|wanted| wanted <= 0.0) {
            return Device::Cpu;
        }
        let client = self.client.get_or_init(|| open(self.search.clone())).await;
        match client {
            None => {
                tracing::warn!("a task wants an accelerator, but there is none: it uses the CPU");
                Device::Cpu
            }
            Some(client) => {
                let programs = Some(self.programs.clone());
                let device = Pjrt::new(client.clone(), programs, memory_limit);
                Device::Accelerator(Arc::new(device))
            }
        }
    }
}

/// Opens the first plugin that works; opening one takes seconds.
async fn open(search: Search) -> Option<Client> {
    let survey = tokio::task::spawn_blocking(move || survey(&search)).await;
    let survey = survey
        .inspect_err(|panic| tracing::error!(%panic, "looking for accelerators panicked"))
        .ok()?;
    if survey.plugins.is_empty() {
        tracing::warn!(searched = ?survey.searched, "no plugin for an accelerator was found");
    }
    let mut opened = None;
    for (path, found) in survey.plugins {
        match found {
            Ok(found) => {
                let device = &found.devices[0].kind;
                tracing::info!(plugin = %path.display(), %device, "an accelerator is ready");
                opened.get_or_insert(found.client);
            }
            Err(error) => {
                let error = with_causes(&error);
                tracing::warn!(plugin = %path.display(), %error, "an accelerator does not work");
            }
        }
    }
    opened
}
