//! `trainshed devices`.

use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;
use trainshed_core::error::with_causes;
use trainshed_pjrt::{Found, Search, survey};

use crate::args::{AcceleratorArgs, DevicesArgs};
use crate::error::CliError;
use crate::output::Output;

/// What to do when there is no plugin.
const WAY_OUT: &str = "install one, e.g. `pip install \"jax-cuda13-plugin[with-cuda]\"`, or name \
                       one with --pjrt-plugin";

/// A line of the list.
#[derive(Debug, Serialize)]
struct DeviceView {
    /// `cpu`, or what the plugin calls its platform.
    platform: String,
    /// The model.
    device: String,
    memory_bytes: Option<u64>,
    plugin: Option<PathBuf>,
    /// Version of the PJRT interface.
    version: Option<String>,
    /// Why it cannot be used; absent when it can.
    problem: Option<String>,
}

pub(crate) fn devices(arguments: &DevicesArgs, output: &Output) -> Result<ExitCode, CliError> {
    let mut devices = vec![DeviceView {
        platform: "cpu".to_owned(),
        device: format!("{} ({} threads)", std::env::consts::ARCH, threads()),
        memory_bytes: None,
        plugin: None,
        version: None,
        problem: None,
    }];
    let survey = survey(&search(&arguments.accelerator));
    if survey.plugins.is_empty() {
        output.say(&format!("{}; {WAY_OUT}", survey.nothing_found()));
    }
    for (path, found) in survey.plugins {
        match found {
            Ok(found) => devices.extend(views(&path, &found)),
            Err(error) => devices.push(DeviceView {
                platform: "-".to_owned(),
                device: "-".to_owned(),
                memory_bytes: None,
                plugin: Some(path),
                version: None,
                problem: Some(with_causes(&error)),
            }),
        }
    }
    let rows = devices.iter().map(row).collect();
    let header = ["PLATFORM", "DEVICE", "MEMORY", "PJRT", "PLUGIN", "PROBLEM"];
    output.list(&devices, &header, rows);
    Ok(ExitCode::SUCCESS)
}

/// Where to look: the flag (or its environment variable), else the active Python environment.
#[expect(
    clippy::disallowed_methods,
    reason = "the command line reads the environment, nothing below it does"
)]
pub(crate) fn search(arguments: &AcceleratorArgs) -> Search {
    let python = ["VIRTUAL_ENV", "CONDA_PREFIX"].into_iter();
    Search {
        plugin: arguments.pjrt_plugin.clone(),
        python: python
            .filter_map(std::env::var_os)
            .map(PathBuf::from)
            .collect(),
    }
}

fn views(path: &std::path::Path, found: &Found) -> Vec<DeviceView> {
    let (major, minor) = found.version;
    let devices = found.devices.iter();
    devices
        .map(|device| DeviceView {
            platform: found.client.platform().to_owned(),
            device: device.kind.clone(),
            memory_bytes: device.memory_bytes,
            plugin: Some(path.to_owned()),
            version: Some(format!("{major}.{minor}")),
            problem: None,
        })
        .collect()
}

fn row(device: &DeviceView) -> Vec<String> {
    let text = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    vec![
        device.platform.clone(),
        device.device.clone(),
        text(
            device
                .memory_bytes
                .map(|bytes| format!("{} MiB", bytes >> 20)),
        ),
        text(device.version.clone()),
        text(
            device
                .plugin
                .as_ref()
                .map(|path| path.display().to_string()),
        ),
        text(device.problem.clone()),
    ]
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
