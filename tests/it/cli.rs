//! The command line, as a person and as a program use it.

use std::process::Output;

use serde_json::{Value, json};

use crate::shed::{Shed, digits, plugin, root, trainshed};

#[track_caller]
fn text(output: &Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn one_command_trains_without_a_server() {
    let folder = tempfile::tempdir().unwrap();
    let action = root().join("plugins/digits-mlp/actions/train.json");
    let mut run = trainshed(folder.path());
    run.arg("run")
        .arg(&action)
        .arg("--plugin")
        .arg(plugin("digits-mlp"))
        .arg("--dataset")
        .arg(digits());

    let output = run.output().unwrap();

    let result: Value = serde_json::from_str(text(&output).trim()).unwrap();
    assert_eq!(result["model_id"], 1);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("completed"), "{told}");
    assert!(told.contains("validation/accuracy"), "{told}");

    let tasks: Value = serde_json::from_str(&text(
        &trainshed(folder.path())
            .args(["--json", "task", "ls"])
            .output()
            .unwrap(),
    ))
    .unwrap();
    assert_eq!(tasks[0]["status"], "completed");
    let id = tasks[0]["id"].as_str().unwrap();
    let curve = text(
        &trainshed(folder.path())
            .args(["task", "metrics", id, "--curve", "train/loss"])
            .output()
            .unwrap(),
    );
    assert_eq!(curve.lines().count(), 21);
    let models = text(
        &trainshed(folder.path())
            .args(["model", "ls"])
            .output()
            .unwrap(),
    );
    assert!(models.starts_with("ID\tNAME\t"), "{models}");
}

#[test]
fn the_data_sets_and_plugins_of_a_folder_are_listed_without_a_server() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| trainshed(folder.path()).args(arguments).output().unwrap();

    assert_eq!(
        text(&run(&[
            "dataset",
            "create",
            "digits",
            digits().to_str().unwrap()
        ]))
        .trim(),
        "1"
    );
    assert_eq!(
        text(&run(&[
            "dataset",
            "create",
            "digits",
            digits().to_str().unwrap()
        ]))
        .trim(),
        "1"
    );
    assert!(text(&run(&["dataset", "ls"])).contains("digits"));
    assert!(text(&run(&["dataset", "show", "1"])).contains("digits.csv"));
    assert_eq!(
        text(&run(&[
            "plugin",
            "push",
            plugin("standardize").to_str().unwrap()
        ]))
        .trim(),
        "standardize@0.1.0"
    );
    assert!(text(&run(&["plugin", "ls"])).contains("preprocess"));
    assert!(text(&run(&["plugin", "show", "standardize"])).contains("exclude"));
}

#[track_caller]
fn check_exit(output: &Output, code: i32, part: &str) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{error}");
    assert!(error.contains(part), "{error}");
    assert!(!error.contains("panicked"), "{error}");
}

#[test]
fn mistakes_have_documented_exit_codes_and_say_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| trainshed(folder.path()).args(arguments).output().unwrap();
    let action = folder.path().join("action.json");
    let write = |value: Value| std::fs::write(&action, value.to_string()).unwrap();
    let path = action.to_str().unwrap();

    check_exit(&run(&["fly"]), 2, "unrecognized subcommand");
    check_exit(&run(&["run", "/no/such/file.json"]), 1, "could not be read");
    std::fs::write(&action, "{not json").unwrap();
    check_exit(&run(&["run", path]), 2, "is not a JSON action");
    write(json!({"action": "train", "params": {"name": "x", "dataset": 1}}));
    check_exit(&run(&["submit", path]), 2, "at least 3 characters");
    check_exit(
        &run(&["task", "show", "00000000000000000000000000000000"]),
        3,
        "hint: `trainshed task ls`",
    );
    check_exit(&run(&["model", "download", "5"]), 3, "there is no model");
    check_exit(
        &run(&["--server", "http://127.0.0.1:1", "task", "ls"]),
        6,
        "trainshed serve",
    );
    let no_key = trainshed(&folder.path().join("nothing"))
        .args(["--server", "http://127.0.0.1:1", "task", "ls"])
        .output();
    check_exit(&no_key.unwrap(), 4, "no key");
    check_exit(
        &run(&["task", "ls", "--status", "done"]),
        2,
        "--status must be one of",
    );
}

#[tokio::test]
async fn a_command_finds_the_server_that_runs_on_the_data_folder() {
    let shed = Shed::start().await;
    shed.push("digits-mlp").await;
    let dataset = shed.import("digits", &digits());
    let action = shed.data_dir().join("action.json");
    let content = json!({"action": "train", "params": {"name": "submitted", "dataset": dataset, "hyperparameter": {"epochs": 1}}});
    std::fs::write(&action, content.to_string()).unwrap();

    // No --server: the address is in the data folder.
    let output = trainshed(shed.data_dir())
        .args(["submit", "--follow"])
        .arg(&action)
        .output()
        .unwrap();

    let printed = text(&output);
    let (id, result) = printed.trim().split_once('\n').unwrap();
    assert_eq!(shed.client.task(id).await.unwrap().name, "submitted");
    assert!(serde_json::from_str::<Value>(result).unwrap()["model_id"].is_number());
}

#[tokio::test]
async fn a_key_is_of_somebody_until_it_is_taken_back() {
    let shed = Shed::start().await;
    let run = |key: Option<&str>, arguments: &[&str]| {
        let mut command = trainshed(shed.data_dir());
        if let Some(key) = key {
            command.env("TRAINSHED_KEY", key);
        }
        command.args(arguments).output().unwrap()
    };
    let key = text(&run(None, &["key", "create", "ada"]))
        .trim()
        .to_owned();
    let id = text(&run(Some(&key), &["task", "create", "of ada"]));
    let task = shed.client.task(id.trim()).await.unwrap();
    assert_eq!(task.creator, "ada");

    let listed = text(&run(Some(&key), &["--json", "key", "ls"]));
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let keys = listed.as_array().unwrap();
    let current = keys.iter().find(|key| key["current"] == true).unwrap();
    assert_eq!(current["name"], "ada");
    let id = current["id"].as_str().unwrap();
    assert!(run(None, &["key", "revoke", id]).status.success());
    let refused = run(Some(&key), &["task", "ls"]);
    assert_eq!(refused.status.code(), Some(4), "{refused:?}");
}

#[test]
fn a_query_is_a_table_lines_of_json_or_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| trainshed(folder.path()).args(arguments).output().unwrap();
    let digits = digits();
    let digits = digits.to_str().unwrap();
    for name in ["digits", "numbers"] {
        text(&run(&["dataset", "create", name, digits]));
    }

    let of = ["query", "--of", "datasets"];
    let table = text(&run(&[&of[..], &["name ~ \"^d\""]].concat()));
    assert!(table.starts_with("ID\tNAME\tNUMBER\t"), "{table}");
    assert!(table.contains("1\tdigits\t1\t"), "{table}");
    assert_eq!(table.lines().count(), 2);

    let lines = text(&run(
        &[&["--json"], &of[..], &["order by name desc"]].concat()
    ));
    let names: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["name"].clone())
        .collect();
    assert_eq!(names, ["numbers", "digits"]);

    let file = folder.path().join("found.csv");
    let to = ["--fields", "name,number", "--format", "csv", "--output"];
    let arguments = [&of[..], &["order by id"], &to, &[file.to_str().unwrap()]].concat();
    assert_eq!(text(&run(&arguments)), "");
    let csv = std::fs::read_to_string(&file).unwrap();
    assert_eq!(csv, "id,name,number\n1,digits,1\n2,numbers,1\n");

    let wrong = run(&["query", "status = complete"]);
    assert_eq!(wrong.status.code(), Some(2));
    let told = String::from_utf8_lossy(&wrong.stderr);
    assert!(told.contains("status = complete\n         ^\n"), "{told}");
    assert!(told.contains("did you mean `completed`?"), "{told}");
    let wrong = run(&["task", "ls", "--filter", "nam = x"]);
    assert_eq!(wrong.status.code(), Some(2));
}
