//! How much each hyperparameter mattered, and the data of a parallel-coordinates chart.

use serde::Serialize;
use serde_json::Value;

use crate::domain::{Axis, Domain};
use crate::experiment::Experiment;
use crate::stream::{Purpose, Stream};

/// How many trees the estimate averages.
const TREES: u64 = 32;
/// A leaf has at least so many trials.
const LEAST_LEAF: usize = 2;
/// Deeper trees tell nothing more about single parameters.
const DEEPEST: usize = 12;

/// The share of the objective's variation that one hyperparameter alone explains.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Importance {
    /// The hyperparameter.
    pub name: String,
    /// From 0 to 1. What all of them leave to 1 is due to combinations and to noise.
    pub share: f64,
}

/// Estimates how much each hyperparameter mattered, most important first.
///
/// A forest is fitted to the finished trials' objectives, and its variance over the whole space
/// taken apart. Empty with fewer than 4 finished trials, or when all have the same value.
/// O(trees × leaves² × parameters).
///
/// Source: Hutter, Hoos, Leyton-Brown, "An Efficient Approach for Assessing Hyperparameter
/// Importance", ICML 2014, for single parameters. Parameters that are not active everywhere
/// count as in the middle of their range where they are not.
pub fn importances(experiment: &Experiment) -> Vec<Importance> {
    let space = experiment.space();
    let axes = space.axes();
    let mut points: Vec<Vec<f64>> = Vec::new();
    let mut values: Vec<f64> = Vec::new();
    for trial in experiment
        .trials()
        .iter()
        .filter(|trial| trial.status.is_final())
    {
        if let Some(value) = trial.last() {
            let unit = |(coordinate, axis): (f64, &Axis)| match axis {
                _ if coordinate.is_nan() => 0.5,
                Axis::Categories(count) => (coordinate + 0.5) / *count as f64,
                _ => coordinate,
            };
            points.push(
                space
                    .encode(&trial.config())
                    .into_iter()
                    .zip(&axes)
                    .map(unit)
                    .collect(),
            );
            values.push(value);
        }
    }
    if points.len() < 4 {
        return Vec::new();
    }
    let mut shares = vec![0.0; axes.len()];
    let mut counted = 0.0;
    for number in 0..TREES {
        let mut stream = Stream::new(experiment.definition().seed, number, Purpose::Forest);
        let sample: Vec<usize> = points.iter().map(|_| stream.below(points.len())).collect();
        let tree = Tree::grown(&points, &values, sample, &mut stream);
        if let Some(found) = tree.shares(axes.len()) {
            shares
                .iter_mut()
                .zip(found)
                .for_each(|(sum, share)| *sum += share);
            counted += 1.0;
        }
    }
    if counted == 0.0 {
        return Vec::new();
    }
    let mut result: Vec<Importance> = space
        .parameters()
        .iter()
        .zip(shares)
        .map(|(parameter, share)| Importance {
            name: parameter.name.clone(),
            share: share / counted,
        })
        .collect();
    result.sort_by(|left, right| right.share.total_cmp(&left.share));
    result
}

/// A regression tree, as its leaves: a box of the unit cube each, and a value.
struct Tree {
    leaves: Vec<Leaf>,
}

struct Leaf {
    low: Vec<f64>,
    high: Vec<f64>,
    value: f64,
}

impl Tree {
    fn grown(points: &[Vec<f64>], values: &[f64], sample: Vec<usize>, stream: &mut Stream) -> Self {
        let dimensions = points[0].len();
        let mut leaves = Vec::new();
        let mut open = vec![(sample, vec![0.0; dimensions], vec![1.0; dimensions], 0)];
        while let Some((members, low, high, depth)) = open.pop() {
            let split = match members.len() >= 2 * LEAST_LEAF && depth < DEEPEST {
                true => best_split(points, values, &members, stream),
                false => None,
            };
            let Some((dimension, at)) = split else {
                let sum: f64 = members.iter().map(|member| values[*member]).sum();
                let value = sum / members.len().max(1) as f64;
                leaves.push(Leaf { low, high, value });
                continue;
            };
            let (left, right) = members
                .into_iter()
                .partition(|member: &usize| points[*member][dimension] < at);
            let (mut middle_high, mut middle_low) = (high.clone(), low.clone());
            middle_high[dimension] = at;
            middle_low[dimension] = at;
            open.push((left, low, middle_high, depth + 1));
            open.push((right, middle_low, high, depth + 1));
        }
        Self { leaves }
    }

    /// The shares of the variance that the parameters explain one by one.
    fn shares(&self, dimensions: usize) -> Option<Vec<f64>> {
        let volume = |leaf: &Leaf, without: Option<usize>| -> f64 {
            (0..dimensions)
                .filter(|dimension| Some(*dimension) != without)
                .map(|dimension| leaf.high[dimension] - leaf.low[dimension])
                .product()
        };
        let mean: f64 = self
            .leaves
            .iter()
            .map(|leaf| volume(leaf, None) * leaf.value)
            .sum();
        let variance: f64 = self
            .leaves
            .iter()
            .map(|leaf| volume(leaf, None) * (leaf.value - mean) * (leaf.value - mean))
            .sum();
        if variance <= 1e-300 {
            return None;
        }
        let share = |dimension: usize| {
            let mut edges: Vec<f64> = self
                .leaves
                .iter()
                .flat_map(|leaf| [leaf.low[dimension], leaf.high[dimension]])
                .collect();
            edges.sort_by(f64::total_cmp);
            edges.dedup();
            let explained: f64 = edges
                .windows(2)
                .map(|edge| {
                    let inside = |leaf: &&Leaf| {
                        leaf.low[dimension] <= edge[0] && edge[1] <= leaf.high[dimension]
                    };
                    let expected: f64 = self
                        .leaves
                        .iter()
                        .filter(inside)
                        .map(|leaf| volume(leaf, Some(dimension)) * leaf.value)
                        .sum();
                    (edge[1] - edge[0]) * (expected - mean) * (expected - mean)
                })
                .sum();
            explained / variance
        };
        Some((0..dimensions).map(share).collect())
    }
}

/// The split that leaves the least squared error, of two thirds of the parameters.
fn best_split(
    points: &[Vec<f64>],
    values: &[f64],
    members: &[usize],
    stream: &mut Stream,
) -> Option<(usize, f64)> {
    let total: f64 = members.iter().map(|member| values[*member]).sum();
    let count = members.len() as f64;
    let mut best: Option<(f64, usize, f64)> = None;
    let coordinate = |member: usize, dimension: usize| points[member][dimension];
    for dimension in 0..points.first().map_or(0, Vec::len) {
        if stream.uniform() > 0.67 {
            continue;
        }
        let mut order: Vec<(f64, usize)> = members
            .iter()
            .map(|member| (coordinate(*member, dimension), *member))
            .collect();
        order.sort_by(|left, right| left.0.total_cmp(&right.0));
        let mut sum = 0.0;
        for position in 1..order.len() {
            let ((below, before), (above, _)) = (order[position - 1], order[position]);
            sum += values[before];
            if position < LEAST_LEAF || order.len() - position < LEAST_LEAF || below == above {
                continue;
            }
            let left = position as f64;
            let gain = sum * sum / left + (total - sum) * (total - sum) / (count - left)
                - total * total / count;
            if gain > 1e-12 * (1.0 + total.abs()) && best.is_none_or(|(most, _, _)| gain > most) {
                best = Some((gain, dimension, 0.5 * (below + above)));
            }
        }
    }
    best.map(|(_, dimension, at)| (dimension, at))
}

/// The data of a parallel-coordinates chart.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ParallelCoordinates {
    /// The axes, one per hyperparameter.
    pub axes: Vec<ChartAxis>,
    /// The name of the objective, which is the last axis.
    pub objective: String,
    /// One line per trial with a finite value of the objective.
    pub lines: Vec<Line>,
}

/// One axis of a chart.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChartAxis {
    /// The hyperparameter.
    pub name: String,
    /// `linear`, `log` or `options`.
    pub scale: &'static str,
    /// The smallest value, for numbers.
    pub min: Option<f64>,
    /// The largest value, for numbers.
    pub max: Option<f64>,
    /// The options, evenly spaced from 0 to 1.
    pub options: Vec<Value>,
}

/// One trial in a chart.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    /// The trial's id.
    pub trial_id: String,
    /// Where it crosses each axis, from 0 to 1; nothing where the parameter is not active.
    pub positions: Vec<Option<f64>>,
    /// The values themselves.
    pub values: Vec<Value>,
    /// The objective's last value.
    pub objective: f64,
}

/// Arranges the trials for a parallel-coordinates chart.
pub fn parallel_coordinates(experiment: &Experiment) -> ParallelCoordinates {
    let space = experiment.space();
    let axes: Vec<ChartAxis> = space
        .parameters()
        .iter()
        .map(|parameter| {
            let (scale, options) = match &parameter.domain {
                Domain::Choice { options } | Domain::Grid { options } => {
                    ("options", options.clone())
                }
                Domain::Constant { value } => ("options", vec![value.clone()]),
                Domain::Real { log: true, .. }
                | Domain::Stepped { log: true, .. }
                | Domain::Whole { log: true, .. } => ("log", Vec::new()),
                _ => ("linear", Vec::new()),
            };
            let end = |t: f64| match scale {
                "options" => None,
                _ => parameter.domain.value_at(t).as_f64(),
            };
            ChartAxis {
                name: parameter.name.clone(),
                scale,
                min: end(0.0),
                max: end(1.0),
                options,
            }
        })
        .collect();
    let position = |axis: &ChartAxis, value: &Value| -> Option<f64> {
        if axis.scale == "options" {
            let at = axis.options.iter().position(|option| option == value)?;
            return Some(at as f64 / (axis.options.len().max(2) - 1) as f64);
        }
        let (x, min, max) = (value.as_f64()?, axis.min?, axis.max?);
        let share = match axis.scale {
            "log" => libm::log(x / min) / libm::log(max / min),
            _ => (x - min) / (max - min),
        };
        share.is_finite().then_some(share.clamp(0.0, 1.0))
    };
    let lines = experiment
        .trials()
        .iter()
        .filter_map(|trial| {
            let config = trial.config();
            let value = |axis: &ChartAxis| config.get(&axis.name).cloned();
            Some(Line {
                trial_id: trial.id.clone(),
                positions: axes
                    .iter()
                    .map(|axis| position(axis, &value(axis)?))
                    .collect(),
                values: axes
                    .iter()
                    .map(|axis| value(axis).unwrap_or(Value::Null))
                    .collect(),
                objective: trial.last()?,
            })
        })
        .collect();
    ParallelCoordinates {
        axes,
        objective: experiment.metric().to_owned(),
        lines,
    }
}
