//! What people and other programs write of a task: making a draft, editing it, cloning it.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::id::TaskId;
use crate::name::{InvalidName, MAX_NAME_BYTES, check_name};
use crate::task::TaskType;

/// Longest comment, in bytes.
pub const MAX_COMMENT_BYTES: usize = 65_536;
/// Most tags of one task, model, data set or project.
pub const MAX_TAGS: usize = 1_000;
/// Longest tag, in bytes.
pub const MAX_TAG_BYTES: usize = 200;
/// The system tag of what is left out of lists unless it is asked for.
pub const ARCHIVED: &str = "archived";
/// The system tag of a task that somebody runs by hand.
pub const DEVELOPMENT: &str = "development";

/// The program of a task that no plugin runs. Every text is kept byte for byte.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Script {
    /// Address of the git repository.
    pub repository: String,
    /// Branch of the repository.
    pub branch: String,
    /// Commit of the repository.
    pub version_num: String,
    /// Tag of the repository.
    pub tag: String,
    /// The program, relative to `working_dir`.
    pub entry_point: String,
    /// Where it is started, relative to the root of the repository.
    pub working_dir: String,
    /// What was not committed, or the whole program when there is no repository.
    pub diff: String,
    /// What runs it, e.g. `python3.12`.
    pub binary: String,
    /// What must be installed: a text in the form of `requirements.txt`, or such texts by the
    /// name of the installer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requirements: Option<Value>,
}

/// The container image in which a task is to run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Container {
    /// Name of the image.
    pub image: String,
    /// Given to the container engine.
    pub arguments: String,
    /// Run in the container before the task.
    pub setup_shell_script: String,
}

/// A task to be made as a draft.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NewDraft {
    /// At least 3 characters.
    pub name: String,
    /// Path of the project, made on the fly; `default` when absent.
    pub project: Option<String>,
    /// `training` when absent, and `data_processing` for a preprocess action.
    #[serde(rename = "type")]
    pub task_type: Option<TaskType>,
    /// For people.
    pub comment: String,
    /// Texts to find the task by.
    pub tags: Vec<String>,
    /// Texts with a meaning for programs, e.g. `development`.
    pub system_tags: Vec<String>,
    /// The task it came from.
    pub parent: Option<TaskId>,
    /// Who makes it, e.g. the name of a machine.
    pub creator: String,
    /// The program, for tasks that no plugin runs.
    pub script: Option<Script>,
    /// The image in which it runs.
    pub container: Option<Container>,
    /// Where its files go.
    pub output_destination: Option<String>,
    /// The action that a plugin is to run, as `POST /actions` takes it; its `params` need
    /// neither `name` nor what else stands here.
    pub action: Option<Value>,
    /// Values by section and name; nested names are joined by `/`.
    pub parameters: Map<String, Value>,
    /// Texts by name.
    pub configuration: Map<String, Value>,
}

/// Changes of a task: what is absent stays as it is, null empties it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TaskEdit {
    /// At least 3 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// All tags.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
    /// All system tags.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system_tags: Option<Vec<String>>,
    /// Only of a draft, as all that follow.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub task_type: Option<TaskType>,
    /// The task it came from.
    #[serde(
        deserialize_with = "given_or_null",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<TaskId>)]
    pub parent: Option<Option<TaskId>>,
    /// The program.
    #[serde(
        deserialize_with = "given_or_null",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<Script>)]
    pub script: Option<Option<Script>>,
    /// The image.
    #[serde(
        deserialize_with = "given_or_null",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<Container>)]
    pub container: Option<Option<Container>>,
    /// Where its files go.
    #[serde(
        deserialize_with = "given_or_null",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<String>)]
    pub output_destination: Option<Option<String>>,
    /// All of what its program keeps with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<Map<String, Value>>,
    /// The action that a plugin is to run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<Value>,
    /// Edits a task that waits or runs, too.
    pub force: bool,
}

/// How a task is cloned.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CloneRequest {
    /// `Clone Of` and the name of the original when absent.
    pub name: Option<String>,
    /// That of the original when absent.
    pub comment: Option<String>,
    /// Path of the project; that of the original when absent.
    pub project: Option<String>,
    /// The original when absent.
    pub parent: Option<TaskId>,
    /// Those of the original when absent.
    pub tags: Option<Vec<String>>,
}

/// A field that cannot be used: where it is and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct InvalidField {
    /// JSON pointer of the field.
    pub pointer: String,
    /// What is wrong with which value.
    pub message: String,
}

impl InvalidField {
    /// The field at `pointer`, and what is wrong with it.
    pub fn new(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            pointer: pointer.into(),
            message: message.into(),
        }
    }
}

impl NewDraft {
    /// Trims names, orders tags.
    ///
    /// # Errors
    /// The first field that breaks a rule.
    pub fn checked(mut self) -> Result<Self, InvalidField> {
        self.name = checked_name("name", &self.name)?;
        self.project = self.project.map(|path| project_path(&path)).transpose()?;
        check_comment(&self.comment)?;
        self.tags = checked_tags("tags", self.tags)?;
        self.system_tags = checked_tags("system_tags", self.system_tags)?;
        if self.creator.len() > MAX_NAME_BYTES || self.creator.contains(char::is_control) {
            let message = format!(
                "creator must have at most {MAX_NAME_BYTES} bytes and no control characters"
            );
            return Err(InvalidField::new("/creator", message));
        }
        if let Some(destination) = &self.output_destination {
            check_destination(destination)?;
        }
        Ok(self)
    }
}

impl TaskEdit {
    /// Trims names, orders tags.
    ///
    /// # Errors
    /// The first field that breaks a rule.
    pub fn checked(mut self) -> Result<Self, InvalidField> {
        self.name = self
            .name
            .map(|name| checked_name("name", &name))
            .transpose()?;
        if let Some(comment) = &self.comment {
            check_comment(comment)?;
        }
        let tags = |field, tags: Option<Vec<String>>| {
            tags.map(|tags| checked_tags(field, tags)).transpose()
        };
        self.tags = tags("tags", self.tags)?;
        self.system_tags = tags("system_tags", self.system_tags)?;
        if let Some(Some(destination)) = &self.output_destination {
            check_destination(destination)?;
        }
        Ok(self)
    }

    /// Whether it changes nothing but what people note for themselves, comment and tags, which
    /// is allowed in every state.
    pub fn is_of_people(&self) -> bool {
        self.of_drafts().is_none() && self.name.is_none() && self.system_tags.is_none()
    }

    /// The first given field that only a draft may change.
    pub fn of_drafts(&self) -> Option<&'static str> {
        let fields = [
            ("type", self.task_type.is_some()),
            ("parent", self.parent.is_some()),
            ("script", self.script.is_some()),
            ("container", self.container.is_some()),
            ("output_destination", self.output_destination.is_some()),
            ("runtime", self.runtime.is_some()),
            ("action", self.action.is_some()),
        ];
        fields
            .into_iter()
            .find_map(|(field, given)| given.then_some(field))
    }
}

impl CloneRequest {
    /// Trims names, orders tags.
    ///
    /// # Errors
    /// The first field that breaks a rule.
    pub fn checked(mut self) -> Result<Self, InvalidField> {
        self.name = self
            .name
            .map(|name| checked_name("name", &name))
            .transpose()?;
        self.project = self.project.map(|path| project_path(&path)).transpose()?;
        if let Some(comment) = &self.comment {
            check_comment(comment)?;
        }
        self.tags = self
            .tags
            .map(|tags| checked_tags("tags", tags))
            .transpose()?;
        Ok(self)
    }
}

/// Checks and trims the path of a project: names with `/` between them.
///
/// # Errors
/// When a part of it is not a name.
pub fn project_path(path: &str) -> Result<String, InvalidField> {
    checked_name("project", path)?;
    let parts: Result<Vec<String>, InvalidField> = path
        .split('/')
        .map(|part| checked_name("project", part))
        .collect();
    Ok(parts?.join("/"))
}

/// Checks the tags of `field`, orders them and drops doubled ones.
///
/// # Errors
/// When one is empty or too long, or there are too many.
pub fn checked_tags(field: &str, mut tags: Vec<String>) -> Result<Vec<String>, InvalidField> {
    if tags.len() > MAX_TAGS {
        let message = format!(
            "{field} must have at most {MAX_TAGS} tags, but it has {}",
            tags.len()
        );
        return Err(InvalidField::new(format!("/{field}"), message));
    }
    let wrong = |tag: &String| tag.is_empty() || tag.len() > MAX_TAG_BYTES || tag.contains('\0');
    if let Some(position) = tags.iter().position(wrong) {
        let message = format!(
            "a tag must be a text of 1 to {MAX_TAG_BYTES} bytes without a zero byte, but this has \
             {}",
            tags[position].len()
        );
        return Err(InvalidField::new(format!("/{field}/{position}"), message));
    }
    tags.sort();
    tags.dedup();
    Ok(tags)
}

fn checked_name(field: &str, name: &str) -> Result<String, InvalidField> {
    let pointer = format!("/{field}");
    match check_name(name) {
        Ok(name) => Ok(name.to_owned()),
        Err(InvalidName::Blank) => Err(InvalidField::new(
            pointer,
            format!("{field} is required and must not be blank"),
        )),
        Err(error) => Err(InvalidField::new(pointer, format!("{field} {error}"))),
    }
}

/// Checks a comment or a description.
fn check_comment(comment: &str) -> Result<(), InvalidField> {
    if comment.len() <= MAX_COMMENT_BYTES && !comment.contains('\0') {
        return Ok(());
    }
    let message = format!(
        "comment must have at most {MAX_COMMENT_BYTES} bytes and no zero byte, but it has {}",
        comment.len()
    );
    Err(InvalidField::new("/comment", message))
}

fn check_destination(destination: &str) -> Result<(), InvalidField> {
    if !destination.is_empty()
        && destination.len() <= 1000
        && !destination.contains(char::is_control)
    {
        return Ok(());
    }
    Err(InvalidField::new(
        "/output_destination",
        "output_destination must be an address or a folder of 1 to 1000 bytes",
    ))
}

/// Tells a field that is null from one that is absent.
fn given_or_null<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_edit_tells_what_is_absent_from_what_is_emptied() {
        let edit: TaskEdit = serde_json::from_value(json!({"parent": null})).unwrap();
        assert_eq!((&edit.parent, &edit.script), (&Some(None), &None));
        assert_eq!(edit.of_drafts(), Some("parent"));
        assert_eq!(serde_json::to_value(&edit).unwrap()["parent"], Value::Null);
        let named: TaskEdit =
            serde_json::from_value(json!({"name": " abc ", "tags": ["b", "a", "b"]})).unwrap();
        let named = named.checked().unwrap();
        assert_eq!(
            (named.name.as_deref(), named.of_drafts()),
            (Some("abc"), None)
        );
        assert_eq!(named.tags.unwrap(), ["a", "b"]);
    }

    #[test]
    fn a_draft_says_which_field_is_wrong() {
        let draft = |body: Value| serde_json::from_value::<NewDraft>(body).unwrap().checked();
        let pointer = |body| draft(body).unwrap_err().pointer;
        assert_eq!(pointer(json!({"name": " ab "})), "/name");
        assert_eq!(
            pointer(json!({"name": "abc", "project": "ab/cde"})),
            "/project"
        );
        assert_eq!(
            pointer(json!({"name": "abc", "tags": ["x", ""]})),
            "/tags/1"
        );
        assert_eq!(
            pointer(json!({"name": "abc", "comment": "x".repeat(70_000)})),
            "/comment"
        );
        assert!(serde_json::from_value::<NewDraft>(json!({"name": "abc", "id": "x"})).is_err());
    }
}
