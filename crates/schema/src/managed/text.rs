//! The text form of sets: FieldsV1.

use super::path::{FieldSet, Node, PathElement};
use crate::json::scan::{MAX_DEPTH, Scanner};
use crate::json::{decode_value, encode_value};
use crate::types::Type;
use crate::value::Value;
use crate::{DecodeError, Map};

/// Text that is no set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldsError {
    #[error(transparent)]
    Json(#[from] DecodeError),
    #[error("parsing key as path element: {0}")]
    Element(String),
}

impl FieldSet {
    /// Reads FieldsV1. Elements of kinds that are not known are dropped.
    pub fn parse(text: &[u8]) -> Result<Self, FieldsError> {
        let mut scanner = Scanner::new(text);
        let (children, _) = read(&mut scanner, 0)?;
        scanner.end()?;
        Ok(children)
    }

    /// Writes FieldsV1.
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        write(&mut out, self, false);
        out
    }
}

/// The set, and whether the path to it is a member itself.
fn read(scanner: &mut Scanner<'_>, depth: usize) -> Result<(FieldSet, bool), FieldsError> {
    if depth > MAX_DEPTH {
        return Err(scanner.too_deep().into());
    }
    if scanner.peek_value()? != b'{' {
        scanner.skip()?;
        return Ok((FieldSet::new(), true));
    }
    let mut set = FieldSet::new();
    let mut member = false;
    if !scanner.open(b'}') {
        loop {
            let key = scanner.key()?;
            if key == "." {
                member = true;
                scanner.skip()?;
            } else if let Some(element) = element(&key)? {
                let (children, is_member) = read(scanner, depth + 1)?;
                let node = set.entries.entry(element).or_default();
                node.member |= is_member;
                node.children.add(children);
            } else {
                scanner.skip()?;
            }
            if !scanner.more(b'}')? {
                break;
            }
        }
    }
    let member = member || set.is_empty();
    Ok((set, member))
}

/// None for a kind of element that is not known.
fn element(key: &str) -> Result<Option<PathElement>, FieldsError> {
    let Some((kind, text)) = key.split_once(':').filter(|(kind, _)| kind.len() == 1) else {
        return Err(FieldsError::Element(format!("missing colon: {key}")));
    };
    Ok(Some(match kind {
        "f" => PathElement::field(text),
        "v" => PathElement::Value(any(text)?),
        "i" => PathElement::Index(
            text.parse().map_err(|_| FieldsError::Element(format!("invalid index: {key}")))?,
        ),
        "k" => match any(text)? {
            Value::Map(map) => PathElement::Key(map.into_iter().collect()),
            _ => return Err(FieldsError::Element(format!("not an object: {key}"))),
        },
        _ => return Ok(None),
    }))
}

fn any(text: &str) -> Result<Value, FieldsError> {
    Ok(decode_value(&Type::Any, text.as_bytes())?.unwrap_or(Value::Null))
}

fn write(out: &mut Vec<u8>, set: &FieldSet, include_self: bool) {
    out.push(b'{');
    let mut first = true;
    let mut comma = |out: &mut Vec<u8>| {
        if !std::mem::replace(&mut first, false) {
            out.push(b',');
        }
    };
    if include_self {
        comma(out);
        out.extend_from_slice(b"\".\":{}");
    }
    for (element, node) in &set.entries {
        comma(out);
        write_key(out, element);
        out.push(b':');
        write_node(out, node);
    }
    out.push(b'}');
}

fn write_node(out: &mut Vec<u8>, node: &Node) {
    if node.children.is_empty() {
        out.extend_from_slice(b"{}");
    } else {
        write(out, &node.children, node.member);
    }
}

fn write_key(out: &mut Vec<u8>, element: &PathElement) {
    let text = match element {
        PathElement::Field(name) => format!("f:{name}"),
        PathElement::Index(index) => format!("i:{index}"),
        PathElement::Value(value) => format!("v:{}", json_text(value)),
        PathElement::Key(keys) => {
            let map: Map = keys.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
            format!("k:{}", json_text(&Value::Map(map)))
        }
    };
    plain_string(out, &text);
}

fn json_text(value: &Value) -> String {
    let mut out = Vec::new();
    encode_value(&Type::Any, value, &mut out);
    String::from_utf8(out).unwrap_or_default()
}

/// A string with its quotes, not escaped for HTML: values inside keys are, the keys are not.
fn plain_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    if text.bytes().all(|b| b >= 0x20 && b != b'"' && b != b'\\') {
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
        return;
    }
    for c in text.chars() {
        match c {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            c if u32::from(c) < 0x20 => {
                out.extend_from_slice(format!("\\u{:04x}", u32::from(c)).as_bytes());
            }
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}
