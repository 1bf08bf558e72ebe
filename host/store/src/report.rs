//! Recording what running tasks report.

use std::collections::BTreeMap;

use sqlx::{Any, Transaction};
use trainshed_core::progress::Progress;
use trainshed_core::report::{Batch, Line, Point, Report, Sample};
use trainshed_core::{TaskId, Timestamp};

use crate::database::Store;
use crate::error::StoreError;
use crate::file::{bigint, unsigned};
use crate::frame::encode_frame;
use crate::lease::{Held, LeaseError, hold_lease, lease_error};
use crate::model::stage_model;
use crate::workspace::Workspace;

/// Most curves, and most single values, of one task: enough for every layer of a large
/// model, few enough to list.
pub const MAX_SERIES: u64 = 10_000;
/// Most phases whose progress is kept; reports of further ones are dropped, because
/// progress is for people and a list this long is for none.
const MAX_PHASES: usize = 100;

impl Store {
    /// Records a batch in one transaction and moves the deadline of the lease; returns why
    /// the task is to stop, if it is. A batch that was recorded before is not recorded again.
    /// Names and numbers of the batch have been checked.
    ///
    /// # Errors
    /// When the lease is over, a file is not there, or there are too many curves.
    pub async fn append_batch(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        fence: i64,
        batch: &Batch,
        lease_until: Timestamp,
        now: Timestamp,
    ) -> Result<Option<String>, LeaseError> {
        let action = "record reports";
        let mut transaction = self.begin(action).await.map_err(LeaseError::Store)?;
        let held = hold_lease(&mut transaction, workspace, task, fence, lease_until).await?;
        let points: Vec<&Point> = batch
            .reports
            .iter()
            .filter_map(|report| match report {
                Report::Point(point) => Some(point),
                _ => None,
            })
            .collect();
        let logged = sqlx::query(
            "insert into ingest (workspace, task, fence, batch_key, at, point_count, frame)
             values ($1, $2, $3, $4, $5, $6, $7) on conflict do nothing",
        )
        .bind(workspace.as_str())
        .bind(task.as_str())
        .bind(fence)
        .bind(bigint(batch.key))
        .bind(now.as_millis())
        .bind(bigint(points.len() as u64))
        .bind(encode_frame(&points))
        .execute(&mut *transaction)
        .await
        .map_err(lease_error(action))?;
        if logged.rows_affected() == 1 {
            let writer = BatchWriter {
                workspace,
                task,
                held: &held,
                now,
            };
            writer.write(&mut transaction, batch, &points).await?;
        }
        let committed = transaction.commit().await;
        committed.map_err(lease_error(action))?;
        Ok(held.stop())
    }
}

/// Writes the reports of one batch, within the transaction that holds the task's lease.
struct BatchWriter<'a> {
    workspace: &'a Workspace,
    task: &'a TaskId,
    held: &'a Held,
    now: Timestamp,
}

type Tx = Transaction<'static, Any>;

/// What is bound for a number that is not there; `nullif(…, NaN)` makes null of it, which stands
/// for NaN in every database. SQLite does so by itself. A missing `f64` cannot be bound:
/// sqlx 0.9 tells PostgreSQL that it is a missing `f32`, and the statement, which is prepared
/// once, then refuses every `f64`.
const NO_NUMBER: f64 = f64::NAN;

impl BatchWriter<'_> {
    async fn write(
        &self,
        transaction: &mut Tx,
        batch: &Batch,
        points: &[&Point],
    ) -> Result<(), LeaseError> {
        let mut lines = Vec::new();
        let mut singles = BTreeMap::new();
        let mut output = None;
        let mut progress: Progress = serde_json::from_str(&self.held.progress)
            .map_err(|error| LeaseError::Store(StoreError::damaged("read progress")(error)))?;
        for report in &batch.reports {
            match report {
                Report::Point(_) => {}
                Report::Single { name, value } => {
                    singles.insert(name.as_str(), value.0);
                }
                Report::Line(line) => lines.push(line),
                Report::Sample(sample) => self.write_sample(transaction, sample).await?,
                Report::Progress {
                    category,
                    current,
                    total,
                } => {
                    let phases = progress.phases();
                    if phases.len() < MAX_PHASES || phases.contains_key(category) {
                        progress.advance(category, *current, *total);
                    }
                }
                Report::Model(model) => {
                    let parent = self.held.checkpoint;
                    let staged = stage_model(
                        transaction,
                        self.workspace,
                        self.task,
                        parent,
                        model,
                        self.now,
                    );
                    if !staged.await.map_err(lease_error("record a model"))? {
                        return Err(LeaseError::MissingFile {
                            sha256: model.sha256,
                            size_bytes: model.size_bytes,
                            role: format!("the model `{}`", model.name),
                        });
                    }
                }
                Report::Output { name } => output = Some(name.as_str()),
            }
        }
        self.write_summaries(transaction, points)
            .await
            .map_err(lease_error("record points"))?;
        self.write_singles(transaction, &singles)
            .await
            .map_err(lease_error("record single values"))?;
        if !points.is_empty() || !singles.is_empty() {
            self.check_series(transaction).await?;
        }
        self.write_lines(transaction, &lines)
            .await
            .map_err(lease_error("record console lines"))?;
        let last_iteration = points.iter().map(|point| point.iteration).max();
        self.write_task(transaction, &progress, last_iteration, output)
            .await
            .map_err(lease_error("record reports"))
    }

    /// Brings the summary of each curve in `points` up to date.
    async fn write_summaries(
        &self,
        transaction: &mut Tx,
        points: &[&Point],
    ) -> Result<(), sqlx::Error> {
        for ((title, series), summary) in summarize(points) {
            sqlx::query(
                "insert into series (workspace, task, title, series, point_count,
                                     last_value, last_iteration, min_value, min_iteration,
                                     max_value, max_iteration)
                 values ($1, $2, $3, $4, $5, nullif($6, $12), $7, nullif($8, $12), $9,
                         nullif($10, $12), $11)
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
            )
            .bind(self.workspace.as_str())
            .bind(self.task.as_str())
            .bind(title)
            .bind(series)
            .bind(summary.count)
            .bind(summary.last.1)
            .bind(summary.last.0)
            .bind(summary.min.map_or(NO_NUMBER, |(_, value)| value))
            .bind(summary.min.map_or(0, |(iteration, _)| iteration))
            .bind(summary.max.map_or(NO_NUMBER, |(_, value)| value))
            .bind(summary.max.map_or(0, |(iteration, _)| iteration))
            .bind(NO_NUMBER)
            .execute(&mut **transaction)
            .await?;
        }
        Ok(())
    }

    async fn write_singles(
        &self,
        transaction: &mut Tx,
        singles: &BTreeMap<&str, f64>,
    ) -> Result<(), sqlx::Error> {
        for (name, value) in singles {
            sqlx::query(
                "insert into single (workspace, task, name, value) values ($1, $2, $3, nullif($4, $5))
                 on conflict (workspace, task, name) do update set value = excluded.value",
            )
            .bind(self.workspace.as_str())
            .bind(self.task.as_str())
            .bind(*name)
            .bind(*value)
            .bind(NO_NUMBER)
            .execute(&mut **transaction)
            .await?;
        }
        Ok(())
    }

    /// Refuses the batch that makes a curve or single value too many.
    async fn check_series(&self, transaction: &mut Tx) -> Result<(), LeaseError> {
        let (curves, singles): (i64, i64) = sqlx::query_as(
            "select (select count(*) from series where workspace = $1 and task = $2),
                    (select count(*) from single where workspace = $1 and task = $2)",
        )
        .bind(self.workspace.as_str())
        .bind(self.task.as_str())
        .fetch_one(&mut **transaction)
        .await
        .map_err(lease_error("count curves"))?;
        if unsigned(curves.max(singles)) > MAX_SERIES {
            return Err(LeaseError::Invalid(format!(
                "a task has at most {MAX_SERIES} curves and as many single values"
            )));
        }
        Ok(())
    }

    /// Appends the lines of one batch as one row.
    async fn write_lines(&self, transaction: &mut Tx, lines: &[&Line]) -> Result<(), sqlx::Error> {
        if lines.is_empty() {
            return Ok(());
        }
        sqlx::query(
            "insert into console (workspace, task, first_line, line_count, lines)
             select $1, $2, coalesce(max(first_line + line_count), 0), $3, $4
               from console where workspace = $1 and task = $2",
        )
        .bind(self.workspace.as_str())
        .bind(self.task.as_str())
        .bind(bigint(lines.len() as u64))
        .bind(serde_json::json!(lines).to_string())
        .execute(&mut **transaction)
        .await?;
        Ok(())
    }

    /// Records a sample; one at the same place is replaced.
    async fn write_sample(&self, transaction: &mut Tx, sample: &Sample) -> Result<(), LeaseError> {
        let written = sqlx::query(
            "insert into sample (workspace, task, kind, category, sample_group, position, name,
                                 sha256, size_bytes, content_type, at, extra)
             select workspace, $1, 'visualization', $2, $3, $4, '', sha256, size_bytes, $5, $6, $7
               from file where workspace = $8 and sha256 = $9 and size_bytes = $10
             on conflict (workspace, task, kind, category, sample_group, position, name) do update
                set sha256 = excluded.sha256, size_bytes = excluded.size_bytes,
                    content_type = excluded.content_type, at = excluded.at,
                    extra = excluded.extra",
        )
        .bind(self.task.as_str())
        .bind(&sample.category)
        .bind(&sample.group)
        .bind(bigint(sample.index))
        .bind(&sample.content_type)
        .bind(sample.at.as_millis())
        .bind(
            sample
                .extra
                .as_ref()
                .map(|extra| serde_json::json!(extra).to_string()),
        )
        .bind(self.workspace.as_str())
        .bind(sample.sha256.to_string())
        .bind(bigint(sample.size_bytes))
        .execute(&mut **transaction)
        .await
        .map_err(lease_error("record a sample"))?;
        if written.rows_affected() == 0 {
            return Err(LeaseError::MissingFile {
                sha256: sample.sha256,
                size_bytes: sample.size_bytes,
                role: format!("the sample `{}/{}`", sample.category, sample.group),
            });
        }
        Ok(())
    }

    async fn write_task(
        &self,
        transaction: &mut Tx,
        progress: &Progress,
        last_iteration: Option<u64>,
        output: Option<&str>,
    ) -> Result<(), sqlx::Error> {
        sqlx::query(
            "update task
                set progress = $1, output_model = coalesce($2, output_model), last_update = $3,
                    last_iteration = case when last_iteration < $4 then $4 else last_iteration end
              where workspace = $5 and id = $6",
        )
        .bind(serde_json::json!(progress).to_string())
        .bind(output)
        .bind(self.now.as_millis())
        .bind(bigint(last_iteration.unwrap_or(0)))
        .bind(self.workspace.as_str())
        .bind(self.task.as_str())
        .execute(&mut **transaction)
        .await?;
        Ok(())
    }
}

/// What one batch adds to the summary of a curve; pairs of iteration and value.
struct Summary {
    count: i64,
    last: (i64, f64),
    min: Option<(i64, f64)>,
    max: Option<(i64, f64)>,
}

fn summarize<'a>(points: &[&'a Point]) -> BTreeMap<(&'a str, &'a str), Summary> {
    let mut summaries: BTreeMap<(&str, &str), Summary> = BTreeMap::new();
    for point in points {
        let here = (bigint(point.iteration), point.value.0);
        let (iteration, value) = here;
        let number = Some(here).filter(|_| !value.is_nan());
        summaries
            .entry((&point.title, &point.series))
            .and_modify(|summary| {
                summary.count += 1;
                if iteration >= summary.last.0 {
                    summary.last = here;
                }
                let before = |known: Option<(i64, f64)>, better: fn(f64, f64) -> bool| match known {
                    _ if value.is_nan() => known,
                    None => number,
                    Some((at, other))
                        if better(value, other) || (value == other && iteration < at) =>
                    {
                        number
                    }
                    known => known,
                };
                summary.min = before(summary.min, |value, other| value < other);
                summary.max = before(summary.max, |value, other| value > other);
            })
            .or_insert(Summary {
                count: 1,
                last: here,
                min: number,
                max: number,
            });
    }
    summaries
}
