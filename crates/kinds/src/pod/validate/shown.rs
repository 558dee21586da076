//! Whole structs as upstream shows them in an error: JSON of its internal types, whose fields have their Go names
//! and are all written, nil or not.

use schema::types::{Field, Type};
use schema::{Object, Value};

use super::internal::{self, Place};
use super::read::{maybe, text};

/// JSON as it goes over the wire.
pub(crate) fn json(object: &Object) -> String {
    String::from_utf8_lossy(&schema::json::encode(object)).into_owned()
}

/// A text or `null`.
fn optional(text: Option<&str>) -> String {
    text.map_or_else(|| "null".to_owned(), |text| format!("{text:?}"))
}

/// An entry of `resourceClaims`.
pub(super) fn resource_claim(claim: &Object) -> String {
    format!(
        "{{\"Name\":{:?},\"ResourceClaimName\":{},\"ResourceClaimTemplateName\":{}}}",
        text(claim, "name"),
        optional(maybe(claim, "resourceClaimName")),
        optional(maybe(claim, "resourceClaimTemplateName")),
    )
}

/// A projected `clusterTrustBundle`.
pub(super) fn trust_bundle(bundle: &Object) -> String {
    internal(bundle)
}

/// A struct with its Go names; those of the metadata packages, which are served as they are, keep their JSON ones.
pub(crate) fn internal(object: &Object) -> String {
    format!("{{{}}}", fields(object).join(","))
}

fn fields(object: &Object) -> Vec<String> {
    fields_of(object, |_| true)
}

fn fields_of(object: &Object, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let mut fields: Vec<String> = Vec::new();
    for field in internal::order(object.ty()).into_iter().filter(|field| wanted(&field.json)) {
        match internal::place(&object.ty().name, &field.json) {
            Place::Elsewhere => {}
            Place::Inlined => {
                let text = object.struct_at(&[&field.json]).map(json).unwrap_or_default();
                let inside = text.get(1..text.len().saturating_sub(1)).unwrap_or_default();
                if !inside.is_empty() {
                    fields.push(inside.to_owned());
                }
            }
            Place::WithHost => {
                fields.push(format!("\"SecurityContext\":{}", security_context(object, field)));
            }
            Place::As(name) => fields.push(format!("{name:?}:{}", value(object, field))),
        }
    }
    fields
}

fn value(object: &Object, field: &Field) -> String {
    match object.get(&field.json) {
        Some(value) => shown(value),
        None if field.pointer => "null".to_owned(),
        None => match &field.ty {
            Type::Bool => "false".to_owned(),
            Type::String => "\"\"".to_owned(),
            Type::Int32 | Type::Int64 | Type::IntOrString => "0".to_owned(),
            Type::Quantity => "\"0\"".to_owned(),
            Type::Struct(_) => object
                .item_type(&field.json)
                .map_or_else(|| "null".to_owned(), |ty| internal(&Object::new(ty))),
            _ => "null".to_owned(),
        },
    }
}

/// The pod's security context also has what the pod says of its host's namespaces.
fn security_context(spec: &Object, field: &Field) -> String {
    let given = spec.struct_at(&[&field.json]);
    let host: Vec<&Field> = internal::host_fields(spec.ty()).collect();
    if given.is_none() && host.iter().all(|field| spec.get(&field.json).is_none()) {
        return "null".to_owned();
    }
    let named = |field: &&Field| format!("{:?}:{}", internal::go_name(&field.json), value(spec, field));
    let mut all: Vec<String> = host.iter().map(named).collect();
    let empty = spec.item_type(&field.json).map(Object::new);
    all.extend(given.or(empty.as_ref()).map(fields).unwrap_or_default());
    format!("{{{}}}", all.join(","))
}

fn shown(value: &Value) -> String {
    match value {
        Value::Bool(flag) => flag.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Str(text) => format!("{text:?}"),
        Value::Time(time) => format!("\"{time}\""),
        Value::Raw(json) => schema::json::compact(json)
            .map_or_else(|| "null".to_owned(), |json| String::from_utf8_lossy(&json).into_owned()),
        Value::Struct(inner) if inner.ty().name.contains("apis.meta.") => json(inner),
        Value::Struct(inner) => internal(inner),
        Value::Map(map) => {
            let entries: Vec<String> =
                map.iter().map(|(key, value)| format!("{key:?}:{}", shown(value))).collect();
            format!("{{{}}}", entries.join(","))
        }
        Value::List(items) => {
            let items: Vec<String> = items.iter().map(shown).collect();
            format!("[{}]", items.join(","))
        }
        _ => "null".to_owned(),
    }
}

/// [`internal`], one value a line and indented by one space each level: what upstream compares line by line.
pub(crate) fn lines(object: &Object) -> Vec<String> {
    indent(&internal(object))
}

/// [`lines`] of some of a struct's fields.
pub(crate) fn lines_of(object: &Object, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    indent(&format!("{{{}}}", fields_of(object, wanted).join(",")))
}

/// One value of a field.
pub(crate) fn value_of(value: &Value) -> String {
    shown(value)
}

/// Compact JSON, broken into lines as Go's `json.MarshalIndent` does.
fn indent(json: &str) -> Vec<String> {
    let (mut lines, mut line, mut depth) = (Vec::new(), String::new(), 0usize);
    let (mut quoted, mut escaped) = (false, false);
    let mut letters = json.chars().peekable();
    while let Some(letter) = letters.next() {
        if quoted {
            line.push(letter);
            quoted = letter != '"' || escaped;
            escaped = letter == '\\' && !escaped;
            continue;
        }
        match letter {
            '"' => {
                quoted = true;
                line.push(letter);
            }
            '{' | '[' => {
                line.push(letter);
                if let Some(close) = letters.next_if(|next| matches!(next, '}' | ']')) {
                    line.push(close);
                } else {
                    depth += 1;
                    lines.push(std::mem::replace(&mut line, " ".repeat(depth)));
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                lines.push(std::mem::replace(&mut line, " ".repeat(depth)));
                line.push(letter);
            }
            ',' => {
                line.push(letter);
                lines.push(std::mem::replace(&mut line, " ".repeat(depth)));
            }
            ':' => line.push_str(": "),
            other => line.push(other),
        }
    }
    lines.push(line);
    lines
}
