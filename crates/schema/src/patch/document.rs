//! What a patch makes of an object, as text: clients are shown it when it is no object of the kind.
//!
//! Upstream's patches parse no more than they touch: what they leave alone is written as Go wrote it, in the order of
//! its fields, and the members of what they change come in the order of their names.

use std::borrow::Cow;

use crate::json;
use crate::types::Type;
use crate::{Object, Value};

/// The JSON text of `tree`, which a patch made of `o`. One that `merges` replaces lists as wholes.
pub(super) fn write(o: &Object, tree: &Value, merges: bool) -> String {
    let (ty, was) = (Type::Struct(o.ty().clone()), Value::Struct(o.clone()));
    let mut out = Vec::with_capacity(1024);
    put(&mut out, tree, Some((&ty, Cow::Borrowed(&was))), merges);
    String::from_utf8_lossy(&out).into_owned()
}

/// A type and what stood there.
type Was<'v> = Option<(&'v Type, Cow<'v, Value>)>;

fn put(out: &mut Vec<u8>, value: &Value, was: Was<'_>, merges: bool) {
    let known = was.as_ref().map(|(ty, was)| {
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
                put(out, value, was.as_ref().and_then(|(ty, was)| member(ty, was, key)), merges);
            }
            out.push(b'}');
        }
        Value::List(items) => {
            out.push(b'[');
            for (index, value) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                let was = was.as_ref().filter(|_| !merges).and_then(|(ty, was)| item(ty, was, index));
                put(out, value, was, merges);
            }
            out.push(b']');
        }
        leaf => json::encode_value(&Type::Any, leaf, out),
    }
}

/// A struct that is not there is written as an empty one.
fn member<'v>(ty: &'v Type, was: &'v Value, key: &str) -> Was<'v> {
    match (ty, was) {
        (Type::Struct(ty), Value::Struct(object)) => {
            let ty = &ty.field(key)?.1.ty;
            match (object.get(key), ty) {
                (Some(value), _) => Some((ty, Cow::Borrowed(value))),
                (None, Type::Struct(empty)) => {
                    Some((ty, Cow::Owned(Value::Struct(Object::new(empty.clone())))))
                }
                (None, _) => None,
            }
        }
        (Type::Map(ty), Value::Map(map)) => Some((ty, Cow::Borrowed(map.get(key)?))),
        _ => None,
    }
}

fn item<'v>(ty: &'v Type, was: &'v Value, index: usize) -> Was<'v> {
    match (ty, was) {
        (Type::List(ty), Value::List(items)) => Some((ty, Cow::Borrowed(items.get(index)?))),
        _ => None,
    }
}
