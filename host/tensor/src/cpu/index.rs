//! Operations that take positions from a tensor. Positions out of range are clamped.

use bytemuck::Pod;

use super::number::{Number, with_wide};
use super::workers::Workers;
use crate::DType;
use crate::ir::Literal;

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
        if self.row_bytes == 0 {
            return;
        }
        let per_piece = BYTES_PER_PIECE.div_ceil(self.row_bytes);
        workers.each_chunk(output, per_piece * self.row_bytes, |piece, chunk| {
            for (place, slice) in chunk.chunks_mut(self.row_bytes).enumerate() {
                let slot = piece * per_piece + place;
                let row = clamped(self.index_dtype, indices, slot % self.taken, self.rows);
                let first = (slot / self.taken * self.rows + row) * self.row_bytes;
                slice.copy_from_slice(&data[first..first + self.row_bytes]);
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
        let (data, indices, updates) = self.operands::<T>(inputs);
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
            for place in 0..self.updates {
                let row = clamped(self.index_dtype, indices, place, self.rows);
                if let Some(row) = row.checked_sub(first)
                    && row < rows
                {
                    let target = &mut chunk[row * self.row..][..self.row];
                    let update = (slab * self.updates + place) * self.row;
                    put(target, &updates[update..update + self.row]);
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
        with_wide!(self.dtype, T => self.add::<T>(inputs, output, workers));
    }

    fn add<T: Number>(&self, inputs: &[&[u8]], output: &mut [u8], workers: &Workers<'_>) {
        match self.slices.index_dtype {
            DType::I32 => self.add_at::<T, i32>(inputs, output, workers),
            DType::U32 => self.add_at::<T, u32>(inputs, output, workers),
            _ => self.add_at::<T, i64>(inputs, output, workers),
        }
    }

    fn add_at<T: Number, I: Pod + Into<i64> + Sync>(
        &self,
        inputs: &[&[u8]],
        output: &mut [u8],
        workers: &Workers<'_>,
    ) {
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
                let first = (first + place) * added;
                let of_slab = first..first + added;
                let mut column = 0;
                for (&index, &update) in indices[of_slab.clone()].iter().zip(&updates[of_slab]) {
                    let row = clamped_index(index.into(), slices.rows);
                    let total = &mut output[row * slices.row + column];
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
        match self.size {
            1 => self.take::<u8>(data, indices, output, workers),
            2 => self.take::<u16>(data, indices, output, workers),
            4 => self.take::<u32>(data, indices, output, workers),
            _ => self.take::<u64>(data, indices, output, workers),
        }
    }

    fn take<T: Pod + Send + Sync>(
        &self,
        data: &[u8],
        indices: &[u8],
        output: &mut [u8],
        workers: &Workers<'_>,
    ) {
        let data: &[T] = bytemuck::cast_slice(data);
        let output: &mut [T] = bytemuck::cast_slice_mut(output);
        let per_piece = (BYTES_PER_PIECE / size_of::<T>()).div_ceil(self.row);
        workers.each_chunk(output, per_piece * self.row, |piece, chunk| {
            for (place, slice) in chunk.chunks_mut(self.row).enumerate() {
                let slot = piece * per_piece + place;
                let line = slot / self.taken * self.rows;
                for (column, element) in slice.iter_mut().enumerate() {
                    let place = slot * self.row + column;
                    let row = clamped(self.index_dtype, indices, place, self.rows);
                    *element = data[(line + row) * self.row + column];
                }
            }
        });
    }
}

/// The index at `place`, clamped to `0..rows`.
#[inline(always)]
pub(super) fn clamped(dtype: DType, indices: &[u8], place: usize, rows: usize) -> usize {
    fn at<T: Pod>(indices: &[u8], place: usize) -> T {
        bytemuck::cast_slice::<u8, T>(indices)[place]
    }
    let index = match dtype {
        DType::I32 => i64::from(at::<i32>(indices, place)),
        DType::U32 => i64::from(at::<u32>(indices, place)),
        _ => at::<i64>(indices, place),
    };
    clamped_index(index, rows)
}

#[inline(always)]
fn clamped_index(index: i64, rows: usize) -> usize {
    usize::try_from(index.max(0)).map_or(rows - 1, |index| index.min(rows - 1))
}
