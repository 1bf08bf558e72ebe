//! Programs as bytes: `docs/programs.md` describes the form.
//!
//! The body is CBOR (RFC 8949) in its deterministic encoding, so a program has one form
//! only. Bytes may come from anyone: no length in them is believed before as many bytes
//! have been seen, and nothing in the form nests further than its fixed levels.

use cbor4ii::core::dec::{self, Decode, Read};
use cbor4ii::core::enc::{Encode, Write};
use cbor4ii::core::types::{Array, Bytes, Null};
use cbor4ii::core::utils::{BufWriter, SliceReader};
use cbor4ii::core::{major, marker};

use crate::check::MAX_INSTRUCTIONS;
use crate::{Attribute, Body, Instruction, Program, ProgramError, Update, Value};

/// How every form begins.
const MAGIC: [u8; 8] = *b"TSHEDPRG";

/// The form that this host writes, and the only one there is.
const VERSION: u32 = 1;

/// Magic and version.
const HEADER_BYTES: usize = MAGIC.len() + size_of::<u32>();

/// More than any operation takes.
const MAX_ATTRIBUTES: usize = 32;

impl Program {
    /// The program in its serialised form. Checks no rule of operations.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut to = BufWriter::new([&MAGIC[..], &VERSION.to_le_bytes()].concat());
        match self.write(&mut to) {
            Ok(()) => to.into_inner(),
            // The writer asks for memory, and has no other way to fail.
            Err(error) => unreachable!("a program could not be written to memory: {error}"),
        }
    }

    /// Reads a serialised program. The rules of its operations are checked when it is
    /// compiled.
    ///
    /// # Errors
    /// [`ProgramError::Argument`] when the bytes are not the form of any program, or of
    /// one with more instructions than a program may have.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ProgramError> {
        let read = read(bytes).map_err(|problem| {
            ProgramError::Argument(format!("the bytes are not a serialised program: {problem}"))
        })?;
        Ok(read)
    }

    fn write(&self, to: &mut BufWriter) -> Written {
        Array::bounded(4, to)?;
        Array::bounded(self.bodies.len(), to)?;
        for body in &self.bodies {
            Array::bounded(2, to)?;
            write_part(&body.instructions, &body.outputs, to)?;
        }
        write_part(&self.instructions, &self.outputs, to)?;
        Array::bounded(self.updates.len(), to)?;
        for update in &self.updates {
            Array::bounded(3, to)?;
            update.state.encode(to)?;
            update.value.instruction.encode(to)?;
            update.value.output.encode(to)?;
        }
        Ok(())
    }
}

type Written = Result<(), cbor4ii::core::enc::Error<<BufWriter as Write>::Error>>;

fn write_part(instructions: &[Instruction], outputs: &[Value], to: &mut BufWriter) -> Written {
    Array::bounded(instructions.len(), to)?;
    for instruction in instructions {
        Array::bounded(4, to)?;
        instruction.op.as_str().encode(to)?;
        write_values(&instruction.operands, to)?;
        Array::bounded(instruction.attributes.len(), to)?;
        for (name, attribute) in &instruction.attributes {
            Array::bounded(2, to)?;
            name.as_str().encode(to)?;
            write_attribute(attribute, to)?;
        }
        match &instruction.label {
            Some(label) => label.as_str().encode(to)?,
            None => Null.encode(to)?,
        }
    }
    write_values(outputs, to)
}

fn write_values(values: &[Value], to: &mut BufWriter) -> Written {
    Array::bounded(values.len(), to)?;
    for value in values {
        Array::bounded(2, to)?;
        value.instruction.encode(to)?;
        value.output.encode(to)?;
    }
    Ok(())
}

fn write_attribute(attribute: &Attribute, to: &mut BufWriter) -> Written {
    match attribute {
        Attribute::Integer(value) => value.encode(to),
        Attribute::Integers(values) => values.as_slice().encode(to),
        Attribute::Number(value) => value.encode(to),
        Attribute::Text(value) => value.as_str().encode(to),
        Attribute::Flag(value) => value.encode(to),
        Attribute::Bytes(value) => Bytes(&**value).encode(to),
    }
}

/// The program, or a sentence on what is wrong.
fn read(bytes: &[u8]) -> Result<Program, String> {
    let Some((header, content)) = bytes.split_at_checked(HEADER_BYTES) else {
        return Err(format!(
            "there are {} bytes, but the header has {HEADER_BYTES}",
            bytes.len()
        ));
    };
    let (magic, version) = header.split_at(MAGIC.len());
    if magic != MAGIC {
        return Err("they do not begin with `TSHEDPRG`".to_owned());
    }
    if version != VERSION.to_le_bytes() {
        let found = version
            .iter()
            .rev()
            .fold(0_u32, |found, &byte| found << 8 | u32::from(byte));
        return Err(format!(
            "their version is {found}, but this host reads version {VERSION}"
        ));
    }
    let mut source = Source {
        reader: SliceReader::new(content),
        length: content.len(),
        instructions_left: MAX_INSTRUCTIONS,
    };
    let program = source.program()?;
    if program.to_bytes() != bytes {
        return Err(
            "they say the same in another way than the deterministic encoding, or go on behind \
             the program"
                .to_owned(),
        );
    }
    Ok(program)
}

struct Source<'a> {
    reader: SliceReader<'a>,
    length: usize,
    /// Instructions, and bodies, that there may still be.
    instructions_left: usize,
}

impl<'a> Source<'a> {
    fn program(&mut self) -> Result<Program, String> {
        self.array(4, "the program")?;
        let mut bodies = Vec::new();
        for _ in 0..self.count("bodies")? {
            self.count_down()?;
            self.array(2, "a body")?;
            let (instructions, outputs) = self.part()?;
            bodies.push(Body {
                instructions,
                outputs,
            });
        }
        let (instructions, outputs) = self.part()?;
        let mut updates = Vec::new();
        for _ in 0..self.count("updates")? {
            self.array(3, "an update")?;
            let [state, instruction, output] = [self.item()?, self.item()?, self.item()?];
            let value = Value {
                instruction,
                output,
            };
            updates.push(Update { state, value });
        }
        Ok(Program {
            bodies,
            instructions,
            outputs,
            updates,
        })
    }

    fn part(&mut self) -> Result<(Vec<Instruction>, Vec<Value>), String> {
        let mut instructions = Vec::new();
        for _ in 0..self.count("instructions")? {
            self.count_down()?;
            instructions.push(self.instruction()?);
        }
        Ok((instructions, self.values()?))
    }

    fn instruction(&mut self) -> Result<Instruction, String> {
        self.array(4, "an instruction")?;
        let op: &str = self.item()?;
        let operands = self.values()?;
        let count = self.count("attributes")?;
        if count > MAX_ATTRIBUTES {
            return Err(format!(
                "an instruction has {count} attributes, but it may have at most {MAX_ATTRIBUTES}"
            ));
        }
        let mut attributes = Vec::new();
        for _ in 0..count {
            self.array(2, "an attribute")?;
            let name: &str = self.item()?;
            attributes.push((name.to_owned(), self.attribute()?));
        }
        let label: Option<&str> = self.item()?;
        Ok(Instruction {
            op: op.to_owned(),
            operands,
            attributes,
            label: label.map(str::to_owned),
        })
    }

    fn values(&mut self) -> Result<Vec<Value>, String> {
        let mut values = Vec::new();
        for _ in 0..self.count("values")? {
            self.array(2, "a value")?;
            let [instruction, output] = [self.item()?, self.item()?];
            values.push(Value {
                instruction,
                output,
            });
        }
        Ok(values)
    }

    /// An attribute's kind is the CBOR type.
    fn attribute(&mut self) -> Result<Attribute, String> {
        let available = self.reader.fill(1).map_err(|error| error.to_string())?;
        let Some(&first) = available.as_ref().first() else {
            return Err("they end within an attribute".to_owned());
        };
        Ok(match first >> 5 {
            major::UNSIGNED | major::NEGATIVE => Attribute::Integer(self.item()?),
            major::BYTES => {
                let Bytes(bytes): Bytes<&[u8]> = self.item()?;
                Attribute::Bytes(bytes.into())
            }
            major::STRING => {
                let text: &str = self.item()?;
                Attribute::Text(text.to_owned())
            }
            major::ARRAY => {
                let mut values = Vec::new();
                for _ in 0..self.count("integers")? {
                    values.push(self.item()?);
                }
                Attribute::Integers(values)
            }
            _ if first == marker::F64 => Attribute::Number(self.item()?),
            _ => Attribute::Flag(self.item()?),
        })
    }

    fn item<T: Decode<'a>>(&mut self) -> Result<T, String> {
        T::decode(&mut self.reader).map_err(|error| sentence(&error))
    }

    /// The length of an array. Each of its items has at least a byte.
    fn count(&mut self, what: &str) -> Result<usize, String> {
        let length = Array::len(&mut self.reader).map_err(|error| sentence(&error))?;
        match length {
            Some(count) if count <= self.length => Ok(count),
            Some(count) => Err(format!("there are not enough of them for {count} {what}")),
            None => Err(format!("the {what} are an array of no stated length")),
        }
    }

    fn array(&mut self, expected: usize, what: &str) -> Result<(), String> {
        let count = self.count("items")?;
        if count != expected {
            return Err(format!(
                "{what} is an array of {expected} items, but has {count}"
            ));
        }
        Ok(())
    }

    fn count_down(&mut self) -> Result<(), String> {
        let left = self.instructions_left.checked_sub(1);
        self.instructions_left = left
            .ok_or_else(|| format!("a program may have at most {MAX_INSTRUCTIONS} instructions"))?;
        Ok(())
    }
}

fn sentence<E>(error: &dec::Error<E>) -> String {
    match error {
        dec::Error::Eof { .. } => "they end too early".to_owned(),
        dec::Error::RequireUtf8 { .. } => "a text is not UTF-8".to_owned(),
        dec::Error::Mismatch { name, found } => {
            format!("an item of type {name} is expected, but one begins with {found:#04x}")
        }
        _ => "an item is malformed".to_owned(),
    }
}
