//! Finding and loading plugins, and what is said when there is none or it does not fit.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod plugin;

use std::error::Error;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use trainshed_pjrt::{Pjrt, Plugin, Search, survey};
use trainshed_tensor::{Accelerator, Budget, Context, Device, Executable, Program, Tensor};

/// `x + x`.
fn doubling() -> Program {
    let mut program = Program::default();
    let attributes = [
        ("index", 0.into()),
        ("dtype", "f32".into()),
        ("shape", [2i64].as_slice().into()),
    ];
    let x = program.push("input", &[], &attributes);
    let sum = program.push("add", &[x, x], &[]);
    program.outputs = vec![sum];
    program
}

fn run(device: Arc<Pjrt>) -> Vec<f32> {
    let budget = Budget::new(1 << 20);
    let context = Context::new(budget.clone(), 1, Arc::new(AtomicBool::new(false))).unwrap();
    let device = Device::Accelerator(device);
    let executable = Executable::compile_for(&device, &doubling(), &budget).unwrap();
    let input = Tensor::from_f32(&[2], &[1.0, 2.5], &budget).unwrap();
    let mut session = executable.bind(Vec::new(), &context).unwrap();
    session.run(&[input]).unwrap()[0].as_f32().unwrap().to_vec()
}

#[test]
fn a_file_that_is_no_plugin_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.so");
    let error = Plugin::load(&missing).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("`{}` could not be loaded", missing.display())
    );
    assert!(error.source().is_some());

    let text = folder.path().join("text.so");
    fs::write(&text, "not a library").unwrap();
    let error = Plugin::load(&text).unwrap_err().to_string();
    assert_eq!(error, format!("`{}` could not be loaded", text.display()));
}

#[test]
fn a_library_that_is_no_plugin_is_named() {
    let error = Plugin::load("libm.so.6".as_ref()).unwrap_err().to_string();
    assert_eq!(
        error,
        "`libm.so.6` is not a PJRT plugin: it has no function `GetPjrtApi`"
    );
}

#[test]
fn plugins_are_found_in_a_python_environment() {
    let python = tempfile::tempdir().unwrap();
    let search = Search {
        plugin: None,
        python: vec![python.path().to_owned()],
    };
    let nothing = survey(&search);
    assert!(nothing.plugins.is_empty());
    assert_eq!(nothing.searched.len(), 2);

    let packages = python.path().join("lib/python3.12/site-packages");
    let plugins = packages.join("jax_plugins/xla_cuda13");
    fs::create_dir_all(&plugins).unwrap();
    fs::write(plugins.join("xla_cuda_plugin.so"), "").unwrap();
    fs::write(plugins.join("_versions.so"), "").unwrap();
    fs::create_dir_all(packages.join("libtpu")).unwrap();
    fs::write(packages.join("libtpu/libtpu.so"), "").unwrap();
    let found = survey(&search).plugins;
    let paths: Vec<_> = found.iter().map(|(path, _)| path.clone()).collect();
    let tpu = packages.join("libtpu/libtpu.so");
    assert_eq!(paths, [tpu, plugins.join("xla_cuda_plugin.so")]);
    assert!(found.iter().all(|(_, opened)| opened.is_err()));
}

#[test]
fn a_named_plugin_is_the_only_one_that_is_tried() {
    let search = Search {
        plugin: Some(plugin::path()),
        python: vec!["/nowhere".into()],
    };
    let found = survey(&search);
    assert_eq!(found.plugins.len(), 1);
    let opened = found.plugins[0].1.as_ref().unwrap();
    assert!(!opened.devices.is_empty());
    assert!(!opened.client.platform().is_empty());
}

#[test]
fn compiled_programs_are_kept_and_damaged_ones_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let programs = folder.path().join("programs");
    let device = || {
        let client = plugin::client();
        Arc::new(Pjrt::new(client, Some(programs.clone()), u64::MAX))
    };
    let kept = || -> Vec<_> {
        let entries = fs::read_dir(&programs).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    };
    assert_eq!(run(device()), [2.0, 5.0]);
    let [file] = kept().try_into().unwrap();
    let whole = fs::read(&file).unwrap();
    assert_eq!(run(device()), [2.0, 5.0]);

    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    assert_eq!(run(device()), [2.0, 5.0]);
    assert_eq!(kept().len(), 1);
    assert!(fs::read(&file).unwrap().len() > whole.len() / 2);
}

#[test]
fn a_program_above_the_limit_is_refused_with_both_figures() {
    let device = Pjrt::new(plugin::client(), None, 15);
    assert_eq!(device.memory_limit(), 15);
    let device = Device::Accelerator(Arc::new(device));
    let error = Executable::compile_for(&device, &doubling(), &Budget::new(1 << 20)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "16 bytes of tensor memory are needed, but the task may hold 15"
    );
}

#[test]
fn what_the_compiler_says_is_passed_on() {
    let device = Pjrt::new(plugin::client(), None, u64::MAX);
    let error = device.compile("module @wrong {").unwrap_err().to_string();
    assert!(error.starts_with("the accelerator failed: "), "{error}");
}
