//! Bayesian optimisation with a Gaussian process.
//!
//! A Matérn 5/2 kernel with a length scale per parameter (options count as 0 or 1 apart) is
//! fitted to the scores by the maximum of its posterior; the next configuration maximises the
//! logarithm of the expected improvement. Running trials are pretended to have turned out as
//! the model expects. Sources: Snoek, Larochelle, Adams, "Practical Bayesian Optimization of
//! Machine Learning Algorithms", NIPS 2012; Rasmussen, Williams, "Gaussian Processes for
//! Machine Learning", 2006, algorithm 2.1 and section 5.4; Ament, Daulton, Eriksson, Balandat,
//! Bakshy, "Unexpected Improvements to Expected Improvement for Bayesian Optimization", NeurIPS
//! 2023; Ginsbourger, Le Riche, Carraro, "Kriging Is Well-Suited to Parallelize Optimization",
//! 2010 (the kriging believer). The priors of the kernel are those of Optuna.

use crate::domain::Axis;
use crate::history::{History, Observation};
use crate::math::{LN_SQRT_2PI, dot, exp, fast_exp, ln, median, normal_cdf, normal_pdf, sqrt};
use crate::optimise::minimise;
use crate::search::Request;
use crate::space::{Config, Point, Space};
use crate::stream::{Purpose, Stream};

/// Variance of the noise is never less than this, in units of the scores' variance.
const LEAST_NOISE: f64 = 1e-6;
/// More observations than this are thinned out, because the cost grows with their cube.
const MOST_OBSERVATIONS: usize = 250;
/// With more inputs than this, a kernel is first fitted to a part of the observations.
const MANY_INPUTS: usize = 20;
/// So many are such a part.
const PART: usize = 100;
/// Steps of a fit, and of one that begins where another has ended.
const STEPS: usize = 40;
const FEW_STEPS: usize = 10;

/// How the search works.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct GpOptions {
    /// So many trials are spread over the space before the model is asked.
    pub startup: usize,
    /// How many random points are compared before the best are improved.
    pub candidates: usize,
}

impl Default for GpOptions {
    fn default() -> Self {
        Self {
            startup: 10,
            candidates: 320,
        }
    }
}

/// A Gaussian process over a space. What it suggests depends on the history alone; the fitted
/// kernel is kept because fitting costs most.
#[derive(Debug, Clone)]
pub(crate) struct Gp {
    options: GpOptions,
    fitted: Option<(usize, Kernel)>,
}

impl Gp {
    /// A process that has seen nothing.
    pub(crate) fn new(options: GpOptions) -> Self {
        Self {
            options,
            fitted: None,
        }
    }

    /// Whether a suggestion may take more than some milliseconds: all may that ask the model.
    pub(super) fn thinks_long(&self, trials: usize) -> bool {
        trials >= self.options.startup.max(2)
    }

    /// Suggests the configuration of a trial.
    pub(crate) fn suggest(
        &mut self,
        space: &Space,
        history: &History,
        request: &Request<'_>,
    ) -> Option<Config> {
        let finished = &history.finished;
        if finished.len() < self.options.startup.max(2) {
            return None;
        }
        let inputs = Inputs::new(space);
        let milestone = milestone(self.options.startup.max(2), finished.len());
        let kernel = match &self.fitted {
            Some((at, kernel)) if *at == milestone => kernel.clone(),
            _ => {
                let kernel = inputs.kernel(&finished[..milestone]);
                self.fitted = Some((milestone, kernel.clone()));
                kernel
            }
        };
        let chosen = chosen(finished, MOST_OBSERVATIONS);
        let (mut points, mut scores) = inputs.training(&chosen);
        let mut model = Model::new(&kernel, &inputs.categorical, points.clone(), scores.clone());
        if !history.pending.is_empty() {
            for point in history.pending.values() {
                let point = inputs.of(point);
                scores.push(model.expect(&point).0);
                points.push(point);
            }
            model = Model::new(&kernel, &inputs.categorical, points, scores);
        }
        let best = chosen
            .iter()
            .enumerate()
            .min_by(|left, right| left.1.rank(right.1))
            .map_or(0, |(position, _)| position);
        let search = Acquisition {
            model: &model,
            target: model.scores[..chosen.len()]
                .iter()
                .copied()
                .fold(f64::INFINITY, f64::min),
            inputs: &inputs,
            space,
            fixed: request.fixed_point(space),
        };
        let mut stream = Stream::new(request.seed, request.trial, Purpose::Search);
        let point = search.maximise(
            &inputs.of(&chosen[best].point),
            self.options.candidates,
            &mut stream,
        );
        Some(space.decode(&inputs.back(&point), request.fixed))
    }
}

/// At which number of observations the kernel in use was fitted: at each of the first, and then
/// whenever there is a tenth more.
fn milestone(first: usize, now: usize) -> usize {
    let mut at = first;
    loop {
        let next = at + (at / 12).max(1);
        if next > now {
            return at;
        }
        at = next;
    }
}

/// The observations that the model is made of: all, or the best and the latest.
fn chosen(finished: &[Observation], most: usize) -> Vec<&Observation> {
    if finished.len() <= most {
        return finished.iter().collect();
    }
    let mut order: Vec<usize> = (0..finished.len()).collect();
    order.sort_by(|left, right| finished[*left].rank(&finished[*right]));
    let mut keep = vec![false; finished.len()];
    for &position in &order[..most / 2] {
        keep[position] = true;
    }
    let mut left = most - most / 2;
    for keep in keep.iter_mut().rev() {
        if left > 0 && !*keep {
            *keep = true;
            left -= 1;
        }
    }
    (0..finished.len())
        .filter(|position| keep[*position])
        .map(|position| &finished[position])
        .collect()
}

/// The parameters that a model has as inputs.
struct Inputs {
    dimensions: Vec<usize>,
    categorical: Vec<bool>,
    axes: Vec<Axis>,
    parameters: usize,
}

impl Inputs {
    fn new(space: &Space) -> Self {
        let axes = space.axes();
        let dimensions: Vec<usize> = (0..axes.len())
            .filter(|dimension| axes[*dimension] != Axis::Fixed)
            .collect();
        Self {
            categorical: dimensions
                .iter()
                .map(|dimension| matches!(axes[*dimension], Axis::Categories(_)))
                .collect(),
            axes: dimensions
                .iter()
                .map(|dimension| axes[*dimension])
                .collect(),
            parameters: axes.len(),
            dimensions,
        }
    }

    /// A point without the fixed parameters; what is not active stands in the middle, or has an
    /// option of its own.
    fn of(&self, point: &[f64]) -> Vec<f64> {
        let coordinate = |(dimension, categorical): (&usize, &bool)| match point[*dimension] {
            missing if missing.is_nan() => {
                if *categorical {
                    -1.0
                } else {
                    0.5
                }
            }
            coordinate => coordinate,
        };
        self.dimensions
            .iter()
            .zip(&self.categorical)
            .map(coordinate)
            .collect()
    }

    fn back(&self, inputs: &[f64]) -> Point {
        let mut point = vec![0.0; self.parameters];
        for (dimension, input) in self.dimensions.iter().zip(inputs) {
            point[*dimension] = *input;
        }
        point
    }

    /// The kernel that fits some observations. It takes dozens of models, so that of many inputs
    /// is sought with a part of them before.
    fn kernel(&self, seen: &[Observation]) -> Kernel {
        let fitted = |most: usize, start: &[f64], steps: usize| {
            let (points, scores) = self.training(&chosen(seen, most));
            Kernel::sought(&self.categorical, &points, &scores, (start, steps))
        };
        let start = Kernel::usual(self.categorical.len());
        if self.categorical.len() <= MANY_INPUTS || seen.len() <= PART {
            return Kernel::of(&fitted(MOST_OBSERVATIONS, &start, STEPS));
        }
        let near = fitted(PART, &start, STEPS);
        Kernel::of(&fitted(MOST_OBSERVATIONS, &near, FEW_STEPS))
    }

    /// Points and standardised scores. Scores far above the median are drawn near: how bad a
    /// bad configuration is tells nothing about where the good ones are.
    fn training(&self, observations: &[&Observation]) -> (Vec<Vec<f64>>, Vec<f64>) {
        let points = observations
            .iter()
            .map(|observation| self.of(&observation.point))
            .collect();
        let mut scores: Vec<f64> = observations
            .iter()
            .map(|observation| observation.score)
            .collect();
        // A trial that was stopped early counts as no better than the worst that got through.
        let worst = observations
            .iter()
            .filter(|observation| observation.complete)
            .map(|observation| observation.score)
            .fold(f64::NEG_INFINITY, f64::max);
        if worst.is_finite() {
            for (score, observation) in scores.iter_mut().zip(observations) {
                if !observation.complete {
                    *score = score.max(0.5 * (worst + *score));
                }
            }
        }
        let mut sorted = scores.clone();
        let middle = median(&mut sorted);
        let reach = middle - sorted[0];
        if reach > 0.0 {
            for score in &mut scores {
                let above = (*score - middle) / reach;
                if above > 0.0 {
                    *score = middle + reach * libm::log1p(above);
                }
            }
        }
        (points, standardised(&scores))
    }
}

/// Scores with mean 0 and variance 1.
pub(crate) fn standardised(scores: &[f64]) -> Vec<f64> {
    let count = scores.len().max(1) as f64;
    let mean = scores.iter().sum::<f64>() / count;
    let variance = scores
        .iter()
        .map(|score| (score - mean) * (score - mean))
        .sum::<f64>()
        / count;
    let scale = if variance > 0.0 {
        1.0 / sqrt(variance)
    } else {
        1.0
    };
    scores.iter().map(|score| (score - mean) * scale).collect()
}

/// A Matérn 5/2 kernel with noise.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Kernel {
    /// One over the square of each length scale.
    inverse: Vec<f64>,
    scale: f64,
    noise: f64,
}

impl Kernel {
    /// The kernel with the largest posterior density, given points and standardised scores.
    pub(crate) fn fitted(categorical: &[bool], points: &[Vec<f64>], scores: &[f64]) -> Self {
        let start = Self::usual(categorical.len());
        Self::of(&Self::sought(categorical, points, scores, (&start, STEPS)))
    }

    /// Logarithms of the numbers of a kernel that knows nothing.
    fn usual(inputs: usize) -> Vec<f64> {
        let mut start = vec![ln(2.0); inputs];
        start.extend([0.0, ln(1e-3)]);
        start
    }

    /// Logarithms of the numbers of the best kernel that some steps lead to.
    fn sought(
        categorical: &[bool],
        points: &[Vec<f64>],
        scores: &[f64],
        (start, steps): (&[f64], usize),
    ) -> Vec<f64> {
        let count = categorical.len();
        let low = vec![-12.0; count + 2];
        let mut high = vec![9.0; count + 2];
        high[count + 1] = 1.0;
        let pairs = Pairs::new(categorical, points);
        let mut work = Work::default();
        let badness =
            |at: &[f64], gradient: &mut [f64]| pairs.badness(scores, at, gradient, &mut work);
        minimise(badness, start, &low, &high, steps).0
    }

    fn of(logarithms: &[f64]) -> Self {
        let count = logarithms.len() - 2;
        Self {
            inverse: logarithms[..count]
                .iter()
                .map(|entry| exp(*entry))
                .collect(),
            scale: exp(logarithms[count]),
            noise: exp(logarithms[count + 1]) + LEAST_NOISE,
        }
    }
}

/// What a kernel is fitted to. The squared distances of all pairs are computed whenever they are
/// needed: for many inputs they are more than fits into the processor's memory.
struct Pairs<'a> {
    categorical: &'a [bool],
    points: &'a [Vec<f64>],
    /// The points again, input by input.
    columns: Vec<Vec<f64>>,
}

#[derive(Default)]
struct Work {
    matrix: Vec<f64>,
    slope: Vec<f64>,
    inverse: Vec<f64>,
    /// Squared distances: of one point from those before it, or of two points by input.
    squares: Vec<f64>,
}

impl<'a> Pairs<'a> {
    fn new(categorical: &'a [bool], points: &'a [Vec<f64>]) -> Self {
        let column = |input: usize| points.iter().map(|point| point[input]).collect();
        Self {
            categorical,
            points,
            columns: (0..categorical.len()).map(column).collect(),
        }
    }

    /// The squared distances of a point from those before it, in length scales.
    fn distances(&self, at: usize, inverse: &[f64], distances: &mut Vec<f64>) {
        distances.clear();
        distances.resize(at, 0.0);
        let inputs = self.columns.iter().zip(self.categorical).zip(inverse);
        for ((column, categorical), inverse) in inputs {
            let here = column[at];
            for (distance, there) in distances.iter_mut().zip(column) {
                *distance += square(here, *there, *categorical) * inverse;
            }
        }
    }

    /// The squared distances of two points, input by input.
    fn between(&self, left: usize, right: usize, squares: &mut [f64]) {
        let (left, right) = (&self.points[left], &self.points[right]);
        for (square, (left, right)) in squares.iter_mut().zip(left.iter().zip(right)) {
            *square = (left - right) * (left - right);
        }
        for (input, _) in self.categorical.iter().enumerate().filter(|(_, is)| **is) {
            squares[input] = square(left[input], right[input], true);
        }
    }

    /// The negative logarithm of the posterior density of a kernel, and its gradient.
    fn badness(
        &self,
        scores: &[f64],
        logarithms: &[f64],
        gradient: &mut [f64],
        work: &mut Work,
    ) -> f64 {
        let kernel = Kernel::of(logarithms);
        let (n, inputs) = (self.points.len(), self.categorical.len());
        work.matrix.clear();
        work.matrix.resize(n * n, 0.0);
        work.slope.clear();
        work.slope.resize(n * n, 0.0);
        for i in 0..n {
            self.distances(i, &kernel.inverse, &mut work.squares);
            for (j, distance) in work.squares.iter().enumerate() {
                let (value, slope) = matern(*distance);
                work.matrix[i * n + j] = kernel.scale * value;
                work.slope[i * n + j] = kernel.scale * slope;
            }
            work.matrix[i * n + i] = kernel.scale + kernel.noise;
        }
        let covariance = work.matrix.clone();
        if !factor(&mut work.matrix, n) {
            gradient.fill(0.0);
            return f64::INFINITY;
        }
        let half_log_determinant: f64 = (0..n).map(|i| ln(work.matrix[i * n + i])).sum();
        invert(&work.matrix, n, &mut work.inverse);
        let weights: Vec<f64> = (0..n)
            .map(|i| dot(&work.inverse[i * n..(i + 1) * n], scores))
            .collect();
        let mut badness = 0.5 * dot(&weights, scores) + half_log_determinant;
        // The derivative by an entry of the covariance is half of inverse - weights weights'.
        gradient.fill(0.0);
        let mut by_scale = 0.0;
        let mut by_noise = 0.0;
        work.squares.resize(inputs, 0.0);
        for i in 0..n {
            for j in 0..i {
                let share = work.inverse[i * n + j] - weights[i] * weights[j];
                by_scale += share * covariance[i * n + j];
                let by_distance = share * work.slope[i * n + j];
                self.between(i, j, &mut work.squares);
                for (entry, square) in gradient.iter_mut().zip(&work.squares) {
                    *entry += by_distance * square;
                }
            }
            let share = work.inverse[i * n + i] - weights[i] * weights[i];
            by_scale += 0.5 * share * kernel.scale;
            by_noise += 0.5 * share;
        }
        for (entry, inverse) in gradient.iter_mut().zip(&kernel.inverse) {
            *entry *= inverse;
            badness += 0.1 * (1.0 / inverse + inverse);
            *entry += 0.1 * (inverse - 1.0 / inverse);
        }
        let free_noise = kernel.noise - LEAST_NOISE;
        badness += kernel.scale - ln(kernel.scale);
        badness += 30.0 * kernel.noise - 0.1 * ln(kernel.noise);
        gradient[inputs] = by_scale + kernel.scale - 1.0;
        gradient[inputs + 1] = free_noise * (by_noise + 30.0 - 0.1 / kernel.noise);
        badness
    }
}

fn square(left: f64, right: f64, categorical: bool) -> f64 {
    match categorical {
        true if left == right => 0.0,
        true => 1.0,
        false => (left - right) * (left - right),
    }
}

/// The kernel at a squared distance, and its derivative by the squared distance.
#[inline]
fn matern(square: f64) -> (f64, f64) {
    let r = sqrt(5.0 * square);
    let decay = fast_exp(-r);
    (
        decay * (1.0 + r + 5.0 / 3.0 * square),
        -5.0 / 6.0 * decay * (1.0 + r),
    )
}

/// Replaces the lower half of a positive matrix by its Cholesky factor; false if it is not positive.
fn factor(matrix: &mut [f64], n: usize) -> bool {
    for i in 0..n {
        let (above, row) = matrix.split_at_mut(i * n);
        let row = &mut row[..n];
        for j in 0..i {
            let other = &above[j * n..j * n + n];
            row[j] = (row[j] - dot(&row[..j], &other[..j])) / other[j];
        }
        let rest = row[i] - dot(&row[..i], &row[..i]);
        if rest <= 0.0 || !rest.is_finite() {
            return false;
        }
        row[i] = sqrt(rest);
    }
    true
}

/// The inverse of a matrix, given its Cholesky factor.
fn invert(factor: &[f64], n: usize, inverse: &mut Vec<f64>) {
    // Row `j` of `upper` is column `j` of the factor's inverse.
    let mut upper = vec![0.0; n * n];
    for j in 0..n {
        let column = &mut upper[j * n..(j + 1) * n];
        column[j] = 1.0 / factor[j * n + j];
        for i in j + 1..n {
            let row = &factor[i * n..(i + 1) * n];
            column[i] = -dot(&row[j..i], &column[j..i]) / row[i];
        }
    }
    inverse.clear();
    inverse.resize(n * n, 0.0);
    for i in 0..n {
        for j in 0..=i {
            let entry = dot(
                &upper[i * n + i..(i + 1) * n],
                &upper[j * n + i..(j + 1) * n],
            );
            inverse[i * n + j] = entry;
            inverse[j * n + i] = entry;
        }
    }
}

/// A process with its data.
pub(crate) struct Model {
    kernel: Kernel,
    categorical: Vec<bool>,
    points: Vec<Vec<f64>>,
    /// The points again, input by input.
    columns: Vec<Vec<f64>>,
    scores: Vec<f64>,
    inverse: Vec<f64>,
    weights: Vec<f64>,
}

impl Model {
    /// Takes points and standardised scores in.
    pub(crate) fn new(
        kernel: &Kernel,
        categorical: &[bool],
        points: Vec<Vec<f64>>,
        scores: Vec<f64>,
    ) -> Self {
        let n = points.len();
        let mut kernel = kernel.clone();
        let mut inverse = Vec::new();
        // Nearly equal points make the matrix singular; more noise always mends that.
        for _ in 0..20 {
            let mut matrix = vec![0.0; n * n];
            for i in 0..n {
                for j in 0..i {
                    let distance = distance(&kernel, categorical, &points[i], &points[j]);
                    matrix[i * n + j] = kernel.scale * matern(distance).0;
                }
                matrix[i * n + i] = kernel.scale + kernel.noise;
            }
            if factor(&mut matrix, n) {
                invert(&matrix, n, &mut inverse);
                break;
            }
            kernel.noise *= 10.0;
        }
        inverse.resize(n * n, 0.0);
        let weights = (0..n)
            .map(|i| dot(&inverse[i * n..(i + 1) * n], &scores))
            .collect();
        let columns = (0..categorical.len())
            .map(|input| points.iter().map(|point| point[input]).collect())
            .collect();
        Self {
            kernel,
            categorical: categorical.to_vec(),
            columns,
            points,
            scores,
            inverse,
            weights,
        }
    }

    /// The mean and the variance at a point.
    pub(crate) fn expect(&self, at: &[f64]) -> (f64, f64) {
        let n = self.points.len();
        let mut near = self.distances(at);
        for near in &mut near {
            *near = self.kernel.scale * matern(*near).0;
        }
        // The inverse is symmetric, so half of it is enough.
        let mut explained = 0.0;
        for i in 0..n {
            let row = &self.inverse[i * n..=i * n + i];
            explained += near[i] * (2.0 * dot(&row[..i], &near[..i]) + row[i] * near[i]);
        }
        let variance = (self.kernel.scale - explained).max(1e-10);
        (dot(&near, &self.weights), variance)
    }

    /// The squared distances from all points, in length scales.
    fn distances(&self, at: &[f64]) -> Vec<f64> {
        let mut distances = vec![0.0; self.points.len()];
        for (input, column) in self.columns.iter().enumerate() {
            let (here, inverse) = (at[input], self.kernel.inverse[input]);
            if self.categorical[input] {
                for (distance, there) in distances.iter_mut().zip(column) {
                    *distance += if here == *there { 0.0 } else { inverse };
                }
            } else {
                for (distance, there) in distances.iter_mut().zip(column) {
                    *distance += inverse * (here - there) * (here - there);
                }
            }
        }
        distances
    }

    /// As [`Self::expect`], with the derivatives of mean and variance.
    fn slopes(&self, at: &[f64]) -> (f64, f64, Vec<f64>, Vec<f64>) {
        let n = self.points.len();
        let mut near = Vec::with_capacity(n);
        let mut steep = Vec::with_capacity(n);
        for distance in self.distances(at) {
            let (value, slope) = matern(distance);
            near.push(self.kernel.scale * value);
            steep.push(self.kernel.scale * slope);
        }
        let mut explained = 0.0;
        let mut of_mean = vec![0.0; at.len()];
        let mut of_variance = vec![0.0; at.len()];
        for i in 0..n {
            let pull = dot(&self.inverse[i * n..(i + 1) * n], &near);
            explained += near[i] * pull;
            for input in 0..at.len() {
                if !self.categorical[input] {
                    let slope = 2.0
                        * steep[i]
                        * self.kernel.inverse[input]
                        * (at[input] - self.points[i][input]);
                    of_mean[input] += slope * self.weights[i];
                    of_variance[input] -= 2.0 * slope * pull;
                }
            }
        }
        let variance = (self.kernel.scale - explained).max(1e-10);
        (dot(&near, &self.weights), variance, of_mean, of_variance)
    }
}

#[inline]
fn distance(kernel: &Kernel, categorical: &[bool], left: &[f64], right: &[f64]) -> f64 {
    let mut sum = 0.0;
    for input in 0..categorical.len() {
        sum += kernel.inverse[input] * square(left[input], right[input], categorical[input]);
    }
    sum
}

/// The logarithm of the expected improvement over the best score, to be maximised.
struct Acquisition<'a> {
    model: &'a Model,
    target: f64,
    inputs: &'a Inputs,
    space: &'a Space,
    fixed: Point,
}

impl Acquisition<'_> {
    fn maximise(&self, best: &[f64], candidates: usize, stream: &mut Stream) -> Vec<f64> {
        let mut starts: Vec<(f64, Vec<f64>)> = (0..candidates)
            .map(|number| {
                let mut point: Vec<f64> = match number % 4 {
                    0 => self.near(best, stream),
                    _ => self
                        .inputs
                        .axes
                        .iter()
                        .map(|axis| anywhere(*axis, stream))
                        .collect(),
                };
                self.settle(&mut point);
                (self.value(&point), point)
            })
            .collect();
        starts.sort_by(|left, right| right.0.total_cmp(&left.0));
        starts.truncate(3);
        let mut incumbent = best.to_vec();
        self.settle(&mut incumbent);
        starts.push((self.value(&incumbent), incumbent));
        let mut winner = starts[0].clone();
        for (value, point) in starts {
            let improved = self.improve(value, point);
            if improved.0 > winner.0 {
                winner = improved;
            }
        }
        winner.1
    }

    /// A point some way off the best one: a few coordinates change, by little or much.
    fn near(&self, best: &[f64], stream: &mut Stream) -> Vec<f64> {
        let reach = libm::pow(10.0, -3.0 * stream.uniform());
        self.inputs
            .axes
            .iter()
            .zip(best)
            .map(|(axis, here)| match axis {
                Axis::Categories(_) if stream.uniform() < 0.2 => anywhere(*axis, stream),
                Axis::Categories(_) => *here,
                _ => (here + reach * (stream.uniform() - 0.5)).clamp(0.0, 1.0),
            })
            .collect()
    }

    /// Moves a point onto values that exist, and those that are given.
    fn settle(&self, point: &mut [f64]) {
        for (input, dimension) in self.inputs.dimensions.iter().enumerate() {
            let given = self.fixed[*dimension];
            if !given.is_nan() {
                point[input] = given;
            } else if let Axis::Levels(_) = self.inputs.axes[input] {
                let domain = &self.space.parameters()[*dimension].domain;
                point[input] = domain.level(domain.level_at(point[input]));
            } else if point[input] < 0.0 {
                point[input] = 0.0;
            }
        }
    }

    fn value(&self, at: &[f64]) -> f64 {
        let (mean, variance) = self.model.expect(at);
        let deviation = sqrt(variance);
        log_improvement((self.target - mean) / deviation).0 + ln(deviation)
    }

    /// Climbs on the continuous inputs, then tries other levels and options, in turns.
    fn improve(&self, value: f64, point: Vec<f64>) -> (f64, Vec<f64>) {
        let smooth: Vec<usize> = (0..point.len())
            .filter(|input| self.inputs.axes[*input] == Axis::Continuous)
            .filter(|input| self.fixed[self.inputs.dimensions[*input]].is_nan())
            .collect();
        let (mut value, mut point) = (value, point);
        for _ in 0..3 {
            let before = value;
            if !smooth.is_empty() {
                let mut at = point.clone();
                let start: Vec<f64> = smooth.iter().map(|input| point[*input]).collect();
                let negated = |x: &[f64], gradient: &mut [f64]| {
                    for (input, x) in smooth.iter().zip(x) {
                        at[*input] = *x;
                    }
                    let (mean, variance, of_mean, of_variance) = self.model.slopes(&at);
                    let deviation = sqrt(variance);
                    let (log, by_mean, by_deviation) =
                        log_improvement((self.target - mean) / deviation);
                    for (entry, input) in gradient.iter_mut().zip(&smooth) {
                        let of_deviation = of_variance[*input] / (2.0 * deviation);
                        *entry =
                            (by_mean * of_mean[*input] - by_deviation * of_deviation) / deviation;
                    }
                    -(log + ln(deviation))
                };
                let (low, high) = (vec![0.0; smooth.len()], vec![1.0; smooth.len()]);
                let (found, badness) = minimise(negated, &start, &low, &high, 30);
                if -badness > value {
                    value = -badness;
                    for (input, x) in smooth.iter().zip(found) {
                        point[*input] = x;
                    }
                }
            }
            for input in 0..point.len() {
                if self.fixed[self.inputs.dimensions[input]].is_nan() {
                    for other in self.others(input, point[input]) {
                        let old = std::mem::replace(&mut point[input], other);
                        let found = self.value(&point);
                        if found > value {
                            value = found;
                        } else {
                            point[input] = old;
                        }
                    }
                }
            }
            if value - before < 1e-3 || smooth.len() == point.len() {
                break;
            }
        }
        (value, point)
    }

    /// Other values of a discrete input: all of a few, the neighbours and jumps of many.
    fn others(&self, input: usize, here: f64) -> Vec<f64> {
        let domain = &self.space.parameters()[self.inputs.dimensions[input]].domain;
        match self.inputs.axes[input] {
            Axis::Categories(count) => (0..count.min(64)).map(|option| option as f64).collect(),
            Axis::Levels(count) if count <= 8 => {
                (0..count).map(|level| domain.level(level)).collect()
            }
            Axis::Levels(count) => {
                let level = domain.level_at(here);
                let mut others = Vec::new();
                let mut jump = 1;
                while jump < count && others.len() < 10 {
                    others.extend(level.checked_sub(jump).map(|level| domain.level(level)));
                    if level + jump < count {
                        others.push(domain.level(level + jump));
                    }
                    jump *= 4;
                }
                others
            }
            Axis::Continuous | Axis::Fixed => Vec::new(),
        }
    }
}

fn anywhere(axis: Axis, stream: &mut Stream) -> f64 {
    match axis {
        Axis::Categories(count) => stream.below(count) as f64,
        _ => stream.uniform(),
    }
}

/// ln h(z) for h(z) = phi(z) + z Phi(z), and Phi / h and phi / h.
fn log_improvement(z: f64) -> (f64, f64, f64) {
    if z > -20.0 {
        let (density, below) = (normal_pdf(z), normal_cdf(z));
        let h = density + z * below;
        return (ln(h), below / h, density / h);
    }
    // The first terms of the asymptotic series; what is left out is below 1e-5 of the value.
    let inverse = 1.0 / (z * z);
    let h = inverse * (1.0 - 3.0 * inverse + 15.0 * inverse * inverse);
    let below = -1.0 / z * (1.0 - inverse + 3.0 * inverse * inverse);
    (-0.5 * z * z - LN_SQRT_2PI + ln(h), below / h, 1.0 / h)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gradients_are_those_of_the_functions() {
        let mut stream = Stream::new(7, 0, Purpose::Search);
        let points: Vec<Vec<f64>> = (0..12)
            .map(|_| vec![stream.uniform(), stream.uniform(), stream.below(3) as f64])
            .collect();
        let scores = standardised(
            &points
                .iter()
                .map(|p| p[0] * p[0] - p[1] + p[2])
                .collect::<Vec<f64>>(),
        );
        let categorical = [false, false, true];
        let squares = Pairs::new(&categorical, &points);
        let at = vec![0.3, -0.5, 0.1, 0.2, -3.0];
        let mut gradient = vec![0.0; 5];
        let mut work = Work::default();
        squares.badness(&scores, &at, &mut gradient, &mut work);
        for i in 0..5 {
            let mut value = |step: f64| {
                let mut moved = at.clone();
                moved[i] += step;
                squares.badness(&scores, &moved, &mut [0.0; 5], &mut work)
            };
            let slope = (value(1e-5) - value(-1e-5)) / 2e-5;
            assert!(
                (slope - gradient[i]).abs() < 1e-5 * (1.0 + slope.abs()),
                "{i}: {slope} {}",
                gradient[i]
            );
        }
        let kernel = Kernel::of(&at);
        let model = Model::new(&kernel, &categorical, points, scores);
        let here = [0.4, 0.6, 1.0];
        let (_, _, of_mean, of_variance) = model.slopes(&here);
        for i in 0..2 {
            let moved = |step: f64| {
                let mut moved = here;
                moved[i] += step;
                model.expect(&moved)
            };
            let (above, below) = (moved(1e-6), moved(-1e-6));
            assert!(((above.0 - below.0) / 2e-6 - of_mean[i]).abs() < 1e-5);
            assert!(((above.1 - below.1) / 2e-6 - of_variance[i]).abs() < 1e-5);
        }
    }

    #[test]
    fn the_improvement_has_no_seam() {
        let left = log_improvement(-20.0 - 1e-9);
        let right = log_improvement(-20.0 + 1e-9);
        assert!((left.0 - right.0).abs() < 1e-4, "{left:?} {right:?}");
        assert!((left.1 / right.1 - 1.0).abs() < 1e-3 && (left.2 / right.2 - 1.0).abs() < 1e-3);
        assert!(log_improvement(-1e6).0.is_finite());
    }
}
