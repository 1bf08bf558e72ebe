//! Minimising smooth functions inside a box.

use crate::math::{dot, sqrt};

/// How many steps back the curvature is remembered.
const MEMORY: usize = 8;

/// Minimises `value` inside `low..=high`, by L-BFGS on the coordinates that are not held at a
/// bound by their gradient.
///
/// `value` writes the gradient into its second argument. Ends after `iterations` steps, or when
/// a step no longer helps. Source: Nocedal, Wright, "Numerical Optimization", 2nd ed. (2006),
/// algorithm 7.4, with the projection of Bertsekas, "Projected Newton Methods for Optimization
/// Problems with Simple Constraints", SIAM J. Control Optim. 20 (1982).
pub(crate) fn minimise(
    mut value: impl FnMut(&[f64], &mut [f64]) -> f64,
    start: &[f64],
    low: &[f64],
    high: &[f64],
    iterations: usize,
) -> (Vec<f64>, f64) {
    let count = start.len();
    let mut x = start.to_vec();
    let mut gradient = vec![0.0; count];
    let mut best = value(&x, &mut gradient);
    let mut steps: Vec<(Vec<f64>, Vec<f64>)> = Vec::new();
    let mut next = vec![0.0; count];
    let mut next_gradient = vec![0.0; count];
    for _ in 0..iterations {
        let free: Vec<bool> = (0..count)
            .map(|i| {
                !((x[i] <= low[i] && gradient[i] > 0.0) || (x[i] >= high[i] && gradient[i] < 0.0))
            })
            .collect();
        let mut direction: Vec<f64> = (0..count)
            .map(|i| if free[i] { -gradient[i] } else { 0.0 })
            .collect();
        curve(&mut direction, &steps);
        for i in 0..count {
            if !free[i] {
                direction[i] = 0.0;
            }
        }
        let mut slope = dot(&direction, &gradient);
        if slope >= 0.0 || !slope.is_finite() {
            steps.clear();
            for i in 0..count {
                direction[i] = if free[i] { -gradient[i] } else { 0.0 };
            }
            slope = dot(&direction, &gradient);
        }
        if slope > -1e-14 {
            break;
        }
        let mut length = match steps.is_empty() {
            true => (1.0 / sqrt(dot(&direction, &direction))).min(1.0),
            false => 1.0,
        };
        let mut better = None;
        for _ in 0..12 {
            for i in 0..count {
                next[i] = (x[i] + length * direction[i]).clamp(low[i], high[i]);
            }
            let found = value(&next, &mut next_gradient);
            if found <= best + 1e-4 * length * slope {
                better = Some(found);
                break;
            }
            length *= 0.4;
        }
        let Some(found) = better else { break };
        let step: Vec<f64> = next.iter().zip(&x).map(|(new, old)| new - old).collect();
        let change: Vec<f64> = next_gradient
            .iter()
            .zip(&gradient)
            .map(|(new, old)| new - old)
            .collect();
        if dot(&step, &change) > 1e-12 {
            if steps.len() == MEMORY {
                steps.remove(0);
            }
            steps.push((step, change));
        }
        x.copy_from_slice(&next);
        gradient.copy_from_slice(&next_gradient);
        let gain = best - found;
        best = found;
        if gain < 1e-9 * (1.0 + best.abs()) {
            break;
        }
    }
    (x, best)
}

/// Applies the remembered curvature to a direction: the two loops of L-BFGS.
fn curve(direction: &mut [f64], steps: &[(Vec<f64>, Vec<f64>)]) {
    let mut factors = Vec::with_capacity(steps.len());
    for (step, change) in steps.iter().rev() {
        let factor = dot(step, direction) / dot(step, change);
        for (entry, change) in direction.iter_mut().zip(change) {
            *entry -= factor * change;
        }
        factors.push(factor);
    }
    if let Some((step, change)) = steps.last() {
        let scale = dot(step, change) / dot(change, change);
        direction.iter_mut().for_each(|entry| *entry *= scale);
    }
    for ((step, change), factor) in steps.iter().zip(factors.iter().rev()) {
        let back = dot(change, direction) / dot(step, change);
        for (entry, step) in direction.iter_mut().zip(step) {
            *entry += (factor - back) * step;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_valley_is_followed_to_its_end() {
        let valley = |x: &[f64], gradient: &mut [f64]| {
            let (a, b) = (1.0 - x[0], x[1] - x[0] * x[0]);
            gradient[0] = -2.0 * a - 400.0 * b * x[0];
            gradient[1] = 200.0 * b;
            a * a + 100.0 * b * b
        };
        let (x, value) = minimise(valley, &[-1.2, 1.0], &[-2.0; 2], &[2.0; 2], 200);
        assert!(value < 1e-8, "{x:?} {value}");
        let (x, _) = minimise(valley, &[-1.2, 1.0], &[-2.0; 2], &[0.5; 2], 200);
        assert!(
            (x[0] - 0.5).abs() < 1e-4 && (x[1] - 0.25).abs() < 1e-3,
            "{x:?}"
        );
    }
}
