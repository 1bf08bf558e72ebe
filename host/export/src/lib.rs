//! What queries found, as a file that other programs read: CSV, JSON lines or Parquet.
//!
//! A [`Writer`] is fed with rows and hands out bytes as they come, so that a result of any
//! size passes through a bounded amount of memory. It knows neither the store nor the network.
//! Start reading at [`Writer`]; `docs/queries.md` says what becomes of which field.
#![warn(missing_docs)]

mod parquet_file;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value as Json, json};
use trainshed_core::Timestamp;
use trainshed_core::query::{Cell, Kind};

use parquet_file::ParquetFile;

/// What an export is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Comma-separated values with a header (RFC 4180), safe to open in a spreadsheet.
    Csv,
    /// An object on each line.
    JsonLines,
    /// Apache Parquet.
    Parquet,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 3] = [Self::Csv, Self::JsonLines, Self::Parquet];

    /// The name it has in requests.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::JsonLines => "jsonl",
            Self::Parquet => "parquet",
        }
    }

    /// The format of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.as_str() == name)
    }

    /// What HTTP calls it.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv; charset=utf-8",
            Self::JsonLines => "application/x-ndjson",
            Self::Parquet => "application/vnd.apache.parquet",
        }
    }
}

/// A column of an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its header, or its key in JSON.
    pub name: String,
    /// What its values are.
    pub kind: Kind,
}

/// Why an export broke off.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The Parquet file could not be made.
    #[error("the Parquet file could not be written")]
    Parquet(#[from] parquet::errors::ParquetError),
    /// The CSV could not be made.
    #[error("the CSV could not be written")]
    Csv(#[from] csv::Error),
}

/// Turns rows into the bytes of a file.
pub struct Writer {
    columns: Vec<Column>,
    file: File,
}

enum File {
    Csv(Box<csv::Writer<Vec<u8>>>),
    JsonLines(Vec<u8>),
    Parquet(Box<ParquetFile>),
}

impl Writer {
    /// Begins a file.
    ///
    /// # Errors
    /// When two columns have one name, which only Parquet refuses.
    pub fn new(format: Format, columns: Vec<Column>) -> Result<Self, ExportError> {
        let file = match format {
            Format::Csv => {
                let mut csv = csv::Writer::from_writer(Vec::new());
                csv.write_record(columns.iter().map(|column| safe(&column.name)))?;
                File::Csv(Box::new(csv))
            }
            Format::JsonLines => File::JsonLines(Vec::new()),
            Format::Parquet => File::Parquet(Box::new(ParquetFile::new(&columns)?)),
        };
        Ok(Self { columns, file })
    }

    /// Adds rows, each with a cell for every column, and returns the bytes that are ready.
    ///
    /// # Errors
    /// When a row has not as many cells as there are columns.
    pub fn write(&mut self, rows: &[Vec<Cell>]) -> Result<Vec<u8>, ExportError> {
        match &mut self.file {
            File::Csv(csv) => {
                for row in rows {
                    let cells = row.iter().zip(&self.columns);
                    csv.write_record(cells.map(|(cell, column)| text(cell, column.kind)))?;
                }
                take_csv(csv)
            }
            File::JsonLines(lines) => {
                for row in rows {
                    let cells = row.iter().zip(&self.columns);
                    let object: Map<String, Json> = cells
                        .map(|(cell, column)| (column.name.clone(), to_json(cell)))
                        .collect();
                    lines.extend_from_slice(Json::Object(object).to_string().as_bytes());
                    lines.push(b'\n');
                }
                Ok(std::mem::take(lines))
            }
            File::Parquet(file) => file.write(rows),
        }
    }

    /// Ends the file and returns its last bytes.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn finish(self) -> Result<Vec<u8>, ExportError> {
        match self.file {
            File::Csv(mut csv) => take_csv(&mut csv),
            File::JsonLines(lines) => Ok(lines),
            File::Parquet(file) => file.finish(),
        }
    }
}

/// What was written so far; the writer goes on with an empty buffer.
fn take_csv(csv: &mut csv::Writer<Vec<u8>>) -> Result<Vec<u8>, ExportError> {
    let fresh = csv::WriterBuilder::new()
        .has_headers(false)
        .from_writer(Vec::new());
    let written = std::mem::replace(csv, fresh).into_inner();
    written.map_err(|error| ExportError::Csv(error.into_error().into()))
}

/// A cell as JSON: times are milliseconds, sets are lists, and what is missing is null.
pub fn to_json(cell: &Cell) -> Json {
    match cell {
        Cell::Missing => Json::Null,
        Cell::Text(text) => json!(text),
        Cell::Integer(number) => json!(number),
        Cell::Real(number) => real(*number),
        Cell::Texts(texts) => json!(texts),
        Cell::Integers(numbers) => json!(numbers),
        Cell::Typed {
            number: Some(number),
            ..
        } => real(*number),
        Cell::Typed { text, .. } => json!(text),
    }
}

fn real(number: f64) -> Json {
    match number {
        f64::INFINITY => json!("Infinity"),
        f64::NEG_INFINITY => json!("-Infinity"),
        number if number.is_nan() => json!("NaN"),
        finite => json!(finite),
    }
}

/// A cell as CSV: times are ISO 8601, sets are JSON, and what is missing is empty.
fn text(cell: &Cell, kind: Kind) -> String {
    match cell {
        Cell::Missing => String::new(),
        Cell::Text(text) => safe(text),
        Cell::Integer(millis) if kind == Kind::Time => iso(Timestamp(*millis)),
        Cell::Integer(number) => number.to_string(),
        Cell::Typed { number: None, text } => safe(text),
        Cell::Typed { text, .. } => text.clone(),
        Cell::Real(_) => match to_json(cell) {
            Json::String(text) => text,
            number => number.to_string(),
        },
        Cell::Texts(_) | Cell::Integers(_) => to_json(cell).to_string(),
    }
}

fn iso(time: Timestamp) -> String {
    trainshed_core::query::print_time(time)
}

/// A text that a spreadsheet does not run: one that begins as a formula does gets a `'` in
/// front, which spreadsheets take for "this is text".
fn safe(text: &str) -> String {
    match text.starts_with(['=', '+', '-', '@', '\t', '\r', '\'']) {
        true => format!("'{text}"),
        false => text.to_owned(),
    }
}
