//! What a running task reports.

use std::fmt;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};
use utoipa::openapi::{ObjectBuilder, OneOfBuilder, RefOr, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::digest::Digest;
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

/// An image of a series of images; its file has been uploaded before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Sample {
    /// E.g. `misclassified`.
    pub category: String,
    /// E.g. `validation`.
    pub group: String,
    /// Its place in the group.
    pub index: u64,
    /// Of its file.
    pub sha256: Digest,
    /// The length of its file.
    pub size_bytes: u64,
    /// `image/png` or `image/jpeg`.
    pub content_type: String,
    /// When the host took it over.
    pub at: Timestamp,
    /// What the plugin gave beside the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<Map<String, Value>>,
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
    /// An image.
    Sample(Sample),
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

#[cfg(test)]
mod tests {
    use super::*;

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
