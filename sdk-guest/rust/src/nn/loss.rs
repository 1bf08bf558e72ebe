//! What training makes small, and what becomes of a batch.

use super::{Module, Scope};
use crate::DType;
use crate::graph::Var;

/// What a model makes of one batch.
#[derive(Debug, Clone)]
pub struct Measured {
    /// What training makes small: the mean over the batch, of rank 0.
    pub loss: Var,
    /// How many rows of the batch are right, of rank 0; for classifications.
    pub correct: Option<Var>,
    /// What [`crate::trainer::Trainer::predict`] answers, one row for each of the batch.
    pub prediction: Var,
    /// What [`crate::trainer::Trainer::totals`] sums up over all batches.
    pub totals: Vec<Total>,
}

/// A tensor that is summed up over batches: counts, or a confusion matrix.
#[derive(Debug, Clone)]
pub struct Total {
    /// Its name.
    pub name: String,
    /// What one batch adds.
    pub value: Var,
}

/// The mean cross-entropy of logits `[N, C]` or `[N, C, …]` against class numbers `[N]` or
/// `[N, …]`, in nats. PyTorch's `CrossEntropyLoss`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CrossEntropy {
    /// The share of each label that is spread evenly over all classes, 0 to 1.
    ///
    /// Source: C. Szegedy et al., "Rethinking the inception architecture for computer
    /// vision", CVPR 2016, section 7.
    pub label_smoothing: f64,
    /// How much each class counts; the mean is weighted by them. Empty when they count
    /// alike.
    pub class_weights: Vec<f32>,
    /// Whether labels that are no class (PyTorch's `ignore_index` of -100) are left out of
    /// the mean. Otherwise they count as a loss of 0.
    pub ignores_other_labels: bool,
}

impl Measured {
    /// What training makes small, and what the model predicts.
    pub fn new(loss: Var, prediction: Var) -> Self {
        Self {
            loss,
            correct: None,
            prediction,
            totals: Vec::new(),
        }
    }

    /// Sums up `value`, of any shape, over all batches as `name`.
    #[must_use]
    pub fn with_total(mut self, name: &str, value: Var) -> Self {
        let name = name.to_owned();
        self.totals.push(Total { name, value });
        self
    }
}

/// Applies `model` to `x` `[batch, …]` and compares its `[batch, classes]` with the class
/// numbers in `labels`, integers of shape `[batch]` or `[batch, 1]`.
///
/// The loss is the cross-entropy, the prediction the likeliest class, as `i32 [batch]`.
pub fn classification(model: &impl Module, scope: &Scope, x: &Var, labels: &Var) -> Measured {
    let logits = model.forward(scope, x);
    if logits.shape().len() != 2 {
        logits.refused("classification", "logits of shape [batch, classes]");
        return Measured::new(logits.clone(), logits);
    }
    let labels = labels.reshape(&logits.shape()[..1]);
    let prediction = logits.arg_max(1);
    let right = prediction.equal(&labels.convert(DType::I32));
    Measured {
        correct: Some(right.convert(DType::F32).sum_all()),
        ..Measured::new(cross_entropy(&logits, &labels), prediction)
    }
}

/// Applies `model` to `x` and compares its values with `targets` of the same shape.
///
/// The loss is the mean squared error, the prediction the model's value.
pub fn regression(model: &impl Module, scope: &Scope, x: &Var, targets: &Var) -> Measured {
    let prediction = model.forward(scope, x);
    let targets = targets.reshape(prediction.shape());
    Measured::new(mean_squared_error(&prediction, &targets), prediction)
}

/// Mean cross-entropy of `logits` against class numbers, in nats.
///
/// | value    | shape              | element | range               |
/// |----------|--------------------|---------|---------------------|
/// | `logits` | `[batch, classes]` | float   | finite              |
/// | `labels` | `[batch]`          | integer | `0..classes`        |
/// | result   | `[]`               | float   | 0 or more           |
///
/// A label out of range counts as a loss of 0; [`CrossEntropy`] can do more.
pub fn cross_entropy(logits: &Var, labels: &Var) -> Var {
    CrossEntropy::default().of(logits, labels)
}

/// The mean of `-logarithms` at the class numbers `labels`: [`cross_entropy`] of what is a
/// [`Var::log_softmax`] already. PyTorch's `NLLLoss`.
pub fn negative_log_likelihood(logarithms: &Var, labels: &Var) -> Var {
    match by_class(logarithms) {
        Some(logarithms) => CrossEntropy::default().of_logarithms(&logarithms, labels),
        None => logarithms.refused("negative_log_likelihood", "logarithms of shape [N, C, …]"),
    }
}

/// The mean of the squared differences of two values, of rank 0. PyTorch's `MSELoss`.
pub fn mean_squared_error(prediction: &Var, targets: &Var) -> Var {
    (prediction - targets).square().mean_all()
}

/// The mean of the absolute differences of two values, of rank 0. PyTorch's `L1Loss`.
pub fn mean_absolute_error(prediction: &Var, targets: &Var) -> Var {
    (prediction - targets).abs().mean_all()
}

/// The mean of half the squared differences where they are less than `delta`, and of
/// `delta (|difference| - delta / 2)` elsewhere. PyTorch's `HuberLoss`.
///
/// Source: P. J. Huber, "Robust estimation of a location parameter", Annals of
/// Mathematical Statistics 35 (1964), section 4.
pub fn huber(prediction: &Var, targets: &Var, delta: f64) -> Var {
    let difference = prediction - targets;
    let distance = difference.abs();
    let square = difference.square() * 0.5;
    let linear = (&distance - 0.5 * delta) * delta;
    let near = distance.less(&distance.full_like(delta));
    near.select(&square, &linear).mean_all()
}

/// The mean cross-entropy of the [`Var::sigmoid`] of `logits` against `targets` of the
/// same shape, from 0 to 1. PyTorch's `BCEWithLogitsLoss`.
///
/// `positive_weight`, which is repeated to that shape, is how much more positive targets
/// count.
pub fn binary_cross_entropy_with_logits(
    logits: &Var,
    targets: &Var,
    positive_weight: Option<&Var>,
) -> Var {
    // -log(sigmoid(x)) is log(1 + exp(-|x|)) + max(-x, 0).
    let positive = (-logits).softplus();
    let negative = (1.0 - targets) * logits;
    let loss = match positive_weight {
        Some(weight) => negative + ((weight - 1.0) * targets + 1.0) * positive,
        None => negative + positive,
    };
    loss.mean_all()
}

impl CrossEntropy {
    /// The loss, of rank 0.
    pub fn of(&self, logits: &Var, labels: &Var) -> Var {
        match by_class(logits) {
            Some(logits) => self.of_logarithms(&logits.log_softmax(1), labels),
            None => logits.refused("cross_entropy", "logits of shape [N, C, …]"),
        }
    }

    /// The loss from logarithms of probabilities `[rows, classes]`.
    fn of_logarithms(&self, logarithms: &Var, labels: &Var) -> Var {
        let (rows, classes) = (logarithms.shape()[0], logarithms.shape()[1]);
        if labels.shape().iter().product::<usize>() != rows || !labels.dtype().is_integer() {
            return labels.refused("cross_entropy", &format!("{rows} integer labels"));
        }
        let weights = &self.class_weights;
        if !weights.is_empty() && weights.len() != classes {
            let found = weights.len();
            let message = format!("{found} class weights do not fit {classes} classes");
            logarithms.graph().fail(message);
            return logarithms.clone();
        }
        let weighted = |value: &Var| match weights.as_slice() {
            [] => value.clone(),
            weights => {
                let weights = value.graph().constant(&[classes], weights);
                value * weights.convert(value.dtype())
            }
        };
        let right = labels.reshape(&[rows]).one_hot(classes, logarithms.dtype());
        let target = weighted(&right);
        let mut gain = (logarithms * &target).sum(&[1]);
        if self.label_smoothing > 0.0 {
            let spread = weighted(logarithms).mean(&[1]) * right.sum(&[1]);
            gain = gain * (1.0 - self.label_smoothing) + spread * self.label_smoothing;
        }
        if weights.is_empty() && !self.ignores_other_labels {
            return -gain.mean_all();
        }
        -gain.sum_all() / target.sum_all()
    }
}

/// `[N, C, …]` as rows of classes `[N …, C]`.
fn by_class(value: &Var) -> Option<Var> {
    let rank = value.shape().len();
    let &classes = value.shape().get(1)?;
    if rank == 2 {
        return Some(value.clone());
    }
    let order: Vec<usize> = std::iter::once(0).chain(2..rank).chain([1]).collect();
    let turned = value.transpose(&order);
    let rows = turned.shape()[..rank - 1].iter().product();
    Some(turned.reshape(&[rows, classes]))
}
