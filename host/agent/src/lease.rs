//! One leased task, from the first byte fetched to its reported end.

use std::collections::HashMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde_json::{Map, Value};
use tokio::runtime::Handle;
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc, watch};
use trainshed_core::autolog::Autolog;
use trainshed_core::dataset::FileEntry;
use trainshed_core::error::with_causes;
use trainshed_core::report::{Purpose, Report, TrialDecision, TrialReport};
use trainshed_core::task::Outcome;
use trainshed_core::view::{
    ArtifactRequest, ArtifactView, LeaseState, LeaseView, ModelView, TrialLease,
};
use trainshed_core::{Digest, TaskId};
use trainshed_runtime::{
    CheckpointFile, CommittedVersion, DatasetFiles, Job, JobWork, Refused, Services, StopHandle,
    StopSignal, TrialVerdict, stop_pair,
};
use trainshed_wire::{Client, ClientError, CommitVersion, Connect, ConnectText, Finish};

use crate::retry::until_answered;
use crate::{Agent, MAX_PAUSED};
use crate::{monitor, spool};

/// So many points go to the spool together: handing over each by itself would cost the plugin
/// more than all the rest.
const POINTS_AT_ONCE: usize = 1024;
/// Points wait no longer than this for others.
const POINTS_EVERY: Duration = Duration::from_millis(100);
/// Longest wait of one renewal; well below the time after which a lease ends.
const RENEW_WAIT: Duration = Duration::from_secs(10);

/// How soon a run begins to renew its lease and to hear of a request to stop. Many trials end
/// before, and cost a call less; whoever stops them hardly waits.
const RENEW_AFTER: Duration = Duration::from_millis(250);

/// How long a model that somebody else reports gets before the report that names it is sent
/// again.
const MODEL_WAIT: Duration = Duration::from_millis(20);

/// Runs the leased task and reports how it ended.
///
/// Returns early, and reports nothing more, when the server has given the lease up.
pub(crate) async fn run(
    agent: &Arc<Agent>,
    lease: LeaseView,
    slot: OwnedSemaphorePermit,
    stopping: watch::Receiver<bool>,
) {
    tracing::info!(task = %lease.task, name = %lease.name, "the task starts");
    let (handle, signal) = stop_pair();
    let place = Arc::new(Place::new(agent.clone(), slot, lease.trial.as_ref()));
    let stop = Stop {
        handle,
        reason: OnceLock::new(),
    };
    let client = &agent.config.client;
    let (task, fence) = (lease.task.clone(), lease.fence);
    let (outcome, reports) = tokio::select! {
        (outcome, last) = supervised(agent, &lease, &place, &stop, signal) => {
            (stop.explain(outcome), last)
        }
        never = stop_with_agent(stopping, &stop) => match never {},
        Lost = keep(client, &task, fence, &stop) => {
            // Nobody waits for the run any more, which ends it.
            tracing::warn!(%task, "the server has given the lease up; the run is abandoned");
            return;
        }
    };
    let outcome = match place.evicted.load(Ordering::Relaxed) {
        true => Outcome::Stopped {
            reason: "its place was needed: it goes on from its checkpoint".to_owned(),
        },
        false => outcome,
    };
    tracing::info!(%task, ?outcome, "the task ends");
    let end = Finish { outcome, reports };
    let mut ended = until_answered(|| client.finish(&task, fence, &end)).await;
    if let Err(error) = &ended
        && !end.reports.is_empty()
        && error.status() != Some(409)
    {
        let end = Finish {
            outcome: Outcome::Failed {
                reason: format!("the server refused a report: {}", with_causes(error)),
            },
            reports: Vec::new(),
        };
        ended = until_answered(|| client.finish(&task, fence, &end)).await;
    }
    if let Err(error) = ended {
        tracing::error!(%task, error = %with_causes(&error), "the end of the task was refused");
    }
}

/// Asks the run to stop, and remembers why.
struct Stop {
    handle: StopHandle,
    reason: OnceLock<String>,
}

impl Stop {
    fn ask(&self, reason: &str) {
        self.reason.get_or_init(|| reason.to_owned());
        self.handle.stop();
    }

    /// The outcome, with the reason for which the run was stopped in front of how it ended.
    fn explain(&self, outcome: Outcome) -> Outcome {
        match (outcome, self.reason.get()) {
            (Outcome::Stopped { reason }, Some(asked)) if !reason.is_empty() => Outcome::Stopped {
                reason: format!("{asked}: {reason}"),
            },
            (Outcome::Stopped { .. }, Some(asked)) => Outcome::Stopped {
                reason: asked.clone(),
            },
            (outcome, _) => outcome,
        }
    }
}

enum Never {}

/// Stops the task when the agent is stopped; never returns.
async fn stop_with_agent(mut stopping: watch::Receiver<bool>, stop: &Stop) -> Never {
    if stopping.wait_for(|stop| *stop).await.is_ok() {
        stop.ask("the agent was stopped");
    }
    std::future::pending().await
}

struct Lost;

/// Renews the lease and passes on a request to stop, until the lease is lost.
async fn keep(client: &Client, task: &TaskId, fence: i64, stop: &Stop) -> Lost {
    tokio::time::sleep(RENEW_AFTER).await;
    loop {
        match until_answered(|| client.renew(task, fence, RENEW_WAIT)).await {
            Ok(LeaseState { stop: None }) => {}
            Ok(LeaseState { stop: Some(reason) }) => {
                stop.ask(&reason);
                // The answer comes at once from now on; the lease needs far less than that.
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
            Err(error) => {
                tracing::warn!(%task, error = %with_causes(&error), "the lease was not renewed");
                return Lost;
            }
        }
    }
}

/// Runs the task with its spool; the outcome is known when everything it told is at the server,
/// but for the last reports, which go there with the outcome.
async fn supervised(
    agent: &Arc<Agent>,
    lease: &LeaseView,
    place: &Arc<Place>,
    stop: &Stop,
    signal: StopSignal,
) -> (Outcome, Vec<Report>) {
    place.complete().await;
    let failed = |reason: String| (Outcome::Failed { reason }, Vec::new());
    let folder = match agent.folders.take() {
        Ok(folder) => folder,
        Err(error) => {
            return failed(format!(
                "the agent could not make a folder for the task: {error}"
            ));
        }
    };
    let (reports, waiting) = mpsc::channel(spool::CHANNEL);
    let (sent_models, models) = watch::channel(0);
    let measured = reports.clone();
    let initial_second = lease.initial_second;
    let records_resources = Autolog::of(&lease.params).resources;
    let services = Arc::new(LeaseServices {
        points: Mutex::default(),
        points_wait: Notify::new(),
        saved: Mutex::default(),
        models,
        client: agent.config.client.clone(),
        task: lease.task.clone(),
        fence: lease.fence,
        initial_iteration: lease.initial_iteration,
        trial: lease.trial.as_ref().map(|trial| TrialClock {
            iteration: AtomicU64::new(trial.iteration),
            before_ms: trial.elapsed_ms,
            since: Instant::now(),
            paused_ms: AtomicU64::new(0),
        }),
        place: place.clone(),
        stop: stop.handle.clone(),
        stopping: signal.clone(),
        reports,
        network: Handle::current(),
    });
    let heard = |state: LeaseState| {
        if let Some(reason) = state.stop {
            stop.ask(&reason);
        }
    };
    let sent = spool::pump(
        &agent.config.client,
        (&lease.task, lease.fence),
        folder.path(),
        waiting,
        (heard, sent_models),
    );
    // `executed` owns the only senders: when it returns, the spool sends what is left and ends.
    let work_dir = folder.path();
    let executed = async move {
        let executed = execute(agent, lease, work_dir, services.clone(), signal);
        let measuring = async {
            match &agent.readings {
                Some(readings) if records_resources => {
                    monitor::report(readings.clone(), measured, initial_second).await
                }
                _ => std::future::pending().await,
            }
        };
        let outcome = tokio::select! {
            outcome = executed => outcome,
            never = measuring => match never {},
            never = services.hand_over_points_now_and_then() => match never {},
        };
        // A spool that has ended says why by itself.
        let _ = services.hand_over_points().await;
        outcome
    };
    let (outcome, sent) = tokio::join!(executed, sent);
    agent.folders.give_back(folder);
    match sent {
        Ok(last) => (outcome, last),
        Err(error) => failed(with_causes(&error)),
    }
}

async fn execute(
    agent: &Arc<Agent>,
    lease: &LeaseView,
    folder: &Path,
    services: Arc<LeaseServices>,
    signal: StopSignal,
) -> Outcome {
    let job = match prepare(agent, lease, folder).await {
        Ok(job) => job,
        Err(error) => {
            return Outcome::Failed {
                reason: format!(
                    "the agent could not fetch what the task needs: {}",
                    with_causes(&error)
                ),
            };
        }
    };
    let component = match agent
        .cache
        .file(&agent.config.client, &lease.plugin.digest)
        .await
    {
        Ok(component) => component,
        Err(error) => {
            return Outcome::Failed {
                reason: format!(
                    "the agent could not fetch the plugin: {}",
                    with_causes(&error)
                ),
            };
        }
    };
    let (loading, digest) = (agent.clone(), lease.plugin.digest);
    let loaded =
        tokio::task::spawn_blocking(move || loading.runtime.load(digest, &component)).await;
    match loaded {
        Ok(Ok(plugin)) => agent.runtime.run(&plugin, job, services, signal).await,
        Ok(Err(error)) => Outcome::Failed {
            reason: with_causes(&error),
        },
        Err(panic) => Outcome::Failed {
            reason: format!("internal error: compiling the plugin panicked: {panic}"),
        },
    }
}

/// The digest of a model's file; a server hands out no other models.
fn content_of(client: &Client, model: &ModelView) -> Result<Digest, ClientError> {
    model.sha256.ok_or_else(|| ClientError::NotUnderstood {
        url: client.url().to_owned(),
        status: 200,
    })
}

async fn prepare(agent: &Agent, lease: &LeaseView, folder: &Path) -> Result<Job, ClientError> {
    let client = &agent.config.client;
    let dir = agent.cache.dataset(client, &lease.dataset).await?;
    let work = match lease.action.as_str() {
        "preprocess" => JobWork::Preprocess {
            parameters: lease.settings.clone(),
        },
        _ => {
            let checkpoint = match &lease.checkpoint {
                None => None,
                Some(model) => Some(CheckpointFile {
                    model_id: model.id,
                    iteration: model.iteration,
                    metadata: model.metadata.clone(),
                    path: agent
                        .cache
                        .file(client, &content_of(client, model)?)
                        .await?,
                }),
            };
            JobWork::Train {
                hyperparameter: lease.settings.clone(),
                checkpoint,
            }
        }
    };
    let limits = agent.config.limits.lowered_to(&lease.limits);
    let granted = |name: &String| Some((name.clone(), agent.config.environment.get(name)?.clone()));
    let accelerators = &agent.accelerators;
    let (device, notice) = accelerators
        .device(&lease.params, limits.device_bytes)
        .await;
    Ok(Job {
        task: lease.task.clone(),
        trial: lease.trial.as_ref().map(|trial| trial.id.clone()),
        initial_iteration: lease.initial_iteration,
        seed: lease.seed,
        params: lease.params.clone(),
        work,
        dataset: DatasetFiles {
            id: lease.dataset.id,
            name: lease.dataset.name.clone(),
            version: lease.dataset.number,
            digest: lease.dataset.digest,
            dir,
        },
        work_dir: folder.to_owned(),
        device,
        notice,
        limits,
        environment: lease.environment.iter().filter_map(granted).collect(),
    })
}

/// What the sandbox asks of the outside, for one lease.
struct LeaseServices {
    client: Client,
    task: TaskId,
    fence: i64,
    initial_iteration: u64,
    /// How long the run has run, if it is that of a trial.
    trial: Option<TrialClock>,
    place: Arc<Place>,
    stop: StopHandle,
    stopping: StopSignal,
    /// Points that were taken over and go to the spool together.
    points: Mutex<Vec<Report>>,
    /// The first of them is there.
    points_wait: Notify,
    /// The models that the run has saved last, by name.
    saved: Mutex<Saved>,
    /// How many of its models the server knows of.
    models: watch::Receiver<u64>,
    reports: mpsc::Sender<Vec<Report>>,
    /// Where calls to the server run: the sandbox calls from a thread without network.
    network: Handle,
}

/// The models that a run has saved.
#[derive(Default)]
struct Saved {
    /// How many there were; one that is saved again counts again.
    count: u64,
    /// The last of each name, and which one it was.
    last: HashMap<String, (Digest, u64)>,
}

/// A run's slots, and its share of the GPUs.
struct Place {
    agent: Arc<Agent>,
    /// How many slots it takes: all, where it asks for more processors than there are slots.
    slots: u32,
    milli_gpus: u32,
    /// Nothing while it is paused.
    held: Mutex<Vec<OwnedSemaphorePermit>>,
    /// Whether it is to begin again elsewhere or later.
    evicted: AtomicBool,
}

impl Place {
    fn new(agent: Arc<Agent>, slot: OwnedSemaphorePermit, trial: Option<&TrialLease>) -> Self {
        let all = agent.config.slots.max(1);
        let wanted = trial.map_or(1, |trial| trial.milli_cpus.div_ceil(1000));
        let milli_gpus = trial.map_or(0, |trial| trial.milli_gpus);
        let most = u64::from(agent.gpus) * 1000;
        Self {
            slots: u32::try_from(wanted).unwrap_or(all).clamp(1, all),
            milli_gpus: u32::try_from(milli_gpus.min(most)).unwrap_or(0),
            held: Mutex::new(vec![slot]),
            evicted: AtomicBool::new(false),
            agent,
        }
    }

    /// Waits for what the run takes beyond the one slot that it has.
    async fn complete(&self) {
        if self.slots == 1 && self.milli_gpus == 0 {
            return;
        }
        // Nobody waits for more while holding some of it.
        self.held().clear();
        self.enter().await;
    }

    /// Leaves the slot to somebody else; nothing when too many have done so.
    fn leave(&self) -> Option<Left<'_>> {
        let paused = &self.agent.paused;
        if paused.fetch_add(1, Ordering::Relaxed) >= MAX_PAUSED {
            paused.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        self.held().clear();
        Some(Left(self))
    }

    /// Waits for its slots, and then for its share of the GPUs.
    async fn enter(&self) {
        let slots = self.agent.slots.clone().acquire_many_owned(self.slots);
        let slots = slots.await.expect("the slots are never closed");
        let gpus = self.agent.milli_gpus.clone();
        let gpus = gpus.acquire_many_owned(self.milli_gpus);
        let gpus = gpus.await.expect("the GPUs are never closed");
        *self.held() = vec![slots, gpus];
    }

    fn held(&self) -> MutexGuard<'_, Vec<OwnedSemaphorePermit>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A run has left its slot; it counts as paused until this is dropped.
struct Left<'a>(&'a Place);

impl Drop for Left<'_> {
    fn drop(&mut self) {
        self.0.agent.paused.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts the reports and the time of a trial, over all its attempts.
struct TrialClock {
    /// The last iteration that was reported.
    iteration: AtomicU64,
    before_ms: u64,
    since: Instant,
    paused_ms: AtomicU64,
}

impl TrialClock {
    fn elapsed_ms(&self) -> u64 {
        let since = milliseconds(self.since.elapsed());
        let paused = self.paused_ms.load(Ordering::Relaxed);
        (self.before_ms + since).saturating_sub(paused)
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl LeaseServices {
    fn waiting_points(&self) -> MutexGuard<'_, Vec<Report>> {
        self.points.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn saved(&self) -> MutexGuard<'_, Saved> {
        self.saved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands the points that wait to the spool. Dropping the future loses none.
    async fn hand_over_points(&self) -> Result<(), Refused> {
        // The spool ends early only when the server refused a batch; it says why at the end.
        let room = self.reports.reserve().await;
        let room = room.map_err(|_| Refused::Stopped)?;
        let points = std::mem::take(&mut *self.waiting_points());
        if !points.is_empty() {
            room.send(points);
        }
        Ok(())
    }

    /// Hands over points that wait while the plugin reports nothing more; never returns.
    async fn hand_over_points_now_and_then(&self) -> Never {
        loop {
            self.points_wait.notified().await;
            tokio::time::sleep(POINTS_EVERY).await;
            let is_waiting = !self.waiting_points().is_empty();
            if is_waiting && self.hand_over_points().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Waits, without a slot, until the scheduler lets the trial go on or somebody stops it. A
    /// run that is to stop does not wait for a slot: it only ends.
    async fn pause(&self, clock: &TrialClock) -> Result<TrialDecision, Refused> {
        let Some(left) = self.place.leave() else {
            self.place.evicted.store(true, Ordering::Relaxed);
            return Ok(TrialDecision::Stop);
        };
        let began = Instant::now();
        let decided = async {
            let decision = loop {
                let (client, task, fence) = (self.client.clone(), self.task.clone(), self.fence);
                let answer = self.call(async move {
                    until_answered(|| client.await_decision(&task, fence, RENEW_WAIT)).await
                });
                match answer.await?.decision {
                    TrialDecision::Pause => {}
                    decision => break decision,
                }
            };
            if decision != TrialDecision::Stop {
                self.place.enter().await;
            }
            Ok(decision)
        };
        let decision = tokio::select! {
            decision = decided => decision?,
            () = self.stopping.stopped() => TrialDecision::Stop,
        };
        drop(left);
        let paused = milliseconds(began.elapsed());
        clock.paused_ms.fetch_add(paused, Ordering::Relaxed);
        Ok(decision)
    }

    /// Runs a call to the server on the agent's own threads.
    async fn call<T: Send + 'static>(
        &self,
        call: impl Future<Output = Result<T, ClientError>> + Send + 'static,
    ) -> Result<T, Refused> {
        match self.network.spawn(call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) if error.status() == Some(409) => Err(Refused::Stopped),
            Ok(Err(error)) => Err(Refused::Failed(with_causes(&error))),
            Err(panic) => Err(Refused::Failed(format!(
                "internal error: a call to the server ended with {panic}"
            ))),
        }
    }
}

#[async_trait]
impl Services for LeaseServices {
    async fn report(&self, mut report: Report) -> Result<(), Refused> {
        // A task that is continued goes on counting where it ended.
        match &mut report {
            Report::Point(point) => {
                point.iteration = point.iteration.saturating_add(self.initial_iteration);
            }
            Report::Plot(plot) => {
                plot.iteration = plot.iteration.saturating_add(self.initial_iteration);
            }
            Report::Sample(sample) if sample.purpose == Purpose::Media => {
                sample.index = sample.index.saturating_add(self.initial_iteration);
            }
            Report::Model(model) => {
                model.iteration = model.iteration.saturating_add(self.initial_iteration);
            }
            _ => {}
        }
        if matches!(report, Report::Point(_)) {
            let count = {
                let mut points = self.waiting_points();
                points.push(report);
                points.len()
            };
            if count == 1 {
                self.points_wait.notify_one();
            } else if count >= POINTS_AT_ONCE {
                self.hand_over_points().await?;
            }
            return Ok(());
        }
        if matches!(report, Report::Model(_)) {
            // Whoever goes on from the model has what was measured before it.
            self.hand_over_points().await?;
        }
        if let Report::Model(model) = &report {
            let mut saved = self.saved();
            saved.count += 1;
            let place = saved.count;
            saved.last.insert(model.name.clone(), (model.sha256, place));
        }
        let sent = self.reports.send(vec![report]).await;
        sent.map_err(|_| Refused::Stopped)
    }

    async fn report_trial(
        &self,
        metrics: Map<String, Value>,
        checkpoint: Option<String>,
    ) -> Result<TrialVerdict, Refused> {
        let Some(clock) = &self.trial else {
            return Ok(TrialVerdict::Continue);
        };
        let saved = checkpoint
            .as_ref()
            .and_then(|name| self.saved().last.get(name).copied());
        if let Some((_, place)) = saved {
            // The server refuses a report of a model that it does not know of. A spool that has
            // ended says why by itself.
            let mut models = self.models.clone();
            let known = models.wait_for(|sent| *sent >= place).await;
            known.map_err(|_| Refused::Stopped)?;
        }
        let report = TrialReport {
            iteration: clock.iteration.fetch_add(1, Ordering::Relaxed) + 1,
            metrics,
            checkpoint_sha256: saved.map(|(sha256, _)| sha256),
            checkpoint,
            elapsed_ms: clock.elapsed_ms(),
        };
        let (client, task, fence) = (self.client.clone(), self.task.clone(), self.fence);
        let answer = self.call(async move {
            loop {
                match until_answered(|| client.report_trial(&task, fence, &report)).await {
                    Err(error) if error.status() == Some(425) => {
                        tokio::time::sleep(MODEL_WAIT).await;
                    }
                    answered => return answered,
                }
            }
        });
        let decision = match answer.await?.decision {
            TrialDecision::Pause => self.pause(clock).await?,
            decided => decided,
        };
        Ok(match decision {
            TrialDecision::Continue | TrialDecision::Pause => TrialVerdict::Continue,
            TrialDecision::Stop => {
                self.stop.stop();
                TrialVerdict::Stop
            }
        })
    }

    async fn upload(&self, file: &Path, digest: Digest, _size_bytes: u64) -> Result<(), Refused> {
        let (client, file) = (self.client.clone(), file.to_owned());
        let task = self.task.clone();
        self.call(async move {
            let missing =
                until_answered(|| client.missing_files(std::slice::from_ref(&digest))).await?;
            if missing.is_empty() {
                return Ok(());
            }
            until_answered(|| client.put_output(&task, &digest, &file)).await
        })
        .await
    }

    async fn connect(
        &self,
        section: String,
        values: Map<String, Value>,
    ) -> Result<Map<String, Value>, Refused> {
        let (client, task, fence) = (self.client.clone(), self.task.clone(), self.fence);
        let given = Connect { section, values };
        let connected = self
            .call(async move { until_answered(|| client.connect(&task, fence, &given)).await })
            .await?;
        Ok(connected.values)
    }

    async fn connect_text(
        &self,
        name: String,
        text: String,
        format: String,
    ) -> Result<String, Refused> {
        let (client, task, fence) = (self.client.clone(), self.task.clone(), self.fence);
        let given = ConnectText { name, text, format };
        let connected = self
            .call(async move { until_answered(|| client.connect_text(&task, fence, &given)).await })
            .await?;
        Ok(connected.text)
    }

    async fn put_artifact(&self, artifact: ArtifactRequest) -> Result<ArtifactView, Refused> {
        let (client, task, fence) = (self.client.clone(), self.task.clone(), self.fence);
        self.call(async move {
            until_answered(|| client.put_leased_artifact(&task, fence, &artifact)).await
        })
        .await
    }

    async fn artifacts(&self, task: Option<TaskId>) -> Result<Option<Vec<ArtifactView>>, Refused> {
        let client = self.client.clone();
        let task = task.unwrap_or_else(|| self.task.clone());
        self.call(async move {
            match until_answered(|| client.artifacts(task.as_str(), false)).await {
                Ok(artifacts) => Ok(Some(artifacts)),
                Err(error) if error.status() == Some(404) => Ok(None),
                Err(error) => Err(error),
            }
        })
        .await
    }

    async fn fetch(&self, digest: Digest) -> Result<PathBuf, Refused> {
        let (client, agent) = (self.client.clone(), self.place.agent.clone());
        self.call(async move { agent.cache.file(&client, &digest).await })
            .await
    }

    async fn commit_version(
        &self,
        files: Vec<FileEntry>,
        description: String,
    ) -> Result<CommittedVersion, Refused> {
        let (client, task, fence) = (self.client.clone(), self.task.clone(), self.fence);
        let version = CommitVersion { files, description };
        let made =
            self.call(async move {
                until_answered(|| client.commit_version(&task, fence, &version)).await
            })
            .await?;
        Ok(CommittedVersion {
            id: made.id,
            number: made.number,
            digest: made.digest,
        })
    }
}
