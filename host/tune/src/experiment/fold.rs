//! What each event does to an experiment.

use serde_json::{Map, Value};

use super::event::{Ending, Event, Status};
use super::{BY_SCHEDULER, Experiment, Trial, number, trial_id};
use crate::schedule::{Command, Decision, Seen};
use crate::space::Config;

impl Experiment {
    /// Changes the state as an event says, and returns the events that follow from it, which
    /// have changed the state already.
    pub(super) fn fold(&mut self, event: &Event) -> Vec<Event> {
        let mut followed = Vec::new();
        if let Some(at_ms) = event.at_ms() {
            self.now_ms = at_ms;
        }
        let of_a_run = matches!(
            event,
            Event::Reported { .. } | Event::Checkpointed { .. } | Event::Ended { .. }
        );
        if of_a_run && self.before_stop.is_some() {
            self.since_stop.push(event.clone());
        }
        match event {
            Event::TrialCreated { trial, config, .. } => {
                self.on_created(*trial, config, &mut followed);
            }
            Event::Started {
                trial,
                attempt,
                at_ms,
            } => {
                self.begun_ms.get_or_insert(*at_ms);
                self.queue.retain(|waiting| waiting != trial);
                self.running += 1;
                if let Some(state) = self.trial_mut(*trial) {
                    state.status = Status::Running;
                    state.attempt = *attempt;
                    state.started_ms.get_or_insert(*at_ms);
                    // An attempt goes on from the checkpoint, and counts on from there.
                    state.iteration = state
                        .checkpoint
                        .as_ref()
                        .map_or(0, |(_, iteration)| *iteration);
                    state.decision = Decision::Continue;
                }
            }
            Event::Resumed { trial, .. } => {
                let mut evicted = false;
                if let Some(state) = self.trial_mut(*trial) {
                    evicted = state.evicted;
                    state.evicted = false;
                    state.unpaused = false;
                    state.decision = Decision::Continue;
                    state.status = if evicted {
                        Status::Pending
                    } else {
                        Status::Running
                    };
                }
                self.mark_paused(*trial);
                match evicted {
                    true => self.queue.push_front(*trial),
                    false => self.running += 1,
                }
            }
            Event::Reported {
                trial,
                iteration,
                metrics,
                elapsed_ms,
                at_ms,
                ..
            } => self.on_report(
                *trial,
                *iteration,
                metrics,
                *elapsed_ms,
                *at_ms,
                &mut followed,
            ),
            Event::Checkpointed {
                trial,
                iteration,
                checkpoint,
                ..
            } => {
                if let Some(state) = self.trial_mut(*trial) {
                    state.checkpoint = Some((checkpoint.clone(), *iteration));
                }
            }
            Event::Ended {
                trial, how, at_ms, ..
            } => self.on_end(*trial, how, *at_ms, &mut followed),
            Event::StopRequested { reason, at_ms } => self.on_stop(reason, *at_ms, &mut followed),
            Event::Continued { failed, at_ms } => {
                self.on_continued(*failed, *at_ms, &mut followed);
            }
            Event::BestChosen { trial } => self.chosen = *trial,
            // These follow from others and never come by themselves.
            Event::Created { .. }
            | Event::Decided { .. }
            | Event::Paused { .. }
            | Event::Unpaused { .. }
            | Event::Retried { .. }
            | Event::Exploited { .. }
            | Event::Closed { .. }
            | Event::Stopped { .. } => {}
        }
        followed
    }

    pub(super) fn on_created(&mut self, trial: u64, config: &Config, followed: &mut Vec<Event>) {
        let id = trial_id(&self.definition.id, trial);
        self.trials.push(Trial::new(trial, id, config.clone()));
        self.queue.push_back(trial);
        self.history.begin(trial, self.space.encode(config));
        self.settings.scheduler.add(trial, self.definition.seed);
        self.close_plan(self.now_ms, followed);
    }

    /// Tells the scheduler, once, that no trial will be added.
    pub(super) fn close_plan(&mut self, at_ms: u64, followed: &mut Vec<Event>) {
        if !self.complete && !self.has_more() {
            self.complete = true;
            let commands = self.settings.scheduler.close();
            self.obey(&commands, at_ms, followed);
        }
    }

    pub(super) fn on_report(
        &mut self,
        trial: u64,
        iteration: u64,
        metrics: &Map<String, Value>,
        elapsed_ms: u64,
        at_ms: u64,
        followed: &mut Vec<Event>,
    ) {
        let value = metrics
            .get(&self.settings.metric)
            .map(|value| number(value).unwrap_or(f64::NAN));
        let Some(state) = self.trial_mut(trial) else {
            return;
        };
        state.iteration = iteration;
        state.elapsed_ms = elapsed_ms;
        state.metrics = metrics.clone().into();
        if let Some(value) = value {
            // What is done again after a restart replaces what was reported before.
            state.curve.retain(|(known, _)| *known < iteration);
            state.curve.push((iteration, value));
        }
        let is_new = iteration > state.heard;
        let told_to_stop = state.decision == Decision::Stop;
        let mut decision = Decision::Continue;
        let mut commands = Vec::new();
        if self.stopped.is_some() || told_to_stop {
            decision = Decision::Stop;
        } else if is_new && let Some(value) = value {
            let seen = self.seen(trial, value);
            if let Some(state) = self.trial_mut(trial) {
                state.heard = iteration;
            }
            if let Some(seen) = seen {
                let verdict = self.ask_scheduler(seen);
                if let Some(milestone) = verdict.milestone {
                    self.history.reach(milestone, trial, seen.score);
                }
                decision = verdict.decision;
                commands = verdict.commands;
                if let Some(state) = self.trial_mut(trial) {
                    state.complete |= verdict.complete;
                }
                if let Some((from, config)) = verdict.exploit {
                    self.decide(trial, iteration, decision, followed);
                    self.exploit(trial, from, config, followed);
                    self.obey(&commands, at_ms, followed);
                    return;
                }
            }
        }
        if decision != Decision::Stop && self.reached_stop(trial, iteration) {
            decision = Decision::Stop;
            if let Some(state) = self.trial_mut(trial) {
                state.complete = true;
            }
        }
        self.decide(trial, iteration, decision, followed);
        if decision == Decision::Pause {
            self.running = self.running.saturating_sub(1);
            if let Some(state) = self.trial_mut(trial) {
                state.status = Status::Paused;
                state.unpaused = false;
            }
            self.mark_paused(trial);
            followed.push(Event::Paused { trial });
        }
        self.obey(&commands, at_ms, followed);
    }

    pub(super) fn decide(
        &mut self,
        trial: u64,
        iteration: u64,
        decision: Decision,
        followed: &mut Vec<Event>,
    ) {
        if let Some(state) = self.trial_mut(trial) {
            state.decision = decision;
        }
        followed.push(Event::Decided {
            trial,
            iteration,
            decision,
        });
    }

    /// A report as the scheduler sees it; nothing where its time is not known.
    pub(super) fn seen(&self, trial: u64, value: f64) -> Option<Seen> {
        let state = self.trial(trial)?;
        let attribute = self.settings.scheduler.time_attr.as_str();
        let time = match attribute {
            "training_iteration" => state.iteration as f64,
            "time_total_s" => state.elapsed_ms as f64 / 1000.0,
            other => state.metrics().get(other).and_then(number)?,
        };
        let score = self.settings.score(value);
        time.is_finite().then_some(Seen {
            trial,
            time,
            score: if score.is_finite() { score } else { f64::NAN },
        })
    }

    pub(super) fn ask_scheduler(&mut self, seen: Seen) -> crate::schedule::Verdict {
        let ready = self.ready();
        let more = self.has_more();
        // The scheduler changes while it looks at the rest, so it is taken out meanwhile.
        let mut scheduler = std::mem::take(&mut self.settings.scheduler);
        let verdict = self.with_surroundings(&ready, more, |around| scheduler.report(seen, around));
        self.settings.scheduler = scheduler;
        verdict
    }

    pub(super) fn reached_stop(&self, trial: u64, iteration: u64) -> bool {
        let Some(state) = self.trial(trial) else {
            return false;
        };
        self.settings.stop.iter().any(|(metric, limit)| {
            let value = match metric.as_str() {
                "training_iteration" => Some(iteration as f64),
                "time_total_s" => Some(state.elapsed_ms as f64 / 1000.0),
                other => state.metrics().get(other).and_then(number),
            };
            value.is_some_and(|value| value >= *limit)
        })
    }

    pub(super) fn exploit(
        &mut self,
        trial: u64,
        from: u64,
        config: Config,
        followed: &mut Vec<Event>,
    ) {
        let Some((checkpoint, iteration)) =
            self.trial(from).and_then(|from| from.checkpoint.clone())
        else {
            return;
        };
        self.running = self.running.saturating_sub(1);
        self.queue.push_back(trial);
        let point = self.space.encode(&config);
        self.history.change(trial, point);
        if let Some(state) = self.trial_mut(trial) {
            state.status = Status::Pending;
            state.config = config.clone().into();
            state.checkpoint = Some((checkpoint.clone(), iteration));
            state.heard = iteration;
        }
        followed.push(Event::Exploited {
            trial,
            from,
            checkpoint,
            config,
        });
    }

    pub(super) fn obey(&mut self, commands: &[Command], at_ms: u64, followed: &mut Vec<Event>) {
        for command in commands {
            match *command {
                Command::Resume(trial) => {
                    if let Some(state) = self.trial_mut(trial)
                        && state.status == Status::Paused
                    {
                        state.unpaused = true;
                        followed.push(Event::Unpaused { trial });
                    }
                }
                Command::Stop(trial) => {
                    let status = self.trial(trial).map(|trial| trial.status);
                    if matches!(status, Some(Status::Paused | Status::Pending)) {
                        let reason = Some(BY_SCHEDULER.to_owned());
                        self.close(trial, Status::Terminated, reason, at_ms, followed);
                    } else if let Some(state) = self.trial(trial)
                        && state.status == Status::Running
                    {
                        // It does again what was lost; it hears at its next report.
                        self.decide(trial, state.iteration, Decision::Stop, followed);
                    }
                }
            }
        }
    }

    pub(super) fn on_end(
        &mut self,
        trial: u64,
        how: &Ending,
        at_ms: u64,
        followed: &mut Vec<Event>,
    ) {
        let Some(state) = self.trial(trial) else {
            return;
        };
        let was_paused = state.status == Status::Paused;
        let (failures, complete) = (state.failures, state.complete);
        let told_to_stop = state.decision == Decision::Stop;
        if !was_paused {
            self.running = self.running.saturating_sub(1);
        }
        match how {
            Ending::Interrupted if was_paused => {
                if let Some(state) = self.trial_mut(trial) {
                    state.evicted = true;
                }
            }
            Ending::Interrupted if self.stopped.is_none() && !told_to_stop => {
                if let Some(state) = self.trial_mut(trial) {
                    state.status = Status::Pending;
                }
                self.queue.push_back(trial);
            }
            // What was told to stop may well fail on the way.
            Ending::Failed { .. } if self.stopped.is_some() || told_to_stop => {
                let reason = self.stopped.clone();
                let reason = reason.or_else(|| Some(BY_SCHEDULER.to_owned()));
                self.close(trial, Status::Terminated, reason, at_ms, followed);
            }
            Ending::Interrupted | Ending::Stopped => {
                let reason = match &self.stopped {
                    Some(reason) => Some(reason.clone()),
                    // It had all that the scheduler or a stop rule gives.
                    None if complete => None,
                    None if told_to_stop => Some(BY_SCHEDULER.to_owned()),
                    None => Some("stopped".to_owned()),
                };
                self.close(trial, Status::Terminated, reason, at_ms, followed);
            }
            Ending::Completed { returned } => self.on_return(trial, returned, at_ms, followed),
            Ending::Failed { reason } => {
                let failures = failures + 1;
                if let Some(state) = self.trial_mut(trial) {
                    state.failures = failures;
                }
                let forgiven = self
                    .settings
                    .max_failures
                    .is_none_or(|most| failures <= most);
                if forgiven {
                    if let Some(state) = self.trial_mut(trial) {
                        state.status = Status::Pending;
                    }
                    self.mark_paused(trial);
                    self.queue.push_back(trial);
                    followed.push(Event::Retried { trial, failures });
                    return;
                }
                self.close(trial, Status::Error, Some(reason.clone()), at_ms, followed);
            }
        }
    }

    /// A trial ran through: what it returned is its last word.
    pub(super) fn on_return(
        &mut self,
        trial: u64,
        returned: &Value,
        at_ms: u64,
        followed: &mut Vec<Event>,
    ) {
        let metric = self.settings.metric.clone();
        let mut reason = self.stopped.clone();
        let mut never_reported = false;
        if let Some(state) = self.trial_mut(trial) {
            let reported = state.metrics();
            let told = crate::payload::normalised(returned, &metric, &reported);
            let value = told
                .get(&metric)
                .filter(|value| reported.get(&metric) != Some(*value))
                .map(|value| number(value).unwrap_or(f64::NAN));
            if let Some(value) = value {
                let iteration = state.iteration.max(1);
                state.curve.retain(|(known, _)| *known < iteration);
                state.curve.push((iteration, value));
            }
            state.metrics = told.into();
            // A trial that returns because it was told to stop did not run to its end.
            let told_to_stop = state.decision == Decision::Stop;
            state.complete |= !told_to_stop;
            if told_to_stop && !state.complete && reason.is_none() {
                reason = Some(BY_SCHEDULER.to_owned());
            }
            never_reported = state.curve.is_empty();
            if never_reported {
                reason = Some(format!(
                    "never reported `{metric}`: call report with it, or return it"
                ));
            }
        }
        let status = match never_reported {
            true => Status::Error,
            false => Status::Terminated,
        };
        self.close(trial, status, reason, at_ms, followed);
    }

    pub(super) fn close(
        &mut self,
        trial: u64,
        status: Status,
        reason: Option<String>,
        at_ms: u64,
        followed: &mut Vec<Event>,
    ) {
        self.queue.retain(|waiting| *waiting != trial);
        let Some(state) = self.trial_mut(trial) else {
            return;
        };
        if state.status.is_final() {
            return;
        }
        state.status = status;
        self.paused.remove(&trial);
        let Some(state) = self.trial_mut(trial) else {
            return;
        };
        state.ended_ms = Some(at_ms);
        state.reason.clone_from(&reason);
        let (last, iteration, complete) = (state.last(), state.iteration, state.complete);
        let failed = status == Status::Error;
        followed.push(Event::Closed {
            trial,
            status,
            reason: reason.clone(),
            at_ms,
        });
        self.closed += 1;
        let score = last
            .filter(|_| !failed)
            .map(|value| self.settings.score(value));
        self.history.end(trial, score, iteration, complete);
        let better = score.is_some_and(|score| score < self.best_score);
        self.since_best = if better { 0 } else { self.since_best + 1 };
        self.best_score = score.map_or(self.best_score, |score| score.min(self.best_score));
        let seen = last
            .and_then(|value| self.seen(trial, value))
            .filter(|_| !failed);
        let more = self.has_more();
        let settings = &self.settings;
        let position = usize::try_from(trial).unwrap_or(usize::MAX);
        if let Some(state) = self.trials.get_mut(position) {
            // One that failed may be tried again, and then goes on.
            if !failed {
                state.forget_its_way(|value| settings.score(value));
            }
            state.pack();
        }
        let commands = self.settings.scheduler.end(trial, seen, more);
        self.obey(&commands, at_ms, followed);
        if failed && self.settings.fail_fast {
            let why = reason.unwrap_or_default();
            self.on_stop(&format!("trial {trial} failed: {why}"), at_ms, followed);
        }
        if self
            .settings
            .patience
            .is_some_and(|patience| self.since_best >= patience)
        {
            let count = self.since_best;
            self.on_stop(
                &format!("{count} trials brought nothing better"),
                at_ms,
                followed,
            );
        }
    }

    pub(super) fn on_stop(&mut self, reason: &str, at_ms: u64, followed: &mut Vec<Event>) {
        if self.stopped.is_some() {
            return;
        }
        self.before_stop = Some(Box::new(self.clone()));
        self.stopped = Some(reason.to_owned());
        self.complete = true;
        followed.push(Event::Stopped {
            reason: reason.to_owned(),
        });
        let waiting: Vec<u64> = self
            .trials
            .iter()
            .filter(|trial| matches!(trial.status, Status::Pending | Status::Paused))
            .map(|trial| trial.number)
            .collect();
        for trial in waiting {
            self.close(
                trial,
                Status::Terminated,
                Some(reason.to_owned()),
                at_ms,
                followed,
            );
        }
    }

    /// Goes back to before the stop, and takes in what came since as if there had been none.
    fn on_continued(&mut self, failed: bool, at_ms: u64, followed: &mut Vec<Event>) {
        if let Some(before) = self.before_stop.take() {
            let since = std::mem::take(&mut self.since_stop);
            let chosen = self.chosen;
            *self = *before;
            self.chosen = chosen;
            self.now_ms = at_ms;
            for mut event in since {
                if let Event::Ended { how, .. } = &mut event
                    && !matches!(how, Ending::Completed { .. })
                {
                    // What ended because it was stopped was interrupted.
                    *how = Ending::Interrupted;
                }
                if self.is_possible(&event) {
                    followed.extend(self.fold(&event));
                }
            }
            // Nobody holds the sandboxes of paused trials any more.
            for trial in self.paused.clone() {
                if let Some(state) = self.trial_mut(trial) {
                    state.evicted = true;
                }
            }
        }
        self.begun_ms = None;
        self.since_best = 0;
        if failed {
            self.try_failed_again();
        }
    }

    /// Trials that failed wait again, as if they had been created now.
    fn try_failed_again(&mut self) {
        let seed = self.definition.seed;
        for position in 0..self.trials.len() {
            let state = &mut self.trials[position];
            if state.status != Status::Error {
                continue;
            }
            state.status = Status::Pending;
            state.failures = 0;
            state.ended_ms = None;
            state.reason = None;
            let (number, point) = (state.number, self.space.encode(&state.config()));
            self.closed -= 1;
            self.queue.push_back(number);
            self.history.begin(number, point);
            self.settings.scheduler.add(number, seed);
        }
    }

    pub(super) fn trial_mut(&mut self, trial: u64) -> Option<&mut Trial> {
        self.trials.get_mut(usize::try_from(trial).ok()?)
    }
}
