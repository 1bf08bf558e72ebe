//! What every operation of `docs/programs.md` has to have: the compiler knows it and the
//! page names it, its values and gradients are those of PyTorch or JAX in single and in
//! double precision (`fixtures/*.json`), its first and second derivatives agree with
//! differences, and it rounds half types once.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a failed unwrap is a failed test, and the numbers are small"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use support::cases::Case;
use support::operations::{Documented, Instance, documented, instance, known};
use support::random::Random;
use support::{Build, budget, list, numbers, read_fixture, run, threads};
use trainshed_tensor::{DType, Executable, Program, Tensor, Value, gradient};

/// The element types that every fixture is run with.
const PRECISIONS: [DType; 2] = [DType::F32, DType::F64];

#[test]
fn operations_and_their_gradients_have_the_values_of_pytorch() {
    for (number, case) in Case::all("operations").iter().enumerate() {
        for float in PRECISIONS {
            if case.is_for(float) {
                case.check(&format!("case {number}, `{}`, {float}", case.op), float);
            }
        }
    }
}

#[test]
fn the_page_has_every_operation_of_the_compiler_and_no_other() {
    let documented: BTreeSet<String> = documented().into_iter().map(|row| row.name).collect();
    assert_eq!(documented, known());
}

/// What a file of fixtures has to say about an operation.
#[derive(Deserialize)]
struct Fixture {
    op: String,
    operands: Vec<FixtureArray>,
    #[serde(default)]
    gradients: Vec<FixtureArray>,
}

#[derive(Deserialize)]
struct FixtureArray {
    dtype: String,
}

/// Whether an operation has values, and gradients, in each of [`PRECISIONS`].
#[derive(Default)]
struct Covered {
    values: [bool; 2],
    gradients: [bool; 2],
}

fn covered() -> BTreeMap<String, Covered> {
    let mut covered: BTreeMap<String, Covered> = BTreeMap::new();
    for file in ["operations", "elementwise", "places", "neural"] {
        for fixture in read_fixture::<Vec<Fixture>>(file) {
            let entry = covered.entry(fixture.op.clone()).or_default();
            for (place, dtype) in PRECISIONS.iter().enumerate() {
                // Cases without floats serve both.
                let other = |array: &FixtureArray| {
                    DType::parse(&array.dtype).is_some_and(|of| of.is_float() && of != *dtype)
                };
                if !fixture.operands.iter().any(other) {
                    entry.values[place] = true;
                    entry.gradients[place] |= !fixture.gradients.is_empty();
                }
            }
        }
    }
    covered
}

#[test]
fn every_operation_has_fixtures_of_its_values_and_its_gradient() {
    let covered = covered();
    let mut missing = Vec::new();
    for row in documented() {
        let Some(instance) = instance(&row.name, &mut Random::new(1)) else {
            continue;
        };
        let found = covered.get(&row.name);
        for (place, dtype) in PRECISIONS.iter().enumerate() {
            if !found.is_some_and(|found| found.values[place]) {
                missing.push(format!("values of `{}` in {dtype}", row.name));
            }
            if is_differentiable(&row, &instance)
                && !found.is_some_and(|found| found.gradients[place])
            {
                missing.push(format!("gradients of `{}` in {dtype}", row.name));
            }
        }
    }
    assert!(missing.is_empty(), "no fixtures of {missing:#?}");
}

/// Whether a gradient flows from the operation's first result to one of its operands.
fn is_differentiable(row: &Documented, instance: &Instance) -> bool {
    let takes_floats = instance
        .operands
        .iter()
        .any(|operand| operand.dtype.is_none());
    !row.without_gradient && takes_floats && {
        let (mut program, _, result) = instance.program(DType::F64, false);
        program.output(result);
        run(&program, &instance.inputs(DType::F64)).unwrap()[0]
            .dtype()
            .is_float()
    }
}

fn total(program: &mut Program, x: Value, shape: &[usize]) -> Value {
    let axes: Vec<i64> = (0..shape.len() as i64).collect();
    program.push("reduce-sum", &[x], &[("axes", list(&axes))])
}

fn sum(program: &mut Program, parts: &[Value]) -> Value {
    let (&first, rest) = parts.split_first().unwrap();
    rest.iter()
        .fold(first, |sum, &part| program.op("add", &[sum, part]))
}

/// An operation, a loss of its results, and the sum of the squares of its gradients.
struct Derived {
    /// Outputs: the loss, its gradients, the sum of their squares, and its gradients.
    program: Program,
    inputs: Vec<Tensor>,
    /// The inputs that are differentiated by.
    places: Vec<usize>,
}

fn derived(instance: &Instance, random: &mut Random) -> Derived {
    let mut inputs = instance.inputs(DType::F64);
    let (mut program, operands, result) = instance.program(DType::F64, false);
    for output in 0..instance.results {
        program.output(result.result(output));
    }
    let results = run(&program, &inputs).unwrap();
    program.outputs.clear();
    let mut parts = Vec::new();
    for (output, found) in (0..instance.smooth).zip(&results) {
        if found.dtype() != DType::F64 {
            continue;
        }
        let weights = random.tensor(DType::F64, found.shape());
        let value = program.input_like(inputs.len(), &weights);
        inputs.push(weights);
        let product = program.op("multiply", &[result.result(output), value]);
        parts.push(total(&mut program, product, found.shape()));
    }
    let loss = sum(&mut program, &parts);
    program.output(loss);
    let places: Vec<usize> = (0..operands.len())
        .filter(|&place| instance.operands[place].dtype.is_none())
        .collect();
    let targets: Vec<Value> = places.iter().map(|&place| operands[place]).collect();
    let mut program = gradient(&program, loss, &targets).unwrap();
    let gradients = program.outputs[1..].to_vec();
    let mut squares = Vec::new();
    for (&slope, &place) in gradients.iter().zip(&places) {
        let square = program.op("square", &[slope]);
        squares.push(total(&mut program, square, &instance.operands[place].shape));
    }
    let again = sum(&mut program, &squares);
    program.output(again);
    Derived {
        program: gradient(&program, again, &targets).unwrap(),
        inputs,
        places,
    }
}

impl Derived {
    /// Compares both derivatives along a random direction with differences.
    fn check(&self, random: &mut Random) -> Result<(), String> {
        let context = threads(1);
        let executable = Executable::compile(&self.program, &budget()).unwrap();
        let mut session = executable.bind(Vec::new(), &context).unwrap();
        let mut outputs_at = |step: f64, directions: &[Tensor]| {
            let mut inputs = self.inputs.clone();
            for (&place, direction) in self.places.iter().zip(directions) {
                let moved = numbers(&inputs[place]).into_iter().zip(numbers(direction));
                let moved: Vec<f64> = moved.map(|(x, d)| x + step * d).collect();
                let shape: Vec<u64> = direction.shape().iter().map(|&size| size as u64).collect();
                inputs[place] = support::tensor(DType::F64, &shape, &moved);
            }
            session.run(&inputs).unwrap()
        };
        let directions: Vec<Tensor> = self
            .places
            .iter()
            .map(|&place| random.tensor(DType::F64, self.inputs[place].shape()))
            .collect();
        let here = outputs_at(0.0, &directions);
        let step = 1e-5;
        let (above, below) = (
            outputs_at(step, &directions),
            outputs_at(-step, &directions),
        );
        let count = self.places.len();
        for (order, output) in [("first", 0), ("second", 1 + count)] {
            let mut slope = 0.0;
            let mut size = numbers(&here[output])[0].abs();
            for (found, direction) in here[output + 1..].iter().zip(&directions) {
                for (g, d) in numbers(found).into_iter().zip(numbers(direction)) {
                    slope += g * d;
                    size += (g * d).abs();
                }
            }
            let difference =
                (numbers(&above[output])[0] - numbers(&below[output])[0]) / (2.0 * step);
            // Means of nothing are no numbers, and what is infinite has no differences.
            let fits = (slope - difference).abs() <= 1e-5 * (1.0 + size)
                || (difference.is_nan() && !numbers(&here[output])[0].is_finite());
            if !fits {
                return Err(format!(
                    "{order} derivative {slope}, but differences say {difference}"
                ));
            }
        }
        Ok(())
    }
}

/// Instances of each operation that are tried.
const INSTANCES: u64 = 16;

/// Collects what is wrong with random instances of every operation.
#[track_caller]
fn check_all(mut check: impl FnMut(&Documented, &Instance, &mut Random) -> Result<(), String>) {
    let mut problems = Vec::new();
    for row in documented() {
        for seed in 0..INSTANCES {
            let mut random = Random::new(seed);
            let Some(instance) = instance(&row.name, &mut random) else {
                continue;
            };
            if let Err(problem) = check(&row, &instance, &mut random) {
                let shapes = instance.operands.iter().map(|operand| &operand.shape);
                problems.push(format!(
                    "`{}` of {:?}, {:?}: {problem}",
                    row.name,
                    shapes.collect::<Vec<_>>(),
                    instance.attributes
                ));
                break;
            }
        }
    }
    assert!(problems.is_empty(), "{problems:#?}");
}

#[test]
fn derivatives_of_every_operation_agree_with_differences() {
    check_all(|row, instance, random| {
        if !is_differentiable(row, instance) {
            return Ok(());
        }
        derived(instance, random).check(random)
    });
}

#[test]
fn every_operation_rounds_half_types_once() {
    // Bodies are made of operations that round each for itself, and a uniform number has
    // as many bits as its type.
    let excluded = ["scan", "while", "random-uniform"];
    check_all(|row, instance, _| {
        if excluded.contains(&&*row.name) {
            return Ok(());
        }
        check_rounding(instance, DType::Bf16)?;
        check_rounding(instance, DType::F16)
    });
}

fn check_rounding(instance: &Instance, half: DType) -> Result<(), String> {
    let inputs = instance.inputs(half);
    let [narrow, wide] = [false, true].map(|wide| {
        let (mut program, _, result) = instance.program(half, wide);
        for output in 0..instance.results {
            program.output(result.result(output));
        }
        run(&program, &inputs).unwrap()
    });
    for (output, (found, exact)) in narrow.iter().zip(&wide).enumerate() {
        let wrong = |found: &dyn std::fmt::Debug, exact: &dyn std::fmt::Debug| {
            format!("{half}, result {output} is {found:?} instead of {exact:?}")
        };
        if found.dtype() == exact.dtype() {
            if found.bytes() != exact.bytes() {
                return Err(wrong(&numbers(found), &numbers(exact)));
            }
            continue;
        }
        assert_eq!((found.dtype(), exact.dtype()), (half, DType::F32));
        let exact = numbers(exact);
        let shape: Vec<u64> = found.shape().iter().map(|&size| size as u64).collect();
        let rounded = numbers(&support::tensor(half, &shape, &exact));
        let finite = exact.iter().filter(|number| number.is_finite());
        let scale = finite.fold(1.0, |scale: f64, number| scale.max(number.abs()));
        for ((found, exact), rounded) in numbers(found).into_iter().zip(exact).zip(rounded) {
            // Two sums in single precision may differ by a little, and lie on both sides
            // of the middle between two numbers.
            let unit = match half {
                DType::Bf16 => exact.abs() * 2f64.powi(-8),
                _ => (exact.abs() * 2f64.powi(-11)).max(2f64.powi(-25)),
            };
            let fits = found == rounded
                || (found.is_nan() && rounded.is_nan())
                || (found - exact).abs() <= unit + 2e-6 * scale;
            if !fits {
                return Err(wrong(&found, &exact));
            }
        }
    }
    Ok(())
}
