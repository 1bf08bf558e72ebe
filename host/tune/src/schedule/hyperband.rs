//! HyperBand, synchronous, in brackets of fixed sizes; and BOHB, which fills the largest first.
//!
//! Sources: Li, Jamieson, DeSalvo, Rostamizadeh, Talwalkar, "Hyperband: A Novel Bandit-Based
//! Approach to Hyperparameter Optimization", JMLR 18 (2018), algorithm 1; Falkner, Klein,
//! Hutter, "BOHB: Robust and Efficient Hyperparameter Optimization at Scale", ICML 2018.
//! Sizes, milestones and the order of brackets are those of Ray. Unlike there, a bracket is
//! full when so many trials were added to it, whatever became of them, and it is not halved
//! before; so neither a limit of concurrency nor a failed trial changes how much is computed.

use trainshed_core::action::ActionError;

use super::{Command, Decision, Pick, Seen, Surroundings, Verdict};
use crate::math::{index, ln, round_half_even};
use crate::options::Options;

/// The rule, with all brackets so far.
#[derive(Debug, Clone)]
pub(super) struct HyperBand {
    max_t: f64,
    eta: f64,
    largest_first: bool,
    stop_last_trials: bool,
    /// Brackets of one band.
    brackets_per_band: usize,
    bands: Vec<Vec<Bracket>>,
    /// How many brackets of the last band were opened, those without trials included.
    opened: usize,
}

#[derive(Debug, Clone)]
struct Bracket {
    /// How many trials belong to it.
    size: usize,
    added: usize,
    /// How many trials are kept at the next halving, before it is divided.
    width: usize,
    milestone: f64,
    halvings: usize,
    live: Vec<Live>,
    progress: f64,
    work: f64,
}

#[derive(Debug, Clone)]
struct Live {
    trial: u64,
    time: f64,
    /// Larger is better, NaN the worst.
    value: f64,
}

impl HyperBand {
    pub(super) fn parse(
        options: &mut Options<'_>,
        epochs: Option<f64>,
        largest_first: bool,
    ) -> Result<Self, ActionError> {
        let max_t = options.number("max_t", epochs.unwrap_or(81.0), 1.0, 1e9)?;
        let eta = options.number("reduction_factor", 3.0, 1.001, 1e6)?;
        let stop_last_trials = options.flag("stop_last_trials", true)?;
        let brackets = index(round_half_even(ln(max_t) / ln(eta))) + 1;
        Ok(Self {
            max_t,
            eta,
            largest_first,
            stop_last_trials,
            brackets_per_band: brackets.min(64),
            bands: vec![Vec::new()],
            opened: 0,
        })
    }

    /// Puts a trial into the bracket that is being filled, or opens the next one.
    pub(super) fn add(&mut self, trial: u64) {
        if self.filling().is_none() {
            self.open();
        }
        if let Some(bracket) = self.bands.last_mut().and_then(|band| band.last_mut()) {
            bracket.added += 1;
            bracket.live.push(Live {
                trial,
                time: 0.0,
                value: f64::NAN,
            });
        }
    }

    pub(super) fn report(&mut self, seen: Seen, more: bool) -> Verdict {
        let (max_t, eta, stop_last) = (self.max_t, self.eta, self.stop_last_trials);
        let Some(bracket) = self.bracket_of(seen.trial) else {
            return Verdict::go_on();
        };
        let Some(live) = bracket
            .live
            .iter_mut()
            .find(|live| live.trial == seen.trial)
        else {
            return Verdict::go_on();
        };
        bracket.progress += seen.time - live.time;
        live.time = seen.time;
        live.value = if seen.score.is_finite() {
            -seen.score
        } else {
            f64::NAN
        };
        if seen.time < bracket.milestone || (bracket.halvings == 0 && !stop_last) {
            return Verdict::go_on();
        }
        let milestone = whole(bracket.milestone);
        let mut decision = Decision::Pause;
        let mut complete = false;
        let mut commands = Vec::new();
        for command in bracket.halve(max_t, eta, stop_last, more) {
            match command {
                Command::Stop(trial) if trial == seen.trial => decision = Decision::Stop,
                Command::Resume(trial) if trial == seen.trial => decision = Decision::Continue,
                other => commands.push(other),
            }
        }
        if decision == Decision::Stop && seen.time >= max_t {
            complete = true;
        }
        Verdict {
            decision,
            complete,
            milestone: Some(milestone),
            commands,
            exploit: None,
        }
    }

    pub(super) fn end(&mut self, trial: u64, more: bool) -> Vec<Command> {
        let (max_t, eta, stop_last) = (self.max_t, self.eta, self.stop_last_trials);
        let Some(bracket) = self.bracket_of(trial) else {
            return Vec::new();
        };
        bracket.live.retain(|live| live.trial != trial);
        bracket.halve(max_t, eta, stop_last, more)
    }

    pub(super) fn close(&mut self) -> Vec<Command> {
        let (max_t, eta, stop_last) = (self.max_t, self.eta, self.stop_last_trials);
        self.bands
            .iter_mut()
            .flatten()
            .flat_map(|bracket| bracket.halve(max_t, eta, stop_last, false))
            .collect()
    }

    /// Picks from the bracket that is least complete, of the earliest band that has something.
    pub(super) fn pick(&self, around: &Surroundings<'_>) -> Option<Pick> {
        let last_band = self.bands.len() - 1;
        let band_is_open = self.filling().is_some() || self.next_size().is_some();
        for (number, band) in self.bands.iter().enumerate() {
            let mut candidates: Vec<(f64, Option<Pick>)> = band
                .iter()
                .enumerate()
                .map(|(position, bracket)| {
                    let ready = |live: &&Live| around.ready.contains(&live.trial);
                    let trial = bracket.live.iter().find(ready).map(|live| live.trial);
                    let fills = number == last_band
                        && position + 1 == band.len()
                        && bracket.added < bracket.size;
                    let new = (fills && around.more).then_some(Pick::New);
                    (bracket.completion(), trial.map(Pick::Ready).or(new))
                })
                .collect();
            if number == last_band && self.filling().is_none() && band_is_open && around.more {
                candidates.push((0.0, Some(Pick::New)));
            }
            if !self.largest_first {
                candidates.sort_by(|left, right| left.0.total_cmp(&right.0));
            }
            if let Some(pick) = candidates.into_iter().find_map(|(_, pick)| pick) {
                return Some(pick);
            }
        }
        match around.ready.first() {
            Some(trial) => Some(Pick::Ready(*trial)),
            None => around.more.then_some(Pick::New),
        }
    }

    fn bracket_of(&mut self, trial: u64) -> Option<&mut Bracket> {
        let has = |bracket: &&mut Bracket| bracket.live.iter().any(|live| live.trial == trial);
        self.bands.iter_mut().flatten().find(has)
    }

    /// The bracket that is not full.
    fn filling(&self) -> Option<&Bracket> {
        let bracket = self.bands.last()?.last()?;
        (bracket.added < bracket.size).then_some(bracket)
    }

    fn shape(&self, opened: usize) -> (usize, f64, usize) {
        let s = match self.largest_first {
            true => self.brackets_per_band - 1 - opened,
            false => opened,
        };
        let scale = libm::pow(self.eta, s as f64);
        let size = (self.brackets_per_band as f64 / (s + 1) as f64 * scale).ceil();
        let milestone = (self.max_t * libm::pow(self.eta, -(s as f64))).floor();
        (index(size).clamp(1, 1_000_000_000), milestone, s)
    }

    /// Whether the band has another bracket with a milestone.
    fn next_size(&self) -> Option<usize> {
        (self.opened..self.brackets_per_band)
            .map(|opened| self.shape(opened))
            .find(|(_, milestone, _)| *milestone >= 1.0)
            .map(|(size, _, _)| size)
    }

    fn open(&mut self) {
        loop {
            if self.opened >= self.brackets_per_band {
                self.bands.push(Vec::new());
                self.opened = 0;
            }
            let (size, milestone, s) = self.shape(self.opened);
            self.opened += 1;
            if milestone < 1.0 {
                continue;
            }
            let bracket = Bracket {
                size,
                added: 0,
                width: size,
                milestone,
                halvings: s,
                live: Vec::new(),
                progress: 0.0,
                work: work(size as f64, milestone, s, self.eta, self.max_t),
            };
            if let Some(band) = self.bands.last_mut() {
                band.push(bracket);
            }
            return;
        }
    }
}

impl Bracket {
    /// Halves as often as it can: when all trials are there and have reached the milestone.
    fn halve(&mut self, max_t: f64, eta: f64, stop_last: bool, more: bool) -> Vec<Command> {
        let mut commands = Vec::new();
        while !self.live.is_empty()
            && (self.added >= self.size || !more)
            && self.live.iter().all(|live| live.time >= self.milestone)
        {
            if self.halvings == 0 {
                if stop_last {
                    commands.extend(self.live.drain(..).map(|live| Command::Stop(live.trial)));
                }
                break;
            }
            self.halvings -= 1;
            self.width = index((self.width as f64 / eta).ceil()).max(1);
            self.milestone = (self.milestone * eta).min(max_t).floor();
            let key = |live: &Live| {
                if live.value.is_nan() {
                    f64::NEG_INFINITY
                } else {
                    live.value
                }
            };
            // Of equal trials the later ones are kept, as in Ray: the sort is stable.
            let mut order: Vec<&Live> = self.live.iter().collect();
            order.sort_by(|left, right| key(left).total_cmp(&key(right)));
            let bad: Vec<u64> = order[..order.len().saturating_sub(self.width)]
                .iter()
                .map(|live| live.trial)
                .collect();
            self.live.retain(|live| !bad.contains(&live.trial));
            commands.extend(bad.into_iter().map(Command::Stop));
            let behind = self.live.iter().filter(|live| live.time < self.milestone);
            commands.extend(behind.map(|live| Command::Resume(live.trial)));
            if self.halvings == 0 && !stop_last {
                let ahead = self.live.iter().filter(|live| live.time >= self.milestone);
                commands.extend(ahead.map(|live| Command::Resume(live.trial)));
                break;
            }
        }
        commands
    }

    fn completion(&self) -> f64 {
        let done = |live: &Live| live.time >= self.milestone;
        if self.halvings == 0 && self.live.iter().all(done) && self.added >= self.size {
            return 1.0;
        }
        (self.progress / self.work).min(1.0)
    }
}

/// How much a bracket computes, as Ray estimates it.
fn work(size: f64, milestone: f64, s: usize, eta: f64, max_t: f64) -> f64 {
    let (mut size, mut step, mut sum) = (size, milestone, 0.0);
    for _ in 0..=s {
        sum += size * step;
        size = (size / eta).ceil();
        step = (step * eta).min(max_t - milestone).floor();
    }
    sum.max(1.0)
}

fn whole(milestone: f64) -> u64 {
    u64::try_from(index(milestone)).unwrap_or(u64::MAX)
}
