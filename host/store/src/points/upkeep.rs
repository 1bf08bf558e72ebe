//! What happens to points after they are acknowledged: summaries, then chunks.
//!
//! Both read the log, work outside of any transaction, and write under the condition that the
//! task's [`PointState`](crate::points::PointState) is still what it was. Whoever comes second
//! throws the work away, so that servers that share a database need no further agreement. A
//! crash at any point leaves the state before or after.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sqlx::{Any, AssertSqlSafe, Transaction};
use tokio::sync::Notify;
use tokio::time::Instant;
use trainshed_core::resource::is_of_the_machine;
use trainshed_series::chunk::{self, CHUNK_POINTS};
use trainshed_series::{Points, Summary, buckets_of, encode_buckets};

use crate::database::Store;
use crate::error::StoreError;
use crate::file::bigint;
use crate::points::{LogRow, Tables, TaskKey, bind_real, decode_row, placeholders};

/// How often the upkeep looks: summaries are no further behind than twice this.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// A task that has not reported for so long has its points moved into chunks.
const IDLE: Duration = Duration::from_secs(60);
/// Rows, bytes and points of a task's log at which they are moved into chunks.
const MOST_ROWS: u64 = 4096;
const MOST_BYTES: u64 = 8 << 20;
const MOST_POINTS: u64 = 65_536;
/// Bytes of all logs at which the longest are moved into chunks.
const MOST_LOG_BYTES: u64 = 64 << 20;
/// Bytes of a log that are worked on at a time.
const BITE: usize = 8 << 20;
/// Bytes of chunks that are written in one transaction.
const CHANGE_BYTES: usize = 16 << 20;
/// Rows of one statement.
const ROWS: usize = 64;
/// Chunks that are looked at in one statement.
const LOOK_CHUNKS: i64 = 32;

/// What the writer, the readers and the upkeep know of logs.
#[derive(Debug)]
pub(crate) struct Shared {
    logs: Mutex<HashMap<TaskKey, Log>>,
    forgotten: Mutex<Vec<TaskKey>>,
    wake: Notify,
    closing: AtomicBool,
}

/// The log of one task.
#[derive(Debug, Clone, Copy)]
struct Log {
    /// Grows with each row.
    version: u64,
    /// The summaries have what was logged up to this version.
    summarized: u64,
    rows: u64,
    points: u64,
    bytes: u64,
    /// Curves of the task.
    curves: usize,
    last: Instant,
    /// Whether it shall be moved into chunks now.
    is_due: bool,
}

impl Shared {
    /// Looks for what an earlier process left in the log.
    pub(crate) async fn load(tables: &Tables) -> Result<Self, StoreError> {
        let left: Vec<(String, String, i64, i64, i64)> = sqlx::query_as(
            "select workspace, task, count(*), cast(sum(point_count) as bigint),
                    cast(sum(length(frame)) as bigint)
               from point_log group by workspace, task",
        )
        .fetch_all(&tables.reader)
        .await
        .map_err(StoreError::database("look at the log of points"))?;
        let log = |(workspace, task, rows, points, bytes)| {
            let log = Log {
                version: 1,
                summarized: 0,
                rows: crate::file::unsigned(rows),
                points: crate::file::unsigned(points),
                bytes: crate::file::unsigned(bytes),
                curves: 1,
                last: Instant::now(),
                is_due: false,
            };
            (TaskKey { workspace, task }, log)
        };
        Ok(Self {
            logs: Mutex::new(left.into_iter().map(log).collect()),
            forgotten: Mutex::default(),
            wake: Notify::new(),
            closing: AtomicBool::new(false),
        })
    }

    /// Hears that a row was committed.
    pub(crate) fn logged(&self, key: &TaskKey, points: u64, bytes: usize, curves: usize) {
        let mut logs = self.logs();
        let was_idle = logs.is_empty();
        let entry = logs.entry(key.clone()).or_insert(Log {
            version: 0,
            summarized: 0,
            rows: 0,
            points: 0,
            bytes: 0,
            curves,
            last: Instant::now(),
            is_due: false,
        });
        *entry = Log {
            version: entry.version + 1,
            summarized: entry.summarized,
            rows: entry.rows + 1,
            points: entry.points + points,
            bytes: entry.bytes + bytes as u64,
            curves,
            last: Instant::now(),
            is_due: entry.is_due,
        };
        drop(logs);
        if was_idle {
            self.wake.notify_one();
        }
    }

    /// Asks that the points of a task be moved into chunks soon: it has ended. What is known of
    /// its curves is not kept for what hardly comes.
    pub(crate) fn settle(&self, key: &TaskKey) {
        if let Some(log) = self.logs().get_mut(key) {
            log.is_due = true;
            lock(&self.forgotten).push(key.clone());
        }
    }

    /// Says that the points of a task were deleted.
    pub(crate) fn forget(&self, key: TaskKey) {
        self.logs().remove(&key);
        lock(&self.forgotten).push(key);
    }

    /// The tasks whose points were deleted, or that have ended, since the last call.
    pub(crate) fn take_forgotten(&self) -> Vec<TaskKey> {
        std::mem::take(&mut *lock(&self.forgotten))
    }

    /// Ends the upkeep.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
        self.wake.notify_one();
    }

    /// The tasks whose summaries are behind, and the versions they are to come up to.
    fn behind(&self, only: Option<&TaskKey>) -> Vec<(TaskKey, u64)> {
        let logs = self.logs();
        let behind = |(key, log): (&TaskKey, &Log)| {
            let is_behind = log.version > log.summarized;
            is_behind.then(|| (key.clone(), log.version))
        };
        match only {
            Some(only) => logs
                .get_key_value(only)
                .and_then(behind)
                .into_iter()
                .collect(),
            None => logs.iter().filter_map(behind).collect(),
        }
    }

    /// Says that the summaries of a task have come up to a version.
    fn summarized(&self, key: &TaskKey, version: u64) {
        if let Some(log) = self.logs().get_mut(key) {
            log.summarized = log.summarized.max(version);
        }
    }

    /// The tasks whose points are to be moved into chunks, the longest log first.
    fn due(&self) -> Vec<(TaskKey, Log)> {
        let logs = self.logs();
        let mut all: Vec<(TaskKey, Log)> =
            logs.iter().map(|(key, log)| (key.clone(), *log)).collect();
        drop(logs);
        all.sort_by_key(|(_, log)| std::cmp::Reverse(log.bytes));
        let mut total: u64 = all.iter().map(|(_, log)| log.bytes).sum();
        all.retain(|(_, log)| {
            let full_chunks = log.curves as u64 * CHUNK_POINTS as u64;
            let is_due = log.is_due
                || total > MOST_LOG_BYTES
                || log.rows >= MOST_ROWS
                || log.bytes >= MOST_BYTES
                || log.points >= MOST_POINTS.max(full_chunks)
                || log.last.elapsed() >= IDLE;
            if is_due {
                total -= log.bytes;
            }
            is_due
        });
        all
    }

    /// Says that what `done` tells of was moved into chunks.
    fn compacted(&self, key: &TaskKey, done: &Log) {
        let mut logs = self.logs();
        if let Some(log) = logs.get_mut(key) {
            log.rows = log.rows.saturating_sub(done.rows);
            log.points = log.points.saturating_sub(done.points);
            log.bytes = log.bytes.saturating_sub(done.bytes);
            log.is_due &= log.rows > 0;
            if log.rows == 0 && log.version == log.summarized {
                logs.remove(key);
            }
        }
    }

    fn is_idle(&self) -> bool {
        self.logs().is_empty()
    }

    fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    fn logs(&self) -> std::sync::MutexGuard<'_, HashMap<TaskKey, Log>> {
        lock(&self.logs)
    }
}

impl Store {
    /// Brings the summaries of a task, or of all, up to what was acknowledged by this store.
    /// Other servers that share the database do so within half a second. On a full disk they
    /// stay behind, because reading goes on there.
    ///
    /// # Errors
    /// When the database does not answer, or a batch is damaged.
    pub async fn settle_summaries(
        &self,
        task: Option<(&crate::Workspace, &trainshed_core::TaskId)>,
    ) -> Result<(), StoreError> {
        let only = task.map(|(workspace, task)| TaskKey::new(workspace, task));
        match summarize_behind(&self.tables(), &self.ingest.shared, only.as_ref()).await {
            Err(error @ StoreError::Full { .. }) => {
                tracing::warn!(%error, "summaries are behind");
                Ok(())
            }
            settled => settled,
        }
    }

    /// Moves the points of a task into chunks now rather than soon.
    ///
    /// # Errors
    /// When the database does not answer, or a batch is damaged.
    pub async fn compact_points(
        &self,
        workspace: &crate::Workspace,
        task: &trainshed_core::TaskId,
    ) -> Result<(), StoreError> {
        let key = TaskKey::new(workspace, task);
        while compact(&self.tables(), &key).await? {}
        Ok(())
    }

    /// Forgets what is in memory of the points of a task that are deleted.
    pub(crate) fn forget_points(
        &self,
        workspace: &crate::Workspace,
        task: &trainshed_core::TaskId,
    ) {
        self.ingest.shared.forget(TaskKey::new(workspace, task));
    }

    /// Deletes all points, single values and summaries of a task; returns whether there is
    /// such a task.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn delete_points(
        &self,
        workspace: &crate::Workspace,
        task: &trainshed_core::TaskId,
    ) -> Result<bool, StoreError> {
        let action = "delete points";
        let key = TaskKey::new(workspace, task);
        let mut transaction = self.begin(action).await?;
        let (known,): (i64,) =
            sqlx::query_as("select count(*) from task where workspace = $1 and id = $2")
                .bind(&key.workspace)
                .bind(&key.task)
                .fetch_one(&mut *transaction)
                .await
                .map_err(StoreError::database(action))?;
        if known == 0 {
            return Ok(false);
        }
        let deleted = super::delete_points(&mut transaction, &key).await;
        deleted.map_err(StoreError::database(action))?;
        let committed = transaction.commit().await;
        committed.map_err(StoreError::database(action))?;
        self.forget_points(workspace, task);
        Ok(true)
    }
}

/// Keeps up with the log until the store is closed.
pub(crate) async fn run(tables: Tables, shared: Arc<Shared>) {
    while !shared.is_closing() {
        if shared.is_idle() {
            shared.wake.notified().await;
        } else {
            // Woken early only to end.
            let _ = tokio::time::timeout(LOOK_EVERY, shared.wake.notified()).await;
        }
        if shared.is_closing() {
            return;
        }
        if let Err(error) = keep_up(&tables, &shared).await {
            let error = trainshed_core::error::with_causes(&error);
            tracing::error!(error, "points could not be moved out of the log");
            // What failed is tried again, but not as fast as the log grows.
            tokio::time::sleep(4 * LOOK_EVERY).await;
        }
    }
}

async fn keep_up(tables: &Tables, shared: &Shared) -> Result<(), StoreError> {
    summarize_behind(tables, shared, None).await?;
    for (key, log) in shared.due() {
        if shared.is_closing() {
            return Ok(());
        }
        while compact(tables, &key).await? {}
        shared.compacted(&key, &log);
    }
    Ok(())
}

pub(super) async fn summarize_behind(
    tables: &Tables,
    shared: &Shared,
    only: Option<&TaskKey>,
) -> Result<(), StoreError> {
    for (key, version) in shared.behind(only) {
        while summarize(tables, &key).await? {}
        shared.summarized(&key, version);
    }
    Ok(())
}

type Tx = Transaction<'static, Any>;
type Summaries = BTreeMap<(String, String), Summary>;

/// Adds rows of the log to the summaries; returns whether there was more than it takes at a
/// time, or it was overtaken.
async fn summarize(tables: &Tables, key: &TaskKey) -> Result<bool, StoreError> {
    let action = "sum up points";
    let failed = || StoreError::database(action);
    let state = tables.state(key).await?;
    let rows = tables.log(key, (state.summarized, i64::MAX), BITE).await?;
    let (Some(last), Some(newest)) = (rows.last(), rows.iter().map(|row| row.at).max()) else {
        return Ok(false);
    };
    let (until, is_full) = (last.seq, is_bite(&rows));
    let summaries = blocking(move || sum_up(&rows)).await?;

    let mut transaction = tables.begin(action).await?;
    let moved = sqlx::query(
        "insert into point_state (workspace, task, summarized, compacted, deleted)
         values ($1, $2, $3, 0, 0)
         on conflict (workspace, task) do update set summarized = excluded.summarized
            where point_state.summarized = $4",
    )
    .bind(&key.workspace)
    .bind(&key.task)
    .bind(until)
    .bind(state.summarized)
    .execute(&mut *transaction)
    .await
    .map_err(failed())?;
    if moved.rows_affected() == 0 {
        return Ok(true);
    }
    let told = summaries
        .iter()
        .filter(|((title, _), _)| !is_of_the_machine(title));
    let last_step = told.map(|(_, summary)| summary.last.0).max();
    let summaries: Vec<_> = summaries.into_iter().collect();
    let (whole, rest) = summaries.as_chunks::<ROWS>();
    for rows in whole {
        write_summaries(&mut transaction, key, rows)
            .await
            .map_err(failed())?;
    }
    for rows in rest.chunks(8) {
        write_summaries(&mut transaction, key, rows)
            .await
            .map_err(failed())?;
    }
    sqlx::query(
        "update task
            set last_iteration = case when last_iteration < $1 then $1 else last_iteration end,
                last_update = case when last_update < $2 then $2 else last_update end
          where workspace = $3 and id = $4",
    )
    .bind(bigint(last_step.unwrap_or(0)))
    .bind(newest)
    .bind(&key.workspace)
    .bind(&key.task)
    .execute(&mut *transaction)
    .await
    .map_err(failed())?;
    transaction.commit().await.map_err(failed())?;
    Ok(is_full)
}

fn is_bite(rows: &[LogRow]) -> bool {
    rows.iter().map(|row| row.frame.len()).sum::<usize>() >= BITE
}

fn sum_up(rows: &[LogRow]) -> Result<Summaries, StoreError> {
    let mut summaries = HashMap::new();
    for row in rows {
        let frame = decode_row(&row.frame)?;
        for curve in frame.curves() {
            let Some(more) = Summary::of(curve.points) else {
                continue;
            };
            // Looked up by borrowed names would need a key type of its own; rows are few.
            summaries
                .entry((curve.title.to_owned(), curve.series.to_owned()))
                .and_modify(|summary: &mut Summary| *summary = summary.and(&more))
                .or_insert(more);
        }
    }
    Ok(summaries.into_iter().collect())
}

async fn write_summaries(
    transaction: &mut Tx,
    key: &TaskKey,
    rows: &[((String, String), Summary)],
) -> Result<(), sqlx::Error> {
    let statement = format!(
        "insert into series (workspace, task, title, series, point_count,
                             last_value, last_iteration, min_value, min_iteration,
                             max_value, max_iteration)
         values {}
         on conflict (workspace, task, title, series) do update set
            point_count = series.point_count + excluded.point_count,
            last_value = case when excluded.last_iteration >= series.last_iteration
                then excluded.last_value else series.last_value end,
            last_iteration = case when excluded.last_iteration >= series.last_iteration
                then excluded.last_iteration else series.last_iteration end,
            min_iteration = case
                when series.min_value is null
                  or excluded.min_value < series.min_value
                  or (excluded.min_value = series.min_value
                      and excluded.min_iteration < series.min_iteration)
                then excluded.min_iteration else series.min_iteration end,
            min_value = case when series.min_value is null
                  or excluded.min_value < series.min_value
                then excluded.min_value else series.min_value end,
            max_iteration = case
                when series.max_value is null
                  or excluded.max_value > series.max_value
                  or (excluded.max_value = series.max_value
                      and excluded.max_iteration < series.max_iteration)
                then excluded.max_iteration else series.max_iteration end,
            max_value = case when series.max_value is null
                  or excluded.max_value > series.max_value
                then excluded.max_value else series.max_value end",
        placeholders(rows.len(), 11)
    );
    let mut query = sqlx::query(AssertSqlSafe(statement));
    for ((title, series), summary) in rows {
        query = query
            .bind(&key.workspace)
            .bind(&key.task)
            .bind(title)
            .bind(series)
            .bind(bigint(summary.count));
        query = bind_real(query, Some(summary.last.1)).bind(bigint(summary.last.0));
        for extreme in [summary.min, summary.max] {
            query = bind_real(query, extreme.map(|(_, value)| value))
                .bind(extreme.map_or(0, |(step, _)| bigint(step)));
        }
    }
    query.execute(&mut **transaction).await?;
    Ok(())
}

/// What is known of a chunk without reading it.
#[derive(Debug, Clone, Copy, sqlx::FromRow)]
struct ChunkHead {
    id: i64,
    first_step: i64,
    last_step: i64,
    point_count: i64,
}

/// Chunks to be written, and those whose place they take.
#[derive(Debug, Default)]
struct Change {
    /// How far the log was moved into chunks when the work began.
    from: i64,
    delete: Vec<i64>,
    insert: Vec<NewChunk>,
    bytes: usize,
}

#[derive(Debug)]
struct NewChunk {
    title: String,
    series: String,
    first_step: i64,
    last_step: i64,
    point_count: i64,
    buckets: Vec<u8>,
    content: Vec<u8>,
}

/// Another server has changed what was read: the work is to be done anew.
#[derive(Debug)]
struct Overtaken;

/// Moves rows of the log into chunks; returns whether there was more than it takes at a time,
/// or it was overtaken.
async fn compact(tables: &Tables, key: &TaskKey) -> Result<bool, StoreError> {
    while summarize(tables, key).await? {}
    let state = tables.state(key).await?;
    let range = (state.compacted, state.summarized);
    let rows = tables.log(key, range, BITE).await?;
    let Some(until) = rows.last().map(|row| row.seq) else {
        return Ok(false);
    };
    let is_full = is_bite(&rows);
    let curves = blocking(move || collect(&rows)).await?;
    let mut change = Change {
        from: state.compacted,
        ..Change::default()
    };
    for ((title, series), points) in curves {
        let names = (title.as_str(), series.as_str());
        if let Err(Overtaken) = merge_curve(tables, key, names, points, &mut change).await? {
            return Ok(true);
        }
    }
    let applied = apply(tables, key, &mut change, Some(until)).await?;
    Ok(is_full || applied.is_err())
}

/// The settled points of each curve in the log.
fn collect(rows: &[LogRow]) -> Result<BTreeMap<(String, String), Points>, StoreError> {
    let mut curves: BTreeMap<(String, String), Points> = BTreeMap::new();
    for row in rows {
        for curve in decode_row(&row.frame)?.curves() {
            let names = (curve.title.to_owned(), curve.series.to_owned());
            curves.entry(names).or_default().extend(curve.points);
        }
    }
    for points in curves.values_mut() {
        *points = std::mem::take(points).settle();
    }
    Ok(curves)
}

/// Merges settled points into the chunks of a curve.
///
/// Points that follow all others become chunks of their own. They take the chunks before
/// them in as long as those are not full and not twice as long as what has come together:
/// each point is thus rewritten a few times at most, and few chunks are short. Points that
/// belong between others are merged into the chunks they belong to; the others stay as they
/// are. Merging the same points twice changes nothing, so that what is written on the way
/// needs no undoing.
async fn merge_curve(
    tables: &Tables,
    key: &TaskKey,
    (title, series): (&str, &str),
    points: Points,
    change: &mut Change,
) -> Result<Result<(), Overtaken>, StoreError> {
    let Some(first) = points.view().steps().first().copied() else {
        return Ok(Ok(()));
    };
    let mut touched: Vec<ChunkHead> = Vec::new(); // the last one first
    let mut absorbed = bigint(points.len() as u64);
    let mut before = i64::MAX;
    'look: loop {
        let heads = chunk_heads(tables, key, (title, series), before).await?;
        for head in &heads {
            if head.last_step >= bigint(first) {
                touched.push(*head);
                continue;
            }
            let overlaps = touched.iter().any(|other| other.last_step >= bigint(first));
            let is_short =
                head.point_count < bigint(CHUNK_POINTS as u64) && head.point_count <= 2 * absorbed;
            if overlaps || !is_short {
                break 'look;
            }
            absorbed += head.point_count;
            touched.push(*head);
        }
        match heads.last() {
            Some(last) if heads.len() as i64 == LOOK_CHUNKS => before = last.first_step,
            _ => break,
        }
    }
    touched.reverse();
    let overlaps = touched
        .last()
        .is_some_and(|last| last.last_step >= bigint(first));

    if !overlaps {
        let mut all = Points::default();
        for head in &touched {
            all.extend(read_chunk(tables, head.id).await?.view());
            change.delete.push(head.id);
        }
        all.extend(points.view());
        change.add(cut((title, series), all).await?);
        return Ok(Ok(()));
    }

    let view = points.view();
    let steps = view.steps();
    let mut done = 0;
    for (place, head) in touched.iter().enumerate() {
        let is_last = place + 1 == touched.len();
        let until = if is_last {
            steps.len() // what comes after the last chunk belongs to it
        } else {
            steps.partition_point(|step| bigint(*step) <= head.last_step)
        };
        if until == done {
            continue;
        }
        let old = read_chunk(tables, head.id).await?;
        let merged = Points::merge(old.view(), points.range(done..until));
        done = until;
        change.delete.push(head.id);
        change.add(cut((title, series), merged).await?);
        if change.bytes > CHANGE_BYTES
            && let Err(overtaken) = apply(tables, key, change, None).await?
        {
            return Ok(Err(overtaken));
        }
    }
    Ok(Ok(()))
}

impl Change {
    fn add(&mut self, chunks: Vec<NewChunk>) {
        self.bytes += chunks
            .iter()
            .map(|chunk| chunk.content.len())
            .sum::<usize>();
        self.insert.extend(chunks);
    }
}

/// The points as chunks, all full but the last.
async fn cut((title, series): (&str, &str), points: Points) -> Result<Vec<NewChunk>, StoreError> {
    let (title, series) = (title.to_owned(), series.to_owned());
    blocking(move || {
        let view = points.view();
        let starts = (0..points.len()).step_by(CHUNK_POINTS);
        let chunk = |start: usize| {
            let part = view.range(start..points.len().min(start + CHUNK_POINTS));
            let mut buckets = Vec::new();
            buckets_of(part, &mut buckets);
            let step = |step: Option<&u64>| bigint(step.copied().unwrap_or(0));
            NewChunk {
                title: title.clone(),
                series: series.clone(),
                first_step: step(part.steps().first()),
                last_step: step(part.steps().last()),
                point_count: bigint(part.len() as u64),
                buckets: encode_buckets(&buckets),
                content: chunk::encode(part),
            }
        };
        Ok(starts.map(chunk).collect())
    })
    .await
}

/// The chunks of a curve that begin before the step `before`, the last one first.
async fn chunk_heads(
    tables: &Tables,
    key: &TaskKey,
    (title, series): (&str, &str),
    before: i64,
) -> Result<Vec<ChunkHead>, StoreError> {
    sqlx::query_as(
        "select id, first_step, last_step, point_count from chunk
          where workspace = $1 and task = $2 and title = $3 and series = $4
            and first_step < $5
          order by first_step desc limit $6",
    )
    .bind(&key.workspace)
    .bind(&key.task)
    .bind(title)
    .bind(series)
    .bind(before)
    .bind(LOOK_CHUNKS)
    .fetch_all(&tables.reader)
    .await
    .map_err(StoreError::database("look at the chunks of a curve"))
}

async fn read_chunk(tables: &Tables, id: i64) -> Result<Points, StoreError> {
    let action = "read a chunk of a curve";
    let content: Option<(Vec<u8>,)> = sqlx::query_as("select content from chunk where id = $1")
        .bind(id)
        .fetch_optional(&tables.reader)
        .await
        .map_err(StoreError::database(action))?;
    // A chunk that another server has replaced: what is made without it is not kept.
    let Some((content,)) = content else {
        return Ok(Points::default());
    };
    chunk::decode(&content).map_err(StoreError::damaged(action))
}

/// Writes chunks in the place of others, and with `until` says that the log's rows up to that
/// number are in chunks.
async fn apply(
    tables: &Tables,
    key: &TaskKey,
    change: &mut Change,
    until: Option<i64>,
) -> Result<Result<(), Overtaken>, StoreError> {
    let action = "write chunks";
    let failed = || StoreError::database(action);
    let next = Change {
        from: change.from,
        ..Change::default()
    };
    let change = std::mem::replace(change, next);
    let mut transaction = tables.begin(action).await?;
    let moved = sqlx::query(
        "update point_state set compacted = $1
          where workspace = $2 and task = $3 and compacted = $4",
    )
    .bind(until.unwrap_or(change.from))
    .bind(&key.workspace)
    .bind(&key.task)
    .bind(change.from)
    .execute(&mut *transaction)
    .await
    .map_err(failed())?;
    if moved.rows_affected() == 0 {
        return Ok(Err(Overtaken));
    }
    for id in &change.delete {
        let deleted = sqlx::query("delete from chunk where id = $1")
            .bind(*id)
            .execute(&mut *transaction)
            .await
            .map_err(failed())?;
        if deleted.rows_affected() == 0 {
            return Ok(Err(Overtaken));
        }
    }
    for chunk in &change.insert {
        sqlx::query(
            "insert into chunk (workspace, task, title, series, first_step, last_step,
                                point_count, buckets, content)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .bind(&key.workspace)
        .bind(&key.task)
        .bind(&chunk.title)
        .bind(&chunk.series)
        .bind(chunk.first_step)
        .bind(chunk.last_step)
        .bind(chunk.point_count)
        .bind(chunk.buckets.as_slice())
        .bind(chunk.content.as_slice())
        .execute(&mut *transaction)
        .await
        .map_err(failed())?;
    }
    if let Some(until) = until {
        sqlx::query("delete from point_log where workspace = $1 and task = $2 and seq <= $3")
            .bind(&key.workspace)
            .bind(&key.task)
            .bind(until)
            .execute(&mut *transaction)
            .await
            .map_err(failed())?;
    }
    transaction.commit().await.map_err(failed())?;
    Ok(Ok(()))
}

/// Runs long arithmetic where it keeps nobody waiting.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(StoreError::Unavailable {
            action: "work on points",
            source: error.into(),
        }),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
