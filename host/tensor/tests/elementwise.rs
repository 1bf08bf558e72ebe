//! What elementwise operations and reductions give at the borders of their types.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a failed unwrap is a failed test, and the numbers are small"
)]

mod support;

use support::random::Random;
use support::{Build, apply, bools, f32s, ints, list, numbers, run, run_with, tensor, threads};
use trainshed_tensor::{DType, Program, Tensor, gradient};

const INFINITY: f64 = f64::INFINITY;
const NAN: f64 = f64::NAN;
const FLOATS: [DType; 4] = [DType::F32, DType::F64, DType::Bf16, DType::F16];
const INTEGERS: [DType; 4] = [DType::I32, DType::I64, DType::U8, DType::U32];

/// Checks a result per element; `{:?}` tells -0 from 0 and knows NaN.
#[track_caller]
fn check(op: &str, dtype: DType, operands: &[&[f64]], expected: &[f64]) {
    let operands: Vec<Tensor> = operands
        .iter()
        .map(|numbers| tensor(dtype, &[numbers.len() as u64], numbers))
        .collect();
    let found = numbers(&apply(op, &operands, &[]));
    assert_eq!(
        format!("{found:?}"),
        format!("{expected:?}"),
        "`{op}` of {dtype}"
    );
}

fn convert(from: &Tensor, dtype: DType) -> Tensor {
    let attributes = [("dtype", dtype.name().into())];
    apply("convert", std::slice::from_ref(from), &attributes)
}

#[test]
fn float_operations_have_the_usual_limits_in_every_float_type() {
    for dtype in FLOATS {
        let limits = [0.0, -0.0, INFINITY, -INFINITY, NAN];
        check(
            "negate",
            dtype,
            &[&limits],
            &[-0.0, 0.0, -INFINITY, INFINITY, NAN],
        );
        check("sign", dtype, &[&limits], &[0.0, -0.0, 1.0, -1.0, NAN]);
        check(
            "expm1",
            dtype,
            &[&limits],
            &[0.0, -0.0, INFINITY, -1.0, NAN],
        );
        check(
            "log1p",
            dtype,
            &[&[0.0, -0.0, INFINITY, -1.0, -2.0]],
            &[0.0, -0.0, INFINITY, -INFINITY, NAN],
        );
        check("sin", dtype, &[&limits], &[0.0, -0.0, NAN, NAN, NAN]);
        check("cos", dtype, &[&limits], &[1.0, 1.0, NAN, NAN, NAN]);
        check("erf", dtype, &[&limits], &[0.0, -0.0, 1.0, -1.0, NAN]);
        check(
            "floor",
            dtype,
            &[&[-0.0, -0.5, 1.5, INFINITY, NAN]],
            &[-0.0, -1.0, 1.0, INFINITY, NAN],
        );
        check(
            "ceil",
            dtype,
            &[&[-0.0, -0.5, 1.5, INFINITY, NAN]],
            &[-0.0, -0.0, 2.0, INFINITY, NAN],
        );
        check(
            "round",
            dtype,
            &[&[0.5, 1.5, 2.5, -0.5, -1.5]],
            &[0.0, 2.0, 2.0, -0.0, -2.0],
        );
        check("is-finite", dtype, &[&limits], &[1.0, 1.0, 0.0, 0.0, 0.0]);
        check("maximum", dtype, &[&[NAN, 1.0], &[1.0, NAN]], &[NAN, NAN]);
        check(
            "remainder",
            dtype,
            &[&[5.5, -5.5, 1.0], &[2.0, 2.0, 0.0]],
            &[1.5, -1.5, NAN],
        );
        check(
            "atan2",
            dtype,
            &[&[0.0, -0.0, NAN], &[1.0, 1.0, 1.0]],
            &[0.0, -0.0, NAN],
        );
        check(
            "power",
            dtype,
            &[&[0.0, NAN, -2.0, -8.0], &[0.0, 0.0, 3.0, 0.5]],
            &[1.0, 1.0, -8.0, NAN],
        );
        let bounds: [&[f64]; 3] = [
            &[-3.0, 0.5, 3.0, NAN, 0.0],
            &[-1.0; 5],
            &[1.0, 1.0, 1.0, 1.0, -2.0],
        ];
        check("clamp", dtype, &bounds, &[-1.0, 0.5, 1.0, NAN, -2.0]);
    }
}

#[test]
fn far_angles_are_reduced_exactly() {
    let far = [1e6, 1_234_567.0, 1e10, 3e38, -1e30];
    let exact = |function: fn(f64) -> f64| far.map(|x: f32| function(f64::from(x)) as f32);
    let x = f32s(&[5], &far);
    let sine = apply("sin", std::slice::from_ref(&x), &[]);
    assert_eq!(sine.as_f32().unwrap(), exact(libm::sin));
    let cosine = apply("cos", &[x], &[]);
    assert_eq!(cosine.as_f32().unwrap(), exact(libm::cos));
}

#[test]
fn numbers_below_the_normal_ones_are_kept() {
    for (dtype, least) in [
        (DType::F32, 2f64.powi(-149)),
        (DType::F64, f64::from_bits(1)),
        (DType::Bf16, 2f64.powi(-133)),
        (DType::F16, 2f64.powi(-24)),
    ] {
        check("add", dtype, &[&[least], &[least]], &[2.0 * least]);
        check("expm1", dtype, &[&[least]], &[least]);
        check("log1p", dtype, &[&[least]], &[least]);
        check("sin", dtype, &[&[least]], &[least]);
        check("multiply", dtype, &[&[least], &[0.5]], &[0.0]);
    }
}

#[test]
fn half_types_round_once_to_even() {
    // 256 + 1 lies between two numbers of 8 bits, 2048 + 1 of 11.
    check(
        "add",
        DType::Bf16,
        &[&[256.0, 258.0], &[1.0, 1.0]],
        &[256.0, 260.0],
    );
    check(
        "add",
        DType::F16,
        &[&[2048.0, 2050.0], &[1.0, 1.0]],
        &[2048.0, 2052.0],
    );
    check("multiply", DType::F16, &[&[300.0], &[300.0]], &[INFINITY]);
    // Sums are kept in single precision: 300 ones are more than bf16 can count.
    for (dtype, sum) in [(DType::Bf16, 300.0), (DType::F16, 300.0)] {
        let ones = tensor(dtype, &[300], &[1.0; 300]);
        let total = apply(
            "reduce-sum",
            std::slice::from_ref(&ones),
            &[("axes", list(&[0]))],
        );
        assert_eq!(numbers(&total), [sum]);
        let mean = apply("reduce-mean", &[ones], &[("axes", list(&[0]))]);
        assert_eq!(numbers(&mean), [1.0]);
    }
}

#[test]
fn repeated_additions_to_half_types_round_once() {
    let data = tensor(DType::Bf16, &[2], &[256.0, 1.0]);
    let indices = support::i32s(&[4], &[0; 4]);
    let ones = tensor(DType::Bf16, &[4], &[1.0; 4]);
    let sum = apply("scatter-add", &[data, indices, ones], &[("axis", 0.into())]);
    assert_eq!(numbers(&sum), [260.0, 1.0]);
}

#[test]
fn integer_operations_work_bit_by_bit_and_wrap_around() {
    for dtype in INTEGERS {
        check("and", dtype, &[&[12.0], &[10.0]], &[8.0]);
        check("or", dtype, &[&[12.0], &[10.0]], &[14.0]);
        check("xor", dtype, &[&[12.0], &[10.0]], &[6.0]);
        check(
            "clamp",
            dtype,
            &[&[0.0, 5.0, 9.0], &[2.0; 3], &[7.0; 3]],
            &[2.0, 5.0, 7.0],
        );
        check("divide", dtype, &[&[7.0], &[0.0]], &[0.0]);
        check("remainder", dtype, &[&[7.0], &[0.0]], &[0.0]);
    }
    check("not", DType::I32, &[&[0.0, -1.0]], &[-1.0, 0.0]);
    check("not", DType::U8, &[&[0.0, 255.0]], &[255.0, 0.0]);
    check("not", DType::U32, &[&[1.0]], &[4_294_967_294.0]);
    check("not", DType::Bool, &[&[0.0, 1.0]], &[1.0, 0.0]);
    check("add", DType::U8, &[&[255.0], &[2.0]], &[1.0]);
    check("negate", DType::U32, &[&[1.0]], &[4_294_967_295.0]);
    let least = tensor(DType::I64, &[1], &[-(2f64.powi(63))]);
    assert_eq!(numbers(&apply("abs", &[least], &[])), [-(2f64.powi(63))]);
}

#[test]
fn every_pair_of_types_converts() {
    let values = [0.0, 1.0, 2.0, 100.0];
    for from in DType::ALL {
        for to in DType::ALL {
            let found = numbers(&convert(&tensor(from, &[4], &values), to));
            let flags = from == DType::Bool || to == DType::Bool;
            let expected = if flags { [0.0, 1.0, 1.0, 1.0] } else { values };
            assert_eq!(found, expected, "{from} to {to}");
        }
    }
}

#[test]
fn conversions_of_floats_to_integers_truncate_and_saturate() {
    for from in FLOATS {
        let x = tensor(from, &[5], &[-1.5, 1.5, NAN, INFINITY, -INFINITY]);
        let limits = [
            (DType::I32, f64::from(i32::MIN), f64::from(i32::MAX)),
            (DType::I64, -(2f64.powi(63)), 2f64.powi(63)),
            (DType::U8, 0.0, 255.0),
            (DType::U32, 0.0, f64::from(u32::MAX)),
        ];
        for (to, least, greatest) in limits {
            let below = if least == 0.0 { 0.0 } else { -1.0 };
            assert_eq!(
                numbers(&convert(&x, to)),
                [below, 1.0, 0.0, greatest, least],
                "{from} to {to}"
            );
        }
    }
    // An i64 goes to f32 in one rounding, not through f64.
    let odd = (1i64 << 54) + (1 << 30) + 1;
    let x = Tensor::from_bytes(DType::I64, &[1], &odd.to_le_bytes(), &support::budget()).unwrap();
    assert_eq!(convert(&x, DType::F32).as_f32().unwrap(), [odd as f32]);
}

#[test]
fn reductions_of_nothing_and_of_flags() {
    for dtype in FLOATS.into_iter().chain(INTEGERS) {
        let empty = tensor(dtype, &[0, 2], &[]);
        for (op, expected) in [("reduce-sum", 0.0), ("reduce-product", 1.0)] {
            let found = apply(op, std::slice::from_ref(&empty), &[("axes", list(&[0]))]);
            assert_eq!(numbers(&found), [expected; 2], "{op} of {dtype}");
        }
    }
    let none = bools(&[0], &[]);
    let axes = [("axes", list(&[0]))];
    assert_eq!(
        apply("reduce-any", std::slice::from_ref(&none), &axes).bytes(),
        [0]
    );
    assert_eq!(apply("reduce-all", &[none], &axes).bytes(), [1]);
}

#[test]
fn arg_min_takes_the_first_of_equals_and_nan_before_all() {
    let rows: [f64; 6] = [3.0, 1.0, 1.0, 2.0, NAN, NAN];
    for dtype in FLOATS {
        let x = tensor(dtype, &[2, 3], &rows);
        let found = apply("arg-min", std::slice::from_ref(&x), &[("axis", 1.into())]);
        assert_eq!(ints(&found), [1, 1], "{dtype}");
        let found = apply("arg-max", &[x], &[("axis", 1.into())]);
        assert_eq!(ints(&found), [0, 1], "{dtype}");
    }
}

#[test]
fn large_reductions_are_precise_and_the_same_on_any_number_of_threads() {
    let mut random = Random::new(7);
    let shapes: [(&[usize], &[i64]); 6] = [
        (&[300_000], &[0]),
        (&[3, 90_000], &[1]),
        (&[70_000, 5], &[0]),
        (&[5, 20_000, 3], &[1]),
        (&[700, 600], &[0]),
        (&[300, 4, 300], &[0, 2]),
    ];
    for (shape, axes) in shapes {
        let x = random.tensor(DType::F32, shape);
        let exact = convert(&x, DType::F64);
        let mut program = Program::default();
        for tensor in [&x, &exact] {
            let value = program.source(
                "input",
                i64::from(tensor.dtype() == DType::F64),
                tensor.dtype(),
                shape,
            );
            for op in ["reduce-sum", "reduce-max", "reduce-mean"] {
                let result = program.push(op, &[value], &[("axes", list(axes))]);
                program.output(result);
            }
        }
        let inputs = [x, exact];
        let one = run(&program, &inputs).unwrap();
        let many = run_with(&program, &inputs, &threads(3)).unwrap();
        for (one, many) in one.iter().zip(&many) {
            assert_eq!(one.bytes(), many.bytes(), "{shape:?}");
        }
        for (found, expected) in one[..3].iter().zip(&one[3..]) {
            for (found, expected) in numbers(found).iter().zip(numbers(expected)) {
                assert!(
                    (found - expected).abs() < 1e-5 * (300.0 + expected.abs()),
                    "{shape:?}"
                );
            }
        }
    }
}

#[test]
fn the_gradient_of_a_product_is_exact_where_elements_are_zero() {
    for dtype in FLOATS {
        let mut program = Program::default();
        let x = program.source("input", 0, dtype, &[3, 3]);
        let products = program.push("reduce-product", &[x], &[("axes", list(&[1]))]);
        let loss = program.push("reduce-sum", &[products], &[("axes", list(&[0]))]);
        let derived = gradient(&program, loss, &[x]).unwrap();
        let values = [2.0, 3.0, 4.0, 2.0, 0.0, 4.0, 0.0, 3.0, 0.0];
        let outputs = run(&derived, &[tensor(dtype, &[3, 3], &values)]).unwrap();
        let expected = [12.0, 8.0, 6.0, 0.0, 8.0, 0.0, 0.0, 0.0, 0.0];
        assert_eq!(numbers(&outputs[0]), expected, "{dtype}");
    }
}

#[test]
fn gradients_pass_conversions_in_the_type_of_the_operand() {
    let mut program = Program::default();
    let x = program.source("input", 0, DType::Bf16, &[2]);
    let wide = program.push("convert", &[x], &[("dtype", "f64".into())]);
    let square = program.op("square", &[wide]);
    let loss = program.push("reduce-sum", &[square], &[("axes", list(&[0]))]);
    let derived = gradient(&program, loss, &[x, wide]).unwrap();
    let outputs = run(&derived, &[tensor(DType::Bf16, &[2], &[1.5, -2.0])]).unwrap();
    assert_eq!(
        (outputs[0].dtype(), numbers(&outputs[0])),
        (DType::Bf16, vec![3.0, -4.0])
    );
    assert_eq!(
        (outputs[1].dtype(), numbers(&outputs[1])),
        (DType::F64, vec![3.0, -4.0])
    );
}
