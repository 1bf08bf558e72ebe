//! Backups: what comes back, from either database into either.
#![expect(clippy::unwrap_used, reason = "a test says what it expects by failing")]
#![expect(
    dead_code,
    reason = "the contract's helpers are shared, and not all are needed here"
)]

mod lab;

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};

use tempfile::TempDir;
use trainshed_core::report::{Real, Report};
use trainshed_core::view::TaskQuery;
use trainshed_postgres::Cluster;
use trainshed_store::{BackupError, Database, FileSettings, Store, backup, restore};

use lab::{Lab, NOW, line, loss, model};

/// An empty folder, and an empty database where that is elsewhere.
struct Place {
    folder: TempDir,
    database: Database,
}

impl Place {
    fn sqlite() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            database: Database::Folder,
        }
    }

    fn postgres() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            database: Database::Postgres(Cluster::shared().database()),
        }
    }

    async fn open(&self) -> Store {
        Store::open(self.folder.path(), &self.database)
            .await
            .unwrap()
    }

    async fn backup(&self) -> File {
        let archive = tempfile::tempfile().unwrap();
        let target = archive.try_clone().unwrap();
        backup(
            self.folder.path(),
            &self.database,
            FileSettings::default(),
            target,
            NOW,
        )
        .await
        .unwrap();
        archive
    }

    async fn restore(&self, mut archive: File) -> Result<(), BackupError> {
        archive.rewind().unwrap();
        restore(self.folder.path(), &self.database, archive)
            .await
            .map(|_| ())
    }
}

/// Fills a store with something of everything, as running tasks do.
async fn fill(store: Store) -> Lab {
    let lab = Lab::new(store).await;
    let weights = lab.put(b"weights").await;
    let running = lab.run("first task").await;
    let mut single = loss(1, f64::INFINITY);
    if let Report::Point(point) = &mut single {
        point.title = "odd".into();
    }
    let reports = vec![
        loss(0, 0.5),
        single,
        line("a line"),
        model("m", 3, weights, 7),
    ];
    lab.report(&running, 0, reports).await;
    lab.store
        .compact_points(&lab.workspace, &running.task)
        .await
        .unwrap();
    lab.finish(&running, lab::completed()).await.unwrap();
    lab.queue("second task").await;
    lab
}

async fn moves(from: Place, to: Place) {
    // The server goes on while the backup is taken.
    let lab = fill(from.open().await).await;
    let archive = from.backup().await;
    to.restore(archive).await.unwrap();
    let there = Lab::again(to.open().await).await;
    for (store, workspace) in [
        (&lab.store, &lab.workspace),
        (&there.store, &there.workspace),
    ] {
        let query = TaskQuery {
            limit: 10,
            ..TaskQuery::default()
        };
        let tasks = store.tasks(workspace, &query).await.unwrap().items;
        let names: Vec<&str> = tasks.iter().map(|task| task.name.as_str()).collect();
        assert_eq!(names, ["second task", "first task"]);
        let first = &tasks[1].id;
        let curve = ("odd", "loss");
        let page = store.points(workspace, first, curve, 0, 10).await.unwrap();
        assert_eq!(page.points.view().values()[0], f64::INFINITY);
        let series = store.series(workspace, first).await.unwrap();
        assert_eq!(series[0].max, Real(f64::INFINITY));
        let models = store.models(workspace, Some(first)).await.unwrap();
        assert_eq!(models[0].iteration, 3);
    }
    let query = TaskQuery {
        limit: 10,
        ..TaskQuery::default()
    };
    let tasks = there.store.tasks(&there.workspace, &query).await.unwrap();
    let first = &tasks.items[1].id;
    there.append(first, None, &[(5, 1.0)]).await.unwrap();
    assert_eq!(there.curve(first, "train", "loss").await, "0:0.5 5:1");
    let series = there.store.series(&there.workspace, first).await.unwrap();
    assert_eq!(series[1].count, 2);
    let weights = trainshed_core::Digest::of(b"weights");
    assert_eq!(there.read(&weights).await.unwrap(), b"weights");
    // Numbers go on after those that came.
    let next = there.dataset("another", &[("a.csv", b"1")]).await;
    assert_eq!(next.id, 2);
}

#[tokio::test]
async fn sqlite_comes_back() {
    moves(Place::sqlite(), Place::sqlite()).await;
}

#[tokio::test]
async fn sqlite_moves_to_postgres() {
    moves(Place::sqlite(), Place::postgres()).await;
}

#[tokio::test]
async fn postgres_moves_to_sqlite() {
    moves(Place::postgres(), Place::sqlite()).await;
}

#[tokio::test]
async fn nothing_is_restored_over_data() {
    let from = Place::sqlite();
    fill(from.open().await).await;
    let archive = from.backup().await;
    let there = Place::postgres();
    Lab::new(there.open().await).await.store.close().await;
    let error = there.restore(archive).await.unwrap_err();
    assert!(matches!(error, BackupError::NotEmpty), "{error:?}");
}

#[tokio::test]
async fn a_damaged_archive_restores_nothing() {
    let from = Place::sqlite();
    fill(from.open().await).await;
    let mut archive = from.backup().await;
    archive.rewind().unwrap();
    let mut whole = Vec::new();
    archive.read_to_end(&mut whole).unwrap();
    for length in [0, 10, whole.len() / 2, whole.len() - 20] {
        let mut cut = tempfile::tempfile().unwrap();
        cut.write_all(&whole[..length]).unwrap();
        let there = Place::sqlite();
        let error = there.restore(cut).await.unwrap_err();
        assert!(
            matches!(error, BackupError::Archive { .. } | BackupError::Invalid(_)),
            "{length} bytes: {error:?}"
        );
        assert!(
            there
                .open()
                .await
                .authenticate("key-1")
                .await
                .unwrap()
                .is_none()
        );
    }
}

/// What the tables of the archive are is written down by hand, in an order that references
/// need; this notices one that was forgotten.
#[tokio::test]
async fn every_table_is_in_a_backup() {
    let place = Place::sqlite();
    place.open().await.close().await;
    let url = format!(
        "sqlite://{}",
        place.folder.path().join("trainshed.db").display()
    );
    let tables: Vec<(String,)> = sqlx::query_as(
        "select name from sqlite_master where type = 'table' and name not like 'sqlite_%'
            and name not like '_sqlx_%' and name not in ('idempotency', 'stray', 'upload', 'upload_part') order by name",
    )
    .fetch_all(&sqlx::AnyPool::connect(&url).await.unwrap())
    .await
    .unwrap();
    let mut archive = place.backup().await;
    archive.rewind().unwrap();
    let mut archive = tar::Archive::new(zstd::Decoder::new(archive).unwrap());
    let entries = archive.entries().unwrap();
    let names = entries.map(|entry| entry.unwrap().path().unwrap().display().to_string());
    let mut saved: Vec<String> = names
        .filter_map(|name| {
            Some(
                name.strip_prefix("tables/")?
                    .strip_suffix(".ndjson")?
                    .to_owned(),
            )
        })
        .collect();
    saved.sort();
    let tables: Vec<String> = tables.into_iter().map(|(name,)| name).collect();
    assert_eq!(saved, tables);
}
