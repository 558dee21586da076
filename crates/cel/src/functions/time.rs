//! Points and spans of time.

use jiff::civil::Weekday;
use jiff::fmt::temporal::DateTimePrinter;
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp, Zoned};

use super::{Answer, unreadable};
use crate::EvalError;
use crate::value::Value;

/// Calls a function of these; `None` for others.
pub fn call(name: &str, args: &[Value]) -> Option<Answer> {
    use Value::{Duration, Int, Text, Time};
    Some(match (name, args) {
        ("timestamp", [Time(time)]) => Ok(Time(*time)),
        ("timestamp", [Text(text)]) => {
            text.parse().map(Time).map_err(|_| unreadable("google.protobuf.Timestamp"))
        }
        ("timestamp", [Int(seconds)]) => {
            Timestamp::from_second(*seconds).map(Time).map_err(|_| EvalError::Overflow("timestamp"))
        }
        ("duration", [Duration(span)]) => Ok(Duration(*span)),
        ("duration", [Text(text)]) => match schema::time::parse_duration(text) {
            Ok(nanos) => Ok(Duration(SignedDuration::from_nanos(nanos))),
            Err(_) => Err(unreadable("google.protobuf.Duration")),
        },
        ("duration", [Int(nanos)]) => Ok(Duration(SignedDuration::from_nanos(*nanos))),
        ("int", [Time(time)]) => Ok(Int(time.as_second())),
        ("int", [Duration(span)]) => {
            i64::try_from(span.as_nanos()).map(Int).map_err(|_| EvalError::Overflow("integer"))
        }
        ("string", [Time(time)]) => Ok(Value::text(&shown(*time))),
        ("string", [Duration(span)]) => Ok(Value::text(&seconds(*span))),
        (_, [Time(time)]) => return part(name, &time.to_zoned(TimeZone::UTC)).map(|part| Ok(Int(part))),
        (_, [Time(time), Text(zone)]) => match self::zone(zone) {
            Some(zone) => return part(name, &time.to_zoned(zone)).map(|part| Ok(Int(part))),
            None => Err(EvalError::Argument(format!("unknown time zone {zone}"))),
        },
        (_, [Duration(span)]) => {
            return Some(Ok(Int(match name {
                "getHours" => span.as_hours(),
                "getMinutes" => span.as_mins(),
                "getSeconds" => span.as_secs(),
                "getMilliseconds" => i64::try_from(span.as_millis()).unwrap_or(i64::MAX),
                _ => return None,
            })));
        }
        _ => return None,
    })
}

/// As RFC 3339 has it, with as many digits of a second as there are.
pub fn shown(time: Timestamp) -> String {
    DateTimePrinter::new().timestamp_to_string(&time)
}

/// Seconds, as JSON has a span: `1.5s`.
pub fn seconds(span: SignedDuration) -> String {
    let nanos = span.as_nanos();
    let (whole, rest) = (nanos.unsigned_abs() / 1_000_000_000, nanos.unsigned_abs() % 1_000_000_000);
    let sign = if nanos < 0 { "-" } else { "" };
    let rest = format!("{rest:09}");
    match rest.trim_end_matches('0') {
        "" => format!("{sign}{whole}s"),
        digits => format!("{sign}{whole}.{digits}s"),
    }
}

/// A zone by name, or by its distance from UTC as `+01:00`.
fn zone(name: &str) -> Option<TimeZone> {
    if let Ok(zone) = TimeZone::get(name) {
        return Some(zone);
    }
    let (sign, rest) = match name.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, name.strip_prefix('+').unwrap_or(name)),
    };
    let (hours, minutes) = rest.split_once(':')?;
    let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
    Offset::from_seconds(sign * (hours * 3600 + minutes * 60)).ok().map(TimeZone::fixed)
}

/// A part of a date; months, and days of month and year begin with 0, weeks on Sunday.
fn part(name: &str, at: &Zoned) -> Option<i64> {
    Some(match name {
        "getFullYear" => i64::from(at.year()),
        "getMonth" => i64::from(at.month()) - 1,
        "getDate" => i64::from(at.day()),
        "getDayOfMonth" => i64::from(at.day()) - 1,
        "getDayOfYear" => i64::from(at.day_of_year()) - 1,
        "getDayOfWeek" => i64::from(at.weekday().since(Weekday::Sunday)),
        "getHours" => i64::from(at.hour()),
        "getMinutes" => i64::from(at.minute()),
        "getSeconds" => i64::from(at.second()),
        "getMilliseconds" => i64::from(at.millisecond()),
        _ => return None,
    })
}

/// What `+` and `-` make of points and spans.
pub fn arithmetic(name: &str, args: &[Value]) -> Option<Answer> {
    use Value::{Duration, Time};
    let late = || EvalError::Overflow("timestamp");
    Some(match (name, args) {
        ("_+_", [Time(time), Duration(span)] | [Duration(span), Time(time)]) => {
            time.checked_add(*span).map(Time).map_err(|_| late())
        }
        ("_-_", [Time(time), Duration(span)]) => time.checked_sub(*span).map(Time).map_err(|_| late()),
        ("_-_", [Time(a), Time(b)]) => Ok(Duration(a.duration_since(*b))),
        ("_+_", [Duration(a), Duration(b)]) => {
            a.checked_add(*b).map(Duration).ok_or(EvalError::Overflow("duration"))
        }
        ("_-_", [Duration(a), Duration(b)]) => {
            a.checked_sub(*b).map(Duration).ok_or(EvalError::Overflow("duration"))
        }
        _ => return None,
    })
}
