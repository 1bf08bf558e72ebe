//! Running sums and products along an axis.

use super::number::{Number, with_wide};
use super::workers::Workers;
use crate::DType;

/// Steps whose sum is taken for itself, so that errors do not grow with every step.
const BLOCK: usize = 1024;

/// Columns that are walked together.
const COLUMNS: usize = 128;

/// Elements that make a piece worth handing to a thread.
const ELEMENTS_PER_PIECE: usize = 16 * 1024;

/// Each element combined with those before it along an axis.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) dtype: DType,
    pub(crate) product: bool,
    pub(crate) reverse: bool,
    /// Elements along the axis.
    pub(crate) size: usize,
    /// Elements of one step along the axis.
    pub(crate) inner: usize,
}

impl Running {
    pub(super) fn run(&self, input: &[u8], output: &mut [u8], workers: &Workers<'_>) {
        with_wide!(self.dtype, T => self.slabs::<T>(input, output, workers));
    }

    fn slabs<T: Number>(&self, input: &[u8], output: &mut [u8], workers: &Workers<'_>) {
        let input: &[T] = bytemuck::cast_slice(input);
        let output: &mut [T] = bytemuck::cast_slice_mut(output);
        let slab = self.size * self.inner;
        let length = ELEMENTS_PER_PIECE.div_ceil(slab) * slab;
        workers.each_chunk(output, length, |piece, chunk| {
            let input = &input[piece * length..][..chunk.len()];
            for (input, output) in input.chunks(slab).zip(chunk.chunks_mut(slab)) {
                if self.product {
                    let one = T::from_i64(1);
                    self.slab(input, output, one, T::multiply, usize::MAX, workers);
                } else {
                    self.slab(input, output, T::ZERO, T::add, BLOCK, workers);
                }
            }
        });
    }

    /// Combines within blocks of steps, and each with the result of the blocks before.
    #[inline(always)]
    fn slab<T: Number>(
        &self,
        input: &[T],
        output: &mut [T],
        identity: T,
        combine: impl Fn(T, T) -> T,
        block: usize,
        workers: &Workers<'_>,
    ) {
        for start in (0..self.inner).step_by(COLUMNS) {
            let width = COLUMNS.min(self.inner - start);
            let (mut before, mut within) = ([identity; COLUMNS], [identity; COLUMNS]);
            let (before, within) = (&mut before[..width], &mut within[..width]);
            let mut left = block;
            for step in 0..self.size {
                if step % BLOCK == 0 && workers.stopped() {
                    return;
                }
                let step = if self.reverse {
                    self.size - 1 - step
                } else {
                    step
                };
                let first = step * self.inner + start;
                let input = &input[first..first + width];
                let output = &mut output[first..first + width];
                let columns = output.iter_mut().zip(input).zip(&mut *within).zip(&*before);
                for (((output, &element), within), &before) in columns {
                    *within = combine(*within, element);
                    *output = combine(before, *within);
                }
                left -= 1;
                if left == 0 {
                    before.copy_from_slice(output);
                    within.fill(identity);
                    left = block;
                }
            }
        }
    }
}
