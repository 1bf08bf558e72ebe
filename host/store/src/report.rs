//! Recording what running tasks report, and what programs without a lease do.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{Any, Transaction};
use trainshed_core::parameter::{ENVIRONMENT, Parameter};
use trainshed_core::progress::Progress;
use trainshed_core::report::{Plot, Purpose, Report, Sample};
use trainshed_core::task::TaskState;
use trainshed_core::{TaskId, Timestamp};

use crate::batch::Batch;
use crate::console::{ChunkRow, append_lines, ask_last_chunk};
use crate::database::Store;
use crate::error::StoreError;
use crate::file::{bigint, unsigned};
use crate::idempotency::note_made;
use crate::lease::{Held, LeaseError, lease_error};
use crate::media::{
    MAX_SHOWN, count_shown, retention, trim_plots, trim_samples, write_plot, write_sample,
    write_trials,
};
use crate::model::stage_model;
use crate::parameter::write_parameters;
use crate::points::ingest::{AppendError, remember, write_single};
use crate::points::{MAX_SERIES, TaskKey};
use crate::workspace::Workspace;

/// Most phases whose progress is kept; reports of further ones are dropped, because
/// progress is for people and a list this long is for none.
const MAX_PHASES: usize = 100;

/// The fence of the keys under which programs without a lease report; keys of points have one
/// of their own.
const PROGRAM: i64 = -2;

/// What a program without a lease reports.
#[derive(Debug, Clone, PartialEq)]
pub struct ProgramReports {
    /// Known for a day: reports of a task with the same key are not recorded again.
    pub key: Option<String>,
    /// No points, no models.
    pub reports: Vec<Report>,
}

/// What became of the reports of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reported {
    /// Whether they had been recorded before, and were not again.
    pub repeated: bool,
}

/// Why the reports of a program were not recorded. Nothing of them was kept.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The task is published.
    #[error("the task {0} is published, and nothing of it may change")]
    Published(TaskId),
    /// As with the reports of an agent.
    #[error(transparent)]
    Refused(#[from] LeaseError),
}

impl ReportError {
    /// What the caller can do about it, in one sentence.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Published(_) => Some("Clone the task to go on from there.".into()),
            Self::Refused(error) => error.hint(),
        }
    }
}

impl Store {
    /// Records what a program without a lease reports, all of it or none. Returns once it is
    /// durable. Names, sizes and types have been checked.
    ///
    /// # Errors
    /// When there is no such task, it is published, a file is not there, or there is too much
    /// of something.
    pub async fn report(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        reports: &ProgramReports,
        now: Timestamp,
    ) -> Result<Reported, ReportError> {
        let action = "record reports";
        let begun = self.begin(action).await;
        let mut transaction = begun.map_err(LeaseError::Store)?;
        // The row stays locked, so that the lines of two callers do not get one number.
        let found: Option<(String, String)> = sqlx::query_as(
            "update task set last_update = $1 where workspace = $2 and id = $3
          returning state, progress",
        )
        .bind(now.as_millis())
        .bind(workspace.as_str())
        .bind(task.as_str())
        .fetch_optional(&mut *transaction)
        .await
        .map_err(lease_error(action))?;
        let Some((state, progress)) = found else {
            return Err(LeaseError::UnknownTask(task.clone()).into());
        };
        if TaskState::parse(&state) == Some(TaskState::Published) {
            return Err(ReportError::Published(task.clone()));
        }
        if let Some(key) = &reports.key {
            let known = (&TaskKey::new(workspace, task), PROGRAM, key.as_str());
            let is_new = remember(&mut transaction, known, now).await;
            if !is_new.map_err(lease_error(action))? {
                return Ok(Reported { repeated: true });
            }
        }
        let writer = BatchWriter {
            workspace,
            task,
            told: Told {
                progress: &progress,
                checkpoint: None,
                last_chunk: last_chunk(&mut transaction, workspace, task, &reports.reports).await?,
            },
            now,
        };
        writer
            .write(&mut transaction, &reports.reports, None)
            .await?;
        note_made(&mut transaction, || format!("/api/v1/tasks/{task}"))
            .await
            .map_err(lease_error(action))?;
        transaction.commit().await.map_err(lease_error(action))?;
        Ok(Reported { repeated: false })
    }
}

/// Writes the reports of one batch that are not points, within the transaction that holds
/// the task's lease.
pub(crate) async fn write_lease_batch(
    transaction: &mut Tx,
    workspace: &Workspace,
    task: &TaskId,
    held: &Held,
    (reports, last_iteration): (&[Report], Option<u64>),
    now: Timestamp,
) -> Result<(), LeaseError> {
    let writer = BatchWriter {
        workspace,
        task,
        told: Told {
            progress: &held.progress,
            checkpoint: held.checkpoint,
            last_chunk: last_chunk(transaction, workspace, task, reports).await?,
        },
        now,
    };
    writer.write(transaction, reports, last_iteration).await
}

/// Writes reports that come with the end of a task, within the transaction that ends it. What
/// they change of the task's row is left to the caller, and so is running `batch`.
pub(crate) async fn write_last_reports(
    (transaction, batch): (&mut Tx, &mut Batch),
    (workspace, task): (&Workspace, &TaskId),
    told: Told<'_>,
    reports: &[Report],
    now: Timestamp,
) -> Result<Changes, LeaseError> {
    let writer = BatchWriter {
        workspace,
        task,
        told,
        now,
    };
    writer
        .write_parts((transaction, batch), reports, None)
        .await
}

/// Whether reports have lines for the console.
pub(crate) fn have_lines(reports: &[Report]) -> bool {
    let mut reports = reports.iter();
    reports.any(|report| matches!(report, Report::Line(_)))
}

/// The last chunk of a console, if reports have lines to be appended to it.
async fn last_chunk(
    transaction: &mut Tx,
    workspace: &Workspace,
    task: &TaskId,
    reports: &[Report],
) -> Result<Option<ChunkRow>, LeaseError> {
    if !have_lines(reports) {
        return Ok(None);
    }
    let mut batch = Batch::default();
    let chunk = ask_last_chunk(&mut batch, workspace, task);
    let answers = batch.run(transaction).await;
    let chunk = answers.and_then(|answers| answers.first(chunk));
    chunk.map_err(lease_error("record console lines"))
}

/// What was told of a task before.
pub(crate) struct Told<'a> {
    /// How far it had come, as JSON.
    pub(crate) progress: &'a str,
    /// The model that it goes on from.
    pub(crate) checkpoint: Option<i64>,
    /// The last chunk of its console, where there are lines to be appended.
    pub(crate) last_chunk: Option<ChunkRow>,
}

/// What reports change of the row of their task.
pub(crate) struct Changes {
    pub(crate) progress: Progress,
    pub(crate) last_iteration: Option<u64>,
    /// The name of the model that is the result, where they say which.
    pub(crate) output: Option<String>,
    /// How many models they are of.
    pub(crate) models: usize,
}

/// Writes the reports of one batch, within the transaction that holds the task's lease.
struct BatchWriter<'a> {
    workspace: &'a Workspace,
    task: &'a TaskId,
    told: Told<'a>,
    now: Timestamp,
}

type Tx = Transaction<'static, Any>;

impl BatchWriter<'_> {
    /// Writes `reports`, whose points have been written; `last_iteration` is theirs.
    async fn write(
        &self,
        transaction: &mut Tx,
        reports: &[Report],
        last_iteration: Option<u64>,
    ) -> Result<(), LeaseError> {
        let mut batch = Batch::default();
        let parts = self.write_parts((&mut *transaction, &mut batch), reports, last_iteration);
        let changes = parts.await?;
        self.write_task(&mut batch, &changes);
        let written = batch.run(transaction).await;
        written.map(|_| ()).map_err(lease_error("record reports"))
    }

    /// Writes all that is not in the row of the task, some of it with `batch`.
    async fn write_parts(
        &self,
        (transaction, batch): (&mut Tx, &mut Batch),
        reports: &[Report],
        mut last_iteration: Option<u64>,
    ) -> Result<Changes, LeaseError> {
        let (mut lines, mut samples, mut plots) = (Vec::new(), Vec::new(), Vec::new());
        let mut singles = BTreeMap::new();
        let (mut output, mut trials, mut models) = (None, None, 0);
        let mut progress: Progress = serde_json::from_str(self.told.progress)
            .map_err(|error| LeaseError::Store(StoreError::damaged("read progress")(error)))?;
        for report in reports {
            match report {
                Report::Point(_) => {}
                Report::Single { name, value } => {
                    singles.insert(name.as_str(), value.0);
                }
                Report::Line(line) => lines.push(line),
                Report::Sample(sample) => {
                    if sample.purpose == Purpose::Media {
                        last_iteration = last_iteration.max(Some(sample.index));
                    }
                    samples.push(sample);
                }
                Report::Plot(plot) => {
                    last_iteration = last_iteration.max(Some(plot.iteration));
                    plots.push(plot);
                }
                Report::Trials { payload } => trials = Some(payload),
                Report::Environment { values } => {
                    let parameter = |(name, value): (&String, &String)| {
                        Parameter::new(ENVIRONMENT, name, value.as_str().into())
                    };
                    let parameters: Vec<_> = values.iter().map(parameter).collect();
                    write_parameters(batch, self.workspace, self.task, &parameters);
                }
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
                    models += 1;
                    let parent = self.told.checkpoint;
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
                Report::Output { name } => output = Some(name.clone()),
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
        self.write_shown(transaction, &samples, &plots).await?;
        if let Some(payload) = trials {
            let written = write_trials(transaction, self.workspace, self.task, payload, self.now);
            written.await.map_err(LeaseError::Store)?;
        }
        let last = self.told.last_chunk.as_ref();
        append_lines(batch, self.workspace, self.task, last, &lines).map_err(LeaseError::Store)?;
        Ok(Changes {
            progress,
            last_iteration,
            output,
            models,
        })
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

    /// Records samples and plots, and deletes those of iterations that are too old to keep.
    async fn write_shown(
        &self,
        transaction: &mut Tx,
        samples: &[&Sample],
        plots: &[&Plot],
    ) -> Result<(), LeaseError> {
        if samples.is_empty() && plots.is_empty() {
            return Ok(());
        }
        let (workspace, task) = (self.workspace, self.task);
        let mut media = BTreeSet::new();
        for sample in samples {
            let written = write_sample(transaction, workspace, task, sample).await;
            let written = written.map_err(lease_error("record a sample"))?;
            if let (false, Some(sha256)) = (written, sample.sha256) {
                return Err(LeaseError::MissingFile {
                    sha256,
                    size_bytes: sample.size_bytes,
                    role: format!("the sample `{}/{}`", sample.category, sample.group),
                });
            }
            if sample.purpose == Purpose::Media {
                media.insert((sample.category.as_str(), sample.group.as_str()));
            }
        }
        let mut series = BTreeSet::new();
        for plot in plots {
            let written = write_plot(transaction, workspace, task, plot).await;
            written.map_err(LeaseError::Store)?;
            series.insert((plot.title.as_str(), plot.series.as_str()));
        }
        if media.is_empty() && series.is_empty() {
            return Ok(());
        }
        let kept = retention(transaction, workspace, task).await;
        let kept = kept.map_err(LeaseError::Store)?;
        for names in media {
            trim_samples(
                transaction,
                workspace,
                task,
                names,
                kept.sample_iterations(),
            )
            .await
            .map_err(lease_error("delete old samples"))?;
        }
        for names in series {
            trim_plots(transaction, workspace, task, names, kept.plot_iterations())
                .await
                .map_err(lease_error("delete old plots"))?;
        }
        let counts = count_shown(transaction, workspace, task).await;
        let (samples, plots) = counts.map_err(lease_error("count samples and plots"))?;
        for (what, count) in [("samples", samples), ("plots", plots)] {
            if count > MAX_SHOWN {
                return Err(LeaseError::Invalid(format!(
                    "a task has at most {MAX_SHOWN} {what}, but it would have {count}"
                )));
            }
        }
        Ok(())
    }

    fn write_task(&self, batch: &mut Batch, changes: &Changes) {
        let update = sqlx::query(
            "update task
                set progress = $1, output_model = coalesce($2, output_model), last_update = $3,
                    last_iteration = case when last_iteration < $4 then $4 else last_iteration end
              where workspace = $5 and id = $6",
        )
        .bind(serde_json::json!(changes.progress).to_string())
        .bind(changes.output.as_deref())
        .bind(self.now.as_millis())
        .bind(bigint(changes.last_iteration.unwrap_or(0)))
        .bind(self.workspace.as_str())
        .bind(self.task.as_str());
        batch.add(update);
    }
}
