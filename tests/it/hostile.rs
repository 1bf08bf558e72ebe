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

    check("panic", expect!["failed: the plugin trapped: unreachable executed (panicked at /trainshed/tests/guests/misbehave/src/lib.rs:49:28: asked to panic)"]).await;
    check("panic-in-a-line", expect!["failed: the plugin trapped: unreachable executed (panicked at /trainshed/tests/guests/misbehave/src/lib.rs:53:17: asked to panic)"]).await;
    check("exit", expect!["failed: the plugin exited with status 1"]).await;
    check("fail", expect!["failed: asked to fail"]).await;
    check(
        "invalid-parameter",
        expect!["failed: hyperparameter /do: must be something else"],
    )
    .await;
    check(
        "say-stopped",
        expect!["failed: the plugin said that it was stopped, but nobody had asked it to"],
    )
    .await;
    check(
        "invalid-json",
        expect!["failed: the plugin's result is not JSON: key must be a string at line 1 column 3"],
    )
    .await;
    check(
        "huge-result",
        expect!["failed: the plugin's result has 16777218 bytes, but it may have at most 1048576"],
    )
    .await;
    check("no such deed", expect!["failed: hyperparameter /do: unknown variant `no such deed`, expected one of `return`, `fail`, `invalid-parameter`, `say-stopped`, `huge-result`, `invalid-json`, `panic`, `panic-in-a-line`, `exit`, `loop`, `loop-with-host-calls`, `sleep`, `obey-stop`, `slow-steps`, `recursion`, `memory`, `flood-console`, `flood-metrics`, `flood-metrics-and-ignore-errors`, `bad-arguments`, `fill-scratch`, `many-files`, `escape`, `environment`, `random`, `clock`, `describe`, `load-tables`, `large-tensors`, `many-tensors`, `malformed-programs`, `random-programs`, `heavy-program`"]).await;
    ground
        .check(
            json!({"do": "recursion", "count": 100_000_000}),
            json!({}),
            expect![
                "failed: the plugin trapped: its call stack overflowed, as endless recursion does"
            ],
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
    assert!(
        console.iter().any(|line| line == "half a line"),
        "{console:?}"
    );
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

    check(
        "loop",
        json!({"wall_ms": 300}),
        expect!["failed: the plugin ran longer than its limit of 300 ms"],
    )
    .await;
    check(
        "loop",
        json!({"cpu_ms": 200}),
        expect!["failed: the plugin used more CPU time than its limit of 200 ms"],
    )
    .await;
    check(
        "loop-with-host-calls",
        json!({"wall_ms": 300}),
        expect!["failed: the plugin ran longer than its limit of 300 ms"],
    )
    .await;
    check(
        "sleep",
        json!({"wall_ms": 300}),
        expect!["failed: the plugin ran longer than its limit of 300 ms"],
    )
    .await;
    let heavy = |products: u64| json!({"do": "heavy-program", "count": products});
    let limits = json!({"wall_ms": 500, "threads": 1});
    let expected = expect!["failed: the plugin ran longer than its limit of 500 ms"];
    ground.check(heavy(50), limits, expected).await;
    // How much time is left then depends on the machine.
    let limits = json!({"wall_ms": 20_000, "threads": 1});
    let refused = ground.run(heavy(5000), limits).await;
    let expected = "a run of the program is estimated at 86234890240000 floating-point operations, but in the ";
    let reason = &refused.status_reason;
    assert!(reason.starts_with(expected), "{reason}");
    ground.still_works().await;
}

#[tokio::test]
async fn a_plugin_that_takes_everything_gets_its_share() {
    let ground = Playground::open().await;
    let check = |deed: &'static str, limits: Value, expected: Expect| {
        ground.check(json!({"do": deed}), limits, expected)
    };

    check(
        "memory",
        json!({"memory_bytes": 32 << 20}),
        expect![
            "failed: the plugin ran out of memory: it asked for 32.2 MiB, and its limit is 32 MiB"
        ],
    )
    .await;
    check(
        "flood-console",
        json!({"log_bytes": 1 << 20}),
        expect!["failed: the plugin wrote more to its console than its limit of 1 MiB"],
    )
    .await;
    check(
        "flood-metrics",
        json!({"points": 1000}),
        expect!["failed: the task's points are used up"],
    )
    .await;
    check(
        "flood-metrics-and-ignore-errors",
        json!({"points": 1000, "wall_ms": 3_000}),
        expect!["failed: the plugin ran longer than its limit of 3 s"],
    )
    .await;
    let tensors = ground
        .answers(
            json!({"do": "large-tensors"}),
            json!({"tensor_bytes": 256 << 20}),
        )
        .await;
    expect![[r#"{"again":"taken","made":4,"model_id":null,"refused":"335544320 bytes of tensor memory are needed, but the task may hold 268435456"}"#]].assert_eq(&tensors.to_string());
    let scratch = ground
        .answers(
            json!({"do": "fill-scratch"}),
            json!({"scratch_bytes": 8 << 20}),
        )
        .await;
    expect![[r#"{"again":"taken","grown":"No space left on device (os error 51)","model_id":null,"refused":"No space left on device (os error 51)","written":8388608}"#]].assert_eq(&scratch.to_string());
    let files = ground.answers(json!({"do": "many-files"}), json!({})).await;
    expect![[
        r#"{"made":10000,"model_id":null,"refused":"No space left on device (os error 51)"}"#
    ]]
    .assert_eq(&files.to_string());
    ground.still_works().await;
}

#[tokio::test]
async fn what_was_reported_before_a_limit_is_kept() {
    let ground = Playground::open().await;
    let task = ground
        .run(
            json!({"do": "flood-metrics-and-ignore-errors"}),
            json!({"points": 1000, "wall_ms": 3_000}),
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
    expect![[r#"
        {
          "append to a file of the data set": "Operation not permitted (os error 63)",
          "link a file of the data set": "Operation not permitted (os error 63)",
          "list ..": "Capabilities insufficient (os error 76)",
          "list /": "Capabilities insufficient (os error 76)",
          "list /dataset/..": "Operation not permitted (os error 63)",
          "list /scratch/..": "Operation not permitted (os error 63)",
          "list through a link": "Operation not permitted (os error 63)",
          "model_id": null,
          "move a file of the data set": "Operation not permitted (os error 63)",
          "read ../../etc/passwd": "Capabilities insufficient (os error 76)",
          "read /dataset/../../../../etc/passwd": "Operation not permitted (os error 63)",
          "read /dataset/../etc/passwd": "Operation not permitted (os error 63)",
          "read /dev/zero": "Capabilities insufficient (os error 76)",
          "read /etc/passwd": "Capabilities insufficient (os error 76)",
          "read /proc/self/environ": "Capabilities insufficient (os error 76)",
          "read /scratch/../../etc/passwd": "Operation not permitted (os error 63)",
          "read through a link": "Operation not permitted (os error 63)",
          "remove a file of the data set": "Operation not permitted (os error 63)",
          "write /dataset/../new": "Operation not permitted (os error 63)",
          "write /dataset/new": "Operation not permitted (os error 63)",
          "write /new": "Capabilities insufficient (os error 76)",
          "write /scratch/../new": "Operation not permitted (os error 63)"
        }"#]]
    .assert_eq(&format!("{answers:#}"));
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
    expect![[r#"
        {
          "-inf": "taken",
          "0.000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000022250738585072014": "taken",
          "NaN": "taken",
          "control character": "`key` must have 1 to 200 bytes and no control characters",
          "empty category": "`category` must have 1 to 200 bytes and no control characters",
          "empty image": "`image` must be a PNG or a JPEG file",
          "extra is no object": "`extra` must be a JSON object, but it is not: invalid type: sequence, expected a map at line 1 column 0",
          "folder `../dataset`": "`../dataset` is not a folder under /scratch",
          "folder `..`": "`..` is not a folder under /scratch",
          "folder `.`": "`.` is not a folder under /scratch",
          "folder `/`": "`/` is not a folder under /scratch",
          "folder `/dataset`": "`/dataset` is not a folder under /scratch",
          "folder ``": "`` is not a folder under /scratch",
          "folder `absent`": "`/scratch/absent`: No such file or directory (os error 2)",
          "image that is none": "`image` must be a PNG or a JPEG file",
          "inf": "taken",
          "large image": "`image` must have at most 4194304 bytes, but it has 5242880",
          "largest epoch": "taken",
          "long extra": "`extra` must have at most 4096 bytes, but it has 1048584",
          "long key": "`key` must have 1 to 200 bytes and no control characters",
          "long text": "`message` must have at most 65536 bytes, but it has 1048576",
          "model `../../escape`": "`name` must have 1 to 100 bytes of A-Z, a-z, 0-9, `.`, `_` and `-`",
          "model `..`": "`name` must have 1 to 100 bytes of A-Z, a-z, 0-9, `.`, `_` and `-`",
          "model `/etc/passwd`": "`name` must have 1 to 100 bytes of A-Z, a-z, 0-9, `.`, `_` and `-`",
          "model ``": "`name` must have 1 to 100 bytes of A-Z, a-z, 0-9, `.`, `_` and `-`",
          "model `a/b`": "`name` must have 1 to 100 bytes of A-Z, a-z, 0-9, `.`, `_` and `-`",
          "model_id": 1,
          "more than all": "taken",
          "negative epoch": "taken",
          "no tensors": "taken",
          "one name twice": "`tensors` must have one tensor named `x`",
          "output without a name": "`name` must have 1 to 100 bytes of A-Z, a-z, 0-9, `.`, `_` and `-`",
          "total of zero": "`total` must be at least 1",
          "unknown phase": "taken"
        }"#]].assert_eq(&format!("{arguments:#}"));
    let programs = ground
        .answers(json!({"do": "malformed-programs"}), json!({}))
        .await;
    expect![[r#"
        {
          "attribute of another kind": "`a reshape that is wrong`: `reshape`: attribute `shape` must be a list of integers, but it is a number",
          "axis out of range": "`a reduce-sum that is wrong`: `reduce-sum`: attribute `axes` names axis 9223372036854775807, but the rank is 2",
          "classes without end": "`a one-hot that is wrong`: `one-hot`: the indices are f32[2, 3], but they must be integers",
          "constant of too few bytes": "`a constant that is wrong`: `constant`: attribute `data` has 3 bytes, but f32[1] has 4",
          "constant of too many bytes": "`a constant that is wrong`: `constant`: attribute `data` has 400 bytes, but f32[2] has 8",
          "huge input": "`a input that is wrong`: `input`: a tensor f32[2147483647, 2147483647, 2147483647, 2147483647, 2147483647, 2147483647, 2147483647, 2147483647] is larger than 1099511627776 bytes",
          "inputs with a gap": "`a input that is wrong`: `input`: attribute `index` is 9223372036854775807, but indexes count from 0 without gaps",
          "largest input": "`a input that is wrong`: `input`: a tensor f32[2147483647, 1048576] is larger than 1099511627776 bytes",
          "missing attribute": "`a reshape that is wrong`: `reshape`: attribute `shape` is missing",
          "model_id": null,
          "more instructions than are allowed": "`a input that is wrong`: `input`: a program may have at most 100000 instructions",
          "negative axis": "`a reduce-sum that is wrong`: `reduce-sum`: attribute `axes` holds -1, but it may not be negative",
          "negative size": "`a reshape that is wrong`: `reshape`: attribute `shape` holds -2, but it may not be negative",
          "no operand": "`a negate that is wrong`: `negate`: 0 operands are given, but it takes 1",
          "operand of itself": "`a negate that is wrong`: `negate`: instruction 1 is used, but there are 1 before",
          "operand of the future": "`a negate that is wrong`: `negate`: instruction 4294967295 is used, but there are 1 before",
          "rank of 9": "`a reshape that is wrong`: `reshape`: attribute `shape` has 9 entries, but the rank may be at most 8",
          "repeated axis": "`a transpose that is wrong`: `transpose`: attribute `permutation` is [0, 0]: 0 is twice in it",
          "second result": "`a negate that is wrong`: `negate`: result 1 of instruction 0 is used, but it has one, result 0",
          "sizes that overflow": "`a reshape that is wrong`: `reshape`: a dimension is 9223372036854775807, but it may be at most 2147483647",
          "surplus attribute": "`a negate that is wrong`: `negate`: there is no attribute `loud`",
          "unknown operation": "`a explode that is wrong`: `explode`: there is no such operation",
          "unknown output": "output 1: instruction 9 is used, but there are 2 before",
          "unknown state": "update of state 4294967295: the program declares 0 state tensors",
          "unknown type": "`a convert that is wrong`: `convert`: attribute `dtype` is `f3`, but it must be one of f32, f64, bf16, f16, i32, i64, u8, u32, bool",
          "wrong batches": [
            "row 3 is in the order, but the columns have 3 rows",
            "row 4294967295 is in the order, but the columns have 3 rows",
            "a batch must have at least 1 row, but `size` is 0",
            "column 0 is a scalar, but it must have rows",
            "batches are made of at least one column, but none was given"
          ]
        }"#]].assert_eq(&format!("{programs:#}"));
    ground
        .answers(json!({"do": "random-programs", "count": 5_000}), json!({}))
        .await;
    ground.still_works().await;
}
