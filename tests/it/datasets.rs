//! Data sets: files of every format that the host reads reach a plugin as tensors and texts.

use std::path::Path;

use expect_test::expect;
use serde_json::json;
use trainshed_core::task::TaskState;

use crate::shed::{Shed, root};

/// `<f4`, two rows of two.
fn npy() -> Vec<u8> {
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }\n";
    let length = u16::try_from(header.len()).unwrap().to_le_bytes();
    let data: Vec<u8> = [1_f32, 2.0, 3.0, 4.0]
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), &data].concat()
}

fn write(folder: &Path, path: &str, content: &[u8]) {
    let path = folder.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

#[tokio::test]
async fn every_format_reaches_a_plugin_as_tensors_and_texts() {
    let fixture = |name: &str| {
        let fixtures = root().join("host/tables/tests/fixtures");
        std::fs::read(fixtures.join(name)).unwrap()
    };
    let folder = tempfile::tempdir().unwrap();
    let vector = [5_f32, 6.0].map(f32::to_le_bytes).concat();
    let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![2], &vector);
    let tensors = safetensors::serialize([("v", view.unwrap())], None).unwrap();
    write(folder.path(), "a.csv", b"x,kind\n1,b\n2,a\n");
    write(
        folder.path(),
        "b.jsonl",
        b"{\"x\": 1.5, \"v\": [1, 2]}\n{\"x\": null, \"v\": [3, 5]}\n",
    );
    write(folder.path(), "c.npy", &npy());
    write(folder.path(), "d.safetensors", &tensors);
    write(folder.path(), "e.parquet", &fixture("snappy.parquet"));
    write(folder.path(), "f.npz", &fixture("arrays.npz"));
    write(folder.path(), "grey/1.jpg", &fixture("grey.jpg"));
    write(folder.path(), "colours/blue/1.png", &fixture("blue.png"));
    write(folder.path(), "colours/red/1.png", &fixture("red.png"));

    let shed = Shed::start().await;
    let plugin = shed.push("misbehave").await;
    let dataset = shed.import("all", folder.path());
    let load = json!({"hyperparameter": {"do": "load-tables"}});
    let task = shed.train("load", &plugin, dataset, load).await;
    let task = shed.ended(&task).await;

    assert_eq!(task.status, TaskState::Completed, "{}", task.status_reason);
    // What the host adds to the result is no table.
    let tables = task.result.unwrap();
    let lines: String = tables
        .iter()
        .flat_map(|(table, columns)| {
            let columns = columns.as_object().into_iter().flatten();
            columns.map(move |(column, loaded)| format!("{table} {column}: {loaded}\n"))
        })
        .collect();
    expect![[r#"
        . file: {"again":true,"classes":["grey/1.jpg"],"indices":[0],"texts":["grey/1.jpg"]}
        . image: {"pixels":[128,128,128],"shape":[1,1,1,3]}
        . label: {"again":true,"classes":["grey"],"indices":[0],"texts":["grey"]}
        a.csv kind: {"again":true,"classes":["a","b"],"indices":[1,0],"texts":["b","a"]}
        a.csv x: {"known":2,"shape":[2],"sum":3.0}
        b.jsonl v: {"mean":[2.0,3.5],"shape":[2,2]}
        b.jsonl x: {"known":1,"shape":[2],"sum":1.5}
        c.npy c: {"mean":[2.0,3.0],"shape":[2,2]}
        colours file: {"again":true,"classes":["blue/1.png","red/1.png"],"indices":[0,1],"texts":["blue/1.png","red/1.png"]}
        colours image: {"pixels":[0,0,255,255,0,0],"shape":[2,1,1,3]}
        colours label: {"again":true,"classes":["blue","red"],"indices":[0,1],"texts":["blue","red"]}
        d.safetensors v: {"known":2,"shape":[2],"sum":11.0}
        e.parquet day: {"known":5,"shape":[5],"sum":10.0}
        e.parquet f32: {"known":5,"shape":[5],"sum":12.5}
        e.parquet f64: {"known":3,"shape":[5],"sum":8.5}
        e.parquet flag: {"known":5,"shape":[5],"sum":3.0}
        e.parquet i64: {"known":4,"shape":[5],"sum":12.0}
        e.parquet i8: {"known":5,"shape":[5],"sum":11.0}
        e.parquet name: {"again":true,"classes":["","a","b","ü"],"indices":[1,2,1,0,3],"texts":["a","b"]}
        e.parquet pixels: {"mean":[2.0,3.0],"shape":[5,2]}
        e.parquet place.x: {"known":5,"shape":[5],"sum":10.0}
        e.parquet place.y: {"known":5,"shape":[5],"sum":20.0}
        e.parquet price: {"Err":"`e.parquet`: the column `price` (decimal) cannot be loaded"}
        e.parquet ragged.list.element: {"Err":"`e.parquet`: the column `ragged.list.element` (lists of i32, not all of one length) cannot be loaded"}
        e.parquet u32: {"known":5,"shape":[5],"sum":4294967296.0}
        e.parquet vector: {"mean":[2.0,2.5,3.0],"shape":[5,3]}
        f.npz x: {"mean":[2.0,3.0],"shape":[3,2]}
        f.npz y: {"again":true,"classes":["a","b"],"indices":[0,1,0],"texts":["a","b"]}
        f.npz/scale scale: {"known":1,"shape":[1],"sum":0.5}
    "#]].assert_eq(&lines);
}

#[tokio::test]
async fn a_damaged_file_fails_the_task_with_a_reason_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "x.npy", b"\x93NUMPY and nothing of it");
    let shed = Shed::start().await;
    let plugin = shed.push("misbehave").await;
    let dataset = shed.import("damaged", folder.path());

    let load = json!({"hyperparameter": {"do": "load-tables"}});
    let task = shed.train("load", &plugin, dataset, load).await;
    let task = shed.ended(&task).await;

    assert_eq!(task.status, TaskState::Failed);
    expect!["`x.npy`: its version 32 is not 1, 2 or 3"].assert_eq(&task.status_reason);
}
