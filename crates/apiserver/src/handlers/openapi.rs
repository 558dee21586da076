//! `/openapi/v3`: an index, and a document for each group and version, made of the catalogue when asked for.

use std::collections::BTreeMap;

use http::Response;
use serde_json::{Map, Value, json};

use crate::body::{self, Body};
use crate::core::Core;
use crate::registry::{Resource, api_version};
use crate::status::{ApiError, Result};

/// Answers `/openapi/v3` and what lies below.
///
/// # Errors
/// 404 for a version that is not served.
pub fn handle(core: &Core, path: &str) -> Result<Response<Body>> {
    let registry = core.registry();
    let rest = path.strip_prefix("/openapi/v3").unwrap_or_default().trim_matches('/');
    if rest.is_empty() {
        let mut paths = Map::new();
        for (group, versions) in registry.groups() {
            for version in versions {
                let path = group_path(group, version);
                let url = format!("/openapi/v3/{path}?hash={}", registry.generation);
                paths.insert(path, json!({"serverRelativeURL": url}));
            }
        }
        return Ok(body::json(&json!({"paths": paths})));
    }
    let (group, version) = match rest.split('/').collect::<Vec<_>>().as_slice() {
        ["api", version] => (String::new(), (*version).to_owned()),
        ["apis", group, version] => ((*group).to_owned(), (*version).to_owned()),
        _ => return Err(ApiError::no_such_path()),
    };
    let resources: Vec<_> = registry.in_version(&group, &version).cloned().collect();
    if resources.is_empty() {
        return Err(ApiError::no_such_path());
    }
    let mut schemas = BTreeMap::new();
    for resource in &resources {
        schema::openapi::collect(&resource.ty, &mut schemas);
        let name = resource.ty.name.clone();
        if let Some(schema) = schemas.get_mut(&name) {
            mark(schema, resource);
        }
    }
    crate::descriptions::describe(&mut schemas).map_err(ApiError::internal)?;
    let mut paths = Map::new();
    for resource in &resources {
        add_paths(resource, &mut paths);
    }
    Ok(body::json(&json!({
        "openapi": "3.0.0", "info": {"title": "Kubernetes", "version": kinds::KUBERNETES_VERSION},
        "paths": paths, "components": {"schemas": schemas},
    })))
}

fn group_path(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

/// Says which kind a schema is, which `kubectl explain` looks for.
pub(super) fn mark(schema: &mut Value, resource: &Resource) {
    if let Some(map) = schema.as_object_mut() {
        let gvk = json!([{"group": resource.group, "version": resource.version, "kind": resource.kind}]);
        map.insert("x-kubernetes-group-version-kind".to_owned(), gvk);
    }
}

/// The operations that clients look for: those that name the kind, and what they accept.
fn add_paths(resource: &Resource, paths: &mut Map<String, Value>) {
    let root = match resource.group.is_empty() {
        true => format!("/api/{}", resource.version),
        false => format!("/apis/{}", api_version(&resource.group, &resource.version)),
    };
    let scope = if resource.namespaced { "/namespaces/{namespace}" } else { "" };
    let collection = format!("{root}{scope}/{}", resource.plural);
    let gvk = json!({"group": resource.group, "version": resource.version, "kind": resource.kind});
    let reference = json!({"$ref": format!("#/components/schemas/{}", resource.ty.name)});
    let operation = |action: &str, body: Option<&str>| {
        let mut operation = json!({
            "x-kubernetes-action": action, "x-kubernetes-group-version-kind": gvk,
            "parameters": [
                {"name": "dryRun", "in": "query", "schema": {"type": "string"}},
                {"name": "fieldManager", "in": "query", "schema": {"type": "string"}},
                {"name": "fieldValidation", "in": "query", "schema": {"type": "string"}},
            ],
            "responses": {"200": {"description": "OK", "content": {"application/json": {"schema": reference}}}},
        });
        if let (Some(media_type), Some(map)) = (body, operation.as_object_mut()) {
            let content = json!({"content": {media_type: {"schema": reference}}});
            map.insert("requestBody".to_owned(), content);
        }
        operation
    };
    let mut on_collection = Map::new();
    let mut on_object = Map::new();
    for verb in &resource.verbs {
        match verb.as_str() {
            "create" => on_collection.insert("post".to_owned(), operation("post", Some("*/*"))),
            "list" => on_collection.insert("get".to_owned(), operation("list", None)),
            "get" => on_object.insert("get".to_owned(), operation("get", None)),
            "update" => on_object.insert("put".to_owned(), operation("put", Some("*/*"))),
            "patch" => {
                on_object.insert("patch".to_owned(), operation("patch", Some("application/merge-patch+json")))
            }
            "delete" => on_object.insert("delete".to_owned(), operation("delete", None)),
            _ => None,
        };
    }
    paths.insert(format!("{collection}/{{name}}"), Value::Object(on_object));
    paths.insert(collection, Value::Object(on_collection));
}
