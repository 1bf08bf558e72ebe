//! What a running task reports.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};
use utoipa::openapi::{ObjectBuilder, OneOfBuilder, RefOr, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::digest::Digest;
use crate::figure::FigureText;
use crate::model::SavedModel;
use crate::time::Timestamp;

/// A measured value. JSON has no NaN and no infinities, so these are the texts `NaN`,
/// `Infinity` and `-Infinity` there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Real(pub f64);

impl PartialSchema for Real {
    fn schema() -> RefOr<Schema> {
        let number = ObjectBuilder::new().schema_type(Type::Number);
        let text = ObjectBuilder::new()
            .schema_type(Type::String)
            .enum_values(Some(["NaN", "Infinity", "-Infinity"]));
        OneOfBuilder::new().item(number).item(text).into()
    }
}

impl ToSchema for Real {}

impl Serialize for Real {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            value if value.is_nan() => serializer.serialize_str("NaN"),
            f64::INFINITY => serializer.serialize_str("Infinity"),
            f64::NEG_INFINITY => serializer.serialize_str("-Infinity"),
            value => serializer.serialize_f64(value),
        }
    }
}

impl<'de> Deserialize<'de> for Real {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RealVisitor)
    }
}

struct RealVisitor;

impl Visitor<'_> for RealVisitor {
    type Value = Real;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a number, \"NaN\", \"Infinity\" or \"-Infinity\"")
    }

    fn visit_f64<E>(self, value: f64) -> Result<Real, E> {
        Ok(Real(value))
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "a measured value is the nearest float"
    )]
    fn visit_u64<E>(self, value: u64) -> Result<Real, E> {
        Ok(Real(value as f64))
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "a measured value is the nearest float"
    )]
    fn visit_i64<E>(self, value: i64) -> Result<Real, E> {
        Ok(Real(value as f64))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Real, E> {
        match text {
            "NaN" => Ok(Real(f64::NAN)),
            "Infinity" => Ok(Real(f64::INFINITY)),
            "-Infinity" => Ok(Real(f64::NEG_INFINITY)),
            _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
        }
    }
}

/// One measurement of a curve.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Point {
    /// The chart, e.g. `train`.
    pub title: String,
    /// The curve in it, e.g. `loss`.
    pub series: String,
    /// Its place on the curve.
    pub iteration: u64,
    /// What was measured.
    pub value: Real,
    /// When the host took it over.
    pub at: Timestamp,
    /// What the plugin gave beside the value, e.g. `{"epoch":3}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<Map<String, Value>>,
}

/// Where a console line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum LineSource {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// The plugin, at level debug.
    Debug,
    /// The plugin, at level info.
    Info,
    /// The plugin, at level warning.
    Warning,
    /// The plugin, at level error.
    Error,
    /// The host itself.
    Host,
}

impl LineSource {
    /// The name it has in JSON and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Host => "host",
        }
    }
}

/// How much a line matters, the least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// For whoever writes the program.
    Debug,
    /// What happens: standard output, too, and what the host says.
    Info,
    /// Something to look at: standard error, too.
    Warning,
    /// Something that went wrong.
    Error,
}

impl LineSource {
    /// Every source, in an order that never changes: the store knows them by their place.
    pub const ALL: [Self; 7] = [
        Self::Stdout,
        Self::Stderr,
        Self::Debug,
        Self::Info,
        Self::Warning,
        Self::Error,
        Self::Host,
    ];

    /// How much its lines matter.
    pub fn level(self) -> Level {
        match self {
            Self::Debug => Level::Debug,
            Self::Stdout | Self::Info | Self::Host => Level::Info,
            Self::Stderr | Self::Warning => Level::Warning,
            Self::Error => Level::Error,
        }
    }
}

/// Longest line of a console, in bytes.
pub const MAX_LINE_BYTES: usize = 256 << 10;

/// One line of the console.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Line {
    /// Where it came from.
    pub source: LineSource,
    /// Without its line break; invalid UTF-8 was replaced.
    pub text: String,
    /// When the host took it over.
    pub at: Timestamp,
}

/// Why there are samples, which says how many are kept.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// An image of a series that is kept as a whole.
    #[default]
    Visualization,
    /// What a program shows of its work as it goes on; of each series the last iterations are
    /// kept.
    Media,
}

impl Purpose {
    /// The name it has in JSON and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Visualization => "visualization",
            Self::Media => "media",
        }
    }

    /// The purpose of this name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Visualization, Self::Media]
            .into_iter()
            .find(|purpose| purpose.as_str() == name)
    }
}

/// An image, sound, video, page or text of a series of them: a file that has been uploaded
/// before, or an address that is only recorded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Sample {
    /// Why it is there.
    #[serde(default)]
    pub purpose: Purpose,
    /// E.g. `misclassified`: the title of a series of media.
    pub category: String,
    /// E.g. `validation`: the series.
    pub group: String,
    /// Its place in the group: the iteration of media.
    pub index: u64,
    /// Tells those of one place apart; mostly empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Of its file; absent for a link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
    /// Of a link: where it is. Nothing has looked there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// The length of its file; 0 for a link.
    pub size_bytes: u64,
    /// See [`crate::media::media_type`]; of a link what was said or the end of the address
    /// says, else `application/octet-stream`.
    pub content_type: String,
    /// When the host took it over.
    pub at: Timestamp,
    /// What the plugin gave beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<Map<String, Value>>,
}

/// A figure that belongs to an iteration; of several of one title, series and iteration the
/// last reported holds, and of each series the last iterations are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Plot {
    /// E.g. `confusion`.
    pub title: String,
    /// E.g. `validation`.
    pub series: String,
    /// When in the run it was made.
    pub iteration: u64,
    /// A Plotly figure as JSON text; see [`crate::figure::check_figure`].
    pub figure: String,
    /// When the host took it over.
    pub at: Timestamp,
}

/// One thing that a running task tells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Report {
    /// A point of a curve.
    Point(Point),
    /// A value without a curve; the last wins.
    Single {
        /// Its name.
        name: String,
        /// What was measured.
        value: Real,
    },
    /// A line of the console.
    Line(Line),
    /// An image or another sample.
    Sample(Sample),
    /// A figure.
    Plot(Plot),
    /// The table of a program that tries configurations by itself; the last holds.
    Trials {
        /// See [`check_trials`].
        payload: Map<String, Value>,
    },
    /// Environment variables that the plugin wants recorded, as parameters of the section
    /// `Environment`.
    Environment {
        /// Names and values, at most 100.
        values: BTreeMap<String, String>,
    },
    /// How far a phase has come.
    Progress {
        /// The phase.
        category: String,
        /// What is done.
        current: u64,
        /// Of what.
        total: u64,
    },
    /// A saved model; its file has been uploaded before.
    Model(SavedModel),
    /// Names the saved model that is the task's result.
    Output {
        /// See [`SavedModel::name`].
        name: String,
    },
}

/// Longest table of trials as JSON, in bytes.
pub const MAX_TRIALS_BYTES: usize = 1 << 20;

/// Checks the table of a program that tries configurations by itself: it has `trials`, and
/// mostly the names of columns (`base`, `hyperparameters`, `metrics`) and `best_trial`.
///
/// # Errors
/// One sentence.
pub fn check_trials(payload: &Map<String, Value>) -> Result<(), String> {
    match payload.get("trials") {
        Some(Value::Object(_)) => {}
        Some(_) => return Err("`trials` must be an object of trials by their ids".to_owned()),
        None => return Err("log_trials payload must include \"trials\" key".to_owned()),
    }
    let length = serde_json::json!(payload).to_string().len();
    if length > MAX_TRIALS_BYTES {
        return Err(format!(
            "must have at most {MAX_TRIALS_BYTES} bytes as JSON, but it has {length}"
        ));
    }
    Ok(())
}

/// A line of the console as a program without a lease reports it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewLine {
    /// `debug`, `info` (when absent), `warning`, `error`, `stdout` or `stderr`.
    #[serde(default = "info")]
    pub level: LineSource,
    /// At most 256 KiB.
    pub text: String,
    /// When it was written; the server's time when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
}

fn info() -> LineSource {
    LineSource::Info
}

/// A plot as a program without a lease reports it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPlot {
    /// See [`Plot::title`].
    pub title: String,
    /// See [`Plot::series`].
    pub series: String,
    /// See [`Plot::iteration`].
    #[serde(default)]
    pub iteration: u64,
    /// A Plotly figure as an object, or its text.
    pub figure: FigureText,
    /// When it was made; the server's time when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
}

/// A sample as a program without a lease reports it: of a file that has been uploaded before, or
/// an address that is only recorded. Exactly one of `sha256` and `uri` is given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSample {
    /// `media` when absent.
    #[serde(default = "media")]
    pub purpose: Purpose,
    /// See [`Sample::category`].
    #[serde(alias = "category")]
    pub title: String,
    /// See [`Sample::group`].
    #[serde(alias = "group")]
    pub series: String,
    /// See [`Sample::index`].
    #[serde(default, alias = "index")]
    pub iteration: u64,
    /// See [`Sample::name`].
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Of its file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
    /// Where it is, e.g. `https://…` or `s3://…`; nothing is read or stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// What its file, or the end of its address, says that it is when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// What belongs to it, at most 8 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<Map<String, Value>>,
    /// When it was made; the server's time when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
}

fn media() -> Purpose {
    Purpose::Media
}

/// What a program without a lease reports of a task that it runs, beside points.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NewReports {
    /// 1 to 200 bytes: sent again within a day, the reports are not recorded again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Lines of the console, in their order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<NewLine>,
    /// Of two of one title, series and iteration the later wins.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub plots: Vec<NewPlot>,
    /// Of two of one place the later wins.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub samples: Vec<NewSample>,
    /// Values without a curve, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub singles: BTreeMap<String, Real>,
    /// The table of trials of a program that tries configurations by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trials: Option<Map<String, Value>>,
}

/// Reports in the order in which they were made. Sending one again is harmless: the store
/// knows a batch by its task and key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Batch {
    /// Counts from 0 in each lease of a task.
    pub key: u64,
    /// At most [`MAX_BATCH`].
    pub reports: Vec<Report>,
}

/// Most reports of one batch.
pub const MAX_BATCH: usize = 20_000;

/// What a trial of a tune action reports of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TrialReport {
    /// Counts from 1; goes on counting after a restart from a checkpoint.
    pub iteration: u64,
    /// What was measured. Numbers that JSON does not have are texts such as `NaN`.
    pub metrics: Map<String, Value>,
    /// The name of a model that the task has saved, to go on from later.
    #[serde(default)]
    pub checkpoint: Option<String>,
    /// Of that model as it was saved last: what was saved under the name before is not meant.
    #[serde(default)]
    pub checkpoint_sha256: Option<Digest>,
    /// How long the trial has run, all attempts together and pauses apart.
    pub elapsed_ms: u64,
}

/// What a trial is to do after a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TrialDecision {
    /// Go on.
    Continue,
    /// Wait, without a slot, until it is told to continue or to stop.
    Pause,
    /// End now.
    Stop,
}

/// The answer to a report of a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TrialAnswer {
    /// What it is to do.
    pub decision: TrialDecision,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_report_survives_the_round_trip() {
        let sha256 = Digest::of(b"x");
        let object = |text: &str| serde_json::from_str::<Map<String, Value>>(text).unwrap();
        let reports = [
            Report::Single {
                name: "best".into(),
                value: Real(0.5),
            },
            Report::Line(Line {
                source: LineSource::Stderr,
                text: "a\n".into(),
                at: Timestamp(5),
            }),
            Report::Sample(Sample {
                purpose: Purpose::Media,
                category: "a".into(),
                group: "b".into(),
                index: 7,
                name: "c".into(),
                sha256: Some(sha256),
                uri: None,
                size_bytes: 1,
                content_type: "text/plain".into(),
                at: Timestamp(5),
                extra: Some(object(r#"{"a":1}"#)),
            }),
            Report::Plot(Plot {
                title: "a".into(),
                series: "b".into(),
                iteration: 7,
                figure: r#"{ "data": [] }"#.into(),
                at: Timestamp(5),
            }),
            Report::Trials {
                payload: object(r#"{"trials":{}}"#),
            },
            Report::Environment {
                values: BTreeMap::from([("A".into(), "b".into())]),
            },
            Report::Output { name: "m".into() },
        ];
        for report in reports {
            let text = serde_json::to_string(&report).unwrap();
            let back: Report = serde_json::from_str(&text).unwrap();
            assert_eq!(back, report);
        }
    }

    #[test]
    fn numbers_that_json_does_not_have_survive_the_round_trip() {
        for value in [
            0.1,
            -0.0,
            f64::MAX,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::NAN,
        ] {
            let text = serde_json::to_string(&Real(value)).unwrap();
            let back: Real = serde_json::from_str(&text).unwrap();
            assert!(back.0.to_bits() == value.to_bits() || (back.0.is_nan() && value.is_nan()));
        }
        assert!(serde_json::from_str::<Real>("\"nan\"").is_err());
        assert!(serde_json::from_str::<Real>("true").is_err());
    }
}
