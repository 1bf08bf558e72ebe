//! From an untyped program to a typed graph: "parse, don't validate".

mod attributes;
mod rules;

use crate::ir::{Graph, Node, NodeId, Op, Operands};
use crate::shape::TensorType;
use crate::{Instruction, Problem, Program, ProgramError, Value};

use attributes::Attributes;

/// The most instructions that a program may have.
pub(crate) const MAX_INSTRUCTIONS: usize = 100_000;

impl Graph {
    /// Checks every rule of `docs/programs.md`.
    ///
    /// # Errors
    /// [`ProgramError::Invalid`] for the first instruction that breaks one.
    pub(crate) fn parse(program: &Program) -> Result<Self, ProgramError> {
        let mut graph = Self::default();
        for instruction in &program.instructions {
            graph.push(instruction)?;
        }
        graph.check_slots()?;
        for (place, value) in program.outputs.iter().enumerate() {
            let node = graph.find(*value).map_err(|problem| {
                ProgramError::whole_program(format!("output {place}: {problem}"))
            })?;
            graph.outputs.push(node);
        }
        let mut updated = vec![false; graph.states.len()];
        for update in &program.updates {
            let state = update.state as usize;
            let wrong = |problem: String| {
                ProgramError::whole_program(format!("update of state {state}: {problem}"))
            };
            let Some(&expected) = graph.states.get(state) else {
                return Err(wrong(format!(
                    "the program declares {} state tensors",
                    graph.states.len()
                )));
            };
            if std::mem::replace(&mut updated[state], true) {
                return Err(wrong("a state is updated at most once".to_owned()));
            }
            let node = graph.find(update.value).map_err(wrong)?;
            let found = graph.nodes[node].ty;
            if found != expected {
                return Err(wrong(format!(
                    "the state is {expected}, but the value is {found}"
                )));
            }
            graph.updates.push((state, node));
        }
        Ok(graph)
    }

    /// Checks one instruction and appends it.
    ///
    /// # Errors
    /// [`ProgramError::Invalid`] with its position and label.
    pub(crate) fn push(&mut self, instruction: &Instruction) -> Result<NodeId, ProgramError> {
        let position = self.nodes.len();
        let node = self.node(instruction).map_err(|message| {
            ProgramError::Invalid(Problem {
                instruction: u32::try_from(position).ok(),
                label: instruction.label.clone(),
                message: format!("`{}`: {message}", shortened(&instruction.op)),
            })
        })?;
        self.nodes.push(node);
        Ok(position)
    }

    /// The node of a value; the error is a sentence.
    pub(crate) fn find(&self, value: Value) -> Result<NodeId, String> {
        let Value {
            instruction,
            output,
        } = value;
        if output != 0 {
            return Err(format!(
                "result {output} of instruction {instruction} is used, but it has one, result 0"
            ));
        }
        let node = instruction as usize;
        if node >= self.nodes.len() {
            return Err(format!(
                "instruction {instruction} is used, but there are {} before",
                self.nodes.len()
            ));
        }
        Ok(node)
    }

    fn node(&mut self, instruction: &Instruction) -> Result<Node, String> {
        let position = self.nodes.len();
        if position >= MAX_INSTRUCTIONS {
            return Err(format!(
                "a program may have at most {MAX_INSTRUCTIONS} instructions"
            ));
        }
        let mut nodes = [0; 4];
        let count = instruction.operands.len();
        if count >= nodes.len() {
            return Err(format!("{count} operands are given, more than any takes"));
        }
        for (node, &value) in nodes.iter_mut().zip(&instruction.operands) {
            *node = self.find(value)?;
        }
        let operands = Operands::new(&nodes[..count]).ok_or("too many operands are given")?;
        let mut types = [None; 3];
        for (ty, &node) in types.iter_mut().zip(operands.iter()) {
            *ty = Some(self.nodes[node].ty);
        }
        let mut attributes = Attributes::new(&instruction.attributes);
        let (op, ty) = rules::check(&instruction.op, types, count, &mut attributes)?;
        attributes.finish()?;
        match op {
            Op::Input(index) => declare(&mut self.inputs, index, ty, "input")?,
            Op::State(index) => declare(&mut self.states, index, ty, "state")?,
            _ => {}
        }
        Ok(Node { op, operands, ty })
    }

    /// Indexes of inputs and states must have no gaps.
    fn check_slots(&self) -> Result<(), ProgramError> {
        for (slots, kind) in [(&self.inputs, "input"), (&self.states, "state")] {
            if let Some(gap) = slots.iter().position(|ty| *ty == undeclared()) {
                return Err(ProgramError::whole_program(format!(
                    "{kind} {gap} is missing: indexes count from 0 without gaps"
                )));
            }
        }
        Ok(())
    }
}

/// Notes the type of an input or state; two declarations of one index must agree.
fn declare(
    slots: &mut Vec<TensorType>,
    index: usize,
    ty: TensorType,
    kind: &str,
) -> Result<(), String> {
    if slots.len() <= index {
        slots.resize(index + 1, undeclared());
    }
    let slot = &mut slots[index];
    if *slot != undeclared() && *slot != ty {
        return Err(format!(
            "{kind} {index} is {slot} in an earlier instruction, but {ty} here"
        ));
    }
    *slot = ty;
    Ok(())
}

/// Marks an index that no instruction has declared: no checked shape has such a dimension.
fn undeclared() -> TensorType {
    TensorType {
        dtype: crate::DType::Bool,
        shape: crate::shape::Dims::collect([usize::MAX]),
    }
}

/// A name from a program as it may stand in a message.
fn shortened(name: &str) -> String {
    const LONGEST: usize = 40;
    if name.chars().count() <= LONGEST {
        return name.to_owned();
    }
    let start: String = name.chars().take(LONGEST).collect();
    format!("{start}…")
}
