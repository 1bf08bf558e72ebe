//! What the store promises, whichever database it is on.
#![expect(clippy::unwrap_used, reason = "a test says what it expects by failing")]

#[macro_use]
#[expect(dead_code, reason = "it is shared, and not all is needed here")]
mod lab;
#[path = "contract/acts.rs"]
mod acts;
#[path = "contract/again.rs"]
mod again;
#[path = "contract/edits.rs"]
mod edits;
#[path = "contract/experiment.rs"]
mod experiment;
#[path = "contract/lists.rs"]
mod lists;
#[path = "contract/lives.rs"]
mod lives;
#[path = "contract/outputs.rs"]
mod outputs;
#[path = "contract/projects.rs"]
mod projects;

use std::io;

use expect_test::expect;
use futures::future::join_all;
use futures::stream;
use trainshed_core::manifest::{ActionSpec, Category, Manifest};
use trainshed_core::report::{Purpose, Real, Report, Sample};
use trainshed_core::resource::Reading;
use trainshed_core::task::TaskState;
use trainshed_core::task::Verb;
use trainshed_core::view::TaskQuery;
use trainshed_core::{AgentId, Digest, Timestamp, WorkspaceId};
use trainshed_store::{
    ChangeError, ConsoleQuery, InsertPluginError, InsertTaskError, LeaseError, MAX_SERIES, Move,
    PutError, QueryError,
};

use lab::{Lab, NOW, UNTIL, completed, failed, line, loss, model, point};

store_contract! {
    a_key_opens_its_workspace_and_only_digests_are_compared,
    a_file_comes_back_as_it_was_put,
    content_that_is_not_what_was_announced_leaves_nothing,
    an_upload_that_breaks_off_leaves_nothing,
    a_long_upload_arrives_whole,
    not_a_number_survives_the_round_trip,
    a_number_can_follow_where_there_was_none,
    of_two_points_with_one_iteration_the_later_wins,
    a_summary_is_the_same_however_the_points_were_batched,
    a_task_has_a_bounded_number_of_curves,
    a_batch_is_known_by_its_task_lease_and_key,
    console_lines_are_numbered_across_batches,
    a_single_value_and_a_sample_replace_their_former,
    a_task_is_claimed_once_however_many_agents_ask,
    what_a_task_reports_last_is_recorded_with_its_end_and_once,
    two_active_tasks_cannot_share_an_encoded_name,
    pages_list_each_task_once_and_filters_narrow_them,
    a_wrong_cursor_is_named,
    projects_are_made_with_their_parents,
    saving_a_model_again_keeps_its_id,
    a_request_to_stop_keeps_its_first_reason,
    only_expired_leases_end,
    a_component_is_installed_once,
    an_exact_seed_and_parameters_come_back,
    readings_of_a_machine_are_kept_for_a_week,
}

async fn a_key_opens_its_workspace_and_only_digests_are_compared(lab: Lab) {
    let second = WorkspaceId::from_u128(2);
    assert!(
        lab.store
            .create_workspace(&second, "second", "key-2", NOW)
            .await
            .unwrap()
    );
    let taken = WorkspaceId::from_u128(3);
    assert!(
        !lab.store
            .create_workspace(&taken, "second", "key-3", NOW)
            .await
            .unwrap()
    );
    let found = lab.store.authenticate("key-2").await.unwrap().unwrap();
    assert_eq!(found.id(), &second);
    for wrong in ["", "key-3", "key-2 ", &Digest::of(b"key-2").to_string()] {
        assert_eq!(
            lab.store.authenticate(wrong).await.unwrap(),
            None,
            "{wrong}"
        );
    }
    assert!(lab.store.add_key("second", "key-4", NOW).await.unwrap());
    assert!(!lab.store.add_key("third", "key-5", NOW).await.unwrap());
    assert_eq!(lab.store.authenticate("key-4").await.unwrap(), Some(found));
}

async fn a_file_comes_back_as_it_was_put(lab: Lab) {
    for content in [b"".as_slice(), b"x", b"some bytes"] {
        let digest = lab.put(content).await;
        assert_eq!(digest, Digest::of(content));
        assert_eq!(lab.read(&digest).await.as_deref(), Some(content));
        let here = lab.store.local_file(&lab.workspace, &digest).await;
        let here = here.unwrap().unwrap();
        assert_eq!(std::fs::read(here.path()).unwrap(), content);
        assert_eq!(lab.put(content).await, digest, "again is harmless");
    }
    let never = Digest::of(b"never");
    assert_eq!(lab.read(&never).await, None);
    let asked = [Digest::of(b"x"), never];
    assert_eq!(
        lab.store
            .missing_files(&lab.workspace, &asked, NOW)
            .await
            .unwrap(),
        [never]
    );
}

async fn content_that_is_not_what_was_announced_leaves_nothing(lab: Lab) {
    let expected = Digest::of(b"right");
    let content = stream::iter([Ok("wrong".into())]);
    let put = lab
        .store
        .put_file(&lab.workspace, Some(&expected), content, NOW);
    let error = put.await.unwrap_err();
    assert!(matches!(error, PutError::WrongDigest { found, .. } if found == Digest::of(b"wrong")));
    assert_eq!(lab.read(&expected).await, None);
    assert_eq!(lab.read(&Digest::of(b"wrong")).await, None);
}

async fn an_upload_that_breaks_off_leaves_nothing(lab: Lab) {
    let content = [Ok("some".into()), Err(io::Error::other("the line is dead"))];
    let put = lab
        .store
        .put_file(&lab.workspace, None, stream::iter(content), NOW);
    let error = put.await.unwrap_err();
    assert_eq!(error.to_string(), "the upload broke off after 4 bytes");
    assert_eq!(lab.read(&Digest::of(b"some")).await, None);
}

async fn a_long_upload_arrives_whole(lab: Lab) {
    let piece = vec![7_u8; 1 << 20];
    let pieces = std::iter::repeat_n(piece.clone(), 23).map(|piece| Ok(piece.into()));
    let put = lab
        .store
        .put_file(&lab.workspace, None, stream::iter(pieces), NOW);
    let digest = put.await.unwrap();
    assert_eq!(
        lab.store.file_size(&lab.workspace, &digest).await.unwrap(),
        Some(23 << 20)
    );
    assert_eq!(Digest::of(&lab.read(&digest).await.unwrap()), digest);
}

async fn a_number_can_follow_where_there_was_none(lab: Lab) {
    let running = lab.run("task").await;
    for (key, value) in [(0, f64::NAN), (1, 0.5), (2, f64::NAN), (3, 0.25)] {
        let single = Report::Single {
            name: "f1".into(),
            value: Real(value),
        };
        lab.report(&running, key, vec![loss(key, value), single])
            .await;
    }
    expect![[r#"
        train/loss n=4 last=0.25@3 min=0.25@3 max=0.5@1
    "#]]
    .assert_eq(&summaries(&lab, &running).await);
}

async fn not_a_number_survives_the_round_trip(lab: Lab) {
    let running = lab.run("task").await;
    let infinity = f64::INFINITY;
    let reports = vec![
        loss(0, 0.5),
        loss(1, infinity),
        loss(2, f64::NAN),
        loss(3, -infinity),
    ];
    lab.report(&running, 0, reports).await;
    lab.report(&running, 1, vec![point("a", "b", 4, f64::NAN)])
        .await;
    assert_eq!(
        lab.curve(&running.task, "train", "loss").await,
        "0:0.5 1:inf 2:NaN 3:-inf"
    );
    expect![[r#"
        a/b n=1 last=NaN@4 min=NaN@0 max=NaN@0
        train/loss n=4 last=-inf@3 min=-inf@3 max=inf@1
    "#]]
    .assert_eq(&summaries(&lab, &running).await);
    let single = |value| Report::Single {
        name: "f1".into(),
        value: Real(value),
    };
    for (key, value) in [(2, f64::NAN), (3, 0.5), (4, f64::NAN)] {
        lab.report(&running, key, vec![single(value)]).await;
    }
    let singles = lab
        .store
        .singles(&lab.workspace, &running.task)
        .await
        .unwrap();
    assert!(singles[0].value.0.is_nan());
}

async fn of_two_points_with_one_iteration_the_later_wins(lab: Lab) {
    let running = lab.run("task").await;
    lab.report(&running, 0, vec![loss(2, 2.0), loss(1, 1.0), loss(1, 1.5)])
        .await;
    lab.report(
        &running,
        1,
        vec![loss(2, 2.5), point("train", "other", 1, 9.0)],
    )
    .await;
    assert_eq!(
        lab.curve(&running.task, "train", "loss").await,
        "1:1.5 2:2.5"
    );
    assert_eq!(lab.curve(&running.task, "train", "none").await, "");
}

async fn a_summary_is_the_same_however_the_points_were_batched(lab: Lab) {
    let values = [3.0, f64::NAN, 1.0, 5.0, 1.0, 5.0, 2.0, f64::NAN];
    let iterations = [4, 9, 6, 3, 2, 7, 9, 1];
    let reports: Vec<Report> = iterations
        .into_iter()
        .zip(values)
        .map(|(at, value)| loss(at, value))
        .collect();
    let mut seen = Vec::new();
    for size in [1, 2, 3, 8] {
        let running = lab.run(&format!("by {size}")).await;
        for (key, chunk) in (0..).zip(reports.chunks(size)) {
            lab.report(&running, key, chunk.to_vec()).await;
        }
        seen.push(summaries(&lab, &running).await);
    }
    expect![[r#"
        train/loss n=8 last=2@9 min=1@2 max=5@3
    "#]]
    .assert_eq(&seen[0]);
    assert!(seen.iter().all(|summary| *summary == seen[0]), "{seen:?}");
}

async fn a_task_has_a_bounded_number_of_curves(lab: Lab) {
    let running = lab.run("task").await;
    let curves = |from: u64, to: u64| {
        (from..to)
            .map(|n| point("t", &n.to_string(), 0, 0.0))
            .collect()
    };
    lab.report(&running, 0, curves(0, MAX_SERIES)).await;
    lab.report(&running, 1, curves(0, 10)).await;
    let refused = lab
        .try_report(&running, 2, curves(MAX_SERIES, MAX_SERIES + 1))
        .await;
    assert!(matches!(refused, Err(LeaseError::Invalid(_))));
    let series = lab
        .store
        .series(&lab.workspace, &running.task)
        .await
        .unwrap();
    assert_eq!(series.len() as u64, MAX_SERIES);
}

async fn a_batch_is_known_by_its_task_lease_and_key(lab: Lab) {
    let (one, other) = (lab.run("one").await, lab.run("other").await);
    for running in [&one, &one, &other] {
        lab.report(running, 0, vec![loss(0, 1.0)]).await;
    }
    for running in [&one, &other] {
        let series = lab
            .store
            .series(&lab.workspace, &running.task)
            .await
            .unwrap();
        assert_eq!(series[0].count, 1);
    }
}

async fn console_lines_are_numbered_across_batches(lab: Lab) {
    let running = lab.run("task").await;
    lab.report(&running, 0, vec![line("zero"), line("one \u{0} \u{1F600}")])
        .await;
    lab.report(&running, 1, vec![loss(0, 0.0)]).await;
    lab.report(&running, 2, vec![line("two"), line("three"), line("")])
        .await;
    let show = |page: trainshed_core::view::ConsolePage| {
        let lines = page
            .lines
            .iter()
            .map(|line| format!("{}:{:?}", line.number, line.text));
        format!("{} of {}", lines.collect::<Vec<_>>().join(" "), page.total)
    };
    let (store, workspace, task) = (&lab.store, &lab.workspace, &running.task);
    let mut seen = Vec::new();
    for (first, limit) in [(0, 9), (1, 2), (4, 9), (5, 9), (u64::MAX, 9), (0, 0)] {
        seen.push(show(
            store
                .console(workspace, task, &ConsoleQuery::from(first, limit))
                .await
                .unwrap(),
        ));
    }
    for count in [2, 0, u64::MAX] {
        seen.push(show(
            store
                .console(workspace, task, &ConsoleQuery::last(count))
                .await
                .unwrap(),
        ));
    }
    expect![[r#"
        0:"zero" 1:"one \0 😀" 2:"two" 3:"three" 4:"" of 5
        1:"one \0 😀" 2:"two" of 5
        4:"" of 5
         of 5
         of 5
         of 5
        4:"" 3:"three" of 5
         of 5
        4:"" 3:"three" 2:"two" 1:"one \0 😀" 0:"zero" of 5"#]]
    .assert_eq(&seen.join("\n"));
}

async fn a_single_value_and_a_sample_replace_their_former(lab: Lab) {
    let running = lab.run("task").await;
    let image = lab.put(b"png").await;
    let sample = |index, at| {
        Report::Sample(Sample {
            purpose: Purpose::Visualization,
            category: "wrong".into(),
            group: "validation".into(),
            index,
            name: String::new(),
            sha256: Some(image),
            uri: None,
            size_bytes: 3,
            content_type: "image/png".into(),
            at: Timestamp(at),
            extra: None,
        })
    };
    let single = |value| Report::Single {
        name: "f1".into(),
        value: Real(value),
    };
    lab.report(
        &running,
        0,
        vec![single(0.1), single(0.2), sample(1, 1), sample(0, 1)],
    )
    .await;
    lab.report(&running, 1, vec![single(0.3), sample(1, 2)])
        .await;
    let singles = lab
        .store
        .singles(&lab.workspace, &running.task)
        .await
        .unwrap();
    assert_eq!((singles.len(), singles[0].value), (1, Real(0.3)));
    let samples = lab
        .store
        .samples(&lab.workspace, &running.task)
        .await
        .unwrap();
    let places: Vec<_> = samples
        .iter()
        .map(|sample| (sample.index, sample.at.0))
        .collect();
    assert_eq!(places, [(0, 1), (1, 2)]);
}

async fn a_task_is_claimed_once_however_many_agents_ask(lab: Lab) {
    for number in 0..5 {
        lab.queue(&format!("task {number}")).await;
    }
    let claims = join_all((0..12).map(|_| lab.claim())).await;
    let mut claimed: Vec<_> = claims
        .into_iter()
        .flatten()
        .map(|running| running.task)
        .collect();
    claimed.sort();
    claimed.dedup();
    assert_eq!(claimed.len(), 5);
}

async fn what_a_task_reports_last_is_recorded_with_its_end_and_once(lab: Lab) {
    lab.queue("one").await;
    let running = lab.claim().await.unwrap();
    let weights = lab.put(b"weights").await;
    lab.report(
        &running,
        0,
        vec![line("first"), model("early", 1, weights, 7)],
    )
    .await;
    let last = vec![
        line("last"),
        Report::Progress {
            category: "custom".to_owned(),
            current: 1,
            total: 4,
        },
        model("late", 2, weights, 7),
        Report::Output {
            name: "early".to_owned(),
        },
    ];
    let ghost = model("ghost", 1, Digest::of(b"never uploaded"), 7);
    let refused = lab.finish_with(&running, failed("x"), vec![line("lost"), ghost]);
    assert!(matches!(refused.await, Err(LeaseError::MissingFile { .. })));
    assert_eq!(lab.state(&running.task).await, TaskState::InProgress);
    for _ in 0..2 {
        let ended = lab.finish_with(&running, completed(), last.clone());
        ended.await.unwrap();
    }
    let query = ConsoleQuery::from(0, 10);
    let console = lab.store.console(&lab.workspace, &running.task, &query);
    let lines = console.await.unwrap().lines;
    let texts: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(texts, ["first", "last"]);
    let models = lab.store.models(&lab.workspace, Some(&running.task));
    let models = models.await.unwrap();
    let early = models.iter().find(|model| model.name == "early").unwrap();
    assert_eq!(models.len(), 2);
    let task = lab.store.task(&lab.workspace, &running.task).await;
    let task = task.unwrap().unwrap();
    assert_eq!(task.result.unwrap()["model_id"], early.id);
    assert_eq!(task.phases.phases()["custom"], 25.0);
    assert_eq!(task.progress, 100.0);
}

async fn two_active_tasks_cannot_share_an_encoded_name(lab: Lab) {
    let first = lab.queue("same").await;
    let refused = lab.try_queue("same", "elsewhere", NOW).await.unwrap_err();
    let InsertTaskError::NameTaken { task, state, .. } = refused else {
        panic!("{refused:?}");
    };
    assert_eq!((task, state), (first, TaskState::Queued));
    let running = lab.claim().await.unwrap();
    assert!(lab.try_queue("same", "default", NOW).await.is_err());
    lab.finish(&running, completed()).await.unwrap();
    lab.queue("same").await;
}

async fn pages_list_each_task_once_and_filters_narrow_them(lab: Lab) {
    for number in 0..7 {
        let (name, project) = match number % 3 {
            0 => (format!("Train_{number}"), "vision"),
            1 => (format!("tra1n%{number}"), "vision/digits"),
            _ => (format!("other\\{number}"), "visions"),
        };
        let created = Timestamp(NOW.0 + number / 2);
        lab.try_queue(&name, project, created).await.unwrap();
    }
    lab.claim().await.unwrap();
    let all = TaskQuery {
        limit: 2,
        ..TaskQuery::default()
    };
    let by = |project: Option<&str>, name: Option<&str>, state: &[TaskState]| TaskQuery {
        project: project.map(str::to_owned),
        name: name.map(str::to_owned),
        state: state.to_vec(),
        archived: false,
        trials: false,
        limit: 500,
        after: None,
    };
    let (queued, running) = (TaskState::Queued, TaskState::InProgress);
    let mut seen = vec![pages(&lab, all).await];
    for query in [
        by(Some("vision"), None, &[]),
        by(Some("vision/digits"), None, &[]),
        by(None, Some("TRAIN_"), &[]),
        by(None, Some("%"), &[]),
        by(None, Some("\\"), &[]),
        by(None, Some(&"x".repeat(100_000)), &[]),
        by(None, None, &[running]),
        by(Some("vision"), None, &[queued, TaskState::Failed]),
    ] {
        seen.push(pages(&lab, query).await);
    }
    expect![[r#"
        Train_6 other\5|tra1n%4 Train_3|other\2 tra1n%1|Train_0
        Train_6 tra1n%4 Train_3 tra1n%1 Train_0
        tra1n%4 tra1n%1
        Train_6 Train_3 Train_0
        tra1n%4 tra1n%1
        other\5 other\2

        Train_0
        Train_6 tra1n%4 Train_3 tra1n%1"#]]
    .assert_eq(&seen.join("\n"));
}

async fn a_wrong_cursor_is_named(lab: Lab) {
    for wrong in [
        "",
        "x",
        "12.x",
        "x.00000000000000000000000000000001",
        "1.2.3",
    ] {
        let query = TaskQuery {
            limit: 1,
            after: Some(wrong.into()),
            ..TaskQuery::default()
        };
        let refused = lab.store.tasks(&lab.workspace, &query).await.unwrap_err();
        assert!(matches!(refused, QueryError::Cursor(ref cursor) if cursor.0 == wrong));
    }
}

async fn projects_are_made_with_their_parents(lab: Lab) {
    lab.try_queue("one", "top/middle/low", NOW).await.unwrap();
    lab.try_queue("two", "top/middle", NOW).await.unwrap();
    let id = lab.try_queue("three", "top/middle/low", NOW).await.unwrap();
    let task = lab.store.task(&lab.workspace, &id).await.unwrap().unwrap();
    assert_eq!(task.project, "top/middle/low");
}

async fn saving_a_model_again_keeps_its_id(lab: Lab) {
    let running = lab.run("task").await;
    let (first, second) = (lab.put(b"1").await, lab.put(b"22").await);
    lab.report(
        &running,
        0,
        vec![model("last", 1, first, 1), model("best", 1, first, 1)],
    )
    .await;
    lab.report(&running, 1, vec![model("last", 2, second, 2)])
        .await;
    assert_eq!(lab.store.models(&lab.workspace, None).await.unwrap(), []);
    let wrong_size = lab
        .try_report(&running, 2, vec![model("x", 1, first, 2)])
        .await;
    assert!(matches!(wrong_size, Err(LeaseError::MissingFile { .. })));
    lab.finish(&running, failed("x")).await.unwrap();
    let models = lab
        .store
        .models(&lab.workspace, Some(&running.task))
        .await
        .unwrap();
    let seen: Vec<_> = models
        .iter()
        .map(|model| (model.id, model.name.as_str(), model.iteration, model.sha256))
        .collect();
    assert_eq!(
        seen,
        [(2, "best", 1, Some(first)), (1, "last", 2, Some(second))]
    );
    assert_eq!(models[0].labels, [("cat".to_owned(), 1)]);
    assert_eq!(
        lab.store.model(&lab.workspace, u64::MAX).await.unwrap(),
        None
    );
}

async fn a_request_to_stop_keeps_its_first_reason(lab: Lab) {
    let running = lab.run("task").await;
    let (store, workspace, task) = (&lab.store, &lab.workspace, &running.task);
    assert_eq!(
        store
            .renew_lease(workspace, task, running.fence, UNTIL)
            .await
            .unwrap(),
        None
    );
    for reason in ["first", "second"] {
        let stop = Move {
            reason,
            ..Move::new(Verb::Stop)
        };
        let changed = store.move_task(workspace, task, &stop, NOW).await.unwrap();
        assert!(!changed, "the agent ends the task");
    }
    let stop = store
        .stop_request(workspace, task, running.fence)
        .await
        .unwrap();
    assert_eq!(stop.as_deref(), Some("first"));
    assert_eq!(lab.state(task).await, TaskState::InProgress);
    lab.finish(&running, completed()).await.unwrap();
    let stop = Move::new(Verb::Stop);
    let over = store.move_task(workspace, task, &stop, NOW).await;
    assert!(matches!(
        over,
        Err(ChangeError::State {
            state: TaskState::Completed,
            ..
        })
    ));
    let stale = store.stop_request(workspace, task, running.fence).await;
    assert!(matches!(stale, Err(LeaseError::Stale { .. })));
}

async fn only_expired_leases_end(lab: Lab) {
    let (silent, alive) = (lab.run("silent").await, lab.run("alive").await);
    let later = UNTIL.plus_millis(1000);
    let renewed = lab
        .store
        .renew_lease(&lab.workspace, &alive.task, alive.fence, later)
        .await;
    renewed.unwrap();
    assert_eq!(lab.store.end_expired_leases(UNTIL).await.unwrap(), []);
    let ended = lab
        .store
        .end_expired_leases(UNTIL.plus_millis(1))
        .await
        .unwrap();
    assert_eq!(ended.len(), 1);
    assert_eq!(ended[0].task, silent.task);
    assert_eq!(lab.state(&silent.task).await, TaskState::Stopped);
    assert_eq!(lab.state(&alive.task).await, TaskState::InProgress);
    let ghost = lab.finish(&silent, completed()).await;
    assert!(
        matches!(ghost, Err(LeaseError::Stale { .. })),
        "its fence has grown"
    );
}

async fn a_component_is_installed_once(lab: Lab) {
    let action = ActionSpec {
        name: "train".into(),
        summary: String::new(),
        schema: serde_json::json!({"type": "object"}),
    };
    let manifest = Manifest {
        name: "mlp".into(),
        version: "1.0.0".into(),
        category: Category::NeuralNet,
        summary: String::new(),
        actions: vec![action],
        environment: vec![],
        contract: String::new(),
    };
    let (one, other) = (lab.put(b"one").await, lab.put(b"other").await);
    for _ in 0..2 {
        lab.store
            .insert_plugin(&lab.workspace, &one, &manifest, NOW)
            .await
            .unwrap();
    }
    let taken = lab
        .store
        .insert_plugin(&lab.workspace, &other, &manifest, NOW)
        .await;
    assert!(matches!(taken, Err(InsertPluginError::VersionTaken { digest, .. }) if digest == one));
    let plugins = lab.store.plugins(&lab.workspace).await.unwrap();
    assert_eq!((plugins.len(), &plugins[0].manifest), (1, &manifest));
    assert_eq!((plugins[0].digest, plugins[0].size_bytes), (one, 3));
}

async fn an_exact_seed_and_parameters_come_back(lab: Lab) {
    let id = lab.queue("task").await;
    let task = lab.store.task(&lab.workspace, &id).await.unwrap().unwrap();
    assert_eq!(task.seed, Some(u64::MAX));
    assert_eq!(task.params["name"], "task");
    assert_eq!(task.tags, ["a"]);
    let parameters = lab.store.parameters(&lab.workspace, &id).await.unwrap();
    let first = &parameters[0];
    assert_eq!(
        (first.name.as_str(), &first.value),
        ("lr", &serde_json::json!(0.1))
    );
}

async fn summaries(lab: &Lab, running: &lab::Running) -> String {
    let series = lab
        .store
        .series(&lab.workspace, &running.task)
        .await
        .unwrap();
    let text = |curve: &trainshed_core::view::SeriesSummary| {
        format!(
            "{}/{} n={} last={}@{} min={}@{} max={}@{}\n",
            curve.title,
            curve.series,
            curve.count,
            curve.last.0,
            curve.last_iteration,
            curve.min.0,
            curve.min_iteration,
            curve.max.0,
            curve.max_iteration
        )
    };
    series.iter().map(text).collect()
}

/// The names on all pages of a list, a bar between two pages.
async fn pages(lab: &Lab, mut query: TaskQuery) -> String {
    let mut pages = Vec::new();
    loop {
        let page = lab.store.tasks(&lab.workspace, &query).await.unwrap();
        let names: Vec<_> = page.items.iter().map(|task| task.name.as_str()).collect();
        pages.push(names.join(" "));
        match page.next {
            Some(next) => query.after = Some(next),
            None => return pages.join("|"),
        }
    }
}

async fn readings_of_a_machine_are_kept_for_a_week(lab: Lab) {
    let reading = |at: i64, value: f64| Reading {
        at: Timestamp(at),
        values: [(":monitor:machine/cpu_usage".to_owned(), value)].into(),
    };
    let put = async |agent: &AgentId, reading: Reading| {
        let now = reading.at;
        let put = lab
            .store
            .insert_reading(&lab.workspace, agent, &reading, now);
        put.await.unwrap()
    };
    assert!(put(&lab.agent, reading(1_000, 1.0)).await);
    assert!(put(&lab.agent, reading(2_000, 2.0)).await);
    assert!(!put(&AgentId::from_u128(5), reading(2_000, 2.0)).await);
    let kept = async |from| {
        let kept = lab
            .store
            .readings(&lab.workspace, &lab.agent, Timestamp(from), 10);
        kept.await.unwrap()
    };
    assert_eq!(kept(0).await, [reading(1_000, 1.0), reading(2_000, 2.0)]);
    assert_eq!(kept(1_500).await, [reading(2_000, 2.0)]);
    let agents = lab.store.agents(&lab.workspace, Timestamp(0), 10);
    let agents = agents.await.unwrap();
    assert_eq!(agents[0].resources, Some(reading(2_000, 2.0)));
    let week = 7 * 24 * 60 * 60 * 1000;
    assert!(put(&lab.agent, reading(week + 1_500, 3.0)).await);
    assert_eq!(kept(0).await.len(), 2);
}
