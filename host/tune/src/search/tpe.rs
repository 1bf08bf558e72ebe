//! Tree-structured Parzen estimators.
//!
//! The trials are split into a few good ones and the rest; a density is put over each part; of
//! some points drawn from the good density, the one is taken at which it is largest in
//! relation to the other. Sources: Bergstra, Bardenet, Bengio, Kégl, "Algorithms for
//! Hyper-Parameter Optimization", NIPS 2011, section 4; Bergstra, Yamins, Cox, "Making a
//! Science of Model Search", ICML 2013 (bandwidths from neighbours, linear forgetting);
//! Falkner, Klein, Hutter, "BOHB", ICML 2018, section 3 (the product kernel); Watanabe,
//! "Tree-Structured Parzen Estimator: Understanding Its Algorithm Components", 2023.
//!
//! Deviations are listed in `docs/tuning.md`.

use crate::domain::{Axis, Domain};
use crate::history::{History, Observation};
use crate::math::{exp, fast_exp, ln, normal_cdf, normal_quantile};
use crate::search::Request;
use crate::space::{Config, Point, Space};
use crate::stream::{Purpose, Stream};

/// The narrowest bell is this share of the width that the number of kernels would give it.
/// No bell is narrower than a cell, so that the density at its middle stands for the cell.
const NARROWEST: f64 = 0.6;
/// Candidates are compared in groups of this size, the width of the inner loops.
const LANES: usize = 8;

/// How a Parzen estimator works. See [`TpeOptions::multivariate`] and the others for presets.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TpeOptions {
    /// Whether the parameters are modelled together, instead of one by one.
    pub joint: bool,
    /// So many trials are spread over the space before the model is asked.
    pub startup: usize,
    /// How many candidates are compared.
    pub candidates: usize,
    /// How the number of good trials grows.
    pub good: Good,
    /// The weight of the prior among the kernels, each of which has 1.
    pub prior_weight: f64,
    /// Whether running trials count as bad, so that others keep away from them.
    pub constant_liar: bool,
}

/// How many of n trials are the good ones.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Good {
    /// This share of n, at most 25.
    Share(f64),
    /// This factor times the root of n, at most 25.
    Root(f64),
}

impl TpeOptions {
    /// All parameters together.
    pub(super) fn multivariate() -> Self {
        Self {
            joint: true,
            startup: 10,
            candidates: 24,
            good: Good::Share(0.13),
            prior_weight: 1.0,
            constant_liar: true,
        }
    }

    /// One parameter at a time.
    pub(super) fn univariate() -> Self {
        Self {
            joint: false,
            constant_liar: false,
            ..Self::multivariate()
        }
    }

    /// As HyperOpt has it: 20 trials at first, and as few good ones.
    pub(super) fn hyperopt() -> Self {
        Self {
            startup: 20,
            good: Good::Root(0.25),
            ..Self::univariate()
        }
    }
}

/// A Parzen estimator over a space.
///
/// Its fields besides the options are caches: what it suggests depends on the space, the
/// options, the seed and the history alone.
#[derive(Debug, Clone)]
pub(super) struct Tpe {
    options: TpeOptions,
    /// The positions of the observations, sorted by rank.
    ranked: Vec<usize>,
    /// For each parameter, the positions of the observations that have it, sorted by coordinate.
    sorted: Vec<Vec<usize>>,
    seen: usize,
}

impl Tpe {
    /// An estimator that has seen nothing.
    pub(super) fn new(options: TpeOptions) -> Self {
        Self {
            options,
            ranked: Vec::new(),
            sorted: Vec::new(),
            seen: 0,
        }
    }

    /// An estimator with the same options that has seen nothing.
    pub(crate) fn fresh(&self, startup: usize) -> Self {
        Self::new(TpeOptions {
            startup,
            ..self.options.clone()
        })
    }

    /// Suggests the configuration of a trial.
    pub(crate) fn suggest(
        &mut self,
        space: &Space,
        history: &History,
        request: &Request<'_>,
    ) -> Option<Config> {
        let pending: Vec<&Point> = history.pending.values().collect();
        self.suggest_from(space, &history.finished, &pending, request)
    }

    /// Whether a suggestion may take more than some milliseconds.
    pub(super) fn thinks_long(&self, parameters: usize, trials: usize) -> bool {
        // Some nanoseconds each.
        parameters * trials * (self.options.candidates + 8) > 1_000_000
    }

    /// Suggests from some observations, which must go on as they went on before, and the points
    /// that are being tried.
    pub(crate) fn suggest_from(
        &mut self,
        space: &Space,
        finished: &[Observation],
        pending: &[&Point],
        request: &Request<'_>,
    ) -> Option<Config> {
        if finished.len() < self.options.startup.max(1) {
            return None;
        }
        self.take_in(space, finished);
        let mut stream = Stream::new(request.seed, request.trial, Purpose::Search);
        let fixed = request.fixed_point(space);
        let count = self.good_count(finished.len());
        let mut is_good = vec![false; finished.len()];
        for &position in &self.ranked[..count] {
            is_good[position] = true;
        }
        let split = Split {
            finished,
            is_good: &is_good,
            pending: if self.options.constant_liar {
                pending
            } else {
                &[]
            },
        };
        let dimensions: Vec<usize> = (0..space.parameters().len())
            .filter(|index| space.parameters()[*index].domain.axis() != Axis::Fixed)
            .collect();
        let point = if self.options.joint {
            self.joint(space, &split, &dimensions, &fixed, &mut stream)
        } else {
            self.one_by_one(space, &split, &dimensions, &fixed, &mut stream)
        };
        Some(space.decode(&point, request.fixed))
    }

    fn good_count(&self, finished: usize) -> usize {
        let n = finished as f64;
        let count = match self.options.good {
            Good::Share(share) => share * n,
            Good::Root(factor) => factor * crate::math::sqrt(n),
        };
        crate::math::index(count.ceil()).clamp(1, 25).min(finished)
    }

    /// Sorts new observations in, at the cost of moving pointers.
    fn take_in(&mut self, space: &Space, finished: &[Observation]) {
        if self.seen > finished.len() || self.sorted.is_empty() {
            self.ranked.clear();
            self.sorted = vec![Vec::new(); space.parameters().len()];
            self.seen = 0;
        }
        for (position, new) in finished.iter().enumerate().skip(self.seen) {
            let at = self
                .ranked
                .partition_point(|other| finished[*other].rank(new).is_lt());
            self.ranked.insert(at, position);
            for (dimension, sorted) in self.sorted.iter_mut().enumerate() {
                let coordinate = new.point[dimension];
                if !coordinate.is_nan() {
                    let at = sorted
                        .partition_point(|other| finished[*other].point[dimension] <= coordinate);
                    sorted.insert(at, position);
                }
            }
        }
        self.seen = finished.len();
    }

    /// One point, drawn and judged as a whole.
    fn joint(
        &self,
        space: &Space,
        split: &Split<'_>,
        dimensions: &[usize],
        fixed: &[f64],
        stream: &mut Stream,
    ) -> Point {
        let good = self.mixture(space, split, dimensions, true);
        let bad = self.mixture(space, split, dimensions, false);
        let mut candidates: Vec<Point> = (0..self.options.candidates)
            .map(|_| good.draw(space, fixed, stream))
            .collect();
        // What was tried already teaches little: such candidates stay only if all are such.
        let is_new = |point: &Point| {
            let same = |other: &Point| same_point(point, other);
            !split.finished.iter().any(|seen| same(&seen.point))
                && !split.pending.iter().any(|seen| same(seen))
        };
        if candidates.iter().any(is_new) {
            candidates.retain(is_new);
        }
        let best = best_of(
            &good.log_density(&candidates),
            &bad.log_density(&candidates),
        );
        candidates[best].clone()
    }

    /// One point, each of its coordinates drawn and judged for itself.
    fn one_by_one(
        &self,
        space: &Space,
        split: &Split<'_>,
        dimensions: &[usize],
        fixed: &[f64],
        stream: &mut Stream,
    ) -> Point {
        let mut point = fixed.to_vec();
        for &dimension in dimensions {
            if !fixed[dimension].is_nan() {
                continue;
            }
            let good = self.mixture(space, split, &[dimension], true);
            let bad = self.mixture(space, split, &[dimension], false);
            let candidates: Vec<Point> = (0..self.options.candidates)
                .map(|_| good.draw(space, fixed, stream))
                .collect();
            let best = best_of(
                &good.log_density(&candidates),
                &bad.log_density(&candidates),
            );
            point[dimension] = candidates[best][dimension];
        }
        point
    }

    /// The density over the good trials, or over the others.
    fn mixture<'a>(
        &self,
        space: &'a Space,
        split: &Split<'_>,
        dimensions: &[usize],
        good: bool,
    ) -> Mixture<'a> {
        // Kernels stand in the order the trials ended in, which is also the order of forgetting.
        let mut kernel_of = vec![usize::MAX; split.finished.len()];
        let mut points: Vec<&Point> = Vec::new();
        for (position, observation) in split.finished.iter().enumerate() {
            if split.is_good[position] == good {
                kernel_of[position] = points.len();
                points.push(&observation.point);
            }
        }
        let finished = points.len();
        if !good {
            points.extend(split.pending.iter().copied());
        }
        let mut weights = self.weights(points.len());
        if good {
            self.favour_the_best(&kernel_of, finished, &mut weights);
        }
        let kernels = points.len() + 1;
        let mut factor = vec![1.0; kernels];
        let mut factors = Vec::with_capacity(dimensions.len());
        for &dimension in dimensions {
            let domain = &space.parameters()[dimension].domain;
            let kernel = match domain.axis() {
                Axis::Categories(count) => {
                    let mut options: Vec<f64> =
                        points.iter().map(|point| point[dimension]).collect();
                    options.push(f64::NAN);
                    Kernels::Options {
                        spread: self.options.prior_weight / kernels as f64,
                        count,
                        options,
                    }
                }
                _ => {
                    let mut order: Vec<usize> = self.sorted[dimension]
                        .iter()
                        .filter(|position| split.is_good[**position] == good)
                        .map(|position| kernel_of[*position])
                        .collect();
                    if points.len() > finished {
                        let with_value = (finished..points.len())
                            .filter(|kernel| !points[*kernel][dimension].is_nan());
                        order.extend(with_value);
                        order.sort_by(|left, right| {
                            points[*left][dimension].total_cmp(&points[*right][dimension])
                        });
                    }
                    Kernels::bells(domain, dimension, &points, &order, &mut factor)
                }
            };
            factors.push((dimension, kernel));
        }
        let log_weights: Vec<f64> = weights
            .iter()
            .zip(&factor)
            .map(|(weight, factor)| ln(weight / factor))
            .collect();
        Mixture {
            weights,
            log_weights,
            factors,
        }
    }

    /// Weighs the good kernels by their rank: the best one twice the mean, the last one nearly 0.
    fn favour_the_best(&self, kernel_of: &[usize], count: usize, weights: &mut [f64]) {
        for (rank, &position) in self.ranked[..count].iter().enumerate() {
            let favour = 2.0 * (count - rank) as f64 / (count + 1) as f64;
            weights[kernel_of[position]] *= favour;
        }
        let sum: f64 = weights.iter().sum();
        weights.iter_mut().for_each(|weight| *weight /= sum);
    }

    /// Weights that sum to 1: the last 25 kernels count fully, older ones less and less.
    fn weights(&self, points: usize) -> Vec<f64> {
        let mut weights = vec![1.0; points];
        if points > 25 {
            let old = points - 25;
            let first = 1.0 / points as f64;
            for (position, weight) in weights[..old].iter_mut().enumerate() {
                let share = position as f64 / (old.max(2) - 1) as f64;
                *weight = first + share * (1.0 - first);
            }
        }
        weights.push(self.options.prior_weight);
        let sum: f64 = weights.iter().sum();
        weights.iter_mut().for_each(|weight| *weight /= sum);
        weights
    }
}

/// The trials, split into good ones and others.
struct Split<'a> {
    finished: &'a [Observation],
    is_good: &'a [bool],
    pending: &'a [&'a Point],
}

/// A mixture of products, one kernel per trial and the prior as the last one.
struct Mixture<'a> {
    weights: Vec<f64>,
    /// The logarithms of the weights over the kernels' normalising factors.
    log_weights: Vec<f64>,
    factors: Vec<(usize, Kernels<'a>)>,
}

/// The kernels of all trials in one parameter. A trial that lacks the parameter has the prior.
enum Kernels<'a> {
    /// Normal distributions cut off at 0 and 1.
    Bells {
        domain: &'a Domain,
        centre: Vec<f64>,
        width: Vec<f64>,
        /// -1 / (2 width^2).
        steepness: Vec<f64>,
    },
    /// Its own option, and a little of all.
    Options {
        spread: f64,
        count: usize,
        options: Vec<f64>,
    },
}

impl<'a> Kernels<'a> {
    /// Bells as wide as the farther of their neighbours is away, within limits.
    fn bells(
        domain: &'a Domain,
        dimension: usize,
        points: &[&Point],
        order: &[usize],
        factor: &mut [f64],
    ) -> Self {
        let kernels = points.len() + 1;
        let cell = match domain.axis() {
            Axis::Levels(levels) => 1.0 / levels as f64,
            _ => 0.0,
        };
        let narrowest = (NARROWEST / (1.0 + kernels as f64).min(100.0)).max(cell);
        let mut centre = vec![0.5; kernels];
        let mut width = vec![1.0; kernels];
        let at = |position: usize| points[order[position]][dimension];
        for (position, &kernel) in order.iter().enumerate() {
            let here = at(position);
            let below = match position {
                0 => None,
                _ => Some(here - at(position - 1)),
            };
            let above = match position + 1 {
                next if next < order.len() => Some(at(next) - here),
                _ => None,
            };
            let distance = match (below, above) {
                (Some(below), Some(above)) => below.max(above),
                (Some(one), None) | (None, Some(one)) => one,
                (None, None) => here.max(1.0 - here),
            };
            centre[kernel] = here;
            width[kernel] = distance.clamp(narrowest, 1.0);
        }
        let mut steepness = Vec::with_capacity(kernels);
        for (kernel, factor) in factor.iter_mut().enumerate() {
            let (centre, width) = (centre[kernel], width[kernel]);
            steepness.push(-0.5 / (width * width));
            *factor *= inside(centre, width) * width;
        }
        Self::Bells {
            domain,
            centre,
            width,
            steepness,
        }
    }
}

impl Mixture<'_> {
    /// Draws a point, keeping the coordinates that are fixed. What is not active stays NaN.
    fn draw(&self, space: &Space, fixed: &[f64], stream: &mut Stream) -> Point {
        let weights = self.given(fixed);
        let sum: f64 = weights.iter().sum();
        let mut left = stream.uniform() * sum;
        let mut kernel = weights.len() - 1;
        for (position, weight) in weights.iter().enumerate() {
            left -= weight;
            if left < 0.0 {
                kernel = position;
                break;
            }
        }
        let mut point = fixed.to_vec();
        for (dimension, kernels) in &self.factors {
            let u = stream.uniform();
            if fixed[*dimension].is_nan() {
                point[*dimension] = kernels.draw(kernel, u);
            }
        }
        if space.is_conditional() && self.factors.len() > 1 {
            let active = space.active_at(&point);
            for (coordinate, active) in point.iter_mut().zip(active) {
                if !active {
                    *coordinate = f64::NAN;
                }
            }
        }
        point
    }

    /// The weights of the kernels, given the fixed coordinates.
    fn given(&self, fixed: &[f64]) -> Vec<f64> {
        let mut weights = self.weights.clone();
        for (dimension, kernels) in &self.factors {
            let coordinate = fixed[*dimension];
            if coordinate.is_nan() {
                continue;
            }
            for (kernel, weight) in weights.iter_mut().enumerate() {
                *weight *= exp(kernels.log_density(kernel, coordinate));
            }
        }
        match weights.iter().sum::<f64>() > 0.0 {
            true => weights,
            false => self.weights.clone(),
        }
    }

    /// The logarithm of the density at each candidate.
    fn log_density(&self, candidates: &[Point]) -> Vec<f64> {
        let mut result = Vec::with_capacity(candidates.len());
        for group in candidates.chunks(LANES) {
            result.extend_from_slice(&self.group_density(group)[..group.len()]);
        }
        result
    }

    fn group_density(&self, group: &[Point]) -> [f64; LANES] {
        let mut terms: Vec<[f64; LANES]> = self
            .log_weights
            .iter()
            .map(|weight| [*weight; LANES])
            .collect();
        for (dimension, kernels) in &self.factors {
            let mut at = [f64::NAN; LANES];
            for (lane, candidate) in group.iter().enumerate() {
                at[lane] = candidate[*dimension];
            }
            kernels.add_log_density(&at, &mut terms);
        }
        let mut result = [0.0; LANES];
        let mut largest = [f64::NEG_INFINITY; LANES];
        for term in &terms {
            for lane in 0..LANES {
                largest[lane] = if term[lane] > largest[lane] {
                    term[lane]
                } else {
                    largest[lane]
                };
            }
        }
        let mut sums = [0.0; LANES];
        for term in &terms {
            for lane in 0..LANES {
                sums[lane] += fast_exp(term[lane] - largest[lane]);
            }
        }
        for lane in 0..group.len() {
            result[lane] = largest[lane] + ln(sums[lane]);
        }
        result
    }
}

impl Kernels<'_> {
    fn draw(&self, kernel: usize, u: f64) -> f64 {
        match self {
            Self::Bells {
                domain,
                centre,
                width,
                ..
            } => {
                let (centre, width) = (centre[kernel], width[kernel]);
                let low = normal_cdf(-centre / width);
                let high = normal_cdf((1.0 - centre) / width);
                let p = low + u * (high - low);
                let t = centre + width * normal_quantile(p.clamp(1e-300, 1.0 - 1e-16));
                let t = t.clamp(0.0, 1.0);
                match domain.axis() {
                    Axis::Levels(_) => domain.level(domain.level_at(t)),
                    _ => t,
                }
            }
            Self::Options {
                spread,
                count,
                options,
            } => {
                let own = options[kernel];
                let total = 1.0 + spread * *count as f64;
                let mut left = u * total;
                if !own.is_nan() {
                    left -= 1.0;
                    if left < 0.0 {
                        return own;
                    }
                    left /= spread * *count as f64;
                } else {
                    left = u;
                }
                crate::math::index(left * *count as f64).min(count - 1) as f64
            }
        }
    }

    /// The logarithm of one kernel's density, normalised.
    fn log_density(&self, kernel: usize, at: f64) -> f64 {
        match self {
            Self::Bells { centre, width, .. } => {
                let (centre, width) = (centre[kernel], width[kernel]);
                let z = (at - centre) / width;
                -0.5 * z * z - ln(inside(centre, width) * width)
            }
            Self::Options {
                spread,
                count,
                options,
            } => option_log(*spread, *count, options[kernel], at),
        }
    }

    fn add_log_density(&self, at: &[f64; LANES], terms: &mut [[f64; LANES]]) {
        match self {
            // A coordinate that is not active has no say: its factor is that of the prior, 1.
            _ if at.iter().all(|coordinate| coordinate.is_nan()) => self.leave_out(at, terms),
            Self::Bells {
                centre, steepness, ..
            } if at.iter().all(|coordinate| !coordinate.is_nan()) => {
                for ((term, centre), steepness) in terms.iter_mut().zip(centre).zip(steepness) {
                    for lane in 0..LANES {
                        let distance = at[lane] - centre;
                        term[lane] += distance * distance * steepness;
                    }
                }
            }
            Self::Bells {
                centre, steepness, ..
            } => {
                for ((term, centre), steepness) in terms.iter_mut().zip(centre).zip(steepness) {
                    for lane in 0..LANES {
                        let distance = if at[lane].is_nan() {
                            0.0
                        } else {
                            at[lane] - centre
                        };
                        term[lane] += distance * distance * steepness;
                    }
                }
                self.leave_out(at, terms);
            }
            Self::Options {
                spread,
                count,
                options,
            } => {
                let own = option_log(*spread, *count, 0.0, 0.0);
                let other = option_log(*spread, *count, 0.0, 1.0);
                let none = -ln(*count as f64);
                for (term, option) in terms.iter_mut().zip(options) {
                    for lane in 0..LANES {
                        if at[lane].is_nan() {
                            continue;
                        }
                        term[lane] += if option.is_nan() {
                            none
                        } else if *option == at[lane] {
                            own
                        } else {
                            other
                        };
                    }
                }
            }
        }
    }

    /// Takes the normalising factors out again for candidates without this coordinate.
    fn leave_out(&self, at: &[f64; LANES], terms: &mut [[f64; LANES]]) {
        let Self::Bells { centre, width, .. } = self else {
            return;
        };
        if at.iter().all(|coordinate| !coordinate.is_nan()) {
            return;
        }
        for (kernel, term) in terms.iter_mut().enumerate() {
            let factor = ln(inside(centre[kernel], width[kernel]) * width[kernel]);
            for lane in 0..LANES {
                if at[lane].is_nan() {
                    term[lane] += factor;
                }
            }
        }
    }
}

/// The share of a bell that lies between 0 and 1, times the root of 2 pi, to about 4e-7.
///
/// The error function after Abramowitz and Stegun, "Handbook of Mathematical Functions", 7.1.26.
fn inside(centre: f64, width: f64) -> f64 {
    const ROOT: f64 = 2.506_628_274_631_000_5;
    let tail = |distance: f64| {
        let x = distance / width * std::f64::consts::FRAC_1_SQRT_2;
        if x > 5.0 {
            return 0.0;
        }
        let t = 1.0 / (1.0 + 0.327_591_1 * x);
        let series = t
            * (0.254_829_592
                + t * (-0.284_496_736
                    + t * (1.421_413_741 + t * (-1.453_152_027 + t * 1.061_405_429))));
        0.5 * series * fast_exp(-x * x)
    };
    ROOT * (1.0 - tail(centre) - tail(1.0 - centre))
}

fn option_log(spread: f64, count: usize, own: f64, at: f64) -> f64 {
    if own.is_nan() {
        return -ln(count as f64);
    }
    let total = 1.0 + spread * count as f64;
    let weight = if own == at { 1.0 + spread } else { spread };
    ln(weight / total)
}

/// Whether two points are the same, where neither has a coordinate included.
fn same_point(left: &Point, right: &Point) -> bool {
    let same = |(left, right): (&f64, &f64)| left == right || (left.is_nan() && right.is_nan());
    left.iter().zip(right).all(same)
}

/// The first candidate with the largest ratio of good to bad.
fn best_of(good: &[f64], bad: &[f64]) -> usize {
    let ratios = good.iter().zip(bad).map(|(good, bad)| good - bad);
    let mut best = (0, f64::NEG_INFINITY);
    for (position, ratio) in ratios.enumerate() {
        if ratio > best.1 {
            best = (position, ratio);
        }
    }
    best.0
}
