//! Elementwise operations and reductions of every type, and a training run, against PyTorch
//! in double precision; `fixtures/elementwise.py` and `fixtures/make.py` make the files.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a failed unwrap is a failed test, and the numbers are small"
)]

mod support;

use serde::Deserialize;
use serde_json::Value as Json;
use std::collections::BTreeMap;
use support::{Build, budget, context, list, read_fixture, run};
use trainshed_tensor::{Attribute, DType, Executable, Program, Tensor, Value, gradient};

#[derive(Deserialize)]
struct Array {
    dtype: String,
    shape: Vec<u64>,
    values: Vec<Json>,
}

#[derive(Deserialize)]
struct Case {
    op: String,
    attributes: BTreeMap<String, Json>,
    operands: Vec<Array>,
    result: Array,
    weights: Option<Array>,
    #[serde(default)]
    gradients: Vec<Array>,
}

impl Array {
    fn tensor(&self) -> Tensor {
        let dtype = DType::parse(&self.dtype).unwrap();
        support::tensor(dtype, &self.shape, &self.numbers())
    }

    fn numbers(&self) -> Vec<f64> {
        let number = |value: &Json| match value {
            Json::Bool(flag) => f64::from(u8::from(*flag)),
            value => value.as_f64().unwrap(),
        };
        self.values.iter().map(number).collect()
    }

    /// Checks a tensor; floats may differ by some units in the last place of the greatest
    /// number.
    #[track_caller]
    fn check(&self, found: &Tensor, what: &str, units: f64) {
        let tolerance = units
            * match found.dtype() {
                DType::F64 => f64::EPSILON,
                DType::Bf16 => 0.0078125,
                DType::F16 => 0.0009765625,
                _ => f64::from(f32::EPSILON),
            };
        let shape: Vec<u64> = found.shape().iter().map(|&size| size as u64).collect();
        assert_eq!(shape, self.shape, "{what}");
        assert_eq!(found.dtype().name(), self.dtype, "{what}");
        if !found.dtype().is_float() {
            assert_eq!(found.bytes(), self.tensor().bytes(), "{what}");
            return;
        }
        let (found, expected) = (support::numbers(found), self.numbers());
        let scale = expected
            .iter()
            .fold(1.0, |scale: f64, value| scale.max(value.abs()));
        for (place, (expected, found)) in expected.iter().zip(found).enumerate() {
            let error = (expected - found).abs();
            assert!(
                error <= tolerance * scale,
                "{what}: element {place} is {found}, but should be {expected}"
            );
        }
    }
}

fn attribute(value: &Json) -> Attribute {
    match value {
        Json::Array(values) => values
            .iter()
            .map(|value| value.as_i64().unwrap())
            .collect::<Vec<_>>()
            .as_slice()
            .into(),
        Json::String(text) => text.as_str().into(),
        value => value.as_i64().unwrap().into(),
    }
}

#[test]
fn elementwise_operations_and_reductions_of_every_type_have_the_values_of_pytorch() {
    for (number, case) in read_fixture::<Vec<Case>>("elementwise").iter().enumerate() {
        let what = format!("case {number}, `{}`", case.op);
        let mut inputs: Vec<Tensor> = case.operands.iter().map(Array::tensor).collect();
        let mut program = Program::default();
        let operands: Vec<Value> = inputs
            .iter()
            .enumerate()
            .map(|(index, tensor)| program.input_like(index, tensor))
            .collect();
        let attributes: Vec<(&str, Attribute)> = case
            .attributes
            .iter()
            .map(|(name, value)| (name.as_str(), attribute(value)))
            .collect();
        let result = program.push(&case.op, &operands, &attributes);
        program.output(result);
        if let Some(weights) = &case.weights {
            let weights = weights.tensor();
            let rank = weights.shape().len() as i64;
            inputs.push(weights.clone());
            let weights = program.input_like(inputs.len() - 1, &weights);
            let product = program.op("multiply", &[result, weights]);
            let axes: Vec<i64> = (0..rank).collect();
            let loss = program.push("reduce-sum", &[product], &[("axes", list(&axes))]);
            let floats: Vec<Value> = operands
                .iter()
                .zip(&inputs)
                .filter(|(_, tensor)| tensor.dtype().is_float())
                .map(|(value, _)| *value)
                .collect();
            program = gradient(&program, loss, &floats).unwrap();
        }
        let outputs = run(&program, &inputs).unwrap();
        case.result.check(&outputs[0], &what, 8.0);
        assert_eq!(outputs.len() - 1, case.gradients.len(), "{what}");
        for (place, (expected, found)) in case.gradients.iter().zip(&outputs[1..]).enumerate() {
            expected.check(found, &format!("{what}, gradient {place}"), 16.0);
        }
    }
}

#[derive(Deserialize)]
struct Training {
    pixels: Array,
    labels: Array,
    start: Vec<Array>,
    losses: Vec<f64>,
    end: Vec<Array>,
}

#[test]
fn ten_steps_of_adam_follow_pytorch() {
    let training: Training = read_fixture("training");
    let inputs = [training.pixels.tensor(), training.labels.tensor()];
    let start: Vec<Tensor> = training.start.iter().map(Array::tensor).collect();
    let mut program = Program::default();
    let pixels = program.input_like(0, &inputs[0]);
    let labels = program.input_like(1, &inputs[1]);
    let count = program.source("state", 0, DType::F32, &[]);
    let mut state = vec![support::f32s(&[], &[0.0])];
    let mut parameters = Vec::new();
    for parameter in &start {
        let shape: Vec<u64> = parameter.shape().iter().map(|&size| size as u64).collect();
        let zeros = || Tensor::zeros(DType::F32, &shape, &budget()).unwrap();
        parameters.push([parameter.clone(), zeros(), zeros()].map(|tensor| {
            let value = program.source("state", state.len() as i64, DType::F32, parameter.shape());
            state.push(tensor);
            value
        }));
    }
    let p = &mut program;
    let hidden = affine(p, pixels, parameters[0][0], parameters[1][0], &[5, 8]);
    let zero = p.number(0.0, &[5, 8]);
    let hidden = p.op("maximum", &[hidden, zero]);
    let logits = affine(p, hidden, parameters[2][0], parameters[3][0], &[5, 3]);
    let log = p.push("log-softmax", &[logits], &[("axis", 1.into())]);
    let hot = [("classes", 3.into()), ("dtype", "f32".into())];
    let hot = p.push("one-hot", &[labels], &hot);
    let picked = p.op("multiply", &[log, hot]);
    let sum = p.push("reduce-sum", &[picked], &[("axes", list(&[0, 1]))]);
    let scale = p.number(-0.2, &[]);
    let loss = p.op("multiply", &[sum, scale]);
    let weights: Vec<Value> = parameters.iter().map(|parts| parts[0]).collect();
    let mut program = gradient(p, loss, &weights).unwrap();
    let gradients = std::mem::replace(&mut program.outputs, vec![loss]);
    adam(&mut program, count, &parameters, &gradients, &start);

    let context = context();
    let executable = Executable::compile(&program, context.budget()).unwrap();
    let mut session = executable.bind(state, &context).unwrap();
    for expected in &training.losses {
        let loss = session.run(&inputs).unwrap()[0].item();
        assert!(
            (loss - expected).abs() < 1e-5,
            "{loss} instead of {expected}"
        );
    }
    for (index, expected) in training.end.iter().enumerate() {
        let found = session.state(1 + 3 * index as u32).unwrap();
        expected.check(&found, "a parameter", 80.0);
    }
}

fn affine(p: &mut Program, x: Value, weight: Value, bias: Value, shape: &[i64]) -> Value {
    let axes = [
        ("lhs-batch", list(&[])),
        ("rhs-batch", list(&[])),
        ("lhs-contract", list(&[1])),
        ("rhs-contract", list(&[0])),
    ];
    let product = p.push("dot-general", &[x, weight], &axes);
    let bias = p.push(
        "broadcast",
        &[bias],
        &[("shape", list(shape)), ("axes", list(&[1]))],
    );
    p.op("add", &[product, bias])
}

fn adam(
    p: &mut Program,
    count: Value,
    parameters: &[[Value; 3]],
    gradients: &[Value],
    start: &[Tensor],
) {
    let one = p.number(1.0, &[]);
    let count = p.op("add", &[count, one]);
    p.update(0, count);
    let corrections = [0.9, 0.999].map(|decay| {
        let decay = p.number(decay, &[]);
        let power = p.op("power", &[decay, count]);
        p.op("subtract", &[one, power])
    });
    for (index, ((parts, gradient), start)) in
        parameters.iter().zip(gradients).zip(start).enumerate()
    {
        let shape: Vec<i64> = start.shape().iter().map(|&size| size as i64).collect();
        let square = p.op("square", &[*gradient]);
        let mut moments = [(parts[1], *gradient, 0.9), (parts[2], square, 0.999)].map(
            |(old, new, decay): (Value, Value, f64)| {
                let keep = p.number(decay, &shape);
                let rest = p.number(1.0 - decay, &shape);
                let old = p.op("multiply", &[old, keep]);
                let new = p.op("multiply", &[new, rest]);
                p.op("add", &[old, new])
            },
        );
        p.update(3 * index as u32 + 2, moments[0]);
        p.update(3 * index as u32 + 3, moments[1]);
        for (moment, correction) in moments.iter_mut().zip(corrections) {
            let attributes = [("shape", list(&shape)), ("axes", list(&[]))];
            let correction = p.push("broadcast", &[correction], &attributes);
            *moment = p.op("divide", &[*moment, correction]);
        }
        let root = p.op("sqrt", &[moments[1]]);
        let epsilon = p.number(1e-8, &shape);
        let root = p.op("add", &[root, epsilon]);
        let step = p.op("divide", &[moments[0], root]);
        let rate = p.number(0.05, &shape);
        let step = p.op("multiply", &[step, rate]);
        let parameter = p.op("subtract", &[parts[0], step]);
        p.update(3 * index as u32 + 1, parameter);
    }
}
