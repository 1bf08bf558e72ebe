//! What tasks reported.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::report::{LineSource, Real};
use crate::time::Timestamp;

/// A curve, without its points.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SeriesSummary {
    /// The chart.
    pub title: String,
    /// The curve in it.
    pub series: String,
    /// How many points were reported.
    pub count: u64,
    /// The value at the greatest iteration; the later of two.
    pub last: Real,
    /// That iteration.
    pub last_iteration: u64,
    /// The least value that is not NaN.
    pub min: Real,
    /// The first iteration that has it.
    pub min_iteration: u64,
    /// The greatest value that is not NaN.
    pub max: Real,
    /// The first iteration that has it.
    pub max_iteration: u64,
}

/// A value without a curve.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SingleValue {
    /// Its name.
    pub name: String,
    /// The last value reported.
    pub value: Real,
}

/// A part of a task's console.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConsolePage {
    /// In the order that was asked for.
    pub lines: Vec<ConsoleLine>,
    /// Lines of the whole console.
    pub total: u64,
    /// Where the next page goes on: its first line, or going backwards the line after it.
    /// Absent when nothing is left. A search may come back with few lines, or none, before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// A plot of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlotView {
    /// E.g. `confusion`.
    pub title: String,
    /// E.g. `validation`.
    pub series: String,
    /// When in the run it was made.
    pub iteration: u64,
    /// When it was reported.
    pub at: Timestamp,
    /// The length of its figure.
    pub size_bytes: u64,
    /// The Plotly figure as JSON text, where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub figure: Option<String>,
}

/// One line of a console.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConsoleLine {
    /// Counts from 0.
    pub number: u64,
    /// Where it came from.
    pub source: LineSource,
    /// Without its line break.
    pub text: String,
    /// When it was written.
    pub at: Timestamp,
}
