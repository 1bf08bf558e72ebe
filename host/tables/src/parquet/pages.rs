//! The pages of one column chunk, handed to the `parquet` crate, which decodes their values.
//!
//! They are read and decompressed here, because the figures in their headers must be checked,
//! and charged, before memory is taken by them.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use parquet::basic::{Compression, Encoding};
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::ParquetError;
use trainshed_tensor::{Budget, Reservation};

use super::compact::{Broken, Compact, Kind};

/// Most bytes of a page, compressed or not. Writers make pages of about 1 MiB.
const MAX_PAGE_BYTES: u64 = 256 << 20;
/// Longest header of a page, statistics included.
const MAX_HEADER_BYTES: usize = 16 << 20;
/// What is read for a header at first.
const HEADER_BYTES: usize = 4096;
/// Bytes that an element of a list takes while it is decoded: its value and two levels, in
/// vectors that double when they grow.
const MEMORY_PER_LISTED: u64 = 32;
/// Bytes that a decoded dictionary takes per byte of its page: 32 for a text of 4.
const DICTIONARY_MEMORY_PER_BYTE: u64 = 8;

/// Reads the pages of one column chunk, one after the other.
pub(crate) struct Pages {
    pub(crate) file: File,
    /// Where the next page begins and the chunk ends.
    pub(crate) place: u64,
    pub(crate) end: u64,
    pub(crate) compression: Compression,
    /// Values that the chunk has, and that pages may still have.
    pub(crate) values_left: i64,
    pub(crate) budget: Budget,
    /// What the dictionary and the last page take.
    pub(crate) charges: [Option<Reservation>; 2],
    /// What the values of pages take when they are elements of lists.
    pub(crate) listed: Option<Listed>,
}

/// What the pages take that a list may be spread over. One list may have all values of a page,
/// and a page more values than bytes, so that each page's count is charged when it comes.
pub(crate) type Listed = Arc<Mutex<Vec<Reservation>>>;

/// What a page's header says.
#[derive(Debug, Default, Clone, Copy)]
struct Header {
    kind: i64,
    uncompressed: i64,
    compressed: i64,
    values: i64,
    encoding: i64,
    level_encodings: [i64; 2],
    nulls: i64,
    rows: i64,
    level_bytes: [i64; 2],
    is_plain: bool,
}

const DATA_PAGE: i64 = 0;
const INDEX_PAGE: i64 = 1;
const DICTIONARY_PAGE: i64 = 2;
const DATA_PAGE_V2: i64 = 3;

impl Header {
    fn read(input: &mut Compact) -> Result<Self, Broken> {
        let mut header = Self::default();
        input.fields(|input, number, kind| {
            match (number, kind) {
                (1, Kind::Integer) => header.kind = input.integer()?,
                (2, Kind::Integer) => header.uncompressed = input.integer()?,
                (3, Kind::Integer) => header.compressed = input.integer()?,
                (5 | 7, Kind::Struct) => input.fields(|input, number, kind| {
                    match (number, kind) {
                        (1, Kind::Integer) => header.values = input.integer()?,
                        (2, Kind::Integer) => header.encoding = input.integer()?,
                        (3, Kind::Integer) => header.level_encodings[0] = input.integer()?,
                        (4, Kind::Integer) => header.level_encodings[1] = input.integer()?,
                        _ => return Ok(false),
                    }
                    Ok(true)
                })?,
                (8, Kind::Struct) => input.fields(|input, number, kind| {
                    match (number, kind) {
                        (1, Kind::Integer) => header.values = input.integer()?,
                        (2, Kind::Integer) => header.nulls = input.integer()?,
                        (3, Kind::Integer) => header.rows = input.integer()?,
                        (4, Kind::Integer) => header.encoding = input.integer()?,
                        (5, Kind::Integer) => header.level_bytes[0] = input.integer()?,
                        (6, Kind::Integer) => header.level_bytes[1] = input.integer()?,
                        (7, Kind::Flag(compressed)) => header.is_plain = !compressed,
                        _ => return Ok(false),
                    }
                    Ok(true)
                })?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(header)
    }
}

impl Pages {
    /// The next header, and the place behind it.
    fn header(&self) -> Result<(Header, u64), ParquetError> {
        let left = usize::try_from(self.end - self.place).unwrap_or(usize::MAX);
        let mut size = HEADER_BYTES.min(left);
        loop {
            let mut bytes = vec![0; size];
            self.file
                .read_exact_at(&mut bytes, self.place)
                .map_err(io)?;
            let mut input = Compact::new(&bytes);
            match Header::read(&mut input) {
                Ok(header) => return Ok((header, self.place + input.place() as u64)),
                Err(Broken::Short) if size < left && size < MAX_HEADER_BYTES => {
                    size = (size * 8).min(left);
                }
                Err(_) => return Err(broken("the header of a page is damaged")),
            }
        }
    }

    /// Reads a page's bytes, and decompresses all but the first `plain` of them.
    fn content(
        &mut self,
        header: &Header,
        start: u64,
        plain: u64,
    ) -> Result<(Bytes, Reservation), ParquetError> {
        let size = |size: i64| {
            let checked = u64::try_from(size)
                .ok()
                .filter(|size| *size <= MAX_PAGE_BYTES);
            checked.ok_or_else(|| {
                broken(&format!(
                    "a page would have {size} bytes, but it may have at most {MAX_PAGE_BYTES}"
                ))
            })
        };
        let (compressed, uncompressed) = (size(header.compressed)?, size(header.uncompressed)?);
        if compressed > self.end - start {
            return Err(broken("a page goes beyond its column"));
        }
        if plain > compressed || plain > uncompressed {
            return Err(broken("the levels of a page go beyond it"));
        }
        let charged = self.budget.reserve(compressed + uncompressed);
        let charge = charged.map_err(|error| ParquetError::External(Box::new(error)))?;
        let mut bytes = vec![0; usize::try_from(compressed).unwrap_or(0)];
        self.file.read_exact_at(&mut bytes, start).map_err(io)?;
        let compression = match self.compression {
            _ if header.is_plain => Compression::UNCOMPRESSED,
            compression => compression,
        };
        let plain = usize::try_from(plain).unwrap_or(0);
        let wanted = usize::try_from(uncompressed).unwrap_or(0);
        let rest = wanted - plain;
        let input = &bytes[plain..];
        let mut output = Vec::with_capacity(wanted);
        output.extend_from_slice(&bytes[..plain]);
        // One byte more tells a page that is too long from one that is as long as it says.
        let most = rest as u64 + 1;
        match compression {
            Compression::UNCOMPRESSED => {
                output = bytes;
            }
            _ if rest == 0 => {}
            Compression::SNAPPY => {
                let length = snap::raw::decompress_len(input).map_err(other)?;
                if length != rest {
                    return Err(size_differs());
                }
                output.resize(wanted, 0);
                let mut decoder = snap::raw::Decoder::new();
                decoder
                    .decompress(input, &mut output[plain..])
                    .map_err(other)?;
            }
            Compression::GZIP(_) => {
                let mut decoder = flate2::read::MultiGzDecoder::new(input).take(most);
                decoder.read_to_end(&mut output).map_err(io)?;
            }
            Compression::ZSTD(_) => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(input).map_err(io)?;
                decoder.window_log_max(27).map_err(io)?;
                decoder.take(most).read_to_end(&mut output).map_err(io)?;
            }
            unknown => {
                return Err(broken(&format!(
                    "its compression {unknown} is not one of snappy, gzip, zstd and none"
                )));
            }
        }
        if output.len() != wanted {
            return Err(size_differs());
        }
        Ok((Bytes::from(output), charge))
    }

    fn next_page(&mut self) -> Result<Option<Page>, ParquetError> {
        while self.place < self.end && self.values_left > 0 {
            let (header, start) = self.header()?;
            let count = |number: i64| {
                u32::try_from(number).map_err(|_| broken("the header of a page is damaged"))
            };
            let page = match header.kind {
                DICTIONARY_PAGE => {
                    let (buf, charge) = self.content(&header, start, 0)?;
                    drop(charge);
                    let bytes = buf.len() as u64;
                    // Each value takes at least 4 bytes, so that a dictionary is as large as
                    // its page allows.
                    if u64::from(count(header.values)?) > bytes / 4 {
                        return Err(broken("a dictionary has more values than bytes for them"));
                    }
                    let charged = self
                        .budget
                        .reserve(bytes * (1 + DICTIONARY_MEMORY_PER_BYTE));
                    let charge =
                        charged.map_err(|error| ParquetError::External(Box::new(error)))?;
                    self.charges[0] = Some(charge);
                    Page::DictionaryPage {
                        buf,
                        num_values: count(header.values)?,
                        encoding: encoding(header.encoding)?,
                        is_sorted: false,
                    }
                }
                DATA_PAGE => {
                    self.take_values(&header)?;
                    self.charges[1] = None;
                    let (buf, charge) = self.content(&header, start, 0)?;
                    self.charges[1] = Some(charge);
                    Page::DataPage {
                        buf,
                        num_values: count(header.values)?,
                        encoding: encoding(header.encoding)?,
                        def_level_encoding: level_encoding(header.level_encodings[0])?,
                        rep_level_encoding: level_encoding(header.level_encodings[1])?,
                        statistics: None,
                    }
                }
                DATA_PAGE_V2 => {
                    self.take_values(&header)?;
                    let levels = header.level_bytes.map(count);
                    let [definition, repetition] = levels;
                    let (definition, repetition) = (definition?, repetition?);
                    let plain = u64::from(definition) + u64::from(repetition);
                    self.charges[1] = None;
                    let (buf, charge) = self.content(&header, start, plain)?;
                    self.charges[1] = Some(charge);
                    Page::DataPageV2 {
                        buf,
                        num_values: count(header.values)?,
                        encoding: encoding(header.encoding)?,
                        num_nulls: count(header.nulls)?,
                        num_rows: count(header.rows)?,
                        def_levels_byte_len: definition,
                        rep_levels_byte_len: repetition,
                        is_compressed: false,
                        statistics: None,
                    }
                }
                INDEX_PAGE => {
                    self.skip(&header, start)?;
                    continue;
                }
                unknown => {
                    return Err(broken(&format!("a page has the unknown type {unknown}")));
                }
            };
            self.skip(&header, start)?;
            return Ok(Some(page));
        }
        Ok(None)
    }

    fn take_values(&mut self, header: &Header) -> Result<(), ParquetError> {
        if !(0..=self.values_left).contains(&header.values) {
            return Err(broken("its pages have more values than the column"));
        }
        // The crate panics where a page refers to a dictionary that did not come.
        let refers = matches!(
            encoding(header.encoding)?,
            Encoding::PLAIN_DICTIONARY | Encoding::RLE_DICTIONARY
        );
        if refers && self.charges[0].is_none() {
            return Err(broken("a page refers to a dictionary that is not there"));
        }
        self.values_left -= header.values;
        if let Some(listed) = &self.listed {
            let values = u64::try_from(header.values).unwrap_or(0);
            let charged = self.budget.reserve(values * MEMORY_PER_LISTED);
            let charge = charged.map_err(|error| ParquetError::External(Box::new(error)))?;
            let mut listed = listed.lock().unwrap_or_else(PoisonError::into_inner);
            listed.push(charge);
        }
        Ok(())
    }

    fn skip(&mut self, header: &Header, start: u64) -> Result<(), ParquetError> {
        let compressed = u64::try_from(header.compressed).ok();
        let end = compressed.and_then(|compressed| start.checked_add(compressed));
        let end = end.filter(|end| *end <= self.end);
        self.place = end.ok_or_else(|| broken("a page goes beyond its column"))?;
        Ok(())
    }
}

impl Iterator for Pages {
    type Item = Result<Page, ParquetError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_page().transpose()
    }
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> Result<Option<Page>, ParquetError> {
        self.next_page()
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>, ParquetError> {
        Err(broken("pages are read in order"))
    }

    /// A record of the first version's pages may go on in the next.
    fn at_record_boundary(&mut self) -> Result<bool, ParquetError> {
        Ok(self.place >= self.end || self.values_left == 0)
    }

    fn skip_next_page(&mut self) -> Result<(), ParquetError> {
        Err(broken("pages are read in order"))
    }
}

/// The encodings whose decoders take no more memory than their input.
fn encoding(code: i64) -> Result<Encoding, ParquetError> {
    match code {
        0 => Ok(Encoding::PLAIN),
        2 => Ok(Encoding::PLAIN_DICTIONARY),
        3 => Ok(Encoding::RLE),
        5 => Ok(Encoding::DELTA_BINARY_PACKED),
        8 => Ok(Encoding::RLE_DICTIONARY),
        9 => Ok(Encoding::BYTE_STREAM_SPLIT),
        6 => Err(broken(
            "the encoding DELTA_LENGTH_BYTE_ARRAY is not supported: write the file with plain or dictionary encoding",
        )),
        7 => Err(broken(
            "the encoding DELTA_BYTE_ARRAY is not supported: write the file with plain or dictionary encoding",
        )),
        unknown => Err(broken(&format!("the encoding {unknown} is not supported"))),
    }
}

/// BIT_PACKED is what some writers name where there are no levels.
#[expect(deprecated, reason = "old files name it")]
fn level_encoding(code: i64) -> Result<Encoding, ParquetError> {
    match code {
        3 => Ok(Encoding::RLE),
        4 => Ok(Encoding::BIT_PACKED),
        unknown => Err(broken(&format!(
            "the encoding {unknown} of levels is not supported"
        ))),
    }
}

fn size_differs() -> ParquetError {
    broken("a page does not have as many bytes as its header says")
}

fn broken(message: &str) -> ParquetError {
    ParquetError::General(message.to_owned())
}

fn io(error: io::Error) -> ParquetError {
    ParquetError::General(error.to_string())
}

fn other(error: snap::Error) -> ParquetError {
    ParquetError::General(error.to_string())
}
