//! Search spaces: what the `hyperparameters` of an action mean.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};
use trainshed_core::action::{ActionError, check_space};

use crate::domain::{Axis, Domain, LARGEST_WHOLE, same_value};
use crate::math::{round_half_even, whole};
use crate::stream::Stream;

/// One configuration: the values of the parameters that are active in it.
pub type Config = Map<String, Value>;

/// A configuration as the models see it: one coordinate per parameter, NaN for what is not active.
pub type Point = Vec<f64>;

/// Most parameters of a space; low-discrepancy sequences have no more dimensions.
const MAX_PARAMETERS: usize = 256;
/// Most options of one parameter.
const MAX_OPTIONS: usize = 10_000;

/// A search space, checked: it yields a value for every parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct Space {
    parameters: Vec<Parameter>,
    /// Parents before children.
    order: Vec<usize>,
}

/// One parameter of a space.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// Its key in the configuration.
    pub name: String,
    /// Its type as submitted, e.g. `loguniform`.
    pub kind: String,
    /// The base of a logarithmic type, as submitted; it changes nothing.
    pub base: Option<f64>,
    /// Its values.
    pub domain: Domain,
    /// It is there only where all of these hold; always, if there are none.
    pub when: Vec<Condition>,
}

/// That another parameter has one of some options.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// The index of the other parameter, a choice or a grid.
    pub parent: usize,
    /// The indices of its options that make the condition hold.
    pub options: Vec<usize>,
}

impl Space {
    /// Parses a list of search spaces, one per parameter.
    ///
    /// # Errors
    /// The first thing that is wrong; it names the parameter and the key. `pointer` is where
    /// the list stands, e.g. `/params/hyperparameters`.
    pub fn parse(list: &[Value], pointer: &str) -> Result<Self, ActionError> {
        if list.is_empty() {
            return Err(ActionError::new(
                pointer,
                "hyperparameters must name at least one search space",
            ));
        }
        if list.len() > MAX_PARAMETERS {
            let count = list.len();
            return Err(ActionError::new(
                pointer,
                format!(
                    "hyperparameters can have at most {MAX_PARAMETERS} search spaces, but there are {count}"
                ),
            ));
        }
        let mut parameters: Vec<Parameter> = Vec::with_capacity(list.len());
        for (index, submitted) in list.iter().enumerate() {
            let pointer = format!("{pointer}/{index}");
            check_space(submitted, &pointer)?;
            let entry = Entry::new(submitted, &pointer)?;
            if parameters.iter().any(|other| other.name == entry.name) {
                return Err(ActionError::new(
                    format!("{pointer}/name"),
                    format!("hyperparameter `{}` is there twice", entry.name),
                ));
            }
            parameters.push(Parameter {
                name: entry.name.to_owned(),
                kind: entry.kind.to_owned(),
                base: match entry.is_log() {
                    true => Some(entry.number("base")?),
                    false => None,
                },
                domain: entry.domain()?,
                when: Vec::new(),
            });
        }
        for (index, submitted) in list.iter().enumerate() {
            let pointer = format!("{pointer}/{index}");
            let conditions = Entry::new(submitted, &pointer)?.conditions(&parameters)?;
            parameters[index].when = conditions;
        }
        let order = parents_first(&parameters).ok_or_else(|| {
            ActionError::new(
                pointer,
                "the conditions `when` of the hyperparameters go round in a circle",
            )
        })?;
        Ok(Self { parameters, order })
    }

    /// The parameters, in the order they were submitted in.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// The space as it was understood, in the form it was submitted in: with the steps `q`
    /// that were chosen where none was given.
    pub fn to_json(&self) -> Vec<Value> {
        self.parameters
            .iter()
            .map(|parameter| parameter.to_json(self))
            .collect()
    }

    /// The index of the parameter called `name`.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.parameters
            .iter()
            .position(|parameter| parameter.name == name)
    }

    /// The indices of the grid parameters, sorted by name.
    pub fn grid(&self) -> Vec<usize> {
        let is_grid = |index: &usize| matches!(self.parameters[*index].domain, Domain::Grid { .. });
        let mut grid: Vec<usize> = (0..self.parameters.len()).filter(is_grid).collect();
        grid.sort_by(|left, right| {
            let name = |index: usize| &self.parameters[index].name;
            name(*left).cmp(name(*right))
        });
        grid
    }

    /// Whether no parameter leaves anything to chance.
    pub fn is_only_grid(&self) -> bool {
        let fixed = |parameter: &Parameter| {
            matches!(
                parameter.domain,
                Domain::Grid { .. } | Domain::Constant { .. }
            )
        };
        self.parameters.iter().all(fixed) && !self.grid().is_empty()
    }

    /// Draws a configuration from the prior, keeping the values that `fixed` has.
    ///
    /// A number is drawn for every parameter, whether it is needed or not, so that fixing one
    /// parameter changes no other.
    pub(crate) fn draw(&self, stream: &mut Stream, fixed: &Config) -> Config {
        let numbers: Vec<f64> = self.parameters.iter().map(|_| stream.uniform()).collect();
        self.at_quantiles(&numbers, fixed)
    }

    /// The configuration at a point of the unit cube, by the quantiles of the prior.
    pub(crate) fn at_quantiles(&self, numbers: &[f64], fixed: &Config) -> Config {
        self.assemble(fixed, |index| {
            self.parameters[index].domain.quantile(numbers[index])
        })
    }

    /// The configuration at a point of the models, keeping the values that `fixed` has.
    pub(crate) fn decode(&self, point: &[f64], fixed: &Config) -> Config {
        self.assemble(fixed, |index| {
            self.parameters[index].domain.value_at(point[index])
        })
    }

    fn assemble(&self, fixed: &Config, value: impl Fn(usize) -> Value) -> Config {
        let mut config = Config::new();
        let mut active = vec![false; self.parameters.len()];
        for &index in &self.order {
            let parameter = &self.parameters[index];
            active[index] = parameter.when.iter().all(|condition| {
                let parent = &self.parameters[condition.parent];
                active[condition.parent] && condition.holds(parent, config.get(&parent.name))
            });
            if active[index] {
                let value = match fixed.get(&parameter.name) {
                    Some(value) => value.clone(),
                    None => value(index),
                };
                config.insert(parameter.name.clone(), value);
            }
        }
        config
    }

    /// The coordinates of a configuration. What is absent, or not of the domain, is NaN.
    pub fn encode(&self, config: &Config) -> Point {
        self.parameters
            .iter()
            .map(|parameter| {
                let value = config.get(&parameter.name);
                let coordinate = value.and_then(|value| parameter.domain.coordinate(value));
                coordinate.unwrap_or(f64::NAN)
            })
            .collect()
    }

    /// Which parameters are active at a point, judged by its own coordinates.
    pub(crate) fn active_at(&self, point: &[f64]) -> Vec<bool> {
        let mut active = vec![false; self.parameters.len()];
        for &index in &self.order {
            active[index] = self.parameters[index].when.iter().all(|condition| {
                let coordinate = point[condition.parent];
                active[condition.parent]
                    && condition
                        .options
                        .iter()
                        .any(|option| coordinate == *option as f64)
            });
        }
        active
    }

    /// Whether some parameter is not active everywhere.
    pub(crate) fn is_conditional(&self) -> bool {
        self.parameters
            .iter()
            .any(|parameter| !parameter.when.is_empty())
    }

    /// The axes of all parameters.
    pub(crate) fn axes(&self) -> Vec<Axis> {
        self.parameters
            .iter()
            .map(|parameter| parameter.domain.axis())
            .collect()
    }

    /// Checks a point to evaluate, which may leave out parameters.
    ///
    /// # Errors
    /// It names a parameter that the space does not have, or a value of another kind.
    pub(crate) fn check_point(
        &self,
        point: &Config,
        pointer: &str,
    ) -> Result<Vec<String>, ActionError> {
        let mut warnings = Vec::new();
        for (name, value) in point {
            let pointer = format!("{pointer}/{name}");
            let Some(index) = self.position(name) else {
                let names: Vec<&str> = self
                    .parameters
                    .iter()
                    .map(|parameter| parameter.name.as_str())
                    .collect();
                return Err(ActionError::new(
                    pointer,
                    format!("points_to_evaluate names `{name}`, which is no hyperparameter"),
                )
                .with_hint(format!("The hyperparameters are {}.", names.join(", "))));
            };
            let domain = &self.parameters[index].domain;
            match domain.coordinate(value) {
                None if matches!(domain, Domain::Choice { .. } | Domain::Grid { .. }) => warnings
                    .push(format!(
                        "points_to_evaluate gives `{name}` the value {value}, which is none of its options"
                    )),
                None => {
                    return Err(ActionError::wrong_type(
                        &pointer,
                        &format!("`{name}` of points_to_evaluate"),
                        "a number",
                        value,
                    ));
                }
                Some(coordinate) if !domain.is_within(value, coordinate) => warnings.push(format!(
                    "points_to_evaluate gives `{name}` the value {value}, which is outside its range"
                )),
                Some(_) => {}
            }
        }
        Ok(warnings)
    }
}

impl Domain {
    fn is_within(&self, value: &Value, coordinate: f64) -> bool {
        let Some(x) = value.as_f64() else { return true };
        match self {
            Self::Real { low, high, .. } => *low <= x && x <= *high,
            Self::Stepped { .. } | Self::Whole { .. } => {
                let nearest = self.value_at(coordinate).as_f64().unwrap_or(x);
                let (low, high) = (self.value_at(0.0).as_f64(), self.value_at(1.0).as_f64());
                low.is_none_or(|low| low <= x)
                    && high.is_none_or(|high| x <= high)
                    && nearest.is_finite()
            }
            _ => true,
        }
    }
}

impl Condition {
    fn holds(&self, parent: &Parameter, value: Option<&Value>) -> bool {
        let coordinate = value.and_then(|value| parent.domain.coordinate(value));
        coordinate.is_some_and(|coordinate| {
            self.options
                .iter()
                .any(|option| coordinate == *option as f64)
        })
    }
}

impl Parameter {
    fn to_json(&self, space: &Space) -> Value {
        let mut json = Map::new();
        json.insert("name".into(), self.name.as_str().into());
        json.insert("type".into(), self.kind.as_str().into());
        let mut put = |key: &str, value: Value| {
            json.insert(key.to_owned(), value);
        };
        if let Some(base) = self.base {
            put("base", base.into());
        }
        match &self.domain {
            Domain::Real { low, high, .. } => {
                put("min", (*low).into());
                put("max", (*high).into());
            }
            Domain::Stepped { q, .. } => {
                put("min", self.domain.value_at(0.0));
                put("max", self.domain.value_at(1.0));
                put("q", (*q).into());
            }
            Domain::Whole { last, q, .. } => {
                put("min", self.domain.value_at(0.0));
                let last = if *q == 1 { last + 1 } else { last * q };
                put("max", last.into());
                put("q", (*q).into());
            }
            Domain::Normal { mean, sd, q } => {
                put("mean", (*mean).into());
                put("sd", (*sd).into());
                if let Some(q) = q {
                    put("q", (*q).into());
                }
            }
            Domain::Choice { options } | Domain::Grid { options } => {
                put("options", options.clone().into());
            }
            Domain::Constant { value } => put("value", value.clone()),
        }
        if !self.when.is_empty() {
            let mut when = Map::new();
            for condition in &self.when {
                let parent = &space.parameters[condition.parent];
                let value = |option: &usize| parent.domain.value_at(*option as f64);
                when.insert(
                    parent.name.clone(),
                    condition.options.iter().map(value).collect(),
                );
            }
            json.insert("when".into(), when.into());
        }
        json.into()
    }
}

/// An order of the parameters in which each stands behind those it depends on.
fn parents_first(parameters: &[Parameter]) -> Option<Vec<usize>> {
    let mut order = Vec::with_capacity(parameters.len());
    let mut placed = BTreeSet::new();
    while order.len() < parameters.len() {
        let ready: Vec<usize> = (0..parameters.len())
            .filter(|index| !placed.contains(index))
            .filter(|index| {
                parameters[*index]
                    .when
                    .iter()
                    .all(|condition| placed.contains(&condition.parent))
            })
            .collect();
        if ready.is_empty() {
            return None;
        }
        placed.extend(ready.iter().copied());
        order.extend(ready);
    }
    Some(order)
}

/// One submitted search space, whose keys are known to be there and to have the right type.
struct Entry<'a> {
    name: &'a str,
    kind: &'a str,
    keys: &'a Map<String, Value>,
    pointer: &'a str,
}

impl<'a> Entry<'a> {
    fn new(submitted: &'a Value, pointer: &'a str) -> Result<Self, ActionError> {
        let malformed = || ActionError::wrong_type(pointer, "a search space", "a dict", submitted);
        let keys = submitted.as_object().ok_or_else(malformed)?;
        let text = |key: &str| keys.get(key).and_then(Value::as_str).ok_or_else(malformed);
        Ok(Self {
            name: text("name")?,
            kind: text("type")?,
            keys,
            pointer,
        })
    }

    fn error(&self, key: &str, message: impl std::fmt::Display) -> ActionError {
        let (name, kind) = (self.name, self.kind);
        ActionError::new(
            format!("{}/{key}", self.pointer),
            format!("hyperparameter `{name}` of type {kind}: {message}"),
        )
    }

    fn domain(&self) -> Result<Domain, ActionError> {
        self.refuse_unknown_keys()?;
        self.check_base()?;
        match self.kind {
            "uniform" | "loguniform" => self.real(),
            "quniform" | "qloguniform" => self.stepped(),
            "randint" | "qrandint" | "lograndint" | "qlograndint" => self.whole(),
            "randn" | "qrandn" => self.normal(),
            "choice" => Ok(Domain::Choice {
                options: self.options()?,
            }),
            "grid_search" => Ok(Domain::Grid {
                options: self.options()?,
            }),
            _ => Ok(Domain::Constant {
                value: self.keys.get("value").cloned().unwrap_or(Value::Null),
            }),
        }
    }

    fn refuse_unknown_keys(&self) -> Result<(), ActionError> {
        let own: &[&str] = match self.kind {
            "choice" | "grid_search" => &["options"],
            "constant" => &["value"],
            "randn" => &["mean", "sd"],
            "qrandn" => &["mean", "sd", "q"],
            "uniform" => &["min", "max"],
            "quniform" => &["min", "max", "q"],
            "loguniform" => &["min", "max", "base"],
            "qloguniform" => &["min", "max", "base", "q"],
            "randint" => &["min", "max"],
            "qrandint" => &["min", "max", "q"],
            "lograndint" => &["min", "max", "base"],
            _ => &["min", "max", "base", "q"],
        };
        let common = ["name", "type", "when", "base", "q", "description"];
        let known = |key: &str| own.contains(&key) || common.contains(&key);
        match self.keys.keys().find(|key| !known(key)) {
            Some(key) => Err(self.error(
                key,
                format!(
                    "there is no key `{key}`; the keys are name, type, {}, when",
                    own.join(", ")
                ),
            )),
            None => Ok(()),
        }
    }

    /// `base` changes no distribution; it is checked because it must be there.
    fn check_base(&self) -> Result<(), ActionError> {
        if !self.kind.contains("log") {
            return Ok(());
        }
        let base = self.number("base")?;
        if base > 0.0 && base != 1.0 {
            return Ok(());
        }
        Err(self.error(
            "base",
            format!(
                "`base` must be more than 0 and not 1, but it is {base}",
                base = Shown(base)
            ),
        ))
    }

    fn real(&self) -> Result<Domain, ActionError> {
        let (low, high) = self.bounds()?;
        if low >= high {
            return Err(self.error(
                "max",
                format!(
                    "`min` must be less than `max`, but {low} is not less than {high}",
                    low = Shown(low),
                    high = Shown(high)
                ),
            ));
        }
        Ok(Domain::Real {
            low,
            high,
            log: self.is_log(),
        })
    }

    fn stepped(&self) -> Result<Domain, ActionError> {
        let (low, high) = self.bounds()?;
        if low > high {
            return Err(self.error(
                "max",
                format!(
                    "`min` must not be more than `max`, but {low} is more than {high}",
                    low = Shown(low),
                    high = Shown(high)
                ),
            ));
        }
        let given = self.step()?;
        let q = given.unwrap_or(if low > 0.0 {
            low
        } else {
            tidy((high - low) / 100.0)
        });
        if q <= 0.0 || (low / q).abs().max((high / q).abs()) > LARGEST_WHOLE {
            return Err(self.error(
                "q",
                format!(
                    "`q` is too small for the range from {low} to {high}: it is {q}",
                    low = Shown(low),
                    high = Shown(high),
                    q = Shown(q)
                ),
            ));
        }
        if given.is_some() {
            for (key, side, bound) in [("min", "lower", low), ("max", "upper", high)] {
                let steps = bound / q;
                if (steps - round_half_even(steps)).abs() > 1e-9 * steps.abs().max(1.0) {
                    return Err(self.error(
                        key,
                        format!("Your {side} variable bound {bound} is not divisible by quantization factor {q}.", q = Shown(q), bound = Shown(bound)),
                    ));
                }
            }
        }
        let first = whole((low / q - 1e-9 * (low / q).abs().max(1.0)).ceil());
        let last = whole((high / q + 1e-9 * (high / q).abs().max(1.0)).floor());
        if first > last {
            return Err(self.no_value("q", q, low, high));
        }
        if self.is_log() && first < 1 {
            return Err(self.error("min", "LogUniform requires a lower bound greater than 0"));
        }
        Ok(Domain::Stepped {
            first,
            last,
            q,
            log: self.is_log(),
        })
    }

    fn whole(&self) -> Result<Domain, ActionError> {
        for key in ["min", "max"] {
            let bound = self.number(key)?;
            if bound.fract() != 0.0 || bound.abs() > LARGEST_WHOLE {
                return Err(self.error(
                    key,
                    format!(
                        "`{key}` must be a whole number of at most 2^53, but it is {bound}",
                        bound = Shown(bound)
                    ),
                ));
            }
        }
        let (low, high) = self.bounds()?;
        let q = self.step()?.unwrap_or(1.0);
        if q.fract() != 0.0 || q > LARGEST_WHOLE {
            return Err(self.error(
                "q",
                format!(
                    "`q` must be a whole number, 1 or more, but it is {q}",
                    q = Shown(q)
                ),
            ));
        }
        if low > high || (q == 1.0 && low == high) {
            return Err(self.error(
                "max",
                format!(
                    "`min` must be less than `max`, but {low} is not less than {high}",
                    low = Shown(low),
                    high = Shown(high)
                ),
            ));
        }
        let first = whole((low / q).ceil());
        // A step of 1 leaves the upper bound out; a larger step takes it in.
        let last = if q == 1.0 {
            whole(high) - 1
        } else {
            whole((high / q).floor())
        };
        if first > last {
            return Err(self.no_value("q", q, low, high));
        }
        if self.is_log() && first < 1 {
            return Err(self.error("min", "LogUniform requires a lower bound greater than 0"));
        }
        Ok(Domain::Whole {
            first,
            last,
            q: whole(q),
            log: self.is_log(),
        })
    }

    fn normal(&self) -> Result<Domain, ActionError> {
        let (mean, sd) = (self.number("mean")?, self.number("sd")?);
        if sd <= 0.0 {
            return Err(self.error(
                "sd",
                format!(
                    "SD has to be strictly greater than 0, but it is {sd}",
                    sd = Shown(sd)
                ),
            ));
        }
        let q = match self.kind {
            "qrandn" => Some(self.step()?.unwrap_or(tidy(sd / 10.0))),
            _ => None,
        };
        if let Some(q) = q
            && (q <= 0.0 || (mean.abs() + 40.0 * sd) / q > LARGEST_WHOLE)
        {
            return Err(self.error(
                "q",
                format!(
                    "`q` is too small for a mean of {mean} and an sd of {sd}: it is {q}",
                    q = Shown(q),
                    mean = Shown(mean),
                    sd = Shown(sd)
                ),
            ));
        }
        Ok(Domain::Normal { mean, sd, q })
    }

    fn options(&self) -> Result<Vec<Value>, ActionError> {
        let options = self.keys.get("options").and_then(Value::as_array);
        let options = options.cloned().unwrap_or_default();
        if options.is_empty() || options.len() > MAX_OPTIONS {
            let count = options.len();
            return Err(self.error(
                "options",
                format!("`options` must have 1 to {MAX_OPTIONS} values, but it has {count}"),
            ));
        }
        Ok(options)
    }

    fn is_log(&self) -> bool {
        self.kind.contains("log")
    }

    fn bounds(&self) -> Result<(f64, f64), ActionError> {
        let (low, high) = (self.number("min")?, self.number("max")?);
        if self.is_log() && low <= 0.0 {
            return Err(self.error(
                "min",
                format!(
                    "LogUniform requires a lower bound greater than 0, but it is {low}",
                    low = Shown(low)
                ),
            ));
        }
        if !(high - low).is_finite() {
            return Err(self.error(
                "max",
                format!(
                    "the range from {low} to {high} is too wide for a number",
                    low = Shown(low),
                    high = Shown(high)
                ),
            ));
        }
        Ok((low, high))
    }

    fn step(&self) -> Result<Option<f64>, ActionError> {
        if !self.kind.starts_with('q') || self.keys.get("q").is_none_or(Value::is_null) {
            return Ok(None);
        }
        let q = self.number("q")?;
        if q > 0.0 {
            return Ok(Some(q));
        }
        Err(self.error(
            "q",
            format!("`q` must be more than 0, but it is {q}", q = Shown(q)),
        ))
    }

    fn number(&self, key: &str) -> Result<f64, ActionError> {
        let value = self.keys.get(key).unwrap_or(&Value::Null);
        let number = value.as_f64().filter(|number| number.is_finite());
        number.ok_or_else(|| {
            ActionError::wrong_type(
                &format!("{}/{key}", self.pointer),
                &format!("`{key}` of hyperparameter `{}`", self.name),
                "a number",
                value,
            )
        })
    }

    fn no_value(&self, key: &str, q: f64, low: f64, high: f64) -> ActionError {
        self.error(
            key,
            format!(
                "there is no value: no multiple of {q} lies in the range from {low} to {high}",
                low = Shown(low),
                high = Shown(high),
                q = Shown(q)
            ),
        )
    }

    fn conditions(&self, parameters: &[Parameter]) -> Result<Vec<Condition>, ActionError> {
        let when = match self.keys.get("when") {
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(Value::Object(when)) => when,
            Some(other) => {
                return Err(ActionError::wrong_type(
                    &format!("{}/when", self.pointer),
                    &format!("`when` of hyperparameter `{}`", self.name),
                    "a dict from a hyperparameter to its options",
                    other,
                ));
            }
        };
        if self.kind == "grid_search" {
            return Err(self.error("when", "a grid is always there, so it has no `when`"));
        }
        let mut conditions: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (name, wanted) in when {
            let parent = parameters
                .iter()
                .position(|parameter| parameter.name == *name);
            let Some(parent) = parent else {
                return Err(self.error(
                    "when",
                    format!("`when` names `{name}`, which is no hyperparameter"),
                ));
            };
            let (Domain::Choice { options } | Domain::Grid { options }) =
                &parameters[parent].domain
            else {
                return Err(self.error(
                    "when",
                    format!("`when` names `{name}`, which is neither a choice nor a grid_search"),
                ));
            };
            let wanted = match wanted {
                Value::Array(list) => list.as_slice(),
                one => std::slice::from_ref(one),
            };
            let mut found = Vec::new();
            for value in wanted {
                let before = found.len();
                found.extend((0..options.len()).filter(|at| same_value(&options[*at], value)));
                if found.len() == before {
                    return Err(self.error(
                        "when",
                        format!("`when` wants {value} of `{name}`, which is none of its options"),
                    ));
                }
            }
            if found.is_empty() {
                return Err(self.error(
                    "when",
                    format!("`when` must want at least one option of `{name}`"),
                ));
            }
            conditions.insert(parent, found);
        }
        Ok(conditions
            .into_iter()
            .map(|(parent, options)| Condition { parent, options })
            .collect())
    }
}

/// A number in a message: very large and very small ones with an exponent.
struct Shown(f64);

impl std::fmt::Display for Shown {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self(x) = self;
        match x.abs() {
            size if size > 0.0 && !(1e-5..1e17).contains(&size) => write!(formatter, "{x:e}"),
            _ => write!(formatter, "{x}"),
        }
    }
}

/// A number with 12 significant digits: what a division leaves behind is not shown to anyone.
fn tidy(x: f64) -> f64 {
    format!("{x:.11e}").parse().unwrap_or(x)
}
