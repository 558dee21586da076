//! What a plain scalar means.

/// A plain scalar's meaning. Timestamps stay text, as the conversion to JSON keeps them, but must
/// be quoted where text is meant.
#[derive(Debug, PartialEq)]
pub(super) enum Resolved {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Float(f64),
    Timestamp,
    Str,
}

pub(super) fn resolve(text: &str) -> Resolved {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Resolved::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Resolved::Bool(true);
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Resolved::Bool(false);
        }
        ".nan" | ".NaN" | ".NAN" => return Resolved::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => {
            return Resolved::Float(f64::INFINITY);
        }
        "-.inf" | "-.Inf" | "-.INF" => return Resolved::Float(f64::NEG_INFINITY),
        _ => {}
    }
    match text.as_bytes().first() {
        Some(b'.') => {
            let plain = text.replace('_', "");
            let separated = !text.contains("__") && !text.contains("._") && !text.ends_with('_');
            if separated && is_float(&plain) { parse_float(&plain) } else { Resolved::Str }
        }
        Some(b'+' | b'-' | b'0'..=b'9') => number(text),
        _ => Resolved::Str,
    }
}

fn parse_float(text: &str) -> Resolved {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() => Resolved::Float(value),
        _ => Resolved::Str,
    }
}

fn number(text: &str) -> Resolved {
    if is_timestamp(text) {
        return Resolved::Timestamp;
    }
    let plain = text.replace('_', "");
    let (negative, digits) = match plain.as_bytes().first() {
        Some(b'-') => (true, plain.get(1..).unwrap_or("")),
        Some(b'+') => (false, plain.get(1..).unwrap_or("")),
        _ => (false, plain.as_str()),
    };
    if let Some(value) = magnitude(digits) {
        let signed = if negative { -i128::from(value) } else { i128::from(value) };
        if let Ok(value) = i64::try_from(signed) {
            return Resolved::Int(value);
        }
        // Go reads a sign only with the signed type.
        if plain.starts_with(|c: char| c.is_ascii_digit()) {
            return Resolved::Uint(value);
        }
    }
    if is_float(&plain) { parse_float(&plain) } else { Resolved::Str }
}

/// Digits with the prefixes that Go knows.
fn magnitude(digits: &str) -> Option<u64> {
    let lower = digits.get(..2).map(str::to_ascii_lowercase);
    let (digits, radix) = match lower.as_deref() {
        Some("0x") => (digits.get(2..)?, 16),
        Some("0o") => (digits.get(2..)?, 8),
        Some("0b") => (digits.get(2..)?, 2),
        Some(_) if digits.starts_with('0') => (digits.get(1..)?, 8),
        _ => (digits, 10),
    };
    if !digits.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    u64::from_str_radix(digits, radix).ok()
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn is_float(text: &str) -> bool {
    let digits = |t: &str| t.bytes().take_while(u8::is_ascii_digit).count();
    let rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    let whole = digits(rest);
    let mut rest = rest.get(whole..).unwrap_or("");
    let mut fraction = 0;
    if let Some(after) = rest.strip_prefix('.') {
        fraction = digits(after);
        rest = after.get(fraction..).unwrap_or("");
    }
    if whole == 0 && fraction == 0 {
        return false;
    }
    match rest.strip_prefix(['e', 'E']) {
        None => rest.is_empty(),
        Some(exponent) => {
            let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
            !exponent.is_empty() && digits(exponent) == exponent.len()
        }
    }
}

/// `2006-1-2`, with a time after `T`, `t` or a blank.
fn is_timestamp(text: &str) -> bool {
    let take = |text: &mut &str, low: usize, high: usize| -> Option<u32> {
        let count = text.bytes().take_while(u8::is_ascii_digit).take(high).count();
        let (digits, rest) = text.split_at_checked(count)?;
        *text = rest;
        if count < low { None } else { digits.parse().ok() }
    };
    let check = || -> Option<bool> {
        let mut rest = text;
        take(&mut rest, 4, 4)?;
        rest = rest.strip_prefix('-')?;
        let month = take(&mut rest, 1, 2)?;
        rest = rest.strip_prefix('-')?;
        let day = take(&mut rest, 1, 2)?;
        if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
            return Some(false);
        }
        if rest.is_empty() {
            return Some(true);
        }
        let zoned = !rest.starts_with(' ');
        rest = rest.strip_prefix(['T', 't', ' '])?;
        let hour = take(&mut rest, 1, 2)?;
        rest = rest.strip_prefix(':')?;
        let minute = take(&mut rest, 1, 2)?;
        rest = rest.strip_prefix(':')?;
        let second = take(&mut rest, 1, 2)?;
        if let Some(fraction) = rest.strip_prefix('.') {
            let count = fraction.bytes().take_while(u8::is_ascii_digit).count();
            if count == 0 {
                return Some(false);
            }
            rest = fraction.get(count..)?;
        }
        if hour > 23 || minute > 59 || second > 59 {
            return Some(false);
        }
        if !zoned {
            return Some(rest.is_empty());
        }
        if rest == "Z" {
            return Some(true);
        }
        rest = rest.strip_prefix(['+', '-'])?;
        take(&mut rest, 2, 2)?;
        rest = rest.strip_prefix(':')?;
        take(&mut rest, 2, 2)?;
        Some(rest.is_empty())
    };
    check().unwrap_or(false)
}

/// Sexagesimal numbers are text here, and quoted for readers to whom they are not.
pub(super) fn is_base60(text: &str) -> bool {
    let rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    let mut parts = rest.split(':');
    let Some(first) = parts.next() else {
        return false;
    };
    if !first.starts_with(|c: char| c.is_ascii_digit())
        || !first.bytes().all(|b| b.is_ascii_digit() || b == b'_')
    {
        return false;
    }
    let parts: Vec<&str> = parts.collect();
    let last = parts.len().saturating_sub(1);
    !parts.is_empty()
        && parts.iter().enumerate().all(|(at, part)| {
            let part = match part.split_once('.') {
                Some((part, fraction)) if at == last => {
                    if !fraction.bytes().all(|b| b.is_ascii_digit() || b == b'_') {
                        return false;
                    }
                    part
                }
                _ => part,
            };
            match part.as_bytes() {
                [d] => d.is_ascii_digit(),
                [tens, d] => (b'0'..=b'5').contains(tens) && d.is_ascii_digit(),
                _ => false,
            }
        })
}
