//! Tree to JSON.

use super::write;
use crate::map::Map;
use crate::object::Object;
use crate::time;
use crate::types::{Field, Form, Struct, Type};
use crate::value::Value;

/// Compact JSON, without the line end that Go's Encoder appends.
pub fn encode(o: &Object) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    encode_into(o, &mut out);
    out
}

pub fn encode_into(o: &Object, out: &mut Vec<u8>) {
    structure(out, o.ty(), Some(o));
}

/// What `?pretty=true` gives: two spaces.
pub fn encode_pretty(o: &Object) -> Vec<u8> {
    write::indent(&encode(o))
}

/// One value of a type.
pub fn encode_value(ty: &Type, value: &Value, out: &mut Vec<u8>) {
    put(out, ty, value);
}

/// Of what a Go encoder would write for a field that is not set.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Absent {
    Skip,
    Null,
    /// The zero value of the field's type.
    Zero,
}

impl Field {
    pub(crate) fn when_absent(&self) -> Absent {
        if self.pointer {
            return if self.omitempty { Absent::Skip } else { Absent::Null };
        }
        if self.omitzero {
            return Absent::Skip;
        }
        match self.ty {
            // Go's omitempty does not apply to structs.
            Type::Struct(_) | Type::Quantity | Type::IntOrString | Type::Duration => Absent::Zero,
            Type::Time | Type::MicroTime | Type::Raw | Type::FieldsV1 => Absent::Null,
            _ if self.omitempty => Absent::Skip,
            Type::List(_) | Type::Map(_) | Type::Bytes | Type::Any => Absent::Null,
            _ => Absent::Zero,
        }
    }
}

/// Writes the zero value of a type.
pub(crate) fn zero(out: &mut Vec<u8>, ty: &Type) {
    let text: &[u8] = match ty {
        Type::Bool => b"false",
        Type::Int32 | Type::Int64 | Type::Uint32 | Type::Uint64 | Type::Float64 | Type::IntOrString => b"0",
        Type::String => b"\"\"",
        Type::Quantity => b"\"0\"",
        Type::Duration => b"\"0s\"",
        Type::Struct(ty) => return structure(out, ty, None),
        _ => b"null",
    };
    out.extend_from_slice(text);
}

pub(crate) fn comma(out: &mut Vec<u8>, first: &mut bool) {
    if *first {
        *first = false;
    } else {
        out.push(b',');
    }
}

/// None stands for a zero struct.
pub(crate) fn structure(out: &mut Vec<u8>, ty: &Struct, object: Option<&Object>) {
    if ty.custom {
        return custom(out, object);
    }
    if ty.form != Form::Object {
        return form(out, ty.form, object);
    }
    out.push(b'{');
    let mut first = true;
    let mut set = object.map(Object::indexed).unwrap_or_default().iter().peekable();
    for (index, field) in ty.fields.iter().enumerate() {
        let value =
            set.next_if(|(i, _)| usize::from(*i) == index).map(|(_, v)| v).filter(|v| !field.is_absent(v));
        match value {
            Some(Value::List(l)) if l.is_empty() && field.drops_empty() => continue,
            Some(Value::Map(m)) if m.is_empty() && field.drops_empty() => continue,
            Some(Value::Bytes(b)) if b.is_empty() && field.drops_empty() => continue,
            Some(value) => {
                comma(out, &mut first);
                write::name(out, &field.json);
                put(out, &field.ty, value);
            }
            None => put_absent(out, field, &mut first),
        }
    }
    out.push(b'}');
}

pub(crate) fn put_absent(out: &mut Vec<u8>, field: &Field, first: &mut bool) {
    match field.when_absent() {
        Absent::Skip => {}
        Absent::Null => {
            comma(out, first);
            write::name(out, &field.json);
            out.extend_from_slice(b"null");
        }
        Absent::Zero => {
            comma(out, first);
            write::name(out, &field.json);
            zero(out, &field.ty);
        }
    }
}

/// Custom resources: what is set, by name, unknown fields among the known.
fn custom(out: &mut Vec<u8>, object: Option<&Object>) {
    out.push(b'{');
    let mut first = true;
    let Some(object) = object else {
        out.push(b'}');
        return;
    };
    let mut extra = object.extra().map(Map::iter).into_iter().flatten().peekable();
    let unknown = |out: &mut Vec<u8>, first: &mut bool, key: &str, value: &Value| {
        comma(out, first);
        write::string(out, key);
        out.push(b':');
        put(out, &Type::Any, value);
    };
    for (field, value) in object.fields() {
        while let Some((key, value)) = extra.next_if(|(key, _)| *key < &*field.json) {
            unknown(out, &mut first, key, value);
        }
        comma(out, &mut first);
        write::string(out, &field.json);
        out.push(b':');
        put(out, &field.ty, value);
    }
    for (key, value) in extra {
        unknown(out, &mut first, key, value);
    }
    out.push(b'}');
}

fn form(out: &mut Vec<u8>, form: Form, object: Option<&Object>) {
    let get = |name| object.and_then(|o| o.get(name));
    let list = match form {
        Form::SchemaOrArray => get("jSONSchemas"),
        Form::SchemaOrStrings => get("property"),
        _ => None,
    };
    if let Some(list @ Value::List(items)) = list
        && !items.is_empty()
    {
        return put(out, &Type::Any, list);
    }
    match get("schema") {
        Some(schema) => put(out, &Type::Any, schema),
        None if form == Form::SchemaOrBool => {
            put(out, &Type::Bool, get("allows").unwrap_or(&Value::Bool(false)));
        }
        None => out.extend_from_slice(b"null"),
    }
}

/// Driven by the value; the type only says how times and durations are written.
fn put(out: &mut Vec<u8>, ty: &Type, value: &Value) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(b) => out.extend_from_slice(if *b { b"true" } else { b"false" }),
        Value::Int(i) => match ty {
            Type::Duration => write::string(out, &time::format_duration(*i)),
            Type::Uint64 if *i < 0 => out.extend_from_slice((*i as u64).to_string().as_bytes()),
            _ => write::int(out, *i),
        },
        Value::Float(f) => write::float(out, *f),
        Value::Str(s) => write::string(out, s),
        Value::Bytes(b) => write::base64(out, b),
        Value::Time(t) => put_time(out, ty, *t),
        Value::Raw(raw) => {
            if !write::raw(out, raw) {
                out.extend_from_slice(b"null");
            }
        }
        Value::Struct(o) => structure(out, o.ty(), Some(o)),
        Value::List(items) => list(out, ty, items),
        Value::Map(map) => {
            let item = match ty {
                Type::Map(item) => item,
                _ => &Type::Any,
            };
            out.push(b'{');
            let mut first = true;
            for (key, value) in map.iter() {
                comma(out, &mut first);
                write::string(out, key);
                out.push(b':');
                put(out, item, value);
            }
            out.push(b'}');
        }
    }
}

pub(crate) fn put_time(out: &mut Vec<u8>, ty: &Type, value: jiff::Timestamp) {
    if time::is_go_zero(value) {
        return out.extend_from_slice(b"null");
    }
    out.push(b'"');
    match ty {
        Type::MicroTime => time::write_rfc3339_micro(out, value),
        _ => time::write_rfc3339(out, value),
    }
    out.push(b'"');
}

fn list(out: &mut Vec<u8>, ty: &Type, items: &[Value]) {
    let item = match ty {
        Type::List(item) => item,
        _ => &Type::Any,
    };
    out.push(b'[');
    let mut first = true;
    for value in items {
        comma(out, &mut first);
        put(out, item, value);
    }
    out.push(b']');
}
