//! Options of searchers and schedulers: read by name, checked by range, none unknown.

use serde_json::{Map, Value};
use trainshed_core::action::ActionError;
use trainshed_core::name::nearest;

use crate::math::index;

/// The options of one searcher or scheduler while they are read.
pub(crate) struct Options<'a> {
    given: &'a Map<String, Value>,
    owner: &'a str,
    pointer: String,
    known: Vec<&'static str>,
}

impl<'a> Options<'a> {
    /// Opens the options of `owner`, e.g. `scheduler asha`.
    pub(crate) fn new(given: &'a Map<String, Value>, owner: &'a str, pointer: String) -> Self {
        Self {
            given,
            owner,
            pointer,
            known: Vec::new(),
        }
    }

    /// The value of an option, unless it is absent or null.
    pub(crate) fn value(&mut self, key: &'static str) -> Option<&'a Value> {
        self.known.push(key);
        self.given.get(key).filter(|value| !value.is_null())
    }

    /// A number between two bounds, ends included.
    pub(crate) fn number(
        &mut self,
        key: &'static str,
        default: f64,
        low: f64,
        high: f64,
    ) -> Result<f64, ActionError> {
        let Some(value) = self.value(key) else {
            return Ok(default);
        };
        let number = value
            .as_f64()
            .filter(|number| *number >= low && *number <= high);
        number.ok_or_else(|| {
            let range = match high == f64::MAX {
                true => format!("a number, {low} or more"),
                false => format!("a number from {low} to {high}"),
            };
            self.wrong(key, &range, value)
        })
    }

    /// A whole number between two bounds, ends included.
    pub(crate) fn whole(
        &mut self,
        key: &'static str,
        default: usize,
        low: usize,
        high: usize,
    ) -> Result<usize, ActionError> {
        let Some(value) = self.value(key) else {
            return Ok(default);
        };
        let number = value.as_f64().filter(|number| {
            number.fract() == 0.0 && *number >= low as f64 && *number <= high as f64
        });
        number.map(index).ok_or_else(|| {
            let range = format!("a whole number from {low} to {high}");
            self.wrong(key, &range, value)
        })
    }

    /// True or false.
    pub(crate) fn flag(&mut self, key: &'static str, default: bool) -> Result<bool, ActionError> {
        match self.value(key) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(self.wrong(key, "true or false", other)),
        }
    }

    /// A text.
    pub(crate) fn text(&mut self, key: &'static str, default: &str) -> Result<String, ActionError> {
        match self.value(key) {
            None => Ok(default.to_owned()),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(other) => Err(self.wrong(key, "a text", other)),
        }
    }

    /// The error about an option of the wrong type or out of range.
    pub(crate) fn wrong(&self, key: &str, expected: &str, found: &Value) -> ActionError {
        ActionError::wrong_type(
            &format!("{}/{key}", self.pointer),
            &format!("`{key}` of {}", self.owner),
            expected,
            found,
        )
    }

    /// Refuses what was not asked for.
    pub(crate) fn finish(self) -> Result<(), ActionError> {
        let unknown = self
            .given
            .keys()
            .find(|key| !self.known.contains(&key.as_str()));
        let Some(unknown) = unknown else {
            return Ok(());
        };
        let error = ActionError::new(
            format!("{}/{unknown}", self.pointer),
            format!("{} has no option `{unknown}`", self.owner),
        );
        let hint = match nearest(unknown, self.known.iter().copied()) {
            Some(name) => format!("Did you mean `{name}`?"),
            None if self.known.is_empty() => "It has no options.".to_owned(),
            None => format!("The options are {}.", self.known.join(", ")),
        };
        Err(error.with_hint(hint))
    }
}
