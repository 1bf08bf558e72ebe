//! From nodes to kernels: what is fused, what is a view, what is written to memory.
//!
//! Nodes are visited once, in order. Reshapes, transposes and broadcasts become views of
//! the value they look at. An elementwise node joins the group of its operands as long as
//! nothing outside has read from that group: until then the group's kernel may still move
//! down to the newest member. The first outside reader seals a group, so groups can never
//! wait for each other in a circle. Later nodes join only if all they need beside the group
//! was ready before that reader.

mod control;
mod indexing;
mod neural;
mod order;
mod random;
mod shape;

use super::Bodies;
use super::group::Group;
use super::recompute::recompute;
use crate::composite::Composite;
use crate::cpu::{
    self, ArgMax, Dot, Kernel, Plain, PlainOp, Reduce, Softmax, Take, TileOp, ValueId,
};
use crate::ir::{Binary, DotAxes, Element, Graph, Literal, NodeId, Op};
use crate::shape::{Dims, TensorType};
use crate::tensor::Tensor;
use crate::{Budget, DType, ProgramError};

/// The most operations in one group; bounds a kernel's slots.
pub(super) const MOST_MEMBERS: usize = 64;

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    Input(usize),
    State(usize),
    Constant(usize),
    Kernel,
}

/// Something that can lie in memory: a root of views.
#[derive(Debug, Clone, Copy)]
pub(super) struct ValueInfo {
    pub(super) ty: TensorType,
    pub(super) origin: Origin,
    /// The group that computes it.
    pub(super) group: Option<usize>,
    /// When it was made.
    pub(super) time: usize,
    /// Whether it is needed in memory, and not only inside its group.
    pub(super) stored: bool,
}

/// How a node's elements are found.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source {
    /// Every element is the same.
    Literal(Literal),
    View(View),
}

/// A value seen through strides, in elements, per dimension of the node.
#[derive(Debug, Clone, Copy)]
pub(super) struct View {
    pub(super) value: ValueId,
    /// The element of the value that is the view's first.
    pub(super) offset: usize,
    /// Steps backwards are the two's complement of their length, so sums that wrap around
    /// are right.
    pub(super) strides: Dims,
    /// How many elements the value has.
    elements: usize,
}

impl View {
    pub(super) fn whole(value: ValueId, shape: &Dims) -> Self {
        Self {
            value,
            offset: 0,
            strides: shape.row_major_strides(),
            elements: shape.product(),
        }
    }

    /// The view through other strides.
    pub(super) fn with_strides(self, strides: Dims) -> Self {
        Self { strides, ..self }
    }

    /// Whether every element is the same.
    pub(super) fn is_scalar(&self, shape: &Dims) -> bool {
        (0..shape.len()).all(|axis| shape[axis] <= 1 || self.strides[axis] == 0)
    }

    /// Whether no step goes backwards.
    fn goes_forward(&self) -> bool {
        self.strides.iter().all(|stride| stride.cast_signed() >= 0)
    }

    /// Whether the view is the value: all of its elements in order.
    pub(super) fn is_whole(&self, shape: &Dims) -> bool {
        shape.product() == self.elements && self.is_row_major(shape)
    }

    /// Whether the elements follow each other in memory as in the shape.
    pub(super) fn is_row_major(&self, shape: &Dims) -> bool {
        let expected = shape.row_major_strides();
        (0..shape.len()).all(|axis| shape[axis] <= 1 || self.strides[axis] == expected[axis])
    }
}

/// The kernels of a program in an order in which they can run.
pub(super) struct Lowered {
    pub(super) values: Vec<ValueInfo>,
    pub(super) kernels: Vec<Kernel>,
    pub(super) constants: Vec<Tensor>,
    /// Per output, a value with its elements in order.
    pub(super) outputs: Vec<ValueId>,
    /// Index of the state, and the value that replaces it: never a state itself.
    pub(super) updates: Vec<(usize, ValueId)>,
}

/// Lowers a checked program, whose `turned` inputs are matrices that lie in memory with their
/// columns one after another.
///
/// # Errors
/// [`ProgramError::OutOfMemory`] when the constants do not fit the budget.
pub(super) fn lower(
    graph: &Graph,
    turned: &[usize],
    budget: &Budget,
    bodies: &mut Bodies,
) -> Result<Lowered, ProgramError> {
    let live = live_nodes(graph);
    let mut lowering = Lowering {
        graph,
        turned,
        budget,
        bodies,
        sources: vec![None; graph.nodes.len()],
        copies: vec![None; graph.nodes.len()],
        values: Vec::new(),
        groups: Vec::new(),
        kernels: Vec::new(),
        constants: Vec::new(),
        clock: 0,
    };
    for node in (0..graph.nodes.len()).filter(|&node| live[node]) {
        if matches!(graph.nodes[node].op, Op::Part(_)) {
            // Its operation has set it.
            continue;
        }
        lowering.clock += 1;
        let source = lowering.node(node)?;
        lowering.sources[node] = Some(source);
    }
    let outputs = graph.outputs.iter().map(|&node| lowering.in_memory(node));
    let outputs = outputs.collect();
    let mut updates = Vec::with_capacity(graph.updates.len());
    for &(state, node) in &graph.updates {
        updates.push((state, lowering.replacement(node)));
    }
    Ok(lowering.finish(outputs, updates))
}

/// The nodes that an output or update depends on.
fn live_nodes(graph: &Graph) -> Vec<bool> {
    let mut live = vec![false; graph.nodes.len()];
    for &node in &graph.outputs {
        live[node] = true;
    }
    for &(_, node) in &graph.updates {
        live[node] = true;
    }
    for node in (0..graph.nodes.len()).rev() {
        if live[node] {
            for &operand in graph.nodes[node].operands.iter() {
                live[operand] = true;
            }
        }
    }
    live
}

struct Lowering<'a> {
    graph: &'a Graph,
    turned: &'a [usize],
    budget: &'a Budget,
    bodies: &'a mut Bodies,
    /// Per node, once visited.
    sources: Vec<Option<Source>>,
    /// Per node, a copy of its elements in order.
    copies: Vec<Option<ValueId>>,
    values: Vec<ValueInfo>,
    groups: Vec<Group>,
    /// With the time of each, in half steps of the clock.
    kernels: Vec<(usize, Kernel)>,
    constants: Vec<Tensor>,
    /// Counts what is made; kernels run in its order, groups at their newest member's time.
    clock: usize,
}

impl<'a> Lowering<'a> {
    fn node(&mut self, id: NodeId) -> Result<Source, ProgramError> {
        let graph: &'a Graph = self.graph;
        let node = &graph.nodes[id];
        let operands = &node.operands;
        Ok(match &node.op {
            Op::Input(index) if self.turned.contains(index) => {
                let turned = control::turned(&node.ty);
                let value = self.value(turned, Origin::Input(*index), None);
                let strides = turned.shape.row_major_strides();
                let strides = Dims::collect(strides.iter().rev().copied());
                Source::View(View::whole(value, &turned.shape).with_strides(strides))
            }
            Op::Input(index) => self.root(node.ty, Origin::Input(*index)),
            Op::State(index) => self.root(node.ty, Origin::State(*index)),
            Op::Fill(literal) => Source::Literal(*literal),
            Op::Data(bytes) => self.data(node.ty, bytes)?,
            Op::Iota { axis } => self.iota(node.ty, *axis),
            Op::Element(op) => {
                let sources: Vec<Source> = operands.iter().map(|&node| self.source(node)).collect();
                let from = graph.nodes[operands[operands.len() - 1]].ty.dtype;
                self.element(*op, from, node.ty, &sources)
            }
            Op::StopGradient => self.source(operands[0]),
            Op::Reshape => match self.source(operands[0]) {
                Source::View(view) if view.is_row_major(&graph.nodes[operands[0]].ty.shape) => {
                    Source::View(view.with_strides(node.ty.shape.row_major_strides()))
                }
                Source::View(_) => {
                    let value = self.in_memory(operands[0]);
                    Source::View(View::whole(value, &node.ty.shape))
                }
                literal @ Source::Literal(_) => literal,
            },
            Op::Transpose(permutation) => self.view(operands[0], |view| {
                Dims::collect(permutation.iter().map(|&axis| view.strides[axis]))
            }),
            Op::Broadcast(axes) => {
                let from = graph.nodes[operands[0]].ty.shape;
                self.view(operands[0], |view| {
                    Dims::collect((0..node.ty.shape.len()).map(|axis| {
                        match axes.iter().position(|&other| other == axis) {
                            Some(place) if from[place] == node.ty.shape[axis] => {
                                view.strides[place]
                            }
                            _ => 0,
                        }
                    }))
                })
            }
            Op::Reduce { axes, .. } if axes.is_empty() => self.source(operands[0]),
            Op::Reduce { kind, axes } => {
                let ty = graph.nodes[operands[0]].ty.widened();
                let reduce = Reduce::new(*kind, &ty, axes);
                self.plain_widened(PlainOp::Reduce(reduce), operands[0], node.ty)
            }
            Op::ArgMax { axis, least } => {
                let ty = &graph.nodes[operands[0]].ty;
                let arg_max = ArgMax {
                    least: *least,
                    dtype: ty.dtype.wide(),
                    size: ty.shape[*axis],
                    inner: after(&ty.shape, *axis),
                };
                let operand = self.widened_in_memory(operands[0]);
                self.plain_on(PlainOp::ArgMax(arg_max), vec![operand], node.ty)
            }
            Op::Dot(axes) => self.dot(axes, [operands[0], operands[1]], node.ty),
            Op::Scan(scan) => self.scan(scan, operands, id)?,
            Op::While(looped) => self.while_loop(looped, operands, id)?,
            Op::Part(_) => unreachable!("set by the operation that it is a part of"),
            Op::Composite(composite) => self.composite(composite, operands, id)?,
            Op::Take { axis } => {
                let (data, indices) = (&graph.nodes[operands[0]].ty, &graph.nodes[operands[1]].ty);
                let take = Take {
                    index_dtype: indices.dtype,
                    rows: data.shape[*axis],
                    taken: indices.elements(),
                    row_bytes: after(&data.shape, *axis).saturating_mul(data.dtype.size()),
                };
                self.plain(PlainOp::Take(take), operands, node.ty)
            }
            Op::TakeAlong { axis } => self.take_along(*axis, operands, node.ty),
            Op::ScatterAdd { axis } => self.scatter_add(*axis, operands, node.ty),
            Op::ScatterSet { axis } => self.scatter_set(*axis, operands, node.ty),
            Op::ScatterAddAlong { axis } => self.scatter_add_along(*axis, operands, node.ty),
            Op::Concatenate { axis } => self.concatenate(*axis, operands, node.ty),
            Op::Slice(slice) => self.slice(slice, operands[0]),
            Op::Pad(padding) => self.pad(padding, [operands[0], operands[1]], node.ty),
            Op::Reverse(axes) => self.reverse(axes, operands[0]),
            Op::DynamicSlice => self.dynamic_slice([operands[0], operands[1]], node.ty),
            Op::DynamicUpdateSlice => {
                self.dynamic_update_slice([operands[0], operands[1], operands[2]], node.ty)
            }
            Op::Cumulative(cumulative) => self.cumulative(*cumulative, operands[0], node.ty),
            Op::Sort { axis, descending } => {
                self.order((*axis, node.ty.shape[*axis], *descending), operands[0], id)
            }
            Op::TopK { axis, k } => self.order((*axis, *k, true), operands[0], id),
            Op::RandomBits { stream } => self.random_bits(*stream, operands[0], node.ty),
            Op::RandomFold => self.plain(PlainOp::RandomFold, operands, node.ty),
            Op::OneHot => self.one_hot(operands[0], node.ty),
            Op::Convolution(convolution) => self.convolution(convolution, operands, id)?,
            Op::MaxPool(window) => self.max_pool(window, operands, id)?,
            Op::AveragePool(pool) => self.average_pool(pool, operands, id)?,
        })
    }

    /// The source of a node that was visited.
    fn source(&self, node: NodeId) -> Source {
        self.sources[node].expect("operands come before their users, and are live with them")
    }

    fn root(&mut self, ty: TensorType, origin: Origin) -> Source {
        let value = self.value(ty, origin, None);
        Source::View(View::whole(value, &ty.shape))
    }

    fn value(&mut self, ty: TensorType, origin: Origin, group: Option<usize>) -> ValueId {
        self.values.push(ValueInfo {
            ty,
            origin,
            group,
            time: self.clock,
            stored: false,
        });
        self.values.len() - 1
    }

    fn data(&mut self, ty: TensorType, data: &[u8]) -> Result<Source, ProgramError> {
        if ty.elements() == 1 {
            let element = if ty.dtype == DType::Bool {
                &[u8::from(data[0] != 0)]
            } else {
                data
            };
            return Ok(Source::Literal(Literal::new(ty.dtype, element)));
        }
        let shape: Vec<u64> = ty.shape.iter().map(|&size| size as u64).collect();
        let tensor = Tensor::from_bytes(ty.dtype, &shape, data, self.budget)?;
        self.constants.push(tensor);
        Ok(self.root(ty, Origin::Constant(self.constants.len() - 1)))
    }

    fn view(&self, operand: NodeId, strides: impl FnOnce(&View) -> Dims) -> Source {
        match self.source(operand) {
            Source::View(view) => Source::View(view.with_strides(strides(&view))),
            literal @ Source::Literal(_) => literal,
        }
    }

    /// Marks a value as read from memory, which ends the growth of its group.
    fn read(&mut self, value: ValueId) {
        self.values[value].stored = true;
        if let Some(group) = self.values[value].group {
            let root = self.root_group(group);
            self.groups[root].sealed_at.get_or_insert(self.clock);
        }
    }

    fn root_group(&self, mut group: usize) -> usize {
        while let Some(merged) = self.groups[group].merged_into {
            group = merged;
        }
        group
    }

    /// A value with the node's elements in order, in memory; copies them when they are not.
    fn in_memory(&mut self, node: NodeId) -> ValueId {
        let ty = self.graph.nodes[node].ty;
        let source = self.source(node);
        // A view without elements may be one of a value that has some.
        if let Source::View(view) = source
            && view.is_whole(&ty.shape)
        {
            self.read(view.value);
            return view.value;
        }
        if let Some(copy) = self.copies[node] {
            return copy;
        }
        let copy = self.copy(source, ty);
        self.copies[node] = Some(copy);
        copy
    }

    /// A value to replace a state with. Another state may be replaced before it is read,
    /// so it is copied.
    fn replacement(&mut self, node: NodeId) -> ValueId {
        let value = self.in_memory(node);
        if !matches!(self.values[value].origin, Origin::State(_)) {
            return value;
        }
        self.copy(self.source(node), self.graph.nodes[node].ty)
    }

    fn copy(&mut self, source: Source, ty: TensorType) -> ValueId {
        if let Source::View(view) = source {
            if !view.is_whole(&ty.shape) {
                return self.copied_view(view, ty);
            }
            self.read(view.value);
        }
        self.clock += 1;
        let group = self.new_group(ty.shape);
        let value = self.member(group, TileOp::Copy, ty.dtype, ty, &[source]);
        self.read(value);
        value
    }

    fn new_group(&mut self, shape: Dims) -> usize {
        self.groups.push(Group::new(shape));
        self.groups.len() - 1
    }

    fn member(
        &mut self,
        group: usize,
        op: TileOp,
        from: DType,
        ty: TensorType,
        operands: &[Source],
    ) -> ValueId {
        let value = self.value(ty, Origin::Kernel, Some(group));
        self.groups[group].push_operation(self.clock, value, op, [from, ty.dtype], operands);
        value
    }

    fn element(&mut self, op: Element, from: DType, ty: TensorType, operands: &[Source]) -> Source {
        if let Some(source) = simplified(op, from, ty.dtype, operands) {
            return source;
        }
        if let Some(group) = self.group_to_join_late(&ty.shape, operands) {
            for operand in operands {
                if let Source::View(view) = operand
                    && self.group_of_shape(view, &ty.shape) != Some(group)
                {
                    self.read(view.value);
                }
            }
            let value = self.member(group, TileOp::Element(op), from, ty, operands);
            return Source::View(View::whole(value, &ty.shape));
        }
        // What lies outside any group that could be joined is read first: that may seal
        // a group which would otherwise have been joined.
        for operand in operands {
            if let Source::View(view) = operand
                && !self.can_join(view, &ty.shape)
            {
                self.read(view.value);
            }
        }
        let mut candidates = [0; 3];
        let mut count = 0;
        for operand in operands {
            if let Source::View(view) = operand {
                match self.values[view.value].group {
                    Some(group) if self.can_join(view, &ty.shape) => {
                        let root = self.root_group(group);
                        if !candidates[..count].contains(&root) {
                            candidates[count] = root;
                            count += 1;
                        }
                    }
                    _ => self.read(view.value),
                }
            }
        }
        let group = self.joined_group(&candidates[..count], ty.shape);
        if self.groups[group].is_empty() {
            // Nothing was joined, so every operand comes from memory.
            for operand in operands {
                if let Source::View(view) = operand {
                    self.read(view.value);
                }
            }
        }
        let value = self.member(group, TileOp::Element(op), from, ty, operands);
        Source::View(View::whole(value, &ty.shape))
    }

    /// Whether the view is a plain look at a member of an open group of that shape.
    fn can_join(&self, view: &View, shape: &Dims) -> bool {
        let group = self.group_of_shape(view, shape);
        group.is_some_and(|group| self.groups[group].sealed_at.is_none())
    }

    /// The group of that shape whose member the view is as it is.
    fn group_of_shape(&self, view: &View, shape: &Dims) -> Option<usize> {
        let root = self.root_group(self.values[view.value].group?);
        let fits = self.groups[root].shape == *shape
            && self.values[view.value].ty.shape == *shape
            && view.is_whole(shape);
        fits.then_some(root)
    }

    /// The sealed group that an operation on these operands may join: the one that was
    /// sealed last, if none is open and all others were ready before.
    ///
    /// What reads a state does not: a kernel that is read from cannot write over states.
    fn group_to_join_late(&self, shape: &Dims, operands: &[Source]) -> Option<usize> {
        let views = || {
            operands.iter().filter_map(|operand| match operand {
                Source::View(view) => Some(view),
                Source::Literal(_) => None,
            })
        };
        let groups = views().filter_map(|view| self.group_of_shape(view, shape));
        let (sealed_at, group) = groups
            .map(|group| (self.groups[group].sealed_at.unwrap_or(usize::MAX), group))
            .max()?;
        let was_ready = |view: &View| {
            if self.group_of_shape(view, shape) == Some(group) {
                return true;
            }
            let info = &self.values[view.value];
            match (info.origin, info.group) {
                (Origin::Input(_) | Origin::Constant(_), _) => true,
                (Origin::State(_), _) => false,
                (Origin::Kernel, None) => info.time < sealed_at,
                (Origin::Kernel, Some(other)) => self.groups[self.root_group(other)]
                    .sealed_at
                    .is_some_and(|time| time < sealed_at),
            }
        };
        let may_join = sealed_at < self.clock
            && self.groups[group].len() < MOST_MEMBERS
            && self.groups[group].may_be_joined_late()
            && views().all(was_ready);
        may_join.then_some(group)
    }

    /// The one group that several are merged into; a new one when they would be too large.
    fn joined_group(&mut self, candidates: &[usize], shape: Dims) -> usize {
        let members: usize = candidates
            .iter()
            .map(|&group| self.groups[group].len())
            .sum();
        let Some((&first, others)) = candidates.split_first() else {
            return self.new_group(shape);
        };
        if members >= MOST_MEMBERS {
            return self.new_group(shape);
        }
        for &other in others {
            let members = std::mem::take(&mut self.groups[other].members);
            self.groups[first].members.extend(members);
            self.groups[other].merged_into = Some(first);
        }
        first
    }

    fn iota(&mut self, ty: TensorType, axis: usize) -> Source {
        let group = self.new_group(ty.shape);
        let value = self.value(ty, Origin::Kernel, Some(group));
        let inner = after(&ty.shape, axis);
        self.groups[group].push_iota(self.clock, value, ty.dtype, inner, ty.shape[axis]);
        Source::View(View::whole(value, &ty.shape))
    }

    /// `convert(equal(broadcast(indices), iota))`, in a type that holds every class.
    fn one_hot(&mut self, indices: NodeId, ty: TensorType) -> Source {
        let from = self.graph.nodes[indices].ty.dtype;
        let wide = if from == DType::I64 {
            DType::I64
        } else {
            DType::I32
        };
        let typed = |dtype| TensorType {
            dtype,
            shape: ty.shape,
        };
        let spread = self.view(indices, |view| {
            Dims::collect(view.strides.iter().copied().chain([0]))
        });
        let spread = self.element(Element::Convert, from, typed(wide), &[spread]);
        self.clock += 1;
        let classes = self.iota(typed(wide), ty.shape.len() - 1);
        self.clock += 1;
        let equal = Element::Compare(crate::ir::Compare::Equal);
        let hot = self.element(equal, wide, typed(DType::Bool), &[spread, classes]);
        self.clock += 1;
        self.element(Element::Convert, DType::Bool, ty, &[hot])
    }

    fn plain(&mut self, op: PlainOp, operands: &[NodeId], ty: TensorType) -> Source {
        let operands = operands.iter().map(|&node| self.in_memory(node)).collect();
        self.plain_on(op, operands, ty)
    }

    fn plain_on(&mut self, op: PlainOp, operands: Vec<ValueId>, ty: TensorType) -> Source {
        let results = self.kernel(op, operands, &[ty]);
        Source::View(View::whole(results[0], &ty.shape))
    }

    /// Appends a kernel that writes values of these types.
    fn kernel(
        &mut self,
        op: PlainOp,
        operands: Vec<ValueId>,
        types: &[TensorType],
    ) -> Vec<ValueId> {
        self.clock += 1;
        let results = types.iter().map(|&ty| self.value(ty, Origin::Kernel, None));
        let results: Vec<ValueId> = results.collect();
        if types.iter().any(|ty| ty.elements() > 0) {
            let plain = Plain {
                op,
                operands,
                results: results.clone(),
            };
            let kernel = Kernel::Plain(Box::new(plain));
            self.kernels.push((2 * self.clock, kernel));
        }
        results
    }

    fn composite(
        &mut self,
        composite: &Composite,
        operands: &[NodeId],
        node: NodeId,
    ) -> Result<Source, ProgramError> {
        let Composite::Softmax { axis, log } = *composite else {
            return self.neural(composite, operands, node);
        };
        let ty = self.graph.nodes[node].ty;
        let softmax = Softmax {
            dtype: ty.dtype.wide(),
            log,
            size: ty.shape[axis],
            inner: after(&ty.shape, axis),
        };
        Ok(self.plain_widened(PlainOp::Softmax(softmax), operands[0], ty))
    }

    fn dot(&mut self, axes: &DotAxes, operands: [NodeId; 2], ty: TensorType) -> Source {
        let wide = ty.widened();
        let types = operands.map(|node| self.graph.nodes[node].ty.widened());
        let mut views = operands.map(|node| match self.source(node) {
            Source::View(view) if view.goes_forward() => self.widened(view),
            _ => {
                let value = self.widened_in_memory(node);
                View::whole(value, &self.graph.nodes[node].ty.shape)
            }
        });
        let [left, right] = [0, 1].map(|side| (&types[side], views[side].strides));
        let (mut dot, lhs_fits, rhs_fits) = Dot::new(axes, (left.0, &left.1), (right.0, &right.1));
        if dot.is_none() {
            // An operand whose axes do not merge is copied, with its axes in the order in
            // which they are used; then they do.
            let lhs_order = [
                &*axes.lhs_batch,
                &*axes.lhs_free(types[0].shape.len()),
                &*axes.lhs_contract,
            ];
            let rhs_order = [
                &*axes.rhs_batch,
                &*axes.rhs_contract,
                &*axes.rhs_free(types[1].shape.len()),
            ];
            if !lhs_fits {
                views[0] = self.copy_in_order(views[0], &types[0], &lhs_order.concat());
            }
            if !rhs_fits {
                views[1] = self.copy_in_order(views[1], &types[1], &rhs_order.concat());
            }
            let [left, right] = [0, 1].map(|side| (&types[side], views[side].strides));
            dot = Dot::new(axes, (left.0, &left.1), (right.0, &right.1)).0;
        }
        let dot = dot.expect("axes of a copy are one step apart");
        let dot = dot.with_firsts(views.map(|view| view.offset));
        let values = views.map(|view| {
            self.read(view.value);
            view.value
        });
        let product = self.plain_on(PlainOp::Dot(dot), values.to_vec(), wide);
        self.rounded(product, ty)
    }

    /// A kernel that computes in single precision what is stored in a half type.
    fn plain_widened(&mut self, op: PlainOp, operand: NodeId, ty: TensorType) -> Source {
        let operand = self.widened_in_memory(operand);
        let result = self.plain_on(op, vec![operand], ty.widened());
        self.rounded(result, ty)
    }

    /// A view of half types, in single precision: the whole value is converted as it lies.
    fn widened(&mut self, view: View) -> View {
        let root = self.values[view.value].ty;
        let wide = root.widened();
        self.clock += 1;
        let whole = Source::View(View::whole(view.value, &root.shape));
        match self.element(Element::Convert, root.dtype, wide, &[whole]) {
            Source::View(converted) => View {
                value: converted.value,
                ..view
            },
            Source::Literal(_) => unreachable!("a value in memory is not a literal"),
        }
    }

    /// As [`Lowering::in_memory`], in single precision for half types.
    fn widened_in_memory(&mut self, node: NodeId) -> ValueId {
        let ty = self.graph.nodes[node].ty;
        if ty.dtype == ty.dtype.wide() {
            return self.in_memory(node);
        }
        let wide = ty.widened();
        self.clock += 1;
        let source = self.source(node);
        let source = self.element(Element::Convert, ty.dtype, wide, &[source]);
        match source {
            Source::View(view) if view.is_whole(&ty.shape) => {
                self.read(view.value);
                view.value
            }
            source => self.copy(source, wide),
        }
    }

    /// The other way round.
    fn rounded(&mut self, source: Source, ty: TensorType) -> Source {
        self.clock += 1;
        self.element(Element::Convert, ty.dtype.wide(), ty, &[source])
    }

    /// A view with the same axes of a copy in which they lie in that order.
    fn copy_in_order(&mut self, view: View, ty: &TensorType, order: &[usize]) -> View {
        let shape = Dims::collect(order.iter().map(|&axis| ty.shape[axis]));
        let strides = Dims::collect(order.iter().map(|&axis| view.strides[axis]));
        let source = Source::View(view.with_strides(strides));
        let dtype = ty.dtype;
        let value = self.copy(source, TensorType { dtype, shape });
        let packed = shape.row_major_strides();
        let mut strides = [0; crate::shape::MAX_RANK];
        for (place, &axis) in order.iter().enumerate() {
            strides[axis] = packed[place];
        }
        let strides = Dims::collect(strides[..order.len()].iter().copied());
        View::whole(value, &shape).with_strides(strides)
    }

    fn finish(mut self, outputs: Vec<ValueId>, updates: Vec<(usize, ValueId)>) -> Lowered {
        let replaced = updates.iter().map(|&(_, value)| value);
        recompute(
            &mut self.groups,
            &mut self.values,
            self.kernels.iter().map(|(_, kernel)| kernel),
            outputs.iter().copied().chain(replaced),
        );
        for group in &mut self.groups {
            let stored = |value: ValueId| self.values[value].stored;
            if group.shape.product() > 0
                && let Some((time, fused)) = group.finish(&stored)
            {
                self.kernels.push((time, Kernel::Fused(fused)));
            }
        }
        self.kernels.sort_by_key(|(time, _)| *time);
        Lowered {
            values: self.values,
            kernels: self.kernels.into_iter().map(|(_, kernel)| kernel).collect(),
            constants: self.constants,
            outputs,
            updates,
        }
    }
}

/// Elements of one step along an axis of a row-major array.
fn after(shape: &Dims, axis: usize) -> usize {
    Dims::collect(shape[axis + 1..].iter().copied()).product()
}

/// The source of a result that needs no operation: a constant, or an operand as it is.
fn simplified(op: Element, from: DType, to: DType, operands: &[Source]) -> Option<Source> {
    match (op, operands) {
        (Element::Convert, [source]) if from == to => return Some(*source),
        (Element::Binary(Binary::Multiply), [Source::Literal(one), other])
        | (Element::Binary(Binary::Multiply), [other, Source::Literal(one)])
        | (Element::Binary(Binary::Divide), [other, Source::Literal(one)])
            if one.is_one() =>
        {
            return Some(*other);
        }
        _ => {}
    }
    let mut elements: [&[u8]; 3] = [&[]; 3];
    for (element, operand) in elements.iter_mut().zip(operands) {
        let Source::Literal(literal) = operand else {
            return None;
        };
        *element = literal.element();
    }
    let literal = cpu::evaluate(TileOp::Element(op), from, to, elements);
    Some(Source::Literal(literal))
}
