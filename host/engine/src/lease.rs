//! What agents do: lease a task, keep the lease, report, finish.

use std::time::Duration;

use tokio::time::{Instant, timeout};
use trainshed_core::dataset::{FileEntry, seal};
use trainshed_core::report::Batch;
use trainshed_core::resource::is_of_the_machine;
use trainshed_core::view::{AgentInfo, AgentView, DatasetView, LeaseState, LeaseView, TrialLease};
use trainshed_core::{AgentId, TaskId};
use trainshed_store::{
    ClaimedTask, EndOfRun, Frame, LeaseError, NewVersion, StoreError, Waiting, Workspace,
};

use crate::engine::Engine;
use crate::event::Event;
use crate::validate::{check_batch, check_last_reports};

/// How long a waiting call trusts that it would be woken: another engine on the same store
/// wakes nobody here.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Engine {
    /// Registers an agent. A process registers anew each time it starts.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn register_agent(
        &self,
        workspace: &Workspace,
        mut info: AgentInfo,
    ) -> Result<AgentView, StoreError> {
        info.name = info.name.chars().take(200).collect();
        let id = self
            .store
            .register_agent(workspace, &info, self.now())
            .await?;
        Ok(AgentView {
            id,
            name: info.name,
        })
    }

    /// Hands the task that waits longest to `agent`; waits up to `wait` for one.
    ///
    /// # Errors
    /// When the agent is not registered.
    pub async fn lease(
        &self,
        workspace: &Workspace,
        agent: &AgentId,
        wait: Duration,
    ) -> Result<Option<LeaseView>, LeaseError> {
        let seen = self.see_agent(workspace, agent).await;
        if !seen.map_err(LeaseError::Store)? {
            return Err(LeaseError::UnknownAgent(agent.clone()));
        }
        let deadline = Instant::now() + wait;
        loop {
            // Listening begins before the look, so that no task falls between the two.
            let mut queued = std::pin::pin!(self.changes().queued().notified());
            queued.as_mut().enable();
            if let Some(lease) = self
                .claim(workspace, agent)
                .await
                .map_err(LeaseError::Store)?
            {
                return Ok(Some(lease));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            // Woken or not, the store tells whether there is a task.
            let _ = timeout(left.min(LOOK_EVERY), queued).await;
        }
    }

    async fn claim(
        &self,
        workspace: &Workspace,
        agent: &AgentId,
    ) -> Result<Option<LeaseView>, StoreError> {
        let mut tried = Vec::new();
        // Looking costs no write, so agents that wait do not stand in each other's way.
        while let Some(waiting) = self.store.waiting(workspace, &tried).await? {
            match waiting {
                Waiting::Task => {
                    let (now, until) = (self.now(), self.lease_until());
                    let claimed = self.store.claim_task(workspace, agent, now, until).await?;
                    let Some(claimed) = claimed else {
                        return Ok(None);
                    };
                    self.changes().task_changed(workspace.id(), &claimed.task);
                    return self
                        .describe_lease(workspace, claimed, None)
                        .await
                        .map(Some);
                }
                Waiting::Experiment(task) => {
                    // Boxed, because few leases are of trials.
                    let started = Box::pin(self.start_trial(workspace, &task, agent));
                    match started.await? {
                        Some(lease) => return Ok(Some(lease)),
                        None => tried.push(task),
                    }
                }
            }
        }
        Ok(None)
    }

    pub(crate) async fn describe_lease(
        &self,
        workspace: &Workspace,
        claimed: ClaimedTask,
        trial: Option<TrialLease>,
    ) -> Result<LeaseView, StoreError> {
        let gone = |what: &str| StoreError::Damaged {
            action: "describe a leased task",
            source: format!("the {what} of task {} is gone", claimed.task).into(),
        };
        let task = self.store.task(workspace, &claimed.task).await?;
        let task = task.ok_or_else(|| gone("row"))?;
        let dataset = task.dataset.ok_or_else(|| gone("data set"))?;
        let dataset = self.dataset_of_lease(workspace, dataset).await?;
        let dataset = dataset.ok_or_else(|| gone("data set"))?;
        let checkpoint = match task.checkpoint {
            // That of a trial is of a task that may be running; deleted, it begins anew.
            Some(id) if trial.is_some() => self.store.any_model(workspace, id).await?,
            Some(id) => {
                let model = self.store.model(workspace, id).await?;
                Some(model.ok_or_else(|| gone("checkpoint"))?)
            }
            None => None,
        };
        let seed = task.seed.ok_or_else(|| gone("seed"))?;
        let summary = task.plugin.ok_or_else(|| gone("plugin"))?;
        let plugin = self.store.plugin(workspace, &summary.digest).await?;
        let environment = plugin.ok_or_else(|| gone("plugin"))?.manifest.environment;
        let curves = self.store.series(workspace, &claimed.task).await?;
        let seconds = curves
            .iter()
            .filter(|curve| is_of_the_machine(&curve.title))
            .map(|curve| curve.last_iteration);
        let initial_second = seconds.max().map_or(0, |last| last.saturating_add(1));
        Ok(LeaseView {
            task: claimed.task,
            name: task.name,
            fence: claimed.fence,
            ttl_ms: u64::try_from(self.lease_ttl().as_millis()).unwrap_or(u64::MAX),
            action: task.action,
            params: task.params,
            settings: claimed.settings,
            seed,
            initial_iteration: task.initial_iteration,
            initial_second,
            limits: claimed.limits,
            plugin: summary,
            environment,
            dataset,
            checkpoint,
            trial,
        })
    }

    /// A data set as a lease has it: without what its tables are, which is much and which a run
    /// finds in the files.
    pub(crate) async fn dataset_of_lease(
        &self,
        workspace: &Workspace,
        id: u64,
    ) -> Result<Option<DatasetView>, StoreError> {
        let dataset = self.store.dataset(workspace, id).await?;
        Ok(dataset.map(|dataset| DatasetView {
            tables: None,
            ..dataset
        }))
    }

    /// Keeps a lease. Waits up to `wait`, but no longer than a third of the lease, for a
    /// request to stop, and returns as soon as there is one.
    ///
    /// # Errors
    /// When the lease is over.
    pub async fn renew(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        fence: i64,
        wait: Duration,
    ) -> Result<LeaseState, LeaseError> {
        let deadline = Instant::now() + wait.min(self.lease_ttl() / 3);
        let mut changes = self.subscribe();
        let until = self.lease_until();
        let mut stop = self
            .store
            .renew_lease(workspace, task, fence, until)
            .await?;
        while stop.is_none() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let change = async {
                // An error means that events were missed, which may have been this task's.
                while let Ok(Event { task: changed, .. }) = changes.recv().await {
                    if changed == *task {
                        break;
                    }
                }
            };
            let _ = timeout(left.min(LOOK_EVERY), change).await;
            stop = self.store.stop_request(workspace, task, fence).await?;
        }
        Ok(LeaseState { stop })
    }

    /// Records a batch of reports with the points of `frames`, all or none, and keeps the
    /// lease. A batch that was recorded before is not recorded again.
    ///
    /// # Errors
    /// When the lease is over, a report breaks a rule, or a file was not uploaded before.
    pub async fn report(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        fence: i64,
        (batch, frames): (Batch, &[Frame<'_>]),
    ) -> Result<LeaseState, LeaseError> {
        check_batch(&batch, frames).map_err(LeaseError::Invalid)?;
        let (until, now) = (self.lease_until(), self.now());
        let recorded = self
            .store
            .append_batch(workspace, task, fence, (batch, frames), until, now);
        let stop = recorded.await?;
        self.changes().task_changed(workspace.id(), task);
        Ok(LeaseState { stop })
    }

    /// Stages the data set version that a task makes. Saying it again with the same files is
    /// harmless; other files take the place of the former.
    ///
    /// # Errors
    /// When the lease is over, the files break a rule or were not uploaded before.
    pub async fn commit_version(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        fence: i64,
        files: Vec<FileEntry>,
        description: String,
    ) -> Result<DatasetView, LeaseError> {
        let sealed = seal(files).map_err(|error| LeaseError::Invalid(error.to_string()));
        let (files, digest) = sealed?;
        let version = NewVersion {
            name: "",
            parent: None,
            description: &description,
            digest: &digest,
            files: &files,
            tags: &[],
            tables: None,
        };
        let (until, now) = (self.lease_until(), self.now());
        let staged = self
            .store
            .stage_dataset(workspace, task, fence, &version, until, now);
        staged.await
    }

    /// Ends a task and shows what it made: its models whatever the outcome, its data set
    /// version when it completed. What it reported last is recorded with that. Saying it again
    /// is harmless.
    ///
    /// # Errors
    /// When the lease is over and did not end the task itself, or a report breaks a rule.
    pub async fn finish(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        fence: i64,
        end: EndOfRun,
    ) -> Result<(), LeaseError> {
        check_last_reports(&end.reports).map_err(LeaseError::Invalid)?;
        match self.trial_of_lease(workspace, task, fence).await? {
            Some(leased) => {
                let lease = (task, fence);
                Box::pin(self.finish_trial(workspace, &leased, lease, end)).await?;
            }
            None => {
                let finished = self
                    .store
                    .finish_task(workspace, task, fence, &end, self.now());
                finished.await?;
            }
        }
        self.changes().task_changed(workspace.id(), task);
        Ok(())
    }
}
