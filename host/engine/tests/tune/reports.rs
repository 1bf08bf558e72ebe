//! Reports of trials and what the scheduler answers.

use super::*;

#[tokio::test]
async fn reports_are_answered_by_the_scheduler_and_the_same_report_the_same() {
    let lab = Lab::ready().await;
    let config = json!({
        "num_samples": 2, "stop": {"accuracy": 0.8},
        "scheduler": {"name": "asha", "options": {"max_t": 4, "grace_period": 1, "reduction_factor": 2}},
    });
    let task = lab.submit(tune("climb", config)).await;
    let good = lab.lease().await.unwrap();
    assert_eq!(
        lab.tell(&good, 1, json!({"accuracy": 0.5})).await,
        Ok(Continue)
    );
    let bad = lab.lease().await.unwrap();
    assert_eq!(lab.tell(&bad, 1, json!({"accuracy": 0.1})).await, Ok(Stop));
    assert_eq!(
        lab.tell(&bad, 1, json!({"accuracy": 0.1})).await,
        Ok(Stop),
        "sent again"
    );
    lab.finish(&bad, completed(json!({}))).await.unwrap();
    assert_eq!(
        lab.tell(&good, 2, json!({"accuracy": 0.7})).await,
        Ok(Continue)
    );
    assert_eq!(
        lab.tell(&good, 3, json!({"accuracy": 0.9})).await,
        Ok(Stop),
        "it is good enough"
    );
    lab.finish(
        &good,
        Outcome::Stopped {
            reason: String::new(),
        },
    )
    .await
    .unwrap();
    let ended = lab.task(&task).await;
    assert_eq!(
        ended.status,
        TaskState::Completed,
        "{}",
        ended.status_reason
    );
    assert_eq!(
        ended.result.unwrap()["best_trial"]["metrics"]["accuracy"],
        0.9
    );
    assert_eq!(
        lab.tell(&good, 4, json!({"accuracy": 1})).await,
        Err(format!(
            "the lease {} of task {} is over",
            good.fence, good.task
        )),
        "whoever reports behind the end is told"
    );
}

#[tokio::test]
async fn a_paused_trial_leaves_its_place_to_another_and_goes_on_later() {
    let lab = Lab::ready().await;
    let config = json!({
        "num_samples": 8, "max_concurrent_trials": 1,
        "scheduler": {"name": "hyperband", "options": {"max_t": 9, "reduction_factor": 3}},
    });
    let task = lab.submit(tune("bands", config)).await;
    let mut active: Vec<(LeaseView, u64, TrialDecision)> = Vec::new();
    let (mut paused, mut resumed, mut most) = (0, 0, 0);
    while lab.task(&task).await.status != TaskState::Completed {
        most = most.max(active.len());
        if let Some(lease) = lab.lease().await {
            active.push((lease, 0, Continue));
        }
        let mut left = Vec::new();
        for (lease, mut iteration, mut decision) in active {
            if decision == Pause {
                let (engine, workspace) = (&lab.engine, &lab.workspace);
                let answer =
                    engine.await_decision(workspace, &lease.task, lease.fence, Duration::ZERO);
                decision = answer.await.unwrap().decision;
                resumed += usize::from(decision == Continue);
            }
            if decision == Continue {
                iteration += 1;
                let accuracy = lease.settings["lr"].clone();
                let told = lab.tell(&lease, iteration, json!({"accuracy": accuracy}));
                decision = told.await.unwrap();
                paused += usize::from(decision == Pause);
            }
            match decision {
                Stop => {
                    lab.finish(&lease, completed(json!({}))).await.unwrap();
                }
                Continue | Pause => left.push((lease, iteration, decision)),
            }
        }
        active = left;
    }
    assert!(
        paused > 0 && resumed > 0,
        "{paused} paused, {resumed} resumed"
    );
    assert!(most > 1, "paused trials do not count against the limit");
}

#[tokio::test]
async fn a_trial_goes_on_from_the_checkpoint_that_it_reported() {
    let lab = Lab::ready().await;
    let config = json!({"num_samples": 1, "max_failures": 2});
    lab.submit(tune("resumed", config)).await;
    let first = lab.lease().await.unwrap();
    let unknown = lab.tell_saved(&first, 1, "last").await;
    assert_eq!(
        unknown,
        Err("the model `last` has not been reported yet".to_owned())
    );
    let weights = lab.put(b"weights").await;
    let reports = vec![model("last", 1, weights, 7)];
    lab.report(&first, batch(0, reports)).await.unwrap();
    assert_eq!(lab.tell_saved(&first, 1, "last").await, Ok(Continue));
    lab.finish(&first, failed("power cut")).await.unwrap();

    let second = lab.lease().await.unwrap();
    let checkpoint = second.checkpoint.clone().unwrap();
    assert_eq!(
        (checkpoint.slot.as_deref(), checkpoint.sha256),
        (Some("last"), Some(weights))
    );
    let trial = second.trial.clone().unwrap();
    assert_eq!((trial.iteration, trial.elapsed_ms), (1, 1000));
    assert_eq!(
        lab.tell(&second, 2, json!({"accuracy": 0.6})).await,
        Ok(Continue)
    );
    // What was saved before is not meant.
    let newer = TrialReport {
        iteration: 3,
        metrics: lab::object(json!({"accuracy": 0.7})),
        checkpoint: Some("last".into()),
        checkpoint_sha256: Some(lab.put(b"newer weights").await),
        elapsed_ms: 3000,
    };
    assert_eq!(
        lab.send(&second, newer).await,
        Err("the model `last` has not been reported yet".to_owned())
    );
    // Another machine takes it over while its agent is away.
    lab.pass_ms(60_001);
    lab.engine.sweep().await.unwrap();
    let third = lab.lease().await.unwrap();
    assert_eq!(
        third.trial.as_ref().unwrap().iteration,
        1,
        "from the checkpoint on"
    );
    let late = lab.tell(&second, 3, json!({"accuracy": 1})).await;
    assert!(late.is_err(), "{late:?}");
}

/// A kill between the save and the report of an epoch would otherwise lose the report.
#[tokio::test]
async fn an_epoch_that_was_saved_but_not_reported_is_done_again() {
    let mut lab = Lab::ready().await;
    lab.submit(tune("cut off", json!({"num_samples": 1}))).await;
    let first = lab.lease().await.unwrap();
    let (one, two) = (lab.put(b"one").await, lab.put(b"second").await);
    lab.report(&first, batch(0, vec![model("last", 1, one, 3)]))
        .await
        .unwrap();
    assert_eq!(lab.tell_saved(&first, 1, "last").await, Ok(Continue));
    lab.report(&first, batch(1, vec![model("last", 2, two, 6)]))
        .await
        .unwrap();

    for _ in 0..2 {
        (lab, _) = lab.reopen(0).await;
        lab.pass_ms(60_001);
        lab.engine.sweep().await.unwrap();
        let again = lab.lease().await.unwrap();
        let checkpoint = again.checkpoint.clone().unwrap();
        assert_eq!(
            (
                checkpoint.iteration,
                checkpoint.sha256,
                checkpoint.size_bytes
            ),
            (1, Some(one), 3)
        );
        assert_eq!(checkpoint.metadata, [("hidden".into(), "8".into())]);
        assert_eq!(again.trial.as_ref().unwrap().iteration, 1);
    }
}

#[tokio::test]
async fn a_trial_whose_checkpoint_was_deleted_does_again_what_it_has_reported() {
    let lab = Lab::ready().await;
    let config = json!({"num_samples": 1, "max_failures": 2});
    let task = lab.submit(tune("deleted", config)).await;
    let first = lab.lease().await.unwrap();
    let weights = lab.put(b"weights").await;
    lab.report(&first, batch(0, vec![model("last", 2, weights, 7)]))
        .await
        .unwrap();
    assert_eq!(lab.tell_saved(&first, 2, "last").await, Ok(Continue));
    lab.finish(&first, failed("power cut")).await.unwrap();
    let second = lab.lease().await.unwrap();
    assert_eq!(second.trial.as_ref().unwrap().iteration, 2);
    let model = second.checkpoint.as_ref().unwrap().id;
    lab.finish(&second, failed("power cut")).await.unwrap();
    lab.engine
        .delete_model(&lab.workspace, model, true)
        .await
        .unwrap();

    let third = lab.lease().await.unwrap();
    assert_eq!(third.checkpoint, None);
    assert_eq!(third.trial.as_ref().unwrap().iteration, 0);
    for (iteration, accuracy) in [(1, 0.2), (2, 0.3), (3, 0.4)] {
        let told = lab.tell(&third, iteration, json!({"accuracy": accuracy}));
        assert_eq!(told.await, Ok(Continue));
    }
    let trials = lab.engine.trials(&lab.workspace, &task.id, 0, 10).await;
    let trial = &trials.unwrap().items[0];
    assert_eq!(
        (trial.iteration, trial.metrics["accuracy"].as_f64()),
        (3, Some(0.4))
    );
}

/// The original goes on meanwhile, and saves; the copy is of what was judged.
#[tokio::test]
async fn a_copy_goes_on_from_what_the_original_had_when_it_was_copied() {
    let lab = Lab::ready().await;
    let config = json!({
        "num_samples": 2,
        "scheduler": {"name": "pbt", "options": {
            "time_attr": "training_iteration", "perturbation_interval": 1, "quantile_fraction": 0.5,
        }},
    });
    lab.submit(tune("copied", config)).await;
    let leases = [lab.lease().await.unwrap(), lab.lease().await.unwrap()];
    let weights = [lab.put(b"good").await, lab.put(b"bad").await];
    for (lease, (weights, size)) in leases.iter().zip(weights.iter().zip([4, 3])) {
        let reports = vec![model("last", 1, *weights, size)];
        lab.report(lease, batch(0, reports)).await.unwrap();
    }
    let report = |accuracy: f64| TrialReport {
        iteration: 1,
        metrics: lab::object(json!({"accuracy": accuracy})),
        checkpoint: Some("last".into()),
        checkpoint_sha256: None,
        elapsed_ms: 10,
    };
    assert_eq!(lab.send(&leases[0], report(0.9)).await, Ok(Continue));
    assert_eq!(lab.send(&leases[1], report(0.1)).await, Ok(Stop));
    let newer = lab.put(b"newer").await;
    lab.report(&leases[0], batch(1, vec![model("last", 2, newer, 5)]))
        .await
        .unwrap();
    let copy = lab.lease().await.unwrap();
    let checkpoint = copy.checkpoint.clone().unwrap();
    assert_eq!(
        (checkpoint.iteration, checkpoint.sha256),
        (1, Some(weights[0]))
    );
    assert_eq!(copy.trial.unwrap().iteration, 1);
}

#[tokio::test]
async fn a_trial_of_a_population_goes_on_as_a_copy_of_a_better_one() {
    let lab = Lab::ready().await;
    let config = json!({
        "num_samples": 2,
        "scheduler": {"name": "pbt", "options": {
            "time_attr": "training_iteration", "perturbation_interval": 1, "quantile_fraction": 0.5,
        }},
    });
    let task = lab.submit(tune("population", config)).await;
    let leases = [lab.lease().await.unwrap(), lab.lease().await.unwrap()];
    let weights = [
        lab.put(b"weights of the good").await,
        lab.put(b"others").await,
    ];
    for (lease, (weights, size)) in leases.iter().zip(weights.iter().zip([19, 6])) {
        let reports = vec![model("last", 1, *weights, size)];
        lab.report(lease, batch(0, reports)).await.unwrap();
    }
    let report = |accuracy: f64| TrialReport {
        iteration: 1,
        metrics: lab::object(json!({"accuracy": accuracy})),
        checkpoint: Some("last".into()),
        checkpoint_sha256: None,
        elapsed_ms: 10,
    };
    assert_eq!(lab.send(&leases[0], report(0.9)).await, Ok(Continue));
    assert_eq!(
        lab.send(&leases[1], report(0.1)).await,
        Ok(Stop),
        "it is to be a copy"
    );
    let copy = lab.lease().await.unwrap();
    assert_eq!(copy.task, leases[1].task);
    assert_ne!(copy.settings, leases[1].settings);
    assert_eq!(copy.checkpoint.clone().unwrap().sha256, Some(weights[0]));
    // The former attempt may end when it likes.
    let former = lab
        .finish(&leases[1], completed(json!({"accuracy": 1})))
        .await;
    assert!(former.is_err());
    lab.end(&copy, 0.95).await;
    lab.end(&leases[0], 0.9).await;
    let ended = lab.task(&task).await;
    assert_eq!(
        ended.status,
        TaskState::Completed,
        "{}",
        ended.status_reason
    );
    assert_eq!(ended.result.unwrap()["best_result"], json!(copy.settings));
}

#[tokio::test]
async fn a_task_that_is_no_trial_has_nobody_to_report_to() {
    let lab = Lab::ready().await;
    lab.submit(lab.train("alone")).await;
    let lease = lab.lease().await.unwrap();
    assert_eq!(
        lab.tell(&lease, 1, json!({})).await,
        Err("the task is no trial: it has no experiment to report to".to_owned())
    );
}

#[tokio::test]
async fn a_report_that_breaks_a_rule_is_refused() {
    let lab = Lab::ready().await;
    lab.submit(tune("strict", json!({}))).await;
    let lease = lab.lease().await.unwrap();
    for (iteration, metrics, expected) in [
        (
            0,
            json!({}),
            "a report of trial 0 has iteration 0, but iterations count from 1",
        ),
        (
            u64::MAX,
            json!({}),
            "the iteration of a trial is at most 9007199254740992, but it is 18446744073709551615",
        ),
        (
            1,
            json!({"text": "x".repeat(16 << 10)}),
            "the metrics of a trial have at most 16384 bytes, but these have 16395",
        ),
    ] {
        assert_eq!(
            lab.tell(&lease, iteration, metrics).await,
            Err(expected.to_owned())
        );
    }
    let not_a_number = json!({"accuracy": "NaN", "note": ["any", {"json": null}]});
    assert_eq!(lab.tell(&lease, 1, not_a_number).await, Ok(Continue));
}
