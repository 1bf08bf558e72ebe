//! Cases of `fixtures/*.json`: an operation, its operands, and what PyTorch or JAX make of
//! them in double precision.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value as Json;
use trainshed_tensor::{Attribute, Body, DType, Instruction, Program, Tensor, Value, gradient};

use super::{Build, list, run};

/// The name of the element type that a case is run with.
const FLOAT: &str = "float";

#[derive(Deserialize)]
pub(crate) struct Array {
    pub(crate) dtype: String,
    shape: Vec<u64>,
    values: Vec<Json>,
}

#[derive(Deserialize)]
pub(crate) struct Case {
    pub(crate) op: String,
    attributes: BTreeMap<String, Json>,
    #[serde(default)]
    bodies: Vec<CaseBody>,
    pub(crate) operands: Vec<Array>,
    results: Vec<Array>,
    /// One per result that a gradient flows through.
    weights: Vec<Option<Array>>,
    /// Of the sum of all results times their weights, by the operands that are floats.
    pub(crate) gradients: Vec<Array>,
    /// Those of the sum of the squares of the gradients.
    #[serde(default)]
    second: Vec<Array>,
    /// The only type that the case is for.
    #[serde(default)]
    only: Option<String>,
}

#[derive(Deserialize)]
struct CaseBody {
    instructions: Vec<CaseInstruction>,
    outputs: Vec<(u32, u32)>,
}

/// Its name, its operands and its attributes.
type CaseInstruction = (String, Vec<(u32, u32)>, BTreeMap<String, Json>);

impl Array {
    fn numbers(&self) -> Vec<f64> {
        let number = |value: &Json| match value {
            Json::Bool(flag) => f64::from(u8::from(*flag)),
            Json::String(text) => text.parse().unwrap(),
            value => value.as_f64().unwrap(),
        };
        self.values.iter().map(number).collect()
    }

    fn dtype(&self, float: DType) -> DType {
        DType::parse(&self.dtype).unwrap_or(float)
    }

    fn tensor(&self, float: DType) -> Tensor {
        super::tensor(self.dtype(float), &self.shape, &self.numbers())
    }

    /// Checks a tensor; floats may differ by some parts of the greatest number.
    #[track_caller]
    fn check(&self, found: &Tensor, float: DType, what: &str) {
        let shape: Vec<u64> = found.shape().iter().map(|&size| size as u64).collect();
        assert_eq!(shape, self.shape, "{what}");
        assert_eq!(found.dtype(), self.dtype(float), "{what}");
        let tolerance = match found.dtype() {
            DType::F64 => 1e-12,
            DType::F32 => 3e-6,
            _ => 0.0,
        };
        let expected = self.numbers();
        let finite = expected.iter().filter(|number| number.is_finite());
        let scale = finite.fold(1.0, |scale: f64, number| scale.max(number.abs()));
        let found = super::numbers(found);
        for (place, (&expected, found)) in expected.iter().zip(found).enumerate() {
            let fits = (expected - found).abs() <= tolerance * scale
                || expected == found
                || (expected.is_nan() && found.is_nan());
            assert!(
                fits,
                "{what}: element {place} is {found}, but should be {expected}"
            );
        }
    }
}

impl Case {
    /// The cases of a file of fixtures.
    pub(crate) fn all(name: &str) -> Vec<Self> {
        super::read_fixture(name)
    }

    pub(crate) fn is_for(&self, float: DType) -> bool {
        self.only.as_ref().is_none_or(|only| *only == float.name())
    }

    /// Runs the case with floats of that type.
    #[track_caller]
    pub(crate) fn check(&self, what: &str, float: DType) {
        let mut inputs: Vec<Tensor> = Vec::new();
        let mut program = Program {
            bodies: self.bodies.iter().map(|body| body.body(float)).collect(),
            ..Program::default()
        };
        let mut operands = Vec::new();
        for array in &self.operands {
            operands.push(given(&mut program, &mut inputs, array.tensor(float)));
        }
        let attributes: Vec<(&str, Attribute)> = self
            .attributes
            .iter()
            .map(|(name, value)| (name.as_str(), attribute(value, float)))
            .collect();
        let result = program.push(&self.op, &operands, &attributes);
        let mut expected: Vec<&Array> = self.results.iter().collect();
        let mut parts = Vec::new();
        for (output, weights) in (0..).zip(&self.weights) {
            program.output(result.result(output));
            if let Some(weights) = weights {
                let rank = weights.shape.len() as i64;
                let weights = given(&mut program, &mut inputs, weights.tensor(float));
                let product = program.op("multiply", &[result.result(output), weights]);
                parts.push(total(&mut program, product, rank));
            }
        }
        if let Some(loss) = sum(&mut program, parts) {
            let floats = operands.iter().zip(&inputs);
            let floats: Vec<Value> = floats
                .filter(|(_, tensor)| tensor.dtype().is_float())
                .map(|(value, _)| *value)
                .collect();
            program = gradient(&program, loss, &floats).unwrap();
            expected.extend(&self.gradients);
            if !self.second.is_empty() {
                let gradients = program.outputs[self.results.len()..].to_vec();
                let squares = gradients.iter().zip(&self.gradients);
                let squares = squares
                    .map(|(&gradient, array)| {
                        let square = program.op("square", &[gradient]);
                        total(&mut program, square, array.shape.len() as i64)
                    })
                    .collect();
                let loss = sum(&mut program, squares).unwrap();
                program = gradient(&program, loss, &floats).unwrap();
                expected.extend(&self.second);
            }
        }
        let outputs = run(&program, &inputs).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(outputs.len(), expected.len(), "{what}");
        for (place, (expected, found)) in expected.iter().zip(&outputs).enumerate() {
            expected.check(found, float, &format!("{what}, output {place}"));
        }
    }
}

impl CaseBody {
    fn body(&self, float: DType) -> Body {
        let value = |&(instruction, output): &(u32, u32)| Value {
            instruction,
            output,
        };
        let instruction = |(op, operands, attributes): &CaseInstruction| {
            let attributes = attributes.iter();
            Instruction {
                op: op.clone(),
                operands: operands.iter().map(value).collect(),
                attributes: attributes
                    .map(|(name, value)| (name.clone(), attribute(value, float)))
                    .collect(),
                label: None,
            }
        };
        Body {
            instructions: self.instructions.iter().map(instruction).collect(),
            outputs: self.outputs.iter().map(value).collect(),
        }
    }
}

fn attribute(value: &Json, float: DType) -> Attribute {
    match value {
        Json::Array(values) => {
            Attribute::Integers(values.iter().map(|value| value.as_i64().unwrap()).collect())
        }
        Json::Bool(flag) => Attribute::Flag(*flag),
        Json::String(name) if name == FLOAT => float.name().into(),
        Json::String(text) => text.as_str().into(),
        Json::Number(number) if number.is_f64() => number.as_f64().unwrap().into(),
        value => value.as_i64().unwrap().into(),
    }
}

fn given(program: &mut Program, inputs: &mut Vec<Tensor>, tensor: Tensor) -> Value {
    let value = program.input_like(inputs.len(), &tensor);
    inputs.push(tensor);
    value
}

fn total(program: &mut Program, x: Value, rank: i64) -> Value {
    let axes: Vec<i64> = (0..rank).collect();
    program.push("reduce-sum", &[x], &[("axes", list(&axes))])
}

fn sum(program: &mut Program, parts: Vec<Value>) -> Option<Value> {
    let mut parts = parts.into_iter();
    let first = parts.next()?;
    Some(parts.fold(first, |sum, part| program.op("add", &[sum, part])))
}
