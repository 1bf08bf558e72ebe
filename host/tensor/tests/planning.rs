//! Fusing, views, the arena and threads change the speed of a program, never its bits.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a failed unwrap is a failed test, and the numbers are small"
)]

mod support;

use proptest::prelude::*;
use support::random::{self, Growing};
use support::{Build, context, floats, run, run_with, threads};
use trainshed_tensor::{Attribute, DType, Executable, Program, Tensor, Value};

/// Runs each instruction as a program of its own.
fn run_one_by_one(program: &Program, inputs: &[Tensor]) -> Vec<Tensor> {
    let mut results: Vec<Tensor> = Vec::new();
    for instruction in &program.instructions {
        if instruction.op == "input" {
            let Attribute::Integer(index) = instruction.attributes[0].1 else {
                panic!("inputs are made with the index first");
            };
            results.push(inputs[index as usize].clone());
            continue;
        }
        let operands: Vec<Tensor> = instruction
            .operands
            .iter()
            .map(|value| results[value.instruction as usize].clone())
            .collect();
        let mut alone = Program::default();
        let values: Vec<Value> = operands
            .iter()
            .enumerate()
            .map(|(index, tensor)| alone.input_like(index, tensor))
            .collect();
        let mut instruction = instruction.clone();
        instruction.operands = values;
        alone.instructions.push(instruction);
        alone.output(Value {
            instruction: alone.instructions.len() as u32 - 1,
            output: 0,
        });
        results.push(run(&alone, &operands).unwrap().remove(0));
    }
    program
        .outputs
        .iter()
        .map(|value| results[value.instruction as usize].clone())
        .collect()
}

/// Bytes, with every NaN the same: which NaN comes out of an operation is not defined.
fn bits(tensor: &Tensor) -> Vec<u8> {
    match tensor.as_f32() {
        Some(values) => values
            .iter()
            .flat_map(|value| if value.is_nan() { f32::NAN } else { *value }.to_le_bytes())
            .collect(),
        None => tensor.bytes().to_vec(),
    }
}

proptest! {
    #![proptest_config(support::cases(400))]

    #[test]
    fn a_fused_program_gives_the_bits_of_its_instructions_run_one_by_one(
        seed in any::<u64>(),
        length in 1usize..40,
    ) {
        let (program, inputs) = random::program(seed, length);
        let expected = run_one_by_one(&program, &inputs);
        let found = run(&program, &inputs).unwrap();
        for (place, (expected, found)) in expected.iter().zip(&found).enumerate() {
            prop_assert_eq!(expected.shape(), found.shape());
            prop_assert_eq!(bits(expected), bits(found), "output {}", place);
        }
    }

    #[test]
    fn products_of_views_agree_with_products_of_copies(
        seed in any::<u64>(),
        length in 1usize..15,
    ) {
        let (program, inputs) = random::smooth_program(seed, length);
        let expected = run_one_by_one(&program, &inputs);
        let found = run(&program, &inputs).unwrap();
        for (expected, found) in expected.iter().zip(&found) {
            let Some(expected) = expected.as_f32() else {
                continue;
            };
            let scale = expected.iter().fold(1.0, |scale: f32, x| scale.max(x.abs()));
            for (expected, found) in expected.iter().zip(floats(found)) {
                prop_assert!((expected - found).abs() <= 1e-3 * scale || expected.is_nan());
            }
        }
    }

    #[test]
    fn a_second_run_gives_the_same_bits(seed in any::<u64>()) {
        let (program, inputs) = random::program(seed, 20);
        let context = context();
        let executable = Executable::compile(&program, context.budget()).unwrap();
        let mut session = executable.bind(Vec::new(), &context).unwrap();
        let first = session.run(&inputs).unwrap();
        let second = session.run(&inputs).unwrap();
        for (first, second) in first.iter().zip(&second) {
            prop_assert_eq!(bits(first), bits(second));
        }
    }
}

#[test]
fn the_number_of_threads_does_not_change_the_bits() {
    let mut growing = Growing::new(7, true);
    let large = growing.input(DType::F32, &[700, 300]);
    let right = growing.input(DType::F32, &[300, 450]);
    let Growing {
        mut program,
        inputs,
        ..
    } = growing;
    let product = program.push(
        "dot-general",
        &[large, right],
        &[
            ("lhs-batch", support::list(&[])),
            ("rhs-batch", support::list(&[])),
            ("lhs-contract", support::list(&[1])),
            ("rhs-contract", support::list(&[0])),
        ],
    );
    let chain = program.op("tanh", &[product]);
    let chain = program.op("multiply", &[chain, product]);
    let shares = program.push("softmax", &[chain], &[("axis", 1.into())]);
    let columns = program.push("reduce-sum", &[shares], &[("axes", support::list(&[0]))]);
    let rows = program.push("reduce-sum", &[chain], &[("axes", support::list(&[1]))]);
    let all = program.push("reduce-mean", &[chain], &[("axes", support::list(&[0, 1]))]);
    for value in [product, chain, shares, columns, rows, all] {
        program.output(value);
    }
    let alone = run_with(&program, &inputs, &threads(1)).unwrap();
    for count in [2, 3, 5] {
        let shared = run_with(&program, &inputs, &threads(count)).unwrap();
        for (alone, shared) in alone.iter().zip(&shared) {
            assert!(alone.bytes() == shared.bytes(), "{count} threads");
        }
    }
}

/// A step of logistic regression on so much data that it is read in one pass.
#[test]
fn one_pass_over_a_large_matrix_gives_the_bits_of_two() {
    for dtype in [DType::F32, DType::F64] {
        let (rows, columns) = (17_003, 33);
        let mut program = Program::default();
        let shapes: [&[usize]; 4] = [&[rows, columns], &[rows], &[columns], &[]];
        let [x, y, weights, bias] = shapes.map(|shape| {
            let index = program.instructions.len() as i64;
            program.source("input", index, dtype, shape)
        });
        let product = |program: &mut Program, operands: &[Value], contracted: [i64; 2]| {
            let [left, right] = contracted.map(|axis| support::list(&[axis]));
            let attributes = [
                ("lhs-batch", support::list(&[])),
                ("rhs-batch", support::list(&[])),
                ("lhs-contract", left),
                ("rhs-contract", right),
            ];
            program.push("dot-general", operands, &attributes)
        };
        let of_rows = [
            ("shape", support::list(&[rows as i64])),
            ("axes", support::list(&[])),
        ];
        let all = [("axes", support::list(&[0]))];
        let products = product(&mut program, &[x, weights], [1, 0]);
        // Needs nothing of the products, and is needed between them.
        let scale = program.push("reduce-mean", &[weights], &all);
        let [bias, scale] =
            [bias, scale].map(|value| program.push("broadcast", &[value], &of_rows));
        let scores = program.op("add", &[products, bias]);
        let chances = program.op("sigmoid", &[scores]);
        let errors = program.op("subtract", &[chances, y]);
        // Needs the errors, and is not needed for the gradient.
        let squares = program.op("square", &[errors]);
        let loss = program.push("reduce-mean", &[squares], &all);
        let scaled = program.op("multiply", &[errors, scale]);
        let gradient = product(&mut program, &[x, scaled], [0, 0]);
        let bias_gradient = program.push("reduce-sum", &[scaled], &all);
        for value in [loss, chances, gradient, bias_gradient] {
            program.output(value);
        }
        let mut random = random::Random::new(3);
        let inputs = shapes.map(|shape| random.tensor(dtype, shape));
        let expected = run_one_by_one(&program, &inputs);
        for count in [1, 2, 3] {
            let found = run_with(&program, &inputs, &threads(count)).unwrap();
            for (place, (expected, found)) in expected.iter().zip(&found).enumerate() {
                assert!(
                    expected.bytes() == found.bytes(),
                    "output {place}, {count} threads"
                );
            }
        }
    }
}

#[test]
fn a_chain_of_elementwise_operations_needs_no_workspace() {
    let mut program = Program::default();
    let x = program.source("input", 0, DType::F32, &[1000]);
    let mut y = x;
    for _ in 0..10 {
        y = program.op("tanh", &[y]);
        y = program.op("add", &[y, x]);
    }
    program.output(y);
    let plan = Executable::compile(&program, &support::budget())
        .unwrap()
        .plan();
    assert_eq!((plan.workspace_bytes, plan.output_bytes), (0, 4000));
}

/// What Adam does with a parameter and more, with its factors as constants or as tensors of rank 0.
#[test]
fn sums_with_products_give_the_bits_of_their_steps() {
    for dtype in [DType::F32, DType::F64, DType::Bf16] {
        for as_tensors in [false, true] {
            let shape: &[u64] = &[7, 150];
            let mut program = Program::default();
            let mut inputs = Vec::new();
            for seed in 1..=4 {
                let numbers = (0..1050).map(|place| f64::from(place * seed % 97) / 31.0 - 1.0);
                let numbers: Vec<f64> =
                    numbers.map(|x| if seed == 4 { x * x } else { x }).collect();
                inputs.push(support::tensor(dtype, shape, &numbers));
            }
            for factor in [0.9, 0.1, 0.999, 0.001, 1.7, 1e-8] {
                inputs.push(support::tensor(dtype, &[], &[factor]));
            }
            let values: Vec<Value> = (0..inputs.len())
                .map(|index| program.input_like(index, &inputs[index]))
                .collect();
            let factors: Vec<Value> = (4..10)
                .map(|place| {
                    let of = if as_tensors {
                        values[place]
                    } else {
                        let attributes = [
                            ("dtype", dtype.name().into()),
                            ("shape", support::list(&[])),
                            ("value", support::numbers(&inputs[place])[0].into()),
                        ];
                        program.push("constant", &[], &attributes)
                    };
                    let attributes = [
                        ("shape", support::list(&[7, 150])),
                        ("axes", support::list(&[])),
                    ];
                    program.push("broadcast", &[of], &attributes)
                })
                .collect();
            let (parameter, gradient) = (values[0], values[1]);
            let kept = program.op("multiply", &[values[2], factors[0]]);
            let taken = program.op("multiply", &[gradient, factors[1]]);
            let mean = program.op("add", &[kept, taken]);
            let square = program.op("square", &[gradient]);
            let kept = program.op("multiply", &[factors[2], values[3]]);
            let taken = program.op("multiply", &[square, factors[3]]);
            let squares = program.op("add", &[kept, taken]);
            let root = program.op("sqrt", &[squares]);
            let root = program.op("multiply", &[root, factors[4]]);
            let divisor = program.op("add", &[root, factors[5]]);
            let direction = program.op("divide", &[mean, divisor]);
            let change = program.op("multiply", &[factors[4], direction]);
            let moved = program.op("subtract", &[parameter, change]);
            let back = program.op("subtract", &[change, parameter]);
            // Every operand varies.
            let left = program.op("multiply", &[moved, mean]);
            let right = program.op("multiply", &[squares, back]);
            let sum = program.op("add", &[left, right]);
            let quotient = program.op("divide", &[sum, squares]);
            let product = program.op("multiply", &[quotient, mean]);
            let rest = program.op("subtract", &[parameter, product]);
            // What is added is subtracted again, or something else is.
            let grown = program.op("add", &[factors[4], mean]);
            let settled = program.op("subtract", &[grown, factors[4]]);
            let grown = program.op("add", &[mean, factors[4]]);
            let shifted = program.op("subtract", &[grown, factors[0]]);
            let kept = program.op("multiply", &[factors[0], values[2]]);
            let taken = program.op("multiply", &[gradient, factors[3]]);
            let mean_alone = program.op("add", &[kept, taken]);
            let grown = program.op("add", &[mean_alone, factors[4]]);
            let rounded = program.op("subtract", &[grown, factors[4]]);
            for value in [mean, squares, moved, sum, rest, settled, shifted, rounded] {
                program.output(value);
            }
            let expected = run_one_by_one(&program, &inputs);
            let found = run(&program, &inputs).unwrap();
            for (place, (expected, found)) in expected.iter().zip(&found).enumerate() {
                assert_eq!(bits(expected), bits(found), "{dtype}, output {place}");
            }
        }
    }
}

/// A step of Adam as the SDK writes it: the new average, squares and parameter.
fn adam(
    program: &mut Program,
    dtype: DType,
    size: usize,
    [gradient, average, squares, parameter]: [Value; 4],
) -> [Value; 3] {
    let mut factor = |value: f64| {
        let attributes = [
            ("dtype", dtype.name().into()),
            ("shape", support::list(&[size as i64])),
            ("value", value.into()),
        ];
        program.push("constant", &[], &attributes)
    };
    let [b, c, d, f] = [0.9, 0.1, 0.999, 0.001].map(&mut factor);
    let [e, g, h, i] = [2.0_f64.powi(-100), 1.7, 1e-8, 1e-3].map(&mut factor);
    let kept = program.op("multiply", &[average, b]);
    let taken = program.op("multiply", &[gradient, c]);
    let sum = program.op("add", &[kept, taken]);
    let sum = program.op("add", &[sum, e]);
    let average = program.op("subtract", &[sum, e]);
    let kept = program.op("multiply", &[squares, d]);
    let square = program.op("square", &[gradient]);
    let taken = program.op("multiply", &[square, f]);
    let squares = program.op("add", &[kept, taken]);
    let root = program.op("sqrt", &[squares]);
    let root = program.op("multiply", &[root, g]);
    let divisor = program.op("add", &[root, h]);
    let direction = program.op("divide", &[average, divisor]);
    let change = program.op("multiply", &[i, direction]);
    let parameter = program.op("subtract", &[parameter, change]);
    [average, squares, parameter]
}

/// A gradient, an average, squares and a parameter.
fn moments(dtype: DType, size: usize) -> [Tensor; 4] {
    [1, 2, 3, 4].map(|seed| {
        let numbers = (0..size).map(|place| (place * seed % 97) as f64 / 31.0 - 1.0);
        let numbers: Vec<f64> = numbers.map(|x| if seed == 3 { x * x } else { x }).collect();
        support::tensor(dtype, &[size as u64], &numbers)
    })
}

#[test]
fn a_step_of_adam_gives_the_bits_of_its_operations() {
    for dtype in [DType::F32, DType::F64, DType::Bf16] {
        for size in [0, 1, 15, 16, 17, 1030, 150_001] {
            for is_decayed in [false, true] {
                let inputs = moments(dtype, size);
                let mut program = Program::default();
                let mut operands =
                    [0, 1, 2, 3].map(|index| program.input_like(index, &inputs[index]));
                if is_decayed {
                    // What the step reads is not in memory then.
                    let decayed = program.op("multiply", &[operands[3], operands[3]]);
                    operands[0] = program.op("add", &[operands[0], decayed]);
                }
                for result in adam(&mut program, dtype, size, operands) {
                    program.output(result);
                }
                let expected = run_one_by_one(&program, &inputs);
                let found = run_with(&program, &inputs, &threads(2)).unwrap();
                for (place, (expected, found)) in expected.iter().zip(&found).enumerate() {
                    assert_eq!(
                        bits(expected),
                        bits(found),
                        "{size} of {dtype}, output {place}"
                    );
                }
            }
        }
    }
}

/// What looks like a step of Adam, but whose parameter is its own new average or squares.
#[test]
fn a_step_that_goes_on_from_its_own_results_gives_the_bits_of_its_operations() {
    for own in [0, 1] {
        let inputs = moments(DType::F32, 1030);
        let mut program = Program::default();
        let operands = [0, 1, 2, 3].map(|index| program.input_like(index, &inputs[index]));
        let results = adam(&mut program, DType::F32, 1030, operands);
        let last = program.instructions.last_mut().unwrap();
        last.operands[0] = results[own];
        for result in results {
            program.output(result);
        }
        let expected = run_one_by_one(&program, &inputs);
        let found = run(&program, &inputs).unwrap();
        for (expected, found) in expected.iter().zip(&found) {
            assert_eq!(bits(expected), bits(found));
        }
    }
}

#[test]
fn a_step_of_adam_updates_states_in_place_also_when_they_change_places() {
    for size in [5, 1030, 150_001] {
        for order in [[1, 2, 3], [3, 1, 2]] {
            let start = moments(DType::F32, size);
            let mut by_inputs = Program::default();
            let operands = [0, 1, 2, 3].map(|index| by_inputs.input_like(index, &start[index]));
            for result in adam(&mut by_inputs, DType::F32, size, operands) {
                by_inputs.output(result);
            }
            let mut in_place = Program::default();
            let operands = [0, 1, 2, 3].map(|index: i64| {
                let kind = if index == 0 { "input" } else { "state" };
                in_place.source(kind, (index - 1).max(0), DType::F32, &[size])
            });
            let results = adam(&mut in_place, DType::F32, size, operands);
            for (result, place) in results.into_iter().zip(order) {
                in_place.update(place - 1, result);
            }

            let [gradient, states @ ..] = start.clone();
            let context = threads(2);
            let executable = Executable::compile(&in_place, context.budget()).unwrap();
            let copies = states.map(|state| {
                Tensor::from_bytes(DType::F32, &[size as u64], state.bytes(), context.budget())
                    .unwrap()
            });
            let mut session = executable.bind(copies.to_vec(), &context).unwrap();
            drop(copies);
            session.run(std::slice::from_ref(&gradient)).unwrap();
            let expected = run(&by_inputs, &start).unwrap();
            for (expected, place) in expected.iter().zip(order) {
                let found = session.state(place - 1).unwrap();
                assert_eq!(bits(expected), bits(&found), "{size}, {order:?}");
            }
        }
    }
}

#[test]
fn what_a_loss_and_its_gradient_share_is_computed_in_one_kernel() {
    let mut program = Program::default();
    let x = program.source("input", 0, DType::F32, &[1000]);
    let power = program.op("exp", &[x]);
    let one = program.number(1.0, &[1000]);
    let sum = program.op("add", &[power, one]);
    let loss = program.push("reduce-mean", &[sum], &[("axes", support::list(&[0]))]);
    // Comes after the loss, but needs nothing of it.
    let slope = program.op("divide", &[power, sum]);
    // Needs the loss.
    let attributes = [
        ("shape", support::list(&[1000])),
        ("axes", support::list(&[])),
    ];
    let spread = program.push("broadcast", &[loss], &attributes);
    let scaled = program.op("multiply", &[slope, spread]);
    for value in [loss, slope, scaled] {
        program.output(value);
    }
    let x = support::f32s(&[1000], &[0.25; 1000]);
    let expected = run_one_by_one(&program, std::slice::from_ref(&x));
    let found = run(&program, &[x]).unwrap();
    for (expected, found) in expected.iter().zip(&found) {
        assert_eq!(bits(expected), bits(found));
    }
    let plan = Executable::compile(&program, &support::budget())
        .unwrap()
        .plan();
    // Only `sum` is needed in memory beside the outputs.
    assert_eq!(plan.workspace_bytes, 4032);
}

#[test]
fn what_is_cheap_is_computed_again_instead_of_being_kept() {
    let mut program = Program::default();
    let x = program.source("input", 0, DType::F32, &[256, 64]);
    let square = program.op("square", &[x]);
    let cube = program.op("multiply", &[square, x]);
    let bent = program.op("tanh", &[cube]);
    let y = program.op("multiply", &[bent, x]);
    // Comes between the two groups of operations.
    let shares = program.push("softmax", &[y], &[("axis", 1.into())]);
    let by_square = program.op("multiply", &[shares, square]);
    let by_cube = program.op("subtract", &[by_square, cube]);
    program.output(by_cube);
    let x = random::Random::new(7).tensor(DType::F32, &[256, 64]);
    let expected = run_one_by_one(&program, std::slice::from_ref(&x));
    let found = run(&program, &[x]).unwrap();
    assert_eq!(bits(&expected[expected.len() - 1]), bits(&found[0]));
    let plan = Executable::compile(&program, &support::budget())
        .unwrap()
        .plan();
    // Neither the squares nor the cubes lie in memory, only `y` and `shares`.
    assert_eq!(plan.workspace_bytes, 2 * 256 * 64 * 4);
}

#[test]
fn values_that_are_not_needed_at_the_same_time_share_memory() {
    let mut program = Program::default();
    let mut x = program.source("input", 0, DType::F32, &[64, 64]);
    for _ in 0..20 {
        x = program.push("softmax", &[x], &[("axis", 1.into())]);
    }
    program.output(x);
    let plan = Executable::compile(&program, &support::budget())
        .unwrap()
        .plan();
    assert_eq!(plan.workspace_bytes, 2 * 64 * 64 * 4);
}

#[test]
fn what_no_output_needs_is_not_computed() {
    let mut program = Program::default();
    let x = program.source("input", 0, DType::F32, &[8]);
    program.push("softmax", &[x], &[("axis", 0.into())]);
    let y = program.op("negate", &[x]);
    program.output(y);
    let plan = Executable::compile(&program, &support::budget())
        .unwrap()
        .plan();
    assert_eq!((plan.workspace_bytes, plan.flops), (0, 8));
}

#[test]
fn an_output_that_is_an_input_is_not_copied() {
    let mut program = Program::default();
    let x = program.source("input", 0, DType::F32, &[2, 3]);
    let flat = program.push("reshape", &[x], &[("shape", support::list(&[6]))]);
    program.output(flat);
    program.output(x);
    let input = support::f32s(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let outputs = run(&program, std::slice::from_ref(&input)).unwrap();
    assert_eq!(
        (outputs[0].shape(), outputs[1].shape()),
        (&[6][..], &[2, 3][..])
    );
    assert_eq!(floats(&outputs[0]), floats(&input));
    assert!(std::ptr::eq(outputs[0].bytes(), input.bytes()));
}

#[test]
fn ten_thousand_operations_need_the_memory_of_a_few() {
    let mut program = Program::default();
    let mut x = program.source("input", 0, DType::F32, &[4, 4]);
    for step in 0..5000 {
        x = if step % 10 == 0 {
            program.push("softmax", &[x], &[("axis", 1.into())])
        } else {
            program.op("tanh", &[x])
        };
        x = program.op("add", &[x, x]);
    }
    program.output(x);
    let plan = Executable::compile(&program, &support::budget())
        .unwrap()
        .plan();
    // A softmax reads one array and writes another; its successors write over what they read.
    assert_eq!(plan.workspace_bytes, 2 * 64);
}
