//! Tree to message.

use super::wire::{put_bytes, put_int, put_key, put_message, put_varint};
use crate::object::Object;
use crate::time;
use crate::types::{Field, ProtoKind, ProtoNode, Struct, Type};
use crate::value::Value;

/// The bare message. Empty for a type without protobuf.
pub fn encode(o: &Object) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    message(&mut out, o.ty(), &o.ty().proto, Some(o));
    out
}

fn message(out: &mut Vec<u8>, ty: &Struct, nodes: &[ProtoNode], object: Option<&Object>) {
    for node in nodes {
        match &node.kind {
            ProtoKind::Field(index) => {
                let value = object.and_then(|o| o.get_index(*index));
                if let Some(field) = ty.fields.get(usize::from(*index)) {
                    match value {
                        Some(value) => put_field(out, node.tag, field, value),
                        None if !field.pointer => put_zero(out, node.tag, &field.ty),
                        None => {}
                    }
                }
            }
            ProtoKind::Embedded { nodes, pointer } => {
                if !pointer || any_set(nodes, object) {
                    put_message(out, node.tag, |out| message(out, ty, nodes, object));
                }
            }
        }
    }
}

fn any_set(nodes: &[ProtoNode], object: Option<&Object>) -> bool {
    nodes.iter().any(|node| match &node.kind {
        ProtoKind::Field(index) => object.is_some_and(|o| o.get_index(*index).is_some()),
        ProtoKind::Embedded { nodes, .. } => any_set(nodes, object),
    })
}

/// What is written for a field that is not set and not a pointer.
fn put_zero(out: &mut Vec<u8>, tag: u32, ty: &Type) {
    match ty {
        Type::Bool | Type::Int32 | Type::Int64 | Type::Uint32 | Type::Uint64 => {
            put_int(out, tag, 0);
        }
        Type::Float64 => put_float(out, tag, 0.0),
        Type::String | Type::Time | Type::MicroTime | Type::Raw | Type::FieldsV1 => {
            put_bytes(out, tag, b"");
        }
        Type::Duration => put_duration(out, tag, 0),
        Type::IntOrString => put_bytes(out, tag, &[0x08, 0, 0x10, 0, 0x1a, 0]),
        Type::Quantity => put_bytes(out, tag, b"\x0a\x010"),
        Type::Struct(ty) => {
            put_message(out, tag, |out| message(out, ty, &ty.proto, None));
        }
        Type::Bytes | Type::List(_) | Type::Map(_) | Type::Any => {}
    }
}

fn put_field(out: &mut Vec<u8>, tag: u32, field: &Field, value: &Value) {
    match (&field.ty, value) {
        (Type::List(item), Value::List(items)) if field.items_message => {
            put_items(out, tag, item, items);
        }
        (Type::List(item), Value::List(items)) => {
            for value in items {
                put_value(out, tag, item, value);
            }
        }
        (Type::Map(item), Value::Map(map)) => {
            for (key, value) in map.iter() {
                put_message(out, tag, |out| {
                    put_bytes(out, 1, key.as_bytes());
                    match (&**item, value) {
                        (Type::List(inner), Value::List(items)) => {
                            put_items(out, 2, inner, items);
                        }
                        (Type::List(inner), _) => put_items(out, 2, inner, &[]),
                        (Type::Bytes, Value::Null) => {}
                        _ => put_value(out, 2, item, value),
                    }
                });
            }
        }
        (ty, value) => put_value(out, tag, ty, value),
    }
}

/// A list that is a message of its own.
fn put_items(out: &mut Vec<u8>, tag: u32, item: &Type, items: &[Value]) {
    put_message(out, tag, |out| {
        for value in items {
            put_value(out, 1, item, value);
        }
    });
}

fn put_value(out: &mut Vec<u8>, tag: u32, ty: &Type, value: &Value) {
    match (ty, value) {
        (Type::IntOrString, Value::Int(i)) => put_message(out, tag, |out| {
            put_int(out, 1, 0);
            put_int(out, 2, *i as u64);
            put_bytes(out, 3, b"");
        }),
        (Type::IntOrString, Value::Str(s)) => put_message(out, tag, |out| {
            put_int(out, 1, 1);
            put_int(out, 2, 0);
            put_bytes(out, 3, s.as_bytes());
        }),
        (Type::Quantity, Value::Str(s)) => {
            put_message(out, tag, |out| put_bytes(out, 1, s.as_bytes()));
        }
        (Type::Duration, Value::Int(i)) => put_duration(out, tag, *i),
        (Type::Time | Type::MicroTime, Value::Time(t)) => put_time(out, tag, ty, *t),
        (_, Value::Bool(b)) => put_int(out, tag, u64::from(*b)),
        (_, Value::Int(i)) => put_int(out, tag, *i as u64),
        (_, Value::Float(f)) => put_float(out, tag, *f),
        (_, Value::Str(s)) => put_bytes(out, tag, s.as_bytes()),
        (_, Value::Bytes(b)) => put_bytes(out, tag, b),
        (Type::FieldsV1, Value::Raw(raw)) if raw.is_empty() => put_bytes(out, tag, b""),
        (_, Value::Raw(raw)) => put_message(out, tag, |out| put_bytes(out, 1, raw)),
        (_, Value::Struct(o)) => {
            put_message(out, tag, |out| message(out, o.ty(), &o.ty().proto, Some(o)));
        }
        (_, Value::Null) => put_zero(out, tag, ty),
        // A list of lists, a map of maps and untyped values have no protobuf form.
        (_, Value::Time(_) | Value::List(_) | Value::Map(_)) => {}
    }
}

fn put_float(out: &mut Vec<u8>, tag: u32, value: f64) {
    put_key(out, tag, 1);
    out.extend_from_slice(&value.to_bits().to_le_bytes());
}

fn put_duration(out: &mut Vec<u8>, tag: u32, nanos: i64) {
    put_message(out, tag, |out| put_int(out, 1, nanos as u64));
}

fn put_time(out: &mut Vec<u8>, tag: u32, ty: &Type, value: jiff::Timestamp) {
    if time::is_go_zero(value) {
        return put_bytes(out, tag, b"");
    }
    let nanos = value.as_nanosecond();
    let seconds = nanos.div_euclid(1_000_000_000) as i64;
    let fraction = match ty {
        Type::MicroTime => nanos.rem_euclid(1_000_000_000) as u64 / 1_000 * 1_000,
        _ => 0,
    };
    put_message(out, tag, |out| {
        put_key(out, 1, 0);
        put_varint(out, seconds as u64);
        put_int(out, 2, fraction);
    });
}
