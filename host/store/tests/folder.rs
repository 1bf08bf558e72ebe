//! What the data folder survives: a second process, a kill, a newer schema, damage.
#![expect(clippy::unwrap_used, reason = "a test says what it expects by failing")]
#![expect(
    dead_code,
    reason = "the contract's helpers are shared, and not all are needed here"
)]

mod lab;

use std::path::Path;
use std::time::Duration;

use futures::{StreamExt as _, stream};
use proptest::prelude::*;
use sqlx::Executor as _;
use trainshed_core::TaskId;
use trainshed_core::task::{Outcome, TaskState, Verb};
use trainshed_store::{ConsoleQuery, Database, Move, Store, StoreError};

use lab::{Lab, NOW, Running, UNTIL, completed, line, loss, model};

#[tokio::test]
async fn a_second_opener_is_told_that_the_folder_is_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), &Database::Folder).await.unwrap();
    let second = Store::open(folder.path(), &Database::Folder).await;
    assert!(matches!(second, Err(StoreError::Locked { .. })));
    store.close().await;
    drop(store);
    Store::open(folder.path(), &Database::Folder).await.unwrap();
}

#[tokio::test]
async fn a_folder_with_any_name_can_be_opened() {
    let folder = tempfile::tempdir().unwrap();
    let odd = folder.path().join("50% of ?this #and ünïcode/deep");
    let lab = Lab::new(Store::open(&odd, &Database::Folder).await.unwrap()).await;
    lab.queue("task").await;
    assert!(odd.join("trainshed.db").exists());
}

#[tokio::test]
async fn data_of_a_newer_trainshed_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), &Database::Folder).await.unwrap();
    store.close().await;
    drop(store);
    change(
        folder.path(),
        "insert into _sqlx_migrations
            select 9999, description, installed_on, success, checksum, execution_time
              from _sqlx_migrations limit 1",
    )
    .await;
    let error = Store::open(folder.path(), &Database::Folder)
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the data has schema 9999, but this trainshed knows schemas up to 14"
    );
    assert!(error.hint().unwrap().contains("newer"));
}

#[tokio::test]
async fn a_file_that_is_no_database_is_called_damaged() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("trainshed.db"), vec![b'x'; 8192]).unwrap();
    let error = Store::open(folder.path(), &Database::Folder)
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
}

#[tokio::test]
async fn damaged_points_are_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let lab = Lab::new(Store::open(folder.path(), &Database::Folder).await.unwrap()).await;
    let running = lab.run("task").await;
    lab.report(&running, 0, vec![loss(0, 1.0)]).await;
    lab.store.close().await;
    drop(lab);
    change(
        folder.path(),
        "update point_log set frame = x'5453503101000000'",
    )
    .await;
    let lab = Lab::again(Store::open(folder.path(), &Database::Folder).await.unwrap()).await;
    let read = lab
        .store
        .points(&lab.workspace, &running.task, ("train", "loss"), 0, 10)
        .await;
    assert!(matches!(read, Err(StoreError::Damaged { .. })), "{read:?}");
}

/// A copy of the folder, made while the store is open, is what a killed process leaves.
#[tokio::test]
async fn what_was_acknowledged_survives_a_kill_and_half_an_upload_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let lab = Lab::new(Store::open(folder.path(), &Database::Folder).await.unwrap()).await;
    let weights = lab.put(b"weights").await;
    let running = lab.run("task").await;
    for key in 0..20 {
        let reports = vec![loss(key, 0.5), line("x"), model("m", key, weights, 7)];
        lab.report(&running, key, reports).await;
    }
    let (store, workspace) = (lab.store.clone(), lab.workspace.clone());
    let hanging = tokio::spawn(async move {
        let half = stream::iter([Ok("wei".into())]).chain(stream::pending());
        store.put_file(&workspace, None, half, NOW).await
    });
    while files_in(&folder.path().join("files")) < 3 {
        assert!(!hanging.is_finished());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    let left = tempfile::tempdir().unwrap();
    copy(folder.path(), left.path());
    let lab = Lab::again(Store::open(left.path(), &Database::Folder).await.unwrap()).await;
    assert_eq!(files_in(&left.path().join("files")), 2);
    let series = lab
        .store
        .series(&lab.workspace, &running.task)
        .await
        .unwrap();
    assert_eq!(series[0].count, 20);
    let console = lab
        .store
        .console(&lab.workspace, &running.task, &ConsoleQuery::last(1))
        .await;
    assert_eq!(console.unwrap().total, 20);
    let ended = lab
        .store
        .end_local_leases("interrupted: test", NOW)
        .await
        .unwrap();
    assert_eq!(ended.len(), 1);
    let task = lab
        .store
        .task(&lab.workspace, &running.task)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (task.status, task.status_reason.as_str()),
        (TaskState::Stopped, "interrupted: test")
    );
    let models = lab.store.models(&lab.workspace, None).await.unwrap();
    assert_eq!(models[0].iteration, 19, "one goes on from the last model");
    assert_eq!(
        lab.read(&models[0].sha256.unwrap()).await.unwrap(),
        b"weights"
    );
}

/// One step of somebody; `fence` is how far the caller's fence is from the right one.
#[derive(Debug, Clone)]
enum Step {
    Queue,
    Claim,
    Report { task: usize, fence: i64 },
    Finish { task: usize, fence: i64 },
    Stop { task: usize },
    Expire,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let fence = prop_oneof![4 => Just(0_i64), 1 => Just(-1), 1 => Just(1)];
    let step = prop_oneof![
        3 => Just(Step::Queue),
        3 => Just(Step::Claim),
        3 => (0..4_usize, fence.clone()).prop_map(|(task, fence)| Step::Report { task, fence }),
        2 => (0..4_usize, fence).prop_map(|(task, fence)| Step::Finish { task, fence }),
        1 => (0..4_usize).prop_map(|task| Step::Stop { task }),
        1 => Just(Step::Expire),
    ];
    prop::collection::vec(step, 1..40)
}

/// What a task should be: its state, its fence, whether its agent itself ended it.
struct Expected {
    id: TaskId,
    state: TaskState,
    fence: i64,
    finished: bool,
}

async fn follow(steps: Vec<Step>) {
    let folder = tempfile::tempdir().unwrap();
    let lab = Lab::new(Store::open(folder.path(), &Database::Folder).await.unwrap()).await;
    let mut tasks: Vec<Expected> = Vec::new();
    for (number, step) in steps.into_iter().enumerate() {
        match step {
            Step::Queue => tasks.push(Expected {
                id: lab.queue(&format!("task {number}")).await,
                state: TaskState::Queued,
                fence: 0,
                finished: false,
            }),
            Step::Claim => {
                let claimed = lab.claim().await;
                let waiting = tasks
                    .iter_mut()
                    .find(|task| task.state == TaskState::Queued);
                assert_eq!(claimed.is_some(), waiting.is_some());
                if let (Some(claimed), Some(task)) = (claimed, waiting) {
                    task.state = TaskState::InProgress;
                    task.fence += 1;
                    assert_eq!((&claimed.task, claimed.fence), (&task.id, task.fence));
                }
            }
            Step::Report { task, fence } => {
                let Some(task) = tasks.get(task) else {
                    continue;
                };
                let writer = Running {
                    task: task.id.clone(),
                    fence: task.fence + fence,
                };
                let key = u64::try_from(number).unwrap();
                let written = lab.try_report(&writer, key, vec![line("x")]).await;
                let may = fence == 0 && task.state == TaskState::InProgress;
                assert_eq!(written.is_ok(), may, "{written:?}");
            }
            Step::Finish { task, fence } => {
                let Some(task) = tasks.get_mut(task) else {
                    continue;
                };
                let writer = Running {
                    task: task.id.clone(),
                    fence: task.fence + fence,
                };
                let finished = lab.finish(&writer, completed()).await;
                let runs = task.state == TaskState::InProgress;
                assert_eq!(finished.is_ok(), fence == 0 && (runs || task.finished));
                if finished.is_ok() && runs {
                    task.state = TaskState::Completed;
                    task.finished = true;
                }
            }
            Step::Stop { task } => {
                let Some(task) = tasks.get_mut(task) else {
                    continue;
                };
                let stopped = lab
                    .store
                    .move_task(&lab.workspace, &task.id, &Move::new(Verb::Stop), NOW)
                    .await;
                assert_eq!(stopped.is_ok(), task.state.may_become(TaskState::Stopped));
                if matches!(task.state, TaskState::Queued | TaskState::Failed) {
                    task.state = TaskState::Stopped;
                }
            }
            Step::Expire => {
                let ended = lab
                    .store
                    .end_expired_leases(UNTIL.plus_millis(1))
                    .await
                    .unwrap();
                let running = tasks
                    .iter_mut()
                    .filter(|task| task.state == TaskState::InProgress);
                let mut expired = 0;
                for task in running {
                    task.state = TaskState::Stopped;
                    task.fence += 1;
                    expired += 1;
                }
                assert_eq!(ended.len(), expired);
            }
        }
        for task in &tasks {
            assert_eq!(lab.state(&task.id).await, task.state);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn a_task_has_one_writer_and_moves_only_as_the_states_allow(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(follow(steps));
    }
}

#[test]
fn outcomes_are_states_a_running_task_may_take() {
    let reason = String::new;
    for outcome in [
        completed(),
        Outcome::Failed { reason: reason() },
        Outcome::Stopped { reason: reason() },
    ] {
        assert!(TaskState::InProgress.may_become(outcome.state()));
    }
}

/// Changes the database behind the store's back.
async fn change(folder: &Path, statement: &'static str) {
    sqlx::any::install_default_drivers();
    let url = format!("sqlite://{}", folder.join("trainshed.db").display());
    let pool = sqlx::AnyPool::connect(&url).await.unwrap();
    pool.execute(statement).await.unwrap();
    pool.close().await;
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn files_in(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).unwrap();
    let count = |entry: std::io::Result<std::fs::DirEntry>| match entry.unwrap() {
        entry if entry.file_type().unwrap().is_dir() => files_in(&entry.path()),
        _ => 1,
    };
    entries.map(count).sum()
}
