//! Searchers: which configuration to try next.
//!
//! A searcher is a function of the space, its options, the seed and the history. What it keeps
//! are caches, so that a suggestion costs little; a searcher that starts over from the same
//! history suggests the same.

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use trainshed_core::action::ActionError;

use crate::domain::Axis;
use crate::history::History;
use crate::options::Options;
use crate::space::{Config, Point, Space};
use crate::stream::{Purpose, Stream};

mod cmaes;
pub(crate) mod gp;
mod tpe;

use cmaes::Cmaes;
use gp::{Gp, GpOptions};
use tpe::{Good, Tpe, TpeOptions};

/// What a searcher is asked.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The experiment's seed.
    pub seed: u64,
    /// The number of the new trial, from 0.
    pub trial: u64,
    /// Values that are given: a cell of the grid.
    pub fixed: &'a Config,
}

impl Request<'_> {
    fn fixed_point(&self, space: &Space) -> Point {
        space.encode(self.fixed)
    }
}

/// A searcher with its options and caches.
#[derive(Debug, Clone)]
pub struct Searcher {
    /// The name it goes by, of several that may mean it.
    pub name: &'static str,
    method: Method,
}

#[derive(Debug, Clone)]
enum Method {
    /// Draws from the prior; `constant` draws once for all cells of a grid.
    Random {
        constant: bool,
    },
    /// A low-discrepancy sequence.
    Sobol,
    Tpe(Tpe),
    Bohb(Tpe),
    Gp(Gp),
    Cmaes(Cmaes),
    Auto(Box<Auto>),
}

/// The names that are accepted, and the one that each stands for.
const NAMES: [(&str, &str); 16] = [
    ("bayesoptsearch", "gp"),
    ("hyperoptsearch", "hyperoptsearch"),
    ("basicvariantgenerator", "basicvariantgenerator"),
    ("optunasearch", "tpe"),
    ("axsearch", "gp"),
    ("random", "random"),
    ("grid", "grid"),
    ("sobol", "sobol"),
    ("tpe", "tpe"),
    ("gp", "gp"),
    ("cmaes", "cmaes"),
    ("bohb", "bohb"),
    ("tunebohb", "bohb"),
    ("hyperopt", "hyperoptsearch"),
    ("optuna", "tpe"),
    ("auto", "auto"),
];

impl Searcher {
    /// Finds a searcher by its name, in any case, and reads its options.
    ///
    /// # Errors
    /// An unknown name, an unknown option, or an option out of range.
    pub fn parse(
        name: &str,
        options: &Map<String, Value>,
        pointer: &str,
    ) -> Result<Self, ActionError> {
        let lower = name.to_lowercase();
        let Some((_, name)) = NAMES.iter().find(|(known, _)| *known == lower) else {
            let known: Vec<&str> = NAMES.iter().map(|(known, _)| *known).collect();
            return Err(ActionError::new(
                format!("{pointer}/name"),
                format!(
                    "Unsupported search algorithm: {name}. Supported algorithms are: {}",
                    known.join(", ")
                ),
            ));
        };
        let owner = format!("search_alg {name}");
        let mut options = Options::new(options, &owner, format!("{pointer}/options"));
        let method = match *name {
            "sobol" => Method::Sobol,
            "hyperoptsearch" => Method::Tpe(Tpe::new(univariate(&mut options)?)),
            "tpe" => Method::Tpe(Tpe::new(multivariate(&mut options)?)),
            "bohb" => Method::Bohb(Tpe::new(multivariate(&mut options)?)),
            "gp" => Method::Gp(Gp::new(GpOptions {
                startup: startup(&mut options, GpOptions::default().startup)?,
                candidates: options.whole(
                    "n_candidates",
                    GpOptions::default().candidates,
                    1,
                    100_000,
                )?,
            })),
            "cmaes" => Method::Cmaes(Cmaes::new()),
            "auto" => Method::Auto(Box::default()),
            _ => Method::Random {
                constant: options.flag("constant_grid_search", false)?,
            },
        };
        options.finish()?;
        Ok(Self { name, method })
    }

    /// Whether it learns nothing from results.
    pub(crate) fn is_blind(&self) -> bool {
        matches!(self.method, Method::Random { .. } | Method::Sobol)
    }

    /// Whether the parts of a configuration that are not on the grid are drawn once per round.
    pub(crate) fn draws_once_per_round(&self) -> bool {
        matches!(self.method, Method::Random { constant: true })
    }

    /// Whether the next suggestion may take more than some milliseconds.
    pub(crate) fn thinks_long(&self, space: &Space, history: &History) -> bool {
        let (parameters, trials) = (space.parameters().len(), history.finished.len());
        match &self.method {
            Method::Random { .. } | Method::Sobol => false,
            Method::Tpe(tpe) | Method::Bohb(tpe) => tpe.thinks_long(parameters, trials),
            Method::Gp(gp) => gp.thinks_long(trials),
            Method::Cmaes(cmaes) => cmaes.thinks_long(parameters, trials),
            Method::Auto(auto) => auto.gp.thinks_long(trials),
        }
    }

    /// Suggests the configuration of a trial. Never fails: without enough results it spreads
    /// the trials over the space.
    pub fn suggest(&mut self, space: &Space, history: &History, request: &Request<'_>) -> Config {
        let suggested = match &mut self.method {
            Method::Random { .. } => Some(prior(space, request)),
            Method::Sobol => None,
            Method::Tpe(tpe) => tpe.suggest(space, history, request),
            Method::Bohb(tpe) => bohb(tpe, space, history, request),
            Method::Gp(gp) => gp.suggest(space, history, request),
            Method::Cmaes(cmaes) => cmaes.suggest(space, history, request),
            Method::Auto(auto) => auto.suggest(space, history, request),
        };
        suggested.unwrap_or_else(|| sobol(space, request))
    }
}

fn startup(options: &mut Options<'_>, default: usize) -> Result<usize, ActionError> {
    // HyperOpt, Optuna and BayesOpt each have a name for it.
    let default = options.whole("random_search_steps", default, 1, 1_000_000)?;
    let default = options.whole("n_startup_trials", default, 1, 1_000_000)?;
    options.whole("n_initial_points", default, 1, 1_000_000)
}

fn univariate(options: &mut Options<'_>) -> Result<TpeOptions, ActionError> {
    let preset = match options.flag("compat", false)? {
        true => TpeOptions::hyperopt(),
        false => TpeOptions::univariate(),
    };
    let good = match options.value("gamma") {
        None => preset.good,
        Some(_) => Good::Root(options.number("gamma", 0.25, 0.01, 10.0)?),
    };
    Ok(TpeOptions {
        startup: startup(options, preset.startup)?,
        candidates: options.whole("n_ei_candidates", preset.candidates, 1, 10_000)?,
        good,
        ..preset
    })
}

fn multivariate(options: &mut Options<'_>) -> Result<TpeOptions, ActionError> {
    let preset = TpeOptions::multivariate();
    Ok(TpeOptions {
        joint: options.flag("multivariate", preset.joint)?,
        startup: startup(options, preset.startup)?,
        candidates: options.whole("n_ei_candidates", preset.candidates, 1, 10_000)?,
        prior_weight: options.number("prior_weight", preset.prior_weight, 1e-6, 1e6)?,
        constant_liar: options.flag("constant_liar", preset.constant_liar)?,
        good: preset.good,
    })
}

pub(crate) fn prior(space: &Space, request: &Request<'_>) -> Config {
    let mut stream = Stream::new(request.seed, request.trial, Purpose::Prior);
    space.draw(&mut stream, request.fixed)
}

/// The trial's point of a scrambled Sobol sequence, moved by less than its resolution.
///
/// Source: Owen, "Randomly Permuted (t,m,s)-Nets and (t,s)-Sequences", 1995; the sequence and
/// its scrambling are those of Burley, "Practical Hash-based Owen Scrambling", JCGT 9 (2020).
fn sobol(space: &Space, request: &Request<'_>) -> Config {
    const LENGTH: u64 = 65_536;
    const RESOLUTION: f64 = 1.0 / 16_777_216.0;
    let low_half = |number: u64| u32::try_from(number & 0xFFFF_FFFF).unwrap_or(0);
    let round = request.trial / LENGTH;
    let seed = low_half(request.seed ^ (request.seed >> 32)) ^ low_half(round);
    let mut stream = Stream::new(request.seed, request.trial, Purpose::Prior);
    let numbers: Vec<f64> = (0..space.parameters().len())
        .map(|dimension| {
            let index = low_half(request.trial % LENGTH);
            let dimension = u32::try_from(dimension).unwrap_or(0);
            let number = f64::from(sobol_burley::sample(index, dimension, seed));
            (number + RESOLUTION * stream.uniform()).min(1.0_f64.next_down())
        })
        .collect();
    space.at_quantiles(&numbers, request.fixed)
}

/// A Parzen estimator on the highest milestone that enough trials have reached; those that are
/// on their way there are the pending ones.
fn bohb(tpe: &mut Tpe, space: &Space, history: &History, request: &Request<'_>) -> Option<Config> {
    let enough = space.parameters().len() + 3;
    let mut rungs = history.rungs.values().rev();
    let reached = rungs.find(|reached| reached.len() >= enough)?;
    let there: BTreeSet<u64> = reached.iter().map(|seen| seen.trial).collect();
    let pending = history.pending.iter();
    let pending = pending.filter(|(trial, _)| !there.contains(trial));
    let pending: Vec<&Point> = pending.map(|(_, point)| point).collect();
    // Another milestone is another history, so the caches start over.
    tpe.fresh(2).suggest_from(space, reached, &pending, request)
}

/// The best searcher for the space at hand, by our measurements.
#[derive(Debug, Clone)]
struct Auto {
    gp: Gp,
    tpe: Tpe,
}

impl Default for Auto {
    fn default() -> Self {
        Self {
            gp: Gp::new(GpOptions::default()),
            tpe: Tpe::new(TpeOptions::multivariate()),
        }
    }
}

impl Auto {
    fn suggest(
        &mut self,
        space: &Space,
        history: &History,
        request: &Request<'_>,
    ) -> Option<Config> {
        let axes = space.axes();
        let free = axes.iter().filter(|axis| **axis != Axis::Fixed).count();
        if free <= 20 && history.finished.len() < 200 {
            return self.gp.suggest(space, history, request);
        }
        self.tpe.suggest(space, history, request)
    }
}
