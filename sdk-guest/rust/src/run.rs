//! The running task: what it was asked, and everything it reports.

use serde_json::Value;

use crate::bindings::imports::trainshed::plugin as raw;
use crate::checkpoint::ModelDetails;
use crate::compute::Program;
use crate::{ModelError, ReportError, Tensor};

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

impl<'a> Run<'a> {
    pub(crate) fn new(raw: &'a raw::run::Run) -> Self {
        Self { raw }
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

    /// Says how far one phase (`dataset`, `train` or `model_upload`) has come: `current`
    /// of `total`, e.g. epochs; `total` is at least 1. Never goes back.
    ///
    /// # Errors
    /// As [`Run::log_metric`].
    pub fn set_progress(&self, phase: &str, current: u64, total: u64) -> Result<(), ReportError> {
        Ok(self.raw.set_progress(phase, current, total)?)
    }

    /// Names the saved model that is the result of this task. Without it, the model
    /// saved last is.
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
