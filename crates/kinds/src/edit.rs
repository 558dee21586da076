//! Small edits of an object tree that defaults are made of.

use schema::{Object, Value};

/// Sets a field that is absent or empty.
pub(crate) fn text(object: &mut Object, field: &str, value: &str) {
    if object.str_at(&[field]).unwrap_or_default().is_empty() {
        object.set(field, value);
    }
}

/// Sets a text that is absent, not one that is empty.
pub(crate) fn unsaid(object: &mut Object, field: &str, value: &str) {
    if object.get(field).is_none() {
        object.set(field, value);
    }
}

/// Sets a number that is absent.
pub(crate) fn number(object: &mut Object, field: &str, value: i64) {
    if object.get(field).is_none() {
        object.set(field, Value::Int(value));
    }
}

/// Sets a number that is absent or zero.
pub(crate) fn positive(object: &mut Object, field: &str, value: i64) {
    if object.int_at(&[field]).unwrap_or_default() == 0 {
        object.set(field, Value::Int(value));
    }
}

/// Sets a flag that is absent.
pub(crate) fn flag(object: &mut Object, field: &str, value: bool) {
    if object.get(field).is_none() {
        object.set(field, Value::Bool(value));
    }
}

/// Makes sure that a struct field is there, if empty.
pub(crate) fn present(object: &mut Object, field: &str) {
    if object.get(field).is_none() {
        if let Some((_, found)) = object.ty().field(field) {
            if let schema::Type::Struct(ty) = &found.ty {
                let empty = Object::new(ty.clone());
                object.set(field, Value::Struct(empty));
            }
        }
    }
}

/// Every struct of a list.
pub(crate) fn each(object: &mut Object, field: &str, mut edit: impl FnMut(&mut Object)) {
    let items = object.get_mut(field).and_then(Value::as_list_mut);
    items.into_iter().flatten().filter_map(Value::as_struct_mut).for_each(&mut edit);
}

/// A struct that is there.
pub(crate) fn within(object: &mut Object, field: &str, edit: impl FnOnce(&mut Object)) {
    if let Some(inner) = object.get_mut(field).and_then(Value::as_struct_mut) {
        edit(inner);
    }
}

/// A struct, made if it is not there.
pub(crate) fn made(object: &mut Object, field: &str, edit: impl FnOnce(&mut Object)) {
    if let Some(inner) = object.struct_mut(field) {
        edit(inner);
    }
}

/// A text of an object, empty when absent.
pub(crate) fn get<'o>(object: &'o Object, path: &[&str]) -> &'o str {
    object.str_at(path).unwrap_or_default()
}

/// The structs of a list.
pub(crate) fn structs<'o>(object: &'o Object, path: &[&str]) -> impl Iterator<Item = &'o Object> {
    object.list_at(path).unwrap_or_default().iter().filter_map(Value::as_struct)
}

/// Whether two objects say the same: nothing, an empty list and an empty map are one, and so are an absent field and
/// its zero value where Go cannot tell them apart (`apiequality.Semantic.DeepEqual`).
pub(crate) fn same(a: &Object, b: &Object) -> bool {
    a.ty().fields.iter().all(|field| match (a.get(&field.json), b.get(&field.json)) {
        (None, None) => true,
        (Some(a), Some(b)) => same_value(a, b),
        (Some(one), None) | (None, Some(one)) => is_nothing(one, field.pointer),
    })
}

fn same_value(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Struct(a), Value::Struct(b)) => same(a, b),
        (Value::List(a), Value::List(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_value(a, b))
        }
        _ => a == b,
    }
}

fn is_nothing(value: &Value, pointer: bool) -> bool {
    match value {
        Value::List(items) => items.is_empty(),
        Value::Map(entries) => entries.is_empty(),
        _ if pointer => false,
        Value::Str(text) => text.is_empty(),
        Value::Int(number) => *number == 0,
        Value::Bool(flag) => !flag,
        Value::Struct(inner) => same(inner, &Object::new(inner.ty().clone())),
        _ => false,
    }
}
