//! Convolutions with a 3x3 kernel at stride 1 in a quarter of the multiplications.
//!
//! Source: Lavin and Gray, "Fast algorithms for convolutional neural networks", CVPR 2016,
//! F(4x4, 3x3): tiles of 6x6 elements, which overlap by two, and the kernel are transformed
//! by small matrices; a product per element of the transformed tile, summed over channels,
//! transforms back to 4x4 places. The 36 sums are matrix products. The derivative by the
//! operand is such a convolution of the adjoint with the kernel turned around; that by the
//! kernel is the same in reverse order, with products summed over tiles. Errors are a few
//! times those of the direct sum.
//!
//! Inside, channels are the innermost axis and vectors run along them. The rows of tiles of
//! all images are cut into chunks whose working memory fits the L2 cache, and the chunks
//! into a few lanes by shape alone. A lane has memory of its own, so bits do not depend on
//! threads, and memory does not either.

#![expect(
    clippy::needless_range_loop,
    reason = "vectors may only be passed to what is surely inlined, which iterators are not"
)]

use std::ops::Range;

use pulp::Simd;

use super::shared::Shared;
use super::square::{SIDE, turn};
use super::vector::{Vector, fetch};
use super::workers::Workers;
use crate::shape::Dims;
use crate::window::{Convolution, Wanted};

/// Places and elements of a tile along one axis.
const PLACES: usize = 4;
const ELEMENTS: usize = 6;

/// Elements of a transformed tile.
const POINTS: usize = ELEMENTS * ELEMENTS;

/// The most lanes, and the most elements of their memory together.
const MOST_LANES: usize = 8;
const MOST_ELEMENTS: usize = 1 << 23;

/// Elements of the transformed tiles of one chunk.
const ELEMENTS_PER_CHUNK: usize = 3 << 16;

/// The fewest tiles of a chunk, so that each transformed kernel that is read pays off.
const FEWEST_TILES: usize = 32;

/// Elements of transformed kernels that are summed in one piece.
const ELEMENTS_PER_SUM: usize = 1 << 14;

/// Rows of a tile of a matrix product, whose sums are kept in registers.
const ROWS: usize = 6;

#[derive(Debug)]
pub(super) struct Winograd {
    wanted: Wanted,
    images: usize,
    /// Channels of the side that is read in tiles of elements, and of that in places.
    channels: usize,
    outputs: usize,
    /// The same, padded.
    wide_channels: usize,
    wide_outputs: usize,
    /// Rows and columns of a plane of elements and of places.
    elements: [usize; 2],
    places: [usize; 2],
    /// How far the first tile reaches beyond the first element.
    low: [usize; 2],
    /// Tiles of a plane.
    tiles: [usize; 2],
    /// Rows of tiles of one chunk.
    rows_per_chunk: usize,
    lanes: usize,
}

impl Winograd {
    /// Plans a convolution; none when another way is faster.
    pub(super) fn new(
        convolution: &Convolution,
        [first, second, result]: [&Dims; 3],
    ) -> Option<Self> {
        let window = &convolution.window;
        let is_one = |sizes: &[usize]| *sizes == [1, 1];
        if *window.size != [3, 3]
            || !is_one(&window.strides)
            || !is_one(&window.dilation)
            || convolution.groups != 1
        {
            return None;
        }
        let (x, y) = match convolution.wanted {
            Wanted::Result => (first, result),
            Wanted::Operand => (result, first),
            Wanted::Kernel => (first, second),
        };
        let low = [window.low[0], window.low[1]];
        let (from, to, low) = match convolution.wanted {
            // The tiles are those of the adjoint, with what the kernel covers around it.
            Wanted::Operand => (
                y,
                x,
                [2usize.checked_sub(low[0])?, 2usize.checked_sub(low[1])?],
            ),
            _ => (x, y, low),
        };
        let places = [to[2], to[3]];
        let tiles = places.map(|places| places.div_ceil(PLACES));
        let (channels, outputs) = (from[1], to[1]);
        let wide_channels = channels.checked_next_multiple_of(SIDE)?;
        let wide_outputs = outputs.checked_next_multiple_of(SIDE)?;
        let product = |sizes: &[usize]| {
            sizes
                .iter()
                .fold(1, |product: usize, &size| product.saturating_mul(size))
        };
        let few = product(&[POINTS, tiles[0], tiles[1], wide_channels, wide_outputs]);
        let many = product(&[6, places[0], places[1], channels, outputs]);
        if few > many || from[0] == 0 {
            return None;
        }
        let wide = wide_channels.saturating_add(wide_outputs);
        let tiles_per_chunk = (ELEMENTS_PER_CHUNK / POINTS / wide).max(FEWEST_TILES);
        let rows = from[0].saturating_mul(tiles[0]);
        let rows_per_chunk = tiles_per_chunk.div_ceil(tiles[1]).min(rows);
        let mut winograd = Self {
            wanted: convolution.wanted,
            images: from[0],
            channels,
            outputs,
            wide_channels,
            wide_outputs,
            elements: [from[2], from[3]],
            places,
            low,
            tiles,
            rows_per_chunk,
            lanes: 1,
        };
        let affordable = MOST_ELEMENTS / winograd.lane().max(1);
        let chunks = rows.div_ceil(rows_per_chunk);
        winograd.lanes = MOST_LANES.min(affordable).min(chunks).max(1);
        (winograd.scratch() < usize::MAX).then_some(winograd)
    }

    fn tiles_per_chunk(&self) -> usize {
        self.rows_per_chunk.saturating_mul(self.tiles[1])
    }

    /// Elements of the working memory: the transformed kernel, and that of each lane.
    pub(super) fn scratch(&self) -> usize {
        let kernel = match self.wanted {
            Wanted::Kernel => 0,
            _ => self.kernel(),
        };
        self.lane()
            .saturating_mul(self.lanes)
            .saturating_add(kernel)
    }

    /// Elements of a transformed kernel.
    fn kernel(&self) -> usize {
        POINTS
            .saturating_mul(self.wide_channels)
            .saturating_mul(self.wide_outputs)
    }

    /// Elements of a lane's memory.
    fn lane(&self) -> usize {
        let [elements, places, from, to] = self.parts();
        let sums = match self.wanted {
            Wanted::Kernel => self.kernel(),
            _ => 0,
        };
        [elements, places, from, to]
            .iter()
            .fold(sums, |all: usize, &part| all.saturating_add(part))
    }

    /// Elements of a row of tiles on each side, and of a chunk of transformed tiles.
    fn parts(&self) -> [usize; 4] {
        let width = self.tiles[1].saturating_mul(PLACES);
        let chunk = self.tiles_per_chunk().saturating_mul(POINTS);
        [
            width
                .saturating_add(ELEMENTS - PLACES)
                .saturating_mul(ELEMENTS * self.wide_channels),
            width.saturating_mul(PLACES * self.wide_outputs),
            chunk.saturating_mul(self.wide_channels),
            chunk.saturating_mul(self.wide_outputs),
        ]
    }

    pub(super) fn run<T: Vector>(
        &self,
        [first, second]: [&[T]; 2],
        result: &mut [T],
        scratch: &mut [T],
        workers: &Workers<'_>,
    ) {
        if self.wanted == Wanted::Kernel {
            let lane = self.lane();
            let sums = self.kernel();
            workers.each_chunk(&mut scratch[..lane * self.lanes], lane, |number, memory| {
                let (sums, memory) = memory.split_at_mut(sums);
                pulp::Arch::new().dispatch(KernelLane {
                    lane: Lane::new(self, number, memory, *workers),
                    x: first,
                    adjoint: second,
                    sums,
                });
            });
            if !workers.stopped() {
                self.kernel_back(scratch, result, workers);
            }
            return;
        }
        let (kernel, scratch) = scratch.split_at_mut(self.kernel());
        self.transform_kernel(second, kernel, workers);
        let lane = self.lane();
        let kernel = &*kernel;
        let result = Shared::new(result);
        workers.each_chunk(&mut scratch[..lane * self.lanes], lane, |number, memory| {
            pulp::Arch::new().dispatch(PlaceLane {
                lane: Lane::new(self, number, memory, *workers),
                from: first,
                kernel,
                result: &result,
            });
        });
    }

    /// The kernel as `[points, channels, outputs]`; the channels and outputs of the
    /// operation that is computed, which for the derivative are exchanged.
    fn transform_kernel<T: Vector>(&self, from: &[T], to: &mut [T], workers: &Workers<'_>) {
        let is_derivative = self.wanted == Wanted::Operand;
        let (wide, outputs) = (self.wide_outputs, self.outputs);
        let all = Shared::new(to);
        workers.each(self.channels, |channel| {
            let mut points = [[T::ZERO; SIDE]; POINTS];
            for first in (0..wide).step_by(SIDE) {
                for lane in 0..SIDE {
                    let output = first + lane;
                    let mut taps = [T::ZERO; 9];
                    if output < outputs {
                        let place = if is_derivative {
                            channel * outputs + output
                        } else {
                            output * self.channels + channel
                        };
                        taps.copy_from_slice(&from[place * 9..place * 9 + 9]);
                        if is_derivative {
                            taps.reverse();
                        }
                    }
                    for (points, point) in points.iter_mut().zip(kernel_points(&taps)) {
                        points[lane] = point;
                    }
                }
                for (point, points) in points.iter().enumerate() {
                    let place = (point * self.wide_channels + channel) * wide + first;
                    #[expect(unsafe_code, reason = "pieces write to different parts")]
                    // SAFETY: no other piece has this channel.
                    let to = unsafe { all.part(place, SIDE) };
                    to.copy_from_slice(points);
                }
            }
        });
    }

    /// The sum of all lanes, which is `[points, outputs, channels]`, transformed back.
    fn kernel_back<T: Vector>(&self, lanes: &mut [T], kernel: &mut [T], workers: &Workers<'_>) {
        let channels = self.channels;
        let (sums, others) = lanes.split_at_mut(self.lane());
        let sums = &mut sums[..self.kernel()];
        workers.each_chunk(sums, ELEMENTS_PER_SUM, |piece, sums| {
            let first = piece * ELEMENTS_PER_SUM;
            for other in others.chunks(self.lane()).take(self.lanes - 1) {
                for (total, &other) in sums.iter_mut().zip(&other[first..]) {
                    *total = total.add(other);
                }
            }
        });
        let sums = &*sums;
        workers.each_chunk(kernel, channels * 9, |output, kernel| {
            let mut square = [[T::ZERO; SIDE]; POINTS];
            for (block, kernel) in kernel.chunks_mut(9 * SIDE).enumerate() {
                for (point, of_point) in square.iter_mut().enumerate() {
                    let row = point * self.wide_outputs + output;
                    let first = row * self.wide_channels + block * SIDE;
                    of_point.copy_from_slice(&sums[first..first + SIDE]);
                }
                for (lane, taps) in kernel.chunks_mut(9).enumerate() {
                    let mut points = [T::ZERO; POINTS];
                    for (point, of_point) in points.iter_mut().zip(&square) {
                        *point = of_point[lane];
                    }
                    taps.copy_from_slice(&kernel_taps(&points));
                }
            }
        });
    }
}

/// `G g Gᵀ` of a kernel of 3x3.
fn kernel_points<T: Vector>(taps: &[T; 9]) -> [T; POINTS] {
    let [quarter, sixth, twelfth, rest] =
        [4.0, 6.0, 12.0, 24.0].map(|by: f64| T::from_f64(1.0 / by));
    let row = |[a, b, c]: [T; 3]| {
        let sides = a.add(c).multiply(sixth);
        let middle = b.multiply(sixth);
        let near = a.multiply(rest).add(c.multiply(sixth));
        let half = b.multiply(twelfth);
        [
            a.multiply(quarter),
            sides.add(middle).negate(),
            middle.subtract(sides),
            near.add(half),
            near.subtract(half),
            c,
        ]
    };
    let mut columns = [[T::ZERO; 3]; ELEMENTS];
    for column in 0..3 {
        let points = row([taps[column], taps[3 + column], taps[6 + column]]);
        for (columns, point) in columns.iter_mut().zip(points) {
            columns[column] = point;
        }
    }
    let mut points = [T::ZERO; POINTS];
    for (points, column) in points.chunks_mut(ELEMENTS).zip(columns) {
        points.copy_from_slice(&row(column));
    }
    points
}

/// `Gᵀ u G`: the adjoint of [`kernel_points`].
fn kernel_taps<T: Vector>(points: &[T; POINTS]) -> [T; 9] {
    let [quarter, sixth, twelfth, rest] =
        [4.0, 6.0, 12.0, 24.0].map(|by: f64| T::from_f64(1.0 / by));
    let row = |p: [T; ELEMENTS]| {
        let (near, far) = (p[1].add(p[2]).multiply(sixth), p[3].add(p[4]));
        let middle = p[2].subtract(p[1]).multiply(sixth);
        [
            p[0].multiply(quarter)
                .subtract(near)
                .add(far.multiply(rest)),
            middle.add(p[3].subtract(p[4]).multiply(twelfth)),
            far.multiply(sixth).subtract(near).add(p[5]),
        ]
    };
    let mut columns = [[T::ZERO; ELEMENTS]; 3];
    for column in 0..ELEMENTS {
        let mut of_column = [T::ZERO; ELEMENTS];
        for (place, point) in of_column.iter_mut().enumerate() {
            *point = points[place * ELEMENTS + column];
        }
        for (columns, tap) in columns.iter_mut().zip(row(of_column)) {
            columns[column] = tap;
        }
    }
    let mut taps = [T::ZERO; 9];
    for (taps, column) in taps.chunks_mut(3).zip(columns) {
        taps.copy_from_slice(&row(column));
    }
    taps
}

/// Some rows of tiles, and the memory to work on them.
struct Lane<'a, T> {
    winograd: &'a Winograd,
    rows: Range<usize>,
    /// A row of tiles with the channels innermost: `[ELEMENTS, columns, channels]`.
    elements: &'a mut [T],
    /// The same of places.
    places: &'a mut [T],
    /// A chunk of transformed tiles: `[POINTS, tiles, channels]`.
    from: &'a mut [T],
    /// The same with `outputs`.
    to: &'a mut [T],
    square: [[T; SIDE]; SIDE],
    workers: Workers<'a>,
}

impl<'a, T: Vector> Lane<'a, T> {
    fn new(
        winograd: &'a Winograd,
        number: usize,
        memory: &'a mut [T],
        workers: Workers<'a>,
    ) -> Self {
        let [elements, places, from, _] = winograd.parts();
        let (elements, memory) = memory.split_at_mut(elements);
        let (places, memory) = memory.split_at_mut(places);
        let (from, to) = memory.split_at_mut(from);
        let all = winograd.images * winograd.tiles[0];
        let chunks = all.div_ceil(winograd.rows_per_chunk);
        let each = chunks.div_ceil(winograd.lanes) * winograd.rows_per_chunk;
        Self {
            winograd,
            rows: (number * each).min(all)..((number + 1) * each).min(all),
            elements,
            places,
            from,
            to,
            square: [[T::ZERO; SIDE]; SIDE],
            workers,
        }
    }

    /// The chunks of the lane, until the run is to end.
    fn chunks(&self) -> impl Iterator<Item = Range<usize>> + use<'a, T> {
        let (rows, workers) = (self.rows.clone(), self.workers);
        let size = self.winograd.rows_per_chunk;
        rows.clone()
            .step_by(size)
            .take_while(move |_| !workers.stopped())
            .map(move |first| first..(first + size).min(rows.end))
    }

    /// Transforms the tiles of elements of a chunk.
    #[inline(always)]
    fn transform_elements<S: Simd>(&mut self, simd: S, chunk: Range<usize>, x: &[T]) {
        let winograd = self.winograd;
        let width = winograd.tiles[1] * PLACES + ELEMENTS - PLACES;
        let line = width * winograd.wide_channels;
        let tiles = chunk.len() * winograd.tiles[1];
        for (place, row) in chunk.clone().enumerate() {
            let (image, tile_row) = (row / winograd.tiles[0], row % winograd.tiles[0]);
            // The first rows of a tile are the last ones of the tile above.
            let kept = if place > 0 && tile_row > 0 {
                self.elements.copy_within(PLACES * line.., 0);
                ELEMENTS - PLACES
            } else {
                0
            };
            for within in kept..ELEMENTS {
                let line = &mut self.elements[within * line..(within + 1) * line];
                let row = (tile_row * PLACES + within).checked_sub(winograd.low[0]);
                let row = row.filter(|&row| row < winograd.elements[0]);
                let Some(row) = row else {
                    line.fill(T::ZERO);
                    continue;
                };
                gather(
                    x,
                    [image * winograd.channels, winograd.channels],
                    (winograd.elements, row),
                    line,
                    (winograd.wide_channels, winograd.low[1]),
                );
            }
            let lanes = T::lanes::<S>();
            let from: &[T::Lanes<S>] = bytemuck::cast_slice(&*self.elements);
            let to: &mut [T::Lanes<S>] = bytemuck::cast_slice_mut(self.from);
            let vectors = winograd.wide_channels / lanes;
            let mut half = [[T::splat(simd, T::ZERO); ELEMENTS]; ELEMENTS];
            for tile in 0..winograd.tiles[1] {
                for vector in 0..vectors {
                    let first = tile * PLACES * vectors + vector;
                    let target = (place * winograd.tiles[1] + tile) * vectors + vector;
                    elements_to_points::<T, S>(
                        simd,
                        &mut half,
                        (&from[first..], [width * vectors, vectors]),
                        (&mut to[target..], tiles * vectors),
                    );
                }
            }
        }
    }

    /// Transforms the tiles of places of a chunk, for the derivative by the kernel.
    #[inline(always)]
    fn transform_places<S: Simd>(&mut self, simd: S, chunk: Range<usize>, adjoint: &[T]) {
        let winograd = self.winograd;
        let width = winograd.tiles[1] * PLACES;
        let line = width * winograd.wide_outputs;
        let tiles = chunk.len() * winograd.tiles[1];
        for (place, row) in chunk.clone().enumerate() {
            let (image, tile_row) = (row / winograd.tiles[0], row % winograd.tiles[0]);
            for (within, line) in self.places.chunks_mut(line).enumerate() {
                let row = tile_row * PLACES + within;
                if row >= winograd.places[0] {
                    line.fill(T::ZERO);
                    continue;
                }
                gather(
                    adjoint,
                    [image * winograd.outputs, winograd.outputs],
                    (winograd.places, row),
                    line,
                    (winograd.wide_outputs, 0),
                );
            }
            let lanes = T::lanes::<S>();
            let from: &[T::Lanes<S>] = bytemuck::cast_slice(&*self.places);
            let to: &mut [T::Lanes<S>] = bytemuck::cast_slice_mut(self.to);
            let vectors = winograd.wide_outputs / lanes;
            let mut half = [[T::splat(simd, T::ZERO); PLACES]; ELEMENTS];
            for tile in 0..winograd.tiles[1] {
                for vector in 0..vectors {
                    let first = tile * PLACES * vectors + vector;
                    let target = (place * winograd.tiles[1] + tile) * vectors + vector;
                    places_to_points::<T, S>(
                        simd,
                        &mut half,
                        (&from[first..], [width * vectors, vectors]),
                        (&mut to[target..], tiles * vectors),
                    );
                }
            }
        }
    }

    /// Transforms the points of a chunk back, and writes the places.
    #[inline(always)]
    #[expect(unsafe_code, reason = "pieces write to different parts of one result")]
    fn write<S: Simd>(&mut self, simd: S, chunk: Range<usize>, result: &Shared<'_, T>) {
        let winograd = self.winograd;
        let lanes = T::lanes::<S>();
        let width = winograd.tiles[1] * PLACES;
        let wide = winograd.wide_outputs;
        let vectors = wide / lanes;
        let tiles = chunk.len() * winograd.tiles[1];
        for (place, row) in chunk.clone().enumerate() {
            let from: &[T::Lanes<S>] = bytemuck::cast_slice(&*self.to);
            let to: &mut [T::Lanes<S>] = bytemuck::cast_slice_mut(self.places);
            let (image, tile_row) = (row / winograd.tiles[0], row % winograd.tiles[0]);
            let [rows, columns] = winograd.places;
            let plane = image * winograd.outputs;
            let mut half = [[T::splat(simd, T::ZERO); ELEMENTS]; PLACES];
            for tile in 0..winograd.tiles[1] {
                for vector in 0..vectors {
                    // Where this row of tiles will be written, a share of it for each tile.
                    for output in vector * lanes..((vector + 1) * lanes).min(winograd.outputs) {
                        let line = (plane + output) * rows + tile_row * PLACES;
                        result.fetch(line * columns + tile * PLACES * PLACES);
                    }
                    let first = (place * winograd.tiles[1] + tile) * vectors + vector;
                    let target = tile * PLACES * vectors + vector;
                    points_to_places::<T, S>(
                        simd,
                        &mut half,
                        (&from[first..], tiles * vectors),
                        (&mut to[target..], [width * vectors, vectors]),
                    );
                }
            }
            for (within, line) in self.places.chunks(width * wide).enumerate() {
                let row = tile_row * PLACES + within;
                if row >= rows {
                    break;
                }
                let squares = squares(columns).flat_map(|column| {
                    let outputs = (0..winograd.outputs).step_by(SIDE);
                    outputs.map(move |output| (column, output))
                });
                let count = columns.min(SIDE);
                let square = &mut self.square;
                for (column, output) in squares {
                    let planes = SIDE.min(winograd.outputs - output);
                    turn(
                        (&line[column * wide + output..], wide),
                        [count, planes],
                        (square.as_flattened_mut(), SIDE),
                    );
                    for (output, of_output) in (output..winograd.outputs).zip(&*square) {
                        let first = ((plane + output) * rows + row) * columns + column;
                        // SAFETY: no other lane has this row.
                        put(of_output, unsafe { result.part(first, count) });
                    }
                }
            }
        }
    }
}

/// Where squares of [`SIDE`] begin that cover so many columns; the last two may overlap.
#[inline(always)]
fn squares(columns: usize) -> impl Iterator<Item = usize> {
    let last = columns.saturating_sub(SIDE);
    (0..columns.max(1))
        .step_by(SIDE)
        .map(move |column| column.min(last))
}

/// Writes a row of all channels with the channels innermost; what is before and behind is 0.
#[inline(always)]
fn gather<T: Vector>(
    x: &[T],
    [first_plane, planes]: [usize; 2],
    ([rows, columns], row): ([usize; 2], usize),
    line: &mut [T],
    (wide, low): (usize, usize),
) {
    let count = columns.min((line.len() / wide).saturating_sub(low));
    let (before, rest) = line.split_at_mut((low * wide).min(line.len()));
    let (line, behind) = rest.split_at_mut(count * wide);
    before.fill(T::ZERO);
    behind.fill(T::ZERO);
    if count == 0 {
        return;
    }
    let width = count.min(SIDE);
    for column in squares(count) {
        let line = &mut line[column * wide..];
        for first in (0..planes).step_by(SIDE) {
            let some = SIDE.min(planes - first);
            let start = ((first_plane + first) * rows + row) * columns + column;
            for plane in 0..some {
                fetch(x, start + (plane * rows + 1) * columns);
            }
            if some < SIDE {
                for of_place in line.chunks_mut(wide).take(width) {
                    of_place[first..first + SIDE].fill(T::ZERO);
                }
            }
            let (from, to) = (&x[start..], &mut line[first..]);
            turn((from, rows * columns), [some, width], (to, wide));
        }
    }
}

/// Copies as many elements as the result takes.
#[inline(always)]
fn put<T: Copy>(from: &[T; SIDE], to: &mut [T]) {
    match to.first_chunk_mut::<SIDE>() {
        Some(to) => *to = *from,
        None => {
            for (to, &from) in to.iter_mut().zip(from) {
                *to = from;
            }
        }
    }
}

struct PlaceLane<'a, T> {
    lane: Lane<'a, T>,
    from: &'a [T],
    kernel: &'a [T],
    result: &'a Shared<'a, T>,
}

impl<T: Vector> pulp::WithSimd for PlaceLane<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let winograd = self.lane.winograd;
        let (k, n) = (winograd.wide_channels, winograd.wide_outputs);
        for chunk in self.lane.chunks() {
            self.lane.transform_elements(simd, chunk.clone(), self.from);
            let tiles = chunk.len() * winograd.tiles[1];
            for point in 0..POINTS {
                product::<T, S, false>(
                    simd,
                    [tiles, n / T::lanes::<S>(), winograd.channels],
                    (&self.lane.from[point * tiles * k..][..tiles * k], [k, 1]),
                    &self.kernel[point * k * n..][..k * n],
                    &mut self.lane.to[point * tiles * n..][..tiles * n],
                );
            }
            self.lane.write(simd, chunk, self.result);
        }
    }
}

struct KernelLane<'a, T> {
    lane: Lane<'a, T>,
    x: &'a [T],
    adjoint: &'a [T],
    sums: &'a mut [T],
}

impl<T: Vector> pulp::WithSimd for KernelLane<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let winograd = self.lane.winograd;
        let (m, n) = (winograd.wide_outputs, winograd.wide_channels);
        self.sums.fill(T::ZERO);
        for chunk in self.lane.chunks() {
            self.lane.transform_elements(simd, chunk.clone(), self.x);
            self.lane
                .transform_places(simd, chunk.clone(), self.adjoint);
            let tiles = chunk.len() * winograd.tiles[1];
            for point in 0..POINTS {
                product::<T, S, true>(
                    simd,
                    [winograd.outputs, n / T::lanes::<S>(), tiles],
                    (&self.lane.to[point * tiles * m..][..tiles * m], [1, m]),
                    &self.lane.from[point * tiles * n..][..tiles * n],
                    &mut self.sums[point * m * n..][..m * n],
                );
            }
        }
    }
}

/// Sum and difference of one pair, in the form in which both transforms need them.
macro_rules! both {
    ($simd:ident, $a:expr, $b:expr) => {
        (
            T::add_lanes($simd, $a, $b),
            T::subtract_lanes($simd, $a, $b),
        )
    };
}

/// `Bᵀ d` of six elements.
#[inline(always)]
fn six_elements<T: Vector, S: Simd>(simd: S, d: [T::Lanes<S>; 6]) -> [T::Lanes<S>; 6] {
    let [two, four, less_four, less_five] =
        [2.0, 4.0, -4.0, -5.0].map(|by| T::splat(simd, T::from_f64(by)));
    let even = T::mul_add(simd, less_four, d[2], d[4]);
    let odd = T::mul_add(simd, less_four, d[1], d[3]);
    let (first, second) = both!(simd, even, odd);
    let even = T::subtract_lanes(simd, d[4], d[2]);
    let odd = T::subtract_lanes(simd, d[3], d[1]);
    let odd = T::multiply_lanes(simd, two, odd);
    let (third, fourth) = both!(simd, even, odd);
    let low = T::mul_add(simd, less_five, d[2], d[4]);
    let high = T::mul_add(simd, less_five, d[3], d[5]);
    [
        T::mul_add(simd, four, d[0], low),
        first,
        second,
        third,
        fourth,
        T::mul_add(simd, four, d[1], high),
    ]
}

/// `A y` of four places.
#[inline(always)]
fn four_places<T: Vector, S: Simd>(simd: S, y: [T::Lanes<S>; 4]) -> [T::Lanes<S>; 6] {
    let [two, four] = [2.0, 4.0].map(|by| T::splat(simd, T::from_f64(by)));
    let (first, second) = both!(
        simd,
        T::add_lanes(simd, y[0], y[2]),
        T::add_lanes(simd, y[1], y[3])
    );
    let even = T::mul_add(simd, four, y[2], y[0]);
    let odd = T::multiply_lanes(simd, two, T::mul_add(simd, four, y[3], y[1]));
    let (third, fourth) = both!(simd, even, odd);
    [y[0], first, second, third, fourth, y[3]]
}

/// `Aᵀ m` of six points.
#[inline(always)]
fn six_points<T: Vector, S: Simd>(simd: S, m: [T::Lanes<S>; 6]) -> [T::Lanes<S>; 4] {
    let [two, four, eight] = [2.0, 4.0, 8.0].map(|by| T::splat(simd, T::from_f64(by)));
    let (near, near_rest) = both!(simd, m[1], m[2]);
    let (far, far_rest) = both!(simd, m[3], m[4]);
    [
        T::add_lanes(simd, m[0], T::add_lanes(simd, near, far)),
        T::mul_add(simd, two, far_rest, near_rest),
        T::mul_add(simd, four, far, near),
        T::add_lanes(simd, m[5], T::mul_add(simd, eight, far_rest, near_rest)),
    ]
}

/// `Bᵀ d B` of one tile: `from` has steps of rows and columns, `to` of points.
#[inline(always)]
fn elements_to_points<T: Vector, S: Simd>(
    simd: S,
    half: &mut [[T::Lanes<S>; ELEMENTS]; ELEMENTS],
    (from, [row, column]): (&[T::Lanes<S>], [usize; 2]),
    (to, step): (&mut [T::Lanes<S>], usize),
) {
    let zero = T::splat(simd, T::ZERO);
    for across in 0..ELEMENTS {
        let mut line = [zero; ELEMENTS];
        for down in 0..ELEMENTS {
            line[down] = from[down * row + across * column];
        }
        let line = six_elements::<T, S>(simd, line);
        for down in 0..ELEMENTS {
            half[down][across] = line[down];
        }
    }
    for down in 0..ELEMENTS {
        let line = six_elements::<T, S>(simd, half[down]);
        for across in 0..ELEMENTS {
            to[(down * ELEMENTS + across) * step] = line[across];
        }
    }
}

/// `A y Aᵀ` of one tile.
#[inline(always)]
fn places_to_points<T: Vector, S: Simd>(
    simd: S,
    half: &mut [[T::Lanes<S>; PLACES]; ELEMENTS],
    (from, [row, column]): (&[T::Lanes<S>], [usize; 2]),
    (to, step): (&mut [T::Lanes<S>], usize),
) {
    let zero = T::splat(simd, T::ZERO);
    for across in 0..PLACES {
        let mut line = [zero; PLACES];
        for down in 0..PLACES {
            line[down] = from[down * row + across * column];
        }
        let line = four_places::<T, S>(simd, line);
        for down in 0..ELEMENTS {
            half[down][across] = line[down];
        }
    }
    for down in 0..ELEMENTS {
        let line = four_places::<T, S>(simd, half[down]);
        for across in 0..ELEMENTS {
            to[(down * ELEMENTS + across) * step] = line[across];
        }
    }
}

/// `Aᵀ m A` of one tile.
#[inline(always)]
fn points_to_places<T: Vector, S: Simd>(
    simd: S,
    half: &mut [[T::Lanes<S>; ELEMENTS]; PLACES],
    (from, step): (&[T::Lanes<S>], usize),
    (to, [row, column]): (&mut [T::Lanes<S>], [usize; 2]),
) {
    let zero = T::splat(simd, T::ZERO);
    for across in 0..ELEMENTS {
        let mut line = [zero; ELEMENTS];
        for down in 0..ELEMENTS {
            line[down] = from[(down * ELEMENTS + across) * step];
        }
        let line = six_points::<T, S>(simd, line);
        for down in 0..PLACES {
            half[down][across] = line[down];
        }
    }
    for down in 0..PLACES {
        let line = six_points::<T, S>(simd, half[down]);
        for across in 0..PLACES {
            to[down * row + across * column] = line[across];
        }
    }
}

/// `to = a b`, or added to it: `m` rows, `vectors` columns and `k` products. The steps of
/// `a` are those of rows and products; `b` and `to` have rows of whole vectors.
#[inline(always)]
fn product<T: Vector, S: Simd, const ADD: bool>(
    simd: S,
    [m, vectors, k]: [usize; 3],
    (a, steps): (&[T], [usize; 2]),
    b: &[T],
    to: &mut [T],
) {
    let b: &[T::Lanes<S>] = bytemuck::cast_slice(b);
    let to: &mut [T::Lanes<S>] = bytemuck::cast_slice_mut(to);
    let mut column = 0;
    while column < vectors {
        let width = if vectors - column >= 4 && S::REGISTER_COUNT >= 32 {
            4
        } else if vectors - column >= 2 {
            2
        } else {
            1
        };
        let mut row = 0;
        while row < m {
            let height = match m - row {
                ROWS.. => ROWS,
                2.. => 2,
                _ => 1,
            };
            let a = (&a[row * steps[0]..], steps);
            let b = &b[column..];
            let to = &mut to[row * vectors + column..];
            match (height, width) {
                (ROWS, 4) => block::<T, S, ROWS, 4, ADD>(simd, [vectors, k], a, b, to),
                (ROWS, 2) => block::<T, S, ROWS, 2, ADD>(simd, [vectors, k], a, b, to),
                (ROWS, _) => block::<T, S, ROWS, 1, ADD>(simd, [vectors, k], a, b, to),
                (2, 4) => block::<T, S, 2, 4, ADD>(simd, [vectors, k], a, b, to),
                (2, 2) => block::<T, S, 2, 2, ADD>(simd, [vectors, k], a, b, to),
                (2, _) => block::<T, S, 2, 1, ADD>(simd, [vectors, k], a, b, to),
                (_, 4) => block::<T, S, 1, 4, ADD>(simd, [vectors, k], a, b, to),
                (_, 2) => block::<T, S, 1, 2, ADD>(simd, [vectors, k], a, b, to),
                _ => block::<T, S, 1, 1, ADD>(simd, [vectors, k], a, b, to),
            }
            row += height;
        }
        column += width;
    }
}

/// A few rows and vectors of a product; rows of `b` and `to` are `step` vectors apart.
#[inline(always)]
#[expect(unsafe_code, reason = "loads without a bounds check each")]
fn block<T: Vector, S: Simd, const HEIGHT: usize, const WIDTH: usize, const ADD: bool>(
    simd: S,
    [step, k]: [usize; 2],
    (a, [a_row, a_step]): (&[T], [usize; 2]),
    b: &[T::Lanes<S>],
    to: &mut [T::Lanes<S>],
) {
    let Some(last) = k.checked_sub(1) else {
        return;
    };
    assert!((HEIGHT - 1) * a_row + last * a_step < a.len());
    assert!(last * step + WIDTH <= b.len());
    let mut sums = [[T::splat(simd, T::ZERO); WIDTH]; HEIGHT];
    for place in 0..k {
        let mut columns = [T::splat(simd, T::ZERO); WIDTH];
        for column in 0..WIDTH {
            // SAFETY: the last one is inside, as just checked.
            columns[column] = unsafe { *b.get_unchecked(place * step + column) };
        }
        for row in 0..HEIGHT {
            // SAFETY: as above.
            let factor = unsafe { *a.get_unchecked(row * a_row + place * a_step) };
            let factor = T::splat(simd, factor);
            for column in 0..WIDTH {
                sums[row][column] = T::mul_add(simd, factor, columns[column], sums[row][column]);
            }
        }
    }
    for row in 0..HEIGHT {
        for column in 0..WIDTH {
            let to = &mut to[row * step + column];
            *to = if ADD {
                T::add_lanes(simd, *to, sums[row][column])
            } else {
                sums[row][column]
            };
        }
    }
}
