//! Folders of images.
//!
//! All images whose folders lie in one folder are a table: `train/cat/1.png` and
//! `train/dog/1.png` are rows of `train`, with the labels `cat` and `dog`.

use std::io::{BufReader, Cursor, Read};
use std::path::{Path, PathBuf};

use image::codecs::jpeg::JpegDecoder;
use image::codecs::png::PngDecoder;
use image::imageops::FilterType;
use image::{ColorType, DynamicImage, ImageDecoder, ImageResult, Limits};
use trainshed_core::text::{one_line, shortened};
use trainshed_tensor::{DType, Reservation, Tensor};

use crate::error::unreadable;
use crate::value::Cell;
use crate::{Column, ColumnKind, Reader, Sink, Source, Table, TableError};

/// Largest file of an image.
const MAX_FILE_BYTES: u64 = 256 << 20;
/// Most bytes that what stands beside the pixels, as a colour profile, takes, or a line of them.
const MAX_EXTRA_BYTES: u64 = 16 << 20;
/// Most pixels of an image.
const MAX_PIXELS: u64 = 1 << 27;
/// Bytes that decoding takes per pixel at most: the decoder's own and the converted ones, both
/// with four channels of two bytes.
const MEMORY_PER_PIXEL: u64 = 16;
/// Bytes that resizing takes per pixel of its intermediate image: four channels of four bytes.
const RESIZE_MEMORY_PER_PIXEL: u64 = 16;
/// How many images are read between two looks at the stop flag.
const IMAGES_PER_CHECK: usize = 16;

/// What images are made into when they are loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct ImageOptions {
    /// Height and width. Without it all images must have one size.
    pub size: Option<(u32, u32)>,
    /// 1 (grey), 3 (red, green, blue) or 4 (and opacity). Without it all images must have as
    /// many.
    pub channels: Option<u32>,
}

/// An image of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Below the table's folder.
    file: String,
    label: String,
}

/// Height, width and channels.
type Shape = (u32, u32, u32);

/// The path of the table that the image at `path` belongs to.
pub(crate) fn table_of(path: &str) -> &str {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    match folder.rsplit_once('/') {
        Some((parent, _)) => parent,
        None => ".",
    }
}

/// The table of the images at `paths`, which all belong to `table`. Reads their headers.
pub(crate) fn survey(
    reader: &Reader,
    table: &str,
    mut paths: Vec<String>,
) -> Result<Table, TableError> {
    paths.sort();
    let mut shape: Option<Option<Shape>> = None;
    let folder = if table == "." { "" } else { table };
    let below = if folder.is_empty() {
        0
    } else {
        folder.len() + 1
    };
    let mut entries = Vec::with_capacity(paths.len());
    for (index, path) in paths.iter().enumerate() {
        if index.is_multiple_of(IMAGES_PER_CHECK) {
            reader.go_on(path)?;
        }
        let found = Opened::open(reader, path)?.shape;
        shape = match shape {
            None => Some(Some(found)),
            Some(known) => Some(known.filter(|known| *known == found)),
        };
        let file = path[below..].to_owned();
        let label = file.split_once("/").map_or("", |(label, _)| label);
        entries.push(Entry {
            label: label.to_owned(),
            file,
        });
    }
    let shape = shape
        .flatten()
        .map_or(Vec::new(), |(height, width, channels)| {
            vec![height.into(), width.into(), channels.into()]
        });
    let text = |name: &str| Column {
        name: name.to_owned(),
        kind: ColumnKind::Text,
        element: "text".to_owned(),
        shape: Vec::new(),
    };
    let image = Column {
        name: "image".to_owned(),
        kind: ColumnKind::Image,
        element: "u8".to_owned(),
        shape,
    };
    Ok(Table {
        path: table.to_owned(),
        rows: entries.len() as u64,
        columns: vec![image, text("label"), text("file")],
        source: Source::Images(PathBuf::from(folder), entries),
    })
}

/// Hands over labels and file names.
pub(crate) fn each(entries: &[Entry], places: &[usize], sink: &mut Sink) -> Result<(), TableError> {
    for (row, entry) in (0..).zip(entries) {
        for (index, place) in places.iter().enumerate() {
            let text = if *place == 1 {
                &entry.label
            } else {
                &entry.file
            };
            if !sink(row, index, Cell::Text(text))? {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Decodes all images of a table into a tensor `u8 [rows, height, width, channels]`.
pub(crate) fn load(
    reader: &Reader,
    table: &Table,
    folder: &Path,
    entries: &[Entry],
    options: ImageOptions,
) -> Result<Tensor, TableError> {
    let path_of = |entry: &Entry| match folder.to_str() {
        Some("") | None => entry.file.clone(),
        Some(folder) => format!("{folder}/{}", entry.file),
    };
    let wanted = wanted(reader, table, entries, options, &path_of)?;
    let (height, width, channels) = wanted;
    let row_bytes = height as usize * width as usize * channels as usize;
    let shape = [table.rows, height.into(), width.into(), channels.into()];
    let mut filled = Ok(());
    let tensor = Tensor::build(DType::U8, &shape, reader.budget, |bytes| {
        if row_bytes == 0 {
            return;
        }
        let rows = bytes.chunks_exact_mut(row_bytes);
        for (index, (row, entry)) in rows.zip(entries).enumerate() {
            let path = path_of(entry);
            filled = decode(reader, &path, wanted, options, row);
            if index.is_multiple_of(IMAGES_PER_CHECK) {
                filled = filled.clone().and_then(|()| reader.go_on(&path));
            }
            if filled.is_err() {
                return;
            }
        }
    })?;
    filled?;
    Ok(tensor)
}

/// The shape that all images get; an error that names two that differ.
fn wanted(
    reader: &Reader,
    table: &Table,
    entries: &[Entry],
    options: ImageOptions,
    path_of: &dyn Fn(&Entry) -> String,
) -> Result<Shape, TableError> {
    let bad = |message: &str| unreadable(&table.path, message);
    if let Some(channels) = options
        .channels
        .filter(|channels| ![1, 3, 4].contains(channels))
    {
        return Err(bad(&format!(
            "images can have 1, 3 or 4 channels, but {channels} are wanted"
        )));
    }
    if let Some((height, width)) = options.size {
        let pixels = u64::from(height) * u64::from(width);
        if pixels == 0 || pixels > MAX_PIXELS {
            return Err(bad(&format!(
                "images can have 1 to {MAX_PIXELS} pixels, but {height} x {width} are wanted"
            )));
        }
    }
    if let (Some((height, width)), Some(channels)) = (options.size, options.channels) {
        return Ok((height, width, channels));
    }
    let mut first: Option<(String, Shape)> = None;
    for (index, entry) in entries.iter().enumerate() {
        let path = path_of(entry);
        if index.is_multiple_of(IMAGES_PER_CHECK) {
            reader.go_on(&path)?;
        }
        let (height, width, channels) = Opened::open(reader, &path)?.shape;
        let (height, width) = options.size.unwrap_or((height, width));
        let found = (height, width, options.channels.unwrap_or(channels));
        let (other_path, other) = first.get_or_insert_with(|| (path.clone(), found));
        if *other != found {
            let named = |path: &str, (height, width, channels): Shape| {
                let path = shortened(&one_line(path), 200);
                format!("`{path}` has {height} x {width} pixels and {channels} channels")
            };
            return Err(bad(&format!(
                "{}, but {}: say which size and channels all are to have",
                named(other_path, *other),
                named(&path, found)
            )));
        }
    }
    Ok(first.map_or((0, 0, 0), |(_, shape)| shape))
}

fn decode(
    reader: &Reader,
    path: &str,
    wanted: Shape,
    options: ImageOptions,
    row: &mut [u8],
) -> Result<(), TableError> {
    let (height, width, channels) = wanted;
    let opened = Opened::open(reader, path)?;
    let found = opened.shape;
    let pixels = u64::from(found.0) * u64::from(found.1);
    let _decoded = reader.reserve(pixels * MEMORY_PER_PIXEL)?;
    let mut image = opened
        .decode()
        .map_err(|error| unreadable(path, &one_line(&error.to_string())))?;
    if (found.0, found.1) != (height, width) {
        if options.size.is_none() {
            return Err(unreadable(path, "its size has changed while it was read"));
        }
        let between = u64::from(found.0.max(height)) * u64::from(found.1.max(width));
        let _resized = reader.reserve(between * RESIZE_MEMORY_PER_PIXEL)?;
        // As libraries for images do: each pixel is the mean of those below a tent of the
        // width of the reduction.
        image = image.resize_exact(width, height, FilterType::Triangle);
    }
    let bytes = match channels {
        1 => image.into_luma8().into_raw(),
        2 => image.into_luma_alpha8().into_raw(),
        3 => image.into_rgb8().into_raw(),
        _ => image.into_rgba8().into_raw(),
    };
    if bytes.len() != row.len() {
        return Err(unreadable(path, "it has changed while it was read"));
    }
    row.copy_from_slice(&bytes);
    Ok(())
}

/// An image whose header was read.
struct Opened {
    shape: Shape,
    decoder: Decoder,
    /// The file's bytes.
    _charge: Reservation,
}

enum Decoder {
    Png(Box<PngDecoder<BufReader<Cursor<Vec<u8>>>>>),
    Jpeg(JpegDecoder<Cursor<Vec<u8>>>),
}

impl Opened {
    fn open(reader: &Reader, path: &str) -> Result<Self, TableError> {
        let broken = |message: &str| unreadable(path, &one_line(message));
        let io = |error: std::io::Error| broken(&error.to_string());
        let file = std::fs::File::open(reader.path(path)).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        if length > MAX_FILE_BYTES {
            return Err(broken(&format!(
                "it has {length} bytes, but an image may have at most {MAX_FILE_BYTES}"
            )));
        }
        let charge = reader.reserve(length)?;
        let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
        file.take(length).read_to_end(&mut bytes).map_err(io)?;
        // What a file is, its first bytes say; its name may be wrong.
        let is_png = bytes.starts_with(b"\x89PNG");
        let bytes = Cursor::new(bytes);
        let image_error = |error: image::ImageError| broken(&error.to_string());
        let decoder = if is_png {
            let mut limits = Limits::no_limits();
            limits.max_alloc = Some(MAX_EXTRA_BYTES);
            let decoder = PngDecoder::with_limits(BufReader::new(bytes), limits);
            Decoder::Png(Box::new(decoder.map_err(image_error)?))
        } else {
            Decoder::Jpeg(JpegDecoder::new(bytes).map_err(image_error)?)
        };
        let (width, height) = decoder.dimensions();
        let pixels = u64::from(width) * u64::from(height);
        if pixels == 0 || pixels > MAX_PIXELS {
            return Err(broken(&format!(
                "it has {width} x {height} pixels, but an image may have 1 to {MAX_PIXELS}"
            )));
        }
        let channels = u32::from(decoder.color_type().channel_count());
        Ok(Self {
            shape: (height, width, channels),
            decoder,
            _charge: charge,
        })
    }

    fn decode(self) -> ImageResult<DynamicImage> {
        let mut limits = Limits::no_limits();
        limits.max_alloc = Some(MAX_PIXELS * MEMORY_PER_PIXEL);
        match self.decoder {
            Decoder::Png(mut decoder) => {
                decoder.set_limits(limits)?;
                DynamicImage::from_decoder(*decoder)
            }
            Decoder::Jpeg(mut decoder) => {
                decoder.set_limits(limits)?;
                DynamicImage::from_decoder(decoder)
            }
        }
    }
}

impl Decoder {
    fn dimensions(&self) -> (u32, u32) {
        match self {
            Self::Png(decoder) => decoder.dimensions(),
            Self::Jpeg(decoder) => decoder.dimensions(),
        }
    }

    fn color_type(&self) -> ColorType {
        match self {
            Self::Png(decoder) => decoder.color_type(),
            Self::Jpeg(decoder) => decoder.color_type(),
        }
    }
}

#[cfg(test)]
#[path = "images_tests.rs"]
mod tests;
