//! The server under test: the real binary, in a process that can be killed.

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// How to start a server.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) binary: PathBuf,
    pub(crate) folder: PathBuf,
    /// A PostgreSQL database in the place of SQLite.
    pub(crate) database: Option<String>,
    /// The same for each start, so that clients find it again.
    pub(crate) address: SocketAddr,
}

impl Setup {
    pub(crate) fn new(binary: &Path, folder: &Path, database: Option<String>) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = free.local_addr().expect("a listener has an address");
        Self {
            binary: binary.to_owned(),
            folder: folder.to_owned(),
            database,
            address,
        }
    }

    /// The `trainshed` command on this data.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .env_remove("TRAINSHED_SERVER")
            .env_remove("TRAINSHED_KEY")
            .env_remove("TRAINSHED_DATABASE")
            .arg("--data-dir")
            .arg(&self.folder)
            .stdin(Stdio::null());
        if let Some(database) = &self.database {
            command.args(["--database", database]);
        }
        command
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn key(&self) -> String {
        let key = std::fs::read_to_string(self.folder.join("key"));
        key.expect("the first start writes a key").trim().to_owned()
    }

    /// Starts a server and waits until it listens.
    pub(crate) fn start(&self) -> Server {
        let mut command = self.command();
        command
            .args(["serve", "--no-agent", "--listen", &self.address.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut process = command.spawn().expect("the binary can be started");
        let errors = process.stderr.take().expect("it was asked for");
        let mut lines = BufReader::new(errors).lines();
        let mut said = Vec::new();
        loop {
            let Some(Ok(line)) = lines.next() else {
                panic!("the server ended before it listened: {}", said.join("\n"));
            };
            if line.contains(" at http://") {
                break;
            }
            said.push(line);
        }
        // Its pipe must never fill up; errors that it logs are what faults are for.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Server { process }
    }
}

/// A server that runs.
#[derive(Debug)]
pub(crate) struct Server {
    process: Child,
}

impl Server {
    /// Ends it as a power failure does: without a word.
    pub(crate) fn kill(self) {
        drop(self);
    }

    /// Memory that it has, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        let path = format!("/proc/{}/status", self.process.id());
        let status = std::fs::read_to_string(path).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kibibytes.unwrap_or(0) << 10
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Also when a check has failed: a server must not outlive its harness. One that is gone
        // already cannot be killed.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
