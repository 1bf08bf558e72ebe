//! A program is refused, or it compiles, lowers, has gradients and runs.
//!
//! Bytes that are no program are of no use here, so mutations are made on programs: by the
//! way in which the tests spoil theirs.

#![no_main]

#[path = "../../tests/support/mod.rs"]
mod support;

use std::sync::Arc;

use libfuzzer_sys::{Corpus, fuzz_mutator, fuzz_target};
use support::anything::{anything, spoil};
use support::random::Random;
use trainshed_tensor::{
    Attribute, Budget, Context, DType, Executable, Program, Tensor, Value, gradient, stablehlo,
};

/// Programs that would take longer are not run.
const MOST_FLOPS: u64 = 2_000_000;

/// What a program may hold.
const BUDGET_BYTES: u64 = 16 << 20;

/// Values by which a program is differentiated: the first so many.
const SOURCES: usize = 3;

/// Instructions of a mutated program.
const MOST_INSTRUCTIONS: usize = 200;

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut random = Random::new(seed.into());
    let mut program = match Program::from_bytes(&data[..size]) {
        Ok(program) if random.below(8) > 0 => program,
        _ => {
            let mut growing = anything(seed.into(), random.below(12));
            growing.loss();
            growing.program
        }
    };
    for _ in 0..=random.below(3) {
        spoil(&mut program, &mut random);
    }
    let bytes = program.to_bytes();
    if bytes.len() > max_size {
        return libfuzzer_sys::fuzzer_mutate(data, size, max_size);
    }
    data[..bytes.len()].copy_from_slice(&bytes);
    bytes.len()
});

fuzz_target!(|bytes: &[u8]| -> Corpus {
    let Ok(program) = Program::from_bytes(bytes) else {
        return Corpus::Reject;
    };
    if program.instructions.len() > MOST_INSTRUCTIONS {
        return Corpus::Reject;
    }
    run(&program);
    let _ = stablehlo(&program);
    let value = |place: usize| Value {
        instruction: u32::try_from(place).unwrap_or(u32::MAX),
        output: 0,
    };
    let last = value(program.instructions.len().saturating_sub(1));
    // One by one: there is none for a value of whole numbers.
    for source in 0..SOURCES {
        if let Ok(derived) = gradient(&program, last, &[value(source)]) {
            run(&derived);
        }
    }
    Corpus::Keep
});

fn run(program: &Program) {
    let context = Context::new(Budget::new(BUDGET_BYTES), 1, Arc::default());
    let context = context.expect("one thread is there");
    let Ok(executable) = Executable::compile(program, context.budget()) else {
        return;
    };
    if executable.plan().flops > MOST_FLOPS {
        return;
    }
    let sources = |kind: &str| {
        let mut tensors: Vec<Option<Tensor>> = Vec::new();
        let instructions = program.instructions.iter();
        for source in instructions.filter(|instruction| instruction.op == kind) {
            let (mut index, mut dtype, mut shape) = (0, DType::F32, Vec::new());
            for (name, attribute) in &source.attributes {
                match attribute {
                    Attribute::Integer(value) if name == "index" => {
                        index = usize::try_from(*value).ok()?;
                    }
                    Attribute::Text(name) => dtype = DType::parse(name)?,
                    Attribute::Integers(values) => shape = values.clone(),
                    _ => {}
                }
            }
            let shape = shape.iter().map(|&size| u64::try_from(size));
            let shape: Vec<u64> = shape.collect::<Result<_, _>>().ok()?;
            let tensor = Tensor::zeros(dtype, &shape, context.budget()).ok()?;
            tensors.resize(tensors.len().max(index + 1), None);
            tensors[index] = Some(tensor);
        }
        tensors.into_iter().collect::<Option<Vec<Tensor>>>()
    };
    let (Some(inputs), Some(states)) = (sources("input"), sources("state")) else {
        return;
    };
    if let Ok(mut session) = executable.bind(states, &context) {
        let _ = session.run(&inputs);
    }
}
