//! JSON to tree.

mod context;
mod form;
mod leaf;

use std::borrow::Cow;

use super::Decoded;
use super::scan::{MAX_DEPTH, Scanner};
use crate::map::Map;
use crate::object::Object;
use crate::types::{Field, Form, Struct, StructRef, Type};
use crate::value::Value;
use crate::{DecodeError, builtin};
use context::{Frame, Target};

type Result<T> = std::result::Result<T, DecodeError>;

/// Upstream stops collecting here.
const MAX_STRICT: usize = 100;

/// What was found where a value was expected.
enum Got {
    Value(Value),
    Null,
    /// Of the wrong type, which is noted; the field stays as it is.
    Bad,
}

struct Decoder<'a> {
    scanner: Scanner<'a>,
    strict: Vec<String>,
    /// The first value of a wrong type; decoding goes on after it, as a syntax error comes first.
    saved: Option<DecodeError>,
    /// What was said about the last value of a wrong type.
    mismatched: String,
    depth: usize,
}

/// Decodes one object of a known type.
pub fn decode(ty: &StructRef, json: &[u8]) -> Result<Decoded> {
    let target = Target::of_struct(ty);
    let (got, strict) = run(json, |d| d.structure(ty, None, &Frame::root(&target)))?;
    let object = match got {
        Got::Value(Value::Struct(object)) => object,
        _ => Object::new(ty.clone()),
    };
    Ok(Decoded { object, strict })
}

/// Decodes one value of a known type; null is None.
pub fn decode_value(ty: &Type, json: &[u8]) -> Result<Option<Value>> {
    Ok(decode_strict(ty, json)?.0)
}

/// As [`decode_value`], with the strict messages.
pub(crate) fn decode_strict(ty: &Type, json: &[u8]) -> Result<(Option<Value>, Vec<String>)> {
    let target = Target::of_type(ty);
    let (got, strict) = run(json, |d| d.value(ty, false, None, &Frame::root(&target)))?;
    let value = match got {
        Got::Value(value) => Some(value),
        Got::Null | Got::Bad => None,
    };
    Ok((value, strict))
}

/// Decodes one value of a custom resource's type: what does not fit is kept as it is.
pub(crate) fn decode_custom(ty: &Type, json: &[u8]) -> Result<Option<Value>> {
    let target = Target::of_type(ty);
    let (got, _) = run(json, |d| d.value(ty, true, None, &Frame::root(&target)))?;
    Ok(match got {
        Got::Value(value) => Some(value),
        Got::Null | Got::Bad => None,
    })
}

fn run<'a>(
    json: &'a [u8],
    decode: impl FnOnce(&mut Decoder<'a>) -> Result<Got>,
) -> Result<(Got, Vec<String>)> {
    let mut decoder = Decoder {
        scanner: Scanner::new(json),
        strict: Vec::new(),
        saved: None,
        mismatched: String::new(),
        depth: 0,
    };
    let outcome = decode(&mut decoder).and_then(|got| {
        decoder.scanner.end()?;
        match decoder.saved.take() {
            Some(error) => Err(error),
            None => Ok(got),
        }
    });
    match outcome {
        Ok(got) => Ok((got, decoder.strict)),
        Err(error @ DecodeError::Syntax { .. }) => Err(error),
        Err(error) => {
            // Go checks the whole text before it looks at types.
            let mut scanner = Scanner::new(json);
            scanner.skip()?;
            scanner.end()?;
            Err(error)
        }
    }
}

/// The value that Go has for null in a list or map.
fn zero(ty: &Type) -> Value {
    match ty {
        Type::Bool => Value::Bool(false),
        Type::Int32 | Type::Int64 | Type::Uint32 | Type::Uint64 | Type::IntOrString | Type::Duration => {
            Value::Int(0)
        }
        Type::Float64 => Value::Float(0.0),
        Type::String => Value::Str(String::new()),
        Type::Quantity => Value::Str("0".into()),
        Type::Struct(ty) => Value::Struct(Object::new(ty.clone())),
        Type::Time | Type::MicroTime => Value::Time(crate::time::GO_ZERO),
        Type::Bytes | Type::Raw | Type::FieldsV1 | Type::Any | Type::List(_) | Type::Map(_) => Value::Null,
    }
}

impl<'a> Decoder<'a> {
    fn strict(&mut self, what: &str, frame: &Frame<'_>, name: &str) {
        if self.strict.len() < MAX_STRICT {
            let message = format!("{what} {:?}", frame.path_to(name));
            if !self.strict.contains(&message) {
                self.strict.push(message);
            }
        }
    }

    /// Notes a value of the wrong type and passes over it.
    fn mismatch(&mut self, frame: &Frame<'_>) -> Result<Got> {
        let first = self.scanner.peek_value()?;
        let text = self.scanner.skip()?;
        let what: Cow<'_, str> = match first {
            b'{' => "object".into(),
            b'[' => "array".into(),
            b'"' => "string".into(),
            b't' | b'f' => "bool".into(),
            _ if frame.wants_number() => format!("number {}", String::from_utf8_lossy(text)).into(),
            _ => "number".into(),
        };
        self.mismatched = frame.type_error(&what);
        if self.saved.is_none() {
            self.saved = Some(DecodeError::Type(self.mismatched.clone()));
        }
        Ok(Got::Bad)
    }

    /// The last mismatch, where a type that reads itself ends the decoding.
    fn at_once(&mut self) -> DecodeError {
        DecodeError::Type(std::mem::take(&mut self.mismatched))
    }

    fn deeper<T>(&mut self, run: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth >= MAX_DEPTH {
            return Err(self.scanner.too_deep());
        }
        self.depth += 1;
        let out = run(self);
        self.depth -= 1;
        out
    }

    /// One value. `custom` is for custom resources, where what does not fit is kept for
    /// validation. `into` is what the field holds already, when it stood there twice.
    fn value(&mut self, ty: &Type, custom: bool, into: Option<Value>, frame: &Frame<'_>) -> Result<Got> {
        let first = self.scanner.peek_value()?;
        if first == b'n' && !matches!(ty, Type::Struct(_)) {
            self.scanner.literal("null")?;
            return Ok(Got::Null);
        }
        match ty {
            Type::Struct(ty) if !custom || first == b'{' => self.structure(ty, into, frame),
            Type::List(item) if first == b'[' => self.list(item, custom, frame),
            Type::Map(item) if first == b'{' => self.map(item, custom, into, frame),
            Type::Any => self.any(frame).map(Got::Value),
            Type::Bytes if first == b'[' && !custom => self.byte_list(frame),
            _ if custom && first == b'n' => {
                self.scanner.literal("null")?;
                Ok(Got::Null)
            }
            _ if custom => self.any(frame).map(Got::Value),
            Type::Struct(_) | Type::List(_) | Type::Map(_) => self.mismatch(frame),
            _ => self.leaf(ty, first, frame),
        }
    }

    fn list(&mut self, item: &Type, custom: bool, frame: &Frame<'_>) -> Result<Got> {
        let mut items = Vec::new();
        if self.scanner.open(b']') {
            return Ok(Got::Value(Value::List(items)));
        }
        let target = frame.target.item(item);
        self.deeper(|d| {
            loop {
                let inner = frame.index(items.len(), &target);
                let got = d.value(item, custom, None, &inner)?;
                items.push(match got {
                    Got::Value(value) => value,
                    Got::Null if custom => Value::Null,
                    Got::Null | Got::Bad => zero(item),
                });
                if !d.scanner.more(b']')? {
                    return Ok(Got::Value(Value::List(items)));
                }
            }
        })
    }

    fn map(&mut self, item: &Type, custom: bool, into: Option<Value>, frame: &Frame<'_>) -> Result<Got> {
        let mut map = match into {
            Some(Value::Map(map)) => map,
            _ => Map::new(),
        };
        if self.scanner.open(b'}') {
            return Ok(Got::Value(Value::Map(map)));
        }
        let target = frame.target.item(item);
        let before = map.clone();
        self.deeper(|d| {
            loop {
                let key = d.scanner.key()?;
                if map.contains_key(&key) && !before.contains_key(&key) {
                    d.strict("duplicate field", frame, &key);
                }
                let got = d.value(item, custom, None, &frame.key(&key, &target))?;
                let value = match got {
                    Got::Value(value) => value,
                    Got::Null if custom => Value::Null,
                    Got::Null | Got::Bad => zero(item),
                };
                map.insert(key.into_owned(), value);
                if !d.scanner.more(b'}')? {
                    return Ok(Got::Value(Value::Map(map)));
                }
            }
        })
    }

    fn any(&mut self, frame: &Frame<'_>) -> Result<Value> {
        let target = Target::of_type(&Type::Any);
        match self.scanner.peek_value()? {
            b'{' => match self.map(&Type::Any, true, None, &frame.as_target(&target))? {
                Got::Value(value) => Ok(value),
                Got::Null | Got::Bad => Ok(Value::Null),
            },
            b'[' => match self.list(&Type::Any, true, &frame.as_target(&target))? {
                Got::Value(value) => Ok(value),
                Got::Null | Got::Bad => Ok(Value::Null),
            },
            first => self.any_scalar(first),
        }
    }

    fn structure(&mut self, ty: &StructRef, into: Option<Value>, frame: &Frame<'_>) -> Result<Got> {
        let first = self.scanner.peek_value()?;
        if ty.form != Form::Object {
            return self.form(ty, first, frame);
        }
        if first == b'n' {
            self.scanner.literal("null")?;
            return Ok(Got::Null);
        }
        if first != b'{' {
            return self.mismatch(frame);
        }
        let mut object = match into {
            Some(Value::Struct(object)) => object,
            _ => Object::new(ty.clone()),
        };
        if self.scanner.open(b'}') {
            return Ok(Got::Value(Value::Struct(object)));
        }
        let ty: &Struct = ty;
        self.deeper(|d| {
            let mut seen = Seen::default();
            let mut hint = 0u16;
            loop {
                let key = d.scanner.key()?;
                match ty.field_near(hint, &key) {
                    Some((index, field)) => {
                        hint = index + 1;
                        if seen.again(index) {
                            d.strict("duplicate field", frame, &key);
                        }
                        d.field(ty, field, index, &mut object, frame)?;
                    }
                    None => d.unknown(ty, key, &mut object, frame)?,
                }
                if !d.scanner.more(b'}')? {
                    return Ok(Got::Value(Value::Struct(object)));
                }
            }
        })
    }

    fn field(
        &mut self,
        ty: &Struct,
        field: &Field,
        index: u16,
        object: &mut Object,
        frame: &Frame<'_>,
    ) -> Result<()> {
        let target = Target::of_field(field);
        let inner = frame.field(ty, field, &target);
        // An object adds to one that stood there before; anything else leaves or replaces it.
        let into = match field.ty {
            Type::Struct(_) | Type::Map(_) if self.scanner.peek() == Some(b'{') => object.remove_index(index),
            _ => None,
        };
        match self.value(&field.ty, ty.custom, into, &inner)? {
            Got::Value(value) if field.is_absent(&value) => {
                object.remove_index(index);
            }
            Got::Value(value) => {
                object.put_index(index, value);
            }
            Got::Null if ty.custom && !field.is_builtin_struct() => {
                object.put_index(index, Value::Null);
            }
            Got::Null if field.nil_on_null() => {
                object.remove_index(index);
            }
            Got::Null | Got::Bad => {}
        }
        Ok(())
    }

    fn unknown(
        &mut self,
        ty: &Struct,
        key: Cow<'_, str>,
        object: &mut Object,
        frame: &Frame<'_>,
    ) -> Result<()> {
        if ty.preserve_unknown {
            let target = Target::of_type(&Type::Any);
            let value = self.any(&frame.key(&key, &target))?;
            if object.extra().is_some_and(|e| e.contains_key(&key)) {
                self.strict("duplicate field", frame, &key);
            }
            object.extra_mut().insert(key.into_owned(), value);
            return Ok(());
        }
        self.strict("unknown field", frame, &key);
        self.scanner.skip().map(drop)
    }
}

/// Which fields have been seen.
#[derive(Default)]
struct Seen {
    low: u128,
    high: Vec<u16>,
}

impl Seen {
    /// Whether it was there before.
    fn again(&mut self, index: u16) -> bool {
        if index < 128 {
            let bit = 1u128 << index;
            let again = self.low & bit != 0;
            self.low |= bit;
            return again;
        }
        let again = self.high.contains(&index);
        if !again {
            self.high.push(index);
        }
        again
    }
}

/// The name that Go's errors have for a built-in struct: `v1.Pod`.
fn go_struct_name(name: &str) -> String {
    let mut parts = name.rsplit('.');
    let (last, package) = (parts.next().unwrap_or(name), parts.next());
    match package {
        Some(package) if builtin().type_named(name).is_some() => format!("{package}.{last}"),
        _ => last.to_owned(),
    }
}
