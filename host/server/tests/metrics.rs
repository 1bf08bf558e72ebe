//! Points of curves over HTTP.
#![expect(clippy::unwrap_used, reason = "a test says what it expects by failing")]

mod lab;

use expect_test::{Expect, expect};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};
use trainshed_engine::Database;
use trainshed_wire::{Client, FrameBuilder, POINTS_TYPE};

use lab::Lab;

struct Caller {
    lab: Lab,
    client: Client,
    task: String,
    _folder: tempfile::TempDir,
}

impl Caller {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let lab = Lab::start(folder.path(), Database::Folder).await;
        let task = lab.task("a task").await.to_string();
        Self {
            client: Client::new(&lab.url, &lab.key),
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

    async fn post(&self, body: &Value) -> Value {
        let request = self.request(Method::POST, "metrics").json(body);
        request.send().await.unwrap().json().await.unwrap()
    }

    async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path).send().await.unwrap()
    }

    async fn json(&self, path: &str) -> Value {
        self.get(path).await.json().await.unwrap()
    }

    async fn ramp(&self, count: u64) {
        let steps: Vec<u64> = (0..count).collect();
        let body = json!({"curves": [
            {"title": "train", "series": "loss", "iterations": steps, "values": steps},
        ]});
        self.post(&body).await;
    }
}

#[tokio::test]
async fn points_are_reported_as_json_and_read_back() {
    let caller = Caller::new().await;
    let body = json!({
        "key": "first",
        "points": [
            {"title": "train", "series": "loss", "iteration": 1, "value": -0.5, "at": 5},
            {"title": "train", "series": "loss", "iteration": 2, "value": "NaN", "at": 6},
            {"title": "val", "series": "acc", "iteration": 2, "value": 0.75, "at": 6},
        ],
        "singles": {"best": 0.75},
    });
    let recorded = caller.post(&body).await;
    assert_eq!(recorded, json!({"points": 3, "repeated": false}));
    let recorded = caller.post(&body).await;
    assert_eq!(recorded, json!({"points": 3, "repeated": true}));
    let curve = caller.json("scalars/points?title=train&series=loss").await;
    assert_eq!(
        curve,
        json!({
            "title": "train", "series": "loss",
            "iterations": [1, 2], "values": [-0.5, "NaN"], "times": [5, 6],
        })
    );
    let summary = caller.json("metrics/summary").await;
    assert_eq!(
        summary,
        json!({
            "train": {"loss": {"last": "NaN", "min": -0.5, "max": -0.5}},
            "val": {"acc": {"last": 0.75, "min": 0.75, "max": 0.75}},
        })
    );
    let scalars = caller.json("scalars").await;
    assert_eq!(scalars["singles"], json!([{"name": "best", "value": 0.75}]));
    caller.lab.close().await;
}

#[tokio::test]
async fn what_came_with_points_is_read_back_beside_them() {
    let caller = Caller::new().await;
    let body = json!({"points": [
        {"title": "train", "series": "loss", "iteration": 1, "value": 0.5},
        {"title": "train", "series": "loss", "iteration": 2, "value": 0.4,
         "extra": {"epoch": 2, "trial_id": "2f1e9_00000"}},
        {"title": "train", "series": "lr", "iteration": 2, "value": 0.1},
    ]});
    caller.post(&body).await;
    let curve = caller.json("scalars/points?title=train&series=loss").await;
    assert_eq!(
        curve["extra"],
        json!([null, {"epoch": 2, "trial_id": "2f1e9_00000"}])
    );
    let curve = caller.json("scalars/points?title=train&series=lr").await;
    assert_eq!(curve.get("extra"), None);
    caller.lab.close().await;
}

#[tokio::test]
async fn a_key_of_a_batch_belongs_to_its_task() {
    let caller = Caller::new().await;
    let other = caller.lab.task("another task").await.to_string();
    let body = json!({"singles": {"best": 0.75}});
    for (task, repeated) in [(&caller.task, false), (&other, false), (&other, true)] {
        let url = format!("{}/api/v1/tasks/{task}/metrics", caller.lab.url);
        let request = reqwest::Client::new()
            .post(url)
            .bearer_auth(&caller.lab.key);
        let request = request.header("idempotency-key", "0").json(&body);
        let recorded: Value = request.send().await.unwrap().json().await.unwrap();
        assert_eq!(recorded["repeated"], repeated);
    }
    caller.lab.close().await;
}

#[tokio::test]
async fn points_are_reported_in_binary_and_known_by_their_key() {
    let caller = Caller::new().await;
    let mut builder = FrameBuilder::default();
    for step in 0..10 {
        builder.push(("train".into(), "loss".into()), step, 7, 0.5, None);
    }
    let frame = builder.finish();
    for repeated in [false, true] {
        let recorded = caller.client.append_points(&caller.task, Some("k"), &frame);
        assert_eq!(recorded.await.unwrap().repeated, repeated);
    }
    let curve = caller.client.curve(&caller.task, "train", "loss", 0).await;
    assert_eq!(curve.unwrap().iterations, (0..10).collect::<Vec<u64>>());
    let mut damaged = frame.encode();
    damaged[9] ^= 1;
    let request = caller
        .request(Method::POST, "metrics")
        .header("content-type", POINTS_TYPE);
    let refused = request.body(damaged).send().await.unwrap();
    assert_eq!(refused.status(), 400);
    caller.lab.close().await;
}

#[tokio::test]
async fn samples_are_at_most_as_many_as_asked_for_and_keep_the_mean() {
    let caller = Caller::new().await;
    caller.ramp(20_000).await;
    for (asked, most) in [("10", 10), ("0", 5000), ("6000", 5000)] {
        let path = format!("scalars/points?title=train&series=loss&max_samples={asked}");
        let sampled = caller.json(&path).await;
        let y: Vec<f64> = serde_json::from_value(sampled["y"].clone()).unwrap();
        assert_eq!(y.len(), most);
        let mean = y.iter().sum::<f64>() / y.len() as f64;
        assert!((mean - 9999.5).abs() < 1e-6, "{mean}");
        assert_eq!(sampled["sampling"], "mean");
    }
    let all = caller.json("metrics?max_samples=2&x=iso_time").await;
    let curve = &all["train"]["loss"];
    assert_eq!(curve["y"], json!([4999.5, 14999.5]));
    assert_eq!(curve["x"][0], "2023-11-14T22:13:20.000Z");
    let page = caller
        .json("scalars/points?title=train&series=loss&from=19998&limit=1")
        .await;
    assert_eq!(
        (&page["iterations"], &page["next"]),
        (&json!([19998]), &json!(19999))
    );
    caller.lab.close().await;
}

#[tokio::test]
async fn columns_come_as_bytes_and_only_when_something_changed() {
    let caller = Caller::new().await;
    caller.ramp(3).await;
    let path = "scalars/points?title=train&series=loss&dtype=f32";
    let columns = |tag: Option<String>| {
        let request = caller
            .request(Method::GET, path)
            .header("accept", "application/octet-stream");
        match tag {
            Some(tag) => request.header("if-none-match", tag),
            None => request,
        }
    };
    let answer = columns(None).send().await.unwrap();
    let tag = answer.headers()["etag"].to_str().unwrap().to_owned();
    let bytes = answer.bytes().await.unwrap();
    let mut expected = vec![3, 0, 0, 0, 2, 0, 0, 0];
    for step in [0.0_f64, 1.0, 2.0] {
        expected.extend(step.to_le_bytes());
    }
    for value in [0.0_f32, 1.0, 2.0] {
        expected.extend(value.to_le_bytes());
    }
    assert_eq!(bytes, expected);
    let again = columns(Some(tag.clone())).send().await.unwrap();
    assert_eq!(again.status(), 304);
    caller.ramp(4).await;
    let changed = columns(Some(tag)).send().await.unwrap();
    assert_eq!(changed.status(), 200);
    assert_eq!(changed.bytes().await.unwrap().len(), 8 + 4 * 12);
    caller.lab.close().await;
}

#[tokio::test]
async fn deleted_points_are_gone() {
    let caller = Caller::new().await;
    caller.ramp(3).await;
    let deleted = caller.request(Method::DELETE, "metrics").send().await;
    assert_eq!(deleted.unwrap().status(), 204);
    assert_eq!(caller.json("metrics").await, json!({}));
    assert_eq!(
        caller
            .get("scalars/points?title=train&series=loss")
            .await
            .status(),
        404
    );
    caller.lab.close().await;
}

#[tokio::test]
async fn what_is_wrong_is_named() {
    let caller = Caller::new().await;
    let check = async |answer: Response, expected: Expect| {
        let status = answer.status().as_u16();
        let problem: Value = answer.json().await.unwrap();
        let text = |key: &str| problem[key].as_str().unwrap_or("-").to_owned();
        let (kind, pointer, detail) = (text("type"), text("pointer"), text("detail"));
        expected.assert_eq(&format!("{status} {kind} {pointer}: {detail}"));
    };
    let body = r#"{"points":[{"title":"t","series":"s","iteration":1,"value":"x"}]}"#;
    let request = caller.request(Method::POST, "metrics").body(body);
    check(request.send().await.unwrap(), expect![[r#"400 invalid-points /points/0/value: /points/0/value cannot be read: invalid value: string "x", expected a number, "NaN", "Infinity" or "-Infinity" at line 1 column 62"#]]).await;
    check(caller.get("metrics?x=steps").await, expect!["400 invalid-request x: the axis must be `iter`, `timestamp` or `iso_time`, but it is `steps`"]).await;
    let points = "scalars/points?title=t&series=s";
    check(
        caller.get(points).await,
        expect!["404 unknown-series -: there is no series `t/s`"],
    )
    .await;
    let wrong = format!("{points}&limit=0");
    check(
        caller.get(&wrong).await,
        expect!["400 invalid-request limit: limit must be 1 to 100000, but it is 0"],
    )
    .await;
    let wrong = format!("{points}&max_samples=9&sampling=best");
    check(
        caller.get(&wrong).await,
        expect![
            "400 invalid-request sampling: sampling must be `mean` or `lttb`, but it is `best`"
        ],
    )
    .await;
    let wrong = format!("{points}&dtype=f16");
    check(
        caller.get(&wrong).await,
        expect!["400 invalid-request dtype: dtype must be `f32` or `f64`, but it is `f16`"],
    )
    .await;
    let key = caller.request(Method::POST, "metrics").body("{}");
    let key = key.header("idempotency-key", "k".repeat(201));
    check(
        key.send().await.unwrap(),
        expect![
            "400 invalid-request idempotency-key: the header Idempotency-Key has 1 to 200 bytes, but this one has 201"
        ],
    )
    .await;
    caller.lab.close().await;
}
