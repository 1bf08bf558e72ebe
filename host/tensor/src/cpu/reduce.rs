//! Reductions over any axes, and arg-max.
//!
//! The order of additions depends on the shape alone: rows are added in 16 lanes over
//! blocks of [`BLOCK`] elements, columns in blocks of [`BLOCK`] rows, the blocks in order to
//! the total of a piece, and the pieces in order. So errors stay far below those of one long
//! sum, and the number of threads changes nothing. Half types come widened, and the result is rounded elsewhere.

use std::marker::PhantomData;
use std::ops::Range;

use super::number::{Number, with_wide};
use super::workers::Workers;
use crate::DType;
use crate::ir::Reduction;
use crate::shape::{Dims, TensorType};

/// Elements (or rows) that are added up before their sum is added to the total.
const BLOCK: usize = 1024;

const LANES: usize = 16;

/// Columns of one piece of work.
const COLUMNS_PER_PIECE: usize = 512;

/// Operand elements that make a piece worth handing to a thread.
const ELEMENTS_PER_PIECE: usize = 16 * 1024;

/// Operand elements of a result that make a piece of their own.
const ELEMENTS_PER_SPLIT: usize = 64 * 1024;

/// The most pieces of one result; bounds what lies on the stack meanwhile.
pub(super) const MOST_SPLITS: usize = 16;

/// A reduction of a row-major array. Neighbouring axes that are both reduced or both kept
/// are merged, those of size 1 left out, so that the two kinds alternate.
#[derive(Debug)]
pub(crate) struct Reduce {
    kind: Reduction,
    dtype: DType,
    /// Operand elements per result element.
    count: usize,
    /// Sizes and strides of the axes that are walked, without the innermost one.
    kept: Walked,
    reduced: Walked,
    /// The size of the innermost axis.
    inner: usize,
    inner_is_reduced: bool,
}

/// Sizes of some axes, and their steps in elements of the operand.
#[derive(Debug, Default)]
struct Walked {
    sizes: Dims,
    strides: Dims,
}

impl Walked {
    fn count(&self) -> usize {
        self.sizes.product()
    }

    /// The offset of the element with that row-major index.
    #[inline(always)]
    fn offset(&self, mut index: usize) -> usize {
        let mut offset = 0;
        for axis in (1..self.sizes.len()).rev() {
            offset += index % self.sizes[axis] * self.strides[axis];
            index /= self.sizes[axis];
        }
        offset + self.strides.first().map_or(0, |stride| index * stride)
    }
}

impl Reduce {
    pub(crate) fn new(kind: Reduction, operand: &TensorType, axes: &[usize]) -> Self {
        let mut groups: Vec<(usize, bool)> = Vec::new();
        for (axis, &size) in operand.shape.iter().enumerate() {
            let is_reduced = axes.contains(&axis);
            match groups.last_mut() {
                _ if size == 1 => {}
                Some((merged, reduced)) if *reduced == is_reduced => {
                    *merged = merged.saturating_mul(size);
                }
                _ => groups.push((size, is_reduced)),
            }
        }
        let (inner, inner_is_reduced) = groups.pop().unwrap_or((1, true));
        let (mut kept, mut reduced) = (Walked::default(), Walked::default());
        let mut stride = inner;
        let mut placed = Vec::new();
        for (size, is_reduced) in groups.into_iter().rev() {
            placed.push((size, stride, is_reduced));
            stride = stride.saturating_mul(size);
        }
        for (size, stride, is_reduced) in placed.into_iter().rev() {
            let walked = if is_reduced { &mut reduced } else { &mut kept };
            walked.sizes.push(size);
            walked.strides.push(stride);
        }
        Self {
            kind,
            dtype: operand.dtype,
            count: Dims::collect(axes.iter().map(|&axis| operand.shape[axis])).product(),
            kept,
            reduced,
            inner,
            inner_is_reduced,
        }
    }

    /// Floating-point operations of one run: one per operand element.
    pub(crate) fn flops(&self) -> u64 {
        let walked = self.kept.count().saturating_mul(self.reduced.count());
        (walked as u64).saturating_mul(self.inner as u64)
    }

    pub(super) fn run(&self, input: &[u8], output: &mut [u8], workers: &Workers<'_>) {
        match self.kind {
            Reduction::Sum | Reduction::Mean => {
                with_wide!(self.dtype, T => self.reduce::<T, Sum>(input, output, workers));
            }
            Reduction::Product => {
                with_wide!(self.dtype, T => self.reduce::<T, Product>(input, output, workers));
            }
            Reduction::Max => {
                with_wide!(self.dtype, T => self.reduce::<T, Max>(input, output, workers));
            }
            Reduction::Min => {
                with_wide!(self.dtype, T => self.reduce::<T, Min>(input, output, workers));
            }
            Reduction::Any => self.reduce::<u8, Any>(input, output, workers),
            Reduction::All => self.reduce::<u8, All>(input, output, workers),
        }
    }

    fn reduce<T: Number, C: Combine>(
        &self,
        input: &[u8],
        output: &mut [u8],
        workers: &Workers<'_>,
    ) {
        let input: &[T] = bytemuck::cast_slice(input);
        let output: &mut [T] = bytemuck::cast_slice_mut(output);
        if input.is_empty() {
            output.fill(C::identity());
        } else if self.inner_is_reduced {
            self.reduce_rows::<T, C>(input, output, workers);
        } else {
            self.reduce_columns::<T, C>(input, output, workers);
        }
        if self.kind == Reduction::Mean {
            // Dimensions are below 2^31, and a tensor has at most 2^40 bytes.
            let count = T::from_i64(i64::try_from(self.count).unwrap_or(i64::MAX));
            for total in output {
                *total = total.divide(count);
            }
        }
    }

    /// Results that combine whole rows.
    fn reduce_rows<T: Number, C: Combine>(
        &self,
        input: &[T],
        output: &mut [T],
        workers: &Workers<'_>,
    ) {
        let split = Split::new(self.count, BLOCK, ELEMENTS_PER_SPLIT);
        let rows = |first: usize, pieces: Range<usize>, totals: &mut [T]| {
            let part = Part::<T, C> {
                kernel: self,
                input,
                first,
                split,
                pieces,
                totals,
                combine: PhantomData,
            };
            part.run();
        };
        if split.pieces > 1 && output.len() < split.pieces {
            for (place, result) in output.iter_mut().enumerate() {
                let mut parts = [C::identity(); MOST_SPLITS];
                let parts = &mut parts[..split.pieces];
                workers.each_chunk(parts, 1, |piece, part| rows(place, piece..piece + 1, part));
                *result = combine_all::<T, C>(parts);
            }
            return;
        }
        let per_piece = ELEMENTS_PER_PIECE.div_ceil(self.count.max(1));
        workers.each_chunk(output, per_piece, |piece, chunk| {
            rows(piece * per_piece, 0..split.pieces, chunk);
        });
    }

    /// Results that lie next to each other, as the elements that they combine do.
    fn reduce_columns<T: Number, C: Combine>(
        &self,
        input: &[T],
        output: &mut [T],
        workers: &Workers<'_>,
    ) {
        let rows = self.reduced.count();
        let width = self.inner.min(COLUMNS_PER_PIECE);
        let split = Split::new(rows, BLOCK, ELEMENTS_PER_SPLIT.div_ceil(width));
        let columns = |first: usize, pieces: Range<usize>, totals: &mut [T]| {
            let part = Part::<T, C> {
                kernel: self,
                input,
                first,
                split,
                pieces,
                totals,
                combine: PhantomData,
            };
            part.run();
        };
        if split.pieces > 1 && output.len() <= COLUMNS_PER_PIECE {
            for (place, results) in output.chunks_mut(self.inner).enumerate() {
                let first = self.kept.offset(place);
                let mut parts = [[C::identity(); COLUMNS_PER_PIECE]; MOST_SPLITS];
                let parts = &mut parts[..split.pieces];
                workers.each_chunk(parts, 1, |piece, part| {
                    columns(first, piece..piece + 1, &mut part[0][..width]);
                });
                results.fill(C::identity());
                for part in parts {
                    for (total, &part) in results.iter_mut().zip(&part[..width]) {
                        *total = C::combine(*total, part);
                    }
                }
            }
        } else if self.inner <= COLUMNS_PER_PIECE {
            let together = ELEMENTS_PER_PIECE.div_ceil(rows * self.inner);
            workers.each_chunk(output, together * self.inner, |piece, chunk| {
                for (place, results) in chunk.chunks_mut(self.inner).enumerate() {
                    let first = self.kept.offset(piece * together + place);
                    columns(first, 0..split.pieces, results);
                }
            });
        } else {
            for (row, output) in output.chunks_mut(self.inner).enumerate() {
                let first = self.kept.offset(row);
                workers.each_chunk(output, width, |piece, chunk| {
                    columns(first + piece * width, 0..split.pieces, chunk);
                });
            }
        }
    }
}

/// Pieces of some results, as work for the instruction set that the machine has.
struct Part<'a, T, C> {
    kernel: &'a Reduce,
    input: &'a [T],
    /// For rows, the index of the first result; for columns, the offset of its first operand.
    first: usize,
    split: Split,
    pieces: Range<usize>,
    totals: &'a mut [T],
    combine: PhantomData<C>,
}

impl<T: Number, C: Combine> Part<'_, T, C> {
    #[inline(never)]
    fn run(self) {
        if T::IS_FLOAT {
            pulp::Arch::new().dispatch(self);
        } else {
            pulp::NullaryFnOnce::call(self);
        }
    }

    #[inline(always)]
    fn rows(self) {
        for (place, total) in self.totals.iter_mut().enumerate() {
            let base = self.kernel.kept.offset(self.first + place);
            *total = C::identity();
            for piece in self.pieces.clone() {
                let range = self.split.range(piece);
                let part = self.kernel.row_total::<T, C>(self.input, base, range);
                *total = C::combine(*total, part);
            }
        }
    }

    #[inline(always)]
    fn columns(self) {
        let input = &self.input[self.first..];
        let totals = self.totals;
        // A piece, and a block of it.
        let mut piece_totals = [T::ZERO; COLUMNS_PER_PIECE];
        let mut block_totals = [T::ZERO; COLUMNS_PER_PIECE];
        let piece_totals = &mut piece_totals[..totals.len()];
        let block_totals = &mut block_totals[..totals.len()];
        totals.fill(C::identity());
        for piece in self.pieces {
            let rows = self.split.range(piece);
            piece_totals.fill(C::identity());
            for start in rows.clone().step_by(BLOCK) {
                block_totals.fill(C::identity());
                for row in start..(start + BLOCK).min(rows.end) {
                    let start = self.kernel.reduced.offset(row);
                    let row = &input[start..start + totals.len()];
                    combine_into::<T, C>(block_totals, row);
                }
                combine_into::<T, C>(piece_totals, block_totals);
            }
            combine_into::<T, C>(totals, piece_totals);
        }
    }
}

impl<T: Number, C: Combine> pulp::NullaryFnOnce for Part<'_, T, C> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        if self.kernel.inner_is_reduced {
            self.rows();
        } else {
            self.columns();
        }
    }
}

impl Reduce {
    /// Combines some of the operand elements of the result that begins at `base`, counted
    /// along their rows.
    #[inline(always)]
    fn row_total<T: Number, C: Combine>(&self, input: &[T], base: usize, range: Range<usize>) -> T {
        let mut total = C::identity();
        let (mut row, mut column) = (range.start / self.inner, range.start % self.inner);
        let mut left = range.len();
        while left > 0 {
            let length = left.min(self.inner - column);
            let start = base + self.reduced.offset(row) + column;
            for block in input[start..start + length].chunks(BLOCK) {
                total = C::combine(total, combine_block::<T, C>(block));
            }
            left -= length;
            row += 1;
            column = 0;
        }
        total
    }
}

#[inline(always)]
fn combine_into<T: Number, C: Combine>(totals: &mut [T], elements: &[T]) {
    for (total, &element) in totals.iter_mut().zip(elements) {
        *total = C::combine(*total, element);
    }
}

/// How the parts of one result are shared out: by their number alone.
#[derive(Clone, Copy)]
pub(super) struct Split {
    count: usize,
    per_piece: usize,
    pub(super) pieces: usize,
}

impl Split {
    /// Cuts `count` parts into pieces of at least `least`, and a multiple of `grain`.
    pub(super) fn new(count: usize, grain: usize, least: usize) -> Self {
        let per_piece = count
            .div_ceil(MOST_SPLITS)
            .max(least)
            .next_multiple_of(grain);
        Self {
            count,
            per_piece,
            pieces: count.div_ceil(per_piece).max(1),
        }
    }

    #[inline(always)]
    pub(super) fn range(&self, piece: usize) -> Range<usize> {
        let start = piece * self.per_piece;
        start..(start + self.per_piece).min(self.count)
    }
}

fn combine_all<T: Number, C: Combine>(parts: &[T]) -> T {
    parts
        .iter()
        .fold(C::identity(), |total, &part| C::combine(total, part))
}

/// Combines neighbouring elements, in lanes.
#[inline(always)]
pub(super) fn combine_block<T: Number, C: Combine>(block: &[T]) -> T {
    let (chunks, rest) = block.as_chunks::<LANES>();
    let mut total = C::identity();
    if !chunks.is_empty() {
        let mut lanes = [C::identity(); LANES];
        for chunk in chunks {
            for (lane, &element) in lanes.iter_mut().zip(chunk) {
                *lane = C::combine(*lane, element);
            }
        }
        let mut width = LANES / 2;
        while width > 0 {
            for lane in 0..width {
                lanes[lane] = C::combine(lanes[lane], lanes[lane + width]);
            }
            width /= 2;
        }
        total = lanes[0];
    }
    for &element in rest {
        total = C::combine(total, element);
    }
    total
}

/// What a reduction does with two elements.
pub(super) trait Combine {
    fn identity<T: Number>() -> T;
    fn combine<T: Number>(total: T, element: T) -> T;
}

pub(super) struct Sum;
struct Product;
pub(super) struct Max;
struct Min;
struct Any;
struct All;

macro_rules! combine {
    ($($name:ident: $identity:ident, $combine:ident;)*) => {$(
        impl Combine for $name {
            #[inline(always)]
            fn identity<T: Number>() -> T {
                T::$identity
            }

            #[inline(always)]
            fn combine<T: Number>(total: T, element: T) -> T {
                total.$combine(element)
            }
        }
    )*};
}

combine! {
    Sum: ZERO, add;
    Product: ONE, multiply;
    Max: LOWEST, maximum;
    Min: HIGHEST, minimum;
    // A bool is 0 or 1.
    Any: ZERO, maximum;
    All: ONE, minimum;
}

/// The position of the greatest (or least) element along one axis, the first of equals.
#[derive(Debug)]
pub(crate) struct ArgMax {
    pub(crate) least: bool,
    pub(crate) dtype: DType,
    pub(crate) size: usize,
    /// Elements of one step along the axis.
    pub(crate) inner: usize,
}

impl ArgMax {
    pub(super) fn run(&self, input: &[u8], output: &mut [u8], workers: &Workers<'_>) {
        with_wide!(self.dtype, T => self.find::<T>(input, output, workers));
    }

    fn find<T: Number>(&self, input: &[u8], output: &mut [u8], workers: &Workers<'_>) {
        let input: &[T] = bytemuck::cast_slice(input);
        let output: &mut [i32] = bytemuck::cast_slice_mut(output);
        let per_piece = ELEMENTS_PER_PIECE.div_ceil(self.size.max(1));
        workers.each_chunk(output, per_piece, |piece, chunk| {
            for (place, result) in chunk.iter_mut().enumerate() {
                let index = piece * per_piece + place;
                let first = index / self.inner * self.inner * self.size + index % self.inner;
                let mut best = input[first];
                let mut best_step = 0;
                for step in 1..self.size {
                    if step % ELEMENTS_PER_PIECE == 0 && workers.stopped() {
                        return;
                    }
                    let element = input[first + step * self.inner];
                    let wins = if self.least {
                        element < best
                    } else {
                        element > best
                    };
                    if wins || (element.is_nan() && !best.is_nan()) {
                        best = element;
                        best_step = step;
                    }
                }
                // Dimensions are below 2^31.
                *result = i32::try_from(best_step).unwrap_or(i32::MAX);
            }
        });
    }
}
