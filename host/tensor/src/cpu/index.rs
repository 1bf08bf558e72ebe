//! Operations that take positions from a tensor. Positions out of range are clamped.

use std::ops::Range;

use bytemuck::Pod;

use super::number::{Number, with_wide};
use super::workers::Workers;
use crate::DType;
use crate::ir::Literal;

/// Runs code with the type of indices.
macro_rules! with_index {
    ($dtype:expr, $name:ident => $body:expr) => {
        match $dtype {
            DType::I32 => {
                type $name = i32;
                $body
            }
            DType::U32 => {
                type $name = u32;
                $body
            }
            _ => {
                type $name = i64;
                $body
            }
        }
    };
}

/// Bytes of results that make a piece worth handing to a thread.
const BYTES_PER_PIECE: usize = 64 * 1024;

/// Slices of `data` along an axis, in the order of the indices.
#[derive(Debug)]
pub(crate) struct Take {
    pub(crate) index_dtype: DType,
    /// Slices in the data.
    pub(crate) rows: usize,
    /// Slices to take.
    pub(crate) taken: usize,
    /// Bytes of one slice.
    pub(crate) row_bytes: usize,
}

impl Take {
    pub(super) fn run(
        &self,
        data: &[u8],
        indices: &[u8],
        output: &mut [u8],
        workers: &Workers<'_>,
    ) {
        with_index!(self.index_dtype, I => {
            let indices: &[I] = bytemuck::cast_slice(indices);
            match self.row_bytes {
                0 => {}
                1 => self.elements::<u8, I>(data, indices, output, workers),
                2 => self.elements::<u16, I>(data, indices, output, workers),
                4 => self.elements::<u32, I>(data, indices, output, workers),
                8 => self.elements::<u64, I>(data, indices, output, workers),
                16 => self.rows::<16, I>(data, indices, output, workers),
                32 => self.rows::<32, I>(data, indices, output, workers),
                64 => self.rows::<64, I>(data, indices, output, workers),
                128 => self.rows::<128, I>(data, indices, output, workers),
                256 => self.rows::<256, I>(data, indices, output, workers),
                _ => self.any_rows(data, indices, output, workers),
            }
        });
    }

    fn elements<T: Pod + Send + Sync, I: Index>(
        &self,
        data: &[u8],
        indices: &[I],
        output: &mut [u8],
        workers: &Workers<'_>,
    ) {
        let data: &[T] = bytemuck::cast_slice(data);
        let output: &mut [T] = bytemuck::cast_slice_mut(output);
        self.slabs(output, 1, workers, |slab, places, output| {
            let line = &data[slab * self.rows..][..self.rows];
            for (element, index) in output.iter_mut().zip(&indices[places]) {
                *element = line[index.clamped(self.rows)];
            }
        });
    }

    /// Slices of a known length are some moves instead of a call.
    fn rows<const N: usize, I: Index>(
        &self,
        data: &[u8],
        indices: &[I],
        output: &mut [u8],
        workers: &Workers<'_>,
    ) {
        self.slabs(output, N, workers, |slab, places, output| {
            let slab = &data[slab * self.rows * N..][..self.rows * N];
            for (slice, index) in output.chunks_exact_mut(N).zip(&indices[places]) {
                slice.copy_from_slice(&slab[index.clamped(self.rows) * N..][..N]);
            }
        });
    }

    fn any_rows<I: Index>(
        &self,
        data: &[u8],
        indices: &[I],
        output: &mut [u8],
        workers: &Workers<'_>,
    ) {
        let row = self.row_bytes;
        self.slabs(output, row, workers, |slab, places, output| {
            let slab = &data[slab * self.rows * row..][..self.rows * row];
            for (slice, index) in output.chunks_exact_mut(row).zip(&indices[places]) {
                slice.copy_from_slice(&slab[index.clamped(self.rows) * row..][..row]);
            }
        });
    }

    /// Calls `take` for the slices of each piece, `row` elements each, that belong to one
    /// step of the axes before: with that step and the places of their indices.
    #[inline(always)]
    fn slabs<T: Pod + Send>(
        &self,
        output: &mut [T],
        row: usize,
        workers: &Workers<'_>,
        take: impl Fn(usize, Range<usize>, &mut [T]) + Sync,
    ) {
        let per_piece = BYTES_PER_PIECE.div_ceil(self.row_bytes);
        workers.each_chunk(output, per_piece * row, |piece, mut chunk| {
            let mut slot = piece * per_piece;
            while !chunk.is_empty() {
                let (slab, first) = (slot / self.taken, slot % self.taken);
                let count = (self.taken - first).min(chunk.len() / row);
                let (part, rest) = chunk.split_at_mut(count * row);
                take(slab, first..first + count, part);
                (chunk, slot) = (rest, slot + count);
            }
        });
    }
}

/// Data with slices added along an axis, in the order of the indices.
#[derive(Debug)]
pub(crate) struct ScatterAdd {
    pub(crate) dtype: DType,
    pub(crate) slices: Slices,
}

/// Data with slices written over it along an axis, in the order of the indices.
#[derive(Debug)]
pub(crate) struct ScatterSet {
    /// Bytes of an element.
    pub(crate) size: usize,
    pub(crate) slices: Slices,
}

/// Data with each element of the updates added in its own line along an axis, in order.
#[derive(Debug)]
pub(crate) struct ScatterAddAlong {
    pub(crate) dtype: DType,
    pub(crate) slices: Slices,
}

/// Where a scatter puts what. Its operands are the data, the indices and the updates; the
/// data is left out where it is a constant.
#[derive(Debug)]
pub(crate) struct Slices {
    /// What the data is everywhere, when it is no operand.
    pub(crate) fill: Option<Literal>,
    pub(crate) index_dtype: DType,
    /// Steps of the data along the axis.
    pub(crate) rows: usize,
    /// Steps of the updates along the axis.
    pub(crate) updates: usize,
    /// Elements of one step.
    pub(crate) row: usize,
}

/// Bytes of data and updates that make a piece of a scatter.
const SCATTERED_BYTES_PER_PIECE: usize = 1 << 20;

/// Every piece looks at all indices.
const MOST_SCATTER_PIECES: usize = 8;

impl ScatterAdd {
    pub(super) fn run(&self, inputs: &[&[u8]], output: &mut [u8], workers: &Workers<'_>) {
        with_wide!(self.dtype, T => {
            self.slices.scatter::<T>(inputs, output, workers, |target, update| {
                for (total, &element) in target.iter_mut().zip(update) {
                    *total = total.add(element);
                }
            });
        });
    }
}

impl ScatterSet {
    pub(super) fn run(&self, inputs: &[&[u8]], output: &mut [u8], workers: &Workers<'_>) {
        match self.size {
            1 => self.set::<u8>(inputs, output, workers),
            2 => self.set::<u16>(inputs, output, workers),
            4 => self.set::<u32>(inputs, output, workers),
            _ => self.set::<u64>(inputs, output, workers),
        }
    }

    fn set<T: Pod + Send + Sync>(
        &self,
        inputs: &[&[u8]],
        output: &mut [u8],
        workers: &Workers<'_>,
    ) {
        let copy = |target: &mut [T], update: &[T]| target.copy_from_slice(update);
        self.slices.scatter::<T>(inputs, output, workers, copy);
    }
}

impl Slices {
    /// Puts each slice of the updates into its row of the result. A piece of work is some
    /// rows; in each row the order is that of the indices, wherever pieces are cut.
    fn scatter<T: Pod + Send + Sync>(
        &self,
        inputs: &[&[u8]],
        output: &mut [u8],
        workers: &Workers<'_>,
        put: impl Fn(&mut [T], &[T]) + Sync,
    ) {
        with_index!(self.index_dtype, I => {
            self.scatter_at::<T, I>(inputs, output, workers, put);
        });
    }

    fn scatter_at<T: Pod + Send + Sync, I: Index>(
        &self,
        inputs: &[&[u8]],
        output: &mut [u8],
        workers: &Workers<'_>,
        put: impl Fn(&mut [T], &[T]) + Sync,
    ) {
        let (data, indices, updates) = self.operands::<T>(inputs);
        let indices: &[I] = bytemuck::cast_slice(indices);
        let output: &mut [T] = bytemuck::cast_slice_mut(output);
        let slab = self.rows * self.row;
        let length = if output.len() == slab {
            let bytes = size_of::<T>() * (slab + updates.len());
            let pieces = bytes.div_ceil(SCATTERED_BYTES_PER_PIECE);
            let pieces = pieces.clamp(1, MOST_SCATTER_PIECES);
            self.rows.div_ceil(pieces) * self.row
        } else {
            slab
        };
        workers.each_chunk(output, length, |piece, chunk| {
            let first = piece * length;
            self.begin(data, first, chunk);
            let (slab, first) = (first / slab, first % slab / self.row);
            let rows = chunk.len() / self.row;
            let updates = &updates[slab * self.updates * self.row..];
            for (index, update) in indices.iter().zip(updates.chunks_exact(self.row)) {
                let row = index.clamped(self.rows).wrapping_sub(first);
                if row < rows {
                    put(&mut chunk[row * self.row..][..self.row], update);
                }
            }
        });
    }

    /// The data, if it is an operand, the indices and the updates.
    fn operands<'a, T: Pod>(&self, inputs: &[&'a [u8]]) -> (Option<&'a [T]>, &'a [u8], &'a [T]) {
        match (inputs, self.fill) {
            (&[data, indices, updates], None) => (
                Some(bytemuck::cast_slice(data)),
                indices,
                bytemuck::cast_slice(updates),
            ),
            (&[indices, updates], Some(_)) => (None, indices, bytemuck::cast_slice(updates)),
            _ => unreachable!("the planner leaves the data out when there is a fill"),
        }
    }

    /// Writes the data from its element `first` on.
    fn begin<T: Pod>(&self, data: Option<&[T]>, first: usize, chunk: &mut [T]) {
        match (data, &self.fill) {
            (Some(data), _) => chunk.copy_from_slice(&data[first..first + chunk.len()]),
            (None, Some(fill)) => chunk.fill(bytemuck::pod_read_unaligned(fill.element())),
            (None, None) => {}
        }
    }
}

impl ScatterAddAlong {
    pub(super) fn run(&self, inputs: &[&[u8]], output: &mut [u8], workers: &Workers<'_>) {
        with_wide!(self.dtype, T => with_index!(self.slices.index_dtype, I => {
            self.add::<T, I>(inputs, output, workers);
        }));
    }

    fn add<T: Number, I: Index>(&self, inputs: &[&[u8]], output: &mut [u8], workers: &Workers<'_>) {
        let slices = &self.slices;
        let (data, indices, updates) = slices.operands::<T>(inputs);
        let indices: &[I] = bytemuck::cast_slice(indices);
        let output: &mut [T] = bytemuck::cast_slice_mut(output);
        let (slab, added) = (slices.rows * slices.row, slices.updates * slices.row);
        let slabs_per_piece = (BYTES_PER_PIECE / size_of::<T>()).div_ceil(slab + added);
        workers.each_chunk(output, slabs_per_piece * slab, |piece, chunk| {
            let first = piece * slabs_per_piece;
            slices.begin(data, first * slab, chunk);
            for (place, output) in chunk.chunks_mut(slab).enumerate() {
                let places = (first + place) * added..(first + place + 1) * added;
                let mut column = 0;
                for (&index, &update) in indices[places.clone()].iter().zip(&updates[places]) {
                    let total = &mut output[index.clamped(slices.rows) * slices.row + column];
                    *total = total.add(update);
                    column += 1;
                    if column == slices.row {
                        column = 0;
                    }
                }
            }
        });
    }
}

/// For each index, the element of its own line of the data along an axis.
#[derive(Debug)]
pub(crate) struct TakeAlong {
    /// Bytes of an element.
    pub(crate) size: usize,
    pub(crate) index_dtype: DType,
    /// Steps of the data along the axis.
    pub(crate) rows: usize,
    /// Steps of the indices along the axis.
    pub(crate) taken: usize,
    /// Elements of one step.
    pub(crate) row: usize,
}

impl TakeAlong {
    pub(super) fn run(
        &self,
        data: &[u8],
        indices: &[u8],
        output: &mut [u8],
        workers: &Workers<'_>,
    ) {
        with_index!(self.index_dtype, I => {
            let indices: &[I] = bytemuck::cast_slice(indices);
            match self.size {
                1 => self.take::<u8, I>(data, indices, output, workers),
                2 => self.take::<u16, I>(data, indices, output, workers),
                4 => self.take::<u32, I>(data, indices, output, workers),
                _ => self.take::<u64, I>(data, indices, output, workers),
            }
        });
    }

    fn take<T: Pod + Send + Sync, I: Index>(
        &self,
        data: &[u8],
        indices: &[I],
        output: &mut [u8],
        workers: &Workers<'_>,
    ) {
        let data: &[T] = bytemuck::cast_slice(data);
        let output: &mut [T] = bytemuck::cast_slice_mut(output);
        let (row, slab) = (self.row, self.rows * self.row);
        let steps_per_piece = (BYTES_PER_PIECE / size_of::<T>()).div_ceil(row);
        workers.each_chunk(output, steps_per_piece * row, |piece, mut chunk| {
            let mut step = piece * steps_per_piece;
            while !chunk.is_empty() {
                // Steps that belong to one slab of the data.
                let first = step / self.taken * slab;
                let steps = (self.taken - step % self.taken).min(chunk.len() / row);
                let (part, rest) = chunk.split_at_mut(steps * row);
                let data = &data[first..first + slab];
                let indices = &indices[step * row..][..steps * row];
                if row == 1 {
                    for (element, index) in part.iter_mut().zip(indices) {
                        *element = data[index.clamped(self.rows)];
                    }
                } else {
                    for (part, indices) in part.chunks_mut(row).zip(indices.chunks(row)) {
                        for (column, (element, index)) in part.iter_mut().zip(indices).enumerate() {
                            *element = data[index.clamped(self.rows) * row + column];
                        }
                    }
                }
                (chunk, step) = (rest, step + steps);
            }
        });
    }
}

/// A type of indices.
trait Index: Pod + Send + Sync {
    /// The nearest of the indices below `rows`, of which there is one.
    fn clamped(self, rows: usize) -> usize;
}

macro_rules! index {
    ($($type:ident),*) => {$(
        impl Index for $type {
            #[inline(always)]
            fn clamped(self, rows: usize) -> usize {
                usize::try_from(self.max(0)).map_or(rows - 1, |index| index.min(rows - 1))
            }
        }
    )*};
}

index!(i32, u32, i64);

/// The index at `place`, clamped to `0..rows`.
pub(super) fn clamped(dtype: DType, indices: &[u8], place: usize, rows: usize) -> usize {
    with_index!(dtype, I => bytemuck::cast_slice::<u8, I>(indices)[place].clamped(rows))
}
