//! Artifacts, models, versions and garbage from the command line, and files that go where the
//! server was told.

use std::path::Path;

use expect_test::expect;
use serde_json::{Value, json};
use trainshed_core::task::TaskState;

use crate::shed::{Shed, digits};

fn files_in(folder: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    let count = |entry: std::io::Result<std::fs::DirEntry>| match entry.unwrap() {
        entry if entry.file_type().unwrap().is_dir() => files_in(&entry.path()),
        _ => 1,
    };
    entries.map(count).sum()
}

impl Shed {
    /// What a command prints; it must succeed.
    #[track_caller]
    fn says(&self, arguments: &[&str]) -> String {
        let output = self.cli(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The JSON that a command prints.
    #[track_caller]
    fn tells(&self, arguments: &[&str]) -> Value {
        let arguments = [&["--json"], arguments].concat();
        serde_json::from_str(&self.says(&arguments)).unwrap()
    }
}

#[tokio::test]
async fn what_a_task_makes_goes_to_the_output_and_is_kept_shown_and_removed() {
    let output = tempfile::tempdir().unwrap();
    let place = output.path().to_str().unwrap();
    let shed = Shed::start_in(
        tempfile::tempdir().unwrap(),
        &["--slots", "1", "--default-output", place],
    )
    .await;
    let plugin = shed.push("digits-mlp").await;
    let dataset = shed.import("digits", &digits());
    let few = json!({"hyperparameter": {"epochs": 1}});
    let task = shed.train("short run", &plugin, dataset, few).await;
    let task = shed.ended(&task).await;
    assert_eq!(task.status, TaskState::Completed, "{}", task.status_reason);
    assert!(files_in(output.path()) > 0, "models lie in the output");
    let id = task.id.as_str();

    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let report = file("report.json", "{\"accuracy\": 0.9}");
    shed.says(&["artifact", "put", id, "report", &report]);
    shed.says(&[
        "artifact",
        "put",
        id,
        "all",
        folder.path().to_str().unwrap(),
    ]);
    shed.says(&["artifact", "put", id, "paper", "https://example.com/paper"]);
    let artifacts = shed.tells(&["artifact", "ls", id]);
    // The plugin keeps its predictions and their confusion.
    let by_the_run = ["predictions", "confusion"];
    let put: Vec<&Value> = artifacts
        .as_array()
        .unwrap()
        .iter()
        .filter(|one| !by_the_run.contains(&one["name"].as_str().unwrap()))
        .collect();
    let shown: Vec<String> = put
        .iter()
        .map(|one| format!("{} {} {}", one["name"], one["type"], one["preview"]))
        .collect();
    expect![[r#"
        "all" "folder" "report.json 17 bytes\n"
        "paper" "link" "https://example.com/paper"
        "report" "json" "{\"accuracy\": 0.9}""#]]
    .assert_eq(&shown.join("\n"));
    let uri = put[2]["uri"].as_str().unwrap();
    assert!(uri.starts_with(&format!("file://{place}/")), "{uri}");
    let fetched = folder.path().join("fetched");
    let fetched = fetched.to_str().unwrap();
    shed.says(&["artifact", "get", id, "report", "-o", fetched]);
    assert_eq!(
        std::fs::read_to_string(fetched).unwrap(),
        "{\"accuracy\": 0.9}"
    );
    assert_eq!(
        shed.says(&["artifact", "get", id, "paper"]).trim(),
        "https://example.com/paper"
    );
    assert_eq!(
        shed.cli(&["artifact", "get", id, "none"]).status.code(),
        Some(3)
    );

    let model = task.result.as_ref().unwrap()["model_id"].to_string();
    shed.says(&[
        "model",
        "edit",
        &model,
        "--comment",
        "good",
        "--label",
        "cat=1",
        "--metadata",
        "k=v",
    ]);
    let lineage = shed.tells(&["model", "lineage", &model]);
    assert_eq!(lineage["ancestors"][0]["task"], id);
    shed.says(&["model", "publish", &model]);
    let shown = shed.tells(&["model", "show", &model]);
    assert_eq!(
        (&shown["comment"], &shown["labels"]),
        (&json!("good"), &json!({"cat": 1}))
    );
    assert_eq!(
        shed.cli(&["model", "edit", &model, "--name", "x"])
            .status
            .code(),
        Some(5)
    );
    let weights = file("weights", "weights");
    let second = shed.says(&[
        "model",
        "register",
        "made by hand",
        &weights,
        "--parent",
        &model,
    ]);
    shed.says(&["model", "archive", second.trim()]);
    shed.says(&["model", "rm", second.trim()]);

    shed.says(&["artifact", "rm", id, "all"]);
    let before = files_in(output.path());
    let counted = shed.tells(&["gc", "--dry-run", "--keep", "0"]);
    assert_eq!(counted["files"], 2, "the folder, and the weights");
    assert_eq!(shed.tells(&["gc", "--keep", "0"]), counted);
    assert_eq!(files_in(output.path()), before - 1);
}

#[tokio::test]
async fn versions_are_made_of_what_lies_elsewhere_and_compared() {
    let share = tempfile::tempdir().unwrap();
    let place = share.path().to_str().unwrap().to_owned();
    let shed = Shed::start_in(
        tempfile::tempdir().unwrap(),
        &["--no-agent", "--allow", &place],
    )
    .await;
    std::fs::create_dir(share.path().join("in")).unwrap();
    std::fs::write(share.path().join("in/a.csv"), "x,kind\n1,b\n3,a\n").unwrap();
    std::fs::write(share.path().join("in/b.txt"), "text").unwrap();
    let inside = format!("{place}/in");
    let linked = shed.says(&["dataset", "create", "things", &inside, "--link"]);
    let linked = linked.trim();
    assert_eq!(
        files_in(&shed.data_dir().join("files")),
        0,
        "nothing was copied"
    );

    std::fs::rename(share.path().join("in/b.txt"), share.path().join("in/c.txt")).unwrap();
    let urls = share.path().join("urls");
    std::fs::write(&urls, format!("# all\n{inside}/a.csv\n{inside}/c.txt\n")).unwrap();
    let urls = urls.to_str().unwrap();
    let copied = shed.says(&[
        "dataset",
        "create",
        "things",
        "--from-urls",
        urls,
        "--parent",
        linked,
    ]);
    let copied = copied.trim();
    let difference = shed.tells(&["dataset", "diff", copied]);
    assert_eq!(difference["moved"][0]["to"], "c.txt");
    assert_eq!(
        (&difference["unchanged"], &difference["added"]),
        (&json!(1), &json!([]))
    );

    let uploaded = shed.says(&["dataset", "create", "uploaded", &inside, "--tag", "clean"]);
    let tables = shed.tells(&["dataset", "show", uploaded.trim(), "--tables"]);
    assert_eq!(tables[0]["columns"][0]["statistics"]["mean"], 2.0);
    assert_eq!(tables[0]["preview"][0], json!(["1", "b"]));
    shed.says(&["dataset", "publish", uploaded.trim()]);
    let refused = shed.cli(&["dataset", "tag", uploaded.trim(), "other"]);
    assert_eq!(refused.status.code(), Some(5), "it is published");
    shed.says(&["dataset", "rm", linked, "--force"]);
    let refused = shed.cli(&["dataset", "create", "secrets", "--from", "/etc"]);
    assert_eq!(
        refused.status.code(),
        Some(4),
        "the server may not be sent there"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_come_back_as_they_were_given_and_overwrite_nothing() {
    let shed = Shed::start().await;
    let at = |name: &str| shed.data_dir().join(name);
    let text = |name: &str| at(name).to_str().unwrap().to_owned();
    std::fs::create_dir_all(at("given/train/\u{fc}")).unwrap();
    std::fs::write(at("given/a.csv"), "x,y\n1,2\n").unwrap();
    std::fs::write(at("given/train/\u{fc}/empty"), "").unwrap();
    let same = |name: &str| {
        assert_eq!(
            std::fs::read_to_string(at(name).join("a.csv")).unwrap(),
            "x,y\n1,2\n"
        );
        assert_eq!(
            std::fs::read(at(name).join("train/\u{fc}/empty")).unwrap(),
            b""
        );
    };

    let version = shed.says(&["dataset", "create", "numbers", &text("given")]);
    let download = [
        "dataset",
        "download",
        version.trim(),
        "-o",
        &text("version"),
    ];
    assert_eq!(shed.says(&download).trim(), text("version"));
    same("version");
    std::fs::write(at("version/a.csv"), "x,y\n1,2\n").unwrap();
    assert!(!shed.cli(&download).status.success());
    same("version");
    let missing = shed.cli(&["dataset", "download", "99"]);
    assert_eq!(missing.status.code(), Some(3));

    let task = shed.says(&["task", "create", "a task"]);
    let task = task.trim();
    shed.says(&["artifact", "put", task, "folder", &text("given")]);
    let get = [
        "artifact",
        "get",
        task,
        "folder",
        "--unpack",
        &text("unpacked"),
    ];
    assert_eq!(shed.says(&get).trim(), text("unpacked"));
    same("unpacked");
    assert!(!shed.cli(&get).status.success());
    let few = text("few");
    let few = [&get[..5], &[&few, "--max-bytes", "3"]].concat();
    assert!(!shed.cli(&few).status.success());
    assert!(!at("few").exists(), "nothing is left of what was too much");
    shed.says(&["artifact", "put", task, "file", &text("given/a.csv")]);
    let file = ["artifact", "get", task, "file", "--unpack", &text("file")];
    assert_eq!(shed.cli(&file).status.code(), Some(2));
}
