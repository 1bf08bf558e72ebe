//! Programs give the same on the host's executor and, as StableHLO, through a PJRT plugin.
//!
//! `TRAINSHED_PJRT_PLUGIN` names the plugin; `cargo xtask test` fetches one for host
//! processors and sets it. Any other plugin can be tested the same way, a GPU's too.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a failed unwrap is a failed test, and the numbers are small"
)]

#[path = "../../tensor/tests/support/mod.rs"]
mod support;

use support::{budget, context};
use trainshed_tensor::{Device, DType, Executable, Program, Tensor};

mod plugin;

/// Runs a program on both and compares.
#[track_caller]
fn check(program: &Program, inputs: &[Tensor], tolerance: f64) {
    let run = |device: &Device| {
        let executable = Executable::compile_for(device, program, &budget()).unwrap();
        let mut session = executable.bind(Vec::new(), &context()).unwrap();
        session.run(inputs).unwrap()
    };
    let expected = run(&Device::Cpu);
    let found = run(&plugin::device());
    assert_eq!(expected.len(), found.len());
    for (place, (expected, found)) in expected.iter().zip(&found).enumerate() {
        compare(place, expected, found, tolerance);
    }
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    match tensor.as_f32() {
        Some(values) => values.iter().map(|&value| f64::from(value)).collect(),
        None => tensor.bytes().iter().map(|&byte| f64::from(byte)).collect(),
    }
}

#[track_caller]
fn compare(place: usize, expected: &Tensor, found: &Tensor, tolerance: f64) {
    assert_eq!(expected.dtype(), found.dtype());
    assert_eq!(expected.shape(), found.shape());
    if expected.dtype() != DType::F32 {
        assert_eq!(expected.bytes(), found.bytes(), "output {place}");
        return;
    }
    for (at, (a, b)) in numbers(expected).into_iter().zip(numbers(found)).enumerate() {
        let near = a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= tolerance * a.abs().max(1.0);
        assert!(near, "output {place}, element {at}: {a} on the host, {b} through the plugin");
    }
}

#[test]
fn random_programs_agree() {
    for seed in 0..60 {
        let (program, inputs) = support::random::smooth_program(seed, 20);
        println!("{seed}");
        check(&program, &inputs, 1e-4);
    }
}
#[test]
fn rough_programs_agree() {
    for seed in 0..100 {
        let (program, inputs) = support::random::program(seed, 20);
        println!("{seed}");
        check(&program, &inputs, 1e-4);
    }
}
