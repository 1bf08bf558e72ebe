//! Bodies that run again and again: `scan` and `while`.
//!
//! The body is a program of its own with a plan of its own. Its arena, and a second place
//! for each carry, lie in the kernel's last result, so that they are part of the outer
//! plan. A step reads the carries where the step before wrote them and writes them to the
//! other of two places, of which the last step's is the result; slices of sequences are
//! read, and stacked values written, where they lie.

use std::sync::Arc;

use super::memory::{Memory, Region, ValueId};
use super::workers::Workers;
use crate::plan::{Compiled, OutputSource, Place};
use crate::shape::TensorType;
use crate::tensor::Line;

/// What a step takes beside its kernels, about.
const NS_PER_STEP: u64 = 500;

/// A body with what changes from step to step.
#[derive(Debug)]
pub(crate) struct Repeat {
    body: Arc<Compiled>,
    steps: Steps,
    carries: usize,
    /// The most steps.
    limit: usize,
    /// Where the second place of each carry lies in the workspace.
    carry_offsets: Vec<usize>,
    /// Where the arenas lie in it.
    arena_offset: usize,
    arena_bytes: usize,
    /// Values that lie elsewhere in each step.
    moving: Vec<(ValueId, Moving)>,
}

/// How it is repeated.
#[derive(Debug)]
pub(crate) enum Steps {
    /// As often as `limit` says.
    Scan {
        /// How many of the operands behind the carries are sliced.
        sequences: usize,
        /// From the last step to the first.
        reverse: bool,
    },
    /// While this is true of the carries and invariants.
    While { condition: Arc<Compiled> },
}

/// Where a value of the body lies in a step.
#[derive(Debug, Clone, Copy)]
enum Moving {
    Carry(usize),
    /// The operand of this place, at the step's slice.
    Slice(usize),
    Output(usize),
}

impl Repeat {
    pub(crate) fn new(body: Arc<Compiled>, steps: Steps, carries: usize, limit: usize) -> Self {
        let mut carry_offsets = Vec::with_capacity(carries);
        let mut arena_offset: usize = 0;
        for ty in &body.inputs[..carries] {
            carry_offsets.push(arena_offset);
            arena_offset = arena_offset.saturating_add(ty.bytes().next_multiple_of(Line::BYTES));
        }
        let sliced = match &steps {
            Steps::Scan { sequences, .. } => carries..carries + sequences,
            Steps::While { .. } => carries..carries,
        };
        let moving = body.values.iter().enumerate();
        let moving = moving.filter_map(|(value, (place, _))| {
            let moving = match *place {
                Place::Input(index) if index < carries => Moving::Carry(index),
                Place::Input(index) if sliced.contains(&index) => Moving::Slice(index),
                Place::Output(index) => Moving::Output(index),
                _ => return None,
            };
            Some((value, moving))
        });
        let moving = moving.collect();
        let arena_bytes = match &steps {
            Steps::While { condition } => {
                // The flag lies in the last line.
                body.arena_bytes
                    .max(condition.arena_bytes)
                    .next_multiple_of(Line::BYTES)
                    + Line::BYTES
            }
            Steps::Scan { .. } => body.arena_bytes,
        };
        Self {
            body,
            steps,
            carries,
            limit,
            carry_offsets,
            arena_offset,
            arena_bytes,
            moving,
        }
    }

    /// Bytes of the last result.
    pub(crate) fn workspace_bytes(&self) -> usize {
        self.arena_offset.saturating_add(self.arena_bytes)
    }

    /// Estimated floating-point operations of one run: of as many steps as there may be.
    pub(crate) fn flops(&self) -> u64 {
        let condition = match &self.steps {
            Steps::While { condition } => condition.flops,
            Steps::Scan { .. } => 0,
        };
        let step = self.body.flops.saturating_add(condition).max(1);
        step.saturating_mul(self.limit as u64)
    }

    /// About how long that takes on one thread.
    pub(crate) fn nanoseconds(&self) -> u64 {
        let condition = match &self.steps {
            Steps::While { condition } => condition.nanoseconds,
            Steps::Scan { .. } => 0,
        };
        let step = self.body.nanoseconds.saturating_add(condition);
        step.saturating_add(NS_PER_STEP)
            .saturating_mul(self.limit as u64)
    }

    pub(super) fn run(&self, inputs: &[&[u8]], outputs: &mut [&mut [u8]], workers: &Workers<'_>) {
        let inputs: Vec<Region> = inputs.iter().map(|bytes| Region::readable(bytes)).collect();
        let mut outputs: Vec<Region> = outputs
            .iter_mut()
            .map(|bytes| Region::writable(bytes))
            .collect();
        let workspace = outputs.pop().expect("the planner appends it");
        let run = Run {
            repeat: self,
            inputs: &inputs,
            outputs: &outputs,
            workspace,
            workers,
        };
        match &self.steps {
            Steps::Scan { reverse, .. } => run.scan(*reverse),
            Steps::While { condition } => run.while_loop(condition),
        }
    }
}

/// One run of the kernel.
struct Run<'a> {
    repeat: &'a Repeat,
    inputs: &'a [Region],
    outputs: &'a [Region],
    workspace: Region,
    workers: &'a Workers<'a>,
}

impl Run<'_> {
    fn scan(&self, reverse: bool) {
        let length = self.repeat.limit;
        let mut body = self.start(&self.repeat.body);
        for step in 0..length {
            let at = if reverse { length - 1 - step } else { step };
            // The last step writes to the results.
            let into_results = (length - 1 - step).is_multiple_of(2);
            let from = (step > 0).then_some(!into_results);
            if !self.step(&mut body, at, from, into_results) {
                return;
            }
        }
        if length == 0 {
            self.finish(None);
        }
    }

    fn while_loop(&self, condition: &Arc<Compiled>) {
        let flag = self
            .workspace
            .part(self.repeat.workspace_bytes() - Line::BYTES, 1);
        let mut test = self.start(condition);
        let mut body = self.start(&self.repeat.body);
        let mut from = None;
        for step in 0..self.repeat.limit {
            for (region, &(place, bytes)) in test.regions.iter_mut().zip(&condition.values) {
                match place {
                    Place::Input(index) if index < self.repeat.carries => {
                        *region = self.carry(index, from);
                    }
                    Place::Output(_) => *region = flag.part(0, bytes),
                    _ => {}
                }
            }
            let finished = execute(
                condition,
                &test.regions,
                self.workers,
                |_| flag,
                |index| {
                    if index < self.repeat.carries {
                        self.carry(index, from)
                    } else {
                        self.inputs[index]
                    }
                },
            );
            if !finished {
                return;
            }
            if !is_true(flag) {
                break;
            }
            let into_results = step % 2 == 0;
            if !self.step(&mut body, step, from, into_results) {
                return;
            }
            from = Some(into_results);
        }
        self.finish(from);
    }

    /// The regions of a body's values that stay where they are.
    fn start(&self, body: &Compiled) -> Body {
        let arena = self
            .workspace
            .part(self.repeat.arena_offset, self.repeat.arena_bytes);
        let regions = body.values.iter().map(|&(place, bytes)| match place {
            Place::Arena(offset) => arena.part(offset, bytes),
            Place::Constant(index) => Region::readable(body.constants[index].bytes()),
            Place::Input(index) => self.inputs[index],
            _ => Region::EMPTY,
        });
        Body {
            regions: regions.collect(),
        }
    }

    /// Where a carry lies: in the operand, or in one of the two places.
    fn carry(&self, index: usize, place: Option<bool>) -> Region {
        match place {
            None => self.inputs[index],
            Some(true) => self.outputs[index],
            Some(false) => {
                let bytes = self.repeat.body.inputs[index].bytes();
                self.workspace.part(self.repeat.carry_offsets[index], bytes)
            }
        }
    }

    /// The part of `whole` that belongs to step `at`, of values of type `ty`.
    fn slice(whole: Region, ty: &TensorType, at: usize) -> Region {
        whole.part(at * ty.bytes(), ty.bytes())
    }

    /// Runs the body once; `false` when the task was stopped.
    fn step(&self, body: &mut Body, at: usize, from: Option<bool>, into_results: bool) -> bool {
        let compiled = &*self.repeat.body;
        let carries = self.repeat.carries;
        let input = |index: usize| {
            if index < carries {
                self.carry(index, from)
            } else if self.is_sliced(index) {
                Self::slice(self.inputs[index], &compiled.inputs[index], at)
            } else {
                self.inputs[index]
            }
        };
        let output = |index: usize| {
            if index < carries {
                self.carry(index, Some(into_results))
            } else {
                Self::slice(self.outputs[index], &compiled.outputs[index].1, at)
            }
        };
        for &(value, moving) in &self.repeat.moving {
            body.regions[value] = match moving {
                Moving::Carry(index) | Moving::Slice(index) => input(index),
                Moving::Output(index) => output(index),
            };
        }
        execute(compiled, &body.regions, self.workers, output, input)
    }

    fn is_sliced(&self, index: usize) -> bool {
        match self.repeat.steps {
            Steps::Scan { sequences, .. } => {
                (self.repeat.carries..self.repeat.carries + sequences).contains(&index)
            }
            Steps::While { .. } => false,
        }
    }

    /// Copies the carries to the results, unless they are there.
    fn finish(&self, from: Option<bool>) {
        if from == Some(true) {
            return;
        }
        for index in 0..self.repeat.carries {
            copy(self.carry(index, from), self.outputs[index]);
        }
    }
}

/// Where the values of a body lie.
struct Body {
    regions: Vec<Region>,
}

/// Runs the kernels of a body, and copies outputs that are other values; `false` when the
/// task was stopped.
#[expect(
    unsafe_code,
    reason = "kernels work on parts of one arena at the same time"
)]
fn execute(
    body: &Compiled,
    regions: &[Region],
    workers: &Workers<'_>,
    output: impl Fn(usize) -> Region,
    input: impl Fn(usize) -> Region,
) -> bool {
    // SAFETY: the regions are parts of the kernel's operands, of its results and of its
    // constants, which live while it runs; it alone writes to the results.
    let memory = unsafe { Memory::new(regions) };
    for kernel in &body.kernels {
        if workers.stopped() {
            return false;
        }
        // SAFETY: kernels run one after another, and `verify` has replayed the body's
        // plan. Outputs share no bytes with inputs: a step's carries are written to
        // another place than they are read from, and everything else is written once.
        unsafe { kernel.run(memory, workers) };
    }
    for (place, &(source, _)) in body.outputs.iter().enumerate() {
        let from = match source {
            OutputSource::Fresh => continue,
            OutputSource::Repeated(earlier) => output(earlier),
            OutputSource::Input(index) => input(index),
            OutputSource::Constant(index) => Region::readable(body.constants[index].bytes()),
            OutputSource::State(_) => unreachable!("a body has no state"),
        };
        copy(from, output(place));
    }
    !workers.stopped()
}

/// Copies the bytes of one region to another of that size.
#[expect(unsafe_code, reason = "carries are copied between steps")]
fn copy(from: Region, to: Region) {
    let regions = [from, to];
    // SAFETY: as in `execute`; no kernel runs meanwhile, and the two are different places.
    unsafe {
        let memory = Memory::new(&regions);
        memory.write_all(1).copy_from_slice(memory.read_all(0));
    }
}

/// Reads a `bool` that a body has returned.
#[expect(unsafe_code, reason = "reads the run's buffers")]
fn is_true(flag: Region) -> bool {
    // SAFETY: as in `execute`; no kernel runs meanwhile.
    unsafe { Memory::new(&[flag]).read_all(0) != [0] }
}
