//! Clients that write without end, and send again whatever was not acknowledged.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use tokio::task::JoinHandle;
use trainshed_core::Digest;
use trainshed_core::draft::NewDraft;
use trainshed_core::task::Verb;
use trainshed_wire::{Client, ClientError, MoveRequest};

use crate::ledger::{self, Deed, Ledger};

/// How long a writer tries to have one deed acknowledged.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long a server may take to answer, or to break the connection.
const ANSWER: Duration = Duration::from_secs(20);
const AGAIN_AFTER: Duration = Duration::from_millis(10);
/// One deed in so many is an artifact.
const ARTIFACTS: u64 = 20;

/// What all writers share.
pub(crate) struct Writers {
    pub(crate) url: String,
    pub(crate) key: String,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) tasks: Vec<String>,
    /// Where contents of artifacts are made.
    pub(crate) folder: PathBuf,
    /// Longest content, in bytes.
    pub(crate) most_bytes: u64,
    stop: AtomicBool,
    /// Answers that were errors, by status; the last is no answer at all.
    refused: AtomicU64,
    unheard: AtomicU64,
}

impl Writers {
    /// Makes a running task for each writer.
    pub(crate) async fn new(
        url: String,
        key: String,
        ledger: Arc<Ledger>,
        folder: PathBuf,
        count: usize,
        most_bytes: u64,
    ) -> Arc<Self> {
        let client = Client::new(&url, &key);
        let mut tasks = Vec::new();
        for writer in 0..count {
            tasks.push(running_task(&client, &format!("writer {writer}")).await);
        }
        Arc::new(Self {
            url,
            key,
            ledger,
            tasks,
            folder,
            most_bytes,
            stop: AtomicBool::new(false),
            refused: AtomicU64::new(0),
            unheard: AtomicU64::new(0),
        })
    }

    /// Starts them all. Each goes on from deed to deed until [`Writers::stop`].
    pub(crate) fn start(self: &Arc<Self>, seed: u64) -> Vec<JoinHandle<()>> {
        let writer = |writer| {
            let all = Arc::clone(self);
            tokio::spawn(async move { all.write(writer, seed).await })
        };
        (0..self.tasks.len()).map(writer).collect()
    }

    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Requests that were answered with an error, and requests that were not answered.
    pub(crate) fn troubles(&self) -> (u64, u64) {
        (
            self.refused.load(Ordering::Relaxed),
            self.unheard.load(Ordering::Relaxed),
        )
    }

    async fn write(&self, writer: usize, seed: u64) {
        let client = Client::new(&self.url, &self.key);
        let mut chance = ChaCha8Rng::seed_from_u64(seed + writer as u64);
        let mut next_step = 0;
        let mut number = 0;
        while !self.stop.load(Ordering::Relaxed) {
            let deed = if chance.next_u64() % ARTIFACTS == 0 {
                Deed::Artifact {
                    number,
                    digest: self.make_content(writer, &mut chance),
                }
            } else {
                Deed::Points {
                    number,
                    first: next_step,
                    count: 1 + chance.next_u64() % 50,
                    series: 1 + chance.next_u64() % 3,
                }
            };
            if let Deed::Points { first, count, .. } = &deed {
                next_step = first + count;
            }
            self.until_acknowledged(&client, writer, &deed).await;
            self.ledger.acknowledged(writer, deed);
            number += 1;
        }
    }

    fn make_content(&self, writer: usize, chance: &mut ChaCha8Rng) -> Digest {
        let length = usize::try_from(1 + chance.next_u64() % self.most_bytes).unwrap_or(1);
        let mut content = vec![0; length];
        chance.fill_bytes(&mut content);
        let path = self.content_path(writer);
        std::fs::write(path, &content).expect("the harness has room for its own files");
        Digest::of(&content)
    }

    fn content_path(&self, writer: usize) -> PathBuf {
        self.folder.join(format!("content-{writer}"))
    }

    async fn until_acknowledged(&self, client: &Client, writer: usize, deed: &Deed) {
        let started = Instant::now();
        loop {
            let answer = tokio::time::timeout(ANSWER, self.attempt(client, writer, deed)).await;
            let error = match answer {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error,
                Err(_) => panic!("writer {writer} got no answer: {deed:?}"),
            };
            let counter = match error {
                ClientError::Refused(_) => &self.refused,
                _ => &self.unheard,
            };
            counter.fetch_add(1, Ordering::Relaxed);
            assert!(
                started.elapsed() < PATIENCE,
                "writer {writer} was not heard for two minutes: {deed:?}: {error}"
            );
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }

    async fn attempt(
        &self,
        client: &Client,
        writer: usize,
        deed: &Deed,
    ) -> Result<(), ClientError> {
        let task = &self.tasks[writer];
        match deed {
            Deed::Points {
                number,
                first,
                count,
                series,
            } => {
                let points = ledger::points(writer, *first, *count, *series);
                let key = ledger::key(writer, *number);
                client
                    .append_points(task, Some(&key), &points.finish())
                    .await?;
            }
            Deed::Artifact { number, .. } => {
                let path = self.content_path(writer);
                client
                    .put_artifact(task, &number.to_string(), None, &path)
                    .await?;
            }
        }
        Ok(())
    }
}

/// Makes a task that runs outside of any agent; its id.
pub(crate) async fn running_task(client: &Client, name: &str) -> String {
    let draft = NewDraft {
        name: name.to_owned(),
        ..NewDraft::default()
    };
    let task = client.create_task(&draft).await;
    let id = task.expect("a new server makes tasks").id.to_string();
    let request = MoveRequest::default();
    let started = client.move_task(&id, Verb::Start, &request).await;
    started.expect("a draft can be started");
    id
}
