//! What a `tune_config` may say, and what is answered when it says something else.

use std::fmt::Write as _;

use expect_test::{Expect, expect};
use serde_json::{Value, json};
use trainshed_tune::Experiment;

use crate::dict;

/// What is wrong with each of the settings, one line each: where, what, and what may help.
#[track_caller]
fn check(settings: &[Value], expected: &Expect) {
    let parameters = [
        json!({"name": "lr", "type": "uniform", "min": 0, "max": 1}),
        json!({"name": "epochs", "type": "randint", "min": 1, "max": 31}),
    ];
    let mut text = String::new();
    for one in settings {
        let mut config = dict(json!({"mode": "min", "metric": "loss"}));
        for (key, value) in dict(one.clone()) {
            match value.as_str() {
                Some("absent") => config.remove(&key),
                _ => config.insert(key, value),
            };
        }
        match Experiment::create("e", 1, &parameters, &config) {
            Err(error) => {
                let pointer = error.pointer.trim_start_matches("/params/tune_config");
                write!(text, "{pointer}: {}", error.message).unwrap();
                if let Some(hint) = error.hint {
                    write!(text, " ({hint})").unwrap();
                }
                writeln!(text).unwrap();
            }
            Ok(_) => writeln!(text, "{one} is fine").unwrap(),
        }
    }
    expected.assert_eq(&text);
}

#[test]
fn fields_are_checked_one_by_one() {
    check(
        &[
            json!({"mode": "avg"}),
            json!({"mode": "absent"}),
            json!({"mode": 1}),
            json!({"metric": "absent"}),
            json!({"metric": ""}),
            json!({"num_samples": 0}),
            json!({"num_samples": -2}),
            json!({"num_samples": 1.5}),
            json!({"num_samples": "many"}),
            json!({"num_samples": -1}),
            json!({"max_concurrent_trials": -1}),
            json!({"max_concurrent_trials": null}),
            json!({"max_failures": -2}),
            json!({"fail_fast": 1}),
            json!({"fail_fast": true, "max_failures": 2}),
            json!({"time_budget_s": 0}),
            json!({"time_budget_s": "1h"}),
            json!({"patience_trials": 0}),
            json!({"scope": "avg"}),
            json!({"stop": 3}),
            json!({"stop": {"loss": "low"}}),
            json!({"num_sample": 3}),
            json!({"zebra": 3}),
        ],
        &expect![[r#"
            /mode: mode must be max or min, but it is `avg`
            /mode: tune_config.mode is required: max or min
            /mode: mode must be a text: max or min, but it is 1
            /metric: tune_config.metric is required: the name of a reported metric
            /metric: metric must not be empty
            /num_samples: num_samples must be an integer, 1 or more, or -1 without a limit, but it is 0
            /num_samples: num_samples must be an integer, 1 or more, or -1 without a limit, but it is -2
            /num_samples: num_samples must be an integer, 1 or more, or -1 without a limit, but it is 1.5
            /num_samples: num_samples must be an integer, 1 or more, or -1 without a limit, but it is "many"
            {"num_samples":-1} is fine
            /max_concurrent_trials: max_concurrent_trials must be an integer, 0 or null for no limit, or more, but it is -1
            {"max_concurrent_trials":null} is fine
            /max_failures: max_failures must be an integer, 0 or more, or -1 for endless, but it is -2
            /fail_fast: fail_fast must be true or false, but it is 1
            /fail_fast: fail_fast and max_failures exclude each other (Leave out one of them.)
            /time_budget_s: time_budget_s must be a number, more than 0, but it is 0
            /time_budget_s: time_budget_s must be a number, more than 0, but it is "1h"
            /patience_trials: patience_trials must be an integer, 1 or more, but it is 0
            /scope: scope must be last or best, but it is "avg"
            /stop: stop must be a dict from a metric to a number, but it is 3
            /stop/loss: stop/loss must be a number, but it is "low"
            /num_sample: tune_config has no field `num_sample` (Did you mean `num_samples`?)
            /zebra: tune_config has no field `zebra` (The fields are mode, metric, num_samples, max_concurrent_trials, search_alg, scheduler, repeat_grid, max_failures, fail_fast, time_budget_s, patience_trials, stop, scope, points_to_evaluate.)
        "#]],
    );
}

#[test]
fn searchers_are_known_by_name_in_any_case_and_have_the_options_they_have() {
    check(
        &[
            json!({"search_alg": "annealing"}),
            json!({"search_alg": {"name": "BayesOptSearch"}}),
            json!({"search_alg": {"name": "HyperOptSearch", "options": {"n_initial_points": 5, "gamma": 0.2}}}),
            json!({"search_alg": "OptunaSearch"}),
            json!({"search_alg": "AxSearch"}),
            json!({"search_alg": null}),
            json!({"search_alg": 7}),
            json!({"search_alg": {"name": 7}}),
            json!({"search_alg": {"name": "tpe", "option": {}}}),
            json!({"search_alg": {"name": "tpe", "options": []}}),
            json!({"search_alg": {"name": "tpe", "options": {"n_startup": 3}}}),
            json!({"search_alg": {"name": "tpe", "options": {"n_startup_trials": 0}}}),
            json!({"search_alg": {"name": "tpe", "options": {"prior_weight": -1}}}),
            json!({"search_alg": {"name": "gp", "options": {"n_candidates": 2.5}}}),
            json!({"search_alg": {"name": "sobol", "options": {"scramble": true}}}),
            json!({"search_alg": "grid"}),
        ],
        &expect![[r#"
            /search_alg/name: Unsupported search algorithm: annealing. Supported algorithms are: bayesoptsearch, hyperoptsearch, basicvariantgenerator, optunasearch, axsearch, random, grid, sobol, tpe, gp, cmaes, bohb, tunebohb, hyperopt, optuna, auto
            {"search_alg":{"name":"BayesOptSearch"}} is fine
            {"search_alg":{"name":"HyperOptSearch","options":{"gamma":0.2,"n_initial_points":5}}} is fine
            {"search_alg":"OptunaSearch"} is fine
            {"search_alg":"AxSearch"} is fine
            {"search_alg":null} is fine
            /search_alg: search_alg must be a name or a dict with a `name`, but it is 7
            /search_alg/name: `name` of search_alg must be a text, but it is 7
            /search_alg/option: search_alg has no field `option` (Options belong into `options`.)
            /search_alg/options: `options` of search_alg must be a dict, but it is a list of 0
            /search_alg/options/n_startup: search_alg tpe has no option `n_startup` (The options are multivariate, random_search_steps, n_startup_trials, n_initial_points, n_ei_candidates, prior_weight, constant_liar.)
            /search_alg/options/n_startup_trials: `n_startup_trials` of search_alg tpe must be a whole number from 1 to 1000000, but it is 0
            /search_alg/options/prior_weight: `prior_weight` of search_alg tpe must be a number from 0.000001 to 1000000, but it is -1
            /search_alg/options/n_candidates: `n_candidates` of search_alg gp must be a whole number from 1 to 100000, but it is 2.5
            /search_alg/options/scramble: search_alg sobol has no option `scramble` (It has no options.)
            /search_alg: search_alg grid needs a space of grid_search parameters alone (Use basicvariantgenerator for a grid beside drawn parameters.)
        "#]],
    );
}

#[test]
fn points_are_checked_against_the_space() {
    check(
        &[
            json!({"points_to_evaluate": [{"rate": 1}]}),
            json!({"points_to_evaluate": [{"lr": "big"}]}),
            json!({"points_to_evaluate": [3]}),
            json!({"search_alg": {"name": "tpe", "points_to_evaluate": [{"lr": 0.5}, {"rate": 1}]}}),
        ],
        &expect![[r#"
            /points_to_evaluate/0/rate: points_to_evaluate names `rate`, which is no hyperparameter (The hyperparameters are lr, epochs.)
            /points_to_evaluate/0/lr: `lr` of points_to_evaluate must be a number, but it is "big"
            /points_to_evaluate/0: points_to_evaluate/0 must be a dict from hyperparameters to values, but it is 3
            /search_alg/points_to_evaluate/1/rate: points_to_evaluate names `rate`, which is no hyperparameter (The hyperparameters are lr, epochs.)
        "#]],
    );
}

#[test]
fn schedulers_are_known_by_name_and_have_the_options_they_have() {
    check(
        &[
            json!({"scheduler": "sha"}),
            json!({"scheduler": "AsyncHyperBand"}),
            json!({"scheduler": {"name": "asha", "options": {"max_t": 0}}}),
            json!({"scheduler": {"name": "asha", "options": {"max_t": 10, "grace_period": 11}}}),
            json!({"scheduler": {"name": "asha", "options": {"reduction_factor": 1}}}),
            json!({"scheduler": {"name": "asha", "options": {"brackets": 0}}}),
            json!({"scheduler": {"name": "asha", "options": {"max_time": 3}}}),
            json!({"scheduler": {"name": "hyperband", "options": "max_t=100"}}),
            json!({"scheduler": {"name": "hyperband", "options": {"max_t": "100"}}}),
            json!({"scheduler": {"name": "hyperband", "options": {"stop_last_trials": 1}}}),
            json!({"scheduler": {"name": "hyperband", "options": {"time_attr": 1}}}),
            json!({"scheduler": {"name": "median", "options": {"min_samples_required": 0}}}),
            json!({"scheduler": {"name": "patience", "options": {"patience": 0}}}),
            json!({"scheduler": {"name": "plateau", "options": {"std": -1}}}),
            json!({"scheduler": {"name": "pbt", "options": {"quantile_fraction": 0.6}}}),
            json!({"scheduler": {"name": "pbt", "options": {"perturbation_factors": [1.2]}}}),
            json!({"scheduler": {"name": "pbt", "options": {"keep_in_range": "no"}}}),
            json!({"scheduler": {"name": "pb2", "options": {"keep_in_range": false}}}),
            json!({"scheduler": {"name": "pbt", "options": {"hyperparam_mutations": {"momentum": [1]}}}}),
            json!({"scheduler": {"name": "pbt", "options": {"hyperparam_mutations": {"lr": 3}}}}),
            json!({"scheduler": {"name": "pbt", "options": {"hyperparam_mutations": {"lr": [0.1, 0.01]}}}}),
            json!({"scheduler": "pbt", "search_alg": "tpe"}),
            json!({"scheduler": "pbt", "num_samples": -1}),
            json!({"scheduler": {"name": "fifo", "options": {"max_t": 3}}}),
            json!({"scheduler": {"options": {}}}),
        ],
        &expect![[r#"
            /scheduler/name: Unsupported scheduler: 'sha'. Supported: fifo, asha, hyperband, bohb, median, pbt, pb2, patience, plateau
            {"scheduler":"AsyncHyperBand"} is fine
            /scheduler/options/max_t: `max_t` of scheduler asha must be a number, 1 or more, but it is 0
            /scheduler/options/grace_period: `grace_period` of scheduler asha must be a number from 0.000000001 to 10, but it is 11
            /scheduler/options/reduction_factor: `reduction_factor` of scheduler asha must be a number from 1.001 to 1000000, but it is 1
            /scheduler/options/brackets: `brackets` of scheduler asha must be a whole number from 1 to 64, but it is 0
            /scheduler/options/max_time: scheduler asha has no option `max_time` (The options are time_attr, max_t, grace_period, reduction_factor, brackets, stop_last_trials.)
            /scheduler/options: `options` of scheduler must be a dict, but it is "max_t=100"
            /scheduler/options/max_t: `max_t` of scheduler hyperband must be a number from 1 to 1000000000, but it is "100"
            /scheduler/options/stop_last_trials: `stop_last_trials` of scheduler hyperband must be true or false, but it is 1
            /scheduler/options/time_attr: `time_attr` of scheduler hyperband must be a text, but it is 1
            /scheduler/options/min_samples_required: `min_samples_required` of scheduler median must be a whole number from 1 to 1000000, but it is 0
            /scheduler/options/patience: `patience` of scheduler patience must be a whole number from 1 to 1000000, but it is 0
            /scheduler/options/std: `std` of scheduler plateau must be a number, 0 or more, but it is -1
            /scheduler/options/quantile_fraction: `quantile_fraction` of scheduler pbt must be a number from 0 to 0.5, but it is 0.6
            /scheduler/options/perturbation_factors: `perturbation_factors` of scheduler pbt must be a list of two numbers, more than 0, but it is a list of 1
            /scheduler/options/keep_in_range: `keep_in_range` of scheduler pbt must be true or false, but it is "no"
            /scheduler/options/keep_in_range: scheduler pb2 has no option `keep_in_range` (The options are time_attr, perturbation_interval, burn_in_period, quantile_fraction, resample_probability, perturbation_factors, hyperparam_bounds.)
            /scheduler/options/hyperparam_mutations/momentum: there is no hyperparameter `momentum` to be perturbed
            /scheduler/options/hyperparam_mutations/lr: the mutation of `lr` must be a list of values or a search space, but it is 3
            {"scheduler":{"name":"pbt","options":{"hyperparam_mutations":{"lr":[0.1,0.01]}}}} is fine
            /search_alg: Search algorithms cannot be used with pbt schedulers. Please remove tpe.
            /num_samples: num_samples must be the size of the population for scheduler pbt, not -1
            /scheduler/options/max_t: scheduler fifo has no option `max_t` (The options are time_attr.)
            {"scheduler":{"options":{}}} is fine
        "#]],
    );
}
