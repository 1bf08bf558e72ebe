//! Gradients against finite differences, on operations alone and on random programs.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a failed unwrap is a failed test, and the numbers are small"
)]

mod support;

use proptest::prelude::*;
use support::random::{Growing, Random};
use support::{Build, budget, context, floats, list, run};
use trainshed_tensor::{
    Attribute, DType, Executable, Program, ProgramError, Tensor, Value, gradient,
};

/// The sum of all elements.
fn total(program: &mut Program, x: Value, rank: usize) -> Value {
    let axes: Vec<i64> = (0..rank as i64).collect();
    program.push("reduce-sum", &[x], &[("axes", list(&axes))])
}

/// Compares the derivative of `loss` along a random direction of all `f32` inputs with
/// differences. `None` when the differences are too coarse to tell.
fn slopes(program: &Program, loss: Value, inputs: &[Tensor], seed: u64) -> Option<(f64, f64, f64)> {
    let mut random = Random::new(seed);
    let places: Vec<usize> = (0..inputs.len())
        .filter(|&place| inputs[place].dtype() == DType::F32)
        .collect();
    let sources: Vec<Value> = places
        .iter()
        .map(|&place| {
            let instruction = program
                .instructions
                .iter()
                .position(|instruction| {
                    instruction.op == "input"
                        && instruction.attributes[0].1 == Attribute::Integer(place as i64)
                })
                .unwrap();
            Value {
                instruction: instruction as u32,
                output: 0,
            }
        })
        .collect();
    let derived = gradient(program, loss, &sources).unwrap();
    let gradients = run(&derived, inputs).unwrap();
    let gradients = &gradients[program.outputs.len()..];

    let directions: Vec<Tensor> = places
        .iter()
        .map(|&place| random.tensor(DType::F32, inputs[place].shape()))
        .collect();
    let mut slope = 0.0;
    let mut size = 0.0;
    for (gradient, direction) in gradients.iter().zip(&directions) {
        for (g, d) in floats(gradient).into_iter().zip(floats(direction)) {
            slope += f64::from(g) * f64::from(d);
            size += (f64::from(g) * f64::from(d)).abs();
        }
    }

    let mut forward = program.clone();
    forward.outputs = vec![loss];
    let context = context();
    let executable = Executable::compile(&forward, context.budget()).unwrap();
    let mut session = executable.bind(Vec::new(), &context).unwrap();
    let mut difference = |step: f32| {
        let mut at = |step: f32| {
            let mut moved = inputs.to_vec();
            for (&place, direction) in places.iter().zip(&directions) {
                let values: Vec<f32> = floats(&inputs[place])
                    .iter()
                    .zip(floats(direction))
                    .map(|(x, d)| x + step * d)
                    .collect();
                let shape: Vec<u64> = inputs[place]
                    .shape()
                    .iter()
                    .map(|&size| size as u64)
                    .collect();
                moved[place] = Tensor::from_f32(&shape, &values, &budget()).unwrap();
            }
            session.run(&moved).unwrap()[0].item()
        };
        (at(step) - at(-step)) / f64::from(2.0 * step)
    };
    let (wide, narrow) = (difference(4e-3), difference(2e-3));
    let scale = 1.0 + size + wide.abs();
    ((wide - narrow).abs() < 0.01 * scale).then_some((slope, narrow, scale))
}

#[track_caller]
fn check(program: &Program, loss: Value, inputs: &[Tensor], seed: u64) {
    if let Some((slope, difference, scale)) = slopes(program, loss, inputs, seed) {
        assert!(
            (slope - difference).abs() < 0.02 * scale,
            "slope {slope}, difference {difference}"
        );
    }
}

/// A loss in which each element of `x` counts with another weight.
fn weighted(growing: &mut Growing, x: Value, shape: &[usize]) -> Value {
    let weights = growing.input(DType::F32, shape);
    let product = growing.program.op("multiply", &[x, weights]);
    total(&mut growing.program, product, shape.len())
}

/// An operation on numbers from 0.5 up, where all of them are smooth.
fn check_elementwise(op: &str, operands: usize, seed: u64) {
    let mut growing = Growing::new(seed, true);
    let shape = growing.random.shape();
    let sizes: Vec<i64> = shape.iter().map(|&size| size as i64).collect();
    let values: Vec<Value> = (0..operands)
        .map(|_| {
            let x = growing.input(DType::F32, &shape);
            let half = growing.program.number(0.5, &sizes);
            let square = growing.program.op("square", &[x]);
            growing.program.op("add", &[square, half])
        })
        .collect();
    // Differences cannot tell the slope next to a kink.
    let squares: Vec<Vec<f32>> = growing.inputs[growing.inputs.len() - operands..]
        .iter()
        .map(|input| floats(input).iter().map(|x| x * x).collect())
        .collect();
    if let [a, b] = &squares[..]
        && a.iter().zip(b).any(|(a, b)| (a - b).abs() < 0.1)
    {
        return;
    }
    let result = growing.program.op(op, &values);
    let loss = weighted(&mut growing, result, &shape);
    check(&growing.program, loss, &growing.inputs, seed);
}

proptest! {
    #![proptest_config(support::cases(60))]

    #[test]
    fn gradients_of_elementwise_operations_match_differences(seed in any::<u64>()) {
        let unary = [
            "negate", "abs", "sign", "square", "exp", "log", "sqrt", "rsqrt", "tanh", "sigmoid",
            "expm1", "log1p", "sin", "cos", "erf",
        ];
        for op in unary {
            check_elementwise(op, 1, seed);
        }
        let binary =
            ["add", "subtract", "multiply", "divide", "maximum", "minimum", "power", "atan2"];
        for op in binary {
            check_elementwise(op, 2, seed);
        }
    }

    #[test]
    fn gradients_of_extremes_match_differences(seed in any::<u64>()) {
        for op in ["reduce-max", "reduce-min", "reduce-product"] {
            let mut growing = Growing::new(seed, true);
            let x = growing.input(DType::F32, &[3, 4]);
            let axis = growing.random.below(2);
            let attributes = [("axes", list(&[axis as i64]))];
            let result = growing.program.push(op, &[x], &attributes);
            let loss = weighted(&mut growing, result, &[[4], [3]][axis]);
            check(&growing.program, loss, &growing.inputs, seed);
        }
    }
}

/// A random smooth program whose loss depends on most of its values.
fn smooth_program(seed: u64, length: usize) -> (Growing, Value) {
    let mut growing = Growing::new(seed, true);
    for _ in 0..length {
        growing.grow();
    }
    // A scatter is smooth as well, but needs integers, so it is added by hand.
    let data = growing.input(DType::F32, &[4, 2]);
    let indices = growing.input(DType::I64, &[3]);
    let updates = growing.input(DType::F32, &[3, 2]);
    let scattered = growing.program.push(
        "scatter-add",
        &[data, indices, updates],
        &[("axis", 0.into())],
    );
    growing.add(scattered, DType::F32, &[4, 2]);
    let values = growing.values.clone();
    let mut loss = growing.program.number(0.0, &[]);
    for (value, dtype, shape) in values.into_iter().rev().take(6) {
        if dtype == DType::F32 {
            let bounded = growing.program.op("tanh", &[value]);
            let part = weighted(&mut growing, bounded, &shape);
            loss = growing.program.op("add", &[loss, part]);
        }
    }
    (growing, loss)
}

proptest! {
    #![proptest_config(support::cases(300))]

    #[test]
    fn gradients_of_random_programs_match_differences(
        seed in any::<u64>(),
        length in 1usize..10,
    ) {
        let (growing, loss) = smooth_program(seed, length);
        if let Some((slope, difference, scale)) =
            slopes(&growing.program, loss, &growing.inputs, seed)
        {
            prop_assert!(
                (slope - difference).abs() < 0.02 * scale,
                "slope {}, difference {}", slope, difference
            );
        }
    }

    #[test]
    fn gradients_can_be_differentiated_again(seed in any::<u64>(), length in 1usize..5) {
        let (growing, loss) = smooth_program(seed, length);
        let source = growing.values[0].clone();
        let mut program = gradient(&growing.program, loss, &[source.0]).unwrap();
        let slope = program.outputs.pop().unwrap();
        let square = program.op("square", &[slope]);
        let loss = total(&mut program, square, source.2.len());
        if let Some((slope, difference, scale)) = slopes(&program, loss, &growing.inputs, seed) {
            prop_assert!(
                (slope - difference).abs() < 0.05 * scale,
                "slope {}, difference {}", slope, difference
            );
        }
    }

    #[test]
    fn a_gradient_begins_with_the_program_it_is_of(seed in any::<u64>()) {
        let (growing, loss) = smooth_program(seed, 6);
        let mut program = growing.program;
        program.output(growing.values[1].0);
        let derived = gradient(&program, loss, &[growing.values[0].0]).unwrap();
        let count = program.instructions.len();
        prop_assert_eq!(&derived.instructions[..count], &program.instructions[..]);
        prop_assert_eq!(derived.outputs[0], program.outputs[0]);
        prop_assert_eq!(derived.outputs.len(), 2);
    }
}

#[test]
fn a_value_that_the_loss_does_not_depend_on_has_a_gradient_of_zeros() {
    let mut program = Program::default();
    let x = program.source("input", 0, DType::F32, &[2]);
    let y = program.source("input", 1, DType::F32, &[3]);
    let stopped = program.op("stop-gradient", &[y]);
    let later = program.op("negate", &[x]);
    let sum = total(&mut program, stopped, 1);
    let part = total(&mut program, x, 1);
    let loss = program.op("multiply", &[sum, part]);
    let derived = gradient(&program, loss, &[y, x, later]).unwrap();
    let inputs = [
        support::f32s(&[2], &[1.0, 2.0]),
        support::f32s(&[3], &[1.0, 1.0, 3.0]),
    ];
    let outputs = run(&derived, &inputs).unwrap();
    assert_eq!(floats(&outputs[0]), [0.0; 3]);
    assert_eq!(floats(&outputs[1]), [5.0; 2]);
    assert_eq!(floats(&outputs[2]), [0.0; 2]);
}

#[test]
fn the_gradient_of_the_loss_itself_is_one() {
    let mut program = Program::default();
    let x = program.source("input", 0, DType::F32, &[]);
    let derived = gradient(&program, x, &[x, x]).unwrap();
    let outputs = run(&derived, &[support::f32s(&[], &[3.0])]).unwrap();
    assert_eq!((outputs[0].item(), outputs[1].item()), (1.0, 1.0));
}

#[test]
fn ties_share_the_gradient() {
    let mut program = Program::default();
    let x = program.source("input", 0, DType::F32, &[4]);
    let zero = program.number(0.0, &[4]);
    let positive = program.op("maximum", &[x, zero]);
    let sum = total(&mut program, positive, 1);
    let best = program.push("reduce-max", &[x], &[("axes", list(&[0]))]);
    let x_input = support::f32s(&[4], &[2.0, 0.0, -1.0, 2.0]);
    for (loss, expected) in [(sum, [1.0, 0.5, 0.0, 1.0]), (best, [0.5, 0.0, 0.0, 0.5])] {
        let derived = gradient(&program, loss, &[x]).unwrap();
        let outputs = run(&derived, std::slice::from_ref(&x_input)).unwrap();
        assert_eq!(floats(&outputs[0]), expected);
    }
}

#[test]
fn powers_have_finite_gradients_at_zero() {
    let mut program = Program::default();
    let a = program.source("input", 0, DType::F32, &[3]);
    let b = program.source("input", 1, DType::F32, &[3]);
    let power = program.op("power", &[a, b]);
    let loss = total(&mut program, power, 1);
    let derived = gradient(&program, loss, &[a, b]).unwrap();
    let inputs = [
        support::f32s(&[3], &[0.0, 0.0, 2.0]),
        support::f32s(&[3], &[0.0, 2.0, 0.0]),
    ];
    let outputs = run(&derived, &inputs).unwrap();
    assert_eq!(floats(&outputs[0]), [0.0, 0.0, 0.0]);
    let log = (2.0f32).ln();
    assert_eq!(floats(&outputs[1]), [0.0, 0.0, log]);
}

#[test]
fn what_cannot_be_differentiated_is_an_error() {
    let mut program = Program::default();
    let x = program.source("input", 0, DType::F32, &[2]);
    let count = program.source("input", 1, DType::I32, &[]);
    let loss = total(&mut program, x, 1);
    let message = |output: Value, target: Value| match gradient(&program, output, &[target]) {
        Err(ProgramError::Argument(message)) => message,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        message(x, x),
        "the value to differentiate is f32[2], but it must be a scalar"
    );
    assert_eq!(
        message(count, x),
        "the value to differentiate is i32[], but it must be a float"
    );
    assert_eq!(
        message(loss, count),
        "a value to differentiate by is i32[], but it must be a float"
    );
    let unknown = Value {
        instruction: 9,
        output: 0,
    };
    assert_eq!(
        message(unknown, x),
        "the value to differentiate: instruction 9 is used, but there are 3 before"
    );
}
