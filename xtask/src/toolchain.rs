//! The compiler that makes WebAssembly of plugins, found or fetched.
//!
//! There are three routes, best first. With rustup's `wasm32-wasip2` target, cargo writes
//! components by itself. With its `wasm32-wasip1` target, a core module is wrapped. A
//! machine that has neither and cannot ask rustup takes Debian's compiler.

mod debian;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::files::FileError;
use crate::process::{self, CommandError};

/// How plugins are compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Route {
    /// The active toolchain, target `wasm32-wasip2`.
    Wasip2,
    /// The active toolchain, target `wasm32-wasip1`, then wrapped into a component.
    Wasip1,
    /// Debian's compiler for `wasm32-wasip1`, then wrapped into a component.
    Debian,
}

/// Why there is no compiler for plugins.
#[derive(Debug, thiserror::Error)]
pub enum ToolchainError {
    /// The environment names a route that does not exist.
    #[error("`TRAINSHED_WASM` must be `wasip2`, `wasip1` or `debian`, but it is `{0}`")]
    UnknownRoute(String),
    /// No route is open on this machine.
    #[error(
        "no compiler for WebAssembly is installed; `rustup target add wasm32-wasip2` adds it to the Rust toolchain"
    )]
    NoRoute,
    /// The route that the environment asks for is not open on this machine.
    #[error("`TRAINSHED_WASM` asks for a way to compile plugins that needs {0}")]
    RouteClosed(&'static str),
    /// Debian's archive does not have the packages, or not with these contents.
    #[error(
        "Debian's compiler cannot be used: {0}; `rustup target add wasm32-wasip2` is the other way"
    )]
    Package(String),
    /// A program failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A file could not be used.
    #[error(transparent)]
    File(#[from] FileError),
}

/// A compiler for plugins, ready to use.
#[derive(Debug, Clone)]
pub struct Toolchain {
    /// How it was found.
    pub route: Route,
    /// What the compiler says it is, e.g. `rustc 1.96.0 (ac68faa20 2026-05-25)`.
    pub compiler: String,
    environment: Vec<(String, OsString)>,
    flags: Vec<String>,
}

impl Toolchain {
    /// Finds the best compiler, or the one of the `forced` route.
    ///
    /// The first use of Debian's takes some minutes and about 140 MB of downloads; the
    /// result stays in `cache`.
    ///
    /// # Errors
    /// See [`ToolchainError`].
    pub fn find(forced: Option<Route>, cache: &Path) -> Result<Self, ToolchainError> {
        let targets = installed_targets()?;
        let open = Open {
            wasip2: targets.join("wasm32-wasip2").is_dir(),
            wasip1: targets.join("wasm32-wasip1").is_dir(),
            debian: debian::is_available(cache)?,
        };
        let route = choose(forced, &open)?;
        let mut toolchain = match route {
            Route::Wasip2 | Route::Wasip1 => Self {
                route,
                compiler: process::output(Command::new("rustc").arg("-V"))?,
                environment: Vec::new(),
                flags: Vec::new(),
            },
            Route::Debian => debian::toolchain(cache)?,
        };
        toolchain.compiler = toolchain.compiler.trim().to_owned();
        toolchain.flags.push("-Ctarget-feature=+simd128".to_owned());
        Ok(toolchain)
    }

    /// The target triple plugins are compiled for.
    pub fn target(&self) -> &'static str {
        match self.route {
            Route::Wasip2 => "wasm32-wasip2",
            Route::Wasip1 | Route::Debian => "wasm32-wasip1",
        }
    }

    /// A `cargo build` for this target, without the packages to build.
    ///
    /// Paths of this machine are kept out of panic messages: `hidden` pairs a folder with
    /// what stands for it.
    pub(crate) fn cargo_build(&self, hidden: &[(PathBuf, &str)]) -> Command {
        let mut flags = self.flags.clone();
        for (folder, name) in hidden {
            flags.push(format!("--remap-path-prefix={}={name}", folder.display()));
        }
        let mut command = process::cargo();
        command.args(["build", "--target", self.target()]);
        command.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// Which routes a machine offers.
struct Open {
    wasip2: bool,
    wasip1: bool,
    debian: bool,
}

fn choose(forced: Option<Route>, open: &Open) -> Result<Route, ToolchainError> {
    let closed = |what| Err(ToolchainError::RouteClosed(what));
    match forced {
        Some(Route::Wasip2) if !open.wasip2 => {
            closed("the `wasm32-wasip2` target: run `rustup target add wasm32-wasip2`")
        }
        Some(Route::Wasip1) if !open.wasip1 => {
            closed("the `wasm32-wasip1` target: run `rustup target add wasm32-wasip1`")
        }
        Some(Route::Debian) if !open.debian => closed("`apt-get` and `dpkg`"),
        Some(route) => Ok(route),
        None if open.wasip2 => Ok(Route::Wasip2),
        None if open.wasip1 => Ok(Route::Wasip1),
        None if open.debian => Ok(Route::Debian),
        None => Err(ToolchainError::NoRoute),
    }
}

impl std::str::FromStr for Route {
    type Err = ToolchainError;

    fn from_str(name: &str) -> Result<Self, ToolchainError> {
        match name {
            "wasip2" => Ok(Self::Wasip2),
            "wasip1" => Ok(Self::Wasip1),
            "debian" => Ok(Self::Debian),
            _ => Err(ToolchainError::UnknownRoute(name.to_owned())),
        }
    }
}

/// The folder with one folder per target of the active Rust toolchain.
fn installed_targets() -> Result<PathBuf, ToolchainError> {
    let sysroot = process::output(Command::new("rustc").args(["--print", "sysroot"]))?;
    Ok(Path::new(sysroot.trim()).join("lib/rustlib"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_open_route_is_taken_unless_one_is_forced() {
        check(None, "wasip2 wasip1 debian", "Wasip2");
        check(None, "wasip1 debian", "Wasip1");
        check(None, "debian", "Debian");
        check(Some("debian"), "wasip2 wasip1 debian", "Debian");
        check(Some("wasip1"), "wasip2 wasip1", "Wasip1");
    }

    #[test]
    fn a_machine_without_a_route_is_told_which_target_to_add() {
        check(
            None,
            "",
            "no compiler for WebAssembly is installed; \
             `rustup target add wasm32-wasip2` adds it to the Rust toolchain",
        );
        check(
            Some("wasip2"),
            "debian",
            "`TRAINSHED_WASM` asks for a way to compile plugins that needs \
             the `wasm32-wasip2` target: run `rustup target add wasm32-wasip2`",
        );
    }

    #[test]
    fn an_unknown_route_is_an_error_that_lists_the_known_ones() {
        let error = "wasip3".parse::<Route>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "`TRAINSHED_WASM` must be `wasip2`, `wasip1` or `debian`, but it is `wasip3`"
        );
    }

    #[track_caller]
    fn check(forced: Option<&str>, open: &str, expected: &str) {
        let forced = forced.map(|name| name.parse().unwrap());
        let is_open = |name| open.split(' ').any(|word| word == name);
        let open = Open {
            wasip2: is_open("wasip2"),
            wasip1: is_open("wasip1"),
            debian: is_open("debian"),
        };
        let found = match choose(forced, &open) {
            Ok(route) => format!("{route:?}"),
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expected);
    }
}
