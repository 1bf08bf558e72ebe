//! What a search space may be, and what is said about one that is wrong.

use std::fmt::Write as _;

use expect_test::{Expect, expect};
use serde_json::{Value, json};
use trainshed_tune::history::History;
use trainshed_tune::search::{Request, Searcher};
use trainshed_tune::{Config, Space};

use crate::{dict, experiment, run_all, space};

/// What is wrong with each of the parameters, one line each: where, and what.
#[track_caller]
fn check(parameters: &[Value], expected: &Expect) {
    let mut text = String::new();
    for parameter in parameters {
        let mut fields = dict(parameter.clone());
        fields.entry("name").or_insert("x".into());
        let line = match Space::parse(&[fields.into()], "") {
            Err(error) => format!("{}: {}", error.pointer, error.message),
            Ok(_) => format!("{parameter} is fine"),
        };
        writeln!(text, "{line}").unwrap();
    }
    expected.assert_eq(&text);
}

#[test]
fn bounds_must_be_numbers_in_order() {
    check(
        &[
            json!({"type": "uniform", "min": 1, "max": 1}),
            json!({"type": "uniform", "min": 2, "max": 1}),
            json!({"type": "uniform", "min": -1.7e308, "max": 1.7e308}),
            json!({"type": "uniform", "min": "0", "max": 1}),
            json!({"type": "uniform", "max": 1}),
            json!({"type": "uniform", "lower": 0, "max": 1}),
            json!({"type": "randint", "min": 3, "max": 3}),
            json!({"type": "randint", "min": 0.5, "max": 3}),
            json!({"type": "randint", "min": 0, "max": 1e300}),
            json!({"type": "loguniform", "min": 0, "max": 1, "base": 10}),
            json!({"type": "loguniform", "min": 1, "max": 1, "base": 10}),
            json!({"type": "lograndint", "min": 0, "max": 8, "base": 2}),
        ],
        &expect![[r#"
            /0/max: hyperparameter `x` of type uniform: `min` must be less than `max`, but 1 is not less than 1
            /0/max: hyperparameter `x` of type uniform: `min` must be less than `max`, but 2 is not less than 1
            /0/max: hyperparameter `x` of type uniform: the range from -1.7e308 to 1.7e308 is too wide for a number
            /0/min: `min` of hyperparameter `x` must be a number, but it is "0"
            /0/min: hyperparameter `x` of type uniform must have the key `min`
            /0/lower: hyperparameter `x` of type uniform has the key `lower`: use `min`
            /0/max: hyperparameter `x` of type randint: `min` must be less than `max`, but 3 is not less than 3
            /0/min: hyperparameter `x` of type randint: `min` must be a whole number of at most 2^53, but it is 0.5
            /0/max: hyperparameter `x` of type randint: `max` must be a whole number of at most 2^53, but it is 1e300
            /0/min: hyperparameter `x` of type loguniform: LogUniform requires a lower bound greater than 0, but it is 0
            /0/max: hyperparameter `x` of type loguniform: `min` must be less than `max`, but 1 is not less than 1
            /0/min: hyperparameter `x` of type lograndint: LogUniform requires a lower bound greater than 0, but it is 0
        "#]],
    );
}

#[test]
fn a_base_is_checked_although_it_changes_nothing() {
    check(
        &[
            json!({"type": "loguniform", "min": 1, "max": 2}),
            json!({"type": "loguniform", "min": 1, "max": 2, "base": 1}),
            json!({"type": "loguniform", "min": 1, "max": 2, "base": 0}),
            json!({"type": "lograndint", "min": 1, "max": 2, "base": "e"}),
            json!({"type": "loguniform", "min": 1, "max": 2, "base": 0.5}),
        ],
        &expect![[r#"
            /0/base: hyperparameter `x` of type loguniform must have the key `base`
            /0/base: hyperparameter `x` of type loguniform: `base` must be more than 0 and not 1, but it is 1
            /0/base: hyperparameter `x` of type loguniform: `base` must be more than 0 and not 1, but it is 0
            /0/base: `base` of hyperparameter `x` must be a number, but it is "e"
            {"base":0.5,"max":2,"min":1,"type":"loguniform"} is fine
        "#]],
    );
}

#[test]
fn a_step_must_divide_the_bounds_and_leave_a_value() {
    check(
        &[
            json!({"type": "quniform", "min": 0.1, "max": 1, "q": 0.25}),
            json!({"type": "quniform", "min": 0, "max": 1.1, "q": 0.25}),
            json!({"type": "quniform", "min": 0, "max": 1, "q": 0}),
            json!({"type": "quniform", "min": 0, "max": 1, "q": -1}),
            json!({"type": "quniform", "min": 0, "max": 1, "q": "a"}),
            json!({"type": "quniform", "min": 0, "max": 1, "q": 1e-300}),
            json!({"type": "quniform", "min": 2, "max": 1}),
            json!({"type": "qloguniform", "min": 0.001, "max": 1, "base": 10, "q": 0.1}),
            json!({"type": "qrandint", "min": 1, "max": 2, "q": 3}),
            json!({"type": "qrandint", "min": 1, "max": 9, "q": 1.5}),
            json!({"type": "qrandint", "min": 4, "max": 4}),
            json!({"type": "qlograndint", "min": 1, "max": 3, "base": 2, "q": 4}),
            json!({"type": "qrandn", "mean": 0, "sd": 1, "q": 1e-17}),
            json!({"type": "quniform", "min": 0.3, "max": 0.9, "q": 0.1}),
            json!({"type": "qloguniform", "min": 1e-4, "max": 1e-1, "base": 10, "q": 1e-4}),
        ],
        &expect![[r#"
            /0/min: hyperparameter `x` of type quniform: Your lower variable bound 0.1 is not divisible by quantization factor 0.25.
            /0/max: hyperparameter `x` of type quniform: Your upper variable bound 1.1 is not divisible by quantization factor 0.25.
            /0/q: hyperparameter `x` of type quniform: `q` must be more than 0, but it is 0
            /0/q: hyperparameter `x` of type quniform: `q` must be more than 0, but it is -1
            /0/q: `q` of hyperparameter `x` must be a number, but it is "a"
            /0/q: hyperparameter `x` of type quniform: `q` is too small for the range from 0 to 1: it is 1e-300
            /0/max: hyperparameter `x` of type quniform: `min` must not be more than `max`, but 2 is more than 1
            /0/min: hyperparameter `x` of type qloguniform: Your lower variable bound 0.001 is not divisible by quantization factor 0.1.
            /0/q: hyperparameter `x` of type qrandint: there is no value: no multiple of 3 lies in the range from 1 to 2
            /0/q: hyperparameter `x` of type qrandint: `q` must be a whole number, 1 or more, but it is 1.5
            /0/max: hyperparameter `x` of type qrandint: `min` must be less than `max`, but 4 is not less than 4
            /0/q: hyperparameter `x` of type qlograndint: there is no value: no multiple of 4 lies in the range from 1 to 3
            /0/q: hyperparameter `x` of type qrandn: `q` is too small for a mean of 0 and an sd of 1: it is 1e-17
            {"max":0.9,"min":0.3,"q":0.1,"type":"quniform"} is fine
            {"base":10,"max":0.1,"min":0.0001,"q":0.0001,"type":"qloguniform"} is fine
        "#]],
    );
}

#[test]
fn a_deviation_must_be_positive() {
    check(
        &[
            json!({"type": "randn", "mean": 0, "sd": 0}),
            json!({"type": "randn", "mean": 0, "sd": -1}),
            json!({"type": "qrandn", "mean": null, "sd": 1}),
            json!({"type": "randn", "mean": 0}),
        ],
        &expect![[r#"
            /0/sd: hyperparameter `x` of type randn: SD has to be strictly greater than 0, but it is 0
            /0/sd: hyperparameter `x` of type randn: SD has to be strictly greater than 0, but it is -1
            /0/mean: `mean` of hyperparameter `x` must be a number, but it is null
            /0/sd: hyperparameter `x` of type randn must have the key `sd`
        "#]],
    );
}

#[test]
fn options_names_and_types_are_checked() {
    check(
        &[
            json!({"type": "choice", "options": []}),
            json!({"type": "choice", "values": [1]}),
            json!({"type": "choice", "options": "ab"}),
            json!({"type": "grid_search"}),
            json!({"type": "constant"}),
            json!({"type": "normal", "mean": 0, "sd": 1}),
            json!({"type": "uniform", "min": 0, "max": 1, "step": 0.1}),
            json!({"type": "uniform", "min": 0, "max": 1, "name": 3}),
            json!({"min": 0, "max": 1}),
            json!({"type": "choice", "options": (0..10_001).collect::<Vec<u32>>()}),
        ],
        &expect![[r#"
            /0/options: `options` of hyperparameter `x` must be a list with at least one value, but it is a list of 0
            /0/values: hyperparameter `x` of type choice has the key `values`: use `options`
            /0/options: `options` of hyperparameter `x` must be a list with at least one value, but it is "ab"
            /0/options: hyperparameter `x` of type grid_search must have the key `options`
            /0/value: hyperparameter `x` of type constant must have the key `value`
            /0/type: Unknown parameter type: normal
            /0/step: hyperparameter `x` of type uniform: there is no key `step`; the keys are name, type, min, max, when
            /0/name: every hyperparameter must have a `name`, a text
            /0/type: hyperparameter `x` must have a `type`, a text
            /0/options: hyperparameter `x` of type choice: `options` must have 1 to 10000 values, but it has 10001
        "#]],
    );
}

/// What is wrong with a list of parameters.
#[track_caller]
fn check_list(list: Value, expected: &Expect) {
    let list = list.as_array().unwrap().clone();
    let error = Space::parse(&list, "/params/hyperparameters").unwrap_err();
    expected.assert_eq(&format!("{}: {}", error.pointer, error.message));
}

#[test]
fn a_space_has_one_to_256_parameters_of_different_names() {
    check_list(
        json!([]),
        &expect!["/params/hyperparameters: hyperparameters must name at least one search space"],
    );
    check_list(
        json!([{"name": "x", "type": "constant", "value": 1}, {"name": "x", "type": "constant", "value": 2}]),
        &expect!["/params/hyperparameters/1/name: hyperparameter `x` is there twice"],
    );
    let many: Vec<Value> = (0..257)
        .map(|index| json!({"name": format!("p{index}"), "type": "constant", "value": index}))
        .collect();
    check_list(
        many.into(),
        &expect![
            "/params/hyperparameters: hyperparameters can have at most 256 search spaces, but there are 257"
        ],
    );
    check_list(
        json!(["x"]),
        &expect![[r#"/params/hyperparameters/0: a search space must be a dict, but it is "x""#]],
    );
}

fn branches() -> Value {
    json!([
        {"name": "momentum", "type": "uniform", "min": 0, "max": 1, "when": {"optimizer": "sgd"}},
        {"name": "optimizer", "type": "choice", "options": ["sgd", "adam", "none"]},
        {"name": "nesterov", "type": "choice", "options": [true, false], "when": {"optimizer": ["sgd"]}},
        {"name": "delay", "type": "randint", "min": 1, "max": 9, "when": {"nesterov": true}},
        {"name": "lr", "type": "loguniform", "min": 1e-4, "max": 1, "base": 10, "when": {"optimizer": ["sgd", "adam"]}}
    ])
}

fn has(config: &Config, name: &str) -> bool {
    config.contains_key(name)
}

/// A parameter is there exactly where its conditions hold, and those of its parents.
#[track_caller]
fn check_branches(config: &Config) {
    let optimizer = config["optimizer"].as_str().unwrap();
    assert_eq!(has(config, "momentum"), optimizer == "sgd", "{config:?}");
    assert_eq!(has(config, "nesterov"), optimizer == "sgd", "{config:?}");
    let delayed = config.get("nesterov") == Some(&json!(true));
    assert_eq!(has(config, "delay"), delayed, "{config:?}");
    assert_eq!(has(config, "lr"), optimizer != "none", "{config:?}");
}

#[test]
fn conditional_parameters_are_there_only_where_their_condition_holds() {
    for searcher in [
        "random",
        "sobol",
        "tpe",
        "hyperoptsearch",
        "gp",
        "cmaes",
        "auto",
    ] {
        let settings = json!({"num_samples": 40, "search_alg": searcher});
        let mut experiment = experiment(branches(), settings);
        let configs = run_all(&mut experiment, |config| match config.get("lr") {
            Some(lr) => {
                (lr.as_f64().unwrap().log10() + 2.0).abs()
                    + f64::from(u8::from(has(config, "delay")))
            }
            None => 3.0,
        });
        assert_eq!(configs.len(), 40);
        configs.iter().for_each(check_branches);
        let point = experiment.space().encode(&configs[0]);
        for (parameter, coordinate) in experiment.space().parameters().iter().zip(point) {
            assert_eq!(coordinate.is_nan(), !has(&configs[0], &parameter.name));
        }
    }
}

#[test]
fn conditions_name_options_of_choices_and_form_no_circle() {
    let with = |when: Value| {
        json!([
            {"name": "x", "type": "uniform", "min": 0, "max": 1, "when": when},
            {"name": "kind", "type": "choice", "options": [1, "b"]},
            {"name": "z", "type": "uniform", "min": 0, "max": 1}
        ])
    };
    check_list(
        with(json!({"nothing": 1})),
        &expect![
            "/params/hyperparameters/0/when: hyperparameter `x` of type uniform: `when` names `nothing`, which is no hyperparameter"
        ],
    );
    check_list(
        with(json!({"z": 0.5})),
        &expect![
            "/params/hyperparameters/0/when: hyperparameter `x` of type uniform: `when` names `z`, which is neither a choice nor a grid_search"
        ],
    );
    check_list(
        with(json!({"kind": 2})),
        &expect![
            "/params/hyperparameters/0/when: hyperparameter `x` of type uniform: `when` wants 2 of `kind`, which is none of its options"
        ],
    );
    check_list(
        with(json!({"kind": []})),
        &expect![
            "/params/hyperparameters/0/when: hyperparameter `x` of type uniform: `when` must want at least one option of `kind`"
        ],
    );
    check_list(
        with(json!("kind")),
        &expect![[
            r#"/params/hyperparameters/0/when: `when` of hyperparameter `x` must be a dict from a hyperparameter to its options, but it is "kind""#
        ]],
    );
    check_list(
        json!([
            {"name": "a", "type": "choice", "options": [1, 2], "when": {"b": 1}},
            {"name": "b", "type": "choice", "options": [1, 2], "when": {"a": 1}}
        ]),
        &expect![
            "/params/hyperparameters: the conditions `when` of the hyperparameters go round in a circle"
        ],
    );
    check_list(
        json!([
            {"name": "a", "type": "choice", "options": [1, 2]},
            {"name": "b", "type": "grid_search", "options": [1, 2], "when": {"a": 1}}
        ]),
        &expect![
            "/params/hyperparameters/1/when: hyperparameter `b` of type grid_search: a grid is always there, so it has no `when`"
        ],
    );
    let fine = with(json!({"kind": [1.0, "b"]}))
        .as_array()
        .unwrap()
        .clone();
    assert!(Space::parse(&fine, "").is_ok(), "1.0 is the option 1");
}

#[test]
fn a_space_that_is_told_can_be_submitted_again() {
    let mixed = json!([
        {"name": "a", "type": "uniform", "min": -1, "max": 1},
        {"name": "b", "type": "quniform", "min": 0, "max": 1},
        {"name": "c", "type": "loguniform", "min": 1e-5, "max": 1e-1, "base": 10},
        {"name": "d", "type": "qloguniform", "min": 0.5, "max": 8, "base": 2},
        {"name": "e", "type": "randn", "mean": 1, "sd": 2},
        {"name": "f", "type": "qrandn", "mean": 0, "sd": 1},
        {"name": "g", "type": "randint", "min": 0, "max": 7},
        {"name": "h", "type": "qrandint", "min": 1, "max": 13, "q": 3},
        {"name": "i", "type": "lograndint", "min": 1, "max": 300, "base": 2.5},
        {"name": "j", "type": "qlograndint", "min": 3, "max": 65, "base": 2, "q": 4},
        {"name": "k", "type": "constant", "value": [1]}
    ]);
    for list in [mixed, branches()] {
        let first = space(list);
        assert_eq!(space(first.to_json().into()), first);
    }
}

#[test]
fn fixing_one_parameter_changes_no_other() {
    let space = space(json!([
        {"name": "a", "type": "uniform", "min": 0, "max": 1},
        {"name": "b", "type": "uniform", "min": 0, "max": 1},
        {"name": "c", "type": "uniform", "min": 0, "max": 1}
    ]));
    let mut random = Searcher::parse("random", &serde_json::Map::new(), "").unwrap();
    let mut suggest = |fixed: Value| {
        let fixed = dict(fixed);
        let request = Request {
            seed: 3,
            trial: 5,
            fixed: &fixed,
        };
        random.suggest(&space, &History::new(), &request)
    };
    let free = suggest(json!({}));
    let bound = suggest(json!({"b": 0.5}));
    assert_eq!((&bound["a"], &bound["c"]), (&free["a"], &free["c"]));
    assert_eq!(bound["b"], json!(0.5));
}
