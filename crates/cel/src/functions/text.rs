//! Texts.

use std::sync::Arc;

use schema::quantity::Quantity;

use super::{Answer, format, length};
use crate::EvalError;
use crate::value::Value;

/// Calls a function of a text; `None` for others.
pub fn call(name: &str, args: &[Value]) -> Option<Answer> {
    match args {
        [Value::Text(text), rest @ ..] => Some(of_text(name, text, rest)),
        _ => None,
    }
}

fn list<'t>(parts: impl Iterator<Item = &'t str>) -> Value {
    Value::List(Arc::new(parts.map(Value::text).collect()))
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
        ("replace", [Text(from), Text(to), Int(times)]) => match usize::try_from(*times) {
            Ok(times) => Value::text(&text.replacen(&**from, to, times)),
            Err(_) => Value::text(&text.replace(&**from, to)),
        },
        ("split", [Text(between)]) => split(text, between, -1),
        ("split", [Text(between), Int(most)]) => split(text, between, *most),
        ("indexOf", [Text(part)]) => index(text.find(&**part)),
        ("indexOf", [Text(part), Int(from)]) => find_from(text, part, *from)?,
        ("lastIndexOf", [Text(part)]) => index(text.rfind(&**part)),
        ("lastIndexOf", [Text(part), Int(to)]) => find_to(text, part, *to)?,
        ("charAt", [Int(at)]) => char_at(text, *at)?,
        ("findAll", [Text(pattern)]) => list(compiled(pattern)?.find_iter(text).map(|found| found.as_str())),
        ("findAll", [Text(pattern), Int(most)]) => {
            let most = usize::try_from(*most).unwrap_or(usize::MAX);
            list(compiled(pattern)?.find_iter(text).take(most).map(|found| found.as_str()))
        }
        ("format", [Value::List(args)]) => Value::text(&format::format(text, args)?),
        ("strings.quote", []) => Value::text(&quoted(text)),
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

/// With nothing between, into its characters; at most so many parts, all for a negative number.
fn split(text: &str, between: &str, most: i64) -> Value {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    match (most, between) {
        (0, _) => list(std::iter::empty()),
        (most, "") => {
            let ends: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
            let parts = ends.windows(2).filter_map(|pair| text.get(*pair.first()?..*pair.last()?));
            let all: Vec<&str> = parts.collect();
            match most >= all.len() {
                true => list(all.into_iter()),
                false => {
                    let cut = ends.get(most - 1).and_then(|at| text.get(*at..)).unwrap_or_default();
                    list(all.into_iter().take(most - 1).chain([cut]))
                }
            }
        }
        (most, between) => list(text.splitn(most, between)),
    }
}

fn outside(at: i64) -> EvalError {
    EvalError::Argument(format!("index out of range: {at}"))
}

fn place(text: &str, at: i64) -> Result<usize, EvalError> {
    let wanted = usize::try_from(at).map_err(|_| outside(at))?;
    let mut ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
    ends.nth(wanted).ok_or_else(|| outside(at))
}

fn char_at(text: &str, at: i64) -> Result<Value, EvalError> {
    let from = place(text, at)?;
    let found = text.get(from..).and_then(|rest| rest.chars().next());
    Ok(Value::text(&found.map(String::from).unwrap_or_default()))
}

fn counted(text: &str, found: Option<usize>) -> Value {
    found.map_or(Value::Int(-1), |at| length(text.get(..at).map_or(0, |before| before.chars().count())))
}

fn find_from(text: &str, part: &str, from: i64) -> Result<Value, EvalError> {
    if part.is_empty() {
        return Ok(Value::Int(from));
    }
    let first = place(text, from)?;
    let rest = text.get(first..).unwrap_or_default();
    Ok(counted(text, rest.find(part).map(|at| first + at)))
}

fn find_to(text: &str, part: &str, to: i64) -> Result<Value, EvalError> {
    if part.is_empty() {
        return Ok(Value::Int(to));
    }
    let last = place(text, to)?;
    let found = text.rmatch_indices(part).map(|(at, _)| at).find(|at| *at <= last);
    Ok(counted(text, found))
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for letter in text.chars() {
        match letter {
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            other => out.push(other),
        }
    }
    out.push('"');
    out
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
