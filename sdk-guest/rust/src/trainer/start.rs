//! What a trainer's tensors hold before its first step.

use std::collections::BTreeMap;

use super::step::{Owner, SavedState, TrainingStep};
use crate::checkpoint::{Checkpoint, Entry};
use crate::nn::{Initial, Role, StateSpec};
use crate::rng::Rng;
use crate::{CheckpointError, DType, Failure, ProgramError, Tensor};

/// Where a model's parameters come from.
#[derive(Debug)]
pub enum Start<'c> {
    /// From random numbers of this seed; the optimizer starts anew.
    Seed(u64),
    /// From a model that [`super::Trainer::save`] wrote; training goes on as if it had not
    /// ended, to the bit. A checkpoint that does not hold all of this optimizer's state
    /// gives the model's own tensors alone.
    Checkpoint(&'c Checkpoint<'c>),
    /// From tensors by name, all that the model asks for; the optimizer starts anew, and
    /// random numbers follow from the seed.
    Tensors(&'c BTreeMap<String, Tensor>, u64),
}

/// A tensor to begin with.
pub(super) enum Held<'h> {
    Made(Tensor),
    Given(&'h Tensor),
}

impl Held<'_> {
    pub(super) fn tensor(&self) -> &Tensor {
        match self {
            Self::Made(tensor) => tensor,
            Self::Given(tensor) => tensor,
        }
    }
}

impl Start<'_> {
    /// The saved states of a step before it runs, in their order.
    pub(super) fn state(&self, step: &TrainingStep) -> Result<Vec<Held<'_>>, Failure> {
        match self {
            Self::Seed(seed) => {
                let saved = step.saved.iter();
                saved
                    .map(|saved| Ok(Held::Made(initial(step, saved, *seed)?)))
                    .collect()
            }
            Self::Checkpoint(checkpoint) => restored(step, checkpoint),
            Self::Tensors(tensors, seed) => {
                let entries = tensors.iter().map(|(name, tensor)| Entry {
                    name: name.clone(),
                    dtype: tensor.dtype(),
                    shape: tensor.shape(),
                });
                let entries: Vec<Entry> = entries.collect();
                let saved = step.saved.iter();
                saved
                    .map(|saved| match source(step, saved) {
                        Some(spec) => {
                            check(&entries, spec)?;
                            Ok(Held::Given(&tensors[&spec.name]))
                        }
                        None => Ok(Held::Made(initial(step, saved, *seed)?)),
                    })
                    .collect()
            }
        }
    }
}

/// The tensor of the model that a state begins as: itself, or what it averages. None when
/// it is made up for a new training.
fn source<'s>(step: &'s TrainingStep, saved: &'s SavedState) -> Option<&'s StateSpec> {
    match saved.owner {
        Owner::Model if saved.spec.role == Role::Key => None,
        Owner::Model => Some(&saved.spec),
        Owner::Optimizer => None,
        Owner::Average(of) => Some(&step.saved[of].spec),
    }
}

fn initial(step: &TrainingStep, saved: &SavedState, seed: u64) -> Result<Tensor, ProgramError> {
    let spec = source(step, saved).unwrap_or(&saved.spec);
    let mut rng = Rng::new(seed, &spec.name);
    if spec.role == Role::Key {
        #[expect(clippy::cast_possible_truncation, reason = "32 of the random bits")]
        let seed = rng.next_u64() as u32;
        return Tensor::from_slice(&spec.shape, &[seed, 0]);
    }
    let count = saved.element_count()?;
    if spec.initial == Initial::Constant(0.0) {
        return Tensor::zeros(spec.dtype, &spec.shape);
    }
    let elements = spec.initial.elements(count, &mut rng);
    match spec.dtype {
        DType::F32 => Tensor::from_slice(&spec.shape, &elements),
        DType::F64 => {
            let elements: Vec<f64> = elements.into_iter().map(f64::from).collect();
            Tensor::from_slice(&spec.shape, &elements)
        }
        dtype => {
            let name = &spec.name;
            Err(ProgramError::InvalidArgument(format!(
                "`{name}` is {dtype}, so it can begin with zeros only"
            )))
        }
    }
}

fn restored<'h>(step: &TrainingStep, checkpoint: &Checkpoint) -> Result<Vec<Held<'h>>, Failure> {
    let entries = checkpoint.entries()?;
    for saved in &step.saved {
        if let (Owner::Model, Some(spec)) = (saved.owner, source(step, saved)) {
            check(&entries, spec)?;
        }
    }
    let holds = |spec: &StateSpec| check(&entries, spec).is_ok();
    let goes_on = step.saved.iter().all(|saved| holds(&saved.spec));
    let saved = step.saved.iter();
    saved
        .map(|saved| {
            let tensor = match source(step, saved) {
                _ if goes_on => checkpoint.load(&saved.spec.name)?,
                Some(spec) => checkpoint.load(&spec.name)?,
                None => initial(step, saved, checkpoint.model_id())?,
            };
            Ok(Held::Made(tensor))
        })
        .collect()
}

/// Checks that there is a tensor like `spec` among `entries`.
fn check(entries: &[Entry], spec: &StateSpec) -> Result<(), CheckpointError> {
    let StateSpec {
        name, dtype, shape, ..
    } = spec;
    let mut entries = entries.iter();
    let Some(found) = entries.find(|entry| entry.name == *name) else {
        return Err(CheckpointError::UnknownTensor(name.clone()));
    };
    if found.dtype != *dtype || found.shape != *shape {
        let (found_dtype, found_shape) = (found.dtype, &found.shape);
        return Err(CheckpointError::Mismatch(format!(
            "the checkpoint's `{name}` is {found_dtype} {found_shape:?}, but the model needs {dtype} {shape:?}"
        )));
    }
    Ok(())
}
