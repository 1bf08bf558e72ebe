//! What programs without a lease report beside points, and reading samples, plots and consoles.

use futures::{Stream, TryStreamExt as _};
use serde_json::{Map, Value};
use trainshed_core::draft::InvalidField;
use trainshed_core::media::{
    MAX_MEDIA_BYTES, MEDIA_HEAD_BYTES, UNKNOWN_TYPE, media_type, media_type_of_address,
};
use trainshed_core::parameter::{check_connected, connected};
use trainshed_core::report::{
    Line, LineSource, MAX_BATCH, NewLine, NewPlot, NewReports, NewSample, Plot, Report, Sample,
};
use trainshed_core::view::{ConsolePage, Page, PlotView};
use trainshed_core::{Digest, TaskId};
use trainshed_store::{
    ConsoleQuery, LeaseError, NewConfiguration, ProgramReports, PutError, QueryError, ReportError,
    Reported, ShownQuery, StoreError, Workspace,
};

use crate::engine::Engine;
use crate::parameters::check_configuration;
use crate::validate::check_report;

/// Most bytes of a key.
const MAX_KEY_BYTES: usize = 200;

/// Why the reports of a program were not recorded. Nothing of them was.
#[derive(Debug, thiserror::Error)]
pub enum ReportsError {
    /// A report breaks a rule.
    #[error(transparent)]
    Field(#[from] InvalidField),
    /// The task, or what the reports name, does not allow it.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// The content of a sample was not stored.
    #[error(transparent)]
    Put(#[from] PutError),
    /// The store failed.
    #[error("the reports could not be recorded")]
    Store(#[from] StoreError),
}

impl Engine {
    /// Records lines, plots, samples and single values of a task that its caller runs, all or
    /// none. Those with a key that was recorded in the last day are not recorded again.
    ///
    /// # Errors
    /// When there is no such task, it is published, or a report breaks a rule.
    pub async fn append_reports(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        new: NewReports,
    ) -> Result<Reported, ReportsError> {
        let count = new.lines.len() + new.plots.len() + new.samples.len() + new.singles.len();
        if count > MAX_BATCH {
            let message = format!("a call has at most {MAX_BATCH} reports, but this has {count}");
            return Err(InvalidField::new("", message).into());
        }
        if let Some(key) = &new.key
            && (key.is_empty() || key.len() > MAX_KEY_BYTES || key.contains('\0'))
        {
            let message = format!("key must have 1 to {MAX_KEY_BYTES} bytes and no zero byte");
            return Err(InvalidField::new("/key", message).into());
        }
        let mut reports = Vec::with_capacity(count);
        for (index, line) in new.lines.into_iter().enumerate() {
            let pointer = format!("/lines/{index}");
            let line = self.line(line, &pointer)?;
            reports.push(checked(pointer, line)?);
        }
        for (index, plot) in new.plots.into_iter().enumerate() {
            reports.push(checked(format!("/plots/{index}"), self.new_plot(plot))?);
        }
        for (name, value) in new.singles {
            let pointer = format!("/singles/{name}");
            reports.push(checked(pointer, Report::Single { name, value })?);
        }
        if let Some(payload) = new.trials {
            reports.push(checked("/trials".to_owned(), Report::Trials { payload })?);
        }
        for (index, sample) in new.samples.into_iter().enumerate() {
            let pointer = format!("/samples/{index}");
            let sample = self.new_sample(workspace, sample, &pointer).await?;
            reports.push(checked(pointer, Report::Sample(sample))?);
        }
        let reports = ProgramReports {
            key: new.key,
            reports,
        };
        let now = self.now();
        let reported = self.store.report(workspace, task, &reports, now).await?;
        if !reported.repeated {
            self.changes().task_changed(workspace.id(), task);
        }
        Ok(reported)
    }

    /// Stores the content of a sample and records it; `sample` has the rest. Its digest is
    /// that of the content.
    ///
    /// # Errors
    /// When the content is too long or breaks off, and as [`Engine::append_reports`].
    pub async fn put_sample(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        mut sample: NewSample,
        content: impl Stream<Item = std::io::Result<bytes::Bytes>> + Send + Unpin + 'static,
    ) -> Result<Sample, ReportsError> {
        if self.store.task(workspace, task).await?.is_none() {
            let unknown = LeaseError::UnknownTask(task.clone());
            return Err(ReportError::Refused(unknown).into());
        }
        let mut received = 0;
        let bounded = content.and_then(move |piece| {
            received += piece.len() as u64;
            std::future::ready(if received > MAX_MEDIA_BYTES {
                let most = format!("a sample has at most {MAX_MEDIA_BYTES} bytes");
                Err(std::io::Error::other(most))
            } else {
                Ok(piece)
            })
        });
        sample.sha256 = Some(self.put_unnamed_file(workspace, bounded).await?);
        let made = self.new_sample(workspace, sample, "").await?;
        let report = checked(String::new(), Report::Sample(made.clone()))?;
        let reports = ProgramReports {
            key: None,
            reports: vec![report],
        };
        let now = self.now();
        self.store.report(workspace, task, &reports, now).await?;
        self.changes().task_changed(workspace.id(), task);
        Ok(made)
    }

    /// Lines of the console of a task; `None` when there is no such task, as with all that
    /// follow.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn console(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        query: &ConsoleQuery,
    ) -> Result<Option<ConsolePage>, StoreError> {
        if self.store.task(workspace, task).await?.is_none() {
            return Ok(None);
        }
        self.store.console(workspace, task, query).await.map(Some)
    }

    /// A page of the samples of a task, by category, group and index.
    ///
    /// # Errors
    /// When `query.after` is not the `next` of a page.
    pub async fn samples(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        query: &ShownQuery,
    ) -> Result<Option<Page<Sample>>, QueryError> {
        let known = self.store.task(workspace, task).await;
        if known.map_err(QueryError::Store)?.is_none() {
            return Ok(None);
        }
        let page = self.store.samples_by(workspace, task, query).await;
        page.map(Some)
    }

    /// A page of the plots of a task, by title, series and iteration; `figures` asks for their
    /// figures.
    ///
    /// # Errors
    /// When `query.after` is not the `next` of a page.
    pub async fn plots(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        query: &ShownQuery,
        figures: bool,
    ) -> Result<Option<Page<PlotView>>, QueryError> {
        let known = self.store.task(workspace, task).await;
        if known.map_err(QueryError::Store)?.is_none() {
            return Ok(None);
        }
        let page = self.store.plots(workspace, task, query, figures).await;
        page.map(Some)
    }

    /// A plot with its figure: that of `iteration`, or the last of its series.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn plot(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        names: (&str, &str),
        iteration: Option<u64>,
    ) -> Result<Option<PlotView>, StoreError> {
        self.store.plot(workspace, task, names, iteration).await
    }

    /// The table of trials that a task reported last; `None` when it has none.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn reported_trials(
        &self,
        workspace: &Workspace,
        task: &TaskId,
    ) -> Result<Option<Map<String, Value>>, StoreError> {
        self.store.reported_trials(workspace, task).await
    }

    /// Connects values of the plugin of a leased task with the parameters of a section: gives
    /// them as the task had them before, and records the others.
    ///
    /// # Errors
    /// When the lease is over, or a value breaks a rule.
    pub async fn connect(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        fence: i64,
        (section, values): (&str, &Map<String, Value>),
    ) -> Result<Map<String, Value>, LeaseError> {
        let parameters = check_connected(section, values)
            .map_err(|error| LeaseError::Invalid(format!("the section {}", error.message)))?;
        let (until, now) = (self.lease_until(), self.now());
        let stored = self
            .store
            .connect_parameters(workspace, task, fence, &parameters, until, now);
        let stored = stored.await?;
        self.changes().task_changed(workspace.id(), task);
        Ok(connected(values, &stored))
    }

    /// Connects a text of the plugin of a leased task with a configuration object: gives the
    /// one that the task had before, or records it.
    ///
    /// # Errors
    /// When the lease is over, a rule is broken, or what the task has is no text.
    pub async fn connect_text(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        fence: i64,
        configuration: NewConfiguration,
    ) -> Result<String, LeaseError> {
        check_configuration(&configuration).map_err(|error| LeaseError::Invalid(error.message))?;
        let (until, now) = (self.lease_until(), self.now());
        let stored =
            self.store
                .connect_configuration(workspace, task, fence, &configuration, until, now);
        let stored = stored.await?;
        self.changes().task_changed(workspace.id(), task);
        String::from_utf8(stored).map_err(|_| {
            let name = &configuration.name;
            LeaseError::Invalid(format!("the configuration object `{name}` is no text"))
        })
    }

    fn line(&self, line: NewLine, pointer: &str) -> Result<Report, InvalidField> {
        if line.level == LineSource::Host {
            let message = "level must be debug, info, warning, error, stdout or stderr; only \
                           trainshed itself writes as `host`";
            return Err(InvalidField::new(format!("{pointer}/level"), message));
        }
        Ok(Report::Line(Line {
            source: line.level,
            text: line.text,
            at: line.at.unwrap_or(self.now()),
        }))
    }

    fn new_plot(&self, plot: NewPlot) -> Report {
        Report::Plot(Plot {
            title: plot.title,
            series: plot.series,
            iteration: plot.iteration,
            figure: plot.figure.0,
            at: plot.at.unwrap_or(self.now()),
        })
    }

    /// The sample with the length of its file, and the type that its first bytes have.
    async fn new_sample(
        &self,
        workspace: &Workspace,
        new: NewSample,
        pointer: &str,
    ) -> Result<Sample, ReportsError> {
        let sha256 = match (new.sha256, &new.uri) {
            (Some(sha256), None) => sha256,
            (None, Some(uri)) => {
                let by_address = media_type_of_address(uri).unwrap_or(UNKNOWN_TYPE);
                return Ok(Sample {
                    content_type: new.content_type.unwrap_or_else(|| by_address.to_owned()),
                    purpose: new.purpose,
                    category: new.title,
                    group: new.series,
                    index: new.iteration,
                    name: new.name,
                    sha256: None,
                    uri: new.uri,
                    size_bytes: 0,
                    at: new.at.unwrap_or(self.now()),
                    extra: new.extra,
                });
            }
            _ => {
                let message = "a sample has either `sha256` or `uri`".to_owned();
                return Err(InvalidField::new(pointer.to_owned(), message).into());
            }
        };
        let (size_bytes, head) = match self.store.file_size(workspace, &sha256).await? {
            Some(size_bytes) => (size_bytes, self.head(workspace, &sha256).await?),
            None => {
                let message = format!("the file {sha256} has not been uploaded");
                return Err(InvalidField::new(format!("{pointer}/sha256"), message).into());
            }
        };
        let found = media_type(new.content_type.as_deref(), &head);
        let (content_type, _) = found.map_err(|wrong| {
            let pointer = format!("{pointer}/content_type");
            InvalidField::new(pointer, format!("the content of a sample {wrong}"))
        })?;
        Ok(Sample {
            purpose: new.purpose,
            category: new.title,
            group: new.series,
            index: new.iteration,
            name: new.name,
            sha256: Some(sha256),
            uri: None,
            size_bytes,
            content_type: content_type.to_owned(),
            at: new.at.unwrap_or(self.now()),
            extra: new.extra,
        })
    }

    /// The first bytes of a file.
    async fn head(&self, workspace: &Workspace, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        let wanted = 0..MEDIA_HEAD_BYTES as u64;
        let opened = self
            .store
            .open_file(workspace, digest, Some(wanted))
            .await?;
        let mut head = Vec::new();
        let Some(mut content) = opened else {
            return Ok(head);
        };
        let failed = |source: std::io::Error| StoreError::Unavailable {
            action: "read a file",
            source: source.into(),
        };
        while let Some(piece) = content.try_next().await.map_err(failed)? {
            head.extend_from_slice(&piece);
        }
        Ok(head)
    }
}

/// `report` if it breaks no rule.
fn checked(pointer: String, report: Report) -> Result<Report, InvalidField> {
    match check_report(&report) {
        Ok(()) => Ok(report),
        Err(wrong) => Err(InvalidField::new(pointer, wrong)),
    }
}
