//! Trials that run elsewhere, and searches that go on.

use trainshed_engine::{KeyedRequest, within_request};

use super::*;

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
async fn a_trial_whose_answer_was_lost_is_answered_again_after_the_server_ended() {
    let lab = Lab::new().await;
    let new: NewExperiment = serde_json::from_value(json!({
        "name": "elsewhere",
        "hyperparameters": [{"name": "x", "type": "uniform", "min": 0, "max": 1}],
        "tune_config": {"mode": "min", "metric": "loss", "num_samples": 2},
    }))
    .unwrap();
    let made = lab.engine.create_experiment(&lab.workspace, new).await;
    let task = made.unwrap().id;
    let begin = async |lab: &Lab, key| {
        let begun = lab.engine.begin_request(&lab.workspace, key, "digest");
        begun.await.unwrap()
    };
    assert_eq!(begin(&lab, "ask").await, KeyedRequest::New);
    let asked = Box::pin(lab.engine.ask(&lab.workspace, &task));
    let asked = within_request(&lab.workspace, "ask", asked).await.unwrap();

    let (lab, _) = lab.reopen(1).await;

    let KeyedRequest::Answered(again) = begin(&lab, "ask").await else {
        panic!("the answer is not known");
    };
    let first = serde_json::to_string(&asked).unwrap();
    assert_eq!(String::from_utf8(again.body).unwrap(), first);
    let next = lab.engine.ask(&lab.workspace, &task).await.unwrap();
    assert_ne!(next.trial, asked.trial);
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
async fn a_search_whose_data_set_was_deleted_does_not_go_on() {
    let lab = Lab::ready().await;
    let task = lab.submit(tune("bare", json!({"num_samples": 1}))).await;
    let first = lab.lease().await.unwrap();
    lab.finish(&first, failed("no luck")).await.unwrap();
    lab.engine
        .delete_dataset(&lab.workspace, 1, true)
        .await
        .unwrap();
    let resumed = lab
        .engine
        .resume_experiment(&lab.workspace, &task.id, true)
        .await;
    assert_eq!(
        said(resumed),
        "the data set that its trials would read was deleted"
    );
    assert_eq!(lab.task(&task).await.status, TaskState::Failed);
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
