//! A server that runs while it is measured.

use std::fs;
use std::path::{Path, PathBuf};
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

/// `trainshed serve` with an agent; it stops when this is dropped.
pub(super) struct Server {
    child: Child,
}

/// What the server and its agent use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usage {
    /// Resident memory of the server in MiB.
    pub(super) server: f64,
    /// Resident memory of the agent in MiB.
    pub(super) agent: f64,
    /// CPU time that the server has used so far, in milliseconds.
    pub(super) server_cpu_ms: f64,
    /// CPU time that both have used so far, in milliseconds.
    pub(super) cpu_ms: f64,
}

impl Server {
    /// Starts it on the data folder, with so many tasks at a time, and waits until it says
    /// where it listens.
    pub(super) fn start(shed: &Shed, slots: u32) -> Result<Self, BenchError> {
        let mut command = shed.command();
        command
            .args(["serve", "--listen", "127.0.0.1:0"])
            .args(["--slots", &slots.to_string()])
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

    /// Waits until nothing happens any more, then looks at what is used.
    pub(super) fn usage_when_idle(&self) -> Result<Usage, BenchError> {
        sleep(UNTIL_IDLE);
        self.usage()
    }

    /// Looks at what is used.
    pub(super) fn usage(&self) -> Result<Usage, BenchError> {
        let server = Path::new("/proc").join(self.child.id().to_string());
        let is_child = |process: &PathBuf| {
            let status = status(process).unwrap_or_default();
            field(&status, "PPid") == Some(f64::from(self.child.id()))
        };
        let agent = files::list(Path::new("/proc"))?.into_iter().find(is_child);
        let agent = agent.ok_or_else(|| BenchError::Server("has no agent".to_owned()))?;
        let server_cpu_ms = cpu_ms(&server)?;
        Ok(Usage {
            server: resident(&status(&server)?)?,
            agent: resident(&status(&agent)?)?,
            server_cpu_ms,
            cpu_ms: server_cpu_ms + cpu_ms(&agent)?,
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

/// The CPU time of all threads of a process, in milliseconds.
fn cpu_ms(process: &Path) -> Result<f64, BenchError> {
    let path = process.join("stat");
    let stat = fs::read_to_string(&path);
    let stat = stat.map_err(|error| FileError::new(&path, "read", error))?;
    let ticks = cpu_ticks(&stat);
    let ticks = ticks.ok_or_else(|| BenchError::Server("has no CPU time".to_owned()))?;
    // Linux tells programs of a hundred ticks a second, whatever it does itself.
    Ok(ticks * 10.0)
}

/// Fields 14 and 15, counted behind the name, which may contain spaces and brackets.
fn cpu_ticks(stat: &str) -> Option<f64> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut fields = behind_name.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some(user + system)
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
    fn the_time_of_a_process_stands_behind_its_name() {
        let stat = "42 (a ) b) S 1 42 42 0 -1 4194304 100 0 0 0 7 5 0 0 20 0 9 0 100";
        assert_eq!(cpu_ticks(stat), Some(12.0));
        assert_eq!(cpu_ticks("42 (a) S 1"), None);
    }

    #[test]
    fn a_field_of_a_process_is_found_by_its_whole_name() {
        let status = "Name:\ttrainshed\nVmRSSx:\t1 kB\nPPid:\t17\nVmRSS:\t   40960 kB\n";
        assert_eq!(field(status, "PPid"), Some(17.0));
        assert_eq!(field(status, "VmRSS"), Some(40960.0));
        assert_eq!(field(status, "VmSwap"), None);
        assert_eq!(field(status, "Name"), None);
    }
}
