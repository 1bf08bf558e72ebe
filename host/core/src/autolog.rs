//! What of a run is recorded without being asked for: the fields `autolog` and `log_params` of
//! an action.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::action::{ActionError, refuse_unknown, wrong_type};
use crate::text::shortened;

/// Most patterns of models, and most names of settings.
const MAX_RULES: usize = 1000;
/// Longest pattern and longest name.
const MAX_RULE_BYTES: usize = 1000;
const FIELDS: [&str; 4] = ["stdout", "params", "models", "resources"];

/// What of a run is recorded without being asked for; by default everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Autolog {
    /// What the plugin prints; what it reports as text always is.
    pub stdout: bool,
    /// What the machine does.
    pub resources: bool,
    models: Models,
    shown: Shown,
}

/// Which saved models are registered.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Models {
    All,
    /// Those whose name one of these fits; `*` stands for any text, `?` for any character.
    Like(Vec<String>),
}

/// Which settings are shown as parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Shown {
    rules: BTreeMap<String, bool>,
    /// What no rule names.
    others: bool,
}

impl Shown {
    fn all(others: bool) -> Self {
        let rules = BTreeMap::new();
        Self { rules, others }
    }
}

impl Default for Autolog {
    fn default() -> Self {
        Self {
            stdout: true,
            resources: true,
            models: Models::All,
            shown: Shown::all(true),
        }
    }
}

impl Autolog {
    /// Parses the two fields of an action's `params`.
    ///
    /// # Errors
    /// The first thing that is wrong: the field, its value and what would be right.
    pub fn parse(params: &Map<String, Value>) -> Result<Self, ActionError> {
        const POINTER: &str = "/params/autolog";
        let mut parsed = Self::default();
        match params.get("autolog") {
            None | Some(Value::Null | Value::Bool(true)) => {}
            Some(Value::Bool(false)) => parsed = Self::nothing(),
            Some(Value::Object(fields)) => {
                refuse_unknown(fields, POINTER, &[&FIELDS])?;
                parsed.stdout = flag(fields, "stdout")?;
                parsed.resources = flag(fields, "resources")?;
                parsed.shown.others = flag(fields, "params")?;
                parsed.models = models(fields.get("models"))?;
            }
            Some(other) => {
                let expected = "true, false or an object of stdout, params, models and resources";
                return Err(wrong_type(POINTER, "autolog", expected, other));
            }
        }
        if let Some(value) = params.get("log_params").filter(|value| !value.is_null()) {
            parsed.shown = shown(value)?;
        }
        Ok(parsed)
    }

    /// As [`Autolog::parse`], of an action that was parsed before: what cannot be understood any
    /// more keeps nothing from being recorded.
    pub fn of(params: &Map<String, Value>) -> Self {
        Self::parse(params).unwrap_or_default()
    }

    fn nothing() -> Self {
        Self {
            stdout: false,
            resources: false,
            models: Models::Like(Vec::new()),
            shown: Shown::all(false),
        }
    }

    /// Whether a model that is saved under `name` is registered.
    pub fn registers(&self, name: &str) -> bool {
        match &self.models {
            Models::All => true,
            Models::Like(patterns) => patterns.iter().any(|pattern| is_like(name, pattern)),
        }
    }

    /// Whether the setting `name`, the keys of nested ones joined by `/`, is shown as a
    /// parameter. A rule for `model` holds for `model/hidden` too, unless that has its own.
    pub fn shows(&self, name: &str) -> bool {
        let mut part = Some(name);
        while let Some(known) = part {
            if let Some(shown) = self.shown.rules.get(known) {
                return *shown;
            }
            part = known.rsplit_once('/').map(|(before, _)| before);
        }
        self.shown.others
    }
}

fn flag(fields: &Map<String, Value>, name: &str) -> Result<bool, ActionError> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(true),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(other) => {
            let pointer = format!("/params/autolog/{name}");
            Err(wrong_type(&pointer, name, "true or false", other))
        }
    }
}

fn models(value: Option<&Value>) -> Result<Models, ActionError> {
    let pattern = |value: &Value| {
        let text = value.as_str().filter(|text| text.len() <= MAX_RULE_BYTES);
        text.map(str::to_owned)
    };
    let patterns = match value {
        None | Some(Value::Null | Value::Bool(true)) => return Ok(Models::All),
        Some(Value::Bool(false)) => Some(Vec::new()),
        Some(Value::Array(list)) if list.len() <= MAX_RULES => {
            list.iter().map(pattern).collect::<Option<Vec<_>>>()
        }
        Some(value) => pattern(value).map(|pattern| vec![pattern]),
    };
    patterns.map(Models::Like).ok_or_else(|| {
        let expected = "true, false, or one or a list of patterns such as `best*`";
        let found = value.unwrap_or(&Value::Null);
        wrong_type("/params/autolog/models", "models", expected, found)
    })
}

/// `false` and `{}` show nothing; `{"a": false}` all but `a`; `{"a": true, "*": false}` only
/// `a`.
fn shown(value: &Value) -> Result<Shown, ActionError> {
    let refuse = |found| {
        let expected = "true, false, or an object of true and false by names of settings, with \
                        `*` for all others";
        wrong_type("/params/log_params", "log_params", expected, found)
    };
    let given = match value {
        Value::Bool(flag) => return Ok(Shown::all(*flag)),
        Value::Object(given) if given.len() <= MAX_RULES => given,
        other => return Err(refuse(other)),
    };
    let mut rules = BTreeMap::new();
    for (name, flag) in given {
        let Some(shows) = flag.as_bool() else {
            let pointer = format!("/params/log_params/{}", escaped(name));
            let subject = shortened(name, 80);
            return Err(wrong_type(&pointer, &subject, "true or false", flag));
        };
        if name.len() > MAX_RULE_BYTES {
            return Err(refuse(value));
        }
        rules.insert(name.clone(), shows);
    }
    let others = rules.remove("*").unwrap_or(!given.is_empty());
    Ok(Shown { rules, others })
}

/// A key as it stands in a JSON pointer.
fn escaped(key: &str) -> String {
    shortened(key, 80).replace('~', "~0").replace('/', "~1")
}

/// Whether all of `text` fits `pattern`. Takes no more steps than one is long times the other.
fn is_like(text: &str, pattern: &str) -> bool {
    let (text, pattern): (Vec<char>, Vec<char>) =
        (text.chars().collect(), pattern.chars().collect());
    let (mut at, mut rule) = (0, 0);
    // Where to go on when what followed the last `*` did not fit.
    let mut again = None;
    while at < text.len() {
        match pattern.get(rule) {
            Some('*') => {
                again = Some((rule + 1, at));
                rule += 1;
            }
            Some(wanted) if *wanted == '?' || *wanted == text[at] => {
                at += 1;
                rule += 1;
            }
            _ => match again {
                Some((after, from)) => {
                    again = Some((after, from + 1));
                    (rule, at) = (after, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[rule..].iter().all(|rest| *rest == '*')
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    fn parsed(params: Value) -> Result<Autolog, String> {
        let parsed = Autolog::parse(params.as_object().unwrap());
        parsed.map_err(|error| format!("{}: {}", error.pointer, error.message))
    }

    #[track_caller]
    fn check_shown(log_params: Value, expected: &[&str]) {
        let parsed = parsed(json!({"log_params": log_params})).unwrap();
        let all = ["lr", "epochs", "model/hidden/0", "model/bias"];
        let shown: Vec<&str> = all.into_iter().filter(|name| parsed.shows(name)).collect();
        assert_eq!(shown, expected);
    }

    #[test]
    fn the_five_cases_of_shown_settings() {
        let all = ["lr", "epochs", "model/hidden/0", "model/bias"];
        check_shown(json!(true), &all);
        check_shown(json!(false), &[]);
        check_shown(json!({}), &[]);
        check_shown(json!({"lr": false}), &all[1..]);
        check_shown(json!({"epochs": true, "*": false}), &["epochs"]);
    }

    #[test]
    fn a_rule_holds_for_what_lies_below_its_setting() {
        check_shown(
            json!(null),
            &["lr", "epochs", "model/hidden/0", "model/bias"],
        );
        check_shown(json!({"model": false}), &["lr", "epochs"]);
        let but_hidden = json!({"*": false, "model": true, "model/hidden": false});
        check_shown(but_hidden, &["model/bias"]);
    }

    #[test]
    fn what_is_not_said_is_recorded() {
        assert_eq!(parsed(json!({})), Ok(Autolog::default()));
        assert_eq!(parsed(json!({"autolog": {}})), Ok(Autolog::default()));
        let quiet = parsed(json!({"autolog": {"stdout": false}})).unwrap();
        assert!(!quiet.stdout && quiet.resources && quiet.shows("lr") && quiet.registers("x"));
        let off = parsed(json!({"autolog": false})).unwrap();
        assert!(!off.stdout && !off.resources && !off.shows("lr") && !off.registers("x"));
        let both = json!({"autolog": {"params": false}, "log_params": {"lr": true, "*": false}});
        assert!(parsed(both).unwrap().shows("lr"));
    }

    #[test]
    fn models_are_registered_by_their_names() {
        let registers = |models: Value, name: &str| {
            let parsed = parsed(json!({"autolog": {"models": models}})).unwrap();
            parsed.registers(name)
        };
        assert!(registers(json!("*.pt"), "best.pt"));
        assert!(!registers(json!("*.pt"), "best.pth"));
        assert!(!registers(json!("*.pt"), "best"));
        assert!(registers(json!(["last", "b?st*"]), "best-7"));
        assert!(!registers(json!([]), "best"));
        assert!(!registers(json!(false), "best"));
        assert!(registers(json!("*a*b*"), "xxaxxabyy"));
        assert!(!registers(json!("a*"), "ba"));
        assert!(registers(json!("*"), ""));
    }

    #[test]
    fn wrong_values_are_refused_with_what_would_be_right() {
        let errors = [
            parsed(json!({"autolog": "yes"})),
            parsed(json!({"autolog": {"stdio": true}})),
            parsed(json!({"autolog": {"stdout": "no"}})),
            parsed(json!({"autolog": {"models": [1]}})),
            parsed(json!({"log_params": ["lr"]})),
            parsed(json!({"log_params": {"lr": "no"}})),
        ];
        let errors = errors.map(Result::unwrap_err);
        expect![[r#"
            /params/autolog: autolog must be true, false or an object of stdout, params, models and resources, but it is "yes"
            /params/autolog/stdio: params has no field `stdio`
            /params/autolog/stdout: stdout must be true or false, but it is "no"
            /params/autolog/models: models must be true, false, or one or a list of patterns such as `best*`, but it is a list of 1
            /params/log_params: log_params must be true, false, or an object of true and false by names of settings, with `*` for all others, but it is a list of 1
            /params/log_params/lr: lr must be true or false, but it is "no""#]].assert_eq(&errors.join("\n"));
    }
}
