//! The document that describes the API is committed, so that a change of the API is seen in
//! review, and it only grows: what a client was promised stays.

use expect_test::expect_file;
use serde_json::Value;

#[test]
fn the_committed_document_is_the_generated_one() {
    expect_file!["../../../docs/openapi.json"].assert_eq(&trainshed_server::openapi());
}

#[test]
fn every_operation_has_a_name_of_its_own() {
    let document: Value = serde_json::from_str(&trainshed_server::openapi()).unwrap();
    let paths = document["paths"].as_object().unwrap().values();
    let operations = paths.flat_map(|item| item.as_object().unwrap().values());
    let mut names: Vec<&str> = operations
        .map(|operation| operation["operationId"].as_str().unwrap())
        .collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all);
}

#[test]
fn every_part_of_a_path_is_described() {
    let document: Value = serde_json::from_str(&trainshed_server::openapi()).unwrap();
    for (path, item) in document["paths"].as_object().unwrap() {
        let mut named: Vec<&str> = path
            .split('{')
            .skip(1)
            .map(|rest| rest.split('}').next().unwrap())
            .collect();
        named.sort_unstable();
        for operation in item.as_object().unwrap().values() {
            let parameters = operation["parameters"].as_array();
            let parameters = parameters.into_iter().flatten();
            let mut described: Vec<&str> = parameters
                .filter(|parameter| parameter["in"] == "path")
                .map(|parameter| parameter["name"].as_str().unwrap())
                .collect();
            described.sort_unstable();
            assert_eq!(described, named, "{path}");
        }
    }
}

#[test]
fn the_document_only_grows() {
    let released: Value = serde_json::from_str(include_str!("openapi-released.json")).unwrap();
    let now: Value = serde_json::from_str(&trainshed_server::openapi()).unwrap();
    let mut lost = Vec::new();
    for part in ["paths", "components"] {
        missing(part, &released[part], &now[part], &mut lost);
    }
    assert!(lost.is_empty(), "no longer there:\n{}", lost.join("\n"));
}

/// Notes every path, field, answer and type that `released` has and `now` has not. Texts for
/// people may change.
fn missing(at: &str, released: &Value, now: &Value, lost: &mut Vec<String>) {
    match (released, now) {
        (Value::Object(released), Value::Object(now)) => {
            for (key, value) in released {
                if matches!(key.as_str(), "description" | "summary" | "examples") {
                    continue;
                }
                match now.get(key) {
                    Some(other) => missing(&format!("{at}/{key}"), value, other, lost),
                    None => lost.push(format!("{at}/{key}")),
                }
            }
        }
        (Value::Array(released), Value::Array(now)) => {
            let gone = released.iter().filter(|value| !now.contains(value));
            // A parameter or a part of a choice may have grown; it is found by its name.
            for value in gone {
                let name = value.get("name");
                let same = now
                    .iter()
                    .find(|other| name.is_some() && other.get("name") == name);
                match same {
                    Some(other) => missing(at, value, other, lost),
                    None => lost.push(format!("{at}: {value}")),
                }
            }
        }
        (released, now) if released != now => lost.push(format!("{at}: {released} is now {now}")),
        _ => {}
    }
}
