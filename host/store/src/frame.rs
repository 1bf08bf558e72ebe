//! Points of one batch as bytes: columns, so that they compress well and are read fast.
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

use serde_json::{Map, Value};
use trainshed_core::Timestamp;
use trainshed_core::report::{Point, Real};

const MAGIC: &[u8; 4] = b"TSF1";

/// Bytes that are not a frame as [`encode_frame`] makes it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DamagedFrame {
    /// The checksum does not fit.
    #[error("the checksum of the frame is {found:08x}, but {expected:08x} is written in it")]
    Checksum {
        /// As written in the frame.
        expected: u32,
        /// Of the frame.
        found: u32,
    },
    /// The checksum fits, but the content is not a frame.
    #[error("the frame's {0} is not as it must be")]
    Content(&'static str),
}

/// The points of one batch as bytes, in their order.
///
/// # Panics
/// Never for points that were checked: names of at most 65,535 bytes and fewer than 2^32
/// points with less than 4 GiB of extra data each.
pub fn encode_frame(points: &[&Point]) -> Vec<u8> {
    let length = |count: usize| u32::try_from(count).expect("a batch is far below 2^32");
    let mut curves: Vec<(&str, &str)> = Vec::new();
    let mut numbers: HashMap<(&str, &str), u32> = HashMap::new();
    let mut column = Vec::with_capacity(points.len());
    for point in points {
        let curve = (point.title.as_str(), point.series.as_str());
        let number = *numbers.entry(curve).or_insert_with(|| {
            curves.push(curve);
            length(curves.len() - 1)
        });
        column.push(number);
    }

    let mut frame = Vec::with_capacity(64 + points.len() * 28);
    frame.extend_from_slice(MAGIC);
    frame.extend_from_slice(&length(points.len()).to_le_bytes());
    frame.extend_from_slice(&length(curves.len()).to_le_bytes());
    for (title, series) in curves {
        for text in [title, series] {
            let bytes = u16::try_from(text.len()).expect("names have at most 200 bytes");
            frame.extend_from_slice(&bytes.to_le_bytes());
            frame.extend_from_slice(text.as_bytes());
        }
    }
    for number in column {
        frame.extend_from_slice(&number.to_le_bytes());
    }
    for point in points {
        frame.extend_from_slice(&point.iteration.to_le_bytes());
    }
    for point in points {
        frame.extend_from_slice(&point.at.as_millis().to_le_bytes());
    }
    for point in points {
        frame.extend_from_slice(&point.value.0.to_bits().to_le_bytes());
    }
    let extras: Vec<(usize, String)> = points
        .iter()
        .enumerate()
        .filter_map(|(index, point)| Some((index, point.extra.clone()?)))
        .map(|(index, extra)| (index, Value::Object(extra).to_string()))
        .collect();
    frame.extend_from_slice(&length(extras.len()).to_le_bytes());
    for (index, extra) in extras {
        frame.extend_from_slice(&length(index).to_le_bytes());
        frame.extend_from_slice(&length(extra.len()).to_le_bytes());
        frame.extend_from_slice(extra.as_bytes());
    }
    let checksum = crc32c::crc32c(&frame);
    frame.extend_from_slice(&checksum.to_le_bytes());
    frame
}

/// The points of a frame, in the order in which they were encoded. Takes no more memory
/// than a small multiple of the frame's length, whatever the frame says of itself.
///
/// # Errors
/// When a byte of the frame was changed, or it never was one.
pub fn decode_frame(frame: &[u8]) -> Result<Vec<Point>, DamagedFrame> {
    let (content, checksum) = frame
        .split_last_chunk::<4>()
        .ok_or(DamagedFrame::Content("length"))?;
    let expected = u32::from_le_bytes(*checksum);
    let found = crc32c::crc32c(content);
    if found != expected {
        return Err(DamagedFrame::Checksum { expected, found });
    }

    let mut rest = content;
    if take::<4>(&mut rest, "mark")? != *MAGIC {
        return Err(DamagedFrame::Content("mark"));
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
    let mut points = Vec::with_capacity(count);
    for index in 0..count {
        let number = usize::try_from(u32::from_le_bytes(numbers[index]));
        let curve = number.ok().and_then(|number| curves.get(number));
        let (title, series) = curve.ok_or(DamagedFrame::Content("curve of a point"))?;
        points.push(Point {
            title: title.clone(),
            series: series.clone(),
            iteration: u64::from_le_bytes(iterations[index]),
            value: Real(f64::from_bits(u64::from_le_bytes(values[index]))),
            at: Timestamp(i64::from_le_bytes(times[index])),
            extra: None,
        });
    }
    for _ in 0..length(&mut rest, "number of extra data")? {
        let index = length(&mut rest, "place of extra data")?;
        let bytes = length(&mut rest, "extra data")?;
        let json = slice(&mut rest, bytes, "extra data")?;
        let extra: Map<String, Value> =
            serde_json::from_slice(json).map_err(|_| DamagedFrame::Content("extra data"))?;
        let point = points.get_mut(index);
        point
            .ok_or(DamagedFrame::Content("place of extra data"))?
            .extra = Some(extra);
    }
    if !rest.is_empty() {
        return Err(DamagedFrame::Content("length"));
    }
    Ok(points)
}

fn take<const N: usize>(rest: &mut &[u8], what: &'static str) -> Result<[u8; N], DamagedFrame> {
    let (taken, after) = rest
        .split_first_chunk::<N>()
        .ok_or(DamagedFrame::Content(what))?;
    *rest = after;
    Ok(*taken)
}

fn slice<'a>(
    rest: &mut &'a [u8],
    bytes: usize,
    what: &'static str,
) -> Result<&'a [u8], DamagedFrame> {
    let (taken, after) = rest
        .split_at_checked(bytes)
        .ok_or(DamagedFrame::Content(what))?;
    *rest = after;
    Ok(taken)
}

fn length(rest: &mut &[u8], what: &'static str) -> Result<usize, DamagedFrame> {
    let number = u32::from_le_bytes(take(rest, what)?);
    usize::try_from(number).map_err(|_| DamagedFrame::Content(what))
}

fn name(rest: &mut &[u8]) -> Result<String, DamagedFrame> {
    let bytes = u16::from_le_bytes(take(rest, "name of a curve")?);
    let text = slice(rest, usize::from(bytes), "name of a curve")?;
    String::from_utf8(text.to_owned()).map_err(|_| DamagedFrame::Content("name of a curve"))
}

/// `count` fields of `N` bytes, borrowed, so that a false count costs nothing.
fn column<'a, const N: usize>(
    rest: &mut &'a [u8],
    count: usize,
) -> Result<&'a [[u8; N]], DamagedFrame> {
    let bytes = count
        .checked_mul(N)
        .ok_or(DamagedFrame::Content("length"))?;
    let (fields, _) = slice(rest, bytes, "length")?.as_chunks::<N>();
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn points() -> impl Strategy<Value = Vec<Point>> {
        let extra = prop_oneof![
            Just(None),
            ("[a-z]{0,5}", any::<i32>())
                .prop_map(|(key, value)| { Some(Map::from_iter([(key, json!(value))])) })
        ];
        let point = (
            "[a-zü]{1,3}",
            "[a-z/]{1,3}",
            any::<u64>(),
            any::<u64>(),
            any::<i64>(),
            extra,
        )
            .prop_map(|(title, series, iteration, bits, at, extra)| Point {
                title,
                series,
                iteration,
                value: Real(f64::from_bits(bits)),
                at: Timestamp(at),
                extra,
            });
        prop::collection::vec(point, 0..50)
    }

    fn bits(points: &[Point]) -> Vec<(Point, u64)> {
        let with_bits = |point: &Point| {
            let bits = point.value.0.to_bits();
            let value = Real(0.0); // compared by its bits, because NaN equals nothing
            (
                Point {
                    value,
                    ..point.clone()
                },
                bits,
            )
        };
        points.iter().map(with_bits).collect()
    }

    proptest! {
        #[test]
        fn a_frame_gives_back_exactly_what_was_put_in(points in points()) {
            let frame = encode_frame(&points.iter().collect::<Vec<_>>());
            prop_assert_eq!(bits(&decode_frame(&frame).unwrap()), bits(&points));
        }

        #[test]
        fn a_changed_byte_is_noticed(points in points(), place in any::<prop::sample::Index>(), flip in 1_u8..) {
            let mut frame = encode_frame(&points.iter().collect::<Vec<_>>());
            let place = place.index(frame.len());
            frame[place] ^= flip;
            prop_assert!(decode_frame(&frame).is_err());
        }

        #[test]
        fn no_bytes_with_a_right_checksum_make_decoding_panic(content in prop::collection::vec(any::<u8>(), 0..200), marked in any::<bool>()) {
            let mut frame = if marked { MAGIC.to_vec() } else { Vec::new() };
            frame.extend(content);
            let checksum = crc32c::crc32c(&frame);
            frame.extend_from_slice(&checksum.to_le_bytes());
            let _ = decode_frame(&frame);
        }
    }
}
