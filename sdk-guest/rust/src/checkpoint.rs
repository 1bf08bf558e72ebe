//! The model that an action goes on from, and what is known about one that is saved.

use std::collections::BTreeMap;

use crate::bindings::imports::trainshed::plugin as raw;
use crate::compute::{Attribute, Executable, Program, Session};
use crate::{CheckpointError, DType, Failure, Tensor};

/// The model that the action goes on from.
#[derive(Debug)]
pub struct Checkpoint<'a> {
    raw: &'a raw::checkpoint::Checkpoint,
}

/// One named tensor of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name, e.g. `hidden.0.weight`.
    pub name: String,
    /// Its element type.
    pub dtype: DType,
    /// Its shape.
    pub shape: Vec<usize>,
}

/// What is known about a saved model beside its weights.
#[derive(Debug, Clone, Default)]
pub struct ModelDetails {
    /// The iteration (usually the epoch) it belongs to.
    pub iteration: u64,
    /// Class names with their numbers, empty when there are none.
    pub labels: Vec<(String, i64)>,
    /// Texts that [`Checkpoint::metadata`] gives back, e.g. the model's design; keys are
    /// unique, all together at most 64 KiB.
    pub metadata: Vec<(String, String)>,
}

/// Which snapshots of a name stay; all of them where both numbers are 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Keep {
    /// So many with the best scores; of equal ones the later are better.
    pub best: u32,
    /// So many of the last iterations.
    pub last: u32,
    /// Whether a smaller score is the better one.
    pub smaller_is_better: bool,
}

impl<'a> Checkpoint<'a> {
    pub(crate) fn new(raw: &'a raw::checkpoint::Checkpoint) -> Self {
        Self { raw }
    }

    /// The id of the model.
    pub fn model_id(&self) -> u64 {
        self.raw.model_id()
    }

    /// The iteration at which it was saved.
    pub fn iteration(&self) -> u64 {
        self.raw.iteration()
    }

    /// The text that was saved under `key`.
    pub fn metadata(&self, key: &str) -> Option<String> {
        let metadata = self.raw.metadata();
        let mut texts = metadata.into_iter();
        texts.find_map(|(name, text)| (name == key).then_some(text))
    }

    /// Its tensors, ordered by name.
    ///
    /// # Errors
    /// When an element type is not one that this SDK knows.
    pub fn entries(&self) -> Result<Vec<Entry>, CheckpointError> {
        let entries = self.raw.entries().into_iter();
        entries
            .map(|entry| {
                let dtype = DType::parse(&entry.dtype).ok_or_else(|| {
                    let (name, dtype) = (&entry.name, &entry.dtype);
                    CheckpointError::Unreadable(format!(
                        "tensor `{name}` has the unknown element type `{dtype}`"
                    ))
                })?;
                let shape = crate::tensor::shape_from_host(&entry.shape);
                Ok(Entry {
                    name: entry.name,
                    dtype,
                    shape,
                })
            })
            .collect()
    }

    /// Reads one tensor into host memory.
    ///
    /// # Errors
    /// When there is none of that name, or the file is damaged.
    pub fn load(&self, name: &str) -> Result<Tensor, CheckpointError> {
        Ok(Tensor::from_raw(self.raw.load(name)?))
    }

    /// The program that the model was saved with, if there was one.
    ///
    /// # Errors
    /// When the file holds something else in its place.
    pub fn program(&self) -> Result<Option<Program>, CheckpointError> {
        Ok(self.raw.program()?)
    }

    /// Writes the files of a model that is a folder below `/scratch/<folder>`.
    ///
    /// # Errors
    /// When the model is no folder, or a file cannot be written.
    pub fn unpack(&self, folder: &str) -> Result<(), CheckpointError> {
        Ok(self.raw.unpack(folder)?)
    }

    /// The program that the model was saved with, bound to the model's tensors: a run takes
    /// the program's inputs and returns its outputs. Nothing need be known of the model.
    /// None when it was saved without a program.
    ///
    /// # Errors
    /// When the file is damaged, or the program breaks a rule or needs too much memory.
    pub fn session(&self) -> Result<Option<Session>, Failure> {
        let Some(program) = self.program()? else {
            return Ok(None);
        };
        let mut state = BTreeMap::new();
        let instructions = program.instructions.iter();
        for instruction in instructions.filter(|instruction| instruction.op == "state") {
            let name = instruction.label.as_deref().unwrap_or_default();
            let index = instruction.attributes.iter().find_map(|attribute| {
                let (name, value) = attribute;
                match value {
                    Attribute::Integer(index) if name == "index" => Some(*index),
                    _ => None,
                }
            });
            state.insert(index.unwrap_or_default(), self.load(name)?);
        }
        let state: Vec<&Tensor> = state.values().collect();
        Ok(Some(Executable::compile(&program)?.bind(&state)?))
    }
}
