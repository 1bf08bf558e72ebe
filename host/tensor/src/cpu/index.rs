//! Operations that take positions from a tensor. Positions out of range are clamped.

use bytemuck::Pod;

use super::number::{Number, with_wide};
use super::workers::Workers;
use crate::DType;

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

/// `data` with slices added along an axis, in the order of the indices.
#[derive(Debug)]
pub(crate) struct ScatterAdd {
    pub(crate) dtype: DType,
    pub(crate) index_dtype: DType,
    /// Slices in the data.
    pub(crate) rows: usize,
    /// Slices to add.
    pub(crate) added: usize,
    /// Elements of one slice.
    pub(crate) row: usize,
}

impl ScatterAdd {
    pub(super) fn run(
        &self,
        [data, indices, updates]: [&[u8]; 3],
        output: &mut [u8],
        workers: &Workers<'_>,
    ) {
        output.copy_from_slice(data);
        with_wide!(self.dtype, T => self.add::<T>(indices, updates, output, workers));
    }

    fn add<T: Number>(
        &self,
        indices: &[u8],
        updates: &[u8],
        output: &mut [u8],
        workers: &Workers<'_>,
    ) {
        let updates: &[T] = bytemuck::cast_slice(updates);
        let output: &mut [T] = bytemuck::cast_slice_mut(output);
        if self.row == 0 || self.rows == 0 {
            return;
        }
        workers.each_chunk(output, self.rows * self.row, |slab, output| {
            for place in 0..self.added {
                let row = clamped(self.index_dtype, indices, place, self.rows);
                let target = &mut output[row * self.row..][..self.row];
                let update = &updates[(slab * self.added + place) * self.row..][..self.row];
                for (total, &element) in target.iter_mut().zip(update) {
                    *total = total.add(element);
                }
            }
        });
    }
}

/// The index at `place`, clamped to `0..rows`.
#[inline(always)]
fn clamped(dtype: DType, indices: &[u8], place: usize, rows: usize) -> usize {
    fn at<T: Pod>(indices: &[u8], place: usize) -> T {
        bytemuck::cast_slice::<u8, T>(indices)[place]
    }
    let index = match dtype {
        DType::I32 => i64::from(at::<i32>(indices, place)),
        DType::U32 => i64::from(at::<u32>(indices, place)),
        _ => at::<i64>(indices, place),
    };
    usize::try_from(index.max(0)).map_or(rows - 1, |index| index.min(rows - 1))
}
