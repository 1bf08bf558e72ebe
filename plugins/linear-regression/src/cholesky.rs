//! Linear equations with a symmetric, positive definite matrix.

/// A pivot this small a share of its diagonal element is 0 but for rounding.
const TOLERANCE: f64 = 1e-12;

/// Solves `matrix x = right`; `matrix` is symmetric and row-major.
///
/// Source: N. J. Higham, "Accuracy and Stability of Numerical Algorithms", 2nd edition
/// 2002, algorithm 10.2.
///
/// # Errors
/// The first row (and column) that is a linear combination of those before it.
pub(crate) fn solve(mut matrix: Vec<f64>, mut right: Vec<f64>) -> Result<Vec<f64>, usize> {
    let size = right.len();
    for column in 0..size {
        let diagonal = matrix[column * size + column];
        let known: f64 = matrix[column * size..column * size + column]
            .iter()
            .map(|element| element * element)
            .sum();
        let pivot = diagonal - known;
        let regular = pivot.is_finite() && pivot > TOLERANCE * diagonal.abs();
        if !regular {
            return Err(column);
        }
        let root = pivot.sqrt();
        matrix[column * size + column] = root;
        let (upper, lower) = matrix.split_at_mut((column + 1) * size);
        let pivot_row = &upper[column * size..column * size + column];
        for row in lower.chunks_exact_mut(size) {
            let known: f64 = row.iter().zip(pivot_row).map(|(a, b)| a * b).sum();
            row[column] = (row[column] - known) / root;
        }
    }
    for row in 0..size {
        let factors = &matrix[row * size..row * size + row];
        let known: f64 = factors.iter().zip(&right).map(|(a, b)| a * b).sum();
        right[row] = (right[row] - known) / matrix[row * size + row];
    }
    for row in (0..size).rev() {
        let known: f64 = (row + 1..size)
            .map(|below| matrix[below * size + row] * right[below])
            .sum();
        right[row] = (right[row] - known) / matrix[row * size + row];
    }
    Ok(right)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_solution_solves_its_equations() {
        // A product of a lower triangular matrix and its transpose, by hand.
        let matrix = vec![4.0, 2.0, -2.0, 2.0, 10.0, 2.0, -2.0, 2.0, 6.0];
        let expected = [1.0, -2.0, 3.0];
        let right = (0..3)
            .map(|row| {
                (0..3)
                    .map(|column| matrix[row * 3 + column] * expected[column])
                    .sum()
            })
            .collect();
        let solution = solve(matrix, right).unwrap();
        for (found, expected) in solution.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-12, "{solution:?}");
        }
    }

    #[test]
    fn a_row_that_follows_from_others_is_named() {
        assert_eq!(solve(vec![1.0, 1.0, 1.0, 1.0], vec![1.0, 1.0]), Err(1));
        assert_eq!(solve(vec![0.0], vec![1.0]), Err(0));
        assert_eq!(solve(vec![f64::NAN], vec![1.0]), Err(0));
        assert_eq!(solve(Vec::new(), Vec::new()), Ok(Vec::new()));
    }
}
