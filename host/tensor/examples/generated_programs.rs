//! Makes programs by chance, of every operation and half of them spoilt, and does with each
//! what a plugin can: serialises and reads it, differentiates it, lowers it for
//! accelerators, compiles it, and runs it when it is small.
//!
//! `generated_programs [COUNT [FIRST_SEED]]` prints how many programs were taken and how
//! many refused, and the seed of each that panicked; then it exits with 1.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "prints its result; what it shares with the tests deals with small numbers"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Arc;

use support::anything::{anything, spoil};
use support::random::Random;
use trainshed_tensor::{
    Budget, Context, DType, Executable, Program, ProgramError, Tensor, Value, gradient, stablehlo,
};

/// Programs that would take longer are not run.
const MOST_FLOPS: u64 = 20_000_000;

/// What a program of a task may hold.
const BUDGET_BYTES: u64 = 64 << 20;

#[derive(Default)]
struct Tally {
    taken: u64,
    refused: u64,
    differentiated: u64,
    lowered: u64,
    run: u64,
}

fn main() -> ExitCode {
    let mut numbers = std::env::args().skip(1);
    let mut number = |otherwise| {
        numbers
            .next()
            .map_or(Some(otherwise), |text| text.parse().ok())
    };
    let (Some(count), Some(first)) = (number(10_000), number(0u64)) else {
        println!("usage: generated_programs [COUNT [FIRST_SEED]]");
        return ExitCode::FAILURE;
    };
    let mut tally = Tally::default();
    let mut panicked = 0;
    for seed in first..first.saturating_add(count) {
        if catch_unwind(AssertUnwindSafe(|| one(seed, &mut tally))).is_err() {
            println!("seed {seed} panicked");
            panicked += 1;
        }
    }
    let Tally {
        taken,
        refused,
        differentiated,
        lowered,
        run,
    } = tally;
    println!(
        "{count} programs from seed {first}: {taken} compiled, {refused} refused, {differentiated} differentiated, {lowered} lowered, {run} run, {panicked} panicked"
    );
    ExitCode::from(u8::from(panicked > 0))
}

fn one(seed: u64, tally: &mut Tally) {
    let mut random = Random::new(!seed);
    let length = random.below(16);
    let mut growing = anything(seed, length);
    let spoilt = random.below(2) == 0;
    let loss = growing.loss();
    if spoilt {
        for _ in 0..=random.below(3) {
            spoil(&mut growing.program, &mut random);
        }
    }
    let program = growing.program;
    read_back(&program, &mut random);
    let sources: Vec<Value> = growing
        .values
        .iter()
        .filter(|(_, dtype, _)| *dtype == DType::F32 || random.below(9) == 0)
        .map(|(value, _, _)| *value)
        .take(3)
        .collect();
    let compiled = check(&program, &growing.inputs, &growing.states, tally);
    if let Err(error) = &compiled {
        assert!(
            spoilt,
            "a program that obeys every rule is refused: {error}"
        );
        tally.refused += 1;
    }
    if stablehlo(&program).is_ok() {
        tally.lowered += 1;
    }
    match gradient(&program, loss, &sources) {
        Ok(derived) => {
            tally.differentiated += 1;
            let outcome = check(&derived, &growing.inputs, &growing.states, tally);
            assert!(outcome.is_ok() || compiled.is_err() || spoilt);
        }
        Err(error) => assert!(spoilt, "there is no gradient: {error}"),
    }
}

/// Writes and reads a program, as it is and with some bytes changed.
fn read_back(program: &Program, random: &mut Random) {
    let mut bytes = program.to_bytes();
    match Program::from_bytes(&bytes) {
        Ok(read) => assert!(format!("{read:?}") == format!("{program:?}")),
        Err(error) => panic!("a program cannot be read back: {error}"),
    }
    for _ in 0..=random.below(4) {
        let place = random.below(bytes.len());
        bytes[place] = random.below(256) as u8;
    }
    if let Ok(read) = Program::from_bytes(&bytes) {
        assert_eq!(read.to_bytes(), bytes);
    }
}

/// Compiles a program and runs it when it is small.
fn check(
    program: &Program,
    inputs: &[Tensor],
    states: &[Tensor],
    tally: &mut Tally,
) -> Result<(), ProgramError> {
    let context = Context::new(Budget::new(BUDGET_BYTES), 1, Arc::default()).unwrap();
    let executable = Executable::compile(program, context.budget())?;
    tally.taken += 1;
    if executable.plan().flops > MOST_FLOPS {
        return Ok(());
    }
    // What does not fit the program is refused, too.
    let session = executable.bind(states.to_vec(), &context);
    if let Ok(mut session) = session
        && session.run(inputs).is_ok()
    {
        tally.run += 1;
    }
    Ok(())
}
