//! What upstream says of a strategically merged object that is none of its kind: it does not decode JSON then, but
//! restores the object from maps, in words of their own (`apimachinery/pkg/runtime/converter.go`).

use crate::Value;
use crate::types::{Struct, Type};

/// The first thing that is wrong, in the order of the kind's fields; `None` where it is something that reads its own
/// JSON, such as a quantity or a time.
pub(super) fn complaint(ty: &Struct, value: &Value) -> Option<String> {
    let Value::Map(map) = value else { return Some(format!("cannot restore struct from: {}", kind(value))) };
    ty.fields.iter().find_map(|field| in_value(&field.ty, &field.go_type, map.get(&field.json)?))
}

fn in_value(ty: &Type, go: &str, value: &Value) -> Option<String> {
    let item = go.strip_prefix("[]").or_else(|| go.strip_prefix("map[string]")).unwrap_or("");
    match (ty, value) {
        (_, Value::Null) | (Type::Bytes, Value::Str(_)) => None,
        (Type::Struct(ty), value) => complaint(ty, value),
        (Type::List(ty), Value::List(items)) => items.iter().find_map(|value| in_value(ty, item, value)),
        (Type::List(_) | Type::Bytes, value) => Some(format!("cannot restore slice from {}", kind(value))),
        (Type::Map(ty), Value::Map(map)) => map.iter().find_map(|(_, value)| in_value(ty, item, value)),
        (Type::Map(_), value) => Some(format!("cannot restore map from {}", kind(value))),
        (ty, value) => in_leaf(ty, go, value),
    }
}

/// Go converts whole numbers to texts and to each other, if it is let, and fractions to whole numbers.
fn in_leaf(ty: &Type, go: &str, value: &Value) -> Option<String> {
    let name = match ty {
        Type::Bool => "bool",
        Type::Int32 => "int32",
        Type::Int64 => "int64",
        Type::Uint32 => "uint32",
        Type::Uint64 => "uint64",
        Type::Float64 => "float64",
        Type::String => "string",
        _ => return None,
    };
    let is_number = !matches!(ty, Type::Bool | Type::String);
    match value {
        Value::Bool(_) if matches!(ty, Type::Bool) => None,
        Value::Str(_) if matches!(ty, Type::String) => None,
        Value::Int(_) if is_number => None,
        Value::Float(number) if is_number && (matches!(ty, Type::Float64) || number.fract() == 0.0) => None,
        Value::Float(_) if is_number => Some(format!("cannot convert float64 to {name}")),
        Value::Int(_) if matches!(ty, Type::String) => {
            Some(format!("cannot convert int64 to {}", if go.is_empty() { name } else { go }))
        }
        _ => Some(format!("unrecognized type: {name}")),
    }
}

/// What is said of a value that reads its own JSON, and so knows nothing of the field that it is in.
pub(super) fn of_leaf(why: &str) -> String {
    if why.starts_with("illegal base64") {
        return format!("error decoding from json: {why}");
    }
    match why
        .split_once("Go struct field ")
        .and_then(|(start, rest)| Some((start, rest.split_once(" of type ")?.1)))
    {
        Some((start, ty)) => format!("{start}Go value of type {ty}"),
        None => why.to_owned(),
    }
}

/// What Go calls the kind of a value that came from JSON.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Bool(_) => "bool",
        Value::Int(_) => "int64",
        Value::Float(_) => "float64",
        Value::List(_) => "slice",
        Value::Map(_) => "map",
        _ => "string",
    }
}

/// Makes numbers as narrow as their fields: what is too large loses its upper bits, as in Go, and is not refused.
pub(super) fn narrow(ty: &Struct, value: &mut Value) {
    let Value::Map(map) = value else { return };
    for field in &ty.fields {
        if let Some(value) = map.get_mut(&field.json) {
            narrow_value(&field.ty, value);
        }
    }
}

fn narrow_value(ty: &Type, value: &mut Value) {
    match (ty, value) {
        (Type::Struct(ty), value) => narrow(ty, value),
        (Type::List(ty), Value::List(items)) => items.iter_mut().for_each(|item| narrow_value(ty, item)),
        (Type::Map(ty), Value::Map(map)) => map.iter_mut().for_each(|(_, value)| narrow_value(ty, value)),
        (Type::Int32, Value::Int(number)) => *number = i64::from(*number as i32),
        (Type::Uint32, Value::Int(number)) => *number = i64::from(*number as u32),
        (Type::Int32 | Type::Int64, value @ Value::Float(_)) => {
            let Value::Float(number) = *value else { return };
            if number.fract() == 0.0 && number.abs() < i64::MAX as f64 {
                *value = Value::Int(number as i64);
                narrow_value(ty, value);
            }
        }
        _ => {}
    }
}
