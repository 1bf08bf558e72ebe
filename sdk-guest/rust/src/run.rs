//! The running task: what it was asked, and everything it reports.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::bindings::imports::trainshed::plugin as raw;
use crate::checkpoint::{Keep, ModelDetails};
use crate::compute::Program;
use crate::plot::Figure;
use crate::{Failure, ModelError, ReportError, Tensor};

/// The running task.
///
/// Names (categories, keys, titles, series) are 1 to 200 bytes without control
/// characters. A report is taken over when its call returns, and durable before the task
/// is shown as ended; a call waits while the host is behind.
#[derive(Debug)]
pub struct Run<'a> {
    raw: &'a raw::run::Run,
}

/// One measurement, as [`Run::log_metrics`] takes it.
#[derive(Debug, Clone)]
pub struct Metric<'a> {
    /// The chart it belongs to, e.g. `train`.
    pub category: &'a str,
    /// The curve in that chart, e.g. `loss`.
    pub key: &'a str,
    /// In the unit the name implies; NaN and infinities are kept.
    pub value: f64,
    /// An object of what belongs to the measurement, or null. Its `step`, `iteration` or
    /// `epoch` places the point on the curve.
    pub extra: Value,
}

/// An image, sound, video, page or text, as [`Run::report_media`] takes it.
#[derive(Debug, Clone, Default)]
pub struct Media<'a> {
    /// The bytes of its file.
    pub content: &'a [u8],
    /// E.g. `audio/wav`; what the bytes look like when absent, which of a page is
    /// `text/plain`.
    pub content_type: Option<&'a str>,
    /// Tells several of one title, series and iteration apart; mostly empty.
    pub name: &'a str,
    /// An object of what belongs to it, or null.
    pub extra: Value,
}

/// How much a line on the task's console matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// For whoever writes the plugin.
    Debug,
    /// What happens.
    Info,
    /// Something to look at.
    Warning,
    /// Something that went wrong.
    Error,
}

/// What a trial is to do after a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Go on.
    Continue,
    /// Return soon.
    Stop,
}

impl<'a> Run<'a> {
    pub(crate) fn new(raw: &'a raw::run::Run) -> Self {
        Self { raw }
    }

    pub(crate) fn raw(&self) -> &'a raw::run::Run {
        self.raw
    }

    /// The task's id: 32 hexadecimal digits.
    pub fn task_id(&self) -> String {
        self.raw.task_id()
    }

    /// The trial's id when the task is a trial of a tuning experiment.
    pub fn trial_id(&self) -> Option<String> {
        self.raw.trial_id()
    }

    /// The seed of this run: give it to [`crate::rng::Rng`].
    pub fn seed(&self) -> u64 {
        self.raw.seed()
    }

    /// The action's whole `params` object.
    pub fn params(&self) -> Value {
        serde_json::from_str(&self.raw.params()).unwrap_or_default()
    }

    /// Whether the task was asked to stop. Cheap: call it once a step.
    pub fn stopping(&self) -> bool {
        self.raw.stopping()
    }

    /// Records one measurement; see [`Metric`] for the arguments.
    ///
    /// # Errors
    /// When a name or `extra` breaks a rule, a quota is used up, or the task is stopped.
    pub fn log_metric(
        &self,
        category: &str,
        key: &str,
        value: f64,
        extra: Value,
    ) -> Result<(), ReportError> {
        let extra = json_or_none(&extra);
        Ok(self
            .raw
            .log_metric(category, key, value, extra.as_deref())?)
    }

    /// Records all of `metrics`, or none: at most 10,000.
    ///
    /// # Errors
    /// As [`Run::log_metric`].
    pub fn log_metrics(&self, metrics: &[Metric<'_>]) -> Result<(), ReportError> {
        let metrics: Vec<_> = metrics
            .iter()
            .map(|metric| raw::run::Metric {
                category: metric.category.to_owned(),
                key: metric.key.to_owned(),
                value: metric.value,
                extra: json_or_none(&metric.extra),
            })
            .collect();
        Ok(self.raw.log_metrics(&metrics)?)
    }

    /// Records an image of PNG or JPEG bytes, at most 4 MiB; of two with one category,
    /// group and index the later wins. [`crate::image`] makes PNGs.
    ///
    /// # Errors
    /// As [`Run::log_metric`].
    pub fn log_visualization(
        &self,
        category: &str,
        group: &str,
        index: u64,
        image: &[u8],
        extra: Value,
    ) -> Result<(), ReportError> {
        let extra = json_or_none(&extra);
        Ok(self
            .raw
            .log_visualization(category, group, index, image, extra.as_deref())?)
    }

    /// Records a point of the curve `series` in the chart `title`.
    ///
    /// # Errors
    /// As [`Run::log_metric`].
    pub fn report_scalar(
        &self,
        title: &str,
        series: &str,
        value: f64,
        iteration: u64,
    ) -> Result<(), ReportError> {
        Ok(self.raw.report_scalar(title, series, value, iteration)?)
    }

    /// Records a value that has no curve, e.g. the final accuracy. The last wins.
    ///
    /// # Errors
    /// As [`Run::log_metric`].
    pub fn report_single(&self, name: &str, value: f64) -> Result<(), ReportError> {
        Ok(self.raw.report_single(name, value)?)
    }

    /// Writes a line to the task's console, at most 64 KiB. What is printed arrives
    /// there by itself, at level info.
    ///
    /// # Errors
    /// As [`Run::log_metric`].
    pub fn report_text(&self, level: Level, message: &str) -> Result<(), ReportError> {
        let level = match level {
            Level::Debug => raw::run::Level::Debug,
            Level::Info => raw::run::Level::Info,
            Level::Warning => raw::run::Level::Warning,
            Level::Error => raw::run::Level::Error,
        };
        Ok(self.raw.report_text(level, message)?)
    }

    /// Records a plot; of several with one title, series and iteration the last holds, and
    /// of each series the last iterations are kept. At most 4 MiB as JSON.
    ///
    /// # Errors
    /// As [`Run::log_metric`].
    pub fn report_plot(
        &self,
        title: &str,
        series: &str,
        iteration: u64,
        figure: &Figure,
    ) -> Result<(), ReportError> {
        self.report_figure(title, series, iteration, &figure.to_json())
    }

    /// As [`Run::report_plot`], of a Plotly figure as JSON text, which is kept as it is.
    ///
    /// # Errors
    /// As [`Run::log_metric`], and when the text is no figure.
    pub fn report_figure(
        &self,
        title: &str,
        series: &str,
        iteration: u64,
        figure: &str,
    ) -> Result<(), ReportError> {
        Ok(raw::reports::plot(
            self.raw, title, series, iteration, figure,
        )?)
    }

    /// Records an image, sound, video, page or text of at most 64 MiB; of each series the
    /// last iterations are kept. See [`Media`].
    ///
    /// # Errors
    /// As [`Run::log_metric`], and when the content is not of its type.
    pub fn report_media(
        &self,
        title: &str,
        series: &str,
        iteration: u64,
        media: &Media<'_>,
    ) -> Result<(), ReportError> {
        let extra = json_or_none(&media.extra);
        Ok(raw::reports::media(
            self.raw,
            title,
            series,
            iteration,
            media.name,
            media.content_type,
            media.content,
            extra.as_deref(),
        )?)
    }

    /// Records a sample that lies elsewhere: its address is kept and shown, and nothing is read
    /// or stored. `media` has the rest; its content stays empty.
    ///
    /// # Errors
    /// As [`Run::log_metric`], and when it is no address.
    pub fn report_media_link(
        &self,
        title: &str,
        series: &str,
        iteration: u64,
        uri: &str,
        media: &Media<'_>,
    ) -> Result<(), ReportError> {
        let extra = json_or_none(&media.extra);
        Ok(raw::reports::media_link(
            self.raw,
            title,
            series,
            iteration,
            media.name,
            media.content_type,
            uri,
            extra.as_deref(),
        )?)
    }

    /// Keeps the table of a plugin that tries configurations by itself, and gives it as it
    /// is kept: `trials` are objects by id, either with the fields `base`,
    /// `hyperparameters` and `metrics`, each a list in the order of its columns, or flat. The
    /// last table holds.
    ///
    /// # Errors
    /// As [`Run::log_metric`].
    pub fn log_trials(
        &self,
        trials: Map<String, Value>,
        base: &[&str],
        hyperparameters: &[&str],
        metrics: &[&str],
        best_trial: &str,
    ) -> Result<Value, ReportError> {
        let payload = json!({
            "base": base, "trials": trials, "hyperparameters": hyperparameters,
            "metrics": metrics, "best_trial": best_trial,
        });
        raw::reports::trials(self.raw, &payload.to_string())?;
        Ok(payload)
    }

    /// Records the fields of `settings` as parameters of the section `section`, and gives
    /// them as somebody has edited them before the run, e.g. in a clone of the task. Keys of
    /// nested fields are joined by `/`.
    ///
    /// `settings` must become a JSON object. A section has no `/` and is none of `General`,
    /// `Args` and `properties`.
    ///
    /// # Errors
    /// When the section breaks a rule, or an edited value does not fit its field.
    pub fn connect<T: Serialize + DeserializeOwned>(
        &self,
        section: &str,
        settings: &T,
    ) -> Result<T, Failure> {
        let values = serde_json::to_string(settings)?;
        let connected = raw::settings::connect(self.raw, section, &values);
        let connected = connected.map_err(ReportError::from)?;
        let mut reader = serde_json::Deserializer::from_str(&connected);
        serde_path_to_error::deserialize(&mut reader).map_err(|error| {
            let path = error.path().to_string().replace('.', "/");
            Failure::invalid_parameter(format!("/{section}/{path}"), error.inner().to_string())
        })
    }

    /// Records a text as the configuration object `name` of the type `format`, e.g. `yaml`,
    /// and gives the text as somebody has edited it before the run. At most 8 MiB.
    ///
    /// # Errors
    /// As [`Run::log_metric`].
    pub fn connect_text(
        &self,
        name: &str,
        text: &str,
        format: &str,
    ) -> Result<String, ReportError> {
        Ok(raw::settings::connect_text(self.raw, name, text, format)?)
    }

    /// Says how far one phase (`dataset`, `train` or `model_upload`) has come: `current`
    /// of `total`, e.g. epochs; `total` is at least 1. Never goes back.
    ///
    /// # Errors
    /// As [`Run::log_metric`].
    pub fn set_progress(&self, phase: &str, current: u64, total: u64) -> Result<(), ReportError> {
        Ok(self.raw.set_progress(phase, current, total)?)
    }

    /// Says how a trial of a tuning experiment does, e.g. after every epoch, and hears what
    /// it is to do; waits while the scheduler holds the trial back. `metrics` is an object
    /// with the objective in it. `checkpoint` names a saved model from which the trial, or
    /// one that copies it, may go on later.
    ///
    /// Harmless in a task that is no trial: nothing is recorded, and the answer is
    /// [`Decision::Stop`] once the task is asked to stop. After it, save what is to be kept
    /// and return, or return [`crate::Failure::Stopped`].
    ///
    /// # Errors
    /// As [`Run::log_metric`], and when `metrics` is no object, or no model has that name.
    pub fn report(
        &self,
        metrics: &Value,
        checkpoint: Option<&str>,
    ) -> Result<Decision, ReportError> {
        Ok(match self.raw.report(&metrics.to_string(), checkpoint)? {
            raw::run::Decision::Continue => Decision::Continue,
            raw::run::Decision::Stop => Decision::Stop,
        })
    }

    /// Names the model that is the result of this task, before or after it is saved.
    /// Without it, or when none of this name is saved, the model saved last is.
    ///
    /// # Errors
    /// As [`Run::log_metric`].
    pub fn set_checkpoint_output(&self, name: &str) -> Result<(), ReportError> {
        Ok(self.raw.set_checkpoint_output(name)?)
    }

    /// Saves named tensors as a safetensors file, without passing them through the
    /// plugin's memory.
    ///
    /// `name` is 1 to 100 bytes of `[A-Za-z0-9._-]`; saving again under one name replaces
    /// what the task saved before. Returns once the model is uploaded.
    ///
    /// # Errors
    /// When an argument breaks a rule, a quota is used up, or the host cannot store it.
    pub fn save_model(
        &self,
        name: &str,
        tensors: &[(String, Tensor)],
        details: &ModelDetails,
    ) -> Result<(), ModelError> {
        let (tensors, details) = (raw_tensors(tensors), raw_details(details));
        Ok(raw::models::save(self.raw, name, &tensors, &details)?)
    }

    /// As [`Run::save_model`], together with the program that computes the model's
    /// predictions, so that whoever has the file can run it: [`crate::Checkpoint::program`]
    /// gives it back, and [`crate::Checkpoint::session`] makes it ready to run.
    ///
    /// [`crate::nn::Purpose::Predict`] records such a program: the label of each of its
    /// states names one of `tensors`, and nothing is updated.
    ///
    /// # Errors
    /// As [`Run::save_model`], and when the program does not fit the tensors.
    pub fn save_model_with_program(
        &self,
        name: &str,
        tensors: &[(String, Tensor)],
        details: &ModelDetails,
        program: &Program,
    ) -> Result<(), ModelError> {
        let (tensors, details) = (raw_tensors(tensors), raw_details(details));
        let saved = raw::models::save_with_program(self.raw, name, &tensors, &details, program);
        Ok(saved?)
    }

    /// As [`Run::save_model`], of a snapshot: a model of its own, called `<name>.<iteration>`,
    /// which this gives. Of those of one name the best by `score` and the last stay, as `keep`
    /// says unless the action does; trials keep all of theirs. [`Run::set_checkpoint_output`]
    /// with `name` means the best of them.
    ///
    /// # Errors
    /// As [`Run::save_model`].
    pub fn save_snapshot(
        &self,
        name: &str,
        tensors: &[(String, Tensor)],
        details: &ModelDetails,
        score: Option<f64>,
        keep: Keep,
    ) -> Result<String, ModelError> {
        let (tensors, details) = (raw_tensors(tensors), raw_details(details));
        let keep = raw::models::Keep {
            best: keep.best,
            last: keep.last,
            mode: match keep.smaller_is_better {
                true => raw::models::Mode::Min,
                false => raw::models::Mode::Max,
            },
        };
        let saved = raw::models::snapshot(self.raw, name, &tensors, &details, score, keep);
        Ok(saved?)
    }

    /// As [`Run::save_model`], of all files under `/scratch/<folder>`, for models that are more
    /// than tensors; [`crate::Checkpoint::unpack`] gives them back.
    ///
    /// # Errors
    /// As [`Run::save_model`], and when there are no files.
    pub fn save_folder(
        &self,
        name: &str,
        folder: &str,
        details: &ModelDetails,
    ) -> Result<(), ModelError> {
        let details = raw_details(details);
        Ok(raw::models::save_folder(self.raw, name, folder, &details)?)
    }
}

fn raw_tensors(tensors: &[(String, Tensor)]) -> Vec<(String, &raw::compute::Tensor)> {
    let tensors = tensors.iter();
    tensors
        .map(|(name, tensor)| (name.clone(), tensor.raw()))
        .collect()
}

fn raw_details(details: &ModelDetails) -> raw::models::Details {
    raw::models::Details {
        iteration: details.iteration,
        labels: details.labels.clone(),
        metadata: details.metadata.clone(),
    }
}

fn json_or_none(value: &Value) -> Option<String> {
    (!value.is_null()).then(|| value.to_string())
}
