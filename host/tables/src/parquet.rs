//! `.parquet` files.
//!
//! The `parquet` crate decodes schema and values. What it is given is looked at before: the
//! schema's depth in [`compact`], every page in [`pages`]. Were it to panic nevertheless, the
//! file is refused.

mod compact;
mod pages;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};

use parquet::basic::{ConvertedType, LogicalType, Type};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl, get_column_reader};
use parquet::data_type::{ByteArray, DataType};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData};
use parquet::schema::types::ColumnDescriptor;
use trainshed_core::text::{one_line, shortened};
use trainshed_tensor::{ProgramError, Reservation};

use crate::error::unreadable;
use crate::value::{Cell, ElementType, Scalar};
use crate::{
    Column, ColumnKind, MAX_COLUMNS, MAX_NAME_BYTES, Reader, Sink, Source, Table, TableError,
};
use compact::{Broken, Compact, Kind};
use pages::{Listed, Pages};

const MAGIC: &[u8] = b"PAR1";
/// Largest footer: schema, and places of all columns in all row groups.
const MAX_FOOTER_BYTES: u64 = 32 << 20;
/// Bytes of memory that one byte of the footer takes when it is parsed, beside its parts.
const MEMORY_PER_FOOTER_BYTE: u64 = 4;
/// Bytes of memory that an element of the schema or a column of a row group takes.
const MEMORY_PER_PART: u64 = 1024;
/// Most elements of a schema: columns, and groups around them.
const MAX_SCHEMA_ELEMENTS: usize = 3 * MAX_COLUMNS;
/// Deepest nesting of columns.
const MAX_SCHEMA_DEPTH: usize = 16;
/// How many rows are decoded at once.
const ROWS_AT_ONCE: usize = 1024;

/// Finds the columns in the footer.
pub(crate) fn survey(reader: &Reader, path: &str) -> Result<Table, TableError> {
    let file = File::open(reader.path(path)).map_err(|error| broken(path, &error))?;
    let (metadata, _charge) = read_footer(reader, path, &file)?;
    let schema = metadata.file_metadata().schema_descr();
    if schema.num_columns() > MAX_COLUMNS {
        let columns = schema.num_columns();
        let message = format!("it has {columns} columns, but it may have at most {MAX_COLUMNS}");
        return Err(unreadable(path, &message));
    }
    let mut rows = 0_u64;
    for group in metadata.row_groups() {
        let count = u64::try_from(group.num_rows()).ok();
        rows = count
            .and_then(|count| rows.checked_add(count))
            .filter(|rows| *rows < 1 << 40)
            .ok_or_else(|| unreadable(path, "its footer has a number of rows that cannot be"))?;
    }
    let columns = (0..).zip(schema.columns()).map(|(index, column)| {
        let values = metadata.row_groups().iter().map(|group| {
            group
                .columns()
                .get(index)
                .map_or(0, |chunk| u64::try_from(chunk.num_values()).unwrap_or(0))
        });
        let values = values.fold(0, u64::saturating_add);
        describe(column, rows, values)
    });
    let columns: Vec<Column> = columns.collect();
    let mut names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        let name = shortened(&one_line(twice[0]), 80);
        return Err(unreadable(
            path,
            &format!("the column `{name}` is there twice"),
        ));
    }
    Ok(Table {
        path: path.to_owned(),
        rows,
        columns,
        source: Source::Parquet,
    })
}

/// What a leaf of the schema is as a column.
fn describe(column: &ColumnDescriptor, rows: u64, values: u64) -> Column {
    let (scalar, element) = scalar_kind(column);
    let parts = column.path().parts();
    let full = parts.join(".");
    if column.max_rep_level() == 0 {
        return Column {
            name: full,
            kind: scalar,
            element,
            shape: Vec::new(),
        };
    }
    // A list is `name.list.element`, or `name.array` of old, or a repeated `name`.
    let is_number = matches!(scalar, ColumnKind::Integer | ColumnKind::Number);
    let length = values
        .checked_div(rows)
        .filter(|length| length * rows == values);
    match (column.max_rep_level(), length) {
        (1, Some(length)) if is_number && parts.len() <= 3 => Column {
            name: parts[0].clone(),
            kind: ColumnKind::Array,
            element,
            shape: vec![length],
        },
        _ => Column {
            name: full,
            kind: ColumnKind::Other,
            element: format!("lists of {element}, not all of one length"),
            shape: Vec::new(),
        },
    }
}

fn scalar_kind(column: &ColumnDescriptor) -> (ColumnKind, String) {
    let is_decimal = column.converted_type() == ConvertedType::DECIMAL
        || matches!(column.logical_type_ref(), Some(LogicalType::Decimal { .. }));
    let named = |kind, name: &str| (kind, name.to_owned());
    match column.physical_type() {
        _ if is_decimal => named(ColumnKind::Other, "decimal"),
        Type::BOOLEAN => named(ColumnKind::Integer, "bool"),
        Type::INT32 if is_unsigned(column) => named(ColumnKind::Integer, "u32"),
        Type::INT32 => named(ColumnKind::Integer, "i32"),
        Type::INT64 if is_unsigned(column) => named(ColumnKind::Integer, "u64"),
        Type::INT64 => named(ColumnKind::Integer, "i64"),
        Type::FLOAT => named(ColumnKind::Number, "f32"),
        Type::DOUBLE => named(ColumnKind::Number, "f64"),
        Type::BYTE_ARRAY => named(ColumnKind::Text, "text"),
        Type::INT96 => named(ColumnKind::Other, "int96"),
        Type::FIXED_LEN_BYTE_ARRAY => named(ColumnKind::Other, "bytes of a fixed length"),
    }
}

fn is_unsigned(column: &ColumnDescriptor) -> bool {
    let converted = matches!(
        column.converted_type(),
        ConvertedType::UINT_8
            | ConvertedType::UINT_16
            | ConvertedType::UINT_32
            | ConvertedType::UINT_64
    );
    let logical = matches!(
        column.logical_type_ref(),
        Some(LogicalType::Integer(kind)) if !kind.is_signed
    );
    converted || logical
}

/// Hands over the columns at `places`, one after the other.
pub(crate) fn each(
    reader: &Reader,
    table: &Table,
    places: &[usize],
    sink: &mut Sink,
) -> Result<(), TableError> {
    let path = &table.path;
    let file = File::open(reader.path(path)).map_err(|error| broken(path, &error))?;
    let (metadata, _charge) = read_footer(reader, path, &file)?;
    let length = file.metadata().map_err(|error| broken(path, &error))?.len();
    for (index, place) in places.iter().enumerate() {
        let mut row = 0;
        for group in metadata.row_groups() {
            let chunk = Chunk {
                reader,
                table,
                column: &table.columns[*place],
                index,
            };
            if table.columns[*place].kind == ColumnKind::Other {
                return Err(chunk.broken("it cannot be loaded"));
            }
            let pages = chunk.pages(group, *place, &file, length)?;
            let rows = u64::try_from(group.num_rows()).unwrap_or(0);
            if !chunk.each(group, *place, pages, row, rows, sink)? {
                return Ok(());
            }
            row += rows;
        }
    }
    Ok(())
}

/// A column of one row group.
struct Chunk<'a> {
    reader: &'a Reader<'a>,
    table: &'a Table,
    column: &'a Column,
    /// Its place among the columns asked for.
    index: usize,
}

impl Chunk<'_> {
    fn pages(
        &self,
        group: &RowGroupMetaData,
        place: usize,
        file: &File,
        length: u64,
    ) -> Result<Pages, TableError> {
        let damaged = || self.broken("its place in the file is damaged");
        let chunk = group.columns().get(place).ok_or_else(damaged)?;
        let first = chunk.data_page_offset();
        // A dictionary comes first; some writers say 0 where there is none.
        let dictionary = chunk.dictionary_page_offset().filter(|place| *place > 0);
        let start = dictionary.map_or(first, |place| place.min(first));
        let range = u64::try_from(start)
            .ok()
            .zip(u64::try_from(chunk.compressed_size()).ok());
        let range = range.and_then(|(start, size)| Some((start, start.checked_add(size)?)));
        let (place, end) = range
            .filter(|(_, end)| *end <= length)
            .ok_or_else(damaged)?;
        Ok(Pages {
            file: file
                .try_clone()
                .map_err(|error| broken(&self.table.path, &error))?,
            place,
            end,
            compression: chunk.compression(),
            values_left: chunk.num_values(),
            budget: self.reader.budget.clone(),
            charges: [None, None],
            listed: None,
        })
    }

    /// Hands over the rows of the group, whose first is `row`; false when the sink has enough.
    fn each(
        &self,
        group: &RowGroupMetaData,
        place: usize,
        mut pages: Pages,
        row: u64,
        rows: u64,
        sink: &mut Sink,
    ) -> Result<bool, TableError> {
        let descriptor = group.column(place).column_descr_ptr();
        let listed = Listed::default();
        if descriptor.max_rep_level() > 0 {
            pages.listed = Some(Arc::clone(&listed));
        }
        let unsigned = self.column.element.starts_with('u');
        let number = |value: f64| Item::Number(ElementType::F64, Scalar::Number(value));
        let rows = Rows {
            first: row,
            count: rows,
            deepest: descriptor.max_def_level(),
            listed: &listed,
        };
        match get_column_reader(descriptor, Box::new(pages)) {
            ColumnReader::BoolColumnReader(values) => self.rows(
                values,
                rows,
                |value| Item::Number(ElementType::I64, Scalar::Integer((*value).into())),
                sink,
            ),
            ColumnReader::Int32ColumnReader(values) => self.rows(
                values,
                rows,
                |value| {
                    let value = match unsigned {
                        true => value.cast_unsigned().into(),
                        false => (*value).into(),
                    };
                    Item::Number(ElementType::I64, Scalar::Integer(value))
                },
                sink,
            ),
            ColumnReader::Int64ColumnReader(values) => self.rows(
                values,
                rows,
                |value| match unsigned {
                    true => Item::Number(ElementType::U64, Scalar::Unsigned(value.cast_unsigned())),
                    false => Item::Number(ElementType::I64, Scalar::Integer(*value)),
                },
                sink,
            ),
            ColumnReader::FloatColumnReader(values) => {
                self.rows(values, rows, |value| number((*value).into()), sink)
            }
            ColumnReader::DoubleColumnReader(values) => {
                self.rows(values, rows, |value| number(*value), sink)
            }
            ColumnReader::ByteArrayColumnReader(values) => self.rows(
                values,
                rows,
                |value: &ByteArray| Item::Text(value.data()),
                sink,
            ),
            _ => Err(self.broken("it cannot be loaded")),
        }
    }

    fn rows<T: DataType>(
        &self,
        mut reader: ColumnReaderImpl<T>,
        rows: Rows<'_>,
        item: impl Fn(&T::T) -> Item<'_>,
        sink: &mut Sink,
    ) -> Result<bool, TableError> {
        let length = self.column.shape.first().copied().unwrap_or(1);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let at_once = (ROWS_AT_ONCE / length.max(1)).max(1);
        let (mut values, mut defined, mut repeated) = (Vec::new(), Vec::new(), Vec::new());
        let mut bytes = Vec::new();
        let mut done = 0;
        while done < rows.count {
            self.reader.go_on(&self.table.path)?;
            values.clear();
            defined.clear();
            repeated.clear();
            let left = usize::try_from(rows.count - done).unwrap_or(usize::MAX);
            let read = catch_unwind(AssertUnwindSafe(|| {
                let (defined, repeated) = (Some(&mut defined), Some(&mut repeated));
                reader.read_records(left.min(at_once), defined, repeated, &mut values)
            }));
            // What comes next begins in the last page.
            let mut listed = rows.listed.lock().unwrap_or_else(PoisonError::into_inner);
            let before_last = listed.len().saturating_sub(1);
            listed.drain(..before_last);
            drop(listed);
            let records = match read {
                Ok(Ok((records, _, _))) => records,
                Ok(Err(error)) => return Err(self.failed(&error)),
                Err(_) => return Err(self.broken("its pages are damaged")),
            };
            if records == 0 {
                return Err(self.broken("it has fewer values than the footer says"));
            }
            let row = rows.first + done;
            let more = if self.column.kind == ColumnKind::Array {
                let items = values.iter().map(&item);
                // Every element is there, and every record begins where one of its length does.
                let begins = repeated.iter().enumerate();
                let fits = defined.iter().all(|level| *level == rows.deepest)
                    && begins
                        .into_iter()
                        .all(|(place, level)| (*level == 0) == place.is_multiple_of(length.max(1)))
                    && values.len() == records.saturating_mul(length);
                if !fits {
                    let name = shortened(&one_line(&self.column.name), 80);
                    let message = format!(
                        "rows {} to {}, column `{name}`: a list does not have {length} values",
                        row + 1,
                        row + records as u64
                    );
                    return Err(unreadable(&self.table.path, &message));
                }
                self.lists(row, length, items, &mut bytes, sink)?
            } else {
                let mut items = values.iter().map(&item);
                let mut more = true;
                for index in 0..records {
                    let is_there = defined
                        .get(index)
                        .is_none_or(|level| *level == rows.deepest);
                    let item = if is_there { items.next() } else { None };
                    let cell = match item {
                        None => Cell::Missing,
                        Some(Item::Number(_, value)) => Cell::Scalar(value),
                        Some(Item::Text(text)) => Cell::Written(text),
                    };
                    more = sink(row + index as u64, self.index, cell)?;
                    if !more {
                        break;
                    }
                }
                more
            };
            if !more {
                return Ok(false);
            }
            done += records as u64;
        }
        Ok(true)
    }

    fn lists<'v>(
        &self,
        row: u64,
        length: usize,
        items: impl Iterator<Item = Item<'v>>,
        bytes: &mut Vec<u8>,
        sink: &mut Sink,
    ) -> Result<bool, TableError> {
        let mut row = row;
        let mut count = 0;
        bytes.clear();
        for item in items {
            let Item::Number(of, value) = item else {
                return Err(self.broken("it has lists of texts"));
            };
            match value {
                Scalar::Integer(value) => bytes.extend(value.to_le_bytes()),
                Scalar::Unsigned(value) => bytes.extend(value.to_le_bytes()),
                Scalar::Number(value) => bytes.extend(value.to_le_bytes()),
            }
            count += 1;
            if count == length {
                let cell = Cell::Elements {
                    first: 0,
                    of,
                    bytes,
                };
                if !sink(row, self.index, cell)? {
                    return Ok(false);
                }
                row += 1;
                count = 0;
                bytes.clear();
            }
        }
        Ok(true)
    }

    fn failed(&self, error: &ParquetError) -> TableError {
        if let ParquetError::External(source) = error
            && let Some(ProgramError::OutOfMemory { needed, allowed }) =
                source.downcast_ref::<ProgramError>()
        {
            return TableError::OutOfMemory {
                needed: *needed,
                allowed: *allowed,
            };
        }
        self.broken(&match error {
            ParquetError::General(message) => message.clone(),
            other => other.to_string(),
        })
    }

    fn broken(&self, message: &str) -> TableError {
        let name = shortened(&one_line(&self.column.name), 80);
        let message = shortened(&one_line(message), 300);
        unreadable(&self.table.path, &format!("column `{name}`: {message}"))
    }
}

/// The rows of one row group.
#[derive(Clone, Copy)]
struct Rows<'a> {
    first: u64,
    count: u64,
    /// The definition level of a value that is there.
    deepest: i16,
    listed: &'a Listed,
}

/// A value of any column.
enum Item<'a> {
    /// The type it has as an element of a list.
    Number(ElementType, Scalar),
    Text(&'a [u8]),
}

/// Reads schema and places, after a look at how deep the schema is: the crate's own reader of
/// it calls itself.
///
/// Answers with them what they take.
fn read_footer(
    reader: &Reader,
    path: &str,
    file: &File,
) -> Result<(ParquetMetaData, Reservation), TableError> {
    let bad = |message: &str| unreadable(path, message);
    let length = file.metadata().map_err(|error| broken(path, &error))?.len();
    let mut tail = [0; 8];
    if length < 12 {
        return Err(bad("it is shorter than an empty Parquet file"));
    }
    file.read_exact_at(&mut tail, length - 8)
        .map_err(|error| broken(path, &error))?;
    if &tail[4..] != MAGIC {
        return Err(bad("it does not end as a Parquet file does"));
    }
    let size = u64::from(u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]));
    if size > MAX_FOOTER_BYTES || size > length - 12 {
        return Err(bad(&format!(
            "its footer would have {size} bytes, but it may have at most {}",
            MAX_FOOTER_BYTES.min(length - 12)
        )));
    }
    let _read = reader.reserve(size)?;
    let mut footer = vec![0; usize::try_from(size).unwrap_or(0)];
    file.read_exact_at(&mut footer, length - 8 - size)
        .map_err(|error| broken(path, &error))?;
    let parsed = check_footer(&footer).map_err(|message| bad(&message))?;
    let charge = reader.reserve(parsed + size * MEMORY_PER_FOOTER_BYTE)?;
    let decode = || ParquetMetaDataReader::decode_metadata(&footer);
    match catch_unwind(AssertUnwindSafe(decode)) {
        Ok(Ok(metadata)) => Ok((metadata, charge)),
        Ok(Err(error)) => Err(bad(&format!(
            "its footer is damaged: {}",
            shortened(&one_line(&error.to_string()), 300)
        ))),
        Err(_) => Err(bad("its footer is damaged")),
    }
}

/// Bytes of memory that the parsed footer takes, if it is well-formed, its schema a tree that is
/// not too deep, and all of it not too large.
fn check_footer(footer: &[u8]) -> Result<u64, String> {
    let mut elements = None;
    let mut chunks = None;
    let read = Compact::new(footer).fields(|input, number, kind| match (number, kind) {
        (2, Kind::List) => {
            let found = schema_elements(input)?;
            // A second list would be parsed too, and only one of them looked at.
            elements
                .replace(found)
                .map_or(Ok(true), |_| Err(Broken::Malformed))
        }
        (4, Kind::List) => {
            let found = count_chunks(input)?;
            chunks
                .replace(found)
                .map_or(Ok(true), |_| Err(Broken::Malformed))
        }
        _ => Ok(false),
    });
    let (Ok(()), Some(elements)) = (read, elements) else {
        return Err("its footer is damaged".to_owned());
    };
    let path_bytes = check_schema(&elements)?;
    let parts = elements.len() as u64 + chunks.unwrap_or(0);
    Ok(parts * MEMORY_PER_PART + path_bytes * 2)
}

/// An element of the schema: a column, or a group of so many.
#[derive(Debug, Clone, Copy, Default)]
struct Element {
    name_bytes: usize,
    children: i64,
}

fn schema_elements(input: &mut Compact) -> Result<Vec<Element>, Broken> {
    let (count, kind) = input.list()?;
    if kind != Kind::Struct {
        return Err(Broken::Malformed);
    }
    let mut elements = Vec::new();
    for _ in 0..count {
        let mut element = Element::default();
        input.fields(|input, number, kind| {
            match (number, kind) {
                (4, Kind::Binary) => element.name_bytes = input.binary()?,
                (5, Kind::Integer) => element.children = input.integer()?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        // One too many says that there are.
        if elements.len() <= MAX_SCHEMA_ELEMENTS {
            elements.push(element);
        }
    }
    Ok(elements)
}

/// How many column chunks all row groups have.
fn count_chunks(input: &mut Compact) -> Result<u64, Broken> {
    let (groups, kind) = input.list()?;
    if kind != Kind::Struct {
        return Err(Broken::Malformed);
    }
    let mut chunks = 0;
    for _ in 0..groups {
        // The group itself is a part like the others.
        chunks += 1;
        input.fields(|input, number, kind| {
            if (number, kind) != (1, Kind::List) {
                return Ok(false);
            }
            let (count, kind) = input.list()?;
            chunks += count as u64;
            (0..count).try_for_each(|_| input.skip(kind, true))?;
            Ok(true)
        })?;
    }
    Ok(chunks)
}

/// How many bytes the names of all columns have, each with those of the groups around it.
fn check_schema(elements: &[Element]) -> Result<u64, String> {
    if elements.len() > MAX_SCHEMA_ELEMENTS {
        return Err(format!(
            "its schema has more than {MAX_SCHEMA_ELEMENTS} elements"
        ));
    }
    // How many children each group that is open still waits for, and the bytes of its path.
    let mut open: Vec<(i64, usize)> = Vec::new();
    let mut path_bytes = 0_usize;
    for element in elements {
        if element.children < 0 || element.children.unsigned_abs() > elements.len() as u64 {
            return Err("its schema is damaged".to_owned());
        }
        let around = open.last_mut().map_or(0, |(waiting, bytes)| {
            *waiting -= 1;
            *bytes
        });
        let path = around + element.name_bytes;
        if element.children == 0 {
            path_bytes += path;
        }
        if path_bytes > MAX_NAME_BYTES {
            return Err(format!(
                "the names of its columns have more than {MAX_NAME_BYTES} bytes"
            ));
        }
        open.push((element.children, path));
        while open.last().is_some_and(|(waiting, _)| *waiting == 0) {
            open.pop();
        }
        if open.len() > MAX_SCHEMA_DEPTH {
            return Err(format!(
                "its columns are nested deeper than {MAX_SCHEMA_DEPTH} levels"
            ));
        }
    }
    Ok(path_bytes as u64)
}

fn broken(path: &str, error: &dyn std::fmt::Display) -> TableError {
    unreadable(path, &one_line(&error.to_string()))
}

#[cfg(test)]
#[path = "parquet_tests.rs"]
mod tests;
