//! Searches that are broken off anywhere.

use super::*;

/// What happens to a search, by chance: which deed, of which trial, with which value.
fn history(seed: u64, length: usize) -> Vec<[u64; 3]> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut draw = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state >> 16
    };
    (0..length)
        .map(|_| [draw() % 100, draw(), draw()])
        .collect()
}

/// Does what the history says; before each deed, the engine is opened anew where `broken_off`
/// says so. All answers, and the log but for the id of its task.
async fn lived(
    config: &Value,
    history: &[[u64; 3]],
    broken_off: impl Fn(usize) -> bool,
) -> Vec<String> {
    let mut lab = Lab::ready().await;
    let task = lab.submit(tune("lived", config.clone())).await;
    let weights = lab.put(b"weights").await;
    let mut running: Vec<(LeaseView, u64)> = Vec::new();
    let mut answers = Vec::new();
    for (place, &[kind, pick, value]) in history.iter().enumerate() {
        lab.pass_ms(10);
        if broken_off(place) {
            (lab, _) = lab.reopen(0).await;
        }
        let picked = usize::try_from(pick).unwrap() % running.len().max(1);
        match kind {
            0..30 => {
                let lease = lab.lease().await;
                answers.push(format!("{:?}", lease.as_ref().map(|lease| &lease.settings)));
                running.extend(lease.map(|lease| {
                    let iteration = lease.trial.as_ref().unwrap().iteration;
                    (lease, iteration)
                }));
            }
            30..75 => {
                let Some((lease, iteration)) = running.get_mut(picked) else {
                    continue;
                };
                let metric = json!({"accuracy": u32::try_from(value % 97).unwrap()});
                let told = lab.tell(lease, *iteration + 1, metric).await;
                answers.push(
                    told.as_ref()
                        .map_or_else(|_| "refused".into(), |it| format!("{it:?}")),
                );
                *iteration += u64::from(told == Ok(Continue));
            }
            75..85 => {
                let Some((lease, iteration)) = running.get(picked) else {
                    continue;
                };
                let saved = vec![model("last", *iteration, weights, 7)];
                let kept = lab.report(lease, batch(value, saved)).await.is_ok();
                if value % 3 == 0 {
                    // Whoever saved it dies before it is reported, or reports another before.
                    answers.push(format!("{kept}"));
                    continue;
                }
                let told = lab.tell_saved(lease, *iteration, "last").await;
                answers.push(format!("{kept} {}", told.is_ok()));
            }
            85..97 => {
                if running.is_empty() {
                    continue;
                }
                let (lease, _) = running.swap_remove(picked);
                let outcome = match value % 4 {
                    0 => failed("no luck"),
                    1 => Outcome::Stopped {
                        reason: "interrupted: the agent was stopped".into(),
                    },
                    _ => completed(json!({"accuracy": u32::try_from(value % 89).unwrap()})),
                };
                answers.push(format!("{}", lab.finish(&lease, outcome).await.is_ok()));
            }
            97 => {
                lab.pass_ms(60_001);
                lab.engine.sweep().await.unwrap();
                running.clear();
            }
            _ => {
                let stop = lab.engine.stop(&lab.workspace, &task.id, "a pause".into());
                let stopped = stop.await.is_ok();
                for (lease, _) in running.drain(..) {
                    let _ = lab.finish(&lease, failed("on the way out")).await;
                }
                let resumed =
                    lab.engine
                        .resume_experiment(&lab.workspace, &task.id, value % 2 == 0);
                answers.push(format!("{stopped} {}", resumed.await.is_ok()));
            }
        }
    }
    answers.extend(lab.trials(&task).await);
    let seen = lab.engine.trials(&lab.workspace, &task.id, 0, 500);
    for mut trial in seen.await.unwrap().items {
        // These are drawn.
        (trial.id, trial.task) = (String::new(), None);
        answers.push(json!(trial).to_string());
    }
    answers.push(json!(lab.task(&task).await.status).to_string());
    answers
}

fn setups() -> Vec<Value> {
    let bands = json!({"name": "hyperband", "options": {"max_t": 9}});
    let members = json!({"name": "pbt", "options": {
        "time_attr": "training_iteration", "perturbation_interval": 2}});
    let halving = json!({"name": "asha", "options": {"max_t": 9, "reduction_factor": 2}});
    let median = json!({"name": "median", "options": {
        "time_attr": "training_iteration", "grace_period": 1}});
    let pairs = [
        ("tpe", json!("fifo")),
        ("gp", halving),
        ("random", bands.clone()),
        ("hyperoptsearch", bands),
        ("sobol", members),
        ("random", median),
    ];
    let setup = |(searcher, scheduler)| {
        json!({
            "num_samples": 8, "max_concurrent_trials": 3, "max_failures": 1,
            "search_alg": searcher, "scheduler": scheduler,
        })
    };
    pairs.into_iter().map(setup).collect()
}

#[tokio::test]
async fn a_search_that_is_broken_off_everywhere_goes_on_as_if_it_had_not_been() {
    for (seed, config) in (1..).zip(setups()) {
        for seed in [seed, seed + 100] {
            let history = history(seed, 60);
            let straight = lived(&config, &history, |_| false).await;
            let everywhere = lived(&config, &history, |_| true).await;
            assert_eq!(everywhere, straight, "{config}, history {seed}");
        }
    }
}

#[tokio::test]
async fn a_search_that_is_broken_off_anywhere_goes_on_as_if_it_had_not_been() {
    for (seed, config) in (201..).zip(setups()) {
        let history = history(seed, 16);
        let straight = lived(&config, &history, |_| false).await;
        for prefix in 0..history.len() {
            let once = lived(&config, &history, |place| place == prefix).await;
            assert_eq!(once, straight, "{config}, broken off at {prefix}");
        }
    }
}
