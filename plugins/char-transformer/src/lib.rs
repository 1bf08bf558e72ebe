//! A small GPT that learns to write like a text, character by character.
//!
//! It learns from random windows of nine tenths of the text, judges by the rest, and writes
//! a few words after every epoch. Start reading at `network`.

mod network;
mod settings;
mod text;

use std::path::Path;

use serde_json::{Value, json};
use trainshed_sdk::rng::Rng;
use trainshed_sdk::run::{Level, Metric};
use trainshed_sdk::trainer::{Start, Trainer};
use trainshed_sdk::{
    About, Category, Checkpoint, Dataset, Failure, ModelDetails, Run, Tensor, Train,
};

use network::Network;
use settings::Settings;
use text::{Text, draw};

struct CharTransformer;

trainshed_sdk::export_train!(CharTransformer);

impl Train for CharTransformer {
    const ABOUT: About = trainshed_sdk::about!(Category::NeuralNet);
    const SUMMARY: &'static str = "Trains the network on a text and shows how it writes.";
    type Hyperparameters = Settings;

    fn train(
        run: &Run,
        _dataset: &Dataset,
        settings: Settings,
        checkpoint: Option<&Checkpoint>,
    ) -> Result<Value, Failure> {
        settings.check()?;
        let vocabulary = checkpoint.map(vocabulary_of).transpose()?;
        let share = settings.validation_fraction;
        let text = Text::read(Path::new("/dataset"), share, vocabulary)?;
        let window = settings.context as usize + 1;
        text.check(window)?;
        let (judging, count) = text.judging_windows(window)?;
        let judged_rows: Vec<u32> = (0..count).collect();
        run.set_progress("dataset", 1, 1)?;

        let network = Network::new(text.vocabulary.len(), &settings);
        let start = checkpoint.map_or(Start::Seed(run.seed()), Start::Checkpoint);
        let mut trainer = Trainer::new(
            &[network.window()],
            settings.batch_size,
            |scope, batch| network.measured(scope, &batch[0]),
            settings.recipe(),
            &start,
        )?;
        let first = checkpoint.map_or(0, Checkpoint::iteration);
        println!(
            "{} characters to learn from, {} to judge by, {} different; {} parameters, after epoch {first}",
            text.learning.len(),
            text.judging.len(),
            text.vocabulary.len(),
            trainer.parameter_count()
        );

        let save = |trainer: &Trainer, name: &str, epoch: u64| {
            trainer.save(run, name, &details(&text, &network, epoch))
        };
        let rates = settings.rates();
        let windows = settings.steps_per_epoch * settings.batch_size;
        let order: Vec<u32> = (0..windows).collect();
        let mut best = Best {
            epoch: first,
            loss: trainer.evaluate(&[&judging], &judged_rows)?.loss,
        };
        let epochs = u64::from(settings.epochs);
        for done in 1..=epochs {
            let epoch = first.saturating_add(done);
            let mut rng = Rng::new(run.seed(), &format!("epoch {epoch}"));
            let batches = text.random_windows(&mut rng, windows as usize, window)?;
            let trained = trainer.epoch(&[&batches], &order, &rates, || run.stopping())?;
            let Some(trained) = trained else {
                save(&trainer, "last", epoch - 1)?;
                return Err(Failure::Stopped);
            };
            let judged = trainer.evaluate(&[&judging], &judged_rows)?;
            log_epoch(run, epoch, trained.loss, judged.loss)?;
            let sample = sample(&text, &mut trainer, &mut rng, &settings)?;
            run.report_text(Level::Info, &format!("epoch {epoch} writes: {sample}"))?;
            run.set_progress("train", done, epochs)?;

            if done == 1 || judged.loss < best.loss {
                let loss = judged.loss;
                best = Best { epoch, loss };
                save(&trainer, "best", epoch)?;
            }
            if settings.saves_after(done) {
                save(&trainer, "last", epoch)?;
            }
        }
        run.set_checkpoint_output("best")?;

        run.report_single("validation loss", best.loss)?;
        run.report_single("validation perplexity", best.loss.exp())?;
        Ok(json!({
            "loss": best.loss,
            "perplexity": best.loss.exp(),
            "best_epoch": best.epoch,
            "epochs": first.saturating_add(epochs),
        }))
    }
}

/// The model that did best on the held-back text; it is the task's result.
struct Best {
    epoch: u64,
    loss: f64,
}

/// The key under which a model keeps its characters.
const VOCABULARY: &str = "vocabulary";

fn vocabulary_of(checkpoint: &Checkpoint) -> Result<Vec<char>, Failure> {
    let text = checkpoint.metadata(VOCABULARY).ok_or_else(|| {
        let id = checkpoint.model_id();
        Failure::failed(format!("model {id} does not say which characters it knows"))
    })?;
    let mut characters: Vec<char> = text.chars().collect();
    characters.sort_unstable();
    Ok(characters)
}

fn details(text: &Text, network: &Network, epoch: u64) -> ModelDetails {
    let metadata = [
        (VOCABULARY, text.vocabulary.iter().collect()),
        ("context", network.context.to_string()),
        ("heads", network.heads.to_string()),
    ];
    ModelDetails {
        iteration: epoch,
        labels: Vec::new(),
        metadata: metadata.map(|(key, text)| (key.to_owned(), text)).into(),
    }
}

fn log_epoch(run: &Run, epoch: u64, trained: f64, judged: f64) -> Result<(), Failure> {
    let mut metrics = Vec::new();
    for (category, loss) in [("train", trained), ("validation", judged)] {
        for (key, value) in [("loss", loss), ("perplexity", loss.exp())] {
            metrics.push(Metric {
                category,
                key,
                value,
                extra: json!({ "epoch": epoch }),
            });
        }
    }
    run.log_metrics(&metrics)?;
    println!("epoch {epoch}: train loss {trained:.4}, validation loss {judged:.4}");
    Ok(())
}

/// What the model writes behind the first words that it is judged by.
fn sample(
    text: &Text,
    trainer: &mut Trainer,
    rng: &mut Rng,
    settings: &Settings,
) -> Result<String, Failure> {
    let context = settings.context as usize;
    let mut written = text.judging[..context].to_vec();
    for _ in 0..settings.sample_length {
        // A window ends with the character that is to be told: any does.
        let window = [&written[written.len() - context..], &[0]].concat();
        let window = Tensor::from_slice(&[1, context + 1], &window)?;
        for logits in trainer.predict(&[&window], &[0])? {
            let logits: Vec<f32> = logits.to_vec()?;
            written.push(draw(rng, &logits, settings.temperature));
        }
    }
    Ok(text.line(&written[context..]))
}
