//! What is served: `/api`, `/apis` and below, each as legacy documents and aggregated (KEP-3352).

use http::header::{ACCEPT, ETAG, IF_NONE_MATCH, VARY};
use http::request::Parts;
use http::{HeaderValue, Response};
use serde_json::{Value, json};

use crate::body::{self, Body};
use crate::core::Core;
use crate::negotiate;
use crate::registry::{Registry, Resource, Sub, api_version};
use crate::status::{ApiError, Result};

/// Answers `/api`, `/apis`, `/api/v1`, `/apis/GROUP` and `/apis/GROUP/VERSION`.
///
/// # Errors
/// 404 for what is not served.
pub fn handle(core: &Core, path: &str, parts: &Parts) -> Result<Response<Body>> {
    let registry = core.registry();
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let accept = parts.headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let document = match segments.as_slice() {
        ["api"] => match aggregated(accept) {
            Some(version) => {
                return with_etag(aggregate(&registry, true, version), &registry, parts, version);
            }
            None => json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}),
        },
        ["apis"] => match aggregated(accept) {
            Some(version) => {
                return with_etag(aggregate(&registry, false, version), &registry, parts, version);
            }
            None => {
                let groups: Vec<Value> = named_groups(&registry).map(|(name, v)| group(name, v)).collect();
                json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
            }
        },
        ["apis", name] => {
            let (name, versions) = named_groups(&registry)
                .find(|(known, _)| known == name)
                .ok_or_else(ApiError::no_such_path)?;
            let mut document = group(name, versions);
            set(&mut document, "kind", json!("APIGroup"));
            set(&mut document, "apiVersion", json!("v1"));
            document
        }
        ["api", version] => resource_list(&registry, "", version)?,
        ["apis", group, version] => resource_list(&registry, group, version)?,
        _ => return Err(ApiError::no_such_path()),
    };
    answer(&document, parts)
}

/// Legacy documents can be had in protobuf, too: old clients ask for nothing else.
fn answer(document: &Value, parts: &Parts) -> Result<Response<Body>> {
    let output = negotiate::accept(&parts.headers, false)?;
    if output.encoding == negotiate::Encoding::Protobuf {
        let kind = document.get("kind").and_then(Value::as_str).unwrap_or_default();
        if let Some(found) = schema::catalogue::builtin().kind("", "v1", kind) {
            let decoded = schema::json::decode(&found.ty, document.to_string().as_bytes())
                .map_err(ApiError::internal)?;
            let raw = schema::protobuf::encode(&decoded.object);
            let bytes = schema::protobuf::wrap("v1", kind, &raw);
            return Ok(body::respond(200, output.encoding.media_type(), bytes));
        }
    }
    Ok(body::json(document))
}

fn named_groups(registry: &Registry) -> impl Iterator<Item = (&String, &Vec<String>)> {
    registry.groups().iter().filter(|(name, _)| !name.is_empty()).map(|(name, versions)| (name, versions))
}

fn set(document: &mut Value, key: &str, value: Value) {
    if let Some(map) = document.as_object_mut() {
        map.insert(key.to_owned(), value);
    }
}

fn group(name: &str, versions: &[String]) -> Value {
    let versions: Vec<Value> = versions
        .iter()
        .map(|version| json!({"groupVersion": api_version(name, version), "version": version}))
        .collect();
    json!({"name": name, "versions": versions, "preferredVersion": versions.first()})
}

fn resource_list(registry: &Registry, group: &str, version: &str) -> Result<Value> {
    let mut resources = Vec::new();
    for resource in registry.in_version(group, version) {
        resources.push(legacy(resource));
        resources.extend(resource.subresources.iter().map(|sub| legacy_sub(resource, sub)));
    }
    if resources.is_empty() {
        return Err(ApiError::no_such_path());
    }
    Ok(json!({
        "kind": "APIResourceList", "apiVersion": "v1",
        "groupVersion": api_version(group, version), "resources": resources,
    }))
}

fn legacy(resource: &Resource) -> Value {
    let mut document = json!({
        "name": resource.plural, "singularName": resource.singular, "namespaced": resource.namespaced,
        "kind": resource.kind, "verbs": resource.verbs,
    });
    if !resource.short_names.is_empty() {
        set(&mut document, "shortNames", json!(resource.short_names));
    }
    if !resource.categories.is_empty() {
        set(&mut document, "categories", json!(resource.categories));
    }
    document
}

fn legacy_sub(resource: &Resource, sub: &Sub) -> Value {
    let mut document = json!({
        "name": format!("{}/{}", resource.plural, sub.name), "singularName": "",
        "namespaced": resource.namespaced, "kind": sub.gvk.2, "verbs": sub.verbs,
    });
    if (sub.gvk.0.as_str(), sub.gvk.1.as_str()) != (resource.group.as_str(), resource.version.as_str()) {
        set(&mut document, "group", json!(sub.gvk.0));
        set(&mut document, "version", json!(sub.gvk.1));
    }
    document
}

/// The version of `apidiscovery.k8s.io` that a client asks for.
fn aggregated(accept: &str) -> Option<&'static str> {
    accept.split(',').find_map(|clause| {
        let wants = |text: &str| clause.split(';').any(|part| part.trim() == text);
        let json = clause.trim().starts_with("application/json");
        if !json || !wants("as=APIGroupDiscoveryList") || !wants("g=apidiscovery.k8s.io") {
            return None;
        }
        ["v2", "v2beta1"].into_iter().find(|version| wants(&format!("v={version}")))
    })
}

fn aggregate(registry: &Registry, core_only: bool, version: &str) -> Value {
    let groups = registry.groups().iter().filter(|(name, _)| name.is_empty() == core_only);
    let items: Vec<Value> = groups
        .map(|(name, versions)| {
            let versions: Vec<Value> = versions
                .iter()
                .map(|version| {
                    let resources: Vec<Value> =
                        registry.in_version(name, version).map(|r| aggregated_resource(r)).collect();
                    json!({"version": version, "resources": resources, "freshness": "Current"})
                })
                .collect();
            let metadata = if name.is_empty() { json!({}) } else { json!({"name": name}) };
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {}, "items": items,
    })
}

fn aggregated_resource(resource: &Resource) -> Value {
    let scope = if resource.namespaced { "Namespaced" } else { "Cluster" };
    let kind =
        |group: &str, version: &str, kind: &str| json!({"group": group, "version": version, "kind": kind});
    let mut document = json!({
        "resource": resource.plural, "responseKind": kind(&resource.group, &resource.version, &resource.kind),
        "scope": scope, "singularResource": resource.singular, "verbs": resource.verbs,
    });
    if !resource.short_names.is_empty() {
        set(&mut document, "shortNames", json!(resource.short_names));
    }
    if !resource.categories.is_empty() {
        set(&mut document, "categories", json!(resource.categories));
    }
    let subs: Vec<Value> = resource
        .subresources
        .iter()
        .map(|sub| {
            let (group, version, name) = &sub.gvk;
            json!({"subresource": sub.name, "responseKind": kind(group, version, name), "verbs": sub.verbs})
        })
        .collect();
    if !subs.is_empty() {
        set(&mut document, "subresources", Value::Array(subs));
    }
    document
}

fn with_etag(document: Value, registry: &Registry, parts: &Parts, version: &str) -> Result<Response<Body>> {
    use sha2::Digest;
    let text = document.to_string();
    let digest = sha2::Sha512::digest(text.as_bytes());
    let hex: String = digest.iter().take(32).map(|byte| format!("{byte:02X}")).collect();
    let etag = format!("\"{hex}\"");
    let _ = registry;
    let unchanged = parts.headers.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok()) == Some(&etag);
    let media_type = format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList");
    let mut response = match unchanged {
        true => body::respond(304, &media_type, Vec::new()),
        false => body::respond(200, &media_type, text),
    };
    if let Ok(value) = HeaderValue::from_str(&etag) {
        response.headers_mut().insert(ETAG, value);
    }
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    Ok(response)
}
