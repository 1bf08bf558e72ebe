//! Reading what tasks reported: curves, single values, console lines, samples.

use futures::TryStreamExt as _;
use trainshed_core::report::{Line, Real, Sample};
use trainshed_core::view::{ConsoleLine, ConsolePage, SeriesSummary, SingleValue};
use trainshed_core::{TaskId, Timestamp};

use crate::database::Store;
use crate::error::StoreError;
use crate::file::{bigint, unsigned};
use crate::workspace::Workspace;

#[derive(sqlx::FromRow)]
struct SeriesRow {
    title: String,
    series: String,
    point_count: i64,
    last_value: Option<f64>,
    last_iteration: i64,
    min_value: Option<f64>,
    min_iteration: i64,
    max_value: Option<f64>,
    max_iteration: i64,
}

#[derive(sqlx::FromRow)]
struct SampleRow {
    category: String,
    sample_group: String,
    position: i64,
    sha256: String,
    size_bytes: i64,
    content_type: String,
    at: i64,
    extra: Option<String>,
}

#[derive(sqlx::FromRow)]
struct LinesRow {
    first_line: i64,
    lines: String,
}

impl Store {
    /// The summaries of all curves of a task, by title and series.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn series(
        &self,
        workspace: &Workspace,
        task: &TaskId,
    ) -> Result<Vec<SeriesSummary>, StoreError> {
        self.settle_summaries(Some((workspace, task))).await?;
        let rows: Vec<SeriesRow> = sqlx::query_as(
            "select title, series, point_count, last_value, last_iteration, min_value,
                    min_iteration, max_value, max_iteration
               from series where workspace = $1 and task = $2 order by title, series",
        )
        .bind(workspace.as_str())
        .bind(task.as_str())
        .fetch_all(&self.reader)
        .await
        .map_err(StoreError::database("list curves"))?;
        Ok(rows.into_iter().map(SeriesSummary::from).collect())
    }

    /// The single values of a task by name.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn singles(
        &self,
        workspace: &Workspace,
        task: &TaskId,
    ) -> Result<Vec<SingleValue>, StoreError> {
        let rows: Vec<(String, Option<f64>)> = sqlx::query_as(
            "select name, value from single where workspace = $1 and task = $2 order by name",
        )
        .bind(workspace.as_str())
        .bind(task.as_str())
        .fetch_all(&self.reader)
        .await
        .map_err(StoreError::database("list single values"))?;
        let view = |(name, value)| SingleValue {
            name,
            value: real(value),
        };
        Ok(rows.into_iter().map(view).collect())
    }

    /// At most `limit` lines of the console, from line number `first` on.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn console(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        first: u64,
        limit: u64,
    ) -> Result<ConsolePage, StoreError> {
        let action = "read the console";
        let total = self.console_length(workspace, task).await?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut rows = sqlx::query_as::<_, LinesRow>(
            "select first_line, lines from console
              where workspace = $1 and task = $2 and first_line + line_count > $3
              order by first_line",
        )
        .bind(workspace.as_str())
        .bind(task.as_str())
        .bind(bigint(first))
        .fetch(&self.reader);
        let mut lines: Vec<ConsoleLine> = Vec::new();
        while lines.len() < limit
            && let Some(row) = rows
                .try_next()
                .await
                .map_err(StoreError::database(action))?
        {
            let chunk: Vec<Line> =
                serde_json::from_str(&row.lines).map_err(StoreError::damaged(action))?;
            let numbered = (unsigned(row.first_line)..).zip(chunk);
            let wanted = numbered.filter(|(number, _)| *number >= first);
            let wanted = wanted.take(limit - lines.len());
            lines.extend(wanted.map(|(number, line)| ConsoleLine {
                number,
                source: line.source,
                text: line.text,
                at: line.at,
            }));
        }
        Ok(ConsolePage { lines, total })
    }

    /// The last `count` lines of the console.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn console_tail(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        count: u64,
    ) -> Result<ConsolePage, StoreError> {
        let total = self.console_length(workspace, task).await?;
        let first = total.saturating_sub(count);
        self.console(workspace, task, first, count).await
    }

    async fn console_length(
        &self,
        workspace: &Workspace,
        task: &TaskId,
    ) -> Result<u64, StoreError> {
        let (total,): (i64,) = sqlx::query_as(
            "select coalesce(max(first_line + line_count), 0) from console
              where workspace = $1 and task = $2",
        )
        .bind(workspace.as_str())
        .bind(task.as_str())
        .fetch_one(&self.reader)
        .await
        .map_err(StoreError::database("read the console"))?;
        Ok(unsigned(total))
    }

    /// The samples of a task by category, group and index.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn samples(
        &self,
        workspace: &Workspace,
        task: &TaskId,
    ) -> Result<Vec<Sample>, StoreError> {
        let rows: Vec<SampleRow> = sqlx::query_as(
            "select category, sample_group, position, sha256, size_bytes, content_type, at, extra
               from sample where workspace = $1 and task = $2 and kind = 'visualization'
              order by category, sample_group, position",
        )
        .bind(workspace.as_str())
        .bind(task.as_str())
        .fetch_all(&self.reader)
        .await
        .map_err(StoreError::database("list samples"))?;
        rows.into_iter().map(SampleRow::sample).collect()
    }
}

fn real(stored: Option<f64>) -> Real {
    Real(stored.unwrap_or(f64::NAN))
}

impl From<SeriesRow> for SeriesSummary {
    fn from(row: SeriesRow) -> Self {
        Self {
            title: row.title,
            series: row.series,
            count: unsigned(row.point_count),
            last: real(row.last_value),
            last_iteration: unsigned(row.last_iteration),
            min: real(row.min_value),
            min_iteration: unsigned(row.min_iteration),
            max: real(row.max_value),
            max_iteration: unsigned(row.max_iteration),
        }
    }
}

impl SampleRow {
    fn sample(self) -> Result<Sample, StoreError> {
        let action = "read a sample";
        Ok(Sample {
            category: self.category,
            group: self.sample_group,
            index: unsigned(self.position),
            sha256: self.sha256.parse().map_err(StoreError::damaged(action))?,
            size_bytes: unsigned(self.size_bytes),
            content_type: self.content_type,
            at: Timestamp(self.at),
            extra: self
                .extra
                .map(|extra| serde_json::from_str(&extra))
                .transpose()
                .map_err(StoreError::damaged(action))?,
        })
    }
}
