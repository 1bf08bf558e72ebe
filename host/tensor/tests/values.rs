//! What operations give in the corners that `docs/programs.md` settles.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a failed unwrap is a failed test, and the numbers are small"
)]

mod support;

use support::{Build, apply, bools, f32s, floats, i32s, ints, list, run};
use trainshed_tensor::{DType, Program, Tensor};

const NAN: f32 = f32::NAN;

fn same(found: &[f32], expected: &[f32]) {
    let text = |values: &[f32]| format!("{values:?}");
    assert_eq!(text(found), text(expected));
}

fn convert(from: &Tensor, dtype: &str) -> Tensor {
    apply(
        "convert",
        std::slice::from_ref(from),
        &[("dtype", dtype.into())],
    )
}

#[test]
fn extremes_and_comparisons_treat_nan_as_specified() {
    let a = f32s(&[4], &[NAN, 1.0, NAN, 2.0]);
    let b = f32s(&[4], &[1.0, NAN, NAN, 3.0]);
    let both = [a, b];
    same(
        &floats(&apply("maximum", &both, &[])),
        &[NAN, NAN, NAN, 3.0],
    );
    same(
        &floats(&apply("minimum", &both, &[])),
        &[NAN, NAN, NAN, 2.0],
    );
    assert_eq!(apply("less", &both, &[]).bytes(), [0, 0, 0, 1]);
    assert_eq!(apply("equal", &both, &[]).bytes(), [0, 0, 0, 0]);
    assert_eq!(apply("not-equal", &both, &[]).bytes(), [1, 1, 1, 1]);
}

#[test]
fn reductions_carry_nan() {
    let x = f32s(&[20], &[[1.0; 19].as_slice(), &[NAN]].concat());
    for op in ["reduce-sum", "reduce-mean", "reduce-max", "reduce-min"] {
        assert!(
            apply(op, std::slice::from_ref(&x), &[("axes", list(&[0]))])
                .item()
                .is_nan()
        );
    }
}

#[test]
fn integer_arithmetic_wraps_around_and_division_by_zero_gives_zero() {
    let both = [
        i32s(&[3], &[i32::MAX, 7, i32::MIN]),
        i32s(&[3], &[1, 0, -1]),
    ];
    assert_eq!(ints(&apply("add", &both, &[])), [i32::MIN, 7, i32::MAX]);
    assert_eq!(ints(&apply("divide", &both, &[])), [i32::MAX, 0, i32::MIN]);
    assert_eq!(ints(&apply("remainder", &both, &[])), [0, 0, 0]);
    assert_eq!(
        ints(&apply("abs", &both[..1], &[])),
        [i32::MAX, 7, i32::MIN]
    );
    let signs = [i32s(&[2], &[-7, 7]), i32s(&[2], &[3, -3])];
    assert_eq!(ints(&apply("remainder", &signs, &[])), [-1, 1]);
    assert_eq!(ints(&apply("sign", &signs[..1], &[])), [-1, 1]);
}

#[test]
fn conversions_truncate_and_saturate() {
    let x = f32s(&[6], &[1.9, -1.9, NAN, 1e20, -1e20, 300.0]);
    assert_eq!(
        ints(&convert(&x, "i32")),
        [1, -1, 0, i32::MAX, i32::MIN, 300]
    );
    assert_eq!(convert(&x, "u8").bytes(), [1, 0, 0, 255, 0, 255]);
    assert_eq!(convert(&x, "bool").bytes(), [1; 6]);
    let integers = i32s(&[3], &[-1, 257, 0]);
    assert_eq!(convert(&integers, "u8").bytes(), [255, 1, 0]);
    assert_eq!(convert(&integers, "bool").bytes(), [1, 1, 0]);
    same(
        &floats(&convert(&bools(&[2], &[true, false]), "f32")),
        &[1.0, 0.0],
    );
}

#[test]
fn any_byte_but_zero_is_true() {
    let bytes = [0, 1, 7, 255];
    let x = Tensor::from_bytes(DType::Bool, &[4], &bytes, &support::budget()).unwrap();
    assert_eq!(x.bytes(), [0, 1, 1, 1]);
}

#[test]
fn indices_out_of_range_are_clamped() {
    let data = f32s(&[3, 2], &[0.0, 0.5, 1.0, 1.5, 2.0, 2.5]);
    let indices = i32s(&[3], &[-5, 1, 99]);
    let taken = apply(
        "take",
        &[data.clone(), indices.clone()],
        &[("axis", 0.into())],
    );
    same(&floats(&taken), &[0.0, 0.5, 1.0, 1.5, 2.0, 2.5]);
    let ones = f32s(&[3, 2], &[1.0; 6]);
    let added = apply("scatter-add", &[data, indices, ones], &[("axis", 0.into())]);
    same(&floats(&added), &[1.0, 1.5, 2.0, 2.5, 3.0, 3.5]);
}

#[test]
fn one_hot_of_an_index_out_of_range_is_all_zeros() {
    let attributes = [("classes", 3.into()), ("dtype", "f32".into())];
    let hot = apply("one-hot", &[i32s(&[3], &[2, -1, 3])], &attributes);
    same(
        &floats(&hot),
        &[0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
    );
    // In its own type, 258 would be index 2 of a smaller one.
    let wide: Vec<u8> = [258i64, 1 << 32]
        .iter()
        .flat_map(|index| index.to_le_bytes())
        .collect();
    let wide = Tensor::from_bytes(DType::I64, &[2], &wide, &support::budget()).unwrap();
    let hot = apply("one-hot", &[wide], &attributes);
    same(&floats(&hot), &[0.0; 6]);
}

#[test]
fn arg_max_takes_the_first_of_equals_and_nan_before_all() {
    let x = f32s(&[3, 3], &[1.0, 3.0, 3.0, 2.0, NAN, NAN, -1.0, -2.0, -1.0]);
    let rows = apply("arg-max", std::slice::from_ref(&x), &[("axis", 1.into())]);
    assert_eq!(ints(&rows), [1, 1, 0]);
    let columns = apply("arg-max", &[x], &[("axis", 0.into())]);
    assert_eq!(ints(&columns), [1, 1, 1]);
}

#[test]
fn softmax_does_not_overflow() {
    let x = f32s(&[1, 3], &[1000.0, 1000.0, -1000.0]);
    let shares = apply("softmax", std::slice::from_ref(&x), &[("axis", 1.into())]);
    same(&floats(&shares), &[0.5, 0.5, 0.0]);
    let logs = floats(&apply("log-softmax", &[x], &[("axis", 1.into())]));
    assert!((logs[0] + std::f32::consts::LN_2).abs() < 1e-6);
    assert_eq!(logs[2], logs[0] - 2000.0);
}

#[test]
fn reductions_of_nothing_have_a_value() {
    let empty = f32s(&[0, 2], &[]);
    let sum = apply(
        "reduce-sum",
        std::slice::from_ref(&empty),
        &[("axes", list(&[0]))],
    );
    same(&floats(&sum), &[0.0, 0.0]);
    let mean = apply(
        "reduce-mean",
        std::slice::from_ref(&empty),
        &[("axes", list(&[0]))],
    );
    same(&floats(&mean), &[NAN, NAN]);
    let kept = apply("reduce-max", &[empty], &[("axes", list(&[1]))]);
    assert_eq!(kept.shape(), [0]);
}

#[test]
fn something_broadcast_to_nothing_is_nothing() {
    let mut program = Program::default();
    let x = program.source("input", 0, DType::F32, &[2]);
    let twice = program.op("add", &[x, x]);
    let attributes = [("shape", list(&[0, 2])), ("axes", list(&[1]))];
    let nothing = program.push("broadcast", &[twice], &attributes);
    program.output(nothing);
    program.output(twice);
    let outputs = run(&program, &[f32s(&[2], &[1.0, 2.0])]).unwrap();
    assert_eq!(outputs[0].shape(), [0, 2]);
    same(&floats(&outputs[1]), &[2.0, 4.0]);
}

#[test]
fn products_over_nothing_are_zero() {
    let axes = [
        ("lhs-batch", list(&[])),
        ("rhs-batch", list(&[])),
        ("lhs-contract", list(&[1])),
        ("rhs-contract", list(&[0])),
    ];
    let product = apply(
        "dot-general",
        &[f32s(&[2, 0], &[]), f32s(&[0, 2], &[])],
        &axes,
    );
    same(&floats(&product), &[0.0; 4]);
}

/// Small integers, whose products are exact in any order; the matrix and itself transposed.
fn integers(rows: usize, columns: usize, seed: usize) -> [Tensor; 2] {
    let element = |row: usize, column: usize| ((row * 31 + column * 7 + seed) % 11) as f32 - 5.0;
    let cells = |rows: usize, columns: usize, is_turned: bool| {
        let all = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
        let all = all.map(|(row, column)| match is_turned {
            false => element(row, column),
            true => element(column, row),
        });
        f32s(&[rows as u64, columns as u64], &all.collect::<Vec<_>>())
    };
    [cells(rows, columns, false), cells(columns, rows, true)]
}

#[test]
fn large_products_are_the_same_however_their_operands_lie() {
    for (m, n, k) in [
        (40, 150, 1300),
        (7, 709, 1030),
        (260, 130, 300),
        (97, 16, 5000),
    ] {
        let (left, right) = (integers(m, k, 1), integers(k, n, 2));
        let (rows, columns) = (floats(&left[0]), floats(&right[1]));
        let expected: Vec<f32> = rows
            .chunks(k)
            .flat_map(|row| {
                let sum = |column: &[f32]| row.iter().zip(column).map(|(a, b)| a * b).sum();
                columns.chunks(k).map(sum).collect::<Vec<f32>>()
            })
            .collect();
        for (place, left) in left.iter().enumerate() {
            for (turned, right) in right.iter().enumerate() {
                let axes = [
                    ("lhs-batch", list(&[])),
                    ("rhs-batch", list(&[])),
                    ("lhs-contract", list(&[1 - place as i64])),
                    ("rhs-contract", list(&[turned as i64])),
                ];
                let product = apply("dot-general", &[left.clone(), right.clone()], &axes);
                assert_eq!(floats(&product), expected, "{m} {n} {k}: {place} {turned}");
            }
        }
    }
}

/// An operand whose rows, or columns, are all the same is read where it is one of them.
#[test]
fn large_products_read_a_broadcast_operand_where_it_lies() {
    let (m, n, k) = (150, 97, 1300);
    let element = |index: usize| (index * 7 % 11) as f64 - 5.0;
    for dtype in [DType::F32, DType::F64] {
        let tensor = |shape: &[usize]| {
            let numbers: Vec<f64> = (0..shape.iter().product()).map(element).collect();
            let shape: Vec<u64> = shape.iter().map(|&size| size as u64).collect();
            support::tensor(dtype, &shape, &numbers)
        };
        for (wide, axis) in [([k, n], 0), ([k, n], 1), ([n, k], 0), ([n, k], 1)] {
            let is_turned = wide[1] == k;
            let varies_along_sum = wide[axis] == k;
            let mut program = Program::default();
            let inputs = [tensor(&[m, k]), tensor(&[wide[axis]])];
            let [left, right] = [0, 1].map(|index| program.input_like(index, &inputs[index]));
            let of_wide = [
                ("shape", list(&wide.map(|size| size as i64))),
                ("axes", list(&[axis as i64])),
            ];
            let right = program.push("broadcast", &[right], &of_wide);
            let axes = [
                ("lhs-batch", list(&[])),
                ("rhs-batch", list(&[])),
                ("lhs-contract", list(&[1])),
                ("rhs-contract", list(&[i64::from(is_turned)])),
            ];
            let product = program.push("dot-general", &[left, right], &axes);
            program.output(product);
            let found = run(&program, &inputs).unwrap();
            let sum = |place: usize| -> f64 {
                let (row, column) = (place / n, place % n);
                let right = |step| element(if varies_along_sum { step } else { column });
                (0..k)
                    .map(|step| element(row * k + step) * right(step))
                    .sum()
            };
            let expected: Vec<f64> = (0..m * n).map(sum).collect();
            assert_eq!(
                support::numbers(&found[0]),
                expected,
                "{dtype:?} {wide:?} {axis}"
            );
        }
    }
}

#[test]
fn an_item_is_the_only_element() {
    assert_eq!(i32s(&[1, 1], &[-3]).item(), -3.0);
    assert_eq!(bools(&[], &[true]).item(), 1.0);
    assert!(f32s(&[2], &[1.0, 2.0]).item().is_nan());
    assert!(f32s(&[0], &[]).item().is_nan());
}
