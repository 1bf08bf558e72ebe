//! Reading curves: pages of all their points, and samples for charts.
//!
//! What is still in the log lies over what is in chunks: merging settles which point of a
//! step holds. The log's points of tasks that are looked at stay in memory, so that a chart
//! that follows a running task does not read the whole log each time.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex};

use futures::TryStreamExt as _;
use trainshed_core::TaskId;
use trainshed_series::{
    Bucket, Points, PointsView, Sampled, Sampling, buckets_of, chunk, decode_buckets,
    sample_buckets, sample_points,
};

use crate::database::Store;
use crate::error::StoreError;
use crate::file::{bigint, unsigned};
use crate::points::upkeep::blocking;
use crate::points::{LogRow, PointState, Tables, TaskKey, decode_row};
use crate::workspace::Workspace;

/// Curves of no more points than this are read whole for a chart; of longer ones the buckets.
const EXACT_POINTS: u64 = 65_536;
/// Curves of no more points than this are read whole where samples are to be points.
const LTTB_POINTS: u64 = 1 << 20;
/// Where there are more buckets than this for each sample, those of a chunk are put together
/// as they are read.
const BUCKETS_PER_SAMPLE: u64 = 16;
/// Bytes of the log that are read at a time.
const BITE: usize = 8 << 20;
/// Bytes of the log's points that are kept in memory for all tasks.
const TAIL_BYTES: usize = 64 << 20;
/// Bytes of the extra data of one page, from which on it has no more points.
const PAGE_EXTRA_BYTES: usize = 4 << 20;
/// How often a read begins anew because points were moved while it went on.
const ATTEMPTS: u32 = 10;

/// Points of a curve by step, and where to go on.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CurvePage {
    /// Settled.
    pub points: Points,
    /// The step at which the next page begins.
    pub next: Option<u64>,
}

/// Which samples of a curve are wanted.
#[derive(Debug, Clone)]
pub struct SampleQuery {
    /// At most so many; cut to `trainshed_series::MAX_SAMPLES`.
    pub most: usize,
    /// How samples stand for points where not all fit. Curves of more than a million points
    /// have means whatever is asked for.
    pub sampling: Sampling,
    /// Of the points with these steps.
    pub steps: RangeInclusive<u64>,
}

impl Default for SampleQuery {
    fn default() -> Self {
        Self {
            most: trainshed_series::MAX_SAMPLES,
            sampling: Sampling::Mean,
            steps: 0..=u64::MAX,
        }
    }
}

/// The log's points of the tasks that are looked at.
#[derive(Debug, Default)]
pub(crate) struct Tails {
    tails: Mutex<HashMap<TaskKey, Kept>>,
}

#[derive(Debug, Default)]
struct Kept {
    /// Grows with every use.
    used: u64,
    bytes: usize,
    tail: Arc<tokio::sync::Mutex<Tail>>,
}

/// The points of a task that are in the log.
#[derive(Debug, Default)]
struct Tail {
    state: PointState,
    /// The last row that is here.
    until: i64,
    /// Settled.
    curves: HashMap<(String, String), Points>,
}

impl Store {
    /// At most `most` points of one curve, from the step `from` on; fewer when they come with
    /// much extra data. Empty when there is no such curve.
    ///
    /// # Errors
    /// When the database does not answer, or what is stored is damaged.
    pub async fn points(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        (title, series): (&str, &str),
        from: u64,
        most: usize,
    ) -> Result<CurvePage, StoreError> {
        let key = TaskKey::new(workspace, task);
        let curve = (title.to_owned(), series.to_owned());
        let reader = Reader {
            tables: self.tables(),
            key: &key,
        };
        let cell = self.ingest.tails.cell(&key);
        let mut tail = cell.lock().await;
        for _ in 0..ATTEMPTS {
            tail.refresh(&reader.tables, &key).await?;
            let empty = Points::default();
            let points = tail.curves.get(&curve).unwrap_or(&empty);
            let page = reader.page(&curve, points, from, most.max(1)).await?;
            if self.is_steady(&key, &tail).await? {
                return Ok(page);
            }
        }
        Err(unsteady())
    }

    /// Samples of one curve. Empty when there is no such curve.
    ///
    /// # Errors
    /// When the database does not answer, or what is stored is damaged.
    pub async fn sample(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        (title, series): (&str, &str),
        query: &SampleQuery,
    ) -> Result<Sampled, StoreError> {
        let curves = [(title.to_owned(), series.to_owned())];
        let mut sampled = self.sample_curves(workspace, task, &curves, query).await?;
        Ok(sampled.pop().unwrap_or_default())
    }

    /// Samples of several curves of a task, in the order of `curves`.
    ///
    /// # Errors
    /// When the database does not answer, or what is stored is damaged.
    pub async fn sample_curves(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        curves: &[(String, String)],
        query: &SampleQuery,
    ) -> Result<Vec<Sampled>, StoreError> {
        let key = TaskKey::new(workspace, task);
        let reader = Reader {
            tables: self.tables(),
            key: &key,
        };
        let cell = self.ingest.tails.cell(&key);
        let mut tail = cell.lock().await;
        for _ in 0..ATTEMPTS {
            tail.refresh(&reader.tables, &key).await?;
            let mut sampled = Vec::with_capacity(curves.len());
            for curve in curves {
                let mut points = Points::default();
                if let Some(all) = tail.curves.get(curve) {
                    points.extend(all.view().within(query.steps.clone()));
                }
                sampled.push(reader.sample(curve, points, query).await?);
            }
            if self.is_steady(&key, &tail).await? {
                return Ok(sampled);
            }
        }
        Err(unsteady())
    }

    /// A text that changes whenever the points of a task do.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn points_version(
        &self,
        workspace: &Workspace,
        task: &TaskId,
    ) -> Result<String, StoreError> {
        self.settle_summaries(Some((workspace, task))).await?;
        let state = self.tables().state(&TaskKey::new(workspace, task)).await?;
        Ok(format!("{:x}-{:x}", state.summarized, state.deleted))
    }

    /// Whether no points were moved or deleted since `tail` was brought up to the log: then
    /// what was read with it is right.
    async fn is_steady(&self, key: &TaskKey, tail: &Tail) -> Result<bool, StoreError> {
        let now = self.tables().state(key).await?;
        let is_steady = (now.compacted, now.deleted) == (tail.state.compacted, tail.state.deleted);
        if is_steady {
            self.ingest.tails.keep(key, tail.bytes());
        }
        Ok(is_steady)
    }
}

fn unsteady() -> StoreError {
    StoreError::Unavailable {
        action: "read a curve",
        source: "its points were moved again and again".into(),
    }
}

impl Tails {
    fn cell(&self, key: &TaskKey) -> Arc<tokio::sync::Mutex<Tail>> {
        let mut tails = self.lock();
        let used = tails.values().map(|kept| kept.used).max().unwrap_or(0) + 1;
        let kept = tails.entry(key.clone()).or_default();
        kept.used = used;
        kept.tail.clone()
    }

    /// Notes how long a tail is, and lets go of those that were not used for longest until
    /// all together are short enough.
    fn keep(&self, key: &TaskKey, bytes: usize) {
        let mut tails = self.lock();
        if let Some(kept) = tails.get_mut(key) {
            kept.bytes = bytes;
        }
        let mut total: usize = tails.values().map(|kept| kept.bytes).sum();
        while total > TAIL_BYTES || tails.len() > 1000 {
            let oldest = tails.iter().min_by_key(|(_, kept)| kept.used);
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else {
                return;
            };
            total -= tails.remove(&oldest).map_or(0, |kept| kept.bytes);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<TaskKey, Kept>> {
        self.tails
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Tail {
    /// Brings the tail up to the log.
    async fn refresh(&mut self, tables: &Tables, key: &TaskKey) -> Result<(), StoreError> {
        for _ in 0..ATTEMPTS {
            let state = tables.state(key).await?;
            let known = (self.state.compacted, self.state.deleted);
            if (state.compacted, state.deleted) != known {
                *self = Self {
                    until: state.compacted,
                    ..Self::default()
                };
            }
            self.state = state;
            loop {
                let rows = tables.log(key, (self.until, i64::MAX), BITE).await?;
                let Some(last) = rows.last() else { break };
                let until = last.seq;
                let curves = std::mem::take(&mut self.curves);
                self.curves = blocking(move || overlay(curves, &rows)).await?;
                self.until = until;
            }
            // Rows that went between the two looks would be missing.
            let now = tables.state(key).await?;
            if (now.compacted, now.deleted) == (state.compacted, state.deleted) {
                return Ok(());
            }
        }
        Ok(())
    }

    fn bytes(&self) -> usize {
        let curve = |((title, series), points): (&(String, String), &Points)| {
            title.len() + series.len() + points.memory_bytes() + 200
        };
        self.curves.iter().map(curve).sum()
    }
}

/// Puts the points of log rows over settled ones.
fn overlay(
    mut curves: HashMap<(String, String), Points>,
    rows: &[LogRow],
) -> Result<HashMap<(String, String), Points>, StoreError> {
    let mut fresh: HashMap<(String, String), Points> = HashMap::new();
    for row in rows {
        for curve in decode_row(&row.frame)?.curves() {
            let names = (curve.title.to_owned(), curve.series.to_owned());
            fresh.entry(names).or_default().extend(curve.points);
        }
    }
    for (names, points) in fresh {
        let points = points.settle();
        let known = curves.entry(names).or_default();
        let last = known.view().steps().last().copied();
        if last.is_none_or(|last| {
            points
                .view()
                .steps()
                .first()
                .is_some_and(|first| *first > last)
        }) {
            known.extend(points.view());
        } else {
            *known = Points::merge(known.view(), points.view());
        }
    }
    Ok(curves)
}

/// How many of the points come with no more extra data than a page has; one at least.
fn fitting(points: PointsView<'_>) -> usize {
    let mut bytes = 0;
    let too_many = points.extras().find(|(_, extra)| {
        bytes += extra.len();
        bytes > PAGE_EXTRA_BYTES
    });
    too_many.map_or(points.len(), |(index, _)| index).max(1)
}

/// Reads the chunks of one task.
struct Reader<'a> {
    tables: Tables,
    key: &'a TaskKey,
}

#[derive(sqlx::FromRow)]
struct BucketRow {
    id: i64,
    first_step: i64,
    last_step: i64,
    buckets: Vec<u8>,
}

type Names = (String, String);

impl Reader<'_> {
    async fn page(
        &self,
        curve: &Names,
        tail: &Points,
        from: u64,
        most: usize,
    ) -> Result<CurvePage, StoreError> {
        let action = "read a curve";
        let mut contents = sqlx::query_as::<_, (Vec<u8>,)>(
            "select content from chunk
              where workspace = $1 and task = $2 and title = $3 and series = $4
                and last_step >= $5
              order by first_step",
        )
        .bind(&self.key.workspace)
        .bind(&self.key.task)
        .bind(&curve.0)
        .bind(&curve.1)
        .bind(bigint(from))
        .fetch(&self.tables.reader);
        let mut stored = Points::default();
        let mut is_all = true;
        let mut extra_bytes = 0;
        while let Some((content,)) = contents
            .try_next()
            .await
            .map_err(StoreError::database(action))?
        {
            let points = chunk::decode(&content).map_err(StoreError::damaged(action))?;
            let wanted = points.view().within(from..=u64::MAX);
            extra_bytes += wanted.extras().map(|(_, extra)| extra.len()).sum::<usize>();
            stored.extend(wanted);
            if stored.len() > most || extra_bytes > PAGE_EXTRA_BYTES {
                is_all = false;
                break;
            }
        }
        drop(contents);
        // Beyond what was read of the chunks, the tail's points may have others before them.
        let until = match stored.view().steps().last() {
            Some(last) if !is_all => *last,
            _ => u64::MAX,
        };
        let mut points = Points::merge(stored.view(), tail.view().within(from..=until));
        let most = most.min(fitting(points.view()));
        let mut next = points.view().steps().get(most).copied();
        if points.len() > most {
            points = points.split_front(most);
        } else if !is_all {
            next = until.checked_add(1);
        }
        Ok(CurvePage { points, next })
    }

    async fn sample(
        &self,
        curve: &Names,
        tail: Points,
        query: &SampleQuery,
    ) -> Result<Sampled, StoreError> {
        let (low, high) = (bigint(*query.steps.start()), bigint(*query.steps.end()));
        let (stored,): (i64,) = sqlx::query_as(
            "select cast(coalesce(sum(point_count), 0) as bigint) from chunk
              where workspace = $1 and task = $2 and title = $3 and series = $4
                and last_step >= $5 and first_step <= $6",
        )
        .bind(&self.key.workspace)
        .bind(&self.key.task)
        .bind(&curve.0)
        .bind(&curve.1)
        .bind(low)
        .bind(high)
        .fetch_one(&self.tables.reader)
        .await
        .map_err(StoreError::database("read a curve"))?;
        let count = unsigned(stored) + tail.len() as u64;
        let exact = match query.sampling {
            Sampling::Lttb => LTTB_POINTS,
            Sampling::Mean | Sampling::Exact => EXACT_POINTS,
        };
        if stored == 0 {
            return Ok(sample_points(tail.view(), query.most, query.sampling));
        }
        if count <= exact {
            return self.sample_exact(curve, tail, query).await;
        }
        self.sample_buckets(curve, tail, query, count).await
    }

    async fn sample_exact(
        &self,
        curve: &Names,
        tail: Points,
        query: &SampleQuery,
    ) -> Result<Sampled, StoreError> {
        let action = "read a curve";
        let contents: Vec<(Vec<u8>,)> = sqlx::query_as(
            "select content from chunk
              where workspace = $1 and task = $2 and title = $3 and series = $4
                and last_step >= $5 and first_step <= $6
              order by first_step",
        )
        .bind(&self.key.workspace)
        .bind(&self.key.task)
        .bind(&curve.0)
        .bind(&curve.1)
        .bind(bigint(*query.steps.start()))
        .bind(bigint(*query.steps.end()))
        .fetch_all(&self.tables.reader)
        .await
        .map_err(StoreError::database(action))?;
        let query = query.clone();
        blocking(move || {
            let mut stored = Points::default();
            for (content,) in contents {
                let points = chunk::decode(&content).map_err(StoreError::damaged(action))?;
                stored.extend(points.view().within(query.steps.clone()));
            }
            let points = if tail.is_empty() {
                stored
            } else {
                Points::merge(stored.view(), tail.view())
            };
            Ok(sample_points(points.view(), query.most, query.sampling))
        })
        .await
    }

    /// Samples of buckets. Of chunks that the log's points lie in, and of those at the edges
    /// of the window, the points themselves are read.
    async fn sample_buckets(
        &self,
        curve: &Names,
        tail: Points,
        query: &SampleQuery,
        count: u64,
    ) -> Result<Sampled, StoreError> {
        let action = "read the buckets of a curve";
        let most = query.most.clamp(1, trainshed_series::MAX_SAMPLES);
        let is_coarse =
            count / trainshed_series::BUCKET_POINTS as u64 > BUCKETS_PER_SAMPLE * most as u64;
        let mut rows = sqlx::query_as::<_, BucketRow>(
            "select id, first_step, last_step, buckets from chunk
              where workspace = $1 and task = $2 and title = $3 and series = $4
                and last_step >= $5 and first_step <= $6
              order by first_step",
        )
        .bind(&self.key.workspace)
        .bind(&self.key.task)
        .bind(&curve.0)
        .bind(&curve.1)
        .bind(bigint(*query.steps.start()))
        .bind(bigint(*query.steps.end()))
        .fetch(&self.tables.reader);
        let steps = tail.view().steps();
        let mut done = 0;
        let mut buckets: Vec<Bucket> = Vec::new();
        while let Some(row) = rows
            .try_next()
            .await
            .map_err(StoreError::database(action))?
        {
            let (first, last) = (unsigned(row.first_step), unsigned(row.last_step));
            let until = steps.partition_point(|step| *step <= last);
            let is_whole = query.steps.contains(&first) && query.steps.contains(&last);
            if is_whole && until == done {
                let known = decode_buckets(&row.buckets).ok_or_else(|| {
                    StoreError::damaged(action)(format!("the buckets of chunk {}", row.id))
                })?;
                match known.split_first() {
                    Some((first, rest)) if is_coarse => {
                        buckets.push(rest.iter().fold(*first, |all, next| all.and(next)));
                    }
                    _ => buckets.extend(known),
                }
            } else {
                let stored = self.read_chunk(row.id).await?;
                let stored = stored.view().within(query.steps.clone());
                let merged = Points::merge(stored, tail.range(done..until));
                let mut fresh = Vec::new();
                buckets_of(merged.view(), &mut fresh);
                buckets.extend(fresh);
            }
            done = until;
        }
        drop(rows);
        let mut fresh = Vec::new();
        buckets_of(tail.range(done..tail.len()), &mut fresh);
        buckets.extend(fresh);
        Ok(sample_buckets(&buckets, most))
    }

    async fn read_chunk(&self, id: i64) -> Result<Points, StoreError> {
        let action = "read a chunk of a curve";
        let content: Option<(Vec<u8>,)> = sqlx::query_as("select content from chunk where id = $1")
            .bind(id)
            .fetch_optional(&self.tables.reader)
            .await
            .map_err(StoreError::database(action))?;
        // A chunk that has gone was replaced, and the read begins anew.
        let Some((content,)) = content else {
            return Ok(Points::default());
        };
        chunk::decode(&content).map_err(StoreError::damaged(action))
    }
}
