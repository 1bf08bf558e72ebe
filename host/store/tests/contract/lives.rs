//! The life of tasks that people and other programs move.

use expect_test::expect;
use futures::future::join_all;
use serde_json::json;
use trainshed_core::TaskId;
use trainshed_core::draft::CloneRequest;
use trainshed_core::parameter::Parameter;
use trainshed_core::task::{TaskState, Verb};
use trainshed_store::{ChangeError, ConsoleQuery, LeaseError, Move, NewTask, QueueName};

use crate::lab::{Lab, NOW, artifact, completed, line, loss, model, new_task};

store_contract! {
    every_pair_of_states_follows_the_matrix,
    force_lifts_every_rule_but_that_of_published_tasks,
    of_fifty_starts_one_changes_the_task,
    a_queue_is_named_once_and_hands_out_in_order,
    a_task_of_an_agent_is_asked_to_stop_and_one_elsewhere_stops_at_once,
    a_reset_leaves_what_was_given_and_nothing_that_was_made,
    a_published_task_and_its_models_stay_as_they_are,
    a_deleted_task_leaves_its_children_and_models_in_use,
    a_silent_task_without_an_agent_is_stopped,
}

async fn every_pair_of_states_follows_the_matrix(lab: Lab) {
    let mut table = String::new();
    for from in TaskState::ALL {
        for verb in Verb::ALL {
            let task = lab.task_in(from).await;
            let before = lab.view(&task).await;
            let moved = lab.act(&task, verb).await;
            let target = verb.target();
            let allowed = match verb {
                Verb::Dequeue => from == TaskState::Queued,
                _ => from.may_become(target),
            };
            match moved {
                Ok(changed) => {
                    assert!(allowed, "{from} {}", verb.as_str());
                    let is_reset = verb == Verb::Reset;
                    assert_eq!(changed, from != target || is_reset, "{from} {target}");
                    assert_eq!(lab.state(&task).await, target);
                    table += if changed { "x" } else { "." };
                }
                Err(ChangeError::State {
                    state,
                    verb: wanted,
                    ..
                }) => {
                    assert!(!allowed, "{from} {}", verb.as_str());
                    assert_eq!((state, wanted), (from, verb));
                    assert_eq!(lab.view(&task).await, before, "nothing changed");
                    table += "-";
                }
                Err(other) => panic!("{other}"),
            }
        }
        table += &format!(" {from}\n");
    }
    // Columns: enqueue dequeue start stop complete fail publish reset.
    expect![[r#"
        x-x----x created
        .xxx---x queued
        --.xxx-x in_progress
        --x-.-xx completed
        x--x-.xx failed
        x-x.xxxx stopped
        ------.- published
    "#]]
    .assert_eq(&table);
}

async fn force_lifts_every_rule_but_that_of_published_tasks(lab: Lab) {
    for from in TaskState::ALL {
        for verb in Verb::ALL {
            let task = lab.task_in(from).await;
            let moved = lab.act_on(&task, Move::new(verb).forced()).await;
            let allowed = match (from, verb) {
                (TaskState::Published, verb) => verb == Verb::Publish,
                (from, Verb::Dequeue) => from == TaskState::Queued,
                _ => true,
            };
            assert_eq!(moved.is_ok(), allowed, "{from} {}", verb.as_str());
        }
    }
}

async fn of_fifty_starts_one_changes_the_task(lab: Lab) {
    let task = lab.task_in(TaskState::Queued).await;
    let starts = (0..50).map(|_| lab.act(&task, Verb::Start));
    let changed = join_all(starts).await;
    assert_eq!(
        changed
            .into_iter()
            .filter(|changed| *changed.as_ref().unwrap())
            .count(),
        1
    );
    assert_eq!(lab.state(&task).await, TaskState::InProgress);
}

async fn a_queue_is_named_once_and_hands_out_in_order(lab: Lab) {
    let first = lab.queue("first").await;
    let second = lab.queue("second").await;
    lab.act(&first, Verb::Dequeue).await.unwrap();
    let draft = lab.view(&first).await;
    assert_eq!((draft.status, draft.queue), (TaskState::Created, None));
    lab.act(&first, Verb::Enqueue).await.unwrap();
    assert_eq!(lab.view(&first).await.queue.as_deref(), Some("default"));
    assert_eq!(
        lab.claim().await.unwrap().task,
        second,
        "the other is last in the queue now"
    );
    assert_eq!(lab.claim().await.unwrap().task, first);

    let task = lab.draft("third").await;
    let waiting = lab.queue("fourth").await;
    for queue in [QueueName::Name("nowhere"), QueueName::Id("default")] {
        let wanted = Move::new(Verb::Enqueue).into_queue(queue);
        // Also of one that waits already.
        for task in [&task, &waiting] {
            let moved = lab.store.move_task(&lab.workspace, task, &wanted, NOW);
            let refused = moved.await;
            assert!(matches!(refused, Err(ChangeError::UnknownQueue(_))));
        }
    }
    let twin = lab
        .insert(NewTask {
            queued: false,
            ..new_task("first", "default")
        })
        .await;
    let taken = lab.act(&twin, Verb::Enqueue).await;
    assert!(matches!(taken, Err(ChangeError::NameTaken { task, .. }) if task == first));
}

async fn a_task_of_an_agent_is_asked_to_stop_and_one_elsewhere_stops_at_once(lab: Lab) {
    let running = lab.run("of an agent").await;
    assert!(!lab.act(&running.task, Verb::Stop).await.unwrap());
    let asked = lab.view(&running.task).await;
    assert_eq!(
        (asked.status, asked.stopping),
        (TaskState::InProgress, true)
    );

    let elsewhere = lab.task_in(TaskState::InProgress).await;
    let stop = Move {
        reason: "enough",
        message: "said the user",
        ..Move::new(Verb::Stop)
    };
    assert!(lab.act_on(&elsewhere, stop).await.unwrap());
    let stopped = lab.view(&elsewhere).await;
    assert_eq!(stopped.status, TaskState::Stopped);
    assert_eq!(
        (
            stopped.status_reason.as_str(),
            stopped.status_message.as_str()
        ),
        ("enough", "said the user")
    );

    // Ended by force, the task is the agent's no longer.
    lab.act_on(&running.task, Move::new(Verb::Fail).forced())
        .await
        .unwrap();
    let late = lab.finish(&running, completed()).await;
    assert!(matches!(late, Err(LeaseError::Stale { .. })));
    assert_eq!(lab.state(&running.task).await, TaskState::Failed);
}

async fn a_reset_leaves_what_was_given_and_nothing_that_was_made(lab: Lab) {
    let running = lab.run("a run").await;
    let task = &running.task;
    let weights = lab.put(b"weights").await;
    let reports = vec![loss(7, 0.5), line("hello"), model("best", 7, weights, 7)];
    lab.report(&running, 0, reports).await;
    lab.finish(&running, completed()).await.unwrap();
    let notes = artifact("notes", weights);
    let put = lab.store.put_artifact(&lab.workspace, task, &notes, NOW);
    assert!(put.await.unwrap());
    let before = lab.view(task).await;
    assert_eq!((before.last_iteration, before.models.output.len()), (7, 1));

    assert!(lab.act(task, Verb::Reset).await.unwrap());

    let after = lab.view(task).await;
    assert_eq!(
        (
            after.status,
            after.last_iteration,
            after.result,
            after.progress
        ),
        (TaskState::Created, 0, None, 0.0)
    );
    assert_eq!(
        (after.started, after.completed, after.agent),
        (None, None, None)
    );
    assert_eq!(after.models.output, []);
    assert_eq!(lab.store.series(&lab.workspace, task).await.unwrap(), []);
    assert_eq!(lab.curve(task, "train", "loss").await, "");
    let console = lab
        .store
        .console(&lab.workspace, task, &ConsoleQuery::last(10))
        .await
        .unwrap();
    assert_eq!(console.total, 0);
    assert_eq!(
        lab.store
            .artifacts(&lab.workspace, task, true)
            .await
            .unwrap(),
        []
    );
    assert_eq!(lab.store.models(&lab.workspace, None).await.unwrap(), []);
    assert_eq!(after.params, before.params);
    assert_eq!(
        lab.store
            .parameters(&lab.workspace, task)
            .await
            .unwrap()
            .len(),
        1
    );
    lab.act(task, Verb::Enqueue).await.unwrap();
    let again = lab.claim().await.unwrap();
    assert!(again.fence > running.fence);
    lab.report(&again, 0, vec![loss(0, 1.0)]).await;
    assert_eq!(lab.curve(task, "train", "loss").await, "0:1");
}

async fn a_published_task_and_its_models_stay_as_they_are(lab: Lab) {
    let running = lab.run("a run").await;
    let task = &running.task;
    let weights = lab.put(b"weights").await;
    lab.report(&running, 0, vec![model("best", 1, weights, 7)])
        .await;
    lab.finish(&running, completed()).await.unwrap();
    lab.act(task, Verb::Publish).await.unwrap();
    let published = lab.view(task).await;
    assert_eq!(published.published, Some(NOW));
    for edit in [
        json!({"name": "another"}),
        json!({"comment": "x", "name": "another"}),
        json!({"tags": ["x"], "system_tags": ["x"]}),
        json!({"type": "testing", "force": true}),
    ] {
        let refused = lab.edit(task, edit).await;
        assert!(matches!(refused, Err(ChangeError::NotEditable { .. })));
    }
    let report = lab.try_report(&running, 1, vec![loss(0, 1.0)]).await;
    assert!(matches!(report, Err(LeaseError::Stale { .. })));
    let notes = artifact("notes", weights);
    let put = lab.store.put_artifact(&lab.workspace, task, &notes, NOW);
    assert!(!put.await.unwrap());
    let delete = lab.store.delete_task(&lab.workspace, task, false).await;
    assert!(matches!(delete, Err(ChangeError::NotDeletable { .. })));
    assert_eq!(lab.view(task).await, published);
    let note = [Parameter::new("properties", "note", json!("good"))];
    lab.store
        .set_properties(&lab.workspace, task, &note, NOW)
        .await
        .unwrap();
    lab.store
        .archive_task(&lab.workspace, task, true, NOW)
        .await
        .unwrap();
    assert_eq!(lab.view(task).await.system_tags, ["archived"]);
    let clone = lab.clone(task, CloneRequest::default()).await;
    assert_eq!(lab.state(&clone).await, TaskState::Created);
}

async fn a_deleted_task_leaves_its_children_and_models_in_use(lab: Lab) {
    let running = lab.run("a run").await;
    let task = &running.task;
    let (used, unused) = (lab.put(b"used").await, lab.put(b"unused").await);
    let reports = vec![
        model("used", 1, used, 4),
        model("unused", 1, unused, 6),
        loss(0, 1.0),
    ];
    lab.report(&running, 0, reports).await;
    let refused = lab.store.delete_task(&lab.workspace, task, false).await;
    assert!(matches!(
        refused,
        Err(ChangeError::NotDeletable {
            state: TaskState::InProgress,
            ..
        })
    ));
    lab.finish(&running, completed()).await.unwrap();
    let models = lab.store.models(&lab.workspace, Some(task)).await.unwrap();
    let used = models.iter().find(|model| model.name == "used").unwrap().id;
    let mut follower = new_task("follower", "default");
    follower.work.as_mut().unwrap().checkpoint = Some(used);
    let follower = lab.insert(follower).await;
    let child = lab.clone(task, CloneRequest::default()).await;

    let refused = lab.store.delete_task(&lab.workspace, task, false).await;
    assert!(matches!(refused, Err(ChangeError::NotDeletable { .. })));
    lab.store
        .archive_task(&lab.workspace, task, true, NOW)
        .await
        .unwrap();
    lab.store
        .delete_task(&lab.workspace, task, false)
        .await
        .unwrap();

    assert_eq!(lab.store.task(&lab.workspace, task).await.unwrap(), None);
    assert_eq!(lab.view(&child).await.parent, None);
    let left = lab.store.models(&lab.workspace, None).await.unwrap();
    assert_eq!(
        left.iter().map(|model| model.id).collect::<Vec<_>>(),
        [used]
    );
    assert_eq!(left[0].task, None);
    assert_eq!(lab.view(&follower).await.models.input[0].model, used);
    let gone = lab.store.delete_task(&lab.workspace, task, true).await;
    assert!(matches!(gone, Err(ChangeError::UnknownTask(_))));
    let waiting = lab.store.delete_task(&lab.workspace, &follower, true).await;
    waiting.unwrap();
    assert!(
        lab.claim().await.is_none(),
        "its place in the queue is gone"
    );
}

async fn a_silent_task_without_an_agent_is_stopped(lab: Lab) {
    let (silent, pinged) = (
        lab.task_in(TaskState::InProgress).await,
        lab.task_in(TaskState::InProgress).await,
    );
    let leased = lab.run("of an agent").await;
    let later = NOW.plus_millis(1000);
    assert!(
        lab.store
            .ping_task(&lab.workspace, &pinged, later)
            .await
            .unwrap()
    );
    let draft = lab.draft("a draft").await;
    assert!(
        !lab.store
            .ping_task(&lab.workspace, &draft, later)
            .await
            .unwrap()
    );
    let ended = lab
        .store
        .end_silent_tasks(later, "silent", later)
        .await
        .unwrap();
    let ended: Vec<&TaskId> = ended.iter().map(|ended| &ended.task).collect();
    assert_eq!(ended, [&silent]);
    assert_eq!(lab.view(&silent).await.status_reason, "silent");
    for alive in [&pinged, &leased.task] {
        assert_eq!(lab.state(alive).await, TaskState::InProgress);
    }
    assert_eq!(
        lab.store
            .end_silent_tasks(later, "silent", later)
            .await
            .unwrap(),
        []
    );
}
