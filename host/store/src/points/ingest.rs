//! The one task that writes what is reported: whatever waits is written and committed
//! together, and acknowledged then.
//!
//! So a single caller waits for one commit, and a thousand callers wait for a few. What comes
//! in while the queue is full is refused at once: memory is bounded, and the caller knows to
//! come again.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex};

use futures::TryStreamExt as _;
use sqlx::{Any, AssertSqlSafe, Executor as _, Transaction};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use trainshed_core::report::{Batch, Report};
use trainshed_core::resource::is_of_the_machine;
use trainshed_core::task::TaskState;
use trainshed_core::{TaskId, Timestamp};
use trainshed_series::{Batch as PointBatch, Frame, FrameBuilder, MAX_STEP};

use crate::database::Store;
use crate::error::StoreError;
use crate::file::bigint;
use crate::lease::LeaseError;
use crate::points::curves::Tails;
use crate::points::upkeep::{self, Shared};
use crate::points::{MAX_SERIES, Tables, TaskKey, bind_real, decode_row, placeholders};
use crate::report::write_lease_batch;
use crate::workspace::Workspace;

/// Calls that may wait to be written, and most calls of one transaction: a few hundred
/// milliseconds of work.
const MAX_CALLS: usize = 2048;
/// Bytes of one transaction, so that a commit does not keep everybody waiting for long.
const MAX_COMMIT_BYTES: usize = 4 << 20;
/// Kilobytes of calls that may wait to be written.
const MAX_WAITING_KIB: usize = 64 << 10;
/// Rows of one statement.
const ROWS: usize = 128;
/// Curves of running tasks that are remembered, so that their number is not counted for each
/// batch: 16 MiB.
const MAX_KNOWN_CURVES: usize = 1 << 20;
/// The fence of the batches of clients.
const CLIENT: i64 = -1;

/// Why points of a client were not recorded.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// There is no such task.
    #[error("there is no task {0}")]
    UnknownTask(TaskId),
    /// It is published.
    #[error("the task {0} is published, and nothing of it may change")]
    Published(TaskId),
    /// The task would have too many curves or single values.
    #[error("a task has at most {MAX_SERIES} curves and as many single values")]
    TooMany,
    /// More comes in than can be written.
    #[error("more is reported than can be written at the moment")]
    Busy,
    /// The store failed.
    #[error("the points could not be recorded")]
    Store(#[source] StoreError),
}

impl AppendError {
    /// What the caller can do about it, in one sentence.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Busy => Some("Send it again after a second, under the same key.".into()),
            Self::Store(error) => error.hint(),
            Self::UnknownTask(_) | Self::Published(_) | Self::TooMany => None,
        }
    }
}

/// What became of a batch of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Points in it.
    pub points: u64,
    /// Whether it had been recorded before, and was not again.
    pub repeated: bool,
}

/// A batch of a client on its way.
#[derive(Debug)]
struct ClientBatch {
    key: TaskKey,
    task: TaskId,
    batch_key: Option<String>,
    points: NewPoints,
    singles: Vec<(String, f64)>,
    now: Timestamp,
    answer: oneshot::Sender<Result<Appended, AppendError>>,
}

/// A batch of an agent on its way.
#[derive(Debug)]
struct LeaseBatch {
    key: TaskKey,
    workspace: Workspace,
    task: TaskId,
    fence: i64,
    batch: Batch,
    /// The greatest step of a point that is not of the machine.
    last_iteration: Option<u64>,
    points: NewPoints,
    lease_until: Timestamp,
    now: Timestamp,
    answer: oneshot::Sender<Result<Option<String>, LeaseError>>,
}

/// Points that were encoded by the caller's task.
#[derive(Debug)]
struct NewPoints {
    frame: Vec<u8>,
    count: u64,
    /// Hashes of their curves.
    curves: Vec<u64>,
}

enum Call {
    Client(ClientBatch),
    Lease(Box<LeaseBatch>),
}

struct Waiting {
    call: Call,
    bytes: usize,
    /// Room among those that wait; given back when the call has been answered.
    _room: OwnedSemaphorePermit,
}

/// The way to the writing task.
#[derive(Debug)]
pub(crate) struct Ingest {
    calls: Mutex<Option<mpsc::Sender<Waiting>>>,
    room: Arc<Semaphore>,
    hasher: RandomState,
    pub(crate) shared: Arc<Shared>,
    pub(crate) tails: Tails,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Waiting").finish_non_exhaustive()
    }
}

impl Ingest {
    /// Starts the task that writes and the one that keeps up with it.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub(crate) async fn start(tables: Tables) -> Result<Self, StoreError> {
        let shared = Arc::new(Shared::load(&tables).await?);
        let hasher = RandomState::new();
        let (calls, waiting) = mpsc::channel(MAX_CALLS);
        let writer = Writer {
            tables: tables.clone(),
            shared: shared.clone(),
            hasher: hasher.clone(),
            known: HashMap::new(),
            known_count: 0,
        };
        let tasks = vec![
            tokio::spawn(writer.run(waiting)),
            tokio::spawn(upkeep::run(tables, shared.clone())),
        ];
        Ok(Self {
            calls: Mutex::new(Some(calls)),
            room: Arc::new(Semaphore::new(MAX_WAITING_KIB)),
            hasher,
            shared,
            tails: Tails::default(),
            tasks: Mutex::new(tasks),
        })
    }

    /// Waits until everything that was taken is written, and both tasks have ended.
    pub(crate) async fn close(&self) {
        lock(&self.calls).take();
        self.shared.close();
        let tasks = std::mem::take(&mut *lock(&self.tasks));
        for task in tasks {
            // They end by themselves; a panic of theirs has been printed.
            let _ = task.await;
        }
    }

    fn new_points(&self, frame: &Frame<'_>) -> NewPoints {
        let curve = |title: &str, series: &str| self.hasher.hash_one((title, series));
        NewPoints {
            count: frame.point_count() as u64,
            curves: frame
                .curves()
                .map(|named| curve(named.title, named.series))
                .collect(),
            frame: frame.encode(),
        }
    }

    /// Puts a call into the queue.
    fn send(&self, call: Call, bytes: usize) -> Result<(), Full> {
        let kib = u32::try_from(bytes / 1024 + 1).unwrap_or(u32::MAX);
        let room = self.room.clone().try_acquire_many_owned(kib);
        let waiting = Waiting {
            call,
            bytes,
            _room: room.map_err(|_| Full)?,
        };
        let calls = lock(&self.calls).clone().ok_or(Full)?;
        calls.try_send(waiting).map_err(|_| Full)
    }
}

/// The queue takes no more for now.
#[derive(Debug)]
struct Full;

impl Drop for Ingest {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl Store {
    /// Records points and single values of a client. Returns once they are durable. A batch
    /// with a key that was recorded before is not recorded again.
    ///
    /// # Errors
    /// When there is no such task, it is published, it has too many curves, or more comes in
    /// than can be written.
    pub async fn append_points(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        batch: &PointBatch<'_>,
        now: Timestamp,
    ) -> Result<Appended, AppendError> {
        let (answer, answered) = oneshot::channel();
        let points = self.ingest.new_points(&batch.frame);
        let singles = batch.singles.iter();
        let bytes = points.frame.len();
        let call = Call::Client(ClientBatch {
            key: TaskKey::new(workspace, task),
            task: task.clone(),
            batch_key: batch.key.clone().map(String::from),
            points,
            singles: singles
                .map(|(name, value)| (name.clone().into_owned(), *value))
                .collect(),
            now,
            answer,
        });
        self.ingest
            .send(call, bytes)
            .map_err(|Full| AppendError::Busy)?;
        answered.await.unwrap_or(Err(AppendError::Busy))
    }

    /// Records a batch of an agent and the points of its frames, all or none, and moves the deadline of the lease;
    /// returns why the task is to stop, if it is. Returns once it is durable. A batch that was
    /// recorded before is not recorded again. Names and numbers of the batch have been
    /// checked.
    ///
    /// # Errors
    /// When the lease is over, a file is not there, there are too many curves, or more comes
    /// in than can be written.
    pub async fn append_batch(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        fence: i64,
        (batch, frames): (Batch, &[Frame<'_>]),
        lease_until: Timestamp,
        now: Timestamp,
    ) -> Result<Option<String>, LeaseError> {
        let mut builder = FrameBuilder::default();
        for frame in frames {
            for curve in frame.curves() {
                for point in curve.points.iter() {
                    builder.push(
                        (curve.title.into(), curve.series.into()),
                        point.step,
                        point.time,
                        point.value,
                        point.extra.map(Into::into),
                    );
                }
            }
        }
        for report in &batch.reports {
            if let Report::Point(point) = report {
                let extra = point.extra.as_ref();
                builder.push(
                    (point.title.as_str().into(), point.series.as_str().into()),
                    point.iteration.min(MAX_STEP),
                    point.at.as_millis(),
                    point.value.0,
                    extra.map(|extra| serde_json::json!(extra).to_string().into()),
                );
            }
        }
        let frame = builder.finish();
        let last_iteration = frame
            .curves()
            .filter(|curve| !is_of_the_machine(curve.title))
            .filter_map(|curve| curve.points.steps().iter().copied().max())
            .max();
        let points = self.ingest.new_points(&frame);
        let (answer, answered) = oneshot::channel();
        let bytes = points.frame.len() + batch.reports.len() * 64;
        let call = Call::Lease(Box::new(LeaseBatch {
            key: TaskKey::new(workspace, task),
            workspace: workspace.clone(),
            task: task.clone(),
            fence,
            batch,
            last_iteration,
            points,
            lease_until,
            now,
            answer,
        }));
        self.ingest
            .send(call, bytes)
            .map_err(|Full| LeaseError::Busy)?;
        answered.await.unwrap_or(Err(LeaseError::Busy))
    }

    /// Forgets the keys of batches that came before `before`: those of clients, and those of
    /// agents whose task does not run any more. A batch that is sent again later than that
    /// would be recorded again.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn forget_batches(&self, before: Timestamp) -> Result<(), StoreError> {
        let action = "forget the keys of batches";
        let mut transaction = self.begin(action).await?;
        sqlx::query(
            "delete from batch_key
              where at < $1
                and (fence < 0
                     or not exists (select 1 from task
                                     where task.workspace = batch_key.workspace
                                       and task.id = batch_key.task and state = 'in_progress'))",
        )
        .bind(before.as_millis())
        .execute(&mut *transaction)
        .await
        .map_err(StoreError::database(action))?;
        let committed = transaction.commit().await;
        committed.map_err(StoreError::database(action))
    }
}

/// The task that writes.
struct Writer {
    tables: Tables,
    shared: Arc<Shared>,
    hasher: RandomState,
    /// Hashes of the curves of tasks that report.
    known: HashMap<TaskKey, HashSet<u64>>,
    known_count: usize,
}

type Tx = Transaction<'static, Any>;

/// What a call is answered when its transaction is committed.
enum Outcome {
    Client(Result<Appended, AppendError>),
    Lease(Result<Option<String>, LeaseError>),
}

/// Rows for the log, and what the upkeep hears of them.
#[derive(Default)]
struct LogRows<'a> {
    rows: Vec<(&'a TaskKey, Timestamp, &'a NewPoints)>,
}

impl Writer {
    /// Writes until every sender is gone.
    async fn run(mut self, mut calls: mpsc::Receiver<Waiting>) {
        let mut waiting = Vec::new();
        while calls.recv_many(&mut waiting, MAX_CALLS).await > 0 {
            let mut group = Vec::new();
            let mut bytes = 0;
            for call in waiting.drain(..) {
                bytes += call.bytes;
                group.push(call);
                if bytes >= MAX_COMMIT_BYTES {
                    self.commit(std::mem::take(&mut group)).await;
                    bytes = 0;
                }
            }
            if !group.is_empty() {
                self.commit(group).await;
            }
        }
    }

    async fn commit(&mut self, group: Vec<Waiting>) {
        match self.write(&group).await {
            Ok(outcomes) => {
                for (waiting, outcome) in group.into_iter().zip(outcomes) {
                    // Whoever has gone away does not hear it.
                    match (waiting.call, outcome) {
                        (Call::Client(call), Outcome::Client(outcome)) => {
                            let _ = call.answer.send(outcome);
                        }
                        (Call::Lease(call), Outcome::Lease(outcome)) => {
                            let _ = call.answer.send(outcome);
                        }
                        (Call::Client(_), Outcome::Lease(_))
                        | (Call::Lease(_), Outcome::Client(_)) => {}
                    }
                }
            }
            Err(error) => {
                self.forget_all();
                for waiting in group {
                    match waiting.call {
                        Call::Client(call) => {
                            let _ = call.answer.send(Err(AppendError::Store(error.again())));
                        }
                        Call::Lease(call) => {
                            let _ = call.answer.send(Err(LeaseError::Store(error.again())));
                        }
                    }
                }
            }
        }
    }

    /// Writes and commits; the outcomes are in the order of the calls. When it fails, nothing
    /// of any call was kept.
    async fn write(&mut self, group: &[Waiting]) -> Result<Vec<Outcome>, StoreError> {
        for key in self.shared.take_forgotten() {
            self.forget(&key);
        }
        let action = "record reports";
        let mut transaction = self.tables.begin(action).await?;
        let mut outcomes = Vec::with_capacity(group.len());
        let mut log = LogRows::default();
        let mut states = HashMap::new();
        for waiting in group {
            outcomes.push(match &waiting.call {
                Call::Client(call) => {
                    let written = self.write_client(&mut transaction, call, &mut states, &mut log);
                    Outcome::Client(match written.await {
                        Err(AppendError::Store(error)) => return Err(error),
                        outcome => outcome,
                    })
                }
                Call::Lease(call) => {
                    let written = self.write_lease(&mut transaction, call, &mut log);
                    Outcome::Lease(written.await?)
                }
            });
        }
        log.insert(&mut transaction).await?;
        let committed = transaction.commit().await;
        committed.map_err(StoreError::database(action))?;
        for (key, _, points) in log.rows {
            let curves = self.known.get(key).map_or(1, HashSet::len);
            self.shared
                .logged(key, points.count, points.frame.len(), curves);
        }
        Ok(outcomes)
    }

    async fn write_client<'a>(
        &mut self,
        transaction: &mut Tx,
        call: &'a ClientBatch,
        states: &mut HashMap<&'a TaskKey, Option<TaskState>>,
        log: &mut LogRows<'a>,
    ) -> Result<Appended, AppendError> {
        let failed = |error| AppendError::Store(StoreError::database("record points")(error));
        let state = match states.get(&call.key) {
            Some(state) => *state,
            None => {
                let state = task_state(transaction, &call.key).await.map_err(failed)?;
                states.insert(&call.key, state);
                state
            }
        };
        match state {
            None => return Err(AppendError::UnknownTask(call.task.clone())),
            Some(TaskState::Published) => return Err(AppendError::Published(call.task.clone())),
            Some(_) => {}
        }
        if !self.has_room(transaction, &call.key, &call.points).await? {
            return Err(AppendError::TooMany);
        }
        if !call.singles.is_empty() && !single_room(transaction, call).await.map_err(failed)? {
            return Err(AppendError::TooMany);
        }
        let answer = |repeated| Appended {
            points: call.points.count,
            repeated,
        };
        if let Some(batch_key) = &call.batch_key {
            let known = (&call.key, CLIENT, batch_key.as_str());
            if !remember(transaction, known, call.now)
                .await
                .map_err(failed)?
            {
                return Ok(answer(true));
            }
        }
        for (name, value) in &call.singles {
            write_single(transaction, &call.key, name, *value)
                .await
                .map_err(failed)?;
        }
        self.add_known(&call.key, &call.points);
        log.push(&call.key, call.now, &call.points);
        Ok(answer(false))
    }

    /// The outcome of one batch, which fails alone; the outer error fails all.
    async fn write_lease<'a>(
        &mut self,
        transaction: &mut Tx,
        call: &'a LeaseBatch,
        log: &mut LogRows<'a>,
    ) -> Result<Result<Option<String>, LeaseError>, StoreError> {
        let failed = || StoreError::database("record reports");
        transaction
            .execute("savepoint batch")
            .await
            .map_err(failed())?;
        let written = self.write_lease_parts(transaction, call).await;
        let statements: &[&str] = match &written {
            Ok(_) => &["release savepoint batch"],
            Err(_) => &["rollback to savepoint batch", "release savepoint batch"],
        };
        for statement in statements {
            transaction.execute(*statement).await.map_err(failed())?;
        }
        Ok(match written {
            Ok((stop, is_new)) => {
                if is_new {
                    self.add_known(&call.key, &call.points);
                    log.push(&call.key, call.now, &call.points);
                }
                Ok(stop)
            }
            Err(error) => Err(error),
        })
    }

    async fn write_lease_parts(
        &mut self,
        transaction: &mut Tx,
        call: &LeaseBatch,
    ) -> Result<(Option<String>, bool), LeaseError> {
        let held = crate::lease::hold_lease(
            transaction,
            &call.workspace,
            &call.task,
            call.fence,
            call.lease_until,
        )
        .await?;
        let batch_key = call.batch.key.to_string();
        let known = (&call.key, call.fence, batch_key.as_str());
        let is_new = remember(transaction, known, call.now)
            .await
            .map_err(crate::lease::lease_error("record reports"))?;
        if is_new {
            let room = self.has_room(transaction, &call.key, &call.points).await;
            let room = room.map_err(|error| match error {
                AppendError::Store(error) => LeaseError::Store(error),
                other => LeaseError::Invalid(other.to_string()),
            });
            if !room? {
                return Err(LeaseError::Invalid(AppendError::TooMany.to_string()));
            }
            let (workspace, task) = (&call.workspace, &call.task);
            let batch = (call.batch.reports.as_slice(), call.last_iteration);
            write_lease_batch(transaction, workspace, task, &held, batch, call.now).await?;
        }
        Ok((held.stop(), is_new))
    }

    /// Whether the task may have the curves of `points` beside those it has.
    async fn has_room(
        &mut self,
        transaction: &mut Tx,
        key: &TaskKey,
        points: &NewPoints,
    ) -> Result<bool, AppendError> {
        if points.curves.is_empty() {
            return Ok(true);
        }
        if !self.known.contains_key(key) {
            let curves = self.load_curves(transaction, key).await;
            let curves = curves.map_err(AppendError::Store)?;
            if self.known_count > MAX_KNOWN_CURVES {
                self.forget_all();
            }
            self.known_count += curves.len();
            self.known.insert(key.clone(), curves);
        }
        let Some(known) = self.known.get(key) else {
            return Ok(true);
        };
        let fresh = points.curves.iter().filter(|curve| !known.contains(curve));
        Ok((known.len() + fresh.count()) as u64 <= MAX_SERIES)
    }

    fn add_known(&mut self, key: &TaskKey, points: &NewPoints) {
        if let Some(known) = self.known.get_mut(key) {
            let before = known.len();
            known.extend(&points.curves);
            self.known_count += known.len() - before;
        }
    }

    fn forget(&mut self, key: &TaskKey) {
        let forgotten = self.known.remove(key);
        self.known_count -= forgotten.map_or(0, |curves| curves.len());
    }

    fn forget_all(&mut self) {
        self.known.clear();
        self.known_count = 0;
    }

    /// Hashes of the curves that the task has, in its summaries and in its log.
    async fn load_curves(
        &self,
        transaction: &mut Tx,
        key: &TaskKey,
    ) -> Result<HashSet<u64>, StoreError> {
        let action = "count curves";
        let failed = || StoreError::database(action);
        let mut curves = HashSet::new();
        let mut named = sqlx::query_as::<_, (String, String)>(
            "select title, series from series where workspace = $1 and task = $2",
        )
        .bind(&key.workspace)
        .bind(&key.task)
        .fetch(&mut **transaction);
        while let Some((title, series)) = named.try_next().await.map_err(failed())? {
            let curve = (title.as_str(), series.as_str());
            curves.insert(self.hasher.hash_one(curve));
        }
        drop(named);
        let mut logged = sqlx::query_as::<_, (Vec<u8>,)>(
            "select frame from point_log
              where workspace = $1 and task = $2
                and seq > (select coalesce(max(summarized), 0) from point_state
                            where workspace = $1 and task = $2)",
        )
        .bind(&key.workspace)
        .bind(&key.task)
        .fetch(&mut **transaction);
        while let Some((frame,)) = logged.try_next().await.map_err(failed())? {
            let hash = |curve: trainshed_series::Curve<'_>| {
                self.hasher.hash_one((curve.title, curve.series))
            };
            curves.extend(decode_row(&frame)?.curves().map(hash));
        }
        Ok(curves)
    }
}

impl<'a> LogRows<'a> {
    fn push(&mut self, key: &'a TaskKey, at: Timestamp, points: &'a NewPoints) {
        if points.count > 0 {
            self.rows.push((key, at, points));
        }
    }

    async fn insert(&self, transaction: &mut Tx) -> Result<(), StoreError> {
        for rows in self.rows.chunks(ROWS) {
            let statement = format!(
                "insert into point_log (workspace, task, at, point_count, frame) values {}",
                placeholders(rows.len(), 5)
            );
            let mut query = sqlx::query(AssertSqlSafe(statement));
            for (key, at, points) in rows {
                query = query
                    .bind(&key.workspace)
                    .bind(&key.task)
                    .bind(at.as_millis())
                    .bind(bigint(points.count))
                    .bind(points.frame.as_slice());
            }
            let inserted = query.execute(&mut **transaction).await;
            inserted.map_err(StoreError::database("record points"))?;
        }
        Ok(())
    }
}

async fn task_state(transaction: &mut Tx, key: &TaskKey) -> Result<Option<TaskState>, sqlx::Error> {
    let state: Option<(String,)> =
        sqlx::query_as("select state from task where workspace = $1 and id = $2")
            .bind(&key.workspace)
            .bind(&key.task)
            .fetch_optional(&mut **transaction)
            .await?;
    Ok(state.and_then(|(state,)| TaskState::parse(&state)))
}

/// Notes the key of a batch; returns whether it was not known.
pub(crate) async fn remember(
    transaction: &mut Tx,
    (key, fence, batch_key): (&TaskKey, i64, &str),
    now: Timestamp,
) -> Result<bool, sqlx::Error> {
    let noted = sqlx::query(
        "insert into batch_key (workspace, task, fence, key, at) values ($1, $2, $3, $4, $5)
         on conflict do nothing",
    )
    .bind(&key.workspace)
    .bind(&key.task)
    .bind(fence)
    .bind(batch_key)
    .bind(now.as_millis())
    .execute(&mut **transaction)
    .await?;
    Ok(noted.rows_affected() == 1)
}

/// Whether the task may have the single values of `call` beside those it has.
async fn single_room(transaction: &mut Tx, call: &ClientBatch) -> Result<bool, sqlx::Error> {
    let known: Vec<(String,)> =
        sqlx::query_as("select name from single where workspace = $1 and task = $2")
            .bind(&call.key.workspace)
            .bind(&call.key.task)
            .fetch_all(&mut **transaction)
            .await?;
    let mut names: HashSet<&str> = known.iter().map(|(name,)| name.as_str()).collect();
    names.extend(call.singles.iter().map(|(name, _)| name.as_str()));
    Ok(names.len() as u64 <= MAX_SERIES)
}

/// Writes a single value over the former one.
pub(crate) async fn write_single(
    transaction: &mut Tx,
    key: &TaskKey,
    name: &str,
    value: f64,
) -> Result<(), sqlx::Error> {
    let query = sqlx::query(
        "insert into single (workspace, task, name, value) values ($1, $2, $3, $4)
         on conflict (workspace, task, name) do update set value = excluded.value",
    )
    .bind(&key.workspace)
    .bind(&key.task)
    .bind(name);
    bind_real(query, Some(value))
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
