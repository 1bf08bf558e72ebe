//! Times a training step of an LSTM: 128 inputs and 128 units, 64 steps, 32 rows, a linear
//! layer on the last output, cross-entropy and Adam; task (e) of
//! `xtask/bench/pytorch_compute.py`.
//!
//! `lstm_step [THREADS [STEPS]]` prints `{"us_per_step": …, "peak_bytes": …}`: the fastest of
//! five passes of that many steps, and what the budget was charged with at most.

#![expect(
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "prints its result, and the numbers are small"
)]

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use trainshed_tensor::{
    Attribute, Body, Budget, Context, DType, Executable, Program, Tensor, Update, Value, gradient,
};

const ROWS: usize = 32;
const STEPS: usize = 64;
const INPUTS: usize = 128;
const UNITS: usize = 128;
const CLASSES: usize = 10;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let threads = arguments.next().map_or(Ok(1), |text| text.parse())?;
    let steps = arguments.next().map_or(Ok(30), |text| text.parse())?;
    let budget = Budget::new(1 << 30);
    let context = Context::new(budget.clone(), threads, Arc::new(AtomicBool::new(false)))?;
    let (program, shapes) = training_step()?;
    let executable = Executable::compile(&program, &budget)?;

    let mut state = Vec::new();
    let mut noise: u32 = 1;
    for (place, shape) in shapes.iter().enumerate() {
        let count: usize = shape.iter().product();
        let is_parameter = place < shapes.len() / 3;
        let values: Vec<f32> = (0..count)
            .map(|_| {
                noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let unit = (noise >> 8) as f32 / (1 << 23) as f32 - 1.0;
                if is_parameter { 0.088 * unit } else { 0.0 }
            })
            .collect();
        state.push(Tensor::from_f32(&sizes(shape), &values, &budget)?);
    }
    let x: Vec<f32> = (0..ROWS * STEPS * INPUTS)
        .map(|place| (place * 7919 % 1000) as f32 / 1000.0)
        .collect();
    let labels: Vec<u8> = (0..ROWS as i32)
        .flat_map(|row| (row % 10).to_le_bytes())
        .collect();
    let x = Tensor::from_f32(&sizes(&[ROWS, STEPS, INPUTS]), &x, &budget)?;
    let labels = Tensor::from_bytes(DType::I32, &sizes(&[ROWS]), &labels, &budget)?;
    let mut session = executable.bind(state, &context)?;

    let mut step: u16 = 0;
    let mut best = f64::INFINITY;
    let mut loss = f64::NAN;
    for _ in 0..5 {
        let started = Instant::now();
        for _ in 0..steps {
            step += 1;
            // Adam's corrections of its first steps.
            let corrections = [0.9_f32, 0.999].map(|beta| 1.0 - beta.powi(step.into()));
            let [first, second] = corrections.map(|value| Tensor::from_f32(&[], &[value], &budget));
            let outputs = session.run(&[x.clone(), labels.clone(), first?, second?])?;
            loss = outputs[0].item();
        }
        best = best.min(started.elapsed().as_secs_f64() * 1e6 / f64::from(steps));
    }
    let peak = budget.peak();
    println!(r#"{{ "us_per_step": {best:.1}, "peak_bytes": {peak}, "loss": {loss} }}"#);
    Ok(())
}

fn sizes(shape: &[usize]) -> Vec<u64> {
    shape.iter().map(|&size| size as u64).collect()
}

fn list(values: &[usize]) -> Attribute {
    Attribute::Integers(values.iter().map(|&value| value as i64).collect())
}

fn declared(index: usize, dtype: &str, shape: &[usize]) -> [(&'static str, Attribute); 3] {
    [
        ("index", (index as i64).into()),
        ("dtype", dtype.into()),
        ("shape", list(shape)),
    ]
}

fn number(program: &mut Program, value: f64, shape: &[usize]) -> Value {
    let attributes = [
        ("dtype", "f32".into()),
        ("shape", list(shape)),
        ("value", value.into()),
    ];
    program.push("constant", &[], &attributes)
}

/// `x wᵀ`, over the last axis of each.
fn product(rank: usize) -> [(&'static str, Attribute); 4] {
    [
        ("lhs-batch", list(&[])),
        ("rhs-batch", list(&[])),
        ("lhs-contract", list(&[rank - 1])),
        ("rhs-contract", list(&[1])),
    ]
}

/// Operands: cell, hidden, the inputs' part of the gates, and the hidden's weights.
fn cell() -> Body {
    let mut body = Body::default();
    let gates = 4 * UNITS;
    let inner = [ROWS, UNITS];
    let c = body.push("input", &[], &declared(0, "f32", &inner));
    let h = body.push("input", &[], &declared(1, "f32", &inner));
    let from_input = body.push("input", &[], &declared(2, "f32", &[ROWS, gates]));
    let weight = body.push("input", &[], &declared(3, "f32", &[gates, UNITS]));
    let from_hidden = body.push("dot-general", &[h, weight], &product(2));
    let sum = body.push("add", &[from_input, from_hidden], &[]);
    let split = body.push(
        "split",
        &[sum],
        &[("axis", 1.into()), ("sizes", list(&[UNITS; 4]))],
    );
    let input = body.push("sigmoid", &[split.result(0)], &[]);
    let forget = body.push("sigmoid", &[split.result(1)], &[]);
    let candidate = body.push("tanh", &[split.result(2)], &[]);
    let output = body.push("sigmoid", &[split.result(3)], &[]);
    let kept = body.push("multiply", &[forget, c], &[]);
    let new = body.push("multiply", &[input, candidate], &[]);
    let c = body.push("add", &[kept, new], &[]);
    let shown = body.push("tanh", &[c], &[]);
    let h = body.push("multiply", &[output, shown], &[]);
    body.outputs = vec![c, h];
    body
}

/// A program, and the shapes of its states.
type Step = (Program, Vec<Vec<usize>>);

/// The program, and the shapes of its states: parameters, then Adam's two averages of each.
fn training_step() -> Result<Step, Box<dyn Error>> {
    let gates = 4 * UNITS;
    let parameters = [
        vec![gates, INPUTS],
        vec![gates, UNITS],
        vec![gates],
        vec![gates],
        vec![CLASSES, UNITS],
        vec![CLASSES],
    ];
    let shapes = [&parameters[..]; 3].concat();
    let mut program = Program {
        bodies: vec![cell()],
        ..Program::default()
    };
    let x = program.push("input", &[], &declared(0, "f32", &[ROWS, STEPS, INPUTS]));
    let labels = program.push("input", &[], &declared(1, "i32", &[ROWS]));
    let corrections = [2, 3].map(|index| program.push("input", &[], &declared(index, "f32", &[])));
    let state: Vec<Value> = shapes
        .iter()
        .enumerate()
        .map(|(index, shape)| program.push("state", &[], &declared(index, "f32", shape)))
        .collect();
    let [input_weight, weight, input_bias, bias, head, head_bias] = state[..6] else {
        return Err("there are six parameters".into());
    };

    let x = program.push("transpose", &[x], &[("permutation", list(&[1, 0, 2]))]);
    let from_input = program.push("dot-general", &[x, input_weight], &product(3));
    let bias = program.push("add", &[input_bias, bias], &[]);
    let wide = [("shape", list(&[STEPS, ROWS, gates])), ("axes", list(&[2]))];
    let bias = program.push("broadcast", &[bias], &wide);
    let from_input = program.push("add", &[from_input, bias], &[]);
    let start = number(&mut program, 0.0, &[ROWS, UNITS]);
    let attributes = [
        ("body", 0.into()),
        ("carries", 2.into()),
        ("sequences", 1.into()),
        ("length", (STEPS as i64).into()),
        ("reverse", false.into()),
    ];
    let scan = program.push("scan", &[start, start, from_input, weight], &attributes);
    let logits = program.push("dot-general", &[scan.result(1), head], &product(2));
    let wide = [("shape", list(&[ROWS, CLASSES])), ("axes", list(&[1]))];
    let head_bias = program.push("broadcast", &[head_bias], &wide);
    let logits = program.push("add", &[logits, head_bias], &[]);
    let logs = program.push("log-softmax", &[logits], &[("axis", 1.into())]);
    let classes = [
        ("classes", (CLASSES as i64).into()),
        ("dtype", "f32".into()),
    ];
    let hot = program.push("one-hot", &[labels], &classes);
    let chosen = program.push("multiply", &[logs, hot], &[]);
    let sum = program.push("reduce-sum", &[chosen], &[("axes", list(&[0, 1]))]);
    let factor = number(&mut program, -1.0 / ROWS as f64, &[]);
    let loss = program.push("multiply", &[sum, factor], &[]);
    program.outputs = vec![loss];

    let mut program = gradient(&program, loss, &state[..6])?;
    let gradients = program.outputs.split_off(1);
    for (place, (shape, gradient)) in parameters.iter().zip(gradients).enumerate() {
        let averages = [place + 6, place + 12];
        adam(
            &mut program,
            shape,
            gradient,
            [place, averages[0], averages[1]],
            &state,
            corrections,
        );
    }
    Ok((program, shapes))
}

fn adam(
    program: &mut Program,
    shape: &[usize],
    gradient: Value,
    places: [usize; 3],
    state: &[Value],
    corrections: [Value; 2],
) {
    let [parameter, first, second] = places.map(|place| state[place]);
    let average = |program: &mut Program, old: Value, new: Value, beta: f64| {
        let kept = number(program, beta, shape);
        let kept = program.push("multiply", &[old, kept], &[]);
        let rest = number(program, 1.0 - beta, shape);
        let rest = program.push("multiply", &[new, rest], &[]);
        program.push("add", &[kept, rest], &[])
    };
    let first = average(program, first, gradient, 0.9);
    let square = program.push("square", &[gradient], &[]);
    let second = average(program, second, square, 0.999);
    let [first_by, second_by] = corrections.map(|correction| {
        let wide = [("shape", list(shape)), ("axes", list(&[]))];
        program.push("broadcast", &[correction], &wide)
    });
    let mean = program.push("divide", &[first, first_by], &[]);
    let spread = program.push("divide", &[second, second_by], &[]);
    let root = program.push("sqrt", &[spread], &[]);
    let epsilon = number(program, 1e-8, shape);
    let root = program.push("add", &[root, epsilon], &[]);
    let change = program.push("divide", &[mean, root], &[]);
    let rate = number(program, 1e-3, shape);
    let change = program.push("multiply", &[change, rate], &[]);
    let new = program.push("subtract", &[parameter, change], &[]);
    for (place, value) in places.into_iter().zip([new, first, second]) {
        let state = u32::try_from(place).unwrap_or(u32::MAX);
        program.updates.push(Update { state, value });
    }
}
