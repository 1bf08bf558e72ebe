//! A request to stop ends a run soon, also while one kernel runs.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_wrap,
    reason = "a failed unwrap is a failed test, and the numbers are small"
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use support::{Build, budget, list};
use trainshed_tensor::{
    Attribute, Body, Context, DType, Executable, Program, ProgramError, Tensor, Value,
};

const MS: Duration = Duration::from_millis(1);

/// The CPU time of this thread, which others on the machine do not add to.
fn cpu_time() -> Duration {
    let statistics = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    let nanoseconds = statistics.split_whitespace().next().unwrap();
    Duration::from_nanos(nanoseconds.parse().unwrap())
}

/// Runs `program` until it is stopped after that many milliseconds, and checks that it works
/// for as many more at most. The best of five counts: the stop may come late.
#[track_caller]
fn check_stops(program: &Program, inputs: &[Tensor], after: u32, within: u32) {
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let stop = Arc::new(AtomicBool::new(false));
        let context = Context::new(budget(), 1, Arc::clone(&stop)).unwrap();
        let executable = Executable::compile(program, context.budget()).unwrap();
        let mut session = executable.bind(Vec::new(), &context).unwrap();
        let stopper = thread::spawn(move || {
            thread::sleep(MS * after);
            stop.store(true, Ordering::Relaxed);
            Instant::now()
        });
        let (started, before) = (Instant::now(), cpu_time());
        let outcome = session.run(inputs);
        let worked = cpu_time() - before;
        assert_eq!(
            outcome.unwrap_err(),
            ProgramError::Stopped,
            "it is too fast"
        );
        let asked = stopper.join().unwrap();
        best = best.min(worked.saturating_sub(asked.saturating_duration_since(started)));
        if best < MS * within {
            return;
        }
    }
    panic!("it worked on for {best:?}");
}

/// An operation on one input of zeros, and the sum of its first result, so that what a run
/// allocates is small.
#[track_caller]
fn check_operation(
    (op, dtype, shape): (&str, DType, &[usize]),
    attributes: &[(&str, Attribute)],
    after: u32,
    within: u32,
) {
    let mut program = Program::default();
    let x = program.source("input", 0, dtype, shape);
    let y = program.push(op, &[x], attributes);
    let rank = match op {
        "arg-max" => shape.len() - 1,
        _ => shape.len(),
    };
    sum(&mut program, y, rank);
    let shape: Vec<u64> = shape.iter().map(|&size| size as u64).collect();
    let mut random: u64 = 1;
    let zeros = Tensor::zeros(dtype, &shape, &budget()).unwrap();
    let input = if op == "sort" || op == "top-k" {
        let elements = zeros.bytes().chunks(dtype.size());
        let bytes = elements.flat_map(|_| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            u32::try_from(random >> 34).unwrap().to_le_bytes()
        });
        Tensor::from_bytes(dtype, &shape, &bytes.collect::<Vec<u8>>(), &budget()).unwrap()
    } else {
        zeros
    };
    check_stops(&program, &[input], after, within);
}

fn sum(program: &mut Program, x: Value, rank: usize) {
    let axes: Vec<i64> = (0..rank as i64).collect();
    let sum = program.push("reduce-max", &[x], &[("axes", list(&axes))]);
    program.output(sum);
}

#[test]
fn a_sort_stops() {
    let axis = [("axis", 0.into()), ("descending", false.into())];
    check_operation(("sort", DType::F32, &[6 << 20]), &axis, 20, 150);
}

#[test]
fn a_choice_of_many_stops() {
    let axis = [("axis", 0.into()), ("k", (2 << 20).into())];
    check_operation(("top-k", DType::I32, &[8 << 20]), &axis, 20, 100);
}

#[test]
fn a_running_sum_stops() {
    for op in ["cumulative-sum", "cumulative-product"] {
        let axis = [("axis", 0.into()), ("reverse", true.into())];
        check_operation((op, DType::F64, &[16 << 20]), &axis, 5, 20);
    }
}

#[test]
fn a_softmax_stops() {
    for (shape, axis) in [(&[1, 16 << 20], 1), (&[2 << 20, 8], 0)] {
        let axis = [("axis", axis.into())];
        check_operation(("softmax", DType::F64, shape), &axis, 20, 150);
    }
}

#[test]
fn a_search_for_the_greatest_stops() {
    let axis = [("axis", 0.into())];
    check_operation(("arg-max", DType::F32, &[1 << 20, 24]), &axis, 5, 25);
}

#[test]
fn a_pool_stops() {
    for op in ["max-pool", "average-pool"] {
        let mut attributes = vec![
            ("window", list(&[200, 200])),
            ("strides", list(&[1, 1])),
            ("padding", list(&[0, 0, 0, 0])),
        ];
        attributes.push(match op {
            "max-pool" => ("dilation", list(&[1, 1])),
            _ => ("count-padding", false.into()),
        });
        check_operation((op, DType::F32, &[1, 1, 500, 500]), &attributes, 20, 100);
    }
}

/// A product of two operands that are one number everywhere, and lie in memory as that.
fn product(m: i64, n: i64, k: i64) -> Program {
    let mut program = Program::default();
    let x = program.source("input", 0, DType::F32, &[1]);
    let [lhs, rhs] = [[m, k], [n, k]].map(|shape| {
        let attributes = [("shape", list(&shape)), ("axes", list(&[0]))];
        program.push("broadcast", &[x], &attributes)
    });
    let axes = [
        ("lhs-batch", list(&[])),
        ("rhs-batch", list(&[])),
        ("lhs-contract", list(&[1])),
        ("rhs-contract", list(&[1])),
    ];
    let y = program.push("dot-general", &[lhs, rhs], &axes);
    sum(&mut program, y, 2);
    program
}

#[test]
fn a_product_stops() {
    let x = support::f32s(&[1], &[1.0]);
    for [m, n, k] in [
        [3000, 3000, 20_000],
        [30, 40, 1 << 26],
        [1, 1, i32::MAX.into()],
    ] {
        check_stops(&product(m, n, k), std::slice::from_ref(&x), 20, 500);
    }
}

#[test]
fn long_sums_of_products_are_right() {
    let x = support::f32s(&[1], &[0.5]);
    let length = (1 << 25) + 12_345;
    let outputs = support::run(&product(3, 5, length), &[x]).unwrap();
    let expected = 0.25 * length as f32;
    let found = support::floats(&outputs[0])[0];
    assert!(
        (found - expected).abs() <= 1e-3 * expected,
        "{found} {expected}"
    );
}

#[test]
fn a_convolution_stops() {
    let mut program = Program::default();
    let x = program.source("input", 0, DType::F32, &[8, 64, 128, 128]);
    let kernel = program.source("input", 1, DType::F32, &[64, 64, 7, 7]);
    let attributes = [
        ("strides", list(&[1, 1])),
        ("padding", list(&[3, 3, 3, 3])),
        ("dilation", list(&[1, 1])),
        ("groups", 1.into()),
    ];
    let y = program.push("convolution", &[x, kernel], &attributes);
    sum(&mut program, y, 4);
    let tensor = |shape: &[u64]| Tensor::zeros(DType::F32, shape, &budget()).unwrap();
    let inputs = [tensor(&[8, 64, 128, 128]), tensor(&[64, 64, 7, 7])];
    check_stops(&program, &inputs, 20, 150);
}

#[test]
fn attention_stops() {
    let shape = [1, 1 << 14, 64];
    let mut program = Program::default();
    let [q, k, v] = [0, 1, 2].map(|index| program.source("input", index, DType::F32, &shape));
    let attributes = [("scale", 1.0.into()), ("causal", false.into())];
    let y = program.push("attention", &[q, k, v], &attributes);
    sum(&mut program, y, 3);
    let shape = shape.map(|size| size as u64);
    let inputs = [(); 3].map(|()| Tensor::zeros(DType::F32, &shape, &budget()).unwrap());
    check_stops(&program, &inputs, 20, 100);
}

#[test]
fn random_numbers_stop() {
    let mut program = Program::default();
    let key = program.source("input", 0, DType::U32, &[2]);
    let attributes = [
        ("dtype", "f64".into()),
        ("shape", list(&[8 << 20])),
        ("stream", 0.into()),
    ];
    let x = program.push("random-normal", &[key], &attributes);
    sum(&mut program, x, 1);
    let key = Tensor::zeros(DType::U32, &[2], &budget()).unwrap();
    check_stops(&program, &[key], 20, 100);
}

#[test]
fn a_random_order_stops() {
    let mut program = Program::default();
    let key = program.source("input", 0, DType::U32, &[2]);
    let attributes = [("size", (6 << 20).into()), ("stream", 0.into())];
    let x = program.push("random-permutation", &[key], &attributes);
    sum(&mut program, x, 1);
    let key = Tensor::zeros(DType::U32, &[2], &budget()).unwrap();
    check_stops(&program, &[key], 60, 150);
}

#[test]
fn a_scan_stops() {
    let mut body = Body::default();
    let declared = [
        ("index", 0.into()),
        ("dtype", "f32".into()),
        ("shape", list(&[64])),
    ];
    let x = body.push("input", &[], &declared);
    let y = body.push("sin", &[x], &[]);
    body.outputs.push(y);
    let mut program = Program {
        bodies: vec![body],
        ..Program::default()
    };
    let x = program.source("input", 0, DType::F32, &[64]);
    let attributes = [
        ("body", 0.into()),
        ("carries", 1.into()),
        ("sequences", 0.into()),
        ("length", i64::from(i32::MAX).into()),
        ("reverse", false.into()),
    ];
    let y = program.push("scan", &[x], &attributes);
    program.output(y);
    check_stops(&program, &[support::f32s(&[64], &[1.0; 64])], 20, 50);
}
