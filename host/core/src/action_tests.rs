use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// A valid train action with `changes` to its params; a null removes a field.
fn train(changes: Value) -> Value {
    let mut params = json!({
        "name": "my_model", "dataset": 123, "checkpoint": null, "is_tune": false,
        "hyperparameter": {"epochs": 100, "learning_rate": 0.001, "optimizer": "adam"},
    });
    for (field, value) in changes.as_object().unwrap() {
        match value {
            Value::String(text) if text == "(absent)" => {
                params.as_object_mut().unwrap().remove(field)
            }
            value => params
                .as_object_mut()
                .unwrap()
                .insert(field.clone(), value.clone()),
        };
    }
    json!({"action": "train", "params": params})
}

#[track_caller]
fn check_error(submitted: Value, expected: Expect) {
    let error = Action::parse(&submitted).unwrap_err();
    expected.assert_eq(&format!("{}: {}", error.pointer, error.message));
}

fn tune(changes: Value) -> Value {
    let mut all = json!({
        "is_tune": true, "hyperparameter": "(absent)",
        "hyperparameters": [{"name": "lr", "type": "uniform", "min": 0, "max": 1}],
        "tune_config": {"mode": "max", "metric": "accuracy"},
    });
    all.as_object_mut()
        .unwrap()
        .extend(changes.as_object().unwrap().clone());
    train(all)
}

#[test]
fn the_train_example_of_the_sources_is_accepted_with_its_types_kept() {
    let action = Action::parse(&train(json!({}))).unwrap();
    assert_eq!(action.common.name, "my_model");
    assert_eq!(action.common.seed, Some(DEFAULT_SEED));
    let Work::Train {
        hyperparameter,
        checkpoint,
    } = action.work
    else {
        panic!("a train action")
    };
    assert_eq!(
        Value::from(hyperparameter),
        json!({"epochs": 100, "learning_rate": 0.001, "optimizer": "adam"})
    );
    assert_eq!(checkpoint, None);
}

#[test]
fn a_checkpoint_is_an_id_or_null_or_absent() {
    let checkpoint = |value: Value| match Action::parse(&train(json!({"checkpoint": value})))
        .unwrap()
        .work
    {
        Work::Train { checkpoint, .. } => checkpoint,
        Work::Tune(_) | Work::Preprocess { .. } => panic!("a train action"),
    };
    assert_eq!(checkpoint(json!(789)), Some(789));
    assert_eq!(checkpoint(Value::Null), None);
    assert_eq!(checkpoint(json!("(absent)")), None);
    check_error(
        train(json!({"checkpoint": "best"})),
        expect![[
            r#"/params/checkpoint: checkpoint must be the integer id of a model, or null, but it is "best""#
        ]],
    );
    check_error(
        train(json!({"checkpoint": 1.5})),
        expect![
            "/params/checkpoint: checkpoint must be the integer id of a model, or null, but it is 1.5"
        ],
    );
}

#[test]
fn a_name_is_required_and_encoded() {
    let action = Action::parse(&train(json!({"name": "experiment:v1,batch:32"}))).unwrap();
    assert_eq!(action.common.name, "experiment:v1,batch:32");
    assert_eq!(action.common.encoded_name(), "experiment%3Av1%2Cbatch%3A32");
    check_error(
        train(json!({"name": "(absent)"})),
        expect!["/params/name: name is required"],
    );
    check_error(
        train(json!({"name": null})),
        expect!["/params/name: name is required"],
    );
    check_error(
        train(json!({"name": "  "})),
        expect!["/params/name: name is required and must not be blank"],
    );
    check_error(
        train(json!({"name": "ab"})),
        expect!["/params/name: name must have at least 3 characters, but `ab` has 2"],
    );
    check_error(
        train(json!({"name": 7})),
        expect!["/params/name: name must be a text, but it is 7"],
    );
}

#[test]
fn a_dataset_is_an_integer() {
    check_error(
        train(json!({"dataset": "(absent)"})),
        expect!["/params/dataset: dataset is required: the integer id of a data set"],
    );
    check_error(
        train(json!({"dataset": null})),
        expect!["/params/dataset: dataset is required: the integer id of a data set"],
    );
    check_error(
        train(json!({"dataset": "abc"})),
        expect![[
            r#"/params/dataset: dataset must be the integer id of a data set, but it is "abc""#
        ]],
    );
    check_error(
        train(json!({"dataset": -1})),
        expect!["/params/dataset: dataset must be the integer id of a data set, but it is -1"],
    );
}

#[test]
fn resources_are_finite_and_not_negative() {
    assert!(Action::parse(&train(json!({"num_cpus": 2, "num_gpus": 0.5}))).is_ok());
    check_error(
        train(json!({"num_gpus": -0.5})),
        expect!["/params/num_gpus: num_gpus must be a number, 0 or more, but it is -0.5"],
    );
    check_error(
        train(json!({"num_cpus": "two"})),
        expect![[r#"/params/num_cpus: num_cpus must be a number, 0 or more, but it is "two""#]],
    );
}

#[test]
fn the_errors_about_hyperparameters_have_their_exact_texts() {
    check_error(
        train(json!({"hyperparameter": "(absent)"})),
        expect!["/params/hyperparameter: hyperparameter is required when is_tune=False"],
    );
    check_error(
        train(json!({"hyperparameters": [{}]})),
        expect![
            "/params/hyperparameter: Provide either hyperparameter or hyperparameters, but not both"
        ],
    );
    check_error(
        train(json!({"hyperparameter": []})),
        expect![[
            r#"/params/hyperparameter: hyperparameter must be a dict, not a list. If you want to use hyperparameter tuning, set "is_tune": true and use "hyperparameters" instead."#
        ]],
    );
    check_error(
        train(json!({"hyperparameter": 3})),
        expect!["/params/hyperparameter: hyperparameter must be a dict, but it is 3"],
    );
    check_error(
        train(json!({"hyperparameter": "(absent)", "hyperparameters": {}})),
        expect![[
            r#"/params/hyperparameters: hyperparameters must be a list, not a dict. If you want to train with fixed values, use "hyperparameter" instead."#
        ]],
    );
    check_error(
        train(json!({"hyperparameter": "(absent)", "hyperparameters": [{}, {}]})),
        expect![
            "/params/hyperparameters: hyperparameters must be a list containing a single dictionary"
        ],
    );
    check_error(
        train(json!({"is_tune": "yes"})),
        expect![[r#"/params/is_tune: is_tune must be true or false, but it is "yes""#]],
    );
}

#[test]
fn a_list_with_one_dictionary_gives_the_fixed_values() {
    let action = Action::parse(&train(
        json!({"hyperparameter": "(absent)", "hyperparameters": [{"epochs": 1}]}),
    ))
    .unwrap();
    let Work::Train { hyperparameter, .. } = action.work else {
        panic!("a train action")
    };
    assert_eq!(Value::from(hyperparameter), json!({"epochs": 1}));
}

#[test]
fn a_tuning_request_is_checked_field_by_field_before_it_is_refused() {
    check_error(
        tune(json!({"hyperparameters": "(absent)"})),
        expect!["/params/hyperparameters: hyperparameters is required when is_tune=True"],
    );
    check_error(
        tune(json!({"tune_config": "(absent)"})),
        expect!["/params/tune_config: tune_config is required when is_tune=True"],
    );
    check_error(
        tune(json!({"hyperparameters": "(absent)", "hyperparameter": {}})),
        expect![
            "/params/hyperparameter: hyperparameter should not be provided when is_tune=True, use hyperparameters instead"
        ],
    );
    check_error(
        tune(json!({"hyperparameter": {}})),
        expect![
            "/params/hyperparameter: Provide either hyperparameter or hyperparameters, but not both"
        ],
    );
    check_error(
        tune(json!({"hyperparameters": {}})),
        expect![[
            r#"/params/hyperparameters: hyperparameters must be a list, not a dict. Give one search space per parameter, e.g. [{"name":"lr","type":"uniform","min":0,"max":1}]."#
        ]],
    );
}

#[test]
fn a_tune_action_keeps_its_spaces_and_settings_as_they_were_submitted() {
    let action = Action::parse(&tune(json!({"num_cpus": 2, "num_gpus": 0.5}))).unwrap();
    assert_eq!(action.common.task_type, TaskType::Optimizer);
    let Work::Tune(parsed) = &action.work else {
        panic!("{action:?}");
    };
    assert_eq!(parsed.hyperparameters.len(), 1);
    assert_eq!(parsed.tune_config["metric"], "accuracy");
    assert_eq!((parsed.num_cpus, parsed.num_gpus), (Some(2.0), Some(0.5)));
    assert_eq!(action.work.action(), "tune");

    let mut deprecated = tune(json!({}));
    deprecated["action"] = json!("tune");
    let params = deprecated["params"].as_object_mut().unwrap();
    let list = params.remove("hyperparameters").unwrap();
    params.insert("hyperparameter".to_owned(), list);
    params.remove("is_tune");
    let deprecated = Action::parse(&deprecated).unwrap();
    let migrated = Action::parse(&tune(json!({}))).unwrap();
    assert_eq!(deprecated.work, migrated.work);
    assert_eq!(deprecated.params, migrated.params);
    assert_eq!(
        deprecated.warnings,
        [
            r#"the action "tune" is deprecated: use "train" with "is_tune": true and "hyperparameters""#
        ]
    );
}

#[test]
fn a_tune_action_is_neither_continued_nor_given_a_name_too_long_for_its_trials() {
    check_error(
        tune(json!({"continue_task": true})),
        expect![
            "/params/continue_task: continue_task has no meaning when is_tune=True: every trial is a run of its own"
        ],
    );
    check_error(
        tune(json!({"name": "n".repeat(181)})),
        expect![
            "/params/name: name must have at most 180 bytes when is_tune=True, because trials are called `<name>_<trial id>`, but it has 181"
        ],
    );
}

#[test]
fn a_search_space_names_the_parameter_and_the_key_at_fault() {
    let space = |space: Value| tune(json!({"hyperparameters": [space]}));
    check_error(
        space(json!({"type": "uniform"})),
        expect!["/params/hyperparameters/0/name: every hyperparameter must have a `name`, a text"],
    );
    check_error(
        space(json!({"name": "lr"})),
        expect!["/params/hyperparameters/0/type: hyperparameter `lr` must have a `type`, a text"],
    );
    check_error(
        space(json!({"name": "lr", "type": "gauss"})),
        expect!["/params/hyperparameters/0/type: Unknown parameter type: gauss"],
    );
    check_error(
        space(json!({"name": "lr", "type": "uniform", "lower": 0, "max": 1})),
        expect![
            "/params/hyperparameters/0/lower: hyperparameter `lr` of type uniform has the key `lower`: use `min`"
        ],
    );
    check_error(
        space(json!({"name": "lr", "type": "uniform", "min": 0})),
        expect![
            "/params/hyperparameters/0/max: hyperparameter `lr` of type uniform must have the key `max`"
        ],
    );
    check_error(
        space(json!({"name": "lr", "type": "loguniform", "min": 0.1, "max": 1})),
        expect![
            "/params/hyperparameters/0/base: hyperparameter `lr` of type loguniform must have the key `base`"
        ],
    );
    check_error(
        space(json!({"name": "opt", "type": "choice", "values": ["a"]})),
        expect![
            "/params/hyperparameters/0/values: hyperparameter `opt` of type choice has the key `values`: use `options`"
        ],
    );
    check_error(
        space(json!({"name": "opt", "type": "choice", "options": []})),
        expect![
            "/params/hyperparameters/0/options: `options` of hyperparameter `opt` must be a list with at least one value, but it is a list of 0"
        ],
    );
    check_error(
        space(json!({"name": "n", "type": "randn", "mean": "x", "sd": 1})),
        expect![[
            r#"/params/hyperparameters/0/mean: `mean` of hyperparameter `n` must be a number, but it is "x""#
        ]],
    );
}

#[test]
fn a_misspelt_field_is_an_error_that_says_what_was_meant() {
    let error = Action::parse(&train(json!({"datset": 1}))).unwrap_err();
    assert_eq!(error.hint.as_deref(), Some("Did you mean `dataset`?"));
    check_error(
        json!({"action": "train"}),
        expect!["/params: params is required"],
    );
    check_error(
        json!({"action": "fly", "params": {}}),
        expect!["/action: action must be train or preprocess, but it is `fly`"],
    );
    check_error(
        json!({"params": {}}),
        expect!["/action: action is required: train or preprocess"],
    );
    check_error(
        json!([]),
        expect![": an action must be a JSON object, but it is a list of 0"],
    );
    check_error(
        json!({"action": "train", "plugin": "No Name", "params": {}}),
        expect![
            "/plugin: plugin must be a plugin's `name`, `name@version` or `sha256:<digest>`, but it is `No Name`"
        ],
    );
}

#[test]
fn the_other_common_fields() {
    let action = Action::parse(&train(json!({
        "seed": null, "tags": ["b", "a", "b"], "project": "vision/ digits ", "task_type": "testing",
        "limits": {"wall_ms": 1000},
    })))
    .unwrap();
    assert_eq!(action.common.seed, None);
    assert_eq!(action.common.tags, ["a", "b"]);
    assert_eq!(action.common.project.as_deref(), Some("vision/digits"));
    assert_eq!(action.common.task_type, TaskType::Testing);
    assert_eq!(action.common.limits.wall_ms, Some(1000));
    check_error(
        train(json!({"seed": -1})),
        expect![
            "/params/seed: seed must be an integer from 0 to 2^64 - 1, or null for a random one, but it is -1"
        ],
    );
    check_error(
        train(json!({"project": "vision//x"})),
        expect!["/params/project: project is required and must not be blank"],
    );
    check_error(
        train(json!({"task_type": "fun"})),
        expect![
            "/params/task_type: task_type must be one of training, testing, inference, controller, optimizer, monitor, service, application, data_processing, qc, custom, agent, but it is `fun`"
        ],
    );
    check_error(
        train(json!({"tags": "a"})),
        expect![[r#"/params/tags: tags must be a list of texts, but it is "a""#]],
    );
    check_error(
        train(json!({"limits": {"memory": 1}})),
        expect![
            "/params/limits: limits: unknown field `memory`, expected one of `memory_bytes`, `tensor_bytes`, `device_bytes`, `wall_ms`, `cpu_ms`, `grace_ms`, `log_bytes`, `points`, `media_bytes`, `scratch_bytes`, `output_bytes`, `threads`"
        ],
    );
}

#[test]
fn a_preprocess_action_takes_free_parameters() {
    let submitted = json!({"action": "preprocess", "plugin": "standardize@0.1.0", "params": {"name": "scale", "dataset": 1, "parameters": {"exclude": ["label"]}}});
    let action = Action::parse(&submitted).unwrap();
    assert_eq!(action.plugin.unwrap().to_string(), "standardize@0.1.0");
    assert_eq!(action.common.task_type, TaskType::DataProcessing);
    assert_eq!(
        action.work,
        Work::Preprocess {
            parameters: json!({"exclude": ["label"]}).as_object().unwrap().clone()
        }
    );
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z_:,%]{0,12}".prop_map(Value::from),
    ];
    let field = prop_oneof![
        proptest::sample::select(
            [
                TOP_FIELDS.as_slice(),
                &COMMON_FIELDS,
                &TRAIN_FIELDS,
                &["parameters", "type", "min"]
            ]
            .concat()
        )
        .prop_map(str::to_owned),
        ".{0,6}",
    ];
    leaf.prop_recursive(4, 64, 8, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(field.clone(), inner, 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_json_makes_the_parser_panic(params in any_json(), action in prop_oneof![Just("train"), Just("tune"), Just("preprocess")]) {
        let _ = Action::parse(&params);
        let _ = Action::parse(&json!({"action": action, "params": params}));
    }
}
