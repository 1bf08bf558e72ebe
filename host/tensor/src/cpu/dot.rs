//! General matrix products: large ones on the `gemm` crate, which chooses its kernels by the
//! machine, small ones on our own.

use std::cell::RefCell;

use super::matrix_vector::{MatrixVector, fits};
use super::product::{Matrix, Product, ROWS, is_small, transpose};
use super::vector::{Vector, with_vectors};
use super::workers::Workers;
use crate::DType;
use crate::ir::DotAxes;
use crate::shape::{Dims, TensorType};
use crate::tensor::Line;

/// Products of `m x k` and `k x n` matrices over a batch, with any strides.
#[derive(Debug)]
pub(crate) struct Dot {
    /// `f32` or `f64`.
    pub(super) dtype: DType,
    m: usize,
    n: usize,
    pub(super) k: usize,
    /// Steps in elements: left rows and columns, right rows and columns.
    lhs_m: usize,
    lhs_k: usize,
    rhs_k: usize,
    rhs_n: usize,
    /// The first elements of the operands' matrices.
    pub(super) firsts: [usize; 2],
    /// The batch dimensions, and the operands' steps along them.
    pub(super) batch: Dims,
    lhs_batch: Dims,
    rhs_batch: Dims,
    /// Result rows and columns per block. Blocks are cut by shape alone, and each is
    /// computed by one thread, so the bits do not depend on the number of threads.
    block_m: usize,
    block_n: usize,
}

/// The matrix of a product of a matrix and a vector.
pub(super) struct MatrixSide {
    /// The left operand or the right one.
    pub(super) operand: usize,
    /// Elements of the result.
    pub(super) rows: usize,
    /// Steps from row to row and from column to column.
    pub(super) steps: [usize; 2],
}

/// Multiplications that make a block worth handing to a thread.
const WORK_PER_BLOCK: usize = 1 << 21;

/// Multiplications that make some rows of a small matrix worth handing to a thread.
const WORK_PER_PART: usize = 1 << 20;

/// Rows and columns of a block are multiples of it: a few registers of any machine.
const GRAIN: usize = 96;

/// The most multiplications of a block, where blocks can be smaller.
const MOST_WORK_PER_BLOCK: usize = 1 << 31;

/// Multiplications after which the stop flag is looked at.
const WORK_PER_LOOK: usize = 1 << 29;

/// A block that has fewer elements takes as long as if it had so many: it waits for memory.
const LEAST_AREA: usize = 64;

impl Dot {
    /// Plans a product of operands with these strides; `None` when axes of an operand
    /// that make one matrix dimension are not one step apart, so that it must be copied
    /// into another order first.
    pub(crate) fn new(
        axes: &DotAxes,
        (lhs, lhs_strides): (&TensorType, &Dims),
        (rhs, rhs_strides): (&TensorType, &Dims),
    ) -> (Option<Self>, bool, bool) {
        let lhs_free = axes.lhs_free(lhs.shape.len());
        let rhs_free = axes.rhs_free(rhs.shape.len());
        let left = (
            merged(lhs, lhs_strides, &lhs_free),
            merged(lhs, lhs_strides, &axes.lhs_contract),
        );
        let right = (
            merged(rhs, rhs_strides, &axes.rhs_contract),
            merged(rhs, rhs_strides, &rhs_free),
        );
        let (left_fits, right_fits) = (
            left.0.is_some() && left.1.is_some(),
            right.0.is_some() && right.1.is_some(),
        );
        let ((Some((m, lhs_m)), Some((k, lhs_k))), (Some((_, rhs_k)), Some((n, rhs_n)))) =
            (left, right)
        else {
            return (None, left_fits, right_fits);
        };
        let pick =
            |from: &[usize], axes: &[usize]| Dims::collect(axes.iter().map(|&axis| from[axis]));
        // The `gemm` crate copies a left operand across for each block that is wider.
        let widest = if lhs_k == 1 { n } else { WIDEST_ACROSS };
        let (block_m, block_n) = blocks([m, n, k], widest);
        let dot = Self {
            dtype: lhs.dtype,
            m,
            n,
            k,
            lhs_m,
            lhs_k,
            rhs_k,
            rhs_n,
            firsts: [0; 2],
            batch: pick(&lhs.shape, &axes.lhs_batch),
            lhs_batch: pick(lhs_strides, &axes.lhs_batch),
            rhs_batch: pick(rhs_strides, &axes.rhs_batch),
            block_m,
            block_n,
        };
        (Some(dot), true, true)
    }

    /// The product of operands whose first elements are these of their values.
    pub(crate) fn with_firsts(self, firsts: [usize; 2]) -> Self {
        Self { firsts, ..self }
    }

    /// Floating-point operations of one run.
    pub(crate) fn flops(&self) -> u64 {
        [self.m, self.n, self.k, self.batch.product()]
            .iter()
            .fold(2, |flops: u64, &size| flops.saturating_mul(size as u64))
    }

    pub(super) fn run(&self, lhs: &[u8], rhs: &[u8], output: &mut [u8], workers: &Workers<'_>) {
        if self.dtype == DType::F64 {
            self.multiply::<f64>(lhs, rhs, output, workers);
        } else {
            self.multiply::<f32>(lhs, rhs, output, workers);
        }
    }

    fn multiply<T: Vector>(
        &self,
        lhs: &[u8],
        rhs: &[u8],
        output: &mut [u8],
        workers: &Workers<'_>,
    ) {
        let lhs: &[T] = bytemuck::cast_slice(lhs);
        let rhs: &[T] = bytemuck::cast_slice(rhs);
        let output: &mut [T] = bytemuck::cast_slice_mut(output);
        if output.is_empty() {
            return;
        }
        if self.k == 0 {
            output.fill(T::ZERO);
            return;
        }
        let size = self.m * self.n;
        if output.len() == size
            && let Some(product) = self.by_vector(lhs, rhs, 0)
        {
            return product.run(output, workers);
        }
        if is_small::<T>(self.m, self.n, self.k) {
            if output.len() == size && self.rhs_n == 1 {
                // Nothing is packed of the right operand, so parts of the rows cost no more.
                let rows = WORK_PER_PART.div_ceil(self.n * self.k);
                let rows = rows.next_multiple_of(ROWS);
                workers.each_chunk(output, rows * self.n, |piece, chunk| {
                    self.small(lhs, rhs, 0, piece * rows, chunk);
                });
                return;
            }
            let per_piece = WORK_PER_BLOCK.div_ceil(size * self.k);
            workers.each_chunk(output, per_piece * size, |piece, chunk| {
                for (place, result) in chunk.chunks_mut(size).enumerate() {
                    let matrix = piece * per_piece + place;
                    match self.by_vector(lhs, rhs, matrix) {
                        Some(product) => product.run(result, &Workers::new(None, None)),
                        None => self.small(lhs, rhs, matrix, 0, result),
                    }
                }
            });
            return;
        }
        let rows = self.m.div_ceil(self.block_m);
        let columns = self.n.div_ceil(self.block_n);
        let matrices = Matrices::new(lhs, rhs, output);
        workers.each(self.batch.product() * rows * columns, |piece| {
            let (matrix, block) = (piece / (rows * columns), piece % (rows * columns));
            let (row, column) = (block / columns, block % columns);
            let first = [row * self.block_m, column * self.block_n];
            self.block(&matrices, matrix, first, workers);
        });
    }

    /// The first elements of the operands of one matrix.
    #[inline]
    fn operands(&self, matrix: usize) -> [usize; 2] {
        let [mut lhs, mut rhs] = self.firsts;
        let mut index = matrix;
        for axis in (0..self.batch.len()).rev() {
            let step = index % self.batch[axis];
            lhs += step * self.lhs_batch[axis];
            rhs += step * self.rhs_batch[axis];
            index /= self.batch[axis];
        }
        [lhs, rhs]
    }

    /// Where the matrix is when the other operand is a vector.
    pub(super) fn matrix_side(&self) -> Option<MatrixSide> {
        let left = [self.lhs_m, self.lhs_k];
        let right = [self.rhs_n, self.rhs_k];
        let (operand, rows, steps) = if self.n == 1 && fits(left, self.rhs_k) {
            (0, self.m, left)
        } else if self.m == 1 && fits(right, self.lhs_k) {
            (1, self.n, right)
        } else {
            return None;
        };
        Some(MatrixSide {
            operand,
            rows,
            steps,
        })
    }

    /// The product of one matrix when one of its operands is a vector.
    pub(super) fn by_vector<'a, T: Vector>(
        &self,
        lhs: &'a [T],
        rhs: &'a [T],
        matrix: usize,
    ) -> Option<MatrixVector<'a, T>> {
        let MatrixSide {
            operand,
            rows,
            steps: [row, column],
        } = self.matrix_side()?;
        let [left, right] = self.operands(matrix);
        let mut operands = [&lhs[left..], &rhs[right..]];
        operands.rotate_left(operand);
        let [elements, vector] = operands;
        Some(MatrixVector {
            rows,
            matrix: Matrix {
                elements,
                row,
                column,
            },
            vector: &vector[..self.k],
        })
    }

    /// Computes rows of a matrix that is small, from that one on.
    fn small<T: Vector>(
        &self,
        lhs: &[T],
        rhs: &[T],
        matrix: usize,
        first: usize,
        result: &mut [T],
    ) {
        let [left, right] = self.operands(matrix);
        let product = Product {
            m: result.len() / self.n,
            n: self.n,
            k: self.k,
            lhs: Matrix {
                elements: &lhs[left + first * self.lhs_m..],
                row: self.lhs_m,
                column: self.lhs_k,
            },
            rhs: Matrix {
                elements: &rhs[right..],
                row: self.rhs_k,
                column: self.rhs_n,
            },
            result,
            result_row: self.n,
            factor: T::ONE,
            adds: false,
        };
        product.run();
    }

    /// Computes the block of one matrix whose first element is at `row` and `column`.
    #[inline]
    fn block<T: Vector>(
        &self,
        matrices: &Matrices<'_, T>,
        matrix: usize,
        [row, column]: [usize; 2],
        workers: &Workers<'_>,
    ) {
        let [lhs, rhs] = self.operands(matrix);
        let lhs = &matrices.lhs[lhs + row * self.lhs_m..];
        let rhs = &matrices.rhs[rhs + column * self.rhs_n..];
        let m = self.block_m.min(self.m - row);
        let n = self.block_n.min(self.n - column);
        let output = (matrix * self.m + row) * self.n + column;
        let result = |column| (output + column, self.n);
        // Sums may be long even where blocks are as small as they get.
        let depth = WORK_PER_LOOK / (m * n).max(LEAST_AREA);
        let depth = depth.max(1);
        if self.rhs_k != 1 || self.rhs_n == 1 {
            for first in (0..self.k).step_by(depth) {
                if first > 0 && workers.stopped() {
                    return;
                }
                let k = depth.min(self.k - first);
                matrices.multiply(
                    [m, n, k],
                    (&lhs[first * self.lhs_k..], [self.lhs_m, self.lhs_k]),
                    (&rhs[first * self.rhs_k..], [self.rhs_k, self.rhs_n]),
                    result(0),
                    first > 0,
                );
            }
            return;
        }
        // The `gemm` crate would read such columns across, an element of each at a time.
        let depth = depth.min(PANEL_ROWS).min(self.k);
        let width = (PANEL_ELEMENTS / depth / COLUMNS * COLUMNS).min(n);
        PANEL.with_borrow_mut(|panel| {
            let lines = (depth * width * size_of::<T>()).div_ceil(Line::BYTES);
            panel.resize(panel.len().max(lines), Line::ZERO);
            let panel: &mut [T] = bytemuck::cast_slice_mut(panel);
            for column in (0..n).step_by(width) {
                for first in (0..self.k).step_by(depth) {
                    if workers.stopped() {
                        return;
                    }
                    let k = depth.min(self.k - first);
                    let columns = width.min(n - column);
                    let panel = &mut panel[..k * columns];
                    let from = &rhs[column * self.rhs_n + first..];
                    with_vectors(
                        #[inline(always)]
                        || transpose(from, self.rhs_n, columns, panel, columns),
                    );
                    matrices.multiply(
                        [m, columns, k],
                        (&lhs[first * self.lhs_k..], [self.lhs_m, self.lhs_k]),
                        (panel, [columns, 1]),
                        result(column),
                        first > 0,
                    );
                }
            }
        });
    }
}

thread_local! {
    /// Part of a right operand, with contiguous rows. It stays for the next product.
    static PANEL: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
}

/// The most elements of a panel, which stays in a cache.
const PANEL_ELEMENTS: usize = 1 << 16;

/// The most rows of a panel.
const PANEL_ROWS: usize = 1 << 10;

/// Size and stride of several axes taken as one; `None` when they are not one step apart.
fn merged(ty: &TensorType, strides: &[usize], axes: &[usize]) -> Option<(usize, usize)> {
    let mut merged: Option<(usize, usize)> = None;
    for &axis in axes.iter().rev() {
        let (size, stride) = (ty.shape[axis], strides[axis]);
        merged = match merged {
            _ if size == 1 => merged,
            None => Some((size, stride)),
            Some((total, step)) if stride == step.saturating_mul(total) => {
                Some((total.saturating_mul(size), step))
            }
            // Nothing is read of an empty operand.
            Some((total, step)) if ty.elements() == 0 => Some((total.saturating_mul(size), step)),
            Some(_) => return None,
        };
    }
    Some(merged.unwrap_or((1, 1)))
}

/// Cuts an `m x n` result into blocks of about [`WORK_PER_BLOCK`] multiplications, and of so
/// many columns at most.
fn blocks([m, n, k]: [usize; 3], widest: usize) -> (usize, usize) {
    let work = |m: usize, n: usize| m.saturating_mul(n).saturating_mul(k);
    let (mut block_m, mut block_n) = (m.max(1), n.min(widest).max(1));
    // Halving the longer side keeps blocks square, where packing costs least.
    while work(block_m, block_n) > 2 * WORK_PER_BLOCK && block_m.max(block_n) > 2 * GRAIN {
        let pieces = m.div_ceil(block_m) * n.div_ceil(block_n);
        if pieces >= MOST_PIECES && work(block_m, block_n) <= MOST_WORK_PER_BLOCK {
            break;
        }
        if block_m >= block_n {
            block_m = block_m.div_ceil(2).next_multiple_of(GRAIN);
        } else {
            block_n = block_n.div_ceil(2).next_multiple_of(GRAIN);
        }
    }
    // Equal shares for two threads.
    let (mut rows, mut columns) = (m.div_ceil(block_m), n.div_ceil(block_n));
    if rows * columns % 2 == 1 && rows * columns > 1 {
        if rows >= columns {
            rows += 1;
        } else {
            columns += 1;
        }
    }
    if rows > 1 {
        block_m = m.div_ceil(rows).next_multiple_of(ROWS);
    }
    if columns > 1 {
        block_n = n.div_ceil(columns).next_multiple_of(COLUMNS);
    }
    (block_m, block_n)
}

/// Columns of a block are multiples of it, where there are several: what the `gemm` crate
/// computes together on machines with the widest vectors.
const COLUMNS: usize = 64;

/// Columns of a block whose left operand has steps between the elements of a row: the most for
/// which the `gemm` crate reads it where it lies, on machines with the widest vectors. Copying
/// it for each block takes longer than reading it across.
const WIDEST_ACROSS: usize = 2 * COLUMNS;

/// Rows, by the handful that the `gemm` crate computes together, from which on it copies a
/// right operand with contiguous rows first. With fewer, as most blocks have, that costs more
/// than it saves.
const PACKING_ROWS: usize = 32;

/// Enough blocks for the threads of one task.
const MOST_PIECES: usize = 64;

/// The three operands of a product, for threads that each write another block.
struct Matrices<'a, T> {
    lhs: &'a [T],
    rhs: &'a [T],
    output: *mut T,
    output_length: usize,
    _output: std::marker::PhantomData<&'a mut [T]>,
}

// SAFETY: `multiply` writes through the pointer only, and blocks do not overlap.
#[expect(
    unsafe_code,
    reason = "blocks of one result are written by several threads"
)]
unsafe impl<T: Sync> Sync for Matrices<'_, T> {}

impl<'a, T: Vector> Matrices<'a, T> {
    fn new(lhs: &'a [T], rhs: &'a [T], output: &'a mut [T]) -> Self {
        gemm::set_lhs_packing_threshold_single_thread(PACKING_ROWS);
        Self {
            lhs,
            rhs,
            output_length: output.len(),
            output: output.as_mut_ptr(),
            _output: std::marker::PhantomData,
        }
    }

    /// Multiplies matrices with these steps of rows and columns; the result is written from
    /// an offset of the output on, with that step of rows, and `adds` to what is there.
    ///
    /// # Panics
    /// When a matrix reaches beyond its operand.
    #[expect(unsafe_code, reason = "the gemm crate works on raw pointers")]
    #[inline]
    fn multiply(
        &self,
        [m, n, k]: [usize; 3],
        (lhs, lhs_steps): (&[T], [usize; 2]),
        (rhs, rhs_steps): (&[T], [usize; 2]),
        (first, row_step): (usize, usize),
        adds: bool,
    ) {
        let reach = |[rows, columns]: [usize; 2], [row, column]: [usize; 2]| {
            (rows - 1) * row + (columns - 1) * column
        };
        assert!(reach([m, k], lhs_steps) < lhs.len());
        assert!(reach([k, n], rhs_steps) < rhs.len());
        assert!(first + reach([m, n], [row_step, 1]) < self.output_length);
        // SAFETY: every element that is read or written is inside its operand, as just
        // checked; blocks of the output that run at the same time do not overlap.
        unsafe {
            gemm::gemm(
                m,
                n,
                k,
                self.output.add(first),
                1,
                row_step.cast_signed(),
                adds,
                lhs.as_ptr(),
                lhs_steps[1].cast_signed(),
                lhs_steps[0].cast_signed(),
                rhs.as_ptr(),
                rhs_steps[1].cast_signed(),
                rhs_steps[0].cast_signed(),
                if adds { T::ONE } else { T::ZERO },
                T::ONE,
                false,
                false,
                false,
                gemm::Parallelism::None,
            );
        }
    }
}
