//! What people and other programs do with tasks: make drafts, edit, move, clone, delete.

use serde_json::{Map, Value, json};
use trainshed_core::action::{Action, ActionError, Again, TUNE};
use trainshed_core::autolog::Autolog;
use trainshed_core::draft::{CloneRequest, InvalidField, NewDraft, TaskEdit};
use trainshed_core::name::{check_name, encode_job_name};
use trainshed_core::parameter::{Parameter, from_nested};
use trainshed_core::task::{TaskState, TaskType, Verb};
use trainshed_core::view::TaskView;
use trainshed_core::{TaskId, Timestamp};
use trainshed_store::{
    ChangeError, EndedTask, InsertTaskError, Move, NewConfiguration, NewTask, NewWork, StoreError,
    Workspace,
};
use uuid::Uuid;

use crate::engine::Engine;
use crate::files::AddressError;
use crate::submit::{DEFAULT_PROJECT, SubmitError};

/// Why a draft was not made or changed as asked. Nothing of it was kept.
#[derive(Debug, thiserror::Error)]
pub enum DraftError {
    /// A field breaks a rule.
    #[error(transparent)]
    Field(#[from] InvalidField),
    /// The action breaks a rule.
    #[error(transparent)]
    Action(ActionError),
    /// What the action names is not there.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// Its files may not go where it says.
    #[error(transparent)]
    Destination(AddressError),
    /// The state of the task does not allow it.
    #[error(transparent)]
    Change(#[from] ChangeError),
}

impl From<StoreError> for DraftError {
    fn from(error: StoreError) -> Self {
        Self::Change(ChangeError::Store(error))
    }
}

impl Engine {
    /// Makes a draft: a task that waits for somebody to edit, enqueue or start it.
    ///
    /// # Errors
    /// When a field breaks a rule, or its action names what is not there.
    pub async fn create_draft(
        &self,
        workspace: &Workspace,
        draft: NewDraft,
    ) -> Result<TaskView, DraftError> {
        let mut draft = draft.checked()?;
        self.check_output(draft.output_destination.as_deref())?;
        let mut parameters = from_nested(&draft.parameters)?;
        let configuration = configuration(&draft.configuration)?;
        if let Some(parent) = &draft.parent {
            let known = self.store.task(workspace, parent).await?;
            known.ok_or_else(|| ChangeError::UnknownParent(parent.clone()))?;
        }
        let work = match draft.action.take() {
            None => None,
            Some(action) => {
                let defaults = action_defaults(&draft);
                let (work, action_parameters, task_type) =
                    self.planned(workspace, action, defaults).await?;
                draft.task_type = draft.task_type.or(Some(task_type));
                let given = |one: &Parameter| {
                    let same = |other: &Parameter| other.path() == one.path();
                    parameters.iter().any(same)
                };
                let mut merged: Vec<Parameter> = action_parameters
                    .into_iter()
                    .filter(|one| !given(one))
                    .collect();
                merged.append(&mut parameters);
                parameters = merged;
                Some(overridden(work, &parameters))
            }
        };
        let id = TaskId::from_u128(Uuid::now_v7().as_u128());
        let task = NewTask {
            id: id.clone(),
            encoded_name: encode_job_name(&draft.name),
            project: draft.project.unwrap_or_else(|| DEFAULT_PROJECT.to_owned()),
            name: draft.name,
            task_type: draft.task_type.unwrap_or_default(),
            comment: draft.comment,
            tags: draft.tags,
            system_tags: draft.system_tags,
            parent: draft.parent,
            creator: draft.creator,
            script: draft.script,
            container: draft.container,
            output_destination: draft.output_destination,
            work,
            parameters,
            configuration,
            queued: false,
        };
        let inserted = self.store.insert_task(workspace, &task, self.now()).await;
        inserted.map_err(|error| match error {
            InsertTaskError::NameTaken { name, task, state } => {
                ChangeError::NameTaken { name, task, state }
            }
            InsertTaskError::Store(error) => ChangeError::Store(error),
        })?;
        Ok(self.changed(workspace, &id).await?)
    }

    /// Edits a task; `expected` is a header `If-Match`.
    ///
    /// # Errors
    /// When a field breaks a rule, the task's state does not allow it, or the task is no
    /// longer what the caller has read.
    pub async fn edit_task(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        edit: TaskEdit,
        expected: Option<&str>,
    ) -> Result<TaskView, DraftError> {
        let edit = edit.checked()?;
        self.check_output(edit.output_destination.as_ref().and_then(Option::as_deref))?;
        let work = match &edit.action {
            None => None,
            Some(action) => {
                let before = self.store.task(workspace, task).await?;
                let before = before.ok_or_else(|| ChangeError::UnknownTask(task.clone()))?;
                let name = edit.name.as_ref().unwrap_or(&before.name);
                let defaults = Map::from_iter([("name".to_owned(), json!(name))]);
                let planned = self.planned(workspace, action.clone(), defaults).await?;
                Some((planned.0, planned.1))
            }
        };
        let now = self.now();
        self.store
            .edit_task(workspace, task, &edit, work.as_ref(), expected, now)
            .await?;
        Ok(self.changed(workspace, task).await?)
    }

    /// Checks where the files of a task are to go.
    fn check_output(&self, destination: Option<&str>) -> Result<(), DraftError> {
        match destination.map(|destination| self.check_destination(destination)) {
            Some(Err(error)) => Err(DraftError::Destination(error)),
            _ => Ok(()),
        }
    }

    /// The action of a draft, resolved.
    async fn planned(
        &self,
        workspace: &Workspace,
        mut action: Value,
        defaults: Map<String, Value>,
    ) -> Result<(NewWork, Vec<Parameter>, TaskType), DraftError> {
        if let Some(params) = action.get_mut("params").and_then(Value::as_object_mut) {
            for (field, value) in defaults {
                params.insert(field, value);
            }
        }
        let action = Action::parse(&action).map_err(|mut error| {
            error.pointer = format!("/action{}", error.pointer);
            DraftError::Action(error)
        })?;
        if action.common.again != Again::No {
            let message = "a draft neither reuses nor continues a task: leave it out, or submit \
                           the action";
            return Err(InvalidField::new("/action/params", message).into());
        }
        let (work, parameters) = self.resolve_work(workspace, &action).await?;
        Ok((work, parameters, action.common.task_type))
    }

    /// Moves a task to another state: see [`Verb`].
    ///
    /// # Errors
    /// When its state does not lead there.
    pub async fn move_task(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        wanted: &Move<'_>,
    ) -> Result<TaskView, ChangeError> {
        let before = self.store.task(workspace, task).await?;
        let runs_trials = before
            .is_some_and(|before| before.action == TUNE && before.status == TaskState::InProgress);
        if runs_trials && wanted.verb != Verb::Publish {
            // Its trials are stopped, whatever becomes of it.
            let stopped = Box::pin(self.stop_experiment(workspace, task, wanted.reason));
            stopped.await?;
            if wanted.verb == Verb::Stop && !wanted.force {
                return self.changed(workspace, task).await;
            }
        }
        let now = self.now();
        self.store.move_task(workspace, task, wanted, now).await?;
        if wanted.verb == Verb::Enqueue {
            self.changes().task_queued();
        }
        // What was moved may have been a trial.
        self.hear_of_lost_trials().await?;
        self.changed(workspace, task).await
    }

    /// Stops a task: one that waits at once, one that an agent runs by a request that the
    /// agent hears. Stopping one that is being stopped already is no error.
    ///
    /// # Errors
    /// When it neither waits nor runs.
    pub async fn stop(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        reason: String,
    ) -> Result<TaskView, ChangeError> {
        let wanted = Move {
            reason: &reason,
            ..Move::new(Verb::Stop)
        };
        self.move_task(workspace, task, &wanted).await
    }

    /// Makes an editable copy of a task; see [`trainshed_store::Store::clone_task`].
    ///
    /// # Errors
    /// When a field breaks a rule, or there is no such task.
    pub async fn clone_task(
        &self,
        workspace: &Workspace,
        original: &TaskId,
        request: CloneRequest,
    ) -> Result<TaskView, DraftError> {
        let request = request.checked()?;
        let name = match &request.name {
            Some(name) => name.clone(),
            None => {
                let original_view = self.store.task(workspace, original).await?;
                let original_view =
                    original_view.ok_or_else(|| ChangeError::UnknownTask(original.clone()))?;
                let name = format!("Clone Of {}", original_view.name);
                check_name(&name).map_err(|error| {
                    InvalidField::new(
                        "/name",
                        format!("name, which would be the default, {error}"),
                    )
                })?;
                name
            }
        };
        let clone = TaskId::from_u128(Uuid::now_v7().as_u128());
        let now = self.now();
        self.store
            .clone_task(workspace, original, &clone, &name, &request, now)
            .await?;
        Ok(self.changed(workspace, &clone).await?)
    }

    /// Archives a task, or takes it out of the archive.
    ///
    /// # Errors
    /// When there is no such task.
    pub async fn archive_task(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        archived: bool,
    ) -> Result<TaskView, ChangeError> {
        let now = self.now();
        self.store
            .archive_task(workspace, task, archived, now)
            .await?;
        self.changed(workspace, task).await
    }

    /// Moves a task to the project at `path`, which is made if it is not there.
    ///
    /// # Errors
    /// When the path breaks a rule, or there is no such task.
    pub async fn move_to_project(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        path: &str,
    ) -> Result<TaskView, DraftError> {
        let path = trainshed_core::draft::project_path(path)?;
        let now = self.now();
        self.store
            .move_to_project(workspace, task, &path, now)
            .await?;
        Ok(self.changed(workspace, task).await?)
    }

    /// Deletes a task; see [`trainshed_store::Store::delete_task`].
    ///
    /// # Errors
    /// When it is neither a draft nor archived, and `force` is not given.
    pub async fn delete_task(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        force: bool,
    ) -> Result<(), ChangeError> {
        self.store.delete_task(workspace, task, force).await?;
        self.changes().task_changed(workspace.id(), task);
        Ok(())
    }

    /// Notes how far a task has come, in percent.
    ///
    /// # Errors
    /// When it is not from 0 to 100; what was known then stays.
    pub async fn set_progress(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        percent: f64,
    ) -> Result<TaskView, DraftError> {
        if !(0.0..=100.0).contains(&percent) {
            let message = format!("progress must be from 0 to 100, but it is {percent}");
            return Err(InvalidField::new("/progress", message).into());
        }
        let now = self.now();
        self.store
            .set_progress(workspace, task, percent, now)
            .await?;
        Ok(self.changed(workspace, task).await?)
    }

    /// Notes that a task which no agent runs is still at work; returns whether it runs.
    ///
    /// # Errors
    /// When there is no such task.
    pub async fn ping(&self, workspace: &Workspace, task: &TaskId) -> Result<bool, ChangeError> {
        self.store.ping_task(workspace, task, self.now()).await
    }

    /// The task called `name` in the project at the path `project` that was last changed; one
    /// that is not archived comes first.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn task_named(
        &self,
        workspace: &Workspace,
        project: &str,
        name: &str,
    ) -> Result<Option<TaskView>, StoreError> {
        self.store.task_named(workspace, project, name).await
    }

    /// Stops the tasks that run without an agent and of which nothing was heard for longer
    /// than the watchdog waits.
    pub(crate) async fn end_silent_tasks(&self) -> Result<usize, StoreError> {
        let seconds = self.watchdog_s();
        let now = self.now();
        let since = Timestamp(now.as_millis() - i64::from(seconds) * 1000);
        let reason = format!("interrupted: nothing was heard of the task for {seconds} s");
        let ended = self.store.end_silent_tasks(since, &reason, now).await?;
        for EndedTask { workspace, task } in &ended {
            tracing::warn!(%task, "nothing was heard of a task");
            self.changes().task_changed(workspace, task);
        }
        Ok(ended.len())
    }

    /// Announces that a task changed, and reads it.
    pub(crate) async fn changed(
        &self,
        workspace: &Workspace,
        task: &TaskId,
    ) -> Result<TaskView, ChangeError> {
        self.changes().task_changed(workspace.id(), task);
        let view = self.store.task(workspace, task).await?;
        view.ok_or_else(|| ChangeError::UnknownTask(task.clone()))
    }
}

/// What an action has of the draft that it belongs to.
fn action_defaults(draft: &NewDraft) -> Map<String, Value> {
    let mut defaults = Map::from_iter([("name".to_owned(), json!(draft.name))]);
    if let Some(project) = &draft.project {
        defaults.insert("project".to_owned(), json!(project));
    }
    if let Some(task_type) = draft.task_type {
        defaults.insert("task_type".to_owned(), json!(task_type));
    }
    defaults
}

/// The work with what the parameters say of its settings.
fn overridden(mut work: NewWork, parameters: &[Parameter]) -> NewWork {
    let autolog = Autolog::of(&work.params);
    let settings = trainshed_core::parameter::overridden(&work.settings, &autolog, parameters);
    if settings != work.settings {
        work.params.remove("hyperparameters");
        let field = match work.action {
            "preprocess" => "parameters",
            _ => "hyperparameter",
        };
        work.params
            .insert(field.to_owned(), Value::Object(settings.clone()));
        work.settings = settings;
    }
    work
}

/// The configuration objects of a new draft.
fn configuration(texts: &Map<String, Value>) -> Result<Vec<NewConfiguration>, InvalidField> {
    let object = |(name, text): (&String, &Value)| {
        let Value::String(text) = text else {
            let message = format!("the configuration object `{name}` must be a text");
            return Err(InvalidField::new("/configuration", message));
        };
        crate::parameters::check_configuration_name(name)?;
        Ok(NewConfiguration {
            name: name.clone(),
            kind: String::new(),
            description: String::new(),
            content: text.clone().into_bytes(),
        })
    };
    texts.iter().map(object).collect()
}
