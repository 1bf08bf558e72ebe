//! What the engine promises of tune actions: whatever happens to trials drives the experiment.
#![expect(clippy::unwrap_used, reason = "a test says what it expects by failing")]

#[expect(dead_code, reason = "it is shared, and not all is needed here")]
mod lab;

use std::time::Duration;

use expect_test::{Expect, expect};
use serde_json::{Value, json};
use trainshed_core::report::TrialDecision::{self, Continue, Pause, Stop};
use trainshed_core::report::TrialReport;
use trainshed_core::task::{Outcome, TaskState};
use trainshed_core::view::{
    AgentInfo, LeaseView, NewExperiment, TaskQuery, TaskView, ToldTrial, TrialReported,
};

use lab::{Lab, batch, completed, failed, model, point};

/// The `params` of a tune action on data set 1: a line of `samples` learning rates.
fn tune(name: &str, config: Value) -> Value {
    let mut tune_config = json!({"mode": "max", "metric": "accuracy", "num_samples": 3});
    let given = config.as_object().unwrap().clone();
    tune_config.as_object_mut().unwrap().extend(given);
    json!({
        "name": name, "dataset": 1, "is_tune": true,
        "hyperparameters": [{"name": "lr", "type": "uniform", "min": 0, "max": 1}],
        "tune_config": tune_config,
    })
}

impl Lab {
    async fn task(&self, task: &TaskView) -> TaskView {
        let found = self.engine.task(&self.workspace, &task.id).await.unwrap();
        found.unwrap()
    }

    /// The trials of an experiment, the first first: name and state.
    async fn trials(&self, parent: &TaskView) -> Vec<String> {
        let query = TaskQuery {
            limit: 500,
            trials: true,
            ..TaskQuery::default()
        };
        let page = self.engine.tasks(&self.workspace, query).await.unwrap();
        let mut trials: Vec<String> = page
            .items
            .into_iter()
            .filter(|task| task.parent.as_ref() == Some(&parent.id))
            .map(|task| {
                let (_, number) = task.name.rsplit_once('_').unwrap();
                let mut line = format!("{number} {}", task.status);
                if !task.status_reason.is_empty() {
                    line += &format!(": {}", task.status_reason);
                }
                line
            })
            .collect();
        trials.sort();
        trials
    }

    async fn check_trials(&self, parent: &TaskView, expected: Expect) {
        expected.assert_eq(&self.trials(parent).await.join("\n"));
    }

    /// Runs all that waits, each trial with the accuracy that `judge` gives its learning rate.
    async fn run_all(&self, judge: impl Fn(f64) -> f64) -> Vec<f64> {
        let mut rates = Vec::new();
        while let Some(lease) = self.lease().await {
            let rate = lease.settings["lr"].as_f64().unwrap();
            rates.push(rate);
            self.end(&lease, judge(rate)).await;
        }
        rates
    }

    /// Reports as a trial does.
    async fn send(&self, lease: &LeaseView, report: TrialReport) -> Result<TrialDecision, String> {
        let (engine, workspace) = (&self.engine, &self.workspace);
        let answer = engine.report_trial(workspace, &lease.task, lease.fence, report);
        match answer.await {
            Ok(answer) => Ok(answer.decision),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn tell(
        &self,
        lease: &LeaseView,
        iteration: u64,
        metrics: Value,
    ) -> Result<TrialDecision, String> {
        let report = TrialReport {
            iteration,
            metrics: lab::object(metrics),
            checkpoint: None,
            checkpoint_sha256: None,
            elapsed_ms: iteration.saturating_mul(1000),
        };
        self.send(lease, report).await
    }

    async fn tell_saved(
        &self,
        lease: &LeaseView,
        iteration: u64,
        checkpoint: &str,
    ) -> Result<TrialDecision, String> {
        let report = TrialReport {
            iteration,
            metrics: lab::object(json!({"accuracy": 0.5})),
            checkpoint: Some(checkpoint.to_owned()),
            checkpoint_sha256: None,
            elapsed_ms: iteration.saturating_mul(1000),
        };
        self.send(lease, report).await
    }

    async fn end(&self, lease: &LeaseView, accuracy: f64) {
        let result = completed(json!({"accuracy": accuracy}));
        self.finish(lease, result).await.unwrap();
    }
}

#[tokio::test]
async fn a_tune_action_goes_from_json_to_its_best_trial() {
    let lab = Lab::ready().await;
    let task = lab.submit(tune("search", json!({}))).await;
    assert_eq!(
        (task.status, task.action.as_str()),
        (TaskState::Queued, "tune")
    );
    assert_eq!(json!(task.task_type), "optimizer");

    let first = lab.lease().await.unwrap();
    assert_eq!(lab.task(&task).await.status, TaskState::InProgress);
    let trial = first.trial.clone().unwrap();
    assert_eq!(first.name, format!("search_{}", trial.id));
    assert_eq!(first.action, "train");
    let weights = lab.put(b"weights").await;
    let reports = vec![
        point("train", "accuracy", 0, 0.5),
        model("best", 1, weights, 7),
    ];
    lab.report(&first, batch(0, reports)).await.unwrap();
    lab.end(&first, 0.5).await;
    let progress = lab.task(&task).await.progress;
    assert_eq!(progress.round(), (20.0 + 0.75 * 33.3_f64).round());

    let second = lab.lease().await.unwrap();
    let reports = vec![model("best", 1, weights, 7)];
    lab.report(&second, batch(0, reports)).await.unwrap();
    lab.end(&second, 0.9).await;
    // The last logs the metric instead of returning it.
    let third = lab.lease().await.unwrap();
    let reports = vec![point("validation", "accuracy", 0, 0.7)];
    lab.report(&third, batch(0, reports)).await.unwrap();
    lab.finish(&third, completed(json!({}))).await.unwrap();
    assert!(lab.lease().await.is_none());

    let ended = lab.task(&task).await;
    assert_eq!(
        (ended.status, ended.progress),
        (TaskState::Completed, 100.0)
    );
    let result = ended.result.clone().unwrap();
    let best = second.trial.unwrap().id;
    assert_eq!(result["best_trial"]["trial_id"], best);
    assert_eq!(result["best_trial"]["config"], json!(second.settings));
    assert_eq!(result["best_trial"]["metrics"]["accuracy"], 0.9);
    assert_eq!(
        result["best_trial"]["trial_logdir"],
        format!("search_{best}")
    );
    assert_eq!(result["best_result"], json!(second.settings));
    let models = lab.engine.models(&lab.workspace, None).await.unwrap();
    let names: Vec<&str> = models
        .iter()
        .rev()
        .map(|model| model.name.as_str())
        .collect();
    assert_eq!(
        names,
        [format!("search_{}", trial.id), format!("search_{best}")]
    );
    assert_eq!(result["model_id"], models[0].id);
    let kept = result["trial_models"].as_array().unwrap();
    assert_eq!(kept.len(), 2, "the third trial saved no model");
    assert_eq!(ended.models.output.len(), 2);
    lab.check_trials(
        &task,
        expect![[r#"
            00000 completed
            00001 completed
            00002 completed"#]],
    )
    .await;
}

#[tokio::test]
async fn trials_are_not_listed_unless_they_are_asked_for() {
    let lab = Lab::ready().await;
    let task = lab.submit(tune("quiet", json!({}))).await;
    lab.run_all(|rate| rate).await;
    let query = TaskQuery {
        limit: 10,
        ..TaskQuery::default()
    };
    let page = lab.engine.tasks(&lab.workspace, query).await.unwrap();
    assert_eq!(page.items.len(), 1);
    assert_eq!(page.items[0].id, task.id);
}

#[tokio::test]
async fn no_more_trials_run_than_the_limit_allows() {
    let lab = Lab::ready().await;
    let config = json!({"num_samples": 5, "max_concurrent_trials": 2});
    let task = lab.submit(tune("narrow", config)).await;
    let first = lab.lease().await.unwrap();
    lab.lease().await.unwrap();
    assert!(lab.lease().await.is_none());
    lab.end(&first, 0.1).await;
    assert!(lab.lease().await.is_some());
    assert!(lab.lease().await.is_none());
    lab.check_trials(
        &task,
        expect![[r#"
            00000 completed
            00001 in_progress
            00002 in_progress"#]],
    )
    .await;
}

#[tokio::test]
async fn of_trials_side_by_side_none_is_lost_whatever_is_refused_between_them() {
    let lab = Lab::ready().await;
    let task = lab.submit(tune("search", json!({"num_samples": 40}))).await;
    let agent = async |strays: bool| {
        let mut count = 0;
        while let Some(lease) = lab.lease().await {
            if strays {
                // What others have decided behind this report is decided anew.
                let fence = lease.fence + 1;
                let stray = LeaseView {
                    fence,
                    ..lease.clone()
                };
                let refused = lab.tell(&stray, 1, json!({"accuracy": 9})).await;
                let expected = format!("the lease {fence} of task {} is over", lease.task);
                assert_eq!(refused, Err(expected));
            }
            let told = lab.tell(&lease, 1, json!({"accuracy": 0.5})).await;
            assert_eq!(told, Ok(Continue));
            lab.end(&lease, 0.75).await;
            count += 1;
        }
        count
    };
    let counts = tokio::join!(agent(false), agent(true), agent(false), agent(true));
    assert_eq!(counts.0 + counts.1 + counts.2 + counts.3, 40);
    let ended = lab.task(&task).await;
    assert_eq!(ended.status, TaskState::Completed);
    assert_eq!(
        ended.result.unwrap()["best_trial"]["metrics"]["accuracy"],
        0.75
    );
    let trials = lab.trials(&task).await;
    assert_eq!(trials.len(), 40);
    assert!(trials.iter().all(|trial| trial.ends_with(" completed")));
}

#[tokio::test]
async fn whoever_waits_longest_is_served_first() {
    let lab = Lab::ready().await;
    lab.submit(lab.train("before")).await;
    lab.pass_ms(1);
    lab.submit(tune("between", json!({"num_samples": 2}))).await;
    lab.pass_ms(1);
    lab.submit(lab.train("behind")).await;
    let mut names = Vec::new();
    while let Some(lease) = lab.lease().await {
        names.push(lease.name.split('_').next().unwrap().to_owned());
    }
    assert_eq!(names, ["before", "between", "between", "behind"]);
}

#[tokio::test]
async fn a_trial_that_fails_does_not_end_the_search() {
    let lab = Lab::ready().await;
    let task = lab.submit(tune("bumpy", json!({}))).await;
    let first = lab.lease().await.unwrap();
    lab.finish(&first, failed("out of luck")).await.unwrap();
    let second = lab.lease().await.unwrap();
    lab.finish(&second, completed(json!({"loss": 1})))
        .await
        .unwrap();
    lab.run_all(|rate| rate).await;
    lab.check_trials(
        &task,
        expect![[r#"
            00000 failed: out of luck
            00001 failed: never reported `accuracy`: call report with it, or return it
            00002 completed"#]],
    )
    .await;
    assert_eq!(lab.task(&task).await.status, TaskState::Completed);
}

#[tokio::test]
async fn a_search_without_a_value_of_the_metric_fails() {
    let lab = Lab::ready().await;
    let task = lab.submit(tune("blind", json!({"num_samples": 1}))).await;
    let lease = lab.lease().await.unwrap();
    lab.finish(&lease, completed(json!({"result": "nice"})))
        .await
        .unwrap();
    let ended = lab.task(&task).await;
    assert_eq!(ended.status, TaskState::Failed);
    expect!["No best trial found for the given metric: accuracy. None of 1 trials reported a finite value of it"].assert_eq(&ended.status_reason);
    assert!(
        ended.status_message.contains("never reported `accuracy`"),
        "{}",
        ended.status_message
    );
}

#[tokio::test]
async fn a_failed_trial_is_tried_again_as_often_as_it_may_fail() {
    let lab = Lab::ready().await;
    let config = json!({"num_samples": 1, "max_failures": 1});
    let task = lab.submit(tune("stubborn", config)).await;
    let first = lab.lease().await.unwrap();
    lab.finish(&first, failed("once")).await.unwrap();
    assert_eq!(lab.task(&task).await.status, TaskState::InProgress);
    let again = lab.lease().await.unwrap();
    assert_eq!(
        (again.task.clone(), again.trial.clone()),
        (first.task, first.trial)
    );
    assert_eq!(again.settings, first.settings);
    lab.end(&again, 0.5).await;
    assert_eq!(lab.task(&task).await.status, TaskState::Completed);
}

#[tokio::test]
async fn with_fail_fast_the_first_failure_stops_the_search() {
    let lab = Lab::ready().await;
    let task = lab.submit(tune("hasty", json!({"fail_fast": true}))).await;
    let (first, second) = (lab.lease().await.unwrap(), lab.lease().await.unwrap());
    lab.finish(&first, failed("it broke")).await.unwrap();
    assert!(lab.lease().await.is_none());
    let state = lab.report(&second, batch(0, Vec::new())).await.unwrap();
    assert_eq!(state.stop.as_deref(), Some("trial 0 failed: it broke"));
    let stopped = Outcome::Stopped {
        reason: String::new(),
    };
    lab.finish(&second, stopped).await.unwrap();
    let ended = lab.task(&task).await;
    assert_eq!(
        (ended.status, ended.status_reason.as_str()),
        (TaskState::Failed, "trial 0 failed: it broke")
    );
}

#[tokio::test]
async fn a_stopped_search_stops_its_trials_and_keeps_its_best() {
    let lab = Lab::ready().await;
    let task = lab.submit(tune("halted", json!({}))).await;
    let first = lab.lease().await.unwrap();
    lab.end(&first, 0.5).await;
    let second = lab.lease().await.unwrap();
    let stopping = lab
        .engine
        .stop(&lab.workspace, &task.id, "enough".into())
        .await;
    assert!(stopping.unwrap().stopping);
    assert!(lab.lease().await.is_none());
    let state = lab.report(&second, batch(0, Vec::new())).await.unwrap();
    assert_eq!(state.stop.as_deref(), Some("enough"));
    let stopped = Outcome::Stopped {
        reason: "saved".into(),
    };
    lab.finish(&second, stopped).await.unwrap();
    let ended = lab.task(&task).await;
    assert_eq!(
        (ended.status, ended.status_reason.as_str()),
        (TaskState::Stopped, "enough")
    );
    assert_eq!(ended.result.unwrap()["best_result"], json!(first.settings));
    lab.check_trials(
        &task,
        expect![[r#"
            00000 completed
            00001 stopped: enough"#]],
    )
    .await;
}

#[tokio::test]
async fn a_search_that_waits_is_stopped_at_once() {
    let lab = Lab::ready().await;
    let task = lab.submit(tune("early", json!({}))).await;
    let stopped = lab.engine.stop(&lab.workspace, &task.id, "no".into()).await;
    assert_eq!(stopped.unwrap().status, TaskState::Stopped);
    assert!(lab.lease().await.is_none());
}

#[tokio::test]
async fn a_trial_that_is_stopped_alone_ends_alone() {
    let lab = Lab::ready().await;
    let task = lab
        .submit(tune("selective", json!({"num_samples": 2})))
        .await;
    let first = lab.lease().await.unwrap();
    lab.engine
        .stop(&lab.workspace, &first.task, "dull".into())
        .await
        .unwrap();
    let stopped = Outcome::Stopped {
        reason: "dull".into(),
    };
    lab.finish(&first, stopped).await.unwrap();
    lab.run_all(|rate| rate).await;
    assert_eq!(lab.task(&task).await.status, TaskState::Completed);
    lab.check_trials(
        &task,
        expect![[r#"
            00000 stopped: stopped
            00001 completed"#]],
    )
    .await;
}

#[tokio::test]
async fn a_lost_lease_costs_an_attempt_and_nothing_else() {
    let lab = Lab::ready().await;
    let task = lab.submit(tune("lossy", json!({"num_samples": 2}))).await;
    let first = lab.lease().await.unwrap();
    lab.pass_ms(60_001);
    assert_eq!(lab.engine.sweep().await.unwrap(), 1);
    let mut seen = Vec::new();
    while let Some(lease) = lab.lease().await {
        seen.push(lease.settings.clone());
        lab.end(&lease, 0.5).await;
    }
    assert_eq!(seen.len(), 2, "{seen:?}");
    assert!(seen.contains(&first.settings));
    let late = lab.finish(&first, completed(json!({"accuracy": 1}))).await;
    assert!(late.is_err(), "its fence is old");
    assert_eq!(lab.task(&task).await.status, TaskState::Completed);
}

#[tokio::test]
async fn an_agent_that_is_stopped_leaves_its_trial_to_another() {
    let lab = Lab::ready().await;
    let task = lab
        .submit(tune("handed on", json!({"num_samples": 1})))
        .await;
    let first = lab.lease().await.unwrap();
    let stopped = Outcome::Stopped {
        reason: "the agent was stopped".into(),
    };
    lab.finish(&first, stopped).await.unwrap();
    assert_eq!(lab.task(&task).await.status, TaskState::InProgress);
    let again = lab.lease().await.unwrap();
    assert_eq!(again.settings, first.settings);
    lab.end(&again, 0.5).await;
    assert_eq!(lab.task(&task).await.status, TaskState::Completed);
}

#[tokio::test]
async fn a_search_goes_on_after_a_restart_with_the_same_configurations() {
    let straight = Lab::ready().await;
    straight
        .submit(tune("whole", json!({"num_samples": 6})))
        .await;
    let expected = straight.run_all(|rate| rate).await;

    let lab = Lab::ready().await;
    let task = lab.submit(tune("whole", json!({"num_samples": 6}))).await;
    let mut rates = Vec::new();
    let mut lab = lab;
    while let Some(lease) = lab.lease().await {
        let rate = lease.settings["lr"].as_f64().unwrap();
        rates.push(rate);
        lab.end(&lease, rate).await;
        (lab, _) = lab.reopen(1).await;
    }
    // The id of the task is not the same, and nothing depends on it.
    assert_eq!(rates, expected);
    assert_eq!(lab.task(&task).await.status, TaskState::Completed);
}

#[tokio::test]
async fn a_search_that_is_run_again_begins_anew() {
    let lab = Lab::ready().await;
    let task = lab.submit(tune("again", json!({"num_samples": 2}))).await;
    let first = lab.run_all(|rate| rate).await;
    let reset = trainshed_engine::Move::new(trainshed_core::task::Verb::Reset);
    lab.engine
        .move_task(&lab.workspace, &task.id, &reset)
        .await
        .unwrap();
    let queue = trainshed_engine::QueueName::Name("default");
    let enqueue =
        trainshed_engine::Move::new(trainshed_core::task::Verb::Enqueue).into_queue(queue);
    lab.engine
        .move_task(&lab.workspace, &task.id, &enqueue)
        .await
        .unwrap();
    assert_eq!(lab.run_all(|rate| rate).await, first);
    assert_eq!(lab.task(&task).await.status, TaskState::Completed);
}

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

    // What was saved and never reported is not done again.
    let reports = vec![model("last", 3, weights, 7)];
    lab.report(&third, batch(9, reports)).await.unwrap();
    lab.pass_ms(60_001);
    lab.engine.sweep().await.unwrap();
    assert_eq!(lab.lease().await.unwrap().trial.unwrap().iteration, 3);
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

#[tokio::test]
async fn trials_that_no_agent_could_run_are_refused_with_what_is_missing() {
    let lab = Lab::ready().await;
    let info = AgentInfo {
        name: "small".into(),
        cpus: 2,
        ..AgentInfo::default()
    };
    lab.engine
        .register_agent(&lab.workspace, info)
        .await
        .unwrap();
    let mut params = tune("hungry", json!({}));
    params["num_gpus"] = json!(0.5);
    lab.check_refused(
        None,
        &params,
        expect![[r#"
            /params/num_gpus: num_gpus is 0.5, but the agents here have at most 0 each
            Leave it out to train on processors; `trainshed devices` says what is missing."#]],
    )
    .await;
    params["num_gpus"] = json!(0);
    params["num_cpus"] = json!(2.5);
    lab.check_refused(
        None,
        &params,
        expect![[r#"
            /params/num_cpus: num_cpus is 2.5, but the agents here have at most 2 each
            Ask for less."#]],
    )
    .await;
    params["num_cpus"] = json!(2);
    lab.submit(params).await;
    let trial = lab.lease().await.unwrap().trial.unwrap();
    assert_eq!((trial.milli_cpus, trial.milli_gpus), (2000, 0));
}

#[tokio::test]
async fn what_happens_to_trials_can_be_read_at_any_time() {
    let lab = Lab::ready().await;
    let task = lab.submit(tune("seen", json!({"num_samples": 4}))).await;
    let (engine, workspace) = (&lab.engine, &lab.workspace);
    let waiting = engine.tuning(workspace, &task.id).await.unwrap();
    assert_eq!(
        (waiting.total, waiting.seq, waiting.best),
        (Some(4), 0, None)
    );
    let first = lab.lease().await.unwrap();
    lab.tell(&first, 1, json!({"accuracy": 0.25, "loss": 2}))
        .await
        .unwrap();
    let (table, seen) = engine.trial_table(workspace, &task.id, None).await.unwrap();
    let id = first.trial.clone().unwrap().id;
    let rate = first.settings["lr"].clone();
    assert_eq!(
        table,
        json!({
            "base": ["trial_id", "status"],
            "trials": {&id: {
                "base": [id, "RUNNING"], "hyperparameters": [rate], "metrics": [0.25, 2.0],
            }},
            "hyperparameters": ["lr"],
            "metrics": ["accuracy", "loss"],
            "best_trial": "",
        })
    );
    let (unchanged, _) = engine
        .trial_table(workspace, &task.id, Some(seen))
        .await
        .unwrap();
    assert_eq!(unchanged["trials"], json!({}));
    let second = lab.lease().await.unwrap();
    let (changed, _) = engine
        .trial_table(workspace, &task.id, Some(seen))
        .await
        .unwrap();
    let changed: Vec<&String> = changed["trials"].as_object().unwrap().keys().collect();
    assert_eq!(changed, [&second.trial.clone().unwrap().id]);
    lab.end(&first, 0.5).await;
    lab.end(&second, 0.75).await;
    lab.run_all(|rate| rate).await;

    let page = engine.trials(workspace, &task.id, 1, 2).await.unwrap();
    let numbers: Vec<u64> = page.items.iter().map(|trial| trial.number).collect();
    assert_eq!((numbers, page.next.as_deref()), (vec![1, 2], Some("3")));
    assert_eq!(page.items[0].task.as_ref(), Some(&second.task));
    let tuning = engine.tuning(workspace, &task.id).await.unwrap();
    assert_eq!(tuning.counts["TERMINATED"], 4);
    assert!(tuning.best.unwrap().best);
    let importance = engine.importance(workspace, &task.id).await.unwrap();
    assert_eq!(importance.first().map(|one| one.name.as_str()), Some("lr"));
    let (table, _) = engine.trial_table(workspace, &task.id, None).await.unwrap();
    assert_ne!(table["best_trial"], "");

    let other = lab.submit(lab.train("no search")).await;
    let refused = engine.tuning(workspace, &other.id).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        format!("the task {} does not tune", other.id)
    );
}

#[tokio::test]
async fn a_space_or_a_setting_that_makes_no_sense_is_refused_before_anything_runs() {
    let lab = Lab::ready().await;
    let refused = |config| lab_refusal(&lab, config);
    refused(json!({"mode": "avg"}))
        .await
        .assert("/params/tune_config/mode: mode must be max or min, but it is `avg`");
    refused(json!({"search_alg": {"name": "magic"}}))
        .await
        .assert("/params/tune_config/search_alg/name: Unsupported search algorithm: magic.");
    refused(json!({"scheduler": "magic"}))
        .await
        .assert("/params/tune_config/scheduler/name: Unsupported scheduler: 'magic'.");
    assert!(lab.lease().await.is_none());
}

struct Said(String);

impl Said {
    #[track_caller]
    fn assert(&self, start: &str) {
        assert!(self.0.starts_with(start), "{}", self.0);
    }
}

async fn lab_refusal(lab: &Lab, config: Value) -> Said {
    let error = lab
        .try_submit(None, &tune("refused", config))
        .await
        .unwrap_err();
    Said(format!("{}: {error}", error.pointer().unwrap()))
}

#[tokio::test]
async fn trials_that_run_elsewhere_are_asked_for_and_told() {
    let lab = Lab::new().await;
    let (engine, workspace) = (&lab.engine, &lab.workspace);
    let new: NewExperiment = serde_json::from_value(json!({
        "name": "elsewhere", "seed": 1,
        "hyperparameters": [{"name": "x", "type": "uniform", "min": 0, "max": 1}],
        "tune_config": {"mode": "min", "metric": "loss", "num_samples": 2, "max_concurrent_trials": 1},
    }))
    .unwrap();
    let task = engine
        .create_experiment(workspace, new.clone())
        .await
        .unwrap();
    assert_eq!(task.status, TaskState::InProgress);
    let taken = engine.create_experiment(workspace, new).await.unwrap_err();
    assert!(
        taken.to_string().contains("the name `elsewhere` is in use"),
        "{taken}"
    );

    let first = engine
        .ask(workspace, &task.id)
        .await
        .unwrap()
        .trial
        .unwrap();
    assert_eq!(engine.ask(workspace, &task.id).await.unwrap().trial, None);
    let report = TrialReported {
        trial: first.number,
        attempt: first.attempt,
        iteration: 1,
        metrics: lab::object(json!({"loss": 0.5})),
        checkpoint: Some("anything".into()),
        elapsed_ms: None,
    };
    for _ in 0..2 {
        let decision = engine
            .tell_report(workspace, &task.id, report.clone())
            .await;
        assert_eq!(decision.unwrap(), Continue);
    }
    let stale = TrialReported {
        attempt: 7,
        ..report
    };
    let stale = engine
        .tell_report(workspace, &task.id, stale)
        .await
        .unwrap_err();
    assert_eq!(
        stale.to_string(),
        "attempt 7 of trial 0 is not the current one, which is 1"
    );
    let told = |state: &str, loss: f64, trial| ToldTrial {
        trial,
        attempt: 1,
        state: state.to_owned(),
        metrics: Some(lab::object(json!({"loss": loss}))),
        reason: None,
    };
    for _ in 0..2 {
        engine
            .tell_end(workspace, &task.id, told("completed", 0.25, 0))
            .await
            .unwrap();
    }
    let wrong = engine
        .tell_end(workspace, &task.id, told("done", 0.0, 0))
        .await
        .unwrap_err();
    assert_eq!(
        wrong.to_string(),
        "state must be completed, failed or stopped, but it is `done`"
    );
    engine
        .ask(workspace, &task.id)
        .await
        .unwrap()
        .trial
        .unwrap();
    engine
        .tell_end(workspace, &task.id, told("completed", 0.75, 1))
        .await
        .unwrap();
    assert!(engine.ask(workspace, &task.id).await.unwrap().finished);
    let ended = lab.task(&task).await;
    assert_eq!(ended.status, TaskState::Completed);
    assert_eq!(ended.result.unwrap()["best_trial"]["metrics"]["loss"], 0.25);
}

#[tokio::test]
async fn a_search_elsewhere_ends_at_once_when_it_is_stopped() {
    let lab = Lab::new().await;
    let new: NewExperiment = serde_json::from_value(json!({
        "name": "elsewhere",
        "hyperparameters": [{"name": "x", "type": "uniform", "min": 0, "max": 1}],
        "tune_config": {"mode": "min", "metric": "loss", "num_samples": -1},
    }))
    .unwrap();
    let task = lab
        .engine
        .create_experiment(&lab.workspace, new)
        .await
        .unwrap();
    lab.engine.ask(&lab.workspace, &task.id).await.unwrap();
    let stopped = lab
        .engine
        .stop(&lab.workspace, &task.id, "enough".into())
        .await;
    assert_eq!(stopped.unwrap().status, TaskState::Stopped);
    assert!(
        lab.engine
            .ask(&lab.workspace, &task.id)
            .await
            .unwrap()
            .finished
    );
}

/// The reason of a task that ended, or what a call was refused with.
fn said<T>(answer: Result<T, trainshed_engine::TuneError>) -> String {
    answer.map_or_else(|error| error.to_string(), |_| "done".to_owned())
}

#[tokio::test]
async fn a_stopped_search_goes_on_with_what_it_would_have_run() {
    let straight = Lab::ready().await;
    let four = json!({"num_samples": 4, "max_concurrent_trials": 2});
    straight.submit(tune("whole", four.clone())).await;
    let expected = straight.run_all(|rate| rate).await;

    let lab = Lab::ready().await;
    let task = lab.submit(tune("whole", four)).await;
    let resume = async |lab: &Lab, failed| {
        let resumed = lab
            .engine
            .resume_experiment(&lab.workspace, &task.id, failed);
        said(resumed.await)
    };
    assert_eq!(
        resume(&lab, false).await,
        "the task is queued: only a search that has ended goes on"
    );
    let first = lab.lease().await.unwrap();
    lab.end(&first, first.settings["lr"].as_f64().unwrap())
        .await;
    let second = lab.lease().await.unwrap();
    let weights = lab.put(b"weights").await;
    let reports = vec![model("last", 3, weights, 7)];
    lab.report(&second, batch(0, reports)).await.unwrap();
    lab.tell_saved(&second, 3, "last").await.unwrap();
    lab.engine
        .stop(&lab.workspace, &task.id, "for the night".into())
        .await
        .unwrap();
    let stopped = Outcome::Stopped {
        reason: String::new(),
    };
    lab.finish(&second, stopped).await.unwrap();
    let ended = lab.task(&task).await;
    assert_eq!(ended.status, TaskState::Stopped);
    assert_eq!(ended.phases.phases()["trials"], 100.0);

    let (lab, _) = lab.reopen(1).await;
    assert_eq!(resume(&lab, false).await, "done");
    let running = lab.task(&task).await;
    assert_eq!(
        (
            running.status,
            running.status_reason.as_str(),
            running.stopping
        ),
        (TaskState::InProgress, "", false)
    );
    assert_eq!(running.result, None);
    assert_eq!(
        running.phases.phases()["trials"],
        25.0,
        "one of four trials has ended, whatever the stop showed"
    );
    let again = lab.lease().await.unwrap();
    assert_eq!(
        (&again.task, &again.settings),
        (&second.task, &second.settings)
    );
    assert_eq!(
        again.trial.as_ref().unwrap().iteration,
        3,
        "from its checkpoint"
    );
    let state = lab.report(&again, batch(0, Vec::new())).await.unwrap();
    assert_eq!(state.stop, None, "who stopped it then does not stop it now");
    lab.end(&again, 0.5).await;
    let mut rates = vec![first.settings["lr"].as_f64().unwrap()];
    rates.push(second.settings["lr"].as_f64().unwrap());
    rates.extend(lab.run_all(|rate| rate).await);
    assert_eq!(rates, expected);
    assert_eq!(lab.task(&task).await.status, TaskState::Completed);
    assert_eq!(
        resume(&lab, true).await,
        "nothing is left of it: every trial has ended"
    );
}

#[tokio::test]
async fn what_failed_is_tried_again_when_that_is_asked_for() {
    let lab = Lab::ready().await;
    let task = lab.submit(tune("again", json!({"num_samples": 1}))).await;
    let first = lab.lease().await.unwrap();
    lab.finish(&first, failed("no luck")).await.unwrap();
    assert_eq!(lab.task(&task).await.status, TaskState::Failed);
    let resume = async |failed| {
        let resumed = lab
            .engine
            .resume_experiment(&lab.workspace, &task.id, failed);
        said(resumed.await)
    };
    assert_eq!(
        resume(false).await,
        "nothing is left of it: every trial has ended; `failed` tries those again that failed"
    );
    assert_eq!(resume(true).await, "done");
    let second = lab.lease().await.unwrap();
    assert_eq!((&second.task, second.fence), (&first.task, first.fence + 1));
    lab.end(&second, 0.5).await;
    assert_eq!(lab.task(&task).await.status, TaskState::Completed);
}

#[tokio::test]
async fn a_search_elsewhere_goes_on_too() {
    let lab = Lab::ready().await;
    let new = json!({
        "name": "elsewhere",
        "hyperparameters": [{"name": "x", "type": "uniform", "min": 0, "max": 1}],
        "tune_config": {"mode": "min", "metric": "loss", "num_samples": 2},
    });
    let new: NewExperiment = serde_json::from_value(new).unwrap();
    let task = lab
        .engine
        .create_experiment(&lab.workspace, new)
        .await
        .unwrap();
    let ask = async || lab.engine.ask(&lab.workspace, &task.id).await.unwrap();
    let first = ask().await.trial.unwrap();
    let stop = lab.engine.stop(&lab.workspace, &task.id, "enough".into());
    assert_eq!(stop.await.unwrap().status, TaskState::Stopped);
    assert!(ask().await.finished);
    let resumed = lab
        .engine
        .resume_experiment(&lab.workspace, &task.id, false);
    assert_eq!(resumed.await.unwrap().status, TaskState::InProgress);
    let again = ask().await.trial.unwrap();
    assert_eq!((again.number, again.attempt), (0, 2));
    assert_eq!(again.config, first.config);
}

#[tokio::test]
async fn somebody_says_which_trial_is_the_best() {
    let lab = Lab::ready().await;
    let task = lab.submit(tune("chosen", json!({"num_samples": 2}))).await;
    let mut ids = Vec::new();
    for accuracy in [0.9, 0.5] {
        let lease = lab.lease().await.unwrap();
        let weights = lab.put(b"weights").await;
        let reports = vec![model("best", 1, weights, 7)];
        lab.report(&lease, batch(0, reports)).await.unwrap();
        lab.end(&lease, accuracy).await;
        ids.push((lease.trial.unwrap().id, lease.settings));
    }
    let table = async || {
        let table = lab.engine.trial_table(&lab.workspace, &task.id, None);
        table.await.unwrap().0
    };
    let before = (lab.task(&task).await, table().await);
    assert_eq!(before.1["best_trial"], ids[0].0);

    let choose = async |choice: Value| {
        let choice = serde_json::from_value(choice).unwrap();
        let chosen = lab.engine.choose_best(&lab.workspace, &task.id, &choice);
        said(chosen.await)
    };
    let mut whole = ids[1].1.clone();
    whole.insert("trial_id".to_owned(), json!(ids[1].0));
    assert_eq!(choose(json!(whole)).await, "done");
    let after = (lab.task(&task).await, table().await);
    let mut expected = before.1.clone();
    expected["best_trial"] = json!(ids[1].0);
    assert_eq!(after.1, expected, "the last table differs in nothing else");
    let result = after.0.result.unwrap();
    assert_eq!(result["best_trial"]["trial_id"], ids[1].0);
    assert_eq!(result["model_id"], result["trial_models"][1]["model_id"]);
    assert_eq!(after.0.status, TaskState::Completed);

    assert_eq!(
        choose(json!({"trial_id": "none_00007"})).await,
        "the task has no trial `none_00007`"
    );
    let rate = &ids[0].1["lr"];
    assert_eq!(
        choose(json!({"trial_id": ids[0].0, "lr": 7})).await,
        format!("the trial `{}` has `lr` {rate}, not 7", ids[0].0)
    );
    assert_eq!(
        choose(json!({"trial_id": ids[0].0, "rate": 7})).await,
        format!("the trial `{}` has no `rate`, not 7", ids[0].0)
    );
    assert_eq!(choose(json!({"trial_id": null})).await, "done");
    assert_eq!(lab.task(&task).await.result, before.0.result);
}

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
    answers.push(json!(lab.task(&task).await.status).to_string());
    answers
}

#[tokio::test]
async fn a_search_that_is_broken_off_anywhere_goes_on_as_if_it_had_not_been() {
    let bands = json!({"name": "hyperband", "options": {"max_t": 9}});
    let members = json!({"name": "pbt", "options": {
        "time_attr": "training_iteration", "perturbation_interval": 2}});
    for (number, (searcher, scheduler)) in [
        ("tpe", json!("fifo")),
        (
            "gp",
            json!({"name": "asha", "options": {"max_t": 9, "reduction_factor": 2}}),
        ),
        ("random", bands.clone()),
        ("hyperoptsearch", bands),
        ("sobol", members),
        (
            "random",
            json!({"name": "median", "options": {
            "time_attr": "training_iteration", "grace_period": 1}}),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let config = json!({
            "num_samples": 8, "max_concurrent_trials": 3, "max_failures": 1,
            "search_alg": searcher, "scheduler": scheduler,
        });
        let seed = 1 + u64::try_from(number).unwrap();
        let history = history(seed, 60);
        let straight = lived(&config, &history, |_| false).await;
        let everywhere = lived(&config, &history, |_| true).await;
        assert_eq!(
            everywhere, straight,
            "{searcher} with {scheduler}, broken off everywhere"
        );
        for prefix in (3..history.len()).step_by(19) {
            let once = lived(&config, &history, |place| place == prefix).await;
            assert_eq!(
                once, straight,
                "{searcher} with {scheduler}, broken off at {prefix}"
            );
        }
    }
}

/// An experiment of the clones of a task.
fn clones(base: &TaskView, spaces: Value, samples: u64) -> NewExperiment {
    let new = json!({
        "name": "clones", "base_task": base.id, "hyperparameters": spaces,
        "tune_config": {"mode": "min", "metric": "loss", "num_samples": samples},
    });
    serde_json::from_value(new).unwrap()
}

#[tokio::test]
async fn a_task_that_a_plugin_runs_is_tuned_by_its_clones() {
    let lab = Lab::ready().await;
    let mut base = lab.train("base");
    base["hyperparameter"] = json!({"epochs": 3, "lr": 0.5, "net": {"hidden": 8}});
    let base = lab.submit(base).await;
    let lease = lab.lease().await.unwrap();
    lab.end(&lease, 0.5).await;
    let create = async |spaces: Value| {
        let made = lab
            .engine
            .create_experiment(&lab.workspace, clones(&base, spaces, 2));
        made.await.map_err(|error| error.to_string())
    };
    let rates = |name: &str| json!([{"name": name, "type": "uniform", "min": 0, "max": 1}]);
    assert_eq!(
        create(rates("lr")).await.unwrap_err(),
        "with a base task, name is that of a parameter with its section, e.g. `Args/lr`, but it \
         is `lr`"
    );
    assert_eq!(
        create(rates("Args/lr")).await.unwrap_err(),
        "the hyperparameters of a plugin are the section General, but this is `Args/lr`"
    );
    assert_eq!(
        create(rates("General/net/hidden")).await.unwrap_err(),
        "`General/net/hidden` is a part of a hyperparameter: search all of `General/net`"
    );
    let task = create(rates("General/lr")).await.unwrap();
    let mut seen = Vec::new();
    while let Some(lease) = lab.lease().await {
        let rate = lease.settings["lr"].as_f64().unwrap();
        let expected = json!({"lr": rate, "epochs": 3, "net": {"hidden": 8}});
        assert_eq!(json!(lease.settings), expected);
        let result = completed(json!({"loss": rate}));
        lab.finish(&lease, result).await.unwrap();
        seen.push(rate);
    }
    assert_eq!(seen.len(), 2);
    assert_eq!(lab.task(&task).await.status, TaskState::Completed);
}

#[tokio::test]
async fn a_trial_whose_clone_cannot_be_made_does_not_begin() {
    let lab = Lab::ready().await;
    let draft = serde_json::from_value(json!({"name": "script"})).unwrap();
    let (engine, workspace) = (&lab.engine, &lab.workspace);
    let base = engine.create_draft(workspace, draft).await.unwrap();
    let spaces = json!([{"name": "properties/lr", "type": "uniform", "min": 0, "max": 1}]);
    let new = clones(&base, spaces, 2);
    let task = engine.create_experiment(workspace, new).await.unwrap();
    for _ in 0..2 {
        let refused = engine.ask(workspace, &task.id).await.unwrap_err();
        assert_eq!(
            refused.to_string(),
            "the base task cannot be cloned: `properties/lr` is a user property, not a parameter"
        );
    }
    let tuning = engine.tuning(workspace, &task.id).await.unwrap();
    assert_eq!(tuning.counts.values().sum::<u64>(), 0);
}

#[tokio::test]
async fn a_task_of_a_program_elsewhere_is_tuned_by_its_clones_too() {
    let lab = Lab::ready().await;
    let draft = json!({"name": "script", "parameters": {"Args": {"lr": 0.5, "layers": 2}}});
    let draft = serde_json::from_value(draft).unwrap();
    let base = lab
        .engine
        .create_draft(&lab.workspace, draft)
        .await
        .unwrap();
    let spaces = json!([{"name": "Args/lr", "type": "uniform", "min": 0, "max": 1}]);
    let (engine, workspace) = (&lab.engine, &lab.workspace);
    let task = engine
        .create_experiment(workspace, clones(&base, spaces, 2))
        .await
        .unwrap();
    for _ in 0..2 {
        let trial = engine
            .ask(workspace, &task.id)
            .await
            .unwrap()
            .trial
            .unwrap();
        let clone = trial.task.unwrap();
        let parameters = engine.parameters(workspace, &clone).await.unwrap().unwrap();
        let found: Vec<(String, Value)> = parameters
            .iter()
            .map(|parameter| (parameter.path(), parameter.value.clone()))
            .collect();
        let rate = trial.config["Args/lr"].clone();
        assert!(
            found.contains(&("Args/lr".to_owned(), rate.clone())),
            "{found:?}"
        );
        assert!(
            found.contains(&("Args/layers".to_owned(), json!(2))),
            "{found:?}"
        );
        let view = engine.task(workspace, &clone).await.unwrap().unwrap();
        assert_eq!(view.name, format!("clones_{}", trial.id));
        assert_eq!(
            (view.status, view.parent),
            (TaskState::Created, Some(task.id.clone()))
        );
        let told = json!({"trial": trial.number, "attempt": trial.attempt, "state": "completed",
            "metrics": {"loss": rate}});
        let told: ToldTrial = serde_json::from_value(told).unwrap();
        engine.tell_end(workspace, &task.id, told).await.unwrap();
    }
    assert_eq!(lab.task(&task).await.status, TaskState::Completed);
}
