//! Times and durations as Go writes and reads them.

mod error;

use jiff::Timestamp;

use error::go_error;

/// A time or duration that Go would refuse, with Go's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TimeError(String);

/// Go's zero time, the first second of the year 1.
pub(crate) const GO_ZERO: Timestamp = Timestamp::constant(-62_135_596_800, 0);

pub(crate) fn is_go_zero(time: Timestamp) -> bool {
    time == GO_ZERO
}

/// Truncated to whole seconds, as metav1.Time is on the wire.
pub fn to_seconds(time: Timestamp) -> Timestamp {
    let seconds = time.as_nanosecond().div_euclid(1_000_000_000);
    Timestamp::from_second(i64::try_from(seconds).unwrap_or(0)).unwrap_or(time)
}

/// Truncated to microseconds, as metav1.MicroTime is on the wire.
pub fn to_micros(time: Timestamp) -> Timestamp {
    let micros = time.as_nanosecond().div_euclid(1_000);
    Timestamp::from_microsecond(i64::try_from(micros).unwrap_or(0)).unwrap_or(time)
}

/// The date in UTC as (year, month, day, hour, minute, second).
fn civil(seconds: i64) -> (i64, u32, u32, u32, u32, u32) {
    let days = seconds.div_euclid(86_400);
    let rest = seconds.rem_euclid(86_400) as u32;
    // Days to a proleptic Gregorian date, with years that start in March.
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * shifted + 2) / 5 + 1) as u32;
    let month = (if shifted < 10 { shifted + 3 } else { shifted - 9 }) as u32;
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day, rest / 3_600, rest % 3_600 / 60, rest % 60)
}

fn days_of(year: i64, month: u32, day: u32) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted = i64::from(if month > 2 { month - 3 } else { month + 9 });
    let day_of_year = (153 * shifted + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

fn digits(out: &mut Vec<u8>, value: i64, width: usize) {
    let mut buffer = [b'0'; 20];
    let mut rest = value.unsigned_abs();
    let mut used = 0;
    for slot in buffer.iter_mut().rev() {
        if rest == 0 && used >= width {
            break;
        }
        *slot = b'0' + (rest % 10) as u8;
        rest /= 10;
        used += 1;
    }
    if value < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(buffer.get(20 - used..).unwrap_or_default());
}

fn write_seconds(out: &mut Vec<u8>, seconds: i64) {
    let (year, month, day, hour, minute, second) = civil(seconds);
    digits(out, year, 4);
    for (mark, value) in [(b'-', month), (b'-', day), (b'T', hour), (b':', minute), (b':', second)] {
        out.push(mark);
        digits(out, i64::from(value), 2);
    }
}

/// `2006-01-02T15:04:05Z`.
pub fn write_rfc3339(out: &mut Vec<u8>, time: Timestamp) {
    let seconds = time.as_nanosecond().div_euclid(1_000_000_000) as i64;
    write_seconds(out, seconds);
    out.push(b'Z');
}

/// `2006-01-02T15:04:05.000000Z`.
pub fn write_rfc3339_micro(out: &mut Vec<u8>, time: Timestamp) {
    let nanos = time.as_nanosecond();
    write_seconds(out, nanos.div_euclid(1_000_000_000) as i64);
    out.push(b'.');
    digits(out, (nanos.rem_euclid(1_000_000_000) / 1_000) as i64, 6);
    out.push(b'Z');
}

/// As [`write_rfc3339`], to a string.
pub fn format_rfc3339(time: Timestamp) -> String {
    let mut out = Vec::with_capacity(20);
    write_rfc3339(&mut out, time);
    String::from_utf8(out).unwrap_or_default()
}

/// As [`write_rfc3339_micro`], to a string.
pub fn format_rfc3339_micro(time: Timestamp) -> String {
    let mut out = Vec::with_capacity(27);
    write_rfc3339_micro(&mut out, time);
    String::from_utf8(out).unwrap_or_default()
}

struct Cursor<'a> {
    rest: &'a [u8],
}

impl Cursor<'_> {
    fn number(&mut self, width: usize) -> Option<u32> {
        let digits = self.rest.get(..width)?;
        let mut value = 0u32;
        for d in digits {
            value = value * 10 + u32::from(d.checked_sub(b'0').filter(|d| *d < 10)?);
        }
        self.rest = self.rest.get(width..)?;
        Some(value)
    }

    fn eat(&mut self, mark: u8) -> Option<()> {
        let (first, rest) = self.rest.split_first()?;
        (*first == mark).then(|| self.rest = rest)
    }

    /// A fraction of a second, in nanoseconds; further digits are cut off.
    fn fraction(&mut self) -> Option<i64> {
        if !matches!(self.rest.first(), Some(b'.' | b',')) {
            return Some(0);
        }
        self.rest = self.rest.get(1..)?;
        let mut nanos = 0i64;
        let mut used = 0;
        while let Some(d) = self.rest.first().filter(|d| d.is_ascii_digit()) {
            if used < 9 {
                nanos = nanos * 10 + i64::from(d - b'0');
            }
            used += 1;
            self.rest = self.rest.get(1..)?;
        }
        if used == 0 {
            return None;
        }
        for _ in used..9 {
            nanos *= 10;
        }
        Some(nanos)
    }

    fn offset(&mut self) -> Option<i64> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        let sign = match first {
            b'Z' => return Some(0),
            b'+' => 1,
            b'-' => -1,
            _ => return None,
        };
        let hours = self.number(2).filter(|h| *h <= 24)?;
        self.eat(b':')?;
        let minutes = self.number(2).filter(|m| *m < 60)?;
        Some(sign * i64::from(hours * 3_600 + minutes * 60))
    }
}

fn parse(text: &str) -> Option<(i64, i64)> {
    let mut c = Cursor { rest: text.as_bytes() };
    let year = c.number(4)?;
    c.eat(b'-')?;
    let month = c.number(2).filter(|m| (1..=12).contains(m))?;
    c.eat(b'-')?;
    let day = c.number(2)?;
    c.eat(b'T')?;
    let hour = c.number(2).filter(|h| *h < 24)?;
    c.eat(b':')?;
    let minute = c.number(2).filter(|m| *m < 60)?;
    c.eat(b':')?;
    let second = c.number(2).filter(|s| *s < 60)?;
    let nanos = c.fraction()?;
    let offset = c.offset()?;
    let year = i64::from(year);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        2 => 28 + u32::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    if !c.rest.is_empty() || !(1..=last).contains(&day) {
        return None;
    }
    let seconds =
        days_of(year, month, day) * 86_400 + i64::from(hour * 3_600 + minute * 60 + second) - offset;
    Some((seconds, nanos))
}

/// Any RFC 3339 time, at full precision.
pub fn parse_rfc3339(text: &str) -> Result<Timestamp, TimeError> {
    parse(text)
        .and_then(|(seconds, nanos)| Timestamp::new(seconds, nanos as i32).ok())
        .ok_or_else(|| go_error(text, "2006-01-02T15:04:05Z07:00"))
}

/// As metav1.MicroTime reads it: exactly six digits of a second.
pub fn parse_rfc3339_micro(text: &str) -> Result<Timestamp, TimeError> {
    let layout = "2006-01-02T15:04:05.000000Z07:00";
    let fraction = text.bytes().skip(19).take_while(|b| !matches!(b, b'Z' | b'+' | b'-'));
    if fraction.count() != 7 {
        return Err(go_error(text, layout));
    }
    parse(text)
        .and_then(|(seconds, nanos)| Timestamp::new(seconds, nanos as i32).ok())
        .ok_or_else(|| go_error(text, layout))
}

/// Nanoseconds as Go's `time.Duration.String`: `1h2m3.5s`, `1.5µs`, `0s`.
pub fn format_duration(nanos: i64) -> String {
    let total = nanos.unsigned_abs();
    let sign = if nanos < 0 { "-" } else { "" };
    if total == 0 {
        return "0s".into();
    }
    if total < 1_000_000_000 {
        let (unit, scale) = match total {
            0..1_000 => ("ns", 1),
            1_000..1_000_000 => ("µs", 1_000),
            _ => ("ms", 1_000_000),
        };
        return format!("{sign}{}{unit}", with_fraction(total, scale));
    }
    let minutes = total / 60_000_000_000;
    let seconds = with_fraction(total % 60_000_000_000, 1_000_000_000);
    match minutes {
        0 => format!("{sign}{seconds}s"),
        1..60 => format!("{sign}{minutes}m{seconds}s"),
        _ => format!("{sign}{}h{}m{seconds}s", minutes / 60, minutes % 60),
    }
}

fn with_fraction(value: u64, scale: u64) -> String {
    let mut text = (value / scale).to_string();
    let mut rest = value % scale;
    if rest > 0 {
        text.push('.');
        let mut place = scale;
        while rest > 0 {
            place /= 10;
            text.push(char::from(b'0' + (rest / place) as u8));
            rest %= place;
        }
    }
    text
}

/// Go's `time.ParseDuration`, to nanoseconds.
pub fn parse_duration(text: &str) -> Result<i64, TimeError> {
    let invalid = || TimeError(format!("time: invalid duration {text:?}"));
    let mut rest = text;
    let negative = rest.starts_with('-');
    if let Some(stripped) = rest.strip_prefix(['-', '+']) {
        rest = stripped;
    }
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(|| TimeError(format!("time: missing unit in duration {text:?}")))?;
        let (number, tail) = rest.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || whole.len() > 19 {
            return Err(invalid());
        }
        let end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let scale: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => {
                return Err(TimeError(format!("time: unknown unit {unit:?} in duration {text:?}")));
            }
        };
        total += whole.parse::<i128>().unwrap_or(0) * scale;
        let fraction = fraction.get(..fraction.len().min(15)).unwrap_or("");
        if let Ok(value) = fraction.parse::<i128>() {
            total += value * scale / 10i128.pow(fraction.len() as u32);
        }
        rest = tail;
    }
    let total = if negative { -total } else { total };
    i64::try_from(total).map_err(|_| invalid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_roundtrip() {
        for text in
            ["2008-01-01T01:01:01Z", "1969-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "2024-02-29T12:00:00Z"]
        {
            assert_eq!(format_rfc3339(parse_rfc3339(text).unwrap()), text);
        }
        let offset = parse_rfc3339("2020-01-01T00:00:00.5+02:00").unwrap();
        assert_eq!(format_rfc3339_micro(offset), "2019-12-31T22:00:00.500000Z");
        assert!(parse_rfc3339("2023-02-29T12:00:00Z").is_err());
        for (fraction, said) in [("Z", r#""Z" as ".000000""#), (".1234567Z", r#""7Z" as "Z07:00""#)] {
            let error =
                parse_rfc3339_micro(&format!("2020-01-01T00:00:00{fraction}")).unwrap_err().to_string();
            assert!(error.ends_with(&format!(": cannot parse {said}")), "{error}");
        }
        assert_eq!(
            parse_rfc3339("nope").unwrap_err().to_string(),
            "parsing time \"nope\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"nope\" as \"2006\""
        );
        assert!(parse_rfc3339("é").unwrap_err().to_string().contains(r#"cannot parse "\xc3\xa9" as"#));
    }

    #[test]
    fn durations_are_gos() {
        for (nanos, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (90_000_000_000, "1m30s"),
            (-3_600_000_000_000, "-1h0m0s"),
            (1_001_000_000, "1.001s"),
        ] {
            assert_eq!(format_duration(nanos), text);
            assert_eq!(parse_duration(text), Ok(nanos));
        }
        assert_eq!(parse_duration("1").unwrap_err().to_string(), "time: missing unit in duration \"1\"");
    }
}
