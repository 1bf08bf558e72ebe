//! `compute`: tensors and programs. All the work is in `trainshed-tensor`; here its types meet
//! those of the contract.
//!
//! A run of a program holds the thread: it is the task's own, on which nothing else runs.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use smallvec::SmallVec;
use trainshed_tensor::{self as native, Batches, DType, Device, Reservation, Tensor};
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource, WasmList};

use crate::bindings::trainshed::plugin::compute::{
    Attribute, Body, Host, HostBatches, HostExecutable, HostSession, HostTensor, Instruction, Plan,
    Problem, Program, ProgramError, Update, Value,
};
use crate::outcome::shortened;
use crate::state::TaskState;

/// Most instructions of all compiled programs that a run holds at one time. The longest
/// program has 100,000.
const MAX_LIVE_INSTRUCTIONS: u64 = 2_000_000;

/// More operations than a thread of any machine does in a millisecond: a thousand in a
/// nanosecond.
const MAX_FLOPS_PER_MS: u64 = 1_000_000_000;
/// A run that was begun shortly before the end of its task is refused by nobody: the watch
/// ends it.
const LEAST_MS_LEFT: u64 = 1000;

/// A compiled program.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Executable {
    program: Arc<native::Executable>,
    share: Arc<ProgramShare>,
}

/// A program with its state.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Session {
    /// Runs while its inputs are borrowed from the same table; the run's thread alone uses it.
    session: RefCell<native::Session>,
    /// Estimated floating-point operations of one run.
    flops: u64,
    /// The program lives as long as its last session.
    _share: Arc<ProgramShare>,
}

/// Counts the instructions of all compiled programs of a run.
#[derive(Clone, Default)]
pub(crate) struct LiveInstructions(Arc<AtomicU64>);

/// One program's part of them; dropping it gives it back.
struct ProgramShare {
    instructions: u64,
    /// The memory of its constants, while other tasks hold them too.
    _constants: Option<Reservation>,
    live: LiveInstructions,
}

impl LiveInstructions {
    /// Only the run's thread takes, so a sum cannot be missed between the two steps.
    fn take(&self, instructions: u64) -> Result<ProgramShare, ProgramError> {
        let live = self.0.load(Ordering::Relaxed).saturating_add(instructions);
        if live > MAX_LIVE_INSTRUCTIONS {
            return Err(ProgramError::InvalidArgument(format!(
                "all programs of the task would have {live} instructions, but they may have {MAX_LIVE_INSTRUCTIONS}: drop executables and sessions that are not needed"
            )));
        }
        self.0.fetch_add(instructions, Ordering::Relaxed);
        Ok(ProgramShare {
            instructions,
            _constants: None,
            live: self.clone(),
        })
    }
}

impl Drop for ProgramShare {
    fn drop(&mut self) {
        self.live.0.fetch_sub(self.instructions, Ordering::Relaxed);
    }
}

/// The outcome of a call that the plugin can act on; the outer error ends the run.
type Called<T> = wasmtime::Result<Result<T, ProgramError>>;

/// Defines `tensor.create` once more, so that the elements go straight from the plugin's
/// memory into the tensor: the generated binding would copy them into a vector first.
///
/// # Errors
/// When a name is not as expected, which is a fault of ours.
pub(crate) fn add_fast_paths(linker: &mut Linker<TaskState>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    linker
        .instance("trainshed:plugin/compute@0.1.0")?
        .func_wrap(
            "[static]tensor.create",
            |mut store: StoreContextMut<'_, TaskState>,
             (dtype, shape, data): (String, Vec<u64>, WasmList<u8>)| {
                let elements = data.as_le_slice(&store);
                let created = create(store.data(), &dtype, &shape, elements);
                Ok((store.data_mut().give(created)?,))
            },
        )?;
    linker.allow_shadowing(false);
    Ok(())
}

fn create(
    state: &TaskState,
    dtype: &str,
    shape: &[u64],
    elements: &[u8],
) -> Result<Tensor, ProgramError> {
    let Some(dtype) = DType::parse(dtype) else {
        let known = DType::ALL.map(DType::name).join(", ");
        let dtype = shortened(dtype, 80);
        return Err(ProgramError::InvalidArgument(format!(
            "the element type must be one of {known}, but it is `{dtype}`"
        )));
    };
    Ok(Tensor::from_bytes(
        dtype,
        shape,
        elements,
        state.tensors.budget(),
    )?)
}

impl TaskState {
    fn compiled(&self, program: native::Program) -> Result<Executable, ProgramError> {
        let bodies = program.bodies.iter().map(|body| body.instructions.len());
        let instructions = bodies.sum::<usize>() + program.instructions.len();
        let mut share = self.live_instructions.take(instructions as u64)?;
        let budget = self.tensors.budget();
        let program = match &self.device {
            Device::Cpu => {
                let program = self.shared.programs.compile(&program, budget)?;
                share._constants = Some(budget.reserve(program.constant_bytes())?);
                program
            }
            device @ Device::Accelerator(_) => {
                native::Executable::compile_for(device, &program, budget)?
            }
        };
        self.check_cost(program.plan().flops)?;
        Ok(Executable {
            program,
            share: Arc::new(share),
        })
    }

    /// Checks that a run of so many operations could end before the task must.
    fn check_cost(&self, flops: u64) -> Result<(), ProgramError> {
        let flops_per_ms = u64::from(self.threads).saturating_mul(MAX_FLOPS_PER_MS);
        // What is always allowed need not look at the clock.
        if flops <= flops_per_ms.saturating_mul(LEAST_MS_LEFT) {
            return Ok(());
        }
        let left = u64::try_from(self.watch.left().as_millis()).unwrap_or(u64::MAX);
        let left = left.max(LEAST_MS_LEFT);
        let allowed = flops_per_ms.saturating_mul(left);
        if flops > allowed {
            return Err(ProgramError::InvalidArgument(format!(
                "a run of the program is estimated at {flops} floating-point operations, but in the {left} ms that the task has left it can do at most {allowed}"
            )));
        }
        Ok(())
    }

    /// Runs a session's program on a batch and the tensors behind handles, unless that cannot
    /// end in time.
    fn run_session(
        &self,
        session: &Resource<Session>,
        batch: &[Tensor],
        handles: &[Resource<Tensor>],
    ) -> wasmtime::Result<Result<Vec<Tensor>, ProgramError>> {
        let session = self.table.get(session)?;
        if let Err(error) = self.check_cost(session.flops) {
            return Ok(Err(error));
        }
        let mut inputs: SmallVec<[&Tensor; 8]> = batch.iter().collect();
        for handle in handles {
            inputs.push(self.table.get(handle)?);
        }
        let outputs = session.session.borrow_mut().run(&inputs);
        Ok(outputs.map_err(Into::into))
    }

    /// A handle to what a call made.
    fn give<T: Send + 'static>(&mut self, made: Result<T, ProgramError>) -> Called<Resource<T>> {
        Ok(match made {
            Ok(made) => Ok(self.table.push(made)?),
            Err(error) => Err(error),
        })
    }

    fn give_all(
        &mut self,
        made: Result<Vec<Tensor>, ProgramError>,
    ) -> Called<Vec<Resource<Tensor>>> {
        let made = match made {
            Ok(made) => made,
            Err(error) => return Ok(Err(error)),
        };
        let mut handles = Vec::with_capacity(made.len());
        for tensor in made {
            handles.push(self.table.push(tensor)?);
        }
        Ok(Ok(handles))
    }

    /// The tensors behind handles. A clone of a tensor shares its memory.
    fn tensors_of(&self, handles: &[Resource<Tensor>]) -> wasmtime::Result<Vec<Tensor>> {
        let mut tensors = Vec::with_capacity(handles.len());
        for handle in handles {
            tensors.push(self.table.get(handle)?.clone());
        }
        Ok(tensors)
    }
}

impl Host for TaskState {
    fn gradient(
        &mut self,
        of: Program,
        output: Value,
        with_respect_to: Vec<Value>,
    ) -> Called<Program> {
        let with_respect_to: Vec<native::Value> =
            with_respect_to.into_iter().map(Into::into).collect();
        let extended = native::gradient(&of.into(), output.into(), &with_respect_to);
        Ok(extended.map(Into::into).map_err(Into::into))
    }

    fn serialize(&mut self, of: Program) -> wasmtime::Result<Vec<u8>> {
        Ok(native::Program::from(of).to_bytes())
    }

    fn deserialize(&mut self, bytes: Vec<u8>) -> Called<Program> {
        let program = native::Program::from_bytes(&bytes);
        Ok(program.map(Into::into).map_err(Into::into))
    }
}

impl HostTensor for TaskState {
    /// Shadowed by the definition of [`add_fast_paths`].
    fn create(
        &mut self,
        dtype: String,
        shape: Vec<u64>,
        data: Vec<u8>,
    ) -> Called<Resource<Tensor>> {
        let created = create(self, &dtype, &shape, &data);
        self.give(created)
    }

    fn dtype(&mut self, tensor: Resource<Tensor>) -> wasmtime::Result<String> {
        Ok(self.table.get(&tensor)?.dtype().name().to_owned())
    }

    fn shape(&mut self, tensor: Resource<Tensor>) -> wasmtime::Result<Vec<u64>> {
        let shape = self.table.get(&tensor)?.shape();
        Ok(shape.iter().map(|size| *size as u64).collect())
    }

    fn read(&mut self, tensor: Resource<Tensor>) -> wasmtime::Result<Vec<u8>> {
        Ok(self.table.get(&tensor)?.bytes().to_vec())
    }

    fn item(&mut self, tensor: Resource<Tensor>) -> wasmtime::Result<f64> {
        Ok(self.table.get(&tensor)?.item())
    }

    fn drop(&mut self, tensor: Resource<Tensor>) -> wasmtime::Result<()> {
        self.table.delete(tensor)?;
        Ok(())
    }
}

impl HostExecutable for TaskState {
    fn compile(&mut self, of: Program) -> Called<Resource<Executable>> {
        let compiled = self.compiled(of.into());
        self.give(compiled)
    }

    fn plan(&mut self, executable: Resource<Executable>) -> wasmtime::Result<Plan> {
        let plan = self.table.get(&executable)?.program.plan();
        Ok(Plan {
            workspace_bytes: plan.workspace_bytes,
            state_bytes: plan.state_bytes,
            output_bytes: plan.output_bytes,
            flops: plan.flops,
        })
    }

    fn bind(
        &mut self,
        executable: Resource<Executable>,
        state: Vec<Resource<Tensor>>,
    ) -> Called<Resource<Session>> {
        let state = self.tensors_of(&state)?;
        let executable = self.table.get(&executable)?;
        let bound = executable.program.bind(state, &self.tensors);
        let session = bound.map_err(Into::into).map(|session| Session {
            session: RefCell::new(session),
            flops: executable.program.plan().flops,
            _share: Arc::clone(&executable.share),
        });
        self.give(session)
    }

    fn drop(&mut self, executable: Resource<Executable>) -> wasmtime::Result<()> {
        self.table.delete(executable)?;
        Ok(())
    }
}

impl HostBatches for TaskState {
    fn create(
        &mut self,
        columns: Vec<Resource<Tensor>>,
        order: Vec<u32>,
        size: u32,
        drop_last: bool,
    ) -> Called<Resource<Batches>> {
        let columns = self.tensors_of(&columns)?;
        let batches = Batches::new(columns, order, size, drop_last, &self.tensors);
        self.give(batches.map_err(Into::into))
    }

    fn remaining(&mut self, batches: Resource<Batches>) -> wasmtime::Result<u32> {
        Ok(self.table.get(&batches)?.remaining())
    }

    fn next(&mut self, batches: Resource<Batches>) -> Called<Option<Vec<Resource<Tensor>>>> {
        match self.table.get_mut(&batches)?.next() {
            Ok(Some(batch)) => Ok(self.give_all(Ok(batch))?.map(Some)),
            Ok(None) => Ok(Ok(None)),
            Err(error) => Ok(Err(error.into())),
        }
    }

    fn drop(&mut self, batches: Resource<Batches>) -> wasmtime::Result<()> {
        self.table.delete(batches)?;
        Ok(())
    }
}

impl HostSession for TaskState {
    fn run(
        &mut self,
        session: Resource<Session>,
        inputs: Vec<Resource<Tensor>>,
    ) -> Called<Vec<Resource<Tensor>>> {
        let outputs = self.run_session(&session, &[], &inputs)?;
        self.give_all(outputs)
    }

    fn run_batch(
        &mut self,
        session: Resource<Session>,
        source: Resource<Batches>,
        inputs: Vec<Resource<Tensor>>,
    ) -> Called<Option<Vec<Resource<Tensor>>>> {
        let batch = match self.table.get_mut(&source)?.next() {
            Ok(Some(batch)) => batch,
            Ok(None) => return Ok(Ok(None)),
            Err(error) => return Ok(Err(error.into())),
        };
        let outputs = self.run_session(&session, &batch, &inputs)?;
        Ok(self.give_all(outputs)?.map(Some))
    }

    fn state(&mut self, session: Resource<Session>, index: u32) -> Called<Resource<Tensor>> {
        let state = self.table.get(&session)?.session.borrow().state(index);
        self.give(state.map_err(Into::into))
    }

    fn drop(&mut self, session: Resource<Session>) -> wasmtime::Result<()> {
        self.table.delete(session)?;
        Ok(())
    }
}

impl From<Value> for native::Value {
    fn from(value: Value) -> Self {
        Self {
            instruction: value.instruction,
            output: value.output,
        }
    }
}

impl From<native::Value> for Value {
    fn from(value: native::Value) -> Self {
        Self {
            instruction: value.instruction,
            output: value.output,
        }
    }
}

impl From<Program> for native::Program {
    fn from(program: Program) -> Self {
        Self {
            bodies: program.bodies.into_iter().map(Into::into).collect(),
            instructions: program.instructions.into_iter().map(Into::into).collect(),
            outputs: program.outputs.into_iter().map(Into::into).collect(),
            updates: program.updates.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<native::Program> for Program {
    fn from(program: native::Program) -> Self {
        Self {
            bodies: program.bodies.into_iter().map(Into::into).collect(),
            instructions: program.instructions.into_iter().map(Into::into).collect(),
            outputs: program.outputs.into_iter().map(Into::into).collect(),
            updates: program.updates.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<Body> for native::Body {
    fn from(body: Body) -> Self {
        Self {
            instructions: body.instructions.into_iter().map(Into::into).collect(),
            outputs: body.outputs.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<native::Body> for Body {
    fn from(body: native::Body) -> Self {
        Self {
            instructions: body.instructions.into_iter().map(Into::into).collect(),
            outputs: body.outputs.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<Instruction> for native::Instruction {
    fn from(instruction: Instruction) -> Self {
        let attributes = instruction.attributes.into_iter();
        Self {
            op: instruction.op,
            operands: instruction.operands.into_iter().map(Into::into).collect(),
            attributes: attributes
                .map(|(name, attribute)| (name, attribute.into()))
                .collect(),
            label: instruction.label,
        }
    }
}

impl From<native::Instruction> for Instruction {
    fn from(instruction: native::Instruction) -> Self {
        let attributes = instruction.attributes.into_iter();
        Self {
            op: instruction.op,
            operands: instruction.operands.into_iter().map(Into::into).collect(),
            attributes: attributes
                .map(|(name, attribute)| (name, attribute.into()))
                .collect(),
            label: instruction.label,
        }
    }
}

impl From<Attribute> for native::Attribute {
    fn from(attribute: Attribute) -> Self {
        match attribute {
            Attribute::Integer(value) => Self::Integer(value),
            Attribute::Integers(values) => Self::Integers(values),
            Attribute::Number(value) => Self::Number(value),
            Attribute::Text(value) => Self::Text(value),
            Attribute::Flag(value) => Self::Flag(value),
            Attribute::Bytes(value) => Self::Bytes(value.into()),
        }
    }
}

impl From<native::Attribute> for Attribute {
    fn from(attribute: native::Attribute) -> Self {
        match attribute {
            native::Attribute::Integer(value) => Self::Integer(value),
            native::Attribute::Integers(values) => Self::Integers(values),
            native::Attribute::Number(value) => Self::Number(value),
            native::Attribute::Text(value) => Self::Text(value),
            native::Attribute::Flag(value) => Self::Flag(value),
            native::Attribute::Bytes(value) => Self::Bytes(value.to_vec()),
        }
    }
}

impl From<Update> for native::Update {
    fn from(update: Update) -> Self {
        Self {
            state: update.state,
            value: update.value.into(),
        }
    }
}

impl From<native::Update> for Update {
    fn from(update: native::Update) -> Self {
        Self {
            state: update.state,
            value: update.value.into(),
        }
    }
}

impl From<native::ProgramError> for ProgramError {
    fn from(error: native::ProgramError) -> Self {
        match error {
            native::ProgramError::Invalid(problem) => Self::Invalid(Problem {
                body: problem.body,
                instruction: problem.instruction,
                label: problem.label,
                message: problem.message,
            }),
            native::ProgramError::Argument(message) => Self::InvalidArgument(message),
            native::ProgramError::OutOfMemory { needed, allowed } => {
                Self::OutOfMemory((needed, allowed))
            }
            native::ProgramError::Stopped => Self::Stopped,
            // The contract has no case of its own: what a plugin can do is the same.
            native::ProgramError::Device(error) => Self::InvalidArgument(error.to_string()),
        }
    }
}
