//! Tasks that move to another store, from either database into either.
#![expect(clippy::unwrap_used, reason = "a test says what it expects by failing")]

#[macro_use]
#[expect(dead_code, reason = "it is shared, and not all is needed here")]
mod lab;

use std::fs::File;
use std::io::{Cursor, Read as _, Seek as _, Write as _};

use expect_test::expect;
use serde_json::{Value, json};
use tempfile::TempDir;
use trainshed_core::address::Address;
use trainshed_core::model::Registration;
use trainshed_core::parameter::Parameter;
use trainshed_core::report::{Plot, Purpose, Real, Report, Sample};
use trainshed_core::task::Verb;
use trainshed_core::transfer::ImportedTasks;
use trainshed_core::view::MetadataItem;
use trainshed_core::{Digest, TaskId, Timestamp};
use trainshed_postgres::Cluster;
use trainshed_store::{
    ConsoleQuery, Database, Move, NewConfiguration, ShownQuery, Staged, Store, TransferError,
    WriteMode,
};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use lab::{Lab, NOW, Running, artifact, completed, draft, line, loss, model, point};

const LATER: Timestamp = Timestamp(2_000_000);

/// A store of its own, with another data set under the id that the first one's has.
struct Place {
    lab: Lab,
    _folder: TempDir,
}

impl Place {
    async fn new(database: Database) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), &database).await.unwrap();
        Self {
            lab: Lab::new(store).await,
            _folder: folder,
        }
    }

    async fn sqlite() -> Self {
        Self::new(Database::Folder).await
    }

    async fn postgres() -> Self {
        Self::new(Database::Postgres(Cluster::shared().database())).await
    }
}

impl std::ops::Deref for Place {
    type Target = Lab;

    fn deref(&self) -> &Lab {
        &self.lab
    }
}

impl Lab {
    async fn export(&self, tasks: &[TaskId]) -> Result<File, TransferError> {
        let mut archive = tempfile::tempfile().unwrap();
        let target = archive.try_clone().unwrap();
        let exported = self
            .store
            .export_tasks(&self.workspace, tasks, false, target, NOW);
        exported.await?;
        archive.rewind().unwrap();
        Ok(archive)
    }

    async fn import(&self, archive: File) -> Result<ImportedTasks, TransferError> {
        let scratch = tempfile::tempdir().unwrap();
        let mut staged = Staged::open(archive, scratch.path()).await?;
        let (store, workspace) = (&self.store, &self.workspace);
        let (files, file_bytes) = store.take_contents(workspace, &mut staged, LATER).await?;
        let merged = store.merge_tasks(workspace, &staged, |_| false, LATER);
        let mut imported = merged.await?;
        staged.close().await;
        (imported.files, imported.file_bytes) = (files, file_bytes);
        Ok(imported)
    }

    async fn add(
        &self,
        archive: File,
        task: &TaskId,
        offset: Option<u64>,
    ) -> Result<ImportedTasks, TransferError> {
        let scratch = tempfile::tempdir().unwrap();
        let mut staged = Staged::open(archive, scratch.path()).await?;
        let (store, workspace) = (&self.store, &self.workspace);
        store.take_contents(workspace, &mut staged, LATER).await?;
        store
            .add_to_task(workspace, &staged, (task, offset), LATER)
            .await
    }

    /// A task that has something of everything, and the one whose model it goes on from.
    async fn filled(&self) -> (TaskId, TaskId) {
        let first = self.run("first").await;
        let weights = self.put(b"first weights").await;
        self.report(&first, 0, vec![model("best", 3, weights, 13)])
            .await;
        self.finish(&first, completed()).await.unwrap();
        let checkpoint = self.store.models(&self.workspace, Some(&first.task)).await;
        let checkpoint = checkpoint.unwrap()[0].id;

        let made = self.dataset("made", &[("x.csv", b"3,4")]).await;
        let mut new = lab::new_task("second", "vision/digits");
        new.parent = Some(first.task.clone());
        new.comment = "a comment\nof two lines".into();
        new.tags = vec!["b".into(), "ä".into()];
        new.configuration = vec![NewConfiguration {
            name: "network".into(),
            kind: "yaml".into(),
            description: "layers".into(),
            content: b"a: 1\0\xff".to_vec(),
        }];
        if let Some(work) = &mut new.work {
            work.dataset = made.id;
            work.checkpoint = Some(checkpoint);
            work.params.insert("dataset".into(), made.id.into());
            work.params.insert("checkpoint".into(), checkpoint.into());
        }
        self.store
            .insert_task(&self.workspace, &new, NOW)
            .await
            .unwrap();
        let second = self.claim().await.unwrap();
        self.fill(&second).await;
        let user = [Parameter::new("properties", "note", json!("good"))];
        let set = self
            .store
            .set_properties(&self.workspace, &second.task, &user, NOW);
        set.await.unwrap();
        (first.task, second.task)
    }

    async fn fill(&self, running: &Running) {
        let weights = self.put(b"weights").await;
        let picture = self.put(b"picture").await;
        let mut reports: Vec<Report> = (0..5000)
            .map(|step| loss(step, 1.0 / f64::from(u32::try_from(step).unwrap() + 1)))
            .collect();
        reports.extend([
            point("odd", "not a number", 1, f64::NAN),
            point("odd", "endless", 2, f64::NEG_INFINITY),
            point(":monitor:machine", "cpu", 60, 12.5),
            Report::Single {
                name: "score".into(),
                value: Real(0.25),
            },
            Report::Single {
                name: "none".into(),
                value: Real(f64::NAN),
            },
            line("a line"),
            line("another \u{1f680}"),
            Report::Plot(Plot {
                title: "confusion".into(),
                series: "test".into(),
                iteration: 7,
                figure: r#"{"data":[],"layout":{}}"#.into(),
                at: NOW,
            }),
            Report::Sample(Sample {
                purpose: Purpose::Media,
                category: "wrong".into(),
                group: "test".into(),
                index: 4,
                name: "x.png".into(),
                sha256: Some(picture),
                uri: None,
                size_bytes: 7,
                content_type: "image/png".into(),
                at: NOW,
                extra: None,
            }),
            model("last", 9, weights, 7),
        ]);
        self.report(running, 1, reports).await;
        self.finish(running, completed()).await.unwrap();
        for content in [&b"old"[..], b"new"] {
            let digest = self.put(content).await;
            let table = artifact("table", digest);
            let (store, workspace) = (&self.store, &self.workspace);
            let put = store.put_artifact(workspace, &running.task, &table, NOW);
            assert!(put.await.unwrap());
        }
        let linked = Registration {
            name: "elsewhere".into(),
            task: Some(running.task.clone()),
            sha256: None,
            uri: Some("https://example.com/model.bin".into()),
            framework: "other".into(),
            design: "deep".into(),
            labels: vec![("cat".into(), 1)],
            tags: vec!["kept".into()],
            comment: "linked".into(),
            iteration: 2,
            parent: None,
            metadata: vec![MetadataItem {
                key: "k".into(),
                kind: "str".into(),
                value: "v".into(),
            }],
        };
        let registered = self.store.register_model(&self.workspace, &linked, NOW);
        registered.await.unwrap();
    }

    /// Everything that can be read of a task; ids of models and data sets stand for what they
    /// are, because other stores have others.
    async fn portrait(&self, id: &TaskId) -> Value {
        let (store, workspace) = (&self.store, &self.workspace);
        let task = store.task(workspace, id).await.unwrap().unwrap();
        let mut curves = Vec::new();
        for curve in store.series(workspace, id).await.unwrap() {
            let names = (curve.title.as_str(), curve.series.as_str());
            let page = store
                .points(workspace, id, names, 0, usize::MAX)
                .await
                .unwrap();
            let points: Vec<Value> = page
                .points
                .view()
                .iter()
                .map(|point| json!([point.step, point.time, point.value.to_string(), point.extra]))
                .collect();
            curves.push(json!([curve, points]));
        }
        let mut models = Vec::new();
        for link in task.models.input.iter().chain(&task.models.output) {
            let model = store.model(workspace, link.model).await.unwrap().unwrap();
            let parent = match model.parent {
                Some(parent) => Some(store.model(workspace, parent).await.unwrap().unwrap().uuid),
                None => None,
            };
            let mut view = json!(model);
            view["id"] = Value::Null;
            view["parent"] = json!(parent);
            models.push(json!([link.name, view]));
        }
        let dataset = store
            .dataset(workspace, task.dataset.unwrap())
            .await
            .unwrap()
            .unwrap();
        let shown = ShownQuery {
            limit: 100,
            ..ShownQuery::default()
        };
        let mut view = json!(task);
        assert_eq!(view["params"]["dataset"], view["dataset"]);
        assert_eq!(view["params"]["checkpoint"], view["checkpoint"]);
        for place in ["dataset", "checkpoint", "agent", "queue", "models"] {
            view[place] = Value::Null;
        }
        for place in ["dataset", "checkpoint"] {
            view["params"][place] = Value::Null;
        }
        assert!(view["result"]["model_id"].is_u64());
        view["result"]["model_id"] = Value::Null;
        json!({
            "task": view,
            "parameters": store.parameters(workspace, id).await.unwrap(),
            "properties": store.properties(workspace, id).await.unwrap(),
            "configurations": store.configurations(workspace, id).await.unwrap(),
            "network": store.configuration(workspace, id, "network").await.unwrap(),
            "curves": curves,
            "singles": store.singles(workspace, id).await.unwrap(),
            "console": store
                .console(workspace, id, &ConsoleQuery::from(0, 100))
                .await
                .unwrap(),
            "plots": store.plots(workspace, id, &shown, true).await.unwrap().items,
            "samples": store.samples(workspace, id).await.unwrap(),
            "artifacts": store.artifacts(workspace, id, true).await.unwrap(),
            "models": models,
            "dataset": [dataset.uuid, dataset.name, json!(dataset.digest).to_string()],
            "files": json!(dataset.files),
        })
    }
}

async fn moves(from: Place, to: Place) {
    // Ids there are others.
    to.dataset("other", &[("o.csv", b"9")]).await;
    let (first, second) = from.filled().await;
    let archive = from.export(std::slice::from_ref(&second)).await.unwrap();
    let again = archive.try_clone().unwrap();
    let imported = to.import(archive).await.unwrap();
    assert_eq!(imported.tasks, std::slice::from_ref(&second));
    assert_eq!(imported.notes, [""; 0]);
    let mut before = from.portrait(&second).await;
    forget_maker(&mut before);
    pretty_assertions(&to.portrait(&second).await, &before);
    let table = to.read(&Digest::of(b"old")).await;
    assert_eq!(table.as_deref(), Some(&b"old"[..]));

    // It is there: nothing changes.
    let twice = to.import(again).await.unwrap();
    assert_eq!((twice.tasks, twice.skipped), (vec![], vec![second.clone()]));
    // When the task of the checkpoint comes, the model is its own again.
    let both = from.export(&[first.clone(), second.clone()]).await.unwrap();
    let more = to.import(both).await.unwrap();
    assert_eq!(
        (more.tasks, more.skipped),
        (vec![first], vec![second.clone()])
    );
    pretty_assertions(&to.portrait(&second).await, &from.portrait(&second).await);
    // It goes on there.
    to.append(&second, None, &[(5000, 1.0)]).await.unwrap();
    let series = to.store.series(&to.workspace, &second).await.unwrap();
    let train = series.iter().find(|curve| curve.title == "train").unwrap();
    assert_eq!((train.count, train.last), (5001, Real(1.0)));
}

/// The task that made the checkpoint is not there.
fn forget_maker(portrait: &mut Value) {
    for field in ["task", "task_name", "slot"] {
        portrait["models"][0][1][field] = Value::Null;
    }
}

#[track_caller]
fn pretty_assertions(found: &Value, expected: &Value) {
    let object = |value: &Value| value.as_object().unwrap().clone();
    for (part, expected) in object(expected) {
        assert_eq!(found[&part], expected, "{part}");
    }
}

#[tokio::test]
async fn from_sqlite_to_postgres() {
    moves(Place::sqlite().await, Place::postgres().await).await;
}

#[tokio::test]
async fn from_postgres_to_sqlite() {
    moves(Place::postgres().await, Place::sqlite().await).await;
}

store_contract! {
    what_waits_or_runs_is_not_exported,
    what_is_only_linked_may_stay_where_it_is,
    versions_of_data_sets_are_known_by_their_content,
    a_run_is_added_behind_the_last_iteration_and_only_once,
    nothing_of_a_task_is_overwritten_by_what_is_added,
}

async fn what_waits_or_runs_is_not_exported(lab: Lab) {
    let waiting = lab.queue("waiting").await;
    let error = lab
        .export(std::slice::from_ref(&waiting))
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), format!("the task {waiting} is queued"));
    let unknown = TaskId::from_u128(5);
    let error = lab.export(&[unknown]).await.unwrap_err();
    assert!(matches!(error, TransferError::Unknown(_)), "{error}");
    assert!(matches!(
        lab.export(&[]).await.unwrap_err(),
        TransferError::Nothing
    ));
}

async fn what_is_only_linked_may_stay_where_it_is(lab: Lab) {
    let folder = tempfile::tempdir().unwrap();
    let object = folder.path().join("weights");
    std::fs::write(&object, b"linked weights").unwrap();
    let address: Address = object.to_str().unwrap().parse().unwrap();
    let linked = lab.store.link_object(&lab.workspace, &address, NOW).await;
    let (digest, _) = linked.unwrap();
    let running = lab.run("a run").await;
    let report = model("best", 1, digest, 14);
    lab.report(&running, 0, vec![report]).await;
    lab.finish(&running, completed()).await.unwrap();
    let written = async |without_linked| {
        let mut archive = tempfile::tempfile().unwrap();
        let target = archive.try_clone().unwrap();
        let tasks = [running.task.clone()];
        let exported = lab
            .store
            .export_tasks(&lab.workspace, &tasks, without_linked, target, NOW);
        let counts = exported.await.unwrap();
        archive.rewind().unwrap();
        (archive, counts.files)
    };
    let (_, with) = written(false).await;
    let (archive, without) = written(true).await;
    assert_eq!(without, with - 1);

    let other = Place::sqlite().await;
    let take = async |archive: File, allowed: bool| {
        let scratch = tempfile::tempdir().unwrap();
        let staged = Staged::open(archive, scratch.path()).await.unwrap();
        let (store, workspace) = (&other.store, &other.workspace);
        let taken = store
            .take_links(workspace, &staged, |_| allowed, LATER)
            .await;
        staged.close().await;
        taken.map_err(|error| error.to_string())
    };
    let again = || archive.try_clone().unwrap();
    let refused = take(again(), false).await.unwrap_err();
    assert!(refused.contains("does not read"), "{refused}");
    std::fs::write(&object, b"something else").unwrap();
    let refused = take(again(), true).await.unwrap_err();
    assert!(refused.contains("any more"), "{refused}");
    std::fs::write(&object, b"linked weights").unwrap();
    take(again(), true).await.unwrap();

    let imported = other.import(again()).await.unwrap();
    assert_eq!(imported.tasks, std::slice::from_ref(&running.task));
    let models = other.store.models(&other.workspace, Some(&running.task));
    assert_eq!(models.await.unwrap()[0].sha256, Some(digest));
    assert_eq!(other.read(&digest).await.unwrap(), b"linked weights");
}

async fn versions_of_data_sets_are_known_by_their_content(lab: Lab) {
    let there = Place::sqlite().await;
    // `digits` has two versions there, and the second is other than the second here.
    let second = there.dataset("digits", &[("a.csv", b"there")]).await;
    let mut new = lab::new_task("uses it", "default");
    if let Some(work) = &mut new.work {
        work.dataset = second.id;
    }
    there
        .store
        .insert_task(&there.workspace, &new, NOW)
        .await
        .unwrap();
    let running = there.claim().await.unwrap();
    there.finish(&running, completed()).await.unwrap();
    let archive = there
        .export(std::slice::from_ref(&running.task))
        .await
        .unwrap();

    lab.dataset("digits", &[("a.csv", b"here")]).await;
    let imported = lab.import(archive).await.unwrap();
    expect![[r#"["version 2 of the data set `digits` has other content here: it is version 3"]"#]]
        .assert_eq(&format!("{:?}", imported.notes));
    let task = lab
        .store
        .task(&lab.workspace, &running.task)
        .await
        .unwrap()
        .unwrap();
    let version = lab
        .store
        .dataset(&lab.workspace, task.dataset.unwrap())
        .await;
    let version = version.unwrap().unwrap();
    assert_eq!((version.number, version.digest), (3, second.digest));
}

/// A session of ten iterations from another store.
async fn session() -> (TaskId, File) {
    let there = Place::sqlite().await;
    let running = there.run("session").await;
    let weights = there.put(b"other weights").await;
    let mut reports: Vec<Report> = (1..=10).map(|step| loss(step, 0.5)).collect();
    reports.push(point(":monitor:machine", "cpu", 5, 1.0));
    reports.push(line("there"));
    reports.push(Report::Single {
        name: "score".into(),
        value: Real(0.75),
    });
    reports.push(model("last", 10, weights, 13));
    there.report(&running, 0, reports).await;
    there.finish(&running, completed()).await.unwrap();
    let digest = there.put(b"of the session").await;
    let table = artifact("table", digest);
    let (store, workspace) = (&there.store, &there.workspace);
    let put = store.put_artifact(workspace, &running.task, &table, NOW);
    put.await.unwrap();
    let archive = there
        .export(std::slice::from_ref(&running.task))
        .await
        .unwrap();
    (running.task, archive)
}

async fn a_run_is_added_behind_the_last_iteration_and_only_once(lab: Lab) {
    let running = lab.run("here").await;
    lab.report(
        &running,
        0,
        vec![loss(0, 1.0), loss(100, 0.9), line("here")],
    )
    .await;
    lab.finish(&running, completed()).await.unwrap();
    let (source, archive) = session().await;
    let copy = || archive.try_clone().unwrap();

    let error = lab.add(copy(), &running.task, Some(95)).await.unwrap_err();
    expect!["the archive begins at iteration 96, but the task has iterations up to 100 already"]
        .assert_eq(&error.to_string());
    expect!["Give an iteration offset of at least 100, or none to go on after the last."]
        .assert_eq(&error.hint().unwrap());
    let added = lab.add(copy(), &running.task, None).await.unwrap();
    assert_eq!(added.tasks, std::slice::from_ref(&running.task));
    let curve = lab.curve(&running.task, "train", "loss").await;
    assert!(curve.starts_with("0:1 100:0.9 101:0.5 102:0.5"), "{curve}");
    assert!(curve.ends_with(" 110:0.5"), "{curve}");
    let task = lab
        .store
        .task(&lab.workspace, &running.task)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(task.last_iteration, 110);
    let page = lab
        .store
        .console(&lab.workspace, &running.task, &ConsoleQuery::from(0, 9))
        .await;
    let lines: Vec<String> = page
        .unwrap()
        .lines
        .into_iter()
        .map(|line| line.text)
        .collect();
    assert_eq!(lines, ["here", "there"]);
    let models = lab
        .store
        .models(&lab.workspace, Some(&running.task))
        .await
        .unwrap();
    assert_eq!(
        (models[0].name.as_str(), models[0].iteration),
        ("last", 110)
    );
    assert_eq!(task.models.output.len(), 1);

    let again = lab.add(copy(), &running.task, None).await.unwrap();
    assert_eq!((again.tasks, again.skipped), (vec![], vec![source]));
    let curve = lab.curve(&running.task, "train", "loss").await;
    assert!(curve.ends_with(" 110:0.5"), "{curve}");
    // Its machine has seconds of its own, and the next run goes on.
    assert_eq!(
        lab.curve(&running.task, ":monitor:machine", "cpu").await,
        "5:1"
    );
}

async fn nothing_of_a_task_is_overwritten_by_what_is_added(lab: Lab) {
    let (_, task) = lab.filled().await;
    let (_, archive) = session().await;
    let added = lab.add(archive, &task, Some(10_000)).await.unwrap();
    assert_eq!(added.notes, ["iterations are moved by 10000"]);
    let singles = lab.store.singles(&lab.workspace, &task).await.unwrap();
    assert_eq!(singles[1].value, Real(0.25));
    let artifacts = lab
        .store
        .artifacts(&lab.workspace, &task, true)
        .await
        .unwrap();
    let sizes: Vec<u64> = artifacts
        .iter()
        .map(|artifact| artifact.size_bytes)
        .collect();
    assert_eq!(sizes, [14, 3, 3], "the former versions stay");
    let view = lab
        .store
        .task(&lab.workspace, &task)
        .await
        .unwrap()
        .unwrap();
    let names = view.models.output.iter().map(|link| link.name.as_str());
    let names: Vec<&str> = names.collect();
    assert!(
        names.contains(&"last") && names.contains(&"last 2"),
        "{names:?}"
    );
    let machine = lab.curve(&task, ":monitor:machine", "cpu").await;
    assert_eq!(machine, "60:12.5 66:1", "seconds go on after the last");

    let published = Move::new(Verb::Publish).forced();
    let moved = lab
        .store
        .move_task(&lab.workspace, &task, &published, NOW)
        .await;
    moved.unwrap();
    let (_, archive) = session().await;
    let error = lab.add(archive, &task, None).await.unwrap_err();
    assert!(matches!(error, TransferError::Published(_)), "{error}");
}

/// An archive in memory, as entries that can be changed.
struct Entries(Vec<(String, Vec<u8>)>);

impl Entries {
    fn of(archive: File) -> Self {
        let mut zip = ZipArchive::new(archive).unwrap();
        let count = zip.len();
        let entry = |index| {
            let mut entry = zip.by_index(index).unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            (entry.name().unwrap().into_owned(), content)
        };
        Self((0..count).map(entry).collect())
    }

    fn change(mut self, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> Self {
        let entry = self.0.iter_mut().find(|(entry, _)| entry.contains(name));
        change(&mut entry.unwrap().1);
        self
    }

    /// Changes rows of a table, with the sum that they have then.
    fn rows(mut self, table: &str, change: impl Fn(&mut Value)) -> Self {
        let name = format!("tables/{table}.ndjson");
        let (_, content) = self.0.iter_mut().find(|(entry, _)| *entry == name).unwrap();
        let text = String::from_utf8(content.clone()).unwrap();
        let mut lines = String::new();
        for line in text.lines() {
            let mut row: Value = serde_json::from_str(line).unwrap();
            change(&mut row);
            lines.push_str(&format!("{row}\n"));
        }
        *content = lines.into_bytes();
        let sum = json!(Digest::of(content));
        self.change("trainshed.json", |manifest| {
            let mut json: Value = serde_json::from_slice(manifest).unwrap();
            json["tables"][table]["sha256"] = sum;
            *manifest = json.to_string().into_bytes();
        })
    }

    fn with(mut self, name: &str, content: &[u8]) -> Self {
        self.0.push((name.to_owned(), content.to_vec()));
        self
    }

    fn write(self) -> File {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, content) in self.0 {
            let method = if name.starts_with("tables/") {
                CompressionMethod::Deflated
            } else {
                CompressionMethod::Stored
            };
            let options = SimpleFileOptions::default().compression_method(method);
            zip.start_file(name, options).unwrap();
            zip.write_all(&content).unwrap();
        }
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&zip.finish().unwrap().into_inner()).unwrap();
        file
    }
}

#[tokio::test]
async fn what_is_not_an_archive_of_ours_is_refused_and_leaves_nothing() {
    let lab = Place::sqlite().await;
    let (task, archive) = session().await;
    let good = || Entries::of(archive.try_clone().unwrap());
    let refused = async |what: &str, entries: Entries| {
        let imported = lab.import(entries.write()).await;
        let error = imported.expect_err(what);
        assert!(matches!(error, TransferError::Invalid(_)), "{error:?}");
        assert!(
            lab.store
                .task(&lab.workspace, &task)
                .await
                .unwrap()
                .is_none()
        );
        error
            .to_string()
            .replace("the archive cannot be used: ", "")
            .replace(task.as_str(), "ID")
    };
    let weights = Digest::of(b"other weights").to_string();
    let mut found = Vec::new();
    for entries in [
        good().with("../../etc/passwd", b"x"),
        good().with("/tables/task.ndjson", b"x"),
        good().with("tables/api_key.ndjson", b"{}"),
        good().with("files/0123", b"x"),
        good().change(&weights, |content| content[0] ^= 1),
        good().change(&weights, |content| content.truncate(1)),
        good().change("trainshed.json", |manifest| manifest.truncate(9)),
        good().change("tables/task.ndjson", |rows| rows.push(b'\n')),
        good().rows("task", |row| row["state"] = "queued".into()),
        good().rows("task", |row| row["state"] = "flying".into()),
        good().rows("task", |row| row["limits"] = "7".into()),
        good().rows("task", |row| row["nothing"] = 1.into()),
        good().rows("task", |row| row["created"] = "x".into()),
        good().rows("task", |row| row["project"] = "gone".into()),
        good().rows("task", |row| row["name"] = "x".repeat(100_000).into()),
        good().rows("console", |row| row["content"] = "AAAA".into()),
        good().rows("chunk", |row| row["content"] = "AAAA".into()),
        good().rows("model", |row| row["uri"] = "javascript:alert(1)".into()),
    ] {
        let last = found.last().cloned().unwrap_or_default();
        let what = refused(&format!("after {last}"), entries).await;
        found.push(what.chars().take(90).collect::<String>());
    }
    for (field, value) in [("format", 2), ("schema", 999), ("files", 1)] {
        let entries = good().change("trainshed.json", |manifest| {
            let mut json: Value = serde_json::from_slice(manifest).unwrap();
            json[field] = value.into();
            *manifest = json.to_string().into_bytes();
        });
        let what = refused(field, entries).await;
        found.extend(what.split(", but").next().map(str::to_owned));
    }
    expect![[r#"
        it has an entry `../../etc/passwd`
        it has an entry `/tables/task.ndjson`
        it has an entry `tables/api_key.ndjson`
        it has an entry `files/0123`
        the content of the file 53959fa102f31e51d8d1ee12fe89c2fd7cd556dbaf2c6102046d195a504850a0 i
        it has 3 files of 18 bytes, but says that it has 3 of 30
        it has no `trainshed.json` of ours
        a row of `task` is no JSON: EOF while parsing a value at line 2 column 0
        its task ID is queued
        there is no state `flying`
        invalid type: integer `7`, expected struct LimitRequest at line 1 column 1
        a row of `task` has a column `nothing`
        a row of `task` has "x" as `created`
        a row of `task` breaks a rule of the database: error returned from database: (code: 787) F
        `xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx` cannot 
        Unknown frame descriptor
        the chunk's length is not as it must be
        `javascript:alert(1)` of its table `model` is no address
        it has format 2
        it has schema 999
        it has 3 files of 30 bytes"#]]
    .assert_eq(&found.join("\n"));

    // Anything else, cut anywhere.
    let mut whole = Vec::new();
    let mut file = archive.try_clone().unwrap();
    file.rewind().unwrap();
    file.read_to_end(&mut whole).unwrap();
    for length in [0, 1, whole.len() / 2, whole.len() - 1] {
        let mut cut = tempfile::tempfile().unwrap();
        cut.write_all(&whole[..length]).unwrap();
        let error = lab.import(cut).await.unwrap_err();
        assert!(
            matches!(error, TransferError::Invalid(_)),
            "{length}: {error:?}"
        );
    }
    assert_eq!(lab.import(good().write()).await.unwrap().tasks, [task]);
}

/// The archive as the server before the reports of schema 9 would have written it.
fn of_schema_8(entries: Entries, console: &Value) -> Entries {
    let lines = console["lines"].to_string();
    let mut entries = entries
        .rows("console", |row| {
            row["lines"] = lines.clone().into();
            remove(row, &["content", "sources"]);
        })
        .rows("project", |row| remove(row, &["retention"]))
        .rows("plugin", |row| remove(row, &["source"]))
        .change("trainshed.json", |manifest| {
            let mut json: Value = serde_json::from_slice(manifest).unwrap();
            json["schema"] = 8.into();
            remove(&mut json["tables"], &["trial_report"]);
            *manifest = json.to_string().into_bytes();
        });
    entries
        .0
        .retain(|(name, _)| name != "tables/trial_report.ndjson");
    entries
}

fn remove(row: &mut Value, columns: &[&str]) {
    for column in columns {
        let found = row.as_object_mut().unwrap().remove(*column);
        assert!(found.is_some(), "{column}");
    }
}

#[tokio::test]
async fn an_archive_of_an_older_schema_says_the_same() {
    let (from, to) = (Place::sqlite().await, Place::postgres().await);
    let (_, task) = from.filled().await;
    let archive = from.export(std::slice::from_ref(&task)).await.unwrap();
    let mut before = from.portrait(&task).await;
    let older = of_schema_8(Entries::of(archive), &before["console"]);
    to.import(older.write()).await.unwrap();
    forget_maker(&mut before);
    pretty_assertions(&to.portrait(&task).await, &before);
}

#[tokio::test]
async fn rows_that_unpack_to_far_more_than_there_is_are_refused() {
    let lab = Place::sqlite().await;
    let (_, archive) = session().await;
    let bomb = Entries::of(archive).change("tables/console.ndjson", |rows| {
        *rows = vec![b' '; 80 << 20];
    });
    let error = lab.import(bomb.write()).await.unwrap_err();
    expect!["the archive cannot be used: its table `console` is larger than anything of its size unpacks to"]
        .assert_eq(&error.to_string());
}

#[tokio::test]
async fn a_draft_moves_too() {
    let (from, to) = (Place::sqlite().await, Place::postgres().await);
    let new = draft("by hand", "default");
    from.store
        .insert_task(&from.workspace, &new, NOW)
        .await
        .unwrap();
    let parameters = [Parameter::new("General", "lr", json!(0.5))];
    let set = from.store.set_parameters(
        &from.workspace,
        &new.id,
        &parameters,
        WriteMode::Replace,
        false,
        NOW,
    );
    set.await.unwrap();
    let archive = from.export(std::slice::from_ref(&new.id)).await.unwrap();
    to.import(archive).await.unwrap();
    let there = to.store.parameters(&to.workspace, &new.id).await.unwrap();
    assert_eq!(there, parameters);
}
