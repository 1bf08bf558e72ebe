//! Reading what tasks reported: curves and single values.

use trainshed_core::TaskId;
use trainshed_core::report::Real;
use trainshed_core::view::{SeriesSummary, SingleValue};

use crate::database::Store;
use crate::error::StoreError;
use crate::file::unsigned;
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
