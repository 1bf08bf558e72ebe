//! Reverse-mode differentiation, as a transformation of programs.
//!
//! Source: Griewank and Walther, "Evaluating Derivatives", 2nd edition, SIAM 2008,
//! section 3.2 (incremental adjoint recursion). Every derivative is written with the
//! operations of the program itself, so a gradient can be differentiated again.

mod indexing;
mod neural;
mod order;
mod scan;
mod shape;
mod window;

use smallvec::SmallVec;

use crate::check::{Keep, Parser};
use crate::composite::Composite;
use crate::emit::{Emit, Emitted, integer, list};
use crate::ir::{Binary, DotAxes, Element, Graph, NodeId, Nodes, Op, Reduction, Unary};
use crate::shape::{Dims, TensorType};
use crate::{Attribute, Instruction, Program, ProgramError, Value};

/// Extends a program by the derivative of a scalar of any float type.
///
/// The result begins with the instructions of `of`, so that values of the one name the
/// same in the other; the gradients, in the order of `with_respect_to`, are
/// appended to its outputs. A value that `output` does not depend on has a gradient of
/// zeros.
///
/// # Errors
/// [`ProgramError::Invalid`] when `of` breaks a rule or would become too long;
/// [`ProgramError::Argument`] when `output` is not a scalar float or a value of
/// `with_respect_to` is not a float.
pub fn gradient(
    of: &Program,
    output: Value,
    with_respect_to: &[Value],
) -> Result<Program, ProgramError> {
    let mut parser = Parser::parse(of, Keep::Derivatives)?;
    let mut arguments = Arguments::new(&parser, output, with_respect_to)?;
    let ty = parser.graph.nodes[arguments.output].ty;
    if !ty.shape.is_empty() {
        return Err(ProgramError::Argument(format!(
            "the value to differentiate is {ty}, but it must be a scalar"
        )));
    }
    let mut program = of.clone();
    let derivations = scan::prepare(
        &mut parser,
        &mut program.instructions,
        &mut program.bodies,
        &arguments.on_path,
        &[arguments.output],
        &mut scan::Known::new(),
    )?;
    if !derivations.is_empty() {
        parser = Parser::parse(&program, Keep::Derivatives)?;
        arguments = Arguments::new(&parser, output, with_respect_to)?;
    }
    let Arguments {
        output,
        targets,
        on_path,
    } = arguments;
    let mut backward = Backward {
        adjoints: vec![None; on_path.len()],
        on_path,
        program,
        parser,
        label: None,
        derivations,
        deferral: None,
    };
    let one = backward.fill(1.0, ty)?;
    backward.adjoints[output] = Some(one);
    backward.flow(output + 1)?;
    for &target in &targets {
        let adjoint = match backward.adjoints.get(target).copied().flatten() {
            Some(adjoint) => adjoint,
            None => backward.zeros_like(target)?,
        };
        let value = backward.value(adjoint)?;
        backward.program.outputs.push(value);
    }
    Ok(backward.program)
}

/// The nodes that a gradient is asked for.
struct Arguments {
    output: NodeId,
    targets: Vec<NodeId>,
    on_path: Vec<bool>,
}

impl Arguments {
    fn new(
        parser: &Parser,
        output: Value,
        with_respect_to: &[Value],
    ) -> Result<Self, ProgramError> {
        let output = argument(parser, output, "the value to differentiate")?;
        let mut targets = Vec::with_capacity(with_respect_to.len());
        for &value in with_respect_to {
            targets.push(argument(parser, value, "a value to differentiate by")?);
        }
        let on_path = nodes_on_path(&parser.graph, output + 1, &targets);
        Ok(Self {
            output,
            targets,
            on_path,
        })
    }
}

fn argument(parser: &Parser, value: Value, what: &str) -> Result<NodeId, ProgramError> {
    let node = parser
        .find(value)
        .map_err(|problem| ProgramError::Argument(format!("{what}: {problem}")))?;
    let ty = parser.graph.nodes[node].ty;
    if !ty.dtype.is_float() {
        return Err(ProgramError::Argument(format!(
            "{what} is {ty}, but it must be a float"
        )));
    }
    Ok(node)
}

/// For each of the first `count` nodes, whether a derivative flows through it to a target.
fn nodes_on_path(graph: &Graph, count: usize, targets: &[NodeId]) -> Vec<bool> {
    let mut on_path = vec![false; count];
    for &target in targets {
        if target < count {
            on_path[target] = true;
        }
    }
    for id in 0..count {
        let node = &graph.nodes[id];
        // Another result gets what the first gets, which need not be a float itself.
        let main = match node.op {
            Op::Part(_) => &graph.nodes[node.operands[0]],
            _ => node,
        };
        let differentiable = !matches!(
            main.op,
            Op::StopGradient | Op::While(_) | Op::Element(Element::Binary(Binary::Remainder))
        );
        if differentiable && node.ty.dtype.is_float() {
            on_path[id] |= main.operands.iter().any(|&operand| on_path[operand]);
        }
    }
    on_path
}

/// A label for what is appended; the length is bounded, since it is repeated.
fn gradient_label(label: &str) -> String {
    let start: String = label.chars().take(80).collect();
    format!("gradient of {start}")
}

/// The program under extension, and the derivative by each node as far as it is known.
struct Backward {
    program: Program,
    parser: Parser,
    adjoints: Vec<Option<NodeId>>,
    on_path: Vec<bool>,
    /// The label of the instructions that are appended now.
    label: Option<String>,
    derivations: scan::Derivations,
    /// In a body, what is left for later.
    deferral: Option<scan::Deferral>,
}

impl Emit for Backward {
    fn ty(&self, node: NodeId) -> TensorType {
        self.parser.graph.nodes[node].ty
    }

    fn emit(
        &mut self,
        name: &str,
        operands: &[NodeId],
        attributes: &[(&str, Attribute)],
    ) -> Result<Nodes, ProgramError> {
        let attributes = attributes.iter();
        let attributes = attributes.map(|(name, value)| ((*name).to_owned(), value.clone()));
        self.append(name, operands, attributes.collect())
    }
}

impl Backward {
    /// Visits the first `count` nodes in reverse, and adds what flows from each to the
    /// adjoints of its operands.
    fn flow(&mut self, count: usize) -> Result<(), ProgramError> {
        for node in (0..count).rev() {
            let ups = self.adjoints_of_results(node);
            let mut results = self.on_path[node..].iter().take(ups.len());
            if results.any(|&on_path| on_path) && ups.iter().any(Option::is_some) {
                self.label = self.label_of(node);
                self.propagate(node, &ups)?;
            }
        }
        self.label = None;
        Ok(())
    }

    /// Appends an instruction to the program and, checked, to the graph.
    fn append(
        &mut self,
        name: &str,
        operands: &[NodeId],
        attributes: Vec<(String, Attribute)>,
    ) -> Result<Nodes, ProgramError> {
        let operands = operands.iter().map(|&node| self.value(node));
        let instruction = Instruction {
            op: name.to_owned(),
            operands: operands.collect::<Result<_, _>>()?,
            attributes,
            label: self.label.clone(),
        };
        let results = self.parser.push(&instruction)?;
        self.program.instructions.push(instruction);
        Ok(results)
    }

    /// A value that names the node. What only the definition of a composite operation has
    /// made is written out; the graph sees that it has it already.
    fn value(&mut self, node: NodeId) -> Result<Value, ProgramError> {
        let (main, output) = match self.parser.graph.nodes[node].op {
            Op::Part(place) => (self.parser.graph.nodes[node].operands[0], place),
            _ => (node, 0),
        };
        if self.parser.name(node).is_none() {
            let recipe = self.parser.recipe(main).cloned();
            let recipe = recipe.expect("a node without a name has a recipe");
            let operands = self.parser.graph.nodes[main].operands.clone();
            self.append(&recipe.op, &operands, recipe.attributes)?;
        }
        let name = self.parser.name(node);
        debug_assert!(output == 0 || name.is_some_and(|name| name.output as usize == output));
        Ok(name.expect("the instruction has just been appended"))
    }

    /// The label for what belongs to the derivative of a node.
    fn label_of(&self, node: NodeId) -> Option<String> {
        let at = self.parser.name(node)?.instruction as usize;
        let label = self.program.instructions[at].label.as_deref();
        label.map(gradient_label)
    }

    /// The adjoints of all results of an operation, as far as there are any.
    fn adjoints_of_results(&self, node: NodeId) -> SmallVec<[Option<NodeId>; 3]> {
        if matches!(self.parser.graph.nodes[node].op, Op::Part(_)) {
            // It belongs to the operation that it is a part of.
            return SmallVec::new();
        }
        let count = self.parser.graph.result_types(node).len();
        let results = node..node + count;
        results
            .map(|result| self.adjoints.get(result).copied().flatten())
            .collect()
    }

    /// Adds what flows from the results of `node`, whose adjoints are `ups`, to its
    /// operands' adjoints.
    fn propagate(&mut self, node: NodeId, ups: &[Option<NodeId>]) -> Result<(), ProgramError> {
        let op = self.parser.graph.nodes[node].op.clone();
        let operands = self.parser.graph.nodes[node].operands.clone();
        if let Op::Scan(scan) = &op {
            return self.scan(scan, node, &operands, ups);
        }
        if let Op::Composite(composite) = &op
            && let Composite::Split { axis, .. } = **composite
        {
            return self.split(axis, node, operands[0], ups);
        }
        // The operations below have one result, or let a gradient through the first alone.
        let Some(up) = ups[0] else {
            return Ok(());
        };
        match op {
            Op::Element(Element::Unary(kind)) => self.unary(kind, node, operands[0], up),
            Op::Element(Element::Binary(kind)) => {
                self.binary(kind, node, [operands[0], operands[1]], up)
            }
            Op::Element(Element::Select) => {
                self.select([operands[0], operands[1], operands[2]], up)
            }
            // Float to float, as integers are not on the path.
            Op::Element(Element::Convert) => self.add_to(operands[0], |this| {
                let dtype = this.ty(operands[0]).dtype;
                this.convert(up, dtype)
            }),
            Op::Reshape => self.add_to(operands[0], |this| {
                let shape = this.shape(operands[0]);
                this.reshape(up, shape)
            }),
            Op::Transpose(permutation) => self.add_to(operands[0], |this| {
                let mut inverse = vec![0; permutation.len()];
                for (place, &axis) in permutation.iter().enumerate() {
                    inverse[axis] = place;
                }
                this.transpose(up, &inverse)
            }),
            Op::Broadcast(axes) => self.broadcast(operands[0], &axes, up),
            Op::Reduce { kind, axes } => self.reduction(kind, &axes, node, operands[0], up),
            Op::Dot(axes) => self.dot(&axes, [operands[0], operands[1]], up),
            Op::Composite(composite) => self.composite(&composite, node, &operands, up),
            Op::Take { axis } => self.take(axis, [operands[0], operands[1]], up),
            Op::Concatenate { axis } => self.concatenate(axis, &operands, up),
            Op::Slice(slice) => self.slice(&slice, operands[0], up),
            Op::Pad(padding) => self.pad(&padding, [operands[0], operands[1]], up),
            Op::Reverse(axes) => self.add_to(operands[0], |this| this.reverse(up, &axes)),
            Op::DynamicSlice => self.dynamic_slice([operands[0], operands[1]], up),
            Op::DynamicUpdateSlice => {
                self.dynamic_update_slice([operands[0], operands[1], operands[2]], up)
            }
            Op::Cumulative(cumulative) => self.cumulative(cumulative, node, operands[0], up),
            Op::Sort { axis, .. } | Op::TopK { axis, .. } => {
                self.order(axis, node, operands[0], up)
            }
            Op::TakeAlong { axis } => self.take_along(axis, [operands[0], operands[1]], up),
            Op::ScatterAddAlong { axis } => {
                self.scatter_add_along(axis, [operands[0], operands[1], operands[2]], up)
            }
            Op::ScatterSet { axis } => {
                self.scatter_set(axis, [operands[0], operands[1], operands[2]], up)
            }
            Op::ScatterAdd { axis } => {
                self.scatter_add(axis, [operands[0], operands[1], operands[2]], up)
            }
            Op::Convolution(convolution) => {
                self.convolution(&convolution, [operands[0], operands[1]], up)
            }
            Op::MaxPool(_) => self.max_pool(operands[0], node + 1, up),
            Op::AveragePool(pool) => self.average_pool(&pool, operands[0], up),
            // Sources, results that are not floats, and operations without a derivative.
            Op::Input(_)
            | Op::State(_)
            | Op::Fill(_)
            | Op::Data(_)
            | Op::Iota { .. }
            | Op::Element(
                Element::Compare(_) | Element::Logic(_) | Element::Not | Element::IsFinite,
            )
            | Op::StopGradient
            | Op::ArgMax { .. }
            | Op::OneHot
            | Op::Scan(_)
            | Op::While(_)
            | Op::RandomBits { .. }
            | Op::RandomFold
            | Op::Part(_) => Ok(()),
        }
    }

    /// Adds a contribution to the adjoint of `operand`; not even emits it when no target
    /// needs it.
    fn add_to(
        &mut self,
        operand: NodeId,
        contribution: impl FnOnce(&mut Self) -> Emitted,
    ) -> Result<(), ProgramError> {
        if !self.on_path[operand] {
            return Ok(());
        }
        let new = contribution(self)?;
        self.adjoints[operand] = Some(match self.adjoints[operand] {
            Some(old) => self.op("add", &[old, new])?,
            None => new,
        });
        Ok(())
    }

    fn unary(&mut self, kind: Unary, y: NodeId, x: NodeId, up: NodeId) -> Result<(), ProgramError> {
        self.add_to(x, |this| match kind {
            Unary::Negate => this.op("negate", &[up]),
            Unary::Abs => {
                let sign = this.op("sign", &[x])?;
                this.multiply(up, sign)
            }
            Unary::Sign | Unary::Floor | Unary::Ceil | Unary::Round => this.zeros_like(x),
            Unary::Square => {
                let twice = this.scale(x, 2.0)?;
                this.multiply(up, twice)
            }
            Unary::Exp => this.multiply(up, y),
            Unary::Expm1 => {
                let one = this.fill(1.0, this.ty(y))?;
                let slope = this.op("add", &[y, one])?;
                this.multiply(up, slope)
            }
            Unary::Log => this.op("divide", &[up, x]),
            Unary::Log1p => {
                let one = this.fill(1.0, this.ty(x))?;
                let sum = this.op("add", &[x, one])?;
                this.op("divide", &[up, sum])
            }
            Unary::Sin => {
                let slope = this.op("cos", &[x])?;
                this.multiply(up, slope)
            }
            Unary::Cos => {
                let sine = this.op("sin", &[x])?;
                let slope = this.op("negate", &[sine])?;
                this.multiply(up, slope)
            }
            Unary::Erf => {
                let square = this.op("square", &[x])?;
                let exponent = this.op("negate", &[square])?;
                let bell = this.op("exp", &[exponent])?;
                let slope = this.scale(bell, std::f64::consts::FRAC_2_SQRT_PI)?;
                this.multiply(up, slope)
            }
            Unary::Sqrt => {
                let half = this.scale(up, 0.5)?;
                this.op("divide", &[half, y])
            }
            Unary::Rsqrt => {
                let square = this.op("square", &[y])?;
                let cube = this.multiply(square, y)?;
                let slope = this.scale(cube, -0.5)?;
                this.multiply(up, slope)
            }
            Unary::Tanh => {
                let square = this.op("square", &[y])?;
                let one = this.fill(1.0, this.ty(y))?;
                let slope = this.op("subtract", &[one, square])?;
                this.multiply(up, slope)
            }
            Unary::Sigmoid => {
                let one = this.fill(1.0, this.ty(y))?;
                let rest = this.op("subtract", &[one, y])?;
                let slope = this.multiply(y, rest)?;
                this.multiply(up, slope)
            }
        })
    }

    fn binary(
        &mut self,
        kind: Binary,
        y: NodeId,
        [a, b]: [NodeId; 2],
        up: NodeId,
    ) -> Result<(), ProgramError> {
        match kind {
            Binary::Add => {
                self.add_to(a, |_| Ok(up))?;
                self.add_to(b, |_| Ok(up))
            }
            Binary::Subtract => {
                self.add_to(a, |_| Ok(up))?;
                self.add_to(b, |this| this.op("negate", &[up]))
            }
            Binary::Multiply => {
                self.add_to(a, |this| this.multiply(up, b))?;
                self.add_to(b, |this| this.multiply(up, a))
            }
            Binary::Divide => {
                self.add_to(a, |this| this.op("divide", &[up, b]))?;
                self.add_to(b, |this| {
                    let slope = this.op("divide", &[y, b])?;
                    let flow = this.multiply(up, slope)?;
                    this.op("negate", &[flow])
                })
            }
            Binary::Maximum => {
                self.add_to(a, |this| this.winner("greater", [a, b], up))?;
                self.add_to(b, |this| this.winner("greater", [b, a], up))
            }
            Binary::Minimum => {
                self.add_to(a, |this| this.winner("less", [a, b], up))?;
                self.add_to(b, |this| this.winner("less", [b, a], up))
            }
            Binary::Power => {
                self.add_to(a, |this| this.power_base([a, b], up))?;
                self.add_to(b, |this| this.power_exponent([a, b], y, up))
            }
            Binary::Atan2 => {
                let squares = [self.op("square", &[a])?, self.op("square", &[b])?];
                let distance = self.op("add", &squares)?;
                let flow = self.op("divide", &[up, distance])?;
                self.add_to(a, |this| this.multiply(flow, b))?;
                self.add_to(b, |this| {
                    let flow = this.multiply(flow, a)?;
                    this.op("negate", &[flow])
                })
            }
            // Never on the path.
            Binary::Remainder => Ok(()),
        }
    }

    /// `up` where `mine` wins the comparison, half of it at a tie, else 0.
    fn winner(&mut self, comparison: &str, [mine, other]: [NodeId; 2], up: NodeId) -> Emitted {
        let zero = self.zeros_like(up)?;
        let half = self.scale(up, 0.5)?;
        let tie = self.op("equal", &[mine, other])?;
        let lost = self.op("select", &[tie, half, zero])?;
        let wins = self.op(comparison, &[mine, other])?;
        self.op("select", &[wins, up, lost])
    }

    /// `b * a^(b-1)`, which is 0 for `b = 0` even where the power is infinite.
    fn power_base(&mut self, [a, b]: [NodeId; 2], up: NodeId) -> Emitted {
        let zero = self.zeros_like(b)?;
        let one = self.fill(1.0, self.ty(b))?;
        let less = self.op("subtract", &[b, one])?;
        let power = self.op("power", &[a, less])?;
        let slope = self.multiply(b, power)?;
        let flow = self.multiply(up, slope)?;
        let constant = self.op("equal", &[b, zero])?;
        self.op("select", &[constant, zero, flow])
    }

    /// `a^b * log(a)`, which is 0 for `a = 0` and `b >= 0` even though the logarithm is infinite.
    fn power_exponent(&mut self, [a, b]: [NodeId; 2], y: NodeId, up: NodeId) -> Emitted {
        let zero = self.zeros_like(a)?;
        let log = self.op("log", &[a])?;
        let slope = self.multiply(y, log)?;
        let flow = self.multiply(up, slope)?;
        let at_zero = self.op("equal", &[a, zero])?;
        let rising = self.op("greater-equal", &[b, zero])?;
        let flat = self.op("and", &[at_zero, rising])?;
        self.op("select", &[flat, zero, flow])
    }

    fn select(
        &mut self,
        [condition, chosen, other]: [NodeId; 3],
        up: NodeId,
    ) -> Result<(), ProgramError> {
        self.add_to(chosen, |this| {
            let zero = this.zeros_like(up)?;
            this.op("select", &[condition, up, zero])
        })?;
        self.add_to(other, |this| {
            let zero = this.zeros_like(up)?;
            this.op("select", &[condition, zero, up])
        })
    }

    /// Sums `up` over the copies that a broadcast made of each element of `x`.
    fn broadcast(&mut self, x: NodeId, axes: &[usize], up: NodeId) -> Result<(), ProgramError> {
        let shape = self.shape(x);
        let wide = self.shape(up);
        let copied = |axis: &usize| match axes.iter().position(|other| other == axis) {
            Some(place) => shape[place] != wide[*axis],
            None => true,
        };
        let summed = Dims::collect((0..wide.len()).filter(copied));
        self.sum_to(x, up, summed)
    }

    fn reduction(
        &mut self,
        kind: Reduction,
        axes: &Dims,
        y: NodeId,
        x: NodeId,
        up: NodeId,
    ) -> Result<(), ProgramError> {
        self.add_to(x, |this| {
            let shape = this.shape(x);
            match kind {
                Reduction::Sum => this.spread(up, shape, axes),
                Reduction::Mean => {
                    let count = Dims::collect(axes.iter().map(|&axis| shape[axis])).product();
                    // A half type has neither large counts nor their reciprocals.
                    let dtype = this.ty(x).dtype;
                    let flow = this.convert(up, dtype.wide())?;
                    let flow = this.scale(flow, 1.0 / count as f64)?;
                    let flow = this.convert(flow, dtype)?;
                    this.spread(flow, shape, axes)
                }
                Reduction::Product => this.product(x, axes, up),
                // Their results are not floats.
                Reduction::Any | Reduction::All => this.zeros_like(x),
                Reduction::Max | Reduction::Min => {
                    let best = this.spread(y, shape, axes)?;
                    let tied = this.op("equal", &[x, best])?;
                    let ones = this.convert(tied, this.ty(x).dtype)?;
                    let count = this.op_with("reduce-sum", &[ones], &[("axes", list(*axes))])?;
                    let share = this.op("divide", &[up, count])?;
                    let flow = this.spread(share, shape, axes)?;
                    let zero = this.zeros_like(x)?;
                    this.op("select", &[tied, flow, zero])
                }
            }
        })
    }

    fn dot(
        &mut self,
        axes: &DotAxes,
        [lhs, rhs]: [NodeId; 2],
        up: NodeId,
    ) -> Result<(), ProgramError> {
        let (lhs_rank, rhs_rank) = (self.shape(lhs).len(), self.shape(rhs).len());
        let (lhs_free, rhs_free) = (axes.lhs_free(lhs_rank), axes.rhs_free(rhs_rank));
        // `up` has the batch axes, then the left operand's free axes, then the right's.
        let batches = axes.lhs_batch.len();
        let up_batch = Dims::collect(0..batches);
        let up_lhs = Dims::collect(batches..batches + lhs_free.len());
        let up_rhs = Dims::collect(batches + lhs_free.len()..self.shape(up).len());
        // Axes of the product: batch, left free, right's contracted in their own order.
        let contracted = partners_in_order(&axes.rhs_contract, &axes.lhs_contract);
        let order = [&*axes.lhs_batch, &*lhs_free, &contracted];
        let by_lhs = DotAxes {
            lhs_batch: up_batch,
            rhs_batch: axes.rhs_batch,
            lhs_contract: up_rhs,
            rhs_contract: rhs_free,
        };
        let (sides, by_lhs, order) = without_transpose([up, rhs], by_lhs, order);
        self.product_to(lhs, sides, by_lhs, order)?;
        let contracted = partners_in_order(&axes.lhs_contract, &axes.rhs_contract);
        let order = [&*axes.rhs_batch, &contracted, &*rhs_free];
        let by_rhs = DotAxes {
            lhs_batch: axes.lhs_batch,
            rhs_batch: up_batch,
            lhs_contract: lhs_free,
            rhs_contract: up_lhs,
        };
        let (sides, by_rhs, order) = without_transpose([lhs, up], by_rhs, order);
        self.product_to(rhs, sides, by_rhs, order)
    }

    fn composite(
        &mut self,
        composite: &Composite,
        y: NodeId,
        operands: &[NodeId],
        up: NodeId,
    ) -> Result<(), ProgramError> {
        match *composite {
            Composite::Softmax { axis, log } => {
                self.add_to(operands[0], |this| this.softmax(axis, log, y, up))
            }
            Composite::Norm { .. } | Composite::BatchNorm { .. } | Composite::Attention { .. } => {
                self.neural(composite, y, operands, up)
            }
            _ => unreachable!("replaced by its definition"),
        }
    }

    fn softmax(&mut self, axis: usize, log: bool, y: NodeId, up: NodeId) -> Emitted {
        let TensorType { dtype, shape } = self.ty(y);
        // Half types would lose the difference to the mean.
        let y = self.convert(y, dtype.wide())?;
        let up = self.convert(up, dtype.wide())?;
        let flow = if log {
            let sum = self.reduce("reduce-sum", up, &[axis])?;
            let sum = self.spread(sum, shape, &[axis])?;
            let probability = self.op("exp", &[y])?;
            let share = self.multiply(probability, sum)?;
            self.subtract(up, share)?
        } else {
            let flow = self.multiply(up, y)?;
            let sum = self.reduce("reduce-sum", flow, &[axis])?;
            let sum = self.spread(sum, shape, &[axis])?;
            let rest = self.subtract(up, sum)?;
            self.multiply(y, rest)?
        };
        self.convert(flow, dtype)
    }

    fn take(
        &mut self,
        axis: usize,
        [data, indices]: [NodeId; 2],
        up: NodeId,
    ) -> Result<(), ProgramError> {
        self.add_to(data, |this| {
            let count = this.ty(indices).elements();
            let flat = this.reshape(indices, Dims::collect([count]))?;
            let mut shape = this.shape(data).to_vec();
            shape[axis] = count;
            let updates = this.reshape(up, Dims::collect(shape))?;
            let zeros = this.zeros_like(data)?;
            let axis = ("axis", integer(axis));
            this.op_with("scatter-add", &[zeros, flat, updates], &[axis])
        })
    }

    fn scatter_add(
        &mut self,
        axis: usize,
        [data, indices, updates]: [NodeId; 3],
        up: NodeId,
    ) -> Result<(), ProgramError> {
        self.add_to(data, |_| Ok(up))?;
        self.add_to(updates, |this| {
            this.op_with("take", &[up, indices], &[("axis", integer(axis))])
        })
    }
}

/// A product whose axes are those of its target in this order: the batch, then what is free
/// on each side. With the sides exchanged where that gives them as the target has them.
fn without_transpose(
    [lhs, rhs]: [NodeId; 2],
    axes: DotAxes,
    [batch, left, right]: [&[usize]; 3],
) -> ([NodeId; 2], DotAxes, Vec<usize>) {
    let order = [batch, left, right].concat();
    let exchanged = [batch, right, left].concat();
    if order.is_sorted() || !exchanged.is_sorted() {
        return ([lhs, rhs], axes, order);
    }
    let axes = DotAxes {
        lhs_batch: axes.rhs_batch,
        rhs_batch: axes.lhs_batch,
        lhs_contract: axes.rhs_contract,
        rhs_contract: axes.lhs_contract,
    };
    ([rhs, lhs], axes, exchanged)
}

/// The entries of `partners`, in the order that sorts `keys`: the free axes of a product
/// keep the order of their operand, not that of the contract list.
fn partners_in_order(keys: &[usize], partners: &[usize]) -> Vec<usize> {
    let mut pairs: Vec<_> = keys.iter().copied().zip(partners.iter().copied()).collect();
    pairs.sort_unstable();
    pairs.into_iter().map(|(_, partner)| partner).collect()
}
