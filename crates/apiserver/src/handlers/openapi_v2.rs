//! `/openapi/v2`, which clients ask for where version 3 does not help: kubectl wants it before it applies a `List`.
//!
//! Whoever asks for JSON gets every definition. In protobuf the document is one without definitions: a client that
//! finds no definition of a kind leaves the checking to the server, which does it in any case.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderValue, Response, header};
use serde_json::{Value, json};

use crate::body::{self, Body};
use crate::core::Core;
use crate::status::{ApiError, Result};

const TITLE: &str = "Kubernetes";
/// The types by which clients ask for protobuf. The answer has the second: the first, older one is no media type.
const PROTOBUF: [&str; 2] = [
    "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
    "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
];

/// Answers `/openapi/v2`.
///
/// # Errors
/// 500 when a description cannot be read.
pub fn handle(core: &Core, headers: &HeaderMap) -> Result<Response<Body>> {
    let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let [_, name] = PROTOBUF;
    if PROTOBUF.iter().any(|name| accepted.contains(name)) {
        let mut response = Response::new(body::full(document()));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(name));
        return Ok(response);
    }
    let registry = core.registry();
    let mut schemas = BTreeMap::new();
    for (group, versions) in registry.groups() {
        for version in versions {
            for resource in registry.in_version(group, version) {
                schema::openapi::collect(&resource.ty, &mut schemas);
                if let Some(schema) = schemas.get_mut(&resource.ty.name) {
                    super::openapi::mark(schema, resource);
                }
            }
        }
    }
    crate::descriptions::describe(&mut schemas).map_err(ApiError::internal)?;
    let mut definitions = json!(schemas);
    refer(&mut definitions);
    Ok(body::json(&json!({
        "swagger": "2.0", "info": {"title": TITLE, "version": kinds::KUBERNETES_VERSION}, "paths": {}, "definitions": definitions,
    })))
}

/// Version 2 keeps definitions elsewhere.
fn refer(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, value) in map.iter_mut() {
                match value {
                    Value::String(text) if key == "$ref" => {
                        *text = text.replace("#/components/schemas/", "#/definitions/");
                    }
                    other => refer(other),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(refer),
        _ => {}
    }
}

/// A gnostic `openapi.v2.Document`: `swagger` is field 1, `info` field 2 with `title` 1 and `version` 2.
fn document() -> Vec<u8> {
    let info = [field(1, TITLE.as_bytes()), field(2, kinds::KUBERNETES_VERSION.as_bytes())].concat();
    [field(1, b"2.0"), field(2, &info)].concat()
}

/// A field of bytes; all of ours are shorter than 128.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2, bytes.len() as u8];
    out.extend_from_slice(bytes);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_lead_to_definitions_and_the_document_is_a_message() {
        let mut value = json!({"a": [{"$ref": "#/components/schemas/x"}], "b": "#/components/schemas/x"});
        refer(&mut value);
        assert_eq!(value, json!({"a": [{"$ref": "#/definitions/x"}], "b": "#/components/schemas/x"}));
        assert_eq!(document(), b"\x0a\x032.0\x12\x15\x0a\x0aKubernetes\x12\x07v1.37.0");
    }
}
