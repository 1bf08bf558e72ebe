//! The life of tasks that people and other programs move, and of projects, whichever database
//! they are on.

use expect_test::expect;
use futures::future::join_all;
use serde_json::json;
use trainshed_core::artifact::{ArtifactContent, ArtifactType, NewArtifact};
use trainshed_core::draft::{CloneRequest, Container, Script, TaskEdit};
use trainshed_core::model::{Keep, ScoreMode, Snapshot};
use trainshed_core::parameter::{Parameter, flat_view};
use trainshed_core::report::{Real, Report};
use trainshed_core::task::{TaskState, Verb};
use trainshed_core::view::{NewProject, ProjectEdit, ProjectQuery, TaskView, entity_tag};
use trainshed_core::{ProjectId, TaskId};
use trainshed_store::{
    ChangeError, ConsoleQuery, ContinueError, GarbageRules, KeyedRequest, LeaseError, Move,
    NewConfiguration, NewTask, ProjectError, QueueName, StoredAnswer, WriteMode,
};

use crate::lab::{self, Lab, NOW, artifact, completed, draft, line, loss, model, new_task};

store_contract! {
    every_pair_of_states_follows_the_matrix,
    force_lifts_every_rule_but_that_of_published_tasks,
    of_fifty_starts_one_changes_the_task,
    a_queue_is_named_once_and_hands_out_in_order,
    a_task_of_an_agent_is_asked_to_stop_and_one_elsewhere_stops_at_once,
    a_reset_leaves_what_was_given_and_nothing_that_was_made,
    a_clone_is_an_editable_copy_without_outputs,
    a_published_task_and_its_models_stay_as_they_are,
    a_deleted_task_leaves_its_children_and_models_in_use,
    only_a_draft_is_edited_unless_forced,
    an_edit_of_something_older_is_refused,
    parameters_are_replaced_merged_and_given_to_the_plugin,
    configuration_is_kept_byte_for_byte,
    a_name_leads_to_the_task_that_changed_last,
    a_silent_task_without_an_agent_is_stopped,
    projects_are_renamed_moved_merged_and_deleted,
    a_request_with_a_key_is_answered_once,
    a_run_by_hand_takes_the_place_of_the_last_one_that_left_nothing,
    a_task_that_ended_is_continued_behind_its_last_iteration,
    an_artifact_that_is_put_again_is_a_version_only_when_it_has_changed,
    a_lost_lease_puts_no_artifact,
    of_snapshots_the_best_and_the_last_stay_and_those_in_use,
}

impl Lab {
    async fn insert(&self, task: NewTask) -> TaskId {
        let inserted = self.store.insert_task(&self.workspace, &task, NOW).await;
        inserted.unwrap();
        task.id
    }

    async fn draft(&self, name: &str) -> TaskId {
        self.insert(draft(name, "default")).await
    }

    async fn act(&self, task: &TaskId, verb: Verb) -> Result<bool, ChangeError> {
        self.act_on(task, Move::new(verb)).await
    }

    async fn act_on(&self, task: &TaskId, wanted: Move<'_>) -> Result<bool, ChangeError> {
        let wanted = match wanted.verb {
            Verb::Enqueue => wanted.into_queue(QueueName::Name("default")),
            _ => wanted,
        };
        self.store
            .move_task(&self.workspace, task, &wanted, NOW)
            .await
    }

    async fn view(&self, task: &TaskId) -> TaskView {
        let task = self.store.task(&self.workspace, task).await.unwrap();
        task.unwrap()
    }

    async fn edit(&self, task: &TaskId, edit: serde_json::Value) -> Result<(), ChangeError> {
        let edit: TaskEdit = serde_json::from_value(edit).unwrap();
        self.store
            .edit_task(&self.workspace, task, &edit, None, None, NOW)
            .await
    }

    async fn clone(&self, task: &TaskId, request: CloneRequest) -> TaskId {
        let clone = TaskId::from_u128(uuid::Uuid::now_v7().as_u128());
        self.store
            .clone_task(&self.workspace, task, &clone, "a clone", &request, NOW)
            .await
            .unwrap();
        clone
    }

    /// A draft that has been moved to `state`.
    async fn task_in(&self, state: TaskState) -> TaskId {
        let task = self.draft("a task").await;
        let verb = match state {
            TaskState::Created => return task,
            TaskState::Queued => Verb::Enqueue,
            TaskState::InProgress => Verb::Start,
            TaskState::Completed => Verb::Complete,
            TaskState::Failed => Verb::Fail,
            TaskState::Stopped => Verb::Stop,
            TaskState::Published => Verb::Publish,
        };
        self.act_on(&task, Move::new(verb).forced()).await.unwrap();
        assert_eq!(self.state(&task).await, state);
        task
    }

    async fn project_id(&self, path: &str) -> ProjectId {
        let project = self.store.project_at(&self.workspace, path).await.unwrap();
        project.unwrap().id
    }

    /// Paths and numbers of tasks of all projects.
    async fn projects(&self) -> String {
        let query = ProjectQuery {
            children: true,
            limit: 100,
            ..ProjectQuery::default()
        };
        let page = self.store.projects(&self.workspace, &query).await.unwrap();
        let text = |project: &trainshed_core::view::ProjectView| {
            format!("{}:{}", project.name, project.task_count)
        };
        page.items.iter().map(text).collect::<Vec<_>>().join(" ")
    }
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
    for queue in [QueueName::Name("nowhere"), QueueName::Id("default")] {
        let wanted = Move::new(Verb::Enqueue).into_queue(queue);
        let refused = lab
            .store
            .move_task(&lab.workspace, &task, &wanted, NOW)
            .await;
        assert!(matches!(refused, Err(ChangeError::UnknownQueue(_))));
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

async fn a_clone_is_an_editable_copy_without_outputs(lab: Lab) {
    let original = lab
        .insert(NewTask {
            comment: "what it is".into(),
            system_tags: vec!["development".into(), "hidden".into()],
            script: Some(Script {
                requirements: Some(json!("numpy==2.1\n# pinned\n")),
                ..Script::default()
            }),
            container: Some(Container {
                image: "ubuntu".into(),
                ..Container::default()
            }),
            configuration: vec![NewConfiguration {
                name: "General".into(),
                kind: "yaml".into(),
                description: String::new(),
                content: b"a: 1 # one\r\n".to_vec(),
            }],
            parameters: vec![
                Parameter::new("General", "lr", json!(0.1)),
                Parameter::new("Args", "none", json!(null)),
                Parameter::new("properties", "note", json!("x")),
            ],
            ..new_task("original", "vision")
        })
        .await;
    let running = lab.claim().await.unwrap();
    lab.report(&running, 0, vec![loss(3, 0.5)]).await;
    lab.finish(&running, completed()).await.unwrap();
    lab.store
        .archive_task(&lab.workspace, &original, true, NOW)
        .await
        .unwrap();

    let clone = lab.clone(&original, CloneRequest::default()).await;
    let (from, to) = (lab.view(&original).await, lab.view(&clone).await);
    assert_eq!(
        (to.status, to.name.as_str()),
        (TaskState::Created, "a clone")
    );
    assert_eq!(
        (to.parent.as_ref(), &to.project),
        (Some(&original), &from.project)
    );
    assert_eq!((&to.comment, &to.tags), (&from.comment, &from.tags));
    assert_eq!(to.system_tags, ["hidden"]);
    assert_eq!((&to.script, &to.container), (&from.script, &from.container));
    assert_eq!(
        (to.seed, to.dataset, &to.plugin),
        (from.seed, from.dataset, &from.plugin)
    );
    assert_eq!((to.last_iteration, to.result), (0, None));
    assert_eq!(to.params["name"], "a clone");
    let parameters = lab.store.parameters(&lab.workspace, &clone).await.unwrap();
    assert_eq!(
        parameters,
        lab.store
            .parameters(&lab.workspace, &original)
            .await
            .unwrap()
    );
    assert_eq!(parameters[0].value, json!(null));
    assert_eq!(
        lab.store
            .properties(&lab.workspace, &clone)
            .await
            .unwrap()
            .len(),
        1
    );
    let content = lab
        .store
        .configuration(&lab.workspace, &clone, "General")
        .await
        .unwrap();
    assert_eq!(content.unwrap(), b"a: 1 # one\r\n");
    assert_eq!(lab.store.series(&lab.workspace, &clone).await.unwrap(), []);

    let request = CloneRequest {
        comment: Some("another".into()),
        project: Some("other/place".into()),
        tags: Some(vec!["z".into()]),
        ..CloneRequest::default()
    };
    let second = lab.view(&lab.clone(&clone, request).await).await;
    assert_eq!(
        (second.project.as_str(), second.comment.as_str()),
        ("other/place", "another")
    );
    assert_eq!(
        (second.parent, second.tags),
        (Some(clone.clone()), vec!["z".to_owned()])
    );
    lab.act(&clone, Verb::Enqueue).await.unwrap();
    assert_eq!(
        lab.claim().await.unwrap().task,
        clone,
        "an agent runs it like the original"
    );
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
        json!({"comment": "x"}),
        json!({"tags": ["x"]}),
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

async fn only_a_draft_is_edited_unless_forced(lab: Lab) {
    let script = json!({"script": {"repository": "https://x/y.git", "requirements": "a\n b\r\n"}});
    for state in TaskState::ALL {
        let task = lab.task_in(state).await;
        let before = lab.view(&task).await;
        let edited = lab.edit(&task, script.clone()).await;
        assert_eq!(edited.is_ok(), state == TaskState::Created, "{state}");
        if state != TaskState::Created {
            assert_eq!(lab.view(&task).await, before, "nothing changed");
        }
        let mut forced = script.clone();
        forced["force"] = json!(true);
        let open = [TaskState::Created, TaskState::Queued, TaskState::InProgress];
        assert_eq!(
            lab.edit(&task, forced).await.is_ok(),
            open.contains(&state),
            "{state}"
        );
        let named = json!({"name": "another name", "comment": "c", "tags": ["t"],
                           "system_tags": ["development"]});
        let named = lab.edit(&task, named).await;
        assert_eq!(named.is_ok(), state != TaskState::Published, "{state}");
        let note = [Parameter::new("properties", "note", json!(state.as_str()))];
        lab.store
            .set_properties(&lab.workspace, &task, &note, NOW)
            .await
            .unwrap();
    }
    let task = lab.draft("a task").await;
    lab.edit(&task, script).await.unwrap();
    let view = lab.view(&task).await;
    let requirements = view.script.unwrap().requirements.unwrap();
    assert_eq!(requirements, json!("a\n b\r\n"));
    lab.edit(
        &task,
        json!({"script": null, "parent": null, "runtime": {"k": 1}}),
    )
    .await
    .unwrap();
    let view = lab.view(&task).await;
    assert_eq!((view.script, view.runtime["k"].clone()), (None, json!(1)));
    let orphan = lab
        .edit(&task, json!({"parent": format!("{:032x}", 9)}))
        .await;
    assert!(matches!(orphan, Err(ChangeError::UnknownParent(_))));
}

async fn an_edit_of_something_older_is_refused(lab: Lab) {
    let task = lab.draft("a task").await;
    let tag = entity_tag(&serde_json::to_vec(&lab.view(&task).await).unwrap());
    let edit = TaskEdit {
        comment: Some("first".into()),
        ..TaskEdit::default()
    };
    let write = |tag: &str| {
        let (lab, task, edit, tag) = (&lab, &task, &edit, tag.to_owned());
        async move {
            lab.store
                .edit_task(&lab.workspace, task, edit, None, Some(&tag), NOW)
                .await
        }
    };
    write(&tag).await.unwrap();
    assert!(matches!(
        write(&tag).await,
        Err(ChangeError::ChangedSince { .. })
    ));
    write("*").await.unwrap();
}

async fn parameters_are_replaced_merged_and_given_to_the_plugin(lab: Lab) {
    let task = lab
        .insert(NewTask {
            queued: false,
            ..new_task("a task", "default")
        })
        .await;
    let write = async |parameters: &[Parameter], mode| {
        lab.store
            .set_parameters(&lab.workspace, &task, parameters, mode, false, NOW)
            .await
    };
    let note = [Parameter::new("properties", "note", json!("x"))];
    lab.store
        .set_properties(&lab.workspace, &task, &note, NOW)
        .await
        .unwrap();
    let added = [
        Parameter::new("General", "model/hidden", json!([8, 8])),
        Parameter::new("args", "x", json!(1)),
        Parameter::new("Args", "x", json!(null)),
    ];
    write(&added, WriteMode::Merge).await.unwrap();
    let shown = async || {
        let parameters = lab.store.parameters(&lab.workspace, &task).await.unwrap();
        serde_json::Value::Object(flat_view(&parameters)).to_string()
    };
    expect![[r#"{"Args/x":null,"General/lr":0.1,"General/model/hidden":[8,8],"args/x":1}"#]]
        .assert_eq(&shown().await);
    let params = lab.view(&task).await.params;
    assert_eq!(
        params["hyperparameter"],
        json!({"lr": 0.1, "model": {"hidden": [8, 8]}})
    );
    write(
        &[Parameter::new("General", "lr", json!(1))],
        WriteMode::Replace,
    )
    .await
    .unwrap();
    assert_eq!(shown().await, r#"{"General/lr":1}"#);
    assert_eq!(
        lab.store
            .properties(&lab.workspace, &task)
            .await
            .unwrap()
            .len(),
        1
    );
    let names = [
        ("General".to_owned(), "lr".to_owned()),
        ("General".to_owned(), "no".to_owned()),
    ];
    let deleted = lab
        .store
        .delete_parameters(&lab.workspace, &task, &names, false, NOW)
        .await;
    assert_eq!(deleted.unwrap(), 1);
    write(
        &[Parameter::new("General", "lr", json!(2))],
        WriteMode::Merge,
    )
    .await
    .unwrap();
    lab.act(&task, Verb::Enqueue).await.unwrap();
    let refused = write(
        &[Parameter::new("General", "lr", json!(3))],
        WriteMode::Merge,
    )
    .await;
    assert!(matches!(refused, Err(ChangeError::NotEditable { .. })));
    let claimed = lab
        .store
        .claim_task(&lab.workspace, &lab.agent, NOW, lab::UNTIL)
        .await;
    assert_eq!(json!(claimed.unwrap().unwrap().settings), json!({"lr": 2}));
    assert!(
        lab.store
            .delete_property(&lab.workspace, &task, "note", NOW)
            .await
            .unwrap()
    );
    assert!(
        !lab.store
            .delete_property(&lab.workspace, &task, "note", NOW)
            .await
            .unwrap()
    );
}

async fn configuration_is_kept_byte_for_byte(lab: Lab) {
    let task = lab.draft("a task").await;
    let content: Vec<u8> = (0..=255).collect();
    let configuration = NewConfiguration {
        name: "General".into(),
        kind: "yaml".into(),
        description: "d".into(),
        content: content.clone(),
    };
    let put = |force| {
        let (lab, task, configuration) = (&lab, &task, &configuration);
        async move {
            lab.store
                .put_configuration(&lab.workspace, task, configuration, force, NOW)
                .await
        }
    };
    put(false).await.unwrap();
    put(false).await.unwrap();
    let stored = lab
        .store
        .configuration(&lab.workspace, &task, "General")
        .await
        .unwrap();
    assert_eq!(stored.unwrap(), content);
    let listed = lab
        .store
        .configurations(&lab.workspace, &task)
        .await
        .unwrap();
    assert_eq!(
        (listed.len(), listed[0].size_bytes, listed[0].kind.as_str()),
        (1, 256, "yaml")
    );
    lab.act(&task, Verb::Start).await.unwrap();
    assert!(matches!(
        put(false).await,
        Err(ChangeError::NotEditable { .. })
    ));
    put(true).await.unwrap();
    let delete = |force| {
        lab.store
            .delete_configuration(&lab.workspace, &task, "General", force, NOW)
    };
    assert!(delete(false).await.is_err());
    assert!(delete(true).await.unwrap());
    assert!(!delete(true).await.unwrap());
}

async fn a_name_leads_to_the_task_that_changed_last(lab: Lab) {
    let older = lab.insert(draft("twin", "vision")).await;
    let newer = lab.insert(draft("twin", "vision")).await;
    lab.insert(draft("twin", "vision/below")).await;
    let found = async || {
        let found = lab
            .store
            .task_named(&lab.workspace, "vision", "twin")
            .await
            .unwrap();
        found.map(|task| task.id)
    };
    assert_eq!(found().await.as_ref(), Some(&newer));
    let later = NOW.plus_millis(5);
    let note = [Parameter::new("properties", "note", json!("x"))];
    lab.store
        .set_properties(&lab.workspace, &older, &note, later)
        .await
        .unwrap();
    assert_eq!(found().await.as_ref(), Some(&older));
    lab.store
        .archive_task(&lab.workspace, &older, true, later)
        .await
        .unwrap();
    assert_eq!(
        found().await.as_ref(),
        Some(&newer),
        "what is not archived comes first"
    );
    lab.store
        .archive_task(&lab.workspace, &newer, true, NOW)
        .await
        .unwrap();
    assert_eq!(found().await.as_ref(), Some(&older));
    let none = lab
        .store
        .task_named(&lab.workspace, "vision", "Twin")
        .await
        .unwrap();
    assert_eq!(none, None);
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

async fn projects_are_renamed_moved_merged_and_deleted(lab: Lab) {
    let first = lab.insert(draft("one", "vision/digits")).await;
    lab.insert(draft("two", "vision/letters")).await;
    lab.insert(draft("three", "audio/digits")).await;
    assert_eq!(
        lab.projects().await,
        "audio:0 audio/digits:1 vision:0 vision/digits:1 vision/letters:1"
    );
    let new = NewProject {
        name: "vision".into(),
        ..NewProject::default()
    };
    let taken = lab.store.create_project(&lab.workspace, &new, NOW).await;
    assert!(matches!(taken, Err(ProjectError::Taken(_))));
    let new = NewProject {
        name: "empty/one".into(),
        description: "nothing".into(),
        tags: vec!["t".into()],
        ..NewProject::default()
    };
    let made = lab
        .store
        .create_project(&lab.workspace, &new, NOW)
        .await
        .unwrap();
    assert_eq!((made.description.as_str(), made.tags.len()), ("nothing", 1));

    let rename = |id: ProjectId, name: &str| {
        let edit = ProjectEdit {
            name: Some(name.to_owned()),
            ..ProjectEdit::default()
        };
        let lab = &lab;
        async move {
            lab.store
                .edit_project(&lab.workspace, &id, &edit, NOW)
                .await
        }
    };
    let vision = lab.project_id("vision").await;
    let moved = rename(vision.clone(), "work/images").await.unwrap();
    assert_eq!(
        (moved.id, moved.name.as_str()),
        (vision.clone(), "work/images")
    );
    assert_eq!(lab.view(&first).await.project, "work/images/digits");
    let inside = rename(vision.clone(), "work/images/below").await;
    assert!(matches!(inside, Err(ProjectError::Inside { .. })));
    let taken = rename(vision.clone(), "audio").await;
    assert!(matches!(taken, Err(ProjectError::Taken(_))));
    let long = rename(vision.clone(), &"x".repeat(199)).await;
    assert!(matches!(long, Err(ProjectError::TooLong(_))));

    let audio = lab.project_id("audio").await;
    let merged = lab
        .store
        .merge_projects(&lab.workspace, &audio, &vision, NOW)
        .await
        .unwrap();
    assert_eq!(merged.id, vision);
    assert_eq!(
        lab.projects().await,
        "empty:0 empty/one:0 work:0 work/images:0 work/images/digits:2 work/images/letters:1"
    );
    let query = ProjectQuery {
        parent: Some("work/images".into()),
        limit: 1,
        ..ProjectQuery::default()
    };
    let page = lab.store.projects(&lab.workspace, &query).await.unwrap();
    assert_eq!(
        (page.items.len(), page.next.as_deref()),
        (1, Some("work/images/digits"))
    );

    let work = lab.project_id("work").await;
    let empty = lab.project_id("empty").await;
    let delete = |id: &ProjectId, to: Option<&ProjectId>, force| {
        let (lab, id, to) = (&lab, id.clone(), to.cloned());
        async move {
            lab.store
                .delete_project(&lab.workspace, &id, to.as_ref(), force, NOW)
                .await
        }
    };
    let refused = delete(&work, None, false).await;
    assert!(matches!(
        refused,
        Err(ProjectError::NotEmpty { tasks: 3, .. })
    ));
    let digits = lab.project_id("work/images/digits").await;
    assert_eq!(delete(&digits, Some(&empty), false).await.unwrap().len(), 2);
    assert_eq!(lab.view(&first).await.project, "empty");
    assert_eq!(delete(&work, None, true).await.unwrap().len(), 1);
    assert_eq!(lab.projects().await, "empty:2 empty/one:0");
    let gone = delete(&work, None, true).await;
    assert!(matches!(gone, Err(ProjectError::Unknown(_))));
}

async fn a_request_with_a_key_is_answered_once(lab: Lab) {
    let begin = |request: &'static str, now| {
        let lab = &lab;
        async move {
            let begun = lab.store.begin_request(&lab.workspace, "key", request, now);
            begun.await.unwrap()
        }
    };
    assert_eq!(begin("a", NOW).await, KeyedRequest::New);
    assert_eq!(begin("a", NOW).await, KeyedRequest::Begun);
    assert_eq!(begin("b", NOW).await, KeyedRequest::Other);
    lab.store
        .end_request(&lab.workspace, "key", None)
        .await
        .unwrap();
    assert_eq!(
        begin("a", NOW).await,
        KeyedRequest::New,
        "what failed is tried again"
    );
    let minute = NOW.plus_millis(60_001);
    assert_eq!(
        begin("a", minute).await,
        KeyedRequest::New,
        "its server is gone"
    );
    let answer = StoredAnswer {
        status: 201,
        headers: vec![("location".into(), "/x".into())],
        body: vec![0, 1, 255],
    };
    let ended = lab.store.end_request(&lab.workspace, "key", Some(&answer));
    ended.await.unwrap();
    assert_eq!(begin("a", minute).await, KeyedRequest::Answered(answer));
    assert_eq!(begin("b", minute).await, KeyedRequest::Other);
    let day = minute.plus_millis(24 * 3_600_000 + 1);
    assert_eq!(lab.store.forget_answers(minute).await.unwrap(), 0);
    assert_eq!(
        begin("b", day).await,
        KeyedRequest::New,
        "answers are kept for a day"
    );
    let later = day.plus_millis(24 * 3_600_000 + 1);
    assert_eq!(lab.store.forget_answers(later).await.unwrap(), 1);
}

async fn a_run_by_hand_takes_the_place_of_the_last_one_that_left_nothing(lab: Lab) {
    let since = NOW;
    let run = async |creator: &str, now| {
        let task = NewTask {
            system_tags: vec!["development".into()],
            creator: creator.into(),
            ..new_task("by hand", "default")
        };
        let id = lab.store.reuse_task(&lab.workspace, &task, since, now);
        id.await.unwrap()
    };
    let end = async |has_artifact: bool| {
        let running = lab.claim().await.unwrap();
        lab.report(&running, 0, vec![loss(5, 0.5)]).await;
        if has_artifact {
            let content = lab.put(b"x").await;
            let file = artifact("notes", content);
            let put = lab
                .store
                .put_artifact(&lab.workspace, &running.task, &file, NOW);
            assert!(put.await.unwrap());
        }
        lab.finish(&running, completed()).await.unwrap();
        running
    };
    let first = run("here", NOW).await;
    let waiting = new_task("by hand", "default");
    let twice = lab
        .store
        .reuse_task(&lab.workspace, &waiting, since, NOW)
        .await;
    assert!(twice.is_err(), "it waits");
    let running = end(false).await;
    let child = lab.clone(&first, CloneRequest::default()).await;

    assert_eq!(run("here", NOW).await, first, "the second run overwrites");
    let again = lab.view(&first).await;
    assert_eq!((again.status, again.last_iteration), (TaskState::Queued, 0));
    assert_eq!(lab.view(&child).await.parent, Some(first.clone()));
    let late = lab.try_report(&running, 9, vec![loss(9, 1.0)]).await;
    assert!(matches!(late, Err(LeaseError::Stale { .. })));
    let claimed = lab.claim().await.unwrap();
    assert!(claimed.fence > running.fence);
    lab.finish(&claimed, completed()).await.unwrap();

    let elsewhere = run("another machine", NOW).await;
    assert_ne!(elsewhere, first);
    end(false).await;
    assert_eq!(run("here", NOW).await, first);
    end(true).await;
    let fresh = run("here", NOW).await;
    assert_ne!(fresh, first, "the last one has an artifact");
    end(false).await;
    for (edit, what) in [
        (json!({"system_tags": []}), "not run by hand"),
        (
            json!({"system_tags": ["archived", "development"]}),
            "archived",
        ),
    ] {
        lab.edit(&fresh, edit).await.unwrap();
        let other = run("here", NOW).await;
        assert_ne!(other, fresh, "{what}");
        lab.act(&other, Verb::Dequeue).await.unwrap();
        lab.store
            .delete_task(&lab.workspace, &other, true)
            .await
            .unwrap();
    }
    let back = json!({"system_tags": ["development"]});
    lab.edit(&fresh, back).await.unwrap();
    let late = NewTask {
        creator: "here".into(),
        ..new_task("by hand", "default")
    };
    let later = NOW.plus_millis(1);
    let made = lab
        .store
        .reuse_task(&lab.workspace, &late, later, later)
        .await;
    assert_ne!(made.unwrap(), fresh, "beyond the window");
}

async fn a_task_that_ended_is_continued_behind_its_last_iteration(lab: Lab) {
    let running = lab.run("long").await;
    let task = &running.task;
    let weights = lab.put(b"weights").await;
    let reports = vec![loss(100, 0.5), line("one"), model("best", 100, weights, 7)];
    lab.report(&running, 0, reports).await;
    let next = new_task("long", "default");
    let go_on = async |initial| {
        lab.store
            .continue_task(&lab.workspace, task, &next, initial, NOW)
            .await
    };
    let refused = go_on(None).await;
    assert!(matches!(
        refused,
        Err(ContinueError::State {
            state: TaskState::InProgress,
            ..
        })
    ));
    lab.finish(&running, completed()).await.unwrap();

    go_on(None).await.unwrap();

    let view = lab.view(task).await;
    assert_eq!(
        (view.status, view.initial_iteration, view.last_iteration),
        (TaskState::Queued, 101, 100)
    );
    assert_eq!((view.result, view.progress), (None, 0.0));
    let second = lab.claim().await.unwrap();
    let reports = vec![loss(101, 0.4), line("two"), model("best", 101, weights, 7)];
    lab.report(&second, 0, reports).await;
    lab.finish(&second, completed()).await.unwrap();
    assert_eq!(lab.curve(task, "train", "loss").await, "100:0.5 101:0.4");
    let console = lab
        .store
        .console(&lab.workspace, task, &ConsoleQuery::last(9))
        .await;
    assert_eq!(console.unwrap().total, 2);
    let models = lab.view(task).await.models.output;
    let names: Vec<&str> = models.iter().map(|model| model.name.as_str()).collect();
    assert_eq!(names, ["best (model 1)", "best"], "the earlier one stays");
    go_on(Some(0)).await.unwrap();
    assert_eq!(lab.view(task).await.initial_iteration, 0);
    let unknown = TaskId::from_u128(7);
    let missing = lab
        .store
        .continue_task(&lab.workspace, &unknown, &next, None, NOW)
        .await;
    assert!(matches!(missing, Err(ContinueError::UnknownTask(_))));
}

async fn an_artifact_that_is_put_again_is_a_version_only_when_it_has_changed(lab: Lab) {
    let running = lab.run("a run").await;
    let one = artifact("notes", lab.put(b"one").await);
    let other = artifact("notes", lab.put(b"other").await);
    let noted = NewArtifact {
        display: vec![("unit".into(), "m".into())],
        ..other.clone()
    };
    let link = NewArtifact {
        content: ArtifactContent::Elsewhere("s3://bucket/notes".into()),
        kind: ArtifactType::Link,
        ..other.clone()
    };
    for file in [
        &one, &one, &other, &other, &noted, &noted, &link, &link, &one,
    ] {
        let (lease, until) = ((&running.task, running.fence), NOW.plus_millis(1000));
        let put = lab
            .store
            .put_leased_artifact(&lab.workspace, lease, file, until, NOW);
        assert!(put.await.unwrap());
        let again = lab
            .store
            .put_artifact(&lab.workspace, &running.task, file, NOW);
        assert!(again.await.unwrap());
    }
    let history = lab.store.artifacts(&lab.workspace, &running.task, true);
    let history: Vec<String> = history
        .await
        .unwrap()
        .iter()
        .map(|artifact| {
            let digest = artifact.sha256.map(|digest| digest.to_string());
            let place = digest.or(artifact.uri.clone()).unwrap();
            let former = artifact.replaced.is_some();
            let notes = artifact.display.len();
            format!("{} {} {notes} {former}", artifact.version, &place[..8])
        })
        .collect();
    expect![[r#"
        5 7692c3ad 0 false
        4 s3://buc 0 true
        3 d9298a10 1 true
        2 d9298a10 0 true
        1 7692c3ad 0 true"#]]
    .assert_eq(&history.join("\n"));
}

async fn a_lost_lease_puts_no_artifact(lab: Lab) {
    let running = lab.run("a run").await;
    let file = artifact("notes", lab.put(b"one").await);
    let put = async |fence| {
        let (lease, until) = ((&running.task, fence), NOW.plus_millis(1000));
        lab.store
            .put_leased_artifact(&lab.workspace, lease, &file, until, NOW)
            .await
    };
    let stale = put(running.fence - 1).await;
    assert!(matches!(stale, Err(LeaseError::Stale { .. })));
    lab.finish(&running, completed()).await.unwrap();
    let late = put(running.fence).await;
    assert!(matches!(late, Err(LeaseError::Stale { .. })));
    let kept = lab.store.artifacts(&lab.workspace, &running.task, true);
    assert_eq!(kept.await.unwrap(), []);
}

async fn of_snapshots_the_best_and_the_last_stay_and_those_in_use(lab: Lab) {
    let running = lab.run("a run").await;
    let mut files = Vec::new();
    let mut snapshot = async |iteration: u64, score: f64| {
        let content = format!("weights {iteration}");
        let digest = lab.put(content.as_bytes()).await;
        files.push(digest);
        let size = content.len() as u64;
        let name = format!("weights.{iteration}");
        let Report::Model(mut saved) = model(&name, iteration, digest, size) else {
            unreachable!("it is a model");
        };
        saved.snapshot = Some(Snapshot {
            of: "weights".into(),
            score: Some(Real(score)),
            keep: Keep {
                best: 2,
                last: 1,
                mode: ScoreMode::Min,
            },
        });
        lab.report(&running, iteration, vec![Report::Model(saved)])
            .await;
    };
    for (iteration, score) in (1..).zip([0.9, 0.1, f64::NAN, 0.5, 0.7]) {
        snapshot(iteration, score).await;
    }
    let output = Report::Output {
        name: "weights".into(),
    };
    lab.report(&running, 6, vec![output]).await;
    lab.finish(&running, completed()).await.unwrap();
    let kept = lab.store.models(&lab.workspace, Some(&running.task)).await;
    let kept: Vec<String> = kept.unwrap().into_iter().map(|one| one.name).collect();
    assert_eq!(kept, ["weights.5", "weights.4", "weights.2"]);
    let view = lab.view(&running.task).await;
    let best = view.result.unwrap()["model_id"].as_u64().unwrap();
    let best = lab
        .store
        .model(&lab.workspace, best)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(best.name, "weights.2");
    let rules = GarbageRules {
        keep_ms: 0,
        keep_uploads_ms: 0,
    };
    lab.store.collect_garbage(None, rules, NOW).await.unwrap();
    let mut there = Vec::new();
    for file in &files {
        there.push(lab.read(file).await.is_some());
    }
    assert_eq!(
        there,
        [false, true, false, true, true],
        "their files go too"
    );
}
