//! Random numbers.

use super::{Attributes, One, composite, need_float};
use crate::DType;
use crate::composite::Composite;
use crate::ir::{Op, Real};
use crate::shape::TensorType;

fn need_key(key: TensorType) -> Result<(), String> {
    if key.dtype == DType::U32 && *key.shape == [2] {
        return Ok(());
    }
    Err(format!("the key is {key}, but it must be u32[2]"))
}

fn stream(attributes: &mut Attributes<'_>) -> Result<u32, String> {
    let stream = attributes.natural("stream")?;
    u32::try_from(stream)
        .map_err(|_| format!("attribute `stream` is {stream}, but it must be below 2^32"))
}

/// A number from 0 to 1.
fn share(name: &str, attributes: &mut Attributes<'_>) -> Result<f64, String> {
    let share = attributes.number(name)?;
    if (0.0..=1.0).contains(&share) {
        return Ok(share);
    }
    Err(format!(
        "attribute `{name}` is {share}, but it must be from 0 to 1"
    ))
}

fn shaped(dtype: DType, attributes: &mut Attributes<'_>) -> Result<TensorType, String> {
    TensorType::new(dtype, &attributes.dims("shape")?)
}

/// A shape and a float type.
fn typed(attributes: &mut Attributes<'_>) -> Result<TensorType, String> {
    let dtype = attributes.dtype("dtype")?;
    if !dtype.is_float() {
        return Err(format!(
            "attribute `dtype` is {dtype}, but it must be a float type"
        ));
    }
    shaped(dtype, attributes)
}

pub(super) fn bits(key: TensorType, attributes: &mut Attributes<'_>) -> One {
    need_key(key)?;
    let stream = stream(attributes)?;
    Ok((Op::RandomBits { stream }, shaped(DType::U32, attributes)?))
}

pub(super) fn fold([key, number]: [TensorType; 2]) -> One {
    need_key(key)?;
    if number != TensorType::new(DType::U32, &[])? {
        return Err(format!("the number is {number}, but it must be u32[]"));
    }
    Ok((Op::RandomFold, key))
}

pub(super) fn uniform(key: TensorType, attributes: &mut Attributes<'_>) -> One {
    need_key(key)?;
    let stream = stream(attributes)?;
    let ty = typed(attributes)?;
    composite(Composite::RandomUniform { stream, ty }, ty)
}

pub(super) fn normal(key: TensorType, attributes: &mut Attributes<'_>) -> One {
    need_key(key)?;
    let stream = stream(attributes)?;
    let ty = typed(attributes)?;
    composite(Composite::RandomNormal { stream, ty }, ty)
}

pub(super) fn bernoulli(key: TensorType, attributes: &mut Attributes<'_>) -> One {
    need_key(key)?;
    let probability = Real::new(share("probability", attributes)?);
    let stream = stream(attributes)?;
    let ty = shaped(DType::Bool, attributes)?;
    let shape = ty.shape;
    let bernoulli = Composite::RandomBernoulli {
        probability,
        stream,
        shape,
    };
    composite(bernoulli, ty)
}

pub(super) fn permutation(key: TensorType, attributes: &mut Attributes<'_>) -> One {
    need_key(key)?;
    let stream = stream(attributes)?;
    let size = attributes.natural("size")?;
    let ty = TensorType::new(DType::I32, &[size])?;
    composite(Composite::RandomPermutation { stream, size }, ty)
}

pub(super) fn dropout([x, key]: [TensorType; 2], attributes: &mut Attributes<'_>) -> One {
    need_float(x)?;
    need_key(key)?;
    let rate = share("rate", attributes)?;
    if rate >= 1.0 {
        return Err(format!(
            "attribute `rate` is {rate}, but it must be below 1"
        ));
    }
    let stream = stream(attributes)?;
    let rate = Real::new(rate);
    composite(Composite::Dropout { rate, stream }, x)
}
