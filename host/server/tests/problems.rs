//! What callers are told when a request cannot be done, and which version of a document they
//! change.
#![expect(clippy::unwrap_used, reason = "a test says what it expects by failing")]

mod lab;

use expect_test::{Expect, expect};
use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};
use trainshed_engine::Database;

use lab::Lab;

struct Caller {
    lab: Lab,
    _folder: tempfile::TempDir,
}

impl Caller {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let lab = Lab::start(folder.path(), Database::Folder).await;
        Self {
            lab,
            _folder: folder,
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(header::HeaderName, &str)],
        body: impl Into<reqwest::Body>,
    ) -> (StatusCode, header::HeaderMap, Value) {
        let url = format!("{}/api/v1{path}", self.lab.url);
        let mut request = reqwest::Client::new()
            .request(method, url)
            .bearer_auth(&self.lab.key)
            .header(header::CONTENT_TYPE, "application/json")
            .body(body);
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        let answer = request.send().await.unwrap();
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = answer.bytes().await.unwrap();
        let body = serde_json::from_slice(&body).unwrap_or_default();
        (status, headers, body)
    }

    async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        let (status, _, body) = self.send(Method::POST, path, &[], body.to_string()).await;
        (status, body)
    }

    async fn get(&self, path: &str) -> Value {
        self.send(Method::GET, path, &[], "").await.2
    }

    async fn tag(&self, path: &str) -> String {
        let (_, headers, _) = self.send(Method::GET, path, &[], "").await;
        headers[header::ETAG].to_str().unwrap().to_owned()
    }

    async fn draft(&self, name: &str) -> String {
        let (status, task) = self.post("/tasks", &json!({"name": name})).await;
        assert_eq!(status, StatusCode::CREATED, "{task}");
        task["id"].as_str().unwrap().to_owned()
    }

    /// Status, type, pointer and text of what a request is refused with.
    async fn check_refused(&self, method: Method, path: &str, body: &str, expected: Expect) {
        let (status, _, problem) = self.send(method, path, &[], body.to_owned()).await;
        let text = |name: &str| problem[name].as_str().unwrap_or("-").to_owned();
        let (kind, pointer, detail) = (text("type"), text("pointer"), text("detail"));
        let status = status.as_u16();
        expected.assert_eq(&format!("{status} {kind} {pointer}: {detail}"));
    }
}

#[tokio::test]
async fn whatever_cannot_be_read_is_named_by_its_place() {
    let caller = Caller::new().await;
    let check = async |path: &str, body: &str, expected| {
        caller
            .check_refused(Method::POST, path, body, expected)
            .await;
    };
    check(
        "/tasks",
        r#"{"name": "abc", "type": "tests"}"#,
        expect!["400 invalid-body /type: /type cannot be read: unknown variant `tests`, expected one of `training`, `testing`, `inference`, `controller`, `optimizer`, `monitor`, `service`, `application`, `data_processing`, `qc`, `custom`, `agent`"],
    )
    .await;
    check(
        "/tasks",
        r#"{"name": "abc", "tags": ["a", 7]}"#,
        expect!["400 invalid-body /tags/1: /tags/1 cannot be read: invalid type: integer `7`, expected a string"],
    )
    .await;
    check(
        "/tasks",
        r#"{"name": "abc", "script": {"commit": "x"}}"#,
        expect!["400 invalid-body /script/commit: /script/commit cannot be read: unknown field `commit`, expected one of `repository`, `branch`, `version_num`, `tag`, `entry_point`, `working_dir`, `diff`, `binary`, `requirements`"],
    )
    .await;
    check(
        "/tasks",
        r#"{"project": "abc"}"#,
        expect!["400 invalid-request /name: name is required and must not be blank"],
    )
    .await;
    check(
        "/tasks",
        "[]",
        expect!["400 invalid-request /name: name is required and must not be blank"],
    )
    .await;
    check("/tasks", r#"{"name": "#, expect!["400 invalid-body -: the body is no JSON document: EOF while parsing a value at line 1 column 9"]).await;
    check(
        "/models",
        r#"{"name": "abc", "parameters/x": 1}"#,
        expect!["400 invalid-body /parameters~1x: /parameters~1x cannot be read: unknown field `parameters/x`, expected one of `name`, `task`, `sha256`, `uri`, `framework`, `design`, `labels`, `tags`, `comment`, `iteration`, `parent`, `metadata`"],
    )
    .await;

    let long = format!(r#"{{"name": "{}"}}"#, "x".repeat(17 << 20));
    check(
        "/tasks",
        &long,
        expect!["413 body-too-large -: a JSON body has at most 16777216 bytes"],
    )
    .await;

    let get = async |path: &str, expected| {
        caller.check_refused(Method::GET, path, "", expected).await;
    };
    get(
        "/tasks?limit=some",
        expect!["400 invalid-query limit: limit cannot be read: expected a whole number from 0 on"],
    )
    .await;
    get("/tasks?sort=name", expect!["400 invalid-query sort: sort cannot be read: unknown field `sort`, expected one of `status`, `project`, `name`, `trials`, `archived`, `limit`, `after`, `q`"]).await;
    get(
        "/tasks/by-name?project=abc",
        expect!["400 invalid-query name: name must be given"],
    )
    .await;
    get(
        "/datasets/first",
        expect!["400 invalid-path id: `first` is not a whole number from 0 on"],
    )
    .await;

    let task = caller.draft("a draft").await;
    let path = format!("/tasks/{task}");
    caller
        .check_refused(
            Method::PATCH,
            &path,
            r#"{"container": {"image": 1}}"#,
            expect!["400 invalid-body /container/image: /container/image cannot be read: invalid type: integer `1`, expected a string"],
        )
        .await;
}

#[tokio::test]
async fn a_document_is_changed_only_as_the_caller_has_read_it() {
    let caller = Caller::new().await;
    let task = caller.draft("a draft").await;
    let content = b"weights";
    let sha256 = caller.lab.put(content).await;
    let model = json!({"name": "net", "sha256": sha256});
    let (status, model) = caller.post("/models", &model).await;
    assert_eq!(status, StatusCode::CREATED, "{model}");
    let (_, _) = caller.post("/projects", &json!({"name": "vision"})).await;

    let documents = [
        (format!("/tasks/{task}"), json!({"comment": "one"})),
        (
            format!("/models/{}", model["id"]),
            json!({"comment": "one"}),
        ),
        ("/datasets/1".to_owned(), json!({"description": "one"})),
        ("/projects/vision".to_owned(), json!({"description": "one"})),
    ];
    for (path, edit) in documents {
        let tag = caller.tag(&path).await;
        let write = async |tag: &str| {
            let headers = [(header::IF_MATCH, tag)];
            let sent = caller.send(Method::PATCH, &path, &headers, edit.to_string());
            sent.await.0
        };
        assert_eq!(write("\"another\"").await, 412, "{path}");
        assert_eq!(caller.tag(&path).await, tag, "{path}");
        let either = format!("\"another\", {tag}");
        assert_eq!(write(&either).await, 200, "{path}");
        assert_eq!(write(&tag).await, 412, "{path}");
        assert_eq!(write("*").await, 200, "{path}");
    }

    let document = format!("/tasks/{task}");
    for (method, path, body) in [
        (Method::PUT, "params", r#"{"General": {"lr": 1}}"#),
        (Method::PATCH, "params", r#"{"General": {"lr": 2}}"#),
        (Method::DELETE, "params/General/lr", ""),
        (Method::PUT, "configuration/net", "layers: 2"),
        (Method::DELETE, "configuration/net", ""),
    ] {
        let path = format!("{document}/{path}");
        let tag = caller.tag(&document).await;
        let write = async |tag: &str| {
            let headers = [(header::IF_MATCH, tag)];
            caller.send(method.clone(), &path, &headers, body).await.0
        };
        assert_eq!(write("\"another\"").await, 412, "{method} {path}");
        assert!(write(&tag).await.is_success(), "{method} {path}");
    }

    let tag = caller.tag(&document).await;
    let headers = [(header::IF_MATCH, &*tag)];
    let (status, _, problem) = caller.send(Method::DELETE, &document, &headers, "").await;
    assert_eq!(
        (status, &problem["type"]),
        (StatusCode::BAD_REQUEST, &json!("condition-ignored"))
    );
    assert_eq!(caller.tag(&document).await, tag, "it is still there");
}

#[tokio::test]
async fn files_may_not_be_sent_where_the_server_would_not_write_them() {
    let caller = Caller::new().await;
    let check = async |destination: &str, expected| {
        let body = json!({"name": "a task", "output_destination": destination}).to_string();
        caller
            .check_refused(Method::POST, "/tasks", &body, expected)
            .await;
    };
    check("s3://minio.example.com/bucket", expect!["422 invalid-address /output_destination: `minio.example.com` looks like a host without a port: a store that is not Amazon's is written `s3://host:port/bucket/folder`"]).await;
    check("https://example.com/x", expect!["403 address-not-allowed /output_destination: this server does not read or write at `https://example.com/x` for its callers"]).await;
    check("results", expect!["422 invalid-address /output_destination: `results` is no address: it must be an absolute path, or begin with `s3://`, `gs://`, `azure://`, `file:///`, `https://` or `http://`"]).await;
    check("/etc", expect!["403 address-not-allowed /output_destination: this server does not read or write at `file:///etc` for its callers"]).await;

    let project = json!({"name": "vision", "default_output": "ftp://host/x"}).to_string();
    caller
        .check_refused(Method::POST, "/projects", &project, expect!["422 invalid-address /default_output: `ftp://host/x` is no address: it must be an absolute path, or begin with `s3://`, `gs://`, `azure://`, `file:///`, `https://` or `http://`"])
        .await;
    let path = format!("/tasks/{}", caller.draft("a draft").await);
    let edit = r#"{"output_destination": "s3://minio.example.com/bucket"}"#;
    caller
        .check_refused(Method::PATCH, &path, edit, expect!["422 invalid-address /output_destination: `minio.example.com` looks like a host without a port: a store that is not Amazon's is written `s3://host:port/bucket/folder`"])
        .await;
}

#[tokio::test]
async fn links_that_a_browser_would_run_are_refused() {
    let caller = Caller::new().await;
    let task = caller.lab.task("a task").await;
    for uri in ["javascript://%0aalert(1)", "DATA://x", "vbscript://x"] {
        let artifact = json!({"name": "link", "uri": uri});
        let path = format!("/tasks/{task}/artifacts");
        assert_eq!(caller.post(&path, &artifact).await.0, 422, "{uri}");
        let model = json!({"name": "net", "uri": uri});
        assert_eq!(caller.post("/models", &model).await.0, 422, "{uri}");
        let sample = json!({"title": "a", "series": "b", "iteration": 1, "uri": uri});
        let path = format!("/tasks/{task}/reports");
        let reports = json!({"samples": [sample]});
        assert_eq!(caller.post(&path, &reports).await.0, 400, "{uri}");
    }
    caller.lab.close().await;
}

#[tokio::test]
async fn lists_leave_out_what_is_archived_and_go_on_where_a_page_ends() {
    let caller = Caller::new().await;
    let names = |page: &Value, list: &str| {
        let items = page[list].as_array().unwrap().clone();
        let name = |item: &Value| item["name"].as_str().unwrap().to_owned();
        items.iter().map(name).collect::<Vec<_>>()
    };
    caller.draft("kept").await;
    let hidden = caller.draft("hidden").await;
    let path = format!("/tasks/{hidden}/archive");
    assert_eq!(caller.post(&path, &json!({})).await.0, 200);
    assert_eq!(names(&caller.get("/tasks").await, "items"), ["kept"]);
    let all = caller.get("/tasks?archived=true").await;
    assert_eq!(names(&all, "items"), ["hidden", "kept"]);
    let found = caller.get("/tasks?q=name%20%3D%20hidden").await;
    assert_eq!(names(&found, "items"), ["hidden"]);

    for name in ["one", "two", "three"] {
        let metadata = [json!({"key": "kind", "value": name})];
        let model = json!({"name": name, "uri": "https://host/x", "metadata": metadata});
        let (status, model) = caller.post("/models", &model).await;
        assert_eq!(status, StatusCode::CREATED, "{model}");
        if name == "two" {
            let path = format!("/models/{}/archive", model["id"]);
            assert_eq!(caller.post(&path, &json!({})).await.0, 200);
        }
    }
    let first = caller.get("/models?limit=1").await;
    assert_eq!(names(&first, "models"), ["three"]);
    let rest = caller
        .get(&format!("/models?after={}", first["next"]))
        .await;
    assert_eq!(names(&rest, "models"), ["one"]);
    assert_eq!(rest["next"], Value::Null);
    let found = "/models?archived=true&metadata_key=kind&metadata_value=two";
    let found = caller.get(found).await;
    assert_eq!(names(&found, "models"), ["two"]);
    assert_eq!(found["models"][0]["metadata"], json!([["kind", "two"]]));

    let file = json!({"path": "a.csv", "sha256": caller.lab.put(b"a\n1\n").await, "size_bytes": 4});
    let version = json!({"name": "more", "files": [file]});
    assert_eq!(caller.post("/datasets", &version).await.0, 201);
    let (_, headers, page) = caller.send(Method::GET, "/datasets?limit=1", &[], "").await;
    assert_eq!(page[0]["name"], "more");
    let link = headers[header::LINK].to_str().unwrap();
    let next = link.split(['<', '>']).nth(1).unwrap();
    let last = caller.get(next.strip_prefix("/api/v1").unwrap()).await;
    assert_eq!(last.as_array().unwrap().len(), 1);
    assert_eq!(last[0]["name"], "digits");
}

#[tokio::test]
async fn a_project_is_named_by_its_path_or_by_its_id() {
    let caller = Caller::new().await;
    let (_, project) = caller
        .post("/projects", &json!({"name": "deep/vision"}))
        .await;
    let id = project["id"].as_str().unwrap();
    let draft = json!({"name": "a task", "project": id});
    let (_, task) = caller.post("/tasks", &draft).await;
    assert_eq!(task["project"], "deep/vision");
    let original = caller.draft("original").await;
    let path = format!("/tasks/{original}/clone");
    let (_, clone) = caller.post(&path, &json!({"project": id})).await;
    assert_eq!(clone["project"], "deep/vision");
    let path = format!("/tasks/{original}/move");
    let (_, moved) = caller.post(&path, &json!({"project": id})).await;
    assert_eq!(moved["project"], "deep/vision");
}

#[tokio::test]
async fn people_note_what_they_like_on_a_published_task_and_change_nothing_of_it() {
    let caller = Caller::new().await;
    let task = caller.draft("done").await;
    for verb in ["start", "complete", "publish"] {
        let (status, answer) = caller
            .post(&format!("/tasks/{task}/{verb}"), &json!({}))
            .await;
        assert_eq!(status, 200, "{answer}");
    }
    let path = format!("/tasks/{task}");
    let note = json!({"comment": "the one of the paper", "tags": ["paper"]}).to_string();
    let (status, _, noted) = caller.send(Method::PATCH, &path, &[], note).await;
    assert_eq!(status, 200, "{noted}");
    assert_eq!(noted["tags"], json!(["paper"]));
    for edit in [
        json!({"name": "another"}),
        json!({"tags": [], "type": "testing"}),
        json!({"system_tags": ["development"]}),
    ] {
        let (status, ..) = caller
            .send(Method::PATCH, &path, &[], edit.to_string())
            .await;
        assert_eq!(status, 400, "{edit}");
    }
}

#[tokio::test]
async fn a_key_opens_the_workspace_for_one_person_until_it_is_taken_back() {
    let caller = Caller::new().await;
    let (status, made) = caller.post("/keys", &json!({"name": " ada "})).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let key = made["key"].as_str().unwrap();
    let with = async |key: &str, method: Method, path: &str, body: &Value| {
        let url = format!("{}/api/v1{path}", caller.lab.url);
        let request = reqwest::Client::new().request(method, url).bearer_auth(key);
        let answer = request.json(body).send().await.unwrap();
        let status = answer.status();
        let body = answer.bytes().await.unwrap();
        (
            status,
            serde_json::from_slice::<Value>(&body).unwrap_or_default(),
        )
    };

    let draft = json!({"name": "of ada"});
    let (_, task) = with(key, Method::POST, "/tasks", &draft).await;
    assert_eq!(task["creator"], "ada");
    let action = json!({
        "action": "train",
        "params": {"name": "an action of ada", "dataset": 1, "hyperparameter": {}},
    });
    let (_, submitted) = with(key, Method::POST, "/actions", &action).await;
    assert_eq!(submitted["task"]["creator"], "ada");
    let seen = caller.get("/tasks?q=user%20%3D%20ada").await;
    assert_eq!(
        seen["items"].as_array().unwrap().len(),
        2,
        "all see all tasks"
    );
    let named = json!({"name": "of somebody", "creator": "somebody"});
    let (_, task) = with(key, Method::POST, "/tasks", &named).await;
    assert_eq!(task["creator"], "somebody");

    let (_, keys) = with(key, Method::GET, "/keys", &Value::Null).await;
    let known: Vec<_> = keys.as_array().unwrap().iter().collect();
    let text = |key: &Value| (key["name"].clone(), key["current"].clone());
    let known: Vec<_> = known.into_iter().map(text).collect();
    assert!(known.contains(&(json!("ada"), json!(true))), "{keys}");
    assert!(known.contains(&(json!(""), json!(false))), "{keys}");
    assert!(!keys.to_string().contains(key));

    let id = made["id"].as_str().unwrap();
    let path = format!("/keys/{id}");
    let (status, _) = with(&caller.lab.key, Method::DELETE, &path, &Value::Null).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let (status, _) = with(key, Method::GET, "/tasks", &Value::Null).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED, "at once");

    let keys = caller.get("/keys").await;
    let path = format!("/keys/{}", keys[0]["id"].as_str().unwrap());
    caller
        .check_refused(
            Method::DELETE,
            &path,
            "",
            expect!["409 last-key -: it is the only key: without it nobody could get in"],
        )
        .await;
    caller
        .check_refused(
            Method::DELETE,
            "/keys/nobody",
            "",
            expect!["404 unknown-key -: there is no key `nobody`"],
        )
        .await;
    caller
        .check_refused(Method::POST, "/keys", r#"{"name": " "}"#, expect!["400 invalid-request /name: the name of a key must have 1 to 200 bytes and no control characters"])
        .await;
}

#[tokio::test]
async fn labels_of_a_model_are_given_as_an_object_or_pairs_and_answered_as_an_object() {
    let caller = Caller::new().await;
    let mut model = json!({"name": "net", "uri": "https://host/x", "labels": {"cat": 1, "dog": 0}});
    let (status, made) = caller.post("/models", &model).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    assert_eq!(made["labels"], json!({"cat": 1, "dog": 0}));
    model["labels"] = json!([["bird", 7]]);
    let (_, made) = caller.post("/models", &model).await;
    assert_eq!(made["labels"], json!({"bird": 7}));
    let path = format!("/models/{}", made["id"]);
    let edit = json!({"labels": {"fish": 2}}).to_string();
    let (_, _, edited) = caller.send(Method::PATCH, &path, &[], edit).await;
    assert_eq!(edited["labels"], json!({"fish": 2}));
    caller
        .check_refused(
            Method::PATCH,
            &path,
            r#"{"labels": {"fish": "two"}}"#,
            expect![[r#"400 invalid-body /labels/fish: /labels/fish cannot be read: invalid type: string "two", expected i64"#]],
        )
        .await;
}

#[tokio::test]
async fn a_new_key_is_told_once_also_to_a_request_with_an_idempotency_key() {
    let caller = Caller::new().await;
    let body = json!({"name": "a friend"}).to_string();
    let headers = [(
        header::HeaderName::from_static("idempotency-key"),
        "a-new-key",
    )];
    let make = || caller.send(Method::POST, "/keys", &headers, body.clone());
    let (status, headers, made) = make().await;
    assert_eq!(
        (status, made["key"].is_string()),
        (StatusCode::CREATED, true)
    );
    assert_eq!(headers["cache-control"], "no-store");

    // It is led to the list of all keys, which does not have the key itself.
    let (status, _, friends) = make().await;
    assert_eq!(status, StatusCode::OK);
    assert!(!friends.to_string().contains(made["key"].as_str().unwrap()));
    let friends = friends.as_array().unwrap().iter();
    assert_eq!(friends.filter(|key| key["name"] == "a friend").count(), 1);
}

#[tokio::test]
async fn a_compressed_body_is_refused_and_never_stored_as_it_is() {
    let caller = Caller::new().await;
    let gzip = [(header::CONTENT_ENCODING, "gzip")];
    for (method, path) in [(Method::POST, "/tasks"), (Method::POST, "/files/missing")] {
        let refused = caller.send(method, path, &gzip, "{}").await;
        let (status, headers, problem) = refused;
        assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
        assert_eq!(headers[header::ACCEPT_ENCODING], "identity");
        assert_eq!(problem["type"], "unsupported-encoding");
        let detail = "the header `Content-Encoding` is `gzip`, but bodies are taken as they are";
        assert_eq!(problem["detail"], detail);
    }
    let plain = [(header::CONTENT_ENCODING, "identity")];
    let body = json!({"name": "plain"}).to_string();
    let (status, ..) = caller.send(Method::POST, "/tasks", &plain, body).await;
    assert_eq!(status, StatusCode::CREATED);
}
