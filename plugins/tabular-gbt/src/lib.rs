//! Gradient-boosted trees for a column of a table: a model that is no neural network, learnt
//! by the plugin itself.
//!
//! The host reads the table; bins, derivatives, histograms, trees and predictions are this
//! crate's own code, with SIMD128 where it pays. Start reading at `boost`, then `grow`.

mod bins;
mod boost;
mod data;
mod grow;
mod lanes;
mod model;
pub mod native;
mod settings;
mod tree;

use std::time::Instant;

use serde_json::{Map, Value, json};
use trainshed_sdk::rng::Rng;
use trainshed_sdk::run::Metric;
use trainshed_sdk::{About, Category, Checkpoint, Dataset, Failure, ModelDetails, Run, Train};

use boost::{Booster, Fit};
use data::{Columns, Data};
use model::Model;
use settings::Settings;

struct TabularGbt;

trainshed_sdk::export_train!(TabularGbt);

/// How many features the result names, the most important ones.
const NAMED_FEATURES: usize = 20;

impl Train for TabularGbt {
    const ABOUT: About = trainshed_sdk::about!(Category::Tabular);
    const SUMMARY: &'static str = "Grows trees that predict a column of a table.";
    type Hyperparameters = Settings;

    fn train(
        run: &Run,
        dataset: &Dataset,
        settings: Settings,
        checkpoint: Option<&Checkpoint>,
    ) -> Result<Value, Failure> {
        settings.check()?;
        let data = Data::find(dataset, &settings)?;
        let before = checkpoint.map(|checkpoint| restored(checkpoint, &data.columns));
        let before = before.transpose()?;
        let split_seed = split_seed(run, checkpoint);
        let split = Rng::new(split_seed, "split").split(data.rows, settings.validation_fraction);
        if split.train.is_empty() || split.validation.is_empty() {
            return Err(Failure::failed(format!(
                "{} rows are too few to divide into those to learn from and those to judge by",
                data.rows
            )));
        }
        let loaded = data.load(&split, settings.bins, before.as_ref())?;
        let examples = &loaded.examples;
        let mut model = before.unwrap_or_else(|| Model {
            trees: Vec::new(),
            base: boost::base(&examples.targets, examples.learning),
            mean: loaded.mean,
            classes: loaded.classes.clone(),
        });
        run.set_progress("dataset", 1, 1)?;
        let (rows, features, first) = (data.rows, examples.features.len(), model.rounds());
        println!("{rows} rows, {features} features, after round {first}");

        let scores = loaded.scores(&model)?;
        let mut booster = Booster::new(examples, settings.boosting(run.seed()), scores);
        let save = |model: &Model, name: &str, rounds: usize| -> Result<(), Failure> {
            let details = details(&data.columns, model, rounds, split_seed);
            Ok(run.save_model(name, &model.tensors(rounds)?, &details)?)
        };
        let [_, judged] = booster.fits();
        let mut best = Best {
            rounds: first,
            judged,
        };
        let wanted = u64::from(settings.rounds);
        let started = Instant::now();
        for done in 1..=wanted {
            let round = model.rounds();
            let Some(trees) = booster.round(round as u64, || run.stopping()) else {
                save(&model, "last", round)?;
                return Err(Failure::Stopped);
            };
            model.trees.extend(trees);
            let round = round + 1;
            let [learnt, judged] = booster.fits();
            log_round(run, round, &learnt, &judged)?;
            run.set_progress("train", done, wanted)?;
            if done == 1 || judged.loss < best.judged.loss {
                best = Best {
                    rounds: round,
                    judged,
                };
            }
            let patience = settings.patience as usize;
            if patience > 0 && round - best.rounds >= patience {
                println!(
                    "round {round} ends it: none was better since {}",
                    best.rounds
                );
                run.set_progress("train", wanted, wanted)?;
                break;
            }
            if done < wanted && settings.saves_after(done) {
                save(&model, "last", round)?;
            }
        }
        let ms = started.elapsed().as_secs_f64() * 1e3;
        println!("{} rounds in {ms:.0} ms", model.rounds() - first);
        run.report_single("boosting ms", ms)?;
        save(&model, "last", model.rounds())?;
        save(&model, "best", best.rounds)?;
        run.set_checkpoint_output("best")?;
        finish(run, &data.columns, &model, &best)
    }
}

/// The round that did best on the held-back rows; its model is the task's result.
struct Best {
    rounds: usize,
    judged: Fit,
}

impl Fit {
    /// Its measurements under their names.
    fn named(&self) -> impl Iterator<Item = (&'static str, f64)> {
        let loss = if self.accuracy.is_some() {
            "loss"
        } else {
            "mse"
        };
        let others = [
            ("accuracy", self.accuracy),
            ("mae", self.absolute),
            ("r2", self.r2),
        ];
        let others = others.into_iter();
        std::iter::once((loss, self.loss))
            .chain(others.filter_map(|(name, value)| Some((name, value?))))
    }
}

fn log_round(run: &Run, round: usize, learnt: &Fit, judged: &Fit) -> Result<(), Failure> {
    let mut metrics = Vec::new();
    for (category, fit) in [("train", learnt), ("validation", judged)] {
        metrics.extend(fit.named().map(|(key, value)| Metric {
            category,
            key,
            value,
            extra: json!({ "iteration": round }),
        }));
    }
    Ok(run.log_metrics(&metrics)?)
}

fn finish(run: &Run, columns: &Columns, model: &Model, best: &Best) -> Result<Value, Failure> {
    let mut result = Map::new();
    for (name, value) in best.judged.named() {
        run.report_single(&format!("validation {name}"), value)?;
        result.insert(name.to_owned(), json!(value));
    }
    let mut importance: Vec<(&String, f64)> = columns
        .features
        .iter()
        .zip(model.importance(columns.features.len()))
        .collect();
    importance.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    importance.truncate(NAMED_FEATURES);
    let importance: Map<String, Value> = importance
        .into_iter()
        .map(|(name, share)| (name.clone(), json!(share)))
        .collect();
    result.insert("best_round".to_owned(), json!(best.rounds));
    result.insert("rounds".to_owned(), json!(model.rounds()));
    result.insert("importance".to_owned(), Value::Object(importance));
    Ok(Value::Object(result))
}

const TARGET: &str = "target";
const FEATURES: &str = "features";
const OBJECTIVE: &str = "objective";
const CLASSES: &str = "classes";
/// The key under which a model keeps the seed of the split that it was trained with.
const SPLIT_SEED: &str = "split seed";

fn details(columns: &Columns, model: &Model, rounds: usize, split_seed: u64) -> ModelDetails {
    let metadata = described(columns).into_iter().chain([
        (CLASSES, json!(model.classes).to_string()),
        (SPLIT_SEED, split_seed.to_string()),
    ]);
    ModelDetails {
        iteration: rounds as u64,
        labels: model.classes.iter().cloned().zip(0..).collect(),
        metadata: metadata.map(|(key, text)| (key.to_owned(), text)).collect(),
    }
}

/// What a model and a run that goes on from it must agree on.
fn described(columns: &Columns) -> [(&'static str, String); 3] {
    [
        (TARGET, columns.target.clone()),
        (FEATURES, json!(columns.features).to_string()),
        (OBJECTIVE, json!(columns.objective).to_string()),
    ]
}

/// The seed that divides the rows: the checkpoint's own, so that a model which goes on is
/// still judged by rows that it has not seen.
fn split_seed(run: &Run, checkpoint: Option<&Checkpoint>) -> u64 {
    checkpoint
        .and_then(|checkpoint| checkpoint.metadata(SPLIT_SEED)?.parse().ok())
        .unwrap_or(run.seed())
}

/// The model to go on from, which was made for the same columns.
fn restored(checkpoint: &Checkpoint, columns: &Columns) -> Result<Model, Failure> {
    for (key, wanted) in described(columns) {
        let found = checkpoint.metadata(key).unwrap_or_default();
        if found != wanted {
            let id = checkpoint.model_id();
            return Err(Failure::failed(format!(
                "model {id} has the {key} `{found}`, but the action asks for `{wanted}`"
            )));
        }
    }
    let classes = checkpoint.metadata(CLASSES).unwrap_or_default();
    let classes = serde_json::from_str(&classes)?;
    Model::restored(checkpoint, columns.features.len(), classes)
}
