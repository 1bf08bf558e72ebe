//! Recurrent layers: each a loop inside the program.

use super::{Dropout, Initial, Module, Scope};
use crate::graph::Var;

/// Long short-term memory, as PyTorch's `LSTM`.
///
/// Takes `[T, N, inputs]` (with `batch_first`, `[N, T, inputs]`) and gives the last
/// layer's states, `hidden` numbers for each direction. Parameters of layer `k`:
/// `weight_ih_lk` `[4 hidden, inputs]`, `weight_hh_lk` `[4 hidden, hidden]`, `bias_ih_lk`
/// and `bias_hh_lk` `[4 hidden]`, and with `_reverse` for the other direction; the gates
/// are in the order input, forget, cell, output.
///
/// Source: S. Hochreiter, J. Schmidhuber, "Long short-term memory", Neural Computation 9
/// (1997), with the forget gate of F. Gers, J. Schmidhuber, F. Cummins (2000).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lstm {
    /// How many numbers a step takes.
    pub inputs: usize,
    /// How many numbers the state has.
    pub hidden: usize,
    /// How many layers stand on each other.
    pub layers: usize,
    /// Whether a second network of each layer reads from the end.
    pub bidirectional: bool,
    /// Whether there are biases.
    pub bias: bool,
    /// Whether the rows come before the steps, in what is taken and given.
    pub batch_first: bool,
    /// The rate of dropout between layers.
    pub dropout: f64,
}

/// Gated recurrent units, as PyTorch's `GRU`.
///
/// As [`Lstm`], with three gates in the order reset, update, new: weights
/// `[3 hidden, …]`, biases `[3 hidden]`.
///
/// Source: K. Cho et al., "Learning phrase representations using RNN encoder-decoder",
/// EMNLP 2014, section 2.3, with the reset gate applied behind the product, as PyTorch
/// does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gru {
    /// How many numbers a step takes.
    pub inputs: usize,
    /// How many numbers the state has.
    pub hidden: usize,
    /// How many layers stand on each other.
    pub layers: usize,
    /// Whether a second network of each layer reads from the end.
    pub bidirectional: bool,
    /// Whether there are biases.
    pub bias: bool,
    /// Whether the rows come before the steps, in what is taken and given.
    pub batch_first: bool,
    /// The rate of dropout between layers.
    pub dropout: f64,
}

/// What a recurrent layer makes of a sequence.
#[derive(Debug, Clone)]
pub struct Recurrent {
    /// The last layer's state at each step, both directions side by side.
    pub output: Var,
    /// The states after the last step: of each layer and direction, `[N, hidden]`.
    pub hidden: Vec<Var>,
    /// The cells after the last step, as `hidden`; empty for [`Gru`].
    pub cells: Vec<Var>,
}

/// What [`Lstm`] and [`Gru`] share.
struct Layers {
    inputs: usize,
    hidden: usize,
    layers: usize,
    bidirectional: bool,
    bias: bool,
    batch_first: bool,
    dropout: f64,
}

/// The parameters of one layer and direction.
struct Cell {
    input_weight: Var,
    state_weight: Var,
    /// Of the inputs and of the state.
    biases: Option<[Var; 2]>,
}

impl Lstm {
    /// One layer in one direction, with biases.
    pub fn new(inputs: usize, hidden: usize) -> Self {
        Self {
            inputs,
            hidden,
            layers: 1,
            bidirectional: false,
            bias: true,
            batch_first: false,
            dropout: 0.0,
        }
    }

    /// Reads a sequence, from a state of zeros.
    pub fn read(&self, scope: &Scope, x: &Var) -> Recurrent {
        self.layers().read(scope, x, 4, |cell, x, reverse| {
            let (length, shape, start) = cell.start(x);
            let mut gates = x.matmul_transposed(&cell.input_weight);
            if let Some([input, state]) = &cell.biases {
                gates = gates + (input + state);
            }
            let hidden = shape[1];
            let carries = [&start, &start];
            let scanned = x
                .graph()
                .scan(length, &carries, &[&gates], reverse, |carries, gates| {
                    let sum = &gates[0] + carries[0].matmul_transposed(&cell.state_weight);
                    let [input, forget, new, output] = parts(&sum, hidden);
                    let memory = forget.sigmoid() * &carries[1] + input.sigmoid() * new.tanh();
                    let state = output.sigmoid() * memory.tanh();
                    (vec![state.clone(), memory], vec![state])
                });
            (scanned.stacked, scanned.carries)
        })
    }

    fn layers(&self) -> Layers {
        Layers {
            inputs: self.inputs,
            hidden: self.hidden,
            layers: self.layers,
            bidirectional: self.bidirectional,
            bias: self.bias,
            batch_first: self.batch_first,
            dropout: self.dropout,
        }
    }
}

/// Gives the last layer's state at each step; see [`Lstm::read`] for the rest.
impl Module for Lstm {
    fn forward(&self, scope: &Scope, x: &Var) -> Var {
        self.read(scope, x).output
    }
}

impl Gru {
    /// One layer in one direction, with biases.
    pub fn new(inputs: usize, hidden: usize) -> Self {
        Self {
            inputs,
            hidden,
            layers: 1,
            bidirectional: false,
            bias: true,
            batch_first: false,
            dropout: 0.0,
        }
    }

    /// Reads a sequence, from a state of zeros.
    pub fn read(&self, scope: &Scope, x: &Var) -> Recurrent {
        self.layers().read(scope, x, 3, |cell, x, reverse| {
            let (length, shape, start) = cell.start(x);
            let mut gates = x.matmul_transposed(&cell.input_weight);
            if let Some([input, _]) = &cell.biases {
                gates = gates + input;
            }
            let hidden = shape[1];
            let scanned =
                x.graph()
                    .scan(length, &[&start], &[&gates], reverse, |carries, gates| {
                        let mut product = carries[0].matmul_transposed(&cell.state_weight);
                        if let Some([_, state]) = &cell.biases {
                            product = product + state;
                        }
                        let [reset, update, new] = parts(&gates[0], hidden);
                        let [reset_more, update_more, new_more] = parts(&product, hidden);
                        let reset = (reset + reset_more).sigmoid();
                        let update = (update + update_more).sigmoid();
                        let new = (new + reset * new_more).tanh();
                        let state = &new + update * (&carries[0] - &new);
                        (vec![state.clone()], vec![state])
                    });
            (scanned.stacked, scanned.carries)
        })
    }

    fn layers(&self) -> Layers {
        Layers {
            inputs: self.inputs,
            hidden: self.hidden,
            layers: self.layers,
            bidirectional: self.bidirectional,
            bias: self.bias,
            batch_first: self.batch_first,
            dropout: self.dropout,
        }
    }
}

/// Gives the last layer's state at each step; see [`Gru::read`] for the rest.
impl Module for Gru {
    fn forward(&self, scope: &Scope, x: &Var) -> Var {
        self.read(scope, x).output
    }
}

impl Layers {
    /// Applies `run` for each layer and direction: it is given `[T, N, …]` and answers
    /// the stacked states and the last carries, the state first.
    fn read(
        &self,
        scope: &Scope,
        x: &Var,
        gates: usize,
        run: impl Fn(&Cell, &Var, bool) -> (Vec<Var>, Vec<Var>),
    ) -> Recurrent {
        if x.shape().len() != 3 {
            let x = x.refused("a recurrent layer", "a sequence of rows, of rank 3");
            return Recurrent {
                output: x,
                hidden: Vec::new(),
                cells: Vec::new(),
            };
        }
        let turned = |x: &Var| match self.batch_first {
            true => x.transpose(&[1, 0, 2]),
            false => x.clone(),
        };
        let mut x = turned(x);
        let (mut hidden, mut cells) = (Vec::new(), Vec::new());
        for layer in 0..self.layers {
            if layer > 0 {
                let rate = self.dropout;
                x = Dropout { rate }.forward(scope, &x);
            }
            let mut outputs = Vec::new();
            for reverse in [false, true] {
                if reverse && !self.bidirectional {
                    continue;
                }
                let cell = self.cell(scope, &x, layer, gates, reverse);
                let (stacked, carries) = run(&cell, &x, reverse);
                outputs.extend(stacked);
                let mut carries = carries.into_iter();
                hidden.extend(carries.next());
                cells.extend(carries);
            }
            x = match outputs.as_slice() {
                [forward, backward] => forward.concatenate(&[backward], 2),
                outputs => outputs.first().cloned().unwrap_or(x),
            };
        }
        Recurrent {
            output: turned(&x),
            hidden,
            cells,
        }
    }

    fn cell(&self, scope: &Scope, x: &Var, layer: usize, gates: usize, reverse: bool) -> Cell {
        let directions = if self.bidirectional { 2 } else { 1 };
        let inputs = match layer {
            0 => self.inputs,
            _ => self.hidden * directions,
        };
        let direction = if reverse { "_reverse" } else { "" };
        let initial = Initial::of_layer(self.hidden);
        let rows = gates * self.hidden;
        let parameter = |name: &str, shape: &[usize]| {
            let name = format!("{name}_l{layer}{direction}");
            scope.parameter_for(x, &name, shape, initial)
        };
        Cell {
            input_weight: parameter("weight_ih", &[rows, inputs]),
            state_weight: parameter("weight_hh", &[rows, self.hidden]),
            biases: self
                .bias
                .then(|| ["bias_ih", "bias_hh"].map(|name| parameter(name, &[rows]))),
        }
    }
}

impl Cell {
    /// How many steps `[T, N, …]` has, the shape of a state, and the state before them.
    fn start(&self, x: &Var) -> (usize, [usize; 2], Var) {
        let (length, rows) = (x.shape()[0], x.shape()[1]);
        let shape = [rows, self.state_weight.shape()[1]];
        let start = x.graph().full(x.dtype(), &shape, 0.0);
        (length, shape, start)
    }
}

/// The gates that stand side by side in `[N, GATES * hidden]`.
fn parts<const GATES: usize>(gates: &Var, hidden: usize) -> [Var; GATES] {
    let parts = gates.split(1, &[hidden; GATES]);
    parts
        .try_into()
        .expect("a split has as many results as sizes")
}
