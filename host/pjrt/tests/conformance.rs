//! Programs give the same on the host's executor and, as StableHLO, through a PJRT plugin.
//!
//! `TRAINSHED_PJRT_PLUGIN` names the plugin; `cargo xtask test` fetches one for host
//! processors and sets it. Any other plugin can be tested the same way, a GPU's too.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a failed unwrap is a failed test, and the numbers are small"
)]

mod cases;
mod plugin;
#[path = "../../tensor/tests/support/mod.rs"]
mod support;

use std::collections::BTreeSet;

use cases::{CASES, Case};
use serde_json::Value as Json;
use support::random::Random;
use support::{Build, budget, context, list};
use trainshed_tensor::{
    Attribute, Body, DType, Device, Executable, Program, Tensor, Value, gradient,
};

/// What a run gives: outputs, then states.
fn run(device: &Device, program: &Program, inputs: &[Tensor], state: &[Tensor]) -> Vec<Tensor> {
    let executable = Executable::compile_for(device, program, &budget()).unwrap();
    let mut session = executable.bind(state.to_vec(), &context()).unwrap();
    let mut results = session.run(inputs).unwrap();
    results.extend((0..state.len() as u32).map(|index| session.state(index).unwrap()));
    results
}

/// Runs a program on both and compares; `what` it is goes into the message. Errors may be
/// `slack` times as large as those of one operation.
fn check(what: &str, program: &Program, inputs: &[Tensor], slack: f64) {
    let expected = run(&Device::Cpu, program, inputs, &[]);
    let found = run(&plugin::device(), program, inputs, &[]);
    assert_eq!(expected.len(), found.len(), "{what}");
    for (place, (expected, found)) in expected.iter().zip(&found).enumerate() {
        compare(&format!("{what}, output {place}"), expected, found, slack);
    }
}

fn compare(what: &str, expected: &Tensor, found: &Tensor, slack: f64) {
    assert_eq!(expected.dtype(), found.dtype(), "{what}");
    assert_eq!(expected.shape(), found.shape(), "{what}");
    if !expected.dtype().is_float() {
        assert_eq!(expected.bytes(), found.bytes(), "{what}");
        return;
    }
    let tolerance = slack * tolerance(expected.dtype());
    let [expected, found] = [expected, found].map(floats);
    for (at, (a, b)) in expected.iter().zip(&found).enumerate() {
        let both_nan = a.is_nan() && b.is_nan();
        let near = a == b || both_nan || (a - b).abs() <= tolerance * a.abs().max(1.0);
        assert!(
            near,
            "{what}, element {at}: {a} on the host, {b} through the plugin"
        );
    }
}

/// How far the result of an operation may be off: relative to the number, or absolutely
/// where it is below 1. For the half types, two units in the last place.
fn tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::F64 => 1e-12,
        DType::F32 => 1e-5,
        DType::Bf16 => 2f64.powi(-7),
        DType::F16 => 2f64.powi(-10),
        _ => 0.0,
    }
}

fn floats(tensor: &Tensor) -> Vec<f64> {
    let dtype = tensor.dtype();
    let one = |element: &[u8]| -> f64 {
        match dtype {
            DType::F64 => f64::from_le_bytes(element.try_into().unwrap()),
            DType::F32 => f32::from_le_bytes(element.try_into().unwrap()).into(),
            DType::Bf16 => half::bf16::from_le_bytes(element.try_into().unwrap()).into(),
            _ => half::f16::from_le_bytes(element.try_into().unwrap()).into(),
        }
    };
    tensor.bytes().chunks(dtype.size()).map(one).collect()
}

/// Little-endian elements of numbers.
fn elements(dtype: DType, numbers: &[f64]) -> Vec<u8> {
    let mut bytes = vec![0; numbers.len() * dtype.size()];
    for (&number, element) in numbers.iter().zip(bytes.chunks_mut(dtype.size())) {
        dtype.write(number, element);
    }
    bytes
}

/// Numbers at which operations are likely to differ.
const EDGES: [f64; 16] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    -2.5,
    3.5,
    f64::NAN,
    f64::INFINITY,
    f64::NEG_INFINITY,
    300.0,
    -2_147_483_648.0,
    4_294_967_295.0,
    1e20,
    -70000.0,
    127.0,
];

/// A tensor of such a type as `f32[2,3]`, where `T` stands for `dtype`.
fn tensor(text: &str, dtype: DType, random: &mut Random, edges: bool) -> Tensor {
    let (name, shape) = text.split_once('[').unwrap();
    let dtype = if name == "T" {
        dtype
    } else {
        DType::parse(name).unwrap()
    };
    let shape = shape.trim_end_matches(']').split(',');
    let shape: Vec<u64> = shape
        .filter(|size| !size.is_empty())
        .map(|size| size.parse().unwrap())
        .collect();
    let count: u64 = shape.iter().product();
    let numbers: Vec<f64> = (0..count)
        .map(|_| match (edges, dtype.is_float()) {
            (true, _) => random.pick(&EDGES),
            (false, true) => f64::from(random.number()),
            (false, false) => random.below(9) as f64 - 2.0,
        })
        .collect();
    Tensor::from_bytes(dtype, &shape, &elements(dtype, &numbers), &budget()).unwrap()
}

fn attribute(value: &Json) -> Attribute {
    match value {
        Json::Bool(flag) => Attribute::Flag(*flag),
        Json::String(text) => Attribute::Text(text.clone()),
        Json::Array(values) => {
            Attribute::Integers(values.iter().map(|value| value.as_i64().unwrap()).collect())
        }
        Json::Number(number) if number.is_i64() => Attribute::Integer(number.as_i64().unwrap()),
        value => Attribute::Number(value.as_f64().unwrap()),
    }
}

/// Appends a case to a program that has `inputs_before` inputs; gives its operands and results.
fn append(
    program: &mut Program,
    case: &Case,
    inputs: &[Tensor],
    inputs_before: usize,
) -> (Vec<Value>, Vec<Value>) {
    let operands: Vec<Value> = (inputs_before..)
        .zip(inputs)
        .map(|(index, tensor)| program.input_like(index, tensor))
        .collect();
    let attributes: Json = serde_json::from_str(case.attributes).unwrap();
    let attributes: Vec<(&str, Attribute)> = attributes
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, value)| (name.as_str(), attribute(value)))
        .collect();
    let first = program.push(case.op, &operands, &attributes);
    let results: Vec<Value> = (0..case.results)
        .map(|output| Value { output, ..first })
        .collect();
    (operands, results)
}

fn inputs_of(case: &Case, dtype: DType, seed: u64, edges: bool) -> Vec<Tensor> {
    let mut random = Random::new(seed);
    case.operands
        .split_whitespace()
        .map(|text| tensor(text, dtype, &mut random, edges))
        .collect()
}

fn dtypes(case: &Case) -> Vec<DType> {
    if !case.operands.contains('T') {
        return vec![DType::F32];
    }
    let names = match case.types {
        "float" => "f32 f64 bf16 f16",
        "integer" => "i32 i64 u8 u32",
        "number" => "f32 f64 bf16 f16 i32 i64 u8 u32",
        "any" => "f32 f64 bf16 f16 i32 i64 u8 u32 bool",
        "bits" => "bool i32 i64 u8 u32",
        "index" => "i32 i64 u32",
        other => other,
    };
    names.split_whitespace().filter_map(DType::parse).collect()
}

#[test]
fn every_operation_gives_the_same() {
    for case in CASES {
        // One program for all types: compiling takes longer than anything else.
        let mut program = Program::default();
        let mut inputs = Vec::new();
        let mut whats = Vec::new();
        for dtype in dtypes(case) {
            for edges in [false, true] {
                if edges && !case.edges {
                    continue;
                }
                let operands = inputs_of(case, dtype, 1, edges);
                let (_, results) = append(&mut program, case, &operands, inputs.len());
                inputs.extend(operands);
                for (place, result) in results.into_iter().enumerate() {
                    program.output(result);
                    let what = format!("{case:?} of {dtype}, edges: {edges}, result {place}");
                    whats.push(what);
                }
            }
        }
        let expected = run(&Device::Cpu, &program, &inputs, &[]);
        let found = run(&plugin::device(), &program, &inputs, &[]);
        for ((what, expected), found) in whats.iter().zip(&expected).zip(&found) {
            compare(what, expected, found, 1.0);
        }
    }
}

#[test]
fn every_gradient_gives_the_same() {
    for case in CASES {
        let types = dtypes(case);
        let dtype = types.iter().find(|&&dtype| dtype == DType::F32);
        let inputs = inputs_of(case, *dtype.unwrap_or(&types[0]), 2, false);
        let mut program = Program::default();
        let (operands, results) = append(&mut program, case, &inputs, 0);
        check_gradient(&format!("{case:?}"), program, inputs, &operands, &results);
    }
}

/// Compares the derivatives of the sum of all `f32` results, each element times a weight,
/// by all `f32` inputs, which are `operands`.
fn check_gradient(
    what: &str,
    mut program: Program,
    mut inputs: Vec<Tensor>,
    operands: &[Value],
    results: &[Value],
) {
    let float = |tensor: &Tensor| tensor.dtype() == DType::F32;
    program.outputs = results.to_vec();
    let values = run(&Device::Cpu, &program, &inputs, &[]);
    let places: Vec<Value> = operands
        .iter()
        .zip(&inputs)
        .filter(|(_, tensor)| float(tensor))
        .map(|(value, _)| *value)
        .collect();
    let mut random = Random::new(3);
    let mut losses = Vec::new();
    for (&result, value) in results.iter().zip(&values) {
        if float(value) {
            let weights = random.tensor(DType::F32, value.shape());
            let weight = program.input_like(inputs.len(), &weights);
            inputs.push(weights);
            let product = program.op("multiply", &[result, weight]);
            let axes: Vec<i64> = (0..value.shape().len() as i64).collect();
            losses.push(program.push("reduce-sum", &[product], &[("axes", list(&axes))]));
        }
    }
    let loss = losses
        .into_iter()
        .reduce(|sum, loss| program.op("add", &[sum, loss]));
    if let Some(loss) = loss.filter(|_| !places.is_empty()) {
        let program = gradient(&program, loss, &places).unwrap();
        check(&format!("gradient of {what}"), &program, &inputs, 1.0);
    }
}

/// Its own test, because it takes what `attention` gave, not any numbers.
#[test]
fn the_gradient_of_attention_gives_the_same() {
    for (causal, masked) in [(true, false), (false, true)] {
        let mut random = Random::new(4);
        let mut inputs: Vec<Tensor> = ["T[2,3,4]", "T[2,5,4]", "T[2,5,3]"]
            .map(|text| tensor(text, DType::F32, &mut random, false))
            .into();
        if masked {
            inputs.push(tensor("bool[1,3,5]", DType::F32, &mut random, false));
        }
        let mut program = Program::default();
        let mut operands: Vec<Value> = (0..)
            .zip(&inputs)
            .map(|(index, tensor)| program.input_like(index, tensor))
            .collect();
        let attributes = [("scale", 0.5.into()), ("causal", causal.into())];
        let result = program.push("attention", &operands, &attributes);
        let logarithms = Value {
            output: 1,
            ..result
        };
        let adjoint = tensor("T[2,3,3]", DType::F32, &mut random, false);
        let adjoint_value = program.input_like(inputs.len(), &adjoint);
        let given = [operands.as_slice(), &[result, logarithms, adjoint_value]].concat();
        let first = program.push("attention-gradient", &given, &attributes);
        let results: Vec<Value> = (0..3).map(|output| Value { output, ..first }).collect();
        inputs.push(adjoint);
        operands.push(adjoint_value);
        let what = format!("attention-gradient, causal: {causal}, masked: {masked}");
        program.outputs.clone_from(&results);
        check(&what, &program, &inputs, 1.0);
        check_gradient(&what, program, inputs, &operands, &results);
    }
}

#[test]
fn random_programs_give_the_same() {
    for seed in 0..20 {
        let (program, inputs) = support::random::smooth_program(seed, 20);
        check(&format!("random program {seed}"), &program, &inputs, 10.0);
    }
}

/// `carry = tanh(carry * weight + slice)`, which is stacked too.
fn recurrent_body() -> Body {
    let mut body = Body::default();
    let input = |body: &mut Body, index: i64| {
        let attributes = [
            ("index", index.into()),
            ("dtype", "f32".into()),
            ("shape", list(&[3])),
        ];
        body.push("input", &[], &attributes)
    };
    let [carry, slice, weight] = [0, 1, 2].map(|index| input(&mut body, index));
    let product = body.push("multiply", &[carry, weight], &[]);
    let sum = body.push("add", &[product, slice], &[]);
    let next = body.push("tanh", &[sum], &[]);
    body.outputs = vec![next, next];
    body
}

#[test]
fn scans_and_their_gradients_give_the_same() {
    let mut random = Random::new(5);
    for (length, reverse) in [(4, false), (4, true), (1, false), (0, true)] {
        let shapes: [&[usize]; 3] = [&[3], &[length, 3], &[3]];
        let inputs = shapes.map(|shape| random.tensor(DType::F32, shape));
        let mut program = Program {
            bodies: vec![recurrent_body()],
            ..Program::default()
        };
        let places: Vec<Value> = inputs
            .iter()
            .enumerate()
            .map(|(index, tensor)| program.input_like(index, tensor))
            .collect();
        let attributes = [
            ("body", 0.into()),
            ("carries", 1.into()),
            ("sequences", 1.into()),
            ("length", (length as i64).into()),
            ("reverse", reverse.into()),
        ];
        let last = program.push("scan", &places, &attributes);
        let stacked = Value { output: 1, ..last };
        program.outputs = vec![last, stacked];
        let what = format!("scan of {length} steps, reverse: {reverse}");
        check(&what, &program, &inputs, 1.0);

        let square = program.op("square", &[stacked]);
        let sum = program.push("reduce-sum", &[square], &[("axes", list(&[0, 1]))]);
        let total = program.push("reduce-sum", &[last], &[("axes", list(&[0]))]);
        let loss = program.op("add", &[sum, total]);
        let program = gradient(&program, loss, &places).unwrap();
        check(&format!("gradient of {what}"), &program, &inputs, 1.0);
    }
}

#[test]
fn a_while_gives_the_same() {
    // `while x < bound { x = x * factor }`.
    let [mut condition, mut body] = [Body::default(), Body::default()];
    let scalars = |body: &mut Body| {
        [0, 1, 2].map(|index: i64| {
            let attributes = [
                ("index", index.into()),
                ("dtype", "f32".into()),
                ("shape", list(&[])),
            ];
            body.push("input", &[], &attributes)
        })
    };
    let [x, bound, _] = scalars(&mut condition);
    condition.outputs = vec![condition.push("less", &[x, bound], &[])];
    let [x, _, factor] = scalars(&mut body);
    body.outputs = vec![body.push("multiply", &[x, factor], &[])];
    let mut program = Program {
        bodies: vec![condition, body],
        ..Program::default()
    };
    let numbers = [1.0, 100.0, 3.0].map(|number| support::f32s(&[], &[number]));
    let places: Vec<Value> = numbers
        .iter()
        .enumerate()
        .map(|(index, tensor)| program.input_like(index, tensor))
        .collect();
    for limit in [0, 2, 1000] {
        let attributes = [
            ("condition", 0.into()),
            ("body", 1.into()),
            ("carries", 1.into()),
            ("limit", limit.into()),
        ];
        let result = program.push("while", &places, &attributes);
        program.output(result);
    }
    check("while", &program, &numbers, 0.0);
}

#[test]
fn every_operation_of_the_reference_has_a_case() {
    let reference = include_str!("../../../docs/programs.md");
    let mut cases: BTreeSet<&str> = CASES.iter().map(|case| case.op).collect();
    cases.insert("attention-gradient");
    let mut missing = Vec::new();
    let mut heading = "";
    for line in reference.lines() {
        if let Some(text) = line.strip_prefix("## ") {
            heading = text;
        }
        let Some(cell) = line
            .strip_prefix("| `")
            .and_then(|row| row.split('|').next())
        else {
            continue;
        };
        // What is in every program, and what has bodies, has tests of its own.
        if heading == "Sources of values" || heading == "Control" {
            continue;
        }
        // In parentheses are attributes.
        let cell = cell.split('(').next().unwrap();
        missing.extend(
            cell.split(['`', ',', ' '])
                .filter(|name| !name.is_empty() && !cases.contains(name)),
        );
    }
    assert!(missing.is_empty(), "no case has {missing:?}");
}

#[test]
fn state_stays_on_the_device_from_run_to_run() {
    let mut program = Program::default();
    let step = program.source("input", 0, DType::F32, &[2]);
    let total = program.source("state", 0, DType::F32, &[2]);
    let count = program.source("state", 1, DType::I32, &[]);
    let sum = program.op("add", &[total, step]);
    // The second state changes nothing but is read, and the first is returned as it was.
    let wide = program.push("convert", &[count], &[("dtype", "f32".into())]);
    program.output(total);
    program.output(wide);
    program.update(0, sum);
    let start = [support::f32s(&[2], &[1.0, 2.0]), support::i32s(&[], &[7])];
    for device in [Device::Cpu, plugin::device()] {
        let executable = Executable::compile_for(&device, &program, &budget()).unwrap();
        let mut session = executable.bind(start.to_vec(), &context()).unwrap();
        let step = support::f32s(&[2], &[10.0, 20.0]);
        let mut before = Vec::new();
        for _ in 0..3 {
            let outputs = session.run(std::slice::from_ref(&step)).unwrap();
            before.push(support::floats(&outputs[0]));
            assert_eq!(support::floats(&outputs[1]), [7.0]);
        }
        assert_eq!(before, [[1.0, 2.0], [11.0, 22.0], [21.0, 42.0]]);
        assert_eq!(support::floats(&session.state(0).unwrap()), [31.0, 62.0]);
        assert_eq!(support::ints(&session.state(1).unwrap()), [7]);
        assert_eq!(support::floats(&start[0]), [1.0, 2.0]);
        let missing = session.state(2).unwrap_err().to_string();
        assert_eq!(
            missing,
            "state 2 is wanted, but the program has 2 state tensors"
        );
    }
}
