//! Limits end what outstays them, and nothing else.

use std::time::{Duration, Instant};

use expect_test::expect;
use trainshed_core::limits::Limits;
use trainshed_runtime::stop_pair;

use crate::support::{Bench, Guest, block_on, check};

const FOR_EVER: &str = "(loop $again (br $again)) unreachable";

#[test]
fn an_endless_loop_meets_the_wall_limit() {
    let guest = Guest {
        train: FOR_EVER,
        ..Guest::default()
    };
    let limits = Limits {
        wall_ms: 200,
        ..Limits::default()
    };
    check(
        &guest,
        limits,
        expect![[r#"
        failed: the plugin ran longer than its limit of 200 ms
    "#]],
    );
}

#[test]
fn an_endless_loop_meets_the_cpu_limit() {
    let guest = Guest {
        train: FOR_EVER,
        ..Guest::default()
    };
    let limits = Limits {
        cpu_ms: 100,
        ..Limits::default()
    };
    check(
        &guest,
        limits,
        expect![[r#"
        failed: the plugin used more CPU time than its limit of 100 ms
    "#]],
    );
}

#[test]
fn a_plugin_that_sleeps_meets_the_wall_limit_too() {
    let guest = Guest {
        fields: r#"(import "wasi_snapshot_preview1" "poll_oneoff"
            (func $poll (param i32 i32 i32 i32) (result i32)))"#,
        // One subscription at 4096: the monotonic clock, a timeout of an hour.
        train: r#"
            (i32.store (i32.const 4112) (i32.const 1))
            (i64.store (i32.const 4120) (i64.const 3600000000000))
            (drop (call $poll (i32.const 4096) (i32.const 4200) (i32.const 1) (i32.const 4300)))
            (call $ok)"#,
        ..Guest::default()
    };
    let limits = Limits {
        wall_ms: 200,
        ..Limits::default()
    };
    check(
        &guest,
        limits,
        expect![[r#"
        failed: the plugin ran longer than its limit of 200 ms
    "#]],
    );
}

#[test]
fn a_plugin_that_does_not_stop_is_ended_after_its_grace_time() {
    let guest = Guest {
        train: FOR_EVER,
        ..Guest::default()
    };
    let bench = Bench::new();
    let limits = Limits {
        grace_ms: 100,
        ..Limits::default()
    };
    let (handle, signal) = stop_pair();
    handle.stop();
    let story = bench.story_of(&guest, bench.job(limits), signal);
    expect![[r#"
        stopped: the plugin did not return within 100 ms
    "#]]
    .assert_eq(&story);
}

#[test]
fn a_plugin_sees_that_it_is_to_stop() {
    let guest = Guest {
        fields: r#"(import "trainshed:plugin/run@0.1.0" "[method]run.stopping"
            (func $stopping (param i32) (result i32)))"#,
        // result: err, failure: stopped.
        train: r#"
            (loop $again (br_if $again (i32.eqz (call $stopping (local.get $run)))))
            (i32.store (i32.const 4096) (i32.const 1))
            (i32.store (i32.const 4100) (i32.const 2))
            (i32.const 4096)"#,
        ..Guest::default()
    };
    let bench = Bench::new();
    let (handle, signal) = stop_pair();
    let later = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        handle.stop();
    });
    let story = bench.story_of(&guest, bench.job(Limits::default()), signal);
    later.join().unwrap();
    expect![[r#"
        stopped: 
    "#]]
    .assert_eq(&story);
}

#[test]
fn memory_beyond_the_limit_is_refused_and_the_reason_says_so() {
    let guest = Guest {
        train: "
            (loop $again
                (br_if $again (i32.ne (i32.const -1) (memory.grow (i32.const 16)))))
            unreachable",
        ..Guest::default()
    };
    let limits = Limits {
        memory_bytes: 4 << 20,
        ..Limits::default()
    };
    check(
        &guest,
        limits,
        expect![[r#"
        failed: the plugin ran out of memory: it asked for 4.1 MiB, and its limit is 4 MiB
    "#]],
    );
}

#[test]
fn a_plugin_that_starts_with_too_much_memory_does_not_start() {
    let limits = Limits {
        memory_bytes: 64 << 10,
        ..Limits::default()
    };
    let guest = Guest {
        train: "(call $ok)",
        ..Guest::default()
    };
    check(
        &guest,
        limits,
        expect![[r#"
        failed: the plugin ran out of memory: it asked for 128 KiB, and its limit is 64 KiB
    "#]],
    );
}

#[test]
fn tables_are_limited() {
    let guest = Guest {
        fields: "(table $t 1 funcref)",
        train: "
            (loop $again
                (br_if $again (i32.ne (i32.const -1)
                    (table.grow $t (ref.null func) (i32.const 1000)))))
            unreachable",
        ..Guest::default()
    };
    let limits = Limits {
        table_elements: 5000,
        ..Limits::default()
    };
    check(
        &guest,
        limits,
        expect![[r#"
        failed: the plugin's tables grew too large: it asked for 5001 elements, and its limit is 5000
    "#]],
    );
}

#[test]
fn a_flood_of_the_console_ends_the_task() {
    let guest = Guest {
        fields: r#"(import "wasi_snapshot_preview1" "fd_write"
            (func $fd_write (param i32 i32 i32 i32) (result i32)))"#,
        train: r#"
            (i32.store (i32.const 4096) (i32.const 5000)) (i32.store (i32.const 4100) (i32.const 20))
            (loop $again
                (drop (call $fd_write (i32.const 1) (i32.const 4096) (i32.const 1) (i32.const 4104)))
                (br $again))
            unreachable"#,
        data: r#"(data (i32.const 5000) "nineteen characters\n")"#,
        ..Guest::default()
    };
    let limits = Limits {
        log_bytes: 50,
        ..Limits::default()
    };
    check(
        &guest,
        limits,
        expect![[r#"
        stdout: nineteen characters
        stdout: nineteen characters
        failed: the plugin wrote more to its console than its limit of 50 bytes
    "#]],
    );
}

#[test]
fn a_run_that_nobody_waits_for_ends() {
    let bench = Bench::new();
    let guest = Guest {
        train: FOR_EVER,
        ..Guest::default()
    };
    let plugin = bench.load(&guest.component()).unwrap();
    let services = std::sync::Arc::new(crate::support::Recorder::default());
    let (_handle, signal) = stop_pair();
    let job = bench.job(Limits::default());
    block_on(async {
        let run = bench.runtime.run(&plugin, job, services.clone(), signal);
        let timeout = tokio::time::timeout(Duration::from_millis(50), run);
        assert!(timeout.await.is_err());
    });
    // The run holds the services until it is over.
    let deadline = Instant::now() + Duration::from_secs(10);
    while std::sync::Arc::strong_count(&services) > 1 {
        assert!(Instant::now() < deadline, "the run goes on");
        std::thread::yield_now();
    }
}
