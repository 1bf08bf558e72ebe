//! Points of curves: how they come in, how they are kept, how they are read.
//!
//! A batch becomes a row of `point_log`, a frame as `trainshed_series` has it, and is
//! acknowledged once that is committed: `ingest.rs`. In the background, and before anything
//! that needs it is read, log rows are summed up in `series` and moved into `chunk`:
//! `upkeep.rs`. How far that has come is a number for each task (`point_state`), which moves
//! only from what it was, so that any number of servers may try. A read puts the log's rows
//! over the chunks: `curves.rs`. Nothing is kept in memory that the tables do not have.

pub(crate) mod curves;
mod expire;
pub(crate) mod ingest;
mod legacy;
pub(crate) mod upkeep;

use futures::TryStreamExt as _;
use sqlx::any::AnyArguments;
use sqlx::query::Query;
use sqlx::{Any, AnyPool, Transaction};
use trainshed_core::TaskId;
use trainshed_series::Frame;

use crate::database::Kind;
use crate::error::StoreError;
use crate::workspace::Workspace;

/// Most curves, and most single values, of one task: enough for every layer of a large
/// model, few enough to list.
pub const MAX_SERIES: u64 = 10_000;

/// A task, as a key of maps.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct TaskKey {
    pub(crate) workspace: String,
    pub(crate) task: String,
}

impl TaskKey {
    pub(crate) fn new(workspace: &Workspace, task: &TaskId) -> Self {
        Self {
            workspace: workspace.as_str().to_owned(),
            task: task.as_str().to_owned(),
        }
    }
}

/// The database, without the rest of the store.
#[derive(Debug, Clone)]
pub(crate) struct Tables {
    pub(crate) kind: Kind,
    pub(crate) writer: AnyPool,
    pub(crate) reader: AnyPool,
}

/// How far the points of a task have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, sqlx::FromRow)]
pub(crate) struct PointState {
    /// Log rows up to this one are in the summaries.
    pub(crate) summarized: i64,
    /// Log rows up to this one are in chunks, and gone.
    pub(crate) compacted: i64,
    /// How often the points were deleted.
    pub(crate) deleted: i64,
}

/// A batch in the log.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct LogRow {
    pub(crate) seq: i64,
    pub(crate) at: i64,
    pub(crate) frame: Vec<u8>,
}

impl Tables {
    /// How far the points of a task have come; nowhere while it has none.
    pub(crate) async fn state(&self, key: &TaskKey) -> Result<PointState, StoreError> {
        let state = sqlx::query_as(
            "select summarized, compacted, deleted from point_state
              where workspace = $1 and task = $2",
        )
        .bind(&key.workspace)
        .bind(&key.task)
        .fetch_optional(&self.reader)
        .await
        .map_err(StoreError::database("look at the points of a task"))?;
        Ok(state.unwrap_or_default())
    }

    /// The rows of a task's log after `after` and up to `until`, the oldest first, and no
    /// more once they have `most_bytes`.
    pub(crate) async fn log(
        &self,
        key: &TaskKey,
        (after, until): (i64, i64),
        most_bytes: usize,
    ) -> Result<Vec<LogRow>, StoreError> {
        let mut found = sqlx::query_as::<_, LogRow>(
            "select seq, at, frame from point_log
              where workspace = $1 and task = $2 and seq > $3 and seq <= $4 order by seq",
        )
        .bind(&key.workspace)
        .bind(&key.task)
        .bind(after)
        .bind(until)
        .fetch(&self.reader);
        let mut rows = Vec::new();
        let mut bytes = 0;
        while bytes < most_bytes
            && let Some(row) = found
                .try_next()
                .await
                .map_err(StoreError::database("read the log of points"))?
        {
            bytes += row.frame.len();
            rows.push(row);
        }
        Ok(rows)
    }
}

/// The points of a batch in the log.
pub(crate) fn decode_row(frame: &[u8]) -> Result<Frame<'_>, StoreError> {
    let damaged = "read the log of points";
    if legacy::is_legacy(frame) {
        return legacy::decode(frame).map_err(StoreError::damaged(damaged));
    }
    Frame::decode(frame).map_err(StoreError::damaged(damaged))
}

/// Deletes all points of a task, whether in the log or in chunks, and their summaries. What
/// is in work at this moment comes to nothing, because the task's state has moved.
pub(crate) async fn delete_points(
    transaction: &mut Transaction<'static, Any>,
    key: &TaskKey,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into point_state (workspace, task, summarized, compacted, deleted)
         select $1, $2, newest, newest, 1
           from (select coalesce(max(seq), 0) as newest from point_log) as log
          where true
         on conflict (workspace, task) do update
            set summarized = excluded.summarized, compacted = excluded.compacted,
                deleted = point_state.deleted + 1",
    )
    .bind(&key.workspace)
    .bind(&key.task)
    .execute(&mut **transaction)
    .await?;
    for statement in [
        "delete from point_log where workspace = $1 and task = $2",
        "delete from chunk where workspace = $1 and task = $2",
        "delete from series where workspace = $1 and task = $2",
        "delete from single where workspace = $1 and task = $2",
        "delete from batch_key where workspace = $1 and task = $2",
    ] {
        sqlx::query(statement)
            .bind(&key.workspace)
            .bind(&key.task)
            .execute(&mut **transaction)
            .await?;
    }
    Ok(())
}

/// The placeholders of `rows` rows of `columns` columns: `($1,$2),($3,$4)`.
pub(crate) fn placeholders(rows: usize, columns: usize) -> String {
    let row = |row: usize| {
        let numbers = (1..=columns).map(|column| format!("${}", row * columns + column));
        format!("({})", numbers.collect::<Vec<_>>().join(","))
    };
    (0..rows).map(row).collect::<Vec<_>>().join(",")
}

/// Binds a measured value, or null. SQLite has no NaN; null stands for it in every database.
///
/// sqlx 0.9 tells PostgreSQL that a missing 64-bit float is one of 32 bits, and the other way
/// round; a statement that was prepared for one does not take the other.
pub(crate) fn bind_real<'q>(
    query: Query<'q, Any, AnyArguments>,
    value: Option<f64>,
) -> Query<'q, Any, AnyArguments> {
    match value.filter(|value| !value.is_nan()) {
        Some(value) => query.bind(value),
        None => query.bind(None::<f32>),
    }
}
