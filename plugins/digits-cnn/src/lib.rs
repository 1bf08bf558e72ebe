//! A convolutional network that reads handwritten digits.
//!
//! It trains on four fifths of a table with the columns `pixel_0` … and `label`, whose
//! pictures it moves about at random, judges by the rest after every epoch, and saves the
//! model that did best. Start reading at `network`.

mod data;
mod network;
mod settings;

use serde_json::{Value, json};
use trainshed_sdk::rng::Rng;
use trainshed_sdk::run::Metric;
use trainshed_sdk::trainer::{Column, Start, Summary, Trainer};
use trainshed_sdk::{About, Category, Checkpoint, Dataset, Failure, ModelDetails, Run, Train};

use data::Pictures;
use network::Network;
use settings::Settings;

struct DigitsCnn;

trainshed_sdk::export_train!(DigitsCnn);

impl Train for DigitsCnn {
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
        let pictures = Pictures::load(dataset)?;
        let kept = Kept::of(run, &pictures, checkpoint);
        let mut rng = Rng::new(kept.split_seed, "split");
        let split = rng.split(pictures.rows, settings.validation_fraction);
        let batch = u32::try_from(split.train.len()).unwrap_or(u32::MAX);
        let batch = batch.min(settings.batch_size);
        if batch < 2 || split.validation.is_empty() {
            return Err(Failure::failed(format!(
                "{} rows are too few to divide into those to learn from and those to judge by",
                pictures.rows
            )));
        }
        run.set_progress("dataset", 1, 1)?;

        let network = Network::new(pictures.side, kept.scale, pictures.classes, &settings);
        let columns = [&pictures.x, &pictures.labels];
        let start = checkpoint.map_or(Start::Seed(run.seed()), Start::Checkpoint);
        let mut trainer = Trainer::new(
            &columns.map(Column::of),
            batch,
            |scope, batch| network.measured(scope, &batch[0], &batch[1]),
            settings.recipe(),
            &start,
        )?;
        let first = checkpoint.map_or(0, Checkpoint::iteration);
        let (rows, numbers) = (pictures.rows, trainer.parameter_count());
        println!("{rows} pictures, {numbers} parameters, after epoch {first}");

        let save = |trainer: &Trainer, name: &str, epoch: u64| {
            trainer.save(run, name, &kept.details(&network, epoch))
        };
        let rates = settings.rates(split.train.len() as u64 / u64::from(batch));
        let mut best = Best {
            epoch: first,
            judged: trainer.evaluate(&columns, &split.validation)?,
        };
        let epochs = u64::from(settings.epochs);
        for done in 1..=epochs {
            let epoch = first.saturating_add(done);
            let mut order = split.train.clone();
            Rng::new(run.seed(), &format!("epoch {epoch}")).shuffle(&mut order);
            let Some(trained) = trainer.epoch(&columns, &order, &rates, || run.stopping())? else {
                save(&trainer, "last", epoch - 1)?;
                return Err(Failure::Stopped);
            };
            let judged = trainer.evaluate(&columns, &split.validation)?;
            log_epoch(run, epoch, &trained, &judged)?;
            run.set_progress("train", done, epochs)?;

            if done == 1 || judged.is_better_than(&best.judged) {
                best = Best { epoch, judged };
                save(&trainer, "best", epoch)?;
            }
            if settings.saves_after(done) {
                save(&trainer, "last", epoch)?;
            }
        }
        run.set_checkpoint_output("best")?;

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

/// The model that did best on the held-back rows; it is the task's result.
struct Best {
    epoch: u64,
    judged: Summary,
}

/// What a model keeps beside its tensors, so that one that goes on from it sees the same
/// pictures and is still judged by rows that it has not seen.
struct Kept {
    split_seed: u64,
    scale: f64,
}

const SPLIT_SEED: &str = "split seed";
const SCALE: &str = "scale";

impl Kept {
    fn of(run: &Run, pictures: &Pictures, checkpoint: Option<&Checkpoint>) -> Self {
        let text = |key: &str| checkpoint.and_then(|checkpoint| checkpoint.metadata(key));
        let seed = text(SPLIT_SEED).and_then(|text| text.parse().ok());
        let scale = text(SCALE).and_then(|text| text.parse().ok());
        Self {
            split_seed: seed.unwrap_or(run.seed()),
            scale: scale.unwrap_or(pictures.greatest),
        }
    }

    fn details(&self, network: &Network, epoch: u64) -> ModelDetails {
        let metadata = [
            (SPLIT_SEED, self.split_seed.to_string()),
            (SCALE, self.scale.to_string()),
            ("channels", json!(network.channels).to_string()),
            ("side", network.side.to_string()),
        ];
        let labels = (0..).take(network.classes);
        ModelDetails {
            iteration: epoch,
            labels: labels
                .map(|class: i64| (class.to_string(), class))
                .collect(),
            metadata: metadata.map(|(key, text)| (key.to_owned(), text)).into(),
        }
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
