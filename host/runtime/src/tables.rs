//! The tables of a data set: its `.csv` files, read as streams.
//!
//! The files come from users and from other plugins. A record is never longer than
//! [`MAX_RECORD_BYTES`] in memory, whatever the file holds, and every error names the file, the
//! row and the column.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};

use csv::ByteRecord;
use trainshed_tensor::{Budget, DType, ProgramError, Tensor};

use crate::outcome::{one_line, shortened};

/// Most columns of a table.
const MAX_COLUMNS: usize = 100_000;
/// Most columns of all tables of a data set.
const MAX_COLUMNS_OF_ALL: usize = 1_000_000;
/// Longest record, header included.
const MAX_RECORD_BYTES: usize = 16 << 20;
/// Most tables of a data set.
const MAX_TABLES: usize = 10_000;
/// How many rows are read between two looks at the stop flag.
const ROWS_PER_CHECK: u64 = 1024;
/// Deepest folder that is searched for tables.
const MAX_DEPTH: usize = 32;

/// What every value of a column is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ColumnKind {
    /// A whole number that fits 64 bits.
    Integer,
    /// A finite number.
    Number,
    /// Anything.
    Text,
}

/// One table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    /// Its path in the data set.
    pub(crate) path: String,
    pub(crate) rows: u64,
    /// Names, unique, with kinds, in the order of the file.
    pub(crate) columns: Vec<(String, ColumnKind)>,
}

/// Why a table, or a part of it, cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TableError {
    /// No column has this name.
    UnknownColumn(String),
    /// The text names file, row and column.
    Unreadable(String),
    /// The tensor does not fit the task's memory.
    OutOfMemory {
        /// Bytes there would be.
        needed: u64,
        /// Bytes there may be.
        allowed: u64,
    },
}

/// Reads all tables under `folder` once, ordered by path. Symbolic links are not followed.
///
/// # Errors
/// [`TableError::Unreadable`] for the first table that breaks a rule: names of columns must be
/// unique, and all records as long as the header.
pub(crate) fn survey(folder: &Path, stop: &AtomicBool) -> Result<Vec<Table>, TableError> {
    let mut paths = Vec::new();
    find(folder, "", 0, &mut paths)
        .map_err(|error| TableError::Unreadable(format!("the data set: {error}")))?;
    paths.sort();
    let mut tables = Vec::new();
    let mut columns = 0;
    for path in paths {
        let table = survey_one(folder, path, stop)?;
        columns += table.columns.len();
        if columns > MAX_COLUMNS_OF_ALL {
            let message =
                format!("all tables together have more than {MAX_COLUMNS_OF_ALL} columns");
            return Err(unreadable(&table.path, &message));
        }
        tables.push(table);
    }
    Ok(tables)
}

fn find(folder: &Path, prefix: &str, depth: usize, paths: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let path = format!("{prefix}{name}");
        if kind.is_dir() && depth < MAX_DEPTH {
            find(&entry.path(), &format!("{path}/"), depth + 1, paths)?;
        } else if kind.is_file() && name.to_ascii_lowercase().ends_with(".csv") {
            if paths.len() == MAX_TABLES {
                let message = format!("it has more than {MAX_TABLES} tables");
                return Err(io::Error::other(message));
            }
            paths.push(path);
        }
    }
    Ok(())
}

fn survey_one(folder: &Path, path: String, stop: &AtomicBool) -> Result<Table, TableError> {
    let mut records = Records::open(folder, &path, stop)?;
    let mut kinds = vec![ColumnKind::Integer; records.names.len()];
    while let Some(record) = records.next()? {
        for (kind, field) in kinds.iter_mut().zip(record) {
            *kind = (*kind).max(kind_of(field, *kind));
        }
    }
    let (rows, names) = (records.row, records.names);
    Ok(Table {
        path,
        rows,
        columns: names.into_iter().zip(kinds).collect(),
    })
}

/// The least kind, from `least` on, that holds `field`.
fn kind_of(field: &[u8], least: ColumnKind) -> ColumnKind {
    let text = || std::str::from_utf8(field).map(str::trim);
    let is_integer = || text().is_ok_and(|text| text.parse::<i64>().is_ok());
    if least == ColumnKind::Integer && is_integer() {
        ColumnKind::Integer
    } else if least <= ColumnKind::Number && text().is_ok_and(|text| number(text).is_some()) {
        ColumnKind::Number
    } else {
        ColumnKind::Text
    }
}

/// A finite number. What Rust reads as `inf` or `nan` is a text here.
fn number(text: &str) -> Option<f64> {
    let value: f64 = text.parse().ok()?;
    value.is_finite().then_some(value)
}

/// Reads the named columns of a table into a tensor of shape `[rows, columns]`.
///
/// # Errors
/// See [`TableError`]; a value that `dtype` cannot hold exactly is unreadable, except that
/// `f32` rounds.
pub(crate) fn load(
    folder: &Path,
    table: &Table,
    columns: &[String],
    dtype: DType,
    budget: &Budget,
    stop: &AtomicBool,
) -> Result<Tensor, TableError> {
    let names = table.columns.iter().map(|(name, _)| name.as_str());
    let known: HashMap<&str, usize> = names.zip(0..).collect();
    let mut places = Vec::with_capacity(columns.len());
    for name in columns {
        let unknown = || TableError::UnknownColumn(shortened(name, 200));
        places.push(*known.get(name.as_str()).ok_or_else(unknown)?);
    }
    let shape = [table.rows, places.len() as u64];
    let mut filled = Ok(());
    let tensor = Tensor::build(dtype, &shape, budget, |bytes| {
        filled = fill(bytes, folder, table, &places, dtype, stop);
    });
    let tensor = tensor.map_err(|error| match error {
        ProgramError::OutOfMemory { needed, allowed } => {
            TableError::OutOfMemory { needed, allowed }
        }
        other => unreadable(&table.path, &other.to_string()),
    })?;
    filled?;
    Ok(tensor)
}

fn fill(
    bytes: &mut [u8],
    folder: &Path,
    table: &Table,
    places: &[usize],
    dtype: DType,
    stop: &AtomicBool,
) -> Result<(), TableError> {
    let changed = || unreadable(&table.path, "the file has changed while it was read");
    let mut records = Records::open(folder, &table.path, stop)?;
    let mut cells = bytes.chunks_exact_mut(dtype.size());
    while let Some(record) = records.next()? {
        for place in places {
            let field = record.get(*place).unwrap_or_default();
            let cell = cells.next().ok_or_else(changed)?;
            if !write_value(field, dtype, cell) {
                let column = table.columns.get(*place).map_or("", |(name, _)| name);
                let value = shortened(&one_line(&String::from_utf8_lossy(field)), 40);
                let message = format!(
                    "row {}, column `{}`: `{value}` is not a value of type {dtype}",
                    records.row,
                    shortened(&one_line(column), 80)
                );
                return Err(unreadable(&table.path, &message));
            }
        }
    }
    if records.row != table.rows {
        return Err(changed());
    }
    Ok(())
}

/// Writes a value, little-endian; false when `dtype` cannot hold it.
fn write_value(field: &[u8], dtype: DType, cell: &mut [u8]) -> bool {
    let Ok(text) = std::str::from_utf8(field).map(str::trim) else {
        return false;
    };
    let written = match dtype {
        DType::F32 => text
            .parse::<f32>()
            .ok()
            .filter(|value| value.is_finite())
            .map(|value| cell.copy_from_slice(&value.to_le_bytes())),
        DType::F64 | DType::Bf16 | DType::F16 => text
            .parse::<f64>()
            .ok()
            .filter(|value| value.is_finite())
            .map(|value| dtype.write(value, cell)),
        DType::I64 => integer(text).map(|value| cell.copy_from_slice(&value.to_le_bytes())),
        DType::I32 => narrow(text).map(|value: i32| cell.copy_from_slice(&value.to_le_bytes())),
        DType::U32 => narrow(text).map(|value: u32| cell.copy_from_slice(&value.to_le_bytes())),
        DType::U8 => narrow(text).map(|value: u8| cell.copy_from_slice(&[value])),
        DType::Bool => narrow(text)
            .filter(|value: &u8| *value <= 1)
            .map(|value| cell.copy_from_slice(&[value])),
    };
    written.is_some()
}

fn narrow<T: TryFrom<i64>>(text: &str) -> Option<T> {
    T::try_from(integer(text)?).ok()
}

/// A whole number, also one that is written like `3.0` or `1e3`.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the value has no fraction and is below 2^53"
)]
fn integer(text: &str) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let exact = |value: &f64| value.fract() == 0.0 && value.abs() <= EXACT;
    text.parse().ok().or_else(|| {
        let value = number(text).filter(exact)?;
        Some(value as i64)
    })
}

/// The records of one file, after its header.
struct Records<'a> {
    path: String,
    reader: csv::Reader<Bounded<File>>,
    /// Bytes that may still be read before the current record must have ended.
    allowance: Rc<Cell<usize>>,
    record: ByteRecord,
    names: Vec<String>,
    /// Number of the last record; the first after the header is 1.
    row: u64,
    stop: &'a AtomicBool,
}

impl<'a> Records<'a> {
    /// Opens a table and reads its header.
    fn open(folder: &Path, path: &str, stop: &'a AtomicBool) -> Result<Self, TableError> {
        let file =
            File::open(folder.join(path)).map_err(|error| unreadable(path, &error.to_string()))?;
        let allowance = Rc::new(Cell::new(MAX_RECORD_BYTES));
        let bounded = Bounded {
            inner: file,
            allowance: Rc::clone(&allowance),
        };
        let reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .from_reader(bounded);
        let mut records = Self {
            path: path.to_owned(),
            reader,
            allowance,
            record: ByteRecord::new(),
            names: Vec::new(),
            row: 0,
            stop,
        };
        records.read_header()?;
        Ok(records)
    }

    fn read_header(&mut self) -> Result<(), TableError> {
        if !self.read()? {
            return Err(unreadable(
                &self.path,
                "the file is empty: it needs a header",
            ));
        }
        if self.record.len() > MAX_COLUMNS {
            let columns = self.record.len();
            let message =
                format!("it has {columns} columns, but it may have at most {MAX_COLUMNS}");
            return Err(unreadable(&self.path, &message));
        }
        let mut known = HashSet::new();
        for (index, name) in self.record.iter().enumerate() {
            let name = name
                .strip_prefix(b"\xef\xbb\xbf")
                .filter(|_| index == 0)
                .unwrap_or(name);
            let Ok(name) = std::str::from_utf8(name) else {
                let message = format!("the name of column {} is not UTF-8", index + 1);
                return Err(unreadable(&self.path, &message));
            };
            let name = name.trim();
            if !known.insert(name) {
                let message = format!(
                    "the column `{}` is there twice",
                    shortened(&one_line(name), 80)
                );
                return Err(unreadable(&self.path, &message));
            }
            self.names.push(name.to_owned());
        }
        Ok(())
    }

    /// The next record.
    fn next(&mut self) -> Result<Option<&ByteRecord>, TableError> {
        if self.row.is_multiple_of(ROWS_PER_CHECK) && self.stop.load(Ordering::Relaxed) {
            return Err(unreadable(
                &self.path,
                "the task was stopped while it was read",
            ));
        }
        if !self.read()? {
            return Ok(None);
        }
        self.row += 1;
        Ok(Some(&self.record))
    }

    fn read(&mut self) -> Result<bool, TableError> {
        self.allowance.set(MAX_RECORD_BYTES);
        self.reader
            .read_byte_record(&mut self.record)
            .map_err(|error| {
                let row = self.row + 1;
                let message = match error.kind() {
                    csv::ErrorKind::UnequalLengths {
                        expected_len, len, ..
                    } => format!("row {row} has {len} values, but the header has {expected_len}"),
                    csv::ErrorKind::Io(error) => format!("row {row}: {error}"),
                    _ => format!("row {row}: {error}"),
                };
                unreadable(&self.path, &message)
            })
    }
}

/// Fails when more is read than the allowance, which a record sets anew.
struct Bounded<R> {
    inner: R,
    allowance: Rc<Cell<usize>>,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let allowance = self.allowance.get();
        if allowance == 0 {
            let message = format!("a record is longer than {MAX_RECORD_BYTES} bytes");
            return Err(io::Error::other(message));
        }
        let room = buffer.len().min(allowance);
        let length = self.inner.read(&mut buffer[..room])?;
        self.allowance.set(allowance - length);
        Ok(length)
    }
}

fn unreadable(path: &str, message: &str) -> TableError {
    TableError::Unreadable(format!("`{}`: {message}", shortened(path, 200)))
}

#[cfg(test)]
#[path = "tables_tests.rs"]
mod tests;
