//! A PostgreSQL cluster of its own for tests and benchmarks, started from the binaries that
//! are installed on the machine. It lives in a temporary folder, answers on a Unix socket
//! there, and ends with the process that started it, however that ends.
#![warn(missing_docs)]

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long a cluster may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Ends the server when a line comes on standard input. When that closes, the process that
/// holds the other end is gone, and so goes the folder, the first argument.
const WATCHED: &str = r#"
    folder=$1; shift
    "$@" & server=$!
    if read -r _; then kill -INT $server; wait $server
    else kill -QUIT $server; wait $server; rm -rf "$folder"
    fi"#;

/// Whether a cluster keeps what it acknowledged when the machine fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// As in production.
    Full,
    /// Nothing waits for the disk: for tests that lose nothing but a temporary folder.
    None,
}

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    bin: PathBuf,
    folder: TempDir,
    durability: Durability,
    server: Option<Child>,
    databases: AtomicU64,
}

impl Cluster {
    /// Makes a cluster and starts it.
    ///
    /// # Panics
    /// When PostgreSQL is not installed or does not start.
    pub fn start(durability: Durability) -> Self {
        let bin = binaries();
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))
            .expect("a folder of ours can be opened to others");
        let data = folder.path().join("data");
        fs::create_dir(&data).expect("a folder of ours can be written to");
        if let Some((user, group)) = unprivileged() {
            for path in [folder.path(), &data] {
                let given = chown(path, Some(user), Some(group));
                given.expect("the superuser can give a folder away");
            }
        }
        run(as_user(Command::new(bin.join("initdb")))
            .args(["--auth=trust", "--username=trainshed", "--encoding=UTF8"])
            .args(["--locale=C", "--no-sync", "-D"])
            .arg(&data));
        let mut cluster = Self {
            bin,
            folder,
            durability,
            server: None,
            databases: AtomicU64::new(0),
        };
        cluster.restart();
        cluster
    }

    /// The cluster that the tests of this process share. It waits for no disk.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(Durability::None))
    }

    /// Makes an empty database and returns its address.
    ///
    /// # Panics
    /// When the cluster does not answer.
    pub fn database(&self) -> String {
        let name = format!("db{}", self.databases.fetch_add(1, Ordering::Relaxed));
        run(Command::new(self.bin.join("createdb"))
            .args(["--username=trainshed", "--host"])
            .arg(self.data())
            .arg(&name));
        // A slash in the host of an address has to be escaped.
        let host = self.data().display().to_string().replace('/', "%2F");
        format!("postgres://trainshed@{host}/{name}")
    }

    /// The process of the server, for measuring it.
    pub fn pid(&self) -> Option<u32> {
        let content = fs::read_to_string(self.data().join("postmaster.pid")).ok()?;
        content.lines().next()?.trim().parse().ok()
    }

    /// Ends every process of the cluster at once, as a power failure does to them.
    pub fn kill(&mut self) {
        if let Some(pid) = self.pid().and_then(|pid| i32::try_from(pid).ok())
            && let Some(pid) = rustix::process::Pid::from_raw(pid)
        {
            // An immediate shutdown: no checkpoint, the next start recovers from the log.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::QUIT);
        }
        self.wait();
    }

    /// Starts the cluster after [`Cluster::kill`].
    ///
    /// # Panics
    /// When it does not start.
    pub fn restart(&mut self) {
        let mut command = as_user(Command::new("sh"));
        command
            .args(["-c", WATCHED, "sh"])
            .arg(self.folder.path())
            .arg(self.bin.join("postgres"))
            .arg("-D")
            .arg(self.data())
            .arg("-k")
            .arg(self.data())
            .args(["-c", "listen_addresses=", "-c", "max_connections=400"]);
        if self.durability == Durability::None {
            for setting in [
                "fsync=off",
                "full_page_writes=off",
                "synchronous_commit=off",
            ] {
                command.args(["-c", setting]);
            }
        }
        let log = fs::File::create(self.folder.path().join("log"));
        let log = log.expect("a folder of ours can be written to");
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0);
        self.server = Some(command.spawn().expect("a shell can be started"));
        let started = Instant::now();
        while !self.answers() {
            let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(
                started.elapsed() < PATIENCE,
                "PostgreSQL did not start; it says:\n{log}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn answers(&self) -> bool {
        Command::new(self.bin.join("pg_isready"))
            .arg("--quiet")
            .arg("--host")
            .arg(self.data())
            .status()
            .is_ok_and(|status| status.success())
    }

    /// Waits until the server has ended.
    fn wait(&mut self) {
        if let Some(mut server) = self.server.take() {
            if let Some(mut lifeline) = server.stdin.take() {
                // The server may be gone already, and its shell with it.
                let _ = lifeline.write_all(b"\n");
            }
            let _ = server.wait();
        }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.wait();
    }
}

/// Whether the programs of PostgreSQL are on this machine.
pub fn is_installed() -> bool {
    find_binaries().is_some()
}

/// Where `initdb` and the others are: in the newest version of the Debian package, or where
/// `initdb` of the path leads.
#[expect(
    clippy::disallowed_methods,
    reason = "the path is where programs that are no Debian package are found"
)]
fn find_binaries() -> Option<PathBuf> {
    let packages = fs::read_dir("/usr/lib/postgresql");
    let versions = packages.into_iter().flatten().flatten();
    let newest = versions
        .map(|version| version.path())
        .filter(|path| path.join("bin/initdb").exists())
        .max_by_key(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.and_then(|name| name.parse::<u32>().ok())
        });
    if let Some(newest) = newest {
        return Some(newest.join("bin"));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).find(|folder| folder.join("initdb").exists());
    let program = fs::canonicalize(found?.join("initdb")).ok()?;
    program.parent().map(Path::to_owned)
}

fn binaries() -> PathBuf {
    find_binaries().expect(
        "PostgreSQL is not installed, and these tests need its programs (Debian: apt-get \
         install postgresql; `cargo xtask test` does that)",
    )
}

/// The user to run the server as, when this process runs as the superuser: PostgreSQL refuses
/// that one.
fn unprivileged() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").expect("a machine has users");
    let id = |name: &str| {
        let user = users.lines().find(|line| line.starts_with(name))?;
        let mut fields = user.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    let user = id("postgres:").or_else(|| id("nobody:"));
    Some(user.expect("a machine has the user `postgres` or `nobody`"))
}

/// `command`, not as the superuser.
fn as_user(mut command: Command) -> Command {
    if let Some((user, group)) = unprivileged() {
        command.uid(user).gid(group);
    }
    command.current_dir(Path::new("/"));
    command
}

fn run(command: &mut Command) {
    let done = command
        .output()
        .expect("a program of PostgreSQL can be started");
    assert!(
        done.status.success(),
        "{command:?} failed: {}",
        String::from_utf8_lossy(&done.stderr)
    );
}
