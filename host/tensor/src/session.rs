use std::borrow::Borrow;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::cpu::{Memory, Region};
use crate::plan::{self, Compiled, OutputSource, Place};
use crate::shape::TensorType;
use crate::tensor::{Storage, Tensor};
use crate::{Budget, Context, Device, Program, ProgramError, device};

/// A compiled program, from which any number of sessions can be started.
#[derive(Debug)]
pub struct Executable {
    target: Target,
    plan: Plan,
    constant_bytes: u64,
    /// Bytes that are held at the same time during a run, whatever else the task holds.
    needed_bytes: u64,
}

#[derive(Debug)]
enum Target {
    Cpu(Compiled),
    Device(device::Compiled),
}

/// What a compiled program costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Exact number of bytes a session allocates beside its state and outputs: all
    /// intermediate values at their peak. A thread's tile buffers (at most 300 KiB) and
    /// the packing buffers of matrix products belong to the thread, like its stack.
    pub workspace_bytes: u64,
    /// Bytes of the state tensors.
    pub state_bytes: u64,
    /// Bytes that one run allocates for its outputs.
    pub output_bytes: u64,
    /// Estimated floating-point operations of one run.
    pub flops: u64,
}

impl Executable {
    /// Checks every rule and plans memory, in time linear in the program's length (times
    /// a logarithm). Constants are charged to `budget` while the executable lives.
    ///
    /// # Errors
    /// [`ProgramError::Invalid`]; [`ProgramError::OutOfMemory`] when a run would need more
    /// than the whole budget.
    pub fn compile(program: &Program, budget: &Budget) -> Result<Arc<Self>, ProgramError> {
        Self::compile_for(&Device::Cpu, program, budget)
    }

    /// The same for any device. For an accelerator, the plan's workspace lies in its memory.
    ///
    /// # Errors
    /// As [`Executable::compile`], and [`ProgramError::Device`].
    pub fn compile_for(
        device: &Device,
        program: &Program,
        budget: &Budget,
    ) -> Result<Arc<Self>, ProgramError> {
        if let Device::Accelerator(device) = device {
            let (compiled, plan) = device::compile(program, device, budget)?;
            return Ok(Arc::new(Self {
                target: Target::Device(compiled),
                plan,
                constant_bytes: 0,
                needed_bytes: plan.output_bytes,
            }));
        }
        let compiled = plan::compile(program, budget)?;
        let total =
            |types: &[TensorType]| -> u64 { types.iter().map(|ty| ty.bytes() as u64).sum() };
        let fresh: Vec<TensorType> = compiled
            .outputs
            .iter()
            .filter(|(source, _)| matches!(source, OutputSource::Fresh))
            .map(|&(_, ty)| ty)
            .collect();
        let plan = Plan {
            workspace_bytes: compiled.arena_bytes as u64,
            state_bytes: total(&compiled.states),
            output_bytes: total(&fresh),
            flops: compiled.flops,
        };
        let replaced = compiled.updated.iter();
        let replaced = replaced.map(|&state| compiled.states[state].bytes() as u64);
        let constant_bytes = compiled.constant_bytes;
        let held = [plan.workspace_bytes, plan.output_bytes, constant_bytes];
        let held = held.into_iter().chain(replaced);
        let executable = Self {
            needed_bytes: held.fold(0, u64::saturating_add),
            constant_bytes,
            target: Target::Cpu(compiled),
            plan,
        };
        executable.check_fits(budget)?;
        Ok(Arc::new(executable))
    }

    /// Checks that a run can fit a budget, if nothing else is held; whoever compiled it has
    /// checked that for the budget it was compiled with.
    ///
    /// # Errors
    /// [`ProgramError::OutOfMemory`].
    pub fn check_fits(&self, budget: &Budget) -> Result<(), ProgramError> {
        let (needed, allowed) = (self.needed_bytes, budget.limit());
        if needed > allowed {
            return Err(ProgramError::OutOfMemory { needed, allowed });
        }
        Ok(())
    }

    /// Bytes of constants that are charged while the executable lives.
    pub fn constant_bytes(&self) -> u64 {
        self.constant_bytes
    }

    /// What the program costs.
    pub fn plan(&self) -> Plan {
        self.plan
    }

    /// Starts a session with these state tensors, in the order of their index. They are
    /// copied when they are first updated and somebody else holds them, not before.
    ///
    /// # Errors
    /// [`ProgramError::Argument`] when a state tensor is not as declared,
    /// [`ProgramError::OutOfMemory`] when the workspace does not fit the budget.
    pub fn bind(
        self: &Arc<Self>,
        state: Vec<Tensor>,
        context: &Context,
    ) -> Result<Session, ProgramError> {
        let inner = match &self.target {
            Target::Cpu(compiled) => Inner::Cpu(CpuSession::new(compiled, state, context)?),
            Target::Device(compiled) => Inner::Device(compiled.bind(&state, context)?),
        };
        Ok(Session {
            executable: Arc::clone(self),
            inner,
        })
    }
}

/// A program together with its state.
pub struct Session {
    executable: Arc<Executable>,
    inner: Inner,
}

enum Inner {
    Cpu(CpuSession),
    Device(device::Session),
}

struct CpuSession {
    state: Vec<Tensor>,
    /// Where the values lie; those of the arena and of constants for good, the others
    /// anew for each run.
    regions: Vec<Region>,
    /// Where the outputs that the current run allocates lie.
    outputs: Vec<Region>,
    /// Where each state lies before and after the current run.
    states: Vec<(Region, Region)>,
    /// What the regions of the arena point to.
    _arena: Storage,
    context: Context,
}

impl Session {
    /// Runs the program once. On an error the state is as it was.
    ///
    /// # Errors
    /// [`ProgramError::Argument`] when an input is not as declared,
    /// [`ProgramError::OutOfMemory`], [`ProgramError::Stopped`].
    pub fn run<T: Borrow<Tensor>>(&mut self, inputs: &[T]) -> Result<Vec<Tensor>, ProgramError> {
        let inputs: SmallVec<[&Tensor; 8]> = inputs.iter().map(Borrow::borrow).collect();
        self.run_with(&inputs)
    }

    fn run_with(&mut self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, ProgramError> {
        match (&mut self.inner, &self.executable.target) {
            (Inner::Cpu(session), Target::Cpu(compiled)) => session.run(compiled, inputs),
            (Inner::Device(session), Target::Device(compiled)) => session.run(compiled, inputs),
            _ => unreachable!("a session is bound for the device of its executable"),
        }
    }

    /// The state tensor as it is now.
    ///
    /// # Errors
    /// [`ProgramError::Argument`] when there is no state of that index.
    pub fn state(&self, index: u32) -> Result<Tensor, ProgramError> {
        let place = index as usize;
        let count = match (&self.inner, &self.executable.target) {
            (Inner::Device(session), Target::Device(compiled)) if place < session.states() => {
                return session.state(compiled, place);
            }
            (Inner::Device(session), _) => session.states(),
            (Inner::Cpu(session), _) => match session.state.get(place) {
                Some(state) => return Ok(state.clone()),
                None => session.state.len(),
            },
        };
        Err(ProgramError::Argument(format!(
            "state {index} is wanted, but the program has {count} state tensors"
        )))
    }
}

impl CpuSession {
    fn new(
        compiled: &Compiled,
        state: Vec<Tensor>,
        context: &Context,
    ) -> Result<Self, ProgramError> {
        check_types("state", &compiled.states, state.iter())?;
        let mut arena = Storage::zeros(compiled.arena_bytes, context.budget())?;
        let whole = Region::writable(arena.bytes_mut());
        let values = compiled.values.iter();
        let regions = values.map(|&(place, bytes)| match place {
            Place::Arena(offset) => whole.part(offset, bytes),
            Place::Constant(index) => Region::readable(compiled.constants[index].bytes()),
            _ => Region::EMPTY,
        });
        Ok(Self {
            regions: regions.collect(),
            outputs: vec![Region::EMPTY; compiled.outputs.len()],
            states: vec![(Region::EMPTY, Region::EMPTY); state.len()],
            state,
            _arena: arena,
            context: context.clone(),
        })
    }

    fn run(
        &mut self,
        compiled: &Compiled,
        inputs: &[&Tensor],
    ) -> Result<Vec<Tensor>, ProgramError> {
        check_types("input", &compiled.inputs, inputs.iter().copied())?;

        // Everything that can fail comes first. Outputs that are old states are taken
        // here: that makes those states shared, so they will not be written over.
        let budget = self.context.budget();
        let mut outputs = Vec::with_capacity(compiled.outputs.len());
        for &(source, ty) in &compiled.outputs {
            let storage = match source {
                OutputSource::Fresh => {
                    let mut storage = Storage::zeros(ty.bytes(), budget)?;
                    let region = Region::writable(storage.bytes_mut());
                    self.outputs[outputs.len()] = region.part(0, ty.bytes());
                    Arc::new(storage)
                }
                OutputSource::Repeated(earlier) => {
                    let earlier: &Tensor = &outputs[earlier];
                    Arc::clone(&earlier.storage)
                }
                OutputSource::Input(index) => Arc::clone(&inputs[index].storage),
                OutputSource::Constant(index) => Arc::clone(&compiled.constants[index].storage),
                OutputSource::State(index) => Arc::clone(&self.state[index].storage),
            };
            outputs.push(Tensor { ty, storage });
        }

        let mut replaced = Vec::new();
        for &index in &compiled.updated {
            let state = &mut self.state[index];
            if Arc::get_mut(&mut state.storage).is_none() {
                replaced.push((index, Storage::zeros(state.ty.bytes(), budget)?));
            }
        }

        self.place(compiled, inputs, &mut replaced);
        self.execute(compiled)?;
        for (index, storage) in replaced {
            self.state[index].storage = Arc::new(storage);
        }
        Ok(outputs)
    }

    /// Fills in the regions that differ from run to run.
    fn place(
        &mut self,
        compiled: &Compiled,
        inputs: &[&Tensor],
        replaced: &mut [(usize, Storage)],
    ) {
        for (state, regions) in self.state.iter_mut().zip(&mut self.states) {
            // A state that nobody else holds is written where it lies.
            let region = match Arc::get_mut(&mut state.storage) {
                Some(storage) => Region::writable(storage.bytes_mut()),
                None => Region::readable(state.storage.bytes()),
            };
            *regions = (region, region);
        }
        for (index, storage) in replaced {
            self.states[*index].1 = Region::writable(storage.bytes_mut());
        }
        for (region, &(place, bytes)) in self.regions.iter_mut().zip(&compiled.values) {
            *region = match place {
                Place::Input(index) => Region::readable(inputs[index].bytes()),
                Place::State(index) => self.states[index].0.part(0, bytes),
                Place::NextState(index) => self.states[index].1.part(0, bytes),
                Place::Output(index) => self.outputs[index].part(0, bytes),
                Place::Nowhere | Place::Constant(_) | Place::Arena(_) => continue,
            };
        }
    }

    #[expect(
        unsafe_code,
        reason = "kernels work on parts of one arena at the same time"
    )]
    fn execute(&self, compiled: &Compiled) -> Result<(), ProgramError> {
        // SAFETY: `place` and `bind` have made each region from storage that lives until
        // the run ends: that of the session, of the inputs and of new outputs. Where a
        // kernel writes, nobody else holds the storage.
        let memory = unsafe { Memory::new(&self.regions) };
        let (before, commit) = compiled.kernels.split_at(compiled.commit_from);
        let workers = self.context.workers(compiled.nanoseconds);
        for kernel in before {
            if workers.stopped() {
                return Err(ProgramError::Stopped);
            }
            // SAFETY: kernels run one after another, and `verify` has replayed the plan.
            unsafe { kernel.run(memory, &workers) };
        }
        if workers.stopped() {
            return Err(ProgramError::Stopped);
        }
        let workers = self.context.committing_workers(compiled.nanoseconds);
        for kernel in commit {
            // SAFETY: as above.
            unsafe { kernel.run(memory, &workers) };
        }
        for &(from, to) in &compiled.copies {
            // SAFETY: no kernel runs any more, and a copied value never lies in a state.
            unsafe { memory.write_all(to).copy_from_slice(memory.read_all(from)) };
        }
        Ok(())
    }
}

/// Checks the tensors that a call was given against what the program declares.
pub(crate) fn check_types<'a>(
    kind: &str,
    expected: &[TensorType],
    given: impl ExactSizeIterator<Item = &'a Tensor>,
) -> Result<(), ProgramError> {
    if expected.len() != given.len() {
        return Err(ProgramError::Argument(format!(
            "the program takes {} {kind} tensors, but {} were given",
            expected.len(),
            given.len()
        )));
    }
    for (place, (expected, given)) in expected.iter().zip(given).enumerate() {
        if *expected != given.ty {
            return Err(ProgramError::Argument(format!(
                "{kind} {place} is {}, but the program takes {expected}",
                given.ty
            )));
        }
    }
    Ok(())
}
