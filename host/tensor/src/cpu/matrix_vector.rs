//! Products of a matrix and a vector: as fast as the matrix can be read.
//!
//! As in reductions, the order of additions depends on the shape alone, and sums over many
//! elements are made of sums of blocks.

use std::ops::Range;

use pulp::Simd;

use super::product::Matrix;
use super::reduce::{MOST_SPLITS, Split};
use super::vector::Vector;
use super::workers::Workers;

/// Matrix elements that make a piece worth handing to a thread.
const ELEMENTS_PER_PIECE: usize = 64 * 1024;

/// Matrix elements after which the stop flag is looked at.
const ELEMENTS_PER_LOOK: usize = 1 << 22;

/// Elements of one row that are added up before their sum is added to the row's total.
const ROW_BLOCK: usize = 1024;

/// Elements of one column that are.
pub(super) const COLUMN_BLOCK: usize = 64;

/// The most results for which the sums of a row are shared out between threads.
pub(super) const MOST_SPLIT_ROWS: usize = 512;

/// One product. Either the rows of the matrix or its columns are contiguous.
#[derive(Clone, Copy)]
pub(super) struct MatrixVector<'a, T> {
    pub(super) rows: usize,
    pub(super) matrix: Matrix<'a, T>,
    /// As many elements as the matrix has columns.
    pub(super) vector: &'a [T],
}

/// Whether such a product is computed here, of a matrix with these steps and a vector with
/// that step.
pub(super) fn fits([row, column]: [usize; 2], step: usize) -> bool {
    step == 1 && (row == 1 || column == 1)
}

/// Columns of a matrix in parts whose sums are added up on their own.
pub(super) fn split(rows: usize, columns: usize) -> Split {
    Split::new(columns, ROW_BLOCK, ELEMENTS_PER_PIECE.div_ceil(rows))
}

impl<T: Vector> MatrixVector<'_, T> {
    /// Computes the result, one element per row.
    ///
    /// # Panics
    /// When the matrix reaches beyond its slice.
    pub(super) fn run(self, result: &mut [T], workers: &Workers<'_>) {
        let columns = self.vector.len();
        assert_eq!(result.len(), self.rows);
        let part = |first: usize, columns: Range<usize>, totals: &mut [T]| {
            let look = ELEMENTS_PER_LOOK / totals.len();
            let look = look.next_multiple_of(ROW_BLOCK).max(ROW_BLOCK);
            for start in columns.clone().step_by(look) {
                if workers.stopped() {
                    return;
                }
                self.add(first, start..(start + look).min(columns.end), totals);
            }
        };
        result.fill(T::ZERO);
        let split = split(self.rows, columns);
        if split.pieces == 1 || self.rows > MOST_SPLIT_ROWS {
            let per_piece = ELEMENTS_PER_PIECE.div_ceil(columns);
            workers.each_chunk(result, per_piece, |piece, chunk| {
                part(piece * per_piece, 0..columns, chunk);
            });
            return;
        }
        let mut parts = [[T::ZERO; MOST_SPLIT_ROWS]; MOST_SPLITS];
        let parts = &mut parts[..split.pieces];
        workers.each_chunk(parts, 1, |piece, parts| {
            part(0, split.range(piece), &mut parts[0][..self.rows]);
        });
        Self::total(&*parts, result);
    }

    /// Adds the sums of all parts to the result.
    pub(super) fn total(parts: &[[T; MOST_SPLIT_ROWS]], result: &mut [T]) {
        for part in parts {
            for (total, &part) in result.iter_mut().zip(part) {
                *total = total.add(part);
            }
        }
    }

    /// Adds rows from `first` on times some columns to the totals, on this thread. Columns cut
    /// at multiples of [`COLUMN_BLOCK`], or of [`ROW_BLOCK`] where rows are contiguous, give the
    /// bits of all at once.
    ///
    /// # Panics
    /// When the matrix reaches beyond its slice.
    pub(super) fn add(self, first: usize, columns: Range<usize>, totals: &mut [T]) {
        let reach =
            (self.rows - 1) * self.matrix.row + (self.vector.len() - 1) * self.matrix.column;
        assert!(reach < self.matrix.elements.len());
        assert!(first + totals.len() <= self.rows && columns.end <= self.vector.len());
        pulp::Arch::new().dispatch(Part {
            product: self,
            first,
            columns,
            totals,
        });
    }
}

/// Some rows, from `first` on, times some columns, to be added to the totals.
struct Part<'a, T> {
    product: MatrixVector<'a, T>,
    first: usize,
    columns: Range<usize>,
    totals: &'a mut [T],
}

impl<T: Vector> pulp::WithSimd for Part<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            product,
            first,
            columns,
            totals,
        } = self;
        if product.matrix.column == 1 {
            let (fours, rest) = totals.as_chunks_mut();
            for (place, totals) in fours.iter_mut().enumerate() {
                product.rows::<S, 4>(simd, first + 4 * place, &columns, totals);
            }
            let first = first + 4 * fours.len();
            for (place, total) in rest.iter_mut().enumerate() {
                let total = std::array::from_mut(total);
                product.rows::<S, 1>(simd, first + place, &columns, total);
            }
        } else {
            let lanes = T::lanes::<S>();
            for start in columns.clone().step_by(COLUMN_BLOCK) {
                let block = start..(start + COLUMN_BLOCK).min(columns.end);
                let mut place = 0;
                while place < totals.len() {
                    let totals = &mut totals[place..];
                    if totals.len() >= 4 * lanes {
                        product.columns::<S, 4>(simd, first + place, &block, totals);
                        place += 4 * lanes;
                    } else {
                        product.columns::<S, 1>(simd, first + place, &block, totals);
                        place += lanes;
                    }
                }
            }
        }
    }
}

impl<T: Vector> MatrixVector<'_, T> {
    /// Adds the sums of `ROWS` contiguous rows.
    #[inline(always)]
    fn rows<S: Simd, const ROWS: usize>(
        &self,
        simd: S,
        first: usize,
        columns: &Range<usize>,
        totals: &mut [T; ROWS],
    ) {
        let lanes = T::lanes::<S>();
        for start in columns.clone().step_by(ROW_BLOCK) {
            let block = start..(start + ROW_BLOCK).min(columns.end);
            let vector = self.vector[block.clone()].chunks(lanes);
            let rows: [&[T]; ROWS] = std::array::from_fn(|row| {
                let row = (first + row) * self.matrix.row;
                &self.matrix.elements[row + block.start..row + block.end]
            });
            let mut sums = [T::splat(simd, T::ZERO); ROWS];
            for (step, vector) in vector.enumerate() {
                let place = step * lanes..step * lanes + vector.len();
                let vector = T::load_some(simd, vector);
                for (sum, row) in sums.iter_mut().zip(rows) {
                    let elements = T::load_some(simd, &row[place.clone()]);
                    *sum = T::mul_add(simd, elements, vector, *sum);
                }
            }
            for (total, sum) in totals.iter_mut().zip(sums) {
                *total = total.add(T::sum(simd, sum));
            }
        }
    }

    /// Adds a block of columns to the totals of at most `VECTORS` vectors of rows.
    #[inline(always)]
    fn columns<S: Simd, const VECTORS: usize>(
        &self,
        simd: S,
        first: usize,
        block: &Range<usize>,
        totals: &mut [T],
    ) {
        let lanes = T::lanes::<S>();
        let count = totals.len().min(VECTORS * lanes);
        let totals = &mut totals[..count];
        let mut sums = [T::splat(simd, T::ZERO); VECTORS];
        for column in block.clone() {
            let factor = T::splat(simd, self.vector[column]);
            let elements = &self.matrix.elements[first + column * self.matrix.column..][..count];
            for (sum, elements) in sums.iter_mut().zip(elements.chunks(lanes)) {
                *sum = T::mul_add(simd, factor, T::load_some(simd, elements), *sum);
            }
        }
        for (sum, totals) in sums.into_iter().zip(totals.chunks_mut(lanes)) {
            let total = T::add_lanes(simd, T::load_some(simd, totals), sum);
            T::store_some(simd, totals, total);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Matrix, MatrixVector, Workers};
    use crate::cpu::Helpers;

    #[test]
    fn both_layouts_are_summed_up_to_their_last_element() {
        let helpers = Helpers::start(2).unwrap();
        for (rows, columns) in [(1, 1), (4, 37), (7, 1024), (70, 3), (130, 65), (3, 200_001)] {
            // Small integers, whose sums are exact in any order.
            let number = |place: usize| (place * 7 % 11) as f32 - 5.0;
            let elements: Vec<f32> = (0..rows * columns).map(number).collect();
            let vector: Vec<f32> = (0..columns).map(|place| number(place + 3)).collect();
            for (row, column) in [(columns, 1), (1, rows)] {
                let product = MatrixVector {
                    rows,
                    matrix: Matrix {
                        elements: &elements,
                        row,
                        column,
                    },
                    vector: &vector,
                };
                let mut result = vec![f32::NAN; rows];
                product.run(&mut result, &Workers::new(Some(&helpers), None));
                for (place, &found) in result.iter().enumerate() {
                    let terms = (0..columns).map(|step| {
                        f64::from(elements[place * row + step * column] * vector[step])
                    });
                    assert_eq!(f64::from(found), terms.sum(), "{rows} {columns} at {place}");
                }
            }
        }
    }
}
