//! Pools: the greatest element or the mean under a window, plane by plane.

use std::ops::Range;

use super::number::Real;
use super::vector::fetch_all;
use super::workers::Workers;
use crate::DType;
use crate::window::{AveragePool, Window};

/// Elements that make a piece worth handing to a thread.
const ELEMENTS_PER_PIECE: usize = 16 * 1024;

/// Places of a row that are worked on side by side.
const BLOCK: usize = 64;

/// One spatial axis.
#[derive(Debug, Clone, Copy)]
struct Axis {
    spatial: usize,
    places: usize,
    window: usize,
    stride: usize,
    low: usize,
    high: usize,
    dilation: usize,
}

/// The spatial axes; a one-dimensional pool has one row.
fn axes(window: &Window, spatial: &[usize]) -> [Axis; 2] {
    let places = window.places(spatial);
    let axis = |axis: usize| Axis {
        spatial: spatial[axis],
        places: places[axis],
        window: window.size[axis],
        stride: window.strides[axis],
        low: window.low[axis],
        high: window.high[axis],
        dilation: window.dilation[axis],
    };
    let single = Axis {
        spatial: 1,
        places: 1,
        window: 1,
        stride: 1,
        low: 0,
        high: 0,
        dilation: 1,
    };
    match spatial.len() {
        1 => [single, axis(0)],
        _ => [axis(0), axis(1)],
    }
}

/// Elements under a window.
fn taps(axes: &[Axis; 2]) -> u64 {
    let taps = axes.iter().map(|axis| axis.window as u64);
    taps.fold(1, u64::saturating_mul)
}

impl Axis {
    /// The element under a tap at a place; none when that is padding.
    #[inline(always)]
    fn element(&self, place: usize, tap: usize) -> Option<usize> {
        let element = (place * self.stride + tap * self.dilation).checked_sub(self.low)?;
        (element < self.spatial).then_some(element)
    }

    /// The places from `first` to `last` whose element under a tap is no padding.
    #[inline(always)]
    fn inside(&self, tap: usize, first: usize, last: usize) -> Range<usize> {
        let offset = tap * self.dilation;
        // Mostly all are, and dividing takes longer than comparing a block of elements.
        let (start, end) = (first * self.stride + offset, last * self.stride + offset);
        if start >= self.low && end < self.low + self.spatial + self.stride {
            return first..last;
        }
        let start = self.low.saturating_sub(offset).div_ceil(self.stride);
        let end = (self.spatial + self.low)
            .saturating_sub(offset)
            .div_ceil(self.stride);
        let start = start.clamp(first, last);
        start..end.clamp(start, last)
    }

    /// The taps at a place that are not padding.
    fn taps(&self, place: usize) -> Range<usize> {
        let start = (place * self.stride).min(self.low + self.spatial);
        let last = start + (self.window - 1) * self.dilation;
        if start >= self.low && last < self.low + self.spatial {
            return 0..self.window;
        }
        let first = self.low.saturating_sub(start).div_ceil(self.dilation);
        let end = (self.low + self.spatial - start).div_ceil(self.dilation);
        first.min(self.window)..end.clamp(first.min(self.window), self.window)
    }

    /// What a mean at a place divides by.
    fn count(&self, place: usize, count_padding: bool) -> usize {
        if !count_padding {
            return self.taps(place).len();
        }
        // Only what lies within the padding counts, as the window fits into it.
        let end = (self.spatial + self.low + self.high).saturating_sub(place * self.stride);
        self.window.min(end)
    }
}

/// The greatest element under each window, and its position.
#[derive(Debug)]
pub(crate) struct MaxPool {
    dtype: DType,
    axes: [Axis; 2],
}

impl MaxPool {
    /// Elements under a window.
    pub(super) fn taps(&self) -> u64 {
        taps(&self.axes)
    }

    pub(crate) fn new(window: &Window, dtype: DType, spatial: &[usize]) -> Self {
        Self {
            dtype,
            axes: axes(window, spatial),
        }
    }

    pub(super) fn run(
        &self,
        x: &[u8],
        values: &mut [u8],
        positions: &mut [u8],
        workers: &Workers<'_>,
    ) {
        if self.dtype == DType::F64 {
            self.pool::<f64>(x, values, positions, workers);
        } else {
            self.pool::<f32>(x, values, positions, workers);
        }
    }

    fn pool<T: Real>(
        &self,
        x: &[u8],
        values: &mut [u8],
        positions: &mut [u8],
        workers: &Workers<'_>,
    ) {
        let x: &[T] = bytemuck::cast_slice(x);
        let values: &mut [T] = bytemuck::cast_slice_mut(values);
        let positions: &mut [i32] = bytemuck::cast_slice_mut(positions);
        let [rows, columns] = &self.axes;
        let plane = rows.spatial * columns.spatial;
        let places = rows.places * columns.places;
        let together = ELEMENTS_PER_PIECE.div_ceil(plane);
        workers.each_chunk_of_two(
            (values, together * places),
            (positions, together * places),
            |piece, values, positions| {
                let x = &x[piece * together * plane..];
                let planes = x.chunks(plane);
                let results = values.chunks_mut(places).zip(positions.chunks_mut(places));
                pulp::Arch::new().dispatch(
                    #[inline(always)]
                    || {
                        let all = planes.zip(results).enumerate();
                        for (number, (elements, (values, positions))) in all {
                            fetch_all(x, (number + 1) * plane..(number + 2) * plane);
                            self.plane(elements, values, positions, workers);
                        }
                    },
                );
            },
        );
    }

    #[inline(always)]
    fn plane<T: Real>(
        &self,
        x: &[T],
        values: &mut [T],
        positions: &mut [i32],
        workers: &Workers<'_>,
    ) {
        let [rows, columns] = &self.axes;
        let lines = values
            .chunks_mut(columns.places)
            .zip(positions.chunks_mut(columns.places));
        for (row, (values, positions)) in lines.enumerate() {
            let blocks = values.chunks_mut(LANES).zip(positions.chunks_mut(LANES));
            for (block, (values, positions)) in blocks.enumerate() {
                let mut best = Best::new();
                for row_tap in rows.taps(row) {
                    if workers.stopped() {
                        return;
                    }
                    let Some(line) = rows.element(row, row_tap) else {
                        continue;
                    };
                    let line = line * columns.spatial;
                    for tap in 0..columns.window {
                        let first = block * LANES;
                        let inside = columns.inside(tap, first, first + values.len());
                        let Some(element) = columns.element(inside.start, tap) else {
                            continue;
                        };
                        let lanes = inside.start - first..inside.end - first;
                        match columns.stride {
                            1 => best.meet::<1>(x, line + element, lanes),
                            2 => best.meet::<2>(x, line + element, lanes),
                            stride => best.meet_by(stride, x, line + element, lanes),
                        }
                    }
                }
                values.copy_from_slice(&best.values[..values.len()]);
                positions.copy_from_slice(&best.positions[..positions.len()]);
            }
        }
    }
}

/// Places of a row that are compared side by side.
const LANES: usize = 16;

/// The greatest elements found so far at some places, and their positions; -1 where there
/// is none.
struct Best<T> {
    values: [T; LANES],
    positions: [i32; LANES],
}

impl<T: Real> Best<T> {
    #[inline(always)]
    fn new() -> Self {
        Self {
            values: [T::LOWEST; LANES],
            positions: [-1; LANES],
        }
    }

    /// Compares elements of `x` from `at` on, so many apart, with what these lanes hold.
    #[inline(always)]
    fn meet<const STRIDE: usize>(&mut self, x: &[T], at: usize, lanes: Range<usize>) {
        let whole = x.get(at..).filter(|_| lanes.start == 0);
        let Some(from) = whole.and_then(|from| from.get(..LANES * STRIDE)) else {
            return self.meet_by(STRIDE, x, at, lanes);
        };
        let elements = std::array::from_fn(|lane| from[lane * STRIDE]);
        self.take(&elements, at, STRIDE, lanes);
    }

    #[inline(always)]
    fn meet_by(&mut self, stride: usize, x: &[T], at: usize, lanes: Range<usize>) {
        if lanes.is_empty() {
            return;
        }
        let mut elements = [T::ZERO; LANES];
        let from = x[at..].iter().step_by(stride);
        for (element, &from) in elements[lanes.clone()].iter_mut().zip(from) {
            *element = from;
        }
        let at = at.wrapping_sub(lanes.start * stride);
        self.take(&elements, at, stride, lanes);
    }

    /// Takes over what is greater; the first lane's element is at position `at`.
    #[inline(always)]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        reason = "the rule lets positions fit i32"
    )]
    #[expect(
        clippy::needless_range_loop,
        reason = "three arrays are walked side by side"
    )]
    fn take(&mut self, elements: &[T; LANES], at: usize, stride: usize, lanes: Range<usize>) {
        let (at, stride) = (at as i32, stride as i32);
        let (first, end) = (lanes.start as i32, lanes.end as i32);
        for lane in 0..LANES {
            let number = lane as i32;
            let (value, position) = (self.values[lane], self.positions[lane]);
            // Also false when the element is NaN.
            let is_less = elements[lane] <= value;
            let wins = (position < 0) | (!is_less & !value.is_nan());
            let wins = wins & (number >= first) & (number < end);
            self.values[lane] = if wins { elements[lane] } else { value };
            let place = at.wrapping_add(number.wrapping_mul(stride));
            self.positions[lane] = if wins { place } else { position };
        }
    }
}

/// The mean under each window, or the derivative of that.
#[derive(Debug)]
pub(crate) struct Average {
    dtype: DType,
    axes: [Axis; 2],
    count_padding: bool,
    transposed: bool,
}

impl Average {
    /// Elements under a window.
    pub(super) fn taps(&self) -> u64 {
        taps(&self.axes)
    }

    /// Plans a pool of elements with these spatial axes.
    pub(crate) fn new(pool: &AveragePool, dtype: DType, spatial: &[usize]) -> Self {
        Self {
            dtype,
            axes: axes(&pool.window, spatial),
            count_padding: pool.count_padding,
            transposed: pool.transposed,
        }
    }

    pub(super) fn run(&self, from: &[u8], to: &mut [u8], workers: &Workers<'_>) {
        if self.dtype == DType::F64 {
            self.pool::<f64>(from, to, workers);
        } else {
            self.pool::<f32>(from, to, workers);
        }
    }

    fn pool<T: Real>(&self, from: &[u8], to: &mut [u8], workers: &Workers<'_>) {
        let from: &[T] = bytemuck::cast_slice(from);
        let to: &mut [T] = bytemuck::cast_slice_mut(to);
        let [rows, columns] = &self.axes;
        let elements = rows.spatial * columns.spatial;
        let places = rows.places * columns.places;
        let (source, plane) = if self.transposed {
            (places, elements)
        } else {
            (elements, places)
        };
        if plane == 0 {
            return;
        }
        let together = ELEMENTS_PER_PIECE.div_ceil(elements.max(places));
        workers.each_chunk(to, together * plane, |piece, to| {
            pulp::Arch::new().dispatch(
                #[inline(always)]
                || {
                    for (place, to) in to.chunks_mut(plane).enumerate() {
                        let first = (piece * together + place) * source;
                        let from = &from[first..first + source];
                        to.fill(T::ZERO);
                        if self.transposed {
                            self.spread(from, to, workers);
                        } else {
                            self.mean(from, to, workers);
                        }
                    }
                },
            );
        });
    }

    /// One divided by what the mean at these places divides by.
    #[inline(always)]
    fn shares<T: Real>(&self, row: usize, first: usize, shares: &mut [T]) {
        let [rows, columns] = &self.axes;
        let row = rows.count(row, self.count_padding);
        for (place, share) in shares.iter_mut().enumerate() {
            let count = row * columns.count(first + place, self.count_padding);
            *share = T::ONE.divide(T::from_f64(count as f64));
        }
    }

    #[inline(always)]
    fn mean<T: Real>(&self, x: &[T], y: &mut [T], workers: &Workers<'_>) {
        let [rows, columns] = &self.axes;
        let mut shares = [T::ZERO; BLOCK];
        for (row, y) in y.chunks_mut(columns.places).enumerate() {
            for (block, y) in y.chunks_mut(BLOCK).enumerate() {
                let first = block * BLOCK;
                for row_tap in rows.taps(row) {
                    if workers.stopped() {
                        return;
                    }
                    let Some(line) = rows.element(row, row_tap) else {
                        continue;
                    };
                    let x = &x[line * columns.spatial..][..columns.spatial];
                    for tap in 0..columns.window {
                        let inside = columns.inside(tap, first, first + y.len());
                        let Some(start) = columns.element(inside.start, tap) else {
                            continue;
                        };
                        let y = &mut y[inside.start - first..inside.end - first];
                        for (y, &x) in y.iter_mut().zip(x[start..].iter().step_by(columns.stride)) {
                            *y = y.add(x);
                        }
                    }
                }
                let shares = &mut shares[..y.len()];
                self.shares(row, first, shares);
                for (y, &share) in y.iter_mut().zip(&*shares) {
                    *y = y.multiply(share);
                }
            }
        }
    }

    #[inline(always)]
    fn spread<T: Real>(&self, y: &[T], x: &mut [T], workers: &Workers<'_>) {
        let [rows, columns] = &self.axes;
        let mut shares = [T::ZERO; BLOCK];
        if columns.places == 0 {
            return;
        }
        for (row, y) in y.chunks(columns.places).enumerate() {
            for (block, y) in y.chunks(BLOCK).enumerate() {
                let first = block * BLOCK;
                let flows = &mut shares[..y.len()];
                self.shares(row, first, flows);
                for (flow, &y) in flows.iter_mut().zip(y) {
                    *flow = flow.multiply(y);
                }
                for row_tap in rows.taps(row) {
                    if workers.stopped() {
                        return;
                    }
                    let Some(line) = rows.element(row, row_tap) else {
                        continue;
                    };
                    let x = &mut x[line * columns.spatial..][..columns.spatial];
                    for tap in 0..columns.window {
                        let inside = columns.inside(tap, first, first + y.len());
                        let Some(start) = columns.element(inside.start, tap) else {
                            continue;
                        };
                        let flows = &flows[inside.start - first..inside.end - first];
                        let x = x[start..].iter_mut().step_by(columns.stride);
                        for (x, &flow) in x.zip(flows) {
                            *x = x.add(flow);
                        }
                    }
                }
            }
        }
    }
}
