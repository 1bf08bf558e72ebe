use safetensors::Dtype;
use safetensors::tensor::TensorView;
use trainshed_tensor::DType;

use crate::testing::{Files, numbers};

/// Loads the column `x`, of one number per row, as every element type.
#[track_caller]
fn check(name: &str, content: &[u8], column: &str, expected: &[f64]) {
    let files = Files::new(&[(name, content)]);
    let (reader, table) = (files.reader(), files.table());
    for dtype in DType::ALL {
        let loaded = reader.load(&table, &[column.to_owned()], dtype).unwrap();
        assert_eq!(loaded.dtype(), dtype);
        assert_eq!(numbers(&loaded), expected, "{name} as {dtype}");
        let loaded = reader.load_array(&table, column, dtype).unwrap();
        assert_eq!(numbers(&loaded), expected, "{name} as {dtype}");
    }
    assert_eq!(files.budget.used(), 0);
}

#[test]
fn every_format_is_loaded_as_every_element_type() {
    check("x.csv", b"x,y\n1,a\n0,b\n", "x", &[1.0, 0.0]);
    check("x.csv", b"x\n1.0\n0.0\n", "x", &[1.0, 0.0]);
    check(
        "x.jsonl",
        b"{\"x\": true}\n{\"x\": 0.0}\n",
        "x",
        &[1.0, 0.0],
    );
    let parquet = include_bytes!("../tests/fixtures/snappy.parquet");
    check("x.parquet", parquet, "flag", &[1.0, 0.0, 1.0, 1.0, 0.0]);
    let npy = |descr: &str, data: &[u8]| {
        let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': (2,), }}\n");
        let length = u16::try_from(header.len()).unwrap().to_le_bytes();
        [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), data].concat()
    };
    check("x.npy", &npy("|b1", &[7, 0]), "x", &[1.0, 0.0]);
    check(
        "x.npy",
        &npy("<u8", &[&[1][..], &[0; 15]].concat()),
        "x",
        &[1.0, 0.0],
    );
    check("x.npy", &npy("<f2", &[0, 0x3c, 0, 0]), "x", &[1.0, 0.0]);
    let halves = [0x80, 0x3f, 0, 0];
    let view = TensorView::new(Dtype::BF16, vec![2], &halves).unwrap();
    let tensors = safetensors::serialize([("x", view)], None).unwrap();
    check("x.safetensors", &tensors, "x", &[1.0, 0.0]);
}
