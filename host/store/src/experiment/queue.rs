//! The one task that writes steps of experiments: those that wait are committed together.
//!
//! A trial alone waits for one commit; of many at a time, as many as came while the last commit
//! was on its way share the next. Where one of them is refused, each is written by itself.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use trainshed_core::{TaskId, Timestamp};

use super::step::{STEP, write_step};
use super::{Cause, Step, StepError};
use crate::batch::Batch;
use crate::database::Store;
use crate::error::StoreError;
use crate::idempotency::{RequestKey, note_answer, request};
use crate::points::upkeep::Shared;
use crate::points::{Tables, TaskKey};
use crate::workspace::Workspace;

/// Steps that may wait; whoever comes later waits for room.
const MAX_WAITING: usize = 256;
/// Most steps of one transaction, so that nobody waits for long: some milliseconds of work.
const MAX_TOGETHER: usize = 32;

/// What a step did: the task and the fence of the trial that it started, if it started one.
type Written = Result<Option<(TaskId, i64)>, StepError>;

/// The way to the task that writes.
#[derive(Debug)]
pub(crate) struct StepQueue {
    steps: Mutex<Option<mpsc::Sender<Waiting>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

struct Waiting {
    workspace: Workspace,
    cause: Cause,
    step: Step,
    now: Timestamp,
    /// The request that wants it, if it has a key.
    request: Option<RequestKey>,
    answer: oneshot::Sender<Written>,
}

/// A step on its way. It is written whether or not somebody waits for it.
#[derive(Debug)]
pub struct QueuedStep(oneshot::Receiver<Written>);

impl QueuedStep {
    /// Waits until the step is durable. Returns the task and the fence of the trial that it
    /// starts, if it starts one.
    ///
    /// # Errors
    /// [`StepError::Overtaken`] when the log has grown since the caller read it.
    pub async fn written(self) -> Result<Option<(TaskId, i64)>, StepError> {
        self.0.await.unwrap_or_else(|_| Err(closed().into()))
    }
}

fn closed() -> StoreError {
    StoreError::Unavailable {
        action: STEP,
        source: "the database is being closed".into(),
    }
}

impl Store {
    /// Hands a step of an experiment over, to be written together with its cause; returns as
    /// soon as it has its place behind the steps that were handed over before.
    ///
    /// # Errors
    /// When the store is being closed.
    pub async fn queue_step(
        &self,
        workspace: &Workspace,
        cause: Cause,
        step: Step,
        now: Timestamp,
    ) -> Result<QueuedStep, StoreError> {
        let (answer, written) = oneshot::channel();
        let waiting = Waiting {
            workspace: workspace.clone(),
            cause,
            step,
            now,
            request: request(),
            answer,
        };
        let steps = lock(&self.steps.steps).clone().ok_or_else(closed)?;
        steps.send(waiting).await.map_err(|_| closed())?;
        Ok(QueuedStep(written))
    }
}

impl StepQueue {
    /// Starts the task that writes; `shared` hears of tasks that have ended.
    pub(crate) fn start(tables: Tables, shared: Arc<Shared>) -> Self {
        let (steps, waiting) = mpsc::channel(MAX_WAITING);
        let writer = Writer { tables, shared };
        Self {
            steps: Mutex::new(Some(steps)),
            writer: Mutex::new(Some(tokio::spawn(writer.run(waiting)))),
        }
    }

    /// Waits until everything that was taken is written.
    pub(crate) async fn close(&self) {
        lock(&self.steps).take();
        let writer = lock(&self.writer).take();
        if let Some(writer) = writer {
            // It ends by itself; a panic of its has been printed.
            let _ = writer.await;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Writer {
    tables: Tables,
    shared: Arc<Shared>,
}

impl Writer {
    /// Writes until every sender is gone.
    async fn run(self, mut steps: mpsc::Receiver<Waiting>) {
        let mut waiting = Vec::new();
        while steps.recv_many(&mut waiting, MAX_TOGETHER).await > 0 {
            let together = std::mem::take(&mut waiting);
            let written = match together.as_slice() {
                [_] => None,
                several => self.write(several).await.ok(),
            };
            match written {
                Some(written) => {
                    for (waiting, started) in together.into_iter().zip(written) {
                        // Whoever has gone away does not hear it.
                        let _ = waiting.answer.send(Ok(started));
                    }
                }
                None => {
                    for waiting in together {
                        let written = self.write(std::slice::from_ref(&waiting)).await;
                        let written = written.map(|mut started| started.pop().flatten());
                        let _ = waiting.answer.send(written);
                    }
                }
            }
        }
    }

    /// Writes steps in their order, all or none.
    async fn write(&self, steps: &[Waiting]) -> Result<Vec<Option<(TaskId, i64)>>, StepError> {
        let failed = StoreError::database;
        let mut transaction = self.tables.begin(STEP).await?;
        let mut batch = Batch::default();
        let mut written = Vec::with_capacity(steps.len());
        for waiting in steps {
            let both = (&mut transaction, &mut batch);
            let told = (&waiting.cause, &waiting.step);
            written.push(write_step(both, &waiting.workspace, told, waiting.now).await?);
            if let (Some(request), Some(answer)) = (&waiting.request, &waiting.step.answer) {
                note_answer(&mut batch, request, answer);
            }
        }
        batch.run(&mut transaction).await.map_err(failed(STEP))?;
        transaction.commit().await.map_err(failed(STEP))?;
        for waiting in steps {
            if let Cause::Finish { task, .. } = &waiting.cause {
                self.shared.settle(&TaskKey::new(&waiting.workspace, task));
            }
        }
        Ok(written)
    }
}
