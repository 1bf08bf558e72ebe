//! What the contract says of every element: operations with exact results against a second
//! executor, in all types and with the numbers at their borders.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a failed unwrap is a failed test, and the numbers are small"
)]

mod support;

use support::operations::{Operand, documented, instance};
use support::random::Random;
use support::reference::{Array, Attributes, Number, converted, evaluate};
use support::{Build, list, run, run_with, threads, try_apply};
use trainshed_tensor::{Attribute, DType, Program, Tensor};

/// Instances of each operation in each type.
const INSTANCES: u64 = 16;

/// The types that an operation takes where an instance has floats; nothing when its results
/// are not exact.
fn types(op: &str) -> Vec<DType> {
    let fits: fn(DType) -> bool = match op {
        "select"
        | "stop-gradient"
        | "reshape"
        | "squeeze"
        | "transpose"
        | "broadcast"
        | "concatenate"
        | "split"
        | "slice"
        | "pad"
        | "pad-edge"
        | "reverse"
        | "dynamic-slice"
        | "dynamic-update-slice"
        | "take"
        | "take-along-axis"
        | "scatter-set"
        | "one-hot"
        | "equal"
        | "not-equal"
        | "less"
        | "less-equal"
        | "greater"
        | "greater-equal" => |_| true,
        "negate"
        | "abs"
        | "sign"
        | "square"
        | "add"
        | "subtract"
        | "multiply"
        | "divide"
        | "maximum"
        | "minimum"
        | "remainder"
        | "clamp"
        | "reduce-sum"
        | "reduce-product"
        | "reduce-max"
        | "reduce-min"
        | "arg-max"
        | "arg-min"
        | "cumulative-sum"
        | "cumulative-product"
        | "sort"
        | "top-k"
        | "scatter-add"
        | "scatter-add-along-axis"
        | "iota" => |dtype| dtype != DType::Bool,
        "floor" | "ceil" | "round" | "sqrt" | "is-finite" => DType::is_float,
        "and" | "or" | "xor" | "not" => |dtype| !dtype.is_float(),
        "reduce-any" | "reduce-all" => |dtype| dtype == DType::Bool,
        _ => |_| false,
    };
    DType::ALL
        .into_iter()
        .filter(|&dtype| fits(dtype))
        .collect()
}

/// Numbers at the borders of a type; when `mild`, floats whose sums and products are exact
/// in any order.
fn border(random: &mut Random, dtype: DType, mild: bool) -> Number {
    let tiny = match dtype {
        DType::F64 => f64::from_bits(1),
        DType::F16 => 2f64.powi(-24),
        DType::Bf16 => 2f64.powi(-133),
        _ => 2f64.powi(-149),
    };
    let greatest = match dtype {
        DType::F64 => f64::MAX,
        DType::F16 => 65504.0,
        DType::Bf16 => half::bf16::MAX.to_f64(),
        _ => f64::from(f32::MAX),
    };
    let wild = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        2.5,
        -3.5,
        0.5,
        1.5,
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        tiny,
        -tiny,
        greatest,
        -greatest,
    ];
    let calm = [0.0, 1.0, 1.0, -1.0, 2.0, -1.0, 1.0, -2.0, 1.0, f64::NAN];
    let (least, most) = match dtype {
        DType::I32 => (i128::from(i32::MIN), i128::from(i32::MAX)),
        DType::I64 => (i128::from(i64::MIN), i128::from(i64::MAX)),
        DType::U32 => (0, i128::from(u32::MAX)),
        DType::U8 => (0, 255),
        _ => (0, 1),
    };
    let whole = [0, 1, 2, 3, 5, -1, -2, least, least + 1, most, most - 1];
    match dtype {
        _ if dtype.is_float() && mild => Number::Float(random.pick(&calm)),
        _ if dtype.is_float() => Number::Float(random.pick(&wild)),
        _ => Number::Whole(random.pick(&whole).clamp(least, most)),
    }
}

fn filled(random: &mut Random, operand: &Operand, dtype: DType, mild: bool) -> Array {
    let count = operand.numbers.len();
    Array {
        dtype,
        shape: operand.shape.clone(),
        numbers: (0..count).map(|_| border(random, dtype, mild)).collect(),
    }
}

#[test]
fn exact_operations_have_the_values_of_the_contract_in_every_type() {
    let mut problems = Vec::new();
    for row in documented() {
        for dtype in types(&row.name) {
            for seed in 0..INSTANCES {
                if let Err(problem) = check(&row.name, dtype, seed) {
                    problems.push(format!("`{}` of {dtype}, seed {seed}: {problem}", row.name));
                    break;
                }
            }
        }
    }
    assert!(problems.is_empty(), "{problems:#?}");
}

fn check(op: &str, dtype: DType, seed: u64) -> Result<(), String> {
    let mut random = Random::new(seed);
    let mut instance = instance(op, &mut random).unwrap();
    let mild = ["sum", "product", "add"]
        .iter()
        .any(|part| op.contains(part))
        && op != "add";
    let logic = matches!(op, "and" | "or" | "xor" | "not");
    let mut operands = Vec::new();
    for operand in &mut instance.operands {
        if logic {
            operand.dtype = None;
        }
        operands.push(filled(
            &mut random,
            operand,
            operand.dtype.unwrap_or(dtype),
            mild,
        ));
    }
    let inputs: Vec<Tensor> = operands.iter().map(Array::tensor).collect();
    let (mut program, _, result) = instance.program(dtype, false);
    for output in 0..instance.results {
        program.output(result.result(output));
    }
    let found = run(&program, &inputs).map_err(|error| error.to_string())?;
    let expected = evaluate(op, &operands, &Attributes(&instance.attributes), dtype);
    let expected = expected.ok_or("is not known to the reference")?;
    for (found, expected) in found.iter().zip(&expected) {
        let found = Array::of(found);
        let pairs = found.numbers.iter().zip(&expected.numbers);
        let same = found.shape == expected.shape
            && found.dtype == expected.dtype
            && pairs.clone().all(|(&found, &expected)| found.is(expected));
        if !same {
            return Err(format!(
                "{operands:?}, {:?} give {found:?} instead of {expected:?}",
                instance.attributes
            ));
        }
    }
    Ok(())
}

#[test]
fn conversions_between_all_types_have_the_values_of_the_contract() {
    let mut random = Random::new(3);
    for from in DType::ALL {
        let mut numbers: Vec<Number> = (0..200).map(|_| border(&mut random, from, false)).collect();
        if from.is_float() {
            // Between two numbers of narrower types, and beyond them.
            let more = [
                256.9,
                255.5,
                -0.9,
                65519.9,
                65520.0,
                4_294_967_295.5,
                1e10,
                1.0 + 2f64.powi(-9),
            ];
            numbers.extend(more.map(|number| converted(Number::Float(number), from)));
            if from == DType::F64 {
                // Two roundings would give another half.
                let just_above = 1.0 + 2f64.powi(-9) + 2f64.powi(-40);
                numbers.push(Number::Float(just_above + 2f64.powi(-8)));
                numbers.push(Number::Float(1.0 + 2f64.powi(-11) + 2f64.powi(-40)));
            }
        }
        let x = Array {
            dtype: from,
            shape: vec![numbers.len()],
            numbers,
        };
        for to in DType::ALL {
            let attributes = [("dtype", to.name().into())];
            let found = try_apply("convert", &[x.tensor()], &attributes).unwrap();
            let found = Array::of(&found);
            for (&x, &found) in x.numbers.iter().zip(&found.numbers) {
                let expected = converted(x, to);
                assert!(
                    found.is(expected),
                    "{x:?} of {from} is {found:?} in {to} instead of {expected:?}"
                );
            }
        }
    }
}

/// Operations of one operand on a tensor of rank 8, and on one of rank 0.
#[test]
fn shapes_of_rank_0_and_8_are_as_good_as_others() {
    let shape = [1, 2, 1, 3, 1, 2, 1, 2];
    let x = support::f32s(&shape, &(0u8..24).map(f32::from).collect::<Vec<_>>());
    let all = list(&[0, 1, 2, 3, 4, 5, 6, 7]);
    let sum = |x: &Tensor, axes: Attribute| {
        try_apply("reduce-sum", std::slice::from_ref(x), &[("axes", axes)]).unwrap()
    };
    assert_eq!(sum(&x, all.clone()).item(), 276.0);
    let order = [("permutation", list(&[7, 6, 5, 4, 3, 2, 1, 0]))];
    let turned = try_apply("transpose", std::slice::from_ref(&x), &order).unwrap();
    assert_eq!(turned.shape(), [2, 1, 2, 1, 3, 1, 2, 1]);
    let back = try_apply("transpose", &[turned], &order).unwrap();
    assert_eq!(back.bytes(), x.bytes());
    let reversed = try_apply("reverse", std::slice::from_ref(&x), &[("axes", all)]).unwrap();
    assert_eq!(support::floats(&reversed)[0], 23.0);
    let scalar = support::f32s(&[], &[3.0]);
    assert_eq!(sum(&scalar, list(&[])).item(), 3.0);
    let wide = [("shape", list(&[1; 8])), ("axes", list(&[]))];
    let wide = try_apply("broadcast", std::slice::from_ref(&scalar), &wide).unwrap();
    assert_eq!(wide.shape(), [1; 8]);
    let hot = [("classes", 2.into()), ("dtype", "f32".into())];
    let eight = support::i32s(&[1; 8], &[0]);
    let problem = try_apply("one-hot", &[eight], &hot)
        .unwrap_err()
        .to_string();
    assert!(problem.contains("their rank must be below 8"), "{problem}");
}

/// The message when a program of one operation on an input is refused.
fn refusal(dtype: DType, shape: &[usize], op: &str, attributes: &[(&str, Attribute)]) -> String {
    let mut program = Program::default();
    let x = program.source("input", 0, dtype, shape);
    let result = program.push(op, &[x], attributes);
    program.output(result);
    support::problem(&program)
}

#[test]
fn types_beyond_the_limits_are_refused_with_what_they_are() {
    let most = (1i64 << 31) - 1;
    let wide = |sizes: &[i64]| [("shape", list(sizes)), ("axes", list(&[]))];
    let found = refusal(DType::F32, &[], "broadcast", &wide(&[most + 1]));
    assert!(
        found.contains("a dimension is 2147483648, but it may be at most 2147483647"),
        "{found}"
    );
    let found = refusal(DType::U8, &[], "broadcast", &wide(&[most, 1024]));
    assert!(
        found.contains("is larger than 1099511627776 bytes"),
        "{found}"
    );
    let found = refusal(DType::F32, &[], "broadcast", &wide(&[0; 9]));
    assert!(found.contains("rank"), "{found}");
    let found = refusal(DType::F32, &[], "broadcast", &wide(&[-1]));
    assert!(found.contains("-1"), "{found}");
    // Zero-size results of any other dimensions are fine, and so are the limits themselves.
    let mut program = Program::default();
    let x = program.source("input", 0, DType::F64, &[]);
    let nothing = program.push("broadcast", &[x], &wide(&[most, most, 0, most]));
    program.output(nothing);
    let scalar = support::tensor(DType::F64, &[], &[1.0]);
    assert_eq!(run(&program, &[scalar]).unwrap()[0].shape()[2], 0);
    let pads = [("low", list(&[1 << 40])), ("high", list(&[0]))];
    let found = refusal(DType::F32, &[2], "pad-edge", &pads);
    assert!(found.contains("pad-edge"), "{found}");
    let sums = [("lhs", i64::MAX), ("rhs", i64::MIN)];
    for (_, amount) in sums {
        let mut program = Program::default();
        let x = program.source("input", 0, DType::F32, &[2]);
        let zero = program.number(0.0, &[]);
        let pads = [
            ("low", list(&[amount])),
            ("high", list(&[amount])),
            ("interior", list(&[i64::MAX])),
        ];
        let result = program.push("pad", &[x, zero], &pads);
        program.output(result);
        assert!(support::problem(&program).contains("`pad`"));
    }
}

/// Steps one after another: an operation and its attributes, with further operands.
type Steps<'a> = &'a [(&'a str, &'a [Array], &'a [(&'a str, Attribute)])];

/// Checks the last result of some operations on three threads, every one of which the
/// reference does as well.
#[track_caller]
fn check_steps(x: &Array, steps: Steps<'_>) {
    let mut program = Program::default();
    let mut inputs = vec![x.tensor()];
    let mut value = program.input_like(0, &inputs[0]);
    let mut expected = x.clone();
    for (op, others, attributes) in steps {
        let mut operands = vec![value];
        for other in *others {
            operands.push(program.input_like(inputs.len(), &other.tensor()));
            inputs.push(other.tensor());
        }
        value = program.push(op, &operands, attributes);
        let given = [&[expected], *others].concat();
        let attributes = Attributes(attributes);
        expected = evaluate(op, &given, &attributes, x.dtype)
            .unwrap()
            .remove(0);
    }
    program.output(value);
    let found = run_with(&program, &inputs, &threads(3)).unwrap();
    let found = Array::of(&found[0]);
    assert_eq!(found.shape, expected.shape);
    let pairs = found.numbers.iter().zip(&expected.numbers).enumerate();
    for (place, (&found, &expected)) in pairs {
        let steps: Vec<_> = steps
            .iter()
            .map(|(op, _, attributes)| (op, attributes))
            .collect();
        let (dtype, shape) = (x.dtype, &x.shape);
        assert!(
            found.is(expected),
            "{steps:?} of {dtype}{shape:?}: element {place} is {found:?} instead of {expected:?}"
        );
    }
}

/// All elements differ, as far as the type can tell.
fn counted(dtype: DType, shape: &[usize]) -> Array {
    let count: usize = shape.iter().product();
    let limit = if dtype == DType::U8 { 251 } else { i128::MAX };
    Array {
        dtype,
        shape: shape.to_vec(),
        numbers: (0..count as i128)
            .map(|number| converted(Number::Whole(number % limit), dtype))
            .collect(),
    }
}

const SIZES: [DType; 4] = [DType::U8, DType::Bf16, DType::F32, DType::I64];

#[test]
fn large_copies_put_every_element_in_its_place() {
    let turn = |order: &[i64]| [("permutation", list(order))];
    for dtype in SIZES {
        for shape in [[37, 50], [16, 32], [1, 70], [300, 17]] {
            let x = counted(dtype, &shape);
            let all = [("axes", list(&[0, 1]))];
            check_steps(&x, &[("transpose", &[], &turn(&[1, 0]))]);
            check_steps(
                &x,
                &[("reverse", &[], &all), ("transpose", &[], &turn(&[1, 0]))],
            );
            for axis in [0, 1] {
                check_steps(&x, &[("reverse", &[], &[("axes", list(&[axis]))])]);
            }
            let slice = [
                ("starts", list(&[0, 1])),
                ("limits", list(&shape.map(|size| size as i64))),
                ("strides", list(&[2, 3])),
            ];
            check_steps(&x, &[("slice", &[], &slice)]);
            check_steps(
                &x,
                &[("slice", &[], &slice), ("transpose", &[], &turn(&[1, 0]))],
            );
        }
        let x = counted(dtype, &[2, 19, 3, 33]);
        for order in [
            [0, 2, 1, 3],
            [3, 2, 1, 0],
            [0, 3, 1, 2],
            [1, 3, 0, 2],
            [2, 0, 3, 1],
        ] {
            check_steps(&x, &[("transpose", &[], &turn(&order))]);
        }
        for width in [1, 4, 5, 8, 16, 32, 64] {
            let other = [counted(dtype, &[21, 3]), counted(dtype, &[21, width])];
            let x = counted(dtype, &[21, width]);
            check_steps(&x, &[("concatenate", &other, &[("axis", 1.into())])]);
        }
    }
}

#[test]
fn rows_of_every_length_are_taken_and_put() {
    let mut random = Random::new(9);
    let mut indices = |dtype: DType, shape: &[usize]| Array {
        dtype,
        shape: shape.to_vec(),
        numbers: (0..shape.iter().product())
            .map(|_| Number::Whole(random.below(11) as i128))
            .collect(),
    };
    for (dtype, index) in SIZES
        .into_iter()
        .zip([DType::I32, DType::I64, DType::U32, DType::I32])
    {
        for width in [1, 2, 4, 5, 8, 16, 32, 64] {
            for (axis, shape) in [(0, vec![9, width]), (1, vec![3, 9, width])] {
                let x = counted(dtype, &shape);
                let attributes = [("axis", Attribute::from(axis as i64))];
                check_steps(&x, &[("take", &[indices(index, &[7, 3])], &attributes)]);
                let mut along = shape.clone();
                along[axis] = 40;
                let rows = [indices(index, &along)];
                check_steps(&x, &[("take-along-axis", &rows, &attributes)]);
                let updates = counted(dtype, &along);
                let puts = [indices(index, &[40]), updates.clone()];
                check_steps(&x, &[("scatter-set", &puts, &attributes)]);
                if dtype == DType::I64 {
                    check_steps(&x, &[("scatter-add", &puts, &attributes)]);
                    let puts = [rows[0].clone(), updates];
                    check_steps(&x, &[("scatter-add-along-axis", &puts, &attributes)]);
                }
            }
        }
    }
}

#[test]
fn long_lines_have_the_running_results_of_the_contract() {
    let shapes = [
        vec![2500],
        vec![2, 9000],
        vec![11, 1030],
        vec![3000, 2],
        vec![19, 40],
    ];
    for shape in shapes {
        for axis in 0..shape.len() {
            for reverse in [false, true] {
                let attributes = [("axis", (axis as i64).into()), ("reverse", reverse.into())];
                let odd = Array {
                    numbers: (0..shape.iter().product::<usize>())
                        .map(|place| Number::Whole(2 * (place as i128 % 700) - 699))
                        .collect(),
                    dtype: DType::I32,
                    shape: shape.clone(),
                };
                check_steps(&odd, &[("cumulative-sum", &[], &attributes)]);
                check_steps(&odd, &[("cumulative-product", &[], &attributes)]);
            }
        }
    }
}
