//! Losses, schedules and metrics.

use serde::Deserialize;
use serde_json::Value;
use trainshed_sdk::graph::{Graph, Var, evaluate};
use trainshed_sdk::metrics::{self, Confusion};
use trainshed_sdk::nn::{
    Cosine, CrossEntropy, Exponential, MultiStep, OneCycle, Plateau, Schedule, StepDecay, WarmUp,
    binary_cross_entropy_with_logits, huber, mean_absolute_error, mean_squared_error,
    negative_log_likelihood,
};
use trainshed_sdk::{Failure, Tensor};

use crate::arrays::{compare, compare_all, narrowed, numbers, tensor};

pub(crate) fn check_loss(case: &Value) -> Result<(), Failure> {
    let given = [tensor(&case["prediction"])?, tensor(&case["targets"])?];
    let class_weights = match &case["loss"]["class_weights"] {
        Value::Null => Vec::new(),
        weights => narrowed(weights)?,
    };
    let positive_weight = match &case["loss"]["positive_weight"] {
        Value::Null => None,
        weights => Some(narrowed(weights)?),
    };
    let record = |graph: &Graph, given: &[Var]| {
        let [prediction, targets] = given else {
            return Vec::new();
        };
        let config = &case["loss"];
        let value = match config["kind"].as_str() {
            Some("cross_entropy") => {
                let loss = CrossEntropy {
                    label_smoothing: config["label_smoothing"].as_f64().unwrap_or_default(),
                    class_weights,
                    ignores_other_labels: config["ignores_other_labels"] == true,
                };
                loss.of(prediction, targets)
            }
            Some("nll") => negative_log_likelihood(prediction, targets),
            Some("mse") => mean_squared_error(prediction, targets),
            Some("mae") => mean_absolute_error(prediction, targets),
            Some("huber") => {
                let delta = config["delta"].as_f64().unwrap_or_default();
                huber(prediction, targets, delta)
            }
            _ => {
                let weight = positive_weight.map(|weight| graph.constant(&[weight.len()], &weight));
                binary_cross_entropy_with_logits(prediction, targets, weight.as_ref())
            }
        };
        let gradient = graph.gradient(&value, &[prediction]);
        std::iter::once(value).chain(gradient).collect()
    };
    let found = evaluate(&[&given[0], &given[1]], record)?;
    compare("the loss", &found[0], &case["value"])?;
    compare("the gradient", &found[1], &case["gradient"])
}

pub(crate) fn check_schedule(case: &Value) -> Result<(), Failure> {
    let expected = numbers(&case["rates"])?;
    if !case["measured"].is_null() {
        let mut plateau = Plateau::new(0.5);
        (plateau.factor, plateau.patience) = (0.5, 1);
        (plateau.cooldown, plateau.minimum) = (1, 0.1);
        let measured = numbers(&case["measured"])?.into_iter();
        let found = measured.map(|measured| {
            plateau.observe(measured);
            // As a run that goes on from a checkpoint has it.
            let saved = serde_json::to_string(&plateau)?;
            plateau = serde_json::from_str(&saved)?;
            Ok(plateau.rate(0))
        });
        let found: Vec<f64> = found.collect::<Result<_, Failure>>()?;
        return compare_all("the rates", &found, &expected);
    }
    let schedule = schedule(&case["schedule"])?;
    let found: Vec<f64> = (0..)
        .take(expected.len())
        .map(|step| schedule.rate(step))
        .collect();
    compare_all("the rates", &found, &expected)
}

fn schedule(config: &Value) -> Result<Box<dyn Schedule>, Failure> {
    Ok(match config["kind"].as_str() {
        Some("step") => Box::new(StepDecay::deserialize(config)?),
        Some("multi_step") => Box::new(MultiStep::deserialize(config)?),
        Some("exponential") => Box::new(Exponential::deserialize(config)?),
        Some("cosine") => Box::new(Cosine::deserialize(config)?),
        Some("warm_up") => Box::new(WarmUp::<Cosine>::deserialize(config)?),
        _ => {
            let maximum = config["maximum"].as_f64().unwrap_or_default();
            Box::new(OneCycle::new(
                maximum,
                config["steps"].as_u64().unwrap_or_default(),
            ))
        }
    })
}

pub(crate) fn check_metric(case: &Value) -> Result<(), Failure> {
    let number = |name: &str| case[name].as_f64().unwrap_or(f64::NAN);
    match case["name"].as_str() {
        Some("classes") => {
            let found = measured(case, ["logits", "labels"], |logits, labels| {
                let counts = metrics::confusion_matrix(&logits.arg_max(1), labels, 5);
                let [precision, recall, f1] = metrics::precision_recall_f1(&counts);
                vec![
                    metrics::accuracy(logits, labels),
                    metrics::top_k_accuracy(logits, labels, 2),
                    counts,
                    precision,
                    recall,
                    f1,
                ]
            })?;
            compare_all("the accuracy", &[found[0].item()], &[number("accuracy")])?;
            compare_all("the top 2", &[found[1].item()], &[number("top2")])?;
            compare("the confusion matrix", &found[2], &case["confusion"])?;
            for (name, found) in ["precision", "recall", "f1"].into_iter().zip(&found[3..]) {
                compare(name, found, &case[name])?;
            }
            let confusion = Confusion::new(found[2].to_f64s()?)
                .ok_or_else(|| Failure::failed("the confusion matrix is no square"))?;
            let scores = confusion.by_class();
            let check = |name: &str, found: Vec<f64>| {
                compare_all(name, &found, &numbers(&case[name]["values"])?)
            };
            check("precision", scores.iter().map(|of| of.precision).collect())?;
            check("recall", scores.iter().map(|of| of.recall).collect())?;
            check("f1", scores.iter().map(|of| of.f1).collect())
        }
        Some("area") => {
            let found = measured(case, ["scores", "positive"], |scores, positive| {
                vec![metrics::roc_auc(scores, positive)]
            })?;
            compare_all("the area", &[found[0].item()], &[number("roc_auc")])
        }
        _ => {
            let found = measured(case, ["prediction", "targets"], |prediction, targets| {
                vec![
                    mean_squared_error(prediction, targets),
                    mean_absolute_error(prediction, targets),
                    metrics::r_squared(prediction, targets),
                ]
            })?;
            let found: Vec<f64> = found.iter().map(Tensor::item).collect();
            compare_all("the errors", &found, &["mse", "mae", "r2"].map(number))
        }
    }
}

fn measured(
    case: &Value,
    names: [&str; 2],
    record: impl FnOnce(&Var, &Var) -> Vec<Var>,
) -> Result<Vec<Tensor>, Failure> {
    let [left, right] = names.map(|name| tensor(&case[name]));
    Ok(evaluate(&[&left?, &right?], |_, given| {
        record(&given[0], &given[1])
    })?)
}
