//! Tensors and programs that break the host's rules.

use serde_json::{Value as Json, json};
use trainshed_sdk::compute::{
    Attribute, Batches, Executable, Instruction, Program, Update, Value, gradient,
};
use trainshed_sdk::graph::Graph;
use trainshed_sdk::rng::Rng;
use trainshed_sdk::{DType, Failure, Tensor};

/// Makes tensors of 64 MiB until one is refused.
pub(crate) fn large_tensors() -> Result<Json, Failure> {
    const ELEMENTS: usize = 16 << 20;
    let data = vec![0u8; ELEMENTS * DType::F32.size()];
    let mut kept = Vec::new();
    let refused = loop {
        match Tensor::from_bytes(DType::F32, &[ELEMENTS], &data) {
            Ok(tensor) => kept.push(tensor),
            Err(error) => break error.to_string(),
        }
    };
    let made = kept.len();
    kept.clear();
    let again = Tensor::from_bytes(DType::F32, &[ELEMENTS], &data);
    let again = again.map_or_else(|error| error.to_string(), |_| "taken".to_owned());
    Ok(json!({ "made": made, "refused": refused, "again": again }))
}

pub(crate) fn many_tensors(count: u64) -> Result<Json, Failure> {
    let tensors = (0..count).map(|_| Tensor::scalar(1.0f32));
    let tensors: Vec<Tensor> = tensors.collect::<Result<_, _>>()?;
    Ok(json!({ "made": tensors.len() }))
}

/// One program after another that breaks a rule, and what the host said to each.
pub(crate) fn malformed_programs() -> Json {
    let huge = i64::MAX;
    let sizes = |sizes: &[i64]| Attribute::Integers(sizes.to_vec());
    let input = |shape: &[i64]| {
        let attributes = [
            ("index", Attribute::Integer(0)),
            ("dtype", Attribute::Text("f32".into())),
            ("shape", sizes(shape)),
        ];
        instruction("input", &[], &attributes)
    };
    let unary = |op: &str, operand: u32, attributes: &[(&str, Attribute)]| {
        program(vec![
            input(&[2, 3]),
            instruction(op, &[operand], attributes),
        ])
    };
    let constant = |bytes: usize, shape: &[i64]| {
        let attributes = [
            ("dtype", Attribute::Text("f32".into())),
            ("shape", sizes(shape)),
            ("data", Attribute::Bytes(vec![0; bytes])),
        ];
        program(vec![instruction("constant", &[], &attributes)])
    };
    let mut second_result = unary("negate", 0, &[]);
    second_result.instructions[1].operands[0].output = 1;
    let mut unknown_output = unary("negate", 0, &[]);
    unknown_output.outputs.push(value(9));
    let mut unknown_state = unary("negate", 0, &[]);
    unknown_state.updates.push(Update {
        state: u32::MAX,
        value: value(0),
    });

    let programs = [
        ("unknown operation", unary("explode", 0, &[])),
        ("operand of itself", unary("negate", 1, &[])),
        ("operand of the future", unary("negate", u32::MAX, &[])),
        ("second result", second_result),
        ("no operand", program(vec![instruction("negate", &[], &[])])),
        ("unknown output", unknown_output),
        ("unknown state", unknown_state),
        (
            "surplus attribute",
            unary("negate", 0, &[("loud", Attribute::Flag(true))]),
        ),
        ("missing attribute", unary("reshape", 0, &[])),
        (
            "attribute of another kind",
            unary("reshape", 0, &[("shape", Attribute::Number(6.0))]),
        ),
        (
            "negative size",
            unary("reshape", 0, &[("shape", sizes(&[-2, -3]))]),
        ),
        (
            "sizes that overflow",
            unary("reshape", 0, &[("shape", sizes(&[huge, huge, huge]))]),
        ),
        (
            "rank of 9",
            unary("reshape", 0, &[("shape", sizes(&[1; 9]))]),
        ),
        (
            "axis out of range",
            unary("reduce-sum", 0, &[("axes", sizes(&[huge]))]),
        ),
        (
            "negative axis",
            unary("reduce-sum", 0, &[("axes", sizes(&[-1]))]),
        ),
        (
            "repeated axis",
            unary("transpose", 0, &[("permutation", sizes(&[0, 0]))]),
        ),
        (
            "classes without end",
            unary(
                "one-hot",
                0,
                &[
                    ("classes", Attribute::Integer(huge)),
                    ("dtype", Attribute::Text("f32".into())),
                ],
            ),
        ),
        (
            "unknown type",
            unary("convert", 0, &[("dtype", Attribute::Text("f3".into()))]),
        ),
        (
            "huge input",
            program(vec![input(&[i64::from(i32::MAX); 8])]),
        ),
        (
            "largest input",
            program(vec![input(&[i64::from(i32::MAX), 1 << 20])]),
        ),
        ("constant of too few bytes", constant(3, &[1])),
        ("constant of too many bytes", constant(400, &[2])),
        (
            "inputs with a gap",
            program(vec![instruction(
                "input",
                &[],
                &[
                    ("index", Attribute::Integer(huge)),
                    ("dtype", Attribute::Text("f32".into())),
                    ("shape", sizes(&[])),
                ],
            )]),
        ),
        (
            "more instructions than are allowed",
            program(vec![input(&[]); 100_001]),
        ),
    ];
    let mut answers = serde_json::Map::new();
    for (name, program) in &programs {
        let compiled = Executable::compile(program).map(drop);
        let answer = compiled.map_err(|error| error.to_string());
        answers.insert((*name).to_owned(), json!(answer.err()));
        // Gradients of what is wrong must not trap either.
        let _ = gradient(program, value(1), &[value(0), value(u32::MAX)]);
    }
    answers.insert("wrong batches".to_owned(), json!(wrong_batches()));
    Json::Object(answers)
}

fn wrong_batches() -> Vec<Option<String>> {
    let Ok(column) = Tensor::from_slice(&[3, 1], &[1.0f32, 2.0, 3.0]) else {
        return Vec::new();
    };
    let Ok(scalar) = Tensor::scalar(0.0f32) else {
        return Vec::new();
    };
    let attempts: [(&[&Tensor], &[u32], u32); 5] = [
        (&[&column], &[0, 3], 1),
        (&[&column], &[u32::MAX], 1),
        (&[&column], &[0, 1], 0),
        (&[&scalar], &[0], 1),
        (&[], &[0], u32::MAX),
    ];
    let answers = attempts.into_iter();
    answers
        .map(|(columns, order, size)| {
            let batches = Batches::new(columns, order, size, false);
            batches.err().map(|error| error.to_string())
        })
        .collect()
}

/// Programs of random operations over random operands: whatever they are, the host must
/// answer. Those that it takes are run.
pub(crate) fn random_programs(seed: u64, count: u64) -> Json {
    let mut rng = Rng::new(seed, "programs");
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..count {
        let program = random_program(&mut rng);
        match Executable::compile(&program) {
            Ok(executable) => {
                taken += 1;
                let session = executable.bind(&[]);
                let _ = session.and_then(|session| session.run(&[]));
            }
            Err(_) => refused += 1,
        }
    }
    json!({ "taken": taken, "refused": refused })
}

fn random_program(rng: &mut Rng) -> Program {
    const OPERATIONS: [&str; 16] = [
        "add",
        "multiply",
        "divide",
        "maximum",
        "exp",
        "log",
        "sqrt",
        "less",
        "select",
        "reshape",
        "transpose",
        "broadcast",
        "reduce-sum",
        "reduce-max",
        "dot-general",
        "softmax",
    ];
    const NAMES: [&str; 9] = [
        "shape",
        "axes",
        "axis",
        "permutation",
        "lhs-batch",
        "rhs-batch",
        "lhs-contract",
        "rhs-contract",
        "dtype",
    ];
    let mut instructions = vec![random_constant(rng), random_constant(rng)];
    for position in 2..2 + rng.below(6) {
        let operation = OPERATIONS[rng.below(16) as usize];
        let operands: Vec<u32> = (0..1 + rng.below(3))
            .map(|_| rng.below(position + 1))
            .collect();
        let attributes: Vec<(&str, Attribute)> = (0..rng.below(4))
            .map(|_| (NAMES[rng.below(9) as usize], random_attribute(rng)))
            .collect();
        instructions.push(instruction(operation, &operands, &attributes));
    }
    program(instructions)
}

fn random_constant(rng: &mut Rng) -> Instruction {
    let shape: Vec<i64> = (0..rng.below(3)).map(|_| i64::from(rng.below(4))).collect();
    let attributes = [
        ("dtype", Attribute::Text("f32".into())),
        ("shape", Attribute::Integers(shape)),
        (
            "value",
            Attribute::Number(f64::from(rng.uniform(-2.0, 2.0))),
        ),
    ];
    instruction("constant", &[], &attributes)
}

fn random_attribute(rng: &mut Rng) -> Attribute {
    let number = i64::from(rng.below(6)) - 1;
    match rng.below(4) {
        0 => Attribute::Integer(number),
        1 => Attribute::Number(1e300),
        2 => Attribute::Text("i32".into()),
        _ => Attribute::Integers((0..rng.below(4)).map(|_| number).collect()),
    }
}

/// Runs so many large matrix products in one call; each takes a tenth of a second or more.
pub(crate) fn heavy_program(products: u64) -> Result<Json, Failure> {
    const SIDE: usize = 2048;
    let graph = Graph::new();
    let state = graph.state("x", DType::F32, &[SIDE, SIDE]);
    let product = (0..products).fold(state.clone(), |product, _| product.matmul(&state).tanh());
    graph.update(&state, &product);
    let start = Tensor::from_slice(&[SIDE, SIDE], &vec![0.001f32; SIDE * SIDE])?;
    let session = graph.compile()?.bind(&[&start])?;
    println!("started");
    session.run(&[])?;
    Ok(Json::Null)
}

fn program(instructions: Vec<Instruction>) -> Program {
    let last = u32::try_from(instructions.len() - 1).unwrap_or(0);
    Program {
        bodies: Vec::new(),
        instructions,
        outputs: vec![value(last)],
        updates: Vec::new(),
    }
}

fn instruction(op: &str, operands: &[u32], attributes: &[(&str, Attribute)]) -> Instruction {
    Instruction {
        op: op.to_owned(),
        operands: operands.iter().map(|&operand| value(operand)).collect(),
        attributes: attributes
            .iter()
            .map(|(name, attribute)| ((*name).to_owned(), attribute.clone()))
            .collect(),
        label: Some(format!("a {op} that is wrong")),
    }
}

fn value(instruction: u32) -> Value {
    Value {
        instruction,
        output: 0,
    }
}
