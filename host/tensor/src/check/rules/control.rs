//! Operations that run bodies.

use smallvec::SmallVec;

use crate::DType;
use crate::check::{Attributes, Checked, Scope};
use crate::ir::{Body, Op, Scan, While};
use crate::shape::{Dims, MAX_DIMENSION, TensorType};

/// The most bodies that run inside each other; bounds the executor's stack.
const MAX_DEPTH: usize = 16;

pub(super) fn scan(
    operands: &[TensorType],
    attributes: &mut Attributes<'_>,
    scope: &Scope<'_>,
) -> Result<Checked, String> {
    let body = body(attributes, "body", scope)?;
    let carries = attributes.natural("carries")?;
    let sequences = attributes.natural("sequences")?;
    let length = attributes.natural("length")?;
    let reverse = attributes.flag("reverse")?;
    if carries.saturating_add(sequences) > operands.len() {
        return Err(format!(
            "{} operands are given, but there should be {carries} carries and {sequences} sequences",
            operands.len()
        ));
    }
    if length > MAX_DIMENSION {
        return Err(format!(
            "attribute `length` is {length}, but it may be at most {MAX_DIMENSION}"
        ));
    }
    let mut passed = operands.to_vec();
    for (place, ty) in passed[carries..carries + sequences].iter_mut().enumerate() {
        if ty.shape.first() != Some(&length) {
            return Err(format!(
                "sequence {place} is {ty}, but its first dimension must be the length, {length}"
            ));
        }
        ty.shape = Dims::collect(ty.shape[1..].iter().copied());
    }
    takes(&body, &passed)?;
    let returned = returned(&body);
    keeps_carries(&body, &returned, &operands[..carries])?;
    let mut types = SmallVec::from_slice(&operands[..carries]);
    for ty in &returned[carries..] {
        let shape: Vec<usize> = std::iter::once(length)
            .chain(ty.shape.iter().copied())
            .collect();
        types.push(TensorType::new(ty.dtype, &shape)?);
    }
    let op = Op::Scan(Box::new(Scan {
        body,
        carries,
        sequences,
        length,
        reverse,
    }));
    Ok(Checked { op, types })
}

pub(super) fn while_loop(
    operands: &[TensorType],
    attributes: &mut Attributes<'_>,
    scope: &Scope<'_>,
) -> Result<Checked, String> {
    let condition = body(attributes, "condition", scope)?;
    let body = body(attributes, "body", scope)?;
    let carries = attributes.natural("carries")?;
    let limit = attributes.natural("limit")?;
    if carries > operands.len() {
        return Err(format!(
            "{} operands are given, but there should be {carries} carries",
            operands.len()
        ));
    }
    takes(&condition, operands)?;
    takes(&body, operands)?;
    let verdict = returned(&condition);
    let flag = TensorType {
        dtype: DType::Bool,
        shape: Dims::default(),
    };
    if *verdict != [flag] {
        return Err(format!(
            "the outputs of body {}, the condition, are {verdict:?}, but it must have one, {flag}",
            condition.index
        ));
    }
    let returned = returned(&body);
    keeps_carries(&body, &returned, &operands[..carries])?;
    if returned.len() > carries {
        return Err(format!(
            "body {} has {} outputs, but there are {carries} carries",
            body.index,
            returned.len()
        ));
    }
    let types = SmallVec::from_slice(&operands[..carries]);
    let op = Op::While(Box::new(While {
        condition,
        body,
        carries,
        limit,
    }));
    Ok(Checked { op, types })
}

/// The body that an attribute names.
fn body(attributes: &mut Attributes<'_>, name: &str, scope: &Scope<'_>) -> Result<Body, String> {
    let index = attributes.natural(name)?;
    let Some(body) = scope.bodies.get(index) else {
        let count = scope.bodies.len();
        let whose = if scope.in_body {
            "bodies come before this one"
        } else {
            "bodies are in the program"
        };
        return Err(format!(
            "attribute `{name}` names body {index}, but {count} {whose}"
        ));
    };
    if body.depth > MAX_DEPTH {
        return Err(format!(
            "{} bodies would run inside each other, but there may be at most {MAX_DEPTH}",
            body.depth
        ));
    }
    Ok(body.clone())
}

/// The types that a body returns.
fn returned(body: &Body) -> Vec<TensorType> {
    let nodes = &body.graph.nodes;
    body.graph
        .outputs
        .iter()
        .map(|&node| nodes[node].ty)
        .collect()
}

/// Whether the body's inputs are what the operation passes.
fn takes(body: &Body, passed: &[TensorType]) -> Result<(), String> {
    let (index, inputs) = (body.index, &body.graph.inputs);
    if inputs.len() != passed.len() {
        return Err(format!(
            "body {index} has {} inputs, but {} are passed",
            inputs.len(),
            passed.len()
        ));
    }
    match (0..passed.len()).find(|&place| inputs[place] != passed[place]) {
        None => Ok(()),
        Some(place) => Err(format!(
            "input {place} of body {index} is {}, but {} is passed",
            inputs[place], passed[place]
        )),
    }
}

/// Whether the body's first outputs can be its next carries.
fn keeps_carries(
    body: &Body,
    returned: &[TensorType],
    carries: &[TensorType],
) -> Result<(), String> {
    let index = body.index;
    if returned.len() < carries.len() {
        return Err(format!(
            "body {index} has {} outputs, but there are {} carries",
            returned.len(),
            carries.len()
        ));
    }
    match (0..carries.len()).find(|&place| returned[place] != carries[place]) {
        None => Ok(()),
        Some(place) => Err(format!(
            "output {place} of body {index} is {}, but the carry is {}",
            returned[place], carries[place]
        )),
    }
}
