//! Ordinary-looking code becomes a program for the host.
//!
//! Values of a [`Graph`] are [`Var`]s; each operation on them records an instruction.
//! Shapes are broadcast as NumPy does, with an explicit `broadcast` in the program.
//!
//! A `Var` knows its type and shape. The first mistake (two shapes that do not fit, say)
//! is kept and answered by [`Graph::finish`], with the layer in which it was made, so
//! that the code between can be written without a `?` on every line:
//!
//! ```
//! use trainshed_sdk::DType;
//! use trainshed_sdk::graph::Graph;
//!
//! let graph = Graph::new();
//! let x = graph.input("x", DType::F32, &[32, 64]);
//! let weight = graph.state("weight", DType::F32, &[64, 10]);
//! let bias = graph.state("bias", DType::F32, &[9]);
//! graph.output(&(x.matmul(&weight) + &bias).relu());
//!
//! let error = graph.finish().unwrap_err();
//! assert_eq!(
//!     error.to_string(),
//!     "instruction 4: shapes [32, 10] and [9] cannot be broadcast together"
//! );
//! ```
//!
//! `docs/programs.md` of the host lists the operations with their rules.

mod arithmetic;
mod control;
mod indexing;
mod neural;
mod ordering;
mod random;
mod reshape;
#[cfg(test)]
mod tests;
mod var;

use std::cell::RefCell;
use std::rc::Rc;

use crate::compute::{Attribute, Executable, Instruction, Program, Update, Value, gradient};
use crate::tensor::{Element, bytes_of, element_count};
use crate::{DType, ProgramError, Tensor};

pub use control::Scanned;
pub use neural::{BatchNormed, Window};
pub use ordering::Ordered;
pub use var::Var;

/// A function that extends a program by gradients, as [`crate::compute::gradient`] does.
pub type Differentiate = fn(&Program, Value, &[Value]) -> Result<Program, ProgramError>;

/// Records a program of `inputs`, runs it once, and answers its outputs: for what is done
/// once, as judging all predictions. What is done often is compiled once instead.
///
/// # Errors
/// The first mistake in the program, or memory that is used up.
pub fn evaluate(
    inputs: &[&Tensor],
    record: impl FnOnce(&Graph, &[Var]) -> Vec<Var>,
) -> Result<Vec<Tensor>, ProgramError> {
    let graph = Graph::new();
    let given = inputs.iter().enumerate();
    let given: Vec<Var> = given
        .map(|(index, tensor)| {
            let name = format!("input {index}");
            graph.input(&name, tensor.dtype(), &tensor.shape())
        })
        .collect();
    for output in record(&graph, &given) {
        graph.output(&output);
    }
    graph.compile()?.bind(&[])?.run(inputs)
}

/// A program that is being recorded. Clones record into the same program.
#[derive(Debug, Clone)]
pub struct Graph {
    recording: Rc<RefCell<Recording>>,
}

#[derive(Debug)]
struct Recording {
    program: Program,
    inputs: usize,
    states: Vec<Value>,
    scope: Vec<String>,
    streams: u32,
    error: Option<ProgramError>,
    differentiate: Differentiate,
    /// Where a body is recorded: the graph around it, and what it takes from there. The
    /// second of each pair is the input that stands for the first.
    parent: Option<Graph>,
    captured: Vec<(Var, Value)>,
}

impl Graph {
    /// An empty program, whose gradients the host makes.
    pub fn new() -> Self {
        Self::with_gradient(gradient)
    }

    /// An empty program with another maker of gradients, for recording outside a host.
    pub fn with_gradient(differentiate: Differentiate) -> Self {
        let recording = Recording {
            program: Program {
                bodies: Vec::new(),
                instructions: Vec::new(),
                outputs: Vec::new(),
                updates: Vec::new(),
            },
            inputs: 0,
            states: Vec::new(),
            scope: Vec::new(),
            streams: 0,
            error: None,
            differentiate,
            parent: None,
            captured: Vec::new(),
        };
        Self {
            recording: Rc::new(RefCell::new(recording)),
        }
    }

    /// The next tensor that a run is given. `name` is for error messages.
    pub fn input(&self, name: &str, dtype: DType, shape: &[usize]) -> Var {
        let index = {
            let mut recording = self.recording.borrow_mut();
            recording.inputs += 1;
            recording.inputs - 1
        };
        self.source("input", index, name, dtype, shape)
    }

    /// The next tensor of the session's state, as it was before the run.
    pub fn state(&self, name: &str, dtype: DType, shape: &[usize]) -> Var {
        if self.parent().is_some() {
            self.fail(format!("the state `{name}` cannot be read inside a body"));
        }
        let index = self.recording.borrow().states.len();
        let state = self.source("state", index, name, dtype, shape);
        self.recording.borrow_mut().states.push(state.value);
        state
    }

    /// A constant with these elements in row-major order.
    pub fn constant<T: Element>(&self, shape: &[usize], elements: &[T]) -> Var {
        if element_count(shape) != Some(elements.len()) {
            let found = elements.len();
            self.fail(format!(
                "a constant of shape {shape:?} cannot have {found} elements"
            ));
        }
        let data = Attribute::Bytes(bytes_of(elements));
        let attributes = vec![
            dtype_attribute(T::DTYPE),
            shape_attribute(shape),
            ("data", data),
        ];
        self.emit("constant", &[], attributes, T::DTYPE, shape)
    }

    /// A constant whose elements all are `value`. For an integer type it is truncated;
    /// for `bool` it is whether `value` differs from 0.
    pub fn full(&self, dtype: DType, shape: &[usize], value: f64) -> Var {
        let attribute = match dtype {
            DType::F32 | DType::F64 | DType::Bf16 | DType::F16 => Attribute::Number(value),
            DType::Bool => Attribute::Flag(value != 0.0),
            #[expect(clippy::cast_possible_truncation, reason = "said so in the doc")]
            DType::I32 | DType::I64 | DType::U8 | DType::U32 => Attribute::Integer(value as i64),
        };
        let attributes = vec![
            dtype_attribute(dtype),
            shape_attribute(shape),
            ("value", attribute),
        ];
        self.emit("constant", &[], attributes, dtype, shape)
    }

    /// Each element is its index along `axis`.
    pub fn iota(&self, dtype: DType, shape: &[usize], axis: usize) -> Var {
        let attributes = vec![
            dtype_attribute(dtype),
            shape_attribute(shape),
            ("axis", integer(axis)),
        ];
        self.emit("iota", &[], attributes, dtype, shape)
    }

    /// Labels what `record` records with `name`, below the labels around it: mistakes
    /// and the host's errors then say `hidden.0`.
    pub fn scoped<R>(&self, name: &str, record: impl FnOnce() -> R) -> R {
        self.recording.borrow_mut().scope.push(name.to_owned());
        let result = record();
        self.recording.borrow_mut().scope.pop();
        result
    }

    /// A number that no other operation of this program was given: the `stream` of one
    /// that draws random numbers, so that they are independent of all others.
    pub fn next_stream(&self) -> u32 {
        if let Some(parent) = self.parent() {
            return parent.next_stream();
        }
        let mut recording = self.recording.borrow_mut();
        let stream = recording.streams;
        recording.streams = stream.wrapping_add(1);
        stream
    }

    /// The derivatives of the scalar `output` with respect to each of `variables`, which
    /// have their shapes. A variable it does not depend on has a gradient of zeros.
    ///
    /// Not within a body of [`Graph::scan`]: differentiate the scan itself.
    pub fn gradient(&self, output: &Var, variables: &[&Var]) -> Vec<Var> {
        let unchanged = || variables.iter().map(|&variable| variable.clone()).collect();
        if self.parent().is_some() {
            self.fail("a gradient cannot be taken inside a body".to_owned());
        }
        if self.recording.borrow().error.is_some() {
            return unchanged();
        }
        let of: Vec<Value> = variables.iter().map(|variable| variable.value).collect();
        let extended = {
            let recording = self.recording.borrow();
            (recording.differentiate)(&recording.program, output.value, &of)
        };
        match extended {
            Ok(mut program) => {
                let kept = self.recording.borrow().program.outputs.len();
                let gradients = program.outputs.split_off(kept);
                self.recording.borrow_mut().program = program;
                let pairs = gradients.into_iter().zip(variables);
                pairs
                    .map(|(value, variable)| Var {
                        value,
                        ..(*variable).clone()
                    })
                    .collect()
            }
            Err(error) => {
                self.keep_error(error);
                unchanged()
            }
        }
    }

    /// Makes `value` the next output of a run.
    pub fn output(&self, value: &Var) {
        self.recording
            .borrow_mut()
            .program
            .outputs
            .push(value.value);
    }

    /// Replaces `state` by `value`, of its type and shape, after each run.
    pub fn update(&self, state: &Var, value: &Var) {
        if state.dtype != value.dtype || state.shape != value.shape {
            let (state, value) = (state.described(), value.described());
            self.fail(format!("a state of {state} cannot be replaced by {value}"));
            return;
        }
        let mut recording = self.recording.borrow_mut();
        let mut states = recording.states.iter();
        let index = states.position(|&known| same(known, state.value));
        let (Some(index), true) = (index, state.graph.is(self) && value.graph.is(self)) else {
            drop(recording);
            self.fail("only a state can be updated, by a value of its program".to_owned());
            return;
        };
        recording.program.updates.push(Update {
            state: u32::try_from(index).unwrap_or(u32::MAX),
            value: value.value,
        });
    }

    /// The program as it stands.
    ///
    /// # Errors
    /// The first mistake that was made while it was recorded.
    pub fn finish(&self) -> Result<Program, ProgramError> {
        let recording = self.recording.borrow();
        match &recording.error {
            Some(error) => Err(error.clone()),
            None => Ok(recording.program.clone()),
        }
    }

    /// Hands the program as it stands to the host.
    ///
    /// # Errors
    /// The first mistake that was made while it was recorded, or what the host finds.
    pub fn compile(&self) -> Result<Executable, ProgramError> {
        Executable::compile(&self.finish()?)
    }

    /// Keeps a mistake at the instruction that comes next, unless there was one before.
    pub(crate) fn fail(&self, message: String) {
        let root = self.root();
        let next = root.recording.borrow().program.instructions.len();
        root.keep_error(ProgramError::Invalid {
            body: None,
            instruction: u32::try_from(next).ok(),
            label: self.label(),
            message,
        });
    }

    fn keep_error(&self, error: ProgramError) {
        self.recording.borrow_mut().error.get_or_insert(error);
    }

    /// The graph around this one, when it is a body's.
    fn parent(&self) -> Option<Self> {
        self.recording.borrow().parent.clone()
    }

    fn root(&self) -> Self {
        let mut graph = self.clone();
        while let Some(parent) = graph.parent() {
            graph = parent;
        }
        graph
    }

    /// What instructions are labelled with: the scopes, those of the graphs around first.
    fn label(&self) -> Option<String> {
        let around = self.parent().and_then(|parent| parent.label());
        let recording = self.recording.borrow();
        let names = around.into_iter().chain(recording.scope.iter().cloned());
        let names: Vec<String> = names.collect();
        (!names.is_empty()).then(|| names.join("."))
    }

    /// Whether `other` is this graph or one around it.
    fn is_within(&self, other: &Self) -> bool {
        self.is(other) || self.parent().is_some_and(|parent| parent.is_within(other))
    }

    /// The value that stands for `var` in this graph: inside a body, one from around it
    /// becomes an invariant. None when it belongs to a graph that is not around.
    fn resolve(&self, var: &Var) -> Option<Value> {
        if var.graph.is(self) {
            return Some(var.value);
        }
        let parent = self.parent()?;
        let outer = parent.resolve(var)?;
        let known = {
            let recording = self.recording.borrow();
            let mut captured = recording.captured.iter();
            captured.find_map(|(known, inner)| same(known.value, outer).then_some(*inner))
        };
        if known.is_some() {
            return known;
        }
        let outer = Var {
            graph: parent,
            value: outer,
            ..var.clone()
        };
        Some(self.capture(outer))
    }

    /// Adds an input that stands for a value of the graph around.
    fn capture(&self, outer: Var) -> Value {
        let inner = self.input("invariant", outer.dtype, &outer.shape).value;
        self.recording.borrow_mut().captured.push((outer, inner));
        inner
    }

    fn source(
        &self,
        op: &'static str,
        index: usize,
        name: &str,
        dtype: DType,
        shape: &[usize],
    ) -> Var {
        let attributes = vec![
            ("index", integer(index)),
            dtype_attribute(dtype),
            shape_attribute(shape),
        ];
        let source = self.emit(op, &[], attributes, dtype, shape);
        let mut recording = self.recording.borrow_mut();
        if let Some(instruction) = recording.program.instructions.last_mut() {
            instruction.label = Some(name.to_owned());
        }
        drop(recording);
        source
    }

    /// Records an instruction whose result has this type and shape.
    pub(crate) fn emit(
        &self,
        op: &str,
        operands: &[&Var],
        attributes: Vec<(&str, Attribute)>,
        dtype: DType,
        shape: &[usize],
    ) -> Var {
        let (graph, instruction) = self.record(op, operands, attributes);
        graph.result(instruction, 0, dtype, shape)
    }

    /// Records an instruction with a result for each of `types`.
    fn emit_all<const RESULTS: usize>(
        &self,
        op: &str,
        operands: &[&Var],
        attributes: Vec<(&str, Attribute)>,
        types: [(DType, &[usize]); RESULTS],
    ) -> [Var; RESULTS] {
        let (graph, instruction) = self.record(op, operands, attributes);
        let mut output = 0..;
        types.map(|(dtype, shape)| {
            let output = output.next().unwrap_or(u32::MAX);
            graph.result(instruction, output, dtype, shape)
        })
    }

    /// Records an instruction in the innermost of its operands' graphs; that graph, and
    /// the instruction's position there.
    fn record(
        &self,
        op: &str,
        operands: &[&Var],
        attributes: Vec<(&str, Attribute)>,
    ) -> (Self, u32) {
        let graph = self.innermost(operands);
        let resolved = operands.iter().map(|operand| {
            graph.resolve(operand).unwrap_or_else(|| {
                self.fail(format!("an operand of `{op}` belongs to another graph"));
                operand.value
            })
        });
        let operands = resolved.collect();
        let label = graph.label();
        let attributes = attributes.into_iter();
        let instruction = Instruction {
            op: op.to_owned(),
            operands,
            attributes: attributes
                .map(|(name, attribute)| (name.to_owned(), attribute))
                .collect(),
            label,
        };
        let mut recording = graph.recording.borrow_mut();
        let position = recording.program.instructions.len();
        recording.program.instructions.push(instruction);
        drop(recording);
        (graph, u32::try_from(position).unwrap_or(u32::MAX))
    }

    fn innermost(&self, operands: &[&Var]) -> Self {
        let mut graph = self;
        for operand in operands {
            if operand.graph.is_within(graph) {
                graph = &operand.graph;
            }
        }
        graph.clone()
    }

    fn result(&self, instruction: u32, output: u32, dtype: DType, shape: &[usize]) -> Var {
        Var {
            graph: self.clone(),
            value: Value {
                instruction,
                output,
            },
            dtype,
            shape: shape.into(),
        }
    }

    fn is(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.recording, &other.recording)
    }
}

impl Default for Graph {
    fn default() -> Self {
        Self::new()
    }
}

fn same(left: Value, right: Value) -> bool {
    (left.instruction, left.output) == (right.instruction, right.output)
}

fn integer(number: usize) -> Attribute {
    Attribute::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

fn integers(numbers: &[usize]) -> Attribute {
    let numbers = numbers.iter();
    Attribute::Integers(
        numbers
            .map(|&number| i64::try_from(number).unwrap_or(i64::MAX))
            .collect(),
    )
}

fn dtype_attribute(dtype: DType) -> (&'static str, Attribute) {
    ("dtype", Attribute::Text(dtype.name().to_owned()))
}

fn shape_attribute(shape: &[usize]) -> (&'static str, Attribute) {
    ("shape", integers(shape))
}
