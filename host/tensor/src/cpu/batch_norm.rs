//! Batch norm and its gradient, channel by channel.
//!
//! A channel's elements lie in as many runs as there are images. Short runs of
//! neighbouring channels are worked on together, as columns. Totals are kept in double
//! precision, so a batch may be as long as it likes.

use super::norm::sum;
use super::number::Real;
use super::shared::Shared;
use super::vector::with_vectors;
use super::workers::Workers;
use crate::DType;

/// The most elements of neighbouring channels that are worked on side by side.
const COLUMNS: usize = 256;

/// Shorter runs are worked on as columns.
const SHORT: usize = 32;

/// A norm per channel of `[images, channels, inner]`.
#[derive(Debug)]
pub(crate) struct BatchNorm {
    pub(crate) dtype: DType,
    pub(crate) images: usize,
    pub(crate) channels: usize,
    /// Elements of a channel of one image.
    pub(crate) inner: usize,
    pub(crate) epsilon: f64,
}

/// The gradient of a [`BatchNorm`] by its operand and its parameters.
#[derive(Debug)]
pub(crate) struct BatchNormGradient(pub(crate) BatchNorm);

/// Some neighbouring channels: one, or several with short runs.
#[derive(Clone, Copy)]
struct Group<'a> {
    norm: &'a BatchNorm,
    first: usize,
    count: usize,
}

impl BatchNorm {
    /// Channels of a group.
    fn together(&self) -> usize {
        if self.inner >= SHORT {
            return 1;
        }
        COLUMNS / self.inner.max(1)
    }

    fn group(&self, piece: usize) -> Group<'_> {
        let first = piece * self.together();
        Group {
            norm: self,
            first,
            count: self.together().min(self.channels - first),
        }
    }

    pub(super) fn run(&self, operands: [&[u8]; 3], results: [&mut [u8]; 3], workers: &Workers<'_>) {
        if self.dtype == DType::F64 {
            self.normalise::<f64>(operands, results, workers);
        } else {
            self.normalise::<f32>(operands, results, workers);
        }
    }

    fn normalise<T: Real>(
        &self,
        operands: [&[u8]; 3],
        results: [&mut [u8]; 3],
        workers: &Workers<'_>,
    ) {
        let [x, scale, shift] = operands.map(bytemuck::cast_slice::<u8, T>);
        let [y, mean, variance] = results.map(bytemuck::cast_slice_mut::<u8, T>);
        let y = Shared::new(y);
        let together = self.together();
        workers.each_chunk_of_two(
            (mean, together),
            (variance, together),
            |piece, mean, variance| {
                let group = self.group(piece);
                with_vectors(
                    #[inline(always)]
                    || {
                        group.statistics(x, mean, variance);
                        let slopes = group.columns(|channel| {
                            let factor = self.factor(variance[channel]);
                            (mean[channel], factor, scale[group.first + channel])
                        });
                        let shifts = group.columns(|channel| shift[group.first + channel]);
                        group.write(&y, [x], |column, [x]| {
                            let (mean, factor, scale) = slopes[column];
                            let normalised = x.subtract(mean).multiply(factor);
                            normalised.multiply(scale).add(shifts[column])
                        });
                    },
                );
            },
        );
    }

    /// `1 / sqrt(variance + epsilon)`.
    #[inline(always)]
    fn factor<T: Real>(&self, variance: T) -> T {
        T::ONE.divide(variance.add(T::from_f64(self.epsilon)).sqrt())
    }
}

impl BatchNormGradient {
    pub(super) fn run(&self, operands: [&[u8]; 3], results: [&mut [u8]; 3], workers: &Workers<'_>) {
        if self.0.dtype == DType::F64 {
            self.derive::<f64>(operands, results, workers);
        } else {
            self.derive::<f32>(operands, results, workers);
        }
    }

    fn derive<T: Real>(
        &self,
        operands: [&[u8]; 3],
        results: [&mut [u8]; 3],
        workers: &Workers<'_>,
    ) {
        let norm = &self.0;
        let [x, scale, up] = operands.map(bytemuck::cast_slice::<u8, T>);
        let [by_x, by_scale, by_shift] = results.map(bytemuck::cast_slice_mut::<u8, T>);
        let by_x = Shared::new(by_x);
        let together = norm.together();
        let by_parameters = ((by_scale, together), (by_shift, together));
        workers.each_chunk_of_two(
            by_parameters.0,
            by_parameters.1,
            |piece, by_scale, by_shift| {
                let group = norm.group(piece);
                with_vectors(
                    #[inline(always)]
                    || {
                        // The places of the results serve for the statistics meanwhile.
                        group.statistics(x, by_scale, by_shift);
                        let found = group
                            .columns(|channel| (by_scale[channel], norm.factor(by_shift[channel])));
                        let normalised = |column: usize, x: T| {
                            let (mean, factor): (T, T) = found[column];
                            x.subtract(mean).multiply(factor)
                        };
                        let along = group.sums([x, up], |column, [x, up]| {
                            up.multiply(normalised(column, x))
                        });
                        let flow = group.sums([up], |_, [up]| up);
                        let count = (norm.images * norm.inner) as f64;
                        let means = group.columns(|channel| {
                            let slope = scale[group.first + channel];
                            let along = T::from_f64(along[channel] / count);
                            (slope, along, T::from_f64(flow[channel] / count))
                        });
                        group.write(&by_x, [x, up], |column, [x, up]| {
                            let (slope, along, flow) = means[column];
                            let rest = up.subtract(flow);
                            let rest = rest.subtract(normalised(column, x).multiply(along));
                            rest.multiply(slope.multiply(found[column].1))
                        });
                        for channel in 0..group.count {
                            by_scale[channel] = T::from_f64(along[channel]);
                            by_shift[channel] = T::from_f64(flow[channel]);
                        }
                    },
                );
            },
        );
    }
}

impl Group<'_> {
    /// Elements of the channels in one image.
    #[inline(always)]
    fn width(&self) -> usize {
        self.count * self.norm.inner
    }

    /// Where the channels begin in an image.
    #[inline(always)]
    fn start(&self, image: usize) -> usize {
        (image * self.norm.channels + self.first) * self.norm.inner
    }

    #[inline(always)]
    fn is_one(&self) -> bool {
        self.norm.inner >= SHORT
    }

    /// A value per column; the first is that of a single channel.
    #[inline(always)]
    fn columns<V: Copy>(&self, of: impl Fn(usize) -> V) -> [V; COLUMNS] {
        let inner = self.norm.inner.max(1);
        std::array::from_fn(|column| of((column / inner).min(self.count - 1)))
    }

    /// Mean and variance per channel; NaN of nothing.
    #[inline(always)]
    fn statistics<T: Real>(&self, x: &[T], means: &mut [T], variances: &mut [T]) {
        let count = (self.norm.images * self.norm.inner) as f64;
        let sums = self.sums([x], |_, [x]| x);
        for (mean, sum) in means.iter_mut().zip(&sums) {
            *mean = T::from_f64(sum / count);
        }
        let columns = self.columns(|channel| means[channel]);
        let squares = self.sums([x], |column, [x]| {
            let distance = x.subtract(columns[column]);
            distance.multiply(distance)
        });
        for (variance, sum) in variances.iter_mut().zip(&squares) {
            *variance = T::from_f64(sum / count);
        }
    }

    /// The sum per channel of a function of the column and the elements there.
    #[inline(always)]
    fn sums<T: Real, const N: usize>(
        &self,
        from: [&[T]; N],
        term: impl Fn(usize, [T; N]) -> T,
    ) -> [f64; COLUMNS] {
        let width = self.width();
        let mut totals = [0.0; COLUMNS];
        for image in 0..self.norm.images {
            let start = self.start(image);
            let from = from.map(|from| &from[start..start + width]);
            if self.is_one() {
                totals[0] += sum(from, |elements| term(0, elements)).to_f64();
            } else {
                for (column, total) in totals[..width].iter_mut().enumerate() {
                    *total += term(column, from.map(|from| from[column])).to_f64();
                }
            }
        }
        if !self.is_one() {
            for channel in 0..self.count {
                let columns = channel * self.norm.inner..(channel + 1) * self.norm.inner;
                totals[channel] = totals[columns].iter().sum();
            }
        }
        totals
    }

    /// Writes a function of the column and the elements there.
    #[inline(always)]
    #[expect(unsafe_code, reason = "pieces write to different parts of one result")]
    fn write<T: Real, const N: usize>(
        &self,
        to: &Shared<'_, T>,
        from: [&[T]; N],
        value: impl Fn(usize, [T; N]) -> T,
    ) {
        let width = self.width();
        for image in 0..self.norm.images {
            let start = self.start(image);
            let from = from.map(|from| &from[start..start + width]);
            // SAFETY: no other piece has these channels.
            let to = unsafe { to.part(start, width) };
            if self.is_one() {
                for (place, to) in to.iter_mut().enumerate() {
                    *to = value(0, from.map(|from| from[place]));
                }
            } else {
                for (column, to) in to.iter_mut().enumerate() {
                    *to = value(column, from.map(|from| from[column]));
                }
            }
        }
    }
}
