//! `run`: what the task was asked, and everything it reports.

use serde_json::{Map, Value};
use trainshed_core::Digest;
use trainshed_core::name::{is_model_name, is_series_name};
use trainshed_core::report::{LineSource, Point, Purpose, Real, Report, Sample};
use wasmtime::component::Resource;

use crate::bindings::trainshed::plugin::run::{
    Decision, Host, HostRun, Level, Metric, ReportError,
};
use crate::job::{Refused, TrialVerdict};
use crate::limits::bytes_for_people;
use crate::state::{TaskState, now};
use crate::wasi::{MAX_LINE_BYTES, not_stored};

/// The current run, as a resource. All that it knows is in [`TaskState`].
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Run;

/// Most measurements of one call.
const MAX_METRICS: usize = 10_000;
/// Longest JSON beside a measurement or an image.
const MAX_EXTRA_BYTES: usize = 4 << 10;
/// Longest JSON of the metrics that a trial reports.
const MAX_TRIAL_METRICS_BYTES: usize = 16 << 10;
/// Largest image.
const MAX_IMAGE_BYTES: usize = 4 << 20;
/// Most curves of one run: each costs memory here and a place in every list of curves.
const MAX_CURVES: usize = 10_000;
/// Most phases of one run.
const MAX_PHASES: usize = 100;

pub(super) type Reported = wasmtime::Result<Result<(), ReportError>>;

impl Host for TaskState {}

impl HostRun for TaskState {
    fn task_id(&mut self, _run: Resource<Run>) -> wasmtime::Result<String> {
        Ok(self.facts.task.to_string())
    }

    fn trial_id(&mut self, _run: Resource<Run>) -> wasmtime::Result<Option<String>> {
        Ok(self.facts.trial.clone())
    }

    fn seed(&mut self, _run: Resource<Run>) -> wasmtime::Result<u64> {
        Ok(self.facts.seed)
    }

    fn params(&mut self, _run: Resource<Run>) -> wasmtime::Result<String> {
        Ok(self.facts.params.clone())
    }

    fn stopping(&mut self, _run: Resource<Run>) -> wasmtime::Result<bool> {
        Ok(self.watch.is_stopping())
    }

    async fn log_metric(
        &mut self,
        _run: Resource<Run>,
        category: String,
        key: String,
        value: f64,
        extra: Option<String>,
    ) -> Reported {
        let metric = Metric {
            category,
            key,
            value,
            extra,
        };
        // One measurement is by far the most frequent call, and takes the short way.
        let place = match self.point(metric) {
            Ok(place) => place,
            Err(error) => return Ok(Err(error)),
        };
        if let Err(error) = self.take_points(1) {
            return Ok(Err(error));
        }
        let point = match place {
            Place::At(point) => point,
            Place::Next(mut point) => {
                self.count_point(&mut point);
                point
            }
        };
        self.hand_over(Report::Point(point)).await
    }

    async fn log_metrics(&mut self, _run: Resource<Run>, metrics: Vec<Metric>) -> Reported {
        if metrics.len() > MAX_METRICS {
            let message = format!(
                "must be at most {MAX_METRICS} in one call, but there are {}",
                metrics.len()
            );
            return Ok(Err(invalid("metrics", message)));
        }
        self.report_metrics(metrics).await
    }

    async fn log_visualization(
        &mut self,
        _run: Resource<Run>,
        category: String,
        group: String,
        index: u64,
        image: Vec<u8>,
        extra: Option<String>,
    ) -> Reported {
        let checked = check_name("category", &category)
            .and_then(|()| check_name("group", &group))
            .and_then(|()| Ok((image_type(&image)?, self.checked_extra(extra)?)));
        let ((content_type, suffix), extra) = match checked {
            Ok(checked) => checked,
            Err(error) => return Ok(Err(error)),
        };
        if let Err(error) = self.take_media(image.len() as u64) {
            return Ok(Err(error));
        }
        self.upload_sample(
            Sample {
                purpose: Purpose::Visualization,
                category,
                group,
                index,
                name: String::new(),
                sha256: Some(Digest::of(&image)),
                uri: None,
                size_bytes: image.len() as u64,
                content_type: content_type.to_owned(),
                at: now(),
                extra,
            },
            &image,
            suffix,
        )
        .await
    }

    async fn report_scalar(
        &mut self,
        _run: Resource<Run>,
        title: String,
        series: String,
        value: f64,
        iteration: u64,
    ) -> Reported {
        let checked = check_name("title", &title).and_then(|()| check_name("series", &series));
        let taken = checked
            .and_then(|()| self.note_curve(&title, &series))
            .and_then(|()| self.take_points(1));
        if let Err(error) = taken {
            return Ok(Err(error));
        }
        let extra = self.with_trial(None);
        self.hand_over(Report::Point(Point {
            title,
            series,
            iteration,
            value: Real(value),
            at: now(),
            extra,
        }))
        .await
    }

    async fn report_single(&mut self, _run: Resource<Run>, name: String, value: f64) -> Reported {
        let taken = check_name("name", &name).and_then(|()| self.take_points(1));
        if let Err(error) = taken {
            return Ok(Err(error));
        }
        let value = Real(value);
        self.hand_over(Report::Single { name, value }).await
    }

    async fn report_text(
        &mut self,
        _run: Resource<Run>,
        level: Level,
        message: String,
    ) -> Reported {
        if message.len() > MAX_LINE_BYTES {
            let message = format!(
                "must have at most {MAX_LINE_BYTES} bytes, but it has {}",
                message.len()
            );
            return Ok(Err(invalid("message", message)));
        }
        let source = match level {
            Level::Debug => LineSource::Debug,
            Level::Info => LineSource::Info,
            Level::Warning => LineSource::Warning,
            Level::Error => LineSource::Error,
        };
        if let Err(limit_bytes) = self.console.text(source, message) {
            let limit = bytes_for_people(limit_bytes);
            return Ok(Err(self.quota_exceeded("log bytes", &limit)));
        }
        match self.console.hand_over().await {
            Ok(()) => Ok(Ok(())),
            Err(refused) => refusal(refused),
        }
    }

    async fn set_progress(
        &mut self,
        _run: Resource<Run>,
        category: String,
        current: u64,
        total: u64,
    ) -> Reported {
        if let Err(error) = check_name("category", &category) {
            return Ok(Err(error));
        }
        if total == 0 {
            return Ok(Err(invalid("total", "must be at least 1".to_owned())));
        }
        let current = current.min(total);
        let thousandths = u128::from(current) * 1000 / u128::from(total);
        let thousandths = u64::try_from(thousandths).unwrap_or(1000);
        match self.progress.get(&category) {
            // Nothing that could be seen has changed.
            Some(known) if *known >= thousandths => return Ok(Ok(())),
            None if self.progress.len() >= MAX_PHASES => {
                let message = format!("must be one of at most {MAX_PHASES} phases of the task");
                return Ok(Err(invalid("category", message)));
            }
            _ => {}
        }
        self.progress.insert(category.clone(), thousandths);
        self.hand_over(Report::Progress {
            category,
            current,
            total,
        })
        .await
    }

    async fn report(
        &mut self,
        _run: Resource<Run>,
        metrics: String,
        checkpoint: Option<String>,
    ) -> wasmtime::Result<Result<Decision, ReportError>> {
        if metrics.len() > MAX_TRIAL_METRICS_BYTES {
            let length = metrics.len();
            let message =
                format!("must have at most {MAX_TRIAL_METRICS_BYTES} bytes, but it has {length}");
            return Ok(Err(invalid("metrics", message)));
        }
        let metrics: Map<String, Value> = match serde_json::from_str(&metrics) {
            Ok(metrics) => metrics,
            Err(error) => {
                let message = format!("must be a JSON object, but it is not: {error}");
                return Ok(Err(invalid("metrics", message)));
            }
        };
        // A model that is not registered is nothing to go on from.
        let checkpoint = checkpoint.filter(|name| !self.unregistered.contains(name));
        if let Some(name) = &checkpoint
            && !self.saved_models.contains(name)
        {
            let message = "must be the name of a model that the task has saved".to_owned();
            return Ok(Err(invalid("checkpoint", message)));
        }
        if let Err(error) = self.take_points(1) {
            return Ok(Err(error));
        }
        if self.facts.trial.is_none() {
            return Ok(Ok(match self.watch.is_stopping() {
                true => Decision::Stop,
                false => Decision::Continue,
            }));
        }
        // While the trial is held back, its time does not run.
        let held_back = self.watch.hold_back();
        let verdict = self.services.report_trial(metrics, checkpoint).await;
        drop(held_back);
        match verdict {
            Ok(TrialVerdict::Continue) => Ok(Ok(Decision::Continue)),
            Ok(TrialVerdict::Stop) => Ok(Ok(Decision::Stop)),
            Err(Refused::Stopped) => Ok(Err(ReportError::Stopped)),
            Err(Refused::Failed(reason)) => Err(wasmtime::Error::new(not_stored(&reason))),
        }
    }

    async fn set_checkpoint_output(&mut self, _run: Resource<Run>, name: String) -> Reported {
        if !is_model_name(&name) {
            let message = "must have 1 to 100 bytes of A-Z, a-z, 0-9, `.`, `_` and `-`".to_owned();
            return Ok(Err(invalid("name", message)));
        }
        if let Err(error) = self.take_points(1) {
            return Ok(Err(error));
        }
        self.hand_over(Report::Output { name }).await
    }

    fn drop(&mut self, run: Resource<Run>) -> wasmtime::Result<()> {
        self.table.delete(run)?;
        Ok(())
    }
}

impl TaskState {
    /// Records all of `metrics`, or none.
    async fn report_metrics(&mut self, metrics: Vec<Metric>) -> Reported {
        let mut points = Vec::with_capacity(metrics.len());
        for metric in metrics {
            match self.point(metric) {
                Ok(point) => points.push(point),
                Err(error) => return Ok(Err(error)),
            }
        }
        if let Err(error) = self.take_points(points.len() as u64) {
            return Ok(Err(error));
        }
        for mut point in points {
            if let Place::Next(point) = &mut point {
                self.count_point(point);
            }
            let (Place::Next(point) | Place::At(point)) = point;
            if let Err(error) = self.hand_over(Report::Point(point)).await? {
                return Ok(Err(error));
            }
        }
        Ok(Ok(()))
    }

    /// Puts a point behind those of its curve that had no iteration of their own, either.
    fn count_point(&mut self, point: &mut Point) {
        if let Some(next) = self.curves.get_mut(&point.title, &point.series) {
            point.iteration = *next;
            *next += 1;
        }
    }

    /// Checks a measurement and finds its place on the curve.
    fn point(&mut self, metric: Metric) -> Result<Place, ReportError> {
        check_name("category", &metric.category)?;
        check_name("key", &metric.key)?;
        let extra = self.checked_extra(metric.extra)?;
        self.note_curve(&metric.category, &metric.key)?;
        let given = extra.as_ref().and_then(|extra| {
            let member = |name| extra.get(name).and_then(Value::as_u64);
            ["step", "iteration", "epoch"].into_iter().find_map(member)
        });
        let point = Point {
            title: metric.category,
            series: metric.key,
            iteration: given.unwrap_or(0),
            value: Real(metric.value),
            at: now(),
            extra,
        };
        Ok(match given {
            Some(_) => Place::At(point),
            None => Place::Next(point),
        })
    }

    /// Knows the curve from now on, unless there are too many.
    fn note_curve(&mut self, title: &str, series: &str) -> Result<(), ReportError> {
        if self.curves.get_mut(title, series).is_some() {
            return Ok(());
        }
        if self.curves.len() >= MAX_CURVES {
            return Err(self.quota_exceeded("curves", &MAX_CURVES.to_string()));
        }
        self.curves.insert(title, series);
        Ok(())
    }

    pub(super) fn take_points(&mut self, count: u64) -> Result<(), ReportError> {
        if self.points.take(count) {
            return Ok(());
        }
        let limit = self.points.limit().to_string();
        Err(self.quota_exceeded("points", &limit))
    }

    pub(super) fn checked_extra(
        &self,
        extra: Option<String>,
    ) -> Result<Option<Map<String, Value>>, ReportError> {
        let Some(text) = extra else {
            return Ok(self.with_trial(None));
        };
        if text.len() > MAX_EXTRA_BYTES {
            let length = text.len();
            let message = format!("must have at most {MAX_EXTRA_BYTES} bytes, but it has {length}");
            return Err(invalid("extra", message));
        }
        match serde_json::from_str(&text) {
            Ok(extra) => Ok(self.with_trial(Some(extra))),
            Err(error) => {
                let message = format!("must be a JSON object, but it is not: {error}");
                Err(invalid("extra", message))
            }
        }
    }

    /// Everything that a trial reports says which trial it was.
    fn with_trial(&self, extra: Option<Map<String, Value>>) -> Option<Map<String, Value>> {
        let Some(trial) = &self.facts.trial else {
            return extra;
        };
        let mut extra = extra.unwrap_or_default();
        extra.insert("trial_id".to_owned(), trial.clone().into());
        Some(extra)
    }

    pub(super) async fn hand_over(&mut self, report: Report) -> Reported {
        match self.services.report(report).await {
            Ok(()) => Ok(Ok(())),
            Err(refused) => refusal(refused),
        }
    }

    /// Tells the plugin, and makes the task fail when it returns.
    pub(super) fn quota_exceeded(&mut self, kind: &str, limit: &str) -> ReportError {
        self.quota_exceeded
            .get_or_insert_with(|| format!("the plugin's quota of {kind} is used up: {limit}"));
        ReportError::QuotaExceeded(kind.to_owned())
    }
}

/// A measurement and whether its curve counts it.
enum Place {
    At(Point),
    Next(Point),
}

pub(super) fn refusal(refused: Refused) -> Reported {
    match refused {
        Refused::Stopped => Ok(Err(ReportError::Stopped)),
        Refused::Failed(reason) => Err(wasmtime::Error::new(not_stored(&reason))),
    }
}

pub(super) fn invalid(argument: &str, message: String) -> ReportError {
    ReportError::InvalidArgument((argument.to_owned(), message))
}

pub(super) fn check_name(argument: &str, name: &str) -> Result<(), ReportError> {
    if is_series_name(name) {
        return Ok(());
    }
    let message = "must have 1 to 200 bytes and no control characters".to_owned();
    Err(invalid(argument, message))
}

/// The media type and file suffix of an image, by its first bytes.
fn image_type(image: &[u8]) -> Result<(&'static str, &'static str), ReportError> {
    if image.len() > MAX_IMAGE_BYTES {
        let length = image.len();
        let message = format!("must have at most {MAX_IMAGE_BYTES} bytes, but it has {length}");
        return Err(invalid("image", message));
    }
    if image.starts_with(b"\x89PNG\r\n\x1a\n") {
        Ok(("image/png", "png"))
    } else if image.starts_with(&[0xff, 0xd8, 0xff]) {
        Ok(("image/jpeg", "jpg"))
    } else {
        let message = "must be a PNG or a JPEG file".to_owned();
        Err(invalid("image", message))
    }
}
