//! Points in time, as people write them.

use jiff::tz::TimeZone;
use jiff::{Timestamp as Instant, civil};

use crate::time::Timestamp;

/// What [`parse`] reads.
pub(crate) const EXPECTED: &str = "a time, e.g. `2026-01-31`, `2026-01-31T12:00:00Z`, `-7d` (units s, m, h, d, w), `now` or milliseconds since 1970";

/// The time that `text` names: a date with or without a time of day (UTC unless it says
/// otherwise), `now`, a time before or after now, or milliseconds since 1970.
pub(crate) fn parse(text: &str, now: Timestamp) -> Option<Timestamp> {
    let text = text.trim();
    if text.eq_ignore_ascii_case("now") {
        return Some(now);
    }
    if let Ok(millis) = text.parse() {
        return Some(Timestamp(millis));
    }
    relative(text, now).or_else(|| absolute(text))
}

/// `time` as queries write it: `2026-01-31T12:00:00Z`.
pub fn print(time: Timestamp) -> String {
    match Instant::from_millisecond(time.as_millis()) {
        Ok(instant) => instant.to_string(),
        Err(_) => time.as_millis().to_string(),
    }
}

fn relative(text: &str, now: Timestamp) -> Option<Timestamp> {
    let unit_ms = match text.chars().next_back()? {
        's' => 1_000,
        'm' => 60_000,
        'h' => 3_600_000,
        'd' => 86_400_000,
        'w' => 604_800_000,
        _ => return None,
    };
    let count = &text[..text.len() - 1];
    if !count.starts_with(['-', '+']) {
        return None;
    }
    let count: i64 = count.parse().ok()?;
    Some(now.plus_millis(count.checked_mul(unit_ms)?))
}

fn absolute(text: &str) -> Option<Timestamp> {
    let instant: Option<Instant> = text.parse().ok();
    let instant = instant.or_else(|| {
        let civil: civil::DateTime = text.parse().ok()?;
        let zoned = civil.to_zoned(TimeZone::UTC).ok()?;
        Some(zoned.timestamp())
    })?;
    Some(Timestamp(instant.as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_people_write_them() {
        let now = Timestamp(1_000_000_000_000);
        for (text, millis) in [
            ("now", 1_000_000_000_000),
            ("-7d", 1_000_000_000_000 - 7 * 86_400_000),
            ("+90s", 1_000_000_090_000),
            ("2000-02-29", 951_782_400_000),
            ("2000-02-29T12:34:56.789Z", 951_827_696_789),
            ("2000-02-29 12:34", 951_827_640_000),
            ("2000-02-29T12:34:56+01:00", 951_824_096_000),
            ("951827696789", 951_827_696_789),
            ("-5", -5),
        ] {
            assert_eq!(parse(text, now), Some(Timestamp(millis)), "{text}");
        }
        for text in [
            "",
            "7d",
            "d",
            "-d",
            "yesterday",
            "2000-02-30",
            "-99999999999999999w",
            "ä",
        ] {
            assert_eq!(parse(text, now), None, "{text}");
        }
    }

    #[test]
    fn what_is_printed_is_read_again() {
        for millis in [0, -1, 951_827_696_789, i64::MIN, i64::MAX] {
            let text = print(Timestamp(millis));
            assert_eq!(
                parse(&text, Timestamp(0)),
                Some(Timestamp(millis)),
                "{text}"
            );
        }
    }
}
