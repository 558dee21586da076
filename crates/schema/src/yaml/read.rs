//! YAML to an untyped tree.

use std::borrow::Cow;
use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, Tag};

use super::resolve::{Resolved, resolve};
use crate::DecodeError;
use crate::json::scan::MAX_DEPTH;
use crate::map::Map;
use crate::value::Value;

type Result<T> = std::result::Result<T, DecodeError>;

/// Aliases may not blow a document up to more nodes than this.
const MAX_NODES: usize = 4_000_000;

struct Reader<'a> {
    events: Parser<'a, saphyr_parser::StrInput<'a>>,
    anchors: HashMap<usize, (Value, usize)>,
    nodes: usize,
    duplicates: Vec<String>,
}

/// The first document, and a message about keys that stand twice.
pub(super) fn read(yaml: &[u8]) -> Result<(Value, Option<String>)> {
    let text = std::str::from_utf8(yaml)
        .map_err(|_| DecodeError::Yaml("control characters are not allowed".into()))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader {
        events: Parser::new_from_str(text),
        anchors: HashMap::new(),
        nodes: 0,
        duplicates: Vec::new(),
    };
    let value = loop {
        match reader.next()? {
            (Event::StreamEnd, _) => break Value::Null,
            (Event::StreamStart | Event::DocumentStart(_) | Event::Nothing, _) => {}
            (event, span) => break reader.node(event, span, 0)?,
        }
    };
    let duplicates = (!reader.duplicates.is_empty())
        .then(|| format!("yaml: unmarshal errors:\n  {}", reader.duplicates.join("\n  ")));
    Ok((value, duplicates))
}

fn scan_error(error: &ScanError) -> DecodeError {
    DecodeError::Yaml(format!("line {}: {}", error.marker().line(), error.info()))
}

fn fail<T>(span: Span, message: &str) -> Result<T> {
    Err(DecodeError::Yaml(format!("line {}: {message}", span.start.line())))
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span)> {
        match self.events.next() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(scan_error(&error)),
            None => Err(DecodeError::Yaml("unexpected end of stream".into())),
        }
    }

    fn keep(&mut self, anchor: usize, value: &Value, nodes: usize) {
        if anchor > 0 {
            self.anchors.insert(anchor, (value.clone(), nodes));
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Value> {
        if depth > MAX_DEPTH {
            return fail(span, "exceeded max depth");
        }
        self.nodes += 1;
        let before = self.nodes;
        let (value, anchor) = match event {
            Event::Alias(anchor) => {
                let Some((value, nodes)) = self.anchors.get(&anchor) else {
                    return fail(span, "unknown anchor referenced");
                };
                self.nodes = self.nodes.saturating_add(*nodes);
                if self.nodes > MAX_NODES {
                    return fail(span, "document contains excessive aliasing");
                }
                return Ok(value.clone());
            }
            Event::Scalar(text, style, anchor, tag) => (scalar(text, style, tag.as_deref(), span)?, anchor),
            Event::SequenceStart(anchor, _) => (self.sequence(depth)?, anchor),
            Event::MappingStart(anchor, _) => (self.mapping(depth)?, anchor),
            _ => return fail(span, "did not find expected node content"),
        };
        self.keep(anchor, &value, self.nodes - before + 1);
        Ok(value)
    }

    fn sequence(&mut self, depth: usize) -> Result<Value> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::List(items)),
                (event, span) => items.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn mapping(&mut self, depth: usize) -> Result<Value> {
        let mut map = Map::new();
        let mut merged = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                break;
            }
            let merge = matches!(&event, Event::Scalar(t, ScalarStyle::Plain, _, _) if t == "<<");
            let key = self.node(event, span, depth + 1)?;
            let (event, value_span) = self.next()?;
            let value = self.node(event, value_span, depth + 1)?;
            if merge {
                merged.push((value, value_span));
                continue;
            }
            let key = key_text(&key, span)?;
            if map.insert(key.clone(), value).is_some() {
                let line = span.start.line();
                self.duplicates.push(format!("line {line}: key {key:?} already set in map"));
            }
        }
        for (value, span) in merged {
            merge_into(&mut map, value, span)?;
        }
        Ok(Value::Map(map))
    }
}

/// Adds what a `<<` key brings in; what is there already stays.
fn merge_into(map: &mut Map, value: Value, span: Span) -> Result<()> {
    match value {
        Value::Map(other) => {
            for (key, value) in other {
                map.get_or_insert_with(&key, || value);
            }
            Ok(())
        }
        Value::List(others) => {
            for other in others {
                merge_into(map, other, span)?;
            }
            Ok(())
        }
        _ => fail(span, "map merge requires map or sequence of maps as the value"),
    }
}

fn key_text(key: &Value, span: Span) -> Result<String> {
    match key {
        Value::Str(s) => Ok(s.clone()),
        Value::Int(i) => Ok(i.to_string()),
        Value::Bool(b) => Ok(b.to_string()),
        Value::Float(f) => Ok(super::emit::float(f64::from(*f as f32))),
        Value::Null => fail(span, "unsupported map key of type: %!s(<nil>), key: interface {}(nil)"),
        _ => fail(span, "invalid map key"),
    }
}

fn scalar(text: Cow<'_, str>, style: ScalarStyle, tag: Option<&Tag>, span: Span) -> Result<Value> {
    let suffix = tag.filter(|t| t.is_yaml_core_schema()).map(|t| t.suffix.as_str());
    let resolved = match suffix {
        Some("str") => Resolved::Str,
        Some("binary") => return binary(&text, span),
        None if style != ScalarStyle::Plain => Resolved::Str,
        _ => resolve(&text),
    };
    let fits = match suffix {
        Some("int") => matches!(resolved, Resolved::Int(_) | Resolved::Uint(_)),
        Some("float") => {
            matches!(resolved, Resolved::Int(_) | Resolved::Uint(_) | Resolved::Float(_))
        }
        Some("bool") => matches!(resolved, Resolved::Bool(_)),
        Some("null") => matches!(resolved, Resolved::Null),
        _ => true,
    };
    if !fits {
        let tag = suffix.unwrap_or("");
        return fail(span, &format!("cannot decode !!str `{text}` as a !!{tag}"));
    }
    Ok(match resolved {
        Resolved::Null => Value::Null,
        Resolved::Bool(b) => Value::Bool(b),
        Resolved::Int(i) => Value::Int(i),
        Resolved::Uint(u) => Value::Float(u as f64),
        Resolved::Float(f) if f.is_finite() => Value::Float(f),
        Resolved::Float(_) => {
            return Err(DecodeError::Type(format!("json: unsupported value: {text}")));
        }
        Resolved::Timestamp | Resolved::Str => Value::Str(text.into_owned()),
    })
}

fn binary(text: &str, span: Span) -> Result<Value> {
    use base64::Engine as _;
    let text: String = text.split_ascii_whitespace().collect();
    match base64::engine::general_purpose::STANDARD.decode(text) {
        Ok(bytes) => Ok(Value::Str(String::from_utf8_lossy(&bytes).into_owned())),
        Err(_) => fail(span, "!!binary value contains invalid base64 data"),
    }
}
