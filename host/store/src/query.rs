//! Finding tasks, models, data sets and projects by a query of `trainshed_core::query`.
//!
//! A query becomes one statement that gives ids in order, and what is wanted of them is read
//! by their ids. `sql.rs` writes the statements, `source.rs` says where fields are.

mod cells;
mod cursor;
mod resolve;
mod source;
mod sql;

use sqlx::Row as _;
use sqlx::any::AnyRow;
use trainshed_core::query::{Direction, Entity, Query};

use crate::database::Store;
use crate::error::StoreError;
use crate::task::{BadCursor, QueryError};
use crate::workspace::Workspace;

use cursor::{Cursor, KeyValue};
use source::{Key, KeyKind, table};
use sql::Statement;

/// Which part of a list is wanted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Part<'a> {
    /// At most so many.
    pub limit: u32,
    /// The `next` of the part before.
    pub after: Option<&'a str>,
    /// How many to leave out, from the beginning or from `after` on.
    pub skip: u64,
    /// Whether to count all that fit the query.
    pub with_total: bool,
}

/// What a query found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// In the order of the query. Ids that are numbers are written in digits.
    pub ids: Vec<String>,
    /// Where the list goes on; `None` at its end.
    pub next: Option<String>,
    /// All that fit the query, if that was asked for.
    pub total: Option<u64>,
}

/// Which rows a statement reads: those whose first key is there, or those in which it is
/// missing, which come last. Two statements can each use an index where one for both cannot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    All,
    Present,
    Missing,
}

impl Store {
    /// Finds what fits `query`, in its order.
    ///
    /// Parts that are asked for with `after` give everything once, as long as nothing changes:
    /// a cursor says which values the last one had, not how many came before.
    ///
    /// # Errors
    /// When `after` is not the `next` of a part of a query with the same order.
    pub async fn find(
        &self,
        workspace: &Workspace,
        entity: Entity,
        query: &Query,
        part: Part<'_>,
    ) -> Result<Found, QueryError> {
        let action = "find what fits a query";
        let failed = |error| QueryError::Store(StoreError::database(action)(error));
        let settled = self.settle_summaries(None).await;
        settled.map_err(QueryError::Store)?;
        let query = self.resolve(workspace, entity, query).await;
        let query = query.map_err(QueryError::Store)?;
        let cursor = part.after.map(|text| Cursor::read(text, &query.keys));
        let cursor = match cursor {
            Some(None) => {
                let text = part.after.unwrap_or_default();
                return Err(BadCursor(text.chars().take(80).collect()).into());
            }
            Some(Some(cursor)) => Some(cursor),
            None => None,
        };
        let phases: &[Phase] = match (query.keys.first(), &cursor) {
            (Some(key), _) if !key.nullable => &[Phase::All],
            (None, _) => &[Phase::All],
            (Some(_), Some(cursor)) if cursor.values[0] == KeyValue::Missing => &[Phase::Missing],
            (Some(_), _) => &[Phase::Present, Phase::Missing],
        };
        let few = self.few(workspace, &query).await;
        let few = few.map_err(QueryError::Store)?;
        let limit = usize::try_from(part.limit).unwrap_or(usize::MAX);
        // One more than wanted tells whether the list goes on.
        let (mut wanted, mut skip) = (u64::from(part.limit) + 1, part.skip);
        let mut rows: Vec<Cursor> = Vec::new();
        for (index, phase) in phases.iter().enumerate() {
            let after = cursor.as_ref().filter(|_| index == 0);
            let statement = Statement::page(
                self.kind,
                workspace,
                &query,
                few,
                (*phase, after),
                (wanted, skip),
            );
            let found = statement.fetch_all(&self.reader).await.map_err(failed)?;
            wanted -= found.len() as u64;
            if found.is_empty() && skip > 0 && index + 1 < phases.len() {
                let count = Statement::count(self.kind, workspace, &query, few, (*phase, after));
                let count = count.fetch_all(&self.reader).await.map_err(failed)?;
                skip = skip.saturating_sub(number(&count).map_err(failed)?);
            } else {
                skip = 0;
            }
            for row in &found {
                rows.push(position(row, &query.keys, entity, *phase).map_err(failed)?);
            }
            if wanted == 0 {
                break;
            }
        }
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = rows
            .last()
            .filter(|_| more)
            .map(|last| last.write(&query.keys));
        let total = match part.with_total {
            true => {
                let count = Statement::count(self.kind, workspace, &query, few, (Phase::All, None));
                let count = count.fetch_all(&self.reader).await.map_err(failed)?;
                Some(number(&count).map_err(failed)?)
            }
            false => None,
        };
        Ok(Found {
            ids: rows.into_iter().map(|row| row.id).collect(),
            next,
            total,
        })
    }
}

/// A query with everything in it that one statement can do.
struct Resolved {
    entity: Entity,
    filter: resolve::Node,
    keys: Vec<Key>,
    /// Of the id, which decides last.
    direction: Direction,
}

/// The place of a row in the order: its id, then its keys.
fn position(
    row: &AnyRow,
    keys: &[Key],
    entity: Entity,
    phase: Phase,
) -> Result<Cursor, sqlx::Error> {
    let id = match table(entity).has_number_ids {
        true => row.try_get::<i64, _>(0)?.to_string(),
        false => row.try_get(0)?,
    };
    let mut values = Vec::new();
    // The statement for what is missing does not give the key that is.
    let given = usize::from(phase == Phase::Missing);
    if phase == Phase::Missing {
        values.push(KeyValue::Missing);
    }
    for (index, key) in keys.iter().enumerate().skip(given) {
        let column = 1 + index - given;
        let value = match key.kind {
            KeyKind::Text => row
                .try_get::<Option<String>, _>(column)?
                .map(KeyValue::Text),
            KeyKind::Integer => row
                .try_get::<Option<i64>, _>(column)?
                .map(KeyValue::Integer),
            KeyKind::Real => row.try_get::<Option<f64>, _>(column)?.map(KeyValue::Real),
        };
        values.push(value.unwrap_or(KeyValue::Missing));
    }
    Ok(Cursor { id, values })
}

fn number(rows: &[AnyRow]) -> Result<u64, sqlx::Error> {
    let count: i64 = rows.first().ok_or(sqlx::Error::RowNotFound)?.try_get(0)?;
    Ok(crate::file::unsigned(count))
}
