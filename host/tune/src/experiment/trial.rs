//! One trial's state.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::dict::Dict;
use super::event::Status;
use crate::schedule::Decision;
use crate::space::Config;

/// One trial, as far as its events tell.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    /// Its number, from 0.
    pub number: u64,
    /// Its id, unique in the experiment, e.g. `2f1e9_00000`.
    pub id: String,
    /// Where it stands.
    pub status: Status,
    /// How many attempts were started.
    pub attempt: u64,
    /// How many attempts failed.
    pub failures: u64,
    /// The last iteration that was reported.
    pub iteration: u64,
    /// The objective at every report: iteration and value. Values that are no finite number are
    /// NaN. Of a trial that has ended, the last and the best are left.
    pub curve: Vec<(u64, f64)>,
    /// How long it has run.
    pub elapsed_ms: u64,
    /// When its first attempt started.
    pub started_ms: Option<u64>,
    /// When it ended.
    pub ended_ms: Option<u64>,
    /// Its latest checkpoint and the iteration after which that was saved.
    pub checkpoint: Option<(String, u64)>,
    /// Why it ended, unless it simply ran through.
    pub reason: Option<String>,
    pub(crate) config: Dict,
    pub(crate) metrics: Dict,
    /// The answer to its last report.
    pub(crate) decision: Decision,
    /// A score that is comparable with that of trials which ran through.
    pub(crate) complete: bool,
    /// The last iteration that the scheduler was told.
    pub(crate) heard: u64,
    /// A paused trial that may go on.
    pub(crate) unpaused: bool,
    /// A paused trial whose sandbox is gone: it goes on by another attempt.
    pub(crate) evicted: bool,
}

impl Trial {
    pub(crate) fn new(number: u64, id: String, config: Config) -> Self {
        Self {
            number,
            id,
            config: config.into(),
            status: Status::Pending,
            attempt: 0,
            failures: 0,
            iteration: 0,
            metrics: Map::new().into(),
            curve: Vec::new(),
            elapsed_ms: 0,
            started_ms: None,
            ended_ms: None,
            checkpoint: None,
            reason: None,
            decision: Decision::Continue,
            complete: false,
            heard: 0,
            unpaused: false,
            evicted: false,
        }
    }

    /// Its configuration; an exploit changes it.
    pub fn config(&self) -> Cow<'_, Config> {
        self.config.get()
    }

    /// The last metrics that were reported, and what was returned in the end.
    pub fn metrics(&self) -> Cow<'_, Map<String, Value>> {
        self.metrics.get()
    }

    /// Keeps what has ended in little space.
    pub(crate) fn pack(&mut self) {
        self.config.pack();
        self.metrics.pack();
        self.curve.shrink_to_fit();
    }

    /// Keeps of the curve what may still be asked for: its last value and its best.
    pub(crate) fn forget_its_way(&mut self, score: impl Fn(f64) -> f64) {
        let finite = self.curve.iter().filter(|(_, value)| value.is_finite());
        let best = finite.min_by(|left, right| score(left.1).total_cmp(&score(right.1)));
        let best = best.map(|(iteration, _)| *iteration);
        let last = self.curve.last().map(|(iteration, _)| *iteration);
        self.curve
            .retain(|(iteration, _)| Some(*iteration) == best || Some(*iteration) == last);
    }

    /// The last value of the objective, unless it is no finite number.
    pub fn last(&self) -> Option<f64> {
        let (_, value) = self.curve.last()?;
        value.is_finite().then_some(*value)
    }
}

/// The number in a metric's value: texts such as `nan`, which JSON has no number for, are NaN.
pub(crate) fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => match text.trim().to_lowercase().as_str() {
            "nan" | "inf" | "-inf" | "infinity" | "-infinity" | "+inf" | "+infinity" => {
                Some(f64::NAN)
            }
            _ => None,
        },
        Value::Null => Some(f64::NAN),
        _ => None,
    }
}
