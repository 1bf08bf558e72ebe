//! Operations on shapes, order and positions: values and gradients against those of JAX
//! and PyTorch in double precision (`fixtures/make_places.py`), against differences, and
//! the corners that the contract defines.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a failed unwrap is a failed test, and the numbers are small"
)]

mod support;

use proptest::prelude::*;
use support::cases::Case;
use support::random::{Growing, Random};
use support::{
    Build, apply, budget, context, f32s, floats, i32s, ints, list, run, run_with, threads,
};
use trainshed_tensor::{Attribute, DType, Executable, Program, Tensor, Value, gradient};

/// Adds the sum of `x` times `weights` to `loss`.
fn add_weighted(program: &mut Program, loss: Value, x: Value, weights: (Value, usize)) -> Value {
    let product = program.op("multiply", &[x, weights.0]);
    let axes: Vec<i64> = (0..weights.1 as i64).collect();
    let sum = program.push("reduce-sum", &[product], &[("axes", list(&axes))]);
    program.op("add", &[loss, sum])
}

#[test]
fn values_and_gradients_are_those_of_jax_and_pytorch() {
    for (number, case) in Case::all("places").iter().enumerate() {
        for float in [DType::F32, DType::F64] {
            case.check(&format!("case {number}, `{}`, {float}", case.op), float);
        }
    }
}

#[test]
fn views_of_views_are_read_where_they_point() {
    // Slices, reversals and transposes one on another, read by an elementwise operation.
    let x = f32s(&[4, 5], &(0u8..20).map(f32::from).collect::<Vec<_>>());
    let mut program = Program::default();
    let value = program.input_like(0, &x);
    let attributes = [
        ("starts", list(&[0, 1])),
        ("limits", list(&[4, 5])),
        ("strides", list(&[2, 3])),
    ];
    let sliced = program.push("slice", &[value], &attributes);
    let turned = program.push("reverse", &[sliced], &[("axes", list(&[0, 1]))]);
    let turned = program.push("transpose", &[turned], &[("permutation", list(&[1, 0]))]);
    let negated = program.op("negate", &[turned]);
    let flat = program.push("reshape", &[turned], &[("shape", list(&[4]))]);
    let row = [
        ("starts", list(&[1, 0])),
        ("limits", list(&[2, 5])),
        ("strides", list(&[1, 1])),
    ];
    let row = program.push("slice", &[value], &row);
    let flat_row = program.push("reshape", &[row], &[("shape", list(&[5]))]);
    let product = program.op("square", &[flat_row]);
    for output in [turned, negated, flat, product] {
        program.output(output);
    }
    let outputs = run(&program, &[x]).unwrap();
    assert_eq!(floats(&outputs[0]), [14.0, 4.0, 11.0, 1.0]);
    assert_eq!(floats(&outputs[1]), [-14.0, -4.0, -11.0, -1.0]);
    assert_eq!(floats(&outputs[2]), [14.0, 4.0, 11.0, 1.0]);
    assert_eq!(floats(&outputs[3]), [25.0, 36.0, 49.0, 64.0, 81.0]);
}

#[test]
fn products_take_slices_and_reversals_as_operands() {
    let x = f32s(&[3, 4], &(0u8..12).map(f32::from).collect::<Vec<_>>());
    let mut program = Program::default();
    let value = program.input_like(0, &x);
    let mut slice = |start: i64, limit: i64| {
        let attributes = [
            ("starts", list(&[0, start])),
            ("limits", list(&[3, limit])),
            ("strides", list(&[1, 1])),
        ];
        program.push("slice", &[value], &attributes)
    };
    let (left, right) = (slice(0, 2), slice(2, 4));
    let axes = [
        ("lhs-batch", list(&[])),
        ("rhs-batch", list(&[])),
        ("lhs-contract", list(&[0])),
        ("rhs-contract", list(&[0])),
    ];
    let product = program.push("dot-general", &[left, right], &axes);
    let turned = program.push("reverse", &[right], &[("axes", list(&[0]))]);
    let other = program.push("dot-general", &[left, turned], &axes);
    program.output(product);
    program.output(other);
    let outputs = run(&program, &[x]).unwrap();
    assert_eq!(floats(&outputs[0]), [104.0, 116.0, 122.0, 137.0]);
    assert_eq!(floats(&outputs[1]), [40.0, 52.0, 58.0, 73.0]);
}

#[test]
fn a_slice_of_bytes_is_not_overwritten_by_wider_results() {
    // The results have as many bytes as the whole operand of the slice.
    let bytes: Vec<u8> = (0..4096u32).map(|x| (x % 251) as u8).collect();
    let x = Tensor::from_bytes(DType::U8, &[4096], &bytes, &budget()).unwrap();
    let mut program = Program::default();
    let value = program.input_like(0, &x);
    // A copy in the arena, whose place could be taken over.
    let copy = program.push("reverse", &[value], &[("axes", list(&[0]))]);
    let sorted = [("axis", 0.into()), ("reverse", false.into())];
    let copy = program.push("cumulative-sum", &[copy], &sorted);
    let attributes = [
        ("starts", list(&[0])),
        ("limits", list(&[1024])),
        ("strides", list(&[1])),
    ];
    let part = program.push("slice", &[copy], &attributes);
    let wide = program.push("convert", &[part], &[("dtype", "f32".into())]);
    let again = program.push("cumulative-sum", &[wide], &sorted);
    program.output(again);
    let found = run(&program, &[x]).unwrap();
    let (mut running, mut total) = (0u8, 0.0);
    for (x, found) in bytes.iter().rev().zip(floats(&found[0])) {
        running = running.wrapping_add(*x);
        total += f32::from(running);
        assert!((found - total).abs() <= 1.0, "{found} {total}");
    }
}

#[test]
fn sorting_takes_nan_as_greatest_and_keeps_equals_in_order() {
    let x = f32s(
        &[6],
        &[1.0, f32::NAN, -0.0, f32::NEG_INFINITY, 0.0, f32::INFINITY],
    );
    let mut program = Program::default();
    let value = program.input_like(0, &x);
    for descending in [false, true] {
        let attributes = [("axis", 0.into()), ("descending", descending.into())];
        let sorted = program.push("sort", &[value], &attributes);
        program.output(sorted);
        program.output(sorted.result(1));
    }
    let outputs = run(&program, &[x]).unwrap();
    assert_eq!(ints(&outputs[1]), [3, 2, 4, 0, 5, 1]);
    assert!(floats(&outputs[0])[1].is_sign_negative() && floats(&outputs[0])[5].is_nan());
    assert_eq!(ints(&outputs[3]), [1, 5, 0, 2, 4, 3]);
}

/// Random elements of any number type, with ties.
fn elements(random: &mut Random, dtype: DType, count: usize) -> (Vec<u8>, Vec<f64>) {
    let mut bytes = vec![0; count * dtype.size()];
    let mut numbers = Vec::new();
    for element in bytes.chunks_mut(dtype.size()) {
        let signed = !matches!(dtype, DType::U8 | DType::U32);
        let number = random.below(40) as f64 - if signed { 20.0 } else { 0.0 };
        dtype.write(number, element);
        numbers.push(number);
    }
    (bytes, numbers)
}

proptest! {
    #![proptest_config(support::cases(60))]

    #[test]
    fn every_number_type_is_sorted(seed in any::<u64>(), size in 0usize..400, descending: bool) {
        let mut random = Random::new(seed);
        for dtype in DType::ALL.into_iter().filter(|&dtype| dtype != DType::Bool) {
            let (bytes, numbers) = elements(&mut random, dtype, size);
            let x = Tensor::from_bytes(dtype, &[size as u64], &bytes, &budget()).unwrap();
            let k = random.below(size + 1);
            let mut program = Program::default();
            let value = program.input_like(0, &x);
            let attributes = [("axis", 0.into()), ("descending", descending.into())];
            let sorted = program.push("sort", &[value], &attributes);
            let best = [("axis", 0.into()), ("k", (k as i64).into())];
            let best = program.push("top-k", &[value], &best);
            for result in [sorted, best] {
                program.output(result);
                program.output(result.result(1));
            }
            let outputs = run(&program, &[x]).unwrap();
            let mut expected: Vec<i32> = (0..size as i32).collect();
            let number = |place: &i32| numbers[*place as usize];
            let falling = |a: &i32, b: &i32| number(b).total_cmp(&number(a));
            if descending {
                expected.sort_by(falling);
            } else {
                expected.sort_by(|a, b| number(a).total_cmp(&number(b)));
            }
            prop_assert_eq!(&ints(&outputs[1]), &expected);
            expected.sort_unstable();
            expected.sort_by(falling);
            prop_assert_eq!(&ints(&outputs[3])[..], &expected[..k]);
            for (values, places) in [(0, 1), (2, 3)] {
                let taken: Vec<u8> = ints(&outputs[places])
                    .iter()
                    .flat_map(|&place| bytes[place as usize * dtype.size()..][..dtype.size()].to_vec())
                    .collect();
                prop_assert_eq!(outputs[values].bytes(), &taken[..]);
            }
        }
    }
}

#[test]
fn indices_out_of_range_are_clamped() {
    let x = f32s(&[3, 2], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    let places = i32s(&[2, 2], &[-7, 1, 99, -1]);
    let axis = [("axis", 0.into())];
    let taken = apply("take-along-axis", &[x.clone(), places.clone()], &axis);
    assert_eq!(floats(&taken), [0.0, 3.0, 4.0, 1.0]);
    let updates = f32s(&[2, 2], &[10.0; 4]);
    let added = apply(
        "scatter-add-along-axis",
        &[x.clone(), places, updates.clone()],
        &axis,
    );
    assert_eq!(floats(&added), [10.0, 11.0, 2.0, 13.0, 14.0, 5.0]);
    let set = apply(
        "scatter-set",
        &[x.clone(), i32s(&[2], &[-1, 7]), updates],
        &axis,
    );
    assert_eq!(floats(&set), [10.0, 10.0, 2.0, 3.0, 10.0, 10.0]);
    for (dtype, bytes) in [
        (
            DType::I64,
            [i64::MAX, i64::MIN].map(i64::to_le_bytes).concat(),
        ),
        (DType::U32, [u32::MAX, 0].map(u32::to_le_bytes).concat()),
    ] {
        let starts = Tensor::from_bytes(dtype, &[2], &bytes, &budget()).unwrap();
        let sizes = [("sizes", list(&[1, 1]))];
        let sliced = apply("dynamic-slice", &[x.clone(), starts], &sizes);
        assert_eq!(floats(&sliced), [4.0]);
    }
}

#[test]
fn a_sum_of_half_precision_numbers_is_rounded_once() {
    let ones = vec![0x3f80u16; 600];
    let bytes: Vec<u8> = ones.iter().flat_map(|x| x.to_le_bytes()).collect();
    let x = Tensor::from_bytes(DType::Bf16, &[600], &bytes, &budget()).unwrap();
    let attributes = [("axis", 0.into()), ("reverse", false.into())];
    let sums = apply("cumulative-sum", &[x], &attributes);
    let last = u16::from_le_bytes(sums.bytes()[1198..].try_into().unwrap());
    assert_eq!(f32::from_bits(u32::from(last) << 16), 600.0);
}

/// A random operation of this file on `x`, smooth in it; its result and shape.
fn rearranged(growing: &mut Growing, x: Value, shape: &[usize]) -> (Value, Vec<usize>) {
    let rank = shape.len();
    let sizes: Vec<i64> = shape.iter().map(|&size| size as i64).collect();
    let axis = growing.random.below(rank);
    let along = |size: usize| {
        let mut shape = shape.to_vec();
        shape[axis] = size;
        shape
    };
    let axis_attribute = ("axis", Attribute::from(axis as i64));
    let random = &mut growing.random;
    match random.below(13) {
        0 => {
            let size = random.below(3);
            let other = growing.input(DType::F32, &along(size));
            let parts = [x, other, x];
            let result = growing
                .program
                .push("concatenate", &parts, &[axis_attribute]);
            (result, along(2 * shape[axis] + size))
        }
        1 => {
            let first = random.below(shape[axis] + 1);
            let parts = list(&[first as i64, (shape[axis] - first) as i64]);
            let parts = growing
                .program
                .push("split", &[x], &[axis_attribute, ("sizes", parts)]);
            (parts.result(1), along(shape[axis] - first))
        }
        2 => {
            let (mut starts, mut limits, mut strides, mut result) =
                (vec![], vec![], vec![], vec![]);
            for &size in shape {
                let start = random.below(size + 1);
                let limit = start + random.below(size - start + 1);
                let stride = 1 + random.below(3);
                starts.push(start as i64);
                limits.push(limit as i64);
                strides.push(stride as i64);
                result.push((limit - start).div_ceil(stride));
            }
            let attributes = [
                ("starts", list(&starts)),
                ("limits", list(&limits)),
                ("strides", list(&strides)),
            ];
            (growing.program.push("slice", &[x], &attributes), result)
        }
        3 => {
            let (mut low, mut high, mut interior, mut result) = (vec![], vec![], vec![], vec![]);
            for &size in &sizes {
                let gap = random.below(3) as i64;
                let inside = size + (size - 1).max(0) * gap;
                let before = random.below(5) as i64 - 2;
                let behind = (random.below(5) as i64 - 2).max(-inside - before);
                low.push(before);
                high.push(behind);
                interior.push(gap);
                result.push((inside + before + behind) as usize);
            }
            let attributes = [
                ("low", list(&low)),
                ("high", list(&high)),
                ("interior", list(&interior)),
            ];
            let fill = growing.input(DType::F32, &[]);
            (growing.program.push("pad", &[x, fill], &attributes), result)
        }
        4 => {
            let (mut low, mut high, mut result) = (vec![], vec![], vec![]);
            for &size in shape {
                let (before, behind) = match size {
                    0 => (0, 0),
                    _ => (random.below(3), random.below(3)),
                };
                low.push(before as i64);
                high.push(behind as i64);
                result.push(before + size + behind);
            }
            let attributes = [("low", list(&low)), ("high", list(&high))];
            (growing.program.push("pad-edge", &[x], &attributes), result)
        }
        5 => {
            let axes = [("axes", list(&[axis as i64]))];
            (growing.program.push("reverse", &[x], &axes), shape.to_vec())
        }
        choice @ (6 | 7) => {
            let part: Vec<usize> = shape.iter().map(|&size| random.below(size + 1)).collect();
            let starts = growing.input(DType::I32, &[rank]);
            if choice == 6 {
                let part_sizes: Vec<i64> = part.iter().map(|&size| size as i64).collect();
                let attributes = [("sizes", list(&part_sizes))];
                (
                    growing
                        .program
                        .push("dynamic-slice", &[x, starts], &attributes),
                    part,
                )
            } else {
                let update = growing.input(DType::F32, &part);
                let operands = [x, update, starts];
                (
                    growing.program.op("dynamic-update-slice", &operands),
                    shape.to_vec(),
                )
            }
        }
        8 => {
            let name = random.pick(&["cumulative-sum", "cumulative-product"]);
            let reverse = ("reverse", (random.below(2) == 0).into());
            (
                growing.program.push(name, &[x], &[axis_attribute, reverse]),
                shape.to_vec(),
            )
        }
        9 if shape[axis] > 0 => {
            let indices = growing.input(DType::I64, &along(3));
            let operands = [x, indices];
            (
                growing
                    .program
                    .push("take-along-axis", &operands, &[axis_attribute]),
                along(3),
            )
        }
        10 if shape[axis] > 0 => {
            let indices = growing.input(DType::I32, &along(3));
            let updates = growing.input(DType::F32, &along(3));
            let operands = [x, indices, updates];
            let name = "scatter-add-along-axis";
            (
                growing.program.push(name, &operands, &[axis_attribute]),
                shape.to_vec(),
            )
        }
        11 if shape[axis] > 0 => {
            let indices = growing.input(DType::U32, &[3]);
            let updates = growing.input(DType::F32, &along(3));
            let operands = [x, indices, updates];
            (
                growing
                    .program
                    .push("scatter-set", &operands, &[axis_attribute]),
                shape.to_vec(),
            )
        }
        _ => {
            // Constant keys, so that differences do not change the order.
            let k = random.below(shape[axis] + 1);
            let attributes = [axis_attribute, ("k", (k as i64).into())];
            (growing.program.push("top-k", &[x], &attributes), along(k))
        }
    }
}

/// A random chain of the operations of this file, and a loss of its last value.
fn chain(seed: u64, length: usize) -> (Growing, Value) {
    let mut growing = Growing::new(seed, true);
    let mut shape = growing.random.shape();
    if shape.is_empty() {
        shape = vec![3];
    }
    let mut value = growing.input(DType::F32, &shape);
    for _ in 0..length {
        if shape.iter().product::<usize>() > 2000 {
            break;
        }
        (value, shape) = rearranged(&mut growing, value, &shape);
    }
    let weights = growing.input(DType::F32, &shape);
    let zero = growing.program.number(0.0, &[]);
    let loss = add_weighted(&mut growing.program, zero, value, (weights, shape.len()));
    growing.program.output(value);
    (growing, loss)
}

proptest! {
    #![proptest_config(support::cases(400))]

    #[test]
    fn gradients_match_differences(seed in any::<u64>(), length in 1usize..4) {
        let (growing, loss) = chain(seed, length);
        let (program, inputs) = (&growing.program, &growing.inputs);
        let place = inputs.iter().position(|input| input.dtype() == DType::F32).unwrap();
        let place = place.max(3.min(inputs.len() - 1));
        let source = program
            .instructions
            .iter()
            .position(|instruction| {
                instruction.op == "input"
                    && instruction.attributes[0].1 == Attribute::Integer(place as i64)
            })
            .unwrap();
        let source = Value { instruction: source as u32, output: 0 };
        let derived = gradient(program, loss, &[source]).unwrap();
        let slopes = run(&derived, inputs).unwrap().pop().unwrap();
        let direction = floats(&Random::new(seed).tensor(DType::F32, inputs[place].shape()));
        let slope: f64 = floats(&slopes)
            .iter()
            .zip(&direction)
            .map(|(slope, step)| f64::from(*slope) * f64::from(*step))
            .sum();

        let mut forward = program.clone();
        forward.outputs = vec![loss];
        let context = context();
        let executable = Executable::compile(&forward, context.budget()).unwrap();
        let mut session = executable.bind(Vec::new(), &context).unwrap();
        let mut at = |step: f32| {
            let moved: Vec<f32> = floats(&inputs[place])
                .iter()
                .zip(&direction)
                .map(|(x, direction)| x + step * direction)
                .collect();
            let shape: Vec<u64> = inputs[place].shape().iter().map(|&size| size as u64).collect();
            let mut inputs = inputs.clone();
            inputs[place] = f32s(&shape, &moved);
            session.run(&inputs).unwrap()[0].item()
        };
        let wide = (at(2e-3) - at(-2e-3)) / 4e-3;
        let narrow = (at(1e-3) - at(-1e-3)) / 2e-3;
        let scale = 1.0 + slope.abs() + wide.abs();
        if (wide - narrow).abs() < 0.01 * scale {
            prop_assert!((slope - narrow).abs() < 0.02 * scale, "{} {}", slope, narrow);
        }
    }

    #[test]
    fn gradients_can_be_differentiated_again(seed in any::<u64>(), length in 1usize..3) {
        let (growing, loss) = chain(seed, length);
        let mut program = growing.program;
        // The square makes the gradient depend on the operand.
        let squared = program.op("square", &[loss]);
        let source = growing.values[3].clone();
        let mut program = gradient(&program, squared, &[source.0]).unwrap();
        let slope = program.outputs.pop().unwrap();
        let axes: Vec<i64> = (0..source.2.len() as i64).collect();
        let sum = program.push("reduce-sum", &[slope], &[("axes", list(&axes))]);
        let twice = gradient(&program, sum, &[source.0]).unwrap();
        prop_assert!(run(&twice, &growing.inputs).is_ok());
    }

    #[test]
    fn threads_do_not_change_the_bits(seed in any::<u64>(), length in 1usize..5) {
        let (growing, loss) = chain(seed, length);
        let program = gradient(&growing.program, loss, &[growing.values[3].0]).unwrap();
        let alone = run(&program, &growing.inputs).unwrap();
        let together = run_with(&program, &growing.inputs, &threads(3)).unwrap();
        for (alone, together) in alone.iter().zip(&together) {
            prop_assert_eq!(alone.bytes(), together.bytes());
        }
    }
}

#[test]
fn large_results_have_the_same_bits_on_any_number_of_threads() {
    let mut growing = Growing::new(5, true);
    let x = growing.input(DType::F32, &[300, 401]);
    let table = growing.input(DType::F32, &[5000, 33]);
    let indices = growing.input(DType::I32, &[9000]);
    let updates = growing.input(DType::F32, &[9000, 33]);
    let axis = |axis: i64| ("axis", Attribute::from(axis));
    let program = &mut growing.program;
    let no = |name| (name, Attribute::from(false));
    let mut outputs = vec![
        program.push("concatenate", &[x, x], &[axis(1)]),
        program.push("concatenate", &[x, x], &[axis(0)]),
        program.push("reverse", &[x], &[("axes", list(&[1]))]),
        program.push("cumulative-sum", &[x], &[axis(0), no("reverse")]),
        program.push("cumulative-sum", &[x], &[axis(1), no("reverse")]),
        program.push("sort", &[x], &[axis(0), no("descending")]),
        program
            .push("top-k", &[x], &[axis(1), ("k", 7.into())])
            .result(1),
        program.push("scatter-add", &[table, indices, updates], &[axis(0)]),
        program.push("scatter-set", &[table, indices, updates], &[axis(0)]),
    ];
    let pads = [
        ("low", list(&[3, -2])),
        ("high", list(&[-1, 4])),
        ("interior", list(&[1, 0])),
    ];
    let fill = program.number(7.0, &[]);
    outputs.push(program.push("pad", &[x, fill], &pads));
    program.outputs = outputs;
    let alone = run(program, &growing.inputs).unwrap();
    let together = run_with(program, &growing.inputs, &threads(3)).unwrap();
    for (alone, together) in alone.iter().zip(&together) {
        assert_eq!(alone.bytes(), together.bytes());
    }
    // One element of each copy, by hand.
    let x = floats(&growing.inputs[growing.inputs.len() - 4]);
    assert_eq!(floats(&alone[0])[299 * 802 + 401 + 17], x[299 * 401 + 17]);
    assert_eq!(floats(&alone[1])[(300 + 299) * 401 + 17], x[299 * 401 + 17]);
    assert_eq!(floats(&alone[2])[250 * 401 + 3], x[250 * 401 + 397]);
    let padded = floats(&alone[9]);
    assert_eq!(padded[(3 + 2 * 200) * 403 + 5], x[200 * 401 + 7]);
    assert_eq!(padded[(3 + 2 * 200 + 1) * 403 + 5], 7.0);
}
