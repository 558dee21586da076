//! From a schema to types.

use super::object_meta;
use super::props::Props;
use crate::types::{Field, ListType, Struct, Type};

pub(super) fn check_root(props: &Props, errors: &mut Vec<String>) {
    match props.type_.as_str() {
        "object" => {}
        "" => errors.push("openAPIV3Schema.type: Required value: must not be empty at the root".to_owned()),
        other => {
            errors.push(format!("openAPIV3Schema.type: Invalid value: {other:?}: must be object at the root"))
        }
    }
}

/// The type of the resource itself.
pub(super) fn root(props: &Props, group: &str, version: &str, kind: &str) -> Struct {
    let name = model_name(group, version, kind);
    let mut made = structure(props, &name, true);
    made.kinds = vec![(group.to_owned(), version.to_owned(), kind.to_owned())];
    made.validation = Some(props.validation.clone());
    made
}

/// `com.example.v1.Foo` for a kind of `example.com`.
fn model_name(group: &str, version: &str, kind: &str) -> String {
    let mut parts: Vec<&str> = group.split('.').collect();
    parts.reverse();
    parts.extend([version, kind]);
    parts.join(".")
}

fn structure(props: &Props, name: &str, resource: bool) -> Struct {
    let mut fields: Vec<Field> = Vec::new();
    for (key, child) in &props.properties {
        if resource && matches!(key.as_str(), "apiVersion" | "kind" | "metadata") {
            continue;
        }
        let required = props.required.contains(key);
        fields.push(field(key, child, &format!("{name}.{key}"), required));
    }
    if resource {
        for (key, ty) in
            [("apiVersion", Type::String), ("kind", Type::String), ("metadata", Type::Struct(object_meta()))]
        {
            let mut field = Field::new(key, ty);
            field.pointer = true;
            fields.push(field);
        }
    }
    fields.sort_by(|a, b| a.json.cmp(&b.json));
    let mut made = Struct::new(name, fields);
    made.custom = true;
    made.preserve_unknown = props.preserve_unknown || props.additional_any;
    made.atomic = props.map_atomic;
    made
}

fn field(key: &str, props: &Props, name: &str, required: bool) -> Field {
    let mut field = Field::new(key, type_of(props, name));
    field.pointer = true;
    field.required = required;
    field.list = match &props.list {
        // Without a word, a list of a custom resource is atomic, too.
        ListType::None => ListType::Atomic,
        other => other.clone(),
    };
    field.map_atomic = props.map_atomic;
    field.struct_atomic = props.map_atomic;
    field.default = props.default.as_deref().map(Into::into);
    field.nullable = props.nullable;
    field.validation = Some(props.validation.clone());
    field.enum_values = props.enum_values.iter().filter_map(|v| v.as_str().map(Into::into)).collect();
    field
}

fn type_of(props: &Props, name: &str) -> Type {
    if props.int_or_string {
        return Type::IntOrString;
    }
    match props.type_.as_str() {
        "string" => Type::String,
        "integer" => Type::Int64,
        "number" => Type::Float64,
        "boolean" => Type::Bool,
        "array" => Type::List(Box::new(match &props.items {
            Some(items) => type_of(items, name),
            None => Type::Any,
        })),
        "object" => object(props, name),
        _ => Type::Any,
    }
}

fn object(props: &Props, name: &str) -> Type {
    if props.embedded {
        return Type::Struct(structure(props, name, true).into());
    }
    if let Some(additional) = props.additional.as_ref().filter(|_| props.properties.is_empty()) {
        return Type::Map(Box::new(type_of(additional, name)));
    }
    if props.properties.is_empty() && (props.preserve_unknown || props.additional_any) {
        return Type::Any;
    }
    Type::Struct(structure(props, name, false).into())
}
