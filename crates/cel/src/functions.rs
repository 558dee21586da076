//! What functions do, for values of the types that `types` says they are for.

use std::cmp::Ordering;
use std::sync::Arc;

use schema::quantity::{Format, Quantity};
use semver::Version;

use crate::EvalError;
use crate::value::Value;

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
        ("double", [Text(text)]) => Double(read(text, "double")?),
        ("string", [Text(text)]) => Text(text.clone()),
        ("string", [Int(number)]) => Value::text(&number.to_string()),
        ("string", [Uint(number)]) => Value::text(&number.to_string()),
        ("string", [Bool(flag)]) => Value::text(&flag.to_string()),
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
        (_, [Text(text), rest @ ..]) => of_text(name, text, rest)?,
        (_, [Value::Quantity(quantity), rest @ ..]) => of_quantity(name, quantity, rest)?,
        _ => return Err(EvalError::Overload),
    })
}

fn length(length: usize) -> Value {
    Value::Int(i64::try_from(length).unwrap_or(i64::MAX))
}

fn number(number: u64) -> Result<Value, EvalError> {
    i64::try_from(number).map(Value::Int).map_err(|_| EvalError::Overflow("integer"))
}

fn read<T: std::str::FromStr>(text: &str, kind: &str) -> Result<T, EvalError> {
    text.parse().map_err(|_| EvalError::Argument(format!("type conversion error from 'string' to '{kind}'")))
}

/// A version by semver 2.0.0; leniently, a `v` before it, missing parts and leading zeros are forgiven.
///
/// # Errors
/// Why it is none.
pub fn version(text: &str, lenient: bool) -> Result<Version, String> {
    let bad = |why: &dyn std::fmt::Display| format!("cannot parse semver {text:?}: {why}");
    if !lenient {
        return text.parse().map_err(|why| bad(&why));
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
    whole.parse().map_err(|why| bad(&why))
}

fn of_text(name: &str, text: &str, args: &[Value]) -> Result<Value, EvalError> {
    use Value::{Bool, Int, Text};
    let index = |found: Option<usize>| match found {
        Some(at) => length(text.get(..at).map_or(0, |before| before.chars().count())),
        None => Int(-1),
    };
    Ok(match (name, args) {
        ("contains", [Text(part)]) => Bool(text.contains(&**part)),
        ("startsWith", [Text(part)]) => Bool(text.starts_with(&**part)),
        ("endsWith", [Text(part)]) => Bool(text.ends_with(&**part)),
        ("matches", [Text(pattern)]) => Bool(compiled(pattern)?.is_match(text)),
        ("find", [Text(pattern)]) => {
            Value::text(compiled(pattern)?.find(text).map_or("", |found| found.as_str()))
        }
        ("lowerAscii", []) => Value::text(&text.to_ascii_lowercase()),
        ("upperAscii", []) => Value::text(&text.to_ascii_uppercase()),
        ("trim", []) => Value::text(text.trim()),
        ("replace", [Text(from), Text(to)]) => Value::text(&text.replace(&**from, to)),
        ("split", [Text(between)]) => {
            Value::List(Arc::new(text.split(&**between).map(Value::text).collect()))
        }
        ("indexOf", [Text(part)]) => index(text.find(&**part)),
        ("lastIndexOf", [Text(part)]) => index(text.rfind(&**part)),
        ("substring", [Int(from)]) => substring(text, *from, None)?,
        ("substring", [Int(from), Int(to)]) => substring(text, *from, Some(*to))?,
        ("quantity", []) => Value::Quantity(text.parse().map_err(|_| {
            let why =
                "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
            EvalError::Argument(why.to_owned())
        })?),
        ("isQuantity", []) => Bool(text.parse::<Quantity>().is_ok()),
        _ => return Err(EvalError::Overload),
    })
}

fn compiled(pattern: &str) -> Result<regex::Regex, EvalError> {
    regex::Regex::new(pattern).map_err(|why| EvalError::Argument(why.to_string()))
}

fn substring(text: &str, from: i64, to: Option<i64>) -> Result<Value, EvalError> {
    let characters: Vec<char> = text.chars().collect();
    let at = |index: i64| {
        let found = usize::try_from(index).ok().filter(|index| *index <= characters.len());
        found.ok_or_else(|| EvalError::Argument(format!("index out of range: {index}")))
    };
    let (from, to) = (at(from)?, to.map_or(Ok(characters.len()), at)?);
    let part = characters.get(from..to);
    let part = part
        .ok_or_else(|| EvalError::Argument(format!("invalid substring range. start: {from}, end: {to}")))?;
    Ok(Value::text(&part.iter().collect::<String>()))
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
