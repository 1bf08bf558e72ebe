//! A multi-layer perceptron that reads handwritten digits.
//!
//! It trains on four fifths of a table with the columns `pixel_0` … and `label`, judges
//! by the rest after every epoch, and saves the model that did best.

mod data;
mod settings;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use trainshed_sdk::artifact::TableFormat;
use trainshed_sdk::nn::{Mlp, classification};
use trainshed_sdk::rng::Rng;
use trainshed_sdk::run::{Decision, Metric};
use trainshed_sdk::trainer::{Column, Start, Summary, Trainer};
use trainshed_sdk::{
    About, Category, Checkpoint, Dataset, Failure, ModelDetails, Run, Tensor, Train, image,
};

use data::Digits;
use settings::Settings;

struct DigitsMlp;

trainshed_sdk::export_train!(DigitsMlp);

/// How many wrongly read digits are shown at the end.
const SHOWN_MISTAKES: usize = 8;

impl Train for DigitsMlp {
    const ABOUT: About = trainshed_sdk::about!(Category::NeuralNet);
    const SUMMARY: &'static str = "Trains the network and judges it by rows that it has not seen.";
    type Hyperparameters = Settings;

    fn train(
        run: &Run,
        dataset: &Dataset,
        settings: Settings,
        checkpoint: Option<&Checkpoint>,
    ) -> Result<Value, Failure> {
        settings.check()?;
        let digits = Digits::load(dataset)?;
        let split_seed = split_seed(run, checkpoint);
        let split = Rng::new(split_seed, "split").split(digits.rows, settings.validation_fraction);
        let batch = settings.batch_size.min(digits.row_count(&split.train)?);
        digits.row_count(&split.validation)?;
        run.set_progress("dataset", 1, 1)?;

        let network = Mlp {
            inputs: digits.pixels.len(),
            hidden: settings.hidden.clone(),
            outputs: digits.classes,
            activation: settings.activation,
            dropout: settings.dropout_rate,
        };
        let columns = [&digits.x, &digits.labels];
        let start = checkpoint.map_or(Start::Seed(run.seed()), Start::Checkpoint);
        let mut trainer = Trainer::new(
            &columns.map(Column::of),
            batch,
            |scope, batch| classification(&network, scope, &batch[0], &batch[1]),
            settings.optimizer(),
            &start,
        )?;
        let first = checkpoint.map_or(0, Checkpoint::iteration);
        let trial = run.trial_id();
        let kept = TrialProgress::of(checkpoint, trial.as_deref());
        let begun = kept.as_ref().map_or(first, |kept| kept.begun);
        let (rows, numbers) = (digits.rows, trainer.parameter_count());
        println!("{rows} digits, {numbers} parameters, after epoch {first}");

        let save =
            |trainer: &Trainer, name: &str, epoch: u64, judged: Option<&Summary>, best: &Best| {
                let mut details = details(&digits, &settings, epoch, judged);
                let seed = (SPLIT_SEED.to_owned(), split_seed.to_string());
                details.metadata.push(seed);
                if let Some(id) = trial.clone() {
                    let progress = TrialProgress {
                        id,
                        begun,
                        best_epoch: best.epoch,
                        best_accuracy: best.judged.accuracy,
                        best_loss: Some(best.judged.loss).filter(|loss| loss.is_finite()),
                    };
                    details
                        .metadata
                        .push((TRIAL.to_owned(), json!(progress).to_string()));
                }
                trainer.save(run, name, &details)
            };
        // Its best model is there already where a trial goes on that was cut off; one that
        // was copied from another has none yet.
        let own = kept.filter(|kept| trial.as_ref() == Some(&kept.id));
        let is_saved = own.is_some();
        let mut best = match own {
            Some(own) => own.best(),
            None => Best {
                epoch: first,
                judged: trainer.evaluate(&columns, &split.validation)?,
            },
        };
        let epochs = (begun + u64::from(settings.epochs)).saturating_sub(first);
        if epochs == 0 && !is_saved {
            // The model has to be this run's.
            save(&trainer, "best", first, Some(&best.judged), &best)?;
        }
        for done in 1..=epochs {
            let epoch = first.saturating_add(done);
            let mut order = split.train.clone();
            Rng::new(run.seed(), &format!("epoch {epoch}")).shuffle(&mut order);
            let stopping = || run.stopping();
            let Some(trained) =
                trainer.epoch(&columns, &order, &settings.learning_rate, stopping)?
            else {
                save(&trainer, "last", epoch - 1, None, &best)?;
                return Err(Failure::Stopped);
            };
            let judged = trainer.evaluate(&columns, &split.validation)?;
            log_epoch(run, epoch, &trained, &judged)?;
            run.set_progress("train", done, epochs)?;

            let measured = measured(&judged);
            if (done == 1 && !is_saved) || judged.is_better_than(&best.judged) {
                best = Best { epoch, judged };
                save(&trainer, "best", epoch, Some(&judged), &best)?;
            }
            // A trial that is paused, or copied, goes on from here.
            let saved = settings.saves_after(done) || run.trial_id().is_some();
            if saved {
                save(&trainer, "last", epoch, Some(&judged), &best)?;
            }
            if run.report(&measured, saved.then_some("last"))? == Decision::Stop {
                return Err(Failure::Stopped);
            }
        }
        run.set_checkpoint_output("best")?;

        let predicted = predictions(&mut trainer, &digits, &split.validation)?;
        show_mistakes(run, &digits, &predicted, &split.validation)?;
        if run.trial_id().is_none() {
            keep_predictions(run, &digits, predicted, &split.validation)?;
        }
        let Best { epoch, judged } = best;
        run.report_single("validation accuracy", judged.accuracy.unwrap_or(f64::NAN))?;
        run.report_single("validation loss", judged.loss)?;
        Ok(json!({
            "accuracy": judged.accuracy,
            "loss": judged.loss,
            "best_epoch": epoch,
            "epochs": first.saturating_add(epochs),
        }))
    }
}

/// What a trial reports after an epoch.
fn measured(judged: &Summary) -> Value {
    let accuracy = judged.accuracy.unwrap_or(f64::NAN);
    json!({
        "accuracy": accuracy,
        "validation_accuracy": accuracy,
        "loss": judged.loss,
        "validation_loss": judged.loss,
    })
}

/// The model that did best on the held-back rows; it is the task's result.
struct Best {
    epoch: u64,
    judged: Summary,
}

/// How far a trial is, so that it goes on as if it had not been cut off.
#[derive(Serialize, Deserialize)]
struct TrialProgress {
    id: String,
    /// The epoch behind which it began.
    begun: u64,
    best_epoch: u64,
    best_accuracy: Option<f64>,
    /// None where it is not finite, which JSON cannot say.
    best_loss: Option<f64>,
}

impl TrialProgress {
    /// What a trial of the same search has left in the checkpoint that `trial` goes on from.
    fn of(checkpoint: Option<&Checkpoint>, trial: Option<&str>) -> Option<Self> {
        let kept: Self = serde_json::from_str(&checkpoint?.metadata(TRIAL)?).ok()?;
        let search = |id: &str| id.split_once('_').map(|(search, _)| search.to_owned());
        (search(trial?) == search(&kept.id)).then_some(kept)
    }

    fn best(&self) -> Best {
        Best {
            epoch: self.best_epoch,
            judged: Summary {
                loss: self.best_loss.unwrap_or(f64::NAN),
                accuracy: self.best_accuracy,
                rows: 0,
            },
        }
    }
}

/// The key under which the models of a trial keep its [`TrialProgress`], as JSON.
const TRIAL: &str = "trial";
/// The key under which a model keeps the seed of the split that it was trained with.
const SPLIT_SEED: &str = "split seed";

/// The seed that divides the rows: the checkpoint's own, so that a model which goes on is
/// still judged by rows that it has not seen.
fn split_seed(run: &Run, checkpoint: Option<&Checkpoint>) -> u64 {
    checkpoint
        .and_then(|checkpoint| checkpoint.metadata(SPLIT_SEED)?.parse().ok())
        .unwrap_or(run.seed())
}

fn details(
    digits: &Digits,
    settings: &Settings,
    epoch: u64,
    judged: Option<&Summary>,
) -> ModelDetails {
    let mut metadata = vec![
        ("hidden".to_owned(), json!(settings.hidden).to_string()),
        (
            "activation".to_owned(),
            json!(settings.activation).to_string(),
        ),
        ("inputs".to_owned(), json!(digits.pixels).to_string()),
    ];
    if let Some(judged) = judged {
        let accuracy = judged.accuracy.unwrap_or(f64::NAN);
        metadata.push(("validation accuracy".to_owned(), accuracy.to_string()));
    }
    ModelDetails {
        iteration: epoch,
        labels: (0..)
            .take(digits.classes)
            .map(|class: i64| (class.to_string(), class))
            .collect(),
        metadata,
    }
}

fn log_epoch(run: &Run, epoch: u64, trained: &Summary, judged: &Summary) -> Result<(), Failure> {
    let mut metrics = Vec::new();
    for (category, summary) in [("train", trained), ("validation", judged)] {
        let accuracy = summary.accuracy.unwrap_or(f64::NAN);
        for (key, value) in [("loss", summary.loss), ("accuracy", accuracy)] {
            metrics.push(Metric {
                category,
                key,
                value,
                extra: json!({ "epoch": epoch }),
            });
        }
    }
    run.log_metrics(&metrics)?;
    let accuracy = judged.accuracy.unwrap_or(f64::NAN);
    println!(
        "epoch {epoch}: train loss {:.4}, validation loss {:.4}, validation accuracy {accuracy:.4}",
        trained.loss, judged.loss
    );
    Ok(())
}

/// The classes that the model, as it is at the end, takes the digits of `rows` for.
fn predictions(trainer: &mut Trainer, digits: &Digits, rows: &[u32]) -> Result<Vec<i32>, Failure> {
    let mut predicted = Vec::with_capacity(rows.len());
    for part in trainer.predict(&[&digits.x, &digits.labels], rows)? {
        predicted.extend(part.to_vec::<i32>()?);
    }
    Ok(predicted)
}

/// Keeps what the model took each digit of `rows` for, and how often which for which.
fn keep_predictions(
    run: &Run,
    digits: &Digits,
    predicted: Vec<i32>,
    rows: &[u32],
) -> Result<(), Failure> {
    let labels: Vec<i32> = digits.labels.to_vec()?;
    let labels: Vec<i32> = rows.iter().map(|&row| labels[row as usize]).collect();
    let mut counts = vec![0_i64; digits.classes * digits.classes];
    for (&label, &predicted) in labels.iter().zip(&predicted) {
        let place = |class: i32| usize::try_from(class).ok();
        let cell = place(label).zip(place(predicted));
        let cell = cell.map(|(row, column)| row * digits.classes + column);
        if let Some(count) = cell.and_then(|cell| counts.get_mut(cell)) {
            *count += 1;
        }
    }
    let artifacts = run.artifacts();
    let columns = vec![
        ("row", rows.to_vec().into()),
        ("label", labels.into()),
        ("predicted", predicted.into()),
    ];
    artifacts.put_table("predictions", columns, TableFormat::CsvGz)?;
    let counts = Tensor::from_slice(&[digits.classes; 2], &counts)?;
    artifacts
        .with_note("rows", "labels")
        .with_note("columns", "what they were taken for")
        .put_tensors("confusion", &[("counts", &counts)])?;
    Ok(())
}

/// Shows the first digits among `rows` that the model reads wrongly.
fn show_mistakes(
    run: &Run,
    digits: &Digits,
    predicted: &[i32],
    rows: &[u32],
) -> Result<(), Failure> {
    let Some(side) = digits.side() else {
        return Ok(());
    };
    let labels: Vec<i32> = digits.labels.to_vec()?;
    let pixels: Vec<f32> = digits.x.to_vec()?;
    let mistakes = rows
        .iter()
        .map(|&row| row as usize)
        .zip(predicted.iter().copied())
        .filter(|&(row, predicted)| labels[row] != predicted)
        .take(SHOWN_MISTAKES);
    for (index, (row, predicted)) in (0..).zip(mistakes) {
        let width = digits.pixels.len();
        let picture = image::gray_png(&pixels[row * width..(row + 1) * width], side, side)?;
        let extra = json!({ "row": row, "label": labels[row], "predicted": predicted });
        run.log_visualization("validation", "misread", index, &picture, extra)?;
    }
    Ok(())
}
