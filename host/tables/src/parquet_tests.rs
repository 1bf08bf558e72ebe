use std::fs::File;
use std::io::Write;

use expect_test::expect;
use parquet::basic::{Compression, GzipLevel, ZstdLevel};
use parquet::column::page::PageReader;
use proptest::prelude::*;
use tempfile::TempDir;
use trainshed_tensor::{Budget, DType};

use super::check_footer;
use super::compact::Compact;
use super::pages::Pages;
use crate::testing::{
    Files, SMALL, check_survey, check_tensor, survive, survive_damage, within_memory,
};

const SNAPPY: &[u8] = include_bytes!("../tests/fixtures/snappy.parquet");
const GZIP: &[u8] = include_bytes!("../tests/fixtures/gzip.parquet");
const ZSTD: &[u8] = include_bytes!("../tests/fixtures/zstd.parquet");
const PLAIN: &[u8] = include_bytes!("../tests/fixtures/plain.parquet");
const DELTA: &[u8] = include_bytes!("../tests/fixtures/delta.parquet");

#[test]
fn flat_columns_lists_of_one_length_and_fields_of_structs_are_columns() {
    check_survey(
        &[("t.parquet", SNAPPY)],
        expect![[r#"
        t.parquet 5
            i8: Integer (i32) []
            u32: Integer (u32) []
            i64: Integer (i64) []
            f32: Number (f32) []
            f64: Number (f64) []
            flag: Integer (bool) []
            name: Text (text) []
            day: Integer (i32) []
            price: Other (decimal) []
            vector: Array (f32) [3]
            pixels: Array (u32) [2]
            ragged.list.element: Other (lists of i32, not all of one length) []
            place.x: Integer (i64) []
            place.y: Integer (i64) []
    "#]],
    );
}

#[test]
fn every_compression_and_page_version_gives_the_same_values() {
    for content in [SNAPPY, GZIP, ZSTD, PLAIN] {
        let files = Files::new(&[("t.parquet", content)]);
        let (reader, table) = (files.reader(), files.table());
        let columns = ["i8", "flag", "day", "place.y"].map(str::to_owned);
        check_tensor(
            reader.load(&table, &columns, DType::I32),
            expect![
                "[5, 4] [1.0, 1.0, 0.0, 0.0, -2.0, 0.0, 1.0, 2.0, 3.0, 1.0, 2.0, 4.0, 4.0, 1.0, 3.0, 6.0, 5.0, 0.0, 4.0, 8.0]"
            ],
        );
        let columns = ["f32", "f64", "i64", "u32"].map(str::to_owned);
        check_tensor(
            reader.load(&table, &columns, DType::F32),
            expect![
                "[5, 4] [0.5, 0.5, 1.0, 1.0, 1.5, NaN, 2.0, 2.0, 2.5, NaN, NaN, 3.0, 3.5, 3.5, 4.0, 4.0, 4.5, 4.5, 5.0, 4294967296.0]"
            ],
        );
        check_tensor(
            reader.load_array(&table, "vector", DType::F32),
            expect![
                "[5, 3] [0.0, 0.5, 1.0, 1.0, 1.5, 2.0, 2.0, 2.5, 3.0, 3.0, 3.5, 4.0, 4.0, 4.5, 5.0]"
            ],
        );
        check_tensor(
            reader.load_array(&table, "pixels", DType::U8),
            expect!["[5, 2] [0.0, 1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0, 5.0]"],
        );
        assert_eq!(
            reader.texts(&table, "name", 0, 9).unwrap(),
            ["a", "b", "a", "", "ü"]
        );
        assert_eq!(files.budget.used(), 0);
    }
}

#[test]
fn what_cannot_be_loaded_says_why() {
    let files = Files::new(&[("t.parquet", SNAPPY)]);
    let (reader, table) = (files.reader(), files.table());
    let load = |name: &str| reader.load(&table, &[name.to_owned()], DType::I32);
    check_tensor(
        load("i64"),
        expect![[
            r#"Unreadable("`t.parquet`: row 3, column `i64`: it has no value, which i32 cannot express")"#
        ]],
    );
    check_tensor(
        load("u32"),
        expect![[
            r#"Unreadable("`t.parquet`: row 5, column `u32`: `4294967295` is not a value of type i32")"#
        ]],
    );
    check_tensor(
        load("price"),
        expect![[r#"Unreadable("`t.parquet`: the column `price` (decimal) cannot be loaded")"#]],
    );
    check_tensor(
        load("ragged.list.element"),
        expect![[
            r#"Unreadable("`t.parquet`: the column `ragged.list.element` (lists of i32, not all of one length) cannot be loaded")"#
        ]],
    );
    let files = Files::new(&[("t.parquet", DELTA)]);
    let error = files.reader().texts(&files.table(), "text", 0, 9);
    expect!["`t.parquet`: column `text`: the encoding DELTA_BYTE_ARRAY is not supported: write the file with plain or dictionary encoding"].assert_eq(&error.unwrap_err().to_string());
}

#[test]
fn pages_are_charged_before_they_are_read() {
    let files = Files::with_budget(&[("t.parquet", ZSTD)], 150_000);
    let table = files.table();
    let small = Files::with_budget(&[("t.parquet", ZSTD)], 100);
    check_tensor(
        small.reader().load(&table, &["f64".to_owned()], DType::F32),
        expect!["OutOfMemory { needed: 2881, allowed: 100 }"],
    );
}

#[test]
fn schemas_that_are_too_deep_are_refused_before_they_are_read() {
    // Field 2, a list of structures: each has one child (field 5), for ever.
    let mut footer = vec![0x29, 0xfc, 0xff, 0x07];
    footer.extend([0x55, 0x02, 0x00].repeat(1023));
    footer.push(0);
    expect![[r#"Err("its columns are nested deeper than 16 levels")"#]]
        .assert_eq(&format!("{:?}", check_footer(&footer)));
    // A group of a long name, whose columns all repeat it: elements of a name (field 4) and a
    // number of children (field 5).
    let name = [&[0x48, 0x80, 0x80, 0x40][..], &[b'a'; 1 << 20]].concat();
    let group = [&name[..], &[0x15, 0x28, 0x00]].concat();
    let columns = [0x48, 0x01, b'b', 0x00].repeat(20);
    let footer = [&[0x29, 0xfc, 21][..], &group, &columns, &[0]].concat();
    expect![[r#"Err("the names of its columns have more than 16777216 bytes")"#]]
        .assert_eq(&format!("{:?}", check_footer(&footer)));
    // A structure in a structure, for ever.
    assert!(check_footer(&[0x1c; 100_000]).is_err());
    // A list of lists, for ever.
    assert!(check_footer(&[0x19; 100_000]).is_err());
    // A list that claims more elements than there are bytes.
    assert!(check_footer(&[0x29, 0xfc, 0xff, 0xff, 0xff, 0x07, 0x00]).is_err());
}

/// A page of version 1 that says how long it is uncompressed.
fn pages(content: &[u8], uncompressed: u32, compression: Compression) -> (TempDir, Pages) {
    let varint = |mut number: u32| {
        let mut bytes = Vec::new();
        number *= 2;
        while number > 127 {
            bytes.push(u8::try_from(number & 127).unwrap() | 128);
            number >>= 7;
        }
        bytes.push(u8::try_from(number).unwrap());
        bytes
    };
    let length = u32::try_from(content.len()).unwrap();
    let header = [
        &[0x15, 0, 0x15][..],
        &varint(uncompressed),
        &[0x15],
        &varint(length),
        // One value, plain; levels by run lengths.
        &[0x2c, 0x15, 2, 0x15, 0, 0x15, 6, 0x15, 6, 0, 0],
        content,
    ];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pages");
    std::fs::write(&path, header.concat()).unwrap();
    let pages = Pages {
        file: File::open(path).unwrap(),
        place: 0,
        end: header.concat().len() as u64,
        compression,
        values_left: 1,
        budget: Budget::new(SMALL),
        charges: [None, None],
        listed: None,
    };
    (folder, pages)
}

#[test]
fn pages_that_unpack_to_more_than_they_say_are_refused_without_the_memory() {
    let zeros = vec![0; 64 << 20];
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&zeros).unwrap();
    let packed = [
        (
            Compression::GZIP(GzipLevel::default()),
            gzip.finish().unwrap(),
        ),
        (
            Compression::ZSTD(ZstdLevel::default()),
            zstd::bulk::compress(&zeros, 1).unwrap(),
        ),
        (
            Compression::SNAPPY,
            snap::raw::Encoder::new().compress_vec(&zeros).unwrap(),
        ),
    ];
    drop(zeros);
    for (compression, content) in packed {
        for says in [100, 64 << 20] {
            let (_folder, mut pages) = pages(&content, says, compression);
            let page = within_memory(|| pages.get_next_page());
            let found = page.map(|_| ()).unwrap_err().to_string();
            let expected = match says {
                100 => "Parquet error: a page does not have as many bytes as its header says",
                _ => "External: ",
            };
            assert!(found.starts_with(expected), "{compression}: {found}");
            assert!(pages.budget.used() == 0);
        }
    }
}

#[test]
fn damaged_files_are_survived() {
    for content in [SNAPPY, GZIP, PLAIN] {
        survive_damage("t.parquet", content);
    }
    survive("t.parquet", b"PAR1\0\0\0\0\0\0\0\0\0PAR1");
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_of_headers_panic(bytes: Vec<u8>) {
        let _ = Compact::new(&bytes).fields(|_, _, _| Ok(false));
        let _ = check_footer(&bytes);
    }
}
