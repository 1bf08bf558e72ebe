//! Products of matrices that fit the caches, where cutting up and packing as for large ones
//! would cost more than the multiplications.
//!
//! The result is cut into tiles of a few rows and vectors that stay in registers while all
//! of `k` is walked; each of their elements is one sum in the order of `k`. The right
//! operand is read where it lies when its rows are contiguous; otherwise, and at the right
//! edge, a strip of it is packed first.

use std::cell::RefCell;

use pulp::Simd;

use super::square::{SIDE, turn};
use super::vector::{Vector, fetch};
use crate::tensor::Line;

/// The most multiplications of such a product.
const MOST_WORK: usize = 1 << 22;

/// The most where the result's rows do not fill a vector.
const MOST_NARROW_WORK: usize = 1 << 19;

/// The most bytes of a packed strip.
const MOST_PACKED_BYTES: usize = 256 * 1024;

/// More lanes than any vector has.
const MOST_LANES: usize = 16;

/// The most vectors of a strip.
const MOST_VECTORS: usize = 4;

/// How many elements ahead columns are fetched that are turned around.
const FETCHED: usize = 4 * SIDE;

/// The most rows of a tile.
pub(super) const ROWS: usize = 6;

thread_local! {
    /// A packed strip. It stays for the next product.
    static STRIP: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
}

/// A matrix inside a slice: its first element, and the steps of its rows and columns.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a, T> {
    pub(super) elements: &'a [T],
    pub(super) row: usize,
    pub(super) column: usize,
}

/// One product: `m x k` by `k x n` to rows of a result.
pub(super) struct Product<'a, T> {
    pub(super) m: usize,
    pub(super) n: usize,
    pub(super) k: usize,
    pub(super) lhs: Matrix<'a, T>,
    pub(super) rhs: Matrix<'a, T>,
    pub(super) result: &'a mut [T],
    /// The step of the result's rows, whose elements follow each other.
    pub(super) result_row: usize,
    /// What the product is multiplied by.
    pub(super) factor: T,
    /// Whether it is added to the result.
    pub(super) adds: bool,
}

/// Whether products of these sizes are computed here. None of them is 0.
pub(super) fn is_small<T>(m: usize, n: usize, k: usize) -> bool {
    let work = m.saturating_mul(n).saturating_mul(k);
    let strip = k.saturating_mul(MOST_VECTORS * MOST_LANES * size_of::<T>());
    let most = if n < MOST_LANES {
        MOST_NARROW_WORK
    } else {
        MOST_WORK
    };
    work <= most && strip <= MOST_PACKED_BYTES
}

impl<T: Vector> Product<'_, T> {
    /// Computes the result.
    ///
    /// # Panics
    /// When a matrix reaches beyond its slice.
    pub(super) fn run(self) {
        let reach = |matrix: &Matrix<'_, T>, rows: usize, columns: usize| {
            (rows - 1) * matrix.row + (columns - 1) * matrix.column
        };
        assert!(reach(&self.lhs, self.m, self.k) < self.lhs.elements.len());
        assert!(reach(&self.rhs, self.k, self.n) < self.rhs.elements.len());
        assert!(self.n <= self.result_row || self.m == 1);
        assert!((self.m - 1) * self.result_row + self.n <= self.result.len());
        STRIP.with_borrow_mut(|packed| {
            pulp::Arch::new().dispatch(Strips {
                product: self,
                packed,
            });
        });
    }

    /// The columns from `column` on as a strip of whole vectors, padded with zeros.
    #[inline(always)]
    fn pack(&self, column: usize, width: usize, strip: &mut [T]) {
        let Matrix {
            elements,
            row,
            column: step,
        } = self.rhs;
        let count = width.min(self.n - column);
        if count < width {
            strip.fill(T::ZERO);
        }
        let elements = &elements[column * step..];
        if step == 1 {
            for (line, to) in strip.chunks_mut(width).enumerate() {
                to[..count].copy_from_slice(&elements[line * row..][..count]);
            }
        } else if row == 1 {
            transpose(elements, step, count, strip, width);
        } else {
            for (line, to) in strip.chunks_mut(width).enumerate() {
                for (place, to) in to[..count].iter_mut().enumerate() {
                    *to = elements[line * row + place * step];
                }
            }
        }
    }

    /// A strip of `VECTORS` vectors, all rows of it.
    #[inline(always)]
    fn strip<S: Simd, const VECTORS: usize>(
        &mut self,
        simd: S,
        column: usize,
        packed: &mut Vec<Line>,
    ) {
        let width = VECTORS * T::lanes::<S>();
        let rhs = self.rhs;
        let is_contiguous = rhs.column == 1 && column + width <= self.n;
        let (strip, step) = if is_contiguous {
            (&rhs.elements[column..], rhs.row)
        } else {
            let lines = (self.k * width * size_of::<T>()).div_ceil(Line::BYTES);
            packed.resize(packed.len().max(lines), Line::ZERO);
            let strip: &mut [T] = bytemuck::cast_slice_mut(&mut packed[..lines]);
            self.pack(column, width, &mut strip[..self.k * width]);
            (&*strip, width)
        };
        let mut row = 0;
        while row < self.m {
            match self.m - row {
                ROWS.. => self.tile::<S, ROWS, VECTORS>(simd, [row, column], strip, step),
                2.. => self.tile::<S, 2, VECTORS>(simd, [row, column], strip, step),
                _ => self.tile::<S, 1, VECTORS>(simd, [row, column], strip, step),
            }
            row += match self.m - row {
                ROWS.. => ROWS,
                left => left.min(2),
            };
        }
    }

    /// The tile of the result whose first element is at that row and column.
    #[inline(always)]
    fn tile<S: Simd, const TILE_ROWS: usize, const VECTORS: usize>(
        &mut self,
        simd: S,
        [row, column]: [usize; 2],
        strip: &[T],
        step: usize,
    ) {
        let lanes = T::lanes::<S>();
        let lhs = &self.lhs.elements[row * self.lhs.row..];
        let steps = [self.lhs.row, self.lhs.column];
        let sums = sums::<T, S, TILE_ROWS, VECTORS>(simd, self.k, (lhs, steps), (strip, step));
        let width = VECTORS * lanes;
        let count = width.min(self.n - column);
        let is_plain = self.factor == T::ONE && !self.adds;
        for (number, sums) in sums.iter().enumerate() {
            let result = &mut self.result[(row + number) * self.result_row + column..][..count];
            if is_plain && count == width {
                for (&sum, result) in sums.iter().zip(result.chunks_exact_mut(lanes)) {
                    let result: &mut [u8] = bytemuck::cast_slice_mut(result);
                    result.copy_from_slice(bytemuck::bytes_of(&sum));
                }
                continue;
            }
            for (&sum, result) in sums.iter().zip(result.chunks_mut(lanes)) {
                let mut sum = T::multiply_lanes(simd, sum, T::splat(simd, self.factor));
                if self.adds {
                    sum = T::add_lanes(simd, T::load_some(simd, result), sum);
                }
                T::store_some(simd, result, sum);
            }
        }
    }
}

/// The sums of a tile, whose rows and steps are so far apart in the left operand, and whose
/// steps in the strip. They are given back as a value, as the compiler keeps them in registers
/// only where nothing refers to them.
#[inline(always)]
#[expect(unsafe_code, reason = "loads without a bounds check each")]
fn sums<T: Vector, S: Simd, const TILE_ROWS: usize, const VECTORS: usize>(
    simd: S,
    k: usize,
    (lhs, [lhs_row, lhs_step]): (&[T], [usize; 2]),
    (strip, step): (&[T], usize),
) -> [[T::Lanes<S>; VECTORS]; TILE_ROWS] {
    let lanes = T::lanes::<S>();
    assert!((TILE_ROWS - 1) * lhs_row + (k - 1) * lhs_step < lhs.len());
    assert!((k - 1) * step + VECTORS * lanes <= strip.len());
    let mut sums = [[T::splat(simd, T::ZERO); VECTORS]; TILE_ROWS];
    for place in 0..k {
        let mut vectors = [T::splat(simd, T::ZERO); VECTORS];
        for (number, vector) in vectors.iter_mut().enumerate() {
            // SAFETY: the last vector of the last step is inside, as asserted above.
            let start = unsafe { strip.as_ptr().add(place * step + number * lanes) };
            // SAFETY: as above; a vector of floats has no invalid bits.
            *vector = unsafe { std::ptr::read_unaligned(start.cast::<T::Lanes<S>>()) };
        }
        for (number, sums) in sums.iter_mut().enumerate() {
            // SAFETY: the last step of the last row is inside, as asserted above.
            let factor = unsafe { *lhs.get_unchecked(number * lhs_row + place * lhs_step) };
            let factor = T::splat(simd, factor);
            for (sum, &vector) in sums.iter_mut().zip(&vectors) {
                *sum = T::mul_add(simd, factor, vector, *sum);
            }
        }
    }
    sums
}

/// Puts `count` columns of a matrix side by side that lie one after another, their first
/// elements `step` apart: as many rows of `width` as `to` has.
#[inline(always)]
pub(super) fn transpose<T: Vector>(
    from: &[T],
    step: usize,
    count: usize,
    to: &mut [T],
    width: usize,
) {
    let rows = to.len() / width;
    for first in (0..count).step_by(SIDE) {
        let columns = SIDE.min(count - first);
        for row in (0..rows).step_by(SIDE) {
            let rows = SIDE.min(rows - row);
            let from = &from[first * step + row..];
            for column in 0..columns {
                fetch(from, column * step + FETCHED);
            }
            let to = &mut to[row * width + first..];
            turn((from, step), [columns, rows], (to, width));
        }
    }
}

/// All strips of a product, as work for the instruction set that the machine has.
struct Strips<'a, 'p, T> {
    product: Product<'p, T>,
    packed: &'a mut Vec<Line>,
}

impl<T: Vector> pulp::WithSimd for Strips<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            mut product,
            packed,
        } = self;
        let lanes = T::lanes::<S>();
        let has_many_registers = S::REGISTER_COUNT >= 32;
        let mut column = 0;
        while column < product.n {
            let vectors = (product.n - column) / lanes;
            column += if has_many_registers && vectors >= MOST_VECTORS {
                product.strip::<S, MOST_VECTORS>(simd, column, packed);
                MOST_VECTORS * lanes
            } else if vectors >= 2 {
                product.strip::<S, 2>(simd, column, packed);
                2 * lanes
            } else {
                product.strip::<S, 1>(simd, column, packed);
                lanes
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Matrix, Product};

    /// Small integers, whose products are exact in any order.
    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        let number = |place: usize| (place * 7 + seed) % 11;
        (0..count).map(|place| number(place) as f32 - 5.0).collect()
    }

    #[test]
    fn products_are_sums_of_products_in_any_layout() {
        for (m, n, k) in [
            (1, 1, 1),
            (7, 70, 5),
            (6, 64, 33),
            (13, 16, 40),
            (2, 150, 3),
            (9, 31, 17),
        ] {
            let (left, right) = (numbers(m * k, 1), numbers(k * n, 2));
            for (lhs_row, lhs_column) in [(k, 1), (1, m)] {
                for (rhs_row, rhs_column) in [(n, 1), (1, k)] {
                    let mut result = vec![f32::NAN; m * n];
                    let product = Product {
                        m,
                        n,
                        k,
                        lhs: Matrix {
                            elements: &left,
                            row: lhs_row,
                            column: lhs_column,
                        },
                        rhs: Matrix {
                            elements: &right,
                            row: rhs_row,
                            column: rhs_column,
                        },
                        result: &mut result,
                        result_row: n,
                        factor: 1.0,
                        adds: false,
                    };
                    product.run();
                    for (place, &found) in result.iter().enumerate() {
                        let (row, column) = (place / n, place % n);
                        let terms = (0..k).map(|step| {
                            left[row * lhs_row + step * lhs_column]
                                * right[step * rhs_row + column * rhs_column]
                        });
                        assert_eq!(found, terms.sum::<f32>(), "{m} {n} {k} at {row} {column}");
                    }
                }
            }
        }
    }

    #[test]
    fn elements_between_those_of_a_matrix_are_left_out() {
        let left = numbers(3 * 2 * 4, 1);
        let right = numbers(4 * 2 * 10, 2);
        let mut result = [0.0; 15];
        let product = Product {
            m: 3,
            n: 5,
            k: 4,
            lhs: Matrix {
                elements: &left,
                row: 8,
                column: 2,
            },
            rhs: Matrix {
                elements: &right,
                row: 20,
                column: 2,
            },
            result: &mut result,
            result_row: 5,
            factor: 1.0,
            adds: false,
        };
        product.run();
        for (place, &found) in result.iter().enumerate() {
            let (row, column) = (place / 5, place % 5);
            let terms = (0..4).map(|step| left[row * 8 + step * 2] * right[step * 20 + column * 2]);
            assert_eq!(found, terms.sum::<f32>());
        }
    }

    #[test]
    fn a_product_is_added_to_rows_of_a_wider_result_by_a_factor() {
        let (m, n, k, width) = (9, 37, 6, 40);
        let (left, right) = (numbers(m * k, 1), numbers(k * n, 2));
        let before = numbers(m * width, 3);
        for adds in [false, true] {
            let mut result = before.clone();
            let product = Product {
                m,
                n,
                k,
                lhs: Matrix {
                    elements: &left,
                    row: k,
                    column: 1,
                },
                rhs: Matrix {
                    elements: &right,
                    row: n,
                    column: 1,
                },
                result: &mut result,
                result_row: width,
                factor: 0.5,
                adds,
            };
            product.run();
            for (place, (&found, &before)) in result.iter().zip(&before).enumerate() {
                let (row, column) = (place / width, place % width);
                let terms = (0..k).map(|step| left[row * k + step] * right[step * n + column % n]);
                let expected = match (column < n, adds) {
                    (false, _) => before,
                    (true, false) => 0.5 * terms.sum::<f32>(),
                    (true, true) => before + 0.5 * terms.sum::<f32>(),
                };
                assert_eq!(found, expected, "{adds}, at {row} {column}");
            }
        }
    }
}
