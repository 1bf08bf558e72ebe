//! The life of an experiment: reports, ends, retries, stops.

use serde_json::{Map, Value, json};
use trainshed_tune::experiment::event::{Ending, Event, Status};
use trainshed_tune::experiment::{Next, Refusal, Report};
use trainshed_tune::payload::TrialTable;
use trainshed_tune::{Decision, Experiment};

use crate::{completed, end, experiment, failed, report, run_all, started, x};

fn status(experiment: &Experiment, trial: u64) -> Status {
    experiment.trial(trial).unwrap().status
}

fn reason(experiment: &Experiment, trial: u64) -> Option<&str> {
    experiment.trial(trial).unwrap().reason.as_deref()
}

#[test]
fn a_trial_is_created_started_reported_and_closed() {
    let mut experiment = experiment(x(), json!({}));
    let (next, log) = experiment.next(5);
    let Next::Start(start) = next else {
        panic!("{next:?}");
    };
    assert_eq!((start.trial, start.attempt, start.checkpoint), (0, 1, None));
    assert!(start.id.ends_with("_00000"), "{}", start.id);
    assert!(matches!(
        log[..],
        [Event::TrialCreated { .. }, Event::Started { .. }]
    ));

    let (decision, log) = report(&mut experiment, 0, 1, "loss", 0.5);
    assert_eq!(decision, Decision::Continue);
    assert!(matches!(
        log[..],
        [Event::Reported { .. }, Event::Decided { .. }]
    ));
    assert_eq!(experiment.next(5).0, Next::Wait);

    let log = end(&mut experiment, 0, completed());
    assert!(matches!(
        log[..],
        [Event::Ended { .. }, Event::Closed { .. }]
    ));
    assert_eq!(experiment.next(5).0, Next::Finished);
    assert_eq!(experiment.best().unwrap().number, 0);
    assert_eq!(experiment.progress(), Some(1.0));
}

#[test]
fn a_report_that_comes_twice_gets_its_answer_again_and_changes_nothing() {
    let settings =
        json!({"num_samples": 2, "scheduler": {"name": "asha", "options": {"max_t": 4}}});
    let mut experiment = experiment(x(), settings);
    started(&mut experiment);
    started(&mut experiment);
    report(&mut experiment, 0, 1, "loss", 0.1);
    let (first, log) = report(&mut experiment, 1, 1, "loss", 0.9);
    assert_eq!((first, log.len()), (Decision::Stop, 2));
    let (again, log) = report(&mut experiment, 1, 1, "loss", 0.0);
    assert_eq!((again, log), (Decision::Stop, vec![]));
    assert_eq!(experiment.trial(1).unwrap().last(), Some(0.9));
}

#[test]
fn a_trial_that_was_told_to_stop_is_told_so_until_it_does() {
    let settings =
        json!({"num_samples": 2, "scheduler": {"name": "asha", "options": {"max_t": 64}}});
    let mut experiment = experiment(x(), settings);
    started(&mut experiment);
    started(&mut experiment);
    report(&mut experiment, 0, 1, "loss", 0.1);
    report(&mut experiment, 1, 1, "loss", 0.9);
    assert_eq!(report(&mut experiment, 1, 2, "loss", 0.0).0, Decision::Stop);
    end(&mut experiment, 1, failed());
    assert_eq!(
        status(&experiment, 1),
        Status::Terminated,
        "it failed on its way out"
    );
    assert_eq!(reason(&experiment, 1), Some("stopped by the scheduler"));
}

#[test]
fn late_and_stale_messages_have_defined_answers() {
    let mut experiment = experiment(x(), json!({"max_failures": 1}));
    let first = started(&mut experiment);
    end(&mut experiment, 0, failed());
    assert_eq!(
        experiment.decision(0, 1),
        Ok(Decision::Restart),
        "the attempt is over"
    );
    let second = started(&mut experiment);
    assert_eq!((second.trial, second.attempt), (0, 2));
    let late = Report {
        trial: 0,
        attempt: first.attempt,
        iteration: 1,
        metrics: Map::new(),
        elapsed_ms: 0,
    };
    let stale = Refusal::StaleAttempt {
        trial: 0,
        attempt: 1,
        current: 2,
    };
    assert_eq!(experiment.report(late.clone(), 0), Err(stale.clone()));
    assert_eq!(experiment.end(0, 1, completed(), 0), Err(stale.clone()));
    assert_eq!(experiment.checkpoint(0, 1, 1, "c"), Err(stale));
    let unknown = Report {
        trial: 9,
        ..late.clone()
    };
    assert_eq!(
        experiment.report(unknown, 0),
        Err(Refusal::UnknownTrial { trial: 9 })
    );
    let zeroth = Report {
        attempt: 2,
        iteration: 0,
        ..late
    };
    assert_eq!(
        experiment.report(zeroth, 0),
        Err(Refusal::NoIteration { trial: 0 })
    );

    report(&mut experiment, 0, 1, "loss", 1.0);
    end(&mut experiment, 0, completed());
    assert_eq!(
        report(&mut experiment, 0, 2, "loss", 0.0),
        (Decision::Stop, vec![])
    );
    assert_eq!(end(&mut experiment, 0, failed()), vec![]);
    assert_eq!(status(&experiment, 0), Status::Terminated);
}

#[test]
fn a_failed_trial_goes_on_from_its_checkpoint_as_often_as_is_forgiven() {
    let mut experiment = experiment(x(), json!({"max_failures": 2, "num_samples": 2}));
    let start = started(&mut experiment);
    report(&mut experiment, 0, 1, "loss", 0.5);
    report(&mut experiment, 0, 2, "loss", 0.4);
    experiment.checkpoint(0, 1, 2, "after two").unwrap();
    report(&mut experiment, 0, 3, "loss", 0.3);
    end(&mut experiment, 0, failed());
    assert_eq!(status(&experiment, 0), Status::Pending);

    let again = started(&mut experiment);
    assert_eq!((again.trial, again.attempt), (0, 2));
    assert_eq!(again.config, start.config);
    assert_eq!(again.checkpoint, Some(("after two".into(), 2)));
    report(&mut experiment, 0, 3, "loss", 0.35);
    assert_eq!(
        experiment.trial(0).unwrap().curve,
        [(1, 0.5), (2, 0.4), (3, 0.35)]
    );
    end(&mut experiment, 0, failed());
    started(&mut experiment);
    end(&mut experiment, 0, failed());
    assert_eq!(status(&experiment, 0), Status::Error);
    assert_eq!(reason(&experiment, 0), Some("the kernel trapped"));
    assert_eq!(started(&mut experiment).trial, 1, "the others go on");
}

#[test]
fn endless_retries_have_no_end() {
    let mut experiment = experiment(x(), json!({"max_failures": -1}));
    for attempt in 1..100 {
        assert_eq!(started(&mut experiment).attempt, attempt);
        end(&mut experiment, 0, failed());
    }
    assert_eq!(status(&experiment, 0), Status::Pending);
}

#[test]
fn an_interruption_is_no_failure() {
    let mut experiment = experiment(x(), json!({}));
    for attempt in 1..10 {
        assert_eq!(started(&mut experiment).attempt, attempt);
        end(&mut experiment, 0, Ending::Interrupted);
    }
    assert_eq!(status(&experiment, 0), Status::Pending);
    assert_eq!(experiment.trial(0).unwrap().failures, 0);
}

#[test]
fn fail_fast_ends_everything_with_the_first_failure() {
    let mut experiment = experiment(x(), json!({"fail_fast": true, "num_samples": 5}));
    started(&mut experiment);
    started(&mut experiment);
    end(&mut experiment, 0, failed());
    assert_eq!(
        experiment.stopped(),
        Some("trial 0 failed: the kernel trapped")
    );
    assert_eq!(report(&mut experiment, 1, 1, "loss", 0.5).0, Decision::Stop);
    end(&mut experiment, 1, Ending::Stopped);
    assert_eq!(experiment.next(0).0, Next::Finished);
    assert_eq!(experiment.trials().len(), 2);
}

#[test]
fn a_stop_ends_what_waits_and_tells_what_runs() {
    let settings = json!({"num_samples": 3, "max_concurrent_trials": 2, "max_failures": 5});
    let mut experiment = experiment(x(), settings);
    started(&mut experiment);
    started(&mut experiment);
    end(&mut experiment, 0, failed());
    let log = experiment.stop("the user had enough", 77);
    assert!(matches!(
        log[..],
        [
            Event::StopRequested { .. },
            Event::Stopped { .. },
            Event::Closed { trial: 0, .. }
        ]
    ));
    assert_eq!(experiment.trial(0).unwrap().ended_ms, Some(77));
    assert_eq!(experiment.stop("again", 78), vec![]);
    assert_eq!(experiment.next(80).0, Next::Wait, "trial 1 still runs");
    assert_eq!(experiment.decision(1, 1), Ok(Decision::Stop));
    end(&mut experiment, 1, Ending::Interrupted);
    assert_eq!(reason(&experiment, 1), Some("the user had enough"));
    assert_eq!(experiment.next(81).0, Next::Finished);
}

#[test]
fn values_that_are_not_finite_are_never_best_and_teach_nothing() {
    let mut experiment = experiment(x(), json!({"num_samples": 4, "search_alg": "tpe"}));
    for (trial, value) in [json!("nan"), json!(null), json!("-inf"), json!(3.0)]
        .into_iter()
        .enumerate()
    {
        started(&mut experiment);
        report(&mut experiment, trial as u64, 1, "loss", value);
        end(&mut experiment, trial as u64, completed());
    }
    let best = experiment.best().unwrap();
    assert_eq!((best.number, best.last()), (3, Some(3.0)));
    assert_eq!(status(&experiment, 0), Status::Terminated);
}

#[test]
fn a_trial_that_never_reported_the_metric_failed() {
    let mut experiment = experiment(x(), json!({"num_samples": 3}));
    started(&mut experiment);
    report(&mut experiment, 0, 1, "accuracy", 0.5);
    end(&mut experiment, 0, completed());
    assert_eq!(status(&experiment, 0), Status::Error);
    assert_eq!(
        reason(&experiment, 0),
        Some("never reported `loss`: call report with it, or return it")
    );
    assert!(experiment.best().is_none());

    started(&mut experiment);
    let returned = Ending::Completed {
        returned: json!(0.25),
    };
    end(&mut experiment, 1, returned);
    assert_eq!(status(&experiment, 1), Status::Terminated);
    started(&mut experiment);
    let returned = Ending::Completed {
        returned: json!({"loss": 0.125, "note": "x"}),
    };
    end(&mut experiment, 2, returned);
    assert_eq!(experiment.best().unwrap().number, 2);
}

#[test]
fn the_last_value_counts_unless_the_best_is_asked_for() {
    let run = |scope: &str| {
        let mut experiment = experiment(x(), json!({"num_samples": 2, "scope": scope}));
        started(&mut experiment);
        started(&mut experiment);
        report(&mut experiment, 0, 1, "loss", 0.1);
        report(&mut experiment, 0, 2, "loss", 0.9);
        report(&mut experiment, 1, 1, "loss", 0.5);
        experiment.best().unwrap().number
    };
    assert_eq!((run("last"), run("best")), (1, 0));
}

#[test]
fn no_more_trials_run_than_are_allowed_and_zero_is_no_limit() {
    for (limit, expected) in [(json!(3), 3), (json!(0), 8), (Value::Null, 8)] {
        let settings = json!({"num_samples": 8, "max_concurrent_trials": limit});
        let mut experiment = experiment(x(), settings);
        let mut count = 0;
        while let Next::Start(_) = experiment.next(0).0 {
            count += 1;
        }
        assert_eq!((count, experiment.running()), (expected, expected));
    }
}

#[test]
fn stop_rules_and_budgets_end_trials_and_experiments() {
    let mut by_metric = experiment(x(), json!({"stop": {"training_iteration": 3, "loss": 10}}));
    started(&mut by_metric);
    assert_eq!(
        report(&mut by_metric, 0, 1, "loss", 1.0).0,
        Decision::Continue
    );
    assert_eq!(report(&mut by_metric, 0, 2, "loss", 12.0).0, Decision::Stop);
    end(&mut by_metric, 0, Ending::Stopped);
    assert_eq!(reason(&by_metric, 0), None, "it had all it gets");

    let mut by_time = experiment(x(), json!({"time_budget_s": 10, "num_samples": 5}));
    started(&mut by_time);
    assert_eq!(
        report(&mut by_time, 0, 9, "loss", 1.0).0,
        Decision::Continue
    );
    assert_eq!(report(&mut by_time, 0, 10, "loss", 1.0).0, Decision::Stop);
    assert_eq!(
        by_time.stopped(),
        Some("the time budget of 10 s is used up")
    );

    let mut by_patience = experiment(x(), json!({"patience_trials": 3, "num_samples": -1}));
    let configs = run_all(&mut by_patience, |_| 1.0);
    assert_eq!(
        configs.len(),
        4,
        "the first was the best, and three were no better"
    );
    assert_eq!(
        by_patience.stopped(),
        Some("3 trials brought nothing better")
    );
}

#[test]
fn paused_trials_hold_no_place() {
    let settings = json!({
        "num_samples": 4, "max_concurrent_trials": 1,
        "scheduler": {"name": "hyperband", "options": {"max_t": 4, "reduction_factor": 4}},
    });
    let mut experiment = experiment(x(), settings);
    // The first bracket has two trials, to 4 epochs each; the second four, from 1 epoch.
    for trial in 0..2 {
        assert_eq!(started(&mut experiment).trial, trial);
        report(&mut experiment, trial, 1, "loss", 0.5);
        let (decision, _) = report(&mut experiment, trial, 4, "loss", 0.5);
        assert_eq!(
            decision,
            if trial == 0 {
                Decision::Pause
            } else {
                Decision::Stop
            }
        );
    }
    assert_eq!(status(&experiment, 0), Status::Terminated);
    end(&mut experiment, 1, Ending::Stopped);
    for trial in 2..4 {
        assert_eq!(started(&mut experiment).trial, trial);
        let (decision, log) = report(&mut experiment, trial, 1, "loss", 1.0 / trial as f64);
        if trial == 2 {
            assert_eq!(decision, Decision::Pause);
            assert_eq!(experiment.decision(2, 1), Ok(Decision::Pause));
        } else {
            // Four were expected, but no more come: the better one goes on.
            assert_eq!(decision, Decision::Continue);
            assert!(
                matches!(log[2..], [Event::Closed { trial: 2, .. }]),
                "{log:?}"
            );
        }
    }
}

#[test]
fn an_evicted_trial_goes_on_by_another_attempt_from_its_checkpoint() {
    let settings = json!({
        "num_samples": 4, "max_concurrent_trials": 1,
        "scheduler": {"name": "bohb", "options": {"max_t": 4, "reduction_factor": 4}},
    });
    let mut experiment = experiment(x(), settings);
    for trial in 0..3 {
        started(&mut experiment);
        experiment
            .checkpoint(trial, 1, 1, &format!("of {trial}"))
            .unwrap();
        assert_eq!(
            report(&mut experiment, trial, 1, "loss", trial as f64).0,
            Decision::Pause
        );
        end(&mut experiment, trial, Ending::Interrupted);
        assert_eq!(status(&experiment, trial), Status::Paused);
        assert_eq!(
            end(&mut experiment, trial, Ending::Interrupted),
            vec![],
            "it is gone already"
        );
    }
    started(&mut experiment);
    assert_eq!(report(&mut experiment, 3, 1, "loss", 9.0).0, Decision::Stop);
    end(&mut experiment, 3, Ending::Stopped);
    let again = started(&mut experiment);
    assert_eq!((again.trial, again.attempt), (0, 2));
    assert_eq!(again.checkpoint, Some(("of 0".into(), 1)));
    assert_eq!(report(&mut experiment, 0, 4, "loss", 0.0).0, Decision::Stop);
    end(&mut experiment, 0, Ending::Stopped);
    assert_eq!(experiment.next(0).0, Next::Finished);
}

#[test]
fn a_bad_member_of_a_population_goes_on_from_a_good_ones_checkpoint() {
    let options = json!({"time_attr": "training_iteration", "perturbation_interval": 2});
    let settings = json!({"num_samples": 4, "scheduler": {"name": "pbt", "options": options}});
    let mut experiment = experiment(x(), settings);
    for trial in 0..4 {
        started(&mut experiment);
        experiment
            .checkpoint(trial, 1, 1, &format!("of {trial}"))
            .unwrap();
    }
    for trial in [3, 2, 1, 0] {
        let (decision, _) = report(&mut experiment, trial, 2, "loss", 1.0 + trial as f64);
        assert_eq!(
            decision,
            Decision::Continue,
            "the one that reports is the best so far"
        );
    }
    let before = experiment.trial(3).unwrap().config().into_owned();
    let (decision, log) = report(&mut experiment, 3, 4, "loss", 9.0);
    assert_eq!(decision, Decision::Restart);
    assert!(
        matches!(
            &log[2..],
            [Event::Exploited {
                trial: 3,
                from: 0,
                ..
            }]
        ),
        "{log:?}"
    );
    assert_eq!(status(&experiment, 3), Status::Pending);
    assert_eq!(experiment.decision(3, 1), Ok(Decision::Restart));
    // What the old attempt still saves is not what the new one goes on from.
    assert_eq!(experiment.checkpoint(3, 1, 4, "too late"), Ok(vec![]));
    assert_eq!(end(&mut experiment, 3, Ending::Stopped), vec![]);

    let again = started(&mut experiment);
    assert_eq!((again.trial, again.attempt), (3, 2));
    assert_eq!(again.checkpoint, Some(("of 0".into(), 1)));
    assert_ne!(again.config, before);
    let value = again.config["x"].as_f64().unwrap();
    assert!((0.0..1.0).contains(&value), "{value} is inside its range");
}

#[test]
fn a_population_may_leave_its_ranges_if_that_is_wanted() {
    let space = json!([
        {"name": "x", "type": "uniform", "min": 1.0, "max": 1.5},
        {"name": "steps", "type": "quniform", "min": 1.0, "max": 1.5, "q": 0.25},
        {"name": "size", "type": "randint", "min": 8, "max": 10},
    ]);
    let options = json!({
        "time_attr": "training_iteration", "perturbation_interval": 1,
        "resample_probability": 0, "perturbation_factors": [2, 2], "keep_in_range": false,
    });
    let settings = json!({"num_samples": 4, "scheduler": {"name": "pbt", "options": options}});
    let mut experiment = experiment(space, settings);
    for trial in 0..4 {
        started(&mut experiment);
        experiment.checkpoint(trial, 1, 1, "saved").unwrap();
    }
    for trial in [3, 2, 1, 0] {
        report(&mut experiment, trial, 1, "loss", 1.0 + trial as f64);
    }
    assert_eq!(
        report(&mut experiment, 3, 2, "loss", 9.0).0,
        Decision::Restart
    );
    end(&mut experiment, 3, Ending::Stopped);
    let original = experiment.trial(0).unwrap().config().into_owned();
    let again = started(&mut experiment).config;
    for name in ["x", "steps", "size"] {
        let twice = 2.0 * original[name].as_f64().unwrap();
        assert_eq!(again[name].as_f64(), Some(twice), "{name}");
    }
    assert!(again["size"].is_i64(), "{}", again["size"]);
}

/// Two that copied each other would never end.
#[test]
fn a_copy_is_as_good_as_its_original_and_copied_by_nobody_before_it_has_trained() {
    let options = json!({
        "time_attr": "training_iteration", "perturbation_interval": 1, "quantile_fraction": 0.5,
    });
    let settings = json!({"num_samples": 4, "scheduler": {"name": "pbt", "options": options}});
    let mut experiment = experiment(x(), settings);
    for trial in 0..4 {
        started(&mut experiment);
        let saved = format!("of {trial}");
        experiment.checkpoint(trial, 1, 1, &saved).unwrap();
    }
    for trial in [3, 2, 1, 0] {
        report(&mut experiment, trial, 1, "loss", 1.0 + trial as f64);
    }
    assert_eq!(
        report(&mut experiment, 3, 2, "loss", 9.0).0,
        Decision::Restart
    );
    let (decision, log) = report(&mut experiment, 2, 2, "loss", 3.0);
    assert_eq!(decision, Decision::Restart, "it is the worst but one");
    let copied = log.iter().find_map(|event| match event {
        Event::Exploited { from, .. } => Some(*from),
        _ => None,
    });
    assert!(matches!(copied, Some(0 | 1)), "{copied:?} is no copy");
    let (decision, _) = report(&mut experiment, 0, 2, "loss", 1.0);
    assert_ne!(decision, Decision::Restart, "its copies are no better");
}

#[test]
fn ids_are_those_of_the_experiment_and_stay_the_same() {
    let ids = || {
        let mut experiment = experiment(x(), json!({"num_samples": 3}));
        [(); 3].map(|()| started(&mut experiment).id)
    };
    assert_eq!(ids(), ids());
    let [first, second, _] = ids();
    assert_eq!(first[..6], second[..6]);
    assert!(first.ends_with("_00000") && second.ends_with("_00001"));
    assert_eq!(first.len(), 11);
}

#[test]
fn a_stopped_experiment_goes_on_as_if_it_had_been_interrupted() {
    let settings = json!({"num_samples": 5, "max_concurrent_trials": 2, "search_alg": "tpe"});
    let never_stopped = run_all(&mut experiment(x(), settings.clone()), |_| 0.5);

    let mut experiment = experiment(x(), settings);
    started(&mut experiment);
    report(&mut experiment, 0, 1, "loss", 0.5);
    end(&mut experiment, 0, completed());
    started(&mut experiment);
    started(&mut experiment);
    experiment.checkpoint(1, 1, 3, "1@3").unwrap();
    assert_eq!(
        experiment.go_on(false, 5),
        vec![],
        "it has not been stopped"
    );
    experiment.stop("enough", 6);
    assert_eq!(experiment.go_on(false, 7), vec![], "its trials still run");
    end(&mut experiment, 1, Ending::Stopped);
    end(&mut experiment, 2, failed());
    assert!(experiment.is_finished());

    let log = experiment.go_on(false, 8);
    assert!(matches!(
        log[..],
        [Event::Continued {
            failed: false,
            at_ms: 8
        }]
    ));
    assert_eq!(experiment.stopped(), None);
    let again = started(&mut experiment);
    assert_eq!(
        (again.trial, again.attempt, again.checkpoint),
        (1, 2, Some(("1@3".to_owned(), 3)))
    );
    assert_eq!(
        experiment.trial(2).unwrap().failures,
        0,
        "it was told to stop"
    );
    report(&mut experiment, 1, 4, "loss", 0.5);
    end(&mut experiment, 1, completed());
    run_all(&mut experiment, |_| 0.5);
    let configs: Vec<_> = experiment
        .trials()
        .iter()
        .map(|trial| trial.config().into_owned())
        .collect();
    assert_eq!(configs, never_stopped);
}

#[test]
fn an_experiment_that_is_over_goes_on_only_with_what_failed() {
    let mut experiment = experiment(x(), json!({"num_samples": 2}));
    started(&mut experiment);
    started(&mut experiment);
    end(&mut experiment, 0, failed());
    report(&mut experiment, 1, 1, "loss", 0.5);
    end(&mut experiment, 1, completed());
    assert_eq!(experiment.go_on(false, 5), vec![]);
    assert_eq!(experiment.go_on(true, 5).len(), 1);
    assert_eq!(started(&mut experiment).attempt, 2);
    report(&mut experiment, 0, 1, "loss", 0.25);
    end(&mut experiment, 0, completed());
    assert_eq!(experiment.next(0).0, Next::Finished);
    assert_eq!(experiment.best().unwrap().number, 0);
    assert_eq!(experiment.go_on(true, 5), vec![]);
}

#[test]
fn the_best_trial_is_whichever_somebody_says() {
    let mut experiment = experiment(x(), json!({"num_samples": 2}));
    run_all(&mut experiment, |config| config["x"].as_f64().unwrap());
    let best = experiment.best().unwrap().number;
    let before = TrialTable::of(&experiment);
    assert_eq!(experiment.choose_best(Some(1 - best)).unwrap().len(), 1);
    assert_eq!(experiment.choose_best(Some(1 - best)).unwrap(), vec![]);
    let other = experiment.trial(1 - best).unwrap().id.clone();
    let expected = TrialTable {
        best_trial: other,
        ..before.clone()
    };
    assert_eq!(
        TrialTable::of(&experiment),
        expected,
        "nothing else differs"
    );
    assert_eq!(
        experiment.choose_best(Some(2)),
        Err(Refusal::UnknownTrial { trial: 2 })
    );
    experiment.choose_best(None).unwrap();
    assert_eq!(TrialTable::of(&experiment), before);
}
