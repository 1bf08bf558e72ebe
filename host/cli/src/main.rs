//! The `trainshed` binary: flags, environment and files are read here and nowhere else.
//!
//! Every command is a client of the HTTP API. Without a server to talk to, it opens the data
//! folder and serves the API to itself for as long as it runs. Start reading at [`args`].

mod agent;
mod args;
mod artifact;
mod backup;
mod connect;
mod dataset;
mod devices;
mod error;
mod follow;
mod gc;
mod inspector;
mod key;
mod local;
mod model;
mod output;
mod plugin;
mod project;
mod query;
mod reproduce;
mod run;
mod serve;
mod source;
mod tables;
mod task;
mod task_change;
mod task_reports;
mod tracking_args;
mod transfer;
mod tune;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser};

use crate::args::{Arguments, Command, LogFormat};
use crate::error::CliError;
use crate::output::Output;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let output = Output::new(arguments.json);
    start_logging(&arguments);
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return output.fail(&CliError::Start(error)),
    };
    let done = runtime.block_on(execute(arguments, &output));
    // A thread that still runs a plugin must not keep the process from ending.
    runtime.shutdown_background();
    match done {
        Ok(code) => code,
        Err(error) => output.fail(&error),
    }
}

async fn execute(arguments: Arguments, output: &Output) -> Result<ExitCode, CliError> {
    let global = arguments.global;
    match arguments.command {
        Command::Run(run) => run::run(&global, run, output).await,
        Command::Submit(submit) => run::submit(&global, submit, output).await,
        Command::Serve(serve) => serve::serve(&global, serve, output).await,
        Command::Agent(agent) => agent::agent(&global, agent, output).await,
        Command::Devices(devices) => devices::devices(&devices, output),
        Command::Plugin(plugin) => plugin::plugin(&global, plugin, output).await,
        Command::Dataset(dataset) => dataset::dataset(&global, dataset, output).await,
        Command::Task(task) => task::task(&global, task, output).await,
        Command::Query(query) => query::query(&global, query, output).await,
        Command::Project(project) => project::project(&global, project, output).await,
        Command::Tune(command) => tune::tune(&global, command, output).await,
        Command::Model(model) => model::model(&global, model, output).await,
        Command::Backup(arguments) => backup::backup(&global, arguments, output).await,
        Command::Restore(arguments) => backup::restore(&global, arguments, output).await,
        Command::Export(arguments) => transfer::export(&global, arguments, output).await,
        Command::Import(arguments) => transfer::import(&global, arguments, output).await,
        Command::Completions(completions) => {
            let mut command = Arguments::command();
            let mut text = Vec::new();
            clap_complete::generate(completions.shell, &mut command, "trainshed", &mut text);
            output.line(String::from_utf8_lossy(&text).trim_end());
            Ok(ExitCode::SUCCESS)
        }
        Command::Artifact(artifact) => artifact::artifact(&global, artifact, output).await,
        Command::Key(command) => key::key(&global, command, output).await,
        Command::Gc(arguments) => gc::gc(&global, arguments, output).await,
        Command::InspectPlugin(inspect) => inspector::inspect(inspect, output).await,
    }
}

/// Logs go to standard error: warnings for people's commands, more for servers and agents. An
/// agent that a server starts has the server's environment, and so logs as it does.
fn start_logging(arguments: &Arguments) {
    let default = match &arguments.command {
        Command::Serve(_) => "info",
        Command::Agent(agent) if !agent.child => "info",
        _ => "warn",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("TRAINSHED_LOG");
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter.unwrap_or_else(|_| default.into()))
        .with_writer(std::io::stderr);
    if arguments.global.log_format == LogFormat::Json {
        logs.json().init();
    } else {
        let ansi = std::io::stderr().is_terminal();
        logs.with_ansi(ansi).with_target(false).init();
    }
}
