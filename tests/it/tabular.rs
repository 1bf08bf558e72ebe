//! Plugins that learn from tables without a neural network.

use serde_json::{Value, json};
use trainshed_core::task::TaskState;
use trainshed_core::view::TaskView;

use crate::shed::{Shed, root};

/// The last point of a curve of the validation.
async fn validation(shed: &Shed, task: &TaskView, series: &str) -> f64 {
    let bits = shed.bits(task, "validation", series).await;
    f64::from_bits(*bits.last().unwrap())
}

/// Trains to the end; the task's result.
async fn trained(shed: &Shed, plugin: &str, dataset: u64, hyperparameter: Value) -> TaskView {
    let more = json!({"hyperparameter": hyperparameter});
    let task = shed.train("tabular", plugin, dataset, more).await;
    let task = shed.ended(&task).await;
    assert_eq!(task.status, TaskState::Completed, "{}", task.status_reason);
    task
}

#[tokio::test]
async fn linear_regression_finds_the_coefficients_that_a_table_was_made_with() {
    let shed = Shed::start().await;
    let plugin = shed.push("linear-regression").await;
    let table = shed.data_dir().join("made.csv");
    let rows = (0..40).map(|row| {
        let (a, b) = (f64::from(row % 7) * 10.0, f64::from(row % 5) - 2.0);
        format!("{a},{b},{}\n", 3.0 * a - 2.0 * b + 5.0)
    });
    std::fs::write(&table, format!("a,b,y\n{}", rows.collect::<String>())).unwrap();
    let dataset = shed.import("made", &table);

    let task = trained(&shed, &plugin, dataset, json!({})).await;

    let result = Value::Object(task.result.unwrap());
    let number = |pointer: &str| result.pointer(pointer).unwrap().as_f64().unwrap();
    for (pointer, expected) in [
        ("/coefficients/a", 3.0),
        ("/coefficients/b", -2.0),
        ("/intercept", 5.0),
        ("/r2", 1.0),
    ] {
        assert!((number(pointer) - expected).abs() < 1e-9, "{result:?}");
    }
}

#[tokio::test]
async fn gradient_descent_comes_near_the_exact_solution_and_goes_on_from_a_checkpoint_to_the_bit() {
    let shed = Shed::start().await;
    let plugin = shed.push("linear-regression").await;
    let diabetes = root().join("plugins/linear-regression/data/diabetes.csv");
    let dataset = shed.import("diabetes", &diabetes);
    let gradient = |epochs: u32| json!({"method": "gradient", "epochs": epochs});

    let exact = trained(&shed, &plugin, dataset, json!({})).await;
    let whole = trained(&shed, &plugin, dataset, gradient(40)).await;
    let half = trained(&shed, &plugin, dataset, gradient(20)).await;
    let more = json!({
        "checkpoint": half.result.unwrap()["model_id"],
        "hyperparameter": gradient(20),
    });
    let rest = shed.train("rest", &plugin, dataset, more).await;
    let rest = shed.ended(&rest).await;

    assert_eq!(rest.status, TaskState::Completed, "{}", rest.status_reason);
    let (solved, descended) = (
        validation(&shed, &exact, "r2").await,
        validation(&shed, &whole, "r2").await,
    );
    assert!(solved > 0.3, "R² of the exact solution: {solved}");
    assert!((solved - descended).abs() < 0.05, "{solved} {descended}");
    for (title, series) in [("train", "mse"), ("validation", "mse")] {
        let expected = shed.bits(&whole, title, series).await;
        assert_eq!(expected[20..], shed.bits(&rest, title, series).await[..]);
    }
}

#[tokio::test]
async fn boosted_trees_tell_tumours_and_go_on_from_a_checkpoint_to_the_bit() {
    let shed = Shed::start().await;
    let plugin = shed.push("tabular-gbt").await;
    let tumours = root().join("plugins/tabular-gbt/data/breast_cancer.csv");
    let dataset = shed.import("tumours", &tumours);
    let rounds = |rounds: u32| json!({"rounds": rounds, "subsample": 0.8, "patience": 0});

    let whole = trained(&shed, &plugin, dataset, rounds(60)).await;
    let half = trained(&shed, &plugin, dataset, rounds(30)).await;
    let saved = shed.client.task_models(half.id.as_str()).await.unwrap();
    let mut saved = saved.models.iter();
    let last = saved.find(|model| model.name == "last").unwrap().id;
    let more = json!({"checkpoint": last, "hyperparameter": rounds(30)});
    let rest = shed.train("rest", &plugin, dataset, more).await;
    let rest = shed.ended(&rest).await;

    assert_eq!(rest.status, TaskState::Completed, "{}", rest.status_reason);
    let result = whole.result.as_ref().unwrap();
    assert!(result["accuracy"].as_f64() > Some(0.93), "{result:?}");
    for title in ["train", "validation"] {
        let expected = shed.bits(&whole, title, "loss").await;
        assert_eq!(expected[30..], shed.bits(&rest, title, "loss").await[..]);
    }
}

#[tokio::test]
async fn boosted_trees_predict_numbers_from_columns_with_missing_values() {
    let shed = Shed::start().await;
    let plugin = shed.push("tabular-gbt").await;
    let table = shed.data_dir().join("made.jsonl");
    // Where `a` is missing, and only there, the target is 50.
    let rows = (0..600).map(|row| match row % 7 {
        3 => format!("{{\"a\": null, \"b\": {}, \"y\": 50}}\n", row % 11),
        _ => format!(
            "{{\"a\": {row}, \"b\": {}, \"y\": {}}}\n",
            row % 11,
            row / 100
        ),
    });
    std::fs::write(&table, rows.collect::<String>()).unwrap();
    let dataset = shed.import("made", &table);

    let settings = json!({"target": "y", "rounds": 60});
    let task = trained(&shed, &plugin, dataset, settings).await;

    let result = task.result.unwrap();
    assert!(result["r2"].as_f64() > Some(0.999), "{result:?}");
    assert!(
        result["importance"]["a"].as_f64() > Some(0.99),
        "{result:?}"
    );
}
