//! Finds plugins, and says what is there and what is missing.

use std::fs;
use std::path::{Path, PathBuf};

use crate::client::{Client, DeviceInfo};
use crate::plugin::{LoadError, Plugin};

/// Where to look for plugins.
#[derive(Debug, Clone, Default)]
pub struct Search {
    /// The plugin to use; then no other is looked for.
    pub plugin: Option<PathBuf>,
    /// Python environments, whose packages bring plugins along.
    pub python: Vec<PathBuf>,
}

/// What a search found.
#[derive(Debug)]
pub struct Survey {
    /// Each plugin, and its devices or why it has none.
    pub plugins: Vec<(PathBuf, Result<Found, LoadError>)>,
    /// The places that were searched, for people.
    pub searched: Vec<String>,
}

impl Survey {
    /// Why there is no plugin at all, in one sentence.
    pub fn nothing_found(&self) -> String {
        if self.searched.is_empty() {
            return "no accelerator: no plugin is named and no Python environment is active \
                    (VIRTUAL_ENV, CONDA_PREFIX)"
                .to_owned();
        }
        let searched = self.searched.join("`, `");
        format!("no accelerator: there is no plugin in `{searched}`")
    }
}

/// A plugin that works.
#[derive(Debug)]
pub struct Found {
    /// Its devices.
    pub client: Client,
    /// Major and minor version of the interface that it speaks.
    pub version: (i32, i32),
    /// The devices, at least one.
    pub devices: Vec<DeviceInfo>,
}

/// Looks for plugins and opens their devices.
pub fn survey(search: &Search) -> Survey {
    let mut searched = Vec::new();
    let plugins = search.paths(&mut searched);
    let plugins = plugins.into_iter().map(|path| {
        let found = open(&path);
        (path, found)
    });
    Survey {
        plugins: plugins.collect(),
        searched,
    }
}

fn open(path: &Path) -> Result<Found, LoadError> {
    let plugin = Plugin::load(path)?;
    let client = Client::create(&plugin)?;
    Ok(Found {
        version: plugin.version(),
        devices: client.devices(),
        client,
    })
}

impl Search {
    /// Whether there is a plugin to try; whether it works is seen when it is opened.
    pub fn finds_any(&self) -> bool {
        !self.paths(&mut Vec::new()).is_empty()
    }

    fn paths(&self, searched: &mut Vec<String>) -> Vec<PathBuf> {
        if let Some(plugin) = &self.plugin {
            return vec![plugin.clone()];
        }
        let mut found = Vec::new();
        for root in &self.python {
            let jax = root.join("lib/python3*/site-packages/jax_plugins");
            let tpu = root.join("lib/python3*/site-packages/libtpu");
            searched.extend([jax, tpu].map(|path| path.display().to_string()));
            for packages in folders(&root.join("lib"), "python3") {
                let packages = packages.join("site-packages");
                let tpu = packages.join("libtpu/libtpu.so");
                found.extend(Some(tpu).filter(|path| path.is_file()));
                for package in folders(&packages.join("jax_plugins"), "") {
                    found.extend(entries(&package).into_iter().filter(|path| is_plugin(path)));
                }
            }
        }
        found
    }
}

/// Packages name their library for what it is, e.g. `xla_cuda_plugin.so`.
fn is_plugin(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.is_file() && name.ends_with("_plugin.so")
}

fn folders(parent: &Path, prefix: &str) -> Vec<PathBuf> {
    let mut folders = entries(parent);
    folders.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        path.is_dir() && name.starts_with(prefix)
    });
    folders
}

/// What lies in a folder, by name; nothing when it cannot be read.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort_unstable();
    paths
}
