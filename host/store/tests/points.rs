//! What the store promises about points of curves, whichever database it is on.
#![expect(clippy::unwrap_used, reason = "a test says what it expects by failing")]
#![expect(
    dead_code,
    reason = "the contract's helpers are shared, and not all are needed here"
)]

#[macro_use]
mod lab;

use std::path::Path;

use expect_test::expect;
use futures::future::join_all;
use sqlx::{Connection as _, Executor as _};
use trainshed_core::report::{Point, Real, Report};
use trainshed_core::resource::MACHINE_TITLE;
use trainshed_postgres::Cluster;
use trainshed_series::{FrameBuilder, MAX_SAMPLES};
use trainshed_store::{
    AppendError, Database, LeaseError, PointBatch, SampleQuery, Sampling, Store, StoreError,
};

use lab::{Lab, NOW, Running, completed, loss, model};

store_contract! {
    what_the_machine_does_is_no_iteration_of_the_task,
    points_are_the_same_before_and_after_they_become_chunks,
    a_step_that_is_reported_again_replaces_the_former_wherever_that_is,
    steps_may_come_in_any_order,
    a_client_batch_is_known_by_its_key,
    a_published_or_unknown_task_takes_no_points,
    a_batch_that_fails_does_not_fail_its_neighbours,
    a_curve_is_read_in_pages,
    samples_are_few_and_keep_the_mean,
    a_long_curve_is_sampled_without_losing_a_spike,
    extra_data_of_points_survive,
    a_page_has_at_most_four_mebibytes_of_extra_data,
    deleted_points_are_gone_and_new_ones_can_come,
    summaries_survive_a_server_that_ends_at_once,
    keys_of_batches_are_forgotten_when_asked,
    a_client_task_has_a_bounded_number_of_curves,
    two_servers_work_on_one_log_without_loss,
}

fn ramp(from: u64, to: u64) -> Vec<(u64, f64)> {
    (from..to).map(|step| (step, step as f64 / 2.0)).collect()
}

async fn compact(lab: &Lab, running: &Running) {
    let compacted = lab.store.compact_points(&lab.workspace, &running.task);
    compacted.await.unwrap();
}

async fn curve(lab: &Lab, running: &Running) -> String {
    lab.curve(&running.task, "train", "loss").await
}

async fn points_are_the_same_before_and_after_they_become_chunks(lab: Lab) {
    let running = lab.run("task").await;
    lab.append(&running.task, None, &ramp(0, 5000))
        .await
        .unwrap();
    let special = [
        (5000, f64::NAN),
        (5001, f64::INFINITY),
        (5002, f64::NEG_INFINITY),
        (5003, -0.0),
    ];
    lab.append(&running.task, None, &special).await.unwrap();
    let before = curve(&lab, &running).await;
    assert!(before.ends_with("4999:2499.5 5000:NaN 5001:inf 5002:-inf 5003:-0"));
    compact(&lab, &running).await;
    assert_eq!(curve(&lab, &running).await, before);
    // Short chunks at the end are taken up again and again.
    for start in (5004..5100).step_by(8) {
        lab.append(&running.task, None, &ramp(start, start + 8))
            .await
            .unwrap();
        compact(&lab, &running).await;
    }
    let after = curve(&lab, &running).await;
    assert!(after.starts_with(&before) && after.ends_with("5099:2549.5"));
    let series = lab
        .store
        .series(&lab.workspace, &running.task)
        .await
        .unwrap();
    assert_eq!((series[0].count, series[0].last_iteration), (5100, 5099));
}

async fn a_step_that_is_reported_again_replaces_the_former_wherever_that_is(lab: Lab) {
    let running = lab.run("task").await;
    lab.append(&running.task, None, &[(1, 1.0), (2, 2.0), (3, 3.0)])
        .await
        .unwrap();
    compact(&lab, &running).await;
    lab.append(&running.task, None, &[(2, 2.5)]).await.unwrap();
    assert_eq!(curve(&lab, &running).await, "1:1 2:2.5 3:3");
    lab.append(&running.task, None, &[(2, 2.7), (4, 4.0)])
        .await
        .unwrap();
    assert_eq!(curve(&lab, &running).await, "1:1 2:2.7 3:3 4:4");
    compact(&lab, &running).await;
    assert_eq!(curve(&lab, &running).await, "1:1 2:2.7 3:3 4:4");
}

async fn steps_may_come_in_any_order(lab: Lab) {
    let running = lab.run("task").await;
    let mut steps: Vec<u64> = (0..20_000).collect();
    // An order by chance that is the same each time.
    let mut state = 1_u64;
    for place in (1..steps.len()).rev() {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        steps.swap(place, usize::try_from(state >> 33).unwrap() % (place + 1));
    }
    for (number, part) in steps.chunks(3000).enumerate() {
        let points: Vec<(u64, f64)> = part.iter().map(|step| (*step, *step as f64)).collect();
        lab.append(&running.task, None, &points).await.unwrap();
        if number % 2 == 0 {
            compact(&lab, &running).await;
        }
    }
    for _ in 0..2 {
        let page = lab
            .store
            .points(&lab.workspace, &running.task, ("train", "loss"), 0, 100_000)
            .await
            .unwrap();
        let view = page.points.view();
        assert_eq!(view.steps(), (0..20_000).collect::<Vec<u64>>());
        assert!(view.iter().all(|point| point.value == point.step as f64));
        compact(&lab, &running).await;
    }
}

async fn a_client_batch_is_known_by_its_key(lab: Lab) {
    let (one, other) = (lab.run("one").await, lab.run("other").await);
    for (running, key, repeated) in [
        (&one, Some("a"), false),
        (&one, Some("a"), true),
        (&one, Some("b"), false),
        (&other, Some("a"), false),
        (&other, None, false),
        (&other, None, false),
    ] {
        let appended = lab
            .append(&running.task, key, &[(0, 1.0), (1, 2.0)])
            .await
            .unwrap();
        assert_eq!((appended.points, appended.repeated), (2, repeated));
    }
    compact(&lab, &one).await;
    let again = lab.append(&one.task, Some("b"), &[(0, 9.0)]).await.unwrap();
    assert!(again.repeated, "a key outlives its row in the log");
    for (running, count) in [(&one, 4), (&other, 6)] {
        let series = lab
            .store
            .series(&lab.workspace, &running.task)
            .await
            .unwrap();
        assert_eq!(series[0].count, count);
    }
}

async fn a_published_or_unknown_task_takes_no_points(lab: Lab) {
    let running = lab.run("task").await;
    lab.finish(&running, completed()).await.unwrap();
    lab.append(&running.task, None, &[(0, 1.0)]).await.unwrap();
    let unknown = trainshed_core::TaskId::from_u128(7);
    let refused = lab.append(&unknown, None, &[(0, 1.0)]).await;
    assert!(matches!(refused, Err(AppendError::UnknownTask(task)) if task == unknown));
}

async fn a_batch_that_fails_does_not_fail_its_neighbours(lab: Lab) {
    let running = lab.run("task").await;
    let other = lab.run("other").await;
    let missing = trainshed_core::Digest::of(b"never uploaded");
    let batches = (0..20_u64).map(|key| {
        let (lab, running, other) = (&lab, &running, &other);
        async move {
            match key % 4 {
                0 => {
                    let reports = vec![loss(key, 0.0), model("m", key, missing, 7)];
                    let refused = lab.try_report(running, key, reports).await;
                    assert!(
                        matches!(refused, Err(LeaseError::MissingFile { .. })),
                        "{refused:?}"
                    );
                }
                1 => {
                    let stale = Running {
                        fence: running.fence + 1,
                        ..running.clone()
                    };
                    let refused = lab.try_report(&stale, key, vec![loss(key, 0.0)]).await;
                    assert!(
                        matches!(refused, Err(LeaseError::Stale { .. })),
                        "{refused:?}"
                    );
                }
                2 => lab.report(running, key, vec![loss(key, 1.0)]).await,
                _ => drop(lab.append(&other.task, None, &[(key, 1.0)]).await.unwrap()),
            }
        }
    });
    join_all(batches).await;
    assert_eq!(curve(&lab, &running).await, "2:1 6:1 10:1 14:1 18:1");
    assert_eq!(curve(&lab, &other).await, "3:1 7:1 11:1 15:1 19:1");
}

/// The lengths of the pages of a curve of at most `most` points, and the steps in them.
async fn pages(lab: &Lab, running: &Running, most: usize) -> (Vec<usize>, Vec<u64>) {
    let (mut lengths, mut steps, mut from) = (Vec::new(), Vec::new(), Some(0));
    while let Some(first) = from {
        let page = lab
            .store
            .points(
                &lab.workspace,
                &running.task,
                ("train", "loss"),
                first,
                most,
            )
            .await
            .unwrap();
        lengths.push(page.points.len());
        steps.extend_from_slice(page.points.view().steps());
        from = page.next;
    }
    (lengths, steps)
}

async fn a_curve_is_read_in_pages(lab: Lab) {
    let running = lab.run("task").await;
    lab.append(&running.task, None, &ramp(0, 12_000))
        .await
        .unwrap();
    compact(&lab, &running).await;
    lab.append(
        &running.task,
        None,
        &[(3, -1.0), (11_999, -2.0), (12_005, -3.0)],
    )
    .await
    .unwrap();
    let (lengths, steps) = pages(&lab, &running, 1000).await;
    assert!(lengths.iter().all(|length| *length <= 1000));
    let expected: Vec<u64> = (0..12_000).chain([12_005]).collect();
    assert_eq!(steps, expected);
}

async fn sample(lab: &Lab, running: &Running, query: &SampleQuery) -> trainshed_store::Sampled {
    lab.store
        .sample(&lab.workspace, &running.task, ("train", "loss"), query)
        .await
        .unwrap()
}

async fn samples_are_few_and_keep_the_mean(lab: Lab) {
    let running = lab.run("task").await;
    lab.append(&running.task, None, &ramp(0, 15_000))
        .await
        .unwrap();
    compact(&lab, &running).await;
    lab.append(&running.task, None, &ramp(15_000, 20_000))
        .await
        .unwrap();
    let all = sample(
        &lab,
        &running,
        &SampleQuery {
            most: usize::MAX,
            ..SampleQuery::default()
        },
    )
    .await;
    assert_eq!(all.values.len(), MAX_SAMPLES);
    let ten = sample(
        &lab,
        &running,
        &SampleQuery {
            most: 10,
            ..SampleQuery::default()
        },
    )
    .await;
    assert_eq!((ten.values.len(), ten.sampling), (10, Sampling::Mean));
    let mean = ten.values.iter().sum::<f64>() / 10.0;
    assert!((mean - 19_999.0 / 4.0).abs() < 1e-6, "{mean}");
    let window = SampleQuery {
        steps: 14_990..=15_009,
        ..SampleQuery::default()
    };
    let exact = sample(&lab, &running, &window).await;
    assert_eq!(exact.sampling, Sampling::Exact);
    assert_eq!(exact.steps, (14_990..15_010).collect::<Vec<u64>>());
    let none = lab
        .store
        .sample(&lab.workspace, &running.task, ("train", "none"), &window)
        .await
        .unwrap();
    assert!(none.steps.is_empty());
}

async fn a_long_curve_is_sampled_without_losing_a_spike(lab: Lab) {
    let running = lab.run("task").await;
    for start in (0..300_000).step_by(50_000) {
        let mut points = ramp(start, start + 50_000);
        if start == 100_000 {
            points[777].1 = 1e9;
        }
        lab.append(&running.task, None, &points).await.unwrap();
    }
    compact(&lab, &running).await;
    // One point over a chunk, some after all.
    lab.append(&running.task, None, &[(150_000, -1e9), (300_000, 1.0)])
        .await
        .unwrap();
    let query = SampleQuery {
        most: 200,
        ..SampleQuery::default()
    };
    let sampled = sample(&lab, &running, &query).await;
    assert!(sampled.steps.len() <= 200 && sampled.steps.len() > 150);
    assert_eq!(sampled.counts.iter().sum::<u64>(), 300_001);
    assert_eq!(sampled.max.iter().copied().fold(0.0, f64::max), 1e9);
    assert_eq!(sampled.min.iter().copied().fold(0.0, f64::min), -1e9);
    assert!(sampled.steps.is_sorted());
    let window = SampleQuery {
        steps: 1000..=280_000,
        ..query
    };
    let sampled = sample(&lab, &running, &window).await;
    assert_eq!(sampled.counts.iter().sum::<u64>(), 279_001);
    assert_eq!(sampled.steps[0], 1000);
}

async fn extra_data_of_points_survive(lab: Lab) {
    let running = lab.run("task").await;
    let extra = serde_json::json!({"epoch": 3, "phase": "ü"});
    let point = Point {
        title: "train".into(),
        series: "loss".into(),
        iteration: 1,
        value: Real(0.5),
        at: NOW,
        extra: extra.as_object().cloned(),
    };
    lab.report(&running, 0, vec![loss(0, 1.0), Report::Point(point)])
        .await;
    for _ in 0..2 {
        let page = lab
            .store
            .points(&lab.workspace, &running.task, ("train", "loss"), 0, 10)
            .await
            .unwrap();
        let extras: Vec<(usize, &str)> = page.points.view().extras().collect();
        expect![[r#"[(1, "{\"epoch\":3,\"phase\":\"ü\"}")]"#]].assert_eq(&format!("{extras:?}"));
        compact(&lab, &running).await;
    }
}

/// 2,000 points with 4 KiB each are 8 MiB, in the log, in chunks, and partly here and there.
async fn a_page_has_at_most_four_mebibytes_of_extra_data(lab: Lab) {
    let running = lab.run("task").await;
    let note = serde_json::json!({"note": "x".repeat(4085)}).to_string();
    assert_eq!(note.len(), 4096);
    let append = async |steps: std::ops::Range<u64>| {
        let mut builder = FrameBuilder::default();
        for step in steps {
            let names = ("train".into(), "loss".into());
            builder.push(names, step, 7, 0.5, Some(note.as_str().into()));
        }
        let batch = PointBatch {
            frame: builder.finish(),
            ..PointBatch::default()
        };
        lab.store
            .append_points(&lab.workspace, &running.task, &batch, NOW)
            .await
            .unwrap();
    };
    let read = async || pages(&lab, &running, 100_000).await;
    for batch in 0..4 {
        append(batch * 500..(batch + 1) * 500).await;
    }
    let expected = (vec![1024, 976], (0..2000).collect());
    assert_eq!(read().await, expected);
    compact(&lab, &running).await;
    assert_eq!(read().await, expected);
    append(1500..2500).await;
    assert_eq!(
        read().await,
        (vec![1024, 1024, 452], (0..2500).collect::<Vec<u64>>())
    );
}

async fn deleted_points_are_gone_and_new_ones_can_come(lab: Lab) {
    let running = lab.run("task").await;
    lab.append(&running.task, Some("a"), &ramp(0, 10))
        .await
        .unwrap();
    compact(&lab, &running).await;
    lab.append(&running.task, None, &ramp(10, 20))
        .await
        .unwrap();
    let before = lab
        .store
        .points_version(&lab.workspace, &running.task)
        .await
        .unwrap();
    assert!(
        lab.store
            .delete_points(&lab.workspace, &running.task)
            .await
            .unwrap()
    );
    let after = lab
        .store
        .points_version(&lab.workspace, &running.task)
        .await
        .unwrap();
    assert_ne!(before, after);
    assert_eq!(curve(&lab, &running).await, "");
    assert!(
        lab.store
            .series(&lab.workspace, &running.task)
            .await
            .unwrap()
            .is_empty()
    );
    lab.append(&running.task, Some("a"), &[(3, 1.0)])
        .await
        .unwrap();
    assert_eq!(curve(&lab, &running).await, "3:1");
    compact(&lab, &running).await;
    assert_eq!(curve(&lab, &running).await, "3:1");
    let unknown = trainshed_core::TaskId::from_u128(7);
    assert!(
        !lab.store
            .delete_points(&lab.workspace, &unknown)
            .await
            .unwrap()
    );
}

async fn summaries_survive_a_server_that_ends_at_once(lab: Lab) {
    let running = lab.run("task").await;
    for key in 0..50 {
        lab.report(&running, key, vec![loss(key, key as f64)]).await;
    }
    let (tasks, workspace) = (lab.store.clone(), lab.workspace.clone());
    tasks.settle_summaries(None).await.unwrap();
    let task = tasks
        .task(&workspace, &running.task)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(task.last_iteration, 49);
    let series = tasks.series(&workspace, &running.task).await.unwrap();
    assert_eq!((series[0].count, series[0].max.0), (50, 49.0));
}

async fn keys_of_batches_are_forgotten_when_asked(lab: Lab) {
    let running = lab.run("task").await;
    lab.append(&running.task, Some("a"), &[(0, 1.0)])
        .await
        .unwrap();
    lab.report(&running, 0, vec![loss(1, 1.0)]).await;
    lab.store.forget_batches(NOW).await.unwrap();
    assert!(
        lab.append(&running.task, Some("a"), &[])
            .await
            .unwrap()
            .repeated
    );
    let later = NOW.plus_millis(1);
    lab.store.forget_batches(later).await.unwrap();
    assert!(
        !lab.append(&running.task, Some("a"), &[])
            .await
            .unwrap()
            .repeated
    );
    // The lease goes on, and so does what it may send again.
    lab.report(&running, 0, vec![loss(1, 2.0)]).await;
    assert_eq!(curve(&lab, &running).await, "0:1 1:1");
}

async fn a_client_task_has_a_bounded_number_of_curves(lab: Lab) {
    let running = lab.run("task").await;
    let batch = |from: u64, to: u64| {
        let mut builder = FrameBuilder::default();
        for series in from..to {
            builder.push(("t".into(), series.to_string().into()), 0, 0, 0.0, None);
        }
        PointBatch {
            frame: builder.finish(),
            ..PointBatch::default()
        }
    };
    let append = async |batch: PointBatch<'static>| {
        lab.store
            .append_points(&lab.workspace, &running.task, &batch, NOW)
            .await
    };
    append(batch(0, 6000)).await.unwrap();
    append(batch(0, 6000)).await.unwrap();
    let refused = append(batch(5000, 10_001)).await;
    assert!(matches!(refused, Err(AppendError::TooMany)), "{refused:?}");
    append(batch(5000, 10_000)).await.unwrap();
    compact(&lab, &running).await;
    let series = lab
        .store
        .series(&lab.workspace, &running.task)
        .await
        .unwrap();
    assert_eq!(series.len(), 10_000);
}

/// On SQLite the second "server" is only a second worker: the folder has one.
async fn two_servers_work_on_one_log_without_loss(lab: Lab) {
    let running = lab.run("task").await;
    let writing = async {
        for part in 0..40 {
            lab.append(&running.task, None, &ramp(part * 50, part * 50 + 60))
                .await
                .unwrap();
        }
    };
    let working = async {
        for _ in 0..10 {
            let both = [(); 2].map(|()| lab.store.compact_points(&lab.workspace, &running.task));
            for done in join_all(both).await {
                done.unwrap();
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(writing, working);
    let page = lab
        .store
        .points(&lab.workspace, &running.task, ("train", "loss"), 0, 100_000)
        .await
        .unwrap();
    assert_eq!(page.points.view().steps(), (0..2010).collect::<Vec<u64>>());
    let series = lab
        .store
        .series(&lab.workspace, &running.task)
        .await
        .unwrap();
    assert_eq!(series[0].count, 2400);
}

#[tokio::test]
async fn a_flipped_bit_of_a_chunk_is_named_and_other_curves_are_readable() {
    let folder = tempfile::tempdir().unwrap();
    let lab = Lab::new(Store::open(folder.path(), &Database::Folder).await.unwrap()).await;
    let running = lab.run("task").await;
    lab.append(&running.task, None, &ramp(0, 1000))
        .await
        .unwrap();
    lab.report(&running, 0, vec![lab::point("train", "other", 0, 1.0)])
        .await;
    compact(&lab, &running).await;
    lab.store.close().await;
    drop(lab);
    change(
        folder.path(),
        "update chunk set content = cast(substr(content, 1, 99) || x'55' || substr(content, 101) as blob)
          where series = 'loss'",
    )
    .await;
    let lab = Lab::again(Store::open(folder.path(), &Database::Folder).await.unwrap()).await;
    let read = lab
        .store
        .points(&lab.workspace, &running.task, ("train", "loss"), 0, 10)
        .await;
    assert!(matches!(read, Err(StoreError::Damaged { .. })), "{read:?}");
    assert_eq!(lab.curve(&running.task, "train", "other").await, "0:1");
}

/// Servers that share a database see each other's points, and each may make chunks of them.
#[tokio::test]
async fn servers_that_share_a_database_read_each_others_points() {
    let database = Database::Postgres(Cluster::shared().database());
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let first = Lab::new(Store::open(folders[0].path(), &database).await.unwrap()).await;
    let second = Lab::again(Store::open(folders[1].path(), &database).await.unwrap()).await;
    let running = first.run("task").await;
    for round in 0..6_u64 {
        let (writer, worker) = if round % 2 == 0 {
            (&first, &second)
        } else {
            (&second, &first)
        };
        writer
            .append(&running.task, None, &[(round, 1.0), (100 - round, 2.0)])
            .await
            .unwrap();
        assert!(curve(worker, &running).await.starts_with("0:1"));
        if round % 3 == 0 {
            compact(worker, &running).await;
        }
        assert_eq!(curve(writer, &running).await, curve(worker, &running).await);
    }
    let series = second
        .store
        .series(&second.workspace, &running.task)
        .await
        .unwrap();
    assert!(series[0].count >= 10);
}

async fn change(folder: &Path, statement: &'static str) {
    sqlx::any::install_default_drivers();
    let url = format!("sqlite://{}", folder.join("trainshed.db").display());
    let mut connection = sqlx::AnyConnection::connect(&url).await.unwrap();
    connection.execute(statement).await.unwrap();
    connection.close().await.unwrap();
}

async fn what_the_machine_does_is_no_iteration_of_the_task(lab: Lab) {
    let running = lab.run("task").await;
    let mut seconds = loss(3600, 42.0);
    if let Report::Point(point) = &mut seconds {
        point.title = MACHINE_TITLE.to_owned();
    }
    lab.report(&running, 0, vec![loss(7, 0.5), seconds]).await;
    lab.store.settle_summaries(None).await.unwrap();
    let task = lab.store.task(&lab.workspace, &running.task).await;
    assert_eq!(task.unwrap().unwrap().last_iteration, 7);
}
