//! `trainshed agent`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::AsyncReadExt;
use trainshed_agent::AgentConfig;
use trainshed_core::limits::Limits;
use trainshed_wire::Client;

use crate::args::{AgentArgs, Capacity, Global};
use crate::connect::{data_dir, key_for_server};
use crate::devices::search;
use crate::error::CliError;
use crate::local::{AGENT_PATIENCE, cache_dir};
use crate::output::Output;
use crate::serve::stop_requested;

pub(crate) async fn agent(
    global: &Global,
    arguments: AgentArgs,
    output: &Output,
) -> Result<ExitCode, CliError> {
    let Some(url) = &global.server else {
        return Err(CliError::Usage(
            "an agent needs a server: --server http://…".to_owned(),
        ));
    };
    let data_dir = data_dir(global)?;
    let work_dir = data_dir.join("agent/work");
    if arguments.child {
        // The server holds the lock on the data folder: what lies here is left of a former run.
        let _ = std::fs::remove_dir_all(&work_dir);
    }
    let slots = arguments.capacity.slots.unwrap_or_else(cores);
    let config = AgentConfig {
        client: Client::new(url, &key_for_server(global)?),
        name: arguments.name.unwrap_or_else(machine_name),
        local: arguments.child,
        cache_dir: cache_dir(&data_dir),
        work_dir,
        slots,
        limits: limits(arguments.capacity.limits.as_deref(), cores() / slots)?,
        accelerators: search(&arguments.capacity.accelerator),
        monitor: match arguments.capacity.monitor_seconds {
            0 => None,
            seconds => Some(Duration::from_secs(seconds.into())),
        },
        environment: granted(&arguments.capacity),
    };
    if arguments.child {
        let (gone, hears) = tokio::sync::watch::channel(false);
        let parent_ends = async move {
            parent_gone().await;
            gone.send_replace(true);
        };
        tokio::select! {
            ended = trainshed_agent::run(config, parent_ends) => ended?,
            // A parent that was killed takes no reports any more: there is nothing to wait for.
            () = long_after(hears) => {}
        }
    } else {
        output.say(&format!(
            "agent `{}` runs {} tasks at once for {url}",
            config.name, config.slots
        ));
        trainshed_agent::run(config, stop_requested()).await?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns when standard input ends: the parent has closed it, or is no more.
async fn parent_gone() {
    let mut input = tokio::io::stdin();
    let mut buffer = [0; 64];
    while matches!(input.read(&mut buffer).await, Ok(count) if count > 0) {}
}

/// Returns when the parent has been gone for longer than it would wait for this process.
async fn long_after(mut gone: tokio::sync::watch::Receiver<bool>) {
    // A sender that is dropped without a word belongs to an agent that has ended by itself.
    if gone.wait_for(|gone| *gone).await.is_err() {
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(AGENT_PATIENCE).await;
}

/// What a file of limits says about threads.
#[derive(Deserialize)]
struct Threads {
    threads: Option<u32>,
}

/// The limits of a task, of a file where there is one. Without a word in it about threads, a
/// task may use its share of the processors, `threads`, but at least one.
fn limits(path: Option<&Path>, threads: u32) -> Result<Limits, CliError> {
    let share = threads.max(1);
    let Some(path) = path else {
        return Ok(Limits {
            threads: share,
            ..Limits::default()
        });
    };
    let failed = |source| CliError::File {
        path: path.to_owned(),
        verb: "read",
        source,
    };
    let content = std::fs::read(path).map_err(failed)?;
    let read = || {
        let limits: Limits = serde_json::from_slice(&content)?;
        let Threads { threads } = serde_json::from_slice(&content)?;
        Ok(Limits {
            threads: threads.unwrap_or(share),
            ..limits
        })
    };
    read().map_err(|source| CliError::Json {
        path: path.to_owned(),
        expected: "an object of limits",
        source,
    })
}

#[expect(
    clippy::disallowed_methods,
    reason = "the command line reads the environment, nothing below it does"
)]
fn granted(capacity: &Capacity) -> BTreeMap<String, String> {
    capacity
        .grant_env
        .iter()
        .filter_map(|name| Some((name.clone(), std::env::var(name).ok()?)))
        .collect()
}

fn cores() -> u32 {
    std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1))
}

pub(crate) fn machine_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname");
    name.map_or_else(|_| "agent".to_owned(), |name| name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_may_use_its_share_of_the_processors_unless_a_file_says_otherwise() {
        assert_eq!(limits(None, 4).unwrap().threads, 4);
        assert_eq!(limits(None, 0).unwrap().threads, 1);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("limits.json");
        for (content, threads) in [(r#"{"wall_ms": 5}"#, 4), (r#"{"threads": 2}"#, 2)] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(limits(Some(&path), 4).unwrap().threads, threads);
        }
    }
}
