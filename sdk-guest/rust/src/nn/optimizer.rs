use crate::DType;
use crate::graph::Var;

/// How parameters move, recorded into the training step.
///
/// An optimizer keeps tensors of each parameter's shape (its slots) in the session's
/// state; they are zero before the first step and saved with the model.
pub trait Optimizer {
    /// The names of the slots it keeps for each parameter, e.g. `exp_avg`.
    fn slots(&self) -> Vec<&'static str>;

    /// Records one step for one parameter; `slots` are in the order of
    /// [`Optimizer::slots`].
    fn update(&self, parameter: &Var, gradient: &Var, slots: &[Var], step: &Step) -> Updated;
}

/// What all parameters share in one step; both have rank 0 and the parameter's type.
#[derive(Debug, Clone)]
pub struct Step {
    /// The number of the step; counts from 1 and is exact below 2^24.
    pub count: Var,
    /// The learning rate, an input of every step.
    pub learning_rate: Var,
}

/// What a parameter and its slots become.
#[derive(Debug, Clone)]
pub struct Updated {
    /// The parameter's new value.
    pub parameter: Var,
    /// The slots' new values.
    pub slots: Vec<Var>,
}

/// Stochastic gradient descent, as PyTorch's `SGD` with dampening 0.
///
/// Source: I. Sutskever et al., "On the importance of initialization and momentum in deep
/// learning", ICML 2013, section 2, with PyTorch's form of momentum: the learning rate is
/// applied to the accumulated gradient.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Sgd {
    /// The share of the last step that is kept; 0 keeps no slot.
    pub momentum: f64,
    /// Whether to look ahead by the momentum.
    pub nesterov: bool,
    /// L2 penalty, added to the gradient.
    pub weight_decay: f64,
}

/// The exponential averages of [`Adam`] and [`AdamW`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moments {
    /// The share of the gradients' average that is kept.
    pub beta1: f64,
    /// The share of the squared gradients' average that is kept.
    pub beta2: f64,
    /// Keeps the divisor from 0.
    pub epsilon: f64,
}

/// Adam, as in PyTorch.
///
/// Source: D. P. Kingma, J. Ba, "Adam: a method for stochastic optimization", ICLR 2015,
/// algorithm 1; the bias corrections are computed in `f32`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Adam {
    /// The averages.
    pub moments: Moments,
    /// L2 penalty, added to the gradient.
    pub weight_decay: f64,
}

/// AdamW, as in PyTorch: [`Adam`] whose weight decay does not pass through the averages.
///
/// Source: I. Loshchilov, F. Hutter, "Decoupled weight decay regularization", ICLR 2019,
/// algorithm 2.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// The averages.
    pub moments: Moments,
    /// The share of each parameter that a step takes away, times the learning rate.
    pub weight_decay: f64,
}

/// RMSprop, as in PyTorch.
///
/// Source: T. Tieleman, G. Hinton, "Neural networks for machine learning", lecture 6.5,
/// 2012; centred as in A. Graves, "Generating sequences with recurrent neural networks",
/// 2013, section 3.2.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RmsProp {
    /// The share of the last step that is kept; 0 keeps no slot.
    pub momentum: f64,
    /// Whether gradients are divided by the root of their variance instead of their mean
    /// square.
    pub centered: bool,
    /// The share of the squared gradients' average that is kept.
    pub alpha: f64,
    /// Keeps the divisor from 0.
    pub epsilon: f64,
    /// L2 penalty, added to the gradient.
    pub weight_decay: f64,
}

/// Adagrad, as in PyTorch.
///
/// Source: J. Duchi, E. Hazan, Y. Singer, "Adaptive subgradient methods for online learning
/// and stochastic optimization", JMLR 12 (2011), section 1, its diagonal form.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adagrad {
    /// How fast the learning rate falls: it is divided by `1 + (step - 1) * decay`.
    pub learning_rate_decay: f64,
    /// Keeps the divisor from 0.
    pub epsilon: f64,
    /// L2 penalty, added to the gradient.
    pub weight_decay: f64,
}

/// Lion: steps of one size, in the direction of the sign of an average.
///
/// Source: X. Chen et al., "Symbolic discovery of optimization algorithms", NeurIPS 2023,
/// algorithm 2.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lion {
    /// The share of the average in a step's direction.
    pub beta1: f64,
    /// The share of the average that is kept.
    pub beta2: f64,
    /// The share of each parameter that a step takes away, times the learning rate.
    pub weight_decay: f64,
}

impl Optimizer for Box<dyn Optimizer> {
    fn slots(&self) -> Vec<&'static str> {
        self.as_ref().slots()
    }

    fn update(&self, parameter: &Var, gradient: &Var, slots: &[Var], step: &Step) -> Updated {
        self.as_ref().update(parameter, gradient, slots, step)
    }
}

impl Optimizer for Sgd {
    fn slots(&self) -> Vec<&'static str> {
        if self.momentum == 0.0 {
            Vec::new()
        } else {
            vec!["momentum_buffer"]
        }
    }

    fn update(&self, parameter: &Var, gradient: &Var, slots: &[Var], step: &Step) -> Updated {
        let gradient = with_l2(gradient, parameter, self.weight_decay);
        let Some(buffer) = slots.first() else {
            return Updated {
                parameter: parameter - &step.learning_rate * gradient,
                slots: Vec::new(),
            };
        };
        let buffer = settled(buffer * self.momentum + &gradient);
        let direction = if self.nesterov {
            gradient + &buffer * self.momentum
        } else {
            buffer.clone()
        };
        Updated {
            parameter: parameter - &step.learning_rate * direction,
            slots: vec![buffer],
        }
    }
}

impl Default for Moments {
    fn default() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
        }
    }
}

impl Moments {
    const SLOTS: [&'static str; 2] = ["exp_avg", "exp_avg_sq"];

    fn update(&self, parameter: &Var, gradient: &Var, slots: &[Var], step: &Step) -> Updated {
        let [average, squares] = slots else {
            unreachable!("the trainer hands over as many slots as it was asked for");
        };
        let average = settled(average * self.beta1 + gradient * (1.0 - self.beta1));
        let squares = squares * self.beta2 + gradient.square() * (1.0 - self.beta2);
        // As 1 - beta^count, which would lose the digits that beta has in common with 1.
        let correction = |beta: f64| -(&step.count * beta.ln()).expm1();
        let step_size = &step.learning_rate / correction(self.beta1);
        // Inverted once, so that elements are multiplied and not divided.
        let root_correction = 1.0 / correction(self.beta2).sqrt();
        let divisor = squares.sqrt() * root_correction + self.epsilon;
        Updated {
            parameter: parameter - step_size * (&average / divisor),
            slots: vec![average, squares],
        }
    }
}

impl Optimizer for Adam {
    fn slots(&self) -> Vec<&'static str> {
        Moments::SLOTS.to_vec()
    }

    fn update(&self, parameter: &Var, gradient: &Var, slots: &[Var], step: &Step) -> Updated {
        let gradient = with_l2(gradient, parameter, self.weight_decay);
        self.moments.update(parameter, &gradient, slots, step)
    }
}

impl Default for AdamW {
    fn default() -> Self {
        Self {
            moments: Moments::default(),
            weight_decay: 0.01,
        }
    }
}

impl Optimizer for AdamW {
    fn slots(&self) -> Vec<&'static str> {
        Moments::SLOTS.to_vec()
    }

    fn update(&self, parameter: &Var, gradient: &Var, slots: &[Var], step: &Step) -> Updated {
        if self.weight_decay == 0.0 {
            return self.moments.update(parameter, gradient, slots, step);
        }
        let kept = 1.0 - &step.learning_rate * self.weight_decay;
        let decayed = parameter * kept;
        self.moments.update(&decayed, gradient, slots, step)
    }
}

impl Default for RmsProp {
    fn default() -> Self {
        Self {
            momentum: 0.0,
            centered: false,
            alpha: 0.99,
            epsilon: 1e-8,
            weight_decay: 0.0,
        }
    }
}

impl Optimizer for RmsProp {
    fn slots(&self) -> Vec<&'static str> {
        let mut slots = vec!["square_avg"];
        if self.centered {
            slots.push("grad_avg");
        }
        if self.momentum != 0.0 {
            slots.push("momentum_buffer");
        }
        slots
    }

    fn update(&self, parameter: &Var, gradient: &Var, slots: &[Var], step: &Step) -> Updated {
        let gradient = with_l2(gradient, parameter, self.weight_decay);
        let mut slots = slots.iter();
        let mut slot = || {
            slots
                .next()
                .expect("the trainer hands over as many slots as it was asked for")
        };
        let squares = slot() * self.alpha + gradient.square() * (1.0 - self.alpha);
        let mut updated = vec![squares.clone()];
        let mut variance = squares;
        if self.centered {
            let average = settled(slot() * self.alpha + &gradient * (1.0 - self.alpha));
            variance = variance - average.square();
            updated.push(average);
        }
        let mut direction = gradient / (variance.sqrt() + self.epsilon);
        if self.momentum != 0.0 {
            direction = settled(slot() * self.momentum + direction);
            updated.push(direction.clone());
        }
        Updated {
            parameter: parameter - &step.learning_rate * direction,
            slots: updated,
        }
    }
}

impl Default for Adagrad {
    fn default() -> Self {
        Self {
            learning_rate_decay: 0.0,
            epsilon: 1e-10,
            weight_decay: 0.0,
        }
    }
}

impl Optimizer for Adagrad {
    fn slots(&self) -> Vec<&'static str> {
        vec!["sum"]
    }

    fn update(&self, parameter: &Var, gradient: &Var, slots: &[Var], step: &Step) -> Updated {
        let gradient = with_l2(gradient, parameter, self.weight_decay);
        let rate = match self.learning_rate_decay {
            0.0 => step.learning_rate.clone(),
            decay => &step.learning_rate / ((&step.count - 1.0) * decay + 1.0),
        };
        let sum = &slots[0] + gradient.square();
        let divisor = sum.sqrt() + self.epsilon;
        Updated {
            parameter: parameter - rate * (gradient / divisor),
            slots: vec![sum],
        }
    }
}

impl Default for Lion {
    fn default() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.99,
            weight_decay: 0.0,
        }
    }
}

impl Optimizer for Lion {
    fn slots(&self) -> Vec<&'static str> {
        vec!["exp_avg"]
    }

    fn update(&self, parameter: &Var, gradient: &Var, slots: &[Var], step: &Step) -> Updated {
        let average = &slots[0];
        let direction = (average * self.beta1 + gradient * (1.0 - self.beta1)).sign();
        let direction = match self.weight_decay {
            0.0 => direction,
            decay => direction + parameter * decay,
        };
        Updated {
            parameter: parameter - &step.learning_rate * direction,
            slots: vec![settled(
                average * self.beta2 + gradient * (1.0 - self.beta2),
            )],
        }
    }
}

/// An average with 0 where it is below about 1e-37 in `f32`, the same to any optimizer.
///
/// An average of gradients that are 0, those of a dead unit, shrinks with every step and would
/// end as a subnormal number, on which processors work a hundred times slower. A sum with a
/// constant has no bits that small, so they are gone when the constant is subtracted again.
fn settled(average: Var) -> Var {
    let constant = match average.dtype() {
        DType::F32 | DType::Bf16 => 2f64.powi(-100),
        DType::F64 => 2f64.powi(-968),
        _ => return average,
    };
    (average + constant) - constant
}

fn with_l2(gradient: &Var, parameter: &Var, weight_decay: f64) -> Var {
    if weight_decay == 0.0 {
        return gradient.clone();
    }
    gradient + parameter * weight_decay
}
