//! What the tests and examples of this crate share: short ways to write programs and run them, and
//! random programs that obey every rule.

#![allow(dead_code, reason = "each test file uses a part of this")]
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "a failed unwrap is a failed test, and the numbers are small"
)]

pub(crate) mod anything;
pub(crate) mod cases;
pub(crate) mod operations;
pub(crate) mod random;
pub(crate) mod reference;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use trainshed_tensor::{
    Attribute, Budget, Context, DType, Executable, Program, ProgramError, Tensor, Update, Value,
};

/// What `fixtures/NAME.json` holds.
pub(crate) fn read_fixture<T: for<'a> serde::Deserialize<'a>>(name: &str) -> T {
    let path = format!("{}/tests/fixtures/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

pub(crate) fn budget() -> Budget {
    Budget::new(1 << 30)
}

pub(crate) fn context() -> Context {
    threads(1)
}

pub(crate) fn threads(count: usize) -> Context {
    Context::new(budget(), count, Arc::new(AtomicBool::new(false))).unwrap()
}

pub(crate) fn list(values: &[i64]) -> Attribute {
    values.into()
}

pub(crate) fn f32s(shape: &[u64], values: &[f32]) -> Tensor {
    Tensor::from_f32(shape, values, &budget()).unwrap()
}

pub(crate) fn i32s(shape: &[u64], values: &[i32]) -> Tensor {
    let bytes: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    Tensor::from_bytes(DType::I32, shape, &bytes, &budget()).unwrap()
}

pub(crate) fn bools(shape: &[u64], values: &[bool]) -> Tensor {
    let bytes: Vec<u8> = values.iter().map(|&value| u8::from(value)).collect();
    Tensor::from_bytes(DType::Bool, shape, &bytes, &budget()).unwrap()
}

/// A program's next instruction, in few words.
pub(crate) trait Build {
    fn source(&mut self, kind: &str, index: i64, dtype: DType, shape: &[usize]) -> Value;
    fn input_like(&mut self, index: usize, tensor: &Tensor) -> Value;
    fn number(&mut self, value: f64, shape: &[i64]) -> Value;
    fn op(&mut self, name: &str, operands: &[Value]) -> Value;
    fn output(&mut self, value: Value);
    fn update(&mut self, state: u32, value: Value);
}

impl Build for Program {
    fn source(&mut self, kind: &str, index: i64, dtype: DType, shape: &[usize]) -> Value {
        let shape: Vec<i64> = shape.iter().map(|&size| size as i64).collect();
        let attributes = [
            ("index", index.into()),
            ("dtype", dtype.name().into()),
            ("shape", Attribute::Integers(shape)),
        ];
        self.push(kind, &[], &attributes)
    }

    fn input_like(&mut self, index: usize, tensor: &Tensor) -> Value {
        self.source("input", index as i64, tensor.dtype(), tensor.shape())
    }

    fn number(&mut self, value: f64, shape: &[i64]) -> Value {
        let attributes = [
            ("dtype", "f32".into()),
            ("shape", list(shape)),
            ("value", value.into()),
        ];
        self.push("constant", &[], &attributes)
    }

    fn op(&mut self, name: &str, operands: &[Value]) -> Value {
        self.push(name, operands, &[])
    }

    fn output(&mut self, value: Value) {
        self.outputs.push(value);
    }

    fn update(&mut self, state: u32, value: Value) {
        self.updates.push(Update { state, value });
    }
}

/// Compiles a program without state and runs it once.
pub(crate) fn run(program: &Program, inputs: &[Tensor]) -> Result<Vec<Tensor>, ProgramError> {
    run_with(program, inputs, &context())
}

pub(crate) fn run_with(
    program: &Program,
    inputs: &[Tensor],
    context: &Context,
) -> Result<Vec<Tensor>, ProgramError> {
    let executable = Executable::compile(program, context.budget())?;
    executable.bind(Vec::new(), context)?.run(inputs)
}

/// The result of one operation on these operands.
pub(crate) fn apply(op: &str, operands: &[Tensor], attributes: &[(&str, Attribute)]) -> Tensor {
    try_apply(op, operands, attributes).unwrap()
}

pub(crate) fn try_apply(
    op: &str,
    operands: &[Tensor],
    attributes: &[(&str, Attribute)],
) -> Result<Tensor, ProgramError> {
    let mut program = Program::default();
    let values: Vec<Value> = operands
        .iter()
        .enumerate()
        .map(|(index, tensor)| program.input_like(index, tensor))
        .collect();
    let result = program.push(op, &values, attributes);
    program.output(result);
    Ok(run(&program, operands)?.remove(0))
}

/// The error of compiling a program, as text.
#[track_caller]
pub(crate) fn problem(program: &Program) -> String {
    match Executable::compile(program, &budget()) {
        Ok(_) => panic!("the program should be refused"),
        Err(error) => error.to_string(),
    }
}

pub(crate) fn floats(tensor: &Tensor) -> Vec<f32> {
    tensor.as_f32().unwrap().to_vec()
}

/// The elements as numbers.
pub(crate) fn numbers(tensor: &Tensor) -> Vec<f64> {
    let dtype = [("dtype", "f64".into())];
    let wide = apply("convert", std::slice::from_ref(tensor), &dtype);
    wide.bytes()
        .chunks(8)
        .map(|bytes| f64::from_le_bytes(bytes.try_into().unwrap()))
        .collect()
}

/// A tensor of these numbers, rounded to the element type.
pub(crate) fn tensor(dtype: DType, shape: &[u64], numbers: &[f64]) -> Tensor {
    let mut bytes = vec![0; numbers.len() * dtype.size()];
    for (element, &number) in bytes.chunks_mut(dtype.size()).zip(numbers) {
        dtype.write(number, element);
    }
    Tensor::from_bytes(dtype, shape, &bytes, &budget()).unwrap()
}

pub(crate) fn ints(tensor: &Tensor) -> Vec<i32> {
    assert_eq!(tensor.dtype(), DType::I32);
    tensor
        .bytes()
        .chunks(4)
        .map(|bytes| i32::from_le_bytes(bytes.try_into().unwrap()))
        .collect()
}

/// Settings of property tests: the same cases each time, and nothing is written beside
/// the sources.
pub(crate) fn cases(count: u32) -> proptest::test_runner::Config {
    proptest::test_runner::Config {
        failure_persistence: None,
        rng_seed: proptest::test_runner::RngSeed::Fixed(1),
        ..proptest::test_runner::Config::with_cases(count)
    }
}

/// A context that may hold only so many bytes.
pub(crate) fn small_context(bytes: u64) -> Context {
    Context::new(Budget::new(bytes), 1, Arc::new(AtomicBool::new(false))).unwrap()
}
