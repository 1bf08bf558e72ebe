//! A task of `cargo xtask bench compute` without the plugin that recorded its program.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::Path;

use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use trainshed_tensor::{
    Budget, Context, DType, Executable, Program, ProgramError, Session, Tensor,
};

use crate::guest::{ProgramJson, declared};

/// What the guest returned.
#[derive(Deserialize)]
struct Returned {
    losses: Vec<f64>,
    /// The tensors of the file that make a batch.
    columns: Vec<String>,
    /// What the program's first states begin as.
    states: Vec<Initial>,
    learning_rate: f32,
    program: ProgramJson,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Initial {
    /// A tensor of the file.
    Parameter(String),
    /// This number everywhere.
    Constant(f32),
}

/// The program of a training step, and the tensors that it begins with.
pub(crate) struct Task {
    program: Program,
    /// What each step is given.
    pub(crate) inputs: Vec<Tensor>,
    states: Vec<Initial>,
    parameters: BTreeMap<String, Tensor>,
    /// How many losses the guest tells.
    losses: usize,
    budget: Budget,
}

impl Task {
    /// Reads what the guest returned for a task, and `batch.safetensors` and
    /// `parameters.safetensors` in `folder`.
    pub(crate) fn read(
        result: &Path,
        folder: &Path,
        budget: &Budget,
    ) -> Result<Self, Box<dyn Error>> {
        let returned: Returned = serde_json::from_slice(&fs::read(result)?)?;
        let mut tensors = BTreeMap::new();
        for file in ["batch.safetensors", "parameters.safetensors"] {
            load(&folder.join(file), budget, &mut tensors)?;
        }
        let columns = returned.columns.iter().map(|name| {
            let tensor = tensors.remove(name);
            tensor.ok_or_else(|| format!("there is no tensor `{name}`"))
        });
        let mut inputs: Vec<Tensor> = columns.collect::<Result<_, _>>()?;
        inputs.extend([
            Tensor::from_f32(&[], &[returned.learning_rate], budget)?,
            Tensor::from_bytes(DType::Bool, &[], &[1], budget)?,
        ]);
        Ok(Self {
            program: returned.program.into_program(),
            inputs,
            states: returned.states,
            parameters: tensors,
            losses: returned.losses.len(),
            budget: budget.clone(),
        })
    }

    /// Compiles the program, and gives its states the values that they begin with. Can be
    /// done once: parameters are not kept.
    pub(crate) fn bind(&mut self, context: &Context) -> Result<Session, Box<dyn Error>> {
        let mut state = Vec::new();
        for (index, (dtype, shape)) in declared(&self.program, "state")?.into_iter().enumerate() {
            state.push(match self.states.get(index) {
                Some(Initial::Parameter(name)) => {
                    let parameter = self.parameters.remove(name);
                    parameter.ok_or_else(|| format!("there is no tensor `{name}`"))?
                }
                Some(&Initial::Constant(number)) if number != 0.0 => {
                    let elements = usize::try_from(shape.iter().product::<u64>())?;
                    Tensor::from_f32(&shape, &vec![number; elements], &self.budget)?
                }
                _ => Tensor::zeros(dtype, &shape, &self.budget)?,
            });
        }
        Ok(Executable::compile(&self.program, &self.budget)?.bind(state, context)?)
    }

    /// Does the first steps, as many as the guest tells losses of; gives these losses.
    pub(crate) fn begin(&self, session: &mut Session) -> Result<Vec<f64>, Box<dyn Error>> {
        let loss = u32::try_from(self.states.len())?;
        let mut losses = Vec::new();
        for _ in 0..self.losses {
            self.steps(session, 1)?;
            losses.push(session.state(loss)?.item());
        }
        Ok(losses)
    }

    /// Does `count` steps on the one batch.
    pub(crate) fn steps(&self, session: &mut Session, count: u32) -> Result<(), ProgramError> {
        for _ in 0..count {
            session.run(&self.inputs)?;
        }
        Ok(())
    }
}

/// Adds the tensors of `f32` and `i32` of a file.
fn load(
    path: &Path,
    budget: &Budget,
    into: &mut BTreeMap<String, Tensor>,
) -> Result<(), Box<dyn Error>> {
    let bytes = fs::read(path)?;
    for (name, view) in SafeTensors::deserialize(&bytes)?.iter() {
        let dtype = match view.dtype() {
            Dtype::F32 => DType::F32,
            Dtype::I32 => DType::I32,
            _ => continue,
        };
        let shape: Vec<u64> = view.shape().iter().map(|&size| size as u64).collect();
        let tensor = Tensor::from_bytes(dtype, &shape, view.data(), budget)?;
        into.insert(name.to_owned(), tensor);
    }
    Ok(())
}
