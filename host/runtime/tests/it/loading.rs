//! What can be loaded, and what is said of the rest.

use expect_test::expect;
use trainshed_core::Digest;

use crate::support::{Bench, Guest, block_on};

fn fine() -> Guest<'static> {
    Guest {
        train: "(call $ok)",
        ..Guest::default()
    }
}

#[track_caller]
fn check_refused(component: &[u8], expected: expect_test::Expect) {
    let error = Bench::new().load(component).err().unwrap();
    expected.assert_eq(&error);
}

#[test]
fn files_that_are_no_components_are_refused() {
    check_refused(
        b"",
        expect![[
            r#"the file is not WebAssembly: a plugin is a component, which begins with `\0asm`"#
        ]],
    );
    check_refused(
        b"#!/bin/sh\necho hello\n",
        expect![[
            r#"the file is not WebAssembly: a plugin is a component, which begins with `\0asm`"#
        ]],
    );
    check_refused(
        &wat::parse_str("(module)").unwrap(),
        expect![[r#"the file is a core WebAssembly module, but a plugin must be a component"#]],
    );
    let mut damaged = fine().component();
    damaged.truncate(1000);
    check_refused(
        &damaged,
        expect![[
            r#"the component is not valid: failed to parse WebAssembly module: wasm component contains an invalid module section: section range 285..1035 is out of bounds (bound = 1000)"#
        ]],
    );
}

#[test]
fn components_without_the_exports_of_a_plugin_are_refused() {
    check_refused(
        &wat::parse_str("(component)").unwrap(),
        expect![[r#"the plugin does not export `trainshed:plugin/manifest@0.1.0`"#]],
    );
}

#[test]
fn a_missing_import_is_named() {
    let guest = Guest {
        fields: r#"(import "trainshed:plugin/run@0.1.0" "[method]run.fly" (func (param i32)))"#,
        contract: &[("seed: func() -> u64;", "seed: func() -> u64; fly: func();")],
        ..fine()
    };
    check_refused(
        &guest.component(),
        expect![
            "the host does not offer what the plugin imports: `trainshed:plugin/run@0.1.0` `[method]run.fly`: there is none"
        ],
    );
    let guest = Guest {
        fields: r#"(import "trainshed:plugin/rockets@0.1.0" "launch" (func))"#,
        contract: &[(
            "world imports {",
            "interface rockets { launch: func(); }\nworld imports { import rockets;",
        )],
        ..fine()
    };
    check_refused(
        &guest.component(),
        expect![
            "the host does not offer what the plugin imports: `trainshed:plugin/rockets@0.1.0` `launch`: there is none"
        ],
    );
}

#[test]
fn an_import_of_another_type_is_named() {
    let guest = Guest {
        fields: r#"(import "trainshed:plugin/run@0.1.0" "[method]run.seed"
            (func (param i32) (result i32)))"#,
        contract: &[("seed: func() -> u64;", "seed: func() -> u32;")],
        ..fine()
    };
    check_refused(
        &guest.component(),
        expect![
            "the host does not offer what the plugin imports: `trainshed:plugin/run@0.1.0` `[method]run.seed`: expected `u64` found `u32`"
        ],
    );
}

#[test]
fn a_file_that_is_not_the_one_that_was_meant_is_refused() {
    let bench = Bench::new();
    let file = bench.folder.path().join("plugin.wasm");
    std::fs::write(&file, b"\0asm").unwrap();
    let error = bench.runtime.load(Digest::of(b""), &file).err().unwrap();
    assert!(error.to_string().starts_with("the component's digest is "));
}

#[test]
fn a_plugin_describes_itself() {
    let bench = Bench::new();
    let plugin = bench.load(&fine().component()).unwrap();
    let manifest = block_on(bench.runtime.describe(&plugin)).unwrap();
    expect![[r#"
        {
          "name": "test",
          "version": "0.1.0",
          "category": "other",
          "summary": "A guest of a test.",
          "actions": [
            {
              "name": "train",
              "summary": "Does what the test says.",
              "schema": {}
            }
          ],
          "environment": [],
          "contract": "trainshed:plugin@0.1.0"
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&manifest).unwrap());
}

#[track_caller]
fn check_undescribed(guest: &Guest<'_>, expected: expect_test::Expect) {
    let bench = Bench::new();
    let plugin = bench.load(&guest.component()).unwrap();
    let error = block_on(bench.runtime.describe(&plugin)).unwrap_err();
    expected.assert_eq(&error.to_string());
}

#[test]
fn a_plugin_that_cannot_describe_itself_is_refused() {
    let guest = Guest {
        describe: "unreachable",
        ..fine()
    };
    check_undescribed(
        &guest,
        expect![[
            r#"the plugin does not describe itself: the plugin trapped: unreachable executed"#
        ]],
    );
    let guest = Guest {
        describe: "(loop $again (br $again))",
        ..fine()
    };
    check_undescribed(
        &guest,
        expect![[
            r#"the plugin does not describe itself: the plugin ran longer than its limit of 2 s"#
        ]],
    );
    let guest = Guest {
        name: "Not A Name",
        ..fine()
    };
    check_undescribed(
        &guest,
        expect![[
            r#"the plugin's manifest: `name` must be 1 to 64 of a-z, 0-9 and -, beginning with a letter, but it is `Not A Name`"#
        ]],
    );
}

#[test]
fn an_export_of_another_type_is_refused() {
    let guest = Guest {
        contract: &[("hyperparameter: json,", "hyperparameter: list<u8>,")],
        ..fine()
    };
    check_undescribed(
        &guest,
        expect![[
            r#"an export of the plugin does not have the type of the contract: failed to convert function to given type: type mismatch with parameters: expected `string` found `list`"#
        ]],
    );
}

#[test]
fn a_damaged_cache_is_mended() {
    let component = fine().component();
    let bench = Bench::new();
    bench.load(&component).unwrap();
    let cache = bench.folder.path().join("cache");
    let cached = || {
        std::fs::read_dir(&cache)
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path()
    };
    let whole = std::fs::read(cached()).unwrap();
    for damage in [vec![], whole[..whole.len() / 2].to_vec(), {
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 1;
        flipped
    }] {
        std::fs::write(cached(), damage).unwrap();
        // Another runtime, which has not loaded the plugin before.
        let config = trainshed_runtime::RuntimeConfig {
            cache_dir: cache.clone(),
            max_tasks: 1,
            max_memory_bytes: 1 << 30,
        };
        let runtime = trainshed_runtime::Runtime::new(config).unwrap();
        let digest = Digest::of(&component);
        let file = bench.folder.path().join(format!("{digest}.wasm"));
        runtime.load(digest, &file).unwrap();
        assert_eq!(std::fs::read(cached()).unwrap(), whole);
    }
}

#[test]
fn a_plugin_that_was_loaded_before_needs_no_file() {
    let bench = Bench::new();
    let component = fine().component();
    let digest = bench.load(&component).unwrap().digest();
    let nowhere = std::path::Path::new("/nowhere");
    assert!(bench.runtime.load(digest, nowhere).is_ok());
}
