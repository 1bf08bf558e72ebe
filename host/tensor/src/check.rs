//! From an untyped program to a typed graph: "parse, don't validate".

mod attributes;
mod rules;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use smallvec::SmallVec;

use crate::emit::Emit;
use crate::ir::{Body, Graph, Node, NodeId, Nodes, Op};
use crate::shape::TensorType;
use crate::{Attribute, Instruction, Problem, Program, ProgramError, Value};

pub(crate) use attributes::Attributes;

/// The most instructions that a program may have, those of its bodies included.
pub(crate) const MAX_INSTRUCTIONS: usize = 100_000;

/// The most nodes that its instructions may stand for.
const MAX_NODES: usize = 400_000;

/// Which composite operations stay whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// Those that have a kernel.
    Kernels,
    /// Those that have a kernel and a derivative of their own.
    Derivatives,
    /// None: the graph has primitive operations only.
    Primitives,
}

impl Graph {
    /// Checks every rule of `docs/programs.md`.
    ///
    /// # Errors
    /// [`ProgramError::Invalid`] for the first instruction that breaks one.
    pub(crate) fn parse(program: &Program, keep: Keep) -> Result<Self, ProgramError> {
        Ok(Parser::parse(program, keep)?.graph)
    }
}

/// A graph that grows by checked instructions. Equal nodes are one node.
pub(crate) struct Parser {
    pub(crate) graph: Graph,
    keep: Keep,
    /// The program's bodies; those of a body are the ones before it.
    bodies: Vec<Body>,
    in_body: bool,
    /// The nodes of each instruction's results.
    results: Vec<Nodes>,
    /// The first value that names each node.
    names: Vec<Option<Value>>,
    /// How nodes inside composite operations, which have no name, came to be.
    recipes: HashMap<NodeId, Recipe>,
    /// Nodes by what they compute. Their order is never looked at.
    known: HashTable<NodeId>,
    hasher: RandomState,
    /// Instructions and nodes that the program may still have.
    instructions_left: usize,
    nodes_left: usize,
}

/// What a parser knows of one list of instructions.
#[derive(Default)]
struct Part {
    graph: Graph,
    results: Vec<Nodes>,
    names: Vec<Option<Value>>,
    recipes: HashMap<NodeId, Recipe>,
    known: HashTable<NodeId>,
}

/// A list of instructions that is set aside.
pub(crate) struct Outer {
    part: Part,
    in_body: bool,
}

/// An instruction but for its operands, which are the node's.
#[derive(Debug, Clone)]
pub(crate) struct Recipe {
    pub(crate) op: String,
    pub(crate) attributes: Vec<(String, Attribute)>,
}

/// What a rule makes of an instruction: an operation and the types of its results.
pub(crate) struct Checked {
    pub(crate) op: Op,
    pub(crate) types: SmallVec<[TensorType; 3]>,
}

/// Where an instruction stands, as far as rules depend on it.
pub(crate) struct Scope<'a> {
    pub(crate) bodies: &'a [Body],
    pub(crate) in_body: bool,
}

impl Parser {
    /// Parses a whole program.
    ///
    /// # Errors
    /// As [`Graph::parse`].
    pub(crate) fn parse(program: &Program, keep: Keep) -> Result<Self, ProgramError> {
        let mut parser = Self::new(keep);
        for body in &program.bodies {
            parser.body(body)?;
        }
        for instruction in &program.instructions {
            parser.push(instruction)?;
        }
        parser.graph.check_slots()?;
        parser.graph.outputs = parser.outputs(&program.outputs)?;
        parser.updates(program)?;
        Ok(parser)
    }

    /// A parser of nothing yet.
    pub(crate) fn new(keep: Keep) -> Self {
        let Part {
            graph,
            results,
            names,
            recipes,
            known,
        } = Part::default();
        Self {
            graph,
            keep,
            bodies: Vec::new(),
            in_body: false,
            results,
            names,
            recipes,
            known,
            hasher: RandomState::new(),
            instructions_left: MAX_INSTRUCTIONS,
            nodes_left: MAX_NODES,
        }
    }

    /// Begins a list of instructions of its own, which sees all bodies.
    pub(crate) fn begin_part(&mut self) -> Outer {
        self.set_aside(Part::default(), true)
    }

    /// Begins the list anew.
    pub(crate) fn clear_part(&mut self) {
        self.set_aside(Part::default(), true);
    }

    /// Drops the list and goes on with the one before it.
    pub(crate) fn end_part(&mut self, outer: Outer) {
        self.set_aside(outer.part, outer.in_body);
    }

    fn set_aside(&mut self, part: Part, in_body: bool) -> Outer {
        Outer {
            part: Part {
                graph: std::mem::replace(&mut self.graph, part.graph),
                results: std::mem::replace(&mut self.results, part.results),
                names: std::mem::replace(&mut self.names, part.names),
                recipes: std::mem::replace(&mut self.recipes, part.recipes),
                known: std::mem::replace(&mut self.known, part.known),
            },
            in_body: std::mem::replace(&mut self.in_body, in_body),
        }
    }

    /// Checks instructions and appends them.
    ///
    /// # Errors
    /// As [`Graph::parse`].
    pub(crate) fn push_all(&mut self, instructions: &[Instruction]) -> Result<(), ProgramError> {
        for instruction in instructions {
            self.push(instruction)?;
        }
        Ok(())
    }

    /// Checks a body and appends it.
    ///
    /// # Errors
    /// As [`Graph::parse`].
    pub(crate) fn body(&mut self, body: &crate::Body) -> Result<(), ProgramError> {
        let index = self.bodies.len();
        // A body is parsed as a program is, with the bodies before it.
        let outer = self.set_aside(Part::default(), true);
        let parsed = self.body_graph(body);
        self.set_aside(outer.part, outer.in_body);
        let graph = parsed.map_err(|error| match error {
            ProgramError::Invalid(problem) => ProgramError::Invalid(Problem {
                body: u32::try_from(index).ok(),
                ..problem
            }),
            other => other,
        })?;
        self.bodies.push(Body::new(index, graph));
        Ok(())
    }

    fn body_graph(&mut self, body: &crate::Body) -> Result<Graph, ProgramError> {
        for instruction in &body.instructions {
            self.push(instruction)?;
        }
        self.graph.check_slots()?;
        self.graph.outputs = self.outputs(&body.outputs)?;
        Ok(std::mem::take(&mut self.graph))
    }

    fn outputs(&self, outputs: &[Value]) -> Result<Vec<NodeId>, ProgramError> {
        let nodes = outputs.iter().enumerate().map(|(place, value)| {
            self.find(*value).map_err(|problem| {
                ProgramError::whole_program(format!("output {place}: {problem}"))
            })
        });
        nodes.collect()
    }

    fn updates(&mut self, program: &Program) -> Result<(), ProgramError> {
        let mut updated = vec![false; self.graph.states.len()];
        for update in &program.updates {
            let state = update.state as usize;
            let wrong = |problem: String| {
                ProgramError::whole_program(format!("update of state {state}: {problem}"))
            };
            let Some(&expected) = self.graph.states.get(state) else {
                return Err(wrong(format!(
                    "the program declares {} state tensors",
                    self.graph.states.len()
                )));
            };
            if std::mem::replace(&mut updated[state], true) {
                return Err(wrong("a state is updated at most once".to_owned()));
            }
            let node = self.find(update.value).map_err(wrong)?;
            let found = self.graph.nodes[node].ty;
            if found != expected {
                return Err(wrong(format!(
                    "the state is {expected}, but the value is {found}"
                )));
            }
            self.graph.updates.push((state, node));
        }
        Ok(())
    }

    /// Checks one instruction and appends it; returns the nodes of its results.
    ///
    /// # Errors
    /// [`ProgramError::Invalid`] with its position and label.
    pub(crate) fn push(&mut self, instruction: &Instruction) -> Result<Nodes, ProgramError> {
        let position = u32::try_from(self.results.len()).unwrap_or(u32::MAX);
        let results = self.instruction(instruction).map_err(|message| {
            ProgramError::Invalid(Problem {
                body: None,
                instruction: Some(position),
                label: instruction.label.clone(),
                message: format!("`{}`: {message}", shortened(&instruction.op)),
            })
        })?;
        for (output, &node) in (0..).zip(&results) {
            self.names[node].get_or_insert(Value {
                instruction: position,
                output,
            });
        }
        self.results.push(results.clone());
        Ok(results)
    }

    /// The node of a value; the error is a sentence.
    pub(crate) fn find(&self, value: Value) -> Result<NodeId, String> {
        let Value {
            instruction,
            output,
        } = value;
        let Some(results) = self.results.get(instruction as usize) else {
            return Err(format!(
                "instruction {instruction} is used, but there are {} before",
                self.results.len()
            ));
        };
        results.get(output as usize).copied().ok_or_else(|| {
            let has = match results.len() {
                0 => "none".to_owned(),
                1 => "one, result 0".to_owned(),
                count => format!("{count}, results 0 to {}", count - 1),
            };
            format!("result {output} of instruction {instruction} is used, but it has {has}")
        })
    }

    /// A value that names the node, if an instruction does.
    pub(crate) fn name(&self, node: NodeId) -> Option<Value> {
        self.names[node]
    }

    /// The nodes of an instruction's results.
    pub(crate) fn results(&self, position: usize) -> &[NodeId] {
        &self.results[position]
    }

    /// How a node without a name came to be.
    pub(crate) fn recipe(&self, node: NodeId) -> Option<&Recipe> {
        self.recipes.get(&node)
    }

    fn instruction(&mut self, instruction: &Instruction) -> Result<Nodes, String> {
        self.instructions_left = self
            .instructions_left
            .checked_sub(1)
            .ok_or_else(|| format!("a program may have at most {MAX_INSTRUCTIONS} instructions"))?;
        let mut operands = Nodes::new();
        for &value in &instruction.operands {
            operands.push(self.find(value)?);
        }
        self.add(&instruction.op, operands, &instruction.attributes)
    }

    /// Appends the nodes of an operation; returns those of its results.
    fn add(
        &mut self,
        name: &str,
        operands: Nodes,
        attributes: &[(String, Attribute)],
    ) -> Result<Nodes, String> {
        let types: SmallVec<[TensorType; 4]> = operands
            .iter()
            .map(|&node| self.graph.nodes[node].ty)
            .collect();
        let mut attributes = Attributes::new(attributes);
        let scope = Scope {
            bodies: &self.bodies,
            in_body: self.in_body,
        };
        let Checked { op, types } = rules::check(name, &types, &mut attributes, &scope)?;
        attributes.finish()?;
        match op {
            Op::Input(index) => declare(&mut self.graph.inputs, index, types[0], "input")?,
            Op::State(index) => declare(&mut self.graph.states, index, types[0], "state")?,
            Op::Composite(composite) if !composite.stays(self.keep) => {
                let expanded = composite.expand(&mut Expansion { parser: self }, &operands);
                return expanded.map_err(|error| match error {
                    ProgramError::Invalid(problem) => problem.message,
                    other => other.to_string(),
                });
            }
            _ => {}
        }
        self.nodes(op, operands, &types)
    }

    /// The nodes of an operation's results: those of an equal one, or new ones.
    fn nodes(&mut self, op: Op, operands: Nodes, types: &[TensorType]) -> Result<Nodes, String> {
        let mut results = Nodes::new();
        // An operation without results does nothing.
        let Some((&ty, parts)) = types.split_first() else {
            return Ok(results);
        };
        let main = self.node(Node { op, operands, ty })?;
        results.push(main);
        for (place, &ty) in parts.iter().enumerate() {
            results.push(self.node(Node {
                op: Op::Part(place + 1),
                operands: SmallVec::from_slice(&[main]),
                ty,
            })?);
        }
        Ok(results)
    }

    fn node(&mut self, node: Node) -> Result<NodeId, String> {
        let nodes = &mut self.graph.nodes;
        let hasher = &self.hasher;
        let hash = |node: &Node| hasher.hash_one((&node.op, &node.operands, &node.ty));
        let place = self.known.entry(
            hash(&node),
            |&other| nodes[other] == node,
            |&other| hash(&nodes[other]),
        );
        match place {
            Entry::Occupied(known) => Ok(*known.get()),
            Entry::Vacant(vacant) => {
                self.nodes_left = self.nodes_left.checked_sub(1).ok_or_else(|| {
                    format!("a program may stand for at most {MAX_NODES} operations")
                })?;
                let id = nodes.len();
                vacant.insert(id);
                nodes.push(node);
                self.names.push(None);
                Ok(id)
            }
        }
    }
}

/// The definition of a composite operation on its way into the graph.
struct Expansion<'a> {
    parser: &'a mut Parser,
}

impl Emit for Expansion<'_> {
    fn ty(&self, node: NodeId) -> TensorType {
        self.parser.graph.nodes[node].ty
    }

    fn emit(
        &mut self,
        name: &str,
        operands: &[NodeId],
        attributes: &[(&str, Attribute)],
    ) -> Result<Nodes, ProgramError> {
        let attributes: Vec<(String, Attribute)> = attributes
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        let results = self
            .parser
            .add(name, SmallVec::from_slice(operands), &attributes)
            .map_err(|message| ProgramError::whole_program(format!("`{name}`: {message}")))?;
        if let Some(first) = results.first() {
            let op = name.to_owned();
            let recipe = Recipe { op, attributes };
            self.parser.recipes.entry(*first).or_insert(recipe);
        }
        Ok(results)
    }
}

impl Graph {
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
pub(crate) fn shortened(name: &str) -> String {
    const LONGEST: usize = 40;
    if name.chars().count() <= LONGEST {
        return name.to_owned();
    }
    let start: String = name.chars().take(LONGEST).collect();
    format!("{start}…")
}
