//! JSON patch, merge patch and strategic merge patch, on an object's untyped tree.
//!
//! Each applies the patch to what JSON would show of the object, and decodes the result: so
//! unknown and duplicate fields are found just as in a body.

mod document;
mod json_ops;
mod merge;
mod order;
mod restore;
mod slots;
mod strategic;

use crate::json::{self, Decoded};
use crate::types::Type;
use crate::{DecodeError, Object, Value};

/// Why a patch was not applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatchError {
    /// The patch itself is malformed: 400.
    #[error("{0}")]
    Malformed(String),
    /// A `test` operation did not hold: 422. Holds the operation's path.
    #[error("testing value {0} failed: test failed")]
    TestFailed(String),
    /// The patch does not fit the object: 422.
    #[error("{0}")]
    Unprocessable(String),
    /// More operations than are allowed: 413.
    #[error("The allowed maximum operations in a JSON patch is {allowed}, got {got}")]
    TooManyOperations { allowed: usize, got: usize },
    /// A strategic merge that cannot be done; upstream answers 500.
    #[error("{0}")]
    Merge(String),
    /// The patched document is not an object of the kind.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// RFC 6902, as evanphx/json-patch v4 reads it.
pub fn json_patch(o: &Object, patch: &[u8]) -> Result<Decoded, PatchError> {
    let (tree, strict) = by_operations(o, patch)?;
    finish(o, &tree, strict)
}

/// RFC 7386.
pub fn merge_patch(o: &Object, patch: &[u8]) -> Result<Decoded, PatchError> {
    let (tree, strict) = by_merging(o, patch)?;
    finish(o, &tree, strict)
}

/// The text of what [`json_patch`] or [`merge_patch`] (if `merges`) makes of an object, whether or not it is one.
///
/// # Errors
/// As they.
pub fn patched_text(o: &Object, patch: &[u8], merges: bool) -> Result<String, PatchError> {
    let (tree, _) = if merges { by_merging(o, patch) } else { by_operations(o, patch) }?;
    Ok(document::write(o, &tree, merges))
}

fn by_operations(o: &Object, patch: &[u8]) -> Result<(Value, Vec<String>), PatchError> {
    let (operations, strict) = json_ops::parse(patch)?;
    let mut tree = untyped(o)?;
    for operation in operations {
        json_ops::apply(&mut tree, operation)?;
    }
    Ok((tree, strict))
}

fn by_merging(o: &Object, patch: &[u8]) -> Result<(Value, Vec<String>), PatchError> {
    let (patch, strict) =
        parse_map(patch).map_err(|e| PatchError::Malformed(format!("error decoding patch: {e}")))?;
    let Value::Map(patch) = patch.unwrap_or(Value::Null) else {
        return Err(PatchError::Malformed("Invalid JSON Patch".into()));
    };
    let mut tree = untyped(o)?;
    merge::merge(&mut tree, patch);
    Ok((tree, strict))
}

/// A strategic merge patch, with its directives.
pub fn strategic_merge(o: &Object, patch: &[u8]) -> Result<Decoded, PatchError> {
    let (patch, strict) = parse_map(patch).map_err(|e| PatchError::Malformed(e.to_string()))?;
    // Null is an empty one.
    let Value::Map(patch) = patch.unwrap_or(Value::Map(crate::Map::new())) else {
        return Err(PatchError::Malformed("invalid JSON document".into()));
    };
    let Value::Map(tree) = untyped(o)? else {
        return Err(PatchError::Malformed("invalid JSON document".into()));
    };
    let merged = strategic::merge_map(tree, patch, &strategic::Shape::of_struct(o.ty()))?;
    let mut merged = Value::Map(merged);
    restore::narrow(o.ty(), &mut merged);
    finish(o, &merged, strict).map_err(|error| match error {
        PatchError::Decode(DecodeError::Type(why)) => {
            let told = restore::complaint(o.ty(), &merged).unwrap_or_else(|| restore::of_leaf(&why));
            PatchError::Decode(DecodeError::Type(told))
        }
        other => other,
    })
}

fn untyped(o: &Object) -> Result<Value, PatchError> {
    let json = json::encode(o);
    Ok(json::decode_value(&Type::Any, &json)?.unwrap_or(Value::Null))
}

/// A JSON object as an untyped tree, and its duplicate fields; `None` for null.
fn parse_map(text: &[u8]) -> Result<(Option<Value>, Vec<String>), DecodeError> {
    json::decode_strict(&Type::Map(Box::new(Type::Any)), text)
}

fn finish(o: &Object, tree: &Value, mut strict: Vec<String>) -> Result<Decoded, PatchError> {
    let mut out = Vec::with_capacity(1024);
    json::encode_value(&Type::Any, tree, &mut out);
    let mut decoded = json::decode(o.ty(), &out)?;
    strict.append(&mut decoded.strict);
    decoded.strict = strict;
    Ok(decoded)
}

/// A value as Go's `%v` prints it.
fn go_text(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::Bool(b) => b.to_string(),
        Value::Int(i) => i.to_string(),
        Value::Float(f) => f.to_string(),
        Value::Str(s) => s.clone(),
        Value::List(items) => {
            let items: Vec<String> = items.iter().map(go_text).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Map(map) => go_map_text(map),
        other => format!("{other:?}"),
    }
}

fn go_map_text(map: &crate::Map) -> String {
    let entries: Vec<String> = map.iter().map(|(k, v)| format!("{k}:{}", go_text(v))).collect();
    format!("map[{}]", entries.join(" "))
}

#[cfg(test)]
mod tests;
