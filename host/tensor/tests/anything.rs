//! Programs of every operation, by chance.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "a failed unwrap is a failed test, and the numbers are small"
)]

mod support;

use std::collections::BTreeSet;

use proptest::prelude::*;
use support::anything::{anything, spoil};
use support::random::{Growing, Random};
use support::{Build, budget, context, run};
use trainshed_tensor::{Attribute, DType, Executable, Program, Tensor, Value, gradient, stablehlo};

/// The results of each instruction, run as a program of its own.
fn one_by_one(growing: &Growing) -> Vec<Vec<Tensor>> {
    let mut results: Vec<Vec<Tensor>> = Vec::new();
    for (place, instruction) in growing.program.instructions.iter().enumerate() {
        let sources = match instruction.op.as_str() {
            "input" => &growing.inputs,
            "state" => &growing.states,
            _ => {
                let operands = instruction.operands.iter();
                let operands: Vec<Tensor> = operands
                    .map(|value| results[value.instruction as usize][value.output as usize].clone())
                    .collect();
                let mut alone = Program {
                    bodies: growing.program.bodies.clone(),
                    ..Program::default()
                };
                let values = operands.iter().enumerate();
                let values = values.map(|(index, tensor)| alone.input_like(index, tensor));
                let mut instruction = instruction.clone();
                instruction.operands = values.collect();
                let count = growing.values.iter();
                let count = count.filter(|(value, _, _)| value.instruction as usize == place);
                let last = count.map(|(value, _, _)| value.output).max().unwrap_or(0);
                let position = alone.instructions.len() as u32;
                alone.instructions.push(instruction);
                for output in 0..=last {
                    alone.output(Value {
                        instruction: position,
                        output,
                    });
                }
                results.push(run(&alone, &operands).unwrap());
                continue;
            }
        };
        let Attribute::Integer(index) = instruction.attributes[0].1 else {
            panic!("sources are made with the index first");
        };
        results.push(vec![sources[index as usize].clone()]);
    }
    results
}

/// Bytes, with every NaN the same: which NaN comes out of an operation is not defined.
fn bits(tensor: &Tensor) -> Vec<u8> {
    let float = tensor.dtype().is_float();
    if !float {
        return tensor.bytes().to_vec();
    }
    let numbers = support::numbers(tensor);
    let numbers = numbers.iter();
    numbers
        .flat_map(|&number| if number.is_nan() { f64::NAN } else { number }.to_le_bytes())
        .collect()
}

proptest! {
    #![proptest_config(support::cases(300))]

    #[test]
    fn a_program_of_anything_gives_the_bits_of_its_instructions_run_one_by_one(
        seed in any::<u64>(),
        length in 1usize..30,
    ) {
        let growing = anything(seed, length);
        let expected = one_by_one(&growing);
        let expected = |value: Value| bits(&expected[value.instruction as usize][value.output as usize]);
        let context = context();
        let program = &growing.program;
        let executable = Executable::compile(program, context.budget()).unwrap();
        let mut session = executable.bind(growing.states.clone(), &context).unwrap();
        let outputs = session.run(&growing.inputs).unwrap();
        for (&value, output) in program.outputs.iter().zip(&outputs) {
            prop_assert_eq!(expected(value), bits(output), "{:?}", value);
        }
        for update in &program.updates {
            let state = session.state(update.state).unwrap();
            prop_assert_eq!(expected(update.value), bits(&state), "state {}", update.state);
        }
    }

    #[test]
    fn a_program_of_anything_can_be_serialised_differentiated_and_lowered(seed in any::<u64>()) {
        let mut growing = anything(seed, 12);
        let loss = growing.loss();
        let program = growing.program;
        prop_assert_eq!(&Program::from_bytes(&program.to_bytes()).unwrap(), &program);
        stablehlo(&program).unwrap();
        let sources = growing.values.iter().filter(|(_, dtype, _)| dtype.is_float());
        let sources: Vec<Value> = sources.map(|(value, _, _)| *value).take(4).collect();
        let derived = gradient(&program, loss, &sources).unwrap();
        Executable::compile(&derived, &budget()).unwrap();
    }

    #[test]
    fn a_spoilt_program_is_an_error_or_a_program(seed in any::<u64>(), times in 1usize..4) {
        let mut growing = anything(seed, 12);
        let loss = growing.loss();
        let mut random = Random::new(seed);
        for _ in 0..times {
            spoil(&mut growing.program, &mut random);
        }
        let program = growing.program;
        let _ = Program::from_bytes(&program.to_bytes());
        let _ = Executable::compile(&program, &budget());
        let _ = stablehlo(&program);
        if let Ok(derived) = gradient(&program, loss, &[growing.values[0].0]) {
            let _ = Executable::compile(&derived, &budget());
        }
    }
}

#[test]
fn every_operation_is_made() {
    let reference = include_str!("../../../docs/programs.md");
    let tables = reference.lines().filter(|line| line.starts_with("| `"));
    let names = tables.flat_map(|line| line.split('|').nth(1).unwrap_or_default().split('`'));
    let names = names
        .map(str::trim)
        .filter(|name| name.len() > 1 && *name != "dtype");
    let mut missing: BTreeSet<&str> = names.filter(|name| !name.contains([',', '('])).collect();
    assert!(missing.len() > 100, "{missing:?}");
    for seed in 0..2000 {
        let growing = anything(seed, 30);
        let bodies = growing.program.bodies.iter();
        let instructions = bodies.flat_map(|body| &body.instructions);
        for instruction in instructions.chain(&growing.program.instructions) {
            missing.remove(instruction.op.as_str());
        }
        if missing.is_empty() {
            break;
        }
    }
    // Products are made in bodies only: their bits depend on how operands lie in memory.
    assert_eq!(missing, BTreeSet::new());
    let _ = DType::ALL;
}
