//! The shape and type rule of each operation.

use super::attributes::{Attributes, wrong_kind};
use crate::ir::{Binary, Compare, DotAxes, Element, Literal, Logic, Op, Reduction, Unary};
use crate::shape::{Dims, MAX_RANK, TensorType};
use crate::{Attribute, DType};

type Checked = Result<(Op, TensorType), String>;

/// The operation of that name and the type of its result; the error is a sentence.
pub(super) fn check(
    name: &str,
    operands: [Option<TensorType>; 3],
    count: usize,
    attributes: &mut Attributes<'_>,
) -> Checked {
    let operands = Operands { operands, count };
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
        need_bool(lhs)?;
        return element(Element::Logic(kind), DType::Bool, lhs.shape);
    }
    if let Some(kind) = Reduction::parse(name) {
        return reduce(kind, operands.one()?, attributes);
    }
    match name {
        "input" => declared(operands, attributes, Op::Input),
        "state" => declared(operands, attributes, Op::State),
        "constant" => constant(operands, attributes),
        "iota" => iota(operands, attributes),
        "not" => {
            let operand = operands.one()?;
            need_bool(operand)?;
            Ok((Op::Element(Element::Not), operand))
        }
        "select" => select(operands.three()?),
        "convert" => {
            let operand = operands.one()?;
            let dtype = attributes.dtype("dtype")?;
            let ty = TensorType::new(dtype, &operand.shape)?;
            Ok((Op::Element(Element::Convert), ty))
        }
        "stop-gradient" => Ok((Op::StopGradient, operands.one()?)),
        "reshape" => reshape(operands.one()?, attributes),
        "transpose" => transpose(operands.one()?, attributes),
        "broadcast" => broadcast(operands.one()?, attributes),
        "arg-max" => arg_max(operands.one()?, attributes),
        "dot-general" => dot_general(operands.two()?, attributes),
        "softmax" => softmax(operands.one()?, attributes, false),
        "log-softmax" => softmax(operands.one()?, attributes, true),
        "take" => take(operands.two()?, attributes),
        "scatter-add" => scatter_add(operands.three()?, attributes),
        "one-hot" => one_hot(operands.one()?, attributes),
        _ => Err("there is no such operation".to_owned()),
    }
}

struct Operands {
    operands: [Option<TensorType>; 3],
    count: usize,
}

impl Operands {
    fn none(self) -> Result<(), String> {
        match self.count {
            0 => Ok(()),
            count => Err(format!("{count} operands are given, but it takes none")),
        }
    }

    fn one(self) -> Result<TensorType, String> {
        match self.operands {
            [Some(first), None, None] => Ok(first),
            _ => Err(format!("{} operands are given, but it takes 1", self.count)),
        }
    }

    fn two(self) -> Result<[TensorType; 2], String> {
        match self.operands {
            [Some(first), Some(second), None] => Ok([first, second]),
            _ => Err(format!("{} operands are given, but it takes 2", self.count)),
        }
    }

    fn three(self) -> Result<[TensorType; 3], String> {
        match self.operands {
            [Some(first), Some(second), Some(third)] => Ok([first, second, third]),
            _ => Err(format!("{} operands are given, but it takes 3", self.count)),
        }
    }
}

fn element(op: Element, dtype: DType, shape: Dims) -> Checked {
    Ok((Op::Element(op), TensorType { dtype, shape }))
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
    Err(format!("an operand is {operand}, but it must be f32"))
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

fn unary(kind: Unary, operand: TensorType) -> Checked {
    if kind.takes_integers() {
        need_number(operand)?;
    } else {
        need_float(operand)?;
    }
    Ok((Op::Element(Element::Unary(kind)), operand))
}

fn binary(kind: Binary, [lhs, rhs]: [TensorType; 2]) -> Checked {
    same_type(lhs, rhs)?;
    if kind == Binary::Power {
        need_float(lhs)?;
    } else {
        need_number(lhs)?;
    }
    Ok((Op::Element(Element::Binary(kind)), lhs))
}

fn select([condition, chosen, other]: [TensorType; 3]) -> Checked {
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
    operands: Operands,
    attributes: &mut Attributes<'_>,
    op: impl Fn(usize) -> Op,
) -> Checked {
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

fn constant(operands: Operands, attributes: &mut Attributes<'_>) -> Checked {
    operands.none()?;
    let ty = TensorType::new(attributes.dtype("dtype")?, &attributes.dims("shape")?)?;
    let value = attributes.optional("value");
    let data = attributes.optional("data");
    let op = match (value, data) {
        (Some(value), None) => Op::Fill(literal(ty.dtype, value)?),
        (None, Some(Attribute::Bytes(bytes))) if bytes.len() == ty.bytes() => Op::Data,
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

/// An attribute as an element; integers must be in the element type's range.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "f32 constants are rounded to nearest"
)]
fn literal(dtype: DType, value: &Attribute) -> Result<Literal, String> {
    let out_of_range = |integer: i64| {
        move |_| format!("attribute `value` is {integer}, which is out of range for {dtype}")
    };
    Ok(match (dtype, value) {
        (DType::F32, Attribute::Number(number)) => {
            Literal::new(dtype, &(*number as f32).to_le_bytes())
        }
        (DType::F32, Attribute::Integer(integer)) => {
            Literal::new(dtype, &(*integer as f32).to_le_bytes())
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
        (DType::F32, other) => return Err(wrong_kind("value", "a number", other)),
        (DType::Bool, other) => return Err(wrong_kind("value", "a flag", other)),
        (_, other) => return Err(wrong_kind("value", "an integer", other)),
    })
}

fn iota(operands: Operands, attributes: &mut Attributes<'_>) -> Checked {
    operands.none()?;
    let ty = TensorType::new(attributes.dtype("dtype")?, &attributes.dims("shape")?)?;
    if !ty.dtype.is_number() {
        return Err("attribute `dtype` is bool, but it must be a number type".to_owned());
    }
    let axis = attributes.axis("axis", ty.shape.len())?;
    Ok((Op::Iota { axis }, ty))
}

fn reshape(operand: TensorType, attributes: &mut Attributes<'_>) -> Checked {
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

fn transpose(operand: TensorType, attributes: &mut Attributes<'_>) -> Checked {
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

fn broadcast(operand: TensorType, attributes: &mut Attributes<'_>) -> Checked {
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

fn reduce(kind: Reduction, operand: TensorType, attributes: &mut Attributes<'_>) -> Checked {
    if kind == Reduction::Mean {
        need_float(operand)?;
    } else {
        need_number(operand)?;
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

fn arg_max(operand: TensorType, attributes: &mut Attributes<'_>) -> Checked {
    need_number(operand)?;
    let axis = attributes.axis("axis", operand.shape.len())?;
    if operand.shape[axis] == 0 {
        return Err(format!(
            "axis {axis} of {operand} has no elements to choose from"
        ));
    }
    let ty = TensorType::new(DType::I32, &operand.shape.without(&[axis]))?;
    Ok((Op::ArgMax { axis }, ty))
}

fn dot_general([lhs, rhs]: [TensorType; 2], attributes: &mut Attributes<'_>) -> Checked {
    need_float(lhs)?;
    need_float(rhs)?;
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
    let ty = TensorType::new(DType::F32, &shape)?;
    Ok((Op::Dot(Box::new(axes)), ty))
}

fn softmax(operand: TensorType, attributes: &mut Attributes<'_>, log: bool) -> Checked {
    need_float(operand)?;
    let axis = attributes.axis("axis", operand.shape.len())?;
    Ok((Op::Softmax { axis, log }, operand))
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

fn take([data, indices]: [TensorType; 2], attributes: &mut Attributes<'_>) -> Checked {
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

fn scatter_add(
    [data, indices, updates]: [TensorType; 3],
    attributes: &mut Attributes<'_>,
) -> Checked {
    need_number(data)?;
    need_indices(indices)?;
    let axis = attributes.axis("axis", data.shape.len())?;
    need_rows(data, axis, indices)?;
    let [count] = *indices.shape else {
        return Err(format!(
            "the indices are {indices}, but their rank must be 1"
        ));
    };
    let mut shape = data.shape.to_vec();
    shape[axis] = count;
    let expected = TensorType::new(data.dtype, &shape)?;
    if updates != expected {
        return Err(format!(
            "the updates are {updates}, but they must be {expected}"
        ));
    }
    Ok((Op::ScatterAdd { axis }, data))
}

fn one_hot(indices: TensorType, attributes: &mut Attributes<'_>) -> Checked {
    if !indices.dtype.is_number() || indices.dtype.is_float() {
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
