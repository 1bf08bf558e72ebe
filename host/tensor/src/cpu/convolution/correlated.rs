//! The derivative of a convolution by its kernel: sums over places.

use pulp::Simd;

use super::super::shared::Shared;
use super::super::vector::Vector;
use super::super::workers::Workers;
use super::MOST_LANES;

/// `kernel[o, c, w] = sum over images and places of y[o, place] * x[c, place + w]`.
#[derive(Debug)]
pub(super) struct Correlated {
    pub(super) images: usize,
    pub(super) groups: usize,
    /// Channels per group.
    pub(super) outputs: usize,
    pub(super) channels: usize,
    /// Offsets of the taps in the split operand.
    pub(super) taps: Vec<usize>,
    pub(super) plane: usize,
    pub(super) pitch: usize,
    /// Elements of a channel of the adjoint, whose rows have the same pitch.
    pub(super) adjoint_plane: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
}

/// Rows and columns of a tile of the kernel.
const KERNEL_ROWS: usize = 6;
const KERNEL_COLUMNS: usize = 4;

/// Tiles of the kernel that one piece computes side by side: their sums stay in the L2 cache.
const KERNEL_TILES: usize = 32;

/// Vectors of each of the adjoint's rows that one pass over the tiles covers: they stay in
/// the L1 cache.
const KERNEL_VECTORS: usize = 64;

impl Correlated {
    pub(super) fn run<T: Vector>(
        &self,
        x: &[T],
        adjoint: &[T],
        kernel: &mut [T],
        workers: &Workers<'_>,
    ) {
        let columns = self.channels * self.taps.len();
        let row_pieces = self.outputs.div_ceil(KERNEL_ROWS);
        let column_pieces = columns.div_ceil(KERNEL_COLUMNS * KERNEL_TILES);
        let result = Shared::new(kernel);
        let count = self.groups * row_pieces * column_pieces;
        workers.each(count, |piece| {
            let (rest, column) = (piece / column_pieces, piece % column_pieces);
            let (group, row) = (rest / row_pieces, rest % row_pieces);
            let first_row = row * KERNEL_ROWS;
            let first_column = column * KERNEL_COLUMNS * KERNEL_TILES;
            pulp::Arch::new().dispatch(CorrelatedPiece {
                kernel: self,
                x,
                adjoint,
                result: &result,
                group,
                rows: first_row..(first_row + KERNEL_ROWS).min(self.outputs),
                columns: first_column..(first_column + KERNEL_COLUMNS * KERNEL_TILES).min(columns),
                workers: *workers,
            });
        });
    }

    /// Places of one image, those between rows included.
    fn places(&self) -> usize {
        (self.rows - 1) * self.pitch + self.columns
    }
}

/// Some rows and columns of the kernel of one group.
struct CorrelatedPiece<'a, T> {
    kernel: &'a Correlated,
    x: &'a [T],
    adjoint: &'a [T],
    result: &'a Shared<'a, T>,
    group: usize,
    rows: std::ops::Range<usize>,
    columns: std::ops::Range<usize>,
    workers: Workers<'a>,
}

impl<T: Vector> pulp::WithSimd for CorrelatedPiece<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if S::REGISTER_COUNT >= 32 {
            match self.rows.len() {
                1 => self.sum::<S, 1>(simd),
                2 => self.sum::<S, 2>(simd),
                3 => self.sum::<S, 3>(simd),
                _ => self.sum::<S, KERNEL_ROWS>(simd),
            }
        } else {
            let Self {
                kernel,
                x,
                adjoint,
                result,
                group,
                rows,
                columns,
                workers,
            } = self;
            for first in rows.clone().step_by(2) {
                let part = CorrelatedPiece {
                    kernel,
                    x,
                    adjoint,
                    result,
                    group,
                    rows: first..(first + 2).min(rows.end),
                    columns: columns.clone(),
                    workers,
                };
                part.sum::<S, 2>(simd);
            }
        }
    }
}

impl<T: Vector> CorrelatedPiece<'_, T> {
    /// Sums over all images, for as many rows as there may be; rows and columns that do not
    /// exist repeat the last one, and are thrown away.
    #[inline(always)]
    #[expect(unsafe_code, reason = "pieces write to different parts of one result")]
    fn sum<S: Simd, const ROWS: usize>(&self, simd: S) {
        let kernel = self.kernel;
        let zero = T::splat(simd, T::ZERO);
        let mut sums = [[[zero; KERNEL_COLUMNS]; ROWS]; KERNEL_TILES];
        let tiles = self.columns.len().div_ceil(KERNEL_COLUMNS);
        let places = kernel.places();
        let pass = KERNEL_VECTORS * T::lanes::<S>();
        for start in (0..places).step_by(pass) {
            let end = (start + pass).min(places);
            let masks = self.masks(simd, start..end);
            for image in 0..kernel.images {
                if self.workers.stopped() {
                    return;
                }
                for (tile, sums) in sums.iter_mut().take(tiles).enumerate() {
                    self.tile(simd, image, tile, start..end, &masks, sums);
                }
            }
        }
        for (tile, sums) in sums.iter().take(tiles).enumerate() {
            let first = self.columns.start + tile * KERNEL_COLUMNS;
            let count = (self.columns.end - first).min(KERNEL_COLUMNS);
            let columns = kernel.channels * kernel.taps.len();
            for (row, sums) in self.rows.clone().zip(sums) {
                let row = self.group * kernel.outputs + row;
                // SAFETY: no other piece has these rows and columns.
                let to = unsafe { self.result.part(row * columns + first, count) };
                for (to, &sum) in to.iter_mut().zip(sums) {
                    *to = T::sum(simd, sum);
                }
            }
        }
    }

    /// Which lanes of each vector are places, and not between two rows of them.
    #[inline(always)]
    fn masks<S: Simd>(
        &self,
        simd: S,
        places: std::ops::Range<usize>,
    ) -> [T::Mask<S>; KERNEL_VECTORS] {
        let kernel = self.kernel;
        let lanes = T::lanes::<S>();
        let none = T::mask(simd, T::splat(simd, T::ZERO));
        let mut masks = [none; KERNEL_VECTORS];
        for (vector, first) in places.clone().step_by(lanes).enumerate() {
            let mut flags = [T::ZERO; MOST_LANES];
            for (place, flag) in (first..places.end).zip(&mut flags[..lanes]) {
                if place % kernel.pitch < kernel.columns {
                    *flag = T::ONE;
                }
            }
            masks[vector] = T::mask(simd, T::load_some(simd, &flags[..lanes]));
        }
        masks
    }

    /// Adds the places of one pass to the sums of a tile.
    #[inline(always)]
    fn tile<S: Simd, const ROWS: usize>(
        &self,
        simd: S,
        image: usize,
        tile: usize,
        places: std::ops::Range<usize>,
        masks: &[T::Mask<S>; KERNEL_VECTORS],
        sums: &mut [[T::Lanes<S>; KERNEL_COLUMNS]; ROWS],
    ) {
        let kernel = self.kernel;
        let lanes = T::lanes::<S>();
        let outputs = (image * kernel.groups + self.group) * kernel.outputs;
        let rows: [usize; ROWS] = std::array::from_fn(|row| {
            let row = (self.rows.start + row).min(self.rows.end - 1);
            (outputs + row) * kernel.adjoint_plane
        });
        let channels = (image * kernel.groups + self.group) * kernel.channels;
        let columns: [usize; KERNEL_COLUMNS] = std::array::from_fn(|column| {
            let column = self.columns.start + tile * KERNEL_COLUMNS + column;
            let column = column.min(self.columns.end - 1);
            let (channel, tap) = (column / kernel.taps.len(), column % kernel.taps.len());
            (channels + channel) * kernel.plane + kernel.taps[tap]
        });
        let furthest = |offsets: &[usize]| offsets.iter().copied().max().unwrap_or(0);
        let fits = furthest(&rows) + places.end <= self.adjoint.len()
            && furthest(&columns) + places.end <= self.x.len();
        assert!(fits);
        let zero = T::splat(simd, T::ZERO);
        let mut totals = *sums;
        let mut elements = [zero; KERNEL_COLUMNS];
        let mut at = places.start;
        let mut vector = 0;
        while at < places.end {
            let mask = masks[vector];
            let whole = at + lanes <= places.end;
            for column in 0..KERNEL_COLUMNS {
                elements[column] =
                    self.load(simd, self.x, columns[column] + at, places.end - at, whole);
                // What lies between rows belongs to nothing, and may be NaN; the adjoint is
                // 0 there.
                elements[column] = T::keep(simd, mask, elements[column]);
            }
            for row in 0..ROWS {
                let adjoint = self.load(simd, self.adjoint, rows[row] + at, places.end - at, whole);
                for column in 0..KERNEL_COLUMNS {
                    totals[row][column] =
                        T::mul_add(simd, adjoint, elements[column], totals[row][column]);
                }
            }
            at += lanes;
            vector += 1;
        }
        *sums = totals;
    }

    /// A vector of places; only those before the end when it is not whole.
    #[inline(always)]
    #[expect(unsafe_code, reason = "loads without a bounds check each")]
    fn load<S: Simd>(
        &self,
        simd: S,
        from: &[T],
        at: usize,
        left: usize,
        whole: bool,
    ) -> T::Lanes<S> {
        if whole {
            // SAFETY: callers have checked that the last place is inside.
            let start = unsafe { from.as_ptr().add(at) };
            // SAFETY: as above; a vector has no invalid bits.
            unsafe { std::ptr::read_unaligned(start.cast::<T::Lanes<S>>()) }
        } else {
            T::load_some(simd, &from[at..at + left])
        }
    }
}
