//! Parameters of tasks: typed values by section and name.
//!
//! A section is a short name (`General`, `Args`, `Environment`, …); the name of a nested value
//! has the keys on the way to it, joined by `/`. Sections and names are case-sensitive.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::autolog::Autolog;
use crate::draft::InvalidField;
use crate::text::shortened;

/// The section of values that name none.
pub const GENERAL: &str = "General";
/// The section of environment variables.
pub const ENVIRONMENT: &str = "Environment";
/// The section of user properties, which are no parameters: they never affect a run.
pub const PROPERTIES: &str = "properties";
/// Most parameters, and most properties, of one task.
pub const MAX_PARAMETERS: usize = 10_000;
/// Longest section or name, in bytes.
pub const MAX_PARAMETER_NAME_BYTES: usize = 1_000;
/// Longest value as JSON, in bytes.
pub const MAX_VALUE_BYTES: usize = 1 << 20;

/// One parameter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Parameter {
    /// E.g. `General`.
    #[serde(default = "general")]
    pub section: String,
    /// Unique in its section.
    pub name: String,
    /// `int`, `float`, `str`, `bool`, `null`, `list` or `dict`, or a name that a client gave
    /// it, whose value is then a text.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// Of that type.
    pub value: Value,
    /// For people.
    #[serde(default)]
    pub description: String,
}

fn general() -> String {
    GENERAL.to_owned()
}

impl Parameter {
    /// A parameter whose type is that of its value.
    pub fn new(section: &str, name: &str, value: Value) -> Self {
        Self {
            section: section.to_owned(),
            name: name.to_owned(),
            kind: type_name(&value).to_owned(),
            value,
            description: String::new(),
        }
    }

    /// `section/name`.
    pub fn path(&self) -> String {
        format!("{}/{}", self.section, self.name)
    }

    /// Checks names, type and size; a type that is absent becomes that of the value.
    ///
    /// # Errors
    /// The first broken rule; the pointer is `/section/name`.
    pub fn checked(mut self) -> Result<Self, InvalidField> {
        let path: String = format!("/{}/{}", self.section, self.name);
        let pointer = shortened(&path, 200);
        let named = |what: &str, name: &str| {
            let valid = !name.is_empty()
                && name.len() <= MAX_PARAMETER_NAME_BYTES
                && !name.contains(char::is_control);
            if valid {
                return Ok(());
            }
            let message = format!(
                "the {what} of a parameter must have 1 to {MAX_PARAMETER_NAME_BYTES} bytes and no \
                 control characters, but it is `{}`",
                shortened(name, 80).escape_debug()
            );
            Err(InvalidField::new(pointer.clone(), message))
        };
        named("section", &self.section)?;
        named("name", &self.name)?;
        if self.section.contains('/') {
            let message = format!(
                "the section of a parameter must not have a `/`, but it is `{}`",
                shortened(&self.section, 80)
            );
            return Err(InvalidField::new(pointer, message));
        }
        let found = type_name(&self.value);
        if self.kind.is_empty() {
            found.clone_into(&mut self.kind);
        }
        let known = ["int", "float", "str", "bool", "null", "list", "dict"];
        let fits = match self.kind.as_str() {
            "float" if found == "int" => {
                self.value = self.value.as_f64().map_or(Value::Null, Value::from);
                true
            }
            kind if known.contains(&kind) => kind == found,
            _ => found == "str" && self.kind.len() <= 200,
        };
        if !fits {
            let message = format!(
                "the parameter must be of type `{}`, but its value is {}",
                shortened(&self.kind, 80),
                shortened(&self.value.to_string(), 80)
            );
            return Err(InvalidField::new(pointer, message));
        }
        let texts = [&self.kind, &self.description, &self.stored_value()];
        if texts.iter().any(|text| text.contains('\0')) {
            let message = "a parameter's value, type and description must not have a zero byte";
            return Err(InvalidField::new(pointer, message));
        }
        let size = self.stored_value().len().max(self.description.len());
        if size > MAX_VALUE_BYTES {
            let message = format!(
                "a parameter's value and description must have at most {MAX_VALUE_BYTES} bytes \
                 each, but this has {size}"
            );
            return Err(InvalidField::new(pointer, message));
        }
        Ok(self)
    }

    /// The value as it is stored and searched: JSON, except that a text stands for itself.
    pub fn stored_value(&self) -> String {
        match &self.value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }
    }

    /// The value that [`Parameter::stored_value`] stands for.
    pub fn value_of(kind: &str, stored: String) -> Value {
        match kind {
            "int" | "float" | "bool" | "null" | "list" | "dict" => {
                serde_json::from_str(&stored).unwrap_or(Value::String(stored))
            }
            _ => Value::String(stored),
        }
    }
}

/// The type of a value, by the name that parameters have for it.
pub fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float",
        Value::Number(_) => "int",
        Value::String(_) => "str",
        Value::Array(_) => "list",
        Value::Object(_) => "dict",
    }
}

/// The parameters of a document `{section: {name: value}}`; the keys of nested objects are
/// joined by `/`.
///
/// # Errors
/// When a section is not an object, or a parameter breaks a rule.
pub fn from_nested(sections: &Map<String, Value>) -> Result<Vec<Parameter>, InvalidField> {
    let mut parameters = Vec::new();
    for (section, values) in sections {
        let Value::Object(values) = values else {
            let message = format!(
                "the section `{}` must be an object of names and values, but it is {}",
                shortened(section, 80),
                shortened(&values.to_string(), 80)
            );
            let pointer = format!("/{}", shortened(section, 80));
            return Err(InvalidField::new(pointer, message));
        };
        for (name, value) in flattened(values) {
            parameters.push(Parameter::new(section, &name, value).checked()?);
        }
    }
    check_count(parameters)
}

/// The parameters of a document `{"section/name": value}`; what names no section is in
/// `General`.
///
/// # Errors
/// When a parameter breaks a rule.
pub fn from_flat(values: &Map<String, Value>) -> Result<Vec<Parameter>, InvalidField> {
    let parameters = values.iter().map(|(path, value)| {
        let (section, name) = split_path(path);
        Parameter::new(section, name, value.clone()).checked()
    });
    check_count(parameters.collect::<Result<_, _>>()?)
}

/// Section and name of `section/name`; the section is `General` where there is none.
pub fn split_path(path: &str) -> (&str, &str) {
    path.split_once('/').unwrap_or((GENERAL, path))
}

/// Refuses more parameters than a task may have.
///
/// # Errors
/// When there are too many.
pub fn check_count(parameters: Vec<Parameter>) -> Result<Vec<Parameter>, InvalidField> {
    if parameters.len() <= MAX_PARAMETERS {
        return Ok(parameters);
    }
    let message = format!(
        "a task has at most {MAX_PARAMETERS} parameters, but these are {}",
        parameters.len()
    );
    Err(InvalidField::new("", message))
}

/// Names and values of `values`, with the keys of nested objects joined by `/`. Of two that
/// become one, the later stays.
pub fn flattened(values: &Map<String, Value>) -> BTreeMap<String, Value> {
    let mut flat = BTreeMap::new();
    flatten("", values, &mut flat);
    flat
}

fn flatten(prefix: &str, values: &Map<String, Value>, flat: &mut BTreeMap<String, Value>) {
    for (key, value) in values {
        let name = format!("{prefix}{key}");
        match value {
            Value::Object(nested) if !nested.is_empty() => {
                flatten(&format!("{name}/"), nested, flat);
            }
            other => {
                flat.insert(name, other.clone());
            }
        }
    }
}

/// The document `{"section/name": value}` of `parameters`.
pub fn flat_view(parameters: &[Parameter]) -> Map<String, Value> {
    let pairs = parameters
        .iter()
        .map(|parameter| (parameter.path(), parameter.value.clone()));
    pairs.collect()
}

/// The document `{section: {name: value}}` of `parameters`, with names nested at each `/`.
/// Where a name is also the beginning of another, the longer one stays joined.
pub fn nested_view(parameters: &[Parameter]) -> Map<String, Value> {
    let mut sections = Map::new();
    for parameter in parameters {
        let section = sections
            .entry(&parameter.section)
            .or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(section) = section {
            put(section, &parameter.name, parameter.value.clone());
        }
    }
    sections
}

/// Puts `value` where the path `name` leads.
fn put(values: &mut Map<String, Value>, name: &str, value: Value) {
    let Some((first, rest)) = name.split_once('/') else {
        values.insert(name.to_owned(), value);
        return;
    };
    let inner = values
        .entry(first)
        .or_insert_with(|| Value::Object(Map::new()));
    match inner {
        Value::Object(inner) => put(inner, rest, value),
        _ => {
            values.insert(name.to_owned(), value);
        }
    }
}

/// `settings` as the section `General` among `parameters` has them: values that differ are
/// replaced, those that are gone are removed, others are added. Settings whose parameters
/// nobody has touched come back exactly as they were, and so do those that `autolog` shows no
/// parameters of.
pub fn overridden(
    settings: &Map<String, Value>,
    autolog: &Autolog,
    parameters: &[Parameter],
) -> Map<String, Value> {
    let before = flattened(settings);
    let general = parameters
        .iter()
        .filter(|parameter| parameter.section == GENERAL);
    let now: BTreeMap<&str, &Value> = general
        .map(|parameter| (parameter.name.as_str(), &parameter.value))
        .collect();
    let mut settings = settings.clone();
    for name in before.keys() {
        if autolog.shows(name) && !now.contains_key(name.as_str()) {
            remove(&mut settings, name);
        }
    }
    for (name, value) in now {
        if before.get(name) != Some(value) {
            replace(&mut settings, name, value.clone());
        }
    }
    settings
}

/// Checks what a plugin wants to connect with the parameters of its task.
///
/// # Errors
/// The first broken rule; the pointer is empty when it is about the section.
pub fn check_connected(
    section: &str,
    values: &Map<String, Value>,
) -> Result<Vec<Parameter>, InvalidField> {
    if [GENERAL, "Args", PROPERTIES].contains(&section) {
        let message = format!(
            "must be none of General, Args and properties, which are the action's and the \
             user's own, but it is `{section}`"
        );
        return Err(InvalidField::new("", message));
    }
    let valid = !section.is_empty()
        && section.len() <= MAX_PARAMETER_NAME_BYTES
        && !section.contains(char::is_control)
        && !section.contains('/');
    if !valid {
        let message = format!(
            "must have 1 to {MAX_PARAMETER_NAME_BYTES} bytes, no `/` and no control characters"
        );
        return Err(InvalidField::new("", message));
    }
    let sections = Map::from_iter([(section.to_owned(), Value::Object(values.clone()))]);
    from_nested(&sections)
}

/// `values` with those that `stored`, parameters of one section, has of the same name: in the
/// type that they have in `values`, where that can be.
pub fn connected(values: &Map<String, Value>, stored: &[Parameter]) -> Map<String, Value> {
    let given = flattened(values);
    let mut connected = values.clone();
    for parameter in stored {
        if let Some(before) = given.get(&parameter.name) {
            let value = like(before, &parameter.value);
            if value != *before {
                replace(&mut connected, &parameter.name, value);
            }
        }
    }
    connected
}

/// `value` in the type of `example`, or as it is where it has no such form.
fn like(example: &Value, value: &Value) -> Value {
    let converted = match (example, value) {
        (Value::Number(number), Value::Number(_)) if number.is_f64() => {
            value.as_f64().map(Value::from)
        }
        (Value::Number(number), Value::String(text)) if number.is_f64() => {
            text.trim().parse::<f64>().ok().map(Value::from)
        }
        (Value::Number(_), Value::String(text)) => text.trim().parse::<i64>().ok().map(Value::from),
        (Value::Bool(_), Value::String(text)) => match text.trim().to_ascii_lowercase().as_str() {
            "true" => Some(Value::Bool(true)),
            "false" => Some(Value::Bool(false)),
            _ => None,
        },
        (Value::Array(_) | Value::Object(_), Value::String(text)) => serde_json::from_str(text)
            .ok()
            .filter(|found: &Value| found.is_array() == example.is_array()),
        (Value::String(_), Value::Number(_) | Value::Bool(_)) => {
            Some(Value::String(value.to_string()))
        }
        _ => None,
    };
    converted.unwrap_or_else(|| value.clone())
}

fn remove(values: &mut Map<String, Value>, name: &str) {
    if values.remove(name).is_some() {
        return;
    }
    for (end, _) in name.match_indices('/') {
        if let Some(Value::Object(inner)) = values.get_mut(&name[..end]) {
            let had = inner.len();
            remove(inner, &name[end + 1..]);
            if inner.is_empty() && had > 0 {
                values.remove(&name[..end]);
            }
            return;
        }
    }
}

fn replace(values: &mut Map<String, Value>, name: &str, value: Value) {
    if values.contains_key(name) {
        values.insert(name.to_owned(), value);
        return;
    }
    for (end, _) in name.match_indices('/') {
        if let Some(Value::Object(inner)) = values.get_mut(&name[..end]) {
            replace(inner, &name[end + 1..], value);
            return;
        }
    }
    put(values, name, value);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn map(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(map) => map,
            other => panic!("{other} is no object"),
        }
    }

    #[test]
    fn a_document_comes_back_nested_and_flat_with_its_types() {
        let sections = map(json!({
            "General": {"lr": 0.1, "epochs": 3, "model": {"hidden": [8, 8], "bias": null}},
            "Args": {"name": "x", "fast": true, "empty": {}},
            "args": {"name": "y"},
        }));
        let parameters = from_nested(&sections).unwrap();
        let kinds: Vec<_> = parameters
            .iter()
            .map(|parameter| format!("{}: {}", parameter.path(), parameter.kind))
            .collect();
        assert_eq!(
            kinds,
            [
                "Args/empty: dict",
                "Args/fast: bool",
                "Args/name: str",
                "General/epochs: int",
                "General/lr: float",
                "General/model/bias: null",
                "General/model/hidden: list",
                "args/name: str",
            ]
        );
        assert_eq!(nested_view(&parameters), sections);
        let flat = flat_view(&parameters);
        assert_eq!(flat["General/model/hidden"], json!([8, 8]));
        assert_eq!(from_flat(&flat).unwrap(), parameters);
        let named = from_flat(&map(json!({"lr": 1}))).unwrap();
        assert_eq!(named[0].path(), "General/lr");
    }

    #[test]
    fn what_breaks_a_rule_is_named() {
        let refused = |sections: Value| from_nested(&map(sections)).unwrap_err().pointer;
        assert_eq!(refused(json!({"General": 1})), "/General");
        assert_eq!(refused(json!({"a/b": {"x": 1}})), "/a/b/x");
        assert_eq!(refused(json!({"General": {"": 1}})), "/General/");
        assert_eq!(
            refused(json!({"General": {"x": "y".repeat(MAX_VALUE_BYTES + 1)}})),
            "/General/x"
        );
        let mut typed = Parameter::new("General", "x", json!("y"));
        typed.kind = "int".into();
        assert!(typed.clone().checked().is_err());
        typed.value = json!(1);
        typed.kind = "float".into();
        assert_eq!(typed.checked().unwrap().value, json!(1.0));
    }

    #[test]
    fn general_overrides_settings() {
        let settings = map(json!({"lr": 0.1, "model": {"hidden": 8, "bias": true}, "a/b": 1}));
        let mut parameters = from_nested(&map(json!({"General": settings.clone()}))).unwrap();
        assert_eq!(
            overridden(&settings, &Autolog::default(), &parameters),
            settings
        );
        parameters.retain(|parameter| parameter.name != "model/bias");
        parameters.push(Parameter::new("General", "model/depth", json!(2)));
        parameters.push(Parameter::new("General", "new/x", json!("y")));
        parameters.push(Parameter::new("Args", "lr", json!(7)));
        for parameter in &mut parameters {
            if parameter.name == "a/b" {
                parameter.value = json!(2);
            }
        }
        let expected = json!({
            "lr": 0.1, "model": {"hidden": 8, "depth": 2}, "a/b": 2, "new": {"x": "y"},
        });
        assert_eq!(
            overridden(&settings, &Autolog::default(), &parameters),
            map(expected)
        );
    }

    #[test]
    fn connected_values_come_back_overridden_in_their_own_type() {
        let values = map(json!({
            "lr": 0.1, "epochs": 3, "fast": false, "name": "x", "none": null,
            "model": {"hidden": [8, 8], "depth": 2},
        }));
        assert_eq!(connected(&values, &[]), values);
        let stored = [
            Parameter::new("Mine", "lr", json!(1)),
            Parameter::new("Mine", "epochs", json!(" 5")),
            Parameter::new("Mine", "fast", json!("True")),
            Parameter::new("Mine", "name", json!(7)),
            Parameter::new("Mine", "none", json!("y")),
            Parameter::new("Mine", "model/hidden", json!("[4]")),
            Parameter::new("Mine", "model/depth", json!("deep")),
            Parameter::new("Mine", "model/other", json!(1)),
        ];
        let expected = json!({
            "lr": 1.0, "epochs": 5, "fast": true, "name": "7", "none": "y",
            "model": {"hidden": [4], "depth": "deep"},
        });
        assert_eq!(connected(&values, &stored), map(expected));
    }

    #[test]
    fn a_plugin_cannot_connect_what_is_not_its_own() {
        let values = map(json!({"lr": 0.1, "model": {"depth": 2}}));
        let found = check_connected("Mine", &values).unwrap();
        let paths: Vec<String> = found.iter().map(Parameter::path).collect();
        assert_eq!(paths, ["Mine/lr", "Mine/model/depth"]);
        for section in ["General", "Args", "properties", "", "a/b", "a\nb"] {
            assert_eq!(check_connected(section, &values).unwrap_err().pointer, "");
        }
        let wrong = map(json!({"": 1}));
        assert_eq!(
            check_connected("Mine", &wrong).unwrap_err().pointer,
            "/Mine/"
        );
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[a-z/]{0,4}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::btree_map("[ab/]{1,3}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn untouched_settings_come_back_exactly(
            settings in prop::collection::btree_map("[ab/]{1,3}", any_value(), 0..5)
        ) {
            let settings: Map<String, Value> = settings.into_iter().collect();
            let rows: Vec<Parameter> = flattened(&settings)
                .into_iter()
                .map(|(name, value)| Parameter::new(GENERAL, &name, value))
                .collect();
            prop_assert_eq!(overridden(&settings, &Autolog::default(), &rows), settings);
        }

        #[test]
        fn a_stored_value_comes_back(value in any_value()) {
            let parameter = Parameter::new(GENERAL, "x", value.clone());
            let stored = parameter.stored_value();
            prop_assert_eq!(Parameter::value_of(&parameter.kind, stored), value);
        }
    }
}
