use super::number::Real;
use super::reduce::{Max, Sum, combine_block};
use super::workers::Workers;
use crate::DType;

/// Elements that are exponentiated together; short rows share one buffer on the stack.
const BUFFER: usize = 512;

/// Operand elements that make a piece worth handing to a thread.
const ELEMENTS_PER_PIECE: usize = 8 * 1024;

/// Softmax, or its logarithm, along one axis of a row-major array.
///
/// The maximum is subtracted first, so large operands do not overflow. Half types come
/// widened.
#[derive(Debug)]
pub(crate) struct Softmax {
    /// `f32` or `f64`.
    pub(crate) dtype: DType,
    pub(crate) log: bool,
    /// Elements along the axis.
    pub(crate) size: usize,
    /// Elements of one step along the axis.
    pub(crate) inner: usize,
}

impl Softmax {
    pub(super) fn run(&self, input: &[u8], output: &mut [u8], workers: &Workers<'_>) {
        if self.dtype == DType::F64 {
            self.softmax::<f64>(input, output, workers);
        } else {
            self.softmax::<f32>(input, output, workers);
        }
    }

    fn softmax<T: Real>(&self, input: &[u8], output: &mut [u8], workers: &Workers<'_>) {
        let input: &[T] = bytemuck::cast_slice(input);
        let output: &mut [T] = bytemuck::cast_slice_mut(output);
        let slab = self.size * self.inner;
        if slab == 0 {
            return;
        }
        let slabs_per_piece = ELEMENTS_PER_PIECE.div_ceil(slab);
        workers.each_chunk(output, slabs_per_piece * slab, |piece, chunk| {
            let first = piece * slabs_per_piece * slab;
            let input = &input[first..first + chunk.len()];
            pulp::Arch::new().dispatch(
                #[inline(always)]
                || self.slabs(input, chunk, workers),
            );
        });
    }

    #[inline(always)]
    fn slabs<T: Real>(&self, input: &[T], output: &mut [T], workers: &Workers<'_>) {
        if self.inner > 1 {
            let slab = self.size * self.inner;
            for (input, output) in input.chunks(slab).zip(output.chunks_mut(slab)) {
                for column in (0..self.inner).step_by(BUFFER) {
                    self.columns(column, input, output, workers);
                }
            }
        } else if self.size > BUFFER {
            for (input, output) in input.chunks(self.size).zip(output.chunks_mut(self.size)) {
                self.long_row(input, output, workers);
            }
        } else {
            let together = BUFFER / self.size * self.size;
            for (input, output) in input.chunks(together).zip(output.chunks_mut(together)) {
                self.short_rows(input, output);
            }
        }
    }

    /// Whole rows that fit the buffer.
    #[inline(always)]
    fn short_rows<T: Real>(&self, input: &[T], output: &mut [T]) {
        let mut shifted = [T::ZERO; BUFFER];
        let mut powers = [T::ZERO; BUFFER];
        let shifted = &mut shifted[..input.len()];
        let powers = &mut powers[..input.len()];
        for (shifted, row) in shifted.chunks_mut(self.size).zip(input.chunks(self.size)) {
            let greatest = combine_block::<T, Max>(row);
            for (shifted, &x) in shifted.iter_mut().zip(row) {
                *shifted = x.subtract(greatest);
            }
        }
        for (power, &x) in powers.iter_mut().zip(&*shifted) {
            *power = x.exp();
        }
        let rows = shifted.chunks(self.size).zip(powers.chunks(self.size));
        for (output, (shifted, powers)) in output.chunks_mut(self.size).zip(rows) {
            let sum = combine_block::<T, Sum>(powers);
            if self.log {
                let log = sum.log();
                for (output, &x) in output.iter_mut().zip(shifted) {
                    *output = x.subtract(log);
                }
            } else {
                let share = T::ONE.divide(sum);
                for (output, &power) in output.iter_mut().zip(powers) {
                    *output = power.multiply(share);
                }
            }
        }
    }

    #[inline(always)]
    fn long_row<T: Real>(&self, input: &[T], output: &mut [T], workers: &Workers<'_>) {
        let greatest = combine_block::<T, Max>(input);
        let mut sum = T::ZERO;
        let mut powers = [T::ZERO; BUFFER];
        for input in input.chunks(BUFFER) {
            if workers.stopped() {
                return;
            }
            let powers = &mut powers[..input.len()];
            for (power, &x) in powers.iter_mut().zip(input) {
                *power = x.subtract(greatest).exp();
            }
            sum = sum.add(combine_block::<T, Sum>(powers));
        }
        let (log, share) = (sum.log(), T::ONE.divide(sum));
        for (output, input) in output.chunks_mut(BUFFER).zip(input.chunks(BUFFER)) {
            if workers.stopped() {
                return;
            }
            for (output, &x) in output.iter_mut().zip(input) {
                let x = x.subtract(greatest);
                *output = if self.log {
                    x.subtract(log)
                } else {
                    x.exp().multiply(share)
                };
            }
        }
    }

    /// Neighbouring columns of one slab from `first` on, as many as fit the buffers.
    #[inline(always)]
    fn columns<T: Real>(&self, first: usize, input: &[T], output: &mut [T], workers: &Workers<'_>) {
        let count = (self.inner - first).min(BUFFER);
        let mut greatest = [T::LOWEST; BUFFER];
        let mut sums = [T::ZERO; BUFFER];
        let (greatest, sums) = (&mut greatest[..count], &mut sums[..count]);
        for row in input.chunks(self.inner) {
            for (greatest, &x) in greatest.iter_mut().zip(&row[first..]) {
                *greatest = greatest.maximum(x);
            }
        }
        for row in input.chunks(self.inner) {
            if workers.stopped() {
                return;
            }
            for ((sum, &greatest), &x) in sums.iter_mut().zip(&*greatest).zip(&row[first..]) {
                *sum = sum.add(x.subtract(greatest).exp());
            }
        }
        for sum in &mut *sums {
            *sum = if self.log {
                sum.log()
            } else {
                T::ONE.divide(*sum)
            };
        }
        let rows = input.chunks(self.inner).zip(output.chunks_mut(self.inner));
        for (input, output) in rows {
            if workers.stopped() {
                return;
            }
            let sums = greatest.iter().zip(&*sums);
            let row = output[first..].iter_mut().zip(&input[first..]);
            for ((output, &x), (&greatest, &sum)) in row.zip(sums) {
                let x = x.subtract(greatest);
                *output = if self.log {
                    x.subtract(sum)
                } else {
                    x.exp().multiply(sum)
                };
            }
        }
    }
}
