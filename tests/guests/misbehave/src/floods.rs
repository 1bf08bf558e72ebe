//! Too much of everything that goes to the host, and arguments that break its rules.

use std::hint::black_box;

use serde_json::{Value, json};
use trainshed_sdk::run::{Level, Metric};
use trainshed_sdk::{Dataset, Failure, ModelDetails, Run, Tensor};

pub(crate) fn memory() -> usize {
    const BLOCK: usize = 1 << 20;
    let mut blocks = Vec::new();
    loop {
        blocks.push(black_box(vec![1u8; BLOCK]));
        if blocks.len() % 64 == 0 {
            println!("{} MiB", blocks.len());
        }
    }
}

pub(crate) fn console() -> ! {
    let line = "a line of the flood ".repeat(50);
    loop {
        println!("{line}");
    }
}

pub(crate) fn metrics(run: &Run) -> Result<Value, Failure> {
    let point = || Metric {
        category: "flood",
        key: "value",
        value: 1.0,
        extra: Value::Null,
    };
    let batch: Vec<Metric> = (0..10_000).map(|_| point()).collect();
    loop {
        run.log_metrics(&batch)?;
    }
}

pub(crate) fn metrics_for_ever(run: &Run) -> ! {
    loop {
        let _ = black_box(run.log_metric("flood", "value", 1.0, Value::Null));
    }
}

/// Each call with what the host answered.
pub(crate) fn bad_arguments(run: &Run, dataset: &Dataset) -> Value {
    let long = "x".repeat(1 << 20);
    let mut answers = serde_json::Map::new();
    let mut note = |call: &str, answer: Result<(), String>| {
        let answer = match answer {
            Ok(()) => "taken".to_owned(),
            Err(text) => text,
        };
        answers.insert(call.to_owned(), json!(answer));
    };

    let metric = |category: &str, key: &str, extra: Value| {
        let answer = run.log_metric(category, key, 1.0, extra);
        answer.map_err(|error| error.to_string())
    };
    note("empty category", metric("", "loss", Value::Null));
    note("long key", metric("train", &long, Value::Null));
    note("control character", metric("train", "a\nb", Value::Null));
    note("extra is no object", metric("train", "loss", json!([1])));
    note("long extra", metric("train", "loss", json!({ "x": long })));
    note(
        "negative epoch",
        metric("train", "loss", json!({ "epoch": -1 })),
    );
    note(
        "largest epoch",
        metric("train", "largest", json!({ "epoch": u64::MAX })),
    );
    for value in [
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::MIN_POSITIVE,
    ] {
        let answer = run.log_metric("odd", "values", value, Value::Null);
        note(&format!("{value}"), answer.map_err(|e| e.to_string()));
    }

    let image = |bytes: &[u8]| {
        let answer = run.log_visualization("images", "all", 0, bytes, Value::Null);
        answer.map_err(|error| error.to_string())
    };
    note("empty image", image(&[]));
    note("image that is none", image(b"GIF89a"));
    note("large image", image(&vec![0x89; 5 << 20]));

    let progress = |phase: &str, current, total| {
        let answer = run.set_progress(phase, current, total);
        answer.map_err(|error| error.to_string())
    };
    note("unknown phase", progress("lunch", 1, 2));
    note("total of zero", progress("train", 0, 0));
    note("more than all", progress("train", u64::MAX, 1));

    let text = run.report_text(Level::Info, &long);
    note("long text", text.map_err(|error| error.to_string()));
    let output = run.set_checkpoint_output("no name");
    note(
        "output without a name",
        output.map_err(|error| error.to_string()),
    );

    for name in ["", "..", "../../escape", "a/b", "/etc/passwd"] {
        note(&format!("model `{name}`"), saved(run, name, &["x"]));
    }
    note("one name twice", saved(run, "twice", &["x", "x"]));
    note("no tensors", saved(run, "none", &[]));

    for folder in ["", ".", "..", "../dataset", "/", "/dataset", "absent"] {
        let answer = dataset.commit_version(folder, "");
        let answer = answer.map(drop).map_err(|error| error.to_string());
        note(&format!("folder `{folder}`"), answer);
    }
    Value::Object(answers)
}

fn saved(run: &Run, name: &str, tensors: &[&str]) -> Result<(), String> {
    let tensors = tensors.iter().map(|&tensor| {
        let zero = Tensor::scalar(0.0f32).map_err(|error| error.to_string())?;
        Ok((tensor.to_owned(), zero))
    });
    let tensors: Vec<_> = tensors.collect::<Result<_, String>>()?;
    let answer = run.save_model(name, &tensors, &ModelDetails::default());
    answer.map_err(|error| error.to_string())
}
