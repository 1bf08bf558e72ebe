//! Lowers a checked program to StableHLO, for the compilers behind PJRT plugins.
//!
//! `text` writes single operations; here and in the topics beside it each operation of
//! `docs/programs.md` is put together from them. Where StableHLO leaves a case to the
//! device (integer division by zero, conversions that do not fit, two writers of one
//! element), the text settles it. Statistics and sums of half types are kept in `f32`.

mod element;
mod index;
mod text;

use crate::check::Keep;
use crate::ir::{Graph, NodeId, Op, Reduction};
use crate::shape::TensorType;
use crate::{Program, ProgramError};

use text::{Element, Text, Val};

/// Writes a program as the text of an MLIR module of StableHLO operations.
///
/// Its function `main` takes the inputs, then the state tensors; it returns the outputs,
/// then each updated state in the order of `updates`, which may lie where the state lay.
///
/// # Errors
/// [`ProgramError::Invalid`] when the program breaks a rule.
pub fn stablehlo(program: &Program) -> Result<String, ProgramError> {
    Ok(lower(&Graph::parse(program, Keep::Primitives)?))
}

/// Lowers a program that was parsed to primitive operations.
pub(crate) fn lower(graph: &Graph) -> String {
    let mut lowering = Lowering {
        text: Text::default(),
        graph,
        arguments: Vec::new(),
        values: Vec::with_capacity(graph.nodes.len()),
    };
    for ty in graph.inputs.iter().chain(&graph.states) {
        let argument = lowering.text.argument(*ty);
        lowering.arguments.push(argument);
    }
    for node in 0..graph.nodes.len() {
        // The results of an operation stand behind each other, as its nodes do.
        if !matches!(graph.nodes[node].op, Op::Part(_)) {
            let results = lowering.node(node);
            lowering.values.extend(results);
        }
    }
    lowering.finish()
}

struct Lowering<'a> {
    text: Text,
    graph: &'a Graph,
    /// Inputs, then states.
    arguments: Vec<Val>,
    /// Of the nodes so far.
    values: Vec<Val>,
}

impl Lowering<'_> {
    fn finish(self) -> String {
        let outputs = self.graph.outputs.len();
        let first_state = self.graph.inputs.len();
        let mut aliases = vec![None; self.arguments.len()];
        for (place, &(state, _)) in self.graph.updates.iter().enumerate() {
            aliases[first_state + state] = Some(outputs + place);
        }
        let arguments: Vec<_> = self.arguments.into_iter().zip(aliases).collect();
        let updates = self.graph.updates.iter().map(|&(_, node)| node);
        let results: Vec<Val> = self
            .graph
            .outputs
            .iter()
            .copied()
            .chain(updates)
            .map(|node| self.values[node].clone())
            .collect();
        self.text.module(&arguments, &results)
    }

    /// The values of all results of the operation at a node.
    fn node(&mut self, id: NodeId) -> Vec<Val> {
        let node = &self.graph.nodes[id];
        let types = self.graph.result_types(id);
        match node.op {
            Op::Input(index) => return vec![self.arguments[index].clone()],
            Op::State(index) => {
                return vec![self.arguments[self.graph.inputs.len() + index].clone()];
            }
            _ => {}
        }
        if types.iter().all(|ty| ty.elements() == 0) {
            let types = types.iter();
            return types
                .map(|ty| self.text.empty(ty.dtype.into(), &ty.shape))
                .collect();
        }
        let operands: Vec<Val> = node
            .operands
            .iter()
            .map(|&operand| self.values[operand].clone())
            .collect();
        let operands: Vec<&Val> = operands.iter().collect();
        vec![self.operation(&node.op, &operands, node.ty)]
    }

    /// An operation of one result, which has elements.
    fn operation(&mut self, op: &Op, operands: &[&Val], ty: TensorType) -> Val {
        let text = &mut self.text;
        let (element, shape) = (Element::from(ty.dtype), &*ty.shape);
        match (op, operands) {
            (Op::Fill(literal), _) => text.fill(*literal, shape),
            (Op::Data(bytes), _) => text.data(element, shape, bytes),
            (Op::Iota { axis }, _) => text.iota(element, shape, *axis),
            (Op::Element(op), _) => text.elementwise(*op, operands, element),
            (Op::StopGradient, [x]) => (*x).clone(),
            (Op::Reshape, [x]) => text.reshape(x, shape),
            (Op::Transpose(permutation), [x]) => text.transpose(x, permutation),
            (Op::Broadcast(axes), [x]) => text.broadcast(x, shape, axes),
            (Op::Reduce { kind, axes }, [x]) => text.reduction(*kind, x, axes),
            (Op::ArgMax { axis, least }, [x]) => {
                let name = if *least { "minimum" } else { "maximum" };
                text.arg_extreme(name, x, *axis)
            }
            (Op::Dot(axes), [a, b]) => text.product(a, b, axes, shape),
            (Op::Take { axis }, [data, indices]) => text.take(data, indices, *axis, shape),
            (Op::ScatterAdd { axis }, [data, indices, updates]) => {
                text.scatter_slices("add", data, indices, updates, *axis)
            }
            (Op::OneHot, [indices]) => text.one_hot(indices, element, shape),
            (op, _) => unreachable!("{op:?} is not primitive, or has other operands"),
        }
    }
}

impl Text {
    /// The value in the type in which its sums are kept.
    fn widen(&mut self, x: &Val) -> Val {
        self.convert(x, accumulator(x.element))
    }

    /// Combines the elements along `axes`.
    fn reduction(&mut self, kind: Reduction, x: &Val, axes: &[usize]) -> Val {
        let wide = self.widen(x);
        let reduced = match kind {
            Reduction::Sum => self.sum(&wide, axes),
            Reduction::Mean => {
                let sum = self.sum(&wide, axes);
                let count: usize = axes.iter().map(|&axis| wide.shape[axis]).product();
                #[expect(clippy::cast_precision_loss, reason = "a mean is rounded anyway")]
                let count = self.number(sum.element, &sum.shape, count as f64);
                self.map("divide", &[&sum, &count])
            }
            Reduction::Max => self.extreme("maximum", &wide, axes),
            Reduction::Min => self.extreme("minimum", &wide, axes),
            Reduction::Product => {
                let one = self.integer(wide.element, &[], 1);
                self.reduce("multiply", &wide, &one, axes)
            }
            Reduction::Any | Reduction::All => {
                let all = kind == Reduction::All;
                let initial = self.flag(&[], all);
                self.reduce(if all { "and" } else { "or" }, &wide, &initial, axes)
            }
        };
        self.convert(&reduced, x.element)
    }

    fn sum(&mut self, x: &Val, axes: &[usize]) -> Val {
        let zero = self.integer(x.element, &[], 0);
        self.reduce("add", x, &zero, axes)
    }

    /// The `maximum` or `minimum` along `axes`; NaN when there is one.
    fn extreme(&mut self, name: &str, x: &Val, axes: &[usize]) -> Val {
        let initial = if name == "maximum" {
            self.lowest(x.element, &[])
        } else {
            self.highest(x.element, &[])
        };
        self.reduce(name, x, &initial, axes)
    }

    /// Where the extreme is: the first of equals, a NaN before every number.
    fn arg_extreme(&mut self, name: &str, x: &Val, axis: usize) -> Val {
        let extreme = self.extreme(name, x, &[axis]);
        let extreme = self.spread(&extreme, &x.shape, axis);
        // A NaN makes the extreme NaN, which equals nothing; then only NaN is found.
        let mut found = self.compare("EQ", x, &extreme);
        if x.element.is_float() {
            let nan = self.compare("NE", x, x);
            found = self.map("or", &[&found, &nan]);
        }
        let place = self.iota(Element::I32, &x.shape, axis);
        let nowhere = self.integer(Element::I32, &x.shape, i64::from(i32::MAX));
        let place = self.select(&found, &place, &nowhere);
        self.extreme("minimum", &place, &[axis])
    }

    /// Repeats `x`, which lacks `axis`, along it.
    fn spread(&mut self, x: &Val, shape: &[usize], axis: usize) -> Val {
        let axes: Vec<usize> = (0..shape.len()).filter(|&other| other != axis).collect();
        self.broadcast(x, shape, &axes)
    }

    fn product(&mut self, a: &Val, b: &Val, axes: &crate::ir::DotAxes, shape: &[usize]) -> Val {
        let wide = accumulator(a.element);
        if a.elements() == 0 || b.elements() == 0 {
            return self.integer(a.element, shape, 0);
        }
        let batch: [&[usize]; 2] = [&axes.lhs_batch, &axes.rhs_batch];
        let contract: [&[usize]; 2] = [&axes.lhs_contract, &axes.rhs_contract];
        let product = self.dot(a, b, batch, contract, wide);
        self.convert(&product, a.element)
    }
}

/// The type in which sums and products of these elements are kept.
fn accumulator(element: Element) -> Element {
    match element {
        Element::Program(dtype) => dtype.wide().into(),
        Element::U64 => element,
    }
}
