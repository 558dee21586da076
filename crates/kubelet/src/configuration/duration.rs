//! Durations as Go writes them: `1m30s`, `100ms`.

use std::time::Duration;

/// The units, and how many nanoseconds each has.
const UNITS: [(&str, f64); 7] =
    [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 60e9), ("h", 3600e9)];

/// Reads one; `None` when it is none, or negative.
pub fn parse(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let (mut rest, mut nanos) = (text.strip_prefix('+').unwrap_or(text), 0.0);
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit() && c != '.')?);
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let (_, size) = UNITS.iter().find(|(name, _)| *name == unit)?;
        nanos += number.parse::<f64>().ok()? * size;
        rest = after;
    }
    Duration::try_from_secs_f64(nanos / 1e9).ok()
}

/// As Go writes whole seconds: `45s`, `1m30s`, `1h0m0s`.
pub fn shown(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{rest}s"),
        (0, _) => format!("{minutes}m{rest}s"),
        _ => format!("{hours}h{minutes}m{rest}s"),
    }
}

/// For serde.
pub fn deserialize<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = <String as serde::Deserialize>::deserialize(from)?;
    parse(&text).ok_or_else(|| serde::de::Error::custom(format!("time: invalid duration {text:?}")))
}

/// The same of a field that may be missing.
pub fn optional<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    deserialize(from).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, millis) in [
            ("0", 0),
            ("0s", 0),
            ("100ms", 100),
            ("1m30s", 90_000),
            ("4h0m0s", 14_400_000),
            ("1.5h", 5_400_000),
        ] {
            assert_eq!(parse(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for (seconds, text) in [(0, "0s"), (59, "59s"), (60, "1m0s"), (90, "1m30s"), (3605, "1h0m5s")] {
            assert_eq!(shown(Duration::from_secs(seconds)), text);
        }
        for wrong in ["", "1", "s", "-1s", "1x", "1m-2s"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
