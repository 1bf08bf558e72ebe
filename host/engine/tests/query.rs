//! Queries and exports, through the engine, over what tasks really reported.
#![expect(clippy::unwrap_used, reason = "a test says what it expects by failing")]
#![expect(
    dead_code,
    reason = "the lab is shared with tests that need more of it"
)]

mod lab;

use expect_test::{Expect, expect};
use futures::TryStreamExt as _;
use serde_json::{Value, json};
use trainshed_core::query::{Entity, Field};
use trainshed_engine::{Export, ExportContent, Format, QueryError};

use lab::{Lab, batch, completed, model, point, single};

/// Three tasks that completed, the first with an accuracy of 0.3, the others of 0.9 and 0.6,
/// and one that waits.
async fn trained() -> Lab {
    let lab = Lab::ready().await;
    for (name, accuracy) in [("first", 0.3), ("second", 0.9), ("third", 0.6)] {
        let tags: &[&str] = if name == "third" { &["c"] } else { &["a", "b"] };
        lab.submit(json!({
            "name": name, "dataset": 1, "project": format!("demo/{name}"), "tags": tags,
            "hyperparameter": {"lr": accuracy / 10.0, "kind": name},
        }))
        .await;
        let lease = lab.lease().await.unwrap();
        let weights = lab.put(name.as_bytes()).await;
        let reports = vec![
            point("val", "acc", 0, 0.1),
            point("val", "acc", 1, accuracy),
            point("train", "loss", 0, f64::NAN),
            single("f1", accuracy / 2.0),
            model("best", 1, weights, name.len() as u64),
        ];
        lab.report(&lease, batch(0, reports)).await.unwrap();
        lab.finish(&lease, completed(json!({}))).await.unwrap();
        lab.pass_ms(1_000);
    }
    lab.submit(json!({"name": "fourth", "dataset": 1, "hyperparameter": {}}))
        .await;
    lab
}

async fn search(lab: &Lab, entity: Entity, body: Value) -> Vec<Value> {
    let request = lab.engine.read_request(entity, &body).unwrap();
    let mut request = request;
    let mut items = Vec::new();
    loop {
        let page = lab.engine.search(&lab.workspace, entity, &request).await;
        let page = page.unwrap();
        items.extend(page.items);
        request.after = page.next;
        if request.after.is_none() {
            return items;
        }
    }
}

/// The names of the tasks that fit, in order.
#[track_caller]
fn names(items: &[Value]) -> String {
    let names = items.iter().map(|item| item["name"].as_str().unwrap());
    names.collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn the_query_of_the_order_finds_the_best_runs() {
    let lab = trained().await;
    let text = "status = completed and metrics.val/acc > 0.5 order by metrics.val/acc desc";
    let items = search(&lab, Entity::Task, json!({"filter": text, "limit": 1})).await;
    assert_eq!(names(&items), "second third");
    assert_eq!(items[0]["plugin"]["name"], "mlp", "whole views");

    let ordered = json!({"order_by": ["-metrics.val/acc"], "limit": 3});
    let items = search(&lab, Entity::Task, ordered).await;
    assert_eq!(names(&items), "second third first fourth");
    for (filter, expected) in [
        ("", "fourth third second first"),
        ("project = demo", "third second first"),
        ("project.path = demo", ""),
        ("params.lr < 0.05", "first"),
        ("params.kind ~ \"r[ds]\"", "third first"),
        ("metrics.f1 >= 0.3 and tags = a", "second"),
        ("models.output is null", "fourth"),
        (
            "metrics.train/loss is null and status != queued",
            "third second first",
        ),
        ("queue = default and status = queued", "fourth"),
        ("agent = tester order by created", "first second third"),
    ] {
        let items = search(&lab, Entity::Task, json!({"filter": filter})).await;
        assert_eq!(names(&items), expected, "{filter}");
    }
}

#[tokio::test]
async fn a_task_filter_finds_with_the_names_of_the_protocol() {
    let lab = trained().await;
    for (body, expected) in [
        (json!({"tags": ["a", "-c"]}), "second first"),
        (json!({"tags": ["__$and", "a", "b"]}), "second first"),
        (json!({"task_name": "^first$"}), "first"),
        (json!({"project_name": "demo/t"}), "third"),
        (json!({"task_filter": {"status": ["-completed"]}}), "fourth"),
        (
            json!({"task_filter": {"search_text": "sec[o]nd"}}),
            "second",
        ),
        (
            json!({"task_filter": {"hyperparams.General.kind.value": "third"}}),
            "third",
        ),
        (
            json!({"task_filter": {"order_by": ["name"], "page": 1, "page_size": 3}}),
            "third",
        ),
        (
            json!({"task_filter": {"_any_": {"fields": ["name", "comment"], "pattern": "^f"}}}),
            "fourth first",
        ),
    ] {
        let request = lab.engine.read_request(Entity::Task, &body).unwrap();
        let page = lab
            .engine
            .search(&lab.workspace, Entity::Task, &request)
            .await;
        assert_eq!(names(&page.unwrap().items), expected, "{body}");
    }
    let projected = json!({
        "task_name": "first", "task_filter": {"only_fields": ["plugin.version", "status"]},
    });
    let items = search(&lab, Entity::Task, projected).await;
    assert_eq!(items[0]["plugin"], json!({"version": "0.1.0"}));
    assert_eq!(items[0].as_object().unwrap().len(), 3);
}

#[tokio::test]
async fn fields_that_were_asked_for_come_alone_and_pages_can_be_counted() {
    let lab = trained().await;
    let body = json!({
        "filter": "name = second", "total": true,
        "fields": ["params.lr", "params.kind", "metrics.val/acc.min", "metrics.f1", "tags", "started"],
    });
    let request = lab.engine.read_request(Entity::Task, &body).unwrap();
    let page = lab
        .engine
        .search(&lab.workspace, Entity::Task, &request)
        .await;
    let page = page.unwrap();
    assert_eq!(page.total, Some(1));
    let mut item = page.items[0].clone();
    item["id"] = json!("…");
    expect![[r#"{"id":"…","metrics.f1":0.45,"metrics.val/acc.min":0.1,"params.General/kind":"second","params.General/lr":0.09,"started":1001000,"tags":["a","b"]}"#]]
        .assert_eq(&item.to_string());
}

#[tokio::test]
async fn models_data_sets_and_projects_are_found_too() {
    let lab = trained().await;
    let models = search(
        &lab,
        Entity::Model,
        json!({"filter": "iteration = 1 order by id"}),
    )
    .await;
    assert_eq!(names(&models), "best best best");
    assert_eq!(models[0]["id"], 1);
    let small = json!({"filter": "size_bytes < 6 and metadata.x is null"});
    assert_eq!(search(&lab, Entity::Model, small).await.len(), 2);
    let digits = json!({"filter": "name ~ \"^dig\" and number = 1"});
    assert_eq!(
        names(&search(&lab, Entity::Dataset, digits).await),
        "digits"
    );
    let below = json!({"filter": "name = demo order by path", "fields": ["path"]});
    let projects = search(&lab, Entity::Project, below).await;
    let paths: Vec<&str> = projects
        .iter()
        .map(|project| project["path"].as_str().unwrap())
        .collect();
    assert_eq!(paths, ["demo", "demo/first", "demo/second", "demo/third"]);
    assert_eq!(search(&lab, Entity::Project, json!({})).await.len(), 5);
}

async fn export(lab: &Lab, text: &str, content: ExportContent, format: Format) -> Vec<u8> {
    let query = lab
        .engine
        .read_query(Entity::Task, text, "q")
        .unwrap()
        .query;
    let export = Export {
        entity: Entity::Task,
        query,
        content,
        format,
    };
    let pieces = lab.engine.export(lab.workspace.clone(), export);
    let pieces: Vec<bytes::Bytes> = pieces.try_collect().await.unwrap();
    pieces.concat()
}

#[tokio::test]
async fn a_result_is_exported_in_the_order_of_its_query() {
    let lab = trained().await;
    let fields = ["name", "params.lr", "metrics.val/acc", "created"];
    let fields = fields.map(|name| Field::parse(Entity::Task, name).unwrap());
    let fields = ExportContent::Fields(fields.to_vec());
    let check = |content: Vec<u8>, expected: Expect| {
        // Ids are drawn.
        let text = String::from_utf8(content).unwrap();
        let lines = text.lines().map(|line| line.split_once(',').unwrap().1);
        expected.assert_eq(&lines.collect::<Vec<_>>().join("\n"));
    };
    let text = "order by metrics.val/acc desc";
    check(
        export(&lab, text, fields.clone(), Format::Csv).await,
        expect![[r#"
            name,params.General/lr,metrics.val/acc,created
            second,0.09,0.9,1970-01-01T00:16:41Z
            third,0.06,0.6,1970-01-01T00:16:42Z
            first,0.03,0.3,1970-01-01T00:16:40Z
            fourth,,,1970-01-01T00:16:43Z"#]],
    );
    let lines = export(&lab, text, fields.clone(), Format::JsonLines).await;
    let lines = String::from_utf8(lines).unwrap();
    let first: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!(first["metrics.val/acc"], 0.9);
    assert_eq!(lines.lines().count(), 4);
    let parquet = export(&lab, text, fields, Format::Parquet).await;
    assert!(parquet.starts_with(b"PAR1") && parquet.ends_with(b"PAR1"));

    let curves = vec![("val".to_owned(), "acc".to_owned())];
    check(
        export(
            &lab,
            "name = third",
            ExportContent::Points(curves),
            Format::Csv,
        )
        .await,
        expect![[r#"
            title,series,iteration,time,value
            val,acc,0,1970-01-01T00:16:40Z,0.1
            val,acc,1,1970-01-01T00:16:40Z,0.6"#]],
    );
    let all = ExportContent::Points(Vec::new());
    let all = export(&lab, "name = third", all, Format::Csv).await;
    assert!(
        String::from_utf8(all)
            .unwrap()
            .contains("train,loss,0,1970-01-01T00:16:40Z,NaN")
    );
}

#[tokio::test]
async fn a_cursor_of_another_order_is_refused() {
    let lab = trained().await;
    let body = json!({"filter": "order by name", "limit": 1});
    let request = lab.engine.read_request(Entity::Task, &body).unwrap();
    let page = lab
        .engine
        .search(&lab.workspace, Entity::Task, &request)
        .await;
    let body = json!({"after": page.unwrap().next});
    let request = lab.engine.read_request(Entity::Task, &body).unwrap();
    let refused = lab
        .engine
        .search(&lab.workspace, Entity::Task, &request)
        .await;
    assert!(matches!(refused, Err(QueryError::Cursor(_))));
}
