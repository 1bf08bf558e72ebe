//! Writing tables, arrays and images as files that NumPy, pandas and Pillow read.
//!
//! The same values give the same bytes: nothing here knows the time or a path. All write as they
//! go, so that whoever gives `out` can end them by an error.

use std::io::{self, Seek, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use half::{bf16, f16};
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};
use parquet::basic::{LogicalType, Repetition, Type as Physical};
use parquet::data_type::{
    BoolType, ByteArray, ByteArrayType, DoubleType, FloatType, Int32Type, Int64Type,
};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::Type;
use std::sync::Arc;
use trainshed_tensor::{DType, Tensor};
use zip::ZipWriter;

use crate::archive::{member_options, zip_error};

/// Cells that the writer of Parquet gathers before it writes a group of rows.
const GROUP_CELLS: usize = 1 << 20;
/// Most columns of all groups of rows together.
const MAX_CHUNKS: usize = 200_000;
/// Longest side of an image.
const MAX_SIDE: u32 = 1 << 14;

/// The values of a column that is written.
#[derive(Debug, Clone, Copy)]
pub enum Values<'a> {
    /// Whole numbers.
    Integers(&'a [i64]),
    /// Numbers; NaN and infinities are kept.
    Numbers(&'a [f64]),
    /// Texts.
    Texts(&'a [String]),
    /// Flags.
    Flags(&'a [bool]),
    /// The elements of a tensor of rank 1.
    Tensor(&'a Tensor),
}

/// A column that is written.
#[derive(Debug, Clone, Copy)]
pub struct NewColumn<'a> {
    /// Its header.
    pub name: &'a str,
    /// Its values.
    pub values: Values<'a>,
}

impl Values<'_> {
    /// How many there are; `None` for a tensor of another rank than 1.
    pub fn len(&self) -> Option<usize> {
        match self {
            Self::Integers(values) => Some(values.len()),
            Self::Numbers(values) => Some(values.len()),
            Self::Texts(values) => Some(values.len()),
            Self::Flags(values) => Some(values.len()),
            Self::Tensor(tensor) => match tensor.shape() {
                [length] => Some(*length),
                _ => None,
            },
        }
    }

    /// Whether there are none; `None` as with [`Values::len`].
    pub fn is_empty(&self) -> Option<bool> {
        self.len().map(|length| length == 0)
    }

    /// What a file that keeps types holds, e.g. `f32`.
    pub fn element_name(&self) -> &'static str {
        match self.element() {
            Element::Bool => "bool",
            Element::U8 => "u8",
            Element::U32 => "u32",
            Element::I32 => "i32",
            Element::I64 => "i64",
            Element::F32 => "f32",
            Element::F64 => "f64",
            Element::Text => "text",
        }
    }

    /// What the values are in a file.
    fn element(&self) -> Element {
        match self {
            Self::Integers(_) => Element::I64,
            Self::Numbers(_) => Element::F64,
            Self::Texts(_) => Element::Text,
            Self::Flags(_) => Element::Bool,
            Self::Tensor(tensor) => match tensor.dtype() {
                DType::F32 | DType::F16 | DType::Bf16 => Element::F32,
                DType::F64 => Element::F64,
                DType::I32 => Element::I32,
                DType::I64 => Element::I64,
                DType::U8 => Element::U8,
                DType::U32 => Element::U32,
                DType::Bool => Element::Bool,
            },
        }
    }

    /// One of them. There is one at every row that [`Values::len`] counts.
    fn value(&self, row: usize) -> Value<'_> {
        match self {
            Self::Integers(values) => Value::Integer(values[row]),
            Self::Numbers(values) => Value::F64(values[row]),
            Self::Texts(values) => Value::Text(&values[row]),
            Self::Flags(values) => Value::Flag(values[row]),
            Self::Tensor(tensor) => element(tensor, row),
        }
    }
}

/// What the values of a column are in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Element {
    Bool,
    U8,
    U32,
    I32,
    I64,
    F32,
    F64,
    Text,
}

/// One value.
#[derive(Debug, Clone, Copy)]
enum Value<'a> {
    Integer(i64),
    F32(f32),
    F64(f64),
    Flag(bool),
    Text(&'a str),
}

/// An element of a tensor of rank 1.
fn element(tensor: &Tensor, index: usize) -> Value<'static> {
    let bytes = tensor.bytes();
    match tensor.dtype() {
        DType::F32 => Value::F32(f32::from_le_bytes(at(bytes, index))),
        DType::F64 => Value::F64(f64::from_le_bytes(at(bytes, index))),
        DType::F16 => Value::F32(f16::from_le_bytes(at(bytes, index)).to_f32()),
        DType::Bf16 => Value::F32(bf16::from_le_bytes(at(bytes, index)).to_f32()),
        DType::I32 => Value::Integer(i32::from_le_bytes(at(bytes, index)).into()),
        DType::I64 => Value::Integer(i64::from_le_bytes(at(bytes, index))),
        DType::U8 => Value::Integer(bytes[index].into()),
        DType::U32 => Value::Integer(u32::from_le_bytes(at(bytes, index)).into()),
        DType::Bool => Value::Flag(bytes[index] != 0),
    }
}

/// The bytes of an element.
fn at<const N: usize>(bytes: &[u8], index: usize) -> [u8; N] {
    let mut element = [0; N];
    element.copy_from_slice(&bytes[index * N..][..N]);
    element
}

/// Writes a table as comma-separated values with a header (RFC 4180), compressed by gzip. All
/// columns have as many values.
///
/// Numbers are written so that they are read as the same ones; `NaN`, `inf` and `-inf` are what
/// pandas reads as such.
///
/// # Errors
/// When `out` fails.
pub fn csv_gz(columns: &[NewColumn<'_>], out: impl Write) -> io::Result<()> {
    let mut csv = csv::Writer::from_writer(GzEncoder::new(out, Compression::default()));
    csv.write_record(columns.iter().map(|column| column.name))?;
    for row in 0..rows(columns) {
        for column in columns {
            match column.values.value(row) {
                Value::Integer(value) => csv.write_field(value.to_string()),
                Value::F32(value) => csv.write_field(format!("{value:?}")),
                Value::F64(value) => csv.write_field(format!("{value:?}")),
                Value::Flag(value) => csv.write_field(if value { "True" } else { "False" }),
                Value::Text(text) => csv.write_field(text),
            }?;
        }
        csv.write_record(None::<&[u8]>)?;
    }
    let packed = csv.into_inner().map_err(|error| error.into_error())?;
    packed.finish()?.flush()
}

/// Writes a table as Parquet. All columns have as many values.
///
/// # Errors
/// When two columns have one name, or `out` fails.
pub fn parquet(columns: &[NewColumn<'_>], out: impl Write + Send) -> io::Result<()> {
    write_parquet(columns, out).map_err(|error| match error {
        ParquetError::External(source) => io::Error::other(source),
        other => io::Error::other(other),
    })
}

/// The most rows of a Parquet file with so many columns: what is known of each column of each
/// group of rows is in memory until the file is whole.
pub fn max_parquet_rows(columns: usize) -> usize {
    rows_of_group(columns).saturating_mul((MAX_CHUNKS / columns.max(1)).max(1))
}

fn rows_of_group(columns: usize) -> usize {
    (GROUP_CELLS / columns.max(1)).max(1)
}

fn write_parquet(columns: &[NewColumn<'_>], out: impl Write + Send) -> parquet::errors::Result<()> {
    let fields = columns.iter().map(|column| {
        let (physical, logical) = match column.values.element() {
            Element::Bool => (Physical::BOOLEAN, None),
            Element::U8 => (Physical::INT32, Some(LogicalType::integer(8, false))),
            Element::U32 => (Physical::INT32, Some(LogicalType::integer(32, false))),
            Element::I32 => (Physical::INT32, None),
            Element::I64 => (Physical::INT64, None),
            Element::F32 => (Physical::FLOAT, None),
            Element::F64 => (Physical::DOUBLE, None),
            Element::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        };
        let field = Type::primitive_type_builder(column.name, physical)
            .with_repetition(Repetition::REQUIRED)
            .with_logical_type(logical)
            .build()?;
        Ok(Arc::new(field))
    });
    let schema = Type::group_type_builder("row")
        .with_fields(fields.collect::<parquet::errors::Result<_>>()?)
        .build()?;
    let properties = Arc::new(WriterProperties::builder().build());
    let mut writer = SerializedFileWriter::new(out, Arc::new(schema), properties)?;
    let rows = rows(columns);
    let together = rows_of_group(columns.len());
    let mut from = 0;
    while from < rows {
        let to = rows.min(from + together);
        let mut group = writer.next_row_group()?;
        for column in columns {
            write_column(&mut group, column.values, from..to)?;
        }
        group.close()?;
        from = to;
    }
    writer.close()?;
    Ok(())
}

fn write_column<W: Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    values: Values<'_>,
    rows: std::ops::Range<usize>,
) -> parquet::errors::Result<()> {
    let Some(mut column) = group.next_column()? else {
        return Ok(());
    };
    let integer = |row| match values.value(row) {
        Value::Integer(value) => value,
        _ => 0,
    };
    match values.element() {
        Element::Bool => {
            let flag = |row| matches!(values.value(row), Value::Flag(true));
            let batch: Vec<bool> = rows.map(flag).collect();
            column.typed::<BoolType>().write_batch(&batch, None, None)?;
        }
        Element::U8 | Element::U32 | Element::I32 => {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "32 bits, of which those of unsigned numbers are kept as they are"
            )]
            let batch: Vec<i32> = rows.map(|row| integer(row) as i32).collect();
            column
                .typed::<Int32Type>()
                .write_batch(&batch, None, None)?;
        }
        Element::I64 => {
            let batch: Vec<i64> = rows.map(integer).collect();
            column
                .typed::<Int64Type>()
                .write_batch(&batch, None, None)?;
        }
        Element::F32 => {
            let number = |row| match values.value(row) {
                Value::F32(value) => value,
                _ => f32::NAN,
            };
            let batch: Vec<f32> = rows.map(number).collect();
            column
                .typed::<FloatType>()
                .write_batch(&batch, None, None)?;
        }
        Element::F64 => {
            let number = |row| match values.value(row) {
                Value::F64(value) => value,
                _ => f64::NAN,
            };
            let batch: Vec<f64> = rows.map(number).collect();
            column
                .typed::<DoubleType>()
                .write_batch(&batch, None, None)?;
        }
        Element::Text => {
            let text = |row| match values.value(row) {
                Value::Text(text) => ByteArray::from(text.as_bytes().to_vec()),
                _ => ByteArray::from(Vec::new()),
            };
            let batch: Vec<ByteArray> = rows.map(text).collect();
            column
                .typed::<ByteArrayType>()
                .write_batch(&batch, None, None)?;
        }
    }
    column.close()
}

fn rows(columns: &[NewColumn<'_>]) -> usize {
    let lengths = columns.iter().filter_map(|column| column.values.len());
    lengths.min().unwrap_or(0)
}

/// Writes arrays as NumPy's `savez_compressed` does, in their order; names end without `.npy`.
/// `bf16`, which NumPy does not have, becomes `f32`.
///
/// Source of the format: NumPy Enhancement Proposal 1, version 1.0.
///
/// # Errors
/// When two arrays have one name, or `out` fails.
pub fn npz(arrays: &[(&str, &Tensor)], out: impl Write + Seek) -> io::Result<()> {
    let mut archive = ZipWriter::new(out);
    for (name, array) in arrays {
        let options = member_options(array.bytes().len() as u64 * 2);
        archive
            .start_file(format!("{name}.npy"), options)
            .map_err(zip_error)?;
        write_npy(array, &mut archive)?;
    }
    archive.finish().map_err(zip_error)?.flush()
}

fn write_npy(array: &Tensor, out: &mut impl Write) -> io::Result<()> {
    let descr = match array.dtype() {
        DType::F32 | DType::Bf16 => "<f4",
        DType::F64 => "<f8",
        DType::F16 => "<f2",
        DType::I32 => "<i4",
        DType::I64 => "<i8",
        DType::U8 => "|u1",
        DType::U32 => "<u4",
        DType::Bool => "|b1",
    };
    let sizes: String = array
        .shape()
        .iter()
        .map(|size| format!("{size}, "))
        .collect();
    let sizes = match array.shape() {
        [_] => sizes.trim_end(),
        _ => sizes.trim_end_matches(", "),
    };
    let mut header =
        format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({sizes}), }}");
    // Magic, version and length take 10 bytes; elements begin at a multiple of 64.
    let end = (10 + header.len() + 1).next_multiple_of(64) - 11;
    header = format!("{header:end$}\n");
    let length = u16::try_from(header.len()).map_err(io::Error::other)?;
    out.write_all(b"\x93NUMPY\x01\x00")?;
    out.write_all(&length.to_le_bytes())?;
    out.write_all(header.as_bytes())?;
    if array.dtype() != DType::Bf16 {
        // In pieces, so that an end by the writer comes soon.
        return array
            .bytes()
            .chunks(1 << 20)
            .try_for_each(|piece| out.write_all(piece));
    }
    for piece in array.bytes().chunks(1 << 16) {
        let wide: Vec<u8> = (0..piece.len() / 2)
            .flat_map(|index| bf16::from_le_bytes(at(piece, index)).to_f32().to_le_bytes())
            .collect();
        out.write_all(&wide)?;
    }
    Ok(())
}

/// Writes a tensor `u8 [height, width]` or `u8 [height, width, 1 to 4 channels]` as PNG.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] with a sentence when it is no such tensor; otherwise what
/// `out` says.
pub fn png(image: &Tensor, out: impl Write) -> io::Result<()> {
    let refuse = |message: String| Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    let (height, width, channels) = match (image.dtype(), image.shape()) {
        (DType::U8, [height, width]) => (*height, *width, 1),
        (DType::U8, [height, width, channels]) => (*height, *width, *channels),
        (dtype, shape) => {
            let rule = "must be a tensor u8 [height, width] or u8 [height, width, channels]";
            return refuse(format!("{rule}, but it is {dtype} {shape:?}"));
        }
    };
    let color = match channels {
        1 => ExtendedColorType::L8,
        2 => ExtendedColorType::La8,
        3 => ExtendedColorType::Rgb8,
        4 => ExtendedColorType::Rgba8,
        _ => return refuse(format!("must have 1 to 4 channels, but it has {channels}")),
    };
    let side = |size: usize| {
        let size = u32::try_from(size).ok();
        size.filter(|size| (1..=MAX_SIDE).contains(size))
    };
    let (Some(high), Some(wide)) = (side(height), side(width)) else {
        return refuse(format!(
            "must have 1 to {MAX_SIDE} rows and columns, but it has {height} and {width}"
        ));
    };
    let written = PngEncoder::new(out).write_image(image.bytes(), wide, high, color);
    written.map_err(|error| match error {
        image::ImageError::IoError(error) => error,
        other => io::Error::other(other),
    })
}

#[cfg(test)]
#[path = "write_tests.rs"]
mod tests;
