//! OpenAPI v3 schemas from types. Descriptions are not among the catalogue's facts and are left
//! out.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::types::{Field, ListType, Struct, StructRef, Type};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// Adds the schema of a type, and of all that it refers to, by name.
pub fn collect(ty: &StructRef, schemas: &mut BTreeMap<String, Value>) {
    if schemas.contains_key(&ty.name) {
        return;
    }
    // Taken now, so that a type that refers to itself ends here.
    schemas.insert(ty.name.clone(), Value::Null);
    let schema = structure(ty, schemas);
    schemas.insert(ty.name.clone(), schema);
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn structure(ty: &Struct, schemas: &mut BTreeMap<String, Value>) -> Value {
    let mut schema = Map::new();
    if ty.form != crate::types::Form::Object {
        return Value::Object(schema);
    }
    schema.insert("type".into(), "object".into());
    let mut properties = Map::new();
    let mut required = Vec::new();
    for field in &ty.fields {
        properties.insert(field.json.to_string(), property(ty, field, schemas));
        if field.required {
            required.push(Value::from(&*field.json));
        }
    }
    if !properties.is_empty() {
        schema.insert("properties".into(), Value::Object(properties));
    }
    if !required.is_empty() {
        schema.insert("required".into(), Value::Array(required));
    }
    if ty.preserve_unknown {
        schema.insert("x-kubernetes-preserve-unknown-fields".into(), true.into());
    }
    if ty.atomic {
        schema.insert("x-kubernetes-map-type".into(), "atomic".into());
    }
    if !ty.kinds.is_empty() {
        let kinds = ty
            .kinds
            .iter()
            .map(|(group, version, kind)| json!({"group": group, "version": version, "kind": kind}));
        let kinds = kinds.collect::<Vec<_>>();
        schema.insert("x-kubernetes-group-version-kind".into(), kinds.into());
    }
    Value::Object(schema)
}

fn property(owner: &Struct, field: &Field, schemas: &mut BTreeMap<String, Value>) -> Value {
    let mut schema = type_schema(&field.ty, schemas);
    let is_struct = matches!(field.ty, Type::Struct(_));
    let default = match &field.default {
        Some(text) => serde_json::from_str(text).ok(),
        None if owner.custom || field.pointer => None,
        None if is_struct || is_message(&field.ty) => Some(json!({})),
        None if field.required => zero(&field.ty),
        None => None,
    };
    if default.is_some() {
        wrap_reference(&mut schema);
    }
    let Some(map) = schema.as_object_mut() else {
        return schema;
    };
    if let Some(default) = default {
        map.insert("default".into(), default);
    }
    if !field.enum_values.is_empty() {
        let values = field.enum_values.iter().map(|v| Value::from(&**v));
        let values: Value = values.collect::<Vec<_>>().into();
        match map.get_mut("items").and_then(Value::as_object_mut) {
            Some(items) => items.insert("enum".into(), values),
            None => map.insert("enum".into(), values),
        };
    }
    if field.nullable {
        map.insert("nullable".into(), true.into());
    }
    merge_hints(field, map);
    schema
}

/// How lists and maps are merged and patched.
fn merge_hints(field: &Field, map: &mut Map<String, Value>) {
    match &field.list {
        ListType::None => {}
        ListType::Atomic if matches!(field.ty, Type::List(_)) => {
            map.insert("x-kubernetes-list-type".into(), "atomic".into());
        }
        ListType::Atomic => {}
        ListType::Set => {
            map.insert("x-kubernetes-list-type".into(), "set".into());
        }
        ListType::Map(keys) => {
            let keys: Vec<Value> = keys.iter().map(|k| Value::from(&**k)).collect();
            map.insert("x-kubernetes-list-type".into(), "map".into());
            map.insert("x-kubernetes-list-map-keys".into(), keys.into());
        }
    }
    if field.map_atomic || field.struct_atomic {
        map.insert("x-kubernetes-map-type".into(), "atomic".into());
    }
    for (name, value) in [
        ("x-kubernetes-patch-strategy", &field.patch_strategy),
        ("x-kubernetes-patch-merge-key", &field.patch_merge_key),
    ] {
        if !value.is_empty() {
            map.insert(name.into(), Value::from(&**value));
        }
    }
}

/// A reference with a default beside it must stand in an `allOf`.
fn wrap_reference(schema: &mut Value) {
    if schema.get("$ref").is_some() {
        *schema = json!({"allOf": [schema.take()]});
    }
}

/// Types that are Go structs, but no structs of the catalogue.
fn is_message(ty: &Type) -> bool {
    matches!(ty, Type::Time | Type::MicroTime | Type::Quantity | Type::IntOrString)
}

fn zero(ty: &Type) -> Option<Value> {
    Some(match ty {
        Type::Bool => false.into(),
        Type::Int32 | Type::Int64 | Type::Uint32 | Type::Uint64 | Type::Float64 => 0.into(),
        Type::String => "".into(),
        _ => return None,
    })
}

fn named(name: &str, schema: Value, schemas: &mut BTreeMap<String, Value>) -> Value {
    schemas.entry(name.to_owned()).or_insert(schema);
    reference(name)
}

fn type_schema(ty: &Type, schemas: &mut BTreeMap<String, Value>) -> Value {
    let date = json!({"type": "string", "format": "date-time"});
    match ty {
        Type::Bool => json!({"type": "boolean"}),
        Type::Int32 | Type::Uint32 => json!({"type": "integer", "format": "int32"}),
        Type::Int64 | Type::Uint64 => json!({"type": "integer", "format": "int64"}),
        Type::Float64 => json!({"type": "number", "format": "double"}),
        Type::String => json!({"type": "string"}),
        Type::Bytes => json!({"type": "string", "format": "byte"}),
        Type::Time => named(&format!("{META}.Time"), date, schemas),
        Type::MicroTime => named(&format!("{META}.MicroTime"), date, schemas),
        Type::Duration => named(&format!("{META}.Duration"), json!({"type": "string"}), schemas),
        Type::IntOrString => named(
            "io.k8s.apimachinery.pkg.util.intstr.IntOrString",
            json!({"oneOf": [{"type": "integer"}, {"type": "string"}], "format": "int-or-string"}),
            schemas,
        ),
        Type::Quantity => named(
            "io.k8s.apimachinery.pkg.api.resource.Quantity",
            json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
            schemas,
        ),
        Type::Raw => {
            named("io.k8s.apimachinery.pkg.runtime.RawExtension", json!({"type": "object"}), schemas)
        }
        Type::FieldsV1 => named(&format!("{META}.FieldsV1"), json!({"type": "object"}), schemas),
        Type::Any => json!({"x-kubernetes-preserve-unknown-fields": true}),
        // A custom resource's inner types have no names of their own.
        Type::Struct(ty) if ty.custom => structure(ty, schemas),
        Type::Struct(ty) => {
            collect(ty, schemas);
            reference(&ty.name)
        }
        Type::List(item) => json!({"type": "array", "items": item_schema(item, schemas)}),
        Type::Map(item) => {
            json!({"type": "object", "additionalProperties": item_schema(item, schemas)})
        }
    }
}

fn item_schema(item: &Type, schemas: &mut BTreeMap<String, Value>) -> Value {
    let mut schema = type_schema(item, schemas);
    let default = match item {
        Type::Struct(ty) if !ty.custom => Some(json!({})),
        ty => zero(ty),
    };
    if let Some(default) = default {
        wrap_reference(&mut schema);
        if let Some(map) = schema.as_object_mut() {
            map.insert("default".into(), default);
        }
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builtin;

    #[test]
    fn every_reference_is_answered() {
        let mut schemas = BTreeMap::new();
        for kind in builtin().kinds() {
            collect(&kind.ty, &mut schemas);
        }
        let text = serde_json::to_string(&schemas).unwrap();
        for part in text.split("#/components/schemas/").skip(1) {
            let name = part.split('"').next().unwrap();
            assert!(schemas.contains_key(name), "{name}");
        }
        let pod = &schemas["io.k8s.api.core.v1.Pod"];
        assert_eq!(pod["x-kubernetes-group-version-kind"][0]["kind"], "Pod");
        let port = &schemas["io.k8s.api.core.v1.ServicePort"];
        assert_eq!(port["required"], json!(["port"]));
        assert_eq!(port["properties"]["protocol"]["default"], "TCP");
        assert_eq!(port["properties"]["protocol"]["enum"], json!(["SCTP", "TCP", "UDP"]));
        let containers = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
        assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
        assert_eq!(containers["x-kubernetes-list-map-keys"], json!(["name"]));
    }
}
