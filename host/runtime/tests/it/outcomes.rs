//! How runs end.

use expect_test::expect;
use trainshed_core::limits::Limits;

use crate::support::{Guest, check};

#[test]
fn what_the_plugin_returns_is_the_result() {
    let guest = Guest {
        train: "(call $json (i32.const 4096) (i32.const 12))",
        data: r#"(data (i32.const 4096) "{\"loss\": 0.5}")"#,
        ..Guest::default()
    };
    check(
        &guest,
        Limits::default(),
        expect![[r#"
            failed: the plugin's result is not JSON: EOF while parsing an object at line 1 column 12
        "#]],
    );
    let whole = Guest {
        train: "(call $json (i32.const 4096) (i32.const 13))",
        ..guest
    };
    check(
        &whole,
        Limits::default(),
        expect![[r#"
            completed: {"loss":0.5}
        "#]],
    );
}

#[test]
fn hyperparameters_reach_the_plugin_as_json() {
    let guest = Guest {
        train: "(call $json (local.get $params) (local.get $params_length))",
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
fn a_wrong_hyperparameter_is_named() {
    let guest = Guest {
        // result: err, failure: invalid-parameter with two texts.
        train: r#"
            (i32.store (i32.const 4096) (i32.const 1))
            (i32.store (i32.const 4100) (i32.const 0))
            (i32.store (i32.const 4104) (i32.const 5000)) (i32.store (i32.const 4108) (i32.const 7))
            (i32.store (i32.const 4112) (i32.const 5007)) (i32.store (i32.const 4116) (i32.const 18))
            (i32.const 4096)"#,
        data: r#"(data (i32.const 5000) "/epochsmust be at least 1")"#,
        ..Guest::default()
    };
    check(
        &guest,
        Limits::default(),
        expect![[r#"
            failed: hyperparameter /epochs: must be at least 1
        "#]],
    );
}

#[test]
fn a_trap_fails_the_task() {
    let guest = Guest {
        train: "unreachable",
        ..Guest::default()
    };
    check(
        &guest,
        Limits::default(),
        expect![[r#"
            failed: the plugin trapped: unreachable executed
        "#]],
    );
    let guest = Guest {
        train: "(i32.load (i32.const -4))",
        ..Guest::default()
    };
    check(
        &guest,
        Limits::default(),
        expect![[r#"
            failed: the plugin trapped: out of bounds memory access
        "#]],
    );
}

#[test]
fn a_panic_is_told_with_its_message() {
    let guest = Guest {
        fields: r#"(import "wasi_snapshot_preview1" "fd_write"
            (func $fd_write (param i32 i32 i32 i32) (result i32)))"#,
        train: r#"
            (i32.store (i32.const 4096) (i32.const 5000)) (i32.store (i32.const 4100) (i32.const 86))
            (drop (call $fd_write (i32.const 2) (i32.const 4096) (i32.const 1) (i32.const 4104)))
            unreachable"#,
        data: r#"(data (i32.const 5000) "\nthread '<unnamed>' panicked at src/lib.rs:9:5:\nno data\nnote: run with RUST_BACKTRACE\n")"#,
        ..Guest::default()
    };
    check(
        &guest,
        Limits::default(),
        expect![[r#"
        stderr: 
        stderr: thread '<unnamed>' panicked at src/lib.rs:9:5:
        stderr: no data
        stderr: note: run with RUST_BACKTRACE
        failed: the plugin trapped: unreachable executed (panicked at src/lib.rs:9:5: no data)
    "#]],
    );
}

#[test]
fn an_exit_fails_the_task() {
    let guest = Guest {
        fields: r#"(import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))"#,
        train: "(call $exit (i32.const 3)) unreachable",
        ..Guest::default()
    };
    check(
        &guest,
        Limits::default(),
        expect![[r#"
        failed: the plugin exited with status 1
    "#]],
    );
}

#[test]
fn endless_recursion_has_its_own_sentence() {
    let guest = Guest {
        fields: "(func $deeper (param i32) (result i32)
            (i32.add (i32.const 1) (call $deeper (local.get 0))))",
        train: "(call $deeper (i32.const 0))",
        ..Guest::default()
    };
    check(
        &guest,
        Limits::default(),
        expect![[r#"
        failed: the plugin trapped: its call stack overflowed, as endless recursion does
    "#]],
    );
}
