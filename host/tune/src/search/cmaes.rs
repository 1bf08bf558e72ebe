//! Covariance matrix adaptation.
//!
//! Sources: Hansen, "The CMA Evolution Strategy: A Tutorial", 2016, with its default constants;
//! Hansen, "Injecting External Solutions Into CMA-ES", 2011, by which outcomes of older
//! distributions are taken in; Auger, Hansen, "A Restart CMA Evolution Strategy With Increasing
//! Population Size", CEC 2005; Hamano, Saito, Nomura, Shirakawa, "CMA-ES with Margin", GECCO
//! 2022, whose idea keeps discrete parameters moving: here a least standard deviation of half a
//! cell. Options are drawn by how often they stand among the best outcomes, as no distance
//! between them exists.

use crate::domain::Axis;
use crate::history::{History, Observation};
use crate::math::{dot, exp, ln, sqrt};
use crate::search::Request;
use crate::space::{Config, Point, Space};
use crate::stream::{Purpose, Stream};

/// The strategy: a fold over the outcomes in the order they came in.
#[derive(Debug, Clone, Default)]
pub(super) struct Cmaes {
    seen: usize,
    state: Option<State>,
}

#[derive(Debug, Clone)]
struct State {
    mean: Vec<f64>,
    sigma: f64,
    covariance: Vec<Vec<f64>>,
    path: Vec<f64>,
    sigma_path: Vec<f64>,
    /// Of the covariance.
    shape: Shape,
    population: usize,
    generations: usize,
    /// The best score of some past generations, to see when it has stopped falling.
    best: Vec<f64>,
    restarts: usize,
}

/// A covariance by its principal axes.
#[derive(Debug, Clone)]
struct Shape {
    /// Each row is an axis.
    axes: Vec<Vec<f64>>,
    /// The standard deviation along each.
    deviations: Vec<f64>,
}

impl Cmaes {
    /// A strategy that has seen nothing.
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Whether a suggestion may take more than some milliseconds: where much has been learnt since
    /// the last, as after a restart, or axes of many parameters are computed anew.
    pub(super) fn thinks_long(&self, parameters: usize, trials: usize) -> bool {
        let generations = trials.saturating_sub(self.seen) / population(parameters).max(1);
        let many = parameters.max(16);
        (generations + 1) * many * many * many > 500_000
    }

    /// Suggests the configuration of a trial.
    pub(crate) fn suggest(
        &mut self,
        space: &Space,
        history: &History,
        request: &Request<'_>,
    ) -> Option<Config> {
        let axes = space.axes();
        let ordered: Vec<usize> = (0..axes.len())
            .filter(|at| matches!(axes[*at], Axis::Continuous | Axis::Levels(_)))
            .collect();
        let finished = &history.finished;
        if finished.is_empty() || ordered.is_empty() {
            return None;
        }
        let least: Vec<f64> = ordered
            .iter()
            .map(|at| match axes[*at] {
                Axis::Levels(levels) => 0.5 / levels as f64,
                _ => 0.0,
            })
            .collect();
        if self.seen > finished.len() {
            *self = Self::new();
        }
        if self.state.is_none() {
            let mean = ordered
                .iter()
                .map(|at| usable(finished[0].point[*at]))
                .collect();
            self.state = Some(State::new(mean, population(ordered.len()), 0));
            self.seen = 1;
        }
        let state = self.state.as_mut()?;
        while finished.len() - self.seen >= state.population {
            let group = &finished[self.seen..self.seen + state.population];
            self.seen += state.population;
            state.learn(group, &ordered);
            if state.is_exhausted(&least) {
                let mut stream =
                    Stream::new(request.seed, state.restarts as u64, Purpose::Schedule);
                let mean = ordered.iter().map(|_| stream.uniform()).collect();
                *state = State::new(mean, state.population * 2, state.restarts + 1);
            }
        }
        let mut stream = Stream::new(request.seed, request.trial, Purpose::Search);
        let drawn = state.draw(&least, &mut stream);
        let mut point: Point = axes
            .iter()
            .enumerate()
            .map(|(at, axis)| match axis {
                Axis::Categories(count) => option(finished, at, *count, &mut stream),
                _ => 0.0,
            })
            .collect();
        for (at, coordinate) in ordered.iter().zip(drawn) {
            point[*at] = coordinate;
        }
        Some(space.decode(&point, request.fixed))
    }
}

/// The default size of a generation.
fn population(dimensions: usize) -> usize {
    4 + crate::math::index(3.0 * ln(dimensions as f64))
}

/// Draws an option: each as likely as it is frequent among the best quarter, and a little more.
fn option(finished: &[Observation], at: usize, count: usize, stream: &mut Stream) -> f64 {
    let mut order: Vec<&Observation> = finished.iter().collect();
    order.sort_by(|left, right| left.rank(right));
    let good = finished.len().div_ceil(4).min(20);
    let mut weights = vec![1.0 / count as f64; count];
    for observation in &order[..good] {
        let coordinate = observation.point[at];
        if !coordinate.is_nan() {
            weights[crate::math::index(coordinate).min(count - 1)] += 1.0;
        }
    }
    let mut left = stream.uniform() * weights.iter().sum::<f64>();
    for (option, weight) in weights.iter().enumerate() {
        left -= weight;
        if left < 0.0 {
            return option as f64;
        }
    }
    (count - 1) as f64
}

fn usable(coordinate: f64) -> f64 {
    if coordinate.is_nan() { 0.5 } else { coordinate }
}

impl State {
    fn new(mean: Vec<f64>, population: usize, restarts: usize) -> Self {
        let n = mean.len();
        Self {
            sigma: 1.0 / 6.0,
            covariance: identity(n),
            path: vec![0.0; n],
            sigma_path: vec![0.0; n],
            shape: Shape {
                axes: identity(n),
                deviations: vec![1.0; n],
            },
            population,
            generations: 0,
            best: Vec::new(),
            restarts,
            mean,
        }
    }

    /// Draws a point inside the unit cube: what falls outside is drawn again, then moved in.
    fn draw(&self, least: &[f64], stream: &mut Stream) -> Vec<f64> {
        let n = self.mean.len();
        let mut point = vec![0.0; n];
        for _ in 0..20 {
            let z: Vec<f64> = (0..n).map(|_| stream.normal()).collect();
            let along = self.shape.coloured(&z);
            for i in 0..n {
                let deviation = self.sigma * sqrt(self.covariance[i][i].max(0.0));
                let stretch = if deviation > 0.0 {
                    (least[i] / deviation).max(1.0)
                } else {
                    1.0
                };
                point[i] = self.mean[i] + self.sigma * along[i] * stretch;
            }
            if point.iter().all(|x| (0.0..=1.0).contains(x)) {
                return point;
            }
        }
        point.iter().map(|x| x.clamp(0.0, 1.0)).collect()
    }

    /// Takes in one generation of outcomes.
    fn learn(&mut self, group: &[Observation], ordered: &[usize]) {
        let n = self.mean.len();
        let dimensions = n as f64;
        let mut order: Vec<&Observation> = group.iter().collect();
        order.sort_by(|left, right| left.rank(right));
        self.best.push(order[0].score);
        let parents = self.population / 2;
        let raw: Vec<f64> = (0..parents)
            .map(|rank| ln((self.population as f64 + 1.0) / 2.0) - ln(rank as f64 + 1.0))
            .collect();
        let sum: f64 = raw.iter().sum();
        let weights: Vec<f64> = raw.iter().map(|weight| weight / sum).collect();
        let mass = 1.0 / weights.iter().map(|weight| weight * weight).sum::<f64>();
        let c_sigma = (mass + 2.0) / (dimensions + mass + 5.0);
        let damping =
            1.0 + 2.0 * (sqrt((mass - 1.0) / (dimensions + 1.0)) - 1.0).max(0.0) + c_sigma;
        let c_path = (4.0 + mass / dimensions) / (dimensions + 4.0 + 2.0 * mass / dimensions);
        let c_one = 2.0 / ((dimensions + 1.3) * (dimensions + 1.3) + mass);
        let c_many = (2.0 * (mass - 2.0 + 1.0 / mass)
            / ((dimensions + 2.0) * (dimensions + 2.0) + mass))
            .min(1.0 - c_one)
            .max(0.0);
        let usual = sqrt(dimensions)
            * (1.0 - 1.0 / (4.0 * dimensions) + 1.0 / (21.0 * dimensions * dimensions));
        // Steps of the best, in units of sigma; those of other distributions are cut to a length
        // that this one could have drawn.
        let longest = sqrt(dimensions) + 2.0 * dimensions / (dimensions + 2.0);
        let steps: Vec<Vec<f64>> = order[..parents]
            .iter()
            .map(|observation| {
                let step: Vec<f64> = ordered
                    .iter()
                    .zip(&self.mean)
                    .map(|(at, mean)| (usable(observation.point[*at]) - mean) / self.sigma)
                    .collect();
                let length = sqrt(self.shape.whitened(&step).iter().map(|x| x * x).sum());
                let cut = (longest / length.max(1e-300)).min(1.0);
                step.into_iter().map(|entry| entry * cut).collect()
            })
            .collect();
        let mut shift = vec![0.0; n];
        for (weight, step) in weights.iter().zip(&steps) {
            for (entry, step) in shift.iter_mut().zip(step) {
                *entry += weight * step;
            }
        }
        for (mean, shift) in self.mean.iter_mut().zip(&shift) {
            *mean = (*mean + self.sigma * shift).clamp(0.0, 1.0);
        }
        let whitened = self.shape.whitened(&shift);
        let push = sqrt(c_sigma * (2.0 - c_sigma) * mass);
        for (path, entry) in self.sigma_path.iter_mut().zip(&whitened) {
            *path = (1.0 - c_sigma) * *path + push * entry;
        }
        let length = sqrt(self.sigma_path.iter().map(|x| x * x).sum());
        self.generations += 1;
        let decay = 1.0 - libm::pow(1.0 - c_sigma, 2.0 * self.generations as f64);
        let is_short = length / sqrt(decay) < (1.4 + 2.0 / (dimensions + 1.0)) * usual;
        let keep = if is_short { 1.0 } else { 0.0 };
        let push = keep * sqrt(c_path * (2.0 - c_path) * mass);
        for (path, shift) in self.path.iter_mut().zip(&shift) {
            *path = (1.0 - c_path) * *path + push * shift;
        }
        let lost = (1.0 - keep) * c_one * c_path * (2.0 - c_path);
        for i in 0..n {
            for j in 0..n {
                let many: f64 = weights
                    .iter()
                    .zip(&steps)
                    .map(|(weight, step)| weight * step[i] * step[j])
                    .sum();
                self.covariance[i][j] = (1.0 - c_one - c_many + lost) * self.covariance[i][j]
                    + c_one * self.path[i] * self.path[j]
                    + c_many * many;
            }
        }
        self.sigma *= exp((c_sigma / damping * (length / usual - 1.0)).min(1.0));
        self.sigma = self.sigma.clamp(1e-12, 1.0);
        self.shape = Shape::of(&self.covariance);
    }

    /// Whether the strategy has come to rest, so that another start finds more.
    fn is_exhausted(&self, least: &[f64]) -> bool {
        let small = (0..self.mean.len()).all(|i| {
            self.sigma * sqrt(self.covariance[i][i].max(0.0)) < 1e-6_f64.max(0.1 * least[i])
        });
        let patience = 10 + 30 * self.mean.len() / self.population;
        let flat = self.best.len() > patience && {
            let recent = &self.best[self.best.len() - patience..];
            let low = recent.iter().copied().fold(f64::INFINITY, f64::min);
            let high = recent.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            high - low <= 1e-12 * (1.0 + low.abs())
        };
        small || flat
    }
}

fn identity(n: usize) -> Vec<Vec<f64>> {
    (0..n)
        .map(|i| (0..n).map(|j| if i == j { 1.0 } else { 0.0 }).collect())
        .collect()
}

impl Shape {
    fn of(covariance: &[Vec<f64>]) -> Self {
        let (values, axes) = eigen(covariance);
        let largest = values.iter().copied().fold(0.0, f64::max).max(1e-300);
        let deviations = values
            .into_iter()
            .map(|value| sqrt(value.max(1e-14 * largest)));
        Self {
            deviations: deviations.collect(),
            axes,
        }
    }

    /// Gives independent numbers this covariance: its symmetric root times them.
    fn coloured(&self, vector: &[f64]) -> Vec<f64> {
        self.scaled(vector, |deviation| deviation)
    }

    /// Undoes [`Self::coloured`].
    fn whitened(&self, vector: &[f64]) -> Vec<f64> {
        self.scaled(vector, |deviation| 1.0 / deviation)
    }

    fn scaled(&self, vector: &[f64], factor: impl Fn(f64) -> f64) -> Vec<f64> {
        let mut scaled = vec![0.0; vector.len()];
        for (axis, deviation) in self.axes.iter().zip(&self.deviations) {
            let along = dot(axis, vector) * factor(*deviation);
            for (entry, part) in scaled.iter_mut().zip(axis) {
                *entry += along * part;
            }
        }
        scaled
    }
}

/// Eigenvalues and, as rows, eigenvectors of a symmetric matrix.
///
/// By reflections to three diagonals, then by rotations that make the outer ones vanish, with
/// shifts: Golub, Van Loan, "Matrix Computations", 4th ed. (2013), sections 8.3.1 and 8.3.3;
/// Martin, Wilkinson, "The Implicit QL Algorithm", Numerische Mathematik 12 (1968).
fn eigen(matrix: &[Vec<f64>]) -> (Vec<f64>, Vec<Vec<f64>>) {
    let (mut diagonal, mut beside, mut rows) = tridiagonal(matrix);
    let n = diagonal.len();
    for first in 0..n {
        // More turns than two or three are never seen.
        for _ in 0..60 {
            let is_small = |at: &usize| {
                let around = diagonal[*at].abs() + diagonal[*at + 1].abs();
                beside[*at].abs() <= f64::EPSILON * around
            };
            let last = (first..n - 1).find(is_small).unwrap_or(n - 1);
            if last == first {
                break;
            }
            chase(first, last, &mut diagonal, &mut beside, &mut rows);
        }
    }
    (diagonal, rows)
}

/// One turn of rotations between two places of the diagonal, from the last up to the first.
fn chase(
    first: usize,
    last: usize,
    diagonal: &mut [f64],
    beside: &mut [f64],
    rows: &mut [Vec<f64>],
) {
    let half = (diagonal[first + 1] - diagonal[first]) / (2.0 * beside[first]);
    let root = sqrt(half * half + 1.0).copysign(half);
    let mut front = diagonal[last] - diagonal[first] + beside[first] / (half + root);
    let (mut sine, mut cosine, mut moved) = (1.0, 1.0, 0.0);
    for at in (first..last).rev() {
        let (bulge, below) = (sine * beside[at], cosine * beside[at]);
        let length = sqrt(bulge * bulge + front * front);
        beside[at + 1] = length;
        if length == 0.0 {
            // It has fallen apart here.
            diagonal[at + 1] -= moved;
            beside[last] = 0.0;
            return;
        }
        (sine, cosine) = (bulge / length, front / length);
        let base = diagonal[at + 1] - moved;
        let turned = (diagonal[at] - base) * sine + 2.0 * cosine * below;
        moved = sine * turned;
        diagonal[at + 1] = base + moved;
        front = cosine * turned - below;
        let (upper, lower) = rows.split_at_mut(at + 1);
        for (above, below) in upper[at].iter_mut().zip(&mut lower[0]) {
            (*above, *below) = (
                cosine * *above - sine * *below,
                sine * *above + cosine * *below,
            );
        }
    }
    diagonal[first] -= moved;
    beside[first] = front;
    beside[last] = 0.0;
}

/// The diagonal of a similar matrix that has but three, what stands beside it (a last 0 with
/// it), and as rows the directions that it is written in.
fn tridiagonal(matrix: &[Vec<f64>]) -> (Vec<f64>, Vec<f64>, Vec<Vec<f64>>) {
    let n = matrix.len();
    let mut rest = matrix.to_vec();
    let mut beside = vec![0.0; n];
    let mut reflections: Vec<(f64, Vec<f64>)> = Vec::new();
    for column in 0..n.saturating_sub(2) {
        let mut normal: Vec<f64> = (column + 1..n).map(|row| rest[row][column]).collect();
        let length = sqrt(dot(&normal, &normal));
        let target = -length.copysign(normal[0]);
        beside[column] = target;
        normal[0] -= target;
        let square = dot(&normal, &normal);
        let strength = if square > 0.0 { 2.0 / square } else { 0.0 };
        let block = &mut rest[column + 1..];
        let image: Vec<f64> = block
            .iter()
            .map(|row| strength * dot(&row[column + 1..], &normal))
            .collect();
        let half = 0.5 * strength * dot(&image, &normal);
        let change: Vec<f64> = image
            .iter()
            .zip(&normal)
            .map(|(image, normal)| image - half * normal)
            .collect();
        for (at, row) in block.iter_mut().enumerate() {
            let pairs = normal.iter().zip(&change);
            for (entry, (normal_there, change_there)) in row[column + 1..].iter_mut().zip(pairs) {
                *entry -= normal[at] * change_there + change[at] * normal_there;
            }
        }
        reflections.push((strength, normal));
    }
    if n > 1 {
        beside[n - 2] = rest[n - 1][n - 2];
    }
    let mut rows = identity(n);
    for (column, (strength, normal)) in reflections.iter().enumerate().rev() {
        for row in &mut rows[column + 1..] {
            let part = &mut row[column + 1..];
            let along = strength * dot(part, normal);
            for (entry, normal) in part.iter_mut().zip(normal) {
                *entry -= along * normal;
            }
        }
    }
    ((0..n).map(|at| rest[at][at]).collect(), beside, rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eigenvectors_are_orthogonal_and_rebuild_the_matrix() {
        let mut stream = Stream::new(3, 0, Purpose::Search);
        let mut matrices = vec![
            vec![vec![2.0]],
            identity(5),
            vec![vec![0.0; 3]; 3],
            vec![
                vec![4.0, 1.0, -0.5],
                vec![1.0, 3.0, 0.2],
                vec![-0.5, 0.2, 0.1],
            ],
        ];
        for n in [2, 7, 40] {
            let mut matrix = identity(n);
            for _ in 0..n / 2 {
                let direction: Vec<f64> = (0..n).map(|_| stream.normal()).collect();
                let weight = exp(8.0 * stream.uniform() - 4.0);
                for i in 0..n {
                    for j in 0..n {
                        matrix[i][j] += weight * direction[i] * direction[j];
                    }
                }
            }
            matrices.push(matrix);
        }
        for matrix in matrices {
            let n = matrix.len();
            let (values, axes) = eigen(&matrix);
            let size = values.iter().copied().fold(1.0, f64::max);
            for i in 0..n {
                for j in 0..n {
                    let sum: f64 = (0..n).map(|k| axes[k][i] * values[k] * axes[k][j]).sum();
                    assert!((sum - matrix[i][j]).abs() < 1e-12 * size, "{n}: {i}, {j}");
                    let product = dot(&axes[i], &axes[j]);
                    let expected = if i == j { 1.0 } else { 0.0 };
                    assert!((product - expected).abs() < 1e-12, "{n}: {i}, {j}");
                }
            }
        }
    }
}
