//! What is done once, and what is done again in the same place.

use serde_json::{Map, json};
use trainshed_core::TaskId;
use trainshed_core::dataset::{FileEntry, seal};
use trainshed_core::draft::CloneRequest;
use trainshed_core::model::Registration;
use trainshed_core::task::{TaskState, Verb};
use trainshed_store::{
    ConsoleQuery, ContinueError, KeyedRequest, LeaseError, Move, NewTask, NewVersion, StoredAnswer,
    beside_request, within_request,
};

use crate::lab::{Lab, NOW, artifact, completed, draft, line, loss, model, new_task};

store_contract! {
    a_request_with_a_key_is_answered_once,
    what_a_request_made_is_known_although_its_answer_was_lost,
    whatever_a_request_does_is_noted_with_it,
    what_is_a_part_of_a_request_is_not_noted_as_all_of_it,
    a_run_by_hand_takes_the_place_of_the_last_one_that_left_nothing,
    a_task_that_ended_is_continued_behind_its_last_iteration,
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

async fn what_a_request_made_is_known_although_its_answer_was_lost(lab: Lab) {
    let (store, workspace) = (&lab.store, &lab.workspace);
    let begin = async |key: &str| {
        let begun = store.begin_request(workspace, key, "a digest", NOW).await;
        begun.unwrap()
    };
    let place = |address: String| StoredAnswer {
        status: 303,
        headers: vec![("location".to_owned(), address)],
        body: Vec::new(),
    };

    assert_eq!(begin("a task").await, KeyedRequest::New);
    let made = within_request(workspace, "a task", lab.draft("made once"));
    let task = made.await;
    // The server ends here: no answer is ever kept.
    let known = KeyedRequest::Answered(place(format!("/api/v1/tasks/{task}")));
    assert_eq!(begin("a task").await, known);

    // An answer that says to try again takes nothing back, a whole one counts more.
    store.end_request(workspace, "a task", None).await.unwrap();
    assert_eq!(begin("a task").await, known);
    let answer = StoredAnswer {
        status: 201,
        headers: Vec::new(),
        body: b"{}".to_vec(),
    };
    let kept = store.end_request(workspace, "a task", Some(&answer)).await;
    kept.unwrap();
    assert_eq!(begin("a task").await, KeyedRequest::Answered(answer));

    // Work that fails leaves nothing behind.
    assert_eq!(begin("a clone").await, KeyedRequest::New);
    let (nobody, clone) = (TaskId::from_u128(7), TaskId::from_u128(8));
    let request = CloneRequest::default();
    let cloned = store.clone_task(workspace, &nobody, &clone, "a clone", &request, NOW);
    let refused = within_request(workspace, "a clone", cloned).await;
    assert!(refused.is_err());
    assert_eq!(begin("a clone").await, KeyedRequest::Begun);

    // What is made beside a request is not taken for its work.
    lab.draft("by somebody else").await;
    assert_eq!(begin("a clone").await, KeyedRequest::Begun);
}

async fn whatever_a_request_does_is_noted_with_it(lab: Lab) {
    let (store, workspace) = (&lab.store, &lab.workspace);
    let begin = async |key: &str| {
        let begun = store.begin_request(workspace, key, "a digest", NOW).await;
        begun.unwrap()
    };
    // Does the work of a request with a key, whose server ends before it answers; the place
    // that whoever sends it again is told.
    macro_rules! noted {
        ($key:literal, $work:expr) => {{
            assert_eq!(begin($key).await, KeyedRequest::New);
            within_request(workspace, $key, $work).await.unwrap();
            match begin($key).await {
                KeyedRequest::Answered(answer) if answer.status == 303 => {
                    answer.headers[0].1.clone()
                }
                other => panic!("{}: {other:?}", $key),
            }
        }};
    }
    let of_task = |task: &TaskId| format!("/api/v1/tasks/{task}");
    let task = lab.draft("a task").await;
    let (wanted, params) = (Move::new(Verb::Start), Map::new());
    let moved = store.move_task(workspace, &task, &wanted, NOW);
    assert_eq!(noted!("start", moved), of_task(&task));
    let archived = store.archive_task(workspace, &task, true, NOW);
    assert_eq!(noted!("archive", archived), of_task(&task));
    let moved = store.move_to_project(workspace, &task, "elsewhere", NOW);
    assert_eq!(noted!("move", moved), of_task(&task));
    let file = artifact("notes", lab.put(b"x").await);
    let put = store.put_artifact(workspace, &task, &file, NOW);
    let artifacts = format!("{}/artifacts", of_task(&task));
    assert_eq!(noted!("artifact", put), artifacts);

    let search = draft("a search", "default");
    let made = store.insert_experiment(workspace, &search, &params, 7, NOW);
    assert_eq!(noted!("experiment", made), of_task(&search.id));
    let by_hand = NewTask {
        system_tags: vec!["development".into()],
        ..new_task("by hand", "default")
    };
    let run = || store.reuse_task(workspace, &by_hand, NOW, NOW);
    assert_eq!(noted!("first run", run()), of_task(&by_hand.id));
    let running = lab.claim().await.unwrap();
    lab.finish(&running, completed()).await.unwrap();
    assert_eq!(noted!("second run", run()), of_task(&by_hand.id));
    let running = lab.claim().await.unwrap();
    lab.finish(&running, completed()).await.unwrap();
    let next = new_task("by hand", "default");
    let continued = store.continue_task(workspace, &by_hand.id, &next, None, NOW);
    assert_eq!(noted!("continue", continued), of_task(&by_hand.id));

    let sha256 = lab.put(b"1,2,3").await;
    let entry = FileEntry {
        path: "a.csv".into(),
        sha256,
        size_bytes: 5,
    };
    let (files, digest) = seal(vec![entry]).unwrap();
    let version = NewVersion {
        name: "numbers",
        parent: None,
        description: "",
        digest: &digest,
        files: &files,
        tags: &[],
        tables: None,
    };
    let made = store.insert_dataset(workspace, &version, NOW);
    assert_eq!(noted!("data set", made), "/api/v1/datasets/2");
    let published = store.publish_dataset(workspace, 2, NOW);
    assert_eq!(noted!("publish it", published), "/api/v1/datasets/2");
    let archived = store.archive_dataset(workspace, 2, true, NOW);
    assert_eq!(noted!("archive it", archived), "/api/v1/datasets/2");

    let model = Registration {
        name: "net".into(),
        uri: Some("https://host/net".into()),
        ..Registration::default()
    };
    let made = store.register_model(workspace, &model, NOW);
    assert_eq!(noted!("model", made), "/api/v1/models/1");
    let published = store.publish_model(workspace, 1, false, NOW);
    assert_eq!(noted!("publish a model", published), "/api/v1/models/1");
    let archived = store.archive_model(workspace, 1, true, NOW);
    assert_eq!(noted!("archive a model", archived), "/api/v1/models/1");

    let (from, into) = (
        lab.project_id("elsewhere").await,
        lab.project_id("default").await,
    );
    let merged = store.merge_projects(workspace, &from, &into, NOW);
    let place = format!("/api/v1/projects/{into}");
    assert_eq!(noted!("merge", merged), place);
    let key = store.make_key(workspace, "a friend", "key-3", NOW);
    assert_eq!(noted!("key", key), "/api/v1/keys");
    let upload = store.begin_upload(workspace, (10, None), None, NOW);
    let upload = noted!("upload", upload);
    let id = upload.strip_prefix("/api/v1/uploads/").unwrap();
    assert_eq!(store.upload(workspace, id).await.unwrap().size_bytes, 10);
}

async fn what_is_a_part_of_a_request_is_not_noted_as_all_of_it(lab: Lab) {
    let (store, workspace) = (&lab.store, &lab.workspace);
    let begun = store.begin_request(workspace, "many", "a digest", NOW);
    assert_eq!(begun.await.unwrap(), KeyedRequest::New);

    let work = async {
        for name in ["one", "two"] {
            beside_request(lab.draft(name)).await;
        }
    };
    within_request(workspace, "many", work).await;

    let begun = store.begin_request(workspace, "many", "a digest", NOW);
    assert_eq!(begun.await.unwrap(), KeyedRequest::Begun);
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
