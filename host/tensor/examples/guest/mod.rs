//! Programs that the test guest `measure` hands out as JSON, read again.

use std::collections::BTreeMap;
use std::error::Error;

use serde::Deserialize;
use trainshed_tensor::{Attribute, Body, DType, Instruction, Program, Update, Value};

/// An element type and a shape.
pub(crate) type TensorType = (DType, Vec<u64>);

#[derive(Deserialize)]
pub(crate) struct ProgramJson {
    bodies: Vec<BodyJson>,
    instructions: Vec<InstructionJson>,
    outputs: Vec<(u32, u32)>,
    updates: Vec<(u32, (u32, u32))>,
}

#[derive(Deserialize)]
struct BodyJson {
    instructions: Vec<InstructionJson>,
    outputs: Vec<(u32, u32)>,
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
    pub(crate) fn into_program(self) -> Program {
        let bodies = self.bodies.into_iter().map(|body| Body {
            instructions: instructions(body.instructions),
            outputs: body.outputs.into_iter().map(value).collect(),
        });
        let updates = self.updates.into_iter();
        Program {
            bodies: bodies.collect(),
            instructions: instructions(self.instructions),
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

fn instructions(given: Vec<InstructionJson>) -> Vec<Instruction> {
    let given = given.into_iter().map(|instruction| Instruction {
        op: instruction.op,
        operands: instruction.operands.into_iter().map(value).collect(),
        attributes: instruction
            .attributes
            .into_iter()
            .map(|(name, attribute)| (name, attribute.into()))
            .collect(),
        label: None,
    });
    given.collect()
}

fn value((instruction, output): (u32, u32)) -> Value {
    Value {
        instruction,
        output,
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
            AttributeJson::Bytes(bytes) => Self::Bytes(bytes.into()),
        }
    }
}

/// What a program declares of its inputs or states, in the order of their index.
pub(crate) fn declared(program: &Program, op: &str) -> Result<Vec<TensorType>, Box<dyn Error>> {
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
        let dtype = DType::parse(dtype).ok_or_else(|| format!("`{dtype}` is no element type"))?;
        let shape = shape.iter().map(|&size| u64::try_from(size));
        found.insert(*index, (dtype, shape.collect::<Result<_, _>>()?));
    }
    Ok(found.into_values().collect())
}
