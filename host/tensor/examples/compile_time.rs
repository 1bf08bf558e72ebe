//! Times the checks, the gradient and the compilation of programs of 1,000, 10,000 and
//! 40,000 instructions of several kinds. `compile_time` prints the fastest of five passes.

#![expect(
    clippy::print_stdout,
    clippy::cast_possible_wrap,
    reason = "prints its result, and the numbers are small"
)]

use std::error::Error;
use std::time::{Duration, Instant};

use trainshed_tensor::{
    Attribute, Budget, Executable, Program, ProgramError, Update, Value, gradient,
};

/// Makes a program of so many instructions.
type Make = fn(usize) -> Program;

fn main() -> Result<(), Box<dyn Error>> {
    println!(
        "{:<12} {:>7} {:>9} {:>9} {:>9}",
        "kind", "length", "check", "gradient", "compile"
    );
    let kinds: [(&str, Make); 5] = [
        ("chain", chain),
        ("layers", layers),
        ("states", states),
        ("one value", one_value),
        ("wide", wide),
    ];
    for (name, make) in kinds {
        for length in [1_000, 10_000, 40_000] {
            let program = make(length);
            let length = program.instructions.len();
            let (check, _) = fastest(|| program.states())?;
            let (compile, _) = fastest(|| Executable::compile(&program, &Budget::new(1 << 40)))?;
            let sum = sum_of(&program);
            // A gradient may have too many instructions.
            let derived =
                sum.and_then(|(program, loss, x)| fastest(|| gradient(&program, loss, &[x])).ok());
            let derived = derived.map(|(time, _)| time);
            println!(
                "{name:<12} {length:>7} {:>9} {:>9} {:>9}",
                in_ms(check),
                derived.map_or_else(String::new, in_ms),
                in_ms(compile)
            );
        }
    }
    Ok(())
}

fn in_ms(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

fn fastest<T>(
    mut work: impl FnMut() -> Result<T, ProgramError>,
) -> Result<(Duration, T), ProgramError> {
    let mut best = None;
    let mut least = Duration::MAX;
    for _ in 0..5 {
        let started = Instant::now();
        let made = work()?;
        least = least.min(started.elapsed());
        best = Some(made);
    }
    best.map(|made| (least, made))
        .ok_or_else(|| ProgramError::Argument("there were no passes".to_owned()))
}

fn list(values: &[i64]) -> Attribute {
    Attribute::Integers(values.to_vec())
}

fn source(program: &mut Program, kind: &str, index: usize, shape: &[i64]) -> Value {
    let attributes = [
        ("index", (index as i64).into()),
        ("dtype", "f32".into()),
        ("shape", list(shape)),
    ];
    program.push(kind, &[], &attributes)
}

/// A program with the sum of its first output, which is a matrix, and its first input.
fn sum_of(program: &Program) -> Option<(Program, Value, Value)> {
    let mut program = program.clone();
    let output = *program.outputs.first()?;
    let sum = program.push("reduce-sum", &[output], &[("axes", list(&[0, 1]))]);
    let first = Value {
        instruction: 0,
        output: 0,
    };
    Some((program, sum, first))
}

/// Elementwise operations, each of the one before, and a softmax now and then.
fn chain(length: usize) -> Program {
    let mut program = Program::default();
    let mut x = source(&mut program, "input", 0, &[4, 4]);
    for step in 0..length / 2 {
        x = if step % 10 == 0 {
            program.push("softmax", &[x], &[("axis", 1.into())])
        } else {
            program.push("tanh", &[x], &[])
        };
        x = program.push("add", &[x, x], &[]);
    }
    program.outputs.push(x);
    program
}

/// Linear layers, each with weights of its own.
fn layers(length: usize) -> Program {
    let mut program = Program::default();
    let mut x = source(&mut program, "input", 0, &[4, 4]);
    for layer in 0..length / 6 {
        let weight = source(&mut program, "state", 2 * layer, &[4, 4]);
        let bias = source(&mut program, "state", 2 * layer + 1, &[4]);
        let axes = [
            ("lhs-batch", list(&[])),
            ("rhs-batch", list(&[])),
            ("lhs-contract", list(&[1])),
            ("rhs-contract", list(&[0])),
        ];
        let product = program.push("dot-general", &[x, weight], &axes);
        let wide = [("shape", list(&[4, 4])), ("axes", list(&[1]))];
        let bias = program.push("broadcast", &[bias], &wide);
        let sum = program.push("add", &[product, bias], &[]);
        x = program.push("tanh", &[sum], &[]);
    }
    program.outputs.push(x);
    program
}

/// States that are updated in place.
fn states(length: usize) -> Program {
    let mut program = Program::default();
    let x = source(&mut program, "input", 0, &[4, 4]);
    for index in 0..length / 3 {
        let state = source(&mut program, "state", index, &[4, 4]);
        let product = program.push("multiply", &[state, x], &[]);
        let value = program.push("subtract", &[state, product], &[]);
        if let Ok(state) = u32::try_from(index) {
            program.updates.push(Update { state, value });
        }
    }
    program
}

/// Many operations that all read one value.
fn one_value(length: usize) -> Program {
    let mut program = Program::default();
    let x = source(&mut program, "input", 0, &[4, 4]);
    let mut total = x;
    for step in 0..length / 3 {
        let name = ["exp", "tanh", "softmax"][step % 3];
        let axis = [("axis", 1.into())];
        let attributes = if name == "softmax" { &axis[..] } else { &[] };
        let y = program.push(name, &[x], attributes);
        let y = program.push("multiply", &[y, total], &[]);
        total = program.push("add", &[total, y], &[]);
    }
    program.outputs.push(total);
    program
}

/// Operations of their own, and one that reads all of them.
fn wide(length: usize) -> Program {
    let mut program = Program::default();
    let x = source(&mut program, "input", 0, &[4, 4]);
    let mut parts = Vec::new();
    for step in 0..length / 2 {
        let number = [
            ("dtype", "f32".into()),
            ("shape", list(&[4, 4])),
            ("value", (step as i64).into()),
        ];
        let number = program.push("constant", &[], &number);
        parts.push(program.push("add", &[x, number], &[]));
    }
    let whole = program.push("concatenate", &parts, &[("axis", 0.into())]);
    program.outputs.push(whole);
    program
}
