//! A server in this process, with tasks that nobody runs.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use trainshed_core::action::Action;
use trainshed_core::dataset::FileEntry;
use trainshed_core::manifest::{ActionSpec, Category, Manifest};
use trainshed_core::view::NewDataset;
use trainshed_core::{Digest, TaskId, Timestamp};
use trainshed_engine::{
    Database, Engine, EngineConfig, FileSettings, InspectError, Inspector, Workspace,
};

pub(crate) struct Lab {
    pub(crate) engine: Engine,
    pub(crate) workspace: Workspace,
    pub(crate) url: String,
    pub(crate) key: String,
    stop: Option<oneshot::Sender<()>>,
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

impl Lab {
    pub(crate) async fn start(folder: &Path, database: Database) -> Self {
        let config = EngineConfig {
            data_dir: folder.to_owned(),
            database,
            files: FileSettings::default(),
            lease_ttl_ms: 60_000,
            task_watchdog_s: 7200,
            reuse_window_h: 24,
            inspector: Arc::new(ManifestReader),
            clock: Arc::new(|| Timestamp(1_700_000_000_000)),
        };
        let (engine, opened) = Engine::open(config).await.unwrap();
        let key = opened.admin_key.expect("the folder is new");
        let workspace = engine.authenticate(&key).await.unwrap().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async { drop(stopped.await) };
        tokio::spawn(trainshed_server::serve(listener, engine.clone(), shutdown));
        // It chooses the cryptography, without which no client can be made.
        drop(trainshed_wire::Client::new(&url, &key));
        let lab = Self {
            engine,
            workspace,
            url,
            key,
            stop: Some(stop),
        };
        let manifest = Manifest {
            name: "mlp".into(),
            version: "0.1.0".into(),
            category: Category::Other,
            summary: String::new(),
            actions: vec![ActionSpec {
                name: "train".into(),
                summary: String::new(),
                schema: json!({}),
            }],
            environment: Vec::new(),
            contract: String::new(),
        };
        let manifest = json!(manifest).to_string();
        let component = lab.put(manifest.as_bytes()).await;
        let pushed = lab.engine.push_plugin(&lab.workspace, component).await;
        pushed.unwrap();
        let content = b"a,b\n1,2\n";
        let files = vec![FileEntry {
            path: "a.csv".into(),
            sha256: lab.put(content).await,
            size_bytes: content.len() as u64,
        }];
        let dataset = NewDataset {
            name: "digits".into(),
            description: String::new(),
            parent: None,
            files,
            tags: Vec::new(),
            tables: None,
        };
        lab.engine
            .create_dataset(&lab.workspace, dataset)
            .await
            .unwrap();
        lab
    }

    pub(crate) async fn put(&self, content: &[u8]) -> Digest {
        let digest = Digest::of(content);
        let piece = Ok(content.to_vec().into());
        self.engine
            .put_file(&self.workspace, digest, stream::iter([piece]))
            .await
            .unwrap();
        digest
    }

    /// A task that waits for an agent.
    pub(crate) async fn task(&self, name: &str) -> TaskId {
        let action = json!({
            "action": "train",
            "params": {"name": name, "dataset": 1, "hyperparameter": {}},
        });
        let action = Action::parse(&action).unwrap();
        self.engine
            .submit(&self.workspace, action)
            .await
            .unwrap()
            .id
    }

    pub(crate) async fn close(mut self) {
        drop(self.stop.take());
        self.engine.close().await;
    }
}
