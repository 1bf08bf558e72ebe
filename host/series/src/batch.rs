//! The JSON body with which clients report points.
//!
//! It is read straight into columns: a program that reports a million points a second spends
//! most of the server's time here.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use trainshed_core::name::is_series_name;

use crate::frame::{
    Frame, FrameBuilder, MAX_EXTRA_BYTES, MAX_FRAME_CURVES, MAX_FRAME_POINTS, MAX_STEP,
};

/// Most single values of one batch.
pub const MAX_SINGLES: usize = 10_000;
/// Most bytes of the key of a batch.
const MAX_KEY_BYTES: usize = 200;

/// What a client reports in one call.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Batch<'a> {
    /// By which it is known when it is sent again.
    pub key: Option<Cow<'a, str>>,
    /// Points of curves.
    pub frame: Frame<'a>,
    /// Values without a curve; of several with one name the last holds.
    pub singles: Vec<(Cow<'a, str>, f64)>,
}

/// A body that is not a batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct BadBatch {
    /// JSON pointer of the field at fault; empty where it is the whole body.
    pub pointer: String,
    /// What is wrong with which value, and what would be right.
    pub message: String,
}

/// Reads a body. Points without a time get the time `now`.
///
/// # Errors
/// When it is not JSON, not a batch, or a name, number or limit breaks a rule.
pub fn parse_batch(body: &[u8], now: i64) -> Result<Batch<'_>, BadBatch> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let parsed = BatchSeed { now }.deserialize(&mut deserializer);
    let parsed = parsed.and_then(|batch| deserializer.end().map(|()| batch));
    parsed.map_err(|error| locate(body, now).unwrap_or_else(|| bad(String::new(), &error)))
}

/// Reads a body again, this time keeping track of where: that would cost too much the first
/// time.
fn locate(body: &[u8], now: i64) -> Option<BadBatch> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(&mut deserializer, &mut track);
    let error = BatchSeed { now }.deserialize(tracked).err()?;
    let mut pointer = String::new();
    for part in &track.path() {
        let part = part.to_string();
        pointer.push('/');
        let index = part
            .strip_prefix('[')
            .and_then(|part| part.strip_suffix(']'));
        pointer.push_str(&index.unwrap_or(&part).replace('~', "~0").replace('/', "~1"));
    }
    Some(bad(pointer, &error))
}

fn bad(pointer: String, error: &serde_json::Error) -> BadBatch {
    let place = if pointer.is_empty() {
        "the body"
    } else {
        &pointer
    };
    let message = format!("{place} cannot be read: {error}");
    BadBatch { pointer, message }
}

/// A point as JSON has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PointBody<'a> {
    #[serde(borrow)]
    title: Name<'a>,
    #[serde(borrow)]
    series: Name<'a>,
    iteration: Step,
    value: Number,
    at: Option<i64>,
    extra: Option<Extra>,
}

/// Columns of one curve as JSON has them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CurveBody<'a> {
    #[serde(borrow)]
    title: Name<'a>,
    #[serde(borrow)]
    series: Name<'a>,
    iterations: Column<Step>,
    values: Column<Number>,
    times: Option<Column<i64>>,
}

/// A name that keeps the rules of names.
struct Name<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Text.deserialize(deserializer).and_then(|name| {
            if is_series_name(&name) {
                return Ok(Self(name));
            }
            let shown: String = name.chars().take(80).collect();
            Err(D::Error::custom(format!(
                "a name has 1 to 200 bytes and no control characters, but this one is `{}`",
                shown.escape_debug()
            )))
        })
    }
}

/// A text, borrowed where it has no escapes.
struct Text;

impl<'de> DeserializeSeed<'de> for Text {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Text {
    type Value = Cow<'de, str>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a text")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

/// A step, which is not above [`MAX_STEP`].
#[derive(Clone, Copy)]
struct Step(u64);

impl<'de> Deserialize<'de> for Step {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let step = u64::deserialize(deserializer)?;
        if step <= MAX_STEP {
            return Ok(Self(step));
        }
        Err(D::Error::custom(format!(
            "an iteration is at most {MAX_STEP}, but this one is {step}"
        )))
    }
}

/// A number or the text for one that JSON does not have.
#[derive(Clone, Copy)]
struct Number(f64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        trainshed_core::report::Real::deserialize(deserializer).map(|real| Self(real.0))
    }
}

/// Extra data as the text of a JSON object.
struct Extra(Box<str>);

impl<'de> Deserialize<'de> for Extra {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let object = Map::<String, Value>::deserialize(deserializer)?;
        let text = Value::Object(object).to_string();
        if text.len() > MAX_EXTRA_BYTES {
            return Err(D::Error::custom(format!(
                "extra data have at most {MAX_EXTRA_BYTES} bytes, but these have {}",
                text.len()
            )));
        }
        Ok(Self(text.into()))
    }
}

/// A list of numbers, not longer than a batch may be.
struct Column<T>(Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Column<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ColumnVisitor<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for ColumnVisitor<T> {
            type Value = Column<T>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a list of numbers")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Column<T>, A::Error> {
                let mut column = Vec::new();
                while let Some(number) = list.next_element()? {
                    check_room(column.len(), MAX_FRAME_POINTS, "points")?;
                    column.push(number);
                }
                Ok(Column(column))
            }
        }
        deserializer.deserialize_seq(ColumnVisitor(std::marker::PhantomData))
    }
}

fn check_room<E: serde::de::Error>(taken: usize, most: usize, what: &str) -> Result<(), E> {
    if taken < most {
        return Ok(());
    }
    Err(E::custom(format!("a batch has at most {most} {what}")))
}

fn check_curves<E: serde::de::Error>(builder: &FrameBuilder<'_>) -> Result<(), E> {
    check_room(
        builder.curve_count().saturating_sub(1),
        MAX_FRAME_CURVES,
        "curves",
    )
}

/// Reads a whole body.
struct BatchSeed {
    now: i64,
}

impl<'de> DeserializeSeed<'de> for BatchSeed {
    type Value = Batch<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Batch<'de>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Field {
    Key,
    Points,
    Curves,
    Singles,
}

impl<'de> Visitor<'de> for BatchSeed {
    type Value = Batch<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object with `points`, `curves` or `singles`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Batch<'de>, A::Error> {
        let now = self.now;
        let mut key = None;
        let mut builder = FrameBuilder::default();
        let mut singles = Vec::new();
        while let Some(field) = fields.next_key()? {
            let builder = &mut builder;
            match field {
                Field::Key => key = fields.next_value_seed(Key)?,
                Field::Points => fields.next_value_seed(PointList { builder, now })?,
                Field::Curves => fields.next_value_seed(CurveList { builder, now })?,
                Field::Singles => fields.next_value_seed(SingleMap(&mut singles))?,
            }
        }
        Ok(Batch {
            key,
            frame: builder.finish(),
            singles,
        })
    }
}

struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Option<Cow<'de, str>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        let key = Text.deserialize(deserializer)?;
        if key.is_empty() || key.len() > MAX_KEY_BYTES {
            return Err(D::Error::custom(format!(
                "the key of a batch has 1 to {MAX_KEY_BYTES} bytes, but this one has {}",
                key.len()
            )));
        }
        Ok(Some(key))
    }
}

struct PointList<'b, 'de> {
    builder: &'b mut FrameBuilder<'de>,
    now: i64,
}

impl<'de> DeserializeSeed<'de> for PointList<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for PointList<'_, 'de> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list of points")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(point) = list.next_element::<PointBody<'de>>()? {
            check_room(self.builder.point_count(), MAX_FRAME_POINTS, "points")?;
            let names = (point.title.0, point.series.0);
            let time = point.at.unwrap_or(self.now);
            let extra = point.extra.map(|extra| extra.0);
            self.builder
                .push(names, point.iteration.0, time, point.value.0, extra);
            check_curves(self.builder)?;
        }
        Ok(())
    }
}

struct CurveList<'b, 'de> {
    builder: &'b mut FrameBuilder<'de>,
    now: i64,
}

impl<'de> DeserializeSeed<'de> for CurveList<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for CurveList<'_, 'de> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list of curves")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(curve) = list.next_element::<CurveBody<'de>>()? {
            let (steps, values) = (curve.iterations.0, curve.values.0);
            let times = match curve.times {
                Some(times) => times.0,
                None => vec![self.now; steps.len()],
            };
            if steps.len() != values.len() || steps.len() != times.len() {
                return Err(A::Error::custom(format!(
                    "the columns of a curve have one length, but there are {} iterations, {} \
                     values and {} times",
                    steps.len(),
                    values.len(),
                    times.len()
                )));
            }
            let points = self.builder.point_count() + steps.len();
            check_room(points.saturating_sub(1), MAX_FRAME_POINTS, "points")?;
            let steps: Vec<u64> = steps.into_iter().map(|step| step.0).collect();
            let values: Vec<f64> = values.into_iter().map(|value| value.0).collect();
            let names = (curve.title.0, curve.series.0);
            self.builder.push_columns(names, &steps, &times, &values);
            check_curves(self.builder)?;
        }
        Ok(())
    }
}

struct SingleMap<'b, 'de>(&'b mut Vec<(Cow<'de, str>, f64)>);

impl<'de> DeserializeSeed<'de> for SingleMap<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for SingleMap<'_, 'de> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object of names and numbers")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        while let Some(Name(name)) = entries.next_key()? {
            check_room(self.0.len(), MAX_SINGLES, "single values")?;
            self.0.push((name, entries.next_value::<Number>()?.0));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    use super::*;

    fn shown(body: &str) -> String {
        use std::fmt::Write as _;
        let batch = parse_batch(body.as_bytes(), 7).unwrap();
        let mut text = format!("key {:?}\n", batch.key);
        for curve in batch.frame.curves() {
            for point in curve.points.iter() {
                let (title, series) = (curve.title, curve.series);
                let (step, time, value) = (point.step, point.time, point.value);
                writeln!(
                    text,
                    "{title}/{series} {step} {time} {value} {:?}",
                    point.extra
                )
                .unwrap();
            }
        }
        for (name, value) in batch.singles {
            writeln!(text, "{name} = {value}").unwrap();
        }
        text
    }

    #[test]
    fn points_columns_and_single_values_are_read() {
        let body = r#"{
            "key": "k-1",
            "points": [
                {"title": "train", "series": "loss", "iteration": 1, "value": 0.5, "at": 100},
                {"title": "train", "series": "l\u00fc", "iteration": 1, "value": "NaN"},
                {"title": "train", "series": "loss", "iteration": 2, "value": -3,
                 "extra": {"epoch": 3}}
            ],
            "curves": [
                {"title": "val", "series": "acc", "iterations": [1, 2], "values": [0.5, "Infinity"]},
                {"title": "train", "series": "loss", "iterations": [3], "values": [1e400],
                 "times": [9]}
            ],
            "singles": {"best": 1.5, "n": "-Infinity"}
        }"#;
        let body = body.replace("1e400", "1e300");
        expect![[r#"
            key Some("k-1")
            train/loss 1 100 0.5 None
            train/loss 2 7 -3 Some("{\"epoch\":3}")
            train/loss 3 9 1000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000 None
            train/lü 1 7 NaN None
            val/acc 1 7 0.5 None
            val/acc 2 7 inf None
            best = 1.5
            n = -inf
        "#]]
        .assert_eq(&shown(&body));
        expect!["key None\n"].assert_eq(&shown("{}"));
    }

    #[track_caller]
    fn check(body: &str, expected: Expect) {
        let error = parse_batch(body.as_bytes(), 0).unwrap_err();
        expected.assert_eq(&format!("{}: {}", error.pointer, error.message));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let point = |field: &str| {
            let good = r#"{"title":"t","series":"s","iteration":1,"value":1}"#;
            format!(r#"{{"points":[{good},{{"title":"t","series":"s",{field}}}]}}"#)
        };
        check(
            "[]",
            expect![
                ": the body cannot be read: invalid type: sequence, expected an object with `points`, `curves` or `singles` at line 1 column 0"
            ],
        );
        check(
            "{\"points\":1}",
            expect![
                "/points: /points cannot be read: invalid type: integer `1`, expected a list of points at line 1 column 11"
            ],
        );
        check(
            "{\"metrics\":[]}",
            expect![
                "/metrics: /metrics cannot be read: unknown field `metrics`, expected one of `key`, `points`, `curves`, `singles` at line 1 column 10"
            ],
        );
        check(
            "{} {}",
            expect![": the body cannot be read: trailing characters at line 1 column 4"],
        );
        check(
            "{\"points\":[",
            expect![
                "/points: /points cannot be read: EOF while parsing a list at line 1 column 11"
            ],
        );
        check(
            "{\"key\":\"\"}",
            expect![
                "/key: /key cannot be read: the key of a batch has 1 to 200 bytes, but this one has 0 at line 1 column 10"
            ],
        );
        check(
            &point(r#""iteration":-1,"value":1"#),
            expect![
                "/points/1/iteration: /points/1/iteration cannot be read: invalid value: integer `-1`, expected u64 at line 1 column 102"
            ],
        );
        check(
            &point(r#""iteration":1"#),
            expect![
                "/points/1: /points/1 cannot be read: missing field `value` at line 1 column 102"
            ],
        );
        check(
            &point(r#""iteration":1,"value":"nan""#),
            expect![[
                r#"/points/1/value: /points/1/value cannot be read: invalid value: string "nan", expected a number, "NaN", "Infinity" or "-Infinity" at line 1 column 115"#
            ]],
        );
        check(
            &point(r#""iteration":1,"value":null"#),
            expect![[
                r#"/points/1/value: /points/1/value cannot be read: invalid type: null, expected a number, "NaN", "Infinity" or "-Infinity" at line 1 column 114"#
            ]],
        );
        check(
            &point(r#""iteration":1,"value":1,"step":2"#),
            expect![
                "/points/1/step: /points/1/step cannot be read: unknown field `step`, expected one of `title`, `series`, `iteration`, `value`, `at`, `extra` at line 1 column 118"
            ],
        );
        check(
            &point(r#""iteration":1,"value":1,"extra":[]"#),
            expect![
                "/points/1/extra: /points/1/extra cannot be read: invalid type: sequence, expected a map at line 1 column 120"
            ],
        );
        check(
            r#"{"points":[{"title":"a\nb"}]}"#,
            expect![[
                r#"/points/0/title: /points/0/title cannot be read: a name has 1 to 200 bytes and no control characters, but this one is `a\nb` at line 1 column 27"#
            ]],
        );
        check(
            r#"{"curves":[{"title":"t","series":"s","iterations":[1,2],"values":[1]}]}"#,
            expect![
                "/curves: /curves cannot be read: the columns of a curve have one length, but there are 2 iterations, 1 values and 2 times at line 1 column 70"
            ],
        );
        check(
            r#"{"singles":{"a":1,"b":true}}"#,
            expect![[
                r#"/singles/b: /singles/b cannot be read: invalid type: boolean `true`, expected a number, "NaN", "Infinity" or "-Infinity" at line 1 column 26"#
            ]],
        );
    }

    #[test]
    fn a_batch_has_a_bounded_number_of_points_and_curves() {
        let many = |count: usize, point: &dyn Fn(usize) -> String| {
            let points: Vec<String> = (0..count).map(point).collect();
            format!("{{\"points\":[{}]}}", points.join(","))
        };
        let same = |_| r#"{"title":"t","series":"s","iteration":1,"value":1}"#.to_owned();
        let own = |index| format!(r#"{{"title":"t","series":"{index}","iteration":1,"value":1}}"#);
        assert!(parse_batch(many(MAX_FRAME_POINTS, &same).as_bytes(), 0).is_ok());
        assert!(parse_batch(many(MAX_FRAME_CURVES, &own).as_bytes(), 0).is_ok());
        check(
            &many(MAX_FRAME_POINTS + 1, &same),
            expect![
                "/points: /points cannot be read: a batch has at most 100000 points at line 1 column 5100062"
            ],
        );
        check(
            &many(MAX_FRAME_CURVES + 1, &own),
            expect![
                "/points: /points cannot be read: a batch has at most 10000 curves at line 1 column 538956"
            ],
        );
        let column = vec!["1"; MAX_FRAME_POINTS + 1].join(",");
        check(
            &format!(r#"{{"curves":[{{"title":"t","series":"s","iterations":[{column}]}}]}}"#),
            expect![
                "/curves/0/iterations: /curves/0/iterations cannot be read: a batch has at most 100000 points at line 1 column 200053"
            ],
        );
    }

    proptest! {
        #[test]
        fn no_text_makes_reading_panic(body in "[\\[\\]{}\",:0-9a-z\\\\ ]{0,60}") {
            let _ = parse_batch(body.as_bytes(), 0);
        }

        #[test]
        fn what_is_read_is_a_frame_that_can_be_stored(steps in prop::collection::vec((0..3_u8, 0..=MAX_STEP, any::<f64>()), 0..30)) {
            let points: Vec<Value> = steps.iter().map(|(series, step, value)| serde_json::json!({
                "title": "t", "series": series.to_string(), "iteration": step,
                "value": trainshed_core::report::Real(*value),
            })).collect();
            let body = serde_json::json!({ "points": points }).to_string();
            let batch = parse_batch(body.as_bytes(), 5).unwrap();
            prop_assert_eq!(batch.frame.point_count(), steps.len());
            let bytes = batch.frame.encode();
            prop_assert_eq!(&Frame::decode(&bytes).unwrap(), &batch.frame);
        }
    }
}
