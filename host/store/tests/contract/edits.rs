//! What people and programs say of a task: its fields, parameters and configuration.

use expect_test::expect;
use serde_json::json;
use trainshed_core::draft::{CloneRequest, Container, Script, TaskEdit};
use trainshed_core::parameter::{Parameter, flat_view};
use trainshed_core::task::{TaskState, Verb};
use trainshed_core::view::entity_tag;
use trainshed_store::{ChangeError, NewConfiguration, NewTask, WriteMode};

use crate::lab::{self, Lab, NOW, completed, draft, loss, new_task};

store_contract! {
    a_clone_is_an_editable_copy_without_outputs,
    only_a_draft_is_edited_unless_forced,
    an_edit_of_something_older_is_refused,
    parameters_are_replaced_merged_and_given_to_the_plugin,
    configuration_is_kept_byte_for_byte,
    a_name_leads_to_the_task_that_changed_last,
    no_task_comes_from_itself,
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

async fn no_task_comes_from_itself(lab: Lab) {
    let task = lab.draft("first").await;
    let child = lab.clone(&task, CloneRequest::default()).await;
    let grandchild = lab.clone(&child, CloneRequest::default()).await;
    for below in [&task, &child, &grandchild] {
        let circle = lab.edit(&task, json!({"parent": below})).await;
        assert!(matches!(circle, Err(ChangeError::CircularParent { .. })));
    }
    let other = lab.draft("other").await;
    lab.edit(&task, json!({"parent": other})).await.unwrap();
    lab.edit(&grandchild, json!({"parent": task}))
        .await
        .unwrap();
    assert_eq!(lab.view(&grandchild).await.parent, Some(task));
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
