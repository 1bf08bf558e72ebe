//! Programs as bytes.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a failed unwrap is a failed test, and the numbers are small"
)]

mod support;

use expect_test::expect;
use proptest::collection::vec;
use proptest::prelude::*;
use trainshed_tensor::{Attribute, Body, Instruction, Program, Update, Value};

fn value() -> impl Strategy<Value = Value> {
    any::<(u32, u32)>().prop_map(|(instruction, output)| Value {
        instruction,
        output,
    })
}

fn attribute() -> impl Strategy<Value = Attribute> {
    prop_oneof![
        any::<i64>().prop_map(Attribute::Integer),
        vec(any::<i64>(), 0..4).prop_map(Attribute::Integers),
        any::<u64>().prop_map(|bits| Attribute::Number(f64::from_bits(bits))),
        ".{0,8}".prop_map(Attribute::Text),
        any::<bool>().prop_map(Attribute::Flag),
        vec(any::<u8>(), 0..40).prop_map(|bytes| Attribute::Bytes(bytes.into())),
    ]
}

fn instructions() -> impl Strategy<Value = Vec<Instruction>> {
    let instruction = (
        ".{0,12}",
        vec(value(), 0..4),
        vec((".{0,8}", attribute()), 0..4),
        proptest::option::of(".{0,8}"),
    );
    let instruction = instruction.prop_map(|(op, operands, attributes, label)| Instruction {
        op,
        operands,
        attributes,
        label,
    });
    vec(instruction, 0..6)
}

fn program() -> impl Strategy<Value = Program> {
    let body = (instructions(), vec(value(), 0..3));
    let body = body.prop_map(|(instructions, outputs)| Body {
        instructions,
        outputs,
    });
    let update = (any::<u32>(), value()).prop_map(|(state, value)| Update { state, value });
    let parts = (
        vec(body, 0..3),
        instructions(),
        vec(value(), 0..3),
        vec(update, 0..3),
    );
    parts.prop_map(|(bodies, instructions, outputs, updates)| Program {
        bodies,
        instructions,
        outputs,
        updates,
    })
}

proptest! {
    #![proptest_config(support::cases(500))]

    #[test]
    fn a_program_comes_back_as_it_was(program in program()) {
        let bytes = program.to_bytes();
        let read = Program::from_bytes(&bytes).unwrap();
        // Not a number is not equal to itself, so the bytes are compared too.
        prop_assert_eq!(read.to_bytes(), bytes);
        prop_assert_eq!(format!("{read:?}"), format!("{program:?}"));
    }

    #[test]
    fn damaged_bytes_are_refused_or_say_what_they_read(
        program in program(),
        place in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = program.to_bytes();
        let at = place.index(bytes.len());
        bytes[at] = byte;
        if let Ok(read) = Program::from_bytes(&bytes) {
            prop_assert_eq!(read.to_bytes(), &bytes[..]);
        }
        let cut = cut.index(bytes.len());
        prop_assert!(Program::from_bytes(&bytes[..cut]).is_err());
    }

    #[test]
    fn no_bytes_make_the_reader_panic(content in vec(any::<u8>(), 0..200)) {
        let bytes = [&Program::default().to_bytes()[..12], &content].concat();
        if let Ok(read) = Program::from_bytes(&bytes) {
            prop_assert_eq!(read.to_bytes(), bytes);
        }
    }
}

#[test]
fn the_form_is_fixed() {
    let mut program = Program::default();
    let x = program.push(
        "input",
        &[],
        &[
            ("index", 0.into()),
            ("dtype", "f32".into()),
            ("shape", support::list(&[2])),
        ],
    );
    program.instructions[0].label = Some("x".to_owned());
    program.outputs.push(x);
    let bytes = program.to_bytes();
    assert_eq!(bytes[..12], *b"TSHEDPRG\x01\x00\x00\x00");
    let content: String = bytes[12..]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    // Diagnostic notation: [[], [["input", [], [["index", 0], ["dtype", "f32"],
    // ["shape", [2]]], "x"]], [[0, 0]], []]
    expect!["8480818465696e70757480838265696e64657800826564747970656366333282657368617065810261788182000080"].assert_eq(&content);
}

#[test]
fn what_is_wrong_is_said() {
    let refused = |bytes: &[u8]| Program::from_bytes(bytes).unwrap_err().to_string();
    let header = &Program::default().to_bytes()[..12];
    let with = |content: &[u8]| refused(&[header, content].concat());
    let found = [
        refused(b"TSHED"),
        refused(b"\x89PNG\r\n\x1a\n\x00\x00\x00\x00"),
        refused(b"TSHEDPRG\x02\x00\x00\x00"),
        with(b""),
        with(b"\x83\x80\x80\x80"),
        with(b"\x9f"),
        with(b"\x84\x9b\xff\xff\xff\xff\xff\xff\xff\xff"),
        with(b"\x84\x80\x80\x80\x80\x00"),
        with(b"\x84\x80\x80\x80\x98\x00"),
        with(b"\x84\x80\x81\x84\x61\xff\x80\x80\xf6\x80\x80"),
    ];
    expect![[r#"
        the bytes are not a serialised program: there are 5 bytes, but the header has 12
        the bytes are not a serialised program: they do not begin with `TSHEDPRG`
        the bytes are not a serialised program: their version is 2, but this host reads version 1
        the bytes are not a serialised program: they end too early
        the bytes are not a serialised program: the program is an array of 4 items, but has 3
        the bytes are not a serialised program: the items are an array of no stated length
        the bytes are not a serialised program: there are not enough of them for 18446744073709551615 bodies
        the bytes are not a serialised program: they say the same in another way than the deterministic encoding, or go on behind the program
        the bytes are not a serialised program: they say the same in another way than the deterministic encoding, or go on behind the program
        the bytes are not a serialised program: a text is not UTF-8"#]].assert_eq(&found.join("\n"));
}

#[test]
fn a_program_of_too_many_instructions_is_refused_before_it_fills_memory() {
    let mut program = Program::default();
    for _ in 0..100_001 {
        program.push("", &[], &[]);
    }
    let refused = Program::from_bytes(&program.to_bytes()).unwrap_err();
    assert!(refused.to_string().ends_with("at most 100000 instructions"));
}
