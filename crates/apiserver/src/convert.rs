//! From one version of a kind to another.
//!
//! Most versions of a built-in kind have the same fields, and a custom resource without a conversion webhook has by
//! definition: there, converting is renaming. Those that differ are told apart here.

use schema::types::StructRef;
use schema::{Object, Value};

use crate::status::{ApiError, Result};

/// The object in another version.
///
/// # Errors
/// 500 when its fields cannot be read as the other type.
pub fn convert(object: Object, api_version: &str, kind: &str, ty: &StructRef) -> Result<Object> {
    if object.ty() == ty {
        return Ok(object);
    }
    let from = object.api_version().to_owned();
    let mut converted = match (kind, from.as_str(), api_version) {
        ("Event", "events.k8s.io/v1", "v1") => rename(object, ty, &EVENT, false)?,
        ("Event", "v1", "events.k8s.io/v1") => rename(object, ty, &EVENT, true)?,
        _ => retype(&object, ty)?,
    };
    converted.set("apiVersion", api_version);
    converted.set("kind", kind);
    Ok(converted)
}

/// Fields of an Event that have another name in `events.k8s.io/v1`: core first.
const EVENT: [(&str, &str); 6] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

/// More of them, whose names on the core side are the longer ones.
const EVENT_REPORTER: [(&str, &str); 2] =
    [("reportingComponent", "reportingController"), ("reportingInstance", "reportingInstance")];

fn rename(object: Object, ty: &StructRef, names: &[(&str, &str)], forward: bool) -> Result<Object> {
    let mut out = Object::new(ty.clone());
    for (field, value) in object.fields() {
        let json: &str = &field.json;
        let renamed = names
            .iter()
            .chain(&EVENT_REPORTER)
            .find_map(|&(core, other)| match forward {
                true if core == json => Some(other),
                false if other == json => Some(core),
                _ => None,
            })
            .unwrap_or(json);
        if !out.set(renamed, value.clone()) {
            return Err(ApiError::internal(format!("no field {renamed} in {}", ty.name)));
        }
    }
    Ok(out)
}

fn retype(object: &Object, ty: &StructRef) -> Result<Object> {
    let json = schema::json::encode(object);
    let decoded = schema::json::decode(ty, &json).map_err(|error| {
        ApiError::internal(format!("{} cannot be read as {}: {error}", object.kind(), ty.name))
    })?;
    Ok(decoded.object)
}

/// Whether a value is there and not empty.
pub fn is_set(value: Option<&Value>) -> bool {
    value.is_some_and(|value| !value.is_zero())
}
