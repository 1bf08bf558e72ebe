//! Every rule of `docs/programs.md` is an error that names what is wrong; no program,
//! however malformed, does more harm than that.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a failed unwrap is a failed test, and the numbers are small"
)]

mod support;

use expect_test::expect;
use proptest::prelude::*;
use support::random::Random;
use support::{Build, budget, list, problem, run};
use trainshed_tensor::{
    Attribute, Budget, DType, Executable, Instruction, Program, ProgramError, Tensor, Update,
    Value, gradient,
};

/// One operation on inputs of these types; returns the message of its problem.
#[track_caller]
fn refused(op: &str, operands: &[(DType, &[usize])], attributes: &[(&str, Attribute)]) -> String {
    let mut program = Program::default();
    let values: Vec<Value> = operands
        .iter()
        .enumerate()
        .map(|(index, (dtype, shape))| program.source("input", index as i64, *dtype, shape))
        .collect();
    let result = program.push(op, &values, attributes);
    program.output(result);
    match Executable::compile(&program, &budget()) {
        Err(ProgramError::Invalid(problem)) => {
            assert_eq!(problem.instruction, Some(operands.len() as u32));
            problem.message
        }
        other => panic!("{op} should be refused: {other:?}"),
    }
}

const F: DType = DType::F32;
const I: DType = DType::I32;
const B: DType = DType::Bool;

#[test]
fn elementwise_operations_want_one_type_and_shape() {
    let messages = [
        refused("add", &[(F, &[2, 3]), (F, &[2, 4])], &[]),
        refused("add", &[(F, &[2]), (I, &[2])], &[]),
        refused("add", &[(F, &[2])], &[]),
        refused("add", &[(B, &[2]), (B, &[2])], &[]),
        refused("power", &[(I, &[2]), (I, &[2])], &[]),
        refused("exp", &[(I, &[2])], &[]),
        refused("negate", &[(B, &[2])], &[]),
        refused("negate", &[(F, &[2]), (F, &[2])], &[]),
        refused("not", &[(F, &[2])], &[]),
        refused("and", &[(F, &[2]), (F, &[2])], &[]),
        refused("xor", &[(I, &[2]), (B, &[2])], &[]),
        refused("is-finite", &[(I, &[2])], &[]),
        refused("atan2", &[(I, &[2]), (I, &[2])], &[]),
        refused("atan2", &[(F, &[2]), (DType::F64, &[2])], &[]),
        refused("clamp", &[(F, &[2]), (F, &[2])], &[]),
        refused("clamp", &[(F, &[2]), (F, &[2]), (F, &[])], &[]),
        refused("clamp", &[(B, &[2]), (B, &[2]), (B, &[2])], &[]),
        refused("round", &[(I, &[2])], &[]),
        refused("less", &[(I, &[2]), (I, &[3])], &[]),
        refused("select", &[(F, &[2]), (F, &[2]), (F, &[2])], &[]),
        refused("select", &[(B, &[3]), (F, &[2]), (F, &[2])], &[]),
        refused("select", &[(B, &[2]), (F, &[2]), (I, &[2])], &[]),
        refused("convert", &[(F, &[2])], &[]),
        refused("convert", &[(F, &[2])], &[("dtype", "f8".into())]),
        refused("convert", &[(F, &[2])], &[("dtype", 1.into())]),
    ];
    expect![[r#"
        `add`: the operands are f32[2, 3] and f32[2, 4], but they must have one type and shape
        `add`: the operands are f32[2] and i32[2], but they must have one type and shape
        `add`: 1 operands are given, but it takes 2
        `add`: an operand is bool[2], but it must be a number
        `power`: an operand is i32[2], but it must be a float
        `exp`: an operand is i32[2], but it must be a float
        `negate`: an operand is bool[2], but it must be a number
        `negate`: 2 operands are given, but it takes 1
        `not`: an operand is f32[2], but it must be bool or an integer
        `and`: an operand is f32[2], but it must be bool or an integer
        `xor`: the operands are i32[2] and bool[2], but they must have one type and shape
        `is-finite`: an operand is i32[2], but it must be a float
        `atan2`: an operand is i32[2], but it must be a float
        `atan2`: the operands are f32[2] and f64[2], but they must have one type and shape
        `clamp`: 2 operands are given, but it takes 3
        `clamp`: the operands are f32[2] and f32[], but they must have one type and shape
        `clamp`: an operand is bool[2], but it must be a number
        `round`: an operand is i32[2], but it must be a float
        `less`: the operands are i32[2] and i32[3], but they must have one type and shape
        `select`: an operand is f32[2], but it must be bool
        `select`: the condition is bool[3], but its shape must be that of f32[2]
        `select`: the operands are f32[2] and i32[2], but they must have one type and shape
        `convert`: attribute `dtype` is missing
        `convert`: attribute `dtype` is `f8`, but it must be one of f32, f64, bf16, f16, i32, i64, u8, u32, bool
        `convert`: attribute `dtype` must be the name of an element type, but it is an integer
    "#]]
    .assert_eq(&format!("{}\n", messages.join("\n")));
}

#[test]
fn shape_operations_say_which_shapes_do_not_fit() {
    let messages = [
        refused("reshape", &[(F, &[2, 3])], &[("shape", list(&[4, 2]))]),
        refused("reshape", &[(F, &[2, 3])], &[("shape", list(&[-1, 2]))]),
        refused("reshape", &[(F, &[1])], &[("shape", list(&[1; 9]))]),
        refused("reshape", &[(F, &[0])], &[("shape", list(&[1 << 31, 0]))]),
        refused("transpose", &[(F, &[2, 3])], &[("permutation", list(&[0]))]),
        refused(
            "transpose",
            &[(F, &[2, 3])],
            &[("permutation", list(&[0, 0]))],
        ),
        refused(
            "transpose",
            &[(F, &[2, 3])],
            &[("permutation", list(&[0, 2]))],
        ),
        refused(
            "broadcast",
            &[(F, &[2])],
            &[("shape", list(&[3, 3])), ("axes", list(&[1]))],
        ),
        refused(
            "broadcast",
            &[(F, &[2, 3])],
            &[("shape", list(&[3, 2])), ("axes", list(&[1, 0]))],
        ),
        refused(
            "broadcast",
            &[(F, &[2, 3])],
            &[("shape", list(&[2, 3])), ("axes", list(&[1]))],
        ),
        refused(
            "broadcast",
            &[(F, &[])],
            &[
                ("shape", list(&[i64::from(i32::MAX); 3])),
                ("axes", list(&[])),
            ],
        ),
    ];
    expect![[r#"
        `reshape`: the operand f32[2, 3] has 6 elements, but f32[4, 2] has 8
        `reshape`: attribute `shape` holds -1, but it may not be negative
        `reshape`: attribute `shape` has 9 entries, but the rank may be at most 8
        `reshape`: a dimension is 2147483648, but it may be at most 2147483647
        `transpose`: attribute `permutation` is [0], but it must name each axis of f32[2, 3]
        `transpose`: attribute `permutation` is [0, 0]: 0 is twice in it
        `transpose`: attribute `permutation` names axis 2, but the rank is 2
        `broadcast`: dimension 0 of f32[2] is 2, but it must be 1 or 3, as dimension 1 of f32[3, 3]
        `broadcast`: attribute `axes` is [1, 0], but it must increase
        `broadcast`: attribute `axes` is [1], but it must have one entry per dimension of f32[2, 3]
        `broadcast`: a tensor f32[2147483647, 2147483647, 2147483647] is larger than 1099511627776 bytes
    "#]]
    .assert_eq(&format!("{}\n", messages.join("\n")));
}

#[test]
fn reductions_and_indexing_say_which_axes_do_not_fit() {
    let one_hot = [("classes", 3.into()), ("dtype", "f32".into())];
    let messages = [
        refused("reduce-sum", &[(F, &[2, 3])], &[("axes", list(&[1, 0]))]),
        refused("reduce-sum", &[(F, &[2, 3])], &[("axes", list(&[2]))]),
        refused("reduce-sum", &[(B, &[2])], &[("axes", list(&[0]))]),
        refused("reduce-mean", &[(I, &[2])], &[("axes", list(&[0]))]),
        refused("reduce-any", &[(I, &[2])], &[("axes", list(&[0]))]),
        refused("reduce-product", &[(B, &[2])], &[("axes", list(&[0]))]),
        refused("arg-min", &[(F, &[2, 0])], &[("axis", 1.into())]),
        refused("reduce-max", &[(F, &[0, 2])], &[("axes", list(&[0]))]),
        refused("arg-max", &[(F, &[2, 0])], &[("axis", 1.into())]),
        refused("softmax", &[(F, &[])], &[("axis", 0.into())]),
        refused("log-softmax", &[(I, &[2])], &[("axis", 0.into())]),
        refused("take", &[(F, &[2]), (F, &[2])], &[("axis", 0.into())]),
        refused("take", &[(F, &[0]), (I, &[2])], &[("axis", 0.into())]),
        refused("take", &[(F, &[1; 8]), (I, &[1, 1])], &[("axis", 0.into())]),
        refused(
            "scatter-add",
            &[(F, &[4]), (I, &[2, 1]), (F, &[2])],
            &[("axis", 0.into())],
        ),
        refused(
            "scatter-add",
            &[(F, &[4]), (I, &[2]), (F, &[3])],
            &[("axis", 0.into())],
        ),
        refused("one-hot", &[(F, &[2])], &one_hot),
        refused("one-hot", &[(I, &[1; 8])], &one_hot),
    ];
    expect![[r#"
        `reduce-sum`: attribute `axes` is [1, 0], but it must increase
        `reduce-sum`: attribute `axes` names axis 2, but the rank is 2
        `reduce-sum`: an operand is bool[2], but it must be a number
        `reduce-mean`: an operand is i32[2], but it must be a float
        `reduce-any`: an operand is i32[2], but it must be bool
        `reduce-product`: an operand is bool[2], but it must be a number
        `arg-min`: axis 1 of f32[2, 0] has no elements to choose from
        `reduce-max`: axis 0 of f32[0, 2] has no elements to choose from
        `arg-max`: axis 1 of f32[2, 0] has no elements to choose from
        `softmax`: attribute `axis` names axis 0, but the rank is 0
        `log-softmax`: an operand is i32[2], but it must be a float
        `take`: the indices are f32[2], but they must be i32, u32 or i64
        `take`: axis 0 of f32[0] has no elements that i32[2] could name
        `take`: the rank is 9, but it may be at most 8
        `scatter-add`: the indices are i32[2, 1], but their rank must be 1
        `scatter-add`: the updates are f32[3], but they must be f32[2]
        `one-hot`: the indices are f32[2], but they must be integers
        `one-hot`: the indices are i32[1, 1, 1, 1, 1, 1, 1, 1], but their rank must be below 8
    "#]]
    .assert_eq(&format!("{}\n", messages.join("\n")));
}

#[test]
fn products_say_which_axes_do_not_fit() {
    let axes = |lists: [&[i64]; 4]| {
        let names = ["lhs-batch", "rhs-batch", "lhs-contract", "rhs-contract"];
        [0, 1, 2, 3].map(|place| (names[place], list(lists[place])))
    };
    let matrices: [(DType, &[usize]); 2] = [(F, &[2, 3]), (F, &[4, 5])];
    let messages = [
        refused("dot-general", &matrices, &axes([&[], &[], &[1], &[0]])),
        refused("dot-general", &matrices, &axes([&[], &[], &[1], &[]])),
        refused("dot-general", &matrices, &axes([&[0], &[], &[], &[]])),
        refused("dot-general", &matrices, &axes([&[], &[], &[2], &[0]])),
        refused(
            "dot-general",
            &[(F, &[2]), (F, &[2])],
            &axes([&[0], &[0], &[0], &[0]]),
        ),
        refused(
            "dot-general",
            &[(I, &[2]), (I, &[2])],
            &axes([&[], &[], &[0], &[0]]),
        ),
        refused("dot-general", &matrices, &[]),
    ];
    expect![[r#"
        `dot-general`: axis 1 of f32[2, 3] and axis 0 of f32[4, 5] must have one size (`lhs-contract`, `rhs-contract`)
        `dot-general`: `lhs-contract` is [1] and `rhs-contract` is [], but they must have one length
        `dot-general`: `lhs-batch` is [0] and `rhs-batch` is [], but they must have one length
        `dot-general`: attribute `lhs-contract` names axis 2, but the rank is 2
        `dot-general`: axis 0 is in both `lhs-batch` and `lhs-contract`
        `dot-general`: an operand is i32[2], but it must be a float
        `dot-general`: attribute `lhs-batch` is missing
    "#]]
    .assert_eq(&format!("{}\n", messages.join("\n")));
}

#[test]
fn constants_must_fit_their_type() {
    let constant = |dtype: &str, shape: &[i64], extra: &[(&str, Attribute)]| {
        let given = [("dtype", dtype.into()), ("shape", list(shape))];
        refused("constant", &[], &[&given[..], extra].concat())
    };
    let messages = [
        constant("f32", &[], &[]),
        constant(
            "f32",
            &[],
            &[
                ("value", 1.0.into()),
                ("data", Attribute::Bytes(Vec::new().into())),
            ],
        ),
        constant(
            "f32",
            &[2],
            &[("data", Attribute::Bytes(vec![0; 7].into()))],
        ),
        constant("f32", &[2], &[("data", 1.into())]),
        constant("u8", &[], &[("value", 256.into())]),
        constant("u32", &[], &[("value", (-1).into())]),
        constant("i32", &[], &[("value", (1 << 40).into())]),
        constant("i32", &[], &[("value", 1.0.into())]),
        constant("bool", &[], &[("value", 1.into())]),
        constant("f32", &[], &[("value", true.into())]),
        refused(
            "iota",
            &[],
            &[
                ("dtype", "bool".into()),
                ("shape", list(&[2])),
                ("axis", 0.into()),
            ],
        ),
    ];
    expect![[r#"
        `constant`: one of the attributes `value` and `data` must be given
        `constant`: one of the attributes `value` and `data` must be given
        `constant`: attribute `data` has 7 bytes, but f32[2] has 8
        `constant`: attribute `data` must be bytes, but it is an integer
        `constant`: attribute `value` is 256, which is out of range for u8
        `constant`: attribute `value` is -1, which is out of range for u32
        `constant`: attribute `value` is 1099511627776, which is out of range for i32
        `constant`: attribute `value` must be an integer, but it is a number
        `constant`: attribute `value` must be a flag, but it is an integer
        `constant`: attribute `value` must be a number, but it is a flag
        `iota`: attribute `dtype` is bool, but it must be a number type
    "#]]
    .assert_eq(&format!("{}\n", messages.join("\n")));
}

#[test]
fn names_must_be_known_and_given_once() {
    let messages = [
        refused("conv-9", &[(F, &[2])], &[]),
        refused(&"x".repeat(100), &[], &[]),
        refused("negate", &[(F, &[2])], &[("axis", 0.into())]),
        refused(
            "softmax",
            &[(F, &[2])],
            &[("axis", 0.into()), ("axis", 0.into())],
        ),
        refused("softmax", &[(F, &[2])], &[("axis", (-1).into())]),
        refused("softmax", &[(F, &[2])], &[("axis", 0.0.into())]),
        refused("add", &[(F, &[2]), (F, &[2]), (F, &[2]), (F, &[2])], &[]),
        refused(
            "constant",
            &[(F, &[2])],
            &[("dtype", "f32".into()), ("shape", list(&[]))],
        ),
    ];
    expect![[r#"
        `conv-9`: there is no such operation
        `xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…`: there is no such operation
        `negate`: there is no attribute `axis`
        `softmax`: attribute `axis` is given twice
        `softmax`: attribute `axis` holds -1, but it may not be negative
        `softmax`: attribute `axis` must be an integer, but it is a number
        `add`: 4 operands are given, but it takes 2
        `constant`: 1 operands are given, but it takes none
    "#]]
    .assert_eq(&format!("{}\n", messages.join("\n")));
}

#[test]
fn a_problem_names_the_instruction_and_its_label() {
    let mut program = Program::default();
    let x = program.source("input", 0, F, &[2]);
    program.instructions.push(Instruction {
        op: "exp".to_owned(),
        operands: vec![x, x],
        attributes: vec![],
        label: Some("hidden.activation".to_owned()),
    });
    expect!["instruction 1 (`hidden.activation`): `exp`: 2 operands are given, but it takes 1"]
        .assert_eq(&problem(&program));
}

#[test]
fn operands_refer_to_earlier_instructions() {
    for (instruction, output, expected) in [
        (
            1,
            0,
            "instruction 1: `exp`: instruction 1 is used, but there are 1 before",
        ),
        (
            7,
            0,
            "instruction 1: `exp`: instruction 7 is used, but there are 1 before",
        ),
        (
            0,
            2,
            "instruction 1: `exp`: result 2 of instruction 0 is used, but it has one, result 0",
        ),
    ] {
        let mut program = Program::default();
        program.source("input", 0, F, &[2]);
        let value = Value {
            instruction,
            output,
        };
        program.op("exp", &[value]);
        assert_eq!(problem(&program), expected);
    }
}

#[test]
fn inputs_and_states_have_one_type_and_no_gaps() {
    let declare = |declarations: &[(&str, i64, &[usize])]| {
        let mut program = Program::default();
        for (kind, index, shape) in declarations {
            program.source(kind, *index, F, shape);
        }
        problem(&program)
    };
    assert_eq!(
        declare(&[("input", 1, &[])]),
        "input 0 is missing: indexes count from 0 without gaps"
    );
    assert_eq!(
        declare(&[("state", 0, &[]), ("state", 2, &[])]),
        "state 1 is missing: indexes count from 0 without gaps"
    );
    assert_eq!(
        declare(&[("input", 0, &[2]), ("input", 0, &[3])]),
        "instruction 1: `input`: input 0 is f32[2] in an earlier instruction, but f32[3] here"
    );
    assert_eq!(
        declare(&[("input", i64::MAX, &[2])]),
        "instruction 0: `input`: attribute `index` is 9223372036854775807, \
         but indexes count from 0 without gaps"
    );
}

#[test]
fn outputs_and_updates_must_fit() {
    let mut program = Program::default();
    let x = program.source("state", 0, F, &[2]);
    let y = program.source("input", 0, F, &[3]);
    let missing = Value {
        instruction: 5,
        output: 0,
    };
    let cases = [
        (
            vec![missing],
            vec![],
            "output 0: instruction 5 is used, but there are 2 before",
        ),
        (
            vec![],
            vec![(1, x)],
            "update of state 1: the program declares 1 state tensors",
        ),
        (
            vec![],
            vec![(0, y)],
            "update of state 0: the state is f32[2], but the value is f32[3]",
        ),
        (
            vec![],
            vec![(0, x), (0, x)],
            "update of state 0: a state is updated at most once",
        ),
    ];
    for (outputs, updates, expected) in cases {
        program.outputs = outputs;
        program.updates = updates
            .into_iter()
            .map(|(state, value)| Update { state, value })
            .collect();
        assert_eq!(problem(&program), expected);
    }
}

#[test]
fn a_program_has_at_most_100_000_instructions() {
    let mut program = Program::default();
    let mut x = program.source("input", 0, F, &[]);
    for _ in 1..100_000 {
        x = program.op("negate", &[x]);
    }
    program.output(x);
    assert_eq!(
        run(&program, &[support::f32s(&[], &[2.0])]).unwrap()[0].item(),
        -2.0
    );
    program.op("negate", &[x]);
    assert_eq!(
        problem(&program),
        "instruction 100000: `negate`: a program may have at most 100000 instructions"
    );
}

#[test]
fn tensors_must_have_the_bytes_of_their_shape() {
    let make = |shape: &[u64], bytes: usize| {
        Tensor::from_bytes(F, shape, &vec![0; bytes], &budget())
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        make(&[2], 4),
        "a tensor f32[2] has 8 bytes, but 4 were given"
    );
    assert_eq!(make(&[1; 9], 4), "the rank is 9, but it may be at most 8");
    assert_eq!(
        make(&[1 << 40, 1 << 40], 0),
        "a dimension is 1099511627776, but it may be at most 2147483647"
    );
    assert_eq!(
        make(&[1 << 30, 1 << 30], 0),
        "a tensor f32[1073741824, 1073741824] is larger than 1099511627776 bytes"
    );
}

/// A program of real names and attributes in random places, with a few wrong ones.
fn malformed(seed: u64, length: usize) -> Program {
    const OPS: [&str; 32] = [
        "input",
        "state",
        "constant",
        "iota",
        "negate",
        "exp",
        "add",
        "divide",
        "power",
        "remainder",
        "less",
        "and",
        "not",
        "select",
        "convert",
        "stop-gradient",
        "reshape",
        "transpose",
        "broadcast",
        "reduce-sum",
        "reduce-mean",
        "reduce-max",
        "arg-max",
        "dot-general",
        "softmax",
        "log-softmax",
        "take",
        "scatter-add",
        "one-hot",
        "maximum",
        "square",
        "unknown",
    ];
    const NAMES: [&str; 14] = [
        "index",
        "dtype",
        "shape",
        "value",
        "data",
        "axis",
        "axes",
        "permutation",
        "classes",
        "lhs-batch",
        "rhs-batch",
        "lhs-contract",
        "rhs-contract",
        "surplus",
    ];
    let mut random = Random::new(seed);
    let mut program = Program::default();
    for place in 0..length {
        let op = random.pick(&OPS);
        let operands = (0..random.below(4))
            .map(|_| Value {
                instruction: random.below(place + 1) as u32,
                output: u32::from(random.below(50) == 0),
            })
            .collect();
        let mut attributes = Vec::new();
        for name in NAMES {
            if random.below(3) == 0 {
                continue;
            }
            let number = random.pick(&[0, 0, 1, 1, 2, 3, -1, i64::MAX, i64::MIN, 1 << 31]);
            let sizes = [0, 1, 1, 2, 2, 3, 1 << 20, i64::from(i32::MAX)];
            let value = match (name, random.below(12)) {
                (_, 0) => Attribute::Flag(true),
                (_, 1) => Attribute::Number(f64::NAN),
                ("dtype", _) => Attribute::Text(random.pick(&DType::ALL).name().to_owned()),
                ("index" | "axis" | "classes" | "value", _) => Attribute::Integer(number),
                ("data", _) => Attribute::Bytes(vec![1; random.below(20)].into()),
                _ => {
                    let count = random.below(4);
                    Attribute::Integers((0..count).map(|_| random.pick(&sizes)).collect())
                }
            };
            attributes.push((name.to_owned(), value));
        }
        program.instructions.push(Instruction {
            op: op.to_owned(),
            operands,
            attributes,
            label: None,
        });
    }
    program
}

/// The longest valid start of a program: instructions that break a rule are left out.
fn repaired(program: &Program) -> Program {
    let mut repaired = Program::default();
    for instruction in &program.instructions {
        let mut instruction = instruction.clone();
        // Attributes that the operation does not have are dropped one by one.
        loop {
            repaired.instructions.push(instruction.clone());
            match Executable::compile(&repaired, &Budget::new(1 << 20)) {
                Err(ProgramError::Invalid(problem)) if problem.instruction.is_some() => {
                    repaired.instructions.pop();
                    let surplus = instruction.attributes.iter().position(|(name, _)| {
                        problem
                            .message
                            .ends_with(&format!("there is no attribute `{name}`"))
                    });
                    match surplus {
                        Some(place) => drop(instruction.attributes.remove(place)),
                        None => break,
                    }
                }
                _ => break,
            }
        }
    }
    repaired.outputs = (0..repaired.instructions.len() as u32)
        .map(|instruction| Value {
            instruction,
            output: 0,
        })
        .collect();
    repaired
}

proptest! {
    #![proptest_config(support::cases(300))]

    #[test]
    fn a_malformed_program_is_only_an_error(seed in any::<u64>(), length in 1usize..30) {
        let program = malformed(seed, length);
        let small = Budget::new(1 << 20);
        let _ = Executable::compile(&program, &small);
        let program = repaired(&program);
        let first = Value { instruction: 0, output: 0 };
        let last = Value { instruction: (program.instructions.len() as u32).saturating_sub(1), output: 0 };
        let _ = gradient(&program, last, &[first]);
        if let Ok(executable) = Executable::compile(&program, &small) {
            let context = support::small_context(1 << 20);
            // Without inputs most are refused here; the others run.
            if let Ok(mut session) = executable.bind(Vec::new(), &context) {
                let _ = session.run::<Tensor>(&[]);
            }
        }
    }
}
