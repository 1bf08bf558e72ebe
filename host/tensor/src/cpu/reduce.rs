//! Reductions over any axes, and arg-max.
//!
//! The order of additions depends on the shape alone: rows are added in 16 lanes over
//! blocks of [`BLOCK`] elements, columns in blocks of [`BLOCK`] rows, and the blocks in
//! order. So errors grow with the square root of the length at worst, and the number of
//! threads changes nothing.

use std::marker::PhantomData;

use super::number::{Number, with_number};
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
        for axis in (0..self.sizes.len()).rev() {
            offset += index % self.sizes[axis] * self.strides[axis];
            index /= self.sizes[axis];
        }
        offset
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
        match (self.kind, self.dtype) {
            (Reduction::Sum, DType::F32) => self.reduce::<f32, Sum>(input, output, workers),
            (Reduction::Mean, _) => {
                self.reduce::<f32, Sum>(input, output, workers);
                let count = self.count as f32;
                for sum in bytemuck::cast_slice_mut::<u8, f32>(output) {
                    *sum /= count;
                }
            }
            (Reduction::Sum, dtype) => {
                with_number!(dtype, T => self.reduce::<T, Sum>(input, output, workers));
            }
            (Reduction::Max, dtype) => {
                with_number!(dtype, T => self.reduce::<T, Max>(input, output, workers));
            }
            (Reduction::Min, dtype) => {
                with_number!(dtype, T => self.reduce::<T, Min>(input, output, workers));
            }
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
            return;
        }
        if self.inner_is_reduced {
            let per_piece = ELEMENTS_PER_PIECE.div_ceil(self.count.max(1));
            workers.each_chunk(output, per_piece, |piece, chunk| {
                Piece::<T, C>::new(self, input, piece * per_piece, chunk).run();
            });
        } else {
            let columns = self.inner.min(COLUMNS_PER_PIECE);
            for (row, output) in output.chunks_mut(self.inner).enumerate() {
                let first = self.kept.offset(row);
                workers.each_chunk(output, columns, |piece, chunk| {
                    Piece::<T, C>::new(self, input, first + piece * columns, chunk).run();
                });
            }
        }
    }

    /// Result elements from `first` on: each combines whole rows.
    #[inline(always)]
    fn rows<T: Number, C: Combine>(&self, input: &[T], first: usize, output: &mut [T]) {
        let rows = self.reduced.count();
        for (place, result) in output.iter_mut().enumerate() {
            let base = self.kept.offset(first + place);
            let mut total = C::identity();
            for row in 0..rows {
                let start = base + self.reduced.offset(row);
                for block in input[start..start + self.inner].chunks(BLOCK) {
                    total = C::combine(total, combine_block::<T, C>(block));
                }
            }
            *result = total;
        }
    }

    /// Some neighbouring result elements: rows are combined with them one after another.
    #[inline(always)]
    fn columns<T: Number, C: Combine>(&self, input: &[T], output: &mut [T]) {
        let rows = self.reduced.count();
        output.fill(C::identity());
        if rows <= BLOCK {
            self.add_rows::<T, C>(input, 0..rows, output);
            return;
        }
        let mut partial = [T::ZERO; COLUMNS_PER_PIECE];
        let partial = &mut partial[..output.len()];
        for start in (0..rows).step_by(BLOCK) {
            partial.fill(C::identity());
            self.add_rows::<T, C>(input, start..(start + BLOCK).min(rows), partial);
            for (total, &part) in output.iter_mut().zip(&*partial) {
                *total = C::combine(*total, part);
            }
        }
    }

    #[inline(always)]
    fn add_rows<T: Number, C: Combine>(
        &self,
        input: &[T],
        rows: std::ops::Range<usize>,
        output: &mut [T],
    ) {
        for row in rows {
            let start = self.reduced.offset(row);
            let row = &input[start..start + output.len()];
            for (total, &element) in output.iter_mut().zip(row) {
                *total = C::combine(*total, element);
            }
        }
    }
}

/// Some results, as work for the instruction set that the machine has.
struct Piece<'a, T, C> {
    kernel: &'a Reduce,
    input: &'a [T],
    /// For rows, the index of the first result; for columns, the offset of the first operand.
    first: usize,
    output: &'a mut [T],
    combine: PhantomData<C>,
}

impl<'a, T: Number, C: Combine> Piece<'a, T, C> {
    fn new(kernel: &'a Reduce, input: &'a [T], first: usize, output: &'a mut [T]) -> Self {
        Self {
            kernel,
            input,
            first,
            output,
            combine: PhantomData,
        }
    }

    fn run(self) {
        if T::IS_FLOAT {
            pulp::Arch::new().dispatch(self);
        } else {
            pulp::NullaryFnOnce::call(self);
        }
    }
}

impl<T: Number, C: Combine> pulp::NullaryFnOnce for Piece<'_, T, C> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        if self.kernel.inner_is_reduced {
            self.kernel
                .rows::<T, C>(self.input, self.first, self.output);
        } else {
            let input = &self.input[self.first..];
            self.kernel.columns::<T, C>(input, self.output);
        }
    }
}

#[inline(always)]
fn combine_block<T: Number, C: Combine>(block: &[T]) -> T {
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

struct Sum;
struct Max;
struct Min;

impl Combine for Sum {
    #[inline(always)]
    fn identity<T: Number>() -> T {
        T::ZERO
    }

    #[inline(always)]
    fn combine<T: Number>(total: T, element: T) -> T {
        total.add(element)
    }
}

impl Combine for Max {
    #[inline(always)]
    fn identity<T: Number>() -> T {
        T::LOWEST
    }

    #[inline(always)]
    fn combine<T: Number>(total: T, element: T) -> T {
        total.maximum(element)
    }
}

impl Combine for Min {
    #[inline(always)]
    fn identity<T: Number>() -> T {
        T::HIGHEST
    }

    #[inline(always)]
    fn combine<T: Number>(total: T, element: T) -> T {
        total.minimum(element)
    }
}

/// The position of the greatest element along one axis, the first of equals.
#[derive(Debug)]
pub(crate) struct ArgMax {
    pub(crate) dtype: DType,
    pub(crate) size: usize,
    /// Elements of one step along the axis.
    pub(crate) inner: usize,
}

impl ArgMax {
    pub(super) fn run(&self, input: &[u8], output: &mut [u8], workers: &Workers<'_>) {
        with_number!(self.dtype, T => self.find::<T>(input, output, workers));
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
                    let element = input[first + step * self.inner];
                    if element > best || (element.is_nan() && !best.is_nan()) {
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
