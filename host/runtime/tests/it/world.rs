//! What a plugin sees of the world: files, environment, chance; and what not.

use expect_test::expect;
use trainshed_core::limits::Limits;
use trainshed_runtime::stop_pair;

use crate::support::{Bench, Guest};

/// Functions of WASI, and helpers that return `errno` as JSON.
const WASI: &str = r#"
    (import "wasi_snapshot_preview1" "path_open"
        (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "path_unlink_file"
        (func $unlink (param i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "path_symlink"
        (func $symlink (param i32 i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write"
        (func $fd_write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_filestat_set_size"
        (func $set_size (param i32 i64) (result i32)))
    (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
    (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "environ_sizes_get"
        (func $environ_sizes (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "environ_get" (func $environ (param i32 i32) (result i32)))
    ;; Opens the path at `at` in folder 3 (/dataset) or 4 (/scratch); the handle is stored at 4200.
    (func $open (param $folder i32) (param $at i32) (param $length i32) (param $flags i32)
        (param $rights i64) (result i32)
        (call $path_open (local.get $folder) (i32.const 1) (local.get $at) (local.get $length)
            (local.get $flags) (local.get $rights) (i64.const 0) (i32.const 0) (i32.const 4200)))
    ;; Gives the number as JSON, of three digits.
    (func $number (param $n i32) (result i32)
        (i32.store8 (i32.const 4300) (i32.add (i32.const 0x30) (i32.div_u (local.get $n) (i32.const 100))))
        (i32.store8 (i32.const 4301) (i32.add (i32.const 0x30)
            (i32.rem_u (i32.div_u (local.get $n) (i32.const 10)) (i32.const 10))))
        (i32.store8 (i32.const 4302) (i32.add (i32.const 0x30) (i32.rem_u (local.get $n) (i32.const 10))))
        (if (result i32) (i32.lt_u (local.get $n) (i32.const 10))
            (then (call $json (i32.const 4302) (i32.const 1)))
            (else (if (result i32) (i32.lt_u (local.get $n) (i32.const 100))
                (then (call $json (i32.const 4301) (i32.const 2)))
                (else (call $json (i32.const 4300) (i32.const 3)))))))
"#;

#[track_caller]
fn check(bench: &Bench, train: &str, path: &str, limits: Limits, expected: expect_test::Expect) {
    let data = format!(r#"(data (i32.const 5000) "{path}")"#);
    let guest = Guest {
        fields: WASI,
        train: &train.replace(
            "PATH",
            &format!("(i32.const 5000) (i32.const {})", path.len()),
        ),
        data: &data,
        ..Guest::default()
    };
    expected.assert_eq(&bench.story(&guest, limits));
}

const READ: i64 = 2;

#[track_caller]
fn check_open(bench: &Bench, folder: u32, path: &str, expected: expect_test::Expect) {
    let train = format!(
        "(call $number (call $open (i32.const {folder}) PATH (i32.const 0) (i64.const {READ})))"
    );
    check(bench, &train, path, Limits::default(), expected);
}

#[test]
fn nothing_outside_the_data_set_can_be_opened() {
    let bench = Bench::new().with_file("a.csv", "a\n1\n");
    let dataset = bench.folder.path().join("dataset");
    std::os::unix::fs::symlink("/etc", dataset.join("etc")).unwrap();
    std::os::unix::fs::symlink("../cache", dataset.join("up")).unwrap();
    check_open(
        &bench,
        3,
        "a.csv",
        expect![[r#"
        completed: {"result":0}
    "#]],
    );
    check_open(
        &bench,
        3,
        "../../etc/passwd",
        expect![[r#"
        completed: {"result":63}
    "#]],
    );
    check_open(
        &bench,
        3,
        "/etc/passwd",
        expect![[r#"
        completed: {"result":63}
    "#]],
    );
    check_open(
        &bench,
        3,
        "etc/passwd",
        expect![[r#"
        completed: {"result":63}
    "#]],
    );
    check_open(
        &bench,
        3,
        "up",
        expect![[r#"
        completed: {"result":63}
    "#]],
    );
    check_open(
        &bench,
        4,
        "../outgoing",
        expect![[r#"
        completed: {"result":63}
    "#]],
    );
}

#[test]
fn the_data_set_cannot_be_written() {
    let bench = Bench::new().with_file("a.csv", "a\n1\n");
    // Create and truncate; the right to write.
    let train = "(call $number (call $open (i32.const 3) PATH (i32.const 9) (i64.const 64)))";
    check(
        &bench,
        train,
        "a.csv",
        Limits::default(),
        expect![[r#"
        completed: {"result":63}
    "#]],
    );
    let train = "(call $number (call $unlink (i32.const 3) PATH))";
    check(
        &bench,
        train,
        "a.csv",
        Limits::default(),
        expect![[r#"
        completed: {"result":63}
    "#]],
    );
}

#[test]
fn writes_beyond_the_quota_of_the_scratch_folder_are_refused() {
    let limits = Limits {
        scratch_bytes: 10_000,
        ..Limits::default()
    };
    // Writes 1000 bytes at a time until it is refused, and gives the error.
    let train = "
        (drop (call $open (i32.const 4) PATH (i32.const 1) (i64.const 64)))
        (i32.store (i32.const 4400) (i32.const 6000)) (i32.store (i32.const 4404) (i32.const 1000))
        (loop $again
            (local.set $i (call $fd_write (i32.load (i32.const 4200))
                (i32.const 4400) (i32.const 1) (i32.const 4408)))
            (br_if $again (i32.eqz (local.get $i))))
        (call $number (local.get $i))";
    check(
        &Bench::new(),
        train,
        "full",
        limits,
        expect![[r#"
        completed: {"result":51}
    "#]],
    );
    // A length that is asked for at once.
    let train = "
        (drop (call $open (i32.const 4) PATH (i32.const 1) (i64.const 4194368)))
        (call $number (call $set_size (i32.load (i32.const 4200)) (i64.const 1000000000000)))";
    check(
        &Bench::new(),
        train,
        "full",
        limits,
        expect![[r#"
        completed: {"result":51}
    "#]],
    );
}

#[test]
fn a_removed_file_gives_its_room_back() {
    let limits = Limits {
        scratch_bytes: 10_000,
        ..Limits::default()
    };
    // A hundred times: makes a file of 8000 bytes, closes and removes it.
    let train = "
        (loop $again
            (drop (call $open (i32.const 4) PATH (i32.const 1) (i64.const 4194368)))
            (if (call $set_size (i32.load (i32.const 4200)) (i64.const 8000)) (then unreachable))
            (if (call $close (i32.load (i32.const 4200))) (then unreachable))
            (if (call $unlink (i32.const 4) PATH) (then unreachable))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br_if $again (i32.lt_u (local.get $i) (i32.const 100))))
        (call $ok)";
    check(
        &Bench::new(),
        train,
        "again",
        limits,
        expect![[r#"
        completed: {}
    "#]],
    );
}

#[test]
fn links_and_too_many_open_files_are_refused() {
    let train = "(call $number (call $symlink PATH (i32.const 4) PATH))";
    check(
        &Bench::new(),
        train,
        "link",
        Limits::default(),
        expect![[r#"
        completed: {"result":63}
    "#]],
    );
    let train = "
        (loop $again
            (local.set $i (call $open (i32.const 4) PATH (i32.const 1) (i64.const 64)))
            (br_if $again (i32.eqz (local.get $i))))
        (call $number (local.get $i))";
    check(
        &Bench::new(),
        train,
        "many",
        Limits::default(),
        expect![[r#"
        completed: {"result":48}
    "#]],
    );
}

#[test]
fn chance_comes_from_the_seed() {
    let train = "
        (drop (call $random (i32.const 5000) (i32.const 1)))
        (call $number (i32.load8_u (i32.const 5000)))";
    let guest = Guest {
        fields: WASI,
        train,
        ..Guest::default()
    };
    let bench = Bench::new();
    let with_seed = |seed| {
        let mut job = bench.job(Limits::default());
        job.seed = seed;
        let (_handle, stop) = stop_pair();
        bench.story_of(&guest, job, stop)
    };
    assert_eq!(with_seed(1), with_seed(1));
    assert_ne!(with_seed(1), with_seed(2));
}

#[test]
fn only_granted_variables_are_seen() {
    let train = "
        (drop (call $environ_sizes (i32.const 4400) (i32.const 4404)))
        (drop (call $environ (i32.const 4408) (i32.const 4500)))
        ;; One variable, of 12 bytes with its end; given back between quotes.
        (i32.store8 (i32.const 4499) (i32.const 0x22))
        (i32.store8 (i32.add (i32.const 4499) (i32.load (i32.const 4404))) (i32.const 0x22))
        (call $json (i32.const 4499) (i32.add (i32.const 1) (i32.load (i32.const 4404))))";
    check(
        &Bench::new(),
        train,
        "",
        Limits::default(),
        expect![[r#"
        completed: {"result":"GRANTED=yes"}
    "#]],
    );
}
