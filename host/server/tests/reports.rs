//! Consoles, plots and samples over HTTP, as programs without a lease use them.
#![expect(clippy::unwrap_used, reason = "a test says what it expects by failing")]

mod lab;

use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use trainshed_core::Digest;
use trainshed_engine::Database;

use lab::Lab;

struct Caller {
    lab: Lab,
    task: String,
    _folder: tempfile::TempDir,
}

impl Caller {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let lab = Lab::start(folder.path(), Database::Folder).await;
        let task = lab.task("a task").await.to_string();
        Self {
            task,
            lab,
            _folder: folder,
        }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}/api/v1/tasks/{}/{path}", self.lab.url, self.task);
        reqwest::Client::new()
            .request(method, url)
            .bearer_auth(&self.lab.key)
    }

    async fn report(&self, body: &Value) -> (StatusCode, Value) {
        let request = self.request(Method::POST, "reports").json(body);
        let answer = request.send().await.unwrap();
        (answer.status(), answer.json().await.unwrap())
    }

    async fn json(&self, path: &str) -> Value {
        let answer = self.request(Method::GET, path).send().await.unwrap();
        answer.json().await.unwrap()
    }

    #[track_caller]
    fn texts(page: &Value) -> Vec<String> {
        let lines = page["lines"].as_array().unwrap().iter();
        lines
            .map(|line| line["text"].as_str().unwrap().to_owned())
            .collect()
    }
}

#[tokio::test]
async fn a_program_reports_lines_plots_and_single_values_once() {
    let caller = Caller::new().await;
    let body = json!({
        "key": "first",
        "lines": [
            {"text": "starting"},
            {"text": "hm", "level": "warning", "at": 5},
            {"text": "oh", "level": "error"},
        ],
        "plots": [
            {"title": "roc", "series": "val", "iteration": 3,
             "figure": {"data": [{"x": [0, 1], "y": [0, null]}]}},
        ],
        "singles": {"best": "NaN"},
    });
    for repeated in [false, true] {
        let answer = caller.report(&body).await;
        assert_eq!(answer, (StatusCode::OK, json!({ "repeated": repeated })));
    }
    let page = caller.json("console").await;
    assert_eq!(Caller::texts(&page), ["starting", "hm", "oh"]);
    assert_eq!(page["lines"][1]["at"], 5);
    let page = caller.json("console?order=desc&level=warning").await;
    assert_eq!(Caller::texts(&page), ["oh", "hm"]);
    let page = caller.json("console?search=st.rt&limit=1").await;
    assert_eq!(Caller::texts(&page), ["starting"]);
    let plots = caller.json("plots?last=1").await;
    assert_eq!(plots["items"][0]["iteration"], 3);
    assert_eq!(plots["items"][0]["figure"], Value::Null);
    let figure = caller.json("plots/figure?title=roc&series=val").await;
    assert_eq!(figure, json!({"data": [{"x": [0, 1], "y": [0, null]}]}));
    let listed = caller.json("plots?figures=true").await;
    let text = listed["items"][0]["figure"].as_str().unwrap();
    assert_eq!(serde_json::from_str::<Value>(text).unwrap(), figure);
    assert_eq!(caller.json("scalars").await["singles"][0]["value"], "NaN");
    caller.lab.close().await;
}

#[tokio::test]
async fn a_sample_is_uploaded_with_its_type_and_its_bytes_come_back() {
    let caller = Caller::new().await;
    let png = b"\x89PNG\r\n\x1a\n rest".as_slice();
    let path = "samples?title=wrong&series=val&iteration=7";
    let put = |declared: &str, content: &[u8]| {
        caller
            .request(Method::POST, path)
            .header("content-type", declared)
            .body(content.to_vec())
            .send()
    };
    let refused = put("image/jpeg", png).await.unwrap();
    assert_eq!(refused.status(), 400);
    let problem: Value = refused.json().await.unwrap();
    assert_eq!(problem["pointer"], "/content_type");
    let made = put("application/octet-stream", png).await.unwrap();
    assert_eq!(made.status(), 201);
    let made: Value = made.json().await.unwrap();
    assert_eq!(made["content_type"], "image/png");
    assert_eq!(made["purpose"], "media");
    let listed = caller.json("samples?iteration=7&title=wrong").await;
    assert_eq!(listed["samples"], json!([made]));
    assert_eq!(
        caller.json("samples?iteration=6").await["samples"],
        json!([])
    );
    let url = format!("{}/api/v1/files/{}", caller.lab.url, Digest::of(png));
    let content = reqwest::Client::new()
        .get(url)
        .bearer_auth(&caller.lab.key)
        .send()
        .await
        .unwrap();
    let disposition = content.headers()["content-disposition"].to_str().unwrap();
    assert!(disposition.starts_with("attachment"), "{disposition}");
    assert_eq!(content.headers()["x-content-type-options"], "nosniff");
    assert_eq!(content.bytes().await.unwrap(), png);
    // The same file as a sample of another series.
    let again = json!({"samples": [
        {"title": "wrong", "series": "train", "sha256": Digest::of(png).to_string()},
    ]});
    assert_eq!(caller.report(&again).await.0, StatusCode::OK);
    let listed = caller.json("samples").await;
    assert_eq!(listed["samples"].as_array().unwrap().len(), 2);
    caller.lab.close().await;
}

#[tokio::test]
async fn what_breaks_a_rule_is_named_and_nothing_is_recorded() {
    let caller = Caller::new().await;
    let never = Digest::of(b"never").to_string();
    let plot = |figure: Value| {
        json!({"lines": [{"text": "x"}],
               "plots": [{"title": "a", "series": "b", "figure": figure}]})
    };
    for (body, pointer) in [
        (plot(json!({"layout": {}})), "/plots/0"),
        (plot(json!("{\"data\": [NaN]}")), "/plots/0"),
        (
            json!({"lines": [{"text": "x".repeat(300_000)}]}),
            "/lines/0",
        ),
        (
            json!({"lines": [{"text": "x", "level": "host"}]}),
            "/lines/0/level",
        ),
        (json!({"key": ""}), "/key"),
        (json!({"singles": {"": 1}}), "/singles/"),
        (
            json!({"samples": [{"title": "a", "series": "b", "sha256": never}]}),
            "/samples/0/sha256",
        ),
    ] {
        let (status, problem) = caller.report(&body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{problem}");
        assert_eq!(problem["pointer"], pointer, "{problem}");
    }
    let (status, _) = caller.report(&json!({"lines": [{"texts": "x"}]})).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(caller.json("console").await["total"], 0);
    for (path, pointer) in [
        ("console?order=up", "order"),
        ("console?level=loud", "level"),
        ("console?order=desc&after=1", "after"),
        ("samples?purpose=film", "purpose"),
        ("plots?after=x", "after"),
    ] {
        let problem = caller.json(path).await;
        assert_eq!(problem["pointer"], pointer, "{problem}");
    }
    caller.lab.close().await;
}

#[tokio::test]
async fn a_sample_that_lies_elsewhere_is_kept_by_its_address() {
    let caller = Caller::new().await;
    let address = "https://example.com/wrong.jpeg#7";
    let sample = json!({"title": "wrong", "series": "val", "iteration": 7, "uri": address});
    let (status, _) = caller.report(&json!({"samples": [sample]})).await;
    assert_eq!(status, 200);
    let listed = caller.json("samples").await;
    let listed = &listed["samples"][0];
    assert_eq!(listed["uri"], address);
    assert_eq!(listed["content_type"], "image/jpeg");
    assert_eq!(listed.get("sha256"), None);
    let never = Digest::of(b"never");
    for (wrong, pointer) in [
        (json!({"uri": "elsewhere"}), "/samples/0"),
        (json!({"uri": address, "sha256": never}), "/samples/0"),
        (json!({}), "/samples/0"),
        (json!({"uri": address, "content_type": "x/y"}), "/samples/0"),
    ] {
        let mut sample = json!({"title": "a", "series": "b"});
        sample
            .as_object_mut()
            .unwrap()
            .extend(wrong.as_object().unwrap().clone());
        let (status, problem) = caller.report(&json!({"samples": [sample]})).await;
        assert_eq!(
            (status.as_u16(), &problem["pointer"]),
            (400, &json!(pointer)),
            "{wrong}"
        );
    }
    caller.lab.close().await;
}
