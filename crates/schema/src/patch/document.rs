//! What a patch makes of an object, as text: clients are shown it when it is no object of the kind.
//!
//! Upstream's patches parse no more than they touch: what they leave alone is written as Go wrote it, in the order of
//! its fields, and the members of what they change come in the order of their names.

use crate::json;
use crate::types::Type;
use crate::{Object, Value};

/// The JSON text of `tree`, which a patch made of `o`.
pub(super) fn write(o: &Object, tree: &Value) -> String {
    let (ty, was) = (Type::Struct(o.ty().clone()), Value::Struct(o.clone()));
    let mut out = Vec::with_capacity(1024);
    put(&mut out, tree, Some((&ty, &was)));
    String::from_utf8_lossy(&out).into_owned()
}

fn put(out: &mut Vec<u8>, value: &Value, was: Option<(&Type, &Value)>) {
    let known = was.map(|(ty, was)| {
        let mut text = Vec::new();
        json::encode_value(ty, was, &mut text);
        text
    });
    if let Some(text) = known
        && json::decode_value(&Type::Any, &text).ok().flatten().as_ref() == Some(value)
    {
        out.extend_from_slice(&text);
        return;
    }
    match value {
        Value::Map(map) => {
            out.push(b'{');
            for (index, (key, value)) in map.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                json::encode_value(&Type::String, &Value::Str(key.to_owned()), out);
                out.push(b':');
                put(out, value, was.and_then(|(ty, was)| member(ty, was, key)));
            }
            out.push(b'}');
        }
        Value::List(items) => {
            out.push(b'[');
            for (index, value) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                put(out, value, was.and_then(|(ty, was)| item(ty, was, index)));
            }
            out.push(b']');
        }
        leaf => json::encode_value(&Type::Any, leaf, out),
    }
}

fn member<'v>(ty: &'v Type, was: &'v Value, key: &str) -> Option<(&'v Type, &'v Value)> {
    match (ty, was) {
        (Type::Struct(ty), Value::Struct(object)) => Some((&ty.field(key)?.1.ty, object.get(key)?)),
        (Type::Map(ty), Value::Map(map)) => Some((ty, map.get(key)?)),
        _ => None,
    }
}

fn item<'v>(ty: &'v Type, was: &'v Value, index: usize) -> Option<(&'v Type, &'v Value)> {
    match (ty, was) {
        (Type::List(ty), Value::List(items)) => Some((ty, items.get(index)?)),
        _ => None,
    }
}
