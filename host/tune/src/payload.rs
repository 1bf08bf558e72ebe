//! What users see of an experiment: the trial table, and the result.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::experiment::event::Status;
use crate::experiment::{Experiment, Trial, number};

/// Most metric columns of a trial table.
const MAX_METRICS: usize = 4;

/// Keys of a report that are not measurements.
const RESERVED: [&str; 21] = [
    "config",
    "date",
    "done",
    "experiment_id",
    "experiment_state",
    "experiment_tag",
    "hostname",
    "iterations_since_restore",
    "logdir",
    "node_ip",
    "pid",
    "restored_from_trial_id",
    "time_since_restore",
    "time_this_iter_s",
    "time_total",
    "time_total_s",
    "timestamp",
    "timesteps_since_restore",
    "timesteps_total",
    "training_iteration",
    "trial_id",
];

/// The trial table: columns, and a row of values per trial.
#[derive(Debug, Clone, PartialEq)]
pub struct TrialTable {
    /// Names of the hyperparameters, in the order they came up in.
    pub hyperparameters: Vec<String>,
    /// The objective, then the first three other metrics that came up.
    pub metrics: Vec<String>,
    /// For each trial id: status, values of the hyperparameters, values of the metrics.
    pub rows: BTreeMap<String, Row>,
    /// The id of the best trial; empty until the experiment is finished, or somebody has said
    /// which it is.
    pub best_trial: String,
}

/// One row of a trial table. Values stand in the order of the columns, null where there is none.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The trial's status.
    pub status: Status,
    /// Values of the hyperparameters.
    pub hyperparameters: Vec<Value>,
    /// Values of the metrics.
    pub metrics: Vec<Value>,
}

impl TrialTable {
    /// The table of an experiment as it stands.
    pub fn of(experiment: &Experiment) -> Self {
        let configs: Vec<Map<String, Value>> = experiment
            .trials()
            .iter()
            .map(|trial| flat(&trial.config()))
            .collect();
        let reported: Vec<Map<String, Value>> = experiment
            .trials()
            .iter()
            .map(|trial| measurements(&trial.metrics()))
            .collect();
        let mut hyperparameters: Vec<String> = Vec::new();
        for parameter in experiment.space().parameters() {
            if configs
                .iter()
                .any(|config| config.contains_key(&parameter.name))
            {
                hyperparameters.push(parameter.name.clone());
            }
        }
        for name in configs.iter().flat_map(Map::keys) {
            if !hyperparameters.contains(name) {
                hyperparameters.push(name.clone());
            }
        }
        let mut metrics: Vec<String> = Vec::new();
        if !experiment.trials().is_empty() {
            metrics.push(experiment.metric().to_owned());
        }
        for name in reported.iter().flat_map(Map::keys) {
            if metrics.len() < MAX_METRICS && !metrics.contains(name) {
                metrics.push(name.clone());
            }
        }
        let values = |columns: &[String], row: &Map<String, Value>| -> Vec<Value> {
            let value = |name: &String| row.get(name).cloned().unwrap_or(Value::Null);
            columns.iter().map(value).collect()
        };
        let rows = experiment
            .trials()
            .iter()
            .zip(configs.iter().zip(&reported))
            .map(|(trial, (config, reported))| {
                let row = Row {
                    status: trial.status,
                    hyperparameters: values(&hyperparameters, config),
                    metrics: values(&metrics, reported),
                };
                (trial.id.clone(), row)
            })
            .collect();
        let best_trial = experiment
            .best()
            .filter(|_| experiment.is_finished() || experiment.is_best_chosen())
            .map(|trial| trial.id.clone())
            .unwrap_or_default();
        Self {
            hyperparameters,
            metrics,
            rows,
            best_trial,
        }
    }

    /// The payload of `log_trials`.
    pub fn payload(&self) -> Value {
        self.payload_of(self.rows.iter())
    }

    /// The payload with only the rows of these trials.
    pub fn payload_of_trials(&self, ids: &BTreeSet<String>) -> Value {
        self.payload_of(self.rows.iter().filter(|(id, _)| ids.contains(*id)))
    }

    /// The payload with only the rows that are not the same in `before`; all of them when the
    /// columns have changed. `None` when nothing has.
    pub fn delta(&self, before: &Self) -> Option<Value> {
        if self == before {
            return None;
        }
        let same_columns =
            self.hyperparameters == before.hyperparameters && self.metrics == before.metrics;
        let is_new =
            |(id, row): &(&String, &Row)| !same_columns || before.rows.get(*id) != Some(*row);
        Some(self.payload_of(self.rows.iter().filter(is_new)))
    }

    fn payload_of<'a>(&self, rows: impl Iterator<Item = (&'a String, &'a Row)>) -> Value {
        let trials: Map<String, Value> = rows
            .map(|(id, row)| {
                let row = json!({
                    "base": [id, row.status.as_str()],
                    "hyperparameters": row.hyperparameters,
                    "metrics": row.metrics,
                });
                (id.clone(), row)
            })
            .collect();
        json!({
            "base": ["trial_id", "status"],
            "trials": trials,
            "hyperparameters": self.hyperparameters,
            "metrics": self.metrics,
            "best_trial": self.best_trial,
        })
    }
}

/// Nested values side by side, names joined by `/`; numbers as floats, what is neither text,
/// boolean, null nor number as its JSON text.
fn flat(config: &Map<String, Value>) -> Map<String, Value> {
    let mut result = Map::new();
    let mut open: Vec<(String, &Value)> = config
        .iter()
        .rev()
        .map(|(key, value)| (key.clone(), value))
        .collect();
    while let Some((key, value)) = open.pop() {
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                open.extend(
                    inner
                        .iter()
                        .rev()
                        .map(|(name, value)| (format!("{key}/{name}"), value)),
                );
            }
            Value::Number(number) => {
                result.insert(key, number.as_f64().map_or(Value::Null, Value::from));
            }
            Value::String(_) | Value::Bool(_) | Value::Null => {
                result.insert(key, value.clone());
            }
            Value::Array(_) | Value::Object(_) => {
                result.insert(key, value.to_string().into());
            }
        }
    }
    result
}

/// The numbers of a report, those of a nested `metrics` as `metrics/…`.
fn measurements(report: &Map<String, Value>) -> Map<String, Value> {
    let mut result = Map::new();
    for (key, value) in report {
        if RESERVED.contains(&key.as_str()) {
            continue;
        }
        match value {
            Value::Number(number) => {
                result.insert(
                    key.clone(),
                    number.as_f64().map_or(Value::Null, Value::from),
                );
            }
            Value::Object(inner) if key == "metrics" => {
                for (name, value) in flat(inner) {
                    if value.is_number() {
                        result.insert(format!("metrics/{name}"), value);
                    }
                }
            }
            _ => {}
        }
    }
    result
}

/// What a trial returned, as metrics: a dict as it is, a number under the metric's name, and
/// anything else under `result`; what was reported last fills in what is not there.
pub fn normalised(
    returned: &Value,
    metric: &str,
    reported: &Map<String, Value>,
) -> Map<String, Value> {
    let mut metrics = match returned {
        Value::Object(fields) => fields.clone(),
        Value::Number(_) => {
            let key = if metric.is_empty() { "result" } else { metric };
            Map::from_iter([(key.to_owned(), returned.clone())])
        }
        Value::Null => Map::new(),
        other => Map::from_iter([("result".to_owned(), other.clone())]),
    };
    for (key, value) in reported {
        metrics.entry(key.clone()).or_insert_with(|| value.clone());
    }
    metrics
}

/// The result of a tune action.
///
/// `model` and `logdir` say what the caller made of a trial: the id of its model, if one was
/// saved, and where its files are.
///
/// # Errors
/// No trial has a finite value of the metric.
pub fn result(
    experiment: &Experiment,
    model: impl Fn(&Trial) -> Option<u64>,
    logdir: impl Fn(&Trial) -> String,
) -> Result<Value, NoBestTrial> {
    let Some(best) = experiment.best() else {
        return Err(NoBestTrial {
            metric: experiment.metric().to_owned(),
            trials: experiment.trials().len(),
        });
    };
    let trial_models: Vec<Value> = experiment
        .trials()
        .iter()
        .filter(|trial| trial.status == Status::Terminated)
        .filter_map(|trial| {
            let model_id = model(trial)?;
            Some(json!({
                "trial_id": trial.id,
                "trial_logdir": logdir(trial),
                "model_id": model_id,
                "config": trial.config(),
                "metrics": trial.metrics(),
            }))
        })
        .collect();
    Ok(json!({
        "model_id": model(best),
        "best_trial": {
            "trial_id": best.id,
            "trial_logdir": logdir(best),
            "config": best.config(),
            "metrics": best.metrics(),
        },
        "best_result": best.config(),
        "trial_models": trial_models,
    }))
}

/// There is no best trial.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "No best trial found for the given metric: {metric}. None of {trials} trials reported a finite value of it"
)]
pub struct NoBestTrial {
    /// The metric.
    pub metric: String,
    /// How many trials there were.
    pub trials: usize,
}

/// The value of the objective that a report has, if it is a finite number.
pub fn objective(metrics: &Map<String, Value>, metric: &str) -> Option<f64> {
    metrics
        .get(metric)
        .and_then(number)
        .filter(|value| value.is_finite())
}
