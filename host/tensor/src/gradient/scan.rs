//! The derivative of `scan`.
//!
//! It is a `scan` in the other direction, whose carries are the adjoints of the carries.
//! Its body comes from differentiating the body of the `scan` as if that were a program.
//! What of a step's own values it needs is returned by the forward body behind what that
//! returns anyway, and so is stacked; what is cheap is computed again. Where a step would
//! add a product of two of its values to the adjoint of an invariant (the weights of a
//! recurrent layer), both are stacked instead, and one product at the end sums over all
//! steps.
//!
//! The forward body must be known before anything uses the results of the `scan`, so
//! [`prepare`] goes first.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use super::{Backward, nodes_on_path};
use crate::check::{Keep, Parser};
use crate::emit::{Emit, integer, list};
use crate::ir::{DotAxes, Graph, NodeId, Nodes, Op, Scan};
use crate::shape::{Dims, TensorType};
use crate::{Attribute, Body, Instruction, Program, ProgramError, Value};

/// Derivatives that scans with one body share.
pub(super) type Known = HashMap<Case, Rc<Derived>>;

/// A body, its carries and sequences, and what flows through it: per input and output.
type Case = (usize, usize, usize, Vec<bool>, Vec<bool>);

/// Derivatives by the position of the `scan`.
pub(super) type Derivations = HashMap<u32, Rc<Derived>>;

/// The backward scan. Operands and results are those of the forward scan.
#[derive(Debug)]
pub(super) struct Derived {
    /// The forward body with residuals: its further outputs.
    forward: usize,
    backward: usize,
    /// Carries with an adjoint, which are the backward scan's first carries.
    carries: Vec<usize>,
    /// Invariants whose adjoint is summed up step by step: the other carries.
    summed: Vec<usize>,
    /// Stacked results with an adjoint: the backward scan's first sequences.
    ups: Vec<usize>,
    /// Residuals that it reads, as results of the forward scan.
    residuals: Vec<usize>,
    /// Sequences that it reads too.
    sequences: Vec<usize>,
    invariants: Vec<usize>,
    /// Sequences with an adjoint, which are the first stacked results.
    stacked: Vec<usize>,
    deferred: Vec<Deferred<Stack>>,
}

/// What one step adds to the adjoint of an invariant.
#[derive(Debug)]
struct Deferred<T> {
    invariant: usize,
    part: Part<T>,
}

#[derive(Debug)]
enum Part<T> {
    /// A `dot-general`, and the order of its axes in the invariant.
    Product {
        sides: [T; 2],
        axes: Box<DotAxes>,
        order: Vec<usize>,
    },
    /// A sum over these axes, in the invariant's shape.
    Sum { of: T, axes: Dims },
}

/// Where all steps' values of a node are.
#[derive(Debug, Clone, Copy)]
enum Stack {
    Operand(usize),
    Result(usize),
    /// A result of the backward scan.
    Backward(usize),
}

/// Contributions to invariants that wait for the end of a body's differentiation.
pub(super) struct Deferral {
    /// The inputs that are differentiable invariants.
    invariants: HashMap<NodeId, usize>,
    /// For each forward node, whether it may differ between steps.
    per_step: Vec<bool>,
    found: Vec<Deferred<NodeId>>,
}

impl Deferral {
    /// Whether all steps' values of the node are worth stacking.
    fn differs(&self, node: NodeId) -> bool {
        // What is not of the forward body comes from an adjoint.
        self.per_step.get(node).copied().unwrap_or(true)
    }
}

/// Derives each `scan` that a gradient flows through, and lets it return what that needs.
///
/// `on_path` is about the nodes of the parser, which were made from `instructions`. When
/// there is a derivation, these have changed and must be parsed again.
pub(super) fn prepare(
    parser: &mut Parser,
    instructions: &mut [Instruction],
    bodies: &mut Vec<Body>,
    on_path: &[bool],
    seeds: &[NodeId],
    known: &mut Known,
) -> Result<Derivations, ProgramError> {
    let mut derivations = Derivations::new();
    let mut reached = None;
    for (position, instruction) in (0..).zip(instructions) {
        if instruction.op != "scan" {
            continue;
        }
        let first = Value {
            instruction: position,
            output: 0,
        };
        let Ok(node) = parser.find(first) else {
            // It has no results.
            continue;
        };
        let Op::Scan(scan) = &parser.graph.nodes[node].op else {
            continue;
        };
        let reached = reached.get_or_insert_with(|| reached_nodes(&parser.graph, on_path, seeds));
        let results = node..node + parser.graph.result_types(node).len();
        let live: Vec<bool> = results
            .map(|result| reached.get(result).copied().unwrap_or(false))
            .collect();
        let operands = parser.graph.nodes[node].operands.iter();
        let active: Vec<bool> = operands
            .map(|&operand| on_path.get(operand).copied().unwrap_or(false))
            .collect();
        if !live.contains(&true) || !active.contains(&true) {
            continue;
        }
        let scan = scan.clone();
        let derived = derive(parser, bodies, &scan, active, live, known)?;
        for (name, attribute) in &mut instruction.attributes {
            if name == "body" {
                *attribute = integer(derived.forward);
            }
        }
        derivations.insert(position, derived);
    }
    Ok(derivations)
}

/// For each node, whether a derivative reaches it from a seed.
fn reached_nodes(graph: &Graph, on_path: &[bool], seeds: &[NodeId]) -> Vec<bool> {
    let mut reached = vec![false; on_path.len()];
    // Operations of which some result is reached.
    let mut passed = vec![false; on_path.len()];
    for &seed in seeds {
        reached[seed] = on_path[seed];
    }
    for node in (0..on_path.len()).rev() {
        let operands = &graph.nodes[node].operands;
        let is_part = matches!(graph.nodes[node].op, Op::Part(_));
        if reached[node] {
            passed[if is_part { operands[0] } else { node }] = true;
        }
        if passed[node] {
            for &operand in operands {
                reached[operand] |= on_path[operand];
            }
        }
    }
    reached
}

/// The derivative of a scan by the inputs of its body that are `active`, where adjoints of
/// the outputs that are `live` are given.
fn derive(
    parser: &mut Parser,
    bodies: &mut Vec<Body>,
    scan: &Scan,
    active: Vec<bool>,
    live: Vec<bool>,
    known: &mut Known,
) -> Result<Rc<Derived>, ProgramError> {
    let graph = &*scan.body.graph;
    let active = active_inputs(graph, scan.carries, active);
    let case = (
        scan.body.index,
        scan.carries,
        scan.sequences,
        active.clone(),
        live.clone(),
    );
    if let Some(derived) = known.get(&case) {
        return Ok(Rc::clone(derived));
    }
    let outer = parser.begin_part();
    let body = bodies[scan.body.index].clone();
    let mut instructions = body.instructions.clone();
    parser.push_all(&instructions)?;
    let mut flow = Flow::new(parser, &body, scan, &active, &live)?;
    let derivations = prepare(
        parser,
        &mut instructions,
        bodies,
        &flow.on_path,
        &flow.seeds(),
        known,
    )?;
    if !derivations.is_empty() {
        parser.clear_part();
        parser.push_all(&instructions)?;
        flow = Flow::new(parser, &body, scan, &active, &live)?;
    }
    let program = Program {
        instructions,
        ..Program::default()
    };
    let empty = Parser::new(Keep::Derivatives);
    let backward = Backward {
        adjoints: vec![None; flow.on_path.len()],
        on_path: flow.on_path.clone(),
        program,
        parser: std::mem::replace(parser, empty),
        label: None,
        derivations,
        deferral: None,
    };
    let joint = Joint::differentiate(backward, flow, scan, &active)?;
    let (forward, backward, mut derived) = joint.split(&body, scan);
    *parser = joint.backward.parser;
    parser.end_part(outer);
    derived.forward = bodies.len();
    parser.body(&forward)?;
    bodies.push(forward);
    derived.backward = bodies.len();
    parser.body(&backward)?;
    bodies.push(backward);
    let derived = Rc::new(derived);
    known.insert(case, Rc::clone(&derived));
    Ok(derived)
}

/// The inputs that a derivative flows to, given those outside of which it does: a carry
/// gets it from any of them by way of an earlier step.
fn active_inputs(graph: &Graph, carries: usize, mut active: Vec<bool>) -> Vec<bool> {
    /// Rounds after which every carry that can be differentiated is.
    const MOST_ROUNDS: usize = 8;
    for round in 0..=MOST_ROUNDS {
        let targets: Vec<NodeId> = input_nodes(graph)
            .filter(|&(input, _)| active[input])
            .map(|(_, node)| node)
            .collect();
        let on_path = nodes_on_path(graph, graph.nodes.len(), &targets);
        let mut changed = false;
        for (active, &output) in active[..carries].iter_mut().zip(&graph.outputs) {
            let flows = on_path[output]
                || (round == MOST_ROUNDS && graph.nodes[output].ty.dtype.is_float());
            changed |= flows && !*active;
            *active |= flows;
        }
        if !changed {
            break;
        }
    }
    active
}

/// The body's inputs and their nodes.
fn input_nodes(graph: &Graph) -> impl Iterator<Item = (usize, NodeId)> {
    let nodes = graph.nodes.iter().enumerate();
    nodes.filter_map(|(id, node)| match node.op {
        Op::Input(index) => Some((index, id)),
        _ => None,
    })
}

/// What flows through the nodes of a body that has just been parsed.
struct Flow {
    inputs: BTreeMap<usize, NodeId>,
    on_path: Vec<bool>,
    /// Carries with an adjoint, and the nodes of their next values.
    carries: Vec<(usize, NodeId)>,
    /// Stacked outputs with an adjoint.
    ups: Vec<(usize, NodeId)>,
}

impl Flow {
    fn new(
        parser: &Parser,
        body: &Body,
        scan: &Scan,
        active: &[bool],
        live: &[bool],
    ) -> Result<Self, ProgramError> {
        let graph = &parser.graph;
        let inputs: BTreeMap<usize, NodeId> = input_nodes(graph).collect();
        let targets: Vec<NodeId> = inputs
            .iter()
            .filter(|&(&input, _)| active[input])
            .map(|(_, &node)| node)
            .collect();
        let on_path = nodes_on_path(graph, graph.nodes.len(), &targets);
        let outputs = body.outputs.iter().enumerate().map(|(place, &value)| {
            let node = parser.find(value).map_err(ProgramError::whole_program);
            node.map(|node| (place, node))
        });
        let outputs: Vec<(usize, NodeId)> = outputs.collect::<Result<_, _>>()?;
        let (carries, stacked) = outputs.split_at(scan.carries);
        let is_float = |node: NodeId| graph.nodes[node].ty.dtype.is_float();
        let carries = carries.iter().copied();
        let carries = carries.filter(|&(place, node)| active[place] && is_float(node));
        let stacked = stacked.iter().copied();
        let ups = stacked.filter(|&(place, node)| live[place] && on_path[node]);
        let (carries, ups) = (carries.collect(), ups.collect());
        Ok(Self {
            inputs,
            on_path,
            carries,
            ups,
        })
    }

    /// The nodes that adjoints come in at.
    fn seeds(&self) -> Vec<NodeId> {
        let all = self.carries.iter().chain(&self.ups);
        all.map(|&(_, node)| node)
            .filter(|&node| self.on_path[node])
            .collect()
    }
}

/// A body and its derivative, as one list of instructions.
struct Joint {
    backward: Backward,
    flow: Flow,
    /// Nodes and instructions of the body itself.
    forward_nodes: usize,
    forward_instructions: usize,
    per_step: Vec<bool>,
    /// The inputs that stand for adjoints of the carries, then of the stacked outputs.
    adjoint_inputs: Vec<NodeId>,
    carries: Vec<NodeId>,
    /// Adjoints of sequences and invariants.
    stacked: Vec<(usize, NodeId)>,
    summed: Vec<(usize, NodeId)>,
    deferred: Vec<Deferred<NodeId>>,
}

impl Joint {
    fn differentiate(
        mut backward: Backward,
        flow: Flow,
        scan: &Scan,
        active: &[bool],
    ) -> Result<Self, ProgramError> {
        let forward_nodes = backward.parser.graph.nodes.len();
        let forward_instructions = backward.program.instructions.len();
        let invariants_from = scan.carries + scan.sequences;
        let per_step = per_step(&backward.parser.graph, invariants_from);
        let is_float = |backward: &Backward, node| backward.ty(node).dtype.is_float();
        let differentiable = |backward: &Backward, from: usize, to: usize| -> Vec<_> {
            let range = flow.inputs.range(from..to);
            range
                .filter(|&(&input, &node)| active[input] && is_float(backward, node))
                .map(|(&input, &node)| (input, node))
                .collect()
        };
        let sequences = differentiable(&backward, scan.carries, invariants_from);
        let invariants = differentiable(&backward, invariants_from, usize::MAX);
        backward.deferral = Some(Deferral {
            invariants: invariants
                .iter()
                .map(|&(input, node)| (node, input))
                .collect(),
            per_step: per_step.clone(),
            found: Vec::new(),
        });

        let mut adjoint_inputs = Vec::new();
        for &(_, node) in flow.carries.iter().chain(&flow.ups) {
            let ty = backward.ty(node);
            let index = flow.inputs.len() + adjoint_inputs.len();
            let attributes = input(index, ty);
            let adjoint = backward.op_with("input", &[], &attributes)?;
            adjoint_inputs.push(adjoint);
            backward.add_to(node, |_| Ok(adjoint))?;
        }
        backward.flow(forward_nodes)?;

        let adjoint = |backward: &Backward, node: NodeId| backward.adjoints[node];
        let mut carries = Vec::new();
        for (carry, _) in &flow.carries {
            let node = flow.inputs[carry];
            carries.push(match adjoint(&backward, node) {
                Some(adjoint) => adjoint,
                None => backward.zeros_like(node)?,
            });
        }
        let found = |inputs: Vec<(usize, NodeId)>| -> Vec<(usize, NodeId)> {
            let inputs = inputs.into_iter();
            inputs
                .filter_map(|(input, node)| Some((input, adjoint(&backward, node)?)))
                .collect()
        };
        let (stacked, summed) = (found(sequences), found(invariants));
        let deferral = backward.deferral.take();
        let deferred = deferral.map_or_else(Vec::new, |deferral| deferral.found);
        let mut joint = Self {
            backward,
            flow,
            forward_nodes,
            forward_instructions,
            per_step,
            adjoint_inputs,
            carries,
            stacked,
            summed,
            deferred,
        };
        // What only a definition has made is written out.
        for node in joint.wanted() {
            joint.backward.value(node)?;
        }
        Ok(joint)
    }

    /// The nodes that the backward scan returns in some form.
    fn wanted(&self) -> Vec<NodeId> {
        let pairs = self.stacked.iter().chain(&self.summed);
        let deferred = self
            .deferred
            .iter()
            .flat_map(|deferred| match &deferred.part {
                Part::Product { sides, .. } => sides.to_vec(),
                Part::Sum { of, .. } => vec![*of],
            });
        let carries = self.carries.iter().copied();
        carries
            .chain(pairs.map(|&(_, node)| node))
            .chain(deferred)
            .collect()
    }

    /// Where the value of a node is computed.
    fn name(&self, node: NodeId) -> Value {
        let name = self.backward.parser.name(node);
        name.expect("what is used has been written out")
    }

    fn node(&self, value: Value) -> NodeId {
        let node = self.backward.parser.find(value);
        node.expect("the instructions have been parsed")
    }

    /// Whether the instruction belongs to the backward body alone.
    fn is_backward(&self, position: usize) -> bool {
        let results = self.backward.parser.results(position);
        position >= self.forward_instructions
            && results.iter().any(|&node| node >= self.forward_nodes)
    }

    /// Whether the value of a forward node is computed again in the backward body: it
    /// costs less than a stack, or is the same in each step.
    fn is_repeated(&self, node: NodeId) -> bool {
        let position = self.name(node).instruction as usize;
        let op = self.backward.program.instructions[position].op.as_str();
        let is_view = matches!(
            op,
            "constant" | "iota" | "reshape" | "squeeze" | "transpose" | "broadcast"
        );
        is_view || !self.per_step[node]
    }

    /// The forward body with residuals, the backward body, and how they are used.
    fn split(&self, body: &Body, scan: &Scan) -> (Body, Body, Derived) {
        let invariants_from = scan.carries + scan.sequences;
        let mut needs = Needs {
            joint: self,
            scan,
            repeated: vec![false; self.backward.program.instructions.len()],
            residuals: BTreeSet::new(),
            sequences: BTreeSet::new(),
            invariants: BTreeSet::new(),
        };
        let pairs = self.stacked.iter().chain(&self.summed);
        for node in self
            .carries
            .iter()
            .copied()
            .chain(pairs.map(|&(_, node)| node))
        {
            needs.add(node);
        }
        // Sides of deferred products: the backward body returns what it computes.
        let mut returned: Vec<NodeId> = self.stacked.iter().map(|&(_, node)| node).collect();
        let mut beside: BTreeSet<NodeId> = BTreeSet::new();
        let mut deferred = Vec::new();
        let summed = self.summed.len();
        let mut stack = |node: NodeId, needs: &mut Needs<'_>| {
            if node < self.forward_nodes {
                return match self.backward.parser.graph.nodes[node].op {
                    Op::Input(input) if input >= scan.carries && input < invariants_from => {
                        Side::Operand(input)
                    }
                    _ => {
                        beside.insert(node);
                        Side::Residual(node)
                    }
                };
            }
            needs.add(node);
            let place = returned.iter().position(|&other| other == node);
            let place = place.unwrap_or_else(|| {
                returned.push(node);
                returned.len() - 1
            });
            Side::Backward(self.carries.len() + summed + place)
        };
        for part in &self.deferred {
            deferred.push(Deferred {
                invariant: part.invariant,
                part: match &part.part {
                    Part::Product { sides, axes, order } => Part::Product {
                        sides: sides.map(|node| stack(node, &mut needs)),
                        axes: axes.clone(),
                        order: order.clone(),
                    },
                    Part::Sum { of, axes } => Part::Sum {
                        of: stack(*of, &mut needs),
                        axes: *axes,
                    },
                },
            });
        }
        needs.follow();
        let Needs {
            repeated,
            residuals,
            sequences,
            invariants,
            ..
        } = needs;

        let all: BTreeSet<NodeId> = residuals.union(&beside).copied().collect();
        let forward = self.forward_body(body, &all);
        let place_of: HashMap<NodeId, usize> = all
            .iter()
            .enumerate()
            .map(|(place, &node)| (node, body.outputs.len() + place))
            .collect();
        let inputs = BackwardInputs {
            residuals: residuals.iter().copied().collect(),
            sequences: sequences.iter().copied().collect(),
            invariants: invariants.iter().copied().collect(),
        };
        let backward = self.backward_body(&inputs, &repeated, &returned);
        let resolve = |side: &Side| match *side {
            Side::Operand(input) => Stack::Operand(input),
            Side::Residual(node) => Stack::Result(place_of[&node]),
            Side::Backward(place) => Stack::Backward(place),
        };
        let derived = Derived {
            forward: 0,
            backward: 0,
            carries: self.flow.carries.iter().map(|&(carry, _)| carry).collect(),
            summed: self.summed.iter().map(|&(input, _)| input).collect(),
            ups: self.flow.ups.iter().map(|&(output, _)| output).collect(),
            residuals: inputs.residuals.iter().map(|node| place_of[node]).collect(),
            stacked: self.stacked.iter().map(|&(input, _)| input).collect(),
            sequences: inputs.sequences,
            invariants: inputs.invariants,
            deferred: deferred.iter().map(|part| part.resolve(resolve)).collect(),
        };
        (forward, backward, derived)
    }

    fn forward_body(&self, body: &Body, residuals: &BTreeSet<NodeId>) -> Body {
        let instructions = &self.backward.program.instructions;
        let mut forward = Body {
            instructions: instructions[..self.forward_instructions].to_vec(),
            outputs: body.outputs.clone(),
        };
        let mut places: HashMap<u32, u32> = HashMap::new();
        let moved = |value: Value, places: &HashMap<u32, u32>| {
            let name = self.name(self.node(value));
            let place = places.get(&name.instruction);
            Value {
                instruction: place.copied().unwrap_or(name.instruction),
                ..name
            }
        };
        // Values inside of definitions, written out on the way.
        let later = instructions.iter().enumerate();
        for (position, instruction) in later.skip(self.forward_instructions) {
            if !self.is_backward(position) {
                let mut instruction = instruction.clone();
                for operand in &mut instruction.operands {
                    *operand = moved(*operand, &places);
                }
                places.insert(index(position), index(forward.instructions.len()));
                forward.instructions.push(instruction);
            }
        }
        for &node in residuals {
            forward.outputs.push(moved(self.name(node), &places));
        }
        forward
    }

    fn backward_body(
        &self,
        inputs: &BackwardInputs,
        repeated: &[bool],
        returned: &[NodeId],
    ) -> Body {
        let mut body = Body::default();
        let mut given: HashMap<NodeId, Value> = HashMap::new();
        let ty = |node: NodeId| self.backward.ty(node);
        let pass = |body: &mut Body, ty: TensorType| {
            let index = body.instructions.len();
            body.push("input", &[], &input(index, ty))
        };
        let (carries, ups) = self.adjoint_inputs.split_at(self.carries.len());
        for &node in carries {
            given.insert(node, pass(&mut body, ty(node)));
        }
        let sums: Vec<Value> = self
            .summed
            .iter()
            .map(|&(_, node)| pass(&mut body, ty(node)))
            .collect();
        for &node in ups.iter().chain(&inputs.residuals) {
            given.insert(node, pass(&mut body, ty(node)));
        }
        for input in inputs.sequences.iter().chain(&inputs.invariants) {
            let node = self.flow.inputs[input];
            given.insert(node, pass(&mut body, ty(node)));
        }
        let mut places: HashMap<u32, u32> = HashMap::new();
        let moved = |value: Value, places: &HashMap<u32, u32>| {
            let node = self.node(value);
            given.get(&node).copied().unwrap_or_else(|| {
                let name = self.name(node);
                Value {
                    instruction: places[&name.instruction],
                    ..name
                }
            })
        };
        let instructions = self.backward.program.instructions.iter().enumerate();
        for (position, instruction) in instructions.filter(|&(position, _)| repeated[position]) {
            let mut instruction = instruction.clone();
            for operand in &mut instruction.operands {
                *operand = moved(*operand, &places);
            }
            places.insert(index(position), index(body.instructions.len()));
            body.instructions.push(instruction);
        }
        for &node in &self.carries {
            body.outputs.push(moved(self.name(node), &places));
        }
        for (&(_, node), &sum) in self.summed.iter().zip(&sums) {
            let contribution = moved(self.name(node), &places);
            let sum = body.push("add", &[sum, contribution], &[]);
            body.outputs.push(sum);
        }
        for &node in returned {
            body.outputs.push(moved(self.name(node), &places));
        }
        body
    }
}

/// A stack while it is not known where residuals will be.
#[derive(Debug, Clone, Copy)]
enum Side {
    Operand(usize),
    Residual(NodeId),
    Backward(usize),
}

impl<T: Copy> Deferred<T> {
    fn resolve<U>(&self, to: impl Fn(&T) -> U) -> Deferred<U> {
        let part = match &self.part {
            Part::Product { sides, axes, order } => Part::Product {
                sides: [to(&sides[0]), to(&sides[1])],
                axes: axes.clone(),
                order: order.clone(),
            },
            Part::Sum { of, axes } => Part::Sum {
                of: to(of),
                axes: *axes,
            },
        };
        Deferred {
            invariant: self.invariant,
            part,
        }
    }
}

/// What the backward body is passed behind the adjoints, in this order.
struct BackwardInputs {
    residuals: Vec<NodeId>,
    sequences: Vec<usize>,
    invariants: Vec<usize>,
}

/// What the backward body needs: its instructions, and its inputs.
struct Needs<'a> {
    joint: &'a Joint,
    scan: &'a Scan,
    /// Instructions that are part of it.
    repeated: Vec<bool>,
    residuals: BTreeSet<NodeId>,
    sequences: BTreeSet<usize>,
    invariants: BTreeSet<usize>,
}

impl Needs<'_> {
    fn add(&mut self, node: NodeId) {
        let joint = self.joint;
        let position = joint.name(node).instruction as usize;
        if joint.adjoint_inputs.contains(&node) {
            return;
        }
        if joint.is_backward(position) {
            self.repeated[position] = true;
            return;
        }
        match joint.backward.parser.graph.nodes[node].op {
            Op::Input(input) if input < self.scan.carries => {
                self.residuals.insert(node);
            }
            Op::Input(input) if input < self.scan.carries + self.scan.sequences => {
                self.sequences.insert(input);
            }
            Op::Input(input) => {
                self.invariants.insert(input);
            }
            _ if joint.is_repeated(node) => self.repeated[position] = true,
            _ => {
                self.residuals.insert(node);
            }
        }
    }

    /// Adds what the instructions need in turn. Operands come before their users.
    fn follow(&mut self) {
        for position in (0..self.repeated.len()).rev() {
            if self.repeated[position] {
                let joint = self.joint;
                for &operand in &joint.backward.program.instructions[position].operands {
                    self.add(joint.node(operand));
                }
            }
        }
    }
}

/// For each node of a body, whether it depends on a carry or a sequence.
fn per_step(graph: &Graph, invariants_from: usize) -> Vec<bool> {
    let mut per_step = Vec::with_capacity(graph.nodes.len());
    for node in &graph.nodes {
        let differs = match node.op {
            Op::Input(input) => input < invariants_from,
            _ => node.operands.iter().any(|&operand| per_step[operand]),
        };
        per_step.push(differs);
    }
    per_step
}

fn index(position: usize) -> u32 {
    u32::try_from(position).expect("a program has at most 100,000 instructions")
}

/// The attributes of an `input`.
fn input(index: usize, ty: TensorType) -> [(&'static str, Attribute); 3] {
    [
        ("index", integer(index)),
        ("dtype", ty.dtype.name().into()),
        ("shape", list(ty.shape)),
    ]
}

impl Backward {
    /// Adds a product to the adjoint of `target`, with its axes in the order in which they
    /// belong there; later, and for all steps at once, where that is possible.
    pub(super) fn product_to(
        &mut self,
        target: NodeId,
        sides: [NodeId; 2],
        axes: DotAxes,
        order: Vec<usize>,
    ) -> Result<(), ProgramError> {
        if self.on_path[target]
            && let Some(deferral) = &mut self.deferral
            && let Some(&invariant) = deferral.invariants.get(&target)
            && sides.iter().all(|&side| deferral.differs(side))
        {
            let axes = Box::new(axes);
            let part = Part::Product { sides, axes, order };
            deferral.found.push(Deferred { invariant, part });
            return Ok(());
        }
        self.add_to(target, |this| {
            let product = this.op_with("dot-general", &sides, &dot_attributes(&axes))?;
            this.restore_order(product, &order)
        })
    }

    /// Adds the sum of `up` over `axes`, in the shape of `target`, to its adjoint; later,
    /// and over all steps at once, where that is possible.
    pub(super) fn sum_to(
        &mut self,
        target: NodeId,
        up: NodeId,
        axes: Dims,
    ) -> Result<(), ProgramError> {
        if self.on_path[target]
            && let Some(deferral) = &mut self.deferral
            && let Some(&invariant) = deferral.invariants.get(&target)
            && deferral.differs(up)
        {
            let part = Part::Sum { of: up, axes };
            deferral.found.push(Deferred { invariant, part });
            return Ok(());
        }
        self.add_to(target, |this| {
            let sum = if axes.is_empty() {
                up
            } else {
                this.op_with("reduce-sum", &[up], &[("axes", list(axes))])?
            };
            let shape = this.shape(target);
            this.reshape(sum, shape)
        })
    }

    /// Appends the backward scan of the scan `node`, whose results have the adjoints `ups`.
    pub(super) fn scan(
        &mut self,
        scan: &Scan,
        node: NodeId,
        operands: &Nodes,
        ups: &[Option<NodeId>],
    ) -> Result<(), ProgramError> {
        let name = self.parser.name(node);
        let derived = name.and_then(|name| self.derivations.get(&name.instruction));
        let Some(derived) = derived.map(Rc::clone) else {
            return Ok(());
        };
        let mut passed = Vec::new();
        for &place in derived.carries.iter() {
            passed.push(self.up_or_zeros(ups, node, place)?);
        }
        for &place in &derived.summed {
            passed.push(self.zeros_like(operands[place])?);
        }
        for &place in &derived.ups {
            passed.push(self.up_or_zeros(ups, node, place)?);
        }
        passed.extend(derived.residuals.iter().map(|place| node + place));
        let others = derived.sequences.iter().chain(&derived.invariants);
        passed.extend(others.map(|&place| operands[place]));
        let carries = derived.carries.len() + derived.summed.len();
        let sequences = derived.ups.len() + derived.residuals.len() + derived.sequences.len();
        let attributes = [
            ("body", integer(derived.backward)),
            ("carries", integer(carries)),
            ("sequences", integer(sequences)),
            ("length", integer(scan.length)),
            ("reverse", (!scan.reverse).into()),
        ];
        let results = self.emit("scan", &passed, &attributes)?;

        let flows = derived.carries.iter().chain(&derived.summed);
        for (&place, &result) in flows.chain(&derived.stacked).zip(&results) {
            self.add_to(operands[place], |_| Ok(result))?;
        }
        for deferred in &derived.deferred {
            let target = operands[deferred.invariant];
            let find = |stack: Stack| match stack {
                Stack::Operand(place) => operands[place],
                Stack::Result(place) => node + place,
                Stack::Backward(place) => results[place],
            };
            let later = |axes: &Dims| axes.iter().map(|axis| axis + 1).collect::<Vec<_>>();
            match &deferred.part {
                Part::Product { sides, axes, order } => {
                    let contract = |axes| Dims::collect([0].into_iter().chain(later(axes)));
                    let axes = DotAxes {
                        lhs_batch: Dims::collect(later(&axes.lhs_batch)),
                        rhs_batch: Dims::collect(later(&axes.rhs_batch)),
                        lhs_contract: contract(&axes.lhs_contract),
                        rhs_contract: contract(&axes.rhs_contract),
                    };
                    self.product_to(target, sides.map(find), axes, order.clone())?;
                }
                Part::Sum { of, axes } => {
                    let axes = Dims::collect([0].into_iter().chain(later(axes)));
                    self.sum_to(target, find(*of), axes)?;
                }
            }
        }
        Ok(())
    }

    /// The adjoint of a result; zeros when there is none.
    fn up_or_zeros(
        &mut self,
        ups: &[Option<NodeId>],
        node: NodeId,
        place: usize,
    ) -> Result<NodeId, ProgramError> {
        match ups[place] {
            Some(up) => Ok(up),
            None => self.zeros_like(node + place),
        }
    }
}

fn dot_attributes(axes: &DotAxes) -> [(&'static str, Attribute); 4] {
    [
        ("lhs-batch", list(axes.lhs_batch)),
        ("rhs-batch", list(axes.rhs_batch)),
        ("lhs-contract", list(axes.lhs_contract)),
        ("rhs-contract", list(axes.rhs_contract)),
    ]
}
