//! `trainshed tune`, and what a person sees of a search while it runs.

use std::process::ExitCode;

use serde_json::{Map, Value};
use trainshed_core::view::{BestTrial, ResumeTune, TrialView, TuneView};
use trainshed_wire::{Client, ClientError};

use crate::args::{Global, TuneCommand};
use crate::connect::Connection;
use crate::error::CliError;
use crate::follow::Screen;
use crate::output::{Output, number};
use crate::run::read_json;

/// Metrics that are shown of a trial.
const SHOWN_METRICS: usize = 4;

pub(crate) async fn tune(
    global: &Global,
    command: TuneCommand,
    output: &Output,
) -> Result<ExitCode, CliError> {
    let connection = Connection::open(global).await?;
    let done = execute(&connection.client, command, output).await;
    connection.close().await;
    done
}

async fn execute(
    client: &Client,
    command: TuneCommand,
    output: &Output,
) -> Result<ExitCode, CliError> {
    match command {
        TuneCommand::Start { space, base, name } => {
            let mut new = read_json(&space, "a search as JSON")?;
            if let Value::Object(fields) = &mut new {
                for (field, given) in [("base_task", base), ("name", name)] {
                    if let Some(given) = given {
                        fields.insert(field.to_owned(), Value::String(given));
                    }
                }
            }
            let task = client.create_experiment(&new).await?;
            if output.is_json() {
                output.document(&task);
            } else {
                output.line(task.id.as_str());
            }
        }
        TuneCommand::Show { id } => {
            let tuning = client.tuning(&id).await?;
            let trials = all_trials(client, &id, 0).await?;
            if output.is_json() {
                output.document(&tuning);
                return Ok(ExitCode::SUCCESS);
            }
            output.say(&search_line(&tuning));
            for warning in &tuning.warnings {
                output.say(&format!("warning: {warning}"));
            }
            let (header, rows) = table(&tuning, &trials);
            let header: Vec<&str> = header.iter().map(String::as_str).collect();
            output.list(&trials, &header, rows);
        }
        TuneCommand::Best {
            id,
            choose,
            by_metric,
        } => {
            let tuning = if choose.is_some() || by_metric {
                let choice = BestTrial {
                    trial_id: choose,
                    ..BestTrial::default()
                };
                client.choose_best(&id, &choice).await?
            } else {
                client.tuning(&id).await?
            };
            let Some(best) = tuning.best else {
                output.say(&format!("no trial has a value of {} yet", tuning.metric));
                return Ok(ExitCode::FAILURE);
            };
            output.document(&best);
        }
        TuneCommand::Resume { id, failed } => {
            let task = client.resume_tune(&id, &ResumeTune { failed }).await?;
            if output.is_json() {
                output.document(&task);
            } else {
                output.line(task.id.as_str());
            }
        }
        TuneCommand::Export { id } => {
            for trial in all_trials(client, &id, 0).await? {
                let line = serde_json::to_string(&trial);
                output.line(&line.expect("a trial is texts and numbers"));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows what is new of a search.
pub(crate) async fn look(
    client: &Client,
    id: &str,
    screen: &mut Screen<'_>,
) -> Result<(), ClientError> {
    let tuning = client.tuning(id).await?;
    let trials = all_trials(client, id, screen.next_trial()).await?;
    screen.search(&tuning, &trials);
    Ok(())
}

async fn all_trials(client: &Client, id: &str, from: u64) -> Result<Vec<TrialView>, ClientError> {
    let mut trials = Vec::new();
    let mut next = Some(from);
    while let Some(from) = next {
        let page = client.trials(id, from).await?;
        trials.extend(page.items);
        next = page.next.and_then(|next| next.parse().ok());
    }
    Ok(trials)
}

/// How a search stands, in one line.
pub(crate) fn search_line(tuning: &TuneView) -> String {
    let count = |status: &str| tuning.counts.get(status).copied().unwrap_or(0);
    let ended = count("TERMINATED") + count("ERROR");
    let total = tuning
        .total
        .map_or_else(|| "∞".to_owned(), |total| total.to_string());
    let mut line = format!("{ended}/{total} trials");
    for (status, word) in [
        ("RUNNING", "running"),
        ("PAUSED", "paused"),
        ("ERROR", "failed"),
    ] {
        if count(status) > 0 {
            line += &format!(", {} {word}", count(status));
        }
    }
    if let Some(best) = &tuning.best {
        let value = best
            .metrics
            .get(&tuning.metric)
            .map_or_else(String::new, short);
        line += &format!("; best {} {value} ({})", tuning.metric, best.id);
    }
    line
}

/// A trial that has ended, in one line.
pub(crate) fn trial_line(trial: &TrialView, metric: &str) -> String {
    let value = trial
        .metrics
        .get(metric)
        .map_or_else(|| "-".to_owned(), short);
    let why = trial
        .reason
        .as_ref()
        .map_or_else(String::new, |why| format!("  ({why})"));
    format!(
        "{} {:<10} {metric} {value:<8} {}{why}",
        trial.id,
        trial.status,
        pairs(&trial.config)
    )
}

fn pairs(values: &Map<String, Value>) -> String {
    let pairs = values
        .iter()
        .map(|(name, value)| format!("{name}={}", short(value)));
    pairs.collect::<Vec<_>>().join(" ")
}

/// The table of trials: the objective, then the first other metrics.
fn table(tuning: &TuneView, trials: &[TrialView]) -> (Vec<String>, Vec<Vec<String>>) {
    let mut parameters: Vec<&String> = Vec::new();
    let mut metrics: Vec<&String> = vec![&tuning.metric];
    for trial in trials {
        for name in trial.config.keys() {
            if !parameters.contains(&name) {
                parameters.push(name);
            }
        }
        for (name, value) in &trial.metrics {
            if value.is_number() && !metrics.contains(&name) && metrics.len() < SHOWN_METRICS {
                metrics.push(name);
            }
        }
    }
    let mut header = vec![
        "TRIAL".to_owned(),
        "STATUS".to_owned(),
        "ITERATION".to_owned(),
    ];
    header.extend(
        metrics
            .iter()
            .chain(&parameters)
            .map(|name| name.to_string()),
    );
    let cell = |values: &Map<String, Value>, name: &String| {
        values.get(name).map_or_else(|| "-".to_owned(), short)
    };
    let rows = trials.iter().map(|trial| {
        let mark = if trial.best { " *" } else { "" };
        let mut row = vec![
            format!("{}{mark}", trial.id),
            trial.status.clone(),
            trial.iteration.to_string(),
        ];
        row.extend(metrics.iter().map(|name| cell(&trial.metrics, name)));
        row.extend(parameters.iter().map(|name| cell(&trial.config, name)));
        row
    });
    let rows = rows.collect();
    (header, rows)
}

fn short(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(value) => value.as_f64().map_or_else(|| value.to_string(), number),
        other => other.to_string(),
    }
}
