//! Programs as JSON, for `host/tensor/examples/guest` to read.

use serde_json::{Map, Value as Json, json};
use trainshed_sdk::compute::{Attribute, Body, Instruction, Program, Value};

/// `{"bodies": […], "instructions": […], "outputs": [value…], "updates": [[state, value]…]}`,
/// where a value is `[instruction, output]`.
pub(crate) fn to_json(program: &Program) -> Json {
    let bodies: Vec<Json> = program.bodies.iter().map(body).collect();
    let instructions: Vec<Json> = program.instructions.iter().map(instruction).collect();
    let outputs: Vec<Json> = program.outputs.iter().map(value).collect();
    let updates = program.updates.iter();
    let updates: Vec<Json> = updates
        .map(|update| json!([update.state, value(&update.value)]))
        .collect();
    json!({
        "bodies": bodies,
        "instructions": instructions,
        "outputs": outputs,
        "updates": updates,
    })
}

fn body(body: &Body) -> Json {
    let instructions: Vec<Json> = body.instructions.iter().map(instruction).collect();
    let outputs: Vec<Json> = body.outputs.iter().map(value).collect();
    json!({ "instructions": instructions, "outputs": outputs })
}

/// `{"op": …, "operands": [value…], "attributes": {name: {kind: content}…}}`.
fn instruction(instruction: &Instruction) -> Json {
    let operands: Vec<Json> = instruction.operands.iter().map(value).collect();
    let attributes = instruction.attributes.iter();
    let attributes: Map<String, Json> = attributes
        .map(|(name, content)| (name.clone(), attribute(content)))
        .collect();
    json!({ "op": instruction.op, "operands": operands, "attributes": attributes })
}

fn value(value: &Value) -> Json {
    json!([value.instruction, value.output])
}

/// The kind stands beside the content: JSON does not tell 1 from 1.0.
fn attribute(attribute: &Attribute) -> Json {
    match attribute {
        Attribute::Integer(number) => json!({ "integer": number }),
        Attribute::Integers(numbers) => json!({ "integers": numbers }),
        Attribute::Number(number) => json!({ "number": number }),
        Attribute::Text(text) => json!({ "text": text }),
        Attribute::Flag(flag) => json!({ "flag": flag }),
        Attribute::Bytes(bytes) => json!({ "bytes": bytes }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_written_with_the_kind_of_each_attribute() {
        let first = Value {
            instruction: 0,
            output: 0,
        };
        let program = Program {
            bodies: vec![],
            instructions: vec![Instruction {
                op: "constant".to_owned(),
                operands: vec![],
                attributes: vec![
                    ("value".to_owned(), Attribute::Number(1.0)),
                    ("shape".to_owned(), Attribute::Integers(vec![2, 3])),
                ],
                label: None,
            }],
            outputs: vec![first],
            updates: vec![],
        };
        let expected = json!({
            "bodies": [],
            "instructions": [{
                "op": "constant",
                "operands": [],
                "attributes": { "value": { "number": 1.0 }, "shape": { "integers": [2, 3] } },
            }],
            "outputs": [[0, 0]],
            "updates": [],
        });
        assert_eq!(to_json(&program), expected);
    }
}
