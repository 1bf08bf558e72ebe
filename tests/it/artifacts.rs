//! What plugins keep beside metrics and models is there for everybody, byte for byte.

use std::io::{Cursor, Read};
use std::path::Path;

use expect_test::expect;
use serde_json::{Value, json};
use trainshed_core::Digest;
use trainshed_core::artifact::ArtifactType;
use trainshed_core::task::TaskState;
use trainshed_core::view::TaskView;
use trainshed_tensor::{Budget, DType};

use crate::shed::{Shed, digits, plugin, trainshed};

impl Shed {
    async fn kept(&self, plugin: &str, hyperparameter: Value, limits: Value) -> TaskView {
        let dataset = self.import("digits", &digits());
        let more = json!({"hyperparameter": hyperparameter, "limits": limits});
        let task = self.train("artifacts", plugin, dataset, more).await;
        self.ended(&task).await
    }

    /// The content of a task's artifact as HTTP gives it, by its address and by its digest.
    async fn content(&self, task: &TaskView, name: &str) -> Vec<u8> {
        let address = format!(
            "{}/api/v1/tasks/{}/artifacts/{name}",
            self.client.url(),
            task.id
        );
        let answer = reqwest::Client::new().get(address).bearer_auth(&self.key);
        let answer = answer.send().await.unwrap().error_for_status().unwrap();
        let content = answer.bytes().await.unwrap().to_vec();
        let listed = self.client.artifacts(task.id.as_str(), false).await;
        let listed = listed.unwrap();
        let listed = listed.iter().find(|artifact| artifact.name == name);
        assert_eq!(listed.unwrap().sha256, Some(Digest::of(&content)));
        content
    }
}

#[track_caller]
fn result(task: &TaskView) -> Value {
    assert_eq!(task.status, TaskState::Completed, "{}", task.status_reason);
    Value::Object(task.result.clone().unwrap())
}

fn unzipped(archive: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut archive = zip::ZipArchive::new(Cursor::new(archive)).unwrap();
    let count = archive.len();
    let member = |index| {
        let mut member = archive.by_index(index).unwrap();
        let mut content = Vec::new();
        member.read_to_end(&mut content).unwrap();
        (member.name().unwrap().into_owned(), content)
    };
    (0..count).map(member).collect()
}

#[tokio::test]
async fn artifacts_of_every_kind_are_kept_as_they_are_and_read_by_this_run_and_a_later_one() {
    let shed = Shed::start().await;
    let plugin = shed.push("conformance").await;
    let task = shed.kept(&plugin, json!({"artifacts": 9}), json!({})).await;
    let mut found = result(&task);
    let refused = found["refused"].take();
    let versions = (found["again"].take(), found["changed"].take());
    assert_eq!(
        versions,
        (json!(1), json!(2)),
        "the same again is no version"
    );
    expect![[r#"
        {
          "again": null,
          "behind": [],
          "changed": null,
          "confusion": [
            3,
            1,
            0,
            9
          ],
          "document": {
            "NaN": null,
            "number": 9
          },
          "folder": [
            "one",
            [
              0,
              255,
              7
            ]
          ],
          "listed": [
            "arrays npz v1",
            "blob file v1",
            "elsewhere link v1",
            "folder folder v1",
            "history json v2",
            "notes.yaml yaml v1",
            "picture png v1",
            "predictions csv.gz v1",
            "predictions as parquet parquet v1",
            "summary json v1"
          ],
          "model_id": null,
          "notes": [
            [
              "unit",
              "metres"
            ],
            [
              "rows",
              "3"
            ]
          ],
          "number": 9,
          "part": [
            112,
            105,
            99,
            107,
            108,
            101
          ],
          "picture": "3 x 2 pixels",
          "refused": null,
          "saved": [
            128,
            4,
            112,
            105,
            99,
            107,
            108,
            101
          ],
          "tables": {
            "predictions": {
              "numbers": [
                0.0,
                0.5,
                1.0,
                -2.0,
                9.0,
                1e-300
              ],
              "path": "predictions.csv.gz",
              "rows": 3,
              "texts": [
                "plain",
                "a, \"b\"",
                "line\nbreak"
              ]
            },
            "predictions as parquet": {
              "numbers": [
                0.0,
                0.5,
                1.0,
                -2.0,
                9.0,
                1e-300
              ],
              "path": "predictions as parquet.parquet",
              "rows": 3,
              "texts": [
                "plain",
                "a, \"b\"",
                "line\nbreak"
              ]
            }
          },
          "twice": "the artifact cannot be read: `/scratch/copy of own`: File exists (os error 17)"
        }"#]]
    .assert_eq(&format!("{found:#}"));
    expect![[r#"
        {
          "a folder as file": "`path` must be a file, but `/scratch/kept` is a folder",
          "absolute": "`path` must be a path under /scratch, but it is `/etc/passwd`",
          "folder out": "`folder` `..` is not a folder under /scratch",
          "link": "the artifact cannot be read: it is only recorded: its content is at `s3://bucket/object`",
          "long note": "`notes` must be at most 100 names and texts of at most 4096 bytes",
          "name in archive": "`tensors` must have names that are relative and without `..`, but one is `../a`",
          "no address": "`uri` must begin with a scheme, e.g. `https://`, but it is `somewhere`",
          "no data set": "it is an artifact, and no data set",
          "no file": "`path` `/scratch/absent`: No such file or directory (os error 2)",
          "no image": "`image` must be a tensor u8 [height, width] or u8 [height, width, channels], but it is f32 [3]",
          "no name": "`name` must have 1 to 200 bytes and no control characters",
          "no task": "there is no task `../x`",
          "other task": "there is no task `00000000000000000000000000000000`",
          "rank": "`columns` must be of rank 1, but the tensor of `a` is not",
          "save out": "`path` must be a path under /scratch, but it is `../out`",
          "uneven": "`columns` must have as many values, but `b` has 2 and the first has 1",
          "unknown": "the task has no artifact `absent`",
          "way out": "`path` must be a path under /scratch, but it is `../../key`"
        }"#]].assert_eq(&format!("{refused:#}"));

    let history = shed.client.artifacts(task.id.as_str(), true).await.unwrap();
    let history: Vec<String> = history
        .iter()
        .map(|artifact| {
            let (name, kind) = (&artifact.name, artifact.kind.as_str());
            let former = artifact.replaced.map_or("", |_| " former");
            let preview = artifact.preview.replace('\n', "; ");
            let content_type = &artifact.content_type;
            let version = artifact.version;
            format!("{name} v{version} {kind} {content_type}{former}: {preview}\n")
        })
        .collect();
    expect![[r#"
        arrays v1 npz application/zip: confusion <i8 (2, 2); nested/scores <f4 (3,); 
        blob v1 file application/octet-stream: 
        elsewhere v1 link application/octet-stream: s3://bucket/object
        folder v1 folder application/zip: one.txt 3 bytes; sub/two.bin 3 bytes; 
        history v2 json application/json: 2
        history v1 json application/json former: 1
        notes.yaml v1 yaml text/yaml: one
        picture v1 png image/png: 3 x 2 pixels
        predictions v1 csv.gz application/gzip: row,weight,text,right,score; 0,0.5,plain,True,0.1; 1,-2.0,"a, ""b""",False,0.9; 9,1e-300,"line; break",True,inf; 
        predictions as parquet v1 parquet application/vnd.apache.parquet: 3 rows, 5 columns; row i64; weight f64; text text; right bool; score f32
        summary v1 json application/json: {"NaN":null,"number":9}
    "#]].assert_eq(&history.concat());

    assert_eq!(
        shed.content(&task, "summary").await,
        b"{\"NaN\":null,\"number\":9}"
    );
    assert_eq!(shed.content(&task, "blob").await, b"\x80\x04pickle");
    assert_eq!(shed.content(&task, "notes.yaml").await, b"one");
    assert_eq!(
        unzipped(&shed.content(&task, "folder").await),
        [
            ("one.txt".to_owned(), b"one".to_vec()),
            ("sub/two.bin".to_owned(), vec![0, 255, 7]),
        ]
    );
    let mut table = String::new();
    let packed = shed.content(&task, "predictions").await;
    flate2::read::GzDecoder::new(&packed[..])
        .read_to_string(&mut table)
        .unwrap();
    assert_eq!(
        table,
        "row,weight,text,right,score\n0,0.5,plain,True,0.1\n1,-2.0,\"a, \"\"b\"\"\",False,0.9\n9,1e-300,\"line\nbreak\",True,inf\n"
    );
    let arrays = unzipped(&shed.content(&task, "arrays").await);
    assert_eq!(arrays[0].0, "confusion.npy");
    let elements = [3_i64, 1, 0, 9].map(i64::to_le_bytes).concat();
    assert!(arrays[0].1.ends_with(&elements));
    let picture = shed.content(&task, "picture").await;
    assert!(picture.starts_with(b"\x89PNG\r\n\x1a\n"));
    let columns = shed.content(&task, "predictions as parquet").await;
    check_parquet(&columns);

    let id = task.id.to_string();
    let later = shed.kept(&plugin, json!({"read_artifacts": id}), json!({}));
    let mut read = result(&later.await);
    let tidy = |read: &mut Value| {
        let refusal = read["twice"].take();
        assert!(
            refusal.as_str().unwrap().contains("File exists"),
            "{refusal}"
        );
    };
    tidy(&mut read);
    tidy(&mut found);
    for key in ["refused", "again", "changed", "number"] {
        found.as_object_mut().unwrap().remove(key);
    }
    assert_eq!(read, found);

    let file = shed.data_dir().join("t.parquet");
    std::fs::write(&file, &columns).unwrap();
    let put = ["artifact", "put", task.id.as_str(), "from the command line"];
    let put = shed.cli(&[&put[..], &[file.to_str().unwrap()]].concat());
    assert!(put.status.success(), "{put:?}");
    let put = String::from_utf8(put.stdout).unwrap();
    assert!(put.contains("3 rows, 5 columns"), "{put}");
}

fn check_parquet(bytes: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("t.parquet"), bytes).unwrap();
    let reader = trainshed_tables::Reader {
        folder: folder.path(),
        budget: &Budget::new(1 << 20),
        stop: &false.into(),
    };
    let table = reader.survey().unwrap().remove(0);
    let kinds = table.columns.iter().map(|column| column.element.as_str());
    let kinds: Vec<&str> = kinds.collect();
    assert_eq!(kinds, ["i64", "f64", "text", "bool", "f32"]);
    let scores = reader.load(&table, &["score".to_owned()], DType::F32);
    let expected = [0.1_f32, 0.9, f32::INFINITY];
    assert_eq!(scores.unwrap().as_f32(), Some(&expected[..]));
}

#[tokio::test]
async fn artifacts_are_bounded_by_what_a_task_may_write_and_keep() {
    let shed = Shed::start().await;
    let plugin = shed.push("conformance").await;
    let put = json!({"artifacts": 1});
    let small = shed.kept(&plugin, put.clone(), json!({"output_bytes": 60}));
    let small = small.await;
    assert_eq!(
        (
            small.status,
            small
                .status_reason
                .contains("bytes, but the task has room for only")
        ),
        (TaskState::Failed, true),
        "{}",
        small.status_reason
    );
    let task = shed.kept(&plugin, put, json!({})).await;
    result(&task);
    let read = json!({"read_artifacts": task.id.to_string()});
    let narrow = shed.kept(&plugin, read, json!({"scratch_bytes": 30})).await;
    assert_eq!(
        (
            narrow.status,
            narrow
                .status_reason
                .contains("bytes, but the task has room for only")
        ),
        (TaskState::Failed, true),
        "{}",
        narrow.status_reason
    );
}

#[tokio::test]
async fn trials_keep_artifacts_of_their_own() {
    let shed = Shed::start().await;
    let plugin = shed.push("conformance").await;
    let dataset = shed.import("digits", &digits());
    let action = json!({"action": "train", "plugin": plugin, "params": {
        "name": "search", "dataset": dataset, "is_tune": true,
        "hyperparameters": [{"name": "artifacts", "type": "choice", "options": [4]}],
        "tune_config": {"mode": "max", "metric": "number", "num_samples": 2},
    }});
    let search = shed.client.submit(&action).await.unwrap().task;
    let search = shed.ended(&search).await;
    result(&search);
    let trials = shed.trials(&search).await;
    assert_eq!(trials.len(), 2);
    for trial in &trials {
        assert_eq!(
            shed.content(trial, "summary").await,
            b"{\"NaN\":null,\"number\":4}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_evaluation_keeps_its_predictions_also_without_a_server() {
    let folder = tempfile::tempdir().unwrap();
    let action = folder.path().join("train.json");
    let params = json!({"name": "offline", "dataset": 1, "hyperparameter": {"epochs": 2}});
    let text = json!({"action": "train", "params": params}).to_string();
    std::fs::write(&action, text).unwrap();
    let archive = folder.path().join("out.zip");
    let mut run = trainshed(&folder.path().join("never"));
    run.arg("run").arg(&action);
    run.arg("--plugin").arg(plugin("digits-mlp"));
    run.arg("--dataset").arg(digits());
    let ran = run.arg("--offline").arg(&archive).output().unwrap();
    assert!(ran.status.success(), "{ran:?}");

    let shed = Shed::start().await;
    let imported = shed.cli(&["import", archive.to_str().unwrap()]);
    assert!(imported.status.success(), "{imported:?}");
    let task = String::from_utf8(imported.stdout).unwrap();
    let task = shed.client.task(task.trim()).await.unwrap();
    result(&task);
    let judged = shed
        .client
        .curve(task.id.as_str(), "validation", "accuracy", 0);
    let accuracy = judged.await.unwrap().values[1].0;

    let kept = shed
        .client
        .artifacts(task.id.as_str(), false)
        .await
        .unwrap();
    let kinds: Vec<_> = kept
        .iter()
        .map(|one| (one.name.as_str(), one.kind))
        .collect();
    assert_eq!(
        kinds,
        [
            ("confusion", ArtifactType::Npz),
            ("predictions", ArtifactType::CsvGz),
        ]
    );
    let saved = shed.data_dir().join("predictions.csv.gz");
    let get = ["artifact", "get", task.id.as_str(), "predictions", "-o"];
    let got = shed.cli(&[&get[..], &[saved.to_str().unwrap()]].concat());
    assert!(got.status.success(), "{got:?}");
    let (rows, right) = counted(&saved);
    assert_eq!(rows, 359);
    assert!((right as f64 / rows as f64 - accuracy).abs() < 1e-6);
    let confusion = unzipped(&shed.content(&task, "confusion").await);
    let counts = confusion[0].1[128..].chunks_exact(8);
    let counts: Vec<i64> = counts
        .map(|bytes| i64::from_le_bytes(bytes.try_into().unwrap()))
        .collect();
    assert_eq!(counts.len(), 100);
    assert_eq!(counts.iter().sum::<i64>(), 359);
    let diagonal: i64 = counts.iter().step_by(11).sum();
    assert_eq!(diagonal, i64::try_from(right).unwrap());
}

/// How many rows a table of predictions has, and how many of them are right.
fn counted(path: &Path) -> (usize, usize) {
    let mut text = String::new();
    let file = std::fs::File::open(path).unwrap();
    flate2::read::GzDecoder::new(file)
        .read_to_string(&mut text)
        .unwrap();
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(rows[0], ["row", "label", "predicted"]);
    let right = rows[1..].iter().filter(|row| row[1] == row[2]).count();
    (rows.len() - 1, right)
}

#[tokio::test]
async fn the_best_snapshots_stay_and_a_folder_is_gone_on_from() {
    let shed = Shed::start().await;
    let plugin = shed.push("conformance").await;
    let dataset = shed.import("digits", &digits());
    let scores = json!({"snapshots": [0.5, 0.9, 0.1, 0.7, 0.2]});
    let mut names = Vec::new();
    let mut bundle = 0;
    for more in [
        json!({"hyperparameter": scores}),
        json!({"hyperparameter": scores, "initial_iteration": 10}),
        json!({"hyperparameter": scores, "snapshots": {"best": 1, "mode": "min"}}),
    ] {
        let task = shed.train("snapshots", &plugin, dataset, more).await;
        let task = shed.ended(&task).await;
        let chosen = &result(&task)["model_id"];
        let models = task.models.output.iter();
        let chosen = models.clone().find(|one| one.model == *chosen).unwrap();
        let mut kept: Vec<&str> = models.clone().map(|one| one.name.as_str()).collect();
        kept.sort_unstable();
        names.push(format!("{}: {}", chosen.name, kept.join(" ")));
        let folder = models.clone().find(|one| one.name == "bundle").unwrap();
        bundle = folder.model;
    }
    assert_eq!(
        names,
        [
            "weights.2: bundle weights.2 weights.4 weights.5",
            "weights.12: bundle weights.12 weights.14 weights.15",
            "weights.3: bundle weights.3",
        ]
    );
    let unpacked = shed.data_dir().join("bundle");
    let unpack = ["model", "download", &bundle.to_string(), "--unpack"];
    let unpack = [&unpack[..], &[unpacked.to_str().unwrap()]].concat();
    let first = shed.cli(&unpack);
    assert!(first.status.success(), "{first:?}");
    let vocabulary = std::fs::read_to_string(unpacked.join("words/vocabulary.txt"));
    assert_eq!(vocabulary.unwrap(), "a b c");
    assert!(
        !shed.cli(&unpack).status.success(),
        "nothing is overwritten"
    );
    let more = json!({"hyperparameter": {"snapshots": []}, "checkpoint": bundle});
    let task = shed.train("unpacked", &plugin, dataset, more).await;
    let unpacked = result(&shed.ended(&task).await);
    assert_eq!(unpacked["vocabulary"], "a b c");
    assert_eq!(
        (&unpacked["out"], &unpacked["again"], &unpacked["entries"]),
        (&json!(true), &json!(true), &json!(0))
    );
}
