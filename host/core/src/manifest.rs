//! What a plugin says of itself.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::name::is_plugin_name;

/// What a plugin says of itself, checked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Manifest {
    /// See [`is_plugin_name`].
    pub name: String,
    /// A semantic version.
    pub version: String,
    /// What kind of work it does.
    pub category: Category,
    /// One sentence for people.
    pub summary: String,
    /// Its actions, at least one.
    pub actions: Vec<ActionSpec>,
    /// Environment variables it reads, where the agent grants them.
    pub environment: Vec<String>,
    /// The contract it was built for, e.g. `trainshed:plugin@0.1.0`: what its imports and
    /// exports say, not itself.
    #[serde(default)]
    pub contract: String,
}

/// The world that a component with the action `action` fits, of the contract that its manifest
/// names: `trainshed:plugin@0.1.0` and `train` make `trainshed:plugin/train-plugin@0.1.0`.
/// `None` where no contract is known.
pub fn world_of(contract: &str, action: &str) -> Option<String> {
    let (package, version) = contract.split_once('@')?;
    Some(format!("{package}/{action}-plugin@{version}"))
}

/// One action of a plugin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ActionSpec {
    /// `train` or `preprocess`.
    pub name: String,
    /// One sentence for people.
    pub summary: String,
    /// JSON Schema of the action's own settings.
    pub schema: Value,
}

/// What kind of work a plugin does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    /// Neural networks.
    NeuralNet,
    /// Other models on tables of numbers.
    Tabular,
    /// Makes data sets of data sets.
    Preprocess,
    /// Anything else.
    Other,
}

/// A manifest that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the plugin's manifest: `{field}` {message}")]
pub struct InvalidManifest {
    /// The field at fault.
    pub field: &'static str,
    /// What is wrong with which value, and what would be right.
    pub message: String,
}

/// Actions that a plugin can export.
pub const ACTIONS: [&str; 2] = ["train", "preprocess"];

impl Category {
    /// The category of this name.
    ///
    /// # Errors
    /// Names the known categories.
    pub fn parse(name: &str) -> Result<Self, InvalidManifest> {
        serde_json::from_value(Value::String(name.to_owned())).map_err(|_| InvalidManifest {
            field: "category",
            message: format!(
                "must be neural_net, tabular, preprocess or other, but it is `{}`",
                shortened(name)
            ),
        })
    }
}

impl Manifest {
    /// Checks every rule.
    ///
    /// # Errors
    /// The first field that breaks one.
    pub fn check(&self) -> Result<(), InvalidManifest> {
        let broken = |field, message: String| Err(InvalidManifest { field, message });
        if !is_plugin_name(&self.name) {
            let name = shortened(&self.name);
            return broken(
                "name",
                format!(
                    "must be 1 to 64 of a-z, 0-9 and -, beginning with a letter, but it is `{name}`"
                ),
            );
        }
        if !is_semantic_version(&self.version) {
            let version = shortened(&self.version);
            return broken(
                "version",
                format!("must be a semantic version like 1.2.0, but it is `{version}`"),
            );
        }
        if self.summary.len() > 1000 {
            return broken(
                "summary",
                format!(
                    "must have at most 1000 bytes, but it has {}",
                    self.summary.len()
                ),
            );
        }
        if self.actions.is_empty() {
            return broken("actions", "must name at least one action".into());
        }
        for (index, action) in self.actions.iter().enumerate() {
            if !ACTIONS.contains(&action.name.as_str()) {
                let name = shortened(&action.name);
                return broken(
                    "actions",
                    format!("must be of {}, but one is `{name}`", ACTIONS.join(", ")),
                );
            }
            if self.actions[..index]
                .iter()
                .any(|earlier| earlier.name == action.name)
            {
                return broken("actions", format!("names `{}` twice", action.name));
            }
            if !action.schema.is_object() {
                return broken(
                    "actions",
                    format!("must give a JSON Schema object for `{}`", action.name),
                );
            }
        }
        if self.environment.len() > 100
            || self
                .environment
                .iter()
                .any(|name| name.is_empty() || name.len() > 200 || name.contains(['=', '\0']))
        {
            return broken(
                "environment",
                "must be at most 100 names of environment variables".into(),
            );
        }
        Ok(())
    }

    /// The action of this name.
    pub fn action(&self, name: &str) -> Option<&ActionSpec> {
        self.actions.iter().find(|action| action.name == name)
    }
}

/// Whether `text` is `MAJOR.MINOR.PATCH`, with an optional pre-release and build part.
fn is_semantic_version(text: &str) -> bool {
    let core = text.split(['-', '+']).next().unwrap_or_default();
    let numbers: Vec<&str> = core.split('.').collect();
    let is_number =
        |part: &&str| part.parse::<u32>().is_ok() && !(part.len() > 1 && part.starts_with('0'));
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-+".contains(&byte);
    text.len() <= 64
        && numbers.len() == 3
        && numbers.iter().all(is_number)
        && text.bytes().all(allowed)
}

fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn valid() -> Manifest {
        Manifest {
            name: "digits-mlp".into(),
            version: "0.1.0".into(),
            category: Category::NeuralNet,
            summary: "trains".into(),
            actions: vec![ActionSpec {
                name: "train".into(),
                summary: String::new(),
                schema: json!({}),
            }],
            environment: vec![],
            contract: String::new(),
        }
    }

    #[track_caller]
    fn check_refused(change: impl Fn(&mut Manifest), field: &str) {
        let mut manifest = valid();
        change(&mut manifest);
        assert_eq!(manifest.check().unwrap_err().field, field);
    }

    #[test]
    fn each_rule_of_a_manifest_is_checked() {
        assert_eq!(valid().check(), Ok(()));
        check_refused(|m| m.name = "Digits".into(), "name");
        check_refused(|m| m.version = "1.2".into(), "version");
        check_refused(|m| m.version = "01.2.0".into(), "version");
        check_refused(|m| m.summary = "x".repeat(1001), "summary");
        check_refused(|m| m.actions.clear(), "actions");
        check_refused(|m| m.actions[0].name = "fly".into(), "actions");
        check_refused(|m| m.actions.push(m.actions[0].clone()), "actions");
        check_refused(|m| m.actions[0].schema = json!(1), "actions");
        check_refused(|m| m.environment.push("A=B".into()), "environment");
        assert!(Category::parse("robot").is_err());
        assert_eq!(Category::parse("neural_net"), Ok(Category::NeuralNet));
    }
}
