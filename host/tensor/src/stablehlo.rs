//! Lowers a checked program to StableHLO, for the compilers behind PJRT plugins.
//!
//! `text` writes single operations; here and in the topics beside it each operation of
//! `docs/programs.md` is put together from them. Where StableHLO leaves a case to the
//! device (integer division by zero, conversions that do not fit, two writers of one
//! element), the text settles it. Statistics and sums of half types are kept in `f32`.

mod control;
mod element;
mod index;
mod order;
mod random;
mod shape;
mod text;
mod window;

use crate::check::Keep;
use crate::ir::{Graph, NodeId, Op, Reduction};
use crate::shape::TensorType;
use crate::{Program, ProgramError};

use text::{Element, Text, Val};

/// The most values that a text may have. A body is written out wherever it is used, so
/// bodies inside each other can stand for more than any device could compile.
const MOST_VALUES: usize = 1_000_000;

/// Writes a program as the text of an MLIR module of StableHLO operations.
///
/// Its function `main` takes the inputs, then the state tensors; it returns the outputs,
/// then each updated state in the order of `updates`, which may lie where the state lay.
///
/// # Errors
/// [`ProgramError::Invalid`] when the program breaks a rule, or its bodies are too large
/// where they are used.
pub fn stablehlo(program: &Program) -> Result<String, ProgramError> {
    lower(&Graph::parse(program, Keep::Primitives)?)
}

/// Lowers a program that was parsed to primitive operations.
pub(crate) fn lower(graph: &Graph) -> Result<String, ProgramError> {
    let mut text = Text::default();
    let types = graph.inputs.iter().chain(&graph.states);
    let arguments: Vec<Val> = types.map(|&ty| text.argument(ty)).collect();
    let values = text.graph(graph, &arguments)?;

    let updates = graph.updates.iter().map(|&(_, node)| node);
    let results = graph.outputs.iter().copied().chain(updates);
    let results: Vec<Val> = results.map(|node| values[node].clone()).collect();
    let mut aliases = vec![None; arguments.len()];
    for (place, &(state, _)) in graph.updates.iter().enumerate() {
        aliases[graph.inputs.len() + state] = Some(graph.outputs.len() + place);
    }
    let arguments: Vec<_> = arguments.into_iter().zip(aliases).collect();
    Ok(text.module(&arguments, &results))
}

impl Text {
    /// Writes the operations of a graph whose inputs, then states, are `arguments`; returns
    /// the value of each node.
    fn graph(&mut self, graph: &Graph, arguments: &[Val]) -> Result<Vec<Val>, ProgramError> {
        let mut values = Vec::with_capacity(graph.nodes.len());
        for node in 0..graph.nodes.len() {
            // The results of an operation stand behind each other, as its nodes do.
            if !matches!(graph.nodes[node].op, Op::Part(_)) {
                let results = self.node(graph, node, arguments, &values)?;
                values.extend(results);
            }
            if self.values() > MOST_VALUES {
                return Err(ProgramError::whole_program(format!(
                    "with its bodies written out where they are used, the program has more than \
                     {MOST_VALUES} values, the most that an accelerator is given"
                )));
            }
        }
        Ok(values)
    }

    /// The values of all results of the operation at a node.
    fn node(
        &mut self,
        graph: &Graph,
        id: NodeId,
        arguments: &[Val],
        values: &[Val],
    ) -> Result<Vec<Val>, ProgramError> {
        let node = &graph.nodes[id];
        match node.op {
            Op::Input(index) => return Ok(vec![arguments[index].clone()]),
            Op::State(index) => return Ok(vec![arguments[graph.inputs.len() + index].clone()]),
            _ => {}
        }
        let types = graph.result_types(id);
        if types.iter().all(|ty| ty.elements() == 0) {
            let types = types.iter();
            return Ok(types
                .map(|ty| self.empty(ty.dtype.into(), &ty.shape))
                .collect());
        }
        let operands = node.operands.iter();
        let operands: Vec<&Val> = operands.map(|&operand| &values[operand]).collect();
        match &node.op {
            Op::Scan(scan) => self.scan(scan, &operands, &types),
            Op::While(looped) => self.repeat_while(looped, &operands),
            Op::MaxPool(window) => Ok(self.max_pool(operands[0], window, &node.ty.shape).into()),
            Op::Sort { axis, descending } => {
                Ok(self.sorted(operands[0], *axis, *descending).into())
            }
            Op::TopK { axis, k } => Ok(self.top_k(operands[0], *axis, *k).into()),
            op => Ok(vec![self.operation(op, &operands, node.ty)]),
        }
    }

    /// An operation of one result, which has elements.
    fn operation(&mut self, op: &Op, operands: &[&Val], ty: TensorType) -> Val {
        let (element, shape) = (Element::from(ty.dtype), &*ty.shape);
        match (op, operands) {
            (Op::Fill(literal), _) => self.fill(*literal, shape),
            (Op::Data(bytes), _) => self.data(element, shape, bytes),
            (Op::Iota { axis }, _) => self.iota(element, shape, *axis),
            (Op::Element(op), _) => self.elementwise(*op, operands, element),
            (Op::StopGradient, [x]) => (*x).clone(),
            (Op::Reshape, [x]) => self.reshape(x, shape),
            (Op::Transpose(permutation), [x]) => self.transpose(x, permutation),
            (Op::Broadcast(axes), [x]) => self.broadcast(x, shape, axes),
            (Op::Concatenate { axis }, parts) => self.concatenated(parts, *axis),
            (Op::Slice(slice), [x]) => self.strided(x, slice, shape),
            (Op::Pad(padding), [x, value]) => self.padded(x, value, padding, shape),
            (Op::Reverse(axes), [x]) => self.reverse(x, axes),
            (Op::DynamicSlice, [x, starts]) => self.dynamic_slice_at(x, starts, shape),
            (Op::DynamicUpdateSlice, [x, update, starts]) => {
                self.dynamic_update_at(x, update, starts)
            }
            (Op::Reduce { kind, axes }, [x]) => self.reduction(*kind, x, axes),
            (Op::ArgMax { axis, least }, [x]) => {
                let name = if *least { "minimum" } else { "maximum" };
                self.arg_extreme(name, x, *axis)
            }
            (Op::Dot(axes), [a, b]) => self.product(a, b, axes, shape),
            (Op::Take { axis }, [data, indices]) => self.take(data, indices, *axis, shape),
            (Op::TakeAlong { axis }, [data, indices]) => self.take_along(data, indices, *axis),
            (Op::ScatterAdd { axis }, &[data, indices, updates]) => {
                self.scatter_add([data, indices, updates], *axis)
            }
            (Op::ScatterSet { axis }, &[data, indices, updates]) => {
                self.scatter_set([data, indices, updates], *axis)
            }
            (Op::ScatterAddAlong { axis }, &[data, indices, updates]) => {
                self.scatter_add_along([data, indices, updates], *axis)
            }
            (Op::Convolution(convolution), [a, b]) => self.convolve(convolution, [a, b], shape),
            (Op::AveragePool(pool), [x]) => self.average(pool, x, shape),
            (Op::OneHot, [indices]) => self.one_hot(indices, element, shape),
            (Op::Cumulative(cumulative), [x]) => self.running(x, *cumulative),
            (Op::RandomBits { stream }, [key]) => self.random_bits(key, *stream, shape),
            (Op::RandomFold, [key, number]) => self.random_fold(key, number),
            (op, _) => unreachable!("{op:?} is not primitive, or has other operands"),
        }
    }

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
