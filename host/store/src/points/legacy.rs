//! Frames of the first schema, which a log may still hold after an upgrade.
//!
//! All numbers are little-endian.
//!
//! | bytes | what |
//! |---|---|
//! | 4 | `TSF1`: what this is, and its version |
//! | 4 | `n`, the number of points |
//! | 4 | `s`, the number of curves |
//! | s times | length (2) and text of the title, length (2) and text of the series |
//! | 4 n | curve of each point, an index into the list before |
//! | 8 n | iterations, unsigned |
//! | 8 n | times in milliseconds, signed |
//! | 8 n | values, the bits of a 64-bit float |
//! | 4 | `e`, the number of points with extra data |
//! | e times | index of the point (4), length (4) and JSON of its extra data |
//! | 4 | CRC-32C of everything before |

use std::collections::HashMap;

use trainshed_series::{Frame, FrameBuilder, MAX_STEP};

const MAGIC: &[u8; 4] = b"TSF1";

/// Bytes that are not a frame of the first schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DamagedLegacy {
    /// The checksum does not fit.
    #[error("the checksum of the frame is {found:08x}, but {expected:08x} is written in it")]
    Checksum { expected: u32, found: u32 },
    /// The checksum fits, but the content is not a frame.
    #[error("the frame's {0} is not as it must be")]
    Content(&'static str),
}

/// Whether `frame` is to be read by [`decode`].
pub(crate) fn is_legacy(frame: &[u8]) -> bool {
    frame.starts_with(MAGIC)
}

/// The points of a frame, in the order in which they were encoded. Takes no more memory
/// than a small multiple of the frame's length, whatever the frame says of itself.
///
/// # Errors
/// When a byte of the frame was changed, or it never was one.
pub(crate) fn decode(frame: &[u8]) -> Result<Frame<'static>, DamagedLegacy> {
    let (content, checksum) = frame
        .split_last_chunk::<4>()
        .ok_or(DamagedLegacy::Content("length"))?;
    let expected = u32::from_le_bytes(*checksum);
    let found = crc32c::crc32c(content);
    if found != expected {
        return Err(DamagedLegacy::Checksum { expected, found });
    }

    let mut rest = content;
    if take::<4>(&mut rest, "mark")? != *MAGIC {
        return Err(DamagedLegacy::Content("mark"));
    }
    let count = length(&mut rest, "number of points")?;
    let curve_count = length(&mut rest, "number of curves")?;
    let mut curves = Vec::new();
    for _ in 0..curve_count {
        let title = name(&mut rest)?;
        curves.push((title, name(&mut rest)?));
    }
    let numbers = column::<4>(&mut rest, count)?;
    let iterations = column::<8>(&mut rest, count)?;
    let times = column::<8>(&mut rest, count)?;
    let values = column::<8>(&mut rest, count)?;
    let mut extras = HashMap::new();
    for _ in 0..length(&mut rest, "number of extra data")? {
        let index = length(&mut rest, "place of extra data")?;
        let bytes = length(&mut rest, "extra data")?;
        let json = slice(&mut rest, bytes, "extra data")?;
        let text = std::str::from_utf8(json).map_err(|_| DamagedLegacy::Content("extra data"))?;
        extras.insert(index, text);
    }
    if !rest.is_empty() {
        return Err(DamagedLegacy::Content("length"));
    }
    let mut builder = FrameBuilder::default();
    for index in 0..count {
        let number = usize::try_from(u32::from_le_bytes(numbers[index]));
        let curve = number.ok().and_then(|number| curves.get(number));
        let (title, series) = curve.ok_or(DamagedLegacy::Content("curve of a point"))?;
        builder.push(
            (title.clone().into(), series.clone().into()),
            u64::from_le_bytes(iterations[index]).min(MAX_STEP),
            i64::from_le_bytes(times[index]),
            f64::from_bits(u64::from_le_bytes(values[index])),
            extras.get(&index).map(|text| (*text).into()),
        );
    }
    Ok(builder.finish())
}

fn take<const N: usize>(rest: &mut &[u8], what: &'static str) -> Result<[u8; N], DamagedLegacy> {
    let (taken, after) = rest
        .split_first_chunk::<N>()
        .ok_or(DamagedLegacy::Content(what))?;
    *rest = after;
    Ok(*taken)
}

fn slice<'a>(
    rest: &mut &'a [u8],
    bytes: usize,
    what: &'static str,
) -> Result<&'a [u8], DamagedLegacy> {
    let (taken, after) = rest
        .split_at_checked(bytes)
        .ok_or(DamagedLegacy::Content(what))?;
    *rest = after;
    Ok(taken)
}

fn length(rest: &mut &[u8], what: &'static str) -> Result<usize, DamagedLegacy> {
    let number = u32::from_le_bytes(take(rest, what)?);
    usize::try_from(number).map_err(|_| DamagedLegacy::Content(what))
}

fn name(rest: &mut &[u8]) -> Result<String, DamagedLegacy> {
    let bytes = u16::from_le_bytes(take(rest, "name of a curve")?);
    let text = slice(rest, usize::from(bytes), "name of a curve")?;
    String::from_utf8(text.to_owned()).map_err(|_| DamagedLegacy::Content("name of a curve"))
}

/// `count` fields of `N` bytes, borrowed, so that a false count costs nothing.
fn column<'a, const N: usize>(
    rest: &mut &'a [u8],
    count: usize,
) -> Result<&'a [[u8; N]], DamagedLegacy> {
    let bytes = count
        .checked_mul(N)
        .ok_or(DamagedLegacy::Content("length"))?;
    let (fields, _) = slice(rest, bytes, "length")?.as_chunks::<N>();
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_bytes_with_a_right_checksum_make_decoding_panic(content in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut frame = MAGIC.to_vec();
            frame.extend(content);
            let checksum = crc32c::crc32c(&frame);
            frame.extend_from_slice(&checksum.to_le_bytes());
            let _ = decode(&frame);
        }
    }
}
