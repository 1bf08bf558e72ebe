//! `.csv` files, also compressed as `.csv.gz`, read as streams.
//!
//! A record is never longer than [`MAX_RECORD_BYTES`] in memory, whatever the file holds.

use std::cell::Cell as Shared;
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::rc::Rc;

use csv::ByteRecord;
use flate2::read::MultiGzDecoder;
use trainshed_core::text::{one_line, shortened};

use crate::error::unreadable;
use crate::value::{Cell, Scalar, written_number};
use crate::{
    Column, ColumnKind, MAX_COLUMNS, MAX_RECORD_BYTES, ROWS_PER_CHECK, Reader, Sink, Source, Table,
    TableError,
};

/// Whether the end of a file's name says that it is compressed by gzip.
fn is_compressed(path: &str) -> bool {
    path.rsplit_once('.')
        .is_some_and(|(_, ending)| ending.eq_ignore_ascii_case("gz"))
}

/// Reads the file once, for the least kind of each column that holds all of its values.
pub(crate) fn survey(reader: &Reader, path: &str) -> Result<Table, TableError> {
    let mut records = Records::open(*reader, path)?;
    let mut kinds = vec![ColumnKind::Integer; records.names.len()];
    while let Some(record) = records.next()? {
        for (kind, field) in kinds.iter_mut().zip(record) {
            *kind = (*kind).max(kind_of(field, *kind));
        }
    }
    let columns = records.names.into_iter().zip(kinds);
    Ok(Table {
        path: path.to_owned(),
        rows: records.row,
        columns: columns
            .map(|(name, kind)| Column {
                name,
                kind,
                element: match kind {
                    ColumnKind::Integer => "i64",
                    ColumnKind::Number => "f64",
                    _ => "text",
                }
                .to_owned(),
                shape: Vec::new(),
            })
            .collect(),
        source: Source::Comma,
    })
}

/// The least kind, from `least` on, that holds `field`.
fn kind_of(field: &[u8], least: ColumnKind) -> ColumnKind {
    if least == ColumnKind::Text {
        return least;
    }
    let text = std::str::from_utf8(field).ok();
    match text.and_then(|text| written_number(text.trim())) {
        Some(Scalar::Integer(_)) => ColumnKind::Integer,
        Some(_) => ColumnKind::Number,
        None => ColumnKind::Text,
    }
}

/// Hands over the columns at `places`, row by row.
pub(crate) fn each(
    reader: &Reader,
    table: &Table,
    places: &[usize],
    sink: &mut Sink,
) -> Result<(), TableError> {
    let mut records = Records::open(*reader, &table.path)?;
    let mut row = 0;
    while let Some(record) = records.next()? {
        for (index, place) in places.iter().enumerate() {
            let field = record.get(*place).unwrap_or_default();
            if !sink(row, index, Cell::Written(field))? {
                return Ok(());
            }
        }
        row += 1;
    }
    Ok(())
}

/// The records of one file, after its header.
struct Records<'a> {
    reader: Reader<'a>,
    path: String,
    csv: csv::Reader<Bounded<Box<dyn Read>>>,
    /// Bytes that may still be read before the current record must have ended.
    allowance: Rc<Shared<usize>>,
    record: ByteRecord,
    names: Vec<String>,
    /// Number of the last record; the first after the header is 1.
    row: u64,
}

impl<'a> Records<'a> {
    /// Opens a table and reads its header.
    fn open(reader: Reader<'a>, path: &str) -> Result<Self, TableError> {
        let file =
            File::open(reader.path(path)).map_err(|error| unreadable(path, &error.to_string()))?;
        let allowance = Rc::new(Shared::new(MAX_RECORD_BYTES));
        let inner: Box<dyn Read> = match is_compressed(path) {
            true => Box::new(MultiGzDecoder::new(BufReader::new(file))),
            false => Box::new(file),
        };
        let bounded = Bounded {
            inner,
            allowance: Rc::clone(&allowance),
        };
        let csv = csv::ReaderBuilder::new()
            .has_headers(false)
            .from_reader(bounded);
        let mut records = Self {
            reader,
            path: path.to_owned(),
            csv,
            allowance,
            record: ByteRecord::new(),
            names: Vec::new(),
            row: 0,
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
        if self.row.is_multiple_of(ROWS_PER_CHECK) {
            self.reader.go_on(&self.path)?;
        }
        if !self.read()? {
            return Ok(None);
        }
        self.row += 1;
        Ok(Some(&self.record))
    }

    fn read(&mut self) -> Result<bool, TableError> {
        self.allowance.set(MAX_RECORD_BYTES);
        self.csv
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
    allowance: Rc<Shared<usize>>,
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

#[cfg(test)]
#[path = "comma_tests.rs"]
mod tests;
