//! Asking and telling: searches whose trials run elsewhere, in programs of their own.

use serde_json::{Map, Value, json};
use trainshed_core::TaskId;
use trainshed_core::action::{ActionError, Tune, check_space};
use trainshed_core::draft::{InvalidField, project_path};
use trainshed_core::name::{check_name, encode_job_name};
use trainshed_core::report::TrialDecision;
use trainshed_core::task::TaskType;
use trainshed_core::view::{Asked, AskedTrial, NewExperiment, TaskView, ToldTrial, TrialReported};
use trainshed_store::{InsertTaskError, LeaseError, NewTask, NotedAnswer, StoreError, Workspace};
use trainshed_tune::experiment::event::Ending;
use trainshed_tune::experiment::{Next, Refusal, Report};
use uuid::Uuid;

use crate::base::trial_clone;
use crate::engine::Engine;
use crate::submit::{DEFAULT_PROJECT, SubmitError, drawn_seed};
use crate::tune::{Deed, answer_of, check_metrics, check_tune};

/// Why an experiment did not do what was asked. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// A field of the request breaks a rule.
    #[error(transparent)]
    Field(#[from] InvalidField),
    /// The search space or the settings break a rule.
    #[error(transparent)]
    Tune(ActionError),
    /// The experiment could not be made.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// There is no such experiment.
    #[error("there is no experiment {0}")]
    Unknown(TaskId),
    /// Agents run its trials.
    #[error("agents run the trials of the task {0}: nobody else is asked or tells")]
    OfAgents(TaskId),
    /// The trial is not there, or the attempt is not the one that runs.
    #[error(transparent)]
    Refused(Refusal),
    /// The report breaks a rule.
    #[error("{0}")]
    Invalid(String),
    /// Others come first all the time.
    #[error("more is told than can be written at the moment")]
    Busy,
    /// The store failed.
    #[error("the experiment could not be driven")]
    Store(#[source] StoreError),
}

impl AskError {
    /// What the user can do about it, in one sentence.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Tune(error) => error.hint.clone(),
            Self::Submit(error) => error.hint(),
            Self::Unknown(_) => Some("`POST /experiments` makes one.".into()),
            Self::Refused(Refusal::StaleAttempt { .. }) => {
                Some("End this run: another attempt has begun, or none was asked for.".into())
            }
            Self::Busy => Some("Send it again after a second.".into()),
            Self::Store(error) => error.hint(),
            Self::Field(_) | Self::OfAgents(_) | Self::Refused(_) | Self::Invalid(_) => None,
        }
    }
}

impl Engine {
    /// Makes an experiment whose trials run elsewhere. It is a task that runs until all its
    /// trials have ended, or it is stopped.
    ///
    /// # Errors
    /// When a field breaks a rule, or a waiting or running task has the name.
    pub async fn create_experiment(
        &self,
        workspace: &Workspace,
        new: NewExperiment,
    ) -> Result<TaskView, AskError> {
        let name = check_name(&new.name)
            .map_err(|error| InvalidField::new("/name", format!("name {error}")))?
            .to_owned();
        let base = match &new.base_task {
            Some(base) => Some(self.base_task(workspace, base).await?),
            None => None,
        };
        if let Some(base) = base.filter(|base| base.plugin.is_some()) {
            return self.tune_task(workspace, new, base).await;
        }
        let project = new.project.as_deref().map(project_path).transpose()?;
        for (index, space) in new.hyperparameters.iter().enumerate() {
            let pointer = format!("/hyperparameters/{index}");
            check_space(space, &pointer).map_err(AskError::Tune)?;
            if new.base_task.is_some() {
                crate::base::check_path(space, &pointer)?;
            }
        }
        let tune = Tune {
            hyperparameters: new.hyperparameters,
            tune_config: new.tune_config,
            checkpoint: None,
            num_cpus: None,
            num_gpus: None,
        };
        check_tune(&tune).map_err(|mut error| {
            if let Some(rest) = error.pointer.strip_prefix("/params") {
                error.pointer = rest.to_owned();
            }
            AskError::Tune(error)
        })?;
        let mut params = Map::new();
        params.insert("name".to_owned(), json!(name));
        params.insert("is_tune".to_owned(), json!(true));
        params.insert("hyperparameters".to_owned(), json!(tune.hyperparameters));
        params.insert("tune_config".to_owned(), json!(tune.tune_config));
        if let Some(base) = &new.base_task {
            params.insert("base_task".to_owned(), json!(base));
        }
        let id = TaskId::from_u128(Uuid::now_v7().as_u128());
        let task = NewTask {
            id: id.clone(),
            encoded_name: encode_job_name(&name),
            project: project.unwrap_or_else(|| DEFAULT_PROJECT.to_owned()),
            name,
            task_type: TaskType::Optimizer,
            comment: new.description.unwrap_or_default(),
            tags: new.tags,
            system_tags: Vec::new(),
            parent: None,
            creator: String::new(),
            script: None,
            container: None,
            output_destination: None,
            work: None,
            parameters: Vec::new(),
            configuration: Vec::new(),
            queued: false,
        };
        let seed = new.seed.unwrap_or_else(drawn_seed);
        let inserted = self
            .store
            .insert_experiment(workspace, &task, &params, seed, self.now());
        inserted
            .await
            .map_err(|error: InsertTaskError| SubmitError::from(error))?;
        let view = self.changed(workspace, &id).await;
        view.map_err(|_| AskError::Unknown(id))
    }

    /// The next trial of an experiment.
    ///
    /// # Errors
    /// When it is not there, or agents run its trials.
    pub async fn ask(&self, workspace: &Workspace, experiment: &TaskId) -> Result<Asked, AskError> {
        let task = self.asked(workspace, experiment).await?;
        let base = match task.params.get("base_task").and_then(Value::as_str) {
            Some(base) => {
                let base = base
                    .parse()
                    .map_err(|_| AskError::Unknown(task.id.clone()))?;
                Some(self.base_task(workspace, &base).await?)
            }
            None => None,
        };
        let done = self.drive_on(workspace, experiment, |known| {
            let (next, events) = known.experiment.next(self.now_ms());
            let mut clone = None;
            let asked = match next {
                Next::Start(start) => {
                    if let Some(base) = &base {
                        let made = trial_clone(&task, base, &start);
                        clone = Some(made.map_err(LeaseError::Invalid)?);
                    }
                    Asked {
                        trial: Some(AskedTrial {
                            number: start.trial,
                            id: start.id,
                            task: clone.as_ref().map(|clone| clone.clone.clone()),
                            attempt: start.attempt,
                            config: start.config,
                            iteration: start.checkpoint.as_ref().map_or(0, |known| known.1),
                            checkpoint: start.checkpoint.map(|known| known.0),
                        }),
                        finished: false,
                    }
                }
                Next::Resume { .. } | Next::Wait => Asked {
                    trial: None,
                    finished: false,
                },
                Next::Finished => Asked {
                    trial: None,
                    finished: true,
                },
            };
            let replay = serde_json::to_string(&asked).expect("its keys are texts");
            let replay = NotedAnswer::Json(replay);
            Ok(Deed::of(asked, events)
                .with_clone(clone)
                .with_replay(replay))
        });
        let done = done.await.map_err(|error| refused(error, experiment))?;
        let asked = done.answer;
        if let Some(clone) = asked.trial.as_ref().and_then(|trial| trial.task.as_ref()) {
            self.changes().task_changed(workspace.id(), clone);
        }
        Ok(asked)
    }

    /// Takes in what a trial reports; answers what it is to do. The same report gets the
    /// present answer again, which is how a paused trial learns that it may go on.
    ///
    /// # Errors
    /// When the trial is not there, another attempt at it has begun, or the report breaks a
    /// rule.
    pub async fn tell_report(
        &self,
        workspace: &Workspace,
        experiment: &TaskId,
        told: TrialReported,
    ) -> Result<TrialDecision, AskError> {
        self.asked(workspace, experiment).await?;
        check_metrics(told.iteration, &told.metrics).map_err(AskError::Invalid)?;
        let mut refusal = None;
        let done = self.drive(workspace, experiment, |known| {
            let (experiment, at_ms) = (&mut known.experiment, self.now_ms());
            let running = experiment.trial(told.trial);
            let elapsed = running
                .and_then(|trial| trial.started_ms)
                .map_or(0, |started| at_ms.saturating_sub(started));
            let mut deed = Deed::of(None, Vec::new());
            if let Some(checkpoint) = &told.checkpoint {
                let (trial, attempt) = (told.trial, told.attempt);
                let noted = experiment.checkpoint(trial, attempt, told.iteration, checkpoint);
                match noted {
                    Ok(events) => deed.events.extend(events),
                    Err(error) => {
                        refusal = Some(error);
                        return Ok(deed);
                    }
                }
            }
            let report = Report {
                trial: told.trial,
                attempt: told.attempt,
                iteration: told.iteration,
                metrics: told.metrics.clone(),
                elapsed_ms: told.elapsed_ms.unwrap_or(elapsed),
            };
            match experiment.report(report, at_ms) {
                Ok((decision, events)) => {
                    deed.events.extend(events);
                    deed.answer = Some(decision);
                }
                Err(error) => refusal = Some(error),
            }
            Ok(deed)
        });
        let done = done.await.map_err(|error| refused(error, experiment))?;
        match (done.answer, refusal) {
            (Some(decision), _) => Ok(answer_of(decision)),
            (None, Some(refusal)) => Err(AskError::Refused(refusal)),
            (None, None) => Ok(TrialDecision::Stop),
        }
    }

    /// Notes how a trial ended. Telling it again is harmless.
    ///
    /// # Errors
    /// When the trial is not there, or another attempt at it has begun.
    pub async fn tell_end(
        &self,
        workspace: &Workspace,
        experiment: &TaskId,
        told: ToldTrial,
    ) -> Result<(), AskError> {
        self.asked(workspace, experiment).await?;
        let returned = told.metrics.clone().map_or(Value::Null, Value::Object);
        check_metrics(1, told.metrics.as_ref().unwrap_or(&Map::new()))
            .map_err(AskError::Invalid)?;
        let ending = match told.state.as_str() {
            "completed" => Ending::Completed { returned },
            "failed" => Ending::Failed {
                reason: told
                    .reason
                    .clone()
                    .unwrap_or_default()
                    .chars()
                    .take(2000)
                    .collect(),
            },
            "stopped" => Ending::Stopped,
            other => {
                let shown: String = other.chars().take(80).collect();
                let message =
                    format!("state must be completed, failed or stopped, but it is `{shown}`");
                return Err(InvalidField::new("/state", message).into());
            }
        };
        let mut refusal = None;
        let done = self.drive(workspace, experiment, |known| {
            let ended =
                known
                    .experiment
                    .end(told.trial, told.attempt, ending.clone(), self.now_ms());
            let events = ended.unwrap_or_else(|error| {
                refusal = Some(error);
                Vec::new()
            });
            Ok(Deed::of((), events))
        });
        done.await.map_err(|error| refused(error, experiment))?;
        refusal.map_or(Ok(()), |refusal| Err(AskError::Refused(refusal)))
    }

    /// Checks that others than agents run the trials of an experiment.
    async fn asked(
        &self,
        workspace: &Workspace,
        experiment: &TaskId,
    ) -> Result<TaskView, AskError> {
        let task = self.store.task(workspace, experiment).await;
        let task = task.map_err(AskError::Store)?;
        match task {
            Some(task) if task.action != trainshed_core::action::TUNE => {
                Err(AskError::Unknown(experiment.clone()))
            }
            Some(task) if task.plugin.is_some() => Err(AskError::OfAgents(experiment.clone())),
            Some(task) => Ok(task),
            None => Err(AskError::Unknown(experiment.clone())),
        }
    }
}

fn refused(error: LeaseError, experiment: &TaskId) -> AskError {
    match error {
        LeaseError::Store(error) => AskError::Store(error),
        LeaseError::Busy => AskError::Busy,
        LeaseError::UnknownTask(_) => AskError::Unknown(experiment.clone()),
        other => AskError::Invalid(other.to_string()),
    }
}
