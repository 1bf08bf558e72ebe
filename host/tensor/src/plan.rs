//! The planner: kernels in order, and a place in memory for every value.
//!
//! Kernels that update the state in place run last, in a *commit phase* that nothing can
//! interrupt: until it begins, an error leaves the state as it was, and in it there are
//! none. What cannot be updated in place is computed elsewhere and copied at the very end.

mod arena;
mod group;
mod lower;
mod recompute;
mod sweep;
mod verify;

use std::collections::HashMap;
use std::sync::Arc;

use crate::check::Keep;
use crate::cpu::{Fused, Kernel, ScalarSource, ValueId};
use crate::ir::Graph;
use crate::shape::TensorType;
use crate::tensor::Tensor;
use crate::{Budget, Program, ProgramError};

use arena::Arena;
use lower::{Lowered, Origin};

/// A program ready to run.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub(crate) kernels: Vec<Kernel>,
    /// The commit phase begins with this kernel.
    pub(crate) commit_from: usize,
    /// Where each value lies, and how many bytes it has.
    pub(crate) values: Vec<(Place, usize)>,
    pub(crate) inputs: Vec<TensorType>,
    pub(crate) states: Vec<TensorType>,
    pub(crate) outputs: Vec<(OutputSource, TensorType)>,
    /// States that a run replaces.
    pub(crate) updated: Vec<usize>,
    /// Values that are copied at the end, over values that are states.
    pub(crate) copies: Vec<(ValueId, ValueId)>,
    pub(crate) constants: Vec<Tensor>,
    pub(crate) arena_bytes: usize,
    /// Estimated floating-point operations of one run.
    pub(crate) flops: u64,
    /// About how long a run takes on one thread.
    pub(crate) nanoseconds: u64,
    /// Bytes of the constants, those of bodies included.
    pub(crate) constant_bytes: u64,
}

/// Where a value lies during a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Not in memory: it exists only in tiles.
    Nowhere,
    Input(usize),
    /// The state as it was before the run.
    State(usize),
    /// The state as it will be after the run; the same memory when nobody else holds it.
    NextState(usize),
    Constant(usize),
    /// A tensor that the run allocates and returns in this place.
    Output(usize),
    /// At this offset of the session's arena.
    Arena(usize),
}

/// What a run returns in one place.
#[derive(Debug, Clone, Copy)]
pub(crate) enum OutputSource {
    /// A tensor that the run allocates.
    Fresh,
    /// The same elements as in this earlier place.
    Repeated(usize),
    Input(usize),
    State(usize),
    Constant(usize),
}

/// Compiles a program.
///
/// # Errors
/// [`ProgramError::Invalid`] when it breaks a rule; [`ProgramError::OutOfMemory`] when its
/// constants do not fit.
pub(crate) fn compile(program: &Program, budget: &Budget) -> Result<Compiled, ProgramError> {
    let graph = Graph::parse(program, Keep::Kernels)?;
    let mut bodies = Bodies::default();
    let mut compiled = compile_graph(&graph, &[], budget, &mut bodies)?;
    let bodies = bodies.values().map(|body| body.constant_bytes);
    compiled.constant_bytes = bodies.fold(compiled.constant_bytes, u64::saturating_add);
    Ok(compiled)
}

/// The bodies of a program that have been compiled, by their index and the inputs that they
/// are given turned.
pub(crate) type Bodies = HashMap<(usize, Vec<usize>), Arc<Compiled>>;

/// Compiles a checked program or body, whose `turned` inputs are matrices that lie in memory
/// with their columns one after another.
///
/// # Errors
/// As [`compile`].
fn compile_graph(
    graph: &Graph,
    turned: &[usize],
    budget: &Budget,
    bodies: &mut Bodies,
) -> Result<Compiled, ProgramError> {
    let mut lowered = lower::lower(graph, turned, budget, bodies)?;
    let replacing: Vec<ValueId> = lowered.updates.iter().map(|&(_, value)| value).collect();
    lowered.kernels = sweep::sweep(lowered.kernels, &replacing);
    let in_place = updates_in_place(&lowered);
    let commit_from = move_commits_last(&mut lowered, &in_place);
    let mut planner = Planner {
        places: vec![Place::Nowhere; lowered.values.len()],
        lowered: &lowered,
    };
    planner.fix_places(&in_place);
    let outputs = planner.outputs(graph);
    let arena_bytes = planner.fill_arena();
    let places = planner.places;
    verify::check(&lowered, &places, commit_from);
    let bytes = lowered.values.iter().map(|value| value.ty.bytes());
    let mut values: Vec<_> = places.iter().copied().zip(bytes).collect();
    let mut copies = Vec::new();
    for &(state, value) in &lowered.updates {
        if places[value] != Place::NextState(state) {
            copies.push((value, values.len()));
            values.push((Place::NextState(state), values[value].1));
        }
    }
    let (mut flops, mut nanoseconds) = (0, 0);
    for kernel in &lowered.kernels {
        let of_kernel = kernel.flops(|value| values[value].1);
        flops = of_kernel.saturating_add(flops);
        nanoseconds = kernel.nanoseconds(of_kernel).saturating_add(nanoseconds);
    }
    let constants = lowered.constants.iter();
    let constant_bytes = constants
        .map(|constant| constant.bytes().len() as u64)
        .sum();
    Ok(Compiled {
        constant_bytes,
        flops,
        nanoseconds,
        commit_from,
        copies,
        values,
        inputs: graph.inputs.clone(),
        states: graph.states.clone(),
        outputs,
        updated: graph.updates.iter().map(|&(state, _)| state).collect(),
        constants: lowered.constants,
        kernels: lowered.kernels,
        arena_bytes,
    })
}

/// The updates whose kernel may write over the state: state index per value.
///
/// Such a kernel belongs to the commit phase, so nothing may need its results, and it is
/// the last to read the old state, element by element.
fn updates_in_place(lowered: &Lowered) -> Vec<Option<usize>> {
    let count = lowered.values.len();
    let mut read = vec![false; count];
    let mut state_readers: Vec<(usize, usize)> = Vec::new();
    for (place, kernel) in lowered.kernels.iter().enumerate() {
        for value in kernel.reads() {
            read[value] = true;
            if let Origin::State(state) = lowered.values[value].origin {
                state_readers.push((state, place));
            }
        }
    }
    state_readers.sort_unstable();
    let mut is_output = vec![false; count];
    for &value in &lowered.outputs {
        is_output[value] = true;
    }
    let mut state_of = vec![None; count];
    for &(state, value) in &lowered.updates {
        let unneeded = !read[value] && !is_output[value];
        // Two states may get one value; only the first has it in place.
        if unneeded && state_of[value].is_none() {
            state_of[value] = Some(state);
        }
    }
    let can_commit = |place: usize| match &lowered.kernels[place] {
        Kernel::Fused(fused) => {
            let writes = fused.writes();
            writes.iter().all(|&value| !read[value])
                && writes.iter().any(|&value| state_of[value].is_some())
        }
        Kernel::Plain(_) | Kernel::Sweep(_) => false,
    };
    let committing: Vec<bool> = (0..lowered.kernels.len()).map(can_commit).collect();

    let mut in_place = vec![None; count];
    for (place, kernel) in lowered.kernels.iter().enumerate() {
        let Kernel::Fused(fused) = kernel else {
            continue;
        };
        if !committing[place] {
            continue;
        }
        for value in fused.writes() {
            let Some(state) = state_of[value] else {
                continue;
            };
            let first = state_readers.partition_point(|&(other, _)| other < state);
            let mut readers = state_readers[first..]
                .iter()
                .take_while(|&&(other, _)| other == state);
            let is_last = readers.all(|&(_, reader)| !committing[reader] || reader <= place);
            if is_last && reads_in_order(fused, state, lowered) {
                in_place[value] = Some(state);
            }
        }
    }
    in_place
}

/// Whether the kernel reads a state only element by element, as it writes.
fn reads_in_order(fused: &Fused, state: usize, lowered: &Lowered) -> bool {
    let is_state = |value: ValueId| lowered.values[value].origin == Origin::State(state);
    let loads = fused.loads.iter().filter(|load| is_state(load.value));
    let mut scalars = fused.scalars.iter().filter(|scalar| match scalar.source {
        ScalarSource::Value { value, .. } => is_state(value),
        ScalarSource::Literal(_) => false,
    });
    // A scalar is read before anything is written, but by each thread.
    loads.into_iter().all(|load| load.strides.is_none())
        && (fused.elements == 1 || scalars.next().is_none())
}

/// Moves the kernels that write to states behind all others; returns the first of them.
fn move_commits_last(lowered: &mut Lowered, in_place: &[Option<usize>]) -> usize {
    let commits = |kernel: &Kernel| {
        kernel
            .writes()
            .iter()
            .any(|&value| in_place[value].is_some())
    };
    let (last, mut first): (Vec<_>, Vec<_>) = std::mem::take(&mut lowered.kernels)
        .into_iter()
        .partition(commits);
    let commit_from = first.len();
    first.extend(last);
    lowered.kernels = first;
    commit_from
}

struct Planner<'a> {
    lowered: &'a Lowered,
    places: Vec<Place>,
}

impl Planner<'_> {
    /// Places that do not depend on lifetimes.
    fn fix_places(&mut self, in_place: &[Option<usize>]) {
        for (value, info) in self.lowered.values.iter().enumerate() {
            self.places[value] = match info.origin {
                Origin::Input(index) => Place::Input(index),
                Origin::State(index) => Place::State(index),
                Origin::Constant(index) => Place::Constant(index),
                // Nothing runs for a value without elements.
                Origin::Kernel if info.ty.bytes() == 0 => Place::Arena(0),
                Origin::Kernel => in_place[value].map_or(Place::Nowhere, Place::NextState),
            };
        }
    }

    fn outputs(&mut self, graph: &Graph) -> Vec<(OutputSource, TensorType)> {
        let mut outputs = Vec::with_capacity(graph.outputs.len());
        for (&node, &value) in graph.outputs.iter().zip(&self.lowered.outputs) {
            let source = match self.places[value] {
                Place::Input(index) => OutputSource::Input(index),
                Place::State(index) => OutputSource::State(index),
                Place::Constant(index) => OutputSource::Constant(index),
                Place::Output(earlier) => OutputSource::Repeated(earlier),
                Place::Nowhere | Place::NextState(_) | Place::Arena(_) => {
                    self.places[value] = Place::Output(outputs.len());
                    OutputSource::Fresh
                }
            };
            outputs.push((source, graph.nodes[node].ty));
        }
        outputs
    }

    /// Gives every other value that a kernel writes a part of the arena while it is
    /// needed; returns the arena's size.
    fn fill_arena(&mut self) -> usize {
        let last_use = last_uses(self.lowered);
        let mut arena = Arena::default();
        let mut ended = vec![false; self.places.len()];
        for (time, kernel) in self.lowered.kernels.iter().enumerate() {
            let mut reads = kernel.reads();
            reads.sort_unstable();
            reads.dedup();
            for value in kernel.writes() {
                if self.places[value] != Place::Nowhere {
                    continue;
                }
                let bytes = self.lowered.values[value].ty.bytes();
                let taken_over = reads.iter().copied().find(|&read| {
                    last_use[read] == time
                        && !ended[read]
                        && matches!(self.places[read], Place::Arena(_))
                        && self.lowered.values[read].ty.bytes() == bytes
                        && can_take_over(kernel, read)
                });
                self.places[value] = match taken_over {
                    Some(read) => {
                        ended[read] = true;
                        self.places[read]
                    }
                    None => Place::Arena(arena.take(bytes)),
                };
            }
            let writes = kernel.writes();
            for value in reads.into_iter().chain(writes) {
                if let Place::Arena(offset) = self.places[value]
                    && last_use[value] == time
                    && !ended[value]
                {
                    ended[value] = true;
                    arena.give(offset, self.lowered.values[value].ty.bytes());
                }
            }
        }
        arena.size()
    }
}

/// For each value, the last kernel that reads or writes it; all kernels when it is copied
/// over a state in the end.
fn last_uses(lowered: &Lowered) -> Vec<usize> {
    let mut last_use = vec![0; lowered.values.len()];
    for (time, kernel) in lowered.kernels.iter().enumerate() {
        for value in kernel.reads().into_iter().chain(kernel.writes()) {
            last_use[value] = time;
        }
    }
    for &(_, value) in &lowered.updates {
        last_use[value] = lowered.kernels.len();
    }
    last_use
}

/// Whether a result of the kernel may lie where this operand lies.
fn can_take_over(kernel: &Kernel, operand: ValueId) -> bool {
    let Kernel::Fused(fused) = kernel else {
        return false;
    };
    fused.reads_in_order(operand)
}
