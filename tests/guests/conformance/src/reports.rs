//! Reports everything that can be reported, and connects settings.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use trainshed_sdk::plot::{Figure, Marks};
use trainshed_sdk::run::{Level, Media, Metric};
use trainshed_sdk::{Failure, Run};

/// What the plugin connects with the parameters of its task.
#[derive(Debug, Serialize, Deserialize)]
struct Tunable {
    lr: f64,
    epochs: u32,
    model: Model,
}

#[derive(Debug, Serialize, Deserialize)]
struct Model {
    hidden: Vec<u32>,
    bias: bool,
}

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";
const WAV: &[u8] = b"RIFF\x24\0\0\0WAVEfmt ";

pub(crate) fn report(run: &Run) -> Result<Value, Failure> {
    let settings = Tunable {
        lr: 0.1,
        epochs: 3,
        model: Model {
            hidden: vec![8, 8],
            bias: true,
        },
    };
    let settings = run.connect("Tunable", &settings)?;
    let text = run.connect_text("schedule", "steps: [1, 2] # as before\n", "yaml")?;

    run.report_text(Level::Warning, "look at this")?;
    print!("half a line");
    run.log_metrics(&[Metric {
        category: "train",
        key: "loss",
        value: f64::NAN,
        extra: json!({"step": 1}),
    }])?;
    run.report_single("best", 0.75)?;

    let line: &[f64] = &[0.5, f64::INFINITY, 0.25];
    let points: &[[f64; 2]] = &[[0.0, 1.0]];
    let deep: &[[f64; 3]] = &[[0.0, 1.0, 2.0]];
    let figures = [
        ("line", Figure::lines(&[0.0, 1.0, 2.0], &[("loss", line)])),
        (
            "scatter",
            Figure::scatter_2d(&[("a", points)], Marks::Points),
        ),
        (
            "scatter 3d",
            Figure::scatter_3d(&[("a", deep)], Marks::Both),
        ),
        ("histogram", Figure::histogram(&[1.0, 2.0, 2.5], 2)),
        ("bars", Figure::bars(&["x"], &[("a", &[1.0])])),
        (
            "confusion",
            Figure::confusion_matrix(&["cat", "dog"], &[vec![3, 1], vec![0, 4]]),
        ),
        ("surface", Figure::surface(&[vec![1.0, 2.0]])),
        ("table", Figure::table(&["a"], &[vec![json!(1)]])),
    ];
    for (series, figure) in figures {
        run.report_plot("figures", series, 2, &figure.titled(series))?;
    }
    run.report_figure("figures", "own", 2, "{\"data\": [ ]}")?;
    let refused = run.report_figure("figures", "wrong", 2, "{\"data\": NaN}");

    let media = |content, content_type| Media {
        content,
        content_type,
        ..Media::default()
    };
    run.report_media("shown", "image", 2, &media(PNG, None))?;
    run.report_media("shown", "sound", 2, &media(WAV, Some("audio/wav")))?;
    run.report_media("shown", "page", 2, &media(b"<p>hi</p>", Some("text/html")))?;
    run.report_media("shown", "text", 2, &media(b"hi", None))?;
    run.log_visualization("kept", "image", 0, PNG, json!({"of": "digit"}))?;
    let mismatch = run.report_media("shown", "wrong", 2, &media(b"MZ", Some("image/png")));

    let named = Media {
        name: "elsewhere",
        ..Media::default()
    };
    run.report_media_link("shown", "link", 2, "https://example.com/a.PNG?x=1", &named)?;
    let nowhere = run.report_media_link("shown", "link", 2, "a.png", &named);

    let trials = Map::from_iter([("t1".to_owned(), json!({"lr": 0.1}))]);
    let table = run.log_trials(trials, &["trial_id"], &["lr"], &["loss"], "t1")?;
    Ok(json!({
        "settings": settings,
        "text": text,
        "table": table,
        "refused": refused.err().map(|error| error.to_string()),
        "nowhere": nowhere.err().map(|error| error.to_string()),
        "mismatch": mismatch.err().map(|error| error.to_string()),
    }))
}
