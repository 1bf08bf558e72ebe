//! Finds the server that a command talks to: the one that was named, the one that runs on the
//! data folder, or one that this process is for itself.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use trainshed_engine::{Allowed, Database, FileSettings, OpenError};
use trainshed_wire::Client;

use crate::args::{AcceleratorArgs, Global};
use crate::error::CliError;
use crate::local::LocalServer;

/// How long to wait for a data folder that another short command has.
const PATIENCE: Duration = Duration::from_secs(10);

/// A client, and the server behind it where that is this process.
pub(crate) struct Connection {
    pub(crate) client: Client,
    local: Option<LocalServer>,
}

/// Where the server that has the data folder can be reached; the file `server.json` in it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ServerAddress {
    pub(crate) url: String,
}

impl Connection {
    /// Connects without starting an agent: for commands that only look and store.
    pub(crate) async fn open(global: &Global) -> Result<Self, CliError> {
        Self::find(global, None).await
    }

    /// Connects to something that can run tasks; an agent of our own looks for accelerators
    /// as `accelerator` says.
    pub(crate) async fn open_with_agent(
        global: &Global,
        accelerator: AcceleratorArgs,
    ) -> Result<Self, CliError> {
        Self::find(global, Some(accelerator)).await
    }

    async fn find(global: &Global, agent: Option<AcceleratorArgs>) -> Result<Self, CliError> {
        if let Some(url) = &global.server {
            let client = Client::new(url, &key_for_server(global)?);
            return Ok(Self {
                client,
                local: None,
            });
        }
        let data_dir = data_dir(global)?;
        let started = Instant::now();
        loop {
            match LocalServer::start(&data_dir, store(global), agent.clone()).await {
                Ok(local) => {
                    return Ok(Self {
                        client: local.client().clone(),
                        local: Some(local),
                    });
                }
                Err(CliError::Open { source, .. }) if matches!(*source, OpenError::Locked) => {}
                Err(error) => return Err(error),
            }
            if let Some(client) = running_server(&data_dir, global.key.as_deref()).await {
                return Ok(Self {
                    client,
                    local: None,
                });
            }
            if started.elapsed() > PATIENCE {
                return Err(CliError::InUse(data_dir));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Ends what this process started.
    pub(crate) async fn close(self) {
        if let Some(local) = self.local {
            local.stop().await;
        }
    }
}

/// The server that has the data folder, if it answers; called with `key`, or the one in the
/// folder.
async fn running_server(data_dir: &Path, key: Option<&str>) -> Option<Client> {
    let address = std::fs::read(data_dir.join("server.json")).ok()?;
    let address: ServerAddress = serde_json::from_slice(&address).ok()?;
    let client = Client::new(&address.url, &read_key(data_dir)?);
    // Whether a key that was given is good is for the call itself to be told.
    client.plugins().await.ok()?;
    Some(key.map_or(client, |key| Client::new(&address.url, key)))
}

/// Where a server of our own keeps its tables.
pub(crate) fn database(global: &Global) -> Database {
    global.database.clone().unwrap_or_default()
}

/// Where a server that only this process talks to keeps tables and files: who calls it is who
/// runs it.
pub(crate) fn store(global: &Global) -> (Database, FileSettings) {
    let files = FileSettings {
        own: global.files.clone(),
        allowed: Allowed::Any,
        ..FileSettings::default()
    };
    (database(global), files)
}

/// The folder of the database, files and keys.
#[expect(
    clippy::disallowed_methods,
    reason = "the command line reads the environment, nothing below it does"
)]
pub(crate) fn data_dir(global: &Global) -> Result<PathBuf, CliError> {
    if let Some(folder) = &global.data_dir {
        return Ok(folder.clone());
    }
    let from = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let share = from("XDG_DATA_HOME").or_else(|| Some(from("HOME")?.join(".local/share")));
    Ok(share.ok_or(CliError::NoDataDir)?.join("trainshed"))
}

/// The key that was given, or the one in the data folder.
pub(crate) fn key_for_server(global: &Global) -> Result<String, CliError> {
    match &global.key {
        Some(key) => Ok(key.clone()),
        None => data_dir(global)
            .ok()
            .and_then(|folder| read_key(&folder))
            .ok_or(CliError::NoKey),
    }
}

pub(crate) fn read_key(data_dir: &Path) -> Option<String> {
    Some(
        std::fs::read_to_string(data_dir.join("key"))
            .ok()?
            .trim()
            .to_owned(),
    )
}
