//! Files: where they lie, how they come in parts, and how they go when nobody needs them.
#![expect(clippy::unwrap_used, reason = "a test says what it expects by failing")]
#![expect(
    dead_code,
    reason = "the contract's helpers are shared, and not all are needed here"
)]

mod lab;
mod s3;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use expect_test::expect;
use futures::{StreamExt as _, stream};
use sqlx::{AnyConnection, Connection as _};
use tempfile::TempDir;

use trainshed_core::artifact::ArtifactMode;
use trainshed_core::{Address, Digest, Timestamp};
use trainshed_postgres::Cluster;
use trainshed_store::{
    Database, FileSettings, GarbageRules, PutError, Store, StoreError, Upload, UploadError,
    UploadPart,
};

use lab::{Lab, NOW, artifact};
use s3::{Mood, S3};

/// Everything may go at once.
const ALL: GarbageRules = GarbageRules {
    keep_ms: 0,
    keep_uploads_ms: 0,
};

/// A store that can be opened again.
struct Shed {
    lab: Lab,
    folder: TempDir,
    database: Database,
    settings: FileSettings,
}

impl Shed {
    async fn open(database: Database, settings: FileSettings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open_with(folder.path(), &database, settings.clone());
        let lab = Lab::new(store.await.unwrap()).await;
        Self {
            lab,
            folder,
            database,
            settings,
        }
    }

    /// Ends and opens again, as after a restart of the server.
    async fn again(self) -> Self {
        self.lab.store.close().await;
        let Self {
            folder,
            database,
            settings,
            lab,
        } = self;
        drop(lab);
        let store = Store::open_with(folder.path(), &database, settings.clone());
        let lab = Lab::again(store.await.unwrap()).await;
        Self {
            lab,
            folder,
            database,
            settings,
        }
    }

    /// Files in the folder of the server's own.
    fn own_files(&self) -> usize {
        count_files(&self.folder.path().join("files"))
    }

    async fn put_to(&self, content: &[u8], destination: &Address) -> Result<Digest, PutError> {
        let upload = Upload {
            destination: Some(destination),
            ..Upload::default()
        };
        let content = stream::iter([Ok(content.to_vec().into())]);
        let store = &self.lab.store;
        let put = store.put_upload(&self.lab.workspace, &upload, content, NOW);
        put.await
    }

    async fn part(
        &self,
        id: &str,
        number: u32,
        offset: u64,
        content: &[u8],
    ) -> Result<(), UploadError> {
        let part = UploadPart {
            number,
            offset,
            crc32c: crc32c::crc32c(content),
        };
        let content = stream::iter([Ok(content.to_vec().into())]);
        let store = &self.lab.store;
        let put = store.put_part(&self.lab.workspace, id, part, content, NOW);
        put.await
    }
}

fn count_files(folder: &std::path::Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    let below = |entry: std::io::Result<std::fs::DirEntry>| match entry.unwrap() {
        entry if entry.file_type().unwrap().is_dir() => count_files(&entry.path()),
        _ => 1,
    };
    entries.map(below).sum()
}

/// Makes a test of each behaviour for each database, with one server's own files in a folder.
macro_rules! store_contract {
    ($($behaviour:ident),* $(,)?) => {
        mod sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $behaviour() {
                    super::$behaviour(super::Database::Folder).await;
                }
            )*
        }

        mod postgres {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $behaviour() {
                    let database = super::Cluster::shared().database();
                    super::$behaviour(super::Database::Postgres(database)).await;
                }
            )*
        }
    };
}

store_contract! {
    what_nobody_refers_to_goes_and_the_rest_stays,
    a_file_that_was_asked_for_stays_for_a_day,
    whatever_refers_is_never_left_without_its_content,
    parts_survive_a_restart_and_become_the_whole,
    a_part_that_is_not_what_was_announced_is_refused,
    an_upload_that_does_not_fit_together_is_not_completed,
    an_abandoned_upload_goes_with_its_parts,
    an_upload_longer_than_allowed_is_refused,
    a_folder_elsewhere_holds_the_files_that_are_sent_there,
    an_object_elsewhere_is_read_where_it_is_and_its_change_is_noticed,
    a_bucket_holds_the_servers_files,
    an_object_store_that_fails_or_stalls_loses_nothing_that_was_acknowledged,
}

async fn what_nobody_refers_to_goes_and_the_rest_stays(database: Database) {
    let shed = Shed::open(database, FileSettings::default()).await;
    let lab = &shed.lab;
    let task = lab.queue("task").await;
    let kept = lab.put(b"kept").await;
    let file = artifact("a", kept);
    let put = lab.store.put_artifact(&lab.workspace, &task, &file, NOW);
    assert!(put.await.unwrap());
    let loose = lab.put(b"loose").await;

    let found = lab.store.find_garbage(None, ALL, NOW).await.unwrap();
    assert_eq!((found.files, found.file_bytes), (1, 5));
    assert_eq!(
        lab.read(&loose).await.unwrap(),
        b"loose",
        "looking removes nothing"
    );
    let removed = lab.store.collect_garbage(None, ALL, NOW).await.unwrap();
    assert_eq!(removed, found);
    assert_eq!(lab.read(&loose).await, None);
    assert_eq!(lab.read(&kept).await.unwrap(), b"kept");
    assert_eq!(shed.own_files(), 2, "the data set's file and the artifact");
    assert_eq!(lab.put(b"loose").await, loose, "it can come again");
    assert_eq!(lab.read(&loose).await.unwrap(), b"loose");
}

async fn a_file_that_was_asked_for_stays_for_a_day(database: Database) {
    let shed = Shed::open(database, FileSettings::default()).await;
    let lab = &shed.lab;
    let file = lab.put(b"waits").await;
    let day = GarbageRules::default().keep_ms;
    let later = NOW.plus_millis(day - 1);
    let asked = lab
        .store
        .missing_files(&lab.workspace, &[file], later)
        .await;
    assert_eq!(asked.unwrap(), []);
    for (now, files) in [(later.plus_millis(day - 1), 0), (later.plus_millis(day), 1)] {
        let rules = GarbageRules::default();
        let removed = lab.store.collect_garbage(None, rules, now).await.unwrap();
        assert_eq!(removed.files, files);
    }
}

/// Everybody uploads the same few contents, attaches them, reads them and lets go of them,
/// while garbage is collected without any delay. What is attached can always be read.
async fn whatever_refers_is_never_left_without_its_content(database: Database) {
    let shed = Arc::new(Shed::open(database, FileSettings::default()).await);
    let done = Arc::new(AtomicBool::new(false));
    let refused = Arc::new(AtomicUsize::new(0));
    let mut workers = Vec::new();
    for number in 0..6_usize {
        let (shed, refused) = (Arc::clone(&shed), Arc::clone(&refused));
        let task = shed.lab.queue(&format!("task {number}")).await;
        workers.push(tokio::spawn(async move {
            let lab = &shed.lab;
            for turn in 0..25 {
                let content = format!("content {}", (number + turn) % 3).into_bytes();
                let digest = lab.put(&content).await;
                let file = artifact("a", digest);
                let put = lab.store.put_artifact(&lab.workspace, &task, &file, NOW);
                if !put.await.unwrap() {
                    // It was collected before anything referred to it, and this was said.
                    refused.fetch_add(1, Ordering::SeqCst);
                    continue;
                }
                assert_eq!(lab.read(&digest).await.as_deref(), Some(&*content));
                let gone =
                    lab.store
                        .delete_artifact(&lab.workspace, &task, "a", ArtifactMode::Output);
                assert!(gone.await.unwrap());
            }
        }));
    }
    let collector = tokio::spawn({
        let (shed, done) = (Arc::clone(&shed), Arc::clone(&done));
        async move {
            let mut removed = 0;
            while !done.load(Ordering::SeqCst) {
                let garbage = shed
                    .lab
                    .store
                    .collect_garbage(None, ALL, NOW)
                    .await
                    .unwrap();
                removed += garbage.files;
                tokio::task::yield_now().await;
            }
            removed
        }
    });
    for worker in workers {
        worker.await.unwrap();
    }
    done.store(true, Ordering::SeqCst);
    assert!(
        collector.await.unwrap() > 0,
        "something was collected meanwhile"
    );
    shed.lab
        .store
        .collect_garbage(None, ALL, NOW)
        .await
        .unwrap();
    assert_eq!(shed.own_files(), 1, "only the data set's file is left");
    assert!(refused.load(Ordering::SeqCst) < 150);
}

async fn parts_survive_a_restart_and_become_the_whole(database: Database) {
    let shed = Shed::open(database, FileSettings::default()).await;
    let whole = b"one and two and three".to_vec();
    let digest = Digest::of(&whole);
    let lab = &shed.lab;
    let size = whole.len() as u64;
    let begun = lab
        .store
        .begin_upload(&lab.workspace, (size, Some(&digest)), None, NOW);
    let id = begun.await.unwrap().id;
    shed.part(&id, 2, 8, &whole[8..]).await.unwrap();
    shed.part(&id, 1, 0, b"wrong").await.unwrap();
    let shed = shed.again().await;
    shed.part(&id, 1, 0, &whole[..8]).await.unwrap();
    let lab = &shed.lab;
    let parts = lab.store.upload(&lab.workspace, &id).await.unwrap().parts;
    let parts: Vec<_> = parts
        .iter()
        .map(|p| (p.number, p.offset, p.size_bytes))
        .collect();
    assert_eq!(parts, [(1, 0, 8), (2, 8, 13)]);
    for _ in 0..2 {
        let completed = lab.store.complete_upload(&lab.workspace, &id, None, NOW);
        assert_eq!(completed.await.unwrap(), digest);
    }
    assert_eq!(lab.read(&digest).await.unwrap(), whole);
    assert_eq!(shed.own_files(), 2, "the parts are gone");
    let late = shed.part(&id, 3, 0, b"late").await.unwrap_err();
    assert!(matches!(late, UploadError::Complete(_)), "{late}");
}

async fn a_part_that_is_not_what_was_announced_is_refused(database: Database) {
    let shed = Shed::open(database, FileSettings::default()).await;
    let lab = &shed.lab;
    let begun = lab
        .store
        .begin_upload(&lab.workspace, (8, None), None, NOW)
        .await;
    let id = begun.unwrap().id;
    let part = UploadPart {
        number: 1,
        offset: 0,
        crc32c: 7,
    };
    let content = || stream::iter([Ok("12345678".into())]);
    let put = |part| {
        lab.store
            .put_part(&lab.workspace, &id, part, content(), NOW)
    };
    expect!["the part has the CRC-32C 6087809a, but 00000007 was announced"]
        .assert_eq(&put(part).await.unwrap_err().to_string());
    expect!["the part ends at byte 12, but the upload was announced with 8 bytes"].assert_eq(
        &put(UploadPart { offset: 4, ..part })
            .await
            .unwrap_err()
            .to_string(),
    );
    expect!["the number of a part must be 1 to 10000, but it is 0"].assert_eq(
        &put(UploadPart { number: 0, ..part })
            .await
            .unwrap_err()
            .to_string(),
    );
    let unknown = shed.part("nobody", 1, 0, b"x").await.unwrap_err();
    assert!(matches!(unknown, UploadError::Unknown(_)));
    assert_eq!(shed.own_files(), 1);
}

async fn an_upload_that_does_not_fit_together_is_not_completed(database: Database) {
    let shed = Shed::open(database, FileSettings::default()).await;
    let lab = &shed.lab;
    let wrong = Digest::of(b"other");
    let begun = lab
        .store
        .begin_upload(&lab.workspace, (6, Some(&wrong)), None, NOW);
    let id = begun.await.unwrap().id;
    let complete = || lab.store.complete_upload(&lab.workspace, &id, None, NOW);
    shed.part(&id, 1, 0, b"abc").await.unwrap();
    expect!["byte 3 has not come yet, or has come twice"]
        .assert_eq(&complete().await.unwrap_err().to_string());
    shed.part(&id, 2, 2, b"cdef").await.unwrap();
    expect!["byte 2 has not come yet, or has come twice"]
        .assert_eq(&complete().await.unwrap_err().to_string());
    shed.part(&id, 2, 3, b"def").await.unwrap();
    let error = complete().await.unwrap_err();
    assert!(
        matches!(error, UploadError::Put(PutError::WrongDigest { .. })),
        "{error}"
    );
    assert_eq!(
        lab.store
            .upload(&lab.workspace, &id)
            .await
            .unwrap()
            .parts
            .len(),
        2
    );
}

async fn an_abandoned_upload_goes_with_its_parts(database: Database) {
    let shed = Shed::open(database, FileSettings::default()).await;
    let lab = &shed.lab;
    let mut ids = Vec::new();
    for _ in 0..2 {
        let begun = lab
            .store
            .begin_upload(&lab.workspace, (6, None), None, NOW)
            .await;
        let id = begun.unwrap().id;
        shed.part(&id, 1, 0, b"abc").await.unwrap();
        ids.push(id);
    }
    lab.store
        .abort_upload(&lab.workspace, &ids[0], NOW)
        .await
        .unwrap();
    assert_eq!(shed.own_files(), 2);
    let rules = GarbageRules::default();
    let week = NOW.plus_millis(rules.keep_uploads_ms);
    let removed = lab.store.collect_garbage(None, rules, week).await.unwrap();
    assert_eq!((removed.uploads, removed.upload_bytes), (1, 3));
    assert_eq!(shed.own_files(), 1);
    let gone = lab.store.upload(&lab.workspace, &ids[1]).await.unwrap_err();
    assert!(matches!(gone, UploadError::Unknown(_)));
}

async fn an_upload_longer_than_allowed_is_refused(database: Database) {
    let settings = FileSettings {
        max_upload_bytes: 10,
        ..FileSettings::default()
    };
    let shed = Shed::open(database, settings).await;
    let lab = &shed.lab;
    let endless = stream::repeat_with(|| Ok("1234".into()));
    let put = lab.store.put_file(&lab.workspace, None, endless, NOW).await;
    assert!(matches!(put.unwrap_err(), PutError::TooLarge { limit: 10 }));
    let begun = lab
        .store
        .begin_upload(&lab.workspace, (11, None), None, NOW)
        .await;
    assert!(begun.is_err());
    assert_eq!(shed.own_files(), 1, "nothing of it is left");
}

async fn a_folder_elsewhere_holds_the_files_that_are_sent_there(database: Database) {
    let shed = Shed::open(database, FileSettings::default()).await;
    let share = tempfile::tempdir().unwrap();
    let place: Address = share.path().join("a b").to_str().unwrap().parse().unwrap();
    let digest = shed.put_to(b"weights", &place).await.unwrap();
    assert_eq!(shed.lab.read(&digest).await.unwrap(), b"weights");
    let lab = &shed.lab;
    let address = lab
        .store
        .file_address(&lab.workspace, &digest)
        .await
        .unwrap();
    assert!(address.unwrap().starts_with(&place.to_string()));
    assert_eq!((count_files(share.path()), shed.own_files()), (1, 1));
    let shed = shed.again().await;
    assert_eq!(shed.lab.read(&digest).await.unwrap(), b"weights");
    shed.lab
        .store
        .collect_garbage(None, ALL, NOW)
        .await
        .unwrap();
    assert_eq!(count_files(share.path()), 0);
}

async fn an_object_elsewhere_is_read_where_it_is_and_its_change_is_noticed(database: Database) {
    let shed = Shed::open(database, FileSettings::default()).await;
    let lab = &shed.lab;
    let share = tempfile::tempdir().unwrap();
    let file = share.path().join("a.csv");
    std::fs::write(&file, b"x\n1\n").unwrap();
    let place: Address = share.path().to_str().unwrap().parse().unwrap();
    let listed = lab.store.list_objects(&place).await.unwrap();
    let [object] = &*listed else {
        panic!("{listed:?}");
    };
    assert_eq!((object.path.as_str(), object.size_bytes), ("a.csv", 4));
    let address: Address = object.uri.parse().unwrap();
    let alone = lab.store.list_objects(&address).await.unwrap();
    assert_eq!(alone, listed, "one object lists as itself");
    let linked = lab.store.link_object(&lab.workspace, &address, NOW).await;
    let (digest, size_bytes) = linked.unwrap();
    assert_eq!((digest, size_bytes), (Digest::of(b"x\n1\n"), 4));
    assert_eq!(lab.read(&digest).await.unwrap(), b"x\n1\n");
    assert_eq!(shed.own_files(), 1, "nothing was copied");

    std::fs::write(&file, b"x\n2\n").unwrap();
    let read = lab.store.open_file(&lab.workspace, &digest, None).await;
    let error = match read {
        Err(error) => error.to_string(),
        Ok(content) => {
            let pieces: Vec<_> = content.unwrap().collect().await;
            pieces
                .into_iter()
                .find_map(Result::err)
                .unwrap()
                .to_string()
        }
    };
    assert_eq!(
        error,
        format!("`{address}` has changed or is gone since it was recorded")
    );
    lab.store.collect_garbage(None, ALL, NOW).await.unwrap();
    assert!(file.exists(), "what is not ours is not removed");
    let copied = lab.store.copy_object(&lab.workspace, &address, NOW).await;
    assert_eq!(copied.unwrap().0, Digest::of(b"x\n2\n"));
    std::fs::remove_file(&file).unwrap();
    assert_eq!(lab.read(&Digest::of(b"x\n2\n")).await.unwrap(), b"x\n2\n");
}

/// The keys of an object store come from the environment, which a test cannot change while
/// others run: it runs itself again with them. Whether this is that run.
#[expect(
    clippy::disallowed_methods,
    reason = "the library that reads the environment is what is tested"
)]
fn has_keys() -> bool {
    if std::env::var_os("AWS_ACCESS_KEY_ID").is_some_and(|key| key == "key") {
        return true;
    }
    let name = std::thread::current().name().unwrap().to_owned();
    let mut again = std::process::Command::new(std::env::current_exe().unwrap());
    again
        .args([&name, "--exact"])
        .env("AWS_ACCESS_KEY_ID", "key")
        .env("AWS_SECRET_ACCESS_KEY", "secret");
    let ended = again.output().unwrap();
    let said = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert!(
        ended.status.success() && said.contains("1 passed"),
        "{said}"
    );
    false
}

fn in_bucket(s3: &S3, patience: Duration) -> FileSettings {
    FileSettings {
        own: Some(s3.address("/files").parse().unwrap()),
        patience,
        ..FileSettings::default()
    }
}

async fn a_bucket_holds_the_servers_files(database: Database) {
    if !has_keys() {
        return;
    }
    let s3 = S3::start().await;
    let shed = Shed::open(database, in_bucket(&s3, Duration::from_secs(30))).await;
    let lab = &shed.lab;
    let long: Vec<u8> = (0..20_u32 << 20).map(|n| (n % 251) as u8).collect();
    let digest = lab.put(&long).await;
    assert_eq!(lab.read(&digest).await.unwrap(), long);
    let range = Some(10_000_000..10_000_005);
    let some = lab
        .store
        .open_file(&lab.workspace, &digest, range)
        .await
        .unwrap();
    let some: Vec<_> = some
        .unwrap()
        .map(|piece| piece.unwrap().to_vec())
        .collect()
        .await;
    assert_eq!(some.concat(), &long[10_000_000..10_000_005]);
    assert_eq!(lab.put(b"").await, Digest::of(b""));
    assert_eq!(lab.read(&Digest::of(b"")).await.unwrap(), b"");
    let here = lab
        .store
        .local_file(&lab.workspace, &digest)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(std::fs::read(here.path()).unwrap(), long);
    assert!(
        s3.keys().iter().all(|key| key.starts_with("files/")),
        "{:?}",
        s3.keys()
    );
    assert_eq!(shed.own_files(), 0);

    s3.put("data/a b/x.csv", b"x");
    let listed = lab
        .store
        .list_objects(&s3.address("/data").parse().unwrap())
        .await;
    let paths: Vec<_> = listed
        .unwrap()
        .into_iter()
        .map(|object| object.path)
        .collect();
    assert_eq!(paths, ["a b/x.csv"]);
    let linked: Address = s3.address("/data/a b/x.csv").parse().unwrap();
    let made = lab
        .store
        .link_object(&lab.workspace, &linked, NOW)
        .await
        .unwrap();
    assert_eq!(lab.read(&made.0).await.unwrap(), b"x");
    s3.put("data/a b/x.csv", b"y");
    let read = lab.store.open_file(&lab.workspace, &made.0, None).await;
    assert!(matches!(read, Err(StoreError::Changed { .. })));

    lab.store.collect_garbage(None, ALL, NOW).await.unwrap();
    assert_eq!(
        s3.keys().len(),
        2,
        "the data set's file, and what is not ours"
    );
}

async fn an_object_store_that_fails_or_stalls_loses_nothing_that_was_acknowledged(
    database: Database,
) {
    if !has_keys() {
        return;
    }
    let s3 = S3::start().await;
    let shed = Shed::open(database, in_bucket(&s3, Duration::from_secs(2))).await;
    let lab = &shed.lab;
    let kept = lab.put(b"kept").await;
    for mood in [Mood::Failing, Mood::Silent, Mood::Incomplete] {
        let content = format!("lost when {mood:?}").into_bytes();
        s3.set(mood);
        let begun = std::time::Instant::now();
        let put = stream::iter([Ok(content.clone().into())]);
        let put = lab.store.put_file(&lab.workspace, None, put, NOW).await;
        let error = put.unwrap_err();
        assert!(
            matches!(error, PutError::Store(StoreError::Unavailable { .. })),
            "{mood:?}: {error}"
        );
        if mood != Mood::Incomplete {
            let read = lab.store.open_file(&lab.workspace, &kept, None).await;
            assert!(
                matches!(read, Err(StoreError::Unavailable { .. })),
                "{mood:?}"
            );
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{mood:?}");
        s3.set(Mood::Well);
        assert_eq!(
            lab.read(&Digest::of(&content)).await,
            None,
            "nothing is half there"
        );
        assert_eq!(lab.read(&kept).await.unwrap(), b"kept");
        assert_eq!(lab.put(&content).await, Digest::of(&content), "it goes on");
    }
    let found = lab
        .store
        .find_garbage(None, GarbageRules::default(), NOW)
        .await;
    let left = found.unwrap().left_over;
    let later = Timestamp(NOW.as_millis() + GarbageRules::default().keep_uploads_ms);
    s3.set(Mood::Silent);
    let removed = lab.store.collect_garbage(None, ALL, later).await.unwrap();
    assert!(removed.left_over >= left);
    s3.set(Mood::Well);
    let removed = lab.store.collect_garbage(None, ALL, later).await.unwrap();
    assert_eq!(removed.left_over, 0);
    assert_eq!(
        (s3.keys().len(), s3.parts()),
        (1, 0),
        "only the data set's file is left"
    );
}

/// Every foreign key to the table of files is one that the collector looks at.
#[tokio::test]
async fn the_collector_knows_all_that_refers_to_files() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), &Database::Folder).await.unwrap();
    store.close().await;
    sqlx::any::install_default_drivers();
    let url = format!("sqlite://{}", folder.path().join("trainshed.db").display());
    let mut connection = AnyConnection::connect(&url).await.unwrap();
    let found: Vec<(String, String)> = sqlx::query_as(
        "select tables.name, keys.\"from\"
           from sqlite_master as tables, pragma_foreign_key_list(tables.name) as keys
          where tables.type = 'table' and keys.\"table\" = 'file' and keys.\"to\" = 'sha256'
          order by tables.name",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    let mut known: Vec<(&str, &str)> = trainshed_store::FILE_REFERENCES.to_vec();
    known.sort_unstable();
    let found: Vec<(&str, &str)> = found
        .iter()
        .map(|(t, c)| (t.as_str(), c.as_str()))
        .collect();
    assert_eq!(found, known);
}
