//! Debian's `rustc-web`, with a standard library for WebAssembly built from its source.
//!
//! For machines where rustup has only the native target. The packages are downloaded and
//! unpacked, not installed, so that no root is needed and a rustup beside them is not
//! disturbed. rustup's cargo drives the compiler. The C library is Debian's wasi-libc,
//! which lacks a few functions that our `wasi_stubs.rs` adds.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest as _, Sha256};

use super::{Route, Toolchain, ToolchainError};
use crate::files::{self, FileError};
use crate::process;
use crate::say;

const STUBS: &str = include_str!("wasi_stubs.rs");
const TARGET: &str = "wasm32-wasip1";
/// How the folder of an unfinished build is called.
const WORK: &str = "building-";
/// The standard library's build, on top of what its workspace says.
const STD_FLAGS: &str = "-Zforce-unstable-if-unmarked -Cembed-bitcode=yes";

/// Whether the compiler is in the cache or can be fetched.
pub(super) fn is_available(cache: &Path) -> Result<bool, ToolchainError> {
    let fetchable = || ["apt-get", "apt-cache", "dpkg"].into_iter().all(runs);
    Ok(cached(cache)?.is_some() || fetchable())
}

/// The compiler from the cache, put there first when it is missing.
pub(super) fn toolchain(cache: &Path) -> Result<Toolchain, ToolchainError> {
    let folder = match cached(cache)? {
        Some(folder) => folder,
        None => {
            let _lock = files::lock(&cache.join("lock"))?;
            // Another process may have been faster.
            match cached(cache)? {
                Some(folder) => folder,
                None => fetch_and_build(cache)?,
            }
        }
    };
    let flags = vec![
        format!("--sysroot={}", folder.join("sysroot").display()),
        format!("-Clink-arg={}", stubs_library(&folder).display()),
    ];
    let compiler = compiler(&folder);
    let linker = folder.join("bin/wasm-ld");
    Ok(Toolchain {
        route: Route::Debian,
        compiler: process::output(Command::new(&compiler).arg("-V"))?,
        environment: vec![
            ("RUSTC".to_owned(), compiler.into()),
            (
                "CARGO_TARGET_WASM32_WASIP1_LINKER".to_owned(),
                linker.into(),
            ),
        ],
        flags,
    })
}

/// The folder that this recipe has filled, of the newest compiler version.
///
/// A newer package in the archive does not replace it: what is there works offline.
fn cached(cache: &Path) -> Result<Option<PathBuf>, FileError> {
    let suffix = format!("-{}", recipe_hash());
    let is_ours = |path: &PathBuf| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().ends_with(&suffix))
    };
    Ok(files::list(cache)?.into_iter().rfind(is_ours))
}

fn fetch_and_build(cache: &Path) -> Result<PathBuf, ToolchainError> {
    say("Fetching Debian's Rust compiler for WebAssembly (once, about 140 MB)");
    // In the cache folder, so that the last step is a rename.
    remove_abandoned(cache)?;
    let work = tempfile::Builder::new()
        .prefix(WORK)
        .tempdir_in(cache)
        .map_err(|error| FileError::new(cache, "written", error))?;
    let packages = work.path().join("packages");
    let tree = work.path().join("tree");
    let source = work.path().join("source");
    let version = download(&packages)?;
    unpack(&packages, &tree, &source)?;
    write_wrappers(&tree)?;
    say("Building the standard library for WebAssembly (once, about a minute)");
    build_std(&tree, &source, &work.path().join("build"))?;
    build_stubs(&tree)?;

    let place = cache.join(format!("{version}-{}", recipe_hash()));
    fs::rename(&tree, &place).map_err(|error| FileError::new(&place, "put in place", error))?;
    Ok(place)
}

/// Removes what is left of builds that were killed; call it with the lock held.
fn remove_abandoned(cache: &Path) -> Result<(), FileError> {
    for path in files::list(cache)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(WORK) {
            fs::remove_dir_all(&path).map_err(|error| FileError::new(&path, "removed", error))?;
        }
    }
    Ok(())
}

/// Changes whenever something would be built in another way.
fn recipe_hash() -> String {
    let mut hash = Sha256::new();
    for part in [include_str!("debian.rs"), STUBS] {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    hex::encode(&hash.finalize()[..4])
}

/// Downloads the packages into a folder; the version of the compiler's.
fn download(folder: &Path) -> Result<String, ToolchainError> {
    files::create_folder(folder)?;
    if is_root() {
        // Lists may be missing, or so old that they name packages that are gone or a
        // compiler that is too old for the plugins. Without a network, they must do.
        let _ = process::output(Command::new("apt-get").arg("update"));
    }
    let names = package_names()?;
    let mut command = Command::new("apt-get");
    command.args(["download", "-q"]).args(&names);
    process::output(command.current_dir(folder))?;
    let compiler = packages(folder)?
        .into_iter()
        .find_map(|path| package_version(&path, "rustc-web"));
    compiler.ok_or_else(|| ToolchainError::Package("`rustc-web` was not downloaded".to_owned()))
}

/// The packages to fetch. Their names contain the versions of Rust and LLVM, which move
/// with Debian's security updates.
fn package_names() -> Result<Vec<String>, ToolchainError> {
    let host_std = dependency("libstd-rust-web-dev", "libstd-rust-web-")?;
    let llvm = dependency(&host_std, "libllvm")?;
    let linker = llvm.replace("libllvm", "lld-");
    let fixed = [
        "rustc-web",
        "rust-web-src",
        "libstd-rust-web-dev",
        "wasi-libc",
    ];
    let named = fixed.into_iter().map(str::to_owned);
    Ok(named.chain([host_std, llvm, linker]).collect())
}

/// The package beginning with `prefix` that `package` depends on.
fn dependency(package: &str, prefix: &str) -> Result<String, ToolchainError> {
    let depends = process::output(Command::new("apt-cache").args(["depends", package]))?;
    parse_dependency(&depends, prefix).ok_or_else(|| {
        ToolchainError::Package(format!("the package `{package}` depends on no `{prefix}*`"))
    })
}

fn parse_dependency(depends: &str, prefix: &str) -> Option<String> {
    let mut names = depends
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "));
    names
        .find(|name| name.starts_with(prefix))
        .map(str::to_owned)
}

/// The version in `<name>_<version>_<architecture>.deb`, fit for a file name.
fn package_version(path: &Path, name: &str) -> Option<String> {
    let file = path.file_name()?.to_str()?;
    let mut parts = file.split('_');
    (parts.next()? == name).then_some(())?;
    let keep = |c: char| c.is_ascii_alphanumeric() || ".+~-".contains(c);
    let version = parts.next()?.replace("%3a", ".");
    version.chars().all(keep).then_some(version)
}

fn packages(folder: &Path) -> Result<Vec<PathBuf>, FileError> {
    let is_package = |path: &PathBuf| path.extension().is_some_and(|end| end == "deb");
    Ok(files::list(folder)?
        .into_iter()
        .filter(is_package)
        .collect())
}

/// Unpacks the source package, of which only the library is wanted, to `source` and all
/// others to `tree`.
fn unpack(folder: &Path, tree: &Path, source: &Path) -> Result<(), ToolchainError> {
    files::create_folder(tree)?;
    files::create_folder(source)?;
    for package in packages(folder)? {
        let is_source = package_version(&package, "rust-web-src").is_some();
        let place = if is_source { source } else { tree };
        process::output(Command::new("dpkg").arg("-x").arg(&package).arg(place))?;
    }
    Ok(())
}

/// Makes the compiler and the linker find the libraries that lie beside them.
fn write_wrappers(tree: &Path) -> Result<(), ToolchainError> {
    let compiler = Path::new("usr/bin/rustc").to_owned();
    let linker = only(&tree.join("usr/lib"), "llvm-")?.join("bin/wasm-ld");
    let linker = linker.strip_prefix(tree).unwrap_or(&linker).to_owned();
    let libraries = only_ending(&tree.join("usr/lib"), "-linux-gnu")?;
    let libraries = libraries.strip_prefix(tree).unwrap_or(&libraries);
    for (name, program) in [("rustc", compiler), ("wasm-ld", linker)] {
        let script = format!(
            "#!/bin/sh\ntree=\"${{0%/*}}/..\"\n\
             LD_LIBRARY_PATH=\"$tree/{}\" exec \"$tree/{}\" \"$@\"\n",
            libraries.display(),
            program.display()
        );
        let path = tree.join("bin").join(name);
        files::write(&path, script.as_bytes())?;
        files::make_executable(&path)?;
    }
    Ok(())
}

fn build_std(tree: &Path, source: &Path, build: &Path) -> Result<(), ToolchainError> {
    let sources = only(&source.join("usr/src"), "rustc-")?;
    let manifest = sources.join("library/sysroot/Cargo.toml");
    let mut command = process::cargo();
    command
        .args(["build", "--release", "--locked", "--target", TARGET])
        .arg("--manifest-path")
        .arg(&manifest)
        .arg("--target-dir")
        .arg(build)
        .env("RUSTC", compiler(tree))
        // The standard library uses what only it may use.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", STD_FLAGS);
    process::output(&mut command)?;

    let libraries = libraries(tree);
    for path in files::list(&build.join(TARGET).join("release/deps"))? {
        if path.extension().is_some_and(|end| end == "rlib") {
            copy_into(&path, &libraries)?;
        }
    }
    let c_library = tree.join("usr/lib/wasm32-wasi");
    for name in ["crt1-command.o", "crt1-reactor.o", "libc.a"] {
        copy_into(&c_library.join(name), &libraries.join("self-contained"))?;
    }
    Ok(())
}

fn build_stubs(tree: &Path) -> Result<(), ToolchainError> {
    let source = tree.join("wasi_stubs.rs");
    files::write(&source, STUBS.as_bytes())?;
    let mut command = Command::new(compiler(tree));
    command
        .arg(format!("--sysroot={}", tree.join("sysroot").display()))
        .args(["--edition=2024", "--crate-type=rlib", "--target", TARGET])
        .args(["-O", "-Cpanic=abort", "-o"])
        .arg(stubs_library(tree))
        .arg(&source);
    process::output(&mut command)?;
    Ok(())
}

fn compiler(tree: &Path) -> PathBuf {
    tree.join("bin/rustc")
}

/// Where the compiler looks for the standard library of the target.
fn libraries(tree: &Path) -> PathBuf {
    tree.join("sysroot/lib/rustlib").join(TARGET).join("lib")
}

fn stubs_library(tree: &Path) -> PathBuf {
    libraries(tree).join("self-contained/libwasi_stubs.rlib")
}

fn copy_into(file: &Path, folder: &Path) -> Result<(), FileError> {
    files::create_folder(folder)?;
    let name = file.file_name().unwrap_or(file.as_os_str());
    fs::copy(file, folder.join(name)).map_err(|error| FileError::new(file, "copied", error))?;
    Ok(())
}

/// The one entry of a folder whose name begins so.
fn only(folder: &Path, beginning: &str) -> Result<PathBuf, ToolchainError> {
    find_only(folder, beginning, |name| name.starts_with(beginning))
}

/// The one entry of a folder whose name ends so.
fn only_ending(folder: &Path, end: &str) -> Result<PathBuf, ToolchainError> {
    find_only(folder, end, |name| name.ends_with(end))
}

fn find_only(
    folder: &Path,
    part: &str,
    fits: impl Fn(&str) -> bool,
) -> Result<PathBuf, ToolchainError> {
    let entries = files::list(folder)?;
    let mut fitting = entries.into_iter().filter(|path| {
        path.file_name()
            .is_some_and(|name| fits(&name.to_string_lossy()))
    });
    fitting.next().ok_or_else(|| {
        let folder = folder.display();
        ToolchainError::Package(format!("its packages have no `{part}` in `{folder}`"))
    })
}

fn runs(program: &str) -> bool {
    process::output(Command::new(program).arg("--version")).is_ok()
}

fn is_root() -> bool {
    process::output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_dependency_is_found_by_its_beginning() {
        let depends = "libstd-rust-web-1.96\n  Depends: libc6\n  Depends: libllvm22\n  \
                       Conflicts: <rustup>\n";
        let found = parse_dependency(depends, "libllvm");
        assert_eq!(found.as_deref(), Some("libllvm22"));
        assert_eq!(parse_dependency(depends, "rustup"), None);
    }

    #[test]
    fn the_version_of_a_package_is_part_of_its_file_name() {
        let version = |file: &str| package_version(Path::new(file), "rustc-web");
        assert_eq!(
            version("/tmp/rustc-web_1.96.0+dfsg1-1~deb12u2_amd64.deb").as_deref(),
            Some("1.96.0+dfsg1-1~deb12u2")
        );
        assert_eq!(version("rust-web-src_1.96.0_all.deb"), None);
    }
}
