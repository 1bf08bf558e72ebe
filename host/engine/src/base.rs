//! Any task can be tuned: the trials are its clones, with parameters overridden.
//!
//! Where a plugin runs the task, its clones are the trials of a tune action, which agents run.
//! Where a program elsewhere does, whoever asks for a trial gets a clone to run.

use std::fmt::Display;

use serde_json::{Map, Value, json};
use trainshed_core::TaskId;
use trainshed_core::action::{Action, ActionError};
use trainshed_core::draft::{CloneRequest, InvalidField};
use trainshed_core::parameter::{GENERAL, PROPERTIES, Parameter};
use trainshed_core::view::{NewExperiment, TaskView};
use trainshed_store::{TrialClone, Workspace};
use trainshed_tune::experiment::Start;
use uuid::Uuid;

use crate::ask::AskError;
use crate::engine::Engine;

/// Fields of an action that are not those of its clones.
const OWN_FIELDS: [&str; 6] = [
    "hyperparameter",
    "reuse",
    "continue_task",
    "initial_iteration",
    "description",
    "tags",
];

/// Checks that a search space is called as a parameter is.
///
/// # Errors
/// When its name has no section.
pub(crate) fn check_path(space: &Value, pointer: &str) -> Result<(), InvalidField> {
    let name = space["name"].as_str().unwrap_or_default();
    let is_path = name
        .split_once('/')
        .is_some_and(|(section, name)| !section.is_empty() && !name.is_empty());
    if is_path {
        return Ok(());
    }
    let message = format!(
        "with a base task, name is that of a parameter with its section, e.g. `Args/lr`, but it \
         is `{name}`"
    );
    Err(InvalidField::new(format!("{pointer}/name"), message))
}

impl Engine {
    /// The task whose clones are tried.
    pub(crate) async fn base_task(
        &self,
        workspace: &Workspace,
        base: &TaskId,
    ) -> Result<TaskView, AskError> {
        let task = self.store.task(workspace, base).await;
        let task = task.map_err(AskError::Store)?;
        task.ok_or_else(|| {
            InvalidField::new("/base_task", format!("there is no task {base}")).into()
        })
    }

    /// Makes a tune action of a train action: what is not searched is as the task has it.
    pub(crate) async fn tune_task(
        &self,
        workspace: &Workspace,
        new: NewExperiment,
        base: TaskView,
    ) -> Result<TaskView, AskError> {
        if base.action != "train" {
            let message = format!(
                "the task {} has the action `{}`, but its plugin can only be tuned by `train`",
                base.id, base.action
            );
            return Err(InvalidField::new("/base_task", message).into());
        }
        let mut spaces = Vec::new();
        for (index, space) in new.hyperparameters.iter().enumerate() {
            let pointer = format!("/hyperparameters/{index}");
            check_path(space, &pointer)?;
            spaces.push(in_general(space, &pointer)?);
        }
        let fixed = match base.params.get("hyperparameter") {
            Some(Value::Array(list)) => list.first().and_then(Value::as_object),
            Some(value) => value.as_object(),
            None => None,
        };
        for (name, value) in fixed.into_iter().flatten() {
            if !spaces.iter().any(|space| space["name"] == *name) {
                spaces.push(json!({"name": name, "type": "constant", "value": value}));
            }
        }
        let mut params = base.params.clone();
        params.retain(|field, _| !OWN_FIELDS.contains(&field.as_str()));
        params.insert("name".to_owned(), json!(new.name));
        params.insert("is_tune".to_owned(), json!(true));
        params.insert("hyperparameters".to_owned(), json!(spaces));
        params.insert("tune_config".to_owned(), json!(new.tune_config));
        params.insert("tags".to_owned(), json!(new.tags));
        let project = new.project.unwrap_or(base.project);
        params.insert("project".to_owned(), json!(project));
        for (field, value) in [
            ("description", new.description.map(Value::from)),
            ("seed", new.seed.map(Value::from)),
        ] {
            if let Some(value) = value {
                params.insert(field.to_owned(), value);
            }
        }
        let plugin = base
            .plugin
            .map(|plugin| format!("sha256:{}", plugin.digest));
        let action = json!({"action": "train", "plugin": plugin, "params": params});
        let action = Action::parse(&action).map_err(of_experiment)?;
        Ok(Box::pin(self.submit(workspace, action)).await?)
    }
}

/// The clone that an attempt at a trial is to run.
///
/// # Errors
/// Says why the base task cannot be cloned.
pub(crate) fn trial_clone(
    experiment: &TaskView,
    base: &TaskView,
    start: &Start,
) -> Result<TrialClone, String> {
    let mut name = format!("{}_{}", experiment.name, start.id);
    if start.attempt > 1 {
        name = format!("{name}_{}", start.attempt);
    }
    let request = CloneRequest {
        name: Some(name.clone()),
        project: Some(experiment.project.clone()),
        parent: Some(experiment.id.clone()),
        ..CloneRequest::default()
    };
    let parameters = start.config.iter().map(|(path, value)| {
        let (section, name) = path.split_once('/').unwrap_or((GENERAL, path));
        Parameter::new(section, name, value.clone())
    });
    let parameters: Vec<Parameter> = parameters.collect();
    if let Some(property) = parameters.iter().find(|one| one.section == PROPERTIES) {
        let path = property.path();
        return Err(not_cloned(&format!(
            "`{path}` is a user property, not a parameter"
        )));
    }
    Ok(TrialClone {
        base: base.id.clone(),
        clone: TaskId::from_u128(Uuid::now_v7().as_u128()),
        name,
        request: request.checked().map_err(|error| not_cloned(&error))?,
        parameters,
    })
}

pub(crate) fn not_cloned(error: &dyn Display) -> String {
    format!("the base task cannot be cloned: {error}")
}

/// A search space of a parameter of `General` as one of a hyperparameter.
fn in_general(space: &Value, pointer: &str) -> Result<Value, InvalidField> {
    let inner = |path: &str, pointer: String| match path.strip_prefix("General/") {
        Some(name) if !name.contains('/') => Ok(name.to_owned()),
        Some(name) => {
            let message = format!(
                "`{path}` is a part of a hyperparameter: search all of `General/{}`",
                name.split('/').next().unwrap_or_default()
            );
            Err(InvalidField::new(pointer, message))
        }
        None => {
            let message = format!(
                "the hyperparameters of a plugin are the section General, but this is `{path}`"
            );
            Err(InvalidField::new(pointer, message))
        }
    };
    let mut space = space.clone();
    let name = space["name"].as_str().unwrap_or_default().to_owned();
    space["name"] = json!(inner(&name, format!("{pointer}/name"))?);
    if let Some(Value::Object(conditions)) = space.get_mut("when") {
        let mut named = Map::new();
        for (path, values) in std::mem::take(conditions) {
            named.insert(inner(&path, format!("{pointer}/when"))?, values);
        }
        *conditions = named;
    }
    Ok(space)
}

/// The error of a tune action as one of the experiment that it was made of.
fn of_experiment(mut error: ActionError) -> AskError {
    if let Some(rest) = error.pointer.strip_prefix("/params") {
        error.pointer = rest.to_owned();
    }
    AskError::Tune(error)
}
