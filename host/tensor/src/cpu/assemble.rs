//! Results that are put together from boxes of elements: what `concatenate`, `pad` and the
//! dynamic slices do.

use bytemuck::Pod;
use smallvec::SmallVec;

use super::index::clamped;
use super::workers::Workers;
use crate::DType;
use crate::shape::Dims;

/// Bytes of results that make a piece worth handing to a thread.
const BYTES_PER_PIECE: usize = 128 * 1024;

/// Boxes of operands, copied to places of a row-major result one after another.
///
/// The operands are those of the parts, the fill if there is one, the starts if there is
/// a shift.
#[derive(Debug)]
pub(crate) struct Assemble {
    /// Bytes of an element.
    pub(crate) size: usize,
    /// The result's.
    pub(crate) shape: Dims,
    pub(crate) parts: Vec<Part>,
    /// Whether a scalar is everywhere where no part is.
    pub(crate) filled: bool,
    pub(crate) shift: Option<Shift>,
}

/// A box of an operand and its place in the result.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part {
    /// Elements per dimension.
    pub(crate) extent: Dims,
    /// The first element in the operand.
    pub(crate) offset: usize,
    /// Steps in the operand, in two's complement when backwards.
    pub(crate) strides: Dims,
    /// The result's index of the first element.
    pub(crate) first: Dims,
    /// Steps of that index.
    pub(crate) steps: Dims,
}

/// Moves the last part by indexes that are operands themselves, clamped.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shift {
    pub(crate) dtype: DType,
    /// The greatest index per dimension.
    pub(crate) limits: Dims,
    pub(crate) of: Shifted,
}

/// What is moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shifted {
    /// Where the part is read.
    Source,
    /// Where it is written.
    Target,
}

impl Assemble {
    pub(super) fn run(&self, inputs: &[&[u8]], output: &mut [u8], workers: &Workers<'_>) {
        match self.size {
            1 => self.assemble::<u8>(inputs, output, workers),
            2 => self.assemble::<u16>(inputs, output, workers),
            4 => self.assemble::<u32>(inputs, output, workers),
            _ => self.assemble::<u64>(inputs, output, workers),
        }
    }

    fn assemble<T: Pod + Send + Sync>(
        &self,
        inputs: &[&[u8]],
        output: &mut [u8],
        workers: &Workers<'_>,
    ) {
        let output: &mut [T] = bytemuck::cast_slice_mut(output);
        let fill = self
            .filled
            .then(|| bytemuck::cast_slice::<u8, T>(inputs[self.parts.len()])[0]);
        let parts = self.moved_parts(inputs);
        // Work is cut along the first axis that has more than one step.
        let axis = self.shape.iter().take_while(|&&size| size == 1).count();
        let axis = axis.min(self.shape.len().saturating_sub(1));
        let strides = self.shape.row_major_strides();
        let row = strides.get(axis).copied().unwrap_or(1);
        let rows_per_piece = BYTES_PER_PIECE.div_ceil(row * size_of::<T>());
        workers.each_chunk(output, rows_per_piece * row, |piece, chunk| {
            if let Some(fill) = fill {
                chunk.fill(fill);
            }
            let first = piece * rows_per_piece;
            let rows = first..first + chunk.len() / row;
            for (part, input) in parts.iter().zip(inputs) {
                if let Some(run) = Copy::new(part, axis, &strides, rows.clone()) {
                    run.run(bytemuck::cast_slice::<u8, T>(input), chunk);
                }
            }
        });
    }

    fn moved_parts(&self, inputs: &[&[u8]]) -> SmallVec<[Part; 2]> {
        let mut parts: SmallVec<[Part; 2]> = self.parts.iter().copied().collect();
        if let (Some(shift), Some(part)) = (&self.shift, parts.last_mut()) {
            let starts = inputs[inputs.len() - 1];
            let start = |axis: usize| clamped(shift.dtype, starts, axis, shift.limits[axis] + 1);
            let rank = part.extent.len();
            match shift.of {
                Shifted::Source => {
                    for axis in 0..rank {
                        let steps = start(axis).wrapping_mul(part.strides[axis]);
                        part.offset = part.offset.wrapping_add(steps);
                    }
                }
                Shifted::Target => {
                    let first = (0..rank).map(|axis| part.first[axis] + start(axis));
                    part.first = Dims::collect(first);
                }
            }
        }
        parts
    }
}

/// The copy of the rows of a part that lie in one piece of the result.
struct Copy {
    /// Elements, steps in the operand and in the result, per dimension; neighbours that
    /// are walked as one are merged.
    axes: SmallVec<[(usize, usize, usize); 4]>,
    from: usize,
    to: usize,
}

impl Copy {
    /// None when there is nothing to copy. Axes before `axis` have one step.
    fn new(part: &Part, axis: usize, strides: &Dims, rows: std::ops::Range<usize>) -> Option<Self> {
        if part.extent.contains(&0) {
            return None;
        }
        let mut copy = Self {
            axes: SmallVec::new(),
            from: part.offset,
            to: 0,
        };
        for place in axis..part.extent.len() {
            let (mut extent, mut first) = (part.extent[place], part.first[place]);
            let (stride, step) = (part.strides[place], part.steps[place]);
            if place == axis {
                // The steps of the part whose rows are in this piece.
                let begin = rows.start.saturating_sub(first).div_ceil(step);
                let end = rows.end.saturating_sub(first).div_ceil(step).min(extent);
                if begin >= end {
                    return None;
                }
                extent = end - begin;
                first = first + begin * step - rows.start;
                copy.from = copy.from.wrapping_add(begin.wrapping_mul(stride));
            }
            copy.to += first * strides[place];
            copy.push(extent, stride, step * strides[place]);
        }
        Some(copy)
    }

    fn push(&mut self, extent: usize, from: usize, to: usize) {
        if extent == 1 {
            return;
        }
        match self.axes.last_mut() {
            Some((size, outer_from, outer_to))
                if *outer_from == from.wrapping_mul(extent)
                    && *outer_to == to.wrapping_mul(extent) =>
            {
                (*size, *outer_from, *outer_to) = (*size * extent, from, to);
            }
            _ => self.axes.push((extent, from, to)),
        }
    }

    fn run<T: Pod>(mut self, source: &[T], target: &mut [T]) {
        let (count, from_step, to_step) = self.axes.pop().unwrap_or((1, 1, 1));
        let mut index: SmallVec<[usize; 4]> = SmallVec::from_elem(0, self.axes.len());
        let (mut from, mut to) = (self.from, self.to);
        'rows: loop {
            if from_step == 1 && to_step == 1 {
                target[to..to + count].copy_from_slice(&source[from..from + count]);
            } else if from_step == 0 && to_step == 1 {
                target[to..to + count].fill(source[from]);
            } else {
                let (mut from, mut to) = (from, to);
                for _ in 0..count {
                    target[to] = source[from];
                    from = from.wrapping_add(from_step);
                    to += to_step;
                }
            }
            for (index, &(size, from_step, to_step)) in index.iter_mut().zip(&self.axes).rev() {
                *index += 1;
                from = from.wrapping_add(from_step);
                to += to_step;
                if *index < size {
                    continue 'rows;
                }
                from = from.wrapping_sub(size.wrapping_mul(from_step));
                to -= size * to_step;
                *index = 0;
            }
            return;
        }
    }
}
