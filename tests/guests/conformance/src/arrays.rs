//! Arrays of the fixtures, and how close numbers must be to them.

use std::collections::BTreeMap;

use serde_json::Value;
use trainshed_sdk::{DType, Failure, Tensor};

/// How far `f32` results may be from those in double precision, in shares of the greatest.
const TOLERANCE: f64 = 2e-5;

/// The array as a tensor of its element type.
pub(crate) fn tensor(array: &Value) -> Result<Tensor, Failure> {
    let dtype = array["dtype"].as_str().unwrap_or_default();
    let shape: Vec<usize> = serde_json::from_value(array["shape"].clone())?;
    let made = match dtype {
        "f32" => Tensor::from_slice(&shape, &narrowed(&array["values"])?),
        "i32" => {
            let values: Vec<i32> = serde_json::from_value(array["values"].clone())?;
            Tensor::from_slice(&shape, &values)
        }
        _ => {
            let values: Vec<bool> = serde_json::from_value(array["values"].clone())?;
            Tensor::from_slice(&shape, &values)
        }
    };
    Ok(made?)
}

pub(crate) fn numbers(array: &Value) -> Result<Vec<f64>, Failure> {
    Ok(serde_json::from_value(array.clone())?)
}

/// Numbers of the fixture as `f32`, which they are.
pub(crate) fn narrowed(array: &Value) -> Result<Vec<f32>, Failure> {
    #[expect(clippy::cast_possible_truncation, reason = "they are exact in f32")]
    let narrow = |number| number as f32;
    Ok(numbers(array)?.into_iter().map(narrow).collect())
}

/// The tensors of an object, by name. PyTorch counts batches in `i64`.
pub(crate) fn tensors(object: &Value) -> Result<BTreeMap<String, Tensor>, Failure> {
    let mut tensors = BTreeMap::new();
    for (name, array) in object.as_object().into_iter().flatten() {
        let made = match array["dtype"].as_str() {
            Some("i32") => {
                let values: Vec<i64> = serde_json::from_value(array["values"].clone())?;
                let shape: Vec<usize> = serde_json::from_value(array["shape"].clone())?;
                Tensor::from_slice(&shape, &values)?
            }
            _ => tensor(array)?,
        };
        tensors.insert(name.clone(), made);
    }
    Ok(tensors)
}

/// Fails when a tensor is not the array.
pub(crate) fn compare(what: &str, found: &Tensor, expected: &Value) -> Result<(), Failure> {
    let shape: Vec<usize> = serde_json::from_value(expected["shape"].clone())?;
    if found.shape() != shape {
        let found = found.shape();
        return Err(Failure::failed(format!(
            "{what} has the shape {found:?} instead of {shape:?}"
        )));
    }
    if found.dtype() == DType::Bool {
        return Err(Failure::failed(format!("{what} is bool")));
    }
    compare_all(what, &found.to_f64s()?, &numbers(&expected["values"])?)
}

/// Fails when numbers are not close to others.
pub(crate) fn compare_all(what: &str, found: &[f64], expected: &[f64]) -> Result<(), Failure> {
    if found.len() != expected.len() {
        let (found, expected) = (found.len(), expected.len());
        return Err(Failure::failed(format!(
            "{what} has {found} elements instead of {expected}"
        )));
    }
    let largest = |largest: f64, number: &f64| largest.max(number.abs());
    let scale = expected.iter().fold(1.0, largest);
    for (place, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (found - expected).abs();
        if error.is_nan() || error > TOLERANCE * scale {
            return Err(Failure::failed(format!(
                "element {place} of {what} is {found} instead of {expected}"
            )));
        }
    }
    Ok(())
}
