//! Makes components of core WebAssembly text, and runs them on a private runtime.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde_json::{Map, Value};
use tempfile::TempDir;
use trainshed_core::artifact::ArtifactType;
use trainshed_core::dataset::FileEntry;
use trainshed_core::limits::Limits;
use trainshed_core::report::{Real, Report};
use trainshed_core::task::Outcome;
use trainshed_core::view::{ArtifactRequest, ArtifactView};
use trainshed_core::{Digest, TaskId, Timestamp};
use trainshed_runtime::{
    CommittedVersion, DatasetFiles, Device, Job, JobWork, Plugin, Refused, Runtime, RuntimeConfig,
    Services, StopSignal, TrialVerdict, stop_pair,
};
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};

/// A guest with the `train` action, as core WebAssembly text.
///
/// The body of `train` sees the locals `$run`, `$dataset`, `$params`, `$params_length` and `$i`,
/// and gives the address of a `result<json, failure>`; `(call $ok)` gives one that says `{}`.
/// Memory up to 4096 belongs to this template, from 4096 on to the test.
#[derive(Default)]
pub(crate) struct Guest<'a> {
    /// `(import …)` and `(func …)` fields.
    pub(crate) fields: &'a str,
    /// The body of `train`.
    pub(crate) train: &'a str,
    /// The body of `describe`, before it gives its manifest.
    pub(crate) describe: &'a str,
    /// `(data …)` fields.
    pub(crate) data: &'a str,
    /// Replacements in `wit/`, for a guest of another contract.
    pub(crate) contract: &'a [(&'a str, &'a str)],
    /// The manifest's name.
    pub(crate) name: &'a str,
}

impl Guest<'_> {
    /// The component.
    pub(crate) fn component(&self) -> Vec<u8> {
        let name = if self.name.is_empty() {
            "test"
        } else {
            self.name
        };
        let text = TEMPLATE
            .replace("{fields}", self.fields)
            .replace("{train}", self.train)
            .replace("{describe}", self.describe)
            .replace("{data}", self.data)
            .replace("{manifest}", &manifest(name));
        let mut module = wat::parse_str(&text).unwrap();
        let folder = tempfile::tempdir().unwrap();
        for file in std::fs::read_dir(wit()).unwrap() {
            let file = file.unwrap();
            let mut content = std::fs::read_to_string(file.path()).unwrap();
            for (from, to) in self.contract {
                content = content.replace(from, to);
            }
            std::fs::write(folder.path().join(file.file_name()), content).unwrap();
        }
        let mut resolve = wit_parser::Resolve::default();
        let (package, _) = resolve.push_dir(folder.path()).unwrap();
        let world = resolve
            .select_world(&[package], Some("train-plugin"))
            .unwrap();
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
        let encoder = ComponentEncoder::default().module(&module).unwrap();
        let adapter = WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME;
        let mut encoder = encoder
            .adapter(adapter, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER)
            .unwrap();
        encoder.encode().unwrap()
    }
}

fn wit() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit")
}

const TEMPLATE: &str = r#"(module
  (import "trainshed:plugin/run@0.1.0" "[resource-drop]run" (func $drop_run (param i32)))
  (import "trainshed:plugin/dataset@0.1.0" "[resource-drop]dataset" (func $drop_dataset (param i32)))
  {fields}
  (memory (export "memory") 2)
  (global $next (mut i32) (i32.const 65536))
  (func (export "cabi_realloc") (param i32 i32 i32) (param $size i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $next) (i32.const 15)) (i32.const -16)))
    (global.set $next (i32.add (local.get $at) (local.get $size)))
    (if (i32.gt_u (global.get $next) (i32.mul (memory.size) (i32.const 65536)))
      (then (if (i32.eq (i32.const -1)
        (memory.grow (i32.add (i32.const 1) (i32.div_u (local.get $size) (i32.const 65536)))))
        (then unreachable))))
    (local.get $at))
  (func $ok (result i32)
    (call $json (i32.const 2048) (i32.const 2)))
  (func $json (param $at i32) (param $length i32) (result i32)
    (i32.store (i32.const 2064) (i32.const 0))
    (i32.store (i32.const 2068) (local.get $at))
    (i32.store (i32.const 2072) (local.get $length))
    (i32.const 2064))
  (func (export "trainshed:plugin/manifest@0.1.0#describe") (result i32)
    {describe}
    (i32.const 1024))
  (func $train
    (param $run i32) (param $dataset i32) (param $params i32) (param $params_length i32)
    (result i32)
    (local $i i32)
    {train})
  (func (export "trainshed:plugin/train@0.1.0#train")
    (param i32 i32 i32 i32 i32 i32) (result i32)
    (call $train (local.get 0) (local.get 1) (local.get 2) (local.get 3))
    ;; What was lent must be given back.
    (call $drop_run (local.get 0))
    (call $drop_dataset (local.get 1)))
  (data (i32.const 1024) "{manifest}")
  (data (i32.const 2048) "{}")
  {data}
)"#;

/// A manifest as it lies in memory from 1024 on, as a text of escaped bytes.
fn manifest(name: &str) -> String {
    let mut record = Vec::new();
    let mut texts = Vec::new();
    let mut put = |text: &str| {
        // Texts follow the record (48 bytes) and its one action (24 bytes).
        let at = 1024 + 48 + 24 + length(&texts);
        texts.extend_from_slice(text.as_bytes());
        [at.to_le_bytes(), length(text.as_bytes()).to_le_bytes()].concat()
    };
    for text in [name, "0.1.0", "other", "A guest of a test."] {
        record.extend(put(text));
    }
    let action = [put("train"), put("Does what the test says."), put("{}")].concat();
    record.extend((1024_u32 + 48).to_le_bytes());
    record.extend(1_u32.to_le_bytes());
    record.extend([0; 8]);
    let bytes = [record, action, texts].concat();
    bytes.iter().map(|byte| format!("\\{byte:02x}")).collect()
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap()
}

/// A runtime with folders of its own.
pub(crate) struct Bench {
    pub(crate) runtime: Runtime,
    pub(crate) folder: TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("dataset")).unwrap();
        let config = RuntimeConfig {
            cache_dir: folder.path().join("cache"),
            max_tasks: 2,
            max_memory_bytes: 1 << 30,
        };
        let runtime = Runtime::new(config).unwrap();
        Self { runtime, folder }
    }

    /// Writes a file of the data set.
    pub(crate) fn with_file(self, name: &str, content: &str) -> Self {
        std::fs::write(self.folder.path().join("dataset").join(name), content).unwrap();
        self
    }

    /// Writes `component` to a file and loads it.
    pub(crate) fn load(&self, component: &[u8]) -> Result<Plugin, String> {
        let digest = Digest::of(component);
        let file = self.folder.path().join(format!("{digest}.wasm"));
        std::fs::write(&file, component).unwrap();
        let loaded = self.runtime.load(digest, &file);
        loaded.map_err(|error| error.to_string())
    }

    pub(crate) fn job(&self, limits: Limits) -> Job {
        let work_dir = tempfile::tempdir_in(self.folder.path()).unwrap().keep();
        Job {
            task: TaskId::from_u128(7),
            trial: None,
            initial_iteration: 0,
            seed: 1337,
            params: Map::from_iter([("name".to_owned(), Value::from("test"))]),
            work: JobWork::Train {
                hyperparameter: Map::new(),
                checkpoint: None,
            },
            dataset: DatasetFiles {
                id: 3,
                name: "digits".into(),
                version: 1,
                digest: Digest::of(b""),
                dir: self.folder.path().join("dataset"),
            },
            work_dir,
            limits,
            device: Device::Cpu,
            notice: None,
            environment: BTreeMap::from([("GRANTED".to_owned(), "yes".to_owned())]),
        }
    }

    /// Runs a guest; gives all it reported and the outcome, one a line.
    pub(crate) fn story(&self, guest: &Guest<'_>, limits: Limits) -> String {
        let (_handle, stop) = stop_pair();
        self.story_of(guest, self.job(limits), stop)
    }

    pub(crate) fn story_of(&self, guest: &Guest<'_>, job: Job, stop: StopSignal) -> String {
        let plugin = self.load(&guest.component()).unwrap();
        let recorder = Arc::new(Recorder::default());
        let outcome = block_on(self.runtime.run(&plugin, job, recorder.clone(), stop));
        let mut lines = recorder.lines.lock().unwrap().clone();
        lines.push(match outcome {
            Outcome::Completed { result } => format!("completed: {}", Value::Object(result)),
            Outcome::Failed { reason } => format!("failed: {reason}"),
            Outcome::Stopped { reason } => format!("stopped: {reason}"),
        });
        lines.join("\n") + "\n"
    }
}

/// Runs `guest` with `limits` and compares its story.
#[track_caller]
pub(crate) fn check(guest: &Guest<'_>, limits: Limits, expected: expect_test::Expect) {
    expected.assert_eq(&Bench::new().story(guest, limits));
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(future)
}

/// Keeps what a run reports, one line each.
#[derive(Default)]
pub(crate) struct Recorder {
    pub(crate) lines: Mutex<Vec<String>>,
    /// What `report` answers instead of taking over.
    pub(crate) refusal: Mutex<Option<Refused>>,
}

#[async_trait::async_trait]
impl Services for Recorder {
    async fn report(&self, report: Report) -> Result<(), Refused> {
        if let Some(refused) = self.refusal.lock().unwrap().clone() {
            return Err(refused);
        }
        let line = match report {
            Report::Point(point) => {
                let extra = point
                    .extra
                    .map(|extra| format!(" {}", Value::Object(extra)));
                format!(
                    "{}/{} {}: {}{}",
                    point.title,
                    point.series,
                    point.iteration,
                    point.value.0,
                    extra.unwrap_or_default()
                )
            }
            Report::Single {
                name,
                value: Real(value),
            } => format!("{name}: {value}"),
            Report::Line(line) => format!("{}: {}", line.source.as_str(), line.text),
            Report::Sample(sample) => format!(
                "{} {}/{} {}: {}",
                sample.content_type, sample.category, sample.group, sample.index, sample.size_bytes
            ),
            Report::Plot(plot) => format!(
                "plot {}/{} {}: {}",
                plot.title, plot.series, plot.iteration, plot.figure
            ),
            Report::Environment { values } => format!("environment {values:?}"),
            Report::Trials { payload } => format!("trials {}", Value::Object(payload)),
            Report::Progress {
                category,
                current,
                total,
            } => {
                format!("progress {category} {current}/{total}")
            }
            Report::Model(model) => format!("model {} {} bytes", model.name, model.size_bytes),
            Report::Output { name } => format!("output {name}"),
        };
        self.lines.lock().unwrap().push(line);
        Ok(())
    }

    async fn report_trial(
        &self,
        metrics: Map<String, Value>,
        checkpoint: Option<String>,
    ) -> Result<TrialVerdict, Refused> {
        let metrics = Value::Object(metrics);
        let line = format!("trial {metrics} {}", checkpoint.unwrap_or_default());
        self.lines.lock().unwrap().push(line);
        Ok(TrialVerdict::Continue)
    }

    async fn upload(&self, file: &Path, digest: Digest, size_bytes: u64) -> Result<(), Refused> {
        let content = std::fs::read(file).unwrap();
        assert_eq!(Digest::of(&content), digest);
        assert_eq!(content.len() as u64, size_bytes);
        let line = format!("upload {size_bytes} bytes");
        self.lines.lock().unwrap().push(line);
        Ok(())
    }

    /// Answers with what the task had before: nothing but `lr`.
    async fn connect(
        &self,
        section: String,
        mut values: Map<String, Value>,
    ) -> Result<Map<String, Value>, Refused> {
        let connected = format!("connect {section} {}", Value::Object(values.clone()));
        self.lines.lock().unwrap().push(connected);
        if values.contains_key("lr") {
            values.insert("lr".to_owned(), 0.5.into());
        }
        Ok(values)
    }

    async fn connect_text(
        &self,
        name: String,
        text: String,
        format: String,
    ) -> Result<String, Refused> {
        let connected = format!("connect {name} {format} {text:?}");
        self.lines.lock().unwrap().push(connected);
        Ok(text.to_uppercase())
    }

    async fn put_artifact(&self, artifact: ArtifactRequest) -> Result<ArtifactView, Refused> {
        let kind = artifact.kind.unwrap_or(ArtifactType::File);
        let line = format!("artifact {} {}", artifact.name, kind.as_str());
        self.lines.lock().unwrap().push(line);
        Ok(ArtifactView {
            name: artifact.name,
            mode: artifact.mode,
            version: 1,
            kind,
            sha256: artifact.sha256,
            uri: artifact.uri,
            size_bytes: 0,
            content_type: artifact.content_type.unwrap_or_default(),
            preview: String::new(),
            display: artifact.display,
            created: Timestamp(0),
            replaced: None,
        })
    }

    async fn artifacts(&self, _task: Option<TaskId>) -> Result<Option<Vec<ArtifactView>>, Refused> {
        Ok(None)
    }

    async fn fetch(&self, digest: Digest) -> Result<PathBuf, Refused> {
        Err(Refused::Failed(format!("there is no file {digest}")))
    }

    async fn commit_version(
        &self,
        files: Vec<FileEntry>,
        description: String,
    ) -> Result<CommittedVersion, Refused> {
        let paths: Vec<String> = files.into_iter().map(|file| file.path).collect();
        let line = format!("version of {}: {description}", paths.join(", "));
        self.lines.lock().unwrap().push(line);
        Ok(CommittedVersion {
            id: 4,
            number: 2,
            digest: Digest::of(b"version"),
        })
    }
}
