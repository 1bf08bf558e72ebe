//! The models of `xtask/bench/pytorch_compute.py`, with the same names of parameters.

use trainshed_sdk::graph::{Graph, Var};
use trainshed_sdk::nn::{
    Activation, Adam, BatchNorm, Conv2d, Embedding, Flatten, LayerNorm, Linear, Lstm, MaxPool2d,
    Measured, Module, Scope, Sequential, Sgd, binary_cross_entropy_with_logits, cross_entropy,
};
use trainshed_sdk::trainer::{Column, Recipe, TrainingStep};
use trainshed_sdk::{Failure, ProgramError};

/// What is trained.
pub(crate) struct Task {
    /// The columns of the batch, in the order of the model's inputs.
    pub(crate) columns: &'static [&'static str],
    pub(crate) learning_rate: f32,
    model: fn(&Scope, &[Var]) -> Measured,
    recipe: fn() -> Recipe,
}

/// The task of that letter.
pub(crate) fn task(letter: &str) -> Result<Task, Failure> {
    let adam: fn() -> Recipe = || Adam::default().into();
    let descent: fn() -> Recipe = || Sgd::default().into();
    let (columns, learning_rate, model, recipe): (_, _, fn(&Scope, &[Var]) -> Measured, _) =
        match letter {
            "a" => (&["x", "y"][..], 1e-3, digits, adam),
            "b" => (&["x", "y"][..], 1e-3, perceptron, adam),
            "c" => (&["x", "y"][..], 1e-3, convolutions, adam),
            "d" => (&["x"][..], 1e-2, transformer, descent),
            "e" => (&["x", "y"][..], 1e-3, recurrent, adam),
            "f" => (&["x", "y"][..], 1e-3, residual, adam),
            "g" => (&["x", "kinds", "y"][..], 1e-3, recommender, adam),
            "h" => (&["x", "y"][..], 1e-1, logistic, descent),
            other => return Err(Failure::failed(format!("there is no task `{other}`"))),
        };
    Ok(Task {
        columns,
        learning_rate,
        model,
        recipe,
    })
}

impl Task {
    /// The program of one step on batches of `rows` rows.
    pub(crate) fn record(
        &self,
        columns: &[Column],
        rows: u32,
    ) -> Result<TrainingStep, ProgramError> {
        TrainingStep::record(&Graph::new(), columns, rows, &self.model, &(self.recipe)())
    }
}

fn classified(logits: Var, labels: &Var) -> Measured {
    Measured::new(cross_entropy(&logits, labels), logits)
}

fn digits(scope: &Scope, batch: &[Var]) -> Measured {
    let network = Sequential::new()
        .then(Linear::new(64, 128))
        .then(Activation::Relu)
        .then(Linear::new(128, 10));
    classified(network.forward(scope, &batch[0]), &batch[1])
}

fn perceptron(scope: &Scope, batch: &[Var]) -> Measured {
    let network = Sequential::new()
        .then(Linear::new(784, 512))
        .then(Activation::Relu)
        .then(Linear::new(512, 256))
        .then(Activation::Relu)
        .then(Linear::new(256, 10));
    classified(network.forward(scope, &batch[0]), &batch[1])
}

fn convolutions(scope: &Scope, batch: &[Var]) -> Measured {
    let network = Sequential::new()
        .then(Conv2d::new(1, 32, 3))
        .then(Activation::Relu)
        .then(Conv2d::new(32, 64, 3))
        .then(Activation::Relu)
        .then(MaxPool2d::new(2))
        .then(Flatten)
        .then(Linear::new(9216, 128))
        .then(Activation::Relu)
        .then(Linear::new(128, 10));
    classified(network.forward(scope, &batch[0]), &batch[1])
}

fn transformer(scope: &Scope, batch: &[Var]) -> Measured {
    let x = &batch[0];
    let [rows, positions, width] = [0, 1, 2].map(|axis: usize| x.shape()[axis]);
    let part =
        |name: &str, part: &dyn Module, x: &Var| scope.child(name, |scope| part.forward(scope, x));
    let normed = part("norm1", &LayerNorm::new(&[width]), x);
    let heads = part("qkv", &Linear::new(width, 3 * width), &normed)
        .reshape(&[rows, positions, 3, 4, width / 4])
        .transpose(&[2, 0, 3, 1, 4])
        .split(0, &[1, 1, 1]);
    let [q, k, v] = [0, 1, 2].map(|place: usize| heads[place].squeeze(&[0]));
    #[expect(clippy::cast_precision_loss, reason = "a small width")]
    let scale = ((width / 4) as f64).powf(-0.5);
    let seen = q
        .attention(&k, &v, None, scale, false)
        .transpose(&[0, 2, 1, 3])
        .reshape(&[rows, positions, width]);
    let x = x + part("out", &Linear::new(width, width), &seen);
    let normed = part("norm2", &LayerNorm::new(&[width]), &x);
    let wide = part("up", &Linear::new(width, 4 * width), &normed);
    let wide = Activation::GeluExact.forward(scope, &wide);
    let y = x + part("down", &Linear::new(4 * width, width), &wide);
    Measured::new(y.square().mean(&[0, 1, 2]), y)
}

fn recurrent(scope: &Scope, batch: &[Var]) -> Measured {
    let lstm = Lstm {
        batch_first: true,
        ..Lstm::new(128, 128)
    };
    let read = scope.child("lstm", |scope| lstm.read(scope, &batch[0]));
    let logits = scope.child("head", |scope| {
        Linear::new(128, 10).forward(scope, &read.hidden[0])
    });
    classified(logits, &batch[1])
}

fn residual(scope: &Scope, batch: &[Var]) -> Measured {
    let x = &batch[0];
    let convolution = |name: &str, x: &Var| {
        let layer = Conv2d {
            padding: [1, 1],
            bias: false,
            ..Conv2d::new(64, 64, 3)
        };
        scope.child(name, |scope| layer.forward(scope, x))
    };
    let norm =
        |name: &str, x: &Var| scope.child(name, |scope| BatchNorm::new(64).forward(scope, x));
    let y = norm("norm1", &convolution("conv1", x));
    let y = Activation::Relu.forward(scope, &y);
    let y = x + norm("norm2", &convolution("conv2", &y));
    let y = Activation::Relu.forward(scope, &y).mean(&[2, 3]);
    let logits = scope.child("head", |scope| Linear::new(64, 10).forward(scope, &y));
    classified(logits, &batch[1])
}

fn recommender(scope: &Scope, batch: &[Var]) -> Measured {
    let [x, kinds, y] = [0, 1, 2].map(|column: usize| &batch[column]);
    let dense = Sequential::new()
        .then(Linear::new(13, 64))
        .then(Activation::Relu)
        .then(Linear::new(64, 16))
        .then(Activation::Relu);
    let dense = scope.child("dense", |scope| dense.forward(scope, x));
    let tables = kinds.split(1, &[1; 8]);
    let embedded: Vec<Var> = (0..8)
        .map(|place: usize| {
            scope.child(&format!("tables.{place}"), |scope| {
                Embedding::new(20_000, 16).forward(scope, &tables[place].squeeze(&[1]))
            })
        })
        .collect();
    let all = dense.concatenate(&embedded.iter().collect::<Vec<_>>(), 1);
    let top = Sequential::new()
        .then(Linear::new(9 * 16, 64))
        .then(Activation::Relu)
        .then(Linear::new(64, 1));
    let logits = scope.child("top", |scope| top.forward(scope, &all));
    let logits = logits.squeeze(&[1]);
    Measured::new(binary_cross_entropy_with_logits(&logits, y, None), logits)
}

fn logistic(scope: &Scope, batch: &[Var]) -> Measured {
    let logits = Linear::new(32, 1).forward(scope, &batch[0]).squeeze(&[1]);
    Measured::new(
        binary_cross_entropy_with_logits(&logits, &batch[1], None),
        logits,
    )
}
