//! A server that runs while it is measured.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{BenchError, Shed};
use crate::files::{self, FileError};
use crate::process;

/// How long a server may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(30);
/// After so long it does nothing but wait for work.
const UNTIL_IDLE: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_millis(50);

/// `trainshed serve` with an agent of one slot; it stops when this is dropped.
pub(super) struct Server {
    child: Child,
}

/// Resident memory in MiB.
pub(super) struct Memory {
    pub(super) server: f64,
    pub(super) agent: f64,
}

impl Server {
    /// Starts it on the data folder and waits until it says where it listens.
    pub(super) fn start(shed: &Shed) -> Result<Self, BenchError> {
        let mut command = shed.command();
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--slots", "1"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = command
            .spawn()
            .map_err(|error| FileError::new(&shed.program, "started", error))?;
        let mut server = Self { child };
        let deadline = Instant::now() + PATIENCE;
        while !shed.data_dir().join("server.json").exists() {
            if server.has_ended() {
                return Err(BenchError::Server("ended while it started".to_owned()));
            }
            if Instant::now() > deadline {
                return Err(BenchError::Server("does not start".to_owned()));
            }
            sleep(POLL);
        }
        Ok(server)
    }

    /// Waits until nothing happens any more, then looks at how much memory is used.
    pub(super) fn memory_when_idle(&self) -> Result<Memory, BenchError> {
        sleep(UNTIL_IDLE);
        let server = status(
            Path::new("/proc")
                .join(self.child.id().to_string())
                .as_path(),
        )?;
        let agent = files::list(Path::new("/proc"))?
            .iter()
            .filter_map(|process| status(process).ok())
            .find(|status| field(status, "PPid") == Some(f64::from(self.child.id())));
        let agent = agent.ok_or_else(|| BenchError::Server("has no agent".to_owned()))?;
        Ok(Memory {
            server: resident(&server)?,
            agent: resident(&agent)?,
        })
    }

    fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let id = self.child.id().to_string();
        // Asked first: a server that is killed leaves it to its agent to notice.
        let asked = process::output(Command::new("kill").args(["-TERM", &id]));
        let deadline = Instant::now() + PATIENCE;
        while asked.is_ok() && !self.has_ended() && Instant::now() < deadline {
            sleep(POLL);
        }
        // Both fail only when it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the system says of a process.
fn status(process: &Path) -> Result<String, FileError> {
    let path = process.join("status");
    fs::read_to_string(&path).map_err(|error| FileError::new(&path, "read", error))
}

fn resident(status: &str) -> Result<f64, BenchError> {
    let kibibytes = field(status, "VmRSS");
    let kibibytes = kibibytes.ok_or_else(|| BenchError::Server("has no memory".to_owned()))?;
    Ok(kibibytes / 1024.0)
}

/// The number in the line `name: number …`.
fn field(status: &str, name: &str) -> Option<f64> {
    let mut lines = status.lines();
    let rest = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_of_a_process_is_found_by_its_whole_name() {
        let status = "Name:\ttrainshed\nVmRSSx:\t1 kB\nPPid:\t17\nVmRSS:\t   40960 kB\n";
        assert_eq!(field(status, "PPid"), Some(17.0));
        assert_eq!(field(status, "VmRSS"), Some(40960.0));
        assert_eq!(field(status, "VmSwap"), None);
        assert_eq!(field(status, "Name"), None);
    }
}
