use super::math;
use super::workers::Workers;

/// Elements that are exponentiated together; short rows share one buffer on the stack.
const BUFFER: usize = 512;

/// Operand elements that make a piece worth handing to a thread.
const ELEMENTS_PER_PIECE: usize = 8 * 1024;

/// Softmax, or its logarithm, along one axis of a row-major array.
///
/// The maximum is subtracted first, so large operands do not overflow.
#[derive(Debug)]
pub(crate) struct Softmax {
    pub(crate) log: bool,
    /// Elements along the axis.
    pub(crate) size: usize,
    /// Elements of one step along the axis.
    pub(crate) inner: usize,
}

impl Softmax {
    pub(super) fn run(&self, input: &[u8], output: &mut [u8], workers: &Workers<'_>) {
        let input: &[f32] = bytemuck::cast_slice(input);
        let output: &mut [f32] = bytemuck::cast_slice_mut(output);
        let slab = self.size * self.inner;
        if slab == 0 {
            return;
        }
        let slabs_per_piece = ELEMENTS_PER_PIECE.div_ceil(slab);
        workers.each_chunk(output, slabs_per_piece * slab, |piece, chunk| {
            let first = piece * slabs_per_piece * slab;
            let input = &input[first..first + chunk.len()];
            if self.inner > 1 {
                for (input, output) in input.chunks(slab).zip(chunk.chunks_mut(slab)) {
                    self.strided(input, output);
                }
            } else {
                pulp::Arch::new().dispatch(Rows {
                    kernel: self,
                    input,
                    output: chunk,
                });
            }
        });
    }

    #[inline(always)]
    fn rows(&self, input: &[f32], output: &mut [f32]) {
        if self.size > BUFFER {
            for (input, output) in input.chunks(self.size).zip(output.chunks_mut(self.size)) {
                self.long_row(input, output);
            }
            return;
        }
        let together = BUFFER / self.size * self.size;
        let mut buffer = [0.0; BUFFER];
        for (input, output) in input.chunks(together).zip(output.chunks_mut(together)) {
            for (input, output) in input.chunks(self.size).zip(output.chunks_mut(self.size)) {
                let greatest = input.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                for (output, &x) in output.iter_mut().zip(input) {
                    *output = x - greatest;
                }
            }
            let powers = &mut buffer[..output.len()];
            for (power, &x) in powers.iter_mut().zip(&*output) {
                *power = math::exp(x);
            }
            let rows = output.chunks_mut(self.size);
            for (output, powers) in rows.zip(powers.chunks(self.size)) {
                let sum: f32 = powers.iter().sum();
                self.finish(output, powers, sum);
            }
        }
    }

    #[inline(always)]
    fn finish(&self, output: &mut [f32], powers: &[f32], sum: f32) {
        if self.log {
            let log = math::log(sum);
            for output in output {
                *output -= log;
            }
        } else {
            let share = 1.0 / sum;
            for (output, &power) in output.iter_mut().zip(powers) {
                *output = power * share;
            }
        }
    }

    #[inline(always)]
    fn long_row(&self, input: &[f32], output: &mut [f32]) {
        let mut lanes = [f32::NEG_INFINITY; 16];
        let (chunks, rest) = input.as_chunks::<16>();
        for chunk in chunks {
            for (lane, &x) in lanes.iter_mut().zip(chunk) {
                *lane = lane.max(x);
            }
        }
        let greatest = lanes
            .iter()
            .chain(rest)
            .copied()
            .fold(f32::NEG_INFINITY, f32::max);
        let mut sum = 0.0;
        let mut buffer = [0.0; BUFFER];
        for (input, output) in input.chunks(BUFFER).zip(output.chunks_mut(BUFFER)) {
            let powers = &mut buffer[..input.len()];
            for (power, &x) in powers.iter_mut().zip(input) {
                *power = math::exp(x - greatest);
            }
            sum += sum_in_lanes(powers);
            if self.log {
                for (output, &x) in output.iter_mut().zip(input) {
                    *output = x - greatest;
                }
            } else {
                output.copy_from_slice(powers);
            }
        }
        if self.log {
            let log = math::log(sum);
            for output in output {
                *output -= log;
            }
        } else {
            let share = 1.0 / sum;
            for output in output {
                *output *= share;
            }
        }
    }

    /// An axis that is not the last: each column is walked three times.
    fn strided(&self, input: &[f32], output: &mut [f32]) {
        for column in 0..self.inner {
            let elements = input[column..].iter().step_by(self.inner).copied();
            let greatest = elements.clone().fold(f32::NEG_INFINITY, f32::max);
            let sum: f32 = elements.clone().map(|x| math::exp(x - greatest)).sum();
            let log = math::log(sum);
            let outputs = output[column..].iter_mut().step_by(self.inner);
            for (output, x) in outputs.zip(elements) {
                *output = if self.log {
                    x - greatest - log
                } else {
                    math::exp(x - greatest) / sum
                };
            }
        }
    }
}

/// Neighbouring rows, as work for the instruction set that the machine has.
struct Rows<'a> {
    kernel: &'a Softmax,
    input: &'a [f32],
    output: &'a mut [f32],
}

impl pulp::NullaryFnOnce for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        self.kernel.rows(self.input, self.output);
    }
}

#[inline(always)]
fn sum_in_lanes(values: &[f32]) -> f32 {
    let (chunks, rest) = values.as_chunks::<16>();
    let mut lanes = [0.0; 16];
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane += value;
        }
    }
    lanes.iter().chain(rest).sum()
}
