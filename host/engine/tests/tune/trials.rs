//! What a search is, from its action to its best trial, and what failures, stops and restarts do to it.

use super::*;

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
