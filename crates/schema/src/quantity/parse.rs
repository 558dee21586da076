//! Reading quantities, and when their text is kept.

use std::str::FromStr;

use super::{Format, Quantity, QuantityError};

/// More decimal digits than this do not fit upstream's fast path, which alone keeps texts.
const FAST_DIGITS: i32 = 18;
const NANO: i32 = -9;

/// A text taken apart: `value` is sign, digits and point; the others without sign.
struct Parts<'a> {
    negative: bool,
    /// Without leading zeros, "0" when none is left.
    whole: &'a str,
    fraction: &'a str,
    suffix: &'a str,
}

fn digits_end(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

fn split(text: &str) -> Result<Parts<'_>, QuantityError> {
    let negative = text.starts_with('-');
    let rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    let rest = rest.trim_start_matches('0');
    let (mut whole, rest) = rest.split_at(digits_end(rest));
    if whole.is_empty() {
        whole = "0";
    }
    let (fraction, suffix) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(digits_end(rest)),
        None => ("", rest),
    };
    let letters = suffix.bytes().take_while(|b| b"eEinumkKMGTP".contains(b)).count();
    let tail = suffix.get(letters..).unwrap_or("");
    let tail = tail.strip_prefix(['-', '+']).unwrap_or(tail);
    if digits_end(tail) != tail.len() {
        return Err(QuantityError::Format);
    }
    Ok(Parts { negative, whole, fraction, suffix })
}

fn interpret(suffix: &str) -> Result<(i32, Format), QuantityError> {
    Ok(match suffix {
        "" => (0, Format::DecimalSi),
        "n" => (-9, Format::DecimalSi),
        "u" => (-6, Format::DecimalSi),
        "m" => (-3, Format::DecimalSi),
        "k" => (3, Format::DecimalSi),
        "M" => (6, Format::DecimalSi),
        "G" => (9, Format::DecimalSi),
        "T" => (12, Format::DecimalSi),
        "P" => (15, Format::DecimalSi),
        "E" => (18, Format::DecimalSi),
        "Ki" => (10, Format::BinarySi),
        "Mi" => (20, Format::BinarySi),
        "Gi" => (30, Format::BinarySi),
        "Ti" => (40, Format::BinarySi),
        "Pi" => (50, Format::BinarySi),
        "Ei" => (60, Format::BinarySi),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E']).ok_or(QuantityError::Suffix)?;
            let exponent: i64 = exponent.parse().map_err(|_| QuantityError::Suffix)?;
            // Upstream truncates here; nothing of that size is meant.
            let exponent = i32::try_from(exponent).map_err(|_| QuantityError::Suffix)?;
            (exponent, Format::DecimalExponent)
        }
    })
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        if text.is_empty() {
            return Err(QuantityError::Format);
        }
        let parts = split(text)?;
        let (exponent, format) = interpret(parts.suffix)?;
        let mantissa = mantissa(&parts)?;
        if let Some(quantity) = fast(text, &parts, mantissa, exponent, format) {
            return Ok(quantity);
        }
        Ok(slow(&parts, mantissa, exponent, format))
    }
}

/// The digits as a number, without sign and point.
fn mantissa(parts: &Parts<'_>) -> Result<i128, QuantityError> {
    let mut value = 0i128;
    for digit in parts.whole.bytes().chain(parts.fraction.bytes()) {
        value = value
            .checked_mul(10)
            .and_then(|v| v.checked_add(i128::from(digit - b'0')))
            .ok_or(QuantityError::Numeric)?;
    }
    Ok(value)
}

/// Upstream's path for what fits 64 bits: no rounding, and a canonical text is kept as it is.
fn fast(text: &str, parts: &Parts<'_>, mantissa: i128, exponent: i32, format: Format) -> Option<Quantity> {
    let digits = (parts.whole.len() + parts.fraction.len()) as i32;
    let binary = format == Format::BinarySi;
    let precision = if !binary {
        FAST_DIGITS - digits
    } else if parts.fraction.is_empty() {
        15 - parts.whole.len() as i32 - (exponent as f32 * 3.0 / 10.0) as i32 - 1
    } else {
        -1
    };
    let scale = if binary { 0 } else { exponent }.checked_sub(parts.fraction.len() as i32)?;
    if precision < 0 || scale < NANO {
        return None;
    }
    let factor = if binary { 1i128 << exponent } else { 1 };
    let value = i64::try_from(mantissa.checked_mul(factor)?).ok()?;
    let keep = if binary {
        mantissa & 7 != 0
    } else {
        let thousands = digits >= 3 && mantissa % 1000 == 0;
        let zero_first = parts.whole.starts_with('0');
        scale % 3 == 0 && !thousands && !zero_first
    };
    let value = i128::from(if parts.negative { -value } else { value });
    Some(Quantity { mantissa: value, scale, format, text: (keep || text == "0").then(|| text.into()) })
}

fn slow(parts: &Parts<'_>, mantissa: i128, exponent: i32, mut format: Format) -> Quantity {
    let mut value = mantissa;
    let mut scale = -(parts.fraction.len() as i32);
    if format == Format::BinarySi {
        let factor = 1i128 << exponent;
        let mut multiplied = value.checked_mul(factor);
        while multiplied.is_none() {
            value = value / 10 + i128::from(value % 10 != 0);
            scale += 1;
            multiplied = value.checked_mul(factor);
        }
        value = multiplied.unwrap_or(i128::MAX);
    } else {
        scale = scale.saturating_add(exponent);
    }
    let mut quantity = Quantity::scaled(value, scale, format);
    if scale < NANO
        && let (Some(rounded), _) = quantity.rounded(NANO)
    {
        quantity = Quantity::scaled(rounded, NANO, format);
    }
    if format == Format::BinarySi {
        let one = Quantity::from_int(1, format);
        if quantity > Quantity::from_int(i64::MAX, format) {
            quantity = Quantity::from_int(i64::MAX, format);
        } else if !quantity.is_zero() && quantity < one {
            format = Format::DecimalSi;
        }
    }
    quantity.format = format;
    if parts.negative {
        quantity.mantissa = -quantity.mantissa;
    }
    quantity
}
