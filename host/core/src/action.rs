//! Actions: what a user submits, parsed into a form that cannot be wrong.
//!
//! The texts of the errors about `hyperparameter` and `hyperparameters` are part of the
//! contract with existing clients; do not reword them.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::autolog::Autolog;
use crate::digest::Digest;
use crate::draft::Script;
use crate::id::TaskId;
use crate::limits::LimitRequest;
use crate::model::Keep;
use crate::name::{
    InvalidName, MAX_NAME_BYTES, check_name, encode_job_name, is_plugin_name, nearest,
};
use crate::task::TaskType;

/// The action of a task that looks for the best configuration by trials.
pub const TUNE: &str = "tune";
/// Room for `_` and the id of a trial behind the name of a job.
const TRIAL_SUFFIX_BYTES: usize = 20;
/// The seed of a run that does not name one.
pub const DEFAULT_SEED: u64 = 1337;
/// Longest description, in bytes.
const MAX_DESCRIPTION_BYTES: usize = 65_536;

/// An action, ready to become a task.
#[derive(Debug, Clone, PartialEq)]
pub struct Action {
    /// Which plugin runs it; absent when the only one that can is meant.
    pub plugin: Option<PluginRef>,
    /// Who submits it, e.g. the name of a machine.
    pub creator: String,
    /// Where the action itself comes from, as far as its submitter knows.
    pub script: Option<Script>,
    /// What every action has.
    pub common: Common,
    /// What is to be done.
    pub work: Work,
    /// The `params` object as it was submitted; the plugin can read it.
    pub params: Map<String, Value>,
    /// Deprecated things that were accepted, one sentence each.
    pub warnings: Vec<String>,
}

/// What every action has.
#[derive(Debug, Clone, PartialEq)]
pub struct Common {
    /// As submitted, trimmed. See [`Common::encoded_name`].
    pub name: String,
    /// Becomes the task's comment.
    pub description: Option<String>,
    /// Made on the fly; `/` separates a project from its sub-projects.
    pub project: Option<String>,
    /// Texts to find the task by.
    pub tags: Vec<String>,
    /// `training` for train actions, `data_processing` for preprocess actions, unless given.
    pub task_type: TaskType,
    /// `None` when the run is to draw one.
    pub seed: Option<u64>,
    /// The id of the data set version.
    pub dataset: u64,
    /// What the task may use.
    pub limits: LimitRequest,
    /// Whether a task that is there is used again.
    pub again: Again,
    /// Added to every iteration that the run reports; when a task is continued and this is
    /// absent, it goes on behind its last iteration.
    pub initial_iteration: Option<u64>,
}

/// Whether an action makes a task or uses one again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Again {
    /// Makes one.
    #[default]
    No,
    /// Takes the place of the last one that was run by hand, if that left nothing to keep.
    Reuse,
    /// Goes on with this one, or with the last of the same project and name, if there is one.
    Continue(Option<TaskId>),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Work {
    /// Train one model.
    Train {
        /// Given to the plugin unchanged.
        hyperparameter: Map<String, Value>,
        /// The id of the model to go on from.
        checkpoint: Option<u64>,
    },
    /// Look for the configuration that trains the best model.
    Tune(Tune),
    /// Make a version of the data set.
    Preprocess {
        /// Given to the plugin unchanged.
        parameters: Map<String, Value>,
    },
}

/// A search for the best configuration. What the spaces and the settings mean is for the crate
/// `tune` to check.
#[derive(Debug, Clone, PartialEq)]
pub struct Tune {
    /// One search space for each hyperparameter, as submitted.
    pub hyperparameters: Vec<Value>,
    /// As submitted.
    pub tune_config: Map<String, Value>,
    /// The id of the model that every trial goes on from.
    pub checkpoint: Option<u64>,
    /// Processors that a trial takes.
    pub num_cpus: Option<f64>,
    /// GPUs, or a share of one, that a trial takes.
    pub num_gpus: Option<f64>,
}

/// How an action names a plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PluginRef {
    /// `name`: its newest version, or `name@version`.
    Named {
        /// The plugin's name.
        name: String,
        /// The version, if given.
        version: Option<String>,
    },
    /// `sha256:…`: the component itself.
    Digest(Digest),
}

/// What is wrong with a submitted action. Nothing was queued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ActionError {
    /// JSON pointer of the field at fault, e.g. `/params/name`.
    pub pointer: String,
    /// What is wrong with which value, and what would be right.
    pub message: String,
    /// What the user can do about it.
    pub hint: Option<String>,
}

impl ActionError {
    /// Makes an error without advice.
    pub fn new(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            pointer: pointer.into(),
            message: message.into(),
            hint: None,
        }
    }

    /// Adds one sentence of advice.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Makes the error about a value of the wrong kind: `subject` must be `expected`.
    pub fn wrong_type(pointer: &str, subject: &str, expected: &str, found: &Value) -> Self {
        Self::new(
            pointer,
            format!(
                "{subject} must be {expected}, but it is {}",
                describe(found)
            ),
        )
    }
}

impl Common {
    /// The name as storage paths and job filters have it.
    pub fn encoded_name(&self) -> String {
        encode_job_name(&self.name)
    }
}

impl Work {
    /// The name by which its task is known: `train`, `tune` or `preprocess`.
    pub fn action(&self) -> &'static str {
        match self {
            Self::Train { .. } => "train",
            Self::Tune(_) => TUNE,
            Self::Preprocess { .. } => "preprocess",
        }
    }
}

impl PluginRef {
    /// Parses `name`, `name@version` or `sha256:<digest>`.
    ///
    /// # Errors
    /// A sentence that says which forms there are.
    pub fn parse(text: &str) -> Result<Self, String> {
        let refusal = || {
            format!(
                "must be a plugin's `name`, `name@version` or `sha256:<digest>`, but it is `{}`",
                shortened(text)
            )
        };
        if let Some(digest) = text.strip_prefix("sha256:") {
            return digest.parse().map(Self::Digest).map_err(|_| refusal());
        }
        let (name, version) = match text.split_once('@') {
            Some((name, version)) => (name, Some(version.to_owned())),
            None => (text, None),
        };
        if !is_plugin_name(name) || version.as_deref() == Some("") {
            return Err(refusal());
        }
        Ok(Self::Named {
            name: name.to_owned(),
            version,
        })
    }
}

impl std::fmt::Display for PluginRef {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Named {
                name,
                version: None,
            } => formatter.write_str(name),
            Self::Named {
                name,
                version: Some(version),
            } => write!(formatter, "{name}@{version}"),
            Self::Digest(digest) => write!(formatter, "sha256:{digest}"),
        }
    }
}

const TOP_FIELDS: [&str; 5] = ["action", "params", "plugin", "creator", "script"];
const COMMON_FIELDS: [&str; 11] = [
    "name",
    "description",
    "project",
    "tags",
    "task_type",
    "seed",
    "dataset",
    "limits",
    "reuse",
    "autolog",
    "log_params",
];
const TRAIN_FIELDS: [&str; 10] = [
    "checkpoint",
    "continue_task",
    "initial_iteration",
    "is_tune",
    "num_cpus",
    "num_gpus",
    "hyperparameter",
    "hyperparameters",
    "tune_config",
    "snapshots",
];
const PREPROCESS_FIELDS: [&str; 1] = ["parameters"];

impl Action {
    /// Parses a submitted action, e.g. `{"action":"train","params":{…}}`.
    ///
    /// # Errors
    /// The first thing that is wrong: the field, its value and what would be right.
    pub fn parse(submitted: &Value) -> Result<Self, ActionError> {
        let Value::Object(fields) = submitted else {
            return Err(ActionError::new(
                "",
                format!(
                    "an action must be a JSON object, but it is {}",
                    describe(submitted)
                ),
            )
            .with_hint(r#"Submit {"action":"train","params":{…}}."#));
        };
        refuse_unknown(fields, "", &[&TOP_FIELDS])?;
        let plugin =
            match fields.get("plugin") {
                None | Some(Value::Null) => None,
                Some(Value::String(text)) => {
                    let parsed = PluginRef::parse(text);
                    Some(parsed.map_err(|message| {
                        ActionError::new("/plugin", format!("plugin {message}"))
                    })?)
                }
                Some(other) => return Err(wrong_type("/plugin", "plugin", "a text", other)),
            };
        let action = match fields.get("action") {
            Some(Value::String(action)) => action.as_str(),
            Some(other) => return Err(wrong_type("/action", "action", "a text", other)),
            None => {
                return Err(ActionError::new(
                    "/action",
                    "action is required: train or preprocess",
                ));
            }
        };
        let params = match fields.get("params") {
            Some(Value::Object(params)) => params.clone(),
            Some(other) => return Err(wrong_type("/params", "params", "an object", other)),
            None => return Err(ActionError::new("/params", "params is required")),
        };
        let creator = creator(fields)?;
        let parsed = match action {
            "train" => Self::train(plugin, params, Vec::new()),
            "tune" => Self::deprecated_tune(plugin, params),
            "preprocess" => Self::preprocess(plugin, params),
            other => Err(ActionError::new(
                "/action",
                format!(
                    "action must be train or preprocess, but it is `{}`",
                    shortened(other)
                ),
            )),
        };
        let script = script(fields)?;
        Ok(Self {
            creator,
            script,
            ..parsed?
        })
    }

    fn train(
        plugin: Option<PluginRef>,
        params: Map<String, Value>,
        warnings: Vec<String>,
    ) -> Result<Self, ActionError> {
        refuse_unknown(&params, "/params", &[&COMMON_FIELDS, &TRAIN_FIELDS])?;
        let is_tune = match params.get("is_tune") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(flag)) => *flag,
            Some(other) => {
                return Err(wrong_type(
                    "/params/is_tune",
                    "is_tune",
                    "true or false",
                    other,
                ));
            }
        };
        let default_type = if is_tune {
            TaskType::Optimizer
        } else {
            TaskType::Training
        };
        let common = Common::parse(&params, default_type)?;
        Keep::parse(&params)?;
        let checkpoint = match params.get("checkpoint") {
            None | Some(Value::Null) => None,
            Some(value) => Some(id(
                value,
                "checkpoint",
                "the integer id of a model, or null",
            )?),
        };
        let num_cpus = resource(&params, "num_cpus")?;
        let num_gpus = resource(&params, "num_gpus")?;
        if is_tune {
            let (hyperparameters, tune_config) = tune_parts(&params, &common)?;
            return Ok(Self {
                plugin,
                creator: String::new(),
                script: None,
                common,
                work: Work::Tune(Tune {
                    hyperparameters,
                    tune_config,
                    checkpoint,
                    num_cpus,
                    num_gpus,
                }),
                params,
                warnings,
            });
        }
        let hyperparameter = fixed_hyperparameter(&params)?;
        Ok(Self {
            plugin,
            creator: String::new(),
            script: None,
            common,
            work: Work::Train {
                hyperparameter,
                checkpoint,
            },
            params,
            warnings,
        })
    }

    /// The former `tune` action: a train action with `is_tune`, and `hyperparameter` for the list.
    fn deprecated_tune(
        plugin: Option<PluginRef>,
        mut params: Map<String, Value>,
    ) -> Result<Self, ActionError> {
        if let Some(list) = params.remove("hyperparameter") {
            params.entry("hyperparameters").or_insert(list);
        }
        params.insert("is_tune".into(), Value::Bool(true));
        let warning = r#"the action "tune" is deprecated: use "train" with "is_tune": true and "hyperparameters""#;
        Self::train(plugin, params, vec![warning.to_owned()])
    }

    fn preprocess(
        plugin: Option<PluginRef>,
        params: Map<String, Value>,
    ) -> Result<Self, ActionError> {
        refuse_unknown(&params, "/params", &[&COMMON_FIELDS, &PREPROCESS_FIELDS])?;
        let common = Common::parse(&params, TaskType::DataProcessing)?;
        let parameters = match params.get("parameters") {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(parameters)) => parameters.clone(),
            Some(other) => {
                return Err(wrong_type(
                    "/params/parameters",
                    "parameters",
                    "an object",
                    other,
                ));
            }
        };
        Ok(Self {
            plugin,
            creator: String::new(),
            script: None,
            common,
            work: Work::Preprocess { parameters },
            params,
            warnings: Vec::new(),
        })
    }
}

impl Common {
    fn parse(params: &Map<String, Value>, default_type: TaskType) -> Result<Self, ActionError> {
        let name = match params.get("name") {
            None | Some(Value::Null) => {
                return Err(ActionError::new("/params/name", "name is required"));
            }
            Some(Value::String(name)) => checked_name(name, "name")?,
            Some(other) => return Err(wrong_type("/params/name", "name", "a text", other)),
        };
        let dataset = match params.get("dataset") {
            None | Some(Value::Null) => {
                return Err(ActionError::new(
                    "/params/dataset",
                    "dataset is required: the integer id of a data set",
                )
                .with_hint("`trainshed dataset ls` lists them."));
            }
            Some(value) => id(value, "dataset", "the integer id of a data set")?,
        };
        let description = text(params, "description")?;
        if let Some(long) = description
            .as_ref()
            .filter(|text| text.len() > MAX_DESCRIPTION_BYTES)
        {
            let message = format!(
                "description must have at most {MAX_DESCRIPTION_BYTES} bytes, but it has {}",
                long.len()
            );
            return Err(ActionError::new("/params/description", message));
        }
        let project = text(params, "project")?
            .map(|path| project_path(&path))
            .transpose()?;
        let task_type = match text(params, "task_type")? {
            None => default_type,
            Some(name) => TaskType::parse(&name).ok_or_else(|| {
                let known = TaskType::ALL.map(TaskType::as_str).join(", ");
                ActionError::new(
                    "/params/task_type",
                    format!(
                        "task_type must be one of {known}, but it is `{}`",
                        shortened(&name)
                    ),
                )
            })?,
        };
        let (again, initial_iteration) = again(params)?;
        Autolog::parse(params)?;
        let seed = match params.get("seed") {
            None => Some(DEFAULT_SEED),
            Some(Value::Null) => None,
            Some(value) => Some(value.as_u64().ok_or_else(|| {
                wrong_type(
                    "/params/seed",
                    "seed",
                    "an integer from 0 to 2^64 - 1, or null for a random one",
                    value,
                )
            })?),
        };
        Ok(Self {
            name,
            description,
            project,
            tags: tags(params)?,
            task_type,
            seed,
            dataset,
            limits: limits(params)?,
            again,
            initial_iteration,
        })
    }
}

fn script(fields: &Map<String, Value>) -> Result<Option<Script>, ActionError> {
    let Some(value) = fields.get("script").filter(|value| !value.is_null()) else {
        return Ok(None);
    };
    let script = Script::deserialize(value);
    script
        .map(Some)
        .map_err(|error| ActionError::new("/script", format!("script cannot be read: {error}")))
}

/// Who submits the action.
fn creator(fields: &Map<String, Value>) -> Result<String, ActionError> {
    match fields.get("creator") {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(creator))
            if creator.len() <= MAX_NAME_BYTES && !creator.contains(char::is_control) =>
        {
            Ok(creator.clone())
        }
        Some(other) => Err(wrong_type(
            "/creator",
            "creator",
            "a text of at most 200 bytes without control characters",
            other,
        )),
    }
}

/// Whether a task is used again, and where its iterations begin.
fn again(params: &Map<String, Value>) -> Result<(Again, Option<u64>), ActionError> {
    const CONTINUE: &str = "/params/continue_task";
    let offset = |value: &Value| {
        value
            .as_u64()
            .filter(|offset| i64::try_from(*offset).is_ok())
    };
    let mut initial_iteration = match params.get("initial_iteration") {
        None | Some(Value::Null) => None,
        Some(value) => Some(offset(value).ok_or_else(|| {
            let pointer = "/params/initial_iteration";
            wrong_type(pointer, "initial_iteration", "an integer, 0 or more", value)
        })?),
    };
    let reuse = match params.get("reuse") {
        None | Some(Value::Null | Value::Bool(false)) => false,
        Some(Value::Bool(true)) => true,
        Some(other) => {
            return Err(wrong_type("/params/reuse", "reuse", "true or false", other));
        }
    };
    let continued = match params.get("continue_task") {
        None | Some(Value::Null | Value::Bool(false)) => None,
        Some(Value::Bool(true)) => Some(None),
        Some(Value::String(id)) => Some(Some(id.parse().map_err(
            |error: crate::id::InvalidId| {
                ActionError::new(CONTINUE, format!("continue_task: {error}"))
            },
        )?)),
        Some(value) => {
            let offset = offset(value).ok_or_else(|| {
                let expected = "true, false, the id of a task, or the first iteration";
                wrong_type(CONTINUE, "continue_task", expected, value)
            })?;
            initial_iteration = initial_iteration.or(Some(offset));
            Some(None)
        }
    };
    match (reuse, continued) {
        (true, Some(_)) => Err(ActionError::new(
            "/params/reuse",
            "a task is either reused or continued: give one of reuse and continue_task",
        )),
        (true, None) => Ok((Again::Reuse, initial_iteration)),
        (false, Some(task)) => Ok((Again::Continue(task), initial_iteration)),
        (false, None) => Ok((Again::No, initial_iteration)),
    }
}

/// The fixed values of train mode: an object, or a list with one.
fn fixed_hyperparameter(params: &Map<String, Value>) -> Result<Map<String, Value>, ActionError> {
    const ONE: &str = "/params/hyperparameter";
    const MANY: &str = "/params/hyperparameters";
    let one = params
        .get("hyperparameter")
        .filter(|value| !value.is_null());
    let many = params
        .get("hyperparameters")
        .filter(|value| !value.is_null());
    match (one, many) {
        (Some(_), Some(_)) => Err(ActionError::new(
            ONE,
            "Provide either hyperparameter or hyperparameters, but not both",
        )),
        (None, None) => Err(
            ActionError::new(ONE, "hyperparameter is required when is_tune=False")
                .with_hint(r#"Add "hyperparameter": {…}; {} takes the plugin's defaults."#),
        ),
        (Some(Value::Object(values)), None) => Ok(values.clone()),
        (Some(Value::Array(_)), None) => Err(ActionError::new(
            ONE,
            r#"hyperparameter must be a dict, not a list. If you want to use hyperparameter tuning, set "is_tune": true and use "hyperparameters" instead."#,
        )),
        (Some(other), None) => Err(wrong_type(ONE, "hyperparameter", "a dict", other)),
        (None, Some(Value::Array(list))) => match list.as_slice() {
            [Value::Object(values)] => Ok(values.clone()),
            _ => Err(ActionError::new(
                MANY,
                "hyperparameters must be a list containing a single dictionary",
            )),
        },
        (None, Some(Value::Object(_))) => Err(ActionError::new(
            MANY,
            r#"hyperparameters must be a list, not a dict. If you want to train with fixed values, use "hyperparameter" instead."#,
        )),
        (None, Some(other)) => Err(wrong_type(MANY, "hyperparameters", "a list", other)),
    }
}

/// The search spaces and the settings of a tuning request, whose form is checked: which fields
/// there are, and the keys of every search space.
fn tune_parts(
    params: &Map<String, Value>,
    common: &Common,
) -> Result<(Vec<Value>, Map<String, Value>), ActionError> {
    let given = |field: &str| params.get(field).filter(|value| !value.is_null());
    let list = match (given("hyperparameter"), given("hyperparameters")) {
        (Some(_), Some(_)) => {
            return Err(ActionError::new(
                "/params/hyperparameter",
                "Provide either hyperparameter or hyperparameters, but not both",
            ));
        }
        (Some(_), None) => {
            return Err(ActionError::new(
                "/params/hyperparameter",
                "hyperparameter should not be provided when is_tune=True, use hyperparameters instead",
            ));
        }
        (None, None) => {
            return Err(ActionError::new(
                "/params/hyperparameters",
                "hyperparameters is required when is_tune=True",
            ));
        }
        (None, Some(Value::Array(list))) => list,
        (None, Some(Value::Object(_))) => {
            return Err(ActionError::new(
                "/params/hyperparameters",
                r#"hyperparameters must be a list, not a dict. Give one search space per parameter, e.g. [{"name":"lr","type":"uniform","min":0,"max":1}]."#,
            ));
        }
        (None, Some(other)) => {
            return Err(wrong_type(
                "/params/hyperparameters",
                "hyperparameters",
                "a list",
                other,
            ));
        }
    };
    for (index, space) in list.iter().enumerate() {
        check_space(space, &format!("/params/hyperparameters/{index}"))?;
    }
    let tune_config = match given("tune_config") {
        Some(Value::Object(tune_config)) => tune_config,
        Some(other) => {
            return Err(wrong_type(
                "/params/tune_config",
                "tune_config",
                "a dict",
                other,
            ));
        }
        None => {
            return Err(ActionError::new(
                "/params/tune_config",
                "tune_config is required when is_tune=True",
            ));
        }
    };
    if common.again != Again::No || common.initial_iteration.is_some() {
        let field = ["reuse", "continue_task", "initial_iteration"]
            .into_iter()
            .find(|field| given(field).is_some_and(|value| *value != Value::Bool(false)))
            .unwrap_or("reuse");
        return Err(ActionError::new(
            format!("/params/{field}"),
            format!("{field} has no meaning when is_tune=True: every trial is a run of its own"),
        ));
    }
    if let Some(gpus) = given("num_gpus").and_then(Value::as_f64)
        && gpus > 1.0
        && gpus.fract() != 0.0
    {
        return Err(ActionError::new(
            "/params/num_gpus",
            format!("num_gpus must be at most 1 or a whole number, but it is {gpus}"),
        ));
    }
    let most = MAX_NAME_BYTES - TRIAL_SUFFIX_BYTES;
    if common.name.len() > most {
        let length = common.name.len();
        return Err(ActionError::new(
            "/params/name",
            format!(
                "name must have at most {most} bytes when is_tune=True, because trials are called \
                 `<name>_<trial id>`, but it has {length}"
            ),
        ));
    }
    Ok((list.clone(), tune_config.clone()))
}

const RANGE_KEYS: [(&str, &str); 2] = [("lower", "min"), ("upper", "max")];
const LOG_TYPES: [&str; 4] = ["loguniform", "qloguniform", "lograndint", "qlograndint"];
const RANGE_TYPES: [&str; 8] = [
    "uniform",
    "quniform",
    "loguniform",
    "qloguniform",
    "randint",
    "qrandint",
    "lograndint",
    "qlograndint",
];

/// Checks that one search space has a name, a known type and the keys of that type.
///
/// What the values of the keys mean together is for the crate `tune` to check.
///
/// # Errors
/// The first thing that is wrong; `pointer` is where the search space stands.
pub fn check_space(space: &Value, pointer: &str) -> Result<(), ActionError> {
    let Value::Object(keys) = space else {
        return Err(wrong_type(pointer, "a search space", "a dict", space));
    };
    let Some(Value::String(name)) = keys.get("name") else {
        return Err(ActionError::new(
            format!("{pointer}/name"),
            "every hyperparameter must have a `name`, a text",
        ));
    };
    let name = shortened(name);
    let Some(Value::String(kind)) = keys.get("type") else {
        return Err(ActionError::new(
            format!("{pointer}/type"),
            format!("hyperparameter `{name}` must have a `type`, a text"),
        ));
    };
    let (required, wrong): (&[&str], &[(&str, &str)]) = match kind.as_str() {
        "choice" | "grid_search" => (&["options"], &[("values", "options")]),
        "constant" => (&["value"], &[]),
        "randn" | "qrandn" => (&["mean", "sd"], &[]),
        kind if LOG_TYPES.contains(&kind) => (&["min", "max", "base"], &RANGE_KEYS),
        kind if RANGE_TYPES.contains(&kind) => (&["min", "max"], &RANGE_KEYS),
        unknown => {
            return Err(ActionError::new(
                format!("{pointer}/type"),
                format!("Unknown parameter type: {}", shortened(unknown)),
            )
            .with_hint(format!(
                "Known types are {}, randn, qrandn, choice, grid_search, constant.",
                RANGE_TYPES.join(", ")
            )));
        }
    };
    for (used, right) in wrong {
        if keys.contains_key(*used) {
            let message = format!(
                "hyperparameter `{name}` of type {kind} has the key `{used}`: use `{right}`"
            );
            return Err(ActionError::new(format!("{pointer}/{used}"), message));
        }
    }
    for key in required {
        let pointer = format!("{pointer}/{key}");
        match (keys.get(*key), *key) {
            (None, _) => {
                return Err(ActionError::new(
                    pointer,
                    format!("hyperparameter `{name}` of type {kind} must have the key `{key}`"),
                ));
            }
            (Some(Value::Array(options)), "options") if !options.is_empty() => {}
            (Some(other), "options") => {
                return Err(wrong_type(
                    &pointer,
                    &format!("`options` of hyperparameter `{name}`"),
                    "a list with at least one value",
                    other,
                ));
            }
            (Some(Value::Number(_)), _) | (Some(_), "value") => {}
            (Some(other), _) => {
                return Err(wrong_type(
                    &pointer,
                    &format!("`{key}` of hyperparameter `{name}`"),
                    "a number",
                    other,
                ));
            }
        }
    }
    Ok(())
}

pub(crate) fn refuse_unknown(
    fields: &Map<String, Value>,
    pointer: &str,
    known: &[&[&str]],
) -> Result<(), ActionError> {
    let known = || known.iter().flat_map(|names| names.iter().copied());
    let Some(unknown) = fields
        .keys()
        .find(|field| !known().any(|name| name == *field))
    else {
        return Ok(());
    };
    let place = if pointer.is_empty() {
        "an action"
    } else {
        "params"
    };
    let message = format!("{place} has no field `{}`", shortened(unknown));
    let hint = match nearest(unknown, known()) {
        Some(name) => format!("Did you mean `{name}`?"),
        None => format!("The fields are {}.", known().collect::<Vec<_>>().join(", ")),
    };
    Err(ActionError::new(format!("{pointer}/{}", escape(unknown)), message).with_hint(hint))
}

fn checked_name(name: &str, field: &str) -> Result<String, ActionError> {
    let pointer = format!("/params/{field}");
    match check_name(name) {
        Ok(name) => Ok(name.to_owned()),
        Err(InvalidName::Blank) => Err(ActionError::new(
            pointer,
            format!("{field} is required and must not be blank"),
        )),
        Err(error) => Err(ActionError::new(pointer, format!("{field} {error}"))),
    }
}

fn project_path(path: &str) -> Result<String, ActionError> {
    checked_name(path, "project")?;
    let parts: Result<Vec<String>, ActionError> = path
        .split('/')
        .map(|part| checked_name(part, "project"))
        .collect();
    Ok(parts?.join("/"))
}

fn id(value: &Value, field: &str, expected: &str) -> Result<u64, ActionError> {
    let id = value.as_u64().filter(|id| i64::try_from(*id).is_ok());
    id.ok_or_else(|| wrong_type(&format!("/params/{field}"), field, expected, value))
}

fn resource(params: &Map<String, Value>, field: &str) -> Result<Option<f64>, ActionError> {
    let Some(value) = params.get(field).filter(|value| !value.is_null()) else {
        return Ok(None);
    };
    match value.as_f64() {
        Some(amount) if amount.is_finite() && amount >= 0.0 => Ok(Some(amount)),
        _ => Err(wrong_type(
            &format!("/params/{field}"),
            field,
            "a number, 0 or more",
            value,
        )),
    }
}

fn text(params: &Map<String, Value>, field: &str) -> Result<Option<String>, ActionError> {
    match params.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(wrong_type(
            &format!("/params/{field}"),
            field,
            "a text",
            other,
        )),
    }
}

fn tags(params: &Map<String, Value>) -> Result<Vec<String>, ActionError> {
    let list = match params.get("tags") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(other) => return Err(wrong_type("/params/tags", "tags", "a list of texts", other)),
    };
    let mut tags = Vec::new();
    for (index, tag) in list.iter().enumerate() {
        match tag {
            Value::String(tag) if !tag.is_empty() && tag.len() <= 200 => tags.push(tag.clone()),
            other => {
                return Err(wrong_type(
                    &format!("/params/tags/{index}"),
                    "a tag",
                    "a text of 1 to 200 bytes",
                    other,
                ));
            }
        }
    }
    tags.sort();
    tags.dedup();
    Ok(tags)
}

fn limits(params: &Map<String, Value>) -> Result<LimitRequest, ActionError> {
    match params.get("limits") {
        None | Some(Value::Null) => Ok(LimitRequest::default()),
        Some(value) => serde_json::from_value(value.clone())
            .map_err(|error| ActionError::new("/params/limits", format!("limits: {error}"))),
    }
}

pub(crate) fn wrong_type(
    pointer: &str,
    subject: &str,
    expected: &str,
    found: &Value,
) -> ActionError {
    ActionError::wrong_type(pointer, subject, expected, found)
}

fn describe(value: &Value) -> String {
    match value {
        Value::Array(list) => format!("a list of {}", list.len()),
        Value::Object(_) => "an object".to_owned(),
        other => shortened(&other.to_string()),
    }
}

fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(80).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// Escapes one part of a JSON pointer (RFC 6901).
fn escape(part: &str) -> String {
    shortened(part).replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
#[path = "action_tests.rs"]
mod tests;
