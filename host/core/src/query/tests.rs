use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;
use crate::time::Timestamp;

const NOW: Timestamp = Timestamp(951_827_696_789); // 2000-02-29T12:34:56.789Z

/// What a text asks for, written out again.
#[track_caller]
fn check(text: &str, printed: &str) {
    let query = parse(Entity::Task, text, NOW).unwrap();
    assert_eq!(query.to_string(), printed);
    assert_eq!(parse(Entity::Task, printed, NOW).unwrap(), query);
}

#[test]
fn the_language_by_example() {
    check("", "");
    check("  \n", "");
    let of_the_issue = "status = completed and metrics.val/acc > 0.9 order by metrics.val/loss";
    check(of_the_issue, of_the_issue);
    check(
        "order by created desc, name asc",
        "order by created desc, name",
    );
    check("name='it\\'s'", "name = \"it's\"");
    check("name = \"a\\\"b\\u{e4}\"", "name = \"a\\\"bä\"");
    check("name = `a\\``b`", "name = \"a\\\\`b\"");
    check("name = ünïcode", "name = \"ünïcode\"");
    check("name !~ \"^ab+$\"", "name !~ \"^ab+$\"");
    check("dataset in (1,2 , 3)", "dataset in (1, 2, 3)");
    check("tags not in (a, \"b c\")", "tags not in (a, \"b c\")");
    check(
        "parent is null or agent IS NOT NULL",
        "parent is null or agent is not null",
    );
    check("created >= -7d", "created >= 2000-02-22T12:34:56.789Z");
    check("created < 2000-02-29", "created < 2000-02-29T00:00:00Z");
    check("params.lr <= 1e-3", "params.General/lr <= 0.001");
    check("params.Args/mode = \"1\"", "params.Args/mode = \"1\"");
    check(
        "metrics.\"a/b\"/c.max > -Infinity",
        "metrics.\"a/b\"/c.max > -Infinity",
    );
}

#[test]
fn and_binds_closer_than_or_and_not_closest() {
    let a = "name = a";
    check(
        &format!("{a} or {a} and not {a} or {a}"),
        &format!("{a} or ({a} and not {a}) or {a}"),
    );
    check(
        &format!("not ({a} or {a}) and {a}"),
        &format!("not ({a} or {a}) and {a}"),
    );
    check(&format!("(({a}))"), a);
    check(&format!("not not {a}"), &format!("not not {a}"));
    check(
        &format!("{a} and true or false"),
        &format!("({a} and true) or false"),
    );
}

/// Where and why a text is no query.
#[track_caller]
fn check_error(text: &str, expected: Expect) {
    let error = parse(Entity::Task, text, NOW).unwrap_err();
    expected.assert_eq(&format!("{error}\n{}\n", error.caret(text)));
}

#[test]
fn a_mistake_is_named_at_its_character() {
    check_error(
        "status = complete",
        expect![[r#"
            character 10: expected one of created, queued, in_progress, completed, failed, stopped, published, but found `complete`; did you mean `completed`?
            status = complete
                     ^
        "#]],
    );
    check_error(
        "status is completed",
        expect![[r#"
            character 11: expected `null` or `not null`, but found `completed`
            status is completed
                      ^
        "#]],
    );
    check_error(
        "status > completed",
        expect![[r#"
            character 8: expected `=`, `!=`, `~`, `!~`, `in`, `not in` or `is null` after `status`
            status > completed
                   ^
        "#]],
    );
    check_error(
        "statuss = completed",
        expect![[r#"
            character 1: expected a field of tasks; did you mean `status`?
            statuss = completed
            ^
        "#]],
    );
    check_error(
        "name = a and",
        expect![[r#"
            character 13: expected a condition, e.g. `status = completed`, but found the end
            name = a and
                        ^
        "#]],
    );
    check_error(
        "name = a name = b",
        expect![[r#"
            character 10: expected `and`, `or`, `order by` or the end, but found `name`
            name = a name = b
                     ^
        "#]],
    );
    check_error(
        "(name = a",
        expect![[r#"
            character 10: expected `and`, `or` or `)`, but found the end
            (name = a
                     ^
        "#]],
    );
    check_error(
        "name = \"a",
        expect![[r#"
            character 8: the quotation mark " is not closed
            name = "a
                   ^
        "#]],
    );
    check_error(
        "name = \"a\\x\"",
        expect![[r#"
            character 10: expected `\\`, `\"`, `\'`, `\n`, `\t`, `\r` or `\u{…}`; a backslash itself is `\\`
            name = "a\x"
                     ^
        "#]],
    );
    check_error(
        "name ~ \"ab(c\"",
        expect![[r#"
            character 11: the regular expression is wrong: unclosed group
            name ~ "ab(c"
                      ^
        "#]],
    );
    check_error(
        "name =\n\tnull",
        expect![[r#"
            character 9: expected a value; `is null` asks for what is missing
            	null
            	^
        "#]],
    );
    check_error(
        "name = and",
        expect![[r#"
            character 8: expected a value, but found `and`; quote it if it is one
            name = and
                   ^
        "#]],
    );
    check_error(
        "dataset = 1.5",
        expect![[r#"
            character 11: expected a whole number, but found `1.5`
            dataset = 1.5
                      ^
        "#]],
    );
    check_error(
        "dataset ~ 1",
        expect![[r#"
            character 9: expected `=`, `!=`, `<`, `<=`, `>`, `>=`, `in`, `not in` or `is null` after `dataset`
            dataset ~ 1
                    ^
        "#]],
    );
    check_error(
        "metrics.val/acc > NaN",
        expect![[r#"
            character 19: expected a number, but found `NaN`
            metrics.val/acc > NaN
                              ^
        "#]],
    );
    check_error(
        "created > yesterday",
        expect![[r#"
            character 11: expected a time, e.g. `2026-01-31`, `2026-01-31T12:00:00Z`, `-7d` (units s, m, h, d, w), `now` or milliseconds since 1970, but found `yesterday`
            created > yesterday
                      ^
        "#]],
    );
    check_error(
        "dataset in ()",
        expect![[r#"
            character 13: expected a whole number, but found `)`
            dataset in ()
                        ^
        "#]],
    );
    check_error(
        "name = a order created",
        expect![[r#"
            character 16: expected `by`, but found `created`
            name = a order created
                           ^
        "#]],
    );
    check_error(
        "name = a order by tags",
        expect![[r#"
            character 19: expected a field with one value, but `tags` is a set
            name = a order by tags
                              ^
        "#]],
    );
    check_error(
        "order by name,",
        expect![[r#"
            character 15: expected a field to order by, but found the end
            order by name,
                          ^
        "#]],
    );
    check_error(
        "order by name up",
        expect![[r#"
            character 15: expected `,`, `desc` or the end, but found `up`
            order by name up
                          ^
        "#]],
    );
    check_error(
        "ä = 1 ) ",
        expect![[r#"
            character 1: expected a field of tasks (id, name, project, project.path, project.id, type, status, status_reason, status_message, tags, system_tags, user, parent, comment, action, queue, queue.id, agent, plugin, plugin.version, plugin.digest, dataset, checkpoint, seed, models.input, models.output, artifacts, last_iteration, created, queued, started, completed, published, status_changed, last_update, `params.SECTION/NAME`, `metrics.TITLE/SERIES`), but found `ä`
            ä = 1 ) 
            ^
        "#]],
    );
    check_error(
        "name",
        expect![[r#"
            character 5: expected `=`, `!=`, `<`, `<=`, `>`, `>=`, `~`, `!~`, `in`, `not in` or `is null` after `name`, but found the end
            name
                ^
        "#]],
    );
    check_error(
        "= 1",
        expect![[r#"
            character 1: expected a condition, e.g. `status = completed`, but found `=`
            = 1
            ^
        "#]],
    );
}

#[test]
fn hostile_texts_are_refused_and_not_followed() {
    let error = |text: &str| parse(Entity::Task, text, NOW).unwrap_err().message;
    let deep = [&"(".repeat(5000), "name = a", &")".repeat(5000)].concat();
    assert_eq!(
        error(&deep),
        "at most 32 parentheses and `not` may stand inside each other"
    );
    assert_eq!(
        error(&"not ".repeat(4000)),
        "at most 32 parentheses and `not` may stand inside each other"
    );
    let wide = vec!["id = a"; 301].join(" or ");
    assert_eq!(error(&wide), "a query has at most 300 conditions");
    let long = format!("dataset in ({})", vec!["1"; 5001].join(","));
    assert_eq!(error(&long), "a query has at most 5000 values");
    let ordered = format!("order by {}", ["id"; 9].join(","));
    assert_eq!(error(&ordered), "a query orders by at most 8 fields");
    assert_eq!(
        error(&"x".repeat(MAX_TEXT_BYTES + 1)),
        "a query has at most 16384 bytes"
    );
    let heavy = "name ~ \"(a{1000}){1000}\"";
    assert_eq!(
        error(heavy),
        "the regular expression is wrong: it is too large"
    );
    let plain = "😀".repeat(MAX_TEXT_BYTES / 4);
    assert!(Pattern::plain(&plain).is_match(&plain));
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z_][a-z0-9_.-]{0,6}",
        "(and|OR|Null|true|Infinity|NaN|1e5|-3|now|-7d)",
        r#"["'`\\ ä/.()\n\u{7f}=~-]{1,6}"#,
        "\\PC{0,8}",
    ]
}

fn name() -> impl Strategy<Value = String> {
    text().prop_filter("names are not empty", |name| !name.is_empty())
}

fn field() -> impl Strategy<Value = Field> {
    let columns = proptest::sample::select(Entity::Task.columns().iter().collect::<Vec<_>>());
    let statistic = proptest::sample::select(vec![Statistic::Last, Statistic::Min, Statistic::Max]);
    prop_oneof![
        columns.prop_map(Field::Column),
        (name(), name()).prop_map(|(section, name)| Field::Parameter { section, name }),
        (name(), name(), statistic.clone()).prop_map(|(title, series, statistic)| {
            Field::Metric {
                title,
                series,
                statistic,
            }
        }),
        name().prop_map(|name| Field::Single { name }),
        ("[0-9a-f]{32}", "[0-9a-f]{32}", statistic).prop_map(|(title, series, statistic)| {
            Field::HashedMetric {
                title,
                series,
                statistic,
            }
        }),
    ]
}

fn value(kind: Kind) -> BoxedStrategy<Value> {
    let real = any::<f64>().prop_filter("NaN is no value", |number| !number.is_nan());
    match kind.choices() {
        Some(choices) => proptest::sample::select(choices)
            .prop_map(|choice| Value::Text(choice.to_owned()))
            .boxed(),
        None => match kind {
            Kind::Integer | Kind::Integers => any::<i64>().prop_map(Value::Integer).boxed(),
            Kind::Real => real.prop_map(Value::Real).boxed(),
            Kind::Time => any::<i64>()
                .prop_map(|millis| Value::Time(Timestamp(millis)))
                .boxed(),
            Kind::Typed => {
                prop_oneof![real.prop_map(Value::Real), text().prop_map(Value::Text)].boxed()
            }
            _ => text().prop_map(Value::Text).boxed(),
        },
    }
}

fn comparison() -> impl Strategy<Value = Comparison> {
    proptest::sample::select(vec![
        Comparison::Equal,
        Comparison::NotEqual,
        Comparison::Less,
        Comparison::LessOrEqual,
        Comparison::Greater,
        Comparison::GreaterOrEqual,
    ])
}

fn condition(kind: Kind) -> impl Strategy<Value = Condition> {
    prop_oneof![
        (comparison(), value(kind))
            .prop_map(|(comparison, value)| Condition::Compare(comparison, value)),
        (any::<bool>(), proptest::collection::vec(value(kind), 1..4))
            .prop_map(|(negated, values)| Condition::In { negated, values }),
        (any::<bool>(), text()).prop_map(|(negated, source)| Condition::Match {
            negated,
            pattern: Pattern::lenient(&source),
        }),
        any::<bool>().prop_map(|negated| Condition::Null { negated }),
    ]
}

fn filter() -> impl Strategy<Value = Filter> {
    let test = field().prop_flat_map(|field| {
        let kind = field.kind();
        condition(kind).prop_filter_map("a test that the field can be asked", move |condition| {
            Test::new(field.clone(), condition).ok().map(Filter::Test)
        })
    });
    test.prop_recursive(4, 20, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Filter::all),
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Filter::any),
            inner.prop_map(Filter::negated),
        ]
    })
}

fn query() -> impl Strategy<Value = Query> {
    let order = field().prop_filter("a set has no order", |field| !field.kind().is_set());
    let order = (order, any::<bool>()).prop_map(|(field, ascending)| Order {
        field,
        direction: match ascending {
            true => Direction::Ascending,
            false => Direction::Descending,
        },
    });
    (filter(), proptest::collection::vec(order, 0..3))
        .prop_map(|(filter, order)| Query { filter, order })
}

proptest! {
    #[test]
    fn what_is_printed_is_read_again(query in query()) {
        let text = query.to_string();
        prop_assert_eq!(parse(Entity::Task, &text, NOW), Ok(query), "{}", text);
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,60}") {
        if let Err(error) = parse(Entity::Task, &text, NOW) {
            error.caret(&text);
        }
    }

    #[test]
    fn no_text_that_is_almost_a_query_makes_the_parser_panic(
        text in r#"((name|created|tags|not|and|or|order by|is null|in|\(|\)|~|=|!=|<|'a|"\\u|`b`|-7d|1e9|ä) ?){0,12}"#,
    ) {
        if let Err(error) = parse(Entity::Task, &text, NOW) {
            prop_assert!(error.position <= text.chars().count() + 1);
            error.caret(&text);
        }
    }
}

/// What a `task_filter` asks for, as text.
#[track_caller]
fn check_json(filter: &Json, expected: &str) {
    let mut everywhere = filter.clone();
    everywhere["search_hidden"] = json!(true);
    let read = TaskFilter::parse(&everywhere, NOW).unwrap();
    assert_eq!(read.query.to_string(), expected, "{filter}");
}

#[test]
fn every_key_of_a_task_filter() {
    let id = "0123456789abcdef0123456789abcdef";
    check_json(&json!({}), "");
    check_json(
        &json!({"status": ["completed", "failed"]}),
        "status in (completed, failed)",
    );
    check_json(&json!({"status": "-failed"}), "not status = failed");
    check_json(&json!({"type": ["training"]}), "type = training");
    check_json(&json!({"tags": ["a", "-b"]}), "tags = a and not tags = b");
    check_json(
        &json!({"system_tags": ["-archived"]}),
        "not system_tags = archived",
    );
    check_json(&json!({"id": [id]}), &format!("id = \"{id}\""));
    check_json(&json!({"user": ["u1", null]}), "user = u1 or user is null");
    check_json(&json!({"parent": id}), &format!("parent = \"{id}\""));
    check_json(&json!({"name": "^a$"}), "name ~ \"^a$\"");
    check_json(&json!({"name": "a["}), "name ~ \"a\\\\[\"");
    check_json(
        &json!({"search_text": "ne+dle"}),
        "name ~ \"ne+dle\" or comment ~ \"ne+dle\" or id ~ \"ne+dle\"",
    );
    check_json(
        &json!({"project": ["a/b"]}),
        "project.id = a/b or project.path = a/b",
    );
    check_json(
        &json!({"project": "a", "include_subprojects": true}),
        "project.id = a or project = a",
    );
    check_json(
        &json!({"project_name": "vision"}),
        "project.path ~ \"vision\"",
    );
    check_json(
        &json!({"_all_": {"fields": ["name", "comment"], "pattern": "x"}}),
        "name ~ \"x\" and comment ~ \"x\"",
    );
    check_json(
        &json!({"_or_": {"fields": ["name", "tags"], "pattern": "x"}}),
        "name ~ \"x\" or tags ~ \"x\"",
    );
    check_json(
        &json!({"hyperparams.Args.lr.x.value": ["0.1", "0.2"]}),
        "params.Args/\"lr.x\" in (\"0.1\", \"0.2\")",
    );
    check_json(
        &json!({"execution.queue": ["gpu"]}),
        "queue = gpu or queue.id = gpu",
    );
    check_json(&json!({"models.input.model": [3]}), "models.input = 3");
    check_json(
        &json!({"last_iteration": [10, null]}),
        "last_iteration >= 10",
    );
    check_json(
        &json!({"started": ["2000-02-29", "2000-03-01T00:00:00"]}),
        "started >= 2000-02-29T00:00:00Z and started <= 2000-03-01T00:00:00Z",
    );
    check_json(
        &json!({"last_update": [">=2000-02-29", "<2000-03-01"]}),
        "last_update >= 2000-02-29T00:00:00Z and last_update < 2000-03-01T00:00:00Z",
    );
    let md5 = "0cc175b9c0f1b6a831c399e269772661";
    let metric = format!("last_metrics.{md5}.{md5}.max_value");
    check_json(
        &json!({&metric: [null, 0.5], "order_by": [format!("-{metric}"), "last_update"]}),
        &format!("{metric} <= 0.5 order by {metric} desc, last_update"),
    );
    check_json(
        &json!({"order_by": "project.name"}),
        "order by project.path",
    );
    let page = TaskFilter::parse(
        &json!({"page": 2, "page_size": 10, "only_fields": ["name"], "search_hidden": true}),
        NOW,
    )
    .unwrap();
    assert_eq!(page.query, Query::everything());
    assert_eq!((page.page, page.page_size), (Some(2), Some(10)));
    assert_eq!(page.only_fields, Some(vec!["name".to_owned()]));
}

#[test]
fn hidden_tasks_are_shown_only_when_they_are_asked_for() {
    let hidden = "not system_tags = hidden";
    for (filter, is_restricted) in [
        (json!({}), true),
        (json!({"search_hidden": true}), false),
        (json!({"id": ["a"]}), false),
    ] {
        let query = TaskFilter::parse(&filter, NOW).unwrap().query;
        assert_eq!(
            query.to_string().contains(hidden),
            is_restricted,
            "{filter}"
        );
    }
}

#[test]
fn a_wrong_part_of_a_task_filter_is_named() {
    let check = |filter: Json, expected: Expect| {
        let error = TaskFilter::parse(&filter, NOW).unwrap_err();
        expected.assert_eq(&error.to_string());
    };
    check(json!([]), expect![" must be an object"]);
    check(
        json!({"statuss": []}),
        expect!["/statuss is not known; did you mean `status`?"],
    );
    check(
        json!({"status": ["done"]}),
        expect![
            "/status/0 must be one of created, queued, in_progress, completed, failed, stopped, published, but it is `done`"
        ],
    );
    check(
        json!({"tags": ["__$xyz"]}),
        expect![
            "/tags/0 must be an item or one of `__$and`, `__$or`, `__$not`, but it is `__$xyz`"
        ],
    );
    check(
        json!({"_any_": {"fields": ["nam"], "pattern": "x"}}),
        expect!["/_any_/fields/0 must be a field of tasks; did you mean `name`?, but it is `nam`"],
    );
    check(
        json!({"_any_": {"fields": ["dataset"], "pattern": "x"}}),
        expect![
            "/_any_/fields/0 can be asked with `=`, `!=`, `<`, `<=`, `>`, `>=`, `in`, `not in` or `is null`"
        ],
    );
    check(
        json!({"_any_": {"fields": ["name"]}}),
        expect!["/_any_ must have one of `pattern` and `datetime`"],
    );
    check(
        json!({"created": [1]}),
        expect![[
            r#"/created must be `[least, greatest]` with null for no bound, or comparisons like `">=2026-01-31"`"#
        ]],
    );
    check(
        json!({"created": ["soon", null]}),
        expect![
            "/created/0 must be a time, e.g. `2026-01-31`, `2026-01-31T12:00:00Z`, `-7d` (units s, m, h, d, w), `now` or milliseconds since 1970, but it is `soon`"
        ],
    );
    check(
        json!({"last_iteration": ">x"}),
        expect!["/last_iteration must be a whole number, but it is `x`"],
    );
    check(
        json!({"order_by": ["-nam"]}),
        expect!["/order_by/0 must be a field of tasks; did you mean `name`?, but it is `nam`"],
    );
    check(
        json!({"order_by": ["tags"]}),
        expect!["/order_by/0 `tags` is a set, which has no order"],
    );
    check(
        json!({"page_size": 501}),
        expect!["/page_size must be a whole number of at most 500, but it is 501"],
    );
    check(
        json!({"page": -1}),
        expect!["/page must be a whole number, but it is -1"],
    );
    check(
        json!({"search_text": 3}),
        expect!["/search_text must be a text, but it is 3"],
    );
    check(
        json!({"search_hidden": "yes"}),
        expect![[r#"/search_hidden must be true or false, but it is "yes""#]],
    );
    check(
        json!({"models.input.model": ["x"]}),
        expect!["/models.input.model/0 must be a whole number, but it is `x`"],
    );
}

#[test]
fn a_filter_of_many_ids_is_one_test() {
    let ids: Vec<String> = (0..1000).map(|id| format!("{id:032x}")).collect();
    let filter = TaskFilter::parse(&json!({ "id": ids }), NOW).unwrap();
    assert_eq!(filter.query.filter.tests().len(), 1);
}

#[test]
fn a_request_has_its_parts_and_the_keys_of_the_sdk() {
    let request = Request::parse(
        Entity::Task,
        &json!({
            "filter": "status = failed", "task_ids": ["a", "b"], "project_name": "vision",
            "task_name": ["^x$", "y"], "tags": ["a", "-b"], "allow_archived": false,
            "task_filter": {"type": "qc", "search_hidden": true, "page": 3, "page_size": 20},
            "order_by": ["-metrics.val/acc"], "fields": ["name", "params.lr", "name"],
            "total": true,
        }),
        NOW,
    )
    .unwrap();
    expect![[
        r#"status = failed and id in (a, b) and tags = a and not tags = b and project.path ~ "vision" and (name ~ "^x$" or name ~ "y") and not system_tags = archived and type = qc order by metrics.val/acc desc"#
    ]]
    .assert_eq(&request.query.to_string());
    assert_eq!((request.limit, request.skip), (20, 60));
    assert_eq!(request.fields.unwrap().len(), 2);
    assert!(request.with_total);
    let nothing = Request::parse(Entity::Model, &json!({}), NOW).unwrap();
    assert_eq!(nothing.query, Query::everything());
}

#[test]
fn a_wrong_part_of_a_request_is_named() {
    let check = |entity, body: Json, expected: Expect| {
        let error = Request::parse(entity, &body, NOW).unwrap_err();
        let position = error.position();
        expected.assert_eq(&format!("{}: {error} {position:?}", error.pointer()));
    };
    check(
        Entity::Task,
        json!({"filter": "name ="}),
        expect!["/filter: character 7: expected a value, but found the end Some(7)"],
    );
    check(
        Entity::Task,
        json!({"filters": ""}),
        expect!["/filters: /filters is not known; did you mean `filter`? None"],
    );
    check(
        Entity::Model,
        json!({"task_filter": {}}),
        expect![
            "/task_filter: /task_filter is not known; the keys are filter, order_by, fields, limit, after, total None"
        ],
    );
    check(
        Entity::Task,
        json!({"task_filter": {"tags": ["-"]}}),
        expect!["/task_filter/tags/0: /task_filter/tags/0 must not be empty None"],
    );
    check(
        Entity::Task,
        json!({"tags": ["__$xyz", "a"]}),
        expect![
            "/tags/0: /tags/0 must be an item or one of `__$and`, `__$or`, `__$not`, but it is `__$xyz` None"
        ],
    );
    check(
        Entity::Task,
        json!({"limit": 1001}),
        expect!["/limit: /limit must be a whole number of at most 1000, but it is 1001 None"],
    );
    check(
        Entity::Task,
        json!({"limit": 0}),
        expect!["/limit: /limit must be 1 to 1000, but it is 0 None"],
    );
    check(
        Entity::Task,
        json!({"after": 1}),
        expect!["/after: /after must be a text None"],
    );
    check(
        Entity::Task,
        json!({"fields": ["nam"]}),
        expect![
            "/fields/0: /fields/0 must be a field of tasks; did you mean `name`?, but it is `nam` None"
        ],
    );
    check(
        Entity::Dataset,
        json!({"order_by": "-status"}),
        expect![
            "/order_by/0: /order_by/0 must be a field of data sets (id, uuid, name, number, project, project.path, project.id, task, user, description, parent, digest, file_count, size_bytes, tags, system_tags, created, published, last_update), but it is `status` None"
        ],
    );
}
