//! The rules that reports of running tasks must keep. An agent keeps them by itself; a wrong
//! one must not make the store hold what nobody can show.

use trainshed_core::name::{is_model_name, is_series_name};
use trainshed_core::report::{Batch, MAX_BATCH, Report};

use trainshed_store::MAX_EXTRA_BYTES;

/// Types of images that samples can have.
const IMAGE_TYPES: [&str; 2] = ["image/png", "image/jpeg"];

/// Checks every report of a batch.
///
/// # Errors
/// A sentence that names the first report at fault and its value.
pub(crate) fn check_batch(batch: &Batch) -> Result<(), String> {
    if batch.reports.len() > MAX_BATCH {
        return Err(format!(
            "a batch has at most {MAX_BATCH} reports, but this has {}",
            batch.reports.len()
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

fn check_report(report: &Report) -> Result<(), String> {
    match report {
        Report::Point(point) => {
            check_name("a title", &point.title)?;
            check_name("a series", &point.series)?;
            let extra = point
                .extra
                .as_ref()
                .map(|extra| serde_json::json!(extra).to_string());
            match extra {
                Some(extra) if extra.len() > MAX_EXTRA_BYTES => Err(format!(
                    "the extra data of a point have at most {MAX_EXTRA_BYTES} bytes, but these \
                     have {}",
                    extra.len()
                )),
                _ => Ok(()),
            }
        }
        Report::Single { name, .. } => check_name("a single value", name),
        Report::Line(_) => Ok(()),
        Report::Sample(sample) => {
            check_name("a category", &sample.category)?;
            check_name("a group", &sample.group)?;
            if !IMAGE_TYPES.contains(&sample.content_type.as_str()) {
                return Err(format!(
                    "a sample is of type {}, but this one is `{}`",
                    IMAGE_TYPES.join(" or "),
                    shortened(&sample.content_type)
                ));
            }
            Ok(())
        }
        Report::Progress { category, .. } => check_name("a phase", category),
        Report::Model(model) => check_model_name(&model.name),
        Report::Output { name } => check_model_name(name),
    }
}

fn check_name(what: &str, name: &str) -> Result<(), String> {
    if is_series_name(name) {
        return Ok(());
    }
    Err(format!(
        "the name of {what} has 1 to 200 bytes and no control characters, but it is `{}`",
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
