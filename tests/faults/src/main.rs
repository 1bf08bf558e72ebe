//! Breaks a server while eight clients write to it, and counts what is lost:
//! `cargo xtask faults kill|database|disk`.
//!
//! Whatever the server acknowledged is noted outside of it. After each fault the server is
//! compared with that ledger: every batch of points must be there exactly once, every content
//! readable. The last lines of the output are the counts; anything lost or doubled is a failure.
#![expect(clippy::print_stdout, reason = "the counts are what it is for")]

mod check;
mod ledger;
mod server;
mod writers;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use trainshed_postgres::{Cluster, Durability};
use trainshed_wire::{Client, ClientError};

use check::{Counts, check};
use ledger::Ledger;
use server::{Server, Setup};
use writers::Writers;

/// Break a server while it is written to, and count what is lost
#[derive(Debug, Parser)]
#[command(name = "trainshed-faults")]
struct Arguments {
    /// The `trainshed` binary
    #[arg(long)]
    binary: PathBuf,
    /// Draws when the faults come
    #[arg(long, default_value_t = 1337)]
    seed: u64,
    /// Clients that write at once
    #[arg(long, default_value_t = 8)]
    writers: usize,
    #[command(subcommand)]
    fault: Fault,
}

#[derive(Debug, Subcommand)]
enum Fault {
    /// Kill the server (SIGKILL) at random moments
    Kill {
        /// How often
        #[arg(long, default_value_t = 100)]
        rounds: u32,
        /// With the tables in a PostgreSQL cluster that is started for this
        #[arg(long)]
        postgres: bool,
    },
    /// Kill the database below the server, and start it again
    Database {
        /// How often
        #[arg(long, default_value_t = 20)]
        rounds: u32,
    },
    /// Fill the disk of the data folder, then make room again
    Disk {
        /// A folder on a small disk of its own that nobody else uses
        #[arg(long)]
        folder: PathBuf,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let counts = match &arguments.fault {
        Fault::Kill { rounds, postgres } => kill(&arguments, *rounds, *postgres).await,
        Fault::Database { rounds } => database(&arguments, *rounds).await,
        Fault::Disk { folder } => disk(&arguments, folder).await,
    };
    println!(
        "{} deeds were acknowledged, with {} points and {} contents: {} lost, {} points twice",
        counts.acknowledged, counts.points, counts.contents, counts.lost, counts.twice
    );
    if (counts.lost, counts.twice) == (0, 0) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// A server with writers at work.
struct Scene {
    setup: Setup,
    writers: Arc<Writers>,
    /// Where the harness keeps its own files.
    own: tempfile::TempDir,
}

impl Scene {
    async fn open(arguments: &Arguments, setup: Setup, most_bytes: u64) -> (Self, Server) {
        let own = tempfile::tempdir().expect("the harness has room for its own files");
        let ledger = Ledger::new(&own.path().join("ledger"));
        let ledger = Arc::new(ledger.expect("the harness has room for its own files"));
        let server = setup.start();
        let (url, key) = (setup.url(), setup.key());
        let folder = own.path().to_owned();
        let count = arguments.writers;
        let writers = Writers::new(url, key, ledger, folder, count, most_bytes).await;
        let scene = Self {
            setup,
            writers,
            own,
        };
        (scene, server)
    }

    fn client(&self) -> Client {
        Client::new(&self.setup.url(), &self.setup.key())
    }

    /// Lets the writers finish what they are at, and compares.
    async fn compare(&self, at_work: Vec<tokio::task::JoinHandle<()>>) -> Counts {
        self.writers.stop();
        for writer in at_work {
            writer.await.expect("a writer is heard in the end");
        }
        check(&self.client(), &self.writers, true).await
    }

    /// Backs everything up and restores it elsewhere: both read every row and every content.
    fn back_up(&self) {
        let archive = self.own.path().join("backup.tar.zst");
        let backed_up = self.setup.command().arg("backup").arg(&archive).status();
        assert!(
            backed_up.is_ok_and(|status| status.success()),
            "the data can be backed up"
        );
        let elsewhere = self.own.path().join("restored");
        let restored = Command::new(&self.setup.binary)
            .arg("--data-dir")
            .arg(elsewhere)
            .arg("restore")
            .arg(&archive)
            .status();
        assert!(
            restored.is_ok_and(|status| status.success()),
            "the backup can be restored"
        );
    }
}

async fn kill(arguments: &Arguments, rounds: u32, postgres: bool) -> Counts {
    let data = tempfile::tempdir().expect("the harness has room for its own files");
    let cluster = postgres.then(|| Cluster::start(Durability::Full));
    let database = cluster.as_ref().map(Cluster::database);
    let setup = Setup::new(&arguments.binary, data.path(), database);
    let (scene, mut server) = Scene::open(arguments, setup, 300_000).await;
    let mut chance = ChaCha8Rng::seed_from_u64(arguments.seed);
    let at_work = scene.writers.start(arguments.seed);
    let mut slowest = Duration::ZERO;
    for round in 1..=rounds {
        tokio::time::sleep(Duration::from_millis(chance.next_u64() % 1500)).await;
        server.kill();
        let started = Instant::now();
        server = scene.setup.start();
        slowest = slowest.max(started.elapsed());
        if round % 10 == 0 {
            let known = scene.writers.ledger.count();
            println!("killed {round} times; {known} deeds acknowledged");
        }
    }
    let counts = scene.compare(at_work).await;
    let (refused, unheard) = scene.writers.troubles();
    println!(
        "killed {rounds} times on {}; the slowest start took {slowest:.1?}; {refused} requests \
         were refused, {unheard} not answered; {} MiB in memory",
        if postgres { "PostgreSQL" } else { "SQLite" },
        server.memory() >> 20
    );
    server.kill();
    // What was acknowledged before a kill with nobody writing is there after it, too.
    let server = scene.setup.start();
    let again = check(&scene.client(), &scene.writers, true).await;
    assert_eq!(again, counts, "a start changes nothing");
    scene.back_up();
    server.kill();
    counts
}

async fn database(arguments: &Arguments, rounds: u32) -> Counts {
    let data = tempfile::tempdir().expect("the harness has room for its own files");
    let mut cluster = Cluster::start(Durability::Full);
    let setup = Setup::new(&arguments.binary, data.path(), Some(cluster.database()));
    let (scene, server) = Scene::open(arguments, setup, 300_000).await;
    let mut chance = ChaCha8Rng::seed_from_u64(arguments.seed);
    let at_work = scene.writers.start(arguments.seed);
    let mut most_memory = 0;
    for _ in 0..rounds {
        tokio::time::sleep(Duration::from_millis(chance.next_u64() % 1500)).await;
        cluster.kill();
        tokio::time::sleep(Duration::from_millis(chance.next_u64() % 3000)).await;
        most_memory = most_memory.max(server.memory());
        cluster.restart();
    }
    let counts = scene.compare(at_work).await;
    let (refused, unheard) = scene.writers.troubles();
    println!(
        "the database was killed {rounds} times; {refused} requests were refused, {unheard} not \
         answered; at most {} MiB in memory",
        most_memory >> 20
    );
    server.kill();
    counts
}

async fn disk(arguments: &Arguments, folder: &Path) -> Counts {
    let data = folder.join("data");
    let filler = folder.join("filler");
    let setup = Setup::new(&arguments.binary, &data, None);
    let (scene, server) = Scene::open(arguments, setup, 50_000).await;
    let at_work = scene.writers.start(arguments.seed);
    let client = scene.client();
    let probe = writers::running_task(&client, "probe").await;
    for round in 1..=3 {
        let freed = Instant::now();
        let before = scene.writers.ledger.count();
        while scene.writers.ledger.count() < before + 100 {
            if freed.elapsed() > Duration::from_secs(30) {
                let points = ledger::points(0, 0, 1, 1);
                let answer = client.append_points(&probe, None, &points.finish()).await;
                panic!("with room, deeds are acknowledged, but: {answer:?}");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        println!("with room, 100 deeds took {:.1?}", freed.elapsed());
        fill(&filler);
        let refusal = until_refused(&client, &probe).await;
        assert_eq!(refusal, 507, "a full disk is said to be full");
        let task = &scene.writers.tasks[0];
        let read = client.metrics(task).await;
        assert!(read.is_ok(), "reading goes on: {read:?}");
        std::fs::remove_file(&filler).expect("a file of ours can be removed");
        println!(
            "filled {round} times; {} deeds acknowledged",
            scene.writers.ledger.count()
        );
    }
    let counts = scene.compare(at_work).await;
    let (refused, unheard) = scene.writers.troubles();
    println!("{refused} requests were refused, {unheard} not answered");
    scene.back_up();
    server.kill();
    counts
}

/// Writes batches, which the ledger does not know, until one is refused; its status. The first
/// ones may find room in files that are there.
async fn until_refused(client: &Client, task: &str) -> u16 {
    for number in 0.. {
        let points = ledger::points(0, number * 5000, 5000, 3);
        match client.append_points(task, None, &points.finish()).await {
            Ok(_) => {}
            Err(ClientError::Refused(problem)) => return problem.status,
            Err(error) => panic!("the server answers when the disk is full: {error}"),
        }
    }
    0
}

/// Takes all the room that is left.
fn fill(path: &Path) {
    use std::io::Write as _;
    let mut file = std::fs::File::create(path).expect("there is room for a name");
    let mut piece = vec![1_u8; 1 << 20];
    while !piece.is_empty() {
        if file.write_all(&piece).is_err() {
            piece.truncate(piece.len() / 2);
        }
    }
}
