//! Which trials there are: points to evaluate, cells of the grid, samples.
//!
//! The order is that of Ray's basic variant generator: points to evaluate first, each of them
//! instead of one sample; for each sample the whole grid, parameters sorted by name, the first
//! name fastest. A space of nothing but a grid is walked once, whatever the number of samples.

use crate::domain::Domain;
use crate::settings::Settings;
use crate::space::{Config, Space};

/// The rounds of an experiment and the trials in each.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// The points, each with the grid parameters that it leaves open.
    presets: Vec<(Config, Vec<usize>)>,
    grid: Vec<usize>,
    /// Rounds after the presets; `None` without end.
    rounds: Option<u64>,
}

/// One trial to be made.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Slot {
    /// Values that are given: of a point to evaluate, and of the grid.
    pub(crate) fixed: Config,
    /// The sample it belongs to.
    pub(crate) round: u64,
    /// Whether it is a point to evaluate, completed from the prior.
    pub(crate) preset: bool,
}

impl Plan {
    pub(crate) fn new(space: &Space, settings: &Settings) -> Self {
        let grid = space.grid();
        let open = |point: &Config| {
            let is_open = |index: &usize| !point.contains_key(&space.parameters()[*index].name);
            grid.iter()
                .copied()
                .filter(|index| is_open(index))
                .collect()
        };
        let presets: Vec<(Config, Vec<usize>)> = settings
            .points
            .iter()
            .map(|point| (point.clone(), open(point)))
            .collect();
        let rounds = match settings.num_samples {
            _ if space.is_only_grid() && !settings.repeat_grid => Some(1),
            Some(samples) => Some(samples.saturating_sub(presets.len() as u64)),
            None => None,
        };
        Self {
            presets,
            grid,
            rounds,
        }
    }

    /// How many trials there will be; `None` without end.
    pub(crate) fn total(&self, space: &Space) -> Option<u64> {
        let presets = self
            .presets
            .iter()
            .map(|(_, open)| cells(space, open))
            .fold(0, u64::saturating_add);
        let rounds = self.rounds?;
        Some(presets.saturating_add(rounds.saturating_mul(cells(space, &self.grid))))
    }

    /// The trial with a number, or nothing behind the last one.
    pub(crate) fn slot(&self, space: &Space, number: u64) -> Option<Slot> {
        let mut left = number;
        for (round, (point, open)) in (0..).zip(&self.presets) {
            let count = cells(space, open);
            if left < count {
                let mut fixed = point.clone();
                fill(space, open, left, &mut fixed);
                return Some(Slot {
                    fixed,
                    round,
                    preset: true,
                });
            }
            left -= count;
        }
        let count = cells(space, &self.grid);
        let round = left / count;
        if self.rounds.is_some_and(|rounds| round >= rounds) {
            return None;
        }
        let mut fixed = Config::new();
        fill(space, &self.grid, left % count, &mut fixed);
        Some(Slot {
            fixed,
            round: self.presets.len() as u64 + round,
            preset: false,
        })
    }
}

fn options(space: &Space, parameter: usize) -> &[serde_json::Value] {
    match &space.parameters()[parameter].domain {
        Domain::Grid { options } => options,
        _ => &[],
    }
}

fn cells(space: &Space, grid: &[usize]) -> u64 {
    grid.iter()
        .map(|parameter| options(space, *parameter).len().max(1) as u64)
        .fold(1, u64::saturating_mul)
}

fn fill(space: &Space, grid: &[usize], cell: u64, fixed: &mut Config) {
    let mut left = cell;
    for &parameter in grid {
        let options = options(space, parameter);
        let count = options.len().max(1) as u64;
        let at = usize::try_from(left % count).unwrap_or(0);
        left /= count;
        if let Some(option) = options.get(at) {
            fixed.insert(space.parameters()[parameter].name.clone(), option.clone());
        }
    }
}
