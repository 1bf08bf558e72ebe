use expect_test::{Expect, expect};
use proptest::prelude::*;
use std::sync::atomic::AtomicBool;
use trainshed_tensor::DType;

use super::*;
use crate::testing::{Files, check_survey, check_tensor, survive, survive_damage};

#[track_caller]
fn check_load(content: &str, columns: &[&str], dtype: DType, expected: Expect) {
    let files = Files::with_budget(&[("t.csv", content.as_bytes())], 1000);
    let columns: Vec<String> = columns.iter().map(|name| (*name).to_owned()).collect();
    let loaded = files.reader().load(&files.table(), &columns, dtype);
    check_tensor(loaded, expected);
}

#[test]
fn columns_take_the_least_kind_that_holds_every_value() {
    check_survey(
        &[
            ("b/t.csv", b"a,b,c,d\n1,2,x,\n-3, 2.5 ,1,9\n"),
            ("a.CSV", b"\xef\xbb\xbfonly\n"),
            ("not-a-table.txt", b"\xff"),
        ],
        expect![[r#"
            a.CSV 0
                only: Integer (i64) []
            b/t.csv 2
                a: Integer (i64) []
                b: Number (f64) []
                c: Text (text) []
                d: Text (text) []
        "#]],
    );
    check_survey(
        &[("t.csv", b"a,b,c\n9223372036854775808,nan,1e999\n")],
        expect![[r#"
            t.csv 1
                a: Number (f64) []
                b: Text (text) []
                c: Text (text) []
        "#]],
    );
}

#[test]
fn hostile_files_are_errors_that_name_file_and_row() {
    check_survey(
        &[("t.csv", b"")],
        expect![[r#"
            Unreadable("`t.csv`: the file is empty: it needs a header")
        "#]],
    );
    check_survey(
        &[("t.csv", b"a,b\n1,2\n3\n")],
        expect![[r#"
            Unreadable("`t.csv`: row 2 has 1 values, but the header has 2")
        "#]],
    );
    check_survey(
        &[("t.csv", b"a,a\n")],
        expect![[r#"
            Unreadable("`t.csv`: the column `a` is there twice")
        "#]],
    );
    check_survey(
        &[("t.csv", b"a,\xff\n")],
        expect![[r#"
            Unreadable("`t.csv`: the name of column 2 is not UTF-8")
        "#]],
    );
    check_survey(
        &[("t.csv", &[b'x'; MAX_RECORD_BYTES + (1 << 20)])],
        expect![[r#"
            Unreadable("`t.csv`: row 1: a record is longer than 16777216 bytes")
        "#]],
    );
    check_survey(
        &[("t.csv", &[b','; 1_000_000])],
        expect![[r#"
            Unreadable("`t.csv`: it has 1000001 columns, but it may have at most 100000")
        "#]],
    );
}

#[test]
fn a_link_out_of_the_data_set_is_no_table() {
    let outside = Files::new(&[("secret.csv", b"a\n1\n")]);
    let files = Files::new(&[("t.csv", b"a\n")]);
    let link = files.folder.path().join("link.csv");
    std::os::unix::fs::symlink(outside.folder.path().join("secret.csv"), link).unwrap();
    assert_eq!(files.reader().survey().unwrap().len(), 1);
}

#[test]
fn columns_are_loaded_in_the_order_that_was_asked_for() {
    let content = "a,b,c\n1,2.0,x\n3,4,y\n";
    check_load(
        content,
        &["b", "a"],
        DType::U8,
        expect!["[2, 2] [2.0, 1.0, 4.0, 3.0]"],
    );
    check_load(content, &[], DType::F32, expect![[r#"[2, 0] []"#]]);
    check_load(
        "a\n0\n1\n",
        &["a"],
        DType::Bool,
        expect!["[2, 1] [0.0, 1.0]"],
    );
    check_load(
        "a\n0.1\n",
        &["a"],
        DType::F32,
        expect!["[1, 1] [0.10000000149011612]"],
    );
}

#[test]
fn a_value_that_does_not_fit_is_an_error_that_names_its_place() {
    check_load(
        "a\n1\n256\n",
        &["a"],
        DType::U8,
        expect![[r#"Unreadable("`t.csv`: row 2, column `a`: `256` is not a value of type u8")"#]],
    );
    check_load(
        "a\n1.5\n",
        &["a"],
        DType::I64,
        expect![[r#"Unreadable("`t.csv`: row 1, column `a`: `1.5` is not a value of type i64")"#]],
    );
    check_load(
        "a\n1e39\n",
        &["a"],
        DType::F32,
        expect![[r#"Unreadable("`t.csv`: row 1, column `a`: `1e39` is not a value of type f32")"#]],
    );
    check_load(
        "a\n1\n",
        &["b"],
        DType::F32,
        expect![[r#"UnknownColumn("b")"#]],
    );
}

#[test]
fn a_tensor_beyond_the_budget_is_refused_before_the_file_is_read() {
    let content = format!("a\n{}", "1\n".repeat(300));
    check_load(
        &content,
        &["a"],
        DType::F32,
        expect![[r#"OutOfMemory { needed: 1200, allowed: 1000 }"#]],
    );
}

#[test]
fn reading_ends_when_the_task_is_stopped() {
    let files = Files::new(&[("t.csv", b"a\n1\n")]);
    let stop = AtomicBool::new(true);
    let reader = Reader {
        stop: &stop,
        ..files.reader()
    };
    let error = reader.survey().unwrap_err();
    let expected = "`t.csv`: the task was stopped while it was read";
    assert_eq!(error, TableError::Unreadable(expected.to_owned()));
}

#[test]
fn texts_are_read_by_row_and_as_classes() {
    let files = Files::new(&[("t.csv", b"n,s\n1,dog\n2,cat\n3,dog\n")]);
    let (reader, table) = (files.reader(), files.table());
    assert_eq!(reader.texts(&table, "s", 1, 9).unwrap(), ["cat", "dog"]);
    assert_eq!(reader.texts(&table, "n", 0, 2).unwrap(), ["1", "2"]);
    assert!(reader.texts(&table, "s", 9, 1).unwrap().is_empty());

    let classes = reader.load_classes(&table, "s", None).unwrap();
    assert_eq!(classes.vocabulary, ["cat", "dog"]);
    check_tensor(Ok(classes.indices), expect!["[3] [1.0, 0.0, 1.0]"]);

    let known = vec!["dog".to_owned()];
    let error = reader.load_classes(&table, "s", Some(known)).unwrap_err();
    expect!["`t.csv`: row 2, column `s`: `cat` is not one of the classes asked for"]
        .assert_eq(&error.to_string());
}

proptest! {
    #[test]
    fn no_file_makes_the_reader_panic(content in prop::collection::vec(
        prop_oneof![Just(b','), Just(b'\n'), Just(b'"'), Just(b'1'), any::<u8>()], 0..200,
    )) {
        survive("t.csv", &content);
    }
}

#[test]
fn damaged_compressed_files_are_survived() {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut packed, b"a,b\n1,x\n2.5,y\n").unwrap();
    let packed = packed.finish().unwrap();
    check_survey(
        &[("T.CSV.GZ", &packed), ("other.gz", &packed)],
        expect![[r#"
            T.CSV.GZ 2
                a: Number (f64) []
                b: Text (text) []
        "#]],
    );
    survive_damage("t.csv.gz", &packed);
}
