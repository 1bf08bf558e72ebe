//! Convolutions, and both of their derivatives, without a matrix of patches.
//!
//! First, where strides or padding ask for it, the operand is split: for each axis the
//! elements that a tap can meet at stride 1 are laid one after another, with zeros for the
//! padding. Then what a tap multiplies lies at a fixed distance from the place of the
//! result, so neighbouring places of a row are computed by loading vectors at that distance.
//! Rows are walked as one, with the few places between them that belong to no result
//! computed and thrown away; so vectors are full whatever the width.
//!
//! - The result is a sum over channels and taps in registers, [`Shifted`]. So is the
//!   derivative by the operand: there the elements of each residue class of the stride are a
//!   convolution of their own, with the taps that meet that class.
//! - The derivative by the kernel is a sum over places, [`Correlated`].
//! - Where it is faster, all three are computed as [`Winograd`] shows.
//!
//! Pieces of work are cut by shape, and each result element is computed by one piece, in
//! the order of channels and taps (of images and places): bits do not depend on threads.

#![expect(
    clippy::needless_range_loop,
    reason = "vectors may only be passed to what is surely inlined, which iterators are not"
)]

use pulp::Simd;

use super::shared::Shared;
use super::vector::Vector;
use super::winograd::Winograd;
use super::workers::Workers;
use crate::DType;
use crate::shape::Dims;
use crate::window::{Convolution, Wanted};

/// Elements behind a split operand, so that the last vector may reach beyond it.
const SLACK: usize = 64;

/// Multiplications that make a piece worth handing to a thread.
const WORK_PER_PIECE: usize = 1 << 20;

/// Elements of a split operand that make a piece worth handing to a thread.
const ELEMENTS_PER_PIECE: usize = 1 << 14;

/// The most vectors and rows of a tile, whose sums are kept in registers.
const TILE_VECTORS: usize = 3;
const TILE_ROWS: usize = 8;

/// The most lanes of a vector.
const MOST_LANES: usize = 16;

/// A tile in memory.
const TILE: usize = TILE_ROWS * TILE_VECTORS * MOST_LANES;

/// A convolution, or a derivative of one.
#[derive(Debug)]
pub(crate) struct Convolve {
    dtype: DType,
    flops: u64,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Shifted {
        operand: Splitting,
        sum: Shifted,
    },
    Correlated {
        operand: Splitting,
        adjoint: Splitting,
        sum: Correlated,
    },
    Winograd(Winograd),
}

/// One spatial axis.
#[derive(Debug, Clone, Copy)]
struct Axis {
    spatial: usize,
    places: usize,
    window: usize,
    stride: usize,
    low: usize,
    dilation: usize,
}

/// Where a split operand has its elements along one axis.
#[derive(Debug, Clone)]
struct SplitAxis {
    /// Elements of the operand, of the split one per part, and the step between them.
    from: usize,
    extent: usize,
    step: usize,
    /// For each part, the element of the operand that comes first; it may lie outside.
    starts: Vec<isize>,
}

/// How an operand is laid out before it is walked.
#[derive(Debug)]
struct Splitting {
    /// Images times channels.
    planes: usize,
    axes: [SplitAxis; 2],
    /// Whether the operand lies so already.
    is_direct: bool,
}

impl Axis {
    fn of(convolution: &Convolution, spatial: &[usize], axis: usize) -> Self {
        let window = &convolution.window;
        Self {
            spatial: spatial[axis],
            places: window.places(spatial)[axis],
            window: window.size[axis],
            stride: window.strides[axis],
            low: window.low[axis],
            dilation: window.dilation[axis],
        }
    }

    /// An axis that a one-dimensional convolution lacks.
    fn single() -> Self {
        Self {
            spatial: 1,
            places: 1,
            window: 1,
            stride: 1,
            low: 0,
            dilation: 1,
        }
    }

    fn tap(&self, tap: usize) -> usize {
        tap.saturating_mul(self.dilation)
    }

    /// The residue classes of the stride that taps meet.
    fn classes(&self) -> Vec<usize> {
        let mut classes: Vec<usize> = (0..self.window)
            .map(|tap| self.tap(tap) % self.stride)
            .collect();
        classes.sort_unstable();
        classes.dedup();
        classes
    }

    fn furthest(&self) -> usize {
        self.tap(self.window - 1) / self.stride
    }

    /// The operand split by residue class, and for each tap where its first element is:
    /// the part and the place in it.
    fn split(&self) -> (SplitAxis, Vec<(usize, usize)>) {
        let classes = self.classes();
        let taps = (0..self.window).map(|tap| {
            let class = self.tap(tap) % self.stride;
            let part = classes.partition_point(|&other| other < class);
            (part, self.tap(tap) / self.stride)
        });
        let taps = taps.collect();
        let starts = classes
            .iter()
            .map(|&class| class.cast_signed() - self.low.cast_signed());
        let split = SplitAxis {
            from: self.spatial,
            extent: self.places.saturating_add(self.furthest()),
            step: self.stride,
            starts: starts.collect(),
        };
        (split, taps)
    }

    /// The result's places with as many zeros around them as the taps of a derivative by
    /// the operand can meet.
    fn padded(&self) -> SplitAxis {
        SplitAxis {
            from: self.places,
            extent: (self.last_reach() - self.first_reach())
                .saturating_add(self.furthest())
                .saturating_add(1),
            step: 1,
            starts: vec![self.first_place()],
        }
    }

    /// Place that the first tap of the first element would come from, and the last one.
    fn first_reach(&self) -> usize {
        self.low / self.stride
    }

    fn last_reach(&self) -> usize {
        (self.spatial.max(1) - 1).saturating_add(self.low) / self.stride
    }

    fn first_place(&self) -> isize {
        self.first_reach().cast_signed() - self.furthest().cast_signed()
    }

    /// For a class of elements: the first one, how many there are, and per tap that meets
    /// them its place in the padded result.
    fn class(&self, class: usize) -> (usize, usize, Vec<(usize, usize)>) {
        // Element i is at place u of its class when i + low = u stride + class.
        let first_place = self.low.saturating_sub(class).div_ceil(self.stride);
        let first = (first_place * self.stride + class).saturating_sub(self.low);
        let count = self
            .spatial
            .checked_sub(first + 1)
            .map_or(0, |rest| rest / self.stride + 1);
        let start = first_place.cast_signed() - self.first_place();
        let taps = (0..self.window)
            .filter(|&tap| self.tap(tap) % self.stride == class)
            .map(|tap| {
                let place = start - (self.tap(tap) / self.stride).cast_signed();
                (tap, place.unsigned_abs())
            });
        (first, count, taps.collect())
    }
}

impl SplitAxis {
    fn is_direct(&self) -> bool {
        self.extent == self.from && self.step == 1 && self.starts == [0]
    }

    fn parts(&self) -> usize {
        self.starts.len()
    }

    /// The places of a part that hold elements, and the element that the first of them is.
    fn inside(&self, part: usize) -> (std::ops::Range<usize>, usize) {
        let start = self.starts[part];
        let first = if start < 0 {
            start.unsigned_abs().div_ceil(self.step)
        } else {
            0
        };
        let element = (first * self.step).checked_add_signed(start).unwrap_or(0);
        let count = self
            .from
            .checked_sub(element + 1)
            .map_or(0, |rest| rest / self.step + 1);
        let first = first.min(self.extent);
        (first..(first + count).min(self.extent), element)
    }
}

impl Splitting {
    fn new(planes: usize, axes: [SplitAxis; 2]) -> Self {
        let is_direct = axes.iter().all(SplitAxis::is_direct);
        Self {
            planes,
            axes,
            is_direct,
        }
    }

    /// Elements of a plane.
    fn plane(&self) -> usize {
        self.axes.iter().fold(1, |size: usize, axis| {
            size.saturating_mul(axis.extent)
                .saturating_mul(axis.parts())
        })
    }

    /// Elements of the memory that the split operand needs.
    fn scratch(&self) -> usize {
        if self.is_direct {
            return 0;
        }
        self.planes
            .saturating_mul(self.plane())
            .saturating_add(SLACK)
    }

    /// The operand in its layout.
    fn split<'a, T: Vector>(
        &self,
        from: &'a [T],
        scratch: &'a mut [T],
        workers: &Workers<'_>,
    ) -> &'a [T] {
        if self.is_direct {
            return from;
        }
        let plane = self.plane();
        let (planes, slack) = scratch.split_at_mut(self.planes * plane);
        slack.fill(T::ZERO);
        let size = self.axes[0].from * self.axes[1].from;
        let together = ELEMENTS_PER_PIECE.div_ceil(plane.max(1));
        workers.each_chunk(planes, together * plane.max(1), |piece, chunk| {
            for (place, split) in chunk.chunks_mut(plane).enumerate() {
                let first = (piece * together + place) * size;
                self.split_plane(&from[first..first + size], split);
            }
        });
        scratch
    }

    fn split_plane<T: Vector>(&self, from: &[T], split: &mut [T]) {
        let [rows, columns] = &self.axes;
        let mut parts = split.chunks_mut(rows.extent * columns.extent);
        for row_part in 0..rows.parts() {
            let (inside, first_row) = rows.inside(row_part);
            for column_part in 0..columns.parts() {
                let (across, first_column) = columns.inside(column_part);
                let part = parts.next().expect("a chunk for each part");
                for (place, row) in part.chunks_mut(columns.extent).enumerate() {
                    if !inside.contains(&place) || across.is_empty() {
                        row.fill(T::ZERO);
                        continue;
                    }
                    let element = first_row + (place - inside.start) * rows.step;
                    let from = &from[element * columns.from + first_column..];
                    row[..across.start].fill(T::ZERO);
                    row[across.end..].fill(T::ZERO);
                    let row = &mut row[across.clone()];
                    if columns.step == 1 {
                        row.copy_from_slice(&from[..row.len()]);
                    } else {
                        let from = from.iter().step_by(columns.step);
                        for (to, &from) in row.iter_mut().zip(from) {
                            *to = from;
                        }
                    }
                }
            }
        }
    }
}

/// Offsets of a tap in the weights and in the split operand.
#[derive(Debug, Clone, Copy)]
struct Tap {
    weight: usize,
    element: usize,
}

/// Result elements that the same taps meet, as rows and columns.
#[derive(Debug)]
struct Class {
    taps: Vec<Tap>,
    rows: usize,
    columns: usize,
    /// The first result element, and the steps between rows and columns.
    first: usize,
    row_step: usize,
    column_step: usize,
}

/// `result[image, row, place] = sum over channels and taps of weight * element`.
#[derive(Debug)]
struct Shifted {
    images: usize,
    groups: usize,
    /// Result channels per group: the rows of tiles.
    rows: usize,
    /// Channels per group that are summed over.
    channels: usize,
    /// Steps in the weights.
    weight_group: usize,
    weight_row: usize,
    weight_channel: usize,
    /// Elements of a channel of the split operand, and of a row of it.
    plane: usize,
    pitch: usize,
    /// Elements of a channel of the result.
    result_plane: usize,
    classes: Vec<Class>,
    /// Whether some elements belong to no class and are 0.
    has_gaps: bool,
    /// Places of a piece, a multiple of any tile's width.
    places_per_piece: usize,
    /// Result channels of a piece.
    rows_per_piece: usize,
}

/// `kernel[o, c, w] = sum over images and places of y[o, place] * x[c, place + w]`.
#[derive(Debug)]
struct Correlated {
    images: usize,
    groups: usize,
    /// Channels per group.
    outputs: usize,
    channels: usize,
    /// Offsets of the taps in the split operand.
    taps: Vec<usize>,
    plane: usize,
    pitch: usize,
    /// Elements of a channel of the adjoint, whose rows have the same pitch.
    adjoint_plane: usize,
    rows: usize,
    columns: usize,
}

/// Rows and columns of a tile of the kernel.
const KERNEL_ROWS: usize = 6;
const KERNEL_COLUMNS: usize = 4;

/// Tiles of the kernel that one piece computes side by side: their sums stay in the L2 cache.
const KERNEL_TILES: usize = 32;

/// Vectors of each of the adjoint's rows that one pass over the tiles covers: they stay in
/// the L1 cache.
const KERNEL_VECTORS: usize = 64;

impl Convolve {
    /// Plans a convolution whose first operand and result have these shapes.
    pub(crate) fn new(
        convolution: &Convolution,
        dtype: DType,
        [first, second, result]: [&Dims; 3],
    ) -> Self {
        let window = &convolution.window;
        let spatial = match convolution.wanted {
            Wanted::Operand => &result[2..],
            _ => &first[2..],
        };
        let axes = match spatial.len() {
            1 => [Axis::single(), Axis::of(convolution, spatial, 0)],
            _ => [0, 1].map(|axis| Axis::of(convolution, spatial, axis)),
        };
        let groups = convolution.groups.max(1);
        let (images, x_channels, outputs) = match convolution.wanted {
            Wanted::Result => (first[0], first[1], second[0]),
            Wanted::Operand => (first[0], result[1], second[0]),
            Wanted::Kernel => (first[0], first[1], second[1]),
        };
        let (channels, outputs) = (x_channels / groups, outputs / groups);
        let places = axes[0].places.saturating_mul(axes[1].places);
        let flops = [
            images,
            groups,
            channels,
            outputs,
            places,
            window.size.product(),
        ]
        .iter()
        .fold(2, |flops: u64, &size| flops.saturating_mul(size as u64));
        if let Some(winograd) = Winograd::new(convolution, [first, second, result]) {
            let kind = Kind::Winograd(winograd);
            return Self { dtype, flops, kind };
        }
        let size = window.size.product();
        let kind = match convolution.wanted {
            Wanted::Result => {
                let (split, taps) = split_taps(&axes);
                let splitting = Splitting::new(images.saturating_mul(x_channels), split);
                let taps = taps.into_iter().enumerate();
                let class = Class {
                    taps: taps
                        .map(|(weight, element)| Tap { weight, element })
                        .collect(),
                    rows: axes[0].places,
                    columns: axes[1].places,
                    first: 0,
                    row_step: axes[1].places,
                    column_step: 1,
                };
                let shifted = Shifted {
                    images,
                    groups,
                    rows: outputs,
                    channels,
                    weight_group: outputs.saturating_mul(channels).saturating_mul(size),
                    weight_row: channels.saturating_mul(size),
                    weight_channel: size,
                    plane: splitting.plane(),
                    pitch: splitting.axes[1].extent,
                    result_plane: places,
                    classes: vec![class],
                    has_gaps: false,
                    places_per_piece: 0,
                    rows_per_piece: 0,
                };
                Kind::Shifted {
                    operand: splitting,
                    sum: shifted.in_pieces(),
                }
            }
            Wanted::Operand => {
                let padded = [axes[0].padded(), axes[1].padded()];
                let pitch = padded[1].extent;
                let planes = images.saturating_mul(outputs).saturating_mul(groups);
                let splitting = Splitting::new(planes, padded);
                let (classes, has_gaps) = classes(&axes, pitch);
                let shifted = Shifted {
                    images,
                    groups,
                    rows: channels,
                    channels: outputs,
                    weight_group: outputs.saturating_mul(channels).saturating_mul(size),
                    weight_row: size,
                    weight_channel: channels.saturating_mul(size),
                    plane: splitting.plane(),
                    pitch,
                    result_plane: axes[0].spatial.saturating_mul(axes[1].spatial),
                    classes,
                    has_gaps,
                    places_per_piece: 0,
                    rows_per_piece: 0,
                };
                Kind::Shifted {
                    operand: splitting,
                    sum: shifted.in_pieces(),
                }
            }
            Wanted::Kernel => {
                let (split, taps) = split_taps(&axes);
                let pitch = split[1].extent;
                let splitting = Splitting::new(images.saturating_mul(x_channels), split);
                // The adjoint's rows get the operand's pitch, and its end a whole vector.
                let rows = SplitAxis {
                    from: axes[0].places,
                    extent: axes[0].places,
                    step: 1,
                    starts: vec![0],
                };
                let columns = SplitAxis {
                    from: axes[1].places,
                    extent: pitch,
                    step: 1,
                    starts: vec![0],
                };
                let planes = images.saturating_mul(outputs).saturating_mul(groups);
                let adjoint = Splitting::new(planes, [rows, columns]);
                let correlated = Correlated {
                    images,
                    groups,
                    outputs,
                    channels,
                    taps,
                    plane: splitting.plane(),
                    pitch,
                    adjoint_plane: adjoint.plane(),
                    rows: axes[0].places,
                    columns: axes[1].places,
                };
                Kind::Correlated {
                    operand: splitting,
                    adjoint,
                    sum: correlated,
                }
            }
        };
        Self { dtype, flops, kind }
    }

    pub(crate) fn flops(&self) -> u64 {
        self.flops
    }

    /// Elements of the memory that the kernel needs besides its result, of its own type;
    /// saturated when it is beyond all bounds.
    pub(crate) fn scratch(&self) -> usize {
        match &self.kind {
            Kind::Shifted { operand, .. } => operand.scratch(),
            Kind::Correlated {
                operand, adjoint, ..
            } => operand.scratch().saturating_add(adjoint.scratch()),
            Kind::Winograd(winograd) => winograd.scratch(),
        }
    }

    pub(super) fn run(
        &self,
        operands: [&[u8]; 2],
        result: &mut [u8],
        scratch: &mut [u8],
        workers: &Workers<'_>,
    ) {
        if self.dtype == DType::F64 {
            self.compute::<f64>(operands, result, scratch, workers);
        } else {
            self.compute::<f32>(operands, result, scratch, workers);
        }
    }

    fn compute<T: Vector>(
        &self,
        [first, second]: [&[u8]; 2],
        result: &mut [u8],
        scratch: &mut [u8],
        workers: &Workers<'_>,
    ) {
        let first: &[T] = bytemuck::cast_slice(first);
        let second: &[T] = bytemuck::cast_slice(second);
        let result: &mut [T] = bytemuck::cast_slice_mut(result);
        let scratch: &mut [T] = if scratch.is_empty() {
            &mut []
        } else {
            bytemuck::cast_slice_mut(scratch)
        };
        if result.is_empty() {
            return;
        }
        if self.flops == 0 {
            result.fill(T::ZERO);
            return;
        }
        match &self.kind {
            Kind::Shifted { operand, sum } => {
                let first = operand.split(first, scratch, workers);
                sum.run(first, second, result, workers);
            }
            Kind::Correlated {
                operand,
                adjoint,
                sum,
            } => {
                let (own, rest) = scratch.split_at_mut(operand.scratch());
                let first = operand.split(first, own, workers);
                let second = adjoint.split(second, rest, workers);
                sum.run(first, second, result, workers);
            }
            Kind::Winograd(winograd) => {
                winograd.run([first, second], result, scratch, workers);
            }
        }
    }
}

/// The split operand's axes, and the offset of each tap in a plane.
fn split_taps(axes: &[Axis; 2]) -> ([SplitAxis; 2], Vec<usize>) {
    let (rows, row_taps) = axes[0].split();
    let (columns, column_taps) = axes[1].split();
    let mut taps = Vec::with_capacity(row_taps.len() * column_taps.len());
    for &(row_part, row) in &row_taps {
        for &(column_part, column) in &column_taps {
            let part = row_part * columns.parts() + column_part;
            let row = part.saturating_mul(rows.extent).saturating_add(row);
            taps.push(row.saturating_mul(columns.extent).saturating_add(column));
        }
    }
    ([rows, columns], taps)
}

/// The classes of an operand's elements, and whether some elements are in none.
fn classes(axes: &[Axis; 2], pitch: usize) -> (Vec<Class>, bool) {
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
    fn in_pieces(mut self) -> Self {
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

    fn run<T: Vector>(&self, source: &[T], weights: &[T], result: &mut [T], workers: &Workers<'_>) {
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

impl Correlated {
    fn run<T: Vector>(&self, x: &[T], adjoint: &[T], kernel: &mut [T], workers: &Workers<'_>) {
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
