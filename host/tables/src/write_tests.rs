use expect_test::expect;
use trainshed_tensor::Budget;

use super::*;
use crate::testing::{Files, check_survey, check_tensor};

fn tensor(dtype: DType, shape: &[u64], bytes: &[u8]) -> Tensor {
    Tensor::from_bytes(dtype, shape, bytes, &Budget::new(1 << 20)).unwrap()
}

fn with_table<T>(use_it: impl FnOnce(&[NewColumn<'_>]) -> T) -> T {
    let texts = ["a", "b, \"c\"", "line\nbreak"].map(str::to_owned);
    let halves = [0.5, 1.5, 65504.0].map(f16::from_f64).map(f16::to_le_bytes);
    let halves = tensor(DType::F16, &[3], &halves.concat());
    let singles = tensor(
        DType::F32,
        &[3],
        &[0.1_f32, -2.0, 3e30].map(f32::to_le_bytes).concat(),
    );
    let bytes = tensor(DType::U8, &[3], &[0, 7, 255]);
    let large = tensor(
        DType::U32,
        &[3],
        &[0, 1, u32::MAX].map(u32::to_le_bytes).concat(),
    );
    let column = |name, values| NewColumn { name, values };
    use_it(&[
        column("integers", Values::Integers(&[1, -2, i64::MAX])),
        column("numbers", Values::Numbers(&[0.1, 1e300, -0.0])),
        column("texts", Values::Texts(&texts)),
        column("flags", Values::Flags(&[true, false, true])),
        column("halves", Values::Tensor(&halves)),
        column("singles", Values::Tensor(&singles)),
        column("bytes", Values::Tensor(&bytes)),
        column("large", Values::Tensor(&large)),
    ])
}

#[test]
fn a_table_as_csv_is_what_every_reader_of_it_expects() {
    let mut packed = Vec::new();
    with_table(|columns| csv_gz(columns, &mut packed)).unwrap();
    let mut again = Vec::new();
    with_table(|columns| csv_gz(columns, &mut again)).unwrap();
    assert_eq!(packed, again);
    let mut text = String::new();
    io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&packed[..]), &mut text).unwrap();
    expect![[r#"
        integers,numbers,texts,flags,halves,singles,bytes,large
        1,0.1,a,True,0.5,0.1,0,0
        -2,1e300,"b, ""c""",False,1.5,-2.0,7,1
        9223372036854775807,-0.0,"line
        break",True,65504.0,3e30,255,4294967295
    "#]]
    .assert_eq(&text);
    check_survey(
        &[("t.csv.gz", &packed)],
        expect![[r#"
        t.csv.gz 3
            integers: Integer (i64) []
            numbers: Number (f64) []
            texts: Text (text) []
            flags: Text (text) []
            halves: Number (f64) []
            singles: Number (f64) []
            bytes: Integer (i64) []
            large: Integer (i64) []
    "#]],
    );
    let files = Files::with_budget(&[("t.csv.gz", &packed)], 1000);
    let table = files.table();
    let columns = ["numbers", "singles"].map(str::to_owned);
    check_tensor(
        files.reader().load(&table, &columns, DType::F64),
        expect!["[3, 2] [0.1, 0.1, 1e300, -2.0, -0.0, 3e30]"],
    );
}

#[test]
fn numbers_that_are_none_are_written_as_pandas_reads_them() {
    let numbers = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
    let columns = [NewColumn {
        name: "x",
        values: Values::Numbers(&numbers),
    }];
    let mut packed = Vec::new();
    csv_gz(&columns, &mut packed).unwrap();
    let mut text = String::new();
    io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&packed[..]), &mut text).unwrap();
    assert_eq!(text, "x\nNaN\ninf\n-inf\n");
}

#[test]
fn a_table_as_parquet_keeps_its_types() {
    let mut bytes = Vec::new();
    with_table(|columns| parquet(columns, &mut bytes)).unwrap();
    check_survey(
        &[("t.parquet", &bytes)],
        expect![[r#"
        t.parquet 3
            integers: Integer (i64) []
            numbers: Number (f64) []
            texts: Text (text) []
            flags: Integer (bool) []
            halves: Number (f32) []
            singles: Number (f32) []
            bytes: Integer (u32) []
            large: Integer (u32) []
    "#]],
    );
    let files = Files::with_budget(&[("t.parquet", &bytes)], 100_000);
    let table = files.table();
    let columns = ["large", "numbers", "bytes", "flags"].map(str::to_owned);
    check_tensor(
        files.reader().load(&table, &columns, DType::F64),
        expect![
            "[3, 4] [0.0, 0.1, 0.0, 1.0, 1.0, 1e300, 7.0, 0.0, 4294967295.0, -0.0, 255.0, 1.0]"
        ],
    );
    let texts = files.reader().texts(&table, "texts", 0, 9).unwrap();
    assert_eq!(texts, ["a", "b, \"c\"", "line\nbreak"]);
}

#[test]
fn a_long_table_is_written_in_groups() {
    let numbers: Vec<i64> = (0..2_500_000).collect();
    let columns = [NewColumn {
        name: "n",
        values: Values::Integers(&numbers),
    }];
    let mut bytes = Vec::new();
    parquet(&columns, &mut bytes).unwrap();
    let files = Files::with_budget(&[("t.parquet", &bytes)], 100 << 20);
    let table = files.table();
    assert_eq!(table.rows, 2_500_000);
    let loaded = files.reader().load(&table, &["n".to_owned()], DType::I64);
    let last = *numbers.last().unwrap();
    assert_eq!(loaded.unwrap().bytes()[2_499_999 * 8..], last.to_le_bytes());
}

#[test]
fn arrays_come_back_as_they_were() {
    let singles = tensor(
        DType::F32,
        &[2, 1],
        &[1.0_f32, -2.5].map(f32::to_le_bytes).concat(),
    );
    let scalar = tensor(DType::I64, &[], &7_i64.to_le_bytes());
    let brain = [1.0, 2.0].map(bf16::from_f64).map(bf16::to_le_bytes);
    let brain = tensor(DType::Bf16, &[2], &brain.concat());
    let flags = tensor(DType::Bool, &[2], &[1, 0]);
    let arrays = [
        ("w/singles", &singles),
        ("scalar", &scalar),
        ("brain", &brain),
        ("flags", &flags),
    ];
    let write = || {
        let mut out = io::Cursor::new(Vec::new());
        npz(&arrays, &mut out).unwrap();
        out.into_inner()
    };
    let bytes = write();
    assert_eq!(bytes, write());
    check_survey(
        &[("t.npz", &bytes)],
        expect![[r#"
        t.npz 2
            w/singles: Array (f32) [1]
            brain: Number (f32) []
            flags: Integer (bool) []
        t.npz/scalar 1
            scalar: Integer (i64) []
    "#]],
    );
    let header = &mut Vec::new();
    write_npy(&singles, header).unwrap();
    assert_eq!(header.len(), 128 + 8);
    assert!(header.starts_with(b"\x93NUMPY\x01\x00\x76\x00{'descr': '<f4', "));
}

#[test]
fn images_of_every_number_of_channels_are_written_and_others_refused() {
    for (shape, channels) in [
        (&[2, 3][..], 1),
        (&[2, 3, 1], 1),
        (&[2, 3, 2], 2),
        (&[2, 3, 4], 4),
    ] {
        let count = shape.iter().product::<u64>();
        let pixels: Vec<u8> = (0..count)
            .map(|value| u8::try_from(value * 9).unwrap())
            .collect();
        let mut bytes = Vec::new();
        png(&tensor(DType::U8, shape, &pixels), &mut bytes).unwrap();
        let back = image::load_from_memory(&bytes).unwrap();
        assert_eq!((back.height(), back.width()), (2, 3));
        assert_eq!(back.color().channel_count(), channels);
        assert_eq!(back.as_bytes(), pixels);
    }
    let refused = |dtype, shape: &[u64], bytes: &[u8]| {
        let error = png(&tensor(dtype, shape, bytes), io::sink()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        error.to_string()
    };
    let answers = [
        refused(DType::F32, &[1, 1], &[0; 4]),
        refused(DType::U8, &[1, 1, 5], &[0; 5]),
        refused(DType::U8, &[0, 1], &[]),
        refused(DType::U8, &[4], &[0; 4]),
    ];
    expect![[r#"
        [
            "must be a tensor u8 [height, width] or u8 [height, width, channels], but it is f32 [1, 1]",
            "must have 1 to 4 channels, but it has 5",
            "must have 1 to 16384 rows and columns, but it has 0 and 1",
            "must be a tensor u8 [height, width] or u8 [height, width, channels], but it is u8 [4]",
        ]
    "#]].assert_debug_eq(&answers);
}

#[test]
fn a_parquet_file_has_fewer_rows_the_more_columns_it_has() {
    let cells = |columns| max_parquet_rows(columns) * columns;
    assert!(cells(1) > 100_000_000_000);
    assert!(cells(10_000) <= MAX_CHUNKS * GROUP_CELLS / 10_000);
}
