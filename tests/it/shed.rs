//! A running trainshed for one test: a data folder of its own, a server, an agent.

use std::future::Future;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use trainshed_core::task::TaskState;
use trainshed_core::view::TaskView;
use trainshed_wire::Client;
use xtask::plugins::PluginSet;

/// How long anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

/// The root of the repository.
pub(crate) fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// The components of all plugins, built once.
pub(crate) fn plugin(name: &str) -> PathBuf {
    static PLUGINS: OnceLock<PluginSet> = OnceLock::new();
    let set = PLUGINS.get_or_init(|| xtask::plugins::build(root()).unwrap());
    set.path(name).unwrap().to_owned()
}

/// The digits data set of the repository.
pub(crate) fn digits() -> PathBuf {
    root().join("plugins/digits-mlp/data/digits.csv")
}

/// The `trainshed` command on a data folder.
pub(crate) fn trainshed(data_dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trainshed"));
    command
        .env_remove("TRAINSHED_SERVER")
        .env_remove("TRAINSHED_KEY")
        .env_remove("TRAINSHED_LOG")
        .env_remove("TRAINSHED_PJRT_PLUGIN")
        .env_remove("VIRTUAL_ENV")
        .env_remove("CONDA_PREFIX");
    command.arg("--data-dir").arg(data_dir).stdin(Stdio::null());
    command
}

/// A server with an agent, ended with the test.
pub(crate) struct Shed {
    pub(crate) client: Client,
    pub(crate) key: String,
    server: Child,
    folder: TempDir,
}

impl Shed {
    /// Starts a server with an agent of two slots.
    pub(crate) async fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), &["--slots", "2"]).await
    }

    /// Starts a server on a data folder, with more arguments of `trainshed serve`.
    pub(crate) async fn start_in(folder: TempDir, arguments: &[&str]) -> Self {
        let mut command = trainshed(folder.path());
        command
            .args(["serve", "--listen", "127.0.0.1:0"])
            .args(arguments)
            .stderr(Stdio::piped());
        let mut server = command.spawn().unwrap();
        let mut lines = BufReader::new(server.stderr.take().unwrap()).lines();
        let url = loop {
            let line = lines
                .next()
                .expect("the server says where it listens")
                .unwrap();
            if let Some((_, url)) = line.split_once(" at http://") {
                break format!("http://{url}");
            }
        };
        // What it says later goes to the test's output, and its pipe never fills up.
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                eprintln!("{line}");
            }
        });
        let key = std::fs::read_to_string(folder.path().join("key"))
            .unwrap()
            .trim()
            .to_owned();
        Self {
            client: Client::new(&url, &key),
            key,
            server,
            folder,
        }
    }

    pub(crate) fn data_dir(&self) -> &Path {
        self.folder.path()
    }

    /// Kills the server as a power cut would, and gives the data folder back.
    pub(crate) fn kill(mut self) -> TempDir {
        self.server.kill().unwrap();
        self.gone()
    }

    /// Asks the server to end, waits until it has, and gives the data folder back.
    pub(crate) fn stop(self) -> TempDir {
        let mut ask = Command::new("kill");
        let asked = ask.arg(self.server.id().to_string()).status().unwrap();
        assert!(asked.success());
        self.gone()
    }

    fn gone(mut self) -> TempDir {
        self.server.wait().unwrap();
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap());
        drop(self);
        folder
    }

    pub(crate) fn server_process(&self) -> u32 {
        self.server.id()
    }

    /// Installs a plugin of the repository; its reference.
    pub(crate) async fn push(&self, name: &str) -> String {
        self.client
            .push_plugin(&plugin(name))
            .await
            .unwrap()
            .reference()
            .to_string()
    }

    /// Imports files as a data set; the id of the version.
    pub(crate) fn import(&self, name: &str, path: &Path) -> u64 {
        let output = self.cli(&["dataset", "create", name, path.to_str().unwrap()]);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout)
            .unwrap()
            .trim()
            .parse()
            .unwrap()
    }

    /// Runs a command of the CLI against this server.
    pub(crate) fn cli(&self, arguments: &[&str]) -> Output {
        let mut command = trainshed(self.data_dir());
        command
            .args(["--server", self.client.url()])
            .args(arguments)
            .output()
            .unwrap()
    }

    /// Submits a train action of a plugin that was pushed.
    pub(crate) async fn train(
        &self,
        name: &str,
        plugin: &str,
        dataset: u64,
        more: Value,
    ) -> TaskView {
        let mut action = json!({
            "action": "train", "plugin": plugin,
            "params": {"name": name, "dataset": dataset, "hyperparameter": {}},
        });
        let params = action["params"].as_object_mut().unwrap();
        params.extend(more.as_object().unwrap().clone());
        self.client.submit(&action).await.unwrap().task
    }

    /// Waits for the end of a task.
    pub(crate) async fn ended(&self, task: &TaskView) -> TaskView {
        eventually("the task ends", || async {
            let task = self.client.task(task.id.as_str()).await.unwrap();
            task.status.has_ended().then_some(task)
        })
        .await
    }

    /// Waits for a task to run and to have written a console line.
    pub(crate) async fn has_begun(&self, task: &TaskView) {
        eventually("the task has begun", || async {
            let now = self.client.task(task.id.as_str()).await.unwrap();
            let lines = self
                .client
                .console(task.id.as_str(), 0, 1)
                .await
                .unwrap()
                .total;
            (now.status == TaskState::InProgress && lines > 0).then_some(())
        })
        .await;
    }

    /// All console lines of a task.
    pub(crate) async fn console(&self, task: &TaskView) -> Vec<String> {
        let page = self
            .client
            .console(task.id.as_str(), 0, 10_000)
            .await
            .unwrap();
        page.lines.into_iter().map(|line| line.text).collect()
    }

    /// The bits of every point of a curve.
    pub(crate) async fn bits(&self, task: &TaskView, title: &str, series: &str) -> Vec<u64> {
        let curve = self
            .client
            .curve(task.id.as_str(), title, series, 0)
            .await
            .unwrap();
        curve.values.iter().map(|value| value.0.to_bits()).collect()
    }
}

impl Drop for Shed {
    fn drop(&mut self) {
        // The agent ends when its pipe to the server breaks.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Asks until there is an answer.
#[track_caller]
pub(crate) fn eventually<T, F: Future<Output = Option<T>>>(
    what: &'static str,
    mut ask: impl FnMut() -> F,
) -> impl Future<Output = T> {
    let place = std::panic::Location::caller();
    async move {
        let started = Instant::now();
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            assert!(
                started.elapsed() < PATIENCE,
                "{place}: waited in vain: {what}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
