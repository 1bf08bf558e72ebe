//! What the engine promises, through its public functions, on a real store.
#![expect(clippy::unwrap_used, reason = "a test says what it expects by failing")]

mod lab;

use std::time::Duration;

use expect_test::expect;
use futures::{StreamExt as _, stream};
use serde_json::json;
use trainshed_core::Digest;
use trainshed_core::dataset::FileEntry;
use trainshed_core::draft::CloneRequest;
use trainshed_core::parameter::Parameter;
use trainshed_core::task::{Outcome, TaskState, Verb};
use trainshed_core::view::{AgentInfo, NewDataset, TaskQuery};
use trainshed_engine::{
    ChangeError, ConsoleQuery, LeaseError, ListPart, Move, PushError, QueueName, VersionError,
    WriteMode,
};

/// Every data set version.
const ALL: ListPart = ListPart {
    archived: true,
    after: None,
    limit: 100,
};

use lab::{
    Lab, NOW, batch, completed, failed, line, manifest, model, point, progress, single,
    without_reports,
};

#[tokio::test]
async fn a_train_action_goes_from_json_to_a_model() {
    let lab = Lab::new().await;
    lab.push(&manifest("mlp", "0.1.0", &["train"])).await;
    let dataset = lab.dataset("digits", &["train.csv"]).await;
    let task = lab
        .submit(
            json!({"name": "first try", "dataset": dataset, "project": "demo/digits",
                       "hyperparameter": {"epochs": 2, "model": {"hidden": [8, 8]}}}),
        )
        .await;
    assert_eq!(task.status, TaskState::Queued);

    let lease = lab.lease().await.unwrap();
    assert_eq!(lease.task, task.id);
    assert_eq!(lease.settings["epochs"], 2);
    assert_eq!(lease.dataset.files.as_ref().unwrap()[0].path, "train.csv");
    let weights = lab.put(b"weights").await;
    let reports = vec![
        progress("dataset", 1, 1),
        point("train", "loss", 0, 2.5),
        point("train", "loss", 1, 0.5),
        single("accuracy", 0.97),
        line("epoch 1"),
        model("best", 1, weights, 7),
    ];
    let state = lab.report(&lease, batch(0, reports)).await.unwrap();
    assert_eq!(state.stop, None);
    assert_eq!(lab.engine.models(&lab.workspace, None).await.unwrap(), []);

    let ended = lab.finish(&lease, completed(json!({"epochs": 2}))).await;
    let ended = ended.unwrap();
    let models = lab.engine.models(&lab.workspace, Some(&task.id)).await;
    let models = models.unwrap();
    assert_eq!(models.len(), 1);
    assert_eq!(ended.result.as_ref().unwrap()["model_id"], models[0].id);
    assert_eq!((ended.progress, ended.last_iteration), (100.0, 1));
    assert_eq!(ended.agent.as_deref(), Some("tester"));
    expect![[r#"
        project demo/digits
        General/epochs int 2
        General/model/hidden list [8,8]
        Args/dataset int 1
        Args/name str first try
        Args/project str demo/digits
        train/loss n=2 last=0.5@1 min=0.5@1 max=2.5@0
        accuracy=0.97
        0 stdout epoch 1
    "#]]
    .assert_eq(&lab.story(&task.id).await);
}

#[tokio::test]
async fn an_action_that_names_what_is_not_there_is_refused_with_a_way_out() {
    let lab = Lab::new().await;
    let action = json!({"name": "abc", "dataset": 1, "hyperparameter": {}});
    lab.check_refused(
        None,
        &action,
        expect![[r#"
        /plugin: no installed plugin has the action `train`
        Install one with `trainshed plugin push FILE`, then submit again."#]],
    )
    .await;
    lab.push(&manifest("mlp", "0.1.0", &["train"])).await;
    lab.check_refused(
        None,
        &action,
        expect![[r#"
        /params/dataset: there is no data set 1
        There is none yet: `trainshed dataset create` makes one."#]],
    )
    .await;
    lab.dataset("digits", &["a.csv"]).await;
    let other = json!({"name": "abc", "dataset": 7, "hyperparameter": {}});
    lab.check_refused(
        None,
        &other,
        expect![[r#"
        /params/dataset: there is no data set 7
        The newest data sets are 1 (`digits`)."#]],
    )
    .await;
    let resumed = json!({"name": "abc", "dataset": 1, "hyperparameter": {}, "checkpoint": 5});
    lab.check_refused(
        None,
        &resumed,
        expect![[r#"
        /params/checkpoint: there is no model 5
        `trainshed model ls` lists them; a model can be used once its task has ended."#]],
    )
    .await;
    lab.check_refused(
        Some("mpl"),
        &action,
        expect![[r#"
        /plugin: no plugin `mpl` is installed
        `trainshed plugin ls` lists what is installed; `trainshed plugin push` installs."#]],
    )
    .await;
    lab.check_refused(
        Some("mlpp"),
        &action,
        expect![[r#"
        /plugin: no plugin `mlpp` is installed
        Did you mean `mlp`?"#]],
    )
    .await;
    lab.check_refused(
        Some("mlp@9.0.0"),
        &action,
        expect![[r#"
        /plugin: no plugin `mlp@9.0.0` is installed
        Did you mean `mlp@0.1.0`?"#]],
    )
    .await;
    lab.push(&manifest("csv", "1.0.0", &["preprocess"])).await;
    lab.check_refused(
        Some("csv"),
        &action,
        expect![[r#"
        /action: the plugin `csv@1.0.0` has no action `train`; it has `preprocess`
        "#]],
    )
    .await;
    lab.push(&manifest("tree", "1.0.0", &["train"])).await;
    lab.check_refused(
        None,
        &action,
        expect![[r#"
        /plugin: plugin is required: `mlp`, `tree` have the action `train`
        Add a plugin to the action, e.g. "plugin": "mlp"."#]],
    )
    .await;
    let page = lab.engine.tasks(&lab.workspace, query()).await.unwrap();
    assert_eq!(page.items, [], "nothing was queued");
}

#[tokio::test]
async fn a_name_without_a_version_means_the_newest_version() {
    let lab = Lab::ready().await;
    lab.push(&manifest("mlp", "0.10.0", &["train"])).await;
    lab.push(&manifest("mlp", "0.9.0", &["train"])).await;
    let task = lab.submit(lab.train("newest")).await;
    assert_eq!(task.plugin.unwrap().version, "0.10.0");
    let named = lab
        .try_submit(Some("mlp@0.9.0"), &lab.train("old one"))
        .await;
    assert_eq!(named.unwrap().plugin.unwrap().version, "0.9.0");
}

#[tokio::test]
async fn two_active_tasks_cannot_have_one_name() {
    let lab = Lab::ready().await;
    let first = lab.submit(lab.train("a:b")).await;
    let error = lab.try_submit(None, &lab.train("a:b")).await.unwrap_err();
    assert_eq!(error.pointer(), Some("/params/name"));
    assert_eq!(
        error.to_string(),
        format!(
            "the name `a:b` is in use: the task {} has it and is queued",
            first.id
        )
    );
    let lease = lab.lease().await.unwrap();
    assert!(lab.try_submit(None, &lab.train("a:b")).await.is_err());
    lab.finish(&lease, failed("it broke")).await.unwrap();
    lab.submit(lab.train("a:b")).await;
}

#[tokio::test]
async fn a_random_seed_is_drawn_and_kept() {
    let lab = Lab::ready().await;
    let mut action = lab.train("seeded");
    assert_eq!(lab.submit(action.clone()).await.seed, Some(1337));
    action["seed"] = json!(u64::MAX);
    action["name"] = json!("greatest");
    assert_eq!(lab.submit(action.clone()).await.seed, Some(u64::MAX));
    action["seed"] = json!(null);
    action["name"] = json!("drawn");
    let drawn = lab.submit(action).await;
    let read = lab.engine.task(&lab.workspace, &drawn.id).await.unwrap();
    assert_eq!(read.unwrap().seed, drawn.seed);
    assert!(drawn.seed.unwrap() < 1 << 48);
}

#[tokio::test]
async fn the_oldest_task_is_leased_first_and_only_once() {
    let lab = Lab::ready().await;
    let first = lab.submit(lab.train("first")).await;
    lab.pass_ms(1);
    let second = lab.submit(lab.train("second")).await;
    assert_eq!(lab.lease().await.unwrap().task, first.id);
    assert_eq!(lab.lease().await.unwrap().task, second.id);
    assert!(lab.lease().await.is_none());
}

#[tokio::test]
async fn an_agent_that_waits_gets_a_task_as_soon_as_there_is_one() {
    let lab = Lab::ready().await;
    let waiting = lab
        .engine
        .lease(&lab.workspace, &lab.agent, Duration::from_secs(60));
    let submitting = async {
        tokio::task::yield_now().await;
        lab.submit(lab.train("late")).await
    };
    let both = async { tokio::join!(waiting, submitting) };
    let (lease, task) = tokio::time::timeout(Duration::from_secs(10), Box::pin(both))
        .await
        .unwrap();
    assert_eq!(lease.unwrap().unwrap().task, task.id);
}

#[tokio::test]
async fn the_seconds_of_a_task_that_goes_on_follow_its_last() {
    let lab = Lab::ready().await;
    let task = lab.submit(lab.train("goes on")).await;
    let lease = lab.lease().await.unwrap();
    assert_eq!(lease.initial_second, 0);
    let reports = vec![
        point(":monitor:machine", "cpu_usage", 60, 12.5),
        point("train", "loss", 7, 0.5),
    ];
    lab.report(&lease, batch(0, reports)).await.unwrap();
    lab.finish(&lease, completed(json!({}))).await.unwrap();

    let mut params = lab.train("goes on");
    params["continue_task"] = json!(task.id);
    lab.submit(params).await;
    let lease = lab.lease().await.unwrap();
    assert_eq!((lease.task, lease.initial_iteration), (task.id, 8));
    assert_eq!(lease.initial_second, 61);
}

#[tokio::test]
async fn an_unknown_agent_is_refused() {
    let lab = Lab::ready().await;
    let stranger = trainshed_core::AgentId::from_u128(5);
    let refused = lab
        .engine
        .lease(&lab.workspace, &stranger, Duration::ZERO)
        .await;
    assert!(matches!(refused, Err(LeaseError::UnknownAgent(agent)) if agent == stranger));
}

#[tokio::test]
async fn whoever_carries_an_old_fence_writes_nothing() {
    let lab = Lab::ready().await;
    let task = lab.submit(lab.train("fenced")).await;
    let mut lease = lab.lease().await.unwrap();
    let right = lease.fence;
    lease.fence = right - 1;
    let refused = lab.report(&lease, batch(0, vec![line("old")])).await;
    assert!(
        matches!(refused, Err(LeaseError::Stale { .. })),
        "{refused:?}"
    );
    lease.fence = right + 1;
    assert!(lab.finish(&lease, failed("no")).await.is_err());
    let console = lab
        .engine
        .console(&lab.workspace, &task.id, &ConsoleQuery::from(0, 10))
        .await;
    assert_eq!(console.unwrap().unwrap().total, 0);
    let unknown = trainshed_core::TaskId::from_u128(1);
    let refused = lab
        .engine
        .renew(&lab.workspace, &unknown, 1, Duration::ZERO)
        .await;
    assert!(matches!(refused, Err(LeaseError::UnknownTask(_))));
}

#[tokio::test]
async fn a_batch_sent_twice_counts_once() {
    let lab = Lab::ready().await;
    let task = lab.submit(lab.train("twice")).await;
    let lease = lab.lease().await.unwrap();
    let reports = vec![point("train", "loss", 0, 1.0), line("once")];
    for _ in 0..3 {
        lab.report(&lease, batch(7, reports.clone())).await.unwrap();
    }
    let scalars = lab
        .engine
        .scalars(&lab.workspace, &task.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(scalars[0].count, 1);
    let console = lab
        .engine
        .console(&lab.workspace, &task.id, &ConsoleQuery::last(10))
        .await;
    assert_eq!(console.unwrap().unwrap().total, 1);
}

#[tokio::test]
async fn a_batch_is_recorded_whole_or_not_at_all() {
    let lab = Lab::ready().await;
    let task = lab.submit(lab.train("whole")).await;
    let lease = lab.lease().await.unwrap();
    let missing = Digest::of(b"never uploaded");
    let reports = vec![line("before"), model("best", 0, missing, 3), line("after")];
    let refused = lab.report(&lease, batch(0, reports)).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        format!("the file {missing} of 3 bytes, the model `best`, has not been uploaded")
    );
    let console = lab
        .engine
        .console(&lab.workspace, &task.id, &ConsoleQuery::last(10))
        .await;
    assert_eq!(console.unwrap().unwrap().total, 0);
    lab.report(&lease, batch(0, vec![line("again")]))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_report_that_breaks_a_rule_is_refused_by_name() {
    let lab = Lab::ready().await;
    lab.submit(lab.train("rules")).await;
    let lease = lab.lease().await.unwrap();
    let digest = Digest::of(b"");
    for (report, expected) in [
        (
            point("a\nb", "loss", 0, 0.0),
            r"report 0: the name of a title has 1 to 200 bytes and no control characters, but it is `a\nb`",
        ),
        (
            model("../x", 0, digest, 0),
            "report 0: the name of a model has 1 to 100 of A-Z, a-z, 0-9, `.`, `_` and `-`, but it is `../x`",
        ),
    ] {
        let refused = lab
            .report(&lease, batch(0, vec![report]))
            .await
            .unwrap_err();
        assert_eq!(refused.to_string(), expected);
    }
    let too_many = vec![line("x"); 20_001];
    assert!(lab.report(&lease, batch(0, too_many)).await.is_err());
    assert!(lab.report(&lease, batch(u64::MAX, vec![])).await.is_err());
    // The greatest iteration is data, not an error.
    let far = vec![point("a", "b", u64::MAX, f64::NAN)];
    lab.report(&lease, batch(0, far)).await.unwrap();
}

#[tokio::test]
async fn finishing_twice_is_finishing_once() {
    let lab = Lab::ready().await;
    lab.submit(lab.train("ends")).await;
    let lease = lab.lease().await.unwrap();
    let first = lab
        .finish(&lease, completed(json!({"a": 1})))
        .await
        .unwrap();
    lab.pass_ms(5);
    let second = lab.finish(&lease, failed("not any more")).await.unwrap();
    assert_eq!(first, second);
    assert_eq!(
        first.result.unwrap(),
        *json!({"a": 1, "model_id": null}).as_object().unwrap()
    );
    let late = lab.report(&lease, batch(9, vec![line("late")])).await;
    assert!(matches!(late, Err(LeaseError::Stale { .. })));
}

#[tokio::test]
async fn the_result_is_the_named_model_or_the_last_one() {
    let lab = Lab::ready().await;
    let weights = lab.put(b"w").await;
    for (name, named, expected) in [
        ("named", Some("first"), "first"),
        ("unnamed", None, "second"),
    ] {
        let task = lab.submit(lab.train(name)).await;
        let lease = lab.lease().await.unwrap();
        let mut reports = vec![
            model("first", 1, weights, 1),
            model("second", 2, weights, 1),
        ];
        reports
            .extend(named.map(|name| trainshed_core::report::Report::Output { name: name.into() }));
        lab.report(&lease, batch(0, reports)).await.unwrap();
        let ended = lab.finish(&lease, completed(json!({}))).await.unwrap();
        let models = lab
            .engine
            .models(&lab.workspace, Some(&task.id))
            .await
            .unwrap();
        let result = models.iter().find(|model| model.name == expected).unwrap();
        assert_eq!(ended.result.unwrap()["model_id"], result.id);
    }
}

#[tokio::test]
async fn a_failed_task_keeps_its_models_and_another_goes_on_from_one() {
    let lab = Lab::ready().await;
    let weights = lab.put(b"w").await;
    let task = lab.submit(lab.train("fails")).await;
    let lease = lab.lease().await.unwrap();
    let saved = batch(0, vec![model("epoch-1", 1, weights, 1)]);
    lab.report(&lease, saved).await.unwrap();
    let ended = lab
        .finish(&lease, failed("`train/loss` is NaN"))
        .await
        .unwrap();
    assert_eq!(
        (ended.status, ended.status_reason.as_str()),
        (TaskState::Failed, "`train/loss` is NaN")
    );
    assert_eq!(ended.result, None);
    let models = lab
        .engine
        .models(&lab.workspace, Some(&task.id))
        .await
        .unwrap();
    let mut action = lab.train("resumed");
    action["checkpoint"] = json!(models[0].id);
    lab.submit(action).await;
    let lease = lab.lease().await.unwrap();
    assert_eq!(lease.checkpoint.as_ref(), Some(&models[0]));
    let saved = batch(0, vec![model("epoch-2", 2, weights, 1)]);
    lab.report(&lease, saved).await.unwrap();
    lab.finish(&lease, completed(json!({}))).await.unwrap();
    let newest = lab.engine.models(&lab.workspace, None).await.unwrap();
    assert_eq!(newest[0].parent, Some(models[0].id));
}

#[tokio::test]
async fn a_preprocess_task_makes_a_version_that_is_visible_when_it_completed() {
    let lab = Lab::ready().await;
    lab.push(&manifest("csv", "1.0.0", &["preprocess"])).await;
    let content = lab.put(b"1,2").await;
    let files = vec![FileEntry {
        path: "out.csv".into(),
        sha256: content,
        size_bytes: 3,
    }];
    for (name, outcome, visible) in [
        ("breaks", failed("no"), 1),
        ("works", completed(json!({"rows": 1})), 2),
    ] {
        lab.submit_preprocess(name).await;
        let lease = lab.lease().await.unwrap();
        for _ in 0..2 {
            let staged = lab
                .engine
                .commit_version(
                    &lab.workspace,
                    &lease.task,
                    lease.fence,
                    files.clone(),
                    "scaled".into(),
                )
                .await
                .unwrap();
            assert_eq!((staged.number, staged.parent), (2, Some(1)));
        }
        let datasets = lab.engine.datasets(&lab.workspace, ALL).await.unwrap();
        assert_eq!(datasets.len(), 1, "a staged version is not shown");
        let ended = lab.finish(&lease, outcome).await.unwrap();
        let datasets = lab.engine.datasets(&lab.workspace, ALL).await.unwrap();
        assert_eq!(datasets.len(), visible);
        if ended.status == TaskState::Completed {
            assert_eq!(ended.result.unwrap()["dataset_id"], datasets[0].id);
            assert_eq!(
                (datasets[0].name.as_str(), datasets[0].number),
                ("digits", 2)
            );
        }
    }
}

#[tokio::test]
async fn a_waiting_task_is_stopped_at_once() {
    let lab = Lab::ready().await;
    let task = lab.submit(lab.train("waits")).await;
    let stopped = lab
        .engine
        .stop(&lab.workspace, &task.id, "changed my mind".into())
        .await;
    let stopped = stopped.unwrap();
    assert_eq!(stopped.status, TaskState::Stopped);
    assert_eq!(stopped.status_reason, "changed my mind");
    assert!(!stopped.stopping && stopped.completed.is_some());
    assert!(lab.lease().await.is_none());
    let again = lab
        .engine
        .stop(&lab.workspace, &task.id, "again".into())
        .await;
    assert_eq!(again.unwrap(), stopped, "its reason stays");
    let finish = lab
        .engine
        .finish(&lab.workspace, &task.id, 0, without_reports(failed("x")))
        .await;
    assert!(
        matches!(finish, Err(LeaseError::Stale { .. })),
        "no agent ever had it"
    );
}

#[tokio::test]
async fn a_running_task_hears_at_once_that_it_is_to_stop() {
    let lab = Lab::ready().await;
    let task = lab.submit(lab.train("runs")).await;
    let lease = lab.lease().await.unwrap();
    let renewing = lab.engine.renew(
        &lab.workspace,
        &task.id,
        lease.fence,
        Duration::from_secs(15),
    );
    let stopping = async {
        tokio::task::yield_now().await;
        lab.engine
            .stop(&lab.workspace, &task.id, "enough".into())
            .await
            .unwrap()
    };
    let both = async { tokio::join!(renewing, stopping) };
    let (state, stopped) = tokio::time::timeout(Duration::from_secs(10), both)
        .await
        .unwrap();
    assert_eq!(state.unwrap().stop.as_deref(), Some("enough"));
    assert!(stopped.stopping && stopped.status == TaskState::InProgress);
    lab.engine
        .stop(&lab.workspace, &task.id, "later".into())
        .await
        .unwrap();
    let state = lab.report(&lease, batch(0, vec![])).await.unwrap();
    assert_eq!(
        state.stop.as_deref(),
        Some("enough"),
        "the first reason stays"
    );
    let outcome = Outcome::Stopped {
        reason: "enough".into(),
    };
    let ended = lab.finish(&lease, outcome).await.unwrap();
    assert_eq!((ended.status, ended.stopping), (TaskState::Stopped, false));
}

#[tokio::test]
async fn a_task_whose_agent_falls_silent_is_stopped_and_keeps_what_it_had() {
    let lab = Lab::ready().await;
    let weights = lab.put(b"w").await;
    let task = lab.submit(lab.train("silent")).await;
    let lease = lab.lease().await.unwrap();
    lab.report(
        &lease,
        batch(0, vec![line("hello"), model("m", 1, weights, 1)]),
    )
    .await
    .unwrap();
    lab.pass_ms(50_000);
    lab.engine
        .renew(&lab.workspace, &task.id, lease.fence, Duration::ZERO)
        .await
        .unwrap();
    lab.pass_ms(50_000);
    assert_eq!(lab.engine.sweep().await.unwrap(), 0, "it was renewed");
    lab.pass_ms(10_001);
    assert_eq!(lab.engine.sweep().await.unwrap(), 1);
    let ended = lab
        .engine
        .task(&lab.workspace, &task.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(ended.status, TaskState::Stopped);
    assert_eq!(
        ended.status_reason,
        "interrupted: the agent `tester` stopped answering"
    );
    assert_eq!(
        lab.engine
            .models(&lab.workspace, Some(&task.id))
            .await
            .unwrap()
            .len(),
        1
    );
    let late = lab.finish(&lease, completed(json!({}))).await;
    assert!(matches!(late, Err(LeaseError::Stale { .. })), "{late:?}");
}

#[tokio::test]
async fn opening_again_stops_what_local_agents_ran_and_keeps_what_waits() {
    let lab = Lab::ready().await;
    let local = AgentInfo {
        name: "child".into(),
        local: true,
        ..AgentInfo::default()
    };
    let local = lab
        .engine
        .register_agent(&lab.workspace, local)
        .await
        .unwrap()
        .id;
    let task = lab.submit(lab.train("ran")).await;
    let lease = lab
        .engine
        .lease(&lab.workspace, &local, Duration::ZERO)
        .await
        .unwrap()
        .unwrap();
    lab.report(&lease, batch(0, vec![point("train", "loss", 3, 0.25)]))
        .await
        .unwrap();
    let remote = lab.submit(lab.train("elsewhere")).await;
    let elsewhere = lab.lease().await.unwrap();
    let waiting = lab.submit(lab.train("waits")).await;

    let (lab, opened) = lab.reopen(120_000).await;
    assert_eq!(opened.admin_key, None);
    assert_eq!(opened.interrupted, std::slice::from_ref(&task.id));
    let state = |id| {
        let lab = &lab;
        async move { lab.engine.task(&lab.workspace, id).await.unwrap().unwrap() }
    };
    let ended = state(&task.id).await;
    assert_eq!(
        ended.status_reason,
        "interrupted: trainshed ended while the task ran"
    );
    assert_eq!(
        (ended.status, ended.last_iteration),
        (TaskState::Stopped, 3)
    );
    assert_eq!(state(&waiting.id).await.status, TaskState::Queued);
    assert_eq!(
        lab.engine.sweep().await.unwrap(),
        0,
        "remote agents get time to come back"
    );
    assert_eq!(state(&remote.id).await.status, TaskState::InProgress);
    lab.report(&elsewhere, batch(0, vec![line("still here")]))
        .await
        .unwrap();
    let stale = lab.report(&lease, batch(1, vec![line("ghost")])).await;
    assert!(matches!(stale, Err(LeaseError::Stale { .. })));
}

#[tokio::test]
async fn workspaces_cannot_see_each_other() {
    let lab = Lab::ready().await;
    let content = lab.put(b"secret").await;
    let task = lab.submit(lab.train("mine")).await;
    let lease = lab.lease().await.unwrap();
    lab.report(&lease, batch(0, vec![line("x"), model("m", 1, content, 6)]))
        .await
        .unwrap();
    lab.finish(&lease, completed(json!({}))).await.unwrap();
    let key = lab
        .engine
        .create_workspace("others")
        .await
        .unwrap()
        .unwrap();
    let other = lab.engine.authenticate(&key).await.unwrap().unwrap();
    assert_eq!(lab.engine.authenticate("tsk_guess").await.unwrap(), None);

    let engine = &lab.engine;
    assert_eq!(engine.task(&other, &task.id).await.unwrap(), None);
    assert_eq!(
        engine
            .console(&other, &task.id, &ConsoleQuery::last(5))
            .await
            .unwrap(),
        None
    );
    assert_eq!(engine.scalars(&other, &task.id).await.unwrap(), None);
    assert_eq!(engine.tasks(&other, query()).await.unwrap().items, []);
    assert_eq!(engine.plugins(&other).await.unwrap(), []);
    assert_eq!(engine.datasets(&other, ALL).await.unwrap(), []);
    assert_eq!(engine.dataset(&other, 1).await.unwrap(), None);
    assert_eq!(engine.models(&other, None).await.unwrap(), []);
    assert_eq!(engine.model(&other, 1).await.unwrap(), None);
    assert_eq!(
        engine.missing_files(&other, &[content]).await.unwrap(),
        [content]
    );
    assert!(
        engine
            .open_file(&other, &content, None)
            .await
            .unwrap()
            .is_none()
    );
    assert!(matches!(
        engine.stop(&other, &task.id, String::new()).await,
        Err(ChangeError::UnknownTask(_))
    ));
    let refused = engine
        .finish(&other, &task.id, lease.fence, without_reports(failed("x")))
        .await;
    assert!(matches!(refused, Err(LeaseError::UnknownTask(_))));
    let agent = engine.lease(&other, &lab.agent, Duration::ZERO).await;
    assert!(matches!(agent, Err(LeaseError::UnknownAgent(_))));
    assert!(matches!(
        engine.push_plugin(&other, content).await,
        Err(PushError::MissingFile(_))
    ));
}

#[tokio::test]
async fn a_plugin_version_belongs_to_one_component() {
    let lab = Lab::new().await;
    let manifest = manifest("mlp", "0.1.0", &["train"]);
    let first = lab.push(&manifest).await;
    assert_eq!(
        lab.push(&manifest).await,
        first,
        "pushing again is harmless"
    );
    let mut changed = manifest.clone();
    changed.summary = "trains better".into();
    let error = lab.try_push(&changed).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "`mlp@0.1.0` is installed already, with the digest {}",
            first.digest
        )
    );
    let junk = lab.put(b"not a component").await;
    let refused = lab.engine.push_plugin(&lab.workspace, junk).await;
    assert!(matches!(refused, Err(PushError::Refused(_))));
    changed.version = "1".into();
    assert!(matches!(
        lab.try_push(&changed).await,
        Err(PushError::Manifest(_))
    ));
}

#[tokio::test]
async fn a_data_set_gets_a_new_version_only_for_new_content() {
    let lab = Lab::new().await;
    let a = lab.put(b"a").await;
    let b = lab.put(b"b").await;
    let new = |digest, size_bytes| NewDataset {
        name: " digits ".into(),
        description: String::new(),
        parent: None,
        files: vec![FileEntry {
            path: "x.csv".into(),
            sha256: digest,
            size_bytes,
        }],
        tags: Vec::new(),
        tables: None,
    };
    let first = lab
        .engine
        .create_dataset(&lab.workspace, new(a, 1))
        .await
        .unwrap();
    assert_eq!(
        (first.name.as_str(), first.number, first.size_bytes),
        ("digits", 1, 1)
    );
    let same = lab
        .engine
        .create_dataset(&lab.workspace, new(a, 1))
        .await
        .unwrap();
    assert_eq!(same.id, first.id);
    let second = lab
        .engine
        .create_dataset(&lab.workspace, new(b, 1))
        .await
        .unwrap();
    assert_eq!((second.number, &second.uuid), (2, &first.uuid));
    let wrong_size = lab.engine.create_dataset(&lab.workspace, new(a, 2)).await;
    assert!(matches!(wrong_size, Err(VersionError::MissingFile { .. })));
    let mut orphan = new(a, 1);
    orphan.parent = Some(99);
    let orphan = lab.engine.create_dataset(&lab.workspace, orphan).await;
    assert!(matches!(orphan, Err(VersionError::UnknownParent(99))));
}

#[tokio::test]
async fn a_range_of_a_file_is_cut_to_the_file() {
    let lab = Lab::new().await;
    let digest = lab.put(b"0123456789").await;
    for (range, expected) in [
        (None, "0123456789"),
        (Some(2..5), "234"),
        (Some(8..99), "89"),
        (Some(10..12), ""),
    ] {
        let content = lab
            .engine
            .open_file(&lab.workspace, &digest, range)
            .await
            .unwrap()
            .unwrap();
        let pieces: Vec<_> = content.map(|piece| piece.unwrap().to_vec()).collect().await;
        assert_eq!(pieces.concat(), expected.as_bytes());
    }
    let named = stream::iter([Ok("content".into())]);
    let named = lab
        .engine
        .put_unnamed_file(&lab.workspace, named)
        .await
        .unwrap();
    assert_eq!(named, Digest::of(b"content"));
    let size = lab.engine.file_size(&lab.workspace, &named).await.unwrap();
    assert_eq!(size, Some(7));
}

#[tokio::test]
async fn every_change_of_a_task_is_announced() {
    let lab = Lab::ready().await;
    let mut events = lab.engine.subscribe();
    let task = lab.submit(lab.train("watched")).await;
    let lease = lab.lease().await.unwrap();
    lab.report(&lease, batch(0, vec![])).await.unwrap();
    lab.finish(&lease, failed("x")).await.unwrap();
    for _ in 0..4 {
        let event = events.try_recv().unwrap();
        assert_eq!(
            (&event.task, &event.workspace),
            (&task.id, lab.workspace.id())
        );
    }
    assert_eq!(task.created, NOW);
}

fn query() -> TaskQuery {
    TaskQuery {
        limit: 100,
        ..TaskQuery::default()
    }
}

#[tokio::test]
async fn settings_that_are_not_shown_as_parameters_are_still_those_of_every_clone() {
    let lab = Lab::ready().await;
    let hidden = json!({"epochs": true, "*": false});
    let settings = json!({"lr": 0.1, "epochs": 2, "model": {"hidden": 8}});
    let action = json!({
        "name": "original", "dataset": 1, "hyperparameter": settings, "log_params": hidden,
    });
    let original = lab.submit(action).await;
    let lease = lab.lease().await.unwrap();
    assert_eq!(json!(lease.settings), settings);
    lab.finish(&lease, completed(json!({}))).await.unwrap();

    let request = CloneRequest::default();
    let clone = lab
        .engine
        .clone_task(&lab.workspace, &original.id, request)
        .await
        .unwrap();
    let edited = [Parameter::new("General", "epochs", json!(5))];
    let set =
        lab.engine
            .set_parameters(&lab.workspace, &clone.id, &edited, WriteMode::Merge, false);
    set.await.unwrap();
    let wanted = Move::new(Verb::Enqueue).into_queue(QueueName::Name("default"));
    let queued = lab.engine.move_task(&lab.workspace, &clone.id, &wanted);
    queued.await.unwrap();
    let lease = lab.lease().await.unwrap();
    assert_eq!(lease.task, clone.id);
    assert_eq!(
        json!(lease.settings),
        json!({"lr": 0.1, "epochs": 5, "model": {"hidden": 8}})
    );
    let story = lab.story(&clone.id).await;
    let shown = story.lines().filter(|line| line.starts_with("General/"));
    assert_eq!(shown.collect::<Vec<_>>(), ["General/epochs int 5"]);
}
