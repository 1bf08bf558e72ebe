//! `.jsonl` and `.ndjson` files: an object per line.
//!
//! A line is never longer than [`MAX_LINE_BYTES`] in memory, and is parsed within serde_json's
//! limit of 128 levels.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};

use serde_json::{Map, Value};
use trainshed_core::text::{one_line, shortened};
use trainshed_tensor::Reservation;

use crate::error::unreadable;
use crate::value::{Cell, ElementType, Scalar};
use crate::{
    Column, ColumnKind, MAX_COLUMNS, MAX_NAME_BYTES, ROWS_PER_CHECK, Reader, Sink, Source, Table,
    TableError,
};

/// Longest line.
const MAX_LINE_BYTES: u64 = 16 << 20;
/// Bytes of memory that one byte of JSON takes at most when it is parsed: `[0,0,…]` becomes
/// one value per two bytes.
const MEMORY_PER_BYTE: u64 = 40;
/// Most dimensions of an array, rows not included.
const MAX_RANK: usize = 7;
/// Longest dotted name: each of an object's fields repeats the names around it.
const MAX_FIELD_BYTES: usize = 4096;
/// How many bytes are read between two looks at the stop flag.
const BYTES_PER_CHECK: usize = 4 << 20;

/// Takes a field's dotted name and value; answers whether it wants more.
type Take<'t> = dyn FnMut(&str, &Value) -> Result<bool, TableError> + 't;

/// What a column has been so far.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    /// Nothing but `null`.
    Nothing,
    Scalar(ColumnKind),
    /// Numbers in nested lists of one shape.
    Array(Vec<u64>, ColumnKind),
    /// Values that nothing but JSON holds.
    Json,
}

impl Seen {
    fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::Nothing,
            Value::Array(_) => match shape_of(value) {
                Some((shape, kind)) if shape.len() <= MAX_RANK => Self::Array(shape, kind),
                _ => Self::Json,
            },
            Value::Object(_) => Self::Json,
            Value::String(_) => Self::Scalar(ColumnKind::Text),
            Value::Bool(_) => Self::Scalar(ColumnKind::Integer),
            Value::Number(number) => Self::Scalar(kind_of(number)),
        }
    }

    fn with(self, other: Self) -> Self {
        match (self, other) {
            (Self::Nothing, other) | (other, Self::Nothing) => other,
            (Self::Scalar(one), Self::Scalar(other)) => Self::Scalar(one.max(other)),
            (Self::Array(shape, one), Self::Array(other_shape, other)) if shape == other_shape => {
                Self::Array(shape, one.max(other))
            }
            _ => Self::Json,
        }
    }
}

/// Reads the file once. Columns are ordered by name.
pub(crate) fn survey(reader: &Reader, path: &str) -> Result<Table, TableError> {
    let mut lines = Lines::open(*reader, path)?;
    let mut seen: BTreeMap<String, Seen> = BTreeMap::new();
    let mut name_bytes = 0;
    while let Some(parsed) = lines.next()? {
        lines.fields(&parsed.object, &mut |name, value| {
            if let Some(known) = seen.get_mut(name) {
                let before = std::mem::replace(known, Seen::Nothing);
                *known = before.with(Seen::of(value));
                return Ok(true);
            }
            name_bytes += name.len();
            if seen.len() == MAX_COLUMNS || name_bytes > MAX_NAME_BYTES {
                let message = format!(
                    "it has more than {MAX_COLUMNS} fields, or more than {MAX_NAME_BYTES} bytes of their names"
                );
                return Err(unreadable(path, &message));
            }
            seen.insert(name.to_owned(), Seen::of(value));
            Ok(true)
        })?;
    }
    let columns = seen.into_iter().map(|(name, seen)| {
        let (kind, element, shape) = match seen {
            Seen::Nothing => (ColumnKind::Number, "f64", Vec::new()),
            Seen::Json => (ColumnKind::Text, "json", Vec::new()),
            Seen::Scalar(ColumnKind::Integer) => (ColumnKind::Integer, "i64", Vec::new()),
            Seen::Scalar(ColumnKind::Number) => (ColumnKind::Number, "f64", Vec::new()),
            Seen::Scalar(_) => (ColumnKind::Text, "text", Vec::new()),
            Seen::Array(shape, ColumnKind::Integer) => (ColumnKind::Array, "i64", shape),
            Seen::Array(shape, _) => (ColumnKind::Array, "f64", shape),
        };
        Column {
            name,
            kind,
            element: element.to_owned(),
            shape,
        }
    });
    Ok(Table {
        path: path.to_owned(),
        rows: lines.row,
        columns: columns.collect(),
        source: Source::JsonLines,
    })
}

/// Hands over the columns at `places`, row by row.
pub(crate) fn each(
    reader: &Reader,
    table: &Table,
    places: &[usize],
    sink: &mut Sink,
) -> Result<(), TableError> {
    let mut wanted: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, place) in places.iter().enumerate() {
        let name = table.columns[*place].name.as_str();
        wanted.entry(name).or_default().push(index);
    }
    let mut lines = Lines::open(*reader, &table.path)?;
    let mut row = 0;
    let mut bytes = Vec::new();
    let mut is_there = vec![false; places.len()];
    while let Some(parsed) = lines.next()? {
        is_there.fill(false);
        let mut goes_on = lines.fields(&parsed.object, &mut |name, value| {
            for &index in wanted.get(name).into_iter().flatten() {
                let column = &table.columns[places[index]];
                let is_first = !std::mem::replace(&mut is_there[index], true);
                if is_first && !give(row, index, column, value, &mut bytes, sink)? {
                    return Ok(false);
                }
            }
            Ok(true)
        })?;
        for (index, _) in is_there
            .iter()
            .enumerate()
            .filter(|(_, is_there)| !**is_there)
        {
            goes_on = goes_on && sink(row, index, Cell::Missing)?;
        }
        if !goes_on {
            return Ok(());
        }
        row += 1;
    }
    Ok(())
}

/// Hands over one value as its column's kind wants it.
fn give(
    row: u64,
    index: usize,
    column: &Column,
    value: &Value,
    bytes: &mut Vec<u8>,
    sink: &mut Sink,
) -> Result<bool, TableError> {
    match value {
        Value::Null => sink(row, index, Cell::Missing),
        Value::Array(_) if column.kind == ColumnKind::Array => {
            let of = if column.element == "i64" {
                ElementType::I64
            } else {
                ElementType::F64
            };
            bytes.clear();
            flatten(value, of, bytes);
            let cell = Cell::Elements {
                first: 0,
                of,
                bytes,
            };
            sink(row, index, cell)
        }
        Value::String(text) => sink(row, index, Cell::Text(text)),
        Value::Array(_) | Value::Object(_) => sink(row, index, Cell::Text(&value.to_string())),
        Value::Bool(_) if column.kind == ColumnKind::Text => {
            sink(row, index, Cell::Text(&value.to_string()))
        }
        Value::Bool(flag) => sink(row, index, Cell::Scalar(Scalar::Integer((*flag).into()))),
        Value::Number(number) => sink(row, index, Cell::Scalar(scalar(number))),
    }
}

/// The shape of nested lists of numbers, and the kind that holds all of them; none when there
/// is anything else, or lists of one level differ in length.
fn shape_of(value: &Value) -> Option<(Vec<u64>, ColumnKind)> {
    match value {
        Value::Number(number) => Some((Vec::new(), kind_of(number))),
        Value::Bool(_) => Some((Vec::new(), ColumnKind::Integer)),
        Value::Array(items) => {
            let mut items_shape = None;
            let mut kind = ColumnKind::Integer;
            for item in items {
                let (shape, item_kind) = shape_of(item)?;
                kind = kind.max(item_kind);
                if *items_shape.get_or_insert_with(|| shape.clone()) != shape {
                    return None;
                }
            }
            let mut shape = vec![items.len() as u64];
            shape.extend(items_shape.unwrap_or_default());
            Some((shape, kind))
        }
        _ => None,
    }
}

fn flatten(value: &Value, of: ElementType, bytes: &mut Vec<u8>) {
    match value {
        Value::Array(items) => {
            for item in items {
                flatten(item, of, bytes);
            }
        }
        Value::Number(number) if of == ElementType::I64 => {
            bytes.extend(number.as_i64().unwrap_or_default().to_le_bytes());
        }
        Value::Number(number) => {
            bytes.extend(number.as_f64().unwrap_or(f64::NAN).to_le_bytes());
        }
        Value::Bool(flag) if of == ElementType::I64 => {
            bytes.extend(i64::from(*flag).to_le_bytes());
        }
        Value::Bool(flag) => bytes.extend(f64::from(u8::from(*flag)).to_le_bytes()),
        _ => {}
    }
}

fn kind_of(number: &serde_json::Number) -> ColumnKind {
    if number.is_i64() {
        ColumnKind::Integer
    } else {
        ColumnKind::Number
    }
}

fn scalar(number: &serde_json::Number) -> Scalar {
    match (number.as_i64(), number.as_u64()) {
        (Some(value), _) => Scalar::Integer(value),
        (_, Some(value)) => Scalar::Unsigned(value),
        _ => Scalar::Number(number.as_f64().unwrap_or(f64::NAN)),
    }
}

/// The object of one line.
struct Parsed {
    object: Map<String, Value>,
    _charge: Reservation,
}

/// The objects of one file.
struct Lines<'a> {
    reader: Reader<'a>,
    path: String,
    input: BufReader<File>,
    line: Vec<u8>,
    /// Lines read, empty ones included.
    lines: u64,
    /// Bytes read since the last look at the stop flag.
    unchecked: usize,
    /// Objects read.
    row: u64,
}

impl<'a> Lines<'a> {
    fn open(reader: Reader<'a>, path: &str) -> Result<Self, TableError> {
        let file =
            File::open(reader.path(path)).map_err(|error| unreadable(path, &error.to_string()))?;
        Ok(Self {
            reader,
            path: path.to_owned(),
            input: BufReader::new(file),
            line: Vec::new(),
            lines: 0,
            unchecked: 0,
            row: 0,
        })
    }

    fn next(&mut self) -> Result<Option<Parsed>, TableError> {
        loop {
            self.unchecked += self.line.len();
            if self.unchecked > BYTES_PER_CHECK || self.lines.is_multiple_of(ROWS_PER_CHECK) {
                self.reader.go_on(&self.path)?;
                self.unchecked = 0;
            }
            self.line.clear();
            self.lines += 1;
            let read = (&mut self.input)
                .take(MAX_LINE_BYTES + 1)
                .read_until(b'\n', &mut self.line);
            let read = read.map_err(|error| self.broken(&error.to_string()))?;
            if read == 0 {
                return Ok(None);
            }
            let length = self.line.len() as u64;
            if length > MAX_LINE_BYTES {
                return Err(self.broken(&format!("it is longer than {MAX_LINE_BYTES} bytes")));
            }
            if self.line.trim_ascii().is_empty() {
                continue;
            }
            let charge = self.reader.reserve(length * MEMORY_PER_BYTE)?;
            let object = serde_json::from_slice(&self.line)
                .map_err(|error| self.broken(&one_line(&error.to_string())))?;
            let Value::Object(object) = object else {
                let line = String::from_utf8_lossy(&self.line);
                let line = shortened(&one_line(&line), 40);
                return Err(self.broken(&format!("`{line}` is not an object")));
            };
            self.row += 1;
            return Ok(Some(Parsed {
                object,
                _charge: charge,
            }));
        }
    }

    /// Hands over the fields of the last object, those of objects in it by dotted names, until
    /// `take` answers that it has enough; whether it never did. A field that is `null` in a row
    /// and an object in another is both a column and a prefix of columns.
    fn fields(&self, object: &Map<String, Value>, take: &mut Take) -> Result<bool, TableError> {
        self.fields_below(object, &mut String::new(), take)
    }

    fn fields_below(
        &self,
        object: &Map<String, Value>,
        name: &mut String,
        take: &mut Take,
    ) -> Result<bool, TableError> {
        let prefix = name.len();
        for (field, value) in object {
            name.truncate(prefix);
            if prefix + field.len() > MAX_FIELD_BYTES {
                let field = shortened(&one_line(field), 40);
                return Err(self.broken(&format!(
                    "the name of the field `{field}`, with those around it, is longer than {MAX_FIELD_BYTES} bytes"
                )));
            }
            name.push_str(field);
            let goes_on = match value {
                Value::Object(inner) if !inner.is_empty() => {
                    name.push('.');
                    self.fields_below(inner, name, take)?
                }
                _ => take(name, value)?,
            };
            if !goes_on {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn broken(&self, message: &str) -> TableError {
        unreadable(&self.path, &format!("line {}: {message}", self.lines))
    }
}

#[cfg(test)]
#[path = "json_lines_tests.rs"]
mod tests;
