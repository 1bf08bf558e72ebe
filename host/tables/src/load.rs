//! Columns become tensors and texts.

use std::collections::{BTreeMap, HashMap};

use trainshed_core::text::{one_line, shortened};
use trainshed_tensor::{DType, Tensor};

use crate::error::unreadable;
use crate::value::{Cell, Scalar, write_elements, write_written};
use crate::{
    Column, ColumnKind, ImageOptions, Reader, Sink, Source, Table, TableError, arrays, comma,
    images, json_lines, parquet,
};

/// Most texts of a vocabulary, and most bytes of them.
const MAX_CLASSES: usize = 100_000;
const MAX_CLASS_BYTES: usize = 16 << 20;
/// Most bytes of texts that are handed over at one time.
const MAX_TEXT_BYTES: usize = 64 << 20;

/// A column of texts as numbers.
#[derive(Debug, Clone)]
pub struct Classes {
    /// The texts that the numbers stand for, counted from 0.
    pub vocabulary: Vec<String>,
    /// `i32 [rows]`.
    pub indices: Tensor,
}

impl Reader<'_> {
    /// Reads columns of numbers into a tensor of shape `[rows, columns]`.
    ///
    /// # Errors
    /// See [`TableError`]; a value that `dtype` cannot hold exactly is unreadable, except that
    /// floating-point types round, and hold NaN where a file has no value.
    pub fn load(
        &self,
        table: &Table,
        columns: &[String],
        dtype: DType,
    ) -> Result<Tensor, TableError> {
        let names = table.columns.iter().map(|column| column.name.as_str());
        let known: HashMap<&str, usize> = names.zip(0..).collect();
        let mut places = Vec::with_capacity(columns.len());
        for name in columns {
            places.push(*known.get(name.as_str()).ok_or_else(|| unknown(name))?);
        }
        for &place in &places {
            let column = &table.columns[place];
            if !matches!(
                column.kind,
                ColumnKind::Integer | ColumnKind::Number | ColumnKind::Text
            ) {
                return Err(no_number(table, column));
            }
        }
        let shape = [table.rows, places.len() as u64];
        self.filled(table, &places, dtype, &shape, 1)
    }

    /// Reads one column of numbers or arrays into a tensor of shape `[rows, …shape]`.
    ///
    /// # Errors
    /// As [`Reader::load`].
    pub fn load_array(
        &self,
        table: &Table,
        column: &str,
        dtype: DType,
    ) -> Result<Tensor, TableError> {
        let place = place_of(table, column)?;
        let column = &table.columns[place];
        if matches!(column.kind, ColumnKind::Image | ColumnKind::Other) {
            return Err(no_number(table, column));
        }
        let shape: Vec<u64> = [&[table.rows], &column.shape[..]].concat();
        let mut sizes = column.shape.iter();
        let row = sizes.try_fold(1_usize, |count, &size| {
            count.checked_mul(usize::try_from(size).ok()?)
        });
        let row = row.ok_or_else(|| {
            let shape = &column.shape;
            let message = format!("a row of shape {shape:?} cannot be counted");
            unreadable(&table.path, &message)
        })?;
        self.filled(table, &[place], dtype, &shape, row)
    }

    /// Decodes a column of images into a tensor `u8 [rows, height, width, channels]`.
    ///
    /// # Errors
    /// See [`TableError`]; images that differ, where `options` do not say what they are to
    /// become, are unreadable, and the text names two of them.
    pub fn load_images(
        &self,
        table: &Table,
        column: &str,
        options: ImageOptions,
    ) -> Result<Tensor, TableError> {
        let place = place_of(table, column)?;
        match &table.source {
            Source::Images(folder, entries) if place == 0 => {
                images::load(self, table, folder, entries, options)
            }
            _ => {
                let message = format!("the column `{}` has no images", for_people(column, 80));
                Err(unreadable(&table.path, &message))
            }
        }
    }

    /// Reads a column of texts as numbers: each text's place in `vocabulary` or, without one,
    /// in the sorted list of all that the column has.
    ///
    /// # Errors
    /// See [`TableError`]; a text that the vocabulary lacks is unreadable.
    pub fn load_classes(
        &self,
        table: &Table,
        column: &str,
        vocabulary: Option<Vec<String>>,
    ) -> Result<Classes, TableError> {
        let place = place_of(table, column)?;
        // What could not be numbered is not read either: a small file can claim many rows.
        drop(self.reserve(table.rows.saturating_mul(DType::I32.size() as u64))?);
        let vocabulary = match vocabulary {
            Some(vocabulary) => vocabulary,
            None => self.vocabulary(table, place)?,
        };
        let numbers: HashMap<&str, i32> = vocabulary.iter().map(String::as_str).zip(0..).collect();
        let mut filled = Ok(());
        let indices = Tensor::build(DType::I32, &[table.rows], self.budget, |bytes| {
            let mut places = bytes.chunks_exact_mut(4);
            let mut rows = 0;
            filled = self
                .each_text(table, place, &mut |row, text| {
                    let Some(number) = numbers.get(text) else {
                        let text = for_people(text, 80);
                        let message = format!("`{text}` is not one of the classes asked for");
                        return Err(at(table, row, &table.columns[place], &message));
                    };
                    let cell = places.next().ok_or_else(|| changed(table))?;
                    cell.copy_from_slice(&number.to_le_bytes());
                    rows += 1;
                    Ok(true)
                })
                .and_then(|()| match rows == table.rows {
                    true => Ok(()),
                    false => Err(changed(table)),
                });
        })?;
        filled?;
        Ok(Classes {
            vocabulary,
            indices,
        })
    }

    /// The texts of a column from the row `first` on, counted from 0: `count` of them, or those
    /// that there are. What lies before is read too.
    ///
    /// # Errors
    /// See [`TableError`]; texts of more than 64 MiB are unreadable.
    pub fn texts(
        &self,
        table: &Table,
        column: &str,
        first: u64,
        count: u64,
    ) -> Result<Vec<String>, TableError> {
        let place = place_of(table, column)?;
        let end = first.saturating_add(count).min(table.rows);
        let mut texts = Vec::new();
        if first >= end {
            return Ok(texts);
        }
        let mut bytes = 0;
        self.each_text(table, place, &mut |row, text| {
            if row < first {
                return Ok(true);
            }
            bytes += text.len() + size_of::<String>();
            if bytes > MAX_TEXT_BYTES {
                let message =
                    format!("the texts have more than {MAX_TEXT_BYTES} bytes: ask for fewer rows");
                return Err(at(table, row, &table.columns[place], &message));
            }
            texts.push(text.to_owned());
            Ok(row + 1 < end)
        })?;
        Ok(texts)
    }

    /// All texts of a column, sorted.
    fn vocabulary(&self, table: &Table, place: usize) -> Result<Vec<String>, TableError> {
        let mut known = BTreeMap::new();
        let mut bytes = 0;
        self.each_text(table, place, &mut |row, text| {
            if known.contains_key(text) {
                return Ok(true);
            }
            bytes += text.len();
            if known.len() == MAX_CLASSES || bytes > MAX_CLASS_BYTES {
                let message = format!(
                    "it has more than {MAX_CLASSES} different values, or more than {MAX_CLASS_BYTES} bytes of them: it is not a column of classes"
                );
                return Err(at(table, row, &table.columns[place], &message));
            }
            known.insert(text.to_owned(), ());
            Ok(true)
        })?;
        Ok(known.into_keys().collect())
    }

    /// Hands over the values of one column as texts. A number is written in decimal, a value
    /// that the file does not have is empty.
    fn each_text(
        &self,
        table: &Table,
        place: usize,
        take: &mut dyn FnMut(u64, &str) -> Result<bool, TableError>,
    ) -> Result<(), TableError> {
        let column = &table.columns[place];
        if !matches!(
            column.kind,
            ColumnKind::Integer | ColumnKind::Number | ColumnKind::Text
        ) {
            let name = for_people(&column.name, 80);
            let kind = &column.element;
            let message = format!("the column `{name}` has no texts, but {kind}");
            return Err(unreadable(&table.path, &message));
        }
        self.each(table, &[place], &mut |row, _, cell| match cell {
            Cell::Missing => take(row, ""),
            Cell::Text(text) => take(row, text),
            Cell::Written(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => take(row, text),
                Err(_) => Err(at(table, row, column, "the text is not UTF-8")),
            },
            Cell::Scalar(value) => take(row, &value.to_string()),
            Cell::Elements { of, bytes, .. } => take(row, &of.read(bytes).to_string()),
        })
    }

    /// A tensor of `row` elements per row and column.
    fn filled(
        &self,
        table: &Table,
        places: &[usize],
        dtype: DType,
        shape: &[u64],
        row: usize,
    ) -> Result<Tensor, TableError> {
        let mut filled = Ok(());
        let tensor = Tensor::build(dtype, shape, self.budget, |bytes| {
            filled = self.fill(table, places, dtype, row, bytes);
        })
        .map_err(|error| match TableError::from(error) {
            TableError::Unreadable(message) => unreadable(&table.path, &message),
            other => other,
        })?;
        filled?;
        Ok(tensor)
    }

    fn fill(
        &self,
        table: &Table,
        places: &[usize],
        dtype: DType,
        per_row: usize,
        output: &mut [u8],
    ) -> Result<(), TableError> {
        let size = dtype.size();
        let row_bytes = per_row * size * places.len();
        let wanted = output.len() / size;
        let mut written = 0;
        if output.is_empty() {
            return Ok(());
        }
        self.each(table, places, &mut |row, index, cell| {
            let first = usize::try_from(row).unwrap_or(usize::MAX);
            let first = first.saturating_mul(row_bytes) + index * per_row * size;
            let range = |from: usize, count: usize| {
                let start = first.saturating_add(from.saturating_mul(size));
                start..start.saturating_add(count.saturating_mul(size))
            };
            let column = &table.columns[places[index]];
            let misfit = |value: &str| {
                let value = for_people(value, 40);
                at(
                    table,
                    row,
                    column,
                    &format!("`{value}` is not a value of type {dtype}"),
                )
            };
            match cell {
                Cell::Elements { first, of, bytes } => {
                    let count = bytes.len() / of.size();
                    if first + count > per_row {
                        return Err(changed(table));
                    }
                    let place = output
                        .get_mut(range(first, count))
                        .ok_or_else(|| changed(table))?;
                    write_elements(of, bytes, dtype, place)
                        .map_err(|(_, value)| misfit(&value.to_string()))?;
                    written += count;
                }
                _ if per_row != 1 => {
                    return Err(at(table, row, column, "it has no array there"));
                }
                Cell::Missing => {
                    let place = output.get_mut(range(0, 1)).ok_or_else(|| changed(table))?;
                    if !Scalar::Number(f64::NAN).write(dtype, place) {
                        let message = format!("it has no value, which {dtype} cannot express");
                        return Err(at(table, row, column, &message));
                    }
                    written += 1;
                }
                Cell::Text(text) => return Err(misfit(text)),
                Cell::Written(text) => {
                    let place = output.get_mut(range(0, 1)).ok_or_else(|| changed(table))?;
                    if !write_written(text, dtype, place) {
                        return Err(misfit(&String::from_utf8_lossy(text)));
                    }
                    written += 1;
                }
                Cell::Scalar(value) => {
                    let place = output.get_mut(range(0, 1)).ok_or_else(|| changed(table))?;
                    if !value.write(dtype, place) {
                        return Err(misfit(&value.to_string()));
                    }
                    written += 1;
                }
            }
            Ok(true)
        })?;
        if written != wanted {
            return Err(changed(table));
        }
        Ok(())
    }

    /// Hands the columns at `places` to `sink`, in whatever order suits the file; within one
    /// column, rows come in order.
    fn each(&self, table: &Table, places: &[usize], sink: &mut Sink) -> Result<(), TableError> {
        match &table.source {
            Source::Comma => comma::each(self, table, places, sink),
            Source::JsonLines => json_lines::each(self, table, places, sink),
            Source::Parquet => parquet::each(self, table, places, sink),
            Source::Arrays(file, arrays) => arrays::each(self, table, file, arrays, places, sink),
            Source::Images(_, entries) => images::each(entries, places, sink),
        }
    }
}

fn place_of(table: &Table, column: &str) -> Result<usize, TableError> {
    let mut columns = table.columns.iter();
    columns
        .position(|known| known.name == column)
        .ok_or_else(|| unknown(column))
}

fn unknown(column: &str) -> TableError {
    TableError::UnknownColumn(shortened(column, 200))
}

fn no_number(table: &Table, column: &Column) -> TableError {
    let name = for_people(&column.name, 80);
    let advice = match column.kind {
        ColumnKind::Array => "has arrays, which are loaded one column at a time",
        ColumnKind::Image => "has images, which are decoded by `load-images`",
        _ => "cannot be loaded",
    };
    let element = for_people(&column.element, 80);
    unreadable(
        &table.path,
        &format!("the column `{name}` ({element}) {advice}"),
    )
}

fn at(table: &Table, row: u64, column: &Column, message: &str) -> TableError {
    let name = for_people(&column.name, 80);
    let row = row + 1;
    unreadable(
        &table.path,
        &format!("row {row}, column `{name}`: {message}"),
    )
}

fn changed(table: &Table) -> TableError {
    unreadable(
        &table.path,
        "it has not as many values as its first reading found",
    )
}

/// `text` on one line, and not too long.
fn for_people(text: &str, chars: usize) -> String {
    shortened(&one_line(text), chars)
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
