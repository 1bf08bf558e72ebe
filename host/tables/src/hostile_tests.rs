//! Files of every format, changed in several places at once.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::testing::survive;

const FILES: [(&str, &[u8]); 11] = [
    ("x.csv", b"x,y,kind\n1,0.5,a\n2,\"1\",\"b\"\"\"\n"),
    (
        "x.jsonl",
        b"{\"x\": 1, \"at\": {\"y\": [1, 2.5]}}\n{\"x\": null, \"at\": {\"y\": [3, 4]}}\n",
    ),
    (
        "x.npy",
        b"\x93NUMPY\x01\0\x3b\0{'descr': '<u2', 'fortran_order': True, 'shape': (2, 2)}  \n\x01\0\x02\0\x03\0\x04\0",
    ),
    ("x.npz", include_bytes!("../tests/fixtures/arrays.npz")),
    (
        "x.safetensors",
        b"\x40\0\0\0\0\0\0\0{\"a\":{\"dtype\":\"F32\",\"shape\":[2,1],\"data_offsets\":[0,8]}}        \0\0\0\0\0\0\x80\x3f",
    ),
    (
        "x.parquet",
        include_bytes!("../tests/fixtures/snappy.parquet"),
    ),
    (
        "x.parquet",
        include_bytes!("../tests/fixtures/gzip.parquet"),
    ),
    (
        "x.parquet",
        include_bytes!("../tests/fixtures/plain.parquet"),
    ),
    (
        "x.parquet",
        include_bytes!("../tests/fixtures/delta.parquet"),
    ),
    ("a/x.png", include_bytes!("../tests/fixtures/red.png")),
    ("a/x.jpg", include_bytes!("../tests/fixtures/grey.jpg")),
];

/// What happens at one place: a byte is replaced, added or taken away.
#[derive(Debug, Clone, Copy)]
enum Change {
    Replace(u8),
    Insert(u8),
    Remove,
}

fn change() -> impl Strategy<Value = Change> {
    // Bytes at which numbers change their sign or their length are worth more tries.
    let byte = prop_oneof![
        any::<u8>(),
        prop_oneof![Just(0), Just(1), Just(0x7f), Just(0x80), Just(0xff)]
    ];
    prop_oneof![
        8 => byte.clone().prop_map(Change::Replace),
        1 => byte.prop_map(Change::Insert),
        1 => Just(Change::Remove),
    ]
}

#[test]
fn the_files_can_be_read_as_they_are() {
    for (name, content) in FILES {
        let files = crate::testing::Files::new(&[(name, content)]);
        let tables = files.reader().survey().unwrap();
        assert!(!tables[0].columns.is_empty(), "{name}");
    }
}

proptest! {
    #[test]
    fn files_that_were_changed_anywhere_are_survived(
        file in 0..FILES.len(),
        changes in vec((any::<Index>(), change()), 1..8),
    ) {
        let (name, content) = FILES[file];
        let mut content = content.to_vec();
        for (place, change) in changes {
            let place = place.index(content.len().max(1)).min(content.len());
            match change {
                Change::Replace(byte) => {
                    if let Some(place) = content.get_mut(place) {
                        *place = byte;
                    }
                }
                Change::Insert(byte) => content.insert(place, byte),
                Change::Remove => {
                    if place < content.len() {
                        content.remove(place);
                    }
                }
            }
        }
        survive(name, &content);
    }
}
