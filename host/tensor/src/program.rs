//! Programs as they come from a plugin: untyped, and not to be trusted.

use std::fmt;
use std::sync::Arc;

use crate::check::Keep;
use crate::ir::Graph;
use crate::{DType, DeviceError};

/// A list of instructions; see `docs/programs.md` for the operations and their rules.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Program {
    /// What operations such as `scan` run; each may use those before it.
    pub bodies: Vec<Body>,
    /// In order: operands refer to earlier instructions only.
    pub instructions: Vec<Instruction>,
    /// What a run returns.
    pub outputs: Vec<Value>,
    /// At most one per state tensor. All see the state as it was before the run.
    pub updates: Vec<Update>,
}

/// A part of a program that an operation runs, with inputs of its own.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Body {
    /// In order: operands refer to earlier instructions of the body only.
    pub instructions: Vec<Instruction>,
    /// What the body returns to the operation.
    pub outputs: Vec<Value>,
}

/// One operation of a program.
#[derive(Debug, Clone, PartialEq)]
pub struct Instruction {
    /// The operation's name, e.g. `dot-general`.
    pub op: String,
    /// Results of earlier instructions.
    pub operands: Vec<Value>,
    /// In any order; each name once.
    pub attributes: Vec<(String, Attribute)>,
    /// A name for people (`hidden.weight`), used in errors.
    pub label: Option<String>,
}

/// A result of an instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Value {
    /// The instruction's position in the program.
    pub instruction: u32,
    /// Which of its results; 0 for an operation that has one.
    pub output: u32,
}

/// A constant that an instruction carries.
#[derive(Debug, Clone, PartialEq)]
pub enum Attribute {
    /// An integer.
    Integer(i64),
    /// A list of integers, e.g. a shape or axes.
    Integers(Vec<i64>),
    /// A number.
    Number(f64),
    /// A name.
    Text(String),
    /// Yes or no.
    Flag(bool),
    /// Raw elements, little-endian; shared, because a gradient repeats its program.
    Bytes(Arc<[u8]>),
}

impl From<i64> for Attribute {
    fn from(value: i64) -> Self {
        Self::Integer(value)
    }
}

impl From<f64> for Attribute {
    fn from(value: f64) -> Self {
        Self::Number(value)
    }
}

impl From<bool> for Attribute {
    fn from(value: bool) -> Self {
        Self::Flag(value)
    }
}

impl From<&str> for Attribute {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<&[i64]> for Attribute {
    fn from(values: &[i64]) -> Self {
        Self::Integers(values.to_vec())
    }
}

/// Replaces one tensor of the session's state after a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Update {
    /// Index of the state tensor.
    pub state: u32,
    /// Must have its type and shape.
    pub value: Value,
}

impl Program {
    /// Appends an instruction without a label and returns its result. Checks nothing:
    /// a wrong instruction is an error when the program is compiled.
    pub fn push(
        &mut self,
        op: &str,
        operands: &[Value],
        attributes: &[(&str, Attribute)],
    ) -> Value {
        push(&mut self.instructions, op, operands, attributes)
    }
}

/// A state tensor that a program declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// The label of its instruction; by convention the name of a tensor in a file.
    pub label: Option<String>,
    /// The type of its elements.
    pub dtype: DType,
    /// Its dimensions.
    pub shape: Vec<usize>,
}

impl Program {
    /// The program's state tensors, in the order of their index. Checks every rule.
    ///
    /// # Errors
    /// [`ProgramError::Invalid`].
    pub fn states(&self) -> Result<Vec<State>, ProgramError> {
        let graph = Graph::parse(self, Keep::Kernels)?;
        let types = graph.states.iter().map(|ty| State {
            label: None,
            dtype: ty.dtype,
            shape: ty.shape.to_vec(),
        });
        let mut states: Vec<State> = types.collect();
        for instruction in self.instructions.iter().filter(|one| one.op == "state") {
            for (name, attribute) in &instruction.attributes {
                if let ("index", Attribute::Integer(index)) = (name.as_str(), attribute)
                    && let Ok(index) = usize::try_from(*index)
                    && let Some(state) = states.get_mut(index)
                {
                    state.label.clone_from(&instruction.label);
                }
            }
        }
        Ok(states)
    }
}

impl Body {
    /// As [`Program::push`].
    pub fn push(
        &mut self,
        op: &str,
        operands: &[Value],
        attributes: &[(&str, Attribute)],
    ) -> Value {
        push(&mut self.instructions, op, operands, attributes)
    }
}

fn push(
    instructions: &mut Vec<Instruction>,
    op: &str,
    operands: &[Value],
    attributes: &[(&str, Attribute)],
) -> Value {
    let instruction = u32::try_from(instructions.len()).unwrap_or(u32::MAX);
    instructions.push(Instruction {
        op: op.to_owned(),
        operands: operands.to_vec(),
        attributes: attributes
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect(),
        label: None,
    });
    Value {
        instruction,
        output: 0,
    }
}

impl Value {
    /// Another result of the same instruction.
    pub fn result(self, output: u32) -> Self {
        Self { output, ..self }
    }
}

/// What is wrong with a program, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The body that it is in; absent for the program's own instructions.
    pub body: Option<u32>,
    /// Position of the instruction; absent when the program (or body) as a whole is wrong.
    pub instruction: Option<u32>,
    /// The instruction's label.
    pub label: Option<String>,
    /// One sentence with the shapes, types or attribute at fault.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(body) = self.body {
            write!(formatter, "body {body}: ")?;
        }
        match (self.instruction, &self.label) {
            (Some(at), Some(label)) => write!(formatter, "instruction {at} (`{label}`): ")?,
            (Some(at), None) => write!(formatter, "instruction {at}: ")?,
            (None, _) => {}
        }
        formatter.write_str(&self.message)
    }
}

/// Why a program could not be compiled or run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProgramError {
    /// The program breaks a rule.
    #[error("{0}")]
    Invalid(Problem),
    /// An argument of the call does not fit; the text says which and what was expected.
    #[error("{0}")]
    Argument(String),
    /// The task would hold `needed` bytes, of `allowed`.
    #[error("{needed} bytes of tensor memory are needed, but the task may hold {allowed}")]
    OutOfMemory {
        /// Bytes held before, and those asked for.
        needed: u64,
        /// The task's limit in bytes.
        allowed: u64,
    },
    /// The task was stopped while the call ran.
    #[error("the task was stopped")]
    Stopped,
    /// The accelerator failed.
    #[error("{0}")]
    Device(#[from] DeviceError),
}

impl ProgramError {
    /// A problem of the program as a whole.
    pub(crate) fn whole_program(message: impl Into<String>) -> Self {
        Self::Invalid(Problem {
            body: None,
            instruction: None,
            label: None,
            message: message.into(),
        })
    }
}
