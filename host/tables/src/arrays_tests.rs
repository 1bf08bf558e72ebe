use std::io::Write;

use ::safetensors::Dtype;
use ::safetensors::tensor::TensorView;
use expect_test::expect;
use proptest::prelude::*;
use trainshed_tensor::DType;
use zip::CompressionMethod;
use zip::write::SimpleFileOptions;

use crate::testing::{Files, check_survey, check_tensor, survive, survive_damage};

fn npy(descr: &str, fortran: bool, shape: &str, data: &[u8]) -> Vec<u8> {
    let fortran = if fortran { "True" } else { "False" };
    let header = format!("{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}\n");
    let length = u16::try_from(header.len()).unwrap().to_le_bytes();
    [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), data].concat()
}

fn npz(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    for (name, content) in entries {
        archive.start_file(format!("{name}.npy"), options).unwrap();
        archive.write_all(content).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

fn f32s(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

#[test]
fn an_npy_file_is_a_table_of_one_column() {
    let x = npy(
        "'<f4'",
        false,
        "(2, 3)",
        &f32s(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
    );
    let labels = npy("'|u1'", false, "(3,)", &[7, 8, 9]);
    let names = npy(
        "'<U2'",
        false,
        "(2,)",
        &[[b'a', 0, 0, 0], [0; 4], [b'b', 0, 0, 0], [b'c', 0, 0, 0]].concat(),
    );
    let objects = npy("'|O'", false, "(2,)", b"\x80pickle");
    let files: [(&str, &[u8]); 4] = [
        ("x.npy", &x),
        ("a/labels.npy", &labels),
        ("names.npy", &names),
        ("objects.npy", &objects),
    ];
    check_survey(
        &files,
        expect![[r#"
            a/labels.npy 3
                labels: Integer (u8) []
            names.npy 2
                names: Text (text) []
            objects.npy 2
                objects: Other (|O) []
            x.npy 2
                x: Array (f32) [3]
        "#]],
    );
    let files = Files::new(&files);
    let (reader, tables) = (files.reader(), files.reader().survey().unwrap());
    check_tensor(
        reader.load(&tables[0], &["labels".to_owned()], DType::I32),
        expect!["[3, 1] [7.0, 8.0, 9.0]"],
    );
    assert_eq!(
        reader.texts(&tables[1], "names", 0, 9).unwrap(),
        ["a", "bc"]
    );
    check_tensor(
        reader.load(&tables[2], &["objects".to_owned()], DType::F32),
        expect![[r#"Unreadable("`objects.npy`: the column `objects` (|O) cannot be loaded")"#]],
    );
    check_tensor(
        reader.load_array(&tables[3], "x", DType::U8),
        expect!["[2, 3] [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]"],
    );
    check_tensor(
        reader.load(&tables[3], &["x".to_owned()], DType::F32),
        expect![[
            r#"Unreadable("`x.npy`: the column `x` (f32) has arrays, which are loaded one column at a time")"#
        ]],
    );
}

#[test]
fn orders_of_bytes_and_of_elements_are_undone() {
    // [[[0, 1], [2, 3], [4, 5]], [[6, 7], [8, 9], [10, 11]]], first index fastest.
    let fortran = [0_u8, 6, 2, 8, 4, 10, 1, 7, 3, 9, 5, 11];
    let content = npy("'|u1'", true, "(2, 3, 2)", &fortran);
    let files = Files::new(&[("x.npy", &content)]);
    let loaded = files.reader().load_array(&files.table(), "x", DType::U8);
    let numbers = crate::testing::numbers(&loaded.unwrap());
    assert_eq!(numbers, (0..12).map(f64::from).collect::<Vec<_>>());

    let content = npy("'>i2'", false, "(2,)", &[0, 1, 1, 0]);
    let files = Files::new(&[("x.npy", &content)]);
    check_tensor(
        files.reader().load_array(&files.table(), "x", DType::I32),
        expect!["[2] [1.0, 256.0]"],
    );
}

#[test]
fn arrays_of_the_commonest_length_are_one_table_and_others_their_own() {
    let content = npz(&[
        (
            "x_train",
            npy("'<f4'", false, "(2, 2)", &f32s(&[1.0, 2.0, 3.0, 4.0])),
        ),
        ("y_train", npy("'|u1'", false, "(2,)", &[0, 1])),
        ("x_test", npy("'<f4'", false, "(1, 2)", &f32s(&[5.0, 6.0]))),
        ("scale", npy("'<f4'", false, "()", &f32s(&[0.5]))),
        ("mean", npy("'<f4'", false, "(2,)", &f32s(&[0.5, 0.5]))),
    ]);
    check_survey(
        &[("mnist.npz", &content)],
        expect![[r#"
            mnist.npz 2
                x_train: Array (f32) [2]
                y_train: Integer (u8) []
                mean: Number (f32) []
            mnist.npz/scale 1
                scale: Number (f32) []
            mnist.npz/x_test 1
                x_test: Array (f32) [2]
        "#]],
    );
    let files = Files::new(&[("mnist.npz", &content)]);
    let (reader, tables) = (files.reader(), files.reader().survey().unwrap());
    check_tensor(
        reader.load(
            &tables[0],
            &["mean".to_owned(), "y_train".to_owned()],
            DType::F32,
        ),
        expect!["[2, 2] [0.5, 0.0, 0.5, 1.0]"],
    );
    check_tensor(
        reader.load_array(&tables[2], "x_test", DType::F32),
        expect!["[1, 2] [5.0, 6.0]"],
    );
}

#[test]
fn safetensors_are_tables_too() {
    let x = f32s(&[1.0, 2.0, 3.0, 4.0]);
    let half: Vec<u8> = [1.5, -2.0]
        .iter()
        .flat_map(|value| half::bf16::from_f32(*value).to_le_bytes())
        .collect();
    let views = [
        ("x", TensorView::new(Dtype::F32, vec![2, 2], &x).unwrap()),
        (
            "half",
            TensorView::new(Dtype::BF16, vec![2], &half).unwrap(),
        ),
    ];
    let content = ::safetensors::serialize(views, None).unwrap();
    check_survey(
        &[("w.safetensors", &content)],
        expect![[r#"
            w.safetensors 2
                half: Number (bf16) []
                x: Array (f32) [2]
        "#]],
    );
    let files = Files::new(&[("w.safetensors", &content)]);
    check_tensor(
        files
            .reader()
            .load_array(&files.table(), "half", DType::F32),
        expect!["[2] [1.5, -2.0]"],
    );
    survive_damage("w.safetensors", &content);
}

#[test]
fn a_value_that_does_not_fit_is_an_error_that_names_its_place() {
    let content = npy(
        "'<f8'",
        false,
        "(2, 2)",
        &[1.0, 2.0, 3.0, 4.5_f64].map(f64::to_le_bytes).concat(),
    );
    let files = Files::new(&[("x.npy", &content)]);
    check_tensor(
        files.reader().load_array(&files.table(), "x", DType::I32),
        expect![[r#"Unreadable("`x.npy`: row 2, column `x`: `4.5` is not a value of type i32")"#]],
    );
}

#[test]
fn headers_that_claim_too_much_are_refused_before_memory_is_taken() {
    let content = npy("'<f4'", false, "(4000000000, 4000000000)", &[]);
    check_survey(
        &[("x.npy", &content)],
        expect![[r#"
            Unreadable("`x.npy`: the array `x` of shape [4000000000, 4000000000] is too large")
        "#]],
    );
    survive(
        "x.npy",
        &npy(
            "'<f4'",
            true,
            "(0, 4000000000, 4000000000, 4000000000)",
            &[],
        ),
    );
    let content = npz(&[("x", npy("'<f4'", false, "(1000000, 1000)", &[0; 4096]))]);
    let files = Files::new(&[("x.npz", &content)]);
    check_tensor(
        files.reader().load_array(&files.table(), "x", DType::F32),
        expect!["OutOfMemory { needed: 4000000000, allowed: 67108864 }"],
    );
    let content = npy("'<f4'", false, "(1000, 1000)", &[0; 4096]);
    let files = Files::new(&[("x.npy", &content)]);
    check_tensor(
        files.reader().load_array(&files.table(), "x", DType::F32),
        expect![[
            r#"Unreadable("`x.npy`: it ends before the last element that its header speaks of")"#
        ]],
    );
}

#[test]
fn archives_that_claim_much_are_refused_before_memory_is_taken() {
    let header = npy("'<f4'", false, &format!("({})", "1, ".repeat(20_000)), &[]);
    let dimensions = npz(&[("x", header)]);
    check_survey(
        &[("x.npz", &dimensions)],
        expect![[r#"
            Unreadable("`x.npz`: the array `x`: its header cannot be understood: {'descr': '<f4', 'fortran_order': False, 'shape': (1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,…")
        "#]],
    );
    // Of 1 GiB of zeros, which deflate to a thousandth, no more is unpacked than is asked for.
    let zeros = npz(&[("x", npy("'|u1'", false, "(1073741824,)", &vec![0; 4 << 20]))]);
    survive("x.npz", &zeros);
    let files = Files::new(&[("x.npz", &zeros)]);
    check_tensor(
        files.reader().load_array(&files.table(), "x", DType::U8),
        expect!["OutOfMemory { needed: 1073741824, allowed: 67108864 }"],
    );
    // The end of the directory, which speaks of 65,534 entries in 4 GB, behind 1 MiB of nothing.
    let mut directory = vec![0; 1 << 20];
    directory.extend(b"PK\x05\x06\0\0\0\0\xfe\xff\xfe\xff\0\0\0\xff\0\0\0\0\0\0");
    survive("x.npz", &directory);
}

#[test]
fn damaged_archives_are_survived() {
    let content = npz(&[
        (
            "x",
            npy("'<f4'", true, "(2, 2)", &f32s(&[1.0, 2.0, 3.0, 4.0])),
        ),
        (
            "y",
            npy("'<U1'", false, "(2,)", &[b'a', 0, 0, 0, b'b', 0, 0, 0]),
        ),
    ]);
    survive_damage("x.npz", &content);
    survive_damage("x.npy", &npy("'>f8'", true, "(2, 2)", &[1; 32]));
}

proptest! {
    #[test]
    fn no_header_makes_the_reader_panic(header in r"\{?'?(descr|shape|fortran_order)?'?: ?[\[\('<>|fiuUSO0-9, \)\]]{0,30}\}?") {
        let length = u16::try_from(header.len()).unwrap().to_le_bytes();
        survive("x.npy", &[b"\x93NUMPY\x01\x00", &length[..], header.as_bytes()].concat());
    }
}
