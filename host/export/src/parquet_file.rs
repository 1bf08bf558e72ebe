//! Writing Parquet, one group of rows after the other.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use parquet::basic::{LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::Type;
use trainshed_core::query::{Cell, Kind};

use crate::{Column, ExportError, to_json};

/// Rows that wait for being written together: a group for every page would make files of
/// nothing but headers.
const GROUP_ROWS: usize = 10_000;
/// Cells that may wait, so that many columns do not mean much memory.
const GROUP_CELLS: usize = 200_000;

pub(crate) struct ParquetFile {
    writer: SerializedFileWriter<Sink>,
    written: Sink,
    kinds: Vec<Kind>,
    rows: Vec<Vec<Cell>>,
}

/// Where the file goes, as far as it has not been fetched.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Sink {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        written.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl ParquetFile {
    pub(crate) fn new(columns: &[Column]) -> Result<Self, ExportError> {
        let mut fields = Vec::new();
        for column in columns {
            let (physical, logical) = match column.kind {
                Kind::Integer => (Physical::INT64, None),
                Kind::Time => {
                    let timestamp = LogicalType::timestamp(true, TimeUnit::MILLIS);
                    (Physical::INT64, Some(timestamp))
                }
                Kind::Real => (Physical::DOUBLE, None),
                _ => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
            };
            let field = Type::primitive_type_builder(&column.name, physical)
                .with_repetition(Repetition::OPTIONAL)
                .with_logical_type(logical)
                .build()?;
            fields.push(Arc::new(field));
        }
        let schema = Type::group_type_builder("row")
            .with_fields(fields)
            .build()?;
        let written = Sink::default();
        let properties = Arc::new(WriterProperties::builder().build());
        Ok(Self {
            writer: SerializedFileWriter::new(written.clone(), Arc::new(schema), properties)?,
            written,
            kinds: columns.iter().map(|column| column.kind).collect(),
            rows: Vec::new(),
        })
    }

    pub(crate) fn write(&mut self, rows: &[Vec<Cell>]) -> Result<Vec<u8>, ExportError> {
        self.rows.extend_from_slice(rows);
        let most = GROUP_ROWS.min(GROUP_CELLS / self.kinds.len().max(1)).max(1);
        if self.rows.len() >= most {
            self.write_group()?;
        }
        Ok(self.written.take())
    }

    pub(crate) fn finish(mut self) -> Result<Vec<u8>, ExportError> {
        if !self.rows.is_empty() {
            self.write_group()?;
        }
        self.writer.close()?;
        Ok(self.written.take())
    }

    fn write_group(&mut self) -> Result<(), ExportError> {
        let rows = std::mem::take(&mut self.rows);
        let mut group = self.writer.next_row_group()?;
        for (index, kind) in self.kinds.iter().enumerate() {
            let cells = rows
                .iter()
                .map(|row| row.get(index).unwrap_or(&Cell::Missing));
            write_column(&mut group, *kind, cells)?;
        }
        group.close()?;
        Ok(())
    }
}

fn write_column<'a>(
    group: &mut SerializedRowGroupWriter<'_, Sink>,
    kind: Kind,
    cells: impl Iterator<Item = &'a Cell>,
) -> Result<(), ExportError> {
    let Some(mut column) = group.next_column()? else {
        return Ok(());
    };
    // 1 where there is a value, 0 where it is missing; only values are handed over.
    let mut levels = Vec::new();
    match kind {
        Kind::Integer | Kind::Time => {
            let numbers = present(cells, &mut levels, |cell| match cell {
                Cell::Integer(number) => Some(*number),
                _ => None,
            });
            let writer = column.typed::<Int64Type>();
            writer.write_batch(&numbers, Some(&levels), None)?;
        }
        Kind::Real => {
            let numbers = present(cells, &mut levels, |cell| match cell {
                Cell::Real(number) => Some(*number),
                _ => None,
            });
            let writer = column.typed::<DoubleType>();
            writer.write_batch(&numbers, Some(&levels), None)?;
        }
        _ => {
            let texts = present(cells, &mut levels, |cell| {
                let text = match cell {
                    Cell::Missing => return None,
                    Cell::Text(text) | Cell::Typed { text, .. } => text.clone(),
                    other => to_json(other).to_string(),
                };
                Some(ByteArray::from(text.into_bytes()))
            });
            let writer = column.typed::<ByteArrayType>();
            writer.write_batch(&texts, Some(&levels), None)?;
        }
    }
    column.close()?;
    Ok(())
}

fn present<'a, T>(
    cells: impl Iterator<Item = &'a Cell>,
    levels: &mut Vec<i16>,
    value: impl Fn(&Cell) -> Option<T>,
) -> Vec<T> {
    let mut values = Vec::new();
    for cell in cells {
        let value = value(cell);
        levels.push(i16::from(value.is_some()));
        values.extend(value);
    }
    values
}
