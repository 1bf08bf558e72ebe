//! Files, artifacts, models and data sets over HTTP, with an engine that takes a manifest in
//! JSON for a component.
#![expect(clippy::unwrap_used, reason = "a test says what it expects by failing")]

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use trainshed_core::manifest::{ActionSpec, Category, Manifest};
use trainshed_core::model::{ModelEdit, Registration};
use trainshed_core::view::{ArtifactRequest, DatasetEdit, MetadataItem, NewDataset};
use trainshed_core::{Digest, Timestamp};
use trainshed_engine::{
    Allowed, Database, Engine, EngineConfig, FileSettings, InspectError, Inspector,
};
use trainshed_wire::{Client, GarbageRequest};

struct ManifestReader;

#[async_trait]
impl Inspector for ManifestReader {
    async fn inspect(&self, component: &Path) -> Result<Manifest, InspectError> {
        let content =
            std::fs::read(component).map_err(|error| InspectError::Failed(error.to_string()))?;
        serde_json::from_slice(&content).map_err(|error| InspectError::Refused(error.to_string()))
    }
}

/// A server on a folder of its own; `share` is a folder that callers may name.
struct Shed {
    client: Client,
    url: String,
    key: String,
    share: TempDir,
    _folder: TempDir,
}

impl Shed {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let share = tempfile::tempdir().unwrap();
        let place = share.path().to_str().unwrap().parse().unwrap();
        let config = EngineConfig {
            data_dir: folder.path().join("data"),
            database: Database::Folder,
            files: FileSettings {
                allowed: Allowed::Only(vec![place]),
                max_upload_bytes: 1 << 20,
                ..FileSettings::default()
            },
            lease_ttl_ms: 60_000,
            task_watchdog_s: 7200,
            reuse_window_h: 24,
            inspector: Arc::new(ManifestReader),
            clock: Arc::new(|| Timestamp(1_000_000)),
        };
        let (engine, opened) = Engine::open(config).await.unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let served = trainshed_server::serve(listener, engine, std::future::pending());
        tokio::spawn(served);
        let key = opened.admin_key.unwrap();
        Self {
            client: Client::new(&url, &key),
            url,
            key,
            share,
            _folder: folder,
        }
    }

    fn file(&self, name: &str, content: &[u8]) -> std::path::PathBuf {
        let path = self.share.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    async fn put(&self, content: &[u8]) -> Digest {
        let digest = Digest::of(content);
        let path = self.file(&digest.short(), content);
        self.client.put_file(&digest, &path).await.unwrap();
        digest
    }

    /// Makes a data set and a waiting task; the task's id.
    async fn task(&self, name: &str) -> String {
        let manifest = Manifest {
            name: "mlp".into(),
            version: "0.1.0".into(),
            category: Category::Other,
            summary: "for tests".into(),
            actions: vec![ActionSpec {
                name: "train".into(),
                summary: String::new(),
                schema: json!({}),
            }],
            environment: Vec::new(),
            contract: String::new(),
        };
        let component = self.file("component", &serde_json::to_vec(&manifest).unwrap());
        self.client.push_plugin(&component).await.unwrap();
        let dataset = self.dataset("digits", &[("a.csv", b"x\n1\n")]).await;
        let action = json!({"action": "train", "params": {
            "name": name, "dataset": dataset, "hyperparameter": {}}});
        let submitted = self.client.submit(&action).await.unwrap();
        submitted.task.id.to_string()
    }

    async fn dataset(&self, name: &str, files: &[(&str, &[u8])]) -> u64 {
        let mut entries = Vec::new();
        for (path, content) in files {
            entries.push(trainshed_core::dataset::FileEntry {
                path: (*path).to_owned(),
                sha256: self.put(content).await,
                size_bytes: content.len() as u64,
            });
        }
        let new = NewDataset {
            name: name.to_owned(),
            description: String::new(),
            parent: None,
            files: entries,
            tags: Vec::new(),
            tables: None,
        };
        self.client.create_dataset(&new).await.unwrap().id
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Response {
        let url = format!("{}/api/v1{path}", self.url);
        let mut request = reqwest::Client::new()
            .request(method, url)
            .bearer_auth(&self.key)
            .body(body.to_vec());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.unwrap()
    }

    /// The status and the stable name of a refusal.
    async fn refused(&self, method: Method, path: &str, body: &Value) -> String {
        let json = [("content-type", "application/json")];
        let body = serde_json::to_vec(body).unwrap();
        let response = self.call(method, path, &json, &body).await;
        let status = response.status().as_u16();
        let problem: Value = response.json().await.unwrap();
        format!("{status} {}", problem["type"].as_str().unwrap())
    }
}

fn text<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers()[name].to_str().unwrap()
}

#[tokio::test]
async fn a_download_has_ranges_a_tag_and_never_runs_as_a_page() {
    let shed = Shed::start().await;
    let digest = shed.put(b"0123456789").await;
    let path = format!("/files/{digest}");
    let get = |headers: &'static [(&str, &str)]| shed.call(Method::GET, &path, headers, b"");

    let whole = get(&[]).await;
    assert_eq!(text(&whole, "x-content-type-options"), "nosniff");
    assert!(text(&whole, "content-disposition").starts_with("attachment"));
    assert!(text(&whole, "content-security-policy").contains("sandbox"));
    assert_eq!(text(&whole, "etag"), format!("\"{digest}\""));
    assert_eq!(whole.text().await.unwrap(), "0123456789");
    for (range, expected) in [
        ("bytes=2-4", "234"),
        ("bytes=7-", "789"),
        ("bytes=-2", "89"),
        ("bytes=8-99", "89"),
    ] {
        let part = shed
            .call(Method::GET, &path, &[("range", range)], b"")
            .await;
        assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT, "{range}");
        assert_eq!(part.text().await.unwrap(), expected, "{range}");
    }
    let beyond = get(&[("range", "bytes=10-")]).await;
    assert_eq!(beyond.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(text(&beyond, "content-range"), "bytes */10");
    let other = get(&[("range", "bytes=2-4"), ("if-range", "\"other\"")]).await;
    assert_eq!(other.status(), StatusCode::OK);
    let tag = format!("W/\"{digest}\"");
    let same = shed
        .call(Method::GET, &path, &[("if-none-match", &tag)], b"")
        .await;
    assert_eq!(same.status(), StatusCode::NOT_MODIFIED);
}

#[tokio::test]
async fn an_upload_in_parts_becomes_a_file() {
    let shed = Shed::start().await;
    let json = [("content-type", "application/json")];
    let whole = b"one and two";
    let digest = Digest::of(whole);
    let begin = json!({"size_bytes": whole.len(), "sha256": digest.to_string()}).to_string();
    let begun = shed
        .call(Method::POST, "/uploads", &json, begin.as_bytes())
        .await;
    assert_eq!(begun.status(), StatusCode::CREATED);
    let begun: Value = begun.json().await.unwrap();
    let path = format!("/uploads/{}", begun["id"].as_str().unwrap());
    for (number, offset, part) in [(2, 4, &whole[4..]), (1, 0, &whole[..4])] {
        let crc = crc32c::crc32c(part);
        let part_path = format!("{path}/parts/{number}?offset={offset}&crc32c={crc:08x}");
        let kept = shed.call(Method::PUT, &part_path, &[], part).await;
        assert_eq!(kept.status(), StatusCode::NO_CONTENT);
    }
    let complete = format!("{path}/complete");
    for _ in 0..2 {
        let stored: Value = shed
            .call(Method::POST, &complete, &[], b"")
            .await
            .json()
            .await
            .unwrap();
        assert_eq!(
            stored,
            json!({"sha256": digest.to_string(), "size_bytes": 11})
        );
    }
    let missing = shed.client.missing_files(&[digest]).await.unwrap();
    assert_eq!(missing, []);

    let refused = |method, path: String, body| async move { (method, path, body) };
    for (expected, call) in [
        (
            "404 unknown-upload",
            refused(Method::POST, "/uploads/nobody/complete".into(), json!({})).await,
        ),
        (
            "400 invalid-request",
            refused(
                Method::PUT,
                format!("{path}/parts/1?offset=0&crc32c=x"),
                json!({}),
            )
            .await,
        ),
        (
            "409 upload-complete",
            refused(
                Method::PUT,
                format!("{path}/parts/1?offset=0&crc32c=00000000"),
                json!({}),
            )
            .await,
        ),
        (
            "413 too-large",
            refused(
                Method::POST,
                "/uploads".into(),
                json!({"size_bytes": 2_000_000}),
            )
            .await,
        ),
    ] {
        let (method, path, body) = call;
        assert_eq!(shed.refused(method, &path, &body).await, expected, "{path}");
    }
    let long = vec![0; (1 << 20) + 1];
    let path = format!("/files/{}", Digest::of(&long));
    for (method, path) in [(Method::PUT, path.as_str()), (Method::POST, "/import")] {
        let refused = shed.call(method, path, &[], &long).await;
        assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE, "{path}");
    }
}

#[tokio::test]
async fn artifacts_are_typed_previewed_kept_with_their_history_and_shared() {
    let shed = Shed::start().await;
    let task = shed.task("first task").await;
    let file = shed.file("a.json", b"{\"a\": 1}");
    let made = shed
        .client
        .put_artifact(&task, "report.json", None, &file)
        .await
        .unwrap();
    assert_eq!(
        (made.kind.as_str(), made.preview.as_str()),
        ("json", "{\"a\": 1}")
    );
    let file = shed.file("b.json", b"{\"a\": 2}");
    let made = shed
        .client
        .put_artifact(&task, "report.json", None, &file)
        .await
        .unwrap();
    assert_eq!(made.version, 2);
    let pickle = shed.file("x.pkl", b"\x80\x04cos\nsystem\n");
    let made = shed
        .client
        .put_artifact(&task, "x.pkl", None, &pickle)
        .await
        .unwrap();
    assert_eq!((made.kind.as_str(), made.preview.as_str()), ("file", ""));

    let history = shed.client.artifacts(&task, true).await.unwrap();
    let history: Vec<_> = history
        .iter()
        .map(|a| (&*a.name, a.version, a.replaced.is_some()))
        .collect();
    assert_eq!(
        history,
        [
            ("report.json", 2, false),
            ("report.json", 1, true),
            ("x.pkl", 1, false)
        ]
    );
    let former = format!("/tasks/{task}/artifacts/report.json?version=1");
    let former = shed.call(Method::GET, &former, &[], b"").await;
    assert_eq!(former.text().await.unwrap(), "{\"a\": 1}");

    let link = ArtifactRequest {
        name: "elsewhere".into(),
        uri: Some("https://example.com/x?y".into()),
        ..ArtifactRequest::default()
    };
    let link = shed.client.register_artifact(&task, &link).await.unwrap();
    assert_eq!((link.kind.as_str(), link.size_bytes), ("link", 0));
    assert_eq!(link.uri.as_deref(), Some("https://example.com/x?y"));
    let other = shed.task("second task").await;
    let shared: ArtifactRequest = serde_json::from_value(
        json!({"name": "shared", "mode": "input", "from": {"task": task, "name": "report.json"}}),
    )
    .unwrap();
    let shared = shed
        .client
        .register_artifact(&other, &shared)
        .await
        .unwrap();
    assert_eq!(shared.sha256, Some(Digest::of(b"{\"a\": 2}")));

    let post = format!("/tasks/{task}/artifacts");
    for (expected, body) in [
        ("422 invalid-artifact", json!({"name": "x"})),
        (
            "422 invalid-artifact",
            json!({"name": "", "uri": "https://x/"}),
        ),
        (
            "422 invalid-artifact",
            json!({"name": "x", "uri": "no address"}),
        ),
        (
            "422 invalid-artifact",
            json!({"name": "x", "uri": "https://x/", "type": "json"}),
        ),
        (
            "422 missing-file",
            json!({"name": "x", "sha256": Digest::of(b"?").to_string()}),
        ),
        (
            "404 unknown-artifact",
            json!({"name": "x", "from": {"task": task, "name": "?"}}),
        ),
    ] {
        assert_eq!(
            shed.refused(Method::POST, &post, &body).await,
            expected,
            "{body}"
        );
    }
    shed.client
        .delete_artifact(&task, "report.json")
        .await
        .unwrap();
    let gone = shed
        .client
        .delete_artifact(&task, "report.json")
        .await
        .unwrap_err();
    assert_eq!(gone.status(), Some(404));
    let all = GarbageRequest {
        keep_ms: Some(0),
        ..GarbageRequest::default()
    };
    let count = GarbageRequest {
        dry_run: true,
        ..all
    };
    let found = shed.client.collect_garbage(&count).await.unwrap();
    assert_eq!(found.files, 1, "the first version; the second is shared");
    assert_eq!(shed.client.collect_garbage(&all).await.unwrap(), found);
}

#[tokio::test]
async fn models_are_registered_changed_published_and_followed_both_ways() {
    let shed = Shed::start().await;
    let task = shed.task("first task").await;
    let weights = shed.put(b"weights").await;
    let new = Registration {
        name: "net".into(),
        task: Some(task.parse().unwrap()),
        sha256: Some(weights),
        framework: "PyTorch".into(),
        labels: vec![("cat".into(), 1)],
        tags: vec!["a".into()],
        iteration: 3,
        ..Registration::default()
    };
    let model = shed.client.register_model(&new).await.unwrap();
    assert_eq!((model.size_bytes, model.iteration), (7, 3));
    assert_eq!(model.labels, [("cat".to_owned(), 1)]);
    let of_task = shed.client.task_models(&task).await.unwrap();
    assert_eq!(of_task.output[0].model.id, model.id);
    let lineage = shed.client.lineage(model.id).await.unwrap();
    assert_eq!(lineage.ancestors[0].task.to_string(), task);
    assert_eq!(lineage.descendants, []);

    let edit = ModelEdit {
        design: Some("two layers".into()),
        comment: Some("good".into()),
        ..ModelEdit::default()
    };
    let edited = shed.client.edit_model(model.id, &edit).await.unwrap();
    assert_eq!(
        (edited.design.as_str(), edited.framework.as_str()),
        ("two layers", "PyTorch")
    );
    let item = |key: &str, value: &str| MetadataItem {
        key: key.to_owned(),
        kind: "float".to_owned(),
        value: value.to_owned(),
    };
    let kept = shed
        .client
        .add_metadata(model.id, &[item("b", "1"), item("a", "2")])
        .await;
    assert_eq!(kept.unwrap(), [item("a", "2"), item("b", "1")]);
    let archived = shed.client.archive_model(model.id, true).await.unwrap();
    assert_eq!(archived.system_tags, ["archived"]);
    assert_eq!(shed.client.models(false).await.unwrap(), []);
    shed.client.archive_model(model.id, false).await.unwrap();
    let published = shed.client.publish_model(model.id, false).await.unwrap();
    assert!(published.published.is_some());
    let path = format!("/models/{}", model.id);
    let bad = json!({"name": "other"});
    assert_eq!(
        shed.refused(Method::PATCH, &path, &bad).await,
        "409 read-only"
    );
    assert_eq!(
        shed.refused(Method::DELETE, &path, &json!({})).await,
        "409 read-only"
    );
    let post = |body: Value| shed.refused_post(body);
    assert_eq!(post(json!({"name": "x"})).await, "422 invalid-model");
    assert_eq!(
        post(json!({"name": "x", "uri": "no"})).await,
        "422 invalid-model"
    );
    let unknown = json!({"name": "x", "uri": "s3://b/x", "parent": 99});
    assert_eq!(post(unknown).await, "404 unknown-model");
    shed.client.delete_model(model.id, true).await.unwrap();
    let gone = shed.client.model(model.id).await.unwrap_err();
    assert_eq!(gone.status(), Some(404));
}

impl Shed {
    async fn refused_post(&self, body: Value) -> String {
        self.refused(Method::POST, "/models", &body).await
    }
}

#[tokio::test]
async fn versions_are_compared_tagged_published_and_kept_while_they_are_needed() {
    let shed = Shed::start().await;
    let first = shed.dataset("things", &[("a", b"1"), ("b", b"2")]).await;
    let second = shed
        .dataset("things", &[("a", b"1"), ("c", b"2"), ("d", b"3")])
        .await;
    let found = shed
        .client
        .dataset_difference(second, Some(first))
        .await
        .unwrap();
    let moved: Vec<_> = found.moved.iter().map(|m| (&*m.from, &*m.to)).collect();
    assert_eq!(
        (moved, found.added.len(), found.unchanged),
        (vec![("b", "c")], 1, 1)
    );
    let edit = DatasetEdit {
        tags: Some(vec!["clean".into()]),
        ..DatasetEdit::default()
    };
    let edited = shed.client.edit_dataset(second, &edit).await.unwrap();
    assert_eq!(edited.tags, ["clean"]);
    shed.client.archive_dataset(first, true).await.unwrap();
    let shown = shed.client.datasets(false).await.unwrap();
    assert_eq!(shown.iter().map(|d| d.id).collect::<Vec<_>>(), [second]);
    shed.client.publish_dataset(second).await.unwrap();
    let refused = shed.client.edit_dataset(second, &edit).await.unwrap_err();
    assert_eq!(refused.status(), Some(409));
    let unknown = shed
        .client
        .dataset_difference(99, Some(first))
        .await
        .unwrap_err();
    assert_eq!(unknown.status(), Some(404));
    shed.client.delete_dataset(first, false).await.unwrap();
    let task = shed.task("first task").await;
    let read = shed.client.task(&task).await.unwrap().dataset.unwrap();
    let refused = shed.client.delete_dataset(read, true).await.unwrap_err();
    assert_eq!(refused.status(), Some(409), "a task waits with it");
}

#[tokio::test]
async fn objects_are_imported_only_from_where_callers_may() {
    let shed = Shed::start().await;
    shed.file("data/a.csv", b"x\n1\n");
    let folder = shed.share.path().join("data").display().to_string();
    let listed = shed.client.list_objects(&folder).await.unwrap();
    assert_eq!(
        listed
            .iter()
            .map(|object| &*object.path)
            .collect::<Vec<_>>(),
        ["a.csv"]
    );
    let linked = shed
        .client
        .import_object(&listed[0].uri, true)
        .await
        .unwrap();
    assert_eq!(linked.sha256, Digest::of(b"x\n1\n"));
    for address in [
        "/etc/passwd",
        "s3://bucket/x",
        "http://169.254.169.254/latest",
    ] {
        let refused = shed.client.import_object(address, false).await.unwrap_err();
        assert_eq!(refused.status(), Some(403), "{address}");
    }
    let body = json!({"uri": "s3://host.example/x"});
    let refused = shed.refused(Method::POST, "/files/import", &body).await;
    assert_eq!(refused, "422 invalid-address");
}
