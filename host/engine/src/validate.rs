//! The rules that reports of running tasks must keep. An agent keeps them by itself; a wrong
//! one must not make the store hold what nobody can show.

use serde_json::{Map, Value};
use trainshed_core::address::is_uri;
use trainshed_core::figure::check_figure;
use trainshed_core::media::{MAX_MEDIA_BYTES, UNKNOWN_TYPE, is_media_type, type_names};
use trainshed_core::name::{MAX_NAME_BYTES, is_model_name, is_series_name};
use trainshed_core::parameter::{ENVIRONMENT, Parameter};
use trainshed_core::report::{Batch, MAX_BATCH, MAX_LINE_BYTES, Report, Sample, check_trials};
use trainshed_store::{Frame, MAX_EXTRA_BYTES, MAX_FRAME_POINTS};

/// Checks every report of a batch.
///
/// # Errors
/// A sentence that names the first report at fault and its value.
pub(crate) fn check_batch(batch: &Batch, frames: &[Frame<'_>]) -> Result<(), String> {
    if batch.reports.len() > MAX_BATCH {
        return Err(format!(
            "a batch has at most {MAX_BATCH} reports, but this has {}",
            batch.reports.len()
        ));
    }
    let points: usize = frames.iter().map(Frame::point_count).sum();
    if points > MAX_FRAME_POINTS {
        return Err(format!(
            "a batch has at most {MAX_FRAME_POINTS} points in its frames, but this has {points}"
        ));
    }
    if i64::try_from(batch.key).is_err() {
        return Err(format!(
            "the key of a batch is at most {}, but it is {}",
            i64::MAX,
            batch.key
        ));
    }
    for (index, report) in batch.reports.iter().enumerate() {
        check_report(report).map_err(|wrong| format!("report {index}: {wrong}"))?;
    }
    Ok(())
}

/// Checks the reports that come with the end of a task.
///
/// # Errors
/// A sentence that names the first report at fault and its value.
pub(crate) fn check_last_reports(reports: &[Report]) -> Result<(), String> {
    if reports.len() > MAX_BATCH {
        return Err(format!(
            "the end of a task has at most {MAX_BATCH} reports, but this has {}",
            reports.len()
        ));
    }
    for (index, report) in reports.iter().enumerate() {
        if matches!(report, Report::Point(_)) {
            return Err(format!(
                "report {index}: points are reported before the end of their task"
            ));
        }
        check_report(report).map_err(|wrong| format!("report {index}: {wrong}"))?;
    }
    Ok(())
}

pub(crate) fn check_report(report: &Report) -> Result<(), String> {
    match report {
        Report::Point(point) => {
            check_name("a title", &point.title)?;
            check_name("a series", &point.series)?;
            check_extra("a point", point.extra.as_ref())
        }
        Report::Single { name, .. } => check_name("a single value", name),
        Report::Line(line) if line.text.len() > MAX_LINE_BYTES => Err(format!(
            "a line has at most {MAX_LINE_BYTES} bytes, but this has {}",
            line.text.len()
        )),
        Report::Line(_) => Ok(()),
        Report::Sample(sample) => check_sample(sample),
        Report::Plot(plot) => {
            check_name("a title", &plot.title)?;
            check_name("a series", &plot.series)?;
            check_figure(&plot.figure).map_err(|wrong| format!("a figure {wrong}"))
        }
        Report::Trials { payload } => check_trials(payload),
        Report::Environment { values } => {
            if values.len() > 100 {
                return Err(format!(
                    "at most 100 environment variables are recorded, but these are {}",
                    values.len()
                ));
            }
            for (name, value) in values {
                Parameter::new(ENVIRONMENT, name, value.as_str().into())
                    .checked()
                    .map_err(|error| error.message)?;
            }
            Ok(())
        }
        Report::Progress { category, .. } => check_name("a phase", category),
        Report::Model(model) => check_model_name(&model.name),
        Report::Output { name } => check_model_name(name),
    }
}

fn check_sample(sample: &Sample) -> Result<(), String> {
    check_name("a category", &sample.category)?;
    check_name("a group", &sample.group)?;
    if !sample.name.is_empty() {
        check_name("a sample", &sample.name)?;
    }
    if sample.sha256.is_some() == sample.uri.is_some() {
        return Err("a sample has either `sha256` or `uri`".to_owned());
    }
    if let Some(uri) = sample.uri.as_ref().filter(|uri| !is_uri(uri)) {
        return Err(format!(
            "`uri` of a sample must begin with a scheme, e.g. `https://`, but it is `{}`",
            shortened(uri).escape_debug()
        ));
    }
    let unknown_link = sample.uri.is_some() && sample.content_type == UNKNOWN_TYPE;
    if !is_media_type(&sample.content_type) && !unknown_link {
        return Err(format!(
            "a sample is of type {}, but this one is `{}`",
            type_names(),
            shortened(&sample.content_type)
        ));
    }
    if sample.size_bytes > MAX_MEDIA_BYTES {
        return Err(format!(
            "a sample has at most {MAX_MEDIA_BYTES} bytes, but this one has {}",
            sample.size_bytes
        ));
    }
    check_extra("a sample", sample.extra.as_ref())
}

fn check_extra(what: &str, extra: Option<&Map<String, Value>>) -> Result<(), String> {
    let length = extra.map_or(0, |extra| serde_json::json!(extra).to_string().len());
    if length <= MAX_EXTRA_BYTES {
        return Ok(());
    }
    Err(format!(
        "the extra data of {what} have at most {MAX_EXTRA_BYTES} bytes, but these have {length}"
    ))
}

fn check_name(what: &str, name: &str) -> Result<(), String> {
    if is_series_name(name) {
        return Ok(());
    }
    Err(format!(
        "the name of {what} has 1 to {MAX_NAME_BYTES} bytes and no control characters, but it is `{}`",
        shortened(name).escape_debug()
    ))
}

fn check_model_name(name: &str) -> Result<(), String> {
    if is_model_name(name) {
        return Ok(());
    }
    Err(format!(
        "the name of a model has 1 to 100 of A-Z, a-z, 0-9, `.`, `_` and `-`, but it is `{}`",
        shortened(name).escape_debug()
    ))
}

fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}
