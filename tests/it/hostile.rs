//! Plugins that misbehave: the task ends with a reason a person understands, what it had
//! reported is kept, and the host goes on.

use expect_test::{Expect, expect};
use serde_json::{Value, json};
use trainshed_core::task::TaskState;
use trainshed_core::view::TaskView;

use crate::shed::{Shed, digits};

/// A shed with the plugin that misbehaves on demand.
struct Playground {
    shed: Shed,
    plugin: String,
    dataset: u64,
}

impl Playground {
    async fn open() -> Self {
        let shed = Shed::start().await;
        let plugin = shed.push("misbehave").await;
        let dataset = shed.import("digits", &digits());
        Self {
            shed,
            plugin,
            dataset,
        }
    }

    async fn run(&self, settings: Value, limits: Value) -> TaskView {
        let name = format!("task {}", settings["do"]);
        let task = self
            .shed
            .train(
                &name,
                &self.plugin,
                self.dataset,
                json!({"hyperparameter": settings, "limits": limits}),
            )
            .await;
        self.shed.ended(&task).await
    }

    /// Runs a deed and tells how it ended.
    async fn check(&self, settings: Value, limits: Value, expected: Expect) {
        let task = self.run(settings, limits).await;
        expected.assert_eq(&format!("{}: {}", task.status, task.status_reason));
    }

    /// Runs a deed that comes back with the host's answers.
    async fn answers(&self, settings: Value, limits: Value) -> Value {
        let task = self.run(settings, limits).await;
        assert_eq!(task.status, TaskState::Completed, "{}", task.status_reason);
        Value::Object(task.result.unwrap())
    }

    /// After everything, an ordinary task still runs.
    async fn still_works(&self) {
        let answers = self
            .answers(json!({"do": "return", "value": {"well": true}}), json!({}))
            .await;
        assert_eq!(answers["well"], true);
    }
}

#[tokio::test]
async fn a_plugin_that_ends_badly_fails_with_its_reason() {
    let ground = Playground::open().await;
    let check = |deed: &'static str, expected: Expect| {
        ground.check(json!({"do": deed}), json!({}), expected)
    };

    check("panic", expect![[""]]).await;
    check("panic-in-a-line", expect![[""]]).await;
    check("exit", expect![[""]]).await;
    check("fail", expect![[""]]).await;
    check("invalid-parameter", expect![[""]]).await;
    check("say-stopped", expect![[""]]).await;
    check("invalid-json", expect![[""]]).await;
    check("huge-result", expect![[""]]).await;
    check("no such deed", expect![[""]]).await;
    ground
        .check(
            json!({"do": "recursion", "count": 100_000_000}),
            json!({}),
            expect![[""]],
        )
        .await;
    ground.still_works().await;
}

#[tokio::test]
async fn the_last_words_of_a_plugin_that_traps_are_kept() {
    let ground = Playground::open().await;
    let task = ground
        .run(json!({"do": "panic-in-a-line"}), json!({}))
        .await;
    let console = ground.shed.console(&task).await;
    assert_eq!(console[0], "half a line");
    assert!(
        console.iter().any(|line| line.contains("asked to panic")),
        "{console:?}"
    );
}

#[tokio::test]
async fn a_plugin_that_never_ends_runs_into_its_limits() {
    let ground = Playground::open().await;
    let check = |deed: &'static str, limits: Value, expected: Expect| {
        ground.check(json!({"do": deed}), limits, expected)
    };

    check("loop", json!({"wall_ms": 300}), expect![[""]]).await;
    check("loop", json!({"cpu_ms": 200}), expect![[""]]).await;
    check(
        "loop-with-host-calls",
        json!({"wall_ms": 300}),
        expect![[""]],
    )
    .await;
    check("sleep", json!({"wall_ms": 300}), expect![[""]]).await;
    check("heavy-program", json!({"wall_ms": 500}), expect![[""]]).await;
    ground.still_works().await;
}

#[tokio::test]
async fn a_plugin_that_takes_everything_gets_its_share() {
    let ground = Playground::open().await;
    let check = |deed: &'static str, limits: Value, expected: Expect| {
        ground.check(json!({"do": deed}), limits, expected)
    };

    check("memory", json!({"memory_bytes": 32 << 20}), expect![[""]]).await;
    check(
        "flood-console",
        json!({"log_bytes": 1 << 20}),
        expect![[""]],
    )
    .await;
    check("flood-metrics", json!({"points": 1000}), expect![[""]]).await;
    check(
        "flood-metrics-and-ignore-errors",
        json!({"points": 1000, "wall_ms": 20_000}),
        expect![[""]],
    )
    .await;
    let tensors = ground
        .answers(
            json!({"do": "large-tensors"}),
            json!({"tensor_bytes": 256 << 20}),
        )
        .await;
    expect![[""]].assert_eq(&tensors.to_string());
    let scratch = ground
        .answers(
            json!({"do": "fill-scratch"}),
            json!({"scratch_bytes": 8 << 20}),
        )
        .await;
    expect![[""]].assert_eq(&scratch.to_string());
    let files = ground.answers(json!({"do": "many-files"}), json!({})).await;
    expect![[""]].assert_eq(&files.to_string());
    ground.still_works().await;
}

#[tokio::test]
async fn what_was_reported_before_a_limit_is_kept() {
    let ground = Playground::open().await;
    let task = ground
        .run(
            json!({"do": "flood-metrics-and-ignore-errors"}),
            json!({"points": 1000, "wall_ms": 20_000}),
        )
        .await;
    let metrics = ground.shed.client.metrics(task.id.as_str()).await.unwrap();
    assert_eq!(
        metrics.scalars.iter().map(|curve| curve.count).sum::<u64>(),
        1000
    );
}

#[tokio::test]
async fn a_plugin_cannot_leave_its_folders() {
    let ground = Playground::open().await;
    let answers = ground.answers(json!({"do": "escape"}), json!({})).await;
    expect![[""]].assert_eq(&format!("{answers:#}"));
}

#[tokio::test]
async fn a_plugin_sees_no_environment_and_the_same_chance_every_time() {
    let ground = Playground::open().await;
    let environment = ground
        .answers(json!({"do": "environment"}), json!({}))
        .await;
    assert_eq!(
        environment,
        json!({"variables": {}, "arguments": [], "model_id": null})
    );

    let first = ground.answers(json!({"do": "random"}), json!({})).await;
    let second = ground.answers(json!({"do": "random"}), json!({})).await;
    assert_eq!(first, second);
    ground.answers(json!({"do": "clock"}), json!({})).await;
}

#[tokio::test]
async fn arguments_and_programs_that_break_rules_are_errors() {
    let ground = Playground::open().await;
    let arguments = ground
        .answers(json!({"do": "bad-arguments"}), json!({}))
        .await;
    expect![[""]].assert_eq(&format!("{arguments:#}"));
    let programs = ground
        .answers(json!({"do": "malformed-programs"}), json!({}))
        .await;
    expect![[""]].assert_eq(&format!("{programs:#}"));
    ground
        .answers(json!({"do": "random-programs", "count": 5_000}), json!({}))
        .await;
    ground.still_works().await;
}
