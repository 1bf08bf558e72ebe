//! The guest bindings under `sdk-guest/rust/src/bindings`, generated from `wit/`.
//!
//! They are committed, so that compiling a plugin needs neither a procedural macro nor its
//! forty seconds, and so that a change of the contract shows in review. One file holds the
//! imports, which all plugins share; one file per world holds what that world exports and
//! names the types of the first.

use std::path::{Path, PathBuf};

use wit_bindgen_core::wit_parser::{Resolve, WorldId, WorldItem};
use wit_bindgen_core::{Files, WorldGenerator};
use wit_bindgen_rust::{Opts, WithOption};

use crate::files::{self, FileError};

/// The folder of the generated files, from the root of the repository.
pub const FOLDER: &str = "sdk-guest/rust/src/bindings";

/// The world of everything a plugin may import.
const IMPORTS: &str = "imports";

/// The worlds a plugin can be built for; a `part` goes together with another one.
const EXPORTING_WORLDS: [&str; 4] = [
    "train-plugin",
    "preprocess-plugin",
    "tune-part",
    "preprocess-part",
];

/// Why the bindings could not be generated or do not match.
#[derive(Debug, thiserror::Error)]
pub enum BindingsError {
    /// The contract itself is at fault; the text says where.
    #[error("`wit/` cannot be used: {0}")]
    Wit(String),
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// Committed files differ from what `wit/` asks for.
    #[error("{} do not match `wit/`; run `cargo xtask bindings`", .0.join(", "))]
    Outdated(Vec<String>),
}

/// Writes the bindings of the checkout at `root`; returns the paths of changed files.
///
/// # Errors
/// [`BindingsError::Wit`] when `wit/` does not parse, [`BindingsError::File`] when a file
/// cannot be written.
pub fn write(root: &Path) -> Result<Vec<PathBuf>, BindingsError> {
    let changed = changed_files(root)?;
    for (path, text) in &changed {
        files::write(path, text.as_bytes())?;
    }
    Ok(changed.into_iter().map(|(path, _)| path).collect())
}

/// Compares the committed bindings with `wit/`, and writes nothing.
///
/// # Errors
/// [`BindingsError::Outdated`] names the files that differ; see [`write()`] for the rest.
pub fn check(root: &Path) -> Result<(), BindingsError> {
    let changed = changed_files(root)?;
    if changed.is_empty() {
        return Ok(());
    }
    let names = changed
        .iter()
        .map(|(path, _)| path.strip_prefix(root).unwrap_or(path))
        .map(|path| format!("`{}`", path.display()))
        .collect();
    Err(BindingsError::Outdated(names))
}

fn changed_files(root: &Path) -> Result<Vec<(PathBuf, String)>, BindingsError> {
    let mut changed = Vec::new();
    for (name, text) in generate(&root.join("wit"))? {
        let path = root.join(FOLDER).join(name);
        let present = files::read_if_present(&path)?;
        if present.as_deref() != Some(text.as_bytes()) {
            changed.push((path, text));
        }
    }
    Ok(changed)
}

/// The files that `wit` asks for: name and text.
fn generate(wit: &Path) -> Result<Vec<(String, String)>, BindingsError> {
    let wit_error = |error| BindingsError::Wit(format!("{error:#}"));
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(wit).map_err(wit_error)?;
    let mut generated = Vec::new();
    for name in std::iter::once(IMPORTS).chain(EXPORTING_WORLDS) {
        let world = resolve
            .select_world(&[package], Some(name))
            .map_err(wit_error)?;
        let mut files = Files::default();
        options(&resolve, world)
            .build()
            .generate(&mut resolve, world, &mut files)
            .map_err(wit_error)?;
        let (file_name, text) = files
            .iter()
            .next()
            .expect("the generator writes one file per world");
        let text = String::from_utf8_lossy(text);
        generated.push((file_name.to_owned(), tidy(&text, file_name)));
    }
    Ok(generated)
}

fn options(resolve: &Resolve, world: WorldId) -> Opts {
    let world = &resolve.worlds[world];
    let module = world.name.replace('-', "_");
    let imports = world.imports.iter();
    let with = if world.name == IMPORTS {
        Vec::new()
    } else {
        imports
            .filter(|(_, item)| matches!(item, WorldItem::Interface { .. }))
            .map(|(key, _)| resolve.name_world_key(key))
            .map(|interface| (interface.clone(), shared(&interface)))
            .collect()
    };
    Opts {
        format: true,
        generate_all: true,
        // Types that only a function of the host names, such as `manifest`, are wanted too.
        generate_unused_types: true,
        pub_export_macro: true,
        default_bindings_module: Some(format!("$crate::bindings::{module}")),
        export_macro_name: Some(format!("export_{module}")),
        with,
        ..Opts::default()
    }
}

/// Where the file of the imports has an interface: `trainshed:plugin/run@0.1.0` is the
/// module `trainshed::plugin::run`.
fn shared(interface: &str) -> WithOption {
    let path = interface.split('@').next().unwrap_or(interface);
    let path = path.replace([':', '/'], "::").replace('-', "_");
    WithOption::Path(format!("crate::bindings::{IMPORTS}::{path}"))
}

/// Gives the macros of each world names of their own.
///
/// They are exported from one crate, where all macros share one namespace, and both worlds
/// export `manifest`.
fn tidy(text: &str, file_name: &str) -> String {
    let world = file_name.trim_end_matches(".rs");
    text.replace(
        "__export_trainshed_plugin_",
        &format!("__export_{world}_trainshed_plugin_"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bindings_are_outdated_when_the_contract_changes_until_they_are_written_anew() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let contract = |function: &str| {
            let world = format!(
                "package trainshed:plugin@0.1.0;
                 interface run {{ {function}: func() -> string; }}
                 interface train {{ train: func(); }}
                 interface preprocess {{ preprocess: func(); }}
                 world imports {{ import run; }}
                 world train-plugin {{ include imports; export train; }}
                 world preprocess-plugin {{ include imports; export preprocess; }}
                 interface tune {{ tune: func(); }}
                 world tune-part {{ include imports; export tune; }}
                 world preprocess-part {{ include imports; export preprocess; }}"
            );
            files::write(&root.join("wit/world.wit"), world.as_bytes()).unwrap();
        };

        contract("task-id");
        assert_eq!(write(root).unwrap().len(), 5);
        check(root).unwrap();

        contract("trial-id");
        let error = check(root).unwrap_err().to_string();
        assert!(error.contains("bindings/imports.rs"), "{error}");
        assert!(error.ends_with("do not match `wit/`; run `cargo xtask bindings`"));

        write(root).unwrap();
        check(root).unwrap();
    }

    #[test]
    fn a_contract_that_does_not_parse_is_an_error_that_says_where() {
        let folder = tempfile::tempdir().unwrap();
        files::write(&folder.path().join("wit/world.wit"), b"package trainshed").unwrap();
        let error = check(folder.path()).unwrap_err().to_string();
        assert!(error.starts_with("`wit/` cannot be used: "), "{error}");
    }
}
