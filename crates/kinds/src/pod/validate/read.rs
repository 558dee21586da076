//! Short readers of an object tree for rules that look at many fields.

use schema::quantity::Quantity;
use schema::{Object, Value};

/// A text, empty when absent.
pub(crate) fn text<'o>(object: &'o Object, field: &str) -> &'o str {
    object.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// A text that may be absent.
pub(crate) fn maybe<'o>(object: &'o Object, field: &str) -> Option<&'o str> {
    object.get(field).and_then(Value::as_str)
}

/// A struct.
pub(crate) fn sub<'o>(object: &'o Object, field: &str) -> Option<&'o Object> {
    object.get(field).and_then(Value::as_struct)
}

/// A number.
pub(crate) fn int(object: &Object, field: &str) -> Option<i64> {
    object.get(field).and_then(Value::as_int)
}

/// A flag that may be absent.
pub(crate) fn flag(object: &Object, field: &str) -> Option<bool> {
    object.get(field).and_then(Value::as_bool)
}

/// Whether a flag is there and true.
pub(crate) fn is_true(object: &Object, field: &str) -> bool {
    flag(object, field) == Some(true)
}

/// Whether a field is set.
pub(crate) fn has(object: &Object, field: &str) -> bool {
    object.get(field).is_some()
}

/// A list, empty when absent.
pub(crate) fn list<'o>(object: &'o Object, field: &str) -> &'o [Value] {
    object.get(field).and_then(Value::as_list).unwrap_or_default()
}

/// The structs of a list.
pub(crate) fn items<'o>(object: &'o Object, field: &str) -> impl Iterator<Item = &'o Object> + use<'o> {
    list(object, field).iter().filter_map(Value::as_struct)
}

/// The texts of a list.
pub(crate) fn texts<'o>(object: &'o Object, field: &str) -> impl Iterator<Item = &'o str> + use<'o> {
    list(object, field).iter().filter_map(Value::as_str)
}

/// The entries of a map of texts, by key.
pub(crate) fn entries<'o>(
    object: &'o Object,
    field: &str,
) -> impl Iterator<Item = (&'o str, &'o str)> + use<'o> {
    object.get(field).and_then(Value::as_map).into_iter().flat_map(schema::Map::strings)
}

/// The amounts of a resource list, by name.
pub(crate) fn amounts<'o>(
    object: &'o Object,
    field: &str,
) -> impl Iterator<Item = (&'o str, Quantity)> + use<'o> {
    entries(object, field).filter_map(|(name, text)| Some((name, text.parse().ok()?)))
}

/// One amount of a resource list.
pub(crate) fn amount(object: &Object, field: &str, name: &str) -> Option<Quantity> {
    object.get(field)?.child(name)?.as_str()?.parse().ok()
}

/// The lists of containers, in the order in which rules visit them.
pub(crate) const CONTAINER_LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// Every container with its list and its place there.
pub(crate) fn containers(spec: &Object) -> impl Iterator<Item = (&'static str, usize, &Object)> {
    CONTAINER_LISTS
        .into_iter()
        .flat_map(move |field| items(spec, field).enumerate().map(move |(index, c)| (field, index, c)))
}
