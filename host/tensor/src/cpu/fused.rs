//! Fused elementwise kernels: one pass over the elements for a whole group of operations.
//!
//! The elements are cut into tiles. For each tile the kernel's code runs once, operation
//! by operation; intermediate values live in slots of one tile each and never reach
//! memory. Results are stored at the end of a tile, so a result may take the place of an
//! operand that is read element by element.

use std::cell::RefCell;
use std::ops::Range;

use bytemuck::Pod;

use super::memory::{Memory, ValueId};
use super::moments::{self, FACTORS, Moments};
use super::number::Real;
use super::philox;
use super::tile::{self, MOST_OPERANDS, Tile, TileOp};
use super::vector::fetch_all;
use super::workers::Workers;
use crate::DType;
use crate::ir::Literal;
use crate::shape::{Dims, MAX_RANK};
use crate::tensor::Line;

/// Elements of a tile: 2 KiB of `f32`, so that about 20 slots fit the L1 cache.
pub(crate) const TILE: usize = 512;

/// Lines of a slot: a tile of the widest type.
const SLOT_LINES: usize = TILE * 8 / Line::BYTES;

/// The most tiles of a piece of work that threads share out: of a kernel that only waits for
/// memory, so many are worth handing over.
const TILES_PER_PIECE: usize = 32;

/// Estimated operations of a piece that does more.
const WORK_PER_PIECE: u64 = 1 << 17;

/// Operands of more bytes are fetched while the tile before is computed: they are not in a
/// cache that belongs to a core, and what fetches by itself begins anew with every tile.
const FAR_BYTES: usize = 1 << 19;

/// A group of elementwise operations over one shape.
#[derive(Debug)]
pub(crate) struct Fused {
    /// Elements of the shape.
    pub(crate) elements: usize,
    /// The shape as far as strided loads need it: neighbouring dimensions are merged.
    pub(crate) extent: Dims,
    pub(crate) loads: Vec<Load>,
    pub(crate) scalars: Vec<Scalar>,
    pub(crate) code: Vec<Instruction>,
    /// What ends a tile.
    pub(crate) moments: Option<Box<MomentStep>>,
    pub(crate) stores: Vec<Store>,
    pub(crate) slots: usize,
}

/// An operand in memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) value: ValueId,
    pub(crate) dtype: DType,
    /// The first element, when there are strides.
    pub(crate) offset: usize,
    /// Steps in elements per dimension of `extent`, in two's complement when backwards;
    /// none when the value's elements are those of the result in the same order.
    pub(crate) strides: Option<Dims>,
}

/// A slot that holds one element everywhere, during the whole kernel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scalar {
    pub(crate) slot: usize,
    pub(crate) source: ScalarSource,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScalarSource {
    Literal(Literal),
    /// One element of a value.
    Value {
        value: ValueId,
        dtype: DType,
        place: usize,
    },
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Instruction {
    /// Collects a strided operand.
    Gather { load: usize, slot: usize },
    /// Indexes along an axis of `size` steps of `inner` elements.
    Iota {
        dtype: DType,
        inner: usize,
        size: usize,
        slot: usize,
    },
    /// Random bits that follow from the two words of a key, each a scalar.
    Random {
        key: [Operand; 2],
        stream: u32,
        slot: usize,
    },
    Apply {
        op: TileOp,
        from: DType,
        to: DType,
        operands: [Operand; MOST_OPERANDS],
        slot: usize,
    },
}

/// A step by moments. It comes last, so that its results may take the place of what only it
/// and instructions before it read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MomentStep {
    /// Of all operands and results.
    pub(crate) dtype: DType,
    pub(crate) operands: Moments<Operand>,
    /// Scalars.
    pub(crate) factors: [Operand; FACTORS],
    /// The new average, squares and parameter.
    pub(crate) results: [ValueId; 3],
}

/// Where an operation finds a tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operand {
    None,
    Slot(usize),
    /// A slot that holds a scalar.
    Scalar(usize),
    /// The elements of a load without strides.
    Load(usize),
}

/// A result in memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Store {
    pub(crate) value: ValueId,
    pub(crate) dtype: DType,
    /// The slot that holds it at the end of each tile.
    pub(crate) from: usize,
}

/// One tile of any type. Empty while an instruction writes to it.
#[derive(Default)]
struct Slot {
    lines: Vec<Line>,
    /// Where in `lines` the tile begins.
    first: usize,
}

impl Slot {
    /// Makes the slot of that number.
    ///
    /// Slots begin at different places of a memory page. If all began at the same one,
    /// they would compete for the same sets of the L1 cache, and processors would take a
    /// load from one slot to depend on the store to another.
    fn new(number: usize) -> Self {
        const PAGE_LINES: usize = 4096 / Line::BYTES;
        let lines = vec![Line::ZERO; SLOT_LINES + PAGE_LINES];
        let wanted = number % 2 * (PAGE_LINES / 2) + number / 2 * 3;
        let found = lines.as_ptr().addr() / Line::BYTES;
        Self {
            first: wanted.wrapping_sub(found) % PAGE_LINES,
            lines,
        }
    }

    #[inline(always)]
    fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(&self.lines[self.first..])
    }

    #[inline(always)]
    fn bytes_mut(&mut self) -> &mut [u8] {
        bytemuck::cast_slice_mut(&mut self.lines[self.first..])
    }
}

thread_local! {
    /// The slots of the kernel that runs on this thread. They stay for the next kernel;
    /// a group's size limit bounds how many there are.
    static SLOTS: RefCell<Vec<Slot>> = const { RefCell::new(Vec::new()) };
}

impl Fused {
    /// The values that the kernel reads; one may be named twice.
    pub(super) fn reads(&self) -> Vec<ValueId> {
        let scalars = self.scalars.iter();
        let scalars = scalars.filter_map(|scalar| match scalar.source {
            ScalarSource::Value { value, .. } => Some(value),
            ScalarSource::Literal(_) => None,
        });
        let loads = self.loads.iter().map(|load| load.value);
        loads.chain(scalars).collect()
    }

    /// The values that the kernel writes.
    pub(crate) fn writes(&self) -> Vec<ValueId> {
        let moments = self.moments.iter().flat_map(|step| step.results);
        let stores = self.stores.iter().map(|store| store.value);
        stores.chain(moments).collect()
    }

    /// Whether the kernel reads a value only element by element, as it writes.
    pub(crate) fn reads_in_order(&self, value: ValueId) -> bool {
        let mut loads = self.loads.iter().filter(|load| load.value == value);
        let mut scalars = self.scalars.iter();
        loads.all(|load| load.strides.is_none())
            && !scalars.any(|scalar| {
                matches!(scalar.source, ScalarSource::Value { value: other, .. } if other == value)
            })
    }

    /// Runs the kernel.
    ///
    /// # Safety
    /// No other kernel may write to the loaded values or touch the stored ones meanwhile.
    /// A stored value may share its bytes only with a loaded value that has no strides.
    #[expect(unsafe_code, reason = "the planner answers for who uses which bytes")]
    pub(crate) unsafe fn run(&self, memory: Memory<'_>, workers: &Workers<'_>) {
        let tiles = self.elements.div_ceil(TILE);
        let per_piece = if tiles > 1 { self.tiles_per_piece() } else { 1 };
        workers.each(tiles.div_ceil(per_piece), |piece| {
            let first = piece * per_piece * TILE;
            let last = (first + per_piece * TILE).min(self.elements);
            // SAFETY: passed on to the caller; pieces have elements of their own.
            unsafe { self.run_on(memory, first..last) };
        });
    }

    /// Runs the kernel for some of the elements, on this thread.
    ///
    /// # Safety
    /// As for [`Fused::run`], as far as these elements are concerned.
    #[expect(unsafe_code, reason = "the planner answers for who uses which bytes")]
    pub(super) unsafe fn run_on(&self, memory: Memory<'_>, elements: Range<usize>) {
        SLOTS.with_borrow_mut(|slots| {
            slots.extend((slots.len()..self.slots).map(Slot::new));
            pulp::Arch::new().dispatch(Tiles {
                kernel: self,
                memory,
                slots,
                elements,
            });
        });
    }
}

impl Fused {
    /// Bytes of operands that are read in order.
    fn loaded_bytes(&self) -> usize {
        let loads = self.loads.iter().filter(|load| load.strides.is_none());
        let sizes = loads.map(|load| load.dtype.size());
        self.elements.saturating_mul(sizes.sum())
    }

    fn tiles_per_piece(&self) -> usize {
        let per_tile = self.flops_per_element().max(1) * TILE as u64;
        let tiles = usize::try_from(WORK_PER_PIECE / per_tile).unwrap_or(TILES_PER_PIECE);
        tiles.clamp(1, TILES_PER_PIECE)
    }
}

/// Some elements of a kernel, as work for the instruction set that the machine has. Only
/// [`Fused::run_on`] makes one, so its caller's promise holds for the memory.
struct Tiles<'a> {
    kernel: &'a Fused,
    memory: Memory<'a>,
    slots: &'a mut [Slot],
    elements: Range<usize>,
}

impl pulp::NullaryFnOnce for Tiles<'_> {
    type Output = ();

    #[inline(always)]
    #[expect(unsafe_code, reason = "reads and writes the run's buffers")]
    fn call(self) {
        let Self {
            kernel,
            memory,
            slots,
            elements,
        } = self;
        let is_far = kernel.loaded_bytes() > FAR_BYTES;
        let (tile, scalar_length) = match &kernel.moments {
            // Nothing passes through slots.
            Some(step) if kernel.code.is_empty() && step.reads_memory() => (elements.len(), 1),
            _ => (TILE, TILE.min(elements.len())),
        };
        for scalar in &kernel.scalars {
            let literal = match scalar.source {
                ScalarSource::Literal(literal) => literal,
                ScalarSource::Value {
                    value,
                    dtype,
                    place,
                } => {
                    let bytes = place * dtype.size()..(place + 1) * dtype.size();
                    // SAFETY: the caller's promise; the copy ends the borrow.
                    let element = unsafe { memory.read(value, bytes) };
                    Literal::new(dtype, element)
                }
            };
            fill(&literal, scalar_length, &mut slots[scalar.slot]);
        }
        for start in elements.clone().step_by(tile.max(1)) {
            let count = (elements.end - start).min(tile);
            if is_far {
                let next = start + count..(start + count + TILE).min(elements.end);
                let by_moments =
                    |load| kernel.moments.as_ref().is_some_and(|step| step.reads(load));
                for (number, load) in kernel.loads.iter().enumerate() {
                    if load.strides.is_some() || by_moments(number) {
                        continue;
                    }
                    let bytes = next.start * load.dtype.size()..next.end * load.dtype.size();
                    // SAFETY: the caller's promise; nothing is stored meanwhile.
                    let bytes = unsafe { memory.read(load.value, bytes) };
                    fetch_all(bytes, 0..bytes.len());
                }
            }
            for instruction in &kernel.code {
                step(kernel, instruction, memory, slots, start, count);
            }
            if let Some(step) = &kernel.moments {
                // SAFETY: the caller's promise.
                unsafe { step.run(kernel, memory, slots, start..start + count, is_far) };
            }
            for store in &kernel.stores {
                let size = store.dtype.size();
                let range = start * size..(start + count) * size;
                let bytes = &slots[store.from].bytes()[..count * size];
                // SAFETY: the caller's promise; no other slice of the buffer lives here.
                unsafe { memory.write(store.value, range) }.copy_from_slice(bytes);
            }
        }
    }
}

impl MomentStep {
    /// The slots of its operands and factors.
    pub(crate) fn slots_mut(&mut self) -> impl Iterator<Item = &mut usize> {
        let Moments {
            gradient,
            average,
            squares,
            parameter,
        } = &mut self.operands;
        let operands = [gradient, average, squares, parameter];
        let operands = operands.into_iter().chain(&mut self.factors);
        operands.filter_map(|operand| match operand {
            Operand::Slot(slot) | Operand::Scalar(slot) => Some(slot),
            Operand::Load(_) | Operand::None => None,
        })
    }

    /// Whether it reads elements from nowhere else.
    fn reads_memory(&self) -> bool {
        let mut operands = self.operands.all().into_iter();
        operands.all(|operand| matches!(operand, Operand::Load(_)))
    }

    /// Whether it reads that load where it lies.
    fn reads(&self, load: usize) -> bool {
        self.operands.all().contains(&Operand::Load(load))
    }

    /// Computes the elements, of which slots hold the first ones at their beginning, and
    /// writes the results.
    ///
    /// # Safety
    /// As for [`Fused::run`], as far as these elements are concerned.
    #[inline(always)]
    #[expect(unsafe_code, reason = "reads and writes the run's buffers")]
    unsafe fn run(
        &self,
        kernel: &Fused,
        memory: Memory<'_>,
        slots: &[Slot],
        elements: Range<usize>,
        is_far: bool,
    ) {
        let places = |dtype: DType| elements.start * dtype.size()..elements.end * dtype.size();
        let start = |operand| match operand {
            Operand::Load(load) => {
                let load = &kernel.loads[load];
                memory.start(load.value, places(load.dtype)).cast_const()
            }
            Operand::Slot(slot) | Operand::Scalar(slot) => slots[slot].bytes().as_ptr(),
            Operand::None => unreachable!("a step has all its operands"),
        };
        let [x, m, v, p] = self.operands.all();
        let from = [start(x), start(m), start(v), start(p)];
        let [m, v, p] = self.results;
        let to = [
            memory.start(m, places(self.dtype)),
            memory.start(v, places(self.dtype)),
            memory.start(p, places(self.dtype)),
        ];
        // SAFETY: the caller's promise; slots are as long as a tile.
        if self.dtype == DType::F64 {
            unsafe { self.apply::<f64>(slots, from, to, elements.len(), is_far) };
        } else {
            unsafe { self.apply::<f32>(slots, from, to, elements.len(), is_far) };
        }
    }

    /// The same in the type of the operands.
    ///
    /// # Safety
    /// As for [`moments::run`].
    #[inline(always)]
    #[expect(unsafe_code, reason = "reads and writes the run's buffers")]
    unsafe fn apply<T: Real>(
        &self,
        slots: &[Slot],
        from: [*const u8; 4],
        to: [*mut u8; 3],
        count: usize,
        is_far: bool,
    ) {
        let mut factors = [T::ZERO; FACTORS];
        for (factor, operand) in factors.iter_mut().zip(self.factors) {
            let Operand::Scalar(slot) = operand else {
                unreachable!("factors are scalars");
            };
            *factor = bytemuck::pod_read_unaligned(&slots[slot].bytes()[..size_of::<T>()]);
        }
        let from = [
            from[0].cast(),
            from[1].cast(),
            from[2].cast(),
            from[3].cast(),
        ];
        let to = [to[0].cast(), to[1].cast(), to[2].cast()];
        // SAFETY: the caller's promise.
        unsafe { moments::run::<T>(factors, from, to, count, is_far) };
    }
}

/// Runs one instruction for `count` elements from `start`. Stores follow all instructions
/// of a tile, so nothing writes while operands are read.
#[inline(always)]
#[expect(unsafe_code, reason = "reads the run's buffers")]
fn step(
    kernel: &Fused,
    instruction: &Instruction,
    memory: Memory<'_>,
    slots: &mut [Slot],
    start: usize,
    count: usize,
) {
    match *instruction {
        Instruction::Gather { load, slot } => {
            let load = &kernel.loads[load];
            // SAFETY: the promise to `Fused::run`.
            let source = unsafe { memory.read_all(load.value) };
            let out = slots[slot].bytes_mut();
            let strides = load.strides.unwrap_or_default();
            let walk = Walk::new(&kernel.extent, &strides, load.offset, start..start + count);
            match load.dtype.size() {
                1 => gather::<u8>(source, walk, out),
                2 => gather::<u16>(source, walk, out),
                4 => gather::<u32>(source, walk, out),
                _ => gather::<u64>(source, walk, out),
            }
        }
        Instruction::Iota {
            dtype,
            inner,
            size,
            slot,
        } => {
            let out = &mut slots[slot].bytes_mut()[..count * dtype.size()];
            tile::iota(dtype, start, inner, size, out);
        }
        Instruction::Random { key, stream, slot } => {
            let mut words = [0; 2];
            for (word, operand) in words.iter_mut().zip(key) {
                let tile = tile_of(kernel, operand, memory, slots, start, count);
                *word = bytemuck::pod_read_unaligned(&tile.bytes[..size_of::<u32>()]);
            }
            let out = &mut slots[slot].bytes_mut()[..count * size_of::<u32>()];
            philox::words(words, stream, start, bytemuck::cast_slice_mut(out));
        }
        Instruction::Apply {
            op,
            from,
            to,
            operands,
            slot,
        } => {
            // The slot is taken out, so that others can be read while it is written.
            let mut out = std::mem::take(&mut slots[slot]);
            // One by one: an array's `map` is not inlined into the code for each machine.
            let tiles = [
                tile_of(kernel, operands[0], memory, slots, start, count),
                tile_of(kernel, operands[1], memory, slots, start, count),
                tile_of(kernel, operands[2], memory, slots, start, count),
                tile_of(kernel, operands[3], memory, slots, start, count),
                tile_of(kernel, operands[4], memory, slots, start, count),
            ];
            let out_bytes = &mut out.bytes_mut()[..count * to.size()];
            tile::apply(op, from, to, tiles, out_bytes);
            slots[slot] = out;
        }
    }
}

/// The elements of an operand from `start`; a slot holds them at its beginning.
#[inline(always)]
#[expect(unsafe_code, reason = "reads the run's buffers")]
fn tile_of<'a>(
    kernel: &Fused,
    operand: Operand,
    memory: Memory<'a>,
    slots: &'a [Slot],
    start: usize,
    count: usize,
) -> Tile<'a> {
    let bytes: &[u8] = match operand {
        Operand::None => &[],
        Operand::Slot(slot) | Operand::Scalar(slot) => slots[slot].bytes(),
        Operand::Load(load) => {
            let load = &kernel.loads[load];
            let size = load.dtype.size();
            // SAFETY: the promise to `Fused::run`; nothing is stored while this is read.
            unsafe { memory.read(load.value, start * size..(start + count) * size) }
        }
    };
    Tile {
        bytes,
        is_scalar: matches!(operand, Operand::Scalar(_)),
    }
}

/// Repeats one element.
fn fill(literal: &Literal, count: usize, slot: &mut Slot) {
    match literal.dtype.size() {
        1 => slot.bytes_mut()[..count].fill(literal.bytes[0]),
        2 => {
            let element = bytemuck::pod_read_unaligned(&literal.bytes[..2]);
            bytemuck::cast_slice_mut::<u8, u16>(slot.bytes_mut())[..count].fill(element);
        }
        4 => {
            let element = bytemuck::pod_read_unaligned(&literal.bytes[..4]);
            bytemuck::cast_slice_mut::<u8, u32>(slot.bytes_mut())[..count].fill(element);
        }
        _ => {
            let element = bytemuck::pod_read_unaligned(&literal.bytes);
            bytemuck::cast_slice_mut::<u8, u64>(slot.bytes_mut())[..count].fill(element);
        }
    }
}

/// A range of an array's elements in row-major order, seen through strides.
struct Walk {
    outer: usize,
    index: [usize; MAX_RANK],
    extent: [usize; MAX_RANK],
    strides: [usize; MAX_RANK],
    /// Position in the innermost dimension.
    column: usize,
    columns: usize,
    column_stride: usize,
    /// Offset of the row's first element.
    offset: usize,
    count: usize,
}

impl Walk {
    #[inline(always)]
    fn new(extent: &Dims, strides: &Dims, offset: usize, range: Range<usize>) -> Self {
        let start = range.start;
        let outer = extent.len().saturating_sub(1);
        let columns = extent.last().copied().unwrap_or(1);
        let mut walk = Self {
            outer,
            index: [0; MAX_RANK],
            extent: [1; MAX_RANK],
            strides: [0; MAX_RANK],
            column: start % columns,
            columns,
            column_stride: strides.last().copied().unwrap_or(0),
            offset,
            count: range.len(),
        };
        let mut row = start / columns;
        for axis in (0..outer).rev() {
            walk.extent[axis] = extent[axis];
            walk.strides[axis] = strides[axis];
            walk.index[axis] = row % extent[axis];
            let steps = walk.index[axis].wrapping_mul(strides[axis]);
            walk.offset = walk.offset.wrapping_add(steps);
            row /= extent[axis];
        }
        walk
    }

    /// Moves to the start of the next row.
    #[inline(always)]
    fn next_row(&mut self) {
        self.column = 0;
        for axis in (0..self.outer).rev() {
            self.index[axis] += 1;
            self.offset = self.offset.wrapping_add(self.strides[axis]);
            if self.index[axis] < self.extent[axis] {
                return;
            }
            let steps = self.index[axis].wrapping_mul(self.strides[axis]);
            self.offset = self.offset.wrapping_sub(steps);
            self.index[axis] = 0;
        }
    }
}

#[inline(always)]
fn gather<T: Pod>(source: &[u8], mut walk: Walk, out: &mut [u8]) {
    let source: &[T] = bytemuck::cast_slice(source);
    let mut out = &mut bytemuck::cast_slice_mut::<u8, T>(out)[..walk.count];
    while !out.is_empty() {
        let length = (walk.columns - walk.column).min(out.len());
        let (row, rest) = out.split_at_mut(length);
        let steps = walk.column.wrapping_mul(walk.column_stride);
        let first = walk.offset.wrapping_add(steps);
        match walk.column_stride.cast_signed() {
            0 => row.fill(source[first]),
            1 => row.copy_from_slice(&source[first..first + length]),
            -1 => {
                let from = source[first + 1 - length..=first].iter().rev();
                for (element, from) in row.iter_mut().zip(from) {
                    *element = *from;
                }
            }
            stride if stride < 0 => {
                let from = source[..=first].iter().rev().step_by(stride.unsigned_abs());
                for (element, from) in row.iter_mut().zip(from) {
                    *element = *from;
                }
            }
            stride => {
                let from = source[first..].iter().step_by(stride.unsigned_abs());
                for (element, from) in row.iter_mut().zip(from) {
                    *element = *from;
                }
            }
        }
        out = rest;
        walk.next_row();
    }
}
