//! Figures: what plots show, as [Plotly](https://plotly.com/javascript/) has them.
//!
//! A figure is kept as the text that was reported, byte for byte; only its form is checked.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::text::shortened;

/// Longest figure, in bytes.
pub const MAX_FIGURE_BYTES: usize = 4 << 20;
/// How deep lists and objects of a figure may lie in each other. Plotly needs about ten.
pub const MAX_FIGURE_DEPTH: usize = 64;

/// A figure as a client sends it: a JSON object, or its text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = Object)]
pub struct FigureText(pub String);

impl<'de> Deserialize<'de> for FigureText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FigureVisitor)
    }
}

struct FigureVisitor;

impl<'de> Visitor<'de> for FigureVisitor {
    type Value = FigureText;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a Plotly figure, as an object or as its text")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<FigureText, E> {
        Ok(FigureText(text.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<FigureText, A::Error> {
        let object = Map::<String, Value>::deserialize(MapAccessDeserializer::new(map))?;
        Ok(FigureText(Value::Object(object).to_string()))
    }
}

/// What every figure has.
#[derive(Deserialize)]
struct Figure {
    #[serde(rename = "data")]
    _data: Vec<IgnoredAny>,
}

/// Checks that `text` is a figure: a JSON object with a list `data`.
///
/// # Errors
/// A sentence that goes on from a name, e.g. `must be JSON, …`.
pub fn check_figure(text: &str) -> Result<(), String> {
    if text.len() > MAX_FIGURE_BYTES {
        return Err(format!(
            "must have at most {MAX_FIGURE_BYTES} bytes, but it has {}",
            text.len()
        ));
    }
    if depth(text) > MAX_FIGURE_DEPTH {
        return Err(format!(
            "must have at most {MAX_FIGURE_DEPTH} lists and objects in each other"
        ));
    }
    match serde_json::from_str::<Figure>(text) {
        // What is derived reads a list as an object's fields in order, too.
        Ok(_) if text.trim_start().starts_with('{') => Ok(()),
        Ok(_) => Err("must be a JSON object with a list `data`, but it is a list".to_owned()),
        Err(error) => {
            let hint = if error.is_syntax() {
                " (NaN and infinities are no JSON; null stands for a missing number)"
            } else {
                ""
            };
            Err(format!(
                "must be a JSON object with a list `data`, but it is not: {}{hint}",
                shortened(&error.to_string(), 200)
            ))
        }
    }
}

/// How deep brackets outside of texts lie in each other.
fn depth(text: &str) -> usize {
    let (mut deepest, mut depth) = (0_usize, 0_usize);
    let (mut in_text, mut escaped) = (false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_refused(text: &str, because: &str) {
        let error = check_figure(text).unwrap_err();
        assert!(error.contains(because), "{error}");
    }

    #[test]
    fn a_figure_is_an_object_with_a_list_of_traces() {
        assert_eq!(check_figure(r#"{"data":[]}"#), Ok(()));
        let figure = r#"{"layout":{"title":"[[[\"{"},"data":[{"y":[1,null,2e300]}]}"#;
        assert_eq!(check_figure(figure), Ok(()));
        check_refused("", "at line 1");
        check_refused("[[]]", "it is a list");
        check_refused(r#"{"layout":{}}"#, "missing field `data`");
        check_refused(r#"{"data":{}}"#, "invalid type");
        check_refused(r#"{"data":[NaN]}"#, "null stands for");
        check_refused(r#"{"data":[]} x"#, "trailing characters");
    }

    #[test]
    fn a_client_sends_a_figure_as_an_object_or_as_its_text() {
        let object: FigureText = serde_json::from_str(r#"{"data": [1.5]}"#).unwrap();
        assert_eq!(object.0, r#"{"data":[1.5]}"#);
        let text: FigureText = serde_json::from_str(r#""{\"data\": [1.50]}""#).unwrap();
        assert_eq!(text.0, r#"{"data": [1.50]}"#);
        assert!(serde_json::from_str::<FigureText>("[1]").is_err());
    }

    #[test]
    fn a_figure_is_neither_deep_nor_long() {
        let nested = |depth: usize| {
            let (open, close) = ("[".repeat(depth), "]".repeat(depth));
            format!(r#"{{"data":{open}{close}}}"#)
        };
        assert_eq!(check_figure(&nested(MAX_FIGURE_DEPTH - 1)), Ok(()));
        check_refused(&nested(MAX_FIGURE_DEPTH), "in each other");
        check_refused(&nested(1_000_000), "in each other");
        let long = format!(r#"{{"data":["{}"]}}"#, "x".repeat(MAX_FIGURE_BYTES));
        check_refused(&long, "bytes");
    }
}
