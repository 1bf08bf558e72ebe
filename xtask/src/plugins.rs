//! Builds the plugins of the repository to WebAssembly components.
//!
//! [`build`] compiles every package of the workspace `plugins/` that makes a component:
//! the first-party plugins to `target/plugins/<name>.wasm`, the guests that tests use to
//! `target/plugins/guests/<name>.wasm`, and lists them in `target/plugins/manifest.json`.
//! What is up to date is left alone, and several processes may call it at once.

mod component;
mod fingerprint;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

pub use component::ComponentError;

use crate::files::{self, FileError};
use crate::process::{self, CommandError};
use crate::say;
use crate::toolchain::{Route, Toolchain, ToolchainError};

/// Why the plugins could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// There is no compiler for them.
    #[error(transparent)]
    Toolchain(#[from] ToolchainError),
    /// Cargo failed; it has said why on the terminal.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A file could not be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// Cargo's description of the workspace or the manifest of a former build is damaged.
    #[error("{what} is not what it should be")]
    Unreadable {
        /// Whose description it is.
        what: String,
        /// Where it is wrong.
        source: serde_json::Error,
    },
    /// What the compiler made of this plugin cannot be used.
    #[error("the plugin `{name}` cannot be made a component")]
    Component {
        /// The name of its package.
        name: String,
        /// What is wrong with it.
        source: ComponentError,
    },
}

/// Where plugins are built and how, as the environment says.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The root of the repository.
    pub root: PathBuf,
    /// The folder of finished components that makes building unnecessary.
    pub prebuilt: Option<PathBuf>,
    /// The way to compile that was asked for.
    pub route: Option<Route>,
    /// Where a compiler that had to be fetched is kept.
    pub cache: PathBuf,
}

impl Settings {
    /// Takes `TRAINSHED_PLUGINS_DIR`, `TRAINSHED_WASM`, and `TRAINSHED_CACHE` or the
    /// user's cache folder.
    ///
    /// # Errors
    /// [`ToolchainError::UnknownRoute`] when `TRAINSHED_WASM` names none.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads the environment for tests and tasks alike"
    )]
    pub fn from_environment(root: &Path) -> Result<Self, ToolchainError> {
        let folder = |name| {
            let value = std::env::var_os(name).filter(|value| !value.is_empty());
            value.map(PathBuf::from)
        };
        let route = std::env::var("TRAINSHED_WASM").ok();
        let route = route.filter(|name| !name.is_empty());
        let cache = folder("TRAINSHED_CACHE")
            .or_else(|| Some(folder("XDG_CACHE_HOME")?.join("trainshed")))
            .or_else(|| Some(folder("HOME")?.join(".cache/trainshed")));
        Ok(Self {
            root: root.to_owned(),
            prebuilt: folder("TRAINSHED_PLUGINS_DIR"),
            route: route.map(|name| name.parse()).transpose()?,
            cache: cache
                .unwrap_or_else(|| root.join("target/cache"))
                .join("wasm"),
        })
    }
}

/// Finished components by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PluginSet {
    paths: BTreeMap<String, PathBuf>,
}

impl PluginSet {
    /// The component of a plugin or test guest; `None` when there is none of this name.
    pub fn path(&self, name: &str) -> Option<&Path> {
        self.paths.get(name).map(PathBuf::as_path)
    }

    /// Names and components, ordered by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Path)> {
        let paths = self.paths.iter();
        paths.map(|(name, path)| (name.as_str(), path.as_path()))
    }
}

/// Builds what is out of date of the plugins of the checkout at `root`.
///
/// Takes a tenth of a second when nothing is; minutes when a compiler must be fetched first. A
/// plugin is out of date when its sources, the SDK, `wit/`, the versions of its
/// dependencies, the compiler or the way to compile have changed.
///
/// # Errors
/// See [`BuildError`]; what was built before stays as it was.
pub fn build(root: &Path) -> Result<PluginSet, BuildError> {
    build_with(&Settings::from_environment(root)?)
}

/// Builds plugins as [`build`] does, without asking the environment.
///
/// # Errors
/// See [`BuildError`].
pub fn build_with(settings: &Settings) -> Result<PluginSet, BuildError> {
    if let Some(folder) = &settings.prebuilt {
        return Ok(prebuilt(folder)?);
    }
    // Flags contain the path: one checkout has one, whoever asks.
    let root = settings.root.canonicalize();
    let root = &root.map_err(|error| FileError::new(&settings.root, "found", error))?;
    let outputs = root.join("target/plugins");
    let _lock = files::lock(&outputs.join("lock"))?;
    let toolchain = Toolchain::find(settings.route, &settings.cache)?;
    let guests = guests(root)?;

    let mut manifest = Manifest::read(&outputs)?;
    let mut outdated = Vec::new();
    for guest in &guests {
        let fingerprint = fingerprint::of(root, guest, &toolchain)?;
        if !manifest.is_current(guest, &fingerprint, &outputs)? {
            outdated.push((guest, fingerprint));
        }
    }
    if !outdated.is_empty() {
        let names: Vec<&str> = outdated
            .iter()
            .map(|(guest, _)| guest.name.as_str())
            .collect();
        say(&format!("Compiling plugins: {}", names.join(", ")));
        let modules = compile(root, &names, &toolchain)?;
        for (guest, fingerprint) in outdated {
            let entry = finish(guest, &modules, &outputs, &toolchain, fingerprint)?;
            manifest.plugins.insert(guest.name.clone(), entry);
        }
    }
    manifest.keep_only(&guests);
    manifest.write(&outputs)?;
    Ok(manifest.plugin_set(&outputs))
}

/// A package of the guest workspace that makes a component.
#[derive(Debug)]
pub(crate) struct Guest {
    name: String,
    /// The name cargo gives to what it compiles.
    module: String,
    folder: PathBuf,
    is_test_guest: bool,
}

impl Guest {
    /// Where its component lies below the folder of outputs.
    fn file(&self) -> String {
        let folder = if self.is_test_guest { "guests/" } else { "" };
        format!("{folder}{}.wasm", self.name)
    }
}

/// The part of `cargo metadata` that matters here.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    crate_types: Vec<String>,
}

fn guests(root: &Path) -> Result<Vec<Guest>, BuildError> {
    let mut command = process::cargo();
    command
        .args(["metadata", "--no-deps", "--format-version=1"])
        .arg("--manifest-path")
        .arg(workspace(root));
    let text = process::output(&mut command)?;
    let metadata: Metadata =
        serde_json::from_str(&text).map_err(unreadable("the output of `cargo metadata`"))?;
    Ok(metadata.packages.into_iter().filter_map(guest).collect())
}

/// The guest a package makes; `None` for one, such as the SDK, that is only a library.
fn guest(package: Package) -> Option<Guest> {
    let is_component = |target: &&Target| target.crate_types.iter().any(|kind| kind == "cdylib");
    let target = package.targets.iter().find(is_component)?;
    let folder = package.manifest_path.parent()?.to_owned();
    let is_test_guest = folder
        .parent()
        .is_some_and(|parent| parent.ends_with("tests/guests"));
    Some(Guest {
        module: target.name.replace('-', "_"),
        name: package.name,
        folder,
        is_test_guest,
    })
}

/// Compiles packages; the folder in which cargo leaves them.
fn compile(root: &Path, names: &[&str], toolchain: &Toolchain) -> Result<PathBuf, BuildError> {
    let target = root.join("target/plugins-build");
    let hidden = [(root.to_owned(), "/trainshed"), (cargo_home(), "/cargo")];
    let mut command = toolchain.cargo_build(&hidden);
    command
        .args(["--release", "--manifest-path"])
        .arg(workspace(root))
        .arg("--target-dir")
        .arg(&target);
    for name in names {
        command.args(["--package", name]);
    }
    process::run(&mut command)?;
    Ok(target.join(toolchain.target()).join("release"))
}

/// Makes a component of what was compiled and puts it in place.
fn finish(
    guest: &Guest,
    modules: &Path,
    outputs: &Path,
    toolchain: &Toolchain,
    fingerprint: String,
) -> Result<Entry, BuildError> {
    let compiled = files::read(&modules.join(format!("{}.wasm", guest.module)))?;
    let name = guest.name.clone();
    let (component, imports) = component::from_compiled(compiled)
        .map_err(|source| BuildError::Component { name, source })?;
    files::write(&outputs.join(guest.file()), &component)?;
    Ok(Entry {
        file: guest.file(),
        sha256: sha256(&component),
        route: toolchain.route,
        compiler: toolchain.compiler.clone(),
        imports,
        fingerprint,
    })
}

/// What `manifest.json` says: each plugin and how it came about.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Manifest {
    plugins: BTreeMap<String, Entry>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Entry {
    /// Below the manifest's folder.
    file: String,
    sha256: String,
    route: Route,
    compiler: String,
    imports: Vec<String>,
    /// Of everything it was made from.
    fingerprint: String,
}

impl Manifest {
    fn read(outputs: &Path) -> Result<Self, BuildError> {
        let path = outputs.join(MANIFEST);
        match files::read_if_present(&path)? {
            None => Ok(Self::default()),
            // One that another version of this program wrote says nothing to us.
            Some(text) => Ok(serde_json::from_slice(&text).unwrap_or_default()),
        }
    }

    fn write(&self, outputs: &Path) -> Result<(), BuildError> {
        if Self::read(outputs)? == *self {
            return Ok(());
        }
        let text = serde_json::to_string_pretty(self).map_err(unreadable("the manifest"))?;
        files::write(&outputs.join(MANIFEST), format!("{text}\n").as_bytes())?;
        Ok(())
    }

    /// Whether the component is there, unchanged, and made from the same.
    fn is_current(
        &self,
        guest: &Guest,
        fingerprint: &str,
        outputs: &Path,
    ) -> Result<bool, FileError> {
        let Some(entry) = self.plugins.get(&guest.name) else {
            return Ok(false);
        };
        if entry.fingerprint != fingerprint || entry.file != guest.file() {
            return Ok(false);
        }
        let present = files::read_if_present(&outputs.join(&entry.file))?;
        Ok(present.is_some_and(|component| sha256(&component) == entry.sha256))
    }

    fn keep_only(&mut self, guests: &[Guest]) {
        self.plugins
            .retain(|name, _| guests.iter().any(|guest| guest.name == *name));
    }

    fn plugin_set(&self, outputs: &Path) -> PluginSet {
        let entries = self.plugins.iter();
        let paths = entries.map(|(name, entry)| (name.clone(), outputs.join(&entry.file)));
        PluginSet {
            paths: paths.collect(),
        }
    }
}

const MANIFEST: &str = "manifest.json";

/// The components that lie in a folder, laid out as this module does.
fn prebuilt(folder: &Path) -> Result<PluginSet, FileError> {
    let mut paths = BTreeMap::new();
    for folder in [folder.join("guests"), folder.to_owned()] {
        for path in files::list(&folder)? {
            let is_component = path.extension().is_some_and(|end| end == "wasm");
            if let (true, Some(name)) = (is_component, path.file_stem()) {
                paths.insert(name.to_string_lossy().into_owned(), path);
            }
        }
    }
    Ok(PluginSet { paths })
}

fn workspace(root: &Path) -> PathBuf {
    root.join("plugins/Cargo.toml")
}

#[expect(
    clippy::disallowed_methods,
    reason = "cargo says only through the environment where it keeps its sources"
)]
fn cargo_home() -> PathBuf {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let user = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo"));
    home.or_else(user).unwrap_or_default()
}

fn sha256(content: &[u8]) -> String {
    hex::encode(Sha256::digest(content))
}

fn unreadable(what: &str) -> impl FnOnce(serde_json::Error) -> BuildError + use<> {
    let what = what.to_owned();
    move |source| BuildError::Unreadable { what, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_is_current_until_its_sources_or_its_bytes_change() {
        let folder = tempfile::tempdir().unwrap();
        let outputs = folder.path();
        let guest = guest_named("mlp");
        files::write(&outputs.join("mlp.wasm"), b"component").unwrap();
        let manifest = Manifest {
            plugins: [("mlp".to_owned(), entry("mlp.wasm", b"component"))].into(),
        };
        let is_current = |fingerprint| manifest.is_current(&guest, fingerprint, outputs).unwrap();

        assert!(is_current("made from this"));
        assert!(!is_current("made from that"));
        files::write(&outputs.join("mlp.wasm"), b"tampered").unwrap();
        assert!(!is_current("made from this"));
        std::fs::remove_file(outputs.join("mlp.wasm")).unwrap();
        assert!(!is_current("made from this"));
    }

    #[test]
    fn a_manifest_reads_back_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let manifest = Manifest {
            plugins: [("mlp".to_owned(), entry("mlp.wasm", b""))].into(),
        };
        manifest.write(folder.path()).unwrap();
        assert_eq!(Manifest::read(folder.path()).unwrap(), manifest);
    }

    #[test]
    fn a_damaged_manifest_means_that_nothing_is_built() {
        let folder = tempfile::tempdir().unwrap();
        files::write(&folder.path().join(MANIFEST), b"{\"plugins\": 3").unwrap();
        assert_eq!(Manifest::read(folder.path()).unwrap(), Manifest::default());
    }

    #[test]
    fn prebuilt_components_are_taken_from_the_folder_and_its_guests() {
        let folder = tempfile::tempdir().unwrap();
        for file in ["mlp.wasm", "guests/loop.wasm", "manifest.json"] {
            files::write(&folder.path().join(file), b"").unwrap();
        }
        let set = prebuilt(folder.path()).unwrap();
        let names: Vec<&str> = set.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["loop", "mlp"]);
        assert_eq!(
            set.path("mlp"),
            Some(folder.path().join("mlp.wasm").as_path())
        );
        assert_eq!(set.path("manifest"), None);
    }

    fn guest_named(name: &str) -> Guest {
        Guest {
            name: name.to_owned(),
            module: name.to_owned(),
            folder: PathBuf::from(name),
            is_test_guest: false,
        }
    }

    fn entry(file: &str, component: &[u8]) -> Entry {
        Entry {
            file: file.to_owned(),
            sha256: sha256(component),
            route: Route::Debian,
            compiler: "rustc 1.96.0".to_owned(),
            imports: vec!["trainshed:plugin/run@0.1.0".to_owned()],
            fingerprint: "made from this".to_owned(),
        }
    }
}
