//! Models: named weights that a task saved.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::action::ActionError;
use crate::digest::Digest;
use crate::id::TaskId;
use crate::labels;
use crate::report::Real;
use crate::view::MetadataItem;

/// Longest design of a model, in bytes.
pub const MAX_DESIGN_BYTES: usize = 1 << 20;
/// Most labels, tags or metadata of a model.
pub const MAX_ITEMS: usize = 100_000;

/// What a task does with a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelRole {
    /// Reads it.
    Input,
    /// Made it.
    Output,
}

impl ModelRole {
    /// As the database has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Output => "output",
        }
    }
}

/// A model to be registered: a file that was uploaded, or an address that is only recorded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Registration {
    /// For people.
    pub name: String,
    /// The task that made it.
    #[serde(default)]
    pub task: Option<TaskId>,
    /// Of its file. Exactly one of this and `uri` is given.
    #[serde(default)]
    pub sha256: Option<Digest>,
    /// Where it is.
    #[serde(default)]
    pub uri: Option<String>,
    /// What it is for, e.g. `PyTorch`.
    #[serde(default)]
    pub framework: String,
    /// How the network is built.
    #[serde(default)]
    pub design: String,
    /// Class names with their numbers; pairs of both are taken, too.
    #[serde(default, with = "labels")]
    #[schema(value_type = HashMap<String, i64>)]
    pub labels: Vec<(String, i64)>,
    /// For filters.
    #[serde(default)]
    pub tags: Vec<String>,
    /// For people.
    #[serde(default)]
    pub comment: String,
    /// The iteration at which it was saved.
    #[serde(default)]
    pub iteration: u64,
    /// The model it was made from.
    #[serde(default)]
    pub parent: Option<u64>,
    /// What is kept with it.
    #[serde(default)]
    pub metadata: Vec<MetadataItem>,
}

/// What of a model is to be changed; what is absent stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelEdit {
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub framework: Option<String>,
    /// How the network is built.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub design: Option<String>,
    /// Class names with their numbers; pairs of both are taken, too.
    #[serde(
        default,
        with = "labels::given",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<HashMap<String, i64>>)]
    pub labels: Option<Vec<(String, i64)>>,
    /// For filters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
    /// The iteration at which it was saved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iteration: Option<u64>,
    /// Where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
}

/// Whether a better score is a larger or a smaller one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ScoreMode {
    /// The larger, the better.
    #[default]
    Max,
    /// The smaller, the better.
    Min,
}

impl ScoreMode {
    /// As the API and the database have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Max => "max",
            Self::Min => "min",
        }
    }

    /// Whether `one` is a better score than `other`. NaN is worse than every number, and none
    /// is as NaN.
    pub fn is_better(self, one: Option<f64>, other: Option<f64>) -> bool {
        let number = |score: Option<f64>| score.filter(|score| !score.is_nan());
        match (number(one), number(other)) {
            (Some(one), Some(other)) => match self {
                Self::Max => one > other,
                Self::Min => one < other,
            },
            (one, other) => one.is_some() && other.is_none(),
        }
    }
}

/// How many snapshots of a name stay; all where both numbers are 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Keep {
    /// So many with the best scores; of equal ones the later are better.
    pub best: u32,
    /// So many of the last iterations.
    pub last: u32,
    /// Which scores are better.
    pub mode: ScoreMode,
}

/// A snapshot that is there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Taken {
    /// The id of the model.
    pub id: u64,
    /// At which it was saved.
    pub iteration: u64,
    /// What it is worth.
    pub score: Option<f64>,
}

impl Keep {
    /// Parses the field `snapshots` of an action's `params`, which overrules what the plugin
    /// asks for.
    ///
    /// # Errors
    /// When it is no object of `best`, `last` and `mode`.
    pub fn parse(params: &Map<String, Value>) -> Result<Option<Self>, ActionError> {
        let Some(value) = params.get("snapshots").filter(|value| !value.is_null()) else {
            return Ok(None);
        };
        let parsed = Self::deserialize(value);
        parsed.map(Some).map_err(|error| {
            ActionError::new(
                "/params/snapshots",
                format!(
                    "snapshots must be an object such as {{\"best\": 3, \"last\": 1, \"mode\": \"max\"}}: {error}"
                ),
            )
        })
    }

    /// Whether all stay.
    pub fn is_all(&self) -> bool {
        self.best == 0 && self.last == 0
    }

    /// The ids of those of `taken` that do not stay.
    pub fn dropped(&self, taken: &[Taken]) -> Vec<u64> {
        if self.is_all() {
            return Vec::new();
        }
        let count = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        let mut newest: Vec<&Taken> = taken.iter().collect();
        newest.sort_by_key(|one| std::cmp::Reverse((one.iteration, one.id)));
        let mut best = newest.clone();
        // Stable, so that of equal scores the later comes first.
        best.sort_by(|one, other| {
            let better = self.mode.is_better(one.score, other.score);
            let worse = self.mode.is_better(other.score, one.score);
            worse.cmp(&better)
        });
        let best = best.into_iter().filter(|one| one.score.is_some());
        let kept: HashSet<u64> = best
            .take(count(self.best))
            .chain(newest.iter().copied().take(count(self.last)))
            .map(|one| one.id)
            .collect();
        let ids = newest.iter().map(|one| one.id);
        ids.filter(|id| !kept.contains(id)).collect()
    }
}

/// What makes a saved model a snapshot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Snapshot {
    /// The name that all snapshots of one kind have in common.
    pub of: String,
    /// What it is worth, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<Real>,
    /// Which of them stay.
    pub keep: Keep,
}

/// A model as a running task hands it over; its file has been uploaded before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SavedModel {
    /// The task's own name for it; saving again under one name replaces the former.
    pub name: String,
    /// The iteration (usually the epoch) at which it was saved.
    pub iteration: u64,
    /// Of its safetensors file.
    pub sha256: Digest,
    /// The length of that file.
    pub size_bytes: u64,
    /// Class names with their numbers.
    #[serde(default)]
    pub labels: Vec<(String, i64)>,
    /// What the plugin wants back when it goes on from this model.
    #[serde(default)]
    pub metadata: Vec<(String, String)>,
    /// Whether its file is a zip archive of a folder.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_folder: bool,
    /// That it is one of several, of which some stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<Snapshot>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn dropped(best: u32, last: u32, mode: ScoreMode, scores: &[Option<f64>]) -> Vec<u64> {
        let taken: Vec<Taken> = (1..)
            .zip(scores)
            .map(|(id, score)| Taken {
                id,
                iteration: id * 10,
                score: *score,
            })
            .collect();
        let mut dropped = Keep { best, last, mode }.dropped(&taken);
        dropped.sort_unstable();
        dropped
    }

    #[test]
    fn the_best_and_the_last_snapshots_stay() {
        let scores = [0.5, 0.9, 0.1, 0.7].map(Some);
        assert_eq!(dropped(2, 0, ScoreMode::Max, &scores), [1, 3]);
        assert_eq!(dropped(1, 0, ScoreMode::Min, &scores), [1, 2, 4]);
        assert_eq!(dropped(1, 1, ScoreMode::Min, &scores), [1, 2]);
        assert_eq!(dropped(0, 2, ScoreMode::Max, &scores), [1, 2]);
        assert_eq!(dropped(0, 0, ScoreMode::Max, &scores), [0; 0]);
        assert_eq!(dropped(9, 0, ScoreMode::Max, &scores), [0; 0]);
    }

    #[test]
    fn what_is_no_number_is_the_worst_and_of_equals_the_later_stays() {
        let scores = [Some(f64::NAN), Some(0.5), None, Some(0.5)];
        assert_eq!(dropped(1, 0, ScoreMode::Max, &scores), [1, 2, 3]);
        assert_eq!(dropped(3, 0, ScoreMode::Min, &scores), [3]);
        let infinite = [Some(f64::INFINITY), Some(f64::NAN)];
        assert_eq!(dropped(1, 0, ScoreMode::Min, &infinite), [2]);
    }

    #[test]
    fn an_action_says_which_stay_or_is_refused() {
        let parsed = |value: Value| {
            let params = Map::from_iter([("snapshots".to_owned(), value)]);
            Keep::parse(&params)
        };
        let keep = Keep {
            best: 3,
            last: 0,
            mode: ScoreMode::Min,
        };
        assert_eq!(parsed(json!({"best": 3, "mode": "min"})), Ok(Some(keep)));
        assert_eq!(parsed(json!(null)), Ok(None));
        for wrong in [
            json!(3),
            json!({"best": -1}),
            json!({"worst": 1}),
            json!({"mode": "up"}),
        ] {
            assert_eq!(parsed(wrong).unwrap_err().pointer, "/params/snapshots");
        }
    }
}
