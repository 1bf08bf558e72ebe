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

/// Rows of a piece, where they are not long, so that whole lines of a cache are turned.
const LEAST_ROWS: usize = BLOCK;
const LONG_ROW: usize = 64 * 1024;

/// Rows and columns that are turned together: one line of a cache in `f32`.
const BLOCK: usize = 16;

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
        let row_bytes = row * size_of::<T>();
        let mut rows_per_piece = BYTES_PER_PIECE.div_ceil(row_bytes);
        if row_bytes <= LONG_ROW {
            rows_per_piece = rows_per_piece.next_multiple_of(LEAST_ROWS);
        }
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
        let inner = self.axes.pop().unwrap_or((1, 1, 1));
        let next = match inner {
            // Rows of the result that are columns of the operand are turned in blocks.
            (_, from, 1) if from != 1 => self.axes.iter().position(|&(_, from, _)| from == 1),
            _ => None,
        };
        let turned = next.is_some();
        let outer = match next {
            Some(place) => self.axes.remove(place),
            None => self.axes.pop().unwrap_or((1, 0, 0)),
        };
        let mut index: SmallVec<[usize; 4]> = SmallVec::from_elem(0, self.axes.len());
        let (mut from, mut to) = (self.from, self.to);
        'planes: loop {
            let plane = Plane {
                from,
                to,
                outer,
                inner,
            };
            if turned {
                plane.turn(source, target);
            } else {
                plane.copy(source, target);
            }
            for (index, &(size, from_step, to_step)) in index.iter_mut().zip(&self.axes).rev() {
                *index += 1;
                from = from.wrapping_add(from_step);
                to += to_step;
                if *index < size {
                    continue 'planes;
                }
                from = from.wrapping_sub(size.wrapping_mul(from_step));
                to -= size * to_step;
                *index = 0;
            }
            return;
        }
    }
}

/// Two axes of a copy, each as elements, steps in the operand and in the result.
struct Plane {
    from: usize,
    to: usize,
    outer: (usize, usize, usize),
    inner: (usize, usize, usize),
}

impl Plane {
    fn copy<T: Pod>(&self, source: &[T], target: &mut [T]) {
        let (count, from_step, to_step) = self.inner;
        match (from_step, to_step, count) {
            // Short rows of a known length are some moves instead of a call.
            (1, 1, 4) => self.rows(|from, to| move_row::<T, 4>(source, from, target, to)),
            (1, 1, 8) => self.rows(|from, to| move_row::<T, 8>(source, from, target, to)),
            (1, 1, 16) => self.rows(|from, to| move_row::<T, 16>(source, from, target, to)),
            (1, 1, 32) => self.rows(|from, to| move_row::<T, 32>(source, from, target, to)),
            (1, 1, 64) => self.rows(|from, to| move_row::<T, 64>(source, from, target, to)),
            (1, 1, _) => self.rows(|from, to| {
                target[to..to + count].copy_from_slice(&source[from..from + count]);
            }),
            (0, 1, _) => self.rows(|from, to| target[to..to + count].fill(source[from])),
            (usize::MAX, 1, _) => self.rows(|from, to| {
                let backwards = source[from + 1 - count..=from].iter().rev();
                for (target, &element) in target[to..to + count].iter_mut().zip(backwards) {
                    *target = element;
                }
            }),
            (_, 1, _) if from_step.cast_signed() > 0 => self.rows(|from, to| {
                let elements = source[from..].iter().step_by(from_step);
                for (target, &element) in target[to..to + count].iter_mut().zip(elements) {
                    *target = element;
                }
            }),
            _ => self.rows(|from, to| {
                let (mut from, mut to) = (from, to);
                for _ in 0..count {
                    target[to] = source[from];
                    from = from.wrapping_add(from_step);
                    to += to_step;
                }
            }),
        }
    }

    /// Calls `copy` with the places where each row is and goes to.
    #[inline(always)]
    fn rows(&self, mut copy: impl FnMut(usize, usize)) {
        let (rows, from_step, to_step) = self.outer;
        let (mut from, mut to) = (self.from, self.to);
        for _ in 0..rows {
            copy(from, to);
            from = from.wrapping_add(from_step);
            to += to_step;
        }
    }

    /// Copies rows that lie as columns, a block at a time: whole lines are read, and whole
    /// lines are written.
    fn turn<T: Pod>(&self, source: &[T], target: &mut [T]) {
        let (rows, _, row_step) = self.outer;
        let (columns, column_step, _) = self.inner;
        let mut block = [[T::zeroed(); BLOCK]; BLOCK];
        for row in (0..rows).step_by(BLOCK) {
            let height = BLOCK.min(rows - row);
            for column in (0..columns).step_by(BLOCK) {
                let width = BLOCK.min(columns - column);
                for (place, line) in block[..width].iter_mut().enumerate() {
                    let steps = (column + place).wrapping_mul(column_step);
                    let from = self.from.wrapping_add(steps).wrapping_add(row);
                    if height == BLOCK {
                        line.copy_from_slice(&source[from..from + BLOCK]);
                    } else {
                        line[..height].copy_from_slice(&source[from..from + height]);
                    }
                }
                for place in 0..height {
                    let to = self.to + (row + place) * row_step + column;
                    if width == BLOCK {
                        let line: &mut [T] = &mut target[to..to + BLOCK];
                        for (element, column) in line.iter_mut().zip(&block) {
                            *element = column[place];
                        }
                    } else {
                        for (element, column) in target[to..to + width].iter_mut().zip(&block) {
                            *element = column[place];
                        }
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn move_row<T: Pod, const N: usize>(source: &[T], from: usize, target: &mut [T], to: usize) {
    target[to..to + N].copy_from_slice(&source[from..from + N]);
}
