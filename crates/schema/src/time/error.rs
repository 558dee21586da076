//! Why Go refuses a time.

use super::{TimeError, parse};

/// As Go's package of times quotes: what is no printable ASCII is shown byte by byte.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend(['\\', char::from(byte)]),
            b' '..=b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("\\x{byte:02x}")),
        }
    }
    out + "\""
}

/// Go names the first element of the layout that did not fit, and the text from there on.
pub(super) fn go_error(text: &str, layout: &str) -> TimeError {
    let elements = [
        ("2006", 0, 4),
        ("-", 4, 5),
        ("01", 5, 7),
        ("-", 7, 8),
        ("02", 8, 10),
        ("T", 10, 11),
        ("15", 11, 13),
        (":", 13, 14),
        ("04", 14, 16),
        (":", 16, 17),
        ("05", 17, 19),
    ];
    for (element, from, to) in elements {
        let part = text.get(from..to).unwrap_or("");
        let fits = if element.len() == 1 {
            part == element
        } else {
            part.len() == to - from && part.bytes().all(|b| b.is_ascii_digit())
        };
        if !fits {
            let rest = text.get(from..).unwrap_or("");
            return TimeError(format!(
                "parsing time {} as {layout:?}: cannot parse {} as {element:?}",
                quoted(text),
                quoted(rest)
            ));
        }
    }
    let ranges = [("month", 5, 1, 12), ("day", 8, 1, 31), ("hour", 11, 0, 23)];
    let more = [("minute", 14, 0, 59), ("second", 17, 0, 59)];
    for (what, from, low, high) in ranges.into_iter().chain(more) {
        let value = text.get(from..from + 2).and_then(|t| t.parse::<u32>().ok());
        if value.is_none_or(|v| v < low || v > high) {
            return TimeError(format!("parsing time {}: {what} out of range", quoted(text)));
        }
    }
    if parse(&format!("{}Z", text.get(..19).unwrap_or(""))).is_none() {
        return TimeError(format!("parsing time {}: day out of range", quoted(text)));
    }
    let (mut zone, mut rest) = (layout.get(19..).unwrap_or(""), text.get(19..).unwrap_or(""));
    if let Some((fraction, after)) = zone.find('Z').and_then(|at| zone.split_at_checked(at)) {
        let fits = |text: &str| text.strip_prefix('.').is_some_and(|d| d.bytes().all(|b| b.is_ascii_digit()));
        match rest.split_at_checked(fraction.len()) {
            Some((given, left)) if fraction.is_empty() || fits(given) => (zone, rest) = (after, left),
            _ => zone = fraction,
        }
    }
    let (text, rest) = (quoted(text), quoted(rest));
    TimeError(format!("parsing time {text} as {layout:?}: cannot parse {rest} as {zone:?}"))
}
