//! Kernels that would each pass over the rows of one large matrix, in a single pass.
//!
//! A training step of a linear model multiplies its data by the weights, works on the result
//! of each row, and multiplies the transposed data by what came of it. The data is larger
//! than any cache, so reading it twice is most of what the step costs. Here one block of rows
//! after another goes through all of it while it is in the cache. The bits are those of one
//! kernel after another.

use super::matrix_vector::{self, COLUMN_BLOCK, MOST_SPLIT_ROWS, MatrixVector};
use super::memory::{Memory, ValueId};
use super::product::Matrix;
use super::reduce::MOST_SPLITS;
use super::vector::Vector;
use super::workers::Workers;
use super::{Dot, Fused, Kernel, Plain, PlainOp};
use crate::DType;

/// Bytes of a matrix that a core's own cache does not keep from one pass to the next.
const LARGE: usize = 2 << 20;

/// Bytes of a block of it that the cache does keep.
const BLOCK: usize = 128 * 1024;

/// A matrix times a vector, elementwise work on the result, and the transposed matrix times
/// what came of that.
#[derive(Debug)]
pub(crate) struct Sweep {
    first: Product,
    between: Vec<Fused>,
    last: Product,
    /// Rows of the matrix.
    rows: usize,
    rows_per_block: usize,
}

/// A product of a matrix and a vector.
#[derive(Debug)]
struct Product {
    dot: Dot,
    operands: [ValueId; 2],
    result: ValueId,
}

impl Sweep {
    /// The rows of the matrix when these are products with a large matrix and with its
    /// transpose.
    pub(crate) fn rows(first: &Kernel, last: &Kernel) -> Option<usize> {
        let ((first, values), (last, last_values)) = (product(first)?, product(last)?);
        let (matrix, transposed) = (first.matrix_side()?, last.matrix_side()?);
        let row_bytes = first.k.saturating_mul(first.dtype.size());
        let fits = values[matrix.operand] == last_values[transposed.operand]
            && first.dtype == last.dtype
            && matrix.steps[1] == 1
            && transposed.steps[0] == 1
            && matrix.rows == last.k
            && last.firsts[1 - transposed.operand] == 0
            && transposed.rows <= MOST_SPLIT_ROWS
            && row_bytes.saturating_mul(matrix.rows) >= LARGE
            && row_bytes <= BLOCK / COLUMN_BLOCK;
        fits.then_some(matrix.rows)
    }

    /// Joins kernels, the first and the last of which are such products, and the others work
    /// on as many elements as the matrix has [`rows`](Sweep::rows). Of what is written here
    /// they and the last one read the row at hand alone.
    ///
    /// # Panics
    /// With other kernels.
    pub(crate) fn new(kernels: Vec<Kernel>) -> Self {
        let mut between = kernels.into_iter();
        let (first, last) = between
            .next()
            .zip(between.next_back())
            .expect("two products");
        let rows = Self::rows(&first, &last).expect("products with one matrix");
        let fused = |kernel| match kernel {
            Kernel::Fused(fused) if fused.elements == rows => fused,
            _ => panic!("only elementwise kernels run between the products"),
        };
        let [first, last] = [first, last].map(Product::new);
        let row_bytes = first.dot.k * first.dot.dtype.size();
        let rows_per_block = BLOCK / row_bytes / COLUMN_BLOCK * COLUMN_BLOCK;
        Self {
            first,
            between: between.map(fused).collect(),
            last,
            rows,
            rows_per_block,
        }
    }

    pub(crate) fn reads(&self) -> Vec<ValueId> {
        let inside = self.writes();
        let mut reads = self.first.operands.to_vec();
        reads.extend(self.between.iter().flat_map(Fused::reads));
        reads.extend(self.last.operands);
        reads.retain(|value| !inside.contains(value));
        reads
    }

    pub(crate) fn writes(&self) -> Vec<ValueId> {
        let mut writes = vec![self.first.result];
        writes.extend(self.between.iter().flat_map(Fused::writes));
        writes.push(self.last.result);
        writes
    }

    /// Estimated floating-point operations of the products, and of the rest.
    pub(super) fn flops(&self) -> [u64; 2] {
        let products = self.first.dot.flops().saturating_add(self.last.dot.flops());
        let between = self.between.iter().map(Fused::flops);
        [products, between.fold(0, u64::saturating_add)]
    }

    /// Runs the kernel.
    ///
    /// # Safety
    /// Nothing else may use the values it writes, or write to those it reads, meanwhile.
    #[expect(unsafe_code, reason = "passes the planner's promise on")]
    pub(super) unsafe fn run(&self, memory: Memory<'_>, workers: &Workers<'_>) {
        // SAFETY: the caller's promise.
        unsafe {
            if self.first.dot.dtype == DType::F64 {
                self.run_typed::<f64>(memory, workers);
            } else {
                self.run_typed::<f32>(memory, workers);
            }
        }
    }

    /// # Safety
    /// As for [`Sweep::run`].
    #[expect(unsafe_code, reason = "threads write rows of their own")]
    unsafe fn run_typed<T: Vector>(&self, memory: Memory<'_>, workers: &Workers<'_>) {
        let (first, last) = (&self.first, &self.last);
        let [lhs, rhs] = first.operands;
        // SAFETY: the caller's promise; the first product reads nothing that is written here.
        let [lhs, rhs] = unsafe { [memory.read_all(lhs), memory.read_all(rhs)] };
        let [lhs, rhs] = [lhs, rhs].map(bytemuck::cast_slice);
        let to_rows: MatrixVector<'_, T> = first
            .dot
            .by_vector(lhs, rhs, 0)
            .expect("a matrix and a vector");
        let transposed = last.dot.matrix_side().expect("a matrix and a vector");
        let side = first.dot.matrix_side().map_or(0, |side| side.operand);
        let matrix = &[lhs, rhs][side][last.dot.firsts[transposed.operand]..];

        let split = matrix_vector::split(transposed.rows, self.rows);
        let mut parts = [[T::ZERO; MOST_SPLIT_ROWS]; MOST_SPLITS];
        let parts = &mut parts[..split.pieces];
        workers.each_chunk(parts, 1, |piece, parts| {
            let rows = split.range(piece);
            for start in rows.clone().step_by(self.rows_per_block) {
                if workers.stopped() {
                    return;
                }
                let block = start..(start + self.rows_per_block).min(rows.end);
                let bytes = block.start * size_of::<T>()..block.end * size_of::<T>();
                // SAFETY: the caller's promise; no other thread works on these rows, and the
                // slice ends here.
                let products = unsafe { memory.write(first.result, bytes.clone()) };
                let products = bytemuck::cast_slice_mut(products);
                products.fill(T::ZERO);
                to_rows.add(start, 0..first.dot.k, products);
                for fused in &self.between {
                    // SAFETY: as above; it reads these rows alone of what is written here.
                    unsafe { fused.run_on(memory, block.clone()) };
                }
                // SAFETY: as above; these rows have been written.
                let factors = unsafe { memory.read(last.operands[1 - transposed.operand], bytes) };
                let to_columns = MatrixVector {
                    rows: transposed.rows,
                    matrix: Matrix {
                        elements: &matrix[start * transposed.steps[1]..],
                        row: 1,
                        column: transposed.steps[1],
                    },
                    vector: bytemuck::cast_slice(factors),
                };
                let totals = &mut parts[0][..transposed.rows];
                to_columns.add(0, 0..block.len(), totals);
            }
        });
        // SAFETY: the caller's promise; the operands are other values.
        let result = bytemuck::cast_slice_mut(unsafe { memory.write_all(last.result) });
        result.fill(T::ZERO);
        MatrixVector::total(parts, result);
    }
}

impl Product {
    /// # Panics
    /// When the kernel is none.
    fn new(kernel: Kernel) -> Self {
        let Kernel::Plain(plain) = kernel else {
            panic!("not a product");
        };
        let Plain {
            op: PlainOp::Dot(dot),
            operands,
            results,
        } = *plain
        else {
            panic!("not a product");
        };
        Self {
            dot,
            operands: [operands[0], operands[1]],
            result: results[0],
        }
    }
}

/// The only product of a kernel, and its operands.
fn product(kernel: &Kernel) -> Option<(&Dot, &[ValueId])> {
    match kernel {
        Kernel::Plain(plain) => match &plain.op {
            PlainOp::Dot(dot) if dot.batch.product() == 1 => Some((dot, &plain.operands)),
            _ => None,
        },
        _ => None,
    }
}
