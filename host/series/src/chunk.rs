//! Settled points of one curve as they are kept for long.
//!
//! | bytes | what |
//! |---|---|
//! | 4 | `TSC1`: what this is, and its version |
//! | 1 | how the columns are encoded: 0 as in a [frame](crate::Frame), 1 by pco |
//! | 4 | `n`, the number of points, 1 to 4096 |
//! | 3 times 4 | with pco: lengths of the columns of steps, times and values |
//! | … | the columns |
//! | 4, 4 | length of the extra data, and their length before compression |
//! | … | extra data by deflate: for each point that has some its index, length and JSON |
//! | 4 | CRC-32C of everything before |
//!
//! Numbers are little-endian; indices and lengths of extra data are of variable length.

use std::io::{Read as _, Write as _};

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use pco::ChunkConfig;
use pco::data_types::Number;
use pco::standalone::{simple_compress, simple_decompress_into};

use crate::frame::{MAX_EXTRA_BYTES, put_points};
use crate::points::{Points, PointsView};
use crate::varint;

/// Most points of one chunk: twice as fast to decode, point for point, as a thousand, and
/// few enough to read for a look at a part of a curve.
pub const CHUNK_POINTS: usize = 4096;
/// Effort of pco: the lowest that is as small as the highest.
const LEVEL: usize = 4;
/// Fewer points than this are encoded as in a frame: pco has some fifty bytes for each column
/// before it saves any.
const FEWEST_FOR_PCO: usize = 32;

const MAGIC: &[u8; 4] = b"TSC1";
const PLAIN: u8 = 0;
const PCO: u8 = 1;

/// Bytes that are not a chunk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DamagedChunk {
    /// The checksum does not fit.
    #[error("the checksum of the chunk is {found:08x}, but {expected:08x} is written in it")]
    Checksum {
        /// As written in the chunk.
        expected: u32,
        /// Of the chunk.
        found: u32,
    },
    /// The checksum fits, but the content is not a chunk.
    #[error("the chunk's {0} is not as it must be")]
    Content(&'static str),
}

/// The points as bytes.
///
/// # Panics
/// When there are none, more than [`CHUNK_POINTS`], or they are not settled.
pub fn encode(points: PointsView<'_>) -> Vec<u8> {
    assert!(
        (1..=CHUNK_POINTS).contains(&points.len())
            && points.steps().is_sorted_by(|before, after| before < after),
        "a chunk has 1 to 4096 settled points"
    );
    let length = |bytes: usize| u32::try_from(bytes).expect("4096 points have fewer bytes");
    let mut bytes = Vec::with_capacity(64 + points.len() * 12);
    bytes.extend_from_slice(MAGIC);
    if points.len() < FEWEST_FOR_PCO {
        bytes.push(PLAIN);
        bytes.extend_from_slice(&length(points.len()).to_le_bytes());
        put_points(&mut bytes, points);
    } else {
        bytes.push(PCO);
        bytes.extend_from_slice(&length(points.len()).to_le_bytes());
        let columns = [
            compressed(points.steps()),
            compressed(points.times()),
            compressed(points.values()),
        ];
        for column in &columns {
            bytes.extend_from_slice(&length(column.len()).to_le_bytes());
        }
        for column in &columns {
            bytes.extend_from_slice(column);
        }
    }
    put_extras(&mut bytes, points);
    let checksum = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}

/// The points that [`encode`] encoded.
///
/// # Errors
/// When a byte was changed, or it never was a chunk.
pub fn decode(bytes: &[u8]) -> Result<Points, DamagedChunk> {
    let (content, checksum) = bytes
        .split_last_chunk::<4>()
        .ok_or(DamagedChunk::Content("length"))?;
    let expected = u32::from_le_bytes(*checksum);
    let found = crc32c::crc32c(content);
    if found != expected {
        return Err(DamagedChunk::Checksum { expected, found });
    }
    let mut rest = content;
    if slice(&mut rest, MAGIC.len(), "mark")? != MAGIC {
        return Err(DamagedChunk::Content("mark"));
    }
    let encoding = slice(&mut rest, 1, "encoding")?[0];
    let count = length(&mut rest, "number of points")?;
    if !(1..=CHUNK_POINTS).contains(&count) {
        return Err(DamagedChunk::Content("number of points"));
    }
    let mut points = Points::with_capacity(count);
    match encoding {
        PLAIN => take_plain(&mut rest, count, &mut points)?,
        PCO => {
            let mut lengths = [0; 3];
            for bytes in &mut lengths {
                *bytes = length(&mut rest, "length of a column")?;
            }
            let steps = decompressed::<u64>(slice(&mut rest, lengths[0], "steps")?, count)?;
            let times = decompressed::<i64>(slice(&mut rest, lengths[1], "times")?, count)?;
            let values = decompressed::<f64>(slice(&mut rest, lengths[2], "values")?, count)?;
            points.extend_columns(&steps, &times, &values);
        }
        _ => return Err(DamagedChunk::Content("encoding")),
    }
    take_extras(&mut rest, &mut points)?;
    if rest.is_empty() && points.is_settled() {
        Ok(points)
    } else {
        Err(DamagedChunk::Content("content"))
    }
}

fn compressed<T: Number>(column: &[T]) -> Vec<u8> {
    let config = ChunkConfig::default().with_compression_level(LEVEL);
    simple_compress(column, &config).expect("the settings are right and memory does not fail")
}

fn decompressed<T: Number + Default>(bytes: &[u8], count: usize) -> Result<Vec<T>, DamagedChunk> {
    let wrong = DamagedChunk::Content("column");
    let mut column = vec![T::default(); count];
    match simple_decompress_into(bytes, &mut column) {
        Ok(progress) if progress.finished && progress.n_processed == count => Ok(column),
        Ok(_) | Err(_) => Err(wrong),
    }
}

fn take_plain(rest: &mut &[u8], count: usize, points: &mut Points) -> Result<(), DamagedChunk> {
    let wrong = DamagedChunk::Content("columns");
    let column = |rest: &mut &[u8]| {
        let mut column = Vec::with_capacity(count);
        varint::take_column(rest, count, |number| column.push(number)).map(|()| column)
    };
    let number = varint::take(rest);
    if number != Some(count as u64) {
        return Err(wrong);
    }
    let (Some(steps), Some(times)) = (column(rest), column(rest)) else {
        return Err(wrong);
    };
    let steps: Vec<u64> = steps.into_iter().map(i64::cast_unsigned).collect();
    let values: Vec<f64> = match slice(rest, 1, "encoding of values")?[0] {
        0 => {
            let (doubles, _) = slice(rest, count * 8, "values")?.as_chunks::<8>();
            doubles
                .iter()
                .map(|bytes| f64::from_le_bytes(*bytes))
                .collect()
        }
        1 => {
            let (singles, _) = slice(rest, count * 4, "values")?.as_chunks::<4>();
            let doubles = singles
                .iter()
                .map(|bytes| f64::from(f32::from_le_bytes(*bytes)));
            doubles.collect()
        }
        _ => return Err(wrong),
    };
    points.extend_columns(&steps, &times, &values);
    Ok(())
}

fn put_extras(bytes: &mut Vec<u8>, points: PointsView<'_>) {
    let mut plain = Vec::new();
    for (index, extra) in points.extras() {
        varint::put(&mut plain, index as u64);
        varint::put(&mut plain, extra.len() as u64);
        plain.extend_from_slice(extra.as_bytes());
    }
    let mut packed = Vec::new();
    if !plain.is_empty() {
        let mut encoder = ZlibEncoder::new(&mut packed, Compression::new(3));
        let written = encoder
            .write_all(&plain)
            .and_then(|()| encoder.finish().map(drop));
        written.expect("writing to memory cannot fail");
    }
    let length = |bytes: usize| {
        let bytes = u32::try_from(bytes).expect("4096 extra data have fewer bytes");
        bytes.to_le_bytes()
    };
    bytes.extend_from_slice(&length(packed.len()));
    bytes.extend_from_slice(&length(plain.len()));
    bytes.extend_from_slice(&packed);
}

fn take_extras(rest: &mut &[u8], points: &mut Points) -> Result<(), DamagedChunk> {
    let wrong = DamagedChunk::Content("extra data");
    let packed = length(rest, "extra data")?;
    let plain_length = length(rest, "extra data")?;
    let packed = slice(rest, packed, "extra data")?;
    if plain_length == 0 {
        return Ok(());
    }
    if plain_length > points.len() * (MAX_EXTRA_BYTES + 20) {
        return Err(wrong);
    }
    let mut plain = Vec::new();
    let limit = plain_length as u64;
    let unpacked = ZlibDecoder::new(packed).take(limit).read_to_end(&mut plain);
    if unpacked.is_err() || plain.len() != plain_length {
        return Err(wrong);
    }
    let mut left = plain.as_slice();
    let mut after = 0;
    while !left.is_empty() {
        let index = varint::take(&mut left).and_then(|index| usize::try_from(index).ok());
        let length = varint::take(&mut left).and_then(|length| usize::try_from(length).ok());
        let (Some(index), Some(length)) = (index, length) else {
            return Err(wrong);
        };
        let text = std::str::from_utf8(slice(&mut left, length, "extra data")?);
        let Some(text) = text.ok().filter(|_| index >= after && index < points.len()) else {
            return Err(wrong);
        };
        points.add_extra(index, text.into());
        after = index + 1;
    }
    Ok(())
}

fn slice<'a>(
    rest: &mut &'a [u8],
    bytes: usize,
    what: &'static str,
) -> Result<&'a [u8], DamagedChunk> {
    let (taken, after) = rest
        .split_at_checked(bytes)
        .ok_or(DamagedChunk::Content(what))?;
    *rest = after;
    Ok(taken)
}

fn length(rest: &mut &[u8], what: &'static str) -> Result<usize, DamagedChunk> {
    let (number, _) = slice(rest, 4, what)?.as_chunks::<4>();
    usize::try_from(u32::from_le_bytes(number[0])).map_err(|_| DamagedChunk::Content(what))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::points::tests::any_points;

    fn any_settled() -> impl Strategy<Value = Points> {
        let few = any_points(1..60).prop_map(Points::settle);
        let many = (any_points(1..3), 0_u64..1000, 100_usize..CHUNK_POINTS).prop_map(
            |(mut points, start, count)| {
                for step in start..start + count as u64 {
                    let time = 1_700_000_000_000
                        + step.cast_signed() * 50
                        + (step.cast_signed() * 7919) % 13;
                    points.push(step, time, 1.0 / (1 + step) as f64);
                }
                let mut settled = points.settle();
                settled.split_front(settled.len().min(CHUNK_POINTS))
            },
        );
        prop_oneof![few, many]
    }

    fn sealed(mut content: Vec<u8>) -> Vec<u8> {
        let checksum = crc32c::crc32c(&content);
        content.extend_from_slice(&checksum.to_le_bytes());
        content
    }

    proptest! {
        #[test]
        fn a_chunk_comes_back_as_it_was(points in any_settled()) {
            prop_assert_eq!(&decode(&encode(points.view())).unwrap(), &points);
        }

        #[test]
        fn a_flipped_bit_is_never_wrong_data(points in any_settled(), place in any::<prop::sample::Index>(), bit in 0..8) {
            let mut bytes = encode(points.view());
            let place = place.index(bytes.len());
            bytes[place] ^= 1_u8 << bit;
            prop_assert!(decode(&bytes).is_err());
        }

        #[test]
        fn no_bytes_make_decoding_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), encoding in 0_u8..3) {
            let _ = decode(&bytes);
            let _ = decode(&sealed(bytes.clone()));
            let begun = [MAGIC.as_slice(), &[encoding, 40, 0, 0, 0], &bytes].concat();
            let _ = decode(&sealed(begun));
        }

        #[test]
        fn no_change_with_a_right_checksum_makes_decoding_panic(points in any_settled(), place in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = encode(points.view());
            bytes.truncate(bytes.len() - 4);
            let place = place.index(bytes.len());
            bytes[place] = byte;
            if let Ok(points) = decode(&sealed(bytes)) {
                prop_assert!(points.is_settled());
            }
        }
    }

    #[test]
    fn a_chunk_of_a_training_curve_is_small() {
        let mut points = Points::default();
        for step in 0..4096_u32 {
            let noise = f64::from(step.wrapping_mul(2_654_435_761) >> 8) / f64::from(1 << 24);
            let time = 1_700_000_000_000 + i64::from(step) * 50 + i64::from(step % 3);
            points.push(
                u64::from(step),
                time,
                1.0 / f64::from(step + 1) + noise / 10.0,
            );
        }
        let bytes_per_point = encode(points.view()).len() as f64 / 4096.0;
        assert!(bytes_per_point < 8.0, "{bytes_per_point}");
    }
}
