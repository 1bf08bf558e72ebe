//! Arrays in files: how those of one file become tables, and how their elements are read.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use trainshed_core::text::{one_line, shortened};

use crate::error::unreadable;
use crate::value::{Cell, ElementType};
use crate::{
    Column, ColumnKind, MAX_COLUMNS, ROWS_PER_CHECK, Reader, Sink, Source, Table, TableError, npz,
    safetensors,
};

/// How many bytes of a row are handed over at one time.
const CHUNK_BYTES: usize = 64 << 10;
/// Most dimensions of a tensor, rows included.
const MAX_RANK: usize = 8;
/// More elements than any tensor has.
const MAX_ELEMENTS: u64 = 1 << 48;
/// Bytes of memory that a byte of a safetensors header takes: `0,` becomes a size of 8 bytes.
const MEMORY_PER_HEADER_BYTE: u64 = 8;
/// Longest text of an array of texts.
const MAX_TEXT_BYTES: usize = 1 << 20;

/// An array whose elements can be read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Array {
    pub(crate) items: Items,
    pub(crate) big_endian: bool,
    /// The first index varies fastest, not the last.
    pub(crate) fortran: bool,
    pub(crate) rows: u64,
    /// Elements of one row.
    pub(crate) per_row: u64,
    pub(crate) place: Place,
}

/// What the elements are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Items {
    Numbers(ElementType),
    /// Texts of this many UTF-8 bytes, padded with zeros.
    Utf8(usize),
    /// Texts of this many UTF-32 characters, padded with zeros.
    Utf32(usize),
    /// They cannot be loaded.
    Opaque,
}

/// Where the elements are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the file, from this byte on.
    At(u64),
    /// In an entry of a zip archive, behind a header of so many bytes.
    Zipped { index: usize, header: u64 },
}

/// An array of a file.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: String,
    /// The element type as the file names it.
    pub(crate) element: String,
    pub(crate) shape: Vec<u64>,
    pub(crate) items: Items,
    pub(crate) big_endian: bool,
    pub(crate) fortran: bool,
    pub(crate) place: Place,
}

impl Entry {
    /// The first dimension; a scalar is one row.
    fn rows(&self) -> u64 {
        self.shape.first().copied().unwrap_or(1)
    }

    fn column(self, path: &str) -> Result<(Column, Array), TableError> {
        let rows = self.rows();
        let shape: Vec<u64> = self.shape.iter().skip(1).copied().collect();
        let per_row = shape
            .iter()
            .try_fold(1_u64, |count, &size| count.checked_mul(size));
        let elements = per_row.and_then(|per_row| per_row.checked_mul(rows.max(1)));
        let Some(per_row) = per_row.filter(|_| elements.is_some_and(|count| count < MAX_ELEMENTS))
        else {
            let name = shortened(&one_line(&self.name), 80);
            let shape = &self.shape;
            let message = format!("the array `{name}` of shape {shape:?} is too large");
            return Err(unreadable(path, &message));
        };
        let kind = match self.items {
            _ if self.shape.len() > MAX_RANK => ColumnKind::Other,
            Items::Numbers(_) if !shape.is_empty() => ColumnKind::Array,
            Items::Numbers(element) if element.is_float() => ColumnKind::Number,
            Items::Numbers(_) => ColumnKind::Integer,
            Items::Utf8(_) | Items::Utf32(_) if shape.is_empty() => ColumnKind::Text,
            Items::Utf8(_) | Items::Utf32(_) | Items::Opaque => ColumnKind::Other,
        };
        let array = Array {
            items: self.items,
            big_endian: self.big_endian,
            fortran: self.fortran && shape.iter().any(|&size| size != 1),
            rows,
            per_row,
            place: self.place,
        };
        let column = Column {
            name: self.name,
            kind,
            element: self.element,
            shape: if kind == ColumnKind::Array {
                shape
            } else {
                Vec::new()
            },
        };
        Ok((column, array))
    }
}

/// Makes tables of the arrays of one file: those of the commonest length (of the greatest, if
/// several are as common) are columns of one table, every other is a table of its own.
pub(crate) fn tables(path: &str, entries: Vec<Entry>) -> Result<Vec<Table>, TableError> {
    if entries.len() > MAX_COLUMNS {
        let message = format!(
            "it has {} arrays, but it may have at most {MAX_COLUMNS}",
            entries.len()
        );
        return Err(unreadable(path, &message));
    }
    let mut lengths: BTreeMap<u64, usize> = BTreeMap::new();
    for entry in &entries {
        *lengths.entry(entry.rows()).or_default() += 1;
    }
    let commonest = lengths
        .iter()
        .max_by_key(|(length, count)| (**count, **length));
    let Some(rows) = commonest.map(|(length, _)| *length) else {
        return Err(unreadable(path, "it has no arrays"));
    };
    let mut columns = Vec::new();
    let mut arrays = Vec::new();
    let mut others = Vec::new();
    for entry in entries {
        let (column, array) = entry.column(path)?;
        if array.rows == rows {
            columns.push(column);
            arrays.push(array);
        } else {
            others.push(Table {
                path: format!("{path}/{}", column.name),
                rows: array.rows,
                columns: vec![column],
                source: Source::Arrays(PathBuf::from(path), vec![array]),
            });
        }
    }
    let mut tables = vec![Table {
        path: path.to_owned(),
        rows,
        columns,
        source: Source::Arrays(PathBuf::from(path), arrays),
    }];
    tables.append(&mut others);
    Ok(tables)
}

/// The tables of a `.safetensors` file.
pub(crate) fn survey_safetensors(reader: &Reader, path: &str) -> Result<Vec<Table>, TableError> {
    let broken = |error: std::io::Error| unreadable(path, &error.to_string());
    let file = File::open(reader.path(path)).map_err(broken)?;
    let header_bytes = safetensors::header_bytes(&file).map_err(broken)?;
    let _parsed = reader.reserve(header_bytes * MEMORY_PER_HEADER_BYTE)?;
    let (metadata, start) = safetensors::read_header(&file).map_err(broken)?;
    let mut tensors: Vec<_> = metadata.tensors().into_iter().collect();
    tensors.sort_by(|(a, _), (b, _)| a.cmp(b));
    let entries = tensors.into_iter().map(|(name, info)| {
        let element = format!("{:?}", info.dtype).to_lowercase();
        let items = ElementType::parse(&element).map_or(Items::Opaque, Items::Numbers);
        Entry {
            name,
            element,
            shape: info.shape.iter().map(|&size| size as u64).collect(),
            items,
            big_endian: false,
            fortran: false,
            place: Place::At(start + info.data_offsets.0 as u64),
        }
    });
    tables(path, entries.collect())
}

/// Hands over the columns at `places`, one after the other.
pub(crate) fn each(
    reader: &Reader,
    table: &Table,
    file: &Path,
    arrays: &[Array],
    places: &[usize],
    sink: &mut Sink,
) -> Result<(), TableError> {
    let broken = |error: std::io::Error| unreadable(&table.path, &error.to_string());
    let path = reader.folder.join(file);
    for (index, place) in places.iter().enumerate() {
        let Some(array) = arrays.get(*place) else {
            continue;
        };
        let column = &table.columns[*place];
        let mut take = |input: &mut dyn Read| {
            let to = Target {
                table,
                column,
                index,
            };
            array.each(reader, to, input, sink)
        };
        match array.place {
            Place::At(start) => {
                let mut file = File::open(&path).map_err(broken)?;
                file.seek(SeekFrom::Start(start)).map_err(broken)?;
                take(&mut BufReader::with_capacity(CHUNK_BYTES, file))?;
            }
            Place::Zipped {
                index: entry,
                header,
            } => {
                let refused = |message: String| unreadable(&table.path, &message);
                let mut contents = npz::contents(&path).map_err(refused)?;
                let mut input = npz::entry(&path, entry, &mut contents).map_err(refused)?;
                std::io::copy(&mut (&mut input).take(header), &mut std::io::sink())
                    .map_err(broken)?;
                take(&mut BufReader::with_capacity(CHUNK_BYTES, input))?;
            }
        }
    }
    Ok(())
}

/// The column that an array's elements are handed over as.
#[derive(Clone, Copy)]
struct Target<'a> {
    table: &'a Table,
    column: &'a Column,
    /// Its place among the columns asked for.
    index: usize,
}

impl Array {
    fn each(
        &self,
        reader: &Reader,
        to: Target,
        input: &mut dyn Read,
        sink: &mut Sink,
    ) -> Result<(), TableError> {
        match self.items {
            Items::Opaque => {
                let message = format!(
                    "the column `{}` ({}) cannot be loaded",
                    shortened(&one_line(&to.column.name), 80),
                    shortened(&one_line(&to.column.element), 80)
                );
                Err(unreadable(&to.table.path, &message))
            }
            Items::Numbers(element) if self.fortran => {
                self.each_transposed(reader, to, element, input, sink)
            }
            Items::Numbers(element) => self.each_row(reader, to, element, input, sink),
            Items::Utf8(size) => self.each_text(reader, to, size, input, sink),
            Items::Utf32(size) => self.each_text(reader, to, size * 4, input, sink),
        }
    }

    fn each_row(
        &self,
        reader: &Reader,
        to: Target,
        element: ElementType,
        input: &mut dyn Read,
        sink: &mut Sink,
    ) -> Result<(), TableError> {
        let per_row = usize::try_from(self.per_row).unwrap_or(usize::MAX);
        let most = CHUNK_BYTES / element.size();
        let mut buffer = vec![0; per_row.min(most) * element.size()];
        for row in 0..self.rows {
            let mut first = 0;
            if row.is_multiple_of(ROWS_PER_CHECK) {
                reader.go_on(&to.table.path)?;
            }
            while first < per_row {
                let count = most.min(per_row - first);
                let chunk = &mut buffer[..count * element.size()];
                self.read(to.table, element, input, chunk)?;
                let cell = Cell::Elements {
                    first,
                    of: element,
                    bytes: chunk,
                };
                if !sink(row, to.index, cell)? {
                    return Ok(());
                }
                first += count;
                if per_row > most {
                    reader.go_on(&to.table.path)?;
                }
            }
        }
        Ok(())
    }

    /// The file has the rows of one element after the other; the elements of a row come with
    /// their first index varying fastest.
    fn each_transposed(
        &self,
        reader: &Reader,
        to: Target,
        element: ElementType,
        input: &mut dyn Read,
        sink: &mut Sink,
    ) -> Result<(), TableError> {
        let shape: Vec<usize> = to
            .column
            .shape
            .iter()
            .map(|&size| usize::try_from(size).unwrap_or(usize::MAX))
            .collect();
        let mut position = vec![0; shape.len()];
        let mut bytes = [0; 8];
        let bytes = &mut bytes[..element.size()];
        if self.rows == 0 {
            return Ok(());
        }
        for _ in 0..self.per_row {
            let places = position.iter().zip(&shape);
            let first = places.fold(0, |place, (index, size)| place * size + index);
            reader.go_on(&to.table.path)?;
            for row in 0..self.rows {
                self.read(to.table, element, input, bytes)?;
                let cell = Cell::Elements {
                    first,
                    of: element,
                    bytes,
                };
                if !sink(row, to.index, cell)? {
                    return Ok(());
                }
            }
            for (index, size) in position.iter_mut().zip(&shape) {
                *index += 1;
                if *index < *size {
                    break;
                }
                *index = 0;
            }
        }
        Ok(())
    }

    fn each_text(
        &self,
        reader: &Reader,
        to: Target,
        size: usize,
        input: &mut dyn Read,
        sink: &mut Sink,
    ) -> Result<(), TableError> {
        if size > MAX_TEXT_BYTES {
            let message =
                format!("its texts have {size} bytes, but they may have at most {MAX_TEXT_BYTES}");
            return Err(unreadable(&to.table.path, &message));
        }
        let mut bytes = vec![0; size];
        for row in 0..self.rows {
            if row.is_multiple_of(ROWS_PER_CHECK) {
                reader.go_on(&to.table.path)?;
            }
            input
                .read_exact(&mut bytes)
                .map_err(|error| unreadable(&to.table.path, &error.to_string()))?;
            let text = match self.items {
                Items::Utf32(_) => self.utf32(&bytes),
                _ => std::str::from_utf8(&bytes).ok().map(str::to_owned),
            };
            let Some(text) = text else {
                let message = format!("row {}: the text is not Unicode", row + 1);
                return Err(unreadable(&to.table.path, &message));
            };
            if !sink(row, to.index, Cell::Text(text.trim_end_matches('\0')))? {
                return Ok(());
            }
        }
        Ok(())
    }

    fn utf32(&self, bytes: &[u8]) -> Option<String> {
        let characters = bytes.chunks_exact(4).map(|bytes| {
            let bytes = [bytes[0], bytes[1], bytes[2], bytes[3]];
            char::from_u32(match self.big_endian {
                true => u32::from_be_bytes(bytes),
                false => u32::from_le_bytes(bytes),
            })
        });
        characters.collect()
    }

    /// Reads elements, and makes them little-endian.
    fn read(
        &self,
        table: &Table,
        element: ElementType,
        input: &mut dyn Read,
        bytes: &mut [u8],
    ) -> Result<(), TableError> {
        input.read_exact(bytes).map_err(|error| {
            let message = match error.kind() {
                std::io::ErrorKind::UnexpectedEof => {
                    "it ends before the last element that its header speaks of".to_owned()
                }
                _ => error.to_string(),
            };
            unreadable(&table.path, &message)
        })?;
        if self.big_endian {
            for element in bytes.chunks_exact_mut(element.size()) {
                element.reverse();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "arrays_tests.rs"]
mod tests;
