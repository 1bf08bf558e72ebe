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
}

/// Applies `model` to `x` `[batch, …]` and compares its `[batch, classes]` with the class
/// numbers in `labels`, integers of shape `[batch]` or `[batch, 1]`.
///
/// The loss is the cross-entropy, the prediction the likeliest class, as `i32 [batch]`.
pub fn classification(model: &impl Module, scope: &Scope, x: &Var, labels: &Var) -> Measured {
    let logits = model.forward(scope, x);
    if logits.shape().len() != 2 {
        logits.refused("classification", "logits of shape [batch, classes]");
        return Measured {
            loss: logits.clone(),
            correct: None,
            prediction: logits,
        };
    }
    let labels = labels.reshape(&logits.shape()[..1]);
    let prediction = logits.arg_max(1);
    let right = prediction.equal(&labels.convert(DType::I32));
    Measured {
        loss: cross_entropy(&logits, &labels),
        correct: Some(right.convert(DType::F32).sum_all()),
        prediction,
    }
}

/// Applies `model` to `x` and compares its values with `targets` of the same shape.
///
/// The loss is the mean squared error, the prediction the model's value.
pub fn regression(model: &impl Module, scope: &Scope, x: &Var, targets: &Var) -> Measured {
    let prediction = model.forward(scope, x);
    let targets = targets.reshape(prediction.shape());
    Measured {
        loss: mean_squared_error(&prediction, &targets),
        correct: None,
        prediction,
    }
}

/// Mean cross-entropy of `logits` against class numbers, in nats.
///
/// | value    | shape              | element | range               |
/// |----------|--------------------|---------|---------------------|
/// | `logits` | `[batch, classes]` | f32     | finite              |
/// | `labels` | `[batch]`          | integer | `0..classes`        |
/// | result   | `[]`               | f32     | 0 or more           |
///
/// A label out of range counts as a loss of 0.
pub fn cross_entropy(logits: &Var, labels: &Var) -> Var {
    let &[_, classes] = logits.shape() else {
        return logits.refused("cross_entropy", "logits of shape [batch, classes]");
    };
    let picked = logits.log_softmax(1) * labels.one_hot(classes, DType::F32);
    -picked.sum(&[1]).mean_all()
}

/// The mean of the squared differences of two values, of rank 0.
pub fn mean_squared_error(prediction: &Var, targets: &Var) -> Var {
    (prediction - targets).square().mean_all()
}
