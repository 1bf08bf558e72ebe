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
    write(folder.path(), "colours/blue/1.png", &fixture("blue.png"));
    write(folder.path(), "colours/red/1.png", &fixture("red.png"));

    let shed = Shed::start().await;
    let plugin = shed.push("misbehave").await;
    let dataset = shed.import("all", folder.path());
    let load = json!({"hyperparameter": {"do": "load-tables"}});
    let task = shed.train("load", &plugin, dataset, load).await;
    let task = shed.ended(&task).await;

    assert_eq!(task.status, TaskState::Completed, "{}", task.status_reason);
    let tables = task.result.unwrap();
    let lines: String = tables
        .iter()
        .flat_map(|(table, columns)| {
            let columns = columns.as_object().unwrap().iter();
            columns.map(move |(column, loaded)| format!("{table} {column}: {loaded}\n"))
        })
        .collect();
    expect![[r#""#]].assert_eq(&lines);
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
    expect![""].assert_eq(&task.status_reason);
}
