//! What an accelerator must be able to do, for programs to run on it.
//!
//! This crate lowers a program to text and keeps its state on the device; whoever knows
//! how to reach a device implements [`Accelerator`] and hands it in.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, Weak};

use crate::check::Keep;
use crate::ir::Graph;
use crate::session::{Plan, check_types};
use crate::shape::TensorType;
use crate::tensor::{Storage, Tensor};
use crate::{Budget, Context, Program, ProgramError, plan, stablehlo};

/// Where programs run.
#[derive(Debug, Clone, Default)]
pub enum Device {
    /// The host's processors.
    #[default]
    Cpu,
    /// A device with a compiler of its own.
    Accelerator(Arc<dyn Accelerator>),
}

/// A device that compiles StableHLO.
pub trait Accelerator: fmt::Debug + Send + Sync {
    /// The most bytes of its memory that one task may hold.
    fn memory_limit(&self) -> u64;

    /// Compiles the text that [`stablehlo`](crate::stablehlo()) wrote.
    ///
    /// # Errors
    /// What the compiler says.
    fn compile(&self, text: &str) -> Result<Box<dyn DeviceProgram>, DeviceError>;

    /// Copies a tensor to the device.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`], or what the device says.
    fn upload(&self, tensor: &Tensor) -> Result<Box<dyn DeviceBuffer>, DeviceError>;
}

/// A program that was compiled for a device.
pub trait DeviceProgram: fmt::Debug + Send + Sync {
    /// What a run needs, if the device counts.
    fn memory(&self) -> Option<DeviceMemory>;

    /// Runs it once and waits for its end. Arguments whose flag is set may be written
    /// over where the program says so; they are of no more use, whatever happens.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`], or what the device says.
    fn run(
        &self,
        arguments: &[(&dyn DeviceBuffer, bool)],
    ) -> Result<Vec<Box<dyn DeviceBuffer>>, DeviceError>;
}

/// A tensor in the memory of a device.
pub trait DeviceBuffer: Any + Send + Sync {
    /// Copies the elements of a tensor of this shape, row-major, to `bytes`, which has
    /// their size.
    ///
    /// # Errors
    /// What the device says.
    fn download(&self, shape: &[usize], bytes: &mut [u8]) -> Result<(), DeviceError>;
}

/// Device memory of a compiled program, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeviceMemory {
    /// Inputs and states.
    pub arguments: u64,
    /// Outputs and updated states.
    pub outputs: u64,
    /// Of the outputs, those that lie where an argument lay.
    pub aliased: u64,
    /// Everything in between, at its peak.
    pub temporary: u64,
}

impl DeviceMemory {
    fn total(self) -> u64 {
        let fresh = self.outputs.saturating_sub(self.aliased);
        self.arguments
            .saturating_add(fresh)
            .saturating_add(self.temporary)
    }
}

/// Why a device did not do what it was asked to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// It has not so much memory.
    #[error("the accelerator has not enough memory: {0}")]
    OutOfMemory(String),
    /// Anything else, in its own words.
    #[error("the accelerator failed: {0}")]
    Failed(String),
}

/// A program for a device, with the types that it declares.
#[derive(Debug)]
pub(crate) struct Compiled {
    device: Arc<dyn Accelerator>,
    program: Box<dyn DeviceProgram>,
    inputs: Vec<TensorType>,
    states: Vec<TensorType>,
    outputs: Vec<TensorType>,
    /// States that a run replaces, in the order of the results behind the outputs.
    updated: Vec<usize>,
}

/// Compiles a program for a device.
///
/// # Errors
/// As [`Executable::compile`](crate::Executable::compile), and [`ProgramError::Device`].
pub(crate) fn compile(
    program: &Program,
    device: &Arc<dyn Accelerator>,
    budget: &Budget,
) -> Result<(Compiled, Plan), ProgramError> {
    let graph = Graph::parse(program, Keep::Primitives)?;
    let text = stablehlo::lower(&graph)?;
    let compiled = device.compile(&text)?;
    let memory = compiled.memory().unwrap_or_else(|| declared_memory(&graph));
    let allowed = device.memory_limit();
    if memory.total() > allowed {
        return Err(ProgramError::OutOfMemory {
            needed: memory.total(),
            allowed,
        });
    }
    let total = |types: &[TensorType]| -> u64 { types.iter().map(|ty| ty.bytes() as u64).sum() };
    let outputs: Vec<TensorType> = graph
        .outputs
        .iter()
        .map(|&node| graph.nodes[node].ty)
        .collect();
    let plan = Plan {
        workspace_bytes: memory.temporary,
        state_bytes: total(&graph.states),
        output_bytes: total(&outputs),
        flops: flops(program, budget),
    };
    let compiled = Compiled {
        device: Arc::clone(device),
        program: compiled,
        updated: graph.updates.iter().map(|&(state, _)| state).collect(),
        inputs: graph.inputs,
        states: graph.states,
        outputs,
    };
    Ok((compiled, plan))
}

/// What the host's processors would need: the same order of magnitude. 0 when they could
/// not even hold the program's constants.
fn flops(program: &Program, budget: &Budget) -> u64 {
    plan::compile(program, budget).map_or(0, |compiled| compiled.flops)
}

/// What a program needs at least.
fn declared_memory(graph: &Graph) -> DeviceMemory {
    let bytes = |node: usize| graph.nodes[node].ty.bytes() as u64;
    let arguments = graph.inputs.iter().chain(&graph.states);
    let updates: u64 = graph.updates.iter().map(|&(_, node)| bytes(node)).sum();
    let outputs: u64 = graph.outputs.iter().map(|&node| bytes(node)).sum();
    DeviceMemory {
        arguments: arguments.map(|ty| ty.bytes() as u64).sum(),
        outputs: outputs + updates,
        aliased: updates,
        temporary: 0,
    }
}

/// The memory of a tensor, and its copy on the device.
type Uploaded = (Weak<Storage>, Box<dyn DeviceBuffer>);

/// A program on a device together with its state there.
pub(crate) struct Session {
    state: Vec<Box<dyn DeviceBuffer>>,
    /// What was uploaded for each input last: batches change from run to run, but a whole
    /// data set that a program picks from does not.
    uploaded: Vec<Option<Uploaded>>,
    /// Why the state is lost, if it is.
    lost: Option<DeviceError>,
    context: Context,
}

impl Compiled {
    /// Copies the state to the device.
    pub(crate) fn bind(
        &self,
        state: &[Tensor],
        context: &Context,
    ) -> Result<Session, ProgramError> {
        check_types("state", &self.states, state.iter())?;
        let state: Result<_, _> = state
            .iter()
            .map(|tensor| self.device.upload(tensor))
            .collect();
        Ok(Session {
            state: state?,
            uploaded: self.inputs.iter().map(|_| None).collect(),
            lost: None,
            context: context.clone(),
        })
    }
}

impl Session {
    /// Runs the program once; it cannot be stopped half-way.
    pub(crate) fn run(
        &mut self,
        compiled: &Compiled,
        inputs: &[&Tensor],
    ) -> Result<Vec<Tensor>, ProgramError> {
        check_types("input", &compiled.inputs, inputs.iter().copied())?;
        if self.context.is_stopped() {
            return Err(ProgramError::Stopped);
        }
        self.check_not_lost()?;
        // Memory for the outputs comes first: behind the run nothing may fail for want of it.
        let budget = self.context.budget();
        let mut outputs = Vec::with_capacity(compiled.outputs.len());
        for ty in &compiled.outputs {
            outputs.push(Storage::zeros(ty.bytes(), budget)?);
        }
        self.upload(compiled, inputs)?;

        let uploaded = self.uploaded.iter().flatten();
        let kept = uploaded.map(|(_, buffer)| (&**buffer, false));
        let states = self.state.iter().map(|buffer| (&**buffer, true));
        let arguments: Vec<(&dyn DeviceBuffer, bool)> = kept.chain(states).collect();
        let mut results = match compiled.program.run(&arguments) {
            Ok(results) => results,
            Err(error) => {
                // The device may have written over some of the states already.
                self.lost = (!compiled.updated.is_empty()).then(|| error.clone());
                return Err(error.into());
            }
        };
        let updates = results.split_off(compiled.outputs.len().min(results.len()));
        for (&state, update) in compiled.updated.iter().zip(updates) {
            self.state[state] = update;
        }
        let mut tensors = Vec::with_capacity(outputs.len());
        for ((&ty, mut storage), buffer) in compiled.outputs.iter().zip(outputs).zip(results) {
            buffer.download(&ty.shape, &mut storage.bytes_mut()[..ty.bytes()])?;
            tensors.push(Tensor {
                ty,
                storage: Arc::new(storage),
            });
        }
        Ok(tensors)
    }

    fn upload(&mut self, compiled: &Compiled, inputs: &[&Tensor]) -> Result<(), ProgramError> {
        for (uploaded, input) in self.uploaded.iter_mut().zip(inputs) {
            let storage = Arc::downgrade(&input.storage);
            // A weak pointer keeps the address, so another tensor never has it.
            let is_there = uploaded
                .as_ref()
                .is_some_and(|(known, _)| known.ptr_eq(&storage));
            if !is_there {
                // The former goes first: both need not fit.
                *uploaded = None;
                *uploaded = Some((storage, compiled.device.upload(input)?));
            }
        }
        Ok(())
    }

    /// Copies one state to the host.
    pub(crate) fn state(&self, compiled: &Compiled, index: usize) -> Result<Tensor, ProgramError> {
        self.check_not_lost()?;
        let ty = compiled.states[index];
        let budget: &Budget = self.context.budget();
        let mut storage = Storage::zeros(ty.bytes(), budget)?;
        self.state[index].download(&ty.shape, &mut storage.bytes_mut()[..ty.bytes()])?;
        Ok(Tensor {
            ty,
            storage: Arc::new(storage),
        })
    }

    pub(crate) fn states(&self) -> usize {
        self.state.len()
    }

    fn check_not_lost(&self) -> Result<(), ProgramError> {
        match &self.lost {
            None => Ok(()),
            Some(error) => Err(ProgramError::Device(DeviceError::Failed(format!(
                "the state was lost when an earlier run failed ({error})"
            )))),
        }
    }
}
