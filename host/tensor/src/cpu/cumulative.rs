//! Running sums and products along an axis.

use super::number::{Number, with_wide};
use super::workers::Workers;
use crate::DType;

/// Steps whose sum is taken for itself, so that errors do not grow with every step.
const BLOCK: usize = 1024;

/// Columns that are walked together.
const COLUMNS: usize = 128;

/// Parts of lines that are walked together, as each step waits for the one before it.
const PARTS: usize = 8;

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
            if self.inner == 1 {
                if self.product {
                    self.lines(input, chunk, T::multiply, usize::MAX, workers);
                } else {
                    self.lines(input, chunk, T::add, BLOCK, workers);
                }
                return;
            }
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

    /// As [`Running::slab`], where the axis is the last one: the same in another order.
    #[inline(always)]
    fn lines<T: Number>(
        &self,
        input: &[T],
        output: &mut [T],
        combine: impl Fn(T, T) -> T,
        block: usize,
        workers: &Workers<'_>,
    ) {
        if self.size <= block {
            self.parts(input, output, self.size, &combine, workers);
            return;
        }
        for (input, output) in input.chunks(self.size).zip(output.chunks_mut(self.size)) {
            // Blocks are counted from where the walk begins; the last may be shorter.
            let short = self.size % block;
            let (edge, rest) = if self.reverse {
                (0..short, short..self.size)
            } else {
                (self.size - short..self.size, 0..self.size - short)
            };
            for (part, length) in [(edge, short), (rest, block)] {
                let output = &mut output[part.clone()];
                self.parts(&input[part], output, length, &combine, workers);
            }
            let blocks = self.size.div_ceil(block);
            for place in 1..blocks {
                if workers.stopped() {
                    return;
                }
                let (before, this) = if self.reverse {
                    let end = self.size - place * block;
                    (end, end.saturating_sub(block)..end)
                } else {
                    let start = place * block;
                    (start - 1, start..(start + block).min(self.size))
                };
                let before = output[before];
                for element in &mut output[this] {
                    *element = combine(before, *element);
                }
            }
        }
    }

    /// Combines within parts of that length, several at a time.
    #[inline(always)]
    fn parts<T: Number>(
        &self,
        input: &[T],
        output: &mut [T],
        length: usize,
        combine: &impl Fn(T, T) -> T,
        workers: &Workers<'_>,
    ) {
        if input.is_empty() {
            return;
        }
        let group = PARTS * length;
        let mut inputs = input.chunks_exact(group);
        let mut outputs = output.chunks_exact_mut(group);
        for (input, output) in inputs.by_ref().zip(outputs.by_ref()) {
            if workers.stopped() {
                return;
            }
            self.together::<T, PARTS>(input, output, length, combine, workers);
        }
        let rest = inputs.remainder().chunks(length);
        for (input, output) in rest.zip(outputs.into_remainder().chunks_mut(length)) {
            self.together::<T, 1>(input, output, length, combine, workers);
        }
    }

    /// Combines within `N` parts.
    #[inline(always)]
    fn together<T: Number, const N: usize>(
        &self,
        input: &[T],
        output: &mut [T],
        length: usize,
        combine: &impl Fn(T, T) -> T,
        workers: &Workers<'_>,
    ) {
        let (input, output) = (&input[..N * length], &mut output[..N * length]);
        let first = if self.reverse { length - 1 } else { 0 };
        let mut within = [T::ZERO; N];
        for (part, within) in within.iter_mut().enumerate() {
            *within = input[part * length + first];
            output[part * length + first] = *within;
        }
        for step in 1..length {
            if step % BLOCK == 0 && workers.stopped() {
                return;
            }
            let step = if self.reverse {
                length - 1 - step
            } else {
                step
            };
            for (part, within) in within.iter_mut().enumerate() {
                *within = combine(*within, input[part * length + step]);
                output[part * length + step] = *within;
            }
        }
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
