//! String formats that custom resources may name.

use std::net::{Ipv4Addr, Ipv6Addr};

const KNOWN: [&str; 26] = [
    "bsonobjectid",
    "uri",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "cidr",
    "mac",
    "uuid",
    "uuid3",
    "uuid4",
    "uuid5",
    "isbn",
    "isbn10",
    "isbn13",
    "creditcard",
    "ssn",
    "hexcolor",
    "rgbcolor",
    "byte",
    "password",
    "date",
    "duration",
    "date-time",
    "datetime",
    "k8s-short-name",
];

/// The format, or nothing where it is one that is not checked.
pub(super) fn known(format: &str) -> &str {
    if KNOWN.contains(&format) || format == "k8s-long-name" { format } else { "" }
}

pub(super) fn fits(format: &str, text: &str) -> bool {
    match format {
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => is_cidr(text),
        "mac" => is_mac(text),
        "uuid" => is_uuid(text, None),
        "uuid3" => is_uuid(text, Some(b'3')),
        "uuid4" => is_uuid(text, Some(b'4')),
        "uuid5" => is_uuid(text, Some(b'5')),
        "date" => is_date(text),
        "date-time" | "datetime" => is_date_time(text),
        "duration" => crate::time::parse_duration(text).is_ok() || is_long_duration(text),
        "hostname" => is_hostname(text),
        "email" => is_email(text),
        "uri" => is_uri(text),
        "byte" => is_base64(text),
        "hexcolor" => is_hex_color(text),
        "bsonobjectid" => text.len() == 24 && all_hex(text),
        "k8s-short-name" => is_label(text),
        "k8s-long-name" => text.len() <= 253 && text.split('.').all(is_label),
        // The rest is so rare that anything is taken.
        _ => true,
    }
}

fn all_hex(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_hexdigit())
}

fn is_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else {
        return false;
    };
    let bits: u8 = match bits.parse() {
        Ok(bits) if !(bits > 0 && text.ends_with(&format!("/0{bits}"))) => bits,
        _ => return false,
    };
    (address.parse::<Ipv4Addr>().is_ok() && bits <= 32)
        || (address.parse::<Ipv6Addr>().is_ok() && bits <= 128)
}

fn is_mac(text: &str) -> bool {
    let split = |mark: char| -> Vec<&str> { text.split(mark).collect() };
    let pairs = |parts: &[&str], width: usize| parts.iter().all(|p| p.len() == width && all_hex(p));
    let (colon, dash, dot) = (split(':'), split('-'), split('.'));
    (matches!(colon.len(), 6 | 8 | 20) && pairs(&colon, 2))
        || (matches!(dash.len(), 6 | 8 | 20) && pairs(&dash, 2))
        || (matches!(dot.len(), 3 | 4 | 10) && pairs(&dot, 4))
}

fn is_uuid(text: &str, version: Option<u8>) -> bool {
    let plain: String = text.chars().filter(|c| *c != '-').collect();
    if plain.len() != 32 || !all_hex(&plain) {
        return false;
    }
    version.is_none_or(|v| plain.as_bytes().get(12) == Some(&v))
}

fn is_date(text: &str) -> bool {
    text.len() == 10 && crate::time::parse_rfc3339(&format!("{text}T00:00:00Z")).is_ok()
}

fn is_date_time(text: &str) -> bool {
    let upper = text.to_ascii_uppercase().replace(' ', "T");
    crate::time::parse_rfc3339(&upper).is_ok()
}

/// `3 days`, `2h 5m`.
fn is_long_duration(text: &str) -> bool {
    let units = [
        "ns", "nano", "us", "µs", "micro", "ms", "milli", "s", "sec", "second", "m", "min", "minute", "h",
        "hr", "hour", "d", "day", "w", "wk", "week",
    ];
    let mut rest = text.trim();
    let mut found = false;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        let after = after.trim_start();
        let letters: usize = after.chars().take_while(|c| c.is_alphabetic()).map(char::len_utf8).sum();
        let (unit, after) = after.split_at(letters);
        let unit = unit.trim_end_matches('s');
        let known = units.iter().any(|u| u.trim_end_matches('s') == unit);
        if number.is_empty() || letters == 0 || !known {
            return false;
        }
        found = true;
        rest = after.trim_start();
    }
    found
}

fn is_label(text: &str) -> bool {
    let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    text.len() <= 63
        && edge(text.bytes().next())
        && edge(text.bytes().next_back())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn is_hostname(text: &str) -> bool {
    text.len() <= 255
        && text.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.chars().all(|c| c.is_alphanumeric() || c == '-')
        })
}

fn is_email(text: &str) -> bool {
    match text.rsplit_once('@') {
        Some((local, host)) => {
            let plain = |c: char| !c.is_whitespace() && !c.is_control();
            !local.is_empty() && local.chars().all(plain) && is_hostname(host)
        }
        None => false,
    }
}

/// As a request line takes it: absolute, or a path from the root.
fn is_uri(text: &str) -> bool {
    if text.is_empty() || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return false;
    }
    if text.starts_with('/') {
        return true;
    }
    let scheme = text.split_once(':').map_or("", |(scheme, _)| scheme);
    scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
}

fn is_base64(text: &str) -> bool {
    use base64::Engine as _;
    !text.is_empty() && base64::engine::general_purpose::STANDARD.decode(text).is_ok()
}

fn is_hex_color(text: &str) -> bool {
    let digits = text.strip_prefix('#').unwrap_or(text);
    matches!(digits.len(), 3 | 6) && all_hex(digits)
}
