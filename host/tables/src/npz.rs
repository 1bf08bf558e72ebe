//! `.npz` files: zip archives of `.npy` files.
//!
//! The archive's directory is read one entry at a time, so that how many entries it claims, and
//! how large they claim to be, costs no memory.

use std::collections::HashSet;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use zip::ZipReadOptions;
use zip::read::{Config, ZipFile};
use zip::unstable::read::ZipIterable;

use crate::arrays::{self, Entry, Place};
use crate::error::unreadable;
use crate::{MAX_COLUMNS, MAX_NAME_BYTES, Reader, Table, TableError, npy};

/// The tables of the arrays, named as in `numpy.load`. Entries that are no `.npy` file are left
/// out.
pub(crate) fn survey(reader: &Reader, path: &str) -> Result<Vec<Table>, TableError> {
    let broken = |message: String| unreadable(path, &message);
    let file = reader.path(path);
    let mut archive = directory(&file).map_err(broken)?;
    if archive.len() > MAX_COLUMNS {
        let entries = archive.len();
        return Err(broken(format!(
            "it has {entries} entries, but it may have at most {MAX_COLUMNS}"
        )));
    }
    let mut contents = contents(&file).map_err(broken)?;
    let mut entries: Vec<Entry> = Vec::new();
    let mut names = HashSet::new();
    let mut name_bytes = 0;
    let directory = archive.files();
    let directory = directory.map_err(|error| broken(error.to_string()))?;
    for (index, entry) in directory.enumerate() {
        reader.go_on(path)?;
        let entry = entry.map_err(|error| broken(error.to_string()))?;
        let name = match entry.name() {
            Ok(name) => name.strip_suffix(".npy").map(str::to_owned),
            Err(error) => return Err(broken(error.to_string())),
        };
        let Some(name) = name else {
            continue;
        };
        name_bytes += name.len();
        if name_bytes > MAX_NAME_BYTES {
            return Err(broken(format!(
                "the names of its arrays have more than {MAX_NAME_BYTES} bytes"
            )));
        }
        let mut input = entry
            .with_reader(&mut contents, ZipReadOptions::default())
            .map_err(|error| broken(error.to_string()))?;
        let (header, length) = npy::read_header(&mut input)
            .map_err(|message| broken(format!("the array `{name}`: {message}")))?;
        if !names.insert(name.clone()) {
            return Err(broken(format!("the array `{name}` is there twice")));
        }
        let place = Place::Zipped {
            index,
            header: length,
        };
        entries.push(header.entry(name, place));
    }
    arrays::tables(path, entries)
}

/// What entries are read from.
pub(crate) type Contents = BufReader<File>;

/// Opens the file of an archive.
///
/// # Errors
/// One sentence.
pub(crate) fn contents(path: &Path) -> Result<Contents, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    Ok(BufReader::new(file))
}

/// Begins to read an entry, by its place in the directory, which is read up to it.
///
/// # Errors
/// One sentence; an entry that is compressed in another way than NumPy does is refused.
pub(crate) fn entry<'c>(
    path: &Path,
    index: usize,
    contents: &'c mut Contents,
) -> Result<ZipFile<'c, Contents>, String> {
    let mut archive = directory(path)?;
    let entries = archive.files().map_err(|error| error.to_string())?;
    let entry = entries.nth(index);
    let entry = entry.ok_or_else(|| "its directory has changed".to_owned())?;
    let opened = entry.and_then(|entry| entry.with_reader(contents, ZipReadOptions::default()));
    opened.map_err(|error| error.to_string())
}

fn directory(path: &Path) -> Result<ZipIterable<Contents>, String> {
    let archive = ZipIterable::try_new(contents(path)?, Config::default());
    archive.map_err(|error| error.to_string())
}
