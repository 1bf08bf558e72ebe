//! An engine on a fresh data folder, with a clock that stands still and an inspector that
//! takes a manifest in JSON for a component.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use expect_test::Expect;
use futures::stream;
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use trainshed_core::action::Action;
use trainshed_core::dataset::FileEntry;
use trainshed_core::manifest::{ActionSpec, Category, Manifest};
use trainshed_core::model::SavedModel;
use trainshed_core::report::{Batch, Line, LineSource, Point, Real, Report};
use trainshed_core::task::Outcome;
use trainshed_core::view::{AgentInfo, LeaseState, LeaseView, NewDataset, PluginView, TaskView};
use trainshed_core::{AgentId, Digest, TaskId, Timestamp};
use trainshed_engine::{
    ConsoleQuery, Database, EndOfRun, Engine, EngineConfig, FileSettings, InspectError, Inspector,
    LeaseError, OpenedStore, PushError, SubmitError, Workspace,
};

pub(crate) const NOW: Timestamp = Timestamp(1_000_000);

pub(crate) struct Lab {
    pub(crate) engine: Engine,
    pub(crate) workspace: Workspace,
    /// Not local.
    pub(crate) agent: AgentId,
    key: String,
    clock: Arc<AtomicI64>,
    folder: TempDir,
}

struct ManifestReader;

#[async_trait]
impl Inspector for ManifestReader {
    async fn inspect(&self, component: &Path) -> Result<Manifest, InspectError> {
        let content =
            std::fs::read(component).map_err(|error| InspectError::Failed(error.to_string()))?;
        serde_json::from_slice(&content).map_err(|error| InspectError::Refused(error.to_string()))
    }
}

async fn open(folder: &Path, clock: &Arc<AtomicI64>) -> (Engine, OpenedStore) {
    let clock = clock.clone();
    let config = EngineConfig {
        data_dir: folder.join("data"),
        database: Database::Folder,
        files: FileSettings::default(),
        lease_ttl_ms: 60_000,
        task_watchdog_s: 7200,
        reuse_window_h: 24,
        inspector: Arc::new(ManifestReader),
        clock: Arc::new(move || Timestamp(clock.load(Ordering::Relaxed))),
    };
    Engine::open(config).await.unwrap()
}

impl Lab {
    /// With nothing in it.
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(AtomicI64::new(NOW.as_millis()));
        let (engine, opened) = open(folder.path(), &clock).await;
        let key = opened.admin_key.unwrap();
        let workspace = engine.authenticate(&key).await.unwrap().unwrap();
        let info = AgentInfo {
            name: "tester".into(),
            local: false,
            ..AgentInfo::default()
        };
        let agent = engine.register_agent(&workspace, info).await.unwrap().id;
        Self {
            engine,
            workspace,
            agent,
            key,
            clock,
            folder,
        }
    }

    /// With a plugin that trains, and data set 1.
    pub(crate) async fn ready() -> Self {
        let lab = Self::new().await;
        lab.push(&manifest("mlp", "0.1.0", &["train"])).await;
        assert_eq!(lab.dataset("digits", &["train.csv"]).await, 1);
        lab
    }

    /// Ends the engine and opens its data again, `ms` later.
    pub(crate) async fn reopen(self, ms: i64) -> (Self, OpenedStore) {
        self.pass_ms(ms);
        self.engine.close().await;
        let Self {
            agent,
            key,
            clock,
            folder,
            engine,
            ..
        } = self;
        drop(engine);
        let (engine, opened) = open(folder.path(), &clock).await;
        let workspace = engine.authenticate(&key).await.unwrap().unwrap();
        (
            Self {
                engine,
                workspace,
                agent,
                key,
                clock,
                folder,
            },
            opened,
        )
    }

    pub(crate) fn pass_ms(&self, ms: i64) {
        self.clock.fetch_add(ms, Ordering::Relaxed);
    }

    pub(crate) async fn put(&self, content: &[u8]) -> Digest {
        let digest = Digest::of(content);
        let pieces: Vec<_> = content
            .chunks(3)
            .map(|piece| Ok(piece.to_vec().into()))
            .collect();
        let stored = self
            .engine
            .put_file(&self.workspace, digest, stream::iter(pieces))
            .await;
        stored.unwrap();
        digest
    }

    pub(crate) async fn try_push(&self, manifest: &Manifest) -> Result<PluginView, PushError> {
        let digest = self.put(&serde_json::to_vec(manifest).unwrap()).await;
        self.engine.push_plugin(&self.workspace, digest).await
    }

    pub(crate) async fn push(&self, manifest: &Manifest) -> PluginView {
        self.try_push(manifest).await.unwrap()
    }

    pub(crate) async fn dataset(&self, name: &str, paths: &[&str]) -> u64 {
        let mut files = Vec::new();
        for path in paths {
            let sha256 = self.put(path.as_bytes()).await;
            let size_bytes = path.len() as u64;
            files.push(FileEntry {
                path: (*path).to_owned(),
                sha256,
                size_bytes,
            });
        }
        let new = NewDataset {
            name: name.to_owned(),
            description: String::new(),
            parent: None,
            files,
            tags: Vec::new(),
            tables: None,
        };
        self.engine
            .create_dataset(&self.workspace, new)
            .await
            .unwrap()
            .id
    }

    /// The `params` of a train action on data set 1.
    pub(crate) fn train(&self, name: &str) -> Value {
        json!({"name": name, "dataset": 1, "hyperparameter": {"epochs": 1}})
    }

    pub(crate) async fn try_submit(
        &self,
        plugin: Option<&str>,
        params: &Value,
    ) -> Result<TaskView, SubmitError> {
        let action = json!({"action": "train", "plugin": plugin, "params": params});
        let action = Action::parse(&action).unwrap();
        self.engine.submit(&self.workspace, action).await
    }

    pub(crate) async fn submit(&self, params: Value) -> TaskView {
        self.try_submit(None, &params).await.unwrap()
    }

    pub(crate) async fn submit_preprocess(&self, name: &str) -> TaskView {
        let action = json!({"action": "preprocess", "params": {"name": name, "dataset": 1}});
        let action = Action::parse(&action).unwrap();
        self.engine.submit(&self.workspace, action).await.unwrap()
    }

    /// Checks where the error points, what it says and what it advises.
    pub(crate) async fn check_refused(
        &self,
        plugin: Option<&str>,
        params: &Value,
        expected: Expect,
    ) {
        let error = self.try_submit(plugin, params).await.unwrap_err();
        let hint = error.hint().unwrap_or_default();
        expected.assert_eq(&format!("{}: {error}\n{hint}", error.pointer().unwrap()));
    }

    pub(crate) async fn lease(&self) -> Option<LeaseView> {
        let lease = self
            .engine
            .lease(&self.workspace, &self.agent, Duration::ZERO)
            .await;
        lease.unwrap()
    }

    pub(crate) async fn report(
        &self,
        lease: &LeaseView,
        batch: Batch,
    ) -> Result<LeaseState, LeaseError> {
        self.engine
            .report(&self.workspace, &lease.task, lease.fence, (batch, &[]))
            .await
    }

    pub(crate) async fn finish(
        &self,
        lease: &LeaseView,
        outcome: Outcome,
    ) -> Result<TaskView, LeaseError> {
        self.engine
            .finish(
                &self.workspace,
                &lease.task,
                lease.fence,
                without_reports(outcome),
            )
            .await?;
        let ended = self.engine.task(&self.workspace, &lease.task).await;
        Ok(ended.unwrap().unwrap())
    }

    /// Everything that a task has, one line each.
    pub(crate) async fn story(&self, id: &TaskId) -> String {
        let (engine, workspace) = (&self.engine, &self.workspace);
        let mut story = String::new();
        let task = engine.task(workspace, id).await.unwrap().unwrap();
        writeln!(story, "project {}", task.project).unwrap();
        let mut parameters = engine.parameters(workspace, id).await.unwrap().unwrap();
        parameters.sort_by_key(|row| row.section != "General");
        for row in parameters {
            writeln!(
                story,
                "{}/{} {} {}",
                row.section,
                row.name,
                row.kind,
                row.stored_value()
            )
            .unwrap();
        }
        for curve in engine.scalars(workspace, id).await.unwrap().unwrap() {
            writeln!(
                story,
                "{}/{} n={} last={}@{} min={}@{} max={}@{}",
                curve.title,
                curve.series,
                curve.count,
                curve.last.0,
                curve.last_iteration,
                curve.min.0,
                curve.min_iteration,
                curve.max.0,
                curve.max_iteration,
            )
            .unwrap();
        }
        for single in engine.singles(workspace, id).await.unwrap().unwrap() {
            writeln!(story, "{}={}", single.name, single.value.0).unwrap();
        }
        let console = engine
            .console(workspace, id, &ConsoleQuery::from(0, 100))
            .await
            .unwrap()
            .unwrap();
        for line in console.lines {
            writeln!(
                story,
                "{} {} {}",
                line.number,
                line.source.as_str(),
                line.text
            )
            .unwrap();
        }
        story
    }
}

pub(crate) fn manifest(name: &str, version: &str, actions: &[&str]) -> Manifest {
    let action = |name: &&str| ActionSpec {
        name: (*name).to_owned(),
        summary: String::new(),
        schema: json!({}),
    };
    Manifest {
        name: name.to_owned(),
        version: version.to_owned(),
        category: Category::Other,
        summary: "for tests".into(),
        actions: actions.iter().map(action).collect(),
        environment: vec!["PATH_TO_X".into()],
        contract: String::new(),
    }
}

pub(crate) fn batch(key: u64, reports: Vec<Report>) -> Batch {
    Batch { key, reports }
}

pub(crate) fn point(title: &str, series: &str, iteration: u64, value: f64) -> Report {
    Report::Point(Point {
        title: title.to_owned(),
        series: series.to_owned(),
        iteration,
        value: Real(value),
        at: NOW,
        extra: None,
    })
}

pub(crate) fn single(name: &str, value: f64) -> Report {
    Report::Single {
        name: name.to_owned(),
        value: Real(value),
    }
}

pub(crate) fn line(text: &str) -> Report {
    Report::Line(Line {
        source: LineSource::Stdout,
        text: text.to_owned(),
        at: NOW,
    })
}

pub(crate) fn progress(category: &str, current: u64, total: u64) -> Report {
    Report::Progress {
        category: category.to_owned(),
        current,
        total,
    }
}

pub(crate) fn model(name: &str, iteration: u64, sha256: Digest, size_bytes: u64) -> Report {
    Report::Model(SavedModel {
        name: name.to_owned(),
        iteration,
        sha256,
        size_bytes,
        labels: vec![("zero".into(), 0)],
        metadata: vec![("hidden".into(), "8".into())],
        is_folder: false,
        snapshot: None,
    })
}

pub(crate) fn completed(result: Value) -> Outcome {
    let result = object(result);
    Outcome::Completed { result }
}

pub(crate) fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        other => panic!("{other} is no object"),
    }
}

pub(crate) fn failed(reason: &str) -> Outcome {
    Outcome::Failed {
        reason: reason.to_owned(),
    }
}

/// The end of a run that has told everything before.
pub(crate) fn without_reports(outcome: Outcome) -> EndOfRun {
    EndOfRun {
        outcome,
        reports: Vec::new(),
    }
}
