//! `scan` and `while`: values, gradients, limits.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a failed unwrap is a failed test, and the numbers are small"
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use support::{Build, budget, f32s, floats, list, problem, run, run_with, threads};
use trainshed_tensor::{
    Attribute, Body, Budget, Context, DType, Executable, Program, ProgramError, Tensor, Value,
    gradient,
};

/// A body's next instruction, in few words.
trait BuildBody {
    fn input(&mut self, index: i64, shape: &[i64]) -> Value;
    fn op(&mut self, name: &str, operands: &[Value]) -> Value;
    fn product(&mut self, lhs: Value, rhs: Value) -> Value;
    fn sum(&mut self, x: Value, axes: &[i64]) -> Value;
}

impl BuildBody for Body {
    fn input(&mut self, index: i64, shape: &[i64]) -> Value {
        let attributes = [
            ("index", index.into()),
            ("dtype", "f32".into()),
            ("shape", list(shape)),
        ];
        self.push("input", &[], &attributes)
    }

    fn op(&mut self, name: &str, operands: &[Value]) -> Value {
        self.push(name, operands, &[])
    }

    fn product(&mut self, lhs: Value, rhs: Value) -> Value {
        self.push("dot-general", &[lhs, rhs], &product_axes())
    }

    fn sum(&mut self, x: Value, axes: &[i64]) -> Value {
        self.push("reduce-sum", &[x], &[("axes", list(axes))])
    }
}

fn product_axes() -> [(&'static str, Attribute); 4] {
    [
        ("lhs-batch", list(&[])),
        ("rhs-batch", list(&[])),
        ("lhs-contract", list(&[1])),
        ("rhs-contract", list(&[0])),
    ]
}

fn scan_attributes(
    body: i64,
    carries: i64,
    sequences: i64,
    length: i64,
    reverse: bool,
) -> [(&'static str, Attribute); 5] {
    [
        ("body", body.into()),
        ("carries", carries.into()),
        ("sequences", sequences.into()),
        ("length", length.into()),
        ("reverse", reverse.into()),
    ]
}

/// `next = carry + slice`, which is also stacked, and so is `carry * slice`.
fn running_sum(width: i64) -> Body {
    let mut body = Body::default();
    let carry = body.input(0, &[width]);
    let slice = body.input(1, &[width]);
    let next = body.op("add", &[carry, slice]);
    let product = body.op("multiply", &[carry, slice]);
    body.outputs = vec![next, next, product];
    body
}

fn running_sums(reverse: bool, length: usize) -> (Program, Vec<Tensor>) {
    let mut program = Program {
        bodies: vec![running_sum(2)],
        ..Program::default()
    };
    let start = program.source("input", 0, DType::F32, &[2]);
    let rows = program.source("input", 1, DType::F32, &[length, 2]);
    let attributes = scan_attributes(0, 1, 1, length as i64, reverse);
    let scan = program.push("scan", &[start, rows], &attributes);
    for result in 0..3 {
        program.output(scan.result(result));
    }
    let values: Vec<f32> = (0..2 * length).map(|i| i as f32 + 1.0).collect();
    let inputs = vec![
        f32s(&[2], &[10.0, 20.0]),
        f32s(&[length as u64, 2], &values),
    ];
    (program, inputs)
}

#[test]
fn a_scan_hands_its_carries_from_step_to_step_and_stacks_the_rest() {
    let (program, inputs) = running_sums(false, 3);
    let outputs = run(&program, &inputs).unwrap();
    assert_eq!(floats(&outputs[0]), [19.0, 32.0]);
    assert_eq!(floats(&outputs[1]), [11.0, 22.0, 14.0, 26.0, 19.0, 32.0]);
    assert_eq!(floats(&outputs[2]), [10.0, 40.0, 33.0, 88.0, 70.0, 156.0]);
}

#[test]
fn a_reversed_scan_begins_at_the_last_step() {
    let (program, inputs) = running_sums(true, 3);
    let outputs = run(&program, &inputs).unwrap();
    assert_eq!(floats(&outputs[0]), [19.0, 32.0]);
    assert_eq!(floats(&outputs[1]), [19.0, 32.0, 18.0, 30.0, 15.0, 26.0]);
}

#[test]
fn a_scan_without_steps_returns_its_carries() {
    let (program, inputs) = running_sums(false, 0);
    let outputs = run(&program, &inputs).unwrap();
    assert_eq!(floats(&outputs[0]), [10.0, 20.0]);
    assert_eq!(outputs[1].shape(), [0, 2]);
}

#[test]
fn outputs_of_a_body_may_be_its_inputs_and_constants() {
    // Swaps its carries, and returns an invariant and a constant.
    let mut body = Body::default();
    let a = body.input(0, &[]);
    let b = body.input(1, &[]);
    let invariant = body.input(2, &[]);
    let constant = body.push(
        "constant",
        &[],
        &[
            ("dtype", "f32".into()),
            ("shape", list(&[])),
            ("value", 7.0.into()),
        ],
    );
    body.outputs = vec![b, a, invariant, constant, a];
    let mut program = Program {
        bodies: vec![body],
        ..Program::default()
    };
    let sources: Vec<Value> = (0..3)
        .map(|index| program.source("input", index, DType::F32, &[]))
        .collect();
    let scan = program.push("scan", &sources, &scan_attributes(0, 2, 0, 3, false));
    for result in 0..5 {
        program.output(scan.result(result));
    }
    let inputs = [1.0, 2.0, 3.0].map(|x| f32s(&[], &[x]));
    let outputs = run(&program, &inputs).unwrap();
    let found: Vec<_> = outputs.iter().map(floats).collect();
    assert_eq!(
        found,
        [
            vec![2.0],
            vec![1.0],
            vec![3.0; 3],
            vec![7.0; 3],
            vec![1.0, 2.0, 1.0]
        ]
    );
}

/// `while x < limit { x = x * factor }`.
fn doubling(most: i64) -> Program {
    let mut condition = Body::default();
    let x = condition.input(0, &[]);
    condition.input(1, &[]);
    let limit = condition.input(2, &[]);
    let goes_on = condition.op("less", &[x, limit]);
    condition.outputs = vec![goes_on];
    let mut body = Body::default();
    let x = body.input(0, &[]);
    let factor = body.input(1, &[]);
    body.input(2, &[]);
    let next = body.op("multiply", &[x, factor]);
    body.outputs = vec![next];
    let mut program = Program {
        bodies: vec![condition, body],
        ..Program::default()
    };
    let operands: Vec<Value> = (0..3)
        .map(|index| program.source("input", index, DType::F32, &[]))
        .collect();
    let attributes = [
        ("condition", 0.into()),
        ("body", 1.into()),
        ("carries", 1.into()),
        ("limit", most.into()),
    ];
    let looped = program.push("while", &operands, &attributes);
    program.output(looped);
    program
}

#[test]
fn a_while_runs_until_its_condition_fails_or_the_limit_is_reached() {
    let result = |most: i64, start: f32| {
        let inputs = [start, 2.0, 100.0].map(|x| f32s(&[], &[x]));
        floats(&run(&doubling(most), &inputs).unwrap()[0])[0]
    };
    assert_eq!(result(1000, 3.0), 192.0);
    assert_eq!(result(1000, 50.0), 100.0);
    assert_eq!(result(1000, 100.0), 100.0);
    assert_eq!(result(2, 3.0), 12.0);
    assert_eq!(result(0, 3.0), 3.0);
}

#[test]
fn a_stop_ends_a_loop_that_would_not_end() {
    let stop = Arc::new(AtomicBool::new(false));
    let context = Context::new(budget(), 1, Arc::clone(&stop)).unwrap();
    let program = doubling(i64::from(i32::MAX));
    let executable = Executable::compile(&program, context.budget()).unwrap();
    let mut session = executable.bind(Vec::new(), &context).unwrap();
    let stopper = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        stop.store(true, Ordering::Relaxed);
    });
    let started = Instant::now();
    let ended = session.run(&[1.0, 1.0, 2.0].map(|x| f32s(&[], &[x])));
    assert_eq!(ended.unwrap_err(), ProgramError::Stopped);
    assert!(started.elapsed() < Duration::from_secs(5));
    stopper.join().unwrap();
}

/// `h = tanh(x W + h U + b)` with h stacked; inputs x, h, W, U, b.
fn recurrent(length: usize, batch: usize, width: usize) -> (Program, Vec<Value>, Value) {
    let (b, w) = (batch as i64, width as i64);
    let mut body = Body::default();
    let h = body.input(0, &[b, w]);
    let x = body.input(1, &[b, w]);
    let input_weight = body.input(2, &[w, w]);
    let weight = body.input(3, &[w, w]);
    let bias = body.input(4, &[w]);
    let from_input = body.product(x, input_weight);
    let from_state = body.product(h, weight);
    let sum = body.op("add", &[from_input, from_state]);
    let wide = body.push(
        "broadcast",
        &[bias],
        &[("shape", list(&[b, w])), ("axes", list(&[1]))],
    );
    let sum = body.op("add", &[sum, wide]);
    let next = body.op("tanh", &[sum]);
    body.outputs = vec![next, next];
    let mut program = Program {
        bodies: vec![body],
        ..Program::default()
    };
    let x = program.source("input", 0, DType::F32, &[length, batch, width]);
    let h = program.source("input", 1, DType::F32, &[batch, width]);
    let input_weight = program.source("input", 2, DType::F32, &[width, width]);
    let weight = program.source("input", 3, DType::F32, &[width, width]);
    let bias = program.source("input", 4, DType::F32, &[width]);
    let attributes = scan_attributes(0, 1, 1, length as i64, false);
    let scan = program.push("scan", &[h, x, input_weight, weight, bias], &attributes);
    let squares = program.op("square", &[scan.result(1)]);
    let loss = program.push("reduce-sum", &[squares], &[("axes", list(&[0, 1, 2]))]);
    let last = program.push("reduce-sum", &[scan], &[("axes", list(&[0, 1]))]);
    let loss = program.op("add", &[loss, last]);
    (program, vec![x, h, input_weight, weight, bias], loss)
}

/// As often as `length` says, `h` becomes `h` times the weights, which are given as they are
/// or transposed.
fn powers(length: usize, transposed: bool) -> Program {
    let [b, w, l] = [5, 33, length as i64];
    let mut body = Body::default();
    let h = body.input(0, &[b, w]);
    let weights = body.input(1, &[w, w]);
    let next = if transposed {
        let mut axes = product_axes();
        axes[3].1 = list(&[1]);
        body.push("dot-general", &[h, weights], &axes)
    } else {
        body.product(h, weights)
    };
    body.outputs = vec![next];
    let mut program = Program {
        bodies: vec![body],
        ..Program::default()
    };
    let h = program.source("input", 0, DType::F32, &[5, 33]);
    let weights = program.source("input", 1, DType::F32, &[33, 33]);
    let scan = program.push("scan", &[h, weights], &scan_attributes(0, 1, 0, l, false));
    program.output(scan);
    program
}

#[test]
fn weights_may_be_given_to_a_body_transposed() {
    let weights = numbers(2, &[33, 33]);
    let values = floats(&weights);
    let turned: Vec<f32> = (0..33 * 33)
        .map(|place| values[place % 33 * 33 + place / 33])
        .collect();
    let turned = f32s(&[33, 33], &turned);
    for length in [0, 1, 4] {
        let h = numbers(1, &[5, 33]);
        let expected = run(&powers(length, false), &[h.clone(), weights.clone()]).unwrap();
        let found = run(&powers(length, true), &[h, turned.clone()]).unwrap();
        assert_eq!(floats(&expected[0]), floats(&found[0]), "{length} steps");
    }
}

fn numbers(seed: u64, shape: &[usize]) -> Tensor {
    let mut random = support::random::Random::new(seed);
    let count: usize = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|_| 0.4 * random.number()).collect();
    let shape: Vec<u64> = shape.iter().map(|&size| size as u64).collect();
    f32s(&shape, &values)
}

fn recurrent_inputs(length: usize, batch: usize, width: usize) -> Vec<Tensor> {
    let shapes: [&[usize]; 5] = [
        &[length, batch, width],
        &[batch, width],
        &[width, width],
        &[width, width],
        &[width],
    ];
    (1..)
        .zip(shapes)
        .map(|(seed, shape)| numbers(seed, shape))
        .collect()
}

/// Compares the gradient by each input with differences along a random direction.
#[track_caller]
fn check_gradient(program: &Program, loss: Value, sources: &[Value], inputs: &[Tensor]) {
    let derived = gradient(program, loss, sources).unwrap();
    let gradients = run(&derived, inputs).unwrap();
    let gradients = &gradients[program.outputs.len()..];
    let mut forward = program.clone();
    forward.outputs = vec![loss];
    for (place, gradient) in gradients.iter().enumerate() {
        let direction = numbers(100 + place as u64, inputs[place].shape());
        let at = |step: f32| {
            let mut moved = inputs.to_vec();
            let values: Vec<f32> = floats(&inputs[place])
                .iter()
                .zip(floats(&direction))
                .map(|(x, d)| x + step * d)
                .collect();
            let shape: Vec<u64> = inputs[place].shape().iter().map(|&s| s as u64).collect();
            moved[place] = f32s(&shape, &values);
            run(&forward, &moved).unwrap()[0].item()
        };
        let difference = (at(4e-3) - at(-4e-3)) / 8e-3;
        let slope: f64 = floats(gradient)
            .iter()
            .zip(floats(&direction))
            .map(|(g, d)| f64::from(g * d))
            .sum();
        assert!(
            (slope - difference).abs() < 0.01 * (1.0 + slope.abs()),
            "input {place}: slope {slope}, difference {difference}"
        );
    }
}

#[test]
fn the_gradient_of_a_recurrent_layer_agrees_with_differences() {
    let (program, sources, loss) = recurrent(5, 3, 4);
    check_gradient(&program, loss, &sources, &recurrent_inputs(5, 3, 4));
}

#[test]
fn a_body_adds_nothing_to_the_adjoint_of_weights_step_by_step() {
    let (program, sources, loss) = recurrent(5, 3, 4);
    let derived = gradient(&program, loss, &sources).unwrap();
    let backward = derived.bodies.last().unwrap();
    let products = backward.instructions.iter();
    let products = products.filter(|instruction| instruction.op == "dot-general");
    // By the state and by the input, but by neither weight.
    assert_eq!(products.count(), 2);
    // The adjoint of the state is the only carry: nothing of the weights' shape is.
    assert_eq!(backward.outputs.len(), 1 + 2);
}

#[test]
fn gradients_of_gradients_agree_with_differences() {
    let (mut program, sources, loss) = recurrent(3, 2, 3);
    program.outputs.clear();
    let mut derived = gradient(&program, loss, &sources).unwrap();
    let gradients = std::mem::take(&mut derived.outputs);
    let mut norm = None;
    for (place, gradient) in gradients.into_iter().enumerate() {
        let rank = [3, 2, 2, 2, 1][place];
        let square = derived.op("square", &[gradient]);
        let axes: Vec<i64> = (0..rank).collect();
        let sum = derived.push("reduce-sum", &[square], &[("axes", list(&axes))]);
        norm = Some(match norm {
            None => sum,
            Some(norm) => derived.op("add", &[norm, sum]),
        });
    }
    let inputs = recurrent_inputs(3, 2, 3);
    check_gradient(&derived, norm.unwrap(), &sources, &inputs);
}

/// A scan over rows, whose body scans over the row's elements: `c = sin(c * w + x)`.
fn nested(rows: usize, columns: usize) -> (Program, Vec<Value>, Value) {
    let columns_i = columns as i64;
    let mut inner = Body::default();
    let c = inner.input(0, &[]);
    let x = inner.input(1, &[]);
    let w = inner.input(2, &[]);
    let product = inner.op("multiply", &[c, w]);
    let sum = inner.op("add", &[product, x]);
    let next = inner.op("tanh", &[sum]);
    let square = inner.op("square", &[c]);
    inner.outputs = vec![next, square];
    let mut outer = Body::default();
    let c = outer.input(0, &[]);
    let row = outer.input(1, &[columns_i]);
    let w = outer.input(2, &[]);
    let attributes = scan_attributes(0, 1, 1, columns_i, true);
    let scan = outer.push("scan", &[c, row, w], &attributes);
    let squares = outer.sum(scan.result(1), &[0]);
    let next = outer.op("add", &[scan, squares]);
    let next = outer.op("multiply", &[next, w]);
    outer.outputs = vec![next, scan.result(1)];
    let mut program = Program {
        bodies: vec![inner, outer],
        ..Program::default()
    };
    let c = program.source("input", 0, DType::F32, &[]);
    let x = program.source("input", 1, DType::F32, &[rows, columns]);
    let w = program.source("input", 2, DType::F32, &[]);
    let attributes = scan_attributes(1, 1, 1, rows as i64, false);
    let scan = program.push("scan", &[c, x, w], &attributes);
    let all = program.push("reduce-sum", &[scan.result(1)], &[("axes", list(&[0, 1]))]);
    let loss = program.op("add", &[scan, all]);
    (program, vec![c, x, w], loss)
}

fn nested_inputs(rows: usize, columns: usize) -> Vec<Tensor> {
    vec![
        f32s(&[], &[0.3]),
        numbers(5, &[rows, columns]),
        f32s(&[], &[0.7]),
    ]
}

#[test]
fn scans_inside_scans_have_gradients() {
    let (program, sources, loss) = nested(3, 4);
    check_gradient(&program, loss, &sources, &nested_inputs(3, 4));
}

#[test]
fn scans_inside_scans_have_second_derivatives() {
    let (program, sources, loss) = nested(2, 3);
    let mut derived = gradient(&program, loss, &sources).unwrap();
    let by_weight = derived.outputs.pop().unwrap();
    derived.outputs.clear();
    check_gradient(&derived, by_weight, &sources, &nested_inputs(2, 3));
}

#[test]
fn a_carry_that_is_no_float_lets_the_others_gradients_through() {
    let mut body = Body::default();
    let count = body.push(
        "input",
        &[],
        &[
            ("index", 0.into()),
            ("dtype", "i32".into()),
            ("shape", list(&[])),
        ],
    );
    let x = body.input(1, &[]);
    let factor = body.input(2, &[]);
    let more = body.op("add", &[count, count]);
    let scale = body.push("convert", &[count], &[("dtype", "f32".into())]);
    let product = body.op("multiply", &[x, factor]);
    let next = body.op("multiply", &[product, scale]);
    body.outputs = vec![more, next];
    let mut program = Program {
        bodies: vec![body],
        ..Program::default()
    };
    let count = program.push(
        "constant",
        &[],
        &[
            ("dtype", "i32".into()),
            ("shape", list(&[])),
            ("value", 1.into()),
        ],
    );
    let x = program.source("input", 0, DType::F32, &[]);
    let factor = program.source("input", 1, DType::F32, &[]);
    let attributes = scan_attributes(0, 2, 0, 3, false);
    let scan = program.push("scan", &[count, x, factor], &attributes);
    let derived = gradient(&program, scan.result(1), &[x, factor]).unwrap();
    let outputs = run(&derived, &[2.0, 3.0].map(|x| f32s(&[], &[x]))).unwrap();
    // x f³ (1 · 2 · 4)
    assert_eq!(floats(&outputs[0]), [216.0]);
    assert_eq!(floats(&outputs[1]), [432.0]);
}

#[test]
fn the_number_of_threads_does_not_change_the_bits() {
    let (mut program, sources, loss) = recurrent(4, 96, 160);
    program.outputs.clear();
    let derived = gradient(&program, loss, &sources).unwrap();
    let inputs = recurrent_inputs(4, 96, 160);
    let alone = run_with(&derived, &inputs, &threads(1)).unwrap();
    for count in [2, 3] {
        let shared = run_with(&derived, &inputs, &threads(count)).unwrap();
        for (alone, shared) in alone.iter().zip(&shared) {
            assert!(alone.bytes() == shared.bytes(), "{count} threads");
        }
    }
}

#[test]
fn the_operations_of_a_body_count_as_often_as_it_runs() {
    let flops = |length: usize| {
        let (program, _) = running_sums(false, length);
        let executable = Executable::compile(&program, &budget()).unwrap();
        executable.plan().flops
    };
    assert_eq!(flops(10), 10 * flops(1));
    // A loop that may end early counts with its limit.
    let most = i64::from(i32::MAX);
    let program = doubling(most);
    let executable = Executable::compile(&program, &budget()).unwrap();
    assert!(executable.plan().flops >= 2 * most as u64);
}

#[test]
fn a_scan_of_what_does_not_fit_is_refused_with_the_types() {
    let refused = |change: fn(&mut Program)| {
        let (mut program, _) = running_sums(false, 3);
        change(&mut program);
        problem(&program)
    };
    let set = |program: &mut Program, name: &str, value: Attribute| {
        let attributes = &mut program.instructions[2].attributes;
        let found = attributes.iter_mut().find(|(other, _)| other == name);
        found.unwrap().1 = value;
    };
    let text = [
        refused(|program| program.bodies.clear()),
        refused(|program| {
            program.bodies[0].outputs.truncate(0);
        }),
        refused(|program| {
            let product = program.bodies[0].push(
                "reshape",
                &[Value {
                    instruction: 0,
                    output: 0,
                }],
                &[("shape", list(&[1, 2]))],
            );
            program.bodies[0].outputs[0] = product;
        }),
        refused(|program| {
            program.instructions[2].operands.pop();
        }),
    ];
    expect_test::expect![[r#"
        instruction 2: `scan`: attribute `body` names body 0, but 0 bodies are in the program
        instruction 2: `scan`: body 0 has 0 outputs, but there are 1 carries
        instruction 2: `scan`: output 0 of body 0 is f32[1, 2], but the carry is f32[2]
        instruction 2: `scan`: 1 operands are given, but there should be 1 carries and 1 sequences"#]]
    .assert_eq(&text.join("\n"));
    let (mut program, _) = running_sums(false, 3);
    set(&mut program, "length", 4.into());
    assert_eq!(
        problem(&program),
        "instruction 2: `scan`: sequence 0 is f32[3, 2], but its first dimension must be the length, 4"
    );
}

#[test]
fn bodies_inside_each_other_have_a_limit() {
    let mut innermost = Body::default();
    let x = innermost.input(0, &[]);
    innermost.outputs = vec![x];
    let mut program = Program {
        bodies: vec![innermost],
        ..Program::default()
    };
    for inner in 0..16 {
        let mut body = Body::default();
        let x = body.input(0, &[]);
        let scan = body.push("scan", &[x], &scan_attributes(inner, 1, 0, 2, false));
        body.outputs = vec![scan];
        program.bodies.push(body);
    }
    let x = program.source("input", 0, DType::F32, &[]);
    let with = |body: i64| {
        let mut program = program.clone();
        let scan = program.push("scan", &[x], &scan_attributes(body, 1, 0, 2, false));
        program.output(scan);
        program
    };
    assert_eq!(
        floats(&run(&with(15), &[f32s(&[], &[3.0])]).unwrap()[0]),
        [3.0]
    );
    assert_eq!(
        problem(&with(16)),
        "instruction 1: `scan`: 17 bodies would run inside each other, but there may be at most 16"
    );
}

#[test]
fn the_workspace_of_a_loop_is_part_of_the_plan() {
    let (mut program, sources, loss) = recurrent(7, 5, 6);
    program.outputs.clear();
    let derived = gradient(&program, loss, &sources).unwrap();
    let inputs = recurrent_inputs(7, 5, 6);
    let budget = Budget::new(1 << 20);
    let context = Context::new(budget.clone(), 1, Arc::new(AtomicBool::new(false))).unwrap();
    let executable = Executable::compile(&derived, &budget).unwrap();
    let plan = executable.plan();
    let mut session = executable.bind(Vec::new(), &context).unwrap();
    session.run(&inputs).unwrap();
    assert_eq!(budget.peak(), plan.workspace_bytes + plan.output_bytes);
}

#[test]
fn a_program_that_can_never_run_is_refused_when_it_is_compiled() {
    let (mut program, sources, loss) = recurrent(7, 5, 6);
    program.outputs.clear();
    let derived = gradient(&program, loss, &sources).unwrap();
    let plan = Executable::compile(&derived, &budget()).unwrap().plan();
    let needed = plan.workspace_bytes + plan.output_bytes;
    let enough = Executable::compile(&derived, &Budget::new(needed));
    assert!(enough.is_ok());
    let refused = Executable::compile(&derived, &Budget::new(needed - 1));
    let allowed = needed - 1;
    let expected = ProgramError::OutOfMemory { needed, allowed };
    assert_eq!(refused.unwrap_err(), expected);
}
