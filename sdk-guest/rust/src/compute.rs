//! Programs as the host takes them: compiled once, run each step.
//!
//! [`crate::graph`] records programs from ordinary-looking code; this module is for
//! running them, and for whoever writes the instructions by hand.

use crate::bindings::imports::trainshed::plugin::compute as raw;
use crate::{ProgramError, Tensor};

pub use raw::{Attribute, Body, Instruction, Program, Update, Value};

/// What a compiled program costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Exact number of bytes a session allocates beside its inputs and outputs.
    pub workspace_bytes: u64,
    /// Bytes of the state tensors.
    pub state_bytes: u64,
    /// Bytes of the outputs of one run.
    pub output_bytes: u64,
    /// Estimated floating-point operations of one run.
    pub flops: u64,
}

/// A program that the host has checked and planned.
#[derive(Debug)]
pub struct Executable {
    raw: raw::Executable,
}

/// A program together with its state.
#[derive(Debug)]
pub struct Session {
    raw: raw::Session,
}

/// Rows of several tensors in a given order, cut into batches.
#[derive(Debug)]
pub struct Batches {
    raw: raw::Batches,
}

/// Extends a program by the derivative of the scalar `f32` value `output`.
///
/// The result begins with the instructions of `program`, unchanged; the gradients, in
/// the order of `with_respect_to`, are appended to its outputs.
///
/// # Errors
/// When the program breaks a rule, or an operation between has no gradient.
pub fn gradient(
    program: &Program,
    output: Value,
    with_respect_to: &[Value],
) -> Result<Program, ProgramError> {
    Ok(raw::gradient(program, output, with_respect_to)?)
}

/// The program as bytes, in the form that `docs/programs.md` describes, which any host
/// reads. Checks no rule of operations.
pub fn serialize(program: &Program) -> Vec<u8> {
    raw::serialize(program)
}

/// Reads a program that [`serialize`] has written.
///
/// # Errors
/// When the bytes are not those of a program. The rules of operations are checked when it
/// is compiled.
pub fn deserialize(bytes: &[u8]) -> Result<Program, ProgramError> {
    Ok(raw::deserialize(bytes)?)
}

impl Executable {
    /// Checks every rule and plans memory. Costs time linear in the program.
    ///
    /// # Errors
    /// Names the instruction that breaks a rule.
    pub fn compile(program: &Program) -> Result<Self, ProgramError> {
        let raw = raw::Executable::compile(program)?;
        Ok(Self { raw })
    }

    /// What it costs.
    pub fn plan(&self) -> Plan {
        let plan = self.raw.plan();
        Plan {
            workspace_bytes: plan.workspace_bytes,
            state_bytes: plan.state_bytes,
            output_bytes: plan.output_bytes,
            flops: plan.flops,
        }
    }

    /// Starts a session with these state tensors, in the order of their index.
    ///
    /// # Errors
    /// When their number, types or shapes are not the program's, or memory is used up.
    pub fn bind(&self, state: &[&Tensor]) -> Result<Session, ProgramError> {
        let raw = self.raw.bind(&raw_tensors(state))?;
        Ok(Session { raw })
    }
}

impl Batches {
    /// Cuts `columns`, which have the same first dimension, into batches of `size` rows.
    ///
    /// `order` lists row numbers, any of them any number of times; with `drop_last`, a
    /// smaller last batch is left out.
    ///
    /// # Errors
    /// When the columns differ in length, a row number is too large, or `size` is 0.
    pub fn new(
        columns: &[&Tensor],
        order: &[u32],
        size: u32,
        drop_last: bool,
    ) -> Result<Self, ProgramError> {
        let raw = raw::Batches::create(&raw_tensors(columns), order, size, drop_last)?;
        Ok(Self { raw })
    }

    /// How many batches are left.
    pub fn remaining(&self) -> u32 {
        self.raw.remaining()
    }

    /// The next batch, one tensor per column; none at the end.
    ///
    /// # Errors
    /// When memory is used up.
    pub fn next_batch(&self) -> Result<Option<Vec<Tensor>>, ProgramError> {
        Ok(self.raw.next()?.map(tensors))
    }
}

impl Session {
    /// Runs the program once. On an error the state is as it was.
    ///
    /// # Errors
    /// When an input does not fit, memory is used up, or the task is stopped.
    pub fn run(&self, inputs: &[&Tensor]) -> Result<Vec<Tensor>, ProgramError> {
        Ok(tensors(self.raw.run(&raw_tensors(inputs))?))
    }

    /// Takes the next batch and runs the program with its tensors first, then `inputs`;
    /// none, and no run, when no batch is left.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn run_batch(
        &self,
        source: &Batches,
        inputs: &[&Tensor],
    ) -> Result<Option<Vec<Tensor>>, ProgramError> {
        let outputs = self.raw.run_batch(&source.raw, &raw_tensors(inputs))?;
        Ok(outputs.map(tensors))
    }

    /// The state tensor as it is now. Copies nothing.
    ///
    /// # Errors
    /// When there is no state of that index.
    pub fn state(&self, index: u32) -> Result<Tensor, ProgramError> {
        Ok(Tensor::from_raw(self.raw.state(index)?))
    }
}

fn raw_tensors<'a>(tensors: &[&'a Tensor]) -> Vec<&'a raw::Tensor> {
    tensors.iter().map(|tensor| tensor.raw()).collect()
}

fn tensors(raw: Vec<raw::Tensor>) -> Vec<Tensor> {
    raw.into_iter().map(Tensor::from_raw).collect()
}
