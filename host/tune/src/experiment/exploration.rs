//! Every order in which a small experiment can go, one after the other.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::{Map, Value, json};

use super::event::{Ending, Status};
use super::{Experiment, Next, Report};

/// What can happen from outside.
#[derive(Debug, Clone, Copy)]
enum Move {
    Next,
    Report { trial: u64, loss: f64 },
    Return(u64),
    Fail(u64),
    Interrupt(u64),
}

/// How far an exploration goes.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    /// A trial returns when it has reported so often.
    epochs: u64,
    /// A trial is started at most so often.
    attempts: u64,
    /// Whether trials return before their last epoch.
    early: bool,
}

fn moves(experiment: &Experiment, bounds: Bounds) -> Vec<Move> {
    let mut moves = vec![Move::Next];
    for trial in experiment.trials() {
        let number = trial.number;
        if trial.status == Status::Running {
            if trial.iteration < bounds.epochs && trial.attempt <= bounds.attempts {
                // Which trials are good is drawn by lot, so the orders of reports are what varies.
                let loss = f64::from(u8::try_from((number * 5 + trial.iteration) % 7).unwrap());
                moves.push(Move::Report {
                    trial: number,
                    loss,
                });
            }
            if trial.iteration > 0 && (bounds.early || trial.iteration >= bounds.epochs) {
                moves.push(Move::Return(number));
            }
        }
        let lives = matches!(trial.status, Status::Running | Status::Paused);
        if lives && !trial.evicted && trial.attempt < bounds.attempts {
            moves.push(Move::Interrupt(number));
            moves.push(Move::Fail(number));
        }
    }
    moves
}

/// Makes a move; whether it changed anything.
fn make(experiment: &mut Experiment, chosen: Move) -> bool {
    let attempt = |trial: u64| experiment.trial(trial).unwrap().attempt;
    let log = match chosen {
        Move::Next => experiment.next(0).1,
        Move::Report { trial, loss } => {
            let iteration = experiment.trial(trial).unwrap().iteration + 1;
            let report = Report {
                trial,
                attempt: attempt(trial),
                iteration,
                metrics: Map::from_iter([("loss".to_owned(), Value::from(loss))]),
                elapsed_ms: iteration,
            };
            let saved = format!("{trial} at {iteration}");
            experiment
                .checkpoint(trial, attempt(trial), iteration, &saved)
                .unwrap();
            experiment.report(report, 0).unwrap().1
        }
        Move::Return(trial) => {
            let how = Ending::Completed {
                returned: Value::Null,
            };
            experiment.end(trial, attempt(trial), how, 0).unwrap()
        }
        Move::Fail(trial) => {
            let reason = "lost".to_owned();
            let how = Ending::Failed { reason };
            experiment.end(trial, attempt(trial), how, 0).unwrap()
        }
        Move::Interrupt(trial) => {
            let attempt = attempt(trial);
            experiment
                .end(trial, attempt, Ending::Interrupted, 0)
                .unwrap()
        }
    };
    !log.is_empty()
}

/// All of the state that decides about the future.
fn key(experiment: &Experiment) -> u64 {
    let mut hasher = DefaultHasher::new();
    let state = (
        &experiment.trials,
        &experiment.queue,
        experiment.running,
        &experiment.stopped,
        &experiment.settings.scheduler,
    );
    format!("{state:?}").hash(&mut hasher);
    hasher.finish()
}

/// In no state that can be reached does a trial wait in vain, and every way ends.
#[track_caller]
fn check(settings: Value, bounds: Bounds, at_least: usize) {
    let parameters = [json!({"name": "x", "type": "uniform", "min": 0, "max": 1})];
    let Value::Object(settings) = settings else {
        panic!("settings are a dict");
    };
    let (first, _) = Experiment::create("e", 1, &parameters, &settings).unwrap();
    let limit = first.settings.max_concurrent_trials.unwrap_or(usize::MAX);
    let mut known = HashSet::from([key(&first)]);
    let mut open = vec![first];
    let mut ends = 0;
    while let Some(state) = open.pop() {
        let mut asked = state.clone();
        let next = asked.next(0).0;
        let runs = |status: Status| state.trials.iter().filter(|t| t.status == status).count();
        assert_eq!(runs(Status::Running), state.running, "{state:#?}");
        assert_eq!(runs(Status::Paused), state.paused.len(), "{state:#?}");
        assert!(state.running <= limit, "{state:#?}");
        if next == Next::Wait {
            let waiting = runs(Status::Pending);
            let resumable = state
                .trials
                .iter()
                .any(|t| t.status == Status::Paused && t.unpaused);
            let full = state.running >= limit;
            assert!(state.running > 0, "everything waits: {state:#?}");
            assert!(
                full || (waiting == 0 && !resumable),
                "a place is left empty: {state:#?}"
            );
        }
        if next == Next::Finished {
            assert!(state.is_finished(), "{state:#?}");
            ends += 1;
        }
        assert!(known.len() < 100_000, "more than can be explored");
        for chosen in moves(&state, bounds) {
            let mut after = state.clone();
            if make(&mut after, chosen) && known.insert(key(&after)) {
                open.push(after);
            }
        }
    }
    assert!(
        ends > 0 && known.len() >= at_least,
        "{} states, {ends} ends",
        known.len()
    );
}

const SHORT: Bounds = Bounds {
    epochs: 4,
    attempts: 1,
    early: false,
};

#[test]
fn hyperband_never_waits_in_vain() {
    for limit in [1, 2, 3] {
        let settings = json!({
            "mode": "min", "metric": "loss", "num_samples": 4, "max_concurrent_trials": limit,
            "scheduler": {"name": "hyperband", "options": {"max_t": 4, "reduction_factor": 2}},
        });
        check(settings, SHORT, 20);
    }
}

#[test]
fn bohb_never_waits_in_vain_whatever_fails() {
    let settings = json!({
        "mode": "min", "metric": "loss", "num_samples": 3, "max_concurrent_trials": 2,
        "max_failures": 1,
        "scheduler": {"name": "bohb", "options": {"max_t": 4, "reduction_factor": 2}},
    });
    let bounds = Bounds {
        epochs: 4,
        attempts: 2,
        early: true,
    };
    check(settings, bounds, 1000);
}

#[test]
fn hyperband_survives_early_returns_and_lost_trials() {
    for limit in [1, 2] {
        let settings = json!({
            "mode": "min", "metric": "loss", "num_samples": 3, "max_concurrent_trials": limit,
            "scheduler": {"name": "hyperband", "options": {"max_t": 4, "reduction_factor": 2}},
        });
        let bounds = Bounds {
            epochs: 4,
            attempts: 2,
            early: true,
        };
        check(settings, bounds, 500);
    }
}

#[test]
fn successive_halving_and_fifo_leave_no_place_empty() {
    for scheduler in ["fifo", "asha", "plateau"] {
        let settings = json!({
            "mode": "min", "metric": "loss", "num_samples": 3, "max_concurrent_trials": 2,
            "max_failures": 1, "scheduler": scheduler,
        });
        let bounds = Bounds {
            epochs: 2,
            attempts: 2,
            early: true,
        };
        check(settings, bounds, 500);
    }
}

#[test]
fn rules_for_single_trials_leave_no_place_empty() {
    let iterations = |more: Value| {
        let mut options = json!({"time_attr": "training_iteration", "grace_period": 1});
        for (name, value) in more.as_object().unwrap() {
            options[name] = value.clone();
        }
        options
    };
    for (name, options) in [
        ("median", iterations(json!({"min_samples_required": 1}))),
        ("patience", iterations(json!({"patience": 1}))),
        (
            "plateau",
            json!({"num_results": 2, "grace_period": 1, "std": 2}),
        ),
        (
            "asha",
            iterations(json!({"max_t": 4, "reduction_factor": 2, "brackets": 2})),
        ),
    ] {
        for limit in [1, 2] {
            let settings = json!({
                "mode": "min", "metric": "loss", "num_samples": 3, "max_concurrent_trials": limit,
                "max_failures": 1, "scheduler": {"name": name, "options": options},
            });
            let bounds = Bounds {
                epochs: 3,
                attempts: 2,
                early: true,
            };
            check(settings, bounds, 200);
        }
    }
}

#[test]
fn a_population_takes_turns_and_ends() {
    // The bandit has a model from the fourth interval on.
    for (name, samples, epochs) in [("pbt", 3, 3), ("pb2", 2, 4)] {
        for limit in [1, 2] {
            let options = json!({"time_attr": "training_iteration", "perturbation_interval": 1});
            let settings = json!({
                "mode": "min", "metric": "loss", "num_samples": samples,
                "max_concurrent_trials": limit, "scheduler": {"name": name, "options": options},
            });
            let bounds = Bounds {
                epochs,
                attempts: 2,
                early: false,
            };
            check(settings, bounds, 50);
        }
    }
}

#[test]
fn the_first_failure_ends_everything_in_order() {
    let settings = json!({
        "mode": "min", "metric": "loss", "num_samples": 3, "max_concurrent_trials": 2,
        "fail_fast": true,
        "scheduler": {"name": "hyperband", "options": {"max_t": 4, "reduction_factor": 2}},
    });
    let bounds = Bounds {
        epochs: 4,
        attempts: 2,
        early: false,
    };
    check(settings, bounds, 200);
}
