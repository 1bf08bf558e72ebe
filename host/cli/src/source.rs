//! Where a plugin or an action comes from: the git repository that a file lies in, and the
//! versions of what it was built from.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;
use serde_json::{Map, Value};
use trainshed_core::draft::Script;

/// Longest record of what was not committed, in bytes. A longer one would be half a record:
/// only its beginning and its length are kept.
const MAX_DIFF_BYTES: usize = 1 << 20;
/// Longest file of dependencies that is read, in bytes.
const MAX_LOCK_BYTES: u64 = 8 << 20;

/// What is known of the source of `file`: nothing when it lies in no git repository and beside
/// no list of dependencies.
pub(crate) fn source_of(file: &Path) -> Option<Script> {
    let file = file.canonicalize().ok()?;
    let folder = file.parent()?;
    let root = git(folder, &["rev-parse", "--show-toplevel"])
        .and_then(|root| PathBuf::from(root).canonicalize().ok());
    let mut script = match &root {
        Some(root) => in_repository(root, folder),
        None => Script::default(),
    };
    script.requirements = dependencies(&file, root.as_deref().unwrap_or(folder));
    if root.is_none() && script.requirements.is_none() {
        return None;
    }
    script.entry_point = file.file_name()?.to_string_lossy().into_owned();
    Some(script)
}

/// A source in one line, for people.
pub(crate) fn told(source: &Script) -> String {
    let commit = source.version_num.get(..12).unwrap_or(&source.version_num);
    let branch = match source.branch.as_str() {
        "" => String::new(),
        branch => format!(" on {branch}"),
    };
    let changes = match source.diff.lines().count() {
        0 => String::new(),
        lines => format!(", {lines} lines of changes"),
    };
    let place = format!("{}/{}", source.working_dir, source.entry_point);
    format!(
        "{place} at {commit}{branch}{changes}  {}",
        source.repository
    )
    .trim()
    .to_owned()
}

fn in_repository(root: &Path, folder: &Path) -> Script {
    let told = |arguments: &[&str]| git(root, arguments).unwrap_or_default();
    let inside = folder.strip_prefix(root).unwrap_or(Path::new(""));
    let working_dir = match inside.to_string_lossy() {
        inside if inside.is_empty() => ".".to_owned(),
        inside => inside.into_owned(),
    };
    Script {
        repository: without_credentials(&told(&["config", "--get", "remote.origin.url"])),
        branch: told(&["symbolic-ref", "--quiet", "--short", "HEAD"]),
        version_num: told(&["rev-parse", "--verify", "--quiet", "HEAD"]),
        tag: told(&["describe", "--exact-match", "--tags", "HEAD"]),
        working_dir,
        diff: shortened(changes(root)),
        ..Script::default()
    }
}

/// What was not committed, of files that git knows.
fn changes(root: &Path) -> String {
    let diff = [
        "diff",
        "--no-color",
        "--no-ext-diff",
        "--no-textconv",
        "--submodule=diff",
        "HEAD",
    ];
    git(root, &diff).map_or_else(String::new, |diff| match diff {
        diff if diff.is_empty() => diff,
        diff => diff + "\n",
    })
}

/// What git says, without the last line's end; nothing when it is not installed or does not
/// know.
fn git(folder: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git")
        .arg("-C")
        .arg(folder)
        .args(arguments)
        // It only reads, and asks nobody.
        .env("GIT_OPTIONAL_LOCKS", "0")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    output
        .status
        .success()
        .then(|| text.trim_end_matches('\n').to_owned())
}

/// An address as others may see it: a password or token in it is nobody's business.
fn without_credentials(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else {
        return address.to_owned();
    };
    let (authority, path) = match rest.find('/') {
        Some(end) => rest.split_at(end),
        None => (rest, ""),
    };
    match authority.rsplit_once('@') {
        Some((user, host)) if scheme == "ssh" && !user.contains(':') => {
            format!("{scheme}://{user}@{host}{path}")
        }
        Some((_, host)) => format!("{scheme}://{host}{path}"),
        None => address.to_owned(),
    }
}

fn shortened(diff: String) -> String {
    if diff.len() <= MAX_DIFF_BYTES {
        return diff;
    }
    let end = diff[..diff.floor_char_boundary(MAX_DIFF_BYTES)]
        .rfind('\n')
        .unwrap_or(0);
    let length = diff.len();
    format!(
        "{}\n# the rest of {length} bytes was not recorded\n",
        &diff[..end]
    )
}

/// The versions of what `file` was built from, by the name of the installer: from the nearest
/// folder, no higher than `root`, that tells.
fn dependencies(file: &Path, root: &Path) -> Option<Value> {
    let folders = file.ancestors().skip(1);
    for folder in folders.take_while(|folder| folder.starts_with(root)) {
        let found = dependencies_in(folder, file);
        if !found.is_empty() {
            return Some(Value::Object(found));
        }
    }
    None
}

/// Makes a list of versions of a file's text, for the component or action that is given too;
/// nothing when it does not belong to that.
type Reader = fn(&str, &Path) -> Option<String>;

fn dependencies_in(folder: &Path, file: &Path) -> Map<String, Value> {
    let readers: [(&str, &str, Reader); 5] = [
        ("cargo", "Cargo.lock", crates),
        ("uv", "uv.lock", packages),
        ("poetry", "poetry.lock", packages),
        ("pip", "requirements.txt", |text, _| Some(text.to_owned())),
        ("npm", "package-lock.json", modules),
    ];
    let mut found = Map::new();
    for (installer, name, read) in readers {
        let path = folder.join(name);
        let is_short = fs::metadata(&path).is_ok_and(|data| data.len() <= MAX_LOCK_BYTES);
        if !is_short {
            continue;
        }
        let text = fs::read_to_string(&path).ok();
        if let Some(list) = text.and_then(|text| read(&text, file)) {
            found.insert(installer.to_owned(), list.into());
        }
    }
    found
}

#[derive(Deserialize)]
struct Lock {
    #[serde(default)]
    package: Vec<LockedPackage>,
}

#[derive(Deserialize)]
struct LockedPackage {
    name: String,
    version: Option<String>,
    source: Option<toml::Value>,
}

/// The crates of a `Cargo.lock`, if `file` is built from one of its workspace: another
/// workspace's list would be wrong.
fn crates(text: &str, file: &Path) -> Option<String> {
    let stem = file.file_stem()?.to_string_lossy().replace('-', "_");
    let lock: Lock = toml::from_str(text).ok()?;
    let is_ours = |package: &LockedPackage| {
        package.source.is_none() && package.name.replace('-', "_") == stem
    };
    lock.package
        .iter()
        .any(is_ours)
        .then(|| listed(&lock.package))
}

fn packages(text: &str, _file: &Path) -> Option<String> {
    let lock: Lock = toml::from_str(text).ok()?;
    Some(listed(&lock.package))
}

fn listed(packages: &[LockedPackage]) -> String {
    let line = |package: &LockedPackage| match &package.version {
        Some(version) => format!("{}=={version}\n", package.name),
        None => format!("{}\n", package.name),
    };
    packages.iter().map(line).collect()
}

#[derive(Deserialize)]
struct ModuleLock {
    #[serde(default)]
    packages: BTreeMap<String, Module>,
}

#[derive(Deserialize)]
struct Module {
    version: Option<String>,
}

fn modules(text: &str, _file: &Path) -> Option<String> {
    let lock: ModuleLock = serde_json::from_str(text).ok()?;
    let line = |(path, module): (&String, &Module)| {
        let (_, name) = path.rsplit_once("node_modules/")?;
        Some(format!("{name}=={}\n", module.version.as_deref()?))
    };
    Some(lock.packages.iter().filter_map(line).collect())
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn run(folder: &Path, arguments: &[&str]) {
        let identity = ["-c", "user.name=a", "-c", "user.email=a@b"];
        let done = Command::new("git")
            .arg("-C")
            .arg(folder)
            .args(identity)
            .args(arguments)
            .output()
            .unwrap();
        assert!(done.status.success(), "{arguments:?}: {done:?}");
    }

    #[test]
    fn a_file_in_a_repository_is_known_with_what_was_not_committed() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        run(root, &["init", "--quiet", "--initial-branch=trunk"]);
        let remote = "https://user:secret@example.org/team/shed.git";
        run(root, &["remote", "add", "origin", remote]);
        fs::create_dir(root.join("job")).unwrap();
        fs::write(root.join("job/tune.json"), "{}\n").unwrap();
        fs::write(root.join("job/requirements.txt"), "numpy==2.3 # why\n").unwrap();
        run(root, &["add", "."]);
        run(root, &["commit", "--quiet", "--message=first"]);
        run(root, &["tag", "v1"]);
        fs::write(root.join("job/tune.json"), "{\"a\":1}\n").unwrap();

        let script = source_of(&root.join("job/tune.json")).unwrap();

        assert_eq!(script.version_num.len(), 40);
        assert_eq!(
            (script.tag.as_str(), script.branch.as_str()),
            ("v1", "trunk")
        );
        assert_eq!(script.repository, "https://example.org/team/shed.git");
        assert_eq!(
            (script.working_dir.as_str(), script.entry_point.as_str()),
            ("job", "tune.json")
        );
        assert!(
            script.diff.ends_with("-{}\n+{\"a\":1}\n"),
            "{}",
            script.diff
        );
        let requirements = script.requirements.unwrap();
        assert_eq!(requirements["pip"], "numpy==2.3 # why\n");
    }

    #[test]
    fn a_file_of_which_nothing_is_known_has_no_source() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tune.json");
        fs::write(&file, "{}").unwrap();
        assert_eq!(source_of(&file), None);
    }

    #[test]
    fn a_list_of_crates_is_that_of_the_plugins_workspace() {
        let lock = "version = 4\n[[package]]\nname = \"my-plugin\"\nversion = \"0.1.0\"\n\
                    [[package]]\nname = \"serde\"\nversion = \"1.0.0\"\nsource = \"registry\"\n";
        let list = crates(lock, Path::new("target/my_plugin.wasm"));
        expect![[r"
            my-plugin==0.1.0
            serde==1.0.0
        "]]
        .assert_eq(&list.unwrap());
        assert_eq!(crates(lock, Path::new("target/other.wasm")), None);
        assert_eq!(crates(lock, Path::new("target/serde.wasm")), None);
    }

    #[test]
    fn modules_are_named_by_their_folders() {
        let lock = r#"{"packages":{"":{"version":"1"},"node_modules/@a/b":{"version":"2.0"},
                       "node_modules/c/node_modules/d":{"version":"3.1"}}}"#;
        assert_eq!(
            modules(lock, Path::new("x")).unwrap(),
            "@a/b==2.0\nd==3.1\n"
        );
    }

    #[test]
    fn credentials_are_left_out_of_addresses() {
        for (address, shown) in [
            ("https://user:token@host/a.git", "https://host/a.git"),
            ("https://token@host:8443/a", "https://host:8443/a"),
            ("ssh://git@host/a", "ssh://git@host/a"),
            ("ssh://git:secret@host/a", "ssh://host/a"),
            ("git@host:a/b.git", "git@host:a/b.git"),
            ("/srv/git/a@b", "/srv/git/a@b"),
            ("", ""),
        ] {
            assert_eq!(without_credentials(address), shown);
        }
    }

    #[test]
    fn long_changes_say_how_long_they_were() {
        let diff = "+ä\n".repeat(MAX_DIFF_BYTES / 2);
        let kept = shortened(diff.clone());
        assert!(kept.len() <= MAX_DIFF_BYTES + 60);
        assert!(kept.ends_with(&format!(
            "\n# the rest of {} bytes was not recorded\n",
            diff.len()
        )));
        assert_eq!(shortened("+a\n".to_owned()), "+a\n");
    }
}
