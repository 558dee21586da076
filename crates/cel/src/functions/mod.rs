//! What functions do, for values of the types that `types` says they are for.

mod format;
mod lists;
mod network;
mod text;
mod time;

use std::cmp::Ordering;

use schema::quantity::{Format, Quantity};
use semver::Version;

use crate::EvalError;
use crate::value::Value;

pub use network::Url;
pub use time::arithmetic;

/// Names that are not values, but stand before functions.
pub const SPACES: [&str; 4] = ["ip", "lists", "sets", "strings"];

/// What calling one comes to.
type Answer = Result<Value, EvalError>;

/// Calls a function; a member's value is the first of `args`.
pub fn call(name: &str, args: &[Value]) -> Result<Value, EvalError> {
    use Value::{Bool, Bytes, Double, Int, List, Map, Semver, Text, Uint};
    let order = |wanted: Ordering| match args {
        [a @ (Value::Quantity(_) | Semver(_)), b] => {
            a.order(b).ok_or(EvalError::Overload).map(|is| Bool(is == wanted))
        }
        _ => Err(EvalError::Overload),
    };
    Ok(match (name, args) {
        ("size", [Text(text)]) => length(text.chars().count()),
        ("size", [Bytes(bytes)]) => length(bytes.len()),
        ("size", [List(list)]) => length(list.len()),
        ("size", [Map(map)]) => length(map.entries.len()),
        ("dyn", [value]) => value.clone(),
        ("int", [Int(number)]) => Int(*number),
        ("int", [Uint(number)]) => Int(i64::try_from(*number).map_err(|_| EvalError::Overflow("integer"))?),
        ("int", [Double(number)]) if number.abs() < i64::MAX as f64 => Int(*number as i64),
        ("int", [Double(_)]) => return Err(EvalError::Overflow("integer")),
        ("int", [Text(text)]) => Int(read(text, "int")?),
        ("double", [Int(number)]) => Double(*number as f64),
        ("double", [Double(number)]) => Double(*number),
        ("double", [Uint(number)]) => Double(*number as f64),
        ("double", [Text(text)]) => Double(read(text, "double")?),
        ("uint", [Uint(number)]) => Uint(*number),
        ("uint", [Int(number)]) => {
            Uint(u64::try_from(*number).map_err(|_| EvalError::Overflow("unsigned integer"))?)
        }
        ("uint", [Double(number)]) if *number >= 0.0 && *number < u64::MAX as f64 => Uint(*number as u64),
        ("uint", [Double(_)]) => return Err(EvalError::Overflow("unsigned integer")),
        ("uint", [Text(text)]) => Uint(read(text, "uint")?),
        ("bool", [Bool(flag)]) => Bool(*flag),
        ("bool", [Text(text)]) => match &**text {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => Bool(true),
            "0" | "f" | "F" | "FALSE" | "false" | "False" => Bool(false),
            _ => return Err(unreadable("bool")),
        },
        ("bytes", [Bytes(bytes)]) => Bytes(bytes.clone()),
        ("bytes", [Text(text)]) => Bytes(text.as_bytes().into()),
        ("string", [Text(text)]) => Text(text.clone()),
        ("string", [Int(number)]) => Value::text(&number.to_string()),
        ("string", [Uint(number)]) => Value::text(&number.to_string()),
        ("string", [Double(number)]) => Value::text(&format::shortest(*number)),
        ("string", [Bool(flag)]) => Value::text(&flag.to_string()),
        ("string", [Bytes(bytes)]) => {
            let why = || EvalError::Argument("invalid UTF-8 in bytes, cannot convert to string".to_owned());
            Value::text(std::str::from_utf8(bytes).map_err(|_| why())?)
        }
        ("isGreaterThan", _) => order(Ordering::Greater)?,
        ("isLessThan", _) => order(Ordering::Less)?,
        ("compareTo", [a @ (Value::Quantity(_) | Semver(_)), b]) => {
            Int(a.order(b).ok_or(EvalError::Overload)? as i64)
        }
        ("semver" | "isSemver", [Text(text), rest @ ..]) => {
            let lenient = match rest {
                [] => false,
                [Bool(lenient)] => *lenient,
                _ => return Err(EvalError::Overload),
            };
            let read = version(text, lenient);
            match (name, read) {
                ("isSemver", read) => Bool(read.is_ok()),
                (_, Ok(version)) => Semver(version),
                (_, Err(why)) => return Err(EvalError::Argument(why)),
            }
        }
        ("major", [Semver(version)]) => number(version.major)?,
        ("minor", [Semver(version)]) => number(version.minor)?,
        ("patch", [Semver(version)]) => number(version.patch)?,
        ("join", [List(parts), rest @ ..]) => {
            let between = match rest {
                [] => "",
                [Text(between)] => between,
                _ => return Err(EvalError::Overload),
            };
            let part = |value: &Value| match value {
                Text(text) => Ok(text.to_string()),
                _ => Err(EvalError::Overload),
            };
            Value::text(&parts.iter().map(part).collect::<Result<Vec<_>, _>>()?.join(between))
        }
        (_, [Value::Quantity(quantity), rest @ ..]) => of_quantity(name, quantity, rest)?,
        _ => {
            let others = [network::call, time::call, lists::call, text::call];
            let found = others.iter().find_map(|others| others(name, args));
            return found.unwrap_or(Err(EvalError::Overload));
        }
    })
}

fn unreadable(kind: &str) -> EvalError {
    EvalError::Argument(format!("type conversion error from 'string' to '{kind}'"))
}

fn length(length: usize) -> Value {
    Value::Int(i64::try_from(length).unwrap_or(i64::MAX))
}

fn number(number: u64) -> Result<Value, EvalError> {
    i64::try_from(number).map(Value::Int).map_err(|_| EvalError::Overflow("integer"))
}

fn read<T: std::str::FromStr>(text: &str, kind: &str) -> Result<T, EvalError> {
    text.parse().map_err(|_| unreadable(kind))
}

/// A version by semver 2.0.0; leniently, a `v` before it, missing parts and leading zeros are forgiven.
///
/// # Errors
/// Why it is none.
pub fn version(text: &str, lenient: bool) -> Result<Version, String> {
    if !lenient {
        return text.parse().map_err(|_| unversioned(text));
    }
    let bare = text.strip_prefix('v').unwrap_or(text);
    let end = bare.find(['-', '+']).unwrap_or(bare.len());
    let (numbers, rest) = bare.split_at(end);
    let mut parts: Vec<&str> = numbers.split('.').collect();
    while parts.len() < 3 {
        parts.push("0");
    }
    let plain = |part: &&str| match part.trim_start_matches('0') {
        "" if !part.is_empty() => "0".to_owned(),
        stripped => stripped.to_owned(),
    };
    let whole = format!("{}{rest}", parts.iter().map(plain).collect::<Vec<_>>().join("."));
    whole.parse().map_err(|_| unversioned(&whole))
}

/// Why a text is no version, in the words of upstream's library.
fn unversioned(text: &str) -> String {
    if text.is_empty() {
        return "Version string empty".to_owned();
    }
    let end = text.find(['-', '+']).unwrap_or(text.len());
    let (numbers, rest) = text.split_at(end);
    let parts: Vec<&str> = text.splitn(3, '.').collect();
    if parts.len() != 3 {
        return "No Major.Minor.Patch elements found".to_owned();
    }
    for (name, part) in ["major", "minor", "patch"].into_iter().zip(numbers.splitn(3, '.')) {
        if part.bytes().any(|byte| !byte.is_ascii_digit()) {
            return format!("Invalid character(s) found in {name} number {part:?}");
        }
        if part.len() > 1 && part.starts_with('0') {
            let capital = name.get(..1).unwrap_or_default().to_uppercase();
            let tail = name.get(1..).unwrap_or_default();
            return format!("{capital}{tail} number must not contain leading zeroes {part:?}");
        }
    }
    let (before, build) = rest.split_once('+').unwrap_or((rest, "."));
    match before {
        "-" => "Prerelease is empty".to_owned(),
        _ if build.is_empty() => "Build meta data is empty".to_owned(),
        _ => format!("Invalid character(s) found in prerelease {:?}", before.trim_start_matches('-')),
    }
}

fn of_quantity(name: &str, quantity: &Quantity, args: &[Value]) -> Result<Value, EvalError> {
    let other = || match args {
        [Value::Quantity(other)] => Ok(other.clone()),
        [Value::Int(other)] => Ok(Quantity::from_int(*other, Format::DecimalSi)),
        _ => Err(EvalError::Overload),
    };
    let whole = Quantity::from_int(quantity.value(), Format::DecimalSi);
    Ok(match (name, args) {
        ("sign", []) => Value::Int(i64::from(quantity.sign())),
        ("isInteger", []) => Value::Bool(whole == *quantity),
        ("asInteger", []) if whole == *quantity => Value::Int(quantity.value()),
        ("asInteger", []) => {
            return Err(EvalError::Argument("cannot convert value to integer".to_owned()));
        }
        ("asApproximateFloat", []) => Value::Double(quantity.as_f64()),
        ("add", _) => Value::Quantity(quantity.add(&other()?)),
        ("sub", _) => Value::Quantity(quantity.sub(&other()?)),
        _ => return Err(EvalError::Overload),
    })
}
