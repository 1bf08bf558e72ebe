//! The result of a convolution, or the derivative by its operand: sums over channels and taps.

#![expect(
    clippy::needless_range_loop,
    reason = "vectors may only be passed to what is surely inlined, which iterators are not"
)]

use pulp::Simd;

use super::super::shared::Shared;
use super::super::vector::Vector;
use super::super::workers::Workers;
use super::MOST_LANES;
use super::split::Axis;

/// Multiplications that make a piece worth handing to a thread.
const WORK_PER_PIECE: usize = 1 << 20;

/// The most vectors and rows of a tile, whose sums are kept in registers.
const TILE_VECTORS: usize = 3;
const TILE_ROWS: usize = 8;

/// A tile in memory.
const TILE: usize = TILE_ROWS * TILE_VECTORS * MOST_LANES;

/// Offsets of a tap in the weights and in the split operand.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tap {
    pub(super) weight: usize,
    pub(super) element: usize,
}

/// Result elements that the same taps meet, as rows and columns.
#[derive(Debug)]
pub(super) struct Class {
    pub(super) taps: Vec<Tap>,
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// The first result element, and the steps between rows and columns.
    pub(super) first: usize,
    pub(super) row_step: usize,
    pub(super) column_step: usize,
}

/// `result[image, row, place] = sum over channels and taps of weight * element`.
#[derive(Debug)]
pub(super) struct Shifted {
    pub(super) images: usize,
    pub(super) groups: usize,
    /// Result channels per group: the rows of tiles.
    pub(super) rows: usize,
    /// Channels per group that are summed over.
    pub(super) channels: usize,
    /// Steps in the weights.
    pub(super) weight_group: usize,
    pub(super) weight_row: usize,
    pub(super) weight_channel: usize,
    /// Elements of a channel of the split operand, and of a row of it.
    pub(super) plane: usize,
    pub(super) pitch: usize,
    /// Elements of a channel of the result.
    pub(super) result_plane: usize,
    pub(super) classes: Vec<Class>,
    /// Whether some elements belong to no class and are 0.
    pub(super) has_gaps: bool,
    /// Places of a piece, a multiple of any tile's width.
    pub(super) places_per_piece: usize,
    /// Result channels of a piece.
    pub(super) rows_per_piece: usize,
}

/// The classes of an operand's elements, and whether some elements are in none.
pub(super) fn classes(axes: &[Axis; 2], pitch: usize) -> (Vec<Class>, bool) {
    let [rows, columns] = axes;
    let width = columns.spatial;
    let mut classes = Vec::new();
    let mut covered: usize = 0;
    for row_class in rows.classes() {
        let (first_row, row_count, row_taps) = rows.class(row_class);
        for column_class in columns.classes() {
            let (first_column, column_count, column_taps) = columns.class(column_class);
            if row_count == 0 || column_count == 0 {
                continue;
            }
            covered = covered.saturating_add(row_count.saturating_mul(column_count));
            let mut taps = Vec::with_capacity(row_taps.len() * column_taps.len());
            for &(row_tap, row) in &row_taps {
                for &(column_tap, column) in &column_taps {
                    taps.push(Tap {
                        weight: row_tap * columns.window + column_tap,
                        element: row.saturating_mul(pitch).saturating_add(column),
                    });
                }
            }
            classes.push(Class {
                taps,
                rows: row_count,
                columns: column_count,
                first: first_row * width + first_column,
                row_step: rows.stride.saturating_mul(width),
                column_step: columns.stride,
            });
        }
    }
    (classes, covered < rows.spatial.saturating_mul(width))
}

impl Class {
    /// Places, those between rows included.
    fn places(&self, pitch: usize) -> usize {
        (self.rows - 1)
            .saturating_mul(pitch)
            .saturating_add(self.columns)
    }
}

impl Shifted {
    /// Decides how many places and channels a piece of work has.
    pub(super) fn in_pieces(mut self) -> Self {
        let taps = self.classes.iter().map(|class| class.taps.len()).max();
        let depth = self.channels.saturating_mul(taps.unwrap_or(1)).max(1);
        let tile = TILE_VECTORS * MOST_LANES;
        let rows = WORK_PER_PIECE / depth / tile;
        self.rows_per_piece = rows
            .max(1)
            .next_multiple_of(TILE_ROWS)
            .min(self.rows.max(1));
        let places = WORK_PER_PIECE / depth / self.rows_per_piece;
        self.places_per_piece = places.max(1).next_multiple_of(tile);
        self
    }

    pub(super) fn run<T: Vector>(
        &self,
        source: &[T],
        weights: &[T],
        result: &mut [T],
        workers: &Workers<'_>,
    ) {
        if self.has_gaps {
            workers.each_chunk(result, 1 << 16, |_, chunk| chunk.fill(T::ZERO));
        }
        let result = Shared::new(result);
        let row_pieces = self.rows.div_ceil(self.rows_per_piece);
        for class in &self.classes {
            let places = class.places(self.pitch);
            let place_pieces = places.div_ceil(self.places_per_piece);
            let count = self.images * self.groups * row_pieces * place_pieces;
            workers.each(count, |piece| {
                let (rest, place) = (piece / place_pieces, piece % place_pieces);
                let (plane, row) = (rest / row_pieces, rest % row_pieces);
                pulp::Arch::new().dispatch(ShiftedPiece {
                    kernel: self,
                    class,
                    source,
                    weights,
                    result: &result,
                    image: plane / self.groups,
                    group: plane % self.groups,
                    rows: row * self.rows_per_piece..self.rows.min((row + 1) * self.rows_per_piece),
                    places: place * self.places_per_piece
                        ..places.min((place + 1) * self.places_per_piece),
                });
            });
        }
    }
}

/// Some rows and places of one class, image and group.
struct ShiftedPiece<'a, T> {
    kernel: &'a Shifted,
    class: &'a Class,
    source: &'a [T],
    weights: &'a [T],
    result: &'a Shared<'a, T>,
    image: usize,
    group: usize,
    rows: std::ops::Range<usize>,
    places: std::ops::Range<usize>,
}

impl<T: Vector> pulp::WithSimd for ShiftedPiece<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let lanes = T::lanes::<S>();
        let kernel = self.kernel;
        let channels = (self.image * kernel.groups + self.group) * kernel.channels;
        let reach = (kernel.channels - 1) * kernel.plane + self.furthest_element();
        let mut place = self.places.start;
        while place < self.places.end {
            let left = self.places.end - place;
            let first = channels * kernel.plane + place;
            let vectors = left.div_ceil(lanes).min(TILE_VECTORS);
            let fits = |vectors: usize| first + reach + vectors * lanes <= self.source.len();
            let vectors = if fits(vectors) { vectors } else { 1 };
            match vectors {
                1 if !fits(1) => self.tiles::<S, 1, true>(simd, first, place),
                1 => self.tiles::<S, 1, false>(simd, first, place),
                2 => self.tiles::<S, 2, false>(simd, first, place),
                _ => self.tiles::<S, 3, false>(simd, first, place),
            }
            place += vectors * lanes;
        }
    }
}

impl<T: Vector> ShiftedPiece<'_, T> {
    fn furthest_element(&self) -> usize {
        let taps = self.class.taps.iter();
        taps.map(|tap| tap.element).max().unwrap_or(0)
    }

    /// All rows of some places.
    #[inline(always)]
    fn tiles<S: Simd, const VECTORS: usize, const PARTIAL: bool>(
        &self,
        simd: S,
        first: usize,
        place: usize,
    ) {
        let mut row = self.rows.start;
        while row < self.rows.end {
            let left = self.rows.end - row;
            if left >= 8 && S::REGISTER_COUNT >= 32 {
                self.tile::<S, 8, VECTORS, PARTIAL>(simd, first, place, row);
                row += 8;
            } else if left >= 4 {
                self.tile::<S, 4, VECTORS, PARTIAL>(simd, first, place, row);
                row += 4;
            } else if left >= 2 {
                self.tile::<S, 2, VECTORS, PARTIAL>(simd, first, place, row);
                row += 2;
            } else {
                self.tile::<S, 1, VECTORS, PARTIAL>(simd, first, place, row);
                row += 1;
            }
        }
    }

    /// A few rows of a few vectors of places.
    #[inline(always)]
    #[expect(unsafe_code, reason = "loads without a bounds check each")]
    fn tile<S: Simd, const ROWS: usize, const VECTORS: usize, const PARTIAL: bool>(
        &self,
        simd: S,
        first: usize,
        place: usize,
        row: usize,
    ) {
        let kernel = self.kernel;
        let lanes = T::lanes::<S>();
        let weight_first = self.group * kernel.weight_group + row * kernel.weight_row;
        let weight_reach = (ROWS - 1) * kernel.weight_row
            + (kernel.channels - 1) * kernel.weight_channel
            + self
                .class
                .taps
                .iter()
                .map(|tap| tap.weight)
                .max()
                .unwrap_or(0);
        assert!(weight_first + weight_reach < self.weights.len());
        if !PARTIAL {
            let reach = (kernel.channels - 1) * kernel.plane + self.furthest_element();
            assert!(first + reach + VECTORS * lanes <= self.source.len());
        }
        let zero = T::splat(simd, T::ZERO);
        let mut sums = [[zero; VECTORS]; ROWS];
        // Plain loops over indices: vectors may only be passed to functions that are inlined.
        for channel in 0..kernel.channels {
            let source_first = first + channel * kernel.plane;
            let weight_first = weight_first + channel * kernel.weight_channel;
            for tap in &self.class.taps {
                let at = source_first + tap.element;
                let mut elements = [zero; VECTORS];
                for vector in 0..VECTORS {
                    elements[vector] = if PARTIAL {
                        let end = self.source.len();
                        let at = at + vector * lanes;
                        T::load_some(simd, &self.source[at.min(end)..(at + lanes).min(end)])
                    } else {
                        // SAFETY: the greatest offset of all is inside, as asserted above.
                        let start = unsafe { self.source.as_ptr().add(at + vector * lanes) };
                        // SAFETY: as above; a vector has no invalid bits.
                        unsafe { std::ptr::read_unaligned(start.cast::<T::Lanes<S>>()) }
                    };
                }
                let at = weight_first + tap.weight;
                for row in 0..ROWS {
                    // SAFETY: the greatest offset of all is inside, as asserted above.
                    let weight =
                        unsafe { *self.weights.get_unchecked(at + row * kernel.weight_row) };
                    let weight = T::splat(simd, weight);
                    for vector in 0..VECTORS {
                        sums[row][vector] =
                            T::mul_add(simd, weight, elements[vector], sums[row][vector]);
                    }
                }
            }
        }
        let mut tile = [T::ZERO; TILE];
        for row in 0..ROWS {
            for vector in 0..VECTORS {
                let place = (row * VECTORS + vector) * lanes;
                T::store_some(simd, &mut tile[place..place + lanes], sums[row][vector]);
            }
        }
        self.store::<S>(simd, &tile, [ROWS, VECTORS * lanes], place, row);
    }

    /// Writes the places of a tile that belong to results.
    #[inline(always)]
    #[expect(unsafe_code, reason = "pieces write to different parts of one result")]
    fn store<S: Simd>(
        &self,
        simd: S,
        tile: &[T; TILE],
        [rows, width]: [usize; 2],
        place: usize,
        row: usize,
    ) {
        let (kernel, class) = (self.kernel, self.class);
        let lanes = T::lanes::<S>();
        let end = (place + width).min(self.places.end);
        let channel = (self.image * kernel.groups + self.group) * kernel.rows + row;
        let mut line = place / kernel.pitch;
        let mut column = place % kernel.pitch;
        let mut at = place;
        while at < end {
            let count = class.columns.saturating_sub(column).min(end - at);
            if count > 0 {
                let first = class.first + line * class.row_step + column * class.column_step;
                for (row, tile) in tile.chunks(width).take(rows).enumerate() {
                    let first = (channel + row) * kernel.result_plane + first;
                    let from = &tile[at - place..];
                    let span = (count - 1) * class.column_step + 1;
                    // SAFETY: no other piece has these places and rows.
                    let to = unsafe { self.result.part(first, span) };
                    if class.column_step == 1 {
                        for (to, from) in to.chunks_mut(lanes).zip(from.chunks(lanes)) {
                            let some = T::load_some(simd, &from[..to.len()]);
                            T::store_some(simd, to, some);
                        }
                    } else {
                        let to = to.iter_mut().step_by(class.column_step);
                        for (to, &from) in to.zip(from) {
                            *to = from;
                        }
                    }
                }
            }
            at += kernel.pitch - column;
            line += 1;
            column = 0;
        }
    }
}
