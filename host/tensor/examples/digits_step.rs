//! Time of one training step of a 64-128-10 network on batches of 32: forward, gradient
//! and Adam in one program. Prints microseconds per step on one thread.

#![expect(
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "prints its result, and the numbers are small"
)]

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use trainshed_tensor::{
    Attribute, Budget, Context, DType, Executable, Program, Tensor, Update, Value, gradient,
};

const BATCH: i64 = 32;
const LAYERS: [i64; 3] = [64, 128, 10];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let program = train_step()?;
    let budget = Budget::new(1 << 30);
    let context = Context::new(budget.clone(), 1, Arc::new(AtomicBool::new(false)))?;
    let started = Instant::now();
    let executable = Executable::compile(&program, &budget)?;
    let compiled = started.elapsed();

    let mut noise = Noise(1);
    let mut state = vec![
        Tensor::from_f32(&[], &[0.0], &budget)?,
        Tensor::from_f32(&[], &[0.0], &budget)?,
    ];
    for shape in parameter_shapes() {
        let shape: Vec<u64> = shape.iter().map(|&size| size as u64).collect();
        let scale = if shape.len() == 2 { 0.2 } else { 0.0 };
        let count = shape.iter().product::<u64>() as usize;
        let parameter: Vec<f32> = (0..count).map(|_| scale * noise.next()).collect();
        state.push(Tensor::from_f32(&shape, &parameter, &budget)?);
        state.push(Tensor::zeros(DType::F32, &shape, &budget)?);
        state.push(Tensor::zeros(DType::F32, &shape, &budget)?);
    }
    let pixels: Vec<f32> = (0..BATCH * LAYERS[0]).map(|_| noise.next()).collect();
    let labels: Vec<u8> = (0..BATCH as i32)
        .flat_map(|row| (row % 10).to_le_bytes())
        .collect();
    let inputs = [
        Tensor::from_f32(&[32, 64], &pixels, &budget)?,
        Tensor::from_bytes(DType::I32, &[32], &labels, &budget)?,
        Tensor::from_f32(&[], &[1e-3], &budget)?,
    ];
    let mut session = executable.bind(state, &context)?;

    let mut best = f64::INFINITY;
    for _ in 0..20 {
        let started = Instant::now();
        for _ in 0..500 {
            session.run(&inputs)?;
        }
        best = best.min(started.elapsed().as_secs_f64() / 500.0);
    }
    let plan = executable.plan();
    let speed = plan.flops as f64 / best / 1e9;
    println!("compile        {:8.1} us", compiled.as_secs_f64() * 1e6);
    println!("step           {:8.2} us  ({speed:.0} GFLOP/s)", best * 1e6);
    println!("workspace      {:8} bytes", plan.workspace_bytes);
    println!("loss           {:8.4}", session.run(&inputs)?[0].item());
    Ok(())
}

fn parameter_shapes() -> Vec<Vec<i64>> {
    LAYERS
        .windows(2)
        .flat_map(|pair| [vec![pair[0], pair[1]], vec![pair[1]]])
        .collect()
}

/// Inputs: pixels, labels, learning rate. State: step count, sum of losses, and for each
/// parameter itself and its two moments. Output: the mean loss of the batch.
fn train_step() -> Result<Program, Box<dyn std::error::Error>> {
    let mut forward = Program::default();
    let p = &mut forward;
    let pixels = source(p, "input", 0, "f32", &[BATCH, LAYERS[0]]);
    let labels = source(p, "input", 1, "i32", &[BATCH]);
    let rate = source(p, "input", 2, "f32", &[]);
    let count = source(p, "state", 0, "f32", &[]);
    let losses = source(p, "state", 1, "f32", &[]);
    let mut index = 2;
    let mut parameters = Vec::new();
    for shape in parameter_shapes() {
        parameters.push([0, 1, 2].map(|part| source(p, "state", index + part, "f32", &shape)));
        index += 3;
    }

    let mut x = pixels;
    for layer in 0..2 {
        let width = LAYERS[layer + 1];
        x = p.push(
            "dot-general",
            &[x, parameters[2 * layer][0]],
            &[
                ("lhs-batch", list(&[])),
                ("rhs-batch", list(&[])),
                ("lhs-contract", list(&[1])),
                ("rhs-contract", list(&[0])),
            ],
        );
        let bias = spread(p, parameters[2 * layer + 1][0], &[BATCH, width], &[1]);
        x = p.push("add", &[x, bias], &[]);
        if layer == 0 {
            let zero = number(p, 0.0, &[BATCH, width]);
            x = p.push("maximum", &[x, zero], &[]);
        }
    }
    let log = p.push("log-softmax", &[x], &[("axis", 1.into())]);
    let hot = p.push(
        "one-hot",
        &[labels],
        &[("classes", 10.into()), ("dtype", "f32".into())],
    );
    let picked = p.push("multiply", &[log, hot], &[]);
    let sum = p.push("reduce-sum", &[picked], &[("axes", list(&[0, 1]))]);
    let scale = number(p, -1.0 / BATCH as f64, &[]);
    let loss = p.push("multiply", &[sum, scale], &[]);

    let weights: Vec<Value> = parameters.iter().map(|parts| parts[0]).collect();
    let mut program = gradient(&forward, loss, &weights)?;
    let gradients = std::mem::take(&mut program.outputs);
    let p = &mut program;
    p.outputs.push(loss);

    let one = number(p, 1.0, &[]);
    let count = p.push("add", &[count, one], &[]);
    let losses = p.push("add", &[losses, loss], &[]);
    update(p, 0, count);
    update(p, 1, losses);
    // The bias corrections, as one factor of the rate and one of epsilon.
    let [first, second] = [0.9, 0.999].map(|decay| {
        let decay = number(p, decay, &[]);
        let power = p.push("power", &[decay, count], &[]);
        p.push("subtract", &[one, power], &[])
    });
    let root = p.push("sqrt", &[second], &[]);
    let factor = p.push("divide", &[root, first], &[]);
    let rate = p.push("multiply", &[rate, factor], &[]);
    let epsilon = number(p, 1e-8, &[]);
    let epsilon = p.push("multiply", &[root, epsilon], &[]);
    let mut index = 2;
    for ((parts, gradient), shape) in parameters.iter().zip(gradients).zip(parameter_shapes()) {
        let [parameter, first, second] = *parts;
        let square = p.push("square", &[gradient], &[]);
        let first = blend(p, first, gradient, 0.9, &shape);
        let second = blend(p, second, square, 0.999, &shape);
        let root = p.push("sqrt", &[second], &[]);
        let epsilon = spread(p, epsilon, &shape, &[]);
        let root = p.push("add", &[root, epsilon], &[]);
        let rate = spread(p, rate, &shape, &[]);
        let step = p.push("multiply", &[rate, first], &[]);
        let step = p.push("divide", &[step, root], &[]);
        let parameter = p.push("subtract", &[parameter, step], &[]);
        for (part, value) in [parameter, first, second].into_iter().enumerate() {
            update(p, index + part as u32, value);
        }
        index += 3;
    }
    Ok(program)
}

/// `old * decay + new * (1 - decay)`.
fn blend(p: &mut Program, old: Value, new: Value, decay: f64, shape: &[i64]) -> Value {
    let keep = number(p, decay, shape);
    let rest = number(p, 1.0 - decay, shape);
    let old = p.push("multiply", &[old, keep], &[]);
    let new = p.push("multiply", &[new, rest], &[]);
    p.push("add", &[old, new], &[])
}

fn source(p: &mut Program, kind: &str, index: i64, dtype: &str, shape: &[i64]) -> Value {
    let attributes = [
        ("index", index.into()),
        ("dtype", dtype.into()),
        ("shape", list(shape)),
    ];
    p.push(kind, &[], &attributes)
}

fn number(p: &mut Program, value: f64, shape: &[i64]) -> Value {
    let attributes = [
        ("dtype", "f32".into()),
        ("shape", list(shape)),
        ("value", value.into()),
    ];
    p.push("constant", &[], &attributes)
}

fn spread(p: &mut Program, x: Value, shape: &[i64], axes: &[i64]) -> Value {
    p.push(
        "broadcast",
        &[x],
        &[("shape", list(shape)), ("axes", list(axes))],
    )
}

fn update(p: &mut Program, state: u32, value: Value) {
    p.updates.push(Update { state, value });
}

fn list(values: &[i64]) -> Attribute {
    values.into()
}

/// A small linear congruential generator: the same numbers on every machine.
struct Noise(u64);

impl Noise {
    /// A number from -1 to 1.
    fn next(&mut self) -> f32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}
