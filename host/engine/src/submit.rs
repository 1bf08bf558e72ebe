//! Submitting an action: everything it names is resolved, then it becomes a waiting task.

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use trainshed_core::action::{Action, ActionError, Again, PluginRef, TUNE, Tune, Work};
use trainshed_core::autolog::Autolog;
use trainshed_core::draft::DEVELOPMENT;
use trainshed_core::name::nearest;
use trainshed_core::parameter::{GENERAL, Parameter, flattened};
use trainshed_core::task::TaskState;
use trainshed_core::view::{PluginSummary, PluginView, TaskView};
use trainshed_core::{TaskId, Timestamp};
use trainshed_store::{ContinueError, InsertTaskError, NewTask, NewWork, StoreError, Workspace};
use uuid::Uuid;

use crate::catalog::is_named;
use crate::engine::Engine;
use crate::tune::check_tune;

/// The project of actions that name none.
pub(crate) const DEFAULT_PROJECT: &str = "default";
/// An agent that has not asked for work for so long may be gone: waiting ones ask twice a minute.
const AGENTS_SEEN_MS: i64 = 90_000;
/// Fields of `params` that hold the plugin's own settings.
const SETTINGS_FIELDS: [&str; 3] = ["hyperparameter", "hyperparameters", "parameters"];

/// Why an action was not accepted. Nothing was queued.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// No such plugin is installed; `nearest` is the installed one spelled most like it.
    #[error("no plugin `{reference}` is installed")]
    UnknownPlugin {
        /// As submitted.
        reference: PluginRef,
        /// Its name, or its name and version.
        nearest: Option<String>,
    },
    /// The action names no plugin, and none that is installed has it.
    #[error("no installed plugin has the action `{action}`")]
    NoPlugin {
        /// As submitted.
        action: &'static str,
    },
    /// The action names no plugin, and several have it.
    #[error("plugin is required: {} have the action `{action}`", listed(.plugins))]
    AmbiguousPlugin {
        /// As submitted.
        action: &'static str,
        /// Their names.
        plugins: Vec<String>,
    },
    /// The plugin does not have the action.
    #[error("the plugin `{plugin}` has no action `{action}`; it has {}", listed(.actions))]
    UnknownAction {
        /// Name and version.
        plugin: String,
        /// As submitted.
        action: &'static str,
        /// What it has.
        actions: Vec<String>,
    },
    /// There is no data set version with this id.
    #[error("there is no data set {id}")]
    UnknownDataset {
        /// As submitted.
        id: u64,
        /// Ids and names of the newest ones that there are.
        known: Vec<(u64, String)>,
    },
    /// There is no model with this id.
    #[error("there is no model {id}")]
    UnknownCheckpoint {
        /// As submitted.
        id: u64,
    },
    /// The model's file is not here.
    #[error(
        "model {id} is only recorded here, and its file is elsewhere: no task can go on from it"
    )]
    CheckpointElsewhere {
        /// As submitted.
        id: u64,
    },
    /// A waiting or running task has the name.
    #[error("the name `{name}` is in use: the task {task} has it and is {state}")]
    NameTaken {
        /// As submitted.
        name: String,
        /// The other task.
        task: TaskId,
        /// Where it stands.
        state: TaskState,
    },
    /// There is no task to go on with that has this id.
    #[error("there is no task {0} to continue")]
    UnknownPrevious(TaskId),
    /// The task to go on with has not ended, or is published.
    #[error("the task {task} cannot be continued: it is {state}")]
    NotContinuable {
        /// The task.
        task: TaskId,
        /// Where it stands.
        state: TaskState,
    },
    /// The search space or the settings of a tune action break a rule.
    #[error(transparent)]
    Tune(ActionError),
    /// No agent has what a trial asks for.
    #[error("{field} is {wanted}, but the agents here have at most {available} each")]
    NoResources {
        /// Of the action.
        field: &'static str,
        /// As submitted.
        wanted: f64,
        /// Of the agent that has the most.
        available: u64,
    },
    /// Somebody deleted the task as soon as it was there.
    #[error("the task {task} was deleted")]
    Deleted {
        /// The task.
        task: TaskId,
    },
    /// The store failed.
    #[error("the task could not be recorded")]
    Store(#[source] StoreError),
}

impl SubmitError {
    /// JSON pointer of the field at fault in the action.
    pub fn pointer(&self) -> Option<&str> {
        match self {
            Self::UnknownPlugin { .. } | Self::NoPlugin { .. } | Self::AmbiguousPlugin { .. } => {
                Some("/plugin")
            }
            Self::UnknownAction { .. } => Some("/action"),
            Self::UnknownDataset { .. } => Some("/params/dataset"),
            Self::UnknownCheckpoint { .. } | Self::CheckpointElsewhere { .. } => {
                Some("/params/checkpoint")
            }
            Self::NameTaken { .. } => Some("/params/name"),
            Self::UnknownPrevious(_) | Self::NotContinuable { .. } => Some("/params/continue_task"),
            Self::Tune(error) => Some(&error.pointer),
            Self::NoResources {
                field: "num_gpus", ..
            } => Some("/params/num_gpus"),
            Self::NoResources { .. } => Some("/params/num_cpus"),
            Self::Deleted { .. } | Self::Store(_) => None,
        }
    }

    /// What the user can do about it, in one sentence.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownPlugin {
                nearest: Some(name),
                ..
            } => Some(format!("Did you mean `{name}`?")),
            Self::UnknownPlugin { .. } => Some(
                "`trainshed plugin ls` lists what is installed; `trainshed plugin push` installs."
                    .into(),
            ),
            Self::NoPlugin { .. } => {
                Some("Install one with `trainshed plugin push FILE`, then submit again.".into())
            }
            Self::AmbiguousPlugin { plugins, .. } => plugins
                .first()
                .map(|name| format!("Add a plugin to the action, e.g. \"plugin\": \"{name}\".")),
            Self::UnknownDataset { known, .. } if known.is_empty() => {
                Some("There is none yet: `trainshed dataset create` makes one.".into())
            }
            Self::UnknownDataset { known, .. } => {
                let known = known.iter().map(|(id, name)| format!("{id} (`{name}`)"));
                let known: Vec<String> = known.collect();
                Some(format!("The newest data sets are {}.", known.join(", ")))
            }
            Self::UnknownCheckpoint { .. } => Some(
                "`trainshed model ls` lists them; a model can be used once its task has ended."
                    .into(),
            ),
            Self::CheckpointElsewhere { .. } => {
                Some("Register its file: upload it, and register a model of its digest.".into())
            }
            Self::NameTaken { task, .. } => Some(format!(
                "Wait for it, stop it with `trainshed task stop {task}`, or choose another name."
            )),
            Self::NotContinuable {
                state: TaskState::Published,
                ..
            } => Some("A published task is read-only; give the action another name.".into()),
            Self::NotContinuable { task, .. } => Some(format!(
                "Wait for it, or stop it with `trainshed task stop {task}`."
            )),
            Self::UnknownAction { .. } | Self::UnknownPrevious(_) | Self::Deleted { .. } => None,
            Self::Tune(error) => error.hint.clone(),
            Self::NoResources { available: 0, .. } => Some(
                "Leave it out to train on processors; `trainshed devices` says what is missing."
                    .into(),
            ),
            Self::NoResources { .. } => Some("Ask for less.".into()),
            Self::Store(error) => error.hint(),
        }
    }
}

impl From<InsertTaskError> for SubmitError {
    fn from(error: InsertTaskError) -> Self {
        match error {
            InsertTaskError::NameTaken { name, task, state } => {
                Self::NameTaken { name, task, state }
            }
            InsertTaskError::Store(error) => Self::Store(error),
        }
    }
}

impl From<ContinueError> for SubmitError {
    fn from(error: ContinueError) -> Self {
        match error {
            ContinueError::UnknownTask(task) => Self::UnknownPrevious(task),
            ContinueError::State { task, state } => Self::NotContinuable { task, state },
            ContinueError::NameTaken { name, task, state } => Self::NameTaken { name, task, state },
            ContinueError::Store(error) => Self::Store(error),
        }
    }
}

fn listed(names: &[String]) -> String {
    names
        .iter()
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

impl Engine {
    /// Accepts an action: resolves its plugin, data set and checkpoint, and queues a task.
    ///
    /// # Errors
    /// When something that the action names is not there, or its name is in use.
    pub async fn submit(
        &self,
        workspace: &Workspace,
        action: Action,
    ) -> Result<TaskView, SubmitError> {
        let (work, parameters) = self.resolve_work(workspace, &action).await?;
        let id = TaskId::from_u128(Uuid::now_v7().as_u128());
        let task = NewTask {
            id: id.clone(),
            encoded_name: action.common.encoded_name(),
            project: action
                .common
                .project
                .unwrap_or_else(|| DEFAULT_PROJECT.to_owned()),
            name: action.common.name,
            task_type: action.common.task_type,
            comment: action.common.description.unwrap_or_default(),
            tags: action.common.tags,
            system_tags: match action.common.again {
                Again::Reuse => vec![DEVELOPMENT.to_owned()],
                Again::No | Again::Continue(_) => Vec::new(),
            },
            parent: None,
            creator: action.creator,
            script: action.script,
            container: None,
            output_destination: None,
            work: Some(work),
            parameters,
            configuration: Vec::new(),
            queued: true,
        };
        let initial_iteration = action.common.initial_iteration;
        // Boxed, because it is many kilobytes and most callers hold it within futures of theirs.
        let entered = self.enter(workspace, task, &action.common.again, initial_iteration);
        let id = Box::pin(entered).await?;
        self.changes().task_queued();
        self.changes().task_changed(workspace.id(), &id);
        let view = self.store.task(workspace, &id).await;
        let view = view.map_err(SubmitError::Store)?;
        view.ok_or(SubmitError::Deleted { task: id })
    }

    /// Queues a task: a new one, or one that is used again. Returns its id.
    async fn enter(
        &self,
        workspace: &Workspace,
        task: NewTask,
        again: &Again,
        initial_iteration: Option<u64>,
    ) -> Result<TaskId, SubmitError> {
        let now = self.now();
        let previous = match again {
            Again::No => None,
            Again::Reuse => {
                let window_ms = i64::from(self.reuse_window_h()) * 3_600_000;
                let since = Timestamp(now.as_millis() - window_ms);
                return Ok(self.store.reuse_task(workspace, &task, since, now).await?);
            }
            Again::Continue(Some(previous)) => Some(previous.clone()),
            Again::Continue(None) => {
                let named = self.store.task_named(workspace, &task.project, &task.name);
                named.await.map_err(SubmitError::Store)?.map(|task| task.id)
            }
        };
        let Some(previous) = previous else {
            self.store.insert_task(workspace, &task, now).await?;
            return Ok(task.id);
        };
        self.store
            .continue_task(workspace, &previous, &task, initial_iteration, now)
            .await?;
        Ok(previous)
    }

    /// Everything that an action names, and the parameters to find its task by.
    pub(crate) async fn resolve_work(
        &self,
        workspace: &Workspace,
        action: &Action,
    ) -> Result<(NewWork, Vec<Parameter>), SubmitError> {
        let plugin = self.resolve_plugin(workspace, action).await?;
        self.check_dataset(workspace, action.common.dataset).await?;
        let (settings, checkpoint) = match &action.work {
            Work::Train {
                hyperparameter,
                checkpoint,
            } => (hyperparameter.clone(), *checkpoint),
            Work::Tune(tune) => {
                check_tune(tune).map_err(SubmitError::Tune)?;
                self.check_resources(workspace, tune).await?;
                (Map::new(), tune.checkpoint)
            }
            Work::Preprocess { parameters } => (parameters.clone(), None),
        };
        if let Some(id) = checkpoint {
            let model = self.store.model(workspace, id).await;
            let model = model.map_err(SubmitError::Store)?;
            let model = model.ok_or(SubmitError::UnknownCheckpoint { id })?;
            if model.sha256.is_none() {
                return Err(SubmitError::CheckpointElsewhere { id });
            }
        }
        let parameters = parameters(&settings, &action.params);
        let work = NewWork {
            action: action.work.action(),
            seed: action.common.seed.unwrap_or_else(drawn_seed),
            params: action.params.clone(),
            settings,
            plugin: PluginSummary {
                name: plugin.manifest.name,
                version: plugin.manifest.version,
                digest: plugin.digest,
            },
            dataset: action.common.dataset,
            checkpoint,
            limits: action.common.limits,
            initial_iteration: action.common.initial_iteration.unwrap_or(0),
        };
        Ok((work, parameters))
    }

    /// Refuses trials that no agent could ever run. Where no agent has been seen for a while,
    /// one that can may come.
    async fn check_resources(&self, workspace: &Workspace, tune: &Tune) -> Result<(), SubmitError> {
        let since = Timestamp(self.now().as_millis() - AGENTS_SEEN_MS);
        let greatest = self.store.greatest_agent(workspace, since).await;
        let Some((cpus, gpus)) = greatest.map_err(SubmitError::Store)? else {
            return Ok(());
        };
        for (field, wanted, available) in [
            ("num_cpus", tune.num_cpus, cpus),
            ("num_gpus", tune.num_gpus, gpus),
        ] {
            #[expect(
                clippy::cast_precision_loss,
                reason = "no agent has so many processors"
            )]
            let missing = wanted.filter(|wanted| cpus > 0 && *wanted > available as f64);
            if let Some(wanted) = missing {
                return Err(SubmitError::NoResources {
                    field,
                    wanted,
                    available,
                });
            }
        }
        Ok(())
    }

    /// The plugin that an action names, or the only one that has the action.
    async fn resolve_plugin(
        &self,
        workspace: &Workspace,
        action: &Action,
    ) -> Result<PluginView, SubmitError> {
        // A plugin that cannot be tuned otherwise is tuned through what it trains with.
        let wanted = match action.work.action() {
            TUNE => "train",
            other => other,
        };
        let plugins = self.plugins(workspace).await.map_err(SubmitError::Store)?;
        let Some(reference) = &action.plugin else {
            return only_plugin(plugins, wanted);
        };
        let Some(plugin) = plugins.iter().find(|plugin| is_named(plugin, reference)) else {
            return Err(SubmitError::UnknownPlugin {
                nearest: nearest_plugin(&plugins, reference),
                reference: reference.clone(),
            });
        };
        let manifest = &plugin.manifest;
        if manifest.action(wanted).is_none() {
            let actions = manifest.actions.iter();
            return Err(SubmitError::UnknownAction {
                plugin: format!("{}@{}", manifest.name, manifest.version),
                action: wanted,
                actions: actions.map(|action| action.name.clone()).collect(),
            });
        }
        Ok(plugin.clone())
    }

    async fn check_dataset(&self, workspace: &Workspace, id: u64) -> Result<(), SubmitError> {
        /// Enough to recognise the right one, short enough for one line.
        const NAMED_IN_HINT: u32 = 5;
        let dataset = self.store.dataset(workspace, id).await;
        if dataset.map_err(SubmitError::Store)?.is_some() {
            return Ok(());
        }
        let known = self.store.dataset_names(workspace, NAMED_IN_HINT).await;
        Err(SubmitError::UnknownDataset {
            id,
            known: known.map_err(SubmitError::Store)?,
        })
    }
}

/// The newest version of the only plugin that has `action`; `plugins` are ordered by name,
/// newest first.
fn only_plugin(plugins: Vec<PluginView>, action: &'static str) -> Result<PluginView, SubmitError> {
    let mut able = plugins
        .into_iter()
        .filter(|plugin| plugin.manifest.action(action).is_some());
    let first = able.next().ok_or(SubmitError::NoPlugin { action })?;
    let others: BTreeSet<String> = able
        .map(|plugin| plugin.manifest.name)
        .filter(|name| *name != first.manifest.name)
        .collect();
    if others.is_empty() {
        return Ok(first);
    }
    let plugins = [first.manifest.name].into_iter().chain(others).collect();
    Err(SubmitError::AmbiguousPlugin { action, plugins })
}

/// What was probably meant by a reference that names nothing.
fn nearest_plugin(plugins: &[PluginView], reference: &PluginRef) -> Option<String> {
    let PluginRef::Named { name, .. } = reference else {
        return None;
    };
    let newest = plugins.iter().find(|plugin| plugin.manifest.name == *name);
    if let Some(plugin) = newest {
        return Some(format!("{name}@{}", plugin.manifest.version));
    }
    let names = plugins.iter().map(|plugin| plugin.manifest.name.as_str());
    nearest(name, names).map(str::to_owned)
}

/// A seed for an action that asks for a random one: 48 bits, so that every reader of JSON
/// keeps it exactly.
pub(crate) fn drawn_seed() -> u64 {
    let random = Uuid::new_v4().as_u128() & ((1 << 48) - 1);
    u64::try_from(random).expect("48 bits fit")
}

/// The parameters to find a task by: the plugin's settings in section `General`, as far as the
/// action lets them be shown, and the other fields of the action in section `Args`.
fn parameters(settings: &Map<String, Value>, params: &Map<String, Value>) -> Vec<Parameter> {
    // The settings are in `General`. Their fields are left out whole.
    let mut args = params.clone();
    for field in SETTINGS_FIELDS {
        args.remove(field);
    }
    let args = flattened(&args).into_iter();
    let args = args.map(|(name, value)| Parameter::new("Args", &name, value));
    let mut parameters = shown_settings(settings, params);
    parameters.extend(args);
    parameters
}

/// The plugin's settings as parameters, as far as the action's `params` let them be shown.
pub(crate) fn shown_settings(
    settings: &Map<String, Value>,
    params: &Map<String, Value>,
) -> Vec<Parameter> {
    let autolog = Autolog::of(params);
    flattened(settings)
        .into_iter()
        .filter(|(name, _)| autolog.shows(name))
        .map(|(name, value)| Parameter::new(GENERAL, &name, value))
        .collect()
}
