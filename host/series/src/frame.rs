//! A batch of points of many curves as bytes.
//!
//! `docs/points.md` describes the layout byte by byte. It is made to be written fast, on the
//! way into the log; what is kept for long is encoded again, as [chunks](crate::chunk).

use std::borrow::Cow;
use std::collections::HashMap;

use serde::de::IgnoredAny;
use trainshed_core::name::{MAX_NAME_BYTES, is_series_name};

use crate::points::{Points, PointsView};
use crate::varint;

/// Most points of one frame.
pub const MAX_FRAME_POINTS: usize = 100_000;
/// Most curves of one frame.
pub const MAX_FRAME_CURVES: usize = 10_000;
/// Most bytes of the extra data of one point.
pub const MAX_EXTRA_BYTES: usize = 8 << 10;

/// The greatest step: databases have no greater number.
pub const MAX_STEP: u64 = i64::MAX.cast_unsigned();

const MAGIC: &[u8; 4] = b"TSP1";
/// Values as 64-bit floats.
const DOUBLES: u8 = 0;
/// Values as 32-bit floats, where those are exactly the same numbers.
const SINGLES: u8 = 1;

/// Bytes that are not a frame.
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
    #[error("{what} at byte {offset} of the frame {wrong}")]
    Content {
        /// The field.
        what: &'static str,
        /// Where it begins.
        offset: usize,
        /// What is wrong with it.
        wrong: String,
    },
}

/// Points of many curves. Those of one curve are together, in the order in which they were
/// reported.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Frame<'a> {
    names: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// Where the points of each curve end.
    ends: Vec<usize>,
    points: Points,
}

/// The points of one curve in a [`Frame`].
#[derive(Debug, Clone, Copy)]
pub struct Curve<'a> {
    /// The chart.
    pub title: &'a str,
    /// The curve in it.
    pub series: &'a str,
    /// Its points as they were reported.
    pub points: PointsView<'a>,
}

impl<'a> Frame<'a> {
    /// How many points there are.
    pub fn point_count(&self) -> usize {
        self.points.len()
    }

    /// How many curves there are.
    pub fn curve_count(&self) -> usize {
        self.names.len()
    }

    /// The curves. One may come more than once; the later points are then those reported
    /// later.
    pub fn curves(&self) -> impl Iterator<Item = Curve<'_>> {
        self.names
            .iter()
            .enumerate()
            .map(|(index, (title, series))| {
                let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
                Curve {
                    title,
                    series,
                    points: self.points.range(start..self.ends[index]),
                }
            })
    }

    /// The frame as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64 + self.names.len() * 32 + self.points.len() * 11);
        bytes.extend_from_slice(MAGIC);
        varint::put(&mut bytes, self.names.len() as u64);
        for curve in self.curves() {
            for name in [curve.title, curve.series] {
                varint::put(&mut bytes, name.len() as u64);
                bytes.extend_from_slice(name.as_bytes());
            }
            put_points(&mut bytes, curve.points);
        }
        let extras: Vec<(usize, &str)> = self.points.view().extras().collect();
        varint::put(&mut bytes, extras.len() as u64);
        for (index, extra) in extras {
            varint::put(&mut bytes, index as u64);
            varint::put(&mut bytes, extra.len() as u64);
            bytes.extend_from_slice(extra.as_bytes());
        }
        let checksum = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// The frame that `bytes` are. Takes no more memory than a small multiple of their
    /// length, whatever they say of themselves.
    ///
    /// # Errors
    /// When a byte was changed, a name or a limit is broken, or they never were a frame.
    pub fn decode(bytes: &'a [u8]) -> Result<Self> {
        let reader = Reader { bytes, rest: bytes };
        let Some((content, checksum)) = bytes.split_last_chunk::<4>() else {
            return Err(reader.wrong("the frame", "has fewer than 4 bytes"));
        };
        let expected = u32::from_le_bytes(*checksum);
        let found = crc32c::crc32c(content);
        if found != expected {
            return Err(DamagedFrame::Checksum { expected, found });
        }
        Reader {
            bytes,
            rest: content,
        }
        .frame()
    }
}

/// Collects points in the order in which they were reported.
#[derive(Debug, Default)]
pub struct FrameBuilder<'a> {
    names: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    numbers: HashMap<(Cow<'a, str>, Cow<'a, str>), u32>,
    /// Which curve followed each curve last time: reports mostly repeat themselves.
    followers: Vec<u32>,
    last: u32,
    curve_of: Vec<u32>,
    points: Points,
}

impl<'a> FrameBuilder<'a> {
    /// How many points there are.
    pub fn point_count(&self) -> usize {
        self.points.len()
    }

    /// How many curves there are.
    pub fn curve_count(&self) -> usize {
        self.names.len()
    }

    /// Adds a point. Nothing is checked.
    pub fn push(
        &mut self,
        (title, series): (Cow<'a, str>, Cow<'a, str>),
        step: u64,
        time: i64,
        value: f64,
        extra: Option<Box<str>>,
    ) {
        let curve = self.curve(title, series);
        self.curve_of.push(curve);
        match extra {
            Some(extra) => self.points.push_with_extra(step, time, value, extra),
            None => self.points.push(step, time, value),
        }
    }

    /// Adds columns of one length to a curve. Nothing is checked.
    ///
    /// # Panics
    /// When the columns differ in length.
    pub fn push_columns(
        &mut self,
        (title, series): (Cow<'a, str>, Cow<'a, str>),
        steps: &[u64],
        times: &[i64],
        values: &[f64],
    ) {
        if steps.is_empty() {
            return;
        }
        let curve = self.curve(title, series);
        self.curve_of
            .resize(self.curve_of.len() + steps.len(), curve);
        self.points.extend_columns(steps, times, values);
    }

    fn curve(&mut self, title: Cow<'a, str>, series: Cow<'a, str>) -> u32 {
        let place = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        let last = place(self.last);
        let guess = self.followers.get(last).copied().unwrap_or(0);
        let curve = match self.names.get(place(guess)) {
            Some((known_title, known_series))
                if *known_title == title && *known_series == series =>
            {
                guess
            }
            _ => {
                let fresh = u32::try_from(self.names.len()).expect("fewer than 2^32 curves");
                let names = (title, series);
                *self.numbers.entry(names).or_insert_with_key(|names| {
                    self.names.push(names.clone());
                    self.followers.push(0);
                    fresh
                })
            }
        };
        if let Some(follower) = self.followers.get_mut(last) {
            *follower = curve;
        }
        self.last = curve;
        curve
    }

    /// The points, those of each curve together.
    pub fn finish(self) -> Frame<'a> {
        let mut ends = vec![0_usize; self.names.len()];
        let place = |curve: u32| usize::try_from(curve).unwrap_or(usize::MAX);
        for curve in &self.curve_of {
            ends[place(*curve)] += 1;
        }
        let mut total = 0;
        for end in &mut ends {
            total += *end;
            *end = total;
        }
        let points = if self.curve_of.is_sorted() {
            self.points
        } else {
            let mut next: Vec<usize> = std::iter::once(0).chain(ends.iter().copied()).collect();
            let mut order = vec![0_usize; self.points.len()];
            for (index, curve) in self.curve_of.iter().enumerate() {
                let place = &mut next[place(*curve)];
                order[*place] = index;
                *place += 1;
            }
            self.points.reordered(&order)
        };
        Frame {
            names: self.names,
            ends,
            points,
        }
    }
}

/// Appends count, steps, times and values.
pub(crate) fn put_points(bytes: &mut Vec<u8>, points: PointsView<'_>) {
    varint::put(bytes, points.len() as u64);
    let steps = points.steps().iter();
    varint::put_column(bytes, steps.map(|step| step.cast_signed()));
    varint::put_column(bytes, points.times().iter().copied());
    let single = |value: &f64| {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "whether it loses anything is what is asked"
        )]
        let single = *value as f32;
        (f64::from(single).to_bits() == value.to_bits() || value.is_nan()).then_some(single)
    };
    if points.values().iter().all(|value| single(value).is_some()) {
        bytes.push(SINGLES);
        for value in points.values().iter().filter_map(single) {
            bytes.extend_from_slice(&value.to_le_bytes());
        }
    } else {
        bytes.push(DOUBLES);
        for value in points.values() {
            bytes.extend_from_slice(&value.to_le_bytes());
        }
    }
}

/// What is left of a frame.
struct Reader<'a> {
    bytes: &'a [u8],
    rest: &'a [u8],
}

type Result<T> = std::result::Result<T, DamagedFrame>;

impl<'a> Reader<'a> {
    fn frame(mut self) -> Result<Frame<'a>> {
        let mark = self.slice(MAGIC.len(), "the mark")?;
        if mark != MAGIC {
            return Err(DamagedFrame::Content {
                what: "the mark",
                offset: 0,
                wrong: "is not `TSP1`".into(),
            });
        }
        let curve_count = self.number("the number of curves", MAX_FRAME_CURVES)?;
        let mut frame = Frame::default();
        for _ in 0..curve_count {
            let title = self.name("a title")?;
            let series = self.name("a series")?;
            self.points(&mut frame.points)?;
            frame.names.push((title.into(), series.into()));
            frame.ends.push(frame.points.len());
        }
        let extra_count = self.number("the number of extra data", frame.points.len())?;
        let mut after = 0;
        for _ in 0..extra_count {
            let before = self.rest;
            let index = self.number("the point of extra data", frame.points.len())?;
            if index < after || index >= frame.points.len() {
                self.rest = before;
                let wrong = format!(
                    "is {index}, but points are numbered, each once, up to {}",
                    frame.points.len()
                );
                return Err(self.wrong("the point of extra data", wrong));
            }
            after = index + 1;
            let extra = self.extra()?;
            frame.points.add_extra(index, extra.into());
        }
        if self.rest.is_empty() {
            Ok(frame)
        } else {
            Err(self.wrong("what follows", "belongs to nothing"))
        }
    }

    fn points(&mut self, points: &mut Points) -> Result<()> {
        let room = MAX_FRAME_POINTS - points.len();
        let start = self.rest;
        let count = self.number("the number of points", room)?;
        // A point has at least a byte of step, a byte of time and four bytes of value.
        if count == 0 || count > self.rest.len() / 6 {
            self.rest = start;
            let wrong = format!("is {count}, but must be at least 1 and have 6 bytes for each");
            return Err(self.wrong("the number of points", wrong));
        }
        let cut = |reader: &Self, what| reader.wrong(what, "breaks off or has more than 64 bits");
        let mut steps = Vec::with_capacity(count);
        let rest = &mut self.rest;
        varint::take_column(rest, count, |step| steps.push(step.cast_unsigned()))
            .ok_or_else(|| cut(self, "a step"))?;
        if steps.iter().any(|step| *step > MAX_STEP) {
            self.rest = start;
            return Err(self.wrong("a step of the points", "is negative"));
        }
        let mut times = Vec::with_capacity(count);
        let rest = &mut self.rest;
        varint::take_column(rest, count, |time| times.push(time))
            .ok_or_else(|| cut(self, "a time"))?;
        let encoding = self.slice(1, "the encoding of values")?[0];
        let values: Vec<f64> = match encoding {
            SINGLES => {
                let (singles, _) = self.slice(count * 4, "the values")?.as_chunks::<4>();
                let doubles = singles
                    .iter()
                    .map(|bytes| f64::from(f32::from_le_bytes(*bytes)));
                doubles.collect()
            }
            DOUBLES => {
                let (doubles, _) = self.slice(count * 8, "the values")?.as_chunks::<8>();
                doubles
                    .iter()
                    .map(|bytes| f64::from_le_bytes(*bytes))
                    .collect()
            }
            other => {
                return Err(self.wrong("the encoding of values", format!("is {other}, not 0 or 1")));
            }
        };
        points.extend_columns(&steps, &times, &values);
        Ok(())
    }

    fn name(&mut self, what: &'static str) -> Result<&'a str> {
        let start = self.rest;
        let length = self.number(what, MAX_NAME_BYTES)?;
        let bytes = self.slice(length, what)?;
        let name = std::str::from_utf8(bytes)
            .ok()
            .filter(|name| is_series_name(name));
        name.ok_or_else(|| {
            self.rest = start;
            self.wrong(
                what,
                "has 1 to 200 bytes of UTF-8 without control characters",
            )
        })
    }

    fn extra(&mut self) -> Result<&'a str> {
        let what = "extra data";
        let start = self.rest;
        let length = self.number(what, MAX_EXTRA_BYTES)?;
        let bytes = self.slice(length, what)?;
        let object: Option<HashMap<Cow<'_, str>, IgnoredAny>> = serde_json::from_slice(bytes).ok();
        let text = object.and_then(|_| std::str::from_utf8(bytes).ok());
        text.ok_or_else(|| {
            self.rest = start;
            self.wrong(what, "is not a JSON object")
        })
    }

    fn number(&mut self, what: &'static str, most: usize) -> Result<usize> {
        let start = self.rest;
        let number = varint::take(&mut self.rest);
        let number =
            number.ok_or_else(|| self.wrong(what, "breaks off or has more than 64 bits"))?;
        match usize::try_from(number)
            .ok()
            .filter(|number| *number <= most)
        {
            Some(number) => Ok(number),
            None => {
                self.rest = start;
                Err(self.wrong(what, format!("is {number}, but may be at most {most}")))
            }
        }
    }

    fn slice(&mut self, bytes: usize, what: &'static str) -> Result<&'a [u8]> {
        let Some((taken, after)) = self.rest.split_at_checked(bytes) else {
            let wrong = format!("has {bytes} bytes, but only {} follow", self.rest.len());
            return Err(self.wrong(what, wrong));
        };
        self.rest = after;
        Ok(taken)
    }

    fn wrong(&self, what: &'static str, wrong: impl Into<String>) -> DamagedFrame {
        // `rest` ends before the checksum, unless nothing was taken yet.
        let end = self.bytes.len().saturating_sub(4);
        DamagedFrame::Content {
            what,
            offset: end.saturating_sub(self.rest.len()),
            wrong: wrong.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use proptest::prelude::*;

    use super::*;
    use crate::points::tests::any_points;

    fn any_frame() -> impl Strategy<Value = Frame<'static>> {
        let curve = ("[a-zü]{1,3}", "[a-z/]{1,3}", any_points(1..20));
        prop::collection::vec(curve, 0..5).prop_map(|curves| {
            let mut builder = FrameBuilder::default();
            for (title, series, points) in curves {
                for point in points.view().iter() {
                    let names = (title.clone().into(), series.clone().into());
                    let extra = point.extra.map(Into::into);
                    builder.push(names, point.step, point.time, point.value, extra);
                }
            }
            builder.finish()
        })
    }

    fn sealed(mut content: Vec<u8>) -> Vec<u8> {
        let checksum = crc32c::crc32c(&content);
        content.extend_from_slice(&checksum.to_le_bytes());
        content
    }

    proptest! {
        #[test]
        fn a_frame_comes_back_as_it_was(frame in any_frame()) {
            let bytes = frame.encode();
            prop_assert_eq!(Frame::decode(&bytes).unwrap(), frame);
        }

        #[test]
        fn a_changed_byte_is_noticed(frame in any_frame(), place in any::<prop::sample::Index>(), flip in 1_u8..) {
            let mut bytes = frame.encode();
            let place = place.index(bytes.len());
            bytes[place] ^= flip;
            prop_assert!(Frame::decode(&bytes).is_err());
        }

        #[test]
        fn no_bytes_make_decoding_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Frame::decode(&bytes);
            let _ = Frame::decode(&sealed(bytes.clone()));
            let _ = Frame::decode(&sealed([MAGIC.as_slice(), &bytes].concat()));
        }

        #[test]
        fn no_change_with_a_right_checksum_makes_decoding_panic(frame in any_frame(), place in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
            let mut bytes = frame.encode();
            bytes.truncate(bytes.len() - 4);
            let place = place.index(bytes.len());
            bytes[place] = byte;
            if cut {
                bytes.truncate(place);
            }
            if let Ok(frame) = Frame::decode(&sealed(bytes)) {
                // What is accepted can be stored and read again.
                let again = frame.encode();
                prop_assert_eq!(&Frame::decode(&again).unwrap(), &frame);
            }
        }

        #[test]
        fn points_of_many_curves_keep_their_order_within_each(rows in prop::collection::vec((0_u8..4, any::<u64>()), 0..40)) {
            let mut builder = FrameBuilder::default();
            for (curve, step) in &rows {
                builder.push(("t".into(), curve.to_string().into()), *step, 0, 0.0, None);
            }
            let frame = builder.finish();
            for curve in frame.curves() {
                let number: u8 = curve.series.parse().unwrap();
                let steps = rows.iter().filter(|row| row.0 == number).map(|row| row.1);
                prop_assert_eq!(curve.points.steps(), steps.collect::<Vec<_>>());
            }
        }
    }

    #[track_caller]
    fn check(content: &[u8], expected: &expect_test::Expect) {
        let error = Frame::decode(&sealed(content.to_vec())).unwrap_err();
        expected.assert_eq(&error.to_string());
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        check(
            b"TSP",
            &expect!["the mark at byte 0 of the frame has 4 bytes, but only 3 follow"],
        );
        check(
            b"TSP2\0\0",
            &expect!["the mark at byte 0 of the frame is not `TSP1`"],
        );
        check(
            b"TSP1\xff\xff\x7f",
            &expect![
                "the number of curves at byte 4 of the frame is 2097151, but may be at most 10000"
            ],
        );
        check(
            b"TSP1\x01\x01t\x02a\n",
            &expect![
                "a series at byte 7 of the frame has 1 to 200 bytes of UTF-8 without control characters"
            ],
        );
        check(
            b"TSP1\x01\x01t\x01s\xa0\x8d\x06",
            &expect![
                "the number of points at byte 9 of the frame is 100000, but must be at least 1 and have 6 bytes for each"
            ],
        );
        check(
            b"TSP1\x01\x01t\x01s\x01\x00\x00\x02\0\0\0\0\0",
            &expect!["the encoding of values at byte 13 of the frame is 2, not 0 or 1"],
        );
        check(
            b"TSP1\x01\x01t\x01s\x01\x00\x00\x01\0\0\0\0\x01\x01\x02{}",
            &expect![
                "the point of extra data at byte 18 of the frame is 1, but points are numbered, each once, up to 1"
            ],
        );
        check(
            b"TSP1\x01\x01t\x01s\x01\x00\x00\x01\0\0\0\0\x01\x00\x02[]",
            &expect!["extra data at byte 19 of the frame is not a JSON object"],
        );
        check(
            b"TSP1\0\0!",
            &expect!["what follows at byte 6 of the frame belongs to nothing"],
        );
    }

    #[test]
    fn the_example_of_the_documentation_is_a_frame() {
        let mut builder = FrameBuilder::default();
        let names = || ("train".into(), "loss".into());
        builder.push(names(), 0, 1_700_000_000_000, 0.5, None);
        builder.push(
            names(),
            1,
            1_700_000_000_100,
            0.25,
            Some("{\"lr\":1}".into()),
        );
        let hex: Vec<String> = builder
            .finish()
            .encode()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        expect!["54 53 50 31 01 05 74 72 61 69 6e 04 6c 6f 73 73 02 00 02 80 a0 ab fe f9 62 c8 01 01 00 00 00 3f 00 00 80 3e 01 01 08 7b 22 6c 72 22 3a 31 7d 78 df 93 14"]
            .assert_eq(&hex.join(" "));
    }
}
