//! A store with one workspace and one data set, and short ways to put things into it.

use futures::{StreamExt as _, stream};
use serde_json::{Map, json};
use trainshed_core::artifact::{ArtifactContent, ArtifactMode, ArtifactType, NewArtifact};
use trainshed_core::dataset::{FileEntry, seal};
use trainshed_core::limits::LimitRequest;
use trainshed_core::model::SavedModel;
use trainshed_core::parameter::Parameter;
use trainshed_core::report::{Batch, Line, LineSource, Point, Real, Report};
use trainshed_core::task::{Outcome, TaskState, TaskType};
use trainshed_core::view::{AgentInfo, DatasetView, PluginSummary};
use trainshed_core::{AgentId, Digest, TaskId, Timestamp, WorkspaceId};
use trainshed_series::FrameBuilder;
use trainshed_store::{
    AppendError, Appended, EndOfRun, InsertTaskError, LeaseError, NewTask, NewVersion, NewWork,
    PointBatch, Store, Workspace,
};

/// Makes a test of each behaviour for each database.
#[allow(unused_macros, reason = "not every file of tests is a contract")]
macro_rules! store_contract {
    ($($behaviour:ident),* $(,)?) => {
        mod sqlite {
            $(
                #[tokio::test]
                async fn $behaviour() {
                    let folder = tempfile::tempdir().unwrap();
                    let store = trainshed_store::Store::open(folder.path(), &trainshed_store::Database::Folder);
                    super::$behaviour(crate::lab::Lab::new(store.await.unwrap()).await).await;
                }
            )*
        }

        mod postgres {
            $(
                #[tokio::test]
                async fn $behaviour() {
                    let folder = tempfile::tempdir().unwrap();
                    let database = trainshed_postgres::Cluster::shared().database();
                    let database = trainshed_store::Database::Postgres(database);
                    let store = trainshed_store::Store::open(folder.path(), &database);
                    super::$behaviour(crate::lab::Lab::new(store.await.unwrap()).await).await;
                }
            )*
        }
    };
}

pub(crate) const NOW: Timestamp = Timestamp(1_000_000);
pub(crate) const UNTIL: Timestamp = Timestamp(1_060_000);

pub(crate) struct Lab {
    pub(crate) store: Store,
    pub(crate) workspace: Workspace,
    pub(crate) agent: AgentId,
}

/// A task under a lease.
#[derive(Debug, Clone)]
pub(crate) struct Running {
    pub(crate) task: TaskId,
    pub(crate) fence: i64,
}

impl Lab {
    /// Fills a fresh store.
    pub(crate) async fn new(store: Store) -> Self {
        let id = WorkspaceId::from_u128(1);
        assert!(
            store
                .create_workspace(&id, "first", "key-1", NOW)
                .await
                .unwrap()
        );
        let lab = Self::again(store).await;
        let dataset = lab.dataset("digits", &[("a.csv", b"1,2")]).await;
        assert_eq!(dataset.id, 1);
        lab
    }

    /// Goes on with a store that was filled before.
    pub(crate) async fn again(store: Store) -> Self {
        let workspace = store.authenticate("key-1").await.unwrap().unwrap();
        let info = AgentInfo {
            name: "tester".into(),
            local: true,
            ..AgentInfo::default()
        };
        let agent = store.register_agent(&workspace, &info, NOW).await.unwrap();
        Self {
            store,
            workspace,
            agent,
        }
    }

    pub(crate) async fn put(&self, content: &[u8]) -> Digest {
        let piece = Ok(content.to_vec().into());
        let stored = self
            .store
            .put_file(&self.workspace, None, stream::iter([piece]), NOW);
        stored.await.unwrap()
    }

    pub(crate) async fn read(&self, digest: &Digest) -> Option<Vec<u8>> {
        let content = self
            .store
            .open_file(&self.workspace, digest, None)
            .await
            .unwrap()?;
        let pieces: Vec<_> = content.map(|piece| piece.unwrap().to_vec()).collect().await;
        Some(pieces.concat())
    }

    pub(crate) async fn dataset(&self, name: &str, files: &[(&str, &[u8])]) -> DatasetView {
        let mut entries = Vec::new();
        for (path, content) in files {
            let sha256 = self.put(content).await;
            let size_bytes = content.len() as u64;
            entries.push(FileEntry {
                path: (*path).to_owned(),
                sha256,
                size_bytes,
            });
        }
        let (files, digest) = seal(entries).unwrap();
        let version = NewVersion {
            name,
            parent: None,
            description: "",
            digest: &digest,
            files: &files,
            tags: &[],
            tables: None,
        };
        self.store
            .insert_dataset(&self.workspace, &version, NOW)
            .await
            .unwrap()
    }

    pub(crate) async fn try_queue(
        &self,
        name: &str,
        project: &str,
        now: Timestamp,
    ) -> Result<TaskId, InsertTaskError> {
        let task = new_task(name, project);
        self.store.insert_task(&self.workspace, &task, now).await?;
        Ok(task.id)
    }

    pub(crate) async fn queue(&self, name: &str) -> TaskId {
        self.try_queue(name, "default", NOW).await.unwrap()
    }

    pub(crate) async fn claim(&self) -> Option<Running> {
        let claimed = self
            .store
            .claim_task(&self.workspace, &self.agent, NOW, UNTIL)
            .await;
        claimed.unwrap().map(|claimed| Running {
            task: claimed.task,
            fence: claimed.fence,
        })
    }

    pub(crate) async fn run(&self, name: &str) -> Running {
        self.queue(name).await;
        self.claim().await.unwrap()
    }

    pub(crate) async fn try_report(
        &self,
        running: &Running,
        key: u64,
        reports: Vec<Report>,
    ) -> Result<Option<String>, LeaseError> {
        let batch = Batch { key, reports };
        self.store
            .append_batch(
                &self.workspace,
                &running.task,
                running.fence,
                (batch, &[]),
                UNTIL,
                NOW,
            )
            .await
    }

    pub(crate) async fn report(&self, running: &Running, key: u64, reports: Vec<Report>) {
        self.try_report(running, key, reports).await.unwrap();
    }

    pub(crate) async fn finish(
        &self,
        running: &Running,
        outcome: Outcome,
    ) -> Result<(), LeaseError> {
        self.finish_with(running, outcome, Vec::new()).await
    }

    pub(crate) async fn finish_with(
        &self,
        running: &Running,
        outcome: Outcome,
        reports: Vec<Report>,
    ) -> Result<(), LeaseError> {
        let end = EndOfRun { outcome, reports };
        self.store
            .finish_task(&self.workspace, &running.task, running.fence, &end, NOW)
            .await
    }

    pub(crate) async fn state(&self, task: &TaskId) -> TaskState {
        let task = self.store.task(&self.workspace, task).await.unwrap();
        task.unwrap().status
    }

    /// Iterations and values of a curve, e.g. `0:0.5 1:NaN`.
    pub(crate) async fn curve(&self, task: &TaskId, title: &str, series: &str) -> String {
        let page = self
            .store
            .points(&self.workspace, task, (title, series), 0, usize::MAX)
            .await;
        let points = page.unwrap().points;
        let text = |point: trainshed_series::Point<'_>| format!("{}:{}", point.step, point.value);
        points.view().iter().map(text).collect::<Vec<_>>().join(" ")
    }

    /// Records points of the curve `train/loss` as a client does.
    pub(crate) async fn append(
        &self,
        task: &TaskId,
        key: Option<&str>,
        points: &[(u64, f64)],
    ) -> Result<Appended, AppendError> {
        let mut builder = FrameBuilder::default();
        for (step, value) in points {
            let names = ("train".into(), "loss".into());
            builder.push(
                names,
                *step,
                NOW.as_millis() + step.cast_signed(),
                *value,
                None,
            );
        }
        let batch = PointBatch {
            key: key.map(Into::into),
            frame: builder.finish(),
            singles: Vec::new(),
        };
        self.store
            .append_points(&self.workspace, task, &batch, NOW)
            .await
    }
}

/// A task of an agent that waits.
pub(crate) fn new_task(name: &str, project: &str) -> NewTask {
    NewTask {
        work: Some(NewWork {
            action: "train",
            params: Map::from_iter([("name".to_owned(), json!(name))]),
            settings: Map::from_iter([("lr".to_owned(), json!(0.1))]),
            plugin: PluginSummary {
                name: "mlp".into(),
                version: "0.1.0".into(),
                digest: Digest::of(b"component"),
            },
            dataset: 1,
            checkpoint: None,
            seed: u64::MAX,
            limits: LimitRequest::default(),
            initial_iteration: 0,
        }),
        tags: vec!["a".into()],
        parameters: vec![Parameter::new("General", "lr", json!(0.1))],
        queued: true,
        ..draft(name, project)
    }
}

/// A draft that no plugin runs.
pub(crate) fn draft(name: &str, project: &str) -> NewTask {
    NewTask {
        id: TaskId::from_u128(uuid::Uuid::now_v7().as_u128()),
        project: project.to_owned(),
        name: name.to_owned(),
        encoded_name: name.to_owned(),
        task_type: TaskType::Training,
        comment: String::new(),
        tags: Vec::new(),
        system_tags: Vec::new(),
        parent: None,
        creator: String::new(),
        script: None,
        container: None,
        output_destination: None,
        work: None,
        parameters: Vec::new(),
        configuration: Vec::new(),
        queued: false,
    }
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

pub(crate) fn loss(iteration: u64, value: f64) -> Report {
    point("train", "loss", iteration, value)
}

pub(crate) fn line(text: &str) -> Report {
    Report::Line(Line {
        source: LineSource::Stdout,
        text: text.to_owned(),
        at: NOW,
    })
}

pub(crate) fn model(name: &str, iteration: u64, sha256: Digest, size_bytes: u64) -> Report {
    Report::Model(SavedModel {
        name: name.to_owned(),
        iteration,
        sha256,
        size_bytes,
        labels: vec![("cat".into(), 1)],
        metadata: vec![("a".into(), "b".into())],
        is_folder: false,
        snapshot: None,
    })
}

pub(crate) fn completed() -> Outcome {
    Outcome::Completed { result: Map::new() }
}

pub(crate) fn failed(reason: &str) -> Outcome {
    Outcome::Failed {
        reason: reason.to_owned(),
    }
}

/// A text file of this content.
pub(crate) fn artifact(name: &str, digest: Digest) -> NewArtifact {
    NewArtifact {
        name: name.to_owned(),
        mode: ArtifactMode::Output,
        kind: ArtifactType::File,
        content: ArtifactContent::Stored(digest),
        content_type: "text/plain".to_owned(),
        preview: String::new(),
        display: Vec::new(),
    }
}
