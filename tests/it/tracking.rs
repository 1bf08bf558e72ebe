//! The life of tasks through the API and the command line.

use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};
use trainshed_core::task::TaskState;
use trainshed_core::view::TaskView;

use crate::shed::{Shed, root};

impl Shed {
    /// One call with a JSON body: status, headers and body of the answer.
    async fn call(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> (StatusCode, header::HeaderMap, Value) {
        let url = format!("{}/api/v1{path}", self.client.url());
        let mut request = reqwest::Client::new()
            .request(method, url)
            .bearer_auth(&self.key);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.unwrap();
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = answer.bytes().await.unwrap();
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        (status, headers, body)
    }

    async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        let (status, _, body) = self.call(Method::POST, path, &[], Some(body)).await;
        (status, body)
    }

    /// Standard output of a `trainshed` command against this server.
    fn run_cli(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let done = self.cli(arguments);
        let text = String::from_utf8(done.stdout).unwrap().trim().to_owned();
        (done.status.code(), text)
    }
}

#[tokio::test]
async fn a_draft_is_made_enqueued_run_published_cloned_edited_and_run_again() {
    let shed = Shed::start().await;
    let plugin = shed.push("linear-regression").await;
    let diabetes = root().join("plugins/linear-regression/data/diabetes.csv");
    let dataset = shed.import("diabetes", &diabetes);
    let draft = json!({
        "name": "line fit", "project": "golden/path", "tags": ["b", "a"], "comment": "first",
        "action": {"action": "train", "plugin": plugin,
                   "params": {"dataset": dataset, "hyperparameter": {"method": "gradient", "epochs": 9}}},
        "parameters": {"General": {"epochs": 2}, "Notes": {"why": null}},
        "configuration": {"General": "a: 1 # kept\n"},
    });
    let (status, task) = shed.post("/tasks", &draft).await;
    assert_eq!(status, StatusCode::CREATED, "{task}");
    let id = task["id"].as_str().unwrap().to_owned();
    assert_eq!(
        (&task["status"], &task["tags"]),
        (&json!("created"), &json!(["a", "b"]))
    );
    assert_eq!(
        task["params"]["hyperparameter"],
        json!({"method": "gradient", "epochs": 2})
    );

    let (status, refused) = shed.post(&format!("/tasks/{id}/enqueue"), &json!({})).await;
    assert_eq!(
        (status, &refused["pointer"]),
        (StatusCode::BAD_REQUEST, &json!("/queue"))
    );
    let (status, refused) = shed
        .post(
            &format!("/tasks/{id}/enqueue"),
            &json!({"queue_name": "nowhere"}),
        )
        .await;
    assert_eq!(
        (status, &refused["type"]),
        (StatusCode::BAD_REQUEST, &json!("unknown-queue"))
    );
    let (_, queued) = shed
        .post(
            &format!("/tasks/{id}/enqueue"),
            &json!({"queue_name": "default"}),
        )
        .await;
    let task: TaskView = serde_json::from_value(queued).unwrap();
    let ended = shed.ended(&task).await;
    assert_eq!(
        ended.status,
        TaskState::Completed,
        "{}",
        ended.status_reason
    );

    let (status, refused) = shed.post(&format!("/tasks/{id}/dequeue"), &json!({})).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(
        (&refused["type"], &refused["current"], &refused["wanted"]),
        (
            &json!("invalid-task-status"),
            &json!("completed"),
            &json!("created")
        )
    );
    let (status, published) = shed.post(&format!("/tasks/{id}/publish"), &json!({})).await;
    assert_eq!(
        (status, &published["status"]),
        (StatusCode::OK, &json!("published"))
    );
    for verb in ["enqueue", "start", "stop", "reset"] {
        let body = json!({"queue_name": "default", "force": true});
        let (status, refused) = shed.post(&format!("/tasks/{id}/{verb}"), &body).await;
        assert_eq!(
            (status, &refused["type"]),
            (StatusCode::BAD_REQUEST, &json!("invalid-task-status")),
            "{verb}"
        );
    }

    let (status, clone) = shed.post(&format!("/tasks/{id}/clone"), &json!({})).await;
    assert_eq!(
        (status, &clone["name"]),
        (StatusCode::CREATED, &json!("Clone Of line fit"))
    );
    assert_eq!(
        (&clone["parent"], &clone["models"]["output"]),
        (&json!(id), &json!([]))
    );
    let clone_id = clone["id"].as_str().unwrap().to_owned();
    let params = format!("/tasks/{clone_id}/params?form=flat");
    let edited = json!({"General/epochs": 1});
    let (status, _, edited) = shed.call(Method::PATCH, &params, &[], Some(&edited)).await;
    assert_eq!(status, StatusCode::OK, "{edited}");
    let (_, _, flat) = shed.call(Method::GET, &params, &[], None).await;
    assert_eq!(
        (&flat["General/epochs"], &flat["Notes/why"]),
        (&json!(1), &Value::Null)
    );
    let (_, queued) = shed
        .post(
            &format!("/tasks/{clone_id}/enqueue"),
            &json!({"queue_name": "default"}),
        )
        .await;
    let task: TaskView = serde_json::from_value(queued).unwrap();
    let again = shed.ended(&task).await;
    assert_eq!(
        again.status,
        TaskState::Completed,
        "{}",
        again.status_reason
    );
    assert!(
        again.last_iteration < ended.last_iteration,
        "it ran with the edited parameter"
    );
    let content = shed
        .client
        .configuration(&clone_id, "General")
        .await
        .unwrap();
    assert_eq!(&content[..], b"a: 1 # kept\n");
}

#[tokio::test]
async fn a_request_with_a_key_is_done_once_and_documents_have_tags() {
    let shed = Shed::start().await;
    let draft = json!({"name": "only once"});
    let key = [("idempotency-key", "k-1")];
    let (status, first, task) = shed.call(Method::POST, "/tasks", &key, Some(&draft)).await;
    assert_eq!(status, StatusCode::CREATED);
    let (status, second, again) = shed.call(Method::POST, "/tasks", &key, Some(&draft)).await;
    assert_eq!((status, &again), (StatusCode::CREATED, &task));
    assert_eq!(first["location"], second["location"]);
    assert_eq!(second["idempotency-replayed"], "true");
    let other = json!({"name": "another"});
    let (status, _, refused) = shed.call(Method::POST, "/tasks", &key, Some(&other)).await;
    assert_eq!(
        (status, &refused["type"]),
        (StatusCode::UNPROCESSABLE_ENTITY, &json!("key-reused"))
    );

    let path = format!("/tasks/{}", task["id"].as_str().unwrap());
    let (_, headers, _) = shed.call(Method::GET, &path, &[], None).await;
    let tag = headers["etag"].to_str().unwrap().to_owned();
    let (status, headers, _) = shed
        .call(Method::GET, &path, &[("if-none-match", &tag)], None)
        .await;
    assert_eq!(
        (status, headers["etag"].to_str().unwrap()),
        (StatusCode::NOT_MODIFIED, &*tag)
    );
    let edit = json!({"comment": "changed"});
    let (status, _, _) = shed
        .call(Method::PATCH, &path, &[("if-match", &tag)], Some(&edit))
        .await;
    assert_eq!(status, StatusCode::OK);
    let (status, _, refused) = shed
        .call(Method::PATCH, &path, &[("if-match", &tag)], Some(&edit))
        .await;
    assert_eq!(
        (status, &refused["type"]),
        (StatusCode::PRECONDITION_FAILED, &json!("changed-since"))
    );
    let identity = json!({"id": "0".repeat(32)});
    let (status, _, refused) = shed.call(Method::PATCH, &path, &[], Some(&identity)).await;
    assert_eq!(
        (status, &refused["pointer"]),
        (StatusCode::BAD_REQUEST, &json!("/id"))
    );
}

#[tokio::test]
async fn tasks_that_run_elsewhere_are_moved_by_their_programs() {
    let shed = Shed::start().await;
    let (_, task) = shed
        .post("/tasks", &json!({"name": "elsewhere", "type": "testing"}))
        .await;
    let id = task["id"].as_str().unwrap();
    let (_, started) = shed.post(&format!("/tasks/{id}/start"), &json!({})).await;
    assert_eq!(started["status"], "in_progress");
    let (_, alive) = shed.post(&format!("/tasks/{id}/ping"), &json!({})).await;
    assert_eq!(alive["running"], true);
    let progress = format!("/tasks/{id}/progress");
    for (percent, status) in [(42.5, StatusCode::OK), (101.0, StatusCode::BAD_REQUEST)] {
        let body = json!({"progress": percent});
        let (answered, _, _) = shed.call(Method::PUT, &progress, &[], Some(&body)).await;
        assert_eq!(answered, status, "{percent}");
    }
    let failed = json!({"reason": "out of luck", "message": "a long story"});
    let (_, failed) = shed.post(&format!("/tasks/{id}/fail"), &failed).await;
    assert_eq!(
        (&failed["status"], &failed["progress"]),
        (&json!("failed"), &json!(42.5))
    );
    assert_eq!(failed["status_message"], "a long story");

    let unknown = "f".repeat(32);
    let (status, moved) = shed
        .post("/tasks/archive", &json!({"ids": [id, unknown, "x"]}))
        .await;
    assert_eq!(
        (status, &moved["succeeded"]),
        (StatusCode::OK, &json!([id]))
    );
    assert_eq!(moved["failed"][0]["error"]["type"], "unknown-task");
    assert_eq!(moved["failed"][1]["error"]["type"], "invalid-request");
    let (status, _, found) = shed
        .call(
            Method::GET,
            "/tasks/by-name?project=default&name=elsewhere",
            &[],
            None,
        )
        .await;
    assert_eq!((status, &found["id"]), (StatusCode::OK, &json!(id)));
    let (_, moved) = shed.post("/tasks/delete", &json!({"ids": [id]})).await;
    assert_eq!(moved["succeeded"], json!([id]));
    let (status, _, _) = shed
        .call(
            Method::GET,
            "/tasks/by-name?project=default&name=elsewhere",
            &[],
            None,
        )
        .await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_command_line_moves_tasks_and_projects() {
    let shed = Shed::start().await;
    let (code, id) = shed.run_cli(&[
        "task",
        "create",
        "from the shell",
        "--project",
        "shell/one",
        "--param",
        "lr=0.5",
        "--param",
        "Args/name=x",
        "--tag",
        "t",
        "--commit",
        "abc",
    ]);
    assert_eq!(code, Some(0));
    let (_, params) = shed.run_cli(&["task", "params", &id]);
    assert_eq!(
        params,
        "PARAMETER\tTYPE\tVALUE\nArgs/name\tstr\tx\nGeneral/lr\tfloat\t0.5"
    );
    let (_, params) = shed.run_cli(&["task", "params", &id, "lr=1", "--remove", "Args/name"]);
    assert_eq!(params, "PARAMETER\tTYPE\tVALUE\nGeneral/lr\tint\t1");
    let (_, properties) = shed.run_cli(&["task", "property", &id, "note=good"]);
    assert_eq!(properties, "PROPERTY\tVALUE\tDESCRIPTION\nnote\tgood");
    let file = shed.data_dir().join("config.yaml");
    std::fs::write(&file, "x: 1 # é\r\n").unwrap();
    let put = [
        "task",
        "config",
        "put",
        &id,
        file.to_str().unwrap(),
        "--type",
        "yaml",
    ];
    assert_eq!(shed.run_cli(&put).0, Some(0));
    let (_, content) = shed.run_cli(&["task", "config", "get", &id]);
    assert_eq!(content, "x: 1 # é");
    assert_eq!(
        shed.run_cli(&["task", "enqueue", &id]),
        (Some(0), id.clone())
    );
    assert_eq!(
        shed.run_cli(&["task", "dequeue", &id]),
        (Some(0), id.clone())
    );
    assert_eq!(shed.run_cli(&["task", "dequeue", &id]).0, Some(5));
    let (_, clone) = shed.run_cli(&["task", "clone", &id]);
    let (_, moved) = shed.run_cli(&["task", "edit", &clone, "--name", "renamed"]);
    assert_eq!(moved, "created");
    assert_eq!(
        shed.run_cli(&["task", "move", &clone, "shell/two"]).0,
        Some(0)
    );
    assert_eq!(shed.run_cli(&["task", "publish", &id]).0, Some(5));
    assert_eq!(
        shed.run_cli(&["task", "publish", &id, "--force"]).0,
        Some(0)
    );
    assert_eq!(shed.run_cli(&["task", "delete", &id]).0, Some(5));
    assert_eq!(shed.run_cli(&["task", "archive", &id]).0, Some(0));

    let (_, listed) = shed.run_cli(&["project", "ls", "--children", "--json"]);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let names: Vec<&str> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|project| project["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["shell", "shell/one", "shell/two"]);
    let (_, renamed) = shed.run_cli(&["project", "rename", "shell/two", "three"]);
    assert_eq!(renamed, "shell/three");
    let (_, moved) = shed.run_cli(&["project", "move", "shell/three", "/"]);
    assert_eq!(moved, "three");
    assert_eq!(shed.run_cli(&["project", "create", "four"]).0, Some(0));
    assert_eq!(
        shed.run_cli(&["project", "merge", "three", "four"]).1,
        "four"
    );
    assert_eq!(shed.run_cli(&["project", "delete", "four"]).0, Some(5));
    assert_eq!(
        shed.run_cli(&["project", "delete", "four", "--force"]).0,
        Some(0)
    );
    assert_eq!(shed.run_cli(&["project", "show", "four"]).0, Some(3));
}
