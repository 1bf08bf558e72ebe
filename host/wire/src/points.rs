//! Bodies about points of curves: `docs/points.md`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use trainshed_core::Timestamp;
use trainshed_core::report::Real;
use trainshed_series::{Points, Sampled, parse_batch};
use utoipa::ToSchema;

pub use trainshed_series::{
    Axis, BadBatch, Batch as PointBatch, Frame, FrameBuilder, MAX_STEP, Sampling, UnknownAxis,
};

/// The media type of the binary body.
pub const POINTS_TYPE: &str = "application/vnd.trainshed.points";

/// Reads a body with points: binary when its media type is [`POINTS_TYPE`], otherwise JSON.
///
/// # Errors
/// What is wrong with it, and where.
pub fn read_points<'a>(
    media_type: &str,
    body: &'a [u8],
    now: Timestamp,
) -> Result<PointBatch<'a>, BadBatch> {
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case(POINTS_TYPE) {
        return parse_batch(body, now.as_millis());
    }
    let frame = Frame::decode(body).map_err(|error| BadBatch {
        pointer: String::new(),
        message: error.to_string(),
    })?;
    Ok(PointBatch {
        frame,
        ..PointBatch::default()
    })
}

/// The answer to reported points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Recorded {
    /// Points in the batch.
    pub points: u64,
    /// Whether a batch of the same key had been recorded before; this one was not.
    pub repeated: bool,
}

/// The points of one curve, as columns.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Curve {
    /// The chart.
    pub title: String,
    /// The curve in it.
    pub series: String,
    /// Ascending.
    pub iterations: Vec<u64>,
    /// One for each iteration.
    pub values: Vec<Real>,
    /// When each was measured.
    pub times: Vec<Timestamp>,
    /// What came with each, `null` where nothing did; of a trial's points the `trial_id` at
    /// least. Absent when nothing came with any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<Option<serde_json::Map<String, serde_json::Value>>>)]
    pub extra: Vec<Option<Box<RawValue>>>,
    /// The iteration from which the next page goes on; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

impl Curve {
    /// A page of points, and where the next one begins.
    pub fn new((title, series): (String, String), points: &Points, next: Option<u64>) -> Self {
        let view = points.view();
        let mut extra = Vec::new();
        for (index, text) in view.extras() {
            extra.resize(points.len(), None);
            extra[index] = RawValue::from_string(text.to_owned()).ok();
        }
        Self {
            iterations: view.steps().to_vec(),
            values: view.values().iter().copied().map(Real).collect(),
            times: view.times().iter().copied().map(Timestamp).collect(),
            extra,
            next,
            title,
            series,
        }
    }
}

/// Last, least and greatest value of a curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MetricSummary {
    /// The value of the greatest iteration.
    pub last: Real,
    /// The least value.
    pub min: Real,
    /// The greatest value.
    pub max: Real,
}

/// Places on the x axis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum AxisValues {
    /// Iterations, or milliseconds since 1970.
    Numbers(Vec<i64>),
    /// Times as ISO 8601 has them.
    Times(Vec<String>),
}

/// Samples of a curve, as columns of one length.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SampledCurve {
    /// `exact`: every sample is a point, and all points are there; `mean`: every sample is
    /// the mean of a window; `lttb`: points that shape the curve.
    pub sampling: String,
    /// Ascending.
    pub x: AxisValues,
    /// The value, or the mean of each window.
    pub y: Vec<Real>,
    /// The least value of each window; with `mean` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<Vec<Real>>,
    /// The greatest value of each window; with `mean` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<Vec<Real>>,
    /// The points of each window; with `mean` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<Vec<u64>>,
}

/// Samples of all curves of a task, by title and series.
pub type AllSamples = BTreeMap<String, BTreeMap<String, SampledCurve>>;

impl SampledCurve {
    /// Samples over an axis.
    pub fn new(mut sampled: Sampled, axis: Axis) -> Self {
        let x = axis_values(&mut sampled, axis);
        let is_mean = sampled.sampling == Sampling::Mean;
        let reals = |column: Vec<f64>| column.into_iter().map(Real).collect();
        Self {
            sampling: sampled.sampling.as_str().to_owned(),
            x,
            y: reals(sampled.values),
            min: is_mean.then(|| reals(sampled.min)),
            max: is_mean.then(|| reals(sampled.max)),
            counts: is_mean.then_some(sampled.counts),
        }
    }
}

fn axis_values(sampled: &mut Sampled, axis: Axis) -> AxisValues {
    match axis {
        Axis::Iter => {
            let steps = sampled.steps.iter();
            AxisValues::Numbers(steps.map(|step| step.cast_signed()).collect())
        }
        Axis::Timestamp => {
            sampled.sort_by_time();
            AxisValues::Numbers(sampled.times.clone())
        }
        Axis::IsoTime => {
            sampled.sort_by_time();
            AxisValues::Times(sampled.times.iter().map(|time| iso_time(*time)).collect())
        }
    }
}

fn iso_time(millis: i64) -> String {
    let furthest = if millis < 0 {
        jiff::Timestamp::MIN
    } else {
        jiff::Timestamp::MAX
    };
    let time = jiff::Timestamp::from_millisecond(millis).unwrap_or(furthest);
    format!("{time:.3}")
}

/// A curve as `application/octet-stream`: the number of rows and of columns, 32 bits each,
/// then column after column, little-endian. The first column is x as 64-bit floats (the
/// iteration, or milliseconds since 1970); the others are values as floats of the wanted
/// length: the value alone, or mean, least and greatest.
#[derive(Debug)]
pub struct CurveColumns<'a> {
    /// Places on the x axis.
    pub x: &'a [f64],
    /// Columns of values, as long as `x`.
    pub columns: &'a [&'a [f64]],
}

impl CurveColumns<'_> {
    /// The bytes, with values of 32 bits if `is_single`.
    pub fn encode(&self, is_single: bool) -> Vec<u8> {
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes();
        let mut bytes = Vec::with_capacity(8 + self.x.len() * 8 * (1 + self.columns.len()));
        bytes.extend_from_slice(&count(self.x.len()));
        bytes.extend_from_slice(&count(1 + self.columns.len()));
        for x in self.x {
            bytes.extend_from_slice(&x.to_le_bytes());
        }
        for value in self.columns.iter().copied().flatten() {
            if is_single {
                #[expect(clippy::cast_possible_truncation, reason = "asked for by the caller")]
                let single = *value as f32;
                bytes.extend_from_slice(&single.to_le_bytes());
            } else {
                bytes.extend_from_slice(&value.to_le_bytes());
            }
        }
        bytes
    }

    /// Samples as bytes.
    pub fn of_samples(mut sampled: Sampled, axis: Axis, is_single: bool) -> Vec<u8> {
        if axis != Axis::Iter {
            sampled.sort_by_time();
        }
        #[expect(clippy::cast_precision_loss, reason = "a place on a chart")]
        let x: Vec<f64> = match axis {
            Axis::Iter => sampled.steps.iter().map(|step| *step as f64).collect(),
            Axis::Timestamp | Axis::IsoTime => {
                sampled.times.iter().map(|time| *time as f64).collect()
            }
        };
        let all = [&*sampled.values, &*sampled.min, &*sampled.max];
        let columns = if sampled.sampling == Sampling::Mean {
            &all[..]
        } else {
            &all[..1]
        };
        CurveColumns { x: &x, columns }.encode(is_single)
    }

    /// All points as bytes.
    pub fn of_points(points: &Points, is_single: bool) -> Vec<u8> {
        let view = points.view();
        #[expect(clippy::cast_precision_loss, reason = "a place on a chart")]
        let x: Vec<f64> = view.steps().iter().map(|step| *step as f64).collect();
        let columns = [view.values()];
        CurveColumns {
            x: &x,
            columns: &columns,
        }
        .encode(is_single)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_read_by_its_media_type() {
        let mut builder = FrameBuilder::default();
        builder.push(("t".into(), "s".into()), 1, 2, 0.5, None);
        let frame = builder.finish();
        let bytes = frame.encode();
        let now = Timestamp(2);
        let media_type = "Application/vnd.trainshed.points; v=1";
        assert_eq!(read_points(media_type, &bytes, now).unwrap().frame, frame);
        let json = br#"{"points":[{"title":"t","series":"s","iteration":1,"value":0.5}]}"#;
        let read = read_points("application/json", json, now).unwrap();
        assert_eq!(read.frame, frame);
        assert!(read_points(media_type, json, now).is_err());
    }

    #[test]
    fn what_came_with_a_point_is_given_back_as_it_came() {
        let said = r#"{"b": 1e999, "a":[12345678901234567890123]}"#;
        let mut points = Points::default();
        points.push(1, 10, 0.5);
        points.push_with_extra(2, 20, 0.25, said.into());
        points.push(3, 30, 0.125);
        let curve = Curve::new(("t".into(), "s".into()), &points, None);
        let answer = serde_json::to_string(&curve).unwrap();
        assert!(
            answer.contains(&format!(r#""extra":[null,{said},null]"#)),
            "{answer}"
        );
        let read: Curve = serde_json::from_str(&answer).unwrap();
        assert_eq!(read.extra[1].as_ref().unwrap().get(), said);
    }

    #[test]
    fn times_are_written_as_iso_8601_has_them() {
        assert_eq!(iso_time(1_700_000_000_120), "2023-11-14T22:13:20.120Z");
        assert!(iso_time(i64::MAX).starts_with("9999"));
        assert!(iso_time(i64::MIN).starts_with("-009999"));
    }
}
