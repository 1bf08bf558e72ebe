//! A model of all sorts of layers and a recipe with everything, whose training must go on
//! from a checkpoint as if it had not ended.

use serde_json::{Value, json};
use trainshed_sdk::nn::{
    Activation, AdamW, BatchNorm, Cosine, Dropout, InType, Linear, Measured, Module, Residual,
    Sequential, WarmUp, cross_entropy,
};
use trainshed_sdk::rng::Rng;
use trainshed_sdk::trainer::{Column, Recipe, Start, Trainer};
use trainshed_sdk::{Checkpoint, DType, Failure, ModelDetails, Run, Tensor};

const ROWS: u32 = 50;
const INPUTS: usize = 6;
const CLASSES: i32 = 3;
/// Rows that the program beside the model predicts at once.
const PREDICTED: usize = 2;
/// Seven batches an epoch, of which three make a step: an epoch ends between two steps.
const BATCH: u32 = 7;
const BATCHES_PER_STEP: u32 = 3;

pub(crate) fn train(
    run: &Run,
    checkpoint: Option<&Checkpoint>,
    epochs: u64,
) -> Result<Value, Failure> {
    let mut rng = Rng::new(1, "data");
    let x: Vec<f32> = (0..ROWS as usize * INPUTS).map(|_| rng.normal()).collect();
    let x = Tensor::from_slice(&[ROWS as usize, INPUTS], &x)?;
    let labels: Vec<i32> = (0..CLASSES).cycle().take(ROWS as usize).collect();
    let labels = Tensor::from_slice(&[ROWS as usize], &labels)?;

    let block = Sequential::new()
        .then(Linear::new(8, 8))
        .then(BatchNorm::new(8))
        .then(Activation::GeluExact)
        .then(Dropout { rate: 0.2 });
    let network = Sequential::new()
        .then(Linear::new(INPUTS, 8))
        .then(Residual::new(InType::new(DType::Bf16, block)))
        .then(Dropout { rate: 0.1 })
        .then(Linear::new(8, 3));
    let recipe = Recipe::new(AdamW::default())
        .freeze(|spec| spec.name == "0.bias")
        .group(|spec| spec.shape.len() < 2, AdamW::default(), 0.5)
        .clip_norm(0.5)
        .accumulate(BATCHES_PER_STEP)
        .average(0.9);
    let rates = WarmUp {
        steps: 3,
        start: 0.1,
        then: Cosine {
            base: 0.05,
            steps: 20,
            minimum: 0.0,
        },
    };
    let start = checkpoint.map_or(Start::Seed(run.seed()), Start::Checkpoint);
    let columns = [&x, &labels];
    let mut trainer = Trainer::new(
        &columns.map(Column::of),
        BATCH,
        |scope, batch| {
            let logits = network.forward(scope, &batch[0]);
            Measured::new(cross_entropy(&logits, &batch[1]), logits)
        },
        recipe,
        &start,
    )?;
    let first = checkpoint.map_or(0, Checkpoint::iteration);
    let all: Vec<u32> = (0..ROWS).collect();
    for epoch in first..first + epochs {
        let order = Rng::new(run.seed(), &format!("epoch {epoch}")).permutation(ROWS);
        let trained = trainer.epoch(&columns, &order, &rates, || run.stopping())?;
        let trained = trained.ok_or(Failure::Stopped)?;
        let judged = trainer.evaluate(&columns, &all)?;
        run.report_scalar("train", "loss", trained.loss, epoch)?;
        run.report_scalar("judged", "loss", judged.loss, epoch)?;
        let details = ModelDetails {
            iteration: epoch + 1,
            ..ModelDetails::default()
        };
        let inputs = [("x", DType::F32, &[PREDICTED, INPUTS][..])];
        trainer.save_with_program(run, "last", &details, &inputs, |scope, inputs| {
            vec![network.forward(scope, &inputs[0])]
        })?;
    }
    let halves = Tensor::from_slice(&[PREDICTED, INPUTS], &[0.5f32; PREDICTED * INPUTS])?;
    let zeros = Tensor::from_slice(&[PREDICTED], &[0i32; PREDICTED])?;
    let predicted = trainer.predict_all(&[&halves, &zeros], &[0, 1])?;
    Ok(json!({ "steps": trainer.steps()?, "predicted": predicted.to_vec::<f32>()? }))
}
