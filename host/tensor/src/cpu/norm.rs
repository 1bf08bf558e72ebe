//! Norms and their gradients in one or two passes over memory.
//!
//! Statistics are computed anew for the gradient, which costs less than reading them back.

use super::number::Real;
use super::vector::with_vectors;
use super::workers::Workers;
use crate::DType;

/// Elements that make a piece worth handing to a thread.
const ELEMENTS_PER_PIECE: usize = 16 * 1024;

/// The most partial sums of the gradients by the parameters.
const MOST_PARTS: usize = 64;

const LANES: usize = 16;

/// Elements that are added up before their sum is added to the total.
const BLOCK: usize = 1024;

/// The sum of a function of the elements of some equally long slices: in lanes over blocks,
/// so that neither vectors nor precision depend on the length.
#[inline(always)]
pub(super) fn sum<T: Real, const N: usize>(slices: [&[T]; N], term: impl Fn([T; N]) -> T) -> T {
    let length = slices[0].len();
    let mut total = T::ZERO;
    let mut start = 0;
    while start < length {
        let end = (start + BLOCK).min(length);
        let blocks = slices.map(|slice| &slice[start..end]);
        let chunks = blocks.map(|block| block.as_chunks::<LANES>());
        let mut lanes = [T::ZERO; LANES];
        for place in 0..chunks[0].0.len() {
            let chunks = chunks.map(|(chunks, _)| &chunks[place]);
            for (lane, total) in lanes.iter_mut().enumerate() {
                *total = total.add(term(chunks.map(|chunk| chunk[lane])));
            }
        }
        let mut width = LANES / 2;
        while width > 0 {
            for lane in 0..width {
                lanes[lane] = lanes[lane].add(lanes[lane + width]);
            }
            width /= 2;
        }
        let mut block = lanes[0];
        for place in 0..chunks[0].1.len() {
            block = block.add(term(chunks.map(|(_, rest)| rest[place])));
        }
        total = total.add(block);
        start = end;
    }
    total
}

/// A norm over the rows of a matrix: a layer norm, or an RMS norm.
#[derive(Debug)]
pub(crate) struct Norm {
    pub(crate) dtype: DType,
    /// Elements of a row.
    pub(crate) size: usize,
    pub(crate) epsilon: f64,
    /// Whether the mean is subtracted first.
    pub(crate) centred: bool,
}

impl Norm {
    pub(super) fn run(&self, operands: &[&[u8]], y: &mut [u8], workers: &Workers<'_>) {
        if self.dtype == DType::F64 {
            self.normalise::<f64>(operands, y, workers);
        } else {
            self.normalise::<f32>(operands, y, workers);
        }
    }

    fn normalise<T: Real>(&self, operands: &[&[u8]], y: &mut [u8], workers: &Workers<'_>) {
        let x: &[T] = bytemuck::cast_slice(operands[0]);
        let scale: &[T] = bytemuck::cast_slice(operands[1]);
        let shift: &[T] = operands
            .get(2)
            .map_or(&[], |shift| bytemuck::cast_slice(shift));
        let y: &mut [T] = bytemuck::cast_slice_mut(y);
        let rows = ELEMENTS_PER_PIECE.div_ceil(self.size.max(1));
        workers.each_chunk(y, rows * self.size, |piece, y| {
            let x = &x[piece * rows * self.size..][..y.len()];
            with_vectors(
                #[inline(always)]
                || {
                    for (x, y) in x.chunks(self.size).zip(y.chunks_mut(self.size)) {
                        self.row(x, scale, shift, y);
                    }
                },
            );
        });
    }

    #[inline(always)]
    fn row<T: Real>(&self, x: &[T], scale: &[T], shift: &[T], y: &mut [T]) {
        let (mean, factor) = self.statistics(x);
        if shift.is_empty() {
            for ((y, &x), &scale) in y.iter_mut().zip(x).zip(scale) {
                *y = x.subtract(mean).multiply(factor).multiply(scale);
            }
        } else {
            for (((y, &x), &scale), &shift) in y.iter_mut().zip(x).zip(scale).zip(shift) {
                let normalised = x.subtract(mean).multiply(factor);
                *y = normalised.multiply(scale).add(shift);
            }
        }
    }

    /// The mean, and `1 / sqrt(variance + epsilon)`.
    #[inline(always)]
    fn statistics<T: Real>(&self, x: &[T]) -> (T, T) {
        let count = T::from_f64(x.len() as f64);
        let mean = if self.centred {
            sum([x], |[x]| x).divide(count)
        } else {
            T::ZERO
        };
        let variance = sum([x], |[x]| {
            let distance = x.subtract(mean);
            distance.multiply(distance)
        });
        let variance = variance.divide(count).add(T::from_f64(self.epsilon));
        (mean, T::ONE.divide(variance.sqrt()))
    }
}

/// The gradient of a [`Norm`] by its operand and its parameters.
#[derive(Debug)]
pub(crate) struct NormGradient {
    pub(crate) norm: Norm,
    pub(crate) rows: usize,
}

impl NormGradient {
    /// Rows whose contributions to the parameters are summed in one piece.
    fn rows_per_part(&self) -> usize {
        let worth = ELEMENTS_PER_PIECE.div_ceil(self.norm.size.max(1));
        worth.max(self.rows.div_ceil(MOST_PARTS))
    }

    fn parts(&self) -> usize {
        self.rows.div_ceil(self.rows_per_part())
    }

    fn parameters(&self) -> usize {
        if self.norm.centred { 2 } else { 1 }
    }

    /// Elements of working memory: the parts of the gradients by the parameters.
    pub(crate) fn scratch(&self) -> usize {
        self.parts()
            .saturating_mul(self.parameters())
            .saturating_mul(self.norm.size)
    }

    pub(super) fn run(
        &self,
        operands: [&[u8]; 3],
        results: &mut [&mut [u8]],
        workers: &Workers<'_>,
    ) {
        if self.norm.dtype == DType::F64 {
            self.derive::<f64>(operands, results, workers);
        } else {
            self.derive::<f32>(operands, results, workers);
        }
    }

    fn derive<T: Real>(
        &self,
        operands: [&[u8]; 3],
        results: &mut [&mut [u8]],
        workers: &Workers<'_>,
    ) {
        let [x, scale, up] = operands.map(bytemuck::cast_slice::<u8, T>);
        let parameters = self.parameters();
        let (by_x, rest) = results.split_at_mut(1);
        let by_x: &mut [T] = bytemuck::cast_slice_mut(by_x[0]);
        let (by_parameters, parts) = rest.split_at_mut(parameters);
        let size = self.norm.size;
        if size == 0 {
            return;
        }
        if let Some(parts) = parts.first_mut() {
            let parts: &mut [T] = bytemuck::cast_slice_mut(parts);
            let rows = self.rows_per_part();
            let length = parameters * size;
            workers.each_chunk_of_two((by_x, rows * size), (parts, length), |piece, by_x, part| {
                let first = piece * rows * size;
                let x = &x[first..first + by_x.len()];
                let up = &up[first..first + by_x.len()];
                part.fill(T::ZERO);
                let (by_scale, by_shift) = part.split_at_mut(size);
                with_vectors(
                    #[inline(always)]
                    || {
                        let rows = x.chunks(size).zip(up.chunks(size));
                        for ((x, up), by_x) in rows.zip(by_x.chunks_mut(size)) {
                            self.row([x, scale, up], by_x, by_scale, by_shift);
                        }
                    },
                );
            });
            for (place, result) in by_parameters.iter_mut().enumerate() {
                let result: &mut [T] = bytemuck::cast_slice_mut(result);
                result.fill(T::ZERO);
                for part in parts.chunks(length) {
                    let part = &part[place * size..][..size];
                    for (total, &part) in result.iter_mut().zip(part) {
                        *total = total.add(part);
                    }
                }
            }
        } else {
            // Without rows nothing flows.
            for result in by_parameters {
                result.fill(0);
            }
        }
    }

    #[inline(always)]
    fn row<T: Real>(
        &self,
        [x, scale, up]: [&[T]; 3],
        by_x: &mut [T],
        by_scale: &mut [T],
        by_shift: &mut [T],
    ) {
        let (mean, factor) = self.norm.statistics(x);
        let normalised = |x: T| x.subtract(mean).multiply(factor);
        let count = T::from_f64(x.len() as f64);
        let along = sum([x, scale, up], |[x, scale, up]| {
            up.multiply(scale).multiply(normalised(x))
        });
        let along = along.divide(count);
        let flow = if self.norm.centred {
            sum([scale, up], |[scale, up]| up.multiply(scale)).divide(count)
        } else {
            T::ZERO
        };
        for (((by_x, &x), &scale), &up) in by_x.iter_mut().zip(x).zip(scale).zip(up) {
            let rest = up.multiply(scale).subtract(normalised(x).multiply(along));
            *by_x = rest.subtract(flow).multiply(factor);
        }
        for ((total, &x), &up) in by_scale.iter_mut().zip(x).zip(up) {
            *total = total.add(up.multiply(normalised(x)));
        }
        for (total, &up) in by_shift.iter_mut().zip(up) {
            *total = total.add(up);
        }
    }
}
