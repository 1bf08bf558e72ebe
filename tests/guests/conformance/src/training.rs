//! Optimizers and recipes: the parameters after each batch.

use serde_json::Value;
use trainshed_sdk::Failure;
use trainshed_sdk::nn::{Adagrad, Adam, AdamW, Linear, Lion, Optimizer, RmsProp, Sgd, regression};
use trainshed_sdk::trainer::{Column, Recipe, Start, Trainer};

use crate::arrays::{compare, compare_all, numbers, tensor, tensors};

/// How many rows a batch of the fixtures has.
const BATCH: u32 = 4;

pub(crate) fn check(case: &Value) -> Result<(), Failure> {
    let (x, y) = (tensor(&case["x"])?, tensor(&case["y"])?);
    let state = tensors(&case["state"])?;
    let layer = Linear::new(3, 2);
    let mut trainer = Trainer::new(
        &[Column::of(&x), Column::of(&y)],
        BATCH,
        |scope, batch| regression(&layer, scope, &batch[0], &batch[1]),
        recipe(case),
        &Start::Tensors(&state, 0),
    )?;
    let rates = numbers(&case["rates"])?;
    let losses = numbers(&case["losses"])?;
    let rate = |step: u64| usize::try_from(step).map_or(0.0, |step| rates[step]);
    let batches = case["after"].as_array().into_iter().flatten();
    for ((batch, after), loss) in (0..).zip(batches).zip(losses) {
        let rows: Vec<u32> = (BATCH * batch..BATCH * (batch + 1)).collect();
        let step = trainer.steps()?;
        let trained = trainer.epoch(&[&x, &y], &rows, &rate(step), || false)?;
        let found = trained.map_or(f64::NAN, |trained| trained.loss);
        compare_all(&format!("the loss of batch {batch}"), &[found], &[loss])?;
        for (name, expected) in after.as_object().into_iter().flatten() {
            let what = format!("{name} after batch {batch}");
            let found = trainer.tensor(name)?;
            let found = found.ok_or_else(|| Failure::failed(format!("there is no {name}")))?;
            compare(&what, &found, expected)?;
        }
    }
    Ok(())
}

fn recipe(case: &Value) -> Recipe {
    let config = &case["optimizer"];
    let given = &case["recipe"];
    let mut recipe = Recipe::new(optimizer(config));
    if let Some(norm) = given["clip_norm"].as_f64() {
        recipe = recipe.clip_norm(norm);
    }
    if let Some(batches) = given["accumulate"].as_u64() {
        recipe = recipe.accumulate(u32::try_from(batches).unwrap_or(1));
    }
    if let Some(decay) = given["average"].as_f64() {
        recipe = recipe.average(decay);
    }
    if let Some(rate) = given["bias_rate"].as_f64() {
        recipe = recipe.group(|spec| spec.shape.len() < 2, Sgd::default(), rate);
    }
    recipe
}

fn optimizer(config: &Value) -> Box<dyn Optimizer> {
    let number = |name: &str| config[name].as_f64().unwrap_or_default();
    let weight_decay = number("weight_decay");
    match config["kind"].as_str() {
        Some("sgd") => Box::new(Sgd {
            momentum: number("momentum"),
            nesterov: config["nesterov"] == true,
            weight_decay,
        }),
        Some("adam") => Box::new(Adam {
            weight_decay,
            ..Adam::default()
        }),
        Some("adamw") => Box::new(AdamW {
            weight_decay,
            ..AdamW::default()
        }),
        Some("rmsprop") => Box::new(RmsProp {
            momentum: number("momentum"),
            centered: config["centered"] == true,
            weight_decay,
            ..RmsProp::default()
        }),
        Some("adagrad") => Box::new(Adagrad {
            learning_rate_decay: number("learning_rate_decay"),
            ..Adagrad::default()
        }),
        _ => Box::new(Lion {
            weight_decay,
            ..Lion::default()
        }),
    }
}
