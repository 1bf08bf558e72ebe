//! `trainshed serve`.

use std::process::ExitCode;

use trainshed_engine::{Allowed, FileSettings};

use crate::args::{Global, ServeArgs};
use crate::connect::{data_dir, database};
use crate::error::CliError;
use crate::local::{LocalData, LocalServer};
use crate::output::Output;

pub(crate) async fn serve(
    global: &Global,
    arguments: ServeArgs,
    output: &Output,
) -> Result<ExitCode, CliError> {
    let data_dir = data_dir(global)?;
    let capacity = (!arguments.no_agent).then_some(arguments.capacity);
    let files = FileSettings {
        own: global.files.clone(),
        default_output: arguments.default_output,
        allowed: Allowed::Only(arguments.allow),
        max_upload_bytes: arguments.max_upload_bytes,
        ..FileSettings::default()
    };
    let data = LocalData {
        folder: &data_dir,
        database: database(global),
        files,
        task_watchdog_s: arguments.task_watchdog,
        reuse_window_h: arguments.reuse_window,
        is_announced: true,
    };
    let server = LocalServer::start_at(data, arguments.listen, capacity).await?;
    output.say(&format!(
        "trainshed serves {} at {}",
        data_dir.display(),
        server.client().url()
    ));
    output.say(&format!("the key is in {}", data_dir.join("key").display()));
    stop_requested().await;
    output.say("stopping");
    server.stop().await;
    Ok(ExitCode::SUCCESS)
}

/// Returns at Ctrl-C, or when the process is asked to end.
pub(crate) async fn stop_requested() {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = match signal(SignalKind::terminate()) {
        Ok(terminate) => terminate,
        Err(error) => {
            tracing::warn!(%error, "SIGTERM cannot be heard");
            return std::future::pending().await;
        }
    };
    tokio::select! {
        heard = tokio::signal::ctrl_c() => if heard.is_err() { terminate.recv().await; },
        _ = terminate.recv() => {}
    }
}
