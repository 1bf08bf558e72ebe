//! A server in this process, and an agent in a child process.

use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use trainshed_core::Timestamp;
use trainshed_engine::{Database, Engine, EngineConfig, FileSettings};
use trainshed_wire::Client;

use crate::args::{AcceleratorArgs, Capacity, MONITOR_SECONDS, REUSE_WINDOW_H, TASK_WATCHDOG_S};
use crate::connect::{ServerAddress, read_key};
use crate::error::CliError;
use crate::inspector::ProcessInspector;

/// How long an agent that is told to end may take to report how its tasks ended.
pub(crate) const AGENT_PATIENCE: Duration = Duration::from_secs(15);

/// What a server of this process works on.
pub(crate) struct LocalData<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) database: Database,
    pub(crate) files: FileSettings,
    /// A task that runs without an agent is stopped when nothing was heard of it for so long.
    pub(crate) task_watchdog_s: u32,
    /// How old a run may be that another takes the place of.
    pub(crate) reuse_window_h: u32,
    /// Whether other commands that are given the folder find this server: one that ends with
    /// its command could leave them without an answer.
    pub(crate) is_announced: bool,
}

/// A server on a data folder, for as long as this process needs one.
pub(crate) struct LocalServer {
    client: Client,
    /// The file by which other commands find it.
    announcement: Option<PathBuf>,
    /// Tells the agent to stop; the server goes on, for what the agent still has to report.
    stop_agent: watch::Sender<bool>,
    stop_server: watch::Sender<bool>,
    server: JoinHandle<io::Result<()>>,
    agent: Option<JoinHandle<()>>,
}

impl LocalServer {
    /// Opens the data folder and serves it on a free port of the loopback interface; with an
    /// agent, it is told where accelerators are.
    pub(crate) async fn start(
        data_dir: &Path,
        (database, files): (Database, FileSettings),
        agent: Option<AcceleratorArgs>,
    ) -> Result<Self, CliError> {
        let capacity = agent.map(|accelerator| Capacity {
            slots: Some(1),
            limits: None,
            accelerator,
            monitor_seconds: MONITOR_SECONDS,
            grant_env: Vec::new(),
        });
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let data = LocalData {
            folder: data_dir,
            database,
            files,
            task_watchdog_s: TASK_WATCHDOG_S,
            reuse_window_h: REUSE_WINDOW_H,
            is_announced: capacity.is_some(),
        };
        Self::start_at(data, address, capacity).await
    }

    /// Opens the data and serves it at `address`, with an agent of `capacity`.
    pub(crate) async fn start_at(
        data: LocalData<'_>,
        address: SocketAddr,
        capacity: Option<Capacity>,
    ) -> Result<Self, CliError> {
        let (data_dir, is_announced) = (data.folder, data.is_announced);
        let (engine, key) = open_engine(data).await?;
        let listening = |source| CliError::Listen {
            address: address.to_string(),
            source,
        };
        let listener = TcpListener::bind(address).await.map_err(listening)?;
        let url = format!("http://{}", listener.local_addr().map_err(listening)?);
        let (stop_agent, agent_stopping) = watch::channel(false);
        let (stop_server, mut server_stopping) = watch::channel(false);
        let sweeper = engine.spawn_sweeper();
        let served = engine.clone();
        let server = tokio::spawn(async move {
            let done = trainshed_server::serve(listener, served, async move {
                asked_to_stop(&mut server_stopping).await;
            });
            let ended = done.await;
            sweeper.abort();
            ended
        });
        if is_announced {
            write_private(
                &data_dir.join("server.json"),
                &serde_json::to_vec(&ServerAddress { url: url.clone() })
                    .expect("an address is a text"),
            )?;
        }
        let agent = capacity.map(|capacity| {
            let child = AgentChild {
                data_dir: data_dir.to_owned(),
                url: url.clone(),
                key: key.clone(),
                capacity,
            };
            tokio::spawn(child.keep_running(engine, agent_stopping))
        });
        Ok(Self {
            client: Client::new(&url, &key),
            announcement: is_announced.then(|| data_dir.join("server.json")),
            stop_agent,
            stop_server,
            server,
            agent,
        })
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Stops the agent, which stops its tasks, and then the server.
    pub(crate) async fn stop(self) {
        self.stop_agent.send_replace(true);
        if let Some(agent) = self.agent {
            // The agent's own end was logged where it was seen.
            let _ = agent.await;
        }
        if let Some(file) = self.announcement {
            // Nobody answers at the address any more: what is left of it misleads no command.
            let _ = fs::remove_file(file);
        }
        self.stop_server.send_replace(true);
        // Streams that clients hold open must not hold the process.
        let _ = tokio::time::timeout(Duration::from_secs(2), self.server).await;
    }
}

/// Returns when the server is to stop; a sender that is gone means the same.
async fn asked_to_stop(stopping: &mut watch::Receiver<bool>) {
    // What it returns borrows the channel's lock and must not outlive this line.
    let _ = stopping.wait_for(|stop| *stop).await;
}

/// Opens the data folder and returns the key for it, which the first opening makes.
async fn open_engine(data: LocalData<'_>) -> Result<(Engine, String), CliError> {
    let data_dir = data.folder;
    let config = EngineConfig {
        data_dir: data_dir.to_owned(),
        database: data.database,
        files: data.files,
        lease_ttl_ms: 60_000,
        task_watchdog_s: data.task_watchdog_s,
        reuse_window_h: data.reuse_window_h,
        inspector: Arc::new(ProcessInspector::new(&cache_dir(data_dir))),
        clock: Arc::new(now),
    };
    let opened = Engine::open(config).await;
    let (engine, opened) = opened.map_err(|source| CliError::Open {
        path: data_dir.to_owned(),
        source: Box::new(source),
    })?;
    let failed = |source| CliError::Store {
        path: data_dir.to_owned(),
        source,
    };
    let path = data_dir.join("key");
    let key = match opened.admin_key {
        Some(first) => first,
        None => {
            if let Some(known) = read_key(data_dir)
                && engine.authenticate(&known).await.map_err(failed)?.is_some()
            {
                return Ok((engine, known));
            }
            // The file was removed, is of another database, or the first start was killed
            // before it was written.
            engine.add_key().await.map_err(failed)?
        }
    };
    write_private(&path, format!("{key}\n").as_bytes())?;
    Ok((engine, key))
}

/// Where compiled components and downloaded files of agents on this data folder are kept.
pub(crate) fn cache_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("agent/cache")
}

#[expect(
    clippy::disallowed_methods,
    reason = "the clock is read here and passed down"
)]
pub(crate) fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Timestamp(since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }))
}

/// Writes a file that only its owner can read. It appears whole or not at all.
fn write_private(path: &Path, content: &[u8]) -> Result<(), CliError> {
    let failed = |source| CliError::File {
        path: path.to_owned(),
        verb: "written",
        source,
    };
    let partial = path.with_extension("part");
    let written = (|| {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&partial)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&partial, path)
    })();
    written.map_err(failed)
}

/// An agent in a child process: native code that crashes under a plugin takes it down, and
/// with it a lease, but never the server.
struct AgentChild {
    data_dir: PathBuf,
    url: String,
    key: String,
    capacity: Capacity,
}

impl AgentChild {
    /// Starts the agent, again if it ends by itself, until told to stop.
    async fn keep_running(self, engine: Engine, mut stopping: watch::Receiver<bool>) {
        let mut pause = Duration::from_millis(200);
        loop {
            let mut child = match self.spawn() {
                Ok(child) => child,
                Err(error) => {
                    tracing::error!(%error, "the agent could not be started");
                    return;
                }
            };
            // The child ends when this end of the pipe closes, however this process ends.
            let lifeline = child.stdin.take();
            tokio::select! {
                ended = child.wait() => tracing::error!(?ended, "the agent ended by itself"),
                () = asked_to_stop(&mut stopping) => {
                    drop(lifeline);
                    if tokio::time::timeout(AGENT_PATIENCE, child.wait()).await.is_err() {
                        tracing::warn!("the agent did not end in time and is killed");
                        // It is gone either way.
                        let _ = child.kill().await;
                    }
                    return;
                }
            }
            if let Err(error) = engine
                .interrupt_local("interrupted: the agent ended while the task ran")
                .await
            {
                tracing::error!(%error, "the agent's tasks could not be marked as interrupted");
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(Duration::from_secs(30)),
                () = asked_to_stop(&mut stopping) => return,
            }
        }
    }

    fn spawn(&self) -> io::Result<Child> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg("agent")
            .arg("--child")
            .arg("--data-dir")
            .arg(&self.data_dir)
            .arg("--server")
            .arg(&self.url);
        if let Some(slots) = self.capacity.slots {
            command.arg("--slots").arg(slots.to_string());
        }
        command
            .arg("--monitor-seconds")
            .arg(self.capacity.monitor_seconds.to_string());
        if let Some(limits) = &self.capacity.limits {
            command.arg("--limits").arg(limits);
        }
        if let Some(plugin) = &self.capacity.accelerator.pjrt_plugin {
            command.arg("--pjrt-plugin").arg(plugin);
        }
        for name in &self.capacity.grant_env {
            command.arg("--grant-env").arg(name);
        }
        // Of its own group, so that Ctrl-C reaches it only through the server.
        command
            .env("TRAINSHED_KEY", &self.key)
            .process_group(0)
            .kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        command.spawn()
    }
}
