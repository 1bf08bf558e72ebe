//! `.npz` files: zip archives of `.npy` files.

use std::cell::Cell;
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::rc::Rc;

use zip::ZipArchive;
use zip::read::ZipFile;

use crate::arrays::{self, Entry, Place};
use crate::error::unreadable;
use crate::{MAX_COLUMNS, Reader, Table, TableError, npy};

/// An archive that is being read.
pub(crate) type Archive = ZipArchive<BufReader<Bounded>>;

/// Most bytes of an archive's directory, which is in memory while the archive is open.
const MAX_DIRECTORY_BYTES: u64 = 64 << 20;

/// The tables of the arrays, named as in `numpy.load`. Entries that are no `.npy` file are left
/// out.
pub(crate) fn survey(reader: &Reader, path: &str) -> Result<Vec<Table>, TableError> {
    let broken = |message: String| unreadable(path, &message);
    let size = std::fs::metadata(reader.path(path)).map_err(|error| broken(error.to_string()))?;
    let _directory = reader.reserve(size.len().min(MAX_DIRECTORY_BYTES))?;
    let mut archive = open(&reader.path(path)).map_err(broken)?;
    if archive.len() > MAX_COLUMNS {
        let entries = archive.len();
        return Err(broken(format!(
            "it has {entries} entries, but it may have at most {MAX_COLUMNS}"
        )));
    }
    let mut entries: Vec<Entry> = Vec::new();
    let mut names = HashSet::new();
    for index in 0..archive.len() {
        reader.go_on(path)?;
        let mut input = entry(&mut archive, index).map_err(broken)?;
        let name = input.name().map_err(|error| broken(error.to_string()))?;
        let Some(name) = name.strip_suffix(".npy").map(str::to_owned) else {
            continue;
        };
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

/// Opens an archive.
///
/// # Errors
/// One sentence.
pub(crate) fn open(path: &Path) -> Result<Archive, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let allowance = Rc::new(Cell::new(MAX_DIRECTORY_BYTES));
    let bounded = Bounded {
        file,
        allowance: Rc::clone(&allowance),
    };
    let archive = ZipArchive::new(BufReader::new(bounded)).map_err(|error| error.to_string())?;
    allowance.set(u64::MAX);
    Ok(archive)
}

/// Begins to read an entry.
///
/// # Errors
/// One sentence; an entry that is compressed in another way than NumPy does is refused.
pub(crate) fn entry(
    archive: &mut Archive,
    index: usize,
) -> Result<ZipFile<'_, BufReader<Bounded>>, String> {
    archive.by_index(index).map_err(|error| error.to_string())
}

/// Fails when more is read than the allowance.
pub(crate) struct Bounded {
    file: File,
    allowance: Rc<Cell<u64>>,
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read(buffer)?;
        let left = self.allowance.get().checked_sub(length as u64);
        let left = left.ok_or_else(|| {
            let message = format!("its directory has more than {MAX_DIRECTORY_BYTES} bytes");
            io::Error::other(message)
        })?;
        self.allowance.set(left);
        Ok(length)
    }
}

impl Seek for Bounded {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.file.seek(position)
    }
}
