//! `format` of texts (`cel-go`'s `ext.Strings`, version 2).

use super::time;
use crate::EvalError;
use crate::value::Value;

fn bad(why: impl std::fmt::Display) -> EvalError {
    EvalError::Argument(why.to_string())
}

/// The shortest text of a number that is read as the same.
pub fn shortest(number: f64) -> String {
    match number {
        number if number.is_nan() => "NaN".to_owned(),
        number if number.is_infinite() => if number > 0.0 { "+Inf" } else { "-Inf" }.to_owned(),
        number => {
            let exponent = if number == 0.0 { 0 } else { number.abs().log10().floor() as i32 };
            match (-4..21).contains(&exponent) {
                true => format!("{number}"),
                false => exponential(format!("{number:e}")),
            }
        }
    }
}

/// With the sign of the exponent, and at least two digits of it.
fn exponential(text: String) -> String {
    let Some((mantissa, exponent)) = text.split_once('e') else { return text };
    let (sign, digits) = match exponent.strip_prefix('-') {
        Some(digits) => ('-', digits),
        None => ('+', exponent),
    };
    format!("{mantissa}e{sign}{digits:0>2}")
}

/// A text with a value for each clause.
pub fn format(text: &str, args: &[Value]) -> Result<String, EvalError> {
    let mut out = String::new();
    let mut rest = text;
    let mut all = args.iter();
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('%') {
            out.push('%');
            rest = after;
            continue;
        }
        let (precision, after) = precision(after)?;
        let verb = after.chars().next().ok_or_else(|| bad("unexpected end of string"))?;
        let value = all.next().ok_or_else(|| bad(format_args!("index {} out of range", args.len())))?;
        out.push_str(&clause(verb, precision, value)?);
        rest = after.get(verb.len_utf8()..).unwrap_or_default();
    }
    out.push_str(rest);
    Ok(out)
}

fn precision(text: &str) -> Result<(Option<usize>, &str), EvalError> {
    let Some(rest) = text.strip_prefix('.') else { return Ok((None, text)) };
    let end = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
    let (digits, rest) = rest.split_at(end);
    let number = digits.parse().map_err(|_| bad("error while parsing formatting clause"))?;
    Ok((Some(number), rest))
}

fn clause(verb: char, precision: Option<usize>, value: &Value) -> Result<String, EvalError> {
    use Value::{Bool, Bytes, Double, Int, Text, Uint};
    let only = |what: &str| {
        let kind = value.type_name();
        bad(format_args!("error during formatting: {what}, was given {kind}"))
    };
    let radix = |shown: &dyn Fn(u64) -> String| match value {
        Int(number) => {
            let sign = if *number < 0 { "-" } else { "" };
            Some(format!("{sign}{}", shown(number.unsigned_abs())))
        }
        Uint(number) => Some(shown(*number)),
        _ => None,
    };
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let digits = precision.unwrap_or(6);
    match (verb, value) {
        ('s', value) => shown(value),
        ('d', Int(number)) => Ok(number.to_string()),
        ('d', Uint(number)) => Ok(number.to_string()),
        ('d' | 'f' | 'e', Double(number)) if !number.is_finite() => Ok(infinite(*number)),
        ('d', _) => Err(only("decimal clause can only be used on integers")),
        ('f', Double(number)) => Ok(format!("{number:.digits$}")),
        ('f', _) => Err(only("fixed-point clause can only be used on doubles")),
        ('e', Double(number)) => Ok(scientific(&format!("{number:.digits$e}"))),
        ('e', _) => Err(only("scientific clause can only be used on doubles")),
        ('b', Bool(flag)) => Ok(u8::from(*flag).to_string()),
        ('b', _) => radix(&|number| format!("{number:b}"))
            .ok_or_else(|| only("only integers and bools can be formatted as binary")),
        ('o', _) => radix(&|number| format!("{number:o}"))
            .ok_or_else(|| only("only integers can be formatted as octal")),
        ('x' | 'X', value) => {
            let text = match value {
                Text(text) => Some(hex(text.as_bytes())),
                Bytes(bytes) => Some(hex(bytes)),
                _ => radix(&|number| format!("{number:x}")),
            };
            let why = "only integers, byte buffers, and strings can be formatted as hex";
            let text = text.ok_or_else(|| only(why))?;
            Ok(if verb == 'X' { text.to_uppercase() } else { text })
        }
        (other, _) => Err(bad(format_args!(
            "could not parse formatting clause: unrecognized formatting clause {:?}",
            other.to_string()
        ))),
    }
}

/// `1.500000×10⁰³`.
fn scientific(text: &str) -> String {
    const DIGITS: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let raised = |digit: u8| DIGITS.get(usize::from(digit.wrapping_sub(b'0'))).copied().unwrap_or('⁻');
    let (sign, digits) = exponent.strip_prefix('-').map_or(("", exponent), |digits| ("⁻", digits));
    let digits: String = format!("{digits:0>2}").bytes().map(raised).collect();
    format!("{mantissa}×10{sign}{digits}")
}

fn infinite(number: f64) -> String {
    match number {
        number if number.is_nan() => "NaN",
        number if number > 0.0 => "Infinity",
        _ => "-Infinity",
    }
    .to_owned()
}

/// A value in a text, as `%s` has it.
fn shown(value: &Value) -> Result<String, EvalError> {
    use Value::{Bool, Bytes, Double, Duration, Int, List, Map, Null, Text, Time, Uint};
    Ok(match value {
        Text(text) => text.to_string(),
        Bool(flag) => flag.to_string(),
        Int(number) => number.to_string(),
        Uint(number) => number.to_string(),
        Double(number) if !number.is_finite() => infinite(*number),
        Double(number) => format!("{number}"),
        Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Null => "null".to_owned(),
        Time(time) => time::shown(*time),
        Duration(span) => time::seconds(*span),
        List(all) => {
            let all: Vec<String> = all.iter().map(inside).collect::<Result<_, _>>()?;
            format!("[{}]", all.join(", "))
        }
        Map(map) => {
            let pair = |(key, value): &(Value, Value)| Ok(format!("{}:{}", inside(key)?, inside(value)?));
            let mut all: Vec<String> = map.entries.iter().map(pair).collect::<Result<_, EvalError>>()?;
            all.sort();
            format!("{{{}}}", all.join(", "))
        }
        other => {
            let kind = other.type_name();
            let what = "string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, \
                        durations, and timestamps";
            return Err(bad(format_args!("error during formatting: {what}, was given {kind}")));
        }
    })
}

/// A value that stands in a list or a map, where its type is to be seen.
fn inside(value: &Value) -> Result<String, EvalError> {
    Ok(match value {
        Value::Text(text) => format!("{text:?}"),
        Value::Double(number) if number.is_finite() => format!("{number:.6}"),
        Value::Time(time) => format!("timestamp({:?})", time::shown(*time)),
        Value::Duration(span) => format!("duration({:?})", time::seconds(*span)),
        other => shown(other)?,
    })
}
