//! Random numbers: the words that the contract defines, their distributions, and that
//! nothing but key, stream and position matters.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a failed unwrap is a failed test, and the numbers are small"
)]

mod support;

use support::{Build, budget, context, f32s, floats, ints, list, run, run_with, threads};
use trainshed_tensor::{Attribute, DType, Executable, Program, Tensor, Value, gradient};

fn key(words: [u32; 2]) -> Tensor {
    let bytes = words.map(u32::to_le_bytes).concat();
    Tensor::from_bytes(DType::U32, &[2], &bytes, &budget()).unwrap()
}

fn words(tensor: &Tensor) -> Vec<u32> {
    assert_eq!(tensor.dtype(), DType::U32);
    let elements = tensor.bytes().chunks(4);
    elements
        .map(|bytes| u32::from_le_bytes(bytes.try_into().unwrap()))
        .collect()
}

/// An operation on a key alone.
fn random(op: &str, words: [u32; 2], attributes: &[(&str, Attribute)]) -> Tensor {
    support::apply(op, &[key(words)], attributes)
}

fn shaped(shape: &[i64], stream: i64) -> [(&'static str, Attribute); 2] {
    [("shape", list(shape)), ("stream", stream.into())]
}

fn floats_of(op: &str, dtype: DType, count: i64, stream: i64) -> Vec<f64> {
    let mut program = Program::default();
    let inputs = [key([3, 4])];
    let source = program.input_like(0, &inputs[0]);
    let attributes = [
        ("shape", list(&[count])),
        ("stream", stream.into()),
        ("dtype", dtype.name().into()),
    ];
    let found = program.push(op, &[source], &attributes);
    let wide = program.push("convert", &[found], &[("dtype", "f64".into())]);
    program.output(wide);
    let found = run(&program, &inputs).unwrap().remove(0);
    let elements = found.bytes().chunks(8);
    elements
        .map(|bytes| f64::from_le_bytes(bytes.try_into().unwrap()))
        .collect()
}

/// The greatest distance between the distribution of the numbers and that which is
/// expected, times the root of their count: above 2.2 with a chance of one in 10,000.
///
/// Source: Kolmogorov, "Sulla determinazione empirica di una legge di distribuzione", 1933.
fn distance(mut found: Vec<f64>, expected: impl Fn(f64) -> f64) -> f64 {
    found.sort_by(f64::total_cmp);
    let count = found.len() as f64;
    let gaps = found.iter().enumerate().map(|(place, &x)| {
        let (below, above) = (place as f64 / count, (place + 1) as f64 / count);
        (expected(x) - below).abs().max((above - expected(x)).abs())
    });
    gaps.fold(0.0, f64::max) * count.sqrt()
}

/// The distribution function of the normal distribution.
///
/// Source: Abramowitz and Stegun, "Handbook of mathematical functions", 1964, 26.2.17.
fn normal_distribution(x: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * x.abs());
    let terms = [
        0.319_381_530,
        -0.356_563_782,
        1.781_477_937,
        -1.821_255_978,
        1.330_274_429,
    ];
    let sum = terms.iter().rev().fold(0.0, |sum, term| (sum + term) * t);
    let tail = sum * (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    if x > 0.0 { 1.0 - tail } else { tail }
}

/// The variance-scaled distance of counts from equal ones: about normal.
fn excess(counts: &[usize]) -> f64 {
    let expected = counts.iter().sum::<usize>() as f64 / counts.len() as f64;
    let squares = counts
        .iter()
        .map(|&count| (count as f64 - expected).powi(2) / expected);
    let freedom = counts.len() as f64 - 1.0;
    (squares.sum::<f64>() - freedom) / (2.0 * freedom).sqrt()
}

#[test]
fn bits_are_the_words_of_philox() {
    // With a key and a counter of zeros: the known answer of the paper's library.
    let bits = random("random-bits", [0, 0], &shaped(&[2, 3], 0));
    assert_eq!(
        words(&bits)[..4],
        [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
    );
    let one = random("random-bits", [0, 0], &shaped(&[], 0));
    assert_eq!(words(&one), [0x6627_e8d5]);
    assert!(
        random("random-bits", [0, 0], &shaped(&[0], 0))
            .bytes()
            .is_empty()
    );
}

#[test]
fn a_position_has_its_word_whatever_the_shape() {
    let long = words(&random("random-bits", [1, 2], &shaped(&[5000], 9)));
    let short = words(&random("random-bits", [1, 2], &shaped(&[7, 11], 9)));
    assert_eq!(long[..77], short[..]);
}

#[test]
fn keys_may_be_computed() {
    let mut program = Program::default();
    let keys = Tensor::from_bytes(
        DType::U32,
        &[2, 2],
        &[5u32, 6, 7, 8].map(u32::to_le_bytes).concat(),
        &budget(),
    );
    let keys = keys.unwrap();
    let value = program.input_like(0, &keys);
    let slice = [
        ("starts", list(&[1, 0])),
        ("limits", list(&[2, 2])),
        ("strides", list(&[1, 1])),
    ];
    let row = program.push("slice", &[value], &slice);
    let row = program.push("squeeze", &[row], &[("axes", list(&[0]))]);
    let turned = program.push("reverse", &[row], &[("axes", list(&[0]))]);
    let sum = program.op("add", &[row, row]);
    for key in [row, turned, sum] {
        let bits = program.push("random-bits", &[key], &shaped(&[40], 1));
        program.output(bits);
    }
    let outputs = run(&program, &[keys]).unwrap();
    for (output, key) in outputs.iter().zip([[7, 8], [8, 7], [14, 16]]) {
        let expected = random("random-bits", key, &shaped(&[40], 1));
        assert_eq!(words(output), words(&expected));
    }
}

#[test]
fn a_folded_key_is_another_key() {
    let fold = |number: u32| {
        let number = Tensor::from_bytes(DType::U32, &[], &number.to_le_bytes(), &budget());
        words(&support::apply(
            "random-fold",
            &[key([1, 2]), number.unwrap()],
            &[],
        ))
    };
    let keys: Vec<Vec<u32>> = (0..200).map(fold).collect();
    for (place, folded) in keys.iter().enumerate() {
        assert!(folded.len() == 2 && !keys[..place].contains(folded));
    }
}

#[test]
fn bits_are_uniform_and_streams_independent() {
    let one = words(&random("random-bits", [1, 2], &shaped(&[100_000], 0)));
    let other = words(&random("random-bits", [1, 2], &shaped(&[100_000], 1)));
    let mut bytes = vec![0; 256];
    let mut pairs = vec![0; 256];
    for (one, other) in one.iter().zip(&other) {
        for shift in [0, 8, 16, 24] {
            bytes[(one >> shift) as usize & 255] += 1;
        }
        pairs[(one >> 28 << 4 | other >> 28) as usize] += 1;
    }
    assert!(excess(&bytes).abs() < 4.0 && excess(&pairs).abs() < 4.0);
}

#[test]
fn uniform_numbers_are_uniform() {
    for (dtype, bits) in [
        (DType::F32, 24),
        (DType::F64, 53),
        (DType::Bf16, 8),
        (DType::F16, 11),
    ] {
        let found = floats_of("random-uniform", dtype, 40_000, 3);
        assert!(found.iter().all(|&x| (0.0..1.0).contains(&x)));
        let step = 2f64.powi(bits);
        assert!(found.iter().all(|&x| x * step == (x * step).trunc()));
        // Every bit is used.
        assert!(found.iter().any(|&x| (x * step) % 2.0 == 1.0));
        let resolution = 2f64.powi(-bits) * (found.len() as f64).sqrt();
        assert!(distance(found, |x| x) < 2.2 + resolution, "{dtype}");
    }
}

#[test]
fn normal_numbers_are_normal() {
    for dtype in [DType::F32, DType::F64] {
        let found = floats_of("random-normal", dtype, 100_000, 8);
        let count = found.len() as f64;
        let moment = |power: i32| found.iter().map(|x| x.powi(power)).sum::<f64>() / count;
        assert!(moment(1).abs() < 4.0 / count.sqrt());
        assert!((moment(2) - 1.0).abs() < 4.0 * (2.0 / count).sqrt());
        assert!(moment(3).abs() < 4.0 * (15.0 / count).sqrt());
        assert!((moment(4) - 3.0).abs() < 4.0 * (96.0 / count).sqrt());
        let neighbours = found.windows(2).map(|pair| pair[0] * pair[1]).sum::<f64>() / count;
        assert!(neighbours.abs() < 4.0 / count.sqrt());
        assert!(distance(found, normal_distribution) < 2.2);
    }
    let halves = floats_of("random-normal", DType::F16, 1000, 8);
    let singles = floats_of("random-normal", DType::F32, 1000, 8);
    let close =
        |(half, single): (&f64, &f64)| (half - single).abs() <= 1e-3 * single.abs().max(1.0);
    assert!(halves.iter().zip(&singles).all(close));
}

#[test]
fn chances_are_what_they_should_be() {
    for probability in [0.0, 0.001, 0.3, 1.0] {
        let [shape, stream] = shaped(&[100_000], 5);
        let attributes = [shape, stream, ("probability", probability.into())];
        let found = random("random-bernoulli", [9, 9], &attributes);
        let count: usize = found.bytes().iter().map(|&flag| usize::from(flag)).sum();
        let deviation = (1e5 * probability * (1.0 - probability)).sqrt();
        assert!(
            (count as f64 - 1e5 * probability).abs() <= 4.0 * deviation,
            "{probability}"
        );
    }
}

#[test]
fn permutations_have_every_number_once_and_any_place_alike() {
    let permutation = |size: i64, seed: u32| {
        let attributes = [("size", size.into()), ("stream", 0.into())];
        ints(&random("random-permutation", [seed, 1], &attributes))
    };
    let mut large = permutation(10_000, 0);
    assert!(!large.is_sorted());
    large.sort_unstable();
    assert_eq!(large, (0..10_000).collect::<Vec<i32>>());
    assert!(permutation(0, 0).is_empty());
    assert_eq!(permutation(1, 0), [0]);
    let mut orders = vec![0; 27];
    for seed in 0..1200 {
        let order = permutation(3, seed);
        orders[(order[0] * 9 + order[1] * 3 + order[2]) as usize] += 1;
    }
    orders.retain(|&count| count > 0);
    assert_eq!(orders.len(), 6);
    assert!(excess(&orders).abs() < 4.0);
}

fn dropout(rate: f64, shape: &[u64]) -> (Program, Value, Vec<Tensor>) {
    let count: u64 = shape.iter().product();
    let x = f32s(shape, &vec![3.0; count as usize]);
    let mut program = Program::default();
    let (value, source) = (program.input_like(0, &x), {
        let key = key([1, 1]);
        program.input_like(1, &key)
    });
    let attributes = [("rate", rate.into()), ("stream", 2.into())];
    let dropped = program.push("dropout", &[value, source], &attributes);
    program.output(dropped);
    (program, value, vec![x, key([1, 1])])
}

#[test]
fn dropout_keeps_the_mean_and_its_gradient_takes_the_same_way() {
    let (mut program, x, inputs) = dropout(0.25, &[100, 300]);
    let loss = program.push(
        "reduce-sum",
        &program.outputs.clone(),
        &[("axes", list(&[0, 1]))],
    );
    let program = gradient(&program, loss, &[x]).unwrap();
    let outputs = run(&program, &inputs).unwrap();
    let (values, slopes) = (floats(&outputs[0]), floats(&outputs[1]));
    let mut dropped: u16 = 0;
    for (value, slope) in values.iter().zip(&slopes) {
        let kept = *value != 0.0;
        assert_eq!(*slope, if kept { 1.0 / 0.75 } else { 0.0 });
        assert_eq!(*value, if kept { 4.0 } else { 0.0 });
        dropped += u16::from(!kept);
    }
    assert!((f64::from(dropped) - 7500.0).abs() < 4.0 * 75.0);
    let together = run_with(&program, &inputs, &threads(3)).unwrap();
    assert_eq!(together[0].bytes(), outputs[0].bytes());
}

#[test]
fn nothing_is_dropped_at_a_rate_of_zero() {
    let (program, _, inputs) = dropout(0.0, &[10]);
    assert_eq!(floats(&run(&program, &inputs).unwrap()[0]), [3.0; 10]);
}

#[test]
fn random_bits_that_are_used_at_once_take_no_memory() {
    let (mut program, _, _) = dropout(0.5, &[1000, 1000]);
    let attributes = [
        ("shape", list(&[1000, 1000])),
        ("stream", 7.into()),
        ("dtype", "f32".into()),
    ];
    let source = Value {
        instruction: 1,
        output: 0,
    };
    let noise = program.push("random-uniform", &[source], &attributes);
    let sum = program.op("add", &[program.outputs[0], noise]);
    program.outputs = vec![sum];
    let executable = Executable::compile(&program, context().budget()).unwrap();
    assert_eq!(executable.plan().workspace_bytes, 0);
}
