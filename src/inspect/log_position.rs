//! A place in the log, as a person writes it.

use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::error::{Error, Result};
use crate::event::{EventId, Seq};
use crate::sync::now_ms;

/// Milliseconds in each unit that an age is written in.
const UNITS: [(&str, i64); 5] =
    [("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000), ("w", 604_800_000)];

/// A place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogPosition {
    /// An event's place.
    Seq(Seq),
    /// An event.
    Event(EventId),
    /// A time: ms since 1970.
    At(i64),
    /// So many ms ago.
    Ago(i64),
    /// Now, with what is pending.
    Now,
}

impl FromStr for LogPosition {
    type Err = Error;

    fn from_str(text: &str) -> Result<LogPosition> {
        let parsed = if let Some(named) = named(text, now_ms()) {
            Some(named)
        } else if text.bytes().all(|byte| byte.is_ascii_digit()) {
            text.parse().ok().map(|seq| LogPosition::Seq(Seq(seq)))
        } else if let Some(age) = age(text) {
            Some(LogPosition::Ago(age))
        } else if let Some(midnight) = midnight(text) {
            Some(LogPosition::At(midnight))
        } else if let Ok(time) = text.parse::<Timestamp>() {
            Some(LogPosition::At(time.as_millisecond()))
        } else {
            text.parse().ok().map(LogPosition::Event)
        };
        parsed.ok_or_else(|| {
            Error::usage(format!("`{text}` is not a time, an age, a seq or an event's id")).with_hint(
                "write 2026-01-05, 2026-01-05T09:30:00Z, 2h, 7d, today, yesterday, now, 1234 or \
                     an event's id",
            )
        })
    }
}

/// A position that has a name; days begin at midnight UTC.
fn named(text: &str, now_ms: i64) -> Option<LogPosition> {
    const DAY: i64 = UNITS[3].1;
    let today = now_ms - now_ms.rem_euclid(DAY);
    match text {
        "now" => Some(LogPosition::Now),
        "today" => Some(LogPosition::At(today)),
        "yesterday" => Some(LogPosition::At(today - DAY)),
        _ => None,
    }
}

/// When a date alone begins, in UTC.
fn midnight(text: &str) -> Option<i64> {
    let date = text.parse::<Date>().ok().filter(|_| text.len() == "2026-01-05".len())?;
    Some(date.to_zoned(TimeZone::UTC).ok()?.timestamp().as_millisecond())
}

/// An age such as `90s`, `2h` or `7d`, in ms.
fn age(text: &str) -> Option<i64> {
    UNITS.iter().find_map(|(unit, ms)| {
        let number = text.strip_suffix(unit)?;
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        number.parse::<i64>().ok()?.checked_mul(*ms)
    })
}

/// A time for people: RFC 3339 in UTC, to the millisecond.
pub(crate) fn rfc3339(ms: i64) -> String {
    match Timestamp::from_millisecond(ms) {
        Ok(time) => format!("{time:.3}"),
        Err(_) => format!("{ms} ms"),
    }
}

/// A time in a listing: to the second, in UTC.
pub(crate) fn short(ms: i64) -> String {
    match Timestamp::from_millisecond(ms) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => format!("{ms} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_write_it() {
        let parse = |text: &str| text.parse::<LogPosition>().map_err(|error| error.to_string());
        assert_eq!(parse("1234"), Ok(LogPosition::Seq(Seq(1234))));
        assert_eq!(parse("2h"), Ok(LogPosition::Ago(7_200_000)));
        assert_eq!(parse("7d"), Ok(LogPosition::Ago(604_800_000)));
        assert_eq!(parse("1970-01-02"), Ok(LogPosition::At(86_400_000)));
        assert_eq!(parse("1970-01-01T00:00:01.5Z"), Ok(LogPosition::At(1_500)));
        assert_eq!(parse("1970-01-01T01:00:00+01:00"), Ok(LogPosition::At(0)));
        let id = "01KE6PVW88WTS8XNVM98T9VGDP";
        assert_eq!(parse(id), Ok(LogPosition::Event(id.parse().unwrap())));
        assert_eq!(parse("now"), Ok(LogPosition::Now));
        assert_eq!(named("today", 86_400_001), Some(LogPosition::At(86_400_000)));
        assert_eq!(named("yesterday", 86_400_001), Some(LogPosition::At(0)));
        for nonsense in ["", "tomorrow", "h", "-2h", "2026-13-01", "99999999999999999999", "1.5h"] {
            assert!(parse(nonsense).is_err(), "{nonsense}");
        }
    }

    #[test]
    fn times_for_people() {
        assert_eq!(rfc3339(1_500), "1970-01-01T00:00:01.500Z");
        assert_eq!(short(1_500), "1970-01-01 00:00:01");
    }
}
