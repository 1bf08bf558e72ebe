//! The agent's accelerator, opened for the first task that wants one.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Map, Value};
use tokio::sync::OnceCell;
use trainshed_core::error::with_causes;
use trainshed_pjrt::{Client, Pjrt, Search, survey};
use trainshed_runtime::Device;

/// The accelerators of an agent. All its tasks share one process and one client; the
/// agent's key belongs to one workspace, and so do its tasks.
pub(crate) struct Accelerators {
    search: Search,
    /// Where compiled programs are kept.
    programs: PathBuf,
    /// The client, or why there is none.
    opened: OnceCell<Result<Client, String>>,
}

impl Accelerators {
    pub(crate) fn new(search: Search, programs: PathBuf) -> Self {
        Self {
            search,
            programs,
            opened: OnceCell::new(),
        }
    }

    /// Where a task with these `params` runs its programs: an accelerator if it asks for
    /// one (`num_gpus` above 0) and there is one, of which one program may take
    /// `memory_limit` bytes. One that asks is told what it got.
    pub(crate) async fn device(
        &self,
        params: &Map<String, Value>,
        memory_limit: u64,
    ) -> (Device, Option<String>) {
        let wanted = params.get("num_gpus").and_then(Value::as_f64);
        if wanted.is_none_or(|wanted| wanted <= 0.0) {
            return (Device::Cpu, None);
        }
        let opened = self.opened.get_or_init(|| open(self.search.clone())).await;
        match opened {
            Err(reason) => {
                let notice = format!("tensor programs run on the processors: {reason}");
                (Device::Cpu, Some(notice))
            }
            Ok(client) => {
                let kind = client
                    .devices()
                    .into_iter()
                    .next()
                    .map(|device| device.kind);
                let notice = format!(
                    "tensor programs run on an accelerator: {} ({})",
                    kind.unwrap_or_default(),
                    client.platform()
                );
                let programs = Some(self.programs.clone());
                let device = Pjrt::new(client.clone(), programs, memory_limit);
                (Device::Accelerator(Arc::new(device)), Some(notice))
            }
        }
    }
}

/// Opens the first plugin that works; opening one takes seconds.
async fn open(search: Search) -> Result<Client, String> {
    let survey = tokio::task::spawn_blocking(move || survey(&search)).await;
    let survey = survey.map_err(|panic| {
        tracing::error!(%panic, "looking for accelerators panicked");
        "internal error: looking for accelerators panicked".to_owned()
    })?;
    let mut reasons = Vec::new();
    if survey.plugins.is_empty() {
        reasons.push(survey.nothing_found());
    }
    let mut opened = None;
    for (path, found) in survey.plugins {
        match found {
            Ok(found) => {
                let device = &found.devices[0].kind;
                tracing::info!(plugin = %path.display(), %device, "an accelerator is ready");
                opened.get_or_insert(found.client);
            }
            Err(error) => reasons.push(with_causes(&error)),
        }
    }
    for reason in &reasons {
        tracing::warn!("an accelerator cannot be used: {reason}");
    }
    opened.ok_or_else(|| reasons.join("; "))
}
