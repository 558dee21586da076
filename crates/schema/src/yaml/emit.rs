//! An untyped tree to YAML, laid out as go-yaml lays it out.

use std::cmp::Ordering;
use std::fmt::Write as _;

use super::resolve::{Resolved, is_base60, resolve};
use crate::value::Value;

/// Keys longer than this are written with a question mark.
const MAX_SIMPLE_KEY: usize = 128;

/// Where a node stands.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Root,
    /// After `key:`.
    MapValue,
    /// After `- `, or after `? `.
    Item,
}

pub(super) fn emit(value: &Value) -> Vec<u8> {
    let mut out = String::new();
    node(&mut out, value, 0, Place::Root);
    if !out.ends_with('\n') {
        out.push('\n');
    }
    out.into_bytes()
}

fn new_line(out: &mut String, indent: usize) {
    if !out.is_empty() && !out.ends_with('\n') {
        out.push('\n');
    }
    for _ in 0..indent {
        out.push(' ');
    }
}

/// `indent` is that of the node's parent.
fn node(out: &mut String, value: &Value, indent: usize, place: Place) {
    match value {
        Value::Map(map) if !map.is_empty() => {
            let mut keys: Vec<(&str, &Value)> = map.iter().collect();
            keys.sort_by(|a, b| natural(a.0, b.0));
            let indent = if place == Place::Root { 0 } else { indent + 2 };
            for (at, (key, value)) in keys.into_iter().enumerate() {
                if at > 0 || place != Place::Item {
                    new_line(out, indent);
                }
                entry(out, key, value, indent);
            }
        }
        Value::List(items) if !items.is_empty() => {
            let indent = if place == Place::Item { indent + 2 } else { indent };
            for (at, item) in items.iter().enumerate() {
                if at > 0 || place != Place::Item {
                    new_line(out, indent);
                }
                out.push_str("- ");
                node(out, item, indent, Place::Item);
            }
        }
        scalar => {
            if place == Place::MapValue {
                out.push(' ');
            }
            put_scalar(out, scalar, indent);
        }
    }
}

fn entry(out: &mut String, key: &str, value: &Value, indent: usize) {
    let facts = Facts::of(key);
    if facts.multiline || key.len() > MAX_SIMPLE_KEY {
        out.push_str("? ");
        text(out, key, indent, false);
        new_line(out, indent);
        out.push_str(": ");
        return node(out, value, indent, Place::Item);
    }
    text(out, key, indent, true);
    out.push(':');
    node(out, value, indent, Place::MapValue);
}

fn put_scalar(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Value::Int(i) => out.push_str(&i.to_string()),
        Value::Float(f) => out.push_str(&float(*f)),
        Value::Str(s) => text(out, s, indent, false),
        Value::Map(_) => out.push_str("{}"),
        Value::List(_) => out.push_str("[]"),
        // Untyped trees hold nothing else.
        Value::Bytes(_) | Value::Time(_) | Value::Raw(_) | Value::Struct(_) => {}
    }
}

/// Go's shortest `%g`; whole numbers as JSON has them.
pub(super) fn float(value: f64) -> String {
    if value == value.trunc() && value.abs() < 1e21 {
        return format!("{value}");
    }
    let exponential = format!("{value:e}");
    let Some((digits, exponent)) = exponential.split_once('e') else {
        return exponential;
    };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..6).contains(&exponent) {
        return format!("{value}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// What decides how a text may be written.
#[derive(Default)]
struct Facts {
    multiline: bool,
    plain: bool,
    single: bool,
    block: bool,
}

fn is_break(c: char) -> bool {
    matches!(c, '\r' | '\n' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t')
}

fn is_printable(c: char) -> bool {
    matches!(c, '\n' | '\u{20}'..='\u{7e}' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}')
        && c != '\u{feff}'
}

impl Facts {
    fn of(text: &str) -> Self {
        if text.is_empty() {
            return Self { plain: true, single: true, ..Self::default() };
        }
        let (mut breaks, mut special, mut break_space, mut space_break) = (false, false, false, false);
        let (mut previous_space, mut previous_break) = (false, false);
        for c in text.chars() {
            special |= !is_printable(c);
            let (space, line) = (c == ' ', is_break(c));
            break_space |= space && previous_break;
            space_break |= line && previous_space;
            breaks |= line;
            (previous_space, previous_break) = (space, line);
        }
        let edge = |c: Option<char>| c.is_some_and(|c| c == ' ' || is_break(c));
        let outer = edge(text.chars().next()) || edge(text.chars().next_back());
        let hard = space_break || special;
        Self {
            multiline: breaks,
            plain: !(outer || break_space || hard || breaks || indicators(text)),
            single: !(break_space || hard),
            block: !(text.ends_with(' ') || hard),
        }
    }
}

/// Whether the text has characters that mean something in YAML where they stand.
fn indicators(text: &str) -> bool {
    if text.starts_with("---") || text.starts_with("...") {
        return true;
    }
    let mut preceded = true;
    let mut chars = text.chars().peekable();
    let mut first = true;
    while let Some(c) = chars.next() {
        let followed = chars.peek().is_none_or(|n| is_blank(*n));
        let special = if first {
            "#,[]{}&*!|>'\"%@`".contains(c) || (matches!(c, '?' | ':' | '-') && followed)
        } else {
            (c == ':' && followed) || (c == '#' && preceded)
        };
        if special {
            return true;
        }
        first = false;
        preceded = is_blank(c) || is_break(c);
    }
    false
}

/// A string in the style that go-yaml chooses. `key` is a key on one line.
fn text(out: &mut String, text: &str, indent: usize, key: bool) {
    let facts = Facts::of(text);
    if text.contains('\n') && !key && facts.block {
        return literal(out, text, indent);
    }
    let plain = resolve(text) == Resolved::Str && !is_base60(text);
    if text.contains('\n') || !plain || !facts.single {
        return double_quoted(out, text);
    }
    if facts.plain {
        return out.push_str(text);
    }
    single_quoted(out, text);
}

fn single_quoted(out: &mut String, text: &str) {
    out.push('\'');
    let mut breaks = false;
    for c in text.chars() {
        if is_break(c) {
            if !breaks && c == '\n' {
                out.push('\n');
            }
            out.push(c);
            breaks = true;
            continue;
        }
        breaks = false;
        if c == '\'' {
            out.push('\'');
        }
        out.push(c);
    }
    out.push('\'');
}

fn literal(out: &mut String, text: &str, indent: usize) {
    out.push('|');
    if text.starts_with(|c| c == ' ' || is_break(c)) {
        out.push('2');
    }
    let mut from_end = text.chars().rev();
    match (from_end.next().is_some_and(is_break), from_end.next()) {
        (false, _) => out.push('-'),
        (true, before) if before.is_none_or(is_break) => out.push('+'),
        _ => {}
    }
    out.push('\n');
    let mut breaks = true;
    for c in text.chars() {
        if !is_break(c) && breaks {
            for _ in 0..indent + 2 {
                out.push(' ');
            }
        }
        breaks = is_break(c);
        out.push(c);
    }
}

fn double_quoted(out: &mut String, text: &str) {
    out.push('"');
    let all = text.starts_with('\u{feff}');
    for c in text.chars() {
        if is_printable(c) && !is_break(c) && !all && c != '"' && c != '\\' {
            out.push(c);
            continue;
        }
        out.push('\\');
        let short = match c {
            '\0' => '0',
            '\u{7}' => 'a',
            '\u{8}' => 'b',
            '\t' => 't',
            '\n' => 'n',
            '\u{b}' => 'v',
            '\u{c}' => 'f',
            '\r' => 'r',
            '\u{1b}' => 'e',
            '"' => '"',
            '\\' => '\\',
            '\u{85}' => 'N',
            '\u{a0}' => '_',
            '\u{2028}' => 'L',
            '\u{2029}' => 'P',
            _ => '\0',
        };
        if short != '\0' {
            out.push(short);
            continue;
        }
        // Writing to a String does not fail.
        let _ = match u32::from(c) {
            code @ ..=0xff => write!(out, "x{code:02X}"),
            code @ ..=0xffff => write!(out, "u{code:04X}"),
            code => write!(out, "U{code:08X}"),
        };
    }
    out.push('"');
}

/// Keys in the order in which a reader would count: `a2` before `a10`.
fn natural(a: &str, b: &str) -> Ordering {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let Some(at) = a.iter().zip(&b).position(|(x, y)| x != y) else {
        return a.len().cmp(&b.len());
    };
    let (Some(x), Some(y)) = (a.get(at), b.get(at)) else {
        return Ordering::Equal;
    };
    match (x.is_alphabetic(), y.is_alphabetic()) {
        (true, true) => return x.cmp(y),
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        (false, false) => {}
    }
    let mut start = 0i64;
    if *x == '0' || *y == '0' {
        let before = a.get(..at).unwrap_or_default();
        let digits = before.iter().rev().take_while(|c| c.is_numeric());
        if digits.into_iter().any(|c| *c != '0') {
            start = 1;
        }
    }
    let number = |chars: &[char]| {
        let digits = chars.get(at..).unwrap_or_default();
        let digits = digits.iter().take_while(|c| c.is_numeric());
        digits.fold((start, 0), |(value, count), c| {
            let digit = i64::from(u32::from(*c)) - 48;
            (value.wrapping_mul(10).wrapping_add(digit), count + 1)
        })
    };
    number(&a).cmp(&number(&b)).then(x.cmp(y))
}
