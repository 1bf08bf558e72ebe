//! What a `tune_config` says.

use serde_json::{Map, Value};
use trainshed_core::action::ActionError;
use trainshed_core::name::nearest;

use crate::domain::Domain;
use crate::math::{LARGEST_INDEX, index};
use crate::schedule::{Scheduler, named};
use crate::search::Searcher;
use crate::space::{Config, Space};

/// A `tune_config`, checked against its space.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) metric: String,
    pub(crate) maximise: bool,
    /// `None` without a limit.
    pub(crate) num_samples: Option<u64>,
    pub(crate) max_concurrent_trials: Option<usize>,
    pub(crate) points: Vec<Config>,
    pub(crate) repeat_grid: bool,
    /// How many failures of a trial are forgiven; `None` for all.
    pub(crate) max_failures: Option<u64>,
    pub(crate) fail_fast: bool,
    pub(crate) time_budget_ms: Option<u64>,
    /// So many finished trials without a better one end the experiment.
    pub(crate) patience: Option<u64>,
    /// A trial ends when a metric reaches its value.
    pub(crate) stop: Vec<(String, f64)>,
    pub(crate) scope: Scope,
    pub(crate) searcher: Searcher,
    pub(crate) scheduler: Scheduler,
    /// What was accepted but is likely a mistake, one sentence each.
    pub(crate) warnings: Vec<String>,
}

/// Which value of a trial counts when trials are compared in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// The last one.
    Last,
    /// The best one.
    Best,
}

const FIELDS: [&str; 14] = [
    "mode",
    "metric",
    "num_samples",
    "max_concurrent_trials",
    "search_alg",
    "scheduler",
    "repeat_grid",
    "max_failures",
    "fail_fast",
    "time_budget_s",
    "patience_trials",
    "stop",
    "scope",
    "points_to_evaluate",
];

impl Settings {
    /// Parses and checks a `tune_config`.
    ///
    /// # Errors
    /// The first thing that is wrong: the field, its value and what would be right.
    pub(crate) fn parse(
        config: &Map<String, Value>,
        space: &Space,
        pointer: &str,
    ) -> Result<Self, ActionError> {
        let reader = Reader { config, pointer };
        reader.refuse_unknown()?;
        let mode = reader.required_text("mode", "max or min")?;
        let maximise = match mode {
            "max" => true,
            "min" => false,
            other => {
                return Err(reader.error(
                    "mode",
                    format!("mode must be max or min, but it is `{other}`"),
                ));
            }
        };
        let metric = reader.required_text("metric", "the name of a reported metric")?;
        if metric.is_empty() {
            return Err(reader.error("metric", "metric must not be empty"));
        }
        let num_samples = match reader.given("num_samples") {
            None => Some(1),
            Some(value) => match value.as_f64() {
                Some(-1.0) => None,
                Some(_) => Some(reader.count(
                    "num_samples",
                    1,
                    "an integer, 1 or more, or -1 without a limit",
                )?),
                None => {
                    return Err(reader.wrong(
                        "num_samples",
                        "an integer, 1 or more, or -1 without a limit",
                        value,
                    ));
                }
            },
        };
        let max_concurrent_trials = match reader.given("max_concurrent_trials") {
            None => None,
            Some(_) => match reader.count(
                "max_concurrent_trials",
                0,
                "an integer, 0 or null for no limit, or more",
            )? {
                0 => None,
                limit => usize::try_from(limit).ok(),
            },
        };
        let max_failures = match reader.given("max_failures").and_then(Value::as_f64) {
            Some(-1.0) => None,
            _ if reader.given("max_failures").is_none() => Some(0),
            _ => Some(reader.count(
                "max_failures",
                0,
                "an integer, 0 or more, or -1 for endless",
            )?),
        };
        let fail_fast = reader.flag("fail_fast")?;
        if fail_fast && max_failures != Some(0) {
            return Err(reader
                .error("fail_fast", "fail_fast and max_failures exclude each other")
                .with_hint("Leave out one of them."));
        }
        let time_budget_ms = reader
            .positive("time_budget_s")?
            .map(|seconds| index((seconds * 1000.0).min(LARGEST_INDEX * 1000.0)) as u64);
        let patience = match reader.given("patience_trials") {
            None => None,
            Some(_) => Some(reader.count("patience_trials", 1, "an integer, 1 or more")?),
        };
        let scope = match reader.given("scope") {
            None => Scope::Last,
            Some(Value::String(scope)) if scope == "last" => Scope::Last,
            Some(Value::String(scope)) if scope == "best" => Scope::Best,
            Some(other) => return Err(reader.wrong("scope", "last or best", other)),
        };
        let mut warnings = Vec::new();
        let points = reader.points(space, &mut warnings)?;
        let scheduler = Scheduler::parse(
            reader.given("scheduler"),
            &format!("{pointer}/scheduler"),
            space,
            largest_epochs(space),
        )?;
        let searcher = reader.searcher(&scheduler)?;
        if scheduler.changes_configurations() {
            if !searcher.is_blind() {
                return Err(reader.error(
                    "search_alg",
                    format!(
                        "Search algorithms cannot be used with {} schedulers. Please remove {}.",
                        scheduler.name, searcher.name
                    ),
                ));
            }
            if num_samples.is_none() {
                return Err(reader.error(
                    "num_samples",
                    format!(
                        "num_samples must be the size of the population for scheduler {}, not -1",
                        scheduler.name
                    ),
                ));
            }
        }
        if searcher.name == "grid" && !space.is_only_grid() {
            return Err(reader
                .error(
                    "search_alg",
                    "search_alg grid needs a space of grid_search parameters alone",
                )
                .with_hint("Use basicvariantgenerator for a grid beside drawn parameters."));
        }
        Ok(Self {
            metric: metric.to_owned(),
            maximise,
            num_samples,
            max_concurrent_trials,
            points,
            repeat_grid: reader.flag("repeat_grid")?,
            max_failures,
            fail_fast,
            time_budget_ms,
            patience,
            stop: reader.stop()?,
            scope,
            searcher,
            scheduler,
            warnings,
        })
    }

    /// A metric's value as something to minimise.
    pub(crate) fn score(&self, value: f64) -> f64 {
        if self.maximise { -value } else { value }
    }
}

/// The largest value of a parameter called `epochs`.
fn largest_epochs(space: &Space) -> Option<f64> {
    let parameter = &space.parameters()[space.position("epochs")?];
    let largest = match &parameter.domain {
        Domain::Choice { options } | Domain::Grid { options } => options
            .iter()
            .filter_map(Value::as_f64)
            .fold(f64::NEG_INFINITY, f64::max),
        Domain::Constant { value } => value.as_f64()?,
        Domain::Normal { .. } => return None,
        domain => domain.value_at(1.0).as_f64()?.ceil(),
    };
    (largest >= 1.0).then_some(largest)
}

struct Reader<'a> {
    config: &'a Map<String, Value>,
    pointer: &'a str,
}

impl<'a> Reader<'a> {
    fn given(&self, field: &str) -> Option<&'a Value> {
        self.config.get(field).filter(|value| !value.is_null())
    }

    fn error(&self, field: &str, message: impl Into<String>) -> ActionError {
        ActionError::new(format!("{}/{field}", self.pointer), message)
    }

    fn wrong(&self, field: &str, expected: &str, found: &Value) -> ActionError {
        ActionError::wrong_type(&format!("{}/{field}", self.pointer), field, expected, found)
    }

    fn refuse_unknown(&self) -> Result<(), ActionError> {
        let Some(unknown) = self
            .config
            .keys()
            .find(|key| !FIELDS.contains(&key.as_str()))
        else {
            return Ok(());
        };
        let hint = match nearest(unknown, FIELDS) {
            Some(name) => format!("Did you mean `{name}`?"),
            None => format!("The fields are {}.", FIELDS.join(", ")),
        };
        Err(self
            .error(unknown, format!("tune_config has no field `{unknown}`"))
            .with_hint(hint))
    }

    fn required_text(&self, field: &str, what: &str) -> Result<&'a str, ActionError> {
        match self.given(field) {
            Some(Value::String(text)) => Ok(text),
            Some(other) => Err(self.wrong(field, &format!("a text: {what}"), other)),
            None => Err(self.error(field, format!("tune_config.{field} is required: {what}"))),
        }
    }

    fn count(&self, field: &str, least: u64, expected: &str) -> Result<u64, ActionError> {
        let value = self.given(field).unwrap_or(&Value::Null);
        let number = value.as_f64().filter(|number| {
            number.fract() == 0.0 && *number >= least as f64 && *number <= LARGEST_INDEX
        });
        number
            .map(|number| index(number) as u64)
            .ok_or_else(|| self.wrong(field, expected, value))
    }

    fn positive(&self, field: &str) -> Result<Option<f64>, ActionError> {
        match self.given(field) {
            None => Ok(None),
            Some(value) => match value.as_f64().filter(|number| *number > 0.0) {
                Some(number) => Ok(Some(number)),
                None => Err(self.wrong(field, "a number, more than 0", value)),
            },
        }
    }

    fn flag(&self, field: &str) -> Result<bool, ActionError> {
        match self.given(field) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(self.wrong(field, "true or false", other)),
        }
    }

    fn stop(&self) -> Result<Vec<(String, f64)>, ActionError> {
        let fields = match self.given("stop") {
            None => return Ok(Vec::new()),
            Some(Value::Object(fields)) => fields,
            Some(other) => {
                return Err(self.wrong("stop", "a dict from a metric to a number", other));
            }
        };
        fields
            .iter()
            .map(|(metric, value)| match value.as_f64() {
                Some(number) => Ok((metric.clone(), number)),
                None => Err(self.wrong(&format!("stop/{metric}"), "a number", value)),
            })
            .collect()
    }

    /// The points to evaluate, which stand in `search_alg` or beside it.
    fn points(
        &self,
        space: &Space,
        warnings: &mut Vec<String>,
    ) -> Result<Vec<Config>, ActionError> {
        let nested = self
            .given("search_alg")
            .and_then(|search| search.get("points_to_evaluate"));
        let (value, field) = match nested.filter(|value| !value.is_null()) {
            Some(value) => (value, "search_alg/points_to_evaluate"),
            None => match self.given("points_to_evaluate") {
                Some(value) => (value, "points_to_evaluate"),
                None => return Ok(Vec::new()),
            },
        };
        let list = match value {
            Value::Array(list) => list.as_slice(),
            one => std::slice::from_ref(one),
        };
        let mut points = Vec::with_capacity(list.len());
        for (position, point) in list.iter().enumerate() {
            let field = format!("{field}/{position}");
            let Value::Object(point) = point else {
                return Err(self.wrong(&field, "a dict from hyperparameters to values", point));
            };
            warnings.extend(space.check_point(point, &format!("{}/{field}", self.pointer))?);
            points.push(point.clone());
        }
        Ok(points)
    }

    fn searcher(&self, scheduler: &Scheduler) -> Result<Searcher, ActionError> {
        let nothing = Map::new();
        let pointer = format!("{}/search_alg", self.pointer);
        let default = match scheduler.name {
            "bohb" => "bohb",
            // A population is small, so its members are spread instead of drawn.
            "pbt" | "pb2" => "sobol",
            _ => "basicvariantgenerator",
        };
        let (name, options) = named(
            self.given("search_alg"),
            &pointer,
            "search_alg",
            default,
            &nothing,
        )?;
        Searcher::parse(name, options, &pointer)
    }
}
