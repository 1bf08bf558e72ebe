//! What users can rely on: spaces, searchers, schedulers, and experiments that survive anything.

#![expect(clippy::unwrap_used, reason = "a test says what it expects by failing")]

mod distributions;
mod experiments;
mod golden;
mod payloads;
mod plans;
mod replay;
mod searchers;
mod settings;
mod spaces;

use serde_json::{Map, Value, json};
use trainshed_tune::experiment::event::Ending;
use trainshed_tune::experiment::event::Event;
use trainshed_tune::experiment::{Next, Report, Start};
use trainshed_tune::{Config, Decision, Experiment, Space};

/// A dict.
fn dict(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        other => panic!("{other} is no dict"),
    }
}

/// A space of the listed parameters.
fn space(list: Value) -> Space {
    let list = list.as_array().cloned().unwrap_or_else(|| vec![list]);
    Space::parse(&list, "/params/hyperparameters").unwrap()
}

/// An experiment over the listed parameters; settings are merged over `min loss`.
fn experiment(parameters: Value, settings: Value) -> Experiment {
    let list = parameters
        .as_array()
        .cloned()
        .unwrap_or_else(|| vec![parameters]);
    let mut config = dict(json!({"mode": "min", "metric": "loss"}));
    config.extend(dict(settings));
    Experiment::create("0123456789abcdef0123456789abcdef", 7, &list, &config)
        .unwrap()
        .0
}

/// One number between 0 and 1, called `x`.
fn x() -> Value {
    json!({"name": "x", "type": "uniform", "min": 0, "max": 1})
}

/// The attempt that the experiment starts now.
#[track_caller]
fn started(experiment: &mut Experiment) -> Start {
    match experiment.next(0).0 {
        Next::Start(start) => start,
        other => panic!("instead of a start: {other:?}"),
    }
}

/// Reports a value of `metric` from the trial's current attempt.
#[track_caller]
fn report(
    experiment: &mut Experiment,
    trial: u64,
    iteration: u64,
    metric: &str,
    value: impl Into<Value>,
) -> (Decision, Vec<Event>) {
    let attempt = experiment.trial(trial).unwrap().attempt;
    let metrics = Map::from_iter([(metric.to_owned(), value.into())]);
    let report = Report {
        trial,
        attempt,
        iteration,
        metrics,
        elapsed_ms: iteration * 1000,
    };
    experiment.report(report, iteration * 1000).unwrap()
}

/// Ends the trial's current attempt.
#[track_caller]
fn end(experiment: &mut Experiment, trial: u64, how: Ending) -> Vec<Event> {
    let attempt = experiment.trial(trial).unwrap().attempt;
    experiment.end(trial, attempt, how, 9000).unwrap()
}

fn completed() -> Ending {
    Ending::Completed {
        returned: Value::Null,
    }
}

fn failed() -> Ending {
    Ending::Failed {
        reason: "the kernel trapped".into(),
    }
}

/// Runs all trials one after the other, each with one value; their configurations.
fn run_all(experiment: &mut Experiment, value: impl Fn(&Config) -> f64) -> Vec<Config> {
    let mut configs = Vec::new();
    loop {
        match experiment.next(0).0 {
            Next::Start(start) => {
                report(experiment, start.trial, 1, "loss", value(&start.config));
                end(experiment, start.trial, completed());
                configs.push(start.config);
            }
            Next::Finished => return configs,
            other => panic!("instead of a start: {other:?}"),
        }
    }
}
