//! The shape and type rule of each operation.

mod control;
mod indexing;
mod neural;
mod order;
mod random;
mod shape;
mod window;

use std::sync::Arc;

use smallvec::SmallVec;

use super::attributes::{Attributes, wrong_kind};
use super::{Checked, Scope};
use crate::composite::Composite;
use crate::cpu::{TileOp, evaluate};
use crate::ir::{Binary, Compare, DotAxes, Element, Literal, Logic, Op, Real, Reduction, Unary};
use crate::shape::{Dims, MAX_RANK, TensorType};
use crate::window::Wanted;
use crate::{Attribute, DType};

/// An operation of one result, or a sentence on what is wrong.
type One = Result<(Op, TensorType), String>;

/// The operation of that name and the types of its results; the error is a sentence.
pub(super) fn check(
    name: &str,
    operands: &[TensorType],
    attributes: &mut Attributes<'_>,
    scope: &Scope<'_>,
) -> Result<Checked, String> {
    let given = Operands(operands);
    let (op, types) = match name {
        "split" => return shape::split(given.one()?, attributes),
        "sort" => return order::sort(given.one()?, attributes),
        "top-k" => return order::top_k(given.one()?, attributes),
        "scan" => return control::scan(operands, attributes, scope),
        "while" => return control::while_loop(operands, attributes, scope),
        "max-pool" => {
            let (op, types) = window::max_pool(given.one()?, attributes)?;
            (op, SmallVec::from_slice(&types))
        }
        "layer-norm" => neural::norm(&given.three()?, attributes, true)?,
        "layer-norm-gradient" => neural::norm_gradient(given.three()?, attributes, true)?,
        "rms-norm" => neural::norm(&given.two()?, attributes, false)?,
        "rms-norm-gradient" => neural::norm_gradient(given.three()?, attributes, false)?,
        "batch-norm" => neural::batch_norm(given.three()?, attributes)?,
        "batch-norm-gradient" => neural::batch_norm_gradient(given.three()?, attributes)?,
        "attention" => neural::attention(operands, attributes)?,
        "attention-gradient" => neural::attention_gradient(operands, attributes)?,
        _ => {
            let (op, ty) = one_result(name, given, attributes, scope)?;
            (op, SmallVec::from_slice(&[ty]))
        }
    };
    Ok(Checked { op, types })
}

fn one_result(
    name: &str,
    operands: Operands<'_>,
    attributes: &mut Attributes<'_>,
    scope: &Scope<'_>,
) -> One {
    if let Some(kind) = Unary::parse(name) {
        return unary(kind, operands.one()?);
    }
    if let Some(kind) = Binary::parse(name) {
        return binary(kind, operands.two()?);
    }
    if let Some(kind) = Compare::parse(name) {
        let [lhs, rhs] = operands.two()?;
        same_type(lhs, rhs)?;
        return element(Element::Compare(kind), DType::Bool, lhs.shape);
    }
    if let Some(kind) = Logic::parse(name) {
        let [lhs, rhs] = operands.two()?;
        same_type(lhs, rhs)?;
        need_bits(lhs)?;
        return element(Element::Logic(kind), lhs.dtype, lhs.shape);
    }
    if let Some(kind) = Reduction::parse(name) {
        return reduce(kind, operands.one()?, attributes);
    }
    match name {
        "input" => declared(operands, attributes, Op::Input),
        "state" if scope.in_body => {
            Err("a body has no state: pass it as an operand of the operation".to_owned())
        }
        "state" => declared(operands, attributes, Op::State),
        "constant" => constant(operands, attributes),
        "iota" => iota(operands, attributes),
        "not" => {
            let operand = operands.one()?;
            need_bits(operand)?;
            Ok((Op::Element(Element::Not), operand))
        }
        "is-finite" => {
            let operand = operands.one()?;
            need_float(operand)?;
            element(Element::IsFinite, DType::Bool, operand.shape)
        }
        "select" => select(operands.three()?),
        "convert" => {
            let operand = operands.one()?;
            let dtype = attributes.dtype("dtype")?;
            let ty = TensorType::new(dtype, &operand.shape)?;
            Ok((Op::Element(Element::Convert), ty))
        }
        "clamp" => {
            let [x, low, high] = operands.three()?;
            need_number(x)?;
            same_type(x, low)?;
            same_type(x, high)?;
            composite(Composite::Clamp, x)
        }
        "stop-gradient" => Ok((Op::StopGradient, operands.one()?)),
        "reshape" => reshape(operands.one()?, attributes),
        "squeeze" => squeeze(operands.one()?, attributes),
        "transpose" => transpose(operands.one()?, attributes),
        "broadcast" => broadcast(operands.one()?, attributes),
        "reduce-variance" => variance(operands.one()?, attributes),
        "reduce-logsumexp" => {
            let operand = operands.one()?;
            need_float(operand)?;
            let axes = attributes.increasing_axes("axes", operand.shape.len())?;
            let ty = TensorType::new(operand.dtype, &operand.shape.without(&axes))?;
            composite(Composite::LogSumExp { axes }, ty)
        }
        "arg-max" => arg_max(operands.one()?, attributes, false),
        "arg-min" => arg_max(operands.one()?, attributes, true),
        "dot-general" => dot_general(operands.two()?, attributes),
        "convolution" => window::convolution(Wanted::Result, operands.two()?, attributes),
        "convolution-transpose" => {
            window::convolution(Wanted::Operand, operands.two()?, attributes)
        }
        "convolution-kernel" => window::convolution(Wanted::Kernel, operands.two()?, attributes),
        "average-pool" => window::average_pool(operands.one()?, attributes, false),
        "average-pool-transpose" => window::average_pool(operands.one()?, attributes, true),
        "softmax" => softmax(operands.one()?, attributes, false),
        "log-softmax" => softmax(operands.one()?, attributes, true),
        "batch-norm-inference" => batch_norm_inference(operands.exactly()?, attributes),
        "take" => take(operands.two()?, attributes),
        "scatter-add" => scatter_add(operands.three()?, attributes),
        "one-hot" => one_hot(operands.one()?, attributes),
        "concatenate" => shape::concatenate(operands, attributes),
        "slice" => shape::slice(operands.one()?, attributes),
        "pad" => shape::pad(operands.two()?, attributes),
        "pad-edge" => shape::pad_edge(operands.one()?, attributes),
        "reverse" => shape::reverse(operands.one()?, attributes),
        "dynamic-slice" => shape::dynamic_slice(operands.two()?, attributes),
        "dynamic-update-slice" => shape::dynamic_update_slice(operands.three()?),
        "cumulative-sum" => order::cumulative(operands.one()?, attributes, false),
        "cumulative-product" => order::cumulative(operands.one()?, attributes, true),
        "take-along-axis" => indexing::take_along(operands.two()?, attributes),
        "scatter-set" => indexing::scatter_set(operands.three()?, attributes),
        "scatter-add-along-axis" => indexing::scatter_add_along(operands.three()?, attributes),
        "random-bits" => random::bits(operands.one()?, attributes),
        "random-fold" => random::fold(operands.two()?),
        "random-uniform" => random::uniform(operands.one()?, attributes),
        "random-normal" => random::normal(operands.one()?, attributes),
        "random-bernoulli" => random::bernoulli(operands.one()?, attributes),
        "random-permutation" => random::permutation(operands.one()?, attributes),
        "dropout" => random::dropout(operands.two()?, attributes),
        _ => Err("there is no such operation".to_owned()),
    }
}

/// The types of an instruction's operands.
#[derive(Clone, Copy)]
pub(super) struct Operands<'a>(pub(super) &'a [TensorType]);

impl Operands<'_> {
    /// The operands, when there are `N`.
    pub(super) fn exactly<const N: usize>(self) -> Result<[TensorType; N], String> {
        self.0.try_into().map_err(|_| {
            let takes = match N {
                0 => "none".to_owned(),
                count => count.to_string(),
            };
            format!("{} operands are given, but it takes {takes}", self.0.len())
        })
    }

    fn none(self) -> Result<(), String> {
        self.exactly::<0>().map(|_| ())
    }

    fn one(self) -> Result<TensorType, String> {
        self.exactly::<1>().map(|[only]| only)
    }

    fn two(self) -> Result<[TensorType; 2], String> {
        self.exactly()
    }

    fn three(self) -> Result<[TensorType; 3], String> {
        self.exactly()
    }
}

fn element(op: Element, dtype: DType, shape: Dims) -> One {
    Ok((Op::Element(op), TensorType { dtype, shape }))
}

fn composite(composite: Composite, ty: TensorType) -> One {
    Ok((Op::Composite(Box::new(composite)), ty))
}

fn same_type(lhs: TensorType, rhs: TensorType) -> Result<(), String> {
    if lhs == rhs {
        return Ok(());
    }
    Err(format!(
        "the operands are {lhs} and {rhs}, but they must have one type and shape"
    ))
}

fn need_float(operand: TensorType) -> Result<(), String> {
    if operand.dtype.is_float() {
        return Ok(());
    }
    Err(format!("an operand is {operand}, but it must be a float"))
}

fn need_number(operand: TensorType) -> Result<(), String> {
    if operand.dtype.is_number() {
        return Ok(());
    }
    Err(format!("an operand is {operand}, but it must be a number"))
}

fn need_bool(operand: TensorType) -> Result<(), String> {
    if operand.dtype == DType::Bool {
        return Ok(());
    }
    Err(format!("an operand is {operand}, but it must be bool"))
}

fn need_bits(operand: TensorType) -> Result<(), String> {
    if operand.dtype == DType::Bool || operand.dtype.is_integer() {
        return Ok(());
    }
    Err(format!(
        "an operand is {operand}, but it must be bool or an integer"
    ))
}

fn unary(kind: Unary, operand: TensorType) -> One {
    if kind.takes_integers() {
        need_number(operand)?;
    } else {
        need_float(operand)?;
    }
    Ok((Op::Element(Element::Unary(kind)), operand))
}

fn binary(kind: Binary, [lhs, rhs]: [TensorType; 2]) -> One {
    same_type(lhs, rhs)?;
    if kind.takes_integers() {
        need_number(lhs)?;
    } else {
        need_float(lhs)?;
    }
    Ok((Op::Element(Element::Binary(kind)), lhs))
}

fn select([condition, chosen, other]: [TensorType; 3]) -> One {
    need_bool(condition)?;
    same_type(chosen, other)?;
    if condition.shape != chosen.shape {
        return Err(format!(
            "the condition is {condition}, but its shape must be that of {chosen}"
        ));
    }
    Ok((Op::Element(Element::Select), chosen))
}

fn declared(
    operands: Operands<'_>,
    attributes: &mut Attributes<'_>,
    op: impl Fn(usize) -> Op,
) -> One {
    operands.none()?;
    let index = attributes.natural("index")?;
    if index >= super::MAX_INSTRUCTIONS {
        return Err(format!(
            "attribute `index` is {index}, but indexes count from 0 without gaps"
        ));
    }
    let ty = TensorType::new(attributes.dtype("dtype")?, &attributes.dims("shape")?)?;
    Ok((op(index), ty))
}

fn constant(operands: Operands<'_>, attributes: &mut Attributes<'_>) -> One {
    operands.none()?;
    let ty = TensorType::new(attributes.dtype("dtype")?, &attributes.dims("shape")?)?;
    let value = attributes.optional("value");
    let data = attributes.optional("data");
    let op = match (value, data) {
        (Some(value), None) => Op::Fill(literal(ty.dtype, value)?),
        (None, Some(Attribute::Bytes(bytes))) if bytes.len() == ty.bytes() => {
            Op::Data(Arc::clone(bytes))
        }
        (None, Some(Attribute::Bytes(bytes))) => {
            return Err(format!(
                "attribute `data` has {} bytes, but {ty} has {}",
                bytes.len(),
                ty.bytes()
            ));
        }
        (None, Some(other)) => return Err(wrong_kind("data", "bytes", other)),
        _ => return Err("one of the attributes `value` and `data` must be given".to_owned()),
    };
    Ok((op, ty))
}

/// An attribute as an element: rounded to nearest for floats; integers must be in range.
fn literal(dtype: DType, value: &Attribute) -> Result<Literal, String> {
    let out_of_range = |integer: i64| {
        move |_| format!("attribute `value` is {integer}, which is out of range for {dtype}")
    };
    let rounded = |from: DType, element: &[u8]| {
        let convert = TileOp::Element(Element::Convert);
        evaluate(convert, from, dtype, [element, &[], &[]])
    };
    Ok(match (dtype, value) {
        (_, Attribute::Number(number)) if dtype.is_float() => {
            rounded(DType::F64, &number.to_le_bytes())
        }
        (_, Attribute::Integer(integer)) if dtype.is_float() => {
            rounded(DType::I64, &integer.to_le_bytes())
        }
        (DType::I32, &Attribute::Integer(integer)) => {
            let integer = i32::try_from(integer).map_err(out_of_range(integer))?;
            Literal::new(dtype, &integer.to_le_bytes())
        }
        (DType::I64, Attribute::Integer(integer)) => Literal::new(dtype, &integer.to_le_bytes()),
        (DType::U32, &Attribute::Integer(integer)) => {
            let integer = u32::try_from(integer).map_err(out_of_range(integer))?;
            Literal::new(dtype, &integer.to_le_bytes())
        }
        (DType::U8, &Attribute::Integer(integer)) => {
            let integer = u8::try_from(integer).map_err(out_of_range(integer))?;
            Literal::new(dtype, &integer.to_le_bytes())
        }
        (DType::Bool, Attribute::Flag(flag)) => Literal::new(dtype, &[u8::from(*flag)]),
        (_, other) if dtype.is_float() => return Err(wrong_kind("value", "a number", other)),
        (DType::Bool, other) => return Err(wrong_kind("value", "a flag", other)),
        (_, other) => return Err(wrong_kind("value", "an integer", other)),
    })
}

fn iota(operands: Operands<'_>, attributes: &mut Attributes<'_>) -> One {
    operands.none()?;
    let ty = TensorType::new(attributes.dtype("dtype")?, &attributes.dims("shape")?)?;
    if !ty.dtype.is_number() {
        return Err("attribute `dtype` is bool, but it must be a number type".to_owned());
    }
    let axis = attributes.axis("axis", ty.shape.len())?;
    Ok((Op::Iota { axis }, ty))
}

fn reshape(operand: TensorType, attributes: &mut Attributes<'_>) -> One {
    let ty = TensorType::new(operand.dtype, &attributes.dims("shape")?)?;
    if ty.elements() != operand.elements() {
        return Err(format!(
            "the operand {operand} has {} elements, but {ty} has {}",
            operand.elements(),
            ty.elements()
        ));
    }
    Ok((Op::Reshape, ty))
}

fn squeeze(operand: TensorType, attributes: &mut Attributes<'_>) -> One {
    let axes = attributes.increasing_axes("axes", operand.shape.len())?;
    if let Some(axis) = axes.iter().find(|&&axis| operand.shape[axis] != 1) {
        return Err(format!(
            "axis {axis} of {operand} has {} elements, but only axes of size 1 can be removed",
            operand.shape[*axis]
        ));
    }
    let shape = operand.shape.without(&axes);
    let ty = TensorType::new(operand.dtype, &shape)?;
    composite(Composite::Squeeze { shape }, ty)
}

fn transpose(operand: TensorType, attributes: &mut Attributes<'_>) -> One {
    let rank = operand.shape.len();
    let permutation = attributes.axes("permutation", rank)?;
    if permutation.len() != rank {
        return Err(format!(
            "attribute `permutation` is {permutation:?}, but it must name each axis of {operand}"
        ));
    }
    let shape = Dims::collect(permutation.iter().map(|&axis| operand.shape[axis]));
    let dtype = operand.dtype;
    Ok((Op::Transpose(permutation), TensorType { dtype, shape }))
}

fn broadcast(operand: TensorType, attributes: &mut Attributes<'_>) -> One {
    let ty = TensorType::new(operand.dtype, &attributes.dims("shape")?)?;
    let axes = attributes.increasing_axes("axes", ty.shape.len())?;
    if axes.len() != operand.shape.len() {
        return Err(format!(
            "attribute `axes` is {axes:?}, but it must have one entry per dimension of {operand}"
        ));
    }
    for (place, &axis) in axes.iter().enumerate() {
        let (from, to) = (operand.shape[place], ty.shape[axis]);
        if from != to && from != 1 {
            return Err(format!(
                "dimension {place} of {operand} is {from}, but it must be 1 or {to}, \
                 as dimension {axis} of {ty}"
            ));
        }
    }
    Ok((Op::Broadcast(axes), ty))
}

fn reduce(kind: Reduction, operand: TensorType, attributes: &mut Attributes<'_>) -> One {
    match kind {
        Reduction::Mean => need_float(operand)?,
        Reduction::Any | Reduction::All => need_bool(operand)?,
        Reduction::Sum | Reduction::Product | Reduction::Max | Reduction::Min => {
            need_number(operand)?;
        }
    }
    let axes = attributes.increasing_axes("axes", operand.shape.len())?;
    if matches!(kind, Reduction::Max | Reduction::Min)
        && let Some(axis) = axes.iter().find(|&&axis| operand.shape[axis] == 0)
    {
        return Err(format!(
            "axis {axis} of {operand} has no elements to choose from"
        ));
    }
    let ty = TensorType::new(operand.dtype, &operand.shape.without(&axes))?;
    Ok((Op::Reduce { kind, axes }, ty))
}

fn variance(operand: TensorType, attributes: &mut Attributes<'_>) -> One {
    need_float(operand)?;
    let axes = attributes.increasing_axes("axes", operand.shape.len())?;
    let correction = attributes.natural("correction")?;
    if correction > 1 {
        return Err(format!(
            "attribute `correction` is {correction}, but it must be 0 or 1"
        ));
    }
    let ty = TensorType::new(operand.dtype, &operand.shape.without(&axes))?;
    composite(Composite::Variance { axes, correction }, ty)
}

fn arg_max(operand: TensorType, attributes: &mut Attributes<'_>, least: bool) -> One {
    need_number(operand)?;
    let axis = attributes.axis("axis", operand.shape.len())?;
    if operand.shape[axis] == 0 {
        return Err(format!(
            "axis {axis} of {operand} has no elements to choose from"
        ));
    }
    let ty = TensorType::new(DType::I32, &operand.shape.without(&[axis]))?;
    Ok((Op::ArgMax { axis, least }, ty))
}

fn dot_general([lhs, rhs]: [TensorType; 2], attributes: &mut Attributes<'_>) -> One {
    need_float(lhs)?;
    if lhs.dtype != rhs.dtype {
        return Err(format!(
            "the operands are {lhs} and {rhs}, but they must have one type"
        ));
    }
    let (lhs_rank, rhs_rank) = (lhs.shape.len(), rhs.shape.len());
    let axes = DotAxes {
        lhs_batch: attributes.axes("lhs-batch", lhs_rank)?,
        rhs_batch: attributes.axes("rhs-batch", rhs_rank)?,
        lhs_contract: attributes.axes("lhs-contract", lhs_rank)?,
        rhs_contract: attributes.axes("rhs-contract", rhs_rank)?,
    };
    let pairs = [
        ("batch", &axes.lhs_batch, &axes.rhs_batch),
        ("contract", &axes.lhs_contract, &axes.rhs_contract),
    ];
    for (kind, left, right) in pairs {
        if left.len() != right.len() {
            return Err(format!(
                "`lhs-{kind}` is {left:?} and `rhs-{kind}` is {right:?}, \
                 but they must have one length"
            ));
        }
        for (&left, &right) in left.iter().zip(right.iter()) {
            if lhs.shape[left] != rhs.shape[right] {
                return Err(format!(
                    "axis {left} of {lhs} and axis {right} of {rhs} must have one size \
                     (`lhs-{kind}`, `rhs-{kind}`)"
                ));
            }
        }
    }
    for (side, batch, contract) in [
        ("lhs", &axes.lhs_batch, &axes.lhs_contract),
        ("rhs", &axes.rhs_batch, &axes.rhs_contract),
    ] {
        if let Some(axis) = batch.iter().find(|axis| contract.contains(axis)) {
            return Err(format!(
                "axis {axis} is in both `{side}-batch` and `{side}-contract`"
            ));
        }
    }
    let batch = axes.lhs_batch.iter().map(|&axis| lhs.shape[axis]);
    let lhs_free = axes.lhs_free(lhs_rank);
    let rhs_free = axes.rhs_free(rhs_rank);
    let shape: Vec<usize> = batch
        .chain(lhs_free.iter().map(|&axis| lhs.shape[axis]))
        .chain(rhs_free.iter().map(|&axis| rhs.shape[axis]))
        .collect();
    let ty = TensorType::new(lhs.dtype, &shape)?;
    Ok((Op::Dot(Box::new(axes)), ty))
}

fn softmax(operand: TensorType, attributes: &mut Attributes<'_>, log: bool) -> One {
    need_float(operand)?;
    let axis = attributes.axis("axis", operand.shape.len())?;
    composite(Composite::Softmax { axis, log }, operand)
}

/// The channels of `[N, C, …]`.
fn channels(x: TensorType) -> Result<usize, String> {
    x.shape.get(1).copied().ok_or_else(|| {
        format!("an operand is {x}, but it must have a batch and a channel dimension")
    })
}

fn batch_norm_inference(operands: [TensorType; 5], attributes: &mut Attributes<'_>) -> One {
    let [x, per_channel @ ..] = operands;
    need_float(x)?;
    let expected = TensorType::new(x.dtype, &[channels(x)?])?;
    for operand in per_channel {
        same_type(operand, expected)?;
    }
    let epsilon = Real::new(attributes.number("epsilon")?);
    composite(Composite::BatchNormInference { epsilon }, x)
}

fn need_indices(indices: TensorType) -> Result<(), String> {
    if matches!(indices.dtype, DType::I32 | DType::U32 | DType::I64) {
        return Ok(());
    }
    Err(format!(
        "the indices are {indices}, but they must be i32, u32 or i64"
    ))
}

/// An index is clamped to a valid one, so there must be one.
fn need_rows(data: TensorType, axis: usize, indices: TensorType) -> Result<(), String> {
    if data.shape[axis] > 0 || indices.elements() == 0 {
        return Ok(());
    }
    Err(format!(
        "axis {axis} of {data} has no elements that {indices} could name"
    ))
}

fn take([data, indices]: [TensorType; 2], attributes: &mut Attributes<'_>) -> One {
    need_indices(indices)?;
    let axis = attributes.axis("axis", data.shape.len())?;
    need_rows(data, axis, indices)?;
    let shape = [
        &data.shape[..axis],
        &*indices.shape,
        &data.shape[axis + 1..],
    ]
    .concat();
    let ty = TensorType::new(data.dtype, &shape)?;
    Ok((Op::Take { axis }, ty))
}

fn scatter_add(operands: [TensorType; 3], attributes: &mut Attributes<'_>) -> One {
    need_number(operands[0])?;
    let axis = scattered_axis(operands, attributes)?;
    Ok((Op::ScatterAdd { axis }, operands[0]))
}

/// The axis along which slices of the updates are put into the data.
fn scattered_axis(
    [data, indices, updates]: [TensorType; 3],
    attributes: &mut Attributes<'_>,
) -> Result<usize, String> {
    need_indices(indices)?;
    let axis = attributes.axis("axis", data.shape.len())?;
    need_rows(data, axis, indices)?;
    let [count] = *indices.shape else {
        return Err(format!(
            "the indices are {indices}, but their rank must be 1"
        ));
    };
    need_updates(updates, data, along(data.shape, axis, count))?;
    Ok(axis)
}

fn need_updates(updates: TensorType, data: TensorType, shape: Dims) -> Result<(), String> {
    let expected = TensorType::new(data.dtype, &shape)?;
    if updates == expected {
        return Ok(());
    }
    Err(format!(
        "the updates are {updates}, but they must be {expected}"
    ))
}

/// A shape with another size along an axis.
fn along(shape: Dims, axis: usize, size: usize) -> Dims {
    let sizes = shape.iter().enumerate();
    Dims::collect(sizes.map(|(place, &old)| if place == axis { size } else { old }))
}

fn one_hot(indices: TensorType, attributes: &mut Attributes<'_>) -> One {
    if !indices.dtype.is_integer() {
        return Err(format!(
            "the indices are {indices}, but they must be integers"
        ));
    }
    let classes = attributes.natural("classes")?;
    let dtype = attributes.dtype("dtype")?;
    if indices.shape.len() >= MAX_RANK {
        return Err(format!(
            "the indices are {indices}, but their rank must be below {MAX_RANK}"
        ));
    }
    let mut shape = indices.shape;
    shape.push(classes);
    let ty = TensorType::new(dtype, &shape)?;
    Ok((Op::OneHot, ty))
}
