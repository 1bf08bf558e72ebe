//! Puts artifacts of every kind, reads them, and tries what is not allowed.

use serde_json::{Map, Value, json};
use trainshed_sdk::artifact::{TableFormat, Values};
use trainshed_sdk::{ArtifactError, Checkpoint, DType, Failure, Keep, ModelDetails, Run, Tensor};

pub(crate) fn put(run: &Run, number: i64) -> Result<Value, Failure> {
    let artifacts = run.artifacts();
    artifacts
        .clone()
        .with_note("unit", "metres")
        .with_note("rows", 3)
        .put_json("summary", &json!({"number": number, "NaN": null}))?;

    let scores = Tensor::from_slice(&[3], &[0.1f32, 0.9, f32::INFINITY])?;
    let columns = || -> Vec<(&str, Values<'_>)> {
        let texts = ["plain", "a, \"b\"", "line\nbreak"];
        vec![
            ("row", vec![0, 1, number].into()),
            ("weight", vec![0.5, -2.0, 1e-300].into()),
            ("text", texts.map(str::to_owned).to_vec().into()),
            ("right", vec![true, false, true].into()),
            ("score", (&scores).into()),
        ]
    };
    artifacts.put_table("predictions", columns(), TableFormat::CsvGz)?;
    artifacts.put_table("predictions as parquet", columns(), TableFormat::Parquet)?;

    let matrix = Tensor::from_slice(&[2, 2], &[3i64, 1, 0, number])?;
    artifacts.put_tensors(
        "arrays",
        &[("confusion", &matrix), ("nested/scores", &scores)],
    )?;

    let pixels = Tensor::from_slice(&[2, 3], &[0u8, 128, 255, 1, 2, 3])?;
    artifacts.put_image("picture", &pixels)?;

    std::fs::create_dir_all("/scratch/kept/sub")?;
    std::fs::write("/scratch/kept/one.txt", "one")?;
    std::fs::write("/scratch/kept/sub/two.bin", [0, 255, 7])?;
    artifacts.put_folder("folder", "kept")?;
    artifacts.put_file("notes.yaml", "kept/one.txt", Some("text/yaml"))?;
    artifacts.put_bytes("blob", b"\x80\x04pickle", None)?;
    artifacts.put_link("elsewhere", "s3://bucket/object")?;

    // The same again is no new version; other content is.
    let again = artifacts.put_bytes("blob", b"\x80\x04pickle", None)?;
    artifacts.put_json("history", &1)?;
    artifacts.put_json("history", &1)?;
    let changed = artifacts.put_json("history", &2)?;

    let mut refused = Map::new();
    let mut note = |what: &str, answer: Result<_, ArtifactError>| {
        let said = answer.err().map(|error| error.to_string());
        refused.insert(what.to_owned(), json!(said));
    };
    note("no name", artifacts.put_json("", &1).map(drop));
    note(
        "way out",
        artifacts.put_file("x", "../../key", None).map(drop),
    );
    note(
        "absolute",
        artifacts.put_file("x", "/etc/passwd", None).map(drop),
    );
    note("folder out", artifacts.put_folder("x", "..").map(drop));
    note("no file", artifacts.put_file("x", "absent", None).map(drop));
    note(
        "a folder as file",
        artifacts.put_file("x", "kept", None).map(drop),
    );
    note(
        "name in archive",
        artifacts.put_tensors("x", &[("../a", &matrix)]).map(drop),
    );
    let uneven = vec![("a", vec![1i64].into()), ("b", vec![1i64, 2].into())];
    note(
        "uneven",
        artifacts
            .put_table("x", uneven, TableFormat::CsvGz)
            .map(drop),
    );
    let flat = vec![("a", (&matrix).into())];
    note(
        "rank",
        artifacts.put_table("x", flat, TableFormat::CsvGz).map(drop),
    );
    note("no image", artifacts.put_image("x", &scores).map(drop));
    note("no address", artifacts.put_link("x", "somewhere").map(drop));
    let long = artifacts.clone().with_note("long", "x".repeat(5000));
    note("long note", long.put_json("x", &1).map(drop));
    note("unknown", artifacts.open(None, "absent").map(drop));
    note(
        "other task",
        artifacts.open(Some(&"0".repeat(32)), "x").map(drop),
    );
    note("no task", artifacts.open(Some("../x"), "x").map(drop));
    note("link", artifacts.open(None, "elsewhere").map(drop));
    let folder = artifacts.open(None, "folder")?;
    note("save out", folder.save("../out"));
    let committed = folder.dataset().commit_version("kept", "none");
    refused.insert(
        "no data set".to_owned(),
        json!(committed.err().map(|error| error.to_string())),
    );

    let mut read = read(run, None)?;
    read["refused"] = refused.into();
    read["again"] = again.version.into();
    read["changed"] = changed.version.into();
    read["number"] = number.into();
    Ok(read)
}

/// What the artifacts of a task hold, as they are read by every means.
pub(crate) fn read(run: &Run, task: Option<&str>) -> Result<Value, Failure> {
    let artifacts = run.artifacts();
    let listed: Vec<String> = artifacts
        .list(task)?
        .into_iter()
        .map(|artifact| format!("{} {} v{}", artifact.name, artifact.kind, artifact.version))
        .collect();
    let summary = artifacts.open(task, "summary")?;
    let document: Value = summary.json()?;
    let notes = summary.info().notes;

    let mut tables = Map::new();
    for name in ["predictions", "predictions as parquet"] {
        let opened = artifacts.open(task, name)?;
        let dataset = opened.dataset();
        let table = dataset.table(None)?;
        let weights = table.load(&["row", "weight"], DType::F64)?;
        tables.insert(
            name.to_owned(),
            json!({
                "path": table.path,
                "rows": table.rows,
                "numbers": weights.to_vec::<f64>()?,
                "texts": table.texts("text", 0, 9)?,
            }),
        );
    }
    let arrays = artifacts.open(task, "arrays")?;
    let arrays = arrays.dataset();
    let confusion = arrays
        .tables()?
        .into_iter()
        .find(|table| {
            table
                .columns
                .iter()
                .any(|column| column.name == "confusion")
        })
        .ok_or_else(|| Failure::failed("the matrix is not there"))?;
    let confusion = confusion.load_array("confusion", DType::I64)?;

    let folder = format!("copy of {}", task.unwrap_or("own"));
    artifacts.open(task, "folder")?.save(&folder)?;
    let one = std::fs::read_to_string(format!("/scratch/{folder}/one.txt"))?;
    let two = std::fs::read(format!("/scratch/{folder}/sub/two.bin"))?;
    let again = artifacts.open(task, "folder")?.save(&folder);
    let blob = artifacts.open(task, "blob")?;
    blob.save(&format!("{folder}.blob"))?;
    Ok(json!({
        "listed": listed,
        "document": document,
        "notes": notes,
        "tables": tables,
        "confusion": confusion.to_vec::<i64>()?,
        "folder": [json!(one), json!(two)],
        "twice": again.err().map(|error| error.to_string()),
        "part": blob.read(2, 100)?,
        "behind": blob.read(100, 1)?,
        "saved": std::fs::read(format!("/scratch/{folder}.blob"))?,
        "picture": artifacts.open(task, "picture")?.info().preview,
    }))
}

/// Saves a snapshot with each score and a folder; or gives what the folder holds.
pub(crate) fn snapshots(
    run: &Run,
    checkpoint: Option<&Checkpoint>,
    scores: &[f64],
) -> Result<Value, Failure> {
    if let Some(checkpoint) = checkpoint {
        let out = checkpoint.unpack("../out");
        checkpoint.unpack("model")?;
        let again = checkpoint.unpack("model");
        return Ok(json!({
            "vocabulary": std::fs::read_to_string("/scratch/model/words/vocabulary.txt")?,
            "entries": checkpoint.entries()?.len(),
            "out": out.is_err(),
            "again": again.is_err(),
        }));
    }
    std::fs::create_dir_all("/scratch/bundle/words")?;
    std::fs::write("/scratch/bundle/words/vocabulary.txt", "a b c")?;
    run.save_folder("bundle", "bundle", &ModelDetails::default())?;
    let keep = Keep {
        best: 2,
        last: 1,
        ..Keep::default()
    };
    let mut saved = Vec::new();
    for (iteration, &score) in (1..).zip(scores) {
        let details = ModelDetails {
            iteration,
            ..ModelDetails::default()
        };
        let weights = Tensor::from_slice(&[1], &[score])?;
        let tensors = [("w".to_owned(), weights)];
        saved.push(run.save_snapshot("weights", &tensors, &details, Some(score), keep)?);
    }
    run.set_checkpoint_output("weights")?;
    Ok(json!({ "saved": saved }))
}
