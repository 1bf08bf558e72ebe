//! Functions to minimise, as search spaces and code.
//!
//! `PUBLIC` are the problems that results are reported on; nothing was tuned on them.
//! `PRACTICE` are others of the same kinds, for development.

use std::f64::consts::{E, PI};

use serde_json::{Value, json};
use trainshed_tune::{Config, Space};

use crate::table::Table;

/// One function to minimise.
pub(crate) struct Problem {
    pub name: &'static str,
    pub space: Space,
    pub optimum: f64,
    pub value: Box<dyn Fn(&Config) -> f64>,
}

/// The problems that results are reported on, the table apart.
pub(crate) fn public() -> Vec<Problem> {
    vec![
        problem(
            "branin",
            vec![uniform("x0", -5.0, 10.0), uniform("x1", 0.0, 15.0)],
            0.397_887_357_729_738_16,
            |c| {
                let (x, y) = (x(c, 0), x(c, 1));
                let bowl = y - 5.1 / (4.0 * PI * PI) * x * x + 5.0 / PI * x - 6.0;
                bowl * bowl + 10.0 * (1.0 - 1.0 / (8.0 * PI)) * x.cos() + 10.0
            },
        ),
        problem(
            "hartmann6",
            box_of(6, 0.0, 1.0),
            -3.322_368_011_415_512,
            hartmann6,
        ),
        problem("rosenbrock4", box_of(4, -2.048, 2.048), 0.0, |c| {
            rosenbrock(&vector(c, 4))
        }),
        problem("rastrigin5", box_of(5, -5.12, 5.12), 0.0, |c| {
            rastrigin(&vector(c, 5), &[1.37, -2.11, 0.53, 3.02, -0.74])
        }),
        problem("ellipsoid_rot5", box_of(5, -5.0, 5.0), 0.0, |c| {
            const SHIFT: [f64; 5] = [0.7, -1.3, 2.1, -0.4, 1.6];
            let point: Vec<f64> = vector(c, 5)
                .iter()
                .zip(SHIFT)
                .map(|(x, shift)| x - shift)
                .collect();
            ROTATION
                .iter()
                .zip(0..)
                .map(|(row, power)| {
                    let z: f64 = row.iter().zip(&point).map(|(a, b)| a * b).sum();
                    10f64.powf(3.0 * f64::from(power) / 4.0) * z * z
                })
                .sum()
        }),
        problem(
            "ackley_log4",
            (0..4).map(|i| log(&format!("x{i}"), 1e-6, 1.0)).collect(),
            0.0,
            |c| {
                const SHIFT: [f64; 4] = [-4.2, -1.7, -3.1, -0.9];
                let z: Vec<f64> = vector(c, 4)
                    .iter()
                    .zip(SHIFT)
                    .map(|(x, shift)| x.log10() - shift)
                    .collect();
                ackley(&z)
            },
        ),
        problem(
            "mixed_hpo7",
            vec![
                log("lr", 1e-5, 1e-1),
                log("wd", 1e-6, 1e-1),
                json!({"name": "dropout", "type": "quniform", "min": 0.0, "max": 0.6, "q": 0.05}),
                integer("layers", 1, 9),
                json!({"name": "width", "type": "lograndint", "min": 16, "max": 513, "base": 2}),
                choice("optimizer", &["adam", "sgd", "rmsprop", "adagrad"]),
                choice("schedule", &["none", "cosine", "step"]),
            ],
            0.152_549_171_367_955_76,
            mixed_hpo7,
        ),
        problem(
            "int_cat5",
            vec![
                integer("i", 0, 20),
                integer("j", 0, 20),
                integer("k", 0, 20),
                choice("u", &["a", "b", "c", "d", "e"]),
                choice("v", &["p", "q", "r", "s", "t"]),
            ],
            0.0,
            int_cat5,
        ),
    ]
}

/// A bowl in which some directions matter more than others.
pub(crate) fn bowl(parameters: usize) -> Problem {
    problem("bowl", box_of(parameters, -1.0, 1.0), 0.0, move |c| {
        let squares = vector(c, parameters).into_iter().zip(1..);
        squares
            .map(|(x, place)| (x - 0.3) * (x - 0.3) / f64::from(place))
            .sum()
    })
}

/// Other problems of the same kinds.
pub(crate) fn practice() -> Vec<Problem> {
    vec![
        problem(
            "camel2",
            vec![uniform("x0", -3.0, 3.0), uniform("x1", -2.0, 2.0)],
            -1.031_628_453_489_877,
            |c| {
                let (x, y) = (x(c, 0), x(c, 1));
                (4.0 - 2.1 * x * x + x.powi(4) / 3.0) * x * x + x * y + (-4.0 + 4.0 * y * y) * y * y
            },
        ),
        problem(
            "hartmann3",
            box_of(3, 0.0, 1.0),
            -3.862_779_787_332_66,
            |c| {
                const A: [[f64; 3]; 4] = [
                    [3.0, 10.0, 30.0],
                    [0.1, 10.0, 35.0],
                    [3.0, 10.0, 30.0],
                    [0.1, 10.0, 35.0],
                ];
                const P: [[f64; 3]; 4] = [
                    [0.3689, 0.117, 0.2673],
                    [0.4699, 0.4387, 0.747],
                    [0.1091, 0.8732, 0.5547],
                    [0.0381, 0.5743, 0.8828],
                ];
                const W: [f64; 4] = [1.0, 1.2, 3.0, 3.2];
                -(0..4)
                    .map(|i| {
                        let r: f64 = (0..3).map(|j| A[i][j] * (x(c, j) - P[i][j]).powi(2)).sum();
                        W[i] * (-r).exp()
                    })
                    .sum::<f64>()
            },
        ),
        problem("rosenbrock6", box_of(6, -1.5, 2.5), 0.0, |c| {
            rosenbrock(&vector(c, 6))
        }),
        problem("rastrigin3", box_of(3, -4.0, 6.0), 0.0, |c| {
            rastrigin(&vector(c, 3), &[2.2, 0.7, 3.9])
        }),
        problem("rastrigin8", box_of(8, -5.0, 5.0), 0.0, |c| {
            rastrigin(&vector(c, 8), &[0.4, -1.2, 2.6, 1.1, -3.3, 0.2, -0.9, 1.8])
        }),
        problem("ellipsoid8", box_of(8, -4.0, 4.0), 0.0, |c| {
            const SHIFT: [f64; 8] = [0.3, 1.1, -0.8, 2.0, -1.7, 0.6, -0.2, 1.4];
            let mut z: Vec<f64> = vector(c, 8)
                .iter()
                .zip(SHIFT)
                .map(|(x, shift)| x - shift)
                .collect();
            turn(&mut z);
            z.iter()
                .zip(0..)
                .map(|(z, power)| 10f64.powf(2.0 * f64::from(power) / 7.0) * z * z)
                .sum()
        }),
        problem("ackley6", box_of(6, -6.0, 6.0), 0.0, |c| {
            const SHIFT: [f64; 6] = [1.3, -2.4, 0.6, 3.1, -0.5, 2.2];
            let z: Vec<f64> = vector(c, 6)
                .iter()
                .zip(SHIFT)
                .map(|(x, shift)| x - shift)
                .collect();
            ackley(&z)
        }),
        problem(
            "levy_log4",
            (0..4).map(|i| log(&format!("x{i}"), 1e-4, 1e2)).collect(),
            0.0,
            |c| {
                const SHIFT: [f64; 4] = [-1.1, 0.4, -2.3, 1.2];
                let w: Vec<f64> = vector(c, 4)
                    .iter()
                    .zip(SHIFT)
                    .map(|(x, shift)| 1.0 + (x.log10() - shift) * 0.8)
                    .collect();
                levy(&w)
            },
        ),
        problem("styblinski5", box_of(5, -5.0, 5.0), 0.0, |c| {
            vector(c, 5)
                .iter()
                .map(|x| 0.5 * (x.powi(4) - 16.0 * x * x + 5.0 * x) + 39.166_165_703_771_42)
                .sum()
        }),
        problem(
            "net6",
            vec![
                log("lr", 1e-6, 1.0),
                log("decay", 1e-7, 1e-2),
                json!({"name": "momentum", "type": "quniform", "min": 0.0, "max": 0.95, "q": 0.05}),
                json!({"name": "batch", "type": "lograndint", "min": 8, "max": 1025, "base": 2}),
                integer("depth", 1, 13),
                choice("activation", &["relu", "tanh", "gelu", "selu", "swish"]),
            ],
            0.0,
            net6,
        ),
        problem(
            "steps5",
            vec![
                integer("i", 0, 30),
                integer("j", 0, 12),
                integer("k", -8, 9),
                choice("u", &["a", "b", "c", "d"]),
                choice("v", &["p", "q", "r", "s", "t", "w"]),
            ],
            0.0,
            steps5,
        ),
        problem(
            "branches",
            vec![
                choice("model", &["linear", "tree", "net"]),
                json!({"name": "ridge", "type": "loguniform", "min": 1e-6, "max": 1e2, "base": 10, "when": {"model": "linear"}}),
                json!({"name": "depth", "type": "randint", "min": 1, "max": 21, "when": {"model": "tree"}}),
                json!({"name": "leaf", "type": "uniform", "min": 0.0, "max": 1.0, "when": {"model": "tree"}}),
                json!({"name": "lr", "type": "loguniform", "min": 1e-6, "max": 1e0, "base": 10, "when": {"model": "net"}}),
                json!({"name": "width", "type": "lograndint", "min": 4, "max": 1025, "base": 2, "when": {"model": "net"}}),
                uniform("noise", 0.0, 1.0),
            ],
            0.0,
            branches,
        ),
    ]
}

fn problem(
    name: &'static str,
    space: Vec<Value>,
    optimum: f64,
    value: impl Fn(&Config) -> f64 + 'static,
) -> Problem {
    let space = Space::parse(&space, "").expect("the problems' spaces are right");
    Problem {
        name,
        space,
        optimum,
        value: Box::new(value),
    }
}

/// The final error of the networks of the table.
pub(crate) fn of_table(table: Table) -> Problem {
    let space = Space::parse(table.params(), "").expect("the table's space is right");
    let error =
        move |config: &Config| 1.0 - table.curve(config).last().expect("curves have epochs");
    let optimum = 1.0 - 601.0 / 719.0;
    Problem {
        name: "tab_digits_mlp",
        space,
        optimum,
        value: Box::new(error),
    }
}

fn uniform(name: &str, min: f64, max: f64) -> Value {
    json!({"name": name, "type": "uniform", "min": min, "max": max})
}

fn log(name: &str, min: f64, max: f64) -> Value {
    json!({"name": name, "type": "loguniform", "min": min, "max": max, "base": 10})
}

fn integer(name: &str, min: i64, max: i64) -> Value {
    json!({"name": name, "type": "randint", "min": min, "max": max})
}

fn choice(name: &str, options: &[&str]) -> Value {
    json!({"name": name, "type": "choice", "options": options})
}

fn box_of(count: usize, min: f64, max: f64) -> Vec<Value> {
    (0..count)
        .map(|i| uniform(&format!("x{i}"), min, max))
        .collect()
}

fn number(config: &Config, name: &str) -> f64 {
    config.get(name).and_then(Value::as_f64).unwrap_or(f64::NAN)
}

fn text<'a>(config: &'a Config, name: &str) -> &'a str {
    config.get(name).and_then(Value::as_str).unwrap_or("")
}

fn x(config: &Config, index: usize) -> f64 {
    number(config, &format!("x{index}"))
}

fn vector(config: &Config, count: usize) -> Vec<f64> {
    (0..count).map(|index| x(config, index)).collect()
}

fn rosenbrock(x: &[f64]) -> f64 {
    x.windows(2)
        .map(|pair| 100.0 * (pair[1] - pair[0] * pair[0]).powi(2) + (1.0 - pair[0]).powi(2))
        .sum()
}

fn rastrigin(x: &[f64], shift: &[f64]) -> f64 {
    let term = |(x, shift): (&f64, &f64)| {
        let z = x - shift;
        10.0 + z * z - 10.0 * (2.0 * PI * z).cos()
    };
    x.iter().zip(shift).map(term).sum()
}

fn ackley(z: &[f64]) -> f64 {
    let n = z.len() as f64;
    let squares = (z.iter().map(|z| z * z).sum::<f64>() / n).sqrt();
    let waves = z.iter().map(|z| (2.0 * PI * z).cos()).sum::<f64>() / n;
    -20.0 * (-0.2 * squares).exp() - waves.exp() + 20.0 + E
}

fn levy(w: &[f64]) -> f64 {
    let last = w[w.len() - 1];
    let inner: f64 = w[..w.len() - 1]
        .iter()
        .map(|w| (w - 1.0).powi(2) * (1.0 + 10.0 * (PI * w + 1.0).sin().powi(2)))
        .sum();
    (PI * w[0]).sin().powi(2)
        + inner
        + (last - 1.0).powi(2) * (1.0 + (2.0 * PI * last).sin().powi(2))
}

/// Turns a point in every plane of neighbouring axes.
fn turn(z: &mut [f64]) {
    for step in 0..z.len() {
        let (a, b) = (step, (step + 3) % z.len());
        let (sine, cosine) = (0.5 + 0.37 * step as f64).sin_cos();
        (z[a], z[b]) = (cosine * z[a] - sine * z[b], sine * z[a] + cosine * z[b]);
    }
}

fn hartmann6(c: &Config) -> f64 {
    const A: [[f64; 6]; 4] = [
        [10.0, 3.0, 17.0, 3.5, 1.7, 8.0],
        [0.05, 10.0, 17.0, 0.1, 8.0, 14.0],
        [3.0, 3.5, 1.7, 10.0, 17.0, 8.0],
        [17.0, 8.0, 0.05, 10.0, 0.1, 14.0],
    ];
    const P: [[f64; 6]; 4] = [
        [1312.0, 1696.0, 5569.0, 124.0, 8283.0, 5886.0],
        [2329.0, 4135.0, 8307.0, 3736.0, 1004.0, 9991.0],
        [2348.0, 1451.0, 3522.0, 2883.0, 3047.0, 6650.0],
        [4047.0, 8828.0, 8732.0, 5743.0, 1091.0, 381.0],
    ];
    const W: [f64; 4] = [1.0, 1.2, 3.0, 3.2];
    -(0..4)
        .map(|i| {
            let r: f64 = (0..6)
                .map(|j| A[i][j] * (x(c, j) - 1e-4 * P[i][j]).powi(2))
                .sum();
            W[i] * (-r).exp()
        })
        .sum::<f64>()
}

/// A made-up error of a network; the best learning rate depends on optimizer and width.
fn mixed_hpo7(c: &Config) -> f64 {
    let (best_lr, offset) = match text(c, "optimizer") {
        "adam" => (-3.0, 0.0),
        "sgd" => (-1.4, 0.03),
        "rmsprop" => (-3.6, 0.02),
        _ => (-2.0, 0.06),
    };
    let schedule = match text(c, "schedule") {
        "none" => 0.04,
        "cosine" => 0.0,
        _ => 0.015,
    };
    let (layers, dropout) = (number(c, "layers"), number(c, "dropout"));
    let width = number(c, "width").log2();
    let lr = number(c, "lr").log10() - (best_lr - 0.15 * (width - 6.0));
    let decay = number(c, "wd").log10() + 4.0;
    let capacity = 0.35 * (-0.28 * (width - 4.0)).exp()
        + 0.12 * (-0.5 * (layers - 1.0)).exp()
        + 0.012 * (layers - 5.0).max(0.0).powi(2);
    let overfit = 0.015 * (width - 6.0).max(0.0) * (0.35 - dropout).max(0.0) * 4.0
        + 0.10 * (dropout - 0.45).max(0.0);
    let steep = if lr < 0.0 { 0.35 } else { 0.9 };
    let rate = 0.9 * (1.0 - (-steep * lr * lr).exp());
    0.05 + offset
        + schedule * (1.0 + lr.abs())
        + capacity
        + overfit
        + rate
        + 0.02 * decay * decay * (1.0 + dropout)
}

fn int_cat5(c: &Config) -> f64 {
    let (i, j, k) = (number(c, "i"), number(c, "j"), number(c, "k"));
    let u = match text(c, "u") {
        "a" => 0.0,
        "b" => 2.5,
        "c" => 4.0,
        "d" => 1.0,
        _ => 6.0,
    };
    let (ci, cj, v) = match text(c, "v") {
        "p" => (3.0, 15.0, 3.0),
        "q" => (14.0, 4.0, 0.0),
        "r" => (8.0, 8.0, 5.0),
        "s" => (17.0, 17.0, 1.0),
        _ => (5.0, 2.0, 8.0),
    };
    let ripple = if (i * 7.0 + j * 3.0 + k) % 5.0 == 0.0 {
        2.0
    } else {
        0.0
    };
    0.15 * (i - ci).powi(2)
        + 0.10 * (j - cj).powi(2)
        + (k - (i + j) / 2.0).abs() * 0.8
        + u * (1.0 + 0.05 * k)
        + v
        + ripple
}

fn net6(c: &Config) -> f64 {
    let (centre, offset) = match text(c, "activation") {
        "relu" => (-2.6, 0.02),
        "tanh" => (-2.0, 0.09),
        "gelu" => (-3.1, 0.0),
        "selu" => (-1.7, 0.05),
        _ => (-2.9, 0.01),
    };
    let batch = number(c, "batch").log2();
    let momentum = number(c, "momentum");
    let lr = number(c, "lr").log10() - (centre + 0.2 * (batch - 6.0) - 0.8 * (momentum - 0.6));
    let decay = number(c, "decay").log10() + 4.5;
    let depth = number(c, "depth");
    offset
        + 0.7 * (1.0 - (-0.5 * lr * lr).exp())
        + 0.015 * decay * decay
        + 0.25 * (momentum - 0.8).powi(2)
        + 0.01 * (batch - 6.0).powi(2)
        + 0.008 * (depth - 5.0).powi(2)
}

fn steps5(c: &Config) -> f64 {
    let (i, j, k) = (number(c, "i"), number(c, "j"), number(c, "k"));
    let (shift, u) = match text(c, "u") {
        "a" => (4.0, 1.5),
        "b" => (22.0, 0.0),
        "c" => (13.0, 3.0),
        _ => (27.0, 0.7),
    };
    let v = match text(c, "v") {
        "p" => 2.0,
        "q" => 0.0,
        "r" => 4.5,
        "s" => 1.0,
        "t" => 3.0,
        _ => 6.0,
    };
    0.05 * (i - shift).powi(2)
        + 0.3 * (j - 7.0).abs()
        + 0.2 * (k + j - 5.0).powi(2)
        + u
        + v * (1.0 + 0.02 * i - 0.44)
}

fn branches(c: &Config) -> f64 {
    let noise = 0.3 * (number(c, "noise") - 0.35).powi(2);
    noise
        + match text(c, "model") {
            "linear" => 0.3 + 0.02 * (number(c, "ridge").log10() + 1.0).powi(2),
            "tree" => {
                0.1 + 0.004 * (number(c, "depth") - 9.0).powi(2)
                    + 0.5 * (number(c, "leaf") - 0.2).powi(2)
            }
            _ => {
                let lr = number(c, "lr").log10() + 2.5 + 0.2 * (number(c, "width").log2() - 6.0);
                0.6 * (1.0 - (-0.4 * lr * lr).exp())
                    + 0.01 * (number(c, "width").log2() - 8.0).powi(2)
            }
        }
}

/// An orthogonal matrix.
const ROTATION: [[f64; 5]; 5] = [
    [0.594513, -0.333647, 0.068531, 0.165395, -0.709353],
    [0.000726, -0.000922, -0.982966, 0.17601, -0.052883],
    [-0.219947, -0.42706, 0.137914, 0.836451, 0.224884],
    [-0.511066, 0.533379, 0.082977, 0.286734, -0.604331],
    [0.580507, 0.649466, 0.056351, 0.399749, 0.279699],
];
