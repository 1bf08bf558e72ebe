//! An experiment that is broken off anywhere goes on from its log as if nothing had happened.

use proptest::prelude::{ProptestConfig, Strategy, any, prop, proptest};
use proptest::sample::select;
use serde_json::{Map, Value, json};
use trainshed_tune::Experiment;
use trainshed_tune::experiment::event::{Ending, Event, Status};
use trainshed_tune::experiment::{Next, Refusal, ReplayError, Report};
use trainshed_tune::payload::TrialTable;

use crate::{dict, experiment, x};

/// What somebody does; trials are picked among those there are.
#[derive(Debug, Clone)]
enum Deed {
    Next,
    Report { pick: u8, value: u8 },
    Again(u8),
    Checkpoint(u8),
    End { pick: u8, how: u8 },
    Stale(u8),
    Choose(u8),
    Stop,
    StopAndGoOn,
    GoOn,
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let one = (0..100_u8, any::<u8>(), any::<u8>()).prop_map(|(kind, pick, value)| match kind {
        0..30 => Deed::Next,
        30..70 => Deed::Report { pick, value },
        70..74 => Deed::Again(pick),
        74..82 => Deed::Checkpoint(pick),
        82..95 => Deed::End { pick, how: value },
        95 => Deed::Stale(pick),
        96 => Deed::Choose(pick),
        97 => Deed::StopAndGoOn,
        98 => Deed::GoOn,
        _ => Deed::Stop,
    });
    prop::collection::vec(one, 1..120)
}

fn picked(experiment: &Experiment, pick: u8, wanted: &[Status]) -> Option<(u64, u64, u64)> {
    let all: Vec<_> = experiment
        .trials()
        .iter()
        .filter(|trial| wanted.contains(&trial.status))
        .collect();
    let trial = all.get(usize::from(pick) % all.len().max(1))?;
    Some((trial.number, trial.attempt, trial.iteration))
}

/// Does it; returns what is to be recorded.
fn perform(experiment: &mut Experiment, deed: &Deed, now: u64) -> Vec<Event> {
    const LIVE: [Status; 2] = [Status::Running, Status::Paused];
    let value = |value: u8| match value {
        0..4 => json!("nan"),
        4..6 => Value::Null,
        _ => json!(f64::from(value) / 8.0),
    };
    let result = match *deed {
        Deed::Next => return experiment.next(now).1,
        Deed::Stop => return experiment.stop("enough", now),
        Deed::GoOn => return experiment.go_on(true, now),
        Deed::StopAndGoOn => {
            let mut log = experiment.stop("for a while", now);
            while let Some((trial, attempt, iteration)) = picked(experiment, 0, &LIVE) {
                let report = Report {
                    trial,
                    attempt,
                    iteration: iteration + 1,
                    metrics: Map::from_iter([("loss".to_owned(), json!(0.5))]),
                    elapsed_ms: iteration * 1000,
                };
                log.extend(experiment.report(report, now).unwrap().1);
                log.extend(
                    experiment
                        .end(trial, attempt, Ending::Stopped, now)
                        .unwrap(),
                );
            }
            log.extend(experiment.go_on(false, now));
            return log;
        }
        Deed::Choose(pick) => {
            let trial = picked(experiment, pick, &[Status::Terminated]).map(|trial| trial.0);
            return experiment.choose_best(trial).unwrap();
        }
        Deed::Report { pick, value: given } => {
            let Some((trial, attempt, iteration)) = picked(experiment, pick, &[Status::Running])
            else {
                return Vec::new();
            };
            let metric = if given == 255 { "other" } else { "loss" };
            let report = Report {
                trial,
                attempt,
                iteration: iteration + 1 + u64::from(given % 16 == 7),
                metrics: Map::from_iter([(metric.to_owned(), value(given))]),
                elapsed_ms: iteration * 1000,
            };
            experiment.report(report, now).map(|(_, log)| log)
        }
        Deed::Again(pick) => {
            let Some((trial, attempt, iteration)) = picked(experiment, pick, &LIVE) else {
                return Vec::new();
            };
            let report = Report {
                trial,
                attempt,
                iteration: iteration.max(1),
                metrics: Map::new(),
                elapsed_ms: 0,
            };
            let known = iteration > 0;
            let answer = experiment.report(report, now).map(|(_, log)| log);
            assert!(!known || answer == Ok(vec![]), "it was known: {answer:?}");
            answer
        }
        Deed::Checkpoint(pick) => {
            let Some((trial, attempt, iteration)) = picked(experiment, pick, &LIVE) else {
                return Vec::new();
            };
            experiment.checkpoint(trial, attempt, iteration, &format!("{trial}@{iteration}"))
        }
        Deed::End { pick, how } => {
            let Some((trial, attempt, _)) = picked(experiment, pick, &LIVE) else {
                return Vec::new();
            };
            let how = match how % 5 {
                0 | 1 => Ending::Completed {
                    returned: value(how),
                },
                2 => Ending::Failed {
                    reason: "no luck".into(),
                },
                3 => Ending::Interrupted,
                _ => Ending::Stopped,
            };
            experiment.end(trial, attempt, how, now)
        }
        Deed::Stale(pick) => {
            let Some((trial, attempt, _)) = picked(experiment, pick, &LIVE) else {
                return Vec::new();
            };
            let refused = experiment.end(trial, attempt + 1, Ending::Stopped, now);
            assert!(
                matches!(refused, Err(Refusal::StaleAttempt { .. })),
                "{refused:?}"
            );
            return Vec::new();
        }
    };
    result.unwrap()
}

/// Everything that can be seen of an experiment.
fn seen(experiment: &Experiment) -> String {
    let trials = experiment.trials();
    let decisions: Vec<_> = trials
        .iter()
        .map(|trial| experiment.decision(trial.number, trial.attempt).ok())
        .collect();
    let table = TrialTable::of(experiment).payload();
    let best = experiment.best().map(|trial| trial.number);
    let (running, ended) = (experiment.running(), experiment.ended());
    let (stopped, progress) = (experiment.stopped(), experiment.progress());
    format!("{trials:?} {decisions:?} {table} {best:?} {running} {ended} {stopped:?} {progress:?}")
}

fn mixed() -> Value {
    json!([
        {"name": "lr", "type": "loguniform", "min": 1e-4, "max": 1, "base": 10},
        {"name": "n", "type": "randint", "min": 1, "max": 9},
        {"name": "kind", "type": "choice", "options": ["a", "b", "c"]},
        {"name": "depth", "type": "qrandint", "min": 2, "max": 8, "q": 2, "when": {"kind": "b"}}
    ])
}

const SEARCHERS: [&str; 7] = [
    "random",
    "sobol",
    "tpe",
    "hyperoptsearch",
    "gp",
    "cmaes",
    "auto",
];

fn setups() -> impl Strategy<Value = Value> {
    let iterations = json!({"time_attr": "training_iteration"});
    let population = json!({"time_attr": "training_iteration", "perturbation_interval": 2});
    let schedulers = vec![
        json!("fifo"),
        json!({"name": "asha", "options": {"max_t": 9, "reduction_factor": 3, "brackets": 2}}),
        json!({"name": "hyperband", "options": {"max_t": 9}}),
        json!({"name": "bohb", "options": {"max_t": 4, "reduction_factor": 2}}),
        json!({"name": "median", "options": {"time_attr": "training_iteration", "grace_period": 1}}),
        json!({"name": "patience", "options": {"patience": 2}}),
        json!({"name": "plateau", "options": iterations}),
        json!({"name": "pbt", "options": population}),
        json!({"name": "pb2", "options": population}),
    ];
    let limits = vec![json!(null), json!(1), json!(3)];
    (
        select(schedulers),
        select(SEARCHERS.to_vec()),
        select(limits),
        -1..3_i32,
        0..4_u8,
    )
        .prop_map(|(scheduler, searcher, limit, failures, extra)| {
            let population = matches!(scheduler["name"].as_str(), Some("pbt" | "pb2"));
            let mut setup = json!({
                "num_samples": 12, "max_concurrent_trials": limit, "scheduler": scheduler,
                "max_failures": failures,
            });
            if !population {
                setup["search_alg"] = searcher.into();
            }
            match extra {
                0 => setup["points_to_evaluate"] = json!([{"lr": 0.01}, {"kind": "b"}]),
                1 => setup["time_budget_s"] = json!(0.06),
                2 if failures == 0 => setup["fail_fast"] = json!(true),
                _ => {}
            }
            setup
        })
}

/// After every deed: what was seen then, and how long the log was.
fn story(setup: &Value, deeds: &[Deed]) -> (Vec<Event>, Vec<(usize, String)>) {
    let mut running = experiment(mixed(), setup.clone());
    let mut log = vec![Event::Created {
        definition: running.definition().clone(),
    }];
    let mut stations = vec![(log.len(), seen(&running))];
    for (now, deed) in (0..).zip(deeds) {
        log.extend(perform(&mut running, deed, now));
        stations.push((log.len(), seen(&running)));
    }
    (log, stations)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn stopped_replayed_and_continued_is_the_same_as_never_interrupted(
        setup in setups(),
        deeds in deeds(),
    ) {
        let (log, stations) = story(&setup, &deeds);
        let text = serde_json::to_string(&log).unwrap();
        let log: Vec<Event> = serde_json::from_str(&text).unwrap();
        for (place, (length, seen_then)) in stations.iter().enumerate() {
            let mut again = Experiment::replay(&log[..*length]).unwrap();
            assert_eq!(seen(&again), *seen_then, "after {place} deeds");
            let mut longer = log[..*length].to_vec();
            for (now, deed) in (0..).zip(&deeds).skip(place) {
                longer.extend(perform(&mut again, deed, now));
            }
            assert_eq!(longer, log, "continued after {place} deeds");
        }
    }

    #[test]
    fn a_log_that_ends_anywhere_can_be_replayed_and_brought_to_an_end(
        setup in setups(),
        deeds in deeds(),
    ) {
        let (log, _) = story(&setup, &deeds[..deeds.len().min(40)]);
        for length in 1..=log.len() {
            let mut again = Experiment::replay(&log[..length]).unwrap();
            let mut longer = log[..length].to_vec();
            finish(&mut again, &mut longer);
            assert!(again.is_finished(), "after {length} events");
            let replayed = Experiment::replay(&longer).unwrap();
            assert_eq!(seen(&replayed), seen(&again));
        }
    }
}

/// Lets all trials run, in turns, until they return after ten reports.
fn finish(experiment: &mut Experiment, log: &mut Vec<Event>) {
    for turn in (0..=u8::MAX).cycle().take(10_000) {
        let (next, events) = experiment.next(1000);
        log.extend(events);
        if next == Next::Finished {
            return;
        }
        let Some((trial, attempt, iteration)) = picked(experiment, turn, &[Status::Running]) else {
            assert_ne!(next, Next::Wait, "everything waits");
            continue;
        };
        let events = if iteration < 10 {
            let report = Report {
                trial,
                attempt,
                iteration: iteration + 1,
                metrics: Map::from_iter([("loss".to_owned(), json!(trial))]),
                elapsed_ms: 1,
            };
            experiment.report(report, 1000).unwrap().1
        } else {
            let how = Ending::Completed {
                returned: json!(1.0),
            };
            experiment.end(trial, attempt, how, 1000).unwrap()
        };
        log.extend(events);
    }
}

#[test]
fn a_log_that_contradicts_itself_is_refused() {
    let mut running = experiment(x(), json!({"num_samples": 2}));
    let created = Event::Created {
        definition: running.definition().clone(),
    };
    let mut log = vec![created.clone()];
    log.extend(running.next(0).1);
    assert_eq!(
        Experiment::replay(&log[1..]).unwrap_err(),
        ReplayError::NoBeginning
    );

    let started_twice = [log.clone(), vec![log[2].clone()]].concat();
    let Err(ReplayError::Impossible { position, .. }) = Experiment::replay(&started_twice) else {
        panic!("a trial was started twice");
    };
    assert_eq!(position, 3);

    let Event::Created { mut definition } = created else {
        unreachable!()
    };
    definition.version = 99;
    let other = [Event::Created {
        definition: definition.clone(),
    }];
    assert_eq!(
        Experiment::replay(&other).unwrap_err(),
        ReplayError::Version { found: 99 }
    );
    definition.version = 1;
    definition.tune_config = dict(json!({"mode": "avg"}));
    let broken = [Event::Created { definition }];
    assert!(matches!(
        Experiment::replay(&broken),
        Err(ReplayError::Definition(_))
    ));
}

#[test]
fn the_form_of_the_log_stays_what_it_is() {
    let mut running = experiment(x(), json!({}));
    let mut log = running.next(3).1;
    log.extend(crate::report(&mut running, 0, 1, "loss", 0.5).1);
    log.extend(running.checkpoint(0, 1, 1, "model 4").unwrap());
    log.extend(crate::end(&mut running, 0, crate::completed()));
    let lines: Vec<String> = log
        .iter()
        .map(|event| serde_json::to_string(event).unwrap())
        .collect();
    expect_test::expect![[r#"
        {"event":"trial_created","trial":0,"config":{"x":0.2997183662373758},"origin":"searcher"}
        {"event":"started","trial":0,"attempt":1,"at_ms":3}
        {"event":"reported","trial":0,"attempt":1,"iteration":1,"metrics":{"loss":0.5},"elapsed_ms":1000,"at_ms":1000}
        {"event":"decided","trial":0,"iteration":1,"decision":"continue"}
        {"event":"checkpointed","trial":0,"attempt":1,"iteration":1,"checkpoint":"model 4"}
        {"event":"ended","trial":0,"attempt":1,"how":{"how":"completed","returned":null},"at_ms":9000}
        {"event":"closed","trial":0,"status":"TERMINATED","reason":null,"at_ms":9000}"#]].assert_eq(&lines.join("\n"));
}
