//! Recording what running tasks report.

use std::collections::BTreeMap;

use sqlx::{Any, Transaction};
use trainshed_core::progress::Progress;
use trainshed_core::report::{Batch, Line, Report, Sample};
use trainshed_core::resource::is_of_the_machine;
use trainshed_core::{TaskId, Timestamp};

use crate::error::StoreError;
use crate::file::{bigint, unsigned};
use crate::lease::{Held, LeaseError, lease_error};
use crate::model::stage_model;
use crate::points::ingest::{AppendError, write_single};
use crate::points::{MAX_SERIES, TaskKey};
use crate::workspace::Workspace;

/// Most phases whose progress is kept; reports of further ones are dropped, because
/// progress is for people and a list this long is for none.
const MAX_PHASES: usize = 100;

/// Writes the reports of one batch that are not points, within the transaction that holds
/// the task's lease.
pub(crate) async fn write_lease_batch(
    transaction: &mut Tx,
    workspace: &Workspace,
    task: &TaskId,
    held: &Held,
    batch: &Batch,
    now: Timestamp,
) -> Result<(), LeaseError> {
    let writer = BatchWriter {
        workspace,
        task,
        held,
        now,
    };
    writer.write(transaction, batch).await
}

/// Writes the reports of one batch, within the transaction that holds the task's lease.
struct BatchWriter<'a> {
    workspace: &'a Workspace,
    task: &'a TaskId,
    held: &'a Held,
    now: Timestamp,
}

type Tx = Transaction<'static, Any>;

impl BatchWriter<'_> {
    async fn write(&self, transaction: &mut Tx, batch: &Batch) -> Result<(), LeaseError> {
        let mut lines = Vec::new();
        let mut singles = BTreeMap::new();
        let mut output = None;
        let mut last_iteration = None;
        let mut progress: Progress = serde_json::from_str(&self.held.progress)
            .map_err(|error| LeaseError::Store(StoreError::damaged("read progress")(error)))?;
        for report in &batch.reports {
            match report {
                Report::Point(point) if is_of_the_machine(&point.title) => {}
                Report::Point(point) => {
                    last_iteration = last_iteration.max(Some(point.iteration));
                }
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
        let key = TaskKey::new(self.workspace, self.task);
        for (name, value) in &singles {
            write_single(transaction, &key, name, *value)
                .await
                .map_err(lease_error("record single values"))?;
        }
        if !singles.is_empty() {
            self.check_singles(transaction).await?;
        }
        self.write_lines(transaction, &lines)
            .await
            .map_err(lease_error("record console lines"))?;
        self.write_task(transaction, &progress, last_iteration, output)
            .await
            .map_err(lease_error("record reports"))
    }

    /// Refuses the batch that makes a single value too many.
    async fn check_singles(&self, transaction: &mut Tx) -> Result<(), LeaseError> {
        let (singles,): (i64,) =
            sqlx::query_as("select count(*) from single where workspace = $1 and task = $2")
                .bind(self.workspace.as_str())
                .bind(self.task.as_str())
                .fetch_one(&mut **transaction)
                .await
                .map_err(lease_error("count single values"))?;
        if unsigned(singles) > MAX_SERIES {
            return Err(LeaseError::Invalid(AppendError::TooMany.to_string()));
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
