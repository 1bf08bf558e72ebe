//! The experiment: a fold over its events.
//!
//! Whoever runs an experiment keeps its log. In one transaction it loads the log, replays it,
//! calls one method, and appends the events that the method returned; the answer goes out once
//! they are durable. Replaying any part of the log from the start gives the state that the
//! experiment had then, and the same next suggestion, to the bit.
//!
//! - [`Experiment::next`]: what to run now, when there is a place for one more trial.
//! - [`Experiment::report`]: a trial reported; the answer is what it does next.
//! - [`Experiment::checkpoint`], [`Experiment::end`], [`Experiment::stop`],
//!   [`Experiment::go_on`], [`Experiment::choose_best`].
//!
//! Asking and telling from outside is the same: `next`, then `report` and `end`.

use std::collections::{BTreeSet, VecDeque};

use serde_json::{Map, Value};
use trainshed_core::action::ActionError;

mod dict;
pub mod event;
#[cfg(test)]
mod exploration;
mod fold;
mod state;
mod trial;

use event::{Definition, Ending, Event, Origin, Status, VERSION};
pub use trial::Trial;
pub(crate) use trial::number;

use crate::history::History;
use crate::plan::Plan;
use crate::schedule::{Decision, Pick, Surroundings};
use crate::search::Request;
use crate::settings::Settings;
use crate::space::{Config, Space};

/// An experiment in the state that its events have brought it to.
#[derive(Debug, Clone)]
pub struct Experiment {
    definition: Definition,
    space: Space,
    settings: Settings,
    plan: Plan,
    history: History,
    trials: Vec<Trial>,
    /// Trials that wait for a slot, in the order they are served.
    queue: VecDeque<u64>,
    /// Trials that are paused, so that not all have to be looked at.
    paused: BTreeSet<u64>,
    running: usize,
    closed: u64,
    begun_ms: Option<u64>,
    /// The time of the last event that has one.
    now_ms: u64,
    stopped: Option<String>,
    /// What it was before it was stopped.
    before_stop: Option<Box<Self>>,
    /// What came from outside since it was stopped, reports and ends of trials.
    since_stop: Vec<Event>,
    /// The trial that somebody says is the best.
    chosen: Option<u64>,
    /// Closed trials since the best one became better, for `patience_trials`.
    since_best: u64,
    best_score: f64,
    /// The scheduler knows that no trial will be added.
    complete: bool,
    /// Events that followed from the last one and have not been seen in the log yet.
    unrecorded: VecDeque<Event>,
}

/// Why a trial ended that the scheduler did not want any more.
const BY_SCHEDULER: &str = "stopped by the scheduler";

/// What to run now.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// Start an attempt at a trial.
    Start(Start),
    /// Tell a paused trial to go on: its sandbox is still there.
    Resume {
        /// The trial.
        trial: u64,
        /// Its attempt.
        attempt: u64,
    },
    /// Nothing can run before something else reports or ends.
    Wait,
    /// Every trial has ended.
    Finished,
}

/// What [`Experiment::next`] would give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upcoming {
    /// An attempt at a trial.
    Start,
    /// A paused trial goes on.
    Resume {
        /// The trial.
        trial: u64,
    },
}

/// An attempt to be started.
#[derive(Debug, Clone, PartialEq)]
pub struct Start {
    /// The trial.
    pub trial: u64,
    /// Its id.
    pub id: String,
    /// The attempt; reports carry it.
    pub attempt: u64,
    /// The configuration.
    pub config: Config,
    /// The checkpoint to go on from, and the iteration after which it was saved.
    pub checkpoint: Option<(String, u64)>,
}

/// A report from a trial.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The trial.
    pub trial: u64,
    /// The attempt that reports.
    pub attempt: u64,
    /// The training iteration, from 1.
    pub iteration: u64,
    /// What was measured.
    pub metrics: Map<String, Value>,
    /// How long the trial has run, all attempts together and pauses apart.
    pub elapsed_ms: u64,
}

/// Why a call changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such trial.
    #[error("the experiment has no trial {trial}")]
    UnknownTrial {
        /// The number that was given.
        trial: u64,
    },
    /// The attempt is not the one that runs: another has begun, or none has.
    #[error("attempt {attempt} of trial {trial} is not the current one, which is {current}")]
    StaleAttempt {
        /// The trial.
        trial: u64,
        /// The attempt that was given.
        attempt: u64,
        /// The one that counts.
        current: u64,
    },
    /// Iterations count from 1.
    #[error("a report of trial {trial} has iteration 0, but iterations count from 1")]
    NoIteration {
        /// The trial.
        trial: u64,
    },
}

/// Why a log cannot be replayed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ReplayError {
    /// The log does not begin with the experiment's creation.
    #[error("the log of an experiment must begin with its creation")]
    NoBeginning,
    /// The definition no longer parses.
    #[error("the experiment's definition cannot be read")]
    Definition(#[source] ActionError),
    /// The log is of another version.
    #[error("the log has version {found}, but this program reads version {VERSION}")]
    Version {
        /// The version of the log.
        found: u32,
    },
    /// An event cannot follow those before it.
    #[error("event {position} cannot follow those before it: {event}")]
    Impossible {
        /// Its place in the log, from 0.
        position: usize,
        /// The event, as JSON.
        event: String,
    },
}

impl Experiment {
    /// Creates an experiment; its first event is to be recorded.
    ///
    /// # Errors
    /// What is wrong with the space or the settings; nothing has begun then. Pointers are those
    /// of an action: `/params/hyperparameters/…`, `/params/tune_config/…`.
    pub fn create(
        id: &str,
        seed: u64,
        hyperparameters: &[Value],
        tune_config: &Map<String, Value>,
    ) -> Result<(Self, Vec<Event>), ActionError> {
        let definition = Definition {
            version: VERSION,
            id: id.to_owned(),
            seed,
            hyperparameters: hyperparameters.to_vec(),
            tune_config: tune_config.clone(),
        };
        let experiment = Self::new(definition.clone())?;
        Ok((experiment, vec![Event::Created { definition }]))
    }

    fn new(definition: Definition) -> Result<Self, ActionError> {
        let space = Space::parse(&definition.hyperparameters, "/params/hyperparameters")?;
        let settings = Settings::parse(&definition.tune_config, &space, "/params/tune_config")?;
        let plan = Plan::new(&space, &settings);
        Ok(Self {
            definition,
            space,
            settings,
            plan,
            history: History::new(),
            trials: Vec::new(),
            queue: VecDeque::new(),
            paused: BTreeSet::new(),
            running: 0,
            closed: 0,
            begun_ms: None,
            now_ms: 0,
            stopped: None,
            before_stop: None,
            since_stop: Vec::new(),
            chosen: None,
            since_best: 0,
            best_score: f64::INFINITY,
            complete: false,
            unrecorded: VecDeque::new(),
        })
    }

    /// Brings an experiment to the state that a log describes.
    ///
    /// # Errors
    /// The log has no beginning, is of another version, or contradicts itself.
    pub fn replay<'a>(log: impl IntoIterator<Item = &'a Event>) -> Result<Self, ReplayError> {
        let mut log = log.into_iter().enumerate();
        let Some((_, Event::Created { definition })) = log.next() else {
            return Err(ReplayError::NoBeginning);
        };
        if definition.version != VERSION {
            return Err(ReplayError::Version {
                found: definition.version,
            });
        }
        let mut experiment = Self::new(definition.clone()).map_err(ReplayError::Definition)?;
        experiment.follow_all(log)?;
        Ok(experiment)
    }

    /// Takes in what was recorded behind what the experiment knows. The first of `events` is at
    /// `position` in the log. After an error the experiment is of no use.
    ///
    /// # Errors
    /// They cannot follow what the experiment knows.
    pub fn advance<'a>(
        &mut self,
        position: usize,
        events: impl IntoIterator<Item = &'a Event>,
    ) -> Result<(), ReplayError> {
        let events = events.into_iter().enumerate();
        self.follow_all(events.map(|(index, event)| (position + index, event)))
    }

    fn follow_all<'a>(
        &mut self,
        events: impl IntoIterator<Item = (usize, &'a Event)>,
    ) -> Result<(), ReplayError> {
        for (position, event) in events {
            if !self.follow(event) {
                let event = serde_json::to_string(event).unwrap_or_else(|_| format!("{event:?}"));
                return Err(ReplayError::Impossible { position, event });
            }
        }
        Ok(())
    }

    /// Takes one recorded event in; false if it contradicts the state.
    fn follow(&mut self, event: &Event) -> bool {
        if let Some(expected) = self.unrecorded.pop_front() {
            return expected == *event;
        }
        if !self.is_possible(event) {
            return false;
        }
        let followed = self.fold(event);
        self.unrecorded.extend(followed);
        true
    }

    /// Whether an event from outside can come now.
    fn is_possible(&self, event: &Event) -> bool {
        let status = |trial: &u64| self.trial(*trial).map(|trial| trial.status);
        let is_current = |trial: &u64, attempt: &u64| {
            self.trial(*trial)
                .is_some_and(|trial| trial.attempt == *attempt)
        };
        match event {
            Event::TrialCreated { trial, .. } => *trial == self.trials.len() as u64,
            Event::Started { trial, attempt, .. } => self.trial(*trial).is_some_and(|trial| {
                trial.status == Status::Pending && trial.attempt + 1 == *attempt
            }),
            Event::Resumed { trial, .. } => status(trial) == Some(Status::Paused),
            Event::Reported { trial, attempt, .. } => {
                is_current(trial, attempt) && status(trial) == Some(Status::Running)
            }
            Event::Checkpointed { trial, attempt, .. } => is_current(trial, attempt),
            Event::Ended { trial, attempt, .. } => {
                is_current(trial, attempt)
                    && matches!(status(trial), Some(Status::Running | Status::Paused))
            }
            Event::StopRequested { .. } => true,
            Event::Continued { failed, .. } => self.can_go_on(*failed),
            Event::BestChosen { trial } => trial.is_none_or(|trial| self.trial(trial).is_some()),
            Event::Created { .. }
            | Event::Decided { .. }
            | Event::Paused { .. }
            | Event::Unpaused { .. }
            | Event::Retried { .. }
            | Event::Exploited { .. }
            | Event::Closed { .. }
            | Event::Stopped { .. } => false,
        }
    }

    /// Takes an event of this very moment in: returns it, with all that follows from it.
    fn record(&mut self, event: Event, log: &mut Vec<Event>) {
        let followed = self.fold(&event);
        log.push(event);
        log.extend(followed);
    }

    /// What a log that ends in the middle of a transaction lacks; to be recorded first.
    fn missing(&mut self) -> Vec<Event> {
        self.unrecorded.drain(..).collect()
    }

    /// Says what to run, when there is a place for one more trial, and counts it as running.
    ///
    /// Returns the events to be recorded before it is run. Costs what the searcher costs when a
    /// trial is created.
    pub fn next(&mut self, at_ms: u64) -> (Next, Vec<Event>) {
        let mut log = self.missing();
        self.check_budget(at_ms, &mut log);
        if self.stopped.is_some() {
            let next = if self.is_finished() {
                Next::Finished
            } else {
                Next::Wait
            };
            return (next, log);
        }
        let is_full = self
            .settings
            .max_concurrent_trials
            .is_some_and(|limit| self.running >= limit);
        if is_full {
            return (Next::Wait, log);
        }
        let trial = match self.pick() {
            Some(Pick::Ready(trial)) => trial,
            Some(Pick::New) => match self.create_trial(&mut log) {
                Some(trial) => trial,
                None => return (self.nothing(), log),
            },
            None => return (self.nothing(), log),
        };
        let Some(state) = self.trial(trial) else {
            return (self.nothing(), log);
        };
        if state.status == Status::Paused && !state.evicted {
            let attempt = state.attempt;
            self.record(Event::Resumed { trial, at_ms }, &mut log);
            return (Next::Resume { trial, attempt }, log);
        }
        let attempt = state.attempt + 1;
        if state.status == Status::Paused {
            self.record(Event::Resumed { trial, at_ms }, &mut log);
        }
        self.record(
            Event::Started {
                trial,
                attempt,
                at_ms,
            },
            &mut log,
        );
        match self.trial(trial) {
            Some(state) => (
                Next::Start(Start {
                    trial,
                    id: state.id.clone(),
                    attempt,
                    config: state.config().into_owned(),
                    checkpoint: state.checkpoint.clone(),
                }),
                log,
            ),
            None => (Next::Wait, log),
        }
    }

    /// What [`Self::next`] would give, budgets apart; nothing while it would say to wait.
    pub fn upcoming(&self) -> Option<Upcoming> {
        let full = |limit| self.running >= limit;
        if self.stopped.is_some() || self.settings.max_concurrent_trials.is_some_and(full) {
            return None;
        }
        let resumed = |trial: &&Trial| trial.status == Status::Paused && !trial.evicted;
        match self.pick()? {
            Pick::New => Some(Upcoming::Start),
            Pick::Ready(trial) => match self.trial(trial).filter(resumed) {
                Some(_) => Some(Upcoming::Resume { trial }),
                None => Some(Upcoming::Start),
            },
        }
    }

    /// Whether [`Self::next`] may take more than some milliseconds: it would create a trial.
    pub fn suggests_long(&self) -> bool {
        self.settings
            .searcher
            .thinks_long(&self.space, &self.history)
            && self.upcoming() == Some(Upcoming::Start)
            && matches!(self.pick(), Some(Pick::New))
    }

    /// Whether [`Self::report`] may take more than some milliseconds.
    pub fn weighs_long(&self) -> bool {
        self.settings.scheduler.thinks_long()
    }

    fn nothing(&self) -> Next {
        match self.is_finished() {
            true => Next::Finished,
            false => Next::Wait,
        }
    }

    fn pick(&self) -> Option<Pick> {
        let ready = self.ready();
        let more = self.has_more();
        let picked =
            self.with_surroundings(&ready, more, |around| self.settings.scheduler.pick(around));
        if picked.is_some() || self.running > 0 {
            return picked;
        }
        // Whatever the scheduler waits for cannot come any more: no trial is left waiting for ever.
        self.paused.first().copied().map(Pick::Ready)
    }

    /// Trials that could have a slot now.
    fn ready(&self) -> Vec<u64> {
        let unpaused = |trial: &u64| self.trial(*trial).is_some_and(|trial| trial.unpaused);
        let paused = self.paused.iter().copied().filter(unpaused);
        self.queue.iter().copied().chain(paused).collect()
    }

    /// Keeps the set of paused trials in step with a trial's status.
    fn mark_paused(&mut self, trial: u64) {
        match self.trial(trial).map(|trial| trial.status) {
            Some(Status::Paused) => self.paused.insert(trial),
            _ => self.paused.remove(&trial),
        };
    }

    fn with_surroundings<T>(
        &self,
        ready: &[u64],
        more: bool,
        ask: impl FnOnce(&Surroundings<'_>) -> T,
    ) -> T {
        let config = |trial: u64| {
            let trial = self.trial(trial)?;
            Some((trial.config().into_owned(), trial.checkpoint.is_some()))
        };
        ask(&Surroundings {
            seed: self.definition.seed,
            space: &self.space,
            more,
            ready,
            config: &config,
        })
    }

    fn has_more(&self) -> bool {
        self.stopped.is_none()
            && self
                .total()
                .is_none_or(|total| (self.trials.len() as u64) < total)
    }

    fn create_trial(&mut self, log: &mut Vec<Event>) -> Option<u64> {
        let trial = self.trials.len() as u64;
        let slot = self.plan.slot(&self.space, trial)?;
        let by_round = self.settings.searcher.draws_once_per_round();
        let request = Request {
            seed: self.definition.seed,
            trial: if by_round { slot.round } else { trial },
            fixed: &slot.fixed,
        };
        let (config, origin) = if slot.preset {
            (crate::search::prior(&self.space, &request), Origin::Point)
        } else {
            let origin = if self.space.is_only_grid() {
                Origin::Grid
            } else {
                Origin::Searcher
            };
            let searcher = &mut self.settings.searcher;
            (
                searcher.suggest(&self.space, &self.history, &request),
                origin,
            )
        };
        self.record(
            Event::TrialCreated {
                trial,
                config,
                origin,
            },
            log,
        );
        Some(trial)
    }

    fn check_budget(&mut self, at_ms: u64, log: &mut Vec<Event>) {
        let (Some(budget), Some(begun)) = (self.settings.time_budget_ms, self.begun_ms) else {
            return;
        };
        if self.stopped.is_none() && at_ms.saturating_sub(begun) >= budget {
            let seconds = budget as f64 / 1000.0;
            let reason = format!("the time budget of {seconds} s is used up");
            self.record(Event::StopRequested { reason, at_ms }, log);
        }
    }

    /// Takes a report in and answers what the trial is to do.
    ///
    /// A report that was taken in before gets the same answer again, and records nothing; a
    /// trial that has ended is told to stop.
    ///
    /// # Errors
    /// The trial does not exist, or another attempt at it has begun: the caller should end.
    pub fn report(
        &mut self,
        report: Report,
        at_ms: u64,
    ) -> Result<(Decision, Vec<Event>), Refusal> {
        let trial = self.checked(report.trial, report.attempt)?;
        if report.iteration == 0 {
            return Err(Refusal::NoIteration {
                trial: report.trial,
            });
        }
        if trial.status != Status::Running || report.iteration <= trial.iteration {
            return Ok((self.standing(trial), Vec::new()));
        }
        let number = report.trial;
        let mut log = self.missing();
        self.check_budget(at_ms, &mut log);
        self.record(
            Event::Reported {
                trial: report.trial,
                attempt: report.attempt,
                iteration: report.iteration,
                metrics: report.metrics,
                elapsed_ms: report.elapsed_ms,
                at_ms,
            },
            &mut log,
        );
        let decided = log.iter().rev().find_map(|event| match event {
            Event::Decided {
                trial, decision, ..
            } if *trial == number => Some(*decision),
            _ => None,
        });
        Ok((decided.unwrap_or(Decision::Stop), log))
    }

    /// What the last report of a trial was answered, or would be answered now: a paused trial
    /// that was resumed goes on, one that was stopped stops.
    ///
    /// # Errors
    /// The trial does not exist, or another attempt at it has begun: the caller should end.
    pub fn decision(&self, trial: u64, attempt: u64) -> Result<Decision, Refusal> {
        Ok(self.standing(self.checked(trial, attempt)?))
    }

    fn standing(&self, trial: &Trial) -> Decision {
        match trial.status {
            Status::Terminated | Status::Error => Decision::Stop,
            Status::Paused => Decision::Pause,
            // The attempt is over: it failed, was lost, or gives way to another configuration.
            Status::Pending => Decision::Restart,
            Status::Running if self.stopped.is_some() => Decision::Stop,
            Status::Running => trial.decision,
        }
    }

    /// Notes a checkpoint of a trial.
    ///
    /// # Errors
    /// The trial does not exist, or another attempt at it has begun: the checkpoint is useless.
    pub fn checkpoint(
        &mut self,
        trial: u64,
        attempt: u64,
        iteration: u64,
        checkpoint: &str,
    ) -> Result<Vec<Event>, Refusal> {
        let state = self.checked(trial, attempt)?;
        let same = state
            .checkpoint
            .as_ref()
            .is_some_and(|(known, _)| known == checkpoint);
        // What an attempt saves while it gives way must not replace what the next goes on from.
        let gives_way = state.status == Status::Pending && state.decision == Decision::Restart;
        if same || gives_way {
            return Ok(Vec::new());
        }
        let mut log = self.missing();
        self.record(
            Event::Checkpointed {
                trial,
                attempt,
                iteration,
                checkpoint: checkpoint.to_owned(),
            },
            &mut log,
        );
        Ok(log)
    }

    /// Notes that an attempt ended. An end that is known already records nothing.
    ///
    /// # Errors
    /// The trial does not exist, or another attempt at it has begun.
    pub fn end(
        &mut self,
        trial: u64,
        attempt: u64,
        how: Ending,
        at_ms: u64,
    ) -> Result<Vec<Event>, Refusal> {
        let state = self.checked(trial, attempt)?;
        let is_known = match state.status {
            Status::Running => false,
            Status::Paused => state.evicted && how == Ending::Interrupted,
            Status::Pending | Status::Terminated | Status::Error => true,
        };
        if is_known {
            return Ok(Vec::new());
        }
        let mut log = self.missing();
        self.record(
            Event::Ended {
                trial,
                attempt,
                how,
                at_ms,
            },
            &mut log,
        );
        Ok(log)
    }

    /// Stops the experiment: waiting trials end now, running ones are told to stop.
    pub fn stop(&mut self, reason: &str, at_ms: u64) -> Vec<Event> {
        let mut log = self.missing();
        if self.stopped.is_none() {
            let reason = reason.to_owned();
            self.record(Event::StopRequested { reason, at_ms }, &mut log);
        }
        log
    }

    /// Lets an experiment that has come to its end go on, if anything is left of it: what its
    /// stop ended goes on from its checkpoint, as after an interruption, and trials that were
    /// never created are. With `failed`, trials that failed are tried again. Time budget and
    /// patience begin anew. Records nothing when nothing is left.
    pub fn go_on(&mut self, failed: bool, at_ms: u64) -> Vec<Event> {
        let mut log = self.missing();
        if self.can_go_on(failed) {
            self.record(Event::Continued { failed, at_ms }, &mut log);
        }
        log
    }

    /// Says which trial is the best, whatever the metric says; with none, the metric says it
    /// again.
    ///
    /// # Errors
    /// There is no such trial.
    pub fn choose_best(&mut self, trial: Option<u64>) -> Result<Vec<Event>, Refusal> {
        if let Some(trial) = trial.filter(|trial| self.trial(*trial).is_none()) {
            return Err(Refusal::UnknownTrial { trial });
        }
        let mut log = self.missing();
        if self.chosen != trial {
            self.record(Event::BestChosen { trial }, &mut log);
        }
        Ok(log)
    }

    fn can_go_on(&self, failed: bool) -> bool {
        let has_failed = |trial: &Trial| trial.status == Status::Error;
        let tried_again = failed && self.trials.iter().any(has_failed);
        self.is_finished() && (self.before_stop.is_some() || tried_again)
    }

    fn checked(&self, trial: u64, attempt: u64) -> Result<&Trial, Refusal> {
        let state = self.trial(trial).ok_or(Refusal::UnknownTrial { trial })?;
        if state.attempt == attempt && attempt > 0 {
            return Ok(state);
        }
        Err(Refusal::StaleAttempt {
            trial,
            attempt,
            current: state.attempt,
        })
    }
}

/// The id of a trial: five digits from the experiment's id, and the trial's number.
///
/// The digits are of the FNV-1a hash, so that they are the same after a restart.
fn trial_id(experiment: &str, trial: u64) -> String {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in experiment.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    format!("{:05x}_{trial:05}", hash >> 44)
}
