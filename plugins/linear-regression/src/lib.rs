//! Fits a linear function of some columns of a table to another column.
//!
//! The coefficients come from the normal equations, whose sums the host computes and which
//! are solved here, or from stochastic gradient descent. Features are standardised in
//! between; the saved model also has the coefficients in the columns' own units.

mod cholesky;
mod data;
mod settings;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use trainshed_sdk::graph::{Var, evaluate};
use trainshed_sdk::nn::{Initial, Measured, Scope, Sgd, mean_squared_error};
use trainshed_sdk::rng::{Rng, Split};
use trainshed_sdk::run::Metric;
use trainshed_sdk::trainer::{Column, Recipe, Start, Trainer};
use trainshed_sdk::{
    About, Category, Checkpoint, DType, Dataset, Failure, ModelDetails, Run, Tensor, Train, Tune,
    metrics,
};

use data::{Data, Statistics};
use settings::{Method, Settings};

struct LinearRegression;

trainshed_sdk::export_train!(LinearRegression, tune);

impl Train for LinearRegression {
    const ABOUT: About = trainshed_sdk::about!(Category::Tabular);
    const SUMMARY: &'static str = "Fits a linear function to a column of a table.";
    type Hyperparameters = Settings;

    fn train(
        run: &Run,
        dataset: &Dataset,
        settings: Settings,
        checkpoint: Option<&Checkpoint>,
    ) -> Result<Value, Failure> {
        settings.check()?;
        if settings.method == Method::Exact && checkpoint.is_some() {
            let message =
                "must be `gradient` for a run that goes on from a model, but it is `exact`";
            return Err(Failure::invalid_parameter("/method", message));
        }
        let data = Data::load(dataset, &settings)?;
        check_columns(&data, checkpoint)?;
        let seed = split_seed(run, checkpoint);
        let split = Rng::new(seed, "split").split(data.rows, settings.validation_fraction);
        if split.train.is_empty() || split.validation.is_empty() {
            return Err(Failure::failed(format!(
                "{} rows are too few to divide into those to learn from and those to judge by",
                data.rows
            )));
        }
        run.set_progress("dataset", 1, 1)?;
        let (rows, features) = (data.rows, data.features.len());
        println!("{rows} rows, {features} features of `{}`", data.target);
        match settings.method {
            Method::Exact => exact(run, &data, &split, seed, &settings),
            Method::Gradient => gradient(run, &data, &split, seed, &settings, checkpoint),
        }
    }
}

/// Into how many parts the rows are cut to judge the settings of a trial.
const FOLDS: usize = 5;

impl Tune for LinearRegression {
    /// Judges the settings by cross-validation, which one division into rows to learn from
    /// and rows to judge by would do by luck; the model is then fitted to all rows.
    ///
    /// With `gradient`, a trial is a run as any other.
    fn tune(
        settings: Settings,
        run: &Run,
        dataset: &Dataset,
        checkpoint: Option<&Checkpoint>,
    ) -> Result<Value, Failure> {
        run.set_checkpoint_output("model")?;
        if settings.method == Method::Gradient || checkpoint.is_some() {
            return Self::train(run, dataset, settings, checkpoint);
        }
        settings.check()?;
        let data = Data::load(dataset, &settings)?;
        let mut order: Vec<u32> = (0..data.rows).collect();
        // The same parts for every trial, so that trials differ by their settings alone.
        Rng::new(run.seed(), "folds").shuffle(&mut order);
        if order.len() < FOLDS {
            let rows = order.len();
            return Err(Failure::failed(format!(
                "{rows} rows are too few to be cut into {FOLDS} parts"
            )));
        }
        run.set_progress("dataset", 1, 1)?;
        let mut sum = Fit {
            mse: 0.0,
            mae: 0.0,
            r2: 0.0,
        };
        let share = 1.0 / FOLDS as f64;
        for fold in 0..FOLDS {
            let bound = |fold: usize| fold * order.len() / FOLDS;
            let (before, rest) = order.split_at(bound(fold));
            let (held_back, behind) = rest.split_at(bound(fold + 1) - bound(fold));
            let split = Split {
                train: [before, behind].concat(),
                validation: held_back.to_vec(),
            };
            let function = fitted(&data, &split.train, settings.ridge)?.0;
            let fit = judge(&data, &split, |x| function.predict(x))?;
            sum.mse += fit.mse * share;
            sum.mae += fit.mae * share;
            sum.r2 += fit.r2 * share;
            run.set_progress("train", fold as u64 + 1, FOLDS as u64)?;
        }
        let (function, tensors) = fitted(&data, &order, settings.ridge)?;
        let tensors: Vec<(String, Tensor)> = tensors.into_iter().collect();
        run.save_model("model", &tensors, &details(&data, &function, 0, run.seed()))?;
        let measured = json!({"mse": sum.mse, "mae": sum.mae, "r2": sum.r2});
        run.report(&measured, Some("model"))?;
        finish(run, &data, &function, &sum)
    }
}

/// The function that fits `rows` best, and the tensors of its model.
fn fitted(
    data: &Data,
    rows: &[u32],
    ridge: f64,
) -> Result<(Function, BTreeMap<String, Tensor>), Failure> {
    let statistics = data.statistics(rows)?;
    let weight = normal_equations(data, &statistics, ridge)?;
    let tensors = tensors(&statistics, &weight)?;
    Ok((Function::of(&tensors)?, tensors))
}

/// A linear function of the columns in their own units.
struct Function {
    coefficients: Vec<f64>,
    intercept: f64,
}

/// How well predictions fit.
struct Fit {
    mse: f64,
    mae: f64,
    r2: f64,
}

fn exact(
    run: &Run,
    data: &Data,
    split: &Split,
    seed: u64,
    settings: &Settings,
) -> Result<Value, Failure> {
    let (function, tensors) = fitted(data, &split.train, settings.ridge)?;
    let fit = judge(data, split, |x| function.predict(x))?;
    log(run, 0, &fit)?;
    run.set_progress("train", 1, 1)?;
    let details = details(data, &function, 0, seed);
    let tensors: Vec<(String, Tensor)> = tensors.into_iter().collect();
    run.save_model("model", &tensors, &details)?;
    finish(run, data, &function, &fit)
}

/// The weights of the standardised features.
fn normal_equations(data: &Data, statistics: &Statistics, ridge: f64) -> Result<Vec<f64>, Failure> {
    let features = data.features.len();
    let mut matrix = statistics.correlations.clone();
    for feature in 0..features {
        matrix[feature * features + feature] += ridge;
    }
    cholesky::solve(matrix, statistics.covariances.clone()).map_err(|feature| {
        let name = &data.features[feature];
        Failure::failed(format!(
            "column `{name}` is constant or a linear combination of other columns; leave it out of `features`, or set `ridge` above 0"
        ))
    })
}

fn gradient(
    run: &Run,
    data: &Data,
    split: &Split,
    seed: u64,
    settings: &Settings,
    checkpoint: Option<&Checkpoint>,
) -> Result<Value, Failure> {
    let columns = [&data.x, &data.y];
    let batch = u32::try_from(split.train.len()).unwrap_or(u32::MAX);
    let batch = batch.min(settings.batch_size);
    let features = data.features.len();
    let tensors = match checkpoint {
        Some(_) => BTreeMap::new(),
        None => tensors(&data.statistics(&split.train)?, &vec![0.0; features])?,
    };
    let start = checkpoint.map_or(Start::Tensors(&tensors, run.seed()), Start::Checkpoint);
    let sgd = Sgd {
        momentum: settings.momentum,
        nesterov: false,
        weight_decay: 0.0,
    };
    let ridge = settings.ridge;
    let mut trainer = Trainer::new(
        &columns.map(Column::of),
        batch,
        |scope, batch| model(scope, &batch[0], &batch[1], ridge),
        Recipe::new(sgd).double_precision(),
        &start,
    )?;

    let first = checkpoint.map_or(0, Checkpoint::iteration);
    let epochs = u64::from(settings.epochs);
    let mut fit = judge_trained(data, split, &mut trainer)?;
    for done in 1..=epochs {
        let epoch = first.saturating_add(done);
        let mut order = split.train.clone();
        Rng::new(run.seed(), &format!("epoch {epoch}")).shuffle(&mut order);
        let stopping = || run.stopping();
        let trained = trainer.epoch(&columns, &order, &settings.learning_rate, stopping)?;
        let Some(trained) = trained else {
            let function = trained_function(&trainer)?;
            trainer.save(run, "model", &details(data, &function, epoch - 1, seed))?;
            return Err(Failure::Stopped);
        };
        if !trained.loss.is_finite() {
            return Err(Failure::failed(format!(
                "the loss is {} after epoch {epoch}: `learning_rate` {} is too large",
                trained.loss, settings.learning_rate
            )));
        }
        fit = judge_trained(data, split, &mut trainer)?;
        run.log_metric("train", "mse", trained.loss, json!({ "epoch": epoch }))?;
        log(run, epoch, &fit)?;
        run.set_progress("train", done, epochs)?;
    }
    let function = trained_function(&trainer)?;
    let details = details(data, &function, first.saturating_add(epochs), seed);
    trainer.save(run, "model", &details)?;
    finish(run, data, &function, &fit)
}

/// The linear function of the standardised features, and its loss.
fn model(scope: &Scope, x: &Var, y: &Var, ridge: f64) -> Measured {
    let features = x.shape()[1];
    let zero = Initial::Constant(0.0);
    let mean = scope.buffer("mean", DType::F64, &[features], 0.0);
    let deviation = scope.buffer("deviation", DType::F64, &[features], 1.0);
    let weight = scope.parameter("weight", &[1, features], zero);
    let bias = scope.parameter("bias", &[1], zero);
    let standard = (x - mean) / deviation;
    let prediction = standard.matmul_transposed(&weight) + bias;
    let loss = mean_squared_error(&prediction, y) + weight.square().sum_all() * ridge;
    Measured::new(loss, prediction)
}

/// The model's tensors, as it begins or as the normal equations give it.
fn tensors(statistics: &Statistics, weight: &[f64]) -> Result<BTreeMap<String, Tensor>, Failure> {
    let features = weight.len();
    let list = |name: &str, shape: &[usize], numbers: &[f64]| {
        Ok::<_, Failure>((name.to_owned(), Tensor::from_slice(shape, numbers)?))
    };
    Ok(BTreeMap::from([
        list("mean", &[features], &statistics.mean)?,
        list("deviation", &[features], &statistics.deviation)?,
        list("weight", &[1, features], weight)?,
        list("bias", &[1], &[statistics.target_mean])?,
    ]))
}

impl Function {
    fn of(tensors: &BTreeMap<String, Tensor>) -> Result<Self, Failure> {
        let list = |name: &str| tensors[name].to_vec::<f64>();
        let (mean, deviation) = (list("mean")?, list("deviation")?);
        Ok(Self::unscaled(
            &mean,
            &deviation,
            &list("weight")?,
            tensors["bias"].item(),
        ))
    }

    fn unscaled(mean: &[f64], deviation: &[f64], weight: &[f64], bias: f64) -> Self {
        let scaled = weight.iter().zip(deviation);
        let coefficients: Vec<f64> = scaled
            .map(|(weight, deviation)| weight / deviation)
            .collect();
        let shifts = coefficients.iter().zip(mean);
        let intercept = bias
            - shifts
                .map(|(coefficient, mean)| coefficient * mean)
                .sum::<f64>();
        Self {
            coefficients,
            intercept,
        }
    }

    /// The predictions for `x` `[rows, features]`: `[rows, 1]`.
    fn predict(&self, x: &Var) -> Var {
        let weight = x
            .graph()
            .constant(&[1, self.coefficients.len()], &self.coefficients);
        x.matmul_transposed(&weight) + self.intercept
    }
}

fn trained_function(trainer: &Trainer) -> Result<Function, Failure> {
    let mut tensors = BTreeMap::new();
    for name in ["mean", "deviation", "weight", "bias"] {
        let tensor = trainer.tensor(name)?;
        let missing = || Failure::failed(format!("the model has no tensor `{name}`"));
        tensors.insert(name.to_owned(), tensor.ok_or_else(missing)?);
    }
    Function::of(&tensors)
}

fn judge_trained(data: &Data, split: &Split, trainer: &mut Trainer) -> Result<Fit, Failure> {
    let function = trained_function(trainer)?;
    judge(data, split, |x| function.predict(x))
}

/// Judges predictions by the held-back rows.
fn judge(data: &Data, split: &Split, predict: impl Fn(&Var) -> Var) -> Result<Fit, Failure> {
    let rows = Tensor::from_slice(&[split.validation.len()], &split.validation)?;
    let judged = evaluate(&[&data.x, &data.y, &rows], |_, inputs| {
        let prediction = predict(&inputs[0].take(&inputs[2], 0));
        let targets = inputs[1].take(&inputs[2], 0);
        vec![
            mean_squared_error(&prediction, &targets),
            trainshed_sdk::nn::mean_absolute_error(&prediction, &targets),
            metrics::r_squared(&prediction, &targets),
        ]
    })?;
    Ok(Fit {
        mse: judged[0].item(),
        mae: judged[1].item(),
        r2: judged[2].item(),
    })
}

fn log(run: &Run, epoch: u64, fit: &Fit) -> Result<(), Failure> {
    let values = [("mse", fit.mse), ("mae", fit.mae), ("r2", fit.r2)];
    let metrics = values.map(|(key, value)| Metric {
        category: "validation",
        key,
        value,
        extra: json!({ "epoch": epoch }),
    });
    Ok(run.log_metrics(&metrics)?)
}

fn details(data: &Data, function: &Function, epoch: u64, split_seed: u64) -> ModelDetails {
    let metadata = [
        (TARGET, data.target.clone()),
        (FEATURES, json!(data.features).to_string()),
        ("coefficients", json!(function.coefficients).to_string()),
        ("intercept", function.intercept.to_string()),
        (SPLIT_SEED, split_seed.to_string()),
    ];
    ModelDetails {
        iteration: epoch,
        labels: Vec::new(),
        metadata: metadata.map(|(key, text)| (key.to_owned(), text)).into(),
    }
}

fn finish(run: &Run, data: &Data, function: &Function, fit: &Fit) -> Result<Value, Failure> {
    let named = data.features.iter().zip(&function.coefficients);
    let coefficients: Map<String, Value> = named
        .map(|(name, coefficient)| (name.clone(), json!(coefficient)))
        .collect();
    let Fit { mse, mae, r2 } = *fit;
    println!("validation MSE {mse:.4}, MAE {mae:.4}, R² {r2:.4}");
    for (name, value) in [("MSE", mse), ("MAE", mae), ("R2", r2)] {
        run.report_single(&format!("validation {name}"), value)?;
    }
    Ok(json!({
        "mse": mse,
        "mae": mae,
        "r2": r2,
        "intercept": function.intercept,
        "coefficients": coefficients,
    }))
}

const TARGET: &str = "target";
const FEATURES: &str = "features";
/// The key under which a model keeps the seed of the split that it was trained with.
const SPLIT_SEED: &str = "split seed";

/// The seed that divides the rows: the checkpoint's own, so that a model which goes on is
/// still judged by rows that it has not seen.
fn split_seed(run: &Run, checkpoint: Option<&Checkpoint>) -> u64 {
    checkpoint
        .and_then(|checkpoint| checkpoint.metadata(SPLIT_SEED)?.parse().ok())
        .unwrap_or(run.seed())
}

/// Checks that a model which goes on was made for the same columns.
fn check_columns(data: &Data, checkpoint: Option<&Checkpoint>) -> Result<(), Failure> {
    let Some(checkpoint) = checkpoint else {
        return Ok(());
    };
    let known = [
        (TARGET, data.target.clone()),
        (FEATURES, json!(data.features).to_string()),
    ];
    for (key, wanted) in known {
        let found = checkpoint.metadata(key).unwrap_or_default();
        if found != wanted {
            let id = checkpoint.model_id();
            return Err(Failure::failed(format!(
                "model {id} has the {key} `{found}`, but the action asks for `{wanted}`"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coefficients_in_the_columns_own_units_give_the_same_predictions() {
        let (mean, deviation) = ([10.0, -2.0], [2.0, 0.5]);
        let (weight, bias) = ([3.0, -1.0], 7.0);
        let function = Function::unscaled(&mean, &deviation, &weight, bias);

        let row = [13.0, -1.0];
        let standard = (0..2).map(|i| weight[i] * (row[i] - mean[i]) / deviation[i]);
        let expected = bias + standard.sum::<f64>();
        let found = (0..2)
            .map(|i| function.coefficients[i] * row[i])
            .sum::<f64>()
            + function.intercept;
        assert_eq!(found, expected);
    }
}
