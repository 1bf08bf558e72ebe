//! Files: too many, too large, and those that are not the plugin's.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};

use serde_json::{Value, json};
use trainshed_sdk::Failure;

/// Writes until the host refuses, then checks that it may go on with what it freed.
pub(crate) fn fill_scratch() -> Result<Value, Failure> {
    let block = vec![0u8; 1 << 20];
    let mut file = File::create("/scratch/large")?;
    let mut written = 0u64;
    let refused = loop {
        match file.write(&block) {
            Ok(count) => written += count as u64,
            Err(error) => break error.to_string(),
        }
    };
    let grown = file.set_len(1 << 50);
    drop(file);
    fs::remove_file("/scratch/large")?;
    let again = fs::write("/scratch/small", b"room again");
    Ok(json!({
        "written": written,
        "refused": refused,
        "grown": answer(grown),
        "again": answer(again),
    }))
}

/// Makes empty files until the host refuses, at most a million.
pub(crate) fn many_files() -> Result<Value, Failure> {
    let mut refused = "never".to_owned();
    let mut made = 0;
    while made < 1_000_000 {
        if let Err(error) = File::create(format!("/scratch/{made}")) {
            refused = error.to_string();
            break;
        }
        made += 1;
    }
    Ok(json!({ "made": made, "refused": refused }))
}

/// Each way out with what the host answered: `taken` means that it is open.
pub(crate) fn escape() -> Value {
    let mut answers = serde_json::Map::new();
    let mut note = |what: String, result: io::Result<()>| {
        answers.insert(what, json!(answer(result)));
    };
    let readable = [
        "/etc/passwd",
        "../../etc/passwd",
        "/dataset/../etc/passwd",
        "/dataset/../../../../etc/passwd",
        "/scratch/../../etc/passwd",
        "/proc/self/environ",
        "/dev/zero",
    ];
    for path in readable {
        note(format!("read {path}"), fs::read(path).map(drop));
    }
    for path in ["/", "/dataset/..", "/scratch/..", ".."] {
        note(format!("list {path}"), fs::read_dir(path).map(drop));
    }
    for path in ["/dataset/new", "/dataset/../new", "/scratch/../new", "/new"] {
        note(format!("write {path}"), fs::write(path, b"x"));
    }
    if let Some(path) = first_file_of_dataset() {
        let append = OpenOptions::new().append(true).open(&path).map(drop);
        note("append to a file of the data set".to_owned(), append);
        note(
            "remove a file of the data set".to_owned(),
            fs::remove_file(&path),
        );
        let moved = fs::rename(&path, "/scratch/stolen");
        note("move a file of the data set".to_owned(), moved);
        let linked = fs::hard_link(&path, "/scratch/linked");
        note("link a file of the data set".to_owned(), linked);
    }
    let linked = symlink("/etc/passwd", "/scratch/link")
        .and_then(|()| fs::read("/scratch/link"))
        .map(drop);
    note("read through a link".to_owned(), linked);
    let linked = symlink("../..", "/scratch/up")
        .and_then(|()| fs::read_dir("/scratch/up"))
        .map(drop);
    note("list through a link".to_owned(), linked);
    Value::Object(answers)
}

fn first_file_of_dataset() -> Option<std::path::PathBuf> {
    let entries = fs::read_dir("/dataset").ok()?;
    let mut paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths.find(|path| path.is_file())
}

/// Only unstable functions make links on WASI, so this goes one level lower.
#[cfg(target_os = "wasi")]
fn symlink(original: &str, link: &str) -> io::Result<()> {
    let (Ok(original), Ok(link)) = (
        std::ffi::CString::new(original),
        std::ffi::CString::new(link),
    ) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    unsafe extern "C" {
        fn symlink(original: *const std::ffi::c_char, link: *const std::ffi::c_char) -> i32;
    }
    // SAFETY: both are texts that end in a zero and live until the call returns.
    match unsafe { symlink(original.as_ptr(), link.as_ptr()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(not(target_os = "wasi"))]
fn symlink(_original: &str, _link: &str) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

fn answer(result: io::Result<()>) -> String {
    match result {
        Ok(()) => "taken".to_owned(),
        Err(error) => error.to_string(),
    }
}
