//! Times operations that move and order elements, each alone and on one thread.
//!
//! Prints a line per operation: its name and the fastest of many runs in microseconds.
//! `movements.py` beside it does the same with PyTorch; their lines have the same names.

#![expect(
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "prints its result, and the numbers are small"
)]

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use trainshed_tensor::{Attribute, Budget, Context, DType, Executable, Program, Tensor, Value};

/// How long each operation is measured, and how often at least.
const TIME: Duration = Duration::from_millis(600);
const LEAST_RUNS: u32 = 5;

fn main() -> Result<(), Box<dyn Error>> {
    let only = std::env::args().nth(1);
    let wanted = |name: &str| {
        only.as_ref()
            .is_none_or(|only| name.contains(only.as_str()))
    };
    let mut noise = Noise(1);
    for case in cases() {
        if wanted(case.name) {
            let fastest = measure(&case, &mut noise)?;
            println!("{:<28} {fastest:>10.1}", case.name);
        }
    }
    Ok(())
}

/// An operation and its operands.
struct Case {
    name: &'static str,
    op: &'static str,
    operands: Vec<Operand>,
    attributes: Vec<(&'static str, Attribute)>,
}

enum Operand {
    Floats(&'static [usize]),
    /// Below the number.
    Indices(&'static [usize], usize),
    /// A constant, which no run has to read.
    Zeros(&'static [usize]),
}

fn cases() -> Vec<Case> {
    use Operand::{Floats, Indices, Zeros};
    const ROWS: usize = 1_000_000;
    const TABLE: &[usize] = &[ROWS, 32];
    const SQUARE: &[usize] = &[2048, 2048];
    const MILLION: &[usize] = &[1_000_000];
    let case = |name, op, operands, attributes| Case {
        name,
        op,
        operands,
        attributes,
    };
    let axis = |axis: i64| ("axis", Attribute::from(axis));
    let list = |name, values: &[i64]| (name, Attribute::from(values));
    let no = |name| (name, Attribute::from(false));
    let count = |name, value: i64| (name, Attribute::from(value));
    vec![
        case(
            "take",
            "take",
            vec![Floats(TABLE), Indices(&[4096, 26], ROWS)],
            vec![axis(0)],
        ),
        case(
            "take-columns",
            "take",
            vec![Floats(SQUARE), Indices(&[2048], 2048)],
            vec![axis(1)],
        ),
        case(
            "take-along-axis",
            "take-along-axis",
            vec![Floats(SQUARE), Indices(SQUARE, 2048)],
            vec![axis(1)],
        ),
        case(
            "scatter-add-to-zeros",
            "scatter-add",
            vec![
                Zeros(TABLE),
                Indices(&[106_496], ROWS),
                Floats(&[106_496, 32]),
            ],
            vec![axis(0)],
        ),
        case(
            "scatter-add",
            "scatter-add",
            vec![
                Floats(&[10_000, 32]),
                Indices(&[106_496], 10_000),
                Floats(&[106_496, 32]),
            ],
            vec![axis(0)],
        ),
        case(
            "scatter-set",
            "scatter-set",
            vec![
                Floats(&[10_000, 32]),
                Indices(&[106_496], 10_000),
                Floats(&[106_496, 32]),
            ],
            vec![axis(0)],
        ),
        case(
            "scatter-add-along-axis",
            "scatter-add-along-axis",
            vec![Floats(SQUARE), Indices(SQUARE, 2048), Floats(SQUARE)],
            vec![axis(1)],
        ),
        case(
            "sort",
            "sort",
            vec![Floats(MILLION)],
            vec![axis(0), no("descending")],
        ),
        case(
            "sort-rows",
            "sort",
            vec![Floats(&[1000, 1000])],
            vec![axis(1), no("descending")],
        ),
        case(
            "sort-columns",
            "sort",
            vec![Floats(&[1000, 1000])],
            vec![axis(0), no("descending")],
        ),
        case(
            "top-k",
            "top-k",
            vec![Floats(MILLION)],
            vec![axis(0), count("k", 10)],
        ),
        case(
            "top-k-rows",
            "top-k",
            vec![Floats(&[1000, 1000])],
            vec![axis(1), count("k", 5)],
        ),
        case(
            "arg-max",
            "arg-max",
            vec![Floats(&[1000, 1000])],
            vec![axis(1)],
        ),
        case(
            "cumulative-sum",
            "cumulative-sum",
            vec![Floats(MILLION)],
            vec![axis(0), no("reverse")],
        ),
        case(
            "cumulative-sum-rows",
            "cumulative-sum",
            vec![Floats(&[1000, 1000])],
            vec![axis(1), no("reverse")],
        ),
        case(
            "cumulative-sum-columns",
            "cumulative-sum",
            vec![Floats(&[1000, 1000])],
            vec![axis(0), no("reverse")],
        ),
        case(
            "cumulative-product",
            "cumulative-product",
            vec![Floats(&[1000, 1000])],
            vec![axis(1), no("reverse")],
        ),
        case(
            "concatenate-rows",
            "concatenate",
            vec![Floats(SQUARE), Floats(SQUARE)],
            vec![axis(0)],
        ),
        case(
            "concatenate-columns",
            "concatenate",
            vec![Floats(SQUARE), Floats(SQUARE)],
            vec![axis(1)],
        ),
        case(
            "concatenate-narrow",
            "concatenate",
            vec![Floats(&[100_000, 8]), Floats(&[100_000, 8])],
            vec![axis(1)],
        ),
        case(
            "pad",
            "pad",
            vec![Floats(&[32, 16, 64, 64]), Zeros(&[])],
            vec![
                list("low", &[0, 0, 1, 1]),
                list("high", &[0, 0, 1, 1]),
                list("interior", &[0, 0, 0, 0]),
            ],
        ),
        case(
            "slice-strided",
            "slice",
            vec![Floats(SQUARE)],
            vec![
                list("starts", &[0, 0]),
                list("limits", &[2048, 2048]),
                list("strides", &[2, 2]),
            ],
        ),
        case(
            "reverse",
            "reverse",
            vec![Floats(SQUARE)],
            vec![list("axes", &[1])],
        ),
        case(
            "transpose",
            "transpose",
            vec![Floats(SQUARE)],
            vec![list("permutation", &[1, 0])],
        ),
        case(
            "transpose-heads",
            "transpose",
            vec![Floats(&[32, 128, 8, 32])],
            vec![list("permutation", &[0, 2, 1, 3])],
        ),
        case(
            "transpose-channels",
            "transpose",
            vec![Floats(&[32, 16, 64, 64])],
            vec![list("permutation", &[0, 2, 3, 1])],
        ),
        case(
            "one-hot",
            "one-hot",
            vec![Indices(&[4096], 1000)],
            vec![count("classes", 1000), ("dtype", "f32".into())],
        ),
    ]
}

/// The fastest of many runs, in microseconds.
fn measure(case: &Case, noise: &mut Noise) -> Result<f64, Box<dyn Error>> {
    let budget = Budget::new(4 << 30);
    let context = Context::new(budget.clone(), 1, Arc::new(AtomicBool::new(false)))?;
    let mut program = Program::default();
    let mut inputs = Vec::new();
    let mut operands = Vec::new();
    for operand in &case.operands {
        let (dtype, shape) = match operand {
            Operand::Floats(shape) | Operand::Zeros(shape) => (DType::F32, *shape),
            Operand::Indices(shape, _) => (DType::I32, *shape),
        };
        let sizes: Vec<i64> = shape.iter().map(|&size| size as i64).collect();
        let typed = [
            ("dtype", dtype.name().into()),
            ("shape", Attribute::from(sizes.as_slice())),
        ];
        let elements: usize = shape.iter().product();
        let sizes: Vec<u64> = shape.iter().map(|&size| size as u64).collect();
        let bytes: Vec<u8> = match operand {
            Operand::Zeros(_) => {
                let [dtype, shape] = typed;
                let attributes = [dtype, shape, ("value", 0.0.into())];
                operands.push(program.push("constant", &[], &attributes));
                continue;
            }
            Operand::Floats(_) => (0..elements)
                .flat_map(|_| noise.number().to_le_bytes())
                .collect(),
            Operand::Indices(_, limit) => (0..elements)
                .flat_map(|_| ((noise.next() % *limit as u64) as i32).to_le_bytes())
                .collect(),
        };
        let [dtype_attribute, shape_attribute] = typed;
        let index = ("index", Attribute::from(inputs.len() as i64));
        let attributes = [index, dtype_attribute, shape_attribute];
        operands.push(program.push("input", &[], &attributes));
        inputs.push(Tensor::from_bytes(dtype, &sizes, &bytes, &budget)?);
    }
    let first: Value = program.push(case.op, &operands, &case.attributes);
    program.outputs.push(first);
    if matches!(case.op, "sort" | "top-k") {
        program.outputs.push(first.result(1));
    }
    let mut session = Executable::compile(&program, &budget)?.bind(Vec::new(), &context)?;
    let begin = Instant::now();
    let mut fastest = Duration::MAX;
    let mut runs = 0;
    while runs < LEAST_RUNS || begin.elapsed() < TIME {
        let start = Instant::now();
        session.run(&inputs)?;
        fastest = fastest.min(start.elapsed());
        runs += 1;
    }
    Ok(fastest.as_secs_f64() * 1e6)
}

/// A small generator of numbers.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        self.0 >> 33
    }

    /// From -1 to 1.
    fn number(&mut self) -> f32 {
        self.next() as f32 / (1u32 << 30) as f32 - 1.0
    }
}
