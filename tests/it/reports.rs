//! What a plugin shows of its work is there for programs and people, and what it connects
//! comes back as somebody has edited it.

use reqwest::Method;
use serde_json::{Value, json};
use trainshed_core::task::TaskState;
use trainshed_core::view::TaskView;

use crate::shed::{Shed, digits};

impl Shed {
    async fn read(&self, task: &TaskView, path: &str) -> Value {
        let path = format!("/api/v1/tasks/{}/{path}", task.id);
        self.raw(Method::GET, &path, "").await.1
    }

    async fn reported(&self) -> TaskView {
        let plugin = self.push("conformance").await;
        let dataset = self.import("digits", &digits());
        let more = json!({"hyperparameter": {"report": {}}, "initial_iteration": 10});
        let task = self.train("reports", &plugin, dataset, more).await;
        let task = self.ended(&task).await;
        assert_eq!(task.status, TaskState::Completed, "{}", task.status_reason);
        task
    }
}

#[tokio::test]
async fn everything_that_a_plugin_reports_is_there() {
    let shed = Shed::start().await;
    let task = shed.reported().await;
    let result = Value::Object(task.result.clone().unwrap());
    let refused = result["refused"].as_str().unwrap();
    assert!(
        refused.contains("null stands for a missing number"),
        "{refused}"
    );
    let mismatch = result["mismatch"].as_str().unwrap();
    assert!(mismatch.contains("image/png"), "{mismatch}");

    let plots = shed.read(&task, "plots").await;
    let plots: Vec<String> = plots["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|plot| format!("{} {}", plot["series"].as_str().unwrap(), plot["iteration"]))
        .collect();
    assert_eq!(
        plots,
        [
            "bars 12",
            "confusion 12",
            "histogram 12",
            "line 12",
            "own 12",
            "scatter 12",
            "scatter 3d 12",
            "surface 12",
            "table 12",
        ]
    );
    let line = shed
        .read(&task, "plots/figure?title=figures&series=line")
        .await;
    assert_eq!(line["data"][0]["y"], json!([0.5, null, 0.25]));
    assert_eq!(line["layout"]["title"]["text"], "line");

    let samples = shed.read(&task, "samples?purpose=media").await;
    let samples: Vec<String> = samples["samples"]
        .as_array()
        .unwrap()
        .iter()
        .map(|sample| format!("{} {}", sample["content_type"], sample["index"]))
        .collect();
    assert_eq!(
        samples,
        [
            "\"image/png\" 12",
            "\"image/png\" 12",
            "\"text/html\" 12",
            "\"audio/wav\" 12",
            "\"text/plain\" 12",
        ]
    );
    let link = shed.read(&task, "samples?series=link").await;
    let link = &link["samples"][0];
    assert_eq!(link["uri"], "https://example.com/a.PNG?x=1");
    assert_eq!(
        (&link["sha256"], &link["name"]),
        (&Value::Null, &json!("elsewhere"))
    );
    let nowhere = result["nowhere"].as_str().unwrap();
    assert!(nowhere.starts_with("`uri` must be an address"), "{nowhere}");
    let kept = shed.read(&task, "samples?purpose=visualization").await;
    assert_eq!(kept["samples"][0]["extra"], json!({"of": "digit"}));
    assert_eq!(kept["samples"][0]["index"], 0);

    let console = shed.read(&task, "console?level=warning").await;
    assert_eq!(console["lines"][0]["text"], "look at this");
    let last = shed.read(&task, "console?order=desc&limit=1").await;
    assert_eq!(last["lines"][0]["text"], "half a line");
    let trials = shed.read(&task, "trials/reported").await;
    assert_eq!(trials, result["table"]);
    assert_eq!(trials["best_trial"], "t1");

    let id = task.id.as_str();
    let saved = shed.data_dir().join("saved");
    let save = ["--save", saved.to_str().unwrap()];
    for command in ["plots", "samples"] {
        let output = shed.cli(&[&["task", command, id], &save[..]].concat());
        assert!(output.status.success(), "{output:?}");
    }
    assert_eq!(std::fs::read_dir(&saved).unwrap().count(), 9 + 5);
    let own = std::fs::read_to_string(saved.join("figures-own-000000012.json")).unwrap();
    assert_eq!(own, "{\"data\": [ ]}");
    let found = shed.cli(&["task", "log", id, "--search", "^half", "--tail", "5"]);
    assert_eq!(String::from_utf8_lossy(&found.stdout), "half a line\n");
    let found = shed.cli(&["task", "log", id, "--level", "warning", "--reverse"]);
    assert_eq!(String::from_utf8_lossy(&found.stdout), "look at this\n");
}

#[tokio::test]
async fn connected_settings_come_back_as_somebody_has_edited_them() {
    let shed = Shed::start().await;
    let task = shed.reported().await;
    let result = task.result.clone().unwrap();
    let first = json!({"lr": 0.1, "epochs": 3, "model": {"hidden": [8, 8], "bias": true}});
    assert_eq!(result["settings"], first);
    let recorded = shed.read(&task, "params").await;
    assert_eq!(recorded["Tunable"], first);
    let configuration = shed
        .client
        .configuration(task.id.as_str(), "schedule")
        .await;
    assert_eq!(&configuration.unwrap()[..], b"steps: [1, 2] # as before\n");

    let path = format!("/api/v1/tasks/{}", task.id);
    let (status, clone) = shed.raw(Method::POST, &format!("{path}/clone"), "{}").await;
    assert_eq!(status, 201, "{clone}");
    let path = format!("/api/v1/tasks/{}", clone["id"].as_str().unwrap());
    let edited = json!({"Tunable": {"lr": 1, "model": {"hidden": [4]}}}).to_string();
    let (status, answer) = shed
        .raw(Method::PATCH, &format!("{path}/params"), edited)
        .await;
    assert_eq!(status, 200, "{answer}");
    let text = "steps: [9]\n";
    let (status, _) = shed
        .raw(Method::PUT, &format!("{path}/configuration/schedule"), text)
        .await;
    assert_eq!(status, 204);
    let queue = json!({"queue_name": "default"}).to_string();
    let (_, queued) = shed
        .raw(Method::POST, &format!("{path}/enqueue"), queue)
        .await;
    let queued: TaskView = serde_json::from_value(queued).unwrap();
    let again = shed.ended(&queued).await;
    assert_eq!(
        again.status,
        TaskState::Completed,
        "{}",
        again.status_reason
    );
    let result = again.result.clone().unwrap();
    let expected = json!({"lr": 1.0, "epochs": 3, "model": {"hidden": [4], "bias": true}});
    assert_eq!(result["settings"], expected);
    assert_eq!(result["text"], text);
}
