//! Population based training, and its bandit form PB2.
//!
//! Sources: Jaderberg et al., "Population Based Training of Neural Networks", 2017; Parker-Holder,
//! Nguyen, Roberts, "Provably Efficient Online Hyperparameter Optimization with Population-Based
//! Bandits", NeurIPS 2020. Quantiles, intervals and factors are Ray's. Unlike there, a perturbed
//! value stays inside its range, unless that is not wanted, and on its steps, options without an order are only ever drawn
//! anew, the mutations default to the space, a copy has the score of its original until it has one
//! of its own, and a trial whose score is not finite belongs to the lower quantile.

use std::collections::BTreeMap;

use serde_json::Value;
use trainshed_core::action::ActionError;

use super::{Command, Decision, Pick, Seen, Surroundings, Verdict};
use crate::domain::{Axis, Domain};
use crate::math::{index, sqrt};
use crate::options::Options;
use crate::search::gp::{Kernel, Model, standardised};
use crate::space::{Config, Space};
use crate::stream::{Purpose, Stream};

/// The rule, with what it knows of each member.
#[derive(Debug, Clone)]
pub(super) struct Pbt {
    interval: f64,
    burn_in: f64,
    quantile: f64,
    resample: f64,
    factors: Vec<f64>,
    /// Whether a perturbed number stays inside its range.
    keeps_range: bool,
    /// The parameters that are perturbed, with the values they may take.
    mutations: Space,
    bandit: bool,
    members: BTreeMap<u64, Member>,
    /// What intervals brought, for the bandit.
    gains: Vec<Gain>,
}

#[derive(Debug, Clone, Default)]
struct Member {
    score: Option<f64>,
    /// Whether the score is that of its original.
    is_copy: bool,
    perturbed_at: f64,
    trained_until: f64,
    perturbations: u64,
    ended: bool,
}

#[derive(Debug, Clone)]
struct Gain {
    time: f64,
    point: Vec<f64>,
    gain: f64,
}

/// The bandit's model is made of the latest results, because what is best changes with time.
const LATEST_GAINS: usize = 60;
/// The bandit has a model from so many results on.
const LEAST_GAINS: usize = 4;

impl Pbt {
    pub(super) fn parse(
        options: &mut Options<'_>,
        space: &Space,
        bandit: bool,
        pointer: &str,
    ) -> Result<Self, ActionError> {
        let interval = options.number("perturbation_interval", 60.0, 1e-9, f64::MAX)?;
        let burn_in = options.number("burn_in_period", 0.0, 0.0, f64::MAX)?;
        let quantile = options.number("quantile_fraction", 0.25, 0.0, 0.5)?;
        let resample = options.number("resample_probability", 0.25, 0.0, 1.0)?;
        let factors = match options.value("perturbation_factors") {
            None => vec![1.2, 0.8],
            Some(value) => value
                .as_array()
                .map(|list| list.iter().filter_map(Value::as_f64).collect::<Vec<f64>>())
                .filter(|factors| {
                    factors.len() == 2 && factors.iter().all(|f| f.is_finite() && *f > 0.0)
                })
                .ok_or_else(|| {
                    options.wrong(
                        "perturbation_factors",
                        "a list of two numbers, more than 0",
                        value,
                    )
                })?,
        };
        // The bandit chooses from the range.
        let keeps_range = bandit || options.flag("keep_in_range", true)?;
        let key = if bandit {
            "hyperparam_bounds"
        } else {
            "hyperparam_mutations"
        };
        let mutations = match options.value(key) {
            None => space.clone(),
            Some(value) => {
                let pointer = format!("{pointer}/options/{key}");
                let Some(given) = value.as_object() else {
                    return Err(options.wrong(
                        key,
                        "a dict from a hyperparameter to its values",
                        value,
                    ));
                };
                mutations(given, space, &pointer)?
            }
        };
        Ok(Self {
            interval,
            burn_in,
            quantile,
            resample,
            factors,
            keeps_range,
            mutations,
            bandit,
            members: BTreeMap::new(),
            gains: Vec::new(),
        })
    }

    /// Whether configurations are chosen by a model now.
    pub(super) fn asks_a_model(&self) -> bool {
        self.bandit && self.gains.len() >= LEAST_GAINS
    }

    pub(super) fn add(&mut self, trial: u64) {
        self.members.insert(trial, Member::default());
    }

    pub(super) fn end(&mut self, trial: u64) {
        if let Some(member) = self.members.get_mut(&trial) {
            member.ended = true;
        }
    }

    pub(super) fn report(&mut self, seen: Seen, around: &Surroundings<'_>) -> Verdict {
        let Some(member) = self.members.get_mut(&seen.trial) else {
            return Verdict::go_on();
        };
        if seen.time < self.burn_in || seen.time - member.perturbed_at < self.interval {
            return Verdict::go_on();
        }
        let before = member.score.replace(seen.score);
        member.is_copy = false;
        member.trained_until = seen.time;
        member.perturbed_at = seen.time;
        member.perturbations += 1;
        let turn = member.perturbations;
        if self.bandit
            && let Some(before) = before
            && let Some((config, _)) = (around.config)(seen.trial)
        {
            let gain = before - seen.score;
            if gain.is_finite() {
                self.gains.push(Gain {
                    time: seen.time,
                    point: self.mutations.encode(&config),
                    gain,
                });
            }
        }
        let (lower, mut upper) = self.quantiles();
        // Whoever is no worse copies nobody.
        let own = badness(seen.score);
        upper.retain(|trial| {
            let score = self.members.get(trial).and_then(|member| member.score);
            score.is_some_and(|score| badness(score) < own)
        });
        let waiting = around.more || !around.ready.is_empty();
        if lower.contains(&seen.trial) && !upper.is_empty() {
            let number = seen.trial.wrapping_mul(1 << 20).wrapping_add(turn);
            let mut stream = Stream::new(around.seed, number, Purpose::Schedule);
            let model = upper[stream.below(upper.len())];
            if let Some((config, true)) = (around.config)(model) {
                let config = self.explore(&config, seen.time, around.space, &mut stream);
                self.become_copy(model, seen.trial);
                return Verdict {
                    exploit: Some((model, config)),
                    ..Verdict::new(Decision::Restart)
                };
            }
        }
        if !waiting {
            return Verdict::go_on();
        }
        // Members take turns when there are more of them than places.
        Verdict {
            commands: vec![Command::Resume(seen.trial)],
            ..Verdict::new(Decision::Pause)
        }
    }

    /// New members first, then those that have trained least; of equals the one that had fewer
    /// turns, so that a member that is sent back time and again does not keep the others waiting.
    pub(super) fn pick(&self, around: &Surroundings<'_>) -> Option<Pick> {
        if around.more {
            return Some(Pick::New);
        }
        let trained = |trial: &u64| {
            self.members.get(trial).map_or((0.0, 0), |member| {
                (member.trained_until, member.perturbations)
            })
        };
        around
            .ready
            .iter()
            .copied()
            .min_by(|left, right| {
                let (left, right) = (trained(left), trained(right));
                left.0.total_cmp(&right.0).then(left.1.cmp(&right.1))
            })
            .map(Pick::Ready)
    }

    /// A copy has what the original was judged by, and has trained as long: its own score is of
    /// what is no more, and its next interval is no gain over that.
    fn become_copy(&mut self, from: u64, to: u64) {
        let Some(original) = self.members.get(&from).cloned() else {
            return;
        };
        if let Some(member) = self.members.get_mut(&to) {
            member.score = original.score;
            member.is_copy = true;
            member.perturbed_at = original.perturbed_at;
            member.trained_until = original.trained_until;
        }
    }

    /// The worst and the best members of those that live and have a score.
    fn quantiles(&self) -> (Vec<u64>, Vec<u64>) {
        let mut known: Vec<(u64, f64)> = self
            .members
            .iter()
            .filter(|(_, member)| !member.ended)
            .filter_map(|(trial, member)| member.score.map(|score| (*trial, score)))
            .collect();
        if known.len() < 2 {
            return (Vec::new(), Vec::new());
        }
        known.sort_by(|left, right| badness(right.1).total_cmp(&badness(left.1)));
        let share = index((known.len() as f64 * self.quantile).ceil()).min(known.len() / 2);
        let trials = |part: &[(u64, f64)]| part.iter().map(|(trial, _)| *trial).collect();
        // Whoever is a copy has nothing that its original does not have.
        let is_own = |trial: &u64| {
            self.members
                .get(trial)
                .is_some_and(|member| !member.is_copy)
        };
        let upper: Vec<(u64, f64)> = known
            .iter()
            .copied()
            .filter(|(trial, score)| is_own(trial) && score.is_finite())
            .collect();
        let upper = &upper[upper.len().saturating_sub(share)..];
        match upper.is_empty() {
            true => (Vec::new(), Vec::new()),
            false => (trials(&known[..share]), trials(upper)),
        }
    }

    /// A configuration near a good one.
    fn explore(&self, config: &Config, time: f64, space: &Space, stream: &mut Stream) -> Config {
        let mut changed = config.clone();
        let chosen = match self.bandit {
            true => self.best_arm(config, time, stream),
            false => None,
        };
        for (position, parameter) in self.mutations.parameters().iter().enumerate() {
            let Some(old) = config.get(&parameter.name) else {
                continue;
            };
            let axis = parameter.domain.axis();
            let new = match &chosen {
                Some(point) if matches!(axis, Axis::Continuous | Axis::Levels(_)) => {
                    parameter.domain.value_at(point[position])
                }
                _ => self.perturb(&parameter.domain, old, stream),
            };
            changed.insert(parameter.name.clone(), new);
        }
        // Parameters that a changed option brings in are drawn, those that it shuts out go.
        space.draw(stream, &changed)
    }

    fn perturb(&self, domain: &Domain, old: &Value, stream: &mut Stream) -> Value {
        let again = stream.uniform() < self.resample;
        let u = stream.uniform();
        match domain {
            Domain::Constant { .. } => old.clone(),
            _ if again => domain.quantile(u),
            Domain::Choice { options } | Domain::Grid { options } => {
                let is_number = options.iter().all(Value::is_number);
                match domain.coordinate(old).map(index) {
                    None => domain.quantile(u),
                    Some(at) if is_number => {
                        let next = if u < 0.5 {
                            at.saturating_sub(1)
                        } else {
                            (at + 1).min(options.len() - 1)
                        };
                        options[next].clone()
                    }
                    Some(_) => old.clone(),
                }
            }
            _ => {
                let factor = self.factors[usize::from(u >= 0.5)];
                match old.as_f64() {
                    Some(x) if self.keeps_range => domain.nearest(x * factor),
                    Some(x) => domain.on_steps(x * factor),
                    None => domain.quantile(u),
                }
            }
        }
    }

    /// The point whose next interval promises most, by an upper confidence bound.
    fn best_arm(&self, config: &Config, time: f64, stream: &mut Stream) -> Option<Vec<f64>> {
        if self.gains.len() < LEAST_GAINS {
            return None;
        }
        let latest = &self.gains[self.gains.len().saturating_sub(LATEST_GAINS)..];
        let horizon = latest
            .iter()
            .map(|gain| gain.time)
            .fold(time, f64::max)
            .max(1e-9);
        let with_time = |point: &[f64], time: f64| {
            let mut input: Vec<f64> = point
                .iter()
                .map(|coordinate| {
                    if coordinate.is_nan() {
                        0.5
                    } else {
                        *coordinate
                    }
                })
                .collect();
            input.push(time / horizon);
            input
        };
        let points: Vec<Vec<f64>> = latest
            .iter()
            .map(|gain| with_time(&gain.point, gain.time))
            .collect();
        // The process minimises, so gains are turned round.
        let losses: Vec<f64> = latest.iter().map(|gain| -gain.gain).collect();
        let losses = standardised(&losses);
        let axes = self.mutations.axes();
        let mut categorical: Vec<bool> = axes
            .iter()
            .map(|axis| matches!(axis, Axis::Categories(_)))
            .collect();
        categorical.push(false);
        let kernel = Kernel::fitted(&categorical, &points, &losses);
        let model = Model::new(&kernel, &categorical, points, losses);
        let here = self.mutations.encode(config);
        let boldness = sqrt(0.2 + crate::math::ln(1.0 + latest.len() as f64) * 0.4);
        let mut best: Option<(f64, Vec<f64>)> = None;
        for number in 0..200 {
            let point: Vec<f64> = here
                .iter()
                .zip(&axes)
                .map(|(here, axis)| match axis {
                    Axis::Continuous | Axis::Levels(_) if number % 2 == 0 => stream.uniform(),
                    Axis::Continuous | Axis::Levels(_) => {
                        (here + 0.2 * (stream.uniform() - 0.5)).clamp(0.0, 1.0)
                    }
                    _ => *here,
                })
                .collect();
            let (mean, variance) = model.expect(&with_time(&point, time));
            let bound = mean - boldness * sqrt(variance);
            if best.as_ref().is_none_or(|(least, _)| bound < *least) {
                best = Some((bound, point));
            }
        }
        best.map(|(_, point)| point)
    }
}

/// A score by which members are ordered, those that have none last.
fn badness(score: f64) -> f64 {
    if score.is_nan() { f64::INFINITY } else { score }
}

/// Reads `{"lr": [..]}`, `{"lr": {"type": …}}` or, as PB2 has it, `{"lr": [low, high]}`.
fn mutations(
    given: &serde_json::Map<String, Value>,
    space: &Space,
    pointer: &str,
) -> Result<Space, ActionError> {
    let mut list = Vec::new();
    for (name, value) in given {
        let Some(position) = space.position(name) else {
            return Err(ActionError::new(
                format!("{pointer}/{name}"),
                format!("there is no hyperparameter `{name}` to be perturbed"),
            ));
        };
        let own = &space.parameters()[position].domain;
        let entry = match value {
            Value::Array(bounds)
                if pointer.ends_with("bounds")
                    && bounds.len() == 2
                    && own.axis() == Axis::Continuous =>
            {
                serde_json::json!({"name": name, "type": "uniform", "min": bounds[0], "max": bounds[1]})
            }
            Value::Array(options) => {
                serde_json::json!({"name": name, "type": "choice", "options": options})
            }
            Value::Object(fields) => {
                let mut fields = fields.clone();
                fields.insert("name".into(), name.as_str().into());
                Value::Object(fields)
            }
            other => {
                return Err(ActionError::wrong_type(
                    &format!("{pointer}/{name}"),
                    &format!("the mutation of `{name}`"),
                    "a list of values or a search space",
                    other,
                ));
            }
        };
        list.push(entry);
    }
    Space::parse(&list, pointer)
}
