//! Malformed requests: each is refused with its field, its value and what would be right.

use expect_test::{Expect, expect};
use reqwest::Method;
use serde_json::{Value, json};

use crate::shed::{Shed, digits};

impl Shed {
    /// A request with a body that may be anything, as a hostile client would send it.
    pub(crate) async fn raw(
        &self,
        method: Method,
        path: &str,
        body: impl Into<reqwest::Body>,
    ) -> (u16, Value) {
        let request =
            reqwest::Client::new().request(method, format!("{}{path}", self.client.url()));
        let request = request
            .bearer_auth(&self.key)
            .header("content-type", "application/json");
        let response = request.body(body).send().await.unwrap();
        let status = response.status().as_u16();
        (
            status,
            serde_json::from_str(&response.text().await.unwrap()).unwrap_or(Value::Null),
        )
    }

    #[track_caller]
    fn check_refused(&self, answer: &(u16, Value), expected: &Expect) {
        let (status, problem) = answer;
        let text = |key: &str| problem[key].as_str().unwrap_or("-").to_owned();
        expected.assert_eq(&format!(
            "{status} {} {}: {}",
            text("type"),
            text("pointer"),
            text("detail")
        ));
    }

    async fn check_action(&self, action: Value, expected: Expect) {
        let answer = self
            .raw(Method::POST, "/api/v1/actions", action.to_string())
            .await;
        self.check_refused(&answer, &expected);
    }
}

#[tokio::test]
async fn a_malformed_action_is_refused_before_anything_is_queued() {
    let shed = Shed::start().await;
    let plugin = shed.push("digits-mlp").await;
    let dataset = shed.import("digits", &digits());
    let train = |changes: Value| {
        let mut action = json!({"action": "train", "plugin": plugin, "params": {"name": "a name", "dataset": dataset, "hyperparameter": {}}});
        action["params"]
            .as_object_mut()
            .unwrap()
            .extend(changes.as_object().unwrap().clone());
        action
    };

    shed.check_action(
        train(json!({"name": " "})),
        expect!["422 invalid-action /params/name: name is required and must not be blank"],
    )
    .await;
    shed.check_action(train(json!({"dataset": "abc"})), expect![[r#"422 invalid-action /params/dataset: dataset must be the integer id of a data set, but it is "abc""#]]).await;
    shed.check_action(
        train(json!({"dataset": 99})),
        expect!["422 unknown-data-set /params/dataset: there is no data set 99"],
    )
    .await;
    shed.check_action(
        train(json!({"checkpoint": 99})),
        expect!["422 unknown-model /params/checkpoint: there is no model 99"],
    )
    .await;
    shed.check_action(train(json!({"hyperparameter": null})), expect!["422 invalid-action /params/hyperparameter: hyperparameter is required when is_tune=False"]).await;
    shed.check_action(train(json!({"is_tune": true, "hyperparameter": null})), expect!["422 invalid-action /params/hyperparameters: hyperparameters is required when is_tune=True"]).await;
    shed.check_action(
        train(json!({"hyperparametr": {}})),
        expect!["422 invalid-action /params/hyperparametr: params has no field `hyperparametr`"],
    )
    .await;
    shed.check_action(
        json!({"action": "train", "plugin": "digit-mlp", "params": train(json!({}))["params"]}),
        expect!["422 unknown-plugin /plugin: no plugin `digit-mlp` is installed"],
    )
    .await;
    shed.check_action(json!({"action": "preprocess", "plugin": plugin, "params": {"name": "a name", "dataset": dataset}}), expect!["422 unknown-action /action: the plugin `digits-mlp@0.1.0` has no action `preprocess`; it has `train`"]).await;

    let tasks = shed.raw(Method::GET, "/api/v1/tasks", "").await;
    assert_eq!(tasks.1["items"], json!([]));
}

#[tokio::test]
async fn an_action_that_names_no_plugin_takes_the_only_one_that_can() {
    let shed = Shed::start().await;
    let dataset = shed.import("digits", &digits());
    let action = json!({"action": "train", "params": {"name": "any plugin", "dataset": dataset, "hyperparameter": {"epochs": 1}}});
    shed.check_action(
        action.clone(),
        expect!["422 unknown-plugin /plugin: no installed plugin has the action `train`"],
    )
    .await;

    shed.push("standardize").await;
    shed.push("digits-mlp").await;
    let task = shed.client.submit(&action).await.unwrap().task;
    assert_eq!(task.plugin.as_ref().unwrap().name, "digits-mlp");
    let (status, problem) = shed
        .raw(Method::POST, "/api/v1/actions", action.to_string())
        .await;
    let detail = problem["detail"].as_str().unwrap();
    assert_eq!(
        (status, &problem["type"], &problem["pointer"]),
        (409, &json!("name-taken"), &json!("/params/name"))
    );
    assert!(
        detail.contains("the name `any plugin` is in use") && detail.contains(task.id.as_str()),
        "{detail}"
    );
}

#[tokio::test]
async fn every_other_request_that_is_wrong_has_its_answer() {
    let shed = Shed::start().await;
    let check = async |method: Method, path: &str, body: &str, expected: Expect| {
        shed.check_refused(&shed.raw(method, path, body.to_owned()).await, &expected);
    };

    check(Method::POST, "/api/v1/actions", "{", expect!["400 invalid-body -: the body is no JSON document: EOF while parsing an object at line 1 column 1"]).await;
    check(
        Method::GET,
        "/api/v1/tasks/xyz",
        "",
        expect!["400 invalid-request id: `xyz` is not an id: expected 32 hexadecimal digits"],
    )
    .await;
    check(
        Method::GET,
        "/api/v1/tasks/00000000000000000000000000000000",
        "",
        expect!["404 unknown-task -: there is no task `00000000000000000000000000000000`"],
    )
    .await;
    check(Method::GET, "/api/v1/tasks?status=done", "", expect!["400 invalid-request status: status must be of created, queued, in_progress, completed, failed, stopped, published, but one is `done`"]).await;
    check(
        Method::GET,
        "/api/v1/tasks?after=x",
        "",
        expect!["400 invalid-request after: `x` is not where a list goes on: use the `next` of the page before"],
    )
    .await;
    check(
        Method::GET,
        "/api/v1/datasets/7",
        "",
        expect!["404 unknown-data-set -: there is no data set `7`"],
    )
    .await;
    check(
        Method::GET,
        "/api/v1/models/7",
        "",
        expect!["404 unknown-model -: there is no model `7`"],
    )
    .await;
    check(
        Method::GET,
        "/api/v1/nothing",
        "",
        expect!["404 unknown-path -: there is nothing at `/api/v1/nothing`"],
    )
    .await;
    check(
        Method::DELETE,
        "/api/v1/tasks",
        "",
        expect!["405 unknown-method -: `/api/v1/tasks` does not answer DELETE"],
    )
    .await;
    check(Method::PUT, "/api/v1/files/abc", "x", expect!["400 invalid-request sha256: `abc` is not a digest: expected 64 hexadecimal digits of SHA-256"]).await;
    check(
        Method::POST,
        "/api/v1/tasks/00000000000000000000000000000000/stop",
        "{",
        expect!["400 invalid-body -: the body is no JSON document: EOF while parsing an object at line 1 column 1"],
    )
    .await;
    let digest = "0".repeat(64);
    check(Method::PUT, &format!("/api/v1/files/{digest}"), "x", expect!["422 wrong-digest -: the content has the SHA-256 2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881, but 0000000000000000000000000000000000000000000000000000000000000000 was announced"]).await;
    let entry = json!({"path": "../a", "sha256": digest, "size_bytes": 1});
    check(Method::POST, "/api/v1/datasets", &json!({"name": "escape", "files": [entry]}).to_string(), expect!["422 invalid-data-set /files: `../a` is not a path inside a data set: it must be relative, with `/` between its parts and no `..`"]).await;
    let entry = json!({"path": "a", "sha256": digest, "size_bytes": 1});
    check(Method::POST, "/api/v1/datasets", &json!({"name": "missing", "files": [entry]}).to_string(), expect!["422 missing-file /files: the content of `a` (0000000000000000000000000000000000000000000000000000000000000000, 1 bytes) has not been uploaded"]).await;
    check(
        Method::POST,
        "/api/v1/leases/00000000000000000000000000000000/1/finish",
        r#"{"state":"failed","reason":"x"}"#,
        expect!["404 unknown-task -: there is no task 00000000000000000000000000000000"],
    )
    .await;
}

#[tokio::test]
async fn nobody_gets_in_without_a_key() {
    let shed = Shed::start().await;
    let get = |path: &str| reqwest::Client::new().get(format!("{}{path}", shed.client.url()));

    assert_eq!(get("/api/v1/tasks").send().await.unwrap().status(), 401);
    assert_eq!(
        get("/api/v1/tasks")
            .bearer_auth("guess")
            .send()
            .await
            .unwrap()
            .status(),
        401
    );
    assert_eq!(get("/livez").send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn what_is_not_a_plugin_is_refused_with_the_reason() {
    let shed = Shed::start().await;
    let push = async |body: Vec<u8>| {
        let (status, problem) = shed.raw(Method::POST, "/api/v1/plugins", body).await;
        assert_eq!(status, 422, "{problem}");
        problem["detail"].as_str().unwrap().to_owned()
    };

    assert!(
        push(b"not wasm at all".to_vec())
            .await
            .contains("component")
    );
    // The header of a core module, and of a component that ends too early.
    assert!(
        push(b"\0asm\x01\0\0\0".to_vec())
            .await
            .contains("component")
    );
    push(b"\0asm\x0d\0\x01\0\x07\xff\xff".to_vec()).await;
    let mut damaged = std::fs::read(crate::shed::plugin("digits-mlp")).unwrap();
    damaged.truncate(damaged.len() / 2);
    push(damaged).await;
    // A component that imports something nobody offers.
    let missing = br#"(component (import "trainshed:plugin/teleport@0.1.0" (instance (export "beam" (func)))))"#;
    assert!(
        push(wat::parse_bytes(missing).unwrap().into_owned())
            .await
            .contains("teleport")
    );
    assert!(shed.client.plugins().await.unwrap().is_empty());
}
