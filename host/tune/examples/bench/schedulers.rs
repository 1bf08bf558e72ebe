//! Schedulers on a table of really trained networks, and population based training on a toy.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::Path;

use serde_json::{Map, Value, json};
use trainshed_tune::Config;
use trainshed_tune::Decision;
use trainshed_tune::experiment::event::Ending;
use trainshed_tune::experiment::{Experiment, Next, Report};

/// The table: correct validation samples by configuration and epoch.
pub(crate) struct Table {
    axes: Vec<Axis>,
    params: Vec<Value>,
    correct: Vec<Vec<f64>>,
    samples: f64,
}

struct Axis {
    name: String,
    kind: String,
    values: Vec<Value>,
}

/// What one simulated experiment cost and found.
struct Outcome {
    epochs: f64,
    regret: f64,
    at: [f64; 4],
    makespan: f64,
    full: f64,
}

impl Table {
    /// Reads `tabular_digits_mlp.json`.
    pub(crate) fn read(path: &Path) -> Option<Self> {
        let file: Value = serde_json::from_str(&std::fs::read_to_string(path).ok()?).ok()?;
        let axes = file["axes"].as_array()?.iter().map(|axis| {
            Some(Axis {
                name: axis["name"].as_str()?.to_owned(),
                kind: axis["kind"].as_str()?.to_owned(),
                values: axis["values"].as_array()?.clone(),
            })
        });
        let row = |row: &Value| {
            row.as_array()?
                .iter()
                .map(Value::as_f64)
                .collect::<Option<Vec<f64>>>()
        };
        Some(Self {
            axes: axes.collect::<Option<Vec<Axis>>>()?,
            params: file["params"].as_array()?.clone(),
            correct: file["correct"]
                .as_array()?
                .iter()
                .map(row)
                .collect::<Option<Vec<_>>>()?,
            samples: file["n_val"].as_f64()?,
        })
    }

    /// The space, as a list of hyperparameters.
    pub(crate) fn params(&self) -> &[Value] {
        &self.params
    }

    /// The accuracies of a configuration after each epoch, at the nearest trained one.
    pub(crate) fn curve(&self, config: &Config) -> Vec<f64> {
        let mut index = 0;
        for axis in &self.axes {
            let value = &config[&axis.name];
            let distance = |known: &Value| match (known.as_f64(), value.as_f64()) {
                (Some(known), Some(value)) if axis.kind == "log" => (known / value).ln().abs(),
                (Some(known), Some(value)) => (known - value).abs(),
                _ => f64::from(u8::from(known != value)),
            };
            let nearest = (0..axis.values.len())
                .min_by(|a, b| distance(&axis.values[*a]).total_cmp(&distance(&axis.values[*b])))
                .unwrap_or(0);
            index = index * axis.values.len() + nearest;
        }
        self.correct[index]
            .iter()
            .map(|correct| correct / self.samples)
            .collect()
    }

    fn best(&self) -> f64 {
        self.correct.iter().flatten().copied().fold(0.0, f64::max) / self.samples
    }
}

/// Prints what each scheduler computes and finds.
pub(crate) fn table(table: &Table, configurations: &[Value], samples: usize, seeds: u64) {
    let rf3 = json!({"max_t": 27, "grace_period": 1, "reduction_factor": 3});
    let cases: Vec<(&str, Value, Value, usize)> = vec![
        ("fifo", json!("fifo"), Value::Null, 4),
        (
            "asha rf 3",
            json!({"name": "asha", "options": rf3}),
            Value::Null,
            4,
        ),
        (
            "asha rf 3, tpe",
            json!({"name": "asha", "options": rf3}),
            json!("tpe"),
            4,
        ),
        (
            "asha default",
            json!({"name": "asha", "options": {"max_t": 27}}),
            Value::Null,
            4,
        ),
        (
            "asha rf 3, 3 brackets",
            json!({"name": "asha", "options": {"max_t": 27, "reduction_factor": 3, "brackets": 3}}),
            Value::Null,
            4,
        ),
        (
            "hyperband, 4 at once",
            json!({"name": "hyperband", "options": {"max_t": 27}}),
            Value::Null,
            4,
        ),
        (
            "hyperband, 8 at once",
            json!({"name": "hyperband", "options": {"max_t": 27}}),
            Value::Null,
            8,
        ),
        (
            "bohb, 4 at once",
            json!({"name": "bohb", "options": {"max_t": 27}}),
            json!("bohb"),
            4,
        ),
        (
            "bohb, 1 at once",
            json!({"name": "bohb", "options": {"max_t": 27}}),
            json!("bohb"),
            1,
        ),
        (
            "hyperband and gp, 4",
            json!({"name": "hyperband", "options": {"max_t": 27}}),
            json!("gp"),
            4,
        ),
        (
            "hyperband and tpe, 1",
            json!({"name": "hyperband", "options": {"max_t": 27}}),
            json!("tpe"),
            1,
        ),
        (
            "median, grace 3",
            json!({"name": "median", "options": {"time_attr": "training_iteration", "grace_period": 3}}),
            Value::Null,
            4,
        ),
        (
            "median, tpe",
            json!({"name": "median", "options": {"time_attr": "training_iteration", "grace_period": 3}}),
            json!("tpe"),
            1,
        ),
        (
            "patience 4",
            json!({"name": "patience", "options": {"patience": 4}}),
            Value::Null,
            4,
        ),
    ];
    println!(
        "{:24} {:>7} {:>8}   regret at 100/200/400/800 epochs   {:>8} {:>5}",
        "scheduler", "epochs", "regret", "makespan", "full"
    );
    for (name, scheduler, search, workers) in cases {
        let outcomes: Vec<Outcome> = (0..seeds)
            .map(|seed| {
                simulate(
                    table,
                    &scheduler,
                    &search,
                    configurations,
                    samples,
                    workers,
                    seed,
                )
            })
            .collect();
        let median = |of: &dyn Fn(&Outcome) -> f64| {
            super::median(&outcomes.iter().map(of).collect::<Vec<f64>>())
        };
        println!(
            "{name:24} {:7.0} {:8.4}   {:.4} {:.4} {:.4} {:.4}           {:8.0} {:5.0}",
            median(&|o| o.epochs),
            median(&|o| o.regret),
            median(&|o| o.at[0]),
            median(&|o| o.at[1]),
            median(&|o| o.at[2]),
            median(&|o| o.at[3]),
            median(&|o| o.makespan),
            median(&|o| o.full),
        );
    }
}

/// Runs an experiment on a clock that ticks in epochs.
fn simulate(
    table: &Table,
    scheduler: &Value,
    search: &Value,
    configurations: &[Value],
    samples: usize,
    workers: usize,
    seed: u64,
) -> Outcome {
    let settings = json!({
        "mode": "max", "metric": "acc", "num_samples": samples,
        "max_concurrent_trials": workers, "scheduler": scheduler, "search_alg": search,
    });
    let Value::Object(mut settings) = settings else {
        unreachable!()
    };
    if search.is_null()
        && let Some(points) = usize::try_from(seed)
            .ok()
            .and_then(|seed| configurations.get(seed))
    {
        settings.insert("points_to_evaluate".into(), points.clone());
    }
    let (mut experiment, _) = Experiment::create("table", seed, table.params(), &settings).unwrap();
    let mut clock = 0u64;
    let mut heap: BinaryHeap<Reverse<(u64, u64, u64)>> = BinaryHeap::new();
    let mut sequence = 0;
    let mut best_seen = Vec::new();
    let mut best = 0.0f64;
    let mut full = 0.0;
    let mut last = 0;
    loop {
        loop {
            let trial = match experiment.next(clock).0 {
                Next::Start(start) => start.trial,
                Next::Resume { trial, .. } => trial,
                Next::Wait | Next::Finished => break,
            };
            sequence += 1;
            heap.push(Reverse((clock + 1, sequence, trial)));
        }
        let Some(Reverse((now, _, trial))) = heap.pop() else {
            break;
        };
        clock = now;
        last = now;
        let state = experiment.trial(trial).unwrap();
        let (attempt, iteration) = (state.attempt, state.iteration + 1);
        let accuracy = table.curve(&state.config)[usize::try_from(iteration).unwrap() - 1];
        best = best.max(accuracy);
        best_seen.push(best);
        let metrics = Map::from_iter([("acc".to_owned(), accuracy.into())]);
        let report = Report {
            trial,
            attempt,
            iteration,
            metrics,
            elapsed_ms: iteration * 1000,
        };
        let (decision, _) = experiment.report(report, clock).unwrap();
        if iteration == 27 {
            full += 1.0;
        }
        match decision {
            Decision::Continue if iteration < 27 => {
                sequence += 1;
                heap.push(Reverse((clock + 1, sequence, trial)));
            }
            Decision::Continue => {
                experiment
                    .end(
                        trial,
                        attempt,
                        Ending::Completed {
                            returned: Value::Null,
                        },
                        clock,
                    )
                    .unwrap();
            }
            Decision::Stop => {
                experiment
                    .end(trial, attempt, Ending::Stopped, clock)
                    .unwrap();
            }
            Decision::Pause | Decision::Restart => {}
        }
    }
    assert!(experiment.is_finished(), "an experiment came to a halt");
    let top = table.best();
    let at = |epochs: usize| top - best_seen[epochs.min(best_seen.len()) - 1];
    Outcome {
        epochs: best_seen.len() as f64,
        regret: top - best,
        at: [at(100), at(200), at(400), at(800)],
        makespan: last as f64,
        full,
    }
}

/// The toy of the paper on population based training: 1.2 - x^2 - y^2, climbed on a surrogate.
pub(crate) fn population(seeds: u64) {
    println!(
        "population based training, 200 steps, interval 10 (median of {seeds} seeds; 1.2 is the maximum)"
    );
    for scheduler in ["fifo", "pbt", "pb2"] {
        for size in [4, 8, 16] {
            let found: Vec<f64> = (0..seeds)
                .map(|seed| climb(scheduler, size, seed))
                .collect();
            println!(
                "  {scheduler:5} population {size:2}: {:.4}",
                super::median(&found)
            );
        }
    }
}

fn climb(scheduler: &str, size: usize, seed: u64) -> f64 {
    let space = [
        json!({"name": "h0", "type": "uniform", "min": 0.0, "max": 1.0}),
        json!({"name": "h1", "type": "uniform", "min": 0.0, "max": 1.0}),
    ];
    let options = match scheduler {
        "fifo" => json!({}),
        _ => json!({"time_attr": "training_iteration", "perturbation_interval": 10}),
    };
    let settings = json!({
        "mode": "max", "metric": "q", "num_samples": size,
        "scheduler": {"name": scheduler, "options": options},
    });
    let Value::Object(settings) = settings else {
        unreachable!()
    };
    let (mut experiment, _) = Experiment::create("toy", seed, &space, &settings).unwrap();
    // Checkpoints are the two numbers as text.
    let mut at: Vec<Option<(u64, [f64; 2])>> = vec![None; size];
    let value = |theta: [f64; 2]| 1.2 - theta[0] * theta[0] - theta[1] * theta[1];
    let mut best = f64::NEG_INFINITY;
    loop {
        loop {
            match experiment.next(0).0 {
                Next::Start(start) => {
                    let theta = start.checkpoint.map_or([0.9, 0.9], |(text, _)| {
                        let (x, y) = text.split_once(' ').unwrap();
                        [x.parse().unwrap(), y.parse().unwrap()]
                    });
                    at[usize::try_from(start.trial).unwrap()] = Some((start.attempt, theta));
                }
                Next::Resume { .. } => {}
                Next::Wait | Next::Finished => break,
            }
        }
        if experiment.is_finished() {
            break;
        }
        for trial in 0..size as u64 {
            let Some((attempt, mut theta)) = at[usize::try_from(trial).unwrap()] else {
                continue;
            };
            let state = experiment.trial(trial).unwrap();
            let iteration = state.iteration + 1;
            for (theta, name) in theta.iter_mut().zip(["h0", "h1"]) {
                *theta *= 1.0 - 0.02 * state.config[name].as_f64().unwrap();
            }
            let text = format!("{} {}", theta[0], theta[1]);
            experiment
                .checkpoint(trial, attempt, iteration, &text)
                .unwrap();
            let metrics = Map::from_iter([("q".to_owned(), value(theta).into())]);
            let report = Report {
                trial,
                attempt,
                iteration,
                metrics,
                elapsed_ms: iteration,
            };
            let (decision, _) = experiment.report(report, 0).unwrap();
            at[usize::try_from(trial).unwrap()] = Some((attempt, theta));
            if decision == Decision::Restart {
                at[usize::try_from(trial).unwrap()] = None;
            } else if iteration >= 200 {
                best = best.max(value(theta));
                experiment
                    .end(
                        trial,
                        attempt,
                        Ending::Completed {
                            returned: Value::Null,
                        },
                        0,
                    )
                    .unwrap();
                at[usize::try_from(trial).unwrap()] = None;
            }
        }
    }
    best
}
