//! Times a training step without a plugin around it, on one thread.
//!
//! `digits_step RESULT.json` takes what the test guest `measure` returned: `program`, the
//! step, and how many `steps` on how many `rows` it did. It runs as many of the same program,
//! on random numbers of the same shapes and in batches made in the same way, and prints
//! `{"us_per_step": …}`. `cargo xtask bench` compares the two times.

#![expect(
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "prints its result, and the numbers are small"
)]

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use serde::Deserialize;
use trainshed_tensor::{
    Attribute, Batches, Budget, Context, DType, Executable, Instruction, Program, Session, Tensor,
    Update, Value,
};

/// As many as the guest does before it measures.
const WARM_UP_STEPS: u64 = 200;
/// Integers of the data are classes.
const CLASSES: u64 = 10;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args_os().nth(1);
    let path = path.ok_or("the file with the guest's result must be given")?;
    let measured: Measured = serde_json::from_slice(&std::fs::read(path)?)?;
    let program = measured.program.into_program();

    let budget = Budget::new(1 << 30);
    let context = Context::new(budget.clone(), 1, Arc::new(AtomicBool::new(false)))?;
    let mut noise = Noise(1);
    let state = declared(&program, "state")?;
    let state: Result<Vec<Tensor>, _> = state
        .iter()
        .map(|source| noise.tensor(source, &source.shape, &budget))
        .collect();
    let inputs = declared(&program, "input")?;
    let [columns @ .., _learning_rate, _fresh] = inputs.as_slice() else {
        return Err("a training step has columns, a learning rate and a flag as inputs".into());
    };
    let batch = columns.first().ok_or("the program has no columns")?.shape[0];
    let columns: Result<Vec<Tensor>, _> = columns
        .iter()
        .map(|source| {
            let whole = [&[measured.rows], &source.shape[1..]].concat();
            noise.tensor(source, &whole, &budget)
        })
        .collect();
    let mut training = Training {
        session: Executable::compile(&program, &budget)?.bind(state?, &context)?,
        columns: columns?,
        order: noise.order(measured.rows),
        batch: u32::try_from(batch)?,
        learning_rate: Tensor::from_f32(&[], &[0.001], &budget)?,
        fresh: [1, 0]
            .map(|flag| Tensor::from_bytes(DType::Bool, &[], &[flag], &budget))
            .into_iter()
            .collect::<Result<_, _>>()?,
        budget,
    };

    training.run(WARM_UP_STEPS)?;
    let started = Instant::now();
    let steps = training.run(measured.steps)?;
    let us_per_step = started.elapsed().as_secs_f64() * 1e6 / steps as f64;
    println!("{}", serde_json::json!({ "us_per_step": us_per_step }));
    Ok(())
}

struct Training {
    session: Session,
    columns: Vec<Tensor>,
    order: Vec<u32>,
    batch: u32,
    learning_rate: Tensor,
    /// For the first step of an epoch, and for the others.
    fresh: Vec<Tensor>,
    budget: Budget,
}

impl Training {
    /// Runs whole epochs until at least `steps` steps are done; returns how many were.
    fn run(&mut self, steps: u64) -> Result<u64, Box<dyn Error>> {
        let mut done = 0;
        while done < steps {
            let (columns, order) = (self.columns.clone(), self.order.clone());
            let mut batches = Batches::new(columns, order, self.batch, true, &self.budget)?;
            let mut fresh = &self.fresh[0];
            if batches.remaining() == 0 {
                return Err("there are fewer rows than a batch has".into());
            }
            while let Some(mut inputs) = batches.next()? {
                inputs.extend([self.learning_rate.clone(), fresh.clone()]);
                self.session.run(&inputs)?;
                fresh = &self.fresh[1];
                done += 1;
            }
        }
        Ok(done)
    }
}

/// What the guest returned.
#[derive(Deserialize)]
struct Measured {
    steps: u64,
    rows: u64,
    program: ProgramJson,
}

#[derive(Deserialize)]
struct ProgramJson {
    instructions: Vec<InstructionJson>,
    outputs: Vec<(u32, u32)>,
    updates: Vec<(u32, (u32, u32))>,
}

#[derive(Deserialize)]
struct InstructionJson {
    op: String,
    operands: Vec<(u32, u32)>,
    attributes: BTreeMap<String, AttributeJson>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum AttributeJson {
    Integer(i64),
    Integers(Vec<i64>),
    Number(f64),
    Text(String),
    Flag(bool),
    Bytes(Vec<u8>),
}

impl ProgramJson {
    fn into_program(self) -> Program {
        let value = |(instruction, output)| Value {
            instruction,
            output,
        };
        let instructions = self.instructions.into_iter();
        let updates = self.updates.into_iter();
        Program {
            instructions: instructions
                .map(|instruction| Instruction {
                    op: instruction.op,
                    operands: instruction.operands.into_iter().map(value).collect(),
                    attributes: instruction
                        .attributes
                        .into_iter()
                        .map(|(name, attribute)| (name, attribute.into()))
                        .collect(),
                    label: None,
                })
                .collect(),
            outputs: self.outputs.into_iter().map(value).collect(),
            updates: updates
                .map(|(state, new)| Update {
                    state,
                    value: value(new),
                })
                .collect(),
        }
    }
}

impl From<AttributeJson> for Attribute {
    fn from(attribute: AttributeJson) -> Self {
        match attribute {
            AttributeJson::Integer(number) => Self::Integer(number),
            AttributeJson::Integers(numbers) => Self::Integers(numbers),
            AttributeJson::Number(number) => Self::Number(number),
            AttributeJson::Text(text) => Self::Text(text),
            AttributeJson::Flag(flag) => Self::Flag(flag),
            AttributeJson::Bytes(bytes) => Self::Bytes(bytes),
        }
    }
}

/// An input or a state as the program declares it.
struct Source {
    dtype: DType,
    shape: Vec<u64>,
}

/// The inputs or the states of a program, in the order of their index.
fn declared(program: &Program, op: &str) -> Result<Vec<Source>, Box<dyn Error>> {
    let mut found = BTreeMap::new();
    for instruction in program.instructions.iter().filter(|found| found.op == op) {
        let attribute = |wanted: &str| {
            let mut attributes = instruction.attributes.iter();
            let found = attributes.find(|(name, _)| name == wanted);
            found.map(|(_, attribute)| attribute)
        };
        let (
            Some(Attribute::Integer(index)),
            Some(Attribute::Text(dtype)),
            Some(Attribute::Integers(shape)),
        ) = (attribute("index"), attribute("dtype"), attribute("shape"))
        else {
            return Err(format!("an `{op}` must have an index, a dtype and a shape").into());
        };
        let source = Source {
            dtype: DType::parse(dtype).ok_or_else(|| format!("there is no type `{dtype}`"))?,
            shape: shape.iter().map(|&size| size as u64).collect(),
        };
        found.insert(*index, source);
    }
    Ok(found.into_values().collect())
}

/// A small linear congruential generator: the same numbers on every machine.
struct Noise(u64);

impl Noise {
    /// Numbers from 0 to 0.2 or classes, whichever `source` holds.
    fn tensor(
        &mut self,
        source: &Source,
        shape: &[u64],
        budget: &Budget,
    ) -> Result<Tensor, Box<dyn Error>> {
        let count = shape.iter().product::<u64>();
        let bytes: Vec<u8> = match source.dtype {
            DType::F32 => (0..count)
                .flat_map(|_| (self.below(1000) as f32 * 2e-4).to_le_bytes())
                .collect(),
            DType::I32 => (0..count)
                .flat_map(|_| (self.below(CLASSES) as i32).to_le_bytes())
                .collect(),
            other => return Err(format!("no data of the type {} is known", other.name()).into()),
        };
        Ok(Tensor::from_bytes(source.dtype, shape, &bytes, budget)?)
    }

    /// The row numbers `0..rows` in a random order.
    fn order(&mut self, rows: u64) -> Vec<u32> {
        let mut order: Vec<u32> = (0..rows as u32).collect();
        for last in (1..order.len()).rev() {
            let other = self.below(last as u64 + 1) as usize;
            order.swap(last, other);
        }
        order
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % bound
    }
}
