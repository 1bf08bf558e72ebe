//! What a plugin reports, and what of it is refused.

use expect_test::expect;
use trainshed_core::limits::Limits;
use trainshed_runtime::{Refused, stop_pair};

use crate::support::{Bench, Guest, Recorder, block_on, check};

const IMPORTS: &str = r#"
    (import "trainshed:plugin/run@0.1.0" "[method]run.log-metric"
        (func $log_metric (param i32 i32 i32 i32 i32 f64 i32 i32 i32 i32)))
    (import "trainshed:plugin/run@0.1.0" "[method]run.report-text"
        (func $report_text (param i32 i32 i32 i32 i32)))
    (import "trainshed:plugin/run@0.1.0" "[method]run.set-progress"
        (func $set_progress (param i32 i32 i32 i64 i64 i32)))
    (import "wasi_snapshot_preview1" "fd_write"
        (func $fd_write (param i32 i32 i32 i32) (result i32)))
    ;; Logs the value of the curve `train/loss` with `length` bytes of JSON from 5100 on.
    (func $log (param $run i32) (param $value f64) (param $length i32)
        (call $log_metric (local.get $run)
            (i32.const 5000) (i32.const 5) (i32.const 5005) (i32.const 4) (local.get $value)
            (i32.ne (local.get $length) (i32.const 0)) (i32.const 5100) (local.get $length)
            (i32.const 4096)))
"#;

const DATA: &str = r#"
    (data (i32.const 5000) "trainloss")
    (data (i32.const 5100) "{\"epoch\":3}")
    (data (i32.const 5200) "from the plugin")
    (data (i32.const 5300) "from stdout\nand unfinished")
"#;

#[test]
fn points_without_an_iteration_are_counted() {
    let guest = Guest {
        fields: IMPORTS,
        train: "
            (call $log (local.get $run) (f64.const 0.5) (i32.const 0))
            (call $log (local.get $run) (f64.const inf) (i32.const 0))
            (call $log (local.get $run) (f64.const 0.25) (i32.const 11))
            (call $log (local.get $run) (f64.const nan) (i32.const 0))
            (call $ok)",
        data: DATA,
        ..Guest::default()
    };
    check(
        &guest,
        Limits::default(),
        expect![[r#"
        train/loss 0: 0.5
        train/loss 1: inf
        train/loss 3: 0.25 {"epoch":3}
        train/loss 2: NaN
        completed: {}
    "#]],
    );
}

#[test]
fn reports_of_a_trial_say_which() {
    let guest = Guest {
        fields: IMPORTS,
        train: "(call $log (local.get $run) (f64.const 0.5) (i32.const 11)) (call $ok)",
        data: DATA,
        ..Guest::default()
    };
    let bench = Bench::new();
    let mut job = bench.job(Limits::default());
    job.trial = Some("trial-9".into());
    let (_handle, stop) = stop_pair();
    expect![[r#"
        train/loss 3: 0.5 {"epoch":3,"trial_id":"trial-9"}
        host: Skipping model registration: no checkpoint path for trial trial-9
        completed: {}
    "#]]
    .assert_eq(&bench.story_of(&guest, job, stop));
}

#[test]
fn extra_that_is_no_json_object_is_refused() {
    let guest = Guest {
        fields: IMPORTS,
        // Traps unless the call answers an error (1): invalid-argument (0).
        train: "
            (call $log (local.get $run) (f64.const 0.5) (i32.const 10))
            (if (i32.ne (i32.const 1) (i32.load8_u (i32.const 4096))) (then unreachable))
            (if (i32.load8_u (i32.const 4100)) (then unreachable))
            (call $ok)",
        data: DATA,
        ..Guest::default()
    };
    check(
        &guest,
        Limits::default(),
        expect![[r#"
        completed: {}
    "#]],
    );
}

#[test]
fn a_task_that_used_up_its_points_fails_when_it_ends() {
    let guest = Guest {
        fields: IMPORTS,
        train: "
            (loop $again
                (call $log (local.get $run) (f64.const 0.5) (i32.const 0))
                (br_if $again (i32.eqz (i32.load8_u (i32.const 4096)))))
            (call $ok)",
        data: DATA,
        ..Guest::default()
    };
    let limits = Limits {
        points: 2,
        ..Limits::default()
    };
    check(
        &guest,
        limits,
        expect![[r#"
        train/loss 0: 0.5
        train/loss 1: 0.5
        failed: the plugin's quota of points is used up: 2
    "#]],
    );
}

#[test]
fn console_lines_and_texts_keep_their_order() {
    let guest = Guest {
        fields: IMPORTS,
        train: "
            (i32.store (i32.const 4096) (i32.const 5300)) (i32.store (i32.const 4100) (i32.const 26))
            (drop (call $fd_write (i32.const 1) (i32.const 4096) (i32.const 1) (i32.const 4104)))
            (call $report_text (local.get $run) (i32.const 2)
                (i32.const 5200) (i32.const 15) (i32.const 4096))
            (drop (call $fd_write (i32.const 2) (i32.const 4108) (i32.const 0) (i32.const 4104)))
            unreachable",
        data: DATA,
        ..Guest::default()
    };
    check(
        &guest,
        Limits::default(),
        expect![[r#"
        stdout: from stdout
        warning: from the plugin
        stdout: and unfinished
        failed: the plugin trapped: unreachable executed
    "#]],
    );
}

#[test]
fn only_progress_that_can_be_seen_is_reported() {
    let guest = Guest {
        fields: IMPORTS,
        train: "
            (loop $again
                (call $set_progress (local.get $run) (i32.const 5000) (i32.const 5)
                    (i64.extend_i32_u (local.get $i)) (i64.const 2000000) (i32.const 4096))
                (local.set $i (i32.add (local.get $i) (i32.const 500)))
                (br_if $again (i32.lt_u (local.get $i) (i32.const 5000))))
            (call $ok)",
        data: DATA,
        ..Guest::default()
    };
    check(
        &guest,
        Limits::default(),
        expect![[r#"
        progress train 0/2000000
        progress train 2000/2000000
        progress train 4000/2000000
        completed: {}
    "#]],
    );
}

#[test]
fn a_host_that_cannot_store_a_report_fails_the_task() {
    let guest = Guest {
        fields: IMPORTS,
        train: "(call $log (local.get $run) (f64.const 0.5) (i32.const 0)) (call $ok)",
        data: DATA,
        ..Guest::default()
    };
    let bench = Bench::new();
    let plugin = bench.load(&guest.component()).unwrap();
    let recorder = Recorder::default();
    let reason = "the disk is full".to_owned();
    *recorder.refusal.lock().unwrap() = Some(Refused::Failed(reason));
    let (_handle, stop) = stop_pair();
    let job = bench.job(Limits::default());
    let outcome = bench
        .runtime
        .run(&plugin, job, std::sync::Arc::new(recorder), stop);
    expect![[
        r#"{"state":"failed","reason":"the host could not store a report: the disk is full"}"#
    ]]
    .assert_eq(&serde_json::to_string(&block_on(outcome)).unwrap());
}
