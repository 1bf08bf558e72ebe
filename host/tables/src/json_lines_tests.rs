use expect_test::expect;
use proptest::prelude::*;
use trainshed_tensor::DType;

use crate::testing::{Files, check_survey, check_tensor, survive, survive_damage, within_memory};

const EXAMPLE: &[u8] = br#"{"id": 1, "score": 2, "ok": true, "at": {"x": 1, "y": [1, 2]}, "v": [[1, 2.5], [3, 4]], "name": "a"}

{"id": 2, "score": null, "ok": false, "at": {"x": 2, "y": [3]}, "v": [[5, 6], [7, 8]], "more": 7}
"#;

#[test]
fn fields_become_columns_and_objects_dotted_names() {
    check_survey(
        &[("t.jsonl", EXAMPLE)],
        expect![[r#"
            t.jsonl 2
                at.x: Integer (i64) []
                at.y: Text (json) []
                id: Integer (i64) []
                more: Integer (i64) []
                name: Text (text) []
                ok: Integer (i64) []
                score: Integer (i64) []
                v: Array (f64) [2, 2]
        "#]],
    );
}

#[test]
fn values_become_elements_and_missing_ones_nan() {
    let files = Files::new(&[("t.ndjson", EXAMPLE)]);
    let (reader, table) = (files.reader(), files.table());
    let columns = ["score", "ok", "more"].map(str::to_owned);
    check_tensor(
        reader.load(&table, &columns, DType::F32),
        expect!["[2, 3] [2.0, 1.0, NaN, NaN, 0.0, 7.0]"],
    );
    check_tensor(
        reader.load(&table, &columns, DType::I32),
        expect![[
            r#"Unreadable("`t.ndjson`: row 1, column `more`: it has no value, which i32 cannot express")"#
        ]],
    );
    check_tensor(
        reader.load_array(&table, "v", DType::F32),
        expect!["[2, 2, 2] [1.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]"],
    );
    check_tensor(
        reader.load_array(&table, "id", DType::U8),
        expect!["[2] [1.0, 2.0]"],
    );
    assert_eq!(
        reader.texts(&table, "at.y", 0, 2).unwrap(),
        ["[1,2]", "[3]"]
    );
}

#[test]
fn lines_that_are_no_objects_are_errors_that_name_the_line() {
    check_survey(
        &[("t.jsonl", b"{}\n[1]\n")],
        expect![[r#"
            Unreadable("`t.jsonl`: line 2: `[1]` is not an object")
        "#]],
    );
    check_survey(
        &[("t.jsonl", b"{\"a\": }")],
        expect![[r#"
            Unreadable("`t.jsonl`: line 1: expected value at line 1 column 7")
        "#]],
    );
    let deep = format!("{{\"a\": {}", "[".repeat(100_000));
    check_survey(
        &[("t.jsonl", deep.as_bytes())],
        expect![[r#"
            Unreadable("`t.jsonl`: line 1: recursion limit exceeded at line 1 column 133")
        "#]],
    );
}

#[test]
fn a_line_that_would_take_too_much_memory_is_refused_before_it_is_parsed() {
    let line = format!("{{\"a\": [{}0]}}", "0,".repeat(1000));
    let files = Files::with_budget(&[("t.jsonl", line.as_bytes())], 1000);
    expect!["80400 bytes are needed, but the task may hold 1000"]
        .assert_eq(&files.reader().survey().unwrap_err().to_string());
}

#[test]
fn names_that_repeat_those_around_them_take_no_more_memory_than_the_task_has() {
    let fields: String = (0..100_000)
        .map(|field| format!("\"{field}\":0,"))
        .collect();
    let line = |name: &str| format!("{{\"{name}\":{{{fields}\"\":0}}}}");
    check_survey(
        &[("t.jsonl", line(&"n".repeat(5000)).as_bytes())],
        expect![[r#"
            Unreadable("`t.jsonl`: line 1: the name of the field `nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn…`, with those around it, is longer than 4096 bytes")
        "#]],
    );
    let long = line(&"n".repeat(4000));
    within_memory(|| {
        check_survey(
            &[("t.jsonl", long.as_bytes())],
            expect![[r#"
                Unreadable("`t.jsonl`: it has more than 100000 fields, or more than 16777216 bytes of their names")
            "#]],
        );
    });
}

#[test]
fn damaged_files_are_survived() {
    survive_damage("t.jsonl", EXAMPLE);
}

proptest! {
    #[test]
    fn no_file_makes_the_reader_panic(content in r#"(\{("[ab]": ?([0-9.]{1,3}|"x"|null|\[[0-9,]{0,5}\]|\{"c": 1\}),?){0,3}\}\n?){0,4}"#) {
        survive("t.jsonl", content.as_bytes());
    }
}
