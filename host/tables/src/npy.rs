//! `.npy` files: one array each.
//!
//! Source of the format: NumPy Enhancement Proposal 1, "A simple file format for NumPy arrays",
//! versions 1.0 to 3.0. Pickled objects are never read.

use std::fs::File;
use std::io::{BufReader, Read};

use trainshed_core::text::{one_line, shortened};

use crate::arrays::{self, Entry, Items, Place};
use crate::error::unreadable;
use crate::value::ElementType;
use crate::{Reader, Table, TableError};

const MAGIC: &[u8] = b"\x93NUMPY";
/// Longest header. NumPy itself reads no more than 10,000 bytes of it without being asked to.
const MAX_HEADER_BYTES: usize = 64 << 10;
/// Most dimensions of an array, which are also NumPy's.
const MAX_DIMENSIONS: usize = 64;

/// The table of one column, named like the file without its ending.
pub(crate) fn survey(reader: &Reader, path: &str) -> Result<Table, TableError> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let name = name.rsplit_once('.').map_or(name, |(name, _)| name);
    let file =
        File::open(reader.path(path)).map_err(|error| unreadable(path, &error.to_string()))?;
    let mut input = BufReader::new(file);
    let (header, length) = read_header(&mut input).map_err(|message| unreadable(path, &message))?;
    let entry = header.entry(name.to_owned(), Place::At(length));
    let mut tables = arrays::tables(path, vec![entry])?;
    Ok(tables.remove(0))
}

/// What a header says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Header {
    descr: String,
    fortran: bool,
    shape: Vec<u64>,
}

impl Header {
    pub(crate) fn entry(self, name: String, place: Place) -> Entry {
        let (items, big_endian) = self.items();
        let element = match items {
            Items::Numbers(element) => element.name().to_owned(),
            Items::Utf8(_) | Items::Utf32(_) => "text".to_owned(),
            Items::Opaque => shortened(&one_line(&self.descr), 80),
        };
        Entry {
            name,
            element,
            shape: self.shape,
            items,
            big_endian,
            fortran: self.fortran,
            place,
        }
    }

    /// What `descr` means, e.g. `<f4`.
    fn items(&self) -> (Items, bool) {
        let (big_endian, rest) = match self.descr.split_at_checked(1) {
            Some((">", rest)) => (true, rest),
            Some(("<" | "=" | "|", rest)) => (false, rest),
            _ => (false, self.descr.as_str()),
        };
        let number = match rest {
            "b1" | "?" => Some(ElementType::Bool),
            "i1" => Some(ElementType::I8),
            "u1" => Some(ElementType::U8),
            "i2" => Some(ElementType::I16),
            "u2" => Some(ElementType::U16),
            "i4" => Some(ElementType::I32),
            "u4" => Some(ElementType::U32),
            "i8" => Some(ElementType::I64),
            "u8" => Some(ElementType::U64),
            "f2" => Some(ElementType::F16),
            "f4" => Some(ElementType::F32),
            "f8" => Some(ElementType::F64),
            _ => None,
        };
        if let Some(number) = number {
            return (Items::Numbers(number), big_endian);
        }
        let items = match rest.split_at_checked(1) {
            Some(("U", size)) => size.parse().map(Items::Utf32),
            Some(("S" | "a", size)) => size.parse().map(Items::Utf8),
            _ => Ok(Items::Opaque),
        };
        let items = items.ok().filter(|items| {
            // Texts without room for any would be rows without bytes.
            !matches!(items, Items::Utf8(0) | Items::Utf32(0))
        });
        (items.unwrap_or(Items::Opaque), big_endian)
    }
}

/// Reads what is before the elements, and how many bytes that is.
///
/// # Errors
/// One sentence.
pub(crate) fn read_header(input: &mut impl Read) -> Result<(Header, u64), String> {
    let mut begin = [0; 8];
    let short = |_| "it is shorter than a header".to_owned();
    input.read_exact(&mut begin).map_err(short)?;
    if !begin.starts_with(MAGIC) {
        return Err("it does not begin as a NumPy array does".to_owned());
    }
    let mut size = [0; 4];
    let width = match begin[6] {
        1 => 2,
        2 | 3 => 4,
        version => return Err(format!("its version {version} is not 1, 2 or 3")),
    };
    input.read_exact(&mut size[..width]).map_err(short)?;
    let size = u32::from_le_bytes(size) as usize;
    if size > MAX_HEADER_BYTES {
        return Err(format!(
            "its header would have {size} bytes, but it may have at most {MAX_HEADER_BYTES}"
        ));
    }
    let mut text = vec![0; size];
    input.read_exact(&mut text).map_err(short)?;
    let text = String::from_utf8(text).map_err(|_| "its header is not UTF-8".to_owned())?;
    let header = parse(&text).ok_or_else(|| {
        let text = shortened(&one_line(&text), 200);
        format!("its header cannot be understood: {text}")
    })?;
    Ok((header, (begin.len() + width + size) as u64))
}

/// Parses the dictionary literal, e.g.
/// `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`.
fn parse(text: &str) -> Option<Header> {
    let mut rest = text.trim().strip_prefix('{')?;
    let (mut descr, mut fortran, mut shape) = (None, None, None);
    loop {
        rest = rest.trim_start();
        if let Some(end) = rest.strip_prefix('}') {
            return end.trim().is_empty().then_some(Header {
                descr: descr?,
                fortran: fortran?,
                shape: shape?,
            });
        }
        let (key, after) = quoted(rest)?;
        let value = after.trim_start().strip_prefix(':')?.trim_start();
        rest = match key {
            "descr" if value.starts_with('[') => {
                // A record of fields; what is in it does not matter.
                let end = nested(value)?;
                descr = Some(value[..end].to_owned());
                &value[end..]
            }
            "descr" => {
                let (name, after) = quoted(value)?;
                descr = Some(name.to_owned());
                after
            }
            "fortran_order" => {
                let flag = value.starts_with("True");
                fortran = Some(flag);
                value.strip_prefix(if flag { "True" } else { "False" })?
            }
            "shape" => {
                let (sizes, after) = value.strip_prefix('(')?.split_once(')')?;
                let sizes = sizes
                    .split(',')
                    .map(|size| size.trim().trim_end_matches('L'));
                let sizes = sizes.filter(|size| !size.is_empty()).map(str::parse);
                let sizes = sizes.take(MAX_DIMENSIONS + 1);
                let sizes = sizes.collect::<Result<Vec<u64>, _>>().ok()?;
                shape = Some(sizes).filter(|sizes| sizes.len() <= MAX_DIMENSIONS);
                after
            }
            _ => return None,
        };
        rest = rest.trim_start();
        if !rest.starts_with('}') {
            rest = rest.strip_prefix(',')?;
        }
    }
}

/// A text in quotes, and what follows it.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next().filter(|quote| "'\"".contains(*quote))?;
    text[1..].split_once(quote)
}

/// How long the bracketed list at the beginning of `text` is.
fn nested(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (place, character) in text.char_indices() {
        match character {
            '[' | '(' => depth += 1,
            ']' | ')' => depth = depth.checked_sub(1)?,
            _ => {}
        }
        if depth == 0 {
            return Some(place + 1);
        }
    }
    None
}
