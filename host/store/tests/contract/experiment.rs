//! Experiments: steps that are written whole, in the order of the log.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use trainshed_core::TaskId;
use trainshed_core::manifest::{Category, Manifest};
use trainshed_core::task::{Outcome, TaskState};
use trainshed_store::{
    Cause, Checkpoint, EndOfRun, ExperimentEnd, GarbageRules, KeyedRequest, LeaseError, NewTask,
    NewWork, NotedAnswer, Place, QueuedStep, StartedTrial, Step, StepError, TrialChange,
    TrialCheckpoint, Waiting, within_request,
};

use crate::lab::{Lab, NOW, UNTIL, completed, new_task};

store_contract! {
    of_two_steps_from_one_place_the_second_is_refused,
    steps_that_wait_together_are_written_in_their_order,
    a_refused_step_takes_along_those_behind_it_and_no_others,
    a_trial_is_started_once_more_under_a_new_fence,
    a_lost_trial_is_found_until_its_log_knows,
    an_experiment_ends_with_the_models_of_its_trials,
    a_trial_goes_on_from_what_it_reported_whatever_it_saves_since,
    a_task_that_is_deleted_takes_its_experiment_along,
    the_answer_to_a_request_is_kept_with_the_step_that_it_wanted,
    a_run_records_the_world_of_its_component,
}

/// The queued task of an experiment.
async fn experiment(lab: &Lab, name: &str) -> TaskId {
    let task = new_task(name, "default");
    let work = task.work.map(|work| NewWork {
        action: "tune",
        ..work
    });
    let task = NewTask { work, ..task };
    lab.store
        .insert_task(&lab.workspace, &task, NOW)
        .await
        .unwrap();
    task.id
}

/// A step of two events.
fn step(experiment: &TaskId, after: &Place, trials: Vec<TrialChange>) -> Step {
    Step {
        experiment: experiment.clone(),
        after: after.clone(),
        behind: after.behind(2),
        events: vec!["{}".to_owned(), "{}".to_owned()],
        ready: true,
        progress: Some(0.5),
        trials,
        end: None,
        answer: None,
    }
}

fn start(lab: &Lab, experiment: &TaskId, attempt: u64) -> TrialChange {
    let name = format!("trial 0 of {experiment}");
    TrialChange::Start(Box::new(StartedTrial {
        number: 0,
        attempt,
        task: NewTask {
            parent: Some(experiment.clone()),
            queued: false,
            ..new_task(&name, "default")
        },
        agent: lab.agent.clone(),
        lease_until: UNTIL,
    }))
}

async fn queue(lab: &Lab, cause: Cause, step: Step) -> QueuedStep {
    let queued = lab.store.queue_step(&lab.workspace, cause, step, NOW);
    queued.await.unwrap()
}

/// Writes a step; the place behind it, and what it started.
async fn take_for(
    lab: &Lab,
    cause: Cause,
    step: Step,
) -> Result<(Place, Option<(TaskId, i64)>), StepError> {
    let behind = step.behind.clone();
    let started = queue(lab, cause, step).await.written().await?;
    Ok((behind, started))
}

async fn take(lab: &Lab, step: Step) -> Result<(Place, Option<(TaskId, i64)>), StepError> {
    take_for(lab, Cause::Alone, step).await
}

async fn of_two_steps_from_one_place_the_second_is_refused(lab: Lab) {
    let task = experiment(&lab, "search").await;
    let beginning = Place::default();
    let waiting = lab.store.waiting(&lab.workspace, &[]).await.unwrap();
    assert_eq!(waiting, Some(Waiting::Experiment(task.clone())));
    let tried = std::slice::from_ref(&task);
    assert_eq!(
        lab.store.waiting(&lab.workspace, tried).await.unwrap(),
        None
    );

    let (place, _) = take(&lab, step(&task, &beginning, Vec::new()))
        .await
        .unwrap();
    assert_eq!(place.seq, 2);
    let refused = take(&lab, step(&task, &beginning, Vec::new())).await;
    assert!(matches!(refused, Err(StepError::Overtaken)));
    let (next, _) = take(&lab, step(&task, &place, Vec::new())).await.unwrap();
    assert_eq!((&next.run, next.seq), (&place.run, 4));
    assert!(matches!(
        take(&lab, step(&task, &place, Vec::new())).await,
        Err(StepError::Overtaken)
    ));
    let end = lab.store.end_of_log(&lab.workspace, &task).await.unwrap();
    assert_eq!(end, next);
    let events = lab.store.experiment_events(&lab.workspace, &task, 1, 4);
    assert_eq!(events.await.unwrap(), ["{}", "{}", "{}"]);
}

async fn steps_that_wait_together_are_written_in_their_order(lab: Lab) {
    let (task, other) = (experiment(&lab, "a").await, experiment(&lab, "b").await);
    let mut queued = Vec::new();
    let first = step(&task, &Place::default(), vec![start(&lab, &task, 1)]);
    let elsewhere = step(&other, &Place::default(), vec![start(&lab, &other, 1)]);
    let mut behind = first.behind.clone();
    for step in [first, elsewhere] {
        queued.push(queue(&lab, Cause::Alone, step).await);
    }
    for _ in 0..40 {
        let next = step(&task, &behind, Vec::new());
        behind = next.behind.clone();
        queued.push(queue(&lab, Cause::Alone, next).await);
    }
    let mut started = 0;
    for step in queued {
        started += usize::from(step.written().await.unwrap().is_some());
    }
    assert_eq!(started, 2);
    let end = lab.store.end_of_log(&lab.workspace, &task).await.unwrap();
    assert_eq!((&end, end.seq), (&behind, 82));
    let events = lab.store.experiment_events(&lab.workspace, &task, 0, 100);
    assert_eq!(events.await.unwrap().len(), 82);
}

async fn a_refused_step_takes_along_those_behind_it_and_no_others(lab: Lab) {
    let (task, other) = (experiment(&lab, "a").await, experiment(&lab, "b").await);
    let first = step(&task, &Place::default(), vec![start(&lab, &task, 1)]);
    let place = first.behind.clone();
    let (_, started) = take(&lab, first).await.unwrap();
    let (trial, fence) = started.unwrap();
    let report = |fence| Cause::Report {
        task: trial.clone(),
        fence,
        lease_until: UNTIL,
    };
    let good = step(&task, &place, Vec::new());
    let stale = step(&task, &good.behind, Vec::new());
    let behind = step(&task, &stale.behind, Vec::new());
    let elsewhere = step(&other, &Place::default(), vec![start(&lab, &other, 1)]);
    let end = good.behind.clone();

    let good = queue(&lab, report(fence), good).await;
    let stale = queue(&lab, report(fence + 1), stale).await;
    let behind = queue(&lab, report(fence), behind).await;
    let elsewhere = queue(&lab, Cause::Alone, elsewhere).await;

    assert!(matches!(good.written().await, Ok(None)));
    let refused = stale.written().await;
    let Err(StepError::Lease(LeaseError::Stale { .. })) = refused else {
        panic!("{refused:?}");
    };
    let refused = behind.written().await;
    assert!(matches!(refused, Err(StepError::Overtaken)), "{refused:?}");
    assert!(matches!(elsewhere.written().await, Ok(Some(_))));
    let found = lab.store.end_of_log(&lab.workspace, &task).await.unwrap();
    assert_eq!(found, end);
    let events = lab.store.experiment_events(&lab.workspace, &task, 0, 100);
    assert_eq!(events.await.unwrap().len(), 4);
}

async fn a_trial_is_started_once_more_under_a_new_fence(lab: Lab) {
    let task = experiment(&lab, "search").await;
    let beginning = Place::default();
    let started = take(&lab, step(&task, &beginning, vec![start(&lab, &task, 1)])).await;
    let (place, first) = started.unwrap();
    let (trial, fence) = first.unwrap();
    let parent = lab
        .store
        .task(&lab.workspace, &task)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(parent.status, TaskState::InProgress);
    assert_eq!(parent.progress, 20.0 + 0.75 * 50.0);
    let failed = Cause::Finish {
        task: trial.clone(),
        fence,
        end: EndOfRun {
            outcome: Outcome::Failed {
                reason: "once".into(),
            },
            reports: Vec::new(),
        },
    };
    let over = step(&task, &place, vec![TrialChange::Over(0)]);
    let (place, _) = take_for(&lab, failed, over).await.unwrap();
    let claimed = lab.store.claim_task(&lab.workspace, &lab.agent, NOW, UNTIL);
    assert_eq!(
        claimed.await.unwrap(),
        None,
        "trials come through their experiment"
    );
    let again = take(&lab, step(&task, &place, vec![start(&lab, &task, 2)])).await;
    let (_, second) = again.unwrap();
    assert_eq!(second, Some((trial.clone(), fence + 1)));
    let of = lab
        .store
        .trial_of(&lab.workspace, &trial)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((of.experiment, of.number, of.attempt), (task, 0, 2));
}

async fn a_lost_trial_is_found_until_its_log_knows(lab: Lab) {
    let task = experiment(&lab, "search").await;
    let beginning = Place::default();
    let started = take(&lab, step(&task, &beginning, vec![start(&lab, &task, 1)])).await;
    let (place, _) = started.unwrap();
    assert_eq!(lab.store.lost_trials().await.unwrap(), []);
    lab.store
        .end_local_leases("interrupted: gone", NOW)
        .await
        .unwrap();
    let lost = lab.store.lost_trials().await.unwrap();
    assert_eq!(lost.len(), 1);
    assert!(lost[0].interrupted);
    assert_eq!(
        (lost[0].state, lost[0].reason.as_str()),
        (TaskState::Stopped, "interrupted: gone")
    );
    take(&lab, step(&task, &place, vec![TrialChange::Over(0)]))
        .await
        .unwrap();
    assert_eq!(lab.store.lost_trials().await.unwrap(), []);
}

async fn an_experiment_ends_with_the_models_of_its_trials(lab: Lab) {
    let task = experiment(&lab, "search").await;
    let beginning = Place::default();
    let started = take(&lab, step(&task, &beginning, vec![start(&lab, &task, 1)])).await;
    let (place, started) = started.unwrap();
    let (trial, fence) = started.unwrap();
    let running = crate::lab::Running {
        task: trial.clone(),
        fence,
    };
    let weights = lab.put(b"weights").await;
    lab.report(&running, 0, vec![crate::lab::model("best", 1, weights, 7)])
        .await;
    let finish = Cause::Finish {
        task: trial.clone(),
        fence,
        end: EndOfRun {
            outcome: completed(),
            reports: Vec::new(),
        },
    };
    let end = move |models: &BTreeMap<u64, u64>, asked: Option<String>| {
        assert_eq!(asked, None);
        let result: Map<String, Value> = Map::from_iter([("models".to_owned(), json!(models))]);
        ExperimentEnd {
            outcome: Outcome::Completed { result },
            message: "done".into(),
            result: None,
        }
    };
    let last = Step {
        end: Some(Box::new(end)),
        ..step(&task, &place, vec![TrialChange::Over(0)])
    };
    take_for(&lab, finish, last).await.unwrap();
    let ended = lab
        .store
        .task(&lab.workspace, &task)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (ended.status, ended.progress),
        (TaskState::Completed, 100.0)
    );
    let models = lab
        .store
        .models(&lab.workspace, Some(&trial))
        .await
        .unwrap();
    assert_eq!(models[0].name, format!("trial 0 of {task}"));
    assert_eq!(ended.result.unwrap()["models"], json!({"0": models[0].id}));
    assert_eq!(ended.models.output[0].model, models[0].id);
}

async fn a_trial_goes_on_from_what_it_reported_whatever_it_saves_since(lab: Lab) {
    let task = experiment(&lab, "search").await;
    let beginning = Place::default();
    let started = take(&lab, step(&task, &beginning, vec![start(&lab, &task, 1)])).await;
    let (mut place, started) = started.unwrap();
    let (trial, fence) = started.unwrap();
    let running = crate::lab::Running {
        task: trial.clone(),
        fence,
    };
    let (store, workspace) = (&lab.store, &lab.workspace);
    assert_eq!(
        store.checkpoint_of_trial(workspace, &trial).await.unwrap(),
        None
    );
    let (first, second) = (lab.put(b"first").await, lab.put(b"second").await);
    let saved = vec![crate::lab::model("best", 1, first, 5)];
    lab.report(&running, 0, saved).await;
    let saved = store.saved_model(workspace, &trial, "best").await.unwrap();
    let saved = saved.unwrap();
    assert_eq!((saved.iteration, saved.sha256), (1, first));
    assert_eq!(saved.metadata, [("a".to_owned(), "b".to_owned())]);

    // Of a file that nobody has, nothing is kept, and nothing fails.
    let unknown = Checkpoint {
        sha256: trainshed_core::Digest::of(b"unknown"),
        ..saved.clone()
    };
    for saved in [&saved, &unknown] {
        let reported = TrialChange::Checkpointed(Box::new(TrialCheckpoint {
            trial: 0,
            saved: saved.clone(),
        }));
        (place, _) = take(&lab, step(&task, &place, vec![reported]))
            .await
            .unwrap();
    }
    let newer = vec![crate::lab::model("best", 2, second, 6)];
    lab.report(&running, 1, newer).await;
    // A trial that is not there is no original, and gets no copy.
    let copied = |trial, from| TrialChange::Copied { trial, from };
    take(&lab, step(&task, &place, vec![copied(0, 7), copied(7, 0)]))
        .await
        .unwrap();
    let all = GarbageRules {
        keep_ms: 0,
        keep_uploads_ms: 0,
    };
    store.collect_garbage(None, all, NOW).await.unwrap();
    assert_eq!(
        store.checkpoint_of_trial(workspace, &trial).await.unwrap(),
        Some(saved)
    );
    assert_eq!(lab.read(&first).await.unwrap(), b"first");
}

async fn a_task_that_is_deleted_takes_its_experiment_along(lab: Lab) {
    let task = experiment(&lab, "search").await;
    let beginning = Place::default();
    let started = take(&lab, step(&task, &beginning, vec![start(&lab, &task, 1)])).await;
    let (_, started) = started.unwrap();
    lab.store
        .delete_task(&lab.workspace, &task, true)
        .await
        .unwrap();
    let end = lab.store.end_of_log(&lab.workspace, &task).await.unwrap();
    assert_eq!(end, beginning);
    let (trial, _) = started.unwrap();
    assert_eq!(
        lab.store.trial_of(&lab.workspace, &trial).await.unwrap(),
        None
    );
}

async fn the_answer_to_a_request_is_kept_with_the_step_that_it_wanted(lab: Lab) {
    let (store, workspace) = (&lab.store, &lab.workspace);
    let begin = async |key: &str| {
        let begun = store.begin_request(workspace, key, "a digest", NOW).await;
        begun.unwrap()
    };
    let task = experiment(&lab, "search").await;
    let answered = |after: &Place, answer: &str| Step {
        answer: Some(NotedAnswer::Json(answer.to_owned())),
        ..step(&task, after, Vec::new())
    };
    for key in ["first", "second", "late"] {
        assert_eq!(begin(key).await, KeyedRequest::New);
    }
    let first = answered(&Place::default(), r#"{"trial":1}"#);
    let second = answered(&first.behind.clone(), r#"{"trial":2}"#);
    let late = answered(&Place::default(), r#"{"trial":3}"#);
    let end = second.behind.clone();
    // They wait together, and each is noted with its own request.
    let first = within_request(workspace, "first", queue(&lab, Cause::Alone, first)).await;
    let second = within_request(workspace, "second", queue(&lab, Cause::Alone, second)).await;
    let late = within_request(workspace, "late", queue(&lab, Cause::Alone, late)).await;
    first.written().await.unwrap();
    second.written().await.unwrap();
    assert!(matches!(late.written().await, Err(StepError::Overtaken)));

    let body = async |key: &str| match begin(key).await {
        KeyedRequest::Answered(answer) => {
            assert_eq!(answer.status, 200);
            assert_eq!(answer.headers[0].1, "application/json");
            String::from_utf8(answer.body).unwrap()
        }
        other => format!("{other:?}"),
    };
    assert_eq!(body("first").await, r#"{"trial":1}"#);
    assert_eq!(body("second").await, r#"{"trial":2}"#);
    assert_eq!(body("late").await, "Begun", "nothing was done");
    // A step that nobody with a key wants is noted with nothing.
    let alone = answered(&end, r#"{"trial":4}"#);
    take(&lab, alone).await.unwrap();
    assert_eq!(body("late").await, "Begun");
}

async fn a_run_records_the_world_of_its_component(lab: Lab) {
    let component = lab.put(b"component").await;
    let manifest = Manifest {
        name: "mlp".into(),
        version: "0.1.0".into(),
        category: Category::Other,
        summary: String::new(),
        actions: Vec::new(),
        environment: Vec::new(),
        contract: "trainshed:plugin@0.1.0".into(),
    };
    let installed = lab
        .store
        .insert_plugin(&lab.workspace, &component, &manifest, NOW);
    installed.await.unwrap();
    let world = Some("trainshed:plugin/train-plugin@0.1.0".to_owned());

    let running = lab.run("alone").await;
    assert_eq!(lab.view(&running.task).await.run.world, world);

    let search = experiment(&lab, "search").await;
    let mut place = Place::default();
    for attempt in 1..=2 {
        let started = step(&search, &place, vec![start(&lab, &search, attempt)]);
        let (behind, trial) = take(&lab, started).await.unwrap();
        let (trial, _) = trial.unwrap();
        assert_eq!(lab.view(&trial).await.run.world, world, "attempt {attempt}");
        place = behind;
    }
}
