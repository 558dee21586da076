//! The defaults that types name.

use crate::json::{decode_custom, decode_value};
use crate::object::Object;
use crate::value::Value;

/// Fills in defaults, deeply. A null that the schema does not allow counts as absent where there
/// is a default.
pub fn apply_defaults(o: &mut Object) {
    let ty = o.ty().clone();
    for (index, field) in ty.fields.iter().enumerate() {
        let index = index as u16;
        if let Some(text) = &field.default {
            let absent = match o.get_index(index) {
                None => true,
                Some(Value::Null) => !field.nullable,
                Some(_) => false,
            };
            let decode = if ty.custom { decode_custom } else { decode_value };
            if absent && let Ok(Some(value)) = decode(&field.ty, text.as_bytes()) {
                o.put_index(index, value);
            }
        }
        if let Some(value) = o.get_index_mut(index) {
            descend(value);
        }
    }
}

fn descend(value: &mut Value) {
    match value {
        Value::Struct(o) => apply_defaults(o),
        Value::List(items) => items.iter_mut().for_each(descend),
        Value::Map(map) => map.iter_mut().for_each(|(_, value)| descend(value)),
        _ => {}
    }
}
